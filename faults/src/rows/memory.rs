//! Memory that has an end.

use crate::client::{Client, Order, Wish};
use crate::gateway::Options;
use crate::memory_group::MemoryGroup;
use crate::report::Outcome;
use crate::world::{Run, Setup, World, until_async};
use anyhow::Result;
use std::sync::Arc;
use std::time::Duration;
use tickgate_load::clock::now_ns;
use tickgate_protocol::Channel;
use tokio::time::sleep;

/// What the gateway may take.
pub const GROUP_BYTES: u64 = 512 << 20;
/// What all slow sessions together may hold: less than those here would, each for itself.
pub const SLOW_BYTES_MAX: u64 = 16 << 20;
/// What is remembered for replays, filled soon.
const REPLAY_BYTES_MAX: u64 = 8 << 20;
/// What waits in each of two inboxes and, twice, in librdkafka's queue.
const WAITING_BYTES_MAX: u64 = 8 << 20;
/// Clients that never read, and want everything: trades of which none may be left out, as many again only quotes.
const STUCK: usize = 40;

/// Bounds of a gateway for some hundred clients.
pub fn settings() -> Vec<String> {
    let kib = |bytes: u64| bytes >> 10;
    vec![
        format!("outbox.total_bytes_max={SLOW_BYTES_MAX}"),
        format!("replay.memory_bytes_max={REPLAY_BYTES_MAX}"),
        format!("session.inbox_bytes_max={WAITING_BYTES_MAX}"),
        format!("kafka.properties.queued.max.messages.kbytes={}", kib(WAITING_BYTES_MAX)),
        format!("kafka.properties.fetch.max.bytes={WAITING_BYTES_MAX}"),
        "kafka.record_bytes_max=64KiB".to_owned(),
        "kafka.symbols_max=1000".to_owned(),
        "kafka.book_levels_max=1000".to_owned(),
        "kafka.book_levels_total_max=10000".to_owned(),
        "limits.sessions_max=500".to_owned(),
        "limits.streams_max=5000".to_owned(),
        "limits.subscriptions_total_max=20000".to_owned(),
        "limits.reading_bytes_total_max=16MiB".to_owned(),
    ]
}

/// R19. Ten times what the gateway is usually given, with as many who never read: those are ended or get the newest state,
/// everybody else gets everything, and what it took for all that is free again.
pub async fn overload(run: &Run, outcome: &mut Outcome) -> Result<()> {
    let memory = match MemoryGroup::new(GROUP_BYTES) {
        Ok(group) => Some(Arc::new(group)),
        Err(why) => {
            outcome.show("the gateway's memory was not limited", why);
            None
        }
    };
    let ended = overload_in(run, outcome, memory.clone()).await;
    if let Some(group) = &memory {
        // Whoever finds that the gateway is gone does not know why.
        if let Ok(peak) = group.peak() {
            outcome.show("the group's memory at its peak, bytes", peak);
        }
        outcome.show("the group's limit was met, times", group.met()?);
        outcome.exactly("processes killed for want of memory", group.killed()?, 0);
    }
    ended
}

