//! Where the client stands in each channel and symbol, over all its sessions.

use crate::event::Symbol;
use rustc_hash::FxHashMap;
use tickgate_protocol::checker::{ChainChecker, Verdict};
use tickgate_protocol::event::{EventView, Gap};
use tickgate_protocol::{Channel, Depth, Position};

/// Most pairs of a channel and a symbol that are checked, some 100 MB: what comes beyond is handed out unchecked, and counted so.
const CHAINS_MAX: usize = 500_000;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Chains {
    of: [FxHashMap<Symbol, Chain>; Channel::ALL.len()],
    /// Number of the data frame that is read.
    frame: u64,
}

#[derive(Debug)]
struct Chain {
    checker: ChainChecker,
    /// The frame that last touched it: events of one record are never split over frames.
    frame: u64,
    /// Whether the last event was a snapshot: an update at the same position is no sibling of it.
    was_snapshot: bool,
    /// A subscribe was acknowledged while it stood: its snapshot may repeat what was seen.
    resubscribed: Option<Resubscribed>,
    /// Whether something of it was taken in this session.
    is_of_session: bool,
    /// Whether its user has a state that a snapshot would replace.
    has_state: bool,
    book: Book,
    /// Whether its book is to be asked for again.
    is_broken: bool,
    depth: Depth,
}

/// What its user has of a book.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Book {
    /// No state came.
    Nothing,
    /// A state of this depth, and all that changed it.
    Whole,
    /// It was whole, or should be, and is not.
    Lost,
    /// No state came, as its user has said where to go on, and has it from elsewhere.
    Elsewhere,
}

impl Book {
    fn lose(&mut self) {
        if *self == Self::Whole {
            *self = Self::Lost;
        }
    }
}

/// Why a snapshot comes that may repeat what was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resubscribed {
    /// The user has asked for it.
    ByUser,
    /// It was renewed.
    ByUs,
}

/// What is to be done with an event.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) symbol: Symbol,
    pub(crate) depth: Depth,
    pub(crate) verdict: Verdict,
    /// Where the chain stood before.
    pub(crate) last: Option<Position>,
    /// Whether it replaces a state that was handed out.
    pub(crate) is_resync: bool,
    /// Whether there is anything that it could change.
    pub(crate) changes: Changes,
}

/// What an event changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Changes {
    /// Anything but a book that is not there; or one that will be, or was said not to be.
    Something,
    /// A book of which no state ever came: see [`Chains::without_state`].
    Unknown,
    /// A book that just broke, or was whole once and is not, which is said once in a session.
    Lost,
}

impl Chains {
    /// A data frame begins.
    pub(crate) fn begin_frame(&mut self) {
        self.frame += 1;
    }

    /// Judges an event of `channel`. `depth` says how deep the book is that a chain begins with.
    pub(crate) fn event(
        &mut self,
        channel: Channel,
        seq: Position,
        view: &EventView<'_>,
        depth: impl FnOnce() -> Depth,
    ) -> Judged {
        let frame = self.frame;
        let Some((symbol, chain)) = self.chain(channel, &view.symbol, depth) else {
            let symbol = Symbol::from(&*view.symbol);
            let verdict = Verdict::Unverified;
            let changes = Changes::Something;
            return Judged { symbol, depth: Depth::ALL, verdict, last: None, is_resync: false, changes };
        };
        let resubscribed = chain.resubscribed.take_if(|_| view.snapshot);
        if resubscribed.is_some() {
            chain.checker = ChainChecker::default();
        }
        let same_record = chain.frame == frame && chain.was_snapshot == view.snapshot;
        chain.frame = frame;
        chain.was_snapshot = view.snapshot;
        let last = chain.checker.last();
        let verdict = chain.checker.event(seq, &view.tail(), same_record);
        let is_kept = verdict != Verdict::Duplicate;
        chain.is_of_session |= is_kept;
        let is_resync = is_kept
            && view.snapshot
            && channel.is_state()
            && chain.has_state
            && resubscribed != Some(Resubscribed::ByUser);
        chain.has_state |= is_kept;
        let is_book = channel == Channel::Book && is_kept;
        let changes = if is_book { chain.book_event(view, verdict) } else { Changes::Something };
        Judged { symbol, depth: chain.depth, verdict, last, is_resync, changes }
    }

