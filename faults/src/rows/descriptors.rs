//! A process that may open no more files.

use crate::gateway::Options;
use crate::report::Outcome;
use crate::world::{Run, Setup, World, until_async};
use anyhow::Result;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tickgate_load::clock::now_ns;
use tickgate_load::target::Target;
use tickgate_load::transport::{TransportOptions, open};
use tokio::time::sleep;

/// R24a. New connections wait or are refused with 503, those that are there go on, and when some leave it recovers.
pub async fn exhausted(run: &Run, outcome: &mut Outcome) -> Result<()> {
    const FILES: u64 = 256;
    const NEW: usize = 400;
    let options = Options { open_files_max: Some(FILES), ..Options::default() };
    let world = World::start(run, Setup { options, ..Setup::default() }).await?;
    let everybody = 0..world.clients.len();
    sleep(Duration::from_secs(1)).await;
    let (lines, cpu) = (world.gateway.log_lines(), world.gateway.cpu());
    let target = Target::parse(&world.gateway.url())?;
    let options =
        TransportOptions { handshake_timeout: Duration::from_secs(2), ..TransportOptions::default() };
    let mut attempts = Vec::new();
    for _ in 0..NEW {
        let (target, options, address) = (target.clone(), options.clone(), world.gateway.listen);
        attempts.push(tokio::spawn(async move { open(&target, address, &options).await }));
    }
    let (mut taken, mut refused) = (Vec::new(), BTreeMap::<String, u64>::new());
    for attempt in attempts {
        match attempt.await? {
            Ok(connection) => taken.push(connection),
            Err(error) => *refused.entry(error.label()).or_default() += 1,
        }
    }
    outcome.show("new connections taken, refused", format!("{}, {refused:?}", taken.len()));
    outcome.at_least("new connections not taken", refused.values().sum(), NEW as u64 - FILES);
    let others: u64 =
        refused.iter().filter(|(why, _)| !["http_503", "timeout"].contains(&&***why)).map(|(_, n)| n).sum();
    outcome.exactly("refused otherwise than by 503 or by waiting", others, 0);
    // Still full: those that were there go on.
    let (full_ns, started, cpu_before) = (now_ns(), Instant::now(), world.gateway.cpu());
    sleep(run.pick(Duration::from_secs(10), Duration::from_secs(2))).await;
    let used = (world.gateway.cpu() - cpu_before).as_secs_f64() / started.elapsed().as_secs_f64();
    world.flowing(full_ns, everybody).await?;
    outcome.show("share of a processor while full", format!("{:.0} %", 100.0 * used));
    outcome.show("processor time in all", format!("{:.2} s", (world.gateway.cpu() - cpu).as_secs_f64()));
    outcome.at_most("log lines about it", world.gateway.log_lines() - lines, 50);
    drop(taken);
    let left = Instant::now();
    let comes_in = async || open(&target, world.gateway.listen, &TransportOptions::default()).await.is_ok();
    until_async("new connections are taken again", comes_in).await?;
    outcome.show("new connections were taken again after", format!("{:.2} s", left.elapsed().as_secs_f64()));
    let remains = world.finish(outcome).await?;
    outcome.exactly("sessions closed", remains.closed(), 0);
    Ok(())
}
