//! The prefixes that somebody listens to.

use crate::event::Stream;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

/// Prefixes, each with its streams and the shards that listen to them, as bits.
#[derive(Debug, Default)]
pub struct Patterns {
    by_prefix: FxHashMap<Box<str>, SmallVec<[(Stream, u64); 1]>>,
    len: usize,
}

impl Patterns {
    /// How many pairs of a prefix and a stream somebody listens to.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether somebody listens to a prefix's stream.
    pub fn holds(&self, prefix: &str, stream: Stream) -> bool {
        self.by_prefix.get(prefix).is_some_and(|streams| streams.iter().any(|(s, _)| *s == stream))
    }

    /// Adds `shards` to those that listen.
    pub fn add(&mut self, prefix: &str, stream: Stream, shards: u64) {
        if !self.by_prefix.contains_key(prefix) {
            self.by_prefix.insert(prefix.into(), SmallVec::new());
        }
        let Some(streams) = self.by_prefix.get_mut(prefix) else { return };
        match streams.iter_mut().find(|(s, _)| *s == stream) {
            Some((_, listening)) => *listening |= shards,
            None => {
                streams.push((stream, shards));
                self.len += 1;
            }
        }
    }

    /// Takes `shards` from those that listen.
    pub fn remove(&mut self, prefix: &str, stream: Stream, shards: u64) {
        let Some(streams) = self.by_prefix.get_mut(prefix) else { return };
        let before = streams.len();
        streams.iter_mut().filter(|(s, _)| *s == stream).for_each(|(_, listening)| *listening &= !shards);
        streams.retain(|(_, listening)| *listening != 0);
        self.len -= before - streams.len();
        if streams.is_empty() {
            self.by_prefix.remove(prefix);
        }
    }

    /// The streams of the prefixes that `name` has, with the shards that listen to each. A look-up for each prefix of
    /// the name, of which there are at most 65, and never a search through all patterns.
    pub fn matching(&self, name: &str) -> impl Iterator<Item = (Stream, u64)> {
        let ends = (0..=name.len()).filter(|end| !self.by_prefix.is_empty() && name.is_char_boundary(*end));
        ends.filter_map(|end| self.by_prefix.get(&name[..end])).flatten().copied()
    }

    /// Whether any of `shards` listens to `stream` of any prefix.
    pub fn listens(&self, stream: Stream, shards: u64) -> bool {
        self.by_prefix.values().flatten().any(|(s, listening)| *s == stream && listening & shards != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tickgate_protocol::Channel;

    #[test]
    fn a_name_finds_each_of_its_prefixes_and_no_other() {
        let (trades, quotes) = (Stream::whole(Channel::Trades), Stream::whole(Channel::Quotes));
        let mut patterns = Patterns::default();
        for (prefix, stream) in
            [("", trades), ("B", quotes), ("BÄ", trades), ("BÄR", quotes), ("BÄRX", trades)]
        {
            patterns.add(prefix, stream, 1);
        }
        patterns.add("B", quotes, 4);
        assert_eq!(patterns.len(), 5);
        let found: Vec<_> = patterns.matching("BÄR").collect();
        assert_eq!(found, [(trades, 1), (quotes, 5), (trades, 1), (quotes, 1)]);
        patterns.remove("B", quotes, 1);
        assert!(patterns.holds("B", quotes) && patterns.listens(quotes, 4) && patterns.listens(quotes, 1));
        patterns.remove("B", quotes, 4);
        assert!(!patterns.holds("B", quotes) && !patterns.listens(quotes, 4));
        for (prefix, stream) in [("", trades), ("BÄ", trades), ("BÄR", quotes), ("BÄRX", trades)] {
            patterns.remove(prefix, stream, 1);
        }
        assert!(patterns.len() == 0 && patterns.by_prefix.is_empty());
    }
}
