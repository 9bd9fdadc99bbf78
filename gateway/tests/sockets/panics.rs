//! What becomes of a panic: the real program, told by a client to panic here or there.

use crate::harness::process::Process;
use crate::harness::{Kafka, SOON, closed, quote, take_events, trade, until};
use serde_json::json;
use tickgate_load::Client;

fn start(kafka: &Kafka, topic: &str) -> Process {
    // One shard: those who are not to notice are on the thread that panics.
    Process::start_as(kafka, topic, &["shards=1"], |command| {
        command.env("TICKGATE_TEST_PANICS", "1").env("TICKGATE_LOG", "info").env_remove("RUST_BACKTRACE");
    })
}

async fn panic_at(client: &mut Client, place: &str) {
    client.send_text(&format!(r#"{{"op":"panic","at":"{place}"}}"#)).await.expect("it is sent");
}

/// Whoever's turn panicked kept its place and its socket for ever, and was written to no more; the buffer that everybody
/// is read with was gone, so that whoever sent something next was taken for gone as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_ends_one_session_and_nobody_else_notices() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let records = kafka.producer(&topic);
    let process = start(&kafka, &topic);
    let all =
        [json!({"channel": "trades", "symbols": ["*"]}), json!({"channel": "quotes", "symbols": ["A"]})];
    let mut staying = Vec::new();
    for _ in 0..5 {
        let mut client = process.client().await;
        client.subscribe(&all).await.expect("an ack");
        staying.push(client);
    }
    for (number, place) in (1..).zip(["request", "write", "request", "write"]) {
        let mut unlucky = process.client().await;
        unlucky.subscribe(&all).await.expect("an ack");
        panic_at(&mut unlucky, place).await;
        if place == "write" {
            // Its answer is what is being written when it panics; with events in the midst of a pass all would fall.
            let _ = unlucky.send(&json!({"op": "ping", "id": 1})).await;
        }
        assert_eq!(closed(&mut unlucky).await, Some(1011), "{place}: {}", process.log());
        assert_eq!(process.metric("tickgate_panics_total", ""), f64::from(number));
        let is_ended = || process.metric("tickgate_sessions_closed_total", "\"panic\"") == f64::from(number);
        until("it is counted", is_ended).await;
        // Read from, and written to.
        for client in &mut staying {
            client.request(json!({"op": "ping"})).await.expect("a pong");
        }
        records.send_all(&[trade("A", &number.to_string()), quote("A", "1", "2")]);
        for client in &mut staying {
            let events = take_events(client, 2).await;
            assert_eq!(events[0]["price"], number.to_string(), "{events:?}");
        }
    }
    until("the rest is in order", || {
        let books = process.metric("tickgate_books_imbalance_events", "");
        let held = ["tickgate_events_held", "tickgate_requests_reading_bytes", "tickgate_outbox_held_bytes"]
            .map(|name| process.metric(name, ""));
        let (open, subs) = ("tickgate_sessions_open", "tickgate_subscriptions_held");
        (books, held) == (0.0, [0.0; 3])
            && (process.metric(open, ""), process.metric(subs, "")) == (5.0, 10.0)
    })
    .await;
    let log = process.log();
    assert_eq!(log.matches("panicked at gateway/src/shard/hooks.rs:").count(), 4, "{log}");
    assert_eq!(log.matches("\"its turn has panicked: the session ends\"").count(), 4, "{log}");
    assert!(log.contains("as was asked for, in a write") && log.contains("\"thread\":\"shard-0\""), "{log}");
}

/// The shard went on without anybody to fan out: connected, ready, and silent for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_the_fan_out_ends_the_gateway() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let mut process = start(&kafka, &topic);
    let mut client = process.client().await;
    client.subscribe(&[json!({"channel": "trades", "symbols": ["*"]})]).await.expect("an ack");
    panic_at(&mut client, "fan_out").await;
    kafka.producer(&topic).send(&trade("A", "1"));
    assert_eq!(process.ended().code(), Some(70));
    let log = process.whole_log();
    for wanted in
        ["panicked at gateway/src/shard/hooks.rs:", "what serves every session panicked", "the gateway ends"]
    {
        assert!(log.contains(wanted), "{wanted}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_panics_on_request_unless_it_is_allowed() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let process = Process::start(&kafka, &topic, &[]);
    let mut client = process.client().await;
    for place in ["request", "write", "fan_out"] {
        panic_at(&mut client, place).await;
    }
    client.subscribe(&[json!({"channel": "trades", "symbols": ["*"]})]).await.expect("an ack");
    kafka.producer(&topic).send(&trade("A", "1"));
    assert!(tokio::time::timeout(SOON, take_events(&mut client, 1)).await.is_ok());
    assert_eq!(process.metric("tickgate_panics_total", ""), 0.0);
}
