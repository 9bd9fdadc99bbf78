//! Clocks that are wrong.

use crate::clocked;
use crate::gateway::Options;
use crate::report::Outcome;
use crate::world::{Run, Setup, World};
use anyhow::Result;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::sleep;

/// An hour and ten years, in nanoseconds.
const HOUR_NS: i64 = 3_600_000_000_000;
const TEN_YEARS_NS: i64 = 10 * 8_766 * HOUR_NS;

/// R14a. Deadlines and heartbeats go by the monotonic clock; what is measured by the wall clock over a jump is counted,
/// and no histogram holds less than nothing.
pub async fn jumps(run: &Run, outcome: &mut Outcome) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("clock");
    let options = Options { clock: Some(file.clone()), ..Options::default() };
    let world = World::start(run, Setup { options, ..Setup::default() }).await?;
    let heard = |world: &World| -> u64 {
        world.clients.iter().map(|c| c.seen.heartbeats.load(Ordering::Relaxed)).sum()
    };
    let (before, started) = (heard(&world), std::time::Instant::now());
    // A second forward and back is what a leap second looks like.
    for ahead_ns in [HOUR_NS, -HOUR_NS, -TEN_YEARS_NS, 1_000_000_000, 0] {
        clocked::set(&file, ahead_ns)?;
        sleep(run.pick(Duration::from_secs(4), Duration::from_millis(1_000))).await;
    }
    // One each quarter of a second; half of them are more than any that would wait for a clock.
    let wanted = world.clients.len() as u64 * started.elapsed().as_millis() as u64 / 500;
    outcome.at_least("heartbeats meanwhile", heard(&world) - before, wanted);
    let metrics = world.gateway.metrics().await?;
    let negative = metrics.count("tickgate_latency_negative_total", "");
    outcome.at_least("times of less than nothing, counted apart", negative, 1);
    let sums = metrics.sum("tickgate_latency_seconds_sum", "");
    outcome.gate("sum of all latencies", format!("{sums:.0} s"), "not negative", sums >= 0.0);
    let over = |stage| metrics.count("tickgate_latency_over_range_total", stage);
    let stages = ["ingest_to_written", "event_to_written"].map(over);
    outcome.show("times out of range, of the gateway's own and since the venue's", format!("{stages:?}"));
    let remains = world.finish(outcome).await?;
    outcome.exactly("sessions closed", remains.closed(), 0);
    Ok(())
}

/// R14b. A venue's clock is passed on as it is and counted; nothing of the gateway goes by it.
pub async fn venue_ahead(run: &Run, outcome: &mut Outcome) -> Result<()> {
    let world = World::start(run, Setup::default()).await?;
    let load = world.load()?;
    let before = load.written();
    load.ahead(Duration::from_secs(3_600));
    sleep(run.pick(Duration::from_secs(10), Duration::from_secs(3))).await;
    load.ahead(Duration::ZERO);
    let written = load.written() - before;
    let metrics = world.gateway.metrics().await?;
    let ahead = metrics.count("tickgate_feed_clock_ahead_total", "");
    // What was on its way at both ends is on either side.
    outcome.at_least("ticks counted as ahead", ahead, written / 2);
    let remains = world.finish(outcome).await?;
    outcome.exactly("sessions closed", remains.closed(), 0);
    Ok(())
}
