//! The seam between two sessions of one client: what may come again behind it, and what must not be missing.
//!
//! A client that comes back names where it goes on: for each pair the last position that it saw, or one cursor for all of
//! them. Behind a position nothing comes again. A cursor is older than the end of the session it came in, so what was
//! seen after it comes again and is discarded, as the client's rule says: that is counted as resent, and is no duplicate.
//! From there on chains go on as if there had been one session, and whatever is missing breaks them.

use super::{Chain, Key, SessionVerifier, key, matches};
use crate::scan::Scanned;
use rustc_hash::{FxHashMap, FxHashSet};
use tickgate_protocol::checker::Verdict;
use tickgate_protocol::command::Id;
use tickgate_protocol::event::Gap;
use tickgate_protocol::{Channel, Position, cursor};

/// Where a chain stands that outlived its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Seam {
    /// In the middle of a session, as most of the time.
    #[default]
    None,
    /// To go on from its last position.
    Position,
    /// To go on from a cursor, which may be older.
    Cursor,
}

impl Seam {
    /// Whether an event is one that the client asked for again without wanting it.
    pub(super) fn discards(self, event: &Scanned<'_>, seq: Position, last: Option<Position>) -> bool {
        // A snapshot may repeat what the client knows, however it asked.
        let may_repeat = self == Self::Cursor || (self == Self::Position && event.snapshot);
        may_repeat && last.is_some_and(|last| seq.is_at_or_before(last))
    }

    /// A gap as it concerns this client, which may have seen more than it named; `None` if it has seen all of it.
    pub(super) fn gap(&mut self, gap: Gap, last: Option<Position>) -> Option<Gap> {
        let (true, Some(last)) = (*self != Self::None, last) else { return Some(gap) };
        if gap.upto.is_some_and(|upto| upto.is_at_or_before(last)) {
            return None;
        }
        let is_older = gap.after.is_some_and(|after| after.is_at_or_before(last)) && *self == Self::Cursor;
        *self = Self::None;
        Some(Gap { after: gap.after.filter(|_| !is_older), ..gap })
    }
}

/// What the present session was resumed with.
#[derive(Debug, Default)]
pub(super) struct Resumed {
    /// The next record of each partition by the cursor.
    at: Vec<Position>,
    /// Pairs that go on from the cursor and of which nothing was seen yet.
    unseen: FxHashSet<Key>,
    /// Symbols and patterns whose replay has not caught up.
    awaited: FxHashMap<Key, Awaited>,
}

/// A symbol or pattern whose replay has not caught up.
#[derive(Debug)]
struct Awaited {
    /// The request that asked for it.
    request: i64,
    channel: Channel,
    symbol: Box<str>,
}

impl Resumed {
    /// Takes note of an event that was no duplicate. The first one of a chain that began at the cursor must follow it.
    pub(super) fn accept(&mut self, channel: Channel, event: &Scanned<'_>, verdict: Verdict) -> Verdict {
        if self.awaited.is_empty() && self.unseen.is_empty() {
            return verdict;
        }
        let key = key(channel, event.symbol);
        if !event.replay && !event.snapshot {
            // Live events of a pair wait for its replay.
            self.awaited.remove(&key);
        }
        let begins_here = self.unseen.remove(&key) && verdict == Verdict::First;
        // What comes before it was behind the cursor too, and has not come.
        let is_beyond = |prev: Position| {
            let same = |next: &&Position| next.epoch == prev.epoch && next.partition == prev.partition;
            self.at.iter().find(same).is_some_and(|next| next.offset <= prev.offset)
        };
        if begins_here && event.prev.is_some_and(is_beyond) { Verdict::Unannounced } else { verdict }
    }

    /// The replay of a pair has caught up.
    pub(super) fn caught_up(&mut self, channel: Channel, symbol: &str) {
        self.awaited.remove(&key(channel, symbol));
    }

