//! The demo under the eyes of Prometheus, Alertmanager and Grafana, each of them set up as the repository says.

mod grafana;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::background::{self, Program, between, free_ports};
use crate::cluster::Programs;
use crate::dashboards::prometheus::{Answer, Prometheus, quoted};
use crate::dashboards::stage::metrics_address;
use crate::http;
use crate::setup::{self, Need};
use crate::shell::{self, Failure, step};
use grafana::Grafana;

/// How long a program may take until it is up; Grafana makes its database first.
const START_MAX: Duration = Duration::from_secs(60);
/// How long one may take to end: the simulator waits for its last deliveries, the generator for its clients.
const END_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// As often as compose.yaml's Prometheus looks, or more: quantiles look back over ten seconds.
const SCRAPE_S: u32 = 2;

/// Where things are looked for unless somebody has taken the place.
const PROMETHEUS_PORT: u16 = 9091;
const ALERTMANAGER_PORT: u16 = 9093;
const GRAFANA_PORT: u16 = 3000;

const RULES: &str = "dashboards/prometheus/rules.yml";
const ALERTS: &str = "dashboards/prometheus/alerts.yml";

/// Alerts are looked at here; nobody is called.
const ALERTMANAGER: &str =
    "route:\n  receiver: nobody\n  group_by: [alertname, job, slo]\nreceivers:\n  - name: nobody\n";

/// Starts the demo, Prometheus with its rules and alerts, and Grafana with the dashboards where it is installed.
///
/// The demo is broker, simulated market, gateway and clients in one process. Beside it a second market brings order books, and twenty
/// more clients come, some of whom go away and return; both say how they are to Prometheus, for the dashboard
/// of the load test. Alertmanager is started where it is installed; it shows alerts and calls nobody.
///
/// Default ports that are taken are replaced by free ones; the addresses are printed when everything is up. Only loopback is used.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// End after this time, like 30s, 5m or 1h, instead of with Ctrl-C
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    duration: Option<Duration>,
    /// Build for development: quicker to build, slower to run
    #[arg(long)]
    dev: bool,
    /// Arguments of `tickgate demo`; `cargo xtask demo -- --help` lists them
    #[arg(last = true, value_name = "ARGS")]
    demo: Vec<String>,
}

const MANUAL: &str = "\
Prometheus is Debian's package, installed if it may be (on a machine with an init system it starts a service of its own as well, on
port 9090). Grafana is taken from GRAFANA_HOME, or as `grafana` or `grafana-server` from PATH; its database, like the samples of Prometheus
(1 GB at most), configurations and logs, is in target/observe and made anew each time. Looking needs no password.

Alerts look at what there is: burn rates over days are those since the start here, so a busy machine, or a build for development, may \
well set them off.

Exit codes: 0 ended by Ctrl-C or after --for, and everything ended well; 1 something did not start, ended by itself or ended badly; 69 a tool
is missing that could not be installed; 130 interrupted before all of it was up.

Examples:
  cargo xtask observe
  cargo xtask observe --dev --for 30s -- --rate 1000 --clients 20
  GRAFANA_HOME=~/grafana-12.2.0 cargo xtask observe";

pub fn run(args: Args) -> Result<()> {
    setup::ensure(&[Need::Build, Need::Prometheus])?;
    let grafana = Grafana::find()?;
    let programs = Programs::build(args.dev)?;
    let mut all = Observed::start(&args, &programs, grafana)?;
    println!("{}", all.addresses);
    let end = args.duration.map(|duration| Instant::now() + duration);
    while end.is_none_or(|end| Instant::now() < end) {
        // The signal is the regular end.
        if shell::pause(LOOK_EVERY).is_err() {
            break;
        }
        all.programs.iter_mut().try_for_each(Program::check)?;
    }
    all.end()
}

/// All that runs, in the order in which it was started; dropped, it ends.
#[derive(Debug)]
struct Observed {
    programs: Vec<Program>,
    /// Where what is to be looked at.
    addresses: String,
}

