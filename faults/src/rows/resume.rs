//! Clients that come back, to this gateway or to another, with a cursor or with the position of each of their streams.

use crate::client::{Order, Return};
use crate::gateway::{Gateway, Options};
use crate::report::Outcome;
use crate::world::{Remains, Run, Setup, World, until, until_async};
use anyhow::Result;
use rustix::process::Signal;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tickgate_load::clock::now_ns;
use tokio::time::sleep;

/// Half of the clients come back with a cursor, half with positions.
fn how(number: usize) -> Return {
    if number.is_multiple_of(2) { Return::Cursor } else { Return::Seq }
}

/// Cuts these clients off, without a word to the gateway.
async fn cut(world: &World, clients: std::ops::Range<usize>) -> Result<()> {
    world.tell(clients.clone(), || Order::Cut).await;
    let all = &world.clients[clients];
    until("they are gone", || all.iter().all(|c| !c.seen.is_subscribed.load(Ordering::Relaxed))).await
}

/// Lets these clients come back, each in its way, and waits until they are subscribed.
async fn come_back(world: &World, clients: std::ops::Range<usize>, how: fn(usize) -> Return) -> Result<()> {
    let mut sessions = Vec::new();
    for number in clients.clone() {
        let client = &world.clients[number];
        sessions.push(client.seen.sessions.load(Ordering::Relaxed));
        client.tell(Order::Return(world.gateway.url(), how(number))).await;
    }
    let all = world.clients[clients].iter().zip(sessions);
    let are_back =
        || all.clone().all(|(client, before)| client.seen.sessions.load(Ordering::Relaxed) > before);
    until("they are back", are_back).await
}

/// How long those who came back at once took for it.
fn returns(remains: &Remains, outcome: &mut Outcome) {
    let mut all: Vec<Duration> = remains.lives.iter().flat_map(|life| life.returns.iter().copied()).collect();
    all.sort_unstable();
    let at = |quantile: f64| all.get((all.len() as f64 * quantile) as usize).map_or(0, Duration::as_millis);
    let text = format!("{} of p50 {} ms, p99 {} ms", all.len(), at(0.5), at(0.99));
    outcome.show("returns, from the loss of a session to the next event", text);
    came_back(remains, outcome);
}

fn came_back(remains: &Remains, outcome: &mut Outcome) {
    let lost = remains.lives.iter().filter(|life| life.is_lost).count();
    outcome.exactly("clients that never came back", lost as u64, 0);
    outcome.show("events that came again, discarded by the client's rule", outcome.counts.discarded);
}

/// R16. One gateway after the other is killed; its clients go on where they were, on one that has just started.
pub async fn killed(run: &Run, outcome: &mut Outcome) -> Result<()> {
    let kills = run.pick(20, 5);
    // So many take turns with few symbols, or this process could not check all that they hear.
    let (clients, symbols_per_client, rate_per_s) = run.pick((1_000, 2, 1_000), (50, 10, 2_000));
    let setup = Setup { clients, symbols_per_client, rate_per_s, ..Setup::default() };
    let mut world = World::start(run, setup).await?;
    let everybody = 0..world.clients.len();
    let mut panics = 0;
    for _ in 0..kills {
        let (brokers, options) = (world.brokers.clone(), Options::default());
        let next = Gateway::start(&run.program, &brokers, &world.topic, &options).await?;
        next.ready().await?;
        sleep(Duration::from_millis(500)).await;
        world.gateway.signal(Signal::KILL)?;
        let mut killed = std::mem::replace(&mut world.gateway, next);
        killed.ended().await?;
        panics += killed.panics();
        come_back(&world, everybody.clone(), how).await?;
        outcome.flowing_s = Some(world.flowing(now_ns(), everybody.clone()).await?);
    }
    let clients = everybody.len() as u64;
    outcome.exactly("panics of those that were killed", panics, 0);
    let remains = world.finish(outcome).await?;
    outcome.exactly("sessions", outcome.counts.sessions, clients * (kills + 1));
    outcome.exactly("ticks announced as lost", outcome.counts.announced, 0);
    returns(&remains, outcome);
    Ok(())
}

