//! What strangers who mean no good send, and how those who mean well fare meanwhile.

use crate::report::Outcome;
use crate::world::{Remains, World};
use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};
use tickgate_load::clock::now_ns;
use tickgate_load::target::Target;
use tickgate_load::transport::{TransportOptions, open};
use tickgate_load::trust::Trust;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{interval, sleep};

/// What a world that has just begun to flow is left alone for: the first ticks of all are late.
const SETTLE: Duration = Duration::from_secs(2);
/// How long the others are watched before the attack.
const QUIET: Duration = Duration::from_secs(6);
/// How long somebody who sends slowly tries to stay: three times what the gateway allows.
const PATIENCE: Duration = Duration::from_secs(30);

/// An attack under way: what was before it, for comparison.
pub struct Attack {
    /// From when on the others were watched.
    quiet_ns: i64,
    began_ns: i64,
    /// Resident memory before.
    pub resident: u64,
}

impl Attack {
    /// Watches the quiet before, and begins.
    pub async fn begin(world: &World) -> Result<Self> {
        // The first look at them takes memory once.
        world.gateway.metrics().await?;
        sleep(SETTLE).await;
        let quiet_ns = now_ns();
        sleep(QUIET).await;
        world.gateway.forget_peak()?;
        Ok(Self { quiet_ns, began_ns: now_ns(), resident: world.gateway.resident_bytes() })
    }

    /// Ends the world: nobody else may have been closed, and what they noticed is shown.
    pub async fn end(self, world: World, others: Range<usize>, outcome: &mut Outcome) -> Result<()> {
        let ended_ns = now_ns();
        outcome.flowing_s = Some(world.flowing(ended_ns, others.clone()).await?);
        let remains = world.finish(outcome).await?;
        outcome.exactly("sessions of others closed", remains.closed_of(others.clone()), 0);
        self.compare(&remains, others, ended_ns, outcome);
        Ok(())
    }

    fn compare(&self, remains: &Remains, others: Range<usize>, ended_ns: i64, outcome: &mut Outcome) {
        let p99 = |from, to| remains.latency_ms(others.clone(), (from, to), 0.99);
        let (before, during) = (p99(self.quiet_ns, self.began_ns), p99(self.began_ns, ended_ns));
        let text = format!("{before:.1} ms, {during:.1} ms: {:.2} times", during / before);
        outcome.show("p99 of the others before and meanwhile", text);
    }
}

/// Newcomers who mean well, one after the other: how many got in, and how long that took.
pub async fn honest(world: &World, count: usize, outcome: &mut Outcome) -> Result<()> {
    let target = Target::parse(&world.gateway.url())?;
    let options = TransportOptions { trust: world.gateway.trust(), ..TransportOptions::default() };
    let mut took = Vec::new();
    for _ in 0..count {
        let start = Instant::now();
        if open(&target, world.gateway.listen, &options).await.is_ok() {
            took.push(start.elapsed());
        }
        sleep(Duration::from_millis(100)).await;
    }
    outcome.exactly("honest newcomers let in meanwhile", took.len() as u64, count as u64);
    outcome.show("they took, p50 and p99", quantiles(&mut took));
    Ok(())
}

/// Median and 99th percentile, as text.
pub fn quantiles(took: &mut [Duration]) -> String {
    took.sort_unstable();
    let at = |percent: usize| took.get(took.len() * percent / 100).map_or(f64::NAN, Duration::as_secs_f64);
    format!("{:.1} ms, {:.1} ms", at(50) * 1e3, at(99) * 1e3)
}

/// How far somebody goes quickly, who then sends a byte a second.
#[derive(Clone)]
pub enum Slow {
    /// As far as the connection: this is sent, and then nothing that has an end.
    Bytes(Vec<u8>),
    /// As far as TLS: the request comes slowly.
    Within(Trust),
}

/// Opens `count` slow connections to the gateway, one behind the other, of each kind in turn; shows what came of them.
pub async fn slow(address: SocketAddr, count: usize, kinds: &[Slow], outcome: &mut Outcome) -> Result<()> {
    let (began, mut all) = (Instant::now(), Vec::with_capacity(count));
    let mut connected = 0;
    for kind in kinds.iter().cycle().take(count) {
        let Ok(stream) = TcpStream::connect(address).await else { continue };
        connected += 1;
        all.push(tokio::spawn(dribble_as(kind.clone(), stream)));
    }
    let took = began.elapsed();
    let (mut left, mut lasted) = (0, Vec::new());
    for one in all {
        match one.await? {
            Some(time) => lasted.push(time),
            None => left += 1,
        }
    }
    outcome.exactly("slow connections made", connected, count as u64);
    outcome.show("they were connected after", format!("{:.2} s", took.as_secs_f64()));
    outcome.exactly("slow connections left", left, 0);
    let longest = lasted.iter().max().copied().unwrap_or_default();
    outcome.show("the longest of them lasted", format!("{:.2} s", longest.as_secs_f64()));
    Ok(())
}

async fn dribble_as(kind: Slow, stream: TcpStream) -> Option<Duration> {
    let began = Instant::now();
    match kind {
        Slow::Bytes(bytes) => dribble(stream, &bytes, began).await,
        Slow::Within(trust) => match trust.connect("127.0.0.1", stream).await {
            Ok(stream) => dribble(stream, b"GET /v1/stream HTTP/1.1\r\nx: ", began).await,
            // It was put out before hands were shaken.
            Err(_) => Some(began.elapsed()),
        },
    }
}

/// Sends a byte a second until the gateway hangs up; gives how long after `began` that was.
async fn dribble(stream: impl AsyncRead + AsyncWrite, bytes: &[u8], began: Instant) -> Option<Duration> {
    let (mut read, mut write) = tokio::io::split(stream);
    let (mut ticks, mut heard) = (interval(Duration::from_secs(1)), [0; 256]);
    let mut bytes = bytes.iter().chain(std::iter::repeat(&b'x'));
    while began.elapsed() < PATIENCE {
        tokio::select! {
            came = read.read(&mut heard) => {
                if came.map_or(0, |bytes| bytes) == 0 {
                    return Some(began.elapsed());
                }
            }
            _ = ticks.tick() => {
                // That it is gone shows in the next read.
                let _ = write.write_all(&[*bytes.next().unwrap_or(&b'x')]).await;
                let _ = write.flush().await;
            }
        }
    }
    None
}

/// How a client's TLS begins: good for any number of handshakes that nobody means to finish.
pub async fn hello(trust: &Trust) -> Result<Vec<u8>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (trust, stream) = (trust.clone(), TcpStream::connect(listener.local_addr()?).await?);
    let client = tokio::spawn(async move { trust.connect("127.0.0.1", stream).await.map(drop) });
    let (mut there, _) = listener.accept().await?;
    let mut head = [0; 5];
    there.read_exact(&mut head).await.context("a record's head")?;
    let mut hello = head.to_vec();
    hello.resize(head.len() + usize::from(u16::from_be_bytes([head[3], head[4]])), 0);
    there.read_exact(&mut hello[head.len()..]).await.context("a record")?;
    client.abort();
    Ok(hello)
}
