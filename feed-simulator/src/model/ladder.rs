//! A synthetic order book: two ladders of price levels around a spread.
//!
//! The ladder is what the venue holds; `published` is what the book records so far have told. A diff brings the second to the
//! first, so whoever applies every diff to the last snapshot has a book that is never crossed and never keeps a dead level.

use super::draw;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use std::collections::VecDeque;
use tickgate_protocol::record::Side;

/// One side: size in lots by distance from the best price, in ticks. The best level is never empty.
#[derive(Debug, Clone, PartialEq)]
struct Levels {
    best: i64,
    lots: VecDeque<u32>,
}

/// Both sides, with `bids.best < asks.best` always.
#[derive(Debug, Clone)]
pub(crate) struct Ladder {
    bids: Levels,
    asks: Levels,
    published: Option<(Levels, Levels)>,
    depth: usize,
    lots_mean: f64,
}

/// A changed level: price in ticks and size in lots, 0 when it is gone.
pub(crate) type Change = (i64, u32);

impl Ladder {
    /// A book of `depth` levels a side whose best bid is at `bid` ticks.
    pub(crate) fn new(bid: i64, depth: usize, lots_mean: f64, rng: &mut ChaCha8Rng) -> Self {
        let mut side = |best| Levels { best, lots: (0..depth).map(|_| draw::lots(lots_mean, rng)).collect() };
        Self { bids: side(bid), asks: side(bid + 1), published: None, depth, lots_mean }
    }

    /// Best bid and best ask: price in ticks, size in lots.
    pub(crate) fn best(&self) -> (Change, Change) {
        let best = |levels: &Levels| (levels.best, levels.lots.front().copied().unwrap_or(0));
        (best(&self.bids), best(&self.asks))
    }

    /// Takes up to `lots` from the best level that an aggressor of `side` meets; gives the trade.
    pub(crate) fn take(&mut self, side: Side, lots: u32, rng: &mut ChaCha8Rng) -> Change {
        let (levels, step) = match side {
            Side::Buy => (&mut self.asks, 1),
            Side::Sell => (&mut self.bids, -1),
        };
        let price = levels.best;
        let held = levels.lots.front_mut().expect("a side has at least one level");
        let taken = lots.min(*held);
        *held -= taken;
        if *held == 0 {
            self.pull(step, rng);
        }
        (price, taken)
    }

    /// Drops the best level of the asks (`step` 1) or the bids (`step` -1); deeper ones move up.
    fn pull(&mut self, step: i64, rng: &mut ChaCha8Rng) {
        // Far below the start a bid may not fall: prices stay positive.
        if step < 0 && self.bids.best <= self.depth as i64 + 2 {
            self.bids.lots[0] = draw::lots(self.lots_mean, rng);
            return;
        }
        let levels = if step > 0 { &mut self.asks } else { &mut self.bids };
        loop {
            levels.lots.pop_front();
            levels.lots.push_back(draw::lots(self.lots_mean, rng));
            levels.best += step;
            if levels.lots.front().is_some_and(|lots| *lots > 0) {
                break;
            }
        }
    }

    /// One passive order: resizes, improves or cancels a level.
    pub(crate) fn turn(&mut self, rng: &mut ChaCha8Rng) {
        let lots = draw::lots(self.lots_mean, rng);
        let side = if rng.random::<bool>() { 1 } else { -1 };
        let spread = self.asks.best - self.bids.best;
        let levels = if side > 0 { &mut self.asks } else { &mut self.bids };
        match rng.random_range(0..100u32) {
            // A wide spread closes fast: both sides follow the trades.
            0..40 if spread > 1 => {
                levels.best -= side;
                levels.lots.push_front(lots);
                levels.lots.pop_back();
            }
            40..50 => self.pull(side, rng),
            50..75 => {
                let level = 1 + (rng.random::<f64>().powi(2) * (self.depth - 1) as f64) as usize;
                let empty = rng.random_range(0..6u32) == 0;
                if let Some(slot) = levels.lots.get_mut(level) {
                    *slot = if empty { 0 } else { lots };
                }
            }
            _ => levels.lots[0] = lots,
        }
    }

