//! The report of a run: one JSON document, a table for a person, and percentile files.
//!
//! The README describes every field. `schema` grows when a field changes its meaning or goes away.

use crate::asserts::{Assert, Judged};
use crate::gateway_process::Spent;
use crate::latency::{Latencies, Quantiles, human};
use crate::live::Sessions;
use crate::machine::Machine;
use crate::persona::Persona;
use crate::plan::Plan;
use crate::report_file;
use crate::tally::Tally;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

/// Version of the report's layout.
pub const SCHEMA: u32 = 1;

/// What a timer that is not late may be off by: tokio's go by whole milliseconds, and the kernel's add some.
const TIMER_NS: u64 = 2_000_000;
const NOTHING_CAME: &str = "no event came while measuring: does the feed run, and are there such symbols? \
                            (--allow-empty lets that pass)";

/// Everything that a run found out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Name and version of this program.
    pub tool: String,
    /// The command line.
    pub command: Vec<String>,
    /// When the run began, UTC.
    pub started: String,
    /// When it ended, UTC.
    pub ended: String,
    /// Whether it was stopped before its time.
    pub interrupted: bool,
    /// Where it ran.
    pub machine: Machine,
    /// What it did.
    pub plan: Plan,
    /// Symbols that it chose from.
    pub symbols: usize,
    /// Connections and sessions.
    pub sessions: Sessions,
    /// From the intended start of a connection to its `hello`.
    pub connect: Quantiles,
    /// What came during the measurement.
    pub measured: Measured,
    /// Latency by persona, and of `all`, during the measurement.
    pub latency: BTreeMap<String, Quantiles>,
    /// What verification found by persona, and of `all`, from the first message to the last.
    pub verification: BTreeMap<String, Tally>,
    /// What the generator itself used, and how late it was.
    pub generator: Generator,
    /// What the gateway used; absent when its process is not known.
    pub gateway: Option<Spent>,
    /// What was asserted.
    pub asserts: Vec<Judged>,
    /// What to know before the figures are used, beside failures.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Why the run failed; empty when it passed.
    pub failures: Vec<String>,
    /// Whether it passed.
    pub passed: bool,
    /// The full distributions, for percentile files.
    #[serde(skip)]
    pub distributions: BTreeMap<Persona, Latencies>,
}

/// What came during the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Measured {
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
    /// What came between two counts, `seconds` apart.
    pub fn between(before: &Tally, after: &Tally, seconds: f64) -> Self {
        let events = after.events.saturating_sub(before.events);
        let messages = after.messages.saturating_sub(before.messages);
        let bytes = after.bytes.saturating_sub(before.bytes);
        let per = |count: u64, of: f64| if of > 0.0 { count as f64 / of } else { 0.0 };
        Self {
            seconds,
            events,
            messages,
            bytes,
            events_per_s: per(events, seconds),
            messages_per_s: per(messages, seconds),
            bytes_per_s: per(bytes, seconds),
            events_per_message: per(events, messages as f64),
        }
    }
}

/// What the generator itself used, and how late it was.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Generator {
    pub threads: usize,
    pub cpu_s: f64,
    /// Processor time in percent of one core.
    pub cpu_percent: f64,
    pub rss_max_bytes: u64,
    /// How late its own timers were: latencies below this are not to be trusted.
    pub lag: Quantiles,
    /// Whether latencies are partly the generator's own: the 99th percentile of its lag is over 2 ms, and over half of
    /// the 99th percentile of all latencies or over the bound of an assertion on a latency.
    #[serde(default)]
    pub late: bool,
}