impl Observed {
    fn start(args: &Args, built: &Programs, grafana: Option<Grafana>) -> Result<Self> {
        let dir = fresh_dir()?;
        let mut all = Self { programs: Vec::new(), addresses: String::new() };
        let mut command = background::bound(&built.gateway());
        command.arg("demo").args(&args.demo);
        let demo = all.add("the demo", command, &dir)?;
        let url = demo.said(START_MAX, |line| Some(line.strip_prefix("connect ")?.trim().to_owned()))?;
        let admin: SocketAddr =
            demo.said(START_MAX, |line| between(line, "curl http://", "/metrics")?.parse().ok())?;
        let kafka = demo
            .said(START_MAX, |line| between(line, "Kafka ", ", topic").map(str::trim).map(str::to_owned))?;

        let mut command = background::bound(&built.simulator());
        command.args([
            "run",
            "--model",
            "crypto-perp",
            "--symbols",
            "20",
            "--rate",
            "200",
            "--partitions",
            "0",
        ]);
        command.args(["--brokers", &kafka, "--metrics", "127.0.0.1:0"]);
        let market = all.add("the market with books", command, &dir)?.said(START_MAX, metrics_address)?;
        let mut command = background::bound(&built.clients());
        command.args([
            "run",
            "--url",
            &url,
            "--connections",
            "20",
            "--until-stopped",
            "--metrics",
            "127.0.0.1:0",
        ]);
        command.args(["--personas", "reconnecting=4@30s", "--resume", "mixed", "--warmup", "1s"]);
        // All of this shares one machine: its lateness is no failure here.
        command.args(["--channels", "trades=0.4,quotes=0.4,book=0.2", "--lag-max", "1h"]);
        let clients = all.add("the clients", command, &dir)?.said(START_MAX, metrics_address)?;

        let alertmanager = all.start_alertmanager(&dir)?;
        let grafana_at = grafana.as_ref().map(|_| free_address(GRAFANA_PORT)).transpose()?;
        for (name, text) in [
            ("rules.yml", read(RULES)?),
            ("alerts.yml", with_links(&read(ALERTS)?, grafana_at)),
            ("prometheus.yml", config(admin, &[market, clients], alertmanager)),
        ] {
            write(&dir.join(name), &text)?;
        }
        let (prometheus, program) = Prometheus::start(&dir, free_address(PROMETHEUS_PORT)?)?;
        all.programs.push(program);
        if let (Some(grafana), Some(address)) = (&grafana, grafana_at) {
            let command = grafana.command(&dir, address, prometheus.address)?;
            all.add("Grafana", command, &dir)?;
            all.wait("Grafana", || http::get(address, "/api/health").is_ok_and(|(status, _)| status == 200))?;
        }
        all.wait("the three targets of Prometheus", || {
            prometheus.ask("count(up == 1) == 3", true).is_ok_and(|answer| matches!(answer, Answer::Data(_)))
        })?;
        let rules = prometheus.rules()?.len();
        step(format_args!("3 targets are up, {rules} rules and alerts are loaded"));

        let dashboards = match grafana_at {
            Some(address) => format!("http://{address}/d/tickgate-overview"),
            None => "not here: no Grafana on PATH or in GRAFANA_HOME".to_owned(),
        };
        let alertmanager = match alertmanager {
            Some(address) => format!("http://{address}/"),
            None => "not here".to_owned(),
        };
        all.addresses = format!(
            "\n  dashboards    {dashboards}\n  Prometheus    http://{0}/   alerts: http://{0}/alerts\n  \
             Alertmanager  {alertmanager}\n  gateway       http://{admin}/metrics   {url}\n  \
             load          http://{clients}/metrics (clients)   http://{market}/metrics (market)\n  \
             logs          {1}\n  ends          {2}\n",
            prometheus.address,
            shown(&dir),
            if args.duration.is_some() { "by itself, or with Ctrl-C" } else { "with Ctrl-C" },
        );
        Ok(all)
    }

    /// Starts a program, with a log of its name.
    fn add(&mut self, name: &str, command: std::process::Command, dir: &Path) -> Result<&mut Program> {
        let log =
            dir.join(format!("{}.log", name.trim_start_matches("the ").replace(' ', "-").to_lowercase()));
        self.programs.push(Program::start(name, command, &log)?);
        self.programs.last_mut().context("it was just put there")
    }

    /// Starts an Alertmanager, where there is one.
    fn start_alertmanager(&mut self, dir: &Path) -> Result<Option<SocketAddr>> {
        // The first is Debian's name for it.
        let Some(program) = ["prometheus-alertmanager", "alertmanager"].into_iter().find_map(setup::on_path)
        else {
            return Ok(None);
        };
        write(&dir.join("alertmanager.yml"), ALERTMANAGER)?;
        let address = free_address(ALERTMANAGER_PORT)?;
        let mut command = background::bound(&program);
        command.arg(format!("--config.file={}", dir.join("alertmanager.yml").display()));
        command.arg(format!("--storage.path={}", dir.join("alertmanager").display()));
        // Without a cluster of its own.
        command
            .arg(format!("--web.listen-address={address}"))
            .args(["--cluster.listen-address=", "--log.level=warn"]);
        self.add("Alertmanager", command, dir)?;
        self.wait("Alertmanager", || http::get(address, "/-/ready").is_ok_and(|(status, _)| status == 200))?;
        Ok(Some(address))
    }

    fn wait(&mut self, what: &str, is_up: impl Fn() -> bool) -> Result<()> {
        let end = Instant::now() + START_MAX;
        while !is_up() {
            self.programs.iter_mut().try_for_each(Program::check)?;
            if Instant::now() > end {
                return Err(Failure::error(1, format!("not up within {START_MAX:?}: {what}")));
            }
            shell::pause(LOOK_EVERY)?;
        }
        Ok(())
    }

