//! What a [`crate::Live`] hands out: market data, and everything that a reader of market data has to know.

use std::sync::Arc;
use std::time::Duration;
pub use tickgate_protocol::control::{AckResult, FeedState};
use tickgate_protocol::event::EventView;
pub use tickgate_protocol::event::GapCause;
pub use tickgate_protocol::record::{Level, Side, TradingState};
use tickgate_protocol::{Channel, Code, Decimal, Depth, OnSlow, Position};

/// A symbol. All events of a symbol share one text.
pub type Symbol = Arc<str>;

/// One thing that happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// An execution.
    Trade(Trade),
    /// A best bid and offer.
    Quote(Quote),
    /// Levels of a book that changed, or all of them. [`crate::Live::book`] has the whole book.
    Book(BookUpdate),
    /// What an instrument may do.
    Status(Status),
    /// Something is missing here.
    Gap(Gap),
    /// The event that follows replaces what was known of this symbol: a state instead of a change.
    Resync {
        /// The channel.
        channel: Channel,
        /// The symbol.
        symbol: Symbol,
    },
    /// What was asked for of the past has come.
    ReplayDone {
        /// The channel.
        channel: Channel,
        /// The symbol or pattern, as it was asked for.
        symbol: Symbol,
        /// The symbol's newest event, where known.
        seq: Option<Position>,
    },
    /// The connection's state has changed.
    State(State),
    /// A `subscribe` or `unsubscribe` was answered.
    Ack(Ack),
    /// A token was shown in the session, and taken or not.
    Auth {
        /// Whether it was taken.
        ok: bool,
    },
    /// This client reads too slowly.
    Slow(Slow),
    /// The gateway is about to close the session. Until then everything goes on; then the client comes back by itself.
    Goaway {
        /// Why.
        reason: String,
        /// How long until then.
        close_in: Duration,
    },
    /// A feed behind the gateway has another state than before.
    Feed {
        /// Its name.
        name: String,
        /// Its state.
        state: FeedState,
    },
    /// Something went wrong.
    Error(Fault),
}

impl Event {
    /// The symbol, or the pattern, that the event speaks of.
    pub fn symbol(&self) -> Option<&Symbol> {
        match self {
            Self::Trade(event) => Some(&event.symbol),
            Self::Quote(event) => Some(&event.symbol),
            Self::Book(event) => Some(&event.symbol),
            Self::Status(event) => Some(&event.symbol),
            Self::Gap(gap) => Some(&gap.symbol),
            Self::Resync { symbol, .. } | Self::ReplayDone { symbol, .. } => Some(symbol),
            Self::Error(fault) => fault.symbol.as_ref(),
            _ => None,
        }
    }

    /// What trades, quotes, books and statuses have in common.
    pub fn meta(&self) -> Option<&Meta> {
        match self {
            Self::Trade(event) => Some(&event.meta),
            Self::Quote(event) => Some(&event.meta),
            Self::Book(event) => Some(&event.meta),
            Self::Status(event) => Some(&event.meta),
            _ => None,
        }
    }
}

/// Where an event came from, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Its position, the same on every gateway.
    pub seq: Position,
    /// Position of the event before it on this channel and symbol, where the gateway knows it.
    pub prev: Option<Position>,
    /// When it happened, by the venue's clock, in nanoseconds since the Unix epoch.
    pub event_ns: i64,
    /// When the gateway read it, by the gateway's clock, in nanoseconds since the Unix epoch.
    pub ingest_ns: i64,
    /// When its producer meant to send it, in nanoseconds since the Unix epoch.
    pub send_ns: Option<i64>,
    /// When this client read it, by its own clock, in nanoseconds since the Unix epoch.
    pub received_ns: i64,
    /// How many updates it stands for: more than one where it was conflated.
    pub merged: u32,
    /// State that was sent because of a subscribe or a resynchronisation: it replaces what was known.
    pub snapshot: bool,
    /// It is of the past: sent because it was asked for, or because the client had missed it.
    pub replay: bool,
}

impl Meta {
    /// From the gateway to here in nanoseconds, as the two clocks have it: with [`crate::Stats::skew_ns`] added it is as if they were
    /// one. It may be negative.
    pub fn latency_ns(&self) -> i64 {
        self.received_ns.saturating_sub(self.ingest_ns)
    }
}

