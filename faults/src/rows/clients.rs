//! Clients that do not read, and lines that do not carry.

use crate::client::{Client, Order, Return, Wish};
use crate::relay::Relay;
use crate::report::Outcome;
use crate::world::{Run, Setup, World, until_async};
use anyhow::Result;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::time::{Duration, Instant};
use tickgate_load::clock::now_ns;
use tickgate_protocol::Channel;
use tokio::time::sleep;

/// R18. A client that never reads is ended when its queue is five seconds old; nobody else notices.
pub async fn stuck(run: &Run, outcome: &mut Outcome) -> Result<()> {
    const STUCK: usize = 2;
    let mut world = World::start(run, Setup::default()).await?;
    let healthy = 0..world.clients.len();
    let span = run.pick(Duration::from_secs(10), Duration::from_secs(4));
    let before_ns = now_ns();
    sleep(span).await;
    let stuck = healthy.end..healthy.end + STUCK;
    for number in stuck.clone() {
        let mut spec = world.spec(number);
        // Everything there is, through a small window: its queue fills soon.
        let everything = |channel| Wish { channel, symbols: vec!["*".to_owned()], on_slow: None };
        spec.wishes = [Channel::Trades, Channel::Quotes].map(everything).into();
        spec.recv_buffer_bytes = Some(4096);
        world.clients.push(Client::start(spec));
    }
    world.subscribed(stuck.clone()).await?;
    world.tell(stuck.clone(), || Order::Stall).await;
    let (stalled, stalled_ns) = (Instant::now(), now_ns());
    // Their sessions stay until they learn why: the log tells when they were given up.
    let given_up = || world.gateway.log_tail().matches("slow client disconnected").count();
    let mut held_bytes_max = 0;
    until_async("the stuck clients are given up", async || {
        let metrics = world.gateway.metrics().await;
        held_bytes_max = held_bytes_max.max(metrics.map_or(0, |m| m.count("tickgate_outbox_held_bytes", "")));
        given_up() >= STUCK
    })
    .await?;
    outcome
        .show("the stuck clients were given up after", format!("{:.2} s", stalled.elapsed().as_secs_f64()));
    outcome.at_most("bytes that they held", held_bytes_max, STUCK as u64 * (2 << 20));
    sleep(span.saturating_sub(stalled.elapsed())).await;
    let after_ns = now_ns();
    // They read on, and find out.
    world.tell(stuck.clone(), || Order::Go).await;
    let remains = world.finish(outcome).await?;
    outcome.exactly("stuck clients ended", remains.closed_of(stuck), STUCK as u64);
    outcome.exactly("other sessions closed", remains.closed_of(healthy.clone()), 0);
    let p99 = |from, to| remains.latency_ms(healthy.clone(), (from, to), 0.99);
    let (without, with) = (p99(before_ns, stalled_ns), p99(stalled_ns, after_ns));
    outcome
        .show("p99 of the others without and with stuck clients", format!("{without:.1} ms, {with:.1} ms"));
    Ok(())
}

/// A world in which some clients, from `from` on, connect through a relay.
pub async fn relayed(
    run: &Run,
    mut setup: Setup,
    from: usize,
    on_slow: Option<&'static str>,
) -> Result<(World, Relay)> {
    let clients = std::mem::replace(&mut setup.clients, 0);
    let mut world = World::empty(run, setup).await?;
    world.setup.clients = clients;
    let relay = Relay::start(world.gateway.listen).await?;
    for number in 0..clients {
        let mut spec = world.spec(number);
        if number >= from {
            spec.url = format!("ws://{}/v1/stream", relay.address());
            spec.recv_buffer_bytes = Some(16 << 10);
            let mut wishes = spec.wishes.to_vec();
            wishes
                .iter_mut()
                .filter(|wish| wish.channel == Channel::Trades)
                .for_each(|w| w.on_slow = on_slow);
            spec.wishes = wishes.into();
        }
        world.clients.push(Client::start(spec));
    }
    world.subscribed(0..clients).await?;
    world.write()?;
    world.flowing(now_ns(), 0..clients).await?;
    Ok((world, relay))
}

