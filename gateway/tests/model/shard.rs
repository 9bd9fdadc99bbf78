//! A shard without sockets: the same table, outboxes and subscriptions, used as `tickgate_gateway::shard` uses them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tickgate_gateway::event::{Batch, Event, Item, Key, Stream, Symbol};
use tickgate_gateway::feed::request::{Answer, Reply, Request as Ask, SessionKey, Target};
use tickgate_gateway::outbox::{Bounds, Filled, Offer, Outbox};
use tickgate_gateway::session::subs::{Ended, Sub, Subs};
use tickgate_gateway::session::{Wanted, want};
use tickgate_gateway::shard::table::{Subscriber, Table};
use tickgate_protocol::command::{Command, Id, Request, SubscribeOptions, Subscription};
use tickgate_protocol::control::{AckResult, Control, write_heartbeat};
use tickgate_protocol::cursor::{self, CursorKey};
use tickgate_protocol::event::{Gap, Tail};
use tickgate_protocol::{Channel, Code, OnSlow, Position};

pub struct Pending {
    id: Option<Id>,
    results: Vec<AckResult>,
    wants: Vec<(usize, Target, SubscribeOptions)>,
}

pub struct Session {
    pub key: SessionKey,
    pub outbox: Outbox,
    pub subs: Subs,
    pub pending: Option<Pending>,
    pub deferred: VecDeque<String>,
    pub closing: bool,
}

#[derive(Default)]
pub struct Shard {
    pub sessions: Vec<Option<Session>>,
    generation: u32,
    table: Table,
    overflowed: Vec<u32>,
    joiners: HashMap<Key, Vec<(SessionKey, Position)>>,
    in_flight: HashMap<(Target, Stream), u32>,
    positions: Vec<Position>,
    /// What it asked of the feed.
    pub mailbox: VecDeque<Ask>,
    pub now_us: u32,
    /// One for all, so that equal queues share a frame and others do not.
    filled: Filled,
}

impl Shard {
    pub fn open(&mut self) -> SessionKey {
        let slot = self.sessions.iter().position(Option::is_none).unwrap_or_else(|| {
            self.sessions.push(None);
            self.sessions.len() - 1
        });
        let key = SessionKey { slot: slot as u32, generation: self.generation };
        self.generation += 1;
        self.sessions[slot] = Some(Session {
            key,
            outbox: Outbox::default(),
            subs: Subs::default(),
            pending: None,
            deferred: VecDeque::new(),
            closing: false,
        });
        key
    }

    pub fn session(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.sessions.get_mut(key.slot as usize)?.as_mut().filter(|s| s.key == key)
    }

    fn open_session(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.session(key).filter(|s| !s.closing)
    }

    fn open_session_and_table(&mut self, key: SessionKey) -> Option<(&mut Session, &Table)> {
        let session = self.sessions.get_mut(key.slot as usize)?.as_mut();
        Some((session.filter(|s| s.key == key && !s.closing)?, &self.table))
    }

    /// The client hung up.
    pub fn end(&mut self, key: SessionKey) {
        self.leave_all(key);
        if let Some(session) = self.session(key) {
            session.outbox.abandon();
            assert_eq!(session.outbox.books().imbalance(), 0, "the books close at the end");
            assert_eq!(session.outbox.books().held, 0);
        }
        self.sessions[key.slot as usize] = None;
    }

    pub fn pass(&mut self, batch: Batch, bounds: &Bounds) {
        for item in batch.items {
            match item {
                Item::Event(event) => self.deliver(&event, bounds),
                Item::Gap(symbol, stream, gap) => self.announce(&symbol, stream, gap),
                Item::Reply(reply) => self.answer(*reply, bounds),
                Item::Positions(next) => self.positions = next.to_vec(),
                Item::Feeds(_) | Item::Lost => {}
            }
        }
        self.end_overflowed();
    }

