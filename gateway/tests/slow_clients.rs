//! Clients that read too slowly: what each policy does to them, and that nobody else notices.

mod harness;
mod raw;

use harness::{Gateway, Kafka, Records, quote, trade, until};
use raw::{CLOSE, Raw, TEXT};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tickgate_gateway::config::Config;
use tickgate_gateway::stats::CloseReason;
use tickgate_load::book::BookKeeper;
use tickgate_load::tally::Tally;
use tickgate_load::verify::{Asked, SessionVerifier};
use tickgate_protocol::event::EventView;
use tickgate_protocol::{Depth, Position, cursor};

/// A receive buffer that holds a few events.
const NARROW: Option<u32> = Some(4096);

struct World {
    kafka: Kafka,
    topic: String,
    records: Records,
    gateway: Gateway,
}

impl World {
    /// A gateway whose sockets take little and whose queues are short, so that whoever stops reading is soon slow.
    async fn new(change: impl FnOnce(&mut Config)) -> Self {
        let kafka = Kafka::embedded();
        let topic = kafka.topic(1).await;
        let records = kafka.producer(&topic);
        let mut config = kafka.config(&topic);
        config.session.heartbeat_ms = 0;
        config.outbox.send_buffer_bytes = 4 << 10;
        config.outbox.notsent_lowat_bytes = 1 << 10;
        config.outbox.write_bytes_max = 4 << 10;
        config.outbox.frame_bytes_max = 4 << 10;
        config.outbox.bytes_max = 256 << 10;
        config.outbox.age_max_ms = 60_000;
        config.outbox.stall_timeout_ms = 120_000;
        change(&mut config);
        let gateway = Gateway::start(config).await;
        Self { kafka, topic, records, gateway }
    }

    fn queue(&self, record: &Value) {
        let symbol = record["symbol"].as_str().expect("a symbol");
        self.records.queue(symbol, None, record.to_string().as_bytes());
    }

    /// Writes trades at a healthy client's own pace; returns what it got.
    async fn trades_for(&self, healthy: Slow, total: u64) -> Slow {
        let progress = Arc::new(AtomicU64::new(0));
        let reading = tokio::spawn(healthy.read_all(total, progress.clone()));
        for n in 1..=total {
            self.queue(&trade(if n % 3 == 0 { "A" } else { "B" }, &n.to_string()));
            if n % 200 == 0 {
                until("it keeps up", || progress.load(Ordering::Relaxed) + 400 > n).await;
            }
        }
        self.records.flush();
        let healthy = reading.await.expect("it reads to the end");
        healthy.holds_to_the_protocol();
        assert_eq!(healthy.tally.gaps, 0, "the healthy one lost nothing");
        assert_eq!(healthy.told("slow").len(), 0);
        healthy
    }

    /// Waits until so many events were offered, to all sessions together.
    async fn offered(&self, count: u64) {
        self.records.flush();
        until("every event was offered", || self.gateway.books().0 >= count).await;
    }

    fn closed(&self, reason: CloseReason) -> u64 {
        let board = self.gateway.running().board();
        (0..board.shard_count()).map(|shard| board.shard(shard).sessions_closed[reason as usize]).sum()
    }

    /// Waits until every session was told its end: the first thing that it loses is its subscriptions.
    async fn nobody_subscribes(&self) {
        let board = self.gateway.running().board();
        let subscriptions =
            || (0..board.shard_count()).map(|shard| board.shard(shard).subscriptions).sum::<u64>();
        until("every session was told its end", || subscriptions() == 0).await;
    }

    async fn books_close(&self) {
        until("the books close", || {
            let (offered, sent, conflated, dropped, held) = self.gateway.books();
            held == 0 && offered == sent + conflated + dropped
        })
        .await;
    }
}

/// A session that reads only when it is told to, and judges what it then reads.
struct Slow {
    raw: Raw,
    verifier: SessionVerifier,
    tally: Tally,
    control: Vec<Value>,
    events: Vec<Value>,
}

