//! What a partition remembers of idempotent producers, so that a retry after a lost answer is stored once.

use crate::batch::{Sequence, add_sequence};
use kafka_protocol::error::ResponseError;
use std::collections::{HashMap, VecDeque};

/// Batches remembered per producer: Kafka's own number, as clients keep at most five requests in flight.
const BATCHES_MAX: usize = 5;
/// Producers remembered per partition; the one silent for longest is forgotten first.
const PRODUCERS_MAX: usize = 1_000;

/// What to do with a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Store it.
    New,
    /// It is stored already, from this offset on.
    Duplicate(i64),
    /// Refuse it.
    Refused(ResponseError),
}

#[derive(Debug)]
struct Producer {
    epoch: i16,
    /// First and last sequence and base offset of the newest batches.
    batches: VecDeque<(i32, i32, i64)>,
    /// Log position of its newest batch, which orders producers by age.
    newest_offset: i64,
}

/// Sequence numbers of one partition.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    known: HashMap<i64, Producer>,
}

impl Producers {
    pub(crate) fn judge(&self, sequence: &Sequence) -> Verdict {
        let Some(producer) = self.known.get(&sequence.producer_id) else { return Verdict::New };
        if sequence.epoch < producer.epoch {
            return Verdict::Refused(ResponseError::InvalidProducerEpoch);
        }
        if sequence.epoch > producer.epoch {
            return if sequence.first == 0 {
                Verdict::New
            } else {
                Verdict::Refused(ResponseError::OutOfOrderSequenceNumber)
            };
        }
        let same = |&&(first, last, _): &&(i32, i32, i64)| (first, last) == (sequence.first, sequence.last);
        if let Some(&(_, _, offset)) = producer.batches.iter().find(same) {
            return Verdict::Duplicate(offset);
        }
        match producer.batches.back() {
            Some(&(_, last, _)) if add_sequence(last, 1) != sequence.first => {
                Verdict::Refused(ResponseError::OutOfOrderSequenceNumber)
            }
            _ => Verdict::New,
        }
    }

    /// Remembers a batch that was judged [`Verdict::New`] and stored at `base_offset`.
    pub(crate) fn remember(&mut self, sequence: &Sequence, base_offset: i64) {
        if !self.known.contains_key(&sequence.producer_id) && self.known.len() >= PRODUCERS_MAX {
            let oldest = self.known.iter().min_by_key(|(_, producer)| producer.newest_offset);
            if let Some(id) = oldest.map(|(&id, _)| id) {
                self.known.remove(&id);
            }
        }
        let fresh = || Producer { epoch: sequence.epoch, batches: VecDeque::new(), newest_offset: 0 };
        let producer = self.known.entry(sequence.producer_id).or_insert_with(fresh);
        if producer.epoch != sequence.epoch {
            producer.epoch = sequence.epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == BATCHES_MAX {
            producer.batches.pop_front();
        }
        producer.batches.push_back((sequence.first, sequence.last, base_offset));
        producer.newest_offset = base_offset;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(epoch: i16, first: i32, last: i32) -> Sequence {
        Sequence { producer_id: 7, epoch, first, last }
    }

    #[test]
    fn retries_are_found_and_holes_refused() {
        let mut producers = Producers::default();
        assert_eq!(producers.judge(&sequence(0, 0, 9)), Verdict::New);
        producers.remember(&sequence(0, 0, 9), 100);
        producers.remember(&sequence(0, 10, 10), 110);
        assert_eq!(producers.judge(&sequence(0, 0, 9)), Verdict::Duplicate(100));
        assert_eq!(producers.judge(&sequence(0, 11, 12)), Verdict::New);
        let hole = Verdict::Refused(ResponseError::OutOfOrderSequenceNumber);
        assert_eq!(producers.judge(&sequence(0, 12, 12)), hole);
        assert_eq!(producers.judge(&sequence(1, 0, 0)), Verdict::New);
        producers.remember(&sequence(1, 0, 0), 111);
        assert_eq!(
            producers.judge(&sequence(0, 11, 12)),
            Verdict::Refused(ResponseError::InvalidProducerEpoch)
        );
    }

    #[test]
    fn sequences_start_over_after_the_last() {
        let mut producers = Producers::default();
        producers.remember(&sequence(0, i32::MAX - 1, i32::MAX), 5);
        assert_eq!(producers.judge(&sequence(0, 0, 3)), Verdict::New);
    }

    #[test]
    fn memory_is_bounded() {
        let mut producers = Producers::default();
        for id in 0..(PRODUCERS_MAX as i64 + 10) {
            let sequence = Sequence { producer_id: id, epoch: 0, first: 0, last: 0 };
            producers.remember(&sequence, id);
        }
        assert_eq!(producers.known.len(), PRODUCERS_MAX);
        assert!(!producers.known.contains_key(&9) && producers.known.contains_key(&10));
    }
}
