//! The subscription table of one shard: which sessions get an event.
//!
//! Plain data: it knows places, not sessions. A *node* is a symbol or a prefix that somebody named; a node has one
//! list of subscribers per stream. Each symbol's row names the nodes that match it, worked out once when the symbol is
//! first seen or a node is made, so that the way of an event is: row, node, list, subscribers.
//!
//! A client may name thousands of prefixes in one message, and all of them end with its session: what is done for one goes
//! through the symbols that begin so, and never through all symbols or all prefixes.

use crate::event::{Stream, Symbol};
use crate::feed::request::Target;
use rustc_hash::FxHashMap;
use slab::Slab;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use tickgate_protocol::OnSlow;

/// A subscriber: the slot of its session, the place of the subscription among that session's own, and its policy. Eight
/// bytes hold all that a delivery needs to know of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscriber {
    /// Slot of the session.
    pub session: u32,
    /// The policy, whether it is restricted, and the place.
    bits: u32,
}

impl Subscriber {
    const POLICY_SHIFT: u32 = 30;
    const RESTRICTED: u32 = 1 << 29;
    const SUB_MASK: u32 = Self::RESTRICTED - 1;

    /// The subscription `sub` of a session.
    pub fn new(session: u32, sub: u32, on_slow: OnSlow) -> Self {
        debug_assert!(sub <= Self::SUB_MASK, "limits.subscriptions_max is far below");
        Self { session, bits: (on_slow as u32) << Self::POLICY_SHIFT | sub }
    }

    /// The same, of which its session may perhaps not see every symbol.
    #[must_use]
    pub fn restricted(self, is_restricted: bool) -> Self {
        let bits = if is_restricted { self.bits | Self::RESTRICTED } else { self.bits & !Self::RESTRICTED };
        Self { bits, ..self }
    }

    /// Whether its session may perhaps not see every symbol of it: only patterns are so.
    #[inline]
    pub fn is_restricted(self) -> bool {
        self.bits & Self::RESTRICTED != 0
    }

    /// Place of the subscription in the session.
    pub fn sub(self) -> u32 {
        self.bits & Self::SUB_MASK
    }

    /// What happens when the client reads too slowly.
    #[inline]
    pub fn on_slow(self) -> OnSlow {
        match self.bits >> Self::POLICY_SHIFT {
            0 => OnSlow::Conflate,
            1 => OnSlow::Skip,
            _ => OnSlow::Disconnect,
        }
    }
}

/// Where a subscriber stands, for its removal in constant time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    list: u32,
    index: u32,
}

/// What a removal moved or emptied.
#[derive(Debug, PartialEq, Eq)]
pub struct Removed {
    /// A subscriber that now stands at the place of the removed one.
    pub moved: Option<Subscriber>,
    /// The target and stream that nobody wants any more.
    pub emptied: Option<(Target, Stream)>,
}

#[derive(Debug)]
struct List {
    node: u32,
    stream: Stream,
    subscribers: Vec<Subscriber>,
}

#[derive(Debug)]
struct Node {
    target: Target,
    lists: SmallVec<[(Stream, u32); 2]>,
}

#[derive(Debug, Default, Clone)]
struct Row {
    is_known: bool,
    nodes: SmallVec<[u32; 2]>,
}

/// What a list costs with the least room for subscribers, and its entry at its node.
pub const LIST_BYTES: usize =
    size_of::<List>() + 4 * size_of::<Subscriber>() + 2 * size_of::<(Stream, u32)>();
/// What a node costs with its name and its entry in the table of targets.
pub const TARGET_BYTES: usize =
    size_of::<Node>() + 2 * size_of::<(Target, u32)>() + tickgate_protocol::SYMBOL_BYTES_MAX + 32;
/// What a known symbol costs: its row with the nodes of a few prefixes, and its name.
pub const ROW_BYTES: usize =
    2 * (size_of::<Row>() + size_of::<(Box<str>, u32)>()) + tickgate_protocol::SYMBOL_BYTES_MAX + 64;

/// The subscription table.
#[derive(Debug, Default)]
pub struct Table {
    lists: Slab<List>,
    nodes: Slab<Node>,
    by_symbol: FxHashMap<Arc<str>, u32>,
    by_prefix: FxHashMap<Arc<str>, u32>,
    rows: Vec<Row>,
    /// In order, so that those with a prefix stand together.
    names: BTreeMap<Box<str>, u32>,
    subscribers: usize,
}

