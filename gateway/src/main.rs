//! `tickgate`: the gateway, and a demo of it.

mod demo;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;
use tickgate_gateway::cli::{Cli, Command, RunArgs};
use tickgate_gateway::config::load::log_filter;
use tickgate_gateway::config::{Config, ConfigErrors, ceiling};
use tickgate_gateway::logs::LogWriter;
use tickgate_gateway::server;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a session holds is small and of few sizes: it takes a fifth less memory, and a connect less time, than with the C
/// library's allocator. A delivery allocates nothing.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err((text, code)) => {
            let _ = text.print();
            return ExitCode::from(code);
        }
    };
    let result = match cli.command {
        Command::Run(args) => run(&args),
        Command::Demo(args) => logging("warn", |_| demo::run(&args).map(|()| ExitCode::SUCCESS)),
    };
    result.unwrap_or_else(|error| {
        eprintln!("tickgate: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let config = match args.load() {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            return Ok(ExitCode::from(ConfigErrors::EXIT_CODE));
        }
    };
    if args.print_config {
        print!("{}", config.masked().to_toml());
        return Ok(ExitCode::SUCCESS);
    }
    // What librdkafka says of broken connections is said in our own words, once.
    logging("info,librdkafka=off,rdkafka=off", |logs| serve(config, logs))
}

fn serve(config: Config, logs: &LogWriter) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = runtime.block_on(async { Signals::new() })?;
    let terms = ceiling::memory_ceiling(&config);
    let topics = config.feeds.iter().map(|feed| feed.topic.as_str()).collect::<Vec<_>>().join(",");
    tracing::info!(brokers = %config.kafka.brokers, topics, "reading");
    tracing::info!(bytes = ceiling::sum(&terms), "memory ceiling:\n{}", ceiling::table(&terms));
    let accept_for = Duration::from_millis(config.drain.accept_ms);
    let bound = server::bind(config)?;
    let (listen, admin) = (bound.listen_addr(), bound.admin_addr());
    let running = bound.start()?;
    tracing::info!("clients: ws://{listen}/v1/stream   admin: http://{admin}/");
    let signal = runtime.block_on(signals.next());
    tracing::info!("stopping: a second signal exits at once");
    running.retire();
    // Nobody balances load to a terminal.
    if signal == Asked::Terminate {
        runtime.block_on(async {
            tokio::select! {
                _ = signals.next() => stop_at_once(logs),
                () = tokio::time::sleep(accept_for) => {}
            }
        });
    }
    let stopping = std::thread::spawn(move || running.stop());
    runtime.block_on(async {
        let stopped = tokio::task::spawn_blocking(move || stopping.join());
        tokio::select! {
            _ = signals.next() => stop_at_once(logs),
            stopped = stopped => {
                let cut = stopped?.map_err(|_| anyhow::anyhow!("stopping panicked"))??;
                tracing::info!(cut, "stopped");
                Ok(ExitCode::SUCCESS)
            }
        }
    })
}

fn stop_at_once(logs: &LogWriter) -> ! {
    tracing::warn!("stopped at once");
    logs.drain();
    std::process::exit(1);
}

/// Who asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// A person, with Ctrl-C.
    Interrupt,
    /// Whatever runs the gateway.
    Terminate,
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Interrupt,
            _ = self.terminate.recv() => Asked::Terminate,
        }
    }
}

/// Runs with logs to standard error: for people on a terminal, as JSON otherwise. Nobody who logs waits for whoever reads.
fn logging(
    default: &str,
    run: impl FnOnce(&LogWriter) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    let filter = tracing_subscriber::EnvFilter::try_new(log_filter(default)).unwrap_or_else(|error| {
        eprintln!("TICKGATE_LOG: {error}: logging as `{default}`");
        tracing_subscriber::EnvFilter::new(default)
    });
    let writer = LogWriter::start()?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer.clone());
    if std::io::stderr().is_terminal() {
        logs.with_target(false).init();
    } else {
        logs.json().init();
    }
    let result = run(&writer);
    writer.drain();
    result
}
