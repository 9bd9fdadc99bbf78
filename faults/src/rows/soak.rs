//! What must not grow, however long it runs and however many come and go.

use crate::client::{Client, Order, Return};
use crate::gateway::{Options, SOON};
use crate::report::Outcome;
use crate::world::{Run, Setup, World, until, until_async};
use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tickgate_checker::tally::Tally;
use tokio::time::sleep;

/// Sessions that come and go in a round, each of them twice.
const VISITORS: usize = 100;
/// Rounds in the short form.
const ROUNDS: usize = 30;
/// Bytes by which the most resident memory of the last third of the rounds may be above that of both thirds before: of each
/// session a KiB. What an allocator keeps for a while goes up and down by more than that.
const GROWTH_MAX: u64 = 2 << 20;
/// How long the gateway has to be as it was before, once nobody comes any more.
const SETTLES: Duration = Duration::from_secs(5);
/// Gauges that go with the feed and with the clock, not with sessions.
const MOVING: [&str; 12] = [
    "process_resident_memory_bytes",
    "tickgate_allocator_committed_",
    "tickgate_feed_event_timestamp_seconds",
    "tickgate_feed_lag_",
    "tickgate_feed_peak_ticks_per_second",
    "tickgate_latency_negative_max_seconds",
    "tickgate_latency_quantile_seconds",
    "tickgate_latency_window_seconds",
    "tickgate_partition_high_watermark_offset",
    "tickgate_partition_lag_",
    "tickgate_partition_next_offset",
    "tickgate_partition_record_timestamp_seconds",
];

/// What must be as it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    files: u64,
    threads: u64,
    gauges: BTreeMap<String, f64>,
}

impl Held {
    /// A gauge over all its labels.
    pub fn sum(&self, name: &str) -> f64 {
        let is_it = |full: &str| full.split('{').next() == Some(name);
        self.gauges.iter().filter(|(full, _)| is_it(full)).map(|(_, value)| value).sum()
    }

    /// Holds it against what was before.
    pub fn is_as(&self, before: &Self, outcome: &mut Outcome) {
        outcome.exactly("open files", self.files, before.files);
        outcome.exactly("threads", self.threads, before.threads);
        outcome.at_least("gauges looked at", before.gauges.len() as u64, 20);
        let moved = |(name, was): &(&String, &f64)| {
            let is = self.gauges.get(*name).copied().unwrap_or(f64::NAN);
            (is != **was).then(|| format!("{name} was {was} and is {is}"))
        };
        let moved: Vec<String> = before.gauges.iter().filter_map(|gauge| moved(&gauge)).collect();
        outcome.gate("gauges that are not where they were", format!("{moved:?}"), "[]", moved.is_empty());
    }
}

/// R21a. Under load, sessions subscribe, get events, are cut, resume, unsubscribe and leave, round after round. Files,
/// threads and every gauge of the gateway end where they were, and memory stays.
pub async fn come_and_go(run: &Run, outcome: &mut Outcome) -> Result<()> {
    // What is remembered for those who come back has its size at once; cursors come soon.
    let settings = vec!["replay.memory_bytes_max=1MiB".to_owned(), "session.heartbeat_ms=100".to_owned()];
    let options = Options { settings, ..Options::default() };
    let world = World::start(run, Setup { clients: 20, options, ..Setup::default() }).await?;
    let rounds = run.pick(10, 1) * ROUNDS;
    let mut tally = Tally::default();
    // Whatever is made for the first who comes is there.
    visit(&world, &mut tally).await?;
    let wanted = [
        ("tickgate_sessions_open", world.clients.len()),
        ("tickgate_subscriptions_held", 2 * world.clients.len() * world.setup.symbols_per_client),
        ("tickgate_feed_symbols_known", world.setup.symbols),
    ];
    let is_there = |held: &Held| wanted.iter().all(|(name, count)| held.sum(name) == *count as f64);
    let before = settled(&world, is_there).await?;
    ensure!(is_there(&before), "it does not say what it holds: {:?}", before.gauges);
    let mut resident = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        visit(&world, &mut tally).await?;
        resident.push(world.gateway.resident_bytes());
    }
    let after = settled(&world, |held| *held == before).await?;
    let sessions = world.gateway.metrics().await?.count("tickgate_sessions_opened_total", "");
    outcome.at_least("sessions that came", sessions, (2 * rounds * VISITORS) as u64);
    after.is_as(&before, outcome);
    let thirds: Vec<&[u64]> = resident.chunks(rounds.div_ceil(3)).collect();
    let most: Vec<u64> = thirds.iter().map(|third| third.iter().copied().max().unwrap_or(0)).collect();
    let kib: Vec<u64> = most.iter().map(|bytes| bytes >> 10).collect();
    outcome.show("most resident KiB in each third of the rounds", format!("{kib:?}"));
    let growth = most[2].saturating_sub(most[0].max(most[1]));
    outcome.at_most("most resident bytes, more in the last third", growth, GROWTH_MAX);
    outcome.exactly("faults against the protocol among them", tally.violations(), 0);
    outcome.failures.extend(tally.samples);
    let remains = world.finish(outcome).await?;
    outcome.exactly("sessions closed", remains.closed(), 0);
    Ok(())
}

