//! WebSocket frames (RFC 6455): headers of what the gateway sends, and a decoder for what clients send.
//!
//! The decoder is sans-IO: bytes go in, whole messages come out, and nothing awaits in between, so a read can be
//! abandoned at any point without losing the place. It keeps heap only while a frame or message is incomplete, and it
//! refuses by the *declared* length, before anything is stored.

use crate::code::{CLOSE_NOT_UTF8, CLOSE_PROTOCOL, CLOSE_TOO_BIG};

/// Kinds of frames, by their opcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// Most bytes that the header of an unmasked frame takes.
pub const HEADER_BYTES_MAX: usize = 10;
/// Most payload bytes of a control frame.
pub const CONTROL_BYTES_MAX: usize = 125;

/// Appends the header of a final, unmasked frame with `payload_bytes` of payload.
pub fn write_header(out: &mut Vec<u8>, opcode: Opcode, payload_bytes: usize) {
    let (header, used) = header(opcode, payload_bytes);
    out.extend_from_slice(&header[..used]);
}

/// The header of a final, unmasked frame: its bytes and how many of them are used.
pub fn header(opcode: Opcode, payload_bytes: usize) -> ([u8; HEADER_BYTES_MAX], usize) {
    let mut bytes = [0; HEADER_BYTES_MAX];
    bytes[0] = 0x80 | opcode as u8;
    let used = match payload_bytes {
        0..=125 => {
            bytes[1] = payload_bytes as u8;
            2
        }
        126..=0xffff => {
            bytes[1] = 126;
            bytes[2..4].copy_from_slice(&(payload_bytes as u16).to_be_bytes());
            4
        }
        _ => {
            bytes[1] = 127;
            bytes[2..10].copy_from_slice(&(payload_bytes as u64).to_be_bytes());
            10
        }
    };
    (bytes, used)
}

/// Appends a close frame. `reason` is cut to what fits.
pub fn write_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    let mut end = reason.len().min(CONTROL_BYTES_MAX - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    write_header(out, Opcode::Close, 2 + end);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(&reason.as_bytes()[..end]);
}

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A whole text message, checked to be UTF-8.
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// A ping, to be answered with the same payload.
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// A close with its code, if it has one.
    Close(Option<u16>),
}

/// How a client broke the protocol. The connection must be closed with [`Violation::close_code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Violation {
    #[error("a client frame must be masked")]
    Unmasked,
    #[error("reserved bits are set without an extension")]
    ReservedBits,
    #[error("unknown opcode")]
    Opcode,
    #[error("a control frame must be final and at most 125 bytes")]
    Control,
    #[error("continuation without a message, or a new message inside one")]
    Sequence,
    #[error("payload length in more bytes than needed, or over 63 bits")]
    Length,
    #[error("close frame with a bad code or payload")]
    Close,
    #[error("text that is not UTF-8")]
    NotUtf8,
    #[error("message over the size limit")]
    TooBig,
}

impl Violation {
    /// The close code for it.
    pub const fn close_code(self) -> u16 {
        match self {
            Self::NotUtf8 => CLOSE_NOT_UTF8,
            Self::TooBig => CLOSE_TOO_BIG,
            _ => CLOSE_PROTOCOL,
        }
    }
}

/// Reads client frames from bytes as they arrive.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes of an incomplete frame.
    partial: Vec<u8>,
    /// Payload of an incomplete message: fragments so far.
    message: Vec<u8>,
    fragments_of: Option<Opcode>,
}

struct Header {
    opcode: Opcode,
    fin: bool,
    mask: [u8; 4],
    header_bytes: usize,
    payload_bytes: usize,
}

impl Decoder {
    /// Whether it is between two messages: a new decoder would read on just as well.
    pub fn is_idle(&self) -> bool {
        self.partial.is_empty() && self.fragments_of.is_none()
    }

    /// Takes `input` and hands every whole message in it to `sink`. `input` is unmasked in place.
    ///
    /// # Errors
    /// The first [`Violation`]; nothing that follows it is read, and the decoder must not be used again.
    pub fn feed(
        &mut self,
        input: &mut [u8],
        message_bytes_max: usize,
        mut sink: impl FnMut(Message<'_>),
    ) -> Result<(), Violation> {
        if self.partial.is_empty() {
            let used = self.frames(input, message_bytes_max, &mut sink)?;
            self.partial.extend_from_slice(&input[used..]);
        } else {
            let mut bytes = std::mem::take(&mut self.partial);
            bytes.extend_from_slice(input);
            let used = self.frames(&mut bytes, message_bytes_max, &mut sink)?;
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
        message_bytes_max: usize,
        sink: &mut impl FnMut(Message<'_>),
    ) -> Result<usize, Violation> {
        let mut at = 0;
        while let Some(header) = self.header(&bytes[at..], message_bytes_max)? {
            let start = at + header.header_bytes;
            let end = start + header.payload_bytes;
            if end > bytes.len() {
                break;
            }
            let payload = &mut bytes[start..end];
            unmask(payload, header.mask);
            self.frame(&header, payload, sink)?;
            at = end;
        }
        Ok(at)
    }

    fn header(&self, bytes: &[u8], message_bytes_max: usize) -> Result<Option<Header>, Violation> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        if first & 0x70 != 0 {
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
            8 => declared > 0xffff && declared >> 63 == 0,
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
        let held = if is_control { 0 } else { self.message.len() };
        let payload_bytes = usize::try_from(declared).map_err(|_| Violation::TooBig)?;
        if payload_bytes > message_bytes_max.saturating_sub(held) && !is_control {
            return Err(Violation::TooBig);
        }
        let Some(mask) = rest.get(length_bytes..length_bytes + 4) else { return Ok(None) };
        let mask = [mask[0], mask[1], mask[2], mask[3]];
        Ok(Some(Header { opcode, fin, mask, header_bytes: 2 + length_bytes + 4, payload_bytes }))
    }

    fn frame(
        &mut self,
        header: &Header,
        payload: &[u8],
        sink: &mut impl FnMut(Message<'_>),
    ) -> Result<(), Violation> {
        match header.opcode {
            Opcode::Ping => sink(Message::Ping(payload)),
            Opcode::Pong => sink(Message::Pong(payload)),
            Opcode::Close => sink(Message::Close(close_code(payload)?)),
            Opcode::Text | Opcode::Binary if header.fin => whole(header.opcode, payload, sink)?,
            opcode => {
                self.message.extend_from_slice(payload);
                let kind = self.fragments_of.unwrap_or(opcode);
                self.fragments_of = Some(kind);
                if header.fin {
                    self.fragments_of = None;
                    let message = std::mem::take(&mut self.message);
                    whole(kind, &message, sink)?;
                }
            }
        }
        Ok(())
    }
}

fn whole(kind: Opcode, payload: &[u8], sink: &mut impl FnMut(Message<'_>)) -> Result<(), Violation> {
    if kind == Opcode::Text {
        sink(Message::Text(std::str::from_utf8(payload).map_err(|_| Violation::NotUtf8)?));
    } else {
        sink(Message::Binary(payload));
    }
    Ok(())
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

#[cfg(test)]
mod tests;
