//! Accepted clients that ping without end, fall silent, or do not come to the end of a message.

use crate::harness::{Gateway, Kafka, until};
use crate::raw::{BINARY, PING, PONG, Raw, TEXT, frame, header, text};
use serde_json::json;
use std::time::{Duration, Instant};
use tickgate_gateway::config::Config;
use tickgate_gateway::stats::CloseReason;

async fn gateway(change: impl FnOnce(&mut Config)) -> (Kafka, Gateway) {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let mut config = kafka.config(&topic);
    config.session.heartbeat_ms = 0;
    change(&mut config);
    let gateway = Gateway::start(config).await;
    (kafka, gateway)
}

fn closed(gateway: &Gateway, reason: CloseReason) -> u64 {
    let board = gateway.running().board();
    (0..board.shard_count()).map(|shard| board.shard(shard).sessions_closed[reason as usize]).sum()
}

/// Frames until the close frame: how many pongs, and the close code and text.
async fn until_closed(raw: &mut Raw) -> (usize, u16, String) {
    let mut pongs = 0;
    loop {
        match raw.frame().await.expect("a close frame") {
            (crate::raw::CLOSE, payload) => {
                let (code, text) = payload.split_first_chunk::<2>().expect("a code");
                let text = String::from_utf8(text.to_vec()).expect("text");
                return (pongs, u16::from_be_bytes(*code), text);
            }
            (PONG, _) => pongs += 1,
            other => panic!("{other:?}"),
        }
    }
}

/// A hundred thousand pings were answered with as many pongs, each a write of its own when they came one by one.
#[tokio::test]
async fn a_flood_of_pings_or_pongs_ends_its_session_alone() {
    let (_kafka, gateway) = gateway(|_| ()).await;
    let mut other = Raw::session(gateway.url()).await;
    for (at, opcode) in [PING, PONG].into_iter().enumerate() {
        let mut raw = Raw::session(gateway.url()).await;
        let start = Instant::now();
        raw.send(&frame(true, opcode, b"tick").repeat(100_000)).await;
        let (pongs, code, text) = until_closed(&mut raw).await;
        assert_eq!((code, text.as_str()), (1008, "more than 20 pings and pongs within ten seconds"));
        assert!(pongs <= 20, "{pongs}");
        raw.ended().await;
        println!("opcode {opcode}: ended after {:?}, {pongs} pongs", start.elapsed());
        until("it is counted", || closed(&gateway, CloseReason::Pings) == at as u64 + 1).await;
    }
    // As many as a client may send at once do no harm, and one at a time they are all answered.
    for n in 0..20u8 {
        other.send(&frame(true, PING, &[n])).await;
        assert_eq!(other.frame().await, Some((PONG, vec![n])));
    }
    other.say(&json!({"op": "ping", "id": 1})).await;
    assert_eq!(other.json().await["id"], 1);
}

#[tokio::test]
async fn with_no_limit_pings_are_answered_for_ever() {
    let (_kafka, gateway) = gateway(|config| config.limits.pings_per_10_s = 0).await;
    let mut raw = Raw::session(gateway.url()).await;
    for n in 0..200u8 {
        raw.send(&frame(true, PING, &[n])).await;
        assert_eq!(raw.frame().await, Some((PONG, vec![n])));
    }
}

