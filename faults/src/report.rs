//! What came out of a row, as lines for a person, as Markdown and as JSON.

use serde::Serialize;
use std::fmt::Write as _;
use tickgate_checker::counts::Counts;

/// What one row of the matrix showed.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Its name in the matrix, as `R9`.
    pub row: &'static str,
    /// What was done to the gateway.
    pub fault: &'static str,
    /// What the clients were sent, held against the log.
    pub counts: Counts,
    /// From the end of the fault to the first event of the last client that got one again.
    pub flowing_s: Option<f64>,
    /// Whatever else was looked at.
    pub measures: Vec<Measure>,
    /// Why it could not be run here, if so.
    pub not_run: Option<String>,
    /// Why the row failed; empty when it passed.
    pub failures: Vec<String>,
    /// How long the row took.
    pub took_s: f64,
}

/// Something that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Measure {
    /// What.
    pub name: String,
    /// How much.
    pub value: String,
    /// What it must be; without a bound it is only shown.
    pub bound: Option<String>,
    /// Whether it is within its bound.
    pub passed: bool,
}

impl Outcome {
    /// Nothing was seen yet.
    pub fn new(row: &'static str, fault: &'static str) -> Self {
        Self {
            row,
            fault,
            counts: Counts::default(),
            flowing_s: None,
            measures: Vec::new(),
            not_run: None,
            failures: Vec::new(),
            took_s: 0.0,
        }
    }

    /// Whether all is as it must be.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }

    /// Takes over what was looked at elsewhere.
    pub fn add(&mut self, other: Self) {
        self.measures.extend(other.measures);
        self.failures.extend(other.failures);
    }

    /// Shows a value that nothing depends on: times and ratios, which on a busy machine say little.
    pub fn show(&mut self, name: &str, value: impl ToString) {
        self.measures.push(Measure {
            name: name.to_owned(),
            value: value.to_string(),
            bound: None,
            passed: true,
        });
    }

    /// A value that must be as `bound` says.
    pub fn gate(&mut self, name: &str, value: impl ToString, bound: impl ToString, passed: bool) {
        let (value, bound) = (value.to_string(), bound.to_string());
        if !passed {
            self.failures.push(format!("{name}: {value}, must be {bound}"));
        }
        self.measures.push(Measure { name: name.to_owned(), value, bound: Some(bound), passed });
    }

    /// A count that must be exactly this.
    pub fn exactly(&mut self, name: &str, value: u64, wanted: u64) {
        self.gate(name, value, wanted, value == wanted);
    }

    /// A count that must not be over this.
    pub fn at_most(&mut self, name: &str, value: u64, most: u64) {
        self.gate(name, value, format!("at most {most}"), value <= most);
    }

    /// A count that must be at least this: a fault that did not strike shows nothing.
    pub fn at_least(&mut self, name: &str, value: u64, least: u64) {
        self.gate(name, value, format!("at least {least}"), value >= least);
    }

    /// The row's line and what was looked at, for a terminal.
    pub fn lines(&self) -> String {
        if let Some(why) = &self.not_run {
            return format!("{:<4} not run  {}: {why}\n", self.row, self.fault);
        }
        let mut text = String::new();
        let Counts { offered, delivered, conflated, announced, unannounced, .. } = self.counts;
        let flowing = self.flowing_s.map_or("-".to_owned(), |s| format!("{s:.2} s"));
        let verdict = if self.passed() { "passed" } else { "FAILED" };
        let _ = writeln!(
            text,
            "{:<4} {verdict}  {}\n     offered {offered}, delivered {delivered}, conflated {conflated}, announced lost \
             {announced}, unannounced lost {unannounced}, duplicated {}, out of order {}; flowing after {flowing}; row took \
             {:.1} s",
            self.row,
            self.fault,
            self.counts.duplicated + self.counts.repeated,
            self.counts.out_of_order,
            self.took_s,
        );
        for Measure { name, value, bound, .. } in &self.measures {
            let bound = bound.as_ref().map(|bound| format!(" (must be {bound})")).unwrap_or_default();
            let _ = writeln!(text, "     {name}: {value}{bound}");
        }
        for failure in &self.failures {
            let _ = writeln!(text, "     FAILED {failure}");
        }
        text
    }
}

