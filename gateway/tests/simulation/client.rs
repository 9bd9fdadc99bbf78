//! A client: what it wants, what it hears, and how it comes back.

use crate::INFLATED;
use crate::frame::{DEFLATED, parse};
use crate::wire::Pipe;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tickgate_checker::tally::Tally;
use tickgate_checker::transcript::{ClientTranscript, SessionTranscript, Start};
use tickgate_checker::verify::{Asked, SessionVerifier};
use tickgate_gateway::access::rights::Rights;
use tickgate_gateway::clock;
use tickgate_protocol::control::Control;
use tickgate_protocol::deflate::{Deflater, Inflater, WINDOW_BITS};
use tickgate_protocol::{Channel, Position, cursor};

/// What a compressed message begins with.
const DEFLATED_TEXT: u8 = DEFLATED | 1;
/// The longest message that a client expects.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

thread_local! {
    /// What clients compress and expand by: no message has anything to do with another.
    static DEFLATER: RefCell<Deflater> = RefCell::new(Deflater::new(1, WINDOW_BITS));
    static INFLATER: RefCell<Inflater> = RefCell::default();
}

/// One subscription.
#[derive(Debug, Clone)]
pub struct Wish {
    pub channel: Channel,
    /// A symbol or a pattern.
    pub symbol: &'static str,
    pub on_slow: &'static str,
    /// At most one update in so many milliseconds; 0 for all.
    pub conflate_ms: u32,
}

/// How it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Fresh,
    Cursor,
    Seq,
}

/// A connection of it.
pub struct Session {
    pub pipe: Rc<RefCell<Pipe>>,
    pub gateway: usize,
    transcript: SessionTranscript,
    verifier: SessionVerifier,
    /// Bytes of a frame of which not all came yet.
    bytes: Vec<u8>,
    /// Whether messages may be compressed.
    is_deflated: bool,
    pub is_held: bool,
    is_closed: bool,
}

pub struct Client {
    pub name: usize,
    pub wishes: Vec<Wish>,
    /// Bytes that it takes at a time.
    pub takes: usize,
    pub life: ClientTranscript,
    pub tally: Tally,
    pub session: Option<Session>,
    /// What it would come back with.
    cursor: Option<String>,
    last: BTreeMap<(Channel, String), Position>,
    /// Subscriptions that a replay brought up to date.
    pub replays_done: u64,
    /// What it may see; `None` is everything.
    pub rights: Option<Arc<Rights>>,
}

impl Client {
    pub fn new(name: usize, wishes: Vec<Wish>, takes: usize, rights: Option<Arc<Rights>>) -> Self {
        Self {
            rights,
            name,
            wishes,
            takes,
            life: ClientTranscript::default(),
            tally: Tally::default(),
            session: None,
            cursor: None,
            last: BTreeMap::new(),
            replays_done: 0,
        }
    }

    /// It is connected, and asks for what it wants.
    pub fn begin(&mut self, gateway: usize, pipe: Rc<RefCell<Pipe>>, how: How, is_deflated: bool) {
        let (request, mut transcript) = self.request(how);
        // A gateway that is behind gives the newest states in the order in which it began to hold them back.
        transcript.is_conflated = true;
        for wish in self.wishes.iter().filter(|wish| wish.conflate_ms > 0) {
            transcript.conflate(wish.channel, wish.symbol);
        }
        trace!("  client {} asks gateway {gateway} for {request}", self.name);
        let mut verifier = SessionVerifier::default();
        verifier.sent(1, Asked::Subscribe);
        let text = request.to_string();
        let deflated = if is_deflated { deflate(text.as_bytes()) } else { None };
        pipe.borrow_mut().send(&match deflated {
            Some(deflated) => masked(DEFLATED_TEXT, &deflated),
            None => masked(1, text.as_bytes()),
        });
        let (bytes, is_held, is_closed) = (Vec::new(), false, false);
        self.session =
            Some(Session { pipe, gateway, transcript, verifier, bytes, is_deflated, is_held, is_closed });
    }

    fn request(&mut self, how: How) -> (Value, SessionTranscript) {
        let is_exact = self.wishes.iter().all(|wish| !wish.symbol.ends_with('*'));
        let subscriptions: Vec<Value> = self.wishes.iter().map(Wish::to_json).collect();
        let mut request = json!({"op": "subscribe", "id": 1, "subscriptions": subscriptions});
        // A time may be from before it began: what it is then owed of that, the judge does not know.
        let is_timed = |text: &String| cursor::is_timed_unverified(text).expect("a cursor");
        if !self.last.is_empty() {
            self.cursor = self.cursor.take().filter(|text| !is_timed(text));
        }
        if let (How::Cursor, Some(text)) = (how, &self.cursor) {
            let next = cursor::given_unverified(text).expect("a cursor");
            let last = next
                .into_iter()
                .filter_map(|next| next.offset.checked_sub(1).map(|offset| Position { offset, ..next }));
            request["cursor"] = json!(text);
            return (request, SessionTranscript::new(Start::cursor(&last.collect::<Vec<_>>())));
        }
        if how == How::Seq && is_exact && !self.last.is_empty() {
            let mut transcript = SessionTranscript::new(Start::Seq);
            for (at, wish) in self.wishes.iter().enumerate() {
                if let Some(seq) = self.last.get(&(wish.channel, wish.symbol.to_owned())) {
                    request["subscriptions"][at]["from"] = json!({"seq": seq});
                    transcript.resume(wish.channel, wish.symbol, *seq);
                }
            }
            return (request, transcript);
        }
        self.cursor = None;
        self.last.clear();
        (request, SessionTranscript::new(Start::fresh(None)))
    }

