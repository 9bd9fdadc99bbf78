//! Several reports made one: of the processes of a run, or of runs on several machines at the same time.
//!
//! Counts add up and so do histograms, from which the quantiles are taken anew: nothing is averaged. Assertions and
//! verdicts of the parts are dropped, the sum is judged.

use super::{AtGateway, Generator, Report, SCHEMA};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// Why a file is no report to be merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum ReadError {
    #[error("cannot be read")]
    Io(#[source] io::Error),
    #[error("is no report of `tickgate-load run`")]
    Json(#[source] serde_json::Error),
    #[error("is a report of schema {found}, and only {SCHEMA} can be merged: run it again with this version")]
    Schema { found: u32 },
}

/// Why reports cannot be made one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum MergeError {
    #[error("there are no reports to merge")]
    Nothing,
    #[error(
        "the runs did not measure at the same time: one ended {apart_ms} ms before another began; start them together, \
         and see that the clocks of the machines agree"
    )]
    Apart { apart_ms: i64 },
}

impl Report {
    /// Reads the report that [`Report::write_json`] wrote.
    ///
    /// # Errors
    /// When there is none, or one of another version.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let text = fs::read(path).map_err(ReadError::Io)?;
        let version: Version = serde_json::from_slice(&text).map_err(ReadError::Json)?;
        if version.schema != SCHEMA {
            return Err(ReadError::Schema { found: version.schema });
        }
        serde_json::from_slice(&text).map_err(ReadError::Json)
    }

    /// Makes one of several.
    ///
    /// # Errors
    /// When there are none, or when two of them measured at different times: their sum would be of no moment.
    pub fn merge(reports: Vec<Self>) -> Result<Self, MergeError> {
        let measured = || reports.iter().map(|report| report.measured).filter(|m| m.seconds > 0.0);
        if let (Some(last_began_ns), Some(first_ended_ns)) =
            (measured().map(|m| m.began_ns).max(), measured().map(|m| m.ended_ns()).min())
            && last_began_ns >= first_ended_ns
        {
            return Err(MergeError::Apart { apart_ms: (last_began_ns - first_ended_ns) / 1_000_000 });
        }
        let mut reports = reports.into_iter();
        let mut sum = reports.next().ok_or(MergeError::Nothing)?;
        reports.for_each(|report| sum.add(report));
        sum.asserts.clear();
        sum.judge();
        Ok(sum)
    }

    fn add(&mut self, other: Self) {
        self.runs.extend(other.runs);
        self.interrupted |= other.interrupted;
        self.sessions.add(&other.sessions);
        self.connect.add(&other.connect);
        self.measured.add(&other.measured);
        add_all(&mut self.latency, &other.latency, |sum, latencies| sum.add(latencies));
        add_all(&mut self.verification, &other.verification, |sum, tally| sum.add(tally));
        self.recovery.add(&other.recovery);
        self.ends.add(&other.ends);
        self.generator.add(&other.generator);
        for gateway in other.gateways {
            match self.gateways.iter_mut().find(|known| known.url == gateway.url) {
                Some(known) => known.add(&gateway),
                None => self.gateways.push(gateway),
            }
        }
    }
}

fn add_all<T: Default>(
    sums: &mut BTreeMap<String, T>,
    others: &BTreeMap<String, T>,
    add: impl Fn(&mut T, &T),
) {
    for (name, other) in others {
        match sums.get_mut(name) {
            Some(sum) => add(sum, other),
            None => add(sums.entry(name.clone()).or_default(), other),
        }
    }
}

impl Generator {
    fn add(&mut self, other: &Self) {
        self.processes += other.processes;
        self.threads += other.threads;
        self.cpu_s += other.cpu_s;
        self.cpu_percent += other.cpu_percent;
        self.rss_max_bytes += other.rss_max_bytes;
        self.lag.add(&other.lag);
    }
}