/// Why a row was not run.
#[derive(Debug, Clone, Serialize)]
pub struct Skipped {
    /// Its name in the matrix.
    pub row: &'static str,
    /// What would have been done.
    pub fault: &'static str,
    /// Why it was not.
    pub reason: String,
}

/// Everything that came out of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Which Kafka it ran against.
    pub kafka: String,
    /// Seed of everything that was left to chance.
    pub seed: u64,
    /// Rows that were run.
    pub rows: Vec<Outcome>,
    /// Rows that were not.
    pub skipped: Vec<Skipped>,
}

impl Report {
    /// The names of the rows that failed.
    pub fn failed(&self) -> Vec<&'static str> {
        self.rows.iter().filter(|row| !row.passed()).map(|row| row.row).collect()
    }

    /// As Markdown: a table of the rows, then what else was looked at in each.
    pub fn markdown(&self) -> String {
        let mut text = format!("Against {}, seed {}.\n\n", self.kafka, self.seed);
        text.push_str(
            "| row | fault | offered | delivered | conflated | announced lost | unannounced lost | duplicated | out of \
             order | seconds until flowing | verdict |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|\n",
        );
        for row in &self.rows {
            let Counts { offered, delivered, conflated, announced, unannounced, .. } = row.counts;
            let flowing = row.flowing_s.map_or("–".to_owned(), |s| format!("{s:.2}"));
            let verdict = if row.passed() { "passed" } else { "**failed**" };
            let _ = writeln!(
                text,
                "| {} | {} | {offered} | {delivered} | {conflated} | {announced} | {unannounced} | {} | {} | {flowing} | \
                 {verdict} |",
                row.row,
                row.fault,
                row.counts.duplicated + row.counts.repeated,
                row.counts.out_of_order,
            );
        }
        text.push_str("\n| row | looked at | value | must be |\n|---|---|---|---|\n");
        for row in &self.rows {
            for Measure { name, value, bound, passed } in &row.measures {
                let bound = bound.as_deref().unwrap_or("–");
                let mark = if *passed { "" } else { " (**failed**)" };
                let _ = writeln!(text, "| {} | {name} | {value} | {bound}{mark} |", row.row);
            }
        }
        if !self.skipped.is_empty() {
            text.push_str("\n| not run | fault | why |\n|---|---|---|\n");
            for Skipped { row, fault, reason } in &self.skipped {
                let _ = writeln!(text, "| {row} | {fault} | {reason} |");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_out_of_its_bound_fails_the_row() {
        let mut outcome = Outcome::new("R0", "nothing");
        outcome.show("p99", "9 s");
        outcome.exactly("lost", 0, 0);
        outcome.at_most("lines", 10, 10);
        outcome.at_least("gaps", 1, 1);
        assert!(outcome.passed());
        outcome.exactly("lost", 1, 0);
        outcome.at_most("lines", 11, 10);
        outcome.at_least("gaps", 0, 1);
        assert_eq!(
            outcome.failures,
            ["lost: 1, must be 0", "lines: 11, must be at most 10", "gaps: 0, must be at least 1"]
        );
        let skipped = Skipped { row: "R1", fault: "other", reason: "no time".to_owned() };
        let report =
            Report { kafka: "none".to_owned(), seed: 1, rows: vec![outcome], skipped: vec![skipped] };
        assert_eq!(report.failed(), ["R0"]);
        let text = report.markdown();
        for wanted in [
            "| R0 | nothing | 0 |",
            "| **failed** |",
            "| R0 | lost | 1 | 0 (**failed**) |",
            "| R1 | other | no time |",
        ] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
    }
}
