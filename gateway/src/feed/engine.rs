//! From records to events: decode, keep state, encode what somebody listens to.
//!
//! No Kafka, no sockets, no clock: records and requests go in with their times, items for each shard come out. Order
//! is the order of the calls, which makes the whole of it testable against a model.

mod books;
mod requests;
mod resume;

use super::directory::Directory;
use super::patterns::Patterns;
use super::ring::{Link, Ring};
use super::symbols::{Cache, Kept, StreamState, SymbolState, encode};
use crate::config::Config;
use crate::event::{Event, Item, Key, Stream};
use crate::stats::{DiscardReason, FeedTotals};
use rustc_hash::FxHashMap;
use smallvec::{SmallVec, smallvec};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use tickgate_protocol::event::{Gap, GapCause, Meta, Tail};
use tickgate_protocol::record::{Body, RecordDecoder, RecordError, Tick};
use tickgate_protocol::{Channel, ConflateMs, Position};

/// What the engine must know of the configuration.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// See `config::KafkaConfig`.
    pub record_bytes_max: usize,
    /// See `config::KafkaConfig`.
    pub symbols_max: usize,
    /// See `config::KafkaConfig`.
    pub book_levels_max: usize,
    /// See `config::KafkaConfig`.
    pub book_levels_total_max: usize,
    /// See `config::KafkaConfig`.
    pub snapshots_bytes_max: usize,
    /// See `config::LimitsConfig`.
    pub streams_max: usize,
    /// Bytes of states that answer one request.
    pub answer_bytes_max: usize,
    /// See `config::KafkaConfig`.
    pub trades_kept: usize,
    /// See `config::LimitsConfig`.
    pub unseen_symbols_max: usize,
    /// `limits.patterns_max`.
    pub patterns_max: usize,
    /// The symbols that may be asked for; `None` for any.
    pub allowed: Option<std::collections::HashSet<Box<str>>>,
    /// See `config::ReplayConfig`.
    pub memory_bytes_max: usize,
    /// `replay.memory_s` in milliseconds.
    pub memory_ms: u64,
}

impl EngineConfig {
    /// What of a gateway's configuration an engine needs.
    pub fn of(config: &Config) -> Self {
        let Config { kafka, limits, session, feeds, replay, .. } = config;
        let all_listed = feeds.iter().all(|feed| !feed.symbols.is_empty());
        let listed = || feeds.iter().flat_map(|feed| &feed.symbols).map(|symbol| symbol.as_str().into());
        Self {
            record_bytes_max: kafka.record_bytes_max,
            symbols_max: kafka.symbols_max,
            book_levels_max: kafka.book_levels_max,
            book_levels_total_max: kafka.book_levels_total_max,
            snapshots_bytes_max: kafka.snapshots_bytes_max,
            streams_max: limits.streams_max,
            answer_bytes_max: session.inbox_bytes_max,
            trades_kept: kafka.trades_kept,
            unseen_symbols_max: limits.unseen_symbols_max,
            patterns_max: limits.patterns_max,
            allowed: all_listed.then(|| listed().collect()),
            memory_bytes_max: replay.memory_bytes_max,
            memory_ms: replay.memory_s * 1000,
        }
    }
}

/// Where a record stands and when it came.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// Its position.
    pub position: Position,
    /// Its Kafka timestamp, nanoseconds since the Unix epoch.
    pub append_ns: i64,
    /// When the gateway took it, nanoseconds since the Unix epoch.
    pub ingest_ns: i64,
    /// When the gateway took it, monotonic milliseconds.
    pub now_ms: u64,
}

impl Arrival {
    /// The fields around a tick of the record. Position and arrival are the record's, the clocks are its own.
    fn meta(&self, tick: &Tick<'_>) -> Meta {
        let event_ns = tick.event_ns.unwrap_or(self.append_ns);
        Meta { position: self.position, event_ns, ingest_ns: self.ingest_ns, send_ns: tick.send_ns }
    }
}

