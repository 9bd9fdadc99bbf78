//! Reading again from Kafka what is no longer in memory, beside the live feed and without its noticing.
//!
//! A session that is to get what it missed asks for a [`Chunk`] at a time, and for the next one when its outbox has room:
//! nothing waits here for a client. When it has come to the end of the log it asks the feed, whose memory reaches further.

mod course;
mod pace;
mod plan;
pub mod pool;
mod reader;
pub mod record;
pub mod wants;

use crate::event::{Event, Stream};
use crate::feed::request::{SessionKey, Target};
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tickgate_protocol::event::{Gap, GapCause};
use tickgate_protocol::{Channel, Position};

/// Hands a question to those who read Kafka again. It does not wait, and gives the question back when too many wait already;
/// what is found goes to the shard that asked.
pub type ReadAgain = Arc<dyn Fn(Box<Ask>) -> Result<(), Box<Ask>> + Send + Sync>;

/// What of the log one subscription wants.
#[derive(Debug, Clone)]
pub struct Missed {
    /// Of which symbols.
    pub target: Target,
    /// Which of their events; never conflated, and of a book all levels.
    pub stream: Stream,
    /// Nothing at or before this position.
    pub after: Option<Position>,
}

impl Missed {
    /// Whether an event at this position comes behind those that the client has. A symbol that moved to another partition
    /// cannot be followed from a position alone.
    pub fn has_at(&self, at: Position) -> bool {
        self.after.is_none_or(|after| {
            (after.epoch, after.partition) == (at.epoch, at.partition) && after.offset < at.offset
        })
    }
}

/// What a session asks for. It has at most one such question under way for each of its replays.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The shard that asks.
    pub shard: usize,
    /// The number of its tier: nothing is read that is not due there.
    pub tier: usize,
    /// Its session.
    pub key: SessionKey,
    /// Which of its replays it is.
    pub replay: u32,
    /// What is wanted, the most specific first: where several match a symbol, the first one counts. Books are not read
    /// again: their subscriptions get a snapshot.
    pub wants: Arc<[Missed]>,
    /// The next record to read of each partition, as far as that is known.
    pub next: Vec<Position>,
    /// Where every other partition of every feed begins: at the first record that was appended at or after this time,
    /// nanoseconds since the Unix epoch, whatever the times of those behind it. If that is the first that there is, and not
    /// the first that there ever was, those before it are lost. Without a time, see `Engine::complete`.
    pub since_ns: Option<i64>,
    /// Where every partition ends: before the first record that was appended after this time, nanoseconds since the Unix epoch.
    /// Then every partition has to say where, or nothing is read.
    pub until_ns: Option<i64>,
    /// The epochs of the topics that have all that is wanted, if that is known.
    pub topics: Option<Arc<[u32]>>,
    /// Where the replay as a whole began, as far as those were positions; in order. With a time, whatever of both is earlier.
    pub origin: Arc<[Position]>,
    /// Bytes of events after which to stop.
    pub bytes_max: usize,
    /// The last event of each symbol and channel that was found for the client: the `prev` of the next. Before the first, what
    /// its subscription is `after`.
    pub last: FxHashMap<(u32, Channel), Position>,
    /// Of which of them events were found in several partitions: nobody knows which of these came last.
    pub scattered: FxHashSet<(u32, Channel)>,
    /// Whether Kafka was asked.
    pub is_read_again: bool,
    /// What was found gone of what was asked for.
    pub lost: Vec<Lost>,
    /// The symbols and channels that the feed has read nothing of, and whose loss was told.
    pub told: FxHashSet<(u32, Channel)>,
    /// How far the feed has gone through its symbols, to say what of each could not be replayed.
    pub walk: Option<Walk>,
    /// What was known before the part that is being read, the newest last; only while one is.
    pub before: Option<Vec<Known>>,
    /// Whether nobody but the feed's memory is asked: what it does not have is lost.
    pub is_memory_only: bool,
    /// Whether who is ahead of the feed waits though nobody but its memory is asked.
    pub waits: bool,
    /// Whether the session still waits for it.
    pub is_wanted: Arc<AtomicBool>,
}

impl Ask {
    /// A question about `wants`, from nowhere yet.
    pub fn new(shard: usize, key: SessionKey, replay: u32, wants: Arc<[Missed]>) -> Self {
        Self {
            shard,
            tier: 0,
            key,
            replay,
            wants,
            next: Vec::new(),
            since_ns: None,
            until_ns: None,
            topics: None,
            origin: Arc::from([]),
            bytes_max: 0,
            last: FxHashMap::default(),
            scattered: FxHashSet::default(),
            is_read_again: false,
            lost: Vec::new(),
            told: FxHashSet::default(),
            walk: None,
            before: None,
            is_memory_only: false,
            waits: false,
            is_wanted: Arc::new(AtomicBool::new(true)),
        }
    }

    /// Whether a topic may have what is wanted.
    pub fn is_of(&self, epoch: u32) -> bool {
        self.topics.as_ref().is_none_or(|topics| topics.contains(&epoch))
    }

    /// Bytes of memory, tables at their fullest.
    pub fn bytes(&self) -> usize {
        // A table keeps up to as many places free as taken, and has another of half the size while it grows.
        let last = 3 * self.last.capacity() * (size_of::<((u32, Channel), Position)>() + 1);
        let sets = self.scattered.capacity() + self.told.capacity();
        let sets = 3 * sets * (size_of::<(u32, Channel)>() + 1);
        let positions = self.next.capacity() + self.origin.len();
        size_of::<Self>()
            + last
            + sets
            + positions * size_of::<Position>()
            + self.wants.len() * size_of::<Missed>()
            + self.lost.capacity() * size_of::<Lost>()
    }

