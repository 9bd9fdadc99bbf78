//! Strangers who mean no good, before they have a session.

use crate::attack::{Attack, Slow, hello, honest, quantiles, slow};
use crate::certificate::Certificate;
use crate::gateway::Options;
use crate::report::Outcome;
use crate::world::{Run, Setup, World};
use anyhow::Result;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Those who are there, on a thread of their own: what the attack costs here is not theirs.
const OTHERS: usize = 100;
const HONEST: usize = 50;

fn setup(options: Options) -> Setup {
    Setup { clients: OTHERS, apart: OTHERS, options, ..Setup::default() }
}

/// R26. Sockets that send their handshake a byte a second: those who are there do not notice, newcomers get in, and all of
/// the slow ones are gone when their time is over.
pub async fn slow_handshakes(run: &Run, outcome: &mut Outcome) -> Result<()> {
    const SLOW: usize = 10_000;
    const MEMORY_BYTES_MAX: u64 = 100 << 20;
    let settings = vec!["limits.sessions_max=1000".to_owned()];
    let world = World::start(run, setup(Options { settings, ..Options::default() })).await?;
    let kinds = [Slow::Bytes(b"GET /v1/stream HTTP/1.1\r\nx: ".to_vec())];
    crawl(world, SLOW, &kinds, MEMORY_BYTES_MAX, outcome).await
}

/// R27, T9. The same within TLS, half of them in its first message. All of them are let stay at once, so it is their time
/// that ends them and not the next one.
pub async fn slow_in_tls(run: &Run, outcome: &mut Outcome) -> Result<()> {
    const SLOW: usize = 5_000;
    const EACH_BYTES_MAX: u64 = 16 << 10;
    let certificate = Arc::new(Certificate::new()?);
    let kinds = [Slow::Bytes(hello(&certificate.trust).await?), Slow::Within(certificate.trust.clone())];
    let settings = vec![format!("limits.handshakes_max={}", SLOW + HONEST)];
    let options = Options { settings, certificate: Some(certificate), ..Options::default() };
    let world = World::start(run, setup(options)).await?;
    crawl(world, SLOW, &kinds, SLOW as u64 * EACH_BYTES_MAX, outcome).await
}

async fn crawl(
    world: World,
    count: usize,
    kinds: &[Slow],
    memory_bytes_max: u64,
    outcome: &mut Outcome,
) -> Result<()> {
    let attack = Attack::begin(&world).await?;
    let (mut of_slow, mut of_honest) = (Outcome::new("", ""), Outcome::new("", ""));
    let (slow, honest) = tokio::join!(
        slow(world.gateway.listen, count, kinds, &mut of_slow),
        honest(&world, HONEST, &mut of_honest)
    );
    slow.and(honest)?;
    outcome.add(of_slow);
    outcome.add(of_honest);
    let took = world.gateway.peak_bytes().saturating_sub(attack.resident);
    outcome.at_most("memory for them at its peak, bytes", took, memory_bytes_max);
    outcome.show("of that, for each", took / count as u64);
    attack.end(world, 0..OTHERS, outcome).await
}

/// R28, T13. Hands are stretched out and drawn back when the gateway has done its arithmetic: the whole of a key exchange for
/// it, one message for the other side.
pub async fn tls_flood(run: &Run, outcome: &mut Outcome) -> Result<()> {
    const PER_S: u32 = 2_000;
    const SECONDS: u32 = 10;
    const MEMORY_BYTES_MAX: u64 = 100 << 20;
    let certificate = Arc::new(Certificate::new()?);
    let hello = Arc::new(hello(&certificate.trust).await?);
    let options = Options { certificate: Some(certificate), ..Options::default() };
    let world = World::start(run, setup(options)).await?;
    let attack = Attack::begin(&world).await?;
    let (address, cpu, began) = (world.gateway.listen, world.gateway.cpu(), Instant::now());
    let flood = async {
        let mut all = Vec::new();
        let mut ticks = interval(Duration::from_millis(10));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for _ in 0..SECONDS * 100 {
            ticks.tick().await;
            for _ in 0..PER_S / 100 {
                let hello = hello.clone();
                all.push(tokio::spawn(async move {
                    let start = Instant::now();
                    let exchange = async {
                        let mut socket = TcpStream::connect(address).await?;
                        socket.write_all(&hello).await?;
                        socket.read_u8().await
                    };
                    timeout(Duration::from_secs(10), exchange)
                        .await
                        .is_ok_and(|came| came.is_ok())
                        .then(|| start.elapsed())
                }));
            }
        }
        let mut answered = Vec::new();
        for one in all {
            answered.extend(one.await.ok().flatten());
        }
        (answered, began.elapsed())
    };
    let mut of_honest = Outcome::new("", "");
    let ((mut answered, took), honest) = tokio::join!(flood, honest(&world, HONEST, &mut of_honest));
    honest?;
    let per_s = |count: usize| format!("{:.0}", count as f64 / took.as_secs_f64());
    outcome.show("handshakes begun in a second", per_s((PER_S * SECONDS) as usize));
    outcome.at_least("handshakes answered", answered.len() as u64, u64::from(PER_S * SECONDS / 10));
    outcome.show("answered in a second", per_s(answered.len()));
    outcome.show("the answer took, p50 and p99", quantiles(&mut answered));
    let used = (world.gateway.cpu() - cpu).as_secs_f64() / took.as_secs_f64();
    outcome.show("share of a processor meanwhile", format!("{:.0} %", 100.0 * used));
    outcome.add(of_honest);
    let more = world.gateway.peak_bytes().saturating_sub(attack.resident);
    outcome.at_most("memory for it at its peak, bytes", more, MEMORY_BYTES_MAX);
    attack.end(world, 0..OTHERS, outcome).await
}
