//! What all visits to one shard's listener share.

use crate::config::Config;
use crate::shard::Shard;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;

/// The door to one shard.
pub(super) struct Door {
    pub(super) shard: Rc<RefCell<Shard>>,
    pub(super) config: Arc<Config>,
    /// One permit for each connection that may be between its accept and its session.
    pub(super) handshakes: Arc<Semaphore>,
    /// Sessions of all shards, those that are still shaking hands included.
    sessions: Arc<AtomicUsize>,
}

impl Door {
    pub(super) fn new(shard: Rc<RefCell<Shard>>) -> Self {
        let (config, sessions) = {
            let shard = shard.borrow();
            (shard.shared().config.clone(), shard.shared().sessions.clone())
        };
        let handshakes = (config.limits.handshakes_max / config.shard_count()).max(1);
        Self { shard, config, handshakes: Arc::new(Semaphore::new(handshakes)), sessions }
    }

    /// Takes a place among all sessions, if only to be told that there is none.
    pub(super) fn place(&self) -> Place {
        let before = self.sessions.fetch_add(1, Ordering::Relaxed);
        Place { sessions: Some(self.sessions.clone()), is_beyond: before >= self.config.limits.sessions_max }
    }
}

/// A place among all sessions. Gives it back if the connection never becomes one.
pub(super) struct Place {
    sessions: Option<Arc<AtomicUsize>>,
    /// Whether `limits.sessions_max` is reached without it.
    pub(super) is_beyond: bool,
}

impl Place {
    /// A session holds the place from now on.
    pub(super) fn keep(mut self) {
        self.sessions = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(sessions) = &self.sessions {
            sessions.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
