//! A session whose turn panics.

use crate::client::{Order, Return};
use crate::gateway::Options;
use crate::report::Outcome;
use crate::world::{Run, Setup, World, until, until_async};
use anyhow::Result;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tickgate_load::clock::now_ns;
use tokio::time::sleep;

/// Sessions that panic, one after the other.
const UNLUCKY: usize = 10;
/// What they ask for: to panic in the midst of what they ask, or of what is written to them.
const PLACES: [&str; 2] = [r#"{"op":"panic","at":"request"}"#, r#"{"op":"panic","at":"write"}"#];

/// R23. That session ends with 1011, is counted, and comes back for what it missed; nobody else notices.
pub async fn of_sessions(run: &Run, outcome: &mut Outcome) -> Result<()> {
    let options = Options { may_panic: true, ..Options::default() };
    let setup = Setup { options, returns: Some(Return::Cursor), panics: UNLUCKY as u64, ..Setup::default() };
    let world = World::start(run, setup).await?;
    let everybody = 0..world.clients.len();
    for number in 0..UNLUCKY {
        let seen = &world.clients[number].seen;
        world.tell([number], || Order::Say(PLACES[number % PLACES.len()])).await;
        let ends = until("its session ends", || seen.closes.load(Ordering::Relaxed) == 1).await;
        if ends.is_err() && world.gateway.panics() == 0 {
            outcome.not_run = Some("only a debug build panics on request".to_owned());
            return Ok(());
        }
        ends?;
        until("it has come back", || seen.sessions.load(Ordering::Relaxed) == 2).await?;
    }
    let last_ns = now_ns();
    outcome.flowing_s = Some(world.flowing(last_ns, everybody.clone()).await?);
    let metric = async |name: &str, label: &str| {
        world.gateway.metrics().await.map_or(0, |metrics| metrics.count(name, label))
    };
    let ended = async || metric("tickgate_sessions_closed_total", "\"panic\"").await;
    until_async("ten sessions are counted", async || ended().await >= UNLUCKY as u64).await?;
    outcome.exactly("panics counted", metric("tickgate_panics_total", "").await, UNLUCKY as u64);
    outcome.exactly("sessions counted as ended by one", ended().await, UNLUCKY as u64);
    let open = metric("tickgate_sessions_open", "").await;
    outcome.exactly("sessions open", open, world.clients.len() as u64);
    sleep(Duration::from_secs(1)).await;
    let remains = world.finish(outcome).await?;
    let closes = remains.closes();
    let wanted = BTreeMap::from([("1011".to_owned(), UNLUCKY as u64)]);
    outcome.gate("closes", format!("{closes:?}"), format!("{wanted:?}"), closes == wanted);
    outcome.exactly("sessions of others closed", remains.closed_of(UNLUCKY..everybody.end), 0);
    outcome.exactly("ticks announced as lost", outcome.counts.announced, 0);
    Ok(())
}
