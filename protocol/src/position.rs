//! Where an event came from: topic epoch, partition and offset.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The position of a Kafka record, the same on every gateway and after every restart.
///
/// Its text, `<epoch>:<partition>:<offset>` with the epoch in hexadecimal, is the `seq` of an event.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Short hash of the broker's topic id: a re-created topic has another.
    pub epoch: u32,
    /// Kafka partition.
    pub partition: u32,
    /// Kafka offset.
    pub offset: u64,
}

/// A text is not a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a position: expected <epoch in hex>:<partition>:<offset>")]
pub struct NotPosition;

impl Position {
    /// Whether `self` is at or below `other` on the same partition of the same topic: a duplicate, by the client's rule.
    pub fn is_at_or_before(self, other: Self) -> bool {
        self.epoch == other.epoch && self.partition == other.partition && self.offset <= other.offset
    }

    /// Whether `self` is below `other` on the same partition of the same topic: of a cursor's position, which is the next
    /// to read, whether `self` was given already.
    pub fn is_before(self, other: Self) -> bool {
        self.epoch == other.epoch && self.partition == other.partition && self.offset < other.offset
    }

    /// Appends the text of the position, without quotes.
    pub fn write(self, out: &mut Vec<u8>) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let digits = (32 - self.epoch.leading_zeros()).div_ceil(4).max(1);
        for digit in (0..digits).rev() {
            out.push(HEX[((self.epoch >> (digit * 4)) & 15) as usize]);
        }
        let mut buffer = itoa::Buffer::new();
        out.push(b':');
        out.extend_from_slice(buffer.format(self.partition).as_bytes());
        out.push(b':');
        out.extend_from_slice(buffer.format(self.offset).as_bytes());
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}:{}:{}", self.epoch, self.partition, self.offset)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Position {
    type Err = NotPosition;
    fn from_str(text: &str) -> Result<Self, NotPosition> {
        let mut parts = text.split(':');
        let (Some(epoch), Some(partition), Some(offset), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NotPosition);
        };
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_hexdigit());
        if !digits(epoch) || !digits(partition) || !digits(offset) {
            return Err(NotPosition);
        }
        Ok(Self {
            epoch: u32::from_str_radix(epoch, 16).map_err(|_| NotPosition)?,
            partition: partition.parse().map_err(|_| NotPosition)?,
            offset: offset.parse().map_err(|_| NotPosition)?,
        })
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_is_not_a_position() {
        for text in ["", "1:2", "1:2:3:4", "x:1:2", "1:-1:2", "1:1:+2", "100000000:1:2", "1: 1:2"] {
            assert_eq!(text.parse::<Position>(), Err(NotPosition), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn both_writers_agree_and_read_back(epoch: u32, partition: u32, offset: u64) {
            let position = Position { epoch, partition, offset };
            let mut out = Vec::new();
            position.write(&mut out);
            let text = String::from_utf8(out).unwrap();
            prop_assert_eq!(&text, &position.to_string());
            prop_assert_eq!(text.parse::<Position>(), Ok(position));
        }
    }
}
