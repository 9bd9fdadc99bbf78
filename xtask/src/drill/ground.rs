//! What a drill is held on: a broker, a market, a gateway, clients that keep up, and Prometheus with the rules as they are.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::background::{self, Program, between, free_ports};
use crate::dashboards::fresh_dir;
use crate::dashboards::prometheus::Prometheus;
use crate::dashboards::stage::program;
use crate::http;
use crate::shell::{self, Failure};

use super::history::History;

/// How the gateway is called in Prometheus, so that the days before and now are of one.
pub const JOB: &str = "tickgate";
pub const INSTANCE: &str = "gateway";
pub const TOPIC: &str = "ticks";
pub const CLIENTS: u64 = 200;
/// Ticks a second over all symbols: some 10,000 deliveries.
const TICKS_PER_S: u64 = 200;
pub const SYMBOLS: u64 = 100;

/// How long something may take until it is there.
const START_MAX: Duration = Duration::from_secs(40);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Broker,
    Market,
    Gateway,
    Clients,
    Prometheus,
    /// Whom the fault brought along.
    Fault,
}

/// What a drill needs of its gateway beside the ordinary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gateway {
    Plain,
    Tls,
    /// With inboxes that a short burst fills.
    SmallInbox,
    /// Which waits seconds for a socket that takes nothing, not a minute.
    QuickStall,
}

/// What runs; dropped, all of it ends.
#[derive(Debug)]
pub struct Ground {
    pub dir: PathBuf,
    pub broker: SocketAddr,
    /// Where clients connect to.
    pub url: String,
    pub prometheus: Prometheus,
    running: Vec<(Role, Program)>,
}

impl Ground {
    /// Starts all of it, and waits until clients are served and that is known.
    pub fn set(name: &str, kind: Gateway, history: &History) -> Result<Self> {
        let dir = fresh_dir(&format!("drill-{name}"))?;
        let log = dir.join("broker.log");
        let mut command = background::bound(&program("tickgate-broker"));
        command.args(["--listen", "127.0.0.1:0", "--topic", &format!("{TOPIC}:4")]);
        let mut started = Program::start("the broker", command, &log)?;
        let broker = started.said(START_MAX, |line| line.parse::<SocketAddr>().ok())?;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut ground = Self {
            dir,
            broker,
            url: String::new(),
            prometheus: Prometheus { address: nowhere },
            running: vec![(Role::Broker, started)],
        };
        let market = ground.market(TICKS_PER_S, 1);
        ground.start(Role::Market, "the simulator", market)?;
        let admin = ground.start_gateway(kind)?;
        let clients = ground.clients(CLIENTS, &["--resume", "cursor"], kind);
        ground.start(Role::Clients, "the clients", clients)?;
        ground.start_prometheus(admin, history)?;
        ground.until_served()?;
        Ok(ground)
    }

    /// The command for a market of so many ticks a second.
    pub fn market(&self, ticks_per_s: u64, seed: u64) -> Command {
        let mut command = background::bound(&program("tickgate-sim"));
        command.args(["run", "--model", "us-equities", "--topic", TOPIC, "--partitions", "0"]);
        command.args(["--symbols", &SYMBOLS.to_string(), "--rate", &ticks_per_s.to_string()]);
        command.args(["--seed", &seed.to_string(), "--brokers", &self.broker.to_string()]);
        command
    }

    /// The command for so many clients.
    pub fn clients(&self, count: u64, more: &[&str], kind: Gateway) -> Command {
        let mut command = background::bound(&program("tickgate-load"));
        command.args(["run", "--url", &self.url, "--connections", &count.to_string(), "--until-stopped"]);
        command.args(["--warmup", "1s", "--lag-max", "1h"]).args(more);
        if kind == Gateway::Tls {
            command.arg("--ca-file").arg(self.certificate_file());
        }
        command
    }

    /// Starts a program that is to run on.
    pub fn start(&mut self, role: Role, name: &str, command: Command) -> Result<()> {
        let log = self.dir.join(format!("{}.log", name.replace(' ', "-")));
        self.running.push((role, Program::start(name, command, &log)?));
        Ok(())
    }

    pub fn signal(&self, role: Role, signal: Signal) {
        self.of(role).for_each(|program| program.signal(signal));
    }

    /// Ends a program at once; it is not missed from here on.
    pub fn kill(&mut self, role: Role) {
        self.running.retain(|(other, _)| *other != role);
    }

    pub fn pid(&self, role: Role) -> Option<u32> {
        self.of(role).next().map(Program::pid)
    }

    fn of(&self, role: Role) -> impl Iterator<Item = &Program> {
        self.running.iter().filter(move |(other, _)| *other == role).map(|(_, program)| program)
    }

    /// Fails when something has ended that should run on.
    pub fn check(&mut self) -> Result<()> {
        self.running.iter_mut().try_for_each(|(_, program)| program.check())
    }

    pub fn gateway_file(&self) -> PathBuf {
        self.dir.join("gateway.toml")
    }

