//! A shard: one thread that owns sessions, their subscription table and their sockets.
//!
//! The fan-out loop is [`Shard::pass`]: take what the feed has handed over, offer each event to its subscribers, then
//! write once to every session that got something. Nothing in it waits: a socket that refuses bytes leaves them in its
//! outbox, and its own task goes on when the socket is writable again.

pub mod answer;
mod census;
pub mod commands;
pub(crate) mod cursor;
mod ebb;
#[cfg(debug_assertions)]
mod echo;
mod entitle;
pub mod flush;
#[cfg(debug_assertions)]
mod hooks;
pub mod lifecycle;
pub mod memory;
pub mod panics;
mod passes;
mod play;
pub mod replay;
mod replay_count;
pub mod run;
mod silence;
pub mod socket;
pub mod table;
pub mod timers;
#[cfg(test)]
mod trial;
pub mod windows;

use crate::access::audit::Audit;
use crate::access::{Access, Identity};
use crate::clock;
use crate::config::delays::Tier;
use crate::config::{Compression, Config};
use crate::cursor_keys::{CursorKeys, Keys};
use crate::event::{Batch, Event, Item, Key, Stream};
use crate::feed::directory::Directory;
use crate::feed::request::{Mailbox, Request, SessionKey, Target};
use crate::latency::{Recorder, Stage};
use crate::log_limit::LogLimit;
use crate::outbox::{Bounds, Filled, Offer, Spares};
use crate::replay::ReadAgain;
use crate::session::Session;
use crate::stats::{AuthFailure, Board, ShardTotals, TlsFailure};
use crate::tls::Tls;
use ebb::Ebb;
pub use ebb::give_back_by;
use memory::Memory;
use passes::Passes;
use replay_count::ReplayCounts;
use rustc_hash::FxHashMap;
use silence::Silence;
use slab::Slab;
use smallvec::SmallVec;
use socket::{ClientSocket, Socket};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use table::Table;
use tickgate_protocol::Position;
use tickgate_protocol::code::Code;
use tickgate_protocol::control::Control;
use tickgate_protocol::deflate::{self, Deflater, Inflater};
use tickgate_protocol::event::{Gap, Tail};
use tickgate_protocol::frame;
use timers::Timers;
use tokio::sync::Notify;
use windows::Windows;

/// Disconnected slow clients that are logged within ten seconds; further ones are only counted.
const SLOW_LOGS_PER_10_S: u32 = 5;
/// Sessions ended by a panic of their own that are logged within ten seconds.
const PANIC_LOGS_PER_10_S: u32 = 5;

/// What everybody is told when Kafka no longer had what the feed was to read next.
const LOST: &str = "Kafka had deleted records before this gateway read them: a gap tells what streams may have lost; \
                    for symbols of which nothing has come yet, this is all that is known";

/// Bytes read from a socket at once.
const READ_BYTES: usize = 64 << 10;

/// What a shard shares with the rest of the gateway.
#[derive(Clone)]
#[allow(missing_debug_implementations)]
pub struct Shared {
    /// The configuration.
    pub config: Arc<Config>,
    /// The scoreboard.
    pub board: Arc<Board>,
    /// Sessions of all shards, those that are still shaking hands included.
    pub sessions: Arc<AtomicUsize>,
    /// Subscriptions of all shards, those that wait for their answer included.
    pub subscriptions: Arc<AtomicUsize>,
    /// The numbers of symbols.
    pub directory: Arc<Directory>,
    /// Who reads from Kafka again what the feed no longer has; `None` when nobody does.
    pub read_again: Option<ReadAgain>,
    /// Wakes the feed to look into the mailboxes.
    pub wake_feed: Arc<dyn Fn() + Send + Sync>,
    /// What cursors are signed and read with.
    pub cursor_keys: CursorKeys,
    /// How late its sessions get their data.
    pub tier: Tier,
    /// What clients are spoken to in, unless it is plain TCP.
    pub tls: Option<Tls>,
    /// Who may connect and see what; `None` where nobody is asked.
    pub access: Option<Arc<Access>>,
    /// Where it is written down.
    pub audit: Option<Arc<Audit>>,
}