    /// It reads what its line has, at most so many bytes. `ends` is where the log stands.
    pub fn read(&mut self, bytes_max: usize, ends: impl Fn() -> Vec<Position>) {
        let Some(session) = &mut self.session else { return };
        let taken = session.pipe.borrow_mut().take(bytes_max);
        session.bytes.extend_from_slice(&taken);
        let all = std::mem::take(&mut session.bytes);
        let mut at = 0;
        while let Some((opcode, payload, used)) = parse(&all[at..]) {
            at += used;
            assert!(!session.is_closed, "something behind a close frame");
            let inflated = (opcode == DEFLATED_TEXT).then(|| {
                assert!(session.is_deflated, "nobody agreed on compression");
                inflate(payload)
            });
            let payload = inflated.as_deref().unwrap_or(payload);
            match opcode {
                1 | DEFLATED_TEXT => {
                    let text = std::str::from_utf8(payload).expect("UTF-8");
                    trace!("    client {} hears {}", self.name, &text[..text.len().min(400)]);
                    self.rights.iter().for_each(|rights| sees_nothing_else(rights, text));
                    let now_ns = clock::wall_ns();
                    let control = session.verifier.message(payload, now_ns, &mut self.tally, |_, _| {});
                    session.transcript.text(now_ns, text);
                    match control {
                        Some(Control::Ack { ok, .. }) => {
                            assert!(ok, "{text}");
                            session.is_held = true;
                            if let Start::Fresh { behind: None } = session.transcript.start {
                                session.transcript.start = Start::fresh(Some(&ends()));
                            }
                        }
                        Some(Control::ReplayDone { .. }) => self.replays_done += 1,
                        _ => {}
                    }
                }
                8 => {
                    trace!("    client {} is closed: {}", self.name, String::from_utf8_lossy(&payload[2..]));
                    assert_ne!(payload[..2], 1011u16.to_be_bytes(), "its turn panicked");
                    session.is_closed = true;
                    session.pipe.borrow_mut().send(&masked(8, &payload[..2]));
                    session.pipe.borrow_mut().hang_up();
                }
                other => panic!("opcode {other}"),
            }
        }
        let session = self.session.as_mut().expect("it was there");
        session.bytes = all[at..].to_vec();
        let is_over = session.is_closed || session.pipe.borrow().is_over();
        assert_eq!(self.tally.violations(), 0, "client {}: {:?}", self.name, self.tally.samples);
        assert!(self.tally.refused.is_empty(), "client {}: {:?}", self.name, self.tally.refused);
        if is_over {
            self.end(false);
        }
    }

    /// Its session is over.
    pub fn end(&mut self, is_settled: bool) {
        let Some(session) = self.session.take() else { return };
        trace!("  client {} has no session any more", self.name);
        if let Some(cursor) = session.transcript.cursor() {
            self.cursor = Some(cursor.to_owned());
        }
        for (channel, symbol, seq) in session.transcript.last() {
            self.last.insert((channel, symbol.to_owned()), seq);
        }
        // A session that was never acknowledged may have been given nothing.
        self.life.end(session.transcript, is_settled);
    }
}

impl Wish {
    fn to_json(&self) -> Value {
        let Self { channel, symbol, on_slow, conflate_ms } = self;
        let mut json = json!({"channel": channel.name(), "symbols": [symbol], "on_slow": on_slow});
        if *conflate_ms > 0 {
            json["conflate_ms"] = json!(conflate_ms);
        }
        json
    }
}

/// Nothing is told of a symbol that the rights do not have: no event, and no gap either.
fn sees_nothing_else(rights: &Rights, text: &str) {
    if !text.starts_with('[') {
        return;
    }
    let events: Vec<Value> = serde_json::from_str(text).expect("events");
    for event in &events {
        let (kind, symbol) =
            (event["type"].as_str().expect("a type"), event["symbol"].as_str().expect("a symbol"));
        let channel = match kind {
            "gap" => Channel::parse(event["channel"].as_str().expect("a channel")),
            kind => Channel::of_event_type(kind),
        };
        let channel = channel.expect("a channel that there is");
        assert!(rights.may(channel, symbol), "{event} is not for {rights:?}");
    }
}

/// A message compressed, if that makes it smaller.
fn deflate(message: &[u8]) -> Option<Vec<u8>> {
    DEFLATER.with_borrow_mut(|deflater| deflater.deflate(message).map(<[u8]>::to_vec))
}

fn inflate(payload: &[u8]) -> Vec<u8> {
    INFLATED.fetch_add(1, Ordering::Relaxed);
    INFLATER.with_borrow_mut(|inflater| {
        inflater.inflate(payload, MESSAGE_BYTES_MAX).expect("it can be read").into_owned()
    })
}

/// A client's frame, masked as it must be.
fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80 | opcode];
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len => {
            out.push(0x80 | 126);
            out.extend_from_slice(&u16::try_from(len).expect("a short request").to_be_bytes());
        }
    }
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    out.extend_from_slice(&mask);
    out.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    out
}
