//! Runs a plan: many clients over a few threads, in phases, and makes the report.
//!
//! Each thread has a runtime of its own and counts for itself; nothing is shared between threads while messages come.
//! The phases are the same for all: connect on schedule, warm up, measure, let the stalled read, close.

use crate::clock::{now_ns, rfc3339};
use crate::discover::{self, DiscoverError};
use crate::gateway_process::{Spent, Usage, listening_at};
use crate::live::{Cell, LiveStats, Phase, Totals};
use crate::machine::Machine;
use crate::persona::Persona;
use crate::plan::{ClientPlan, Plan, Popularity};
use crate::report::{Generator, Measured, Report, SCHEMA};
use crate::subscriber::{self, Shared};
use crate::target::{BadUrl, Target};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

/// How often a thread looks whether its own timer is late.
const LAG_EVERY: Duration = Duration::from_millis(10);
/// How often the gateway's memory is looked at.
const SAMPLE_EVERY: Duration = Duration::from_millis(500);
/// File descriptors that are needed beside the connections.
const SPARE_DESCRIPTORS: u64 = 64;

/// Why a plan could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum FleetError {
    #[error("the plan makes no sense: {}", .0.join("; "))]
    Plan(Vec<String>),
    #[error(transparent)]
    BadUrl(#[from] BadUrl),
    #[error("cannot find the host")]
    Resolve(#[source] io::Error),
    #[error("cannot find out the symbols")]
    Discover(#[from] DiscoverError),
    #[error("{connections} connections need more than the {limit} file descriptors this process may open")]
    Descriptors { connections: usize, limit: u64 },
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    #[error("a thread ended before its time")]
    Died,
    #[error("not one of {0} connections could be opened: {1}")]
    Unreachable(u64, String),
}

/// Runs `plan` until it is done or `stop` turns true, counting into `live` meanwhile.
///
/// # Errors
/// [`FleetError`] when the run could not take place; what went wrong during a run stands in the report.
pub async fn run(
    plan: Plan,
    mut stop: watch::Receiver<bool>,
    live: Arc<LiveStats>,
) -> Result<Report, FleetError> {
    plan.check().map_err(FleetError::Plan)?;
    raise_descriptor_limit(plan.connections)?;
    let target = Target::parse(&plan.url)?;
    let address = target.resolve().await.map_err(FleetError::Resolve)?;
    let started_ns = now_ns();
    let symbols = match plan.symbols.is_empty() {
        false => plan.symbols.clone(),
        true => {
            let duration = Duration::from_millis(plan.discover_ms);
            discover::symbols(&plan.url, plan.channels.channels(), duration).await?
        }
    };
    let gateway_pid = plan.gateway_pid.or_else(|| listening_at(address));
    let plan = Arc::new(plan);
    let symbols = Arc::new(symbols);
    let popularity = Arc::new(Popularity::new(symbols.len(), plan.zipf));
    let (phase, _) = watch::channel(Phase::Connect);
    live.set_phase(Phase::Connect);
    let start = Instant::now();
    let mut shares: Vec<Vec<ClientPlan>> = vec![Vec::new(); plan.threads];
    for client in plan.clients(&symbols) {
        shares[client.index % plan.threads].push(client);
    }
    let mut threads = Vec::new();
    for clients in shares {
        let cell = live.new_cell();
        cell.lock().sessions.planned = clients.len() as u64;
        let shared = Shared {
            plan: Arc::clone(&plan),
            symbols: Arc::clone(&symbols),
            popularity: Arc::clone(&popularity),
            target: target.clone(),
            address,
            phase: phase.subscribe(),
            cell,
            start,
        };
        threads.push(spawn(shared, clients)?);
    }
    let mut course = Course { phase, live: &live, stop: &mut stop, gateway_pid, stopped: false };
    let window = course.run(&plan, start).await;
    for done in threads {
        done.await.map_err(|_| FleetError::Died)?;
    }
    let totals = live.totals();
    if totals.sessions.established == 0 && totals.sessions.failed > 0 {
        let first = totals.sessions.samples.first().cloned().unwrap_or_default();
        return Err(FleetError::Unreachable(totals.sessions.failed, first));
    }
    Ok(report(&plan, symbols.len(), started_ns, window, totals))
}

/// Starts a thread for `clients`; its end is told by the receiver.
fn spawn(shared: Shared, clients: Vec<ClientPlan>) -> Result<oneshot::Receiver<()>, FleetError> {
    let (done, ended) = oneshot::channel();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(FleetError::Thread)?;
    let work = move || {
        runtime.block_on(work(Arc::new(shared), clients));
        // Nobody listens any more when the caller gave up.
        let _ = done.send(());
    };
    std::thread::Builder::new().name("load".to_owned()).spawn(work).map_err(FleetError::Thread)?;
    Ok(ended)
}

async fn work(shared: Arc<Shared>, clients: Vec<ClientPlan>) {
    let lag = tokio::spawn(watch_lag(Arc::clone(&shared.cell)));
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|client| tokio::spawn(subscriber::run(Arc::clone(&shared), client)))
        .collect();
    for task in tasks {
        // A panic of one client is on stderr already and shows as a session without an end.
        let _ = task.await;
    }
    lag.abort();
}

/// Measures how late this thread's timers are: what its latencies may be too high by.
async fn watch_lag(cell: Arc<Cell>) {
    let mut due = Instant::now() + LAG_EVERY;
    loop {
        sleep_until(due).await;
        // Ticks missed meanwhile are late as well: each is counted, so that one long stall does not pass for one tick.
        while due <= Instant::now() {
            let late_ns = u64::try_from(due.elapsed().as_nanos()).unwrap_or(u64::MAX);
            cell.lock().lag.record_ns(late_ns);
            due += LAG_EVERY;
        }
    }
}

/// What was seen of the measurement from outside.
#[derive(Debug, Default)]
struct Window {
    measured: Measured,
    /// Sessions open at its end.
    open: u64,
    lag: crate::latency::Quantiles,
    gateway: Option<Spent>,
    generator: Spent,
    interrupted: bool,
}

/// The phases of a run.
struct Course<'a> {
    phase: watch::Sender<Phase>,
    live: &'a LiveStats,
    stop: &'a mut watch::Receiver<bool>,
    gateway_pid: Option<u32>,
    stopped: bool,
}