/// One shard's state. Only its own thread touches it, in short turns that never wait.
#[allow(missing_debug_implementations)]
pub struct Shard<S = ClientSocket> {
    id: usize,
    shared: Shared,
    mailbox: Arc<Mailbox>,
    bounds: Bounds,
    /// What a client may send.
    reading: frame::Bounds,
    memory: Memory,
    ebb: Ebb,
    /// Queues of sessions that are quiet.
    spares: Spares,
    sessions: Slab<Session<S>>,
    generation: u32,
    table: Table,
    /// Sessions with something to write, in the order they got it.
    touched: Vec<u32>,
    /// Which of them is being flushed, or ended for want of memory: not always the one whose turn it is.
    at_hand: Option<SessionKey>,
    /// Sessions whose socket refuses bytes.
    blocked: Vec<SessionKey>,
    /// Sessions that reached a bound in this pass.
    overflowed: Vec<u32>,
    /// Sessions that are half-way there though their sockets refuse nothing.
    half_full: Vec<u32>,
    /// Sessions that subscribed while updates from before their snapshot were still due to others: an entry goes with
    /// the next update of its stream, or with its subscription.
    joiners: FxHashMap<Key, SmallVec<[(SessionKey, Position); 2]>>,
    /// Subscribes on their way to the feed, by what they ask for; counted in what their requests hold.
    in_flight: FxHashMap<(Target, Stream), u32>,
    timers: Timers,
    passes: Passes,
    windows: Windows,
    silence: Silence,
    /// When its clock looks at timers and windows next, in monotonic milliseconds.
    wakes_ms: u64,
    timers_changed: Rc<Notify>,
    /// Sessions whose books the totals do not have yet: brought up to date when the totals are published.
    unaccounted: Vec<u32>,
    /// What is written next, to those with whom no compression was agreed on and to the others; and what was read last.
    /// One of each for all sessions.
    filled: Filled,
    deflated: Filled,
    /// Window of what it compresses, as a power of two.
    window_bits: u8,
    /// Expands what clients have compressed, once one has.
    inflater: Option<Box<Inflater>>,
    read_buffer: Vec<u8>,
    /// Answers of unknown length, before they are queued.
    scratch: Vec<u8>,
    /// Next record to read of every partition.
    positions: Arc<[Position]>,
    /// The same as a cursor, and what that was signed with.
    cursor: Rc<str>,
    cursor_keys: Arc<Keys>,
    feeds_json: Arc<str>,
    totals: ShardTotals,
    replay_counts: ReplayCounts,
    recorder: Recorder,
    /// The wall clock minus the monotonic one, as of the last turn.
    wall_ahead_ns: i64,
    is_draining: bool,
    slow_logs: LogLimit,
    panic_logs: LogLimit,
    /// Notified when it cannot go on.
    broken: Rc<Notify>,
    #[cfg(debug_assertions)]
    hooks: hooks::Hooks,
    #[cfg(debug_assertions)]
    is_echo: bool,
}

impl<S: Socket> Shard<S> {
    /// A shard without sessions.
    pub fn new(id: usize, shared: Shared, mailbox: Arc<Mailbox>) -> Self {
        let outbox = &shared.config.outbox;
        let bounds = Bounds {
            bytes_max: outbox.bytes_max,
            entries_max: outbox.entries_max,
            age_max_us: u32::try_from(outbox.age_max_ms * 1000).unwrap_or(u32::MAX / 2),
            write_bytes_max: outbox.write_bytes_max,
            frame_bytes_max: outbox.frame_bytes_max,
        };
        let message_bytes_max = shared.config.limits.message_bytes_max;
        let reading = frame::Bounds { message_bytes_max, fragments_max: frame::FRAGMENTS_MAX };
        let deflated = match shared.config.session.compression {
            Compression::Off => Filled::default(),
            Compression::Deflate => Filled::deflated(
                Deflater::new(deflate::LEVEL, deflate::WINDOW_BITS),
                shared.config.session.compress_bytes_min,
            ),
        };
        let positions: Arc<[Position]> = Arc::from([cursor::unknown(shared.tier)]);
        let cursor_keys = shared.cursor_keys.now();
        let cursor = Rc::from(cursor_keys.sign(&positions));
        Self {
            id,
            memory: Memory::new(&shared.config),
            ebb: Ebb::default(),
            spares: Spares::default(),
            shared,
            mailbox,
            bounds,
            reading,
            sessions: Slab::new(),
            generation: 0,
            table: Table::default(),
            touched: Vec::new(),
            at_hand: None,
            blocked: Vec::new(),
            overflowed: Vec::new(),
            half_full: Vec::new(),
            joiners: FxHashMap::default(),
            in_flight: FxHashMap::default(),
            timers: Timers::default(),
            passes: Passes::default(),
            windows: Windows::default(),
            silence: Silence::default(),
            wakes_ms: 0,
            timers_changed: Rc::new(Notify::new()),
            unaccounted: Vec::new(),
            filled: Filled::default(),
            deflated,
            window_bits: deflate::WINDOW_BITS,
            inflater: None,
            scratch: Vec::new(),
            read_buffer: vec![0; READ_BYTES],
            positions,
            cursor,
            cursor_keys,
            feeds_json: Arc::from("[]"),
            totals: ShardTotals::default(),
            replay_counts: ReplayCounts::default(),
            recorder: Recorder::new(),
            wall_ahead_ns: 0,
            is_draining: false,
            slow_logs: LogLimit::new(SLOW_LOGS_PER_10_S),
            panic_logs: LogLimit::new(PANIC_LOGS_PER_10_S),
            broken: Rc::default(),
            #[cfg(debug_assertions)]
            hooks: hooks::Hooks::new(),
            #[cfg(debug_assertions)]
            is_echo: false,
        }
    }

