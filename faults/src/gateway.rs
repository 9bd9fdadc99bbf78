//! The gateway under test: the real program in a process of its own, as an operator runs it.

use crate::certificate::Certificate;
use crate::issuer::Issuer;
use crate::memory_group::MemoryGroup;
use crate::namespace::Namespace;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tickgate_load::trust::Trust;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest wait for anything that should come at once.
pub const SOON: Duration = Duration::from_secs(30);
/// How often something that is waited for is looked at.
pub const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Lines of its log that are kept for a report.
const TAIL_LINES: usize = 40;

/// Where the log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogTo {
    /// To us.
    #[default]
    Us,
    /// Into a pipe that nobody reads once the gateway is up.
    FullPipe,
    /// Onto a disk without room.
    FullDisk,
}

/// How to start one.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Keys of the configuration and their values, as of `--set`.
    pub settings: Vec<String>,
    /// Where its log goes.
    pub log_to: LogTo,
    /// What is logged, as of `TICKGATE_LOG`; empty for what the configuration says.
    pub log_filter: Option<&'static str>,
    /// Whether clients may let it panic.
    pub may_panic: bool,
    /// A file of its configuration.
    pub config: Option<PathBuf>,
    /// Files that it may have open at once.
    pub open_files_max: Option<u64>,
    /// Runs the gateway's code with a wall clock that this file moves; see [`crate::clocked`].
    pub clock: Option<PathBuf>,
    /// The host it runs on; this one unless given.
    pub namespace: Option<Arc<Namespace>>,
    /// What it speaks TLS with, if it does.
    pub certificate: Option<Arc<Certificate>>,
    /// Whose tokens it asks for, if it asks who comes.
    pub issuer: Option<Arc<Issuer>>,
    /// Memory that it may take; as much as there is unless given. Only on this host, and by the real clock.
    pub memory: Option<Arc<MemoryGroup>>,
}

/// What its log said.
#[derive(Debug, Default)]
struct Log {
    tail: Mutex<VecDeque<String>>,
    lines: AtomicU64,
    panics: AtomicU64,
    unreadable: AtomicU64,
}

impl Log {
    fn take(&self, line: String) {
        self.lines.fetch_add(1, Ordering::Relaxed);
        self.panics.fetch_add(u64::from(line.contains("panicked at")), Ordering::Relaxed);
        self.unreadable.fetch_add(u64::from(line.contains("unreadable record")), Ordering::Relaxed);
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(line);
    }
}

/// What every gateway here asks of whoever asks it.
const ADMIN_TOKEN: &str = "for these rows and no others";

/// A running gateway. Dropped, it is killed.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    log: Arc<Log>,
    /// Kept so that the pipe stays open and full.
    _unread: Option<BufReader<ChildStderr>>,
    /// Kept until it has ended: a group that is not empty cannot be taken away.
    _memory: Option<Arc<MemoryGroup>>,
    certificate: Option<Arc<Certificate>>,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where metrics and health are.
    pub admin: SocketAddr,
}

impl Gateway {
    /// Starts one that reads `topic` and waits until it listens.
    pub async fn start(program: &Path, brokers: &str, topic: &str, options: &Options) -> Result<Self> {
        let program = program.to_owned();
        let (brokers, topic, options) = (brokers.to_owned(), topic.to_owned(), options.clone());
        tokio::task::spawn_blocking(move || Self::spawn(&program, &brokers, &topic, &options)).await?
    }

