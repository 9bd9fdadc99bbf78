//! Sessions that get what they missed: a part at a time, and the next when there is room for it in their outboxes.
//!
//! Until a replay has caught up, its subscriptions stand in the table under a stream of their own, which no event is ever
//! sent on: they count, they are listed, and they beat patterns, but nothing live comes before its time. The feed's answer
//! that says "that was all" stands in the inbox exactly where the live events begin.

use super::play::Play;
use super::replay_count::Counted;
use super::socket::Socket;
use super::{Shard, now_us};
use crate::clock;
use crate::event::Stream;
use crate::feed::request::{Live, Request, Resume, Resumed, SessionKey, State, Target};
use crate::outbox::Offer;
use crate::replay::{Ask, Chunk, Lost, Missed, Reach, Replayed, place};
use crate::session::Wanted;
use crate::spans::{self, session_line};
use crate::stats::{PartRefusal, ReplayEnd, ReplayKind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tickgate_protocol::Position;
use tickgate_protocol::command::{Id, Past};
use tickgate_protocol::control::Control;
use tickgate_protocol::event::{Gap, GapCause};

/// Bytes of events in one part at the most: what a client takes in one write. Never more than half of its queue may hold.
pub const PART_BYTES: usize = 64 << 10;
/// Bytes of the first part: whether its link is slow is not known yet.
const PART_BYTES_FIRST: usize = 8 << 10;
/// Bytes of a part at the least.
pub(super) const PART_BYTES_MIN: usize = 4 << 10;
/// Parts grow while one is taken within this share of the age that the queue allows, and shrink when it takes more than that.
const QUICK: u64 = 16;
const SLOW: u64 = 4;
/// When a part that was refused is asked for again, in milliseconds.
const RETRY_MS: u64 = 250;
/// How often a replay may come to the end of Kafka without memory reaching that; then what lies between counts as lost.
const CIRCLES_MAX: u32 = 40;

/// The replays of one session.
#[derive(Debug, Default)]
pub struct Replays {
    pub(super) list: Vec<Replay>,
    begun: u32,
}

impl Replay {
    /// Sizes the next part by how long its client took for the last one.
    pub(super) fn size_part(&mut self, now_ms: u64, age_max_ms: u64, bytes_max: usize) {
        match self.offered_ms.take().map(|offered_ms| now_ms.saturating_sub(offered_ms)) {
            Some(took_ms) if took_ms > age_max_ms / SLOW => self.part_bytes /= 2,
            Some(took_ms) if took_ms < age_max_ms / QUICK => self.part_bytes *= 2,
            _ => {}
        }
        self.part_bytes = self.part_bytes.clamp(PART_BYTES_MIN, PART_BYTES).min(bytes_max / 2);
    }
}

/// What a replay still owes.
#[derive(Debug, Clone, Copy)]
pub struct Rest<'a> {
    /// Where it stands.
    pub next: &'a [Position],
    /// From when on it reads other partitions, if it does.
    pub since_ns: Option<i64>,
    /// Whether it reads those from their beginning that its topics have got since.
    pub is_whole: bool,
    /// The epochs of the topics that it reads, if not all.
    pub topics: Option<&'a [u32]>,
    /// Whether anything was answered.
    pub has_begun: bool,
}

