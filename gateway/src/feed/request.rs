//! What shards ask of the feed, and its answers, which travel in order with the events.
//!
//! A subscription starts exactly where its answer stands in the shard's inbox: the snapshot is the state at that
//! point, and every event behind it follows from it.

use crate::event::{Event, Key, Stream, Symbol};
use crate::replay::{Ask, Chunk};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tickgate_protocol::Position;
use tickgate_protocol::command::Past;
use tickgate_protocol::cursor::Cursor;
use tickgate_protocol::event::Gap;

/// A session on its shard; the generation tells a slot's new session from its old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// Slot in the shard's table of sessions.
    pub slot: u32,
    /// How many sessions the shard had opened before.
    pub generation: u32,
}

/// What a subscription names: a symbol, or every symbol with a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// One symbol.
    Symbol(Arc<str>),
    /// Every symbol that begins so; empty for all.
    Prefix(Arc<str>),
}

impl Target {
    /// The target that `text` asks for: a prefix if it ends in `*`.
    pub fn parse(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(prefix) => Self::Prefix(prefix.into()),
            None => Self::Symbol(text.into()),
        }
    }

    /// The target that `text` asks for, of which a symbol shares it.
    pub fn of(text: &Arc<str>) -> Self {
        match text.strip_suffix('*') {
            Some(prefix) => Self::Prefix(prefix.into()),
            None => Self::Symbol(text.clone()),
        }
    }

    /// Whether `symbol` is meant.
    pub fn matches(&self, symbol: &str) -> bool {
        #[cfg(test)]
        crate::replay::STEPS.with(|steps| steps.set(steps.get() + 1));
        match self {
            Self::Symbol(name) => **name == *symbol,
            Self::Prefix(prefix) => symbol.starts_with(&**prefix),
        }
    }

    /// Whether it brings what `other` would, if that were not there: it is a prefix of it.
    pub fn is_behind(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Symbol(_), _) => false,
            (Self::Prefix(prefix), Self::Symbol(name)) => name.starts_with(&**prefix),
            (Self::Prefix(prefix), Self::Prefix(name)) => prefix != name && name.starts_with(&**prefix),
        }
    }

    /// How a client writes it.
    pub fn text(&self) -> String {
        match self {
            Self::Symbol(name) => name.to_string(),
            Self::Prefix(prefix) => format!("{prefix}*"),
        }
    }

    /// Exact beats the longest prefix beats the shortest.
    pub fn specificity(&self) -> usize {
        match self {
            Self::Symbol(_) => usize::MAX,
            Self::Prefix(prefix) => prefix.len(),
        }
    }
}

/// One thing that a session wants.
#[derive(Debug, Clone, PartialEq)]
pub struct Want {
    /// Of which symbols.
    pub target: Target,
    /// Which of their events.
    pub stream: Stream,
    /// How many of the last trades first.
    pub trades: u32,
    /// Where the client stopped.
    pub resume: Option<Resume>,
}

/// Where a client stopped, or wants to begin.
#[derive(Debug, Clone, PartialEq)]
pub enum Resume {
    /// It has everything before what this says.
    Cursor(Arc<Cursor>),
    /// It has everything up to this position.
    After(Position),
    /// It wants what was appended at or after this time, nanoseconds since the Unix epoch.
    Since(i64),
    /// It wants that part of the past, and nothing live.
    Past(Past),
    /// It asked for more than `replay.window_s` allows.
    TooOld,
}

/// What a shard asks of the feed.
#[derive(Debug)]
pub enum Request {
    /// Send these streams to this shard, and answer with their state.
    Subscribe(SessionKey, Vec<Want>),
    /// Nobody on this shard wants this any more.
    Drop(Target, Stream),
    /// A fresh snapshot of a book for one session.
    Resync(SessionKey, Key),
    /// What a session missed, as far as the feed's memory has it.
    Resume(Box<Ask>),
}

