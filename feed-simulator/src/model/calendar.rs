//! What happens by the clock and not by orders: book snapshots, auctions, openings, the end of halts.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Something that is due for a symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Entry {
    /// The first snapshot of a book, unless activity has brought it before.
    FirstSnapshot,
    /// A snapshot for those who joined late.
    Snapshot,
    Auction,
    Open,
    Resume,
}

/// Entries by time; each symbol has a handful at most.
#[derive(Debug, Default)]
pub(crate) struct Calendar {
    due: BinaryHeap<Reverse<(u64, Entry, u32)>>,
}

impl Calendar {
    pub(crate) fn add(&mut self, at_ns: u64, entry: Entry, symbol: u32) {
        self.due.push(Reverse((at_ns, entry, symbol)));
    }

    /// The next entry due at or before `until_ns`.
    pub(crate) fn pop(&mut self, until_ns: u64) -> Option<(u64, Entry, u32)> {
        let Reverse((at_ns, ..)) = self.due.peek()?;
        if *at_ns > until_ns {
            return None;
        }
        self.due.pop().map(|Reverse(entry)| entry)
    }
}
