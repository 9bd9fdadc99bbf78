//! Starting and stopping the nodes of one cluster that lives in one folder.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::config::{self, Beside, Ports};
use super::state::{self, Node};
use super::{jars, probe};
use crate::background::{self, free_ports, tail};
use crate::setup::{self, Need};
use crate::shell::{self, Progress};

/// How long all nodes together may take to answer. Seconds are usual; a machine that is compiling takes longer.
const START_MAX: Duration = Duration::from_secs(180);
/// How long a node may take to end by itself before it is killed.
const STOP_MAX: Duration = Duration::from_secs(10);
/// How long nodes may take to hand their leaders over and end.
const HAND_OVER_MAX: Duration = Duration::from_secs(60);
/// How often a node that is starting or ending is asked.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// A port was free when we chose it and may have been taken when Kafka binds it: then all are chosen anew.
const ATTEMPTS: usize = 3;

/// Whose end is the end of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Stays until it is stopped.
    UntilDown,
    /// Ends with this process, even when that is killed.
    WithUs,
}

/// A folder for the files of one cluster, and what runs there.
#[derive(Debug, Clone)]
pub struct Cluster {
    base: PathBuf,
    dir: PathBuf,
}

impl Cluster {
    /// The cluster in `dir`; `base` has the jars, shared by all.
    pub fn new(base: &Path, dir: &Path) -> Self {
        Self { base: base.to_owned(), dir: dir.to_owned() }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The nodes that were started here and not stopped.
    pub fn nodes(&self) -> Result<Vec<Node>> {
        state::load(&self.state_file())
    }

    /// Starts `count` nodes with empty data and waits until all of them answer and count each other as alive.
    ///
    /// # Errors
    /// When that takes too long or a node ends; then nothing is left running.
    pub fn start(&self, count: usize, lifetime: Lifetime) -> Result<Vec<Node>> {
        self.start_beside(count, None, lifetime)
    }

    /// The same, with a listener beside for clients elsewhere, which only one node can have.
    ///
    /// # Errors
    /// The same.
    pub fn start_beside(
        &self,
        count: usize,
        beside: Option<Beside>,
        lifetime: Lifetime,
    ) -> Result<Vec<Node>> {
        setup::ensure(&[Need::Java])?;
        let java = setup::java().context("no Java 17 or newer was found")?;
        let jars = jars::ensure(&self.base)?;
        let classpath = format!("{}/*", jars.display());
        for attempt in 1.. {
            let result = self.try_start(count, beside, lifetime, &java, &classpath);
            let Err(error) = result else { return result };
            self.stop()?;
            shell::check_interrupt()?;
            let port_taken = (1..=count).any(|id| {
                fs::read_to_string(self.log(id)).is_ok_and(|log| log.contains("Address already in use"))
            });
            if !port_taken || attempt == ATTEMPTS {
                return Err(error);
            }
            shell::step("a port was taken meanwhile: starting again with others");
        }
        unreachable!("the last attempt returns")
    }

    /// Stops every node that was started here and removes its data; the jars stay. Answers how many still ran.
    pub fn stop(&self) -> Result<usize> {
        self.clear(Signal::TERM)
    }

    /// The same without asking: the last nodes of several wait in vain for those that have gone.
    pub fn kill(&self) -> Result<usize> {
        self.clear(Signal::KILL)
    }

    fn clear(&self, signal: Signal) -> Result<usize> {
        let nodes = self.nodes()?;
        let running: Vec<_> = nodes.iter().filter(|node| node.alive()).collect();
        for node in &running {
            node.signal(signal);
        }
        let started = Instant::now();
        // No look at signals here: this has its own bound, and what was started must not stay.
        while running.iter().any(|node| node.alive()) {
            let waited = started.elapsed();
            if waited > STOP_MAX {
                for node in running.iter().filter(|node| node.alive()) {
                    shell::step(format_args!(
                        "node {} did not end by itself: killing pid {}",
                        node.id, node.pid
                    ));
                    node.signal(Signal::KILL);
                }
            }
            if waited > STOP_MAX * 2 {
                bail!("some nodes cannot be ended; `cargo xtask kafka status` lists them");
            }
            std::thread::sleep(ASK_EVERY);
        }
        for node in &nodes {
            jars::remove_dir(&self.data(node.id))?;
        }
        match fs::remove_file(self.state_file()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", self.state_file().display()))
            }
            _ => Ok(running.len()),
        }
    }

