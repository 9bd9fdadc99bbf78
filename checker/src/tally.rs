//! What was counted while sessions were verified.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most descriptions of violations that are kept; all of them are counted.
pub const SAMPLES_MAX: usize = 20;

/// Counts of one or many sessions. Fields add up, see [`Tally::add`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Data events, gaps excluded.
    pub events: u64,
    /// Text messages.
    pub messages: u64,
    /// Payload bytes of text messages.
    pub bytes: u64,
    /// Data events by channel; `other` are types this version does not know.
    pub by_channel: BTreeMap<String, u64>,
    /// Events that needed the full parse.
    pub parsed: u64,
    /// First events of a (channel, symbol).
    pub first: u64,
    /// Events that follow the last one seen, or the end of an announced gap.
    pub in_order: u64,
    /// States sent because of a subscribe or a resynchronisation.
    pub snapshots: u64,
    /// Events sent because of `from`.
    pub replayed: u64,
    /// Replays that have caught up.
    #[serde(default)]
    pub replays: u64,
    /// Events and gaps that came again because the client went on from an older cursor: it discards them.
    #[serde(default)]
    pub resent: u64,
    /// Pairs that went on with a state instead of what was missed, after the client had come back.
    #[serde(default)]
    pub resynced: u64,
    /// Events without `prev`, which cannot be checked.
    pub unverified: u64,
    /// Events already seen.
    pub duplicates: u64,
    /// Breaks of the chain that no gap announced: lost events.
    pub unannounced: u64,
    /// Announced gaps.
    pub gaps: u64,
    /// Events that gaps say were lost, where they know.
    pub gap_events: u64,
    /// Announced gaps by cause.
    pub gaps_by_cause: BTreeMap<String, u64>,
    /// Gaps that do not begin where the chain stood.
    pub gaps_misfit: u64,
    /// Events that stand for several updates.
    pub merged: u64,
    /// Updates that were conflated away: the sum of `merged` − 1.
    pub conflated: u64,
    /// First events of a (channel, symbol) that no acknowledged subscription covers.
    pub unasked: u64,
    /// Events at or below the cursor of a heartbeat that came before them.
    pub behind_cursor: u64,
    /// Messages that could not be read.
    pub unreadable: u64,
    /// Acknowledged (channel, symbol or pattern).
    pub subscribed: u64,
    /// Refused (channel, symbol or pattern) by code.
    pub refused: BTreeMap<String, u64>,
    /// Heartbeats.
    pub heartbeats: u64,
    /// Heartbeats that came later than twice their interval and a second.
    pub heartbeats_late: u64,
    /// Warnings that the client reads too slowly.
    pub slow_notices: u64,
    /// Announcements that the gateway goes away.
    pub goaways: u64,
    /// Errors by code.
    pub errors: BTreeMap<String, u64>,
    /// The first violations, described.
    pub samples: Vec<String>,
}

impl Tally {
    /// Adds `other` to this.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.plain_mut().into_iter().zip(other.clone().plain_mut()) {
            *mine += *theirs;
        }
        for (mine, theirs) in [
            (&mut self.by_channel, &other.by_channel),
            (&mut self.gaps_by_cause, &other.gaps_by_cause),
            (&mut self.refused, &other.refused),
            (&mut self.errors, &other.errors),
        ] {
            for (name, count) in theirs {
                bump(mine, name, *count);
            }
        }
        let room = SAMPLES_MAX.saturating_sub(self.samples.len());
        self.samples.extend(other.samples.iter().take(room).cloned());
    }

    /// Breaches of the protocol's promises, of whatever kind.
    pub fn violations(&self) -> u64 {
        self.unannounced + self.gaps_misfit + self.unasked + self.behind_cursor + self.unreadable
    }

    /// Keeps `describe`'s text unless there are enough.
    pub(crate) fn sample(&mut self, describe: impl FnOnce() -> String) {
        if self.samples.len() < SAMPLES_MAX {
            self.samples.push(describe());
        }
    }

    fn plain_mut(&mut self) -> [&mut u64; 27] {
        [
            &mut self.events,
            &mut self.messages,
            &mut self.bytes,
            &mut self.parsed,
            &mut self.first,
            &mut self.in_order,
            &mut self.snapshots,
            &mut self.replayed,
            &mut self.replays,
            &mut self.resent,
            &mut self.resynced,
            &mut self.unverified,
            &mut self.duplicates,
            &mut self.unannounced,
            &mut self.gaps,
            &mut self.gap_events,
            &mut self.gaps_misfit,
            &mut self.merged,
            &mut self.conflated,
            &mut self.unasked,
            &mut self.behind_cursor,
            &mut self.unreadable,
            &mut self.subscribed,
            &mut self.heartbeats,
            &mut self.heartbeats_late,
            &mut self.slow_notices,
            &mut self.goaways,
        ]
    }
}

/// Adds `count` to the entry of `name`, without allocating for a name that is there.
pub fn bump(counts: &mut BTreeMap<String, u64>, name: &str, count: u64) {
    match counts.get_mut(name) {
        Some(old) => *old += count,
        None => {
            counts.insert(name.to_owned(), count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A count that `add` forgets would vanish from every report.
    #[test]
    fn every_count_adds_up() {
        let tally = serde_json::to_value(Tally::default()).unwrap();
        let ones: serde_json::Value = tally
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| {
                let one = match value {
                    serde_json::Value::Number(_) => serde_json::json!(1),
                    serde_json::Value::Object(_) => serde_json::json!({"x": 1}),
                    _ => serde_json::json!([]),
                };
                (name.clone(), one)
            })
            .collect::<serde_json::Map<_, _>>()
            .into();
        let one: Tally = serde_json::from_value(ones.clone()).unwrap();
        let mut sum = one.clone();
        sum.add(&one);
        let text = serde_json::to_string(&sum).unwrap();
        assert_eq!(text, serde_json::to_string(&one).unwrap().replace(":1", ":2"));
    }
}
