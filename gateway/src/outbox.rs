//! The bounded queue of one session.
//!
//! Plain data: no socket, no runtime, no clock. The shard offers events, asks for bytes to write and says how many the
//! socket took. While the client keeps up, an event is queued and written in the same pass. At a bound, each event's
//! own policy acts: the newest state is kept, or the oldest events are dropped and announced, or the session ends.
//!
//! The books close at every moment: `offered = sent + conflated + dropped + held`.

mod compact;
mod deflate;
mod entry;
mod fill;
mod filled;
mod skip;
mod spares;

use crate::event::{Event, Key, Stream};
use crate::stats::DropReason;
use compact::Pressure;
pub use deflate::DeflateTotals;
pub use entry::Entry;
use filled::Unsent;
pub use filled::{Filled, Offered, Origin, Stamps};
pub use spares::Spares;
use std::collections::VecDeque;
use std::sync::Arc;
use tickgate_protocol::event::{Gap, GapCause, Tail};
use tickgate_protocol::{OnSlow, Position};

/// Where an outbox begins to act; see `config::OutboxConfig`.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes queued.
    pub bytes_max: usize,
    /// Events queued.
    pub entries_max: usize,
    /// Age of an event in microseconds, while the socket refuses bytes.
    pub age_max_us: u32,
    /// Bytes handed out at once.
    pub write_bytes_max: usize,
    /// Bytes of one data frame.
    pub frame_bytes_max: usize,
}

/// What became of an offered event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Offer {
    /// It will be sent.
    Queued,
    /// It replaced an older state, or waits for a fresh snapshot of its book.
    Conflated,
    /// A bound is reached and an event in the queue may be neither dropped nor conflated: end the session.
    Overflow,
}

/// The events of one outbox since it was made; they always add up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Books {
    /// Offered.
    pub offered: u64,
    /// Queued or half written.
    pub held: u64,
    /// Wholly taken by the socket.
    pub sent: u64,
    /// Replaced by a newer state.
    pub conflated: u64,
    /// Dropped, by [`DropReason`].
    pub dropped: [u64; DropReason::COUNT],
}

impl Books {
    /// Offered minus where everything went: 0, always.
    pub fn imbalance(&self) -> i64 {
        let gone = self.sent + self.conflated + self.dropped.iter().sum::<u64>() + self.held;
        self.offered as i64 - gone as i64
    }
}

/// The gaps of one outbox since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gaps {
    /// Gaps announced, by cause.
    pub by_cause: [u64; GapCause::ALL.len()],
    /// Events that gaps of this slow client counted.
    pub events: u64,
}

/// A book whose changes were given up: the client needs a snapshot once it reads again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resync {
    /// Last position that this client was sent.
    pub after: Option<Position>,
    /// First position that the snapshot stands for, where known.
    pub first: Option<Position>,
    /// Updates that the snapshot stands for, so far.
    pub merged: u32,
}

/// How a session ends.
#[derive(Debug)]
struct Close {
    code: u16,
    reason: Box<str>,
    /// A last control message, written right before the close frame.
    last_words: Option<Box<[u8]>>,
    /// Whether everything queued goes first.
    orderly: bool,
}

/// The queue of one session. What an offer touches stands together, before the rest: with a thousand clients and more
/// it is the cache that delivering costs.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Outbox {
    queue: VecDeque<Entry>,
    /// Bytes of the entries in `queue`, shared events at full size.
    queued_bytes: usize,
    pressure: Option<Box<Pressure>>,
    books: Books,
    /// Events in what was handed out and not wholly taken yet.
    unsent_events: u32,
    /// Whether there is, or was since it was last quiet, more to see to than a queue of shared events and a socket that
    /// takes everything.
    is_special: bool,
    close_written: bool,
    slow_told: bool,
    /// Whether a ping is to be sent.
    is_pinging: bool,
    blocked_since_us: Option<u32>,
    unsent: Option<Box<Unsent>>,
    /// Control payloads queued, which a client that does not read could otherwise grow without end.
    control_bytes: usize,
    pong: Option<Box<[u8]>>,
    close: Option<Box<Close>>,
    gaps: Option<Box<Gaps>>,
}

