//! One consumer that reads Kafka again, a part at a time.

use super::course::{Course, Leg};
use super::pace::Pace;
use super::pool::Read;
use super::record::of_record;
use super::wants::Wants;
use super::{Ask, Lost, Reach, Replayed, place};
use crate::clock;
use crate::config::Config;
use crate::feed::directory::Directory;
use crate::feed::native::{Record, RecordQueue};
use crate::feed::topics::Topics;
use crate::feed::{client_config, offsets};
use crate::stats::Board;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, DefaultConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};
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
/// Longest wait for one record.
pub(super) const WAIT: Duration = Duration::from_millis(50);
/// Without a record or an end for so long, Kafka does not answer.
pub(super) const SILENCE: Duration = Duration::from_secs(5);

/// A consumer, and where it stands.
#[allow(missing_debug_implementations)]
pub struct Reader {
    pub(super) consumer: Arc<BaseConsumer>,
    pub(super) queue: RecordQueue<DefaultConsumerContext>,
    decoder: RecordDecoder,
    directory: Arc<Directory>,
    /// What each tier reads.
    tiers: Arc<[Arc<Topics>]>,
    /// That of who asks.
    pub(super) topics: Arc<Topics>,
    board: Arc<Board>,
    pace: Pace,
    /// What it reads, for whom; absent when it rests.
    course: Option<Course>,
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

impl Reader {
    /// A consumer that rests.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn new(
        config: &Config,
        board: Arc<Board>,
        directory: Arc<Directory>,
        tiers: Arc<[Arc<Topics>]>,
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
            topics: tiers.first().cloned().unwrap_or_default(),
            tiers,
            board,
            pace: Pace::new(config.replay.records_per_s),
            course: None,
        })
    }

    /// Whether the topics that it reads are still those that the feed reads.
    fn is_current(&self) -> bool {
        let topics = self.topics.all();
        let is_read = |leg: &Leg| topics.iter().any(|topic| topic.epoch == leg.epoch);
        self.course.as_ref().is_some_and(|course| course.legs.iter().all(is_read))
    }

    /// Whether the topics of which something was passed since `before` are still those that were to be read, as Kafka has it:
    /// the feed looks only now and then. Events, losses, records that nobody wanted and ends all move on in their partition.
    fn is_unchanged(&self, course: &Course, before: &[Position]) -> KafkaResult<bool> {
        let mut before = before.to_vec();
        before.sort_unstable();
        for leg in &course.legs {
            let stood = |next| place(&before, next).is_ok_and(|found| before[found] == next);
            if !leg.positions().all(stood) && !self.is_still(&leg.topic, leg.epoch)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn part(
        &mut self,
        ask: &mut Ask,
        events: &mut Vec<Replayed>,
        is_stopped: &dyn Fn() -> bool,
    ) -> KafkaResult<Reach> {
        ask.is_read_again = true;
        let Some(topics) = self.tiers.get(ask.tier) else { return Err(no_answer()) };
        self.topics = topics.clone();
        let lost = ask.lost.len();
        let is_same = self.goes_on(ask) && self.is_current();
        if !is_same {
            self.course = None;
            self.consumer.unassign()?;
            self.course = Some(self.plan(ask, is_stopped)?);
        }
        let Some(mut course) = self.course.take() else { return Ok(Reach::End) };
        let mut counts = Counts::default();
        ask.before = Some(Vec::new());
        let read = self.follow(&mut course, ask, events, &mut counts, is_stopped);
        let before = ask.before.take();
        // No topic comes back once it is another one: what was read before it still was this one is of this one. Else the
        // question stays as it was, and the course is not followed any more.
        let read = match self.is_unchanged(&course, &ask.next) {
            Ok(true) => read,
            other => {
                events.clear();
                before.into_iter().flatten().rev().for_each(|known| ask.forget(known));
                ask.lost.truncate(lost);
                self.count(&counts, 0);
                return Err(other.err().unwrap_or_else(no_answer));
            }
        };
        self.count(&counts, events.len());
        // Whatever was read was read. Of what the feed has not met yet nothing was: it stays as it was.
        course.next = course.positions();
        let mut here = course.next.clone();
        here.sort_unstable();
        let unmet: Vec<Position> =
            ask.next.iter().filter(|next| place(&here, **next).is_err()).copied().collect();
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
        // Once for a part, which has many records.
        let wants = ask.wants.clone();
        let by_name = Wants::new(&wants);
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
            let Course { legs, heard_ms, assigned, .. } = &mut *course;
            let leg = &mut legs[at];
            let taken = self.queue.take(WAIT.as_millis() as i32);
            let Some(record) = taken.iter().next() else {
                if since(*heard_ms) >= SILENCE {
                    return Err(no_answer());
                }
                continue;
            };
            match record.error {
                None => {
                    *heard_ms = clock::mono_ms();
                    counts.records += 1;
                    counts.bytes += record.value.len() as u64;
                    let (decoder, directory) = (&mut self.decoder, &*self.directory);
                    // What is shared is as good as before: a decoder begins anew with each record, and an event is noted
                    // when it was made.
                    let result = catch_unwind(AssertUnwindSafe(|| {
                        take(decoder, directory, leg, ask, &by_name, &record)
                    }));
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
                    *heard_ms = clock::mono_ms();
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
                    *assigned = None;
                }
                Some(error) => {
                    tracing::debug!(?error, "a replay's consumer");
                    if since(*heard_ms) >= SILENCE {
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

    /// Sleeps when records come faster than they may; says for how long.
    fn pace(&mut self) -> Duration {
        let Some(ahead) = self.pace.take(clock::mono_ns()) else { return Duration::ZERO };
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
    // It would write to standard error, past the log and its bounds. The feed's client and tracker say when nobody answers.
    client.set_log_level(RDKafkaLogLevel::Emerg);
    client
}

pub(super) fn since(ms: u64) -> Duration {
    Duration::from_millis(clock::mono_ms().saturating_sub(ms))
}

pub(super) fn no_answer() -> KafkaError {
    KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut)
}

/// What of a record is wanted.
fn take(
    decoder: &mut RecordDecoder,
    directory: &Directory,
    leg: &mut Leg,
    ask: &mut Ask,
    by_name: &Wants<'_>,
    record: &Record<'_>,
) -> Vec<Replayed> {
    let offset = u64::try_from(record.offset).unwrap_or(0);
    let epoch = leg.epoch;
    let Some(part) = leg.part(record).filter(|part| !part.is_done && offset >= part.next) else {
        return Vec::new();
    };
    if part.is_bound && offset >= part.high {
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
    of_record(decoder, directory, ask, by_name, (position, append_ns, ingest_ns), record.value)
}

#[cfg(test)]
mod tests {
    use super::super::course::Part;
    use super::*;
    use crate::config::delays::Tier;
    use crate::event::Stream;
    use crate::feed::request::{SessionKey, Target};
    use crate::replay::Missed;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    use std::cell::Cell;
    use tickgate_broker::{Broker, BrokerConfig};
    use tickgate_protocol::Channel;

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
        assert!(matches!(client.log_level, RDKafkaLogLevel::Emerg), "it would write past the log");
    }

    fn write(broker: &Broker, topic: &str, first: u64, count: u64) {
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", broker.bootstrap()).create().expect("a client");
        for n in first..first + count {
            let value = format!(r#"{{"type":"trade","symbol":"A","price":"{n}","size":"1","event_ns":1}}"#);
            producer.send(BaseRecord::<str, str>::to(topic).payload(&value)).expect("there is room");
        }
        producer.flush(Duration::from_secs(20)).expect("the broker takes it");
    }

    const RECORDS: u64 = 20_000;

    /// A broker whose topic has so many records of `A`, one who reads it, and what it reads from the beginning.
    fn a_read_of(symbol: &str) -> (Broker, Arc<Directory>, Reader, Ask) {
        let broker = Broker::start(BrokerConfig::default()).expect("a free port");
        broker.create_topic("ticks", 1).expect("a topic");
        write(&broker, "ticks", 0, RECORDS);
        let mut config = Config::default();
        config.kafka.brokers = broker.bootstrap();
        let (directory, topics) = (Arc::new(Directory::new(10)), Arc::<Topics>::default());
        let epoch = crate::feed::epoch_of(broker.topic_id("ticks").expect("an id").as_u128());
        // What the feed knows stays as it is.
        topics.add(epoch, "ticks", 0);
        let reader = Reader::new(&config, Arc::new(Board::new(1)), directory.clone(), [topics].into())
            .expect("a good configuration");
        let want =
            Missed { target: Target::parse(symbol), stream: Stream::whole(Channel::Trades), after: None };
        let key = SessionKey { slot: 0, generation: 0 };
        let next = vec![Position { epoch, partition: 0, offset: 0 }];
        let ask = Ask { next, bytes_max: 10_000, ..Ask::new(0, key, 0, Arc::from([want])) };
        (broker, directory, reader, ask)
    }

    /// Makes the topic anew, with as many records behind those that it had.
    fn make_again(broker: &Broker) {
        broker.delete_topic("ticks").expect("it was there");
        broker.create_topic("ticks", 1).expect("a topic");
        write(broker, "ticks", RECORDS, RECORDS);
    }

    /// The feed looks only now and then whether a topic is still the one that it was. Until then a replay went on in the new one,
    /// as no broker says that an offset is of another topic: other records under the positions of the old ones.
    #[test]
    fn a_topic_made_again_is_not_read_under_old_positions() {
        let (broker, directory, mut reader, mut ask) = a_read_of("A");
        let symbol = directory.meet("A").expect("there is room").id;
        let mut events = Vec::new();
        assert_eq!(reader.read(&mut ask, &mut events, &|| false), Reach::More);
        let given = events.len() as u64;
        assert!(given > 10, "{given} events");
        assert_eq!((ask.next[0].offset, ask.last[&(symbol, Channel::Trades)].offset), (given, given - 1));

        make_again(&broker);
        // What was fetched before may still be of the old one, and nobody can say of which record.
        events.clear();
        assert_eq!(reader.read(&mut ask, &mut events, &|| false), Reach::Refused);
        assert_eq!((ask.next[0].offset, ask.last[&(symbol, Channel::Trades)].offset), (given, given - 1));
        // Asked again, it does not begin with the new one either: what is left is for memory to give or to tell as lost.
        assert_eq!(reader.read(&mut ask, &mut events, &|| false), Reach::End);
        assert_eq!((events.len(), ask.next[0].offset), (0, given));
    }

    /// Only of topics that had events was that asked. What nobody wanted of the new one, and its end, was passed under the
    /// positions of the old one, and what memory still had of that was then left out without a word.
    #[test]
    fn a_topic_made_again_is_not_passed_under_old_positions() {
        let (broker, _, mut reader, mut ask) = a_read_of("B");
        let mut events = Vec::new();
        // Long before the end: as if others waited.
        let asked = Cell::new(0);
        let is_stopped = || asked.replace(asked.get() + 1) >= 1_000;
        assert_eq!(reader.read(&mut ask, &mut events, &is_stopped), Reach::More);
        let passed = ask.next[0].offset;
        assert!((100..RECORDS).contains(&passed), "{passed} records");

        make_again(&broker);
        assert_eq!(reader.read(&mut ask, &mut events, &|| false), Reach::Refused);
        assert_eq!((ask.next[0].offset, ask.lost.len()), (passed, 0));
        assert_eq!(reader.read(&mut ask, &mut events, &|| false), Reach::End);
        assert_eq!((ask.next[0].offset, ask.lost.len(), events.len()), (passed, 0, 0));
    }

    /// Whoever gets everything late asks again for what is due, and gets no record more: not to the end of the log, not by time,
    /// and not the one behind a hole.
    #[test]
    fn nothing_is_read_that_is_not_due() {
        let (_broker, _, mut reader, ask) = a_read_of("A");
        let late = Arc::new(Topics::of(Tier { number: 1, delay_s: 900 }));
        let at = |offset| Position { offset, ..ask.next[0] };
        late.add(at(0).epoch, "ticks", 0);
        late.set_complete(true);
        reader.tiers = [reader.topics.clone(), late.clone()].into();
        let of_late = |next: Vec<Position>, since_ns, until_ns| {
            let bytes_max = usize::MAX;
            Ask { tier: 1, next, since_ns, until_ns, bytes_max, before: None, ..ask.clone() }
        };
        let mut all = |mut ask: Ask| {
            let mut events = Vec::new();
            loop {
                match reader.read(&mut ask, &mut events, &|| false) {
                    Reach::More => {}
                    reach => break (reach, events.len(), ask.next),
                }
            }
        };
        // Where it stands is not known yet.
        assert_eq!(all(of_late(vec![at(0)], None, None)), (Reach::Refused, 0, vec![at(0)]));
        late.set_ends(&[at(700)]);
        assert_eq!(all(of_late(vec![at(10)], None, None)), (Reach::End, 690, vec![at(700)]));
        assert_eq!(all(of_late(Vec::new(), Some(0), None)), (Reach::End, 700, vec![at(700)]));
        // All of it was written before that, by its timestamps.
        assert_eq!(all(of_late(Vec::new(), Some(0), Some(i64::MAX))), (Reach::End, 700, vec![at(700)]));
        // Whoever was live before is ahead.
        assert_eq!(all(of_late(vec![at(900)], None, None)), (Reach::End, 0, vec![at(900)]));
        assert_eq!(all(Ask { tier: 0, ..of_late(vec![at(900)], None, None) }).1, RECORDS as usize - 900);
        let mut part = Part { next: 699, high: 700, is_bound: true, is_done: false };
        part.ends_at(RECORDS);
        assert_eq!((part.next, part.is_done), (700, true));
    }
}
