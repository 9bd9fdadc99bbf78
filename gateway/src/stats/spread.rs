//! How a quantity is spread over sessions, in a few cells that add up over shards.

/// Cells to each doubling: a value is told within a fifth.
const PER_DOUBLING: u32 = 4;
/// Up to 2^40, which is a terabyte, or twelve days in microseconds.
const CELLS: usize = 40 * PER_DOUBLING as usize;

/// How many sessions have how much. Those that have nothing are not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    cells: [u32; CELLS],
    count: u64,
    largest: u64,
}

impl Default for Spread {
    fn default() -> Self {
        Self { cells: [0; CELLS], count: 0, largest: 0 }
    }
}

impl Spread {
    /// Forgets everything.
    pub fn clear(&mut self) {
        if self.count > 0 {
            *self = Self::default();
        }
    }

    /// One more session has so much.
    pub fn add(&mut self, value: u64) {
        if value > 0 {
            self.cells[cell(value)] += 1;
            self.count += 1;
            self.largest = self.largest.max(value);
        }
    }

    /// Adds those of another shard.
    pub fn merge(&mut self, other: &Self) {
        for (into, from) in self.cells.iter_mut().zip(&other.cells) {
            *into += from;
        }
        self.count += other.count;
        self.largest = self.largest.max(other.largest);
    }

    /// What a fraction `quantile` of `sessions` do not exceed, those with nothing included; rounded up to the end of its
    /// cell, and 1 is the largest exactly.
    pub fn quantile(&self, quantile: f64, sessions: u64) -> u64 {
        if quantile >= 1.0 {
            return self.largest;
        }
        let total = sessions.max(self.count);
        // At least so many must be at or below it.
        let rank = (quantile * total as f64).ceil() as u64;
        let mut below = total - self.count;
        if rank <= below {
            return 0;
        }
        for (cell, count) in self.cells.iter().enumerate() {
            below += u64::from(*count);
            if rank <= below {
                return top(cell).min(self.largest);
            }
        }
        self.largest
    }
}

fn cell(value: u64) -> usize {
    let doubling = value.ilog2();
    // The two bits behind the first one.
    let part = if doubling < 2 { value << (2 - doubling) } else { value >> (doubling - 2) } & 3;
    ((doubling * PER_DOUBLING) as usize + part as usize).min(CELLS - 1)
}

/// The largest value of a cell.
fn top(cell: usize) -> u64 {
    let (doubling, part) = (cell as u32 / PER_DOUBLING, cell as u64 % u64::from(PER_DOUBLING));
    let end = (5 + part) << doubling;
    end.div_ceil(4) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn those_with_nothing_count() {
        let mut spread = Spread::default();
        assert_eq!(spread.quantile(0.5, 0), 0);
        assert_eq!(spread.quantile(1.0, 7), 0);
        spread.add(0);
        (0..10).for_each(|_| spread.add(1_000));
        spread.add(70_000);
        assert_eq!(spread.quantile(0.5, 1_000), 0, "most have nothing");
        assert!((1_000..1_250).contains(&spread.quantile(0.99, 1_000)), "{}", spread.quantile(0.99, 1_000));
        assert_eq!(spread.quantile(0.9999, 1_000), 70_000);
        assert_eq!(spread.quantile(1.0, 1_000), 70_000);
        spread.clear();
        assert_eq!(spread, Spread::default());
    }

    proptest! {
        #[test]
        fn a_quantile_is_never_too_small_and_at_most_a_quarter_too_large(
            values in proptest::collection::vec(1_u64..1 << 39, 1..200),
            split in 0_usize..200,
            quantile in 0.01_f64..1.0,
        ) {
            let (mut spread, mut other) = (Spread::default(), Spread::default());
            for (i, value) in values.iter().enumerate() {
                if i < split { spread.add(*value) } else { other.add(*value) }
            }
            spread.merge(&other);
            let mut sorted = values.clone();
            sorted.sort_unstable();
            let rank = (quantile * sorted.len() as f64).ceil() as usize;
            let exact = sorted[rank - 1];
            let told = spread.quantile(quantile, 0);
            prop_assert!(told >= exact && told <= exact + exact / 4 + 1, "{told} for {exact}");
        }

        #[test]
        fn each_value_is_in_its_cell(value in 1_u64..1 << 40) {
            let cell = cell(value);
            prop_assert!(value <= top(cell));
            prop_assert!(cell == 0 || value > top(cell - 1) || top(cell - 1) == top(cell));
        }
    }
}
