//! Holds what a client heard against what really stood in Kafka.
//!
//! Sessions that were resumed continue the one before: their ticks are demanded without a hole from the first
//! subscription on, across whatever happened in between. A session that began afresh is judged for itself.

mod chain;

use crate::counts::Counts;
use crate::log::{Log, Run};
use crate::transcript::{ClientTranscript, Heard, Positions, SessionTranscript, Start};
use chain::{Chain, Resumed};
use rustc_hash::FxHashMap;
use std::fmt;
use tickgate_protocol::Channel;
use tickgate_protocol::command::Id;

/// Most descriptions of faults that are kept; all of them are counted.
pub const SAMPLES_MAX: usize = 20;
/// Most ranges of missing records that are kept; all of them are counted.
pub const MISSING_MAX: usize = 1_000;

/// Records of one stream that did not come, one behind the other.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Missing {
    pub channel: Channel,
    pub symbol: String,
    pub run: Run,
    /// The offsets of its records; offsets in between belong to other streams.
    pub offsets: Vec<u64>,
    /// Ticks in them.
    pub ticks: u64,
    /// Whether a gap covers them.
    pub is_announced: bool,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |offset: Option<&u64>| self.run.at(offset.copied().unwrap_or_default());
        write!(f, "{} {}: {}", self.channel.name(), self.symbol, at(self.offsets.first()))?;
        if self.offsets.len() > 1 {
            write!(f, " to {} ({} records)", at(self.offsets.last()), self.offsets.len())?;
        }
        f.write_str(if self.is_announced { ", lost as a gap says" } else { ", lost without a word" })
    }
}

/// The verdict on one client.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judgement {
    /// What was counted.
    pub counts: Counts,
    /// Exactly what is missing, announced or not.
    pub missing: Vec<Missing>,
    /// The first faults, described.
    pub samples: Vec<String>,
}

impl Judgement {
    /// Adds `other` to this.
    pub fn add(&mut self, other: Self) {
        self.counts.add(&other.counts);
        let room = MISSING_MAX.saturating_sub(self.missing.len());
        self.missing.extend(other.missing.into_iter().take(room));
        let room = SAMPLES_MAX.saturating_sub(self.samples.len());
        self.samples.extend(other.samples.into_iter().take(room));
    }

    fn sample(&mut self, describe: impl FnOnce() -> String) {
        if self.samples.len() < SAMPLES_MAX {
            self.samples.push(describe());
        }
    }
}

/// Judges one client.
pub fn judge(log: &Log, client: &ClientTranscript) -> Judgement {
    let mut judge =
        Judge { log, chains: Vec::new(), index: FxHashMap::default(), found: Judgement::default() };
    judge.found.counts.clients = 1;
    judge.found.counts.sessions = client.sessions.len() as u64;
    for (number, session) in client.sessions.iter().enumerate() {
        if matches!(session.start, Start::Fresh { .. }) {
            judge.close(None);
        }
        judge.session(number as u32, session);
    }
    let last = (client.sessions.len() as u32).checked_sub(1);
    judge.close(last.filter(|_| client.is_settled));
    judge.found
}

struct Judge<'a> {
    log: &'a Log,
    chains: Vec<Chain<'a>>,
    index: FxHashMap<(Channel, &'a str), usize>,
    found: Judgement,
}