impl Table {
    /// Adds a subscriber of `target`'s `stream`.
    pub fn insert(&mut self, target: &Target, stream: Stream, subscriber: Subscriber) -> Place {
        let node = self.node(target).unwrap_or_else(|| self.add_node(target.clone()));
        let found = self.nodes[node as usize].lists.iter().find(|(s, _)| *s == stream).map(|(_, list)| *list);
        let list = found.unwrap_or_else(|| {
            let list = self.lists.insert(List { node, stream, subscribers: Vec::new() }) as u32;
            self.nodes[node as usize].lists.push((stream, list));
            list
        });
        let subscribers = &mut self.lists[list as usize].subscribers;
        subscribers.push(subscriber);
        self.subscribers += 1;
        Place { list, index: subscribers.len() as u32 - 1 }
    }

    /// Removes the subscriber at `place`. Whoever is `moved` now stands there.
    pub fn remove(&mut self, place: Place) -> Removed {
        let list = &mut self.lists[place.list as usize];
        list.subscribers.swap_remove(place.index as usize);
        self.subscribers -= 1;
        let moved = list.subscribers.get(place.index as usize).copied();
        let emptied = list.subscribers.is_empty().then(|| self.remove_list(place.list));
        Removed { moved, emptied }
    }

    /// The target that a place belongs to: every subscriber shares its name.
    pub fn target(&self, place: Place) -> &Target {
        &self.nodes[self.lists[place.list as usize].node as usize].target
    }

    /// What the subscriber at a place receives.
    pub fn stream(&self, place: Place) -> Stream {
        self.lists[place.list as usize].stream
    }

    /// What happens to the subscription at `place` when its client reads too slowly.
    pub fn on_slow(&self, place: Place) -> OnSlow {
        self.lists[place.list as usize].subscribers[place.index as usize].on_slow()
    }

    /// Whether the session of the subscription at `place` may perhaps not see every symbol of it.
    pub fn is_restricted(&self, place: Place) -> bool {
        self.lists[place.list as usize].subscribers[place.index as usize].is_restricted()
    }

    /// Says so, or that it may.
    pub fn restrict(&mut self, place: Place, is_restricted: bool) {
        let subscriber = &mut self.lists[place.list as usize].subscribers[place.index as usize];
        *subscriber = subscriber.restricted(is_restricted);
    }

    /// The node that a place belongs to.
    pub fn node_at(&self, place: Place) -> u32 {
        self.lists[place.list as usize].node
    }

    /// The node of a target that somebody named.
    pub fn node(&self, target: &Target) -> Option<u32> {
        match target {
            Target::Symbol(name) => self.by_symbol.get(name).copied(),
            Target::Prefix(prefix) => self.by_prefix.get(prefix).copied(),
        }
    }

    /// The nodes that match a symbol; none of a symbol that was not met.
    pub fn nodes(&self, symbol: u32) -> &[u32] {
        self.rows.get(symbol as usize).map_or(&[], |row| &row.nodes)
    }

    /// How much a node says of a symbol that matches it; see [`Target::specificity`].
    pub fn specificity(&self, node: u32) -> usize {
        self.nodes[node as usize].target.specificity()
    }

    /// Calls `visit` for every subscriber of `symbol`'s `stream`, with what it subscribed to.
    #[inline]
    pub fn walk(&self, symbol: u32, stream: Stream, mut visit: impl FnMut(&Target, Subscriber)) {
        let Some(row) = self.rows.get(symbol as usize) else { return };
        for node in &row.nodes {
            let node = &self.nodes[*node as usize];
            for (_, list) in node.lists.iter().filter(|(s, _)| *s == stream) {
                for subscriber in &self.lists[*list as usize].subscribers {
                    visit(&node.target, *subscriber);
                }
            }
        }
    }

    /// Takes note of a symbol, the first time that it is met. Cheap when it is known.
    #[inline]
    pub fn meet(&mut self, symbol: &Symbol) {
        if self.rows.get(symbol.id as usize).is_some_and(|row| row.is_known) {
            return;
        }
        self.add_row(symbol);
    }

    /// The number of a symbol that was met.
    pub fn symbol_id(&self, name: &str) -> Option<u32> {
        self.names.get(name).copied()
    }

    /// Calls `visit` with the name and number of every symbol met that `target` means.
    pub fn matching(&self, target: &Target, mut visit: impl FnMut(&str, u32)) {
        match target {
            Target::Symbol(name) => self.symbol_id(name).into_iter().for_each(|id| visit(name, id)),
            Target::Prefix(prefix) => {
                beginning(&self.names, prefix).for_each(|(name, id)| visit(name, id));
            }
        }
    }

    /// Whether anybody subscribed to `target`'s `stream`.
    pub fn holds(&self, target: &Target, stream: Stream) -> bool {
        let node = self.node(target);
        node.is_some_and(|node| self.nodes[node as usize].lists.iter().any(|(s, _)| *s == stream))
    }

    /// Whether the session in this slot subscribed to anything. Looks at every subscriber.
    pub fn has_session(&self, slot: u32) -> bool {
        self.lists.iter().any(|(_, list)| list.subscribers.iter().any(|s| s.session == slot))
    }

