//! Brokers that go, freeze, or answer nonsense.

use crate::report::Outcome;
use crate::world::{Remains, Run, Setup, World, until};
use anyhow::Result;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tickgate_broker::{ApiKey, ErrorCode};
use tickgate_load::clock::now_ns;
use tokio::time::sleep;

/// R1a. Every client is told, none is disconnected, and what was written meanwhile comes once the broker is back.
pub async fn gone_and_back(run: &Run, outcome: &mut Outcome) -> Result<()> {
    let world = World::start(run, Setup { needs_embedded: true, ..Setup::default() }).await?;
    sleep(Duration::from_secs(1)).await;
    let faults = world.kafka.broker()?.faults();
    let gone = Instant::now();
    faults.stop()?;
    everybody_is_told(&world, outcome, gone).await?;
    sleep(run.pick(Duration::from_secs(10), Duration::from_secs(4)).saturating_sub(gone.elapsed())).await;
    let back_ns = now_ns();
    faults.restart()?;
    ends_well(world, outcome, back_ns).await.map(drop)
}

/// R2a. Nothing is refused and no connection ends: only answers are missing.
pub async fn frozen(run: &Run, outcome: &mut Outcome) -> Result<()> {
    let world = World::start(run, Setup { needs_embedded: true, ..Setup::default() }).await?;
    sleep(Duration::from_secs(1)).await;
    let faults = world.kafka.broker()?.faults();
    let frozen = Instant::now();
    faults.stall();
    everybody_is_told(&world, outcome, frozen).await?;
    sleep(run.pick(Duration::from_secs(30), Duration::from_secs(6)).saturating_sub(frozen.elapsed())).await;
    let back_ns = now_ns();
    faults.resume();
    ends_well(world, outcome, back_ns).await.map(drop)
}

pub async fn everybody_is_told(world: &World, outcome: &mut Outcome, since: Instant) -> Result<()> {
    let told =
        |world: &World| world.clients.iter().filter(|c| c.seen.downs.load(Ordering::Relaxed) > 0).count();
    until("every client is told that the feed is down", || told(world) == world.clients.len()).await?;
    outcome.show("every client was told `down` after", format!("{:.2} s", since.elapsed().as_secs_f64()));
    Ok(())
}

pub async fn ends_well(world: World, outcome: &mut Outcome, back_ns: i64) -> Result<Remains> {
    outcome.flowing_s = Some(world.flowing(back_ns, 0..world.clients.len()).await?);
    let is_live = |world: &World| world.clients.iter().all(|c| c.seen.is_live.load(Ordering::Relaxed));
    until("every client is told that the feed is live", || is_live(&world)).await?;
    outcome.show("every client was told `live` after", format!("{:.2} s", (now_ns() - back_ns) as f64 / 1e9));
    sleep(Duration::from_secs(1)).await;
    let metrics = world.gateway.metrics().await?;
    outcome.exactly("offsets lost", metrics.count("tickgate_feed_lost_offsets_total", ""), 0);
    let remains = world.finish(outcome).await?;
    outcome.exactly("sessions closed", remains.closed(), 0);
    outcome.exactly("ticks announced as lost", outcome.counts.announced, 0);
    Ok(remains)
}

/// R8. The feed is as late as the line is long, and not much more; clients notice nothing else.
pub async fn far_away(run: &Run, outcome: &mut Outcome) -> Result<()> {
    const EACH_WAY: Duration = Duration::from_millis(100);
    let world = World::start(run, Setup { kafka_delay: Some(EACH_WAY), ..Setup::default() }).await?;
    sleep(Duration::from_secs(1)).await;
    let since_ns = now_ns();
    sleep(run.pick(Duration::from_secs(30), Duration::from_secs(5))).await;
    let until_ns = now_ns();
    let downs: u64 = world.clients.iter().map(|client| client.seen.downs.load(Ordering::Relaxed)).sum();
    let links = world.links();
    let remains = world.finish(outcome).await?;
    let everybody = 0..remains.lives.len();
    let late_ms = |quantile| remains.latency_ms(everybody.clone(), (since_ns, until_ns), quantile);
    let (p50, p99, most) = (late_ms(0.5), late_ms(0.99), late_ms(1.0));
    outcome
        .show("age of ticks when they came", format!("p50 {p50:.0} ms, p99 {p99:.0} ms, most {most:.0} ms"));
    outcome.at_least("connections through the relay", links, 2);
    let is_late = late_ms(0.0) >= EACH_WAY.as_millis() as f64;
    outcome.gate("the first of them took as long as its way", is_late, true, is_late);
    outcome.exactly("heartbeats that said `down`", downs, 0);
    outcome.exactly("sessions closed", remains.closed(), 0);
    outcome.exactly("ticks announced as lost", outcome.counts.announced, 0);
    Ok(())
}

/// R7. Requests fail a few times each, all kinds of them with all kinds of errors, again and again.
pub async fn errors(run: &Run, outcome: &mut Outcome) -> Result<()> {
    const AT_ONCE: usize = 3;
    let world = World::start(run, Setup { needs_embedded: true, ..Setup::default() }).await?;
    let faults = world.kafka.broker()?.faults();
    let kinds = [
        (ApiKey::Fetch, ErrorCode::NotLeaderOrFollower),
        (ApiKey::Metadata, ErrorCode::LeaderNotAvailable),
        (ApiKey::Fetch, ErrorCode::KafkaStorageError),
        (ApiKey::ListOffsets, ErrorCode::NotLeaderOrFollower),
        (ApiKey::Fetch, ErrorCode::UnknownTopicOrPartition),
        (ApiKey::Metadata, ErrorCode::UnknownTopicOrPartition),
        (ApiKey::Fetch, ErrorCode::UnknownServerError),
        (ApiKey::Fetch, ErrorCode::FencedLeaderEpoch),
    ];
    let wanted = run.pick(1_000, 90);
    let mut met = 0;
    for (api, code) in kinds.into_iter().cycle() {
        if met >= wanted {
            break;
        }
        faults.fail_next(api, code, AT_ONCE);
        until("the errors were met", || faults.failures_left(api) == 0).await?;
        met += AT_ONCE;
    }
    outcome.at_least("errors met", met as u64, wanted as u64);
    let over_ns = now_ns();
    outcome.flowing_s = Some(world.flowing(over_ns, 0..world.clients.len()).await?);
    let metrics = world.gateway.metrics().await?;
    outcome.exactly(
        "topics taken for new ones",
        metrics.count("tickgate_feed_topics_recreated_total", ""),
        0,
    );
    let remains = world.finish(outcome).await?;
    outcome.exactly("sessions closed", remains.closed(), 0);
    outcome.exactly("ticks announced as lost", outcome.counts.announced, 0);
    Ok(())
}
