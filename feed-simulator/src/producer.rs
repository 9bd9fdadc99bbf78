//! Sends a stream of ticks into Kafka, on schedule.
//!
//! The loop is open: a tick is sent when it is due, however the broker is doing. What is late is sent at once, nothing is skipped, and
//! the lateness is reported. librdkafka's queue bounds what is in flight; when it is full the sender waits, and says so.

mod topic;

use crate::TimedTick;
use crate::pacing::{Schedule, Speed};
use crate::replay::ReplayError;
use crate::report::Report;
use hdrhistogram::Histogram;
use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use serde::Deserialize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longest sleep before the stop flag is looked at again.
const STOP_CHECK: Duration = Duration::from_millis(50);
/// How long the last deliveries are waited for before the clock and the stop flag are looked at again.
const FLUSH_SLICE: Duration = Duration::from_millis(100);
/// Pause before a record is offered again to a full queue.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(1);
/// Lateness beyond an hour counts as an hour.
const LATENESS_MAX_NS: u64 = 3_600_000_000_000;
/// Pause between two warnings about the same broken connection.
const WARN_EVERY: Duration = Duration::from_secs(5);
/// What nobody can read, and how: not JSON, a trade without a symbol, and a type that there is not.
pub const UNREADABLE: [&[u8]; 3] =
    [b"certainly not JSON", b"{\"type\":\"trade\"}", b"{\"type\":\"weather\",\"symbol\":\"SUN\"}"];
/// In place of the time at which a record was due.
const BAD: usize = usize::MAX;
/// How far behind its schedule a run may end to send what was due before `duration`.
const CATCH_UP_NS: u64 = 500_000_000;

/// Where records go and how.
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    /// Bootstrap servers, `host:port,…`.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// Partitions of the topic when it has to be created; 0 = it must exist.
    pub partitions: u32,
    /// Copies of each partition when the topic has to be created.
    pub replication: u32,
    /// How fast the stream's time passes.
    pub speed: Speed,
    /// Ends the run after this time, whatever is left of the stream.
    pub duration: Option<Duration>,
    /// What `event_ns` of the records says.
    pub event_clock: EventClock,
    /// How long librdkafka collects records before it sends a batch, in milliseconds.
    pub linger_ms: u32,
    /// `acks` of the producer: `0`, `1` or `all`. With `all` the producer is idempotent: what is sent again after a broken
    /// connection is neither doubled nor out of order.
    pub acks: String,
    /// How long to wait for a broker at the start.
    pub connect_timeout: Duration,
    /// How long the last records may take to be delivered at the end.
    pub flush_timeout: Duration,
    /// The same once the run was stopped.
    pub stop_timeout: Duration,
    /// After so many ticks each, a record that nobody can read; 0 never.
    pub bad_every: u64,
    /// Further librdkafka properties; they win over everything above.
    pub properties: Vec<(String, String)>,
}

impl ProducerConfig {
    /// Real time, 4 partitions created when missing, 1 ms of linger, idempotent, no end.
    pub fn new(brokers: impl Into<String>, topic: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            topic: topic.into(),
            partitions: 4,
            replication: 1,
            speed: Speed::Times(1.0),
            duration: None,
            event_clock: EventClock::Recorded,
            linger_ms: 1,
            acks: "all".to_owned(),
            connect_timeout: Duration::from_secs(10),
            flush_timeout: Duration::from_secs(15),
            stop_timeout: Duration::from_secs(10),
            bad_every: 0,
            properties: Vec::new(),
        }
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "tickgate-sim")
            .set("linger.ms", self.linger_ms.to_string())
            .set("acks", &self.acks)
            .set("enable.idempotence", if self.acks == "all" { "true" } else { "false" })
            // What may be in flight: enough for a second of a fierce burst, and a bound on memory.
            .set("queue.buffering.max.messages", "200000")
            .set("queue.buffering.max.kbytes", "65536")
            .set("message.max.bytes", "8388608")
            .set("message.timeout.ms", "30000")
            .set("reconnect.backoff.max.ms", "1000")
            // Says whether an idempotent producer has its id; nothing else of it is looked at.
            .set("statistics.interval.ms", "100");
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config
    }
}

/// What the `event_ns` of a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventClock {
    /// The venue's time, as it was recorded or modelled.
    Recorded,
    /// The intended send time: a model plays the live market.
    Live,
}

