//! The state a subscription begins with, and that updates join it with no gap and no overlap.

use crate::harness::world::World;
use crate::harness::{Records, quote, take_events, trade};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tickgate_load::book::BookKeeper;
use tickgate_load::tally::Tally;
use tickgate_load::verify::{Asked, SessionVerifier};
use tickgate_load::{Client, ClientOptions, Incoming};
use tickgate_protocol::{Decimal, Depth};

/// Change it to try other markets; a failure names it.
const SEED: u64 = 20_240_808;

#[tokio::test]
async fn trades_have_a_snapshot_of_as_many_as_asked_for() {
    let world = World::new(1, |_| ()).await;
    let prices: Vec<String> = (0..15).map(|n| format!("{n}.50")).collect();
    let records: Vec<Value> = prices.iter().map(|price| trade("A", price)).collect();
    world.records.send_all(&records);
    world.has_read(15).await;
    for (asked, expected) in [(json!(3), 3), (json!(10), 10), (json!(1_000_000), 10), (json!(0), 0)] {
        let mut client = world.gateway.client().await;
        let subscription = json!({"channel": "trades", "symbols": ["A", "*"], "snapshot": asked});
        client.subscribe(&[subscription]).await.expect("an ack");
        let events = take_events(&mut client, expected).await;
        let got: Vec<&str> = events.iter().filter_map(|e| e["price"].as_str()).collect();
        assert_eq!(got, prices[15 - expected..], "oldest first, in the text they came in");
        assert!(events.iter().all(|e| e["snapshot"] == true));
        for pair in events.windows(2) {
            assert_eq!(pair[1]["prev"], pair[0]["seq"]);
        }
        world.records.send(&trade("A", "99"));
        let update = take_events(&mut client, 1).await;
        assert_eq!((update[0].get("snapshot"), &update[0]["price"]), (None, &json!("99")));
        if let Some(last) = events.last() {
            assert_eq!(update[0]["prev"], last["seq"]);
        }
        // The next case finds the same last trades.
        world.records.send_all(&records);
        take_events(&mut client, 15).await;
    }
}

