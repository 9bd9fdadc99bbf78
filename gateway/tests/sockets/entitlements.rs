//! What sessions may see, for how long, and what a new token changes of it.

use crate::harness::world::World;
use crate::harness::{Gateway, Kafka, quote, trade, until};
use crate::issuer::Issuer;
use crate::raw::{Raw, handshake};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tickgate_gateway::config::Config;
use tickgate_gateway::stats::{CloseReason, ShardTotals};

async fn world(issuer: &Issuer, change: impl FnOnce(&mut Config)) -> World {
    World::new(1, |config| {
        issuer.asked_by(config);
        config.session.heartbeat_ms = 0;
        change(config);
    })
    .await
}

fn sum(gateway: &Gateway, of: impl Fn(&ShardTotals) -> u64) -> u64 {
    let board = gateway.running().board();
    (0..board.shard_count()).map(|shard| of(&board.shard(shard))).sum()
}

/// A session of whoever has this token, and its greeting.
async fn session(gateway: &Gateway, token: &str) -> (Raw, Value) {
    let mut raw = Raw::connect(gateway.url()).await;
    raw.send(handshake(&format!("Authorization: Bearer {token}\r\n")).as_bytes()).await;
    let head = raw.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let hello = raw.json().await;
    (raw, hello)
}

/// Subscribes; gives each name's code, or `ok`.
async fn subscribe(raw: &mut Raw, channel: &str, symbols: &[&str]) -> Vec<String> {
    raw.say(
        &json!({ "op": "subscribe", "id": 9, "subscriptions": [{ "channel": channel, "symbols": symbols }] }),
    )
    .await;
    let ack = loop {
        let message = raw.json().await;
        if message["op"] == "ack" {
            break message;
        }
    };
    let results = ack["results"].as_array().expect("results");
    results.iter().map(|result| result["code"].as_str().unwrap_or("ok").to_owned()).collect()
}

/// The `id` of an `auth` that was taken, by which no subscription ended.
async fn taken(raw: &mut Raw) -> Value {
    let ack = raw.json().await;
    assert_eq!(
        (&ack["op"], &ack["ok"], &ack["results"]),
        (&json!("ack"), &json!(true), &Value::Null),
        "{ack}"
    );
    ack["id"].clone()
}

/// The symbols of the next events, until `last` has come.
async fn symbols_until(raw: &mut Raw, last: &str) -> Vec<String> {
    let mut symbols = Vec::new();
    while symbols.last().is_none_or(|symbol| symbol != last) {
        if let Value::Array(events) = raw.json().await {
            symbols.extend(events.iter().map(|event| event["symbol"].as_str().expect("a symbol").to_owned()));
        }
    }
    symbols
}

/// The symbols of the first events, in order of their names.
async fn first_symbols(raw: &mut Raw, count: usize) -> Vec<String> {
    let mut symbols = Vec::new();
    while symbols.len() < count {
        let Value::Array(events) = raw.json().await else { continue };
        symbols.extend(events.iter().map(|event| event["symbol"].as_str().expect("a symbol").to_owned()));
    }
    symbols.sort();
    symbols
}

async fn closed_as(gateway: &Gateway, reason: CloseReason, count: u64) {
    until("the closes are counted", || {
        sum(gateway, |totals| totals.sessions_closed[reason as usize]) == count
    })
    .await;
}