    /// One pass of the fan-out: every batch that has arrived, then one write per touched session.
    pub fn pass(&mut self, batches: &mut Vec<Batch>) {
        let now_us = now_us();
        let now_ns = clock::wall_ns();
        self.wall_ahead_ns = now_ns - clock::mono_ns() as i64;
        let mut is_lost = false;
        for batch in batches.drain(..) {
            #[cfg(debug_assertions)]
            self.hooks.pass();
            self.totals.batches += 1;
            let mut events = 0;
            for item in batch.items {
                match item {
                    Item::Event(event) => {
                        events += 1;
                        self.deliver(&event, now_us);
                    }
                    Item::Gap(symbol, stream, gap) => self.announce(&symbol, stream, gap),
                    Item::Lost => is_lost = true,
                    Item::Reply(reply) => self.answer(*reply, now_us),
                    Item::Positions(next) => {
                        if next != self.positions {
                            self.cursor = Rc::from(self.cursor_keys.sign(&next));
                            self.positions = next;
                        }
                    }
                    Item::Feeds(json) => self.feeds_json = json,
                }
                if self.memory.queued_entries >= memory::QUEUED_ENTRIES_MAX {
                    self.end_overflowed();
                    self.flush_touched();
                }
            }
            if events > 0 {
                self.recorder.record_n(Stage::DecodedToOffered, now_ns - batch.decoded_ns, events);
            }
        }
        // Once, of however many partitions.
        if is_lost {
            self.tell_lost();
        }
        self.end_overflowed();
        self.flush_touched();
    }

    /// Offers an event to everyone who subscribed to it.
    fn deliver(&mut self, event: &Arc<Event>, now_us: u32) {
        self.table.meet(&event.symbol);
        let joiners = if self.joiners.is_empty() { None } else { self.joiners.remove(&event.key()) };
        let Self { table, sessions, touched, overflowed, half_full, bounds, memory, spares, totals, .. } =
            self;
        let table: &Table = table;
        table.walk(event.symbol.id, event.stream, |target, subscriber| {
            let Some(session) = sessions.get_mut(subscriber.session as usize) else { return };
            let is_prefix = matches!(target, Target::Prefix(_));
            if is_prefix {
                let channel = event.stream.channel;
                if !session.subs.wins(table, subscriber.sub(), channel, target, event.symbol.id) {
                    return;
                }
                if subscriber.is_restricted() && !session.guest.may(channel, &event.symbol.name) {
                    totals.withheld += 1;
                    return;
                }
            }
            let policy = subscriber.on_slow();
            let joined = joiners.as_ref().and_then(|j| j.iter().find(|(key, _)| *key == session.key));
            if joined.is_some_and(|(_, joined)| event.position.is_at_or_before(*joined)) {
                // Its snapshot has this update already.
                return;
            }
            if !session.is_touched {
                session.is_touched = true;
                session.outbox.lend(spares);
                touched.push(subscriber.session);
            }
            memory.queued_entries += 1;
            let offer = match joined {
                None => session.outbox.offer(event, policy, now_us, bounds),
                Some((_, joined)) => {
                    let tail = Tail { prev: Some(*joined), ..event.tail };
                    session.outbox.offer_with(event, Some(tail), policy, now_us, bounds)
                }
            };
            if offer == Offer::Overflow {
                overflowed.push(subscriber.session);
            }
            if session.outbox.is_half_full(bounds) {
                session.was_half_full = true;
                if !session.outbox.is_blocked() {
                    half_full.push(subscriber.session);
                }
            }
        });
        if !self.half_full.is_empty() {
            self.flush_half_full();
        }
    }

    /// Writes in the midst of a pass to whom it has brought much. Its bounds are for what a client does not take, not
    /// for what the gateway has not offered it yet.
    fn flush_half_full(&mut self) {
        let mut half_full = std::mem::take(&mut self.half_full);
        for slot in half_full.drain(..) {
            self.flush_session(slot, false);
            let Self { sessions, spares, .. } = self;
            if let Some(session) = sessions.get_mut(slot as usize) {
                session.outbox.lend(spares);
            }
        }
        self.half_full = half_full;
    }

