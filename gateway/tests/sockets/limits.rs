//! What a session may do, and what happens beyond it.

use crate::harness::{Gateway, Kafka, take_events, trade};
use crate::raw::{PING, PONG, Raw, frame, header, text};
use serde_json::json;
use std::time::{Duration, Instant};
use tickgate_gateway::config::Config;
use tickgate_protocol::control::AckResult;

async fn gateway(change: impl FnOnce(&mut Config)) -> (Kafka, String, Gateway) {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let mut config = kafka.config(&topic);
    change(&mut config);
    let gateway = Gateway::start(config).await;
    (kafka, topic, gateway)
}

fn codes(verdicts: &[AckResult]) -> Vec<Option<&'static str>> {
    verdicts.iter().map(|v| v.code.map(|code| code.name())).collect()
}

#[tokio::test]
async fn who_asks_too_fast_is_told_when_to_ask_again() {
    let (_kafka, _, gateway) = gateway(|config| config.limits.requests_per_s = 10).await;
    let mut raw = Raw::session(gateway.url()).await;
    let burst: Vec<u8> =
        (0..20).flat_map(|id| text(&json!({"op": "ping", "id": format!("p{id}")}).to_string())).collect();
    let start = Instant::now();
    raw.send(&burst).await;
    let mut refused = 0;
    let mut retry_after_ms = 0;
    for id in 0..20 {
        let answer = raw.json().await;
        assert_eq!(answer["id"], format!("p{id}"), "each is answered, with its id: {answer}");
        if answer["op"] == "pong" {
            continue;
        }
        refused += 1;
        assert_eq!((&answer["code"], &answer["number"]), (&json!("rate_limited"), &json!(4429)));
        assert_eq!(answer["fatal"], false);
        let retry = answer["retry_after_ms"].as_u64().expect("a time");
        assert!(retry >= retry_after_ms, "each further one has to wait longer: {answer}");
        retry_after_ms = retry;
    }
    let most = 20 - 10 - start.elapsed().as_millis() as i64 / 100 - 1;
    assert!((most..=10).contains(&refused), "{refused} were refused");
    assert!(retry_after_ms > 0);
    // tidy: allow(sleep) the wait that the gateway asked for, or the pace of polling
    tokio::time::sleep(Duration::from_millis(retry_after_ms)).await;
    raw.say(&json!({"op": "ping", "id": 1})).await;
    assert_eq!(raw.json().await["op"], "pong", "as it was told");
}

