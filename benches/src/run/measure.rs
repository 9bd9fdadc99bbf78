//! One measurement: a server, a load, and what both cost and saw in a window of time.

use super::server::{Load, Running, Server};
use super::workload::Workload;
use super::{instructions, proc};
use crate::client;
use crate::market;
use crate::process::Counts;
use crate::publisher;
use serde::Serialize;
use std::time::Duration;
use tickgate_gateway::clock;

/// Between the start of the load and of what counts.
pub const WARM_UP_NS: i64 = 1_000_000_000;
/// After what counts, for what is still on its way.
pub const GRACE_NS: i64 = 1_000_000_000;
const LEAD_NS: i64 = 200_000_000;

/// What one measurement found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Sample {
    pub server: String,
    pub workload: String,
    pub repetition: usize,
    /// Ticks per second that were offered, and deliveries that they make.
    pub rate: f64,
    pub offered_per_s: f64,
    pub delivered_per_s: f64,
    /// Of what was due in the window, the part that came.
    pub delivered_share: f64,
    /// Time on a processor of the threads that deliver, for each delivery.
    pub cpu_us: f64,
    /// The same over time: 1 is a whole processor.
    pub cpu_load: f64,
    pub user_share: Option<f64>,
    /// Time of the thread that reads, for each record, where there is one.
    pub feed_us_per_record: Option<f64>,
    /// The same of the thread that reads, where there is one.
    pub feed_load: f64,
    /// Time of the clients for each delivery.
    pub client_cpu_us: f64,
    /// Time of clients and publisher over time: near 1 the load is the limit.
    pub load_load: f64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
    pub deliveries_per_read: f64,
    pub deliveries_per_write: Option<f64>,
    pub writes_per_s: Option<f64>,
    /// From reading a record to the write that delivered it, by the server's own clocks: median and 99th percentile.
    pub ingest_to_written_us: Option<[f64; 2]>,
    pub bytes_per_delivery: f64,
    /// Instructions in user space for each delivery, measured in a run of its own.
    pub user_instructions: Option<f64>,
    pub resident_bytes: u64,
    pub closed: u64,
    pub gaps: u64,
    pub late_us_max: i64,
}

/// Measures `server` under `workload` for `seconds`.
pub fn measure(server: &Server, workload: &Workload, seconds: f64) -> anyhow::Result<Sample> {
    let wrapper = if workload.is_realtime { super::realtime() } else { Vec::new() };
    let mut running = server.start(&wrapper, &[])?;
    let mut load = start_clients(&running, workload, &wrapper)?;
    let times = Times::after(WARM_UP_NS, seconds);
    load.tell(format_args!("{} {} {}", times.from_ns, times.to_ns, times.end_ns))?;
    let mut publisher = start_publisher(&running, workload, &times, &wrapper)?;

    sleep_until(times.from_ns);
    let before = Snapshot::take(&mut running, &load, &publisher)?;
    sleep_until(times.to_ns);
    let after = Snapshot::take(&mut running, &load, &publisher)?;
    let resident_bytes = proc::resident_bytes(running.pid())?;

    let report: client::Report = load.report()?;
    let published: publisher::Report = publisher.report()?;
    let expected = expected(workload, &published);
    let deliveries = report.arrived(before.at_ns - times.from_ns, after.at_ns - times.from_ns) as f64;
    let elapsed_ns = (after.at_ns - before.at_ns) as f64;
    let spent = after.delivery.since(before.delivery);
    let fed = after.feed.since(before.feed);
    let records = published.counts.iter().sum::<u64>() as f64 / seconds * (elapsed_ns / 1e9);
    let writes = after.counts.zip(before.counts).map(|(after, before)| (after.writes - before.writes) as f64);
    Ok(Sample {
        server: server.name(),
        workload: workload.name.to_owned(),
        rate: workload.rate,
        offered_per_s: expected as f64 / seconds,
        delivered_per_s: deliveries / (elapsed_ns / 1e9),
        delivered_share: report.delivered as f64 / expected.max(1) as f64,
        cpu_us: spent.run_ns as f64 / 1e3 / deliveries,
        cpu_load: spent.run_ns as f64 / elapsed_ns,
        user_share: spent.user_share(),
        feed_us_per_record: (fed.run_ns > 0).then(|| fed.run_ns as f64 / 1e3 / records),
        feed_load: fed.run_ns as f64 / elapsed_ns,
        load_load: (after.client.since(before.client).run_ns + after.publisher.since(before.publisher).run_ns)
            as f64
            / elapsed_ns,
        client_cpu_us: after.client.since(before.client).run_ns as f64 / 1e3 / deliveries,
        p50_us: report.p50_us,
        p99_us: report.p99_us,
        p999_us: report.p999_us,
        max_us: report.max_us,
        deliveries_per_read: report.ticks as f64 / report.reads.max(1) as f64,
        deliveries_per_write: writes.filter(|writes| *writes > 0.0).map(|writes| deliveries / writes),
        writes_per_s: writes.map(|writes| writes / (elapsed_ns / 1e9)),
        ingest_to_written_us: after
            .counts
            .and_then(|counts| counts.ingest_to_written_ns)
            .map(|quantiles| quantiles.map(|ns| ns as f64 / 1e3)),
        bytes_per_delivery: report.bytes as f64 / report.ticks.max(1) as f64,
        resident_bytes,
        closed: report.closed,
        gaps: report.gaps,
        late_us_max: published.late_us_max,
        ..Sample::default()
    })
}

