//! Where clients stood at the end of a run whose feed had ended before: all at the same place, or something is missing
//! that no chain can show, because nothing followed it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tickgate_protocol::{Channel, Position};

/// The last positions of all clients, by channel and symbol: how many stood at each. Adds up over processes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ends(BTreeMap<String, BTreeMap<Position, u64>>);

impl Ends {
    /// Counts a client that has `last` as its last position of a pair.
    pub(crate) fn stands(&mut self, channel: Channel, symbol: &str, last: Position) {
        let pair = self.0.entry(format!("{} {symbol}", channel.name())).or_default();
        *pair.entry(last).or_default() += 1;
    }

    /// Adds `other` to this.
    pub fn add(&mut self, other: &Self) {
        for (pair, positions) in &other.0 {
            let mine = self.0.entry(pair.clone()).or_default();
            for (position, clients) in positions {
                *mine.entry(*position).or_default() += clients;
            }
        }
    }

    /// Whether nobody was counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many stood behind another client of the same pair, and one of them described.
    pub fn behind(&self) -> (u64, Option<String>) {
        let (mut behind, mut example) = (0, None);
        for (pair, positions) in &self.0 {
            let Some((newest, _)) = positions.last_key_value() else { continue };
            for (position, clients) in positions.iter().filter(|(position, _)| *position != newest) {
                behind += clients;
                let text = || format!("{clients} clients end with {pair} at {position}, others at {newest}");
                example.get_or_insert_with(text);
            }
        }
        (behind, example)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Position {
        Position { epoch: 1, partition: 0, offset }
    }

    #[test]
    fn who_stands_behind_another_is_counted() {
        let mut ends = Ends::default();
        for (symbol, offset) in [("A", 9), ("A", 9), ("B", 7), ("B", 5)] {
            ends.stands(Channel::Trades, symbol, at(offset));
        }
        ends.stands(Channel::Quotes, "A", at(3));
        let example = "1 clients end with trades B at 1:0:5, others at 1:0:7";
        assert_eq!(ends.behind(), (1, Some(example.to_owned())));
        let mut sum = ends.clone();
        sum.add(&ends);
        assert_eq!(sum.behind().0, 2);
        let again: Ends = serde_json::from_str(&serde_json::to_string(&sum).unwrap()).unwrap();
        assert_eq!(again, sum);
    }

    #[test]
    fn all_at_the_same_place_is_well() {
        let mut ends = Ends::default();
        (0..3).for_each(|_| ends.stands(Channel::Book, "A", at(4)));
        assert_eq!((ends.behind(), Ends::default().behind()), ((0, None), (0, None)));
    }
}
