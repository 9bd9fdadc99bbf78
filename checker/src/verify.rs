//! Holds one session to the protocol's promises.
//!
//! A [`SessionVerifier`] is fed everything a session received and counts what it finds into a [`Tally`]: the chain of
//! every (channel, symbol) by the client's rule, events nobody asked for or that came before their `ack`, gaps that do
//! not fit, events that a heartbeat's cursor had already promised, late heartbeats. Of a client that comes back it goes
//! on with the next session where the last one ended ([`SessionVerifier::come_back`]). A [`Transcript`] is the same
//! for tests: recorded first, judged afterwards.

mod seam;

use crate::scan::{Scanned, scan};
use crate::tally::{Tally, bump};
use rustc_hash::{FxHashMap, FxHashSet, FxHasher};
use seam::{Resumed, Seam};
use std::collections::hash_map::Entry;
use std::hash::Hasher;
use tickgate_protocol::checker::{ChainChecker, Verdict};
use tickgate_protocol::command::Id;
use tickgate_protocol::control::Control;
use tickgate_protocol::{Channel, Code, Position, cursor};

/// Most partitions of a cursor that are watched: beyond it, events behind the cursor are not looked for.
const CURSOR_PARTITIONS_MAX: usize = 64;
/// Most requests whose answers are awaited.
const REQUESTS_MAX: usize = 256;

/// What a request was, to understand its `ack`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// `subscribe`
    Subscribe,
    /// `unsubscribe`
    Unsubscribe,
    /// Anything else.
    Other,
}

/// Verifies one session.
#[derive(Debug, Default)]
pub struct SessionVerifier {
    chains: FxHashMap<Key, Chain>,
    held: Held,
    requests: Vec<(i64, Asked)>,
    cursor: Vec<Position>,
    frame: u32,
    heartbeat_ms: u64,
    heartbeat_ns: i64,
    resumed: Resumed,
}

/// Hash of a channel and a symbol. Chains keep the symbol too, so that a collision is found, not believed.
type Key = u64;

/// The acknowledged subscriptions.
#[derive(Debug, Default)]
struct Held {
    exact: FxHashSet<Key>,
    patterns: Vec<(Channel, Box<str>)>,
}

impl Held {
    fn cover(&self, channel: Channel, symbol: &str) -> bool {
        self.exact.contains(&key(channel, symbol))
            || self.patterns.iter().any(|(c, pattern)| *c == channel && matches(pattern, symbol))
    }
}

#[derive(Debug)]
struct Chain {
    checker: ChainChecker,
    symbol: Box<str>,
    channel: Channel,
    /// Number of the frame that last touched it: events of one record are never split over frames.
    frame: u32,
    /// Whether the last event was a snapshot: an update at the same position is no sibling of it.
    was_snapshot: bool,
    /// A subscribe was acknowledged while it stood: its snapshot may repeat what was seen.
    resubscribed: bool,
    /// Whether the client came back since its last event.
    seam: Seam,
}

impl SessionVerifier {
    /// Takes note of a request that is being sent with this `id`.
    pub fn sent(&mut self, id: i64, asked: Asked) {
        if self.requests.len() == REQUESTS_MAX {
            self.requests.remove(0);
        }
        self.requests.push((id, asked));
    }

    /// Whether every request has been answered.
    pub fn is_settled(&self) -> bool {
        self.requests.is_empty()
    }

