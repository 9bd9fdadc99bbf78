//! Copies of records that could not be read, for whoever has to find out why.
//!
//! The feed never waits for it: what there is no room for, and what the broker does not take, is counted as lost.

use super::native::Record;
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaResult;
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, NoCustomPartitioner, Producer, ProducerContext, ThreadedProducer};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How long what is still on its way may take when the gateway stops.
const FLUSH: Duration = Duration::from_secs(1);

/// What became of the copies.
#[derive(Debug, Default)]
struct Outcome {
    written: AtomicU64,
    lost: AtomicU64,
    /// Whether the topic took the last one: a change is logged, not each failure.
    fails: AtomicBool,
}

struct Context(Arc<Outcome>);

impl ClientContext for Context {}

impl ProducerContext<NoCustomPartitioner> for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.0.written.fetch_add(1, Ordering::Relaxed);
                self.0.fails.store(false, Ordering::Relaxed);
            }
            Err((error, _)) => {
                self.0.lost.fetch_add(1, Ordering::Relaxed);
                if !self.0.fails.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "the dead-letter topic does not take unreadable records");
                }
            }
        }
    }
}

/// Sends unreadable records to a topic, with the reason and where they stood as headers.
pub struct DeadLetters {
    producer: ThreadedProducer<Context>,
    topic: String,
    outcome: Arc<Outcome>,
}

impl DeadLetters {
    /// Dead letters to `topic`.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn new(mut config: ClientConfig, topic: &str) -> KafkaResult<Self> {
        config
            // Bounded: when the broker does not take them, they are dropped and counted, never piled up.
            .set("queue.buffering.max.messages", "1000")
            .set("queue.buffering.max.kbytes", "8192")
            .set("message.timeout.ms", "30000")
            // An oversize record is one of the reasons for a copy; whether it is taken is for the topic to say.
            .set("message.max.bytes", "67108864");
        let outcome = Arc::new(Outcome::default());
        let producer = config.create_with_context(Context(outcome.clone()))?;
        Ok(Self { producer, topic: topic.to_owned(), outcome })
    }

    /// Sends a copy of a record, if there is room.
    pub fn send(&self, reason: &str, record: &Record<'_>) {
        let (partition, offset) = (record.partition.to_string(), record.offset.to_string());
        let fields =
            [("reason", reason), ("topic", record.topic), ("partition", &partition), ("offset", &offset)];
        let headers = fields.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key: &format!("tickgate.{key}"), value: Some(*value) })
        });
        let mut copy = BaseRecord::<[u8], [u8]>::to(&self.topic).payload(record.value).headers(headers);
        copy.key = record.key;
        if self.producer.send(copy).is_err() {
            self.outcome.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many copies the broker has, and how many were lost.
    pub fn totals(&self) -> (u64, u64) {
        (self.outcome.written.load(Ordering::Relaxed), self.outcome.lost.load(Ordering::Relaxed))
    }

    /// Waits a moment for copies that are on their way.
    pub fn flush(&self) {
        // What is left after that is lost with the process.
        let _ = self.producer.flush(FLUSH);
    }
}