#[tokio::test]
async fn what_is_not_granted_is_named_and_never_comes() {
    let issuer = Issuer::new("k1");
    let world = world(&issuer, |_| {}).await;
    for symbol in ["AAPL", "BTC1", "ETH", "AMZN"] {
        world.records.send(&quote(symbol, "1", "2"));
    }
    world.has_read(4).await;
    let rights = json!({
        "symbols": ["AAPL", "BTC*", "ZZZ"], "channels": ["quotes"], "wildcard": true, "max_subscriptions": 3,
    });
    let (mut raw, hello) = session(&world.gateway, &issuer.token_for("ann", &rights, 3_600)).await;
    assert_eq!(hello["limits"]["subscriptions"], 3);
    assert_eq!(subscribe(&mut raw, "quotes", &["ETH", "AAP", "E*"]).await, ["forbidden"; 3]);
    assert_eq!(subscribe(&mut raw, "trades", &["AAPL"]).await, ["forbidden"]);
    // Snapshots of what is granted, of a pattern that is wider; and then what happens to that.
    assert_eq!(
        subscribe(&mut raw, "quotes", &["*", "BTC*", "A*", "AAPL"]).await,
        ["ok", "ok", "ok", "subscription_limit"]
    );
    assert_eq!(first_symbols(&mut raw, 2).await, ["AAPL", "BTC1"]);
    for symbol in ["ETH", "AMZN", "AAPL", "BTC2", "ETH", "ZZZ"] {
        world.records.send(&quote(symbol, "3", "4"));
    }
    assert_eq!(symbols_until(&mut raw, "ZZZ").await, ["AAPL", "BTC2", "ZZZ"]);
    until("it is counted", || {
        (sum(&world.gateway, |totals| totals.forbidden), sum(&world.gateway, |totals| totals.withheld))
            == (4, 3)
    })
    .await;
    // Without the right to wildcards a pattern must be granted as a whole.
    let rights = json!({ "symbols": ["AAPL", "BTC*"] });
    let (mut raw, _) = session(&world.gateway, &issuer.token_for("bob", &rights, 3_600)).await;
    assert_eq!(
        subscribe(&mut raw, "quotes", &["*", "BTC*", "BTC1*", "AAPL"]).await,
        ["forbidden", "ok", "ok", "ok"]
    );
    world.gateway.stop().await;
}

/// T5: warned, refreshed without a gap, and closed when nobody refreshes.
#[tokio::test]
async fn a_token_is_warned_of_refreshed_and_ends() {
    let issuer = Issuer::new("k1");
    let world = world(&issuer, |config| config.auth.warn_s = 2).await;
    let everything = json!({ "symbols": ["*"] });
    let until_s = crate::issuer::now_s() + 4;
    let (mut raw, _) = session(&world.gateway, &issuer.token_for("ann", &everything, 4)).await;
    let (mut other, _) = session(&world.gateway, &issuer.token_for("ann", &everything, 4)).await;
    assert_eq!(subscribe(&mut raw, "trades", &["A"]).await, ["ok"]);
    for session in [&mut raw, &mut other] {
        let warning = session.json().await;
        assert_eq!((&warning["code"], &warning["fatal"]), (&json!("token_expiring"), &json!(false)));
        assert!(crate::issuer::now_s() >= until_s - 2);
    }
    // Another's is not taken, nor one that is no good; what was shown before still counts.
    for (token, code) in
        [(issuer.token_for("bob", &everything, 600), "forbidden"), ("x.y.z".to_owned(), "unauthenticated")]
    {
        raw.say(&json!({ "op": "auth", "id": 3, "token": token })).await;
        let error = raw.json().await;
        assert_eq!((&error["code"], &error["fatal"]), (&json!(code), &json!(false)));
    }
    raw.say(&json!({ "op": "auth", "id": 4, "token": issuer.token_for("ann", &everything, 3_600) })).await;
    assert_eq!(taken(&mut raw).await, json!(4));
    let error = other.json().await;
    assert_eq!((&error["code"], &error["fatal"]), (&json!("token_expired"), &json!(true)));
    assert!(error["cursor"].is_string(), "{error}");
    assert_eq!(other.closed().await.0, 4498);
    let late_s = crate::issuer::now_s() - until_s;
    assert!((0..=2).contains(&late_s), "closed {late_s} s after its time");
    // The other one goes on as if nothing had been.
    world.records.send(&trade("A", "1"));
    assert_eq!(symbols_until(&mut raw, "A").await, ["A"]);
    closed_as(&world.gateway, CloseReason::TokenExpired, 1).await;
    world.gateway.stop().await;
}

