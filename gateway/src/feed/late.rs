//! Reading Kafka late: each partition waits for itself, at the first of its records that is not due yet.
//!
//! Every partition has a queue of its own, which librdkafka fills up to its bounds and then leaves alone: what is not due
//! stays in Kafka, and one partition that waits holds up no other.

use super::Context;
use super::intake::{Intake, Taken};
use super::native::{Record, RecordQueue};
use super::seen::Seen;
use crate::clock;
use crate::config::Config;
use crate::config::delays::Tier;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use std::collections::BTreeMap;
use std::sync::Arc;

/// KiB that librdkafka has ready of each partition, before it stops asking for more.
const QUEUE_KBYTES: u64 = 128;
/// Bytes of a partition in one answer of a broker, which may come on top; a record that is larger comes alone.
const FETCH_BYTES: u64 = 128 << 10;
/// The most that waits of one partition in librdkafka's hands, in bytes, but for a record that is larger than that.
pub const PARTITION_BYTES: u64 = (QUEUE_KBYTES << 10) + FETCH_BYTES;
/// Longest wait before it looks again what is due, in milliseconds.
const WAIT_MS: u64 = 20;
/// Records of one partition that are taken before the others have their turn.
const RECORDS_PER_TURN: usize = 200;

/// What is read late.
pub(super) struct Late {
    tier: Tier,
    seen: Arc<Seen>,
    consumer: Arc<BaseConsumer<Context>>,
    record_bytes_max: usize,
    partitions_max: usize,
    /// By the number of the feed, and the partition.
    lines: BTreeMap<(usize, u32), Line>,
    /// Whether it was logged that one more is not read.
    is_full_told: bool,
}

/// One partition.
struct Line {
    topic: String,
    queue: RecordQueue<Context>,
    /// The next record, which was taken and is not due yet.
    held: Option<Held>,
}

struct Held {
    offset: i64,
    timestamp_ms: i64,
    value: Box<[u8]>,
}

impl Late {
    pub(super) fn new(
        config: &Config,
        tier: Tier,
        seen: Arc<Seen>,
        consumer: Arc<BaseConsumer<Context>>,
    ) -> Self {
        Self {
            tier,
            seen,
            consumer,
            record_bytes_max: config.kafka.record_bytes_max,
            partitions_max: config.delays.partitions_max,
            lines: BTreeMap::new(),
            is_full_told: false,
        }
    }

    /// The queue of a partition that is to be read from now on; `None` when there are as many as there may be, of which the first
    /// is logged.
    pub(super) fn line(
        &mut self,
        feed: usize,
        topic: &str,
        (epoch, partition): (u32, u32),
    ) -> Option<&RecordQueue<Context>> {
        let key = (feed, partition);
        let has_line = self.lines.contains_key(&key);
        // Of what the live feed does not watch nothing would ever be due.
        let is_full = !has_line && self.lines.len() >= self.partitions_max;
        if is_full || !self.seen.take_place(epoch, partition) {
            if !std::mem::replace(&mut self.is_full_told, true) {
                let (most, delay_s) = (self.partitions_max, self.tier.delay_s);
                tracing::error!(
                    topic,
                    partition,
                    delay_s,
                    most,
                    "not read late, nor is any further one: delays.partitions_max is reached"
                );
            }
            return None;
        }
        if !has_line {
            // One record at a time: what comes behind one that is not due stays where it is.
            let queue = RecordQueue::new(self.consumer.clone(), 1)?;
            self.lines.insert(key, Line { topic: topic.to_owned(), queue, held: None });
        }
        let line = self.lines.get_mut(&key)?;
        // It comes again, or is of a topic that is gone.
        line.held = None;
        Some(&line.queue)
    }

    /// A topic was made anew: what waited of it is gone.
    pub(super) fn forget(&mut self, feed: usize) {
        self.lines.retain(|(of, _), _| *of != feed);
    }

    /// Takes what is due. Says how long to wait before the next look, if nothing was, in milliseconds.
    pub(super) fn read(&mut self, intake: &mut Intake) -> u64 {
        let Self { tier, seen, record_bytes_max, lines, .. } = self;
        let taken = Taken { ingest_ns: clock::wall_ns(), now_ms: clock::mono_ms() };
        let mut is_any = false;
        for ((_, id), line) in lines {
            let Line { topic, queue, held } = line;
            let number = i32::try_from(*id).unwrap_or(i32::MAX);
            let Some((_, partition)) = intake.partitions.find(topic, number) else { continue };
            let Some(horizon) = seen.horizon(partition.epoch, *id, tier.delay_ms(), taken.now_ms) else {
                continue;
            };
            let is_due = |offset: i64, timestamp_ms| {
                u64::try_from(offset).is_ok_and(|offset| horizon.is_due(offset, timestamp_ms))
            };
            if let Some(Held { offset, timestamp_ms, value }) =
                held.take_if(|h| is_due(h.offset, h.timestamp_ms))
            {
                is_any = true;
                let (partition, value, error) = (number, &*value, None);
                // The feed asks for neither its key nor whether it has no value or an empty one.
                let (key, is_tombstone) = (None, false);
                let record =
                    Record { partition, offset, timestamp_ms, key, value, is_tombstone, topic, error };
                intake.take(&record, taken);
            }
            for _ in 0..RECORDS_PER_TURN {
                if held.is_some() {
                    break;
                }
                let records = queue.take(0);
                let Some(record) = records.iter().next() else { break };
                if record.error.is_some() || is_due(record.offset, record.timestamp_ms) {
                    is_any = true;
                    intake.take(&record, taken);
                } else {
                    let Record { offset, timestamp_ms, value, .. } = record;
                    // One that is too large is not read; that it is shows one byte too many.
                    let value = value[..value.len().min(*record_bytes_max + 1)].into();
                    *held = Some(Held { offset, timestamp_ms, value });
                }
            }
            if let Some((_, partition)) = intake.partitions.find(topic, number) {
                partition.waits(held.is_some());
            }
        }
        if is_any { 0 } else { WAIT_MS }
    }
}

/// librdkafka's settings for reading late. What bounds its memory stands, whatever `kafka.properties` say: those are meant
/// for the live feed.
pub(super) fn config(mut client: ClientConfig) -> ClientConfig {
    for (name, value) in [
        ("client.id", "tickgate-delayed".to_owned()),
        ("queued.min.messages", "100000".to_owned()),
        ("queued.max.messages.kbytes", QUEUE_KBYTES.to_string()),
        // A full queue is the rule here: each look at it costs.
        ("fetch.queue.backoff.ms", WAIT_MS.to_string()),
        ("fetch.max.bytes", (4 << 20).to_string()),
        ("max.partition.fetch.bytes", FETCH_BYTES.to_string()),
    ] {
        client.set(name, value);
    }
    // Another name for the last of them.
    client.remove("fetch.message.max.bytes");
    client
}
