//! What every row stands on: a Kafka, a topic with a market on it, a gateway, and clients that check every tick.

use crate::client::{Client, Ends, Life, Order, Return, Spec, Wish};
use crate::gateway::{Gateway, LOOK_EVERY, Options, SOON};
use crate::kafka::{Control, Kafka};
use crate::load::{Bad, Load, Market, symbol};
use crate::relay::{self, Relay};
use crate::report::Outcome;
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tickgate_checker::judge::{Judgement, judge};
use tickgate_checker::log::Log;
use tickgate_checker::tally::Tally;
use tickgate_checker::transcript::Heard;
use tickgate_load::clock::now_ns;
use tickgate_protocol::Channel;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// How long clients have, once everything is written, to get the last of it.
const LAST_PATIENCE: Duration = Duration::from_secs(20);
/// Longest time to read a topic to its end.
const READ_PATIENCE: Duration = Duration::from_secs(60);

/// What a run gives to all its rows.
#[derive(Debug, Clone)]
pub struct Run {
    /// The gateway's program.
    pub program: PathBuf,
    /// Address of an Apache Kafka, if the rows that can are to use one.
    pub apache: Option<String>,
    /// What kills and starts its nodes, if it has three.
    pub control: Option<Control>,
    /// Whether rows take the time that the matrix says, or a shorter one.
    pub is_full: bool,
    /// Of everything that is left to chance.
    pub seed: u64,
}

impl Run {
    /// One of two values: of a full run, or of a short one.
    pub fn pick<T>(&self, full: T, short: T) -> T {
        if self.is_full { full } else { short }
    }
}

/// What a row's world is like.
#[derive(Debug, Clone)]
pub struct Setup {
    pub partitions: u32,
    pub symbols: usize,
    pub rate_per_s: u32,
    pub clients: usize,
    /// So many of them, the first, have a thread of their own: what they wait for then is not the others' work.
    pub apart: usize,
    /// Symbols of which a client asks for trades and quotes.
    pub symbols_per_client: usize,
    pub options: Options,
    /// Largest record that Kafka has to take.
    pub record_bytes_max: usize,
    pub bad: Vec<Bad>,
    /// What clients do whose session is ended.
    pub returns: Option<Return>,
    /// Whether the row needs the embedded broker.
    pub needs_embedded: bool,
    /// Nodes of the mock that the row needs, whose leaders move; 0 for another Kafka.
    pub mock_nodes: i32,
    /// How long a byte is on its way between gateway and Kafka, in each direction: through a relay.
    pub kafka_delay: Option<Duration>,
    /// Panics that the row asks for.
    pub panics: u64,
    /// Settings of the topic.
    pub topic: Vec<(&'static str, &'static str)>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            partitions: 4,
            symbols: 200,
            rate_per_s: 2_000,
            clients: 100,
            apart: 0,
            symbols_per_client: 10,
            options: Options::default(),
            record_bytes_max: 1 << 20,
            bad: Vec::new(),
            returns: None,
            needs_embedded: false,
            mock_nodes: 0,
            kafka_delay: None,
            panics: 0,
            topic: Vec::new(),
        }
    }
}

/// A world.
pub struct World {
    pub context: Run,
    pub setup: Setup,
    pub kafka: Arc<Kafka>,
    /// What the gateway connects to: Kafka, or the relay before it.
    pub brokers: String,
    pub topic: String,
    pub gateway: Gateway,
    pub clients: Vec<Client>,
    pub load: Option<Load>,
    /// What was read of the topic so far.
    log: Log,
    epoch: Arc<AtomicU32>,
    /// Whether anything was written yet.
    is_written: Arc<AtomicBool>,
    /// Between gateway and Kafka, if anything is.
    relay: Option<Relay>,
    /// Where some clients live.
    beside: Option<Beside>,
}

/// A runtime with a thread of its own. Dropped, it ends.
struct Beside {
    handle: Handle,
    _end: oneshot::Sender<()>,
}

impl Beside {
    fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (handle, (end, ended)) = (runtime.handle().clone(), oneshot::channel());
        let live = move || drop(runtime.block_on(ended));
        std::thread::Builder::new().name("beside".to_owned()).spawn(live)?;
        Ok(Self { handle, _end: end })
    }
}

/// What is left of a world.
pub struct Remains {
    pub lives: Vec<Life>,
    /// The verdict on each.
    pub judgements: Vec<Judgement>,
    pub log: Log,
}

