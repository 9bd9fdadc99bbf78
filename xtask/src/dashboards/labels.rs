//! Labels in selectors: a value that no metric has is a query that never returns anything, and says so to nobody.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};

/// Where every metric of a gateway is listed with its labels and their values.
pub const METRICS: &str = "docs/metrics.md";

/// What a scrape adds.
const OF_TARGETS: [&str; 2] = ["job", "instance"];

/// The labels of each metric; of those from a closed list, the values.
#[derive(Debug)]
pub struct Labels(BTreeMap<String, BTreeMap<String, Option<BTreeSet<String>>>>);

impl Labels {
    /// From the list of metrics.
    pub fn parse(text: &str) -> Result<Self> {
        let mut all = BTreeMap::new();
        for line in text.lines() {
            let cells: Vec<_> = line.split(" | ").collect();
            let name = cells[0].strip_prefix("| `").and_then(|rest| rest.strip_suffix('`'));
            if let (Some(name), [_, _, _, labels, _]) = (name, &cells[..]) {
                let labels = labels.split("; ").filter_map(labelled).collect();
                all.insert(name.to_owned(), labels);
            }
            // A histogram's edges stand below its table.
            let edges = line.strip_prefix("Upper edges of `").and_then(|rest| {
                let (name, rest) = rest.split_once("_bucket`")?;
                Some((name, rest.split_once("in seconds: ")?.1.trim_end_matches('.')))
            });
            if let Some((name, edges)) = edges {
                let of_name: &mut BTreeMap<_, _> = all.entry(name.to_owned()).or_default();
                of_name.insert("le".to_owned(), Some(listed(edges)));
            }
        }
        if all.len() < 5 {
            bail!("{METRICS} is not laid out as expected: {} metrics", all.len());
        }
        Ok(Self(all))
    }

    /// Labels that a metric has not, and values that a label never has. `metric` finds the histogram of its parts.
    pub fn findings<'a>(&self, text: &'a str, metric: impl Fn(&'a str) -> &'a str) -> Vec<String> {
        let mut findings = Vec::new();
        for (name, matchers) in selectors(text) {
            let Some(labels) = self.0.get(metric(name)) else { continue };
            for (label, is_pattern, value) in matchers {
                let values = match labels.get(label) {
                    None if OF_TARGETS.contains(&label) => continue,
                    None => {
                        findings.push(format!("{name} has no label {label}"));
                        continue;
                    }
                    Some(None) => continue,
                    Some(Some(values)) => values,
                };
                let parts = if is_pattern { value.split('|').collect() } else { vec![value] };
                // Of a pattern that is no list, and of a variable, the values are not known here.
                let is_open = |part: &str| {
                    part.contains('$') || is_pattern && part.contains(['.', '*', '+', '?', '(', '[', '\\'])
                };
                for part in parts {
                    if !part.is_empty() && !is_open(part) && !values.contains(part) {
                        findings.push(format!("{label} of {name} is never {part}"));
                    }
                }
            }
        }
        findings
    }
}

/// A label of the list, and its values if they are given there.
fn labelled(cell: &str) -> Option<(String, Option<BTreeSet<String>>)> {
    let (label, rest) = cell.trim().strip_prefix('`')?.split_once('`')?;
    Some((label.to_owned(), rest.strip_prefix(": ").map(listed)))
}

fn listed(values: &str) -> BTreeSet<String> {
    values.split(", ").map(str::to_owned).collect()
}

/// Label, whether what follows is a pattern, and value.
type Matcher<'a> = (&'a str, bool, &'a str);

/// Every `name{label="value", …}` of a text.
fn selectors(text: &str) -> Vec<(&str, Vec<Matcher<'_>>)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices('{') {
        let before = &text[..at];
        let begin =
            before.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':').len();
        let name = &before[begin..];
        if name.is_empty() {
            continue;
        }
        let (mut rest, mut matchers) = (&text[at + 1..], Vec::new());
        while let Some((label, after)) = rest.split_once('"') {
            let Some((value, after)) = after.split_once('"') else { break };
            let label = label.trim_start_matches([',', ' ', '\n']).trim_end();
            if label.contains('}') {
                break;
            }
            let is_pattern = label.ends_with('~');
            matchers.push((label.trim_end_matches(['=', '~', '!']).trim_end(), is_pattern, value));
            rest = after;
            if rest.trim_start().starts_with('}') {
                break;
            }
        }
        found.push((name, matchers));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "| metric | type | unit | labels | |\n| --- | --- | --- | --- | --- |\n\
        | `a_total` | counter | events | `reason`: closed, skipped | Events. |\n\
        | `b` | gauge | x | `shard`; `window`: 100ms, 10ms | B. |\n| `c` | gauge | x |  | C. |\n\
        | `d_seconds` | histogram | seconds | `stage`: first | D. |\n| `e` | gauge | x |  | E. |\n\n\
        Upper edges of `d_seconds_bucket` (`le`), in seconds: 0.01, +Inf.\n";

    /// A test of an alert went on passing with `reason="json"`, which the gateway calls `not_json`: neither named labels that there are.
    #[test]
    fn a_value_that_no_metric_has_is_found() {
        let labels = Labels::parse(LISTED).unwrap();
        let found = |text: &'static str| labels.findings(text, |name| name.trim_end_matches("_bucket"));
        for fine in [
            "sum (rate(a_total{reason=\"closed\", job=\"x\"}[5m])) / c{instance=~\"$instance\"}",
            "a_total{reason=~\"closed|skipped\"} + b{window!=\"10ms\", shard=\"7\"}",
            "a_total{reason=~\".+\"} + a_total{reason=\"$reason\"} + a_total{reason=\"\"} + unknown{reason=\"x\"} + c{}",
            "d_seconds_bucket{stage=\"first\",le=\"0.01\"}",
            "summary: \"{{ $labels.reason }} of c\"",
        ] {
            assert_eq!(found(fine), [""; 0], "{fine}");
        }
        for (wrong, expected) in [
            ("a_total{job=\"x\", reason=\"close\"}", "reason of a_total is never close"),
            ("a_total{reason!~\"closed|skip\"}", "reason of a_total is never skip"),
            ("c{reason=\"closed\"}", "c has no label reason"),
            ("d_seconds_bucket{le=\"0.010\"}", "le of d_seconds_bucket is never 0.010"),
        ] {
            assert_eq!(found(wrong), [expected]);
        }
    }

    #[test]
    fn a_list_that_is_laid_out_otherwise_is_no_empty_one() {
        assert!(Labels::parse("# Metrics\n\n- `a_total`: events\n").is_err());
    }
}
