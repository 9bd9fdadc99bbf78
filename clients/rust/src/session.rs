//! What a client knows of the protocol, over all its sessions: messages and requests in, events and messages out. It neither
//! reads nor writes nor waits.

mod answers;
mod data;
mod skew;

use crate::chains::Chains;
use crate::event::{Asked as Request, Cause, Event, Fault, FaultCode, Gap, Slow, State, Symbol};
use crate::subscription::{Subscription, to_json};
use crate::wanted::{Name, Resume, Wanted};
use serde_json::{Value, json};
pub(crate) use skew::Skew;
use skew::Trips;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tickgate_protocol::command::Id;
use tickgate_protocol::control::{AUTH_REQUIRED, Control, FeedState, FeedStatus};
use tickgate_protocol::{Channel, Code};

/// Most requests of a user that wait for their answers: so a gateway's bound on requests is met now and then, not all the time.
const ASKED_MAX: usize = 64;
/// Most feeds whose states are remembered.
const FEEDS_MAX: usize = 256;
/// How long is waited after `rate_limited` that says nothing of it.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a user asks for.
#[derive(Debug, Clone)]
pub(crate) struct UserRequest {
    pub(crate) asked: Request,
    /// Where to go on.
    pub(crate) cursor: Option<Arc<str>>,
    pub(crate) subscriptions: Vec<Subscription>,
}

/// What became of what was taken in, for whoever reads and writes.
#[derive(Debug, Default)]
pub(crate) struct Out {
    pub(crate) events: Vec<Event>,
    /// The cursor that was kept last.
    pub(crate) cursor: Option<Arc<str>>,
    /// Messages to be sent.
    pub(crate) send: Vec<String>,
    /// A token is to be shown with [`Session::token`].
    pub(crate) wants_token: bool,
    /// [`Session::again`] is to be called after so long.
    pub(crate) again_after: Option<Duration>,
    /// A fatal error said when to come again.
    pub(crate) retry_after: Option<Duration>,
    /// Coming back would be of no use: why.
    pub(crate) give_up: Option<String>,
    pub(crate) counts: Counts,
}

/// What is counted before anything is handed out.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) duplicates: u64,
    pub(crate) unverified: u64,
    pub(crate) unannounced: u64,
    pub(crate) reconnects: u64,
    pub(crate) bad_frames: u64,
}

impl Out {
    /// The last error has ended the books of these symbols.
    fn ended(&mut self, symbols: Vec<Symbol>) {
        if let Some(Event::Error(fault)) = self.events.last_mut() {
            fault.ended = symbols;
        }
    }
}

/// A request that was not answered.
#[derive(Debug)]
struct Asked {
    id: i64,
    body: Value,
    kind: Kind,
    /// Whether the session is not live before its answer.
    is_opening: bool,
}

#[derive(Debug)]
enum Kind {
    Auth,
    User(UserRequest),
    Resume {
        names: Vec<Name>,
        cursor: Option<Arc<str>>,
    },
    /// The first half of a renewal.
    Release,
    Renew(Name),
    Set {
        heartbeat_ms: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// There is no session.
    #[default]
    Away,
    /// There is a connection.
    Greeting,
    /// The gateway waits for a token.
    Authenticating,
    /// Requests are taken.
    Open,
}

#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) out: Out,
    phase: Phase,
    is_live: bool,
    had_session: bool,
    wanted: Wanted,
    chains: Chains,
    cursor: Option<Arc<str>>,
    asked: VecDeque<Asked>,
    /// Requests that are to be sent once there is a session and room.
    waiting: VecDeque<UserRequest>,
    /// Requests that came too fast for the gateway.
    too_fast: Vec<(Value, Kind, bool)>,
    /// Names of which a reconnect awaits the replay, and with which request.
    awaited: HashMap<Name, i64>,
    feeds: HashMap<String, FeedState>,
    trips: Trips,
    last_id: i64,
    heartbeat_ms: u64,
    heartbeat_wish_ms: Option<u64>,
    has_token: bool,
}

impl Session {
    pub(crate) fn new(has_token: bool, heartbeat_wish_ms: Option<u64>) -> Self {
        Self { has_token, heartbeat_wish_ms, ..Self::default() }
    }

