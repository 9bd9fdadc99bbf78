//! How far the topic of those revoked was read, and what counts of that: data in and an answer out.
//!
//! What is read from the beginning counts when all of it was, and replaces what counted before. Until then whom the list
//! before names stays revoked, and so is whom a partition names that was read to its end already: another one, whose
//! leader is away, holds up no revocation. Nobody is revoked by a record that others behind it may have taken back.

use super::ledger::Ledger;
use super::revoked::List;
use crate::stats::RevocationRecord as Said;
use std::collections::{BTreeMap, BTreeSet};

/// How long it is left alone before it is read anew for entries that there was no room for. When that was in vain, twice as
/// long the next time: those that were taken back since stand there before them until Kafka has compacted them away.
pub(super) const ROOM_PAUSE_MS: u64 = 10_000;
const ROOM_PAUSE_MS_MAX: u64 = 3_600_000;

/// How far one partition was read.
#[derive(Debug, Default, Clone, Copy)]
struct Part {
    /// The next offset; none before anything is known of it.
    next: Option<u64>,
    is_at_end: bool,
    /// Whether it was at its end once since it is read from its beginning.
    has_ended: bool,
}

/// What was read.
#[derive(Debug)]
pub(super) struct Reading {
    parts: BTreeMap<i32, Part>,
    entries_max: usize,
    /// What was read to its end.
    ledger: Ledger,
    /// What is read from the beginning.
    fresh: Option<Ledger>,
    is_changed: bool,
    room_pause_ms: u64,
}

impl Reading {
    /// Nothing yet.
    pub(super) fn new(entries_max: usize) -> Self {
        Self {
            parts: BTreeMap::new(),
            entries_max,
            ledger: Ledger::new(entries_max),
            fresh: Some(Ledger::new(entries_max)),
            is_changed: false,
            room_pause_ms: ROOM_PAUSE_MS,
        }
    }

    /// Whether there is a partition no more that was there before.
    pub(super) fn has_lost_one(&self, found: &BTreeSet<i32>) -> bool {
        self.parts.keys().any(|partition| !found.contains(partition))
    }

    /// Notes that there are these partitions; says whether one of them is new.
    pub(super) fn add(&mut self, found: &BTreeSet<i32>) -> bool {
        let known = self.parts.len();
        found.iter().for_each(|partition| _ = self.parts.entry(*partition).or_default());
        self.parts.len() > known
    }

    /// The partitions, and what is to be read next of each.
    pub(super) fn positions(&self) -> impl ExactSizeIterator<Item = (i32, Option<u64>)> {
        self.parts.iter().map(|(partition, part)| (*partition, part.next))
    }

    /// Takes a record; says nothing of one that was read before, or that nobody asked for.
    pub(super) fn take(
        &mut self,
        partition: i32,
        offset: u64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        now_s: i64,
    ) -> Option<Said> {
        let part = self.parts.get_mut(&partition)?;
        if part.next.is_some_and(|next| offset < next) {
            return None;
        }
        (part.next, part.is_at_end) = (Some(offset + 1), false);
        self.is_changed |= self.fresh.is_none() || part.has_ended;
        Some(self.fresh.as_mut().unwrap_or(&mut self.ledger).take(partition, key, value, now_s))
    }

    /// A partition ends here for now.
    pub(super) fn end(&mut self, partition: i32, offset: u64) {
        if let Some(part) = self.parts.get_mut(&partition) {
            self.is_changed |= self.fresh.is_some() && !part.has_ended;
            *part = Part { next: part.next.max(Some(offset)), is_at_end: true, has_ended: true };
        }
    }

    /// Lets what was read from the beginning replace what was before, if all of it was; says for how many entries there was
    /// no room then.
    pub(super) fn settle(&mut self) -> Option<u64> {
        if self.parts.is_empty() || self.parts.values().any(|part| !part.is_at_end) {
            return None;
        }
        (self.ledger, self.is_changed) = (self.fresh.take()?, true);
        let over = self.ledger.over();
        self.room_pause_ms =
            if over == 0 { ROOM_PAUSE_MS } else { (2 * self.room_pause_ms).min(ROOM_PAUSE_MS_MAX) };
        Some(over)
    }

