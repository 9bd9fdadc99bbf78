//! How sessions begin and end, and what happens to them as time passes.

use super::socket::Socket;
use super::timers::Due;
use super::{Shard, now_us};
use crate::access::audit::Cause;
use crate::access::rights::Rights;
use crate::clock;
use crate::feed::request::SessionKey;
use crate::outbox::{Books, Outbox};
use crate::session::guest::Opening;
use crate::session::subs::Subs;
use crate::session::throttle::{Bucket, Pace};
use crate::session::{Life, Session};
use crate::spans::{self, session_line};
use crate::stats::{CloseReason, SessionInfo};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use tickgate_protocol::FlushMs;
use tickgate_protocol::code::CLOSE_RESTART;
use tickgate_protocol::control::{AUTH_ACCEPTED, AUTH_NONE, Control, Limits, write_heartbeat, write_hello};
use tickgate_protocol::frame::{self, Opcode};

/// Time for a peer to answer a close frame, in milliseconds: then the socket is dropped.
const CLOSE_ANSWER_MS: u64 = 1_000;
/// How often blocked sockets are looked at, in milliseconds.
const BLOCKED_CHECK_MS: u64 = 50;
/// How soon behind the answer to a `subscribe` a heartbeat comes, in milliseconds: as soon as a client may have asked for one.
const HASTENED_MS: u32 = 100;
/// How often the totals go to the scoreboard, in milliseconds.
const PUBLISH_MS: u64 = 250;
/// The same while nothing happens: a wake-up of an idle processor costs more than all that is done in it.
pub(crate) const PUBLISH_QUIET_MS: u64 = 1_000;

impl<S: Socket> Shard<S> {
    /// Opens a session and greets it, in one write with the answer that its handshake is still owed.
    pub(super) fn open(&mut self, socket: Rc<S>, opening: Opening) {
        let Opening { answer, guest, is_greeted, connect, .. } = opening;
        let key = self.next_key();
        let config = self.shared.config.clone();
        let now_ms = clock::mono_ms();
        let is_deflated = guest.is_deflated;
        let session = Session {
            key,
            socket,
            is_deflated: guest.is_deflated,
            guest: Box::new(guest),
            decoder: None,
            outbox: Outbox::default(),
            subs: Subs::default(),
            task: None,
            is_touched: false,
            is_writing: false,
            was_half_full: false,
            is_listed_blocked: false,
            hastened: None,
            life: Life::Open,
            heartbeat_ms: u32::try_from(config.session.heartbeat_ms).unwrap_or(u32::MAX),
            flush: FlushMs::round_up(config.session.flush_ms).unwrap_or_default(),
            is_gathering: false,
            timers: Default::default(),
            rates: None,
            is_throttled: false,
            requests: Bucket::new(f64::from(config.limits.requests_per_s), now_ms),
            pending: None,
            replays: None,
            is_replaying: false,
            slow_bytes: 0,
            reading_bytes: 0,
            is_unaccounted: false,
            accounted: Books::default(),
            accounted_gaps: None,
            opened_ms: now_ms,
            heard_ms: now_ms,
            pings: Pace::default(),
        };
        spans::of(&connect, || session.name(self.id));
        session_line!(DEBUG, session, self.id, peer = %session.guest.peer, "opened");
        #[cfg(debug_assertions)]
        self.hooks.open(super::hooks::Step::Insert);
        // From here on its end takes all of this back.
        self.sessions.insert(session);
        self.generation = self.generation.wrapping_add(1);
        self.totals.sessions += 1;
        self.totals.sessions_deflated += u64::from(is_deflated);
        self.totals.sessions_opened += 1;
        if config.session.heartbeat_ms > 0 {
            self.set_timer(now_ms + config.session.heartbeat_ms, key, Due::Heartbeat);
        }
        if self.is_draining {
            // Its handshake was answered before the drain began.
            self.set_timer(now_ms, key, Due::Drain);
        }
        self.greet(key, &answer, is_greeted);
        self.watch_pass(key);
        self.bound_rate(key);
        let way = self
            .session(key)
            .and_then(|session| session.guest.pass.as_ref())
            .map(|pass| pass.identity.way.kind());
        if let Some(way) = way {
            self.audit(key, Cause::Connect, way.label(), None);
            self.look_at_newcomer(key);
        }
    }

