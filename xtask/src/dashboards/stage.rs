//! All of it on this machine, at its worst: a gateway with slow, stalled and returning clients, a feed that falls silent,
//! records that cannot be read, and Prometheus, on free ports.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::prometheus::{Prometheus, quoted};
use super::{RULES, fresh_dir};
use crate::background::{self, Program, between, free_ports};
use crate::kafka;
use crate::setup::{self, Need};
use crate::shell::{self, step};

/// How long a program may take until it is up.
const START_MAX: Duration = Duration::from_secs(30);

/// What the gateway is set to, beside its addresses, so that everything it counts happens within seconds.
const SETTINGS: [&str; 7] = [
    "kafka.dead_letter_topic=dead",
    "delays.delayed_s=1",
    "outbox.bytes_max=64KiB",
    "outbox.frame_bytes_max=64KiB",
    // So that a slow client is through with one now and then: only then is it measured how long its events waited.
    "outbox.write_bytes_max=8KiB",
    "outbox.age_max_ms=1s",
    "outbox.stall_timeout_ms=5s",
];
const TOPICS: [&str; 3] = ["ticks:4", "paused:2", "dead:1"];

/// Records that nobody can read, and how often they come.
const UNREADABLE: [&[u8]; 3] =
    [b"certainly not JSON", b"{\"type\":\"trade\"}", b"{\"type\":\"weather\",\"symbol\":\"SUN\"}"];
const UNREADABLE_EVERY: Duration = Duration::from_secs(1);

/// Markets: a name, the model, the topic, ticks a second, and what else.
const MARKETS: [(&str, &str, &str, &str, &[&str]); 3] = [
    ("simulator", "us-equities", "ticks", "800", &[]),
    ("simulator of books", "crypto-perp", "ticks", "50", &["--bad-every", "50"]),
    ("simulator that stops", "fx", "paused", "50", &["--for", "12s"]),
];

/// Clients: a name, how many, and what they are like.
const CLIENTS: [(&str, &str, &[&str]); 3] = [
    (
        "clients",
        "60",
        &[
            "--personas",
            "stalled=10%,slow=10%@8000,churning=5%@1s,reconnecting=10%@4s",
            "--resume",
            "mixed",
            "--on-slow",
            "skip",
        ],
    ),
    (
        "clients that may be disconnected",
        "20",
        &["--personas", "stalled=25%,slow=25%@500", "--resume", "cursor", "--on-slow", "disconnect"],
    ),
    // Never cut off, so that what they are sent is live, and had to wait.
    ("clients that lag", "10", &["--personas", "slow=100%@8000", "--resume", "never", "--on-slow", "skip"]),
];

/// What runs; dropped, all of it ends.
#[derive(Debug)]
pub struct Stage {
    dir: PathBuf,
    broker: SocketAddr,
    /// Where clients connect to.
    url: String,
    prometheus: Prometheus,
    /// What says how it is and goes on doing so: a name, and where.
    scraped: Vec<(String, SocketAddr)>,
    running: Vec<Program>,
    /// Some of these end by themselves.
    markets: Vec<Program>,
    /// When records came last that nobody can read; before there is load, none do.
    unreadable: Option<Instant>,
}

/// Builds the programs.
pub fn build() -> Result<()> {
    setup::ensure(&[Need::Build])?;
    step(
        "building gateway, broker, simulator and clients (the first time takes some minutes, librdkafka included)",
    );
    let packages = ["tickgate-gateway", "tickgate-broker", "tickgate-sim", "tickgate-load"];
    shell::run(
        shell::cargo().args(["build", "--bins"]).args(packages.iter().flat_map(|name| ["--package", name])),
    )
}

/// One of the programs built.
pub fn program(name: &str) -> PathBuf {
    shell::target_dir().join("debug").join(name)
}