impl Report {
    /// Latency of a persona by name, or of `all`; zeros where nothing was measured.
    pub fn latency_of(&self, name: &str) -> Quantiles {
        self.latency.get(name).copied().unwrap_or_default()
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
        fail(all.gaps_misfit, "gaps that do not begin where the last event ended");
        fail(all.unasked, "events without an acknowledged subscription");
        fail(all.behind_cursor, "events behind the cursor of a heartbeat");
        fail(all.unreadable, "messages that cannot be read");
        fail(all.refused.values().sum(), "refused subscriptions");
        fail(self.sessions.closed_early, "sessions closed that should have lasted");
        fail(self.sessions.failed, "connections that could not be opened");
        if !self.interrupted {
            let missing =
                self.sessions.planned.saturating_sub(self.sessions.established + self.sessions.failed);
            fail(missing, "connections without a session by the end");
            if self.measured.events == 0 && !self.plan.allow_empty {
                failures.push(NOTHING_CAME.to_owned());
            }
            let (lag, bound) = (self.generator.lag.max_ns, self.plan.lag_max_ms * 1_000_000);
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
                        human(self.generator.lag.p99_ns)
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
        self.generator.lag.p99_ns > latency_ns.max(TIMER_NS)
    }

    fn warn(&mut self) {
        self.warnings.clear();
        if self.generator.late {
            self.warnings.push(format!(
                "the generator was late by itself (lag p99 {}): latencies above are partly its own; use fewer \
                 connections, more threads or another machine",
                human(self.generator.lag.p99_ns)
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
        for (persona, latencies) in &self.distributions {
            if latencies.quantiles().count == 0 {
                continue;
            }
            let path = match persona {
                Persona::Healthy => path.with_extension("hgrm"),
                other => path.with_extension(format!("{}.hgrm", other.name())),
            };
            report_file::write(&path, |mut out| latencies.write_hgrm(&mut out))?;
            written.push(path);
        }
        Ok(written)
    }

    /// The summary for a person.
    pub fn summary(&self) -> String {
        let mut out = String::new();
        let _ = self.write_summary(&mut out);
        out
    }

    fn write_summary(&self, out: &mut String) -> std::fmt::Result {
        let (sessions, measured, all) = (&self.sessions, &self.measured, self.tally_of("all"));
        writeln!(
            out,
            "sessions   {} planned, {} established, {} failed, {} closed early, {} cut off, {} returned",
            sessions.planned,
            sessions.established,
            sessions.failed,
            sessions.closed_early,
            sessions.cut_off,
            sessions.returns
        )?;
        if sessions.unread > 0 {
            writeln!(
                out,
                "           {} of them left unread at the end: the gateway may have cut off some of those, too",
                sessions.unread
            )?;
        }
        if self.connect.count > 0 {
            let c = &self.connect;
            writeln!(
                out,
                "connect    p50 {}  p99 {}  max {}",
                human(c.p50_ns),
                human(c.p99_ns),
                human(c.max_ns)
            )?;
        }
        writeln!(
            out,
            "measured   {:.1} s: {} events ({}/s) in {} messages ({:.1} events each), {}/s",
            measured.seconds,
            measured.events,
            rate(measured.events_per_s),
            measured.messages,
            measured.events_per_message,
            bytes(measured.bytes_per_s)
        )?;
        writeln!(
            out,
            "\n{:<13} {:>11} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "latency", "events", "p50", "p90", "p99", "p99.9", "p99.99", "max"
        )?;
        for (name, q) in self.latency.iter().filter(|(_, q)| q.count > 0) {
            let cells = [q.p50_ns, q.p90_ns, q.p99_ns, q.p99_9_ns, q.p99_99_ns, q.max_ns].map(human);
            let [p50, p90, p99, p99_9, p99_99, max] = cells;
            writeln!(
                out,
                "{name:<13} {:>11} {p50:>9} {p90:>9} {p99:>9} {p99_9:>9} {p99_99:>9} {max:>9}",
                q.count
            )?;
        }
        let latency = self.latency_of("all");
        if measured.events == 0 {
            writeln!(out, "nothing was measured: no event came")?;
        } else if latency.count == 0 {
            writeln!(out, "nothing was measured: {} events carried no send_ns", latency.unstamped)?;
        }
        if latency.negative + latency.beyond_1h > 0 {
            writeln!(
                out,
                "{} events came before they were meant to be sent, {} over an hour after",
                latency.negative, latency.beyond_1h
            )?;
        }
        writeln!(
            out,
            "\n{:<13} {:>11} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "verified", "events", "lost", "gaps", "in gaps", "conflated", "duplicate", "unverif."
        )?;
        for (name, t) in self.verification.iter().filter(|(_, t)| t.messages > 0) {
            writeln!(
                out,
                "{name:<13} {:>11} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
                t.events, t.unannounced, t.gaps, t.gap_events, t.conflated, t.duplicates, t.unverified
            )?;
        }
        for (title, counts) in [
            ("errors", &all.errors),
            ("closes", &sessions.closes_by_code),
            ("failed", &sessions.failed_by_reason),
        ] {
            if !counts.is_empty() {
                let list: Vec<String> =
                    counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
                writeln!(out, "{title:<10} {}", list.join(", "))?;
            }
        }
        writeln!(out)?;
        if let Some(gateway) = &self.gateway {
            let whose = if gateway.in_process { "gateway and generator in one process" } else { "gateway" };
            writeln!(
                out,
                "{whose} (pid {}): {:.0}% of a core, {} resident, {} threads",
                gateway.pid,
                gateway.cpu_percent,
                bytes(gateway.rss_max_bytes as f64),
                gateway.threads
            )?;
        }
        let generator = &self.generator;
        writeln!(
            out,
            "generator: {:.0}% of a core, {} resident, own lag p99 {} max {}",
            generator.cpu_percent,
            bytes(generator.rss_max_bytes as f64),
            human(generator.lag.p99_ns),
            human(generator.lag.max_ns)
        )?;
        for judged in &self.asserts {
            let verdict = if judged.passed { "ok" } else { "FAILED" };
            writeln!(out, "assert {}: {} {verdict}", judged.assertion, judged.actual)?;
        }
        for warning in &self.warnings {
            writeln!(out, "warning: {warning}")?;
        }
        for sample in all.samples.iter().chain(&sessions.samples).take(10) {
            writeln!(out, "note: {sample}")?;
        }
        let interrupted = if self.interrupted { " (stopped before its time)" } else { "" };
        match self.passed {
            true => writeln!(out, "PASSED{interrupted}"),
            false => writeln!(out, "FAILED{interrupted}: {}", self.failures.join("; ")),
        }
    }
}

/// A rate for a person: `850`, `12.3k`, `4.56M`.
pub fn rate(per_s: f64) -> String {
    match per_s {
        p if p < 1e4 => format!("{p:.0}"),
        p if p < 1e6 => format!("{:.1}k", p / 1e3),
        p => format!("{:.2}M", p / 1e6),
    }
}

/// Bytes for a person: `850 B`, `12.3 KiB`, `4.5 MiB`.
pub fn bytes(count: f64) -> String {
    const KIB: f64 = 1024.0;
    match count {
        c if c < KIB => format!("{c:.0} B"),
        c if c < KIB * KIB => format!("{:.1} KiB", c / KIB),
        c if c < KIB * KIB * KIB => format!("{:.1} MiB", c / KIB / KIB),
        c => format!("{:.2} GiB", c / KIB / KIB / KIB),
    }
}

#[cfg(test)]
pub(crate) mod tests;