    /// What a request asked for cannot be replayed: gives the symbols and patterns that still waited for that.
    fn aged_out(&mut self, id: Option<&Id>) -> Vec<Awaited> {
        let is_its = |awaited: &Awaited| match id {
            Some(Id::Number(id)) => awaited.request == *id,
            Some(Id::Text(_)) => true,
            // The gateway says it of itself.
            None => false,
        };
        let gone: Vec<Awaited> =
            self.awaited.extract_if(|_, awaited| is_its(awaited)).map(|(_, awaited)| awaited).collect();
        for Awaited { channel, symbol, .. } in &gone {
            self.unseen.remove(&key(*channel, symbol));
        }
        gone
    }
}

impl SessionVerifier {
    /// A request was told that what it asked for is gone. What it resumed and nothing has come of since may go on behind
    /// anything; what another request resumed may not.
    pub(super) fn aged_out(&mut self, id: Option<&Id>) {
        for Awaited { channel, symbol, .. } in self.resumed.aged_out(id) {
            let Self { chains, resumed, .. } = self;
            let is_its = |chain: &&mut Chain| {
                let is_named = chain.channel == channel && matches(&symbol, &chain.symbol);
                is_named
                    && chain.seam != Seam::None
                    && !resumed.awaited.contains_key(&key(channel, &chain.symbol))
            };
            chains.values_mut().filter(is_its).for_each(|chain| chain.checker.aged_out());
        }
    }

    /// The session has ended and its client comes back. What was seen stays seen, what was asked for has to be asked for
    /// again: each pair goes on from a cursor unless [`Self::resume_from`] says otherwise.
    pub fn come_back(&mut self) {
        for chain in self.chains.values_mut() {
            chain.seam = Seam::Cursor;
            chain.checker.resumed(true);
            chain.resubscribed = false;
        }
        self.held = Default::default();
        self.requests.clear();
        self.cursor.clear();
        self.resumed = Resumed::default();
        self.heartbeat_ns = 0;
    }

    /// Request `id` resumes a pair from its last position, which is returned; `None` if nothing of it was seen.
    pub fn resume_from(&mut self, id: i64, channel: Channel, symbol: &str) -> Option<Position> {
        let key = key(channel, symbol);
        let chain = self.chains.get_mut(&key)?;
        let last = chain.checker.last()?;
        chain.seam = Seam::Position;
        chain.checker.resumed(false);
        self.resumed.awaited.insert(key, Awaited { request: id, channel, symbol: symbol.into() });
        Some(last)
    }

    /// Request `id` resumes symbols and patterns from `text`, a cursor.
    pub fn resume_at<'s>(
        &mut self,
        id: i64,
        text: &str,
        channel: Channel,
        symbols: impl IntoIterator<Item = &'s str>,
    ) {
        if self.resumed.at.is_empty() {
            self.resumed.at = cursor::given_unverified(text).unwrap_or_default();
        }
        for symbol in symbols {
            let key = key(channel, symbol);
            // What a pattern matches is not known before it comes.
            if !symbol.ends_with('*') && !self.chains.contains_key(&key) {
                self.resumed.unseen.insert(key);
            }
            self.resumed.awaited.insert(key, Awaited { request: id, channel, symbol: symbol.into() });
        }
    }

    /// Whether every replay that was asked for has caught up.
    pub fn is_caught_up(&self) -> bool {
        self.resumed.awaited.is_empty()
    }

    /// The last position of a pair, if anything of it was seen.
    pub fn last(&self, channel: Channel, symbol: &str) -> Option<Position> {
        self.chains.get(&key(channel, symbol))?.checker.last()
    }

    /// The last position of every pair that is subscribed to and of which anything was seen.
    pub fn lasts(&self) -> impl Iterator<Item = (Channel, &str, Position)> {
        let held = self.chains.values().filter(|chain| self.held.cover(chain.channel, &chain.symbol));
        held.filter_map(|chain| Some((chain.channel, &*chain.symbol, chain.checker.last()?)))
    }
}
