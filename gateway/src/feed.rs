//! The Kafka side: reads every partition of the configured topics and hands each shard the events it asked for.
//!
//! One thread reads: take what librdkafka has ready, decode and encode it in the [`engine`], push one batch to
//! every shard that has something coming. It never waits for a shard, and requests from shards are answered in between.
//! A second thread, the tracker, asks the brokers what `assign()` does not tell.

pub mod book;
mod dead_letter;
pub mod directory;
pub mod dispatch;
pub mod engine;
pub mod native;
mod partitions;
mod patterns;
pub mod request;
pub mod ring;
pub mod symbols;
pub mod topics;
mod tracker;

use crate::clock;
use crate::config::Config;
use crate::event::{Batch, Item};
use crate::latency::{Recorder, Stage};
use crate::log_limit::{LogLimit, Verdict};
use crate::stats::{Board, Indispensable};
use dead_letter::DeadLetters;
use directory::Directory;
use dispatch::Outlet;
use engine::{Arrival, Engine, EngineConfig};
use native::{RecordQueue, Waker};
use partitions::Partitions;
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::Message;
use rdkafka::types::RDKafkaRespErr;
use request::{Mailbox, Request};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tickgate_protocol::Position;
use tickgate_protocol::record::RecordDecoder;
use topics::Topics;
use tracker::{Change, Look, Tracker};
pub(crate) use tracker::{epoch_of, look_up, no_leader, offsets};

/// Bytes of events after which a batch goes out before all records taken are read: records can be large.
const BATCH_BYTES: u64 = 4 << 20;
/// Records taken at once.
const RECORDS_PER_TAKE: usize = 1_000;
/// Parts of replays that each shard is given before records are read again: a few milliseconds at the most.
const RESUMES_PER_TURN: usize = 16;
/// Longest wait for a record, in milliseconds: what else is to be done is done in between.
const WAIT_MS: u64 = 100;
/// How often the positions and states go to the shards and the totals to the scoreboard, in milliseconds.
const HOUSEKEEPING_MS: u64 = 250;
/// Errors and statistics of librdkafka that are taken at each housekeeping: more than it ever tells in that time.
const CLIENT_EVENTS: usize = 16;
/// Changes from the tracker that may wait: one look at a thousand partitions.
const CHANGES: usize = 1_024;
/// Errors of librdkafka that are logged within ten seconds; further ones are only counted.
const CLIENT_LOGS_PER_10_S: u32 = 2;
/// Unreadable records that are logged within ten seconds; further ones are only counted.
const BAD_LOGS_PER_10_S: u32 = 10;

/// What librdkafka tells beside records.
struct Context {
    broker_errors: Arc<AtomicU64>,
    logs: Mutex<LogLimit>,
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        // Informational: the client reconnects by itself, and the tracker says when nobody answers.
        self.broker_errors.fetch_add(1, Ordering::Relaxed);
        let mut limit = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Verdict::Write { left_out } = limit.admit(clock::mono_ms()) {
            tracing::warn!(%error, reason, left_out, "Kafka client");
        }
    }
}

impl ConsumerContext for Context {}

/// A running feed.
#[allow(missing_debug_implementations)]
pub struct Feed {
    waker: Arc<Waker<Context>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What a feed is started with.
#[allow(missing_debug_implementations)]
pub struct Parts {
    /// The configuration.
    pub config: Arc<Config>,
    /// The scoreboard.
    pub board: Arc<Board>,
    /// What each shard asks.
    pub mailboxes: Vec<Arc<Mailbox>>,
    /// Where each shard takes its batches from.
    pub inboxes: Vec<tokio::sync::mpsc::Sender<Batch>>,
    /// The numbers of symbols.
    pub directory: Arc<Directory>,
    /// Where it says which topics it reads.
    pub topics: Arc<Topics>,
}

/// A feed whose client exists but which does not read yet.
#[allow(missing_debug_implementations)]
pub struct Prepared {
    consumer: Arc<BaseConsumer<Context>>,
    queue: RecordQueue<Context>,
    waker: Arc<Waker<Context>>,
    broker_errors: Arc<AtomicU64>,
}

/// Creates the Kafka client; nothing is read yet.
///
/// # Errors
/// When librdkafka refuses the configuration.
pub fn prepare(config: &Config) -> KafkaResult<Prepared> {
    let broker_errors = Arc::new(AtomicU64::new(0));
    let logs = Mutex::new(LogLimit::new(CLIENT_LOGS_PER_10_S));
    let context = Context { broker_errors: broker_errors.clone(), logs };
    let consumer: BaseConsumer<Context> = client_config(config).create_with_context(context)?;
    let consumer = Arc::new(consumer);
    let queue = RecordQueue::new(consumer.clone(), RECORDS_PER_TAKE)
        .ok_or_else(|| KafkaError::ClientCreation("no memory for a queue".to_owned()))?;
    let waker = Arc::new(queue.waker());
    Ok(Prepared { consumer, queue, waker, broker_errors })
}

impl Prepared {
    /// Wakes the feed to look into its mailboxes.
    pub fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
        let waker = self.waker.clone();
        Arc::new(move || waker.wake())
    }

