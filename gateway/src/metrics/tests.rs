use super::catalog::CATALOG;
use super::*;
use crate::config::delays::Tier;
use crate::latency::Recorder;
use crate::stats::PartitionTotals;
use std::collections::{BTreeMap, BTreeSet};
use tickgate_protocol::control::FeedStatus;

/// Series of a scrape: name, labels, value.
type Series = (String, BTreeMap<String, String>, f64);

/// Parses Prometheus text strictly enough to catch what a scraper would refuse: every family announced once, with help
/// before type before its series.
fn parse(text: &str) -> (BTreeMap<String, String>, Vec<Series>) {
    let (mut types, mut helps, mut series) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
    let mut family = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a name and a help");
            assert!(!help.is_empty() && helps.insert(name.to_owned()), "help of {name}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a type");
            assert!(helps.contains(name), "{name} has no help before its type");
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} has two types");
            name.clone_into(&mut family);
        } else {
            let (left, value) = line.rsplit_once(' ').expect("a series and a value");
            let (name, labels) = left.split_once('{').unwrap_or((left, "}"));
            let base =
                name.strip_prefix(&family).unwrap_or_else(|| panic!("{name} stands in the family {family}"));
            assert!(
                ["", "_bucket", "_sum", "_count"].contains(&base),
                "{name} stands in the family {family}"
            );
            let labels =
                labels.strip_suffix('}').expect("closed labels").split(',').filter(|label| !label.is_empty());
            let labels = labels.map(|label| {
                let (name, value) = label.split_once('=').expect("a label and a value");
                (name.to_owned(), value.trim_matches('"').to_owned())
            });
            let value = if value == "+Inf" { f64::INFINITY } else { value.parse().expect("a number") };
            series.push((name.to_owned(), labels.collect(), value));
        }
    }
    (types, series)
}

/// What is read of librdkafka's statistics.
const STATISTICS: &[u8] = br#"{"brokers":{"b":{"nodeid":1,"state":"UP","tx":1,"txerrs":0,"txretries":0,"req_timeouts":0,"rxerrs":0,"rxbytes":9,
    "disconnects":0,"rtt":{"cnt":1,"p50":1,"p99":1,"max":1},"throttle":{"cnt":0,"p50":0,"p99":0,"max":0}}},"topics":{}}"#;

/// A board on which everything has happened once.
fn busy_board() -> Board {
    let tiers = [0, 900].into_iter().enumerate();
    let tiers = tiers.map(|(number, delay_s)| Tier { number, delay_s }).collect();
    let board = Board::with_tiers(2, tiers);
    board.feed_of(1).records = 3;
    board.shard(3).sessions = 5;
    for shard in 0..2 {
        let mut totals = board.shard(shard);
        totals.offered = 100;
        totals.sent = 60;
        totals.conflated = 20;
        totals.dropped = [10, 5];
        totals.held = 5;
        totals.sessions = 3 + shard as u64;
        totals.queue_age_max_ms = 1_500 * shard as u64;
        totals.sessions_closed[CloseReason::Stalled as usize] = 2;
        let mut latencies = Recorder::new();
        for stage in Stage::ALL {
            latencies.record_n(stage, 3_000_000, 98);
            latencies.record_n(stage, 40_000, 2);
            latencies.record_n(stage, -2_000_000_000, 1);
        }
        latencies.publish(&board, shard);
    }
    let mut feed = board.feed();
    feed.records = 7;
    feed.bad_records[3] = 4;
    feed.feeds = vec![FeedStatus {
        name: "a \"feed\"".to_owned(),
        state: FeedState::Stale,
        event_ns: Some(1_500_000_000),
        lag_records: 9,
    }];
    feed.partitions = vec![PartitionTotals {
        feed: "ticks".to_owned(),
        partition: 3,
        next_offset: 10,
        high_watermark: 25,
        caught_up: true,
        record_ms: 1_500,
    }];
    feed.peaks = vec![[500, 200]];
    feed.ready = true;
    board.feed_of(1).feeds = feed.feeds.clone();
    drop(feed);
    board.certificate_until_s.store(1_500_000_000, Ordering::Relaxed);
    board.kafka.iter().for_each(|client| client.put(STATISTICS));
    board
}

