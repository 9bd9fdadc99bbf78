//! How a gateway stops: the real binary, real signals.

mod harness;
mod raw;

use harness::process::Process;
use harness::{Kafka, next_control, take_events, trade};
use raw::{Raw, handshake};
use serde_json::json;
use std::time::{Duration, Instant};
use tickgate_protocol::control::Control;
use tickgate_protocol::cursor;

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
            assert!(cursor::decode_unverified(&cursor).is_ok(), "{cursor}");
            let code = harness::closed(&mut client).await;
            (close_in_ms, start.elapsed(), code)
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
        let (close_in_ms, closed, code) = client.await.expect("it was told");
        assert_eq!(code, Some(1012));
        let due = Duration::from_millis(close_in_ms);
        assert!(closed + Duration::from_millis(50) >= due, "before its time: {closed:?} of {due:?}");
        ends.push(close_in_ms);
    }
    ends.sort_unstable();
    assert!(ends[5] - ends[0] >= 500 && ends[5] <= 1500, "spread: {ends:?}");
    assert_eq!(process.ended().code(), Some(0), "{}", process.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_sessions_it_stops_at_once() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let mut process = Process::start(&kafka, &topic, &["drain.spread_ms=600000"]);
    process.signal("INT");
    assert_eq!(process.ended().code(), Some(0));
}

/// All are told at once: each has ten minutes, of which none waits for its share to hear it. And whoever has told them
/// may still lose patience.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_exits_at_once() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let mut process = Process::start(&kafka, &topic, &["drain.spread_ms=600000"]);
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(process.client().await);
    }
    process.signal("TERM");
    for client in &mut clients {
        assert!(matches!(next_control(client).await, Control::Goaway { .. }));
    }
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
    let mut process = Process::start_logging(&kafka, &topic, &[], "trace");
    let mut raw = Raw::session(&process.url).await;
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
    let log = process.whole_log();
    assert!(log.contains("ws://"), "it was logged: {log}");
    assert!(!log.contains("s3cr3t"), "it is in the log");
}
