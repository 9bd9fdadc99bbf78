//! What the feed knows of its topics: where each partition stands, and whether the feed lives.

use super::Context;
use super::native::RecordQueue;
use super::peaks::{Peaks, WINDOWS_MS};
use super::tracker::{Change, Look, Why};
use crate::clock;
use crate::config::FeedConfig;
use crate::stats::{FeedTotals, PartitionTotals};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};
use tickgate_protocol::Position;
use tickgate_protocol::control::{FeedState, FeedStatus};

/// How long partitions that were added to a topic may take to be read, in milliseconds, before their feed counts as behind.
const ADDED_MS: u64 = 5_000;

/// One partition that is read.
#[derive(Debug, Clone)]
pub(super) struct Partition {
    /// Epoch of its topic.
    pub epoch: u32,
    /// Offset of the next record.
    pub next: u64,
    /// Kafka's timestamp of the last one, in milliseconds since the Unix epoch; 0 before the first.
    pub record_ms: i64,
    /// Offset behind the last record there is, as last heard.
    high: u64,
    /// Where it has to come to, to have caught up.
    target: u64,
    is_caught_up: bool,
    is_assigned: bool,
    /// The broker refused `next`, and the tracker has not said yet where to go on.
    pub is_out_of_range: bool,
    /// Whether its next record is not due yet: it has caught up, wherever the log ends.
    is_waiting: bool,
}

#[derive(Debug)]
struct Topic {
    name: String,
    topic: String,
    silence_ms: u64,
    /// Why it cannot be read, as last heard.
    missing: Option<RDKafkaRespErr>,
    /// How many partitions it has, as last heard.
    count: usize,
    partitions: Vec<Option<Partition>>,
    /// How many partitions it had before some were added that are not all read yet, and until when that is no lateness,
    /// monotonic milliseconds.
    added: Option<(usize, u64)>,
    heard_ms: u64,
    event_ns: Option<i64>,
    peaks: Peaks,
}

/// Every partition of every feed.
#[derive(Debug)]
pub(super) struct Partitions {
    topics: Vec<Topic>,
    is_broker_up: bool,
    was_ever_up: bool,
}

impl Partitions {
    pub(super) fn new(feeds: &[FeedConfig], now_ms: u64) -> Self {
        let topics = feeds.iter().map(|feed| Topic {
            name: feed.name.clone(),
            topic: feed.topic.clone(),
            silence_ms: feed.silence_ms,
            missing: None,
            count: 0,
            partitions: Vec::new(),
            added: None,
            heard_ms: now_ms,
            event_ns: None,
            peaks: Peaks::default(),
        });
        Self { topics: topics.collect(), is_broker_up: false, was_ever_up: false }
    }

    /// The feed and the partition that a record belongs to.
    pub(super) fn find(&mut self, topic: &str, partition: i32) -> Option<(usize, &mut Partition)> {
        let feed = self.topics.iter().position(|t| t.topic == topic)?;
        let partition = usize::try_from(partition).ok()?;
        Some((feed, self.topics[feed].partitions.get_mut(partition)?.as_mut()?))
    }

    /// A record of a feed was read, with so many ticks.
    pub(super) fn heard(&mut self, feed: usize, now_ms: u64, event_ns: Option<i64>, ticks: u64) {
        let topic = &mut self.topics[feed];
        topic.heard_ms = now_ms;
        topic.peaks.add(now_ms, ticks);
        topic.event_ns = event_ns.or(topic.event_ns);
    }

