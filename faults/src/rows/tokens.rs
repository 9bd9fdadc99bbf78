//! Tokens that end, and that are not to count any more.

use crate::attack::{Attack, quantiles};
use crate::client::{Client, Order};
use crate::gateway::{Options, SOON};
use crate::issuer::{Issuer, now_s, token_id};
use crate::load::symbol;
use crate::report::Outcome;
use crate::world::{Run, Setup, World, until_async};
use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tickgate_load::clock::now_ns;
use tickgate_load::target::Target;
use tickgate_load::transport::{ConnectError, Message, Reader, TransportOptions, Writer, open};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// Those whose tokens outlive the row, on a thread of their own: what the attack costs here is not theirs.
const OTHERS: usize = 100;
/// Sessions that are opened at the same time.
const AT_ONCE: usize = 16;

fn setup(issuer: &Arc<Issuer>, settings: &[&str]) -> Setup {
    let settings = settings.iter().map(ToString::to_string).collect();
    let options = Options { settings, issuer: Some(issuer.clone()), ..Options::default() };
    Setup { clients: OTHERS, apart: OTHERS, options, ..Setup::default() }
}

async fn session(world: &World, token: Arc<str>) -> Result<(Reader, Writer), ConnectError> {
    let target = Target::parse(&world.gateway.url()).map_err(|_| ConnectError::NotWebSocket("its URL"))?;
    let options = TransportOptions { token: Some(token), ..TransportOptions::default() };
    open(&target, world.gateway.listen, &options).await
}

/// How a session of a short token went.
#[derive(Debug, Default)]
struct Short {
    events: u64,
    /// Events of records that were written when its token was over for longer than it may be overdrawn.
    late_events: u64,
    code: Option<u16>,
    /// From the end of its token to the close.
    overdrawn: Duration,
    is_early: bool,
    /// Messages behind the close frame.
    behind: u64,
}

/// R32, T5. A thousand tokens of five seconds, each with a session that gets ticks: it ends with its token. Sessions whose
/// tokens are as short, but are shown anew in time, go on without a gap.
pub async fn run_out(run: &Run, outcome: &mut Outcome) -> Result<()> {
    const SHORT: usize = 1_000;
    const REFRESHED: usize = 50;
    const REFRESHES: u64 = 6;
    const LIFE_S: u64 = 5;
    let issuer = Arc::new(Issuer::new()?);
    let mut world = World::start(run, setup(&issuer, &["auth.warn_s=2"])).await?;
    let attack = Attack::begin(&world).await?;
    let refreshed = OTHERS..OTHERS + REFRESHED;
    for number in refreshed.clone() {
        let mut spec = world.spec(number);
        spec.token = Some(issuer.token(&format!("client-{number}"), now_s() + LIFE_S));
        world.clients.push(Client::start(spec));
    }
    world.subscribed(refreshed.clone()).await?;
    let refresh = async {
        for round in 0..=REFRESHES {
            // The last one lasts.
            let life_s = if round == REFRESHES { 3_600 } else { LIFE_S };
            for number in refreshed.clone() {
                let token = issuer.token(&format!("client-{number}"), now_s() + life_s);
                world.clients[number].tell(Order::Show(token)).await;
            }
            sleep(Duration::from_secs(2)).await;
        }
    };
    let short = async {
        let mut all = Vec::with_capacity(SHORT);
        for number in 0..SHORT {
            let until_s = now_s() + LIFE_S;
            let (reader, mut writer) =
                session(&world, issuer.token(&format!("short-{number}"), until_s)).await?;
            let wish = json!({"channel": "trades", "symbols": [symbol(number % world.setup.symbols)]});
            writer.text(&json!({"op": "subscribe", "id": 1, "subscriptions": [wish]}).to_string());
            writer.flush().await?;
            all.push(tokio::spawn(lives_out(reader, writer, until_s)));
        }
        let mut ended = Vec::with_capacity(SHORT);
        for one in all {
            let short = timeout(SOON, one).await.context("a session outlives its token")?;
            ended.push(short?);
        }
        anyhow::Ok(ended)
    };
    let (ended, ()) = tokio::join!(short, refresh);
    let ended = ended?;
    let count = |is: &dyn Fn(&Short) -> bool| ended.iter().filter(|one| is(one)).count() as u64;
    outcome.exactly("sessions closed with 4498", count(&|one| one.code == Some(4498)), SHORT as u64);
    outcome.exactly("closed before their token's end", count(&|one| one.is_early), 0);
    outcome.show("closed more than 2 s after it", count(&|one| one.overdrawn > OVERDRAWN));
    let mut overdrawn: Vec<Duration> = ended.iter().map(|one| one.overdrawn).collect();
    outcome.show("closed after their token's end, p50 and p99", quantiles(&mut overdrawn));
    outcome.show("the last", format!("{:.2} s", overdrawn.last().copied().unwrap_or_default().as_secs_f64()));
    outcome.at_least("sessions that got ticks before", count(&|one| one.events > 0), SHORT as u64);
    let late = ended.iter().map(|one| one.late_events).sum();
    outcome.exactly("ticks written 2 s behind the end of a token that came", late, 0);
    outcome.exactly("messages behind a close frame", ended.iter().map(|one| one.behind).sum(), 0);
    let metrics = world.gateway.metrics().await?;
    let counted = metrics.count("tickgate_sessions_closed_total", "reason=\"token_expired\"");
    outcome.exactly("counted as ended with their token", counted, SHORT as u64);
    outcome.show("tokens believed", metrics.count("tickgate_auth_accepted_total", ""));
    attack.end(world, 0..refreshed.end, outcome).await?;
    outcome.exactly("ticks announced as lost", outcome.counts.announced, 0);
    Ok(())
}

