//! What clients ask for.

use super::memory::Reservation;
use super::socket::Socket;
use super::{Shard, answer, entitle, now_us, replay_count, timers::Due};
use crate::clock;
use crate::event::Stream;
use crate::feed::request::{Request as Ask, Resume, SessionKey, Target};
use crate::log_limit::Verdict;
use crate::session::throttle::{Bucket, Rates};
use crate::session::{Life, Named, PendingSubscribe, Wanted, want};
use crate::spans::{self, session_line};
use crate::stats::{CloseReason, ReplayRefusal};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use tickgate_protocol::command::{
    Command, From, Id, Past, Request, SubscribeOptions, Subscription, is_symbol_or_pattern,
};
use tickgate_protocol::control::{Control, ListEntry, write_ack};
use tickgate_protocol::deflate::Inflater;
use tickgate_protocol::frame::{Message, Violation};
use tickgate_protocol::{Channel, Code, ConflateMs, Depth, FlushMs};

/// Shortest interval of heartbeats that a client may ask for, in milliseconds.
const HEARTBEAT_MS_MIN: u64 = 100;
/// Longest interval of heartbeats, in milliseconds.
const HEARTBEAT_MS_MAX: u64 = 60_000;
/// Smallest rate that a client may ask for, in bytes per second: one event must fit.
const BYTES_PER_S_MIN: u64 = 1_024;
/// Symbols that a request may name however few a session may hold: each is then told why it is one too many.
const NAMES_AT_LEAST: usize = 1_000;
/// Seconds' worth of requests over its rate before a session ends.
const REQUEST_DEBT_S: f64 = 5.0;
/// How many seconds' worth of requests an `auth` is.
const AUTH_COST_S: f64 = 0.25;

impl<S: Socket> Shard<S> {
    /// Takes bytes that a client sent.
    pub(super) fn on_bytes(&mut self, key: SessionKey, bytes: &mut [u8]) {
        let bounds = self.reading;
        let now_ms = clock::mono_ms();
        let Some(session) = self.session(key) else { return };
        if session.life != Life::Open {
            return;
        }
        session.heard_ms = now_ms;
        let mut decoder = session.decoder.take().unwrap_or_default();
        let is_deflated = session.is_deflated;
        let mut inflater = is_deflated.then(|| self.lend_inflater());
        let mut is_another = false;
        let result = decoder.feed(bytes, &bounds, inflater.as_deref_mut(), |message| {
            is_another |= matches!(message, Message::Text(_) | Message::Binary(_));
            self.on_message(key, message);
        });
        if let Some(inflater) = inflater {
            self.return_inflater(inflater);
        }
        self.time_message(key, now_ms, decoder.is_idle(), is_another);
        if let Some(session) = self.open_session(key).filter(|_| !decoder.is_idle()) {
            session.decoder = Some(decoder);
        }
        if let Err(violation) = result {
            self.on_violation(key, violation);
        }
        self.account_reading(key);
    }

    /// What expands messages: lent, as one serves all; after a panic the next makes another.
    pub fn lend_inflater(&mut self) -> Box<Inflater> {
        self.inflater.take().unwrap_or_default()
    }

    /// Takes it back.
    pub fn return_inflater(&mut self, inflater: Box<Inflater>) {
        self.inflater = Some(inflater);
    }

    fn on_violation(&mut self, key: SessionKey, violation: Violation) {
        self.totals.violations[violation as usize] += 1;
        let reason = match violation {
            Violation::TooBig | Violation::Fragments => CloseReason::TooBig,
            _ => CloseReason::Protocol,
        };
        self.close_session(key, violation.close_code(), &violation.to_string(), None, reason);
    }

    fn on_message(&mut self, key: SessionKey, message: Message<'_>) {
        #[cfg(debug_assertions)]
        if self.is_echo && self.echo(key, &message) {
            return;
        }
        let Some(session) = self.open_session(key) else { return };
        match message {
            Message::Text(text) if session.pending.is_some() => {
                if self.admit(key, text)
                    && let Some(pending) = self.open_session(key).and_then(|session| session.pending.as_mut())
                {
                    pending.deferred.push_back(text.into());
                }
            }
            Message::Text(text) => {
                if self.admit(key, text) {
                    self.on_request(key, text);
                }
            }
            Message::Binary(_) => {
                if !self.admit(key, "") {
                    return;
                }
                let error =
                    Control::error(None, Code::BadRequest, "requests are JSON text, not binary", false);
                self.totals.request_errors += 1;
                self.tell(key, &error);
            }
            Message::Ping(payload) => {
                if self.admit_ping(key) {
                    self.on_ping(key, payload);
                }
            }
            Message::Pong(_) => _ = self.admit_ping(key),
            Message::Close(code) => {
                // RFC 6455 5.5.1: the same code back.
                self.close_session(key, code.unwrap_or(1000), "", None, CloseReason::Client);
            }
        }
    }

