//! What a session could resume from: a cursor that passes nothing of what it is still owed, whatever that is.

use super::Shard;
use super::replay::Rest;
use super::socket::Socket;
use crate::clock;
use crate::feed::request::Resume;
use std::rc::Rc;
use tickgate_protocol::Position;
use tickgate_protocol::cursor::{self, CursorKey};

/// How far the clocks of producers may be behind ours, in nanoseconds.
const CLOCKS_NS: i64 = 60_000_000_000;

/// What is told of partitions of which nothing is known yet: whoever comes back then reads them from now on.
pub(crate) fn unknown() -> Position {
    cursor::others_since(clock::wall_ns() - CLOCKS_NS)
}

pub(super) fn sign(positions: &[Position], key: &CursorKey) -> Rc<str> {
    Rc::from(cursor::encode(positions, key))
}

/// The next record of each partition of `next`, and of those that are not named but `read` the first: a topic has got them
/// since.
pub(super) fn with_unnamed(next: &[Position], read: &[Position]) -> Vec<Position> {
    let mut all = next.to_vec();
    for read in read {
        let is_named = |next: &Position| (next.epoch, next.partition) == (read.epoch, read.partition);
        if next.iter().any(|next| next.epoch == read.epoch) && !next.iter().any(is_named) {
            all.push(Position { offset: 0, ..*read });
        }
    }
    all
}

/// A cursor that is held back to what a session is still owed.
#[derive(Debug)]
struct Owed<'a> {
    /// What the gateway has read.
    read: &'a [Position],
    /// What is left of it, if that is less.
    left: Option<Vec<Position>>,
}

impl Owed<'_> {
    fn left(&mut self) -> &mut Vec<Position> {
        self.left.get_or_insert_with(|| self.read.to_vec())
    }

    /// An event is queued.
    fn event(&mut self, owed: Position) {
        let all = self.left.as_deref().unwrap_or(self.read);
        if let Some(at) = all.iter().position(|next| owed.is_before(*next)) {
            self.left()[at] = owed;
        }
    }

    /// Of a partition, which the gateway may not have met, the records from `next` on.
    fn partition(&mut self, next: Position) {
        let all = self.left.as_deref().unwrap_or(self.read);
        match all.iter().any(|other| (other.epoch, other.partition) == (next.epoch, next.partition)) {
            true => self.event(next),
            false => self.left().push(next),
        }
    }

    /// All from a time on.
    fn since(&mut self, ns: i64) {
        self.left().push(cursor::all_since(ns));
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
        let Rest { next, since_ns, topics, has_begun } = rest;
        if let Some(ns) = since_ns {
            let is_met = |read: &Position| {
                topics.is_some_and(|topics| !topics.contains(&read.epoch))
                    || next.iter().any(|next| (next.epoch, next.partition) == (read.epoch, read.partition))
            };
            if !has_begun || !self.read.iter().all(is_met) {
                self.since(ns);
            }
        }
        next.iter().for_each(|next| self.partition(*next));
    }
}

impl<S: Socket> Shard<S> {
    /// What a session that was given everything but what it is still owed could resume from.
    pub(super) fn cursor_of(&self, slot: u32) -> Rc<str> {
        let Some(session) = self.sessions.get(slot as usize) else { return self.cursor.clone() };
        let mut owed = Owed { read: &self.positions, left: None };
        session.outbox.owed_positions(|position| owed.event(position));
        let resumes = session.pending.iter().flat_map(|pending| &pending.resumes);
        resumes.for_each(|resume| owed.resume(resume));
        for rest in session.replays.iter().flat_map(|replays| replays.owed()) {
            owed.replay(rest);
        }
        owed.left.map_or_else(|| self.cursor.clone(), |all| sign(&all, &self.shared.cursor_key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tickgate_protocol::cursor::Cursor;

    fn at(epoch: u32, partition: u32, offset: u64) -> Position {
        Position { epoch, partition, offset }
    }

    fn told(owed: Owed<'_>) -> Cursor {
        let key = CursorKey::new(b"");
        cursor::decode(&sign(owed.left.as_deref().unwrap_or(owed.read), &key), &key).expect("a cursor")
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
            let mut owed = Owed { read: &read, left: None };
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
            let mut owed = Owed { read: &read, left: None };
            owed.replay(Rest { next: &next, since_ns: Some(44), topics: None, has_begun });
            let told = told(owed);
            assert_eq!((told.all_ns, told.next[0].offset), (all_ns, if next.is_empty() { 50 } else { 10 }));
        }
        // And while topics are missing.
        let read = [unknown(), at(7, 0, 50)];
        let mut owed = Owed { read: &read, left: None };
        let rest = Rest { next: &[at(7, 0, 10)], since_ns: Some(44), topics: None, has_begun: true };
        owed.replay(rest);
        assert_eq!(told(owed).all_ns, Some(44));
        // Of which none can have what is wanted.
        let mut owed = Owed { read: &read, left: None };
        owed.replay(Rest { topics: Some(&[7]), ..rest });
        assert_eq!(told(owed).all_ns, None);
    }
}
