//! W5: connections that subscribe and then have nothing to do. What they cost to open, to hold and to keep.

use super::measure;
use super::proc;
use super::server::{Load, Running, Server};
use super::workload::{W2_SHAPE, Workload};
use crate::client::Connected;
use serde::Serialize;
use std::time::Duration;

/// After the last connection, until memory and time are read.
const SETTLE: Duration = Duration::from_millis(500);

/// One number of idle connections on one server.
#[derive(Debug, Clone, Serialize)]
pub struct Idle {
    pub server: String,
    /// Interval of heartbeats where the server was told one.
    pub heartbeat_ms: Option<u64>,
    pub connections: usize,
    pub resident_bytes_empty: u64,
    pub resident_bytes: u64,
    pub connect_ms: f64,
    pub connect_p99_us: u64,
    pub connects_per_s: f64,
    /// Time of the whole server for each connection, subscription included.
    pub connect_cpu_us: f64,
    /// Milliseconds of processor time per second.
    pub idle_cpu_ms_per_s: f64,
}

/// Holds `connections` on `server` for `seconds`.
pub fn idle(
    server: &Server,
    connections: usize,
    heartbeat_ms: Option<u64>,
    seconds: f64,
) -> anyhow::Result<Idle> {
    let more: Vec<String> =
        heartbeat_ms.iter().flat_map(|ms| ["--heartbeat-ms".to_owned(), ms.to_string()]).collect();
    let running = server.start(&[], &more)?;
    let before = proc::time(running.pid(), |_| true)?;
    let resident_bytes_empty = proc::resident_bytes(running.pid())?;
    let (_load, connected) = connect(&running, connections)?;
    std::thread::sleep(SETTLE);
    let after = proc::time(running.pid(), |_| true)?;
    let resident_bytes = proc::resident_bytes(running.pid())?;
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let idle = proc::time(running.pid(), |_| true)?.since(after);
    let result = Idle {
        server: server.name(),
        heartbeat_ms,
        connections,
        resident_bytes_empty,
        resident_bytes,
        connect_ms: connected.took_ms,
        connect_p99_us: connected.p99_us,
        connects_per_s: connections as f64 / (connected.took_ms / 1e3),
        connect_cpu_us: after.since(before).run_ns as f64 / 1e3 / connections as f64,
        idle_cpu_ms_per_s: idle.run_ns as f64 / 1e6 / seconds,
    };
    eprintln!(
        "W5 {:<18} {connections:>6} connections in {:>6.0} ms, {:>6.0} B each, {:.1} µs each, idle {:.2} ms/s",
        result.server,
        result.connect_ms,
        (resident_bytes.saturating_sub(resident_bytes_empty)) as f64 / connections as f64,
        result.connect_cpu_us,
        result.idle_cpu_ms_per_s,
    );
    Ok(result)
}

fn connect(running: &Running, connections: usize) -> anyhow::Result<(Load, Connected)> {
    let workload = Workload { clients: connections, ..W2_SHAPE };
    let mut load = Load::start(&[], &measure::client_words(&workload, &running.for_clients()))?;
    let connected = load.report()?;
    Ok((load, connected))
}

/// Resident bytes per connection: the slope from the smallest to the largest number of connections.
pub fn slope(samples: &[Idle], server: &str, heartbeat_ms: Option<u64>) -> Option<f64> {
    let mut of: Vec<&Idle> =
        samples.iter().filter(|s| s.server == server && s.heartbeat_ms == heartbeat_ms).collect();
    of.sort_by_key(|sample| sample.connections);
    let (first, last) = (of.first()?, of.last()?);
    let connections = last.connections.checked_sub(first.connections).filter(|count| *count > 0)?;
    Some((last.resident_bytes as f64 - first.resident_bytes as f64) / connections as f64)
}

/// Many gateways, each with as many connections as a process can have.
#[derive(Debug, Clone, Serialize)]
pub struct Many {
    pub gateways: usize,
    pub connections: usize,
    pub resident_bytes: u64,
    pub connect_ms: f64,
    pub idle_cpu_ms_per_s: f64,
}

/// Holds `connections` on each of `gateways`.
pub fn many(gateways: usize, connections: usize, seconds: f64) -> anyhow::Result<Many> {
    let mut all = Vec::new();
    let mut connect_ms = 0.0;
    for _ in 0..gateways {
        let running = Server::GATEWAY.start(&[], &[])?;
        let (load, connected) = connect(&running, connections)?;
        connect_ms += connected.took_ms;
        all.push((running, load));
    }
    let time = || -> anyhow::Result<u64> {
        all.iter().map(|(running, _)| Ok(proc::time(running.pid(), |_| true)?.run_ns)).sum()
    };
    let before = time()?;
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let spent_ns = time()? - before;
    let resident: anyhow::Result<u64> =
        all.iter().map(|(running, _)| proc::resident_bytes(running.pid())).sum();
    Ok(Many {
        gateways,
        connections: gateways * connections,
        resident_bytes: resident?,
        connect_ms,
        idle_cpu_ms_per_s: spent_ns as f64 / 1e6 / seconds,
    })
}
