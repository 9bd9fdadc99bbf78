//! W8: all clients go away at once and return within a second, asking for the last tick of each symbol, while ticks go on.

use super::measure::{self, Times};
use super::server::{Load, Server};
use super::workload::STORM;
use crate::client::{self, Connected};
use crate::publisher;
use serde::Serialize;

/// In which the clients return.
const RETURN_MS: i64 = 1_000;

/// How a server took it.
#[derive(Debug, Clone, Serialize)]
pub struct Storm {
    pub server: String,
    pub repetition: usize,
    pub clients: usize,
    /// From the first to the last that was subscribed again; the schedule itself takes a second.
    pub returned_ms: f64,
    /// From a client's connect to the answer to its subscription.
    pub p50_us: u64,
    pub p99_us: u64,
    /// Time of the server over the second in which they return, 1 being a whole processor.
    pub cpu_load: f64,
    /// Connections that were lost afterwards.
    pub closed: u64,
    /// Deliveries per second after the storm, of those offered.
    pub delivered_after: f64,
}

/// Sends the clients away from `server` and back.
pub fn storm(server: &Server, seconds: f64) -> anyhow::Result<Storm> {
    let running = server.start(&[], &[])?;
    let mut words = measure::client_words(&STORM, &running.for_clients());
    words.push_str(&format!(" --storm-ms {RETURN_MS} --snapshot 1"));
    let mut load = Load::start(&[], &words)?;
    let _: Connected = load.report()?;
    let times = Times::after(measure::WARM_UP_NS, seconds + RETURN_MS as f64 / 1e3);
    load.tell(format_args!("{} {} {}", times.from_ns, times.to_ns, times.end_ns))?;
    let mut publisher = measure::start_publisher(&running, &STORM, &times, &[])?;
    measure::sleep_until(times.from_ns);
    let before = running.delivery_time()?;
    let returned: Connected = load.report()?;
    let spent = running.delivery_time()?.since(before);
    let report: client::Report = load.report()?;
    let published: publisher::Report = publisher.report()?;
    let counted_s = (times.to_ns - times.from_ns) as f64 / 1e9;
    let offered_per_s = measure::expected(&STORM, &published) as f64 / counted_s;
    let to_ns = times.to_ns - times.from_ns;
    let from_ns = to_ns - (seconds / 2.0 * 1e9) as i64;
    let storm = Storm {
        server: server.name(),
        repetition: 0,
        clients: returned.connections,
        returned_ms: returned.took_ms,
        p50_us: returned.p50_us,
        p99_us: returned.p99_us,
        cpu_load: spent.run_ns as f64 / 1e6 / returned.took_ms,
        closed: report.closed,
        delivered_after: report.arrived(from_ns, to_ns) as f64 / (seconds / 2.0) / offered_per_s,
    };
    eprintln!(
        "W8 {:<18} {} back in {:.0} ms, p50 {} µs, p99 {} µs, {:.1} % delivered afterwards",
        storm.server,
        storm.clients,
        storm.returned_ms,
        storm.p50_us,
        storm.p99_us,
        storm.delivered_after * 100.0,
    );
    Ok(storm)
}