    /// One more than the number of any node.
    pub fn nodes_end(&self) -> u32 {
        self.nodes.capacity() as u32
    }

    /// What a node is, how many sessions subscribed to it and with how many subscriptions. `seen` notes by slot at which
    /// node a session was met last: it is for one count of every node.
    pub fn count(&self, node: u32, seen: &mut Vec<u32>) -> Option<(&Target, u64, u64)> {
        let Node { target, lists } = self.nodes.get(node as usize)?;
        let lists = lists.iter().map(|(_, list)| &self.lists[*list as usize].subscribers);
        let subscriptions = lists.clone().map(|subscribers| subscribers.len() as u64).sum();
        if lists.len() == 1 {
            // A session is in it once.
            return Some((target, subscriptions, subscriptions));
        }
        let mut sessions = 0;
        for subscriber in lists.flatten() {
            let slot = subscriber.session as usize;
            if seen.len() <= slot {
                seen.resize(slot + 1, u32::MAX);
            }
            sessions += u64::from(std::mem::replace(&mut seen[slot], node) != node);
        }
        Some((target, sessions, subscriptions))
    }

    /// How many subscribers there are.
    pub fn len(&self) -> usize {
        self.subscribers
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.subscribers == 0
    }

    fn add_row(&mut self, symbol: &Symbol) {
        let id = symbol.id as usize;
        if self.rows.len() <= id {
            self.rows.resize(id + 1, Row::default());
        }
        self.names.insert(symbol.name.clone(), symbol.id);
        let name = &*symbol.name;
        let exact = self.by_symbol.get(name).copied();
        // A name has no more prefixes than bytes, and the empty one.
        let ends = (0..=name.len()).filter(|end| name.is_char_boundary(*end));
        let matching = ends.filter_map(|end| self.by_prefix.get(&name[..end]).copied());
        self.rows[id] = Row { is_known: true, nodes: exact.into_iter().chain(matching).collect() };
    }

    fn add_node(&mut self, target: Target) -> u32 {
        let node = self.nodes.insert(Node { target: target.clone(), lists: SmallVec::new() }) as u32;
        match target {
            Target::Symbol(name) => {
                if let Some(id) = self.names.get(&*name) {
                    self.rows[*id as usize].nodes.push(node);
                }
                self.by_symbol.insert(name, node);
            }
            Target::Prefix(prefix) => {
                for (_, id) in beginning(&self.names, &prefix) {
                    self.rows[id as usize].nodes.push(node);
                }
                self.by_prefix.insert(prefix, node);
            }
        }
        node
    }

    fn remove_list(&mut self, list: u32) -> (Target, Stream) {
        let List { node, stream, .. } = self.lists.remove(list as usize);
        let lists = &mut self.nodes[node as usize].lists;
        lists.retain(|(s, _)| *s != stream);
        let target = self.nodes[node as usize].target.clone();
        if self.nodes[node as usize].lists.is_empty() {
            self.remove_node(node);
        }
        (target, stream)
    }

    fn remove_node(&mut self, node: u32) {
        let Node { target, .. } = self.nodes.remove(node as usize);
        match &target {
            Target::Symbol(name) => {
                if let Some(id) = self.names.get(&**name) {
                    self.rows[*id as usize].nodes.retain(|n| *n != node);
                }
                self.by_symbol.remove(name);
            }
            Target::Prefix(prefix) => {
                for (_, id) in beginning(&self.names, prefix) {
                    self.rows[id as usize].nodes.retain(|n| *n != node);
                }
                self.by_prefix.remove(prefix);
            }
        }
    }
}

