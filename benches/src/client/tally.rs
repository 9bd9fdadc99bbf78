//! What a client counts.

use super::Window;
use crate::market::DUE;
use hdrhistogram::Histogram;
use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};
use tickgate_gateway::clock;

/// Width of the slots that arrivals are counted in, so that a processor's time can be set against any stretch of time.
pub const SLOT_NS: i64 = 10_000_000;
/// A time is that many digits, until the year 2286.
const TIME_DIGITS: usize = 19;

/// What a client saw.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// Ticks that were due in the window.
    pub delivered: u64,
    /// Ticks that arrived in each slot from the start of the window on, whenever they were due.
    pub arrivals: Vec<u32>,
    /// Latencies of the ticks that were due in the window.
    pub p50_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
    /// Reads that found something.
    pub reads: u64,
    /// Ticks, whenever they were due.
    pub ticks: u64,
    pub bytes: u64,
    /// Connections that the server ended.
    pub closed: u64,
    /// Events that told of a loss.
    pub gaps: u64,
}

impl Report {
    /// Ticks that arrived between two times after the start of the window, in nanoseconds.
    pub fn arrived(&self, from_ns: i64, to_ns: i64) -> u64 {
        let slot = |ns: i64| (usize::try_from(ns / SLOT_NS).unwrap_or(0)).min(self.arrivals.len());
        self.arrivals[slot(from_ns)..slot(to_ns)].iter().map(|count| u64::from(*count)).sum()
    }
}

/// Counts of one client.
pub struct Tally {
    window: Window,
    due: Finder<'static>,
    gap: Finder<'static>,
    now_ns: i64,
    latency_us: Histogram<u64>,
    report: Report,
}

impl Tally {
    pub fn new(window: Window) -> Self {
        let slots = (window.end_ns - window.from_ns).max(0) / SLOT_NS + 1;
        Self {
            window,
            due: Finder::new(DUE),
            gap: Finder::new(br#""type":"gap""#),
            now_ns: 0,
            // Up to an hour, in steps of less than a hundredth.
            latency_us: Histogram::new_with_bounds(1, 3_600_000_000, 2)
                .unwrap_or_else(|_| unreachable!("the bounds are constant")),
            report: Report { arrivals: vec![0; slots as usize], ..Report::default() },
        }
    }

    /// Notes that a read took place.
    pub fn read(&mut self, bytes: usize) {
        self.now_ns = clock::wall_ns();
        self.report.reads += 1;
        self.report.bytes += bytes as u64;
    }

    /// Counts the ticks of a message.
    pub fn frame(&mut self, payload: &[u8]) {
        let mut ticks = 0;
        for at in self.due.find_iter(payload) {
            let start = at + DUE.len();
            let Some(digits) = payload.get(start..start + TIME_DIGITS) else { continue };
            let due_ns =
                digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit.wrapping_sub(b'0')));
            ticks += 1;
            if (self.window.from_ns..self.window.to_ns).contains(&due_ns) {
                self.report.delivered += 1;
                self.latency_us.saturating_record((self.now_ns - due_ns).max(0) as u64 / 1_000);
            }
        }
        self.report.ticks += u64::from(ticks);
        if ticks == 0 {
            self.report.gaps += self.gap.find_iter(payload).count() as u64;
            return;
        }
        let slot = (self.now_ns - self.window.from_ns).div_euclid(SLOT_NS);
        if let Some(slot) = usize::try_from(slot).ok().and_then(|slot| self.report.arrivals.get_mut(slot)) {
            *slot += ticks;
        }
    }

    pub fn report(mut self, closed: u64) -> Report {
        self.report.closed = closed;
        self.report.p50_us = self.latency_us.value_at_quantile(0.5);
        self.report.p99_us = self.latency_us.value_at_quantile(0.99);
        self.report.p999_us = self.latency_us.value_at_quantile(0.999);
        self.report.max_us = self.latency_us.max();
        self.report
    }
}