/// Subscriptions that are being brought up to date together.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) number: u32,
    /// The `id` of the request that began it.
    pub(super) id: Option<Id>,
    /// The most specific first, as in what is asked for; `None` where a subscription has ended since.
    pub(super) subs: Vec<Option<Wanted>>,
    /// What is to be asked next, and of whom; absent while an answer is on its way.
    pub(super) next: Option<(Box<Ask>, From)>,
    /// How far it has come, as far as that is known.
    positions: Vec<Position>,
    /// From when on it reads partitions that are not among those, and whether it has begun to.
    since_ns: Option<i64>,
    has_begun: bool,
    /// Whether it reads partitions from their beginning that topics have got since.
    is_whole: bool,
    /// The epochs of the topics that it reads, if not all.
    topics: Option<Arc<[u32]>>,
    /// Bytes of its next part, and when the last one was offered, monotonic milliseconds.
    pub(super) part_bytes: usize,
    pub(super) offered_ms: Option<u64>,
    /// What it held when its question was last here: it is away with it most of the time.
    pub(super) bytes: usize,
    /// Whether the client knows that something was too old.
    pub(super) is_aged_out: bool,
    /// Whether only memory gives the rest, Kafka being asked in vain or its reader fallen: what it lacks need not be gone.
    pub(super) is_unanswered: bool,
    /// Whether Kafka was read to its end since memory was asked last, and how often memory did not reach that.
    is_at_end: bool,
    circles: u32,
    /// Not to be asked before this time, monotonic milliseconds.
    pub(super) not_before_ms: u64,
    /// Of a replay of the past alone: what of it was read, and when it is to be sent.
    pub(super) play: Option<Play>,
    /// Its place among those that are under way.
    pub(super) counted: Counted,
}

/// Where a replay begins: what [`Ask`] says of it.
#[derive(Debug)]
struct Start {
    next: Vec<Position>,
    since_ns: Option<i64>,
    /// Whether the past alone is wanted, and which.
    past: Option<Past>,
    /// Whether what is of that time is wanted of the partitions of `next`, too.
    is_all: bool,
    is_cursor: bool,
    /// The epochs of the topics that have all of it, if that is known.
    topics: Option<Vec<u32>>,
}

/// Who has the next part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    Memory,
    Kafka,
}

impl Replays {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Bytes that they hold, here and on the way.
    pub fn bytes(&self) -> usize {
        let each = |replay: &Replay| {
            size_of::<Replay>() + replay.subs.capacity() * size_of::<Option<Wanted>>() + replay.bytes
        };
        self.list.iter().map(each).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Of what is played: the channel and target of each subscription, and where the gateway stood when it began.
    pub fn played(&self) -> impl Iterator<Item = (&Wanted, &[Position])> {
        let plays = self.list.iter().filter_map(|replay| Some((replay, replay.play.as_ref()?)));
        plays.flat_map(|(replay, play)| replay.subs.iter().flatten().map(|sub| (sub, &*play.began_at)))
    }

    /// What each still owes: a cursor must not pass that.
    pub fn owed(&self) -> impl Iterator<Item = Rest<'_>> {
        // The past alone is no part of what a client has of the present.
        self.list.iter().filter(|replay| replay.play.is_none()).map(|replay| Rest {
            next: &replay.positions,
            since_ns: replay.since_ns,
            is_whole: replay.is_whole,
            topics: replay.topics.as_deref(),
            has_begun: replay.has_begun,
        })
    }
}

impl<S: Socket> Shard<S> {
    /// Begins what brings subscriptions up to date that the feed has answered.
    pub(super) fn begin_replays(
        &mut self,
        key: SessionKey,
        id: Option<&Id>,
        wanted: Vec<(Wanted, Resume, Option<u32>)>,
    ) {
        let mut groups: Vec<(Start, Vec<(Wanted, Missed)>)> = Vec::new();
        for (wanted, resume, epoch) in wanted {
            self.hold_back(key, &wanted);
            let is_cursor = matches!(resume, Resume::Cursor(_));
            let past = if let Resume::Past(past) = resume { Some(past) } else { None };
            let is_all = matches!(&resume, Resume::Cursor(cursor) if cursor.all_ns.is_some());
            let (next, after, since_ns) = match resume {
                Resume::Cursor(cursor) => (cursor.next.clone(), None, cursor.since_ns()),
                Resume::After(after) => {
                    (vec![Position { offset: after.offset.saturating_add(1), ..after }], Some(after), None)
                }
                Resume::Since(ns) | Resume::Past(Past { since_ns: ns, .. }) => (Vec::new(), None, Some(ns)),
                Resume::TooOld => continue,
            };
            let missed = Missed { target: wanted.target.clone(), stream: wanted.stream(), after };
            let group = groups.iter_mut().find(|(start, members)| {
                let is_kin = |other: &Missed| other.after.is_some() == after.is_some();
                (start.is_cursor, start.since_ns, start.past) == (is_cursor, since_ns, past)
                    && members.first().is_some_and(|(_, other)| is_kin(other))
            });
            // A position names its topic.
            let topics = epoch.filter(|_| after.is_none()).map(|epoch| vec![epoch]);
            match group {
                None => {
                    let start = Start { next, since_ns, past, is_all, is_cursor, topics };
                    groups.push((start, vec![(wanted, missed)]));
                }
                Some((together, members)) => {
                    if after.is_some() {
                        next.into_iter().for_each(|next| reach_back(&mut together.next, next));
                    }
                    together.topics = match (together.topics.take(), topics) {
                        (Some(mut known), Some(more)) => {
                            known.extend(more);
                            Some(known)
                        }
                        _ => None,
                    };
                    members.push((wanted, missed));
                }
            }
        }
        for (start, mut members) in groups {
            members.sort_by_key(|(wanted, _)| std::cmp::Reverse(wanted.target.specificity()));
            let (subs, wants): (Vec<_>, Vec<_>) =
                members.into_iter().map(|(wanted, missed)| (Some(wanted), missed)).unzip();
            self.begin_replay(key, id.cloned(), start, subs, wants.into());
        }
    }