    /// Takes note of a gap; `None` when it is about what this client has.
    pub(crate) fn gap(
        &mut self,
        channel: Channel,
        symbol: &str,
        gap: &Gap,
        depth: impl FnOnce() -> Depth,
    ) -> Option<Symbol> {
        let Some((name, chain)) = self.chain(channel, symbol, depth) else { return Some(symbol.into()) };
        if chain.checker.has_all_of(gap) {
            return None;
        }
        chain.checker.gap(gap);
        chain.book.lose();
        Some(name)
    }

    fn chain(
        &mut self,
        channel: Channel,
        symbol: &str,
        depth: impl FnOnce() -> Depth,
    ) -> Option<(Symbol, &mut Chain)> {
        let chains = &mut self.of[channel as usize];
        let name = match chains.get_key_value(symbol) {
            Some((name, _)) => name.clone(),
            None if chains.len() < CHAINS_MAX / Channel::ALL.len() => {
                let name = Symbol::from(symbol);
                let chain = Chain {
                    checker: ChainChecker::default(),
                    // Not the present frame: nothing of this chain stands in it yet.
                    frame: self.frame.wrapping_sub(1),
                    was_snapshot: false,
                    resubscribed: None,
                    is_of_session: false,
                    has_state: false,
                    book: Book::Nothing,
                    is_broken: false,
                    depth: depth(),
                };
                chains.insert(name.clone(), chain);
                name
            }
            None => return None,
        };
        let chain = chains.get_mut(symbol)?;
        Some((name, chain))
    }

    /// The session has ended, and the next one goes on from a cursor, or from where each stands.
    pub(crate) fn come_back(&mut self) {
        for channel in Channel::ALL {
            for chain in self.of[channel as usize].values_mut() {
                chain.checker.resumed(true);
                chain.is_of_session = false;
                if chain.resubscribed == Some(Resubscribed::ByUs) {
                    // What was given up for its sake is lost with it.
                    chain.book.lose();
                }
                // What its user has asked for and did not get is still no surprise.
                let is_owed = channel == Channel::Book && chain.book != Book::Whole;
                chain.resubscribed.take_if(|by| *by == Resubscribed::ByUs || !is_owed);
                // The gateway has told a gap, and the state behind it is lost: the next one knows nothing of that.
                chain.is_broken = chain.book == Book::Lost;
            }
        }
    }

    /// Whether the state of a book is still to come, or is lost: its changes alone are of no use.
    pub(crate) fn lacks_state(&self, symbol: &str) -> bool {
        self.of[Channel::Book as usize].get(symbol).is_none_or(|chain| chain.book != Book::Whole)
    }

    /// Changes of a book come of which no state ever did. Unless its user has it from elsewhere, it is to be asked for.
    pub(crate) fn without_state(&mut self, symbol: &str, is_elsewhere: bool) {
        if let Some(chain) = self.of[Channel::Book as usize].get_mut(symbol) {
            chain.book = if is_elsewhere { Book::Elsewhere } else { Book::Lost };
            chain.is_broken = !is_elsewhere;
        }
    }

    /// The books that are to be asked for again, of those that `name` covers.
    pub(crate) fn broken(&mut self, name: &str) -> Vec<Symbol> {
        let mut broken = Vec::new();
        self.each(Channel::Book, name, |symbol, chain| {
            if chain.is_broken {
                broken.push(Symbol::from(symbol));
            }
        });
        broken
    }