/// What happened so far; read it from any thread while [`produce`] runs.
#[derive(Debug, Default)]
pub struct Progress {
    /// Whether a broker has answered, the topic is there, and the first record can be sent.
    pub connected: AtomicBool,
    /// Records given to the producer.
    pub sent: AtomicU64,
    /// Bytes of their values.
    pub bytes: AtomicU64,
    /// Records the broker has acknowledged.
    pub delivered: AtomicU64,
    /// Records that were refused or timed out.
    pub errors: AtomicU64,
    /// Times that a record had to wait because the producer's queue was full.
    pub queue_full: AtomicU64,
    /// Worst lateness so far: actual minus intended send time, in nanoseconds.
    pub late_max_ns: AtomicU64,
    /// When the newest record was due, in nanoseconds after the start.
    pub due_ns: AtomicU64,
    /// Records that nobody can read, sent on purpose; they count nowhere else, unless they fail.
    pub bad: AtomicU64,
    /// Of each record that was sent.
    lateness: Mutex<Lateness>,
}

impl Progress {
    /// How late each record was so far: actual minus intended send time, in nanoseconds.
    pub fn lateness(&self) -> Histogram<u64> {
        self.late().0.clone()
    }

    /// Held for as long as one value or one copy takes; whoever looks is the sender's only rival.
    fn late(&self) -> MutexGuard<'_, Lateness> {
        self.lateness.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Lateness(Histogram<u64>);

impl Default for Lateness {
    fn default() -> Self {
        Self(lateness_histogram())
    }
}

/// Why nothing, or not everything, was produced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProduceError {
    /// The properties are not what librdkafka accepts.
    #[error("Kafka client properties: {0}")]
    Config(String),
    /// No broker answered in time.
    #[error("no broker answers at {brokers} (waited {waited:?}): {reason}")]
    Unreachable {
        /// The bootstrap servers.
        brokers: String,
        /// How long it was tried.
        waited: Duration,
        /// The last thing the client said.
        reason: String,
    },
    /// The producer got no id, without which an idempotent one sends nothing.
    #[error("the brokers at {brokers} gave the producer no id (waited {waited:?}); --acks 1 does without")]
    NoProducerId {
        /// The bootstrap servers.
        brokers: String,
        /// How long it was tried.
        waited: Duration,
    },
    /// The topic is missing and could not, or was not to be, created.
    #[error("topic {topic}: {reason}")]
    Topic {
        /// Its name.
        topic: String,
        /// Why not.
        reason: String,
    },
    /// The stream to send broke off.
    #[error(transparent)]
    Source(#[from] ReplayError),
}

type Outbox = ThreadedProducer<Deliveries>;

/// Whether an idempotent producer has its id.
#[derive(Debug, Default)]
struct Readiness {
    ready: Mutex<bool>,
    changed: Condvar,
}

impl Readiness {
    /// Takes the client's statistics, as JSON.
    fn learn(&self, statistics: &[u8]) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if *ready {
            return;
        }
        *ready = serde_json::from_slice::<Statistics<'_>>(statistics)
            .is_ok_and(|all| all.eos.is_some_and(|eos| eos.idemp_state == "Assigned"));
        self.changed.notify_all();
    }

    /// Waits at most for `at_most`; whether it has its id now.
    fn wait(&self, at_most: Duration) -> bool {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(ready, at_most, |ready| !*ready);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The part of librdkafka's statistics that is looked at.
#[derive(Deserialize)]
struct Statistics<'a> {
    #[serde(borrow)]
    eos: Option<Eos<'a>>,
}

#[derive(Deserialize)]
struct Eos<'a> {
    idemp_state: &'a str,
}

/// How late the records were when the broker had confirmed them.
#[derive(Debug)]
struct Confirmed {
    /// When the schedule began; `None` where nothing has a schedule.
    start: Option<Instant>,
    lateness: Histogram<u64>,
}

/// Counts what becomes of the records.
struct Deliveries {
    progress: Arc<Progress>,
    last_error: Arc<Mutex<Option<String>>>,
    warned: Mutex<Option<Instant>>,
    readiness: Readiness,
    confirmed: Mutex<Confirmed>,
}

impl Deliveries {
    fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    fn confirmed(&self) -> MutexGuard<'_, Confirmed> {
        self.confirmed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, error: String) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        self.remember(reason.to_owned());
        if !self.progress.connected.load(Ordering::Relaxed) {
            // A broker that is only starting: told by whoever waits, and by the error when that was in vain.
            tracing::debug!(%error, reason, "Kafka connection");
            return;
        }
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            *warned = Some(Instant::now());
            tracing::warn!(%error, reason, "Kafka connection");
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.readiness.learn(statistics);
    }
}