    /// Tells everyone who subscribed to a symbol's stream that events are missing.
    fn announce(&mut self, symbol: &Arc<crate::event::Symbol>, stream: Stream, gap: Gap) {
        self.table.meet(symbol);
        let joiners = self.joiners.remove(&(symbol.id, stream));
        let Self { table, sessions, touched, memory, .. } = self;
        let table: &Table = table;
        table.walk(symbol.id, stream, |target, subscriber| {
            let Some(session) = sessions.get_mut(subscriber.session as usize) else { return };
            if !session.subs.wins(table, subscriber.sub(), stream.channel, target, symbol.id) {
                return;
            }
            if subscriber.is_restricted() && !session.guest.may(stream.channel, &symbol.name) {
                return;
            }
            memory.queued_entries += 1;
            // Those who joined stand at their snapshot.
            let joined = joiners.as_ref().and_then(|j| j.iter().find(|(key, _)| *key == session.key));
            let gap = Gap { after: joined.map_or(gap.after, |(_, position)| Some(*position)), ..gap };
            session.outbox.announce(symbol, stream, gap);
            if !session.is_touched {
                session.is_touched = true;
                touched.push(subscriber.session);
            }
        });
    }

    /// Tells everyone that records are gone which the feed has not read. Streams that it knows get a gap; of symbols that it
    /// has never met nobody knows what they lost, and a cursor passes it from here on.
    fn tell_lost(&mut self) {
        let held = self.sessions.iter().filter(|(_, session)| !session.subs.is_empty());
        let keys: Vec<SessionKey> = held.map(|(_, session)| session.key).collect();
        for key in keys {
            self.tell(key, &Control::error(None, Code::ReplayAgedOut, LOST, false));
        }
    }

    /// Puts a session into the list of those to flush at the end of the turn.
    fn touch(&mut self, slot: u32) {
        if let Some(session) = self.sessions.get_mut(slot as usize)
            && !session.is_touched
        {
            session.is_touched = true;
            self.touched.push(slot);
        }
    }

    /// The session of a key, if it still is the one that the key was made for.
    fn session(&mut self, key: SessionKey) -> Option<&mut Session<S>> {
        self.sessions.get_mut(key.slot as usize).filter(|session| session.key == key)
    }

    fn open_session(&mut self, key: SessionKey) -> Option<&mut Session<S>> {
        self.session(key).filter(|session| session.is_open())
    }

    fn open_session_and_table(&mut self, key: SessionKey) -> Option<(&mut Session<S>, &Table)> {
        let session = self.sessions.get_mut(key.slot as usize);
        Some((session.filter(|session| session.key == key && session.is_open())?, &self.table))
    }

    /// Window of what it compresses, as a power of two, which clients may be told.
    pub(crate) fn window_bits(&self) -> u8 {
        self.window_bits
    }

    /// Its sessions.
    pub fn sessions(&self) -> impl Iterator<Item = &Session<S>> {
        self.sessions.iter().map(|(_, session)| session)
    }

    /// What the shard shares with the rest of the gateway.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Whether new connections are refused.
    pub fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// Counts a connection that did not become a session.
    pub fn refused(&mut self, reason: crate::stats::RefuseReason) {
        self.totals.refused[reason as usize] += 1;
    }

    /// Counts a TLS handshake: whether it resumed a session, or why it failed.
    pub fn shook_hands(&mut self, result: Result<bool, TlsFailure>) {
        match result {
            Ok(is_resumed) => self.totals.tls_handshakes[usize::from(is_resumed)] += 1,
            Err(reason) => self.totals.tls_failures[reason as usize] += 1,
        }
    }

    /// Counts what was made of what somebody showed.
    pub fn believed(&mut self, believed: &Result<Identity, AuthFailure>) {
        match believed {
            Ok(identity) => self.totals.auth_accepted[identity.way.kind() as usize] += 1,
            Err(failure) => self.totals.auth_refused[*failure as usize] += 1,
        }
    }

    /// Takes note of how many connections have not shown yet who they are.
    pub fn auth_pending(&mut self, pending: u64) {
        self.totals.auth_pending = pending;
    }

    /// Asks the feed for something.
    fn ask(&self, request: Request) {
        self.mailbox.push(request);
        (self.shared.wake_feed)();
    }
}

/// Monotonic microseconds that wrap around every 71 minutes: only differences within the bounds of age are taken.
pub fn now_us() -> u32 {
    (clock::mono_ns() / 1000) as u32
}
