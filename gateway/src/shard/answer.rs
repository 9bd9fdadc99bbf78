//! The feed's answers: where a subscription begins.

use super::replay::{Replays, owed_from};
use super::socket::Socket;
use super::{Shard, entitle};
use crate::event::{Key, Stream};
use crate::feed::request::{Answer, Reply, Request, Resume, SessionKey, State, Target};
use crate::outbox::Offer;
use crate::session::subs::{Ended, Sub};
use crate::session::{PendingSubscribe, Wanted};
use crate::shard::table::{Subscriber, Table};
use crate::stats::ResumeRefusal;
use std::sync::atomic::Ordering;
use tickgate_protocol::command::SubscribeOptions;
use tickgate_protocol::control::Control;
use tickgate_protocol::event::{Gap, GapCause};
use tickgate_protocol::{Channel, Code, OnSlow, Position};

/// What is told of a conflated pattern whose gateway began to read behind what was missed.
const UNREAD: &str = "the newest states follow, as far as this gateway has them: it began to read behind what was missed, so a symbol of \
    which nothing comes may have changed since";

impl<S: Socket> Shard<S> {
    /// Takes an answer of the feed, at its place among the events.
    pub(super) fn answer(&mut self, reply: Reply, now_us: u32) {
        match reply {
            Reply::Subscribed(key, answers) => self.subscribed(key, answers, now_us),
            Reply::Resumed(resumed) => self.resumed(*resumed, now_us),
            Reply::Beyond(ask) => self.beyond(ask),
            Reply::Resynced(key, stream, event) => {
                let bounds = self.bounds;
                if let Some((event, _)) = &event {
                    self.table.meet(&event.symbol);
                }
                let Some((session, table)) = self.open_session_and_table(key) else { return };
                let Some((event, pending)) = event else { return session.outbox.forget(stream) };
                let best = session.subs.best(table, event.stream.channel, event.symbol.id);
                let Some(policy) = best
                    .filter(|sub| table.stream(sub.place) == event.stream)
                    .filter(|sub| session.may_see(table, sub, event.stream.channel, &event.symbol.name))
                    .map(|sub| table.on_slow(sub.place))
                else {
                    return session.outbox.forget(stream);
                };
                if session.outbox.resync(&event, policy, now_us, &bounds) == Offer::Overflow {
                    self.overflowed.push(key.slot);
                }
                self.join(key, event.key(), pending.then_some(event.position));
                self.touch(key.slot);
            }
        }
    }

