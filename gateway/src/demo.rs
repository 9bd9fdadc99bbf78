//! `tickgate demo`: broker, simulated market, gateway and clients in one process, and a line a second to watch.

use anyhow::Context;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tickgate_broker::{Broker, BrokerConfig};
use tickgate_gateway::cli::DemoArgs;
use tickgate_gateway::clock;
use tickgate_gateway::config::{Config, FeedConfig};
use tickgate_gateway::log_filter::LogFilter;
use tickgate_gateway::server::{self, Bound, Running};
use tickgate_load::latency::human;
use tickgate_load::{LiveStats, Plan, fleet};
use tickgate_sim::model::{Model, ModelConfig, Preset};
use tickgate_sim::producer::{EventClock, ProducerConfig, Progress, produce};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

const TOPIC: &str = "ticks";
const PARTITIONS: i32 = 4;
/// Symbols that each client subscribes to.
const SYMBOLS_PER_CLIENT: usize = 10;
/// Time before latencies are shown: connections and snapshots are no steady state.
const WARMUP_MS: u64 = 2_000;

/// Runs the demo until its time is over or a signal comes.
///
/// # Errors
/// When a part cannot start, or when a client saw a loss that nothing announced.
pub fn run(args: &DemoArgs, log: &LogFilter) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stop = Arc::new(AtomicBool::new(false));
    let (stop_clients, clients_stopped) = watch::channel(false);
    let (mut interrupt, mut terminate) = runtime.block_on(async {
        anyhow::Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
    })?;

    let broker = Broker::start(BrokerConfig::default()).context("the embedded broker")?;
    broker.create_topic(TOPIC, PARTITIONS).context("the embedded broker")?;
    let gateway = start_gateway(args, &broker.bootstrap(), log)?;
    let (listen, admin) = (gateway.listen_addr(), gateway.admin_addr());

    let model_config =
        ModelConfig { symbols: args.symbols as usize, rate_per_s: f64::from(args.rate), seed: args.seed };
    let model = Model::new(Preset::UsEquities, model_config)?;
    let symbols = model.symbols().to_vec();
    let progress = Arc::new(Progress::default());
    let simulator = {
        let mut config = ProducerConfig::new(broker.bootstrap(), TOPIC);
        config.event_clock = EventClock::Live;
        let (progress, stop) = (progress.clone(), stop.clone());
        let source = model.map(Ok);
        std::thread::Builder::new()
            .name("simulator".to_owned())
            .spawn(move || produce(source, &config, &progress, &stop))?
    };
    let live = Arc::new(LiveStats::default());
    let clients = {
        let (plan, live) = (plan(args, listen, symbols), live.clone());
        std::thread::Builder::new().name("clients".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            anyhow::Ok(runtime.block_on(fleet::run(plan, clients_stopped, live))?)
        })?
    };

    introduce(args, &broker.bootstrap(), listen, admin);
    let started_ns = clock::mono_ns();
    let end_ns = args.duration.map(|duration| started_ns.saturating_add(duration.as_nanos() as u64));
    let mut line = Line::new(args.clients);
    runtime.block_on(async {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.tick().await;
        loop {
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                _ = second.tick() => line.show(&gateway, &progress, &live),
                () = gateway.broken() => anyhow::bail!("broken by a panic, which the log has said"),
            }
            if end_ns.is_some_and(|end_ns| clock::mono_ns() >= end_ns) || clients.is_finished() {
                break;
            }
        }
        Ok(())
    })?;
    line.end();

    stop.store(true, Ordering::Relaxed);
    let _ = stop_clients.send(true);
    let Ok(report) = clients.join() else { anyhow::bail!("the clients panicked") };
    let report = report.context("the clients")?;
    match simulator.join() {
        Ok(sent) => drop(sent.context("the simulator")?),
        Err(_) => anyhow::bail!("the simulator panicked"),
    }
    let totals = line.totals(&gateway);
    gateway.stop()?;
    broker.shutdown();
    println!("ended: {totals}");
    let lost: u64 = report.verification.get("all").map_or(0, |tally| tally.unannounced);
    anyhow::ensure!(lost == 0, "{lost} events were lost without a word: this is a bug, please report it");
    Ok(())
}

/// A gateway on the asked ports. A default port that is taken is replaced by a free one, and that is said: nobody asked
/// for it.
fn start_gateway(args: &DemoArgs, brokers: &str, log: &LogFilter) -> anyhow::Result<Running> {
    let mut config = Config { listen: args.listen, admin: args.admin, ..Config::default() };
    config.kafka.brokers = brokers.to_owned();
    config.feeds = vec![FeedConfig::for_topic(TOPIC)];
    config.limits.sessions_max = config.limits.sessions_max.max(args.clients as usize + 100);
    config.drain.spread_ms = 0;
    config.drain.grace_ms = 1_000;
    config.check()?;
    let bound: Bound = server::bind(config.clone()).or_else(|error| {
        let default = Config::default();
        for (address, default) in [(&mut config.listen, default.listen), (&mut config.admin, default.admin)] {
            if *address == default {
                address.set_port(0);
            }
        }
        match server::bind(config) {
            Ok(bound) => {
                eprintln!("{error}: free ports are taken instead");
                Ok(bound)
            }
            Err(_) => Err(error),
        }
    })?;
    bound.with_log(log.clone()).start()
}

