//! Everything a run found, and the arithmetic on it.

use super::cost::{self, Cost};
use super::kafka::Way;
use super::limit::Limit;
use super::measure::Sample;
use super::memory::{Idle, Many};
use super::ramp::Ramp;
use super::storm::Storm;
use serde::Serialize;

/// The whole of a run, as it is written to `results.json`.
#[derive(Debug, Default, Serialize)]
pub struct Results {
    pub date: String,
    /// What was run.
    pub command: String,
    pub machine: serde_json::Value,
    pub repetitions: usize,
    pub seconds: f64,
    /// How instructions were counted.
    pub instructions_by: Option<&'static str>,
    /// Servers that could not run, and why.
    pub left_out: Vec<(String, String)>,
    /// Measurements that failed, and why.
    pub failures: Vec<String>,
    pub limits: Vec<Limit>,
    /// W1, W2, W3, W6, W7 and W10.
    pub samples: Vec<Sample>,
    pub ramps: Vec<Ramp>,
    pub idle: Vec<Idle>,
    pub many: Option<Many>,
    pub storms: Vec<Storm>,
    pub ways: Vec<Way>,
    /// The cost model of each server.
    pub costs: Vec<(String, Cost)>,
}

impl Results {
    /// Fits the cost model to what each server of ours was measured at.
    pub fn fit_costs(&mut self) {
        let all = || {
            let steps = self.ramps.iter().flat_map(|ramp| &ramp.steps);
            self.samples.iter().filter(|sample| !sample.workload.starts_with("W7")).chain(steps)
        };
        let names = ["floor-each", "floor-copy", "gateway"];
        self.costs = names
            .into_iter()
            .filter_map(|name| {
                Some((name.to_owned(), cost::fit(all().filter(|sample| sample.server == name))?))
            })
            .collect();
    }

    /// The samples of a workload.
    pub fn of(&self, workload: &str) -> Vec<&Sample> {
        self.samples.iter().filter(|sample| sample.workload == workload).collect()
    }
}

/// The middle of some values.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        len if len % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// The median of what a server's samples say.
pub fn of_server(samples: &[&Sample], server: &str, what: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
    median(samples.iter().filter(|sample| sample.server == server).filter_map(|sample| what(sample)))
}

/// The median over repetitions of what `sample` says divided by what `base` says in the same repetition.
pub fn ratio(
    samples: &[&Sample],
    is_wanted: impl Fn(&Sample) -> bool,
    is_base: impl Fn(&Sample) -> bool,
    what: impl Fn(&Sample) -> f64,
) -> Option<f64> {
    median(samples.iter().filter(|sample| is_wanted(sample)).filter_map(|sample| {
        let base = samples.iter().find(|s| is_base(s) && s.repetition == sample.repetition)?;
        Some(what(sample) / what(base))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_repetition() {
        let sample = |server: &str, repetition, cpu_us| Sample {
            server: server.to_owned(),
            repetition,
            cpu_us,
            ..Sample::default()
        };
        let all = [
            sample("a", 0, 1.0),
            sample("b", 0, 2.0),
            sample("a", 1, 10.0),
            sample("b", 1, 30.0),
            sample("a", 2, 1.0),
            sample("b", 2, 9.0),
        ];
        let all: Vec<&Sample> = all.iter().collect();
        let found = ratio(&all, |s| s.server == "b", |s| s.server == "a", |s| s.cpu_us);
        assert_eq!(found, Some(3.0));
        assert_eq!(of_server(&all, "b", |s| Some(s.cpu_us)), Some(9.0));
        assert_eq!(median([]), None);
        assert_eq!(median([1.0, f64::NAN, 2.0]), Some(1.5));
    }
}
