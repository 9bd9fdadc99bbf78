//! A gateway whose clients are soon slow, and clients that read when they are told to.

use crate::harness::{Gateway, Kafka, Records, trade, until};
use crate::raw::{CLOSE, Raw, TEXT};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tickgate_gateway::config::Config;
use tickgate_gateway::stats::CloseReason;
use tickgate_load::tally::Tally;
use tickgate_load::verify::{Asked, SessionVerifier};

/// A receive buffer that holds a few events.
pub const NARROW: Option<u32> = Some(4096);

pub struct World {
    pub kafka: Kafka,
    pub topic: String,
    pub records: Records,
    pub gateway: Gateway,
}

impl World {
    /// A gateway whose sockets take little and whose queues are short, so that whoever stops reading is soon slow.
    pub async fn new(change: impl FnOnce(&mut Config)) -> Self {
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

    pub fn queue(&self, record: &Value) {
        let symbol = record["symbol"].as_str().expect("a symbol");
        self.records.queue(symbol, None, record.to_string().as_bytes());
    }

    /// Writes trades at a healthy client's own pace; returns what it got.
    pub async fn trades_for(&self, healthy: Slow, total: u64) -> Slow {
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
    pub async fn offered(&self, count: u64) {
        self.records.flush();
        until("every event was offered", || self.gateway.books().0 >= count).await;
    }

    pub fn closed(&self, reason: CloseReason) -> u64 {
        let board = self.gateway.running().board();
        (0..board.shard_count()).map(|shard| board.shard(shard).sessions_closed[reason as usize]).sum()
    }

    /// Waits until every session was told its end: the first thing that it loses is its subscriptions.
    pub async fn nobody_subscribes(&self) {
        let board = self.gateway.running().board();
        let subscriptions =
            || (0..board.shard_count()).map(|shard| board.shard(shard).subscriptions).sum::<u64>();
        until("every session was told its end", || subscriptions() == 0).await;
    }

    pub async fn books_close(&self) {
        until("the books close", || {
            let (offered, sent, conflated, dropped, held) = self.gateway.books();
            held == 0 && offered == sent + conflated + dropped
        })
        .await;
    }
}

/// A session that reads only when it is told to, and judges what it then reads.
pub struct Slow {
    pub raw: Raw,
    verifier: SessionVerifier,
    pub tally: Tally,
    pub control: Vec<Value>,
    pub events: Vec<Value>,
}

impl Slow {
    pub async fn subscribed(gateway: &Gateway, recv_buffer_bytes: Option<u32>, subscription: Value) -> Self {
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
    pub async fn read(&mut self) -> Option<u16> {
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
    pub async fn read_all(mut self, count: u64, progress: Arc<AtomicU64>) -> Self {
        while (self.events.len() as u64) < count {
            assert_eq!(self.read().await, None, "closed: {:?}", self.control);
            progress.store(self.events.len() as u64, Ordering::Relaxed);
        }
        self
    }

    pub async fn read_until(&mut self, what: impl Fn(&Value) -> bool) {
        let mut seen = 0;
        while !self.events[seen..].iter().any(&what) {
            seen = self.events.len();
            assert_eq!(self.read().await, None, "closed: {:?}", self.control);
        }
    }

    pub fn told(&self, op: &str) -> Vec<&Value> {
        self.control.iter().filter(|control| control["op"] == op).collect()
    }

    pub fn holds_to_the_protocol(&self) {
        assert_eq!(self.tally.violations() + self.tally.duplicates, 0, "{:#?}", self.tally);
    }
}

pub fn merged(event: &Value) -> u64 {
    event["merged"].as_u64().unwrap_or(1)
}