impl Outbox {
    /// Entries that a small queue has room for at the most.
    const SMALL_ENTRIES: usize = 16;
    /// Bytes of a small queue.
    pub const SMALL_BYTES: usize = Self::SMALL_ENTRIES * size_of::<Entry>();

    /// Offers an event under the policy of its subscription. Never waits.
    #[inline]
    pub fn offer(&mut self, event: &Arc<Event>, policy: OnSlow, now_us: u32, bounds: &Bounds) -> Offer {
        if self.pressure.is_some() {
            return self.offer_with(event, None, policy, now_us, bounds);
        }
        self.books.offered += u64::from(event.count);
        self.books.held += u64::from(event.count);
        self.push_event(event, None, policy, now_us, bounds)
    }

    /// Offers an event with a tail for this client alone, if there is one.
    pub fn offer_with(
        &mut self,
        event: &Arc<Event>,
        tail: Option<Tail>,
        policy: OnSlow,
        now_us: u32,
        bounds: &Bounds,
    ) -> Offer {
        let count = u64::from(event.count);
        self.books.offered += count;
        self.is_special |= tail.is_some();
        if let Some(pressure) = &mut self.pressure
            && let Some(conflated) =
                pressure.absorb(&mut self.queue, &mut self.queued_bytes, event, tail, policy, now_us)
        {
            self.books.conflated += conflated;
            self.books.held = self.books.held + count - conflated;
            return Offer::Conflated;
        }
        self.books.held += count;
        if let Some(pressure) = &mut self.pressure
            && policy == OnSlow::Conflate
            && event.stream.is_replaceable()
        {
            pressure.placed(event.key(), self.queue.len());
        }
        self.push_event(event, tail, policy, now_us, bounds)
    }

    #[inline]
    fn push_event(
        &mut self,
        event: &Arc<Event>,
        tail: Option<Tail>,
        policy: OnSlow,
        now_us: u32,
        bounds: &Bounds,
    ) -> Offer {
        self.queued_bytes += event.text.len();
        self.queue.push_back(Entry::event(event.clone(), tail, policy, now_us));
        if self.is_over(bounds) { self.relieve(now_us, bounds) } else { Offer::Queued }
    }

    #[inline]
    fn is_over(&self, bounds: &Bounds) -> bool {
        self.queued_bytes > bounds.bytes_max || self.queue.len() > bounds.entries_max
    }

    /// Whether an event was offered too long ago for a socket that refuses bytes.
    fn is_too_old(&self, at_us: u32, now_us: u32, bounds: &Bounds) -> bool {
        self.is_blocked() && now_us.wrapping_sub(at_us) >= bounds.age_max_us
    }

    /// Whether what is queued may wait for more: shared events, far from the bounds, and a socket that takes them.
    pub fn may_gather(&self, bounds: &Bounds) -> bool {
        !self.is_special
            && !self.queue.is_empty()
            && !self.is_half_full(bounds)
            && self.queued_bytes < bounds.write_bytes_max / 2
    }

    /// Whether half of a bound is reached.
    #[inline]
    pub fn is_half_full(&self, bounds: &Bounds) -> bool {
        self.queued_bytes() > bounds.bytes_max / 2 || self.queue.len() > bounds.entries_max / 2
    }

    /// Acts on the bounds as time passes: to be called now and then while [`Outbox::is_blocked`].
    pub fn check_age(&mut self, now_us: u32, bounds: &Bounds) -> Offer {
        if self.is_over(bounds) || self.delay_us(now_us) >= bounds.age_max_us {
            self.relieve(now_us, bounds)
        } else {
            Offer::Queued
        }
    }

    /// Queues a gap that the feed found, in order with the events.
    pub fn announce(&mut self, symbol: &Arc<crate::event::Symbol>, stream: Stream, gap: Gap) {
        self.announce_from(symbol, stream, gap, None);
    }

