//! Stand-ins for gateways that share one log, for clients that come back: a session begins wherever its client says, as
//! far as the fault that is asked for lets it. It is no model of how a gateway should be built.

#![allow(dead_code, clippy::unwrap_used)]

use super::fake_gateway::{event, expand};
use bytes::Bytes;
use fastwebsockets::upgrade::upgrade;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tickgate_load::clock::now_ns;
use tickgate_protocol::command::{Command, From, Id, Request as Asked};
use tickgate_protocol::control::{AckResult, Control, Limits, PROTOCOL};
use tickgate_protocol::cursor::{self, CursorKey};
use tickgate_protocol::event::{Gap, GapCause, Tail, json};
use tickgate_protocol::frame::{Bounds, Decoder, Message, Opcode, write_close, write_header};
use tickgate_protocol::{Channel, Code, Position};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::interval;

/// What goes wrong where a client comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The last event before the live ones is left out.
    Skips,
    /// The event at the position comes again.
    Repeats,
    /// Nothing can be replayed, which is said.
    AgesOut,
    /// The replay never ends.
    Lasts,
    /// Too many resume at once, it says to the first hundred sessions that do.
    Refuses,
    /// Every other session is never sent the last event of the log.
    Withholds,
}

/// What becomes of all sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Serve,
    /// Their connections break.
    Break,
    /// They are told to go away, and closed.
    Drain,
}

/// One event of the log; its offset is its index.
struct Entry {
    channel: Channel,
    symbol: String,
    prev: Option<Position>,
}

#[derive(Default)]
struct Log {
    entries: Vec<Entry>,
    lasts: BTreeMap<(Channel, String), Position>,
}

impl Log {
    /// One event on every pair.
    fn round(&mut self) {
        for channel in [Channel::Trades, Channel::Quotes] {
            for symbol in expand("*") {
                let prev = self.lasts.insert((channel, symbol.clone()), at(self.entries.len()));
                self.entries.push(Entry { channel, symbol, prev });
            }
        }
    }
}

fn at(index: usize) -> Position {
    Position { epoch: 1, partition: 0, offset: index as u64 }
}

/// A gateway and its log.
#[derive(Clone)]
pub struct Gateway {
    pub address: SocketAddr,
    log: Arc<Mutex<Log>>,
    is_feeding: Arc<AtomicBool>,
    is_refusing: Arc<AtomicBool>,
    orders: watch::Sender<Order>,
    sessions: Arc<AtomicUsize>,
    resumes: Arc<AtomicUsize>,
    fault: Fault,
}

impl Gateway {
    /// Listens on a port of its own choosing until the runtime ends.
    pub async fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = Self {
            address: listener.local_addr().unwrap(),
            log: Arc::default(),
            is_feeding: Arc::new(AtomicBool::new(true)),
            is_refusing: Arc::default(),
            orders: watch::channel(Order::Serve).0,
            sessions: Arc::default(),
            resumes: Arc::default(),
            fault,
        };
        let (feeding, accepting) = (gateway.clone(), gateway.clone());
        tokio::spawn(async move {
            let mut round = interval(Duration::from_millis(5));
            loop {
                round.tick().await;
                if feeding.is_feeding.load(Ordering::Relaxed) {
                    feeding.log.lock().unwrap().round();
                }
            }
        });
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let gateway = accepting.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(request, gateway.clone()));
                    let http = hyper::server::conn::http1::Builder::new();
                    // A client that goes away in the handshake is no concern of the tests.
                    let _ = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
                });
            }
        });
        gateway
    }

    /// Breaks all connections, as a gateway does that is killed.
    pub fn kill_all(&self) {
        self.orders.send_replace(Order::Break);
    }

    /// Sends everybody away, as a gateway does that is stopped.
    pub fn drain_all(&self) {
        self.orders.send_replace(Order::Drain);
    }

    /// Refuses whoever comes from now on, or not any more.
    pub fn refuse(&self, refuses: bool) {
        self.is_refusing.store(refuses, Ordering::Relaxed);
    }

    fn is_too_busy(&self) -> bool {
        self.resumes.fetch_add(1, Ordering::Relaxed) < 100
    }

    /// The log ends here.
    pub fn end_feed(&self) {
        self.is_feeding.store(false, Ordering::Relaxed);
    }
}

