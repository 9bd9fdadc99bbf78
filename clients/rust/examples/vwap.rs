//! Volume-weighted average price, by symbol.

mod common;

use std::collections::BTreeMap;
use std::process::ExitCode;
use tickgate_client::event::Symbol;
use tickgate_client::{Decimal, Event, Subscription};

/// Of one symbol.
#[derive(Default)]
struct Vwap {
    trades: u64,
    volume: f64,
    value: f64,
    last: Option<Decimal>,
}

#[tokio::main]
async fn main() -> Result<ExitCode, common::Failure> {
    let args: common::TableArgs = common::args("Volume-weighted average price, by symbol");
    let mut listening = args.common.listen("trades", vec![Subscription::trades(&args.common.symbols)])?;
    let mut vwaps: BTreeMap<Symbol, Vwap> = BTreeMap::new();
    while let Some(event) = listening.next().await {
        let Event::Trade(trade) = event else { continue };
        if vwaps.len() == common::SYMBOLS_MAX && !vwaps.contains_key(&trade.symbol) {
            continue;
        }
        let vwap = vwaps.entry(trade.symbol).or_default();
        vwap.trades += 1;
        vwap.volume += trade.size.to_f64();
        vwap.value += trade.size.to_f64() * trade.price.to_f64();
        vwap.last = Some(trade.price);
    }
    if !vwaps.is_empty() {
        println!("{:<12} {:>8} {:>14} {:>14} {:>14}", "symbol", "trades", "volume", "vwap", "last");
        args.show(
            &vwaps,
            |v| v.trades,
            |symbol, v| {
                // Without a volume there is no average.
                let vwap = if v.volume > 0.0 { format!("{:.6}", v.value / v.volume) } else { "-".to_owned() };
                let last = v.last.map_or(String::new(), |last| last.to_string());
                let volume = common::amount(v.volume);
                println!("{symbol:<12} {:>8} {volume:>14} {vwap:>14} {last:>14}", v.trades);
            },
        );
        let stats = listening.live.stats();
        println!("{} trades, {}", stats.events, common::gaps(&stats));
    }
    Ok(listening.exit())
}