impl Slow {
    async fn subscribed(gateway: &Gateway, recv_buffer_bytes: Option<u32>, subscription: Value) -> Self {
        let raw = Raw::session_narrow(gateway.url(), recv_buffer_bytes).await;
        let (verifier, tally) = (SessionVerifier::default(), Tally::default());
        let mut slow = Self { raw, verifier, tally, control: Vec::new(), events: Vec::new() };
        slow.verifier.sent(1, Asked::Subscribe);
        slow.raw.say(&json!({"op": "subscribe", "id": 1, "subscriptions": [subscription]})).await;
        slow.read().await;
        assert_eq!(slow.control[0]["ok"], true, "{:?}", slow.control);
        slow.control.clear();
        slow
    }

    /// Reads one message; says whether there was one before the close frame.
    async fn read(&mut self) -> Option<u16> {
        match self.raw.frame().await.expect("a frame") {
            (TEXT, payload) => {
                self.verifier.message(&payload, 0, &mut self.tally, |_, _| ());
                match serde_json::from_slice(&payload).expect("JSON") {
                    Value::Array(events) => self.events.extend(events),
                    control => self.control.push(control),
                }
                None
            }
            (CLOSE, payload) => Some(u16::from_be_bytes([payload[0], payload[1]])),
            other => panic!("unexpected: {other:?}"),
        }
    }

    /// Reads `count` events, and says how many it has so far.
    async fn read_all(mut self, count: u64, progress: Arc<AtomicU64>) -> Self {
        while (self.events.len() as u64) < count {
            assert_eq!(self.read().await, None, "closed: {:?}", self.control);
            progress.store(self.events.len() as u64, Ordering::Relaxed);
        }
        self
    }

    async fn read_until(&mut self, what: impl Fn(&Value) -> bool) {
        let mut seen = 0;
        while !self.events[seen..].iter().any(&what) {
            seen = self.events.len();
            assert_eq!(self.read().await, None, "closed: {:?}", self.control);
        }
    }

    fn told(&self, op: &str) -> Vec<&Value> {
        self.control.iter().filter(|control| control["op"] == op).collect()
    }

    fn holds_to_the_protocol(&self) {
        assert_eq!(self.tally.violations() + self.tally.duplicates, 0, "{:#?}", self.tally);
    }
}

fn merged(event: &Value) -> u64 {
    event["merged"].as_u64().unwrap_or(1)
}

