//! The Kafka side: reads every partition of the configured topics and hands each shard the events it asked for.
//!
//! One thread reads: take what librdkafka has ready, decode and encode it in the [`engine`], push one batch to
//! every shard that has something coming. It never waits for a shard, and requests from shards are answered in between.
//! A second thread, the tracker, asks the brokers what `assign()` does not tell. For those who see everything late there is
//! one such pair more for each delay, which reads the same [`late`].

pub mod activity;
pub mod book;
mod dead_letter;
pub mod directory;
pub mod dispatch;
pub mod engine;
mod intake;
pub mod late;
pub mod native;
mod partitions;
mod patterns;
pub mod peaks;
pub mod request;
pub mod ring;
pub mod seen;
pub mod symbols;
pub mod topics;
mod tracker;

use crate::clock;
use crate::config::Config;
use crate::config::delays::Tier;
use crate::event::{Batch, Item};
use crate::latency::{Recorder, Stage};
use crate::log_limit::{LogLimit, Verdict};
use crate::stats::{Board, Indispensable, KafkaClient};
use dead_letter::DeadLetters;
use directory::Directory;
use dispatch::Outlet;
use engine::{Engine, EngineConfig};
use intake::{Intake, Taken};
use late::Late;
use native::{RecordQueue, Waker};
use partitions::Partitions;
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::Message;
use request::{Mailbox, Request};
use seen::Seen;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tickgate_protocol::Position;
use tickgate_protocol::record::RecordDecoder;
use topics::Topics;
use tracker::{Asking, Change, Look, Tracker, Why};
pub(crate) use tracker::{epoch_of, look_up, no_leader, offsets};

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

/// What librdkafka tells beside records.
struct Context {
    broker_errors: Arc<AtomicU64>,
    logs: Mutex<LogLimit>,
    board: Arc<Board>,
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