    /// Takes note of a change and acts on it. Returns the last position that was lost, if records were.
    pub(super) fn change(
        &mut self,
        change: &Change,
        consumer: &BaseConsumer<Context>,
        queue: &RecordQueue<Context>,
        totals: &mut FeedTotals,
    ) -> Option<Position> {
        match *change {
            Change::Broker(is_up) => {
                let was_up = std::mem::replace(&mut self.is_broker_up, is_up);
                // The first time is no return.
                totals.reconnects += u64::from(is_up && !was_up && self.was_ever_up);
                self.was_ever_up |= is_up;
                None
            }
            Change::Found(feed, count) => {
                let topic = &mut self.topics[feed];
                if topic.count != count || topic.missing.is_some() {
                    tracing::info!(topic = %topic.topic, partitions = count, "topic found");
                }
                topic.grows(count, clock::mono_ms());
                topic.missing = None;
                None
            }
            Change::Missing(feed, error) => {
                let topic = &mut self.topics[feed];
                if topic.missing != Some(error) {
                    let reason = RDKafkaErrorCode::from(error);
                    tracing::warn!(topic = %topic.topic, %reason, "topic cannot be read: waiting for it");
                }
                topic.missing = Some(error);
                // Nothing is read from it until it was looked at again: it may come back as another topic of that name.
                topic.unassign(consumer);
                None
            }
            Change::Recreated(feed) => {
                let topic = &mut self.topics[feed];
                topic.unassign(consumer);
                topic.partitions.clear();
                topic.added = None;
                totals.topics_recreated += 1;
                None
            }
            Change::High(feed, partition, high) => {
                if let Some(Some(partition)) = self.topics[feed].partitions.get_mut(partition as usize) {
                    partition.high = partition.high.max(high);
                }
                None
            }
            Change::Assign { feed, partition, epoch, start, high, why } => {
                let topic = &mut self.topics[feed];
                let at = partition as usize;
                if topic.partitions.len() <= at {
                    topic.partitions.resize(at + 1, None);
                }
                let before = topic.partitions[at].take();
                let start = match (&before, why) {
                    (Some(before), Why::Returned) => before.next,
                    (Some(before), Why::OutOfRange) if !before.is_out_of_range => {
                        // Asked twice, answered before.
                        topic.partitions[at] = Some(before.clone());
                        return None;
                    }
                    _ => start,
                };
                let was_assigned = before.as_ref().is_some_and(|before| before.is_assigned);
                let is_assigned = assign(consumer, queue, &topic.topic, partition, start, was_assigned);
                tracing::info!(topic = %topic.topic, partition, start, high, ?why, is_assigned, "assigned");
                totals.partitions_added += u64::from(why == Why::Added);
                let is_caught_up = before.as_ref().is_some_and(|p| p.is_caught_up);
                topic.partitions[at] = Some(Partition {
                    epoch,
                    next: start,
                    record_ms: before.as_ref().map_or(0, |before| before.record_ms),
                    high,
                    target: high,
                    is_caught_up,
                    is_assigned,
                    is_out_of_range: false,
                    is_waiting: false,
                });
                let before = before.filter(|_| why == Why::OutOfRange)?;
                if start <= before.next {
                    return None;
                }
                totals.lost_offsets += start - before.next;
                Some(Position { epoch, partition, offset: start - 1 })
            }
        }
    }

    /// The partitions whose next offset is out of range.
    pub(super) fn looks(&self) -> impl Iterator<Item = Look> {
        self.topics.iter().enumerate().flat_map(|(feed, topic)| {
            let partitions = topic.partitions.iter().enumerate();
            partitions.filter_map(move |(id, partition)| {
                let partition = partition.as_ref().filter(|p| p.is_out_of_range)?;
                Some(Look { feed, partition: id as u32, next: partition.next })
            })
        })
    }

    /// The epoch of a feed's topic, if it is read.
    pub(super) fn epoch(&self, feed: usize) -> Option<u32> {
        self.topics[feed].partitions.iter().flatten().map(|partition| partition.epoch).next()
    }

    /// The next record to read of a partition.
    pub(super) fn next(&self, feed: usize, id: u32) -> Option<Position> {
        let partition = self.topics[feed].partitions.get(id as usize)?.as_ref()?;
        Some(Position { epoch: partition.epoch, partition: id, offset: partition.next })
    }

