//! The orchestrator: servers in turn under the same load, on processors of their own, and a report.
//!
//! The server has one processor, publisher and clients have another. Within a repetition every server is measured once,
//! and the order is reversed in every second repetition, so that a machine that gets slower harms nobody more than others.
//! Ratios are taken within a repetition and then their medians: other programs on the machine change the time of a send by
//! half, but for all servers alike.
//!
//! One measurement is in [`measure`], what is special about saturation, idle connections, storms and Kafka in [`ramp`],
//! [`memory`], [`storm`] and [`kafka`]; [`report`] makes tables of [`results`].

mod cost;
mod instructions;
mod kafka;
mod limit;
mod measure;
mod memory;
mod plot;
mod proc;
mod ramp;
mod report;
mod results;
mod server;
mod storm;
mod workload;

use anyhow::Context as _;
use results::Results;
use server::Server;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::SystemTime;
use workload::Workload;

/// Connections of the steps of W5; a process may have 20,000 open files on many machines.
const IDLE_CONNECTIONS: [usize; 3] = [5_000, 10_000, 19_000];
const MANY_GATEWAYS: usize = 5;
/// Interval of heartbeats that servers of ours are told for W5: the gateway's default.
const HEARTBEAT_MS: u64 = 5_000;

/// Every experiment, in order.
const EXPERIMENTS: &[(&str, &str)] = &[
    ("limit", "bytes into a connection that the other end throws away"),
    ("W2w", "W2b with flush windows of 10 and 50 ms"),
    ("W4", "ever more ticks until they are no longer delivered, then twice the best"),
    ("W5", "5,000, 10,000 and 19,000 idle connections with 10 subscriptions each"),
    ("W5x", "the same 19,000 on each of five gateways"),
    ("W7", "W2 in full with 0, 1, 10 and 50 % of the clients stalled"),
    ("W8", "all clients of W2b go away and return within a second"),
    ("W9", "from Kafka to clients, beside a plain consumer"),
    ("W10-kafka", "the same with the load of W10"),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Workloads: all when none is named, `list` for what there is; W1 stands for W1a, W1k and W1
    workloads: Vec<String>,
    /// One short repetition, to see that everything runs
    #[arg(long)]
    quick: bool,
    /// Servers beside the floors and the gateway: none, all, or names
    #[arg(long, value_delimiter = ',', default_value = "all")]
    peers: Vec<String>,
    /// Exactly these servers, in the place of floors, gateway and peers
    #[arg(long, value_delimiter = ',')]
    servers: Vec<String>,
    /// How often each server is measured
    #[arg(long, default_value_t = 5, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000))]
    reps: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds for which twice a server's best is offered
    #[arg(long, default_value_t = 10.0)]
    overload_seconds: f64,
    /// Leave out counting instructions
    #[arg(long)]
    no_instructions: bool,
    /// Brokers of a real Kafka for W9 and W10-kafka, with a topic called tickgate-bench; the embedded broker when
    /// missing
    #[arg(long)]
    brokers: Option<String>,
    /// Where the report goes: a folder that is not there yet [default: benches/results/DATE-TIME]
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs workloads and writes a report.
pub fn run(mut args: Args) -> anyhow::Result<()> {
    if args.workloads.iter().any(|name| name == "list") {
        let steady = workload::ALL.iter().map(|workload| (workload.name, workload.what));
        for (name, what) in steady.chain(EXPERIMENTS.iter().copied()) {
            println!("{name:<6} {what}");
        }
        return Ok(());
    }
    let unknown = args.workloads.iter().find(|asked| !known().any(|name| is_meant(asked, name)));
    if let Some(unknown) = unknown {
        let names: Vec<_> = known().collect();
        anyhow::bail!("there is no workload {unknown}: name some of {}", names.join(", "));
    }
    if args.quick {
        (args.reps, args.seconds, args.overload_seconds) = (1, 1.0, 2.0);
    }
    // Keeps other sessions' programs from taking the processors. Without the right to, numbers are only noisier.
    let _ = std::fs::write("/proc/self/autogroup", "-20");
    let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let out = args.out.clone().unwrap_or_else(|| {
        PathBuf::from("benches/results").join(date.trim_end_matches('Z').replace(':', "").replace('T', "-"))
    });
    // What was measured once, and perhaps published, is not written over; and what cannot be written is said now.
    if out.exists() {
        anyhow::bail!("{} is there already: name another folder with --out", out.display());
    }
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let mut results = Results {
        command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
        machine: proc::machine(),
        date,
        repetitions: args.reps,
        seconds: args.seconds,
        ..Results::default()
    };
    let servers = servers(&args, &mut results)?;
    let mut experiments = Experiments { args, servers, results, out };
    for workload in workload::ALL {
        if experiments.is_wanted(workload.name) {
            experiments.steady(workload);
            experiments.write()?;
        }
    }
    for (name, run) in [
        ("limit", Experiments::limit as fn(&mut Experiments)),
        ("W2w", Experiments::windows),
        ("W4", Experiments::ramps),
        ("W5", Experiments::idle),
        ("W5x", Experiments::many),
        ("W7", Experiments::isolation),
        ("W8", Experiments::storms),
        ("W9", |experiments| experiments.kafka(&workload::KAFKA)),
        ("W10-kafka", |experiments| experiments.kafka(&workload::KAFKA_SINGLE)),
    ] {
        if experiments.is_wanted(name) {
            run(&mut experiments);
            experiments.write()?;
        }
    }
    println!("{}", report::markdown(&experiments.results));
    eprintln!("written to {}", experiments.out.display());
    Ok(())
}

/// Whether who asked for a workload means this one: by its name or by that of its group.
fn is_meant(asked: &str, name: &str) -> bool {
    let group = name.trim_end_matches(|letter: char| letter.is_ascii_lowercase());
    asked == name || (asked == group && group != "W5")
}

/// What can be asked for.
fn known() -> impl Iterator<Item = &'static str> {
    workload::ALL.iter().map(|workload| workload.name).chain(EXPERIMENTS.iter().map(|(name, _)| *name))
}