async fn overload_in(run: &Run, outcome: &mut Outcome, memory: Option<Arc<MemoryGroup>>) -> Result<()> {
    let options = Options { settings: settings(), memory, ..Options::default() };
    let mut world = World::start(run, Setup { clients: 50, options, ..Setup::default() }).await?;
    let ceiling = world.gateway.metrics().await?.count("tickgate_limit_memory_bytes", "");
    outcome.at_most("memory ceiling that it printed, bytes", ceiling, GROUP_BYTES);
    let healthy = 0..world.clients.len();
    sleep(Duration::from_secs(2)).await;
    let before = world.gateway.resident_bytes();
    world.gateway.forget_peak()?;
    outcome.show("resident memory before, bytes", before);
    // Twice: the allocator keeps pages for the next who are slow, and what is kept otherwise shows when these come.
    for seconds in [run.pick(60, 6), run.pick(15, 3)] {
        burst(&mut world, outcome, seconds).await?;
        outcome.show("resident memory when nothing is held back any more", world.gateway.resident_bytes());
    }
    let stuck = healthy.end..world.clients.len();
    // What is kept for somebody, and what waits for shards and a feed that are behind.
    let more = SLOW_BYTES_MAX + REPLAY_BYTES_MAX + 3 * WAITING_BYTES_MAX;
    outcome.at_most("most resident memory, bytes", world.gateway.peak_bytes(), before + more);
    sleep(Duration::from_secs(run.pick(5, 2))).await;
    let calm_ns = now_ns();
    sleep(Duration::from_secs(run.pick(2, 1))).await;
    let end_ns = now_ns();
    let metrics = world.gateway.metrics().await?;
    // All of them together did reach the bound.
    let pressed = metrics.count("tickgate_sessions_pressure_closed_total", "");
    outcome.at_least("sessions ended because of that bound", pressed, 1);
    let remains = world.finish(outcome).await?;
    let p99 = |from, to| remains.latency_ms(healthy.clone(), (from, to), 0.99);
    outcome.show("p99 when it is over", format!("{:.1} ms", p99(calm_ns, end_ns)));
    let ended = |number: usize| remains.closed_of(number..number + 1) > 0;
    let conflated = |number: usize| remains.judgements[number].counts.conflated > 0;
    let (was_ended, was_conflated) = (
        stuck.clone().filter(|number| ended(*number)).count(),
        stuck.clone().filter(|number| !ended(*number) && conflated(*number)).count(),
    );
    outcome.show("stuck clients ended, conflated", format!("{was_ended}, {was_conflated}"));
    outcome.exactly(
        "stuck clients ended or conflated",
        (was_ended + was_conflated) as u64,
        stuck.len() as u64,
    );
    outcome.exactly("other sessions closed", remains.closed_of(healthy.clone()), 0);
    let lost: u64 = remains.judgements[healthy].iter().map(|j| j.counts.conflated + j.counts.announced).sum();
    outcome.exactly("ticks that others did not get", lost, 0);
    Ok(())
}

/// Ten times the load for so long, beside new clients that never read; they do when it is over, or find out that they were
/// ended, and nothing is held for them any more.
async fn burst(world: &mut World, outcome: &mut Outcome, seconds: u64) -> Result<()> {
    let healthy = 0..world.setup.clients;
    let stuck = world.clients.len()..world.clients.len() + STUCK;
    for number in stuck.clone() {
        let mut spec = world.spec(number);
        let everything = |channel| Wish { channel, symbols: vec!["*".to_owned()], on_slow: None };
        let channels: &[Channel] =
            if number % 2 == 0 { &[Channel::Trades, Channel::Quotes] } else { &[Channel::Quotes] };
        spec.wishes = channels.iter().copied().map(everything).collect();
        spec.recv_buffer_bytes = Some(4096);
        world.clients.push(Client::start(spec));
    }
    world.subscribed(stuck.clone()).await?;
    let held = async || world.gateway.metrics().await.map(|m| m.count("tickgate_outbox_held_bytes", ""));
    world.tell(stuck.clone(), || Order::Stall).await;
    let load = world.load()?;
    load.rate(10 * world.setup.rate_per_s);
    let mut held_bytes_max = 0;
    for _ in 0..4 * seconds {
        sleep(Duration::from_millis(250)).await;
        held_bytes_max = held_bytes_max.max(held().await?);
    }
    load.rate(world.setup.rate_per_s);
    let over_ns = now_ns();
    let flowing_s = world.flowing(over_ns, healthy).await?;
    outcome.flowing_s = Some(outcome.flowing_s.unwrap_or(0.0).max(flowing_s));
    outcome.at_most("most bytes that slow sessions held", held_bytes_max, SLOW_BYTES_MAX);
    world.tell(stuck, || Order::Go).await;
    until_async("nothing is held back any more", async || held().await.is_ok_and(|bytes| bytes < 64 << 10))
        .await
}
