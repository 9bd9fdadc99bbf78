//! An event as it travels from the feed to the sockets: encoded once, shared by reference count.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tickgate_protocol::event::{Gap, Tail};
use tickgate_protocol::{Channel, ConflateMs, Depth, Position};

/// A known instrument.
#[derive(Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Its number on this gateway, counted up from 0.
    pub id: u32,
    /// Its name.
    pub name: Box<str>,
    /// Its name as a JSON string, quotes included.
    pub json: Box<[u8]>,
}

impl Symbol {
    /// The symbol `name` under the number `id`.
    pub fn new(id: u32, name: &str) -> Arc<Self> {
        Arc::new(Self { id, name: name.into(), json: tickgate_protocol::event::json::string(name) })
    }
}

/// What a subscription receives of a symbol: everything that shares a stream shares encoded bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stream {
    /// Its channel.
    pub channel: Channel,
    /// Levels a side, of a book.
    pub depth: Depth,
    /// Interval of conflation.
    pub conflate: ConflateMs,
    /// Whether it is that of a subscription which is being brought up to date: nothing is sent on it.
    pub is_held_back: bool,
}

impl Stream {
    /// Every event of `channel`, as it comes.
    pub const fn whole(channel: Channel) -> Self {
        Self::new(channel, Depth::ALL, ConflateMs::NONE)
    }

    /// The stream of `channel` in a depth and with an interval.
    pub const fn new(channel: Channel, depth: Depth, conflate: ConflateMs) -> Self {
        Self { channel, depth, conflate, is_held_back: false }
    }

    /// Whether each event replaces all that the one before it said. Book changes build on each other, conflated books
    /// are snapshots.
    pub fn is_replaceable(self) -> bool {
        match self.channel {
            Channel::Trades => false,
            Channel::Quotes | Channel::Status => true,
            Channel::Book => self.conflate != ConflateMs::NONE,
        }
    }
}

/// Where events of one symbol and stream meet: conflation keeps one per key.
pub type Key = (u32, Stream);

/// All events of one record, symbol and stream: they are kept, dropped or sent together.
#[derive(Debug)]
pub struct Event {
    /// The instrument.
    pub symbol: Arc<Symbol>,
    /// The stream it belongs to.
    pub stream: Stream,
    /// Where it came from.
    pub position: Position,
    /// How many events it holds.
    pub count: u32,
    /// The fields that may differ from client to client, as everybody gets them.
    pub tail: Tail,
    /// The JSON of all its events, separated by commas.
    pub text: Box<[u8]>,
    /// Where the newest event's JSON begins in `text`, and where its tail does.
    pub newest: (u32, u32),
    /// Gateway clock when the record arrived, nanoseconds since the Unix epoch.
    pub ingest_ns: i64,
    /// Venue clock, nanoseconds since the Unix epoch.
    pub event_ns: i64,
    /// When the producer meant to send it, nanoseconds since the Unix epoch.
    pub send_ns: Option<i64>,
}

impl Event {
    /// Where its events meet older and newer ones.
    pub fn key(&self) -> Key {
        (self.symbol.id, self.stream)
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        // Two counts of references.
        size_of::<Self>() + 2 * size_of::<usize>() + self.text.len()
    }

    /// The newest event alone, without its tail.
    pub fn head(&self) -> &[u8] {
        &self.text[self.newest.0 as usize..self.newest.1 as usize]
    }

    /// The same events, of the past alone, behind another one than it was made for.
    pub fn played_behind(&self, prev: Option<Position>) -> Self {
        let tail = Tail { prev, ..self.tail };
        let (mut old, mut new) = (Vec::new(), Vec::new());
        self.tail.write(&mut old);
        tail.write(&mut new);
        let mut text = Vec::with_capacity(self.text.len() + self.count as usize * Tail::BYTES_MAX);
        let (mut rest, mut newest) = (&*self.text, 0);
        // Every one of them ends so, and nothing else is: quotes within a text are escaped.
        while let Some(at) = rest.windows(old.len()).position(|window| window == old) {
            text.extend_from_slice(&rest[..at]);
            newest = text.len() as u32;
            text.extend_from_slice(&new);
            rest = &rest[at + old.len()..];
        }
        text.extend_from_slice(rest);
        let head_bytes = self.newest.1 - self.newest.0;
        Self {
            symbol: self.symbol.clone(),
            stream: Stream { is_held_back: true, ..self.stream },
            tail,
            text: text.into_boxed_slice(),
            newest: (newest.saturating_sub(head_bytes), newest),
            ..*self
        }
    }

