//! How clients that lose their sessions come back: how long it took, and what they found to be missing or doubled.

use crate::latency::Latencies;
use crate::tally::Tally;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Most reasons that are told apart.
const REASONS_MAX: usize = 16;
/// Most seconds that are told apart: what comes later counts with the last one.
const SECONDS_MAX: usize = 1_000;
/// Seconds without a loss that part one outage from the next.
const QUIET_S: i64 = 2;

/// What coming back took, of all clients.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Recovery {
    /// From the loss of a session to the end of all replays in its successor, by what ended it: a close code, `none`
    /// without a close frame, `left` when the client itself dropped it.
    pub by_reason: BTreeMap<String, Latencies>,
    /// By the second of the loss, since the Unix epoch.
    pub by_second: BTreeMap<i64, Outage>,
}

/// Losses of sessions that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Outage {
    /// Clients that lost their session.
    pub clients: u64,
    /// Those of them that have caught up again.
    pub back: u64,
    /// Attempts to come back that failed.
    pub retries: u64,
    /// Time from the loss to having caught up, over all that did.
    pub took_sum_ms: u64,
    /// The longest of them.
    pub took_max_ms: u64,
    /// What verification found from there to each client's next loss.
    pub found: Found,
}

/// What verification found that says how well a client was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Found {
    pub replayed: u64,
    pub resent: u64,
    pub resynced: u64,
    pub gaps: u64,
    pub gap_events: u64,
    pub unannounced: u64,
    pub duplicates: u64,
    pub unverified: u64,
}

impl Found {
    /// What a tally says of it.
    pub fn of(tally: &Tally) -> Self {
        Self {
            replayed: tally.replayed,
            resent: tally.resent,
            resynced: tally.resynced,
            gaps: tally.gaps,
            gap_events: tally.gap_events,
            unannounced: tally.unannounced,
            duplicates: tally.duplicates,
            unverified: tally.unverified,
        }
    }

    /// What has been found since `before`.
    pub fn since(self, before: &Self) -> Self {
        let mut since = self;
        since.zip(before, |mine, earlier| *mine -= earlier);
        since
    }

    fn add(&mut self, other: &Self) {
        self.zip(other, |mine, more| *mine += more);
    }

    fn zip(&mut self, other: &Self, with: impl Fn(&mut u64, u64)) {
        for (mine, theirs) in [
            (&mut self.replayed, other.replayed),
            (&mut self.resent, other.resent),
            (&mut self.resynced, other.resynced),
            (&mut self.gaps, other.gaps),
            (&mut self.gap_events, other.gap_events),
            (&mut self.unannounced, other.unannounced),
            (&mut self.duplicates, other.duplicates),
            (&mut self.unverified, other.unverified),
        ] {
            with(mine, theirs);
        }
    }
}

impl Outage {
    fn add(&mut self, other: &Self) {
        self.clients += other.clients;
        self.back += other.back;
        self.retries += other.retries;
        self.took_sum_ms += other.took_sum_ms;
        self.took_max_ms = self.took_max_ms.max(other.took_max_ms);
        self.found.add(&other.found);
    }

    /// The mean time from the loss to having caught up.
    pub fn took_mean_ms(&self) -> u64 {
        self.took_sum_ms.checked_div(self.back).unwrap_or(0)
    }
}

impl Recovery {
    /// Adds `other` to this.
    pub fn add(&mut self, other: &Self) {
        for (reason, latencies) in &other.by_reason {
            self.of_reason(reason).add(latencies);
        }
        for (second, outage) in &other.by_second {
            self.at(*second).add(outage);
        }
    }

    /// Counts a client that has caught up: `took_ns` after the loss in `second`, which `reason` was the cause of.
    pub(crate) fn back(&mut self, reason: &str, second: i64, took_ns: u64) {
        self.of_reason(reason).record_ns(took_ns);
        let took_ms = took_ns / 1_000_000;
        self.at(second).add(&Outage {
            back: 1,
            took_sum_ms: took_ms,
            took_max_ms: took_ms,
            ..Outage::default()
        });
    }

    /// Counts what was found by a client whose last loss was in `second`.
    pub(crate) fn found(&mut self, second: i64, found: &Found) {
        if *found != Found::default() {
            self.at(second).found.add(found);
        }
    }