/// The servers that are to be measured and can run.
fn servers(args: &Args, results: &mut Results) -> anyhow::Result<Vec<Server>> {
    let mut names: Vec<&str> = args.servers.iter().map(String::as_str).collect();
    if names.is_empty() {
        names.extend(["floor-each", "floor-copy", "gateway"]);
        for peer in args.peers.iter().map(String::as_str).filter(|peer| *peer != "none") {
            if peer == "all" { names.extend(server::PEERS) } else { names.push(peer) }
        }
    }
    let mut servers: Vec<Server> = names.into_iter().map(Server::named).collect::<Result<_, _>>()?;
    servers.retain(|server| {
        let reason = server.absent();
        if let Some(reason) = &reason {
            eprintln!("{} is left out: {reason}", server.name());
            results.left_out.push((server.name(), reason.clone()));
        }
        reason.is_none()
    });
    Ok(servers)
}

/// A run under way.
struct Experiments {
    args: Args,
    servers: Vec<Server>,
    results: Results,
    out: PathBuf,
}

impl Experiments {
    /// Whether a workload was asked for, by its name or by that of its group.
    fn is_wanted(&self, name: &str) -> bool {
        let asked = &self.args.workloads;
        asked.is_empty() || asked.iter().any(|asked| is_meant(asked, name))
    }

    fn write(&mut self) -> anyhow::Result<()> {
        self.results.fit_costs();
        report::write(&self.results, &self.out)
    }

    /// Notes what failed and goes on: one server that fails is no reason to know nothing of the others.
    fn keep<T>(&mut self, what: &str, result: anyhow::Result<T>) -> Option<T> {
        result
            .map_err(|error| {
                eprintln!("{what}: {error:#}");
                self.results.failures.push(format!("{what}: {error:#}"));
            })
            .ok()
    }

    /// Servers for a repetition, in turn from the front and from the back.
    fn order(&self, repetition: usize) -> Vec<Server> {
        let mut order = self.servers.clone();
        if repetition % 2 == 1 {
            order.reverse();
        }
        order
    }

    /// The product and the floors, and nothing else unless it was asked for by name.
    fn ours(&self) -> Vec<Server> {
        let is_ours = |server: &&Server| matches!(server, Server::Floor(_) | Server::Gateway { .. });
        self.servers.iter().filter(is_ours).cloned().collect()
    }

    fn measure(&mut self, server: &Server, workload: &Workload, repetition: usize) {
        let what = format!("{} {repetition} {}", workload.name, server.name());
        let sample = measure::measure(server, workload, self.args.seconds);
        let Some(mut sample) = self.keep(&what, sample) else { return };
        sample.repetition = repetition;
        eprintln!(
            "{what:<28} {:>7.3} µs/delivery, {:>5.1} % delivered, p50 {} µs, p99 {} µs",
            sample.cpu_us,
            sample.delivered_share * 100.0,
            sample.p50_us,
            sample.p99_us,
        );
        self.results.samples.push(sample);
    }

