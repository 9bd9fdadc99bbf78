//! WebSocket frames (RFC 6455): headers of what the gateway sends, and a decoder for what clients send.

mod decoder;

use crate::code::{CLOSE_BAD_DATA, CLOSE_POLICY, CLOSE_PROTOCOL, CLOSE_TOO_BIG};
pub use decoder::{Bounds, Decoder, FRAGMENTS_MAX};

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
/// The bit of a frame's first byte that says that its message is compressed (RFC 7692).
pub const RSV1: u8 = 0x40;
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

/// Appends the header of a final, unmasked frame with `payload_bytes` of compressed payload.
pub fn write_deflated_header(out: &mut Vec<u8>, opcode: Opcode, payload_bytes: usize) {
    let (mut header, used) = header(opcode, payload_bytes);
    header[0] |= RSV1;
    out.extend_from_slice(&header[..used]);
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

macro_rules! violations {
    ($($variant:ident = $label:literal, $text:literal;)*) => {
        /// How a client broke the protocol. The connection must be closed with [`Violation::close_code`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
        #[non_exhaustive]
        #[allow(missing_docs)]
        pub enum Violation {
            $(#[error($text)] $variant,)*
        }

        impl Violation {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name as a metric label.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }
        }
    };
}

violations! {
    Unmasked = "unmasked", "a client frame must be masked";
    ReservedBits = "reserved_bits", "reserved bits are set without an extension";
    Opcode = "opcode", "unknown opcode";
    Control = "control", "a control frame must be final and at most 125 bytes";
    Sequence = "sequence", "continuation without a message, or a new message inside one";
    Length = "length", "payload length in more bytes than needed";
    Close = "close", "close frame with a bad code or payload";
    NotUtf8 = "not_utf8", "text that is not UTF-8";
    TooBig = "too_big", "message over the size limit";
    Fragments = "fragments", "message in more than 64 fragments";
    Deflate = "deflate", "compressed message that cannot be read";
}

impl Violation {
    /// The close code for it.
    pub const fn close_code(self) -> u16 {
        match self {
            Self::NotUtf8 | Self::Deflate => CLOSE_BAD_DATA,
            Self::TooBig => CLOSE_TOO_BIG,
            // Nothing is wrong with it but that it is too much.
            Self::Fragments => CLOSE_POLICY,
            _ => CLOSE_PROTOCOL,
        }
    }
}

#[cfg(test)]
mod tests;
