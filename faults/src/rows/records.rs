//! Records that cannot be used.

use crate::load::{Bad, bad_records};
use crate::report::Outcome;
use crate::world::{Run, Setup, World, until_async};
use anyhow::Result;
use std::time::Duration;
use tokio::time::sleep;

/// R9. Every bad record is counted under its reason, logged no more often than ten times a second, and costs nobody a
/// tick.
pub async fn malformed(run: &Run, outcome: &mut Outcome) -> Result<()> {
    let mut world = World::start(run, Setup { bad: bad_records(), ..Setup::default() }).await?;
    let span = run.pick(Duration::from_secs(5), Duration::from_secs(3));
    let load = world.load()?;
    load.bad(100);
    sleep(span).await;
    load.bad(1);
    sleep(span).await;
    load.bad(0);
    let everybody = 0..world.clients.len();
    outcome.flowing_s = Some(world.flowing(load.bad_last_ns(), everybody).await?);
    let written = world.stop_load().await?;
    counters_are_exact(&world, outcome).await?;
    let metrics = world.gateway.metrics().await?;
    for (reason, count) in &written {
        let counted = metrics.count("tickgate_feed_bad_records_total", &format!("\"{reason}\""));
        outcome.exactly(&format!("bad records counted as {reason}"), counted, *count);
    }
    let most = 10 * (2 * span.as_secs() + 1);
    outcome.at_most("log lines about them", world.gateway.unreadable_lines(), most);
    let remains = world.finish(outcome).await?;
    outcome.exactly("sessions closed", remains.closed(), 0);
    outcome.exactly("bad records in the log", remains.log.unreadable(), written.values().sum());
    Ok(())
}

/// R10. Skipped and counted, in bounded memory.
pub async fn huge(run: &Run, outcome: &mut Outcome) -> Result<()> {
    const RECORD_BYTES: usize = 10 << 20;
    let bad = vec![Bad { reason: "oversize", value: vec![b'['; RECORD_BYTES] }];
    let setup = Setup { bad, record_bytes_max: RECORD_BYTES, needs_embedded: true, ..Setup::default() };
    let mut world = World::start(run, setup).await?;
    sleep(Duration::from_secs(1)).await;
    let before = world.gateway.resident_bytes();
    world.gateway.forget_peak()?;
    let load = world.load()?;
    // One a second.
    load.bad(2_000);
    sleep(run.pick(Duration::from_secs(10), Duration::from_secs(4))).await;
    load.bad(0);
    let count = world.stop_load().await?.values().sum();
    outcome.at_least("records of 10 MiB", count, 2);
    counters_are_exact(&world, outcome).await?;
    let metrics = world.gateway.metrics().await?;
    outcome.exactly(
        "counted as oversize",
        metrics.count("tickgate_feed_bad_records_total", "\"oversize\""),
        count,
    );
    outcome.at_most(
        "resident memory more at its peak, bytes",
        world.gateway.peak_bytes().saturating_sub(before),
        // Two of them, and what waits in librdkafka's queue while a machine is busy.
        2 * RECORD_BYTES as u64 + (8 << 20),
    );
    let remains = world.finish(outcome).await?;
    outcome.exactly("sessions closed", remains.closed(), 0);
    Ok(())
}

/// Every record of the topic was read, and counted once.
async fn counters_are_exact(world: &World, outcome: &mut Outcome) -> Result<()> {
    let records = world.log().records();
    let read =
        async || world.gateway.metrics().await.map_or(0, |m| m.count("tickgate_feed_records_total", ""));
    until_async("every record is read", async || read().await >= records).await?;
    outcome.exactly("records read", read().await, records);
    Ok(())
}
