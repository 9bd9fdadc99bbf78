//! Is it up? Asked in Kafka's own protocol, with the few bytes that takes written by hand.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long one question may take. A broker under load answers within a second or is not ready.
const TIMEOUT: Duration = Duration::from_secs(2);
/// More than any answer to these questions can need; a longer one is not from a Kafka.
const ANSWER_BYTES_MAX: i32 = 64 * 1024;
/// Sent as correlation ID and expected back.
const CORRELATION_ID: i32 = 0x7467;

const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;

/// Whether the listener at `address` speaks Kafka: it answers ApiVersions without an error.
pub fn answers(address: SocketAddr) -> bool {
    let check = || -> io::Result<bool> {
        let answer = ask(address, API_VERSIONS, 0, &[])?;
        Ok(Cursor(&answer).i16() == Some(0))
    };
    check().unwrap_or(false)
}

/// How many brokers the one at `address` counts as alive, itself included; 0 when it does not answer.
pub fn brokers_alive(address: SocketAddr) -> usize {
    // Metadata version 1 with an empty list of topics: brokers only.
    ask(address, METADATA, 1, &0_i32.to_be_bytes())
        .ok()
        .and_then(|answer| parse_brokers(&answer))
        .map_or(0, |brokers| brokers.len())
}

/// Asks one question on a connection of its own; the answer without its header.
pub(super) fn ask(address: SocketAddr, api_key: i16, api_version: i16, body: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(&request(api_key, api_version, body))?;
    let mut four = [0; 4];
    stream.read_exact(&mut four)?;
    let length = i32::from_be_bytes(four);
    if !(4..=ANSWER_BYTES_MAX).contains(&length) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not the length of a Kafka answer"));
    }
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer)?;
    if answer[..4] != CORRELATION_ID.to_be_bytes() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer to another question"));
    }
    Ok(answer.split_off(4))
}

/// Request header version 1, client ID null, and the body, preceded by their length.
fn request(api_key: i16, api_version: i16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(14 + body.len());
    bytes.extend((10 + body.len() as i32).to_be_bytes());
    bytes.extend(api_key.to_be_bytes());
    bytes.extend(api_version.to_be_bytes());
    bytes.extend(CORRELATION_ID.to_be_bytes());
    bytes.extend((-1_i16).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// The brokers in a Metadata answer of version 1: `(node ID, host, port)` each. `None` when it is cut or not one.
fn parse_brokers(answer: &[u8]) -> Option<Vec<(i32, String, i32)>> {
    let mut cursor = Cursor(answer);
    let count = cursor.i32()?;
    let mut brokers = Vec::new();
    for _ in 0..count {
        let node_id = cursor.i32()?;
        let host = cursor.string()??;
        let port = cursor.i32()?;
        cursor.string()?; // the rack
        brokers.push((node_id, host, port));
    }
    Some(brokers)
}

/// Reads big-endian fields off the front; `None` when there is nothing left.
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(super) fn i16(&mut self) -> Option<i16> {
        self.take().map(i16::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        self.take().map(i32::from_be_bytes)
    }

    /// A nullable string: the outer `None` is a cut answer, the inner one null.
    pub(super) fn string(&mut self) -> Option<Option<String>> {
        let Ok(length) = usize::try_from(self.i16()?) else { return Some(None) };
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(Some(String::from_utf8_lossy(head).into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two brokers, the first with a rack, controller 1, no topics.
    const ANSWER: &[u8] = b"\0\0\0\x02\
        \0\0\0\x01\0\x09127.0.0.1\0\0\x4a\x94\0\x01r\
        \0\0\0\x02\0\x09127.0.0.1\0\0\x4a\x95\xff\xff\
        \0\0\0\x01\0\0\0\0";

    #[test]
    fn metadata_names_the_brokers() {
        let host = || "127.0.0.1".to_owned();
        assert_eq!(parse_brokers(ANSWER), Some(vec![(1, host(), 19092), (2, host(), 19093)]));
    }

    #[test]
    fn cut_metadata_is_refused() {
        let brokers_end = ANSWER.len() - 8;
        for length in 0..brokers_end {
            assert_eq!(parse_brokers(&ANSWER[..length]), None, "cut to {length} bytes");
        }
    }

    #[test]
    fn request_is_what_kafka_expects() {
        let bytes = request(API_VERSIONS, 0, &[]);
        assert_eq!(bytes, b"\0\0\0\x0a\0\x12\0\0\0\0\x74\x67\xff\xff");
    }

    #[test]
    fn nobody_listening_is_not_an_answer() {
        // Bound and dropped: the port is ours to know about and closed.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(!answers(address));
        assert_eq!(brokers_alive(address), 0);
    }
}