    /// Starts reading.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration, or a thread cannot be started.
    pub fn start(self, parts: Parts) -> anyhow::Result<Feed> {
        let stop = Arc::new(AtomicBool::new(false));
        let (changes_in, changes) = mpsc::sync_channel(CHANGES);
        let (looks, looks_out) = mpsc::sync_channel(CHANGES);
        let config = parts.config.clone();
        let asking: BaseConsumer = client_config(&config).create()?;
        let wake = {
            let waker = self.waker.clone();
            Box::new(move || waker.wake())
        };
        let tracker = Tracker::new(
            asking,
            self.consumer.clone(),
            config.kafka.clone(),
            config.feeds.clone(),
            changes_in,
            wake,
        );
        let dead_letters = match config.kafka.dead_letter_topic.as_str() {
            "" => None,
            topic => Some(DeadLetters::new(producer_config(&config), topic)?),
        };
        let waker = self.waker.clone();
        let [for_tracker, for_reader] = [(); 2].map(|()| Indispensable(parts.board.clone()));
        let reader = Reader::new(self, parts, changes, looks, stop.clone(), dead_letters);
        let threads = vec![
            std::thread::Builder::new().name("feed-tracker".to_owned()).spawn(move || {
                let _indispensable = for_tracker;
                tracker.run(looks_out);
            })?,
            std::thread::Builder::new().name("feed".to_owned()).spawn(move || {
                let _indispensable = for_reader;
                reader.run();
            })?,
        ];
        Ok(Feed { waker, stop, threads })
    }
}

impl Feed {
    /// Stops reading and waits for the threads.
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.waker.wake();
        // The reader's end closes the tracker's channel, so it goes first.
        while let Some(thread) = self.threads.pop() {
            let _ = thread.join();
        }
    }
}

/// librdkafka's settings for live reading; `kafka.properties` overrides any of them.
pub(crate) fn client_config(config: &Config) -> ClientConfig {
    let mut client = ClientConfig::new();
    for (name, value) in [
        ("bootstrap.servers", config.kafka.brokers.as_str()),
        ("client.id", "tickgate"),
        // Required by the handle; with manual assignment no group is ever joined.
        ("group.id", "tickgate"),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("allow.auto.create.topics", "false"),
        // An offset that is gone is our business: what was lost must be announced.
        ("auto.offset.reset", "error"),
        // Whether everything was read cannot be told by records alone.
        ("enable.partition.eof", "true"),
        // The default of a second costs fifty times the throughput once a queue was full.
        ("fetch.queue.backoff.ms", "1"),
        ("fetch.wait.max.ms", "100"),
        // After an error, such as a leader that has moved. The default is half a second of silence.
        ("fetch.error.backoff.ms", "50"),
        ("queued.min.messages", "100000"),
        ("queued.max.messages.kbytes", "32768"),
        // What may come on top of a full queue; the default is 50 MiB.
        ("fetch.max.bytes", "16777216"),
        ("reconnect.backoff.ms", "50"),
        ("reconnect.backoff.max.ms", "1000"),
        ("topic.metadata.refresh.interval.ms", "10000"),
        ("socket.keepalive.enable", "true"),
        // A line that swallows packets says nothing, and the kernel tries again ever more rarely: half a minute without
        // any line costs another half by the defaults. In this time the largest answer passes over 9 Mbit/s.
        ("socket.timeout.ms", "15000"),
        ("socket.connection.setup.timeout.ms", "5000"),
    ] {
        client.set(name, value);
    }
    for (name, value) in &config.kafka.properties {
        client.set(name, value);
    }
    client
}

