//! `constant`: evenly spaced prints, for comparing A with B and for nothing else: no real feed is like this.

use super::hawkes::Print;
use super::popularity::Popularity;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Print `n` comes at `n / rate`; the symbol is drawn by popularity.
#[derive(Debug)]
pub(crate) struct Even {
    rate_per_s: f64,
    sent: u64,
    popularity: Popularity,
    rng: ChaCha8Rng,
}

impl Even {
    pub(crate) fn new(symbols: usize, rate_per_s: f64, rng: ChaCha8Rng) -> Self {
        Self { rate_per_s, sent: 0, popularity: Popularity::new(symbols, 1), rng }
    }
}

impl Iterator for Even {
    type Item = Print;

    fn next(&mut self) -> Option<Print> {
        let offset_ns = (self.sent as f64 * 1e9 / self.rate_per_s) as u64;
        self.sent += 1;
        let symbol = self.popularity.draw_in(0, &mut self.rng);
        Some(Print { offset_ns, symbol, order: self.rng.random(), index: 0 })
    }
}
