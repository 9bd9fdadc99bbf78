//! Reading what clients send.
//!
//! The decoder is sans-IO: bytes go in, whole messages come out, and nothing awaits in between, so a read can be
//! abandoned at any point without losing the place. It keeps heap only while a frame or message is incomplete, and it
//! refuses by the *declared* length, before anything is stored.

use super::{Message, Opcode, RSV1, Violation};
use crate::deflate::Inflater;

/// Fragments that a message may come in, empty ones counted: they cost work and no bytes.
pub const FRAGMENTS_MAX: u32 = 64;

/// What a client may send.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes of one message, all fragments together, and expanded if it was compressed.
    pub message_bytes_max: usize,
    /// Fragments of one message, empty ones counted.
    pub fragments_max: u32,
}

/// Reads client frames from bytes as they arrive.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes of an incomplete frame.
    pub(super) partial: Vec<u8>,
    /// Payload of an incomplete message: fragments so far.
    pub(super) message: Vec<u8>,
    fragments_of: Option<Opcode>,
    fragments: u32,
    /// Whether the fragments are of a compressed message.
    is_deflated: bool,
}

struct Header {
    opcode: Opcode,
    fin: bool,
    is_deflated: bool,
    mask: [u8; 4],
    header_bytes: usize,
    payload_bytes: usize,
}

impl Decoder {
    /// Whether it is between two messages: a new decoder would read on just as well.
    pub fn is_idle(&self) -> bool {
        self.partial.is_empty() && self.fragments_of.is_none()
    }

    /// Takes `input` and hands every whole message in it to `sink`. `input` is unmasked in place. With an `inflater`,
    /// which is lent for the time of the call, messages may be compressed.
    ///
    /// # Errors
    /// The first [`Violation`]; nothing that follows it is read, and the decoder must not be used again.
    pub fn feed(
        &mut self,
        input: &mut [u8],
        bounds: &Bounds,
        inflater: Option<&mut Inflater>,
        sink: impl FnMut(Message<'_>),
    ) -> Result<(), Violation> {
        let mut taker = Taker { bounds, inflater, sink };
        if self.partial.is_empty() {
            let used = self.frames(input, &mut taker)?;
            self.partial.extend_from_slice(&input[used..]);
        } else {
            let mut bytes = std::mem::take(&mut self.partial);
            bytes.extend_from_slice(input);
            let used = self.frames(&mut bytes, &mut taker)?;
            if used < bytes.len() {
                bytes.drain(..used);
                self.partial = bytes;
            }
        }
        Ok(())
    }

    /// Bytes of heap held for what is incomplete.
    pub fn held_bytes(&self) -> usize {
        self.partial.capacity() + self.message.capacity()
    }

    fn frames(
        &mut self,
        bytes: &mut [u8],
        taker: &mut Taker<'_, impl FnMut(Message<'_>)>,
    ) -> Result<usize, Violation> {
        let mut at = 0;
        while let Some(header) = self.header(&bytes[at..], taker.bounds, taker.inflater.is_some())? {
            let start = at + header.header_bytes;
            let end = start + header.payload_bytes;
            if end > bytes.len() {
                break;
            }
            let payload = &mut bytes[start..end];
            unmask(payload, header.mask);
            self.frame(&header, payload, taker)?;
            at = end;
        }
        Ok(at)
    }

