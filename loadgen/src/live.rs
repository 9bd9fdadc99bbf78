//! What a running fleet has counted so far, for a live line.

use crate::ends::Ends;
use crate::latency::{Latencies, Quantiles};
use crate::persona::Persona;
use crate::recovery::Recovery;
use crate::tally::Tally;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Phase {
    #[default]
    Connect,
    Warmup,
    Measure,
    Drain,
    End,
}

impl Phase {
    /// A word for a progress line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connecting",
            Self::Warmup => "warming up",
            Self::Measure => "measuring",
            Self::Drain => "draining",
            Self::End => "closing",
        }
    }
}

/// Counts of connections and sessions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sessions {
    /// Clients in the plan.
    pub planned: u64,
    /// Sessions that got their `hello`; returning clients count again.
    pub established: u64,
    /// Sessions whose requests were all answered.
    pub subscribed: u64,
    /// Sessions open now; at the end of the measurement in a report.
    pub open: u64,
    /// Attempts to connect that failed.
    pub failed: u64,
    /// Failed attempts by reason.
    pub failed_by_reason: BTreeMap<String, u64>,
    /// Sessions that the gateway ended although their persona does not deserve it.
    pub closed_early: u64,
    /// Sessions of stalled and slow clients that the gateway ended, as it may.
    pub cut_off: u64,
    /// Sessions of stalled and slow clients that were left, at the end of the run, before they had read all that
    /// waited for them: what the gateway did to them cannot be seen from here.
    #[serde(default)]
    pub unread: u64,
    /// Sessions that the gateway ended, by close code; `none` without a close frame.
    pub closes_by_code: BTreeMap<String, u64>,
    /// Sessions that clients ended themselves to return.
    pub returns: u64,
    /// Sessions that the gateway or the network ended, of clients that come back.
    #[serde(default)]
    pub lost: u64,
    /// Clients that came back and had caught up, each time.
    #[serde(default)]
    pub resumed: u64,
    /// Attempts to come back that failed.
    #[serde(default)]
    pub retries: u64,
    /// Clients that come back and had not, at the end of the run.
    #[serde(default)]
    pub not_back: u64,
    /// Descriptions of the first failures.
    pub samples: Vec<String>,
}

impl Sessions {
    /// Adds `other` to this.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.planned, other.planned),
            (&mut self.established, other.established),
            (&mut self.subscribed, other.subscribed),
            (&mut self.open, other.open),
            (&mut self.failed, other.failed),
            (&mut self.closed_early, other.closed_early),
            (&mut self.cut_off, other.cut_off),
            (&mut self.unread, other.unread),
            (&mut self.returns, other.returns),
            (&mut self.lost, other.lost),
            (&mut self.resumed, other.resumed),
            (&mut self.retries, other.retries),
            (&mut self.not_back, other.not_back),
        ] {
            *mine += theirs;
        }
        for (mine, theirs) in [
            (&mut self.failed_by_reason, &other.failed_by_reason),
            (&mut self.closes_by_code, &other.closes_by_code),
        ] {
            theirs.iter().for_each(|(name, count)| crate::tally::bump(mine, name, *count));
        }
        let room = crate::tally::SAMPLES_MAX.saturating_sub(self.samples.len());
        self.samples.extend(other.samples.iter().take(room).cloned());
    }

    pub(crate) fn sample(&mut self, text: impl FnOnce() -> String) {
        if self.samples.len() < crate::tally::SAMPLES_MAX {
            self.samples.push(text());
        }
    }
}

/// What one thread counts at one gateway. Locked once per message; the reader of the live line is its only rival.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) tallies: [Tally; 5],
    latencies: [Option<Box<Latencies>>; 5],
    pub(crate) sessions: Sessions,
    /// Sessions established that were not the first of their client.
    pub(crate) reopened: u64,
    /// From the intended start of a connection to its `hello`.
    pub(crate) connect: Latencies,
    /// How late the thread's own timer was.
    pub(crate) lag: Latencies,
    pub(crate) recovery: Recovery,
    pub(crate) ends: Ends,
    pub(crate) is_measuring: bool,
}

