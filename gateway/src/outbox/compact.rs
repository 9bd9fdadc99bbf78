//! What happens at a bound: conflate, skip, or give up.

use super::{Bounds, Entry, Offer, Outbox, Resync};
use crate::event::{Event, Key};
use crate::stats::DropReason;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use tickgate_protocol::event::{Gap, GapCause, Tail};
use tickgate_protocol::{Channel, OnSlow};

/// Exists only while a client is slow.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    /// Where the newest state of a conflated key stands: its place in the queue, counted from `popped`.
    newest: FxHashMap<Key, u64>,
    /// Entries that left the queue's front since the places were counted.
    popped: u64,
    /// Books whose changes were given up.
    resyncs: FxHashMap<Key, PendingResync>,
}

#[derive(Debug)]
struct PendingResync {
    resync: Resync,
    asked: bool,
}

impl Pressure {
    /// Takes an event that needs no place of its own: returns how many older or own events it replaced.
    pub(super) fn absorb(
        &mut self,
        queue: &mut VecDeque<Entry>,
        queued_bytes: &mut usize,
        event: &Arc<Event>,
        tail: Option<Tail>,
        policy: OnSlow,
        now_us: u32,
    ) -> Option<u64> {
        let key = event.key();
        if let Some(pending) = self.resyncs.get_mut(&key) {
            pending.resync.merged = pending.resync.merged.saturating_add(event.tail.merged.max(event.count));
            return Some(u64::from(event.count));
        }
        let place = usize::try_from(self.newest.get(&key)? - self.popped).ok()?;
        let entry = queue.get_mut(place)?;
        let before = entry.bytes();
        let conflated = replace(entry, Entry::event(event.clone(), tail, policy, now_us));
        *queued_bytes = *queued_bytes + entry.bytes() - before;
        Some(conflated)
    }

    /// A key that had no place stands `behind` entries from the front from now on.
    pub(super) fn placed(&mut self, key: Key, behind: usize) {
        self.newest.insert(key, self.popped + behind as u64);
    }

    pub(super) fn popped(&mut self, entry: &Entry) {
        if let Entry::Event { event, .. } = entry
            && self.newest.get(&event.key()) == Some(&self.popped)
        {
            self.newest.remove(&event.key());
        }
        self.popped += 1;
    }

