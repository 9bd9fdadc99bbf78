//! Cursors: the positions of every partition that a client was given, as one opaque text.

use crate::Position;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Longest cursor text that is read, in bytes.
pub const CURSOR_BYTES_MAX: usize = 4096;

const VERSION: u8 = 1;

/// A text is not a cursor of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of this gateway")]
pub struct NotCursor;

/// Encodes `positions`; sorted by epoch and partition they take about six bytes each.
pub fn encode(positions: &[Position]) -> String {
    let mut bytes = vec![VERSION];
    let mut epoch = None;
    for position in positions {
        // A partition number plus one; zero announces another epoch.
        if epoch != Some(position.epoch) {
            varint(&mut bytes, 0);
            bytes.extend_from_slice(&position.epoch.to_le_bytes());
            epoch = Some(position.epoch);
        }
        varint(&mut bytes, u64::from(position.partition) + 1);
        varint(&mut bytes, position.offset);
    }
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes what [`encode`] made.
///
/// # Errors
/// [`NotCursor`] for anything else, and for texts over [`CURSOR_BYTES_MAX`].
pub fn decode(text: &str) -> Result<Vec<Position>, NotCursor> {
    if text.len() > CURSOR_BYTES_MAX {
        return Err(NotCursor);
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NotCursor)?;
    let (&version, mut rest) = bytes.split_first().ok_or(NotCursor)?;
    if version != VERSION {
        return Err(NotCursor);
    }
    let mut epoch = None;
    let mut positions = Vec::new();
    while !rest.is_empty() {
        match read_varint(&mut rest)? {
            0 => {
                let (head, tail) = rest.split_first_chunk::<4>().ok_or(NotCursor)?;
                epoch = Some(u32::from_le_bytes(*head));
                rest = tail;
            }
            partition => positions.push(Position {
                epoch: epoch.ok_or(NotCursor)?,
                partition: u32::try_from(partition - 1).map_err(|_| NotCursor)?,
                offset: read_varint(&mut rest)?,
            }),
        }
    }
    Ok(positions)
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn read_varint(bytes: &mut &[u8]) -> Result<u64, NotCursor> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(NotCursor)?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            return Err(NotCursor);
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(NotCursor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn three_hundred_partitions_fit() {
        let positions: Vec<_> =
            (0..300).map(|partition| Position { epoch: 7, partition, offset: 1 << 40 }).collect();
        assert!(encode(&positions).len() <= CURSOR_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn reads_back(parts in proptest::collection::vec((any::<u32>(), any::<u32>(), any::<u64>()), 0..40)) {
            let positions: Vec<_> =
                parts.into_iter().map(|(epoch, partition, offset)| Position { epoch, partition, offset }).collect();
            prop_assert_eq!(decode(&encode(&positions)), Ok(positions));
        }

        #[test]
        fn never_panics(text in "[A-Za-z0-9_-]{0,60}") {
            let _ = decode(&text);
        }
    }
}