impl Recorder {
    /// The counts and, while measuring, the latencies of a persona.
    pub(crate) fn of(&mut self, persona: Persona) -> (&mut Tally, Option<&mut Latencies>) {
        let index = persona as usize;
        let latencies = self.is_measuring.then(|| &mut **self.latencies[index].get_or_insert_default());
        (&mut self.tallies[index], latencies)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Cell(Mutex<Recorder>);

impl Cell {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Recorder> {
        // A thread that panicked is reported as such; its counts stay readable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a fleet has counted so far: give it to [`crate::fleet::run`] and look at it meanwhile.
#[derive(Debug, Default)]
pub struct LiveStats {
    /// Of this process, each with the gateway that its clients are at.
    cells: Mutex<Vec<(usize, Arc<Cell>)>>,
    phase: Mutex<Phase>,
    /// What other processes of the same run said last.
    processes: Mutex<BTreeMap<usize, (Phase, Totals)>>,
}

/// A look at [`LiveStats`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LiveView {
    /// Where the run stands.
    pub phase: Phase,
    /// Connections and sessions.
    pub sessions: Sessions,
    /// Counts of all personas together.
    pub tally: Tally,
    /// Latency of the healthy clients, or of all when there are none, since the warm-up ended.
    pub latency: Quantiles,
    /// The generator's own lag since the warm-up ended.
    pub lag: Quantiles,
}

impl LiveStats {
    /// What was counted so far, added up over threads and processes.
    pub fn view(&self) -> LiveView {
        let (mut phase, mut totals) = (self.phase(), self.totals());
        let processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        // The last of them says where the run stands.
        phase = processes.values().map(|(phase, _)| *phase).min().unwrap_or(phase);
        processes.values().for_each(|(_, process)| totals.add(process));
        drop(processes);
        let healthy = totals.latencies.get(&Persona::Healthy).filter(|l| l.quantiles().count > 0);
        let latency = match healthy {
            Some(healthy) => healthy.quantiles(),
            None => totals.all_latencies().quantiles(),
        };
        LiveView {
            phase,
            tally: totals.all_tallies(),
            sessions: totals.sessions,
            latency,
            lag: totals.lag.quantiles(),
        }
    }

    /// What a scrape shows, added up over threads and processes.
    pub(crate) fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        for (_, cell) in self.cells().iter() {
            let recorder = cell.lock();
            figures.reopened += recorder.reopened;
            figures.add(
                &recorder.sessions,
                recorder.tallies.iter(),
                recorder.latencies.iter().flatten().map(|latencies| &**latencies),
                &recorder.lag,
            );
        }
        let processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, totals) in processes.values() {
            figures.reopened += totals.reopened;
            figures.add(&totals.sessions, totals.tallies.values(), totals.latencies.values(), &totals.lag);
        }
        figures
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what process `process` has counted so far.
    pub(crate) fn heard(&self, process: usize, phase: Phase, totals: Totals) {
        let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        processes.insert(process, (phase, totals));
    }

    /// A place to count for clients at gateway number `gateway`.
    pub(crate) fn new_cell(&self, gateway: usize) -> Arc<Cell> {
        let cell = Arc::new(Cell::default());
        self.cells().push((gateway, Arc::clone(&cell)));
        cell
    }

    /// Begins to measure, from zero.
    pub(crate) fn begin_measure(&self) {
        for (_, cell) in self.cells().iter() {
            let mut recorder = cell.lock();
            recorder.is_measuring = true;
            recorder.lag.reset();
        }
    }

    pub(crate) fn end_measure(&self) {
        self.cells().iter().for_each(|(_, cell)| cell.lock().is_measuring = false);
    }

    /// What this process has counted.
    pub(crate) fn totals(&self) -> Totals {
        self.totals_where(|_| true)
    }

    /// What this process has counted at gateway number `gateway`.
    pub(crate) fn totals_at(&self, gateway: usize) -> Totals {
        self.totals_where(|at| at == gateway)
    }

    fn totals_where(&self, is_meant: impl Fn(usize) -> bool) -> Totals {
        let mut totals = Totals::default();
        for (_, cell) in self.cells().iter().filter(|(gateway, _)| is_meant(*gateway)) {
            let recorder = cell.lock();
            for (persona, (tally, latencies)) in
                Persona::ALL.into_iter().zip(recorder.tallies.iter().zip(&recorder.latencies))
            {
                totals.tallies.entry(persona).or_default().add(tally);
                if let Some(latencies) = latencies {
                    totals.latencies.entry(persona).or_default().add(latencies);
                }
            }
            totals.sessions.add(&recorder.sessions);
            totals.reopened += recorder.reopened;
            totals.connect.add(&recorder.connect);
            totals.lag.add(&recorder.lag);
            totals.recovery.add(&recorder.recovery);
            totals.ends.add(&recorder.ends);
        }
        totals
    }

    fn cells(&self) -> MutexGuard<'_, Vec<(usize, Arc<Cell>)>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The few totals that a scrape shows: a thread that counts waits no longer for it than these take to be added up.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) planned: u64,
    pub(crate) open: u64,
    pub(crate) reopened: u64,
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    pub(crate) gaps: u64,
    pub(crate) unannounced: u64,
    /// Of all personas.
    pub(crate) latency: Latencies,
    pub(crate) lag: Latencies,
}

impl Figures {
    fn add<'a>(
        &mut self,
        sessions: &Sessions,
        tallies: impl Iterator<Item = &'a Tally>,
        latencies: impl Iterator<Item = &'a Latencies>,
        lag: &Latencies,
    ) {
        self.planned += sessions.planned;
        self.open += sessions.open;
        for tally in tallies {
            self.events += tally.events;
            self.bytes += tally.bytes;
            self.gaps += tally.gaps;
            self.unannounced += tally.unannounced;
        }
        latencies.for_each(|latencies| self.latency.add(latencies));
        self.lag.add(lag);
    }
}

/// Everything that was counted, added up over the threads.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Totals {
    pub(crate) tallies: BTreeMap<Persona, Tally>,
    pub(crate) latencies: BTreeMap<Persona, Latencies>,
    pub(crate) sessions: Sessions,
    #[serde(default)]
    pub(crate) reopened: u64,
    pub(crate) connect: Latencies,
    pub(crate) lag: Latencies,
    #[serde(default)]
    pub(crate) recovery: Recovery,
    /// Not while it runs.
    #[serde(skip)]
    pub(crate) ends: Ends,
}

impl Totals {
    fn add(&mut self, other: &Self) {
        for (persona, tally) in &other.tallies {
            self.tallies.entry(*persona).or_default().add(tally);
        }
        for (persona, latencies) in &other.latencies {
            self.latencies.entry(*persona).or_default().add(latencies);
        }
        self.sessions.add(&other.sessions);
        self.reopened += other.reopened;
        self.connect.add(&other.connect);
        self.lag.add(&other.lag);
        self.recovery.add(&other.recovery);
    }

    pub(crate) fn all_tallies(&self) -> Tally {
        let mut all = Tally::default();
        self.tallies.values().for_each(|tally| all.add(tally));
        all
    }

    pub(crate) fn all_latencies(&self) -> Latencies {
        let mut all = Latencies::default();
        self.latencies.values().for_each(|latencies| all.add(latencies));
        all
    }
}
