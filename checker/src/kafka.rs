//! Reads the truth out of a topic, from its oldest record to its end.

use crate::log::{Log, NotInOrder};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use std::time::{Duration, Instant};
use tickgate_protocol::Position;

/// Longest wait for one answer of a broker.
const ANSWER: Duration = Duration::from_secs(10);

/// Why a topic could not be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ReadError {
    #[error("reading {topic}")]
    Kafka { topic: String, source: KafkaError },
    #[error("{topic} does not exist")]
    NoTopic { topic: String },
    #[error("{topic} was not read to its end within {waited:?}: {left} partitions are left")]
    Timeout { topic: String, waited: Duration, left: usize },
    #[error(transparent)]
    NotInOrder(#[from] NotInOrder),
}

/// Adds every record that `topic` holds now to `log`, as those of a topic of this `epoch`
/// ([`crate::log::epoch_of`]); gives up after `patience`.
///
/// What was read before is passed over, so a topic can be read again when there is more of it.
///
/// # Errors
/// [`ReadError`] when the broker does not give all of it.
pub fn read(
    log: &mut Log,
    brokers: &str,
    topic: &str,
    epoch: u32,
    patience: Duration,
) -> Result<(), ReadError> {
    let failed = |source| ReadError::Kafka { topic: topic.to_owned(), source };
    let started = Instant::now();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "tickgate-checker")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "false")
        // What was taken away meanwhile is read from where the log begins now.
        .set("auto.offset.reset", "earliest")
        .set("receive.message.max.bytes", "200000000")
        .create()
        .map_err(failed)?;
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER).map_err(failed)?;
    let count = metadata.topics().first().map_or(0, |found| found.partitions().len());
    if count == 0 {
        return Err(ReadError::NoTopic { topic: topic.to_owned() });
    }
    let known = log.ends();
    let mut assigned = TopicPartitionList::new();
    // What each partition has to be read up to; partitions that are done are taken out.
    let mut left: Vec<(u32, i64)> = Vec::new();
    for partition in 0..count as u32 {
        let (low, high) = consumer.fetch_watermarks(topic, partition as i32, ANSWER).map_err(failed)?;
        let before = known.iter().find(|end| (end.epoch, end.partition) == (epoch, partition));
        let next = before.map_or(0, |end| end.offset as i64 + 1).max(low);
        if next < high {
            left.push((partition, high));
            assigned.add_partition_offset(topic, partition as i32, Offset::Offset(next)).map_err(failed)?;
        }
    }
    consumer.assign(&assigned).map_err(failed)?;
    while !left.is_empty() {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => {
                let (partition, offset) = (record.partition() as u32, record.offset());
                let Some(place) = left.iter().position(|(p, high)| *p == partition && offset < *high) else {
                    continue;
                };
                let at = Position { epoch, partition, offset: offset as u64 };
                let append_ns = record.timestamp().to_millis().unwrap_or(0) * 1_000_000;
                log.push(at, append_ns, record.payload().unwrap_or_default())?;
                if offset + 1 == left[place].1 {
                    left.swap_remove(place);
                }
            }
            // Brokers come and go while faults are tried; whether all was read is asked below.
            Some(Err(KafkaError::MessageConsumption(code))) if code != RDKafkaErrorCode::Fatal => {}
            Some(Err(error)) => return Err(failed(error)),
            None => {}
        }
        if started.elapsed() > patience {
            // The last offsets of a partition may be no records: marks of transactions.
            let (topic, left) = (topic.to_owned(), left.len());
            return Err(ReadError::Timeout { topic, waited: patience, left });
        }
    }
    Ok(())
}
