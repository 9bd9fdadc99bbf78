//! The Autobahn test suite as a client of the gateway.

mod suite;
mod verdict;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::background::{self, Program, free_ports};
use crate::http;
use crate::setup::{self, Need};
use crate::shell::{self, EXIT_MISSING, Failure, human, step};
use suite::Suite;
use verdict::Verdict;

/// How the gateway is set up: no limit that the suite's messages reach, and nothing that it does not expect.
const SETTINGS: [&str; 12] = [
    "shards=1",
    "session.compression=deflate",
    "session.heartbeat_ms=0",
    "session.ping_ms=0",
    "session.silence_timeout_ms=0",
    "limits.pings_per_10_s=0",
    "limits.message_timeout_ms=120s",
    "limits.message_bytes_max=16MiB",
    "limits.reading_bytes_total_max=1GiB",
    "outbox.bytes_max=64MiB",
    "outbox.total_bytes_max=1GiB",
    "outbox.stall_timeout_ms=120s",
];
/// Longest time for the gateway to listen.
const START_MAX: Duration = Duration::from_secs(20);

/// Holds the gateway to the WebSocket protocol, with the Autobahn test suite as its client.
///
/// The gateway is a debug build that sends messages back instead of reading them: listener, handshake, decoder,
/// compression, queues and the tasks of connections are those that serve clients. The suite needs CPython 2.7, of which
/// `PYTHON27`, `PATH` and pyenv are asked; its packages are installed once into the build folder, over the network.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask conformance\n  cargo xtask conformance --profile full\n  \
                        cargo xtask conformance --profile core --tls")]
pub struct Args {
    /// Which cases: core is framing, text, closing and sizes (301 cases); quick has compression with messages up to 4 KiB
    /// too (361); full is all (517, some 20 minutes)
    #[arg(long, value_enum, default_value_t = Profile::Quick)]
    profile: Profile,

    /// Whether cases fail of which the gateway declines the compression
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    require_deflate: bool,

    /// How many suites share the cases, side by side
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    shards: u8,

    /// Over TLS, with a certificate made for the run
    #[arg(long)]
    tls: bool,

    /// Where the reports go
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,

    /// What continuous integration runs: quick, then core over TLS, or nothing where there is no Python 2.7
    #[arg(long, conflicts_with_all = ["profile", "tls", "out"])]
    short: bool,
}

/// Which cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    Core,
    Quick,
    Full,
}

pub fn run(args: Args) -> Result<()> {
    if args.short {
        return short();
    }
    let python = suite::python().ok_or_else(|| Failure::error(EXIT_MISSING, suite::NO_PYTHON))?;
    setup::ensure(&[Need::Build])?;
    step("building the gateway");
    shell::run(shell::cargo().args(["build", "--package", "tickgate-gateway", "--bin", "tickgate"]))?;
    conform(&args, &python)
}

/// The quick cases, and the core over TLS, with the program that the tests were built with, for continuous integration.
/// Without CPython 2.7 they are left out, and this says so.
fn short() -> Result<()> {
    let Some(python) = suite::python() else {
        step(format_args!("LEFT OUT: {}", suite::NO_PYTHON));
        return Ok(());
    };
    for (profile, tls) in [(Profile::Quick, false), (Profile::Core, true)] {
        conform(&Args { profile, require_deflate: true, shards: 2, tls, out: None, short: true }, &python)?;
    }
    Ok(())
}

fn conform(args: &Args, python: &Path) -> Result<()> {
    let suite = Suite::install(python)?;
    let out = args.out.clone().unwrap_or_else(|| shell::target_dir().join("autobahn"));
    let _ = fs::remove_dir_all(&out);
    fs::create_dir_all(&out).with_context(|| format!("making {}", out.display()))?;

    let started = Instant::now();
    let mut echo = Echo::start(&out, args.tls)?;
    let count = args.profile.count();
    step(format_args!("{count} cases of the Autobahn test suite, at {}", echo.url));
    let cases = args.profile.cases();
    let reports = suite.run(&cases, usize::from(args.shards), &echo.url, &out, || echo.program.check())?;
    echo.check()?;

    let verdict = Verdict::read(&reports, args.require_deflate)?;
    print!("{verdict}");
    println!("{}; reports: {}", human(started.elapsed()), out.join("part*/index.html").display());
    verdict.into_result(count)
}

