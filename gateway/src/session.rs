//! One connected client: its socket, its outbox, its subscriptions and what it may do.

pub mod guest;
pub mod subs;
pub mod throttle;

use crate::clock;
use crate::event::Stream;
use crate::feed::request::{Resume, SessionKey, Target, Want};
use crate::outbox::{Books, Gaps, Outbox};
use crate::shard::memory::Reservation;
use crate::shard::replay::Replays;
use crate::shard::socket::{ClientSocket, Socket};
use crate::shard::table::Table;
use crate::shard::timers::Armed;
use crate::stats::{CloseReason, SessionInfo};
use guest::Guest;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::task::Waker;
use subs::{Sub, Subs};
use throttle::{Bucket, Pace, Rates};
use tickgate_protocol::FlushMs;
use tickgate_protocol::command::{Id, SubscribeOptions};
use tickgate_protocol::control::Verdict;
use tickgate_protocol::frame::Decoder;
use tickgate_protocol::{Channel, Code};

/// What the names of this process's sessions begin with, by chance: where the logs of a cluster come together, and after a
/// restart, the others' have another beginning. A name stays short, as it is in many lines.
pub fn names() -> &'static str {
    static NAMES: LazyLock<String> = LazyLock::new(|| {
        let chance = RandomState::new().hash_one(std::process::id());
        format!("s-{:05x}", chance & 0xf_ffff)
    });
    &NAMES
}

/// The name of the session of this number on this shard.
pub fn name(shard: usize, number: u32) -> String {
    format!("{}-{shard:x}-{number:x}", names())
}

/// What a request named, and what becomes of it.
#[derive(Debug)]
pub struct Named {
    /// The channel's name as asked.
    pub channel: Cow<'static, str>,
    /// The symbol or pattern as asked.
    pub symbol: Arc<str>,
    /// Why it was refused, if it was.
    pub fault: Option<Box<(Code, Cow<'static, str>)>>,
    /// The number of a symbol that was met.
    pub instrument: Option<u32>,
    /// Whether it is a symbol that was not.
    pub is_unseen: bool,
    /// Whether it is a book that is not whole yet.
    pub is_building: bool,
}

impl Named {
    /// Nothing speaks against it.
    pub fn ok(channel: Cow<'static, str>, symbol: &Arc<str>) -> Self {
        Self {
            channel,
            symbol: symbol.clone(),
            fault: None,
            instrument: None,
            is_unseen: false,
            is_building: false,
        }
    }

    /// It is refused.
    pub fn refuse(&mut self, code: Code, message: impl Into<Cow<'static, str>>) {
        self.fault = Some(Box::new((code, message.into())));
    }

    /// As the client is told, who gets all of it so many seconds late.
    pub fn verdict(&self, delayed_s: Option<u64>) -> Verdict<'_> {
        Verdict {
            channel: &self.channel,
            symbol: &self.symbol,
            instrument: self.instrument,
            seen: self.is_unseen.then_some(false),
            state: self.is_building.then_some("building"),
            delayed_s: delayed_s.filter(|_| self.fault.is_none()),
            fault: self.fault.as_deref().map(|(code, message)| (*code, &**message)),
        }
    }
}

/// What a subscribe request wants of the feed.
#[derive(Debug)]
pub struct Wanted {
    /// Its place among what the request named.
    pub at: usize,
    /// Of which symbols.
    pub target: Target,
    /// Of which channel.
    pub channel: Channel,
    /// In which way.
    pub options: SubscribeOptions,
}

impl Wanted {
    /// The stream that it receives.
    pub fn stream(&self) -> Stream {
        Stream::new(self.channel, self.options.depth, self.options.conflate)
    }
}

/// A subscribe request that waits for the feed's answer. Nothing else of the session is handled meanwhile.
#[derive(Debug)]
pub struct PendingSubscribe {
    /// The request's `id`.
    pub id: Option<Id>,
    /// What it named, in the order asked.
    pub named: Vec<Named>,
    /// What the feed is asked for.
    pub wants: Vec<Wanted>,
    /// Where they are to begin, of those that resume.
    pub resumes: Vec<Resume>,
    /// Its places among all subscriptions.
    pub reservation: Reservation,
    /// Requests that came behind it in the same read; counted in `limits.reading_bytes_total_max`.
    pub deferred: VecDeque<Box<str>>,
    /// Its span, which ends with its answer.
    pub span: tracing::Span,
}

/// Where a session is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It reads and writes.
    Open,
    /// A close was asked for; what it reads is thrown away.
    Closing(CloseReason),
    /// It is over: the task ends and the slot is freed.
    Over(CloseReason),
}

