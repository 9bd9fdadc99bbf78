//! The bounds over all sessions, through the real server: what goes over them is told, and nobody else suffers.

use crate::harness::{Gateway, Kafka, Records, SOON, trade, until};
use crate::raw::{Raw, TEXT, header};
use serde_json::{Value, json};
use tickgate_gateway::config::Config;
use tickgate_gateway::stats::{CloseReason, ReplayEnd, ReplayKind, ReplayRefusal, ShardTotals};
use tickgate_protocol::Code;

async fn gateway(change: impl FnOnce(&mut Config)) -> (Kafka, Records, Gateway) {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let mut config = kafka.config(&topic);
    config.shards = 1;
    change(&mut config);
    let records = kafka.producer(&topic);
    let gateway = Gateway::start(config).await;
    (kafka, records, gateway)
}

fn totals(gateway: &Gateway) -> ShardTotals {
    gateway.running().board().shard(0).clone()
}

fn closed(gateway: &Gateway, reason: CloseReason) -> u64 {
    totals(gateway).sessions_closed[reason as usize]
}

/// Trades of one record: 28 KB of events.
const PER_RECORD: usize = 150;

fn trades(symbol: &str) -> Value {
    (0..PER_RECORD).map(|_| trade(symbol, "487.55")).collect()
}

/// Reads what is there until the session is closed: its code, and the `error` before.
async fn goodbye(raw: &mut Raw) -> (u16, Value) {
    let mut error = Value::Null;
    loop {
        let (opcode, payload) = raw.frame().await.expect("a close frame first");
        match opcode {
            crate::raw::CLOSE => return (u16::from_be_bytes([payload[0], payload[1]]), error),
            _ if payload.starts_with(b"{\"op\":\"error\"") => {
                error = serde_json::from_slice(&payload).expect("JSON");
            }
            _ => {}
        }
    }
}

async fn subscribe(raw: &mut Raw, symbols: &[&str]) -> Value {
    let subscriptions = json!([{"channel": "trades", "symbols": symbols, "on_slow": "skip"}]);
    raw.say(&json!({"op": "subscribe", "id": 1, "subscriptions": subscriptions})).await;
    loop {
        let (opcode, payload) = raw.frame().await.expect("an ack");
        let message: Value = serde_json::from_slice(&payload).expect("JSON");
        if opcode == TEXT && message["op"] == "ack" {
            return message;
        }
    }
}

/// Reads data frames until there are `count` events; returns how many there are then.
async fn events(raw: &mut Raw, count: usize) -> usize {
    let mut events = 0;
    while events < count {
        let (_, payload) = raw.frame().await.expect("it stays");
        if let Ok(Value::Array(frame)) = serde_json::from_slice(&payload) {
            events += frame.len();
        }
    }
    events
}

