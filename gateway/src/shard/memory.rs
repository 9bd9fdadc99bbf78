//! What a shard's sessions may hold together, and what happens when they would hold more.
//!
//! Two sums are kept up to date as sessions are flushed and read, so that looking at a bound costs nothing: what
//! outboxes hold after their flush, which is what slow clients cost, and what requests hold that are half read or wait
//! for their answer. Each shard has its share of either bound.

use super::Shard;
use super::socket::Socket;
use crate::clock;
use crate::config::Config;
use crate::event::Stream;
use crate::feed::request::{Resume, SessionKey, Target, Want};
use crate::session::{Named, PendingSubscribe, Session, Wanted};
use crate::stats::CloseReason;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tickgate_protocol::code::CLOSE_TRY_LATER;

/// Entries that one pass queues before it flushes in its midst. A full inbox times ten thousand sessions would be
/// gigabytes of entries; this many cost a few MiB, and no session that keeps up gets a hundred of them at once.
pub const QUEUED_ENTRIES_MAX: usize = 131_072;
/// How often at most the ending of slow sessions is logged, in milliseconds.
const LOG_MS: u64 = 10_000;

/// The sums and bounds of one shard.
#[derive(Debug)]
pub(super) struct Memory {
    /// Share of `outbox.total_bytes_max`.
    slow_bytes_max: usize,
    /// Share of `limits.reading_bytes_total_max`.
    reading_bytes_max: usize,
    /// What outboxes hold after their flush.
    pub(super) slow_bytes: usize,
    /// What half-read and waiting requests hold, and replays.
    pub(super) reading_bytes: usize,
    /// Entries queued since the last flush.
    pub(super) queued_entries: usize,
    /// When the ending of slow sessions was last logged, monotonic milliseconds, and how many ended since.
    logged: Option<(u64, u64)>,
}

impl Memory {
    pub(super) fn new(config: &Config) -> Self {
        let shards = config.shard_count();
        Self {
            slow_bytes_max: config.outbox.total_bytes_max / shards,
            reading_bytes_max: config.limits.reading_bytes_total_max / shards,
            slow_bytes: 0,
            reading_bytes: 0,
            queued_entries: 0,
            logged: None,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.slow_bytes > self.slow_bytes_max
    }

    /// Brings the sum up to what a session's outbox holds.
    pub(super) fn account_slow(&mut self, session: &mut Session<impl Socket>) {
        let held = session.outbox.held_bytes();
        self.slow_bytes = self.slow_bytes + held - std::mem::replace(&mut session.slow_bytes, held);
    }

    fn account_reading(&mut self, session: &mut Session<impl Socket>) {
        let pending = session.pending.as_ref().map_or(0, |pending| pending.bytes());
        let replays = session.replays.as_ref().map_or(0, |replays| replays.bytes());
        let held = session.decoder.as_ref().map_or(0, |decoder| decoder.held_bytes()) + pending + replays;
        self.reading_bytes = self.reading_bytes + held - std::mem::replace(&mut session.reading_bytes, held);
    }
}

impl PendingSubscribe {
    /// Bytes that it holds here, and on its way to the feed and back.
    fn bytes(&self) -> usize {
        // Its text, shared by its copies, or why it is refused, and the entry among those in flight.
        const TEXTS: usize = 48;
        let want = size_of::<Wanted>() + size_of::<(Target, Stream)>() + 2 * size_of::<Want>() + 3 * TEXTS;
        let deferred: usize = self.deferred.iter().map(|text| text.len() + size_of::<Box<str>>()).sum();
        let named: usize = self.named.iter().map(|named| named.symbol.len() + named.channel.len()).sum();
        let resumes = self.resumes.len() * size_of::<Resume>();
        resumes
            + named
            + self.named.len() * (size_of::<Named>() + 2 * TEXTS)
            + self.wants.len() * want
            + deferred
    }
}

/// Places among `limits.subscriptions_total_max` that a request has taken and not filled yet; dropping it gives them
/// back.
#[derive(Debug)]
pub struct Reservation {
    held: Arc<AtomicUsize>,
    places: usize,
}

impl Reservation {
    /// No places yet, of those that `held` counts.
    pub fn new(held: Arc<AtomicUsize>) -> Self {
        Self { held, places: 0 }
    }

