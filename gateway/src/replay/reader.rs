//! One consumer that reads Kafka again, a part at a time.

use super::pool::Read;
use super::record::of_record;
use super::{Ask, Lost, Missed, Reach, Replayed};
use crate::clock;
use crate::config::Config;
use crate::feed::directory::Directory;
use crate::feed::native::{Record, RecordQueue};
use crate::feed::request::SessionKey;
use crate::feed::topics::{Topic, Topics};
use crate::feed::{client_config, epoch_of, look_up, native, no_leader, offsets};
use crate::stats::Board;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, DefaultConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tickgate_protocol::Position;
use tickgate_protocol::record::RecordDecoder;

/// Records after which a part ends, whether any of them was wanted or not: others wait for the consumer.
const RECORDS_MAX: u64 = 50_000;
/// Time after which a part ends.
const PART_TIME: Duration = Duration::from_secs(1);
/// What may come at once, of the records that a consumer may read in a second.
const BURST: Duration = Duration::from_millis(20);
/// Longest wait for one record.
const WAIT: Duration = Duration::from_millis(50);
/// Without a record or an end for so long, Kafka does not answer.
const SILENCE: Duration = Duration::from_secs(5);

/// Longest wait for one answer of a broker, in milliseconds.
const ANSWER_MS: i32 = 3_000;

/// A consumer, and where it stands.
#[allow(missing_debug_implementations)]
pub struct Reader {
    consumer: Arc<BaseConsumer>,
    queue: RecordQueue<DefaultConsumerContext>,
    decoder: RecordDecoder,
    directory: Arc<Directory>,
    topics: Arc<Topics>,
    board: Arc<Board>,
    /// How long it may take a record, at the least; and when it has earned the next, in monotonic nanoseconds.
    record_ns: u64,
    earned_ns: u64,
    /// What it reads, for whom; absent when it rests.
    course: Option<Course>,
}

/// What is being read for one replay.
struct Course {
    /// The replay, and where its next part begins.
    owner: (usize, SessionKey, u32),
    next: Vec<Position>,
    legs: Vec<Leg>,
    /// When Kafka was heard of last, monotonic milliseconds.
    heard_ms: u64,
    /// The leg that the consumer is assigned to. One topic after the other: an end says only the number of its partition.
    assigned: Option<usize>,
}

/// What is being read of one topic.
struct Leg {
    epoch: u32,
    topic: String,
    partitions: BTreeMap<u32, Part>,
}

/// What is counted of one part.
#[derive(Default)]
struct Counts {
    records: u64,
    /// Of their values.
    bytes: u64,
    /// Records that held something for whoever asked.
    passed: u64,
    paused: Duration,
}

#[derive(Clone, Copy)]
struct Part {
    next: u64,
    /// The end of the log, when it was looked up.
    high: u64,
    is_done: bool,
}

impl Leg {
    fn is_done(&self) -> bool {
        self.partitions.values().all(|part| part.is_done)
    }

    /// The partition of a record, if it is still to be read.
    fn part(&mut self, record: &Record<'_>) -> Option<&mut Part> {
        let partition = u32::try_from(record.partition).ok().filter(|_| record.topic == self.topic)?;
        self.partitions.get_mut(&partition)
    }
}

impl Part {
    /// There is nothing more up to `offset`, the end of the log. What stands before it may be no record: a transaction's end,
    /// or what compaction left out. It may be before the end that was looked up, as when a new leader never had the rest: what
    /// is written there from now on is still to be read.
    fn ends_at(&mut self, offset: u64) {
        self.next = self.next.max(offset);
        self.is_done = true;
    }
}

impl Course {
    fn positions(&self) -> Vec<Position> {
        let all = self.legs.iter().flat_map(|leg| {
            leg.partitions.iter().map(|(partition, part)| Position {
                epoch: leg.epoch,
                partition: *partition,
                offset: part.next,
            })
        });
        all.collect()
    }
}

