//! Order books as the gateway keeps them, and the top of them that a client sees.

use std::collections::BTreeMap;
use tickgate_protocol::Decimal;
use tickgate_protocol::record::{self, Level};

/// The order book of one symbol: absolute size by price, zero sizes left out.
#[derive(Debug, Default)]
pub struct Book {
    bids: BTreeMap<Decimal, Decimal>,
    asks: BTreeMap<Decimal, Decimal>,
    /// Whether a snapshot record was read: until then changes build on nothing.
    is_built: bool,
}

/// A side's best levels, best first.
pub type Side = Vec<Level>;

impl Book {
    /// Whether the book can be shown.
    pub fn is_built(&self) -> bool {
        self.is_built
    }

    /// Forgets everything, as after a loss.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Applies a record; `false` if it builds on nothing. Levels beyond `levels_max` a side, the worst, are taken out
    /// again and handed to `trimmed`.
    pub fn apply(
        &mut self,
        update: &record::Book,
        levels_max: usize,
        mut trimmed: impl FnMut(bool, Decimal),
    ) -> bool {
        if update.snapshot {
            self.bids.clear();
            self.asks.clear();
            self.is_built = true;
        }
        if !self.is_built {
            return false;
        }
        for (side, levels) in [(&mut self.bids, &update.bids), (&mut self.asks, &update.asks)] {
            for (price, size) in levels {
                if size.is_zero() {
                    side.remove(price);
                } else {
                    side.insert(*price, *size);
                }
            }
        }
        while self.bids.len() > levels_max {
            if let Some((price, _)) = self.bids.pop_first() {
                trimmed(true, price);
            }
        }
        while self.asks.len() > levels_max {
            if let Some((price, _)) = self.asks.pop_last() {
                trimmed(false, price);
            }
        }
        true
    }

    /// Takes the worst levels out until `levels_max` are left of both sides together, the deeper side first, and hands
    /// them to `trimmed`.
    pub fn trim(&mut self, levels_max: usize, mut trimmed: impl FnMut(bool, Decimal)) {
        while self.bids.len() + self.asks.len() > levels_max {
            let is_bid = self.bids.len() >= self.asks.len();
            let worst = if is_bid { self.bids.pop_first() } else { self.asks.pop_last() };
            if let Some((price, _)) = worst {
                trimmed(is_bid, price);
            }
        }
    }

    /// The best `depth` levels of each side, or all.
    pub fn top(&self, depth: Option<usize>) -> (Side, Side) {
        let depth = depth.unwrap_or(usize::MAX);
        let bids = self.bids.iter().rev().take(depth).map(|(p, s)| (*p, *s)).collect();
        let asks = self.asks.iter().take(depth).map(|(p, s)| (*p, *s)).collect();
        (bids, asks)
    }

    /// How many levels there are, bids and asks.
    pub fn levels(&self) -> (usize, usize) {
        (self.bids.len(), self.asks.len())
    }

