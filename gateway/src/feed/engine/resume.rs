//! What clients missed, from the feed's memory, up to the point where their subscriptions go on.
//!
//! The answer travels in order with the events, like that to a subscribe: what it holds ends exactly where the next event
//! begins, so nothing has to wait for a replay to catch up.

use super::Engine;
use crate::event::{Event, Item, Stream, Symbol};
use crate::feed::request::{Live, Reply, Resumed, State, Target};
use crate::feed::ring::Record;
use crate::feed::symbols::{StreamState, encode};
use crate::replay::wants::Wants;
use crate::replay::{self, Ask, Chunk, Lost, Missed, Reach, Replayed, Walk, place};
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;
use tickgate_protocol::event::{Gap, GapCause, Tail};
use tickgate_protocol::{Channel, ConflateMs, Position, cursor};

/// Records that are followed back from the newest of each symbol, before all records are gone through instead.
const HOPS_MAX: usize = 4_096;
/// Records that are gone through for one answer: about a millisecond of the feed's time.
const SCANNED_MAX: u64 = 20_000;
/// Symbols that are gone through for one answer, of all that are known.
const WALKED_MAX: usize = 20_000;

/// What is found of an answer so far.
struct Found<'a> {
    ask: &'a mut Ask,
    next: Vec<Position>,
    events: Vec<Replayed>,
    bytes: usize,
}

/// What an answer holds.
struct Part {
    events: Vec<Replayed>,
    /// With the numbers of their wants.
    states: Vec<(usize, State)>,
    bytes: usize,
}

impl Part {
    fn add(&mut self, want: usize, state: State) {
        self.bytes += size_of::<State>() + state.events.iter().map(|event| event.bytes()).sum::<usize>();
        self.states.push((want, state));
    }
}

impl Engine {
    /// Answers what a session missed, or says that memory does not reach so far.
    pub(super) fn resume(&mut self, shard: usize, mut ask: Box<Ask>) {
        // Who was ahead of this gateway would get again, live, what it has: it waits until the feed has read as far.
        let is_ahead = |want: &Missed| want.after.is_some_and(|after| self.ring.is_before(after));
        if ask.waits && ask.wants.iter().any(is_ahead) {
            return self.out[shard].push(Item::Reply(Box::new(Reply::Beyond(ask))));
        }
        let is_settled = self.complete(&mut ask);
        if ask.is_memory_only {
            self.give_up(&mut ask);
        }
        let is_read = ask.wants.iter().any(|want| want.stream.channel != Channel::Book);
        let is_known = ask.is_memory_only
            || !ask.wants.iter().any(is_ahead) && (ask.is_read_again || !self.is_to_be_confirmed(&ask.wants));
        let is_near = is_known && ask.next.iter().all(|next| self.ring.reaches(*next));
        if !is_settled || (is_read && !is_near) {
            return self.out[shard].push(Item::Reply(Box::new(Reply::Beyond(ask))));
        }
        let mut next = std::mem::take(&mut ask.next);
        next.sort_unstable();
        let mut found = Found { ask: &mut ask, next, events: Vec::new(), bytes: 0 };
        let is_all = match self.newest_back(&found) {
            Some(numbers) => self.take_numbers(&mut found, &numbers),
            None => self.scan(&mut found),
        };
        let Found { next, events, bytes, .. } = found;
        let mut part = Part { events, states: Vec::new(), bytes };
        if is_all {
            self.learn(&ask);
        }
        let live = if is_all { self.live(&mut ask, &next, &mut part) } else { None };
        if live.is_some() {
            self.add_held_back(&ask.wants, &mut part);
        }
        let Part { events, states, .. } = part;
        let reach = if live.is_some() { Reach::End } else { Reach::More };
        ask.next = next;
        let chunk = Chunk { ask, events, reach };
        self.totals.resumed_events += chunk.events.len() as u64;
        self.out[shard].push(Item::Reply(Box::new(Reply::Resumed(Box::new(Resumed {
            chunk,
            states,
            live,
        })))));
    }