#[tokio::test]
async fn every_state_comes_behind_its_ack_with_all_its_fields() {
    let world = World::new(1, |_| ()).await;
    world.records.send_all(&[
        json!({"type": "quote", "symbol": "A", "bid_price": "487.50", "bid_size": 300, "ask_price": 487.6,
            "ask_size": "1e2", "event_ns": "1381150800000000000", "venue": "Q", "send_ns": 7}),
        json!({"type": "status", "symbol": "A", "state": "halted", "reason": "news \"pending\"", "event_ns": 5}),
        json!({"type": "book", "symbol": "A", "bids": [["1.10", "5"], ["1.00", "0.0"]], "asks": [], "snapshot": true, "event_ns": 6}),
    ]);
    world.has_read(3).await;
    let mut client = world.gateway.client().await;
    let asked: Vec<Value> =
        ["status", "book", "quotes"].iter().map(|c| json!({"channel": c, "symbols": ["A"]})).collect();
    client.send(&json!({"op": "subscribe", "id": 1, "subscriptions": asked})).await.expect("sent");
    match client.next().await {
        Incoming::Control { frame, .. } => {
            assert!(frame.as_str().starts_with(r#"{"op":"ack","id":1,"ok":true"#))
        }
        other => panic!("the ack comes first: {other:?}"),
    }
    let mut events = take_events(&mut client, 3).await;
    for event in &mut events {
        assert!(event["ingest_ns"].as_str().is_some_and(|ns| ns.parse::<i64>().is_ok()), "{event}");
        assert!(event["seq"].as_str().is_some_and(|seq| seq.split(':').count() == 3), "{event}");
        let event = event.as_object_mut().expect("an object");
        event.remove("ingest_ns");
        event.remove("seq");
    }
    assert_eq!(
        events,
        [
            json!({"type": "status", "symbol": "A", "state": "halted", "reason": "news \"pending\"",
                "event_ns": "5", "snapshot": true}),
            json!({"type": "book", "symbol": "A", "bids": [["1.10", "5"]], "asks": [], "event_ns": "6", "snapshot": true}),
            json!({"type": "quote", "symbol": "A", "bid_price": "487.50", "bid_size": "300", "ask_price": "487.6",
                "ask_size": "100", "event_ns": "1381150800000000000", "venue": "Q", "send_ns": "7", "snapshot": true}),
        ]
    );
}

/// Events of one record share their position and stand in one frame.
#[tokio::test]
async fn a_record_of_many_events_is_one_step_of_the_chain() {
    let world = World::new(1, |config| config.outbox.frame_bytes_max = 1024).await;
    let mut client = world.gateway.client().await;
    client.subscribe(&[json!({"channel": "trades", "symbols": ["A"]})]).await.expect("an ack");
    let many: Vec<Value> = (0..50).map(|n| trade("A", &n.to_string())).collect();
    world.records.raw("A", None, trade("A", "7").to_string().as_bytes());
    world.records.raw("A", None, Value::from(many).to_string().as_bytes());
    world.records.raw("A", None, trade("A", "8").to_string().as_bytes());
    let mut events: Vec<Value> = Vec::new();
    let mut frames = Vec::new();
    while events.len() < 52 {
        let frame = crate::harness::next_events(&mut client).await;
        frames.push(events.len()..events.len() + frame.len());
        events.extend(frame);
    }
    let whole = frames.iter().any(|frame| frame.contains(&1) && frame.contains(&50));
    assert!(whole, "a record is never split over frames: {frames:?}");
    let seqs: Vec<&Value> = events.iter().map(|e| &e["seq"]).collect();
    assert!(seqs[1..51].iter().all(|seq| *seq == seqs[1]) && seqs[0] != seqs[1]);
    assert!(events[1..51].iter().all(|e| e["prev"] == *seqs[0]));
    assert_eq!(events[51]["prev"], *seqs[1]);
}

/// What the market of the load test came to.
#[derive(Default)]
struct Truth {
    records: u64,
    books: BTreeMap<String, [BTreeMap<Decimal, Decimal>; 2]>,
    bids: BTreeMap<String, String>,
}

/// Writes quotes, trades and book changes until told to stop.
fn produce(records: &Records, stop: &AtomicBool) -> Truth {
    let mut rng = StdRng::seed_from_u64(SEED);
    let symbols = ["AA", "AB", "B"];
    let mut truth = Truth::default();
    let mut first = true;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..20 {
            let symbol = symbols[rng.random_range(0..symbols.len())];
            let record = match rng.random_range(0..4) {
                0 => trade(symbol, &rng.random_range(1..1000).to_string()),
                1 => {
                    let bid = rng.random_range(1..1000).to_string();
                    truth.bids.insert(symbol.to_owned(), bid.clone());
                    quote(symbol, &bid, "1000")
                }
                _ => {
                    let is_snapshot = first || rng.random_bool(0.002) || !truth.books.contains_key(symbol);
                    let mut side = |from: i64| -> Vec<(Decimal, Decimal)> {
                        let count = if is_snapshot { 150 } else { rng.random_range(0..4) };
                        let mut number = |range: std::ops::Range<i64>| {
                            Decimal::new(rng.random_range(range), 0).expect("in range")
                        };
                        (0..count).map(|_| (number(from..from + 300), number(0..5))).collect()
                    };
                    let (bids, asks) = (side(1), side(301));
                    first = false;
                    let book = truth.books.entry(symbol.to_owned()).or_default();
                    for (mine, levels) in book.iter_mut().zip([&bids, &asks]) {
                        if is_snapshot {
                            mine.clear();
                        }
                        for (price, size) in levels {
                            if size.is_zero() {
                                mine.remove(price)
                            } else {
                                mine.insert(*price, *size)
                            };
                        }
                    }
                    let text = |side: &[(Decimal, Decimal)]| -> Vec<[String; 2]> {
                        side.iter().map(|(p, s)| [p.to_string(), s.to_string()]).collect()
                    };
                    json!({"type": "book", "symbol": symbol, "bids": text(&bids), "asks": text(&asks),
                        "snapshot": is_snapshot, "event_ns": 1})
                }
            };
            records.queue(symbol, None, record.to_string().as_bytes());
            truth.records += 1;
        }
        // The pace of a busy market; nothing waits for it.
        // tidy: allow(sleep) the pace of the market; nothing waits for it
        std::thread::sleep(Duration::from_millis(3));
    }
    records.flush();
    truth
}

/// A client that subscribes and unsubscribes without end and holds the gateway to every promise meanwhile.
struct Churner {
    client: Client,
    verifier: SessionVerifier,
    tally: Tally,
    depth: Depth,
    conflate_ms: u32,
    books: BTreeMap<String, BookKeeper>,
    bids: BTreeMap<String, String>,
    next_id: i64,
}

impl Churner {
    async fn new(url: &str, depth: u8, conflate_ms: u32) -> Self {
        let client = Client::connect(url, &ClientOptions::default()).await.expect("a session");
        let depth = Depth::new(depth.into()).expect("a depth");
        let mut churner = Self {
            client,
            verifier: SessionVerifier::default(),
            tally: Tally::default(),
            depth,
            conflate_ms,
            books: BTreeMap::new(),
            bids: BTreeMap::new(),
            next_id: 1,
        };
        churner.ask(json!({"op": "set", "heartbeat_ms": 100}), Asked::Other).await;
        churner
    }

    /// Sends a request and reads until it is answered.
    async fn ask(&mut self, mut request: Value, asked: Asked) {
        request["id"] = json!(self.next_id);
        self.verifier.sent(self.next_id, asked);
        self.next_id += 1;
        self.client.send(&request).await.expect("it is there");
        while !self.verifier.is_settled() {
            self.read().await;
        }
    }

    async fn read(&mut self) {
        let frame = match self.client.next_within(crate::harness::SOON).await {
            Some(Incoming::Control { frame, .. } | Incoming::Events(frame)) => frame,
            other => panic!("nothing to read: {other:?}"),
        };
        self.verifier.message(frame.as_bytes(), frame.received_ns, &mut self.tally, |_, _| ());
        if frame.as_bytes()[0] != b'[' {
            return;
        }
        for event in frame.events().expect("events") {
            if event.bids.is_some() {
                let keeper =
                    self.books.entry(event.symbol.to_string()).or_insert_with(|| BookKeeper::new(self.depth));
                keeper.apply(&event);
            }
            if let Some(bid) = event.bid_price {
                self.bids.insert(event.symbol.to_string(), bid.to_string());
            }
        }
    }

    fn subscriptions(&self, symbols: &[&str]) -> Value {
        json!([
            {"channel": "trades", "symbols": symbols, "on_slow": "skip"},
            {"channel": "quotes", "symbols": symbols, "conflate_ms": self.conflate_ms},
            {"channel": "book", "symbols": symbols, "depth": self.depth.get(), "conflate_ms": self.conflate_ms},
        ])
    }

    async fn churn(mut self, enough: Arc<AtomicBool>, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let names = ["AA", "AB", "B", "A*", "*"];
        while !enough.load(Ordering::Relaxed) {
            let count = rng.random_range(1..3);
            let chosen: Vec<&str> = names.sample(&mut rng, count).copied().collect();
            let (op, asked) = if rng.random_bool(0.55) {
                ("subscribe", Asked::Subscribe)
            } else {
                ("unsubscribe", Asked::Unsubscribe)
            };
            self.ask(json!({"op": op, "subscriptions": self.subscriptions(&chosen)}), asked).await;
            for _ in 0..rng.random_range(0..4) {
                self.ask(json!({"op": "ping"}), Asked::Other).await;
            }
        }
        let everything = self.subscriptions(&["*"]);
        self.ask(json!({"op": "subscribe", "subscriptions": everything}), Asked::Subscribe).await;
        self
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_and_updates_join_under_load() {
    let world = World::new(3, |config| config.limits.requests_per_s = 100_000).await;
    let records = world.kafka.producer(&world.topic);
    let stop = Arc::new(AtomicBool::new(false));
    let producing = {
        let stop = stop.clone();
        std::thread::spawn(move || produce(&records, &stop))
    };
    let cases = [(1, 0), (5, 0), (10, 0), (20, 0), (50, 0), (100, 0), (0, 0), (5, 10), (0, 50)];
    world.has_read(100).await;
    let enough = Arc::new(AtomicBool::new(false));
    let mut churning = Vec::new();
    for (at, (depth, conflate_ms)) in cases.into_iter().enumerate() {
        let churner = Churner::new(world.gateway.url(), depth, conflate_ms).await;
        churning.push(tokio::spawn(churner.churn(enough.clone(), SEED + at as u64)));
    }
    world.has_read(8_000).await;
    enough.store(true, Ordering::Relaxed);
    let mut churners = Vec::new();
    for churner in churning {
        churners.push(churner.await.expect("it runs through"));
    }
    stop.store(true, Ordering::Relaxed);
    let truth = tokio::task::spawn_blocking(move || producing.join().expect("it runs through"))
        .await
        .expect("it ran");
    world.has_read(truth.records).await;

    for mut churner in churners {
        // A conflated state comes within its interval; then everything is there.
        let is_there = |churner: &Churner| {
            truth.bids.iter().all(|(symbol, bid)| churner.bids.get(symbol) == Some(bid))
                && truth.books.iter().all(|(symbol, [bids, asks])| {
                    let levels = churner.depth.levels().unwrap_or(usize::MAX);
                    churner.books.get(symbol).is_some_and(|keeper| {
                        keeper.bids().eq(bids.iter().rev().take(levels).map(|(p, s)| (*p, *s)))
                            && keeper.asks().eq(asks.iter().take(levels).map(|(p, s)| (*p, *s)))
                    })
                })
        };
        churner.ask(json!({"op": "ping"}), Asked::Other).await;
        if churner.conflate_ms == 0 {
            assert!(is_there(&churner), "depth {:?}: another book, seed {SEED}", churner.depth);
        }
        let heartbeats = churner.tally.heartbeats;
        while !is_there(&churner) {
            churner.read().await;
            assert!(churner.tally.heartbeats < heartbeats + 20, "depth {:?}: seed {SEED}", churner.depth);
        }
        let tally = &churner.tally;
        let what =
            format!("depth {:?}, conflated {}, seed {SEED}: {tally:#?}", churner.depth, churner.conflate_ms);
        assert_eq!(tally.violations(), 0, "{what}");
        assert_eq!((tally.duplicates, tally.unverified, tally.gaps), (0, 0, 0), "{what}");
        assert!(tally.in_order > 50 && tally.snapshots > 50, "it was a test of something: {what}");
    }
    world.books_close().await;
}
