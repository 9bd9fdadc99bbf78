//! `futures-open`: futures through an opening, again and again: trades, quotes and books.
//!
//! A session lasts a minute. It starts with five seconds of auction (quotes, no trades), then everything opens at once and
//! activity falls from about ten times its mean. The mean over a whole minute is the rate asked for.

use super::hawkes::{ArrivalSpec, BurstSpec, Kernel};
use super::market::{Listing, MarketSpec};
use super::marks::Batch;
use super::modulation::{ModulationSpec, Session};
use tickgate_protocol::Decimal;

/// Roots by activity: price, tick mantissa, tick scale.
const ROOTS: &[(&str, f64, i64, u8)] = &[
    ("ES", 5_741.25, 25, 2),
    ("NQ", 20_104.5, 25, 2),
    ("ZN", 112.5, 15_625, 6),
    ("CL", 75.4, 1, 2),
    ("GC", 2_646.3, 1, 1),
    ("RTY", 2_214.6, 1, 1),
    ("YM", 42_480.0, 1, 0),
    ("ZB", 121.5, 3_125, 5),
    ("ZF", 108.5, 78_125, 7),
    ("NG", 2.74, 1, 3),
    ("SI", 31.6, 5, 3),
    ("6E", 1.0985, 5, 5),
    ("6J", 0.006_74, 5, 7),
    ("ZC", 424.5, 25, 2),
    ("ZS", 1_032.25, 25, 2),
    ("ZW", 589.5, 25, 2),
    ("HG", 4.51, 5, 4),
    ("6B", 1.3089, 1, 4),
    ("6A", 0.6781, 5, 5),
    ("6C", 0.7371, 5, 5),
    ("RB", 2.13, 1, 4),
    ("HO", 2.36, 1, 4),
    ("LE", 186.5, 25, 3),
    ("ZL", 43.4, 1, 2),
];
const MONTHS: [char; 4] = ['Z', 'H', 'M', 'U'];

pub(crate) const SESSION: Session =
    Session { period_s: 60.0, auction_s: 5.0, auction_level: 0.3, burst_level: 15.0, burst_s: 2.5 };

pub(crate) const ARRIVALS: ArrivalSpec = ArrivalSpec {
    kernels: [
        Kernel { delay_s: 0.005, children: 0.3 },
        Kernel { delay_s: 0.1, children: 0.3 },
        Kernel { delay_s: 2.0, children: 0.15 },
    ],
    mark_power: 0.4,
    cross: 0.15,
    batch: Batch { exponent: 1.2, prints_max: 400, gap_ns: 12_000.0 },
    modulation: ModulationSpec { sigma: 0.2, time_s: 300.0, shared: 0.5, session: Some(SESSION) },
    burst: BurstSpec { every_s: 30.0, share: 0.03, decay_s: 0.08, market: 0.5 },
};

pub(crate) const MARKET: MarketSpec = MarketSpec {
    aggressive: 0.38,
    book: 0.1,
    depth: 10,
    locked: 0.0,
    crossed: 0.0,
    venues: &[],
    sides: true,
    halts: 0.0,
};

pub(crate) fn listings(symbols: usize) -> Vec<Listing> {
    (0..symbols)
        .map(|i| {
            let (root, price, tick, scale) = ROOTS[i % ROOTS.len()];
            // The December contract of 2026 is in front; then quarter by quarter.
            let expiry = i / ROOTS.len();
            let year = 2026 + (expiry + 3) / MONTHS.len();
            let month = MONTHS[expiry % MONTHS.len()];
            let year = if year < 2036 { format!("{}", year % 10) } else { format!("{}", year % 1_000) };
            Listing {
                symbol: format!("{root}{month}{year}"),
                price: price * (1.0 + expiry as f64 * 0.004),
                tick: Decimal::new(tick, scale).expect("a scale of at most 7"),
                lot: Decimal::new(1, 0).expect("scale 0"),
                spread_mean: 1.0,
                lots_mean: 6.0,
            }
        })
        .collect()
}