/// A round of visitors, until the last of them is gone.
async fn visit(world: &World, tally: &mut Tally) -> Result<()> {
    let visitors: Vec<Client> = (0..VISITORS).map(|number| Client::start(world.spec(number))).collect();
    let all = |is: &dyn Fn(&Client) -> bool| visitors.iter().all(is);
    let have_come = |sessions| {
        move |client: &Client| {
            let seen = &client.seen;
            seen.is_subscribed.load(Relaxed) && seen.sessions.load(Relaxed) == sessions
        }
    };
    let events = || -> Vec<u64> { visitors.iter().map(|client| client.seen.events.load(Relaxed)).collect() };
    let have_more = |than: &[u64]| events().iter().zip(than).all(|(now, then)| now > then);
    let has_cursor = |client: &Client| client.seen.heartbeats.load(Relaxed) > 0;
    until("every visitor has come", || all(&have_come(1))).await?;
    until("every visitor gets ticks and a cursor", || all(&has_cursor) && have_more(&vec![0; VISITORS]))
        .await?;
    for visitor in &visitors {
        visitor.tell(Order::Cut).await;
        visitor.tell(Order::Return(world.gateway.url(), Return::Cursor)).await;
    }
    let then = events();
    until("every visitor is back", || all(&have_come(2))).await?;
    until("every visitor gets ticks again", || have_more(&then)).await?;
    for visitor in &visitors {
        visitor.tell(Order::Unsubscribe).await;
    }
    let gauge = async |name: &str| world.gateway.metrics().await.map_or(u64::MAX, |m| m.count(name, ""));
    let steady = world.clients.len() as u64;
    let subscriptions = 2 * steady * world.setup.symbols_per_client as u64;
    let is_unasked = async || gauge("tickgate_subscriptions_held").await == subscriptions;
    until_async("every visitor has unsubscribed", is_unasked).await?;
    for (number, visitor) in visitors.into_iter().enumerate() {
        // Some say goodbye, and some are just gone.
        if number % 2 == 0 {
            visitor.tell(Order::Cut).await;
        }
        tally.add(&visitor.finish().await?.tally);
    }
    until_async("every visitor is gone", async || gauge("tickgate_sessions_open").await == steady).await
}

/// What the gateway holds while nothing is written: once it `is` what is waited for, or as it stays.
pub async fn settled(world: &World, is: impl Fn(&Held) -> bool) -> Result<Held> {
    world.load()?.pause(true);
    until("the market rests", || world.load().is_ok_and(|load| load.is_resting())).await?;
    let started = Instant::now();
    let mut last = held(world).await?;
    loop {
        sleep(Duration::from_millis(200)).await;
        let now = held(world).await?;
        let is_still = now == last && now.sum("tickgate_outbox_queued_bytes") == 0.0;
        if is_still && (is(&now) || started.elapsed() > SETTLES) {
            world.load()?.pause(false);
            return Ok(now);
        }
        ensure!(started.elapsed() < SOON, "it does not come to rest");
        last = now;
    }
}

async fn held(world: &World) -> Result<Held> {
    let mut gauges = world.gateway.metrics().await?.gauges();
    gauges.retain(|name, _| !MOVING.iter().any(|moving| name.starts_with(moving)));
    Ok(Held { files: world.gateway.open_files(), threads: world.gateway.threads(), gauges })
}

/// R21b. Memory, descriptors and threads stay where they are.
pub async fn soak(run: &Run, outcome: &mut Outcome) -> Result<()> {
    // What is remembered for those who come back has to have its size before, or it is all that is seen to grow.
    let settings = vec!["replay.memory_bytes_max=8MiB".to_owned()];
    let options = Options { settings, ..Options::default() };
    let world = World::start(run, Setup { clients: 20, options, ..Setup::default() }).await?;
    // As tables and allocators have to.
    sleep(Duration::from_secs(60)).await;
    let files = world.gateway.open_files();
    let (before, threads) = (world.gateway.resident_bytes(), world.gateway.threads());
    let span = Duration::from_secs(600);
    sleep(span).await;
    let (after, files_after) = (world.gateway.resident_bytes(), world.gateway.open_files());
    let hours = span.as_secs_f64() / 3_600.0;
    let slope = (after as f64 - before as f64) / f64::from(1 << 20) / hours;
    outcome.show("resident memory", format!("{} to {} KiB, {slope:.1} MiB/h", before >> 10, after >> 10));
    outcome.at_most("resident bytes more", after.saturating_sub(before), 2 << 20);
    outcome.exactly("open files", files_after, files);
    outcome.exactly("threads", world.gateway.threads(), threads);
    let remains = world.finish(outcome).await?;
    outcome.exactly("sessions closed", remains.closed(), 0);
    Ok(())
}
