//! Names of metrics: those in queries, those there are, and those that nobody shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, bail};

use super::board::Board;
use super::labels::{self, Labels};
use super::{ALERTS, RULE_TESTS, RULES};
use crate::shell;

/// Of the gateway, and of the load programs.
const CATALOGS: [&str; 3] =
    ["gateway/src/metrics/catalog.rs", "loadgen/src/metrics.rs", "feed-simulator/src/metrics.rs"];

/// What Prometheus itself adds to every scrape.
const OF_PROMETHEUS: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

/// Metrics that are on no dashboard, in no rule and in no alert, and why.
const UNSHOWN: &[(&str, &str)] = &[
    (
        "tickgate_auth_revocation_timestamp_seconds",
        "the records by result show the same; it is for an alert of one's own",
    ),
    (
        "tickgate_delayed_feed_event_timestamp_seconds",
        "late by design: its age is the delay and whatever the live feed's is",
    ),
    ("tickgate_delayed_sessions_open", "absent without delays; open sessions have them too"),
    // All whose names begin so.
    (
        "tickgate_kafka_",
        "librdkafka's own, off by default, but for the round trip: to be asked when brokers are looked at",
    ),
    ("tickgate_limit_inbox_batches", "of one shard: how full an inbox is is not exported, only that it was"),
    ("tickgate_limit_inbox_bytes", "the same"),
    ("tickgate_limit_outbox_entries", "of one session: `/sessions` shows who is near it"),
    ("tickgate_limit_patterns", "what is used of it is not exported: `/config` has the limit"),
    ("tickgate_limit_replays", "of one session"),
    ("tickgate_limit_streams", "what is used of it is not exported"),
    ("tickgate_limit_subscriptions", "of one session: `/sessions` shows who is near it"),
    ("tickgate_limit_unseen_symbols", "what is used of it is not exported"),
    (
        "tickgate_load_latency_unmeasured_total",
        "negative ones show as clock skew on the gateway's dashboards; the run's report has the others",
    ),
    ("tickgate_trace_spans_total", "all 0 without a collector: to be asked when traces are missing there"),
];

/// The metrics there are.
#[derive(Debug)]
pub struct Known {
    /// What the programs have, and whether it is a histogram.
    catalog: BTreeMap<String, bool>,
    /// What rules record.
    rules: BTreeSet<String>,
    /// Rules, alerts and their tests: each file's name and its text without comments.
    files: Vec<(&'static str, String)>,
    /// The names in expressions of rules and alerts: somebody is shown those.
    in_rules: BTreeSet<String>,
    labels: Labels,
}

impl Known {
    pub fn read() -> Result<Self> {
        let text = |name: &str| {
            fs::read_to_string(shell::root().join(name)).with_context(|| format!("reading {name}"))
        };
        let files = [RULES, ALERTS].into_iter().chain(RULE_TESTS).map(|name| Ok((name, text(name)?)));
        Self::parse(
            &CATALOGS.map(text).into_iter().collect::<Result<Vec<_>>>()?,
            &files.collect::<Result<Vec<_>>>()?,
            &text(labels::METRICS)?,
        )
    }

    fn parse(catalogs: &[impl AsRef<str>], files: &[(&'static str, String)], metrics: &str) -> Result<Self> {
        let parts: Vec<_> = catalogs.iter().map(|catalog| catalogued(catalog.as_ref())).collect();
        if let Some(at) = parts.iter().position(|part| part.len() < 5) {
            bail!("{} is not laid out as expected: {} names", CATALOGS[at], parts[at].len());
        }
        let known = Self {
            catalog: parts.into_iter().flatten().collect(),
            rules: files.iter().flat_map(|(_, text)| recorded(text)).collect(),
            in_rules: files
                .iter()
                .filter(|(name, _)| !RULE_TESTS.contains(name))
                .flat_map(|(_, text)| names(&uncommented(text)))
                .collect(),
            files: files.iter().map(|(name, text)| (*name, uncommented(text))).collect(),
            labels: Labels::parse(metrics)?,
        };
        if known.rules.is_empty() {
            bail!("{RULES} is not laid out as expected: it has no names");
        }
        Ok(known)
    }

    /// The names that rules record.
    pub fn rules(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(String::as_str)
    }

    /// What an answer has to be there for: of service levels, for each by itself, as one of them suffices for a name.
    pub fn wanted(&self) -> Vec<String> {
        let objectives =
            self.files.iter().flat_map(|(_, text)| text.split("- record: tickgate:slo:objective\n").skip(1));
        let levels: BTreeSet<_> =
            objectives.filter_map(|rest| Some(rest.split_once("{slo: ")?.1.split_once('}')?.0)).collect();
        let of_rule = |name: &String| -> Vec<String> {
            if levels.is_empty() || !name.starts_with("tickgate:slo:") {
                return vec![name.clone()];
            }
            levels.iter().map(|level| format!("{name}{{slo=\"{level}\"}}")).collect()
        };
        self.rules.iter().flat_map(of_rule).collect()
    }

    /// The metric that a name in a query stands for: of a histogram's parts, the histogram.
    fn metric<'a>(&self, name: &'a str) -> &'a str {
        let whole = ["_bucket", "_sum", "_count"].into_iter().find_map(|part| name.strip_suffix(part));
        whole.filter(|whole| self.catalog.get(*whole) == Some(&true)).unwrap_or(name)
    }