/// By how much a token may be overdrawn.
const OVERDRAWN: Duration = Duration::from_secs(2);

async fn lives_out(mut reader: Reader, mut writer: Writer, until_s: u64) -> Short {
    let mut short = Short::default();
    let until_ns = until_s as i64 * 1_000_000_000;
    let over_ns = until_ns + OVERDRAWN.as_nanos() as i64;
    while let Ok(message) = reader.message().await {
        match message {
            Message::Text(_) if short.code.is_some() => short.behind += 1,
            Message::Text(text) => {
                let Ok(Value::Array(events)) = serde_json::from_str(text.as_str()) else { continue };
                let sent = |event: &Value| event["send_ns"].as_str()?.parse::<i64>().ok();
                short.events += events.len() as u64;
                short.late_events +=
                    events.iter().filter_map(sent).filter(|sent_ns| *sent_ns > over_ns).count() as u64;
            }
            Message::Ping(payload) => {
                writer.pong(payload);
                // The reader notices when it is gone.
                let _ = writer.flush().await;
            }
            Message::Close { code, .. } => {
                let late_ns = now_ns() - until_ns;
                short.code = code.or(Some(0));
                short.is_early = late_ns < 0;
                short.overdrawn = Duration::from_nanos(u64::try_from(late_ns).unwrap_or(0));
            }
            Message::Binary | Message::Other => {}
        }
    }
    short
}

