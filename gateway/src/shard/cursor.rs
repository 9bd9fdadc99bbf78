//! What a session could resume from: a cursor that passes nothing of what it is still owed, whatever that is.

use super::Shard;
use super::replay::Rest;
use super::socket::Socket;
use crate::clock;
use crate::config::delays::Tier;
use crate::feed::request::Resume;
use crate::replay::place;
use crate::session::subs::Sub;
use std::rc::Rc;
use std::sync::Arc;
use tickgate_protocol::Position;
use tickgate_protocol::cursor;

/// How far the clocks of producers may be behind ours, in nanoseconds.
const CLOCKS_NS: i64 = 60_000_000_000;

/// What is told of partitions of which nothing is known yet: whoever comes back then reads them from now on.
pub(crate) fn unknown(tier: Tier) -> Position {
    cursor::others_since(clock::wall_ns() - CLOCKS_NS - tier.delay_ns())
}

/// The next record of each partition of `next`, and of those that are not named but `read` the first: a topic has got them
/// since. In order.
pub(super) fn with_unnamed(next: &[Position], read: &[Position]) -> Vec<Position> {
    let mut all = next.to_vec();
    all.sort_unstable();
    let is_unnamed = |read: &&Position| {
        let first = all.partition_point(|next| next.epoch < read.epoch);
        all.get(first).is_some_and(|next| next.epoch == read.epoch) && place(&all, **read).is_err()
    };
    let unnamed: Vec<Position> =
        read.iter().filter(is_unnamed).map(|read| Position { offset: 0, ..*read }).collect();
    all.extend(unnamed);
    all.sort_unstable();
    all
}

/// A cursor that is held back to what a session is still owed.
#[derive(Debug)]
struct Owed<'a> {
    /// What the gateway has read, in order.
    read: &'a [Position],
    /// What is left of it, if that is less; in order.
    left: Option<Vec<Position>>,
    /// From which times on all is owed, as a cursor says it.
    times: Vec<Position>,
}

impl<'a> Owed<'a> {
    fn new(read: &'a [Position]) -> Self {
        debug_assert!(read.is_sorted(), "positions are in order");
        Self { read, left: None, times: Vec::new() }
    }

    /// What a cursor has to say, unless that is all that was read.
    fn all(self) -> Option<Vec<Position>> {
        let Self { read, left, times } = self;
        if times.is_empty() {
            return left;
        }
        Some(left.unwrap_or_else(|| read.to_vec()).into_iter().chain(times).collect())
    }

    fn left(&mut self) -> &mut Vec<Position> {
        self.left.get_or_insert_with(|| self.read.to_vec())
    }

    /// An event is queued.
    fn event(&mut self, owed: Position) {
        let all = self.left.as_deref().unwrap_or(self.read);
        if let Ok(at) = place(all, owed)
            && owed.is_before(all[at])
        {
            self.left()[at] = owed;
        }
    }

    /// Of a partition, which the gateway may not have met, the records from `next` on.
    fn partition(&mut self, next: Position) {
        let all = self.left.as_deref().unwrap_or(self.read);
        match place(all, next) {
            Ok(_) => self.event(next),
            Err(at) => self.left().insert(at, next),
        }
    }

    /// All from a time on.
    fn since(&mut self, ns: i64) {
        self.times.push(cursor::all_since(ns));
    }

    /// All that a subscription is to be given which the feed has not answered yet.
    fn resume(&mut self, resume: &Resume) {
        match resume {
            Resume::Cursor(cursor) => {
                match cursor.since_ns() {
                    Some(ns) => self.since(ns),
                    None => with_unnamed(&cursor.next, self.read)
                        .into_iter()
                        .for_each(|next| self.partition(next)),
                }
                cursor.next.iter().for_each(|next| self.partition(*next));
            }
            Resume::After(after) => {
                self.partition(Position { offset: after.offset.saturating_add(1), ..*after });
            }
            Resume::Since(ns) => self.since(*ns),
            Resume::Past(_) | Resume::TooOld => {}
        }
    }