fn plan(args: &DemoArgs, listen: SocketAddr, symbols: Vec<String>) -> Plan {
    let mut plan = Plan::new(format!("ws://{listen}/v1/stream"));
    plan.connections = args.clients as usize;
    plan.symbols_per_client = SYMBOLS_PER_CLIENT.min(symbols.len());
    plan.symbols = symbols;
    plan.ramp_ms = 1_000;
    plan.warmup_ms = WARMUP_MS;
    plan.measure_ms = args.duration.map_or(u64::from(u32::MAX), |d| d.as_millis() as u64 + 60_000);
    plan.drain_ms = 0;
    plan.gateway_pids = vec![std::process::id()];
    plan.lag_max_ms = u64::from(u32::MAX);
    plan
}

fn introduce(args: &DemoArgs, brokers: &str, listen: SocketAddr, admin: SocketAddr) {
    println!(
        "Tickgate demo: {} symbols, {} ticks/s, {} clients; everything in this one process, on loopback.",
        args.symbols, args.rate, args.clients
    );
    println!();
    println!("  connect       ws://{listen}/v1/stream");
    println!("  watch         {} watch --url ws://{listen}/v1/stream --symbols 'AAPL,MS*'", load_program());
    println!("  metrics       curl http://{admin}/metrics");
    println!("  slowest       curl -H 'Accept: text/plain' 'http://{admin}/sessions?top=5'");
    println!("  Kafka         {brokers}, topic {TOPIC}");
    match args.duration {
        Some(duration) => {
            println!("  ends          in {}, or with Ctrl-C", humantime::format_duration(duration))
        }
        None => println!("  ends          with Ctrl-C"),
    }
    println!();
}

/// How the load generator is called from here: it was built beside this program, unless only this one was.
fn load_program() -> String {
    let beside = std::env::current_exe().ok().map(|exe| exe.with_file_name("tickgate-load"));
    match beside.filter(|program| program.is_file()) {
        Some(program) => {
            let here = std::env::current_dir().unwrap_or_default();
            program.strip_prefix(&here).unwrap_or(&program).display().to_string()
        }
        None => "tickgate-load".to_owned(),
    }
}

/// The line that is written anew every second.
struct Line {
    clients: u32,
    is_terminal: bool,
    since_ns: u64,
    ticks: u64,
    sent: u64,
}

impl Line {
    fn new(clients: u32) -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        Self { clients, is_terminal, since_ns: clock::mono_ns(), ticks: 0, sent: 0 }
    }

    fn show(&mut self, gateway: &Running, progress: &Progress, live: &LiveStats) {
        let now_ns = clock::mono_ns();
        let seconds = (now_ns - self.since_ns) as f64 / 1e9;
        self.since_ns = now_ns;
        let books = Books::of(gateway);
        let ticks = progress.sent.load(Ordering::Relaxed);
        let per_s = |now: u64, before: u64| (now - before) as f64 / seconds;
        let view = live.view();
        let latency = match view.latency.count {
            0 => "p50/p99/p99.9 warming up".to_owned(),
            _ => format!(
                "p50/p99/p99.9 {}/{}/{}",
                human(view.latency.p50_ns),
                human(view.latency.p99_ns),
                human(view.latency.p99_9_ns)
            ),
        };
        let text = format!(
            "ticks in {:>6.0}/s  deliveries out {:>7.0}/s  clients {}/{}  {latency}  conflated {}  dropped {}",
            per_s(ticks, self.ticks),
            per_s(books.sent, self.sent),
            view.sessions.open,
            self.clients,
            books.conflated,
            books.dropped,
        );
        self.ticks = ticks;
        self.sent = books.sent;
        if self.is_terminal {
            print!("\r\x1b[2K{text}");
            let _ = std::io::stdout().flush();
        } else {
            println!("{text}");
        }
    }

    fn end(&self) {
        if self.is_terminal {
            println!();
        }
    }

    fn totals(&self, gateway: &Running) -> String {
        let books = Books::of(gateway);
        let records = gateway.board().feed().records;
        format!(
            "{records} ticks in, {} deliveries out, {} conflated, {} dropped",
            books.sent, books.conflated, books.dropped
        )
    }
}

/// The books of all shards.
struct Books {
    sent: u64,
    conflated: u64,
    dropped: u64,
}

impl Books {
    fn of(gateway: &Running) -> Self {
        let board = gateway.board();
        let mut books = Self { sent: 0, conflated: 0, dropped: 0 };
        for shard in 0..board.shard_count() {
            let totals = board.shard(shard);
            books.sent += totals.sent;
            books.conflated += totals.conflated;
            books.dropped += totals.dropped.iter().sum::<u64>();
        }
        books
    }
}