/// User instructions of `server` per delivery under `workload`: from before the first tick until after the last.
pub fn count_instructions(server: &Server, workload: &Workload, seconds: f64) -> anyhow::Result<f64> {
    let mut counter = instructions::Counter::new()?;
    let running = server.start(&counter.wrapper(), &[])?;
    let mut load = start_clients(&running, workload, &[])?;
    counter.start(&running)?;
    let times = Times::after(0, seconds);
    load.tell(format_args!("{} {} {}", times.from_ns, times.to_ns, times.end_ns))?;
    let _publisher = start_publisher(&running, workload, &times, &[])?;
    let report: client::Report = load.report()?;
    let instructions = counter.stop(&running)?;
    Ok(instructions / report.ticks.max(1) as f64)
}

/// When things happen, nanoseconds since the Unix epoch.
pub struct Times {
    pub start_ns: i64,
    pub from_ns: i64,
    pub to_ns: i64,
    pub end_ns: i64,
}

impl Times {
    pub fn after(warm_up_ns: i64, seconds: f64) -> Self {
        let start_ns = clock::wall_ns() + LEAD_NS;
        let from_ns = start_ns + warm_up_ns;
        let to_ns = from_ns + (seconds * 1e9) as i64;
        Self { start_ns, from_ns, to_ns, end_ns: to_ns + GRACE_NS }
    }
}

struct Snapshot {
    at_ns: i64,
    delivery: proc::Time,
    feed: proc::Time,
    client: proc::Time,
    publisher: proc::Time,
    counts: Option<Counts>,
}

impl Snapshot {
    fn take(running: &mut Running, load: &Load, publisher: &Load) -> anyhow::Result<Self> {
        let counts = running.counts()?;
        Ok(Self {
            at_ns: clock::wall_ns(),
            delivery: running.delivery_time()?,
            feed: running.feed_time()?,
            client: proc::time(load.pid(), |_| true)?,
            publisher: proc::time(publisher.pid(), |_| true)?,
            counts,
        })
    }
}

/// Connects the clients of a workload.
pub fn start_clients(running: &Running, workload: &Workload, wrapper: &[String]) -> anyhow::Result<Load> {
    let mut load = Load::start(wrapper, &client_words(workload, &running.for_clients()))?;
    let _: client::Connected = load.report()?;
    Ok(load)
}

/// Starts to publish a workload.
pub fn start_publisher(
    running: &Running,
    workload: &Workload,
    times: &Times,
    wrapper: &[String],
) -> anyhow::Result<Load> {
    let to = format!("--to {} --dialect {}", running.feed(), running.server.dialect());
    Load::start(wrapper, &publisher_words(workload, times, &to))
}

/// What a client process is started with; `to` says where it connects.
pub fn client_words(workload: &Workload, to: &str) -> String {
    format!(
        "client {to} --connections {} --symbols {} --symbol-digits {} --per-client {} \
         --lazy-ms {} --stalled-percent {}",
        workload.clients,
        workload.symbols,
        workload.symbol_digits,
        workload.per_client,
        workload.lazy_ms,
        workload.stalled_percent,
    )
}

/// What a publisher is started with; `to` says where it publishes.
pub fn publisher_words(workload: &Workload, times: &Times, to: &str) -> String {
    let model = workload.model.map(|model| format!("--model {model}")).unwrap_or_default();
    format!(
        "publisher {to} {model} --rate {} --burst {} --symbols {} --symbol-digits {} --zipf {} --record-bytes {} \
         --start-ns {} --from-ns {} --to-ns {} --end-ns {}",
        workload.rate,
        workload.burst,
        workload.symbols,
        workload.symbol_digits,
        workload.zipf,
        workload.record_bytes,
        times.start_ns,
        times.from_ns,
        times.to_ns,
        times.to_ns + GRACE_NS / 2,
    )
}

/// Deliveries that make up what was published.
pub fn expected(workload: &Workload, published: &publisher::Report) -> u64 {
    let subscribers = market::subscribers(
        workload.clients,
        workload.symbols,
        workload.per_client,
        workload.stalled_percent,
    );
    published.counts.iter().zip(subscribers).map(|(ticks, subscribers)| ticks * subscribers).sum()
}

/// Waits for a point in time, nanoseconds since the Unix epoch.
pub fn sleep_until(at_ns: i64) {
    std::thread::sleep(Duration::from_nanos((at_ns - clock::wall_ns()).max(0) as u64));
}
