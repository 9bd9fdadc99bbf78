//! Writing to sockets: once per touched session and pass, everything that is due.

use super::socket::Socket;
use super::{Shard, now_us};
use crate::clock;
use crate::feed::request::{Request, SessionKey};
use crate::latency::{IS_MEASURED, Recorder, Stage};
use crate::outbox::{Books, Offer, Stamps};
use crate::session::Life;
use crate::spans::session_line;
use crate::stats::CloseReason;
use std::io::ErrorKind;
use tickgate_protocol::FlushMs;
use tickgate_protocol::control::Control;

/// Writes to one session in one turn: what is left then waits for the next, so that nobody starves the others.
const WRITES_PER_TURN: usize = 16;

/// What a socket took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Took {
    /// All there was, and nothing follows from it.
    Nothing,
    All,
    Part,
}

impl<S: Socket> Shard<S> {
    /// Writes to every session that got something in this pass.
    pub(super) fn flush_touched(&mut self) {
        loop {
            let mut touched = std::mem::take(&mut self.touched);
            for slot in touched.drain(..) {
                if let Some(session) = self.sessions.get_mut(slot as usize) {
                    session.is_touched = false;
                    self.at_hand = Some(session.key);
                    let may_gather = session.is_gathering && session.outbox.may_gather(&self.bounds);
                    if may_gather && !self.memory.is_over() {
                        self.memory.account_slow(session);
                    } else {
                        self.flush_session(slot, false);
                    }
                }
            }
            // A flush can end a session and touch nobody else, so the list is still empty.
            debug_assert!(self.touched.is_empty());
            self.touched = touched;
            self.filled.clear();
            self.deflated.clear();
            self.memory.queued_entries = 0;
            if self.memory.is_over() {
                // What is gathered can go out at once, and costs nobody a session.
                for key in self.windows.take() {
                    self.at_hand = Some(key);
                    self.end_window(key);
                }
            }
            self.at_hand = None;
            if !self.memory.is_over() {
                return;
            }
            // Ends some, whose goodbyes are then written.
            self.relieve_memory();
            self.at_hand = None;
        }
    }

    /// Writes what a session's socket takes, unless it refused bytes and is not known to be `writable` again.
    pub(super) fn flush_session(&mut self, slot: u32, writable: bool) {
        let Some(mut session) = self.sessions.get_mut(slot as usize) else { return };
        let mut failed = None;
        let had_to_wait = session.outbox.is_blocked();
        let was_waiting = had_to_wait && !writable;
        if (writable || !session.outbox.is_blocked()) && !session.is_throttled {
            for _ in 0..WRITES_PER_TURN {
                if !session.outbox.has_work() {
                    break;
                }
                let mut bounds = self.bounds;
                if let Some(rates) = &mut session.rates {
                    let now_ms = clock::mono_ms();
                    match rates.bytes_now(now_ms) {
                        Ok(bytes) => bounds.write_bytes_max = bounds.write_bytes_max.min(bytes),
                        Err(wait_ms) => {
                            let due = super::timers::Due::Throttle;
                            session.is_throttled = true;
                            session.outbox.throttle(now_us());
                            self.timers.set(&mut session.timers, now_ms + wait_ms, session.key, due);
                            self.timers_changed.notify_one();
                            break;
                        }
                    }
                }
                let filled = if session.is_deflated { &mut self.deflated } else { &mut self.filled };
                session.outbox.fill(filled, &bounds);
                #[cfg(debug_assertions)]
                self.hooks.write(slot);
                session.is_writing = true;
                let taken = match session.socket.send(filled.bytes()) {
                    Ok(taken) => taken,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                };
                #[cfg(debug_assertions)]
                self.hooks.sent(slot);
                if let Some(rates) = &mut session.rates {
                    rates.take(taken, filled.events().into());
                }
                match self.took(slot, taken, had_to_wait) {
                    Took::Nothing => return,
                    Took::Part => break,
                    Took::All => {}
                }
                let Some(again) = self.sessions.get_mut(slot as usize) else { return };
                session = again;
            }
        }
        let Some(key) = self.sessions.get(slot as usize).map(|session| session.key) else { return };
        match failed {
            Some(error) => self.write_failed(key, &error),
            None => self.after_flush(key, was_waiting),
        }
    }