#[tokio::test]
async fn skip_drops_the_oldest_and_says_exactly_how_many() {
    let world = World::new(|_| ()).await;
    let asked = json!({"channel": "trades", "symbols": ["*"], "on_slow": "skip"});
    let mut slow = Slow::subscribed(&world.gateway, NARROW, asked.clone()).await;
    let healthy = Slow::subscribed(&world.gateway, None, asked).await;
    let total = 4000;
    world.trades_for(healthy, total).await;

    let last = total.to_string();
    slow.read_until(|event| event["price"] == last).await;
    slow.holds_to_the_protocol();
    let notices = slow.told("slow");
    assert!(!notices.is_empty(), "it was told before");
    assert_eq!((&notices[0]["action"], &notices[0]["limit_bytes"]), (&json!("skip"), &json!(256 << 10)));
    assert!(notices[0]["queued_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{:?}", notices[0]);
    let gaps: Vec<&Value> = slow.events.iter().filter(|event| event["type"] == "gap").collect();
    let lost: u64 = gaps.iter().map(|gap| gap["count"].as_u64().expect("a count")).sum();
    assert!(lost > total / 4, "it was slow: {lost}");
    assert!(gaps.iter().all(|gap| gap["cause"] == "slow_consumer" && gap["channel"] == "trades"));
    assert_eq!((slow.events.len() - gaps.len()) as u64 + lost, total, "sent and lost make all");
    // The oldest went: what was newest at the time is here, and the stream goes on.
    world.queue(&trade("A", "7.77"));
    slow.read_until(|event| event["price"] == "7.77").await;
    slow.holds_to_the_protocol();
    world.books_close().await;
}

#[tokio::test]
async fn disconnect_gives_a_cursor_and_closes() {
    let world = World::new(|_| ()).await;
    let asked = json!({"channel": "trades", "symbols": ["*"]});
    let mut slow = Slow::subscribed(&world.gateway, NARROW, asked.clone()).await;
    let healthy = Slow::subscribed(&world.gateway, None, asked).await;
    world.trades_for(healthy, 4000).await;
    world.nobody_subscribes().await;
    // However late it reads again, it learns why: longer than a peer has to answer an ordinary close.
    // tidy: allow(sleep) the time that passes is what is tested
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let code = loop {
        if let Some(code) = slow.read().await {
            break code;
        }
    };
    assert_eq!(code, 4490);
    slow.raw.ended().await;
    slow.holds_to_the_protocol();
    // The end overtakes what is queued, so the warning may or may not have gone out before it.
    assert!(slow.told("slow").iter().all(|notice| notice["action"] == "disconnect"), "{:?}", slow.control);
    let error = slow.told("error").remove(0);
    assert_eq!((&error["code"], &error["number"]), (&json!("slow_consumer"), &json!(4490)));
    assert_eq!(error["fatal"], true);
    let cursor = cursor::decode(error["cursor"].as_str().expect("a cursor")).expect("a cursor");
    let last: Position =
        slow.events.last().expect("events")["seq"].as_str().and_then(|s| s.parse().ok()).expect("seq");
    assert!(cursor.iter().all(|position| position.is_at_or_before(last)), "{cursor:?} passes {last}");
    until("it is counted", || world.closed(CloseReason::SlowConsumer) == 1).await;
    world.books_close().await;
}

#[tokio::test]
async fn age_counts_while_the_socket_refuses_bytes() {
    let world = World::new(|config| {
        config.outbox.age_max_ms = 400;
        config.outbox.bytes_max = 8 << 20;
    })
    .await;
    let mut slow =
        Slow::subscribed(&world.gateway, NARROW, json!({"channel": "trades", "symbols": ["*"]})).await;
    let start = Instant::now();
    for n in 0..1000 {
        world.queue(&trade("A", &n.to_string()));
    }
    world.offered(1000).await;
    until("its age is seen", || {
        let board = world.gateway.running().board();
        (0..board.shard_count()).any(|shard| board.shard(shard).slow_notices > 0)
    })
    .await;
    assert!(start.elapsed() >= Duration::from_millis(200), "half of it: {:?}", start.elapsed());
    world.nobody_subscribes().await;
    let code = loop {
        if let Some(code) = slow.read().await {
            break code;
        }
    };
    assert_eq!(code, 4490, "far below the bound of bytes");
}

#[tokio::test]
async fn conflate_keeps_the_newest_state_of_every_symbol() {
    let world = World::new(|_| ()).await;
    let asked = json!({"channel": "quotes", "symbols": ["*"]});
    let mut slow = Slow::subscribed(&world.gateway, NARROW, asked).await;
    let (symbols, rounds) = (20, 400);
    for round in 1..=rounds {
        for symbol in 0..symbols {
            world.queue(&quote(&format!("S{symbol}"), &round.to_string(), "9999"));
        }
    }
    let total = symbols * rounds;
    world.offered(total).await;
    let mut newest = BTreeMap::new();
    while newest.values().filter(|bid| **bid == rounds).count() < symbols as usize {
        let seen = slow.events.len();
        assert_eq!(slow.read().await, None);
        for event in &slow.events[seen..] {
            let bid: u64 = event["bid_price"].as_str().and_then(|bid| bid.parse().ok()).expect("a bid");
            let before = newest.insert(event["symbol"].to_string(), bid);
            assert!(before.is_none_or(|before| before <= bid), "never back to an old state");
        }
    }
    slow.holds_to_the_protocol();
    assert_eq!(slow.tally.gaps, 0, "a newer state takes nothing away");
    assert_eq!(slow.events.iter().map(merged).sum::<u64>(), total, "each is sent or merged");
    assert!((slow.events.len() as u64) < total / 2, "it was slow");
    assert_eq!(slow.told("slow")[0]["action"], "conflate");
    world.books_close().await;
}

/// A book's changes build on each other: what a slow client did not get makes the rest worthless, until a snapshot.
#[tokio::test]
async fn a_book_falls_back_to_a_snapshot() {
    for (on_slow, depth) in [("conflate", 0), ("conflate", 10), ("skip", 0), ("skip", 10)] {
        let world = World::new(|_| ()).await;
        let book = |bids: Value, snapshot: bool| json!({"type": "book", "symbol": "A", "bids": bids, "asks": [["100000", "1"]], "snapshot": snapshot, "event_ns": 1});
        let level = |n: u64| json!([n.to_string(), "1"]);
        world.queue(&book((1..=50).map(level).collect(), true));
        world.records.flush();
        until("it was read", || world.gateway.running().board().feed().records == 1).await;
        let asked = json!({"channel": "book", "symbols": ["A"], "depth": depth, "on_slow": on_slow});
        let mut slow = Slow::subscribed(&world.gateway, NARROW, asked).await;
        // Each change takes the lowest level out and adds a highest one.
        let total = 4000;
        for n in 1..=total {
            world.queue(&book(json!([[n.to_string(), "0"], [(n + 50).to_string(), "1"]]), false));
        }
        world.offered(total + 1).await;
        slow.read_until(|event| event["bids"].to_string().contains(&format!("\"{}\"", total + 50))).await;
        slow.holds_to_the_protocol();
        let what = format!("{on_slow} at depth {depth}");
        assert!((slow.events.len() as u64) < total, "{what}: it was slow");
        assert_eq!(slow.tally.gaps > 0, on_slow == "skip", "{what}: {:#?}", slow.tally);
        world.queue(&book(json!([["1", "5"], ["4050", "7"]]), false));
        slow.read_until(|event| event["bids"].to_string().contains("[\"4050\",\"7\"]")).await;
        slow.holds_to_the_protocol();

        let mut keeper = BookKeeper::new(Depth::new(depth).expect("a depth"));
        for event in &slow.events {
            let text = event.to_string();
            keeper.apply(&serde_json::from_str::<EventView<'_>>(&text).expect("an event"));
        }
        let bids: Vec<String> = keeper.bids().map(|(price, _)| price.to_string()).collect();
        let levels = if depth == 0 { 50 } else { 10 };
        let mut expected: Vec<String> = (total + 1..=total + 50).rev().map(|n| n.to_string()).collect();
        if depth == 0 {
            expected.push("1".to_owned());
        }
        expected.truncate(levels + usize::from(depth == 0));
        assert_eq!(bids, expected, "{what}");
        world.books_close().await;
    }
}

#[tokio::test]
async fn a_socket_that_takes_nothing_is_given_up() {
    let world = World::new(|config| {
        config.outbox.age_max_ms = 500;
        config.outbox.stall_timeout_ms = 1000;
    })
    .await;
    let asked = json!({"channel": "quotes", "symbols": ["*"]});
    let _stalled = Slow::subscribed(&world.gateway, NARROW, asked).await;
    for n in 0..2000 {
        world.queue(&quote(&format!("S{n}"), "1", "2"));
    }
    let start = Instant::now();
    world.offered(2000).await;
    until("it is closed", || world.closed(CloseReason::Stalled) + world.closed(CloseReason::Io) == 1).await;
    assert!(start.elapsed() > Duration::from_millis(700), "{:?}", start.elapsed());
    world.books_close().await;
}

/// Its own bound makes a client late, not slow: it gets the newest state, within its rate.
#[tokio::test]
async fn a_client_may_bound_its_bytes() {
    let world = World::new(|config| {
        // Waiting for its rate is no stalling.
        config.outbox.age_max_ms = 500;
        config.outbox.stall_timeout_ms = 1000;
    })
    .await;
    let asked = json!({"channel": "quotes", "symbols": ["*"]});
    let mut client = Slow::subscribed(&world.gateway, None, asked).await;
    let per_s = 10_000;
    client.raw.say(&json!({"op": "set", "max_bytes_per_s": per_s})).await;
    client.read().await;
    let start = Instant::now();
    let before = client.tally.bytes;
    let mut round: u64 = 0;
    while start.elapsed() < Duration::from_secs(4) {
        round += 1;
        for symbol in 0..10 {
            world.queue(&quote(&format!("S{symbol}"), &round.to_string(), "9999"));
        }
        while let Ok(closed) = tokio::time::timeout(Duration::from_millis(1), client.read()).await {
            assert_eq!(closed, None);
        }
    }
    let (bytes, seconds) = (client.tally.bytes - before, start.elapsed().as_secs_f64());
    // One second's worth may be saved up before.
    assert!((bytes as f64) < (seconds + 1.0) * f64::from(per_s) * 1.2, "{bytes} bytes in {seconds} s");
    assert!((bytes as f64) > seconds * f64::from(per_s) * 0.6, "{bytes} bytes in {seconds} s");
    world.records.flush();
    let last = round.to_string();
    for symbol in 0..10 {
        let symbol = format!("S{symbol}");
        client.read_until(|event| event["symbol"] == symbol && event["bid_price"] == last).await;
    }
    client.holds_to_the_protocol();
    assert!(client.tally.merged > 0 && client.tally.gaps == 0);
    world.books_close().await;
}

/// A gateway that cannot keep up says so itself: exact counts, `overload`, and nobody is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_late_blames_nobody() {
    let world = World::new(|config| {
        config.shards = 1;
        config.session.inbox_batches = 1;
        // No client can reach its bounds.
        config.outbox.bytes_max = 256 << 20;
        config.outbox.entries_max = 4 << 20;
        config.outbox.send_buffer_bytes = 0;
        config.outbox.write_bytes_max = 64 << 10;
        config.outbox.frame_bytes_max = 64 << 10;
        config.outbox.notsent_lowat_bytes = 64 << 10;
    })
    .await;
    let mut reading = Vec::new();
    let total: u64 = 60_000;
    for _ in 0..4 {
        let asked = json!({"channel": "trades", "symbols": ["*"]});
        let mut client = Slow::subscribed(&world.gateway, None, asked).await;
        reading.push(tokio::spawn(async move {
            let mut all = 0;
            while all < total {
                assert_eq!(client.read().await, None, "closed: {:?}", client.control);
                all += client.events.drain(..).map(|e| e["count"].as_u64().unwrap_or(1)).sum::<u64>();
            }
            (client, all)
        }));
    }
    let records = world.kafka.producer(&world.topic);
    tokio::task::spawn_blocking(move || {
        for n in 0..total {
            let record = trade("A", &n.to_string());
            records.queue("A", None, record.to_string().as_bytes());
        }
        records.flush();
    })
    .await
    .expect("they were written");
    for client in reading {
        let (client, all) = client.await.expect("it reads to the end");
        assert_eq!(all, total, "sent and announced make all");
        client.holds_to_the_protocol();
        assert!(client.tally.gaps_by_cause.keys().all(|cause| cause == "overload"), "{:#?}", client.tally);
    }
    assert_eq!(world.closed(CloseReason::SlowConsumer), 0);
}

/// The bounds are for what a client does not take: a pass of the gateway may bring a client that reads everything more
/// than its queue may hold. That once ended its session as a slow consumer's.
#[tokio::test]
async fn a_burst_at_once_is_not_the_clients_fault() {
    let world = World::new(|config| {
        config.outbox.entries_max = 50;
        config.outbox.send_buffer_bytes = 0;
        config.outbox.write_bytes_max = 64 << 10;
        config.outbox.frame_bytes_max = 64 << 10;
        config.outbox.notsent_lowat_bytes = 64 << 10;
    })
    .await;
    for on_slow in ["disconnect", "skip"] {
        let asked = json!({"channel": "trades", "symbols": ["*"], "on_slow": on_slow});
        let mut client = Slow::subscribed(&world.gateway, None, asked).await;
        // One record is one batch, and one pass.
        let burst: Vec<Value> = (0..300).map(|n| trade(&format!("S{n}"), "1")).collect();
        world.records.raw("S", None, Value::from(burst).to_string().as_bytes());
        client.read_until(|event| event["symbol"] == "S299").await;
        client.holds_to_the_protocol();
        assert_eq!((client.events.len(), client.tally.gaps), (300, 0), "{on_slow}");
        assert_eq!(client.told("slow").len(), 0, "{on_slow}");
    }
}
