//! `tickgate-load`: put load on a Tickgate gateway and verify every event, or watch market data in a terminal.

mod progress;
mod run_args;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use run_args::{RUN_HELP, RunArgs};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tickgate_exporter::{Listener, Serving};
use tickgate_load::asserts::Assert;
use tickgate_load::client::ClientError;
use tickgate_load::fleet::{self, FleetError, Prepared};
use tickgate_load::metrics::Metrics;
use tickgate_load::plan::Plan;
use tickgate_load::processes::{self, ProcessError};
use tickgate_load::report::Report;
use tickgate_load::trust::client_options;
use tickgate_load::watch::{WatchError, WatchOptions, error_chain, watch};
use tickgate_load::{ClientOptions, LiveStats, asserts, report_file, waiting};
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
an assertion broken, a process of it died); 64 the command line makes no sense; 69 the gateway cannot be reached, or --metrics not be served; 73 a file cannot be written.";

const MERGE_HELP: &str = "\
Counts are added up, histograms too, and all quantiles are taken anew from those: nothing is averaged. Gateways are told
apart by their URLs. The sum is judged as one run would be; what was asserted of the single runs does not count. Runs that
did not measure at the same time are not merged, and rates are over the time from the first beginning to the last end.

EXAMPLES
  tickgate-load merge machine-1.json machine-2.json --assert 'p99<5ms' --assert 'unannounced==0' --report both.json";

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
    /// Make one report of runs on several machines at the same time.
    #[command(after_long_help = format!("{MERGE_HELP}\n\nFIGURES TO ASSERT\n  {}", asserts::known()))]
    Merge(MergeArgs),
    /// Be a process of `run --processes`.
    #[command(name = processes::COMMAND, hide = true)]
    Process,
    /// Print market data as a readable table.
    #[command(after_long_help = WATCH_HELP)]
    Watch(WatchArgs),
}

#[derive(Debug, Args)]
struct MergeArgs {
    /// JSON reports of `run`
    #[arg(required = true, value_name = "FILE")]
    reports: Vec<PathBuf>,
    /// JSON report of all of them; its percentiles go to .hgrm files beside it
    #[arg(long, short = 'o', value_name = "FILE")]
    report: Option<PathBuf>,
    /// What must hold, like 'p99<5ms' or 'stalled.gaps>0'; may be repeated
    #[arg(long = "assert", value_name = "FIGURE<BOUND")]
    asserts: Vec<Assert>,
}

