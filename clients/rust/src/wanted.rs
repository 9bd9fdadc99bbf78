//! The subscriptions that a client holds, and how it asks for them again when it comes back.

use crate::chains::Chains;
use crate::event::Symbol;
use crate::subscription::{Begin, NAMES_PER_REQUEST, Options, to_json};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tickgate_protocol::{Channel, Depth};

/// A channel, and a symbol or pattern.
pub(crate) type Name = (Channel, Symbol);

/// What was acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    of: [HashMap<Symbol, Held>; Channel::ALL.len()],
    /// Cursors that were kept so far.
    cursors: u64,
}

/// One symbol or pattern.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) options: Options,
    /// Where it was asked to begin.
    pub(crate) begin: Option<Begin>,
    /// The cursor from which its user asked to go on: it counts until another one covers it.
    pub(crate) behind: Option<Arc<str>>,
    /// Whether its user still waits for the end of a replay.
    pub(crate) owes_done: bool,
    /// Whether it was asked for again because its book had broken, and that was not answered.
    pub(crate) is_renewing: bool,
    /// Cursors that had been kept when it was acknowledged: later ones cover it.
    cursors: u64,
}

/// A request that resumes.
#[derive(Debug)]
pub(crate) struct Resume {
    pub(crate) subscriptions: Vec<Value>,
    pub(crate) cursor: Option<Arc<str>>,
    pub(crate) names: Vec<Name>,
}

/// Names with the same options.
type Alike = (Options, Vec<Symbol>);

impl Held {
    pub(crate) fn is_past(&self) -> bool {
        matches!(self.begin, Some(Begin::Past { .. }))
    }
}

impl Wanted {
    pub(crate) fn is_empty(&self) -> bool {
        self.of.iter().all(HashMap::is_empty)
    }

    /// A subscription was acknowledged.
    pub(crate) fn hold(
        &mut self,
        channel: Channel,
        name: Symbol,
        options: Options,
        begin: Option<Begin>,
        behind: Option<Arc<str>>,
    ) {
        let cursors = self.cursors;
        let owes_done = begin.is_some() || behind.is_some();
        let held = Held { options, begin, behind, owes_done, is_renewing: false, cursors };
        self.of[channel as usize].insert(name, held);
    }

    pub(crate) fn drop(&mut self, channel: Channel, name: &str) {
        self.of[channel as usize].remove(name);
    }

    pub(crate) fn get(&self, channel: Channel, name: &str) -> Option<&Held> {
        self.of[channel as usize].get(name)
    }

    pub(crate) fn get_mut(&mut self, channel: Channel, name: &str) -> Option<&mut Held> {
        self.of[channel as usize].get_mut(name)
    }

    /// The session has ended: what was not answered will not be.
    pub(crate) fn come_back(&mut self) {
        self.of[Channel::Book as usize].values_mut().for_each(|held| held.is_renewing = false);
    }

    /// A cursor was kept: it covers all that is held now.
    pub(crate) fn covered(&mut self) {
        self.cursors += 1;
    }

    /// A cursor of its user is the first one: it covers what was asked for from it.
    pub(crate) fn begun_from(&mut self, cursor: &str) {
        self.cursors += 1;
        let cursors = self.cursors;
        let held = self.of.iter_mut().flat_map(HashMap::values_mut);
        let others = held.filter(|held| held.behind.as_deref() != Some(cursor));
        others.for_each(|held| held.cursors = cursors);
    }

    /// A cursor was refused. If it is the one that was kept, nothing is covered any more, and what was is too far on for older ones.
    pub(crate) fn refused(&mut self, cursor: &str, was_kept: bool) {
        let cursors = self.cursors;
        for held in self.of.iter_mut().flat_map(HashMap::values_mut) {
            let was_covered = was_kept && held.cursors < cursors;
            held.behind.take_if(|behind| was_covered || **behind == *cursor);
            if was_kept {
                held.cursors = cursors;
            }
        }
    }

    /// The most specific subscription that brings `symbol`.
    pub(crate) fn covering(&self, channel: Channel, symbol: &str) -> Option<&Symbol> {
        self.all_covering(channel, symbol).next().map(|(name, _)| name)
    }

