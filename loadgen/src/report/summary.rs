//! The report as a person reads it.

use super::Report;
use crate::clock::time_of_day;
use crate::latency::human;
use std::fmt::Write as _;

/// Most outages that are listed.
const OUTAGES_SHOWN: usize = 30;

impl Report {
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
        let c = self.connect.quantiles();
        if c.count > 0 {
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
        for (name, q) in
            self.latency.iter().map(|(name, l)| (name, l.quantiles())).filter(|(_, q)| q.count > 0)
        {
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
        self.write_recovery(out)?;
        for (title, counts) in [
            ("errors", &all.errors),
            ("gaps", &all.gaps_by_cause),
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
        self.write_gateways(out)?;
        let generator = &self.generator;
        let processes = match generator.processes {
            0 | 1 => String::new(),
            count => format!(" ({count} processes)"),
        };
        let lag = generator.lag.quantiles();
        writeln!(
            out,
            "generator{processes}: {:.0}% of a core, {} resident, own lag p99 {} max {}",
            generator.cpu_percent,
            bytes(generator.rss_max_bytes as f64),
            human(lag.p99_ns),
            human(lag.max_ns)
        )?;
        for judged in &self.asserts {
            let verdict = if judged.passed { "ok" } else { "FAILED" };
            writeln!(out, "assert {}: {} {verdict}", judged.assertion, judged.actual)?;
        }
        for warning in &self.warnings {
            writeln!(out, "warning: {warning}")?;
        }
        let behind = self.ends.behind().1;
        for sample in all.samples.iter().chain(&sessions.samples).chain(&behind).take(10) {
            writeln!(out, "note: {sample}")?;
        }
        let interrupted = if self.interrupted { " (stopped before its time)" } else { "" };
        match self.passed {
            true => writeln!(out, "PASSED{interrupted}"),
            false => writeln!(out, "FAILED{interrupted}: {}", self.failures.join("; ")),
        }
    }
    /// Who lost a session and came back: nothing when nobody did.
    fn write_recovery(&self, out: &mut String) -> std::fmt::Result {
        let took = self.recovery.all().quantiles();
        if self.recovery.by_second.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "\ncame back {} times, {} not; attempts in vain {}; p50 {}  p99 {}  max {}",
            self.sessions.resumed,
            self.sessions.not_back,
            self.sessions.retries,
            human(took.p50_ns),
            human(took.p99_ns),
            human(took.max_ns)
        )?;
        writeln!(
            out,
            "{:<20} {:>8} {:>8} {:>7} {:>8} {:>8} {:>9} {:>8} {:>7} {:>6} {:>9}",
            "lost at (UTC)",
            "clients",
            "back",
            "in vain",
            "mean",
            "max",
            "replayed",
            "resent",
            "lost",
            "gaps",
            "duplicate"
        )?;
        let outages = self.recovery.outages();
        for (seconds, outage) in outages.iter().take(OUTAGES_SHOWN) {
            let lasted = seconds.end() - seconds.start() + 1;
            let at = time_of_day(seconds.start().saturating_mul(1_000_000_000));
            let time = at.get(..8).unwrap_or(&at);
            writeln!(
                out,
                "{:<20} {:>8} {:>8} {:>7} {:>8} {:>8} {:>9} {:>8} {:>7} {:>6} {:>9}",
                format!("{time} for {lasted} s"),
                outage.clients,
                outage.back,
                outage.retries,
                human(outage.took_mean_ms() * 1_000_000),
                human(outage.took_max_ms * 1_000_000),
                outage.found.replayed,
                outage.found.resent,
                outage.found.unannounced,
                outage.found.gaps,
                outage.found.duplicates
            )?;
        }
        match outages.len().saturating_sub(OUTAGES_SHOWN) {
            0 => Ok(()),
            more => writeln!(out, "and {more} more, which the report names"),
        }
    }
    /// Of one gateway what it used, for everything else stands above; of several a line each.
    fn write_gateways(&self, out: &mut String) -> std::fmt::Result {
        if let [gateway] = &self.gateways[..] {
            let Some(process) = &gateway.process else { return Ok(()) };
            let whose = if process.in_process { "gateway and generator in one process" } else { "gateway" };
            return writeln!(
                out,
                "{whose} (pid {}): {:.0}% of a core, {} resident, {} threads",
                process.pid,
                process.cpu_percent,
                bytes(process.rss_max_bytes as f64),
                process.threads
            );
        }
        let width = self.gateways.iter().map(|g| g.url.len()).max().unwrap_or(0);
        writeln!(
            out,
            "{:<width$} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>6} {:>10}",
            "gateway", "sessions", "events/s", "p50", "p99", "lost", "gaps", "cpu", "resident"
        )?;
        for gateway in &self.gateways {
            let latency = gateway.latency.quantiles();
            let [p50, p99] = match latency.count {
                0 => [String::from("-"), String::from("-")],
                _ => [latency.p50_ns, latency.p99_ns].map(human),
            };
            let (cpu, resident) = match &gateway.process {
                Some(process) => {
                    (format!("{:.0}%", process.cpu_percent), bytes(process.rss_max_bytes as f64))
                }
                None => ("-".to_owned(), "-".to_owned()),
            };
            writeln!(
                out,
                "{:<width$} {:>8} {:>9} {p50:>9} {p99:>9} {:>9} {:>9} {cpu:>6} {resident:>10}",
                gateway.url,
                gateway.sessions.open,
                rate(gateway.measured.events_per_s),
                gateway.verification.unannounced,
                gateway.verification.gaps,
            )?;
        }
        writeln!(out)
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
