//! What the tests share: a Kafka, gateways of this process, records, and a wire that can be held and written into.
#![allow(dead_code, unreachable_pub)]

use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tickgate_broker::{Broker, BrokerConfig};
use tickgate_client::{Event, Live, State};
use tickgate_gateway::config::{Config, FeedConfig};
use tickgate_gateway::server::{self, Running};
use tickgate_protocol::frame::{Opcode, write_header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// Longest wait for anything that should come at once.
pub const SOON: Duration = Duration::from_secs(20);
const TOPIC: &str = "ticks";

pub struct World {
    broker: Broker,
    producer: BaseProducer,
    /// Records sent.
    sent: u64,
}

impl World {
    pub fn new() -> Self {
        let broker = Broker::start(BrokerConfig::default()).expect("a free port");
        broker.create_topic(TOPIC, 1).expect("a topic");
        let producer = ClientConfig::new()
            .set("bootstrap.servers", broker.bootstrap())
            .set("linger.ms", "0")
            .create()
            .expect("a producer");
        Self { broker, producer, sent: 0 }
    }

    /// Where its Kafka is.
    pub fn brokers(&self) -> String {
        self.broker.bootstrap()
    }

    /// Its Kafka is there no more.
    pub fn stops(&self) {
        self.broker.faults().stop().expect("its port is kept");
    }

    /// A gateway that is ready, its configuration changed before.
    pub async fn gateway(&self, change: impl FnOnce(&mut Config)) -> Gateway {
        Gateway::of(self.brokers(), change).await
    }

    /// Writes records, and returns when the broker has them.
    pub fn send<'a>(&mut self, records: impl IntoIterator<Item = &'a Value>) {
        for record in records {
            let (symbol, text) = (record["symbol"].as_str().expect("a symbol"), record.to_string());
            let mut to_be_sent = BaseRecord::to(TOPIC).key(symbol).payload(&text);
            while let Err((_, unsent)) = self.producer.send(to_be_sent) {
                self.producer.poll(Duration::from_millis(10));
                to_be_sent = unsent;
            }
            self.sent += 1;
        }
        self.producer.flush(SOON).expect("the broker takes them");
    }

    /// Waits until a gateway has read all that was sent.
    pub async fn has_read(&self, gateway: &Gateway) {
        until("every record was read", || gateway.running().board().feed().records >= self.sent).await;
    }
}

/// A trade; its price tells it from others.
pub fn trade(symbol: &str, price: u32) -> Value {
    json!({"type": "trade", "symbol": symbol, "price": price.to_string(), "size": "1", "event_ns": 1})
}

pub fn quote(symbol: &str, bid: u32) -> Value {
    json!({"type": "quote", "symbol": symbol, "bid_price": bid.to_string(), "bid_size": "1", "ask_price": (bid + 1).to_string(), "ask_size": "1", "event_ns": 1})
}

pub fn book(symbol: &str, bids: Value, asks: Value, snapshot: bool) -> Value {
    json!({"type": "book", "symbol": symbol, "bids": bids, "asks": asks, "snapshot": snapshot, "event_ns": 1})
}

pub struct Gateway {
    running: Option<Running>,
    pub address: SocketAddr,
    is_tls: bool,
}

impl Gateway {
    /// One that is ready, its configuration changed before.
    pub async fn of(brokers: String, change: impl FnOnce(&mut Config)) -> Self {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = Config { listen: any_port, admin: any_port, shards: 1, ..Config::default() };
        config.kafka.brokers = brokers;
        config.kafka.refresh_ms = 200;
        config.feeds = vec![FeedConfig::for_topic(TOPIC)];
        config.drain.spread_ms = 0;
        config.drain.grace_ms = 1_000;
        config.session.heartbeat_ms = 100;
        change(&mut config);
        config.check().expect("a good configuration");
        let is_tls = !config.tls.certificate_file.is_empty();
        let bound = server::bind(config).expect("free ports");
        let address = bound.listen_addr();
        let gateway = Self { running: Some(bound.start().expect("it starts")), address, is_tls };
        until("the gateway is ready", || gateway.running().board().is_ready()).await;
        gateway
    }

    pub fn url(&self) -> String {
        let scheme = if self.is_tls { "wss" } else { "ws" };
        format!("{scheme}://{}", self.address)
    }

    pub fn running(&self) -> &Running {
        self.running.as_ref().expect("it was not stopped")
    }