    /// Whether a symbol of which nothing was read was last heard of just before all that is remembered: then Kafka knows
    /// whether that is so.
    fn is_to_be_confirmed(&self, wants: &[Missed]) -> bool {
        wants.iter().any(|want| {
            let Target::Symbol(name) = &want.target else { return false };
            let id = self.ids.get(&**name).copied();
            let last = id.and_then(|id| self.symbols[id as usize].last[want.stream.channel as usize]);
            last.is_none()
                && want.stream.channel != Channel::Book
                && want.after.is_some_and(|after| self.ring.first(after) == after.offset.saturating_add(1))
        })
    }

    /// Takes from a replay that has caught up where symbols stand of which the feed itself has read nothing, so that their
    /// next event has its `prev`.
    fn learn(&mut self, ask: &Ask) {
        // Of what came since a time, something may have been left out.
        if ask.since_ns.is_some() {
            return;
        }
        for (key @ (id, channel), at) in &ask.last {
            // What was told as lost up to there is no event either.
            let is_lost = ask.lost.iter().any(|lost| at.is_at_or_before(lost.upto));
            // Whatever was read is remembered, or came before that. What stands behind it is yet to be read.
            if is_lost || ask.scattered.contains(key) || at.offset >= self.ring.first(*at) {
                continue;
            }
            let Some(id) = self.directory.get(*id).and_then(|symbol| self.meet(&symbol.name)) else {
                continue;
            };
            let state = &mut self.symbols[id as usize];
            if state.last[*channel as usize].is_some() {
                continue;
            }
            state.last[*channel as usize] = Some(*at);
            self.learned += 1;
            let of_channel = |stream: &&mut StreamState| {
                stream.stream.channel == *channel && stream.stream.conflate == ConflateMs::NONE
            };
            state.streams.iter_mut().filter(of_channel).for_each(|stream| stream.last = Some(*at));
        }
    }

    /// Drops positions of topics that are gone, and adds the partitions that are not named: from the time that is asked for,
    /// or those that a topic has got since from their beginning, unless only single positions are resumed from, whose symbols
    /// stay in their partition or are told. Says whether that was possible: else Kafka has to be asked for the time, or
    /// topics are not found yet.
    fn complete(&self, ask: &mut Ask) -> bool {
        let is_gone = |next: &Position| !self.ring.knows(next.epoch);
        let is_waited_for = ask.topics.is_none() && !self.is_complete;
        if is_waited_for && (ask.since_ns.is_some() || ask.next.iter().any(is_gone)) {
            if !ask.is_memory_only {
                return false;
            }
            // Nobody knows what of: an error is all that can be told.
            let at = ask.next.iter().copied().find(is_gone).unwrap_or(cursor::others_since(0));
            ask.lost.push(Lost { from: at, upto: at });
        }
        let mut next = std::mem::take(&mut ask.next);
        next.retain(|next| !is_gone(next) && ask.is_of(next.epoch));
        ask.next = next;
        if ask.since_ns.is_none() && ask.wants.iter().all(|want| want.after.is_some()) {
            return true;
        }
        let epochs: FxHashSet<u32> = ask.next.iter().map(|next| next.epoch).collect();
        let named: FxHashSet<(u32, u32)> = ask.next.iter().map(|next| (next.epoch, next.partition)).collect();
        let is_due = |first: &Position| {
            (epochs.contains(&first.epoch) || (ask.since_ns.is_some() && ask.is_of(first.epoch)))
                && !named.contains(&(first.epoch, first.partition))
        };
        let unnamed: Vec<Position> = self.ring.firsts().filter(is_due).collect();
        match ask.since_ns {
            _ if unnamed.is_empty() => true,
            None => {
                ask.next.extend(unnamed.into_iter().map(|first| Position { offset: 0, ..first }));
                true
            }
            Some(since_ns) if ask.is_memory_only => {
                for (mut next, is_whole) in self.ring.since(&unnamed, since_ns) {
                    if !is_whole {
                        let upto = self.ring.first(next) - 1;
                        let at = |offset| Position { offset, ..next };
                        ask.lost.push(Lost { from: at(0), upto: at(upto) });
                    } else if let Some(known) = ask.origin_of(next) {
                        next.offset = next.offset.min(known);
                    }
                    ask.next.push(next);
                }
                true
            }
            Some(_) => false,
        }
    }