/// R17. Everybody comes back in the same moment with a cursor, beside some who never left.
pub async fn storm(run: &Run, outcome: &mut Outcome) -> Result<()> {
    const STAYING: usize = 100;
    let setup = Setup {
        clients: STAYING + run.pick(10_000, 2_000),
        apart: STAYING,
        symbols_per_client: 1,
        rate_per_s: 500,
        options: Options {
            // Heartbeats of so many are a load of their own; their cursors are a second old at most.
            settings: ["limits.sessions_max=12000", "session.heartbeat_ms=1000"].map(str::to_owned).into(),
            ..Options::default()
        },
        ..Setup::default()
    };
    let world = World::start(run, setup).await?;
    let (staying, leaving) = (0..STAYING, STAYING..world.clients.len());
    sleep(Duration::from_secs(2)).await;
    let before_ns = now_ns();
    sleep(Duration::from_secs(1)).await;
    let steady = world.gateway.resident_bytes();
    world.gateway.forget_peak()?;
    let (storm_ns, cpu) = (now_ns(), world.gateway.cpu());
    come_back(&world, leaving.clone(), |_| Return::Cursor).await?;
    let (back_ns, cpu) = (now_ns(), world.gateway.cpu() - cpu);
    outcome.show("all were back after", format!("{:.2} s", (back_ns - storm_ns) as f64 / 1e9));
    outcome.show("processor time of the gateway until then", format!("{:.2} s", cpu.as_secs_f64()));
    outcome.flowing_s = Some(world.flowing(storm_ns, leaving.clone()).await?);
    outcome.at_most("most resident bytes", world.gateway.peak_bytes(), steady + steady / 2);
    sleep(Duration::from_secs(1)).await;
    let remains = world.finish(outcome).await?;
    let staying_p99 = |from, to| remains.latency_ms(staying.clone(), (from, to), 0.99);
    let (without, with) = (staying_p99(before_ns, storm_ns), staying_p99(storm_ns, back_ns));
    outcome
        .show("p99 of those who stayed, before and in the storm", format!("{without:.1} ms, {with:.1} ms"));
    // A gateway that is late itself may say so.
    outcome.show("ticks announced as lost", outcome.counts.announced);
    outcome.exactly("sessions closed", remains.closed(), 0);
    returns(&remains, outcome);
    Ok(())
}

/// A world for those who are away while something happens to the topic.
fn away() -> Setup {
    Setup { clients: 50, ..Setup::default() }
}

/// R4b. Symbols that moved meanwhile: a cursor names all partitions and loses nothing; a position names one, and its
/// owner is told.
pub async fn moved_meanwhile(run: &Run, outcome: &mut Outcome) -> Result<()> {
    let world = World::start(run, away()).await?;
    let everybody = 0..world.clients.len();
    sleep(Duration::from_secs(1)).await;
    cut(&world, everybody.clone()).await?;
    let (before, after) = (world.setup.partitions, 2 * world.setup.partitions);
    world.kafka.add_partitions(&world.topic, after as usize).await?;
    world.load()?.partitions(after);
    let found = async || {
        let metrics = world.gateway.metrics().await;
        metrics.map_or(0, |metrics| metrics.count("tickgate_feed_partitions_added_total", ""))
    };
    until_async("the new partitions are found", async || found().await == u64::from(after - before)).await?;
    sleep(Duration::from_secs(1)).await;
    let back_ns = now_ns();
    come_back(&world, everybody.clone(), how).await?;
    outcome.flowing_s = Some(world.flowing(back_ns, everybody).await?);
    sleep(Duration::from_secs(1)).await;
    let with_cursor = world.clients.len().div_ceil(2);
    let remains = world.finish(outcome).await?;
    let lost_with = |way: Return| -> u64 {
        let of = remains.judgements.iter().enumerate().filter(|(number, _)| how(*number) == way);
        of.map(|(_, judgement)| judgement.counts.announced).sum()
    };
    outcome.show("clients with a cursor", with_cursor);
    outcome.exactly("ticks announced as lost to clients with a cursor", lost_with(Return::Cursor), 0);
    outcome.show("ticks announced as lost to clients with positions", lost_with(Return::Seq));
    came_back(&remains, outcome);
    Ok(())
}

