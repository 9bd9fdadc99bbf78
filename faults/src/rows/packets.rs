//! Packets that are lost between two hosts.

use super::broker::{ends_well, everybody_is_told};
use super::soak::{self, Held};
use crate::client::{Client, Order, Return};
use crate::gateway::Options;
use crate::load::symbol;
use crate::namespace::{Between, Namespace};
use crate::report::Outcome;
use crate::world::{Run, Setup, World, until_async};
use anyhow::{Context, Result};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tickgate_load::clock::now_ns;
use tickgate_load::target::Target;
use tickgate_load::transport::{TransportOptions, open};
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

/// A world whose gateway is on a host of its own; the last `far` clients connect from the far address. None when this
/// machine has no way to have one.
async fn apart(
    run: &Run,
    outcome: &mut Outcome,
    settings: &[impl ToString],
    far: usize,
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
        if number >= clients - far {
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
    let Some((world, namespace)) = apart(run, outcome, &small_bounds(), FAR).await? else { return Ok(()) };
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
    let Some((world, namespace)) = apart(run, outcome, &small_bounds(), FAR).await? else { return Ok(()) };
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
    let Some((world, namespace)) = apart(run, outcome, &[""; 0], FAR).await? else { return Ok(()) };
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
    let Some((world, namespace)) = apart(run, outcome, &settings, FAR).await? else { return Ok(()) };
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

/// R34, T14. A thousand clients whose host is gone at once, with the gateway's own times: half of them get ticks, half only
/// what keeps a session alive. All that they had is free again.
pub async fn thousand_half_open(run: &Run, outcome: &mut Outcome) -> Result<()> {
    const GONE: usize = 1_000;
    /// More than the minute that anybody may be silent.
    const PATIENCE: Duration = Duration::from_secs(120);
    // They come from one address, and no clients are so many from one.
    let settings = ["session.heartbeat_ms=5000", "limits.addresses_exempt=198.18.0.0/15"];
    let Some((world, namespace)) = apart(run, outcome, &settings, 0).await? else {
        return Ok(());
    };
    let others = world.clients.len();
    let open_is = |count: usize| move |held: &Held| held.sum("tickgate_sessions_open") == count as f64;
    let before = soak::settled(&world, open_is(others)).await?;
    let target = Target::parse(&world.gateway.url())?;
    let options = TransportOptions { local: Some(namespace.far().into()), ..TransportOptions::default() };
    let mut gone = Vec::with_capacity(GONE);
    for number in 0..GONE {
        let (reader, mut writer) = open(&target, world.gateway.listen, &options).await?;
        if number % 2 == 0 {
            let wish = json!({"channel": "quotes", "symbols": [symbol(number % world.setup.symbols)]});
            writer.text(&json!({"op": "subscribe", "id": 1, "subscriptions": [wish]}).to_string());
            writer.flush().await?;
        }
        gone.push((reader, writer));
    }
    let sessions =
        async || world.gateway.metrics().await.map_or(u64::MAX, |m| m.count("tickgate_sessions_open", ""));
    until_async("all of them are there", async || sessions().await == (others + GONE) as u64).await?;
    outcome.show("sessions, the others' among them", others + GONE);
    outcome.show("open files with them", world.gateway.open_files());
    namespace.lose(100, Between::Far)?;
    let began = Instant::now();
    let mut half = None;
    loop {
        let left = sessions().await;
        if left <= (others + GONE / 2) as u64 {
            half.get_or_insert_with(|| began.elapsed());
        }
        if left == others as u64 || began.elapsed() > PATIENCE {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    let seconds = |took: Duration| format!("{:.2} s", took.as_secs_f64());
    outcome.show("half of them had ended after", half.map_or("never".to_owned(), seconds));
    outcome.show("all of them had ended after", seconds(began.elapsed()));
    let metrics = world.gateway.metrics().await?;
    let reasons = ["silent", "stalled", "slow_consumer", "io", "client"];
    let counts = reasons.map(|reason| {
        let count = metrics.count("tickgate_sessions_closed_total", &format!("reason=\"{reason}\""));
        format!("{reason} {count}")
    });
    outcome.show("as", counts.join(", "));
    let after = soak::settled(&world, |held| *held == before).await?;
    outcome.exactly("sessions then open", sessions().await, others as u64);
    after.is_as(&before, outcome);
    outcome.at_least("packets lost", namespace.heal()?, 1);
    drop(gone);
    outcome.flowing_s = Some(world.flowing(now_ns(), 0..others).await?);
    let remains = world.finish(outcome).await?;
    outcome.exactly("sessions of others closed", remains.closed(), 0);
    outcome.exactly("ticks announced as lost", outcome.counts.announced, 0);
    Ok(())
}