    fn subscribed(&mut self, key: SessionKey, answers: Vec<Answer>, now_us: u32) {
        let pending = self.open_session(key).and_then(|session| session.pending.take());
        for answer in &answers {
            let is_void = answer.refused || answer.full.is_some() || pending.is_none();
            if is_void || !answer.replays {
                self.landed(&answer.want.target, answer.want.stream, is_void);
            }
        }
        let Some(pending) = pending else { return };
        let PendingSubscribe { id, mut named, wants, reservation, deferred, span, .. } = *pending;
        if let Some(session) = self.open_session(key) {
            session.subs.make_room(wants.len());
        }
        let (mut aged_out, mut is_elsewhere, mut unread) = (false, false, false);
        let mut begun = Vec::new();
        let mut replayed = Vec::new();
        for (wanted, answer) in wants.into_iter().zip(answers) {
            let named = &mut named[wanted.at];
            if answer.refused {
                named.refuse(Code::UnknownSymbol, "not in the list of symbols");
            } else if let Some(message) = answer.full {
                named.refuse(Code::SubscriptionLimit, message);
            } else if answer.no_room {
                let message = "too many symbols are asked for that no record has named yet";
                named.refuse(Code::SubscriptionLimit, message);
            } else {
                named.instrument = answer.symbol.as_ref().map(|s| s.id);
                named.is_unseen = matches!(wanted.target, Target::Symbol(_)) && answer.symbol.is_none();
                named.is_building = answer.building;
                aged_out |= answer.aged_out;
                unread |= answer.unread;
                let is_position = matches!(answer.want.resume, Some(Resume::Cursor(_) | Resume::After(_)));
                is_elsewhere |= answer.aged_out && is_position;
                let is_resumed = answer.want.resume.is_some();
                if let Some(resume) = answer.want.resume.filter(|_| answer.replays) {
                    replayed.push((wanted, resume, answer.epoch));
                    continue;
                }
                let was_owed = self.is_owed(key, &wanted);
                self.begin(key, wanted.channel, &wanted.target, &wanted.options);
                if was_owed {
                    self.owe_no_more(key, &wanted);
                }
                let is_done = is_resumed || was_owed;
                if is_done || !answer.states.is_empty() {
                    begun.push((wanted, answer.states, is_done.then_some(answer.at)));
                }
            }
        }
        // Whoever began is counted by now.
        drop(reservation);
        self.acknowledge(key, id.as_ref(), &named);
        if !span.is_disabled() {
            span.record("refused", named.iter().filter(|named| named.fault.is_some()).count());
        }
        drop(span);
        if unread {
            self.refuse_resume(key, ResumeRefusal::AgedOut);
            self.tell(key, &Control::error(id.clone(), Code::ReplayAgedOut, UNREAD, false));
        }
        if is_elsewhere {
            self.refuse_resume(key, ResumeRefusal::Topic);
        }
        if aged_out {
            let message = "what was missed cannot be replayed: a gap and the present state follow";
            self.tell(key, &Control::error(id.clone(), Code::ReplayAgedOut, message, false));
        }
        // First, as the state of a pattern leaves out what a more specific subscription replays.
        self.begin_replays(key, id.as_ref(), replayed);
        let mut done = Vec::new();
        for (wanted, states, resumed) in begun {
            self.offer_states(key, &wanted, states, &[], now_us);
            done.extend(resumed.map(|seq| (wanted, seq)));
        }
        // Behind the states of all, which so share a frame. Whoever asked where to go on is told that nothing more comes of it.
        for (Wanted { channel, target, .. }, seq) in done {
            let symbol = target.text();
            self.tell(key, &Control::ReplayDone { id: id.clone(), channel, symbol, seq });
        }
        self.hasten_heartbeat(key);
        self.touch(key.slot);
        self.resume_requests(key, deferred);
    }

    /// Enters a subscription into the table, in the place of the one it changes.
    pub(super) fn begin(
        &mut self,
        key: SessionKey,
        channel: Channel,
        target: &Target,
        options: &SubscribeOptions,
    ) {
        let stream = Stream::new(channel, options.depth, options.conflate);
        self.enter(key, target, stream, options.on_slow);
    }

    /// Enters a subscription to a stream into the table, in the place of the one it changes.
    pub(super) fn enter(&mut self, key: SessionKey, target: &Target, stream: Stream, on_slow: OnSlow) {
        let Self { table, sessions, .. } = self;
        let Some(session) = sessions.get_mut(key.slot as usize).filter(|s| s.key == key && s.is_open())
        else {
            return;
        };
        let changed = session.subs.remove(table, stream.channel, target);
        let slot = session.subs.reserve();
        // Entered before the old one leaves, so that a list that both stand in is never empty in between.
        let is_restricted = entitle::is_restricted(session.guest.rights(), stream.channel, target);
        let subscriber = Subscriber::new(key.slot, slot, on_slow).restricted(is_restricted);
        let place = table.insert(target, stream, subscriber);
        session.subs.fill(slot, Sub::new(table, place));
        self.totals.subscriptions += 1;
        self.shared.subscriptions.fetch_add(1, Ordering::Relaxed);
        if let Some(sub) = changed {
            self.leave(key, sub);
        }
    }

