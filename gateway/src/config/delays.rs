//! Data that comes late to those who may not see it fresh: the section `[delays]`.

/// The longest delay: a day.
pub(super) const DELAY_S_MAX: u64 = 86_400;
/// Delays at most: each costs nearly what the live feed costs.
pub const DELAYS_MAX: usize = 8;

/// Data that comes late.
#[derive(Debug, Clone, PartialEq)]
pub struct DelaysConfig {
    /// The delays that sessions may have, in seconds.
    pub delayed_s: Vec<u64>,
    /// Delay of sessions of which nothing else is known, in seconds; 0 is none.
    pub default_s: u64,
    /// Partitions that each delay reads.
    pub partitions_max: usize,
}

impl Default for DelaysConfig {
    fn default() -> Self {
        Self { delayed_s: Vec::new(), default_s: 0, partitions_max: 64 }
    }
}

/// How late a session gets its data: at once, or by one of the configured delays. All sessions of a tier share one reading of
/// Kafka, which is as late, and what is kept of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tier {
    /// Its number: 0 is live, the delays follow, the shortest first.
    pub number: usize,
    /// How late it is, in seconds.
    pub delay_s: u64,
}

impl Tier {
    /// At once.
    pub const LIVE: Self = Self { number: 0, delay_s: 0 };

    /// Whether nothing is held back.
    pub fn is_live(self) -> bool {
        self.delay_s == 0
    }

    /// How late it is, in milliseconds.
    pub fn delay_ms(self) -> u64 {
        self.delay_s * 1_000
    }

    /// How late it is, in nanoseconds.
    pub fn delay_ns(self) -> i64 {
        i64::try_from(self.delay_s).unwrap_or(i64::MAX).saturating_mul(1_000_000_000)
    }

    /// What is told of it: how late it is, if it is.
    pub fn delayed_s(self) -> Option<u64> {
        (!self.is_live()).then_some(self.delay_s)
    }
}

impl DelaysConfig {
    /// Every tier, by its number.
    pub fn tiers(&self) -> Vec<Tier> {
        let mut delays = self.delayed_s.clone();
        delays.sort_unstable();
        let numbered = std::iter::once(0).chain(delays).enumerate();
        numbered.map(|(number, delay_s)| Tier { number, delay_s }).collect()
    }

    /// The tier of whoever may see only what is `delay_s` seconds old: the one with the shortest delay that is as long.
    /// `None` when none is: nothing may be sent then.
    pub fn tier(&self, delay_s: u64) -> Option<Tier> {
        self.tiers().into_iter().find(|tier| tier.delay_s >= delay_s)
    }

    /// The longest delay, in milliseconds; 0 when there is none.
    pub fn longest_ms(&self) -> u64 {
        self.delayed_s.iter().copied().max().unwrap_or(0) * 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_a_shorter_delay_than_his() {
        let delays = DelaysConfig { delayed_s: vec![900, 60], ..DelaysConfig::default() };
        let of = |delay_s| delays.tier(delay_s).map(|tier| (tier.number, tier.delay_s));
        for (delay_s, tier) in [
            (0, Some((0, 0))),
            (1, Some((1, 60))),
            (60, Some((1, 60))),
            (61, Some((2, 900))),
            (900, Some((2, 900))),
            (901, None),
        ] {
            assert_eq!(of(delay_s), tier, "{delay_s}");
        }
        assert_eq!(DelaysConfig::default().tier(0), Some(Tier::LIVE));
        assert_eq!(DelaysConfig::default().tier(1), None);
    }
}