impl ProducerContext for Deliveries {
    /// When the record was due, in nanoseconds after the start; [`BAD`] for one that nobody can read.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, due_ns: usize) {
        match result {
            Ok(_) if due_ns == BAD => 0,
            Ok(_) => {
                let mut confirmed = self.confirmed();
                if let Some(start) = confirmed.start {
                    let late_ns = (start.elapsed().as_nanos() as u64).saturating_sub(due_ns as u64);
                    confirmed.lateness.saturating_record(late_ns);
                }
                self.progress.delivered.fetch_add(1, Ordering::Relaxed)
            }
            Err((error, _)) => {
                self.remember(error.to_string());
                self.progress.errors.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}

/// Sends every tick of `source` when it is due, keyed by its symbol, until the source ends, the configured duration is over or
/// `stop` is set. Blocks the calling thread; the records still in flight at the end are waited for.
///
/// # Errors
/// When no broker can be reached, the topic is missing, or the source fails; records that could not be delivered are no error
/// but part of the report.
pub fn produce(
    source: impl Iterator<Item = Result<TimedTick, ReplayError>>,
    config: &ProducerConfig,
    progress: &Arc<Progress>,
    stop: &AtomicBool,
) -> Result<Report, ProduceError> {
    let last_error = Arc::new(Mutex::new(None));
    let context = Deliveries {
        progress: Arc::clone(progress),
        last_error: Arc::clone(&last_error),
        warned: Mutex::default(),
        readiness: Readiness::default(),
        confirmed: Mutex::new(Confirmed { start: None, lateness: lateness_histogram() }),
    };
    let client = config.client();
    let outbox = ThreadedProducer::from_config_and_context(&client, context)
        .map_err(|error| ProduceError::Config(error.to_string()))?;
    topic::prepare(&outbox, &client, config, &last_error, stop)?;
    progress.connected.store(true, Ordering::Relaxed);

    let schedule = Schedule::starting_now(config.speed);
    if config.speed != Speed::Max {
        outbox.context().confirmed().start = Some(schedule.start());
    }
    let mut sender = Sender {
        outbox,
        config,
        progress,
        stop,
        schedule,
        value: Vec::with_capacity(1024),
        end_ns: config.duration.map_or(u64::MAX, |duration| duration.as_nanos() as u64),
        sent_ns: 0,
    };
    let ended = sender.run(source);
    let sending_ns = sender.schedule.elapsed_ns();
    // Also after an error of the source: what was read before it is delivered.
    let undelivered = sender.flush();
    ended?;
    let confirmed = sender.outbox.context().confirmed().lateness.clone();
    let lateness = progress.lateness();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Ok(Report {
        topic: config.topic.clone(),
        brokers: config.brokers.clone(),
        speed: config.speed,
        bad_records: count(&progress.bad),
        records: count(&progress.sent),
        bytes: count(&progress.bytes),
        delivered: count(&progress.delivered),
        delivery_errors: count(&progress.errors) + undelivered,
        last_error: last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        queue_full: count(&progress.queue_full),
        due_s: count(&progress.due_ns) as f64 / 1e9,
        sent_s: sender.sent_ns as f64 / 1e9,
        elapsed_s: sending_ns as f64 / 1e9,
        late_p99_ns: lateness.value_at_quantile(0.99),
        late_max_ns: lateness.max(),
        confirmed_late_p99_ns: confirmed.value_at_quantile(0.99),
        confirmed_late_max_ns: confirmed.max(),
        stopped: stop.load(Ordering::Relaxed),
    })
}

fn lateness_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENESS_MAX_NS, 3).expect("bounds and digits are valid")
}

struct Sender<'a> {
    outbox: Outbox,
    config: &'a ProducerConfig,
    progress: &'a Progress,
    stop: &'a AtomicBool,
    schedule: Schedule,
    value: Vec<u8>,
    end_ns: u64,
    /// When the newest record was sent, in nanoseconds after the start.
    sent_ns: u64,
}

