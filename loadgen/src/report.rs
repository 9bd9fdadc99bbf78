//! The report of a run: one JSON document, a table for a person, and percentile files.
//!
//! The README describes every field. `schema` grows when a field changes its meaning or goes away. Everything in a
//! report adds up: reports of several processes or machines make one, and that one is judged.

mod merge;
mod summary;

use crate::asserts::{Assert, Judged};
use crate::ends::Ends;
use crate::gateway_process::Spent;
use crate::latency::{Latencies, Quantiles, human};
use crate::live::Sessions;
use crate::machine::Machine;
use crate::persona::Persona;
use crate::plan::Plan;
use crate::recovery::Recovery;
use crate::report_file;
use crate::tally::Tally;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

pub use merge::{MergeError, ReadError};
pub use summary::{bytes, rate};

/// Version of the report's layout.
pub const SCHEMA: u32 = 2;

/// What a timer that is not late may be off by: tokio's go by whole milliseconds, and the kernel's add some.
const TIMER_NS: u64 = 2_000_000;
const NOTHING_CAME: &str = "no event came while measuring: does the feed run, and are there such symbols? \
                            (--allow-empty lets that pass)";

/// Everything that a run found out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What was run: one, or of merged reports one for each.
    pub runs: Vec<Run>,
    /// Whether it was stopped before its time.
    pub interrupted: bool,
    /// Connections and sessions.
    pub sessions: Sessions,
    /// From the intended start of a connection to its `hello`.
    pub connect: Latencies,
    /// What came during the measurement.
    pub measured: Measured,
    /// Latency by persona, and of `all`, during the measurement.
    pub latency: BTreeMap<String, Latencies>,
    /// What verification found by persona, and of `all`, from the first message to the last.
    pub verification: BTreeMap<String, Tally>,
    /// How clients came back that had lost their session.
    #[serde(default)]
    pub recovery: Recovery,
    /// Where clients stood at the end, of a feed that had ended before.
    #[serde(default)]
    pub ends: Ends,
    /// What the generator itself used, and how late it was.
    pub generator: Generator,
    /// The same for each gateway by itself.
    pub gateways: Vec<AtGateway>,
    /// What was asserted.
    pub asserts: Vec<Judged>,
    /// What to know before the figures are used, beside failures.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Why the run failed; empty when it passed.
    pub failures: Vec<String>,
    /// Whether it passed.
    pub passed: bool,
}

/// One run of this program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Name and version of this program.
    pub tool: String,
    /// The command line.
    pub command: Vec<String>,
    /// When the run began, UTC.
    pub started: String,
    /// When it ended, UTC.
    pub ended: String,
    /// Where it ran.
    pub machine: Machine,
    /// What it did.
    pub plan: Plan,
    /// Symbols that it chose from.
    pub symbols: usize,
}

/// What was seen of one gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AtGateway {
    /// Where it is.
    pub url: String,
    /// Connections and sessions.
    pub sessions: Sessions,
    /// What came from it during the measurement.
    pub measured: Measured,
    /// Latency of its healthy clients during the measurement.
    pub latency: Latencies,
    /// What verification found in all its sessions.
    pub verification: Tally,
    /// What it used; absent when its process is not known.
    pub process: Option<Spent>,
}

/// What came during the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Measured {
    /// When it began, since the Unix epoch.
    pub began_ns: i64,
    /// Its length; 0 when the run was stopped before it began.
    pub seconds: f64,
    pub events: u64,
    pub messages: u64,
    pub bytes: u64,
    pub events_per_s: f64,
    pub messages_per_s: f64,
    pub bytes_per_s: f64,
    /// How well the gateway batches.
    pub events_per_message: f64,
}

impl Measured {
    /// What came between two counts, the first at `began_ns`, `seconds` apart.
    pub fn between(before: &Tally, after: &Tally, began_ns: i64, seconds: f64) -> Self {
        let mut measured = Self {
            began_ns,
            seconds,
            events: after.events.saturating_sub(before.events),
            messages: after.messages.saturating_sub(before.messages),
            bytes: after.bytes.saturating_sub(before.bytes),
            ..Self::default()
        };
        measured.divide();
        measured
    }

    /// Adds `other`. Rates are over the time from the first beginning to the last end, so that measurements that do not
    /// quite coincide are never made more of than they are.
    pub fn add(&mut self, other: &Self) {
        if other.seconds == 0.0 {
            return;
        }
        if self.seconds == 0.0 {
            *self = *other;
            return;
        }
        let ended_ns = self.ended_ns().max(other.ended_ns());
        self.began_ns = self.began_ns.min(other.began_ns);
        self.seconds = (ended_ns - self.began_ns) as f64 / 1e9;
        self.events += other.events;
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.divide();
    }

    fn ended_ns(&self) -> i64 {
        self.began_ns + (self.seconds * 1e9).round() as i64
    }

    fn divide(&mut self) {
        let per = |count: u64, of: f64| if of > 0.0 { count as f64 / of } else { 0.0 };
        self.events_per_s = per(self.events, self.seconds);
        self.messages_per_s = per(self.messages, self.seconds);
        self.bytes_per_s = per(self.bytes, self.seconds);
        self.events_per_message = per(self.events, self.messages as f64);
    }
}