    /// The next record to read of every partition.
    pub(super) fn positions(&self) -> Vec<Position> {
        let mut all: Vec<Position> = self
            .topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().enumerate())
            .filter_map(|(id, partition)| {
                let partition = partition.as_ref()?;
                Some(Position { epoch: partition.epoch, partition: id as u32, offset: partition.next })
            })
            .collect();
        all.sort_unstable();
        all
    }

    /// The state of every feed. Also decides which partitions have caught up.
    pub(super) fn feeds(&mut self, now_ms: u64) -> Vec<FeedStatus> {
        let is_broker_up = self.is_broker_up;
        let status = |topic: &mut Topic| {
            let mut lag_records = 0;
            for partition in topic.partitions.iter_mut().flatten() {
                partition.high = partition.high.max(partition.next);
                let is_there = partition.next >= partition.target || partition.is_waiting;
                partition.is_caught_up |= partition.is_assigned && is_there;
                if !partition.is_waiting {
                    lag_records += partition.high - partition.next;
                }
            }
            if topic.added.is_some_and(|(_, until_ms)| topic.is_read() || now_ms >= until_ms) {
                topic.added = None;
            }
            let state = if !is_broker_up {
                FeedState::Down
            } else if topic.missing.is_some()
                || topic.behind().is_some()
                || now_ms.saturating_sub(topic.heard_ms) > topic.silence_ms
            {
                FeedState::Stale
            } else {
                FeedState::Live
            };
            FeedStatus { name: topic.name.clone(), state, event_ns: topic.event_ns, lag_records }
        };
        self.topics.iter_mut().map(status).collect()
    }

    /// Whether every partition of every topic is read, or was.
    pub(super) fn are_all_met(&self) -> bool {
        self.topics.iter().all(Topic::is_met)
    }

    /// Whether every topic was looked for: those that are not read are not there.
    pub(super) fn are_all_looked_for(&self) -> bool {
        self.topics.iter().all(|topic| topic.missing.is_some() || topic.is_met())
    }

    /// The highest rates of the last seconds, by feed and window, in ticks per second.
    pub(super) fn peaks(&mut self, now_ms: u64) -> Vec<[u64; WINDOWS_MS.len()]> {
        self.topics.iter_mut().map(|topic| topic.peaks.per_second(now_ms)).collect()
    }

    pub(super) fn totals(&self) -> Vec<PartitionTotals> {
        let of_topic = |topic: &Topic| {
            let partitions = topic.partitions.iter().enumerate();
            let totals = partitions.filter_map(|(id, partition)| {
                let partition = partition.as_ref()?;
                Some(PartitionTotals {
                    feed: topic.name.clone(),
                    partition: id as u32,
                    next_offset: partition.next,
                    high_watermark: partition.high,
                    caught_up: partition.is_caught_up,
                    record_ms: partition.record_ms,
                })
            });
            totals.collect::<Vec<_>>()
        };
        self.topics.iter().flat_map(of_topic).collect()
    }

    /// Why the gateway is not ready, if it is not.
    pub(super) fn not_ready(&self, feeds: &[FeedConfig]) -> Option<String> {
        for (topic, feed) in self.topics.iter().zip(feeds).filter(|(_, feed)| !feed.optional) {
            let (name, missing) = (&feed.name, RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
            if !self.is_broker_up {
                return Some(format!("feed {name}: no broker answers"));
            }
            match topic.missing {
                Some(error) if error == missing => {
                    return Some(format!("feed {name}: topic {} does not exist", feed.topic));
                }
                Some(error) => {
                    let error = KafkaError::MetadataFetch(error.into());
                    return Some(format!("feed {name}: topic {}: {error}", feed.topic));
                }
                None if topic.count == 0 => {
                    return Some(format!("feed {name}: topic {} was not found yet", feed.topic));
                }
                None => {}
            }
            if let Some(partition) = topic.behind() {
                let is_assigned = topic.partitions.get(partition).is_some_and(Option::is_some);
                let what = if is_assigned { "has not caught up" } else { "is not assigned yet" };
                return Some(format!("feed {name}: partition {partition} {what}"));
            }
        }
        None
    }
}

impl Partition {
    /// Takes note whether its next record is one that is not due yet.
    pub fn waits(&mut self, is_waiting: bool) {
        self.is_waiting = is_waiting;
    }

