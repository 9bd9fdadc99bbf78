//! Requests of shards: who listens to what, and the state at the point where a subscription begins.

use super::{Engine, PATTERNS_FULL, STREAMS_FULL};
use crate::event::{Item, Stream};
use crate::feed::request::{Answer, Reply, Request, Resume, SessionKey, State, Target, Want};
use crate::feed::symbols::SymbolState;
use tickgate_protocol::event::{Gap, GapCause};
use tickgate_protocol::{Channel, ConflateMs, Depth, Position};

/// How a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// With the present state.
    Fresh,
    /// With what was missed.
    Replay,
    /// With a gap, and the present state: what was missed is gone.
    Gone,
}

impl Engine {
    /// Handles a request of a shard; its answer is the next item that goes there.
    pub fn request(&mut self, shard: usize, request: Request) {
        let bit = 1u64 << shard;
        match request {
            Request::Subscribe(session, wants) => self.subscribe(shard, bit, session, wants),
            Request::Drop(target, stream) => self.drop_interest(bit, &target, stream),
            Request::Resume(ask) => self.resume(shard, ask),
            Request::Resync(session, key) => {
                let snapshot = self.snapshot(key).map(|event| (event, self.is_waiting(key)));
                self.out[shard].push(Item::Reply(Box::new(Reply::Resynced(session, key, snapshot))));
            }
        }
    }

    fn subscribe(&mut self, shard: usize, bit: u64, session: SessionKey, wants: Vec<Want>) {
        let mut bytes_left = self.config.answer_bytes_max;
        let answers = wants.into_iter().map(|want| self.answer(bit, want, &mut bytes_left)).collect();
        self.out[shard].push(Item::Reply(Box::new(Reply::Subscribed(session, answers))));
    }

    fn answer(&mut self, bit: u64, mut want: Want, bytes_left: &mut usize) -> Answer {
        let mut answer = Answer {
            want: want.clone(),
            symbol: None,
            refused: false,
            full: None,
            no_room: false,
            building: false,
            aged_out: false,
            replays: false,
            unread: false,
            at: None,
            epoch: None,
            states: Vec::new(),
        };
        if self.is_late && matches!(want.resume, Some(Resume::After(after)) if self.ring.is_before(after)) {
            // What it has will come again when its time has come; it has missed nothing.
            want.resume = None;
        }
        if let Some(Resume::Past(_)) = want.resume {
            // Nothing live will follow, so nobody listens.
            let Target::Symbol(name) = &want.target else { return Answer { replays: true, ..answer } };
            answer.refused = self.config.allowed.as_ref().is_some_and(|allowed| !allowed.contains(&**name));
            answer.replays = !answer.refused;
            if let Some(state) = self.ids.get(&**name).map(|id| &self.symbols[*id as usize]) {
                let last = state.last[want.stream.channel as usize];
                answer.symbol = Some(state.symbol.clone());
                answer.epoch = last.map(|last| last.epoch).filter(|epoch| self.ring.knows(*epoch));
            }
            return answer;
        }
        match &want.target {
            Target::Symbol(name) => {
                if self.config.allowed.as_ref().is_some_and(|allowed| !allowed.contains(&**name)) {
                    answer.refused = true;
                } else if let Some(id) = self.ids.get(&**name).copied() {
                    if !self.symbols[id as usize].has(want.stream) {
                        if self.streams >= self.config.streams_max {
                            answer.full = Some(STREAMS_FULL);
                            return answer;
                        }
                        self.streams += 1;
                    }
                    self.symbols[id as usize].stream(want.stream).exact |= bit;
                    answer.symbol = Some(self.symbols[id as usize].symbol.clone());
                    answer.building =
                        want.stream.channel == Channel::Book && self.symbols[id as usize].is_building();
                    let state = &self.symbols[id as usize];
                    let last = state.last[want.stream.channel as usize];
                    // None of whoever is ahead of what is late: a lower one than was asked for would say that the log is another.
                    answer.at = last.filter(|_| want.resume.is_some());
                    match self.way(&want, last, state.is_known(want.stream.channel)) {
                        Way::Replay => {
                            answer.replays = true;
                            answer.epoch =
                                last.map(|last| last.epoch).filter(|epoch| self.ring.knows(*epoch));
                        }
                        way => self.state(id, &want, way, &mut answer, bytes_left),
                    }
                } else if self.unseen.contains_key(&**name)
                    || self.unseen.len() < self.config.unseen_symbols_max
                {
                    let streams = self.unseen.entry(name.as_ref().into()).or_default();
                    match streams.iter_mut().find(|(stream, _)| *stream == want.stream) {
                        Some((_, shards)) => *shards |= bit,
                        None => streams.push((want.stream, bit)),
                    }
                    match self.way(&want, None, false) {
                        Way::Fresh => {}
                        Way::Replay => answer.replays = true,
                        Way::Gone => answer.aged_out = true,
                    }
                    answer.building = want.stream.channel == Channel::Book;
                } else {
                    answer.no_room = true;
                }
            }
            Target::Prefix(prefix) => {
                let lacks =
                    |s: &&SymbolState| s.is_met && want.target.matches(&s.symbol.name) && !s.has(want.stream);
                let lacking = self.symbols.iter().filter(lacks).count();
                if self.streams + lacking > self.config.streams_max {
                    answer.full = Some(STREAMS_FULL);
                    return answer;
                }
                let is_full = self.patterns.len() >= self.config.patterns_max;
                if is_full && !self.patterns.holds(prefix, want.stream) {
                    answer.full = Some(PATTERNS_FULL);
                    return answer;
                }
                self.streams += lacking;
                self.patterns.add(prefix, want.stream, bit);
                // Of all symbols at once, the newest states are what is wanted, and no backlog: those that are not known are told of.
                answer.unread = !is_whole(&want)
                    && want
                        .resume
                        .as_ref()
                        .is_some_and(|resume| self.may_be_unread(&want, resume, None, false));
                let way = if answer.unread { Way::Fresh } else { self.way(&want, None, false) };
                answer.replays = way == Way::Replay;
                for id in 0..self.symbols.len() as u32 {
                    let state = &mut self.symbols[id as usize];
                    if state.is_met && want.target.matches(&state.symbol.name) {
                        state.stream(want.stream).prefix |= bit;
                        if !answer.replays {
                            self.state(id, &want, way, &mut answer, bytes_left);
                        }
                    }
                }
            }
        }
        answer
    }