    /// The key of the session that is opened next.
    pub(super) fn next_key(&self) -> SessionKey {
        SessionKey { slot: self.sessions.vacant_key() as u32, generation: self.generation }
    }

    /// What a session can be named by that is opened later, if it ever is.
    pub fn name_ahead(&mut self) -> (usize, u32) {
        let number = self.generation;
        self.generation = self.generation.wrapping_add(1);
        (self.id, number)
    }

    /// What a session may do that has these rights.
    pub fn limits(&self, rights: Option<&Rights>) -> Limits {
        let config = &self.shared.config;
        let subscriptions = config.limits.subscriptions_max;
        let own = rights.and_then(|rights| rights.max_subscriptions).unwrap_or(subscriptions);
        Limits {
            subscriptions: subscriptions.min(own) as u64,
            requests_per_s: u64::from(config.limits.requests_per_s),
            message_bytes: config.limits.message_bytes_max as u64,
            replay_s: Some(config.replay.window_s),
            pings_per_10_s: Some(u64::from(config.limits.pings_per_10_s)).filter(|pings| *pings > 0),
            silence_ms: Some(config.session.silence_timeout_ms).filter(|ms| *ms > 0),
            updates_per_s: rights.and_then(|rights| rights.max_updates_per_s).map(u64::from),
            connections: rights.and_then(|rights| rights.max_connections).map(u64::from),
        }
    }

    /// The greeting of a session of this name.
    pub fn hello(&self, name: &str, auth: &str, rights: Option<&Rights>) -> Vec<u8> {
        let heartbeat_ms = self.shared.config.session.heartbeat_ms;
        let limits = self.limits(rights);
        let mut hello = Vec::with_capacity(256);
        write_hello(&mut hello, name, clock::wall_ns(), heartbeat_ms, auth, &limits);
        hello
    }

    fn greet(&mut self, key: SessionKey, answer: &[u8], is_greeted: bool) {
        let id = self.id;
        let Some(session) = self.session(key) else { return };
        let hello = (!is_greeted).then(|| {
            let rights = session.guest.pass.as_ref().map(|pass| pass.identity.rights.clone());
            (session.name(id), rights)
        });
        let hello = hello.map(|(name, rights)| {
            let auth = if rights.is_some() { AUTH_ACCEPTED } else { AUTH_NONE };
            self.hello(&name, auth, rights.as_deref())
        });
        let mut filled = std::mem::take(&mut self.filled);
        #[cfg(debug_assertions)]
        self.hooks.open(super::hooks::Step::Greet);
        #[cfg(debug_assertions)]
        let is_echo = self.is_echo;
        let Some(session) = self.session(key) else { return };
        filled.clear();
        filled.out().extend_from_slice(answer);
        if let Some(hello) = hello {
            frame::write_header(filled.out(), Opcode::Text, hello.len());
            filled.out().extend_from_slice(&hello);
        }
        #[cfg(debug_assertions)]
        if is_echo {
            filled.out().truncate(answer.len());
        }
        let (taken, failed) = match session.socket.send(filled.bytes()) {
            Ok(taken) => (taken, None),
            Err(error) if error.kind() == ErrorKind::WouldBlock => (0, None),
            Err(error) => (0, Some(error)),
        };
        let is_stalled = taken < filled.bytes().len();
        let is_deflated = session.is_deflated;
        if is_stalled {
            // The rest goes like that of any other write.
            session.outbox.wrote(&mut filled, taken, now_us());
            self.touch(key.slot);
        }
        self.totals.writes += 1;
        self.totals.written_bytes[usize::from(is_deflated)] += taken as u64;
        self.totals.write_stalls += u64::from(is_stalled);
        filled.clear();
        self.filled = filled;
        if let Some(error) = failed {
            let id = self.id;
            if let Some(session) = self.session(key) {
                session_line!(DEBUG, session, id, %error, "greeting failed");
            }
            self.end_session(key, CloseReason::Io);
        }
    }

    pub(super) fn set_timer(&mut self, due_ms: u64, key: SessionKey, due: Due) {
        let Self { sessions, timers, timers_changed, .. } = self;
        let session = sessions.get_mut(key.slot as usize).filter(|session| session.key == key);
        if session.is_some_and(|session| timers.set(&mut session.timers, due_ms, key, due)) {
            timers_changed.notify_one();
        }
    }