/// They cost work and no bytes, so that no bound on bytes ends them.
#[tokio::test]
async fn a_message_of_empty_fragments_comes_to_an_end() {
    let (_kafka, _, gateway) = gateway(|_| ()).await;
    let mut raw = Raw::session(gateway.url()).await;
    let begun = [frame(false, 1, b""), frame(false, 0, b"").repeat(62)].concat();
    let request = frame(true, 0, br#"{"op":"ping","id":1}"#);
    raw.send(&[begun.clone(), request].concat()).await;
    assert_eq!(raw.json().await["op"], "pong", "64 are allowed");
    raw.send(&[begun, frame(false, 0, b"").repeat(1_000)].concat()).await;
    assert_eq!(raw.closed().await, (1008, "message in more than 64 fragments".to_owned()));
    gateway.metric_is(r#"tickgate_violations_total{cause="fragments"}"#, 1.0).await;
}

/// There is room for one answer; of several pings that came in one read, only the last was answered.
#[tokio::test]
async fn pings_that_come_together_are_answered_one_by_one() {
    let (_kafka, _, gateway) = gateway(|_| ()).await;
    let mut raw = Raw::session(gateway.url()).await;
    let pings: Vec<u8> = (0..15).flat_map(|n| frame(true, PING, &[n])).collect();
    raw.send(&pings).await;
    for n in 0..15 {
        assert_eq!(raw.frame().await, Some((PONG, vec![n])));
    }
}

#[tokio::test]
async fn who_does_not_listen_is_closed() {
    let (_kafka, _, gateway) = gateway(|_| ()).await;
    for message in [text(r#"{"op":"ping"}"#), frame(true, crate::raw::BINARY, b"x"), text("nonsense")] {
        let mut raw = Raw::session(gateway.url()).await;
        raw.send(&message.repeat(300)).await;
        // The end overtakes answers that were not written yet.
        let mut answers = 0;
        loop {
            let answer = raw.json().await;
            answers += 1;
            if answer["code"] == "rate_limited" && answer["fatal"] == true {
                break;
            }
        }
        assert!(answers < 200, "patience has an end: {answers}");
        assert_eq!(raw.closed().await, (4429, "rate_limited".to_owned()));
        raw.ended().await;
    }
    gateway.client().await;
}

#[tokio::test]
async fn a_session_holds_so_many_subscriptions_and_no_more() {
    let (kafka, topic, gateway) = gateway(|config| config.limits.subscriptions_max = 3).await;
    let mut client = gateway.client().await;
    let asked = json!({"channel": "trades", "symbols": ["A", "B*", "A", "C", "D", "B*", "E"]});
    let verdicts = client.subscribe(&[asked]).await.expect("an ack");
    let limit = Some("subscription_limit");
    assert_eq!(codes(&verdicts), [None, None, None, None, limit, None, limit]);
    assert!(verdicts[4].message.as_deref().is_some_and(|m| m.contains('3')));
    // What is held may be repeated and changed, and a channel is a subscription of its own.
    let verdicts = client
        .subscribe(&[
            json!({"channel": "trades", "symbols": ["A", "C"], "on_slow": "skip"}),
            json!({"channel": "quotes", "symbols": ["A"]}),
        ])
        .await
        .expect("an ack");
    assert_eq!(codes(&verdicts), [None, None, limit]);
    client.unsubscribe(&[json!({"channel": "trades", "symbols": ["B*"]})]).await.expect("an ack");
    let verdicts =
        client.subscribe(&[json!({"channel": "quotes", "symbols": ["A", "B"]})]).await.expect("an ack");
    assert_eq!(codes(&verdicts), [None, limit]);
    kafka.producer(&topic).send(&trade("C", "1"));
    assert_eq!(take_events(&mut client, 1).await[0]["symbol"], "C");
}

#[tokio::test]
async fn invented_symbols_are_bounded_over_all_sessions() {
    let (kafka, topic, gateway) = gateway(|config| config.limits.unseen_symbols_max = 3).await;
    let (mut one, mut other) = (gateway.client().await, gateway.client().await);
    let trades = |symbols: &[&str]| json!({"channel": "trades", "symbols": symbols});
    let limit = Some("subscription_limit");
    assert_eq!(codes(&one.subscribe(&[trades(&["X1", "X2"])]).await.expect("an ack")), [None, None]);
    let verdicts = other.subscribe(&[trades(&["X2", "X3", "X4", "X*"])]).await.expect("an ack");
    assert_eq!(codes(&verdicts), [None, None, limit, None], "a pattern invents nothing");
    // What nobody waits for any more, and what has appeared, makes room.
    one.unsubscribe(&[trades(&["X1"])]).await.expect("an ack");
    // Once the feed knows: the two clients may be on two shards, which speak to it each for itself.
    let deadline = Instant::now() + crate::harness::SOON;
    while codes(&other.subscribe(&[trades(&["X4"])]).await.expect("an ack")) != [None] {
        assert!(Instant::now() < deadline, "no place came back");
        // tidy: allow(sleep) the wait that the gateway asked for, or the pace of polling
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(codes(&other.subscribe(&[trades(&["X4", "X5"])]).await.expect("an ack")), [None, limit]);
    kafka.producer(&topic).send(&trade("X3", "1"));
    assert_eq!(take_events(&mut other, 1).await[0]["symbol"], "X3");
    assert_eq!(codes(&other.subscribe(&[trades(&["X5"])]).await.expect("an ack")), [None]);
    // And a session that ends gives back what only it waited for.
    drop(other);
    let deadline = Instant::now() + crate::harness::SOON;
    while codes(&one.subscribe(&[trades(&["X6", "X7"])]).await.expect("an ack")) != [None, None] {
        assert!(Instant::now() < deadline, "no place came back");
        // tidy: allow(sleep) the wait that the gateway asked for, or the pace of polling
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_message_has_the_size_that_hello_names() {
    let (_kafka, _, gateway) = gateway(|config| config.limits.message_bytes_max = 2048).await;
    let mut raw = Raw::connect(gateway.url()).await;
    raw.send(crate::raw::handshake("").as_bytes()).await;
    raw.head().await;
    assert_eq!(raw.json().await["limits"]["message_bytes"], 2048);
    let padded = format!("{:<2048}", r#"{"op":"ping","id":1}"#);
    raw.send(&text(&padded)).await;
    assert_eq!(raw.json().await["id"], 1);
    raw.send(&header(true, crate::raw::TEXT, 2049)).await;
    assert_eq!(raw.closed().await.0, 1009, "by what it declares: not a byte of it was sent");
}

/// A request of 256 KiB named 87,000 empty symbols, and was answered with 12 MB; another repeated a long name of a
/// channel for every one of its symbols, which came to gigabytes.
#[tokio::test]
async fn a_small_request_has_no_huge_answer() {
    /// Where client libraries have their limit.
    const MESSAGE_BYTES_MAX: usize = 1 << 20;
    let (_kafka, _, gateway) = gateway(|_| ()).await;
    let mut raw = Raw::session(gateway.url()).await;
    let subscribe = |channel: &str, symbols: &[String]| json!({"op": "subscribe", "id": 1, "subscriptions": [{"channel": channel, "symbols": symbols}]});
    let empty = vec![String::new(); 5_001];
    let long = "x".repeat(100_000);
    for too_much in [subscribe("trades", &empty), subscribe(&long, &empty[..1_000])] {
        raw.say(&too_much).await;
        let answer = raw.json().await;
        assert_eq!(
            (&answer["op"], &answer["code"], &answer["id"]),
            (&json!("error"), &json!("bad_request"), &json!(1))
        );
    }
    raw.say(
        &json!({"op": "unsubscribe", "id": 2, "subscriptions": [{"channel": "trades", "symbols": empty}]}),
    )
    .await;
    assert_eq!(raw.json().await["code"], "bad_request");

    // The longest names that fit into a message, and the longest refusals.
    let ordinary: Vec<_> = (0..5_000).map(|n| format!("{n:048}")).collect();
    let wrong: Vec<_> = ordinary.iter().map(|name| format!("*{name}")).collect();
    let further: Vec<_> = ordinary.iter().map(|name| format!("+{name}")).collect();
    for (symbols, ok) in [(&wrong, false), (&ordinary, true), (&further, false)] {
        raw.say(&subscribe("trades", symbols)).await;
        let results = loop {
            let (_, answer) = raw.frame().await.expect("an answer");
            assert!(answer.len() < MESSAGE_BYTES_MAX, "{} bytes", answer.len());
            let answer: serde_json::Value = serde_json::from_slice(&answer).expect("JSON");
            // So large an answer may make a client slow for a moment, which it is told.
            if answer["op"] != "slow" {
                break answer["results"].as_array().expect("verdicts").clone();
            }
        };
        assert_eq!(results.len(), 5_000);
        assert!(results.iter().all(|result| result["ok"] == ok), "{}", results[0]);
    }
    raw.say(&json!({"op": "list"})).await;
    let (_, list) = raw.frame().await.expect("a list");
    assert!(list.len() < MESSAGE_BYTES_MAX, "{} bytes", list.len());
}
