//! What goes out: frames of what is queued, and what the socket made of them.

use super::{Bounds, Close, Entry, Filled, Outbox};
use tickgate_protocol::frame::{self, Opcode};

impl Outbox {
    /// Puts the next bytes to write into `out`, at most about `write_bytes_max`, in the place of what is there. They
    /// stay the outbox's business until [`Outbox::wrote`] says how many were taken.
    #[inline(always)]
    pub fn fill(&mut self, out: &mut Filled, bounds: &Bounds) {
        if !self.fits_one_frame(bounds) {
            return self.fill_special(out, bounds);
        }
        let payload_bytes = self.frame_bytes();
        self.queued_bytes = 0;
        out.take(&mut self.queue, payload_bytes);
        self.unsent_events = out.events;
    }

    /// Bytes of a frame of all that is queued: a bracket, and a comma or the other bracket behind each event.
    fn frame_bytes(&self) -> usize {
        self.queued_bytes + self.queue.len() + 1
    }

    /// Whether what is to be written is one frame of shared events, and nothing is known to hold it back.
    #[inline]
    fn fits_one_frame(&self, bounds: &Bounds) -> bool {
        let room = bounds.frame_bytes_max.min(bounds.write_bytes_max);
        !self.is_special && !self.queue.is_empty() && self.frame_bytes() <= room
    }

    fn fill_special(&mut self, out: &mut Filled, bounds: &Bounds) {
        self.is_special = true;
        out.clear();
        if let Some(unsent) = &self.unsent {
            // Alone: what is added to it before it is gone could not be told from it, and its events would count as
            // held, and be measured, when a client that takes only parts is through with all that ever follows.
            return out.out().extend_from_slice(&unsent.bytes);
        }
        if let Some(payload) = self.pong.take() {
            frame::write_header(out.out(), Opcode::Pong, payload.len());
            out.out().extend_from_slice(&payload);
        }
        if std::mem::take(&mut self.is_pinging) {
            frame::write_header(out.out(), Opcode::Ping, 0);
        }
        if let Some(close) = self.close.take_if(|close| !close.orderly) {
            self.fill_close(out.out(), &close);
        }
        while !self.close_written && out.bytes().len() < bounds.write_bytes_max {
            match self.queue.front() {
                None => match self.close.take() {
                    Some(close) => self.fill_close(out.out(), &close),
                    None => break,
                },
                Some(Entry::Control { .. }) => self.fill_control(out.out()),
                Some(_) => self.fill_data(out, bounds),
            }
        }
        self.unsent_events += out.events;
    }

    fn fill_close(&mut self, out: &mut Vec<u8>, close: &Close) {
        if let Some(json) = &close.last_words {
            frame::write_header(out, Opcode::Text, json.len());
            out.extend_from_slice(json);
        }
        frame::write_close(out, close.code, &close.reason);
        self.close_written = true;
    }

    fn fill_control(&mut self, out: &mut Vec<u8>) {
        if let Some(Entry::Control { json, .. }) = self.pop() {
            self.control_bytes -= json.len();
            // JSON begins with a brace. What has the first bit set is a whole frame already, to be sent back as it came.
            #[cfg(debug_assertions)]
            if json.first().is_some_and(|first| first & 0x80 != 0) {
                return out.extend_from_slice(&json);
            }
            frame::write_header(out, Opcode::Text, json.len());
            out.extend_from_slice(&json);
        }
    }

    /// One data frame: as many events and gaps as are at the front and fit.
    fn fill_data(&mut self, out: &mut Filled, bounds: &Bounds) {
        let room = bounds.frame_bytes_max.min(bounds.write_bytes_max.saturating_sub(out.bytes().len()));
        let mut payload_bytes = 2;
        let mut entries = 0;
        for entry in &self.queue {
            if matches!(entry, Entry::Control { .. }) {
                break;
            }
            let with_comma = entry.wire_bytes() + usize::from(entries > 0);
            if entries > 0 && payload_bytes + with_comma > room {
                break;
            }
            payload_bytes += with_comma;
            entries += 1;
        }
        frame::write_header(out.out(), Opcode::Text, payload_bytes);
        let start = out.bytes().len();
        for i in 0..entries {
            out.out().push(if i == 0 { b'[' } else { b',' });
            let Some(entry) = self.pop() else { break };
            entry.write(out.out());
            if let Entry::Event { event, at_us, .. } = &entry {
                out.written(event, *at_us);
            }
        }
        out.out().push(b']');
        debug_assert_eq!(out.bytes().len() - start, payload_bytes, "the header told the payload's length");
    }

    /// Takes note that the socket took the first `bytes` of `filled`, which [`Outbox::fill`] made.
    #[inline]
    pub fn wrote(&mut self, filled: &mut Filled, bytes: usize, now_us: u32) {
        if bytes < filled.bytes().len() || self.is_special {
            return self.wrote_special(filled, bytes, now_us);
        }
        let events = u64::from(std::mem::take(&mut self.unsent_events));
        self.books.sent += events;
        self.books.held -= events;
    }

    fn wrote_special(&mut self, filled: &mut Filled, bytes: usize, now_us: u32) {
        self.is_special = true;
        if bytes == filled.bytes().len() {
            let events = u64::from(std::mem::take(&mut self.unsent_events));
            self.books.sent += events;
            self.books.held -= events;
            self.unsent.take().into_iter().for_each(|unsent| filled.with(&unsent));
            self.blocked_since_us = None;
        } else {
            filled.rest(bytes, self.unsent.get_or_insert_default());
            if bytes > 0 || self.blocked_since_us.is_none() {
                self.blocked_since_us = Some(now_us);
            }
        }
        if self.queue.is_empty() {
            self.slow_told = false;
            if self.pressure.as_ref().is_some_and(|p| p.is_idle()) {
                self.pressure = None;
            }
            self.is_special = self.is_blocked()
                || self.pressure.is_some()
                || self.pong.is_some()
                || self.is_pinging
                || self.close.is_some()
                || self.close_written;
        }
    }
}