impl Profile {
    /// How many cases there are: a suite that runs fewer has not passed.
    fn count(self) -> usize {
        match self {
            Self::Core => 301,
            Self::Quick => 361,
            Self::Full => 517,
        }
    }

    /// The cases, as patterns of the suite. In groups 12 and 13, the last number is the size of messages.
    fn cases(self) -> Vec<String> {
        let messages_max = match self {
            Self::Core => 0,
            // 16 bytes to 4 KiB; the other sizes go up to 128 KiB.
            Self::Quick => 5,
            Self::Full => 18,
        };
        let deflate = [(12, 5), (13, 7)].into_iter().flat_map(move |(group, kinds)| {
            (1..=kinds)
                .flat_map(move |kind| (1..=messages_max).map(move |size| format!("{group}.{kind}.{size}")))
        });
        let core = [1, 2, 3, 4, 5, 6, 7, 9, 10].map(|group| format!("{group}.*"));
        core.into_iter().chain(deflate).collect()
    }
}

/// A gateway that sends messages back.
struct Echo {
    program: Program,
    url: String,
    admin: SocketAddr,
}

impl Echo {
    fn start(out: &Path, tls: bool) -> Result<Self> {
        let ports = free_ports(2)?;
        let [listen, admin] = [ports[0], ports[1]].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let mut command = background::bound(&shell::target_dir().join("debug/tickgate"));
        // There is no Kafka, and no need of one: nothing is subscribed to.
        command.args(["run", "--brokers", "127.0.0.1:1", "--topic", "none"]).env("TICKGATE_TEST_ECHO", "1");
        command.args(["--listen", &listen.to_string(), "--admin", &admin.to_string()]);
        command.args(SETTINGS.iter().flat_map(|setting| ["--set", setting]));
        if tls {
            let (certificate, key) = certificate(out)?;
            command.args(["--set", &format!("tls.certificate_file={}", certificate.display())]);
            command.args(["--set", &format!("tls.key_file={}", key.display())]);
        }
        let program = Program::start("the gateway", command, &out.join("gateway.log"))?;
        let scheme = if tls { "wss" } else { "ws" };
        let mut echo = Self { program, url: format!("{scheme}://{listen}/v1/stream"), admin };
        let deadline = Instant::now() + START_MAX;
        while TcpStream::connect(listen).is_err() {
            echo.program.check()?;
            if Instant::now() > deadline {
                return Err(Failure::error(1, format!("the gateway does not listen at {listen}")));
            }
            shell::pause(Duration::from_millis(50))?;
        }
        Ok(echo)
    }

    /// Fails when it has ended, or anything in it has panicked.
    fn check(&mut self) -> Result<()> {
        self.program.check()?;
        let (_, metrics) = http::get(self.admin, "/metrics").context("asking the gateway for its metrics")?;
        if metrics.lines().any(|line| line == "tickgate_panics_total 0") {
            return Ok(());
        }
        Err(Failure::error(1, format!("something in the gateway panicked:\n{}", self.program.log_tail(20))))
    }
}

/// A certificate for this machine, which nobody vouches for and the suite does not ask about, and its key.
fn certificate(out: &Path) -> Result<(PathBuf, PathBuf)> {
    setup::ensure(&[Need::Openssl])?;
    let (certificate, key) = (out.join("certificate.pem"), out.join("key.pem"));
    let words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost";
    let mut command = Command::new("openssl");
    command.args(words.split(' ')).args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
    command.arg("-keyout").arg(&key).arg("-out").arg(&certificate).stderr(Stdio::null());
    shell::run(&mut command)?;
    Ok((certificate, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_as_large_as_they_say() {
        let core = Profile::Core.cases().len();
        for profile in [Profile::Core, Profile::Quick, Profile::Full] {
            let mut cases = profile.cases();
            assert_eq!(cases.len() - core, profile.count() - Profile::Core.count(), "{profile:?}");
            let all = cases.len();
            cases.sort();
            cases.dedup();
            assert_eq!(cases.len(), all, "each once");
        }
    }
}
