//! What a shard does at a time: heartbeats, rate limits, deadlines.

use crate::feed::request::SessionKey;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// A heartbeat, of this run of them.
    Heartbeat(u32),
    /// The client's own rate allows more bytes.
    Throttle,
    /// The peer had its time to answer the close, or to take its last bytes.
    CloseDeadline,
    /// The drain reaches this session.
    Drain,
}

/// Timers by due time. Entries of sessions that are gone fall out when they are due; a session has at most four.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(u64, u32, u32, Due)>>,
}

impl Timers {
    /// Sets a timer for `due_ms`; says whether it is now the earliest.
    pub fn set(&mut self, due_ms: u64, key: SessionKey, due: Due) -> bool {
        let is_earliest = self.next_ms().is_none_or(|next| due_ms < next);
        self.heap.push(Reverse((due_ms, key.slot, key.generation, due)));
        is_earliest
    }

    /// When the earliest timer is due.
    pub fn next_ms(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((due_ms, ..))| *due_ms)
    }

    /// Takes a timer that is due at `now_ms`.
    pub fn pop(&mut self, now_ms: u64) -> Option<(SessionKey, Due)> {
        if self.next_ms()? > now_ms {
            return None;
        }
        self.heap.pop().map(|Reverse((_, slot, generation, due))| (SessionKey { slot, generation }, due))
    }
}
