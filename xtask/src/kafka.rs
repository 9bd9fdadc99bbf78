//! A real Apache Kafka on this machine, for tests and for trying things out.
//!
//! Jars come from Maven Central by the ordinary `mvn` ([`jars`]), every node is a JVM with its files in the ignored
//! folder `.kafka` ([`cluster`], [`config`]), and what runs is written down there ([`state`]). "Up" means that the
//! brokers answer and count each other as alive ([`probe`]), not that a log says so. Topics are made by [`topic`].

mod cluster;
mod config;
mod jars;
mod probe;
mod produce;
mod state;
mod topic;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use clap::Subcommand;
use rustix::process::Signal;

use crate::background::tail;
use crate::lock::Lock;
use crate::shell::{self, Failure, human, step};
use cluster::{Cluster, Lifetime};
use config::Beside;
#[cfg(test)]
pub use jars::KAFKA_VERSION as VERSION;
pub use produce::{produce, produce_at};
use state::Node;
use topic::Topic;

/// `status` when some nodes answer and some don't.
const EXIT_PARTLY_UP: u8 = 3;

/// A real Apache Kafka on this machine: up, down, status.
///
/// Runs on loopback and on free ports, without ZooKeeper (KRaft), with little memory and quick retention checks, and
/// never creates a topic unasked. Everything is kept in `.kafka` at the root of the repository. `cargo xtask test` and
/// `cargo xtask cluster` use their own, which have nothing to do with this one.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One of its own, beside any other, with its files in `.kafka/named-NAME`
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    name: Option<String>,
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
        /// Another listener, of one node, for clients that are not on loopback: an address of this machine and a free port
        #[arg(long, value_name = "HOST:PORT")]
        listen: Option<SocketAddr>,
        /// Where clients of that listener are told that it is: the address of what stands between, if anything does
        #[arg(long, value_name = "HOST:PORT", requires = "listen")]
        advertise: Option<SocketAddr>,
    },
    /// Stop it and remove its data; what was downloaded stays
    Down,
    /// Say of each node whether it runs and answers
    ///
    /// Exit code 0 when all answer, 1 when nothing runs, 3 when only some answer.
    Status,
    /// Stop nodes, which hand their leaders over before they end; their data stays
    Stop {
        /// Their numbers, from 1
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<usize>,
    },
    /// Kill nodes without a word to them; their data stays
    Kill {
        /// Their numbers, from 1
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<usize>,
    },
    /// Start nodes again that were stopped or killed, with the data they had, and wait until they answer
    Start {
        /// Their numbers, from 1
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<usize>,
    },
}

pub fn run(args: Args) -> Result<()> {
    let base = base();
    let dir = args.name.map_or_else(|| base.clone(), |name| base.join(format!("named-{name}")));
    let cluster = Cluster::new(&base, &dir);
    match args.command {
        Command::Up { nodes, listen, advertise } => {
            let beside = listen
                .map(|listen| Beside { listen, advertised: advertise.unwrap_or(listen) })
                .filter(|_| nodes == 1);
            if listen.is_some() && beside.is_none() {
                bail!("--listen is for one node: each of several would need an address of its own");
            }
            let _lock = lock(&cluster)?;
            up(&cluster, nodes, beside)
        }
        Command::Down => {
            let _lock = lock(&cluster)?;
            down(&cluster)
        }
        Command::Status => status(&cluster),
        Command::Stop { nodes } => {
            let _lock = lock(&cluster)?;
            cluster.end(&nodes, Signal::TERM)
        }
        Command::Kill { nodes } => {
            let _lock = lock(&cluster)?;
            cluster.end(&nodes, Signal::KILL)
        }
        Command::Start { nodes } => {
            let _lock = lock(&cluster)?;
            cluster.start_again(&nodes)
        }
    }
}

/// Runs `work` with the bootstrap address of a cluster of three nodes: the one that is up, or one for that time.
pub fn with_cluster(work: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    const NODES: usize = 3;
    let base = base();
    let cluster = Cluster::new(&base, &base);
    let (bootstrap, is_ours) = {
        let _lock = lock(&cluster)?;
        let running = cluster.nodes()?;
        match running.iter().filter(|node| answers(node)).count() {
            NODES if running.len() == NODES => (state::bootstrap(&running), false),
            _ if running.iter().any(Node::alive) => {
                bail!("another Apache Kafka is up than one of {NODES} nodes; `cargo xtask kafka down` first")
            }
            _ => {
                cluster.stop()?;
                (state::bootstrap(&cluster.start(NODES, Lifetime::UntilDown)?), true)
            }
        }
    };
    let result = work(&bootstrap);
    if is_ours {
        let _lock = lock(&cluster)?;
        cluster.stop()?;
    }
    result
}

/// A Kafka for as long as something else runs, with files of its own; dropped, it is stopped and its data removed.
#[derive(Debug)]
pub struct TemporaryKafka {
    cluster: Cluster,
    nodes: Vec<Node>,
    _lock: Lock,
}

impl TemporaryKafka {
    /// Starts `count` nodes in the folder `name`.
    ///
    /// # Errors
    /// That it is `busy`, when another command has it, and when it doesn't start.
    pub fn start(name: &str, count: usize, busy: &'static str) -> Result<Self> {
        let base = base();
        let cluster = Cluster::new(&base, &base.join(name));
        let Some(lock) = Lock::try_take(&cluster.dir().join("lock"))? else { bail!(busy) };
        // What a run that was killed outright may have left.
        cluster.stop()?;
        let started = Instant::now();
        let nodes = cluster.start(count, Lifetime::WithUs)?;
        let kafka = Self { cluster, nodes, _lock: lock };
        step(format_args!(
            "Apache Kafka answers at {} after {}",
            kafka.bootstrap(),
            human(started.elapsed())
        ));
        Ok(kafka)
    }

    /// `host:port` of every node, comma-separated.
    pub fn bootstrap(&self) -> String {
        state::bootstrap(&self.nodes)
    }

    /// Makes a topic with a copy of every partition on every node, of which most have to be in sync.
    ///
    /// # Errors
    /// What the broker says against it.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        let nodes = self.nodes.len();
        let Some(node) = self.nodes.first() else { bail!("no node was started") };
        let topic =
            Topic { name, partitions, replicas: nodes as i16, in_sync_min: config::in_sync_min(nodes) };
        topic.create(node.address())
    }

    /// The last warnings of the first broker, to be shown when something has failed.
    pub fn log_tail(&self) -> String {
        tail(&self.cluster.log(1), 20)
    }
}

impl Drop for TemporaryKafka {
    fn drop(&mut self) {
        // Nothing of it is to be kept.
        match self.cluster.kill() {
            Ok(_) => step("Apache Kafka is stopped"),
            Err(error) => eprintln!("xtask: stopping Apache Kafka: {error:#}"),
        }
    }
}

fn up(cluster: &Cluster, count: usize, beside: Option<Beside>) -> Result<()> {
    let running = cluster.nodes()?;
    let answering = running.iter().filter(|node| answers(node)).count();
    match (running.len(), answering) {
        (have, up) if have == up && have == count && beside.is_none() => {
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
    let nodes = cluster.start_beside(count, beside, Lifetime::UntilDown)?;
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

fn parse_name(text: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if (1..=40).contains(&text.len()) && text.chars().all(legal) {
        Ok(text.to_owned())
    } else {
        Err("1 to 40 letters, digits and `-`".to_owned())
    }
}

fn parse_nodes(text: &str) -> Result<usize, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        _ => Err("1 or 3".to_owned()),
    }
}
