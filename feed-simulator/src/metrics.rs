//! What `run --metrics` and `replay --metrics` say while they send, made at a scrape from what is counted anyway.

use crate::pacing::Speed;
use crate::producer::Progress;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tickgate_exporter::{Metric, Page, QUANTILE, Window, counter, gauge};

/// Every metric. A scrape of a model shows these names and no others; a test holds both to it.
#[rustfmt::skip]
pub const CATALOG: &[Metric] = &[
    gauge("tickgate_sim_ticks_wanted_per_second", "ticks per second", None, "Mean rate that a model was asked for; absent for recordings, which have their own."),
    counter("tickgate_sim_ticks_sent_total", "ticks", None, "Ticks given to the Kafka client."),
    counter("tickgate_sim_ticks_failed_total", "ticks", None, "Ticks that were refused or not delivered in time; records that nobody can read among them."),
    counter("tickgate_sim_bad_records_sent_total", "records", None, "Records that nobody can read, sent on purpose (--bad-every)."),
    gauge("tickgate_sim_send_late_seconds", "seconds", Some(QUANTILE), "Quantiles of actual minus intended send time over the last seconds; absent while nothing is sent, and where nothing has a schedule (--speed max)."),
];

/// Makes pages of what a run has counted.
#[derive(Debug)]
pub struct Metrics {
    progress: Arc<Progress>,
    speed: Speed,
    wanted_per_s: Option<f64>,
    late: Window,
}

impl Metrics {
    /// Of the run that counts into `progress`, sends with `speed`, and was asked for so many ticks a second.
    pub fn new(progress: Arc<Progress>, speed: Speed, wanted_per_s: Option<f64>) -> Self {
        Self { progress, speed, wanted_per_s, late: Window::default() }
    }

    /// Everything as Prometheus text, `now`.
    pub fn render(&mut self, now: Instant) -> String {
        let mut page = Page::new(CATALOG);
        if let Some(wanted_per_s) = self.wanted_per_s {
            page.value("tickgate_sim_ticks_wanted_per_second", wanted_per_s);
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        page.value("tickgate_sim_ticks_sent_total", count(&self.progress.sent));
        page.value("tickgate_sim_ticks_failed_total", count(&self.progress.errors));
        page.value("tickgate_sim_bad_records_sent_total", count(&self.progress.bad));
        if self.speed != Speed::Max {
            let late = self.late.latest(now, self.progress.lateness());
            page.quantiles("tickgate_sim_send_late_seconds", &late);
        }
        page.finish()
    }
}