    /// Whether there is such a metric, or a rule that records it.
    pub fn is_known(&self, name: &str) -> bool {
        self.catalog.contains_key(self.metric(name))
            || self.rules.contains(name)
            || OF_PROMETHEUS.contains(&name)
    }

    /// Names and labels in queries that nothing has, metrics that nobody shows, and exceptions that are none.
    pub fn findings(&self, boards: &[Board]) -> Result<Vec<String>> {
        let mut findings = Vec::new();
        let of_boards = boards.iter().flat_map(|board| board.exprs().map(|expr| (board.name.as_str(), expr)));
        let of_files = self.files.iter().map(|(name, text)| (*name, text.as_str()));
        for (place, text) in of_boards.chain(of_files) {
            for name in names(text).into_iter().filter(|name| !self.is_known(name)) {
                findings.push(format!("{place}: {name} is no metric of the catalog, and no rule records it"));
            }
            let of_labels = self.labels.findings(text, |name| self.metric(name));
            findings.extend(of_labels.into_iter().map(|finding| format!("{place}: {finding}")));
        }
        let shown = self.shown(boards);
        let left = self.leftovers(boards, self.catalog.keys().map(String::as_str));
        findings.extend(
            left.into_iter().map(|name| format!("{name} is on no dashboard, in no rule and in no alert")),
        );
        for (name, _) in UNSHOWN.iter().filter(|(name, _)| !name.ends_with('_')) {
            if shown.contains(*name) || !self.catalog.contains_key(*name) {
                findings.push(format!("{name} is named as a metric that nobody shows: it is shown, or gone"));
            }
        }
        Ok(findings)
    }

    /// The metrics among `there_are` that are on no dashboard, in no rule and in no alert, without a reason.
    pub fn leftovers<'a>(&self, boards: &[Board], there_are: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
        let shown = self.shown(boards);
        let is_excused = |name: &str| {
            UNSHOWN
                .iter()
                .any(|(excused, _)| *excused == name || excused.ends_with('_') && name.starts_with(excused))
        };
        let of_ours = |name: &str| name.starts_with("tickgate") || name.starts_with("process_");
        let is_left = |name: &&str| of_ours(name) && !shown.contains(self.metric(name)) && !is_excused(name);
        there_are.filter(is_left).collect()
    }

    fn shown(&self, boards: &[Board]) -> BTreeSet<String> {
        let in_boards = boards.iter().flat_map(Board::exprs).flat_map(names);
        in_boards.chain(self.in_rules.iter().cloned()).map(|name| self.metric(&name).to_owned()).collect()
    }
}

/// The names of a catalog, and whether each is a histogram.
fn catalogued(text: &str) -> BTreeMap<String, bool> {
    let mut all = BTreeMap::new();
    for line in text.lines().map(str::trim_start) {
        let prefixes =
            [("counter(\"", false), ("gauge(\"", false), ("histogram(\"", true), ("name: \"", true)];
        for (prefix, is_histogram) in prefixes {
            if let Some((name, _)) = line.strip_prefix(prefix).and_then(|rest| rest.split_once('"')) {
                all.insert(name.to_owned(), is_histogram);
            }
        }
    }
    all
}

/// What a file of rules records.
fn recorded(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| line.trim_start().strip_prefix("- record: "))
        .map(|name| name.trim().to_owned())
        .collect()
}

