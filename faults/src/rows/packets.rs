//! Packets that are lost between two hosts.

use super::broker::{ends_well, everybody_is_told};
use crate::client::{Client, Order, Return};
use crate::gateway::Options;
use crate::namespace::{Between, Namespace};
use crate::report::Outcome;
use crate::world::{Run, Setup, World, until_async};
use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tickgate_load::clock::now_ns;
use tokio::time::sleep;

/// Of a hundred packets.
const LOST: u8 = 30;
/// Clients whose packets are lost.
const FAR: usize = 10;
/// What is remembered for replays, where memory is looked at.
const REPLAY_BYTES_MAX: u64 = 4 << 20;
/// What a slow client may hold, likewise.
const HELD_BYTES_MAX: u64 = 512 << 10;
/// All that, when every far client is slow.
const KEPT_BYTES_MAX: u64 = REPLAY_BYTES_MAX + FAR as u64 * HELD_BYTES_MAX;
/// What an allocator takes more than it is asked for, and a fetch of all that was late.
const PAGES_BYTES: u64 = 6 << 20;

/// A world whose gateway is on a host of its own; the last [`FAR`] clients connect from the far address. None when this
/// machine has no way to have one.
async fn apart(
    run: &Run,
    outcome: &mut Outcome,
    settings: &[impl ToString],
) -> Result<Option<(World, Arc<Namespace>)>> {
    let namespace = match Namespace::new() {
        Ok(namespace) => Arc::new(namespace),
        Err(why) => {
            outcome.not_run = Some(why);
            return Ok(None);
        }
    };
    let settings = settings.iter().map(ToString::to_string).collect();
    let options = Options { settings, namespace: Some(namespace.clone()), ..Options::default() };
    let setup = Setup { options, returns: Some(Return::Cursor), ..Setup::default() };
    let clients = setup.clients;
    let mut world = World::empty(run, setup).await?;
    for number in 0..clients {
        let mut spec = world.spec(number);
        if number >= clients - FAR {
            spec.local = Some(namespace.far().into());
        }
        world.clients.push(Client::start(spec));
    }
    world.subscribed(0..clients).await?;
    world.write()?;
    world.flowing(now_ns(), 0..clients).await?;
    sleep(Duration::from_secs(1)).await;
    world.gateway.forget_peak()?;
    Ok(Some((world, namespace)))
}

/// The peak since `before`, the resident memory before the fault: it may have grown by what the bounds of
/// [`small_bounds`] let be kept, and some pages.
fn memory_is_bounded(world: &World, outcome: &mut Outcome, before: u64) {
    outcome.show("resident memory before, bytes", before);
    outcome.at_most(
        "most resident memory, bytes",
        world.gateway.peak_bytes(),
        before + KEPT_BYTES_MAX + PAGES_BYTES,
    );
}

/// What is remembered for replays is filled soon, and no client may hold more than [`HELD_BYTES_MAX`].
fn small_bounds() -> [String; 2] {
    [format!("replay.memory_bytes_max={REPLAY_BYTES_MAX}"), format!("outbox.bytes_max={HELD_BYTES_MAX}")]
}

fn port(world: &World) -> Result<u16> {
    let address: SocketAddr = world.brokers.parse().context("one broker")?;
    Ok(address.port())
}

