//! A client is killed half-way, and another one goes on from its last positions: is anything missing?
//!
//! The first client listens to trades for half of the time and keeps the last position of each symbol, as a program would keep it in
//! a file. Then it is dropped without a word. The second one asks for what came behind those positions; what was traded while there
//! was nobody comes first, with `replay`. Whether each first event follows the last one that was had, its `prev` says.

mod common;

use std::collections::BTreeMap;
use tickgate_client::event::Symbol;
use tickgate_client::{Event, Position, Subscription};

#[tokio::main]
async fn main() -> Result<(), common::Failure> {
    let args: common::Args =
        common::args("A client is killed half-way, and another one goes on from its last positions");
    let mut live = args.connect().await?;
    live.subscribe(Subscription::trades(&args.symbols))?;
    let mut first = args.follow(live, "trades", args.seconds / 2.0)?;
    let mut last: BTreeMap<Symbol, Position> = BTreeMap::new();
    while let Some(event) = first.next().await {
        let Event::Trade(trade) = event else { continue };
        if last.len() < common::SYMBOLS_MAX || last.contains_key(&trade.symbol) {
            last.insert(trade.symbol, trade.meta.seq);
        }
    }
    let had = first.live.stats();
    drop(first);
    let (trades, sessions) = (had.events, had.reconnects + 1);
    println!(
        "the first client had {trades} trades of {} symbols in {sessions} sessions, and is gone",
        last.len()
    );

    let mut live = args.connect().await?;
    live.subscribe_all(last.iter().map(|(symbol, seq)| Subscription::trades([&**symbol]).from_seq(*seq)))?;
    let mut second = args.follow(live, "trades", args.seconds / 2.0)?;
    let (mut followed, mut broken) = (0, 0);
    while let Some(event) = second.next().await {
        let Event::Trade(trade) = event else { continue };
        // Only the first of each symbol: the client itself checks the others.
        if let Some(seq) = last.remove(&trade.symbol) {
            let follows = trade.meta.prev == Some(seq);
            followed += u64::from(follows);
            broken += u64::from(!follows);
        }
    }
    let stats = second.live.stats();
    println!("the second had {} trades, {} of them from before it came", stats.events, stats.replayed);
    println!("{followed} symbols went on where they were, {broken} did not, {} had no trade", last.len());
    let unannounced = had.unannounced + stats.unannounced;
    println!("gaps {}, of which unannounced {unannounced}", had.gaps + stats.gaps);
    if broken + unannounced > 0 { Err("something is missing".into()) } else { Ok(()) }
}
