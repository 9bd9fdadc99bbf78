//! The command line of `tickgate`: what can be typed, and its help, which is the manual.

use crate::config::ConfigErrors;
use crate::config::load::{Loaded, Sources};
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Real-time market data from Kafka topics to WebSocket clients.
#[derive(Debug, Parser)]
#[command(name = "tickgate", version, propagate_version = true, max_term_width = 100, after_long_help = MANUAL)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve: read the configured topics and stream them to WebSocket clients
    #[command(after_long_help = RUN_MANUAL)]
    Run(RunArgs),
    /// Watch a running gateway in a terminal: its feeds, slowest sessions and hottest symbols
    #[command(after_long_help = TOP_MANUAL)]
    Top(TopArgs),
    /// Show it all on this machine: a broker, a simulated market, a gateway and clients in one process
    #[command(after_long_help = DEMO_MANUAL)]
    Demo(DemoArgs),
}

const MANUAL: &str = "\
Exit codes:
  0   ended as asked
  1   something failed that the error line names
  64  the command line or the configuration is wrong; every error is listed
  69  no gateway answers that could be watched
  70  something panicked that every client needs: a fault of the gateway, which the log names

Log lines go to standard error; TICKGATE_LOG, or the key log, filters them (info, debug, tickgate_gateway=trace).
Serving never waits for whoever reads them: lines that are not taken are left out and counted.";

const RUN_MANUAL: &str = "\
Where settings come from, later ones winning:
  1. the file of --config (or TICKGATE_CONFIG), TOML; tickgate.example.toml explains every key
  2. the environment: TICKGATE_OUTBOX_BYTES_MAX=1MiB sets outbox.bytes_max
  3. flags: --set outbox.bytes_max=1MiB, or a flag of its own

Plain numbers are in the unit of the key (_ms, _s, _bytes); 64KiB, 1MB, 500ms or 2m name their own.
Lists are separated by commas. The configuration is checked as a whole before anything starts.

Stopping:
  SIGTERM turns readiness off, serves on for drain.accept_ms while load balancers notice,
  then refuses newcomers with 503, tells clients to go away, closes their sessions over
  drain.spread_ms and exits with 0. Ctrl-C does the same without drain.accept_ms.
  A second signal exits at once, with 1.

Reloading:
  SIGHUP (kill -HUP) reads the file again, as a whole, under the same flags and environment.
  log, the keys of cursors, and the keys, API keys and demands of auth are taken over at once, and
  certificates are read again. Only who is no longer welcome by them is disconnected. Other keys
  that have changed are named in the log and wait for a restart; what the environment or a flag sets
  stays as that says, and is named where the file says something else. What is wrong is refused
  with the same list of errors as at start, and everything stays as it is.

Examples:
  tickgate run --brokers kafka1:9092,kafka2:9092 --topic ticks --listen 0.0.0.0:8080
  tickgate run --config tickgate.toml --set limits.sessions_max=50000
  tickgate run --config tickgate.toml --print-config > effective.toml
  curl 'http://127.0.0.1:9090/sessions?top=5' -H 'Accept: text/plain'";

const DEMO_MANUAL: &str = "\
Nothing outside this machine is used, and nothing is left behind: the broker keeps its log in memory.

Examples:
  tickgate demo
  tickgate demo --symbols 2000 --rate 50000 --clients 1000 --for 1m";

const TOP_MANUAL: &str = "\
It asks the admin listener for what everybody may ask there: /metrics, /feeds, /sessions and /symbols.
Only rates are worked out here, from one answer to the next; latency is that of the last ten seconds or so.

Keys:
  q, Esc, Ctrl-C   quit
  Tab              the next list alone, then all again; 1 2 3 feeds, sessions, symbols, 0 all
  p, space         pause, and go on
  ?                what is shown, explained

A gateway that answers no longer is asked again, and what was seen last stays on the screen.
Without a terminal to draw on, or with --once, it prints one picture of one interval and ends with 0.

Examples:
  tickgate top
  tickgate top --admin 10.0.0.7:9090 --token-file admin.token --every 5s
  tickgate top --once > incident.txt";

/// Flags of `tickgate run`. They are text here and checked with the rest of the configuration.
#[derive(Debug, Clone, Default, Args)]
pub struct RunArgs {
    /// The TOML file to load
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Bootstrap brokers, separated by commas: kafka.brokers
    #[arg(long, value_name = "H:P")]
    pub brokers: Option<String>,
    /// Topics to read, separated by commas or repeated; a feed of the file with that topic keeps its settings
    #[arg(long, value_name = "T")]
    pub topic: Vec<String>,
    /// Address for WebSocket clients: listen
    #[arg(long, value_name = "A:P")]
    pub listen: Option<String>,
    /// Address of metrics, health and introspection: admin
    #[arg(long, value_name = "A:P")]
    pub admin: Option<String>,
    /// Any other key, as in the file, sections separated by dots; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print the configuration in effect as TOML, secrets masked, and exit
    #[arg(long)]
    pub print_config: bool,
}

impl RunArgs {
    /// Loads and checks the configuration from the file, the environment of this process, and these flags.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&self) -> Result<Loaded, ConfigErrors> {
        Loaded::load(&self.sources(Sources::new(), Sources::process_environment))
    }

    fn sources(&self, none: Sources, environment: impl FnOnce(Sources) -> Sources) -> Sources {
        let with_file = match &self.config {
            Some(path) => none.file(path),
            None => none,
        };
        let mut sources = environment(with_file);
        for assignment in &self.set {
            sources = sources.set(assignment);
        }
        for (flag, key, value) in [
            ("--brokers", "kafka.brokers", &self.brokers),
            ("--listen", "listen", &self.listen),
            ("--admin", "admin", &self.admin),
        ] {
            if let Some(value) = value {
                sources = sources.flag(flag, key, value);
            }
        }
        self.topic.iter().fold(sources, |sources, topics| sources.topic(topics))
    }
}