/// R12c. Whoever is on such a line gets the newest quotes, or is ended and comes back for what it missed; nobody else
/// notices.
pub async fn to_clients(run: &Run, outcome: &mut Outcome) -> Result<()> {
    let Some((world, namespace)) = apart(run, outcome, &small_bounds()).await? else { return Ok(()) };
    let before = world.gateway.resident_bytes();
    let (everybody, others) = (0..world.clients.len(), 0..world.clients.len() - FAR);
    namespace.lose(LOST, Between::Far)?;
    sleep(run.pick(Duration::from_secs(30), Duration::from_secs(10))).await;
    world.flowing(now_ns(), others.clone()).await?;
    outcome.at_least("packets lost", namespace.heal()?, 1);
    let healed_ns = now_ns();
    world.subscribed(everybody.clone()).await?;
    outcome.flowing_s = Some(world.flowing(healed_ns, everybody).await?);
    memory_is_bounded(&world, outcome, before);
    sleep(Duration::from_secs(2)).await;
    world.subscribed(0..world.clients.len()).await?;
    let remains = world.finish(outcome).await?;
    outcome.exactly("sessions of others closed", remains.closed_of(others.clone()), 0);
    outcome.show("sessions on such lines closed", remains.closed_of(others.end..others.end + FAR));
    outcome.show("attempts to come back that failed", format!("{:?}", remains.failures()));
    outcome.show("ticks announced as lost", outcome.counts.announced);
    Ok(())
}

/// R12d. The feed comes late, and comes.
pub async fn to_kafka(run: &Run, outcome: &mut Outcome) -> Result<()> {
    let Some((world, namespace)) = apart(run, outcome, &small_bounds()).await? else { return Ok(()) };
    let before = world.gateway.resident_bytes();
    namespace.lose(LOST, Between::Port(port(&world)?))?;
    sleep(run.pick(Duration::from_secs(30), Duration::from_secs(10))).await;
    outcome.at_least("packets lost", namespace.heal()?, 1);
    let healed_ns = now_ns();
    memory_is_bounded(&world, outcome, before);
    ends_well(world, outcome, healed_ns).await.map(drop)
}

/// R2b. Neither side is told anything: every packet between gateway and Kafka is lost for a while.
pub async fn none_to_kafka(run: &Run, outcome: &mut Outcome) -> Result<()> {
    let Some((world, namespace)) = apart(run, outcome, &[""; 0]).await? else { return Ok(()) };
    let dead = Instant::now();
    namespace.lose(100, Between::Port(port(&world)?))?;
    everybody_is_told(&world, outcome, dead).await?;
    sleep(run.pick(Duration::from_secs(30), Duration::from_secs(10)).saturating_sub(dead.elapsed())).await;
    outcome.at_least("packets lost", namespace.heal()?, 1);
    ends_well(world, outcome, now_ns()).await.map(drop)
}

/// R11b. Clients whose host is gone without a word: their sessions end when nothing has been acknowledged for
/// `outbox.stall_timeout_ms`, and what they held is free again.
pub async fn half_open(run: &Run, outcome: &mut Outcome) -> Result<()> {
    let settings = ["outbox.stall_timeout_ms=5000"];
    let Some((world, namespace)) = apart(run, outcome, &settings).await? else { return Ok(()) };
    let (everybody, others) = (0..world.clients.len(), 0..world.clients.len() - FAR);
    let files = world.gateway.open_files();
    namespace.lose(100, Between::Far)?;
    let gone = Instant::now();
    let sessions =
        async || world.gateway.metrics().await.map_or(0, |m| m.count("tickgate_sessions_open", ""));
    until_async("sessions of those who are gone end", async || sessions().await == others.end as u64).await?;
    outcome.show("their sessions ended after", format!("{:.2} s", gone.elapsed().as_secs_f64()));
    outcome.at_most("open files then", world.gateway.open_files(), files - FAR as u64);
    world.flowing(now_ns(), others.clone()).await?;
    outcome.at_least("packets lost", namespace.heal()?, 1);
    // They wait for ever on a line that nobody is on: somebody unplugs it.
    let url = world.gateway.url();
    let healed_ns = now_ns();
    world.tell(others.end..everybody.end, || Order::Return(url.clone(), Return::Cursor)).await;
    outcome.flowing_s = Some(world.flowing(healed_ns, everybody).await?);
    sleep(Duration::from_secs(1)).await;
    let remains = world.finish(outcome).await?;
    outcome.exactly("sessions of others closed", remains.closed_of(others), 0);
    outcome.exactly("ticks announced as lost", outcome.counts.announced, 0);
    Ok(())
}
