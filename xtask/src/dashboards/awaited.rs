//! Metrics that dashboards show and that the gateway is about to have: their panels may be empty until then.
//!
//! A name leaves this list with the change that brings the metric, and this file with the last of them.

/// Names that may be in queries before they are in the catalog.
const NAMES: &[&str] = &["tickgate_kafka_broker_rtt_seconds"];

/// Whether `name` is one of them.
pub fn is(name: &str) -> bool {
    NAMES.contains(&name)
}
