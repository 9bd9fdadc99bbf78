//! The usual way at a bound for a client that does not read and asked to skip: its oldest events go, and gaps in their
//! place tell how many.
//!
//! A compaction goes through the whole queue; this only takes from its front, so that many clients that stall together
//! cost the others no pause.

use super::compact::{extend, is_change};
use super::{Bounds, Entry, Outbox};
use crate::stats::DropReason;
use rustc_hash::FxHashMap;
use tickgate_protocol::event::{Gap, GapCause};
use tickgate_protocol::{Channel, OnSlow};

/// What a gap takes on the wire, about.
const GAP_BYTES: usize = 192;

impl Outbox {
    /// Skips the oldest events as far as they may be, until an eighth of what the bounds allow is free and none is too
    /// old. Returns whether some were skipped and that was enough.
    pub(super) fn skip_oldest(&mut self, now_us: u32, bounds: &Bounds) -> bool {
        // What stays of what was in front, and where in it the gap of a symbol and channel is.
        let mut front: Vec<Entry> = Vec::new();
        let mut front_bytes = 0;
        let mut gaps: FxHashMap<(u32, Channel), usize> = FxHashMap::default();
        let skipped_before = self.books.dropped[DropReason::Skipped as usize];
        let is_enough = loop {
            let is_roomy = front_bytes + self.queued_bytes <= bounds.bytes_max / 8 * 7
                && front.len() + self.queue.len() <= bounds.entries_max / 8 * 7;
            match self.queue.front() {
                Some(Entry::Event { event, policy: OnSlow::Skip, at_us, .. }) if !is_change(event) => {
                    if is_roomy && !self.is_too_old(*at_us, now_us, bounds) {
                        break true;
                    }
                }
                Some(Entry::Gap(_) | Entry::Control { is_fence: false, .. }) => {}
                Some(Entry::Event { at_us, .. }) => {
                    break is_roomy && !self.is_too_old(*at_us, now_us, bounds);
                }
                _ => break is_roomy,
            }
            let Some(entry) = self.pop() else { break is_roomy };
            let pair = entry.pair();
            match (pair, pair.and_then(|pair| gaps.get(&pair)).and_then(|at| front.get_mut(*at))) {
                (Some(_), Some(Entry::Gap(earlier))) => {
                    let gap = self.skipped(&entry);
                    let first = entry.first().or(gap.upto);
                    extend(earlier, first, &gap);
                }
                (Some(pair), _) => {
                    gaps.insert(pair, front.len());
                    let gap = self.skipped(&entry);
                    front_bytes += GAP_BYTES;
                    if let Entry::Event { event, .. } = &entry {
                        self.gaps.get_or_insert_default().by_cause[GapCause::SlowConsumer as usize] += 1;
                        let first = entry.first();
                        front.push(Entry::gap(event.symbol.clone(), event.stream, gap, first));
                    } else {
                        front.push(entry);
                    }
                }
                (None, _) => {
                    front_bytes += entry.bytes();
                    front.push(entry);
                }
            }
        };
        for entry in front.into_iter().rev() {
            self.put_back(entry);
        }
        let skipped = self.books.dropped[DropReason::Skipped as usize] - skipped_before;
        skipped > 0 && is_enough && !self.is_over(bounds)
    }

    /// The gap that an event leaves, or that a gap is.
    fn skipped(&mut self, entry: &Entry) -> Gap {
        if let Entry::Gap(queued) = entry {
            return queued.gap;
        }
        let count = entry.count();
        self.books.dropped[DropReason::Skipped as usize] += count;
        self.books.held -= count;
        self.gaps.get_or_insert_default().events += count;
        let cause = GapCause::SlowConsumer;
        Gap { after: entry.prev(), upto: entry.position(), count: Some(count), cause }
    }

    /// Puts an entry before all others.
    pub(super) fn put_back(&mut self, entry: Entry) {
        self.is_special = true;
        self.queued_bytes += entry.bytes();
        self.queue.push_front(entry);
        if let Some(pressure) = &mut self.pressure {
            pressure.shifted_back();
        }
    }
}