    fn deliver(&mut self, event: &Arc<Event>, bounds: &Bounds) {
        self.table.meet(&event.symbol);
        let joiners = self.joiners.remove(&event.key());
        let Self { table, sessions, overflowed, now_us, .. } = self;
        let table: &Table = table;
        table.walk(event.symbol.id, event.stream, |target, subscriber| {
            let session =
                sessions[subscriber.session as usize].as_mut().expect("the table knows only open sessions");
            assert!(session.subs.get(subscriber.sub()).is_some(), "the table knows only held subscriptions");
            if !session.subs.wins(table, subscriber.sub(), event.stream.channel, target, event.symbol.id) {
                return;
            }
            let policy = subscriber.on_slow();
            let tail =
                match joiners.as_ref().and_then(|j| j.iter().rev().find(|(key, _)| *key == session.key)) {
                    Some((_, joined)) if event.position.is_at_or_before(*joined) => return,
                    Some((_, joined)) => Some(Tail { prev: Some(*joined), ..event.tail }),
                    None => None,
                };
            if session.outbox.offer_with(event, tail, policy, *now_us, bounds) == Offer::Overflow {
                overflowed.push(subscriber.session);
            }
        });
    }

    fn announce(&mut self, symbol: &Arc<Symbol>, stream: Stream, gap: Gap) {
        self.table.meet(symbol);
        let joiners = self.joiners.remove(&(symbol.id, stream));
        let Self { table, sessions, .. } = self;
        let table: &Table = table;
        table.walk(symbol.id, stream, |target, subscriber| {
            let session =
                sessions[subscriber.session as usize].as_mut().expect("the table knows only open sessions");
            if !session.subs.wins(table, subscriber.sub(), stream.channel, target, symbol.id) {
                return;
            }
            let joined = joiners.as_ref().and_then(|j| j.iter().rev().find(|(key, _)| *key == session.key));
            let gap = Gap { after: joined.map_or(gap.after, |(_, joined)| Some(*joined)), ..gap };
            session.outbox.announce(symbol, stream, gap);
        });
    }

    fn answer(&mut self, reply: Reply, bounds: &Bounds) {
        match reply {
            Reply::Subscribed(key, answers) => self.subscribed(key, answers, bounds),
            Reply::Resumed(_) | Reply::Beyond(_) => unreachable!("nobody here comes back"),
            Reply::Resynced(key, stream, event) => {
                let now_us = self.now_us;
                if let Some((event, _)) = &event {
                    self.table.meet(&event.symbol);
                }
                let Some((session, table)) = self.open_session_and_table(key) else { return };
                let Some((event, pending)) = event else { return session.outbox.forget(stream) };
                let best = session.subs.best(table, event.stream.channel, event.symbol.id);
                let Some(policy) = best
                    .filter(|sub| table.stream(sub.place) == event.stream)
                    .map(|sub| table.on_slow(sub.place))
                else {
                    return session.outbox.forget(stream);
                };
                if session.outbox.resync(&event, policy, now_us, bounds) == Offer::Overflow {
                    self.overflowed.push(key.slot);
                }
                self.join(key, event.key(), pending.then_some(event.position));
            }
        }
    }

    fn subscribed(&mut self, key: SessionKey, answers: Vec<Answer>, bounds: &Bounds) {
        let pending = self.open_session(key).and_then(|session| session.pending.take());
        for answer in &answers {
            self.landed(&answer.want.target, answer.want.stream, pending.is_none() || answer.refused);
        }
        let Some(Pending { id, mut results, wants }) = pending else { return };
        let mut begun = Vec::new();
        for ((at, target, options), answer) in wants.into_iter().zip(answers) {
            let channel = Channel::parse(&results[at].channel).expect("it was checked");
            let (name, symbol) = (results[at].channel.clone(), results[at].symbol.clone());
            results[at] = if answer.refused || answer.no_room {
                AckResult::refused(&name, &symbol, Code::SubscriptionLimit, "no room")
            } else {
                self.begin(key, channel, &target, &options);
                AckResult::ok(&name, &symbol)
            };
            if results[at].ok {
                begun.push((channel, target, options, answer));
            }
        }
        let ok = results.iter().all(|r| r.ok);
        let Some(session) = self.open_session(key) else { return };
        session.outbox.acknowledge(Control::ack(id, ok, results).to_json().into_bytes());
        for (channel, target, options, answer) in begun {
            self.offer_states(key, channel, &target, &options, answer, bounds);
        }
        while let Some(session) = self.open_session(key)
            && session.pending.is_none()
            && let Some(text) = session.deferred.pop_front()
        {
            self.request(key, &text);
        }
    }