impl Reader {
    /// A consumer that rests.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn new(
        config: &Config,
        board: Arc<Board>,
        directory: Arc<Directory>,
        topics: Arc<Topics>,
    ) -> KafkaResult<Self> {
        let consumer: Arc<BaseConsumer> = Arc::new(replay_config(config).create()?);
        // One record at a time: those that a part leaves would be lost.
        let queue = RecordQueue::of_consumer(consumer.clone(), 1)
            .ok_or_else(|| KafkaError::ClientCreation("no memory for a queue".to_owned()))?;
        Ok(Self {
            consumer,
            queue,
            decoder: RecordDecoder::new(config.kafka.record_bytes_max),
            directory,
            topics,
            board,
            record_ns: 1_000_000_000 / config.replay.records_per_s.max(1),
            earned_ns: 0,
            course: None,
        })
    }

    /// Whether the topics that it reads are still those that the feed reads.
    fn is_current(&self) -> bool {
        let topics = self.topics.all();
        let is_read = |leg: &Leg| topics.iter().any(|topic| topic.epoch == leg.epoch);
        self.course.as_ref().is_some_and(|course| course.legs.iter().all(is_read))
    }

    fn part(
        &mut self,
        ask: &mut Ask,
        events: &mut Vec<Replayed>,
        is_stopped: &dyn Fn() -> bool,
    ) -> KafkaResult<Reach> {
        ask.is_read_again = true;
        let is_same = self.goes_on(ask) && self.is_current();
        if !is_same {
            self.course = None;
            self.consumer.unassign()?;
            self.course = Some(self.plan(ask, is_stopped)?);
        }
        let Some(mut course) = self.course.take() else { return Ok(Reach::End) };
        let mut counts = Counts::default();
        let read = self.follow(&mut course, ask, events, &mut counts, is_stopped);
        self.count(&counts, events.len());
        // Whatever was read was read. Of what the feed has not met yet nothing was: it stays as it was.
        course.next = course.positions();
        let is_here = |next: &&Position| {
            course.next.iter().any(|here| (here.epoch, here.partition) == (next.epoch, next.partition))
        };
        let unmet: Vec<Position> = ask.next.iter().filter(|next| !is_here(next)).copied().collect();
        course.next.extend(unmet);
        ask.next.clone_from(&course.next);
        if read == Ok(Reach::End) {
            // The next question is about what has come since.
            self.rest();
        } else {
            self.course = Some(course);
        }
        read
    }

    /// Where everything begins and ends, of those partitions that say so: the others hold up nobody, and are asked again.
    fn plan(&self, ask: &mut Ask, is_stopped: &dyn Fn() -> bool) -> KafkaResult<Course> {
        // Of the past alone, nobody else gives what is left out here.
        let is_alone = ask.until_ns.is_some();
        if is_alone && !self.topics.is_complete() {
            return Err(no_leader());
        }
        let topics = self.topics.all();
        let (mut legs, mut lost) = (Vec::new(), Vec::new());
        let mut is_silent = false;
        for topic in topics.into_iter().filter(|topic| ask.is_of(topic.epoch)) {
            let of_topic = ask.next.iter().filter(|next| next.epoch == topic.epoch);
            let named: BTreeMap<u32, u64> = of_topic.map(|next| (next.partition, next.offset)).collect();
            let is_wanted = |partition: &u32| ask.since_ns.is_some() || named.contains_key(partition);
            let wanted: Vec<u32> = topic.partitions.iter().copied().filter(is_wanted).collect();
            if wanted.is_empty() {
                continue;
            }
            if is_stopped() {
                return Err(no_answer());
            }
            // One that is missing is not there to be read: what of it memory does not have either will be told as lost.
            let Some(groups) = self.by_leader(&topic.name, &wanted)? else {
                is_silent |= is_alone;
                continue;
            };
            match native::topic_id(&self.consumer, &topic.name, ANSWER_MS) {
                // Deleted and made again, and the feed does not know yet.
                Some(id) if id != 0 && epoch_of(id) != topic.epoch => {
                    is_silent |= is_alone;
                    continue;
                }
                Some(_) => {}
                None => return Err(no_answer()),
            }
            let mut partitions = BTreeMap::new();
            for group in groups.values() {
                if is_stopped() {
                    return Err(no_answer());
                }
                match self.look_at(&topic, group, &named, ask, &mut lost) {
                    Ok(parts) => partitions.extend(parts),
                    Err(error) => tracing::debug!(%error, topic = topic.name, "a replay goes on without it"),
                }
            }
            is_silent |= partitions.len() < wanted.len();
            if !partitions.is_empty() {
                legs.push(Leg { epoch: topic.epoch, topic: topic.name, partitions });
            }
        }
        if is_silent && (is_alone || legs.is_empty()) {
            return Err(no_leader());
        }
        ask.lost.append(&mut lost);
        let owner = (ask.shard, ask.key, ask.replay);
        let mut course = Course { owner, next: Vec::new(), legs, heard_ms: clock::mono_ms(), assigned: None };
        course.next = course.positions();
        Ok(course)
    }

    /// These partitions of a topic by their leaders, of those that have one. `None` when there is no such topic; fails when no
    /// broker answers.
    fn by_leader(&self, topic: &str, partitions: &[u32]) -> KafkaResult<Option<BTreeMap<i32, Vec<u32>>>> {
        let metadata = self.consumer.fetch_metadata(Some(topic), Duration::from_millis(ANSWER_MS as u64))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none());
        let Some(found) = found else { return Ok(None) };
        let mut groups: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
        for partition in found.partitions().iter().filter(|partition| partition.leader() >= 0) {
            let number = u32::try_from(partition.id()).ok().filter(|number| partitions.contains(number));
            groups.entry(partition.leader()).or_default().extend(number);
        }
        groups.retain(|_, partitions| !partitions.is_empty());
        Ok(Some(groups))
    }

    /// Where partitions of one leader begin and end; those that do not answer are not among them.
    fn look_at(
        &self,
        topic: &Topic,
        partitions: &[u32],
        named: &BTreeMap<u32, u64>,
        ask: &Ask,
        lost: &mut Vec<Lost>,
    ) -> KafkaResult<BTreeMap<u32, Part>> {
        let unnamed: Vec<u32> = partitions.iter().copied().filter(|p| !named.contains_key(p)).collect();
        let firsts = match ask.since_ns {
            Some(ns) if !unnamed.is_empty() => {
                // Kafka's timestamps are whole milliseconds: the first that is not before.
                let ms = ns.div_euclid(1_000_000) + i64::from(ns.rem_euclid(1_000_000) > 0);
                look_up(&self.consumer, &topic.name, &unnamed, Offset::Offset(ms.max(0)))?
            }
            _ => BTreeMap::new(),
        };
        let lows = offsets(&self.consumer, &topic.name, partitions, Offset::Beginning)?;
        let highs = offsets(&self.consumer, &topic.name, partitions, Offset::End)?;
        let ends = match ask.until_ns {
            // The first that is after: of those that have none so late, the end is the end.
            Some(ns) => {
                let ms = ns.div_euclid(1_000_000).saturating_add(1);
                look_up(&self.consumer, &topic.name, partitions, Offset::Offset(ms.max(0)))?
            }
            None => BTreeMap::new(),
        };
        let mut parts = BTreeMap::new();
        for partition in partitions.iter().copied() {
            let at = |offset| Position { epoch: topic.epoch, partition, offset };
            let (Some(low), Some(high)) = (lows.get(&partition), highs.get(&partition)) else { continue };
            let (low, mut high) = (*low, *high);
            if ask.until_ns.is_some() {
                let Some(end) = ends.get(&partition) else { continue };
                high = end.map_or(high, |end| end.min(high));
            }
            let next = match (named.get(&partition), firsts.get(&partition)) {
                (Some(next), _) if *next < low => {
                    lost.push(Lost { from: at(*next), upto: at(low - 1) });
                    low
                }
                (Some(next), _) => *next,
                // No answer is not "none".
                (None, None) => continue,
                (None, Some(late)) => {
                    // After the last record there is none for a time.
                    let late = late.unwrap_or(high);
                    let next = late.min(ask.origin_of(at(0)).unwrap_or(late));
                    // Those before the first may have been appended after that time.
                    let from = if late <= low { 0 } else { next };
                    if from < low {
                        lost.push(Lost { from: at(from), upto: at(low - 1) });
                    }
                    next.max(low)
                }
            };
            // The last event that a symbol had, if it is still there: the feed may not know it.
            let is_last = |want: &Missed| {
                want.after.is_some_and(|after| {
                    Position { offset: after.offset.saturating_add(1), ..after } == at(next)
                })
            };
            let is_wanted = low < next && next <= high && ask.wants.iter().any(is_last);
            let next = if is_wanted { next - 1 } else { next };
            parts.insert(partition, Part { next, high, is_done: next >= high });
        }
        Ok(parts)
    }

    fn follow(
        &mut self,
        course: &mut Course,
        ask: &mut Ask,
        events: &mut Vec<Replayed>,
        counts: &mut Counts,
        is_stopped: &dyn Fn() -> bool,
    ) -> KafkaResult<Reach> {
        let began_ms = clock::mono_ms();
        let mut bytes = 0;
        while !is_stopped() && ask.is_wanted.load(Ordering::Relaxed) {
            let Some(at) = course.legs.iter().position(|leg| !leg.is_done()) else { return Ok(Reach::End) };
            if bytes >= ask.bytes_max || counts.records >= RECORDS_MAX || since(began_ms) >= PART_TIME {
                return Ok(Reach::More);
            }
            if course.assigned != Some(at) {
                self.assign(&course.legs[at])?;
                course.assigned = Some(at);
                course.heard_ms = clock::mono_ms();
            }
            let leg = &mut course.legs[at];
            let taken = self.queue.take(WAIT.as_millis() as i32);
            let Some(record) = taken.iter().next() else {
                if since(course.heard_ms) >= SILENCE {
                    return Err(no_answer());
                }
                continue;
            };
            match record.error {
                None => {
                    course.heard_ms = clock::mono_ms();
                    counts.records += 1;
                    counts.bytes += record.value.len() as u64;
                    let (decoder, directory) = (&mut self.decoder, &*self.directory);
                    // What is shared is as good as before: a decoder begins anew with each record, and an event is noted
                    // when it was made.
                    let result =
                        catch_unwind(AssertUnwindSafe(|| take(decoder, directory, leg, ask, &record)));
                    let made = result.unwrap_or_else(|_| {
                        // It told why as it fell. Nobody will ever read that record: it is lost, and the next one comes.
                        let (epoch, partition) = (leg.epoch, record.partition as u32);
                        let at = Position { epoch, partition, offset: record.offset.unsigned_abs() };
                        ask.lost.push(Lost { from: at, upto: at });
                        Vec::new()
                    });
                    counts.passed += u64::from(!made.is_empty());
                    bytes += made.iter().map(|missed| missed.event.bytes()).sum::<usize>();
                    events.extend(made);
                    drop(taken);
                    counts.paused += self.pace();
                }
                Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF) => {
                    course.heard_ms = clock::mono_ms();
                    if let Some(part) = leg.part(&record) {
                        part.ends_at(u64::try_from(record.offset).unwrap_or(0));
                    }
                }
                Some(
                    RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE
                    | RDKafkaRespErr::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET,
                ) => {
                    // Retention took what was next.
                    let wanted: Vec<u32> = leg.partitions.keys().copied().collect();
                    let lows = offsets(&self.consumer, &leg.topic, &wanted, Offset::Beginning)?;
                    let mut is_known = false;
                    for (partition, part) in &mut leg.partitions {
                        let at = |offset| Position { epoch: leg.epoch, partition: *partition, offset };
                        if let Some(low) = lows.get(partition).filter(|low| part.next < **low) {
                            ask.lost.push(Lost { from: at(part.next), upto: at(low - 1) });
                            part.next = *low;
                            part.is_done = part.next >= part.high;
                            is_known = true;
                        }
                    }
                    if !is_known {
                        // The log ends before what was next: it is another one by now, and the feed will say so.
                        return Err(no_answer());
                    }
                    course.assigned = None;
                }
                Some(error) => {
                    tracing::debug!(?error, "a replay's consumer");
                    if since(course.heard_ms) >= SILENCE {
                        return Err(no_answer());
                    }
                }
            }
        }
        Ok(Reach::More)
    }

    fn assign(&self, leg: &Leg) -> KafkaResult<()> {
        let mut list = TopicPartitionList::with_capacity(leg.partitions.len());
        for (partition, part) in leg.partitions.iter().filter(|(_, part)| !part.is_done) {
            let offset = Offset::Offset(i64::try_from(part.next).unwrap_or(i64::MAX));
            list.add_partition_offset(&leg.topic, *partition as i32, offset)?;
        }
        self.consumer.assign(&list)
    }

    /// Sleeps when records come faster than they may: not for each, and never for what was earned while nobody asked. Says
    /// for how long.
    fn pace(&mut self) -> Duration {
        let now_ns = clock::mono_ns();
        self.earned_ns = self.earned_ns.max(now_ns.saturating_sub(BURST.as_nanos() as u64)) + self.record_ns;
        let ahead = Duration::from_nanos(self.earned_ns.saturating_sub(now_ns));
        if ahead <= BURST {
            return Duration::ZERO;
        }
        std::thread::sleep(ahead.min(PART_TIME));
        ahead.min(PART_TIME)
    }

    fn count(&self, counts: &Counts, events: usize) {
        let mut readers = self.board.readers();
        readers.records += counts.records;
        readers.record_bytes += counts.bytes;
        readers.records_passed += counts.passed;
        readers.events += events as u64;
        readers.pausing_ns += counts.paused.as_nanos() as u64;
    }
}

