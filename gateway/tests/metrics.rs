//! `docs/metrics.md` is made from the catalog of metrics, and from a scrape, which knows the values of labels.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use tickgate_gateway::config::Config;
use tickgate_gateway::config::delays::Tier;
use tickgate_gateway::latency::{Recorder, Stage};
use tickgate_gateway::metrics::catalog::{CATALOG, Kind, Metric, OPEN_LABELS};
use tickgate_gateway::metrics::{EDGES_NS, Metrics, allocator_is};
use tickgate_gateway::stats::{Board, PartitionTotals};
use tickgate_protocol::control::{FeedState, FeedStatus};

/// The file in the repository.
const REFERENCE: &str = include_str!("../../docs/metrics.md");

const HEAD: &str = "\
# Metrics

Everything that `/metrics` of a gateway's admin listener shows, and nothing else. This file is made by
`TICKGATE_TEST_BLESS=1 cargo test -p tickgate-gateway --test metrics` from `gateway/src/metrics/catalog.rs` and from a scrape; tests hold
both to it, `cargo xtask dashboards check` holds the [dashboards](../dashboards/README.md) to the catalog, and `cargo xtask dashboards prove`
asks `promtool check metrics` of a gateway under load.

Names are `tickgate_<noun>_<what>[_<unit>][_total]` in base units; what ends in `_total` is a counter since the start of the process, to be
looked at as a rate. Values of labels come from closed lists, which are given here, or from one of these:
";

/// What is read of librdkafka's statistics.
const STATISTICS: &[u8] = br#"{"brokers":{"b":{"nodeid":1,"state":"UP","tx":1,"txerrs":0,"txretries":0,"req_timeouts":0,"rxerrs":0,"rxbytes":9,
    "disconnects":0,"rtt":{"cnt":1,"p50":1,"p99":1,"max":1},"throttle":{"cnt":0,"p50":0,"p99":0,"max":0}}},"topics":{}}"#;

/// A board on which there is something to show of every metric.
fn board() -> Board {
    let tiers = [0, 900].into_iter().enumerate();
    let board = Board::with_tiers(1, tiers.map(|(number, delay_s)| Tier { number, delay_s }).collect());
    let mut recorder = Recorder::new();
    Stage::ALL.into_iter().for_each(|stage| recorder.record(stage, 1_000_000));
    recorder.publish(&board, 0);
    let status =
        || FeedStatus { name: "ticks".to_owned(), state: FeedState::Live, event_ns: Some(1), lag_records: 0 };
    for tier in 0..2 {
        board.feed_of(tier).feeds = vec![status()];
    }
    let mut feed = board.feed();
    feed.peaks = vec![[1, 1]];
    feed.partitions = vec![PartitionTotals {
        feed: "ticks".to_owned(),
        partition: 0,
        next_offset: 1,
        high_watermark: 1,
        caught_up: true,
        record_ms: 1,
    }];
    drop(feed);
    board.kafka.iter().for_each(|client| client.put(STATISTICS));
    board.certificate_until_s.store(1, std::sync::atomic::Ordering::Relaxed);
    board
}

/// The values of each label of each metric, as they are scraped.
fn scraped() -> BTreeMap<(String, String), BTreeSet<String>> {
    allocator_is(|| [1, 1]);
    let text = Metrics::new(&Config::default(), 0).render(&board(), 1_000_000_000);
    let mut found: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, labels)) = line.split_once('{') else { continue };
        let labels = labels.split_once('}').expect("labels end").0;
        for (label, value) in labels.split(',').filter_map(|label| label.split_once('=')) {
            let key = (name.to_owned(), label.to_owned());
            found.entry(key).or_default().insert(value.trim_matches('"').to_owned());
        }
    }
    found
}

fn labels_of(metric: &Metric, scraped: &BTreeMap<(String, String), BTreeSet<String>>) -> String {
    let describe = |label: &&str| {
        if OPEN_LABELS.iter().any(|(open, _)| open == label) {
            return format!("`{label}`");
        }
        let suffix = if metric.kind == Kind::Histogram { "_count" } else { "" };
        let values = scraped.get(&(format!("{}{suffix}", metric.name), (*label).to_owned()));
        let values = values.unwrap_or_else(|| panic!("{} has no {label} in a scrape", metric.name));
        format!("`{label}`: {}", values.iter().cloned().collect::<Vec<_>>().join(", "))
    };
    metric.labels.iter().map(describe).collect::<Vec<_>>().join("; ")
}

/// The word that metrics of one kind of thing have in common.
fn noun(metric: &Metric) -> &'static str {
    let (family, rest) = metric.name.split_once('_').expect("a name has words");
    if family == "tickgate" { rest.split('_').next().unwrap_or(rest) } else { family }
}

fn reference() -> String {
    let scraped = scraped();
    let mut text = HEAD.to_owned() + "\n| label | its values |\n| --- | --- |\n";
    for (label, values) in OPEN_LABELS {
        let _ = writeln!(text, "| `{label}` | {values} |");
    }
    let mut nouns: Vec<&str> = Vec::new();
    for metric in CATALOG {
        if !nouns.contains(&noun(metric)) {
            nouns.push(noun(metric));
        }
    }
    for wanted in nouns {
        let _ = write!(
            text,
            "\n## {wanted}\n\n| metric | type | unit | labels | |\n| --- | --- | --- | --- | --- |\n"
        );
        let mut edges = None;
        for metric in CATALOG.iter().filter(|metric| noun(metric) == wanted) {
            let Metric { name, kind, unit, help, .. } = metric;
            let (kind_name, labels) = (kind.name(), labels_of(metric, &scraped));
            let help = help.replace('|', "\\|");
            let _ = writeln!(text, "| `{name}` | {kind_name} | {unit} | {labels} | {help} |");
            if *kind == Kind::Histogram {
                edges = Some(name);
            }
        }
        if let Some(name) = edges {
            let all: Vec<String> = EDGES_NS.iter().map(|ns| (*ns as f64 / 1e9).to_string()).collect();
            let _ = writeln!(
                text,
                "\nUpper edges of `{name}_bucket` (`le`), in seconds: {}, +Inf.",
                all.join(", ")
            );
        }
    }
    text
}

#[test]
fn the_reference_is_what_the_catalog_says() {
    let made = reference();
    if std::env::var_os("TICKGATE_TEST_BLESS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        return std::fs::write(path, made).expect("the repository can be written");
    }
    // A line is enough to see what it is.
    let differs = REFERENCE.lines().zip(made.lines()).find(|(there, made)| there != made);
    assert_eq!(differs, None, "run the test once with TICKGATE_TEST_BLESS=1");
    assert!(REFERENCE == made, "run the test once with TICKGATE_TEST_BLESS=1");
}

#[test]
fn open_labels_are_in_use() {
    for (label, values) in OPEN_LABELS {
        assert!(CATALOG.iter().any(|metric| metric.labels.contains(&label)), "{label} is in no metric");
        assert!(!values.is_empty());
    }
}