/// R11a. Dead lines concern nobody else; whoever is on one goes on when it heals, or is ended and comes back.
pub async fn dead_links(run: &Run, outcome: &mut Outcome) -> Result<()> {
    const DEAD: usize = 10;
    let setup = Setup { returns: Some(Return::Cursor), ..Setup::default() };
    let from = setup.clients - DEAD;
    let (world, relay) = relayed(run, setup, from, None).await?;
    sleep(Duration::from_secs(1)).await;
    relay.all(|mode| mode.is_held = true);
    let dead = Instant::now();
    // Longer than a queue may be old, so that the dead are given up meanwhile.
    let span = run.pick(Duration::from_secs(30), Duration::from_secs(9));
    sleep(span / 2).await;
    let half_ns = now_ns();
    world.flowing(half_ns, 0..from).await?;
    sleep(span.saturating_sub(dead.elapsed())).await;
    let healed_ns = now_ns();
    relay.all(|mode| mode.is_held = false);
    outcome.flowing_s = Some(world.flowing(healed_ns, 0..world.clients.len()).await?);
    sleep(Duration::from_secs(1)).await;
    world.subscribed(0..world.clients.len()).await?;
    let remains = world.finish(outcome).await?;
    outcome.exactly("sessions of others closed", remains.closed_of(0..from), 0);
    outcome.show("sessions on dead links closed", remains.closed_of(from..from + DEAD));
    // What comes behind the cursor of a session that was given up is all that it missed.
    outcome.exactly("ticks announced as lost", outcome.counts.announced, 0);
    Ok(())
}

/// R12a. A client on a slow line gets the newest quotes, and of trades as much as fits, the rest announced.
pub async fn slow_lines(run: &Run, outcome: &mut Outcome) -> Result<()> {
    const SLOW: usize = 10;
    let setup = Setup::default();
    let from = setup.clients - SLOW;
    let (world, relay) = relayed(run, setup, from, Some("skip")).await?;
    // A tenth of what these clients ask for, far away.
    relay.all(|mode| (mode.delay, mode.bytes_per_s) = (Duration::from_millis(100), Some(6_000)));
    sleep(run.pick(Duration::from_secs(30), Duration::from_secs(10))).await;
    relay.all(|mode| mode.bytes_per_s = None);
    let healed_ns = now_ns();
    outcome.flowing_s = Some(world.flowing(healed_ns, 0..world.clients.len()).await?);
    let remains = world.finish(outcome).await?;
    outcome.at_least(
        "ticks conflated or announced as lost",
        outcome.counts.conflated + outcome.counts.announced,
        1,
    );
    outcome.exactly("sessions closed", remains.closed(), 0);
    Ok(())
}

/// R13. Every link is stopped, one after the other, and released in an order of its own.
pub async fn swizzle_clog(run: &Run, outcome: &mut Outcome) -> Result<()> {
    let setup = Setup { returns: Some(Return::Cursor), ..Setup::default() };
    let (world, relay) = relayed(run, setup, 0, None).await?;
    sleep(Duration::from_secs(1)).await;
    let before = world.gateway.resident_bytes();
    let mut rng = ChaCha8Rng::seed_from_u64(run.seed);
    let mut order: Vec<usize> = (0..relay.links()).collect();
    let pause = run.pick(Duration::from_millis(60), Duration::from_millis(20));
    for is_held in [true, false] {
        order.shuffle(&mut rng);
        for link in &order {
            relay.link(*link, |mode| mode.is_held = is_held);
            sleep(pause).await;
        }
    }
    let released_ns = now_ns();
    outcome.flowing_s = Some(world.flowing(released_ns, 0..world.clients.len()).await?);
    let name = "tickgate_outbox_held_bytes";
    until_async("nothing is held back any more", async || {
        world.gateway.metrics().await.is_ok_and(|metrics| metrics.count(name, "") < 64 << 10)
    })
    .await?;
    let after = world.gateway.resident_bytes();
    outcome.show("resident memory before and after", format!("{} and {} KiB", before >> 10, after >> 10));
    let remains = world.finish(outcome).await?;
    outcome.show("sessions closed", remains.closed());
    Ok(())
}
