//! A stand-in for the gateway, for the tests of this crate alone: it speaks the protocol to each session about a
//! market of its own, and breaks its promises on request. It is no model of how a gateway should be built.

#![allow(dead_code, clippy::unwrap_used)]

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
use std::time::Duration;
use tickgate_load::clock::now_ns;
use tickgate_protocol::command::{Command, Request as Asked};
use tickgate_protocol::control::{AckResult, Control, Limits, PROTOCOL};
use tickgate_protocol::cursor::{self, CursorKey};
use tickgate_protocol::event::{Gap, GapCause, Meta, Tail, json, write_head};
use tickgate_protocol::frame::{Bounds, Decoder, Message, Opcode, write_close, write_header};
use tickgate_protocol::record::{Body, Book, Quote, Status, Trade, TradingState};
use tickgate_protocol::{Channel, Code, Decimal, Position};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, interval, sleep_until};

pub const SYMBOLS: usize = 20;

/// Which promise is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The fifth event of every pair is lost without a word.
    Loses,
    /// Everybody is thrown out after ten rounds.
    ThrowsOut,
    /// Who is slow is thrown out instead of told of gaps.
    CutsOff,
    /// No session: HTTP 503.
    Refuses,
    /// Events do not say when they were meant to be sent.
    Unstamped,
}

/// Listens on a port of its own choosing until the runtime ends.
pub async fn start(fault: Fault) -> SocketAddr {
    serve(TcpListener::bind("127.0.0.1:0").await.unwrap(), fault)
}

/// Serves at `listener` until the runtime ends.
pub fn serve(listener: TcpListener, fault: Fault) -> SocketAddr {
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            // Small, so that a client that does not read is noticed soon.
            socket2::SockRef::from(&stream).set_send_buffer_size(16 << 10).unwrap();
            tokio::spawn(async move {
                let service = service_fn(move |request| answer(request, fault));
                let http = hyper::server::conn::http1::Builder::new();
                // A client that goes away in the handshake is no concern of the tests.
                let _ = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
            });
        }
    });
    address
}

pub fn url(address: SocketAddr) -> String {
    format!("ws://{address}/v1/stream")
}

async fn answer(mut request: Request<Incoming>, fault: Fault) -> Result<Response<Full<Bytes>>, Infallible> {
    if fault == Fault::Refuses {
        let response = Response::builder().status(503).header("Retry-After", "7").body("overloaded".into());
        return Ok(response.unwrap());
    }
    let protocol = request.headers().get("Sec-WebSocket-Protocol").cloned();
    let (response, upgrading) = upgrade(&mut request).unwrap();
    let mut response = response.map(|_| Full::default());
    if let Some(protocol) = protocol {
        response.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
    }
    tokio::spawn(async move {
        let upgraded = upgrading.await.unwrap().into_inner().into_inner();
        let parts = upgraded.downcast::<TokioIo<TcpStream>>().unwrap();
        Session::new(fault).run(parts.io.into_inner(), parts.read_buf.to_vec()).await;
    });
    Ok(response)
}

#[derive(Default)]
struct Pair {
    last: Option<Position>,
    events: u64,
    /// Of events dropped since: the last sent before them, the last dropped, how many.
    dropped: Option<(Option<Position>, Position, u64)>,
}

struct Session {
    fault: Fault,
    offset: u64,
    rounds: u64,
    pairs: BTreeMap<(Channel, String), Pair>,
    out: Vec<u8>,
    closing: bool,
}

impl Session {
    const BACKLOG_BYTES: usize = 64 << 10;

    fn new(fault: Fault) -> Self {
        Self { fault, offset: 0, rounds: 0, pairs: BTreeMap::new(), out: Vec::new(), closing: false }
    }

