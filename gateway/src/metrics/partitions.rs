//! Partitions of the live feed.

use super::{Scrape, flag};
use crate::clock;
use crate::stats::FeedTotals;

/// Where each partition stands, in records and in seconds.
pub(super) fn partitions(scrape: &Scrape, feed: &FeedTotals) {
    let mut lags_s: Vec<f64> = vec![0.0; feed.feeds.len()];
    let now_s = clock::wall_ns() as f64 / 1e9;
    for partition in &feed.partitions {
        let number = partition.partition.to_string();
        let labels = [("feed", partition.feed.as_str()), ("partition", number.as_str())];
        let lag = partition.high_watermark.saturating_sub(partition.next_offset);
        scrape.gauge("tickgate_partition_lag_records", &labels, lag as f64);
        scrape.gauge("tickgate_partition_next_offset", &labels, partition.next_offset as f64);
        scrape.gauge("tickgate_partition_caught_up", &labels, flag(partition.caught_up));
        let high = partition.high_watermark.max(partition.next_offset);
        scrape.gauge("tickgate_partition_high_watermark_offset", &labels, high as f64);
        let mut lag_s = 0.0;
        if partition.record_ms > 0 {
            let record_s = partition.record_ms as f64 / 1e3;
            scrape.gauge("tickgate_partition_record_timestamp_seconds", &labels, record_s);
            if lag > 0 {
                lag_s = (now_s - record_s).max(0.0);
            }
        }
        scrape.gauge("tickgate_partition_lag_seconds", &labels, lag_s);
        if let Some(at) = feed.feeds.iter().position(|status| status.name == partition.feed) {
            lags_s[at] = lags_s[at].max(lag_s);
        }
    }
    for (status, lag_s) in feed.feeds.iter().zip(lags_s) {
        scrape.gauge("tickgate_feed_lag_seconds", &[("feed", status.name.as_str())], lag_s);
    }
}
