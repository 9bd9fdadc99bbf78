//! The flags of `tickgate-sim`.

use clap::{Args as ClapArgs, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tickgate_sim::model::Preset;
use tickgate_sim::pacing::Speed;
use tickgate_sim::replay::{Between, Format};

/// Sends market data into Kafka: modelled or recorded, on schedule.
///
/// Every record is keyed by its symbol and carries `send_ns`, the time at which it was *meant* to be sent, so that latency measured
/// from it counts the delay of a sender that fell behind. The schedule is open: what is late is sent at once, nothing is skipped.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110, after_long_help = EXIT_CODES)]
pub(crate) struct Args {
    /// What to log to standard error, such as `info` or `tickgate_sim=debug`
    #[arg(long, global = true, default_value = "warn,librdkafka=off", value_name = "FILTER")]
    pub(crate) log: String,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
   0  done, or ended by Ctrl-C (a second Ctrl-C ends at once, with 1)
   1  records were not delivered, or the rate was missed by more than 5 %; stats: a model is not like its recording
  64  wrong flags
  65  a file cannot be understood
  66  a file cannot be opened
  69  no broker answers, there is no topic, or --metrics cannot be served
  74  --output or --report cannot be written";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Run),
    Replay(Replay),
    Stats(Stats),
}

/// Play a market model into Kafka
///
/// The same seed gives the same ticks. Arrivals are bursty as in real markets: `tickgate-sim stats --model M` shows how much.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = RUN_EXAMPLES)]
pub(crate) struct Run {
    /// Which market
    #[arg(long, value_enum)]
    pub(crate) model: Preset,
    /// Number of symbols; the first ones are the most active
    #[arg(long, default_value_t = 500)]
    pub(crate) symbols: usize,
    /// Mean ticks per second over all symbols
    #[arg(long, default_value_t = 5_000.0)]
    pub(crate) rate: f64,
    /// Which of all possible courses of the market
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write records to a file (`-` is standard output) instead of Kafka, at once and without `send_ns`; needs `--for`
    #[arg(long, value_name = "FILE", requires = "for", conflicts_with = "metrics")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) kafka: Kafka,
}

const RUN_EXAMPLES: &str = "\
Examples:
  tickgate-sim run --model us-equities --symbols 500 --rate 5000 --seed 1 --for 60s
  tickgate-sim run --model crypto-perp --symbols 20 --rate 2000 --brokers kafka-1:9092,kafka-2:9092 --topic crypto
  tickgate-sim run --model fx --symbols 10 --rate 50 --for 1h --output fx.ndjson";

/// Replay recorded files into Kafka
///
/// Several files become one stream in the order of their times. The time between ticks is kept, at the speed asked for; `event_ns` is the
/// recorded venue time.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = REPLAY_EXAMPLES)]
pub(crate) struct Replay {
    /// Recorded files: plain, gzip or zip
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) reading: Reading,
    /// How fast: 1 is as recorded, 10 ten times that, `max` as fast as the broker takes it
    #[arg(long, default_value = "1")]
    pub(crate) speed: Speed,
    #[command(flatten)]
    pub(crate) kafka: Kafka,
}

const REPLAY_EXAMPLES: &str = "\
Examples:
  tickgate-sim replay btcusdt_20240808.gz ethusdt_20240808.gz --format binance --speed 10
  tickgate-sim replay */20131007_*.zip --format lean --speed max --topic equities
  tickgate-sim replay */20131007_trade.zip --format lean-trade --between 13:30-20:00 --speed 60";

/// Show how bursty files or a model are
///
/// Prints the most events in any window of 1 s, 100 ms and 10 ms, and how many times the mean rate that is. A model runs in simulated time,
/// by default under the conditions of the recording it is compared with: as many symbols, the same mean rate, the same time.
#[derive(Debug, ClapArgs)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["files", "model", "all"])))]
pub(crate) struct Stats {
    /// Recorded files
    pub(crate) files: Vec<PathBuf>,
    /// A model
    #[arg(long, value_enum)]
    pub(crate) model: Option<Preset>,
    /// Every model
    #[arg(long)]
    pub(crate) all: bool,
    /// Number of symbols of the model
    #[arg(long)]
    pub(crate) symbols: Option<usize>,
    /// Mean ticks per second of the model
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// Simulated time
    #[arg(long = "for", value_parser = duration, value_name = "TIME")]
    pub(crate) duration: Option<Duration>,
    /// Which course of the model
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

/// How files are read.
#[derive(Debug, ClapArgs)]
pub(crate) struct Reading {
    /// Format of the files
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) format: Format,
    /// The symbol, where neither folder nor streams name it
    #[arg(long)]
    pub(crate) symbol: Option<String>,
    /// Only what was recorded at these times of the day, in UTC (for trades and quotes: a book needs its snapshot)
    #[arg(long, value_name = "HH:MM-HH:MM")]
    pub(crate) between: Option<Between>,
    /// Clock of Lean FX files of a venue other than FXCM and OANDA: hours ahead of UTC
    #[arg(long, value_name = "HOURS", allow_hyphen_values = true, value_parser = clap::value_parser!(i64).range(-14..=14))]
    pub(crate) utc_offset: Option<i64>,
}

/// Where records go.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Kafka")]
pub(crate) struct Kafka {
    /// Bootstrap servers, separated by commas
    #[arg(long, default_value = "127.0.0.1:9092", value_name = "HOST:PORT")]
    pub(crate) brokers: String,
    /// The topic
    #[arg(long, default_value = "ticks")]
    pub(crate) topic: String,
    /// End after this time
    #[arg(long = "for", id = "for", value_parser = duration, value_name = "TIME")]
    pub(crate) duration: Option<Duration>,
    /// Partitions of the topic when it does not exist yet; 0: it must exist
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub(crate) partitions: u32,
    /// Copies of each partition of a topic that does not exist yet
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) replication: u32,
    /// How long records are collected before a batch is sent
    #[arg(long, default_value_t = 1, value_name = "MS")]
    pub(crate) linger_ms: u32,
    /// How many brokers have to confirm a record; with `all`, records keep their order and are never doubled even when
    /// connections break
    #[arg(long, default_value = "all", value_parser = ["0", "1", "all"])]
    pub(crate) acks: String,
    /// How long to wait for a broker at the start
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "TIME")]
    pub(crate) connect_timeout: Duration,
    /// After every so many ticks send a record that nobody can read, to see what is done about it [default: never]
    #[arg(long, default_value_t = 0, value_name = "N", hide_default_value = true)]
    pub(crate) bad_every: u64,
    /// Any librdkafka property; may be repeated and wins over the flags above
    #[arg(short = 'X', value_parser = property, value_name = "KEY=VALUE")]
    pub(crate) properties: Vec<(String, String)>,
    /// Say at http://ADDR/metrics how the run goes, for Prometheus: to whoever reaches the address. Port 0 takes a free one; a
    /// line on standard error says which. docs/metrics-load.md lists what is there
    #[arg(long, value_name = "ADDR", help_heading = "Report")]
    pub(crate) metrics: Option<SocketAddr>,
    /// Write the final report as JSON, too
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    pub(crate) report: Option<PathBuf>,
}

fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("a time such as 500ms, 60s, 5m or 1h".to_owned()),
    }
}

fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
