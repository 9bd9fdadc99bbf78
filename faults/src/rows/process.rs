//! The gateway as a process: how it starts, stops, and what it keeps.

use crate::client::Client;
use crate::gateway::{self, Gateway, LOOK_EVERY, Options, SOON};
use crate::kafka::Kafka;
use crate::report::Outcome;
use crate::world::{Run, Setup, World, until, until_async};
use anyhow::{Result, ensure};
use rustix::process::Signal;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tickgate_load::clock::now_ns;
use tickgate_load::target::Target;
use tickgate_load::transport::{TransportOptions, open};
use tokio::time::sleep;

/// What mimalloc takes of the system at once.
const ALLOCATOR_SEGMENT_BYTES: u64 = 4 << 20;

/// How long a gateway has to give back what sessions had.
const GIVEN_BACK: Duration = Duration::from_secs(10);

/// R15a. Readiness goes off, every client is told, and closed with 1012 over a while; the gateway ends with 0.
pub async fn terminated(run: &Run, outcome: &mut Outcome) -> Result<()> {
    let setup = Setup {
        clients: run.pick(10_000, 1_000),
        symbols_per_client: 1,
        rate_per_s: 500,
        options: Options {
            settings: [
                "drain.accept_ms=1000",
                "drain.spread_ms=3000",
                "session.heartbeat_ms=1000",
                "limits.sessions_max=12000",
            ]
            .map(str::to_owned)
            .into(),
            ..Options::default()
        },
        ..Setup::default()
    };
    let mut world = World::start(run, setup).await?;
    sleep(Duration::from_secs(1)).await;
    let told = Instant::now();
    world.gateway.signal(Signal::TERM)?;
    until_async("readiness is off", async || world.gateway.readiness().await != Some(200)).await?;
    outcome.show("readiness was off after", format!("{} ms", told.elapsed().as_millis()));
    let target = Target::parse(&world.gateway.url())?;
    // Who was sent here meanwhile is served, until load balancers have noticed.
    let before_goaway = open(&target, world.gateway.listen, &TransportOptions::default()).await;
    outcome.gate(
        "a new connection before anyone is told",
        before_goaway.is_ok(),
        true,
        before_goaway.is_ok(),
    );
    drop(before_goaway);
    let is_told = || world.clients.iter().any(|c| c.seen.goaways.load(Ordering::Relaxed) > 0);
    until("clients are told", is_told).await?;
    // Each shard begins by itself: one that was without a processor meanwhile still takes whoever comes to it.
    let mut refusal = None;
    until_async("a new connection is refused", async || {
        refusal = open(&target, world.gateway.listen, &TransportOptions::default()).await.err();
        refusal.is_some()
    })
    .await?;
    let refusal = refusal.map(|error| error.label()).unwrap_or_default();
    outcome.gate("a new connection while it drains", &refusal, "http_503", refusal == "http_503");
    let status = world.gateway.ended().await?;
    outcome.show("it ended after", format!("{:.2} s", told.elapsed().as_secs_f64()));
    outcome.gate("exit of the gateway", status, "exit status: 0", status.success());
    let gone = || world.clients.iter().all(|c| !c.seen.is_subscribed.load(Ordering::Relaxed));
    until("every client sees the end", gone).await?;
    // When it begins, and with the last cursor right before the close.
    let told = world.clients.iter().filter(|c| c.seen.goaways.load(Ordering::Relaxed) == 2).count();
    let clients = world.clients.len() as u64;
    outcome.exactly("clients told twice to go away", told as u64, clients);
    let remains = world.finish(outcome).await?;
    let closes = remains.closes();
    outcome.gate("closes", format!("{closes:?}"), "1012 for all", closes.get("1012") == Some(&clients));
    Ok(())
}

/// R15b. Who asks a second time does not want to wait.
pub async fn terminated_twice(run: &Run, outcome: &mut Outcome) -> Result<()> {
    let settings = vec!["drain.spread_ms=60000".to_owned()];
    let options = Options { settings, ..Options::default() };
    let mut world = World::start(run, Setup { options, ..Setup::default() }).await?;
    world.gateway.signal(Signal::TERM)?;
    until_async("readiness is off", async || world.gateway.readiness().await != Some(200)).await?;
    let told = Instant::now();
    world.gateway.signal(Signal::TERM)?;
    let status = world.gateway.ended().await?;
    outcome.show("it ended after", format!("{} ms", told.elapsed().as_millis()));
    outcome.gate("exit of the gateway", status, "exit status: 1", status.code() == Some(1));
    world.finish(outcome).await?;
    Ok(())
}