    /// The rest of a replay.
    fn replay(&mut self, rest: Rest<'_>) {
        let Rest { next, since_ns, is_whole, topics, has_begun } = rest;
        if let Some(ns) = since_ns {
            let mut known = next.to_vec();
            known.sort_unstable();
            let is_met = |read: &Position| {
                topics.is_some_and(|topics| !topics.contains(&read.epoch)) || place(&known, *read).is_ok()
            };
            if !has_begun || !self.read.iter().all(is_met) {
                self.since(ns);
            }
        }
        // One that was found since it began is not among them yet.
        let all = if is_whole { with_unnamed(next, self.read) } else { next.to_vec() };
        all.into_iter().for_each(|next| self.partition(next));
    }
}

impl<S: Socket> Shard<S> {
    /// What a session that was given everything but what it is still owed could resume from.
    pub(super) fn cursor_of(&mut self, slot: u32) -> Rc<str> {
        let keys = self.shared.cursor_keys.now();
        if !Arc::ptr_eq(&keys, &self.cursor_keys) {
            // A feed that is quiet brings no other for a while.
            self.cursor = Rc::from(keys.sign(&self.positions));
            self.cursor_keys = keys;
        }
        let Some(session) = self.sessions.get(slot as usize) else { return self.cursor.clone() };
        let mut owed = Owed::new(&self.positions);
        session.outbox.owed_positions(|position| owed.event(position));
        let resumes = session.pending.iter().flat_map(|pending| &pending.resumes);
        resumes.for_each(|resume| owed.resume(resume));
        for rest in session.replays.iter().flat_map(|replays| replays.owed()) {
            owed.replay(rest);
        }
        for (played, began_at) in session.replays.iter().flat_map(|replays| replays.played()) {
            // Of what is played a pattern brings nothing live, and says so only when it ends.
            let hides = |sub: &Sub| {
                let target = self.table.target(sub.place);
                self.table.stream(sub.place).channel == played.channel && target.is_behind(&played.target)
            };
            if session.subs.iter().any(hides) {
                began_at.iter().for_each(|next| owed.event(*next));
            }
        }
        owed.all().map_or_else(|| self.cursor.clone(), |all| Rc::from(self.cursor_keys.sign(&all)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::STEPS;
    use tickgate_protocol::cursor::{Cursor, CursorKey};

    fn at(epoch: u32, partition: u32, offset: u64) -> Position {
        Position { epoch, partition, offset }
    }

    fn told(owed: Owed<'_>) -> Cursor {
        let key = CursorKey::new(b"");
        let read = owed.read;
        cursor::decode(&cursor::encode(&owed.all().unwrap_or_else(|| read.to_vec()), &key), &key)
            .expect("a cursor")
    }

    /// From when a client asked to resume until the feed had answered, the cursors of heartbeats passed all that it had asked
    /// for: cut off then, it never got that.
    #[test]
    fn a_request_without_an_answer_is_owed_all_that_it_asks_for() {
        let read = [at(7, 0, 50), at(7, 1, 60), at(7, 2, 70), at(8, 0, 80)];
        let cursor = |next: &[Position], others_ns| {
            Resume::Cursor(Cursor { next: next.to_vec(), others_ns, all_ns: None }.into())
        };
        for (what, resume, next, all_ns) in [
            // A partition that was added since, and a topic that this gateway has not found.
            (
                "a cursor",
                cursor(&[at(7, 0, 20), at(7, 1, 65), at(9, 0, 5)], None),
                vec![at(7, 0, 20), at(7, 1, 60), at(7, 2, 0), at(8, 0, 80), at(9, 0, 5)],
                None,
            ),
            (
                "a cursor with a time",
                cursor(&[at(7, 0, 20)], Some(9)),
                vec![at(7, 0, 20), read[1], read[2], read[3]],
                Some(9),
            ),
            ("a position", Resume::After(at(7, 1, 30)), vec![read[0], at(7, 1, 31), read[2], read[3]], None),
            ("a time", Resume::Since(44), read.to_vec(), Some(44)),
            ("a time that is too long ago", Resume::TooOld, read.to_vec(), None),
        ] {
            let mut owed = Owed::new(&read);
            owed.resume(&resume);
            assert_eq!(told(owed), Cursor { next, others_ns: None, all_ns }, "{what}");
        }
    }

    /// Before Kafka had said where a time stands in each partition, cursors passed the whole replay.
    #[test]
    fn a_replay_from_a_time_is_owed_until_every_partition_has_its_position() {
        let read = [at(7, 0, 50), at(7, 1, 60)];
        for (next, has_begun, all_ns) in [
            (vec![], false, Some(44)),
            (vec![at(7, 0, 10)], true, Some(44)),
            (vec![at(7, 0, 10), at(7, 1, 60)], true, None),
        ] {
            let mut owed = Owed::new(&read);
            owed.replay(Rest { next: &next, since_ns: Some(44), is_whole: false, topics: None, has_begun });
            let told = told(owed);
            assert_eq!((told.all_ns, told.next[0].offset), (all_ns, if next.is_empty() { 50 } else { 10 }));
        }
        // And while topics are missing.
        let read = [unknown(Tier::LIVE), at(7, 0, 50)];
        let mut owed = Owed::new(&read);
        let rest = Rest {
            next: &[at(7, 0, 10)],
            since_ns: Some(44),
            is_whole: false,
            topics: None,
            has_begun: true,
        };
        owed.replay(rest);
        assert_eq!(told(owed).all_ns, Some(44));
        // Of which none can have what is wanted.
        let mut owed = Owed::new(&read);
        owed.replay(Rest { topics: Some(&[7]), ..rest });
        assert_eq!(told(owed).all_ns, None);
    }

    /// A partition that was added while a replay ran counted as given, up to where the gateway had read it.
    #[test]
    fn a_partition_found_during_a_replay_is_owed_from_its_beginning() {
        let read = [at(7, 0, 50), at(7, 1, 13)];
        let rest =
            Rest { next: &[at(7, 0, 10)], since_ns: None, is_whole: true, topics: None, has_begun: true };
        for (is_whole, offset) in [(true, 0), (false, 13)] {
            let mut owed = Owed::new(&read);
            owed.replay(Rest { is_whole, ..rest });
            assert_eq!(told(owed).next, [at(7, 0, 10), at(7, 1, offset)]);
        }
    }

    /// What a cursor has to leave out was looked for among all partitions, one by one: with thousands of them, millions of steps
    /// for each heartbeat of a client that came back.
    #[test]
    fn cursors_of_thousands_of_partitions_take_a_few_steps_for_each() {
        const PARTITIONS: u32 = 5_000;
        let read: Vec<Position> = (0..PARTITIONS).map(|partition| at(7, partition, 100)).collect();
        // Half of them, in no order.
        let next: Vec<Position> = (0..PARTITIONS / 2).map(|n| at(7, n * 2_477 % PARTITIONS, 50)).collect();
        let steps_max = PARTITIONS as usize * 20;
        let steps = |what: &str, run: &dyn Fn() -> usize| {
            STEPS.set(0);
            assert_eq!(run(), PARTITIONS as usize, "{what}");
            assert!(STEPS.get() <= steps_max, "{what}: {} steps", STEPS.get());
        };
        let left = |owed: Owed<'_>| owed.all().map_or(0, |all| all.len());
        steps("partitions that are not named", &|| with_unnamed(&next, &read).len());
        steps("a cursor that waits for its answer", &|| {
            let mut owed = Owed::new(&read);
            let cursor = Cursor { next: next.clone(), others_ns: None, all_ns: None };
            cursor.next.iter().for_each(|next| owed.partition(*next));
            left(owed)
        });
        steps("a replay", &|| {
            let mut owed = Owed::new(&read);
            owed.replay(Rest { next: &next, since_ns: None, is_whole: false, topics: None, has_begun: true });
            left(owed)
        });
        steps("events in a queue", &|| {
            let mut owed = Owed::new(&read);
            next.iter().for_each(|next| owed.event(*next));
            left(owed)
        });
    }
}