    fn begin_replay(
        &mut self,
        key: SessionKey,
        id: Option<Id>,
        start: Start,
        subs: Vec<Option<Wanted>>,
        wants: Arc<[Missed]>,
    ) {
        let (shard, tier, is_memory_only) =
            (self.id, self.shared.tier.number, self.shared.read_again.is_none());
        let Start { next, since_ns, past, is_all, topics, .. } = start;
        let topics = topics.map(|mut topics| {
            topics.sort_unstable();
            topics.dedup();
            Arc::<[u32]>::from(topics)
        });
        let is_whole = since_ns.is_none() && wants.iter().any(|want| want.after.is_none());
        let (counts, began_at) = (self.replay_counts.clone(), self.positions.clone());
        let Some(session) = self.open_session(key) else { return };
        session.is_replaying = true;
        let kind = if past.is_some() { ReplayKind::Past } else { ReplayKind::Missed };
        let span = spans::replay(|| session.name(shard), shard, kind.label(), subs.len());
        let replays = session.replays.get_or_insert_default();
        let number = replays.begun;
        let is_wanted = Arc::new(AtomicBool::new(true));
        let counted = counts.begin(kind, is_wanted.clone(), span);
        replays.begun = replays.begun.wrapping_add(1);
        // A time is a position only Kafka knows.
        let from = if since_ns.is_some() && !is_memory_only { From::Kafka } else { From::Memory };
        let (positions, mut origin) = (next.clone(), next.clone());
        origin.sort_unstable();
        let ask = Ask {
            origin: origin.into(),
            topics: topics.clone(),
            next: if is_all { Vec::new() } else { next },
            since_ns,
            until_ns: past.and_then(|past| past.until_ns),
            bytes_max: PART_BYTES_MIN,
            is_memory_only,
            waits: is_memory_only,
            is_wanted,
            tier,
            ..Ask::new(shard, key, number, wants)
        };
        let ask_bytes = ask.bytes();
        let next = Some((Box::new(ask), from));
        replays.list.push(Replay {
            number,
            id,
            subs,
            next,
            part_bytes: PART_BYTES_FIRST,
            offered_ms: None,
            bytes: ask_bytes + positions.capacity() * size_of::<Position>(),
            positions,
            since_ns,
            is_whole,
            topics,
            has_begun: false,
            is_aged_out: false,
            is_unanswered: false,
            is_at_end: false,
            circles: 0,
            not_before_ms: 0,
            play: past.map(|past| Play::new(past, began_at)),
            counted,
        });
        self.account_reading(key);
        self.ask_replays(key);
    }

