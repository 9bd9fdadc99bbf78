//! `tickgate`: the gateway, a look at one that runs, and a demo of it.

mod allocator;
mod demo;
mod http;
#[cfg(feature = "otlp")]
mod otlp;
mod top;

use anyhow::Context;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;
use tickgate_gateway::cli::{Cli, Command, RunArgs};
use tickgate_gateway::config::load::log_filter;
use tickgate_gateway::config::{Config, ConfigErrors, ceiling};
use tickgate_gateway::log_filter::LogFilter;
use tickgate_gateway::logs::LogWriter;
use tickgate_gateway::metrics;
use tickgate_gateway::panics;
use tickgate_gateway::{server, session, shard, spans};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, reload};

/// Ended by a fault of its own (`EX_SOFTWARE`).
const EXIT_BROKEN: i32 = 70;

fn main() -> ExitCode {
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err((text, code)) => {
            let _ = text.print();
            return ExitCode::from(code);
        }
    };
    shard::give_back_by(allocator::give_back);
    metrics::allocator_is(allocator::committed_bytes);
    let result = match cli.command {
        Command::Run(args) => run(&args),
        Command::Top(args) => top::run(&args),
        Command::Demo(args) => logging(&log_filter("warn"), &Tracing::default(), |logs| {
            demo::run(&args, &logs.filter).map(|()| ExitCode::SUCCESS)
        }),
    };
    result.unwrap_or_else(|error| {
        eprintln!("tickgate: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let config = match args.load() {
        Ok(loaded) => loaded.config,
        Err(errors) => {
            eprintln!("{errors}");
            return Ok(ExitCode::from(ConfigErrors::EXIT_CODE));
        }
    };
    if args.print_config {
        print!("{}", config.masked().to_toml());
        return Ok(ExitCode::SUCCESS);
    }
    let (filter, endpoint) = (config.log.clone(), config.otlp_endpoint.clone());
    let tracing = Tracing { endpoint: &endpoint, sample_percent: config.otlp_sample_percent };
    logging(&filter, &tracing, |logs| serve(args, config, logs))
}

fn serve(args: &RunArgs, config: Config, logs: &Logs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = runtime.block_on(async { Signals::new() })?;
    let terms = ceiling::memory_ceiling(&config);
    let topics = config.feeds.iter().map(|feed| feed.topic.as_str()).collect::<Vec<_>>().join(",");
    tracing::info!(brokers = %config.kafka.brokers, topics, "reading");
    tracing::info!(bytes = ceiling::sum(&terms), "memory ceiling:\n{}", ceiling::table(&terms));
    let accept_for = Duration::from_millis(config.drain.accept_ms);
    let (is_asked, is_behind) = (config.auth.is_required(), !config.proxies.trusted.is_empty());
    let bound = server::bind(config)?.with_log(logs.filter.clone());
    let (scheme, listen, admin) = (bound.scheme(), bound.listen_addr(), bound.admin_addr());
    let running = bound.start()?;
    let sessions = format!("{}-…", session::names());
    tracing::info!(sessions, "clients: {scheme}://{listen}/v1/stream   admin: http://{admin}/");
    if !listen.ip().is_loopback() && !is_asked {
        tracing::warn!(
            "whoever reaches {listen} is let in and may see everything: set auth.mode (docs/authentication.md), \
             or see to it that only those do who may"
        );
    }
    if !listen.ip().is_loopback() && scheme == "ws" && !is_behind {
        tracing::warn!(
            "what goes to and from {listen} can be read and changed on its way: set tls.certificate_file and \
             tls.key_file, or put something in front that speaks TLS"
        );
    }
    let mut reloader = running.reloader();
    let signal = runtime.block_on(async {
        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Asked::Reload => _ = reloader.reload(args.load()),
                    signal => break signal,
                },
                () = running.broken() => end_broken(logs),
            }
        }
    });
    tracing::info!("stopping: a second signal exits at once");
    running.retire();
    // Nobody balances load to a terminal.
    if signal == Asked::Terminate {
        runtime.block_on(async {
            tokio::select! {
                _ = signals.stop() => stop_at_once(logs),
                () = tokio::time::sleep(accept_for) => {}
            }
        });
    }
    let stopping = std::thread::spawn(move || running.stop());
    runtime.block_on(async {
        let stopped = tokio::task::spawn_blocking(move || stopping.join());
        tokio::select! {
            _ = signals.stop() => stop_at_once(logs),
            stopped = stopped => {
                let cut = stopped?.map_err(|_| anyhow::anyhow!("stopping panicked"))??;
                tracing::info!(cut, "stopped");
                Ok(ExitCode::SUCCESS)
            }
        }
    })
}

