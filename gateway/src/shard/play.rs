//! The past alone, at its own rhythm or as fast as its client reads: read from Kafka a part of one partition at a time, and sent
//! in the order of time. Nothing live follows.

use super::Shard;
use super::replay::{From, PART_BYTES, PART_BYTES_MIN, Replay};
use super::socket::Socket;
use super::timers::Due;
use crate::clock;
use crate::feed::request::{SessionKey, Target};
use crate::replay::{Chunk, Reach, Replayed};
use crate::session::Wanted;
use crate::stats::{PartRefusal, ReplayEnd};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use tickgate_protocol::command::Past;
use tickgate_protocol::control::Control;
use tickgate_protocol::event::Gap;
use tickgate_protocol::{Channel, Code, Position};

const NO_ANSWER: &str = "Kafka does not answer for all of it";

const FAILED: &str = "this gateway failed to read it";

/// Bytes of events that were read and whose time has not come, of all partitions together and as far as their least parts
/// allow.
const READ_BYTES: usize = 256 << 10;

/// How long a part may be refused again and again before the past ends there, in milliseconds.
const REFUSED_MS: u64 = 10_000;

/// What is played for some subscriptions.
#[derive(Debug)]
pub(super) struct Play {
    /// Thousandths of the speed at which it happened; as fast as the client reads when missing.
    speed_thousandths: Option<u32>,
    /// What of each partition was read; `None` before it is known where they begin.
    lanes: Option<Vec<Lane>>,
    /// The last event of each symbol and channel that was sent: they come in another order than they are read.
    last: FxHashMap<(u32, Channel), Position>,
    /// The latest time at which something that was sent was appended, nanoseconds since the Unix epoch; that which was asked for
    /// before anything was. Whatever was not sent is, in its partition, the first record of that time or later, or behind it.
    upto_ns: i64,
    /// The lane that is being read.
    asked: usize,
    /// When the first event was sent, monotonic milliseconds, and when it was appended, nanoseconds since the Unix epoch.
    began: Option<(u64, i64)>,
    /// Where the gateway stood when it began: what a pattern would have brought since is left out until it ends.
    pub(super) began_at: Arc<[Position]>,
    /// Since when its next part is refused, monotonic milliseconds.
    refused_ms: Option<u64>,
    /// When the next event is due, monotonic milliseconds, if nothing else is waited for.
    pub due_ms: Option<u64>,
}

#[derive(Debug)]
struct Lane {
    next: Position,
    events: VecDeque<Replayed>,
    is_done: bool,
}

/// What comes next.
enum Step {
    /// To read on in a lane.
    Read,
    /// To send these.
    Send(Vec<Replayed>),
    /// To wait.
    Wait,
    /// Nothing.
    End,
}

impl Play {
    pub(super) fn new(past: Past, began_at: Arc<[Position]>) -> Self {
        let Past { since_ns, speed_thousandths, .. } = past;
        Self {
            speed_thousandths,
            lanes: None,
            last: FxHashMap::default(),
            upto_ns: since_ns,
            asked: 0,
            began: None,
            began_at,
            refused_ms: None,
            due_ms: None,
        }
    }

    /// Bytes of one part of a lane.
    fn part_bytes(&self, queue_bytes_max: usize) -> usize {
        let lanes = self.lanes.as_ref().map_or(1, Vec::len).max(1);
        (READ_BYTES / lanes).clamp(PART_BYTES_MIN, PART_BYTES).min(queue_bytes_max / 2)
    }

    /// Takes note that its client has read what it was sent, if it has.
    pub(super) fn has_room(&mut self, is_room: bool, now_ms: u64) {
        if self.due_ms.is_none() && is_room {
            self.due_ms = Some(now_ms);
        }
    }

    /// Bytes that it holds.
    fn bytes(&self) -> usize {
        let of_lane = |lane: &Lane| {
            let events = lane.events.iter().map(|replayed| replayed.event.bytes()).sum::<usize>();
            size_of::<Lane>() + lane.events.capacity() * size_of::<Replayed>() + events
        };
        let last = 3 * self.last.capacity() * (size_of::<((u32, Channel), Position)>() + 1);
        last + self.lanes.iter().flatten().map(of_lane).sum::<usize>()
    }

    /// When an event that was appended at a time is due, monotonic milliseconds. The first one begins it.
    fn due_ms(&mut self, append_ns: i64, now_ms: u64) -> u64 {
        let (began_ms, first_ns) = *self.began.get_or_insert((now_ms, append_ns));
        let Some(speed) = self.speed_thousandths else { return now_ms };
        let after_us = append_ns.saturating_sub(first_ns).max(0) as u64 / 1_000;
        began_ms.saturating_add(after_us / u64::from(speed))
    }