    /// Asks for the next parts of a session's replays, if it has room for them.
    pub(super) fn ask_replays(&mut self, key: SessionKey) {
        let (bytes_max, age_max_ms) = (self.bounds.bytes_max, self.shared.config.outbox.age_max_ms);
        let Some(session) = self.open_session(key) else { return };
        if session.outbox.is_blocked() {
            return;
        }
        let queued_bytes = session.outbox.queued_bytes();
        let Some(replays) = &mut session.replays else { return };
        let now_ms = clock::mono_ms();
        for replay in replays.list.iter_mut().filter(|replay| replay.next.is_some()) {
            // It sends, which is not for the midst of a flush.
            let is_room = queued_bytes <= replay.part_bytes / 2;
            replay.play.iter_mut().for_each(|play| play.has_room(is_room, now_ms));
        }
        let is_due = |replay: &&mut Replay| replay.play.is_none() && replay.not_before_ms <= now_ms;
        let due = replays.list.iter_mut().filter(is_due);
        // Of what was offered last, no more than half is left.
        let has_room = |replay: &&mut Replay| queued_bytes <= replay.part_bytes / 2;
        let ask_next = |replay: &mut Replay| {
            let (mut ask, from) = replay.next.take()?;
            replay.size_part(now_ms, age_max_ms, bytes_max);
            ask.bytes_max = replay.part_bytes;
            Some((ask, from))
        };
        let asks: Vec<_> = due.filter(has_room).filter_map(ask_next).collect();
        for (ask, from) in asks {
            match (&self.shared.read_again, from) {
                (Some(read_again), From::Kafka) => {
                    if let Err(ask) = read_again(ask) {
                        self.turned_away(ask, PartRefusal::QueueFull);
                    }
                }
                _ => self.ask(Request::Resume(ask)),
            }
        }
        self.alarm(key);
    }

    /// Those who read Kafka again cannot do so now.
    pub(super) fn turned_away(&mut self, ask: Box<Ask>, reason: PartRefusal) {
        self.replay_counts.put_off(reason);
        let (id, key, number) = (self.id, ask.key, ask.replay);
        if let Some(session) = self.session(key) {
            session_line!(DEBUG, session, id, reason = reason.label(), "a replay has to wait");
        }
        if let Some(replay) = self.replay(key, number) {
            replay.next = Some((ask, From::Kafka));
            self.put_off(key, number);
        }
    }

    /// Asks for the next part only after a while.
    fn put_off(&mut self, key: SessionKey, number: u32) {
        let due_ms = clock::mono_ms() + RETRY_MS;
        if let Some(replay) = self.replay(key, number) {
            replay.not_before_ms = due_ms;
            // It is not the client that takes long.
            replay.offered_ms = None;
        }
        self.alarm(key);
    }

    /// The feed's memory does not reach so far.
    pub(super) fn beyond(&mut self, ask: Box<Ask>) {
        let (key, number) = (ask.key, ask.replay);
        let Some(replay) = self.replay(key, number) else { return };
        let mut ask = ask;
        if ask.waits {
            // Until the feed has read as far as its client.
            replay.circles += 1;
            ask.waits = replay.circles < CIRCLES_MAX;
            replay.next = Some((ask, From::Memory));
            return self.put_off(key, number);
        }
        if !std::mem::take(&mut replay.is_at_end) {
            replay.next = Some((ask, From::Kafka));
            return self.ask_replays(key);
        }
        // It is behind, lacks a partition, or remembers too little: to ask at once would be to ask in circles, for ever no answer.
        replay.circles += 1;
        ask.is_memory_only = replay.circles >= CIRCLES_MAX;
        replay.is_unanswered = ask.is_memory_only;
        let from = if ask.is_memory_only { From::Memory } else { From::Kafka };
        replay.next = Some((ask, from));
        self.put_off(key, number);
    }

    /// The next part, from the feed's memory.
    pub(super) fn resumed(&mut self, resumed: Resumed, now_us: u32) {
        let Resumed { chunk: Chunk { ask, events, .. }, states, live } = resumed;
        self.offer_missed(ask.key, ask.replay, events, &ask.origin, now_us);
        self.offer_left_over(&ask, states, now_us);
        match live {
            None => self.go_on(ask, From::Memory),
            Some(live) => self.caught_up(ask.key, ask.replay, live),
        }
    }

