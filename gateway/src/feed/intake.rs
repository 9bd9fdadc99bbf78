//! What becomes of a record that was taken from Kafka.

use super::dead_letter::DeadLetters;
use super::dispatch::Outlet;
use super::engine::{Arrival, Engine};
use super::native::Record;
use super::partitions::Partitions;
use super::tracker::Look;
use crate::clock;
use crate::latency::{Recorder, Stage};
use rdkafka::types::RDKafkaRespErr;
use std::sync::mpsc::SyncSender;
use tickgate_protocol::Position;
use tickgate_protocol::record::RecordDecoder;

/// Bytes of events after which a batch goes out before all records taken are read: records can be large.
const BATCH_BYTES: u64 = 4 << 20;
/// Unreadable records that are logged within ten seconds; further ones are only counted.
const BAD_LOGS_PER_10_S: u32 = 10;

/// When records were taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    /// Nanoseconds since the Unix epoch.
    pub ingest_ns: i64,
    /// Monotonic milliseconds.
    pub now_ms: u64,
}

/// What records go through, on their way to the shards.
pub(super) struct Intake {
    pub engine: Engine,
    pub decoder: RecordDecoder,
    pub partitions: Partitions,
    pub recorder: Recorder,
    pub dead_letters: Option<DeadLetters>,
    /// What the tracker is asked.
    pub looks: SyncSender<Look>,
    pub outlets: Vec<Outlet>,
    /// Whether it is the first to read: who reads late has nothing to say of the way here, and of what is unreadable.
    pub is_live: bool,
    /// Unreadable records since then, monotonic milliseconds.
    pub bad_logs: u32,
    pub bad_logs_since_ms: u64,
    /// Bytes that were encoded when a batch went out last.
    pub sent_bytes: u64,
}

impl Intake {
    /// Takes a record, or an error in its place.
    pub(super) fn take(&mut self, record: &Record<'_>, Taken { ingest_ns, now_ms }: Taken) {
        let Self { engine, decoder, partitions, recorder, dead_letters, looks, bad_logs, .. } = self;
        let Some((feed, partition)) = partitions.find(record.topic, record.partition) else {
            engine.totals.stray_records += u64::from(record.error.is_none());
            return;
        };
        if let Some(error) = record.error {
            match error {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET
                | RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE => {
                    // librdkafka leaves the partition alone from here on.
                    partition.is_out_of_range = true;
                    let look = Look { feed, partition: record.partition as u32, next: partition.next };
                    // Repeated by the housekeeping until it is answered.
                    let _ = looks.try_send(look);
                }
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
                    partition.ends_at(u64::try_from(record.offset).unwrap_or(0));
                }
                _ => {
                    tracing::debug!(?error, topic = record.topic, partition = record.partition, "partition");
                }
            }
            return;
        }
        let offset = u64::try_from(record.offset).unwrap_or(0);
        let position = Position { epoch: partition.epoch, partition: record.partition as u32, offset };
        partition.next = offset + 1;
        // Records without a timestamp (Kafka before 0.10) were appended when they were read, as far as we know.
        let mut append_ns = ingest_ns;
        if record.timestamp_ms > 0 {
            partition.record_ms = record.timestamp_ms;
            append_ns = record.timestamp_ms.saturating_mul(1_000_000);
            if self.is_live {
                recorder.record(Stage::AppendToIngest, ingest_ns.saturating_sub(append_ns));
            }
        }
        let arrival = Arrival { position, append_ns, ingest_ns, now_ms };
        let ticks: u64 = engine.totals.ticks.iter().sum();
        let mut reason = None;
        engine.record(decoder, &arrival, record.value, |error| {
            *bad_logs += 1;
            if *bad_logs <= BAD_LOGS_PER_10_S && self.is_live {
                tracing::warn!(
                    %error, topic = record.topic, partition = record.partition, offset = record.offset,
                    "unreadable record"
                );
            }
            reason.get_or_insert(error.label());
        });
        if let (Some(letters), Some(reason)) = (dead_letters, reason) {
            letters.send(reason, record);
        }
        let read = engine.totals.ticks.iter().sum::<u64>() - ticks;
        let event_ns = engine.newest_event_ns().filter(|_| read > 0);
        partitions.heard(feed, now_ms, event_ns, read);
        if engine.totals.encoded_bytes > self.sent_bytes + BATCH_BYTES {
            self.send();
        }
    }

    /// Hands every shard what is there for it.
    pub(super) fn send(&mut self) {
        let Self { engine, outlets, .. } = self;
        self.sent_bytes = engine.totals.encoded_bytes;
        let decoded_ns = clock::wall_ns();
        outlets.iter_mut().for_each(|outlet| outlet.send(engine, decoded_ns));
    }

    /// Says how many unreadable records were not logged.
    pub(super) fn tell_bad(&mut self, now_ms: u64) {
        if now_ms >= self.bad_logs_since_ms + 10_000 {
            if self.bad_logs > BAD_LOGS_PER_10_S && self.is_live {
                let unlogged = self.bad_logs - BAD_LOGS_PER_10_S;
                tracing::warn!(unlogged, "more unreadable records in the last ten seconds");
            }
            self.bad_logs = 0;
            self.bad_logs_since_ms = now_ms;
        }
    }
}
