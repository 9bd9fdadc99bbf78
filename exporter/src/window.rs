//! The last seconds of something that is only ever added to.

use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Copies of a histogram, taken when somebody scraped: what was recorded since is what a scrape shows.
///
/// Whoever scrapes less often than every [`Window::LENGTH`] sees all that came since the last time, whoever does so more often that
/// time at least: so several may scrape without taking anything from each other.
#[derive(Debug, Default)]
pub struct Window {
    /// When each was taken, oldest first. All but the first are younger than [`Window::LENGTH`].
    copies: VecDeque<(Instant, Histogram<u64>)>,
}

impl Window {
    /// How far it looks back at least.
    pub const LENGTH: Duration = Duration::from_secs(10);
    /// Copies that are kept: two a second, as the listener allows, and one to begin with.
    const COPIES_MAX: usize = 22;

    /// What was added to `total` within the window, which ends `now`; before the first copy, everything.
    pub fn latest(&mut self, now: Instant, total: Histogram<u64>) -> Histogram<u64> {
        let is_old = |taken: Instant| now.saturating_duration_since(taken) >= Self::LENGTH;
        while self.copies.get(1).is_some_and(|(taken, _)| is_old(*taken)) {
            self.copies.pop_front();
        }
        let mut latest = total.clone();
        if let Some((_, before)) = self.copies.front()
            && latest.subtract(before).is_err()
        {
            // It was begun anew meanwhile.
            latest = total.clone();
            self.copies.clear();
        }
        if self.copies.len() >= Self::COPIES_MAX {
            self.copies.pop_back();
        }
        self.copies.push_back((now, total));
        latest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks once for each second of `at_s`, each with one value more: how many of them it sees.
    fn seen(at_s: &[f64]) -> Vec<u64> {
        let (start, mut window) = (Instant::now(), Window::default());
        let mut total = Histogram::new(3).unwrap();
        let mut ask = |at_s: &f64| {
            total.record(1_000).unwrap();
            let seen = window.latest(start + Duration::from_secs_f64(*at_s), total.clone()).len();
            assert!(window.copies.len() <= Window::COPIES_MAX);
            seen
        };
        at_s.iter().map(&mut ask).collect()
    }

    #[test]
    fn it_looks_back_ten_seconds() {
        let each_second: Vec<f64> = (0..30).map(f64::from).collect();
        assert_eq!(seen(&each_second)[..3], [1, 1, 2], "the first asks for everything");
        assert_eq!(seen(&each_second)[29], 10);
        assert_eq!(seen(&[0.0, 4.0, 8.0, 12.0, 16.0, 20.0]), [1, 1, 2, 3, 3, 3]);
    }

    #[test]
    fn who_asks_seldom_misses_nothing() {
        assert_eq!(seen(&[0.0, 15.0, 30.0, 75.0]), [1, 1, 1, 1]);
    }

    #[test]
    fn who_asks_too_often_is_bounded() {
        let often: Vec<f64> = (0..200).map(|n| f64::from(n) / 100.0).collect();
        assert_eq!(seen(&often)[199], 199, "all since the first");
    }

    #[test]
    fn it_begins_anew_with_what_it_looks_at() {
        let (start, mut window) = (Instant::now(), Window::default());
        let at = |s| start + Duration::from_secs(s);
        let mut total = Histogram::<u64>::new(3).unwrap();
        total.record(1).unwrap();
        total.record_n(5, 7).unwrap();
        assert_eq!(window.latest(at(0), total.clone()).len(), 8);
        total.reset();
        // The first can be taken off and the others not: nothing of that may stay.
        total.record(1).unwrap();
        total.record_n(6, 2).unwrap();
        assert_eq!(window.latest(at(1), total.clone()), total);
        total.record_n(6, 3).unwrap();
        assert_eq!(window.latest(at(2), total).len(), 3);
    }
}
