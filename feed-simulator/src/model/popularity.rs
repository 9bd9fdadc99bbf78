//! How activity is spread over symbols: a broken power law of the rank.
//!
//! Over 7,123 US symbols of one day, the share of the symbol of rank `r` falls like `r^-0.85` down to rank 500 and like
//! `r^-1.5` after it: the first symbol holds 7 % of the activity, the first 500 hold 7 tenths, the long tail is nearly
//! silent.

use rand::Rng;
use rand_distr::Distribution;
use rand_distr::weighted::WeightedAliasIndex;

const RANK_BREAK: f64 = 500.0;
const EXPONENT_HEAD: f64 = 0.85;
const EXPONENT_TAIL: f64 = 1.5;

/// The weight of the symbol of `rank` (counted from 0), relative to the first one's 1.0.
pub fn weight(rank: usize) -> f64 {
    let rank = rank as f64 + 1.0;
    if rank <= RANK_BREAK {
        rank.powf(-EXPONENT_HEAD)
    } else {
        RANK_BREAK.powf(-EXPONENT_HEAD) * (rank / RANK_BREAK).powf(-EXPONENT_TAIL)
    }
}

/// Draws symbols by popularity, from everything or from one group. Symbol `i` belongs to group `i % groups`.
#[derive(Debug)]
pub(crate) struct Popularity {
    groups: Vec<WeightedAliasIndex<f64>>,
    group_weights: Vec<f64>,
}

impl Popularity {
    /// `symbols` and `groups` are at least 1; there are never more groups than symbols.
    pub(crate) fn new(symbols: usize, groups: usize) -> Self {
        let groups = groups.clamp(1, symbols);
        let total: f64 = (0..symbols).map(weight).sum();
        let members = |group: usize| (group..symbols).step_by(groups).map(|rank| weight(rank) / total);
        Self {
            group_weights: (0..groups).map(|group| members(group).sum()).collect(),
            groups: (0..groups)
                .map(|group| {
                    WeightedAliasIndex::new(members(group).collect())
                        .expect("weights are positive and finite")
                })
                .collect(),
        }
    }

    /// The share of all activity that each group has; the shares add up to 1.
    pub(crate) fn group_weights(&self) -> &[f64] {
        &self.group_weights
    }

    /// The group of a symbol.
    pub(crate) fn group_of(&self, symbol: u32) -> usize {
        symbol as usize % self.groups.len()
    }

    /// A symbol of `group`.
    pub(crate) fn draw_in<R: Rng>(&self, group: usize, rng: &mut R) -> u32 {
        let member = self.groups[group].sample(rng);
        u32::try_from(member * self.groups.len() + group).expect("symbol counts are checked to fit")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    /// Shares of dollar volume of 7,123 US symbols on 2014-03-31, measured: top 10, 100, 500 and 1,000.
    #[test]
    fn shares_of_the_head_are_those_of_a_real_universe() {
        let total: f64 = (0..7_123).map(weight).sum();
        for (top, real) in [(1usize, 0.066), (100, 0.406), (500, 0.714), (1_000, 0.854)] {
            let share = (0..top).map(weight).sum::<f64>() / total;
            assert!((share / real - 1.0).abs() < 0.35, "top {top}: {share:.3}, real {real}");
        }
    }

    #[test]
    fn draws_follow_the_weights() {
        let popularity = Popularity::new(100, 8);
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut counts = [0u32; 100];
        let draws = 200_000;
        for i in 0..draws {
            let wanted = f64::from(i) / f64::from(draws);
            let mut sum = 0.0;
            let group = popularity.group_weights().iter().position(|w| {
                sum += w;
                wanted < sum
            });
            counts[popularity.draw_in(group.unwrap_or(7), &mut rng) as usize] += 1;
        }
        let total: f64 = (0..100).map(weight).sum();
        for rank in [0usize, 1, 9, 50] {
            let expected = weight(rank) / total * f64::from(draws);
            assert!((f64::from(counts[rank]) / expected - 1.0).abs() < 0.1, "rank {rank}: {}", counts[rank]);
        }
    }
}