    /// Takes one more place unless `most` are taken; says whether there was one.
    pub fn take(&mut self, most: usize) -> bool {
        let taken = self.held.fetch_add(1, Ordering::Relaxed) < most;
        if taken {
            self.places += 1;
        } else {
            self.held.fetch_sub(1, Ordering::Relaxed);
        }
        taken
    }
}

impl Reservation {
    /// Takes over the place of a subscription that ends while another in its stead is asked for.
    pub fn keep(&mut self) {
        self.held.fetch_add(1, Ordering::Relaxed);
        self.places += 1;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.held.fetch_sub(self.places, Ordering::Relaxed);
    }
}

impl Memory {
    /// Whether half of what may be held of what is being read is: the rest is for those who come back.
    pub fn is_half_read(&self) -> bool {
        self.reading_bytes > self.reading_bytes_max / 2
    }
}

impl<S: Socket> Shard<S> {
    /// Brings the sum of what is being read up to a session; closes the session that takes it over the bound.
    pub(super) fn account_reading(&mut self, key: SessionKey) {
        let Self { sessions, memory, .. } = self;
        let Some(session) = sessions.get_mut(key.slot as usize).filter(|session| session.key == key) else {
            return;
        };
        let before = session.reading_bytes;
        memory.account_reading(session);
        let has_grown = session.reading_bytes > before;
        if has_grown && memory.reading_bytes > memory.reading_bytes_max {
            self.close_session(key, CLOSE_TRY_LATER, "try again later", None, CloseReason::ReadingFull);
        }
    }

    /// Ends the sessions that hold most, until a quarter of the bound is free.
    pub(super) fn relieve_memory(&mut self) {
        let goal = self.memory.slow_bytes_max / 4 * 3;
        let held_bytes = self.memory.slow_bytes;
        let sessions = self.sessions.iter().filter(|(_, session)| session.slow_bytes > 0);
        let mut largest: Vec<_> = sessions.map(|(_, session)| (session.slow_bytes, session.key)).collect();
        largest.sort_unstable_by_key(|(bytes, key)| (std::cmp::Reverse(*bytes), key.slot));
        let mut ended = 0;
        for (_, key) in &largest {
            if self.memory.slow_bytes <= goal {
                break;
            }
            self.at_hand = Some(*key);
            if self.open_session(*key).is_some() {
                self.end_slow(*key);
                // Its queue is given up; what the socket has begun to take stays until it ends.
                self.account(key.slot);
                ended += 1;
            }
        }
        if self.memory.is_over() {
            // What is left was begun to be written to sockets that take nothing: no goodbye would get through either.
            for (_, key) in &largest {
                if self.memory.slow_bytes <= goal {
                    break;
                }
                self.at_hand = Some(*key);
                self.end_session(*key, CloseReason::SlowConsumer);
            }
        }
        self.totals.pressure_closes += ended;
        self.log_pressure(ended, held_bytes);
    }

    fn log_pressure(&mut self, ended: u64, held_bytes: usize) {
        let now_ms = clock::mono_ms();
        let (logged_ms, unlogged) = self.memory.logged.unwrap_or((0, 0));
        let ended = ended + unlogged;
        if ended == 0 || (self.memory.logged.is_some() && now_ms < logged_ms + LOG_MS) {
            self.memory.logged = Some((logged_ms, ended));
            return;
        }
        self.memory.logged = Some((now_ms, 0));
        let bound_bytes = self.memory.slow_bytes_max;
        tracing::warn!(ended, held_bytes, bound_bytes, "slow sessions ended: together they held too much");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a subscription that ended while another in its stead was on its way, the place went to whoever came first, and there
    /// was one too many when the other began.
    #[test]
    fn the_place_of_what_is_asked_for_anew_is_kept() {
        let held = Arc::new(AtomicUsize::new(2));
        let mut pending = Reservation::new(held.clone());
        // What is played ends.
        pending.keep();
        held.fetch_sub(1, Ordering::Relaxed);
        assert!(!Reservation::new(held.clone()).take(2), "its place is not free");
        // What was asked for begins.
        held.fetch_add(1, Ordering::Relaxed);
        drop(pending);
        assert_eq!(held.load(Ordering::Relaxed), 2);
    }
}
