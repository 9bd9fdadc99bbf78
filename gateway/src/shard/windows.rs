//! Flush windows: sessions that were just written to, and are not written to again for a moment.
//!
//! A window opens with a write, so that what comes first goes out at once; what comes next is gathered and goes out
//! together when the window is over. It saves writes, which are nearly all that a delivery costs, for a delay that is
//! at most its length.

use crate::feed::request::SessionKey;
use std::collections::VecDeque;
use tickgate_protocol::FlushMs;

/// The open windows of a shard, at most one a session. An entry outlives its session by no more than its length.
#[derive(Debug, Default)]
pub struct Windows {
    /// When each is over, in monotonic milliseconds. Windows of one length end in the order in which they began.
    by_step: [VecDeque<(u64, SessionKey)>; FlushMs::STEPS.len()],
}

impl Windows {
    /// Opens a window; returns when it is over.
    pub fn open(&mut self, key: SessionKey, flush: FlushMs, now_ms: u64) -> Option<u64> {
        let over_ms = now_ms + u64::from(flush.get());
        self.by_step[flush.step()?].push_back((over_ms, key));
        Some(over_ms)
    }

    /// When the first of them is over.
    pub fn next_ms(&self) -> Option<u64> {
        self.by_step.iter().filter_map(|windows| Some(windows.front()?.0)).min()
    }

    /// Takes one that is over.
    pub fn pop(&mut self, now_ms: u64) -> Option<SessionKey> {
        let is_over = |windows: &&mut VecDeque<(u64, SessionKey)>| {
            windows.front().is_some_and(|(over_ms, _)| *over_ms <= now_ms)
        };
        self.by_step.iter_mut().find(is_over)?.pop_front().map(|(_, key)| key)
    }

    /// Takes all.
    pub fn take(&mut self) -> Vec<SessionKey> {
        self.by_step.iter_mut().flat_map(|windows| windows.drain(..)).map(|(_, key)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_end_when_they_are_over() {
        let key = |slot| SessionKey { slot, generation: 0 };
        let flush = |ms| FlushMs::round_up(ms).expect("a window");
        let mut windows = Windows::default();
        assert_eq!(windows.open(key(0), FlushMs::NONE, 0), None);
        assert_eq!(windows.next_ms(), None);
        assert_eq!(windows.open(key(1), flush(50), 100), Some(150));
        assert_eq!(windows.open(key(2), flush(10), 105), Some(115));
        assert_eq!(windows.open(key(3), flush(10), 110), Some(120));
        assert_eq!((windows.next_ms(), windows.pop(114)), (Some(115), None));
        assert_eq!(
            (windows.pop(130), windows.pop(130), windows.pop(130)),
            (Some(key(2)), Some(key(3)), None)
        );
        assert_eq!((windows.next_ms(), windows.take()), (Some(150), vec![key(1)]));
        assert_eq!(windows.next_ms(), None);
    }
}