/// An execution.
#[derive(Debug, Clone)]
#[non_exhaustive]
#[allow(missing_docs)]
pub struct Trade {
    pub symbol: Symbol,
    pub price: Decimal,
    pub size: Decimal,
    /// The side of the aggressor.
    pub side: Option<Side>,
    pub trade_id: Option<Box<str>>,
    pub venue: Option<Box<str>>,
    pub conditions: Option<Box<str>>,
    pub meta: Meta,
}

/// A best bid and offer. Locked and crossed ones are normal in real feeds.
#[derive(Debug, Clone)]
#[non_exhaustive]
#[allow(missing_docs)]
pub struct Quote {
    pub symbol: Symbol,
    pub bid_price: Decimal,
    pub bid_size: Decimal,
    pub ask_price: Decimal,
    pub ask_size: Decimal,
    pub venue: Option<Box<str>>,
    pub meta: Meta,
}

impl Quote {
    /// Ask less bid, as the nearest double.
    pub fn spread(&self) -> f64 {
        self.ask_price.to_f64() - self.bid_price.to_f64()
    }

    /// Between bid and ask, as the nearest double.
    pub fn mid(&self) -> f64 {
        f64::midpoint(self.ask_price.to_f64(), self.bid_price.to_f64())
    }
}

/// Levels of a book: price and absolute size, where zero removes the level. With [`Meta::snapshot`] they are the whole book.
#[derive(Debug, Clone)]
#[non_exhaustive]
#[allow(missing_docs)]
pub struct BookUpdate {
    pub symbol: Symbol,
    pub bids: Vec<Level>,
    pub asks: Vec<Level>,
    /// How many levels a side the subscription sees.
    pub depth: Depth,
    pub meta: Meta,
}

/// Trading status of an instrument.
#[derive(Debug, Clone)]
#[non_exhaustive]
#[allow(missing_docs)]
pub struct Status {
    pub symbol: Symbol,
    pub state: TradingState,
    pub reason: Option<Box<str>>,
    pub meta: Meta,
}

/// Events that did not come and will not.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)]
pub struct Gap {
    pub channel: Channel,
    pub symbol: Symbol,
    pub cause: Cause,
    /// The last event before it, where known.
    pub after: Option<Position>,
    /// The last event lost, where known.
    pub upto: Option<Position>,
    /// How many were lost, where known.
    pub count: Option<u64>,
    /// Symbols whose books are spoilt by it, beside `symbol`, which may be a pattern.
    pub(crate) spoilt: Vec<Symbol>,
}

impl Gap {
    /// One of which nothing else is known.
    pub(crate) fn new(channel: Channel, symbol: Symbol, cause: Cause) -> Self {
        Self { channel, symbol, cause, after: None, upto: None, count: None, spoilt: Vec::new() }
    }
}

/// Why something is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The gateway said so.
    Announced(GapCause),
    /// Nobody said so. With positions: the event behind it does not follow the one before it, which is a bug of the gateway.
    /// Without: the session was lost before it had a cursor to go on from, or before the state of a whole book came, and this symbol
    /// or pattern begins anew.
    Unannounced,
}

impl Cause {
    /// Its name: those of the protocol, or `unannounced`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Announced(cause) => cause.name(),
            Self::Unannounced => "unannounced",
        }
    }
}

/// State of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// The first attempt is made.
    Connecting,
    /// There is a session, and what was asked for before was answered and, after a loss, replayed.
    Live,
    /// Nothing came for longer than two heartbeats and a second.
    Stale,
    /// There is no session, and another attempt will be made.
    Reconnecting {
        /// Its number since the last session that was [`State::Live`], from 1.
        attempt: u32,
        /// Why there is no session.
        reason: String,
    },
    /// There is a session again, and what was missed is asked for.
    Resyncing,
    /// The end.
    Closed {
        /// Why.
        reason: String,
    },
}

impl State {
    /// Its name, as the conformance scenarios have it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Live => "live",
            Self::Stale => "stale",
            Self::Reconnecting { .. } => "reconnecting",
            Self::Resyncing => "resyncing",
            Self::Closed { .. } => "closed",
        }
    }
}

/// What a request was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// [`crate::Live::subscribe`]
    Subscribe,
    /// [`crate::Live::unsubscribe`]
    Unsubscribe,
}

