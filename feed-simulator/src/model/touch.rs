//! The best bid and offer of an instrument without a book: what quotes show and trades print at.

use super::draw;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use tickgate_protocol::record::Side;

/// Prices in ticks, sizes in lots.
#[derive(Debug, Clone)]
pub(crate) struct Touch {
    pub(crate) bid: i64,
    pub(crate) ask: i64,
    pub(crate) bid_lots: u32,
    pub(crate) ask_lots: u32,
    home: i64,
    spread_mean: f64,
    lots_mean: f64,
}

impl Touch {
    /// Starts at `bid` ticks, with a mean spread of `spread_mean` ticks (at least 1).
    pub(crate) fn new(bid: i64, spread_mean: f64, lots_mean: f64, rng: &mut ChaCha8Rng) -> Self {
        let mut this =
            Self { bid, ask: bid + 1, bid_lots: 1, ask_lots: 1, home: bid, spread_mean, lots_mean };
        this.redraw_spread(rng);
        this.bid_lots = draw::lots(lots_mean, rng);
        this.ask_lots = draw::lots(lots_mean, rng);
        this
    }

    /// A quote update: a new size, a new spread or a step of one tick, pulled softly back to the start.
    pub(crate) fn turn(&mut self, rng: &mut ChaCha8Rng) {
        match rng.random_range(0..100u32) {
            0..25 => {
                let stray = (self.bid - self.home) as f64 / self.home as f64;
                let up = draw::chance(0.5 - (stray * 4.0).clamp(-0.45, 0.45), rng);
                self.step(if up { 1 } else { -1 });
            }
            25..40 => self.redraw_spread(rng),
            40..70 => self.bid_lots = draw::lots(self.lots_mean, rng),
            _ => self.ask_lots = draw::lots(self.lots_mean, rng),
        }
    }

    /// A trade of up to `lots` at the side that the aggressor meets: price and size.
    pub(crate) fn take(&mut self, side: Side, lots: u32, rng: &mut ChaCha8Rng) -> (i64, u32) {
        let (price, held) = match side {
            Side::Buy => (self.ask, &mut self.ask_lots),
            Side::Sell => (self.bid, &mut self.bid_lots),
        };
        let taken = lots.min(*held);
        *held -= taken;
        if *held == 0 {
            *held = draw::lots(self.lots_mean, rng);
            self.step(if side == Side::Buy { 1 } else { -1 });
        }
        (price, taken)
    }

    fn step(&mut self, ticks: i64) {
        if self.bid + ticks >= 1 {
            self.bid += ticks;
            self.ask += ticks;
        }
    }

    fn redraw_spread(&mut self, rng: &mut ChaCha8Rng) {
        let mut spread = 1;
        while spread < 100 && draw::chance(1.0 - 1.0 / self.spread_mean, rng) {
            spread += 1;
        }
        self.ask = self.bid + spread;
    }
}
