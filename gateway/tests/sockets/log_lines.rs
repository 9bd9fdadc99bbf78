//! What the real program logs of sessions, and how that is changed while it runs.

use crate::harness::process::Process;
use crate::harness::{Kafka, trade, until};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use tickgate_load::{Client, ClientOptions, Incoming};
use tickgate_protocol::control::Control;

fn put(process: &Process, path: &str, filter: &str) -> String {
    let mut socket = TcpStream::connect(process.admin()).expect("it listens");
    let length = filter.len();
    write!(socket, "PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{filter}")
        .expect("it takes it");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer, then the end");
    answer
}

/// Lines of the log that say so, as JSON.
fn lines(log: &str, message: &str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["fields"]["message"] == message).collect()
}

/// The name of a session that came, subscribed and went.
async fn come_and_go(process: &Process) -> String {
    let mut client = Client::connect(&process.url, &ClientOptions::default()).await.expect("a session");
    let name = match client.next().await {
        Incoming::Control { control: Some(Control::Hello { session, .. }), .. } => session,
        other => panic!("not a hello: {other:?}"),
    };
    let wanted = json!({"channel": "trades", "symbols": ["AAPL", "x\u{1}"], "from": {"time_ns": 1}});
    client.subscribe(&[wanted]).await.expect("it is told");
    client.close(1000, "").await;
    name.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_line_of_a_session_stands_in_its_span_and_levels_change_while_it_runs() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    kafka.producer(&topic).send(&trade("AAPL", "1"));
    let mut process = Process::start(&kafka, &topic, &[]);
    let quiet = come_and_go(&process).await;
    until("it has gone", || process.metric("tickgate_sessions_closed_total", "") == 1.0).await;
    let changed = put(&process, "/log", "info,tickgate_gateway=debug");
    assert!(changed.starts_with("HTTP/1.1 200"), "{changed}");
    assert!(process.get("/log").contains(r#""log":"info,tickgate_gateway=debug""#));
    let loud = come_and_go(&process).await;
    process.logged(r#""message":"closed""#, "\n");
    put(&process, "/log", "error");
    come_and_go(&process).await;
    process.signal("TERM");
    let log = process.whole_log();
    assert!(!log.contains(&quiet), "{log}");
    for message in ["opened", "closed"] {
        let lines = lines(&log, message);
        let [line] = &lines[..] else { panic!("one line: {log}") };
        assert_eq!((&line["span"]["name"], &line["span"]["id"]), (&json!("session"), &json!(loud)), "{line}");
        assert!(line["span"]["shard"].is_u64(), "{line}");
    }
    let changes = lines(&log, "what is logged is changed through the admin listener");
    let told: Vec<_> = changes.iter().map(|line| (&line["fields"]["old"], &line["fields"]["new"])).collect();
    let [info, debug, error] =
        [r#""info""#, r#""info,tickgate_gateway=debug""#, r#""error""#].map(Value::from);
    assert_eq!(told, [(&info, &debug), (&debug, &error)]);
}
