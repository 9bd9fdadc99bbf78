//! Prometheus' text, filled by the names of a catalog.
//!
//! Written here and not by the exporter that the gateway uses, which takes single values: histograms come as a whole. Nothing
//! is escaped, because a catalog holds nothing that would have to be.

use crate::catalog::{Kind, Metric};
use hdrhistogram::Histogram;
use std::fmt::Write as _;

/// The content type of a page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper edges of the buckets of latencies, in nanoseconds: those of the gateway, so that both can be laid over each other.
pub const EDGES_NS: [u64; 18] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    7_500_000_000,
    10_000_000_000,
];

/// The quantiles that are exported, with their label; 1 is the maximum.
pub const QUANTILES: [(f64, &str); 5] =
    [(0.5, "0.5"), (0.9, "0.9"), (0.99, "0.99"), (0.999, "0.999"), (1.0, "1")];

const NS_PER_S: f64 = 1e9;

/// What a scrape is answered with.
#[derive(Debug)]
pub struct Page {
    catalog: &'static [Metric],
    text: String,
}

impl Page {
    /// An empty page for the metrics of `catalog`.
    pub fn new(catalog: &'static [Metric]) -> Self {
        Self { catalog, text: String::new() }
    }

    /// A metric without a label.
    pub fn value(&mut self, name: &str, value: f64) {
        let metric = self.head(name);
        debug_assert!(
            metric.label.is_none() && metric.kind != Kind::Histogram,
            "{name} is more than a value"
        );
        let _ = writeln!(self.text, "{name} {value}");
    }

    /// A metric with values of its label.
    pub fn values(&mut self, name: &str, values: &[(&str, f64)]) {
        let label = self.head(name).label.expect("it has a label in the catalog");
        for (of, value) in values {
            debug_assert!(label.values.contains(of), "{name}: {of} is not in the catalog");
            let _ = writeln!(self.text, "{name}{{{}=\"{of}\"}} {value}", label.name);
        }
    }

    /// The quantiles of nanoseconds, as seconds. Of nothing there are none: 0 would look like a good one.
    pub fn quantiles(&mut self, name: &str, of_ns: &Histogram<u64>) {
        if of_ns.is_empty() {
            return;
        }
        let value = |(quantile, label)| (label, of_ns.value_at_quantile(quantile) as f64 / NS_PER_S);
        self.values(name, &QUANTILES.map(value));
    }

    /// The buckets of nanoseconds, as seconds.
    pub fn histogram(&mut self, name: &str, of_ns: &Histogram<u64>) {
        let metric = self.head(name);
        debug_assert_eq!(metric.kind, Kind::Histogram, "{name}");
        let (mut buckets, mut sum_ns) = ([0; EDGES_NS.len()], 0);
        for cell in of_ns.iter_recorded() {
            // A cell that an edge cuts counts above it: what a bucket holds is certainly at most its edge.
            let (top, count) = (of_ns.highest_equivalent(cell.value_iterated_to()), cell.count_at_value());
            let first = EDGES_NS.partition_point(|edge| *edge < top);
            buckets[first..].iter_mut().for_each(|bucket| *bucket += count);
            sum_ns += u128::from(of_ns.median_equivalent(cell.value_iterated_to())) * u128::from(count);
        }
        for (edge, count) in EDGES_NS.iter().zip(buckets) {
            let _ = writeln!(self.text, "{name}_bucket{{le=\"{}\"}} {count}", *edge as f64 / NS_PER_S);
        }
        let count = of_ns.len();
        let _ = writeln!(self.text, "{name}_bucket{{le=\"+Inf\"}} {count}");
        let _ = writeln!(self.text, "{name}_sum {}\n{name}_count {count}", sum_ns as f64 / NS_PER_S);
    }

    /// All of it.
    pub fn finish(self) -> String {
        self.text
    }

    /// The lines that introduce a family.
    fn head(&mut self, name: &str) -> Metric {
        let metric = self.catalog.iter().find(|metric| metric.name == name);
        let metric = *metric.expect("only names of the catalog are written");
        let _ = writeln!(self.text, "# HELP {name} {}\n# TYPE {name} {}", metric.help, metric.kind.name());
        metric
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{QUANTILE, counter, gauge, histogram};

    const CATALOG: &[Metric] = &[
        counter("tickgate_x_ticks_total", "ticks", None, "Ticks."),
        gauge("tickgate_x_late_seconds", "seconds", Some(QUANTILE), "How late."),
        histogram("tickgate_x_latency_seconds", "seconds", "How old."),
    ];

    fn page(fill: impl FnOnce(&mut Page)) -> String {
        let mut page = Page::new(CATALOG);
        fill(&mut page);
        page.finish()
    }

    fn of(values: &[u64]) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000_000, 3).unwrap();
        values.iter().for_each(|value| histogram.record(*value).unwrap());
        histogram
    }

    #[test]
    fn a_family_has_its_head() {
        assert_eq!(
            page(|page| page.value("tickgate_x_ticks_total", 1e15)),
            "# HELP tickgate_x_ticks_total Ticks.\n# TYPE tickgate_x_ticks_total counter\n\
             tickgate_x_ticks_total 1000000000000000\n"
        );
    }

    #[test]
    fn quantiles_are_in_seconds_and_of_nothing_there_are_none() {
        let late = of(&[1_000_000, 2_000_000, 3_000_000]);
        let text = page(|page| page.quantiles("tickgate_x_late_seconds", &late));
        assert_eq!(text.lines().count(), 2 + QUANTILES.len(), "{text}");
        assert!(text.contains("tickgate_x_late_seconds{q=\"0.5\"} 0.002"), "{text}");
        assert!(text.contains("tickgate_x_late_seconds{q=\"1\"} 0.003"), "{text}");
        assert_eq!(page(|page| page.quantiles("tickgate_x_late_seconds", &of(&[]))), "");
    }

    #[test]
    fn a_bucket_holds_what_is_certainly_below_its_edge() {
        // 50,010 ns share a cell with the edge; an hour is beyond all of them.
        let latencies = of(&[40_000, 50_010, 999_000, 3_600_000_000_000]);
        let text = page(|page| page.histogram("tickgate_x_latency_seconds", &latencies));
        let value = |line: &str| {
            let found =
                text.lines().find_map(|l| l.strip_prefix(&format!("tickgate_x_latency_seconds{line} ")));
            found.unwrap_or_else(|| panic!("{line} in {text}")).parse::<f64>().unwrap()
        };
        assert_eq!(value("_bucket{le=\"0.00005\"}"), 1.0);
        assert_eq!(value("_bucket{le=\"0.0001\"}"), 2.0);
        assert_eq!(value("_bucket{le=\"0.001\"}"), 3.0);
        assert_eq!(value("_bucket{le=\"10\"}"), 3.0);
        assert_eq!((value("_bucket{le=\"+Inf\"}"), value("_count")), (4.0, 4.0));
        let exact = 3_600.001_089_01;
        assert!((value("_sum") - exact).abs() < exact / 1_000.0, "{text}");
        assert_eq!(text.lines().count(), 2 + EDGES_NS.len() + 3);
    }
}
