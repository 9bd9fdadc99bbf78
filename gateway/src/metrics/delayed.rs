//! What comes late: a family of its own for what matters of each delay, so that the live feed's stay what they are.

use super::{FEED_STATES, Scrape, flag};
use crate::config::delays::Tier;
use crate::stats::Board;

/// The feeds of all tiers that are not live, and their sessions.
pub(super) fn delayed(scrape: &Scrape, board: &Board) {
    for tier in board.tiers().iter().filter(|tier| !tier.is_live()) {
        let delay = tier.delay_s.to_string();
        let of_delay = ("delay_s", delay.as_str());
        let sessions: u64 = shards(board, *tier).map(|shard| board.shard(shard).sessions).sum();
        scrape.gauge("tickgate_delayed_sessions_open", &[of_delay], sessions as f64);
        let feed = board.feed_of(tier.number).clone();
        scrape.gauge("tickgate_delayed_ready", &[of_delay], flag(feed.ready));
        for (name, value) in [
            ("tickgate_delayed_records_total", feed.records),
            ("tickgate_delayed_symbols_refused_total", feed.symbols_refused),
            ("tickgate_delayed_inbox_full_total", feed.inbox_full),
            ("tickgate_delayed_overload_events_total", feed.overload_events),
            ("tickgate_delayed_lost_offsets_total", feed.lost_offsets),
            ("tickgate_delayed_partitions_refused_total", feed.partitions_refused),
            ("tickgate_delayed_broker_errors_total", feed.broker_errors),
        ] {
            scrape.counter(name, &[of_delay], value);
        }
        for status in &feed.feeds {
            let of_feed = ("feed", status.name.as_str());
            for state in FEED_STATES {
                let labels = [of_delay, of_feed, ("state", state.name())];
                scrape.gauge("tickgate_delayed_feed_state", &labels, flag(status.state == state));
            }
            let labels = [of_delay, of_feed];
            scrape.gauge("tickgate_delayed_feed_lag_records", &labels, status.lag_records as f64);
            if let Some(event_ns) = status.event_ns {
                let event_s = event_ns as f64 / 1e9;
                scrape.gauge("tickgate_delayed_feed_event_timestamp_seconds", &labels, event_s);
            }
        }
    }
}

/// The numbers of a tier's shards.
fn shards(board: &Board, tier: Tier) -> impl Iterator<Item = usize> {
    (0..board.thread_count()).map(move |thread| board.shard_of(thread, tier))
}