/// R20. What an idle connection takes, and what is left of it when it is gone. Nothing is written meanwhile, so that
/// nothing else grows.
pub async fn idle_memory(run: &Run, outcome: &mut Outcome) -> Result<()> {
    let count = run.pick(10_000, 2_000);
    let settings = vec!["limits.sessions_max=12000".to_owned()];
    let options = Options { settings, ..Options::default() };
    let mut world = World::empty(run, Setup { clients: 5, options, ..Setup::default() }).await?;
    let clients = world.setup.clients;
    world.clients = (0..clients).map(|number| Client::start(world.spec(number))).collect();
    world.subscribed(0..clients).await?;
    let target = Target::parse(&world.gateway.url())?;
    let open_all = async |count: usize| {
        let mut idle = Vec::with_capacity(count);
        for _ in 0..count {
            idle.push(open(&target, world.gateway.listen, &TransportOptions::default()).await?);
        }
        anyhow::Ok(idle)
    };
    let sessions =
        async || world.gateway.metrics().await.map_or(0, |m| m.count("tickgate_sessions_open", ""));
    let are_open = async |count: usize| {
        until_async("the gateway counts them", async || sessions().await == count as u64).await
    };
    // Whatever a look at the metrics takes is there before.
    are_open(clients).await?;
    let before = world.gateway.resident_bytes();
    world.gateway.forget_peak()?;
    // Half of them first: tables and allocators find their size, and the second half shows what each takes.
    let mut idle = open_all(count / 2).await?;
    are_open(count / 2 + clients).await?;
    let half = world.gateway.resident_bytes();
    idle.extend(open_all(count / 2).await?);
    are_open(count + clients).await?;
    let with = world.gateway.resident_bytes();
    let each = with.saturating_sub(half) / (count as u64 / 2);
    // The allocator takes memory by the segment: one that the second half happens to begin is not all its own.
    let segment = ALLOCATOR_SEGMENT_BYTES / (count as u64 / 2);
    outcome.at_most("resident bytes per further idle connection", each, (4 << 10) + segment);
    drop(idle);
    are_open(clients).await?;
    // Given back as soon as it is quiet.
    let allowed = before + before / 10;
    let gone = Instant::now();
    while world.gateway.resident_bytes() > allowed && gone.elapsed() < GIVEN_BACK {
        sleep(LOOK_EVERY).await;
    }
    let after = world.gateway.resident_bytes();
    outcome.at_most("resident bytes when they are gone", after, allowed);
    outcome.show("given back after", format!("{:.1} s", gone.elapsed().as_secs_f64()));
    let kib = [before, half, with, after].map(|bytes| (bytes >> 10).to_string()).join(", ");
    outcome.show("resident KiB before, with half, with all, and when they are gone", kib);
    // What the allocator kept of them is used again, however often: nothing is left behind by any. Peaks are compared,
    // as the allocator may have given back something already when the last of the first round is open.
    let first = world.gateway.peak_bytes();
    world.gateway.forget_peak()?;
    let rounds = run.pick(10, 2);
    for _ in 0..rounds {
        let again = open_all(count).await?;
        are_open(count + clients).await?;
        drop(again);
        are_open(clients).await?;
    }
    let peak = world.gateway.peak_bytes();
    outcome.at_most(&format!("most resident bytes in {rounds} more such rounds"), peak, first + first / 10);
    let remains = world.finish(outcome).await?;
    outcome.exactly("sessions closed", remains.closed(), 0);
    Ok(())
}

/// R25a. It lives, is not ready, and serves as soon as there is something to serve.
pub async fn started_before_broker(run: &Run, outcome: &mut Outcome) -> Result<()> {
    let kafka = Kafka::embedded(1 << 20)?;
    kafka.create_topic("ticks", 4, &[]).await?;
    let faults = kafka.broker()?.faults();
    faults.stop()?;
    let mut gateway = Gateway::start(&run.program, &kafka.brokers(), "ticks", &Options::default()).await?;
    // Longer than it takes to find out that nobody answers.
    sleep(run.pick(Duration::from_secs(10), Duration::from_secs(3))).await;
    let (live, _) = gateway.get("/healthz").await?;
    outcome.exactly("/healthz", u64::from(live), 200);
    let (ready, reasons) = gateway.get("/readyz").await?;
    outcome.gate("/readyz", format!("{ready} {}", reasons.trim()), "503 with the reason", {
        ready == 503 && reasons.contains("no broker answers")
    });
    let back_ns = now_ns();
    faults.restart()?;
    gateway.ready().await?;
    outcome.flowing_s = Some((now_ns() - back_ns) as f64 / 1e9);
    gateway.signal(Signal::TERM)?;
    let status = gateway.ended().await?;
    outcome.gate("exit of the gateway", status, "exit status: 0", status.success());
    outcome.exactly("panics", gateway.panics(), 0);
    Ok(())
}

/// R25b. Everything that is wrong is said at once, and the exit code tells a script.
pub async fn wrong_configuration(run: &Run, outcome: &mut Outcome) -> Result<()> {
    let settings = vec!["outbox.bytes_max=few".to_owned(), "shardz=2".to_owned()];
    let options = Options { settings, ..Options::default() };
    let mut command = gateway::command(&run.program, "127.0.0.1:1", "ticks", &options);
    let started = Instant::now();
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    ensure!(started.elapsed() < SOON, "it did not end");
    let said = String::from_utf8_lossy(&output.stderr);
    outcome.gate("exit of the gateway", output.status, "exit status: 64", output.status.code() == Some(64));
    for wrong in ["outbox.bytes_max", "shardz"] {
        outcome.gate(&format!("{wrong} is named"), said.contains(wrong), true, said.contains(wrong));
    }
    Ok(())
}