#[tokio::test]
async fn a_new_token_changes_what_is_seen() {
    let issuer = Issuer::new("k1");
    let world = world(&issuer, |_| {}).await;
    for symbol in ["A1", "A2", "B1"] {
        world.records.send(&quote(symbol, "1", "2"));
    }
    world.has_read(3).await;
    let token = |symbols: &[&str], wildcard: bool| {
        issuer.token_for("ann", &json!({ "symbols": symbols, "wildcard": wildcard }), 3_600)
    };
    let (mut raw, _) = session(&world.gateway, &token(&["A1", "B*"], true)).await;
    assert_eq!(subscribe(&mut raw, "quotes", &["A*", "B1"]).await, ["ok", "ok"]);
    assert_eq!(first_symbols(&mut raw, 2).await, ["A1", "B1"]);
    // B is lost, A2 comes into view with its state, and A1 is lost within the pattern.
    raw.say(&json!({ "op": "auth", "id": 1, "token": token(&["A2"], true) })).await;
    let ack = raw.json().await;
    assert_eq!((&ack["ok"], &ack["results"][0]["symbol"]), (&json!(true), &json!("B1")));
    assert_eq!(
        (&ack["results"][0]["code"], ack["results"].as_array().map(Vec::len)),
        (&json!("forbidden"), Some(1))
    );
    let state = raw.json().await;
    assert_eq!((&state[0]["symbol"], &state[0]["snapshot"]), (&json!("A2"), &json!(true)));
    for symbol in ["A1", "B1", "A2"] {
        world.records.send(&quote(symbol, "3", "4"));
    }
    assert_eq!(symbols_until(&mut raw, "A2").await, ["A2"]);
    // All of A: what had been lost comes back with its state, what was seen goes on.
    raw.say(&json!({ "op": "auth", "id": 2, "token": token(&["A*"], false) })).await;
    assert_eq!(taken(&mut raw).await, json!(2));
    let state = raw.json().await;
    assert_eq!((&state[0]["symbol"], &state[0]["bid_price"]), (&json!("A1"), &json!("3")));
    for symbol in ["A3", "A1", "A2"] {
        world.records.send(&quote(symbol, "5", "6"));
    }
    assert_eq!(symbols_until(&mut raw, "A2").await, ["A3", "A1", "A2"]);
    // Without wildcards the pattern is too wide again, and ends.
    raw.say(&json!({ "op": "auth", "id": 3, "token": token(&["A1"], false) })).await;
    assert_eq!(raw.json().await["results"][0]["symbol"], "A*");
    raw.say(&json!({ "op": "list", "id": 4 })).await;
    assert_eq!(raw.json().await["subscriptions"], json!([]));
    world.gateway.stop().await;
}