fn scrape(board: &Board) -> String {
    allocator_is(|| [1, 2]);
    Metrics::new(&Config::default(), 0).render(board, 5_000_000_000)
}

fn value(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let (_, series) = parse(text);
    let wanted = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let found: Vec<_> =
        series.iter().filter(|(n, l, _)| n == name && *l == wanted).map(|(_, _, v)| *v).collect();
    assert_eq!(found.len(), 1, "{name} {labels:?} in\n{text}");
    found[0]
}

/// What clients measure is laid over what the gateway says, bucket by bucket.
#[test]
fn the_load_programs_have_the_same_buckets() {
    assert_eq!(EDGES_NS, tickgate_exporter::page::EDGES_NS);
}

#[test]
fn the_catalog_is_what_a_scrape_shows() {
    let (types, series) = parse(&scrape(&busy_board()));
    let shown: BTreeMap<&str, &str> =
        types.iter().map(|(name, kind)| (name.as_str(), kind.as_str())).collect();
    let expected: BTreeMap<&str, &str> =
        CATALOG.iter().map(|metric| (metric.name, metric.kind.name())).collect();
    assert_eq!(shown, expected);
    assert_eq!(expected.len(), CATALOG.len(), "names are unique");
    for metric in CATALOG {
        let suffixes: &[(&str, &[&str])] = match metric.kind {
            Kind::Histogram => &[("_bucket", &["le"]), ("_sum", &[]), ("_count", &[])],
            _ => &[("", &[])],
        };
        for (suffix, more) in suffixes {
            let expected: BTreeSet<&str> = metric.labels.iter().chain(*more).copied().collect();
            let mut found = 0;
            for (name, labels, _) in &series {
                if *name == format!("{}{suffix}", metric.name) {
                    found += 1;
                    assert_eq!(
                        labels.keys().map(String::as_str).collect::<BTreeSet<_>>(),
                        expected,
                        "{name}"
                    );
                }
            }
            assert!(found > 0, "{}{suffix} has no series", metric.name);
        }
    }
}

#[test]
fn names_keep_the_rules() {
    for metric in CATALOG {
        let name = metric.name;
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        assert!(name.bytes().all(legal) && !name.contains("__"), "{name}");
        assert!(name.starts_with("tickgate_") || name.starts_with("process_"), "{name}");
        assert_eq!(
            name.ends_with("_total"),
            metric.kind == Kind::Counter,
            "{name}: counters alone end in _total"
        );
        assert!(metric.help.ends_with('.') && !metric.help.contains('\n'), "{name}: help is a sentence");
        let base = name.trim_end_matches("_total");
        for unit in ["seconds", "bytes"] {
            assert_eq!(base.ends_with(unit), metric.unit == unit, "{name}: base unit");
        }
        for other in ["_ms", "_ns", "_milliseconds", "_kb", "_count", "_sum", "_bucket", "_info_total"] {
            assert!(!base.ends_with(other), "{name}");
        }
        for label in metric.labels {
            // The last two belong to histograms and summaries alone.
            assert!(
                !["symbol", "client", "session", "peer", "address", "le", "quantile"].contains(label),
                "{name}: {label}"
            );
        }
    }
}

#[test]
fn the_books_close_and_a_lost_event_shows() {
    let board = busy_board();
    let text = scrape(&board);
    assert_eq!(value(&text, "tickgate_events_offered_total", &[]), 200.0);
    assert_eq!(value(&text, "tickgate_events_dropped_total", &[("reason", "skipped")]), 20.0);
    assert_eq!(value(&text, "tickgate_events_held", &[]), 10.0);
    assert_eq!(value(&text, "tickgate_books_imbalance_events", &[]), 0.0);
    board.shard(0).sent -= 3;
    board.shard(1).sent += 1;
    assert_eq!(value(&scrape(&board), "tickgate_books_imbalance_events", &[]), 4.0);
}

