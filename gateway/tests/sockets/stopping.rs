//! How a gateway stops: the real binary, real signals.

use crate::harness::process::Process;
use crate::harness::{Kafka, next_control, next_events, take_events, trade};
use crate::raw::{Raw, handshake};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tickgate_load::Incoming;
use tickgate_protocol::control::Control;
use tickgate_protocol::{Position, cursor};

/// Who restarted one at once, while the one before drained, was told to choose another address, and nothing else.
#[test]
fn who_cannot_listen_is_told_to_wait_where_that_helps() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut config = tickgate_gateway::config::Config::default();
    for (listen, waits) in [
        (
            taken.local_addr().expect("an address"),
            "wait for the end of what does, as a gateway that drains, or ",
        ),
        // Kept for documentation: no machine has it.
        ("192.0.2.1:0".parse().expect("an address"), ""),
    ] {
        config.listen = listen;
        let error = tickgate_gateway::server::bind(config.clone()).err().expect("it cannot").to_string();
        assert_eq!(error, format!("cannot listen on {listen}: {waits}choose another with --listen"));
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
            assert!(cursor::decode_unverified(&cursor).is_ok(), "{cursor}");
            // The last word, with where to go on.
            let Control::Goaway { close_in_ms: 0, cursor, .. } = next_control(&mut client).await else {
                panic!("no second goaway")
            };
            assert!(cursor::decode_unverified(&cursor).is_ok(), "{cursor}");
            let code = crate::harness::closed(&mut client).await;
            (close_in_ms, start.elapsed(), code)
        }));
    }
    // Meanwhile it is no place to come to.
    process.until_ready("503");
    let give_up = Instant::now() + crate::harness::SOON;
    loop {
        let mut late = Raw::connect(&process.url).await;
        late.send(handshake("").as_bytes()).await;
        let head = late.head().await.to_lowercase();
        if head.starts_with("http/1.1 503 ") {
            assert!(head.contains("retry-after: 1\r\n"), "{head}");
            assert_eq!(late.rest().await, b"{\"error\":\"draining\"}\n");
            break;
        }
        assert!(Instant::now() < give_up, "whoever comes is let in: {head}");
    }

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

/// A shard without sessions ended at once, and cut off whoever waited at its listener, while another still drained.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn newcomers_are_refused_while_anybody_is_drained() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let mut process = Process::start(&kafka, &topic, &["shards=2", "drain.spread_ms=600000"]);
    let mut client = process.client().await;
    let mut newcomers = Vec::new();
    for _ in 0..32 {
        newcomers.push(Raw::connect(&process.url).await);
    }
    process.signal("TERM");
    assert!(matches!(next_control(&mut client).await, Control::Goaway { .. }));
    for newcomer in &mut newcomers {
        newcomer.send(handshake("").as_bytes()).await;
        assert_eq!(newcomer.refusal().await.0, 503);
    }
    process.signal("TERM");
    assert_eq!(process.ended().code(), Some(1));
}

/// Readiness says no, and nothing else has changed: whoever comes is served, nobody is sent away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_serves_on_until_load_balancers_have_noticed() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let mut process = Process::start(&kafka, &topic, &["drain.accept_ms=600000", "drain.spread_ms=0"]);
    let mut clients = vec![process.client().await];
    process.signal("TERM");
    process.until_ready("503");
    clients.push(process.client().await);
    let producer = kafka.producer(&topic);
    for client in &mut clients {
        client.subscribe(&[json!({"channel": "trades", "symbols": ["A"]})]).await.expect("an ack");
    }
    producer.send(&trade("A", "1"));
    for client in &mut clients {
        take_events(client, 1).await;
        client.send(&json!({"op": "ping"})).await.expect("it is sent");
        assert!(matches!(next_control(client).await, Control::Pong { .. }), "no goaway before it");
    }
    process.signal("TERM");
    assert_eq!(process.ended().code(), Some(1), "a second signal ends that as well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn then_it_drains() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let mut process = Process::start(&kafka, &topic, &["drain.accept_ms=300", "drain.spread_ms=0"]);
    let mut client = process.client().await;
    let start = Instant::now();
    process.signal("TERM");
    assert!(matches!(next_control(&mut client).await, Control::Goaway { .. }));
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    assert_eq!(crate::harness::closed(&mut client).await, Some(1012));
    assert_eq!(process.ended().code(), Some(0));
}

/// Nobody balances load to a terminal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_does_not_wait_for_load_balancers() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let mut process = Process::start(&kafka, &topic, &["drain.accept_ms=600000", "drain.spread_ms=0"]);
    let mut client = process.client().await;
    process.signal("INT");
    assert!(matches!(next_control(&mut client).await, Control::Goaway { .. }));
    assert_eq!(process.ended().code(), Some(0));
}

/// Each of hundreds is given everything up to its end, none is cut, and where it may go on is no later than that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_hundreds_are_drained() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let mut process = Process::start(&kafka, &topic, &["drain.spread_ms=1000"]);
    let mut clients = Vec::new();
    for _ in 0..300 {
        let mut client = process.client().await;
        client.subscribe(&[json!({"channel": "trades", "symbols": ["A"]})]).await.expect("an ack");
        clients.push(client);
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let feed = {
        let (producer, is_over) = (kafka.producer(&topic), is_over.clone());
        std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                producer.send(&trade("A", "1"));
            }
        })
    };
    let mut lasts = Vec::new();
    for client in &mut clients {
        let events = next_events(client).await;
        lasts.push(events.last().and_then(|event| event["seq"].as_str()?.parse::<Position>().ok()));
    }
    process.signal("TERM");
    let mut ends = Vec::new();
    for (mut client, mut last) in clients.into_iter().zip(lasts) {
        ends.push(tokio::spawn(async move {
            let mut said = Vec::new();
            loop {
                match client.next_within(crate::harness::SOON).await.expect("it goes on or ends") {
                    Incoming::Events(frame) => {
                        for event in frame.events().expect("events") {
                            assert_eq!(event.prev, last, "{event:?} does not follow");
                            last = event.seq;
                        }
                    }
                    Incoming::Control { control: Some(Control::Goaway { cursor, .. }), .. } => {
                        said.push(cursor)
                    }
                    Incoming::Control { .. } => {}
                    Incoming::Closed { code, .. } => return (last.expect("an event"), said, code),
                }
            }
        }));
    }
    let mut promised = 0;
    for end in ends {
        let (last, said, code) = end.await.expect("no panic");
        assert_eq!((said.len(), code), (2, Some(1012)));
        for next in cursor::decode_unverified(&said[1]).expect("a cursor") {
            let behind = Position { offset: last.offset + 1, ..last };
            assert!(next.is_at_or_before(behind), "{next} is promised to be next, {last} was the last given");
            promised += u32::from(next.offset > 0);
        }
    }
    assert!(promised > 0, "those that were closed last were told of what they were given");
    is_over.store(true, Ordering::Relaxed);
    feed.join().expect("no panic");
    assert_eq!(process.ended().code(), Some(0));
    assert!(process.whole_log().contains("\"cut\":0"), "{}", process.log());
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
    for _ in ["it is told", "its time has come"] {
        assert_eq!(deaf.json().await["op"], "goaway");
    }
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
        raw.send(&crate::raw::text(request)).await;
        let answer = raw.json().await;
        assert!(!answer.to_string().contains("s3cr3t"), "nor said back: {answer}");
    }
    process.signal("KILL");
    let log = process.whole_log();
    assert!(log.contains("ws://"), "it was logged: {log}");
    assert!(!log.contains("s3cr3t"), "it is in the log");
}
