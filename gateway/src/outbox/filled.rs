//! The bytes of one write, and of what they were made.

use super::Entry;
use super::deflate::{Deflate, DeflateTotals};
use crate::event::Event;
use crate::latency::IS_MEASURED;
use std::collections::VecDeque;
use tickgate_protocol::deflate::Deflater;
use tickgate_protocol::frame::{self, HEADER_BYTES_MAX, Opcode};

/// Events that were offered together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offered {
    /// When, in wrapping microseconds.
    pub at_us: u32,
    /// How many there are.
    pub count: u32,
    /// When they arrived, nanoseconds since the Unix epoch.
    pub ingest_ns: i64,
}

/// Events that come from the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The venue's time, nanoseconds since the Unix epoch.
    pub event_ns: i64,
    /// The producer's intended time, nanoseconds since the Unix epoch.
    pub send_ns: Option<i64>,
    /// How many there are.
    pub count: u32,
}

/// What written events are measured by. A snapshot is as old as its symbol is quiet, and what is replayed as its client was
/// away, so neither is among them.
#[derive(Debug, Clone, Default)]
pub struct Stamps {
    /// When they came to the outbox.
    pub offered: Vec<Offered>,
    /// When they came to be.
    pub origins: Vec<Origin>,
}

impl Stamps {
    #[inline]
    fn add(&mut self, event: &Event, at_us: u32) {
        // Before 1970 is as good as 1970, and keeps differences from overflowing.
        let (ingest_ns, event_ns) = (event.ingest_ns.max(0), event.event_ns.max(0));
        let send_ns = event.send_ns.map(|ns| ns.max(0));
        match self.offered.last_mut() {
            Some(last) if (last.at_us, last.ingest_ns) == (at_us, ingest_ns) => last.count += 1,
            _ => self.offered.push(Offered { at_us, count: 1, ingest_ns }),
        }
        match self.origins.last_mut() {
            Some(last) if (last.event_ns, last.send_ns) == (event_ns, send_ns) => last.count += 1,
            _ => self.origins.push(Origin { event_ns, send_ns, count: 1 }),
        }
    }

    fn extend(&mut self, more: &Self) {
        self.offered.extend_from_slice(&more.offered);
        self.origins.extend_from_slice(&more.origins);
    }

    fn clear(&mut self) {
        self.offered.clear();
        self.origins.clear();
    }

    fn held_bytes(&self) -> usize {
        self.offered.capacity() * size_of::<Offered>() + self.origins.capacity() * size_of::<Origin>()
    }
}

/// What one outbox hands out to be written. A shard has one for all of its sessions, which mostly get the same one
/// after the other: a frame of shared events is made once for all whose queues are equal.
#[derive(Debug, Default)]
pub struct Filled {
    bytes: Vec<u8>,
    stamps: Stamps,
    /// How many events are in it, what was begun earlier apart.
    pub(super) events: u32,
    /// The queue that it was made of, when it is a frame of shared events and nothing else.
    shared: Vec<Entry>,
    /// Compresses such frames, if the sessions that it is for can read them.
    deflate: Option<Box<Deflate>>,
}

impl Filled {
    /// One whose frames of shared events are compressed if they are of at least `bytes_min` bytes. Nothing else is:
    /// answers stay plain, as what is secret in them must not be compressed together with what its client can choose.
    pub fn deflated(deflater: Deflater, bytes_min: usize) -> Self {
        Self { deflate: Some(Box::new(Deflate::new(deflater, bytes_min))), ..Self::default() }
    }

    /// What compresses, if something does.
    #[cfg(debug_assertions)]
    pub(crate) fn deflater(&mut self) -> Option<&mut Deflater> {
        self.deflate.as_mut().map(|deflate| &mut deflate.deflater)
    }

    /// What its compression was good for.
    pub fn deflate_totals(&self) -> DeflateTotals {
        self.deflate.as_ref().map_or_else(DeflateTotals::default, |deflate| deflate.totals)
    }

    /// How many events are in it, what was begun earlier apart.
    pub fn events(&self) -> u32 {
        self.events
    }

    /// What to write.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether there are events in it.
    pub fn has_events(&self) -> bool {
        self.events > 0
    }

    /// What its events are measured by.
    pub fn stamps(&self) -> &Stamps {
        &self.stamps
    }

    /// Forgets everything but its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.stamps.clear();
        self.shared.clear();
        self.events = 0;
    }

    /// Empties a queue of shared events into one frame with `payload_bytes` of payload.
    #[inline]
    pub(super) fn take(&mut self, queue: &mut VecDeque<Entry>, payload_bytes: usize) {
        if self.is_of(queue) {
            // One event is the rule, and then this is half of what clearing takes.
            if queue.len() == 1 {
                queue.pop_back();
            } else {
                queue.clear();
            }
            return;
        }
        self.clear();
        self.bytes.reserve(HEADER_BYTES_MAX + payload_bytes);
        frame::write_header(&mut self.bytes, Opcode::Text, payload_bytes);
        let start = self.bytes.len();
        let mut before = b'[';
        for entry in queue.drain(..) {
            self.bytes.push(std::mem::replace(&mut before, b','));
            if let Entry::Event { event, at_us, .. } = &entry {
                self.bytes.extend_from_slice(&event.text);
                self.written(event, *at_us);
            }
            self.shared.push(entry);
        }
        self.bytes.push(b']');
        debug_assert_eq!(self.bytes.len() - start, payload_bytes, "the header told the payload's length");
        if let Some(deflate) = &mut self.deflate {
            deflate.compress(&mut self.bytes, start);
        }
    }

    /// Whether it was made of a queue like this.
    #[inline]
    fn is_of(&self, queue: &VecDeque<Entry>) -> bool {
        let is_same =
            |(at, entry): (usize, &Entry)| queue.get(at).is_some_and(|other| entry.is_same_event(other));
        self.shared.len() == queue.len() && self.shared.iter().enumerate().all(is_same)
    }

    /// An event was put into it.
    #[inline]
    pub(super) fn written(&mut self, event: &Event, at_us: u32) {
        self.events += event.count;
        if IS_MEASURED && !(event.tail.snapshot | event.tail.replay) {
            self.stamps.add(event, at_us);
        }
    }

    /// Where other bytes than shared events go.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The bytes from `at` on are not taken: they, and what they are measured by, have to wait.
    pub(super) fn rest(&mut self, at: usize, unsent: &mut Unsent) {
        // When nothing moved, they are held already.
        if at > 0 || unsent.bytes.len() < self.bytes.len() {
            unsent.bytes.clear();
            unsent.bytes.extend_from_slice(&self.bytes[at..]);
        }
        unsent.stamps.extend(&self.stamps);
    }

    /// What waited was taken with the rest.
    pub(super) fn with(&mut self, unsent: &Unsent) {
        self.stamps.extend(&unsent.stamps);
    }
}

/// Frames that were begun and must be finished: what the socket did not take of the last write.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    pub(super) bytes: Vec<u8>,
    /// Of the events that begin in frames which are not wholly taken; at most one write's worth.
    stamps: Stamps,
}

impl Unsent {
    /// Bytes of memory.
    pub(super) fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.bytes.capacity() + self.stamps.held_bytes()
    }
}
