//! How far the gateway's clock is from the one here, by asking it the time.

use std::collections::VecDeque;

/// Round trips that are remembered: clocks drift, so that old ones are forgotten. As many may be under way.
const TRIPS_MAX: usize = 8;

/// The round trips of one session.
#[derive(Debug, Default)]
pub(super) struct Trips {
    /// Numbers of what was asked, and when.
    asked: VecDeque<(i64, i64)>,
    done: VecDeque<Skew>,
}

/// What a round trip says of the clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Skew {
    /// There and back, in nanoseconds. First, so that the quickest is the least.
    pub(crate) round_trip_ns: u64,
    /// The gateway's clock minus the one here, in nanoseconds, known to half of the round trip.
    pub(crate) skew_ns: i64,
}

impl Trips {
    /// The gateway was asked, under a number.
    pub(super) fn ask(&mut self, id: i64, sent_ns: i64) {
        keep(&mut self.asked, (id, sent_ns));
    }

    /// It has answered that it is `now_ns`.
    pub(super) fn answered(&mut self, id: i64, received_ns: i64, now_ns: i64) {
        let Some(index) = self.asked.iter().position(|(asked, _)| *asked == id) else { return };
        let Some((_, sent_ns)) = self.asked.remove(index) else { return };
        // Otherwise the clock here was set meanwhile.
        if let Ok(round_trip_ns) = u64::try_from(received_ns.saturating_sub(sent_ns)) {
            let skew_ns = now_ns.saturating_sub(sent_ns.midpoint(received_ns));
            keep(&mut self.done, Skew { round_trip_ns, skew_ns });
        }
    }

    /// It does not answer this one. Gives whether it was asked under that number.
    pub(super) fn refused(&mut self, id: i64) -> bool {
        let asked = self.asked.len();
        self.asked.retain(|(asked, _)| *asked != id);
        self.asked.len() < asked
    }

    /// The quickest of the last ones.
    pub(super) fn best(&self) -> Option<Skew> {
        self.done.iter().min().copied()
    }
}

fn keep<T>(kept: &mut VecDeque<T>, one: T) {
    if kept.len() == TRIPS_MAX {
        kept.pop_front();
    }
    kept.push_back(one);
}
