//! What really happened: every record in the order it was read, kept apart from the code under test.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tickgate_protocol::record::Level;
use tickgate_protocol::{Channel, Decimal, Position};

/// A side of a book, best first.
pub type Top = (Vec<Level>, Vec<Level>);

/// What one record did to one (symbol, channel).
pub struct Entry {
    pub position: Position,
    /// Ticks in it; 0 for the end of a range that was lost before it was read.
    pub count: u64,
    /// The number that each tick carries, in order.
    pub values: Vec<i64>,
    /// The whole book after it, if the book is built.
    pub book: Option<Arc<Top>>,
}

#[derive(Default)]
pub struct Truth {
    lists: HashMap<(usize, Channel), Vec<Entry>>,
    places: HashMap<(usize, Channel, Position), usize>,
    books: HashMap<usize, Book>,
    levels_max: usize,
    /// Whether a shard was behind: what it was given then stands for records that the event does not name.
    pub is_folded: bool,
}

#[derive(Default, Clone)]
struct Book {
    bids: BTreeMap<Decimal, Decimal>,
    asks: BTreeMap<Decimal, Decimal>,
}

/// A book tick as the test made it.
pub struct BookTick {
    pub bids: Vec<Level>,
    pub asks: Vec<Level>,
    pub snapshot: bool,
}

impl Truth {
    pub fn new(levels_max: usize) -> Self {
        Self { levels_max, ..Self::default() }
    }

    pub fn list(&self, symbol: usize, channel: Channel) -> &[Entry] {
        self.lists.get(&(symbol, channel)).map_or(&[], Vec::as_slice)
    }

    pub fn last(&self, symbol: usize, channel: Channel) -> Option<Position> {
        self.list(symbol, channel).last().map(|e| e.position)
    }

    /// Where a position stands among the symbol's records.
    pub fn place(&self, symbol: usize, channel: Channel, position: Position) -> Option<usize> {
        self.places.get(&(symbol, channel, position)).copied()
    }

    /// The number that the newest tick at or before `place` carried.
    pub fn value_at(&self, symbol: usize, channel: Channel, place: usize) -> Option<i64> {
        self.list(symbol, channel)[..=place].iter().rev().find_map(|e| e.values.last().copied())
    }

    pub fn newest_value(&self, symbol: usize, channel: Channel) -> Option<i64> {
        self.list(symbol, channel).iter().rev().find_map(|e| e.values.last().copied())
    }

    /// Ticks after `after` and up to `upto`.
    pub fn count(&self, symbol: usize, channel: Channel, after: usize, upto: usize) -> u64 {
        self.list(symbol, channel)[after + 1..=upto].iter().map(|e| e.count).sum()
    }

    /// Whether the engine must pass over a record, because it was read before.
    pub fn is_old(&self, symbol: usize, channel: Channel, position: Position) -> bool {
        self.last(symbol, channel).is_some_and(|last| position.is_at_or_before(last))
    }

    pub fn plain(&mut self, symbol: usize, channel: Channel, position: Position, values: Vec<i64>) {
        let count = values.len() as u64;
        self.push(symbol, channel, Entry { position, count, values, book: None });
    }

    pub fn book(&mut self, symbol: usize, position: Position, ticks: &[BookTick]) {
        let last = self.last(symbol, Channel::Book);
        if last.is_some_and(|last| last.epoch != position.epoch) {
            self.books.remove(&symbol);
        }
        for tick in ticks {
            if tick.snapshot {
                self.books.insert(symbol, Book::default());
            }
            let Some(book) = self.books.get_mut(&symbol) else { continue };
            for (side, levels) in [(&mut book.bids, &tick.bids), (&mut book.asks, &tick.asks)] {
                for (price, size) in levels {
                    side.remove(price);
                    if !size.is_zero() {
                        side.insert(*price, *size);
                    }
                }
            }
            while book.bids.len() > self.levels_max {
                book.bids.pop_first();
            }
            while book.asks.len() > self.levels_max {
                book.asks.pop_last();
            }
        }
        let book = self.books.get(&symbol).map(|book| {
            let bids = book.bids.iter().rev().map(|(p, s)| (*p, *s)).collect();
            Arc::new((bids, book.asks.iter().map(|(p, s)| (*p, *s)).collect()))
        });
        let count = ticks.len() as u64;
        self.push(symbol, Channel::Book, Entry { position, count, values: Vec::new(), book });
    }

    /// A range of a partition was gone before it was read.
    pub fn lost(&mut self, upto: Position, symbols: usize) {
        for symbol in 0..symbols {
            for channel in Channel::ALL {
                let last = self.last(symbol, channel);
                if last.is_some_and(|last| (last.epoch, last.partition) == (upto.epoch, upto.partition)) {
                    if channel == Channel::Book {
                        self.books.remove(&symbol);
                    }
                    self.push(
                        symbol,
                        channel,
                        Entry { position: upto, count: 0, values: Vec::new(), book: None },
                    );
                }
            }
        }
    }

    fn push(&mut self, symbol: usize, channel: Channel, entry: Entry) {
        let list = self.lists.entry((symbol, channel)).or_default();
        self.places.insert((symbol, channel, entry.position), list.len());
        list.push(entry);
    }
}

/// The best `depth` levels, or all.
pub fn top(book: &Top, depth: Option<usize>) -> Top {
    let depth = depth.unwrap_or(usize::MAX);
    (book.0.iter().take(depth).copied().collect(), book.1.iter().take(depth).copied().collect())
}
