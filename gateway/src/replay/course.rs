//! What a reader reads for one replay, and how far it is: topic by topic, and of each the partitions that are wanted.

use crate::feed::native::Record;
use crate::feed::request::SessionKey;
use std::collections::BTreeMap;
use tickgate_protocol::Position;

/// What is being read for one replay.
pub(super) struct Course {
    /// The replay, and where its next part begins.
    pub(super) owner: (usize, SessionKey, u32),
    pub(super) next: Vec<Position>,
    pub(super) legs: Vec<Leg>,
    /// When Kafka was heard of last, monotonic milliseconds.
    pub(super) heard_ms: u64,
    /// The leg that the consumer is assigned to. One topic after the other: an end says only the number of its partition.
    pub(super) assigned: Option<usize>,
}

/// What is being read of one topic.
pub(super) struct Leg {
    pub(super) epoch: u32,
    pub(super) topic: String,
    pub(super) partitions: BTreeMap<u32, Part>,
}

#[derive(Clone, Copy)]
pub(super) struct Part {
    pub(super) next: u64,
    /// The end of the log, when it was looked up.
    pub(super) high: u64,
    /// Whether nothing behind that may be read, as it is too late, or not due.
    pub(super) is_bound: bool,
    pub(super) is_done: bool,
}

impl Leg {
    pub(super) fn is_done(&self) -> bool {
        self.partitions.values().all(|part| part.is_done)
    }

    /// The next record of each of its partitions.
    pub(super) fn positions(&self) -> impl Iterator<Item = Position> {
        let at = |(partition, part): (&u32, &Part)| Position {
            epoch: self.epoch,
            partition: *partition,
            offset: part.next,
        };
        self.partitions.iter().map(at)
    }

    /// The partition of a record, if it is still to be read.
    pub(super) fn part(&mut self, record: &Record<'_>) -> Option<&mut Part> {
        let partition = u32::try_from(record.partition).ok().filter(|_| record.topic == self.topic)?;
        self.partitions.get_mut(&partition)
    }
}

impl Part {
    /// There is nothing more up to `offset`, the end of the log. What stands before it may be no record: a transaction's end,
    /// or what compaction left out. It may be before the end that was looked up, as when a new leader never had the rest: what
    /// is written there from now on is still to be read. Of one that is done, what came before that end was not taken.
    pub(super) fn ends_at(&mut self, offset: u64) {
        if !self.is_done {
            let end = if self.is_bound { offset.min(self.high) } else { offset };
            self.next = self.next.max(end);
            self.is_done = true;
        }
    }
}

impl Course {
    pub(super) fn positions(&self) -> Vec<Position> {
        self.legs.iter().flat_map(Leg::positions).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// While other partitions were still read, records came behind the end that had been looked up of one, which was done and
    /// took none of them, and then its end: what stood between the two ends was left out without a word.
    #[test]
    fn the_end_of_what_is_done_passes_nothing() {
        let mut part = Part { next: 10, high: 10, is_bound: false, is_done: true };
        part.ends_at(13);
        assert_eq!((part.next, part.is_done), (10, true));
    }

    /// A new leader may lack what the old one had. The end of its log, before the end that had been looked up, was taken for
    /// that: what was written in between from then on was left out.
    #[test]
    fn a_log_that_ends_early_is_read_up_to_its_end() {
        let mut part = Part { next: 5, high: 10, is_bound: false, is_done: false };
        part.ends_at(7);
        assert_eq!((part.next, part.is_done), (7, true));
        // Behind what was looked up more has come since, which is no record.
        let mut part = Part { next: 5, high: 10, is_bound: false, is_done: false };
        part.ends_at(12);
        assert_eq!((part.next, part.is_done), (12, true));
    }
}
