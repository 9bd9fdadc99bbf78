//! One partition: batches in offset order, bounded by bytes. Plain data, without sockets or clocks.

use crate::batch::{Batch, Sequence};
use crate::producers::{Producers, Verdict};
use bytes::{Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use std::collections::VecDeque;

/// There is one leader and it never changes, so neither does its epoch.
pub(crate) const LEADER_EPOCH: i32 = 0;

/// What a read found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slice {
    /// Whole batches, the first of which holds the offset asked for.
    pub(crate) batches: Vec<Bytes>,
    /// Sum of their sizes.
    pub(crate) bytes: usize,
}

impl Slice {
    /// The batches as one piece, without copying when there is only one.
    pub(crate) fn join(mut self) -> Bytes {
        if self.batches.len() <= 1 {
            return self.batches.pop().unwrap_or_default();
        }
        let mut joined = BytesMut::with_capacity(self.bytes);
        self.batches.iter().for_each(|batch| joined.extend_from_slice(batch));
        joined.freeze()
    }
}

/// A partition's log.
///
/// Holds at most `bytes_max` bytes, but always at least the newest batch: the ceiling is the larger of `bytes_max` and
/// one batch.
#[derive(Debug)]
pub(crate) struct Log {
    batches: VecDeque<Batch>,
    low: i64,
    high: i64,
    bytes: usize,
    bytes_max: usize,
    producers: Producers,
}

impl Log {
    pub(crate) fn new(bytes_max: usize) -> Log {
        Log {
            batches: VecDeque::new(),
            low: 0,
            high: 0,
            bytes: 0,
            bytes_max,
            producers: Producers::default(),
        }
    }

    /// First offset that can be read.
    pub(crate) fn low(&self) -> i64 {
        self.low
    }

