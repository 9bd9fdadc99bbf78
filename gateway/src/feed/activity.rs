//! How many ticks came of each symbol: counted by the live feed, read by whoever asks which are the hottest.
//!
//! The feed is not asked and not held up: it adds to a number that others read. One thread alone adds, so that takes no
//! locked instruction. The numbers stand apart from the symbols themselves, which shards read with every event.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers that are made at once.
const CHUNK: usize = 1 << 12;

/// What a symbol takes: its number, and what is kept of it to know its rate.
pub const ACTIVITY_BYTES: usize = size_of::<u64>() * (1 + 3);

/// Ticks of each symbol, by its number.
#[derive(Debug)]
pub struct Activity {
    /// Made when the first symbol of each is met: most gateways have far fewer than they may.
    chunks: Box<[OnceLock<Box<[AtomicU64; CHUNK]>>]>,
}

impl Activity {
    /// With room for so many symbols.
    pub fn new(symbols_max: usize) -> Self {
        Self { chunks: (0..symbols_max.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect() }
    }

    /// So many ticks of a symbol came. For one thread alone.
    #[inline]
    pub fn add(&self, symbol: u32, ticks: u64) {
        let Some(chunk) = self.chunks.get(symbol as usize / CHUNK) else { return };
        let chunk = chunk.get_or_init(|| Box::new([const { AtomicU64::new(0) }; CHUNK]));
        let total = &chunk[symbol as usize % CHUNK];
        total.store(total.load(Ordering::Relaxed) + ticks, Ordering::Relaxed);
    }

    /// Ticks since the start, by symbol. Those behind the last had none.
    pub fn totals(&self) -> Vec<u64> {
        let end = self.chunks.iter().rposition(|chunk| chunk.get().is_some()).map_or(0, |last| last + 1);
        let mut totals = vec![0; end * CHUNK];
        for (chunk, totals) in self.chunks.iter().zip(totals.chunks_exact_mut(CHUNK)) {
            // Those of one may all have been met by replays alone.
            let Some(chunk) = chunk.get() else { continue };
            chunk.iter().zip(totals).for_each(|(total, copy)| *copy = total.load(Ordering::Relaxed));
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_symbol_has_its_own_total() {
        let activity = Activity::new(2 * CHUNK);
        assert!(activity.totals().is_empty(), "nothing is kept of what nobody trades");
        activity.add(CHUNK as u32, 5);
        assert_eq!(activity.totals()[CHUNK], 5, "whatever is known of those before it");
        activity.add(1, 2);
        activity.add(1, 1);
        activity.add(2 * CHUNK as u32, 7);
        let totals = activity.totals();
        assert_eq!((totals.len(), totals[1], totals[CHUNK]), (2 * CHUNK, 3, 5));
        assert_eq!(totals.iter().sum::<u64>(), 8, "there is no such symbol");
    }
}