    /// What memory no longer has is lost.
    fn give_up(&self, ask: &mut Ask) {
        let Ask { next, lost, .. } = ask;
        // Of a partition that is not read nothing will ever come; how much it holds nobody knows.
        let all: FxHashSet<(u32, u32)> =
            self.ring.firsts().map(|first| (first.epoch, first.partition)).collect();
        let is_read = |next: &Position| all.contains(&(next.epoch, next.partition));
        lost.extend(next.iter().filter(|next| !is_read(next)).map(|next| Lost { from: *next, upto: *next }));
        next.retain(is_read);
        for next in next {
            let first = self.ring.first(*next);
            if next.offset < first {
                lost.push(Lost { from: *next, upto: Position { offset: first - 1, ..*next } });
                next.offset = first;
            }
        }
    }

    /// The numbers of all records that are wanted, ascending, with their wants: by following each symbol back from its
    /// newest record. `None` when that is too long a way, or prefixes are wanted.
    fn newest_back(&self, found: &Found<'_>) -> Option<Vec<(u64, usize, u32)>> {
        let mut numbers = Vec::new();
        let mut hops = 0;
        for (at, want) in found.ask.wants.iter().enumerate() {
            let Target::Symbol(name) = &want.target else { return None };
            let channel = want.stream.channel;
            let Some(id) = self.ids.get(&**name).copied().filter(|_| channel != Channel::Book) else {
                continue;
            };
            let moved = self.symbols[id as usize].moved;
            let mut number = self.symbols[id as usize].newest[channel as usize];
            while let Some(record) = number.and_then(|number| self.ring.get(number)) {
                hops += 1;
                if hops > HOPS_MAX {
                    return None;
                }
                let is_missed = is_missed(&found.next, record.arrival.position);
                // Of a symbol that moved, some may be missing that came before some that are not.
                if !is_missed && moved.is_none_or(|moved| self.ring.get(moved).is_none()) {
                    break;
                }
                if is_missed && is_wanted(want, record) {
                    numbers.extend(number.map(|number| (number, at, id)));
                }
                number = record.link(id, channel).and_then(|link| link.before);
            }
        }
        numbers.sort_unstable();
        Some(numbers)
    }

    /// Takes records by number, each whole, until there is enough; says whether that was all.
    fn take_numbers(&mut self, found: &mut Found<'_>, numbers: &[(u64, usize, u32)]) -> bool {
        for (at, (number, want, id)) in numbers.iter().enumerate() {
            if found.bytes >= found.ask.bytes_max && (at == 0 || numbers[at - 1].0 != *number) {
                return false;
            }
            let Some(position) = self.ring.get(*number).map(|record| record.arrival.position) else {
                continue;
            };
            self.add(found, *number, *want, *id);
            // Those of other symbols before it are not wanted, or have lower numbers.
            passed(&mut found.next, position);
        }
        true
    }

    /// Goes through all records from the first that may be missing on, until there is enough; says whether that was all.
    fn scan(&mut self, found: &mut Found<'_>) -> bool {
        let end = self.ring.next_number();
        let first = found.next.iter().map(|next| self.ring.number_of(*next)).min().unwrap_or(end);
        let mut matching: FxHashMap<(u32, Channel), Option<usize>> = FxHashMap::default();
        let wants = found.ask.wants.clone();
        let by_name = Wants::new(&wants);
        for number in first..end {
            if found.bytes >= found.ask.bytes_max || number - first >= SCANNED_MAX {
                return false;
            }
            let Some(record) = self.ring.get(number) else { continue };
            let position = record.arrival.position;
            if !is_missed(&found.next, position) {
                continue;
            }
            let mut wanted: Vec<(usize, u32)> = Vec::new();
            for link in record.links.iter().filter(|link| link.channel != Channel::Book) {
                let want = *matching.entry((link.symbol, link.channel)).or_insert_with(|| {
                    by_name.of(link.channel, &self.symbols[link.symbol as usize].symbol.name)
                });
                if let Some(at) = want.filter(|at| is_wanted(&wants[*at], record)) {
                    wanted.push((at, link.symbol));
                }
            }
            for (want, id) in wanted {
                self.add(found, number, want, id);
            }
            passed(&mut found.next, position);
        }
        true
    }