/// The answer to a request. Its `Debug` has the [`Ack::hints`], too.
#[derive(Clone)]
#[non_exhaustive]
#[allow(missing_docs)]
pub struct Ack {
    pub asked: Asked,
    /// Whether all results are.
    pub ok: bool,
    /// What became of each symbol and pattern; [`Ack::hints`] says what to do about it.
    pub results: Vec<AckResult>,
    /// Symbols whose books have ended by it.
    pub(crate) ended: Vec<Symbol>,
}

impl std::fmt::Debug for Ack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hints: Vec<String> = self.hints().map(|(_, hint)| hint).collect();
        let Self { asked, ok, results, .. } = self;
        let mut shown = f.debug_struct("Ack");
        shown.field("asked", asked).field("ok", ok).field("results", results).field("hints", &hints);
        shown.finish_non_exhaustive()
    }
}

impl Ack {
    /// The results that need looking at, each with what happened and what to do about it: refusals, and symbols that no record has
    /// named yet, which may be misspelt.
    pub fn hints(&self) -> impl Iterator<Item = (&AckResult, String)> {
        self.results.iter().filter_map(|result| Some((result, crate::hint::of_result(result)?)))
    }
}

/// How slow this client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)]
pub struct Slow {
    pub delay_ms: u64,
    pub queued_bytes: u64,
    pub limit_bytes: u64,
    /// What comes next at the bound.
    pub action: OnSlow,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)]
pub struct Fault {
    pub code: FaultCode,
    pub symbol: Option<Symbol>,
    /// What happened and what to do about it. It has no token.
    pub hint: String,
    /// Whether it ends the session.
    pub fatal: bool,
    /// Symbols whose books have ended by it.
    pub(crate) ended: Vec<Symbol>,
}

impl Fault {
    pub(crate) fn new(code: FaultCode, symbol: Option<Symbol>, hint: String, fatal: bool) -> Self {
        Self { code, symbol, hint, fatal, ended: Vec::new() }
    }
}

/// What kind of thing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultCode {
    /// One of the protocol's.
    Protocol(Code),
    /// The gateway sent what cannot be read. Nothing of that message was taken.
    BadFrame,
    /// The function that gives tokens gave none that can be used.
    Token,
    /// The handshake was refused for a reason that the protocol has no name for.
    Refused,
}

impl FaultCode {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Protocol(code) => code.name(),
            Self::BadFrame => "bad_frame",
            Self::Token => "token",
            Self::Refused => "refused",
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code.name())?;
        if let Some(symbol) = &self.symbol {
            write!(f, " ({symbol})")?;
        }
        write!(f, ": {}", self.hint)
    }
}