    /// The log ends at `offset`. What stands before it may be no record: a transaction's end, or what compaction left out;
    /// and it may end before where it ended at the start, as a new leader may lack the rest.
    pub fn ends_at(&mut self, offset: u64) {
        self.next = self.next.max(offset);
        self.target = self.target.min(offset);
    }
}

impl Topic {
    /// A partition of which older records than the newest at the start are still to be read.
    fn behind(&self) -> Option<usize> {
        let count = self.added.map_or(self.count, |(before, _)| before);
        self.unread(count)
    }

    /// The first of its partitions that is not read, or not as far as it was when that began.
    fn unread(&self, count: usize) -> Option<usize> {
        let is_read = |p: &Option<Partition>| p.as_ref().is_some_and(|p| p.is_assigned && p.is_caught_up);
        (0..count.max(1)).find(|at| !self.partitions.get(*at).is_some_and(is_read))
    }

    fn is_read(&self) -> bool {
        self.unread(self.count).is_none()
    }

    /// It has so many partitions. Those that are added to a topic that is read are new: nothing of what it was is late.
    fn grows(&mut self, count: usize, now_ms: u64) {
        if self.count > 0 && count > self.count && self.is_read() {
            self.added = Some((self.count, now_ms + ADDED_MS));
        }
        self.count = count;
    }

    fn is_met(&self) -> bool {
        self.count > 0 && (0..self.count).all(|at| self.partitions.get(at).is_some_and(Option::is_some))
    }

    /// Reads nothing more of it for now.
    fn unassign(&mut self, consumer: &BaseConsumer<Context>) {
        let mut list = TopicPartitionList::new();
        for (id, partition) in self.partitions.iter_mut().enumerate() {
            if let Some(partition) = partition
                && std::mem::take(&mut partition.is_assigned)
            {
                list.add_partition(&self.topic, id as i32);
            }
        }
        if list.count() > 0
            && let Err(error) = consumer.incremental_unassign(&list)
        {
            tracing::warn!(%error, topic = %self.topic, "unassign");
        }
    }
}

