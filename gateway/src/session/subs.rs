//! The subscriptions of one session.

use crate::event::Stream;
use crate::feed::request::Target;
use crate::shard::table::Place;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use tickgate_protocol::command::SubscribeOptions;
use tickgate_protocol::{Channel, OnSlow};

/// One subscription held.
#[derive(Debug, Clone)]
pub struct Sub {
    /// What it names.
    pub target: Target,
    /// What it receives.
    pub stream: Stream,
    /// What happens when the client is slow.
    pub on_slow: OnSlow,
    /// Where it stands in the shard's table.
    pub place: Place,
}

impl Sub {
    /// Whether a subscription with these options would be the same.
    pub fn is_same(&self, stream: Stream, options: &SubscribeOptions) -> bool {
        self.stream == stream
            && self.on_slow == options.on_slow
            && options.from.is_none()
            && options.snapshot == 0
    }
}

/// The subscriptions of one session, each in a slot of its own for as long as it is held.
#[derive(Debug, Default)]
pub struct Subs {
    slots: Vec<Option<Sub>>,
    free: Vec<u32>,
    /// Slots of those that name a symbol, by channel.
    exact: [FxHashMap<Arc<str>, u32>; Channel::ALL.len()],
    /// Slots of those that name a prefix.
    prefixes: Vec<u32>,
}

impl Subs {
    /// Keeps a slot for a subscription that is about to be added.
    pub fn reserve(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        })
    }

    /// Fills a slot that was reserved.
    pub fn fill(&mut self, slot: u32, sub: Sub) {
        match &sub.target {
            Target::Symbol(name) => {
                self.exact[sub.stream.channel as usize].insert(name.clone(), slot);
            }
            Target::Prefix(_) => self.prefixes.push(slot),
        }
        self.slots[slot as usize] = Some(sub);
    }

    /// Takes a subscription out.
    pub fn remove(&mut self, channel: Channel, target: &Target) -> Option<Sub> {
        let slot = self.slot(channel, target)?;
        match target {
            Target::Symbol(name) => {
                self.exact[channel as usize].remove(name);
            }
            Target::Prefix(_) => self.prefixes.retain(|s| *s != slot),
        }
        self.free.push(slot);
        self.slots[slot as usize].take()
    }

    /// The subscription of `channel` and `target`.
    pub fn find(&self, channel: Channel, target: &Target) -> Option<&Sub> {
        self.slot(channel, target).and_then(|slot| self.get(slot))
    }

    fn slot(&self, channel: Channel, target: &Target) -> Option<u32> {
        match target {
            Target::Symbol(name) => self.exact[channel as usize].get(name).copied(),
            Target::Prefix(_) => self.prefixes.iter().copied().find(|slot| {
                self.get(*slot).is_some_and(|sub| sub.stream.channel == channel && sub.target == *target)
            }),
        }
    }

    /// The subscription in a slot.
    #[inline]
    pub fn get(&self, slot: u32) -> Option<&Sub> {
        self.slots.get(slot as usize)?.as_ref()
    }

    /// Takes note that the subscription in a slot stands elsewhere in the table.
    pub fn moved(&mut self, slot: u32, place: Place) {
        if let Some(Some(sub)) = self.slots.get_mut(slot as usize) {
            sub.place = place;
        }
    }

    /// Whether the subscription in `slot`, to `target`, is the most specific one that matches `symbol`.
    #[inline]
    pub fn wins(&self, slot: u32, channel: Channel, target: &Target, symbol: &str) -> bool {
        match target {
            Target::Symbol(_) => true,
            Target::Prefix(_) if self.len() == 1 => true,
            Target::Prefix(_) => self.best_slot(channel, symbol) == Some(slot),
        }
    }

    /// The most specific subscription that matches `symbol`: exact beats the longest prefix.
    pub fn best(&self, channel: Channel, symbol: &str) -> Option<&Sub> {
        self.best_slot(channel, symbol).and_then(|slot| self.get(slot))
    }

    fn best_slot(&self, channel: Channel, symbol: &str) -> Option<u32> {
        if let Some(exact) = self.exact[channel as usize].get(symbol) {
            return Some(*exact);
        }
        let matching = self.prefixes.iter().copied().filter(|slot| {
            self.get(*slot).is_some_and(|sub| sub.stream.channel == channel && sub.target.matches(symbol))
        });
        matching.max_by_key(|slot| self.get(*slot).map_or(0, |sub| sub.target.specificity()))
    }

    /// All subscriptions.
    pub fn iter(&self) -> impl Iterator<Item = &Sub> {
        self.slots.iter().flatten()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