/// A gateway that only seems to serve is worse than none: clients go on elsewhere.
fn end_broken(logs: &Logs) -> ! {
    tracing::error!("broken by a panic, which the log has said: the gateway ends");
    logs.drain();
    std::process::exit(EXIT_BROKEN);
}

fn stop_at_once(logs: &Logs) -> ! {
    tracing::warn!("stopped at once");
    logs.drain();
    std::process::exit(1);
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// To stop, by a person, with Ctrl-C or by closing the terminal.
    Interrupt,
    /// To stop, by whatever runs the gateway.
    Terminate,
    /// To read the configuration again.
    Reload,
}

/// SIGINT, SIGTERM and SIGHUP.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    /// Whether it was started on a terminal: SIGHUP is also what its end sends.
    is_on_terminal: bool,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            is_on_terminal: std::io::stdin().is_terminal(),
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Interrupt,
            _ = self.terminate.recv() => Asked::Terminate,
            // A terminal that is gone is none any more.
            _ = self.hangup.recv() => match self.is_on_terminal && !std::io::stdin().is_terminal() {
                true => Asked::Interrupt,
                false => Asked::Reload,
            },
        }
    }

    /// The next that asks to stop.
    async fn stop(&mut self) {
        while self.next().await == Asked::Reload {}
    }
}

/// Where log lines go, which, and where traces do.
struct Logs {
    writer: LogWriter,
    filter: LogFilter,
    #[cfg(feature = "otlp")]
    traces: Option<otlp::Traces>,
}

impl Logs {
    /// Waits for what is left of both, but not for long.
    fn drain(&self) {
        #[cfg(feature = "otlp")]
        if let Some(traces) = &self.traces {
            traces.drain();
        }
        self.writer.drain();
    }
}

/// What collectors are told, if any are.
#[derive(Default)]
struct Tracing<'a> {
    endpoint: &'a str,
    sample_percent: u32,
}

/// Runs with logs to standard error: for people on a terminal, as JSON otherwise. Nobody who logs waits for whoever reads.
fn logging(
    filter: &str,
    tracing: &Tracing<'_>,
    run: impl FnOnce(&Logs) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    let writer = LogWriter::start()?;
    let lines = tracing_subscriber::fmt::layer().with_writer(writer.clone());
    let lines = match std::io::stderr().is_terminal() {
        true => lines.with_target(false).boxed(),
        false => lines.json().boxed(),
    };
    let is_traced = !tracing.endpoint.is_empty();
    let (layer, handle) = reload::Layer::new(with_spans(
        EnvFilter::try_new(filter).context("the filter of log lines")?,
        is_traced,
    ));
    // Not a filter of the layer's own: asked whether a line of librdkafka's is wanted, which comes by way of `log`, it leaves
    // the answer behind, and the thread's next line, whatever it says, is left out with it.
    let registry = tracing_subscriber::registry().with(layer).with(lines);
    #[cfg(feature = "otlp")]
    let traces = is_traced
        .then(|| otlp::Traces::start(tracing.endpoint, tracing.sample_percent).context("otlp_endpoint"))
        .transpose()?;
    #[cfg(feature = "otlp")]
    let registry = registry.with(traces.as_ref().map(otlp::Traces::layer));
    registry.init();
    panics::log_and_count();
    #[cfg(not(feature = "otlp"))]
    if is_traced {
        tracing::warn!(
            percent = tracing.sample_percent,
            "otlp_endpoint is set, and this build sends no traces"
        );
    }
    // Without anybody who logs there is nothing to filter.
    let filter = LogFilter::new(filter, move |new| _ = handle.reload(with_spans(new, is_traced)));
    let logs = Logs {
        writer,
        filter,
        #[cfg(feature = "otlp")]
        traces,
    };
    let result = run(&logs);
    logs.drain();
    result
}

/// Lets the spans for a collector through as well, whatever is logged.
fn with_spans(filter: EnvFilter, is_traced: bool) -> EnvFilter {
    let directive = format!("{}=debug", spans::TARGET);
    match directive.parse() {
        Ok(directive) if is_traced => filter.add_directive(directive),
        _ => filter,
    }
}
