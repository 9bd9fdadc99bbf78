//! Servers under test: how each is started, fed and spoken to.

use super::proc;
use crate::client::Dialect;
use crate::process::{self, Counts};
use anyhow::{Context as _, bail};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// The processor of the server, and the one of publisher and clients.
pub const SERVER_CPU: usize = 0;
pub const LOAD_CPU: usize = 1;
/// How long a server may take to listen; under valgrind it takes seconds.
const START: Duration = Duration::from_secs(30);

/// A server that can be measured.
#[derive(Debug, Clone, PartialEq)]
pub enum Server {
    /// The bare epoll loop in one of its modes.
    Floor(String),
    /// The product, with so many shards, a flush window in milliseconds, and with or without TLS.
    Gateway {
        shards: usize,
        flush_ms: u64,
        is_tls: bool,
    },
    /// One of ours with a WebSocket library.
    Peer(&'static str),
    /// A script for Node.
    Node(&'static str),
    Nats,
    Centrifugo,
}

/// Every server that is no floor and not the gateway.
pub const PEERS: &[&str] =
    &["fastwebsockets", "tungstenite", "tungstenite-batch", "ws", "uws", "nats", "centrifugo"];

impl Server {
    /// The product as it is by default, with one shard.
    pub const GATEWAY: Self = Self::Gateway { shards: 1, flush_ms: 0, is_tls: false };
    /// The same with TLS.
    pub const GATEWAY_TLS: Self = Self::Gateway { shards: 1, flush_ms: 0, is_tls: true };
    /// The product with two shards, each on a processor of its own.
    pub const GATEWAY_2: Self = Self::Gateway { shards: 2, flush_ms: 0, is_tls: false };

    /// The server of a name, as reports call it.
    pub fn named(name: &str) -> anyhow::Result<Self> {
        Ok(match name {
            "gateway" => Self::GATEWAY,
            "gateway-tls" => Self::GATEWAY_TLS,
            "gateway-2" => Self::GATEWAY_2,
            _ if name.starts_with("gateway-f") => {
                let flush_ms = name["gateway-f".len()..].parse().context("gateway-fN is a window of N ms")?;
                Self::Gateway { shards: 1, flush_ms, is_tls: false }
            }
            "fastwebsockets" => Self::Peer("fastwebsockets"),
            "tungstenite" => Self::Peer("tungstenite"),
            "tungstenite-batch" => Self::Peer("tungstenite-batch"),
            "ws" => Self::Node("ws"),
            "uws" => Self::Node("uws"),
            "nats" => Self::Nats,
            "centrifugo" => Self::Centrifugo,
            _ => match name.strip_prefix("floor-") {
                Some(mode) => Self::Floor(mode.to_owned()),
                None => bail!(
                    "no server is called {name:?}: floor-MODE, gateway, gateway-tls, gateway-2, gateway-fN, {}",
                    PEERS.join(", ")
                ),
            },
        })
    }

    pub fn name(&self) -> String {
        match self {
            Self::Floor(mode) => format!("floor-{mode}"),
            Self::Gateway { is_tls: true, .. } => "gateway-tls".to_owned(),
            Self::Gateway { shards: 1, flush_ms: 0, .. } => "gateway".to_owned(),
            Self::Gateway { shards, flush_ms: 0, .. } => format!("gateway-{shards}"),
            Self::Gateway { flush_ms, .. } => format!("gateway-f{flush_ms}"),
            Self::Peer(name) | Self::Node(name) => (*name).to_owned(),
            Self::Nats => "nats".to_owned(),
            Self::Centrifugo => "centrifugo".to_owned(),
        }
    }

    pub fn dialect(&self) -> Dialect {
        match self {
            Self::Nats => Dialect::Nats,
            Self::Centrifugo => Dialect::Centrifugo,
            _ => Dialect::Tickgate,
        }
    }

    pub fn is_gateway(&self) -> bool {
        matches!(self, Self::Gateway { .. })
    }

    /// Why it cannot run here, if it cannot.
    pub fn absent(&self) -> Option<String> {
        match self {
            Self::Floor(_) | Self::Gateway { .. } | Self::Peer(_) => None,
            Self::Node(_) if program("node", "").is_none() => Some("node is not on PATH".to_owned()),
            Self::Node(_) => node_modules().err().map(|error| format!("{error:#}")),
            Self::Nats => program("nats-server", "")
                .is_none()
                .then(|| "nats-server is not on PATH (Debian: apt-get install nats-server)".to_owned()),
            Self::Centrifugo => program("centrifugo", "CENTRIFUGO_BIN")
                .is_none()
                .then(|| "no centrifugo on PATH or in CENTRIFUGO_BIN".to_owned()),
        }
    }

    /// Whether a thread's time counts as the cost of deliveries. The gateway's feed is a column of its own.
    pub fn delivers(&self, thread: &str) -> bool {
        !self.is_gateway() || thread.starts_with("shard-")
    }

    /// The same by the order in which threads were started, from 1.
    pub fn delivers_by_number(&self, thread: usize) -> bool {
        // The first thread starts the shards, then those for questions and records.
        match self {
            Self::Gateway { shards, .. } => (2..2 + shards).contains(&thread),
            _ => true,
        }
    }

    /// Whether a thread takes the ticks in, where that is not what delivers them.
    pub fn feeds(&self, thread: &str) -> bool {
        self.is_gateway() && thread == "feed"
    }

    /// Starts it under `wrapper`, a program that starts others, with `more` arguments.
    pub fn start(&self, wrapper: &[String], more: &[String]) -> anyhow::Result<Running> {
        let (listen, feed) = (free_address()?, free_address()?);
        let scratch = Scratch::new()?;
        let mut words = self.command(listen, feed, &scratch)?;
        words.extend_from_slice(more);
        let cpu = if *self == Self::GATEWAY_2 { None } else { Some(SERVER_CPU) };
        let mut child = spawn(cpu, wrapper, &words, server_stderr())?;
        let (questions, answers) = pipes(&mut child)?;
        let running = Running { server: self.clone(), child, questions, answers, listen, feed, scratch };
        running.wait_for_listener(listen)?;
        if *self != Self::Centrifugo {
            running.wait_for_listener(feed)?;
        }
        Ok(running)
    }

    fn command(
        &self,
        listen: SocketAddr,
        feed: SocketAddr,
        scratch: &Scratch,
    ) -> anyhow::Result<Vec<String>> {
        let ours = std::env::current_exe()?.display().to_string();
        let addresses = format!("--listen {listen} --feed {feed}");
        let text = match self {
            Self::Floor(mode) => format!("{ours} floor --mode {mode} {addresses}"),
            // Two shards have a processor each, the second one with the load beside it.
            Self::Gateway { shards, flush_ms, is_tls } => {
                let pinned = if *shards > 1 { format!("--shard-cpu {SERVER_CPU}") } else { String::new() };
                let tls = if *is_tls { scratch.certificate(listen)? } else { String::new() };
                format!("{ours} gateway --shards {shards} {pinned} --flush-ms {flush_ms} {tls} {addresses}")
            }
            Self::Peer(name) => format!("{ours} peer {name} {addresses}"),
            Self::Node(name) => format!("node {}/{name}.js {addresses}", node_modules()?.display()),
            Self::Nats => {
                let config = format!(
                    "{}\nlisten: \"{feed}\"\nwebsocket {{ listen: \"{listen}\", no_tls: true, compression: false }}\n",
                    include_str!("../../peers/nats.conf")
                );
                format!("nats-server -c {}", scratch.write("nats.conf", &config)?)
            }
            Self::Centrifugo => {
                let config = serde_json::json!({
                    "http_server": {"address": listen.ip().to_string(), "port": listen.port().to_string()},
                    "http_api": {"insecure": true},
                    "log": {"level": "error"},
                    "client": {
                        "allow_anonymous_connect_without_token": true,
                        "channel_limit": 5_000,
                        "queue_max_size": 1 << 20,
                    },
                    "channel": {"without_namespace": {
                        "allow_subscribe_for_client": true,
                        "allow_subscribe_for_anonymous": true,
                    }},
                });
                let program = program("centrifugo", "CENTRIFUGO_BIN").context("no centrifugo")?;
                format!("{} -c {}", program.display(), scratch.write("centrifugo.json", &config.to_string())?)
            }
        };
        Ok(text.split_whitespace().map(str::to_owned).collect())
    }
}

/// In that folder.
const CERTIFICATE: &str = "certificate.pem";

/// A folder for what a server is configured with.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("tickgate-bench-server-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        Ok(Self(dir))
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<String> {
        let path = self.0.join(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    /// Makes a certificate for a server at `listen`; gives the words that name it to ours.
    fn certificate(&self, listen: SocketAddr) -> anyhow::Result<String> {
        let made = rcgen::generate_simple_self_signed(vec![listen.ip().to_string()])?;
        let certificate = self.write(CERTIFICATE, &made.cert.pem())?;
        let key = self.write("key.pem", &made.signing_key.serialize_pem())?;
        Ok(format!("--tls-certificate {certificate} --tls-key {key}"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left-overs in the folder for temporary files do no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A program on `PATH` or named by a variable.
pub fn program(name: &str, variable: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(variable).map(PathBuf::from) {
        return path.is_file().then_some(path);
    }
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// The folder of the servers for Node, with their libraries installed.
fn node_modules() -> anyhow::Result<PathBuf> {
    let dir = std::env::current_dir()?.join("benches/peers");
    anyhow::ensure!(dir.join("package.json").is_file(), "run from the root of the repository");
    if !dir.join("node_modules/ws").is_dir() || !dir.join("node_modules/uwebsockets").is_dir() {
        let mut command = Command::new("npm");
        command.args(["ci", "--no-audit", "--no-fund", "--silent"]).current_dir(&dir);
        let status = command.status().context("npm is not on PATH")?;
        anyhow::ensure!(status.success(), "`npm ci` in benches/peers failed: {status}");
    }
    Ok(dir)
}

/// A server that serves; it is stopped when this is dropped.
pub struct Running {
    pub server: Server,
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    pub listen: SocketAddr,
    feed: SocketAddr,
    scratch: Scratch,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The words that tell clients how to reach it.
    pub fn for_clients(&self) -> String {
        let words = format!("--to {} --dialect {}", self.listen, self.server.dialect());
        match self.server {
            Server::Gateway { is_tls: true, .. } => {
                format!("{words} --tls-root {}", self.scratch.0.join(CERTIFICATE).display())
            }
            _ => words,
        }
    }

    /// Where ticks go in.
    pub fn feed(&self) -> SocketAddr {
        if self.server == Server::Centrifugo { self.listen } else { self.feed }
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
        if !matches!(self.server, Server::Floor(_) | Server::Gateway { .. }) {
            return Ok(None);
        }
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
            let sockets =
                ["/proc/net/tcp", "/proc/net/tcp6"].map(|f| std::fs::read_to_string(f).unwrap_or_default());
            // State 0A is listening.
            if sockets.iter().flat_map(|s| s.lines()).any(|s| s.contains(&wanted) && s.contains(":0000 0A "))
            {
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
    pub fn start(wrapper: &[String], words: &str) -> anyhow::Result<Self> {
        let mut all = vec![std::env::current_exe()?.display().to_string()];
        all.extend(words.split_whitespace().map(str::to_owned));
        let mut child = spawn(Some(LOAD_CPU), wrapper, &all, Stdio::inherit())?;
        let (stdin, stdout) = pipes(&mut child)?;
        Ok(Self { child, stdin, stdout })
    }

    /// Tells it something.
    pub fn tell(&mut self, line: std::fmt::Arguments<'_>) -> anyhow::Result<()> {
        self.stdin.write_fmt(line)?;
        Ok(writeln!(self.stdin)?)
    }

    /// Its next report.
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

/// Starts a program on one processor, or on all.
pub fn spawn(
    cpu: Option<usize>,
    wrapper: &[String],
    words: &[String],
    stderr: Stdio,
) -> anyhow::Result<Child> {
    let mut all = wrapper.iter().chain(words);
    let program = all.next().context("no program")?;
    // A child inherits the processors of the thread that starts it.
    process::pin(cpu)?;
    let mut command = Command::new(program);
    command.args(all).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
    let child = command.spawn();
    process::pin(None)?;
    child.with_context(|| format!("cannot start {program}"))
}

/// What servers say to people is shown only on request: some greet at length.
pub fn server_stderr() -> Stdio {
    if std::env::var_os("TICKGATE_BENCH_VERBOSE").is_some() { Stdio::inherit() } else { Stdio::null() }
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
