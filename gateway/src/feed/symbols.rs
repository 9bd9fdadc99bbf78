//! What the feed keeps of each symbol: its last states, and the streams of it that somebody listens to.

use super::book::{Book, View};
use crate::event::{Event, Stream, Symbol};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tickgate_protocol::event::{Meta, Tail, write_head};
use tickgate_protocol::record::{self, Body, Trade};
use tickgate_protocol::{Channel, ConflateMs, Position};

/// A body with the fields around it, as it was read.
#[derive(Debug)]
pub struct Kept {
    /// The fields around it.
    pub meta: Meta,
    /// `seq` of the event before it.
    pub prev: Option<Position>,
    /// What it says.
    pub body: Body<'static>,
}

/// Updates of a conflated stream that wait for their interval to end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lane {
    /// When it last sent, monotonic milliseconds; `None` before the first time.
    pub fired_ms: Option<u64>,
    /// Updates since then.
    pub waiting: u32,
    /// The position of the first of them.
    pub first: Option<Position>,
}

/// One stream of one symbol that somebody listens to.
#[derive(Debug)]
pub struct StreamState {
    /// Which.
    pub stream: Stream,
    /// Shards that asked for this symbol by name, as bits.
    pub exact: u64,
    /// Shards that asked for a prefix that it has, as bits.
    pub prefix: u64,
    /// Position of the last event sent on it.
    pub last: Option<Position>,
    /// The top of the book as last sent, for depths that are not the whole.
    pub view: Option<View>,
    /// What conflation holds back.
    pub lane: Lane,
    /// The snapshot of its present state, if one was made since the last update.
    pub snapshot: Option<Cached>,
}

/// The room for cached snapshots. Clones share it.
#[derive(Debug, Clone)]
pub struct Cache {
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
}

/// A cached snapshot, which counts for as long as it is cached.
#[derive(Debug)]
pub struct Cached {
    event: Arc<Event>,
    cache: Arc<AtomicUsize>,
}

impl Cache {
    /// Room for `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes: Arc::default(), bytes_max }
    }

    /// Bytes that are cached.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Keeps an event if there is room for it.
    fn keep(&self, event: &Arc<Event>) -> Option<Cached> {
        // Its own thread alone adds, so that nothing comes in between.
        if self.bytes() + event.bytes() > self.bytes_max {
            return None;
        }
        self.bytes.fetch_add(event.bytes(), Ordering::Relaxed);
        Some(Cached { event: event.clone(), cache: self.bytes.clone() })
    }
}

impl Drop for Cached {
    fn drop(&mut self) {
        self.cache.fetch_sub(self.event.bytes(), Ordering::Relaxed);
    }
}

impl StreamState {
    /// The shards that listen, as bits.
    pub fn shards(&self) -> u64 {
        self.exact | self.prefix
    }
}

/// What the feed keeps of one symbol.
#[derive(Debug)]
pub struct SymbolState {
    /// The instrument.
    pub symbol: Arc<Symbol>,
    /// Position of the last event by channel.
    pub last: [Option<Position>; Channel::ALL.len()],
    /// Numbers of the newest records by channel, in the feed's memory.
    pub newest: [Option<u64>; Channel::ALL.len()],
    /// Number of the last record that came from another partition than the one before it, of whatever channel.
    pub moved: Option<u64>,
    /// Whether the feed has read of it; a replay may have met it before.
    pub is_met: bool,
    /// The last quote.
    pub quote: Option<Kept>,
    /// The last status.
    pub status: Option<Kept>,
    /// The last trades.
    pub trades: VecDeque<Kept>,
    /// The order book, and the fields around its last update.
    pub book: Option<Box<(Book, Meta)>>,
    /// The streams that somebody listens to.
    pub streams: SmallVec<[StreamState; 1]>,
}

