//! What it costs to take trades: how many a second one core decodes, checks by the client's rule, and hands out as typed events.
//!
//! The batches are those of `clients/python/benches/decode.py`; with `--file` a recorded session instead, a message a line. Prints the
//! median and the range of the runs, in processor time. Build it with `--release`.

use clap::Parser;
use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Write;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tickgate_client::recorded::Recorded;

const SYMBOLS: u64 = 50;

#[derive(Parser)]
struct Args {
    /// Trades in one run
    #[arg(long, default_value_t = 200_000)]
    trades: u64,
    /// How often it is done
    #[arg(long, default_value_t = 7)]
    runs: usize,
    /// Messages of a gateway, one a line, instead of made-up trades
    #[arg(long)]
    file: Option<PathBuf>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    println!("{:>14} {:>10} {:>14} {:>27}", "trades a frame", "events", "trades/s", "of all runs");
    if let Some(path) = &args.file {
        let text = std::fs::read_to_string(path)?;
        return measure("file", &text.lines().map(str::to_owned).collect::<Vec<_>>(), args.runs);
    }
    for batch in [1, 10, 100, 1000] {
        measure(&batch.to_string(), &frames(args.trades, batch), args.runs)?;
    }
    Ok(())
}

/// Trades of some symbols as a gateway would send them, `batch` to a frame.
fn frames(trades: u64, batch: usize) -> Vec<String> {
    let trade = |n: u64| {
        let mut text = format!(
            r#"{{"type":"trade","symbol":"SYM{}","price":"{:.2}","size":"{}","side":"{}","trade_id":"{n}","venue":"Q","seq":"1f3a:3:{}","event_ns":"{}","ingest_ns":"{}""#,
            n % SYMBOLS,
            480.0 + (n % 997) as f64 / 100.0,
            100 + n % 7,
            if n % 2 == 1 { "buy" } else { "sell" },
            88_000_000 + n,
            1_381_150_800_000_000_000 + n * 1000,
            1_381_150_800_000_250_000 + n * 1000,
        );
        if let Some(prev) = n.checked_sub(SYMBOLS) {
            let _ = write!(text, r#","prev":"1f3a:3:{}""#, 88_000_000 + prev);
        }
        text + "}"
    };
    let all: Vec<String> = (0..trades).map(trade).collect();
    all.chunks(batch).map(|chunk| format!("[{}]", chunk.join(","))).collect()
}

/// The processor time of this thread, where the system says it: whatever else runs on the machine takes nothing of that. Elsewhere time
/// as it passes.
fn spent() -> Duration {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let spent_ns = told.and_then(|text| text.split_whitespace().next()?.parse().ok());
    spent_ns.map_or_else(|| BEGAN.elapsed(), Duration::from_nanos)
}

fn measure(name: &str, messages: &[String], runs: usize) -> Result<(), Box<dyn Error>> {
    let (mut rates, mut counts) = (Vec::new(), BTreeSet::new());
    for _ in 0..runs.max(1) {
        let mut session = Recorded::default();
        let began = spent();
        let events: usize =
            messages.iter().map(|message| black_box(session.message(message.as_bytes(), 1)).len()).sum();
        rates.push(events as f64 / (spent() - began).as_secs_f64());
        counts.insert((events, session.checked().unannounced, session.checked().bad_frames));
    }
    let [(events, 0, 0)] = counts.iter().copied().collect::<Vec<_>>()[..] else {
        return Err(format!("events, breaks and bad frames of the runs: {counts:?}").into());
    };
    rates.sort_by(f64::total_cmp);
    let range = format!("{:.0} to {:.0}", rates[0], rates[rates.len() - 1]);
    println!("{name:>14} {events:>10} {:>14.0} {range:>27}", rates[rates.len() / 2]);
    Ok(())
}