    fn certificate_file(&self) -> PathBuf {
        self.dir.join("certificate.pem")
    }

    fn key_file(&self) -> PathBuf {
        self.dir.join("key.pem")
    }

    /// Puts a certificate that is good for so many days where the gateway looks for it.
    pub fn certify(&self, days: u32) -> Result<()> {
        let key = self.key_file();
        if !key.exists() {
            let mut command = Command::new("openssl");
            command.args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"]).arg(&key);
            shell::output(&mut command).context("openssl makes no key")?;
        }
        let mut command = Command::new("openssl");
        command.args([
            "req",
            "-x509",
            "-new",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ]);
        command.args(["-addext", "basicConstraints=critical,CA:FALSE", "-days", &days.to_string(), "-key"]);
        command.arg(&key).arg("-out").arg(self.certificate_file());
        shell::output(&mut command).context("openssl makes no certificate")?;
        Ok(())
    }

    /// Starts a gateway with its defaults, from a file; where it says how it is.
    fn start_gateway(&mut self, kind: Gateway) -> Result<SocketAddr> {
        let more = match kind {
            Gateway::Plain => String::new(),
            Gateway::SmallInbox => "[session]\ninbox_batches = 128\n".to_owned(),
            Gateway::QuickStall => "[outbox]\nstall_timeout_ms = 5000\n".to_owned(),
            Gateway::Tls => {
                self.certify(30)?;
                let [certificate, key] = [self.certificate_file(), self.key_file()];
                format!("[tls]\ncertificate_file = {certificate:?}\nkey_file = {key:?}\nwatch_ms = 1000\n")
            }
        };
        let text = format!(
            "listen = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n{more}[kafka]\nbrokers = \"{}\"\n\
             [[feeds]]\ntopic = \"{TOPIC}\"\n",
            self.broker
        );
        write(&self.gateway_file(), &text)?;
        let mut command = background::bound(&program("tickgate"));
        command.args(["run", "--config"]).arg(self.gateway_file());
        let log = self.dir.join("gateway.log");
        let mut gateway = Program::start("the gateway", command, &log)?;
        self.url = gateway.said(START_MAX, |line| Some(between(line, "clients: ", " ")?.to_owned()))?;
        let admin = gateway.said(START_MAX, |line| between(line, "admin: http://", "/")?.parse().ok())?;
        self.running.push((Role::Gateway, gateway));
        self.until("the gateway is ready", |_| {
            Ok(http::get(admin, "/readyz").is_ok_and(|(status, _)| status == 200))
        })?;
        Ok(admin)
    }

    fn start_prometheus(&mut self, admin: SocketAddr, history: &History) -> Result<()> {
        let data = self.dir.join("data");
        history.copy_to(&data)?;
        let file = self.dir.join("prometheus.yml");
        let rules = shell::root().join("dashboards/prometheus");
        write(&file, &config(&rules, admin))?;
        // It does not say which port it took.
        self.prometheus = Prometheus { address: SocketAddr::from(([127, 0, 0, 1], free_ports(1)?[0])) };
        let mut command = background::bound(Path::new("prometheus"));
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", data.display()));
        // As large as they are: to make larger blocks of them would only cost time.
        command.args(["--storage.tsdb.min-block-duration=2h", "--storage.tsdb.max-block-duration=2h"]);
        command.arg(format!("--web.listen-address={}", self.prometheus.address)).arg("--log.level=warn");
        self.start(Role::Prometheus, "Prometheus", command)?;
        self.until("Prometheus is ready", |prometheus| Ok(prometheus.is_ready()))
    }

    fn until_served(&mut self) -> Result<()> {
        let expr = format!(
            "sum (tickgate_sessions_open{{job=\"{JOB}\"}}) >= {CLIENTS} and sum (rate(tickgate_events_sent_total[5s])) > 0"
        );
        self.until("clients are served", |prometheus| Ok(!prometheus.samples(&expr)?.is_empty()))
    }

    fn until(&mut self, what: &str, is_so: impl Fn(Prometheus) -> Result<bool>) -> Result<()> {
        let end = Instant::now() + START_MAX;
        while !is_so(self.prometheus)? {
            self.check()?;
            if Instant::now() > end {
                return Err(Failure::error(
                    1,
                    format!("it took too long until {what}: see {}", self.dir.display()),
                ));
            }
            shell::pause(LOOK_EVERY)?;
        }
        Ok(())
    }
}

pub fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// Prometheus with the repository's rules, which it looks at every second.
fn config(rules: &Path, admin: SocketAddr) -> String {
    format!(
        "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  evaluation_interval: 1s\n\
         rule_files: [{:?}, {:?}]\n\
         scrape_configs:\n  - job_name: {JOB}\n    static_configs:\n      - targets: [\"{admin}\"]\n        \
         labels: {{instance: {INSTANCE}}}\n",
        rules.join("rules.yml"),
        rules.join("alerts.yml"),
    )
}
