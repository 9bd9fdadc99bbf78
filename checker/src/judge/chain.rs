//! One (channel, symbol) of one client, over the sessions that belong together.

use super::{Judgement, MISSING_MAX, Missing};
use crate::log::{Entry, Run, StreamLog};
use crate::transcript::{Event, Positions};
use tickgate_protocol::checker::{ChainChecker, Verdict};
use tickgate_protocol::command::Id;
use tickgate_protocol::event::{Gap, GapCause};
use tickgate_protocol::{Channel, Position};

/// What the present session resumed from.
#[derive(Debug, Clone)]
pub(super) enum Resumed {
    /// A cursor.
    Cursor(Positions),
    /// A position of this stream.
    Seq(Position),
}

impl Resumed {
    /// Whether what is at `position` was given before, by the word of whoever resumed.
    fn covers(&self, position: Position) -> bool {
        match self {
            Self::Cursor(cursor) => {
                cursor.get(&position.into()).is_some_and(|offset| position.offset <= *offset)
            }
            Self::Seq(from) => position.is_at_or_before(*from),
        }
    }

    /// Whether an event at `position` that its client has may come: behind what it covers, or live, from a gateway that has not
    /// read as far as the cursor. Who says a position waits for that.
    fn may_repeat(&self, position: Position, is_replay: bool) -> bool {
        !self.covers(position) || (matches!(self, Self::Cursor(_)) && !is_replay)
    }

    /// The last offset of `run` that it covers.
    fn last(&self, run: Run) -> Option<u64> {
        match self {
            Self::Cursor(cursor) => cursor.get(&run).copied(),
            Self::Seq(from) => (Run::from(*from) == run).then_some(from.offset),
        }
    }
}

/// Why a record that did not come need not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Excuse {
    #[default]
    None,
    /// A gap covers it.
    Announced,
    /// A later state stands for it.
    Conflated,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, Default)]
struct Fate {
    /// Ticks of it that came.
    heard: u64,
    /// In which session it came last.
    session: u32,
    /// Ticks of it that came again in that session.
    again: u64,
    /// Whether what came in that session was a replay, and what came again was not.
    is_replay: bool,
    excuse: Excuse,
}

/// The records of the stream in one run, and what became of each.
struct RunState<'a> {
    run: Run,
    entries: &'a [Entry],
    fates: Vec<Fate>,
    /// Index of the first record that had to come; unknown before anything was heard.
    from: Option<usize>,
    /// Index behind the last record that was heard or announced.
    upto: usize,
    /// The newest offset heard in this session.
    newest: Option<u64>,
    /// Index behind the last record that a cursor passed.
    passed: usize,
}

impl RunState<'_> {
    fn find(&self, offset: u64) -> Option<usize> {
        self.entries.binary_search_by_key(&offset, |entry| entry.offset).ok()
    }

    /// Index of the first record behind `offset`.
    fn behind(&self, offset: u64) -> usize {
        self.entries.partition_point(|entry| entry.offset <= offset)
    }

    /// Whether all of a record came.
    fn is_whole(&self, at: usize) -> bool {
        self.fates[at].heard >= self.entries[at].count()
    }

    /// Takes note of ticks that came for the first time.
    fn hear(&mut self, at: usize, ticks: u64, session: u32, is_replay: bool) {
        let most = self.entries[at].count();
        let fate = &mut self.fates[at];
        fate.heard = most.min(fate.heard + ticks);
        (fate.session, fate.again, fate.is_replay) = (session, most, is_replay);
    }

    /// Takes note of a tick that came again; says whether that may be: once in each session that was resumed, and once more
    /// where its replay meets what is live.
    fn hear_again(&mut self, at: usize, session: u32, is_replay: bool) -> bool {
        let most = self.entries[at].count();
        let fate = &mut self.fates[at];
        if fate.session != session {
            (fate.session, fate.again, fate.is_replay) = (session, 0, is_replay);
        } else if fate.is_replay && !is_replay {
            (fate.again, fate.is_replay) = (0, false);
        }
        fate.again += 1;
        fate.again <= most
    }

    fn excuse(&mut self, range: std::ops::Range<usize>, excuse: Excuse) {
        for at in range {
            if !self.is_whole(at) && self.fates[at].excuse == Excuse::None {
                self.fates[at].excuse = excuse;
            }
        }
    }

    fn ticks(&self, range: std::ops::Range<usize>) -> u64 {
        self.entries[range].iter().map(Entry::count).sum()
    }

    fn reach(&mut self, first: usize, behind_last: usize) {
        self.from = Some(self.from.map_or(first, |from| from.min(first)));
        self.upto = self.upto.max(behind_last);
    }
}