/// Behind a line that was cut, nothing tells the gateway that nobody is there: its session and its descriptor stayed.
#[tokio::test]
async fn who_answers_pings_stays_and_who_is_silent_is_ended() {
    let (_kafka, gateway) = gateway(|config| {
        config.session.ping_ms = 1_000;
        // Longer than a busy machine may keep this test from answering.
        config.session.silence_timeout_ms = 8_000;
        config.limits.requests_per_s = 1_000;
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(Raw::session(gateway.url()).await);
    }
    let mut alive = Raw::session(gateway.url()).await;
    let mut speaks = Raw::session(gateway.url()).await;
    let start = Instant::now();
    let mut pings = 0;
    while gateway.sessions() > 2 || start.elapsed() < Duration::from_secs(10) {
        assert!(start.elapsed() < 2 * crate::harness::SOON, "{} sessions are left", gateway.sessions());
        if !alive.is_quiet(Duration::from_millis(20)).await {
            let Some((PING, payload)) = alive.frame().await else {
                panic!("it was asked for a sign of life")
            };
            assert!(payload.is_empty());
            alive.send(&frame(true, PONG, &payload)).await;
            pings += 1;
        }
        speaks.say(&json!({"op": "list"})).await;
        assert_eq!(speaks.json().await["op"], "list", "whoever speaks is not asked");
    }
    assert!(pings >= 2, "{pings} pings in {:?}", start.elapsed());
    assert_eq!(closed(&gateway, CloseReason::Silent), 300);
    for mut raw in silent {
        loop {
            match raw.frame().await {
                Some((PING, _)) => {}
                Some((crate::raw::CLOSE, payload)) => break assert_eq!(payload[..2], 1008u16.to_be_bytes()),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(gateway.sessions(), 2);
}

#[tokio::test]
async fn a_message_that_does_not_end_is_not_waited_for() {
    let (_kafka, gateway) = gateway(|config| config.limits.message_timeout_ms = 500).await;
    let half = |opcode: u8, bytes: usize| [header(true, opcode, bytes), vec![0; 4 + bytes / 2]].concat();
    let begun = [
        header(true, TEXT, 9),
        half(TEXT, 100_000),
        half(PING, 100),
        frame(false, BINARY, b"the first part"),
        // Pings in between bring it no nearer to its end.
        [frame(false, TEXT, b"{"), frame(true, PING, b"")].concat(),
    ];
    for (at, bytes) in begun.iter().enumerate() {
        let mut raw = Raw::session(gateway.url()).await;
        let start = Instant::now();
        raw.send(bytes).await;
        let (_, code, text) = until_closed(&mut raw).await;
        let took = start.elapsed();
        assert_eq!((code, text.as_str()), (1008, "a message that was begun must end within 500 ms"));
        // Its clock is as of when it last woke up.
        assert!(took >= Duration::from_millis(250), "{at}: {took:?}");
        raw.ended().await;
        until("it is counted", || closed(&gateway, CloseReason::Unfinished) == at as u64 + 1).await;
    }
}

/// Whoever sends one message after the other may always be in the midst of one.
#[tokio::test]
async fn the_time_of_a_message_begins_with_it() {
    // Longer than a busy machine may keep this test from going on.
    let (_kafka, gateway) = gateway(|config| config.limits.message_timeout_ms = 4_000).await;
    let mut raw = Raw::session(gateway.url()).await;
    let message = text(r#"{"op":"ping"}"#);
    let (first, rest) = message.split_at(5);
    raw.send(first).await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(6) {
        raw.send(&[rest, first].concat()).await;
        assert_eq!(raw.json().await["op"], "pong");
        assert!(raw.is_quiet(Duration::from_millis(250)).await);
    }
    raw.send(rest).await;
    assert_eq!(raw.json().await["op"], "pong");
    // Now it is between two, and stays as long as it likes.
    assert!(raw.is_quiet(Duration::from_secs(5)).await);
    raw.send(&message).await;
    assert_eq!(raw.json().await["op"], "pong");
}

/// Names of symbols cost a client nothing: what it invents must leave nothing behind, nor cost others an event.
#[tokio::test]
async fn a_churn_of_invented_symbols_leaves_nothing_behind() {
    const ROUNDS: usize = 100;
    const NAMES: usize = 300;
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let mut config = kafka.config(&topic);
    config.session.heartbeat_ms = 0;
    config.limits.requests_per_s = 10_000;
    config.limits.unseen_symbols_max = 2 * NAMES;
    let gateway = Gateway::start(config).await;
    let mut other = gateway.client().await;
    other.subscribe(&[json!({"channel": "trades", "symbols": ["KNOWN"]})]).await.expect("an ack");
    let producer = kafka.producer(&topic);
    producer.send(&crate::harness::trade("KNOWN", "1"));
    assert_eq!(crate::harness::take_events(&mut other, 1).await.len(), 1);
    let known = || gateway.running().board().feed().symbols;
    until("it is known", || known() == 1).await;

    let mut raw = Raw::session(gateway.url()).await;
    let (mut granted, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        // Some are taken back, some given up with the session, and all are new.
        let names: Vec<String> = (0..NAMES).map(|n| format!("X{round}-{n}")).collect();
        let about = json!([{"channel": "trades", "symbols": names}]);
        raw.say(&json!({"op": "subscribe", "id": round, "subscriptions": about})).await;
        let answer = raw.json().await;
        assert_eq!((&answer["op"], &answer["id"]), (&json!("ack"), &json!(round)));
        for result in answer["results"].as_array().expect("verdicts") {
            granted += usize::from(result["ok"] == true);
            refused += usize::from(result["code"] == "subscription_limit");
        }
        if round % 10 == 9 {
            raw = Raw::session(gateway.url()).await;
        } else {
            raw.say(&json!({"op": "unsubscribe", "id": round, "subscriptions": about})).await;
            assert_eq!(raw.json().await["op"], "ack");
        }
        producer.send(&crate::harness::trade("KNOWN", &format!("{}", round + 2)));
    }
    assert_eq!(granted + refused, ROUNDS * NAMES);
    assert!(granted >= 2 * NAMES, "{granted} granted, {refused} refused");
    let prices: Vec<String> = crate::harness::take_events(&mut other, ROUNDS)
        .await
        .iter()
        .map(|event| event["price"].as_str().expect("a price").to_owned())
        .collect();
    assert_eq!(prices, (0..ROUNDS).map(|round| (round + 2).to_string()).collect::<Vec<_>>());
    drop(raw);
    let subscriptions = || {
        let board = gateway.running().board();
        (0..board.shard_count()).map(|shard| board.shard(shard).subscriptions).sum::<u64>()
    };
    until("only the other's is left", || subscriptions() == 1).await;
    assert_eq!(known(), 1, "none of them is known");
}
