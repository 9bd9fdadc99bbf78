//! Handing items to the shards without ever waiting for one.
//!
//! A shard that is behind has a full inbox. What it cannot take is folded: of states the newest is kept, of trades the
//! positions between which they are missing. When there is room again it gets that, and then goes on as before. The
//! gateway's own lateness is never blamed on a client.

use super::engine::Engine;
use crate::event::{Batch, Event, Item, Key, Symbol};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use tickgate_protocol::event::{Gap, GapCause, Tail};
use tickgate_protocol::{Channel, Position};
use tokio::sync::mpsc;

/// The way to one shard.
#[derive(Debug)]
pub struct Outlet {
    shard: usize,
    inbox: mpsc::Sender<Batch>,
    backlog: Backlog,
}

/// What a shard that is behind still has to be told; at most one entry per stream.
#[derive(Debug, Default)]
struct Backlog {
    order: Vec<Key>,
    entries: FxHashMap<Key, Folded>,
    positions: Option<Item>,
    feeds: Option<Item>,
}

#[derive(Debug)]
struct Folded {
    symbol: Arc<Symbol>,
    gap: Option<Gap>,
    newest: Option<Arc<Event>>,
    prev: Option<Position>,
    merged: u32,
}

impl Outlet {
    /// The way to the shard that takes from `inbox`'s other end.
    pub fn new(shard: usize, inbox: mpsc::Sender<Batch>) -> Self {
        Self { shard, inbox, backlog: Backlog::default() }
    }

    /// Whether the next batch will be taken as it is: only then may requests of the shard be answered.
    pub fn has_room(&self) -> bool {
        self.backlog.is_empty() && self.inbox.capacity() > 0
    }

    /// Hands over what the engine has for the shard, or folds it.
    pub fn send(&mut self, engine: &mut Engine, decoded_ns: i64) {
        let mut items = engine.take(self.shard);
        if !self.backlog.is_empty() || (!items.is_empty() && self.inbox.capacity() == 0) {
            engine.totals.inbox_full += u64::from(self.backlog.is_empty());
            for item in items.drain(..) {
                engine.totals.overload_events += self.backlog.fold(item);
            }
            if self.inbox.capacity() == 0 {
                return;
            }
            items = self.backlog.unfold(engine);
        }
        if !items.is_empty() {
            // There is room, and nobody else sends: this fails only when the shard is gone.
            let _ = self.inbox.try_send(Batch { items, decoded_ns });
        }
    }
}

impl Backlog {
    fn is_empty(&self) -> bool {
        self.order.is_empty() && self.positions.is_none() && self.feeds.is_none()
    }

    /// Takes an item that there is no room for; returns how many events were conflated or lost with it.
    fn fold(&mut self, item: Item) -> u64 {
        match item {
            Item::Event(event) => {
                let count = u64::from(event.count);
                self.entry(event.key(), &event.symbol).event(event);
                count
            }
            Item::Gap(symbol, stream, gap) => {
                self.entry((symbol.id, stream), &symbol).gap(gap);
                0
            }
            Item::Positions(_) => {
                self.positions = Some(item);
                0
            }
            Item::Feeds(_) => {
                self.feeds = Some(item);
                0
            }
            // Requests are only answered while there is room.
            Item::Reply(_) => {
                debug_assert!(false, "an answer was given to a shard without room");
                0
            }
        }
    }

    fn entry(&mut self, key: Key, symbol: &Arc<Symbol>) -> &mut Folded {
        self.entries.entry(key).or_insert_with(|| {
            self.order.push(key);
            Folded { symbol: symbol.clone(), gap: None, newest: None, prev: None, merged: 0 }
        })
    }

    fn unfold(&mut self, engine: &mut Engine) -> Vec<Item> {
        let mut items = Vec::with_capacity(self.order.len() + 2);
        for key in std::mem::take(&mut self.order) {
            let Some(folded) = self.entries.remove(&key) else { continue };
            if let Some(gap) = folded.gap {
                items.push(Item::Gap(folded.symbol, key.1, gap));
            }
            let tail = Tail { prev: folded.prev, merged: folded.merged, ..Tail::default() };
            let event = match folded.newest {
                // A book's changes were given up: everybody on this shard starts over from its present state.
                Some(_) if key.1.channel == Channel::Book => {
                    let snapshot = engine.snapshot(key);
                    snapshot.map(|event| Arc::new(event.with_tail(Tail { snapshot: true, ..tail })))
                }
                Some(event) if event.tail.prev == folded.prev && event.count == folded.merged => Some(event),
                Some(event) => Some(Arc::new(event.with_tail(Tail { snapshot: event.tail.snapshot, ..tail }))),
                None => None,
            };
            items.extend(event.map(Item::Event));
        }
        items.extend(self.positions.take());
        items.extend(self.feeds.take());
        items
    }
}

impl Folded {
    fn event(&mut self, event: Arc<Event>) {
        if event.stream.channel == Channel::Trades {
            let count = u64::from(event.count);
            let after = event.tail.prev;
            let gap = self.gap.get_or_insert(Gap {
                after,
                upto: after,
                count: Some(0),
                cause: GapCause::Overload,
            });
            gap.upto = Some(event.position);
            gap.count = gap.count.map(|c| c + count);
            return;
        }
        if self.merged == 0 {
            self.prev = event.tail.prev;
        }
        self.merged = self.merged.saturating_add(event.tail.merged.max(event.count));
        self.newest = Some(event);
    }

    fn gap(&mut self, gap: Gap) {
        let after = match (&self.gap, self.merged) {
            (Some(earlier), _) => earlier.after,
            (None, 0) => gap.after,
            (None, _) => self.prev,
        };
        self.gap = Some(Gap { after, count: None, ..gap });
        self.newest = None;
        self.merged = 0;
    }
}
