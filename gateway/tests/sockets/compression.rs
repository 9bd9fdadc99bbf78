//! permessage-deflate over real sockets: who gets what compressed, how often that is done, and what clients may send.

use crate::harness::world::World;
use crate::harness::{Gateway, until};
use crate::issuer::Issuer;
use crate::raw::{Raw, TEXT, handshake};
use serde_json::{Value, json};
use std::ops::RangeInclusive;
use std::time::Instant;
use tickgate_gateway::config::{Compression, Config};
use tickgate_gateway::outbox::DeflateTotals;
use tickgate_protocol::deflate::{Deflater, Inflater};
use tickgate_protocol::frame::RSV1;

const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

fn on(config: &mut Config) {
    config.shards = 1;
    config.session.compression = Compression::Deflate;
}

/// Connects, and gives the head of the answer; `more` are further header lines.
async fn connect(gateway: &Gateway, more: &str) -> (Raw, String) {
    let mut raw = Raw::connect(gateway.url()).await;
    raw.send(handshake(more).as_bytes()).await;
    let head = raw.head().await.to_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert_eq!(raw.json().await["op"], "hello", "which is not compressed");
    (raw, head)
}

/// A client of trades of all symbols, with whom compression was agreed on or not.
async fn subscriber(gateway: &Gateway, is_deflated: bool) -> Raw {
    let (mut raw, head) = connect(gateway, if is_deflated { OFFER } else { "" }).await;
    assert_eq!(head.contains("sec-websocket-extensions"), is_deflated, "{head}");
    raw.say(&json!({"op": "set", "id": 1, "heartbeat_ms": 0})).await;
    let subscriptions = json!([{"channel": "trades", "symbols": ["*"], "snapshot": 0}]);
    raw.say(&json!({"op": "subscribe", "id": 2, "subscriptions": subscriptions})).await;
    for _ in 0..2 {
        assert_eq!(raw.json().await["op"], "ack");
    }
    raw
}

/// The events of the next data frame, and whether it was compressed.
async fn data(raw: &mut Raw) -> (bool, Vec<Value>) {
    let (first, payload) = raw.any_frame().await.expect("a frame");
    assert_eq!(first & !RSV1, 0x80 | TEXT);
    let mut inflater = Inflater::default();
    let (is_deflated, bytes) = match first & RSV1 {
        0 => (false, payload),
        _ => (true, inflater.inflate(&payload, 1 << 20).expect("it can be read").into_owned()),
    };
    (is_deflated, serde_json::from_slice(&bytes).expect("events"))
}

/// A record of that many trades.
fn trades(prices: RangeInclusive<u32>) -> Vec<u8> {
    let trade = |price| json!({"type": "trade", "symbol": "AAPL", "price": price, "size": 1, "event_ns": 1});
    Value::from_iter(prices.map(trade)).to_string().into_bytes()
}

fn totals(gateway: &Gateway) -> DeflateTotals {
    gateway.running().board().shard(0).deflate
}