/// Fifty clients read nothing. Together they would hold more than the bound; the ten that asked for most end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_sessions_share_a_bound_and_the_largest_end() {
    const BOUND: usize = 6 << 20;
    let (_kafka, records, gateway) = gateway(|config| {
        config.outbox.total_bytes_max = BOUND;
        config.outbox.bytes_max = BOUND;
        config.outbox.age_max_ms = 60_000;
        config.outbox.send_buffer_bytes = 16 << 10;
        config.session.heartbeat_ms = 0;
    })
    .await;
    let mut light = Vec::new();
    let mut heavy = Vec::new();
    for at in 0..50 {
        let mut raw = Raw::session_narrow(gateway.url(), Some(4 << 10)).await;
        if at % 5 == 0 {
            subscribe(&mut raw, &["HEAVY", "LIGHT"]).await;
            heavy.push(raw);
        } else {
            subscribe(&mut raw, &["LIGHT"]).await;
            light.push(raw);
        }
    }
    let mut reader = Raw::session(gateway.url()).await;
    subscribe(&mut reader, &["HEAVY"]).await;
    // Forty light sessions hold 60 KB of this each: far under three quarters of the bound.
    records.send_all([&trades("LIGHT"), &trades("LIGHT")]);
    let mut sent = 0;
    while totals(&gateway).pressure_closes < heavy.len() as u64 {
        assert!(sent < 400, "{:?}", totals(&gateway));
        let record = trades("HEAVY");
        records.send_all([&record, &record, &record, &record]);
        sent += 4;
        assert_eq!(events(&mut reader, 4 * PER_RECORD).await, 4 * PER_RECORD, "it keeps up and stays");
        assert!(totals(&gateway).slow_bytes <= BOUND as u64, "{:?}", totals(&gateway));
    }
    for raw in &mut heavy {
        let (code, error) = goodbye(raw).await;
        assert_eq!((code, &error["code"]), (Code::SlowConsumer.number(), &json!("slow_consumer")));
        assert!(error["cursor"].as_str().is_some_and(|cursor| !cursor.is_empty()), "{error}");
    }
    until("the ended sessions are gone", || closed(&gateway, CloseReason::SlowConsumer) == 10).await;
    assert_eq!(totals(&gateway).sessions, 41, "the light ones and the reader stay");
    for raw in &mut light {
        assert_eq!(events(raw, 2 * PER_RECORD).await, 2 * PER_RECORD);
    }
    until("nothing is held", || totals(&gateway).slow_bytes == 0).await;
    let books = totals(&gateway);
    assert_eq!((books.pressure_closes, books.held), (10, 0));
    assert_eq!(books.offered, books.sent + books.conflated + books.dropped.iter().sum::<u64>());
    gateway.stop().await;
}

/// Clients that begin large messages and never end them fill the bound, and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_half_messages_is_told_to_try_later() {
    const BOUND: usize = (1 << 20) + (64 << 10);
    const SENT: usize = 200_000;
    let (_kafka, _records, gateway) = gateway(|config| config.limits.reading_bytes_total_max = BOUND).await;
    let mut honest = Raw::session(gateway.url()).await;
    let mut flood = Vec::new();
    let is_refused = || closed(&gateway, CloseReason::ReadingFull) > 0;
    while !is_refused() {
        assert!(flood.len() < 20, "{} sessions hold {:?}", flood.len(), totals(&gateway));
        let mut raw = Raw::session(gateway.url()).await;
        let mut bytes = header(true, TEXT, 250_000);
        bytes.resize(SENT, b'x');
        raw.send(&bytes).await;
        flood.push(raw);
        let expected = (flood.len() * SENT) as u64;
        until("they are read or refused", || totals(&gateway).reading_bytes >= expected || is_refused())
            .await;
        assert!(totals(&gateway).reading_bytes <= BOUND as u64, "{:?}", totals(&gateway));
    }
    let mut last = flood.pop().expect("there is one");
    assert_eq!(goodbye(&mut last).await.0, 1013);
    assert!(flood.len() >= 2, "only {} fit", flood.len());
    assert_eq!(subscribe(&mut honest, &["A"]).await["ok"], true, "whole messages are read as ever");
    drop(flood);
    until("all is given back", || totals(&gateway).reading_bytes == 0).await;
    assert_eq!(subscribe(&mut Raw::session(gateway.url()).await, &["A"]).await["ok"], true);
    gateway.stop().await;
}

