//! Clients that were let in, and mean no good.

use crate::attack::{Attack, quantiles};
use crate::gateway::Options;
use crate::memory_group::MemoryGroup;
use crate::report::Outcome;
use crate::rows::memory;
use crate::world::{Run, Setup, World, until_async};
use anyhow::{Context, Result};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tickgate_load::target::Target;
use tickgate_load::transport::{Message, Reader, TransportOptions, Writer, open};
use tokio::time::{MissedTickBehavior, interval, sleep};

/// Those who mean well, on a thread of their own: what the attack costs here is not theirs.
const OTHERS: usize = 100;
/// What is remembered of the market.
const RING_BYTES: u64 = 1 << 20;

fn setup(mut options: Options) -> Setup {
    // Full in a moment: what it takes then is not the attack's.
    options.settings.push(format!("replay.memory_bytes_max={RING_BYTES}"));
    Setup { clients: OTHERS, apart: OTHERS, options, ..Setup::default() }
}

/// A session with nothing in it yet.
async fn session(world: &World, options: &TransportOptions) -> Result<(Reader, Writer)> {
    let target = Target::parse(&world.gateway.url())?;
    open(&target, world.gateway.listen, options).await.context("a session for somebody who means no good")
}

/// R29, T17. A hundred thousand pings a second from one who comes back whenever it is sent away.
pub async fn pings(run: &Run, outcome: &mut Outcome) -> Result<()> {
    const SPAN: Duration = Duration::from_secs(10);
    const TOGETHER: usize = 1_000;
    const ALLOWED: u64 = 20;
    const MEMORY_BYTES_MAX: u64 = 8 << 20;
    let world = World::start(run, setup(Options::default())).await?;
    let attack = Attack::begin(&world).await?;
    let (mut sent, mut pongs_max, mut codes, mut lasted) = (0, 0, Vec::new(), Vec::new());
    let began = Instant::now();
    let mut ticks = interval(Duration::from_millis(10));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while began.elapsed() < SPAN {
        let (mut reader, mut writer) = session(&world, &TransportOptions::default()).await?;
        let start = Instant::now();
        let flood = async {
            loop {
                ticks.tick().await;
                (0..TOGETHER).for_each(|_| writer.ping(b"tick".to_vec()));
                sent += TOGETHER;
                if writer.flush().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let listen = async {
            let mut pongs = 0;
            loop {
                match reader.message().await {
                    Ok(Message::Other) => pongs += 1,
                    Ok(Message::Close { code, .. }) => break (pongs, code),
                    Ok(_) => {}
                    Err(_) => break (pongs, None),
                }
            }
        };
        let (pongs, code) = tokio::select! {
            () = flood => (0, None),
            ended = listen => ended,
        };
        pongs_max = pongs_max.max(pongs);
        codes.push(code);
        lasted.push(start.elapsed());
    }
    let flooded = codes.len() as u64;
    until_async("every flood is counted", async || {
        let metrics = world.gateway.metrics().await;
        metrics.is_ok_and(|m| m.count("tickgate_sessions_closed_total", "reason=\"pings\"") == flooded)
    })
    .await?;
    outcome.show("pings sent in a second", format!("{:.0}", sent as f64 / began.elapsed().as_secs_f64()));
    outcome.at_least("sessions that flooded and were closed for it", flooded, 1);
    // What was still being sent to a closed socket may take the close frame away.
    outcome.show("told so", codes.iter().filter(|code| **code == Some(1008)).count());
    outcome.show("they lasted, p50 and p99", quantiles(&mut lasted));
    outcome.at_most("pongs for one of them", pongs_max, ALLOWED);
    let more = world.gateway.peak_bytes().saturating_sub(attack.resident);
    outcome.at_most("memory for it at its peak, bytes", more, MEMORY_BYTES_MAX);
    attack.end(world, 0..OTHERS, outcome).await
}

/// R30, T18. A thousand clients subscribe to symbols that do not exist and give them back, ten requests a second each.
pub async fn churn(run: &Run, outcome: &mut Outcome) -> Result<()> {
    const CLIENTS: usize = 1_000;
    const MEMORY_BYTES_MAX: u64 = 5 << 20;
    let world = World::start(run, setup(Options::default())).await?;
    let mut sessions = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        sessions.push(session(&world, &TransportOptions::default()).await?);
    }
    let attack = Attack::begin(&world).await?;
    let (before, mut resident) = (Tables::of(&world).await?, attack.resident);
    // What a session needs to be busy shows in the first half, what symbols leave behind in the second as well.
    for (half, name) in
        ["resident bytes more, first half", "resident bytes more, second half"].into_iter().enumerate()
    {
        sessions = churn_with(sessions, half, outcome).await?;
        let total = before.requests + ((half + 1) * CLIENTS * REQUESTS) as u64;
        let wanted = Tables { requests: total, ..before };
        until_async("tables are as they were", async || {
            Tables::of(&world).await.is_ok_and(|now| now == wanted)
        })
        .await?;
        let now = world.gateway.resident_bytes();
        let more = now.saturating_sub(std::mem::replace(&mut resident, now));
        if half == 0 { outcome.show(name, more) } else { outcome.at_most(name, more, MEMORY_BYTES_MAX) }
    }
    outcome.show("requests read", 2 * CLIENTS * REQUESTS);
    let Tables { symbols, subscriptions, .. } = before;
    outcome.show(
        "symbols known, subscriptions held, before and behind it",
        format!("{symbols}, {subscriptions}"),
    );
    let peak = world.gateway.peak_bytes().saturating_sub(attack.resident);
    outcome.show("at its peak, bytes more", peak);
    drop(sessions);
    attack.end(world, 0..OTHERS, outcome).await
}

/// Requests of a client in half of the churn, and symbols in each: a million in all.
const REQUESTS: usize = 50;
const TOGETHER: usize = 20;

/// What invented symbols could fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tables {
    symbols: u64,
    subscriptions: u64,
    requests: u64,
}

