//! Counting replays: each is under way for as long as it lives, however it ends; and what of them could not be given.

use super::Shard;
use super::socket::Socket;
use crate::feed::request::{Resume, SessionKey};
use crate::spans::session_line;
use crate::stats::{PartRefusal, ReplayEnd, ReplayKind, ReplayRefusal, ReplayTotals, ResumeRefusal};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tickgate_protocol::Code;
use tickgate_protocol::control::Control;
use tracing::Span;

const NOT_READ_AGAIN: &str = "this gateway reads nothing from Kafka again (replay.consumers_max = 0), and its memory no longer \
    has all of it: a gap says what is missing, and the stream goes on";

const NOT_ANSWERED: &str = "some of it could not be had, and is left out, gone or not: a gap says what is missing, and the stream \
    goes on";

/// How many replays subscriptions with these beginnings need: those from one cursor, those from positions, those from each
/// time, and those of each part of the past go together.
pub(super) fn needed<'a>(resumes: impl Iterator<Item = &'a Resume>) -> usize {
    let (mut times, mut pasts) = (Vec::new(), Vec::new());
    let (mut is_cursor, mut is_after) = (false, false);
    for resume in resumes {
        match resume {
            Resume::Cursor(_) => is_cursor = true,
            Resume::After(_) => is_after = true,
            Resume::Since(ns) if !times.contains(ns) => times.push(*ns),
            Resume::Past(past) if !pasts.contains(past) => pasts.push(*past),
            Resume::Since(_) | Resume::Past(_) | Resume::TooOld => {}
        }
    }
    times.len() + pasts.len() + usize::from(is_cursor) + usize::from(is_after)
}

/// The counts of one shard, which its replays bring up to date themselves.
#[derive(Debug, Clone, Default)]
pub(super) struct ReplayCounts(Rc<RefCell<ReplayTotals>>);

impl ReplayCounts {
    /// A replay begins; `is_wanted` is true until it ends.
    pub(super) fn begin(&self, kind: ReplayKind, is_wanted: Arc<AtomicBool>, span: Span) -> Counted {
        let mut totals = self.0.borrow_mut();
        totals.begun[kind as usize] += 1;
        totals.running[kind as usize] += 1;
        Counted { counts: self.clone(), kind, end: ReplayEnd::GivenUp, is_wanted, span }
    }

    /// So many subscriptions are not replayed.
    pub(super) fn refuse(&self, reason: ReplayRefusal, subscriptions: usize) {
        self.0.borrow_mut().refused[reason as usize] += subscriptions as u64;
    }

    /// A part is put off.
    pub(super) fn put_off(&self, reason: PartRefusal) {
        self.0.borrow_mut().parts_refused[reason as usize] += 1;
    }

    /// As they stand now.
    pub(super) fn totals(&self) -> ReplayTotals {
        *self.0.borrow()
    }
}

impl<S: Socket> Shard<S> {
    /// Tells a client, once for each replay, that something of it is gone, or not to be had.
    pub(super) fn tell_aged_out(&mut self, key: SessionKey, number: u32) {
        let replay = self.replay(key, number);
        let (is_play, is_unanswered) =
            replay.map_or((false, false), |replay| (replay.play.is_some(), replay.is_unanswered));
        let message = match self.shared.read_again {
            Some(_) if is_unanswered => NOT_ANSWERED,
            Some(_) if is_play => "Kafka no longer has all of it: a gap says what is missing",
            Some(_) => "Kafka no longer has all of it: a gap says what is missing, and the stream goes on",
            None => NOT_READ_AGAIN,
        };
        self.tell_gone(key, number, message);
    }

    /// Tells a client, unless it knows, that something at the end of what it has played is gone, and all of it perhaps: there
    /// is nothing behind that a gap could stand before.
    pub(super) fn tell_end_gone(&mut self, key: SessionKey, number: u32) {
        self.tell_gone(
            key,
            number,
            "Kafka no longer has all of it, and nothing that came behind what is missing",
        );
    }

    fn tell_gone(&mut self, key: SessionKey, number: u32, message: &str) {
        let Some(replay) = self.replay(key, number) else { return };
        if std::mem::replace(&mut replay.is_aged_out, true) {
            return;
        }
        let (id, is_resumed) = (replay.id.clone(), replay.play.is_none());
        let reason = if replay.is_unanswered { ResumeRefusal::NoAnswer } else { ResumeRefusal::AgedOut };
        if is_resumed {
            self.refuse_resume(key, reason);
        }
        self.tell(key, &Control::error(id, Code::ReplayAgedOut, message, false));
    }

    /// A session's request could not be resumed, or not wholly.
    pub(super) fn refuse_resume(&mut self, key: SessionKey, reason: ResumeRefusal) {
        self.replay_counts.0.borrow_mut().resumes_refused[reason as usize] += 1;
        let id = self.id;
        if let Some(session) = self.session(key) {
            session_line!(DEBUG, session, id, reason = reason.label(), "not resumed, or not wholly");
        }
    }
}

/// One replay. What it holds is told to those who read for it when it is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    counts: ReplayCounts,
    kind: ReplayKind,
    end: ReplayEnd,
    is_wanted: Arc<AtomicBool>,
    span: Span,
}

impl Counted {
    /// It came to an end.
    pub(super) fn finish(&mut self, end: ReplayEnd) {
        self.end = end;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.is_wanted.store(false, Ordering::Relaxed);
        self.span.record("end", self.end.label());
        let mut totals = self.counts.0.borrow_mut();
        totals.running[self.kind as usize] -= 1;
        totals.ended[self.kind as usize][self.end as usize] += 1;
    }
}
