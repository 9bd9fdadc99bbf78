//! One place in an outbox.

use crate::event::{Event, Key, Stream, Symbol};
use std::sync::Arc;
use tickgate_protocol::event::{Gap, Tail};
use tickgate_protocol::{Channel, OnSlow, Position};

/// One place in an outbox.
#[derive(Debug)]
pub enum Entry {
    /// An event.
    Event {
        /// The shared event.
        event: Arc<Event>,
        /// What this client gets instead of the shared tail.
        own: Option<Box<Own>>,
        /// What may become of it.
        policy: OnSlow,
        /// When it was offered, in wrapping microseconds.
        at_us: u32,
    },
    /// Events that this client will not get.
    Gap(Box<QueuedGap>),
    /// A control message.
    Control {
        /// The message.
        json: Box<[u8]>,
        /// Whether events behind it may never take a place before it.
        is_fence: bool,
    },
}

/// What of an event is this client's own.
#[derive(Debug)]
pub struct Own {
    /// Its tail.
    pub tail: Tail,
    /// The first event that it stands for, if it took the place of some.
    pub first: Option<Position>,
}

/// A gap on its way to a client.
#[derive(Debug)]
pub struct QueuedGap {
    /// The instrument.
    pub symbol: Arc<Symbol>,
    /// The stream that it interrupts.
    pub stream: Stream,
    /// What is missing.
    pub gap: Gap,
    /// The first event that is, if it was in the queue.
    pub first: Option<Position>,
}

impl Entry {
    pub(super) fn event(event: Arc<Event>, tail: Option<Tail>, policy: OnSlow, at_us: u32) -> Self {
        let own = tail.map(|tail| Box::new(Own { tail, first: None }));
        Self::Event { event, own, policy, at_us }
    }

    pub(super) fn gap(symbol: Arc<Symbol>, stream: Stream, gap: Gap, first: Option<Position>) -> Self {
        Self::Gap(Box::new(QueuedGap { symbol, stream, gap, first }))
    }

    /// The first record that an event or a gap stands for, as far as that is known.
    pub(super) fn first(&self) -> Option<Position> {
        match self {
            Self::Event { event, own, .. } => own.as_ref().and_then(|own| own.first).or(Some(event.position)),
            Self::Gap(gap) => gap.first,
            Self::Control { .. } => None,
        }
    }

    /// Bytes that the entry counts for in the queue's bound.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Event { event, .. } => event.text.len(),
            Self::Gap(gap) => gap.bytes(),
            Self::Control { json, .. } => json.len(),
        }
    }

    /// Bytes that the entry takes in a data frame.
    pub(super) fn wire_bytes(&self) -> usize {
        match self {
            Self::Event { event, own: Some(own), .. } => event.head().len() + tail_bytes(&own.tail),
            _ => self.bytes(),
        }
    }

    /// Appends the entry as it goes into a data frame.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Event { event, own: None, .. } => out.extend_from_slice(&event.text),
            Self::Event { event, own: Some(own), .. } => {
                out.extend_from_slice(event.head());
                own.tail.write(out);
            }
            Self::Gap(gap) => gap.gap.write(out, gap.stream.channel, &gap.symbol.json),
            Self::Control { json, .. } => out.extend_from_slice(json),
        }
    }

    /// Whether both are the same shared event, offered at the same time.
    #[inline]
    pub(super) fn is_same_event(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Event { event, own: None, at_us, .. },
                Self::Event { event: other, own: None, at_us: other_us, .. },
            ) => Arc::ptr_eq(event, other) && at_us == other_us,
            _ => false,
        }
    }

    /// How many events it holds.
    pub(super) fn count(&self) -> u64 {
        match self {
            Self::Event { event, .. } => u64::from(event.count),
            _ => 0,
        }
    }

    /// When an event was offered.
    pub(super) fn offered_us(&self) -> Option<u32> {
        match self {
            Self::Event { at_us, .. } => Some(*at_us),
            _ => None,
        }
    }

    /// What may become of an event.
    pub(super) fn policy(&self) -> Option<OnSlow> {
        match self {
            Self::Event { policy, .. } => Some(*policy),
            _ => None,
        }
    }

    /// Where an event meets older and newer ones.
    pub(super) fn key(&self) -> Option<Key> {
        match self {
            Self::Event { event, .. } => Some(event.key()),
            _ => None,
        }
    }

    /// Where an event came from.
    pub(super) fn position(&self) -> Option<Position> {
        match self {
            Self::Event { event, .. } => Some(event.position),
            _ => None,
        }
    }

    /// The symbol and channel of an event or a gap.
    pub(super) fn pair(&self) -> Option<(u32, Channel)> {
        match self {
            Self::Event { event, .. } => Some((event.symbol.id, event.stream.channel)),
            Self::Gap(gap) => Some((gap.symbol.id, gap.stream.channel)),
            Self::Control { .. } => None,
        }
    }

    /// Whether it is the state that a subscription begins with.
    pub(super) fn is_snapshot(&self) -> bool {
        match self {
            Self::Event { own: Some(own), .. } => own.tail.snapshot,
            Self::Event { event, .. } => event.tail.snapshot,
            _ => false,
        }
    }

    /// The `prev` that this client gets with an event.
    pub(super) fn prev(&self) -> Option<Position> {
        match self {
            Self::Event { own: Some(own), .. } => own.tail.prev,
            Self::Event { event, .. } => event.tail.prev,
            _ => None,
        }
    }

    /// How many updates an event stands for.
    pub(super) fn merged(&self) -> u32 {
        match self {
            Self::Event { own: Some(own), .. } => own.tail.merged,
            Self::Event { event, .. } => event.tail.merged.max(event.count),
            _ => 0,
        }
    }
}

impl QueuedGap {
    fn bytes(&self) -> usize {
        // Written once to be measured: gaps are rare, and the bound must count what will really be sent.
        let mut out = Vec::with_capacity(192);
        self.gap.write(&mut out, self.stream.channel, &self.symbol.json);
        out.len()
    }
}

fn tail_bytes(tail: &Tail) -> usize {
    let mut out = Vec::with_capacity(Tail::BYTES_MAX);
    tail.write(&mut out);
    out.len()
}
