//! `us-equities`: consolidated trades and best bid/offer of US shares, four quotes to a trade.
//!
//! Calibrated on four symbols of one regular session of 6.5 hours: 51.6 events/s, and in the worst 10 ms a thousand times that.

use super::hawkes::{ArrivalSpec, BurstSpec, Kernel};
use super::market::{Listing, MarketSpec};
use super::marks::Batch;
use super::modulation::ModulationSpec;
use super::names;
use tickgate_protocol::Decimal;

/// Well-known tickers, roughly by activity, with a plausible price in dollars.
const KNOWN: &[(&str, f64)] = &[
    ("AAPL", 487.5),
    ("MSFT", 412.0),
    ("NVDA", 131.0),
    ("TSLA", 248.0),
    ("AMZN", 186.0),
    ("SPY", 571.0),
    ("META", 563.0),
    ("GOOGL", 164.0),
    ("QQQ", 489.0),
    ("AMD", 157.0),
    ("AVGO", 173.0),
    ("NFLX", 707.0),
    ("GOOG", 165.0),
    ("JPM", 211.0),
    ("BAC", 39.5),
    ("INTC", 22.6),
    ("XOM", 118.0),
    ("COST", 889.0),
    ("LLY", 918.0),
    ("V", 276.0),
    ("UNH", 586.0),
    ("MA", 494.0),
    ("HD", 394.0),
    ("CRM", 273.0),
    ("MU", 94.0),
    ("PLTR", 37.0),
    ("IWM", 220.0),
    ("WMT", 80.0),
    ("ORCL", 168.0),
    ("ADBE", 521.0),
    ("CVX", 147.0),
    ("JNJ", 162.0),
    ("PG", 173.0),
    ("BA", 154.0),
    ("DIS", 94.0),
    ("C", 62.0),
    ("WFC", 55.0),
    ("PFE", 29.0),
    ("MRK", 114.0),
    ("ABBV", 195.0),
    ("KO", 71.0),
    ("PEP", 170.0),
    ("T", 21.6),
    ("VZ", 44.5),
    ("CSCO", 53.0),
    ("QCOM", 169.0),
    ("TXN", 203.0),
    ("AMAT", 199.0),
    ("LRCX", 81.0),
    ("GS", 495.0),
    ("MS", 103.0),
    ("GE", 187.0),
    ("CAT", 391.0),
    ("DE", 413.0),
    ("IBM", 220.0),
    ("UBER", 75.0),
    ("ABNB", 131.0),
    ("COIN", 167.0),
    ("HOOD", 23.4),
    ("SOFI", 7.9),
    ("F", 10.9),
    ("GM", 45.0),
    ("NKE", 88.0),
    ("SBUX", 97.0),
    ("MCD", 301.0),
    ("LOW", 269.0),
    ("TGT", 156.0),
    ("AIG", 74.0),
    ("AXP", 270.0),
    ("BLK", 945.0),
    ("SCHW", 65.0),
    ("BMY", 52.0),
    ("GILD", 84.0),
    ("AMGN", 323.0),
    ("CVS", 63.0),
    ("LMT", 580.0),
    ("RTX", 122.0),
    ("HON", 205.0),
    ("UPS", 133.0),
    ("FDX", 268.0),
    ("NEE", 84.0),
    ("DUK", 115.0),
    ("SO", 90.0),
    ("COP", 106.0),
    ("OXY", 52.0),
    ("SLB", 42.0),
    ("FCX", 49.0),
    ("NEM", 54.0),
    ("X", 35.0),
    ("AA", 38.0),
    ("SHOP", 80.0),
    ("SQ", 67.0),
    ("PYPL", 78.0),
    ("SNOW", 114.0),
    ("CRWD", 283.0),
    ("PANW", 337.0),
    ("NOW", 894.0),
    ("INTU", 621.0),
    ("TLT", 98.0),
    ("GLD", 245.0),
    ("XLF", 45.0),
    ("DELL", 118.0),
    ("SMCI", 41.0),
    ("ARM", 143.0),
];

pub(crate) const ARRIVALS: ArrivalSpec = ArrivalSpec {
    kernels: [
        Kernel { delay_s: 0.005, children: 0.22 },
        Kernel { delay_s: 0.1, children: 0.38 },
        Kernel { delay_s: 4.0, children: 0.2 },
    ],
    mark_power: 0.4,
    cross: 0.15,
    batch: Batch { exponent: 1.2, prints_max: 400, gap_ns: 15_000.0 },
    modulation: ModulationSpec { sigma: 0.4, time_s: 300.0, shared: 0.4, session: None },
    burst: BurstSpec { every_s: 30.0, share: 0.05, decay_s: 0.08, market: 0.5 },
};

pub(crate) const MARKET: MarketSpec = MarketSpec {
    aggressive: 0.34,
    book: 0.0,
    depth: 0,
    locked: 0.026,
    crossed: 0.000_2,
    venues: &["Q", "P", "Z", "K", "N", "Y", "J", "B", "V", "X"],
    sides: false,
    halts: 0.000_02,
};

pub(crate) fn listings(symbols: usize) -> Vec<Listing> {
    let known = KNOWN.iter().map(|(symbol, price)| ((*symbol).to_owned(), *price));
    let taken = |symbol: &str| KNOWN.iter().any(|(known, _)| *known == symbol);
    let synthetic = names::letters(4)
        .filter(|symbol| !taken(symbol))
        .enumerate()
        .map(|(i, symbol)| (symbol, 3.0 + (i as f64 * 7.31) % 140.0));
    known
        .chain(synthetic)
        .take(symbols)
        .enumerate()
        .map(|(rank, (symbol, price))| Listing {
            symbol,
            price,
            tick: Decimal::new(1, 2).expect("scale 2"),
            lot: Decimal::new(100, 0).expect("scale 0"),
            // A cent for what everybody trades, wider for expensive and for quiet shares.
            spread_mean: 1.0 + price / 150.0 + (rank as f64 / 400.0).min(8.0),
            lots_mean: (600.0 / price).clamp(1.5, 40.0),
        })
        .collect()
}