#[test]
fn gauges_speak_of_now_and_limits_stand_beside_them() {
    let board = busy_board();
    let text = scrape(&board);
    assert_eq!(value(&text, "tickgate_sessions_open", &[("shard", "1")]), 9.0, "those who are late, too");
    assert_eq!(value(&text, "tickgate_delayed_sessions_open", &[("delay_s", "900")]), 5.0);
    assert_eq!(value(&text, "tickgate_gateway_ready", &[]), 0.0, "what is late is not there yet");
    board.feed_of(1).ready = true;
    let text = scrape(&board);
    assert_eq!(value(&text, "tickgate_outbox_age_max_seconds", &[]), 1.5);
    assert_eq!(value(&text, "tickgate_limit_outbox_age_seconds", &[]), 5.0);
    assert_eq!(
        value(&text, "tickgate_partition_lag_records", &[("feed", "ticks"), ("partition", "3")]),
        15.0
    );
    assert_eq!(value(&text, "tickgate_gateway_ready", &[]), 1.0);
    board.draining.store(true, Ordering::Relaxed);
    board.feed().partitions.clear();
    let text = scrape(&board);
    assert_eq!(value(&text, "tickgate_gateway_ready", &[]), 0.0);
    assert!(!text.contains("tickgate_partition_lag_records"), "what is gone leaves no series");
}

#[test]
fn label_values_are_escaped() {
    assert!(scrape(&busy_board()).contains(r#"tickgate_feed_lag_records{feed="a \"feed\""} 9"#));
}

#[test]
fn latencies_come_as_buckets_and_as_quantiles() {
    let board = busy_board();
    let mut metrics = Metrics::new(&Config::default(), 0);
    let text = metrics.render(&board, 1_000_000_000);
    let stage = ("stage", "ingest_to_written");
    assert_eq!(value(&text, "tickgate_latency_seconds_bucket", &[stage, ("le", "0.00005")]), 4.0);
    assert_eq!(value(&text, "tickgate_latency_seconds_bucket", &[stage, ("le", "0.002")]), 4.0);
    assert_eq!(value(&text, "tickgate_latency_seconds_bucket", &[stage, ("le", "0.005")]), 200.0);
    assert_eq!(value(&text, "tickgate_latency_seconds_bucket", &[stage, ("le", "+Inf")]), 200.0);
    assert_eq!(value(&text, "tickgate_latency_seconds_count", &[stage]), 200.0);
    let sum = value(&text, "tickgate_latency_seconds_sum", &[stage]);
    assert!((sum - (196.0 * 0.003 + 4.0 * 0.000_04)).abs() < 1e-9, "{sum}");
    assert_eq!(value(&text, "tickgate_latency_negative_total", &[stage]), 2.0);
    assert_eq!(value(&text, "tickgate_latency_negative_max_seconds", &[stage]), 2.0);
    let p99 = value(&text, "tickgate_latency_quantile_seconds", &[stage, ("q", "0.99")]);
    assert!((0.003..0.003_03).contains(&p99), "{p99}");

    // Twenty seconds of silence later the buckets stand and the quantiles are gone.
    for second in 2..=20 {
        metrics.observe(&board, second * 1_000_000_000);
    }
    let text = metrics.render(&board, 21_000_000_000);
    assert_eq!(value(&text, "tickgate_latency_seconds_count", &[stage]), 200.0);
    assert!(!text.contains("tickgate_latency_quantile_seconds{"), "{text}");
    let window_s = value(&text, "tickgate_latency_window_seconds", &[]);
    assert!((10.0..=12.0).contains(&window_s), "{window_s}");
}
