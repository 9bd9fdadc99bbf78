//! Watching what `assign()` never tells: new partitions, deleted and re-created topics, watermarks, a lost broker.
//!
//! A thread of its own with a client of its own, since every question to a broker blocks and would wait behind the
//! feed's long polls. It only asks; the feed acts on the [`Change`]s. What one partition cannot answer holds up no other.
//!
//! A topic that is deleted, made again and filled beyond our position between two looks is one that no fetch fails for:
//! its records pass for those of the old topic until the next look, which then announces the gap and starts over. A
//! topic that stays away for a look is not read before it was looked at again.

use super::{CLIENT_EVENTS, Context};
use crate::config::delays::Tier;
use crate::config::{FeedConfig, KafkaConfig};
use crate::feed::native;
use crate::log_limit::{LogLimit, Verdict};
use crate::stats::{Board, KafkaClient};
use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

/// Longest wait for one answer of a broker, in milliseconds.
const ANSWER_MS: u64 = 3_000;
/// How much of it is left to ask another broker, when one did not answer.
const ANOTHER_MS: u64 = 1_000;
/// How soon a broker that did not answer, or a topic that was not there, is asked for again, in milliseconds.
const RETRY_MS: u64 = 250;
/// How far the clocks of producers may be behind ours, in milliseconds, for records of a new topic to be found by time.
const CLOCKS_MS: i64 = 60_000;

/// Why a partition is assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It was there when the gateway started.
    Start,
    /// Its topic did not exist when the gateway started: read from then on, as records were written before it was
    /// noticed.
    Created,
    /// It was added since: read from its beginning, for the same reason.
    Added,
    /// Its topic was deleted and made again.
    Recreated,
    /// Its topic was out of sight for a while: go on where reading ended, wherever the assignment says to start.
    Returned,
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
    /// A feed's topic has this many partitions.
    Found(usize, usize),
    /// A feed's topic cannot be read, for this reason: it does not exist, most often.
    Missing(usize, RDKafkaRespErr),
    /// A feed's topic was deleted and made again. Assignments of its new partitions follow.
    Recreated(usize),
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
    /// When it was first found, milliseconds since the Unix epoch.
    found_ms: i64,
    /// Whether it was missing at the last look.
    is_missing: bool,
    /// Its partitions, with why they are still to be assigned; `None` when they were.
    partitions: BTreeMap<u32, Option<Why>>,
}

/// What librdkafka tells whoever asks beside answers.
pub(super) struct Asking(pub(super) Arc<Board>);

impl ClientContext for Asking {
    fn error(&self, _: KafkaError, _: &str) {
        // The reading client counts the same, and says so.
    }

    fn stats_raw(&self, text: &[u8]) {
        // Only the live feed's tracker is set to write any.
        self.0.kafka[KafkaClient::Tracker as usize].put(text);
    }
}

impl ConsumerContext for Asking {}

/// Watches the topics until the feed is gone.
pub struct Tracker {
    consumer: BaseConsumer<Asking>,
    reading: Arc<BaseConsumer<Context>>,
    kafka: KafkaConfig,
    feeds: Vec<FeedConfig>,
    /// How late they are read.
    tier: Tier,
    topics: Vec<Topic>,
    changes: SyncSender<Change>,
    wake: Box<dyn Fn() + Send>,
    started_ms: i64,
    /// Offsets that were asked to be looked for, by feed and partition.
    looks: BTreeMap<(usize, u32), u64>,
    /// Whether a broker answered the last look; `None` before the first.
    is_answered: Option<bool>,
    silence: LogLimit,
}

impl Tracker {
    /// A tracker that has not looked yet and asks through `consumer`, beside the feed's own client `reading`.
    pub(super) fn new(
        consumer: BaseConsumer<Asking>,
        reading: Arc<BaseConsumer<Context>>,
        kafka: KafkaConfig,
        feeds: Vec<FeedConfig>,
        tier: Tier,
        changes: SyncSender<Change>,
        wake: Box<dyn Fn() + Send>,
    ) -> Self {
        let topics = feeds.iter().map(|_| Topic::default()).collect();
        let started_ms = crate::clock::wall_ns() / 1_000_000;
        let looks = BTreeMap::new();
        let silence = LogLimit::new(1);
        let is_answered = None;
        Self {
            consumer,
            reading,
            kafka,
            feeds,
            tier,
            topics,
            changes,
            wake,
            started_ms,
            looks,
            is_answered,
            silence,
        }
    }