/// Flags of `tickgate top`.
#[derive(Debug, Clone, Args)]
pub struct TopArgs {
    /// Address of the gateway's admin listener
    #[arg(long, value_name = "H:P", default_value = "127.0.0.1:9090")]
    pub admin: String,
    /// File with its admin token, where it asks for one
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// How often it is asked, as 1s or 500ms; 100ms to 1h
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    pub every: Duration,
    /// Print one picture and end
    #[arg(long)]
    pub once: bool,
}

/// Flags of `tickgate demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Symbols that are simulated
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub symbols: u32,
    /// Ticks a second, on average: the market has bursts of its own
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,
    /// Clients that subscribe
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub clients: u32,
    /// How long it runs, as 30s or 5m; until Ctrl-C unless given
    #[arg(long = "for", value_name = "TIME", value_parser = positive_time)]
    pub duration: Option<Duration>,
    /// Seed of the market: the same seed gives the same ticks
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Address for your own WebSocket clients
    #[arg(long, value_name = "A:P", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Address of metrics, health and introspection
    #[arg(long, value_name = "A:P", default_value = "127.0.0.1:9090")]
    pub admin: SocketAddr,
}

fn interval(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(every) if (Duration::from_millis(100)..=Duration::from_secs(3_600)).contains(&every) => Ok(every),
        _ => Err("must be a time from 100ms to 1h, as 1s".to_owned()),
    }
}

fn positive_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("must be a time, as 30s or 5m".to_owned()),
    }
}

impl Cli {
    /// Reads the command line.
    ///
    /// # Errors
    /// The text to print and the code to exit with: 0 for help and version, on standard output, and
    /// [`ConfigErrors::EXIT_CODE`] for what cannot be understood, on standard error. The text may be styled.
    pub fn read<T>(arguments: impl IntoIterator<Item = T>) -> Result<Self, (clap::Error, u8)>
    where
        T: Into<OsString> + Clone,
    {
        Self::try_parse_from(arguments).map_err(|error| {
            let code = match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => 0,
                _ => ConfigErrors::EXIT_CODE,
            };
            (error, code)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use clap::CommandFactory;

    fn run(arguments: &[&str]) -> RunArgs {
        let all = ["tickgate", "run"].iter().chain(arguments);
        match Cli::read(all.copied()).expect("it is right").command {
            Command::Run(run) => run,
            _ => panic!("run was typed"),
        }
    }

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_become_settings_over_everything_else() {
        let args = run(&[
            "--brokers",
            "a:1,b:2",
            "--topic",
            "x",
            "--topic",
            "y,z",
            "--listen",
            "127.0.0.1:1",
            "--admin",
            "127.0.0.1:2",
            "--set",
            "outbox.bytes_max=2MiB",
            "--set",
            "listen=127.0.0.1:9",
            "--print-config",
        ]);
        assert!(args.print_config);
        let variables = [("TICKGATE_LISTEN".into(), "127.0.0.1:7".into())];
        let sources = args.sources(Sources::new(), |sources| sources.environment(variables));
        let config = Config::load(&sources).expect("it is right");
        assert_eq!(config.kafka.brokers, "a:1,b:2");
        assert_eq!((config.listen.port(), config.admin.port()), (1, 2));
        assert_eq!(config.outbox.bytes_max, 2 << 20);
        assert_eq!(config.feeds.iter().map(|feed| feed.topic.as_str()).collect::<Vec<_>>(), ["x", "y", "z"]);
    }

    #[test]
    fn wrong_values_of_flags_are_reported_together() {
        let args = run(&["--listen", "nowhere", "--brokers", "kafka", "--set", "outbx.bytes_max=1"]);
        let errors =
            Config::load(&args.sources(Sources::new(), |sources| sources)).expect_err("three errors");
        let lines: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 3, "{lines:#?}");
        assert!(
            lines[0].contains("--set: outbx.bytes_max: unknown key; did you mean `outbox.bytes_max`?"),
            "{lines:#?}"
        );
        assert!(lines[1].starts_with("--brokers: kafka.brokers: "), "{lines:#?}");
        assert!(lines[2].starts_with("--listen: listen: "), "{lines:#?}");
    }

    #[test]
    fn what_cannot_be_understood_exits_with_64_and_help_with_0() {
        for (arguments, expected) in [
            (&["tickgate"][..], 64),
            (&["tickgate", "rnu"], 64),
            (&["tickgate", "run", "--lisen", "x"], 64),
            (&["tickgate", "demo", "--for", "never"], 64),
            (&["tickgate", "demo", "--clients", "0"], 64),
            (&["tickgate", "top", "--every", "1ms"], 64),
            (&["tickgate", "--help"], 0),
            (&["tickgate", "run", "--help"], 0),
            (&["tickgate", "--version"], 0),
        ] {
            let (_, code) = Cli::read(arguments.iter().copied()).expect_err("no command to carry out");
            assert_eq!(code, expected, "{arguments:?}");
        }
    }

    #[test]
    fn a_demo_needs_no_flags() {
        let Command::Demo(demo) = Cli::read(["tickgate", "demo"]).expect("it is right").command else {
            panic!("demo was typed")
        };
        assert_eq!((demo.symbols, demo.rate, demo.clients, demo.duration), (500, 5_000, 100, None));
    }
}