    /// Answers a ping. There is room for one answer: that to the ping before goes first if the socket takes it.
    fn on_ping(&mut self, key: SessionKey, payload: &[u8]) {
        let Some(session) = self.open_session(key) else { return };
        if session.outbox.has_pong() && !session.outbox.is_blocked() {
            self.flush_session(key.slot, false);
        }
        let Some(session) = self.open_session(key) else { return };
        session.outbox.pong(payload);
        self.touch(key.slot);
    }

    /// Whether a request is within the session's rate; answers it if not.
    fn admit(&mut self, key: SessionKey, text: &str) -> bool {
        self.totals.requests += 1;
        let Some(session) = self.open_session(key) else { return false };
        let tokens = session.requests.tokens(clock::mono_ms());
        session.requests.take(1.0);
        if tokens >= 1.0 {
            return true;
        }
        let retry_after_ms = Some(session.requests.wait_ms());
        let per_s = session.requests.per_s();
        let is_fatal = tokens < -REQUEST_DEBT_S * per_s;
        let message = format!("at most {per_s} requests per second");
        let error = Control::Error {
            id: Request::id_of(text),
            code: Code::RateLimited,
            number: Code::RateLimited.number(),
            message,
            fatal: is_fatal,
            retry_after_ms,
            cursor: None,
        };
        self.totals.request_errors += 1;
        if is_fatal {
            let words = Some(error.to_json().into_bytes());
            let (number, name) = (Code::RateLimited.number(), Code::RateLimited.name());
            self.close_session(key, number, name, words, CloseReason::RateLimited);
        } else {
            self.tell(key, &error);
        }
        false
    }

    fn on_request(&mut self, key: SessionKey, text: &str) {
        #[cfg(debug_assertions)]
        self.panic_on_request(key, text);
        match Request::parse(text) {
            Err(bad) => {
                self.totals.request_errors += 1;
                self.tell(key, &Control::error(bad.id, Code::BadRequest, bad.message, false));
            }
            Ok(Request { id, command }) if command.names() > self.names_max() => {
                self.totals.request_errors += 1;
                let (names, most) = (command.names(), self.names_max());
                let message = format!("it names {names} symbols: at most {most} in one request");
                self.tell(key, &Control::error(id, Code::BadRequest, message, false));
            }
            Ok(Request { id, command }) => match command {
                Command::Subscribe { subscriptions, cursor } => {
                    self.subscribe(key, id, subscriptions, cursor.as_deref())
                }
                Command::Unsubscribe { subscriptions } => self.unsubscribe(key, id, &subscriptions),
                Command::Set { heartbeat_ms, max_bytes_per_s, flush_ms } => {
                    self.set(key, id, heartbeat_ms, max_bytes_per_s, flush_ms)
                }
                Command::List => self.list(key, id),
                Command::Ping => self.tell(key, &Control::Pong { id, now_ns: clock::wall_ns() }),
                Command::Auth { token } => {
                    self.take_more_for_auth(key);
                    self.authenticate_again(key, id, &token.0);
                }
            },
        }
    }

    /// An `auth` takes more of a session's rate than the one request that it is: a signature is checked for it, and all that
    /// the session holds is held against the new rights.
    fn take_more_for_auth(&mut self, key: SessionKey) {
        if let Some(session) = self.open_session(key) {
            let more = session.requests.per_s() * AUTH_COST_S - 1.0;
            session.requests.take(more.max(0.0));
        }
    }

    /// Symbols that one request may name: each has a verdict in the answer, which must stay a message that clients take.
    fn names_max(&self) -> usize {
        self.shared.config.limits.subscriptions_max.max(NAMES_AT_LEAST)
    }