    /// Whether a snapshot was ever taken.
    pub(crate) fn is_published(&self) -> bool {
        self.published.is_some()
    }

    /// The whole book, bids and asks, best first.
    pub(crate) fn snapshot(&mut self) -> (Vec<Change>, Vec<Change>) {
        self.published = Some((self.bids.clone(), self.asks.clone()));
        let all = |levels: &Levels, step: i64| {
            let prices = (0i64..).map(|i| levels.best + step * i);
            prices.zip(levels.lots.iter().copied()).filter(|(_, lots)| *lots > 0).collect()
        };
        (all(&self.bids, -1), all(&self.asks, 1))
    }

    /// Every level that changed since the last diff or snapshot. Empty lists when nothing did.
    pub(crate) fn diff(&mut self) -> (Vec<Change>, Vec<Change>) {
        let Some((bids, asks)) = &mut self.published else {
            return self.snapshot();
        };
        let changes = (changes(bids, &self.bids, -1), changes(asks, &self.asks, 1));
        bids.clone_from(&self.bids);
        asks.clone_from(&self.asks);
        changes
    }
}

fn changes(old: &Levels, new: &Levels, step: i64) -> Vec<Change> {
    let depth = new.lots.len() as i64;
    // Distances are counted from the better of both bests, so that both windows are covered.
    let best = if step > 0 { old.best.min(new.best) } else { old.best.max(new.best) };
    let at = |levels: &Levels, price: i64| {
        let distance = (price - levels.best) * step;
        usize::try_from(distance).ok().and_then(|i| levels.lots.get(i)).copied().unwrap_or(0)
    };
    let moved = (old.best - new.best).abs();
    let mut changes = Vec::new();
    // Where the windows do not even touch, the gap between them holds nothing: skip it.
    let second = if moved > depth { moved..moved + depth } else { depth..moved + depth };
    for distance in (0..depth).chain(second) {
        let price = best + step * distance;
        let (before, after) = (at(old, price), at(new, price));
        if before != after {
            changes.push((price, after));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::hawkes::rng;
    use std::collections::BTreeMap;

    #[test]
    fn applied_diffs_are_the_book_and_never_cross() {
        for seed in 0..20 {
            let mut rng = rng(seed, 0);
            let mut ladder = Ladder::new(40, 12, 5.0, &mut rng);
            let (mut bids, mut asks): (BTreeMap<i64, u32>, BTreeMap<i64, u32>) = Default::default();
            let (b, a) = ladder.snapshot();
            bids.extend(b);
            asks.extend(a);
            for step in 0..3_000 {
                for _ in 0..rng.random_range(0..60u32) {
                    if rng.random::<bool>() {
                        ladder.turn(&mut rng);
                    } else {
                        let side = if rng.random::<bool>() { Side::Buy } else { Side::Sell };
                        let (price, lots) = ladder.take(side, 20, &mut rng);
                        assert!(price > 0 && lots > 0, "seed {seed} step {step}: {lots} at {price}");
                    }
                }
                let (b, a) = ladder.diff();
                for (held, changes) in [(&mut bids, b), (&mut asks, a)] {
                    for (price, lots) in changes {
                        if lots == 0 {
                            held.remove(&price)
                        } else {
                            held.insert(price, lots)
                        };
                    }
                }
                let ((bid, _), (ask, _)) = ladder.best();
                assert_eq!(bids.last_key_value().map(|(p, _)| *p), Some(bid), "seed {seed} step {step}");
                assert_eq!(asks.first_key_value().map(|(p, _)| *p), Some(ask), "seed {seed} step {step}");
                assert!(bid < ask && bid > 0, "seed {seed} step {step}: {bid} {ask}");
                assert!(bids.len() <= 12 && asks.len() <= 12, "seed {seed} step {step}");
            }
        }
    }
}