/// Why a subscription that needs a stream too many is refused.
const STREAMS_FULL: &str = "the gateway is full: it sends as many streams as it may";
const PATTERNS_FULL: &str = "the gateway is full: it holds as many different patterns as it may";
/// Bytes that conflation sends at once; what is due beyond them goes with the next look.
const FIRE_BYTES: u64 = 4 << 20;

/// The feed's state.
#[allow(missing_debug_implementations)]
pub struct Engine {
    config: EngineConfig,
    directory: Arc<Directory>,
    symbols: Vec<SymbolState>,
    ids: FxHashMap<Box<str>, u32>,
    patterns: Patterns,
    /// Streams of symbols that no record has named yet, with the shards that listen.
    unseen: FxHashMap<Box<str>, SmallVec<[(Stream, u64); 1]>>,
    /// Conflated streams with something to send, by the time it is due.
    due: BinaryHeap<Reverse<(u64, Key)>>,
    /// Levels of all books.
    levels: usize,
    /// Streams of all symbols.
    streams: usize,
    cache: Cache,
    /// The last records, and what the one at hand holds.
    ring: Ring,
    /// Where reading of each partition, by epoch and number, began: what came before was never read.
    began: FxHashMap<(u32, u32), u64>,
    /// Up to where each partition, by epoch and number, lost records before they were read, if it did. Kept until its topic
    /// is gone: a symbol of which nothing was read since may have been among them, however long ago that was.
    lost: FxHashMap<(u32, u32), u64>,
    links: SmallVec<[Link; 1]>,
    /// Decodes records for those who missed them.
    again: RecordDecoder,
    /// What goes to each shard next, in order.
    out: Vec<Vec<Item>>,
    newest_event_ns: Option<i64>,
    /// Whether every topic was looked for: what is not known is none that is read.
    pub is_complete: bool,
    /// Whether all of it is late, so that a client may be ahead for good that was given something live.
    pub is_late: bool,
    /// How many symbols and channels it learned the place of from replays.
    learned: u64,
    /// What shards were told last of where partitions stand.
    positions: Arc<[Position]>,
    /// Totals; the feed adds what it knows of Kafka.
    pub totals: FeedTotals,
}

impl Engine {
    /// An engine without symbols, for `shards` shards (at most 64).
    pub fn new(config: EngineConfig, shards: usize) -> Self {
        let directory = Arc::new(Directory::new(config.symbols_max));
        Self::with_directory(config, shards, directory)
    }

    /// An engine that shares the numbers of symbols with others.
    pub fn with_directory(config: EngineConfig, shards: usize, directory: Arc<Directory>) -> Self {
        Self {
            cache: Cache::new(config.snapshots_bytes_max),
            directory,
            ring: Ring::new(config.memory_bytes_max, config.memory_ms),
            began: FxHashMap::default(),
            lost: FxHashMap::default(),
            links: SmallVec::new(),
            again: RecordDecoder::new(config.record_bytes_max),
            levels: 0,
            streams: 0,
            config,
            symbols: Vec::new(),
            ids: FxHashMap::default(),
            patterns: Patterns::default(),
            unseen: FxHashMap::default(),
            due: BinaryHeap::new(),
            out: (0..shards).map(|_| Vec::new()).collect(),
            newest_event_ns: None,
            is_complete: true,
            is_late: false,
            learned: 0,
            positions: Arc::default(),
            totals: FeedTotals::default(),
        }
    }

    /// Venue clock of the tick read last, nanoseconds since the Unix epoch.
    pub fn newest_event_ns(&self) -> Option<i64> {
        self.newest_event_ns
    }

    /// Reading of a partition begins at `next`, or goes on there.
    pub fn begin(&mut self, next: Position) {
        self.began.entry((next.epoch, next.partition)).or_insert(next.offset);
        self.ring.begin(next);
    }

    /// A topic is gone.
    pub fn forget(&mut self, epoch: u32) {
        self.ring.forget(epoch);
        self.lost.retain(|(of, _), _| *of != epoch);
        self.began.retain(|(of, _), _| *of != epoch);
    }