    /// How a subscription begins, to a symbol whose last event is at `last` or to several, and whose state `is_known` or not.
    fn way(&self, want: &Want, last: Option<Position>, is_known: bool) -> Way {
        match &want.resume {
            None => Way::Fresh,
            // The newest state says all that those before it did.
            Some(resume) if !is_whole(want) && !self.may_be_unread(want, resume, last, is_known) => {
                Way::Fresh
            }
            Some(Resume::Since(_) | Resume::Past(_)) => Way::Replay,
            Some(Resume::TooOld) => Way::Gone,
            // A topic that was not found yet will be, or not.
            Some(Resume::After(after)) if !self.is_complete || self.ring.knows(after.epoch) => Way::Replay,
            Some(Resume::After(_)) => Way::Gone,
            Some(Resume::Cursor(cursor)) => {
                let is_all_known = cursor.next.iter().all(|next| self.ring.knows(next.epoch));
                match last {
                    _ if cursor.is_empty() => Way::Fresh,
                    _ if !is_all_known && !self.is_complete => Way::Replay,
                    _ if is_all_known && cursor.since_ns().is_some() => Way::Replay,
                    Some(last) if cursor.next.iter().any(|next| next.epoch == last.epoch) => Way::Replay,
                    None if cursor.next.iter().any(|next| self.ring.knows(next.epoch)) => Way::Replay,
                    // Its topic is one that the client has not heard of.
                    Some(_) if is_all_known => Way::Fresh,
                    _ => Way::Gone,
                }
            }
        }
    }

    /// Whether the newest state that a client missed may be one that the feed has not read, as it began behind that, or has not
    /// begun yet. Of books an answer says so.
    fn may_be_unread(&self, want: &Want, resume: &Resume, last: Option<Position>, is_known: bool) -> bool {
        let is_before = |next: &Position| {
            self.began.get(&(next.epoch, next.partition)).is_none_or(|began| next.offset < *began)
        };
        let is_behind = match resume {
            Resume::Cursor(cursor) => cursor.since_ns().is_some() || cursor.next.iter().any(is_before),
            Resume::After(after) => is_before(&Position { offset: after.offset.saturating_add(1), ..*after }),
            Resume::Since(_) | Resume::Past(_) | Resume::TooOld => false,
        };
        // A state that is older than what the client names is no news to it: that has to be read first.
        let is_ahead =
            matches!(resume, Resume::After(after) if last.is_some_and(|last| last.is_before(*after)));
        (is_ahead || is_behind && !is_known) && want.stream.channel != Channel::Book
    }