    fn stats_raw(&self, text: &[u8]) {
        // Only the live feed's client is set to write any.
        self.board.kafka[KafkaClient::Feed as usize].put(text);
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
    /// Since when records are there: the live feed says so, the others ask. Absent when there are no others.
    pub seen: Option<Arc<Seen>>,
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
    tier: Tier,
    consumer: Arc<BaseConsumer<Context>>,
    queue: RecordQueue<Context>,
    waker: Arc<Waker<Context>>,
    broker_errors: Arc<AtomicU64>,
}

/// Creates the Kafka client; nothing is read yet.
///
/// # Errors
/// When librdkafka refuses the configuration.
pub fn prepare(config: &Config, tier: Tier, board: Arc<Board>) -> KafkaResult<Prepared> {
    let broker_errors = Arc::new(AtomicU64::new(0));
    let logs = Mutex::new(LogLimit::new(CLIENT_LOGS_PER_10_S));
    let context = Context { broker_errors: broker_errors.clone(), logs, board };
    let consumer: BaseConsumer<Context> = tier_config(config, tier).create_with_context(context)?;
    let consumer = Arc::new(consumer);
    let queue = RecordQueue::new(consumer.clone(), RECORDS_PER_TAKE)
        .ok_or_else(|| KafkaError::ClientCreation("no memory for a queue".to_owned()))?;
    let waker = Arc::new(queue.waker());
    Ok(Prepared { tier, consumer, queue, waker, broker_errors })
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
        let tier = self.tier;
        let asking = tier_config(&config, tier).create_with_context(Asking(parts.board.clone()))?;
        let wake = {
            let waker = self.waker.clone();
            Box::new(move || waker.wake())
        };
        let tracker = Tracker::new(
            asking,
            self.consumer.clone(),
            config.kafka.clone(),
            config.feeds.clone(),
            tier,
            changes_in,
            wake,
        );
        let dead_letters = match config.kafka.dead_letter_topic.as_str() {
            "" => None,
            // The live feed has written it there.
            _ if !tier.is_live() => None,
            topic => Some(DeadLetters::new(producer_config(&config), topic)?),
        };
        let waker = self.waker.clone();
        let [for_tracker, for_reader] = [(); 2].map(|()| Indispensable(parts.board.clone()));
        let reader = Reader::new(self, parts, changes, looks, stop.clone(), dead_letters);
        let (feed_name, tracker_name) = match tier.delayed_s() {
            None => ("feed".to_owned(), "feed-tracker".to_owned()),
            // Linux shows fifteen characters.
            Some(delay_s) => (format!("feed-{delay_s}s"), format!("tracker-{delay_s}s")),
        };
        let threads = vec![
            std::thread::Builder::new().name(tracker_name).spawn(move || {
                let _indispensable = for_tracker;
                tracker.run(looks_out);
            })?,
            std::thread::Builder::new().name(feed_name).spawn(move || {
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

/// The same for a tier.
fn tier_config(config: &Config, tier: Tier) -> ClientConfig {
    let mut client = client_config(config);
    if !tier.is_live() {
        return late::config(client);
    }
    client.set("statistics.interval.ms", config.kafka.statistics_ms.to_string());
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
    tier: Tier,
    consumer: Arc<BaseConsumer<Context>>,
    /// Where the records of all partitions arrive, unless they are read late.
    queue: RecordQueue<Context>,
    late: Option<Late>,
    seen: Option<Arc<Seen>>,
    broker_errors: Arc<AtomicU64>,
    config: Arc<Config>,
    board: Arc<Board>,
    mailboxes: Vec<Arc<Mailbox>>,
    changes: mpsc::Receiver<Change>,
    stop: Arc<AtomicBool>,
    intake: Intake,
    topics: Arc<Topics>,
    feeds_json: Arc<str>,
    housekept_ms: u64,
    /// What shards are told of partitions that were not met yet.
    unknown: Position,
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
        let Parts { config, board, seen, mailboxes, inboxes, directory, topics } = parts;
        let Prepared { tier, consumer, queue, waker: _, broker_errors } = prepared;
        let mut engine = Engine::with_directory(EngineConfig::of(&config), inboxes.len(), directory);
        engine.is_complete = false;
        engine.is_late = !tier.is_live();
        let late = match &seen {
            Some(seen) if !tier.is_live() => Some(Late::new(&config, tier, seen.clone(), consumer.clone())),
            _ => None,
        };
        let intake = Intake {
            engine,
            decoder: RecordDecoder::new(config.kafka.record_bytes_max),
            partitions: Partitions::new(&config.feeds, clock::mono_ms()),
            recorder: Recorder::new(),
            dead_letters,
            looks,
            outlets: inboxes
                .into_iter()
                .enumerate()
                .map(|(shard, inbox)| Outlet::new(shard, inbox, config.session.inbox_bytes_max))
                .collect(),
            is_live: tier.is_live(),
            bad_logs: 0,
            bad_logs_since_ms: 0,
            sent_bytes: 0,
        };
        Self {
            tier,
            consumer,
            queue,
            late,
            seen,
            broker_errors,
            intake,
            topics,
            feeds_json: Arc::from(""),
            housekept_ms: 0,
            unknown: crate::shard::cursor::unknown(tier),
            config,
            board,
            mailboxes,
            changes,
            stop,
        }
    }

    fn run(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            while let Ok(change) = self.changes.try_recv() {
                self.change(change);
            }
            let Intake { engine, outlets, .. } = &mut self.intake;
            let is_more = answer_requests(&self.mailboxes, outlets, engine);
            let now_ms = clock::mono_ms();
            let due_ms = engine.next_due_ms();
            let wait_ms = match due_ms {
                _ if is_more => 0,
                None => WAIT_MS,
                Some(due_ms) => due_ms.saturating_sub(now_ms).min(WAIT_MS),
            };
            self.read(wait_ms);
            let now_ms = clock::mono_ms();
            self.intake.engine.fire(now_ms);
            if now_ms >= self.housekept_ms + HOUSEKEEPING_MS {
                self.housekeeping(now_ms);
            }
            self.intake.send();
            dispatch::give_way(&self.intake.outlets);
        }
        if let Some(letters) = &self.intake.dead_letters {
            letters.flush();
        }
        self.publish();
    }

    fn read(&mut self, wait_ms: u64) {
        let Self { queue, late, intake, .. } = self;
        if let Some(late) = late {
            let wait_ms = wait_ms.min(late.read(intake));
            // Nothing arrives here: it is the wait that a shard may end.
            queue.take(wait_ms as i32);
            return;
        }
        let records = queue.take(wait_ms as i32);
        if records.is_empty() {
            return;
        }
        let taken = Taken { ingest_ns: clock::wall_ns(), now_ms: clock::mono_ms() };
        for record in records.iter() {
            intake.take(&record, taken);
        }
        let passed_ns = clock::wall_ns() - taken.ingest_ns;
        intake.recorder.record_n(Stage::IngestToDecoded, passed_ns, records.len() as u64);
    }

    fn change(&mut self, change: Change) {
        let Self { intake, queue, late, .. } = self;
        let Intake { engine, partitions, .. } = intake;
        if let Change::Recreated(feed) = change {
            late.iter_mut().for_each(|late| late.forget(feed));
            if let Some(epoch) = partitions.epoch(feed) {
                engine.forget(epoch);
                self.topics.remove(epoch);
                // Whoever notices first makes room: what is left of the old one is read by nobody any more.
                self.seen.iter().for_each(|seen| seen.forget(epoch));
            }
        }
        let queue = match (late, &change) {
            (Some(late), &Change::Assign { feed, partition, epoch, .. }) => {
                let topic = &self.config.feeds[feed].topic;
                let Some(line) = late.line(feed, topic, (epoch, partition)) else {
                    engine.totals.partitions_refused += 1;
                    return;
                };
                line
            }
            _ => queue,
        };
        let lost = partitions.change(&change, &self.consumer, queue, &mut engine.totals);
        if let Change::Assign { feed, partition, high, why, .. } = change
            && let Some(next) = partitions.next(feed, partition)
        {
            engine.begin(next);
            self.topics.add(next.epoch, &self.config.feeds[feed].topic, partition);
            if let Some(seen) = self.seen.as_ref().filter(|_| self.tier.is_live()) {
                // Of a topic that was found later, all came since.
                let old_end = if why == Why::Start { high } else { 0 };
                seen.begin(Position { offset: old_end, ..next }, clock::mono_ms());
            }
        }
        if let Some(upto) = lost {
            engine.lost(upto);
        }
        engine.is_complete = partitions.are_all_looked_for();
        self.topics.set_complete(engine.is_complete);
    }

    fn housekeeping(&mut self, now_ms: u64) {
        self.housekept_ms = now_ms;
        let Intake { engine, partitions, looks, .. } = &mut self.intake;
        for _ in 0..CLIENT_EVENTS {
            // Errors and statistics come out here. A record would be one that missed its queue: read the partition
            // again from where the queue ended.
            if let Some(Ok(record)) = self.consumer.poll(std::time::Duration::ZERO)
                && let Some((_, partition)) = partitions.find(record.topic(), record.partition())
            {
                let (topic, partition_id) = (record.topic(), record.partition());
                tracing::error!(topic, partition = partition_id, "a record missed its queue");
                partition.is_out_of_range = true;
            }
        }
        for look in partitions.looks() {
            if looks.try_send(look).is_err() {
                break;
            }
        }
        let mut positions = partitions.positions();
        if let Some(seen) = self.seen.as_ref().filter(|_| self.tier.is_live()) {
            seen.look(&positions, now_ms);
        }
        self.topics.set_ends(&positions);
        if !partitions.are_all_met() {
            positions.insert(0, self.unknown);
        }
        engine.tell_positions(positions);
        let feeds = partitions.feeds(now_ms);
        let json = serde_json::to_string(&feeds).unwrap_or_default();
        if *json != *self.feeds_json {
            self.feeds_json = json.into();
            let feeds_json = self.feeds_json.clone();
            engine.broadcast(|| Item::Feeds(feeds_json.clone()));
        }
        engine.totals.feeds = feeds;
        self.intake.tell_bad(now_ms);
        self.publish();
    }

    fn publish(&mut self) {
        let Intake { engine, partitions, dead_letters, recorder, .. } = &mut self.intake;
        let totals = &mut engine.totals;
        if let Some(letters) = dead_letters {
            (totals.dead_lettered, totals.dead_letters_lost) = letters.totals();
        }
        totals.broker_errors = self.broker_errors.load(Ordering::Relaxed);
        totals.partitions = partitions.totals();
        totals.peaks = partitions.peaks(clock::mono_ms());
        totals.not_ready_because = partitions.not_ready(&self.config.feeds).unwrap_or_default();
        totals.ready = totals.not_ready_because.is_empty();
        self.board.feed_of(self.tier.number).clone_from(totals);
        if self.tier.is_live() {
            recorder.publish(&self.board, self.board.thread_count());
        }
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