    async fn run(mut self, stream: TcpStream, mut early: Vec<u8>) {
        self.control(&Control::Hello {
            protocol: PROTOCOL,
            session: "s-fake".to_owned(),
            now_ns: now_ns(),
            heartbeat_ms: 100,
            auth: "none".to_owned(),
            limits: Limits {
                subscriptions: 5000,
                requests_per_s: 20,
                message_bytes: 1 << 18,
                ..Limits::default()
            },
        });
        let mut decoder = Decoder::default();
        self.read(&mut decoder, &mut early);
        let mut round = interval(Duration::from_millis(5));
        let mut heartbeat = interval(Duration::from_millis(100));
        let mut buffer = vec![0; 16 << 10];
        let give_up = Instant::now() + Duration::from_secs(60);
        loop {
            tokio::select! {
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
                _ = round.tick(), if !self.closing => self.round(),
                _ = heartbeat.tick(), if !self.closing && self.out.is_empty() => self.heartbeat(),
                () = sleep_until(give_up) => return,
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
            self.request(&request);
        }
        if let Some(code) = closed {
            write_close(&mut self.out, code, "");
            self.closing = true;
        }
    }

    fn request(&mut self, text: &str) {
        let request = match Asked::parse(text) {
            Ok(request) => request,
            Err(bad) => return self.control(&Control::error(bad.id, Code::BadRequest, bad.message, false)),
        };
        let (subscriptions, subscribes) = match request.command {
            Command::Subscribe { subscriptions, .. } => (subscriptions, true),
            Command::Unsubscribe { subscriptions } => (subscriptions, false),
            Command::Ping => return self.control(&Control::Pong { id: request.id, now_ns: now_ns() }),
            _ => return,
        };
        let mut results = Vec::new();
        let mut snapshots = Vec::new();
        for subscription in &subscriptions {
            let (channel, _) = subscription.options.clone().unwrap();
            for symbol in &subscription.symbols {
                results.push(AckResult::ok(channel.name(), symbol));
                for symbol in expand(symbol) {
                    if !subscribes {
                        self.pairs.remove(&(channel, symbol));
                    } else if channel.is_state() {
                        snapshots.push((channel, symbol));
                    } else {
                        self.pairs.entry((channel, symbol)).or_default();
                    }
                }
            }
        }
        self.control(&Control::ack(request.id, true, results));
        if !snapshots.is_empty() {
            self.offset += 1;
            let mut frame = Vec::new();
            for (channel, symbol) in snapshots {
                let position = self.position();
                let tail = Tail { snapshot: true, ..Tail::default() };
                event(&mut frame, channel, &symbol, position, None, &tail);
                self.pairs.insert((channel, symbol), Pair { last: Some(position), ..Pair::default() });
            }
            self.data(frame);
        }
    }

    /// One event on every pair, or what is told of those that had no room.
    fn round(&mut self) {
        self.rounds += 1;
        if self.fault == Fault::ThrowsOut && self.rounds > 10 {
            return self.throw_out();
        }
        let has_room = self.out.len() < Self::BACKLOG_BYTES;
        if !has_room && self.fault == Fault::CutsOff {
            self.out.truncate(0);
            return self.throw_out();
        }
        let mut frame = Vec::new();
        for ((channel, symbol), pair) in &mut self.pairs {
            self.offset += 1;
            let position = Position { epoch: 1, partition: 0, offset: self.offset };
            pair.events += 1;
            if !has_room {
                let (after, _, count) = pair.dropped.unwrap_or((pair.last, position, 0));
                pair.dropped = Some((after, position, count + 1));
                continue;
            }
            if let Some((after, upto, count)) = pair.dropped.take() {
                let gap = Gap { after, upto: Some(upto), count: Some(count), cause: GapCause::SlowConsumer };
                comma(&mut frame);
                gap.write(&mut frame, *channel, &json::string(symbol));
                pair.last = Some(upto);
            }
            let prev = pair.last.replace(position);
            if self.fault == Fault::Loses && pair.events == 5 {
                continue;
            }
            let send_ns = (self.fault != Fault::Unstamped).then(now_ns);
            event(&mut frame, *channel, symbol, position, send_ns, &Tail { prev, ..Tail::default() });
        }
        if !frame.is_empty() {
            self.data(frame);
        }
    }

    fn throw_out(&mut self) {
        self.control(&Control::error(None, Code::SlowConsumer, "too slow", true));
        write_close(&mut self.out, Code::SlowConsumer.number(), "slow_consumer");
        self.closing = true;
    }

    fn heartbeat(&mut self) {
        let next = Position { offset: self.offset + 1, ..self.position() };
        let control = Control::Heartbeat {
            now_ns: now_ns(),
            cursor: cursor::encode(&[next], &CursorKey::new(b"no key")),
            queued_bytes: 0,
            delay_ms: 0,
            feeds: Vec::new(),
        };
        // A session that still has gaps to tell of must not promise more.
        if self.pairs.values().all(|pair| pair.dropped.is_none()) {
            self.control(&control);
        }
    }

    fn position(&self) -> Position {
        Position { epoch: 1, partition: 0, offset: self.offset }
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

pub fn expand(symbol: &str) -> Vec<String> {
    match symbol.strip_suffix('*') {
        None => vec![symbol.to_owned()],
        Some(prefix) => (0..SYMBOLS).map(|n| format!("S{n:02}")).filter(|s| s.starts_with(prefix)).collect(),
    }
}

/// All symbols there are.
pub fn symbols() -> Vec<String> {
    expand("*")
}

fn comma(frame: &mut Vec<u8>) {
    if !frame.is_empty() {
        frame.push(b',');
    }
}

pub fn event(
    frame: &mut Vec<u8>,
    channel: Channel,
    symbol: &str,
    position: Position,
    send_ns: Option<i64>,
    tail: &Tail,
) {
    let number = |text: &str| Decimal::parse(text).unwrap();
    let body = match channel {
        Channel::Trades => Body::Trade(Trade {
            price: number("487.50"),
            size: number("100"),
            side: None,
            trade_id: None,
            venue: None,
            conditions: None,
        }),
        Channel::Quotes => Body::Quote(Quote {
            bid_price: number("487.50"),
            bid_size: number("300"),
            ask_price: number("487.55"),
            ask_size: number("100"),
            venue: None,
        }),
        Channel::Book => Body::Book(Book {
            bids: vec![(number("1.5"), number("2"))],
            asks: vec![(number("1.6"), number("3"))],
            snapshot: false,
        }),
        Channel::Status => Body::Status(Status { state: TradingState::Trading, reason: None }),
    };
    comma(frame);
    let meta = Meta { position, event_ns: now_ns(), ingest_ns: now_ns(), send_ns };
    write_head(frame, &json::string(symbol), &body, &meta);
    tail.write(frame);
}
