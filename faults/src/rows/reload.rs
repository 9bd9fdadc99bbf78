//! Another configuration under load.

use crate::client::{Order, Return};
use crate::gateway::Options;
use crate::report::Outcome;
use crate::world::{Run, Setup, World, until, until_async};
use anyhow::Result;
use rustix::process::Signal;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tickgate_load::clock::now_ns;
use tokio::time::sleep;

/// How often the file is read again.
const RELOADS: u64 = 100;
/// Clients that come back with the cursors that they got under all these secrets.
const RETURNING: usize = 20;

/// A configuration, changed each time that `round` is: another level of the log, and the next secret signs while the
/// last is still accepted.
fn right(round: u64) -> String {
    let secret = |round: u64| format!("the secret of round {round}");
    let level = if round.is_multiple_of(2) { "info" } else { "warn" };
    let (signs, also) = (secret(round + 1), secret(round));
    format!("log = '{level}'\n[replay]\ncursor_key = '{signs}'\ncursor_key_also = '{also}'\n")
}

/// R22. SIGHUP again and again: for what it was already, for what has changed, and for a file that is broken. Nobody
/// notices, and each is counted as what it was.
pub async fn reloads(run: &Run, outcome: &mut Outcome) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("gate.toml");
    std::fs::write(&file, right(0))?;
    // Every cursor has to come to everybody.
    let settings = vec!["session.heartbeat_ms=100".to_owned()];
    let options =
        Options { settings, config: Some(file.clone()), log_filter: Some(""), ..Options::default() };
    let world = World::start(run, Setup { options, ..Setup::default() }).await?;
    let everybody = 0..world.clients.len();
    let (mut round, mut ok, mut refused) = (0, 0, 0);
    for number in 0..RELOADS {
        let text = match number % 3 {
            0 => right(round),
            1 => {
                round += 1;
                right(round)
            }
            _ => right(round + 1).replace("log", "lgo"),
        };
        match number % 3 {
            2 => refused += 1,
            _ => ok += 1,
        }
        std::fs::write(&file, text)?;
        world.gateway.signal(Signal::HUP)?;
        let counted = async || counts(&world).await == Some((ok, refused));
        until_async("the configuration is read again", counted).await?;
        if number % 3 == 1 {
            // A secret is not replaced before everybody has a cursor of it.
            heartbeats(&world).await?;
        }
    }
    let last_ns = now_ns();
    outcome.flowing_s = Some(world.flowing(last_ns, everybody.clone()).await?);
    let (counted_ok, counted_refused) = counts(&world).await.unwrap_or_default();
    outcome.exactly("reloads counted as taken over", counted_ok, ok);
    outcome.exactly("reloads counted as refused", counted_refused, refused);
    outcome.exactly("secrets that signed one after the other", round + 1, RELOADS / 3 + 1);
    outcome.exactly(
        "keys that wait for a restart",
        world.gateway.metrics().await?.count("tickgate_config_keys_waiting", ""),
        0,
    );
    world.tell(0..RETURNING, || Order::Return(world.gateway.url(), Return::Cursor)).await;
    let are_back = || {
        let mut returning = world.clients[..RETURNING].iter();
        returning.all(|client| client.seen.sessions.load(Ordering::Relaxed) == 2)
    };
    until("some have resumed", are_back).await?;
    sleep(Duration::from_secs(1)).await;
    let remains = world.finish(outcome).await?;
    outcome.exactly("sessions closed", remains.closed(), 0);
    outcome.exactly("ticks announced as lost", outcome.counts.announced, 0);
    Ok(())
}

async fn counts(world: &World) -> Option<(u64, u64)> {
    let metrics = world.gateway.metrics().await.ok()?;
    let count = |result| metrics.count("tickgate_config_reloads_total", &format!("\"{result}\""));
    Some((count("ok"), count("refused")))
}

/// Waits until everybody has got a heartbeat that was sent after this.
async fn heartbeats(world: &World) -> Result<()> {
    let heard = || -> Vec<u64> {
        world.clients.iter().map(|client| client.seen.heartbeats.load(Ordering::Relaxed)).collect()
    };
    let before = heard();
    // The first may have been on its way.
    until("everybody gets heartbeats", || heard().iter().zip(&before).all(|(now, then)| *now > then + 1))
        .await
}