    /// The losses of `second`.
    pub(crate) fn at(&mut self, second: i64) -> &mut Outage {
        let second = match self.by_second.last_key_value() {
            Some((last, _))
                if self.by_second.len() >= SECONDS_MAX && !self.by_second.contains_key(&second) =>
            {
                *last
            }
            _ => second,
        };
        self.by_second.entry(second).or_default()
    }

    /// Times to catch up, whatever the reason of the loss.
    pub fn all(&self) -> Latencies {
        let mut all = Latencies::default();
        self.by_reason.values().for_each(|latencies| all.add(latencies));
        all
    }

    /// The losses that followed each other without a pause, each with the seconds that it lasted.
    pub fn outages(&self) -> Vec<(RangeInclusive<i64>, Outage)> {
        let mut outages: Vec<(RangeInclusive<i64>, Outage)> = Vec::new();
        for (second, outage) in &self.by_second {
            match outages.last_mut() {
                Some((seconds, sum)) if second - seconds.end() <= QUIET_S => {
                    *seconds = *seconds.start()..=*second;
                    sum.add(outage);
                }
                _ => outages.push((*second..=*second, *outage)),
            }
        }
        outages
    }

    fn of_reason(&mut self, reason: &str) -> &mut Latencies {
        let is_room = self.by_reason.len() < REASONS_MAX || self.by_reason.contains_key(reason);
        self.by_reason.entry(if is_room { reason } else { "other" }.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three clients lost in one outage of two seconds, one of them not back; another outage later.
    fn sample() -> Recovery {
        let mut recovery = Recovery::default();
        for second in [100, 100, 101, 109] {
            recovery.at(second).clients += 1;
        }
        recovery.at(101).retries = 4;
        for (reason, second, took_ms) in [("none", 100, 200), ("none", 101, 1_000), ("1012", 109, 50)] {
            recovery.back(reason, second, took_ms * 1_000_000);
        }
        recovery.found(100, &Found { resent: 7, ..Found::default() });
        recovery.found(101, &Found { duplicates: 1, ..Found::default() });
        recovery
    }

    #[test]
    fn losses_that_follow_each_other_are_one_outage() {
        let outages = sample().outages();
        assert_eq!(
            outages.iter().map(|(seconds, _)| seconds.clone()).collect::<Vec<_>>(),
            [100..=101, 109..=109]
        );
        let found = Found { resent: 7, duplicates: 1, ..Found::default() };
        let first = Outage { clients: 3, back: 2, retries: 4, took_sum_ms: 1_200, took_max_ms: 1_000, found };
        assert_eq!((outages[0].1, outages[0].1.took_mean_ms()), (first, 600));
    }

    #[test]
    fn recoveries_add_up() {
        let mut sum = sample();
        sum.add(&sample());
        assert_eq!(sum.all().quantiles().count, 6);
        assert_eq!((sum.by_reason["none"].quantiles().count, sum.by_second[&101].retries), (4, 8));
        assert_eq!(sum.by_second[&100].found.resent, 14);
    }

    /// A gateway chooses its close codes, and an hour has 3,600 seconds.
    #[test]
    fn whatever_happens_it_stays_small() {
        let mut recovery = Recovery::default();
        for number in 0..10_000 {
            recovery.back(&number.to_string(), number, 1_000_000);
        }
        assert_eq!((recovery.by_reason.len(), recovery.by_second.len()), (REASONS_MAX + 1, SECONDS_MAX));
        let back: u64 = recovery.by_second.values().map(|outage| outage.back).sum();
        assert_eq!((recovery.all().quantiles().count, back), (10_000, 10_000));
    }

    /// A count that is forgotten would vanish from every report.
    #[test]
    fn every_count_that_was_found_adds_up() {
        let ones = serde_json::to_string(&Found::default()).unwrap().replace(":0", ":1");
        let one: Found = serde_json::from_str(&ones).unwrap();
        let mut sum = one;
        sum.add(&one);
        assert_eq!(serde_json::to_string(&sum).unwrap(), ones.replace(":1", ":2"));
        assert_eq!(sum.since(&one), one);
    }
}
