//! A log that takes nothing more.

use crate::gateway::{LogTo, Options};
use crate::report::Outcome;
use crate::world::{Run, Setup, World};
use anyhow::Result;
use std::time::Duration;
use tickgate_load::clock::now_ns;
use tickgate_load::target::Target;
use tickgate_load::transport::{TransportOptions, open};
use tokio::time::sleep;

/// Connections that come and go, each of which is worth two lines of the log: more than the pipe
/// and the gateway's own buffer hold.
const VISITORS: usize = 3_000;

/// R24b. The pipe that the log goes into is full, and stays so.
pub async fn full_pipe(run: &Run, outcome: &mut Outcome) -> Result<()> {
    silent(run, outcome, LogTo::FullPipe).await
}

/// R24c. Every write of the log fails.
pub async fn full_disk(run: &Run, outcome: &mut Outcome) -> Result<()> {
    silent(run, outcome, LogTo::FullDisk).await
}

async fn silent(run: &Run, outcome: &mut Outcome, log_to: LogTo) -> Result<()> {
    let log_filter = Some("tickgate_gateway=debug,info,librdkafka=off,rdkafka=off");
    let options = Options { log_to, log_filter, ..Options::default() };
    let world = World::start(run, Setup { options, ..Setup::default() }).await?;
    let target = Target::parse(&world.gateway.url())?;
    for _ in 0..VISITORS {
        drop(open(&target, world.gateway.listen, &TransportOptions::default()).await?);
    }
    let full_ns = now_ns();
    outcome.flowing_s = Some(world.flowing(full_ns, 0..world.clients.len()).await?);
    sleep(run.pick(Duration::from_secs(30), Duration::from_secs(2))).await;
    let metrics = world.gateway.metrics().await?;
    outcome.at_least(
        "log lines left out, as it counts them",
        metrics.count("tickgate_log_lines_lost_total", ""),
        1,
    );
    let remains = world.finish(outcome).await?;
    outcome.exactly("sessions closed", remains.closed(), 0);
    Ok(())
}