impl Tables {
    async fn of(world: &World) -> Result<Self> {
        let metrics = world.gateway.metrics().await?;
        let count = |name| metrics.count(name, "");
        Ok(Self {
            symbols: count("tickgate_feed_symbols_known"),
            subscriptions: count("tickgate_subscriptions_held"),
            requests: count("tickgate_requests_read_total"),
        })
    }
}

/// Has all of them ask, and gives them back.
async fn churn_with(
    sessions: Vec<(Reader, Writer)>,
    half: usize,
    outcome: &mut Outcome,
) -> Result<Vec<(Reader, Writer)>> {
    const EVERY: Duration = Duration::from_millis(100);
    let (count, answers) = (sessions.len(), Arc::new(AtomicU64::new(0)));
    let mut all = Vec::with_capacity(count);
    for (client, (mut reader, mut writer)) in sessions.into_iter().enumerate() {
        let answers = answers.clone();
        all.push(tokio::spawn(async move {
            let ask = async {
                let mut ticks = interval(EVERY);
                // So that they do not all ask at once.
                ticks.reset_after(EVERY.mul_f64(client as f64 / count as f64));
                for number in 0..REQUESTS {
                    ticks.tick().await;
                    let name = |at| format!("NONE-{half}-{client}-{}-{at}", number / 2);
                    let names: Vec<String> = (0..TOGETHER).map(name).collect();
                    let op = if number % 2 == 0 { "subscribe" } else { "unsubscribe" };
                    let wish = json!({"channel": "trades", "symbols": names});
                    writer.text(&json!({"op": op, "id": number, "subscriptions": [wish]}).to_string());
                    writer.flush().await?;
                }
                anyhow::Ok(())
            };
            let hear = async {
                let mut heard = 0;
                while heard < REQUESTS {
                    match reader.message().await {
                        Ok(Message::Text(text)) => heard += usize::from(is_answer(text.as_str())),
                        Ok(Message::Close { .. }) | Err(_) => break,
                        Ok(_) => {}
                    }
                }
                answers.fetch_add(heard as u64, Ordering::Relaxed);
            };
            let (asked, ()) = tokio::join!(ask, hear);
            asked.map(|()| (reader, writer))
        }));
    }
    let mut sessions = Vec::with_capacity(count);
    for one in all {
        sessions.push(one.await??);
    }
    outcome.exactly("requests answered", answers.load(Ordering::Relaxed), (count * REQUESTS) as u64);
    Ok(sessions)
}