    /// All that would bring `symbol`, the most specific one first.
    fn all_covering(&self, channel: Channel, symbol: &str) -> impl Iterator<Item = (&Symbol, &Held)> {
        let held = &self.of[channel as usize];
        let mut pattern = String::with_capacity(symbol.len() + 1);
        let ends = (0..=symbol.len()).rev().filter(|end| symbol.is_char_boundary(*end));
        let patterns = ends.filter_map(move |end| {
            pattern.clear();
            pattern.push_str(&symbol[..end]);
            pattern.push('*');
            held.get_key_value(pattern.as_str())
        });
        held.get_key_value(symbol).into_iter().chain(patterns)
    }

    /// By which other subscription `symbol` just goes on without the one to `name`, which brings it: in the same depth and as often,
    /// so that a gateway sends no state anew.
    pub(crate) fn goes_on_by(&self, channel: Channel, name: &str, symbol: &str) -> Option<(&Symbol, &Held)> {
        let mut covering =
            self.all_covering(channel, symbol).skip_while(|(covering, _)| ***covering != *name);
        let ended = covering.next()?.1;
        // Of what is played alone nothing goes on.
        let is_same = |other: &Held| {
            let [is_past, was_past] = [other, ended].map(Held::is_past);
            let [stream, before] =
                [other, ended].map(|held| (held.options.depth(), held.options.conflate_ms));
            !is_past && !was_past && stream == before
        };
        covering.next().filter(|(_, other)| is_same(other))
    }

    /// Whether `symbol` comes by the subscription to `name`, and not by a more specific one.
    pub(crate) fn is_its(&self, channel: Channel, name: &str, symbol: &str) -> bool {
        self.covering(channel, symbol).is_some_and(|covering| **covering == *name)
    }

    /// How deep the book of `symbol` is as it comes.
    pub(crate) fn depth(&self, channel: Channel, symbol: &str) -> Depth {
        let held = self.covering(channel, symbol).and_then(|name| self.of[channel as usize].get(name));
        held.map_or(Depth::ALL, |held| held.options.depth())
    }

    /// Everything as it is asked for by a client that comes back, with or without a cursor: what was acknowledged before the
    /// cursor came goes on from there, the rest from the last position where there is one, or from where it was to begin. Of the
    /// rest a whole book that lacks its state begins anew: behind a position come changes alone, which are of no use to it.
    pub(crate) fn resume(&self, chains: &mut Chains, cursor: Option<&Arc<str>>) -> Vec<Resume> {
        let all = Channel::ALL.iter().flat_map(|channel| {
            self.of[*channel as usize].iter().map(|(name, held)| ((*channel, name.clone()), held))
        });
        self.resume_some(all, chains, cursor)
    }

    /// The same of some, of which a cursor was refused.
    pub(crate) fn resume_names(&self, names: &[Name], chains: &mut Chains) -> Vec<Resume> {
        let some =
            names.iter().filter_map(|name| Some((name.clone(), self.of[name.0 as usize].get(&name.1)?)));
        self.resume_some(some, chains, None)
    }