    /// Takes what goes to a shard next.
    pub fn take(&mut self, shard: usize) -> Vec<Item> {
        std::mem::take(&mut self.out[shard])
    }

    /// Sends an item to every shard.
    pub fn broadcast(&mut self, mut item: impl FnMut() -> Item) {
        self.out.iter_mut().for_each(|out| out.push(item()));
    }

    /// Reads one record. What could not be read of it is counted and handed to `bad`.
    pub fn record(
        &mut self,
        decoder: &mut RecordDecoder,
        arrival: &Arrival,
        value: &[u8],
        bad: impl FnMut(&RecordError),
    ) {
        self.read(decoder, arrival, value, bad);
        let links = std::mem::take(&mut self.links);
        if !links.is_empty() {
            self.ring.push(*arrival, value, links);
        }
    }

    fn read(
        &mut self,
        decoder: &mut RecordDecoder,
        arrival: &Arrival,
        value: &[u8],
        mut bad: impl FnMut(&RecordError),
    ) {
        self.totals.records += 1;
        self.totals.record_bytes += value.len() as u64;
        let mut note = |totals: &mut FeedTotals, error: &RecordError| {
            let at = RecordError::LABELS.iter().position(|label| *label == error.label());
            totals.bad_records[at.unwrap_or(0)] += 1;
            bad(error);
        };
        let ticks = match decoder.ticks(value) {
            Ok(ticks) => ticks,
            Err(error) => return note(&mut self.totals, &error),
        };
        if let [Ok(tick)] = ticks.as_slice() {
            return self.apply(arrival, std::slice::from_ref(&tick));
        }
        let mut groups: Vec<SmallVec<[&Tick<'_>; 2]>> = Vec::new();
        // A record may name thousands of symbols.
        let mut places: FxHashMap<(&str, Channel), usize> = FxHashMap::default();
        for tick in &ticks {
            match tick {
                Err(error) => note(&mut self.totals, error),
                Ok(tick) => {
                    let place = *places.entry((&tick.symbol, tick.body.channel())).or_insert(groups.len());
                    match groups.get_mut(place) {
                        Some(group) => group.push(tick),
                        None => groups.push(smallvec![tick]),
                    }
                }
            }
        }
        for group in groups {
            self.apply(arrival, &group);
        }
    }

    /// Takes the ticks of one record, symbol and channel.
    fn apply(&mut self, arrival: &Arrival, ticks: &[&Tick<'_>]) {
        let Some(newest) = ticks.last() else { return };
        let channel = newest.body.channel();
        let Some(id) = self.meet(&newest.symbol) else {
            self.totals.symbols_refused += ticks.len() as u64;
            return;
        };
        self.totals.ticks[channel as usize] += ticks.len() as u64;
        let event_ns = arrival.meta(newest).event_ns;
        self.newest_event_ns = Some(event_ns);
        self.totals.clock_ahead += u64::from(event_ns > arrival.ingest_ns);
        let prev = self.symbols[id as usize].last[channel as usize]
            .or_else(|| self.lost_before(id, channel, arrival));
        if prev.is_some_and(|prev| arrival.position.is_at_or_before(prev)) {
            // A partition was read again from further back than needed.
            self.totals.discarded[DiscardReason::Repeated as usize] += ticks.len() as u64;
            return;
        }
        if !self.is_late {
            self.directory.activity().add(id, ticks.len() as u64);
        }
        let is_broken = prev.is_some_and(|prev| {
            (prev.epoch, prev.partition) != (arrival.position.epoch, arrival.position.partition)
        });
        if is_broken {
            self.broke(id, channel, prev, arrival);
        }
        let number = self.ring.next_number();
        let state = &mut self.symbols[id as usize];
        state.last[channel as usize] = Some(arrival.position);
        let before = state.newest[channel as usize].replace(number);
        if is_broken {
            state.moved = Some(number);
        }
        let is_plain = match channel {
            Channel::Book => self.apply_book(id, arrival, prev, ticks),
            _ => {
                self.apply_plain(id, channel, arrival, prev, ticks);
                true
            }
        };
        // The end of a loss is what those know who were told of it; to others another gateway may have given what was lost.
        let prev = prev.filter(|prev| self.lost.is_empty() || !self.is_lost_end(*prev));
        self.links.push(Link { symbol: id, channel, is_plain, prev, before });
    }

    /// Whether a position is no event, but the end of what its partition lost.
    fn is_lost_end(&self, at: Position) -> bool {
        self.lost.get(&(at.epoch, at.partition)) == Some(&at.offset)
    }

    /// The end of what its partition lost before this, the first that was read of a symbol and channel: whoever listens to it is
    /// told that something of it may have been lost.
    fn lost_before(&mut self, id: u32, channel: Channel, arrival: &Arrival) -> Option<Position> {
        let Position { epoch, partition, .. } = arrival.position;
        let offset = self.lost.get(&(epoch, partition)).copied()?;
        let upto = Some(Position { offset, ..arrival.position });
        self.announce(id, channel, upto, GapCause::Retention);
        upto
    }

    /// The symbol's order cannot be followed from its last position to this one.
    fn broke(&mut self, id: u32, channel: Channel, prev: Option<Position>, arrival: &Arrival) {
        let is_recreated = prev.is_some_and(|prev| prev.epoch != arrival.position.epoch);
        let cause = if is_recreated { GapCause::Retention } else { GapCause::Repartitioned };
        self.announce(id, channel, None, cause);
        let state = &mut self.symbols[id as usize];
        if is_recreated && channel == Channel::Book {
            self.levels -= state.levels();
            state.reset_book();
        }
        // The present state again, behind the gap.
        for at in 0..state.streams.len() {
            let stream = state.streams[at].stream;
            if stream.channel == channel
                && let Some(event) = state.snapshot(stream, &self.cache)
            {
                let prev = state.streams[at].last;
                let event = Arc::new(event.with_tail(Tail { prev, ..event.tail }));
                push(&mut self.out, state.streams[at].shards(), &event);
            }
        }
    }

    /// Tells everyone who listens to a symbol's channel that events are missing: those up to `upto`, or an unknown
    /// number before the next.
    fn announce(&mut self, id: u32, channel: Channel, upto: Option<Position>, cause: GapCause) {
        let state = &mut self.symbols[id as usize];
        for at in 0..state.streams.len() {
            // What conflation holds back is from before the gap.
            let StreamState { stream, lane, .. } = &state.streams[at];
            if stream.channel == channel && lane.waiting > 0 {
                let fired_ms = lane.fired_ms.unwrap_or(0);
                send_conflated(state, at, fired_ms, &mut self.out, &mut self.totals);
            }
        }
        for stream in state.streams.iter_mut().filter(|s| s.stream.channel == channel) {
            let gap = Gap { after: stream.last, upto: upto.or(stream.last), count: None, cause };
            stream.last = gap.upto;
            for (shard, out) in self.out.iter_mut().enumerate() {
                if stream.shards() >> shard & 1 == 1 {
                    out.push(Item::Gap(state.symbol.clone(), stream.stream, gap));
                }
            }
        }
    }

    fn apply_plain(
        &mut self,
        id: u32,
        channel: Channel,
        arrival: &Arrival,
        prev: Option<Position>,
        ticks: &[&Tick<'_>],
    ) {
        let Self { symbols, out, due, totals, config, .. } = self;
        let state = &mut symbols[id as usize];
        for tick in ticks {
            if let Body::Trade(trade) = &tick.body {
                state.keep_trade(arrival.meta(tick), prev, trade, config.trades_kept);
            }
        }
        if let (Some(tick), true) = (ticks.last(), channel.is_state()) {
            let kept = Some(Kept { meta: arrival.meta(tick), prev, body: tick.body.clone().into_owned() });
            match channel {
                Channel::Quotes => state.quote = kept,
                _ => state.status = kept,
            }
        }
        for at in 0..state.streams.len() {
            if state.streams[at].stream.channel != channel {
                continue;
            }
            state.streams[at].snapshot = None;
            let stream = state.streams[at].stream;
            if stream.conflate == ConflateMs::NONE {
                let tail = Tail { prev, ..Tail::default() };
                let updates = ticks.iter().map(|tick| (&tick.body, arrival.meta(tick)));
                let Some(event) = encode(&state.symbol, stream, updates, tail) else { continue };
                state.streams[at].last = Some(arrival.position);
                totals.encoded += 1;
                totals.encoded_bytes += event.text.len() as u64;
                push(out, state.streams[at].shards(), &Arc::new(event));
            } else {
                hold(state, at, ticks.len() as u32, arrival, due, out, totals);
            }
        }
    }

    /// Sends what conflation held back until now.
    pub fn fire(&mut self, now_ms: u64) {
        let before = self.totals.encoded_bytes;
        while let Some(Reverse((due_ms, (id, stream)))) = self.due.peek().copied() {
            if due_ms > now_ms || self.totals.encoded_bytes > before + FIRE_BYTES {
                return;
            }
            self.due.pop();
            let Some(state) = self.symbols.get_mut(id as usize) else { continue };
            let Some(at) = state.streams.iter().position(|s| s.stream == stream) else { continue };
            // A stream that was left and asked for again has this entry of its former life, and one of its own.
            let lane = state.streams[at].lane;
            let is_due = lane.fired_ms.is_none_or(|ms| ms + u64::from(stream.conflate.get()) <= now_ms);
            if lane.waiting > 0 && is_due {
                send_conflated(state, at, now_ms, &mut self.out, &mut self.totals);
            }
        }
    }

    /// When conflation next has something to send, monotonic milliseconds.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((due_ms, _))| *due_ms)
    }

    /// The snapshot of a stream, for shards that are too slow to be given every change.
    pub fn snapshot(&mut self, key: Key) -> Option<Arc<Event>> {
        self.symbols.get_mut(key.0 as usize)?.snapshot(key.1, &self.cache)
    }

    /// Tells the shards how far a cursor may go: `positions`, the next to read of every partition, but not past what
    /// conflation still holds back. A shard that nothing else comes to is not woken when nothing has changed.
    pub fn tell_positions(&mut self, mut positions: Vec<Position>) {
        self.hold_back(&mut positions);
        if positions != *self.positions {
            self.positions = positions.into();
            let positions = self.positions.clone();
            self.broadcast(|| Item::Positions(positions.clone()));
        }
    }

    fn hold_back(&self, positions: &mut [Position]) {
        for Reverse((_, (id, stream))) in &self.due {
            let state = self.symbols.get(*id as usize);
            let lane =
                state.and_then(|state| state.streams.iter().find(|s| s.stream == *stream)).map(|s| s.lane);
            if let Some(first) = lane.filter(|lane| lane.waiting > 0).and_then(|lane| lane.first)
                && let Some(next) = positions.iter_mut().find(|next| first.is_at_or_before(**next))
            {
                *next = first;
            }
        }
    }

    /// Whether conflation holds an update of a stream back.
    fn is_waiting(&self, (id, stream): Key) -> bool {
        let state = self.symbols.get(id as usize);
        let lane = state.and_then(|state| state.streams.iter().find(|s| s.stream == stream)).map(|s| s.lane);
        lane.is_some_and(|lane| lane.waiting > 0)
    }

    /// Announces that what a partition held up to `upto` was gone before it was read.
    pub fn lost(&mut self, upto: Position) {
        self.ring.begin(Position { offset: upto.offset + 1, ..upto });
        self.lost.insert((upto.epoch, upto.partition), upto.offset);
        self.began.insert((upto.epoch, upto.partition), upto.offset + 1);
        self.broadcast(|| Item::Lost);
        for id in 0..self.symbols.len() as u32 {
            for channel in Channel::ALL {
                let last = self.symbols[id as usize].last[channel as usize];
                if last.is_none_or(|p| (p.epoch, p.partition) != (upto.epoch, upto.partition)) {
                    continue;
                }
                self.announce(id, channel, Some(upto), GapCause::Retention);
                let state = &mut self.symbols[id as usize];
                state.last[channel as usize] = Some(upto);
                if channel == Channel::Trades {
                    // Which were the last ones is not known any more.
                    state.trades.clear();
                }
                state
                    .streams
                    .iter_mut()
                    .filter(|s| s.stream.channel == channel)
                    .for_each(|s| s.snapshot = None);
                if channel == Channel::Book {
                    // Changes to it were lost: nothing to show until the next snapshot record.
                    self.levels -= state.levels();
                    state.reset_book();
                }
            }
        }
    }

    /// The number of a symbol, given out when it is first met; `None` when there is no room for another.
    fn meet(&mut self, name: &str) -> Option<u32> {
        if let Some(id) = self.ids.get(name) {
            return Some(*id);
        }
        // Whoever asked for it in advance would otherwise never hear of it and not know.
        if self.streams + self.patterns.len() + self.unseen.get(name).map_or(0, |streams| streams.len())
            > self.config.streams_max
            && self.streams + self.awaited(name) > self.config.streams_max
        {
            return None;
        }
        let id = self.directory.meet(name)?.id;
        while self.symbols.len() <= id as usize {
            let symbol = self.directory.get(self.symbols.len() as u32)?;
            self.symbols.push(SymbolState::new(symbol));
        }
        let state = &mut self.symbols[id as usize];
        state.is_met = true;
        for (stream, shards) in self.unseen.remove(name).unwrap_or_default() {
            state.stream(stream).exact = shards;
        }
        for (stream, shards) in self.patterns.matching(name) {
            state.stream(stream).prefix |= shards;
        }
        self.streams += state.streams.len();
        self.ids.insert(name.into(), id);
        self.totals.symbols += 1;
        Some(id)
    }
}

/// Keeps an update of a conflated stream until its interval ends; the first after a pause goes at once.
fn hold(
    state: &mut SymbolState,
    at: usize,
    updates: u32,
    arrival: &Arrival,
    due: &mut BinaryHeap<Reverse<(u64, Key)>>,
    out: &mut [Vec<Item>],
    totals: &mut FeedTotals,
) {
    let key = (state.symbol.id, state.streams[at].stream);
    let interval_ms = u64::from(key.1.conflate.get());
    let now_ms = arrival.now_ms;
    let lane = &mut state.streams[at].lane;
    if lane.waiting == 0 {
        lane.first = Some(arrival.position);
    }
    lane.waiting = lane.waiting.saturating_add(updates);
    match lane.fired_ms {
        Some(fired_ms) if now_ms < fired_ms + interval_ms => {
            if lane.waiting == updates {
                due.push(Reverse((fired_ms + interval_ms, key)));
            }
        }
        _ => send_conflated(state, at, now_ms, out, totals),
    }
}

fn send_conflated(
    state: &mut SymbolState,
    at: usize,
    now_ms: u64,
    out: &mut [Vec<Item>],
    totals: &mut FeedTotals,
) {
    let StreamState { stream, last, lane, .. } = &mut state.streams[at];
    let (stream, prev, merged) = (*stream, *last, lane.waiting);
    lane.fired_ms = Some(now_ms);
    lane.waiting = 0;
    let Some(event) = state.conflated(stream, prev, merged) else { return };
    state.streams[at].last = Some(event.position);
    totals.conflated += u64::from(merged.saturating_sub(1));
    totals.encoded += 1;
    totals.encoded_bytes += event.text.len() as u64;
    push(out, state.streams[at].shards(), &Arc::new(event));
}

/// Adds an event to what goes to each of `shards`.
fn push(out: &mut [Vec<Item>], shards: u64, event: &Arc<Event>) {
    for (shard, out) in out.iter_mut().enumerate() {
        if shards >> shard & 1 == 1 {
            out.push(Item::Event(event.clone()));
        }
    }
}
