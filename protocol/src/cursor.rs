//! Cursors: the next record to read of every partition that a client was given, as one opaque, signed text.
//!
//! ```text
//! version  1 byte: 2
//! topics   for each: epoch, 4 bytes little endian; number of its partitions, varint; for each of them
//!          the partition, as its distance to the one after the last, varint, and its next offset, varint
//! tag      16 bytes: the first half of HMAC-SHA256 of all before it
//! ```
//!
//! as URL-safe base64 without padding. Topics and partitions ascend, so there is one text for a set of positions.
//!
//! Epoch 0 is no topic's. What stands under it are times, where a gateway does not know positions: see [`Cursor`].

use crate::Position;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// Longest cursor text that is read, in bytes: more than 6,000 partitions with offsets of 2^40. Those of 300 take less than
/// 4 KiB.
pub const CURSOR_BYTES_MAX: usize = 64 << 10;

const VERSION: u8 = 2;
const TAG_BYTES: usize = 16;

/// What cursors are signed with: gateways that share it read each other's.
#[derive(Clone)]
pub struct CursorKey(Hmac<Sha256>);

impl CursorKey {
    /// The key made of `secret`. An empty one is known to all: a cursor is then checked for damage, not for forgery.
    pub fn new(secret: &[u8]) -> Self {
        Self(Hmac::new_from_slice(secret).expect("HMAC takes keys of any length"))
    }

    fn tag(&self, bytes: &[u8]) -> [u8; TAG_BYTES] {
        let whole = self.0.clone().chain_update(bytes).finalize().into_bytes();
        *whole.first_chunk().expect("it has 32 bytes")
    }
}

impl fmt::Debug for CursorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CursorKey")
    }
}

/// Why a text is not a cursor that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// It never was one, or it was cut off.
    #[error("it is no cursor, or not all of one")]
    Malformed,
    /// It names more partitions than any one should.
    #[error(
        "it is longer than {CURSOR_BYTES_MAX} bytes: resume symbol by symbol with `from.seq`, and let each gateway read fewer partitions"
    )]
    TooLong,
    /// A gateway of another version made it.
    #[error("it is of version {0}, and this gateway reads version {VERSION}")]
    OtherVersion(u8),
    /// It was changed, or signed with another key.
    #[error(
        "its signature does not match: it was made by another cluster, or with another `replay.cursor_key`, or is damaged"
    )]
    BadSignature,
}

/// What a cursor says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The next record to read of partitions, ascending.
    pub next: Vec<Position>,
    /// Where all other partitions are read from: the first record that was appended at or after this time, nanoseconds since
    /// the Unix epoch. Of a gateway that had not found every topic yet.
    pub others_ns: Option<i64>,
    /// Where every partition is read from if that is earlier than what `next` says. Of a client to whom a replay from this
    /// time was still owed.
    pub all_ns: Option<i64>,
}

const TIMES: u32 = 0;
const OTHERS: u32 = 0;
const ALL: u32 = 1;

/// Stands among the positions of a cursor for [`Cursor::others_ns`].
pub fn others_since(ns: i64) -> Position {
    Position { epoch: TIMES, partition: OTHERS, offset: u64::try_from(ns).unwrap_or(0) }
}

/// Stands among the positions of a cursor for [`Cursor::all_ns`].
pub fn all_since(ns: i64) -> Position {
    Position { epoch: TIMES, partition: ALL, offset: u64::try_from(ns).unwrap_or(0) }
}

