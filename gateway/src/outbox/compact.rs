//! What happens at a bound: conflate, skip, or give up.

use super::entry::{Own, QueuedGap};
use super::{Bounds, Entry, Offer, Outbox, Resync};
use crate::event::{Event, Key};
use crate::stats::DropReason;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;
use std::sync::Arc;
use tickgate_protocol::event::{Gap, GapCause, Tail};
use tickgate_protocol::{Channel, OnSlow, Position};

/// Exists only while a client is slow.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    /// Where the newest state of a symbol and channel stands if a newer one may take its place: its place in the
    /// queue, counted from `popped`.
    newest: FxHashMap<(u32, Channel), u64>,
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
            pending.resync.begins(event.position);
            return Some(u64::from(event.count));
        }
        let pair = (key.0, key.1.channel);
        let place = usize::try_from(self.newest.get(&pair)? - self.popped).ok()?;
        let entry =
            queue.get_mut(place).filter(|entry| entry.key() == Some(key) && policy == OnSlow::Conflate);
        let Some(entry) = entry else {
            // Another stream or policy by now: what comes next stands behind this event, which stays.
            self.newest.remove(&pair);
            return None;
        };
        let before = entry.bytes();
        let conflated = replace(entry, Entry::event(event.clone(), tail, policy, now_us));
        *queued_bytes = *queued_bytes + entry.bytes() - before;
        Some(conflated)
    }

    /// A state stands `behind` entries from the front from now on.
    pub(super) fn placed(&mut self, key: Key, behind: usize) {
        self.newest.insert((key.0, key.1.channel), self.popped + behind as u64);
    }

    /// What comes next takes no place of what came before.
    pub(super) fn fence(&mut self) {
        self.newest.clear();
    }

    /// A gap stands at the end of the queue from now on: no state behind it may take a place before it. If it falls
    /// into a time for which a snapshot will stand, it begins where the client really is.
    pub(super) fn announced(&mut self, key: Key, gap: Gap) -> Gap {
        self.newest.remove(&(key.0, key.1.channel));
        match self.resyncs.get_mut(&key) {
            Some(pending) => pending.resync.announced(gap),
            None => gap,
        }
    }

    pub(super) fn popped(&mut self, entry: &Entry) {
        if let Some(pair) = entry.pair()
            && self.newest.get(&pair) == Some(&self.popped)
        {
            self.newest.remove(&pair);
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

    /// Bytes of its maps.
    pub(super) fn held_bytes(&self) -> usize {
        // One byte of control per place, and at most 7 of 8 places taken.
        let of = |capacity: usize, entry: usize| capacity * 8 / 7 * (entry + 1);
        of(self.newest.capacity(), size_of::<((u32, Channel), u64)>())
            + of(self.resyncs.capacity(), size_of::<(Key, PendingResync)>())
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
        let resync = Resync { after: None, first: None, merged: 0 };
        self.resyncs.entry(key).or_insert(PendingResync { resync, asked: true });
    }

    pub(super) fn answer_resync(&mut self, key: Key) -> Option<Resync> {
        self.resyncs.remove(&key).map(|pending| pending.resync)
    }
}

impl Resync {
    /// The snapshot will stand for this position too; one that the client knows already is no news.
    fn begins(&mut self, position: Position) {
        if self.after.is_none_or(|after| !position.is_at_or_before(after)) {
            self.first.get_or_insert(position);
        }
    }

    /// A gap in the time that the snapshot will stand for begins where the client is, and the snapshot comes behind it.
    fn announced(&mut self, gap: Gap) -> Gap {
        let after = std::mem::replace(&mut self.after, gap.upto);
        self.first = None;
        Gap { after, count: None, ..gap }
    }
}

/// Puts `newer` in the place of `older`; returns how many events that replaced.
fn replace(older: &mut Entry, newer: Entry) -> u64 {
    let (prev, first) = (older.prev(), older.first());
    // A state that begins a subscription still does so with what followed it.
    let snapshot = older.is_snapshot() || newer.is_snapshot();
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
    if let Entry::Event { event, own, policy, at_us } = newer {
        let shown = own.map_or(event.tail, |own| own.tail);
        let event = if event.count > 1 { Arc::new(event.with_tail(event.tail)) } else { event };
        let own = Some(Box::new(Own { tail: Tail { prev, merged, snapshot, ..shown }, first }));
        *older = Entry::Event { event, own, policy, at_us };
    }
    replaced + extra
}

/// What stands last of one symbol and channel, behind the last fence, while a queue is gone through.
#[derive(Debug, Default, Clone, Copy)]
struct Last {
    /// Place of a state that a newer one may replace.
    state: Option<usize>,
    /// The position that this state follows.
    state_prev: Option<Position>,
    /// Place of a gap behind it.
    gap: Option<usize>,
}

/// One way through a queue, oldest first. What goes leaves a hole.
struct Compaction<'a> {
    outbox: &'a mut Outbox,
    pressure: Pressure,
    kept: VecDeque<Option<Entry>>,
    /// Entries kept or still to come.
    entries: usize,
    lasts: FxHashMap<(u32, Channel), Last>,
    /// The books whose changes were given up on the way.
    given_up: FxHashSet<Key>,
    now_us: u32,
    bounds: &'a Bounds,
    overdue: bool,
}

