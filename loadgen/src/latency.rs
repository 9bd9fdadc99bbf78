//! Latency from the time an event was meant to be sent, so that a producer or gateway that falls behind shows.
//!
//! Written out, the whole histogram goes with its quantiles: quantiles of several processes or machines cannot be
//! averaged, but their histograms add up.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};

/// Largest latency that is told apart, in nanoseconds: one hour.
const LATENCY_MAX_NS: u64 = 3_600_000_000_000;
/// Decimal digits that are kept.
const DIGITS: u8 = 3;

/// Latencies of many events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Written", try_from = "Written")]
pub struct Latencies {
    histogram: Histogram<u64>,
    negative: u64,
    unstamped: u64,
    beyond: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_MAX_NS, DIGITS).expect("the bounds are sound");
        Self { histogram, negative: 0, unstamped: 0, beyond: 0 }
    }
}

impl Latencies {
    /// Counts an event that was meant to be sent at `send_ns` and was received at `received_ns`.
    ///
    /// A negative latency (the producer's clock is ahead of ours) is counted apart, never cut to zero; so is an event
    /// that does not say when it was meant to be sent.
    pub fn record(&mut self, send_ns: Option<i64>, received_ns: i64) {
        let Some(send_ns) = send_ns else {
            self.unstamped += 1;
            return;
        };
        match u64::try_from(received_ns.saturating_sub(send_ns)) {
            Ok(latency_ns) => self.record_ns(latency_ns),
            Err(_) => self.negative += 1,
        }
    }

    /// Counts a latency in nanoseconds.
    pub fn record_ns(&mut self, latency_ns: u64) {
        if self.histogram.record(latency_ns.max(1)).is_err() {
            self.beyond += 1;
        }
    }

    /// Adds all of `other`.
    pub fn add(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("both have the same bounds");
        self.negative += other.negative;
        self.unstamped += other.unstamped;
        self.beyond += other.beyond;
    }

    /// The nanoseconds that were measured.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }

    /// The same, without the rest.
    pub fn into_histogram(self) -> Histogram<u64> {
        self.histogram
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.histogram.reset();
        (self.negative, self.unstamped, self.beyond) = (0, 0, 0);
    }

    /// The latency in nanoseconds below which `quantile` (0 to 1) of all events stay; 0 when there are none.
    pub fn at(&self, quantile: f64) -> u64 {
        self.histogram.value_at_quantile(quantile)
    }

    /// The usual quantiles.
    pub fn quantiles(&self) -> Quantiles {
        Quantiles {
            count: self.histogram.len(),
            min_ns: if self.histogram.is_empty() { 0 } else { self.histogram.min() },
            mean_ns: self.histogram.mean() as u64,
            p50_ns: self.at(0.5),
            p90_ns: self.at(0.9),
            p99_ns: self.at(0.99),
            p99_9_ns: self.at(0.999),
            p99_99_ns: self.at(0.9999),
            max_ns: self.histogram.max(),
            negative: self.negative,
            unstamped: self.unstamped,
            beyond_1h: self.beyond,
        }
    }

    /// Writes the percentile distribution in the HGRM form that HdrHistogram's plotters read, values in milliseconds.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn write_hgrm(&self, out: &mut impl Write) -> io::Result<()> {
        const MS: f64 = 1e6;
        let histogram = &self.histogram;
        writeln!(
            out,
            "{:>12} {:>14} {:>10} {:>14}\n",
            "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
        )?;
        let mut total = 0;
        for step in histogram.iter_quantiles(5) {
            total += step.count_since_last_iteration();
            let (value, quantile) = (step.value_iterated_to() as f64 / MS, step.quantile_iterated_to());
            if quantile < 1.0 {
                let inverse = 1.0 / (1.0 - quantile);
                writeln!(out, "{value:12.6} {quantile:14.12} {total:10} {inverse:14.2}")?;
            } else {
                writeln!(out, "{value:12.6} {quantile:14.12} {total:10}")?;
            }
        }
        let (mean, deviation) = (histogram.mean() / MS, histogram.stdev() / MS);
        writeln!(out, "#[Mean    = {mean:12.6}, StdDeviation   = {deviation:12.6}]")?;
        writeln!(
            out,
            "#[Max     = {:12.6}, Total count    = {:12}]",
            histogram.max() as f64 / MS,
            histogram.len()
        )?;
        let buckets = (LATENCY_MAX_NS.ilog2() + 1).saturating_sub(11);
        writeln!(out, "#[Buckets = {buckets:12}, SubBuckets     = {:12}]", 2048)
    }
}

/// [`Latencies`] as a report has them: quantiles to read, a histogram to add to others.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    #[serde(flatten)]
    quantiles: Quantiles,
    /// Nanoseconds in HdrHistogram's compressed V2 form, as base64: what its log files hold and its tools read.
    histogram: String,
}

impl From<Latencies> for Written {
    fn from(latencies: Latencies) -> Self {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(&latencies.histogram, &mut bytes)
            .expect("a vector takes everything");
        Self { quantiles: latencies.quantiles(), histogram: BASE64_STANDARD.encode(bytes) }
    }
}

impl TryFrom<Written> for Latencies {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { quantiles, histogram } = written;
        let bytes = BASE64_STANDARD
            .decode(histogram)
            .map_err(|error| format!("a histogram is no base64: {error}"))?;
        let read: Histogram<u64> = Deserializer::new()
            .deserialize(&mut &bytes[..])
            .map_err(|error| format!("a histogram cannot be read: {error}"))?;
        let mut latencies = Self {
            negative: quantiles.negative,
            unstamped: quantiles.unstamped,
            beyond: quantiles.beyond_1h,
            ..Self::default()
        };
        // Into one of our own, so that whatever stands in a file can be added to others.
        latencies.histogram.add(&read).map_err(|error| format!("a histogram does not fit: {error}"))?;
        Ok(latencies)
    }
}