    /// Looks again and again, at once when asked to, until the asking side is gone.
    pub fn run(mut self, looks: Receiver<Look>) {
        loop {
            let is_answered = self.look();
            // It reads nothing: errors and statistics come out here.
            for _ in 0..CLIENT_EVENTS {
                let _ = self.consumer.poll(Duration::ZERO);
            }
            // What this look did not settle is asked for again by the feed.
            self.looks.clear();
            let pause_ms = if is_answered { self.kafka.refresh_ms } else { RETRY_MS };
            match looks.recv_timeout(Duration::from_millis(pause_ms)) {
                Ok(asked) => {
                    let all = std::iter::once(asked).chain(looks.try_iter());
                    self.looks.extend(all.map(|look| ((look.feed, look.partition), look.next)));
                }
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

    /// One look at every topic; `false` when it should be repeated soon.
    fn look(&mut self) -> bool {
        let mut is_whole = true;
        for feed in 0..self.feeds.len() {
            match self.look_at(feed) {
                Ok(is_known) => is_whole &= is_known,
                Err(error) => {
                    self.is_answered = Some(false);
                    if let Verdict::Write { .. } = self.silence.admit(crate::clock::mono_ms()) {
                        let brokers = &self.kafka.brokers;
                        tracing::warn!(%brokers, reason = %error, "no Kafka broker answers: trying again");
                    }
                    self.tell(Change::Broker(false));
                    return false;
                }
            }
        }
        is_whole
    }

    /// Looks at one topic. Fails when no broker answers; `false` when what was answered is not enough to go on.
    fn look_at(&mut self, feed: usize) -> KafkaResult<bool> {
        let name = self.feeds[feed].topic.clone();
        // A node that goes while it is asked answers nothing, and says nothing of the others.
        let ask = |ms| self.consumer.fetch_metadata(Some(&name), Duration::from_millis(ms));
        let metadata = ask(ANSWER_MS - ANOTHER_MS).or_else(|_| ask(ANOTHER_MS))?;
        if self.is_answered.replace(true) != Some(true) {
            tracing::info!(brokers = %self.kafka.brokers, "Kafka answers");
        }
        self.tell(Change::Broker(true));
        let missing = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
        let Some(found) = metadata.topics().iter().find(|topic| topic.name() == name) else {
            return Ok(self.missing(feed, missing));
        };
        match found.error() {
            Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE) => return Ok(false),
            Some(error) => return Ok(self.missing(feed, error)),
            // It has just been made.
            None if found.partitions().is_empty() => return Ok(false),
            None => {}
        }
        // The node that has just answered will again; librdkafka's own choice may be one that is gone.
        let node = Some(metadata.orig_broker_id()).filter(|node| *node >= 0);
        let epoch = match native::topic_id(&self.consumer, &name, node, ANSWER_MS as i32) {
            // A broker without topic ids (before Kafka 2.8): a re-created topic cannot be told by its id.
            Some(0) => epoch_of(u128::from(hash(&name))),
            Some(id) => epoch_of(id),
            // Answered before: no answer now is no news.
            None if let Some(epoch) = self.topics[feed].epoch => epoch,
            None => return Ok(false),
        };
        let partitions = found.partitions().iter();
        let partitions =
            partitions.filter_map(|p| Some((u32::try_from(p.id()).ok()?, p.leader() >= 0))).collect();
        let is_first = self.found(feed, epoch, &partitions);
        self.ask(feed, epoch, partitions, is_first);
        Ok(true)
    }

    fn missing(&mut self, feed: usize, error: RDKafkaRespErr) -> bool {
        self.topics[feed].is_missing = true;
        self.tell(Change::Missing(feed, error));
        // Whoever creates it will write soon.
        false
    }

    /// Takes note of the partitions that a topic has; returns whether it was found for the first time.
    fn found(&mut self, feed: usize, epoch: u32, partitions: &BTreeMap<u32, bool>) -> bool {
        let topic = &mut self.topics[feed];
        let known = topic.epoch.replace(epoch);
        if known.is_none() {
            topic.found_ms = crate::clock::wall_ns() / 1_000_000;
        }
        let was_missing = std::mem::take(&mut topic.is_missing);
        let is_recreated = known.is_some_and(|known| known != epoch);
        if is_recreated {
            topic.partitions.clear();
        } else if was_missing {
            for why in topic.partitions.values_mut() {
                why.get_or_insert(Why::Returned);
            }
        }
        let why_new = match known {
            _ if is_recreated => Why::Recreated,
            Some(_) => Why::Added,
            // Not from its beginning: a broker that has just started may not know an old topic for a moment.
            None if was_missing => Why::Created,
            None => Why::Start,
        };
        for partition in partitions.keys() {
            topic.partitions.entry(*partition).or_insert(Some(why_new));
        }
        if is_recreated {
            self.tell(Change::Recreated(feed));
        }
        self.tell(Change::Found(feed, partitions.len()));
        known.is_none()
    }

    /// Asks where the partitions that have a leader begin and end, and assigns those that are to be.
    fn ask(&mut self, feed: usize, epoch: u32, mut partitions: BTreeMap<u32, bool>, is_first: bool) {
        partitions.retain(|_, has_leader| *has_leader);
        if self.topics[feed].partitions.values().any(Option::is_some) {
            // The reading client looks for a leader that it does not know only once a second. What it does not learn
            // now it will learn then.
            let timeout = Duration::from_millis(ANSWER_MS);
            let _ = self.reading.fetch_metadata(Some(&self.feeds[feed].topic), timeout);
        }
        for (partition, (low, high)) in self.watermarks(feed, partitions.into_keys()) {
            let due = self.topics[feed].partitions.get(&partition).copied().flatten();
            let asked = self.looks.get(&(feed, partition)).copied();
            let (start, why) = match (due, asked) {
                (Some(why @ (Why::Start | Why::Created)), _) => {
                    match self.start(feed, partition, why, is_first, (low, high)) {
                        Ok(start) => (start, why),
                        Err(_) => continue,
                    }
                }
                (Some(why), _) => (low, why),
                // Retention took what was next, or the log ends before it.
                (None, Some(next)) => (if next < low { low } else { next.min(high) }, Why::OutOfRange),
                (None, None) => {
                    self.tell(Change::High(feed, partition, high));
                    continue;
                }
            };
            self.topics[feed].partitions.insert(partition, None);
            self.tell(Change::Assign { feed, partition, epoch, start, high, why });
        }
    }

    /// First offset and the one behind the last, of every partition that says so in time.
    fn watermarks(&self, feed: usize, partitions: impl Iterator<Item = u32>) -> BTreeMap<u32, (u64, u64)> {
        let partitions: Vec<u32> = partitions.collect();
        // One request to each leader for all of its partitions. It fails as a whole for one that refuses.
        let together = self.offsets(feed, &partitions, Offset::Beginning).and_then(|lows| {
            let highs = self.offsets(feed, &partitions, Offset::End)?;
            Ok((lows, highs))
        });
        if let Ok((lows, highs)) = together {
            let both = lows.into_iter().filter_map(|(id, low)| Some((id, (low, *highs.get(&id)?))));
            return both.collect();
        }
        let name = &self.feeds[feed].topic;
        let single = partitions.into_iter().filter_map(|partition| {
            let timeout = Duration::from_millis(ANSWER_MS);
            match self.consumer.fetch_watermarks(name, partition as i32, timeout) {
                Ok((low, high)) => Some((partition, (u64::try_from(low).ok()?, u64::try_from(high).ok()?))),
                Err(error) => {
                    tracing::debug!(%error, topic = %name, partition, "no answer");
                    None
                }
            }
        });
        single.collect()
    }

    /// The offset at `time` of several partitions at once; `Offset` stands for a time in milliseconds since the Unix
    /// epoch, as Kafka has it.
    fn offsets(&self, feed: usize, partitions: &[u32], time: Offset) -> KafkaResult<BTreeMap<u32, u64>> {
        offsets(&self.consumer, &self.feeds[feed].topic, partitions, time)
    }

    /// Where to start reading: at the end, or as far back as the warm-up says. An offset, never "the end", so that what
    /// is written before the first fetch is not lost.
    fn start(
        &self,
        feed: usize,
        partition: u32,
        why: Why,
        is_first: bool,
        (low, high): (u64, u64),
    ) -> KafkaResult<u64> {
        let name = &self.feeds[feed].topic;
        let at_time = |ms| {
            let found = look_up(&self.consumer, name, &[partition], Offset::Offset(ms))?;
            // No answer is not "none".
            found.get(&partition).copied().ok_or_else(no_leader)
        };
        let now = match self.tier.delayed_s() {
            None => high,
            // Where the live feed would have begun so long ago.
            Some(_) => first_since(at_time, self.started_ms - self.tier.delay_ms() as i64, (low, high))?,
        };
        let mut start = now.saturating_sub(self.kafka.warm_up_records);
        let since_ms = match (why, self.kafka.warm_up_s) {
            (Why::Created, 0) => Some(self.started_ms - CLOCKS_MS),
            (_, 0) if is_first || !self.tier.is_live() => None,
            // It did not answer when its topic was found.
            (_, 0) => Some(self.topics[feed].found_ms),
            (_, warm_up_s) => Some(self.started_ms - self.tier.delay_ms() as i64 - 1000 * warm_up_s as i64),
        };
        if let Some(since_ms) = since_ms {
            start = start.min(first_since(at_time, since_ms, (low, high))?);
        }
        Ok(start.max(low))
    }
}

/// The first record of a partition that was appended at `since_ms` or later, or its end, by what `at_time` says of a time.
///
/// Records that were deleted on request stay in a broker's files for some minutes. To a time in a file of which all are gone
/// it answers that there is no record so late, though there are later files: when it says so of all times, all that is left
/// is read, rather too much than too little.
fn first_since(
    at_time: impl Fn(i64) -> KafkaResult<Option<u64>>,
    since_ms: i64,
    (low, high): (u64, u64),
) -> KafkaResult<u64> {
    match at_time(since_ms)? {
        Some(first) => Ok(first),
        None if low > 0 && at_time(0)?.is_none() => Ok(low),
        None => Ok(high),
    }
}

/// The offset at `time` of several partitions of a topic, of those that have one; see [`Tracker::offsets`].
pub(crate) fn offsets<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partitions: &[u32],
    time: Offset,
) -> KafkaResult<BTreeMap<u32, u64>> {
    let found = look_up(consumer, topic, partitions, time)?;
    Ok(found.into_iter().filter_map(|(partition, offset)| Some((partition, offset?))).collect())
}

/// The offset at `time` of several partitions of a topic: `None` of a partition without a record as late as that. Those that
/// did not answer are not among them.
pub(crate) fn look_up<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partitions: &[u32],
    time: Offset,
) -> KafkaResult<BTreeMap<u32, Option<u64>>> {
    let mut times = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        times.add_partition_offset(topic, *partition as i32, time)?;
    }
    let found = consumer.offsets_for_times(times, Duration::from_millis(ANSWER_MS))?;
    let offsets = found.elements().into_iter().filter_map(|element| {
        let offset = answered(&element.error(), element.offset())?;
        Some((element.partition() as u32, offset))
    });
    Ok(offsets.collect())
}