impl Outbox {
    /// Makes room: conflates what may be, skips the oldest of what may be skipped down to half the bound, and says
    /// [`Offer::Overflow`] when that is not enough.
    pub(super) fn relieve(&mut self, now_us: u32, bounds: &Bounds) -> Offer {
        self.is_special = true;
        if self.skip_oldest(now_us, bounds) {
            return Offer::Queued;
        }
        let pressure = self.pressure.take().map_or_else(Pressure::default, |pressure| *pressure);
        let old = std::mem::take(&mut self.queue);
        let kept = VecDeque::with_capacity(old.len());
        let entries = old.len();
        let mut compaction = Compaction {
            outbox: self,
            pressure,
            kept,
            entries,
            lasts: FxHashMap::default(),
            given_up: FxHashSet::default(),
            now_us,
            bounds,
            overdue: false,
        };
        old.into_iter().for_each(|entry| compaction.take(entry));
        let Compaction { mut pressure, kept, overdue, .. } = compaction;
        self.queue = kept.into_iter().flatten().collect();
        pressure.recount(&self.queue);
        self.pressure = Some(Box::new(pressure));
        // A gap's text grows with its numbers: measured anew, so that what is subtracted is what was added.
        self.queued_bytes = self.queue.iter().map(Entry::bytes).sum();
        let full = self.queued_bytes > bounds.bytes_max || self.queue.len() > bounds.entries_max;
        // One state per symbol is the least that conflation can keep: that alone never ends a session.
        let must_end = overdue || (full && self.queue.iter().any(|e| e.policy() == Some(OnSlow::Disconnect)));
        if must_end { Offer::Overflow } else { Offer::Queued }
    }
}

impl Pressure {
    /// Finds out anew where the newest states stand.
    fn recount(&mut self, queue: &VecDeque<Entry>) {
        self.newest.clear();
        self.popped = 0;
        for (place, entry) in queue.iter().enumerate() {
            match (entry, entry.pair()) {
                (Entry::Control { is_fence: true, .. }, _) => self.newest.clear(),
                (Entry::Event { event, policy: OnSlow::Conflate, .. }, Some(pair))
                    if event.stream.is_replaceable() =>
                {
                    self.newest.insert(pair, place as u64);
                }
                (_, Some(pair)) => {
                    self.newest.remove(&pair);
                }
                (_, None) => {}
            }
        }
    }
}

