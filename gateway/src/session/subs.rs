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
}

impl Sub {
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

/// The subscriptions of one session, each in a slot of its own for as long as it is held.
#[derive(Debug, Default)]
pub struct Subs {
    slots: Vec<Slot>,
    free: Option<u32>,
    len: u32,
    /// Slots by the node of the table and the channel.
    by_name: HashTable<u32>,
}

impl Subs {
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
    pub fn fill(&mut self, table: &Table, slot: u32, sub: Sub) {
        self.slots[slot as usize] = Slot::Held(sub);
        self.len += 1;
        let slots = &self.slots;
        let rehash = |slot: &u32| hash_of(slots, table, *slot);
        self.by_name.insert_unique(rehash(&slot), slot, rehash);
    }

    /// Takes a subscription out. Its place in the table is the caller's to leave.
    pub fn remove(&mut self, table: &Table, channel: Channel, target: &Target) -> Option<Sub> {
        let node = table.node(target)?;
        let slots = &self.slots;
        let is_it = |slot: &u32| name_of(slots, table, *slot) == Some((node, channel));
        let (slot, _) = self.by_name.find_entry(hash((node, channel)), is_it).ok()?.remove();
        let Slot::Held(sub) = std::mem::replace(&mut self.slots[slot as usize], Slot::Free(self.free)) else {
            return None;
        };
        self.free = Some(slot);
        self.len -= 1;
        Some(sub)
    }

    /// The subscription of `channel` and `target`.
    pub fn find(&self, table: &Table, channel: Channel, target: &Target) -> Option<&Sub> {
        self.get(self.slot(table, table.node(target)?, channel)?)
    }

    fn slot(&self, table: &Table, node: u32, channel: Channel) -> Option<u32> {
        let is_it = |slot: &u32| name_of(&self.slots, table, *slot) == Some((node, channel));
        self.by_name.find(hash((node, channel)), is_it).copied()
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
            .filter_map(|node| self.slot(table, *node, channel).map(|slot| (table.specificity(*node), slot)));
        held.max().map(|(_, slot)| slot)
    }

    /// All subscriptions.
    pub fn iter(&self) -> impl Iterator<Item = &Sub> {
        self.slots.iter().filter_map(|slot| match slot {
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

fn name_of(slots: &[Slot], table: &Table, slot: u32) -> Option<(u32, Channel)> {
    match slots.get(slot as usize)? {
        Slot::Held(sub) => Some((table.node_at(sub.place), table.stream(sub.place).channel)),
        Slot::Free(_) => None,
    }
}

fn hash_of(slots: &[Slot], table: &Table, slot: u32) -> u64 {
    name_of(slots, table, slot).map_or(0, hash)
}

fn hash(name: (u32, Channel)) -> u64 {
    let mut hasher = FxHasher::default();
    name.hash(&mut hasher);
    hasher.finish()
}