impl AtGateway {
    fn add(&mut self, other: &Self) {
        self.sessions.add(&other.sessions);
        self.measured.add(&other.measured);
        self.latency.add(&other.latency);
        self.verification.add(&other.verification);
        // What it used was used once, however many looked.
        self.process = self.process.or(other.process);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Latencies;
    use crate::report::tests::sample;

    /// The sample of another machine, at another gateway too, with latencies of its own.
    fn other() -> Report {
        let mut other = sample();
        other.runs[0].plan.seed = 2;
        other.measured.began_ns += 5_000_000_000;
        let mut latencies = Latencies::default();
        (0..10).for_each(|_| latencies.record_ns(60_000_000));
        other.latency =
            BTreeMap::from([("slow".to_owned(), latencies.clone()), ("healthy".to_owned(), latencies)]);
        other.generator.lag.record_ns(1_200_000_000);
        other.gateways.push(AtGateway { url: "ws://b".to_owned(), ..other.gateways[0].clone() });
        other
    }

    #[test]
    fn counts_and_histograms_add_up() {
        let (one, two) = (sample(), other());
        let sum = Report::merge(vec![one.clone(), two.clone()]).unwrap();
        assert_eq!(sum.runs, [one.runs, two.runs].concat());
        assert_eq!(
            (sum.sessions.established, sum.tally_of("all").events, sum.tally_of("stalled").gaps),
            (20, 3_000, 4)
        );
        // 50 of 2 ms, 48 of 3 ms, one each of 4 and 8 ms, and ten of 60 ms.
        let healthy = sum.latency_of("healthy");
        assert_eq!(healthy.count, 110);
        assert_eq!(["p50", "p90", "p99"].map(|name| shown(&sum, name)), ["3.00ms", "4.00ms", "60.0ms"]);
        assert_eq!(
            (sum.latency_of("slow").count, sum.generator.processes, sum.generator.threads),
            (10, 2, 2)
        );
        // Twice 1,000 events, the second measurement beginning five seconds later.
        assert_eq!(
            (sum.measured.seconds, sum.measured.events, sum.measured.events_per_s),
            (25.0, 2_000, 80.0)
        );
        let gateways: Vec<_> =
            sum.gateways.iter().map(|g| (g.url.as_str(), g.sessions.established)).collect();
        assert_eq!(gateways, [("ws://127.0.0.1:9000/v1/stream", 20), ("ws://b", 10)]);
        assert_eq!(sum.gateways[0].process, one.gateways[0].process);
        assert_eq!(sum.failures, ["the generator itself was 1.20s late, at most 500ms is trusted"]);
    }

    fn shown(report: &Report, name: &str) -> String {
        format!("{name}>0ns").parse::<crate::asserts::Assert>().unwrap().judge(report).actual
    }

    #[test]
    fn the_sum_is_judged_not_the_parts() {
        let mut failed = sample();
        failed.assert_all(&["events>2000".parse().unwrap()]);
        assert!(!failed.passed);
        let mut sum = Report::merge(vec![failed, sample()]).unwrap();
        assert!(sum.passed && sum.asserts.is_empty(), "{:?}", sum.failures);
        sum.assert_all(&["events>2000".parse().unwrap(), "closed_early==0".parse().unwrap()]);
        assert!(sum.passed, "{:?}", sum.failures);
        let mut lossy = sample();
        lossy.verification.get_mut("all").unwrap().unannounced = 3;
        assert_eq!(Report::merge(vec![sample(), lossy]).unwrap().failures, ["3 unannounced losses"]);
    }

    #[test]
    fn only_what_was_measured_together_is_merged() {
        let mut later = sample();
        later.measured.began_ns += 25_000_000_000;
        assert_eq!(Report::merge(vec![sample(), later]).unwrap_err(), MergeError::Apart { apart_ms: 5_000 });
        assert_eq!(Report::merge(Vec::new()).unwrap_err(), MergeError::Nothing);
        // One that was stopped before it measured anything measured at no time.
        let mut stopped = sample();
        (stopped.measured, stopped.interrupted) = (Default::default(), true);
        let sum = Report::merge(vec![stopped, sample()]).unwrap();
        assert_eq!((sum.measured, sum.interrupted), (sample().measured, true));
    }
}
