//! How late is it? From the venue to the gateway, and from the gateway to here.

mod common;

use std::process::ExitCode;
use tickgate_client::{Event, Subscription};

/// What nothing was measured of.
const UNKNOWN: &str = "unknown";

#[tokio::main]
async fn main() -> Result<ExitCode, common::Failure> {
    let args: common::Args =
        common::args("How late is it? From the venue to the gateway, and from the gateway to here");
    let both = vec![Subscription::quotes(&args.symbols), Subscription::trades(&args.symbols)];
    let mut listening = args.listen("trades and quotes", both)?;
    let (mut events, mut upstream_sum_ns) = (0_i128, 0_i128);
    while let Some(event) = listening.next().await {
        if let Event::Feed { name, state } = &event {
            println!("feed {name}: {}", state.name());
        }
        let Some(meta) = event.meta().filter(|meta| !meta.snapshot && !meta.replay) else { continue };
        events += 1;
        // A producer that stamps says when it meant to send; a venue's clock may be anywhere.
        upstream_sum_ns += i128::from(meta.ingest_ns) - i128::from(meta.send_ns.unwrap_or(meta.event_ns));
    }
    if !listening.had_session {
        return Ok(listening.exit());
    }
    let stats = listening.live.stats();
    let upstream = match events {
        0 => UNKNOWN.to_owned(),
        events => format!("{} ms on average", upstream_sum_ns / events / 1_000_000),
    };
    println!("to the gateway: {upstream}");
    let ms = |ns: u64| format!("{:.3} ms", ns as f64 / 1e6);
    let latency = stats.latency;
    match latency.count {
        0 => println!("from there to here: {UNKNOWN}, no event was measured"),
        count => println!(
            "from there to here, {count} events: p50 {}, p99 {}, at most {}",
            ms(latency.p50_ns),
            ms(latency.p99_ns),
            ms(latency.max_ns)
        ),
    }
    match (stats.skew_ns, stats.round_trip_ns) {
        (Some(skew_ns), Some(round_trip_ns)) => println!(
            "the gateway's clock is {} {} this one, which is known to {}",
            ms(skew_ns.unsigned_abs()),
            if skew_ns < 0 { "behind" } else { "ahead of" },
            ms(round_trip_ns / 2)
        ),
        _ => println!("how far the gateway's clock is ahead of this one: {UNKNOWN}"),
    }
    println!(
        "conflated {}, {}, duplicates {}, bad frames {}",
        stats.conflated,
        common::gaps(&stats),
        stats.duplicates,
        stats.bad_frames
    );
    Ok(listening.exit())
}