/// T6: closed within five seconds, and not let in again; nobody else is concerned.
#[tokio::test]
async fn who_is_revoked_is_closed() {
    let issuer = Issuer::new("k1");
    let world = world(&issuer, |_| {}).await;
    let everything = json!({ "symbols": ["*"] });
    let mut revoked = Vec::new();
    let token = issuer.token_for("eve", &everything, 3_600);
    for _ in 0..20 {
        revoked.push(session(&world.gateway, &token).await.0);
    }
    let (mut ann, _) = session(&world.gateway, &issuer.token()).await;
    let began = Instant::now();
    // By the token's id, and a line that nobody understands beside it.
    std::fs::write(issuer.file("revoked"), "eve\njti:eve-1\n").expect("it is written");
    for raw in &mut revoked {
        assert_eq!(raw.json().await["code"], "unauthenticated");
        assert_eq!(raw.closed().await.0, 4401);
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let mut raw = Raw::connect(world.gateway.url()).await;
    raw.send(handshake(&format!("Authorization: Bearer {token}\r\n")).as_bytes()).await;
    assert_eq!(raw.refusal().await.0, 401);
    ann.say(&json!({ "op": "ping", "id": 1 })).await;
    assert_eq!(ann.json().await["op"], "pong");
    closed_as(&world.gateway, CloseReason::Revoked, 20).await;
    world.gateway.stop().await;
}

/// What comes faster than it is granted is conflated as for any client that takes little, and what is newest gets there.
#[tokio::test]
async fn updates_come_as_fast_as_they_are_granted() {
    let issuer = Issuer::new("k1");
    let world = world(&issuer, |_| {}).await;
    let rights = json!({ "symbols": ["*"], "max_updates_per_s": 20 });
    let (mut raw, _) = session(&world.gateway, &issuer.token_for("ann", &rights, 3_600)).await;
    assert_eq!(subscribe(&mut raw, "quotes", &["A", "B"]).await, ["ok", "ok"]);
    let began = Instant::now();
    let records: Vec<Value> =
        (1..=2_000).map(|n| quote(if n % 2 == 0 { "A" } else { "B" }, &n.to_string(), "9")).collect();
    world.records.send_all(&records);
    let (mut updates, mut last) = (0, [String::new(), String::new()]);
    while last != ["2000", "1999"] {
        let Value::Array(events) = raw.json().await else { continue };
        updates += events.len();
        for event in &events {
            let at = usize::from(event["symbol"] == "B");
            last[at] = event["bid_price"].as_str().expect("a price").to_owned();
        }
    }
    // A second's worth at once, and then so many each second.
    let most = 20.0 + 20.0 * (began.elapsed().as_secs_f64() + 0.1);
    assert!((updates as f64) <= most, "{updates} updates, {most} at the most");
    world.gateway.stop().await;
}

/// A token that was shown again brought another second's worth, as often as it was.
#[tokio::test]
async fn showing_a_token_again_brings_no_more_updates() {
    let issuer = Issuer::new("k1");
    let world = world(&issuer, |config| config.limits.requests_per_s = 1_000).await;
    let rights = json!({ "symbols": ["*"], "max_updates_per_s": 5 });
    let token = issuer.token_for("ann", &rights, 3_600);
    let (mut raw, _) = session(&world.gateway, &token).await;
    assert_eq!(subscribe(&mut raw, "quotes", &["*"]).await, ["ok"]);
    let began = Instant::now();
    // Each of another symbol, so that none is conflated with another.
    let records: Vec<Value> = (0..200).map(|n| quote(&format!("S{n}"), "8", "9")).collect();
    world.records.send_all(&records);
    let (mut updates, mut turns) = (0, 0);
    while turns < 10 {
        let Value::Array(events) = raw.json().await else { continue };
        updates += events.len();
        turns += 1;
        // Its answer stands behind what waits.
        raw.say(&json!({ "op": "auth", "token": token })).await;
    }
    let most = 6.0 + 5.0 * began.elapsed().as_secs_f64();
    assert!((updates as f64) <= most, "{updates} updates, {most} at the most");
    world.gateway.stop().await;
}

/// An `auth` counted as any request, and each had a signature checked and all subscriptions held against its rights.
#[tokio::test]
async fn showing_tokens_is_slower_than_asking() {
    let issuer = Issuer::new("k1");
    // A burst of a thousand, and of four of these: what comes back meanwhile is no more than a few.
    let world = world(&issuer, |config| config.limits.requests_per_s = 1_000).await;
    let token = issuer.token();
    let (mut raw, _) = session(&world.gateway, &token).await;
    let began = Instant::now();
    for id in 0..100 {
        raw.say(&json!({ "op": "auth", "id": id, "token": token })).await;
    }
    let (mut taken, mut refused) = (0, 0);
    while refused == 0 {
        let answer = raw.json().await;
        match answer["op"].as_str() {
            Some("ack") => taken += 1,
            _ => {
                assert_eq!((&answer["code"], &answer["fatal"]), (&json!("rate_limited"), &json!(false)));
                refused += 1;
            }
        }
    }
    let most = 5.0 + 4.0 * began.elapsed().as_secs_f64();
    assert!(taken >= 4 && f64::from(taken) <= most, "{taken} taken, {most} at the most");
    world.gateway.stop().await;
}

/// Who may see everything at once, and who only what is some seconds old, are sent the same by the same gateway.
#[tokio::test]
async fn a_delay_is_kept_with_those_it_was_granted_to() {
    let issuer = Issuer::new("k1");
    let world = world(&issuer, |config| config.delays.delayed_s = vec![1, 3]).await;
    let token = |subject: &str, delay_s: u64| {
        let rights = json!({ "symbols": ["AAPL"], "delay_s": delay_s });
        issuer.token_for(subject, &rights, 3_600)
    };
    // None is as late as that.
    let mut raw = Raw::connect(world.gateway.url()).await;
    raw.send(handshake(&format!("Authorization: Bearer {}\r\n", token("dan", 4))).as_bytes()).await;
    let head = raw.head().await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    let mut sessions = Vec::new();
    // The shortest that is as long.
    for (subject, delay_s, delayed_s) in [("ann", 0, None), ("bob", 1, Some(1)), ("cyd", 2, Some(3))] {
        let (mut raw, _) = session(&world.gateway, &token(subject, delay_s)).await;
        let names = json!([{ "channel": "trades", "symbols": ["AAPL", "ETH"] }]);
        raw.say(&json!({ "op": "subscribe", "subscriptions": names })).await;
        let ack = raw.json().await;
        assert_eq!(ack["results"][0]["delayed_s"].as_u64(), delayed_s, "{ack}");
        assert_eq!(ack["results"][1]["code"], "forbidden", "{ack}");
        sessions.push((raw, delayed_s.unwrap_or(0)));
    }
    let sent_ns = tickgate_gateway::clock::wall_ns();
    world.records.send(&trade("AAPL", "1"));
    for (raw, delayed_s) in &mut sessions {
        let Value::Array(events) = raw.json().await else { panic!("no event") };
        let ingest_ns: i64 = events[0]["ingest_ns"].as_str().and_then(|ns| ns.parse().ok()).expect("a time");
        let passed_ns = ingest_ns - sent_ns;
        assert!(passed_ns >= *delayed_s as i64 * 1_000_000_000, "{passed_ns} ns for {delayed_s} s");
    }
    // What ends a session finds those who are late, too.
    std::fs::write(issuer.file("revoked"), "sub:bob\n").expect("it is written");
    let (bob, _) = &mut sessions[1];
    assert_eq!(bob.json().await["code"], "unauthenticated");
    assert_eq!(bob.closed().await.0, 4401);
    world.gateway.stop().await;
}

/// With more partitions than are read late, the rest is refused aloud, what is read goes on, and nothing comes early.
#[tokio::test]
async fn partitions_that_are_not_read_late_are_counted_and_nobody_else_is_concerned() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(3).await;
    let records = kafka.producer(&topic);
    let mut config = kafka.config(&topic);
    (config.delays.delayed_s, config.delays.default_s) = (vec![1, 2], 1);
    config.delays.partitions_max = 1;
    config.session.heartbeat_ms = 0;
    let gateway = Gateway::start_unready(config);
    until("two of three are refused by each", || {
        [1, 2].map(|tier| gateway.running().board().feed_of(tier).partitions_refused) == [2, 2]
    })
    .await;
    let mut raw = Raw::session(gateway.url()).await;
    assert_eq!(subscribe(&mut raw, "trades", &["*"]).await, ["ok"]);
    let mut seen = Vec::new();
    for _ in 0..2 {
        let sent_ns = tickgate_gateway::clock::wall_ns();
        for partition in 0..3 {
            let record = trade(&format!("P{partition}"), "1").to_string();
            records.raw("any", Some(partition), record.as_bytes());
        }
        let Value::Array(events) = raw.json().await else { panic!("no event") };
        let ingest_ns: i64 = events[0]["ingest_ns"].as_str().and_then(|ns| ns.parse().ok()).expect("a time");
        assert!(ingest_ns - sent_ns >= 1_000_000_000, "it is early");
        seen.extend(events.iter().map(|event| event["symbol"].as_str().expect("a symbol").to_owned()));
    }
    assert!(seen.len() == 2 && seen[0] == seen[1], "{seen:?}");
    assert!(!gateway.running().board().is_ready());
    gateway.stop().await;
}