impl World {
    /// Kafka, topic and gateway; nobody is connected and nothing is written.
    pub async fn empty(context: &Run, setup: Setup) -> Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let (kafka, brokers, relay) = reach(context, &setup).await?;
        let topic = format!("faults-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        kafka.create_topic(&topic, setup.partitions as i32, &setup.topic).await?;
        let epoch = Arc::new(AtomicU32::new(kafka.epoch(&topic)?));
        let gateway = Gateway::start(&context.program, &brokers, &topic, &setup.options).await?;
        gateway.ready().await?;
        Ok(Self {
            context: context.clone(),
            setup,
            kafka: Arc::new(kafka),
            brokers,
            topic,
            gateway,
            clients: Vec::new(),
            load: None,
            log: Log::new(),
            epoch,
            is_written: Arc::default(),
            relay,
            beside: None,
        })
    }

    /// All of it, running: every client gets ticks.
    pub async fn start(context: &Run, setup: Setup) -> Result<Self> {
        let mut world = Self::empty(context, setup).await?;
        let (apart, others) = (0..world.setup.apart, world.setup.apart..world.setup.clients);
        let mut clients = Vec::with_capacity(world.setup.clients);
        if !apart.is_empty() {
            let _inside = world.beside.insert(Beside::start()?).handle.enter();
            clients.extend(apart.map(|number| Client::start(world.spec(number))));
        }
        clients.extend(others.map(|number| Client::start(world.spec(number))));
        world.clients = clients;
        world.subscribed(0..world.clients.len()).await?;
        world.write()?;
        world.flowing(now_ns(), 0..world.clients.len()).await?;
        Ok(world)
    }

    /// Begins to write.
    pub fn write(&mut self) -> Result<()> {
        let Setup { partitions, symbols, rate_per_s, record_bytes_max, .. } = self.setup;
        let market = Market {
            brokers: self.kafka.brokers(),
            topic: self.topic.clone(),
            partitions,
            symbols,
            rate_per_s,
            record_bytes_max,
        };
        self.is_written.store(true, Ordering::Relaxed);
        self.load = Some(Load::start(market, self.setup.bad.clone())?);
        Ok(())
    }

    /// Connections between gateway and Kafka that went through the relay.
    pub fn links(&self) -> u64 {
        self.relay.as_ref().map_or(0, |relay| relay.links() as u64)
    }

    /// The market.
    pub fn load(&self) -> Result<&Load> {
        self.load.as_ref().context("the market is closed")
    }

    /// An ordinary client.
    pub fn spec(&self, number: usize) -> Spec {
        let Setup { symbols, symbols_per_client, returns, .. } = self.setup;
        let first = number * symbols_per_client;
        let names: Vec<String> = (first..first + symbols_per_client).map(|at| symbol(at % symbols)).collect();
        let wish = |channel| Wish { channel, symbols: names.clone(), on_slow: None };
        let (kafka, topic) = (self.kafka.clone(), self.topic.clone());
        let (epoch, is_written) = (self.epoch.clone(), self.is_written.clone());
        let ends: Ends = Arc::new(move || {
            if is_written.load(Ordering::Relaxed) {
                kafka.ends(&topic, epoch.load(Ordering::Relaxed))
            } else {
                Some(Vec::new())
            }
        });
        Spec {
            url: self.gateway.url(),
            wishes: [Channel::Trades, Channel::Quotes].map(wish).into(),
            returns,
            recv_buffer_bytes: None,
            local: None,
            trust: self.gateway.trust(),
            token: self.setup.options.issuer.as_ref().map(|issuer| issuer.long(number)),
            ends,
            seed: self.context.seed.wrapping_add(number as u64),
        }
    }

    /// Waits until these clients have a session with their subscriptions.
    pub async fn subscribed(&self, clients: Range<usize>) -> Result<()> {
        let all = &self.clients[clients];
        until("every client is subscribed", || {
            all.iter().all(|c| c.seen.is_subscribed.load(Ordering::Relaxed))
        })
        .await
    }