fn uncommented(text: &str) -> String {
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#') && !line.contains("- name:"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The names of metrics in an expression. Names in a regular expression count, too: a variable may ask for one of several.
pub fn names(expr: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    // A colon that follows a name is a sentence's.
    let words = expr.split(|c| !is_part(c)).map(|word| word.trim_end_matches(':'));
    let is_name = |word: &&str| {
        ["tickgate_", "tickgate:", "process_", "scrape_"].iter().any(|prefix| word.starts_with(prefix))
            || *word == "up"
    };
    words.filter(is_name).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES_TEXT: &str = "groups:\n  - name: tickgate_some\n    rules:\n      # tickgate_spoken_of\n      - record: \
        tickgate:slo:objective\n        expr: rate(tickgate_in_rule_total[5m])\n";

    const LISTED: &str = "| `tickgate_of_1` | gauge | x | `reason`: a | A. |\n| `tickgate_of_2` | gauge | x |  | B. |\n\
        | `tickgate_of_3` | gauge | x |  | C. |\n| `tickgate_of_4` | gauge | x |  | D. |\n| `tickgate_of_5` | gauge | x |  | E. |\n";

    fn known() -> Known {
        let mut catalog: String =
            (0..10).map(|n| format!("    gauge(\"tickgate_of_{n}\", \"x\", &[], \"y\"),\n")).collect();
        catalog += "    Metric {\n        name: \"tickgate_latency_seconds\",\n    counter(\"tickgate_in_rule_total\", \"x\", &[], \"\"),\n";
        let alerts = "groups:\n  - name: a\n    rules:\n      - alert: A\n        expr: tickgate_of_9 > 1\n";
        let tests = "tests:\n  - name: \"tickgate_named\"\n    input_series:\n      - {series: 'tickgate_of_8', values: '1x2'}\n";
        let files = [(RULES, RULES_TEXT), (ALERTS, alerts), (RULE_TESTS[0], tests)];
        Known::parse(&[catalog], &files.map(|(name, text)| (name, text.to_owned())), LISTED).unwrap()
    }

    fn board(expr: &str) -> Board {
        let json = serde_json::json!({"panels": [{"title": "t", "targets": [{"expr": expr}]}]});
        Board::parse("some", &json.to_string()).unwrap()
    }

    #[test]
    fn names_are_found_in_expressions() {
        let expr = "sum by (job) (rate(tickgate_a_total{up_to=\"x\", job=~\"$job\"}[5m])) / tickgate:slo:objective + up";
        assert_eq!(
            names(expr).into_iter().collect::<Vec<_>>(),
            ["tickgate:slo:objective", "tickgate_a_total", "up"]
        );
        assert_eq!(names("{__name__=~\"tickgate_load_a|tickgate_sim_b\"}").len(), 2);
    }

    #[test]
    fn a_name_that_nothing_has_is_found() {
        let check = |expr: &str, expected: &str| {
            let all = known().findings(&[board(expr)]).unwrap();
            let of_board: Vec<_> = all.iter().filter(|finding| finding.starts_with("some: ")).collect();
            assert_eq!(of_board.len(), usize::from(!expected.is_empty()), "{expr}: {of_board:?}");
            assert!(of_board.iter().all(|finding| finding.contains(expected)), "{of_board:?}");
        };
        check("tickgate_of_1 + tickgate_latency_seconds_bucket + tickgate:slo:objective", "");
        check("tickgate_off_1", "tickgate_off_1 is no metric");
        check("tickgate_of_1_bucket", "tickgate_of_1_bucket is no metric");
        check("tickgate:slo:objectives", "tickgate:slo:objectives is no metric");
        check("tickgate_of_1{reason=\"a\"}", "");
        check("tickgate_of_1{reason=\"b\"}", "reason of tickgate_of_1 is never b");
    }

    /// `or 0 * …` of one level answered for all three, so a rule could be broken and nobody was told.
    #[test]
    fn every_service_level_has_to_answer() {
        assert_eq!(known().wanted(), ["tickgate:slo:objective"]);
        let all = Known::read().unwrap().wanted();
        for name in ["objective", "error_ratio_rate5m", "error_ratio_rate30d", "budget_left_ratio30d"] {
            for level in ["delivery", "freshness", "survival"] {
                let wanted = format!("tickgate:slo:{name}{{slo=\"{level}\"}}");
                assert!(all.contains(&wanted), "{wanted}: {all:?}");
            }
        }
        assert!(all.contains(&"tickgate:feed_age:seconds".to_owned()), "{all:?}");
    }

    /// Only rules were looked at: an alert on a metric that there is not can never come, and nobody would have known.
    #[test]
    fn names_in_alerts_and_in_tests_have_to_be_of_something() {
        let mut known = known();
        assert_eq!(known.leftovers(&[], ["tickgate_of_8", "tickgate_of_9"].into_iter()), ["tickgate_of_8"]);
        for (index, file) in [RULES, ALERTS, RULE_TESTS[0]].into_iter().enumerate() {
            known.files[index].1 += " tickgate_off_1";
            let all = known.findings(&[]).unwrap();
            assert!(
                all.contains(&format!(
                    "{file}: tickgate_off_1 is no metric of the catalog, and no rule records it"
                )),
                "{all:?}"
            );
        }
    }

    #[test]
    fn what_nobody_shows_is_left_over() {
        let known = known();
        let boards = [board("tickgate_of_1 + tickgate_latency_seconds_sum")];
        let there_are = [
            "tickgate_of_1",
            "tickgate_of_2",
            "tickgate_in_rule_total",
            "tickgate_latency_seconds_bucket",
            "go_goroutines",
        ];
        assert_eq!(known.leftovers(&boards, there_are.into_iter()), ["tickgate_of_2"]);
        assert_eq!(known.rules().collect::<Vec<_>>(), ["tickgate:slo:objective"]);
    }

    #[test]
    fn a_catalog_that_is_laid_out_otherwise_is_no_empty_one() {
        let files = [(RULES, RULES_TEXT.to_owned())];
        assert!(Known::parse(&["const CATALOG: &[Metric] = load();"], &files, LISTED).is_err());
    }

    #[test]
    fn every_name_is_known_and_every_metric_shown() {
        let boards = super::super::board::all().unwrap();
        assert_eq!(Known::read().unwrap().findings(&boards).unwrap(), [""; 0]);
    }
}