    /// The same of events that are owed from `first` on, if it does not say where it begins: another gateway may remember some.
    pub fn announce_from(
        &mut self,
        symbol: &Arc<crate::event::Symbol>,
        stream: Stream,
        mut gap: Gap,
        first: Option<Position>,
    ) {
        self.gaps.get_or_insert_default().by_cause[gap.cause as usize] += 1;
        if let Some(pressure) = &mut self.pressure {
            gap = pressure.announced((symbol.id, stream), gap);
        }
        self.push(Entry::gap(symbol.clone(), stream, gap, first));
    }

    /// Queues a control message, in order with the events.
    pub fn control(&mut self, json: Vec<u8>) {
        self.control_bytes += json.len();
        self.push(Entry::Control { json: json.into_boxed_slice(), is_fence: false });
    }

    /// Queues the answer to a request that changes what the session gets. Events behind it never take a place before
    /// it: its client is told first, and then given the state.
    pub fn acknowledge(&mut self, json: Vec<u8>) {
        self.control_bytes += json.len();
        self.push(Entry::Control { json: json.into_boxed_slice(), is_fence: true });
        if let Some(pressure) = &mut self.pressure {
            pressure.fence();
        }
    }

    /// Queues a control message before everything that is not yet begun.
    pub fn control_first(&mut self, json: Vec<u8>) {
        self.control_bytes += json.len();
        self.put_back(Entry::Control { json: json.into_boxed_slice(), is_fence: false });
    }

    /// Keeps the newest ping's answer: one slot, as RFC 6455 5.5.3 allows.
    pub fn pong(&mut self, payload: &[u8]) {
        self.is_special = true;
        self.pong = Some(payload.into());
    }

    /// Asks the client for a sign of life, before everything that is not yet begun.
    pub fn ping(&mut self) {
        self.is_special = true;
        self.is_pinging = true;
    }

    /// Whether the answer to a ping is waiting.
    pub fn has_pong(&self) -> bool {
        self.pong.is_some()
    }

    /// Ends with a close frame, behind a last control message if there is one. Both overtake everything that is not
    /// yet begun. The first close wins, but for an orderly one.
    pub fn close(&mut self, code: u16, reason: &str, last_words: Option<Vec<u8>>) {
        if self.close.as_ref().is_none_or(|close| close.orderly) && !self.close_written {
            self.is_special = true;
            let last_words = last_words.map(Vec::into_boxed_slice);
            self.close = Some(Box::new(Close { code, reason: reason.into(), last_words, orderly: false }));
            self.give_up_queue();
        }
    }

    /// Ends with a close frame behind everything queued.
    pub fn close_orderly(&mut self, code: u16, reason: &str) {
        if self.close.is_none() && !self.close_written {
            self.is_special = true;
            self.close =
                Some(Box::new(Close { code, reason: reason.into(), last_words: None, orderly: true }));
        }
    }

    /// Whether a close frame was asked for.
    pub fn is_closing(&self) -> bool {
        self.close.is_some() || self.close_written
    }

    /// Whether the socket takes everything, and there was nothing but shared events to write: then nothing follows from
    /// a write.
    #[inline]
    pub fn is_plain(&self) -> bool {
        !self.is_special && self.queue.is_empty()
    }

    /// Takes a queue from `spares` if it has none, so that what is offered next allocates none.
    #[inline]
    pub fn lend(&mut self, spares: &mut Spares) {
        if self.queue.capacity() == 0 {
            self.queue = spares.take();
        }
    }

    /// Whether the memory of its queue is small enough to be kept for some moments, for what comes next.
    #[inline]
    pub fn is_small(&self) -> bool {
        self.queue.capacity() <= Self::SMALL_ENTRIES
    }

    /// Gives an empty queue to `spares`: a quiet session holds no buffers.
    #[inline]
    pub fn give_back(&mut self, spares: &mut Spares) {
        if self.queue.is_empty() && self.queue.capacity() > 0 {
            spares.keep(std::mem::take(&mut self.queue));
        }
    }