    /// Offers states, with what a client that goes on from `origin` has missed before them.
    pub(super) fn offer_states(
        &mut self,
        key: SessionKey,
        wanted: &Wanted,
        states: Vec<State>,
        origin: &[Position],
        now_us: u32,
    ) {
        let Wanted { target, channel, options, .. } = wanted;
        let channel = *channel;
        let bounds = self.bounds;
        let stream = Stream::new(channel, options.depth, options.conflate);
        let mut joined = Vec::new();
        let mut is_over = false;
        for state in states {
            self.table.meet(&state.symbol);
            let Some((session, table)) = self.open_session_and_table(key) else { return };
            let best = session.subs.best(table, channel, state.symbol.id);
            let is_meant = best.is_some_and(|sub| {
                table.target(sub.place) == target && session.may_see(table, sub, channel, &state.symbol.name)
            });
            if !is_meant {
                continue;
            }
            if let Some(gap) = state.gap {
                let first = owed_from(origin, &gap);
                session.outbox.announce_from(&state.symbol, stream, gap, first);
            }
            // A snapshot is never what ends a session: it is as large as what was asked for.
            let policy = if options.on_slow == OnSlow::Disconnect && channel.is_state() {
                OnSlow::Conflate
            } else {
                options.on_slow
            };
            for event in &state.events {
                is_over |= session.outbox.offer(event, policy, now_us, &bounds) == Offer::Overflow;
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

    /// Remembers that a session's snapshot has what is still due to others, if it is so; an earlier snapshot counts no
    /// more.
    fn join(&mut self, key: SessionKey, stream: Key, snapshot: Option<Position>) {
        if let Some(joiners) = self.joiners.get_mut(&stream) {
            joiners.retain(|(joined, _)| *joined != key);
        }
        if let Some(position) = snapshot {
            self.joiners.entry(stream).or_default().push((key, position));
        }
    }

    /// Forgets what a session's ended subscription had joined.
    fn part(&mut self, key: SessionKey, ended: &Ended) {
        if self.joiners.is_empty() {
            return;
        }
        let Self { joiners, table, .. } = self;
        match &ended.target {
            Target::Symbol(name) => {
                let stream = table.symbol_id(name).map(|id| (id, ended.stream));
                if let Some((stream, list)) = stream.and_then(|s| joiners.get_mut(&s).map(|list| (s, list))) {
                    list.retain(|(joined, _)| *joined != key);
                    if list.is_empty() {
                        joiners.remove(&stream);
                    }
                }
            }
            Target::Prefix(_) => joiners.retain(|(symbol, stream), list| {
                if *stream == ended.stream && list.iter().any(|(joined, _)| *joined == key) {
                    let mut is_held = false;
                    table.walk(*symbol, *stream, |_, subscriber| is_held |= subscriber.session == key.slot);
                    list.retain(|(joined, _)| *joined != key || is_held);
                }
                !list.is_empty()
            }),
        }
    }

    /// Takes a subscription from a session, if it was held.
    pub(super) fn drop_sub(&mut self, key: SessionKey, channel: Channel, target: &Target) -> Option<Ended> {
        let Self { table, sessions, .. } = self;
        let session = sessions.get_mut(key.slot as usize).filter(|session| session.key == key)?;
        let sub = session.subs.remove(table, channel, target)?;
        Some(self.leave(key, sub))
    }

    /// Takes a subscription, which its session no longer holds, out of the table.
    pub(super) fn leave(&mut self, key: SessionKey, sub: Sub) -> Ended {
        let Self { table, sessions, .. } = self;
        let ended = Ended { target: table.target(sub.place).clone(), stream: table.stream(sub.place) };
        if let Some(session) = sessions.get_mut(key.slot as usize).filter(|session| session.key == key)
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
            && let Some(session) = self.sessions.get_mut(moved.session as usize)
        {
            session.subs.moved(moved.sub(), sub.place);
        }
        if ended.stream.is_held_back {
            self.leave_replay(key, &ended.target, ended.stream);
        } else if let Some((target, stream)) = removed.emptied
            && !self.in_flight.contains_key(&(target.clone(), stream))
        {
            self.ask(Request::Drop(target, stream));
        }
        self.totals.subscriptions -= 1;
        self.shared.subscriptions.fetch_sub(1, Ordering::Relaxed);
        self.part(key, &ended);
        ended
    }

    /// What becomes of symbols whose subscriptions ended, all that end together being gone.
    pub(super) fn fall_back_all(&mut self, key: SessionKey, ended: &[Ended]) {
        let Some((session, table)) = self.open_session_and_table(key) else { return };
        // Once for thousands of them.
        let mut is_left = [false; Channel::ALL.len()];
        session.subs.iter().for_each(|sub| is_left[table.stream(sub.place).channel as usize] = true);
        for ended in ended.iter().filter(|ended| is_left[ended.stream.channel as usize]) {
            self.fall_back(key, ended);
        }
    }

    /// A symbol whose most specific subscription ended may still match a pattern, with other options: its state comes
    /// anew. With the same options it just goes on. What a subscription that was being brought up to date still owed does not
    /// come any more: of trades a gap says so.
    fn fall_back(&mut self, key: SessionKey, ended: &Ended) {
        let Stream { channel, is_held_back, .. } = ended.stream;
        if !(channel.is_state() || is_held_back) {
            return;
        }
        let owed = if is_held_back { self.shared.directory.matching(&ended.target) } else { Vec::new() };
        owed.iter().for_each(|symbol| self.table.meet(symbol));
        let Some((session, table)) = self.open_session_and_table(key) else { return };
        let mut keys = Vec::new();
        table.matching(&ended.target, |name, id| {
            let was_best = |best: &&Sub| {
                table.target(best.place).specificity() < ended.target.specificity()
                    && session.may_see(table, best, channel, name)
            };
            let best = session.subs.best(table, channel, id).filter(was_best);
            if let Some(stream) =
                best.map(|best| table.stream(best.place)).filter(|s| !s.is_held_back && *s != ended.stream)
            {
                if channel.is_state() {
                    session.outbox.await_snapshot((id, stream));
                }
                keys.push((id, stream));
            }
        });
        for (id, stream) in keys {
            if channel.is_state() {
                self.ask(Request::Resync(key, (id, stream)));
            } else if let (Some(symbol), Some(session)) =
                (self.shared.directory.get(id), self.open_session(key))
            {
                let gap = Gap { after: None, upto: None, count: None, cause: GapCause::SlowConsumer };
                session.outbox.announce(&symbol, stream, gap);
                self.touch(key.slot);
            }
        }
    }

    /// Whether a subscription, as its session has held it so far, is being brought up to date.
    fn is_owed(&mut self, key: SessionKey, wanted: &Wanted) -> bool {
        self.open_session_and_table(key).is_some_and(|(session, table)| {
            let held = session.subs.find(table, wanted.channel, &wanted.target);
            held.is_some_and(|held| owes(session.replays.as_deref(), table, held))
        })
    }

    /// A subscription that was being brought up to date goes on with other options, and what it was still owed does not come
    /// any more: a state stands for that, and of trades a gap says so.
    fn owe_no_more(&mut self, key: SessionKey, wanted: &Wanted) {
        if wanted.channel.is_state() {
            return;
        }
        for symbol in self.shared.directory.matching(&wanted.target) {
            self.table.meet(&symbol);
            let Some((session, table)) = self.open_session_and_table(key) else { return };
            let best = session.subs.best(table, wanted.channel, symbol.id);
            let is_meant = best.is_some_and(|best| {
                *table.target(best.place) == wanted.target
                    && session.may_see(table, best, wanted.channel, &symbol.name)
            });
            if is_meant {
                let gap = Gap { after: None, upto: None, count: None, cause: GapCause::SlowConsumer };
                session.outbox.announce(&symbol, wanted.stream(), gap);
            }
        }
    }

    /// A subscribe is on its way: until its answer, the feed must go on sending what it asks for.
    pub(super) fn took_off(&mut self, target: &Target, stream: Stream) {
        *self.in_flight.entry((target.clone(), stream)).or_default() += 1;
    }

    /// Its answer came; `is_void` when nobody will enter the table for it.
    pub(super) fn landed(&mut self, target: &Target, stream: Stream, is_void: bool) {
        let key = (target.clone(), stream);
        if let Some(count) = self.in_flight.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.in_flight.remove(&key);
                if is_void && !self.table.holds(target, stream) {
                    self.ask(Request::Drop(key.0, stream));
                }
            }
        }
    }
}

/// Whether something is replayed for a subscription, which is live behind that.
pub(super) fn owes(replays: Option<&Replays>, table: &Table, held: &Sub) -> bool {
    let Stream { channel, is_held_back, .. } = table.stream(held.place);
    let is_it = |sub: &Wanted| sub.channel == channel && sub.target == *table.target(held.place);
    let owing = replays.iter().flat_map(|replays| &replays.list).filter(|replay| replay.play.is_none());
    is_held_back && owing.flat_map(|replay| &replay.subs).flatten().any(is_it)
}
