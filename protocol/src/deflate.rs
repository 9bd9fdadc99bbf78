//! permessage-deflate (RFC 7692) without context: each message is compressed by itself.
//!
//! So a compressed frame can be made once for everybody, no connection has a window of its own, and nothing that a
//! stranger sends is ever compressed together with what somebody else is sent. One [`Deflater`] and one [`Inflater`]
//! serve all connections of a thread.

mod offer;

use crate::frame::Violation;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
pub use offer::{Params, negotiate};
use std::borrow::Cow;

/// Window of what the gateway compresses, as a power of two: 4 KiB. Frames of market data are small, so that a larger
/// one saves nothing, and every client that can choose at all takes it.
pub const WINDOW_BITS: u8 = 12;
/// Effort of compression: 6 takes three times as long for a third less (`benches/README.md`).
pub const LEVEL: u32 = 1;
/// Payloads of fewer bytes are never compressed: it costs more than it saves.
pub const BYTES_MIN: usize = 64;
/// Bytes of memory of a [`Deflater`] beside what it has compressed last, rounded up.
pub const DEFLATER_BYTES: usize = 384 << 10;
/// Bytes of memory of an [`Inflater`], rounded up.
pub const INFLATER_BYTES: usize = 96 << 10;

/// What ends a flushed block, and is not sent.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
/// Bytes that most of what clients send fits in.
const SCRATCH_BYTES: usize = 16 << 10;
/// Streams that are ended within one message: RFC 7692 7.2.3.4 allows some, and each costs a reset.
const STREAMS_MAX: usize = 64;

/// Compresses messages.
#[derive(Debug)]
pub struct Deflater {
    state: Compress,
    level: Compression,
    window_bits: u8,
    /// The last compressed message, and what larger ones have left.
    out: Vec<u8>,
}

impl Deflater {
    /// With an effort of 0 to 9 and a window of 9 to 15 bits.
    pub fn new(level: u32, window_bits: u8) -> Self {
        let (level, window_bits) = (Compression::new(level.min(9)), window_bits.clamp(9, 15));
        Self { state: fresh(level, window_bits), level, window_bits, out: Vec::new() }
    }

    /// The payload of a compressed message; `None` when it would not be smaller.
    pub fn deflate(&mut self, payload: &[u8]) -> Option<&[u8]> {
        let room = room(payload.len());
        if self.out.len() < room {
            self.out.resize(room, 0);
        }
        self.state.reset();
        let done = self.state.compress(payload, &mut self.out, FlushCompress::Sync);
        let (taken, made) = (self.state.total_in() as usize, self.state.total_out() as usize);
        if !matches!(done, Ok(Status::Ok)) || taken < payload.len() || made >= self.out.len() {
            // zlib-rs 0.6 does not forget all of a message that was given up, whatever its reset says.
            self.state = fresh(self.level, self.window_bits);
            return None;
        }
        self.out[..made].strip_suffix(&TAIL).filter(|deflated| deflated.len() < payload.len())
    }

    /// Bytes of memory that it holds for what it has compressed.
    pub fn held_bytes(&self) -> usize {
        self.out.capacity()
    }
}

fn fresh(level: Compression, window_bits: u8) -> Compress {
    Compress::new_with_window_bits(level, false, window_bits)
}

/// Bytes that any payload of so many fits in when it is compressed: at worst with nine bits for each of its bytes.
const fn room(payload_bytes: usize) -> usize {
    payload_bytes + payload_bytes / 8 + 64
}

/// Expands messages, up to a bound that is kept while it expands them.
#[derive(Debug)]
pub struct Inflater {
    state: Decompress,
    scratch: Box<[u8]>,
}

impl Default for Inflater {
    fn default() -> Self {
        Self { state: Decompress::new(false), scratch: vec![0; SCRATCH_BYTES].into_boxed_slice() }
    }
}

impl Inflater {
    /// The message of a compressed `payload`.
    ///
    /// # Errors
    /// [`Violation::TooBig`] as soon as it has more than `bytes_max`, none of which is stored by then;
    /// [`Violation::Deflate`] when it cannot be read.
    pub fn inflate(&mut self, payload: &[u8], bytes_max: usize) -> Result<Cow<'_, [u8]>, Violation> {
        let Self { state, scratch } = self;
        let bytes = expand(state, payload, scratch, bytes_max)?;
        if bytes <= scratch.len() {
            return Ok(Cow::Borrowed(&scratch[..bytes]));
        }
        // Large ones are expanded twice: first to be measured, so that there is never more memory than there is message.
        let mut message = vec![0; bytes];
        expand(state, payload, &mut message, bytes_max)?;
        Ok(Cow::Owned(message))
    }
}

/// Expands `payload` into `room`, from its beginning again whenever it is full; returns how many bytes there are.
fn expand(
    state: &mut Decompress,
    payload: &[u8],
    room: &mut [u8],
    bytes_max: usize,
) -> Result<usize, Violation> {
    let (mut bytes, mut at, mut streams) = (0, 0, 0);
    state.reset(false);
    for mut input in [payload, &TAIL] {
        loop {
            let (taken, made) = (state.total_in(), state.total_out());
            let done = state.decompress(input, &mut room[at..], FlushDecompress::Sync);
            let status = done.map_err(|_| Violation::Deflate)?;
            let (taken, made) = ((state.total_in() - taken) as usize, (state.total_out() - made) as usize);
            input = &input[taken..];
            bytes += made;
            at += made;
            if bytes > bytes_max {
                return Err(Violation::TooBig);
            }
            if status == Status::StreamEnd {
                streams += 1;
                if streams > STREAMS_MAX {
                    return Err(Violation::Deflate);
                }
                state.reset(false);
            } else if taken == 0 && made == 0 && at < room.len() {
                // There is room, and still nothing comes of what is left.
                if input.is_empty() {
                    break;
                }
                return Err(Violation::Deflate);
            }
            if at == room.len() {
                at = 0;
            } else if input.is_empty() {
                break;
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
