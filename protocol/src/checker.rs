//! The client's rule: whether an event is in order, a duplicate, or proof that something is missing.
//!
//! `prev` equal to the last `seq` seen, or nothing seen yet: in order. `seq` at or below the last one of the same
//! epoch and partition: a duplicate, to be discarded. Otherwise something is missing, and a `gap` has said so before;
//! a break without a `gap` is a bug in the gateway.

use crate::Position;
use crate::event::{Gap, Tail};

/// What the rule says about one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// First of its chain.
    First,
    /// Follows the last event seen, or the end of an announced gap.
    InOrder,
    /// The state was replaced: a snapshot.
    Snapshot,
    /// Already seen: discard it.
    Duplicate,
    /// The gateway did not know what came before, so nothing can be checked.
    Unverified,
    /// Events are missing and nothing announced it.
    Unannounced,
}

/// The chain of one (channel, symbol), or for books of one (symbol, depth).
#[derive(Debug, Clone, Copy, Default)]
pub struct ChainChecker {
    last: Option<Position>,
    after_gap: bool,
    /// Whether the last event was discarded: so are its siblings.
    is_discarding: bool,
}

impl ChainChecker {
    /// Judges the event at `seq` with this `tail` and moves on.
    ///
    /// Events of one record share `seq` and `prev`: the second of them is [`Verdict::InOrder`] as well when
    /// `same_record` says that it stands in the same frame directly behind its sibling.
    pub fn event(&mut self, seq: Position, tail: &Tail, same_record: bool) -> Verdict {
        let Some(last) = self.last else {
            self.last = Some(seq);
            return if tail.snapshot { Verdict::Snapshot } else { Verdict::First };
        };
        if same_record && seq == last && !self.is_discarding {
            return Verdict::InOrder;
        }
        self.is_discarding = seq.is_at_or_before(last) && !self.after_gap;
        let verdict = if self.is_discarding {
            return Verdict::Duplicate;
        } else if tail.snapshot {
            Verdict::Snapshot
        } else if tail.prev == Some(last) {
            Verdict::InOrder
        } else if tail.prev.is_none() {
            Verdict::Unverified
        } else {
            Verdict::Unannounced
        };
        self.last = Some(seq);
        self.after_gap = false;
        verdict
    }

    /// Takes note of an announced gap; `false` when it does not begin where the chain stands.
    pub fn gap(&mut self, gap: &Gap) -> bool {
        let fits = gap.after.is_none() || self.last.is_none() || gap.after == self.last;
        if gap.upto.is_some() {
            self.last = gap.upto;
        }
        // A snapshot that repeats the last position lost is news to this client, not a duplicate.
        self.after_gap = true;
        fits
    }

    /// The last position seen or announced as lost.
    pub fn last(&self) -> Option<Position> {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::GapCause;

    fn at(offset: u64) -> Position {
        Position { epoch: 1, partition: 0, offset }
    }

    fn after(offset: u64) -> Tail {
        Tail { prev: Some(at(offset)), ..Tail::default() }
    }

    #[test]
    fn the_rule() {
        let mut chain = ChainChecker::default();
        assert_eq!(chain.event(at(5), &after(3), false), Verdict::First);
        assert_eq!(chain.event(at(8), &after(5), false), Verdict::InOrder);
        assert_eq!(chain.event(at(8), &after(5), true), Verdict::InOrder);
        assert_eq!(chain.event(at(8), &after(5), false), Verdict::Duplicate);
        assert_eq!(chain.event(at(6), &after(5), false), Verdict::Duplicate);
        assert_eq!(chain.event(at(12), &after(10), false), Verdict::Unannounced);
        assert_eq!(chain.event(at(13), &Tail::default(), false), Verdict::Unverified);
        let elsewhere = Position { epoch: 1, partition: 1, offset: 2 };
        assert_eq!(chain.event(elsewhere, &after(13), false), Verdict::InOrder);
    }

    /// After a resumption the last record seen may come again. Its second event was once taken for a sibling of one that
    /// was kept.
    #[test]
    fn siblings_of_a_duplicate_are_duplicates() {
        let mut chain = ChainChecker::default();
        chain.event(at(5), &after(3), false);
        chain.event(at(5), &after(3), true);
        assert_eq!(chain.event(at(5), &after(3), false), Verdict::Duplicate);
        assert_eq!(chain.event(at(5), &after(3), true), Verdict::Duplicate);
        assert_eq!(chain.event(at(6), &after(5), false), Verdict::InOrder);
        assert_eq!(chain.event(at(6), &after(5), true), Verdict::InOrder);
    }

    #[test]
    fn an_announced_gap_closes_the_chain() {
        let mut chain = ChainChecker::default();
        chain.event(at(5), &after(3), false);
        let gap = |after, upto| Gap {
            after: Some(at(after)),
            upto: Some(at(upto)),
            count: Some(2),
            cause: GapCause::SlowConsumer,
        };
        assert!(chain.gap(&gap(5, 9)));
        assert_eq!(chain.event(at(11), &after(9), false), Verdict::InOrder);
        assert!(!chain.gap(&gap(10, 12)));
    }

    #[test]
    fn a_snapshot_at_the_end_of_a_gap_is_news() {
        let mut chain = ChainChecker::default();
        chain.event(at(5), &after(3), false);
        chain.gap(&Gap { after: Some(at(5)), upto: Some(at(9)), count: None, cause: GapCause::Overload });
        let snapshot = Tail { snapshot: true, ..Tail::default() };
        assert_eq!(chain.event(at(9), &snapshot, false), Verdict::Snapshot);
        assert_eq!(chain.event(at(10), &after(9), false), Verdict::InOrder);
    }
}
