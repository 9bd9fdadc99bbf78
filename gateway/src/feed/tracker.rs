//! Watching what `assign()` never tells: new partitions, deleted and re-created topics, watermarks, a lost broker.
//!
//! A thread of its own with a client of its own, since every question to a broker blocks and would wait behind the
//! feed's long polls. It only asks; the feed acts on the [`Change`]s.

use crate::config::{FeedConfig, KafkaConfig};
use crate::feed::native;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

/// Longest wait for one answer of a broker, in milliseconds.
const ANSWER_MS: u64 = 3_000;
/// How soon a broker that did not answer is asked again, in milliseconds.
const RETRY_MS: u64 = 250;

/// Why a partition is assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It was there when the gateway started.
    Start,
    /// It was added since: read from its beginning, as records were written before it was noticed.
    Added,
    /// Its topic was deleted and made again.
    Recreated,
    /// What was to be read next is gone.
    OutOfRange,
}

/// What the feed must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Read this partition from `start` on.
    Assign {
        /// Number of the feed.
        feed: usize,
        /// Kafka partition.
        partition: u32,
        /// Epoch of its topic.
        epoch: u32,
        /// Offset of the first record to read.
        start: u64,
        /// Offset behind the last record there is.
        high: u64,
        /// Why.
        why: Why,
    },
    /// Where a partition ends.
    High(usize, u32, u64),
    /// Whether a broker answers.
    Broker(bool),
    /// Whether a feed's topic exists.
    Topic(usize, bool),
}

/// What the feed asks: a partition whose next offset is out of range.
#[derive(Debug)]
pub struct Look {
    /// Number of the feed.
    pub feed: usize,
    /// Kafka partition.
    pub partition: u32,
    /// Offset of the next record that was to be read.
    pub next: u64,
}

#[derive(Debug, Default)]
struct Topic {
    epoch: Option<u32>,
    partitions: BTreeSet<u32>,
}

/// Watches the topics until the feed is gone.
pub struct Tracker {
    consumer: BaseConsumer,
    kafka: KafkaConfig,
    feeds: Vec<FeedConfig>,
    topics: Vec<Topic>,
    changes: SyncSender<Change>,
    wake: Box<dyn Fn() + Send>,
}

impl Tracker {
    /// A tracker that has not looked yet.
    pub fn new(
        consumer: BaseConsumer,
        kafka: KafkaConfig,
        feeds: Vec<FeedConfig>,
        changes: SyncSender<Change>,
        wake: Box<dyn Fn() + Send>,
    ) -> Self {
        let topics = feeds.iter().map(|_| Topic::default()).collect();
        Self { consumer, kafka, feeds, topics, changes, wake }
    }

    /// Looks again and again, at once when asked to, until the asking side is gone.
    pub fn run(mut self, looks: Receiver<Look>) {
        let mut look = None;
        loop {
            let answered = self.look(look.take());
            let pause_ms = if answered { self.kafka.refresh_ms } else { RETRY_MS };
            match looks.recv_timeout(Duration::from_millis(pause_ms)) {
                Ok(asked) => look = Some(asked),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn tell(&self, change: Change) {
        // The feed drains this between batches; when it is gone, so is the reason to tell.
        let _ = self.changes.send(change);
        (self.wake)();
    }

    /// One look at every topic; `false` when no broker answered.
    fn look(&mut self, look: Option<Look>) -> bool {
        for feed in 0..self.feeds.len() {
            if let Err(error) = self.look_at(feed, look.as_ref().filter(|l| l.feed == feed)) {
                tracing::debug!(%error, topic = %self.feeds[feed].topic, "no answer");
                self.tell(Change::Broker(false));
                return false;
            }
        }
        self.tell(Change::Broker(true));
        true
    }

    fn look_at(&mut self, feed: usize, look: Option<&Look>) -> KafkaResult<()> {
        let name = self.feeds[feed].topic.clone();
        let timeout = Duration::from_millis(ANSWER_MS);
        let metadata = self.consumer.fetch_metadata(Some(&name), timeout)?;
        let found = metadata.topics().iter().find(|t| t.name() == name && t.error().is_none());
        let partitions: Vec<u32> =
            found.iter().flat_map(|t| t.partitions()).filter_map(|p| u32::try_from(p.id()).ok()).collect();
        self.tell(Change::Topic(feed, !partitions.is_empty()));
        if partitions.is_empty() {
            return Ok(());
        }
        let epoch = match native::topic_id(&self.consumer, &name, ANSWER_MS as i32) {
            Some(id) => fold(id),
            // Asked before and answered then: no answer now is no news.
            None if self.topics[feed].epoch.is_some() => self.topics[feed].epoch.unwrap_or_default(),
            // A broker without topic ids (before Kafka 2.8): a re-created topic cannot be told by its id.
            None => fold(u128::from(hash(&name))),
        };
        let known = self.topics[feed].epoch.replace(epoch);
        let is_recreated = known.is_some_and(|known| known != epoch);
        if is_recreated {
            self.topics[feed].partitions.clear();
        }
        for partition in partitions {
            let (low, high) = self.watermarks(&name, partition)?;
            let is_new = !self.topics[feed].partitions.contains(&partition);
            let asked = look.filter(|l| l.partition == partition);
            let assign = |start, why| Change::Assign { feed, partition, epoch, start, high, why };
            let change = if is_recreated {
                assign(low, Why::Recreated)
            } else if is_new && known.is_some() {
                assign(low, Why::Added)
            } else if is_new {
                assign(self.start(&name, partition, low, high)?, Why::Start)
            } else if let Some(look) = asked {
                // Retention took what was next, or the log ends before it.
                assign(if look.next < low { low } else { look.next.min(high) }, Why::OutOfRange)
            } else {
                Change::High(feed, partition, high)
            };
            self.topics[feed].partitions.insert(partition);
            self.tell(change);
        }
        Ok(())
    }

    fn watermarks(&self, topic: &str, partition: u32) -> KafkaResult<(u64, u64)> {
        let timeout = Duration::from_millis(ANSWER_MS);
        let (low, high) = self.consumer.fetch_watermarks(topic, partition as i32, timeout)?;
        Ok((u64::try_from(low).unwrap_or(0), u64::try_from(high).unwrap_or(0)))
    }

    /// Where to start reading: at the end, or as far back as the warm-up says. An offset, never "the end", so that what
    /// is written before the first fetch is not lost.
    fn start(&self, topic: &str, partition: u32, low: u64, high: u64) -> KafkaResult<u64> {
        let mut start = high.saturating_sub(self.kafka.warm_up_records);
        if self.kafka.warm_up_s > 0 {
            let since_ms = crate::clock::wall_ns() / 1_000_000 - 1000 * self.kafka.warm_up_s as i64;
            let mut times = TopicPartitionList::new();
            times.add_partition_offset(topic, partition as i32, Offset::Offset(since_ms))?;
            let found = self.consumer.offsets_for_times(times, Duration::from_millis(ANSWER_MS))?;
            if let Some(Offset::Offset(offset)) = found.elements().first().map(|e| e.offset()) {
                start = start.min(u64::try_from(offset).unwrap_or(high));
            }
        }
        Ok(start.max(low))
    }
}

/// A topic id as the epoch of positions: short, as it is part of every event's `seq`.
fn fold(id: u128) -> u32 {
    // FNV-1a over the bytes: the same on every gateway, for ever.
    let hash = id.to_be_bytes().iter().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(*b)).wrapping_mul(0x0100_0193));
    hash.max(1)
}

fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
