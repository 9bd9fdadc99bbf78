//! Frames as a server sends them.

/// What stands beside the opcode of a message that is compressed.
pub const DEFLATED: u8 = 0x40;

/// One frame from a server: opcode, with [`DEFLATED`] where that is so, payload, bytes.
pub fn parse(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert_eq!((first & 0xb0, second & 0x80), (0x80, 0), "whole and unmasked");
    let (len, at) = match second {
        126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().expect("two bytes"))), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().expect("eight bytes")) as usize, 10),
        n => (usize::from(n), 2),
    };
    Some((first & (DEFLATED | 15), bytes.get(at..at + len)?, at + len))
}
