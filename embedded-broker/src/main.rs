//! `tickgate-broker`: the embedded broker as a process of its own.

use clap::Parser;
use clap::error::ErrorKind as CliError;
use std::io::{ErrorKind, IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use tickgate_broker::{Broker, BrokerConfig, BrokerError};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Exit code for a command line that makes no sense (EX_USAGE).
const EXIT_USAGE: u8 = 64;

const EXAMPLES: &str = "\
When it is ready, the address it listens on is printed on standard output, alone on a line; everything else goes to \
standard error. Ctrl-C and SIGTERM end it. All data is gone then: nothing is written to disk.

Exit status: 0 ended by a signal, 1 cannot listen or broke down, 64 wrong command line.

Examples:
  tickgate-broker --topic ticks:4
  tickgate-broker --listen 127.0.0.1:0 --topic ticks:16 --partition-bytes 256MiB
  kcat -b 127.0.0.1:9092 -t ticks -C";

/// An in-memory, single-node Kafka for demos and tests.
///
/// Speaks the Kafka protocol to ordinary clients: produce, fetch, offsets by time, create, grow and delete topics. It
/// keeps everything in memory, drops the oldest records of a partition over its bound, and has no replication, no
/// consumer groups, no transactions and no authentication. Do not run anything that matters on it.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, max_term_width = 110)]
struct Cli {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9092")]
    listen: SocketAddr,
    /// Topic to create at start; may be given several times
    #[arg(long = "topic", value_name = "NAME[:PARTITIONS]", value_parser = topic)]
    topics: Vec<(String, Option<i32>)>,
    /// Partitions of a topic created without a number
    #[arg(long, value_name = "NUMBER", default_value_t = 4)]
    default_partitions: i32,
    /// Most bytes kept per partition (plain number, or with KiB, MiB, GiB); the oldest records go first
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = bytes)]
    partition_bytes: usize,
    /// Most bytes kept in all partitions together
    #[arg(long, value_name = "BYTES", default_value = "1GiB", value_parser = bytes)]
    log_bytes: usize,
    /// Create a topic when a client asks for one that is not there
    #[arg(long)]
    auto_create_topics: bool,
    /// Most connections at once; further ones are closed
    #[arg(long, value_name = "NUMBER", default_value_t = 256)]
    max_connections: usize,
    /// Listen on an address that other machines can reach. Anybody there may then read, write and delete everything
    #[arg(long)]
    allow_remote: bool,
    /// What to log, in the syntax of the tracing crate, for instance "debug" or "tickgate_broker=trace"
    #[arg(long, value_name = "FILTER", env = "TICKGATE_BROKER_LOG", default_value = "info")]
    log: String,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let asked = matches!(error.kind(), CliError::DisplayHelp | CliError::DisplayVersion);
            // Nothing is left to do when not even the message can be written.
            error.print().ok();
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(EXIT_USAGE) };
        }
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tickgate-broker: {error:#}{}", hint(&error));
            let usage = matches!(
                error.downcast_ref(),
                Some(BrokerError::NotLoopback(_) | BrokerError::Config(_) | BrokerError::InvalidTopicName(_))
            );
            ExitCode::from(if usage { EXIT_USAGE } else { 1 })
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(&cli.log)?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        // Before anything is promised to the outside: a signal from here on ends the process cleanly.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let broker = Broker::start(BrokerConfig {
            listen: cli.listen,
            allow_remote: cli.allow_remote,
            default_partitions: cli.default_partitions,
            auto_create_topics: cli.auto_create_topics,
            partition_bytes_max: cli.partition_bytes,
            log_bytes_max: cli.log_bytes,
            connections_max: cli.max_connections,
            ..BrokerConfig::default()
        })?;
        for (name, partitions) in &cli.topics {
            broker.create_topic(name, partitions.unwrap_or(cli.default_partitions))?;
        }
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{}", broker.address())?;
        stdout.flush()?;
        tokio::select! {
            _ = interrupt.recv() => tracing::info!("interrupted"),
            _ = terminate.recv() => tracing::info!("asked to end"),
            () = broker.ended() => return Err(BrokerError::Ended.into()),
        }
        broker.shutdown();
        Ok(())
    })
}

/// The switch that helps, for the errors a user can do something about.
fn hint(error: &anyhow::Error) -> &'static str {
    match error.downcast_ref() {
        Some(BrokerError::NotLoopback(_)) => " (--allow-remote allows it)",
        Some(BrokerError::Bind { source, .. }) if source.kind() == ErrorKind::AddrInUse => {
            " (is another broker running? --listen 127.0.0.1:0 takes a free port)"
        }
        _ => "",
    }
}

fn topic(text: &str) -> Result<(String, Option<i32>), String> {
    let Some((name, number)) = text.rsplit_once(':') else { return Ok((text.to_owned(), None)) };
    let number = number.parse().map_err(|_| format!("{number:?} is no number of partitions"))?;
    Ok((name.to_owned(), Some(number)))
}

fn bytes(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let unit = match text[digits.len()..].trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        other => return Err(format!("{other:?} is no unit: KiB, MiB or GiB")),
    };
    let number = digits.trim().parse::<usize>().map_err(|error| error.to_string())?;
    number.checked_mul(unit).ok_or_else(|| "too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_and_topics_are_read() {
        assert_eq!(bytes("64MiB"), Ok(64 << 20));
        assert_eq!(bytes("7"), Ok(7));
        assert_eq!(bytes("2 GiB"), Ok(2 << 30));
        assert!(bytes("64MB").is_err() && bytes("MiB").is_err() && bytes("99999999999GiB").is_err());
        assert_eq!(topic("ticks"), Ok(("ticks".to_owned(), None)));
        assert_eq!(topic("ticks:16"), Ok(("ticks".to_owned(), Some(16))));
        assert!(topic("ticks:many").is_err());
    }
}
