//! Runs a plan: many clients over a few threads, and makes the report.
//!
//! Each thread has a runtime of its own and counts for itself; nothing is shared between threads while messages come.
//! A process runs its part of the plan: all of it, unless there are several ([`crate::processes`]).

use crate::client::ClientOptions;
use crate::clock::{now_ns, rfc3339};
use crate::course::{Course, Window};
use crate::discover::{self, DiscoverError};
use crate::gateway_process::listening_at;
use crate::latency::Latencies;
use crate::live::{Cell, LiveStats, Phase, Sessions, Totals};
use crate::machine::Machine;
use crate::persona::Persona;
use crate::plan::{ClientPlan, Plan, Popularity};
use crate::report::{AtGateway, Generator, Report, Run, SCHEMA};
use crate::subscriber::{self, Shared};
use crate::tally::Tally;
use crate::target::{BadUrl, Target};
use crate::trust::TrustError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

/// How often a thread looks whether its own timer is late.
const LAG_EVERY: Duration = Duration::from_millis(10);
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
    #[error("cannot find the host of {url}")]
    Resolve { url: String, source: io::Error },
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error("cannot find out the symbols")]
    Discover(#[from] DiscoverError),
    #[error(
        "{connections} connections need more than the {limit} file descriptors that a process may open: spread them over \
         more --processes"
    )]
    Descriptors { connections: usize, limit: u64 },
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    #[error("a thread ended before its time")]
    Died,
    #[error("not one of {0} connections could be opened: {1}")]
    Unreachable(u64, String),
}

/// Runs `plan` in this process until it is done or `stop` turns true, counting into `live` meanwhile.
///
/// # Errors
/// [`FleetError`] when the run could not take place; what went wrong during a run stands in the report.
pub async fn run(
    plan: Plan,
    stop: watch::Receiver<bool>,
    live: Arc<LiveStats>,
) -> Result<Report, FleetError> {
    if plan.processes != 1 {
        let fault = format!("one process cannot be {}", plan.processes);
        return Err(FleetError::Plan(vec![fault]));
    }
    let prepared = Prepared::new(plan).await?;
    let clients = prepared.clients(0);
    reached(prepared.run(0, clients, Instant::now(), stop, live).await?)
}

/// A plan, and what all processes of its run must agree on: found out once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Prepared {
    pub(crate) plan: Plan,
    symbols: Vec<String>,
    /// Of the gateways, in the order of their URLs.
    addresses: Vec<SocketAddr>,
    /// Their processes, where they are known.
    gateway_pids: Vec<Option<u32>>,
    started_ns: i64,
}

impl Prepared {
    /// Checks `plan`, finds the gateways and, unless the plan names them, the symbols of the first gateway.
    ///
    /// # Errors
    /// [`FleetError`] when there is nothing to run.
    pub async fn new(plan: Plan) -> Result<Self, FleetError> {
        plan.check().map_err(FleetError::Plan)?;
        // Child processes inherit the limit. The first process has the most connections.
        raise_descriptor_limit(plan.connections_of(0))?;
        let mut addresses = Vec::new();
        for url in &plan.urls {
            let address = Target::parse(url)?.resolve().await;
            addresses.push(address.map_err(|source| FleetError::Resolve { url: url.clone(), source })?);
        }
        let client_options = plan.client_options()?;
        let started_ns = now_ns();
        let symbols = match plan.symbols.is_empty() {
            false => plan.symbols.clone(),
            true => {
                let duration = Duration::from_millis(plan.discover_ms);
                discover::symbols(&plan.urls[0], &client_options, plan.channels.channels(), duration).await?
            }
        };
        let gateway_pids = match &plan.gateway_pids[..] {
            [] => addresses.iter().map(|address| listening_at(*address)).collect(),
            pids => pids.iter().copied().map(Some).collect(),
        };
        Ok(Self { plan, symbols, addresses, gateway_pids, started_ns })
    }