fn producer_config(config: &Config) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &config.kafka.brokers).set("client.id", "tickgate-dead-letters");
    let is_shared = |name: &str| {
        ["sasl.", "ssl.", "security.", "socket.", "enable.ssl"].iter().any(|p| name.starts_with(p))
    };
    for (name, value) in config.kafka.properties.iter().filter(|(name, _)| is_shared(name)) {
        client.set(name, value);
    }
    client
}

/// The reading thread.
struct Reader {
    consumer: Arc<BaseConsumer<Context>>,
    queue: RecordQueue<Context>,
    broker_errors: Arc<AtomicU64>,
    config: Arc<Config>,
    board: Arc<Board>,
    mailboxes: Vec<Arc<Mailbox>>,
    outlets: Vec<Outlet>,
    changes: mpsc::Receiver<Change>,
    looks: mpsc::SyncSender<Look>,
    stop: Arc<AtomicBool>,
    engine: Engine,
    decoder: RecordDecoder,
    partitions: Partitions,
    recorder: Recorder,
    dead_letters: Option<DeadLetters>,
    topics: Arc<Topics>,
    feeds_json: Arc<str>,
    housekept_ms: u64,
    /// What shards are told of partitions that were not met yet.
    unknown: Position,
    bad_logs: u32,
    bad_logs_since_ms: u64,
}

impl Reader {
    fn new(
        prepared: Prepared,
        parts: Parts,
        changes: mpsc::Receiver<Change>,
        looks: mpsc::SyncSender<Look>,
        stop: Arc<AtomicBool>,
        dead_letters: Option<DeadLetters>,
    ) -> Self {
        let Parts { config, board, mailboxes, inboxes, directory, topics } = parts;
        let mut engine = Engine::with_directory(EngineConfig::of(&config), inboxes.len(), directory);
        engine.is_complete = false;
        Self {
            consumer: prepared.consumer,
            queue: prepared.queue,
            broker_errors: prepared.broker_errors,
            engine,
            decoder: RecordDecoder::new(config.kafka.record_bytes_max),
            partitions: Partitions::new(&config.feeds, clock::mono_ms()),
            outlets: inboxes
                .into_iter()
                .enumerate()
                .map(|(shard, inbox)| Outlet::new(shard, inbox, config.session.inbox_bytes_max))
                .collect(),
            recorder: Recorder::new(),
            topics,
            feeds_json: Arc::from(""),
            housekept_ms: 0,
            unknown: crate::shard::cursor::unknown(),
            bad_logs: 0,
            bad_logs_since_ms: 0,
            config,
            board,
            mailboxes,
            changes,
            looks,
            stop,
            dead_letters,
        }
    }