    /// Puts an event behind the one that was sent before it.
    fn link(&mut self, Replayed { append_ns, event, gap }: Replayed) -> Replayed {
        self.upto_ns = self.upto_ns.max(append_ns);
        let before = self.last.insert((event.symbol.id, event.stream.channel), event.position);
        let gap = gap.map(|gap| Gap { after: before, ..gap });
        let prev = gap.as_ref().map_or(before, |gap| gap.upto);
        Replayed { append_ns, event: Arc::new(event.played_behind(prev)), gap }
    }

    fn step(&mut self, now_ms: u64, bytes_max: usize) -> Step {
        self.due_ms = None;
        let mut events = Vec::new();
        let mut bytes = 0;
        loop {
            let Some(lanes) = &mut self.lanes else { return Step::Read };
            // What comes first is known when there is something of all that is left.
            if let Some(at) = lanes.iter().position(|lane| lane.events.is_empty() && !lane.is_done) {
                self.asked = at;
                return if events.is_empty() { Step::Read } else { Step::Send(events) };
            }
            let heads =
                lanes.iter().enumerate().filter_map(|(at, lane)| Some((lane.events.front()?.append_ns, at)));
            let Some((append_ns, at)) = heads.min() else {
                return if events.is_empty() { Step::End } else { Step::Send(events) };
            };
            let due_ms = self.due_ms(append_ns, now_ms);
            if due_ms > now_ms {
                self.due_ms = Some(due_ms);
                return if events.is_empty() { Step::Wait } else { Step::Send(events) };
            }
            if bytes >= bytes_max {
                return Step::Send(events);
            }
            let Some(head) = lanes_head(&mut self.lanes, at) else { continue };
            bytes += head.event.bytes();
            events.push(self.link(head));
        }
    }
}

fn lanes_head(lanes: &mut Option<Vec<Lane>>, at: usize) -> Option<Replayed> {
    lanes.as_mut()?.get_mut(at)?.events.pop_front()
}

impl<S: Socket> Shard<S> {
    /// The time of one of a session's replays has come.
    pub(super) fn on_replay_due(&mut self, key: SessionKey) {
        let now_ms = clock::mono_ms();
        let Some(replays) = self.open_session(key).and_then(|session| session.replays.as_ref()) else {
            return;
        };
        let plays: Vec<u32> =
            replays.list.iter().filter(|replay| replay.play.is_some()).map(|replay| replay.number).collect();
        plays.into_iter().for_each(|number| self.play(key, number, now_ms));
        self.ask_replays(key);
    }

    /// Comes again when one of a session's replays wants it.
    pub(super) fn alarm(&mut self, key: SessionKey) {
        let now_ms = clock::mono_ms();
        let Some(replays) = self.open_session(key).and_then(|session| session.replays.as_ref()) else {
            return;
        };
        let of_each = |replay: &Replay| {
            let is_put_off = replay.next.is_some() && replay.not_before_ms > now_ms;
            let due_ms = replay.play.as_ref().and_then(|play| play.due_ms);
            if is_put_off { Some(replay.not_before_ms) } else { due_ms }
        };
        if let Some(due_ms) = replays.list.iter().filter_map(of_each).min() {
            self.set_timer(due_ms, key, Due::Replay);
        }
    }

    /// Goes on with a replay of the past, as far as its client and its rhythm let it.
    pub(super) fn play(&mut self, key: SessionKey, number: u32, now_ms: u64) {
        let (bytes_max, age_max_ms) = (self.bounds.bytes_max, self.shared.config.outbox.age_max_ms);
        let Some(session) = self.open_session(key) else { return };
        let queued_bytes = session.outbox.queued_bytes();
        let Some(replay) = self.replay(key, number).filter(|replay| replay.not_before_ms <= now_ms) else {
            return;
        };
        if queued_bytes > replay.part_bytes / 2 {
            // Its flush asks again.
            replay.play.iter_mut().for_each(|play| play.due_ms = None);
            return;
        }
        replay.size_part(now_ms, age_max_ms, bytes_max);
        let send_bytes = replay.part_bytes;
        let Some(play) = &mut replay.play else { return };
        let part_bytes = play.part_bytes(bytes_max);
        match play.step(now_ms, send_bytes) {
            Step::Wait => {}
            Step::End => self.played_out(key, number),
            Step::Send(events) => {
                replay.offered_ms = Some(now_ms);
                self.account_play(key, number);
                self.offer_missed(key, number, events, &[], super::now_us());
            }
            Step::Read => {
                let Some((mut ask, _)) = replay.next.take() else { return };
                match &play.lanes {
                    // Only where everything begins and ends.
                    None => ask.bytes_max = 0,
                    Some(lanes) => {
                        ask.since_ns = None;
                        ask.next = vec![lanes[play.asked].next];
                        ask.bytes_max = part_bytes;
                    }
                }
                if let Some(read_again) = &self.shared.read_again
                    && let Err(ask) = read_again(ask)
                {
                    self.turned_away(ask, PartRefusal::QueueFull);
                }
            }
        }
    }