impl Cursor {
    fn of(positions: Vec<Position>) -> Self {
        let time = |kind| {
            let found = positions.iter().find(|at| (at.epoch, at.partition) == (TIMES, kind));
            found.map(|at| i64::try_from(at.offset).unwrap_or(i64::MAX))
        };
        let (others_ns, all_ns) = (time(OTHERS), time(ALL));
        let mut next = positions;
        next.retain(|at| at.epoch != TIMES);
        Self { next, others_ns, all_ns }
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The earliest time that it names.
    pub fn since_ns(&self) -> Option<i64> {
        self.others_ns.into_iter().chain(self.all_ns).min()
    }
}

/// Encodes `positions`, each the next record to read of its partition or a time ([`others_since`], [`all_since`]), in any
/// order. A partition that is named twice is read from the lower offset.
pub fn encode(positions: &[Position], key: &CursorKey) -> String {
    let mut sorted = positions.to_vec();
    sorted.sort_unstable();
    sorted.dedup_by_key(|position| (position.epoch, position.partition));
    let mut bytes = vec![VERSION];
    for topic in sorted.chunk_by(|a, b| a.epoch == b.epoch) {
        bytes.extend_from_slice(&topic[0].epoch.to_le_bytes());
        varint(&mut bytes, topic.len() as u64);
        let mut expected = 0;
        for position in topic {
            let partition = u64::from(position.partition);
            varint(&mut bytes, partition - expected);
            varint(&mut bytes, position.offset);
            expected = partition + 1;
        }
    }
    bytes.extend_from_slice(&key.tag(&bytes));
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes what [`encode`] made with the same key: no partition twice, at most as many as [`CURSOR_BYTES_MAX`] allow.
///
/// # Errors
/// [`CursorError`] for anything else.
pub fn decode(text: &str, key: &CursorKey) -> Result<Cursor, CursorError> {
    let bytes = bytes(text)?;
    let (signed, tag) = parts(&bytes)?;
    // Compares all bytes in the same time, wherever they differ.
    key.0.clone().chain_update(signed).verify_truncated_left(tag).map_err(|_| CursorError::BadSignature)?;
    Ok(Cursor::of(positions(&signed[1..])?))
}

/// The positions of a cursor, whoever signed it: for tools that watch a gateway without its key.
///
/// # Errors
/// [`CursorError`] for a text that is no cursor, but not for its signature.
pub fn decode_unverified(text: &str) -> Result<Vec<Position>, CursorError> {
    Ok(Cursor::of(positions(&parts(&bytes(text)?)?.0[1..])?).next)
}

/// Whether a cursor goes back to a time, for partitions that its gateway had not found or for a replay that was still owed.
///
/// # Errors
/// As of [`decode_unverified`].
pub fn is_timed_unverified(text: &str) -> Result<bool, CursorError> {
    Ok(Cursor::of(positions(&parts(&bytes(text)?)?.0[1..])?).since_ns().is_some())
}

/// Before which positions whoever got this cursor was given everything, or told of it: those that it names, and none while
/// a replay from a time is owed, as that may reach further back.
///
/// # Errors
/// As of [`decode_unverified`].
pub fn given_unverified(text: &str) -> Result<Vec<Position>, CursorError> {
    let cursor = Cursor::of(positions(&parts(&bytes(text)?)?.0[1..])?);
    Ok(if cursor.all_ns.is_some() { Vec::new() } else { cursor.next })
}

fn bytes(text: &str) -> Result<Vec<u8>, CursorError> {
    if text.len() > CURSOR_BYTES_MAX {
        return Err(CursorError::TooLong);
    }
    URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError::Malformed)
}

/// What is signed, its version included, and its tag.
fn parts(bytes: &[u8]) -> Result<(&[u8], &[u8; TAG_BYTES]), CursorError> {
    let version = *bytes.first().ok_or(CursorError::Malformed)?;
    if version != VERSION {
        return Err(CursorError::OtherVersion(version));
    }
    let (signed, tag) = bytes.split_last_chunk().ok_or(CursorError::Malformed)?;
    if signed.is_empty() { Err(CursorError::Malformed) } else { Ok((signed, tag)) }
}

fn positions(mut rest: &[u8]) -> Result<Vec<Position>, CursorError> {
    let malformed = CursorError::Malformed;
    let mut positions: Vec<Position> = Vec::new();
    while let Some((head, tail)) = rest.split_first_chunk() {
        rest = tail;
        let epoch = u32::from_le_bytes(*head);
        let is_behind = positions.last().is_none_or(|last| last.epoch < epoch);
        let count = read_varint(&mut rest)?;
        if !is_behind || count == 0 {
            return Err(malformed);
        }
        let mut expected = 0u64;
        // However many it claims to have: each takes two bytes, or is missing.
        for _ in 0..count {
            let partition = expected.checked_add(read_varint(&mut rest)?).ok_or(malformed)?;
            expected = partition + 1;
            let partition = u32::try_from(partition).map_err(|_| malformed)?;
            positions.push(Position { epoch, partition, offset: read_varint(&mut rest)? });
        }
    }
    if rest.is_empty() { Ok(positions) } else { Err(malformed) }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn read_varint(bytes: &mut &[u8]) -> Result<u64, CursorError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(CursorError::Malformed)?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            return Err(CursorError::Malformed);
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(CursorError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> CursorKey {
        CursorKey::new(b"a secret of the tests")
    }

    fn at(epoch: u32, partition: u32, offset: u64) -> Position {
        Position { epoch, partition, offset }
    }

    /// The bytes under a signature that is right.
    fn signed(bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode([bytes, &key().tag(bytes)].concat())
    }

    /// What a cursor is must not change unnoticed: clients keep them over an upgrade of the gateways.
    #[test]
    fn the_text_is_this_one() {
        let positions =
            [at(0x1f3a, 0, 88_123), at(0x1f3a, 1, 0), at(0x1f3a, 7, 1 << 40), at(0xdead_beef, 3, 5)];
        let text = "AjofAAADALuwBQAABYCAgICAIO--rd4BAwWg9i6QEbRyWpAK-JlCWCNb";
        assert_eq!(encode(&positions, &key()), text);
        assert_eq!(decode(text, &key()).map(|cursor| cursor.next), Ok(positions.to_vec()));
        assert_eq!(encode(&[], &CursorKey::new(b"")), "Ak7nvgx4cjYMpnQUYICB6b0");
    }

    #[test]
    fn three_hundred_partitions_fit() {
        for spread in [1, 1 << 20] {
            let positions: Vec<_> = (0..300).map(|n| at(7, n * spread, (1 << 40) + u64::from(n))).collect();
            let text = encode(&positions, &key());
            assert!(text.len() <= 4_096, "{}", text.len());
            assert_eq!(decode(&text, &key()).map(|cursor| cursor.next), Ok(positions));
        }
    }

    /// From some 430 partitions on, gateways gave out cursors that none of them read: "not a cursor", they said.
    #[test]
    fn thousands_of_partitions_are_read_and_what_is_too_long_is_told() {
        let positions = |count| (0..count).map(|n| at(7, n, (1 << 40) + u64::from(n))).collect::<Vec<_>>();
        for count in [430, 1_000, 6_000] {
            let text = encode(&positions(count), &key());
            assert_eq!(decode(&text, &key()).map(|cursor| cursor.next), Ok(positions(count)));
        }
        let error = decode(&encode(&positions(10_000), &key()), &key()).expect_err("too long");
        assert!(error.to_string().contains("from.seq"), "{error}");
    }

    #[test]
    fn times_stand_beside_positions() {
        let all = [at(9, 1, 3), others_since(77), all_since(1_763_000_000_000_000_000), all_since(-5)];
        let cursor = decode(&encode(&all, &key()), &key()).expect("a cursor");
        assert_eq!(cursor, Cursor { next: vec![at(9, 1, 3)], others_ns: Some(77), all_ns: Some(0) });
        assert_eq!((cursor.since_ns(), cursor.is_empty()), (Some(0), false));
        assert_eq!(decode_unverified(&encode(&all, &key())), Ok(vec![at(9, 1, 3)]));
        assert!(decode(&encode(&[], &key()), &key()).is_ok_and(|cursor| cursor.is_empty()));
    }

    #[test]
    fn each_way_to_be_wrong_has_its_answer() {
        let good = encode(&[at(1, 2, 3)], &key());
        let other_key = CursorKey::new(b"another secret of tests");
        assert_eq!(decode(&good, &other_key), Err(CursorError::BadSignature));
        assert_eq!(decode_unverified(&good), Ok(vec![at(1, 2, 3)]));
        // Version 1 had no signature.
        assert_eq!(decode("AQABAAAAAwM", &key()), Err(CursorError::OtherVersion(1)));
        let long = "A".repeat(CURSOR_BYTES_MAX + 1);
        assert_eq!(decode(&long, &key()), Err(CursorError::TooLong));
        for text in ["", "!", "not a cursor", "Ag", "AgAA", &format!("{good}="), &format!(" {good}")] {
            assert_eq!(decode(text, &key()), Err(CursorError::Malformed), "{text:?}");
        }
        let topic = |epoch: u8, rest: &[u8]| [&[epoch, 0, 0, 0], rest].concat();
        for (what, body) in [
            ("a number cut off", topic(1, &[1, 2, 0x80])),
            ("an epoch cut off", vec![1, 0, 0]),
            ("a topic without partitions", topic(1, &[0])),
            ("fewer partitions than it says", topic(1, &[2, 0, 5])),
            ("many more", topic(1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 5])),
            ("topics that do not ascend", [topic(2, &[1, 0, 5]), topic(2, &[1, 1, 5])].concat()),
            ("a partition over 32 bits", topic(1, &[1, 0x80, 0x80, 0x80, 0x80, 0x10, 5])),
            (
                "an offset over 64 bits",
                topic(1, &[1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]),
            ),
        ] {
            let text = signed(&[&[VERSION][..], &body].concat());
            assert_eq!(decode(&text, &key()), Err(CursorError::Malformed), "{what}");
        }
    }

    #[test]
    fn a_key_shows_nothing() {
        assert_eq!(format!("{:?}", key()), "CursorKey");
    }

    fn positions() -> impl Strategy<Value = Vec<Position>> {
        let offset = prop_oneof![0..200u64, any::<u64>()];
        let partition = prop_oneof![0..20u32, any::<u32>()];
        proptest::collection::vec((1..5u32, partition, offset).prop_map(|(e, p, o)| at(e, p, o)), 0..40)
    }

    proptest! {
        #[test]
        fn reads_back(mut positions in positions(), secret: Vec<u8>) {
            let key = CursorKey::new(&secret);
            let text = encode(&positions, &key);
            positions.sort();
            positions.dedup_by_key(|p| (p.epoch, p.partition));
            prop_assert_eq!(decode(&text, &key).map(|cursor| cursor.next), Ok(positions.clone()));
            prop_assert_eq!(decode_unverified(&text), Ok(positions.clone()));
            // One text for what is the same.
            positions.reverse();
            prop_assert_eq!(encode(&positions, &key), text);
        }

        #[test]
        fn no_change_goes_unnoticed(positions in positions(), at: prop::sample::Index, bit in 0..8u32) {
            let text = encode(&positions, &key());
            let mut bytes = URL_SAFE_NO_PAD.decode(&text).expect("base64");
            *at.get_mut(&mut bytes) ^= 1 << bit;
            prop_assert!(decode(&URL_SAFE_NO_PAD.encode(&bytes), &key()).is_err());
            bytes.truncate(at.index(bytes.len()));
            prop_assert!(decode(&URL_SAFE_NO_PAD.encode(&bytes), &key()).is_err());
        }

        #[test]
        fn never_panics_on_texts(text in "\\PC{0,60}|[A-Za-z0-9_-]{0,60}") {
            prop_assert!(decode(&text, &key()).is_err());
        }

        /// What a gateway with the same key may have signed, and what it never would.
        #[test]
        fn never_panics_on_what_is_signed(body in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(Cursor { next: positions, .. }) = decode(&signed(&[&[VERSION][..], &body].concat()), &key()) {
                prop_assert!(positions.is_sorted() && positions.len() <= body.len() / 2);
                let again = decode(&encode(&positions, &key()), &key());
                prop_assert_eq!(again.map(|cursor| cursor.next), Ok(positions));
            }
        }
    }
}
