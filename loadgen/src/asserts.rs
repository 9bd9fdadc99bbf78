//! Assertions on a report: `p99<5ms`, `stalled.gaps>0`, `unannounced==0`.

use crate::latency::{Quantiles, human};
use crate::persona::Persona;
use crate::report::{Report, bytes, rate};
use crate::tally::Tally;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// A figure of a report, an operator and a bound.
#[derive(Debug, Clone, PartialEq)]
pub struct Assert {
    text: String,
    metric: Metric,
    operator: Operator,
    bound: f64,
}

/// What became of an assertion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// As it was given.
    pub assertion: String,
    /// The figure.
    pub actual: String,
    /// Whether it holds.
    pub passed: bool,
}

/// A text that is no assertion.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}`: {reason}")]
pub struct BadAssert {
    text: String,
    reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Below,
    AtMost,
    Above,
    AtLeast,
    Equal,
    Unequal,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Metric {
    /// A persona, `all`, or a part of the report.
    of: String,
    name: String,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Time,
    Bytes,
    Percent,
    Count,
}

const LATENCIES: [&str; 8] = ["p50", "p90", "p99", "p99.9", "p99.99", "max", "min", "mean"];

impl FromStr for Assert {
    type Err = BadAssert;

    fn from_str(text: &str) -> Result<Self, BadAssert> {
        parse(text).map_err(|reason| BadAssert { text: text.to_owned(), reason })
    }
}

fn parse(text: &str) -> Result<Assert, String> {
    let at = text.find(['<', '>', '=', '!']).ok_or("expected FIGURE OPERATOR BOUND, like p99<5ms")?;
    let (name, rest) = text.split_at(at);
    let digits = rest.find(|c| !matches!(c, '<' | '>' | '=' | '!')).unwrap_or(rest.len());
    let (operator, bound) = rest.split_at(digits);
    let operator = match operator {
        "<" => Operator::Below,
        "<=" => Operator::AtMost,
        ">" => Operator::Above,
        ">=" => Operator::AtLeast,
        "==" | "=" => Operator::Equal,
        "!=" => Operator::Unequal,
        other => return Err(format!("`{other}` is no operator: there are < <= > >= == !=")),
    };
    let metric = Metric::parse(name.trim())?;
    let bound = metric.unit.read(bound.trim())?;
    Ok(Assert { text: text.trim().to_owned(), metric, operator, bound })
}

impl Metric {
    fn parse(name: &str) -> Result<Self, String> {
        let scope = |of: &str| of == "all" || Persona::ALL.iter().any(|p| p.name() == of);
        let (of, name) = match name.split_once('.') {
            Some((of, name))
                if scope(of) || ["connect", "lag", "recovery", "gateway", "generator"].contains(&of) =>
            {
                (of, name)
            }
            _ => ("", name),
        };
        let is_latency = LATENCIES.contains(&name);
        let (of, unit) = match (of, name) {
            ("connect" | "lag" | "recovery", _) if is_latency => (of, Unit::Time),
            ("gateway" | "generator", "cpu") => (of, Unit::Percent),
            ("gateway" | "generator", "rss") => (of, Unit::Bytes),
            ("", _) if is_latency => (Persona::Healthy.name(), Unit::Time),
            (of, _) if scope(of) && is_latency => (of, Unit::Time),
            ("", "bytes_per_s") => ("", Unit::Bytes),
            ("", "events_per_s" | "messages_per_s" | "events_per_message") => ("", Unit::Count),
            (
                "",
                "planned" | "established" | "subscribed" | "failed" | "closed_early" | "cut_off" | "returns"
                | "sessions_lost" | "resumed" | "retries" | "not_back" | "behind",
            ) => ("", Unit::Count),
            ("", _) if latency_count(name, &Quantiles::default()).is_some() => {
                (Persona::Healthy.name(), Unit::Count)
            }
            (of, _) if scope(of) && latency_count(name, &Quantiles::default()).is_some() => (of, Unit::Count),
            ("" | "all", "bytes") => ("all", Unit::Bytes),
            (of, "bytes") if scope(of) => (of, Unit::Bytes),
            ("", _) if tally_count(name, &Tally::default()).is_some() => ("all", Unit::Count),
            (of, _) if scope(of) && tally_count(name, &Tally::default()).is_some() => (of, Unit::Count),
            _ => return Err(format!("`{name}` is no figure of a report: {}", known())),
        };
        Ok(Self { of: of.to_owned(), name: name.to_owned(), unit })
    }

