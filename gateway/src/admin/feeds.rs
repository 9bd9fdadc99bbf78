//! What there is to say of the feeds, for those who ask without Prometheus.

use crate::clock;
use crate::stats::Board;
use std::fmt::Write as _;
use tickgate_protocol::control::FeedState;

/// Every feed of every tier.
#[derive(Debug, serde::Serialize)]
pub(super) struct FeedList {
    feeds: Vec<Feed>,
}

#[derive(Debug, serde::Serialize)]
struct Feed {
    feed: String,
    /// How late it is served; 0 is live.
    delayed_s: u64,
    state: FeedState,
    lag_records: u64,
    /// Highest rates of the last seconds.
    peak_10ms_per_s: u64,
    peak_100ms_per_s: u64,
    partitions: Vec<Partition>,
}

#[derive(Debug, serde::Serialize)]
struct Partition {
    partition: u32,
    next_offset: u64,
    high_watermark: u64,
    lag_records: u64,
    /// Milliseconds since the last record read was appended; absent before the first.
    record_age_ms: Option<i64>,
    caught_up: bool,
}

impl FeedList {
    pub(super) fn of(board: &Board) -> Self {
        let now_ms = clock::wall_ns() / 1_000_000;
        let mut feeds = Vec::new();
        for tier in board.tiers() {
            let totals = board.feed_of(tier.number).clone();
            for (at, status) in totals.feeds.iter().enumerate() {
                let [peak_10ms_per_s, peak_100ms_per_s] = totals.peaks.get(at).copied().unwrap_or_default();
                let partitions = totals.partitions.iter().filter(|partition| partition.feed == status.name);
                let partitions = partitions.map(|partition| Partition {
                    partition: partition.partition,
                    next_offset: partition.next_offset,
                    high_watermark: partition.high_watermark,
                    lag_records: partition.high_watermark.saturating_sub(partition.next_offset),
                    record_age_ms: (partition.record_ms > 0).then(|| now_ms - partition.record_ms),
                    caught_up: partition.caught_up,
                });
                feeds.push(Feed {
                    feed: status.name.clone(),
                    delayed_s: tier.delayed_s().unwrap_or(0),
                    state: status.state,
                    lag_records: status.lag_records,
                    peak_10ms_per_s,
                    peak_100ms_per_s,
                    partitions: partitions.collect(),
                });
            }
        }
        Self { feeds }
    }

    /// As a table for a person.
    pub(super) fn table(&self) -> String {
        let mut text = format!(
            "{:<24} {:>7} {:<6} {:>9} {:>14} {:>14} {:>10} {:>12} {:>6}\n",
            "FEED", "DELAY_S", "STATE", "PARTITION", "NEXT", "HIGH", "LAG", "AGE_MS", "CAUGHT"
        );
        for feed in &self.feeds {
            let state = feed.state.name();
            for partition in &feed.partitions {
                let age = partition.record_age_ms.map_or_else(|| "-".to_owned(), |age_ms| age_ms.to_string());
                let _ = writeln!(
                    text,
                    "{:<24} {:>7} {state:<6} {:>9} {:>14} {:>14} {:>10} {age:>12} {:>6}",
                    feed.feed,
                    feed.delayed_s,
                    partition.partition,
                    partition.next_offset,
                    partition.high_watermark,
                    partition.lag_records,
                    if partition.caught_up { "yes" } else { "no" },
                );
            }
            if feed.partitions.is_empty() {
                let _ =
                    writeln!(text, "{:<24} {:>7} {state:<6} no partition is read", feed.feed, feed.delayed_s);
            }
        }
        text
    }
}