    /// How many levels there are in all.
    pub fn len(&self) -> usize {
        self.bids.len() + self.asks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The top of a book as it was last sent.
#[derive(Debug, Default)]
pub struct View {
    bids: Side,
    asks: Side,
}

impl View {
    /// The view of a book that nothing was sent of yet.
    pub fn new(book: &Book, depth: usize) -> Self {
        let (bids, asks) = book.top(Some(depth));
        Self { bids, asks }
    }

    /// Moves on to the book's present top and returns what changed, if anything: levels that left have size zero,
    /// levels that entered from below come with their size.
    pub fn advance(&mut self, book: &Book, depth: usize, touched: &record::Book) -> Option<record::Book> {
        if !touched.snapshot && !self.reaches(depth, touched) {
            return None;
        }
        let (bids, asks) = book.top(Some(depth));
        let changes = record::Book {
            bids: changes(&self.bids, &bids, |old, new| old > new),
            asks: changes(&self.asks, &asks, |old, new| old < new),
            snapshot: false,
        };
        self.bids = bids;
        self.asks = asks;
        (!changes.bids.is_empty() || !changes.asks.is_empty()).then_some(changes)
    }

    /// Whether a change touches what is seen.
    fn reaches(&self, depth: usize, touched: &record::Book) -> bool {
        let worst_bid = self.bids.get(depth - 1).map(|l| l.0);
        let worst_ask = self.asks.get(depth - 1).map(|l| l.0);
        touched.bids.iter().any(|(price, _)| worst_bid.is_none_or(|worst| *price >= worst))
            || touched.asks.iter().any(|(price, _)| worst_ask.is_none_or(|worst| *price <= worst))
    }
}

/// What turns `old` into `new`, both best first; `is_better(a, b)` says that price `a` stands before `b`.
fn changes(old: &[Level], new: &[Level], is_better: impl Fn(&Decimal, &Decimal) -> bool) -> Side {
    let mut out = Vec::new();
    let (mut i, mut j) = (0, 0);
    loop {
        match (old.get(i), new.get(j)) {
            (None, None) => return out,
            (Some(gone), next) if next.is_none_or(|next| is_better(&gone.0, &next.0)) => {
                out.push((gone.0, Decimal::ZERO));
                i += 1;
            }
            (Some(was), Some(is)) if was.0 == is.0 => {
                if was.1 != is.1 {
                    out.push(*is);
                }
                i += 1;
                j += 1;
            }
            (_, Some(entered)) => {
                out.push(*entered);
                j += 1;
            }
            (Some(_), None) => i += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn level() -> impl Strategy<Value = Level> {
        (1i64..40, 0i64..4).prop_map(|(price, size)| {
            (Decimal::new(price, 1).expect("in range"), Decimal::new(size, 0).expect("in range"))
        })
    }

    fn update() -> impl Strategy<Value = record::Book> {
        let side = || proptest::collection::vec(level(), 0..6);
        (side(), side(), proptest::bool::weighted(0.05)).prop_map(|(bids, asks, snapshot)| record::Book {
            bids,
            asks,
            snapshot,
        })
    }

    fn apply_to_top(top: &mut BTreeMap<Decimal, Decimal>, levels: &[Level]) {
        for (price, size) in levels {
            if size.is_zero() {
                top.remove(price);
            } else {
                top.insert(*price, *size);
            }
        }
    }

    proptest! {
        /// A client that applies a view's changes to its first state has the book's top at every step.
        #[test]
        fn a_view_follows_the_top(updates in proptest::collection::vec(update(), 1..60), depth in 1usize..6) {
            let mut book = Book::default();
            book.apply(&record::Book { snapshot: true, ..Default::default() }, 1000, |_, _| ());
            let mut view = View::new(&book, depth);
            let (mut bids, mut asks) = (BTreeMap::new(), BTreeMap::new());
            for update in updates {
                book.apply(&update, 1000, |_, _| ());
                if let Some(changes) = view.advance(&book, depth, &update) {
                    apply_to_top(&mut bids, &changes.bids);
                    apply_to_top(&mut asks, &changes.asks);
                }
                let (top_bids, top_asks) = book.top(Some(depth));
                prop_assert_eq!(bids.iter().rev().map(|(p, s)| (*p, *s)).collect::<Vec<_>>(), top_bids);
                prop_assert_eq!(asks.iter().map(|(p, s)| (*p, *s)).collect::<Vec<_>>(), top_asks);
            }
        }

        /// However many levels come, no side grows over its bound, and what is told as trimmed is gone.
        #[test]
        fn a_side_has_a_bound(updates in proptest::collection::vec(update(), 1..60)) {
            let mut book = Book::default();
            book.apply(&record::Book { snapshot: true, ..Default::default() }, 5, |_, _| ());
            for update in updates {
                let mut trimmed = Vec::new();
                book.apply(&update, 5, |is_bid, price| trimmed.push((is_bid, price)));
                let (bids, asks) = book.top(None);
                prop_assert!(bids.len() <= 5 && asks.len() <= 5);
                for (is_bid, price) in trimmed {
                    let side = if is_bid { &bids } else { &asks };
                    prop_assert!(side.iter().all(|(p, _)| *p != price));
                }
            }
        }
    }

    #[test]
    fn changes_before_a_snapshot_build_on_nothing() {
        let mut book = Book::default();
        let one = Decimal::new(1, 0).expect("in range");
        assert!(!book.apply(&record::Book { bids: vec![(one, one)], ..Default::default() }, 10, |_, _| ()));
        assert_eq!(book.levels(), (0, 0));
    }
}
