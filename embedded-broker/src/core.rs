//! What the connections and the in-process handle share.

use crate::api::SUPPORTED;
use crate::config::BrokerConfig;
use crate::faults::FaultState;
use crate::topics::Topics;
use kafka_protocol::messages::ApiKey;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Shared state; the topics are behind a lock that nobody holds while waiting.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: BrokerConfig,
    pub(crate) faults: FaultState,
    topics: Mutex<Topics>,
    /// Counts every change that a waiting fetch may care about: new records, new or deleted topics, truncation.
    /// One counter for all topics: a wake-up for somebody else's topic costs a look at a few watermarks.
    changes: watch::Sender<u64>,
    next_producer_id: AtomicI64,
    requests: [AtomicU64; SUPPORTED.len()],
    connections: AtomicUsize,
    fetches_waiting: AtomicUsize,
}

impl Core {
    pub(crate) fn new(config: BrokerConfig) -> Core {
        Core {
            topics: Mutex::new(Topics::new(&config)),
            faults: FaultState::default(),
            changes: watch::Sender::new(0),
            next_producer_id: AtomicI64::new(1_000),
            requests: Default::default(),
            connections: AtomicUsize::new(0),
            fetches_waiting: AtomicUsize::new(0),
            config,
        }
    }

    /// The topics, locked. Their data is consistent between any two statements that can panic, so a poisoned lock is
    /// as good as any.
    pub(crate) fn topics(&self) -> MutexGuard<'_, Topics> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the fetches that wait.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(crate) fn watch_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn new_producer_id(&self) -> i64 {
        self.next_producer_id.fetch_add(1, Relaxed)
    }

    pub(crate) fn count_request(&self, api: ApiKey) {
        if let Some(counter) = self.request_counter(api) {
            counter.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn requests(&self, api: ApiKey) -> u64 {
        self.request_counter(api).map_or(0, |counter| counter.load(Relaxed))
    }

    fn request_counter(&self, api: ApiKey) -> Option<&AtomicU64> {
        let index = SUPPORTED.iter().position(|supported| supported.key == api)?;
        self.requests.get(index)
    }

    pub(crate) fn enter_connection(&self) -> Gauge<'_> {
        Gauge::enter(&self.connections)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    pub(crate) fn enter_waiting_fetch(&self) -> Gauge<'_> {
        Gauge::enter(&self.fetches_waiting)
    }

    pub(crate) fn fetches_waiting(&self) -> usize {
        self.fetches_waiting.load(Relaxed)
    }
}

/// Counts one more for as long as it lives, also when its task is ended from outside.
#[derive(Debug)]
pub(crate) struct Gauge<'a>(&'a AtomicUsize);

impl Gauge<'_> {
    fn enter(count: &AtomicUsize) -> Gauge<'_> {
        count.fetch_add(1, Relaxed);
        Gauge(count)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
