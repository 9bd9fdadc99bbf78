//! Records written by hand, which is how one writes what no producer of ours would: records that nobody can read.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use super::probe::{Cursor, ask};

const PRODUCE: i16 = 0;
const VERSION: i16 = 3;
const TIMEOUT_MS: i32 = 2_000;

/// Writes `values`, without keys, to a partition of a topic.
pub fn produce(broker: SocketAddr, topic: &str, partition: i32, values: &[&[u8]]) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("this machine's clock is before 1970")?;
    produce_at(broker, topic, partition, i64::try_from(now.as_millis())?, values)
}

/// The same, by a clock of ours.
pub fn produce_at(
    broker: SocketAddr,
    topic: &str,
    partition: i32,
    at_ms: i64,
    values: &[&[u8]],
) -> Result<()> {
    let batch = batch(at_ms, values);
    let mut body = Vec::new();
    body.extend((-1_i16).to_be_bytes()); // no transaction
    body.extend(1_i16.to_be_bytes()); // the leader confirms
    body.extend(TIMEOUT_MS.to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    body.extend(i16::try_from(topic.len()).context("a topic with a name that long")?.to_be_bytes());
    body.extend(topic.as_bytes());
    body.extend(1_i32.to_be_bytes());
    body.extend(partition.to_be_bytes());
    body.extend((batch.len() as i32).to_be_bytes());
    body.extend(batch);
    let answer =
        ask(broker, PRODUCE, VERSION, &body).with_context(|| format!("writing to {topic} at {broker}"))?;
    match error(&answer) {
        Some(0) => Ok(()),
        other => bail!("{broker} does not take a record for {topic}: error {other:?}"),
    }
}

/// The error of the one partition in an answer.
fn error(answer: &[u8]) -> Option<i16> {
    let mut cursor = Cursor(answer);
    cursor.i32()?; // topics
    cursor.string()?;
    cursor.i32()?; // partitions
    cursor.i32()?;
    cursor.i16()
}

/// A batch of records, version 2.
fn batch(now_ms: i64, values: &[&[u8]]) -> Vec<u8> {
    let mut checked = Vec::new();
    checked.extend(0_i16.to_be_bytes()); // neither compressed nor transactional
    checked.extend((values.len() as i32 - 1).to_be_bytes());
    checked.extend(now_ms.to_be_bytes());
    checked.extend(now_ms.to_be_bytes());
    checked.extend((-1_i64).to_be_bytes()); // no producer id, epoch or sequence
    checked.extend((-1_i16).to_be_bytes());
    checked.extend((-1_i32).to_be_bytes());
    checked.extend((values.len() as i32).to_be_bytes());
    for (index, value) in values.iter().enumerate() {
        let mut record = vec![0]; // attributes
        varint(&mut record, 0); // later than the first by
        varint(&mut record, index as i64);
        varint(&mut record, -1); // no key
        varint(&mut record, value.len() as i64);
        record.extend(*value);
        varint(&mut record, 0); // headers
        varint(&mut checked, record.len() as i64);
        checked.extend(record);
    }
    let mut batch = Vec::new();
    batch.extend(0_i64.to_be_bytes());
    batch.extend((4 + 1 + 4 + checked.len() as i32).to_be_bytes());
    batch.extend((-1_i32).to_be_bytes());
    batch.push(2);
    batch.extend(crc32c(&checked).to_be_bytes());
    batch.extend(checked);
    batch
}

/// A number, zigzag, seven bits a byte.
fn varint(out: &mut Vec<u8>, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Castagnoli's checksum, a bit at a time: there are few bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_numbers_are_as_kafka_has_them() {
        // The check value that the definition of the sum has.
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        for (number, expected) in [(0, &[0][..]), (-1, &[1]), (1, &[2]), (-65, &[0x81, 1]), (300, &[0xD8, 4])]
        {
            let mut bytes = Vec::new();
            varint(&mut bytes, number);
            assert_eq!(bytes, expected, "{number}");
        }
    }

    #[test]
    fn a_batch_says_how_long_it_is() {
        let batch = batch(1, &[b"one", b"three"]);
        assert_eq!(batch[8..12], (batch.len() as i32 - 12).to_be_bytes());
        assert_eq!(batch[57..61], 2_i32.to_be_bytes());
        // Length, attributes, two deltas, no key, then the value.
        assert_eq!(batch[61..70], [18, 0, 0, 0, 1, 6, b'o', b'n', b'e']);
    }

    #[test]
    fn errors_are_read() {
        let answer = [&[0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0, 0, 3][..], &[0; 20]].concat();
        assert_eq!(error(&answer), Some(3));
        assert_eq!(error(&answer[..16]), None);
    }
}
