//! What the integration tests share: a Kafka, a gateway on free ports, records, clients.
//!
//! [`kafkas!`] makes every test of a suite twice: against the embedded broker, and against the Apache Kafka that
//! `TICKGATE_TEST_KAFKA` names (`cargo xtask test` starts one). Nothing here sleeps to be on the safe side: what is
//! waited for is polled, with a bound.
#![allow(dead_code, unreachable_pub)]

pub mod certs;
pub mod process;
pub mod session;
pub mod topics;
pub mod world;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tickgate_broker::{Broker, BrokerConfig};
use tickgate_gateway::config::{Config, FeedConfig};
use tickgate_gateway::server::{self, Running};
use tickgate_gateway::stats::RefuseReason;
use tickgate_load::client::ClientError;
use tickgate_load::{Client, ClientOptions, Incoming};
use tickgate_protocol::control::Control;

/// Longest wait for anything that should come at once.
pub const SOON: Duration = Duration::from_secs(20);

/// Which Kafka a test runs against.
pub enum Kafka {
    /// Our own, in this process, with its faults at hand.
    Embedded(Broker),
    /// A real one, at this address.
    Apache(String),
}

impl Kafka {
    pub fn embedded() -> Self {
        Self::Embedded(Broker::start(BrokerConfig::default()).expect("a free port"))
    }

    /// The Apache Kafka of this run; `None`, said aloud, when the run is without.
    pub fn apache() -> Option<Self> {
        match std::env::var("TICKGATE_TEST_KAFKA") {
            Ok(address) if !address.is_empty() => Some(Self::Apache(address)),
            _ => {
                eprintln!(
                    "left out: TICKGATE_TEST_KAFKA names no Apache Kafka; `cargo xtask test` starts one"
                );
                None
            }
        }
    }

    pub fn address(&self) -> String {
        match self {
            Self::Embedded(broker) => broker.bootstrap(),
            Self::Apache(address) => address.clone(),
        }
    }

    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", self.address()).create().expect("a client")
    }

    /// Makes a topic whose name no other test has.
    pub async fn topic(&self, partitions: i32) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{}-{count}", std::process::id());
        self.create_topic(&name, partitions).await;
        name
    }

    pub async fn create_topic(&self, name: &str, partitions: i32) {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let deadline = Instant::now() + SOON;
        loop {
            let options = AdminOptions::new().operation_timeout(Some(SOON));
            let made = self.admin().create_topics([&topic], &options).await.expect("an answer");
            match &made[0] {
                Ok(_) => return,
                // A topic of that name is still being deleted.
                // tidy: allow(sleep) it only paces the polling, which has a bound
                Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    pub fn producer(&self, topic: &str) -> Records {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", self.address())
            .set("linger.ms", "0")
            .set("message.max.bytes", "20000000")
            .create()
            .expect("a client");
        Records { producer, topic: topic.to_owned() }
    }

    /// A configuration with free ports for a gateway that reads `topic` from here.
    pub fn config(&self, topic: &str) -> Config {
        let any_port = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = Config { listen: any_port, admin: any_port, shards: 2, ..Config::default() };
        config.kafka.brokers = self.address();
        config.kafka.refresh_ms = 200;
        config.feeds = vec![FeedConfig::for_topic(topic)];
        config.drain.spread_ms = 0;
        config.drain.grace_ms = 1_000;
        config
    }
}

/// Makes each `async fn name(kafka: Kafka)` a test against either Kafka.
#[macro_export]
macro_rules! kafkas {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::harness::Kafka::embedded()).await;
            })*
        }
        mod apache {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(kafka) = $crate::harness::Kafka::apache() {
                    super::$name(kafka).await;
                }
            })*
        }
    };
}

/// Writes records into one topic.
pub struct Records {
    producer: BaseProducer,
    topic: String,
}

impl Records {
    /// Writes one record, keyed by its symbol; returns when the broker has it.
    pub fn send(&self, record: &Value) {
        let symbol = record["symbol"].as_str().unwrap_or("?").to_owned();
        self.raw(&symbol, None, record.to_string().as_bytes());
    }

    /// Writes records in order; returns when the broker has all of them.
    pub fn send_all<'a>(&self, records: impl IntoIterator<Item = &'a Value>) {
        for record in records {
            let symbol = record["symbol"].as_str().unwrap_or("?").to_owned();
            self.queue(&symbol, None, record.to_string().as_bytes());
        }
        self.flush();
    }

    /// Writes any bytes; returns when the broker has them.
    pub fn raw(&self, key: &str, partition: Option<i32>, value: &[u8]) {
        self.queue(key, partition, value);
        self.flush();
    }

    /// Writes any bytes, later.
    pub fn queue(&self, key: &str, partition: Option<i32>, value: &[u8]) {
        let mut record = BaseRecord::to(&self.topic).key(key).payload(value);
        if let Some(partition) = partition {
            record = record.partition(partition);
        }
        while let Err((error, unsent)) = self.producer.send(record) {
            assert_eq!(
                error.rdkafka_error_code(),
                Some(rdkafka::types::RDKafkaErrorCode::QueueFull),
                "the record is refused"
            );
            self.producer.poll(Duration::from_millis(10));
            record = unsent;
        }
    }

    pub fn flush(&self) {
        self.producer.flush(SOON).expect("the broker takes it");
    }
}

