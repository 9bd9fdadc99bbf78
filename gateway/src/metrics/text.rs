//! Families whose text the recorder does not write: counters that are no whole numbers, buckets, and exact quantiles.

use super::{EDGES_NS, QUANTILES, catalog};
use crate::latency::{Stage, StageHistograms};
use std::fmt::Write as _;

/// A counter in seconds: those of the recorder are whole numbers.
pub(super) fn seconds(name: &str, value_s: f64) -> String {
    format!("{}{name} {value_s}\n", head(name))
}

/// The same by the values of a label, which need no escape.
pub(super) fn by_label(name: &str, label: &str, values: &[(&str, f64)]) -> String {
    let mut text = head(name);
    for (which, value) in values {
        let _ = writeln!(text, "{name}{{{label}=\"{which}\"}} {value}");
    }
    text
}

/// The lines that introduce a family.
fn head(name: &str) -> String {
    let metric = catalog::find(name).expect("only names of the catalog are written");
    format!("# HELP {name} {}\n# TYPE {name} {}\n", metric.help, metric.kind.name())
}

/// Latencies as buckets.
pub(super) fn histogram(latencies: &StageHistograms) -> String {
    let name = "tickgate_latency_seconds";
    let mut text = head(name);
    for stage in Stage::ALL {
        let label = stage.label();
        for (edge_ns, count) in EDGES_NS.iter().zip(latencies.cumulative(stage, &EDGES_NS)) {
            let edge_s = *edge_ns as f64 / 1e9;
            let _ = writeln!(text, "{name}_bucket{{stage=\"{label}\",le=\"{edge_s}\"}} {count}");
        }
        let count = latencies.count(stage);
        let sum_s = latencies.sum_ns(stage) as f64 / 1e9;
        let _ = writeln!(text, "{name}_bucket{{stage=\"{label}\",le=\"+Inf\"}} {count}");
        let _ = writeln!(text, "{name}_sum{{stage=\"{label}\"}} {sum_s}");
        let _ = writeln!(text, "{name}_count{{stage=\"{label}\"}} {count}");
    }
    text
}

/// A stage without values in the window has no quantiles: 0 would look like a good one.
pub(super) fn quantiles(recent: &StageHistograms) -> String {
    let name = "tickgate_latency_quantile_seconds";
    let mut text = head(name);
    for stage in Stage::ALL {
        let label = stage.label();
        for (quantile, shown) in QUANTILES {
            if let Some(ns) = recent.quantile_ns(stage, quantile) {
                let value_s = ns as f64 / 1e9;
                let _ = writeln!(text, "{name}{{stage=\"{label}\",q=\"{shown}\"}} {value_s}");
            }
        }
    }
    text
}