    fn write_failed(&mut self, key: SessionKey, error: &std::io::Error) {
        let id = self.id;
        let Some(session) = self.session(key) else { return };
        session_line!(DEBUG, session, id, %error, "write failed");
        self.end_session(key, CloseReason::Io);
    }

    /// Takes note that a session's socket took `taken` bytes of what was filled.
    #[inline(always)]
    fn took(&mut self, slot: u32, taken: usize, had_to_wait: bool) -> Took {
        let Some(session) = self.sessions.get_mut(slot as usize) else { return Took::Nothing };
        let filled = if session.is_deflated { &mut self.deflated } else { &mut self.filled };
        let is_all = taken == filled.bytes().len();
        self.totals.writes += 1;
        self.totals.written_bytes[usize::from(session.is_deflated)] += taken as u64;
        // The time counts only when something is left.
        let left_us = if is_all { 0 } else { now_us() };
        session.outbox.wrote(filled, taken, left_us);
        session.is_writing = false;
        if !is_all {
            self.totals.write_stalls += 1;
            return Took::Part;
        }
        record(&mut self.recorder, filled.stamps(), self.wall_ahead_ns, had_to_wait);
        if session.flush != FlushMs::NONE && !session.is_gathering && filled.has_events() {
            let over_ms = self.windows.open(session.key, session.flush, clock::mono_ms());
            session.is_gathering = over_ms.is_some();
            if let Some(over_ms) = over_ms.filter(|over_ms| *over_ms < self.wakes_ms) {
                self.wakes_ms = over_ms;
                self.timers_changed.notify_one();
            }
        }
        if !session.outbox.is_plain() || session.slow_bytes > 0 || session.is_replaying {
            return Took::All;
        }
        // Nothing follows, but for the books and its memory, which have time.
        session.was_half_full = false;
        if !session.outbox.is_small() {
            session.outbox.give_back(&mut self.spares);
        }
        if !std::mem::replace(&mut session.is_unaccounted, true) {
            self.unaccounted.push(slot);
        }
        Took::Nothing
    }

    /// Ends a flush window: what was gathered goes out, and opens the next.
    pub(super) fn end_window(&mut self, key: SessionKey) {
        let Some(session) = self.session(key) else { return };
        session.is_gathering = false;
        if session.outbox.has_work() && !session.outbox.is_blocked() {
            self.flush_session(key.slot, false);
        }
    }

    /// What follows from the state of an outbox after a write. A task that `was_waiting` for its socket still is.
    fn after_flush(&mut self, key: SessionKey, was_waiting: bool) {
        let bounds = self.bounds;
        let Self { sessions, spares, .. } = self;
        let Some(session) = sessions.get_mut(key.slot as usize).filter(|session| session.key == key) else {
            return;
        };
        session.outbox.give_back(spares);
        if session.outbox.is_closed() {
            return self.close_written(key);
        }
        let resyncs = session.outbox.due_resyncs(&bounds);
        let is_blocked = session.outbox.is_blocked();
        if !was_waiting && (is_blocked || session.outbox.has_work()) {
            session.wake();
        }
        let must_list = is_blocked && !std::mem::replace(&mut session.is_listed_blocked, is_blocked);
        // One pass may bring so much that the bound is reached, and acted on, before anything is flushed.
        let was_half_full = std::mem::take(&mut session.was_half_full) && is_blocked;
        if was_half_full || session.outbox.queued_bytes() > bounds.bytes_max / 2 {
            self.tell_slow(key);
        }
        if must_list {
            self.blocked.push(key);
            self.timers_changed.notify_one();
        }
        for resync in resyncs {
            self.ask(Request::Resync(key, resync));
        }
        self.account(key.slot);
        if self.session(key).is_some_and(|session| session.is_replaying) {
            self.ask_replays(key);
        }
    }

    /// Tells a client once per slow spell that a bound is near.
    pub(super) fn tell_slow(&mut self, key: SessionKey) {
        let limit_bytes = self.bounds.bytes_max as u64;
        let Some(session) = self.open_session(key) else { return };
        if !session.outbox.tell_slow_once() {
            return;
        }
        let slow = Control::Slow {
            delay_ms: u64::from(session.outbox.delay_us(now_us()) / 1000),
            queued_bytes: session.outbox.queued_bytes() as u64,
            limit_bytes,
            action: session.outbox.severest(),
        };
        session.outbox.control_first(slow.to_json().into_bytes());
        self.totals.slow_notices += 1;
    }