/// The feed's answer to a [`Request`].
#[derive(Debug)]
pub enum Reply {
    /// One answer for each want.
    Subscribed(SessionKey, Vec<Answer>),
    /// The snapshot asked for, and whether updates from before it are still due to others; `None` when there is none.
    Resynced(SessionKey, Key, Option<(Arc<Event>, bool)>),
    /// What was missed, or the next part of it.
    Resumed(Box<Resumed>),
    /// The feed's memory does not reach so far.
    Beyond(Box<Ask>),
}

/// What a session missed.
#[derive(Debug)]
pub struct Resumed {
    /// The events.
    pub chunk: Chunk,
    /// What could not be replayed, with the number of its want: a gap, and the present state.
    pub states: Vec<(usize, State)>,
    /// When that was all: every event behind this answer follows from it.
    pub live: Option<Live>,
}

/// The point where a replay has caught up.
#[derive(Debug, Default)]
pub struct Live {
    /// For each want the position of its symbol's last event, where one symbol is meant and that is known.
    pub at: Vec<Option<Position>>,
    /// Whether anything that was asked for is gone, of symbols that nothing is known of included.
    pub is_lost: bool,
}

impl Reply {
    /// Whom it is for.
    pub fn session(&self) -> SessionKey {
        match self {
            Self::Subscribed(session, _) | Self::Resynced(session, ..) => *session,
            Self::Resumed(resumed) => resumed.chunk.ask.key,
            Self::Beyond(ask) => ask.key,
        }
    }
}

/// What the feed knows about one [`Want`].
#[derive(Debug)]
pub struct Answer {
    /// What it answers.
    pub want: Want,
    /// The symbol, if the want named one that was seen.
    pub symbol: Option<Arc<Symbol>>,
    /// Whether it named a symbol that no configured list allows.
    pub refused: bool,
    /// Why the gateway is too full for it, if it is.
    pub full: Option<&'static str>,
    /// Whether the symbol is unknown and there is no room to wait for it.
    pub no_room: bool,
    /// Whether it named a book that no snapshot record was read of yet.
    pub building: bool,
    /// Whether the asked position cannot be resumed: its topic is not there any more.
    pub aged_out: bool,
    /// Whether what was missed can be asked for; until it has come, the subscription gets nothing else.
    pub replays: bool,
    /// Whether symbols may be among what it names whose newest state was missed and is not known here.
    pub unread: bool,
    /// The position of its symbol's newest event, if it named one and that is known.
    pub at: Option<Position>,
    /// The epoch of the topic that its symbol comes from, if what was missed can be asked for and that is known.
    pub epoch: Option<u32>,
    /// The state of each symbol meant.
    pub states: Vec<State>,
}

/// The state of one symbol and stream at the point where a subscription begins.
#[derive(Debug)]
pub struct State {
    /// The instrument.
    pub symbol: Arc<Symbol>,
    /// What the client misses between where it stopped and the snapshot.
    pub gap: Option<Gap>,
    /// The snapshot: one event, or for trades the last few. Shared with everyone who asks until the next update, for
    /// as long as `kafka.snapshots_bytes_max` has room; one request gets at most `session.inbox_bytes_max` of them.
    pub events: Vec<Arc<Event>>,
    /// Where the snapshot stands, or what was replayed ends, if updates from before that are still due to those who held the
    /// stream already.
    pub pending: Option<Position>,
}

/// Requests on their way from one shard to the feed.
///
/// Bounded by what can be asked: one subscribe per session at a time and one question per replay, `replay.per_session_max` of
/// each session, both counted in `limits.reading_bytes_total_max`; one
/// drop per (target, stream) that was held, and one resynchronisation per subscription, both of which need an answer of
/// the feed before they can be asked again, and so are at most `limits.subscriptions_total_max`.
#[derive(Debug, Default)]
pub struct Mailbox {
    requests: Mutex<VecDeque<Request>>,
}

impl Mailbox {
    /// Adds a request.
    pub fn push(&self, request: Request) {
        self.lock().push_back(request);
    }

    /// Takes the oldest request.
    pub fn pop(&self) -> Option<Request> {
        self.lock().pop_front()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