impl Compaction<'_> {
    fn take(&mut self, entry: Entry) {
        let Some(pair) = entry.pair() else {
            if matches!(entry, Entry::Control { is_fence: true, .. }) {
                self.lasts.clear();
            }
            return self.keep(entry);
        };
        let mut last = self.lasts.get(&pair).copied().unwrap_or_default();
        match entry {
            Entry::Control { .. } => {}
            Entry::Gap(_) => self.gap(entry, &mut last),
            Entry::Event { ref event, policy, at_us, .. } => match policy {
                OnSlow::Conflate if event.stream.is_replaceable() => self.state(entry, &mut last),
                OnSlow::Conflate => self.give_up(&entry),
                // It builds on changes that were given up, under whatever policy.
                OnSlow::Disconnect if self.is_broken(event) => self.give_up(&entry),
                OnSlow::Skip if self.must_skip(event, at_us) => self.skip(&entry, &mut last),
                OnSlow::Skip => {
                    (last.state, last.gap) = (None, None);
                    self.keep(entry);
                }
                OnSlow::Disconnect => {
                    self.overdue |= self.is_too_old(at_us);
                    (last.state, last.gap) = (None, None);
                    self.keep(entry);
                }
            },
        }
        self.lasts.insert(pair, last);
    }

    fn keep(&mut self, entry: Entry) {
        self.kept.push_back(Some(entry));
    }

    /// An entry is gone.
    fn gone(&mut self, entry: &Entry) {
        self.outbox.queued_bytes -= entry.bytes();
        self.entries -= 1;
    }

    fn is_too_old(&self, at_us: u32) -> bool {
        self.outbox.is_too_old(at_us, self.now_us, self.bounds)
    }

    /// A gap of the feed's. Behind another one it is the same gap.
    fn gap(&mut self, mut entry: Entry, last: &mut Last) {
        let Entry::Gap(queued) = &mut entry else { return };
        let key = (queued.symbol.id, queued.stream);
        if self.given_up.contains(&key)
            && let Some(pending) = self.pressure.resyncs.get_mut(&key)
        {
            queued.gap = pending.resync.announced(queued.gap);
        }
        let gap = queued.gap;
        match self.gap_at(last.gap) {
            Some(earlier) => {
                extend(earlier, gap.upto, &gap);
                self.gone(&entry);
            }
            None => {
                last.gap = Some(self.kept.len());
                self.keep(entry);
            }
        }
    }

    fn gap_at(&mut self, place: Option<usize>) -> Option<&mut QueuedGap> {
        match self.kept.get_mut(place?) {
            Some(Some(Entry::Gap(queued))) => Some(queued),
            _ => None,
        }
    }

    /// A state: it takes the place of an older one, unless a gap stands between them, which then begins earlier.
    fn state(&mut self, entry: Entry, last: &mut Last) {
        let older = last.state.and_then(|place| self.kept.get_mut(place));
        if let Some(hole) = older.filter(|older| older.as_ref().is_some_and(|o| o.key() == entry.key())) {
            let Some(older) = hole.as_mut().filter(|_| last.gap.is_none()) else {
                let older = hole.take();
                if let Some(older) = older {
                    self.gone(&older);
                    self.outbox.books.conflated += older.count();
                    self.outbox.books.held -= older.count();
                    if let Some(queued) = self.gap_at(last.gap) {
                        (queued.gap.after, queued.gap.count) = (last.state_prev, None);
                        queued.first = older.first();
                    }
                }
                return self.keep_state(entry, last);
            };
            self.outbox.queued_bytes -= older.bytes() + entry.bytes();
            self.entries -= 1;
            let conflated = replace(older, entry);
            self.outbox.queued_bytes += older.bytes();
            self.outbox.books.conflated += conflated;
            self.outbox.books.held -= conflated;
            return;
        }
        self.keep_state(entry, last);
    }

    fn keep_state(&mut self, entry: Entry, last: &mut Last) {
        last.state_prev = entry.prev().or_else(|| self.gap_at(last.gap).and_then(|queued| queued.gap.upto));
        (last.state, last.gap) = (Some(self.kept.len()), None);
        self.keep(entry);
    }

    /// A change of a book under conflation: what it builds on is given up with it, a snapshot will follow.
    fn give_up(&mut self, entry: &Entry) {
        let Some(key) = entry.key() else { return };
        let pending = self.pressure.resyncs.entry(key).or_insert_with(|| {
            self.given_up.insert(key);
            PendingResync { resync: Resync { after: entry.prev(), first: None, merged: 0 }, asked: false }
        });
        pending.resync.merged = pending.resync.merged.saturating_add(entry.merged());
        entry.position().into_iter().for_each(|position| pending.resync.begins(position));
        self.gone(entry);
        self.outbox.books.conflated += entry.count();
        self.outbox.books.held -= entry.count();
    }

    /// Whether the oldest must go to make room, and what builds on it.
    fn must_skip(&self, event: &Event, at_us: u32) -> bool {
        let over = self.outbox.queued_bytes > self.bounds.bytes_max / 2
            || self.entries > self.bounds.entries_max / 2;
        over || self.is_broken(event) || self.is_too_old(at_us)
    }

    /// Whether an event builds on what was given up.
    fn is_broken(&self, event: &Event) -> bool {
        is_change(event) && self.pressure.resyncs.contains_key(&event.key())
    }

    fn skip(&mut self, entry: &Entry, last: &mut Last) {
        let Entry::Event { event, .. } = entry else { return };
        let (count, upto) = (entry.count(), Some(event.position));
        let mut after = entry.prev();
        if is_change(event) {
            let pending = self.pressure.resyncs.entry(event.key()).or_insert_with(|| {
                self.given_up.insert(event.key());
                PendingResync { resync: Resync { after, first: None, merged: 0 }, asked: false }
            });
            // What was given up before it is missing too.
            after = std::mem::replace(&mut pending.resync.after, upto);
            pending.resync.first = None;
        }
        self.gone(entry);
        self.outbox.books.dropped[DropReason::Skipped as usize] += count;
        self.outbox.books.held -= count;
        self.outbox.gaps.get_or_insert_default().events += count;
        let gap = Gap { after, upto, count: Some(count), cause: GapCause::SlowConsumer };
        if let Some(earlier) = self.gap_at(last.gap) {
            return extend(earlier, entry.first(), &gap);
        }
        let gap = Entry::gap(event.symbol.clone(), event.stream, gap, entry.first());
        self.outbox.gaps.get_or_insert_default().by_cause[GapCause::SlowConsumer as usize] += 1;
        self.outbox.queued_bytes += gap.bytes();
        self.entries += 1;
        (last.state, last.gap) = (None, Some(self.kept.len()));
        self.keep(gap);
    }
}

/// Whether an event builds on the one before it.
pub(super) fn is_change(event: &Event) -> bool {
    event.stream.channel == Channel::Book && !event.stream.is_replaceable()
}

/// More is missing, right behind what was, beginning with `first`.
pub(super) fn extend(queued: &mut QueuedGap, first: Option<Position>, more: &Gap) {
    let Gap { upto, count, cause, .. } = *more;
    let gap = &mut queued.gap;
    if gap.after.is_none() && queued.first.is_none() {
        // Its end was all that was known of it.
        queued.first = gap.upto.or(first);
    }
    gap.upto = upto.or(gap.upto);
    gap.count = gap.count.zip(count).map(|(earlier, more)| earlier + more);
    if cause == GapCause::SlowConsumer {
        gap.cause = cause;
    }
}
