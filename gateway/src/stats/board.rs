//! The board itself: one place for the copy of each shard's and each feed's numbers.

use super::{
    AccessCounts, FeedTotals, KafkaClient, KafkaStatistics, ReaderTotals, Reload, ShardTotals, TlsReload,
};
use crate::config::delays::Tier;
use crate::latency::StageHistograms;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tickgate_protocol::control::{FeedState, FeedStatus};
use tokio::sync::Notify;

/// The scoreboard of a gateway.
#[derive(Debug)]
pub struct Board {
    /// Who may connect.
    pub access: AccessCounts,
    /// Shards that work side by side.
    threads: usize,
    /// Of the live tier first, then those of each other.
    shards: Vec<Mutex<ShardTotals>>,
    tiers: Vec<Tier>,
    /// Of each tier.
    feeds: Vec<Mutex<FeedTotals>>,
    readers: Mutex<ReaderTotals>,
    latency: Vec<Mutex<StageHistograms>>,
    /// Set when the gateway began to stop.
    pub draining: AtomicBool,
    /// Configurations that were read again, by [`Reload`].
    pub reloads: [AtomicU64; Reload::COUNT],
    /// Keys of the last one that need a restart.
    pub keys_waiting: AtomicU64,
    /// Certificate files taken over or refused while the gateway runs, by [`TlsReload`].
    pub tls_reloads: [AtomicU64; TlsReload::COUNT],
    /// The last second of the certificate in use, since the Unix epoch; 0 without TLS.
    pub certificate_until_s: AtomicI64,
    /// Requests to the admin listener without its token.
    pub admin_refused: AtomicU64,
    /// librdkafka's own statistics, by [`KafkaClient`].
    pub kafka: [KafkaStatistics; KafkaClient::COUNT],
    /// Notified when a thread has ended that the gateway cannot be without.
    pub broken: Notify,
}

/// Dropped in a panic, it says on the board that the gateway is broken: held by threads that it cannot be without.
#[derive(Debug)]
pub struct Indispensable(pub Arc<Board>);

impl Drop for Indispensable {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.broken.notify_one();
        }
    }
}

impl Board {
    /// A board for `shards` shards.
    pub fn new(shards: usize) -> Self {
        Self::with_tiers(shards, vec![Tier::LIVE])
    }

    /// A board for `threads` shards of each tier, the live one first.
    pub fn with_tiers(threads: usize, tiers: Vec<Tier>) -> Self {
        Self {
            access: AccessCounts::default(),
            threads,
            shards: (0..threads * tiers.len()).map(|_| Mutex::default()).collect(),
            feeds: tiers.iter().map(|_| Mutex::default()).collect(),
            tiers,
            readers: Mutex::default(),
            // One more for the feed.
            latency: (0..=threads).map(|_| Mutex::new(StageHistograms::new())).collect(),
            draining: AtomicBool::new(false),
            reloads: Default::default(),
            keys_waiting: AtomicU64::new(0),
            tls_reloads: Default::default(),
            certificate_until_s: AtomicI64::new(0),
            admin_refused: AtomicU64::new(0),
            kafka: Default::default(),
            broken: Notify::new(),
        }
    }

    /// How many shards there are, of all tiers.
    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// How many threads have shards: one of each tier.
    pub fn thread_count(&self) -> usize {
        self.threads
    }

    /// The tiers, by their numbers.
    pub fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    /// The number of a thread's shard of a tier.
    pub fn shard_of(&self, thread: usize, tier: Tier) -> usize {
        tier.number * self.threads + thread
    }

    /// The tier of a shard, and its thread.
    pub fn place_of(&self, shard: usize) -> (Tier, usize) {
        (self.tiers[shard / self.threads], shard % self.threads)
    }

    /// The copy of one shard's totals.
    pub fn shard(&self, shard: usize) -> MutexGuard<'_, ShardTotals> {
        lock(&self.shards[shard])
    }

    /// The copy of the live feed's totals.
    pub fn feed(&self) -> MutexGuard<'_, FeedTotals> {
        self.feed_of(0)
    }

    /// The copy of the totals of a tier's feed.
    pub fn feed_of(&self, tier: usize) -> MutexGuard<'_, FeedTotals> {
        lock(&self.feeds[tier])
    }

    /// Whether every tier's feed is ready, and it is known who is revoked.
    pub fn is_ready(&self) -> bool {
        !self.access.is_topic_awaited.load(Ordering::Acquire)
            && self.feeds.iter().all(|feed| lock(feed).ready)
    }

    /// The totals of those who read Kafka again, who bring them up to date with every part.
    pub fn readers(&self) -> MutexGuard<'_, ReaderTotals> {
        lock(&self.readers)
    }

    /// Latencies published by a live shard, or by the live feed under the number after the last of them.
    pub fn latency(&self, thread: usize) -> MutexGuard<'_, StageHistograms> {
        lock(&self.latency[thread])
    }

    /// The state of every feed, for a start: all down.
    pub fn feeds_down(names: impl Iterator<Item = String>) -> Vec<FeedStatus> {
        names
            .map(|name| FeedStatus { name, state: FeedState::Down, event_ns: None, lag_records: 0 })
            .collect()
    }
}

/// A poisoned lock here only means that a reader panicked: the numbers are still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A feed that had panicked left shards that served nothing, for ever.
    #[tokio::test]
    async fn a_panic_of_a_thread_that_cannot_be_spared_is_told() {
        let board = Arc::new(Board::new(1));
        let run = |panics: bool| {
            let indispensable = Indispensable(board.clone());
            let thread = std::thread::spawn(move || {
                let _indispensable = indispensable;
                assert!(!panics, "as the test wants it");
            });
            assert_eq!(thread.join().is_err(), panics);
        };
        run(false);
        let mut broken = std::pin::pin!(board.broken.notified());
        tokio::select! {
            biased;
            () = &mut broken => panic!("one that has ended is no fault"),
            () = std::future::ready(()) => {}
        }
        run(true);
        broken.await;
    }
}
