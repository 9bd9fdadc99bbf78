//! The subscriptions of one session.
//!
//! What a subscription names and receives stands once in the shard's table, however many sessions hold it; a session
//! keeps only where. So everything that asks by name takes the table too.

use crate::event::Stream;
use crate::feed::request::Target;
use crate::shard::table::{Place, Table};
use hashbrown::HashTable;
use rustc_hash::FxHasher;
use std::hash::{Hash, Hasher};
use tickgate_protocol::Channel;
use tickgate_protocol::command::SubscribeOptions;

/// One subscription held.
#[derive(Debug, Clone, Copy)]
pub struct Sub {
    /// Where it stands in the shard's table.
    pub place: Place,
    /// The node of the table and the channel: what it is found by.
    node: u32,
    channel: Channel,
}

impl Sub {
    /// The subscription that stands at `place`.
    pub fn new(table: &Table, place: Place) -> Self {
        Self { place, node: table.node_at(place), channel: table.stream(place).channel }
    }

    fn name(&self) -> Name {
        (self.node, self.channel)
    }

    /// Whether a subscription with these options would be the same.
    pub fn is_same(&self, table: &Table, stream: Stream, options: &SubscribeOptions) -> bool {
        table.stream(self.place) == stream
            && table.on_slow(self.place) == options.on_slow
            && options.from.is_none()
            && options.snapshot == 0
    }
}

/// A subscription that is no longer held.
#[derive(Debug)]
pub struct Ended {
    /// What it named.
    pub target: Target,
    /// What it received.
    pub stream: Stream,
}

/// What a subscription is found by: the node of the table and the channel.
type Name = (u32, Channel);

#[derive(Debug, Clone, Copy)]
enum Slot {
    Held(Sub),
    /// And the next one that is free.
    Free(Option<u32>),
}

/// What a subscription costs its session: its slot and its entry among the names, with room to grow.
pub const SUB_BYTES: usize = 2 * (size_of::<Slot>() + size_of::<u32>() + 1);
/// Slots are added by so many at once: a session that holds ten does not pay for sixteen, and one that holds
/// thousands grows by a quarter.
const SLOTS_MIN: usize = 4;
/// Up to so many subscriptions are found by looking at each: most sessions need no index.
const UNINDEXED_MAX: usize = 16;

/// The subscriptions of one session, each in a slot of its own for as long as it is held.
#[derive(Debug, Default)]
pub struct Subs {
    slots: Vec<Slot>,
    free: Option<u32>,
    len: u32,
    /// Slots by name; empty until there are more than [`UNINDEXED_MAX`].
    by_name: HashTable<u32>,
}

impl Subs {
    /// Makes room for so many more, if they are few.
    pub fn make_room(&mut self, more: usize) {
        let free = self.slots.len() - self.len();
        if more <= UNINDEXED_MAX {
            self.slots.reserve_exact(more.saturating_sub(free));
        }
    }

    /// Keeps a slot for a subscription that is about to be added.
    pub fn reserve(&mut self) -> u32 {
        match self.free.take() {
            Some(slot) => {
                if let Slot::Free(next) = self.slots[slot as usize] {
                    self.free = next;
                }
                slot
            }
            None => {
                if self.slots.len() == self.slots.capacity() {
                    self.slots.reserve_exact(SLOTS_MIN.max(self.slots.len() / 4));
                }
                self.slots.push(Slot::Free(None));
                self.slots.len() as u32 - 1
            }
        }
    }

    /// Fills a slot that was reserved.
    pub fn fill(&mut self, slot: u32, sub: Sub) {
        self.slots[slot as usize] = Slot::Held(sub);
        self.len += 1;
        let slots = &self.slots;
        let rehash = |slot: &u32| name_of(slots, *slot).map_or(0, hash);
        if !self.by_name.is_empty() {
            self.by_name.insert_unique(hash(sub.name()), slot, rehash);
        } else if self.len() > UNINDEXED_MAX {
            for slot in (0..slots.len() as u32).filter(|slot| name_of(slots, *slot).is_some()) {
                self.by_name.insert_unique(rehash(&slot), slot, rehash);
            }
        }
    }

    /// Takes a subscription out. Its place in the table is the caller's to leave.
    pub fn remove(&mut self, table: &Table, channel: Channel, target: &Target) -> Option<Sub> {
        if self.is_empty() {
            return None;
        }
        let name = (table.node(target)?, channel);
        let slot = self.slot(name)?;
        if let Ok(entry) = self.by_name.find_entry(hash(name), |other| *other == slot) {
            entry.remove();
        }
        let Slot::Held(sub) = std::mem::replace(&mut self.slots[slot as usize], Slot::Free(self.free)) else {
            return None;
        };
        self.free = Some(slot);
        self.len -= 1;
        if self.len == 0 {
            // The places of thousands that were held once would be gone through for each of the few that come next.
            *self = Self::default();
        }
        Some(sub)
    }

    /// The subscription of `channel` and `target`.
    pub fn find(&self, table: &Table, channel: Channel, target: &Target) -> Option<&Sub> {
        if self.is_empty() {
            return None;
        }
        self.get(self.slot((table.node(target)?, channel))?)
    }