    /// Whether nothing is being read from the beginning.
    pub(super) fn is_settled(&self) -> bool {
        self.fresh.is_none()
    }

    /// Whether a partition was read as far as this.
    pub(super) fn has_reached(&self, partition: i32, offset: u64) -> bool {
        self.parts
            .get(&partition)
            .is_some_and(|part| part.is_at_end && part.next.is_some_and(|next| next >= offset))
    }

    /// Forgets how far it was read.
    pub(super) fn begin_anew(&mut self) {
        self.parts.clear();
        self.fresh = Some(Ledger::new(self.entries_max));
    }

    /// Lets whose time is over go, by a clock that is as late as clocks may be.
    pub(super) fn expire(&mut self, now_s: i64) {
        self.is_changed |= self.fresh.is_none() && self.ledger.expire(now_s);
    }

    /// Whether it is worth to read it from its beginning for entries that there was no room for.
    pub(super) fn has_room_again(&self) -> bool {
        self.fresh.is_none() && self.ledger.has_room_again()
    }

    /// How long after it was begun the last time that may be done.
    pub(super) fn room_pause_ms(&self) -> u64 {
        self.room_pause_ms
    }

    /// Whether another list counts since [`Reading::list`].
    pub(super) fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// Who is revoked.
    pub(super) fn list(&mut self) -> List {
        self.is_changed = false;
        let mut list = List::default();
        self.ledger.put_on(&mut list, |_| true);
        if let Some(fresh) = &self.fresh {
            fresh
                .put_on(&mut list, |partition| self.parts.get(&partition).is_some_and(|part| part.has_ended));
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: i64 = 10;

    /// With partitions 0 and 1, read from their beginning.
    fn reading(entries_max: usize) -> Reading {
        let mut reading = Reading::new(entries_max);
        assert!(reading.add(&BTreeSet::from([0, 1])) && !reading.add(&BTreeSet::from([1])));
        reading
    }

    fn take(
        reading: &mut Reading,
        partition: i32,
        offset: u64,
        key: &str,
        value: Option<&str>,
    ) -> Option<Said> {
        reading.take(partition, offset, Some(key.as_bytes()), value.map(str::as_bytes), NOW_S)
    }

    fn is(reading: &mut Reading, is_changed: bool, names: &str) {
        assert_eq!((reading.is_changed(), reading.list()), (is_changed, List::parse(names)));
    }

    #[test]
    fn what_was_read_counts_when_all_of_it_was() {
        let mut reading = reading(10);
        assert_eq!(reading.settle(), None);
        take(&mut reading, 0, 0, "sub:ann", Some("{}"));
        take(&mut reading, 1, 0, "sub:bob", Some("{}"));
        is(&mut reading, false, "");
        reading.end(1, 1);
        assert_eq!((reading.settle(), reading.is_settled()), (None, false));
        // More than what it had to say before is known of one that was at its end.
        is(&mut reading, true, "sub:bob");
        reading.end(0, 1);
        assert_eq!((reading.settle(), reading.settle(), reading.is_settled()), (Some(0), None, true));
        is(&mut reading, true, "sub:ann\nsub:bob");
        assert_eq!(take(&mut reading, 1, 0, "sub:cyd", Some("{}")), None, "read before");
        assert_eq!(take(&mut reading, 2, 0, "sub:cyd", Some("{}")), None, "nobody asked for it");
        is(&mut reading, false, "sub:ann\nsub:bob");
        assert!(reading.has_reached(0, 1) && !reading.has_reached(0, 2) && !reading.has_reached(2, 0));
        take(&mut reading, 0, 1, "sub:ann", None);
        assert!(!reading.has_reached(0, 1), "it is not known where it ends");
        is(&mut reading, true, "sub:bob");
        assert_eq!(reading.positions().collect::<Vec<_>>(), [(0, Some(2)), (1, Some(1))]);
    }

    /// While the topic was read from its beginning, records went to what was being read alone. The leader of one partition was
    /// away, and nobody was revoked any more for as long as it was, whatever the others said.
    #[test]
    fn a_partition_that_is_away_holds_up_no_revocation_of_another() {
        let mut reading = reading(10);
        take(&mut reading, 0, 0, "sub:ann", Some("{}"));
        take(&mut reading, 1, 0, "sub:bob", Some("{}"));
        reading.end(0, 1);
        reading.end(1, 1);
        assert_eq!(reading.settle(), Some(0));
        is(&mut reading, true, "sub:ann\nsub:bob");
        reading.begin_anew();
        reading.add(&BTreeSet::from([0, 1]));
        // Who was let in again is not shut out by what came before that.
        take(&mut reading, 0, 0, "sub:eve", Some("{}"));
        is(&mut reading, false, "sub:ann\nsub:bob");
        take(&mut reading, 0, 1, "sub:eve", None);
        reading.end(0, 2);
        is(&mut reading, true, "sub:ann\nsub:bob");
        take(&mut reading, 0, 2, "sub:dan", Some("{}"));
        assert_eq!(reading.settle(), None);
        is(&mut reading, true, "sub:ann\nsub:bob\nsub:dan");
        take(&mut reading, 0, 3, "sub:ann", None);
        is(&mut reading, true, "sub:ann\nsub:bob\nsub:dan");
        reading.end(0, 4);
        reading.end(1, 0);
        assert_eq!(reading.settle(), Some(0));
        is(&mut reading, true, "sub:dan");
    }

    #[test]
    fn what_there_was_no_room_for_is_known() {
        let mut reading = reading(10);
        for offset in 0..12 {
            take(&mut reading, 0, offset, &format!("jti:{offset}"), Some(r#"{"exp":20}"#));
        }
        reading.end(0, 12);
        reading.end(1, 0);
        assert_eq!((reading.settle(), reading.has_room_again()), (Some(2), false));
        assert_eq!(reading.list().len(), 10);
        reading.expire(20);
        assert!(!reading.is_changed() && !reading.has_room_again());
        reading.expire(21);
        assert!(reading.has_room_again());
        is(&mut reading, true, "");
        reading.begin_anew();
        assert!(!reading.has_room_again(), "it is being read for them");
    }

    /// Before compaction the same came again in the same order, and found no room where those taken back had stood: the topic
    /// was read every ten seconds for ever.
    #[test]
    fn what_is_read_in_vain_is_read_ever_more_rarely() {
        let mut reading = reading(10);
        let mut pauses_s = Vec::new();
        for _ in 0..11 {
            for number in 0..12 {
                take(&mut reading, 0, number, &format!("jti:{number}"), Some("{}"));
            }
            for number in 0..3 {
                take(&mut reading, 0, 12 + number, &format!("jti:{number}"), None);
            }
            reading.end(0, 15);
            reading.end(1, 0);
            assert_eq!((reading.settle(), reading.has_room_again()), (Some(2), true));
            pauses_s.push(reading.room_pause_ms() / 1_000);
            reading.begin_anew();
            reading.add(&BTreeSet::from([0, 1]));
        }
        assert_eq!(pauses_s, [20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600, 3_600, 3_600]);
        reading.end(0, 15);
        reading.end(1, 0);
        assert_eq!((reading.settle(), reading.room_pause_ms()), (Some(0), ROOM_PAUSE_MS));
    }

    /// A topic that was made again with fewer partitions never came to its end: those that it had before stayed.
    #[test]
    fn a_partition_that_has_gone_is_noticed() {
        let mut reading = reading(10);
        assert!(!reading.has_lost_one(&BTreeSet::from([0, 1, 2])));
        assert!(reading.has_lost_one(&BTreeSet::from([1])));
        reading.begin_anew();
        reading.add(&BTreeSet::from([0]));
        reading.end(0, 0);
        assert_eq!(reading.settle(), Some(0));
    }
}