    /// What this run was, once it has ended.
    pub(crate) fn run_info(&self) -> Run {
        Run {
            tool: concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).to_owned(),
            command: std::env::args().collect(),
            started: rfc3339(self.started_ns),
            ended: rfc3339(now_ns()),
            machine: Machine::read(),
            plan: self.plan.clone(),
            symbols: self.symbols.len(),
        }
    }

    /// The clients of process number `process`: planned before the ramp begins, for it takes a while when they are many.
    pub(crate) fn clients(&self, process: usize) -> Vec<ClientPlan> {
        self.plan.clients(process, &self.symbols)
    }

    /// Runs the clients of process number `process` here, the ramp beginning at `start`.
    pub(crate) async fn run(
        self,
        process: usize,
        clients: Vec<ClientPlan>,
        start: Instant,
        mut stop: watch::Receiver<bool>,
        live: Arc<LiveStats>,
    ) -> Result<Report, FleetError> {
        let plan = Arc::new(self.plan.clone());
        let ClientOptions { trust, token, .. } = plan.client_options()?;
        let symbols = Arc::new(self.symbols.clone());
        let popularity = Arc::new(Popularity::new(symbols.len(), plan.zipf));
        let (phase, _) = watch::channel(Phase::Connect);
        live.set_phase(Phase::Connect);
        let mut crews = Vec::new();
        for _ in 0..plan.threads {
            let mut crew = Vec::new();
            for (gateway, (url, address)) in plan.urls.iter().zip(&self.addresses).enumerate() {
                let shared = Shared {
                    plan: Arc::clone(&plan),
                    symbols: Arc::clone(&symbols),
                    popularity: Arc::clone(&popularity),
                    target: Target::parse(url)?,
                    address: *address,
                    trust: trust.clone(),
                    token: token.clone(),
                    phase: phase.subscribe(),
                    cell: live.new_cell(gateway),
                    start,
                };
                crew.push((Arc::new(shared), Vec::new()));
            }
            crews.push(crew);
        }
        for client in clients {
            let place = plan.place(client.index);
            let (shared, theirs) = &mut crews[place.thread][place.gateway];
            shared.cell.lock().sessions.planned += 1;
            theirs.push(client);
        }
        let threads: Vec<_> = crews.into_iter().map(spawn).collect::<Result<_, _>>()?;
        // One process is enough to look at the gateways.
        let gateway_pids = match process {
            0 => self.gateway_pids.clone(),
            _ => vec![None; plan.urls.len()],
        };
        let window = Course::new(phase, &live, &mut stop, gateway_pids).run(&plan, start).await;
        for done in threads {
            done.await.map_err(|_| FleetError::Died)?;
        }
        Ok(self.report(window, &live))
    }

    fn report(&self, window: Window, live: &LiveStats) -> Report {
        let plan = &self.plan;
        let Totals { sessions, connect, tallies, latencies, recovery, ends, .. } = live.totals();
        let (mut latency, mut verification) = (BTreeMap::new(), BTreeMap::new());
        let (mut all_latencies, mut all_tallies) = (Latencies::default(), Tally::default());
        for (persona, latencies) in latencies {
            all_latencies.add(&latencies);
            latency.insert(persona.name().to_owned(), latencies);
        }
        for (persona, tally) in tallies.into_iter().filter(|(_, tally)| tally.messages > 0) {
            all_tallies.add(&tally);
            verification.insert(persona.name().to_owned(), tally);
        }
        latency.insert("all".to_owned(), all_latencies);
        verification.insert("all".to_owned(), all_tallies);
        let mut report = Report {
            schema: SCHEMA,
            runs: vec![self.run_info()],
            interrupted: window.interrupted,
            sessions,
            connect,
            measured: window.measured,
            latency,
            verification,
            recovery,
            ends,
            generator: Generator {
                processes: 1,
                threads: plan.threads,
                cpu_s: window.generator.cpu_s,
                cpu_percent: window.generator.cpu_percent,
                rss_max_bytes: window.generator.rss_max_bytes,
                lag: window.lag,
                late: false,
            },
            gateways: Vec::new(),
            asserts: Vec::new(),
            warnings: Vec::new(),
            failures: Vec::new(),
            passed: true,
        };
        report.sessions.open = window.gateways.iter().map(|seen| seen.open).sum();
        for (gateway, (url, seen)) in plan.urls.iter().zip(window.gateways).enumerate() {
            let mut totals = live.totals_at(gateway);
            report.gateways.push(AtGateway {
                url: url.clone(),
                measured: seen.measured,
                latency: totals.latencies.remove(&Persona::Healthy).unwrap_or_default(),
                verification: totals.all_tallies(),
                sessions: Sessions { open: seen.open, ..totals.sessions },
                process: seen.process,
            });
        }
        report.judge();
        report
    }
}

/// A report, unless nobody was reached: then nothing was run.
pub(crate) fn reached(report: Report) -> Result<Report, FleetError> {
    let sessions = &report.sessions;
    if sessions.established == 0 && sessions.failed > 0 {
        let first = sessions.samples.first().cloned().unwrap_or_default();
        return Err(FleetError::Unreachable(sessions.failed, first));
    }
    Ok(report)
}

/// The clients of one thread, by gateway.
type Crew = Vec<(Arc<Shared>, Vec<ClientPlan>)>;

/// Starts a thread for `crew`; its end is told by the receiver.
fn spawn(crew: Crew) -> Result<oneshot::Receiver<()>, FleetError> {
    let (done, ended) = oneshot::channel();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(FleetError::Thread)?;
    let work = move || {
        runtime.block_on(work(crew));
        // Nobody listens any more when the caller gave up.
        let _ = done.send(());
    };
    std::thread::Builder::new().name("load".to_owned()).spawn(work).map_err(FleetError::Thread)?;
    Ok(ended)
}

async fn work(crew: Crew) {
    // Lateness is the thread's, whichever gateway its clients are at.
    let lag = crew.first().map(|(shared, _)| tokio::spawn(watch_lag(Arc::clone(&shared.cell))));
    let mut tasks = Vec::new();
    for (shared, clients) in crew {
        tasks.extend(
            clients.into_iter().map(|client| tokio::spawn(subscriber::run(Arc::clone(&shared), client))),
        );
    }
    for task in tasks {
        // A panic of one client is on stderr already and shows as a session without an end.
        let _ = task.await;
    }
    if let Some(lag) = lag {
        lag.abort();
    }
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