impl Stage {
    /// Starts everything that makes no load.
    pub fn set() -> Result<Self> {
        setup::ensure(&[Need::Prometheus, Need::Openssl])?;
        let dir = fresh_dir("stage")?;
        let mut broker = background::bound(&program("tickgate-broker"));
        broker.args(["--listen", "127.0.0.1:0"]).args(TOPICS.iter().flat_map(|topic| ["--topic", topic]));
        let (log, mut running) = (dir.join("broker.log"), Vec::new());
        let mut broker = Program::start("the broker", broker, &log)?;
        let at = broker.said(START_MAX, |line| line.parse::<SocketAddr>().ok())?;
        running.push(broker);

        let mut scraped = Vec::new();
        let (gateway, url, admin) = start_gateway(&dir, "gateway", at, &SETTINGS)?;
        scraped.push(("gateway".to_owned(), admin));
        running.push(gateway);
        let tls = certificate(&dir)?;
        let (gateway, _, other) =
            start_gateway(&dir, "gateway with TLS", at, &tls.each_ref().map(String::as_str))?;
        scraped.push(("gateway with TLS".to_owned(), other));
        running.push(gateway);

        // Prometheus does not say which port it took.
        let address = SocketAddr::from(([127, 0, 0, 1], free_ports(1)?[0]));
        let mut stage = Self {
            dir,
            broker: at,
            url,
            prometheus: Prometheus { address },
            scraped,
            running,
            markets: Vec::new(),
            unreadable: None,
        };
        stage.start_prometheus(&[admin, other])?;
        Ok(stage)
    }

    pub fn prometheus(&self) -> Prometheus {
        self.prometheus
    }

    /// What can be scraped until the end.
    pub fn scraped(&self) -> &[(String, SocketAddr)] {
        &self.scraped
    }

    fn start_prometheus(&mut self, admins: &[SocketAddr]) -> Result<()> {
        let dir = &self.dir;
        let rules =
            fs::read_to_string(shell::root().join(RULES)).with_context(|| format!("reading {RULES}"))?;
        write(&dir.join("rules.yml"), &hastened(&rules))?;
        // Programs that come later are written there.
        fs::create_dir_all(dir.join("targets")).context("making a folder for targets")?;
        write(&dir.join("prometheus.yml"), &config(admins))?;
        let (_, program) = Prometheus::start(dir, self.prometheus.address)?;
        self.running.push(program);
        Ok(())
    }

    /// Starts markets and clients.
    pub fn load(&mut self) -> Result<()> {
        self.unreadable = Some(Instant::now());
        let mut targets = Vec::new();
        for (name, model, topic, rate, more) in MARKETS {
            let mut command = background::bound(&program("tickgate-sim"));
            command.args(["run", "--model", model, "--symbols", "100", "--rate", rate, "--topic", topic]);
            command.args(["--brokers", &self.broker.to_string(), "--partitions", "0"]);
            command.args(more);
            let (market, address) = start(&self.dir, name, command)?;
            self.markets.push(market);
            targets.push(address);
            if !more.contains(&"--for") {
                self.scraped.push((name.to_owned(), address));
            }
        }
        for (name, connections, more) in CLIENTS {
            let mut command = background::bound(&program("tickgate-load"));
            command.args(["run", "--url", &self.url, "--connections", connections, "--until-stopped"]);
            command.args(["--discover", "2s", "--warmup", "1s", "--lag-max", "1h"]).args(more);
            let (clients, address) = start(&self.dir, name, command)?;
            self.running.push(clients);
            targets.push(address);
            self.scraped.push((name.to_owned(), address));
        }
        let text = format!("[{{\"targets\": {}}}]\n", quoted(&targets));
        write(&self.dir.join("targets/load.json"), &text)
    }

    /// Goes on with what is wrong on purpose; fails when something has ended that should run on.
    pub fn check(&mut self) -> Result<()> {
        if self.unreadable.is_some_and(|last| last.elapsed() >= UNREADABLE_EVERY) {
            kafka::produce(self.broker, "ticks", 0, &UNREADABLE)?;
            self.unreadable = Some(Instant::now());
        }
        self.running.iter_mut().try_for_each(Program::check)
    }
}