impl<'a> Judge<'a> {
    fn session(&mut self, number: u32, session: &'a SessionTranscript) {
        self.found.counts.unreadable += session.unreadable;
        // The newest offset of a symbol over its channels.
        let mut across: FxHashMap<(&str, Run), u64> = FxHashMap::default();
        let is_ordered = matches!(session.start, Start::Fresh { .. }) && !session.is_conflated;
        for heard in &session.heard {
            match heard {
                Heard::Hold { channel, symbol, from, request } => {
                    let resumed = match (&session.start, from) {
                        (Start::Fresh { .. }, _) => None,
                        (_, Some(from)) => Some(Resumed::Seq(*from)),
                        (Start::Cursor(cursor), None) => Some(Resumed::Cursor(cursor.clone())),
                        (Start::Seq, None) => None,
                    };
                    let behind = match &session.start {
                        Start::Fresh { behind } => behind.clone(),
                        _ => None,
                    };
                    self.hold((number, request), *channel, symbol, resumed, behind);
                    self.chains_of(*channel, symbol, session.conflates(*channel, symbol));
                }
                Heard::Event(event) => {
                    self.found.counts.events += 1;
                    let (channel, symbol) = &session.streams()[event.stream as usize];
                    let Some(chain) = self.index.get(&(*channel, &**symbol)).map(|at| &mut self.chains[*at])
                    else {
                        self.found.counts.wrong += 1;
                        self.found.sample(|| format!("{} {symbol} was not asked for", channel.name()));
                        continue;
                    };
                    let is_news = chain.event(number, event, &mut self.found);
                    let tail = event.tail;
                    if is_news && is_ordered && !tail.snapshot && !tail.replay && tail.merged <= 1 {
                        let newest = across.entry((&**symbol, event.seq.into())).or_default();
                        if event.seq.offset < *newest {
                            self.found.counts.out_of_order += 1;
                            self.found.sample(|| {
                                format!(
                                    "{} {symbol} at {} behind another channel of it",
                                    channel.name(),
                                    event.seq
                                )
                            });
                        }
                        *newest = event.seq.offset.max(*newest);
                    }
                }
                Heard::Gap { stream, gap } => {
                    self.found.counts.gaps += 1;
                    let (channel, symbol) = &session.streams()[*stream as usize];
                    if let Some(at) = self.index.get(&(*channel, &**symbol)) {
                        self.chains[*at].gap(gap, &mut self.found);
                    }
                }
                Heard::AgedOut { request } => {
                    // Without one it comes unasked, and is said of everything.
                    let is_meant = |chain: &&mut Chain<'a>| match request {
                        Some(_) => chain.is_asked_by(number, request),
                        None => chain.session == number,
                    };
                    self.chains.iter_mut().filter(is_meant).for_each(Chain::aged_out);
                }
                Heard::Cursor(cursor) => {
                    for chain in self.chains.iter_mut().filter(|chain| chain.session == number) {
                        chain.cursor(cursor, &mut self.found);
                    }
                }
            }
        }
    }

    fn hold(
        &mut self,
        asked: (u32, &'a Option<Id>),
        channel: Channel,
        symbol: &'a str,
        resumed: Option<Resumed>,
        behind: Option<Positions>,
    ) {
        let log = self.log;
        match symbol.strip_suffix('*') {
            None => self.chain(asked, channel, symbol, resumed, behind.as_ref()),
            Some(prefix) => {
                for symbol in log.symbols(channel).filter(|symbol| symbol.starts_with(prefix)) {
                    self.chain(asked, channel, symbol, resumed.clone(), behind.as_ref());
                }
            }
        }
    }

    /// Which of a session's subscriptions a symbol gets its events by: the most specific one.
    fn chains_of(&mut self, channel: Channel, target: &str, is_conflated: bool) {
        let (prefix, specificity) = match target.strip_suffix('*') {
            Some(prefix) => (prefix, prefix.len()),
            None => (target, usize::MAX),
        };
        let is_meant = |chain: &&mut Chain<'a>| match specificity {
            usize::MAX => chain.symbol == target,
            _ => chain.symbol.starts_with(prefix),
        };
        let chains = self.chains.iter_mut().filter(|chain| chain.channel == channel);
        chains.filter(is_meant).for_each(|chain| chain.held_by(specificity, is_conflated));
    }

    /// A stream is held in a session, as a request of it asked.
    fn chain(
        &mut self,
        (number, request): (u32, &'a Option<Id>),
        channel: Channel,
        symbol: &'a str,
        resumed: Option<Resumed>,
        behind: Option<&Positions>,
    ) {
        let is_fresh = resumed.is_none();
        let Self { log, chains, index, found } = self;
        // A subscription without a position among others that have one begins anew.
        let old = index.get(&(channel, symbol)).copied().filter(|_| is_fresh);
        if let Some(at) = old.filter(|at| chains[*at].session != number) {
            let fresh = Chain::new(channel, symbol, log.stream(channel, symbol), behind, None);
            std::mem::replace(&mut chains[at], fresh).close(false, found);
        }
        let at = *index.entry((channel, symbol)).or_insert_with(|| {
            chains.push(Chain::new(channel, symbol, log.stream(channel, symbol), behind, resumed.as_ref()));
            chains.len() - 1
        });
        let chain = &mut chains[at];
        if chain.session != number {
            chain.begin(number, resumed);
        }
        chain.requests.push(request);
    }

    /// Ends the sessions that belong together; streams held in session `live` must have come to the end of the log.
    fn close(&mut self, live: Option<u32>) {
        self.index.clear();
        for chain in self.chains.drain(..) {
            let is_live = live == Some(chain.session);
            chain.close(is_live, &mut self.found);
        }
    }
}
