//! Counting replays: each is under way for as long as it lives, however it ends.

use crate::stats::{PartRefusal, ReplayEnd, ReplayKind, ReplayRefusal, ReplayTotals};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The counts of one shard, which its replays bring up to date themselves.
#[derive(Debug, Clone, Default)]
pub(super) struct ReplayCounts(Rc<RefCell<ReplayTotals>>);

impl ReplayCounts {
    /// A replay begins; `is_wanted` is true until it ends.
    pub(super) fn begin(&self, kind: ReplayKind, is_wanted: Arc<AtomicBool>) -> Counted {
        let mut totals = self.0.borrow_mut();
        totals.begun[kind as usize] += 1;
        totals.running[kind as usize] += 1;
        Counted { counts: self.clone(), kind, end: ReplayEnd::GivenUp, is_wanted }
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

/// One replay. What it holds is told to those who read for it when it is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    counts: ReplayCounts,
    kind: ReplayKind,
    end: ReplayEnd,
    is_wanted: Arc<AtomicBool>,
}

impl Counted {
    /// It came to its end.
    pub(super) fn finish(&mut self, is_whole: bool) {
        self.end = if is_whole { ReplayEnd::Whole } else { ReplayEnd::Lost };
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.is_wanted.store(false, Ordering::Relaxed);
        let mut totals = self.counts.0.borrow_mut();
        totals.running[self.kind as usize] -= 1;
        totals.ended[self.kind as usize][self.end as usize] += 1;
    }
}
