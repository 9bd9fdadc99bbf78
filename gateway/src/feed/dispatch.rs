//! Handing items to the shards without ever waiting for one.
//!
//! A shard that is behind has a full inbox. What it cannot take is folded: of states the newest is kept, of trades the
//! positions between which they are missing. When there is room again it gets that, and then goes on as before. The
//! gateway's own lateness is never blamed on a client.

use super::engine::Engine;
use crate::event::{Batch, Event, Held, Item, Key, Symbol};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tickgate_protocol::event::{Gap, GapCause, Tail};
use tickgate_protocol::{Channel, Position};
use tokio::sync::mpsc;

/// How long the feed waits for shards that are behind.
const GIVE_WAY: Duration = Duration::from_millis(1);
/// Batches in an inbox at which its shard counts as behind. One or two wait whenever a pass takes longer than the feed;
/// to wait then would only cost latency.
const BEHIND_BATCHES: usize = 16;

/// The way to one shard.
#[derive(Debug)]
pub struct Outlet {
    shard: usize,
    inbox: mpsc::Sender<Batch>,
    /// Bytes of the batches in the inbox and of those being handled.
    inbox_bytes: Arc<AtomicUsize>,
    inbox_bytes_max: usize,
    backlog: Backlog,
}

/// What a shard that is behind still has to be told; at most one entry per stream, of which there are at most
/// `limits.streams_max`.
#[derive(Debug, Default)]
struct Backlog {
    order: VecDeque<Key>,
    entries: FxHashMap<Key, Folded>,
    is_lost: bool,
    positions: Option<Item>,
    feeds: Option<Item>,
}

/// What an entry costs beside its event.
pub const FOLDED_BYTES: usize = size_of::<Folded>() + 2 * size_of::<Key>();

#[derive(Debug)]
struct Folded {
    symbol: Arc<Symbol>,
    /// What is missing before the newest state.
    gap: Option<Gap>,
    newest: Option<Arc<Event>>,
    prev: Option<Position>,
    merged: u32,
    /// Whether a snapshot is among them.
    snapshot: bool,
    /// What is missing behind it.
    gap_behind: Option<Gap>,
}

impl Outlet {
    /// The way to the shard that takes from `inbox`'s other end.
    pub fn new(shard: usize, inbox: mpsc::Sender<Batch>, inbox_bytes_max: usize) -> Self {
        Self { shard, inbox, inbox_bytes: Arc::default(), inbox_bytes_max, backlog: Backlog::default() }
    }

    fn is_full(&self) -> bool {
        self.inbox.capacity() == 0 || self.inbox_bytes.load(Ordering::Relaxed) >= self.inbox_bytes_max
    }

    /// Whether the next batch will be taken as it is: only then may requests of the shard be answered.
    pub fn has_room(&self) -> bool {
        self.backlog.is_empty() && !self.is_full()
    }

    /// Whether so many batches wait for the shard that another can wait as well.
    fn is_behind(&self) -> bool {
        let waiting = self.inbox.max_capacity() - self.inbox.capacity();
        waiting >= BEHIND_BATCHES.min(self.inbox.max_capacity())
    }

    /// Hands over what the engine has for the shard, or folds it.
    pub fn send(&mut self, engine: &mut Engine, decoded_ns: i64) {
        let mut items = engine.take(self.shard);
        if !self.backlog.is_empty() || (!items.is_empty() && self.is_full()) {
            engine.totals.inbox_full += u64::from(self.backlog.is_empty());
            for item in items.drain(..) {
                engine.totals.overload_events += self.backlog.fold(item);
            }
            if self.is_full() {
                return;
            }
            items = self.backlog.unfold(engine, self.inbox_bytes_max);
        }
        if !items.is_empty() {
            let held = Held::new(&self.inbox_bytes, items.iter().map(Item::bytes).sum());
            // There is room, and nobody else sends: this fails only when the shard is gone.
            let _ = self.inbox.try_send(Batch { items, decoded_ns, held });
        }
    }
}

/// Waits for a moment when every shard is behind: what is read now would only lie in their inboxes. The next batch is
/// the larger for it, and where shards share a processor with the feed, it does not interrupt them for every few records.
pub fn give_way(outlets: &[Outlet]) {
    if outlets.iter().all(Outlet::is_behind) {
        std::thread::sleep(GIVE_WAY);
    }
}

