//! Record batches of format 2, seen from the broker: checked once when they arrive, then carried as opaque bytes.
//!
//! Compressed records are never unpacked. Records of an uncompressed batch are walked once to check them, and again
//! only when somebody asks for an offset by time. Base offset and leader epoch, the two fields a broker fills in, lie
//! outside the checksum, so they are patched in place and everything else stays byte for byte what the client sent.

use bytes::{Bytes, BytesMut};
use kafka_protocol::error::ResponseError;

/// Size of the fixed part of a batch, in bytes.
pub(crate) const HEADER_BYTES: usize = 61;
/// Bytes before the part that `batch_length` counts.
const LENGTH_PREFIX_BYTES: usize = 12;
/// Where the checksummed part begins.
const CRC_START: usize = 21;
const COMPRESSION_MASK: i16 = 0x07;
const COMPRESSION_MAX: i16 = 4;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// Why a batch is refused: the code for the client and a sentence for its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ResponseError,
    pub(crate) why: &'static str,
}

const fn refuse(code: ResponseError, why: &'static str) -> Refusal {
    Refusal { code, why }
}

/// Who wrote a batch, for the duplicate check; `None` for producers that are not idempotent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sequence {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) first: i32,
    pub(crate) last: i32,
}

/// A checked batch, before or after it got its offset.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    /// Offset of the first record.
    pub(crate) base_offset: i64,
    /// Records in the batch, at least 1.
    pub(crate) records: i32,
    /// Latest record timestamp, milliseconds since 1970.
    pub(crate) max_timestamp_ms: i64,
    /// The whole batch in wire format.
    pub(crate) bytes: Bytes,
}

impl Batch {
    /// Offset after the last record.
    pub(crate) fn end_offset(&self) -> i64 {
        self.base_offset + i64::from(self.records)
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Checks one client batch: size, format, checksum, and (when not compressed) every record's frame.
    pub(crate) fn check(bytes: &Bytes) -> Result<(Batch, Option<Sequence>), Refusal> {
        use ResponseError::{CorruptMessage, InvalidRecord, InvalidTimestamp, UnsupportedCompressionType};
        if bytes.len() < HEADER_BYTES {
            return Err(refuse(CorruptMessage, "the batch is shorter than its header"));
        }
        if bytes[16] != 2 {
            return Err(refuse(InvalidRecord, "only record batches of format 2 are stored"));
        }
        let length = usize::try_from(i32_at(bytes, 8)).unwrap_or(0).saturating_add(LENGTH_PREFIX_BYTES);
        if length < HEADER_BYTES || length > bytes.len() {
            return Err(refuse(CorruptMessage, "the batch length does not fit the bytes sent"));
        }
        if length < bytes.len() {
            return Err(refuse(InvalidRecord, "one record batch per partition and request"));
        }
        if crc32c::crc32c(&bytes[CRC_START..]) != i32_at(bytes, 17) as u32 {
            return Err(refuse(CorruptMessage, "the checksum does not match"));
        }
        let attributes = i16_at(bytes, 21);
        if attributes & (TRANSACTIONAL | CONTROL) != 0 {
            return Err(refuse(InvalidRecord, "transactions are not supported"));
        }
        if attributes & LOG_APPEND_TIME != 0 {
            return Err(refuse(InvalidTimestamp, "clients may only send create time"));
        }
        let compression = attributes & COMPRESSION_MASK;
        if compression > COMPRESSION_MAX {
            return Err(refuse(UnsupportedCompressionType, "unknown compression"));
        }
        let records = i32_at(bytes, 57);
        if records < 1 || i32_at(bytes, 23).checked_add(1) != Some(records) {
            return Err(refuse(InvalidRecord, "the record count does not match the offsets"));
        }
        let mut max_timestamp_ms = i64_at(bytes, 35);
        if compression == 0 {
            let mut count = 0;
            max_timestamp_ms = i64::MIN;
            for record in Records::of(bytes) {
                let record = record.ok_or(refuse(InvalidRecord, "a record does not fit its batch"))?;
                if record.offset_delta != count {
                    return Err(refuse(InvalidRecord, "offsets in a batch count up by one"));
                }
                count += 1;
                max_timestamp_ms = max_timestamp_ms.max(record.timestamp_ms);
            }
            if count != records {
                return Err(refuse(InvalidRecord, "the record count does not match the records"));
            }
        }
        let base_offset = i64_at(bytes, 0);
        let batch = Batch { base_offset, records, max_timestamp_ms, bytes: bytes.clone() };
        Ok((batch, sequence_of(bytes, records)))
    }

    /// The same batch with its place in the log, in memory of its own: a slice would keep the whole request alive.
    pub(crate) fn place(&self, base_offset: i64, leader_epoch: i32) -> Batch {
        let mut bytes = BytesMut::from(&self.bytes[..]);
        bytes[0..8].copy_from_slice(&base_offset.to_be_bytes());
        bytes[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
        Batch { base_offset, bytes: bytes.freeze(), ..*self }
    }

    /// First record at or after `offset_min` whose timestamp is at least `timestamp_ms`, as (offset, timestamp).
    ///
    /// Exact when the batch is not compressed; otherwise the start of what may be read of the batch, with the
    /// batch's first timestamp: never later than the right answer.
    pub(crate) fn find_time(&self, timestamp_ms: i64, offset_min: i64) -> Option<(i64, i64)> {
        if self.max_timestamp_ms < timestamp_ms {
            return None;
        }
        if i16_at(&self.bytes, 21) & COMPRESSION_MASK != 0 {
            return Some((self.base_offset.max(offset_min), i64_at(&self.bytes, 27)));
        }
        Records::of(&self.bytes)
            .flatten()
            .map(|record| (self.base_offset + i64::from(record.offset_delta), record.timestamp_ms))
            .find(|&(offset, at_ms)| offset >= offset_min && at_ms >= timestamp_ms)
    }

    /// Latest timestamp at or after `offset_min`; that of the whole batch when it is compressed.
    pub(crate) fn latest_ms(&self, offset_min: i64) -> Option<i64> {
        if self.base_offset >= offset_min || i16_at(&self.bytes, 21) & COMPRESSION_MASK != 0 {
            return Some(self.max_timestamp_ms);
        }
        let readable = |record: &Record| self.base_offset + i64::from(record.offset_delta) >= offset_min;
        Records::of(&self.bytes).flatten().filter(readable).map(|record| record.timestamp_ms).max()
    }
}

/// What the walk over uncompressed records reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    offset_delta: i32,
    timestamp_ms: i64,
}

/// Walks the records of an uncompressed batch; yields `None` once, as its last item, where the bytes make no sense.
struct Records<'a> {
    rest: &'a [u8],
    base_timestamp_ms: i64,
}