    /// Ends all of it, the watchers first, then the clients, the market and the demo.
    fn end(mut self) -> Result<()> {
        step("ending all of it");
        let mut failures = Vec::new();
        while let Some(mut program) = self.programs.pop() {
            let how = match program.stop(END_MAX)? {
                Some(status) if status.success() => continue,
                Some(status) => format!("{} ended badly ({status})", program.name()),
                None => format!("{} did not end within {END_MAX:?}", program.name()),
            };
            failures.push(format!("{how}:\n{}", program.log_tail(10)));
        }
        if failures.is_empty() { Ok(()) } else { bail!(failures.join("\n")) }
    }
}

/// What Prometheus scrapes, evaluates, and tells of alerts.
fn config(admin: SocketAddr, load: &[SocketAddr], alertmanager: Option<SocketAddr>) -> String {
    let alerting = match alertmanager {
        Some(address) => format!(
            "alerting:\n  alertmanagers:\n    - static_configs:\n        - targets: [\"{address}\"]\n"
        ),
        None => String::new(),
    };
    format!(
        "global:\n  scrape_interval: {SCRAPE_S}s\n  scrape_timeout: {SCRAPE_S}s\n  evaluation_interval: 5s\n\
         rule_files: [rules.yml, alerts.yml]\n{alerting}scrape_configs:\n  - job_name: tickgate\n    static_configs:\n      \
         - targets: {}\n  - job_name: load\n    static_configs:\n      - targets: {}\n",
        quoted(&[admin]),
        quoted(load)
    )
}

/// The alerts with links that lead somewhere on this machine.
fn with_links(alerts: &str, grafana: Option<SocketAddr>) -> String {
    let runbook = shell::root().join("docs/runbook.md");
    let alerts =
        alerts.replace("runbook_url: RUNBOOK", &format!("runbook_url: file://{}", runbook.display()));
    let grafana = grafana.unwrap_or(SocketAddr::from(([127, 0, 0, 1], GRAFANA_PORT)));
    alerts.replace("dashboard_url: GRAFANA", &format!("dashboard_url: http://{grafana}"))
}

/// That port on loopback, or a free one where it is taken.
fn free_address(port: u16) -> Result<SocketAddr> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    if TcpListener::bind(address).is_ok() {
        return Ok(address);
    }
    Ok(SocketAddr::from(([127, 0, 0, 1], free_ports(1)?[0])))
}

/// A time as people write it.
fn time(text: &str) -> Result<Duration, String> {
    let wrong = || "a time such as 30s, 5m or 1h".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let unit_s = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(wrong()),
    };
    let seconds = number.parse::<u32>().ok().filter(|number| *number > 0).ok_or_else(wrong)?;
    Ok(Duration::from_secs(u64::from(seconds) * unit_s))
}

/// An empty folder for all that is written.
fn fresh_dir() -> Result<PathBuf> {
    let dir = shell::target_dir().join("observe");
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    Ok(dir)
}

/// A path as seen from the repository.
fn shown(path: &Path) -> String {
    path.strip_prefix(shell::root()).unwrap_or(path).display().to_string()
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(shell::root().join(path)).with_context(|| format!("reading {path}"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn times_are_read() {
        for (text, seconds) in [("30s", 30), ("5m", 300), ("2h", 7_200)] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "30", "0s", "-1s", "5d", "5 m", "9999999999s", "3é"] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn prometheus_has_targets_rules_and_whom_to_tell() {
        let with = config(address(1), &[address(2), address(3)], Some(address(4)));
        for part in [
            "rule_files: [rules.yml, alerts.yml]\n",
            "job_name: tickgate\n    static_configs:\n      - targets: [\"127.0.0.1:1\"]\n",
            "job_name: load\n    static_configs:\n      - targets: [\"127.0.0.1:2\", \"127.0.0.1:3\"]\n",
            "alertmanagers:\n    - static_configs:\n        - targets: [\"127.0.0.1:4\"]\n",
        ] {
            assert!(with.contains(part), "{part}\n{with}");
        }
        assert!(!config(address(1), &[], None).contains("alerting:"), "nobody is told of them");
    }

    #[test]
    fn links_of_alerts_lead_somewhere() {
        let alerts = with_links(&read(ALERTS).unwrap(), Some(address(5)));
        let links: Vec<_> = alerts.lines().filter(|line| line.contains("_url: ")).collect();
        assert!(links.len() > 20);
        for link in links {
            assert!(
                link.contains("_url: file:///") || link.contains("_url: http://127.0.0.1:5/d/tickgate-"),
                "{link}"
            );
        }
    }

    #[test]
    fn a_port_that_is_taken_is_replaced() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_ne!(free_address(port).unwrap().port(), port);
    }
}
