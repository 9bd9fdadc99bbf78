//! What a hot thread counts in: the cells of an HDR histogram without the histogram.
//!
//! The way into a [`Histogram`] checks what its caller may have got wrong and keeps extremes up to date: some 60
//! instructions per value, four times for each event delivered. Here it is a shift and an addition, to cells of the
//! same layout, so that what is counted goes into histograms later without loss.

use super::{DIGITS, HIGHEST_NS, LOWEST_NS, Negative, StageRecord};

/// Bits of a value that tell apart the cells of one power of two: twice what the digits need, as in HdrHistogram.
const HALF_BITS: u32 = (2 * 10_u32.pow(DIGITS as u32)).next_power_of_two().ilog2() - 1;
/// Bits of a value that tell nothing.
const UNIT_BITS: u32 = LOWEST_NS.ilog2();
const CELLS: usize = cell_of(HIGHEST_NS) + 1;
/// Cells looked at together; they come out even.
const CHUNK: usize = 16;
const _: () = assert!(CELLS.is_multiple_of(CHUNK));

/// The cell of a value: the first `2^(HALF_BITS + 1)` are one unit wide, and of each further `2^HALF_BITS` every one is
/// twice as wide as those before.
#[inline]
const fn cell_of(ns: u64) -> usize {
    // The power of two that the value is in, counted from that of the last of the narrowest cells.
    let power = (ns | ((2 << (HALF_BITS + UNIT_BITS)) - 1)).ilog2() - (HALF_BITS + UNIT_BITS);
    ((power as usize) << HALF_BITS) + (ns >> (power + UNIT_BITS)) as usize
}

/// The least value of a cell.
const fn least_of(cell: usize) -> u64 {
    let power = (cell >> HALF_BITS).saturating_sub(1) as u32;
    ((cell - ((power as usize) << HALF_BITS)) as u64) << (power + UNIT_BITS)
}

/// The values of one stage since the last [`Cells::empty_into`].
#[derive(Debug)]
pub(super) struct Cells {
    counts: Box<[u64; CELLS]>,
    /// Of values within the range. It takes 2^28 of the largest to overflow, more than a second's; a publication comes
    /// four times a second.
    sum_ns: u64,
    over_range_sum_ns: u128,
    negative: Negative,
    over_range: u64,
}

impl Cells {
    pub(super) const BYTES: usize = size_of::<[u64; CELLS]>();

    /// No values.
    pub(super) fn new() -> Self {
        Self {
            counts: Box::new([0; CELLS]),
            sum_ns: 0,
            over_range_sum_ns: 0,
            negative: Negative::default(),
            over_range: 0,
        }
    }

    /// Counts `n` values of `ns`; see [`super::Recorder::record_n`].
    #[inline]
    pub(super) fn record_n(&mut self, ns: i64, n: u64) {
        let value = ns as u64;
        if value > HIGHEST_NS {
            return self.record_unusual(ns, n);
        }
        self.sum_ns += value * n;
        self.counts[cell_of(value)] += n;
    }

    #[cold]
    fn record_unusual(&mut self, ns: i64, n: u64) {
        match u64::try_from(ns) {
            Ok(value) => {
                self.over_range_sum_ns += u128::from(value) * u128::from(n);
                self.over_range += n;
                self.counts[CELLS - 1] += n;
            }
            Err(_) => {
                self.negative.count += n;
                self.negative.sum_ns += u128::from(ns.unsigned_abs()) * u128::from(n);
                self.negative.largest_ns = self.negative.largest_ns.max(ns.unsigned_abs());
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
            && self.negative.count == 0
            && self.sum_ns == 0
            && self.over_range_sum_ns == 0
    }

    /// Adds everything to `into` and starts again from zero.
    pub(super) fn empty_into(&mut self, into: &mut StageRecord) {
        // Most are empty: a few at a time, these are passed over fast.
        for (chunk, counts) in self.counts.as_chunks_mut::<CHUNK>().0.iter_mut().enumerate() {
            if counts.iter().fold(0, |any, count| any | *count) == 0 {
                continue;
            }
            for (i, count) in counts.iter_mut().enumerate().filter(|(_, count)| **count > 0) {
                into.histogram.saturating_record_n(least_of(chunk * CHUNK + i), std::mem::take(count));
            }
        }
        into.sum_ns +=
            u128::from(std::mem::take(&mut self.sum_ns)) + std::mem::take(&mut self.over_range_sum_ns);
        into.negative.add(std::mem::take(&mut self.negative));
        into.over_range += std::mem::take(&mut self.over_range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::Histogram;
    use proptest::prelude::*;

    fn histogram() -> Histogram<u64> {
        Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, DIGITS).expect("bounds that it accepts")
    }

    #[test]
    fn there_is_a_cell_for_every_cell_of_a_histogram() {
        assert_eq!(CELLS, histogram().distinct_values());
        for cell in 0..CELLS {
            assert_eq!(cell_of(least_of(cell)), cell);
            if cell > 0 {
                assert_eq!(cell_of(least_of(cell) - 1), cell - 1);
            }
        }
    }

    proptest! {
        #[test]
        fn a_cell_is_what_a_histogram_makes_of_a_value(ns in 0..=HIGHEST_NS, bits in 0..36_u32) {
            let (ns, histogram) = (ns >> bits, histogram());
            prop_assert_eq!(least_of(cell_of(ns)), histogram.lowest_equivalent(ns));
        }
    }
}