impl<'a> Records<'a> {
    fn of(bytes: &'a [u8]) -> Records<'a> {
        Records { rest: &bytes[HEADER_BYTES..], base_timestamp_ms: i64_at(bytes, 27) }
    }

    fn step(&mut self) -> Option<Record> {
        let length = usize::try_from(varint(&mut self.rest)?).ok()?;
        if length > self.rest.len() {
            return None;
        }
        let (mut record, rest) = self.rest.split_at(length);
        self.rest = rest;
        record = record.get(1..)?; // record attributes: unused by the format so far
        let timestamp_ms = self.base_timestamp_ms.checked_add(varint(&mut record)?)?;
        let offset_delta = i32::try_from(varint(&mut record)?).ok()?;
        skip_field(&mut record)?; // key
        skip_field(&mut record)?; // value
        let headers = varint(&mut record)?;
        if headers < 0 {
            return None;
        }
        for _ in 0..headers {
            skip_field(&mut record)?;
            skip_field(&mut record)?;
        }
        record.is_empty().then_some(Record { offset_delta, timestamp_ms })
    }
}

impl Iterator for Records<'_> {
    type Item = Option<Record>;

    fn next(&mut self) -> Option<Option<Record>> {
        if self.rest.is_empty() {
            return None;
        }
        let record = self.step();
        if record.is_none() {
            self.rest = &[];
        }
        Some(record)
    }
}

fn sequence_of(bytes: &[u8], records: i32) -> Option<Sequence> {
    let producer_id = i64_at(bytes, 43);
    let first = i32_at(bytes, 53);
    let last = add_sequence(first, records - 1);
    (producer_id >= 0 && first >= 0).then_some(Sequence {
        producer_id,
        epoch: i16_at(bytes, 51),
        first,
        last,
    })
}

/// Sequence numbers run from 0 to `i32::MAX` and start over.
pub(crate) fn add_sequence(sequence: i32, by: i32) -> i32 {
    ((i64::from(sequence) + i64::from(by)) % (i64::from(i32::MAX) + 1)) as i32
}

/// Skips a length-prefixed field; a length of -1 is null.
fn skip_field(bytes: &mut &[u8]) -> Option<()> {
    let length = varint(bytes)?;
    if length >= 0 {
        *bytes = bytes.get(usize::try_from(length).ok()?..)?;
    }
    (length >= -1).then_some(())
}

/// A zigzag varint of up to 64 bits.
fn varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

