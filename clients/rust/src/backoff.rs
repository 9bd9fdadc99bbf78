//! How long a client waits before it tries again: so that thousands that lost the same gateway do not all come at once.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::time::Duration;

/// Bound of the first wait, in milliseconds; it doubles with every attempt that failed.
const FIRST_MS: u64 = 100;
/// Bound of all waits.
const LAST_MS: u64 = 5_000;
/// The most that is believed of a `Retry-After`.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// How long a session has to be live so that its end is a first failure, and not one more: whoever takes everybody in and ends it at
/// once, as a gateway that crashes on what is asked of it, would be asked ten times a second.
const PROVEN_AFTER: Duration = Duration::from_secs(2);

/// Waits of one client.
#[derive(Debug)]
pub struct Backoff {
    attempts: u32,
    rng: ChaCha8Rng,
}

impl Backoff {
    /// The waits of a client that has not failed yet, drawn by `rng`.
    pub fn new(rng: ChaCha8Rng) -> Self {
        Self { attempts: 0, rng }
    }

    /// How long to wait before the next attempt, by chance: the first time up to the bound, later at least half of it.
    /// Who was told when to come again comes then, or up to half as much later.
    pub fn next(&mut self, retry_after: Option<Duration>) -> Duration {
        let bound_ms = FIRST_MS.saturating_mul(1 << self.attempts.min(16)).min(LAST_MS);
        let least_ms = if self.attempts == 0 { 0 } else { bound_ms / 2 };
        self.attempts += 1;
        match retry_after.map(|told| told.min(RETRY_AFTER_MAX)) {
            Some(told) => told.mul_f64(self.rng.random_range(1.0..1.5)),
            None => Duration::from_millis(self.rng.random_range(least_ms..=bound_ms)),
        }
    }

    /// How many attempts have failed since all was well.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// A session has ended that was live for so long: whether all was well shows in that.
    pub fn lived(&mut self, live: Duration) {
        if live >= PROVEN_AFTER {
            self.reset();
        }
    }

    /// It is well again: the next wait is a first one.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn waits_ms(seed: u64, count: usize) -> Vec<u128> {
        let mut backoff = Backoff::new(ChaCha8Rng::seed_from_u64(seed));
        (0..count).map(|_| backoff.next(None).as_millis()).collect()
    }

    #[test]
    fn waits_grow_to_a_bound() {
        for seed in 0..200 {
            let bounds = [(0, 100), (100, 200), (200, 400), (400, 800), (800, 1_600), (1_600, 3_200)];
            let bounds = bounds.into_iter().chain(std::iter::repeat((2_500, 5_000)));
            for (wait, (least, most)) in waits_ms(seed, 40).into_iter().zip(bounds) {
                assert!((least..=most).contains(&wait), "seed {seed}: {wait} of {least} to {most}");
            }
        }
    }

    #[test]
    fn clients_wait_differently_and_begin_anew_when_they_are_well() {
        assert_ne!(waits_ms(1, 5), waits_ms(2, 5));
        let mut backoff = Backoff::new(ChaCha8Rng::seed_from_u64(1));
        for _ in 0..10 {
            backoff.next(None);
        }
        backoff.reset();
        assert!(backoff.next(None) <= Duration::from_millis(100));
    }

    /// A session that was ended as soon as it was live made the next wait a first one.
    #[test]
    fn only_a_session_that_lasts_shows_that_all_is_well() {
        let mut backoff = Backoff::new(ChaCha8Rng::seed_from_u64(1));
        for attempts in 1..10 {
            backoff.lived(Duration::from_millis(1_999));
            backoff.next(None);
            assert_eq!(backoff.attempts(), attempts);
        }
        backoff.lived(Duration::from_secs(2));
        assert_eq!(backoff.attempts(), 0);
    }

    #[test]
    fn who_was_told_when_to_come_comes_then() {
        let mut backoff = Backoff::new(ChaCha8Rng::seed_from_u64(1));
        for (told_s, least_s, most_s) in [(1, 1.0, 1.5), (5, 5.0, 7.5), (100_000, 30.0, 45.0)] {
            let wait = backoff.next(Some(Duration::from_secs(told_s))).as_secs_f64();
            assert!((least_s..=most_s).contains(&wait), "{wait}");
        }
    }
}
