//! Batch marks: one order prints many trades.
//!
//! An order that sweeps a book is reported as one print per resting order it met, within milliseconds. Batch sizes
//! follow a Pareto law with exponent 1.2: the mean is about 4, but one order in 1,300 prints the capped maximum of 400.

use rand::{Rng, RngExt};

/// The distribution of batch sizes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch {
    /// Exponent of the Pareto law: the share of orders with at least `k` prints is `k^-exponent`.
    pub(crate) exponent: f64,
    /// Most prints of one order; 1 turns batches off.
    pub(crate) prints_max: u32,
    /// Mean time between two prints of one order.
    pub(crate) gap_ns: f64,
}

impl Batch {
    /// Prints of one order, at least 1.
    pub(crate) fn draw<R: Rng>(&self, rng: &mut R) -> u32 {
        if self.prints_max <= 1 {
            return 1;
        }
        let open = 1.0 - rng.random::<f64>();
        (open.powf(-1.0 / self.exponent) as u32).clamp(1, self.prints_max)
    }

    /// The mean of `prints^power` over all orders.
    pub(crate) fn moment(&self, power: f64) -> f64 {
        let at_least = |prints: u32| f64::from(prints).powf(-self.exponent);
        (1..=self.prints_max.max(1))
            .map(|k| {
                let probability =
                    if k < self.prints_max { at_least(k) - at_least(k + 1) } else { at_least(k) };
                probability * f64::from(k).powf(power)
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn drawn_batches_have_the_computed_mean_and_never_pass_the_cap() {
        let batch = Batch { exponent: 1.2, prints_max: 400, gap_ns: 1.0 };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let draws: Vec<u32> = (0..400_000).map(|_| batch.draw(&mut rng)).collect();
        assert_eq!(draws.iter().max(), Some(&400));
        assert_eq!(draws.iter().min(), Some(&1));
        let mean = draws.iter().map(|k| f64::from(*k)).sum::<f64>() / draws.len() as f64;
        assert!((mean / batch.moment(1.0) - 1.0).abs() < 0.03, "{mean} {}", batch.moment(1.0));
    }

    #[test]
    fn without_batches_every_order_prints_once() {
        let batch = Batch { exponent: 1.2, prints_max: 1, gap_ns: 1.0 };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        assert!((0..100).all(|_| batch.draw(&mut rng) == 1));
        assert_eq!(batch.moment(0.5), 1.0);
    }
}