/// Whether an event, as it came, has all that its type needs; if not, what is wrong with it.
pub(crate) fn check(view: &EventView<'_>) -> Result<(), &'static str> {
    let missing = |is_there: bool, what| if is_there { Ok(()) } else { Err(what) };
    missing(!view.symbol.is_empty(), "an event without a symbol")?;
    if view.is_gap() {
        return missing(view.channel.is_some() && view.cause.is_some(), "a gap without channel or cause");
    }
    let has_meta = view.seq.is_some() && view.event_ns.is_some() && view.ingest_ns.is_some();
    missing(has_meta, "an event without seq, event_ns or ingest_ns")?;
    match view.channel() {
        Some(Channel::Trades) => {
            missing(view.price.is_some() && view.size.is_some(), "a trade without price or size")
        }
        Some(Channel::Quotes) => {
            let prices = view.bid_price.is_some() && view.ask_price.is_some();
            missing(prices && view.bid_size.is_some() && view.ask_size.is_some(), "a quote that is not whole")
        }
        Some(Channel::Book) => {
            missing(view.bids.is_some() && view.asks.is_some(), "a book without bids or asks")
        }
        Some(Channel::Status) => missing(view.state.is_some(), "a status without a state"),
        None => Err("an event of an unknown type"),
    }
}

/// An event that was [`check`]ed, with texts of its own; `None` for one that was not.
pub(crate) fn own(view: EventView<'_>, symbol: Symbol, depth: Depth, received_ns: i64) -> Option<Event> {
    let text = |text: Option<std::borrow::Cow<'_, str>>| text.map(|text| Box::from(&*text));
    let tail = view.tail();
    let meta = Meta {
        seq: view.seq?,
        prev: tail.prev,
        event_ns: view.event_ns?,
        ingest_ns: view.ingest_ns?,
        send_ns: view.send_ns,
        received_ns,
        merged: tail.merged,
        snapshot: tail.snapshot,
        replay: tail.replay,
    };
    Some(match view.channel()? {
        Channel::Trades => Event::Trade(Trade {
            symbol,
            price: view.price?,
            size: view.size?,
            side: view.side,
            trade_id: text(view.trade_id),
            venue: text(view.venue),
            conditions: text(view.conditions),
            meta,
        }),
        Channel::Quotes => Event::Quote(Quote {
            symbol,
            bid_price: view.bid_price?,
            bid_size: view.bid_size?,
            ask_price: view.ask_price?,
            ask_size: view.ask_size?,
            venue: text(view.venue),
            meta,
        }),
        Channel::Book => Event::Book(BookUpdate { symbol, bids: view.bids?, asks: view.asks?, depth, meta }),
        Channel::Status => {
            Event::Status(Status { symbol, state: view.state?, reason: text(view.reason), meta })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples that all clients and the gateway share.
    #[test]
    fn the_golden_events_are_read_whole() {
        let golden = include_str!("../../../protocol/tests/golden/events.jsonl");
        let mut kinds = Vec::new();
        for line in golden.lines() {
            let view: EventView<'_> = serde_json::from_str(line).unwrap();
            check(&view).unwrap();
            if view.is_gap() {
                kinds.push("gap");
                continue;
            }
            let symbol = Symbol::from(&*view.symbol);
            let event = own(view, symbol.clone(), Depth::ALL, 1_381_150_800_000_350_000).unwrap();
            let meta = *event.meta().unwrap();
            assert_eq!(event.symbol(), Some(&symbol));
            assert_eq!(
                (meta.seq.to_string(), meta.latency_ns()),
                ("1f3a:3:88123".to_owned(), 100_000),
                "{line}"
            );
            assert_eq!(line.contains("snapshot"), meta.snapshot);
            assert_eq!(line.contains("replay"), meta.replay);
            assert_eq!(line.contains("\"merged\":3"), meta.merged == 3);
            kinds.push(match &event {
                Event::Trade(trade) => {
                    assert_eq!((trade.price.to_string(), trade.side), ("487.50".to_owned(), Some(Side::Buy)));
                    assert_eq!((trade.trade_id.as_deref(), trade.venue.as_deref()), (Some("77"), Some("Q")));
                    "trade"
                }
                Event::Quote(quote) => {
                    assert!((quote.spread() - 0.05).abs() < 1e-9 && (quote.mid() - 487.525).abs() < 1e-9);
                    "quote"
                }
                Event::Book(book) => {
                    assert_eq!((book.bids.len(), book.asks[0].1.is_zero()), (1, true));
                    "book"
                }
                Event::Status(status) => {
                    assert_eq!(status.reason.as_deref(), Some("LULD \"T1\""));
                    "status"
                }
                other => panic!("{other:?}"),
            });
        }
        assert!(["trade", "quote", "book", "status"].iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let meta = r#""seq":"1:0:5","event_ns":"1","ingest_ns":"2""#;
        let checked = |json: String| check(&serde_json::from_str(&json).unwrap());
        assert_eq!(
            checked(format!(r#"{{"type":"trade","symbol":"A","price":"1","size":"2",{meta}}}"#)),
            Ok(())
        );
        for bad in [
            format!(r#"{{"type":"trade","symbol":"A","price":"1",{meta}}}"#),
            format!(r#"{{"type":"bar","symbol":"A",{meta}}}"#),
            format!(r#"{{"type":"book","symbol":"A","bids":[],{meta}}}"#),
            format!(r#"{{"type":"status","symbol":"A",{meta}}}"#),
            format!(r#"{{"type":"trade","symbol":"","price":"1","size":"2",{meta}}}"#),
            r#"{"type":"trade","symbol":"A","price":"1","size":"2"}"#.to_owned(),
            r#"{"type":"gap","symbol":"A","channel":"trades"}"#.to_owned(),
        ] {
            assert!(checked(bad.clone()).is_err(), "{bad}");
        }
    }
}
