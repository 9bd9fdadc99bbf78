//! A client is killed half-way, and another one goes on from its last positions: is anything missing?
//!
//! The first client listens to trades for half of the time and keeps the last position of each symbol, as a program would keep it in
//! a file. Then it is dropped without a word. The second one asks for what came behind those positions; what was traded while there
//! was nobody comes first, with `replay`. Whether each first event follows the last one that was had, its `prev` says.

mod common;

use clap::Parser;
use std::collections::BTreeMap;
use std::process::ExitCode;
use tickgate_client::event::Symbol;
use tickgate_client::{Event, Position, Subscription};

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    common: common::Args,
    /// Each client ends after so many trades, if half of the time is not over before
    #[arg(long)]
    trades: Option<u64>,
}

#[tokio::main]
async fn main() -> Result<ExitCode, common::Failure> {
    let options: Options =
        common::args("A client is killed half-way, and another one goes on from its last positions");
    let args = &options.common;
    // Ctrl-C ends all of it, in whichever half.
    let (stop, half_s) = (common::interrupt(), args.seconds / 2.0);
    let to = vec![Subscription::trades(&args.symbols)];
    let mut first = args.listen_for("trades", to, half_s, &stop)?;
    let mut last: BTreeMap<Symbol, Position> = BTreeMap::new();
    let trades_max = options.trades.unwrap_or(u64::MAX);
    let mut taken = 0;
    while taken < trades_max {
        let Some(event) = first.next().await else { break };
        let Event::Trade(trade) = event else { continue };
        taken += 1;
        if last.len() < common::SYMBOLS_MAX || last.contains_key(&trade.symbol) {
            last.insert(trade.symbol, trade.meta.seq);
        }
    }
    let had = first.live.stats();
    let (trades, sessions) = (had.events, had.reconnects + 1);
    if !first.has_come {
        return Ok(first.exit());
    }
    drop(first);
    println!(
        "the first client had {} of {} in {}, and is gone",
        common::number(trades, "trade"),
        common::number(last.len() as u64, "symbol"),
        common::number(sessions, "session")
    );
    if *stop.borrow() {
        println!("ended before there was a second: {}", common::gaps(&had));
        return exit(0, had.gaps);
    }

    let behind = last.iter().map(|(symbol, seq)| Subscription::trades([&**symbol]).from_seq(*seq));
    let mut second = args.listen_for("trades", behind.collect(), half_s, &stop)?;
    let (mut followed, mut broken, mut taken) = (0, 0, 0);
    while taken < trades_max {
        let Some(event) = second.next().await else { break };
        let Event::Trade(trade) = event else { continue };
        taken += 1;
        // Only the first of each symbol: the client itself checks the others.
        if let Some(seq) = last.remove(&trade.symbol) {
            let follows = trade.meta.prev == Some(seq);
            followed += u64::from(follows);
            broken += u64::from(!follows);
        }
    }
    if second.is_refused() {
        return Err("all was refused to the second client: whether anything is missing is unknown".into());
    }
    if !second.had_session {
        return Err("the second client had no session: whether anything is missing is unknown".into());
    }
    let stats = second.live.stats();
    println!(
        "the second had {}, {} of them from before it came",
        common::number(stats.events, "trade"),
        stats.replayed
    );
    println!(
        "{} went on where they were, {broken} did not, {} had no trade",
        common::number(followed, "symbol"),
        last.len()
    );
    let unannounced = had.unannounced + stats.unannounced;
    let gaps = had.gaps + stats.gaps;
    println!("gaps {gaps}, of which unannounced {unannounced}");
    exit(broken, gaps)
}

fn exit(broken: u64, gaps: u64) -> Result<ExitCode, common::Failure> {
    if broken + gaps > 0 { Err("something is missing".into()) } else { Ok(ExitCode::SUCCESS) }
}