    fn steady(&mut self, workload: &Workload) {
        for repetition in 0..self.args.reps {
            for server in self.order(repetition) {
                self.measure(&server, workload, repetition);
            }
        }
        // They change little from run to run, and take long to count without the processor's help.
        let counts = ["W1a", "W1k", "W2a", "W2k", "W10"];
        if self.args.no_instructions || !counts.contains(&workload.name) {
            return;
        }
        match instructions::Counter::new() {
            Ok(counter) => self.results.instructions_by = Some(counter.name()),
            Err(error) => return eprintln!("no instructions: {error:#}"),
        }
        for server in self.servers.clone() {
            let what = format!("{} instructions of {}", workload.name, server.name());
            let counted = measure::count_instructions(&server, workload, self.args.seconds.min(2.0));
            let Some(count) = self.keep(&what, counted) else { continue };
            eprintln!("{what}: {count:.0}");
            let name = server.name();
            for sample in &mut self.results.samples {
                if sample.server == name && sample.workload == workload.name {
                    sample.user_instructions = Some(count);
                }
            }
        }
    }

    fn limit(&mut self) {
        if let Some(limits) = self.keep("limit", limit::limits()) {
            self.results.limits = limits;
        }
    }

    /// Windows cost latency, so they are no part of the other comparisons.
    fn windows(&mut self) {
        let names = ["floor-each", "floor-p10", "gateway-f10", "floor-p50", "gateway-f50"];
        for repetition in 0..self.args.reps {
            let mut order: Vec<_> = names.iter().filter_map(|name| Server::named(name).ok()).collect();
            if repetition % 2 == 1 {
                order.reverse();
            }
            for server in order {
                self.measure(&server, &workload::WINDOWS, repetition);
            }
        }
    }

    fn ramps(&mut self) {
        let mut servers = self.servers.clone();
        // One shard on one processor, and beside it two on both.
        let is_free = self.args.servers.is_empty();
        if is_free && servers.contains(&Server::GATEWAY) && !servers.contains(&Server::GATEWAY_2) {
            servers.push(Server::GATEWAY_2);
        }
        for shape in workload::RAMPS {
            for server in servers.clone() {
                let what = format!("{} {}", shape.name, server.name());
                let ramp = ramp::ramp(&server, shape, self.args.seconds, self.args.overload_seconds);
                if let Some(ramp) = self.keep(&what, ramp) {
                    self.results.ramps.push(ramp);
                }
            }
        }
    }

    fn idle(&mut self) {
        let steps = if self.args.quick { &IDLE_CONNECTIONS[..2] } else { &IDLE_CONNECTIONS[..] };
        // Long enough for a heartbeat to everyone.
        let seconds = if self.args.quick { 1.0 } else { HEARTBEAT_MS as f64 / 1e3 };
        for server in self.servers.clone() {
            let is_ours = matches!(server, Server::Floor(_) | Server::Gateway { .. });
            let heartbeats = if is_ours { &[Some(0), Some(HEARTBEAT_MS)][..] } else { &[None] };
            for heartbeat_ms in heartbeats {
                for connections in steps {
                    let what = format!("W5 {} {connections}", server.name());
                    let idle = memory::idle(&server, *connections, *heartbeat_ms, seconds);
                    if let Some(idle) = self.keep(&what, idle) {
                        self.results.idle.push(idle);
                    }
                }
            }
        }
    }

    fn many(&mut self) {
        let connections = if self.args.quick { 1_000 } else { IDLE_CONNECTIONS[2] };
        let many = memory::many(MANY_GATEWAYS, connections, self.args.seconds);
        self.results.many = self.keep("W5x", many);
    }

    fn isolation(&mut self) {
        for repetition in 0..self.args.reps {
            for server in self.ours().into_iter().filter(|server| server.name() != "floor-each") {
                let mut order: Vec<&Workload> = workload::ISOLATION.iter().collect();
                if repetition % 2 == 1 {
                    order.reverse();
                }
                for workload in order {
                    self.measure(&server, workload, repetition);
                }
            }
        }
    }

    fn storms(&mut self) {
        for repetition in 0..self.args.reps {
            for server in self.order(repetition) {
                let storm = storm::storm(&server, self.args.seconds);
                if let Some(mut storm) = self.keep(&format!("W8 {}", server.name()), storm) {
                    storm.repetition = repetition;
                    self.results.storms.push(storm);
                }
            }
        }
    }

    fn kafka(&mut self, workload: &Workload) {
        for repetition in 0..self.args.reps {
            let way = kafka::way(workload, self.args.brokers.as_deref(), self.args.seconds);
            if let Some(mut way) = self.keep(workload.name, way) {
                way.repetition = repetition;
                self.results.ways.push(way);
            }
        }
    }
}

/// What starts a program with real-time priority, where that is allowed.
fn realtime() -> Vec<String> {
    let words = ["chrt", "-r", "10"].map(str::to_owned);
    let status = Command::new("chrt").args(["-r", "10", "true"]).stderr(Stdio::null()).status();
    if status.is_ok_and(|status| status.success()) { words.into() } else { Vec::new() }
}