/// What a partition says to the question for the offset at a time, if it says anything: `None` is "none so late".
fn answered(error: &KafkaResult<()>, offset: Offset) -> Option<Option<u64>> {
    match (error, offset) {
        (Err(_), _) => None,
        (Ok(()), Offset::Offset(offset)) => Some(u64::try_from(offset).ok()),
        (Ok(()), _) => Some(None),
    }
}

/// A partition did not say where it stands.
pub(crate) fn no_leader() -> KafkaError {
    KafkaError::OffsetFetch(RDKafkaErrorCode::LeaderNotAvailable)
}

/// A topic id as the epoch of positions: short, as it is part of every event's `seq`.
pub(crate) fn epoch_of(id: u128) -> u32 {
    // FNV-1a over the bytes: the same on every gateway, for ever.
    let hash =
        id.to_be_bytes().iter().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(*b)).wrapping_mul(0x0100_0193));
    hash.max(1)
}

fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With Apache Kafka a gateway that started just after records had been deleted on request read nothing of what was left.
    #[test]
    fn a_time_among_deleted_records_is_not_the_end() {
        let first = |late: Option<u64>, oldest: Option<u64>, low| {
            first_since(|ms| Ok(if ms == 0 { oldest } else { late }), 1_000, (low, 90)).ok()
        };
        assert_eq!(first(Some(50), Some(40), 40), Some(50));
        assert_eq!(first(None, Some(40), 40), Some(90), "all that is left is older");
        assert_eq!(first(None, None, 40), Some(40), "a broker that no longer knows");
        assert_eq!(first(None, None, 0), Some(90), "nothing was ever deleted");
    }

    /// A partition that could not say where a time stands was taken for one without so late a record: a replay from that time
    /// left out all that it had, and a gateway that started began at its end.
    #[test]
    fn no_answer_is_not_none() {
        assert_eq!(answered(&Err(no_leader()), Offset::Invalid), None);
        assert_eq!(answered(&Err(no_leader()), Offset::Offset(7)), None);
        assert_eq!(answered(&Ok(()), Offset::Offset(7)), Some(Some(7)));
        assert_eq!(answered(&Ok(()), Offset::End), Some(None));
    }
}
