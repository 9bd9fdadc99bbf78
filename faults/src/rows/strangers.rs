//! Strangers who mean no good.

use crate::gateway::Options;
use crate::report::Outcome;
use crate::world::{Run, Setup, World};
use anyhow::Result;
use std::time::{Duration, Instant};
use tickgate_load::clock::now_ns;
use tickgate_load::target::Target;
use tickgate_load::transport::{TransportOptions, open};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, sleep};

/// R26. Sockets that send their handshake a byte a second: those who are there do not notice, newcomers get in, and all of
/// the slow ones are gone when their time is over.
pub async fn slow_handshakes(run: &Run, outcome: &mut Outcome) -> Result<()> {
    const SLOW: usize = 10_000;
    const HONEST: usize = 50;
    const MEMORY_BYTES_MAX: u64 = 100 << 20;
    const ALL_GONE_MS_MAX: u64 = 10_500;
    let settings = vec!["limits.sessions_max=1000".to_owned()];
    let options = Options { settings, ..Options::default() };
    let world = World::start(run, Setup { options, ..Setup::default() }).await?;
    let everybody = 0..world.clients.len();
    let quiet_ns = now_ns();
    sleep(Duration::from_secs(6)).await;
    world.gateway.forget_peak()?;
    let (resident, began_ns, began) = (world.gateway.resident_bytes(), now_ns(), Instant::now());

    let address = world.gateway.listen;
    let attack = tokio::spawn(async move {
        let mut slow = Vec::with_capacity(SLOW);
        for _ in 0..SLOW {
            slow.extend(TcpStream::connect(address).await.ok());
        }
        let (all, connected) = (slow.len(), began.elapsed());
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !slow.is_empty() && began.elapsed() < Duration::from_secs(60) {
            ticks.tick().await;
            // What is closed says so when it is read, or written to.
            slow.retain(|socket: &TcpStream| {
                let is_open = |error: std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
                socket.try_write(b"G").map_or_else(is_open, |_| true)
                    && socket.try_read(&mut [0; 64]).map_or_else(is_open, |bytes| bytes > 0)
            });
        }
        (all, connected, slow.len(), began.elapsed())
    });
    let target = Target::parse(&world.gateway.url())?;
    let mut took_ms = Vec::new();
    for _ in 0..HONEST {
        let start = Instant::now();
        if open(&target, address, &TransportOptions::default()).await.is_ok() {
            took_ms.push(start.elapsed().as_millis() as u64);
        }
        sleep(Duration::from_millis(100)).await;
    }
    took_ms.sort_unstable();
    let (all, connected, left, gone) = attack.await?;
    let (ended_ns, peak) = (now_ns(), world.gateway.peak_bytes());
    outcome.exactly("slow connections made", all as u64, SLOW as u64);
    outcome.show("they were connected after", format!("{:.2} s", connected.as_secs_f64()));
    outcome.exactly("slow connections left", left as u64, 0);
    let gone_ms = (gone - connected).as_millis() as u64;
    outcome.at_most("the last was gone after, in ms from the last connect", gone_ms, ALL_GONE_MS_MAX);
    outcome.at_most("memory for them in bytes", peak.saturating_sub(resident), MEMORY_BYTES_MAX);
    outcome.exactly("honest handshakes meanwhile", took_ms.len() as u64, HONEST as u64);
    let quantile = |percent: usize| took_ms.get(took_ms.len() * percent / 100).copied().unwrap_or(0);
    outcome.show("they took, p50 and p99", format!("{} ms, {} ms", quantile(50), quantile(99)));
    world.flowing(ended_ns, everybody.clone()).await?;
    let remains = world.finish(outcome).await?;
    outcome.exactly("sessions closed", remains.closed(), 0);
    let p99 = |from, to| remains.latency_ms(everybody.clone(), (from, to), 0.99);
    let (before, during) = (p99(quiet_ns, began_ns), p99(began_ns, ended_ns));
    outcome.show("p99 of the others before and meanwhile", format!("{before:.1} ms, {during:.1} ms"));
    Ok(())
}