#[tokio::test]
async fn all_get_the_same_and_it_is_compressed_once() {
    let world = World::new(1, on).await;
    let mut clients = Vec::new();
    // In no order of who reads what.
    for n in 0..30 {
        clients.push((n % 3 != 0, subscriber(&world.gateway, n % 3 != 0).await));
    }
    let (mut frames, mut bytes) = (0, 0);
    for round in 0..10 {
        world.records.raw("AAPL", None, &trades(round * 20..=round * 20 + 19));
        let (mut expected, mut count) = (None, 0);
        for (is_deflated, raw) in &mut clients {
            let (mut events, mut seen) = (Vec::new(), 0);
            while events.len() < 20 {
                let (was_deflated, more) = data(raw).await;
                assert_eq!(was_deflated, *is_deflated);
                events.extend(more);
                seen += 1;
            }
            assert_eq!((&*expected.get_or_insert_with(|| events.clone()), events.len()), (&events, 20));
            count = seen;
        }
        frames += count;
        bytes += serde_json::to_vec(&expected).expect("JSON").len() as u64;
    }
    until("the totals are there", || totals(&world.gateway).frames >= frames).await;
    let totals = totals(&world.gateway);
    assert_eq!((totals.frames, totals.frames_given_up), (frames, 0), "once for all twenty");
    assert_eq!(totals.plain_bytes, bytes);
    assert!(totals.deflated_bytes * 2 < bytes, "{totals:?}");
    world.gateway.metric_is(r#"tickgate_deflate_frames_total{result="smaller"}"#, frames as f64).await;
    world.gateway.metric_is("tickgate_deflate_plain_bytes_total", bytes as f64).await;
    world.books_close().await;
}

#[tokio::test]
async fn small_frames_stay_as_they_are() {
    let world = World::new(1, |config| {
        on(config);
        config.session.compress_bytes_min = 1_000;
    })
    .await;
    let mut raw = subscriber(&world.gateway, true).await;
    for (prices, is_large) in [(1..=1, false), (2..=21, true), (22..=22, false)] {
        world.records.raw("AAPL", None, &trades(prices.clone()));
        let (was_deflated, events) = data(&mut raw).await;
        assert_eq!((was_deflated, events.len()), (is_large, prices.count()));
    }
}

/// What is secret in an answer, and what its client can choose of it, are never compressed together.
#[tokio::test]
async fn answers_are_never_compressed() {
    let world = World::new(1, on).await;
    let (mut raw, _) = connect(&world.gateway, OFFER).await;
    raw.say(&json!({"op": "set", "id": 1, "heartbeat_ms": 100})).await;
    let symbols: Vec<String> = (0..500).map(|n| format!("SYMBOL-{n}")).collect();
    let subscriptions = json!([{"channel": "trades", "symbols": symbols}]);
    raw.say(&json!({"op": "subscribe", "id": 2, "subscriptions": subscriptions})).await;
    raw.say(&json!({"op": "list", "id": 3})).await;
    raw.say(&json!({"op": "nothing".repeat(100), "id": 4})).await;
    let mut left = vec!["ack", "ack", "list", "error", "heartbeat"];
    let mut largest = 0;
    while !left.is_empty() {
        let (first, payload) = raw.any_frame().await.expect("an answer");
        assert_eq!(first, 0x80 | TEXT, "{}", String::from_utf8_lossy(&payload));
        let answer: Value = serde_json::from_slice(&payload).expect("JSON");
        largest = largest.max(payload.len());
        if let Some(at) = left.iter().position(|op| answer["op"] == *op) {
            left.remove(at);
        }
    }
    assert!(largest > 10_000, "some would well have been worth it: {largest}");
}

#[tokio::test]
async fn what_clients_compress_is_read() {
    let world = World::new(1, on).await;
    let (mut raw, head) = connect(&world.gateway, OFFER).await;
    let agreed = "permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n";
    assert!(head.contains(&format!("sec-websocket-extensions: {agreed}")), "{head}");
    let request = json!({"op": "ping", "id": "x".repeat(60)}).to_string().into_bytes();
    let mut deflater = Deflater::new(9, 15);
    let payload = deflater.deflate(&request).expect("it is smaller").to_vec();
    // Twice, as nothing of the first may be needed for the second; and in two fragments.
    for _ in 0..2 {
        raw.send(&deflated(0x80 | RSV1 | TEXT, &payload)).await;
        assert_eq!(raw.json().await["op"], "pong");
    }
    let (begin, end) = payload.split_at(9);
    raw.send(&[deflated(RSV1 | TEXT, begin), deflated(0x80, end)].concat()).await;
    assert_eq!(raw.json().await["op"], "pong");
    // What is not worth it may come as it is.
    raw.say(&json!({"op": "ping", "id": 1})).await;
    assert_eq!(raw.json().await["op"], "pong");
}

/// A masked frame with this first byte.
fn deflated(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = crate::raw::frame(true, 0, payload);
    frame[0] = first;
    frame
}

#[tokio::test]
async fn what_was_not_agreed_on_or_expands_too_far_ends_the_session() {
    let world = World::new(1, |config| {
        on(config);
        config.limits.message_bytes_max = 10_000;
    })
    .await;
    let zeros = Deflater::new(9, 15).deflate(&[b' '; 10_001]).expect("it is smaller").to_vec();
    assert!(zeros.len() < 100);
    for (n, (is_agreed, payload, code, cause)) in [
        (false, vec![0x00], 1002, "reserved_bits"),
        (true, zeros, 1009, "too_big"),
        (true, vec![0xff; 9], 1007, "deflate"),
        // `[0xff]` as it is stored.
        (true, vec![0x00, 0x01, 0x00, 0xfe, 0xff, 0xff, 0x00], 1007, "not_utf8"),
    ]
    .into_iter()
    .enumerate()
    {
        let (mut raw, _) = connect(&world.gateway, if is_agreed { OFFER } else { "" }).await;
        raw.send(&deflated(0x80 | RSV1 | TEXT, &payload)).await;
        assert_eq!(raw.closed().await.0, code, "{n}");
        world.gateway.metric_is(&format!("tickgate_violations_total{{cause=\"{cause}\"}}"), 1.0).await;
    }
}

#[tokio::test]
async fn who_offers_what_cannot_be_accepted_goes_on_without() {
    let world = World::new(1, on).await;
    for offer in ["x-other", "permessage-deflate; server_max_window_bits=9", "permessage-deflate; nonsense"] {
        let (mut raw, head) =
            connect(&world.gateway, &format!("Sec-WebSocket-Extensions: {offer}\r\n")).await;
        assert!(!head.contains("sec-websocket-extensions"), "{head}");
        raw.say(&json!({"op": "ping", "id": 1})).await;
        assert_eq!(raw.json().await["op"], "pong");
    }
    let second = "Sec-WebSocket-Extensions: x-other\r\nSec-WebSocket-Extensions: permessage-deflate; \
                  server_max_window_bits=13\r\n";
    let (_, head) = connect(&world.gateway, second).await;
    assert!(head.contains("; server_max_window_bits=12\r\n"), "{head}");
}

#[tokio::test]
async fn off_is_off() {
    let world = World::new(1, |config| config.shards = 1).await;
    let (_, head) = connect(&world.gateway, OFFER).await;
    assert!(!head.contains("sec-websocket-extensions"), "{head}");
}

/// What was written to a session with compression was counted by the events of the last frame of one without: a limit on updates a
/// second held for nobody.
#[tokio::test]
async fn updates_are_as_few_as_granted_with_compression() {
    const PER_S: u32 = 50;
    let issuer = Issuer::new("k1");
    let world = World::new(1, |config| {
        on(config);
        issuer.asked_by(config);
        config.session.compress_bytes_min = 64;
    })
    .await;
    let rights = json!({ "symbols": ["*"], "max_updates_per_s": PER_S });
    let token = issuer.token_for("ann", &rights, 3_600);
    let (mut raw, _) = connect(&world.gateway, &format!("{OFFER}Authorization: Bearer {token}\r\n")).await;
    raw.say(&json!({"op": "set", "id": 1, "heartbeat_ms": 0})).await;
    raw.say(&json!({"op": "subscribe", "id": 2, "subscriptions": [{"channel": "trades", "symbols": ["*"]}]}))
        .await;
    for _ in 0..2 {
        assert_eq!(raw.json().await["op"], "ack");
    }
    // With the first one it is certain that they come at once.
    world.records.raw("AAPL", None, &trades(0..=0));
    assert_eq!(data(&mut raw).await.1.len(), 1);
    let began = Instant::now();
    for first in (0..300).step_by(10) {
        world.records.queue("AAPL", None, &trades(first..=first + 9));
    }
    world.records.flush();
    let mut updates = 0;
    while updates < 4 * PER_S as usize {
        let (first, payload) = raw.any_frame().await.expect("a frame");
        let bytes = match first & RSV1 {
            0 => payload,
            _ => Inflater::default().inflate(&payload, 1 << 20).expect("it can be read").into_owned(),
        };
        // Between them it may be told that it is slow.
        if let Value::Array(events) = serde_json::from_slice(&bytes).expect("JSON") {
            updates += events.len();
        }
    }
    // A second's worth at once, and as many more as a frame may go into debt.
    let most = f64::from(2 * PER_S) + f64::from(PER_S) * began.elapsed().as_secs_f64();
    assert!((updates as f64) <= most, "{updates} updates, {most} at the most");
    world.gateway.stop().await;
}