    fn resume_some<'a>(
        &self,
        names: impl Iterator<Item = (Name, &'a Held)>,
        chains: &mut Chains,
        cursor: Option<&Arc<str>>,
    ) -> Vec<Resume> {
        // Names with the same options share an object. In order, so that a client asks the same every time.
        let mut by_cursor = BTreeMap::<(Arc<str>, Channel, String), Alike>::new();
        let mut alone: Vec<(Name, Options, Option<Begin>)> = Vec::new();
        for ((channel, name), held) in names {
            // What was there before it began was shown once.
            let options = Options { snapshot: 0, ..held.options };
            let is_covered = cursor.is_some() && held.cursors < self.cursors;
            let is_pattern = name.ends_with('*');
            // Of a pattern nobody knows which books there are. Who asked for the past gets that, also once more.
            let is_anew = !is_covered
                && !held.owes_done
                && channel == Channel::Book
                && options.is_whole()
                && (is_pattern || chains.lacks_state(&name));
            let has_no_seq = held.is_past() || is_covered || is_anew || is_pattern;
            let seq = if has_no_seq { None } else { chains.resume_from(channel, &name).map(Begin::Seq) };
            let begin = seq.or(held.begin).filter(|_| !is_anew);
            let behind = match (is_covered, begin) {
                (true, _) => cursor,
                (false, _) if is_anew => None,
                (false, Some(_)) => None,
                // Of what is not covered the one that was kept gives more than was missed, which is better than less.
                (false, None) => held.behind.as_ref().or(cursor),
            };
            if held.is_past() {
                alone.push(((channel, name), held.options, held.begin));
            } else if let Some(behind) = behind {
                let key = (behind.clone(), channel, format!("{options:?}"));
                by_cursor.entry(key).or_insert((options, Vec::new())).1.push(name);
            } else {
                let options = if begin.is_some() { options } else { held.options };
                alone.push(((channel, name), options, begin));
            }
        }
        let mut requests = Vec::new();
        for ((cursor, channel, _), (options, mut names)) in by_cursor {
            names.sort_unstable();
            for part in names.chunks(NAMES_PER_REQUEST) {
                let texts: Vec<&str> = part.iter().map(|name| &**name).collect();
                requests.push(Resume {
                    subscriptions: vec![to_json(channel, &texts, options, None)],
                    cursor: Some(cursor.clone()),
                    names: part.iter().map(|name| (channel, name.clone())).collect(),
                });
            }
        }
        alone.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for part in alone.chunks(NAMES_PER_REQUEST) {
            let json = |((channel, name), options, begin): &(Name, Options, Option<Begin>)| {
                to_json(*channel, &[&**name], *options, *begin)
            };
            requests.push(Resume {
                subscriptions: part.iter().map(json).collect(),
                cursor: None,
                names: part.iter().map(|(name, ..)| name.clone()).collect(),
            });
        }
        requests
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(names: &[(Channel, &str, u8)]) -> Wanted {
        let mut wanted = Wanted::default();
        for (channel, name, depth) in names {
            wanted.hold(
                *channel,
                Symbol::from(*name),
                Options { depth: *depth, ..Options::default() },
                None,
                None,
            );
        }
        wanted
    }

    #[test]
    fn the_most_specific_subscription_counts() {
        let wanted = held(&[(Channel::Book, "*", 1), (Channel::Book, "AB*", 5), (Channel::Book, "ABC", 10)]);
        let depth = |symbol| wanted.depth(Channel::Book, symbol).get();
        assert_eq!(["ABC", "ABD", "AB", "A", "é"].map(depth), [10, 5, 5, 1, 1]);
        assert_eq!(wanted.covering(Channel::Trades, "ABC"), None);
    }

    /// A cursor says nothing of what was subscribed to after it came: with it that would begin too early.
    #[test]
    fn only_what_a_cursor_covers_goes_on_from_it() {
        let mut wanted =
            held(&[(Channel::Trades, "A", 0), (Channel::Trades, "B*", 0), (Channel::Book, "A", 5)]);
        wanted.covered();
        wanted.hold(Channel::Quotes, "Q".into(), Options::default(), None, None);
        let mut chains = Chains::default();
        let view: tickgate_protocol::event::EventView<'_> =
            serde_json::from_str(r#"{"type":"quote","symbol":"Q","seq":"1:0:7"}"#).unwrap();
        let seq = view.seq.unwrap();
        chains.event(Channel::Quotes, seq, &view, || Depth::ALL);
        let asked = |requests: &[Resume]| -> Vec<String> {
            requests
                .iter()
                .map(|r| format!("{} {}", r.cursor.is_some(), Value::from(r.subscriptions.clone())))
                .collect()
        };
        let cursor: Arc<str> = "c".into();
        let kept = Some(&cursor);
        assert_eq!(
            asked(&wanted.resume(&mut chains, kept)),
            [
                r#"true [{"channel":"trades","symbols":["A","B*"]}]"#,
                r#"true [{"channel":"book","depth":5,"symbols":["A"]}]"#,
                r#"false [{"channel":"quotes","from":{"seq":"1:0:7"},"symbols":["Q"]}]"#,
            ]
        );
        wanted.covered();
        assert!(wanted.resume(&mut chains, kept).iter().all(|request| request.cursor.is_some()));
        // Then only the one of which something was seen has another way to go on.
        wanted.refused("c", true);
        let with_cursor =
            |requests: Vec<Resume>| -> Vec<bool> { requests.iter().map(|r| r.cursor.is_some()).collect() };
        assert_eq!(with_cursor(wanted.resume(&mut chains, kept)), [true, true, false]);
        assert_eq!(with_cursor(wanted.resume(&mut chains, None)), [false]);
    }
}
