//! How it goes: what was handed out, and how late.

use crate::event::{Event, Meta};

/// What a [`crate::Live`] has counted since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Trades, quotes, book updates and statuses handed out.
    pub events: u64,
    /// Gaps handed out.
    pub gaps: u64,
    /// Events lost in them, as far as it was said how many.
    pub lost: u64,
    /// Updates that other events stand for: conflated.
    pub conflated: u64,
    /// Events of the past handed out.
    pub replayed: u64,
    /// Events that came again and were discarded.
    pub duplicates: u64,
    /// Events that could not be checked, as the gateway did not know what came before them.
    pub unverified: u64,
    /// Losses that nobody announced.
    pub unannounced: u64,
    /// Sessions after the first.
    pub reconnects: u64,
    /// Messages that could not be read.
    pub bad_frames: u64,
    /// From when the gateway read a record to when its event was read here, of live events, the two clocks made equal by
    /// [`Stats::skew_ns`] as it was then. Of what came before that was known nothing is measured.
    pub latency: Latency,
    /// The gateway's clock minus the one here in nanoseconds, by the quickest of the last times that the gateway was asked for it:
    /// known to half of [`Stats::round_trip_ns`]. `None` until this session's gateway has told its time.
    pub skew_ns: Option<i64>,
    /// How long that asking took, there and back, in nanoseconds.
    pub round_trip_ns: Option<u64>,
    /// Events that were read and not handed out yet.
    pub queued_events: usize,
    /// Bytes of the messages that they came in.
    pub queued_bytes: usize,
}

/// Quantiles of times in nanoseconds, each at most 7 % too high.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
#[allow(missing_docs)]
pub struct Latency {
    /// Events that were measured.
    pub count: u64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub max_ns: u64,
}

/// Steps that a power of two is cut into.
const STEPS: usize = 16;

/// Counts of times: 16 steps for every power of two.
#[derive(Debug)]
struct Histogram {
    counts: Box<[u64; 64 * STEPS]>,
    count: u64,
    max_ns: u64,
}

impl Histogram {
    fn add(&mut self, ns: u64) {
        self.counts[step(ns)] += 1;
        self.count += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    /// The end of the step in which this part of all lies.
    fn quantile(&self, thousandths: u64) -> u64 {
        let rank = (self.count * thousandths).div_ceil(1000).max(1);
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        found.map_or(0, |index| last_of(index).min(self.max_ns))
    }
}

fn step(ns: u64) -> usize {
    let Some(power) = ns.checked_ilog2().map(|power| power as usize).filter(|power| *power >= 4) else {
        return ns as usize;
    };
    (power - 3) * STEPS + ((ns >> (power - 4)) as usize - STEPS)
}

/// The largest time of a step.
fn last_of(index: usize) -> u64 {
    if index < STEPS {
        return index as u64;
    }
    let (power, part) = (index / STEPS + 3, (index % STEPS) as u64);
    ((STEPS as u64 + part + 1) << (power - 4)).wrapping_sub(1)
}

/// Counts what is handed out.
#[derive(Debug)]
pub(crate) struct Tally {
    stats: Stats,
    latency: Histogram,
}

impl Default for Tally {
    fn default() -> Self {
        let latency = Histogram { counts: Box::new([0; 64 * STEPS]), count: 0, max_ns: 0 };
        Self { stats: Stats::default(), latency }
    }
}

impl Tally {
    /// Counts an event that came when the gateway's clock was so far ahead of the one here, or nobody knew how far.
    pub(crate) fn count(&mut self, event: &Event, skew_ns: Option<i64>) {
        if let Event::Gap(gap) = event {
            self.stats.gaps += 1;
            self.stats.lost += gap.count.unwrap_or(0);
        }
        let Some(meta @ Meta { snapshot, replay, merged, .. }) = event.meta() else { return };
        self.stats.events += 1;
        self.stats.conflated += u64::from(merged.saturating_sub(1));
        self.stats.replayed += u64::from(*replay);
        // By clocks that nobody has compared it would be anything.
        if let Some(skew_ns) = skew_ns.filter(|_| !snapshot && !replay) {
            // The skew is never quite known, which may make it negative.
            self.latency.add(u64::try_from(meta.latency_ns().saturating_add(skew_ns)).unwrap_or(0));
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let latency = Latency {
            count: self.latency.count,
            p50_ns: self.latency.quantile(500),
            p99_ns: self.latency.quantile(990),
            max_ns: self.latency.max_ns,
        };
        Stats { latency, ..self.stats }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_a_step_that_is_narrow() {
        let times = (0..=63).flat_map(|power| [0, 1, 2, 5].map(|more| (1_u64 << power).saturating_add(more)));
        for ns in times.chain([0, 3, 999, 1_000_000, u64::MAX]) {
            let last = last_of(step(ns));
            assert!(last >= ns, "{ns}: {last}");
            assert!((last - ns) as f64 <= ns as f64 * 0.07, "{ns}: {last}");
            assert!(last == u64::MAX || step(last + 1) == step(ns) + 1, "{ns}");
        }
    }

    /// A gateway whose clock is an hour off made latencies of an hour, or none at all; before the clocks were compared it still did.
    #[test]
    fn clocks_are_made_equal() {
        const HOUR_NS: i64 = 3_600_000_000_000;
        for skew_ns in [-HOUR_NS, 0, HOUR_NS] {
            let mut session = crate::recorded::Recorded::default();
            let ingest_ns = 2 * HOUR_NS + skew_ns;
            let message = format!(
                r#"[{{"type":"trade","symbol":"A","price":"1","size":"1","seq":"1:0:1","event_ns":"1","ingest_ns":"{ingest_ns}"}}]"#
            );
            let events = session.message(message.as_bytes(), 2 * HOUR_NS + 70_000);
            let mut tally = Tally::default();
            events.iter().for_each(|event| tally.count(event, None));
            assert_eq!((tally.stats().events, tally.stats().latency), (1, Latency::default()), "{skew_ns}");
            events.iter().for_each(|event| tally.count(event, Some(skew_ns)));
            let Stats { events, latency, .. } = tally.stats();
            assert_eq!((events, latency.count, latency.max_ns), (2, 1, 70_000), "{skew_ns}");
        }
    }

    #[test]
    fn quantiles_are_near() {
        let mut tally = Tally::default();
        assert_eq!(tally.stats().latency, Latency::default());
        (1..=1000).for_each(|us| tally.latency.add(us * 1000));
        let latency = tally.stats().latency;
        assert_eq!((latency.count, latency.max_ns), (1000, 1_000_000));
        assert!((500_000..=535_000).contains(&latency.p50_ns), "{latency:?}");
        assert!((990_000..=1_000_000).contains(&latency.p99_ns), "{latency:?}");
    }
}