    /// Ends nodes by a signal and waits until they are gone; their data stays.
    ///
    /// # Errors
    /// When there is no such node, or it does not end.
    pub fn end(&self, ids: &[usize], signal: Signal) -> Result<()> {
        let nodes = self.nodes()?;
        let nodes: Vec<&Node> = ids.iter().map(|id| find(&nodes, *id)).collect::<Result<_>>()?;
        nodes.iter().for_each(|node| node.signal(signal));
        let started = Instant::now();
        while let Some(node) = nodes.iter().find(|node| node.alive()) {
            if started.elapsed() > HAND_OVER_MAX {
                bail!("node {} (pid {}) does not end", node.id, node.pid);
            }
            std::thread::sleep(ASK_EVERY);
        }
        Ok(())
    }

    /// Starts nodes again with their data, unless they run, and waits until they answer: without a majority none does, so
    /// they are started together.
    ///
    /// # Errors
    /// When there is no such node, or one does not answer in time.
    pub fn start_again(&self, ids: &[usize]) -> Result<()> {
        setup::ensure(&[Need::Java])?;
        let java = setup::java().context("no Java 17 or newer was found")?;
        let classpath = format!("{}/*", jars::ensure(&self.base)?.display());
        let mut nodes = self.nodes()?;
        let mut children = Vec::new();
        for id in ids {
            if find(&nodes, *id)?.alive() {
                continue;
            }
            let child = self.spawn(*id, Lifetime::UntilDown, &java, &classpath)?;
            for node in nodes.iter_mut().filter(|node| node.id == *id) {
                (node.pid, node.started_unix_s) = (child.id() as i32, now_unix_s());
            }
            // At once, so that whatever happens next the pid is known.
            state::save(&self.state_file(), &nodes)?;
            children.push((*id, child));
        }
        let mut progress = Progress::start("waiting for the nodes to answer");
        let started = Instant::now();
        for id in ids {
            let node = find(&nodes, *id)?;
            while !probe::answers(node.address()) {
                for (id, child) in &mut children {
                    if let Some(status) = child.try_wait().context("looking at a node")? {
                        bail!("node {id} ended while starting ({status}):\n{}", tail(&self.log(*id), 20));
                    }
                }
                if started.elapsed() > START_MAX {
                    bail!("node {id} does not answer:\n{}", tail(&self.log(*id), 20));
                }
                progress.tick();
                shell::pause(ASK_EVERY)?;
            }
        }
        Ok(())
    }

    fn try_start(
        &self,
        count: usize,
        beside: Option<Beside>,
        lifetime: Lifetime,
        java: &Path,
        classpath: &str,
    ) -> Result<Vec<Node>> {
        fs::create_dir_all(&self.dir).with_context(|| format!("making {}", self.dir.display()))?;
        let ports: Vec<Ports> = free_ports(2 * count)?
            .chunks_exact(2)
            .map(|pair| Ports { broker: pair[0], controller: pair[1] })
            .collect();
        for id in 1..=count {
            jars::remove_dir(&self.data(id))?;
            let text = config::server_properties(id, &ports, beside, &self.data(id));
            write(&self.properties(id), &text)?;
        }
        write(&self.log4j2(), config::LOG4J2_PROPERTIES)?;

        let mut progress = Progress::start(format!(
            "starting Apache Kafka {} ({count} node{})",
            jars::KAFKA_VERSION,
            if count == 1 { "" } else { "s" }
        ));
        self.format(count, java, classpath, &mut progress)?;

        let mut nodes = Vec::new();
        let mut children = Vec::new();
        for (id, ports) in (1..).zip(&ports) {
            let child = self.spawn(id, lifetime, java, classpath)?;
            let started_unix_s = now_unix_s();
            let pid = child.id() as i32;
            let port = ports.broker;
            nodes.push(Node { id, pid, port, started_unix_s, properties: self.properties(id) });
            children.push(child);
            // At once, so that whatever happens next the pid is known.
            state::save(&self.state_file(), &nodes)?;
        }
        self.wait_ready(&nodes, &mut children, &mut progress)?;
        Ok(nodes)
    }

