//! What happens to a topic while it is read.

use crate::report::Outcome;
use crate::world::{Run, Setup, World, until_async};
use anyhow::Result;
use rustix::process::Signal;
use std::time::{Duration, Instant};
use tickgate_load::clock::now_ns;
use tokio::time::sleep;

/// R4a. New partitions are read from their first record on, and clients are told of each symbol that moves.
pub async fn partitions_added(run: &Run, outcome: &mut Outcome) -> Result<()> {
    let world = World::start(run, Setup::default()).await?;
    let (before, after) = (world.setup.partitions, 2 * world.setup.partitions);
    sleep(Duration::from_secs(1)).await;
    let added = Instant::now();
    world.kafka.add_partitions(&world.topic, after as usize).await?;
    world.load()?.partitions(after);
    let name = "tickgate_feed_partitions_added_total";
    let found = async || world.gateway.metrics().await.map_or(0, |metrics| metrics.count(name, ""));
    until_async("the new partitions are found", async || found().await >= u64::from(after - before)).await?;
    outcome.show("new partitions were found after", format!("{:.2} s", added.elapsed().as_secs_f64()));
    sleep(Duration::from_secs(1)).await;
    outcome.exactly("partitions added", found().await, u64::from(after - before));
    let moved = (0..world.setup.symbols as u32).filter(|at| at % after != at % before).count() as u64;
    let holders = (world.setup.clients * world.setup.symbols_per_client / world.setup.symbols) as u64;
    let remains = world.finish(outcome).await?;
    // Trades and quotes of each symbol that moved, told to each client that holds it.
    outcome.exactly("moves told", outcome.counts.gaps, 2 * moved * holders);
    outcome.exactly("ticks announced as lost", outcome.counts.announced, 0);
    outcome.exactly("sessions closed", remains.closed(), 0);
    Ok(())
}

/// R5a. The new topic is read from its beginning, under another epoch and behind a gap: never as if it were the old one.
pub async fn made_anew(run: &Run, outcome: &mut Outcome) -> Result<()> {
    let mut world = World::start(run, Setup::default()).await?;
    sleep(Duration::from_secs(2)).await;
    world.stop_load().await?;
    let records = world.log().records();
    let name = "tickgate_feed_records_total";
    let read = async || world.gateway.metrics().await.map_or(0, |metrics| metrics.count(name, ""));
    until_async("the old topic is read to its end", async || read().await >= records).await?;
    world.kafka.delete_topic(&world.topic).await?;
    world.kafka.create_topic(&world.topic, world.setup.partitions as i32, &[]).await?;
    world.topic_is_new()?;
    let made_ns = now_ns();
    world.write()?;
    outcome.flowing_s = Some(world.flowing(made_ns, 0..world.clients.len()).await?);
    sleep(Duration::from_secs(1)).await;
    let metrics = world.gateway.metrics().await?;
    outcome.exactly("topics made anew", metrics.count("tickgate_feed_topics_recreated_total", ""), 1);
    let streams = (2 * world.setup.clients * world.setup.symbols_per_client) as u64;
    let remains = world.finish(outcome).await?;
    outcome.exactly("gaps told", outcome.counts.gaps, streams);
    outcome.exactly("ticks announced as lost", outcome.counts.announced, 0);
    outcome.exactly("sessions closed", remains.closed(), 0);
    Ok(())
}

/// R6a. What was gone before it was read is announced to the offset.
pub async fn retention(run: &Run, outcome: &mut Outcome) -> Result<()> {
    let mut world = World::start(run, Setup::default()).await?;
    sleep(Duration::from_secs(1)).await;
    world.gateway.signal(Signal::STOP)?;
    sleep(run.pick(Duration::from_secs(10), Duration::from_secs(3))).await;
    world.take_away_all().await?;
    let back_ns = now_ns();
    world.gateway.signal(Signal::CONT)?;
    world.load()?.pause(false);
    outcome.flowing_s = Some(world.flowing(back_ns, 0..world.clients.len()).await?);
    sleep(Duration::from_secs(1)).await;
    let metrics = world.gateway.metrics().await?;
    outcome.at_least("offsets lost", metrics.count("tickgate_feed_lost_offsets_total", ""), 1);
    let remains = world.finish(outcome).await?;
    outcome.at_least("ticks announced as lost", outcome.counts.announced, 1);
    outcome.exactly("sessions closed", remains.closed(), 0);
    Ok(())
}