    /// Nothing queued will be sent: frees it at once, however long the peer takes for the close.
    fn give_up_queue(&mut self) {
        let gone = self.queue.iter().map(Entry::count).sum::<u64>();
        self.books.held -= gone;
        self.books.dropped[DropReason::Closed as usize] += gone;
        self.queue = VecDeque::new();
        self.queued_bytes = 0;
        self.control_bytes = 0;
        self.pressure = None;
    }

    /// Gives up everything still held, as the session ends; returns how many events that were.
    pub fn abandon(&mut self) -> u64 {
        let held = std::mem::take(&mut self.books.held);
        self.books.dropped[DropReason::Closed as usize] += held;
        *self = Self { books: self.books, gaps: self.gaps.take(), ..Self::default() };
        held
    }

    /// Queues what is no event.
    fn push(&mut self, entry: Entry) {
        self.is_special = true;
        self.queued_bytes += entry.bytes();
        self.queue.push_back(entry);
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.queue.pop_front()?;
        self.queued_bytes -= entry.bytes();
        if let Some(pressure) = &mut self.pressure {
            pressure.popped(&entry);
        }
        Some(entry)
    }

    /// Whether there is anything to write.
    pub fn has_work(&self) -> bool {
        self.has_unsent()
            || (!self.close_written
                && (!self.queue.is_empty() || self.pong.is_some() || self.is_pinging || self.close.is_some()))
    }

    /// Whether a frame was begun that the socket has not wholly taken.
    pub fn has_unsent(&self) -> bool {
        self.unsent.is_some()
    }

    /// Whether the close frame was handed out and wholly taken.
    pub fn is_closed(&self) -> bool {
        self.close_written && !self.has_unsent()
    }

    /// Whether the socket refused bytes at the last write.
    pub fn is_blocked(&self) -> bool {
        self.blocked_since_us.is_some()
    }

    /// The client's own rate allows no more bytes: counts like a socket that refuses them, and conflates at once, so
    /// that what is sent next is the newest state.
    pub fn throttle(&mut self, now_us: u32) {
        self.is_special = true;
        self.blocked_since_us.get_or_insert(now_us);
        if self.pressure.is_none() {
            let without_bounds = Bounds {
                bytes_max: usize::MAX,
                entries_max: usize::MAX,
                age_max_us: u32::MAX,
                write_bytes_max: 0,
                frame_bytes_max: 0,
            };
            let _ = self.relieve(now_us, &without_bounds);
        }
    }

    /// Begins to hold the changes of a stream back until its snapshot comes, as a subscription falls back to it.
    pub fn await_snapshot(&mut self, key: Key) {
        self.is_special = true;
        self.pressure.get_or_insert_default().await_snapshot(key);
    }

    /// Microseconds since the socket last took anything; 0 while it takes everything.
    pub fn blocked_us(&self, now_us: u32) -> u32 {
        self.blocked_since_us.map_or(0, |since| now_us.wrapping_sub(since))
    }

    /// Age in microseconds of the oldest queued event, counted only while the socket refuses bytes.
    pub fn delay_us(&self, now_us: u32) -> u32 {
        let Some(since) = self.blocked_since_us else { return 0 };
        let oldest = self.queue.iter().find_map(Entry::offered_us);
        oldest.map_or(0, |at| now_us.wrapping_sub(at)).max(if self.has_unsent() {
            now_us.wrapping_sub(since)
        } else {
            0
        })
    }