    fn run(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            while let Ok(change) = self.changes.try_recv() {
                self.change(change);
            }
            let is_more = answer_requests(&self.mailboxes, &mut self.outlets, &mut self.engine);
            let now_ms = clock::mono_ms();
            let due_ms = self.engine.next_due_ms();
            let wait_ms = match due_ms {
                _ if is_more => 0,
                None => WAIT_MS,
                Some(due_ms) => due_ms.saturating_sub(now_ms).min(WAIT_MS),
            };
            self.read(wait_ms);
            let now_ms = clock::mono_ms();
            self.engine.fire(now_ms);
            if now_ms >= self.housekept_ms + HOUSEKEEPING_MS {
                self.housekeeping(now_ms);
            }
            let decoded_ns = clock::wall_ns();
            for outlet in &mut self.outlets {
                outlet.send(&mut self.engine, decoded_ns);
            }
            dispatch::give_way(&self.outlets);
        }
        if let Some(letters) = &self.dead_letters {
            letters.flush();
        }
        self.publish();
    }

    fn read(&mut self, wait_ms: u64) {
        let Self { queue, engine, decoder, partitions, recorder, dead_letters, looks, outlets, .. } = self;
        let records = queue.take(wait_ms as i32);
        if records.is_empty() {
            return;
        }
        let ingest_ns = clock::wall_ns();
        let now_ms = clock::mono_ms();
        let mut bad_logs = self.bad_logs;
        let mut sent_bytes = engine.totals.encoded_bytes;
        for record in records.iter() {
            let Some((feed, partition)) = partitions.find(record.topic, record.partition) else {
                engine.totals.stray_records += u64::from(record.error.is_none());
                continue;
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
                    _ => tracing::debug!(
                        ?error,
                        topic = record.topic,
                        partition = record.partition,
                        "partition"
                    ),
                }
                continue;
            }
            let offset = u64::try_from(record.offset).unwrap_or(0);
            let position = Position { epoch: partition.epoch, partition: record.partition as u32, offset };
            partition.next = offset + 1;
            // Records without a timestamp (Kafka before 0.10) were appended when they were read, as far as we know.
            let mut append_ns = ingest_ns;
            if record.timestamp_ms > 0 {
                append_ns = record.timestamp_ms.saturating_mul(1_000_000);
                recorder.record(Stage::AppendToIngest, ingest_ns.saturating_sub(append_ns));
            }
            let arrival = Arrival { position, append_ns, ingest_ns, now_ms };
            let ticks = engine.totals.ticks;
            let mut reason = None;
            engine.record(decoder, &arrival, record.value, |error| {
                bad_logs += 1;
                if bad_logs <= BAD_LOGS_PER_10_S {
                    tracing::warn!(
                        %error, topic = record.topic, partition = record.partition, offset = record.offset,
                        "unreadable record"
                    );
                }
                reason.get_or_insert(error.label());
            });
            if let (Some(letters), Some(reason)) = (&dead_letters, reason) {
                letters.send(reason, &record);
            }
            let event_ns = engine.newest_event_ns().filter(|_| engine.totals.ticks != ticks);
            partitions.heard(feed, now_ms, event_ns);
            if engine.totals.encoded_bytes > sent_bytes + BATCH_BYTES {
                sent_bytes = engine.totals.encoded_bytes;
                let decoded_ns = clock::wall_ns();
                outlets.iter_mut().for_each(|outlet| outlet.send(engine, decoded_ns));
            }
        }
        self.bad_logs = bad_logs;
        recorder.record_n(Stage::IngestToDecoded, clock::wall_ns() - ingest_ns, records.len() as u64);
    }

    fn change(&mut self, change: Change) {
        if let Change::Recreated(feed) = change
            && let Some(epoch) = self.partitions.epoch(feed)
        {
            self.engine.forget(epoch);
            self.topics.remove(epoch);
        }
        let lost = self.partitions.change(&change, &self.consumer, &self.queue, &mut self.engine.totals);
        if let Change::Assign { feed, partition, .. } = change
            && let Some(next) = self.partitions.next(feed, partition)
        {
            self.engine.begin(next);
            self.topics.add(next.epoch, &self.config.feeds[feed].topic, partition);
        }
        if let Some(upto) = lost {
            self.engine.lost(upto);
        }
        self.engine.is_complete = self.partitions.are_all_looked_for();
        self.topics.set_complete(self.engine.is_complete);
    }

    fn housekeeping(&mut self, now_ms: u64) {
        self.housekept_ms = now_ms;
        for _ in 0..CLIENT_EVENTS {
            // Errors and statistics come out here. A record would be one that missed its queue: read the partition
            // again from where the queue ended.
            if let Some(Ok(record)) = self.consumer.poll(std::time::Duration::ZERO)
                && let Some((_, partition)) = self.partitions.find(record.topic(), record.partition())
            {
                let (topic, partition_id) = (record.topic(), record.partition());
                tracing::error!(topic, partition = partition_id, "a record missed its queue");
                partition.is_out_of_range = true;
            }
        }
        if now_ms >= self.bad_logs_since_ms + 10_000 {
            if self.bad_logs > BAD_LOGS_PER_10_S {
                let unlogged = self.bad_logs - BAD_LOGS_PER_10_S;
                tracing::warn!(unlogged, "more unreadable records in the last ten seconds");
            }
            self.bad_logs = 0;
            self.bad_logs_since_ms = now_ms;
        }
        for look in self.partitions.looks() {
            if self.looks.try_send(look).is_err() {
                break;
            }
        }
        let mut positions = self.partitions.positions();
        if !self.partitions.are_all_met() {
            positions.insert(0, self.unknown);
        }
        self.engine.tell_positions(positions);
        let feeds = self.partitions.feeds(now_ms);
        let json = serde_json::to_string(&feeds).unwrap_or_default();
        if *json != *self.feeds_json {
            self.feeds_json = json.into();
            let feeds_json = self.feeds_json.clone();
            self.engine.broadcast(|| Item::Feeds(feeds_json.clone()));
        }
        self.engine.totals.feeds = feeds;
        self.publish();
    }

    fn publish(&mut self) {
        let totals = &mut self.engine.totals;
        if let Some(letters) = &self.dead_letters {
            (totals.dead_lettered, totals.dead_letters_lost) = letters.totals();
        }
        totals.broker_errors = self.broker_errors.load(Ordering::Relaxed);
        totals.partitions = self.partitions.totals();
        totals.not_ready_because = self.partitions.not_ready(&self.config.feeds).unwrap_or_default();
        totals.ready = totals.not_ready_because.is_empty();
        self.board.feed().clone_from(totals);
        self.recorder.publish(&self.board, self.board.shard_count());
    }
}