    /// The books that come by `name`, as far as `is_its` says so, begin anew with their states. Gives their symbols.
    pub(crate) fn begin_anew(
        &mut self,
        name: &str,
        depth: Depth,
        is_its: impl Fn(&str) -> bool,
    ) -> Vec<Symbol> {
        let mut spoilt = Vec::new();
        self.each(Channel::Book, name, |symbol, chain| {
            if is_its(symbol) {
                chain.book.lose();
                chain.is_broken = false;
                chain.resubscribed.get_or_insert(Resubscribed::ByUs);
                chain.depth = depth;
                spoilt.push(Symbol::from(symbol));
            }
        });
        spoilt
    }

    /// Where a pair stands, which it is resumed from; `None` when nothing of it was seen.
    pub(crate) fn resume_from(&mut self, channel: Channel, symbol: &str) -> Option<Position> {
        let chain = self.of[channel as usize].get_mut(symbol)?;
        let last = chain.checker.last()?;
        chain.checker.resumed(false);
        Some(last)
    }

    /// What was resumed under `name` is gone, as far as nothing came of it and `is_its` says so.
    pub(crate) fn aged_out(&mut self, channel: Channel, name: &str, is_its: impl Fn(&str) -> bool) {
        self.each(channel, name, |symbol, chain| {
            if !chain.is_of_session && is_its(symbol) {
                chain.checker.aged_out();
            }
        });
    }

    /// A subscription to `name` was acknowledged again: the snapshots of symbols that come by it may repeat what was seen. Gives
    /// its depth to their books.
    pub(crate) fn resubscribed(
        &mut self,
        by: Resubscribed,
        channel: Channel,
        name: &str,
        depth: Depth,
        is_its: impl Fn(&str) -> bool,
    ) {
        self.each(channel, name, |symbol, chain| {
            if is_its(symbol) {
                chain.resubscribed = Some(by);
                if std::mem::replace(&mut chain.depth, depth) != depth {
                    chain.book.lose();
                }
            }
        });
    }

    /// What `name` covers, as far as `is_its` says so, is no longer asked for, or begins anew. Gives its symbols.
    pub(crate) fn forget(
        &mut self,
        channel: Channel,
        name: &str,
        is_its: impl Fn(&str) -> bool,
    ) -> Vec<Symbol> {
        let mut gone = Vec::new();
        self.each(channel, name, |symbol, _| {
            if is_its(symbol) {
                gone.push(Symbol::from(symbol));
            }
        });
        let chains = &mut self.of[channel as usize];
        gone.iter().for_each(|symbol| _ = chains.remove(symbol));
        gone
    }

    fn each(&mut self, channel: Channel, name: &str, mut change: impl FnMut(&str, &mut Chain)) {
        let chains = &mut self.of[channel as usize];
        match name.strip_suffix('*') {
            None => {
                if let Some(chain) = chains.get_mut(name) {
                    change(name, chain);
                }
            }
            Some(prefix) => chains
                .iter_mut()
                .filter(|(symbol, _)| symbol.starts_with(prefix))
                .for_each(|(symbol, chain)| change(symbol, chain)),
        }
    }
}

impl Chain {
    /// Takes note of an event of a book that was kept, and says what it changes.
    fn book_event(&mut self, view: &EventView<'_>, verdict: Verdict) -> Changes {
        if view.snapshot {
            (self.book, self.is_broken) = (Book::Whole, false);
            return Changes::Something;
        }
        if verdict == Verdict::Unannounced {
            (self.book, self.is_broken) = (Book::Lost, true);
            return Changes::Lost;
        }
        // What is replayed may bring a state yet, and so does what was asked for.
        if view.replay || self.resubscribed.is_some() || self.is_broken {
            return Changes::Something;
        }
        match self.book {
            Book::Whole | Book::Elsewhere => Changes::Something,
            Book::Nothing => Changes::Unknown,
            Book::Lost => {
                self.is_broken = true;
                Changes::Lost
            }
        }
    }
}