    /// There is a connection.
    pub(crate) fn begin(&mut self) {
        self.phase = Phase::Greeting;
        // It may be another gateway, with another clock.
        self.trips = Trips::default();
        self.out.counts.reconnects += u64::from(self.had_session);
    }

    /// The session has ended.
    pub(crate) fn lost(&mut self) {
        if self.phase == Phase::Open {
            self.chains.come_back();
            self.wanted.come_back();
        }
        self.phase = Phase::Away;
        self.is_live = false;
        self.awaited.clear();
        self.out.send.clear();
        (self.out.wants_token, self.out.again_after, self.out.retry_after) = (false, None, None);
        // What was not answered is asked for again, in the same order; what was resumed is anyway.
        let again = self.too_fast.drain(..).map(|(_, kind, _)| kind);
        let unanswered: Vec<_> = self.asked.drain(..).map(|asked| asked.kind).chain(again).collect();
        for kind in unanswered.into_iter().rev() {
            if let Kind::User(request) = kind {
                self.waiting.push_front(request);
            }
        }
    }

    /// Whether there was a session.
    pub(crate) fn had_session(&self) -> bool {
        self.had_session
    }

    /// Whether the greeting was taken, the token if there is one, and all that was asked for before was answered.
    pub(crate) fn is_live(&self) -> bool {
        self.is_live
    }

    /// Whether there is a session, so that heartbeats come.
    pub(crate) fn is_greeted(&self) -> bool {
        !matches!(self.phase, Phase::Away | Phase::Greeting)
    }

    /// How long nothing may come before it is told; `None` where there are no heartbeats.
    pub(crate) fn silence(&self) -> Option<Duration> {
        (self.heartbeat_ms > 0).then(|| Duration::from_millis(self.heartbeat_ms.saturating_mul(2) + 1000))
    }

    /// Whether requests are taken.
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// How far the gateway's clock is from the one here; `None` until this session's gateway has said what time it is.
    pub(crate) fn skew(&self) -> Option<Skew> {
        self.trips.best()
    }

    /// Asks the gateway what time it is: before anything else that is to be sent, whose work would make the answer late.
    pub(crate) fn ping(&mut self, now_ns: i64) {
        self.last_id += 1;
        self.trips.ask(self.last_id, now_ns);
        self.out.send.insert(0, json!({"op": "ping", "id": self.last_id}).to_string());
    }

    /// How many requests wait to be sent.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Its user asks for something.
    pub(crate) fn ask(&mut self, request: UserRequest) {
        self.waiting.push_back(request);
        if self.phase == Phase::Open {
            self.pump(false);
        }
    }

    /// A token that was wanted.
    pub(crate) fn token(&mut self, token: &str) {
        if self.is_greeted() {
            let is_opening = self.phase == Phase::Authenticating;
            // Not kept: what came too fast is asked for anew.
            self.send(json!({"op": "auth", "token": token}), Kind::Auth, is_opening);
        }
    }

    /// The time has come for what came too fast.
    pub(crate) fn again(&mut self) {
        for (body, kind, is_opening) in std::mem::take(&mut self.too_fast) {
            match kind {
                Kind::Auth => self.out.wants_token = true,
                kind => self.send(body, kind, is_opening),
            }
        }
    }

    /// A text message came.
    pub(crate) fn message(&mut self, text: &[u8], received_ns: i64) {
        let taken = match text.first() {
            Some(b'{') => match serde_json::from_slice::<Control>(text) {
                Ok(control) => {
                    self.control(control, received_ns);
                    Ok(())
                }
                Err(error) => Err(format!("a control message that cannot be read: {error}")),
            },
            Some(b'[') => self.data(text, received_ns),
            _ => Err("a message that is neither an object nor an array".to_owned()),
        };
        if let Err(what) = taken {
            self.bad_frame(&what);
        }
    }

    /// Something came that cannot be read. Nothing of it was taken.
    pub(crate) fn bad_frame(&mut self, what: &str) {
        self.out.counts.bad_frames += 1;
        let hint = format!("{what}. Nothing of it was taken: is this a Tickgate gateway of this version?");
        self.out.events.push(Event::Error(Fault::new(FaultCode::BadFrame, None, hint, false)));
    }