/// The record whose events are being heard.
#[derive(PartialEq, Eq, Clone, Copy)]
struct Record {
    seq: Position,
    frame: u32,
    is_snapshot: bool,
}

pub(super) struct Chain<'a> {
    pub(super) channel: Channel,
    pub(super) symbol: &'a str,
    /// The session that it was last held in.
    pub(super) session: u32,
    /// The requests that asked for it in that session.
    pub(super) requests: Vec<&'a Option<Id>>,
    resumed: Option<Resumed>,
    rule: ChainChecker,
    runs: Vec<RunState<'a>>,
    /// A gap that does not know its end, with the position it begins after.
    open: Option<Option<Position>>,
    record: Option<(Record, usize)>,
    /// How specific the subscription is that brings its events in this session, and whether that has a `conflate_ms`.
    held_by: (usize, bool),
}

impl<'a> Chain<'a> {
    pub(super) fn new(
        channel: Channel,
        symbol: &'a str,
        log: Option<&'a StreamLog>,
        behind: Option<&Positions>,
        resumed: Option<&Resumed>,
    ) -> Self {
        let mut rule = ChainChecker::default();
        if let Some(Resumed::Seq(from)) = resumed {
            // What follows has to say so.
            rule.gap(&Gap { after: None, upto: Some(*from), count: None, cause: GapCause::Upstream });
        }
        let state = |(run, entries): (Run, &'a [Entry])| {
            let mut state = RunState {
                run,
                entries,
                fates: vec![Fate::default(); entries.len()],
                from: None,
                upto: 0,
                newest: None,
                passed: 0,
            };
            let last = match (behind, resumed) {
                (Some(behind), _) => Some(behind.get(&run).copied()),
                (None, Some(resumed)) => Some(resumed.last(run)),
                (None, None) => None,
            };
            // A run that is not named had nothing yet: all of it has to come.
            state.from = last.map(|last| last.map_or(0, |last| state.behind(last)));
            state
        };
        let runs = log.into_iter().flat_map(StreamLog::runs).map(state).collect();
        Self {
            channel,
            symbol,
            session: u32::MAX,
            requests: Vec::new(),
            resumed: None,
            rule,
            runs,
            open: None,
            record: None,
            held_by: (0, false),
        }
    }

    /// A session begins in which it is held.
    pub(super) fn begin(&mut self, session: u32, resumed: Option<Resumed>) {
        self.rule.resumed(matches!(resumed, Some(Resumed::Cursor(_))));
        (self.session, self.resumed, self.record) = (session, resumed, None);
        self.requests.clear();
        self.held_by = (0, false);
        self.runs.iter_mut().for_each(|run| run.newest = None);
    }

    /// Whether it is held in this session, and this request asked for it.
    pub(super) fn is_asked_by(&self, session: u32, request: &Option<Id>) -> bool {
        self.session == session && self.requests.contains(&request)
    }

    /// A subscription of the session means it.
    pub(super) fn held_by(&mut self, specificity: usize, is_conflated: bool) {
        self.held_by = self.held_by.max((specificity, is_conflated));
    }

    /// Its request is told that something of what it asked for is gone. Of a symbol that the gateway knows nothing of, that is
    /// all that anybody can say.
    pub(super) fn aged_out(&mut self) {
        if self.runs.iter().all(|run| run.newest.is_none()) {
            self.open = Some(None);
            self.rule.aged_out();
        }
    }