    /// Begins to end a session with a close frame, which overtakes what is queued.
    pub(super) fn close_session(
        &mut self,
        key: SessionKey,
        code: u16,
        text: &str,
        last_words: Option<Vec<u8>>,
        reason: CloseReason,
    ) {
        let now_ms = clock::mono_ms();
        let stall_timeout_ms = self.shared.config.outbox.stall_timeout_ms;
        let Some(session) = self.open_session(key) else { return };
        session.life = Life::Closing(reason);
        session.outbox.close(code, text, last_words);
        // Nothing more is read from it.
        session.decoder = None;
        session.pending = None;
        // Whoever does not read now learns why it was closed when it reads again, within what any silence may take.
        let wait_ms = if session.outbox.is_blocked() { stall_timeout_ms } else { CLOSE_ANSWER_MS };
        self.leave_all(key);
        self.account_reading(key);
        self.set_timer(now_ms + wait_ms, key, Due::CloseDeadline);
        self.touch(key.slot);
    }

    /// The close frame is out: nothing more is written, and the peer has a moment to answer.
    pub(super) fn close_written(&mut self, key: SessionKey) {
        let due_ms = clock::mono_ms() + CLOSE_ANSWER_MS;
        let Some(session) = self.session(key) else { return };
        if session.life == Life::Open {
            session.life = Life::Closing(CloseReason::Drain);
        }
        let reason = match session.life {
            Life::Closing(reason) | Life::Over(reason) => reason,
            Life::Open => CloseReason::Drain,
        };
        if reason == CloseReason::Client {
            // The peer's close came first: RFC 6455 7.1.1 lets the server drop the connection at once.
            return self.end_session(key, reason);
        }
        // A reset would take back what the peer has not read yet, so say that no more comes and wait for its end.
        session.socket.shut();
        session.wake();
        self.leave_all(key);
        self.set_timer(due_ms, key, Due::CloseDeadline);
    }

    /// Takes every subscription of a session out of the table.
    fn leave_all(&mut self, key: SessionKey) {
        let Some(session) = self.session(key) else { return };
        let subs = std::mem::take(&mut session.subs);
        for sub in subs.iter() {
            self.leave(key, *sub);
        }
    }

    /// Ends a session now. Its task notices and drops the socket.
    pub(super) fn end_session(&mut self, key: SessionKey, reason: CloseReason) {
        self.leave_all(key);
        let id = self.id;
        let Some(session) = self.session(key) else { return };
        let reason = match session.life {
            Life::Closing(first) => first,
            _ => reason,
        };
        session.life = Life::Over(reason);
        let held = session.outbox.abandon();
        session.decoder = None;
        session.pending = None;
        session.wake();
        session_line!(DEBUG, session, id, reason = reason.label(), held, "closed");
        self.unwatch_pass(key);
        self.audit(key, Cause::Close, reason.label(), None);
        self.account(key.slot);
        self.account_reading(key);
        let mut session = self.sessions.remove(key.slot as usize);
        self.timers.clear_all(&mut session.timers, key);
        self.totals.sessions -= 1;
        self.totals.sessions_deflated -= u64::from(session.is_deflated);
        self.totals.sessions_closed[reason as usize] += 1;
        self.shared.sessions.fetch_sub(1, Ordering::Relaxed);
    }

    /// Does what is due and says when to come again, in monotonic milliseconds.
    #[inline(never)] // Profiles tell it from what passes cost.
    pub fn on_time(&mut self, publish_ms: &mut u64) -> u64 {
        let now_ms = clock::mono_ms();
        self.wall_ahead_ns = clock::wall_ns() - clock::mono_ns() as i64;
        while let Some((key, due)) = self.timers.pop(now_ms) {
            if let Some(session) = self.session(key) {
                session.timers[due as usize] = None;
            }
            match due {
                Due::Heartbeat => self.heartbeat(key, now_ms),
                Due::Throttle => {
                    if let Some(session) = self.session(key) {
                        session.is_throttled = false;
                        // Its task may read again when what it answers goes out.
                        session.wake();
                        self.flush_session(key.slot, true);
                    }
                }
                Due::CloseDeadline => self.end_session(key, CloseReason::Io),
                Due::Drain => self.drain_session(key, now_ms),
                Due::Replay => self.on_replay_due(key),
                Due::Message => self.message_overdue(key, now_ms),
            }
        }
        while let Some(key) = self.windows.pop(now_ms) {
            self.end_window(key);
        }
        self.look_at_passes(now_ms);
        if !self.blocked.is_empty() {
            self.check_blocked();
        }
        let listens_on_ms = self.look_for_silence(now_ms);
        self.end_overflowed();
        self.flush_touched();
        if now_ms >= *publish_ms {
            let pause_ms = if self.publish() { PUBLISH_MS } else { PUBLISH_QUIET_MS };
            *publish_ms = now_ms + pause_ms;
            self.look_at_ebb();
        }
        let mut next_ms = *publish_ms;
        let own_ms = [self.timers.next_ms(), self.windows.next_ms(), self.passes.next_ms(), listens_on_ms];
        for due_ms in own_ms.into_iter().flatten() {
            next_ms = next_ms.min(due_ms);
        }
        if !self.blocked.is_empty() {
            next_ms = next_ms.min(now_ms + BLOCKED_CHECK_MS);
        }
        self.wakes_ms = next_ms;
        next_ms
    }