impl SymbolState {
    /// A symbol of which nothing was read yet.
    pub fn new(symbol: Arc<Symbol>) -> Self {
        Self {
            symbol,
            last: [None; 4],
            newest: [None; 4],
            moved: None,
            is_met: false,
            quote: None,
            status: None,
            trades: VecDeque::new(),
            book: None,
            streams: SmallVec::new(),
        }
    }

    /// The state of a stream, made if nobody listened to it before.
    pub fn stream(&mut self, stream: Stream) -> &mut StreamState {
        if let Some(at) = self.streams.iter().position(|s| s.stream == stream) {
            return &mut self.streams[at];
        }
        let book = self.book.as_deref().filter(|(book, _)| book.is_built());
        let view = match stream.depth.levels() {
            Some(depth) if stream.conflate == ConflateMs::NONE => {
                book.map(|(book, _)| View::new(book, depth))
            }
            _ => None,
        };
        let last = self.last[stream.channel as usize];
        let lane = Lane::default();
        self.streams.push(StreamState { stream, exact: 0, prefix: 0, last, view, lane, snapshot: None });
        let at = self.streams.len() - 1;
        &mut self.streams[at]
    }

    /// Forgets streams that nobody listens to.
    pub fn sweep(&mut self) {
        self.streams.retain(|stream| stream.shards() != 0);
    }

    /// Forgets every state, as after a loss that leaves nothing to build on. Positions stay: the chain goes on.
    pub fn reset_book(&mut self) {
        self.book = None;
        for stream in self.streams.iter_mut().filter(|s| s.stream.channel == Channel::Book) {
            stream.view = None;
            stream.snapshot = None;
            stream.lane.waiting = 0;
        }
    }

    /// Levels of its book.
    pub fn levels(&self) -> usize {
        self.book.as_deref().map_or(0, |(book, _)| book.len())
    }

    /// Whether somebody listens to a stream.
    pub fn has(&self, stream: Stream) -> bool {
        self.streams.iter().any(|s| s.stream == stream)
    }

    /// Whether its book waits for a snapshot record.
    pub fn is_building(&self) -> bool {
        !self.book.as_deref().is_some_and(|(book, _)| book.is_built())
    }

    /// The present state of a stream as one event with `snapshot:true`; `None` when nothing was read yet. Trades have
    /// no state.
    pub fn snapshot(&mut self, stream: Stream, cache: &Cache) -> Option<Arc<Event>> {
        let kept = self.streams.iter().position(|s| s.stream == stream);
        if let Some(event) = kept.and_then(|at| self.streams[at].snapshot.as_ref()) {
            return Some(event.event.clone());
        }
        let tail = Tail { snapshot: true, ..Tail::default() };
        let event = match stream.channel {
            Channel::Trades => return None,
            Channel::Quotes => self.state_event(stream, self.quote.as_ref()?, tail)?,
            Channel::Status => self.state_event(stream, self.status.as_ref()?, tail)?,
            Channel::Book => {
                // A view's chain stands at its own last event, which is where its next change will point back to.
                let last =
                    kept.map(|at| self.streams[at].last).filter(|_| stream.conflate == ConflateMs::NONE);
                self.book_event(stream, last.flatten(), tail)?
            }
        };
        let event = Arc::new(event);
        if let Some(at) = kept {
            self.streams[at].snapshot = cache.keep(&event);
        }
        Some(event)
    }

    /// The last `count` trades, oldest first, each with `snapshot:true`; those of one record together.
    pub fn last_trades(&self, count: usize) -> Vec<Arc<Event>> {
        let skip = self.trades.len().saturating_sub(count);
        let stream = Stream::whole(Channel::Trades);
        let mut events = Vec::new();
        let mut rest = self.trades.range(skip..).peekable();
        while let Some(first) = rest.next() {
            let mut updates = vec![(&first.body, first.meta)];
            while let Some(sibling) = rest.next_if(|kept| kept.meta.position == first.meta.position) {
                updates.push((&sibling.body, sibling.meta));
            }
            let tail = Tail { prev: first.prev, snapshot: true, ..Tail::default() };
            events.extend(encode(&self.symbol, stream, updates.into_iter(), tail).map(Arc::new));
        }
        events
    }