    /// The next part, from Kafka.
    pub fn replayed(&mut self, chunk: Chunk) {
        let key = chunk.ask.key;
        if self.replay(key, chunk.ask.replay).is_some_and(|replay| replay.play.is_some()) {
            self.played(chunk);
            self.end_overflowed();
            return self.flush_touched();
        }
        let Chunk { ask, events, reach } = chunk;
        self.offer_missed(key, ask.replay, events, &ask.origin, now_us());
        match reach {
            Reach::More => self.go_on(ask, From::Kafka),
            Reach::End => {
                if let Some(replay) = self.replay(key, ask.replay) {
                    (replay.is_at_end, replay.is_unanswered) = (true, ask.is_memory_only);
                }
                self.go_on(ask, From::Memory);
            }
            Reach::Refused => self.turned_away(ask, PartRefusal::NoAnswer),
        }
        self.end_overflowed();
        self.flush_touched();
    }

    /// Takes note of what comes next, and asks for it if there is room.
    fn go_on(&mut self, ask: Box<Ask>, from: From) {
        let (key, number) = (ask.key, ask.replay);
        let Some(replay) = self.replay(key, number) else { return };
        replay.has_begun = true;
        replay.offered_ms = Some(clock::mono_ms());
        replay.positions.clone_from(&ask.next);
        // What is gone is told with the first event behind it, or at the end.
        let is_known = |lost: &&Lost| lost.from.epoch != 0;
        let lost = ask.lost.iter().filter(is_known);
        replay.positions.sort_unstable();
        lost.for_each(|lost| reach_back(&mut replay.positions, lost.from));
        replay.bytes = ask.bytes() + replay.positions.capacity() * size_of::<Position>();
        replay.next = Some((ask, from));
        self.account_reading(key);
        // What was just offered goes out first: when it has, there is room.
        self.touch(key.slot);
    }

    /// Offers what was missed since `origin` to a session's outbox.
    pub(super) fn offer_missed(
        &mut self,
        key: SessionKey,
        number: u32,
        events: Vec<Replayed>,
        origin: &[Position],
        now_us: u32,
    ) {
        if events.is_empty() {
            return;
        }
        if events.iter().any(|missed| missed.gap.is_some()) {
            self.tell_aged_out(key, number);
        }
        let bounds = self.bounds;
        let mut is_over = false;
        for Replayed { event, gap, .. } in events {
            self.table.meet(&event.symbol);
            let Self { table, sessions, memory, spares, .. } = self;
            let Some(session) = sessions.get_mut(key.slot as usize).filter(|s| s.key == key && s.is_open())
            else {
                return;
            };
            let Some(replay) =
                session.replays.as_deref().and_then(|all| all.list.iter().find(|r| r.number == number))
            else {
                return;
            };
            let channel = event.stream.channel;
            let Some(sub) = session.subs.best(table, channel, event.symbol.id) else { continue };
            if !session.may_see(table, sub, channel, &event.symbol.name) {
                continue;
            }
            let target = table.target(sub.place);
            let is_meant = |sub: &Wanted| sub.channel == channel && sub.target == *target;
            if !table.stream(sub.place).is_held_back || !replay.subs.iter().flatten().any(is_meant) {
                continue;
            }
            let policy = table.on_slow(sub.place);
            session.outbox.lend(spares);
            if let Some(gap) = gap {
                let first = owed_from(origin, &gap);
                session.outbox.announce_from(&event.symbol, event.stream, gap, first);
            }
            memory.queued_entries += 1;
            is_over |= session.outbox.offer(&event, policy, now_us, &bounds) == Offer::Overflow;
        }
        if is_over {
            self.overflowed.push(key.slot);
        }
        self.touch(key.slot);
    }

