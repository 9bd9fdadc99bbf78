//! What a shard does at a time: heartbeats, rate limits, deadlines.

use crate::feed::request::SessionKey;
use std::collections::BTreeSet;
use std::num::NonZeroU64;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// A heartbeat.
    Heartbeat,
    /// The client's own rate allows more bytes.
    Throttle,
    /// The peer had its time to answer the close, or to take its last bytes.
    CloseDeadline,
    /// The drain reaches this session.
    Drain,
    /// A part of a replay that was refused is asked for again.
    Replay,
    /// A message that was begun should have come to its end.
    Message,
}

impl Due {
    /// How many kinds there are.
    pub const COUNT: usize = 6;
    const ALL: [Self; Self::COUNT] =
        [Self::Heartbeat, Self::Throttle, Self::CloseDeadline, Self::Drain, Self::Replay, Self::Message];
}

/// The timers of one session: when each is due, in monotonic milliseconds.
pub type Armed = [Option<NonZeroU64>; Due::COUNT];

/// Timers by due time. A session has at most one of each kind, setting it again replaces it, and they go with it:
/// [`Due::COUNT`] entries a session bound them, whatever a client asks for.
#[derive(Debug, Default)]
pub struct Timers {
    queue: BTreeSet<(u64, u32, u32, Due)>,
}

impl Timers {
    /// Sets a timer for `due_ms`, in place of the one set before; says whether it is now the earliest.
    pub fn set(&mut self, armed: &mut Armed, due_ms: u64, key: SessionKey, due: Due) -> bool {
        self.clear(armed, key, due);
        // The clock's very first moment, which is past, is as good as the one after it.
        let due_ms = due_ms.max(1);
        let is_earliest = self.next_ms().is_none_or(|next| due_ms < next);
        armed[due as usize] = NonZeroU64::new(due_ms);
        self.queue.insert((due_ms, key.slot, key.generation, due));
        is_earliest
    }

    /// Takes a timer back, if it is set.
    pub fn clear(&mut self, armed: &mut Armed, key: SessionKey, due: Due) {
        if let Some(due_ms) = armed[due as usize].take() {
            self.queue.remove(&(due_ms.get(), key.slot, key.generation, due));
        }
    }

    /// Takes every timer of a session back, as it ends.
    pub fn clear_all(&mut self, armed: &mut Armed, key: SessionKey) {
        for due in Due::ALL {
            self.clear(armed, key, due);
        }
    }

    /// When the earliest timer is due.
    pub fn next_ms(&self) -> Option<u64> {
        self.queue.first().map(|(due_ms, ..)| *due_ms)
    }

    /// Takes a timer that is due at `now_ms`; its session must take note that it is no longer set.
    pub fn pop(&mut self, now_ms: u64) -> Option<(SessionKey, Due)> {
        if self.next_ms()? > now_ms {
            return None;
        }
        let (_, slot, generation, due) = self.queue.pop_first()?;
        Some((SessionKey { slot, generation }, due))
    }

    /// How many timers are set.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: SessionKey = SessionKey { slot: 3, generation: 9 };

    #[test]
    fn setting_again_replaces_and_never_piles_up() {
        let (mut timers, mut armed) = (Timers::default(), Armed::default());
        assert!(timers.set(&mut armed, 60_000, KEY, Due::Heartbeat));
        for due_ms in 0..1_000 {
            timers.set(&mut armed, 100 + due_ms * 37 % 60_000, KEY, Due::Heartbeat);
            timers.set(&mut armed, 200 + due_ms, KEY, Due::Throttle);
            assert_eq!(timers.len(), 2);
        }
        assert_eq!(timers.pop(100 + 999 * 37), Some((KEY, Due::Throttle)));
        assert_eq!(timers.pop(100 + 999 * 37), Some((KEY, Due::Heartbeat)));
        assert_eq!(timers.pop(u64::MAX), None);
    }

    #[test]
    fn timers_go_with_their_session() {
        let (mut timers, mut armed, mut other) = (Timers::default(), Armed::default(), Armed::default());
        let neighbour = SessionKey { slot: 4, generation: 10 };
        for due in [Due::Heartbeat, Due::CloseDeadline, Due::Drain] {
            timers.set(&mut armed, 50, KEY, due);
            timers.set(&mut other, 60, neighbour, due);
        }
        timers.clear_all(&mut armed, KEY);
        assert_eq!((timers.len(), armed), (3, Armed::default()));
        assert_eq!(timers.next_ms(), Some(60));
    }
}