    fn control(&mut self, control: Control, received_ns: i64) {
        match control {
            Control::Hello { heartbeat_ms, auth, .. } => {
                if self.phase == Phase::Greeting {
                    self.greeted(heartbeat_ms, &auth);
                }
            }
            Control::Ack { id, ok, results, .. } => {
                if let Some(asked) = self.answered(id.as_ref()) {
                    self.acknowledged(asked, ok, results);
                    self.settle();
                    self.pump(false);
                }
            }
            Control::Error { id, code, message, fatal, retry_after_ms, cursor, .. } => {
                if let Some(cursor) = cursor {
                    self.keep_cursor(cursor);
                }
                self.failed(id, code, &message, fatal, retry_after_ms.map(Duration::from_millis));
                self.settle();
            }
            Control::Heartbeat { cursor, feeds, .. } => {
                self.keep_cursor(cursor);
                feeds.into_iter().for_each(|feed| self.feed(feed));
            }
            Control::Slow { delay_ms, queued_bytes, limit_bytes, action } => {
                self.out.events.push(Event::Slow(Slow { delay_ms, queued_bytes, limit_bytes, action }));
            }
            Control::ReplayDone { channel, symbol, seq, .. } => self.replayed(channel, symbol.into(), seq),
            Control::Goaway { reason, close_in_ms, cursor } => {
                self.keep_cursor(cursor);
                self.out.events.push(Event::Goaway { reason, close_in: Duration::from_millis(close_in_ms) });
            }
            Control::Pong { id: Some(Id::Number(id)), now_ns, .. } => {
                self.trips.answered(id, received_ns, now_ns)
            }
            Control::Pong { .. } | Control::List { .. } => {}
        }
    }

    fn feed(&mut self, feed: FeedStatus) {
        let is_known = self.feeds.get(&feed.name) == Some(&feed.state);
        if !is_known && (self.feeds.len() < FEEDS_MAX || self.feeds.contains_key(&feed.name)) {
            self.feeds.insert(feed.name.clone(), feed.state);
            self.out.events.push(Event::Feed { name: feed.name, state: feed.state });
        }
    }

    /// A cursor that overtakes the answer to what was resumed is not to be kept.
    fn keep_cursor(&mut self, cursor: String) {
        let is_resume = |kind: &Kind| matches!(kind, Kind::Resume { .. });
        let is_early = self.asked.iter().any(|asked| is_resume(&asked.kind))
            || self.too_fast.iter().any(|(_, kind, _)| is_resume(kind));
        if self.phase == Phase::Open && !is_early {
            self.take_cursor(cursor.into());
        }
    }

    fn take_cursor(&mut self, cursor: Arc<str>) {
        self.out.cursor = Some(cursor.clone());
        self.cursor = Some(cursor);
        self.wanted.covered();
    }

    fn greeted(&mut self, heartbeat_ms: u64, auth: &str) {
        self.heartbeat_ms = heartbeat_ms;
        if auth != AUTH_REQUIRED {
            return self.open();
        }
        self.phase = Phase::Authenticating;
        if self.has_token {
            self.out.wants_token = true;
        } else {
            let code = FaultCode::Protocol(Code::Unauthenticated);
            let hint = "the gateway asks for a token: give one with Builder::token or Builder::token_with"
                .to_owned();
            self.out.give_up = Some(hint.clone());
            self.out.events.push(Event::Error(Fault::new(code, None, hint, true)));
        }
    }

    /// Requests are taken: what was held is asked for again, and then what waited.
    fn open(&mut self) {
        self.phase = Phase::Open;
        self.had_session = true;
        if let Some(heartbeat_ms) = self.heartbeat_wish_ms {
            self.send(json!({"op": "set", "heartbeat_ms": heartbeat_ms}), Kind::Set { heartbeat_ms }, true);
        }
        if !self.wanted.is_empty() {
            self.out.events.push(Event::State(State::Resyncing));
            let requests = self.wanted.resume(&mut self.chains, self.cursor.as_ref());
            requests.into_iter().for_each(|request| self.resume(request));
        }
        self.pump(true);
        self.settle();
    }

