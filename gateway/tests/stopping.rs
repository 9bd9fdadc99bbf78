//! How a gateway stops: the real binary, real signals.

mod harness;
mod raw;

use harness::{Kafka, SOON, next_control, take_events, trade};
use raw::{Raw, handshake};
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tickgate_load::{Client, ClientOptions};
use tickgate_protocol::control::Control;
use tickgate_protocol::cursor;

/// A gateway in a process of its own.
struct Process {
    child: Child,
    url: String,
    admin: String,
    log: Arc<Mutex<String>>,
}

impl Process {
    /// Starts one that reads `topic` and waits until it says where it is.
    fn start(kafka: &Kafka, topic: &str, settings: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tickgate"))
            .args(["run", "--brokers", &kafka.address(), "--topic", topic])
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--set", "shards=2"])
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
            .env("TICKGATE_LOG", "info")
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let log = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        {
            let log = log.clone();
            std::thread::spawn(move || {
                for line in lines.map_while(Result::ok) {
                    let mut log = log.lock().expect("no panic");
                    log.push_str(&line);
                    log.push('\n');
                }
            });
        }
        let mut process = Self { child, url: String::new(), admin: String::new(), log };
        process.url = process.logged("ws://", "/v1/stream");
        process.admin = process.logged("admin: http://", "/").trim_start_matches("admin: http://").to_owned();
        process.admin.pop();
        process.until_ready("200");
        process
    }

    /// What stands in the log from `from` to the next `to`.
    fn logged(&self, from: &str, to: &str) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            let log = self.log.lock().expect("no panic").clone();
            if let Some(start) = log.find(from)
                && let Some(end) = log[start + from.len()..].find(to)
            {
                return log[start..start + from.len() + end + to.len()].to_owned();
            }
            assert!(Instant::now() < deadline, "never logged: {from}\n{log}");
            // tidy: allow(sleep) it only paces the polling, which has a bound
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn readiness(&self) -> String {
        let Ok(mut socket) = TcpStream::connect(&self.admin) else { return "gone".to_owned() };
        let _ = write!(socket, "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        let _ = socket.read_to_string(&mut answer);
        answer.split(' ').nth(1).unwrap_or("nothing").to_owned()
    }

    fn until_ready(&self, status: &str) {
        let deadline = Instant::now() + SOON;
        while self.readiness() != status {
            assert!(Instant::now() < deadline, "never {status}: {}", self.log.lock().expect("no panic"));
            // tidy: allow(sleep) it only paces the polling, which has a bound
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.expect("kill").success());
    }

    async fn client(&self) -> Client {
        let mut client = Client::connect(&self.url, &ClientOptions::default()).await.expect("a session");
        client.request(json!({"op": "set", "heartbeat_ms": 0})).await.expect("an ack");
        assert!(matches!(next_control(&mut client).await, Control::Hello { .. }));
        client
    }

    fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(status) = self.child.try_wait().expect("a status") {
                return status;
            }
            assert!(Instant::now() < deadline, "it runs on: {}", self.log.lock().expect("no panic"));
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_drains() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let mut process = Process::start(&kafka, &topic, &["drain.spread_ms=1500"]);
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut client = process.client().await;
        client.subscribe(&[json!({"channel": "trades", "symbols": ["*"]})]).await.expect("an ack");
        clients.push(client);
    }
    kafka.producer(&topic).send(&trade("A", "1"));
    for client in &mut clients {
        take_events(client, 1).await;
    }
    let start = Instant::now();
    process.signal("TERM");
    let mut waiting = Vec::new();
    for mut client in clients {
        waiting.push(tokio::spawn(async move {
            let Control::Goaway { reason, close_in_ms, cursor } = next_control(&mut client).await else {
                panic!("no goaway")
            };
            assert_eq!(reason, "drain");
            assert!(cursor::decode(&cursor).is_ok(), "{cursor}");
            let told = start.elapsed();
            let code = harness::closed(&mut client).await;
            (close_in_ms, told, start.elapsed(), code)
        }));
    }
    // Meanwhile it is no place to come to.
    process.until_ready("503");
    let mut late = Raw::connect(&process.url).await;
    late.send(handshake("").as_bytes()).await;
    let (status, head, body) = late.refusal().await;
    assert_eq!((status, body.as_str()), (503, "{\"error\":\"draining\"}\n"));
    assert!(head.contains("retry-after: "), "{head}");

    let mut ends = Vec::new();
    for client in waiting {
        let (close_in_ms, told, closed, code) = client.await.expect("it was told");
        assert_eq!(code, Some(1012));
        assert!(told < Duration::from_millis(1000), "all are told at once: {told:?}");
        let due = Duration::from_millis(close_in_ms);
        assert!(closed + Duration::from_millis(50) >= due, "before its time: {closed:?} of {due:?}");
        ends.push(close_in_ms);
    }
    ends.sort_unstable();
    assert!(ends[5] - ends[0] >= 500 && ends[5] <= 1500, "spread: {ends:?}");
    assert_eq!(process.ended().code(), Some(0), "{}", process.log.lock().expect("no panic"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_sessions_it_stops_at_once() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let mut process = Process::start(&kafka, &topic, &["drain.spread_ms=600000"]);
    process.signal("INT");
    assert_eq!(process.ended().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_exits_at_once() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let mut process = Process::start(&kafka, &topic, &["drain.spread_ms=600000"]);
    let mut client = process.client().await;
    process.signal("TERM");
    assert!(matches!(next_control(&mut client).await, Control::Goaway { .. }));
    process.signal("TERM");
    assert_eq!(process.ended().code(), Some(1));
}

/// A client that does not answer the close holds nothing up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_leave_is_cut() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let mut process = Process::start(&kafka, &topic, &["drain.spread_ms=100", "drain.grace_ms=300"]);
    let mut deaf = Raw::session(&process.url).await;
    process.signal("TERM");
    assert_eq!(process.ended().code(), Some(0));
    assert_eq!(deaf.json().await["op"], "goaway");
    assert_eq!(deaf.closed().await.0, 1012);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_never_logged() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let child = Command::new(env!("CARGO_BIN_EXE_tickgate"))
        .args(["run", "--brokers", &kafka.address(), "--topic", &topic])
        .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .env("TICKGATE_LOG", "trace")
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut process = Process { child, url: String::new(), admin: String::new(), log: Arc::default() };
    let mut stderr = BufReader::new(process.child.stderr.take().expect("it is piped"));
    let mut log = String::new();
    while !log.contains("ws://") {
        assert_ne!(stderr.read_line(&mut log).expect("text"), 0, "{log}");
    }
    let url = log.split("ws://").nth(1).and_then(|rest| rest.split(' ').next()).expect("an address");
    let mut raw = Raw::session(url).await;
    for request in [
        r#"{"op":"auth","id":1,"token":"s3cr3t-t0ken"}"#,
        r#"{"op":"auth","token":"s3cr3t-t0ken","id":1.5}"#,
        r#"{"op":"auth","token":["s3cr3t-t0ken"]}"#,
        r#"{"op":"auth","token":"s3cr3t-t0ken""#,
    ] {
        raw.send(&raw::text(request)).await;
        let answer = raw.json().await;
        assert!(!answer.to_string().contains("s3cr3t"), "nor said back: {answer}");
    }
    process.signal("KILL");
    stderr.read_to_string(&mut log).expect("text");
    assert!(!log.contains("s3cr3t"), "it is in the log");
}
