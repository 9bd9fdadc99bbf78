//! What was started, on disk: `down` and `status` are other processes than `up`.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// A started node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// From 1.
    pub id: usize,
    pub pid: i32,
    /// Of the broker's listener.
    pub port: u16,
    /// Seconds since 1970.
    pub started_unix_s: u64,
    /// The file it was started with, by which the process is told from a later one with the same pid.
    pub properties: PathBuf,
}

impl Node {
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Whether the process with our pid still is the one we started.
    pub fn alive(&self) -> bool {
        fs::read(format!("/proc/{}/cmdline", self.pid))
            .is_ok_and(|cmdline| is_this_node(&cmdline, &self.properties))
    }

    /// Sends `signal`, but never to a process that is not the one we started.
    pub fn signal(&self, signal: Signal) {
        if let (true, Some(pid)) = (self.alive(), Pid::from_raw(self.pid)) {
            // It may end between the look and the signal, which is fine.
            let _ = kill_process(pid, signal);
        }
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse().ok()
    }
}

/// Whether a `/proc/PID/cmdline` (words ended by zero bytes) runs Kafka with that properties file.
fn is_this_node(cmdline: &[u8], properties: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let has = |word: &[u8]| cmdline.split(|&byte| byte == 0).any(|other| other == word);
    has(b"kafka.Kafka") && has(properties.as_os_str().as_bytes())
}

/// `host:port` of every node, comma-separated, as clients take it.
pub fn bootstrap(nodes: &[Node]) -> String {
    nodes.iter().map(|node| node.address().to_string()).collect::<Vec<_>>().join(",")
}

/// Writes the nodes down; a reader sees the old or the new list, never half of one.
pub fn save(file: &Path, nodes: &[Node]) -> Result<()> {
    let text: String = nodes.iter().map(|node| line(node) + "\n").collect();
    let partial = file.with_extension("part");
    fs::write(&partial, text).with_context(|| format!("writing {}", partial.display()))?;
    fs::rename(&partial, file).with_context(|| format!("writing {}", file.display()))
}

/// The nodes written down; none when there is no file.
pub fn load(file: &Path) -> Result<Vec<Node>> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.with_context(|| format!("reading {}", file.display()))?,
    };
    text.lines()
        .map(|line| match parse(line) {
            Some(node) => Ok(node),
            None => bail!(
                "{} does not say what was started (line `{line}`); end what `ps x | grep kafka.Kafka` shows, then \
                 remove that file",
                file.display()
            ),
        })
        .collect()
}

fn line(node: &Node) -> String {
    let Node { id, pid, port, started_unix_s, properties } = node;
    format!(
        "node {id} pid {pid} port {port} started_unix_s {started_unix_s} properties {}",
        properties.display()
    )
}

fn parse(line: &str) -> Option<Node> {
    // The path comes last and may hold spaces.
    let mut words = line.splitn(10, ' ');
    let mut field = |name: &str| if words.next()? == name { words.next() } else { None };
    Some(Node {
        id: field("node")?.parse().ok()?,
        pid: field("pid")?.parse().ok()?,
        port: field("port")?.parse().ok()?,
        started_unix_s: field("started_unix_s")?.parse().ok()?,
        properties: field("properties")?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        Node {
            id: 2,
            pid: 4242,
            port: 19092,
            started_unix_s: 1_800_000_000,
            properties: "/some where/node-2.properties".into(),
        }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state");
        assert_eq!(load(&file).unwrap(), []);
        let nodes = [Node { id: 1, ..node() }, node()];
        save(&file, &nodes).unwrap();
        assert_eq!(load(&file).unwrap(), nodes);
        assert_eq!(bootstrap(&nodes), "127.0.0.1:19092,127.0.0.1:19092");
    }

    #[test]
    fn a_damaged_state_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state");
        fs::write(&file, "node 1 pid x port 1\n").unwrap();
        assert!(load(&file).unwrap_err().to_string().contains("kafka.Kafka"));
    }

    #[test]
    fn another_process_with_the_pid_is_not_ours() {
        let check = |words: &[&str], expected| {
            let cmdline: String = words.iter().map(|word| format!("{word}\0")).collect();
            assert_eq!(is_this_node(cmdline.as_bytes(), &node().properties), expected, "{words:?}");
        };
        check(&["java", "-cp", "x", "kafka.Kafka", "/some where/node-2.properties"], true);
        check(&["java", "-cp", "x", "kafka.Kafka", "/elsewhere/node-2.properties"], false);
        check(&["tail", "/some where/node-2.properties"], false);
        check(&[], false);
    }
}
