//! Messages that are made to hold memory.

use crate::attack::{Attack, quantiles};
use crate::gateway::Options;
use crate::raw::{Raw, message};
use crate::report::Outcome;
use crate::world::{Run, Setup, World, until_async};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tickgate_protocol::deflate::Deflater;
use tokio::io::AsyncWriteExt;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// Those who mean well, on a thread of their own: what the attack costs here is not theirs.
const OTHERS: usize = 100;
/// `limits.message_bytes_max`, as it is by default.
const MESSAGE_BYTES: usize = 256 << 10;
/// What is remembered of the market: full in a moment, so that what it takes then is not the attack's.
const RING_BYTES: u64 = 1 << 20;
/// The longest that an attacker is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

fn setup(setting: &str) -> Setup {
    let settings = vec![format!("replay.memory_bytes_max={RING_BYTES}"), setting.to_owned()];
    Setup {
        clients: OTHERS,
        apart: OTHERS,
        options: Options { settings, ..Options::default() },
        ..Setup::default()
    }
}

/// Close codes and how often they were told; none is an end without one.
fn codes(all: &[Option<u16>]) -> String {
    let mut codes = BTreeMap::<String, usize>::new();
    for code in all {
        *codes.entry(code.map_or("none".to_owned(), |code| code.to_string())).or_default() += 1;
    }
    format!("{codes:?}")
}

