//! What the feed knows of its topics: where each partition stands, and whether the feed lives.

use super::Context;
use super::native::RecordQueue;
use super::tracker::{Change, Why};
use crate::config::FeedConfig;
use crate::stats::{FeedTotals, PartitionTotals};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use tickgate_protocol::Position;
use tickgate_protocol::control::{FeedState, FeedStatus};

/// One partition that is read.
#[derive(Debug, Clone)]
pub(super) struct Partition {
    /// Epoch of its topic.
    pub epoch: u32,
    /// Offset of the next record.
    pub next: u64,
    /// Offset behind the last record there is, as last heard.
    high: u64,
    /// Where it has to come to, to have caught up.
    target: u64,
    is_caught_up: bool,
    is_assigned: bool,
}

#[derive(Debug)]
struct Topic {
    name: String,
    topic: String,
    silence_ms: u64,
    exists: bool,
    partitions: Vec<Option<Partition>>,
    heard_ms: u64,
    event_ns: Option<i64>,
}

/// Every partition of every feed.
#[derive(Debug)]
pub(super) struct Partitions {
    topics: Vec<Topic>,
    is_broker_up: bool,
}

impl Partitions {
    pub(super) fn new(feeds: &[FeedConfig], now_ms: u64) -> Self {
        let topics = feeds.iter().map(|feed| Topic {
            name: feed.name.clone(),
            topic: feed.topic.clone(),
            silence_ms: feed.silence_ms,
            exists: false,
            partitions: Vec::new(),
            heard_ms: now_ms,
            event_ns: None,
        });
        Self { topics: topics.collect(), is_broker_up: false }
    }

    /// The feed and the partition that a record belongs to.
    pub(super) fn find(&mut self, topic: &str, partition: i32) -> Option<(usize, &mut Partition)> {
        let feed = self.topics.iter().position(|t| t.topic == topic)?;
        let partition = usize::try_from(partition).ok()?;
        Some((feed, self.topics[feed].partitions.get_mut(partition)?.as_mut()?))
    }

    /// A record of a feed was read.
    pub(super) fn heard(&mut self, feed: usize, now_ms: u64, event_ns: Option<i64>) {
        let topic = &mut self.topics[feed];
        topic.heard_ms = now_ms;
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
                if is_up != self.is_broker_up {
                    tracing::info!(is_up, "kafka");
                }
                self.is_broker_up = is_up;
                None
            }
            Change::Topic(feed, exists) => {
                let topic = &mut self.topics[feed];
                if exists != topic.exists {
                    tracing::info!(topic = %topic.topic, exists, "topic");
                }
                topic.exists = exists;
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
                let is_assigned = assign(consumer, queue, &topic.topic, partition, start, before.is_some());
                tracing::info!(topic = %topic.topic, partition, start, high, ?why, is_assigned, "assigned");
                totals.partitions_added += u64::from(why == Why::Added);
                totals.topics_recreated += u64::from(why == Why::Recreated && partition == 0);
                let is_caught_up = before.as_ref().is_some_and(|p| p.is_caught_up);
                topic.partitions[at] =
                    Some(Partition { epoch, next: start, high, target: high, is_caught_up, is_assigned });
                let before = before.filter(|_| why == Why::OutOfRange)?;
                if start <= before.next {
                    return None;
                }
                totals.lost_offsets += start - before.next;
                Some(Position { epoch, partition, offset: start - 1 })
            }
        }
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
                partition.is_caught_up |= partition.is_assigned && partition.next >= partition.target;
                lag_records += partition.high - partition.next;
            }
            let state = if !is_broker_up {
                FeedState::Down
            } else if now_ms.saturating_sub(topic.heard_ms) > topic.silence_ms {
                FeedState::Stale
            } else {
                FeedState::Live
            };
            FeedStatus { name: topic.name.clone(), state, event_ns: topic.event_ns, lag_records }
        };
        self.topics.iter_mut().map(status).collect()
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
                })
            });
            totals.collect::<Vec<_>>()
        };
        self.topics.iter().flat_map(of_topic).collect()
    }

    /// Why the gateway is not ready, if it is not.
    pub(super) fn not_ready(&self, feeds: &[FeedConfig]) -> Option<String> {
        for (topic, feed) in self.topics.iter().zip(feeds).filter(|(_, feed)| !feed.optional) {
            if topic.partitions.is_empty() {
                return Some(match (self.is_broker_up, topic.exists) {
                    (false, _) => format!("feed {}: no broker answers", feed.name),
                    (true, false) => format!("feed {}: topic {} does not exist", feed.name, feed.topic),
                    (true, true) => format!("feed {}: no partition is assigned yet", feed.name),
                });
            }
            let behind = topic.partitions.iter().position(|p| !p.as_ref().is_some_and(|p| p.is_caught_up));
            if let Some(partition) = behind {
                return Some(format!("feed {}: partition {partition} has not caught up", feed.name));
            }
        }
        None
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
    queue.forward(topic, partition as i32);
    match consumer.incremental_assign(&list) {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(%error, topic, partition, "assign");
            false
        }
    }
}
