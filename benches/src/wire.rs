//! The WebSocket wire, as far as a benchmark needs it: handshakes, headers of frames, and walking them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha1::{Digest, Sha1};

/// Appended to a client's key before hashing (RFC 6455, 1.3).
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Opcodes of frames.
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// A server's answer to the request head, if that has come whole; and how long the head is.
pub fn upgrade(head: &[u8]) -> Option<(String, usize)> {
    let end = memchr::memmem::find(head, b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&head[..end]).ok()?;
    let key = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
    })?;
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(KEY_SUFFIX);
    let accept = BASE64.encode(hash.finalize());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    Some((answer, end))
}

/// A client's request.
pub fn request(path: &str, host: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// Appends a server's frame.
pub fn frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    header(out, opcode, payload.len(), 0);
    out.extend_from_slice(payload);
}

/// Appends a client's frame, with a mask of zeros: valid, and the payload stays as it is.
pub fn masked(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    header(out, opcode, payload.len(), 0x80);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

fn header(out: &mut Vec<u8>, opcode: u8, len: usize, mask: u8) {
    out.push(0x80 | opcode);
    if len < 126 {
        out.push(mask | len as u8);
    } else if let Ok(len) = u16::try_from(len) {
        out.push(mask | 126);
        out.extend_from_slice(&len.to_be_bytes());
    } else {
        out.push(mask | 127);
        out.extend_from_slice(&(len as u64).to_be_bytes());
    }
}

/// The first frame of `bytes`, if it is whole.
pub struct Frame<'a> {
    pub opcode: u8,
    pub payload: &'a mut [u8],
    /// Its length with its header.
    pub bytes: usize,
}

/// Reads the first frame of `bytes`, unmasking it.
pub fn first(bytes: &mut [u8]) -> Option<Frame<'_>> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (len, mut at) = match second & 0x7f {
        126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?, 10),
        len => (usize::from(len), 2),
    };
    let mut mask = [0; 4];
    if second & 0x80 != 0 {
        mask.copy_from_slice(bytes.get(at..at + 4)?);
        at += 4;
    }
    let payload = bytes.get_mut(at..at.checked_add(len)?)?;
    if mask != [0; 4] {
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    }
    Some(Frame { opcode: first & 0xf, payload, bytes: at + len })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_are_read_back() {
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            for write in [frame, masked] {
                let payload = vec![b'x'; len];
                let mut bytes = Vec::new();
                write(&mut bytes, TEXT, &payload);
                let whole = bytes.len();
                assert!(first(&mut bytes[..whole - 1]).is_none());
                let read = first(&mut bytes).unwrap();
                assert_eq!((read.opcode, read.bytes, read.payload.len()), (TEXT, whole, len));
            }
        }
    }

    #[test]
    fn handshakes_are_answered() {
        let request = request("/v1/stream", "localhost");
        assert!(upgrade(&request.as_bytes()[..request.len() - 1]).is_none());
        let (answer, len) = upgrade(request.as_bytes()).unwrap();
        assert_eq!(len, request.len());
        // The example of RFC 6455, 1.3.
        assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }
}