    /// Handles what came behind a subscribe that is now answered.
    pub(super) fn resume_requests(&mut self, key: SessionKey, mut deferred: VecDeque<Box<str>>) {
        while let Some(session) = self.open_session(key) {
            // One of them may wait for the feed again: the others wait behind it.
            if let Some(pending) = &mut session.pending {
                pending.deferred = deferred;
                break;
            }
            let Some(text) = deferred.pop_front() else { break };
            self.on_request(key, &text);
        }
        if let Some(session) = self.session(key) {
            session.wake();
        }
        self.account_reading(key);
    }

    fn subscribe(
        &mut self,
        key: SessionKey,
        id: Option<Id>,
        subscriptions: Vec<Subscription>,
        cursor: Option<&str>,
    ) {
        let keys = self.shared.cursor_keys.now();
        let cursor = match cursor.map(|text| keys.read(text)).transpose() {
            Ok(cursor) => cursor.map(|cursor| Resume::Cursor(cursor.into())),
            Err(error) => {
                self.totals.request_errors += 1;
                self.refuse_resume(key, error.into());
                let message = format!("`cursor`: {error}: subscribe without it");
                return self.tell(key, &Control::error(id, Code::BadRequest, message, false));
            }
        };
        let window_ns = i64::try_from(self.shared.config.replay.window_s)
            .unwrap_or(i64::MAX)
            .saturating_mul(1_000_000_000);
        // What is the present of its tier.
        let now_ns = clock::wall_ns() - self.shared.tier.delay_ns();
        let oldest_ns = if window_ns == 0 { i64::MIN } else { now_ns.saturating_sub(window_ns) };
        let is_read_again = self.shared.read_again.is_some();
        let is_busy = self.memory.is_half_read();
        let mut subscriptions_max = self.shared.config.limits.subscriptions_max;
        let total_max = self.shared.config.limits.subscriptions_total_max;
        let replays_max = self.shared.config.replay.per_session_max;
        let reservation = Reservation::new(self.shared.subscriptions.clone());
        let (shard, replay_counts) = (self.id, self.replay_counts.clone());
        let Some((session, table)) = self.open_session_and_table(key) else { return };
        let rights = session.guest.pass.as_ref().map(|pass| pass.identity.rights.clone());
        if let Some(most) = rights.as_ref().and_then(|rights| rights.max_subscriptions) {
            subscriptions_max = subscriptions_max.min(most);
        }
        let mut forbidden = 0;
        let names: usize = subscriptions.iter().map(|subscription| subscription.symbols.len()).sum();
        let mut pending = PendingSubscribe {
            id,
            named: Vec::with_capacity(names),
            wants: Vec::new(),
            resumes: Vec::new(),
            reservation,
            deferred: VecDeque::new(),
            span: spans::subscribe(|| session.name(shard), shard, names),
        };
        let mut new = 0;
        // What the request named already, and its place in `wants` unless it is held just so.
        let mut earlier: FxHashMap<(Channel, Target), Option<usize>> = FxHashMap::default();
        earlier.reserve(names);
        let mut wants = Vec::with_capacity(names);
        for Subscription { channel_name, symbols, options } in subscriptions {
            let is_several = symbols.len() > 1;
            for symbol in symbols {
                let mut named = Named::ok(channel_name.clone(), &symbol);
                match &options {
                    Err(fault) => named.refuse(fault.code, fault.message.clone()),
                    Ok(_) if !is_symbol_or_pattern(&symbol) => {
                        let message = "1 to 64 bytes, no control characters, `*` only at the end";
                        named.refuse(Code::BadRequest, message);
                    }
                    Ok((channel, _)) if !entitle::may_hold(rights.as_deref(), *channel, &symbol) => {
                        forbidden += 1;
                        named.refuse(Code::Forbidden, entitle::refusal(&symbol));
                    }
                    Ok((_, SubscribeOptions { from: Some(From::Seq(_)), .. })) if symbol.ends_with('*') => {
                        let message =
                            "`from.seq` is the position of one symbol: resume patterns with `cursor`";
                        named.refuse(Code::BadRequest, message);
                    }
                    Ok((_, SubscribeOptions { from: Some(From::Seq(_)), .. })) if is_several => {
                        let message = "`from.seq` is the position of one symbol: name each in a subscription of its own, \
                                       or resume with `cursor`";
                        named.refuse(Code::BadRequest, message);
                    }
                    Ok((_, SubscribeOptions { from: Some(From::Seq(after)), .. }))
                        if i64::try_from(after.offset).is_err() =>
                    {
                        let message =
                            "`from.seq` is no position that a record can have: use a `seq` that you got";
                        named.refuse(Code::BadRequest, message);
                    }
                    Ok((_, SubscribeOptions { from: Some(From::Past(_)), .. })) if !is_read_again => {
                        replay_counts.refuse(ReplayRefusal::Off, 1);
                        named.refuse(
                            Code::BadRequest,
                            "this gateway reads nothing from Kafka again (replay.consumers_max = 0): leave out `from`",
                        );
                    }
                    Ok((_, SubscribeOptions { from: Some(From::Past(_)), .. })) if is_busy => {
                        replay_counts.refuse(ReplayRefusal::Memory, 1);
                        named.refuse(Code::RateLimited, "too much is being replayed: try again later");
                    }
                    Ok((_, SubscribeOptions { from: Some(From::Past(past)), .. }))
                        if past.since_ns < oldest_ns =>
                    {
                        replay_counts.refuse(ReplayRefusal::Window, 1);
                        let message = "further back than this gateway allows: `limits.replay_s` of `hello` says how far";
                        named.refuse(Code::ReplayAgedOut, message);
                    }
                    Ok((channel, options)) => {
                        let (channel, target) = (*channel, Target::of(&symbol));
                        let stream = Stream::new(channel, options.depth, options.conflate);
                        let held = session.subs.find(table, channel, &target);
                        let before = earlier.get(&(channel, target.clone())).copied();
                        let is_new = held.is_none() && before.is_none();
                        if is_new && session.subs.len() + new >= subscriptions_max {
                            let message =
                                format!("a session holds at most {subscriptions_max} subscriptions");
                            named.refuse(Code::SubscriptionLimit, message);
                        } else if is_new && !pending.reservation.take(total_max) {
                            let message =
                                format!("the gateway is full: all sessions hold {total_max} subscriptions");
                            named.refuse(Code::SubscriptionLimit, message);
                        } else {
                            new += usize::from(is_new);
                            // Named twice in one request, the last one counts.
                            if let Some(place) = before.flatten() {
                                wants[place] = None;
                            }
                            let is_same = held.is_some_and(|held| {
                                // What is being brought up to date goes on with that.
                                let is_held_back = answer::owes(session.replays.as_deref(), table, held);
                                held.is_same(table, Stream { is_held_back, ..stream }, options)
                            });
                            let place = (!is_same || cursor.is_some()).then(|| {
                                let (at, options) = (pending.named.len(), *options);
                                wants.push(Some(Wanted { at, target: target.clone(), channel, options }));
                                wants.len() - 1
                            });
                            earlier.insert((channel, target), place);
                        }
                    }
                }
                pending.named.push(named);
            }
        }
        drop(earlier);
        self.totals.forbidden += forbidden;
        self.audit_subscribe(key, &pending.named);
        let Some(session) = self.open_session(key) else { return };
        pending.wants = wants.into_iter().flatten().collect();
        if pending.wants.is_empty() {
            let is_refused = pending.named.iter().any(|named| named.fault.is_some());
            self.totals.request_errors += u64::from(is_refused);
            return self.acknowledge(key, pending.id.as_ref(), &pending.named);
        }
        let asked = |wanted: &Wanted| {
            let resume = match wanted.options.from {
                Some(From::Seq(after)) => Some(Resume::After(after)),
                Some(From::TimeNs(ns)) if ns < oldest_ns => Some(Resume::TooOld),
                Some(From::TimeNs(ns)) => Some(Resume::Since(ns)),
                // What is not past yet is not played.
                Some(From::Past(past)) => {
                    let until_ns = past.until_ns.map_or(now_ns, |until_ns| until_ns.min(now_ns));
                    Some(Resume::Past(Past { until_ns: Some(until_ns), ..past }))
                }
                None => cursor.clone(),
            };
            want(wanted, resume)
        };
        let wants: Vec<_> = pending.wants.iter().map(asked).collect();
        let more = replay_count::needed(wants.iter().filter_map(|want| want.resume.as_ref()));
        let replays = session.replays.as_ref().map_or(0, |replays| replays.len());
        if more > 0 && replays + more > replays_max {
            let resumed = wants.iter().filter(|want| want.resume.is_some()).count();
            replay_counts.refuse(ReplayRefusal::SessionFull, resumed);
            let message = format!(
                "a session resumes from at most {replays_max} places at once: wait for `replay_done`, or name fewer times"
            );
            self.totals.request_errors += 1;
            return self.tell(key, &Control::error(pending.id, Code::RateLimited, message, false));
        }
        let too_old = wants.iter().filter(|want| want.resume == Some(Resume::TooOld)).count();
        if too_old > 0 {
            replay_counts.refuse(ReplayRefusal::Window, too_old);
        }
        pending.resumes = wants.iter().filter_map(|want| want.resume.clone()).collect();
        session.pending = Some(Box::new(pending));
        for want in &wants {
            self.took_off(&want.target, want.stream);
        }
        self.ask(Ask::Subscribe(key, wants));
    }

