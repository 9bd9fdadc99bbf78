//! Servers under test: how each is started, fed and spoken to.

use super::proc;
use crate::client::Dialect;
use crate::process::{self, Counts};
use anyhow::{Context as _, bail};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// The processor of the server, and the one of publisher and clients.
pub const SERVER_CPU: usize = 0;
pub const LOAD_CPU: usize = 1;
/// How long a server may take to listen.
const START: Duration = Duration::from_secs(20);

/// A server that can be measured.
#[derive(Debug, Clone, PartialEq)]
pub enum Server {
    /// The bare epoll loop in one of its modes.
    Floor(String),
    /// The product.
    Gateway,
}

impl Server {
    /// The server of a name, as reports call it.
    pub fn named(name: &str) -> anyhow::Result<Self> {
        Ok(match name {
            "gateway" => Self::Gateway,
            _ => match name.strip_prefix("floor-") {
                Some(mode) => Self::Floor(mode.to_owned()),
                None => bail!("no server is called {name:?}"),
            },
        })
    }

    pub fn name(&self) -> String {
        match self {
            Self::Floor(mode) => format!("floor-{mode}"),
            Self::Gateway => "gateway".to_owned(),
        }
    }

    pub fn dialect(&self) -> Dialect {
        Dialect::Tickgate
    }

    /// Whether a thread's time counts as the cost of deliveries. The gateway's feed is a column of its own.
    pub fn delivers(&self, thread: &str) -> bool {
        match self {
            Self::Gateway => thread.starts_with("shard-"),
            Self::Floor(_) => true,
        }
    }

    /// The same by the order in which threads were started, from 1.
    pub fn delivers_by_number(&self, thread: usize) -> bool {
        // The first thread starts the shard, then those for questions and records.
        *self != Self::Gateway || thread == 2
    }

    /// Whether a thread takes the ticks in, where that is not what delivers them.
    pub fn feeds(&self, thread: &str) -> bool {
        *self == Self::Gateway && thread == "feed"
    }

    /// Starts it under `wrapper`, a program that starts others.
    pub fn start(&self, wrapper: &[String], more: &[String]) -> anyhow::Result<Running> {
        let (listen, feed) = (free_address()?, free_address()?);
        let mut words = vec![std::env::current_exe()?.display().to_string()];
        match self {
            Self::Floor(mode) => words.extend(["floor".to_owned(), "--mode".to_owned(), mode.clone()]),
            Self::Gateway => words.push("gateway".to_owned()),
        }
        words.extend(["--listen".to_owned(), listen.to_string(), "--feed".to_owned(), feed.to_string()]);
        words.extend_from_slice(more);
        let mut child = spawn(SERVER_CPU, wrapper, &words)?;
        let (questions, answers) = pipes(&mut child)?;
        let running = Running { server: self.clone(), child, questions, answers, listen, feed };
        running.wait_for_listener(listen)?;
        running.wait_for_listener(feed)?;
        Ok(running)
    }
}

/// A server that serves; it is stopped when this is dropped.
pub struct Running {
    pub server: Server,
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    pub listen: SocketAddr,
    pub feed: SocketAddr,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Time of the threads that deliver.
    pub fn delivery_time(&self) -> anyhow::Result<proc::Time> {
        proc::time(self.pid(), |name| self.server.delivers(name))
    }

    /// Time of the threads that only take ticks in.
    pub fn feed_time(&self) -> anyhow::Result<proc::Time> {
        proc::time(self.pid(), |name| self.server.feeds(name))
    }

    /// What it says it has done, if it is one that can be asked.
    pub fn counts(&mut self) -> anyhow::Result<Option<Counts>> {
        writeln!(self.questions)?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(Some(serde_json::from_str(&line)?))
    }

    /// Looks for a listening socket without connecting to it: a connection would be a client.
    fn wait_for_listener(&self, address: SocketAddr) -> anyhow::Result<()> {
        let wanted = format!(":{:04X} ", address.port());
        let started = Instant::now();
        while started.elapsed() < START {
            let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
            // State 0A is listening.
            if sockets.lines().any(|line| line.contains(&wanted) && line.contains(":0000 0A ")) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("{} does not listen on {address}", self.server.name())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A part of the load: a process that reports on its standard output.
pub struct Load {
    child: Child,
    pub stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Load {
    /// Starts this program with `words` on the load's processor.
    pub fn start(wrapper: &[String], words: &[String]) -> anyhow::Result<Self> {
        let mut all = vec![std::env::current_exe()?.display().to_string()];
        all.extend_from_slice(words);
        let mut child = spawn(LOAD_CPU, wrapper, &all)?;
        let (stdin, stdout) = pipes(&mut child)?;
        Ok(Self { child, stdin, stdout })
    }

    /// The next report.
    pub fn report<T: serde::de::DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("a part of the load reported {line:?}"))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(cpu: usize, wrapper: &[String], words: &[String]) -> anyhow::Result<Child> {
    let mut all = wrapper.iter().chain(words);
    let program = all.next().context("no program")?;
    // A child inherits the processors of the thread that starts it.
    process::pin(Some(cpu))?;
    let child = Command::new(program).args(all).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    process::pin(None)?;
    child.with_context(|| format!("cannot start {program}"))
}

fn pipes(child: &mut Child) -> anyhow::Result<(ChildStdin, BufReader<ChildStdout>)> {
    let stdin = child.stdin.take().context("no standard input")?;
    let stdout = child.stdout.take().context("no standard output")?;
    Ok((stdin, BufReader::new(stdout)))
}

/// An address that is free now.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