fn is_answer(text: &str) -> bool {
    text.contains(r#""op":"ack""#) || text.contains(r#""op":"error""#)
}

/// R31, T21. Five thousand clients that never read, half of them trades and half quotes, in 512 MiB: together they reach what
/// all slow sessions may hold, and nobody else notices.
pub async fn never_read(run: &Run, outcome: &mut Outcome) -> Result<()> {
    const STUCK: usize = 5_000;
    const SPAN: Duration = Duration::from_secs(60);
    let group = match MemoryGroup::new(memory::GROUP_BYTES) {
        Ok(group) => Some(Arc::new(group)),
        Err(why) => {
            outcome.show("the gateway's memory was not limited", why);
            None
        }
    };
    let mut settings = memory::settings();
    settings.extend([
        format!("limits.sessions_max={}", STUCK + 2 * OTHERS),
        "limits.subscriptions_total_max=200000".to_owned(),
    ]);
    let options = Options { settings, memory: group.clone(), ..Options::default() };
    let world = World::start(run, setup(options)).await?;
    let ceiling = world.gateway.metrics().await?.count("tickgate_limit_memory_bytes", "");
    outcome.at_most("memory ceiling that it printed, bytes", ceiling, memory::GROUP_BYTES);
    let attack = Attack::begin(&world).await?;
    let small = TransportOptions { recv_buffer_bytes: Some(4096), ..TransportOptions::default() };
    let mut stuck = Vec::with_capacity(STUCK);
    for number in 0..STUCK {
        let (reader, mut writer) = session(&world, &small).await?;
        let channel = if number % 2 == 0 { "trades" } else { "quotes" };
        let names: Vec<String> = (0..10).map(|at| crate::load::symbol((number + at) % 200)).collect();
        let wish = json!({"channel": channel, "symbols": names});
        writer.text(&json!({"op": "subscribe", "id": 1, "subscriptions": [wish]}).to_string());
        writer.flush().await?;
        stuck.push((reader, writer));
    }
    let (began, mut held_bytes_max) = (Instant::now(), 0);
    while began.elapsed() < SPAN {
        sleep(Duration::from_millis(500)).await;
        let metrics = world.gateway.metrics().await?;
        held_bytes_max = held_bytes_max.max(metrics.count("tickgate_outbox_held_bytes", ""));
    }
    let metrics = world.gateway.metrics().await?;
    outcome.at_most("most bytes that slow sessions held", held_bytes_max, memory::SLOW_BYTES_MAX);
    let chosen = metrics.count("tickgate_sessions_pressure_closed_total", "");
    outcome.at_least("told to go for want of memory", chosen, 1);
    outcome.show("sessions still open, the others' among them", metrics.count("tickgate_sessions_open", ""));
    outcome.at_most("most resident memory, bytes", world.gateway.peak_bytes(), ceiling);
    if let Some(group) = &group {
        if let Ok(peak) = group.peak() {
            outcome.show("the group's memory at its peak, bytes", peak);
        }
        outcome.exactly("processes killed for want of memory", group.killed()?, 0);
    }
    drop(stuck);
    until_async("nothing is held back any more", async || {
        let metrics = world.gateway.metrics().await;
        metrics.is_ok_and(|metrics| metrics.count("tickgate_outbox_held_bytes", "") < 64 << 10)
    })
    .await?;
    attack.end(world, 0..OTHERS, outcome).await
}
