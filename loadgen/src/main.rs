//! `tickgate-load`: put load on a Tickgate gateway and verify every event, or watch market data in a terminal.

mod progress;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use std::collections::BTreeSet;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tickgate_load::asserts::Assert;
use tickgate_load::client::ClientError;
use tickgate_load::fleet::{self, FleetError};
use tickgate_load::persona::PersonaMix;
use tickgate_load::plan::{ChannelMix, Plan};
use tickgate_load::report::Report;
use tickgate_load::watch::{WatchError, WatchOptions, error_chain, watch};
use tickgate_load::{LiveStats, asserts, report_file, waiting};
use tickgate_protocol::command::is_symbol_or_pattern;
use tickgate_protocol::{Channel, Depth, OnSlow};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The run took place and failed: events lost, sessions lost, an assertion broken, the generator late.
const EXIT_FAILED: u8 = 1;
/// The command line makes no sense.
const EXIT_USAGE: u8 = 64;
/// The gateway cannot be reached.
const EXIT_UNAVAILABLE: u8 = 69;
/// A file cannot be written.
const EXIT_CANNOT_CREATE: u8 = 73;
/// Stopped twice: what shells say of Ctrl-C.
const EXIT_INTERRUPTED: i32 = 130;

const AFTER_HELP: &str = "\
Exit status: 0 passed; 1 failed (run: events lost without a gap, sessions lost, no event at all, the generator late, \
an assertion broken); 64 the command line makes no sense; 69 the gateway cannot be reached; 73 a file cannot be written.";

const RUN_HELP: &str = "\
PHASES
  The clients connect over --ramp on a schedule that waits for nobody, settle for --warmup, and are measured for --for.
  Stalled clients then read what waits for them, and everybody closes. Ctrl-C skips to the end: the report says what
  was measured until then.

SYMBOLS
  Without --symbols or --symbols-file, one connection listens to `*` for --discover; the busiest symbols rank first.
  Given symbols rank in the order they are given. Each client takes the --hot first ones (at most half of its symbols)
  and draws the others by rank, in proportion to rank^-zipf; each symbol goes to one channel, drawn by --channels.

PERSONAS
  healthy            reads everything as it comes; whoever is nothing else
  stalled=5%         stops reading once subscribed
  slow=5%@20000      reads 20,000 bytes a second
  churning=5%@1s     exchanges one subscription for another every second
  reconnecting=5%@10s  all of them drop and return together every ten seconds
  A share is a percentage or a number of connections. Stalled and slow clients may be cut off by the gateway, the
  others must not: `closed_early` counts those.

