//! Peak-to-mean ratios: how bursty a stream is.
//!
//! The peak of a window is the most events in any sliding window of that length, wherever it starts. A mean of 50 events/s
//! says little about a gateway's work when 500 of them come within 10 ms.

use std::collections::VecDeque;

const NS_PER_S: f64 = 1e9;

/// The windows that are measured, longest first, in nanoseconds: 1 s, 100 ms, 10 ms.
pub const WINDOWS_NS: [u64; 3] = [1_000_000_000, 100_000_000, 10_000_000];

/// Counts a stream of events in time order. Memory is bounded by the distinct times within the longest window.
#[derive(Debug, Default)]
pub struct PeakCounter {
    windows: [Window; 3],
    times: VecDeque<(u64, u64)>,
    dropped: u64,
    events: u64,
    first_ns: Option<u64>,
    last_ns: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Window {
    /// Index (counted over the whole stream) of the oldest time still inside.
    oldest: u64,
    inside: u64,
    peak: u64,
}

impl PeakCounter {
    /// Adds `events` events at `time_ns`. A time before the one added last counts as that one.
    pub fn add(&mut self, time_ns: u64, events: u64) {
        let time_ns = time_ns.max(self.last_ns);
        self.first_ns.get_or_insert(time_ns);
        self.last_ns = time_ns;
        self.events += events;
        match self.times.back_mut() {
            Some((at, count)) if *at == time_ns => *count += events,
            _ => self.times.push_back((time_ns, events)),
        }
        for (window, length_ns) in self.windows.iter_mut().zip(WINDOWS_NS) {
            window.inside += events;
            while let Some((at, count)) = self.times.get((window.oldest - self.dropped) as usize)
                && at + length_ns <= time_ns
            {
                window.inside -= count;
                window.oldest += 1;
            }
            window.peak = window.peak.max(window.inside);
        }
        while self.dropped < self.windows[0].oldest {
            self.times.pop_front();
            self.dropped += 1;
        }
    }

    /// What was counted, with the mean over the time from the first to the last event.
    pub fn peaks(&self) -> Peaks {
        let span_ns = self.first_ns.map_or(0, |first| self.last_ns - first);
        self.peaks_over(span_ns as f64 / NS_PER_S)
    }

    /// What was counted, with the mean over `span_s` seconds.
    pub fn peaks_over(&self, span_s: f64) -> Peaks {
        Peaks { events: self.events, span_s, peaks: self.windows.map(|window| window.peak) }
    }
}

/// Count, span and peaks of a stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peaks {
    /// Events in all.
    pub events: u64,
    /// The time they are spread over, in seconds.
    pub span_s: f64,
    /// Most events in any window, in the order of [`WINDOWS_NS`].
    pub peaks: [u64; 3],
}

impl Peaks {
    /// Mean events per second; 0 for an empty stream.
    pub fn mean_per_s(&self) -> f64 {
        if self.span_s > 0.0 { self.events as f64 / self.span_s } else { 0.0 }
    }

    /// Peak rate of each window over the mean rate, in the order of [`WINDOWS_NS`]; 0 for an empty stream.
    pub fn ratios(&self) -> [f64; 3] {
        let mean = self.mean_per_s();
        let mut ratios = [0.0; 3];
        for ((ratio, peak), length_ns) in ratios.iter_mut().zip(self.peaks).zip(WINDOWS_NS) {
            if mean > 0.0 {
                *ratio = peak as f64 / (length_ns as f64 / NS_PER_S) / mean;
            }
        }
        ratios
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn evenly_spaced_events_have_no_peak() {
        let mut counter = PeakCounter::default();
        for i in 0..10_000u64 {
            counter.add(i * 1_000_000, 1);
        }
        let peaks = counter.peaks();
        assert_eq!(peaks.peaks, [1000, 100, 10]);
        assert!(peaks.ratios().iter().all(|ratio| (ratio - 1.0).abs() < 0.01), "{:?}", peaks.ratios());
    }

    #[test]
    fn an_empty_stream_has_no_ratios() {
        assert_eq!(PeakCounter::default().peaks().ratios(), [0.0; 3]);
    }

    proptest! {
        #[test]
        fn peaks_are_those_of_counting_every_window(gaps in prop::collection::vec(0u64..300_000_000, 1..60)) {
            let mut counter = PeakCounter::default();
            let mut time = 0;
            let times: Vec<u64> = gaps.iter().map(|gap| { time += gap; time }).collect();
            times.iter().for_each(|t| counter.add(*t, 1));
            for (peak, length) in counter.peaks().peaks.iter().zip(WINDOWS_NS) {
                let slow = times.iter().map(|from| times.iter().filter(|t| (*from..from + length).contains(t)).count());
                prop_assert_eq!(*peak, slow.max().unwrap() as u64);
            }
        }
    }
}
