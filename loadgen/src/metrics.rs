//! What `run --metrics` says while a run goes on, made at a scrape from what is counted anyway.
//!
//! With several processes it is their parent that says it, of all of them together: they tell it twice a second.

use crate::live::{Figures, LiveStats};
use std::sync::Arc;
use std::time::Instant;
use tickgate_exporter::{Label, Metric, Page, QUANTILE, Window, counter, gauge, histogram};

const REASON: Label = Label { name: "reason", values: &["negative", "unstamped", "over_range"] };

/// Every metric. A scrape shows these names and no others; a test holds both to it.
#[rustfmt::skip]
pub const CATALOG: &[Metric] = &[
    gauge("tickgate_load_clients_wanted", "clients", None, "Clients of the plan."),
    gauge("tickgate_load_clients_connected", "clients", None, "Clients that have a session."),
    counter("tickgate_load_reconnects_total", "sessions", None, "Sessions that clients opened after their first, having left or lost the one before."),
    counter("tickgate_load_events_received_total", "events", None, "Events received by all clients, gaps excluded."),
    counter("tickgate_load_bytes_received_total", "bytes", None, "Payload bytes of the text messages received."),
    counter("tickgate_load_gaps_total", "gaps", None, "Gaps that clients were told of."),
    counter("tickgate_load_events_lost_total", "events", None, "Breaks of a chain that no gap announced: any is a fault of the gateway."),
    histogram("tickgate_load_latency_seconds", "seconds", "From when the producer meant to send an event to when a client had read it, since the warm-up; slow and stalled clients included."),
    gauge("tickgate_load_latency_quantile_seconds", "seconds", Some(QUANTILE), "Quantiles of the same over the last seconds; absent while nothing comes."),
    counter("tickgate_load_latency_unmeasured_total", "events", Some(REASON), "Events in no latency: the producer's clock is ahead, they do not say when they were meant to be sent, or it took over an hour."),
    gauge("tickgate_load_behind_seconds", "seconds", None, "How late the generator's own timers were, p99 over the last seconds: its latencies may be too high by that."),
];

/// Makes pages of what a run has counted.
#[derive(Debug)]
pub struct Metrics {
    live: Arc<LiveStats>,
    latency: Window,
    lag: Window,
}

impl Metrics {
    /// Of the run that counts into `live`.
    pub fn new(live: Arc<LiveStats>) -> Self {
        Self { live, latency: Window::default(), lag: Window::default() }
    }

    /// Everything as Prometheus text, `now`.
    pub fn render(&mut self, now: Instant) -> String {
        let Figures { planned, open, reopened, events, bytes, gaps, unannounced, latency, lag } =
            self.live.figures();
        let mut page = Page::new(CATALOG);
        for (name, value) in [
            ("tickgate_load_clients_wanted", planned),
            ("tickgate_load_clients_connected", open),
            ("tickgate_load_reconnects_total", reopened),
            ("tickgate_load_events_received_total", events),
            ("tickgate_load_bytes_received_total", bytes),
            ("tickgate_load_gaps_total", gaps),
            ("tickgate_load_events_lost_total", unannounced),
        ] {
            page.value(name, value as f64);
        }
        let of = latency.quantiles();
        let unmeasured = [of.negative, of.unstamped, of.beyond_1h].map(|count| count as f64);
        let values: Vec<_> = REASON.values.iter().copied().zip(unmeasured).collect();
        page.values("tickgate_load_latency_unmeasured_total", &values);
        page.histogram("tickgate_load_latency_seconds", latency.histogram());
        let latest = self.latency.latest(now, latency.into_histogram());
        page.quantiles("tickgate_load_latency_quantile_seconds", &latest);
        let behind_ns = self.lag.latest(now, lag.into_histogram()).value_at_quantile(0.99);
        page.value("tickgate_load_behind_seconds", behind_ns as f64 / 1e9);
        page.finish()
    }
}
