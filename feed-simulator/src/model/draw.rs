//! Draws that several parts of a model share.

use rand::{Rng, RngExt};
use rand_distr::{Distribution, Exp1};

/// A size in lots, at least 1 and about `mean`: mostly small, sometimes ten times the mean.
pub(crate) fn lots<R: Rng>(mean: f64, rng: &mut R) -> u32 {
    let unit: f64 = Exp1.sample(rng);
    1 + (unit * unit * mean * 0.5) as u32
}

/// Whether something of `probability` happens.
pub(crate) fn chance<R: Rng>(probability: f64, rng: &mut R) -> bool {
    probability > 0.0 && rng.random::<f64>() < probability
}
