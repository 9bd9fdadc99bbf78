//! Which topics are read: what a position's epoch stands for, and how far they may be.

use crate::config::delays::Tier;
use crate::replay::place;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use tickgate_protocol::Position;

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
    tier: Tier,
    /// What a tier that is not live reads next of each partition, in order.
    ends: RwLock<Vec<Position>>,
}

/// How far a partition may be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As far as it goes.
    Open,
    /// Up to this offset: what stands there is not due.
    At(u64),
    /// Nobody knows yet.
    Unknown,
}

impl Topics {
    /// Those of a tier, none yet.
    pub fn of(tier: Tier) -> Self {
        Self { tier, ..Self::default() }
    }

    /// A tier that is not live reads these next.
    pub fn set_ends(&self, next: &[Position]) {
        if !self.tier.is_live() {
            next.clone_into(&mut self.ends.write().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// How far a partition may be read again.
    pub fn end(&self, epoch: u32, partition: u32) -> End {
        if self.tier.is_live() {
            return End::Open;
        }
        let ends = self.ends.read().unwrap_or_else(PoisonError::into_inner);
        let found = place(&ends, Position { epoch, partition, offset: 0 });
        found.map_or(End::Unknown, |at| End::At(ends[at].offset))
    }

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