    /// Adds what a record holds of one symbol.
    fn add(&mut self, found: &mut Found<'_>, number: u64, want: usize, id: u32) {
        let wants = found.ask.wants.clone();
        let want = &wants[want];
        let symbol = self.symbols[id as usize].symbol.clone();
        let Some((event, gap)) = self.replayed(number, &symbol, want.stream, |prev, at| {
            replay::seam(&found.ask.last, &found.ask.lost, want, (id, at), prev)
        }) else {
            return;
        };
        found.ask.note((id, want.stream.channel), event.position);
        found.bytes += event.bytes();
        found.events.push(Replayed { append_ns: 0, event, gap });
    }

    /// Encodes again what a record holds of one symbol.
    fn replayed(
        &mut self,
        number: u64,
        symbol: &Arc<Symbol>,
        stream: Stream,
        seam: impl FnOnce(Option<Position>, Position) -> (Option<Position>, Option<Gap>),
    ) -> Option<(Arc<Event>, Option<Gap>)> {
        let Self { ring, again, .. } = self;
        let record = ring.get(number)?;
        let arrival = record.arrival;
        let link = record.link(symbol.id, stream.channel)?;
        let ticks = again.ticks(&record.value).ok()?;
        let is_meant = |tick: &&tickgate_protocol::record::Tick<'_>| {
            *tick.symbol == *symbol.name && tick.body.channel() == stream.channel
        };
        let updates = ticks.iter().filter_map(|tick| tick.as_ref().ok()).filter(is_meant);
        let (prev, gap) = seam(link.prev, arrival.position);
        let tail = Tail { prev, replay: true, ..Tail::default() };
        let event = encode(symbol, stream, updates.map(|tick| (&tick.body, arrival.meta(tick))), tail)?;
        Some((Arc::new(event), gap))
    }

    /// Where every want goes on, and what of it could not be replayed; `None` when that is too much for one answer. What the
    /// answer has is noted, and the next one goes on behind it.
    fn live(&mut self, ask: &mut Ask, next: &[Position], part: &mut Part) -> Option<Live> {
        let mut live = Live { is_lost: !ask.lost.is_empty(), ..Live::default() };
        let wants = ask.wants.clone();
        for (at, want) in wants.iter().enumerate() {
            let Target::Symbol(name) = &want.target else {
                live.at.push(None);
                continue;
            };
            let id = self.ids.get(&**name).copied();
            let last = id.and_then(|id| self.symbols[id as usize].last[want.stream.channel as usize]);
            live.at.push(last);
            match (id, last) {
                (Some(id), Some(_)) => self.left_over(ask, (at, want), next, id, part)?,
                _ if ask.lost.is_empty() => {}
                _ => {
                    if let Some(symbol) = self.directory.meet_again(name) {
                        self.unread(ask, (at, want), symbol, part)?;
                    }
                }
            }
        }
        if !wants.iter().any(|want| matches!(want.target, Target::Prefix(_))) {
            return Some(live);
        }
        let by_name = Wants::new(&wants);
        self.walk(ask, &by_name, next, part)?;
        if !ask.lost.is_empty() {
            let known: Vec<(u32, Channel)> = ask.last.keys().copied().collect();
            for (id, channel) in known {
                let state = self.symbols.get(id as usize);
                if state.is_some_and(|state| state.last[channel as usize].is_some()) {
                    continue;
                }
                let Some(symbol) = self.directory.get(id) else { continue };
                if let Some(at) = by_name.prefix_of(channel, &symbol.name) {
                    self.unread(ask, (at, &wants[at]), symbol, part)?;
                }
            }
        }
        Some(live)
    }

    /// What conflation holds back of a stream is among what was replayed: what is live follows from there. With the last answer,
    /// as it says nothing that could be too much for one.
    fn add_held_back(&self, wants: &[Missed], part: &mut Part) {
        for (at, want) in wants.iter().enumerate() {
            let Target::Symbol(name) = &want.target else { continue };
            let Some(id) = self.ids.get(&**name).filter(|id| self.is_waiting((**id, want.stream))) else {
                continue;
            };
            let state = &self.symbols[*id as usize];
            let pending = state.last[want.stream.channel as usize];
            let symbol = state.symbol.clone();
            part.states.push((at, State { symbol, gap: None, events: Vec::new(), pending }));
        }
    }

    /// Goes through the symbols that prefixes mean, and adds what of each could not be replayed; `None` when there are more than
    /// one answer may take. The next answer goes on there: of those before it only who has changed since is looked at again.
    fn walk(&mut self, ask: &mut Ask, by_name: &Wants<'_>, next: &[Position], part: &mut Part) -> Option<()> {
        let wants = ask.wants.clone();
        let end = self.ring.next_number();
        let learned = self.learned;
        // Without the records in between nobody knows who has changed: then it begins anew, and goes through all of them.
        let is_known = |walk: &Walk| {
            walk.learned == learned && (walk.number == end || self.ring.get(walk.number).is_some())
        };
        let begun = ask.walk.filter(is_known);
        let walked_max = if ask.walk.is_some() && begun.is_none() { usize::MAX } else { WALKED_MAX };
        let (first, from) = begun.map_or((0, 0), |walk| (walk.want, walk.symbol));
        if let Some(walk) = begun {
            let upto = end.min(walk.number + SCANNED_MAX);
            let records = (walk.number..upto).filter_map(|number| self.ring.get(number));
            let changed: FxHashSet<(u32, Channel)> = records
                .flat_map(|record| record.links.iter().map(|link| (link.symbol, link.channel)))
                .collect();
            for (id, channel) in changed {
                let at = by_name.prefix_of(channel, &self.symbols[id as usize].symbol.name);
                if let Some(at) = at.filter(|at| (*at, id) < (first, from)) {
                    self.left_over(ask, (at, &wants[at]), next, id, part)?;
                }
            }
            if upto < end {
                ask.walk = Some(Walk { number: upto, ..walk });
                return None;
            }
        }
        let mut walked = 0;
        for (at, want) in wants.iter().enumerate().skip(first) {
            if !matches!(want.target, Target::Prefix(_)) {
                continue;
            }
            let from = if at == first { from } else { 0 };
            for id in from..self.symbols.len() as u32 {
                let symbol = &self.symbols[id as usize].symbol;
                let is_meant = want.target.matches(&symbol.name)
                    && by_name.prefix_of(want.stream.channel, &symbol.name) == Some(at);
                let left_over = match is_meant {
                    _ if walked >= walked_max => None,
                    true => self.left_over(ask, (at, want), next, id, part),
                    false => Some(()),
                };
                if left_over.is_none() {
                    ask.walk = Some(Walk { want: at, symbol: id, number: end, learned });
                    return None;
                }
                walked += 1;
            }
        }
        ask.walk = Some(Walk { want: wants.len(), symbol: 0, number: end, learned });
        Some(())
    }

    /// Adds what may be lost of a symbol that the feed has read nothing of; `None` when there is no room for it.
    fn unread(
        &self,
        ask: &mut Ask,
        (number, want): (usize, &Missed),
        symbol: Arc<Symbol>,
        part: &mut Part,
    ) -> Option<()> {
        let key = (symbol.id, want.stream.channel);
        let given = ask.last.get(&key).copied().or(want.after);
        let may_be_its = |lost: &&Lost| given.is_none_or(|given| given.is_before(lost.upto));
        let Some(lost) = ask.lost.iter().rfind(may_be_its).filter(|_| !ask.told.contains(&key)) else {
            return Some(());
        };
        if part.bytes >= ask.bytes_max {
            return None;
        }
        let upto = given.map(|_| lost.upto);
        let gap = Gap { after: given, upto, count: None, cause: GapCause::Retention };
        part.add(number, State { symbol, gap: Some(gap), events: Vec::new(), pending: None });
        ask.told.insert(key);
        if let Some(upto) = upto {
            // What comes of it while the others are told follows from there.
            ask.last.insert(key, upto);
        }
        Some(())
    }

    /// Adds what a symbol's replay could not give; `None` when there is no room for it.
    fn left_over(
        &mut self,
        ask: &mut Ask,
        (number, want): (usize, &Missed),
        next: &[Position],
        id: u32,
        part: &mut Part,
    ) -> Option<()> {
        let channel = want.stream.channel;
        let Some(at) = self.symbols[id as usize].last[channel as usize] else { return Some(()) };
        let given = ask.last.get(&(id, channel)).copied().or(want.after);
        // It has that, or is ahead of this gateway.
        if given.is_some_and(|given| at.is_at_or_before(given)) {
            return Some(());
        }
        let is_followed = want.has_at(at) && place(next, at).is_ok();
        let lost = ask.lost.iter().rfind(|lost| lost.concerns(given, at));
        let cause = match (is_followed, lost) {
            (false, _) if next.iter().any(|next| next.epoch == at.epoch) => Some(GapCause::Repartitioned),
            (false, _) | (true, Some(_)) => Some(GapCause::Retention),
            // It moved, and came partition by partition: all of it, but not in the order that the next event follows from.
            (true, None) if given.is_some_and(|given| given.partition != at.partition) => {
                Some(GapCause::Repartitioned)
            }
            // Its next event follows from the end of a loss, which those who come from another gateway do not know.
            (true, None) if self.is_lost_end(at) => Some(GapCause::Retention),
            (true, None) => None,
        };
        let gap = cause.map(|cause| Gap { after: given, upto: Some(at), count: None, cause });
        if gap.is_none() && channel != Channel::Book {
            return Some(());
        }
        if part.bytes >= ask.bytes_max {
            return None;
        }
        ask.last.insert((id, channel), at);
        if gap.is_none() && self.book_changes(ask, want, (id, given), part) {
            return Some(());
        }
        let state = &mut self.symbols[id as usize];
        // A state from before a loss is no news to who was given all up to there, and may be older than what a client has that
        // comes with a cursor.
        let is_known = |old: Position| {
            given.is_some_and(|given| old.is_at_or_before(given))
                || (want.after.is_none() && ask.origin_of(old).is_some())
        };
        let is_news = !state.old(channel).is_some_and(is_known);
        let snapshot = state.snapshot(want.stream, &self.cache).filter(|_| is_news);
        let events = snapshot.into_iter().collect();
        part.add(number, State { symbol: state.symbol.clone(), gap, events, pending: None });
        Some(())
    }

    /// Adds the changes of a whole book that were missed since `given`, or since the replay's beginning, if every one of them
    /// is still here and said all that there was to say.
    fn book_changes(
        &mut self,
        ask: &Ask,
        want: &Missed,
        (id, given): (u32, Option<Position>),
        part: &mut Part,
    ) -> bool {
        if given.is_none() && ask.origin.is_empty() {
            return false;
        }
        // A partition that is not named was added since.
        let is_missed = |at: Position| {
            given.is_none_or(|given| !at.is_at_or_before(given))
                && want.has_at(at)
                && ask.origin_of(at).is_none_or(|next| next <= at.offset)
        };
        let mut numbers = Vec::new();
        let mut number = self.symbols[id as usize].newest[Channel::Book as usize];
        loop {
            let Some(record) = number.and_then(|number| self.ring.get(number)) else {
                // What was before is gone, or there was none.
                return false;
            };
            if !is_missed(record.arrival.position) {
                break;
            }
            let Some(link) = record.link(id, Channel::Book) else { return false };
            if !link.is_plain || numbers.len() >= HOPS_MAX {
                return false;
            }
            numbers.extend(number);
            number = link.before;
            if link.prev.is_some_and(|prev| !is_missed(prev)) {
                break;
            }
        }
        let symbol = self.symbols[id as usize].symbol.clone();
        let mut changes = Vec::new();
        let mut bytes = 0;
        for number in numbers.into_iter().rev() {
            let Some((event, _)) = self.replayed(number, &symbol, want.stream, |prev, _| (prev, None)) else {
                return false;
            };
            bytes += event.bytes();
            if bytes > ask.bytes_max {
                return false;
            }
            changes.push(Replayed { append_ns: 0, event, gap: None });
        }
        part.bytes += bytes;
        part.events.append(&mut changes);
        true
    }
}