/// Answers the requests of shards that have room for an answer. Says whether there are more: who comes back asks for much,
/// and records must not wait for all of it.
fn answer_requests(mailboxes: &[Arc<Mailbox>], outlets: &mut [Outlet], engine: &mut Engine) -> bool {
    let mut is_more = false;
    for (shard, mailbox) in mailboxes.iter().enumerate() {
        let mut resumes = 0;
        while outlets[shard].has_room()
            && let Some(request) = mailbox.pop()
        {
            resumes += usize::from(matches!(request, Request::Resume(_)));
            engine.request(shard, request);
            outlets[shard].send(engine, clock::wall_ns());
            if resumes >= RESUMES_PER_TURN {
                is_more = true;
                break;
            }
        }
    }
    is_more
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::request::SessionKey;
    use crate::replay::Ask;

    /// A thousand clients that come back at once would hold up the records of everybody for as long as all of their parts take.
    #[test]
    fn records_do_not_wait_for_all_who_come_back() {
        const ASKED: usize = 2 * RESUMES_PER_TURN + 5;
        let mut engine = Engine::new(EngineConfig::of(&Config::default()), 2);
        let (inboxes, mut batches): (Vec<_>, Vec<_>) =
            (0..2).map(|_| tokio::sync::mpsc::channel(1_000)).unzip();
        let mut outlets: Vec<Outlet> = inboxes
            .into_iter()
            .enumerate()
            .map(|(shard, inbox)| Outlet::new(shard, inbox, 1 << 20))
            .collect();
        let mailboxes = [Arc::new(Mailbox::default()), Arc::new(Mailbox::default())];
        for _ in 0..ASKED {
            let ask = Ask::new(0, SessionKey { slot: 0, generation: 0 }, 0, Arc::from([]));
            mailboxes[0].push(Request::Resume(Box::new(ask)));
        }
        let ask = Ask::new(1, SessionKey { slot: 0, generation: 0 }, 0, Arc::from([]));
        mailboxes[1].push(Request::Resume(Box::new(ask)));
        for (turn, (answers, others)) in
            [(RESUMES_PER_TURN, 1), (RESUMES_PER_TURN, 0), (5, 0)].into_iter().enumerate()
        {
            let is_more = answer_requests(&mailboxes, &mut outlets, &mut engine);
            assert_eq!(is_more, turn < 2, "turn {turn}");
            for (shard, expected) in [(0, answers), (1, others)] {
                let given = std::iter::from_fn(|| batches[shard].try_recv().ok()).count();
                assert_eq!(given, expected, "shard {shard} in turn {turn}");
            }
        }
    }

    #[test]
    fn a_line_that_swallows_packets_is_given_up_soon_unless_the_operator_says_otherwise() {
        let mut config = Config::default();
        let said = |config: &Config, name: &str| client_config(config).get(name).map(str::to_owned);
        assert_eq!(said(&config, "socket.timeout.ms").as_deref(), Some("15000"));
        assert_eq!(said(&config, "socket.connection.setup.timeout.ms").as_deref(), Some("5000"));
        config.kafka.properties.insert("socket.timeout.ms".to_owned(), "60000".to_owned());
        assert_eq!(said(&config, "socket.timeout.ms").as_deref(), Some("60000"));
        client_config(&config).create_native_config().expect("librdkafka takes all of it");
    }
}