    /// Bytes held, shared events at full size.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes + self.unsent.as_ref().map_or(0, |unsent| unsent.bytes.len())
    }

    /// Bytes of memory held, shared events at full size: what a slow client costs at the most.
    pub fn held_bytes(&self) -> usize {
        let tails = if self.pressure.is_some() { self.queue.len() * size_of::<Tail>() } else { 0 };
        let pressure = self.pressure.as_ref().map_or(0, |pressure| pressure.held_bytes());
        let words =
            self.close.as_ref().and_then(|close| close.last_words.as_ref()).map_or(0, |json| json.len());
        self.queued_bytes
            + self.queue.capacity() * size_of::<Entry>()
            + tails
            + pressure
            + self.unsent.as_ref().map_or(0, |unsent| unsent.held_bytes())
            + words
    }

    /// How many entries are queued.
    pub fn queued_entries(&self) -> usize {
        self.queue.len()
    }

    /// Bytes of control messages queued.
    pub fn control_bytes(&self) -> usize {
        self.control_bytes
    }

    /// Whether the client was told that it is slow since the queue was last empty; remembers that it now is.
    pub fn tell_slow_once(&mut self) -> bool {
        !std::mem::replace(&mut self.slow_told, true)
    }

    /// The severest policy among the queued events.
    pub fn severest(&self) -> OnSlow {
        let policies = self.queue.iter().filter_map(Entry::policy);
        policies.max_by_key(|p| *p as u8).unwrap_or(OnSlow::Conflate)
    }

    /// The books.
    pub fn books(&self) -> &Books {
        &self.books
    }

    /// The gaps, if there were any.
    pub fn gaps(&self) -> Option<&Gaps> {
        self.gaps.as_deref()
    }

    /// The positions that this client was not given yet, handed to `still_owed` in no order: a cursor, which names the
    /// next record to read, must not pass them.
    pub fn owed_positions(&self, mut still_owed: impl FnMut(Position)) {
        let behind = |after: Position| Position { offset: after.offset.saturating_add(1), ..after };
        for entry in &self.queue {
            match entry {
                // The past alone is owed, but not as a part of what a client comes back for.
                Entry::Event { event, .. } if event.stream.is_held_back => {}
                Entry::Gap(gap) if gap.stream.is_held_back => {}
                Entry::Event { event, own, .. } => {
                    still_owed(event.position);
                    // It stands for what it replaced, which is owed as long as it is.
                    let first = entry.prev().filter(|_| entry.merged() > event.count).map(behind);
                    let replaced = own.as_ref().and_then(|own| own.first);
                    replaced.into_iter().chain(first).for_each(&mut still_owed);
                }
                Entry::Gap(queued) => {
                    // Of one that does not say where it begins, its end: whoever asks for that is told again.
                    let from = queued.gap.after.map(behind).or(queued.first.or(queued.gap.upto));
                    from.into_iter().chain(queued.first).for_each(&mut still_owed);
                }
                Entry::Control { .. } => {}
            }
        }
        for (_, resync) in self.pressure.iter().flat_map(|p| p.resyncs()) {
            // Both: they may be of different partitions.
            resync.after.map(behind).into_iter().chain(resync.first).for_each(&mut still_owed);
        }
    }

    /// The books that need a snapshot, once there is room for one; each is named once until it is answered.
    pub fn due_resyncs(&mut self, bounds: &Bounds) -> Vec<Key> {
        if self.is_blocked() || self.queued_bytes() > bounds.bytes_max / 4 {
            return Vec::new();
        }
        self.pressure.as_mut().map_or_else(Vec::new, |p| p.ask_resyncs())
    }

    /// Takes the snapshot that answers [`Outbox::due_resyncs`].
    pub fn resync(&mut self, event: &Arc<Event>, policy: OnSlow, now_us: u32, bounds: &Bounds) -> Offer {
        let Some(resync) = self.pressure.as_mut().and_then(|p| p.answer_resync(event.key())) else {
            return Offer::Queued;
        };
        let tail = Tail { prev: resync.after, merged: resync.merged.max(1), snapshot: true, replay: false };
        self.offer_with(event, Some(tail), policy, now_us, bounds)
    }

    /// Whether books wait for a snapshot.
    pub fn awaits_snapshots(&self) -> bool {
        self.pressure.as_ref().is_some_and(|pressure| !pressure.is_idle())
    }

    /// Forgets a subscription's pending resynchronisation, as it ends.
    pub fn forget(&mut self, key: Key) {
        if let Some(pressure) = &mut self.pressure {
            pressure.answer_resync(key);
        }
    }
}

#[cfg(test)]
mod tests;