VERIFICATION
  Every event of every session: the `prev` chain of each (channel, symbol), gaps and what they announce, duplicates,
  events before their ack or behind a heartbeat's cursor, messages that cannot be read. Latency is from `send_ns`, when
  the producer meant to send the event, to when it was read here; snapshots, replays and duplicates are left out.
  Events that carry no send_ns and latencies below zero are counted, not measured. When the generator was late by
  itself (lag p99 over 2 ms, and over half of the latency's p99 or over an asserted bound), it says so.

EXAMPLES
  tickgate-load run --url ws://127.0.0.1:8080/v1/stream --connections 1000 --for 30s --assert 'p99<5ms'
  tickgate-load run --url ws://127.0.0.1:8080/v1/stream --connections 200 --personas stalled=5,slow=5@50000 \\
      --on-slow skip --assert 'unannounced==0' --assert 'stalled.gaps>0' --report report.json";

const WATCH_HELP: &str = "\
One row per event: its venue time, channel, symbol, price and size (quotes and books as bid | ask), the latency since
the producer meant to send it (`gw`: since it reached the gateway), and flags: snapshot, replay, merged N. Lines with
`--` are control messages, lines with `!!` are breaches of the protocol. The session is opened again when it ends,
unless --once is given. Ctrl-C ends it.

EXAMPLES
  tickgate-load watch --url ws://127.0.0.1:8080/v1/stream --symbols 'AAPL,BTC*'
  tickgate-load watch --url ws://127.0.0.1:8080/v1/stream --symbols BTCUSDT --channels book --depth 5 --for 10s
  tickgate-load watch --url ws://127.0.0.1:8080/v1/stream --symbols '*' --raw | head -3";

/// Put load on a Tickgate gateway and verify every event, or watch market data in a terminal.
#[derive(Debug, Parser)]
#[command(name = "tickgate-load", version, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Connect many clients, verify and measure what they receive, and report.
    #[command(after_long_help = format!("{RUN_HELP}\n\nFIGURES TO ASSERT\n  {}", asserts::known()))]
    Run(Box<RunArgs>),
    /// Print market data as a readable table.
    #[command(after_long_help = WATCH_HELP)]
    Watch(WatchArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The gateway's stream
    #[arg(long, value_name = "ws://HOST:PORT/v1/stream")]
    url: String,
    /// How long to wait for a gateway that is not there yet; 0s does not
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration, value_name = "TIME")]
    connect_timeout: Duration,
    /// Clients
    #[arg(long, short = 'c', default_value_t = 100, value_name = "N")]
    connections: usize,
    /// Symbols of each client, each on one channel
    #[arg(long, default_value_t = 10, value_name = "N")]
    symbols_per_client: usize,
    /// Time to measure
    #[arg(long = "for", default_value = "30s", value_parser = humantime::parse_duration, value_name = "TIME")]
    duration: Duration,
    /// Time over which the clients connect [default: 1ms per connection]
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    ramp: Option<Duration>,
    /// Time after the ramp that is not measured
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration, value_name = "TIME")]
    warmup: Duration,
    /// Time for stalled clients to read what waits for them, after the measurement
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration, value_name = "TIME")]
    drain: Duration,
    /// Threads [default: half of the cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,

    /// Symbols or patterns, the most popular first
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "A,B*,...",
        conflicts_with = "symbols_file",
        help_heading = "Subscriptions"
    )]
    symbols: Vec<String>,
    /// File with one symbol or pattern a line, the most popular first
    #[arg(long, value_name = "FILE", help_heading = "Subscriptions")]
    symbols_file: Option<PathBuf>,
    /// How long to listen for the symbols there are, when none are given
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration, value_name = "TIME", help_heading = "Subscriptions")]
    discover: Duration,
    /// Exponent of the symbols' popularity
    #[arg(long, default_value_t = 0.85, value_name = "S", help_heading = "Subscriptions")]
    zipf: f64,
    /// Most popular symbols that every client has
    #[arg(long, default_value_t = 3, value_name = "N", help_heading = "Subscriptions")]
    hot: usize,
    /// Channels and in what proportion symbols go to them
    #[arg(long, default_value = "trades=0.5,quotes=0.5", value_name = "MIX", help_heading = "Subscriptions")]
    channels: ChannelMix,
    /// What the gateway does when a client reads too slowly [default: as the channel says]
    #[arg(long, value_parser = parse_on_slow, value_name = "conflate|skip|disconnect", help_heading = "Subscriptions")]
    on_slow: Option<OnSlow>,
    /// Conflation of quotes and book, in milliseconds
    #[arg(long, default_value_t = 0, value_name = "MS", help_heading = "Subscriptions")]
    conflate_ms: u64,
    /// Levels a side of book: 1, 5, 10, 20, 50, 100 or 0 for all
    #[arg(long, default_value_t = 10, value_name = "N", help_heading = "Subscriptions")]
    depth: u8,

    /// Clients that misbehave, like stalled=5%,slow=2%@20000 (see below)
    #[arg(long, default_value = "", value_name = "MIX", hide_default_value = true, help_heading = "Clients")]
    personas: PersonaMix,
    /// Seed of every choice: personas, symbols, channels
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Clients")]
    seed: u64,
    /// Kernel receive buffer of stalled and slow clients, in bytes
    #[arg(long, default_value_t = 32 << 10, value_name = "BYTES", help_heading = "Clients")]
    slow_recv_buffer: usize,
    /// Local addresses 127.0.0.2, .3, … to connect from [default: one per 20,000 connections]
    #[arg(long, default_value_t = 0, value_name = "N", hide_default_value = true, help_heading = "Clients")]
    source_addresses: usize,

    /// JSON report; its percentiles go to .hgrm files beside it
    #[arg(long, short = 'o', value_name = "FILE", help_heading = "Report")]
    report: Option<PathBuf>,
    /// What must hold, like 'p99<5ms' or 'stalled.gaps>0'; may be repeated
    #[arg(long = "assert", value_name = "FIGURE<BOUND", help_heading = "Report")]
    asserts: Vec<Assert>,
    /// The gateway's process [default: whoever listens at the port, when it is on this machine]
    #[arg(long, value_name = "PID", help_heading = "Report")]
    pid: Option<u32>,
    /// The generator's own lag beyond which the run fails
    #[arg(long, default_value = "500ms", value_parser = humantime::parse_duration, value_name = "TIME", help_heading = "Report")]
    lag_max: Duration,
    /// Let a run pass in which no event came
    #[arg(long, help_heading = "Report")]
    allow_empty: bool,
}