    /// Every place moved back by one.
    pub(super) fn shifted_back(&mut self) {
        // Places count from the front that was; one more in front is the same as one fewer popped.
        match self.popped.checked_sub(1) {
            Some(popped) => self.popped = popped,
            None => self.newest.values_mut().for_each(|place| *place += 1),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.resyncs.is_empty()
    }

    pub(super) fn resyncs(&self) -> impl Iterator<Item = (&Key, &Resync)> {
        self.resyncs.iter().map(|(key, pending)| (key, &pending.resync))
    }

    pub(super) fn ask_resyncs(&mut self) -> Vec<Key> {
        let mut due = Vec::new();
        for (key, pending) in &mut self.resyncs {
            if !std::mem::replace(&mut pending.asked, true) {
                due.push(*key);
            }
        }
        due
    }

    pub(super) fn await_snapshot(&mut self, key: Key) {
        let resync = Resync { after: None, merged: 0 };
        self.resyncs.entry(key).or_insert(PendingResync { resync, asked: true });
    }

    pub(super) fn answer_resync(&mut self, key: Key) -> Option<Resync> {
        self.resyncs.remove(&key).map(|pending| pending.resync)
    }
}

/// Puts `newer` in the place of `older`; returns how many events that replaced.
fn replace(older: &mut Entry, newer: Entry) -> u64 {
    let prev = older.prev();
    let merged = older.merged().saturating_add(newer.merged());
    let replaced = match older {
        Entry::Event { event, .. } => u64::from(event.count),
        _ => 0,
    };
    let extra = match &newer {
        // Only the newest event of a record with several is sent: the others are conflated with it.
        Entry::Event { event, .. } => u64::from(event.count) - 1,
        _ => 0,
    };
    if let Entry::Event { event, tail, policy, at_us } = newer {
        let shown = tail.map_or(event.tail, |t| *t);
        let event = if event.count > 1 { Arc::new(event.with_tail(event.tail)) } else { event };
        let tail = Some(Box::new(Tail { prev, merged, ..shown }));
        *older = Entry::Event { event, tail, policy, at_us };
    }
    replaced + extra
}

impl Outbox {
    /// Makes room: conflates what may be, skips the oldest of what may be skipped down to half the bound, and says
    /// [`Offer::Overflow`] when that is not enough.
    pub(super) fn relieve(&mut self, now_us: u32, bounds: &Bounds) -> Offer {
        let mut pressure = self.pressure.take().unwrap_or_default();
        let old = std::mem::take(&mut self.queue);
        let mut kept: VecDeque<Entry> = VecDeque::with_capacity(old.len());
        let mut gap_places: FxHashMap<(u32, Channel), usize> = FxHashMap::default();
        let blocked = self.is_blocked();
        let too_old = |at_us: u32| blocked && now_us.wrapping_sub(at_us) >= bounds.age_max_us;
        pressure.newest.clear();
        pressure.popped = 0;
        let mut overdue = false;
        let mut remaining = old.len();
        for mut entry in old {
            remaining -= 1;
            match &entry {
                Entry::Control(_) => {}
                Entry::Gap(gap) => {
                    gap_places.insert((gap.symbol.id, gap.channel), kept.len());
                }
                Entry::Event { event, policy: OnSlow::Conflate, .. } if event.stream.is_replaceable() => {
                    let key = event.key();
                    if let Some(place) = pressure.newest.get(&key) {
                        let older = &mut kept[*place as usize];
                        self.queued_bytes -= older.bytes() + entry.bytes();
                        let conflated = replace(older, entry);
                        self.queued_bytes += older.bytes();
                        self.books.conflated += conflated;
                        self.books.held -= conflated;
                        continue;
                    }
                    pressure.newest.insert(key, kept.len() as u64);
                }
                Entry::Event { event, policy: OnSlow::Conflate, .. } => {
                    // A book change: what it builds on is given up with it, a snapshot will follow.
                    let (count, merged, prev, key) = (event.count, entry.merged(), entry.prev(), event.key());
                    let fresh = Resync { after: prev, merged: 0 };
                    let pending = pressure
                        .resyncs
                        .entry(key)
                        .or_insert(PendingResync { resync: fresh, asked: false });
                    pending.resync.merged = pending.resync.merged.saturating_add(merged);
                    self.queued_bytes -= entry.bytes();
                    self.books.conflated += u64::from(count);
                    self.books.held -= u64::from(count);
                    continue;
                }
                Entry::Event { event, policy: OnSlow::Skip, at_us, .. } => {
                    let entries = kept.len() + remaining + 1;
                    let over = self.queued_bytes > bounds.bytes_max / 2 || entries > bounds.entries_max / 2;
                    // What follows a skipped book change builds on it: skipped too, and a snapshot will follow.
                    let is_change = event.stream.channel == Channel::Book && !event.stream.is_replaceable();
                    let broken = is_change && pressure.resyncs.contains_key(&event.key());
                    if over || broken || too_old(*at_us) {
                        if is_change {
                            let fresh = PendingResync { resync: Resync { after: None, merged: 0 }, asked: false };
                            let pending = pressure.resyncs.entry(event.key()).or_insert(fresh);
                            pending.resync.after = Some(event.position);
                        }
                        let key = (event.symbol.id, event.stream.channel);
                        let count = u64::from(event.count);
                        let upto = Some(event.position);
                        self.queued_bytes -= entry.bytes();
                        self.books.dropped[DropReason::Skipped as usize] += count;
                        self.books.held -= count;
                        self.gap_events += count;
                        let place = gap_places.get(&key).copied();
                        if let Some(Entry::Gap(gap)) = place.and_then(|p| kept.get_mut(p))
                            && gap.gap.cause == GapCause::SlowConsumer
                        {
                            gap.gap.upto = upto;
                            gap.gap.count = gap.gap.count.map(|c| c + count);
                            continue;
                        }
                        let after = entry.prev();
                        let gap =
                            Gap { after, upto, count: Some(count), cause: GapCause::SlowConsumer };
                        entry = Entry::gap(event.symbol.clone(), event.stream.channel, gap);
                        self.gaps[GapCause::SlowConsumer as usize] += 1;
                        self.queued_bytes += entry.bytes();
                        gap_places.insert(key, kept.len());
                    }
                }
                Entry::Event { policy: OnSlow::Disconnect, at_us, .. } => overdue |= too_old(*at_us),
            }
            kept.push_back(entry);
        }
        self.queue = kept;
        self.pressure = Some(pressure);
        self.recount();
        let full = self.queued_bytes > bounds.bytes_max || self.queue.len() > bounds.entries_max;
        // One state per symbol is the least that conflation can keep: that alone never ends a session.
        let must_end = overdue || (full && self.queue.iter().any(|e| e.policy() == Some(OnSlow::Disconnect)));
        if must_end { Offer::Overflow } else { Offer::Queued }
    }

    /// A gap's text grows with its numbers: measured anew, so that what is subtracted is what was added.
    fn recount(&mut self) {
        self.queued_bytes = self.queue.iter().map(Entry::bytes).sum();
    }
}