    /// Drains and stops, beside whatever else happens.
    pub fn stops(mut self) -> tokio::task::JoinHandle<()> {
        let running = self.running.take().expect("it was not stopped");
        tokio::task::spawn_blocking(move || _ = running.stop().expect("no failure"))
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

/// The next event.
pub async fn next(live: &mut Live) -> Event {
    timeout(SOON, live.next()).await.expect("an event comes soon").expect("it is not the end")
}

/// The next event for which this gives something; others are passed over, but market data, gaps and errors must not be.
pub async fn find<T>(live: &mut Live, what: &str, is_it: impl Fn(&Event) -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        let event = next(live).await;
        if let Some(found) = is_it(&event) {
            return found;
        }
        let may_be_passed = event.meta().is_none() && !matches!(event, Event::Gap(_) | Event::Error(_));
        assert!(may_be_passed, "{what} was to come, not {event:?}");
    }
}

/// Waits for a state of the connection.
pub async fn state(live: &mut Live, name: &str) -> State {
    let is_it = |event: &Event| match event {
        Event::State(state) if state.name() == name => Some(state.clone()),
        _ => None,
    };
    find(live, name, is_it).await
}

/// Waits for the answer to a request; gives whether all of it was granted.
pub async fn acked(live: &mut Live) -> bool {
    find(live, "an ack", |event| if let Event::Ack(ack) = event { Some(ack.ok) } else { None }).await
}

/// The prices of the next trades.
pub async fn trades(live: &mut Live, count: usize) -> Vec<String> {
    let mut prices = Vec::new();
    while prices.len() < count {
        let is_it = |event: &Event| match event {
            Event::Trade(trade) => Some(trade.price.to_string()),
            _ => None,
        };
        prices.push(find(live, "a trade", is_it).await);
    }
    prices
}

/// What stands between a client and a gateway.
pub struct Wire {
    pub address: SocketAddr,
    is_hushed: watch::Sender<bool>,
    is_cut: watch::Sender<bool>,
    is_refusing: watch::Sender<bool>,
    inject: Arc<(std::sync::Mutex<Vec<u8>>, Notify)>,
    /// What came from the gateway.
    said: Arc<std::sync::Mutex<Vec<u8>>>,
}

impl Wire {
    pub async fn to(gateway: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it has one");
        let (is_hushed, hushed) = watch::channel(false);
        let (is_cut, cut) = watch::channel(false);
        let (is_refusing, refusing) = watch::channel(false);
        let inject: Arc<(std::sync::Mutex<Vec<u8>>, Notify)> = Arc::default();
        let injected = Arc::clone(&inject);
        let said: Arc<std::sync::Mutex<Vec<u8>>> = Arc::default();
        let saying = Arc::clone(&said);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(gateway).await else { continue };
                let injected = Arc::clone(&injected);
                tokio::spawn(carry(
                    client,
                    server,
                    hushed.clone(),
                    cut.clone(),
                    refusing.clone(),
                    injected,
                    Arc::clone(&saying),
                ));
            }
        });
        Self { address, is_hushed, is_cut, is_refusing, inject, said }
    }

    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// From now on nothing comes through from the gateway, on the connections that there are.
    pub fn hush(&self) {
        self.is_hushed.send_replace(true);
    }

    /// Whether the gateway has said these, one after the other.
    pub fn has_said(&self, texts: &[&str]) -> bool {
        let said = self.said.lock().expect("no panic");
        let mut rest = String::from_utf8_lossy(&said).into_owned();
        texts.iter().all(|text| match rest.find(text) {
            Some(at) => {
                rest.drain(..at + text.len());
                true
            }
            None => false,
        })
    }

    /// From now on whatever the gateway grants or refuses one by one is refused as a whole.
    pub fn refuse(&self) {
        self.is_refusing.send_replace(true);
    }

    /// Ends the connections that there are.
    pub fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    /// Writes a frame to the client. What came before must have been whole.
    pub fn inject(&self, opcode: Opcode, payload: &[u8]) {
        let mut bytes = self.inject.0.lock().expect("no panic");
        write_header(&mut bytes, opcode, payload.len());
        bytes.extend_from_slice(payload);
        self.inject.1.notify_one();
    }
}

async fn carry(
    client: TcpStream,
    server: TcpStream,
    mut hushed: watch::Receiver<bool>,
    mut cut: watch::Receiver<bool>,
    refusing: watch::Receiver<bool>,
    inject: Arc<(std::sync::Mutex<Vec<u8>>, Notify)>,
    said: Arc<std::sync::Mutex<Vec<u8>>>,
) {
    // Only those that are there when it is said.
    hushed.mark_unchanged();
    cut.mark_unchanged();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut buffer = vec![0; 64 << 10];
    let mut unread = Vec::new();
    loop {
        tokio::select! {
            biased;
            _ = cut.changed() => return,
            _ = hushed.changed() => break,
            () = inject.1.notified() => {
                let bytes = std::mem::take(&mut *inject.0.lock().expect("no panic"));
                if to_client.write_all(&bytes).await.is_err() { return }
            }
            read = from_server.read(&mut buffer) => match read {
                Ok(n) if n > 0 => {
                    let written = if *refusing.borrow() {
                        unread.extend_from_slice(&buffer[..n]);
                        to_client.write_all(&refused(&mut unread)).await
                    } else {
                        to_client.write_all(&buffer[..n]).await
                    };
                    if written.is_err() { return }
                    said.lock().expect("no panic").extend_from_slice(&buffer[..n]);
                }
                _ => return,
            },
        }
    }
    // Held open: the client has to find out by itself.
    while from_server.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
}

/// The whole frames of a gateway, behind its answer to the handshake, each `ack` an error instead; what is not whole stays.
fn refused(unread: &mut Vec<u8>) -> Vec<u8> {
    let mut out = Vec::new();
    if unread.starts_with(b"HTTP/") {
        let Some(end) = unread.windows(4).position(|four| four == b"\r\n\r\n") else { return out };
        out.extend(unread.drain(..end + 4));
    }
    while let [_, length, rest @ ..] = &unread[..] {
        let (start, length) = match (length, rest) {
            (126, [a, b, ..]) => (4, usize::from(u16::from_be_bytes([*a, *b]))),
            (126 | 127, _) => break,
            (length, _) => (2, usize::from(*length)),
        };
        if unread.len() < start + length {
            break;
        }
        let frame: Vec<u8> = unread.drain(..start + length).collect();
        match serde_json::from_slice::<Value>(&frame[start..]) {
            Ok(said) if said["op"] == "ack" => {
                let error = json!({"op": "error", "id": said["id"], "code": "subscription_limit", "number": 4413,
                    "message": "as a test wants it", "fatal": false});
                let error = error.to_string();
                write_header(&mut out, Opcode::Text, error.len());
                out.extend_from_slice(error.as_bytes());
            }
            _ => out.extend(frame),
        }
    }
    out
}