/// A trade record.
pub fn trade(symbol: &str, price: &str) -> Value {
    json!({"type": "trade", "symbol": symbol, "price": price, "size": "1", "event_ns": 1})
}

/// A quote record.
pub fn quote(symbol: &str, bid: &str, ask: &str) -> Value {
    json!({"type": "quote", "symbol": symbol, "bid_price": bid, "bid_size": "1", "ask_price": ask, "ask_size": "1", "event_ns": 1})
}

/// A gateway of this process.
pub struct Gateway {
    running: Option<Running>,
    url: String,
    admin: String,
}

impl Gateway {
    /// Starts one and waits until it is ready.
    pub async fn start(config: Config) -> Self {
        let gateway = Self::start_unready(config);
        gateway.ready().await;
        gateway
    }

    /// Starts one.
    pub fn start_unready(config: Config) -> Self {
        config.check().expect("a good configuration");
        let bound = server::bind(config).expect("free ports");
        let scheme = bound.scheme();
        let url = format!("{scheme}://{}/v1/stream", bound.listen_addr());
        let admin = bound.admin_addr().to_string();
        Self { running: Some(bound.start().expect("it starts")), url, admin }
    }

    pub async fn ready(&self) {
        until("the gateway is ready", || self.running().board().is_ready()).await;
    }

    pub fn running(&self) -> &Running {
        self.running.as_ref().expect("it was not stopped")
    }

    /// Open sessions, of all shards.
    pub fn sessions(&self) -> u64 {
        let board = self.running().board();
        (0..board.shard_count()).map(|shard| board.shard(shard).sessions).sum()
    }

    /// How many were refused for this reason, by all shards.
    pub fn refused(&self, reason: RefuseReason) -> u64 {
        let board = self.running().board();
        (0..board.shard_count()).map(|shard| board.shard(shard).refused[reason as usize]).sum()
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Address of the admin listener.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// A client that has read its `hello`.
    pub async fn client(&self) -> Client {
        self.client_as(&certs::options(certs::believing())).await.expect("a session")
    }

    /// The same in another way, if it is let in.
    pub async fn client_as(&self, options: &ClientOptions) -> Result<Client, ClientError> {
        let mut client = Client::connect(&self.url, options).await?;
        match client.next().await {
            Incoming::Control { control: Some(Control::Hello { .. }), .. } => Ok(client),
            other => panic!("not a hello: {other:?}"),
        }
    }

    /// Drains and stops; returns how many sessions were cut.
    pub async fn stop(mut self) -> usize {
        let running = self.running.take().expect("it was not stopped");
        tokio::task::spawn_blocking(move || running.stop()).await.expect("no panic").expect("no failure")
    }

    /// Offered, sent, conflated, dropped and held events over all shards, as last published.
    pub fn books(&self) -> (u64, u64, u64, u64, u64) {
        let board = self.running().board();
        (0..board.shard_count()).fold((0, 0, 0, 0, 0), |sum, shard| {
            let totals = board.shard(shard);
            let dropped: u64 = totals.dropped.iter().sum();
            (
                sum.0 + totals.offered,
                sum.1 + totals.sent,
                sum.2 + totals.conflated,
                sum.3 + dropped,
                sum.4 + totals.held,
            )
        })
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // A test that failed must not leave threads behind that hold up the next.
            std::thread::spawn(move || running.stop());
        }
    }
}

/// Waits until something holds, and fails when it does not hold soon.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        // tidy: allow(sleep) it only paces the polling, which has a bound
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The next data frame's events as JSON, control messages passed over.
pub async fn next_events(client: &mut Client) -> Vec<Value> {
    loop {
        match client.next_within(SOON).await {
            Some(Incoming::Events(frame)) => return serde_json::from_str(frame.as_str()).expect("events"),
            Some(Incoming::Control { .. }) => {}
            other => panic!("no data: {other:?}"),
        }
    }
}

/// Events, from however many frames, until there are `count`.
pub async fn take_events(client: &mut Client, count: usize) -> Vec<Value> {
    let mut events = Vec::new();
    while events.len() < count {
        events.extend(next_events(client).await);
    }
    assert_eq!(events.len(), count, "{events:?}");
    events
}

/// The next control message that is no heartbeat, data frames passed over.
pub async fn next_control(client: &mut Client) -> Control {
    loop {
        match client.next_within(SOON).await {
            Some(Incoming::Control { control: Some(Control::Heartbeat { .. }), .. }) => {}
            Some(Incoming::Control { control: Some(control), .. }) => return control,
            Some(Incoming::Events(_)) => {}
            other => panic!("no control message: {other:?}"),
        }
    }
}

/// The code that the session is closed with.
pub async fn closed(client: &mut Client) -> Option<u16> {
    loop {
        match client.next_within(SOON).await {
            Some(Incoming::Closed { code, .. }) => return code,
            Some(_) => {}
            None => panic!("not closed within {SOON:?}"),
        }
    }
}
