//! Reading again from Kafka what is no longer in memory, beside the live feed and without its noticing.
//!
//! A session that is to get what it missed asks for a [`Chunk`] at a time, and for the next one when its outbox has room:
//! nothing waits here for a client. When it has come to the end of the log it asks the feed, whose memory reaches further.

use crate::event::{Event, Stream};
use crate::feed::request::{SessionKey, Target};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use tickgate_protocol::{Channel, Position};

/// What of the log one subscription wants.
#[derive(Debug, Clone)]
pub struct Missed {
    /// Of which symbols.
    pub target: Target,
    /// Which of their events; never conflated, and of a book all levels.
    pub stream: Stream,
    /// Nothing at or before this position.
    pub after: Option<Position>,
    /// Nothing that was appended before this time, nanoseconds since the Unix epoch.
    pub since_ns: Option<i64>,
}

/// Where reading begins.
#[derive(Debug, Clone)]
pub enum Start {
    /// At the next record to read of each partition.
    At(Vec<Position>),
    /// In every partition of every feed at the first record that was appended at or after this time, nanoseconds since the
    /// Unix epoch.
    Since(i64),
}

/// What a session asks for. It has at most one such question under way for each of its replays.
#[derive(Debug)]
pub struct Ask {
    /// The shard that asks.
    pub shard: usize,
    /// Its session.
    pub key: SessionKey,
    /// Which of its replays it is.
    pub replay: u32,
    /// What is wanted. Where several match a symbol, the first one counts.
    pub wants: Arc<[Missed]>,
    /// Where to begin.
    pub start: Start,
    /// Nothing that was appended at or after this time, nanoseconds since the Unix epoch.
    pub until_ns: Option<i64>,
    /// Bytes of events after which to stop.
    pub bytes_max: usize,
    /// The last event of each symbol that the client has, where known: the `prev` of the next.
    pub last: FxHashMap<(Box<str>, Channel), Position>,
    /// What chunks before it found gone.
    pub lost: Vec<Lost>,
}

/// Offsets of a partition that are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// The first.
    pub from: Position,
    /// The last.
    pub upto: Position,
}

/// The events of one record, symbol and channel.
#[derive(Debug)]
pub struct Replayed {
    /// With `replay:true` and its `prev`, where that is known.
    pub event: Arc<Event>,
    /// When its record was appended, nanoseconds since the Unix epoch.
    pub append_ns: i64,
    /// What of its partition was lost between the last event of its symbol that the client has and this one: `upto` is then
    /// its `prev`.
    pub lost: Option<Lost>,
}

/// How far a chunk goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// There is more.
    More,
    /// To the end of the log as it was when the chunk was read, or to `until_ns`.
    End,
    /// Nowhere, as too many replays wait, or Kafka does not answer: try again later.
    Refused(&'static str),
}

/// The next events of a replay.
#[derive(Debug)]
pub struct Chunk {
    /// Who asked.
    pub key: SessionKey,
    /// For which of its replays.
    pub replay: u32,
    /// In order of each partition.
    pub events: Vec<Replayed>,
    /// The question's, and what this chunk found gone: offsets that were asked for, and that Kafka no longer has.
    pub lost: Vec<Lost>,
    /// Where the next chunk begins.
    pub next: Vec<Position>,
    /// Whether there is one.
    pub reach: Reach,
    /// The question's, brought up to date.
    pub last: FxHashMap<(Box<str>, Channel), Position>,
}
