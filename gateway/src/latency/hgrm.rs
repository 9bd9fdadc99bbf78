//! A stage as the text that HdrHistogram's plotters read (`.hgrm`).

use super::{Stage, StageHistograms};
use hdrhistogram::Histogram;
use std::fmt::Write as _;

/// Lines to each halving of the distance to 100 %, as other tools write.
const TICKS_PER_HALF: u32 = 5;
const NS_PER_MS: f64 = 1e6;

impl StageHistograms {
    /// The distribution of a stage since the start, in milliseconds, negative values apart.
    pub fn hgrm(&self, stage: Stage) -> String {
        text(&self.of(stage).histogram)
    }
}

fn text(histogram: &Histogram<u64>) -> String {
    let mut text =
        format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut below = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF) {
        below += step.count_since_last_iteration();
        let value_ms = histogram.highest_equivalent(step.value_iterated_to()) as f64 / NS_PER_MS;
        let part = step.quantile_iterated_to();
        let _ = write!(text, "{value_ms:12.3} {part:2.12} {below:10}");
        // The last line has no such number.
        let _ = if part < 1.0 { writeln!(text, " {:14.2}", 1.0 / (1.0 - part)) } else { writeln!(text) };
    }
    let (mean, deviation) =
        if histogram.is_empty() { (0.0, 0.0) } else { (histogram.mean(), histogram.stdev()) };
    let most = if histogram.is_empty() { 0 } else { histogram.max() };
    let _ = writeln!(
        text,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]",
        mean / NS_PER_MS,
        deviation / NS_PER_MS
    );
    let _ = writeln!(
        text,
        "#[Max     = {:12.3}, Total count    = {:12}]",
        most as f64 / NS_PER_MS,
        histogram.len()
    );
    let _ = writeln!(
        text,
        "#[Buckets = {:12}, SubBuckets     = {:12}]",
        histogram.buckets(),
        histogram.distinct_values() / usize::from(histogram.buckets()).max(1)
    );
    text
}

#[cfg(test)]
mod tests {
    use super::super::Recorder;
    use super::*;

    #[test]
    fn a_plotter_finds_its_columns() {
        let (mut recorder, mut latencies) = (Recorder::new(), StageHistograms::new());
        recorder.record_n(Stage::IngestToWritten, 1_000_000, 99);
        recorder.record_n(Stage::IngestToWritten, 500_000_000, 1);
        recorder.empty_into(&mut latencies);
        let text = latencies.hgrm(Stage::IngestToWritten);
        let mut lines = text.lines();
        let head: Vec<&str> = lines.next().expect("a head").split_ascii_whitespace().collect();
        assert_eq!(head, ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]);
        assert_eq!(lines.next(), Some(""));
        let rows: Vec<Vec<f64>> = lines
            .clone()
            .take_while(|line| !line.starts_with('#'))
            .map(|line| line.split_ascii_whitespace().map(|word| word.parse().expect("a number")).collect())
            .collect();
        assert!(rows.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][1] <= pair[1][1]), "{text}");
        let median = rows.iter().find(|row| row[1] >= 0.5).expect("a median");
        assert!((1.0..1.01).contains(&median[0]), "{text}");
        let last = rows.last().expect("a last line");
        assert_eq!((last.len(), last[1], last[2]), (3, 1.0, 100.0), "{text}");
        assert!((500.0..505.0).contains(&last[0]), "{text}");
        assert!(text.contains("Total count    =          100"), "{text}");
        // One without values is no fault.
        assert!(StageHistograms::new().hgrm(Stage::EventToWritten).contains("Total count    =            0"));
    }
}