    fn spawn(program: &Path, brokers: &str, topic: &str, options: &Options) -> Result<Self> {
        let mut command = command(program, brokers, topic, options);
        let (log, _memory): (Arc<Log>, _) = (Arc::default(), options.memory.clone());
        let certificate = options.certificate.clone();
        if options.log_to == LogTo::FullDisk {
            // Nothing tells where it listens, so it is told.
            let (listen, admin) = (free_address()?, free_address()?);
            let full = File::options().write(true).open("/dev/full").context("/dev/full")?;
            let child = command
                .args(["--listen", &listen.to_string(), "--admin", &admin.to_string()])
                .stderr(full)
                .spawn()
                .with_context(|| format!("starting {}", program.display()))?;
            return Ok(Self { child, log, _unread: None, _memory, certificate, listen, admin });
        }
        let host = options.namespace.as_ref().map_or(Ipv4Addr::LOCALHOST, |namespace| namespace.there());
        let any = format!("{host}:0");
        let mut child = command
            .args(["--listen", &any, "--admin", &any])
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        if let (Some(most), Some(pid)) = (options.open_files_max, Pid::from_raw(child.id() as i32)) {
            prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(most), maximum: Some(most) })
                .context("limiting its open files")?;
        }
        let mut lines = BufReader::new(child.stderr.take().context("it is piped")?);
        let mut line = String::new();
        let (listen, admin) = loop {
            line.clear();
            if lines.read_line(&mut line)? == 0 {
                let status = child.wait()?;
                let tail = log.tail.lock().unwrap_or_else(PoisonError::into_inner).clone();
                bail!("the gateway ended with {status}:\n{}", Vec::from(tail).join("\n"));
            }
            log.take(line.trim_end().to_owned());
            let between = |from: &str, to: &str| {
                let (_, rest) = line.split_once(from)?;
                rest.split_once(to)?.0.parse().ok()
            };
            if let (Some(listen), Some(admin)) =
                (between("s://", "/v1/stream"), between("admin: http://", "/"))
            {
                break (listen, admin);
            }
        };
        let mut gateway = Self { child, log, _unread: None, _memory, certificate, listen, admin };
        if options.log_to == LogTo::FullPipe {
            gateway._unread = Some(lines);
        } else {
            let log = gateway.log.clone();
            std::thread::spawn(move || {
                lines.lines().map_while(Result::ok).for_each(|line| log.take(line));
            });
        }
        Ok(gateway)
    }

    /// The URL of the stream.
    pub fn url(&self) -> String {
        let scheme = if self.certificate.is_some() { "wss" } else { "ws" };
        format!("{scheme}://{}/v1/stream", self.listen)
    }

    /// Who believes its certificate, if it has one.
    pub fn trust(&self) -> Option<Trust> {
        self.certificate.as_ref().map(|certificate| certificate.trust.clone())
    }

    /// Waits until `/readyz` says yes.
    pub async fn ready(&self) -> Result<()> {
        let started = Instant::now();
        loop {
            if self.readiness().await == Some(200) {
                return Ok(());
            }
            if started.elapsed() > SOON {
                bail!("the gateway is not ready within {SOON:?}:\n{}", self.log_tail());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The status of `/readyz`; none when nobody answers.
    pub async fn readiness(&self) -> Option<u16> {
        self.get("/readyz").await.ok().map(|(status, _)| status)
    }

    /// A path of the admin listener: status and body.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        let exchange = async {
            let mut socket = TcpStream::connect(self.admin).await?;
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\r\n"
            );
            socket.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await?;
            anyhow::Ok(answer)
        };
        let answer = tokio::time::timeout(Duration::from_secs(5), exchange).await??;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no answer")?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok((status, body.to_owned()))
    }

    /// Every metric as it is now.
    pub async fn metrics(&self) -> Result<Metrics> {
        let (status, text) = self.get("/metrics").await?;
        if status != 200 {
            bail!("/metrics answered {status}");
        }
        Ok(Metrics(text))
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The most resident memory since [`Gateway::forget_peak`], in bytes.
    pub fn peak_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// The peak begins again from what is resident now.
    pub fn forget_peak(&self) -> Result<()> {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").context("clearing the peak")
    }

    /// Threads that it has.
    pub fn threads(&self) -> u64 {
        self.status("Threads:")
    }

    fn status_bytes(&self, name: &str) -> u64 {
        self.status(name) << 10
    }

    fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
    }

    /// Processor time used so far.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
        // User and system time in hundredths of a second, the 14th and 15th field.
        let ticks = fields.split_ascii_whitespace().skip(11).take(2);
        Duration::from_millis(ticks.filter_map(|t| t.parse::<u64>().ok()).sum::<u64>() * 10)
    }

    /// File descriptors that are open.
    pub fn open_files(&self) -> u64 {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, |files| files.count() as u64)
    }

    /// Panics in its log.
    pub fn panics(&self) -> u64 {
        self.log.panics.load(Ordering::Relaxed)
    }

    /// Lines of its log about unreadable records.
    pub fn unreadable_lines(&self) -> u64 {
        self.log.unreadable.load(Ordering::Relaxed)
    }

    /// Lines of its log.
    pub fn log_lines(&self) -> u64 {
        self.log.lines.load(Ordering::Relaxed)
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        Vec::from(self.log.tail.lock().unwrap_or_else(PoisonError::into_inner).clone()).join("\n")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.child.id() as i32).context("a process has a number")?;
        kill_process(pid, signal).context("the gateway has ended by itself")
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if started.elapsed() > SOON {
                bail!("the gateway does not end within {SOON:?}");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may be stopped, or gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command line of `tickgate run` with nothing yet of where it listens.
pub fn command(program: &Path, brokers: &str, topic: &str, options: &Options) -> Command {
    let mut command = match (&options.clock, &options.namespace, &options.memory) {
        (Some(file), _, _) => crate::clocked::command(file),
        (None, Some(namespace), _) => namespace.command(program),
        (None, None, Some(memory)) => memory.command(program),
        (None, None, None) => Command::new(program),
    };
    command.args(["run", "--brokers", brokers, "--topic", topic]);
    let defaults = ["shards=2", "session.heartbeat_ms=250", "drain.accept_ms=0", "drain.spread_ms=1000"];
    for setting in defaults.into_iter().chain(options.settings.iter().map(String::as_str)) {
        command.args(["--set", setting]);
    }
    for setting in options.certificate.iter().flat_map(|certificate| certificate.settings()) {
        command.args(["--set", &setting]);
    }
    for setting in options.issuer.iter().flat_map(|issuer| issuer.settings()) {
        command.args(["--set", &setting]);
    }
    command.env("TICKGATE_LOG", options.log_filter.unwrap_or("info,librdkafka=off,rdkafka=off"));
    // Without it none starts in a network of its own, where its admin listener is not on loopback.
    command.env("TICKGATE_ADMIN_TOKEN", ADMIN_TOKEN);
    if options.may_panic {
        command.env("TICKGATE_TEST_PANICS", "1");
    }
    if let Some(file) = &options.config {
        command.arg("--config").arg(file);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn free_address() -> Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A scrape.
#[derive(Debug, Clone)]
pub struct Metrics(String);

impl Metrics {
    /// A metric, summed over its labels; with `label` only those that have it.
    pub fn sum(&self, name: &str, label: &str) -> f64 {
        let is_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        let lines = self.0.lines().filter(is_it).filter(|line| line.contains(label));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Every gauge: its name with its labels, and its value.
    pub fn gauges(&self) -> BTreeMap<String, f64> {
        let types = self.0.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" gauge"));
        let names: BTreeSet<&str> = types.collect();
        let is_one = |line: &&str| line.split(['{', ' ']).next().is_some_and(|name| names.contains(name));
        let one = |line: &str| {
            line.rsplit_once(' ').and_then(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        };
        self.0.lines().filter(is_one).filter_map(one).collect()
    }

    /// The same of a count.
    pub fn count(&self, name: &str, label: &str) -> u64 {
        self.sum(name, label) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_are_told_from_counters() {
        let text = "# TYPE a gauge\na{x=\"1 2\"} 3\na 4\n# TYPE ab counter\nab 5\n# TYPE c_total counter\nc_total 6\n";
        let gauges = Metrics(text.to_owned()).gauges();
        assert_eq!(gauges, BTreeMap::from([("a".to_owned(), 4.0), ("a{x=\"1 2\"}".to_owned(), 3.0)]));
    }
}
