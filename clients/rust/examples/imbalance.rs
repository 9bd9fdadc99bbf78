//! Order-book imbalance: how much more is bid than asked in the first five levels, from -1 (all asked) to 1 (all bid).

mod common;

use std::collections::BTreeMap;
use std::process::ExitCode;
use tickgate_client::book::BookKeeper;
use tickgate_client::event::Symbol;
use tickgate_client::{Event, Subscription};

const LEVELS: u8 = 5;

/// Of one symbol.
#[derive(Default)]
struct Imbalance {
    updates: u64,
    sum: f64,
    last: f64,
}

#[tokio::main]
async fn main() -> Result<ExitCode, common::Failure> {
    let args: common::TableArgs =
        common::args("Order-book imbalance: how much more is bid than asked in the first five levels");
    let books = Subscription::book(&args.common.symbols).depth(LEVELS);
    let mut listening = args.common.listen("books", vec![books])?;
    let mut imbalances: BTreeMap<Symbol, Imbalance> = BTreeMap::new();
    while let Some(event) = listening.next().await {
        let Event::Book(update) = event else { continue };
        // The book as of this very event.
        let Some(now) = listening.live.book(&update.symbol).and_then(imbalance) else { continue };
        if imbalances.len() == common::SYMBOLS_MAX && !imbalances.contains_key(&update.symbol) {
            continue;
        }
        let imbalance = imbalances.entry(update.symbol).or_default();
        imbalance.updates += 1;
        imbalance.sum += now;
        imbalance.last = now;
    }
    if !imbalances.is_empty() {
        println!("{:<12} {:>8} {:>8} {:>8}", "symbol", "updates", "mean", "last");
        args.show(
            &imbalances,
            |i| i.updates,
            |symbol, i| {
                println!("{symbol:<12} {:>8} {:>8.3} {:>8.3}", i.updates, i.sum / i.updates as f64, i.last)
            },
        );
    }
    Ok(listening.exit())
}

/// `None` where nothing can be said.
fn imbalance(book: &BookKeeper) -> Option<f64> {
    let bid: f64 = book.bids().map(|(_, size)| size.to_f64()).sum();
    let asked: f64 = book.asks().map(|(_, size)| size.to_f64()).sum();
    (book.is_complete() && bid + asked > 0.0).then(|| (bid - asked) / (bid + asked))
}