    fn unsubscribe(&mut self, key: SessionKey, id: Option<Id>, subscriptions: &[Subscription]) {
        let mut all = Vec::new();
        let mut ended = Vec::new();
        for Subscription { channel_name, symbols, .. } in subscriptions {
            for symbol in symbols {
                let channel = Channel::parse(channel_name);
                let sub = channel.and_then(|channel| self.drop_sub(key, channel, &Target::of(symbol)));
                let mut named = Named::ok(channel_name.clone(), symbol);
                match (channel, &sub) {
                    (None, _) => named.refuse(Code::UnknownChannel, "no such channel"),
                    (_, None) => named.refuse(Code::BadRequest, "not subscribed"),
                    _ => {}
                }
                ended.extend(sub);
                all.push(named);
            }
        }
        self.acknowledge(key, id.as_ref(), &all);
        self.fall_back_all(key, &ended);
    }

    fn set(
        &mut self,
        key: SessionKey,
        id: Option<Id>,
        heartbeat_ms: Option<u64>,
        max_bytes_per_s: Option<u64>,
        flush_ms: Option<u64>,
    ) {
        let heartbeat_fits = |ms: &u64| *ms == 0 || (HEARTBEAT_MS_MIN..=HEARTBEAT_MS_MAX).contains(ms);
        let rate_fits = |bytes: &u64| *bytes == 0 || *bytes >= BYTES_PER_S_MIN;
        let fault = if !heartbeat_ms.as_ref().is_none_or(heartbeat_fits) {
            Some(format!("`heartbeat_ms` must be 0 or from {HEARTBEAT_MS_MIN} to {HEARTBEAT_MS_MAX}"))
        } else if !max_bytes_per_s.as_ref().is_none_or(rate_fits) {
            Some(format!("`max_bytes_per_s` must be 0 or at least {BYTES_PER_S_MIN}"))
        } else if flush_ms.is_some_and(|ms| FlushMs::round_up(ms).is_none()) {
            Some(format!("`flush_ms` must be at most {}", FlushMs::STEPS[FlushMs::STEPS.len() - 1]))
        } else {
            None
        };
        if let Some(message) = fault {
            self.totals.request_errors += 1;
            return self.tell(key, &Control::error(id, Code::BadRequest, message, false));
        }
        let now_ms = clock::mono_ms();
        let Some(session) = self.open_session(key) else { return };
        if let Some(bytes) = max_bytes_per_s {
            let bytes = (bytes > 0).then(|| Bucket::new(bytes as f64, now_ms));
            let rates = Rates { bytes, ..session.rates.take().map_or_else(Rates::default, |rates| *rates) };
            session.rates = (!rates.is_empty()).then(|| Box::new(rates));
            session.is_throttled = false;
        }
        if let Some(flush) = flush_ms.and_then(FlushMs::round_up) {
            session.flush = flush;
            // What was gathered under the window before goes out with the answer, or when that would have ended.
            session.is_gathering = false;
        }
        if let Some(ms) = heartbeat_ms {
            session.heartbeat_ms = u32::try_from(ms).unwrap_or(u32::MAX);
            let is_hastened = session.hastened.take().is_some();
            if ms > 0 {
                self.set_timer(now_ms + ms, key, Due::Heartbeat);
            }
            if is_hastened {
                self.hasten_heartbeat(key);
            }
        }
        self.tell(key, &Control::ack(id, true, Vec::new()));
    }