async fn answer(
    mut request: Request<Incoming>,
    gateway: Gateway,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if gateway.is_refusing.load(Ordering::Relaxed) {
        return Ok(Response::builder().status(503).header("Retry-After", "0").body("no".into()).unwrap());
    }
    let protocol = request.headers().get("Sec-WebSocket-Protocol").cloned();
    let (response, upgrading) = upgrade(&mut request).unwrap();
    let mut response = response.map(|_| Full::default());
    if let Some(protocol) = protocol {
        response.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
    }
    let orders = gateway.orders.subscribe();
    tokio::spawn(async move {
        let upgraded = upgrading.await.unwrap().into_inner().into_inner();
        let parts = upgraded.downcast::<TokioIo<TcpStream>>().unwrap();
        let number = gateway.sessions.fetch_add(1, Ordering::Relaxed);
        let mut session =
            Session { gateway, number, next: 0, pairs: BTreeMap::new(), out: Vec::new(), closing: false };
        session.next = session.gateway.log.lock().unwrap().entries.len();
        session.run(parts.io.into_inner(), parts.read_buf.to_vec(), orders).await;
    });
    Ok(response)
}

struct Session {
    gateway: Gateway,
    number: usize,
    /// What of the log comes next.
    next: usize,
    /// What is subscribed to, and whether it is live.
    pairs: BTreeMap<(Channel, String), bool>,
    out: Vec<u8>,
    closing: bool,
}