    /// The figure; `None` when it was not measured.
    fn read(&self, report: &Report) -> Option<f64> {
        let (of, name) = (self.of.as_str(), self.name.as_str());
        let (sessions, measured) = (&report.sessions, &report.measured);
        let spent = match of {
            // Of several gateways the one that uses most: a bound has to hold for each of them.
            "gateway" => {
                let each: Option<Vec<_>> = report.gateways.iter().map(|gateway| gateway.process).collect();
                each.filter(|each| !each.is_empty()).map(|each| {
                    let cpu_percent = each.iter().map(|spent| spent.cpu_percent).fold(0.0, f64::max);
                    (cpu_percent, each.iter().map(|spent| spent.rss_max_bytes).fold(0, u64::max))
                })
            }
            _ => Some((report.generator.cpu_percent, report.generator.rss_max_bytes)),
        };
        match name {
            "cpu" => spent.map(|(cpu_percent, _)| cpu_percent),
            "rss" => spent.map(|(_, rss_bytes)| rss_bytes as f64),
            "events_per_s" => Some(measured.events_per_s),
            "messages_per_s" => Some(measured.messages_per_s),
            "bytes_per_s" => Some(measured.bytes_per_s),
            "events_per_message" => Some(measured.events_per_message),
            "planned" => Some(sessions.planned as f64),
            "established" => Some(sessions.established as f64),
            "subscribed" if of.is_empty() => Some(sessions.subscribed as f64),
            "failed" => Some(sessions.failed as f64),
            "closed_early" => Some(sessions.closed_early as f64),
            "cut_off" => Some(sessions.cut_off as f64),
            "returns" => Some(sessions.returns as f64),
            "sessions_lost" => Some(sessions.lost as f64),
            "resumed" => Some(sessions.resumed as f64),
            "retries" => Some(sessions.retries as f64),
            "not_back" => Some(sessions.not_back as f64),
            "behind" => Some(report.ends.behind().0 as f64),
            _ => {
                let quantiles = match of {
                    "connect" => report.connect.quantiles(),
                    "recovery" => report.recovery.all().quantiles(),
                    "lag" => report.generator.lag.quantiles(),
                    of => report.latency_of(of),
                };
                if LATENCIES.contains(&name) {
                    return (quantiles.count > 0).then(|| latency(name, &quantiles) as f64);
                }
                latency_count(name, &quantiles)
                    .or_else(|| tally_count(name, &report.tally_of(of)))
                    .map(|count| count as f64)
            }
        }
    }
}

fn latency(name: &str, quantiles: &Quantiles) -> u64 {
    match name {
        "p50" => quantiles.p50_ns,
        "p90" => quantiles.p90_ns,
        "p99" => quantiles.p99_ns,
        "p99.9" => quantiles.p99_9_ns,
        "p99.99" => quantiles.p99_99_ns,
        "min" => quantiles.min_ns,
        "mean" => quantiles.mean_ns,
        _ => quantiles.max_ns,
    }
}

fn latency_count(name: &str, quantiles: &Quantiles) -> Option<u64> {
    Some(match name {
        "measured" => quantiles.count,
        "negative" => quantiles.negative,
        "unstamped" => quantiles.unstamped,
        _ => return None,
    })
}

fn tally_count(name: &str, tally: &Tally) -> Option<u64> {
    Some(match name {
        "events" => tally.events,
        "messages" => tally.messages,
        "bytes" => tally.bytes,
        "snapshots" => tally.snapshots,
        "unannounced" => tally.unannounced,
        "violations" => tally.violations(),
        "gaps" => tally.gaps,
        "gap_events" => tally.gap_events,
        "merged" => tally.merged,
        "conflated" => tally.conflated,
        "duplicates" => tally.duplicates,
        "first" => tally.first,
        "in_order" => tally.in_order,
        "replayed" => tally.replayed,
        "replays" => tally.replays,
        "resent" => tally.resent,
        "resynced" => tally.resynced,
        "gaps_misfit" => tally.gaps_misfit,
        "behind_cursor" => tally.behind_cursor,
        "goaways" => tally.goaways,
        "parsed" => tally.parsed,
        "unverified" => tally.unverified,
        "unasked" => tally.unasked,
        "unreadable" => tally.unreadable,
        "heartbeats" => tally.heartbeats,
        "heartbeats_late" => tally.heartbeats_late,
        "slow_notices" => tally.slow_notices,
        "errors" => tally.errors.values().sum(),
        _ => return None,
    })
}

/// What can be asserted, for the manual and for error messages.
pub fn known() -> &'static str {
    "latency p50 p90 p99 p99.9 p99.99 max min mean (with a unit: ns us ms s), counts measured negative unstamped, \
     counts events messages bytes first in_order snapshots replayed replays resent resynced unannounced violations gaps \
     gap_events gaps_misfit merged conflated duplicates unverified unasked behind_cursor unreadable parsed heartbeats heartbeats_late \
     slow_notices goaways errors, each also of one persona or of all \
     (stalled.gaps, all.p99); sessions planned established subscribed failed closed_early cut_off returns \
     sessions_lost resumed retries not_back behind; rates events_per_s messages_per_s bytes_per_s events_per_message; \
     connect.p99, recovery.max and lag.max like latencies; \
     gateway.cpu and generator.cpu in % of a core, gateway.rss and generator.rss in bytes (KiB MiB GiB), \
     of several gateways the one that uses most"
}