    /// The next part of a partition's past.
    pub(super) fn played(&mut self, chunk: Chunk) {
        let Chunk { ask, events, reach } = chunk;
        let (key, number) = (ask.key, ask.replay);
        let Some(replay) = self.replay(key, number) else { return };
        let Some(play) = &mut replay.play else { return };
        if reach == Reach::Refused {
            let now_ms = clock::mono_ms();
            if now_ms.saturating_sub(*play.refused_ms.get_or_insert(now_ms)) < REFUSED_MS {
                return self.turned_away(ask, PartRefusal::NoAnswer);
            }
            return self.broken_off(key, number, ReplayEnd::NoAnswer);
        }
        play.refused_ms = None;
        // Who read it fell, and would again: there is no other to ask.
        if ask.is_memory_only {
            return self.broken_off(key, number, ReplayEnd::Failed);
        }
        match &mut play.lanes {
            None => {
                let is_done = reach == Reach::End;
                let lane = |next: &Position| Lane { next: *next, events: VecDeque::new(), is_done };
                play.lanes = Some(ask.next.iter().map(lane).collect());
            }
            Some(lanes) => {
                let lane = &mut lanes[play.asked];
                lane.events.extend(events);
                lane.is_done = reach == Reach::End;
                if let Some(next) = ask.next.first() {
                    lane.next = *next;
                }
            }
        }
        replay.next = Some((ask, From::Kafka));
        self.account_play(key, number);
        self.on_replay_due(key);
    }

    /// Brings up to date what a replay of the past is known to hold.
    fn account_play(&mut self, key: SessionKey, number: u32) {
        let Some(replay) = self.replay(key, number) else { return };
        let ask_bytes = replay.next.as_ref().map_or(0, |(ask, _)| ask.bytes());
        replay.bytes = ask_bytes + replay.play.as_ref().map_or(0, Play::bytes);
        self.account_reading(key);
    }

    /// A subscription ends. When the session waits for another in its stead, that one keeps the place.
    fn keep_place(&mut self, key: SessionKey, ended: &Wanted) {
        let pending = self.open_session(key).and_then(|session| session.pending.as_mut());
        let is_it = |wanted: &Wanted| (wanted.channel, &wanted.target) == (ended.channel, &ended.target);
        if let Some(pending) = pending.filter(|pending| pending.wants.iter().any(is_it)) {
            pending.reservation.keep();
        }
    }

    /// All of it was sent.
    fn played_out(&mut self, key: SessionKey, number: u32) {
        let ask = self.replay(key, number).and_then(|replay| replay.next.take());
        if ask.as_ref().is_some_and(|(ask, _)| !ask.lost.is_empty()) {
            self.tell_end_gone(key, number);
        }
        let is_whole = self.replay(key, number).is_some_and(|replay| !replay.is_aged_out);
        self.end_play(key, number, if is_whole { ReplayEnd::Whole } else { ReplayEnd::Lost });
    }

    /// A part of it cannot be read, whatever Kafka has. What was sent is all of it up to one time, as nothing is sent before it is
    /// known what comes first: its client is told that time, which no event names, to go on there, and what was read ahead is left
    /// out.
    fn broken_off(&mut self, key: SessionKey, number: u32, end: ReplayEnd) {
        let Some(replay) = self.replay(key, number) else { return };
        let Some(Play { upto_ns, .. }) = replay.play else { return };
        let (code, why) = match end {
            ReplayEnd::NoAnswer => (Code::SourceDown, NO_ANSWER),
            _ => (Code::Internal, FAILED),
        };
        let message = format!(
            "{why}, so it ends here: what was not read need not be gone. All before time_ns {upto_ns} was sent: ask again from there"
        );
        let told = Control::error(replay.id.clone(), code, message, false);
        self.tell(key, &told);
        self.end_play(key, number, end);
    }

