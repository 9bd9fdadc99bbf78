//! A gateway in a process of its own, as an operator runs it.

use crate::harness::{Kafka, SOON};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
    pub url: String,
    admin: String,
}

impl Process {
    /// Starts one that reads `topic` and waits until it is ready.
    pub fn start(kafka: &Kafka, topic: &str, settings: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tickgate"))
            .args(["run", "--brokers", &kafka.address(), "--topic", topic])
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--set", "shards=2"])
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
            .env("TICKGATE_LOG", "info")
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let log: Arc<Mutex<String>> = Arc::default();
        let lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let filled = log.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = filled.lock().expect("no panic");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut process = Self { child, log, url: String::new(), admin: String::new() };
        process.url = format!("ws://{}/v1/stream", process.logged("ws://", "/v1/stream"));
        process.admin = process.logged("admin: http://", "/");
        let deadline = Instant::now() + SOON;
        while !process.get("/readyz").starts_with("HTTP/1.1 200") {
            assert!(Instant::now() < deadline, "not ready: {}", process.log.lock().expect("no panic"));
            // tidy: allow(sleep) it only paces the polling, which has a bound
            std::thread::sleep(Duration::from_millis(5));
        }
        process
    }

    /// What stands in the log between `from` and the next `to`.
    pub fn logged(&self, from: &str, to: &str) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            let log = self.log.lock().expect("no panic").clone();
            let rest = log.find(from).map(|at| &log[at + from.len()..]);
            if let Some((found, _)) = rest.and_then(|rest| rest.split_once(to)) {
                return found.to_owned();
            }
            assert!(Instant::now() < deadline, "never logged: {from}\n{log}");
            // tidy: allow(sleep) it only paces the polling, which has a bound
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn get(&self, path: &str) -> String {
        let mut answer = String::new();
        if let Ok(mut socket) = TcpStream::connect(&self.admin) {
            let _ = write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let _ = socket.read_to_string(&mut answer);
        }
        answer
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
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
