//! librdkafka's own statistics on their way from the threads that they arrive at to whoever scrapes.

use super::labelled;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

labelled! {
    /// A client of librdkafka whose statistics are shown.
    KafkaClient {
        /// The one that reads for the live feed. Its fetches wait at the broker for records.
        Feed = "feed",
        /// The one that asks for partitions, topic ids and watermarks. What it asks is answered at once.
        Tracker = "tracker",
    }
}

labelled! {
    /// What became of a text of statistics.
    KafkaStatistic {
        /// It is what was shown, or is still to be.
        Taken = "taken",
        /// A newer one came before anybody scraped.
        Unread = "unread",
        /// It is over [`KafkaStatistics::BYTES_MAX`].
        TooLarge = "too_large",
        /// It does not say what it should.
        Malformed = "malformed",
    }
}

/// The newest statistics of one client, as librdkafka wrote them, and what became of all of them.
#[derive(Debug, Default)]
pub struct KafkaStatistics {
    newest: Mutex<Option<Box<[u8]>>>,
    /// Texts, by [`KafkaStatistic`].
    pub results: [AtomicU64; KafkaStatistic::COUNT],
}

impl KafkaStatistics {
    /// Bytes of the longest text that is taken: a partition has some 0.8 KB in it, a broker 2.
    pub const BYTES_MAX: usize = 4 << 20;

    /// Takes a text in the place of the one before it. It costs a copy: it is read by whoever scrapes.
    pub fn put(&self, text: &[u8]) {
        if text.len() > Self::BYTES_MAX {
            return self.count(KafkaStatistic::TooLarge);
        }
        let before = self.newest.lock().unwrap_or_else(PoisonError::into_inner).replace(text.into());
        self.count(if before.is_some() { KafkaStatistic::Unread } else { KafkaStatistic::Taken });
    }

    /// The newest text, if it was not taken yet.
    pub fn take(&self) -> Option<Box<[u8]>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// One more text of which this became.
    pub fn count(&self, result: KafkaStatistic) {
        self.results[result as usize].fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_waits_and_each_is_counted() {
        let statistics = KafkaStatistics::default();
        assert_eq!(statistics.take(), None);
        for text in [&b"1"[..], b"2", &vec![b' '; KafkaStatistics::BYTES_MAX + 1]] {
            statistics.put(text);
        }
        assert_eq!(statistics.take().as_deref(), Some(&b"2"[..]));
        statistics.put(b"3");
        let counts = statistics.results.each_ref().map(|count| count.load(Ordering::Relaxed));
        assert_eq!(counts, [2, 1, 1, 0]);
    }
}
