//! Sending messages back, for conformance tests, which talk to a server that does just that: in debug builds only, and only
//! when the environment asks for it.
//!
//! Everything around it is what serves clients: listener, decoder, compression, outbox and the session's task. What is
//! left out is what those tests know nothing of: greetings, requests, and the bound on fragments, as some of their
//! messages come in 65,536.

use super::Shard;
use super::socket::Socket;
use crate::config::load::echoes;
use crate::feed::request::SessionKey;
use crate::outbox::Filled;
use tickgate_protocol::deflate::{Deflater, LEVEL};
use tickgate_protocol::frame::{HEADER_BYTES_MAX, Message, Opcode, write_deflated_header, write_header};

/// The smallest window: every client that those tests play can read it, also those that allow no larger one.
const WINDOW_BITS: u8 = 9;

impl<S: Socket> Shard<S> {
    /// Makes it one that sends messages back, if that is asked for.
    pub(super) fn echo_on_request(mut self) -> Self {
        if echoes() {
            self.is_echo = true;
            self.reading.fragments_max = u32::MAX;
            self.window_bits = WINDOW_BITS;
            self.deflated = Filled::deflated(Deflater::new(LEVEL, WINDOW_BITS), 0);
        }
        self
    }

    /// Sends a message back; says whether there is nothing else to do with it.
    pub(super) fn echo(&mut self, key: SessionKey, message: &Message<'_>) -> bool {
        let (opcode, payload) = match message {
            Message::Text(text) => (Opcode::Text, text.as_bytes()),
            Message::Binary(bytes) => (Opcode::Binary, *bytes),
            _ => return false,
        };
        let Self { sessions, deflated, .. } = self;
        let Some(session) = sessions.get_mut(key.slot as usize).filter(|session| session.key == key) else {
            return true;
        };
        let mut frame = Vec::with_capacity(HEADER_BYTES_MAX + payload.len());
        let deflater = if session.is_deflated { deflated.deflater() } else { None };
        if let Some(payload) = deflater.and_then(|deflater| deflater.deflate(payload)) {
            write_deflated_header(&mut frame, opcode, payload.len());
            frame.extend_from_slice(payload);
        } else {
            write_header(&mut frame, opcode, payload.len());
            frame.extend_from_slice(payload);
        }
        session.outbox.control(frame);
        // A close that comes with it would overtake it.
        self.flush_session(key.slot, false);
        true
    }
}