    /// Takes a text message, whatever it is, received at `received_ns`; data events also go to `each`.
    ///
    /// Returns the control message, if it was one.
    pub fn message(
        &mut self,
        text: &[u8],
        received_ns: i64,
        tally: &mut Tally,
        each: impl FnMut(&Scanned<'_>, Verdict),
    ) -> Option<Control> {
        tally.messages += 1;
        tally.bytes += text.len() as u64;
        if text.first() == Some(&b'{') {
            return match serde_json::from_slice::<Control>(text) {
                Ok(control) => {
                    self.control(&control, received_ns, tally);
                    Some(control)
                }
                Err(error) => {
                    tally.unreadable += 1;
                    tally.sample(|| {
                        format!("unreadable control message ({error}): {}", String::from_utf8_lossy(text))
                    });
                    None
                }
            };
        }
        self.frame(text, tally, each);
        None
    }

    fn frame(&mut self, text: &[u8], tally: &mut Tally, mut each: impl FnMut(&Scanned<'_>, Verdict)) {
        self.frame = self.frame.wrapping_add(1);
        let mut by_channel = [0u64; 5];
        let scanned = scan(text, |event| {
            if event.is_gap {
                self.gap(event, tally);
                return;
            }
            by_channel[event.channel.map_or(4, |c| c as usize)] += 1;
            if let Some(verdict) = self.event(event, tally) {
                each(event, verdict);
            }
        });
        match scanned {
            Ok(counts) => tally.parsed += counts.parsed,
            Err(error) => {
                tally.unreadable += 1;
                tally.sample(|| format!("unreadable frame: {error}"));
            }
        }
        for (index, count) in by_channel.into_iter().enumerate().filter(|(_, count)| *count > 0) {
            tally.events += count;
            bump(&mut tally.by_channel, Channel::ALL.get(index).map_or("other", |c| c.name()), count);
        }
    }

    fn event(&mut self, event: &Scanned<'_>, tally: &mut Tally) -> Option<Verdict> {
        let channel = event.channel?;
        let Some(seq) = event.seq else {
            tally.unreadable += 1;
            tally.sample(|| format!("{} {} without seq", channel.name(), event.symbol));
            return None;
        };
        if event.merged > 1 {
            tally.merged += 1;
            tally.conflated += u64::from(event.merged) - 1;
        }
        tally.replayed += u64::from(event.replay);
        if !event.snapshot && !event.replay && self.is_behind_cursor(seq) {
            tally.behind_cursor += 1;
            tally.sample(|| {
                format!("{} {} at {seq} after a heartbeat that covered it", channel.name(), event.symbol)
            });
        }
        let frame = self.frame;
        let chain = self.chain(channel, event.symbol, tally);
        if &*chain.symbol != event.symbol || chain.channel != channel {
            // Two pairs with one hash: one in 2^64, but an honest count beats a false alarm.
            tally.unverified += 1;
            return Some(Verdict::Unverified);
        }
        if chain.resubscribed && event.snapshot {
            chain.checker = ChainChecker::default();
            chain.resubscribed = false;
        }
        if chain.seam.discards(event, seq, chain.checker.last()) {
            tally.resent += 1;
            return Some(Verdict::Duplicate);
        }
        let same_record = chain.frame == frame && chain.was_snapshot == event.snapshot;
        chain.frame = frame;
        chain.was_snapshot = event.snapshot;
        let last = chain.checker.last();
        let mut verdict = chain.checker.event(seq, &event.tail(), same_record);
        if verdict != Verdict::Duplicate {
            let seam = std::mem::take(&mut chain.seam);
            tally.resynced += u64::from(seam != Seam::None && verdict == Verdict::Snapshot);
            verdict = self.resumed.accept(channel, event, verdict);
        }
        match verdict {
            Verdict::First => tally.first += 1,
            Verdict::InOrder => tally.in_order += 1,
            Verdict::Snapshot => tally.snapshots += 1,
            Verdict::Duplicate => tally.duplicates += 1,
            Verdict::Unverified => tally.unverified += 1,
            Verdict::Unannounced => {
                tally.unannounced += 1;
                tally.sample(|| {
                    format!(
                        "unannounced loss: {} {} at {seq} follows {}, but the last seen was {}",
                        channel.name(),
                        event.symbol,
                        display(event.prev),
                        display(last)
                    )
                });
            }
        }
        if matches!(verdict, Verdict::Duplicate) {
            tally.sample(|| {
                format!(
                    "duplicate: {} {} at {seq}, last seen {}",
                    channel.name(),
                    event.symbol,
                    display(last)
                )
            });
        }
        Some(verdict)
    }

    fn gap(&mut self, event: &Scanned<'_>, tally: &mut Tally) {
        let (Some(channel), Some(gap)) = (event.channel, event.gap()) else {
            tally.unreadable += 1;
            tally.sample(|| format!("gap of {} without channel or cause", event.symbol));
            return;
        };
        let chain = self.chain(channel, event.symbol, tally);
        let last = chain.checker.last();
        let Some(gap) = chain.seam.gap(gap, last) else {
            tally.resent += 1;
            return;
        };
        let fits = chain.checker.gap(&gap);
        tally.gaps += 1;
        tally.gap_events += gap.count.unwrap_or(0);
        bump(&mut tally.gaps_by_cause, gap.cause.name(), 1);
        if !fits {
            tally.gaps_misfit += 1;
            tally.sample(|| {
                format!(
                    "gap of {} {} begins after {}, but the last seen was {}",
                    channel.name(),
                    event.symbol,
                    display(gap.after),
                    display(last)
                )
            });
        }
    }

    fn chain(&mut self, channel: Channel, symbol: &str, tally: &mut Tally) -> &mut Chain {
        match self.chains.entry(key(channel, symbol)) {
            Entry::Occupied(chain) => chain.into_mut(),
            Entry::Vacant(vacant) => {
                if !self.held.cover(channel, symbol) {
                    tally.unasked += 1;
                    tally.sample(|| {
                        format!("{} {symbol} came without an acknowledged subscription", channel.name())
                    });
                }
                vacant.insert(Chain {
                    checker: ChainChecker::default(),
                    symbol: symbol.into(),
                    channel,
                    // Not the present frame: nothing of this chain stands in it yet.
                    frame: self.frame.wrapping_sub(1),
                    was_snapshot: false,
                    resubscribed: false,
                    seam: Seam::None,
                })
            }
        }
    }

    fn control(&mut self, control: &Control, received_ns: i64, tally: &mut Tally) {
        match control {
            Control::Hello { heartbeat_ms, .. } => {
                self.heartbeat_ms = *heartbeat_ms;
                self.heartbeat_ns = received_ns;
            }
            Control::Ack { id, results, .. } => {
                let asked = self.answered(id.as_ref()).unwrap_or(Asked::Subscribe);
                for result in results {
                    match (&result.code, Channel::parse(&result.channel)) {
                        (None, Some(channel)) if result.ok => {
                            self.acknowledged(asked, channel, &result.symbol, tally);
                        }
                        (code, _) => bump(&mut tally.refused, code.map_or("no_code", |c| c.name()), 1),
                    }
                }
            }
            Control::Error { id, code, .. } => {
                self.answered(id.as_ref());
                bump(&mut tally.errors, code.name(), 1);
                if *code == Code::ReplayAgedOut {
                    self.aged_out(id.as_ref());
                }
            }
            Control::Heartbeat { cursor, .. } => {
                tally.heartbeats += 1;
                let late_ns = self.heartbeat_ns + (2 * self.heartbeat_ms as i64 + 1000) * 1_000_000;
                tally.heartbeats_late += u64::from(self.heartbeat_ns != 0 && received_ns > late_ns);
                self.heartbeat_ns = received_ns;
                self.move_cursor(cursor, tally);
            }
            Control::Slow { .. } => tally.slow_notices += 1,
            Control::Goaway { .. } => tally.goaways += 1,
            Control::Pong { id, .. } | Control::List { id, .. } => {
                self.answered(id.as_ref());
            }
            Control::ReplayDone { channel, symbol, .. } => {
                tally.replays += 1;
                self.resumed.caught_up(*channel, symbol);
            }
        }
    }

    fn answered(&mut self, id: Option<&Id>) -> Option<Asked> {
        let Some(Id::Number(id)) = id else { return None };
        let index = self.requests.iter().position(|(sent, _)| sent == id)?;
        Some(self.requests.remove(index).1)
    }

    fn acknowledged(&mut self, asked: Asked, channel: Channel, symbol: &str, tally: &mut Tally) {
        let prefix = symbol.strip_suffix('*');
        match asked {
            Asked::Subscribe => {
                tally.subscribed += 1;
                match prefix {
                    None => {
                        self.held.exact.insert(key(channel, symbol));
                    }
                    Some(_) if self.held.patterns.iter().any(|(c, p)| *c == channel && &**p == symbol) => {}
                    Some(_) => self.held.patterns.push((channel, symbol.into())),
                }
                for chain in self.touched(channel, symbol) {
                    // At a seam it was said where to go on.
                    chain.resubscribed = chain.seam == Seam::None;
                }
            }
            Asked::Unsubscribe => {
                match prefix {
                    None => {
                        self.held.exact.remove(&key(channel, symbol));
                    }
                    Some(_) => self.held.patterns.retain(|(c, p)| *c != channel || &**p != symbol),
                }
                // What nobody asks for any more ends; what another subscription covers starts afresh.
                let gone: Vec<Key> =
                    self.touched(channel, symbol).iter().map(|c| key(channel, &c.symbol)).collect();
                for key in gone {
                    self.chains.remove(&key);
                }
            }
            Asked::Other => {}
        }
    }

    /// The chains that a symbol or pattern speaks of.
    fn touched(&mut self, channel: Channel, symbol: &str) -> Vec<&mut Chain> {
        if symbol.ends_with('*') {
            self.chains.values_mut().filter(|c| c.channel == channel && matches(symbol, &c.symbol)).collect()
        } else {
            self.chains.get_mut(&key(channel, symbol)).into_iter().collect()
        }
    }

    fn move_cursor(&mut self, text: &str, tally: &mut Tally) {
        match cursor::given_unverified(text) {
            Ok(positions) if positions.len() <= CURSOR_PARTITIONS_MAX => self.cursor = positions,
            Ok(_) => self.cursor.clear(),
            Err(error) => {
                tally.unreadable += 1;
                tally.sample(|| format!("heartbeat: {error}: {text}"));
            }
        }
    }

    fn is_behind_cursor(&self, seq: Position) -> bool {
        self.cursor.iter().any(|next| seq.is_before(*next))
    }
}

fn key(channel: Channel, symbol: &str) -> Key {
    let mut hasher = FxHasher::default();
    hasher.write(symbol.as_bytes());
    hasher.write_u8(channel as u8);
    hasher.finish()
}

fn matches(pattern: &str, symbol: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => symbol.starts_with(prefix),
        None => pattern == symbol,
    }
}

fn display(position: Option<Position>) -> String {
    position.map_or_else(|| "nothing".to_owned(), |p| p.to_string())
}

/// Everything one session received, to be judged afterwards.
#[derive(Debug, Clone, Default)]
pub struct Transcript {
    /// Received text messages and when each came, in nanoseconds since the Unix epoch.
    pub messages: Vec<(i64, String)>,
}

impl Transcript {
    /// Adds a message.
    pub fn push(&mut self, received_ns: i64, text: &str) {
        self.messages.push((received_ns, text.to_owned()));
    }

    /// What a verifier finds in it. An `ack` counts as one of a subscribe unless `unsubscribes` has its id.
    pub fn verify(&self, unsubscribes: &[i64]) -> Tally {
        let mut verifier = SessionVerifier::default();
        for id in unsubscribes {
            verifier.sent(*id, Asked::Unsubscribe);
        }
        let mut tally = Tally::default();
        for (received_ns, text) in &self.messages {
            verifier.message(text.as_bytes(), *received_ns, &mut tally, |_, _| ());
        }
        tally
    }
}

#[cfg(test)]
mod tests;