impl Session {
    async fn run(mut self, stream: TcpStream, mut early: Vec<u8>, mut orders: watch::Receiver<Order>) {
        let limits =
            Limits { subscriptions: 5000, requests_per_s: 20, message_bytes: 1 << 18, ..Limits::default() };
        self.control(&Control::Hello {
            protocol: PROTOCOL,
            session: "s-fake".to_owned(),
            now_ns: now_ns(),
            heartbeat_ms: 100,
            auth: "none".to_owned(),
            limits,
        });
        let mut decoder = Decoder::default();
        self.read(&mut decoder, &mut early);
        let mut round = interval(Duration::from_millis(5));
        let mut heartbeat = interval(Duration::from_millis(100));
        let mut buffer = vec![0; 16 << 10];
        loop {
            tokio::select! {
                order = orders.changed() => match order.map(|()| *orders.borrow_and_update()) {
                    Ok(Order::Drain) => self.go_away(),
                    _ => return,
                },
                _ = stream.readable() => match stream.try_read(&mut buffer) {
                    Ok(0) => return,
                    Ok(n) => self.read(&mut decoder, &mut buffer[..n]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => return,
                },
                _ = stream.writable(), if !self.out.is_empty() => match stream.try_write(&self.out) {
                    Ok(n) => {
                        self.out.drain(..n);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => return,
                },
                _ = round.tick(), if !self.closing => self.live(),
                _ = heartbeat.tick(), if !self.closing => {
                    let cursor = self.cursor();
                    self.control(&Control::Heartbeat {
                        now_ns: now_ns(), cursor, queued_bytes: 0, delay_ms: 0, feeds: Vec::new(),
                    });
                }
            }
            if self.closing && self.out.is_empty() {
                return;
            }
        }
    }

    fn read(&mut self, decoder: &mut Decoder, bytes: &mut [u8]) {
        let mut requests = Vec::new();
        let mut closed = None;
        let bounds = Bounds { message_bytes_max: 1 << 18, fragments_max: 64 };
        decoder
            .feed(bytes, &bounds, None, |message| match message {
                Message::Text(text) => requests.push(text.to_owned()),
                Message::Close(code) => closed = Some(code.unwrap_or(1000)),
                _ => {}
            })
            .unwrap();
        for request in requests {
            let request = Asked::parse(&request).unwrap();
            if let Command::Subscribe { subscriptions, cursor } = request.command {
                // Where the session stands: what is live goes on from here for all its pairs.
                self.live();
                let resumes = cursor.is_some()
                    || subscriptions.iter().any(|s| s.options.as_ref().is_ok_and(|(_, o)| o.from.is_some()));
                if resumes && self.gateway.fault == Fault::Refuses && self.gateway.is_too_busy() {
                    self.control(&Control::Error {
                        id: request.id,
                        code: Code::RateLimited,
                        number: Code::RateLimited.number(),
                        message: String::new(),
                        fatal: false,
                        retry_after_ms: Some(10),
                        cursor: None,
                    });
                    continue;
                }
                let next = cursor.map(|cursor| cursor::decode_unverified(&cursor).unwrap()[0].offset);
                let mut results = Vec::new();
                let mut pairs = Vec::new();
                for subscription in subscriptions {
                    let (channel, options) = subscription.options.unwrap();
                    for symbol in subscription.symbols {
                        results.push(AckResult::ok(channel.name(), &symbol));
                        let next = match options.from {
                            Some(From::Seq(seq)) => Some(seq.offset + 1),
                            _ => next,
                        };
                        pairs.extend(expand(&symbol).into_iter().map(|symbol| (channel, symbol, next)));
                    }
                }
                self.control(&Control::ack(request.id.clone(), true, results));
                for (channel, symbol, next) in pairs {
                    let is_live = next.is_none_or(|next| self.replay(&request.id, channel, &symbol, next));
                    self.pairs.insert((channel, symbol), is_live);
                }
            }
        }
        if let Some(code) = closed {
            write_close(&mut self.out, code, "");
            self.closing = true;
        }
    }

    /// Sends what a pair has missed; says whether it is live from here on.
    fn replay(&mut self, id: &Option<Id>, channel: Channel, symbol: &str, next: u64) -> bool {
        let fault = self.gateway.fault;
        if fault == Fault::AgesOut {
            self.control(&Control::error(id.clone(), Code::ReplayAgedOut, "too old", false));
        }
        let log = self.gateway.log.clone();
        let log = log.lock().unwrap();
        let entries = log.entries[..self.next].iter().enumerate();
        let of_pair = entries.filter(|(_, entry)| entry.channel == channel && entry.symbol == symbol);
        let first = match fault {
            Fault::Repeats => next as usize - 1,
            _ => next as usize,
        };
        let missed: Vec<_> = of_pair.filter(|(index, _)| *index >= first).collect();
        if fault == Fault::AgesOut {
            let Some((last, _)) = missed.last() else { return true };
            let gap = Gap { after: None, upto: Some(at(*last)), count: None, cause: GapCause::Retention };
            let mut frame = Vec::new();
            gap.write(&mut frame, channel, &json::string(symbol));
            self.data(frame);
            return true;
        }
        let mut frame = Vec::new();
        let replayed = missed.len().saturating_sub(usize::from(fault == Fault::Skips));
        for (index, entry) in &missed[..replayed] {
            let tail = Tail { prev: entry.prev, replay: true, ..Tail::default() };
            event(&mut frame, channel, symbol, at(*index), Some(now_ns()), &tail);
        }
        if !frame.is_empty() {
            self.data(frame);
        }
        if fault == Fault::Lasts {
            return false;
        }
        let seq = missed.last().map(|(index, _)| at(*index));
        self.control(&Control::ReplayDone { id: id.clone(), channel, symbol: symbol.to_owned(), seq });
        true
    }

    /// Sends what is new in the log.
    fn live(&mut self) {
        let log = self.gateway.log.clone();
        let log = log.lock().unwrap();
        let withholds = self.gateway.fault == Fault::Withholds && self.number % 2 == 1;
        let end = log.entries.len() - usize::from(withholds).min(log.entries.len());
        let mut frame = Vec::new();
        for (index, entry) in log.entries.iter().enumerate().take(end).skip(self.next) {
            if self.pairs.get(&(entry.channel, entry.symbol.clone())) == Some(&true) {
                let tail = Tail { prev: entry.prev, ..Tail::default() };
                event(&mut frame, entry.channel, &entry.symbol, at(index), Some(now_ns()), &tail);
            }
        }
        self.next = self.next.max(end);
        if !frame.is_empty() {
            self.data(frame);
        }
    }

    fn go_away(&mut self) {
        let cursor = self.cursor();
        self.control(&Control::Goaway { reason: "drain".to_owned(), close_in_ms: 0, cursor });
        write_close(&mut self.out, 1012, "drain");
        self.closing = true;
    }

    fn cursor(&self) -> String {
        cursor::encode(&[at(self.next)], &CursorKey::new(b"no key"))
    }

    fn control(&mut self, control: &Control) {
        self.text(control.to_json().as_bytes());
    }

    fn data(&mut self, events: Vec<u8>) {
        self.text(&[b"[", &events[..], b"]"].concat());
    }

    fn text(&mut self, payload: &[u8]) {
        write_header(&mut self.out, Opcode::Text, payload.len());
        self.out.extend_from_slice(payload);
    }
}