    /// Waits until these clients got ticks after `since_ns`; says how long after it the last of them did, in seconds.
    pub async fn flowing(&self, since_ns: i64, clients: Range<usize>) -> Result<f64> {
        let all = &self.clients[clients];
        let flows = |client: &Client| client.seen.event_ns.load(Ordering::Relaxed) > since_ns;
        let started = Instant::now();
        while !all.iter().all(flows) {
            ensure!(
                started.elapsed() < SOON,
                "{} of {} clients get nothing for {SOON:?}; the gateway's log:\n{}",
                all.iter().filter(|client| !flows(client)).count(),
                all.len(),
                self.gateway.log_tail()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok((now_ns() - since_ns) as f64 / 1e9)
    }

    /// Tells these clients something.
    pub async fn tell(&self, clients: impl IntoIterator<Item = usize>, order: impl Fn() -> Order) {
        for number in clients {
            self.clients[number].tell(order()).await;
        }
    }

    /// Adds what the topic holds by now to the truth: before something takes it away.
    pub async fn read_log(&mut self) -> Result<()> {
        let (mut log, brokers) = (std::mem::take(&mut self.log), self.kafka.brokers());
        let (topic, epoch) = (self.topic.clone(), self.epoch.load(Ordering::Relaxed));
        let read = move || {
            tickgate_checker::kafka::read(&mut log, &brokers, &topic, epoch, READ_PATIENCE).map(|()| log)
        };
        self.log = tokio::task::spawn_blocking(read).await??;
        Ok(())
    }

    /// Stops the market and adds all that it wrote to the truth; no last tick is written, as more may follow. Says how
    /// many bad records there were, by reason.
    pub async fn stop_load(&mut self) -> Result<BTreeMap<&'static str, u64>> {
        let load = self.load.take().context("the market is closed")?;
        let bad = load.stop(false).await?;
        self.read_log().await?;
        Ok(bad)
    }

    /// Pauses the market, and once all that was handed to it stands in the topic and is known, takes it away.
    pub async fn take_away_all(&mut self) -> Result<()> {
        self.load()?.pause(true);
        let started = Instant::now();
        let highs = loop {
            let load = self.load()?;
            let (is_resting, written) = (load.is_resting(), load.written());
            let highs = self.kafka.highs(&self.topic).await?;
            let stand: i64 = highs.iter().map(|(_, high)| high).sum();
            if is_resting && stand as u64 == written {
                break highs;
            }
            ensure!(started.elapsed() < SOON, "{stand} of {written} records are written after {SOON:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        };
        self.read_log().await?;
        self.kafka.take_away(&self.topic, &highs).await
    }

    /// The truth as far as it was read.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Takes note that the topic is another one of the same name.
    pub fn topic_is_new(&self) -> Result<()> {
        self.epoch.store(self.kafka.epoch(&self.topic)?, Ordering::Relaxed);
        Ok(())
    }

    /// Ends it: the last ticks are written and awaited, everything heard is judged, and the gateway is stopped.
    pub async fn finish(mut self, outcome: &mut Outcome) -> Result<Remains> {
        if self.load.is_none() {
            self.write()?;
        }
        if let Some(load) = self.load.take() {
            load.stop(true).await?;
        }
        let wanted = 2 * self.setup.symbols_per_client as u64;
        let has_all = |client: &Client| {
            let seen = &client.seen;
            !seen.is_subscribed.load(Ordering::Relaxed) || seen.finished.load(Ordering::Relaxed) >= wanted
        };
        let started = Instant::now();
        while !self.clients.iter().all(has_all) && started.elapsed() < LAST_PATIENCE {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.read_log().await?;
        let mut lives = Vec::new();
        for client in std::mem::take(&mut self.clients) {
            lives.push(client.finish().await?);
        }
        let is_running = self.gateway.is_running();
        let metrics = if is_running { self.gateway.metrics().await.ok() } else { None };
        if let Some(metrics) = &metrics {
            outcome.exactly(
                "books that do not close",
                metrics.count("tickgate_books_imbalance_events", ""),
                0,
            );
        }
        if is_running {
            self.gateway.signal(Signal::TERM)?;
            let ended = self.gateway.ended().await?;
            outcome.gate("exit of the gateway", ended, "exit status: 0", ended.success());
        }
        outcome.exactly("panics", self.gateway.panics(), self.setup.panics);
        let log = std::mem::take(&mut self.log);
        let judged = tokio::task::spawn_blocking(move || {
            let judgements: Vec<Judgement> = lives.iter().map(|life| judge(&log, &life.transcript)).collect();
            Remains { lives, judgements, log }
        });
        let remains = judged.await?;
        note(outcome, &remains);
        Ok(remains)
    }
}

/// The Kafka of a world, what its gateway connects to, and the relay between them if there is one.
async fn reach(context: &Run, setup: &Setup) -> Result<(Kafka, String, Option<Relay>)> {
    if setup.mock_nodes > 0 {
        let kafka = Kafka::mock(setup.mock_nodes)?;
        let brokers = kafka.brokers();
        return Ok((kafka, brokers, None));
    }
    let relay = match setup.kafka_delay {
        Some(delay) => {
            let relay = Relay::listen(relay::WIDE).await?;
            relay.all(|mode| mode.delay = delay);
            Some(relay)
        }
        None => None,
    };
    let host: IpAddr = match &setup.options.namespace {
        Some(namespace) => namespace.here().into(),
        None => Ipv4Addr::LOCALHOST.into(),
    };
    let is_apart = relay.is_some() || setup.options.namespace.is_some();
    let apache = context.apache.as_ref().filter(|_| !setup.needs_embedded);
    let (kafka, far) = match (apache, &context.control) {
        (Some(address), _) if !is_apart => {
            return Ok((Kafka::Apache(address.clone()), address.clone(), None));
        }
        // One that is up tells everybody its address on loopback.
        (Some(_), Some(control)) => Kafka::apart(control, host, relay.as_ref().map(Relay::address)).await?,
        _ => {
            let kafka = Kafka::embedded_at(host, setup.record_bytes_max)?;
            if let Some(relay) = &relay {
                kafka.broker()?.faults().relayed(relay::FROM.into(), relay.address());
            }
            let address = kafka.brokers().parse().context("the address of one broker")?;
            (kafka, address)
        }
    };
    let Some(relay) = relay else { return Ok((kafka, far.to_string(), None)) };
    relay.lead_to(far);
    Ok((kafka, relay.address().to_string(), Some(relay)))
}

/// The clients' verdicts, which every row gates on.
fn note(outcome: &mut Outcome, remains: &Remains) {
    let (mut judgement, mut tally) = (Judgement::default(), Tally::default());
    remains.judgements.iter().for_each(|one| judgement.add(one.clone()));
    remains.lives.iter().for_each(|life| tally.add(&life.tally));
    let counts = judgement.counts;
    outcome.counts = counts;
    outcome.at_least("ticks offered", counts.offered, 1);
    let causes = remains.gaps();
    if !causes.is_empty() {
        outcome.show("gaps told, by cause", format!("{causes:?}"));
    }
    outcome.exactly("faults against the log", counts.faults(), 0);
    outcome.exactly("faults against the protocol", tally.violations(), 0);
    if counts.faults() > 0 {
        outcome.failures.push(format!("{counts:?}"));
        let unannounced = judgement.missing.iter().filter(|missing| !missing.is_announced);
        outcome.failures.extend(unannounced.take(5).map(ToString::to_string));
        outcome.failures.extend(judgement.samples);
    }
    if tally.violations() > 0 {
        outcome.failures.extend(tally.samples.iter().cloned());
    }
}

impl Remains {
    /// Ends of sessions that nobody wanted, by close code, over all clients.
    pub fn closes(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for (code, count) in self.lives.iter().flat_map(|life| &life.closes) {
            *all.entry(code.clone()).or_default() += count;
        }
        all
    }

    /// Gaps that were told, by cause, over all clients.
    fn gaps(&self) -> BTreeMap<&'static str, u64> {
        let mut all = BTreeMap::new();
        let sessions = self.lives.iter().flat_map(|life| &life.transcript.sessions);
        for heard in sessions.flat_map(|session| &session.heard) {
            if let Heard::Gap { gap, .. } = heard {
                *all.entry(gap.cause.name()).or_default() += 1;
            }
        }
        all
    }

    /// Attempts to connect that failed, by reason, over all clients.
    pub fn failures(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for (reason, count) in self.lives.iter().flat_map(|life| &life.failures) {
            *all.entry(reason.clone()).or_default() += count;
        }
        all
    }

    /// How many there were.
    pub fn closed(&self) -> u64 {
        self.closed_of(0..self.lives.len())
    }

    /// How many there were of these clients.
    pub fn closed_of(&self, clients: Range<usize>) -> u64 {
        self.lives[clients].iter().flat_map(|life| life.closes.values()).sum()
    }

    /// A quantile of the latencies of these clients in a span of time, in milliseconds.
    pub fn latency_ms(&self, clients: Range<usize>, span_ns: (i64, i64), quantile: f64) -> f64 {
        let of = self.lives[clients].iter().flat_map(|life| &life.latencies);
        let mut all: Vec<u32> =
            of.filter(|(at, _)| (span_ns.0..span_ns.1).contains(at)).map(|(_, us)| *us).collect();
        all.sort_unstable();
        let at = ((all.len() as f64 * quantile) as usize).min(all.len().saturating_sub(1));
        all.get(at).map_or(f64::NAN, |us| f64::from(*us) / 1_000.0)
    }
}

/// Waits until something holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let started = Instant::now();
    while !holds() {
        ensure!(started.elapsed() < SOON, "not within {SOON:?}: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// The same for what has to be asked.
pub async fn until_async(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Result<()> {
    let started = Instant::now();
    while !holds().await {
        ensure!(started.elapsed() < SOON, "not within {SOON:?}: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}