/// R35, T15. A thousand clients send a message but for its last hundredth, and wait: four times what may be half read.
/// Whoever is over that is ended at once, the others when their time is over, and all of it is free again.
pub async fn unfinished(run: &Run, outcome: &mut Outcome) -> Result<()> {
    const CLIENTS: usize = 1_000;
    /// What may be resident beside that: a quarter of it.
    const PAGES_BYTES: u64 = 16 << 20;
    let world = World::start(run, setup("limits.message_bytes_max=256KiB")).await?;
    let metrics = world.gateway.metrics().await?;
    let budget = metrics.count("tickgate_limit_reading_bytes", "");
    let before = metrics.count("tickgate_requests_reading_bytes", "");
    let mut sessions = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        sessions.push(Raw::open(world.gateway.listen, "", "").await?);
    }
    let attack = Attack::begin(&world).await?;
    let whole = message(&vec![b' '; MESSAGE_BYTES], false);
    let part: Arc<[u8]> = whole[..whole.len() - MESSAGE_BYTES / 100].into();
    let began = Instant::now();
    let all: Vec<_> = sessions
        .into_iter()
        .map(|Raw { mut reader, mut writer }| {
            let part = part.clone();
            tokio::spawn(async move {
                let send = async {
                    // It may be closed already, which the reader notices.
                    let _ = writer.write_all(&part).await;
                    std::future::pending::<()>().await;
                };
                let code = tokio::select! {
                    () = send => None,
                    code = timeout(PATIENCE, reader.closed()) => code.ok(),
                };
                (code, began.elapsed())
            })
        })
        .collect();
    let (mut most, mut freed) = (0, None);
    while began.elapsed() < PATIENCE {
        let metrics = world.gateway.metrics().await?;
        let held = metrics.count("tickgate_requests_reading_bytes", "");
        most = most.max(held);
        if held <= before && metrics.count("tickgate_sessions_open", "") == OTHERS as u64 {
            freed = Some(began.elapsed());
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    let (mut told, mut lasted) = (Vec::with_capacity(CLIENTS), Vec::with_capacity(CLIENTS));
    for one in all {
        let (code, took) = one.await?;
        told.extend(code);
        lasted.push(took);
    }
    let metrics = world.gateway.metrics().await?;
    let closed = |reason| metrics.count("tickgate_sessions_closed_total", &format!("reason=\"{reason}\""));
    let (unfinished, full) = (closed("unfinished"), closed("reading_full"));
    outcome.exactly("clients that heard the end of their session", told.len() as u64, CLIENTS as u64);
    outcome.exactly("sessions ended for what they held", unfinished + full, CLIENTS as u64);
    outcome.at_least("of these, as their message did not end", unfinished, 1);
    outcome.at_least("of these, as there was no room", full, 1);
    outcome.show("they were told", codes(&told));
    outcome.gate("all of it is free again", freed.is_some(), true, freed.is_some());
    outcome.show(
        "it was free after",
        freed.map_or("never".to_owned(), |took| format!("{:.2} s", took.as_secs_f64())),
    );
    outcome.show("they lasted, p50 and p99", quantiles(&mut lasted));
    outcome.at_most("most bytes half read", most, budget);
    outcome.at_least("of what may be, more than half was reached", most, budget / 2);
    let more = world.gateway.peak_bytes().saturating_sub(attack.resident);
    outcome.at_most("memory for them at its peak, bytes", more, budget + PAGES_BYTES);
    attack.end(world, 0..OTHERS, outcome).await
}

/// R36, T19. A hundred messages a second that expand to a thousand times what they are, the smallest to a byte more than is
/// allowed, the largest to as much as can be sent: each costs its sender the session, and the gateway no more memory than as
/// many messages of the largest size that is allowed.
pub async fn bombs(run: &Run, outcome: &mut Outcome) -> Result<()> {
    const LARGE_BYTES: usize = 200 << 20;
    /// What an allocator takes at once.
    const PAGES_BYTES: u64 = 4 << 20;
    let mut deflater = Deflater::new(9, 15);
    let mut deflated = |payload: &[u8]| -> Result<Vec<u8>> {
        Ok(message(deflater.deflate(payload).context("spaces become fewer")?, true))
    };
    let mut largest = br#"{"op":"ping","id":1}"#.to_vec();
    largest.resize(MESSAGE_BYTES, b' ');
    let allowed: [Arc<[u8]>; 2] =
        [deflated(&largest)?, message(&largest, false)].map(|whole| [&whole, GOODBYE].concat().into());
    let sizes = [MESSAGE_BYTES + 1, 1 << 20, LARGE_BYTES];
    let bombs = sizes.map(|bytes| deflated(&vec![b' '; bytes]));
    let bombs: Vec<Arc<[u8]>> = bombs.into_iter().map(|bomb| bomb.map(Into::into)).collect::<Result<_>>()?;
    let world = World::start(run, setup("session.compression=deflate")).await?;
    // The first look at them takes memory once.
    world.gateway.metrics().await?;
    sleep(Duration::from_secs(2)).await;
    world.gateway.forget_peak()?;
    let (told, _) = a_hundred_a_second(&world, &allowed).await?;
    let peak = world.gateway.peak_bytes();
    outcome.show("told to those who sent as much as is allowed", codes(&told));
    outcome.show("resident memory at its peak with these, bytes", peak);
    let attack = Attack::begin(&world).await?;
    let (cpu, began) = (world.gateway.cpu(), Instant::now());
    let (told, mut took) = a_hundred_a_second(&world, &bombs).await?;
    let (sent, lasted) = (told.len() as u64, began.elapsed());
    let used = (world.gateway.cpu() - cpu).as_secs_f64() / lasted.as_secs_f64();
    until_async("every bomb is counted", async || {
        let metrics = world.gateway.metrics().await;
        metrics.is_ok_and(|m| m.count("tickgate_sessions_closed_total", "reason=\"too_big\"") == sent)
    })
    .await?;
    let metrics = world.gateway.metrics().await?;
    outcome.show("bombs in a second", format!("{:.0}", sent as f64 / lasted.as_secs_f64()));
    let bytes: Vec<usize> = bombs.iter().map(|bomb| bomb.len()).collect();
    outcome.show("bytes of each kind of bomb, and what they expand to", format!("{bytes:?}, {sizes:?}"));
    let counted = metrics.count("tickgate_violations_total", "cause=\"too_big\"");
    outcome.exactly("bombs refused as too big", counted, BOMBS as u64);
    let of_1009 = told.iter().filter(|code| **code == Some(1009)).count();
    outcome.exactly("told 1009", of_1009 as u64, BOMBS as u64);
    outcome.show("from a bomb to the end of its session, p50 and p99", quantiles(&mut took));
    outcome.show("share of a processor meanwhile", format!("{:.0} %", 100.0 * used));
    outcome
        .show("memory for it at its peak, bytes", world.gateway.peak_bytes().saturating_sub(attack.resident));
    let most = peak + PAGES_BYTES;
    outcome.at_most("resident memory at its peak, bytes", world.gateway.peak_bytes(), most);
    attack.end(world, 0..OTHERS, outcome).await
}

const BOMBS: usize = 1_000;
/// A close frame of 1000, masked with zeros.
const GOODBYE: &[u8] = &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];

/// Sends these in turn, a hundred a second, each in a session of its own: what they were told, and how soon.
async fn a_hundred_a_second(
    world: &World,
    messages: &[Arc<[u8]>],
) -> Result<(Vec<Option<u16>>, Vec<Duration>)> {
    const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let (address, mut all) = (world.gateway.listen, Vec::with_capacity(BOMBS));
    let mut ticks = interval(Duration::from_millis(10));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for message in messages.iter().cycle().take(BOMBS) {
        ticks.tick().await;
        let message = message.clone();
        all.push(tokio::spawn(async move {
            let Raw { mut reader, mut writer } = Raw::open(address, OFFER, "permessage-deflate").await?;
            let start = Instant::now();
            let (_, code) = tokio::join!(writer.write_all(&message), timeout(PATIENCE, reader.closed()));
            anyhow::Ok((code.context("a session that does not end")?, start.elapsed()))
        }));
    }
    let (mut told, mut took) = (Vec::with_capacity(BOMBS), Vec::with_capacity(BOMBS));
    for one in all {
        let (code, time) = one.await??;
        told.push(code);
        took.push(time);
    }
    Ok((told, took))
}