    /// Acts on the age of what blocked sockets refuse.
    pub(super) fn check_blocked(&mut self) {
        let now = now_us();
        let bounds = self.bounds;
        let stall_us = self.shared.config.outbox.stall_timeout_ms.saturating_mul(1000);
        let mut blocked = std::mem::take(&mut self.blocked);
        let mut oldest_us = 0;
        blocked.retain(|key| {
            let Some(session) = self.session(*key) else { return false };
            if !session.outbox.is_blocked() {
                session.is_listed_blocked = false;
                return false;
            }
            let delay_us = session.outbox.delay_us(now);
            oldest_us = oldest_us.max(delay_us);
            // A client that asked for few bytes is not stalled while it waits for its turn.
            if !session.is_throttled && u64::from(session.outbox.blocked_us(now)) >= stall_us {
                self.end_session(*key, CloseReason::Stalled);
                return false;
            }
            if session.life == Life::Open && session.outbox.check_age(now, &bounds) == Offer::Overflow {
                self.end_slow(*key);
                return self.session(*key).is_some();
            }
            if delay_us >= bounds.age_max_us / 2 {
                self.tell_slow(*key);
            }
            self.account(key.slot);
            true
        });
        blocked.append(&mut self.blocked);
        self.blocked = blocked;
        self.totals.queue_age_max_ms = u64::from(oldest_us / 1000);
    }

    /// Brings the shard's totals up to a session's books.
    pub(super) fn account(&mut self, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        session.is_unaccounted = false;
        self.memory.account_slow(session);
        let books = *session.outbox.books();
        debug_assert_eq!(books.imbalance(), 0, "the books of an outbox close");
        let before: Books = std::mem::replace(&mut session.accounted, books);
        let totals = &mut self.totals;
        totals.offered += books.offered - before.offered;
        totals.sent += books.sent - before.sent;
        totals.conflated += books.conflated - before.conflated;
        for (total, (now, then)) in totals.dropped.iter_mut().zip(books.dropped.iter().zip(before.dropped)) {
            *total += now - then;
        }
        totals.held = totals.held + books.held - before.held;
        if let Some(gaps) = session.outbox.gaps().copied() {
            let before = std::mem::replace(&mut **session.accounted_gaps.get_or_insert_default(), gaps);
            for (total, (now, then)) in totals.gaps.iter_mut().zip(gaps.by_cause.iter().zip(before.by_cause))
            {
                *total += now - then;
            }
            totals.gap_events += gaps.events - before.events;
        }
    }

    /// Ends the sessions that reached a bound under `on_slow: disconnect`.
    pub(super) fn end_overflowed(&mut self) {
        for slot in std::mem::take(&mut self.overflowed) {
            // A client is slow if its socket says so, not if it was brought much at once.
            self.flush_session(slot, false);
            let slow = self.sessions.get(slot as usize).filter(|session| session.outbox.is_blocked());
            if let Some(key) = slow.map(|session| session.key) {
                self.end_slow(key);
            }
        }
    }
}

/// Records how long written events took. The wall clock is `wall_ahead_ns` ahead of the monotonic one.
#[inline]
fn record(recorder: &mut Recorder, stamps: &Stamps, wall_ahead_ns: i64, had_to_wait: bool) {
    if !IS_MEASURED || stamps.offered.is_empty() {
        return;
    }
    let mono_ns = clock::mono_ns();
    let (now_us, now_ns) = ((mono_ns / 1000) as u32, mono_ns as i64 + wall_ahead_ns);
    for offered in &stamps.offered {
        let n = u64::from(offered.count);
        let offered_ns = i64::from(now_us.wrapping_sub(offered.at_us)) * 1000;
        recorder.record_n(Stage::OfferedToWritten, offered_ns, n);
        if had_to_wait {
            recorder.record_n(Stage::QueueWait, offered_ns, n);
        }
        recorder.record_n(Stage::IngestToWritten, now_ns - offered.ingest_ns, n);
    }
    for origin in &stamps.origins {
        let n = u64::from(origin.count);
        recorder.record_n(Stage::EventToWritten, now_ns - origin.event_ns, n);
        if let Some(send_ns) = origin.send_ns {
            recorder.record_n(Stage::SendToWritten, now_ns - send_ns, n);
        }
    }
}