impl Read for Reader {
    fn goes_on(&self, ask: &Ask) -> bool {
        let Some(course) = &self.course else { return false };
        let owner = (ask.shard, ask.key, ask.replay);
        course.owner == owner && ask.next == course.next
    }

    fn is_assigned(&self) -> bool {
        self.course.is_some()
    }

    fn rest(&mut self) {
        self.course = None;
        if let Err(error) = self.consumer.unassign() {
            tracing::warn!(%error, "a replay's consumer");
        }
    }

    fn read(&mut self, ask: &mut Ask, events: &mut Vec<Replayed>, is_stopped: &dyn Fn() -> bool) -> Reach {
        match self.part(ask, events, is_stopped) {
            Ok(reach) => reach,
            Err(error) => {
                tracing::debug!(%error, "a replay has to wait");
                self.rest();
                if events.is_empty() { Reach::Refused } else { Reach::More }
            }
        }
    }
}

/// librdkafka's settings for a replay. What bounds its memory stands, whatever `kafka.properties` say: those are meant for
/// the one consumer of the live feed, and the ceiling counts on these.
fn replay_config(config: &Config) -> ClientConfig {
    let mut client = client_config(config);
    for (name, value) in [
        ("client.id", "tickgate-replay"),
        // A seek waits for the request that is under way.
        ("fetch.wait.max.ms", "10"),
    ] {
        if !config.kafka.properties.contains_key(name) {
            client.set(name, value);
        }
    }
    for (name, value) in [
        ("queued.min.messages", "5000"),
        ("queued.max.messages.kbytes", "4096"),
        ("fetch.max.bytes", "4194304"),
        ("max.partition.fetch.bytes", "1048576"),
    ] {
        client.set(name, value);
    }
    // Another name for the last of them.
    client.remove("fetch.message.max.bytes");
    client
}

