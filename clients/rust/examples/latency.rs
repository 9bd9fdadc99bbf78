//! How late is it? From the venue to the gateway, and from the gateway to here.

mod common;

use std::time::Duration;
use tickgate_client::{Channel, Event, Subscription};

#[tokio::main]
async fn main() -> Result<(), common::Failure> {
    let args: common::Args =
        common::args("How late is it? From the venue to the gateway, and from the gateway to here");
    let mut listening = args.listen("trades and quotes", Subscription::quotes(&args.symbols)).await?;
    listening.live.subscribe(Subscription::on(Channel::Trades, &args.symbols))?;
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
    let stats = listening.live.stats();
    if events > 0 {
        println!("to the gateway: {} ms on average", upstream_sum_ns / events / 1_000_000);
    }
    let ns = Duration::from_nanos;
    let latency = stats.latency;
    println!(
        "from there to here, {} events: p50 {:?}, p99 {:?}, at most {:?}",
        latency.count,
        ns(latency.p50_ns),
        ns(latency.p99_ns),
        ns(latency.max_ns)
    );
    if let (Some(skew_ns), Some(round_trip_ns)) = (stats.skew_ns, stats.round_trip_ns) {
        let exact_to = ns(round_trip_ns / 2);
        println!(
            "the gateway's clock is {} µs ahead of this one, which is known to {exact_to:?}",
            skew_ns / 1_000
        );
    }
    println!(
        "conflated {}, lost {}, duplicates {}, bad frames {}",
        stats.conflated, stats.lost, stats.duplicates, stats.bad_frames
    );
    Ok(())
}
