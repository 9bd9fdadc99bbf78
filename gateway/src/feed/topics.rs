//! Which topics are read: what a position's epoch stands for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

/// One topic that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its epoch.
    pub epoch: u32,
    /// Its name.
    pub name: String,
    /// Its partitions, ascending.
    pub partitions: Vec<u32>,
}

/// The topics that are read: the feed says so, replays ask.
#[derive(Debug, Default)]
pub struct Topics {
    all: RwLock<Vec<Topic>>,
    is_complete: AtomicBool,
}

impl Topics {
    /// A partition is read.
    pub fn add(&self, epoch: u32, name: &str, partition: u32) {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        match all.iter_mut().find(|topic| topic.epoch == epoch) {
            Some(topic) => {
                if let Err(at) = topic.partitions.binary_search(&partition) {
                    topic.partitions.insert(at, partition);
                }
            }
            None => all.push(Topic { epoch, name: name.to_owned(), partitions: vec![partition] }),
        }
    }

    /// A topic is gone.
    pub fn remove(&self, epoch: u32) {
        self.all.write().unwrap_or_else(PoisonError::into_inner).retain(|topic| topic.epoch != epoch);
    }

    /// Whether all topics were looked for, and all partitions of those that are there are among them.
    pub fn is_complete(&self) -> bool {
        self.is_complete.load(Ordering::Relaxed)
    }

    /// Says whether they are.
    pub fn set_complete(&self, is_complete: bool) {
        self.is_complete.store(is_complete, Ordering::Relaxed);
    }

    /// All of them.
    pub fn all(&self) -> Vec<Topic> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