    fn begin(&mut self, key: SessionKey, channel: Channel, target: &Target, options: &SubscribeOptions) {
        let stream = Stream::new(channel, options.depth, options.conflate);
        let Self { table, sessions, .. } = self;
        let open = sessions[key.slot as usize].as_mut().filter(|s| s.key == key && !s.closing);
        let Some(session) = open else { return };
        let changed = session.subs.remove(table, channel, target);
        let slot = session.subs.reserve();
        let place = table.insert(target, stream, Subscriber::new(key.slot, slot, options.on_slow));
        session.subs.fill(slot, Sub::new(table, place));
        if let Some(sub) = changed {
            self.leave(key, sub);
        }
    }

    fn offer_states(
        &mut self,
        key: SessionKey,
        channel: Channel,
        target: &Target,
        options: &SubscribeOptions,
        answer: Answer,
        bounds: &Bounds,
    ) {
        let now_us = self.now_us;
        let stream = Stream::new(channel, options.depth, options.conflate);
        let mut joined = Vec::new();
        let mut is_over = false;
        for state in answer.states {
            self.table.meet(&state.symbol);
            let Some((session, table)) = self.open_session_and_table(key) else { return };
            let best = session.subs.best(table, channel, state.symbol.id);
            if best.is_none_or(|sub| table.target(sub.place) != target) {
                continue;
            }
            if let Some(gap) = state.gap {
                session.outbox.announce(&state.symbol, stream, gap);
            }
            let policy = if options.on_slow == OnSlow::Disconnect && channel.is_state() {
                OnSlow::Conflate
            } else {
                options.on_slow
            };
            for event in &state.events {
                is_over |= session.outbox.offer(event, policy, now_us, bounds) == Offer::Overflow;
            }
            joined.push(((state.symbol.id, stream), state.pending));
        }
        for (stream, position) in joined {
            self.join(key, stream, position);
        }
        if is_over {
            self.overflowed.push(key.slot);
        }
    }

    fn join(&mut self, key: SessionKey, stream: Key, snapshot: Option<Position>) {
        if let Some(joiners) = self.joiners.get_mut(&stream) {
            joiners.retain(|(joined, _)| *joined != key);
        }
        if let Some(position) = snapshot {
            self.joiners.entry(stream).or_default().push((key, position));
        }
    }

    fn part(&mut self, key: SessionKey, ended: &Ended) {
        let Self { joiners, table, .. } = self;
        joiners.retain(|(symbol, stream), list| {
            if *stream == ended.stream && list.iter().any(|(joined, _)| *joined == key) {
                let mut is_held = false;
                table.walk(*symbol, *stream, |_, subscriber| is_held |= subscriber.session == key.slot);
                list.retain(|(joined, _)| *joined != key || is_held);
            }
            !list.is_empty()
        });
    }

    fn leave(&mut self, key: SessionKey, sub: Sub) -> Ended {
        let Self { table, sessions, .. } = self;
        let ended = Ended { target: table.target(sub.place).clone(), stream: table.stream(sub.place) };
        if let Some(session) = sessions.get_mut(key.slot as usize).and_then(Option::as_mut)
            && session.outbox.awaits_snapshots()
        {
            let Ended { target, stream } = &ended;
            table.matching(target, |_, id| {
                // Another subscription that gets the same events goes on waiting.
                let best = session.subs.best(table, stream.channel, id);
                if best.is_none_or(|best| table.stream(best.place) != *stream) {
                    session.outbox.forget((id, *stream));
                }
            });
        }
        let removed = self.table.remove(sub.place);
        if let Some(moved) = removed.moved
            && let Some(Some(session)) = self.sessions.get_mut(moved.session as usize)
        {
            session.subs.moved(moved.sub(), sub.place);
        }
        if let Some((target, stream)) = removed.emptied
            && !self.in_flight.contains_key(&(target.clone(), stream))
        {
            self.mailbox.push_back(Ask::Drop(target, stream));
        }
        self.part(key, &ended);
        ended
    }