/// R5b. Positions of a topic that is another one now: an error, a gap, the present state, and never other data.
pub async fn made_anew_meanwhile(run: &Run, outcome: &mut Outcome) -> Result<()> {
    let mut world = World::start(run, away()).await?;
    let everybody = 0..world.clients.len();
    sleep(Duration::from_secs(1)).await;
    cut(&world, everybody.clone()).await?;
    sleep(Duration::from_millis(500)).await;
    world.stop_load().await?;
    world.kafka.delete_topic(&world.topic).await?;
    world.kafka.create_topic(&world.topic, world.setup.partitions as i32, &[]).await?;
    world.topic_is_new()?;
    world.write()?;
    let found = async || {
        let metrics = world.gateway.metrics().await;
        metrics.map_or(0, |metrics| metrics.count("tickgate_feed_topics_recreated_total", ""))
    };
    until_async("the new topic is found", async || found().await == 1).await?;
    // Longer than the old one: a position of that would be a good one here.
    sleep(Duration::from_secs(3)).await;
    let back_ns = now_ns();
    come_back(&world, everybody.clone(), how).await?;
    outcome.flowing_s = Some(world.flowing(back_ns, everybody.clone()).await?);
    sleep(Duration::from_secs(1)).await;
    let remains = world.finish(outcome).await?;
    let aged: u64 = remains.lives.iter().filter_map(|life| life.tally.errors.get("replay_aged_out")).sum();
    outcome.at_least("answers `replay_aged_out`", aged, everybody.len() as u64);
    outcome.at_least("ticks announced as lost", outcome.counts.announced, 1);
    came_back(&remains, outcome);
    Ok(())
}

/// R6b. Retention takes what was missed: what is gone is announced to the offset, the rest comes.
pub async fn retention_meanwhile(run: &Run, outcome: &mut Outcome) -> Result<()> {
    // Nothing is remembered, so that Kafka has to be asked.
    let settings = vec!["replay.memory_bytes_max=0".to_owned()];
    let options = Options { settings, ..Options::default() };
    let mut world = World::start(run, Setup { options, ..away() }).await?;
    let everybody = 0..world.clients.len();
    sleep(Duration::from_secs(1)).await;
    cut(&world, everybody.clone()).await?;
    sleep(Duration::from_secs(1)).await;
    world.take_away_all().await?;
    world.load()?.pause(false);
    sleep(Duration::from_secs(1)).await;
    let back_ns = now_ns();
    come_back(&world, everybody.clone(), how).await?;
    outcome.flowing_s = Some(world.flowing(back_ns, everybody).await?);
    sleep(Duration::from_secs(1)).await;
    let remains = world.finish(outcome).await?;
    outcome.at_least("ticks announced as lost", outcome.counts.announced, 1);
    outcome.at_least("ticks replayed", remains.lives.iter().map(|life| life.tally.replayed).sum(), 1);
    came_back(&remains, outcome);
    Ok(())
}

/// R12b. Lines that are cut again and again; everybody comes back with a cursor, and nothing is missing in the end.
pub async fn cut_again_and_again(run: &Run, outcome: &mut Outcome) -> Result<()> {
    let setup = Setup { clients: 50, returns: Some(Return::Cursor), ..Setup::default() };
    let (world, relay) = super::clients::relayed(run, setup, 0, None).await?;
    for _ in 0..run.pick(30, 6) {
        sleep(Duration::from_millis(700)).await;
        for link in 0..relay.links() {
            relay.link(link, |mode| mode.is_cut = true);
        }
    }
    let over_ns = now_ns();
    world.subscribed(0..world.clients.len()).await?;
    outcome.flowing_s = Some(world.flowing(over_ns, 0..world.clients.len()).await?);
    sleep(Duration::from_millis(500)).await;
    let remains = world.finish(outcome).await?;
    outcome.exactly("ticks announced as lost", outcome.counts.announced, 0);
    outcome.show("sessions", outcome.counts.sessions);
    outcome.show(
        "ends of sessions, and attempts that failed",
        format!("{:?}, {:?}", remains.closes(), remains.failures()),
    );
    returns(&remains, outcome);
    Ok(())
}