    fn list(&mut self, key: SessionKey, id: Option<Id>) {
        let Some((session, table)) = self.open_session_and_table(key) else { return };
        let entries = session.subs.iter().map(|sub| {
            let Stream { channel, depth, conflate, .. } = table.stream(sub.place);
            ListEntry {
                channel,
                symbol: table.target(sub.place).text(),
                on_slow: table.on_slow(sub.place),
                conflate_ms: if conflate == ConflateMs::NONE { 0 } else { conflate.get() },
                depth: (channel == Channel::Book || depth != Depth::ALL).then(|| depth.get()),
            }
        });
        let subscriptions = entries.collect();
        self.tell(key, &Control::List { id, subscriptions });
    }

    /// Queues a control message, in order with the events.
    pub(super) fn tell(&mut self, key: SessionKey, control: &Control) {
        if let Some(session) = self.open_session(key) {
            let json = control.to_json().into_bytes();
            match control {
                Control::Ack { .. } => session.outbox.acknowledge(json),
                _ => session.outbox.control(json),
            }
            self.touch(key.slot);
        }
    }

    /// Queues the answer to a request that named something, in order with the events.
    pub(super) fn acknowledge(&mut self, key: SessionKey, id: Option<&Id>, named: &[Named]) {
        // Written elsewhere first, so that what is kept is as long as it is.
        let mut buffer = std::mem::take(&mut self.scratch);
        buffer.clear();
        let delayed_s = self.shared.tier.delayed_s();
        write_ack(&mut buffer, id, named.iter().map(|named| named.verdict(delayed_s)));
        let Self { sessions, spares, .. } = self;
        let session = sessions.get_mut(key.slot as usize);
        if let Some(session) = session.filter(|session| session.key == key && session.is_open()) {
            session.outbox.lend(spares);
            session.outbox.acknowledge(buffer.to_vec());
            self.touch(key.slot);
        }
        buffer.clear();
        // One for thousands of symbols is rare.
        buffer.shrink_to(self.bounds.write_bytes_max);
        self.scratch = buffer;
    }