    /// Lets a session's next heartbeat come early: whoever is cut off before its first cursor would have to begin anew.
    pub(super) fn hasten_heartbeat(&mut self, key: SessionKey) {
        let due_ms = clock::mono_ms() + u64::from(HASTENED_MS);
        let Some(session) = self.open_session(key).filter(|session| session.heartbeat_ms > 0) else { return };
        if session.timers[Due::Heartbeat as usize].is_none_or(|set| set.get() > due_ms) {
            session.hastened = Some(0);
            self.set_timer(due_ms, key, Due::Heartbeat);
        }
    }

    fn heartbeat(&mut self, key: SessionKey, now_ms: u64) {
        // What it was owed left with its subscriptions: from then on a cursor would promise too much.
        let Some(session) = self.open_session(key).filter(|s| s.heartbeat_ms > 0 && !s.outbox.is_closing())
        else {
            return;
        };
        if let Some(times) = session.hastened.take()
            && session.outbox.is_blocked()
            && (u32::from(times) + 1) * HASTENED_MS < session.heartbeat_ms
        {
            // What is queued is what a cursor may not pass: the state of a quiet symbol would hold it far back.
            session.hastened = Some(times.saturating_add(1));
            return self.set_timer(now_ms + u64::from(HASTENED_MS), key, Due::Heartbeat);
        }
        let due_ms = now_ms + u64::from(session.heartbeat_ms);
        // One that is still queued says all that another would.
        let is_waiting = session.outbox.is_blocked() && session.outbox.control_bytes() > 0;
        self.set_timer(due_ms, key, Due::Heartbeat);
        if is_waiting {
            return;
        }
        let cursor = self.cursor_of(key.slot);
        let feeds = self.feeds_json.clone();
        let Some(session) = self.open_session(key) else { return };
        let queued_bytes = session.outbox.queued_bytes() as u64;
        let delay_ms = u64::from(session.outbox.delay_us(now_us()) / 1000);
        let mut buffer = std::mem::take(&mut self.scratch);
        buffer.clear();
        write_heartbeat(&mut buffer, clock::wall_ns(), &cursor, queued_bytes, delay_ms, &feeds);
        let Self { sessions, spares, .. } = self;
        if let Some(session) = sessions.get_mut(key.slot as usize) {
            session.outbox.lend(spares);
            session.outbox.control(buffer.to_vec());
        }
        self.scratch = buffer;
        self.touch(key.slot);
    }

    /// Copies the totals to the scoreboard; says whether they have changed.
    pub(super) fn publish(&mut self) -> bool {
        let mut unaccounted = std::mem::take(&mut self.unaccounted);
        for slot in unaccounted.drain(..) {
            if let Some(session) = self.sessions.get_mut(slot as usize) {
                session.outbox.give_back(&mut self.spares);
            }
            self.account(slot);
        }
        self.unaccounted = unaccounted;
        let now = now_us();
        let totals = &mut self.totals;
        totals.queued_bytes = 0;
        totals.queue_bytes.clear();
        totals.queue_age_us.clear();
        for session in self.blocked.iter().filter_map(|key| self.sessions.get(key.slot as usize)) {
            let bytes = session.outbox.queued_bytes() as u64;
            totals.queued_bytes += bytes;
            totals.queue_bytes.add(bytes);
            totals.queue_age_us.add(session.outbox.delay_us(now).into());
        }
        if self.blocked.is_empty() {
            self.totals.queue_age_max_ms = 0;
        }
        self.totals.slow_bytes = self.memory.slow_bytes as u64;
        self.totals.replays = self.replay_counts.totals();
        self.totals.deflate = self.deflated.deflate_totals();
        self.totals.reading_bytes = self.memory.reading_bytes as u64;
        if self.shared.tier.is_live() {
            self.recorder.publish(&self.shared.board, self.id);
        }
        let mut published = self.shared.board.shard(self.id);
        let has_changed = *published != self.totals;
        published.clone_from(&self.totals);
        has_changed
    }