impl Backlog {
    fn is_empty(&self) -> bool {
        self.order.is_empty() && !self.is_lost && self.positions.is_none() && self.feeds.is_none()
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
            Item::Lost => {
                self.is_lost = true;
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
            self.order.push_back(key);
            Folded {
                symbol: symbol.clone(),
                gap: None,
                newest: None,
                prev: None,
                merged: 0,
                snapshot: false,
                gap_behind: None,
            }
        })
    }

    /// What is to be told, up to about `bytes_max`; the rest waits for more room.
    fn unfold(&mut self, engine: &mut Engine, bytes_max: usize) -> Vec<Item> {
        let mut items = Vec::new();
        let mut bytes = 0;
        while bytes < bytes_max
            && let Some(key) = self.order.pop_front()
        {
            let Some(folded) = self.entries.remove(&key) else { continue };
            if let Some(gap) = folded.gap {
                items.push(Item::Gap(folded.symbol.clone(), key.1, gap));
            }
            let prev = folded.prev;
            let tail = Tail { prev, merged: folded.merged, snapshot: folded.snapshot, replay: false };
            let event = match folded.newest {
                // A book's changes were given up: everybody on this shard starts over from its present state.
                Some(_) if key.1.channel == Channel::Book && !key.1.is_replaceable() => {
                    let snapshot = engine.snapshot(key);
                    snapshot.map(|event| Arc::new(event.with_tail(Tail { snapshot: true, ..tail })))
                }
                Some(event) if event.tail.prev == prev && event.count == folded.merged => Some(event),
                Some(event) => Some(Arc::new(event.with_tail(tail))),
                None => None,
            };
            bytes += event.as_ref().map_or(0, |event| event.bytes()) + size_of::<Item>();
            items.extend(event.map(Item::Event));
            items.extend(folded.gap_behind.map(|gap| Item::Gap(folded.symbol, key.1, gap)));
        }
        if self.order.is_empty() {
            // A cursor passes nothing that is still to be told.
            items.extend(self.is_lost.then_some(Item::Lost));
            items.extend(self.positions.take());
            items.extend(self.feeds.take());
            *self = Self::default();
        }
        items
    }
}

impl Folded {
    fn event(&mut self, event: Arc<Event>) {
        if event.stream.channel == Channel::Trades {
            let count = u64::from(event.count);
            let after = event.tail.prev;
            let gap =
                self.gap.get_or_insert(Gap { after, upto: after, count: Some(0), cause: GapCause::Overload });
            gap.upto = Some(event.position);
            gap.count = gap.count.map(|c| c + count);
            return;
        }
        if let Some(behind) = self.gap_behind.take() {
            // The state between the gaps is replaced: they are one.
            let after = self.gap.map_or(self.prev, |gap| gap.after);
            self.gap = Some(Gap { after, count: None, ..behind });
            self.merged = 0;
        }
        if self.merged == 0 {
            // What stands behind a gap follows from its end.
            self.prev = self.gap.and_then(|gap| gap.upto).or(event.tail.prev);
        }
        self.merged = self.merged.saturating_add(event.tail.merged.max(event.count));
        self.snapshot |= event.tail.snapshot;
        self.newest = Some(event);
    }

    fn gap(&mut self, gap: Gap) {
        if self.newest.as_ref().is_some_and(|event| event.stream.is_replaceable()) {
            let after = self.gap_behind.map_or(gap.after, |earlier| earlier.after);
            self.gap_behind = Some(Gap { after, ..gap });
            return;
        }
        let after = match (&self.gap, self.merged) {
            (Some(earlier), _) => earlier.after,
            (None, 0) => gap.after,
            (None, _) => self.prev,
        };
        self.gap = Some(Gap { after, count: None, ..gap });
        self.newest = None;
        self.merged = 0;
        self.snapshot = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_behind_when_many_batches_wait_or_its_inbox_is_full() {
        let behind_at = |inbox_batches: usize| {
            let (inbox_in, inbox) = mpsc::channel(inbox_batches);
            let outlet = Outlet::new(0, inbox_in, 1 << 20);
            let batch =
                || Batch { items: Vec::new(), decoded_ns: 0, held: Held::new(&outlet.inbox_bytes, 0) };
            let at = (0..=inbox_batches).find(|_| {
                let is_behind = outlet.is_behind();
                let _ = outlet.inbox.try_send(batch());
                is_behind
            });
            drop(inbox);
            at
        };
        assert_eq!(behind_at(1_024), Some(BEHIND_BATCHES));
        assert_eq!(behind_at(4), Some(4));
    }
}