/// Whether a record is among those that a client does not have yet.
fn is_missed(next: &[Position], at: Position) -> bool {
    place(next, at).is_ok_and(|found| next[found].is_at_or_before(at))
}

/// The record at `at` was handled.
fn passed(next: &mut [Position], at: Position) {
    if let Some(next) = place(next, at).ok().map(|found| &mut next[found])
        && next.is_at_or_before(at)
    {
        next.offset = at.offset + 1;
    }
}

/// Whether a want, whose symbol and channel a record has, wants it.
fn is_wanted(want: &Missed, record: &Record) -> bool {
    want.has_at(record.arrival.position)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::feed::engine::{Arrival, EngineConfig};
    use crate::feed::request::{Request, SessionKey};
    use crate::replay::STEPS;
    use tickgate_protocol::record::RecordDecoder;

    /// For each symbol that a pattern means all that is wanted was gone through, one by one: with thousands of both, a client that
    /// came back held up the feed for as long as that took.
    #[test]
    fn a_pattern_beside_many_names_takes_a_few_steps_for_each_symbol() {
        const SYMBOLS: u64 = 2_000;
        const NAMES: u64 = 500;
        let mut engine = Engine::new(EngineConfig::of(&Config::default()), 1);
        let at = |offset| Position { epoch: 7, partition: 0, offset };
        engine.begin(at(0));
        let mut decoder = RecordDecoder::new(1 << 20);
        for n in 0..SYMBOLS {
            let value = format!(r#"{{"type":"trade","symbol":"S{n}","price":"1","size":"1","event_ns":1}}"#);
            let arrival = Arrival { position: at(n), append_ns: 1, ingest_ns: 1, now_ms: 1 };
            engine.record(&mut decoder, &arrival, value.as_bytes(), |error| panic!("{error}"));
        }
        let names = (0..NAMES).map(|n| Target::parse(&format!("S{n}")));
        let targets = names.chain([Target::parse("S1*"), Target::parse("*")]);
        let stream = Stream::whole(Channel::Trades);
        let wants: Arc<[Missed]> = targets.map(|target| Missed { target, stream, after: None }).collect();
        // All of them, and of none anything.
        for (next, events) in [(0, SYMBOLS), (SYMBOLS, 0)] {
            let key = SessionKey { slot: 0, generation: 0 };
            let ask = Ask { next: vec![at(next)], bytes_max: 1 << 30, ..Ask::new(0, key, 0, wants.clone()) };
            STEPS.set(0);
            engine.request(0, Request::Resume(Box::new(ask)));
            let steps = STEPS.get() as u64;
            let [Item::Reply(reply)] = &engine.take(0)[..] else { panic!("one answer") };
            let Reply::Resumed(resumed) = &**reply else { panic!("{reply:?}") };
            assert_eq!((resumed.chunk.events.len() as u64, &resumed.chunk.reach), (events, &Reach::End));
            assert!(steps <= 20 * SYMBOLS, "from {next}: {steps} steps");
        }
    }

    /// Where nothing is read from Kafka again, whoever had read further than the gateway was sent on at once, and got again, live,
    /// what it had.
    #[test]
    fn who_is_ahead_waits_where_only_memory_is_asked() {
        let mut engine = Engine::new(EngineConfig::of(&Config::default()), 1);
        let at = |offset| Position { epoch: 7, partition: 0, offset };
        engine.begin(at(10));
        let (target, stream) = (Target::parse("A"), Stream::whole(Channel::Trades));
        for (waits, offset, is_answered) in [(true, 10, false), (true, 9, true), (false, 10, true)] {
            let wants = Arc::from([Missed { target: target.clone(), stream, after: Some(at(offset)) }]);
            let key = SessionKey { slot: 0, generation: 0 };
            let next = vec![at(offset + 1)];
            let ask = Ask { next, is_memory_only: true, waits, ..Ask::new(0, key, 0, wants) };
            engine.request(0, Request::Resume(Box::new(ask)));
            let [Item::Reply(reply)] = &engine.take(0)[..] else { panic!("one answer") };
            assert_eq!(matches!(**reply, Reply::Resumed(_)), is_answered, "{waits} {offset}: {reply:?}");
        }
    }
}
