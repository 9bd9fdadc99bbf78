//! What was asked at one time, and what happened between two.

use super::metrics::Scrape;
use serde::Deserialize;
use tickgate_gateway::metrics::watched;

/// The answers of one time.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// Monotonic nanoseconds.
    pub taken_ns: u64,
    pub metrics: Scrape,
    pub feeds: Vec<Feed>,
    pub sessions: Vec<Session>,
    pub symbols: Symbols,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Feeds {
    pub feeds: Vec<Feed>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Feed {
    pub feed: String,
    pub delayed_s: u64,
    pub state: String,
    pub lag_records: u64,
    pub peak_10ms_per_s: u64,
    pub peak_100ms_per_s: u64,
    pub partitions: Vec<Partition>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Partition {
    pub record_age_ms: Option<i64>,
    pub caught_up: bool,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Sessions {
    pub sessions: Vec<Session>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Session {
    pub session: String,
    pub peer: String,
    pub queue_age_ms: u64,
    pub queued_bytes: u64,
    pub subscriptions: u64,
    pub sent: u64,
    pub conflated: u64,
    pub dropped: u64,
    pub open_s: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Symbols {
    pub hottest: Vec<Hot>,
    pub most_subscribed: Vec<Wanted>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Hot {
    pub symbol: String,
    pub ticks_per_s: f64,
    pub ticks: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Wanted {
    pub target: String,
    pub sessions: u64,
    pub subscriptions: u64,
}

/// What happened between two samples, a second.
#[derive(Debug, Clone)]
pub(super) struct Rates {
    pub ticks: f64,
    pub sent: f64,
    pub opened: f64,
    pub closed: f64,
    /// Shares of what was offered, in percent.
    pub conflated: f64,
    pub dropped: f64,
}

impl Rates {
    pub fn between(before: &Sample, now: &Sample) -> Self {
        let seconds = (now.taken_ns.saturating_sub(before.taken_ns) as f64 / 1e9).max(1e-3);
        let came = |name: &str| {
            let [before, now] = [before, now].map(|sample| sample.metrics.sum(name, None).unwrap_or(0.0));
            // A gateway that was started anew counts from nothing.
            if now >= before { now - before } else { now }
        };
        let offered = came(watched::EVENTS_OFFERED).max(1.0);
        Self {
            ticks: came(watched::FEED_TICKS) / seconds,
            sent: came(watched::EVENTS_SENT) / seconds,
            opened: came(watched::SESSIONS_OPENED) / seconds,
            closed: came(watched::SESSIONS_CLOSED) / seconds,
            conflated: came(watched::EVENTS_CONFLATED) * 100.0 / offered,
            dropped: came(watched::EVENTS_DROPPED) * 100.0 / offered,
        }
    }
}
