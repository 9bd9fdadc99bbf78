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
    /// Where it stood in the partition that its symbol was in before: whoever comes back with an older cursor gets the end of
    /// that again, too.
    before: Option<Position>,
    after_gap: bool,
    /// Whether its client came back with a cursor, and nothing live has come since.
    is_resumed: bool,
    /// Whether the last event was discarded: so are its siblings.
    is_discarding: bool,
    /// Whether something was told as gone of which nobody knows where it ends, and nothing has come since.
    is_open: bool,
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
        self.is_discarding = self.has(seq) && !(self.after_gap && tail.snapshot);
        let verdict = if self.is_discarding {
            return Verdict::Duplicate;
        } else if tail.snapshot {
            Verdict::Snapshot
        } else if self.is_resumed && tail.prev.is_some_and(|prev| self.has(prev)) {
            // It stands for some that the client has, or comes from the partition that its symbol moved to, or behind a loss that
            // this gateway, which did not have it, knows nothing of.
            Verdict::InOrder
        } else if tail.prev == Some(last) || (tail.prev.is_some() && tail.prev == self.before) {
            Verdict::InOrder
        } else if tail.prev.is_none() || self.is_open {
            Verdict::Unverified
        } else {
            Verdict::Unannounced
        };
        self.move_to(seq);
        self.after_gap = false;
        self.is_open = false;
        self.is_resumed &= tail.replay;
        verdict
    }

    /// Whether an event at this position was seen or announced as lost, as far as that is known.
    fn has(&self, seq: Position) -> bool {
        [self.last, self.before].into_iter().flatten().any(|last| seq.is_at_or_before(last))
    }

    /// Whether it is the last position of the partition that the symbol is in, or of the one before.
    fn is_at_end(&self, seq: Position) -> bool {
        self.last == Some(seq) || self.before == Some(seq)
    }

    fn move_to(&mut self, seq: Position) {
        let is_elsewhere = |last: &Position| (last.epoch, last.partition) != (seq.epoch, seq.partition);
        self.before = self.last.filter(is_elsewhere).or(self.before);
        self.last = Some(seq);
    }

    /// The client comes back: with its last position, or with a cursor, which may be older than what it has. Then what comes
    /// first may reach further back.
    pub fn resumed(&mut self, with_cursor: bool) {
        self.is_resumed = with_cursor;
    }

    /// The request that resumed it was told `replay_aged_out`, and no event of it has come since, nor a gap that says where it
    /// ends: the next one may follow whatever is gone.
    pub fn aged_out(&mut self) {
        self.is_open = true;
    }

    /// Takes note of an announced gap; `false` when it does not begin where the chain stands. One that begins elsewhere
    /// and ends there, or before, is of what the client has, which came back with an older cursor: it changes nothing.
    pub fn gap(&mut self, gap: &Gap) -> bool {
        if self.has_all_of(gap) {
            return true;
        }
        let is_of_both = self.is_resumed && gap.after.is_some_and(|after| self.has(after));
        let fits = gap.after.is_none() || self.last.is_none() || gap.after == self.last || is_of_both;
        // What ends before where the chain stands says nothing of where it goes on, and takes nothing back of what was seen.
        if let Some(upto) = gap.upto.filter(|upto| self.is_at_end(*upto) || !self.has(*upto)) {
            self.move_to(upto);
            self.is_open = false;
        }
        // A snapshot that repeats the last position lost is news to this client, not a duplicate.
        self.after_gap = true;
        fits
    }

    /// Whether a gap is about what the client has, which came back with an older cursor: it is to be ignored.
    pub fn has_all_of(&self, gap: &Gap) -> bool {
        self.is_resumed && gap.after != self.last && gap.upto.is_some_and(|upto| self.has(upto))
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

    /// A pattern with `conflate_ms` was resumed on a gateway that had begun to read behind what was missed, and told so. Another
    /// client's replay taught it where the symbol stood: its next event named one before it that the first client never got.
    #[test]
    fn what_is_told_as_gone_without_an_end_may_be_followed_by_anything() {
        let mut chain = ChainChecker::default();
        chain.event(at(52), &after(50), false);
        chain.resumed(true);
        chain.aged_out();
        assert_eq!(chain.event(at(52), &after(50), false), Verdict::Duplicate, "that is known still");
        assert_eq!(chain.event(at(80), &after(78), false), Verdict::Unverified);
        assert_eq!(chain.event(at(90), &after(85), false), Verdict::Unannounced, "once");
    }

    /// A gap that said where the loss ends left the chain open all the same: what was missing behind it was excused.
    #[test]
    fn a_gap_with_an_end_is_where_what_was_told_as_gone_ends() {
        let gap = |upto| Gap { after: None, upto, count: None, cause: GapCause::Retention };
        let told = |gap: Gap| {
            let mut chain = ChainChecker::default();
            chain.event(at(52), &after(50), false);
            chain.resumed(true);
            chain.aged_out();
            assert!(chain.gap(&gap));
            chain
        };
        assert_eq!(told(gap(Some(at(70)))).event(at(80), &after(70), false), Verdict::InOrder);
        assert_eq!(told(gap(Some(at(70)))).event(at(80), &after(78), false), Verdict::Unannounced);
        // What the client has, or what has no end, says nothing of where it goes on.
        for gap in [gap(Some(at(40))), gap(None)] {
            assert_eq!(told(gap).event(at(80), &after(78), false), Verdict::Unverified);
        }
    }

    /// What was conflated or skipped of a replay began before what its client had last. It looked like a break.
    #[test]
    fn what_comes_first_to_who_came_back_may_reach_further_back() {
        let merged = |prev, merged| Tail { merged, ..after(prev) };
        let mut chain = ChainChecker::default();
        chain.event(at(9), &after(8), false);
        chain.resumed(true);
        assert_eq!(chain.event(at(12), &merged(7, 3), false), Verdict::InOrder);
        assert_eq!(chain.event(at(15), &merged(9, 3), false), Verdict::Unannounced);
        chain.resumed(true);
        let gap = |after| Gap {
            after: Some(at(after)),
            upto: Some(at(18)),
            count: None,
            cause: GapCause::SlowConsumer,
        };
        assert!(chain.gap(&gap(13)));
        assert_eq!(chain.event(at(19), &after(18), false), Verdict::InOrder);
        assert!(!chain.gap(&Gap { upto: Some(at(20)), ..gap(17) }), "that is over");
    }

    /// A client came back with a cursor from before its symbol moved, and took for new what it had of the old partition.
    #[test]
    fn what_comes_again_of_the_partition_before_is_known() {
        let mut chain = ChainChecker::default();
        let there = |offset| Position { partition: 4, ..at(offset) };
        chain.event(at(8), &after(7), false);
        chain.event(at(9), &after(8), false);
        chain.gap(&Gap {
            after: Some(at(9)),
            upto: Some(at(9)),
            count: None,
            cause: GapCause::Repartitioned,
        });
        assert_eq!(chain.event(there(2), &after(9), false), Verdict::InOrder);
        assert_eq!(chain.event(at(8), &after(7), false), Verdict::Duplicate);
        assert_eq!(chain.event(at(9), &after(8), false), Verdict::Duplicate);
        assert_eq!(chain.event(there(2), &after(9), false), Verdict::Duplicate);
        let tail = Tail { prev: Some(there(2)), ..Tail::default() };
        assert_eq!(chain.event(there(3), &tail, false), Verdict::InOrder);
        // It went back, and what comes again comes partition by partition.
        assert_eq!(chain.event(at(12), &after(9), false), Verdict::InOrder);
    }

    /// A client came back with a cursor from before its last event, and retention had taken what was in between. The gap took its
    /// chain back, and it took for new what it had.
    #[test]
    fn a_gap_of_what_a_client_has_changes_nothing() {
        let mut chain = ChainChecker::default();
        chain.event(at(9), &after(8), false);
        let gap = Gap { after: None, upto: Some(at(6)), count: None, cause: GapCause::Retention };
        chain.resumed(true);
        assert!(chain.gap(&gap));
        assert_eq!(chain.event(at(8), &after(6), false), Verdict::Duplicate);
        assert_eq!(chain.event(at(9), &after(8), false), Verdict::Duplicate);
        assert_eq!(chain.event(at(12), &after(9), false), Verdict::InOrder);
    }

    /// A symbol had moved, and its client came back, partition by partition, to a gateway that had not read all of the one before.
    /// The gap that followed began with its last event and ended before what it had there: it took the chain back, and what
    /// came again looked new.
    #[test]
    fn a_gap_that_ends_in_the_partition_before_takes_nothing_back() {
        let there = |offset| Position { partition: 4, ..at(offset) };
        let gap = |upto| Gap {
            after: Some(there(2)),
            upto: Some(upto),
            count: None,
            cause: GapCause::Repartitioned,
        };
        let come_back = || {
            let mut chain = ChainChecker::default();
            chain.event(at(8), &after(7), false);
            chain.event(at(9), &after(8), false);
            chain.event(there(2), &after(9), false);
            chain.resumed(true);
            chain
        };
        let mut chain = come_back();
        assert!(chain.gap(&gap(at(8))));
        assert_eq!(chain.last(), Some(there(2)));
        assert_eq!(chain.event(at(9), &after(8), false), Verdict::Duplicate);
        assert_eq!(chain.event(at(12), &after(9), false), Verdict::InOrder);
        // The end of what it has there is where it goes on, as is what lies behind that.
        for (upto, next) in [(9, 10), (11, 12)] {
            let mut chain = come_back();
            assert!(chain.gap(&gap(at(upto))));
            assert_eq!(chain.last(), Some(at(upto)));
            assert_eq!(chain.event(at(next), &after(upto), false), Verdict::InOrder);
        }
    }

    /// Nobody's chain goes back either who has been there all the time.
    #[test]
    fn a_gap_that_ends_before_the_last_event_takes_nothing_back() {
        let mut chain = ChainChecker::default();
        chain.event(at(9), &after(8), false);
        assert!(chain.gap(&Gap { after: None, upto: Some(at(6)), count: None, cause: GapCause::Retention }));
        assert_eq!(chain.event(at(8), &after(6), false), Verdict::Duplicate);
        assert_eq!(chain.event(at(10), &after(9), false), Verdict::InOrder);
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
