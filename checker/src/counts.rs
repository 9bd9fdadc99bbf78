//! What a judge counts.

use serde::{Deserialize, Serialize};

/// Counts of one or many clients. A record's ticks count one by one, and each for every client that should have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Clients.
    pub clients: u64,
    /// Their sessions.
    pub sessions: u64,
    /// Data events received, whatever they were.
    pub events: u64,
    /// Ticks that had to come: delivered + conflated + announced + unannounced.
    pub offered: u64,
    /// Ticks that came.
    pub delivered: u64,
    /// Ticks that a later state stood for.
    pub conflated: u64,
    /// Ticks that did not come, as a gap said.
    pub announced: u64,
    /// Ticks that did not come, without a word.
    pub unannounced: u64,
    /// Events that came twice and that the client's rule takes twice.
    pub duplicated: u64,
    /// Events that came twice where none may: in one session, or at or before the position that was resumed from.
    pub repeated: u64,
    /// Events that came again after a resumption, behind the cursor it used or where its replay met what is live: the
    /// client's rule discards them.
    pub discarded: u64,
    /// Events, or snapshots, that came behind newer ones.
    pub out_of_order: u64,
    /// Events that do not stand in the log like this.
    pub wrong: u64,
    /// Breaks of a chain by the client's rule.
    pub breaks: u64,
    /// Events without `prev`, which a client cannot check.
    pub unverified: u64,
    /// Gaps.
    pub gaps: u64,
    /// Gaps that do not begin where the chain stood.
    pub gaps_misfit: u64,
    /// Gaps of trades whose count is not what was lost.
    pub gap_counts_wrong: u64,
    /// Conflated states that stand for fewer updates than they replace.
    pub merged_wrong: u64,
    /// Ticks that a cursor passed before they came or were announced as lost.
    pub behind_cursor: u64,
    /// Messages that could not be read.
    pub unreadable: u64,
}

impl Counts {
    /// Adds `other` to this.
    pub fn add(&mut self, other: &Self) {
        let mut other = *other;
        for (mine, theirs) in self.all_mut().into_iter().zip(other.all_mut()) {
            *mine += *theirs;
        }
    }

    /// What must not be, added up. Announced losses are none of it.
    pub fn faults(&self) -> u64 {
        self.unannounced
            + self.duplicated
            + self.repeated
            + self.out_of_order
            + self.wrong
            + self.breaks
            + self.gaps_misfit
            + self.gap_counts_wrong
            + self.merged_wrong
            + self.behind_cursor
            + self.unreadable
    }

    fn all_mut(&mut self) -> [&mut u64; 21] {
        [
            &mut self.clients,
            &mut self.sessions,
            &mut self.events,
            &mut self.offered,
            &mut self.delivered,
            &mut self.conflated,
            &mut self.announced,
            &mut self.unannounced,
            &mut self.duplicated,
            &mut self.repeated,
            &mut self.discarded,
            &mut self.out_of_order,
            &mut self.wrong,
            &mut self.breaks,
            &mut self.unverified,
            &mut self.gaps,
            &mut self.gaps_misfit,
            &mut self.gap_counts_wrong,
            &mut self.merged_wrong,
            &mut self.behind_cursor,
            &mut self.unreadable,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A count that `add` forgets would vanish from every report.
    #[test]
    fn every_count_adds_up() {
        let names = serde_json::to_value(Counts::default()).unwrap();
        let ones = names.as_object().unwrap().keys().map(|name| (name.clone(), 1.into()));
        let one: Counts = serde_json::from_value(serde_json::Value::Object(ones.collect())).unwrap();
        let mut sum = one;
        sum.add(&one);
        let text = serde_json::to_string(&sum).unwrap();
        assert_eq!(text, serde_json::to_string(&one).unwrap().replace(":1", ":2"));
    }
}