    fn header(&self, bytes: &[u8], bounds: &Bounds, may_deflate: bool) -> Result<Option<Header>, Violation> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        // The first frame of a message says whether all of it is compressed.
        let is_deflated = may_deflate && matches!(first & 0x0f, 1 | 2) && first & RSV1 != 0;
        if first & 0x70 != if is_deflated { RSV1 } else { 0 } {
            return Err(Violation::ReservedBits);
        }
        let opcode = match first & 0x0f {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return Err(Violation::Opcode),
        };
        if second & 0x80 == 0 {
            return Err(Violation::Unmasked);
        }
        let fin = first & 0x80 != 0;
        let is_control = opcode as u8 >= 8;
        let (declared, length_bytes) = match second & 0x7f {
            126 | 127 if is_control => return Err(Violation::Control),
            126 => match rest.first_chunk::<2>() {
                Some(raw) => (u64::from(u16::from_be_bytes(*raw)), 2),
                None => return Ok(None),
            },
            127 => match rest.first_chunk::<8>() {
                Some(raw) => (u64::from_be_bytes(*raw), 8),
                None => return Ok(None),
            },
            short => (u64::from(short), 0),
        };
        let shortest = match length_bytes {
            2 => declared > 125,
            8 => declared > 0xffff,
            _ => true,
        };
        if !shortest {
            return Err(Violation::Length);
        }
        if is_control && !fin {
            return Err(Violation::Control);
        }
        match (opcode, self.fragments_of) {
            (Opcode::Continuation, None) | (Opcode::Text | Opcode::Binary, Some(_)) => {
                return Err(Violation::Sequence);
            }
            _ => {}
        }
        if !is_control && self.fragments >= bounds.fragments_max {
            return Err(Violation::Fragments);
        }
        let held = if is_control { 0 } else { self.message.len() };
        let payload_bytes = usize::try_from(declared).map_err(|_| Violation::TooBig)?;
        if payload_bytes > bounds.message_bytes_max.saturating_sub(held) && !is_control {
            return Err(Violation::TooBig);
        }
        let Some(mask) = rest.get(length_bytes..length_bytes + 4) else { return Ok(None) };
        let mask = [mask[0], mask[1], mask[2], mask[3]];
        Ok(Some(Header { opcode, fin, is_deflated, mask, header_bytes: 2 + length_bytes + 4, payload_bytes }))
    }

    fn frame(
        &mut self,
        header: &Header,
        payload: &[u8],
        taker: &mut Taker<'_, impl FnMut(Message<'_>)>,
    ) -> Result<(), Violation> {
        match header.opcode {
            Opcode::Ping => (taker.sink)(Message::Ping(payload)),
            Opcode::Pong => (taker.sink)(Message::Pong(payload)),
            Opcode::Close => (taker.sink)(Message::Close(close_code(payload)?)),
            Opcode::Text | Opcode::Binary if header.fin => {
                taker.whole(header.opcode, payload, header.is_deflated)?;
            }
            opcode => {
                self.message.extend_from_slice(payload);
                self.fragments += 1;
                self.is_deflated |= header.is_deflated;
                let kind = self.fragments_of.unwrap_or(opcode);
                self.fragments_of = Some(kind);
                if header.fin {
                    let Self { message, is_deflated, .. } = std::mem::take(self);
                    taker.whole(kind, &message, is_deflated)?;
                }
            }
        }
        Ok(())
    }
}

/// Where whole messages go.
struct Taker<'a, F> {
    bounds: &'a Bounds,
    inflater: Option<&'a mut Inflater>,
    sink: F,
}

impl<F: FnMut(Message<'_>)> Taker<'_, F> {
    fn whole(&mut self, kind: Opcode, payload: &[u8], is_deflated: bool) -> Result<(), Violation> {
        let inflated;
        let payload = match &mut self.inflater {
            Some(inflater) if is_deflated => {
                inflated = inflater.inflate(payload, self.bounds.message_bytes_max)?;
                &*inflated
            }
            _ => payload,
        };
        (self.sink)(if kind == Opcode::Text {
            Message::Text(std::str::from_utf8(payload).map_err(|_| Violation::NotUtf8)?)
        } else {
            Message::Binary(payload)
        });
        Ok(())
    }
}

fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let [high, low, reason @ ..] = payload else {
        return if payload.is_empty() { Ok(None) } else { Err(Violation::Close) };
    };
    let code = u16::from_be_bytes([*high, *low]);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Violation::Close);
    }
    std::str::from_utf8(reason).map_err(|_| Violation::NotUtf8)?;
    Ok(Some(code))
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let mut chunks = payload.chunks_exact_mut(4);
    for chunk in &mut chunks {
        for (byte, key) in chunk.iter_mut().zip(mask) {
            *byte ^= key;
        }
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(mask) {
        *byte ^= key;
    }
}