    fn run(&mut self, run: Run) -> Option<&mut RunState<'a>> {
        self.runs.iter_mut().find(|state| state.run == run)
    }

    /// Takes an event. Says whether it is one that had not come before, in its place.
    pub(super) fn event(&mut self, session: u32, event: &Event, found: &mut Judgement) -> bool {
        let Event { seq, tail, .. } = *event;
        let (channel, symbol) = (self.channel, self.symbol);
        let describe =
            |what: &str| format!("{} {symbol} at {seq} {what} (session {session})", channel.name());
        if self.session != session {
            found.counts.wrong += 1;
            found.sample(|| describe("came without being asked for"));
            return false;
        }
        let record = Record { seq, frame: event.frame, is_snapshot: tail.snapshot };
        let sibling = match self.record {
            Some((last, sibling)) if last == record => sibling + 1,
            _ => 0,
        };
        self.record = Some((record, sibling));
        let last = self.rule.last();
        let verdict = self.rule.event(seq, &tail, sibling > 0);
        match verdict {
            Verdict::Unverified => found.counts.unverified += 1,
            Verdict::Unannounced => {
                found.counts.breaks += 1;
                let say = |p: Option<Position>| p.map_or("nothing".to_owned(), |p| p.to_string());
                found.sample(|| describe(&format!("follows {}, last was {}", say(tail.prev), say(last))));
            }
            _ => {}
        }
        self.close_open(seq, tail.snapshot);
        let (resumed, is_conflated) = (self.resumed.clone(), self.held_by.1);
        let Some(run) = self.run(seq.into()) else {
            found.counts.wrong += 1;
            found.sample(|| describe("is not in the log: no such partition has records of it"));
            return false;
        };
        let is_late = run.newest.is_some_and(|newest| seq.offset < newest);
        run.newest = run.newest.max(Some(seq.offset));
        let place = if tail.snapshot { run.behind(seq.offset).checked_sub(1) } else { run.find(seq.offset) };
        let Some(at) = place else {
            found.counts.wrong += 1;
            found.sample(|| describe("is not in the log: no such record holds a tick of it"));
            return false;
        };
        if !run.says(at, channel, event, sibling) {
            found.counts.wrong += 1;
            found.sample(|| describe("says something else than its record"));
        }
        if tail.merged > 1 {
            self.merged(event, found);
        }
        if let Some(resumed) = resumed.as_ref().filter(|_| is_conflated && tail.snapshot) {
            self.newest(resumed, (seq.into(), at));
        }
        let Some(run) = self.run(seq.into()) else { return false };
        if tail.snapshot {
            if is_late {
                found.counts.out_of_order += 1;
                found.sample(|| describe("is a snapshot older than what came before"));
            }
            run.reach(at, at + 1);
            // What a gap took is still lost: the state is what was known before.
            if run.entries[at].offset == seq.offset && run.fates[at].excuse != Excuse::Announced {
                run.hear(at, run.entries[at].count(), session, tail.replay);
            }
            return false;
        }
        if run.is_whole(at) {
            let is_first_time = run.hear_again(at, session, tail.replay);
            if verdict != Verdict::Duplicate {
                found.counts.duplicated += 1;
                found.sample(|| describe("came twice and is taken twice"));
            } else if is_first_time && resumed.is_some_and(|resumed| resumed.may_repeat(seq, tail.replay)) {
                found.counts.discarded += 1;
            } else {
                found.counts.repeated += 1;
                found.sample(|| describe("came twice"));
            }
            return false;
        }
        if is_late {
            found.counts.out_of_order += 1;
            found.sample(|| describe("came behind a newer one"));
        }
        let first = match tail.prev {
            Some(prev) if run.from.is_none() && Run::from(prev) == run.run => run.behind(prev.offset).min(at),
            _ => at,
        };
        // Who comes back may be given what is from before it began: it is owed none of that.
        let first = if resumed.is_some() { first.max(run.from.unwrap_or(first)) } else { first };
        run.reach(first, at + 1);
        let ticks = if tail.merged > 1 { run.entries[at].count() } else { 1 };
        run.hear(at, ticks, session, tail.replay);
        !is_late
    }

    /// Who comes back to a conflated stream is given the newest state, which says all that was missed; also in the partition
    /// that the symbol was in before.
    fn newest(&mut self, resumed: &Resumed, (newest, at): (Run, usize)) {
        for run in self.runs.iter_mut().filter(|run| run.from.is_some()) {
            let behind = if run.run == newest { at } else { run.entries.len() };
            let missed = resumed.last(run.run).map_or(0, |last| run.behind(last)).max(run.passed);
            run.excuse(missed.min(behind)..behind, Excuse::Conflated);
        }
    }

    /// The event stands for what it replaced.
    fn merged(&mut self, event: &Event, found: &mut Judgement) {
        let Event { seq, tail, .. } = *event;
        let Some(prev) = tail.prev else {
            // The first that its gateway knows of: it stands for all since the subscription began.
            let resumed = self.resumed.as_ref().and_then(|resumed| resumed.last(seq.into()));
            if let Some(run) = self.run(seq.into()).filter(|run| run.from.is_some()) {
                let from = run.from.unwrap_or(0).max(resumed.map_or(0, |last| run.behind(last)));
                let behind = run.behind(seq.offset).max(from);
                if u64::from(tail.merged) >= run.ticks(from..behind) {
                    run.excuse(from..behind.saturating_sub(1).max(from), Excuse::Conflated);
                }
            }
            return;
        };
        if Run::from(prev) != Run::from(seq) {
            if let Some(run) = self.run(prev.into()) {
                run.excuse(run.behind(prev.offset)..run.entries.len(), Excuse::Conflated);
                run.upto = run.entries.len();
            }
            if let Some(run) = self.run(seq.into()) {
                let from = run.from.unwrap_or(0);
                run.excuse(from..run.behind(seq.offset).saturating_sub(1).max(from), Excuse::Conflated);
            }
            return;
        }
        let channel = self.channel;
        let Some(run) = self.run(seq.into()) else { return };
        let (first, last) = (run.behind(prev.offset), run.behind(seq.offset));
        if first > last {
            return;
        }
        if channel.is_state() {
            run.excuse(first..last.saturating_sub(1).max(first), Excuse::Conflated);
        }
        if !channel.is_state() || u64::from(tail.merged) < run.ticks(first..last) {
            found.counts.merged_wrong += 1;
            let (symbol, updates) = (self.symbol, tail.merged);
            found.sample(|| {
                format!("{} {symbol} at {seq} stands for {updates}, not all it replaced", channel.name())
            });
        }
    }

    pub(super) fn gap(&mut self, gap: &Gap, found: &mut Judgement) {
        let (channel, symbol, last) = (self.channel, self.symbol, self.rule.last());
        let describe = |what: &str| {
            let say = |p: Option<Position>| p.map_or("-".to_owned(), |p| p.to_string());
            format!(
                "gap of {} {symbol} after {} up to {} {what}; last was {}",
                channel.name(),
                say(gap.after),
                say(gap.upto),
                say(last)
            )
        };
        self.record = None;
        if !self.rule.gap(gap) {
            found.counts.gaps_misfit += 1;
            found.sample(|| describe("begins elsewhere than the chain stood"));
        }
        let (after_run, is_resumed) = (gap.after.map(Run::from), self.resumed.is_some());
        if let Some(upto) = gap.upto {
            // One that does not say where it begins does so where the chain stood.
            if let Some(after) = gap.after.or(last).filter(|after| Run::from(*after) != Run::from(upto)) {
                self.lose_rest(after);
            }
            if let Some(run) = self.run(upto.into()) {
                let behind = run.behind(upto.offset);
                let first = match gap.after {
                    Some(after) if after_run == Some(run.run) => run.behind(after.offset).min(behind),
                    _ => run.from.unwrap_or(behind).min(behind),
                };
                let lost = run.ticks(first..behind);
                // Before anything was heard: what a snapshot shows then may be older than all of that.
                let from = if gap.after.is_none() && last.is_none() { 0 } else { first };
                run.excuse(from..behind, Excuse::Announced);
                let first = if is_resumed { first.max(run.from.unwrap_or(first)) } else { first };
                run.reach(first, behind);
                run.newest = run.newest.max(Some(upto.offset));
                let is_exact = channel == Channel::Trades
                    && gap.cause != GapCause::Retention
                    && after_run == Some(run.run);
                if is_exact && gap.count.is_some_and(|count| count != lost) {
                    found.counts.gap_counts_wrong += 1;
                    found.sample(|| describe(&format!("says {:?}, but {lost} ticks are lost", gap.count)));
                }
            }
        }
        let is_open = gap.upto.is_none() || (gap.after == gap.upto && gap.cause == GapCause::Retention);
        self.open = is_open.then_some(gap.after);
    }

    /// A gap without an end ends at the first event behind it, which says in which run the stream goes on.
    fn close_open(&mut self, seq: Position, is_snapshot: bool) {
        let Some(after) = self.open else { return };
        match after {
            Some(after) if Run::from(after) == Run::from(seq) => {
                if is_snapshot && seq.is_at_or_before(after) {
                    // The state as it was, shown again behind the gap.
                    return;
                }
            }
            Some(after) => self.lose_rest(after),
            None => {
                let now = Run::from(seq);
                // Also of the partition that its symbol was in before.
                for run in self.runs.iter_mut().filter(|run| run.run == now || run.from.is_some()) {
                    let in_it =
                        |run: &RunState<'_>| run.entries.partition_point(|entry| entry.offset < seq.offset);
                    let end = if run.run == now { in_it(run) } else { run.entries.len() };
                    let first = run.from.unwrap_or(end).min(end);
                    run.excuse(first..end, Excuse::Announced);
                }
            }
        }
        self.open = None;
    }

    /// Everything of a run behind `after` is lost, as was said.
    fn lose_rest(&mut self, after: Position) {
        if let Some(run) = self.run(after.into()) {
            let first = run.behind(after.offset);
            run.excuse(first..run.entries.len(), Excuse::Announced);
            run.reach(first, run.entries.len());
        }
    }

    /// A cursor says that everything up to it was given or told. Of a book with a depth, not every record shows.
    pub(super) fn cursor(&mut self, cursor: &Positions, found: &mut Judgement) {
        if self.channel == Channel::Book {
            return;
        }
        let (channel, symbol) = (self.channel, self.symbol);
        for run in &mut self.runs {
            let (Some(from), Some(upto)) = (run.from, cursor.get(&run.run)) else { continue };
            let behind = run.behind(*upto);
            if let Some(after) = self.open {
                // Told, though not how much it is.
                let first = after
                    .filter(|after| Run::from(*after) == run.run)
                    .map_or(0, |after| run.behind(after.offset));
                let first = first.max(run.passed).max(from);
                run.excuse(first..behind.max(first), Excuse::Announced);
            }
            for at in run.passed.max(from)..behind {
                if run.is_whole(at) || run.fates[at].excuse != Excuse::None {
                    continue;
                }
                found.counts.behind_cursor += run.entries[at].count() - run.fates[at].heard;
                let at = run.run.at(run.entries[at].offset);
                found.sample(|| format!("{} {symbol} at {at} was passed by a cursor", channel.name()));
            }
            run.passed = run.passed.max(behind);
        }
    }

    /// The end: what had to come and did not is missing.
    pub(super) fn close(self, is_live: bool, found: &mut Judgement) {
        // Which records of a book show depends on its depth; books are rebuilt and compared elsewhere.
        if self.channel == Channel::Book {
            return;
        }
        for run in &self.runs {
            let Some(from) = run.from else { continue };
            let end = if is_live { run.entries.len() } else { run.upto };
            // Whether the range of missing records goes on, and how it was excused.
            let mut going_on: Option<bool> = None;
            for at in from..end {
                let (entry, fate) = (&run.entries[at], run.fates[at]);
                let left = entry.count().saturating_sub(fate.heard);
                found.counts.offered += entry.count();
                found.counts.delivered += entry.count() - left;
                match fate.excuse {
                    Excuse::Conflated => found.counts.conflated += left,
                    Excuse::Announced => found.counts.announced += left,
                    Excuse::None => found.counts.unannounced += left,
                }
                if left == 0 || fate.excuse == Excuse::Conflated {
                    going_on = None;
                    continue;
                }
                let is_announced = fate.excuse == Excuse::Announced;
                if going_on == Some(is_announced)
                    && let Some(missing) = found.missing.last_mut()
                {
                    missing.offsets.push(entry.offset);
                    missing.ticks += left;
                } else if found.missing.len() < MISSING_MAX {
                    found.missing.push(Missing {
                        channel: self.channel,
                        symbol: self.symbol.to_owned(),
                        run: run.run,
                        offsets: vec![entry.offset],
                        ticks: left,
                        is_announced,
                    });
                    going_on = Some(is_announced);
                }
            }
        }
    }
}

impl RunState<'_> {
    /// Whether an event says what its record does.
    fn says(&self, at: usize, channel: Channel, event: &Event, sibling: usize) -> bool {
        let tail = event.tail;
        if channel.is_state() && (tail.snapshot || tail.merged > 1) {
            // The newest state, unless a gap says that it is not known.
            let newest = (0..=at).rev().find(|at| self.fates[*at].excuse != Excuse::Announced);
            let mut known = (newest.unwrap_or(0)..=at).rev();
            return known.any(|at| self.entries[at].contents.last() == Some(&event.content));
        }
        let contents = &self.entries[at].contents;
        // A snapshot of trades may hold the last of a record's only.
        contents.get(sibling) == Some(&event.content) || (tail.snapshot && contents.contains(&event.content))
    }
}