    /// Whether there is a state to show, of a channel that has one.
    pub fn is_known(&self, channel: Channel) -> bool {
        match channel {
            Channel::Quotes => self.quote.is_some(),
            Channel::Status => self.status.is_some(),
            Channel::Trades | Channel::Book => true,
        }
    }

    /// Where the last quote or status stood, if changes to it were lost since.
    pub fn old(&self, channel: Channel) -> Option<Position> {
        let kept = match channel {
            Channel::Quotes => &self.quote,
            Channel::Status => &self.status,
            Channel::Trades | Channel::Book => return None,
        };
        let kept = kept.as_ref().map(|kept| kept.meta.position);
        kept.filter(|kept| self.last[channel as usize] != Some(*kept))
    }

    /// The last state known, as of now: what was lost since counts as seen, so that the next change follows from it.
    fn state_event(&self, stream: Stream, kept: &Kept, tail: Tail) -> Option<Event> {
        let position = self.last[stream.channel as usize].unwrap_or(kept.meta.position);
        let meta = Meta { position, ..kept.meta };
        encode(&self.symbol, stream, std::iter::once((&kept.body, meta)), tail)
    }

    /// The top of the book, at `position` or at that of its last update.
    pub fn book_event(&self, stream: Stream, position: Option<Position>, tail: Tail) -> Option<Event> {
        let (book, meta) = self.book.as_deref().filter(|(book, _)| book.is_built())?;
        let (bids, asks) = book.top(stream.depth.levels());
        let body = Body::Book(record::Book { bids, asks, snapshot: true });
        let meta = Meta { position: position.unwrap_or(meta.position), ..*meta };
        encode(&self.symbol, stream, std::iter::once((&body, meta)), tail)
    }

    /// The newest state of a conflated stream as an event behind `prev`, standing for `merged` updates.
    pub fn conflated(&self, stream: Stream, prev: Option<Position>, merged: u32) -> Option<Event> {
        let tail = Tail { prev, merged, ..Tail::default() };
        match stream.channel {
            Channel::Quotes => self.state_event(stream, self.quote.as_ref()?, tail),
            Channel::Book => self.book_event(stream, None, Tail { snapshot: true, ..tail }),
            Channel::Trades | Channel::Status => None,
        }
    }

    /// Keeps a trade, and no more than `most`.
    pub fn keep_trade(&mut self, meta: Meta, prev: Option<Position>, trade: &Trade<'_>, most: usize) {
        if most == 0 {
            return;
        }
        if self.trades.len() >= most {
            self.trades.pop_front();
        }
        if self.trades.len() == self.trades.capacity() {
            // Room for what is kept and no more, as every symbol has it.
            self.trades.reserve_exact((most - self.trades.len()).min(self.trades.len().max(4)));
        }
        let body = Body::Trade(trade.clone()).into_owned();
        self.trades.push_back(Kept { meta, prev, body });
    }
}

/// Encodes the events of one record as one: they share their position and their fate, and each has its own times.
/// `None` if there are none.
pub fn encode<'a>(
    symbol: &Arc<Symbol>,
    stream: Stream,
    updates: impl Iterator<Item = (&'a Body<'a>, Meta)>,
    tail: Tail,
) -> Option<Event> {
    let mut text = Vec::with_capacity(384);
    let mut count = 0;
    let mut newest = None;
    for (body, meta) in updates {
        if count > 0 {
            text.push(b',');
        }
        let start = text.len() as u32;
        write_head(&mut text, &symbol.json, body, &meta);
        newest = Some(((start, text.len() as u32), meta));
        tail.write(&mut text);
        count += 1;
    }
    let (newest, Meta { position, event_ns, ingest_ns, send_ns }) = newest?;
    let (symbol, text) = (symbol.clone(), text.into_boxed_slice());
    Some(Event { symbol, stream, position, count, tail, text, newest, ingest_ns, event_ns, send_ns })
}
