//! Nodes of an Apache Kafka that are killed.

use super::broker::{ends_well, everybody_is_told};
use crate::kafka::Control;
use crate::report::Outcome;
use crate::world::{Run, Setup, World};
use anyhow::{Context, Result};
use std::time::{Duration, Instant};
use tickgate_load::clock::now_ns;
use tokio::time::sleep;

const NODES: [usize; 3] = [1, 2, 3];

fn control(run: &Run) -> Result<&Control> {
    run.control.as_ref().context("this row needs --control")
}

/// R1b. Two nodes go on: nothing is missing, and nobody is told that the feed is down.
pub async fn one_killed(run: &Run, outcome: &mut Outcome) -> Result<()> {
    let world = World::start(run, Setup::default()).await?;
    sleep(Duration::from_secs(1)).await;
    let killed_ns = now_ns();
    control(run)?.nodes("kill", &[1]).await?;
    // Leaders move first.
    sleep(Duration::from_secs(1)).await;
    let flowing = world.flowing(now_ns(), 0..world.clients.len()).await?;
    outcome.show("flowing without it after", format!("{flowing:.2} s"));
    sleep(Duration::from_secs(10)).await;
    control(run)?.nodes("start", &[1]).await?;
    outcome.show("it was gone for", format!("{:.1} s", (now_ns() - killed_ns) as f64 / 1e9));
    ends_well(world, outcome, now_ns()).await.map(drop)
}

/// R1c. Every client is told, none is disconnected, and what was written meanwhile comes once they are back.
pub async fn all_killed(run: &Run, outcome: &mut Outcome) -> Result<()> {
    let world = World::start(run, Setup::default()).await?;
    sleep(Duration::from_secs(1)).await;
    let gone = Instant::now();
    control(run)?.nodes("kill", &NODES).await?;
    everybody_is_told(&world, outcome, gone).await?;
    sleep(Duration::from_secs(30).saturating_sub(gone.elapsed())).await;
    control(run)?.nodes("start", &NODES).await?;
    ends_well(world, outcome, now_ns()).await.map(drop)
}

/// R3b. Every node hands its leaders over once.
pub async fn leaders_move(run: &Run, outcome: &mut Outcome) -> Result<()> {
    let world = World::start(run, Setup::default()).await?;
    for node in NODES {
        sleep(Duration::from_secs(1)).await;
        control(run)?.nodes("stop", &[node]).await?;
        sleep(Duration::from_secs(3)).await;
        control(run)?.nodes("start", &[node]).await?;
        // It has to be in step again before the next may go.
        sleep(Duration::from_secs(8)).await;
    }
    ends_well(world, outcome, now_ns()).await.map(drop)
}