/// Makes the client read a partition from `start` on.
fn assign(
    consumer: &BaseConsumer<Context>,
    queue: &RecordQueue<Context>,
    topic: &str,
    partition: u32,
    start: u64,
    is_assigned: bool,
) -> bool {
    let mut list = TopicPartitionList::new();
    let offset = Offset::Offset(i64::try_from(start).unwrap_or(i64::MAX));
    if list.add_partition_offset(topic, partition as i32, offset).is_err() {
        return false;
    }
    if is_assigned && let Err(error) = consumer.incremental_unassign(&list) {
        tracing::warn!(%error, topic, partition, "unassign");
    }
    // Before, so that no record goes to the consumer's own queue. And after: to stop an earlier assignment is left to
    // librdkafka's thread, which takes the forwarding away again when it comes to it, and that may be only now. By the
    // time that the new assignment is taken, it has.
    queue.forward(topic, partition as i32);
    match consumer.incremental_assign(&list) {
        Ok(()) => queue.forward(topic, partition as i32),
        Err(error) => {
            tracing::error!(%error, topic, partition, "assign");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gateway that had just started called its feed live while it still read back: the states that its clients were sent
    /// were minutes old, and nothing said so.
    #[test]
    fn a_feed_is_stale_until_what_was_there_at_the_start_is_read() {
        let config = FeedConfig {
            name: "ticks".into(),
            topic: "ticks".into(),
            silence_ms: 10_000,
            optional: false,
            symbols: Vec::new(),
            hours: Vec::new(),
            closed_on: Vec::new(),
        };
        let mut partitions = Partitions::new(&[config], 0);
        partitions.is_broker_up = true;
        let state = |partitions: &mut Partitions| partitions.feeds(1)[0].state;
        assert_eq!(state(&mut partitions), FeedState::Stale, "its topic was not found yet");
        let partition = |next| {
            Some(Partition {
                epoch: 1,
                next,
                record_ms: 0,
                high: 100,
                target: 100,
                is_caught_up: false,
                is_assigned: true,
                is_out_of_range: false,
                is_waiting: false,
            })
        };
        partitions.topics[0].count = 2;
        partitions.topics[0].partitions = vec![partition(100), partition(99)];
        assert_eq!(state(&mut partitions), FeedState::Stale);
        let mut behind = partitions.topics[0].partitions[1].clone().expect("just made");
        behind.next = 100;
        partitions.topics[0].partitions[1] = Some(behind);
        assert_eq!(state(&mut partitions), FeedState::Live);
        // What comes later is lag, which is told as such.
        if let Some(partition) = &mut partitions.topics[0].partitions[1] {
            partition.high = 200;
        }
        assert_eq!(state(&mut partitions), FeedState::Live);
        assert_eq!(state(&mut Partitions { is_broker_up: false, ..partitions }), FeedState::Down);
    }

    /// A new leader may lack what the old one had. Its log ends before where it was to be caught up with, and a feed waited for
    /// that for ever: it stayed stale.
    #[test]
    fn a_log_that_ends_early_is_caught_up_with_at_its_end() {
        let feeds = [FeedConfig::for_topic("ticks")];
        let mut partitions = Partitions::new(&feeds, 0);
        partitions.is_broker_up = true;
        partitions.topics[0].count = 1;
        partitions.topics[0].partitions = vec![Some(Partition {
            epoch: 1,
            next: 90,
            record_ms: 0,
            high: 100,
            target: 100,
            is_caught_up: false,
            is_assigned: true,
            is_out_of_range: false,
            is_waiting: false,
        })];
        assert_eq!(partitions.feeds(0)[0].state, FeedState::Stale);
        let (_, partition) = partitions.find("ticks", 0).expect("it is read");
        partition.ends_at(95);
        assert_eq!((partition.next, partition.target), (95, 95));
        assert_eq!(partitions.feeds(0)[0].state, FeedState::Live);
        // An end behind that is none to wait for: what has come since is lag.
        let (_, partition) = partitions.find("ticks", 0).expect("it is read");
        partition.ends_at(120);
        assert_eq!((partition.next, partition.target), (120, 95));
    }

    /// While a partition that had been added was looked for, its feed was told of as stale, though all else was live.
    #[test]
    fn a_partition_that_is_added_is_no_lateness_for_a_while() {
        let partition = Partition {
            epoch: 1,
            next: 0,
            record_ms: 0,
            high: 0,
            target: 0,
            is_caught_up: true,
            is_assigned: true,
            is_out_of_range: false,
            is_waiting: false,
        };
        let mut partitions =
            Partitions::new(&[FeedConfig { silence_ms: u64::MAX, ..FeedConfig::for_topic("ticks") }], 0);
        partitions.is_broker_up = true;
        // At the start nothing is new.
        partitions.topics[0].grows(2, 0);
        assert_eq!(partitions.feeds(0)[0].state, FeedState::Stale);
        partitions.topics[0].partitions = vec![Some(partition.clone()), Some(partition.clone())];
        assert_eq!(partitions.feeds(0)[0].state, FeedState::Live);
        partitions.topics[0].grows(3, 1_000);
        assert_eq!(partitions.feeds(1_000)[0].state, FeedState::Live);
        assert!(!partitions.are_all_met(), "cursors know of it at once");
        // For ever it is late.
        assert_eq!(partitions.feeds(1_000 + ADDED_MS)[0].state, FeedState::Stale);
        partitions.topics[0].partitions.push(Some(Partition { is_caught_up: false, ..partition.clone() }));
        assert_eq!(partitions.feeds(9_000)[0].state, FeedState::Live, "it has nothing");
        // Another that is late is none of that.
        partitions.topics[0].grows(4, 10_000);
        partitions.topics[0].partitions[0] = Some(Partition { is_caught_up: false, target: 5, ..partition });
        assert_eq!(partitions.feeds(10_000)[0].state, FeedState::Stale);
    }
}