    /// Adds the present state of one symbol to an answer.
    fn state(&mut self, id: u32, want: &Want, way: Way, answer: &mut Answer, bytes_left: &mut usize) {
        if *bytes_left == 0 || answer.full.is_some() {
            // Its shard takes the interest back when it reads this.
            answer.full = Some("more state than one request may ask for: name fewer symbols at once");
            answer.states.clear();
            return;
        }
        let state = &mut self.symbols[id as usize];
        let channel = want.stream.channel;
        let is_old = state.old(channel).is_some();
        let events = match channel {
            Channel::Trades => state.last_trades(want.trades as usize),
            // From before a loss: whoever comes with a cursor may have a newer one.
            _ if is_old && matches!(want.resume, Some(Resume::Cursor(_))) => Vec::new(),
            _ => state.snapshot(want.stream, &self.cache).into_iter().collect(),
        };
        let last = state.stream(want.stream).last;
        // What is missing ends where the last trades begin.
        let upto = match events.first() {
            Some(first) if channel == Channel::Trades => first.tail.prev,
            _ => last,
        };
        let gap = match want.resume {
            // It shows what was known before something was lost.
            _ if way == Way::Fresh && is_old => Some(None),
            _ if way != Way::Gone => None,
            Some(Resume::After(after)) => Some(Some(after)),
            _ => Some(None),
        };
        answer.aged_out |= way == Way::Gone;
        let gap = gap.filter(|_| last.is_some()).map(|after| Gap {
            after,
            upto,
            count: None,
            cause: GapCause::Retention,
        });
        let is_waiting = state.stream(want.stream).lane.waiting > 0;
        let pending = events.last().filter(|_| is_waiting).map(|event| event.position);
        if events.is_empty() && gap.is_none() {
            return;
        }
        *bytes_left = bytes_left.saturating_sub(events.iter().map(|event| event.bytes()).sum());
        answer.states.push(State { symbol: state.symbol.clone(), gap, events, pending });
    }

    fn drop_interest(&mut self, bit: u64, target: &Target, stream: Stream) {
        match target {
            Target::Symbol(name) => {
                if let Some(id) = self.ids.get(&**name) {
                    let state = &mut self.symbols[*id as usize];
                    let before = state.streams.len();
                    state.stream(stream).exact &= !bit;
                    state.sweep();
                    self.streams = self.streams + state.streams.len() - before;
                } else if let Some(streams) = self.unseen.get_mut(&**name) {
                    streams.iter_mut().filter(|(s, _)| *s == stream).for_each(|(_, shards)| *shards &= !bit);
                    streams.retain(|(_, shards)| *shards != 0);
                    if streams.is_empty() {
                        self.unseen.remove(&**name);
                    }
                }
            }
            Target::Prefix(prefix) => {
                self.patterns.remove(prefix, stream, bit);
                // Most often it was the shard's only pattern of this stream.
                let is_last = !self.patterns.listens(stream, bit);
                for state in &mut self.symbols {
                    if target.matches(&state.symbol.name) {
                        let before = state.streams.len();
                        let name = &state.symbol.name;
                        let left = || self.patterns.matching(name).any(|(s, b)| s == stream && b & bit != 0);
                        if is_last || !left() {
                            state.stream(stream).prefix &= !bit;
                        }
                        state.sweep();
                        self.streams = self.streams + state.streams.len() - before;
                    }
                }
            }
        }
    }

    /// How many streams of a symbol that was not met yet somebody listens to.
    pub(super) fn awaited(&self, name: &str) -> usize {
        let mut streams: Vec<Stream> = self.unseen.get(name).into_iter().flatten().map(|(s, _)| *s).collect();
        streams.extend(self.patterns.matching(name).map(|(stream, _)| stream));
        streams.sort_unstable();
        streams.dedup();
        streams.len()
    }
}

/// Whether every update of it is sent, and all of it.
fn is_whole(want: &Want) -> bool {
    want.stream.conflate == ConflateMs::NONE && want.stream.depth == Depth::ALL
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::feed::engine::EngineConfig;

    /// Whoever comes from a live gateway is ahead of one that is late by minutes: it would have waited for what it is not owed, and
    /// got nothing live meanwhile.
    #[test]
    fn nobody_waits_for_what_is_not_due() {
        for (is_late, offset, replays) in [(true, 9, true), (true, 10, false), (false, 10, true)] {
            let mut engine = Engine::new(EngineConfig::of(&Config::default()), 1);
            engine.is_late = is_late;
            let at = |offset| Position { epoch: 7, partition: 0, offset };
            engine.begin(at(10));
            let want = Want {
                target: Target::parse("A"),
                stream: Stream::whole(Channel::Trades),
                trades: 0,
                resume: Some(Resume::After(at(offset))),
            };
            engine.request(0, Request::Subscribe(SessionKey { slot: 0, generation: 0 }, vec![want]));
            let Some(Item::Reply(reply)) = engine.take(0).pop() else { panic!("no answer") };
            let Reply::Subscribed(_, answers) = *reply else { panic!("another answer") };
            assert_eq!((answers[0].replays, answers[0].aged_out), (replays, false), "{is_late} {offset}");
            // Who asked where to go on is told when that is done, even so.
            assert!(answers[0].want.resume.is_some());
        }
    }
}
