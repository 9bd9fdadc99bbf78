//! `fx`: indicative best bid and offer of currency pairs, no trades; one quote in ten is locked, one in ten crossed.
//!
//! Calibrated on 24 hours of one EURUSD stream with a central bank's press conference in it: 1.9 quotes/s, no batches, but
//! long excitement.

use super::hawkes::{ArrivalSpec, BurstSpec, Kernel};
use super::market::{Listing, MarketSpec};
use super::marks::Batch;
use super::modulation::ModulationSpec;
use tickgate_protocol::Decimal;

/// Currencies with their price in US dollars; the first ones are quoted most.
const CURRENCIES: &[(&str, f64)] = &[
    ("EUR", 1.3912),
    ("USD", 1.0),
    ("JPY", 0.00983),
    ("GBP", 1.694),
    ("AUD", 0.9372),
    ("CAD", 0.9216),
    ("CHF", 1.1408),
    ("NZD", 0.8661),
    ("SEK", 0.1545),
    ("NOK", 0.1698),
    ("MXN", 0.0772),
    ("SGD", 0.801),
    ("HKD", 0.129),
    ("ZAR", 0.0967),
    ("TRY", 0.481),
    ("PLN", 0.3331),
    ("CZK", 0.0508),
    ("HUF", 0.00457),
    ("DKK", 0.1864),
    ("CNH", 0.1606),
    ("ILS", 0.2893),
    ("THB", 0.0307),
    ("INR", 0.0167),
    ("KRW", 0.00098),
];

/// The pairs that are quoted most, in order; the rest are the crosses of [`CURRENCIES`].
const MAJORS: &[(&str, &str)] = &[
    ("EUR", "USD"),
    ("USD", "JPY"),
    ("GBP", "USD"),
    ("AUD", "USD"),
    ("USD", "CAD"),
    ("USD", "CHF"),
    ("NZD", "USD"),
    ("EUR", "JPY"),
    ("GBP", "JPY"),
    ("EUR", "GBP"),
];

pub(crate) const ARRIVALS: ArrivalSpec = ArrivalSpec {
    kernels: [
        Kernel { delay_s: 0.05, children: 0.06 },
        Kernel { delay_s: 0.6, children: 0.5 },
        Kernel { delay_s: 10.0, children: 0.24 },
    ],
    mark_power: 0.0,
    cross: 0.1,
    batch: Batch { exponent: 1.2, prints_max: 1, gap_ns: 0.0 },
    modulation: ModulationSpec { sigma: 0.9, time_s: 1_800.0, shared: 0.5, session: None },
    burst: BurstSpec { every_s: 1_800.0, share: 0.1, decay_s: 0.8, market: 0.1 },
};

pub(crate) const MARKET: MarketSpec = MarketSpec {
    aggressive: 0.0,
    book: 0.0,
    depth: 0,
    locked: 0.114,
    crossed: 0.109,
    venues: &[],
    sides: false,
    halts: 0.0,
};

pub(crate) fn listings(symbols: usize) -> Vec<Listing> {
    let majors = MAJORS.iter().copied();
    let crosses = CURRENCIES
        .iter()
        .enumerate()
        .flat_map(|(i, (base, _))| CURRENCIES[i + 1..].iter().map(move |(quote, _)| (*base, *quote)));
    let crosses = crosses.filter(|pair| !MAJORS.contains(&(pair.0, pair.1)));
    // After the spot pairs come their forwards: EURUSD1W, EURUSD2W and so on.
    let spot: Vec<(&str, &str)> = majors.chain(crosses).collect();
    (0..symbols)
        .map(|i| {
            let (base, quote) = spot[i % spot.len()];
            let weeks = i / spot.len();
            let tenor = if weeks == 0 { String::new() } else { format!("{weeks}W") };
            let price = usd(base) / usd(quote);
            let scale = if price > 20.0 { 3 } else { 5 };
            Listing {
                symbol: format!("{base}{quote}{tenor}"),
                price,
                tick: Decimal::new(1, scale).expect("a scale of at most 5"),
                lot: Decimal::new(100_000, 0).expect("scale 0"),
                spread_mean: 2.0 + (i as f64 / 4.0).min(30.0),
                lots_mean: 12.0,
            }
        })
        .collect()
}

fn usd(currency: &str) -> f64 {
    CURRENCIES.iter().find(|(name, _)| *name == currency).map_or(1.0, |(_, price)| *price)
}
