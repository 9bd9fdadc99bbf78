//! The bursts that a rate per second hides: the most ticks that came within ten milliseconds, and within a hundred.

use crate::latency::LatencyWindow;

/// Lengths of the windows that are counted in, in milliseconds.
pub const WINDOWS_MS: [u64; 2] = [10, 100];
/// How far back a peak is remembered, in seconds: at least as far as the quantiles look.
const REMEMBERED_S: usize = (LatencyWindow::LENGTH_NS / 1_000_000_000) as usize + 2;

/// Of one feed. Windows stand side by side: one that lies across two of them counts for less, at worst for half.
#[derive(Debug, Clone, Default)]
pub struct Peaks {
    windows: [Window; WINDOWS_MS.len()],
}

#[derive(Debug, Clone, Default)]
struct Window {
    /// Which one is being counted, and what was.
    number: u64,
    ticks: u64,
    /// The largest of each second of the last ones, under its number.
    largest: [(u64, u64); REMEMBERED_S],
}

impl Peaks {
    /// So many ticks came at `now_ms` of the monotonic clock.
    #[inline]
    pub fn add(&mut self, now_ms: u64, ticks: u64) {
        for (window, length_ms) in self.windows.iter_mut().zip(WINDOWS_MS) {
            let number = now_ms / length_ms;
            if window.number != number {
                window.close(length_ms);
                window.number = number;
            }
            window.ticks += ticks;
        }
    }

    /// The highest rates of the last seconds, in ticks per second, by window.
    pub fn per_second(&mut self, now_ms: u64) -> [u64; WINDOWS_MS.len()] {
        self.add(now_ms, 0);
        let mut rates = [0; WINDOWS_MS.len()];
        for ((window, length_ms), rate) in self.windows.iter().zip(WINDOWS_MS).zip(&mut rates) {
            let since = (now_ms / 1_000).saturating_sub(REMEMBERED_S as u64 - 1);
            let largest = window.largest.iter().filter(|(second, _)| *second >= since);
            *rate = largest.map(|(_, ticks)| *ticks).max().unwrap_or(0) * (1_000 / length_ms);
        }
        rates
    }
}

impl Window {
    fn close(&mut self, length_ms: u64) {
        let ticks = std::mem::take(&mut self.ticks);
        let second = self.number * length_ms / 1_000;
        let kept = &mut self.largest[second as usize % REMEMBERED_S];
        if kept.0 == second {
            kept.1 = kept.1.max(ticks);
        } else {
            *kept = (second, ticks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_shows_in_the_short_window_and_is_forgotten() {
        let mut peaks = Peaks::default();
        for ms in 0..1_000 {
            peaks.add(5_000 + ms, 1);
        }
        assert_eq!(peaks.per_second(6_000), [1_000, 1_000], "one a millisecond");
        peaks.add(6_003, 490);
        peaks.add(6_009, 10);
        // The window that is still being counted does not show.
        assert_eq!(peaks.per_second(6_009), [1_000, 1_000]);
        assert_eq!(peaks.per_second(6_010), [50_000, 1_000]);
        assert_eq!(peaks.per_second(6_100), [50_000, 5_000]);
        let last_ms = 6_000 + REMEMBERED_S as u64 * 1_000 - 1;
        assert_eq!(peaks.per_second(last_ms), [50_000, 5_000]);
        assert_eq!(peaks.per_second(last_ms + 1), [0, 0], "as long ago as nobody looks");
    }

    #[test]
    fn a_scrape_sees_what_came_since_the_one_before() {
        // The quantiles look back so far, and so must this.
        let covered_s = REMEMBERED_S as u64 - 1;
        assert!(covered_s * 1_000_000_000 >= LatencyWindow::LENGTH_NS);
    }
}