impl Unit {
    fn read(self, text: &str) -> Result<f64, String> {
        let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: f64 = number
            .replace('_', "")
            .parse()
            .map_err(|_| format!("`{text}` is no bound: expected a number, like {}", self.example()))?;
        let factor = match (self, unit) {
            (Self::Time, "ns") => 1.0,
            (Self::Time, "us" | "µs") => 1e3,
            (Self::Time, "ms") => 1e6,
            (Self::Time, "s") => 1e9,
            (Self::Time, "") => return Err(format!("a time needs a unit: ns, us, ms or s, like {text}ms")),
            (Self::Bytes, "" | "B") => 1.0,
            (Self::Bytes, "KiB") => 1024.0,
            (Self::Bytes, "MiB") => 1024.0 * 1024.0,
            (Self::Bytes, "GiB") => 1024.0 * 1024.0 * 1024.0,
            (Self::Percent, "" | "%") | (Self::Count, "") => 1.0,
            (_, unit) => {
                return Err(format!("`{unit}` is no unit of this figure, expected {}", self.example()));
            }
        };
        Ok(number * factor)
    }

    const fn example(self) -> &'static str {
        match self {
            Self::Time => "5ms",
            Self::Bytes => "64MiB",
            Self::Percent => "80%",
            Self::Count => "1000",
        }
    }

    fn human(self, value: f64) -> String {
        match self {
            Self::Time => human(value as u64),
            Self::Bytes => bytes(value),
            Self::Percent => format!("{value:.0}%"),
            Self::Count if value.fract() == 0.0 => format!("{value:.0}"),
            Self::Count => rate(value),
        }
    }
}

impl Assert {
    /// The bound in nanoseconds, when this asks events to be faster than it.
    pub(crate) fn latency_bound_ns(&self) -> Option<u64> {
        let is_latency = self.metric.unit == Unit::Time
            && !["connect", "lag", "recovery"].contains(&self.metric.of.as_str());
        let is_upper = matches!(self.operator, Operator::Below | Operator::AtMost);
        (is_latency && is_upper).then_some(self.bound as u64)
    }

    /// Judges a report. A figure that was not measured fails.
    pub fn judge(&self, report: &Report) -> Judged {
        let Some(actual) = self.metric.read(report) else {
            return Judged { assertion: self.text.clone(), actual: "not measured".to_owned(), passed: false };
        };
        let passed = match self.operator {
            Operator::Below => actual < self.bound,
            Operator::AtMost => actual <= self.bound,
            Operator::Above => actual > self.bound,
            Operator::AtLeast => actual >= self.bound,
            Operator::Equal => actual == self.bound,
            Operator::Unequal => actual != self.bound,
        };
        Judged { assertion: self.text.clone(), actual: self.metric.unit.human(actual), passed }
    }
}

#[cfg(test)]
mod tests;
