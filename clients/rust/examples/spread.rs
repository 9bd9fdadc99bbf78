//! Statistics of the spread: how far apart bid and ask were, by symbol.

mod common;

use std::collections::BTreeMap;
use tickgate_client::event::Symbol;
use tickgate_client::{Event, Subscription};

/// Of one symbol.
#[derive(Default)]
struct Spread {
    quotes: u64,
    sum_bps: f64,
    min_bps: f64,
    max_bps: f64,
    crossed: u64,
}

#[tokio::main]
async fn main() -> Result<(), common::Failure> {
    let args: common::Args =
        common::args("Statistics of the spread: how far apart bid and ask were, by symbol");
    let mut listening = args.listen("quotes", Subscription::quotes(&args.symbols)).await?;
    let mut spreads: BTreeMap<Symbol, Spread> = BTreeMap::new();
    while let Some(event) = listening.next().await {
        let Event::Quote(quote) = event else { continue };
        let bps = quote.spread() / quote.mid() * 10_000.0;
        let is_new = !spreads.contains_key(&quote.symbol);
        if !bps.is_finite() || (is_new && spreads.len() == common::SYMBOLS_MAX) {
            continue;
        }
        let spread = spreads.entry(quote.symbol).or_default();
        spread.min_bps = if is_new { bps } else { spread.min_bps.min(bps) };
        spread.max_bps = if is_new { bps } else { spread.max_bps.max(bps) };
        spread.sum_bps += bps;
        spread.quotes += 1;
        spread.crossed += u64::from(bps < 0.0);
    }
    println!(
        "{:<12} {:>8} {:>10} {:>10} {:>10} {:>8}",
        "symbol", "quotes", "mean bps", "min", "max", "crossed"
    );
    for (symbol, s) in &spreads {
        let mean = s.sum_bps / s.quotes as f64;
        println!(
            "{symbol:<12} {:>8} {mean:>10.2} {:>10.2} {:>10.2} {:>8}",
            s.quotes, s.min_bps, s.max_bps, s.crossed
        );
    }
    Ok(())
}