/// Starts a gateway: where its clients connect to, and where it says how it is.
fn start_gateway(
    dir: &Path,
    name: &str,
    broker: SocketAddr,
    settings: &[&str],
) -> Result<(Program, String, SocketAddr)> {
    let mut command = background::bound(&program("tickgate"));
    command.args(["run", "--brokers", &broker.to_string(), "--topic", "ticks,paused"]);
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    command.args(["--set", "kafka.statistics_ms=1000"]);
    command.args(settings.iter().flat_map(|setting| ["--set", setting]));
    let log = dir.join(format!("{}.log", name.replace(' ', "-")));
    let mut gateway = Program::start(format!("the {name}"), command, &log)?;
    let url = gateway.said(START_MAX, |line| Some(between(line, "clients: ", " ")?.to_owned()))?;
    let admin = gateway.said(START_MAX, |line| between(line, "admin: http://", "/")?.parse().ok())?;
    Ok((gateway, url, admin))
}

/// Makes a certificate; the settings that say where it is.
fn certificate(dir: &Path) -> Result<[String; 2]> {
    let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    command
        .args(["-days", "30", "-subj", "/CN=localhost", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate);
    shell::output(&mut command).context("openssl makes no certificate")?;
    let setting = |name: &str, path: &Path| format!("tls.{name}={}", path.display());
    Ok([setting("certificate_file", &certificate), setting("key_file", &key)])
}

/// Starts a program that makes load and says how it is: the program, and where it says so.
fn start(dir: &Path, name: &str, mut command: Command) -> Result<(Program, SocketAddr)> {
    command.args(["--metrics", "127.0.0.1:0"]);
    let log = dir.join(format!("{}.log", name.replace(' ', "-")));
    let mut program = Program::start(format!("the {name}"), command, &log)?;
    let address = program.said(START_MAX, metrics_address)?;
    Ok((program, address))
}

/// Where a program that makes load says how it is.
pub fn metrics_address(line: &str) -> Option<SocketAddr> {
    between(line, ": metrics at http://", "/metrics")?.parse().ok()
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// The rules, all of them evaluated every second.
fn hastened(rules: &str) -> String {
    let is_slow = |line: &str| line.trim_start().starts_with("interval:");
    rules.lines().filter(|line| !is_slow(line)).flat_map(|line| [line, "\n"]).collect()
}

fn config(admins: &[SocketAddr]) -> String {
    format!(
        "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  evaluation_interval: 1s\nrule_files: [rules.yml]\n\
         scrape_configs:\n  - job_name: tickgate\n    static_configs:\n      - targets: {}\n  \
         - job_name: load\n    file_sd_configs:\n      - files: [targets/load.json]\n        refresh_interval: 1s\n",
        quoted(admins)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_hastened() {
        assert_eq!(hastened("- name: a\n  interval: 1m\n  rules:\n"), "- name: a\n  rules:\n");
        let rules = fs::read_to_string(shell::root().join(RULES)).unwrap();
        assert!(rules.contains("interval: 1m") && !hastened(&rules).contains("interval:"));
    }

    #[test]
    fn addresses_are_read_from_the_log() {
        let line = r#"{"message":"clients: ws://127.0.0.1:1/v1/stream   admin: http://127.0.0.1:2/","sessions":"s"}"#;
        assert_eq!(between(line, "clients: ", " "), Some("ws://127.0.0.1:1/v1/stream"));
        assert_eq!(between(line, "admin: http://", "/"), Some("127.0.0.1:2"));
        assert_eq!(between("nothing", "clients: ", " "), None);
        let line = "tickgate-load: metrics at http://127.0.0.1:3/metrics";
        assert_eq!(metrics_address(line), Some(SocketAddr::from(([127, 0, 0, 1], 3))));
    }
}
