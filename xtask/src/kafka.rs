//! A real Apache Kafka on this machine, for tests and for trying things out.
//!
//! Jars come from Maven Central by the ordinary `mvn` ([`jars`]), every node is a JVM with its files in the ignored
//! folder `.kafka` ([`cluster`], [`config`]), and what runs is written down there ([`state`]). "Up" means that the
//! brokers answer and count each other as alive ([`probe`]), not that a log says so.

mod cluster;
mod config;
mod jars;
mod probe;
mod state;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use clap::Subcommand;

use crate::lock::Lock;
use crate::shell::{self, Failure, human, step};
use cluster::{Cluster, Lifetime};
#[cfg(test)]
pub use jars::KAFKA_VERSION as VERSION;
use state::Node;

/// `status` when some nodes answer and some don't.
const EXIT_PARTLY_UP: u8 = 3;

/// A real Apache Kafka on this machine: up, down, status.
///
/// Runs on loopback and on free ports, without ZooKeeper (KRaft), with little memory and quick retention checks, and
/// never creates a topic unasked. Everything is kept in `.kafka` at the root of the repository. `cargo xtask test` uses
/// one of its own that has nothing to do with this.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start it with empty data and wait until it answers; prints `bootstrap: HOST:PORT[,…]`
    ///
    /// It stays when this command has ended. When it is already up, this says so and changes nothing.
    /// Logs are in `.kafka/node-N.log`.
    Up {
        /// One node, or a cluster of three in which everything is replicated three times
        #[arg(long, default_value_t = 1, value_parser = parse_nodes)]
        nodes: usize,
    },
    /// Stop it and remove its data; what was downloaded stays
    Down,
    /// Say of each node whether it runs and answers
    ///
    /// Exit code 0 when all answer, 1 when nothing runs, 3 when only some answer.
    Status,
}

pub fn run(args: Args) -> Result<()> {
    let base = base();
    let cluster = Cluster::new(&base, &base);
    match args.command {
        Command::Up { nodes } => {
            let _lock = lock(&cluster)?;
            up(&cluster, nodes)
        }
        Command::Down => {
            let _lock = lock(&cluster)?;
            down(&cluster)
        }
        Command::Status => status(&cluster),
    }
}

/// A one-node Kafka for the time of a test run; dropped, it is stopped and its data removed.
#[derive(Debug)]
pub struct TestKafka {
    cluster: Cluster,
    bootstrap: String,
    _lock: Lock,
}

impl TestKafka {
    /// # Errors
    /// When another test run of this checkout has one, and when it doesn't start.
    pub fn start() -> Result<Self> {
        let base = base();
        let cluster = Cluster::new(&base, &base.join("test"));
        let Some(lock) = Lock::try_take(&cluster.dir().join("lock"))? else {
            bail!("another `cargo xtask test` of this checkout is running; wait for it, or use --no-kafka");
        };
        // What a run that was killed outright may have left.
        cluster.stop()?;
        let started = Instant::now();
        let nodes = cluster.start(1, Lifetime::WithUs)?;
        let bootstrap = state::bootstrap(&nodes);
        step(format_args!("Apache Kafka answers at {bootstrap} after {}", human(started.elapsed())));
        Ok(Self { cluster, bootstrap, _lock: lock })
    }

    /// `host:port`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The last warnings of the broker, to be shown when tests have failed.
    pub fn log_tail(&self) -> String {
        tail(&self.cluster.log(1), 20)
    }
}

impl Drop for TestKafka {
    fn drop(&mut self) {
        match self.cluster.stop() {
            Ok(_) => step("Apache Kafka is stopped"),
            Err(error) => eprintln!("xtask: stopping Apache Kafka: {error:#}"),
        }
    }
}

fn up(cluster: &Cluster, count: usize) -> Result<()> {
    let running = cluster.nodes()?;
    let answering = running.iter().filter(|node| answers(node)).count();
    match (running.len(), answering) {
        (have, up) if have == up && have == count => {
            step("already up");
            println!("bootstrap: {}", state::bootstrap(&running));
            return Ok(());
        }
        _ if running.iter().any(Node::alive) => bail!(
            "{} node(s) were started and {answering} answer; `cargo xtask kafka down` first",
            running.len()
        ),
        // Nothing alive: a restart of the machine, say. Clear what it left.
        _ => cluster.stop()?,
    };
    let started = Instant::now();
    let nodes = cluster.start(count, Lifetime::UntilDown)?;
    step(format_args!("up after {}; `cargo xtask kafka down` stops it", human(started.elapsed())));
    println!("bootstrap: {}", state::bootstrap(&nodes));
    Ok(())
}

fn down(cluster: &Cluster) -> Result<()> {
    let started = Instant::now();
    match cluster.stop()? {
        0 => step("nothing was running"),
        count => step(format_args!("stopped {count} node(s) in {}", human(started.elapsed()))),
    }
    Ok(())
}

fn status(cluster: &Cluster) -> Result<()> {
    let nodes = cluster.nodes()?;
    if nodes.is_empty() {
        return Err(Failure::error(1, "not up; `cargo xtask kafka up` starts it"));
    }
    let now_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let mut answering = 0;
    for node in &nodes {
        let Node { id, pid, .. } = node;
        let address = node.address();
        if !node.alive() {
            println!("node {id}  {address}  dead (was pid {pid}); log: {}", cluster.log(*id).display());
        } else if !answers(node) {
            println!(
                "node {id}  {address}  pid {pid}  runs but does not answer; log: {}",
                cluster.log(*id).display()
            );
        } else {
            answering += 1;
            println!(
                "node {id}  {address}  pid {pid}  answers, sees {} of {} brokers, up {} s, {} MiB resident",
                probe::brokers_alive(address),
                nodes.len(),
                now_unix_s.saturating_sub(node.started_unix_s),
                node.resident_kib().unwrap_or(0) / 1024,
            );
        }
    }
    println!("bootstrap: {}", state::bootstrap(&nodes));
    match answering {
        0 => Err(Failure::error(1, "no node answers; `cargo xtask kafka down` clears it away")),
        some if some < nodes.len() => {
            Err(Failure::error(EXIT_PARTLY_UP, format!("{some} of {} nodes answer", nodes.len())))
        }
        _ => Ok(()),
    }
}

fn answers(node: &Node) -> bool {
    node.alive() && probe::answers(node.address())
}

fn base() -> PathBuf {
    shell::root().join(".kafka")
}

fn lock(cluster: &Cluster) -> Result<Lock> {
    Lock::take(&cluster.dir().join("lock"), "another `cargo xtask kafka` is at work")
}

fn parse_nodes(text: &str) -> Result<usize, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        _ => Err("1 or 3".to_owned()),
    }
}

/// The last lines of a log, indented, for an error message.
fn tail(file: &Path, lines: usize) -> String {
    let bytes = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<_> = text.lines().collect();
    let last: Vec<_> =
        all[all.len().saturating_sub(lines)..].iter().map(|line| format!("    {line}")).collect();
    last.join("\n")
}