/// One connected client. What a delivery touches stands together in the first lines of the cache, before what it does
/// not.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Session<S = ClientSocket> {
    /// Its key on this shard.
    pub key: SessionKey,
    /// Whether it is in the shard's list of sessions to flush.
    pub is_touched: bool,
    /// Whether its queue passed half of its bound since the last flush, whatever conflation made of it then.
    pub was_half_full: bool,
    /// Whether its socket was handed bytes and its outbox was not told yet how many it took.
    pub is_writing: bool,
    /// Whether a flush window is open: what it gets is gathered.
    pub is_gathering: bool,
    /// Whether its own rate holds its writes back.
    pub is_throttled: bool,
    /// Whether it is in the shard's list of sessions whose books its totals do not have yet.
    pub is_unaccounted: bool,
    /// Whether there are `replays`.
    pub is_replaying: bool,
    /// Whether it and its client agreed on permessage-deflate.
    pub is_deflated: bool,
    /// Its flush window.
    pub flush: FlushMs,
    /// Where it is in its life.
    pub life: Life,
    /// Its queue.
    pub outbox: Outbox,
    /// Its socket.
    pub socket: Rc<S>,
    /// Whose it is.
    pub guest: Box<Guest>,
    /// What it gets a second at most, if that is bounded.
    pub rates: Option<Box<Rates>>,
    /// What of its outbox the shard's sum already has, in bytes.
    pub slow_bytes: usize,
    /// Its task, to be woken when there is something to wait for or to do.
    pub task: Option<Waker>,
    /// Its subscriptions.
    pub subs: Subs,
    /// What of its books the shard's totals already have.
    pub accounted: Books,
    /// Gap counts that the shard's totals already have.
    pub accounted_gaps: Option<Box<Gaps>>,
    /// Reads its frames; absent between whole messages.
    pub decoder: Option<Box<Decoder>>,
    /// A subscribe that waits for the feed.
    pub pending: Option<Box<PendingSubscribe>>,
    /// What brings its subscriptions up to date.
    pub replays: Option<Box<Replays>>,
    /// Requests per second.
    pub requests: Bucket,
    /// What of its requests the shard's sum already has, in bytes.
    pub reading_bytes: usize,
    /// Its timers.
    pub timers: Armed,
    /// When it opened, monotonic milliseconds.
    pub opened_ms: u64,
    /// When something was last read from it, likewise.
    pub heard_ms: u64,
    /// Its pings and pongs.
    pub pings: Pace,
    /// Interval of its heartbeats in milliseconds; 0 is none.
    pub heartbeat_ms: u32,
    /// Whether it is in the shard's list of blocked sessions.
    pub is_listed_blocked: bool,
    /// Of a heartbeat that is to come early, for its cursor: how often that was put off.
    pub hastened: Option<u8>,
}

impl<S: Socket> Session<S> {
    /// Whether it reads and writes.
    pub fn is_open(&self) -> bool {
        self.life == Life::Open
    }

    /// Whether the session may read more from its socket now.
    pub fn may_read(&self) -> bool {
        match self.life {
            // Answers that the client does not read hold its next requests back.
            Life::Open => self.pending.is_none() && self.outbox.control_bytes() < 256 << 10,
            Life::Closing(_) => true,
            Life::Over(_) => false,
        }
    }

    /// Its name in `hello`.
    pub fn name(&self, shard: usize) -> String {
        let (shard, number) = self.guest.name.unwrap_or((shard, self.key.generation));
        name(shard, number)
    }

    /// Whether it may see `symbol` by the subscription `sub`, which matches it.
    pub fn may_see(&self, table: &Table, sub: &Sub, channel: Channel, symbol: &str) -> bool {
        !table.is_restricted(sub.place) || self.guest.may(channel, symbol)
    }

    /// Wakes the session's task.
    pub fn wake(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// What `/sessions` tells.
    pub fn info(&self, shard: usize, now_us: u32) -> SessionInfo {
        let books = self.outbox.books();
        SessionInfo {
            session: self.name(shard),
            peer: self.guest.peer.to_string(),
            shard,
            queue_age_ms: u64::from(self.outbox.delay_us(now_us) / 1000),
            queued_bytes: self.outbox.queued_bytes() as u64,
            held: books.held,
            subscriptions: self.subs.len() as u64,
            offered: books.offered,
            sent: books.sent,
            conflated: books.conflated,
            dropped: books.dropped.iter().sum(),
            open_s: (clock::mono_ms() - self.opened_ms) / 1000,
        }
    }
}

/// The want of a subscription, for the feed.
pub fn want(wanted: &Wanted, resume: Option<Resume>) -> Want {
    let (stream, trades) = (wanted.stream(), wanted.options.snapshot);
    Want { target: wanted.target.clone(), stream, trades, resume }
}