/// The names that begin with `prefix`, which stand together, and their numbers.
fn beginning<'a>(
    names: &'a BTreeMap<Box<str>, u32>,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a str, u32)> {
    let from = names.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
    #[cfg(test)]
    let from = from.inspect(|_| crate::replay::STEPS.with(|steps| steps.set(steps.get() + 1)));
    from.take_while(move |(name, _)| name.starts_with(prefix)).map(|(name, id)| (&**name, *id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::STEPS;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use tickgate_protocol::{Channel, ConflateMs};

    const NAMES: [&str; 6] = ["AAPL", "AMZN", "BTCUSD", "BTCEUR", "B", "ETH"];
    const TARGETS: [&str; 9] = ["AAPL", "AMZN", "BTCUSD", "B", "ETH", "*", "A*", "BTC*", "BTCUSD*"];

    fn streams() -> [Stream; 3] {
        let quotes = Stream::whole(Channel::Quotes);
        [
            Stream::whole(Channel::Trades),
            quotes,
            Stream { conflate: ConflateMs::round_up(100).unwrap(), ..quotes },
        ]
    }

    /// A client that named thousands of prefixes had each of them held against every symbol, when it came and when it went,
    /// and every other session of the thread waited for that.
    #[test]
    fn a_prefix_costs_the_symbols_that_begin_so() {
        const SYMBOLS: u32 = 1_000;
        let mut table = Table::default();
        (0..SYMBOLS).for_each(|id| table.meet(&Symbol::new(id, &format!("{id:04}"))));
        let prefixes: Vec<Target> = (0..SYMBOLS).map(|id| Target::parse(&format!("{id:04}*"))).collect();
        STEPS.set(0);
        let places: Vec<Place> = (0..SYMBOLS)
            .map(|n| {
                let subscriber = Subscriber::new(n, 0, OnSlow::Skip);
                table.insert(&prefixes[n as usize], streams()[0], subscriber)
            })
            .collect();
        table.meet(&Symbol::new(SYMBOLS, "0007x"));
        assert_eq!(table.nodes(SYMBOLS).len(), 1);
        prefixes.iter().for_each(|prefix| table.matching(prefix, |_, _| {}));
        places.into_iter().for_each(|place| assert!(table.remove(place).emptied.is_some()));
        // Each meets its own symbol, and the one behind that.
        assert!(STEPS.get() <= 3 * (2 * SYMBOLS as usize + 1), "{} steps", STEPS.get());
        assert!((0..=SYMBOLS).all(|id| table.nodes(id).is_empty()));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(usize, usize, u32),
        Remove(usize),
        Meet(usize),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..TARGETS.len(), 0usize..3, 0u32..50).prop_map(|(t, s, n)| Step::Insert(t, s, n)),
            3 => (0usize..1000).prop_map(Step::Remove),
            1 => (0..NAMES.len()).prop_map(Step::Meet),
        ]
    }

    proptest! {
        /// Against a list of (target, stream, subscriber) that is searched from end to end.
        #[test]
        fn walks_whom_a_search_would_find(steps in proptest::collection::vec(any_step(), 1..200)) {
            let mut table = Table::default();
            let mut model: BTreeMap<u32, (usize, Stream, Place)> = BTreeMap::new();
            let mut met = std::collections::BTreeSet::new();
            let mut next = 0;
            let mut owners = Vec::new();
            for step in steps {
                match step {
                    Step::Insert(target, stream, session) => {
                        let stream = streams()[stream];
                        let on_slow = [OnSlow::Conflate, OnSlow::Skip, OnSlow::Disconnect][next as usize % 3];
                        let subscriber = Subscriber::new(session, next, on_slow);
                        owners.push(session);
                        prop_assert_eq!((subscriber.sub(), subscriber.on_slow()), (next, on_slow));
                        let narrow = subscriber.restricted(true);
                        prop_assert!(narrow.is_restricted() && !subscriber.is_restricted());
                        prop_assert_eq!((narrow.sub(), narrow.on_slow()), (next, on_slow));
                        prop_assert_eq!(narrow.restricted(false), subscriber);
                        let place = table.insert(&Target::parse(TARGETS[target]), stream, subscriber);
                        model.insert(next, (target, stream, place));
                        next += 1;
                    }
                    Step::Remove(nth) if !model.is_empty() => {
                        let sub = *model.keys().nth(nth % model.len()).unwrap();
                        let (target, stream, place) = model.remove(&sub).unwrap();
                        let removed = table.remove(place);
                        if let Some(moved) = removed.moved {
                            model.get_mut(&moved.sub()).unwrap().2 = place;
                        }
                        let is_last = !model.values().any(|(t, s, _)| (*t, *s) == (target, stream));
                        let expected = is_last.then(|| (Target::parse(TARGETS[target]), stream));
                        prop_assert_eq!(removed.emptied, expected);
                    }
                    Step::Remove(_) => {}
                    Step::Meet(name) => {
                        table.meet(&Symbol::new(name as u32, NAMES[name]));
                        met.insert(name);
                    }
                }
                prop_assert_eq!(table.len(), model.len());
                for session in 0..50 {
                    let is_held = model.keys().any(|sub| owners[*sub as usize] == session);
                    prop_assert_eq!(table.has_session(session), is_held);
                }
                for name in &met {
                    for stream in streams() {
                        let mut walked = Vec::new();
                        table.walk(*name as u32, stream, |_, s| walked.push(s.sub()));
                        walked.sort_unstable();
                        let matching = model.iter().filter(|(_, (target, s, _))| {
                            *s == stream && Target::parse(TARGETS[*target]).matches(NAMES[*name])
                        });
                        prop_assert_eq!(walked, matching.map(|(sub, _)| *sub).collect::<Vec<_>>());
                    }
                }
            }
        }
    }
}