    /// The newest of its events with another tail, as an event of its own.
    pub fn with_tail(&self, tail: Tail) -> Self {
        let mut text = Vec::with_capacity(self.head().len() + Tail::BYTES_MAX);
        text.extend_from_slice(self.head());
        let tail_at = text.len() as u32;
        tail.write(&mut text);
        Self {
            symbol: self.symbol.clone(),
            count: 1,
            tail,
            text: text.into_boxed_slice(),
            newest: (0, tail_at),
            ..*self
        }
    }
}

/// What the feed hands to a shard, in order.
#[derive(Debug)]
pub enum Item {
    /// An event for every session that subscribed to its stream.
    Event(Arc<Event>),
    /// Events that nobody will get: told to every session that subscribed to the stream.
    Gap(Arc<Symbol>, Stream, Gap),
    /// Records are gone that were never read: told to every session, as nobody knows which symbols were in them.
    Lost,
    /// The answer to a session's request.
    Reply(Box<crate::feed::request::Reply>),
    /// Position of the next record to read of every partition, or of what conflation holds back, for cursors.
    Positions(Arc<[Position]>),
    /// The state of every feed, as the JSON that heartbeats carry.
    Feeds(Arc<str>),
}

/// What the feed hands to a shard in one push.
#[derive(Debug)]
pub struct Batch {
    /// The items, in order.
    pub items: Vec<Item>,
    /// Gateway clock when the last of them was decoded, nanoseconds since the Unix epoch.
    pub decoded_ns: i64,
    /// Its part of `session.inbox_bytes_max`, given back when the batch was handled.
    pub held: Held,
}

impl Item {
    /// Bytes of memory, shared events at full size.
    pub fn bytes(&self) -> usize {
        use crate::feed::request::{Answer, Reply, State};
        let more = match self {
            Self::Event(event) => event.bytes(),
            Self::Gap(..) | Self::Lost => 0,
            Self::Reply(reply) => match &**reply {
                Reply::Subscribed(_, answers) => answers
                    .iter()
                    .map(|answer| {
                        let states = answer.states.iter().map(|state| {
                            let events =
                                state.events.iter().map(|event| event.bytes() + size_of::<Arc<Event>>());
                            size_of::<State>() + events.sum::<usize>()
                        });
                        size_of::<Answer>() + states.sum::<usize>()
                    })
                    .sum(),
                Reply::Resynced(.., snapshot) => snapshot.as_ref().map_or(0, |(event, _)| event.bytes()),
                Reply::Resumed(resumed) => {
                    let events = resumed.chunk.events.iter().map(|missed| missed.event.bytes());
                    let states = resumed.states.iter().flat_map(|(_, state)| &state.events);
                    let states = states.map(|event| event.bytes());
                    resumed.chunk.ask.bytes() + events.chain(states).sum::<usize>()
                }
                Reply::Beyond(ask) => ask.bytes(),
            },
            Self::Positions(positions) => size_of_val::<[Position]>(positions),
            Self::Feeds(json) => json.len(),
        };
        size_of::<Self>() + more
    }
}

/// Bytes of a bound that are taken for as long as this lives.
#[derive(Debug, Default)]
pub struct Held {
    held: Arc<AtomicUsize>,
    bytes: usize,
}

impl Held {
    /// Takes `bytes` of what `held` counts.
    pub fn new(held: &Arc<AtomicUsize>, bytes: usize) -> Self {
        held.fetch_add(bytes, Ordering::Relaxed);
        Self { held: held.clone(), bytes }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