    /// The peer hung up.
    pub(super) fn on_end_of_stream(&mut self, key: SessionKey) {
        let reason = match self.session(key).map(|s| s.life) {
            Some(Life::Closing(reason)) => reason,
            _ => CloseReason::Client,
        };
        self.end_session(key, reason);
    }

    /// The socket failed.
    pub(super) fn on_read_error(&mut self, key: SessionKey, error: &std::io::Error) {
        let id = self.id;
        if let Some(session) = self.session(key) {
            session_line!(DEBUG, session, id, %error, "read failed");
        }
        let reason = match self.session(key).map(|s| s.life) {
            Some(Life::Closing(reason)) => reason,
            _ => CloseReason::Io,
        };
        self.end_session(key, reason);
    }

    /// Ends a session that broke its promise to read, with what it needs to resume.
    pub(super) fn end_slow(&mut self, key: SessionKey) {
        let cursor = self.cursor_of(key.slot);
        let id = self.id;
        let Some(session) = self.open_session(key) else { return };
        // One that is being closed has had its last cursor.
        let cursor = Some(cursor.to_string()).filter(|_| !session.outbox.is_closing());
        let delay_ms = session.outbox.delay_us(now_us()) / 1000;
        let queued_bytes = session.outbox.queued_bytes();
        let peer = session.guest.peer;
        let error = Control::Error {
            id: None,
            code: Code::SlowConsumer,
            number: Code::SlowConsumer.number(),
            message: format!(
                "{queued_bytes} bytes and {delay_ms} ms behind: read faster, or subscribe with `on_slow`, `conflate_ms` or fewer symbols"
            ),
            fatal: true,
            retry_after_ms: None,
            cursor,
        };
        if let Verdict::Write { left_out } = self.slow_logs.admit(clock::mono_ms())
            && let Some(session) = self.session(key)
        {
            session_line!(WARN, session, id, %peer, queued_bytes, delay_ms, left_out, "slow client disconnected");
        }
        let words = Some(error.to_json().into_bytes());
        let (number, text) = (Code::SlowConsumer.number(), Code::SlowConsumer.name());
        self.close_session(key, number, text, words, CloseReason::SlowConsumer);
    }
}