fn i16_at(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Builds batches for the tests of this crate; the broker itself never writes one.
#[cfg(test)]
pub(crate) mod build {
    use super::{CRC_START, HEADER_BYTES, LENGTH_PREFIX_BYTES};
    use bytes::Bytes;

    fn put_varint(out: &mut Vec<u8>, value: i64) {
        let mut rest = ((value << 1) ^ (value >> 63)) as u64;
        while rest >= 0x80 {
            out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    }

    /// An uncompressed batch with one record per timestamp, each with a value of `value_bytes` bytes.
    pub(crate) fn batch(timestamps_ms: &[i64], value_bytes: usize) -> Bytes {
        sequenced(timestamps_ms, value_bytes, -1, -1, -1)
    }

    /// The same from an idempotent producer.
    pub(crate) fn sequenced(
        timestamps_ms: &[i64],
        value_bytes: usize,
        producer_id: i64,
        epoch: i16,
        sequence: i32,
    ) -> Bytes {
        let mut out = vec![0u8; HEADER_BYTES];
        for (index, at_ms) in timestamps_ms.iter().enumerate() {
            let mut record = vec![0u8];
            put_varint(&mut record, at_ms - timestamps_ms[0]);
            put_varint(&mut record, index as i64);
            put_varint(&mut record, -1);
            put_varint(&mut record, value_bytes as i64);
            record.resize(record.len() + value_bytes, b'v');
            put_varint(&mut record, 0);
            put_varint(&mut out, record.len() as i64);
            out.extend(record);
        }
        let count = timestamps_ms.len() as i32;
        out[16] = 2;
        out[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        out[27..35].copy_from_slice(&timestamps_ms[0].to_be_bytes());
        out[35..43].copy_from_slice(&timestamps_ms.iter().max().expect("some").to_be_bytes());
        out[43..51].copy_from_slice(&producer_id.to_be_bytes());
        out[51..53].copy_from_slice(&epoch.to_be_bytes());
        out[53..57].copy_from_slice(&sequence.to_be_bytes());
        out[57..61].copy_from_slice(&count.to_be_bytes());
        seal(&mut out);
        out.into()
    }

    /// Sets length and checksum to what the bytes are now.
    pub(crate) fn seal(out: &mut [u8]) {
        let length = (out.len() - LENGTH_PREFIX_BYTES) as i32;
        out[8..12].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c::crc32c(&out[CRC_START..]);
        out[17..21].copy_from_slice(&crc.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ResponseError::{CorruptMessage, InvalidRecord, InvalidTimestamp, UnsupportedCompressionType};

    fn refused(change: impl FnOnce(&mut Vec<u8>), reseal: bool) -> ResponseError {
        let mut bytes = build::batch(&[10, 20, 30], 5).to_vec();
        change(&mut bytes);
        if reseal {
            build::seal(&mut bytes);
        }
        Batch::check(&bytes.into()).expect_err("the change breaks the batch").code
    }

    #[test]
    fn a_good_batch_passes_and_keeps_its_facts() {
        let (batch, sequence) = Batch::check(&build::batch(&[10, 30, 20], 5)).unwrap();
        assert_eq!((batch.records, batch.max_timestamp_ms, sequence), (3, 30, None));
    }

    #[test]
    fn each_fault_has_its_code() {
        assert_eq!(refused(|b| b.truncate(40), false), CorruptMessage);
        assert_eq!(refused(|b| *b.last_mut().unwrap() ^= 1, false), CorruptMessage);
        assert_eq!(refused(|b| b.truncate(b.len() - 1), false), CorruptMessage);
        assert_eq!(refused(|b| b.push(0), false), InvalidRecord);
        assert_eq!(refused(|b| b[16] = 1, false), InvalidRecord);
        assert_eq!(refused(|b| b[60] = 4, true), InvalidRecord);
        assert_eq!(refused(|b| (b[26], b[60]) = (3, 4), true), InvalidRecord);
        assert_eq!(refused(|b| b[22] = 0x10, true), InvalidRecord);
        assert_eq!(refused(|b| b[22] = 0x08, true), InvalidTimestamp);
        assert_eq!(refused(|b| b[22] = 0x05, true), UnsupportedCompressionType);
        assert_eq!(refused(|b| b[HEADER_BYTES] = 0x7e, true), InvalidRecord);
        assert_eq!(refused(|b| b[8..12].copy_from_slice(&(-1i32).to_be_bytes()), false), CorruptMessage);
    }

    #[test]
    fn time_is_found_to_the_record() {
        let (batch, _) = Batch::check(&build::batch(&[10, 30, 20, 40], 5)).unwrap();
        let batch = batch.place(100, 0);
        assert_eq!(batch.find_time(0, 100), Some((100, 10)));
        assert_eq!(batch.find_time(15, 100), Some((101, 30)));
        assert_eq!(batch.find_time(15, 102), Some((102, 20)));
        assert_eq!(batch.find_time(40, 100), Some((103, 40)));
        assert_eq!(batch.find_time(41, 100), None);
    }

    #[test]
    fn placing_keeps_the_checksum_right() {
        let (batch, _) = Batch::check(&build::batch(&[1, 2], 9)).unwrap();
        let (again, _) = Batch::check(&batch.place(77, 3).bytes).unwrap();
        assert_eq!((again.base_offset, again.end_offset()), (77, 79));
    }
}
