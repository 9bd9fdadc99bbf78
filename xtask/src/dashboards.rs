//! The dashboards: rendered from their source, looked at, and proven against a real Prometheus.
//!
//! `dashboards/grafana/source` is what people edit, the JSON beside it is what Grafana reads. A panel that shows nothing looks
//! like a panel with nothing to show: so every query is asked of a Prometheus that has seen the whole gateway under load.

pub mod board;
mod labels;
mod lint;
pub mod names;
mod preview;
pub mod prometheus;
pub mod prove;
pub mod stage;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::setup::{self, Need};
use crate::shell::{self, Failure, step};
use crate::venv;

const DIR: &str = "dashboards/grafana";
const SOURCE: &str = "dashboards/grafana/source";
const REQUIREMENTS: &str = "dashboards/grafana/source/requirements.txt";
const RULES: &str = "dashboards/prometheus/rules.yml";
const ALERTS: &str = "dashboards/prometheus/alerts.yml";
const RULE_TESTS: [&str; 2] =
    ["dashboards/prometheus/alerts_test.yml", "dashboards/prometheus/budget_test.yml"];

/// Renders the Grafana dashboards, looks at them, and proves that each of their queries returns data.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Write dashboards/grafana/*.json from dashboards/grafana/source
    Render,
    /// Render again and compare; look at panels, and at the names of metrics in them, in rules, in alerts and in their tests
    ///
    /// Every panel needs a title, a description, a unit and a query; every metric in a query has to be one of the catalogs of
    /// the gateway and the load programs, or of a rule, with labels and values that docs/metrics.md has; and every metric of the
    /// catalogs has to be on a dashboard, in a rule or in an alert.
    Check,
    /// Ask a real Prometheus every query of every panel, variable and rule, with the whole of it under load
    ///
    /// Starts a broker, a gateway, simulators, clients of which some are slow, stalled or come and go, and Prometheus, on free ports.
    /// Every query must return a number that is one; while nothing is going on, every panel must have something to show. And
    /// `promtool check metrics` must have nothing to say of what is scraped.
    Prove(ProveArgs),
    /// Draw dashboards/previews/*.png: what the dashboards are like, drawn by a page of ours in Chromium
    ///
    /// The same JSON and the same Prometheus as in the proof, but not Grafana.
    Preview,
}

#[derive(Debug, clap::Args)]
pub struct ProveArgs {
    /// Ask this Prometheus instead, which scrapes Tickgate and has its rules; nothing is started
    #[arg(long, value_name = "HOST:PORT")]
    prometheus: Option<SocketAddr>,
}

pub fn run(args: Args) -> Result<()> {
    match args.command {
        What::Render => render(),
        What::Check => check(),
        What::Prove(ProveArgs { prometheus: Some(address) }) => prove::ask_other(address),
        What::Preview => {
            stage::build()?;
            preview::preview()
        }
        What::Prove(_) => {
            stage::build()?;
            prove::prove()
        }
    }
}

/// Both, with programs that were built already, for continuous integration.
pub fn short() -> Result<()> {
    check()?;
    prove::prove()
}

/// Writes what the source says into the repository.
fn render() -> Result<()> {
    let dir = shell::root().join(DIR);
    for name in names_in(&dir)? {
        fs::remove_file(dir.join(&name)).with_context(|| format!("removing {name}"))?;
    }
    render_to(&dir)?;
    step(format_args!("{} dashboards in {DIR}", names_in(&dir)?.len()));
    Ok(())
}

fn render_to(dir: &Path) -> Result<()> {
    setup::ensure(&[Need::Python])?;
    let tools = venv::bin("grafana", REQUIREMENTS)?;
    let mut command = Command::new(tools.join("python"));
    // Nothing is left beside the source.
    command.arg("-B").arg(shell::root().join(SOURCE).join("render.py")).arg(dir);
    shell::run(&mut command)
}

/// # Errors
/// All findings.
fn check() -> Result<()> {
    let mut findings = differences()?;
    let boards = board::all()?;
    for board in &boards {
        findings.extend(board.findings());
    }
    findings.extend(names::Known::read()?.findings(&boards)?);
    if findings.is_empty() {
        let panels: usize = boards.iter().map(|board| board.panels.len()).sum();
        step(format_args!("{} dashboards of {panels} panels are as their source says", boards.len()));
        return Ok(());
    }
    Err(Failure::error(1, format!("{} finding(s)\n{}", findings.len(), findings.join("\n"))))
}

/// Where the JSON in the repository is not what the source says.
fn differences() -> Result<Vec<String>> {
    let fresh = fresh_dir("rendered")?;
    render_to(&fresh)?;
    let committed = shell::root().join(DIR);
    let mut all = names_in(&fresh)?;
    all.extend(names_in(&committed)?);
    all.sort();
    all.dedup();
    let differs = |name: &String| fs::read(fresh.join(name)).ok() != fs::read(committed.join(name)).ok();
    let finding = |name| format!("{DIR}/{name} is not what its source says: `cargo xtask dashboards render`");
    Ok(all.into_iter().filter(differs).map(finding).collect())
}

/// The dashboards in a folder, sorted.
fn names_in(dir: &Path) -> Result<Vec<String>> {
    let reading = || format!("reading {}", dir.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(reading)? {
        let name = entry.with_context(reading)?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".json") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// An empty folder for what is needed only now.
pub fn fresh_dir(name: &str) -> Result<PathBuf> {
    let dir = shell::target_dir().join("dashboards").join(name);
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    Ok(dir)
}
