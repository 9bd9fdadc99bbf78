//! The publisher: an open loop. Every tick has a time when it is due and carries it; what is late is sent at once, nothing
//! is skipped, so a server that holds the publisher up shows it as latency.

mod sink;
mod source;

use crate::client::Dialect;
use crate::market;
use serde::{Deserialize, Serialize};
use sink::Sink;
use source::Source;
use std::time::Duration;
use tickgate_gateway::clock;

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    sink: sink::Args,
    #[command(flatten)]
    source: source::Args,
    /// How the server takes ticks
    #[arg(long, value_enum, default_value_t = Dialect::Tickgate)]
    dialect: Dialect,
    /// Digits in the names of symbols
    #[arg(long, default_value_t = 4)]
    symbol_digits: usize,
    /// Bytes of a record
    #[arg(long, default_value_t = 150)]
    record_bytes: usize,
    /// When the first tick is due, nanoseconds since the Unix epoch
    #[arg(long)]
    start_ns: i64,
    /// From when ticks are counted
    #[arg(long)]
    from_ns: i64,
    /// Until when ticks are counted
    #[arg(long)]
    to_ns: i64,
    /// When the last tick is due
    #[arg(long)]
    end_ns: i64,
}

/// What was published.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// Ticks of each symbol that were due in the time that counts.
    pub counts: Vec<u64>,
    /// How late the latest of them was written, in microseconds.
    pub late_us_max: i64,
}

/// Publishes, and prints a [`Report`].
pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut sink = Sink::open(&args.sink, args.dialect)?;
    let mut source = Source::new(&args.source)?;
    let symbols = args.source.symbols;
    let names: Vec<String> = (0..symbols).map(|i| market::symbol(i, args.symbol_digits)).collect();
    let mut report = Report { counts: vec![0; symbols], late_us_max: 0 };
    let mut number = 0;
    let mut last_due_ns = 0;
    let mut record = Vec::new();
    loop {
        let (offset_ns, symbol) = source.next();
        let due_ns = args.start_ns + offset_ns;
        if due_ns >= args.end_ns {
            break;
        }
        let counts = (args.from_ns..args.to_ns).contains(&due_ns);
        if due_ns != last_due_ns {
            last_due_ns = due_ns;
            let mut now_ns = clock::wall_ns();
            if due_ns > now_ns || sink.is_large() {
                sink.flush()?;
                let left_ns = due_ns - clock::wall_ns();
                if left_ns > 0 {
                    std::thread::sleep(Duration::from_nanos(left_ns as u64));
                }
                now_ns = clock::wall_ns();
            }
            if counts {
                report.late_us_max = report.late_us_max.max((now_ns - due_ns) / 1_000);
            }
        }
        record.clear();
        market::record(&mut record, &names[symbol], number, due_ns, args.record_bytes);
        sink.add(args.dialect, &names[symbol], &record)?;
        number += 1;
        report.counts[symbol] += u64::from(counts);
    }
    sink.finish()?;
    println!("{}", serde_json::to_string(&report)?);
    // The connection stays until the experiment ends: its end is no part of what is measured.
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}