    /// Prepares the data folders: one JVM per node, all at the same time.
    fn format(&self, count: usize, java: &Path, classpath: &str, progress: &mut Progress) -> Result<()> {
        let cluster_id = cluster_id()?;
        let mut children = Vec::new();
        for id in 1..=count {
            let log = self.create_log(id)?;
            let mut command = Command::new(java);
            command
                .args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"])
                .args(["-cp", classpath, "kafka.tools.StorageTool", "format"])
                .args(["--cluster-id", &cluster_id, "--config"])
                .arg(self.properties(id));
            children.push(background::spawn(command, log, None)?);
        }
        for (id, child) in (1..).zip(&mut children) {
            let status = loop {
                if let Some(status) = child.try_wait().context("waiting for Kafka's storage tool")? {
                    break status;
                }
                progress.tick();
                shell::pause(ASK_EVERY)?;
            };
            if !status.success() {
                bail!("Kafka's storage tool failed: {status}\n{}", tail(&self.log(id), 20));
            }
        }
        Ok(())
    }

    fn spawn(&self, id: usize, lifetime: Lifetime, java: &Path, classpath: &str) -> Result<Child> {
        let log = File::options().append(true).open(self.log(id)).context("opening a node's log")?;
        let mut command = match lifetime {
            Lifetime::WithUs => background::bound(java),
            Lifetime::UntilDown => Command::new(java),
        };
        command
            .args(config::JVM_FLAGS)
            .arg(format!("-Dlog4j2.configurationFile={}", self.log4j2().display()))
            .args(["-cp", classpath, "kafka.Kafka"])
            .arg(self.properties(id));
        background::spawn(command, log, Some(&self.dir))
    }

    fn wait_ready(&self, nodes: &[Node], children: &mut [Child], progress: &mut Progress) -> Result<()> {
        let deadline = Instant::now() + START_MAX;
        for (node, index) in nodes.iter().zip(0..) {
            while !(probe::answers(node.address()) && probe::brokers_alive(node.address()) == nodes.len()) {
                for (child, id) in children.iter_mut().zip(1..) {
                    if let Some(status) = child.try_wait().context("looking at a node")? {
                        bail!("node {id} ended while starting ({status}):\n{}", tail(&self.log(id), 20));
                    }
                }
                if Instant::now() > deadline {
                    let log = self.log(index + 1);
                    bail!("node {} did not answer within {START_MAX:?}:\n{}", node.id, tail(&log, 20));
                }
                progress.tick();
                shell::pause(ASK_EVERY)?;
            }
        }
        Ok(())
    }

    fn create_log(&self, id: usize) -> Result<File> {
        let log = self.log(id);
        File::create(&log).with_context(|| format!("writing {}", log.display()))
    }

    pub fn log(&self, id: usize) -> PathBuf {
        self.dir.join(format!("node-{id}.log"))
    }

    fn properties(&self, id: usize) -> PathBuf {
        self.dir.join(format!("node-{id}.properties"))
    }

    fn data(&self, id: usize) -> PathBuf {
        self.dir.join(format!("data-{id}"))
    }

    fn log4j2(&self) -> PathBuf {
        self.dir.join("log4j2.properties")
    }

    fn state_file(&self) -> PathBuf {
        self.dir.join("state")
    }
}

fn find(nodes: &[Node], id: usize) -> Result<&Node> {
    let found = nodes.iter().find(|node| node.id == id);
    found.with_context(|| format!("there is no node {id}; `cargo xtask kafka status` lists those there are"))
}

fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// A new cluster ID: 16 random bytes in URL-safe base64 without padding, as Kafka wants it.
fn cluster_id() -> Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("reading /dev/urandom")?;
    // The first character must not be a dash, or it looks like an option.
    bytes[0] &= 0x7f;
    Ok(base64_url(&bytes))
}

fn base64_url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().chain(&[0, 0]).take(3).fold(0_usize, |word, &byte| word << 8 | usize::from(byte));
        for index in 0..=chunk.len() {
            text.push(char::from(ALPHABET[word >> (18 - 6 * index) & 63]));
        }
    }
    text
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_has_no_padding() {
        let check = |bytes: &[u8], expected: &str| assert_eq!(base64_url(bytes), expected);
        check(b"", "");
        check(b"f", "Zg");
        check(b"fo", "Zm8");
        check(b"foobar", "Zm9vYmFy");
        check(&[0xff, 0xef, 0xbe], "_---");
    }

    #[test]
    fn cluster_ids_are_22_characters() {
        let id = cluster_id().unwrap();
        assert_eq!(id.len(), 22, "{id}");
        assert!(!id.starts_with('-'), "{id}");
    }

    #[test]
    fn stopping_nothing_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Cluster::new(dir.path(), dir.path()).stop().unwrap(), 0);
    }
}