    /// Offset the next record gets.
    pub(crate) fn high(&self) -> i64 {
        self.high
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Stores a checked batch, unless it is a producer's retry of one already stored, and evicts the oldest over the
    /// bound. Returns the offset of its first record.
    pub(crate) fn append(&mut self, batch: &Batch, sequence: Option<Sequence>) -> Result<i64, ResponseError> {
        if let Some(sequence) = &sequence {
            match self.producers.judge(sequence) {
                Verdict::New => self.producers.remember(sequence, self.high),
                Verdict::Duplicate(base_offset) => return Ok(base_offset),
                Verdict::Refused(code) => return Err(code),
            }
        }
        let placed = batch.place(self.high, LEADER_EPOCH);
        let base_offset = placed.base_offset;
        self.high = placed.end_offset();
        self.bytes += placed.len();
        self.batches.push_back(placed);
        while self.bytes > self.bytes_max && self.evict_oldest() {}
        Ok(base_offset)
    }

    /// Drops the oldest batch, unless it is the only one. Tells whether it did.
    pub(crate) fn evict_oldest(&mut self) -> bool {
        if self.batches.len() < 2 {
            return false;
        }
        let Some(oldest) = self.batches.pop_front() else { return false };
        self.bytes -= oldest.len();
        self.low = self.low.max(oldest.end_offset());
        true
    }

    /// Makes everything before `offset` unreadable, also in mid-batch, and returns the new low watermark.
    ///
    /// # Errors
    /// `OffsetOutOfRange` past the high watermark.
    pub(crate) fn truncate_before(&mut self, offset: i64) -> Result<i64, ResponseError> {
        if offset > self.high {
            return Err(ResponseError::OffsetOutOfRange);
        }
        self.low = self.low.max(offset);
        while self.batches.front().is_some_and(|oldest| oldest.end_offset() <= self.low) {
            self.bytes -= self.batches.pop_front().map_or(0, |oldest| oldest.len());
        }
        Ok(self.low)
    }

    /// Reads whole batches from the one that holds `offset`, up to `bytes_max`; the first comes whatever its size if
    /// `at_least_one`.
    ///
    /// # Errors
    /// `OffsetOutOfRange` below the low and above the high watermark.
    pub(crate) fn read(
        &self,
        offset: i64,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Result<Slice, ResponseError> {
        if offset < self.low || offset > self.high {
            return Err(ResponseError::OffsetOutOfRange);
        }
        let mut slice = Slice::default();
        for batch in self.batches.range(self.index_of(offset)..) {
            let first = slice.batches.is_empty() && at_least_one;
            if !first && slice.bytes + batch.len() > bytes_max {
                break;
            }
            slice.bytes += batch.len();
            slice.batches.push(batch.bytes.clone());
        }
        Ok(slice)
    }

    /// First readable record with at least this timestamp, as (offset, timestamp).
    pub(crate) fn find_time(&self, timestamp_ms: i64) -> Option<(i64, i64)> {
        // Timestamps need not grow with offsets, so this has to be a scan in log order.
        self.batches.iter().find_map(|batch| batch.find_time(timestamp_ms, self.low))
    }

    /// The record with the latest timestamp, as (offset, timestamp); the first of several.
    pub(crate) fn find_latest_time(&self) -> Option<(i64, i64)> {
        let latest_ms = self.batches.iter().filter_map(|batch| batch.latest_ms(self.low)).max()?;
        self.find_time(latest_ms)
    }

    /// Index of the batch that holds `offset`, or one past the last.
    fn index_of(&self, offset: i64) -> usize {
        self.batches.partition_point(|batch| batch.end_offset() <= offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{build, build::sequenced};
    use proptest::prelude::*;

    fn batch(timestamps_ms: &[i64], value_bytes: usize) -> Batch {
        Batch::check(&build::batch(timestamps_ms, value_bytes)).unwrap().0
    }

    #[derive(Debug, Clone)]
    enum Step {
        Append { records: usize, value_bytes: usize },
        Truncate { back: i64 },
        Evict,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (1usize..20, 0usize..200).prop_map(|(records, value_bytes)| Step::Append { records, value_bytes }),
            1 => (-2i64..50).prop_map(|back| Step::Truncate { back }),
            1 => Just(Step::Evict),
        ]
    }

    proptest! {
        /// After any sequence of steps: offsets are contiguous, the bound holds, and every readable offset is found in
        /// the batch that holds it, while nothing outside the watermarks is.
        #[test]
        fn the_log_keeps_its_promises(steps in prop::collection::vec(step(), 1..80), bytes_max in 0usize..8_000) {
            let mut log = Log::new(bytes_max);
            let mut high = 0;
            for step in steps {
                let low = log.low();
                match step {
                    Step::Append { records, value_bytes } => {
                        let batch = batch(&vec![high; records], value_bytes);
                        prop_assert_eq!(log.append(&batch, None), Ok(high));
                        high += records as i64;
                    }
                    Step::Truncate { back } => match log.truncate_before(high - back) {
                        Ok(now) => prop_assert_eq!(now, low.max(high - back)),
                        Err(_) => prop_assert!(back < 0),
                    },
                    Step::Evict => { log.evict_oldest(); }
                }
                prop_assert!(log.low() >= low && log.low() <= log.high());
                prop_assert_eq!(log.high(), high);
                prop_assert_eq!(log.bytes(), log.batches.iter().map(Batch::len).sum::<usize>());
                prop_assert!(log.bytes() <= bytes_max.max(log.batches.back().map_or(0, Batch::len)));
                let mut next = log.batches.front().map_or(log.high(), |batch| batch.base_offset);
                prop_assert!(next <= log.low());
                for batch in &log.batches {
                    prop_assert_eq!(batch.base_offset, next);
                    next = batch.end_offset();
                }
                prop_assert_eq!(next, log.high());
            }
            prop_assert!(log.read(log.low() - 1, 1, true).is_err());
            prop_assert!(log.read(log.high() + 1, 1, true).is_err());
            prop_assert_eq!(log.read(log.high(), 1, true).unwrap().bytes, 0);
            for offset in log.low()..log.high() {
                let slice = log.read(offset, 0, true).unwrap();
                prop_assert_eq!(slice.batches.len(), 1);
                let (found, _) = Batch::check(&slice.batches[0]).unwrap();
                prop_assert!((found.base_offset..found.end_offset()).contains(&offset));
            }
        }

        /// Look-up by time equals the plain definition, for timestamps in any order.
        #[test]
        fn time_look_up_is_exact(
            batches in prop::collection::vec(prop::collection::vec(0i64..50, 1..6), 1..12),
            asked in 0i64..55,
            cut in 0i64..40,
        ) {
            let mut log = Log::new(usize::MAX);
            for timestamps in &batches {
                log.append(&batch(timestamps, 3), None).unwrap();
            }
            let cut = cut.min(log.high());
            log.truncate_before(cut).unwrap();
            let all: Vec<i64> = batches.concat();
            let expected = (cut..log.high()).find(|&offset| all[offset as usize] >= asked);
            prop_assert_eq!(log.find_time(asked), expected.map(|offset| (offset, all[offset as usize])));
        }
    }

    #[test]
    fn reads_respect_the_size_but_always_move() {
        let mut log = Log::new(usize::MAX);
        let size = batch(&[0], 100).len();
        for _ in 0..5 {
            log.append(&batch(&[0], 100), None).unwrap();
        }
        assert_eq!(log.read(1, size * 2 + 1, true).unwrap().batches.len(), 2);
        assert_eq!(log.read(1, 10, true).unwrap().batches.len(), 1);
        assert_eq!(log.read(1, 10, false).unwrap().batches.len(), 0);
        assert_eq!(log.read(2, usize::MAX, true).unwrap().join().len(), size * 3);
    }

    #[test]
    fn a_retry_is_stored_once() {
        let mut log = Log::new(usize::MAX);
        let first = Batch::check(&sequenced(&[1, 2], 3, 9, 0, 0)).unwrap();
        let second = Batch::check(&sequenced(&[3], 3, 9, 0, 2)).unwrap();
        assert_eq!(log.append(&first.0, first.1), Ok(0));
        assert_eq!(log.append(&second.0, second.1), Ok(2));
        assert_eq!(log.append(&first.0, first.1), Ok(0));
        assert_eq!(log.high(), 3);
    }
}