    /// Offers what could not be replayed.
    fn offer_left_over(&mut self, ask: &Ask, states: Vec<(usize, State)>, now_us: u32) {
        let (key, number) = (ask.key, ask.replay);
        let is_gap =
            |(_, state): &(usize, State)| state.gap.is_some_and(|gap| gap.cause == GapCause::Retention);
        if states.iter().any(is_gap) {
            self.tell_aged_out(key, number);
        }
        // They are not changed meanwhile.
        let Some(subs) = self.replay(key, number).map(|replay| std::mem::take(&mut replay.subs)) else {
            return;
        };
        for (want, state) in states {
            if let Some(Some(wanted)) = subs.get(want) {
                self.offer_states(key, wanted, vec![state], &ask.origin, now_us);
            }
        }
        if let Some(replay) = self.replay(key, number) {
            replay.subs = subs;
        }
    }

    /// Subscriptions go on with what is live.
    fn caught_up(&mut self, key: SessionKey, number: u32, live: Live) {
        if live.is_lost {
            self.tell_aged_out(key, number);
        }
        let Some(replays) = self.open_session(key).and_then(|session| session.replays.as_mut()) else {
            return;
        };
        let Some(at) = replays.list.iter().position(|replay| replay.number == number) else { return };
        let Replay { id, subs, is_aged_out, mut counted, .. } = replays.list.remove(at);
        counted.finish(if is_aged_out { ReplayEnd::Lost } else { ReplayEnd::Whole });
        drop(counted);
        self.end_replays(key);
        for wanted in subs.iter().flatten() {
            // What held it back lands as it leaves.
            self.begin(key, wanted.channel, &wanted.target, &wanted.options);
        }
        for (wanted, seq) in subs.iter().zip(live.at) {
            let Some(wanted) = wanted else { continue };
            let done = Control::ReplayDone {
                id: id.clone(),
                channel: wanted.channel,
                symbol: wanted.target.text(),
                seq,
            };
            self.tell(key, &done);
        }
        self.touch(key.slot);
    }

    /// Enters a subscription into the table that nothing live is sent to yet.
    fn hold_back(&mut self, key: SessionKey, wanted: &Wanted) {
        let stream = Stream { is_held_back: true, ..wanted.stream() };
        self.enter(key, &wanted.target, stream, wanted.options.on_slow);
    }

    /// A subscription ended that was being brought up to date.
    pub(super) fn leave_replay(&mut self, key: SessionKey, target: &Target, stream: Stream) {
        let session = self.sessions.get_mut(key.slot as usize).filter(|session| session.key == key);
        if let Some(replays) = session.and_then(|session| session.replays.as_mut()) {
            let is_it = |sub: &Wanted| sub.target == *target && sub.channel == stream.channel;
            for sub in replays.list.iter_mut().flat_map(|replay| &mut replay.subs) {
                if sub.as_ref().is_some_and(is_it) {
                    *sub = None;
                }
            }
            replays.list.retain(|replay| replay.subs.iter().any(Option::is_some));
            self.end_replays(key);
        }
        self.landed(target, Stream { is_held_back: false, ..stream }, true);
    }

    /// Takes note of a replay's end.
    pub(super) fn end_replays(&mut self, key: SessionKey) {
        if let Some(session) = self.session(key)
            && session.replays.as_ref().is_some_and(|replays| replays.is_empty())
        {
            session.replays = None;
            session.is_replaying = false;
        }
        self.account_reading(key);
    }

    pub(super) fn replay(&mut self, key: SessionKey, number: u32) -> Option<&mut Replay> {
        let replays = self.open_session(key)?.replays.as_mut()?;
        replays.list.iter_mut().find(|replay| replay.number == number)
    }
}

/// Lowers the position of a partition among `together`, which are in order, to `next`.
fn reach_back(together: &mut Vec<Position>, next: Position) {
    match place(together, next) {
        Ok(at) => together[at].offset = together[at].offset.min(next.offset),
        Err(at) => together.insert(at, next),
    }
}

/// From where on whoever goes on from `origin` is owed what a gap without a beginning says.
pub(super) fn owed_from(origin: &[Position], gap: &Gap) -> Option<Position> {
    let upto = gap.upto.filter(|_| gap.after.is_none())?;
    place(origin, upto).ok().map(|found| origin[found])
}
