//! How fast a reader may read.

use std::time::Duration;

/// What may come at once, of the records that a consumer may read in a second.
const BURST: Duration = Duration::from_millis(20);

/// So many records in a second, and never more at once for what was left over while nobody asked.
#[derive(Debug)]
pub(super) struct Pace {
    /// How long it may take a record, at the least, in nanoseconds.
    record_ns: u64,
    /// When it has earned the next, monotonic nanoseconds.
    earned_ns: u64,
}

impl Pace {
    /// Of so many records.
    pub(super) fn new(records_per_s: u64) -> Self {
        Self { record_ns: 1_000_000_000 / records_per_s.max(1), earned_ns: 0 }
    }

    /// Takes a record; says how long to wait before the next. Not for each: what is less than a burst ahead is let pass.
    pub(super) fn take(&mut self, now_ns: u64) -> Option<Duration> {
        self.earned_ns = self.earned_ns.max(now_ns.saturating_sub(BURST.as_nanos() as u64)) + self.record_ns;
        let ahead = Duration::from_nanos(self.earned_ns.saturating_sub(now_ns));
        (ahead > BURST).then_some(ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_read_in_a_second_than_may_be() {
        const PER_S: u64 = 10_000;
        let mut pace = Pace::new(PER_S);
        // An hour in which nobody asked earns a burst, and no more.
        let mut now_ns = 3_600_000_000_000;
        for second in 1..=3 {
            let end_ns = now_ns + 1_000_000_000;
            let mut records = 0;
            while now_ns < end_ns {
                records += 1;
                now_ns += pace.take(now_ns).unwrap_or_default().as_nanos() as u64;
            }
            let burst = PER_S / 1_000 * 2 * BURST.as_millis() as u64;
            assert!((PER_S - burst..=PER_S + burst).contains(&records), "{records} in second {second}");
        }
        // Whoever is slower than that never waits.
        for _ in 0..PER_S {
            now_ns += 1_000_000_000 / PER_S;
            assert_eq!(pace.take(now_ns + 100_000_000), None);
        }
    }
}