fn since(ms: u64) -> Duration {
    Duration::from_millis(clock::mono_ms().saturating_sub(ms))
}

fn no_answer() -> KafkaError {
    KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut)
}

/// What of a record is wanted.
fn take(
    decoder: &mut RecordDecoder,
    directory: &Directory,
    leg: &mut Leg,
    ask: &mut Ask,
    record: &Record<'_>,
) -> Vec<Replayed> {
    let offset = u64::try_from(record.offset).unwrap_or(0);
    let epoch = leg.epoch;
    let Some(part) = leg.part(record).filter(|part| !part.is_done && offset >= part.next) else {
        return Vec::new();
    };
    if ask.until_ns.is_some() && offset >= part.high {
        // What stood before the end is no record.
        part.ends_at(part.high);
        return Vec::new();
    }
    part.next = offset + 1;
    part.is_done = part.next >= part.high;
    let ingest_ns = clock::wall_ns();
    let append_ns = match record.timestamp_ms {
        ..=0 => ingest_ns,
        ms => ms.saturating_mul(1_000_000),
    };
    let position = Position { epoch, partition: record.partition as u32, offset };
    of_record(decoder, directory, ask, (position, append_ns, ingest_ns), record.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A queue of a gigabyte for the live feed was one for each replay's consumer too, which the printed ceiling knew nothing of.
    #[test]
    fn properties_do_not_unbind_replays() {
        let mut config = Config::default();
        for (name, value) in [
            ("queued.max.messages.kbytes", "1048576"),
            ("queued.min.messages", "10000000"),
            ("fetch.max.bytes", "1000000000"),
            ("fetch.message.max.bytes", "1000000000"),
            ("fetch.wait.max.ms", "77"),
        ] {
            config.kafka.properties.insert(name.to_owned(), value.to_owned());
        }
        let client = replay_config(&config);
        assert_eq!(client.get("queued.max.messages.kbytes"), Some("4096"));
        assert_eq!(client.get("queued.min.messages"), Some("5000"));
        assert_eq!(client.get("fetch.max.bytes"), Some("4194304"));
        assert_eq!(client.get("max.partition.fetch.bytes"), Some("1048576"));
        assert_eq!(client.get("fetch.message.max.bytes"), None);
        assert_eq!(client.get("fetch.wait.max.ms"), Some("77"), "what does not bound memory is the user's");
    }

    /// A new leader may lack what the old one had. The end of its log, before the end that had been looked up, was taken for
    /// that: what was written in between from then on was left out.
    #[test]
    fn a_log_that_ends_early_is_read_up_to_its_end() {
        let mut part = Part { next: 5, high: 10, is_done: false };
        part.ends_at(7);
        assert_eq!((part.next, part.is_done), (7, true));
        // Behind what was looked up more has come since, which is no record.
        let mut part = Part { next: 5, high: 10, is_done: false };
        part.ends_at(12);
        assert_eq!((part.next, part.is_done), (12, true));
    }
}