    /// Begins to drain: sessions are told at once and closed one after the other over the configured time.
    pub fn drain(&mut self) {
        self.is_draining = true;
        let now_ms = clock::mono_ms();
        let spread_ms = self.shared.config.drain.spread_ms;
        let keys: Vec<SessionKey> = self.sessions.iter().map(|(_, session)| session.key).collect();
        let count = keys.len() as u64;
        // The standard library's hasher has a seed of its own each time: chance enough for this.
        let chance = RandomState::new();
        for (i, key) in keys.into_iter().enumerate() {
            let close_in_ms = close_in_ms(spread_ms, i as u64, count, chance.hash_one(i) as u32);
            self.go_away(key, close_in_ms);
            self.set_timer(now_ms + close_in_ms, key, Due::Drain);
        }
        self.flush_touched();
    }

    fn go_away(&mut self, key: SessionKey, close_in_ms: u64) {
        if self.open_session(key).is_none_or(|session| session.outbox.is_closing()) {
            return;
        }
        let cursor = self.cursor_of(key.slot).to_string();
        self.tell(key, &Control::Goaway { reason: "drain".to_owned(), close_in_ms, cursor });
    }

    fn drain_session(&mut self, key: SessionKey, now_ms: u64) {
        let grace_ms = self.shared.config.drain.grace_ms;
        // Again, with what it was given since: whoever resumes from here gets little twice.
        self.go_away(key, 0);
        let Some(session) = self.open_session(key) else { return };
        session.outbox.close_orderly(CLOSE_RESTART, "drain");
        self.leave_all(key);
        self.set_timer(now_ms + grace_ms, key, Due::CloseDeadline);
        self.touch(key.slot);
    }

    /// Whether every session is gone.
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Ends what is left, at the end of a drain. Returns how many never got their close frame.
    pub(super) fn cut(&mut self) -> usize {
        let left: Vec<(SessionKey, bool)> =
            self.sessions.iter().map(|(_, session)| (session.key, session.outbox.is_closed())).collect();
        for (key, _) in &left {
            self.end_session(*key, CloseReason::Drain);
        }
        left.iter().filter(|(_, is_closed)| !is_closed).count()
    }

    /// The slowest sessions, by the age of their queues.
    pub(super) fn top_sessions(&self, top: usize) -> Vec<SessionInfo> {
        let now = now_us();
        let mut all: Vec<SessionInfo> =
            self.sessions.iter().map(|(_, session)| session.info(self.id, now)).collect();
        all.sort_by_key(|info| std::cmp::Reverse((info.queue_age_ms, info.queued_bytes)));
        all.truncate(top);
        all
    }
}

/// When the `index`th of `count` sessions is closed: by `chance` within a share of the time that is its own. So closes
/// are spread evenly, and those of several shards and gateways do not fall together.
fn close_in_ms(spread_ms: u64, index: u64, count: u64, chance: u32) -> u64 {
    let within = (u128::from(index) << 32) + u128::from(chance);
    let close_in_ms = u128::from(spread_ms) * within / (u128::from(count.max(1)) << 32);
    u64::try_from(close_in_ms).unwrap_or(spread_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closes_keep_to_their_shares() {
        for (spread_ms, count) in [(0, 3), (1, 3), (2_000, 1), (2_000, 7), (600_000, 10_000)] {
            for index in 0..count {
                let [first, middle, last] =
                    [0, u32::MAX / 2, u32::MAX].map(|chance| close_in_ms(spread_ms, index, count, chance));
                assert_eq!(first, spread_ms * index / count);
                assert!(first <= middle && middle <= last && last <= spread_ms * (index + 1) / count);
                assert!(last - first <= spread_ms / count + 1, "{index} of {count}: {first} to {last}");
            }
        }
        let share = |chance| close_in_ms(2_000, 3, 10, chance);
        assert_eq!((share(0), share(1 << 31), share(u32::MAX)), (600, 700, 799));
    }
}
