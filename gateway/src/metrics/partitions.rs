//! Partitions of the live feed.

use super::{Scrape, flag};
use crate::stats::FeedTotals;
use std::collections::BTreeMap;

/// Since when there has been more to read of which partition, by feed and number, as scrapes saw it; nothing of those that are read.
#[derive(Debug, Default)]
pub(super) struct Lags(BTreeMap<(String, u32), i64>);

impl Lags {
    /// Where each partition stands, in records and in seconds.
    pub(super) fn show(&mut self, scrape: &Scrape, feed: &FeedTotals, now_ns: i64) {
        let mut lags_s: Vec<f64> = vec![0.0; feed.feeds.len()];
        // Those that are gone are left out.
        let before = std::mem::take(&mut self.0);
        for partition in &feed.partitions {
            let number = partition.partition.to_string();
            let labels = [("feed", partition.feed.as_str()), ("partition", number.as_str())];
            let lag = partition.high_watermark.saturating_sub(partition.next_offset);
            scrape.gauge("tickgate_partition_lag_records", &labels, lag as f64);
            scrape.gauge("tickgate_partition_next_offset", &labels, partition.next_offset as f64);
            scrape.gauge("tickgate_partition_caught_up", &labels, flag(partition.caught_up));
            let high = partition.high_watermark.max(partition.next_offset);
            scrape.gauge("tickgate_partition_high_watermark_offset", &labels, high as f64);
            let record_ns = (partition.record_ms > 0).then(|| partition.record_ms.saturating_mul(1_000_000));
            if let Some(record_ns) = record_ns {
                scrape.gauge("tickgate_partition_record_timestamp_seconds", &labels, record_ns as f64 / 1e9);
            }
            let mut lag_s = 0.0;
            if lag > 0 {
                let key = (partition.feed.clone(), partition.partition);
                let since_ns = before.get(&key).copied().unwrap_or(now_ns);
                self.0.insert(key, since_ns);
                lag_s = lag_ns(now_ns, since_ns, record_ns) as f64 / 1e9;
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
}

/// How long there has been more to read: at the most the age of the newest record that was read, which says nothing of a partition
/// of which none was yet, and too much of one that was silent before.
fn lag_ns(now_ns: i64, since_ns: i64, record_ns: Option<i64>) -> i64 {
    let waits_ns = now_ns - since_ns;
    record_ns.map_or(waits_ns, |record_ns| waits_ns.min(now_ns - record_ns)).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A partition of which nothing was ever read had no lag, and one that had been silent for an hour had an hour with its first
    /// record.
    #[test]
    fn lag_is_the_time_in_which_there_was_more_to_read() {
        assert_eq!(lag_ns(100, 40, None), 60, "nothing was read yet");
        assert_eq!(lag_ns(100, 100, Some(0)), 0, "the first record after a silence");
        assert_eq!(lag_ns(100, 90, Some(0)), 10, "which is not read");
        assert_eq!(lag_ns(100, 0, Some(95)), 5, "there is always one more, and they are read");
        assert_eq!(lag_ns(100, 40, Some(120)), 0, "a clock ahead of ours");
    }
}