    fn landed(&mut self, target: &Target, stream: Stream, is_void: bool) {
        let key = (target.clone(), stream);
        if let Some(count) = self.in_flight.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.in_flight.remove(&key);
                if is_void && !self.table.holds(target, stream) {
                    self.mailbox.push_back(Ask::Drop(key.0, stream));
                }
            }
        }
    }

    fn leave_all(&mut self, key: SessionKey) {
        let Some(session) = self.session(key) else { return };
        let subs = std::mem::take(&mut session.subs);
        for sub in subs.iter() {
            self.leave(key, *sub);
        }
    }

    /// A request from a client.
    pub fn request(&mut self, key: SessionKey, text: &str) {
        let Some(session) = self.open_session(key) else { return };
        if session.pending.is_some() {
            session.deferred.push_back(text.to_owned());
            return;
        }
        let Request { id, command } = Request::parse(text).expect("the test's requests are good");
        match command {
            Command::Subscribe { subscriptions, .. } => self.subscribe(key, id, subscriptions),
            Command::Unsubscribe { subscriptions } => self.unsubscribe(key, id, &subscriptions),
            _ => unreachable!("the test does not ask for it"),
        }
    }

    fn subscribe(&mut self, key: SessionKey, id: Option<Id>, subscriptions: Vec<Subscription>) {
        let (session, table) = self.open_session_and_table(key).expect("it asked");
        let mut pending = Pending { id, results: Vec::new(), wants: Vec::new() };
        for subscription in subscriptions {
            let (channel, options) = subscription.options.expect("the test's options are good");
            for symbol in &subscription.symbols {
                let target = Target::parse(symbol);
                let stream = Stream::new(channel, options.depth, options.conflate);
                if session
                    .subs
                    .find(table, channel, &target)
                    .is_none_or(|held| !held.is_same(table, stream, &options))
                {
                    pending.wants.push((pending.results.len(), target, options));
                }
                pending.results.push(AckResult::ok(&subscription.channel_name, symbol));
            }
        }
        if pending.wants.is_empty() {
            let ack = Control::ack(pending.id, true, pending.results);
            return session.outbox.acknowledge(ack.to_json().into_bytes());
        }
        let channel_of = |at: usize| Channel::parse(&pending.results[at].channel).expect("it was checked");
        let wants: Vec<_> = pending
            .wants
            .iter()
            .map(|(at, target, options)| {
                want(
                    &Wanted { at: 0, target: target.clone(), channel: channel_of(*at), options: *options },
                    None,
                )
            })
            .collect();
        session.pending = Some(pending);
        for want in &wants {
            *self.in_flight.entry((want.target.clone(), want.stream)).or_default() += 1;
        }
        self.mailbox.push_back(Ask::Subscribe(key, wants));
    }

    fn unsubscribe(&mut self, key: SessionKey, id: Option<Id>, subscriptions: &[Subscription]) {
        let mut results = Vec::new();
        let mut ended = Vec::new();
        for subscription in subscriptions {
            let channel = Channel::parse(&subscription.channel_name).expect("it was checked");
            for symbol in &subscription.symbols {
                let target = Target::parse(symbol);
                let (session, table) = self.open_session_and_table(key).expect("it asked");
                results.push(match session.subs.remove(table, channel, &target) {
                    None => AckResult::refused(
                        &subscription.channel_name,
                        symbol,
                        Code::BadRequest,
                        "not subscribed",
                    ),
                    Some(sub) => {
                        ended.push(self.leave(key, sub));
                        AckResult::ok(&subscription.channel_name, symbol)
                    }
                });
            }
        }
        let ok = results.iter().all(|r| r.ok);
        let session = self.session(key).expect("it asked");
        session.outbox.acknowledge(Control::ack(id, ok, results).to_json().into_bytes());
        for sub in ended {
            self.fall_back(key, &sub);
        }
    }

    fn fall_back(&mut self, key: SessionKey, ended: &Ended) {
        let channel = ended.stream.channel;
        if !channel.is_state() {
            return;
        }
        let Self { table, sessions, mailbox, .. } = self;
        let session = sessions[key.slot as usize].as_mut().expect("it asked");
        table.matching(&ended.target, |_, id| {
            let was_best = |best: &&Sub| table.target(best.place).specificity() < ended.target.specificity();
            let best = session.subs.best(table, channel, id).filter(was_best);
            if let Some(stream) = best.map(|best| table.stream(best.place)).filter(|s| *s != ended.stream) {
                session.outbox.await_snapshot((id, stream));
                mailbox.push_back(Ask::Resync(key, (id, stream)));
            }
        });
    }

    /// What a session could resume from, in a heartbeat.
    pub fn heartbeat(&mut self, key: SessionKey) {
        let mut all = self.positions.clone();
        let Some(session) = self.open_session(key) else { return };
        session.outbox.owed_positions(|owed| {
            let next = all.iter_mut().find(|next| owed.is_before(**next));
            next.into_iter().for_each(|next| *next = owed);
        });
        let mut json = Vec::new();
        let cursor = cursor::encode(&all, &CursorKey::new(b""));
        write_heartbeat(&mut json, 1, &cursor, 0, 0, "[]");
        session.outbox.control(json);
    }

    /// Writes what a socket takes, at most `takes` bytes; hands the bytes to `read`.
    pub fn flush(&mut self, key: SessionKey, mut takes: usize, bounds: &Bounds, mut read: impl FnMut(&[u8])) {
        let now_us = self.now_us;
        let mut filled = std::mem::take(&mut self.filled);
        let Some(session) = self.session(key) else { return };
        while session.outbox.has_work() {
            session.outbox.fill(&mut filled, bounds);
            let bytes = filled.bytes().len();
            let taken = bytes.min(takes);
            takes -= taken;
            read(&filled.bytes()[..taken]);
            session.outbox.wrote(&mut filled, taken, now_us);
            if taken < bytes {
                break;
            }
        }
        let resyncs = session.outbox.due_resyncs(bounds);
        if !session.closing
            && session.outbox.queued_bytes() > bounds.bytes_max / 2
            && session.outbox.tell_slow_once()
        {
            session.outbox.control_first(b"{\"op\":\"slow\"}".to_vec());
        }
        for resync in resyncs {
            self.mailbox.push_back(Ask::Resync(key, resync));
        }
        self.filled = filled;
    }

    pub fn check_age(&mut self, bounds: &Bounds) {
        let now_us = self.now_us;
        for slot in 0..self.sessions.len() {
            if let Some(session) = &mut self.sessions[slot]
                && !session.closing
                && session.outbox.is_blocked()
                && session.outbox.check_age(now_us, bounds) == Offer::Overflow
            {
                self.overflowed.push(slot as u32);
            }
        }
        self.end_overflowed();
    }

    fn end_overflowed(&mut self) {
        for slot in std::mem::take(&mut self.overflowed) {
            let Some(session) = &mut self.sessions[slot as usize] else { continue };
            if !std::mem::replace(&mut session.closing, true) {
                let key = session.key;
                session.outbox.close(4490, "slow_consumer", Some(b"{\"op\":\"last words\"}".to_vec()));
                self.leave_all(key);
            }
        }
    }
}

impl Session {
    /// The number of the subscribe that waits for the feed.
    pub fn pending_id(&self) -> Option<i64> {
        match self.pending.as_ref()?.id.as_ref()? {
            Id::Number(id) => Some(*id),
            Id::Text(_) => None,
        }
    }
}