    fn slot(&self, name: Name) -> Option<u32> {
        if self.by_name.is_empty() {
            let is_it = |slot: &Slot| matches!(slot, Slot::Held(sub) if sub.name() == name);
            return self.slots.iter().position(is_it).map(|slot| slot as u32);
        }
        self.by_name.find(hash(name), |slot| name_of(&self.slots, *slot) == Some(name)).copied()
    }

    /// The subscription in a slot.
    #[inline]
    pub fn get(&self, slot: u32) -> Option<&Sub> {
        match self.slots.get(slot as usize)? {
            Slot::Held(sub) => Some(sub),
            Slot::Free(_) => None,
        }
    }

    /// Takes note that the subscription in a slot stands elsewhere in the table.
    pub fn moved(&mut self, slot: u32, place: Place) {
        if let Some(Slot::Held(sub)) = self.slots.get_mut(slot as usize) {
            sub.place = place;
        }
    }

    /// Whether the subscription in `slot`, to `target`, is the most specific one that matches `symbol`.
    #[inline]
    pub fn wins(&self, table: &Table, slot: u32, channel: Channel, target: &Target, symbol: u32) -> bool {
        match target {
            Target::Symbol(_) => true,
            Target::Prefix(_) if self.len == 1 => true,
            Target::Prefix(_) => self.best_slot(table, channel, symbol) == Some(slot),
        }
    }

    /// The most specific subscription that matches `symbol`, which the table has met: exact beats the longest prefix.
    pub fn best(&self, table: &Table, channel: Channel, symbol: u32) -> Option<&Sub> {
        self.get(self.best_slot(table, channel, symbol)?)
    }

    fn best_slot(&self, table: &Table, channel: Channel, symbol: u32) -> Option<u32> {
        // A symbol has at most as many nodes as its name has prefixes.
        let held = table
            .nodes(symbol)
            .iter()
            .filter_map(|node| self.slot((*node, channel)).map(|slot| (table.specificity(*node), slot)));
        held.max().map(|(_, slot)| slot)
    }

    /// All subscriptions.
    pub fn iter(&self) -> impl Iterator<Item = &Sub> {
        let slots = self.slots.iter();
        #[cfg(test)]
        let slots = slots.inspect(|_| crate::replay::STEPS.with(|steps| steps.set(steps.get() + 1)));
        slots.filter_map(|slot| match slot {
            Slot::Held(sub) => Some(sub),
            Slot::Free(_) => None,
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

fn name_of(slots: &[Slot], slot: u32) -> Option<Name> {
    match slots.get(slot as usize)? {
        Slot::Held(sub) => Some(sub.name()),
        Slot::Free(_) => None,
    }
}

fn hash(name: Name) -> u64 {
    let mut hasher = FxHasher::default();
    name.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::table::Subscriber;
    use tickgate_protocol::OnSlow;

    /// More of them than are looked at one by one, and back again, against a plain list.
    #[test]
    fn subscriptions_are_found_with_and_without_an_index() {
        let mut table = Table::default();
        let mut subs = Subs::default();
        let targets: Vec<Target> = (0..3 * UNINDEXED_MAX).map(|n| Target::parse(&format!("S{n}"))).collect();
        let stream = Stream::whole(Channel::Trades);
        let mut held = vec![false; targets.len()];
        let turns = (0..targets.len()).chain((0..targets.len()).step_by(2)).chain(0..targets.len());
        for n in turns {
            let target = &targets[n];
            if held[n] {
                assert!(subs.remove(&table, Channel::Trades, target).is_some());
            } else {
                let slot = subs.reserve();
                let place = table.insert(target, stream, Subscriber::new(0, slot, OnSlow::Skip));
                subs.fill(slot, Sub::new(&table, place));
            }
            held[n] = !held[n];
            assert_eq!(subs.len(), held.iter().filter(|held| **held).count());
            for (target, held) in targets.iter().zip(&held) {
                assert_eq!(subs.find(&table, Channel::Trades, target).is_some(), *held, "{target:?}");
                assert!(subs.find(&table, Channel::Quotes, target).is_none());
            }
        }
    }

    /// Someone who had thousands of subscriptions and gave them all up left thousands of empty places, and each event for
    /// the few that came next went through all of them.
    #[test]
    fn nothing_is_left_of_what_was_given_up() {
        let (mut table, mut subs) = (Table::default(), Subs::default());
        let stream = Stream::whole(Channel::Trades);
        let names: Vec<Target> = (0..1_000).map(|i| Target::parse(&format!("S{i}"))).collect();
        for target in &names {
            let slot = subs.reserve();
            let place = table.insert(target, stream, Subscriber::new(0, slot, OnSlow::Skip));
            subs.fill(slot, Sub::new(&table, place));
        }
        for target in &names {
            assert!(subs.remove(&table, Channel::Trades, target).is_some());
        }
        assert_eq!((subs.len(), subs.slots.capacity(), subs.by_name.capacity()), (0, 0, 0));
        assert_eq!(subs.reserve(), 0);
    }
}