/// What the generator itself used, all its processes together, and how late it was.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Generator {
    pub processes: usize,
    pub threads: usize,
    pub cpu_s: f64,
    /// Processor time in percent of one core.
    pub cpu_percent: f64,
    pub rss_max_bytes: u64,
    /// How late its own timers were: latencies below this are not to be trusted.
    pub lag: Latencies,
    /// Whether latencies are partly the generator's own: the 99th percentile of its lag is over 2 ms, and over half of
    /// the 99th percentile of all latencies or over the bound of an assertion on a latency.
    #[serde(default)]
    pub late: bool,
}

impl Report {
    /// Latency of a persona by name, or of `all`; zeros where nothing was measured.
    pub fn latency_of(&self, name: &str) -> Quantiles {
        self.latency.get(name).map(Latencies::quantiles).unwrap_or_default()
    }

    /// Counts of a persona by name, or of `all`.
    pub fn tally_of(&self, name: &str) -> Tally {
        self.verification.get(name).cloned().unwrap_or_default()
    }

    /// Sums up what makes a run fail, beside assertions.
    pub(crate) fn judge(&mut self) {
        let all = self.tally_of("all");
        let mut failures = Vec::new();
        let mut fail = |count: u64, what: &str| {
            if count > 0 {
                failures.push(format!("{count} {what}"));
            }
        };
        fail(all.unannounced, "unannounced losses");
        // Nobody else can say what a client has seen that comes back.
        if self.runs.iter().any(|run| run.plan.resume.comes_back()) {
            fail(all.duplicates, "events that came twice");
        }
        fail(all.gaps_misfit, "gaps that do not begin where the last event ended");
        fail(all.unasked, "events without an acknowledged subscription");
        fail(all.behind_cursor, "events behind the cursor of a heartbeat");
        fail(all.unreadable, "messages that cannot be read");
        fail(all.refused.values().sum(), "refused subscriptions");
        fail(self.sessions.closed_early, "sessions closed that should have lasted");
        fail(self.sessions.failed, "connections that could not be opened");
        fail(self.ends.behind().0, "pairs of a client that end before those of other clients");
        if !self.interrupted {
            let missing =
                self.sessions.planned.saturating_sub(self.sessions.established + self.sessions.failed);
            fail(missing, "connections without a session by the end");
            fail(self.sessions.not_back, "clients that had not come back and caught up by the end");
            if self.measured.events == 0 && !self.runs.iter().all(|run| run.plan.allow_empty) {
                failures.push(NOTHING_CAME.to_owned());
            }
            // Of merged runs the strictest counts.
            let lag_max_ms = self.runs.iter().map(|run| run.plan.lag_max_ms).min().unwrap_or(0);
            let (lag, bound) = (self.generator.lag.quantiles().max_ns, lag_max_ms * 1_000_000);
            if lag > bound {
                let (lag, bound) = (human(lag), human(bound));
                failures.push(format!("the generator itself was {lag} late, at most {bound} is trusted"));
            }
        }
        self.failures = failures;
        self.passed = self.failures.is_empty();
        let measured = self.latency_of("all");
        self.generator.late = measured.count > 0 && self.is_lag_over(measured.p99_ns / 2);
        self.warn();
    }

    /// Takes the verdicts of assertions into the report.
    pub fn assert_all(&mut self, asserts: &[Assert]) {
        // First, because every assertion on a latency that fails names it.
        self.generator.late |=
            asserts.iter().filter_map(Assert::latency_bound_ns).any(|bound_ns| self.is_lag_over(bound_ns));
        self.warn();
        for assert in asserts {
            let judged = assert.judge(self);
            if !judged.passed {
                let mut failure = format!("assertion failed: {} is {}", judged.assertion, judged.actual);
                if self.generator.late && assert.latency_bound_ns().is_some() {
                    failure += &format!(
                        " (the generator was late by itself: lag p99 {})",
                        human(self.generator.lag.at(0.99))
                    );
                }
                self.failures.push(failure);
            }
            self.asserts.push(judged);
        }
        self.passed = self.failures.is_empty();
    }

    /// Whether the generator's own lag says that a latency of `latency_ns` was its own doing.
    fn is_lag_over(&self, latency_ns: u64) -> bool {
        self.generator.lag.at(0.99) > latency_ns.max(TIMER_NS)
    }

    fn warn(&mut self) {
        self.warnings.clear();
        if self.generator.late {
            self.warnings.push(format!(
                "the generator was late by itself (lag p99 {}): latencies above are partly its own; use fewer \
                 connections, more threads, more processes or another machine",
                human(self.generator.lag.at(0.99))
            ));
        }
    }

    /// Writes the JSON document to `path`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_json(&self, path: &Path) -> io::Result<()> {
        report_file::write(path, |out| {
            serde_json::to_writer_pretty(&mut *out, self)?;
            out.write_all(b"\n")
        })
    }

    /// Writes percentile files beside the JSON document at `path`: `x.hgrm` for the healthy clients, `x.PERSONA.hgrm`
    /// for the others, where they measured anything. Returns what was written: nothing beside a pipe or a device.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_hgrm(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut written = Vec::new();
        if !report_file::has_neighbours(path) {
            return Ok(written);
        }
        for persona in Persona::ALL {
            let Some(latencies) = self.latency.get(persona.name()).filter(|l| l.quantiles().count > 0) else {
                continue;
            };
            let path = match persona {
                Persona::Healthy => path.with_extension("hgrm"),
                other => path.with_extension(format!("{}.hgrm", other.name())),
            };
            report_file::write(&path, |mut out| latencies.write_hgrm(&mut out))?;
            written.push(path);
        }
        Ok(written)
    }
}

#[cfg(test)]
pub(crate) mod tests;