impl Course<'_> {
    async fn run(&mut self, plan: &Plan, start: Instant) -> Window {
        self.until(start + Duration::from_millis(plan.ramp_ms)).await;
        self.enter(Phase::Warmup);
        self.until(start + plan.before_measure()).await;
        let window = if self.stopped {
            Window::default()
        } else {
            self.enter(Phase::Measure);
            self.measure(Duration::from_millis(plan.measure_ms)).await
        };
        let interrupted = self.stopped;
        self.enter(Phase::Drain);
        let has_stalled = plan.personas.shares.iter().any(|(persona, _)| *persona == Persona::Stalled);
        if has_stalled {
            // Also after a stop: what the stalled were sent is part of what was measured.
            self.stopped = false;
            sleep_until(Instant::now() + Duration::from_millis(plan.drain_ms)).await;
        }
        self.enter(Phase::End);
        Window { interrupted, ..window }
    }

    async fn measure(&mut self, duration: Duration) -> Window {
        let begun = Instant::now();
        let end = begun + duration;
        let before = self.live.totals();
        self.live.begin_measure();
        let usage = |pid: Option<u32>| pid.and_then(Usage::of);
        let (gateway_before, own_before) = (usage(self.gateway_pid), Usage::of_self());
        let mut rss_max_bytes = 0;
        while Instant::now() < end && !self.stopped {
            self.until(end.min(Instant::now() + SAMPLE_EVERY)).await;
            rss_max_bytes = rss_max_bytes.max(usage(self.gateway_pid).map_or(0, |u| u.rss_bytes));
        }
        let seconds = begun.elapsed().as_secs_f64();
        self.live.end_measure();
        let (gateway_after, own_after) = (usage(self.gateway_pid), Usage::of_self());
        let after = self.live.totals();
        let gateway = match (self.gateway_pid, gateway_before, gateway_after) {
            (Some(pid), Some(before), Some(after)) => {
                Some(Spent::between(pid, &before, &after, rss_max_bytes, seconds))
            }
            _ => None,
        };
        Window {
            measured: Measured::between(&before.all_tallies(), &after.all_tallies(), seconds),
            open: after.sessions.open,
            lag: after.lag.quantiles(),
            gateway,
            generator: Spent::between(
                std::process::id(),
                &own_before,
                &own_after,
                own_after.rss_peak_bytes,
                seconds,
            ),
            interrupted: false,
        }
    }

    fn enter(&self, phase: Phase) {
        self.live.set_phase(phase);
        self.phase.send_replace(phase);
    }

    /// Waits until `due` or until somebody stops the run.
    async fn until(&mut self, due: Instant) {
        if self.stopped {
            return;
        }
        tokio::select! {
            () = sleep_until(due) => {}
            stopped = self.stop.wait_for(|stop| *stop) => match stopped {
                Ok(_) => self.stopped = true,
                // Nobody can stop it any more.
                Err(_) => sleep_until(due).await,
            },
        }
    }
}

fn report(plan: &Plan, symbols: usize, started_ns: i64, window: Window, totals: Totals) -> Report {
    let mut latency: std::collections::BTreeMap<_, _> =
        totals.latencies.iter().map(|(persona, l)| (persona.name().to_owned(), l.quantiles())).collect();
    latency.insert("all".to_owned(), totals.all_latencies().quantiles());
    let mut verification: std::collections::BTreeMap<_, _> = totals
        .tallies
        .iter()
        .filter(|(_, tally)| tally.messages > 0)
        .map(|(persona, tally)| (persona.name().to_owned(), tally.clone()))
        .collect();
    verification.insert("all".to_owned(), totals.all_tallies());
    let mut sessions = totals.sessions;
    sessions.open = window.open;
    let mut report = Report {
        schema: SCHEMA,
        tool: concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).to_owned(),
        command: std::env::args().collect(),
        started: rfc3339(started_ns),
        ended: rfc3339(now_ns()),
        interrupted: window.interrupted,
        machine: Machine::read(),
        plan: plan.clone(),
        symbols,
        sessions,
        connect: totals.connect.quantiles(),
        measured: window.measured,
        latency,
        verification,
        generator: Generator {
            threads: plan.threads,
            cpu_s: window.generator.cpu_s,
            cpu_percent: window.generator.cpu_percent,
            rss_max_bytes: window.generator.rss_max_bytes,
            lag: window.lag,
            late: false,
        },
        gateway: window.gateway,
        asserts: Vec::new(),
        warnings: Vec::new(),
        failures: Vec::new(),
        passed: true,
        distributions: totals.latencies,
    };
    report.judge();
    report
}

/// Raises the limit of open files as far as needed.
fn raise_descriptor_limit(connections: usize) -> Result<(), FleetError> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let needed = connections as u64 + SPARE_DESCRIPTORS;
    let limit = getrlimit(Resource::Nofile);
    let (current, maximum) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    if needed <= current {
        return Ok(());
    }
    if needed > maximum {
        return Err(FleetError::Descriptors { connections, limit: maximum });
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: limit.maximum })
        .map_err(|_| FleetError::Descriptors { connections, limit: current })
}