#[derive(Debug, Args)]
struct WatchArgs {
    /// The gateway's stream
    #[arg(long, value_name = "ws://HOST:PORT/v1/stream")]
    url: String,
    /// How long to wait for a gateway that is not there yet; 0s does not
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration, value_name = "TIME")]
    connect_timeout: Duration,
    /// Symbols and patterns: `*` alone or at the end
    #[arg(long, value_delimiter = ',', required = true, value_name = "A,B*,...")]
    symbols: Vec<String>,
    /// Channels: trades, quotes, book, status
    #[arg(long, value_delimiter = ',', default_value = "trades,quotes,status", value_parser = parse_channel, value_name = "LIST")]
    channels: Vec<Channel>,
    /// Levels a side of book: 1, 5, 10, 20, 50, 100 or 0 for all
    #[arg(long, default_value_t = 5, value_name = "N")]
    depth: u8,
    /// At most one update of quotes and book per symbol in so many milliseconds
    #[arg(long, default_value_t = 0, value_name = "MS")]
    conflate_ms: u64,
    /// What the gateway does when the terminal is too slow; skip for trades unless given
    #[arg(long, value_parser = parse_on_slow, value_name = "conflate|skip|disconnect")]
    on_slow: Option<OnSlow>,
    /// When to end [default: never]
    #[arg(long = "for", value_parser = humantime::parse_duration, value_name = "TIME")]
    duration: Option<Duration>,
    /// Print frames as they come
    #[arg(long)]
    raw: bool,
    /// End when the session ends
    #[arg(long)]
    once: bool,
}

fn parse_channel(text: &str) -> Result<Channel, String> {
    Channel::parse(text).ok_or_else(|| "there are trades, quotes, book and status".to_owned())
}

fn parse_on_slow(text: &str) -> Result<OnSlow, String> {
    OnSlow::parse(text).ok_or_else(|| "expected conflate, skip or disconnect".to_owned())
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing to be done when even this cannot be written.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let ended = match cli.command {
        Command::Run(args) => run_command(*args),
        Command::Watch(args) => watch_command(args),
    };
    match ended {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("tickgate-load: {:#}", failure.error);
            ExitCode::from(failure.exit)
        }
    }
}

/// An error and the exit status it means.
struct Failure {
    exit: u8,
    error: anyhow::Error,
}

fn failure(exit: u8) -> impl Fn(anyhow::Error) -> Failure {
    move |error| Failure { exit, error }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start").map_err(failure(EXIT_FAILED))
}