    /// Nothing more of it is sent: its subscriptions end.
    fn end_play(&mut self, key: SessionKey, number: u32, end: ReplayEnd) {
        let Some(replays) = self.open_session(key).and_then(|session| session.replays.as_mut()) else {
            return;
        };
        let Some(at) = replays.list.iter().position(|replay| replay.number == number) else { return };
        let mut replay = replays.list.remove(at);
        replay.counted.finish(end);
        self.end_replays(key);
        let mut all_ended = Vec::with_capacity(replay.subs.len());
        for wanted in replay.subs.drain(..).flatten() {
            let id = match &wanted.target {
                Target::Symbol(_) => {
                    self.shared.directory.matching(&wanted.target).first().map(|symbol| symbol.id)
                }
                Target::Prefix(_) => None,
            };
            let last = replay.play.as_ref().map(|play| &play.last);
            let seq = id.and_then(|id| last?.get(&(id, wanted.channel)).copied());
            self.keep_place(key, &wanted);
            all_ended.extend(self.drop_sub(key, wanted.channel, &wanted.target));
            let (id, channel, symbol) = (replay.id.clone(), wanted.channel, wanted.target.text());
            self.tell(key, &Control::ReplayDone { id, channel, symbol, seq });
        }
        self.fall_back_all(key, &all_ended);
        self.touch(key.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::event::Stream;
    use crate::feed::request::{Request, Resume};
    use crate::replay::{Ask, STEPS};
    use crate::session::guest::{Guest, Opening};
    use crate::shard::trial::{Sink, shared};
    use crate::stats::{ReplayKind, ResumeRefusal};
    use hyper::body::Bytes;
    use std::collections::BTreeSet;
    use std::rc::Rc;
    use tickgate_protocol::OnSlow;
    use tickgate_protocol::command::SubscribeOptions;

    /// A shard with a session.
    fn a_session() -> (Shard<Sink>, SessionKey) {
        let shared = shared(Config { shards: 1, ..Config::default() });
        let mut shard: Shard<Sink> = Shard::new(0, shared, Arc::default());
        let key = shard.next_key();
        let guest = Guest::new(([127, 0, 0, 1], 1).into());
        let opening = Opening {
            answer: Vec::new(),
            early: Bytes::new(),
            guest,
            is_greeted: false,
            connect: tracing::Span::none(),
        };
        shard.open(Rc::new(Sink), opening);
        (shard, key)
    }

    /// What a reader gives that fell: it was counted as a loss of a past, and of a resume as what Kafka no longer has.
    #[test]
    fn what_a_reader_that_fell_leaves_out_is_not_counted_as_gone() {
        let (mut shard, key) = a_session();
        let past = Past { since_ns: 0, until_ns: None, speed_thousandths: None };
        for resume in [Resume::Past(past), Resume::Since(0)] {
            let (channel, target) = (Channel::Trades, Target::parse("*"));
            let options = SubscribeOptions::default_for(channel);
            shard.begin_replays(key, None, vec![(Wanted { at: 0, target, channel, options }, resume, None)]);
            // The only one, and its question is away.
            let ask = Box::new(Ask { is_memory_only: true, ..Ask::new(0, key, 0, Arc::from([])) });
            shard.replayed(Chunk { ask, events: Vec::new(), reach: Reach::End });
        }
        let ended = shard.replay_counts.totals().ended[ReplayKind::Past as usize];
        assert_eq!((ended[ReplayEnd::Failed as usize], ended[ReplayEnd::Lost as usize]), (1, 0));
        shard.tell_aged_out(key, 0);
        let refused = shard.replay_counts.totals().resumes_refused;
        assert_eq!(
            (refused[ResumeRefusal::NoAnswer as usize], refused[ResumeRefusal::AgedOut as usize]),
            (1, 0)
        );
    }

    /// As each of thousands of symbols ended, all that were left were looked at.
    #[test]
    fn what_was_played_ends_with_one_look_at_what_is_left() {
        const COUNT: usize = 400;
        let (mut shard, key) = a_session();
        let channel = Channel::Quotes;
        let past = Past { since_ns: 0, until_ns: None, speed_thousandths: None };
        let mut wanted = Vec::new();
        for at in 0..COUNT {
            let name = format!("{at:03}");
            let symbol = shard.shared.directory.meet(&name).expect("there is room");
            shard.table.meet(&symbol);
            let options = SubscribeOptions::default_for(channel);
            let target = Target::parse(&name);
            wanted.push((Wanted { at, target, channel, options }, Resume::Past(past), None));
        }
        shard.begin_replays(key, None, wanted);
        shard.enter(key, &Target::parse("*"), Stream::whole(channel), OnSlow::Conflate);
        while shard.mailbox.pop().is_some() {}
        STEPS.set(0);
        shard.played_out(key, 0);
        assert!(STEPS.get() <= 20 * COUNT, "{} steps for {COUNT} symbols", STEPS.get());
        assert_eq!(shard.session(key).expect("it is open").subs.len(), 1);
        // What the pattern that is left brings of them begins with its state, once.
        let mut begun = BTreeSet::new();
        while let Some(request) = shard.mailbox.pop() {
            let Request::Resync(of, (symbol, _)) = request else { continue };
            assert!(of == key && begun.insert(symbol), "{symbol} twice");
        }
        assert_eq!(begun.len(), COUNT);
    }
}