    fn resume(&mut self, request: Resume) {
        let Resume { subscriptions, cursor, names } = request;
        let mut body = json!({"op": "subscribe", "subscriptions": subscriptions});
        if let Some(cursor) = &cursor {
            body["cursor"] = Value::from(&**cursor);
        }
        let id = self.last_id + 1;
        for (subscription, name) in subscriptions.iter().cycle().zip(&names) {
            if cursor.is_none() && subscription.get("from").is_none() {
                // It begins anew, and nobody knows what of it is missing.
                let (channel, symbol) = name.clone();
                let Self { chains, wanted, .. } = self;
                let spoilt = match channel {
                    Channel::Book => {
                        let depth = wanted.depth(channel, &symbol);
                        chains.begin_anew(&symbol, depth, |its| wanted.is_its(channel, &symbol, its))
                    }
                    _ => Vec::new(),
                };
                let gap = Gap { spoilt, ..Gap::new(channel, symbol.clone(), Cause::Unannounced) };
                self.out.events.push(Event::Gap(gap));
                let held = self.wanted.get_mut(channel, &symbol);
                if held.is_some_and(|held| std::mem::take(&mut held.owes_done)) {
                    // Nothing more comes of its past, and whoever waits for that is not to wait for ever.
                    self.out.events.push(Event::ReplayDone { channel, symbol, seq: None });
                }
            } else if self.wanted.get_mut(name.0, &name.1).is_some_and(|held| !held.is_past()) {
                self.awaited.insert(name.clone(), id);
            }
        }
        self.send(body, Kind::Resume { names, cursor }, true);
    }

    /// Sends what waits, as far as there is room.
    fn pump(&mut self, is_opening: bool) {
        while self.phase == Phase::Open && self.asked.len() < ASKED_MAX {
            let Some(request) = self.waiting.pop_front() else { break };
            let json = |s: &Subscription| {
                let symbols: Vec<&str> = s.symbols.iter().map(String::as_str).collect();
                match request.asked {
                    Request::Subscribe => to_json(s.channel, &symbols, s.options, s.begin),
                    Request::Unsubscribe => to_json(s.channel, &symbols, Default::default(), None),
                }
            };
            let subscriptions: Vec<Value> = request.subscriptions.iter().map(json).collect();
            let op = if request.asked == Request::Subscribe { "subscribe" } else { "unsubscribe" };
            let mut body = json!({"op": op, "subscriptions": subscriptions});
            if let Some(cursor) = &request.cursor {
                body["cursor"] = Value::from(&**cursor);
            }
            self.send(body, Kind::User(request), is_opening);
        }
    }

    fn send(&mut self, mut body: Value, kind: Kind, is_opening: bool) {
        self.last_id += 1;
        let id = self.last_id;
        // A replay that is asked for once more goes by its new number.
        if let (Kind::Resume { names, .. }, Some(before)) = (&kind, body["id"].as_i64()) {
            for name in names {
                self.awaited.entry(name.clone()).and_modify(|request| {
                    if *request == before {
                        *request = id;
                    }
                });
            }
        }
        body["id"] = id.into();
        self.out.send.push(body.to_string());
        if matches!(kind, Kind::Auth) {
            body = Value::Null;
        }
        self.asked.push_back(Asked { id, body, kind, is_opening });
    }

    fn answered(&mut self, id: Option<&Id>) -> Option<Asked> {
        let Some(Id::Number(id)) = id else { return None };
        let index = self.asked.iter().position(|asked| asked.id == *id)?;
        self.asked.remove(index)
    }

    /// Whether all that it takes to be live has come.
    fn settle(&mut self) {
        let is_opening = self.asked.iter().any(|asked| asked.is_opening)
            || self.too_fast.iter().any(|(_, _, is_opening)| *is_opening);
        if self.phase == Phase::Open && !self.is_live && !is_opening && self.awaited.is_empty() {
            self.is_live = true;
            self.out.events.push(Event::State(State::Live));
            for symbol in self.chains.broken("*") {
                self.renew(&symbol);
            }
        }
    }
}

#[cfg(test)]
mod tests;