fn run_command(args: RunArgs) -> Result<ExitCode, Failure> {
    let patience = args.connect_timeout;
    let (plan, out, asserts) = plan(args).map_err(failure(EXIT_USAGE))?;
    if let Some(path) = &out {
        // Before the run: nobody wants to learn of a missing folder after it.
        report_file::check(path)
            .with_context(|| format!("cannot write {}", path.display()))
            .map_err(failure(EXIT_CANNOT_CREATE))?;
    }
    let runtime = runtime()?;
    runtime.block_on(wait_for_gateway(&plan.url, patience))?;
    let mut report = runtime.block_on(run(plan)).map_err(|error| {
        let exit = match &error {
            FleetError::Plan(_) | FleetError::BadUrl(_) | FleetError::Descriptors { .. } => EXIT_USAGE,
            FleetError::Thread(_) | FleetError::Died => EXIT_FAILED,
            _ => EXIT_UNAVAILABLE,
        };
        Failure { exit, error: error.into() }
    })?;
    report.assert_all(&asserts);
    print_quietly(&report.summary());
    if let Some(path) = out {
        let written = report.write_json(&path).and_then(|()| report.write_hgrm(&path));
        let written = written
            .with_context(|| format!("cannot write {}", path.display()))
            .map_err(failure(EXIT_CANNOT_CREATE))?;
        let names: Vec<String> = written.iter().map(|p| p.display().to_string()).collect();
        print_quietly(&format!("report in {} {}\n", path.display(), names.join(" ")));
    }
    Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

/// Waits for a gateway that is only starting. Signals still end the program as usual: there is no report yet.
async fn wait_for_gateway(url: &str, patience: Duration) -> Result<(), Failure> {
    if patience.is_zero() {
        return Ok(());
    }
    let shown = humantime::format_duration(patience);
    let waited = waiting::for_gateway(url, patience, |error| {
        eprintln!("tickgate-load: {}; waiting up to {shown} for the gateway", error_chain(error));
    });
    waited.await.map_err(|error| {
        let exit = if matches!(error, ClientError::BadUrl(_)) { EXIT_USAGE } else { EXIT_UNAVAILABLE };
        Failure { exit, error: error.into() }
    })
}

async fn run(plan: Plan) -> Result<Report, FleetError> {
    let live = Arc::new(LiveStats::default());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let progress = progress::Progress::new(&plan);
    let mut running = Box::pin(fleet::run(plan, stopped, Arc::clone(&live)));
    let mut signals = Signals::new();
    let mut is_stopping = false;
    let mut tick = tokio::time::interval(progress.interval());
    loop {
        tokio::select! {
            report = &mut running => {
                progress.finish();
                return report;
            }
            () = signals.next() => {
                if is_stopping {
                    // Asked twice: at once, without a report.
                    std::process::exit(EXIT_INTERRUPTED);
                }
                is_stopping = true;
                stop.send_replace(true);
            }
            _ = tick.tick() => progress.show(&live.view()),
        }
    }
}

fn plan(args: RunArgs) -> anyhow::Result<(Plan, Option<PathBuf>, Vec<Assert>)> {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let symbols = match &args.symbols_file {
        None => args.symbols,
        Some(path) => {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            let symbols: Vec<String> = text
                .lines()
                .map(str::trim)
                .filter(|l| !l.is_empty() && !l.starts_with('#'))
                .map(str::to_owned)
                .collect();
            anyhow::ensure!(!symbols.is_empty(), "{} holds no symbols", path.display());
            symbols
        }
    };
    let mut seen = BTreeSet::new();
    let symbols = symbols.into_iter().filter(|s| seen.insert(s.clone())).collect();
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let plan = Plan {
        url: args.url,
        connections: args.connections,
        symbols_per_client: args.symbols_per_client,
        threads: args.threads.unwrap_or((cores / 2).max(1)),
        ramp_ms: args.ramp.map_or(args.connections as u64, ms),
        warmup_ms: ms(args.warmup),
        measure_ms: ms(args.duration),
        drain_ms: ms(args.drain),
        symbols,
        discover_ms: ms(args.discover).max(1),
        zipf: args.zipf,
        hot: args.hot,
        channels: args.channels,
        personas: args.personas,
        on_slow: args.on_slow,
        conflate_ms: args.conflate_ms,
        depth: args.depth,
        seed: args.seed,
        slow_recv_buffer_bytes: args.slow_recv_buffer,
        source_addresses: args.source_addresses,
        gateway_pid: args.pid,
        lag_max_ms: ms(args.lag_max),
        allow_empty: args.allow_empty,
    };
    plan.check().map_err(|faults| anyhow::anyhow!(faults.join("; ")))?;
    Ok((plan, args.report, args.asserts))
}

fn watch_command(args: WatchArgs) -> Result<ExitCode, Failure> {
    let depth = Depth::new(args.depth.into());
    let depth = depth.with_context(|| format!("--depth must be one of {:?}", Depth::ALLOWED));
    let options = WatchOptions {
        url: args.url,
        symbols: args.symbols,
        channels: args.channels,
        depth: depth.map_err(failure(EXIT_USAGE))?,
        on_slow: args.on_slow,
        conflate_ms: args.conflate_ms,
        raw: args.raw,
        once: args.once,
        duration: args.duration,
        colour: io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    };
    if let Some(bad) = options.symbols.iter().find(|s| !is_symbol_or_pattern(s)) {
        return Err(failure(EXIT_USAGE)(anyhow::anyhow!("`{bad}` is neither a symbol nor a pattern")));
    }
    let runtime = runtime()?;
    runtime.block_on(wait_for_gateway(&options.url, args.connect_timeout))?;
    let ended = runtime.block_on(async {
        let mut signals = Signals::new();
        let mut out = BufWriter::new(io::stdout().lock());
        tokio::select! {
            ended = watch(&options, &mut out) => ended,
            () = signals.next() => Ok(()),
        }
    });
    match ended {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if error.is_broken_pipe() => Ok(ExitCode::SUCCESS),
        Err(error) => {
            let exit = match &error {
                WatchError::Client(ClientError::BadUrl(_)) => EXIT_USAGE,
                WatchError::Client(_) => EXIT_UNAVAILABLE,
                _ => EXIT_CANNOT_CREATE,
            };
            Err(Failure { exit, error: error.into() })
        }
    }
}

/// Requests to stop: Ctrl-C and SIGTERM, listened to from its making on.
struct Signals([Option<Signal>; 2]);

impl Signals {
    fn new() -> Self {
        // Where signals cannot be had, the program ends by them the usual way.
        Self([SignalKind::interrupt(), SignalKind::terminate()].map(|kind| signal(kind).ok()))
    }

    async fn next(&mut self) {
        async fn one(signal: &mut Option<Signal>) {
            match signal {
                Some(signal) => _ = signal.recv().await,
                None => std::future::pending().await,
            }
        }
        let [interrupt, terminate] = &mut self.0;
        tokio::select! {
            () = one(interrupt) => {}
            () = one(terminate) => {}
        }
    }
}

/// Prints to standard output; whoever closed it did not want to read it.
fn print_quietly(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}