#[derive(Debug, Args)]
struct WatchArgs {
    /// The gateway's stream
    #[arg(long, value_name = "ws://HOST:PORT/v1/stream")]
    url: String,
    /// PEM file with the roots that the certificate of a wss:// gateway must lead to [default: the system's]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// File with a token or an API key to show, for gateways that ask who we are
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
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
        Command::Merge(args) => merge_command(args),
        Command::Process => process_command(),
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

fn run_command(mut args: RunArgs) -> Result<ExitCode, Failure> {
    let (patience, metrics) = (args.connect_timeout, args.metrics);
    let (out, asserts) = (args.report.take(), std::mem::take(&mut args.asserts));
    let plan = args.plan().map_err(failure(EXIT_USAGE))?;
    check_report(out.as_deref())?;
    let runtime = runtime()?;
    let options = plan.client_options().context("cannot connect").map_err(failure(EXIT_USAGE))?;
    let live = Arc::new(LiveStats::default());
    let serving = metrics.map(|address| serve_metrics(address, Arc::clone(&live))).transpose();
    let _serving = serving.map_err(|error| failure(EXIT_UNAVAILABLE)(error.into()))?;
    for url in &plan.urls {
        runtime.block_on(wait_for_gateway(url, &options, patience))?;
    }
    let report = runtime.block_on(run(plan, live)).map_err(|error| {
        let exit = match &error {
            ProcessError::Fleet(error) => match error {
                FleetError::Plan(_) | FleetError::BadUrl(_) | FleetError::Descriptors { .. } => EXIT_USAGE,
                FleetError::Thread(_) | FleetError::Died => EXIT_FAILED,
                _ => EXIT_UNAVAILABLE,
            },
            _ => EXIT_FAILED,
        };
        Failure { exit, error: error.into() }
    })?;
    conclude(report, &asserts, out.as_deref())
}

fn merge_command(args: MergeArgs) -> Result<ExitCode, Failure> {
    check_report(args.report.as_deref())?;
    let read = |path: &PathBuf| Report::read(path).with_context(|| path.display().to_string());
    let reports = args.reports.iter().map(read).collect::<anyhow::Result<Vec<_>>>();
    let merged = reports.and_then(|reports| Ok(Report::merge(reports)?)).map_err(failure(EXIT_USAGE))?;
    conclude(merged, &args.asserts, args.report.as_deref())
}

fn process_command() -> Result<ExitCode, Failure> {
    let served = processes::serve(io::BufReader::new(io::stdin()), io::stdout());
    served.map_err(|error| failure(EXIT_FAILED)(error.into()))?;
    Ok(ExitCode::SUCCESS)
}

/// Before the run: nobody wants to learn of a missing folder after it.
fn check_report(out: Option<&Path>) -> Result<(), Failure> {
    let Some(path) = out else { return Ok(()) };
    report_file::check(path)
        .with_context(|| format!("cannot write {}", path.display()))
        .map_err(failure(EXIT_CANNOT_CREATE))
}

/// Judges a report, shows it, and writes it where it is wanted.
fn conclude(mut report: Report, asserts: &[Assert], out: Option<&Path>) -> Result<ExitCode, Failure> {
    report.assert_all(asserts);
    print_quietly(&report.summary());
    if let Some(path) = out {
        let written = report.write_json(path).and_then(|()| report.write_hgrm(path));
        let written = written
            .with_context(|| format!("cannot write {}", path.display()))
            .map_err(failure(EXIT_CANNOT_CREATE))?;
        let names: Vec<String> = written.iter().map(|p| p.display().to_string()).collect();
        print_quietly(&format!("report in {} {}\n", path.display(), names.join(" ")));
    }
    Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

/// Waits for a gateway that is only starting. Signals still end the program as usual: there is no report yet.
async fn wait_for_gateway(url: &str, options: &ClientOptions, patience: Duration) -> Result<(), Failure> {
    if patience.is_zero() {
        return Ok(());
    }
    let shown = humantime::format_duration(patience);
    let waited = waiting::for_gateway(url, options, patience, |error| {
        eprintln!("tickgate-load: {}; waiting up to {shown} for the gateway", error_chain(error));
    });
    waited.await.map_err(|error| {
        let exit = if matches!(error, ClientError::BadUrl(_)) { EXIT_USAGE } else { EXIT_UNAVAILABLE };
        Failure { exit, error: error.into() }
    })
}

/// Says how the run goes, and where it says so.
fn serve_metrics(address: SocketAddr, live: Arc<LiveStats>) -> io::Result<Serving> {
    let listener = Listener::bind(address)?;
    let address = listener.local_addr();
    let mut metrics = Metrics::new(live);
    let serving = listener.serve(move || metrics.render(Instant::now()))?;
    eprintln!("tickgate-load: metrics at http://{address}/metrics");
    Ok(serving)
}

async fn run(plan: Plan, live: Arc<LiveStats>) -> Result<Report, ProcessError> {
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let progress = progress::Progress::new(&plan);
    let mut running = Box::pin(run_all(plan, stopped, Arc::clone(&live)));
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
                    // Asked twice: at once, without a report. Child processes end with the run.
                    drop(running);
                    std::process::exit(EXIT_INTERRUPTED);
                }
                is_stopping = true;
                stop.send_replace(true);
            }
            _ = tick.tick() => progress.show(&live.view()),
        }
    }
}

async fn run_all(
    plan: Plan,
    stop: tokio::sync::watch::Receiver<bool>,
    live: Arc<LiveStats>,
) -> Result<Report, ProcessError> {
    if plan.processes == 1 {
        return Ok(fleet::run(plan, stop, live).await?);
    }
    let prepared = Prepared::new(plan).await?;
    let program = std::env::current_exe().map_err(ProcessError::Program)?;
    processes::run(&program, prepared, stop, live).await
}

fn watch_command(args: WatchArgs) -> Result<ExitCode, Failure> {
    let depth = Depth::new(args.depth.into());
    let depth = depth.with_context(|| format!("--depth must be one of {:?}", Depth::ALLOWED));
    let client =
        client_options(std::slice::from_ref(&args.url), args.ca_file.as_deref(), args.token_file.as_deref());
    let options = WatchOptions {
        url: args.url,
        client: client.context("cannot watch").map_err(failure(EXIT_USAGE))?,
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
    runtime.block_on(wait_for_gateway(&options.url, &options.client, args.connect_timeout))?;
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
