//! Metrics that `tickgate top` reads from a scrape.
#![allow(missing_docs)]

macro_rules! watched {
    ($($name:ident = $text:literal,)*) => {
        $(pub const $name: &str = $text;)*

        #[test]
        fn they_are_in_the_catalog() {
            for name in [$($name),*] {
                assert!(super::catalog::find(name).is_some(), "{name}");
            }
        }
    };
}

watched! {
    BUILD_INFO = "tickgate_build_info",
    EVENTS_CONFLATED = "tickgate_events_conflated_total",
    EVENTS_DROPPED = "tickgate_events_dropped_total",
    EVENTS_OFFERED = "tickgate_events_offered_total",
    EVENTS_SENT = "tickgate_events_sent_total",
    FEED_LAG_SECONDS = "tickgate_feed_lag_seconds",
    FEED_TICKS = "tickgate_feed_ticks_total",
    GATEWAY_READY = "tickgate_gateway_ready",
    LATENCY_QUANTILES = "tickgate_latency_quantile_seconds",
    SESSIONS_CLOSED = "tickgate_sessions_closed_total",
    SESSIONS_OPEN = "tickgate_sessions_open",
    SESSIONS_OPENED = "tickgate_sessions_opened_total",
    STARTED = "process_start_time_seconds",
    SUBSCRIPTIONS_HELD = "tickgate_subscriptions_held",
}