    /// Where it began in the partition of `at`, if that was said.
    pub fn origin_of(&self, at: Position) -> Option<u64> {
        place(&self.origin, at).ok().map(|found| self.origin[found].offset)
    }

    /// Takes note of an event that was found.
    pub fn note(&mut self, key: (u32, Channel), at: Position) {
        self.remember(key);
        let found = self.last.insert(key, at);
        if found.is_some_and(|found| (found.epoch, found.partition) != (at.epoch, at.partition)) {
            self.scattered.insert(key);
        }
    }

    /// Remembers what is known of a symbol and channel, if that may have to be brought back.
    fn remember(&mut self, key: (u32, Channel)) {
        let Self { before, last, scattered, .. } = self;
        let known = || Known { key, last: last.get(&key).copied(), is_scattered: scattered.contains(&key) };
        before.iter_mut().for_each(|before| before.push(known()));
    }

    /// Brings back what was known of a symbol and channel.
    fn forget(&mut self, Known { key, last, is_scattered }: Known) {
        match last {
            Some(last) => self.last.insert(key, last),
            None => self.last.remove(&key),
        };
        if !is_scattered {
            self.scattered.remove(&key);
        }
    }

    /// Takes note that a symbol's event at the position that its subscription is `after` stands there indeed.
    pub fn confirm(&mut self, want: &Missed, symbol: u32) {
        if let Some(after) = want.after {
            self.remember((symbol, want.stream.channel));
            self.last.entry((symbol, want.stream.channel)).or_insert(after);
        }
    }
}

/// How far the feed has gone through its symbols for an [`Ask`].
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    /// The want that is being gone through.
    pub want: usize,
    /// The next symbol.
    pub symbol: u32,
    /// The number of the first record behind those that had been read by then: who is named there has changed since.
    pub number: u64,
    /// How many symbols the feed had learned the place of by then, from replays.
    pub learned: u64,
}

/// What an [`Ask`] knew of a symbol and channel.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    key: (u32, Channel),
    last: Option<Position>,
    is_scattered: bool,
}

/// Offsets of a partition that are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// The first.
    pub from: Position,
    /// The last.
    pub upto: Position,
}

impl Lost {
    /// Whether a position is among those lost.
    pub fn holds(&self, at: Position) -> bool {
        self.from.is_at_or_before(at) && at.is_at_or_before(self.upto)
    }

    /// Whether it may hold events of a symbol between the last that the client has, if that is known, and the one at `at`.
    /// A symbol that moved to another partition has them where its last one was. Who was told of it stands at its end.
    pub fn concerns(&self, before: Option<Position>, at: Position) -> bool {
        match before {
            Some(before) => before.is_before(self.upto),
            None => (self.upto.epoch, self.upto.partition) == (at.epoch, at.partition),
        }
    }
}

/// The events of one record, symbol and channel.
#[derive(Debug)]
pub struct Replayed {
    /// When its record was appended, nanoseconds since the Unix epoch.
    pub append_ns: i64,
    /// With `replay:true` and its `prev`, where that is known.
    pub event: Arc<Event>,
    /// What of its partition was lost between the last event of its symbol that the client has and this one; its end is then
    /// the event's `prev`.
    pub gap: Option<Gap>,
}

/// How far a chunk goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// There is more.
    More,
    /// To the end of the log as it was when the chunk was read. `next` is then the end itself, whether or not the offsets
    /// before it are of records.
    End,
    /// Nowhere, as Kafka does not answer: try again later.
    Refused,
}

/// The next events of a replay.
#[derive(Debug)]
pub struct Chunk {
    /// The question as it goes on: its `next`, `last` and `lost` brought up to date.
    pub ask: Box<Ask>,
    /// In order of each partition.
    pub events: Vec<Replayed>,
    /// Whether there is more.
    pub reach: Reach,
}

/// The place of a position's partition among `sorted`, or where it would be.
pub fn place(sorted: &[Position], at: Position) -> Result<usize, usize> {
    sorted.binary_search_by(|other| {
        #[cfg(test)]
        STEPS.with(|steps| steps.set(steps.get() + 1));
        (other.epoch, other.partition).cmp(&(at.epoch, at.partition))
    })
}

#[cfg(test)]
thread_local! {
    /// How many positions, names or subscriptions were looked at: what tests of thousands of them count.
    pub(crate) static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// What an event follows from, and what of its partition was lost before it. `prev` is what is known of its symbol
/// elsewhere. The event is to be noted in `last` when it was made.
pub fn seam(
    last: &FxHashMap<(u32, Channel), Position>,
    lost: &[Lost],
    want: &Missed,
    (symbol, at): (u32, Position),
    prev: Option<Position>,
) -> (Option<Position>, Option<Gap>) {
    let key = (symbol, want.stream.channel);
    let before = last.get(&key).copied().or(want.after);
    let is_before = |lost: &&Lost| {
        lost.concerns(before, at) || (before.is_none() && prev.is_some_and(|prev| lost.holds(prev)))
    };
    // The last one: what was lost before it is told with it.
    match lost.iter().rfind(is_before) {
        Some(Lost { upto, .. }) => {
            let gap = Gap { after: before, upto: Some(*upto), count: None, cause: GapCause::Retention };
            (Some(*upto), Some(gap))
        }
        // A symbol that moved may come partition by partition: then it is the last that came.
        None => match (before, prev) {
            (Some(before), Some(prev)) if !before.is_at_or_before(prev) => (Some(before), None),
            _ => (prev.or(before), None),
        },
    }
}
