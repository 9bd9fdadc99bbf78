//! `crypto-perp`: perpetual swaps at full rate: best bid/offer, trades and book diffs.
//!
//! Calibrated on 345 s of one BTC perpetual: 272 messages/s, of which 70 % best bid/offer, 23 % trades, 7 % book diffs.

use super::hawkes::{ArrivalSpec, BurstSpec, Kernel};
use super::market::{Listing, MarketSpec};
use super::marks::Batch;
use super::modulation::ModulationSpec;
use super::names;
use tickgate_protocol::Decimal;

/// Base assets by activity: price, decimals of the price, decimals of the size.
const KNOWN: &[(&str, f64, u8, u8)] = &[
    ("BTC", 61_800.0, 1, 3),
    ("ETH", 2_681.0, 2, 3),
    ("SOL", 154.0, 3, 1),
    ("XRP", 0.611, 4, 1),
    ("DOGE", 0.1038, 5, 0),
    ("BNB", 517.0, 2, 2),
    ("PEPE", 0.00835, 7, 0),
    ("WIF", 1.74, 4, 1),
    ("SUI", 0.86, 4, 1),
    ("ADA", 0.341, 4, 0),
    ("AVAX", 22.4, 3, 0),
    ("LINK", 10.4, 3, 2),
    ("LTC", 62.1, 2, 3),
    ("BCH", 342.0, 2, 3),
    ("TRX", 0.1284, 5, 0),
    ("DOT", 4.73, 3, 1),
    ("NEAR", 4.21, 3, 0),
    ("MATIC", 0.42, 4, 0),
    ("ATOM", 4.9, 3, 2),
    ("APT", 6.1, 3, 1),
    ("ARB", 0.56, 4, 1),
    ("OP", 1.41, 4, 1),
    ("FIL", 3.81, 3, 1),
    ("ETC", 18.9, 3, 2),
    ("UNI", 6.02, 3, 0),
    ("AAVE", 101.0, 2, 1),
    ("INJ", 18.4, 3, 1),
    ("TIA", 5.4, 4, 0),
    ("SEI", 0.29, 4, 0),
    ("ORDI", 29.1, 3, 1),
    ("FTM", 0.37, 4, 0),
    ("GALA", 0.0187, 5, 0),
    ("ENA", 0.31, 4, 0),
    ("WLD", 1.61, 4, 0),
    ("EOS", 0.48, 3, 1),
    ("XLM", 0.0987, 5, 0),
    ("ICP", 7.6, 3, 0),
    ("RUNE", 3.7, 3, 0),
    ("DYDX", 1.01, 3, 1),
    ("CRV", 0.27, 4, 1),
];

pub(crate) const ARRIVALS: ArrivalSpec = ArrivalSpec {
    kernels: [
        Kernel { delay_s: 0.005, children: 0.35 },
        Kernel { delay_s: 0.06, children: 0.25 },
        Kernel { delay_s: 2.0, children: 0.15 },
    ],
    mark_power: 0.45,
    cross: 0.1,
    batch: Batch { exponent: 1.2, prints_max: 400, gap_ns: 12_000.0 },
    modulation: ModulationSpec { sigma: 0.3, time_s: 60.0, shared: 0.5, session: None },
    burst: BurstSpec { every_s: 60.0, share: 0.15, decay_s: 0.08, market: 0.3 },
};

pub(crate) const MARKET: MarketSpec = MarketSpec {
    aggressive: 0.38,
    book: 0.115,
    depth: 20,
    locked: 0.0,
    crossed: 0.0,
    venues: &[],
    sides: true,
    halts: 0.0,
};

pub(crate) fn listings(symbols: usize) -> Vec<Listing> {
    let taken = |symbol: &str| KNOWN.iter().any(|(known, ..)| *known == symbol);
    let known = KNOWN.iter().map(|(base, price, tick, lot)| ((*base).to_owned(), *price, *tick, *lot));
    let synthetic = names::letters(4)
        .filter(|symbol| !taken(symbol))
        .enumerate()
        .map(|(i, base)| (base, 0.2 + (i as f64 * 3.37) % 60.0, 4, 0));
    known
        .chain(synthetic)
        .take(symbols)
        .map(|(base, price, tick, lot)| Listing {
            symbol: format!("{base}USDT"),
            price,
            tick: Decimal::new(1, tick).expect("a scale of at most 7"),
            lot: Decimal::new(1, lot).expect("a scale of at most 3"),
            spread_mean: 1.0,
            // Orders of a few hundred dollars in the mean, whatever the coin.
            lots_mean: (800.0 / price * 10f64.powi(lot.into())).clamp(3.0, 2_000_000.0),
        })
        .collect()
}
