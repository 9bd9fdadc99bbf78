//! Metrics by their names. Label values come from closed enums.

use crate::page::QUANTILES;

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// A value of now.
    Gauge,
    /// Cumulative buckets with `_bucket`, `_sum` and `_count`.
    Histogram,
}

impl Kind {
    /// Its name in a `TYPE` line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A label and all the values that it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Its values.
    pub values: &'static [&'static str],
}

/// Which quantile a value is; 1 is the maximum. Not named `quantile`, which belongs to summaries.
pub const QUANTILE: Label = Label { name: "q", values: &QUANTILE_VALUES };

const QUANTILE_VALUES: [&str; QUANTILES.len()] = {
    let (mut values, mut at) = ([""; QUANTILES.len()], 0);
    while at < values.len() {
        values[at] = QUANTILES[at].1;
        at += 1;
    }
    values
};

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name: `tickgate_<noun>_<what>[_<unit>][_total]`, in base units.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What a value of one means: `seconds`, `bytes`, or what is counted.
    pub unit: &'static str,
    /// Its label.
    pub label: Option<Label>,
    /// One sentence for a person.
    pub help: &'static str,
}

/// A counter.
pub const fn counter(
    name: &'static str,
    unit: &'static str,
    label: Option<Label>,
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Counter, unit, label, help }
}

/// A gauge.
pub const fn gauge(
    name: &'static str,
    unit: &'static str,
    label: Option<Label>,
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Gauge, unit, label, help }
}

/// A histogram.
pub const fn histogram(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, unit, label: None, help }
}

/// Where `catalog` is not as the names of metrics should be; all of them begin with `prefix`.
pub fn faults(catalog: &[Metric], prefix: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (at, Metric { name, kind, unit, help, .. }) in catalog.iter().enumerate() {
        let mut require = |holds: bool, what: &str| {
            if !holds {
                faults.push(format!("{name} {what}"));
            }
        };
        require(name.starts_with(prefix), "belongs to another program");
        require(
            name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_')),
            "has other characters",
        );
        require(
            name.ends_with("_total") == (*kind == Kind::Counter),
            "ends with _total, or is a counter, but not both",
        );
        let base = name.strip_suffix("_total").unwrap_or(name);
        require(
            !matches!(*unit, "seconds" | "bytes") || base.contains(&format!("_{unit}")),
            "does not name its unit",
        );
        require(help.ends_with('.') && !help.contains(['\n', '\\']), "has no sentence of help");
        require(catalog[..at].iter().all(|other| other.name != *name), "is there twice");
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_held_to_the_rule() {
        let good = [
            gauge("tickgate_x_late_seconds", "seconds", Some(QUANTILE), "How late."),
            counter("tickgate_x_bytes_received_total", "bytes", None, "Bytes."),
            histogram("tickgate_x_latency_seconds", "seconds", "How old."),
        ];
        assert_eq!(faults(&good, "tickgate_x_"), [""; 0]);
        for (bad, finding) in [
            (gauge("tickgate_y_late_seconds", "seconds", None, "How late."), "belongs to another program"),
            (gauge("tickgate_x_Late_seconds", "seconds", None, "How late."), "other characters"),
            (gauge("tickgate_x_ticks_total", "ticks", None, "Ticks."), "_total"),
            (counter("tickgate_x_ticks", "ticks", None, "Ticks."), "_total"),
            (gauge("tickgate_x_late", "seconds", None, "How late."), "unit"),
            (gauge("tickgate_x_ticks", "ticks", None, "Ticks"), "sentence"),
            (good[0], "twice"),
        ] {
            let found = faults(&[&good[..], &[bad]].concat(), "tickgate_x_");
            assert!(found.len() == 1 && found[0].contains(finding), "{finding}: {found:?}");
        }
    }

    #[test]
    fn the_label_has_every_quantile() {
        assert_eq!(QUANTILE.values, ["0.5", "0.9", "0.99", "0.999", "1"]);
    }
}