impl Sender<'_> {
    fn run(
        &mut self,
        source: impl Iterator<Item = Result<TimedTick, ReplayError>>,
    ) -> Result<(), ReplayError> {
        for timed in source {
            let mut timed = timed?;
            let Some(due_ns) = self.wait(timed.offset_ns) else {
                break;
            };
            let send_ns = self.schedule.wall_ns(due_ns);
            timed.tick.send_ns = Some(send_ns);
            if self.config.event_clock == EventClock::Live {
                timed.tick.event_ns = Some(send_ns);
            }
            self.value.clear();
            timed.tick.write_json(&mut self.value);
            if !self.send(&timed.tick.symbol, due_ns) {
                break;
            }
            self.sent_ns = self.schedule.elapsed_ns();
            let late_ns = self.sent_ns.saturating_sub(due_ns);
            self.progress.late().0.saturating_record(late_ns);
            if self.config.bad_every > 0
                && self.progress.sent.load(Ordering::Relaxed).is_multiple_of(self.config.bad_every)
                && !self.send_bad(&timed.tick.symbol)
            {
                break;
            }
            self.progress.late_max_ns.fetch_max(late_ns, Ordering::Relaxed);
            self.progress.due_ns.store(due_ns, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Waits until `offset_ns` is due and says when that was, in nanoseconds after the start; `None` ends the run.
    fn wait(&self, offset_ns: u64) -> Option<u64> {
        let due_ns = self.schedule.due_ns(offset_ns);
        if due_ns.is_some_and(|due_ns| due_ns >= self.end_ns) {
            // Nothing is left to send, but the run lasts as long as it was asked to.
            while !self.stopped() && !self.schedule.wait(self.end_ns, STOP_CHECK) {}
            return None;
        }
        let now_ns = self.schedule.elapsed_ns();
        if self.stopped() || now_ns >= self.end_ns.saturating_add(due_ns.map_or(0, |_| CATCH_UP_NS)) {
            return None;
        }
        let due_ns = due_ns.unwrap_or(now_ns);
        while !self.schedule.wait(due_ns, STOP_CHECK) {
            if self.stopped() {
                return None;
            }
        }
        Some(due_ns)
    }

    /// Sends the record; `false` ends the run.
    fn send(&mut self, key: &str, due_ns: u64) -> bool {
        let due_ns = usize::try_from(due_ns).unwrap_or(BAD).min(BAD - 1);
        let Some(is_taken) = self.offer(key, due_ns) else { return false };
        self.progress.sent.fetch_add(1, Ordering::Relaxed);
        if is_taken {
            self.progress.bytes.fetch_add(self.value.len() as u64, Ordering::Relaxed);
        }
        true
    }

    /// Sends a record that nobody can read; `false` ends the run.
    fn send_bad(&mut self, key: &str) -> bool {
        let before = self.progress.bad.load(Ordering::Relaxed);
        self.value.clear();
        self.value.extend_from_slice(UNREADABLE[before as usize % UNREADABLE.len()]);
        let is_over = self.offer(key, BAD).is_none();
        self.progress.bad.store(before + u64::from(!is_over), Ordering::Relaxed);
        !is_over
    }

    /// Gives the value to the producer, waiting while its queue is full: whether it took it. `None` ends the run.
    fn offer(&self, key: &str, opaque: usize) -> Option<bool> {
        let record = || BaseRecord::with_opaque_to(&self.config.topic, opaque).key(key).payload(&self.value);
        let mut offered = self.outbox.send(record());
        while let Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) = &offered {
            self.progress.queue_full.fetch_add(1, Ordering::Relaxed);
            if self.stopped() {
                return None;
            }
            std::thread::sleep(QUEUE_FULL_PAUSE);
            offered = self.outbox.send(record());
        }
        if let Err((error, _)) = &offered {
            tracing::debug!(%error, key, "record refused");
            self.outbox.context().remember(error.to_string());
            self.progress.errors.fetch_add(1, Ordering::Relaxed);
        }
        Some(offered.is_ok())
    }

    /// Waits for what is in flight; how many records were given up.
    fn flush(&self) -> u64 {
        let start = Instant::now();
        let mut stopped_at = None;
        // In slices, so that whoever stops the run now waits no longer than after a stop before.
        while self.outbox.flush(FLUSH_SLICE).is_err() {
            if self.stopped() {
                stopped_at.get_or_insert_with(Instant::now);
            }
            let is_over = |since: Instant, most: Duration| since.elapsed() >= most;
            if is_over(start, self.config.flush_timeout)
                || stopped_at.is_some_and(|at| is_over(at, self.config.stop_timeout))
            {
                return u64::try_from(self.outbox.in_flight_count()).unwrap_or(0);
            }
        }
        0
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
