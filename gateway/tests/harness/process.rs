//! A gateway in a process of its own, as an operator runs it.

use super::{Kafka, SOON, next_control};
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tickgate_load::{Client, ClientOptions};
use tickgate_protocol::control::Control;

pub struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
    logging: Option<JoinHandle<()>>,
    /// Where clients connect to.
    pub url: String,
    admin: String,
}

impl Process {
    /// Starts one that reads `topic` and waits until it is ready.
    pub fn start(kafka: &Kafka, topic: &str, settings: &[&str]) -> Self {
        Self::start_logging(kafka, topic, settings, "info")
    }

    /// Starts one that logs at this level.
    pub fn start_logging(kafka: &Kafka, topic: &str, settings: &[&str], level: &str) -> Self {
        Self::start_as(kafka, topic, settings, |command| _ = command.env("TICKGATE_LOG", level))
    }

    /// Starts one by a command that is changed before.
    pub fn start_as(
        kafka: &Kafka,
        topic: &str,
        settings: &[&str],
        change: impl FnOnce(&mut Command),
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tickgate"));
        command
            .args(["run", "--brokers", &kafka.address(), "--topic", topic])
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--set", "shards=2"])
            // No load balancer here: tests of what is for one say so.
            .args(["--set", "drain.accept_ms=0"])
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        change(&mut command);
        let mut child = command.spawn().expect("it starts");
        let log: Arc<Mutex<String>> = Arc::default();
        let lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let filled = log.clone();
        let logging = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = filled.lock().expect("no panic");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut process =
            Self { child, log, logging: Some(logging), url: String::new(), admin: String::new() };
        process.url = format!("{}/v1/stream", process.logged("clients: ", "/v1/stream"));
        process.admin = process.logged("admin: http://", "/");
        process.until_ready("200");
        process
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("no panic").clone()
    }

    /// All that it ever logged, once it has ended.
    pub fn whole_log(&mut self) -> String {
        self.ended();
        if let Some(logging) = self.logging.take() {
            logging.join().expect("no panic");
        }
        self.log()
    }

    /// What stands in the log between `from` and the next `to`.
    pub fn logged(&self, from: &str, to: &str) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            let log = self.log();
            let rest = log.find(from).map(|at| &log[at + from.len()..]);
            if let Some((found, _)) = rest.and_then(|rest| rest.split_once(to)) {
                return found.to_owned();
            }
            assert!(Instant::now() < deadline, "never logged: {from}\n{log}");
            // tidy: allow(sleep) it only paces the polling, which has a bound
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Address of the admin listener.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// What the admin listener answers, head and all; nothing when it is gone.
    pub fn get(&self, path: &str) -> String {
        self.get_with(path, "")
    }

    /// The same, asked with these headers, each with its line end.
    pub fn get_with(&self, path: &str, headers: &str) -> String {
        let mut answer = String::new();
        if let Ok(mut socket) = TcpStream::connect(&self.admin) {
            let _ = write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
            let _ = socket.read_to_string(&mut answer);
        }
        answer
    }

    /// Waits until `/readyz` answers with this status.
    pub fn until_ready(&self, status: &str) {
        let deadline = Instant::now() + SOON;
        while self.get("/readyz").split(' ').nth(1) != Some(status) {
            assert!(Instant::now() < deadline, "never {status}: {}", self.log());
            // tidy: allow(sleep) it only paces the polling, which has a bound
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A metric, summed over its labels; with `label` only those that have it.
    pub fn metric(&self, name: &str, label: &str) -> f64 {
        let text = self.get("/metrics");
        let lines =
            text.lines().filter(|line| line.strip_prefix(name).is_some_and(|r| r.starts_with([' ', '{'])));
        let matching = lines.filter(|line| line.contains(label));
        matching.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// The most resident memory that it ever had, in bytes.
    pub fn peak_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells");
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kilobytes << 10
    }

    /// A client that has read its `hello` and gets no heartbeats.
    pub async fn client(&self) -> Client {
        let mut client = Client::connect(&self.url, &ClientOptions::default()).await.expect("a session");
        client.request(json!({"op": "set", "heartbeat_ms": 0})).await.expect("an ack");
        assert!(matches!(next_control(&mut client).await, Control::Hello { .. }));
        client
    }

    /// Sends the signal of this name, without `SIG`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.expect("kill").success());
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(status) = self.child.try_wait().expect("a status") {
                return status;
            }
            assert!(Instant::now() < deadline, "it runs on: {}", self.log());
            // tidy: allow(sleep) it only paces the polling, which has a bound
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