/// R33, T6. Of ten thousand sessions a hundred are shut out by the file, half by the name of their token and half by their
/// own: they are told and closed, they do not get in again, and nobody else is concerned.
pub async fn revoked(run: &Run, outcome: &mut Outcome) -> Result<()> {
    const SESSIONS: usize = 10_000;
    const REVOKED: usize = 100;
    const EVERY: usize = SESSIONS / REVOKED;
    let issuer = Arc::new(Issuer::new()?);
    let most = format!("limits.sessions_max={}", SESSIONS + 2 * OTHERS);
    let settings = [most.as_str(), "limits.connections_per_s=100000", "session.heartbeat_ms=5000"];
    let world = World::start(run, setup(&issuer, &settings)).await?;
    let subject = |number: usize| format!("one-of-many-{number}");
    let token = |number: usize| issuer.token(&subject(number), now_s() + 3_600);
    let (told, mut closes) = mpsc::channel(SESSIONS);
    let all: Vec<_> = futures_util::stream::iter(0..SESSIONS)
        .map(|number| {
            let (opening, told) = (session(&world, token(number)), told.clone());
            async move {
                let (reader, writer) = opening.await.with_context(|| format!("session {number}"))?;
                anyhow::Ok(tokio::spawn(async move {
                    let code = lives_on(reader, writer).await;
                    // There is room for all; nobody listens any more when the row is over.
                    let _ = told.try_send((number, code, Instant::now()));
                }))
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    ensure!(all.len() == SESSIONS, "not all of them are there");
    let attack = Attack::begin(&world).await?;
    let is_revoked = |number: usize| number.is_multiple_of(EVERY);
    let entries: Vec<String> = (0..SESSIONS)
        .filter(|number| is_revoked(*number))
        .map(|number| match number / EVERY % 2 {
            0 => format!("sub:{}", subject(number)),
            _ => format!("jti:{}", token_id(&subject(number))),
        })
        .collect();
    let began = Instant::now();
    issuer.revoke(&entries)?;
    let (mut took, mut told_so, mut others_closed) = (Vec::with_capacity(REVOKED), 0, 0);
    while took.len() < REVOKED {
        let (number, code, at) = timeout(SOON, closes.recv())
            .await
            .with_context(|| format!("only {} of those revoked are closed", took.len()))?
            .context("every session has ended")?;
        if is_revoked(number) {
            took.push(at - began);
            told_so += u64::from(code == Some(4401));
        } else {
            others_closed += 1;
        }
    }
    outcome.exactly("sessions revoked, told and closed with 4401", told_so, REVOKED as u64);
    outcome.show("they were closed after, p50 and p99", quantiles(&mut took));
    outcome.show("the last", format!("{:.2} s", took.last().copied().unwrap_or_default().as_secs_f64()));
    let (mut refused, mut let_in) = (0, 0);
    for number in (0..SESSIONS).filter(|number| is_revoked(*number)) {
        match session(&world, token(number)).await {
            Ok(_) => let_in += 1,
            Err(ConnectError::Refused { status: 401, .. }) => refused += 1,
            Err(error) => return Err(error).context("somebody who was revoked comes back"),
        }
    }
    outcome.exactly("let in again", let_in, 0);
    outcome.exactly("refused with 401 when they came back", refused, REVOKED as u64);
    // A newcomer with a token that nobody revoked.
    let is_in = session(&world, issuer.long(OTHERS)).await.is_ok();
    outcome.gate("one who was not revoked is let in", is_in, true, is_in);
    let left = (SESSIONS - REVOKED + OTHERS) as u64;
    until_async("the others stay", async || {
        let metrics = world.gateway.metrics().await;
        metrics.is_ok_and(|metrics| metrics.count("tickgate_sessions_open", "") == left)
    })
    .await?;
    let metrics = world.gateway.metrics().await?;
    let counted = metrics.count("tickgate_sessions_closed_total", "reason=\"revoked\"");
    outcome.exactly("counted as ended because revoked", counted, REVOKED as u64);
    while closes.try_recv().is_ok() {
        others_closed += 1;
    }
    outcome.exactly("sessions closed that nobody revoked", others_closed, 0);
    outcome.show("sessions then open", left);
    all.iter().for_each(tokio::task::JoinHandle::abort);
    attack.end(world, 0..OTHERS, outcome).await
}

/// Answers pings until it is closed; the code that it was told.
async fn lives_on(mut reader: Reader, mut writer: Writer) -> Option<u16> {
    loop {
        match reader.message().await {
            Ok(Message::Ping(payload)) => {
                writer.pong(payload);
                // The reader notices when it is gone.
                let _ = writer.flush().await;
            }
            Ok(Message::Close { code, .. }) => return code,
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}