/// Who plays the past can wait; who comes back cannot. The second half of the bound is for those.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_played_when_half_of_the_bound_is_taken() {
    const BOUND: usize = 600_000;
    let (_kafka, records, gateway) = gateway(|config| config.limits.reading_bytes_total_max = BOUND).await;
    records.send_all([&trades("A")]);
    let mut client = Raw::session(gateway.url()).await;
    let past = json!([{"channel": "trades", "symbols": ["A"], "from": {"time_ns": "0", "until_ns": "1"}}]);
    let play = json!({"op": "subscribe", "id": 1, "subscriptions": past});
    let mut flood = Vec::new();
    let mut begin = async |sent: usize| {
        let mut raw = Raw::session(gateway.url()).await;
        let mut bytes = header(true, TEXT, 250_000);
        bytes.resize(sent, b'x');
        let before = totals(&gateway).reading_bytes;
        raw.send(&bytes).await;
        flood.push(raw);
        until("they are read", || totals(&gateway).reading_bytes >= before + sent as u64).await;
    };
    begin(100_000).await;
    assert!(totals(&gateway).reading_bytes < BOUND as u64 / 2, "{:?}", totals(&gateway));
    client.say(&play).await;
    assert_eq!(client.json().await["results"][0]["ok"], true);
    until("it was played", || {
        totals(&gateway).replays.ended[ReplayKind::Past as usize][ReplayEnd::Whole as usize] == 1
    })
    .await;
    begin(240_000).await;
    assert!(totals(&gateway).reading_bytes > BOUND as u64 / 2, "{:?}", totals(&gateway));
    client.say(&play).await;
    let refused = loop {
        let answer = client.json().await;
        if answer["op"] == "ack" {
            break answer;
        }
    };
    assert_eq!(
        (&refused["results"][0]["ok"], &refused["results"][0]["code"]),
        (&json!(false), &json!("rate_limited"))
    );
    let memory = ReplayRefusal::Memory as usize;
    until("it is counted", || totals(&gateway).replays.refused[memory] == 1).await;
    // Who comes back is served.
    let back = json!([{"channel": "trades", "symbols": ["A"], "from": {"time_ns": "0"}}]);
    client.say(&json!({"op": "subscribe", "id": 2, "subscriptions": back})).await;
    assert_eq!(events(&mut client, PER_RECORD).await, PER_RECORD);
    gateway.stop().await;
}

/// Two shards share the bound, and what a session leaves another may take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_have_a_bound_over_all_sessions() {
    let (_kafka, _records, gateway) = gateway(|config| {
        config.shards = 2;
        config.limits.subscriptions_max = 6;
        config.limits.subscriptions_total_max = 10;
    })
    .await;
    let mut first = Raw::session(gateway.url()).await;
    let mut second = Raw::session(gateway.url()).await;
    assert_eq!(subscribe(&mut first, &["A", "B", "C", "D", "E", "F"]).await["ok"], true);
    let ack = subscribe(&mut second, &["A", "B", "C", "D", "E", "F"]).await;
    let results = ack["results"].as_array().expect("results");
    let ok: Vec<bool> = results.iter().map(|result| result["ok"] == true).collect();
    assert_eq!(ok, [true, true, true, true, false, false]);
    assert_eq!(results[5]["code"], "subscription_limit");
    let message = results[5]["message"].as_str().expect("a message");
    assert!(message.starts_with("the gateway is full"), "{message}");
    // Changing what is held needs no further place.
    let again = json!([{"channel": "trades", "symbols": ["A"], "on_slow": "disconnect"}]);
    second.say(&json!({"op": "subscribe", "id": 2, "subscriptions": again})).await;
    assert_eq!(second.json().await["ok"], true);
    drop(first);
    until("its places are free", || {
        let board = gateway.running().board();
        (0..2).map(|shard| board.shard(shard).subscriptions).sum::<u64>() == 4
    })
    .await;
    assert_eq!(subscribe(&mut second, &["E", "F"]).await["ok"], true);
    gateway.stop().await;
}

/// A client that sets its heartbeat again and again has one timer, and gets what it asked for last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_heartbeat_interval_counts() {
    let (_kafka, _records, gateway) = gateway(|config| config.limits.requests_per_s = 1_000).await;
    let mut raw = Raw::session(gateway.url()).await;
    for at in 0..200 {
        raw.say(&json!({"op": "set", "id": at, "heartbeat_ms": if at % 2 == 0 { 60_000 } else { 100 }}))
            .await;
    }
    let mut acks = 0;
    let mut heartbeats = 0;
    let end = tokio::time::Instant::now() + SOON;
    while acks < 200 || heartbeats < 3 {
        assert!(tokio::time::Instant::now() < end);
        let (_, message) = raw.any_frame().await.expect("a message");
        let message: Value = serde_json::from_slice(&message).expect("JSON");
        match message["op"].as_str() {
            Some("ack") => acks += 1,
            Some("heartbeat") => heartbeats += 1,
            other => panic!("{other:?}"),
        }
    }
    gateway.stop().await;
}
