//! An order book as a client rebuilds it from `book` events.

use std::collections::BTreeMap;
use tickgate_protocol::event::EventView;
use tickgate_protocol::record::Level;
use tickgate_protocol::{Decimal, Depth};

/// Rebuilds one symbol's book: feed it every `book` event of the symbol, in order.
///
/// At a limited depth a level that is pushed out of the top is forgotten here as well: the gateway says nothing more
/// about it, and sends it again when it comes back.
#[derive(Debug, Clone)]
pub struct BookKeeper {
    bids: BTreeMap<Decimal, Decimal>,
    asks: BTreeMap<Decimal, Decimal>,
    depth: Depth,
    has_snapshot: bool,
    updates: u64,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It replaced the book.
    Snapshot,
    /// It changed the book.
    Update,
    /// It came before any snapshot, so there is nothing it could change.
    Ignored,
    /// It is no `book` event.
    NotABook,
}

impl BookKeeper {
    /// An empty book of a subscription with this `depth`.
    pub fn new(depth: Depth) -> Self {
        Self { bids: BTreeMap::new(), asks: BTreeMap::new(), depth, has_snapshot: false, updates: 0 }
    }

    /// Applies an event.
    pub fn apply(&mut self, event: &EventView<'_>) -> Applied {
        match (&event.bids, &event.asks) {
            (Some(bids), Some(asks)) => self.apply_levels(bids, asks, event.snapshot),
            _ => Applied::NotABook,
        }
    }

    /// Applies levels: absolute sizes, zero removes; with `snapshot` they replace the book.
    pub fn apply_levels(&mut self, bids: &[Level], asks: &[Level], snapshot: bool) -> Applied {
        if snapshot {
            self.bids.clear();
            self.asks.clear();
            self.has_snapshot = true;
        } else if !self.has_snapshot {
            return Applied::Ignored;
        }
        set(&mut self.bids, bids);
        set(&mut self.asks, asks);
        if let Some(levels) = self.depth.levels() {
            while self.bids.len() > levels {
                self.bids.pop_first();
            }
            while self.asks.len() > levels {
                self.asks.pop_last();
            }
        }
        self.updates += 1;
        if snapshot { Applied::Snapshot } else { Applied::Update }
    }

    /// Forgets everything: nothing can be said of the book before the next snapshot.
    pub fn clear(&mut self) {
        self.bids.clear();
        self.asks.clear();
        self.has_snapshot = false;
    }

    /// The depth that it was made for.
    pub fn depth(&self) -> Depth {
        self.depth
    }

    /// The best bid: price and size.
    pub fn best_bid(&self) -> Option<Level> {
        self.bids.last_key_value().map(|(price, size)| (*price, *size))
    }

    /// The best ask: price and size.
    pub fn best_ask(&self) -> Option<Level> {
        self.asks.first_key_value().map(|(price, size)| (*price, *size))
    }

    /// Bids, best first.
    pub fn bids(&self) -> impl Iterator<Item = Level> + '_ {
        self.bids.iter().rev().map(|(price, size)| (*price, *size))
    }

    /// Asks, best first.
    pub fn asks(&self) -> impl Iterator<Item = Level> + '_ {
        self.asks.iter().map(|(price, size)| (*price, *size))
    }

    /// Number of levels: bids, asks.
    pub fn level_counts(&self) -> (usize, usize) {
        (self.bids.len(), self.asks.len())
    }

    /// Whether a snapshot was seen.
    pub fn is_complete(&self) -> bool {
        self.has_snapshot
    }

    /// Whether the best bid is above the best ask, which happens in real feeds.
    pub fn is_crossed(&self) -> bool {
        matches!((self.best_bid(), self.best_ask()), (Some(bid), Some(ask)) if bid.0 > ask.0)
    }

    /// Snapshots and updates applied.
    pub fn updates(&self) -> u64 {
        self.updates
    }
}

fn set(side: &mut BTreeMap<Decimal, Decimal>, levels: &[Level]) {
    for (price, size) in levels {
        if size.is_zero() {
            side.remove(price);
        } else {
            // Removed first, so that the newest text of a price is the one that is kept.
            side.remove(price);
            side.insert(*price, *size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(book: &mut BookKeeper, json: &str) -> Applied {
        let text = format!(r#"{{"type":"book","symbol":"B","seq":"1:0:1",{json}}}"#);
        book.apply(&serde_json::from_str(&text).unwrap())
    }

    fn top(book: &BookKeeper) -> String {
        let level = |l: Option<Level>| l.map_or("-".to_owned(), |(p, s)| format!("{p}({s})"));
        let (bids, asks) = book.level_counts();
        format!("{} {} {bids}/{asks}", level(book.best_bid()), level(book.best_ask()))
    }

    #[test]
    fn snapshot_then_updates() {
        let mut book = BookKeeper::new(Depth::ALL);
        assert_eq!(apply(&mut book, r#""bids":[["9","1"]],"asks":[]"#), Applied::Ignored);
        let snapshot =
            r#""bids":[["9.5","1"],["9.0","2"]],"asks":[["10.0","3"],["10.5","4"]],"snapshot":true"#;
        assert_eq!(apply(&mut book, snapshot), Applied::Snapshot);
        assert_eq!(top(&book), "9.5(1) 10.0(3) 2/2");
        // Zero removes whatever way its price is written; sizes are absolute.
        assert_eq!(
            apply(&mut book, r#""bids":[["9.50","0"],["9","7"]],"asks":[["9.9","1"]]"#),
            Applied::Update
        );
        assert_eq!(top(&book), "9(7) 9.9(1) 1/3");
        assert!(!book.is_crossed());
        apply(&mut book, r#""bids":[["9.95","1"]],"asks":[]"#);
        assert!(book.is_crossed());
        assert_eq!(apply(&mut book, r#""bids":[],"asks":[],"snapshot":true"#), Applied::Snapshot);
        assert_eq!((top(&book).as_str(), book.updates()), ("- - 0/0", 4));
        assert_eq!(apply(&mut book, r#""price":"1""#), Applied::NotABook);
    }

    #[test]
    fn what_leaves_the_top_is_forgotten() {
        let mut book = BookKeeper::new(Depth::new(1).unwrap());
        apply(&mut book, r#""bids":[["9","1"]],"asks":[["11","1"]],"snapshot":true"#);
        apply(&mut book, r#""bids":[["10","2"]],"asks":[["12","2"]]"#);
        assert_eq!(top(&book), "10(2) 11(1) 1/1");
        apply(&mut book, r#""bids":[["10","0"],["9","3"]],"asks":[]"#);
        assert_eq!(book.bids().map(|(p, s)| format!("{p}({s})")).collect::<Vec<_>>(), ["9(3)"]);
    }
}