/// The usual quantiles of a latency, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Quantiles {
    /// Events measured; the quantiles are 0 when there are none.
    pub count: u64,
    pub min_ns: u64,
    pub mean_ns: u64,
    pub p50_ns: u64,
    pub p90_ns: u64,
    pub p99_ns: u64,
    pub p99_9_ns: u64,
    pub p99_99_ns: u64,
    pub max_ns: u64,
    /// Events that came before they were meant to be sent, by the producer's clock: not in the quantiles.
    pub negative: u64,
    /// Events that do not say when they were meant to be sent.
    pub unstamped: u64,
    /// Events later than an hour: not in the quantiles.
    pub beyond_1h: u64,
}

/// `ns` for a person: `850ns`, `12.3us`, `4.56ms`, `1.20s`.
pub fn human(ns: u64) -> String {
    let value = ns as f64;
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns}ns"),
        1_000..1_000_000 => (value / 1e3, "us"),
        1_000_000..1_000_000_000 => (value / 1e6, "ms"),
        _ => (value / 1e9, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_clamped_silently() {
        let mut latencies = Latencies::default();
        latencies.record(Some(1_000), 2_500);
        latencies.record(Some(3_000), 2_500);
        latencies.record(None, 2_500);
        latencies.record(Some(0), i64::MAX);
        let quantiles = latencies.quantiles();
        assert_eq!((quantiles.count, quantiles.max_ns, quantiles.p50_ns), (1, 1_500, 1_500));
        assert_eq!((quantiles.negative, quantiles.unstamped, quantiles.beyond_1h), (1, 1, 1));
    }

    #[test]
    fn quantiles_of_a_merged_ramp() {
        let (mut even, mut odd) = (Latencies::default(), Latencies::default());
        for n in 1..=1_000u64 {
            if n % 2 == 0 { &mut even } else { &mut odd }.record_ns(n * 1_000);
        }
        even.add(&odd);
        let quantiles = even.quantiles();
        for (value, expected) in
            [(quantiles.p50_ns, 500_000), (quantiles.p99_ns, 990_000), (quantiles.max_ns, 1_000_000)]
        {
            assert!(value.abs_diff(expected) <= expected / 1_000, "{value} is not about {expected}");
        }
        even.reset();
        assert_eq!(even.quantiles(), Quantiles::default());
    }

    /// Two processes hand their histograms over as text: nothing may differ from one that counted everything.
    #[test]
    fn adds_up_without_loss_after_being_written() {
        let (mut whole, mut parts) = (Latencies::default(), [Latencies::default(), Latencies::default()]);
        let mut latency_ns = 1u64;
        for n in 0..20_000 {
            // Spread over all magnitudes up to an hour, far more in one part than in the other.
            latency_ns =
                latency_ns.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let latency_ns = (latency_ns >> 8) % (1 << (n % 42));
            whole.record_ns(latency_ns);
            parts[usize::from(n % 10 == 0)].record_ns(latency_ns);
        }
        for latencies in [&mut whole, &mut parts[1]] {
            latencies.record(None, 1);
            latencies.record(Some(2), 1);
            latencies.record_ns(u64::MAX);
        }
        let [mut sum, other] = parts.map(|part| {
            let text = serde_json::to_string(&part).unwrap();
            serde_json::from_str::<Latencies>(&text).unwrap()
        });
        sum.add(&other);
        assert_eq!(sum, whole);
        assert_eq!(sum.quantiles(), whole.quantiles());
        for quantile in (0..=1_000).map(|n| f64::from(n) / 1_000.0) {
            assert_eq!(sum.at(quantile), whole.at(quantile), "{quantile}");
        }
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        let mut json = serde_json::to_value(Latencies::default()).unwrap();
        assert!(json["histogram"].as_str().unwrap().starts_with("HISTFAAA"));
        for (histogram, fault) in [("%", "no base64"), ("SGVsbG8=", "cannot be read")] {
            json["histogram"] = histogram.into();
            let error = serde_json::from_value::<Latencies>(json.clone()).unwrap_err().to_string();
            assert!(error.contains(fault), "{error}");
        }
        let mut longer = Histogram::<u64>::new(3).unwrap();
        longer.record(LATENCY_MAX_NS * 8).unwrap();
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(&longer, &mut bytes).unwrap();
        json["histogram"] = BASE64_STANDARD.encode(bytes).into();
        let error = serde_json::from_value::<Latencies>(json).unwrap_err().to_string();
        assert!(error.contains("does not fit"), "{error}");
    }

    #[test]
    fn writes_a_percentile_file() {
        let mut latencies = Latencies::default();
        for n in 1..=100 {
            latencies.record_ns(n * 1_000_000);
        }
        let mut out = Vec::new();
        latencies.write_hgrm(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let rows = text
            .lines()
            .skip(2)
            .take_while(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|n| n.parse::<f64>().unwrap()).collect::<Vec<_>>());
        assert!(rows.clone().is_sorted_by(|a, b| a[0] <= b[0] && a[1] <= b[1] && a[2] <= b[2]), "{text}");
        assert_eq!(rows.last().unwrap()[2], 100.0);
        assert!(text.ends_with("]\n"));
    }

    #[test]
    fn speaks_to_people() {
        let texts = [0, 850, 12_340, 4_560_000, 123_000_000, 1_200_000_000].map(human);
        assert_eq!(texts, ["0ns", "850ns", "12.3us", "4.56ms", "123ms", "1.20s"]);
    }
}
