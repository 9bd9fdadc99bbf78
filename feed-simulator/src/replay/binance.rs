//! Raw Binance futures captures: each line is `<capture time, ns> <the websocket's JSON>`.
//!
//! `bookTicker` becomes a quote, `trade` and `aggTrade` a trade (`m`: the buyer was the maker, so the seller was the aggressor), a depth
//! diff a book record. One line without `stream` is the REST snapshot of the book, taken after the stream was connected; it fits
//! in by the exchange's bracket rule: diffs whose last update id `u` is below the snapshot's are dropped, the first one after
//! the snapshot is the one that brackets its id. Diffs that came before the snapshot line wait for it.
//!
//! `event_ns` is the transaction time `T` (or the event time `E`) of the exchange. Prices and sizes keep their text.

use super::lines::Lines;
use super::{Decode, Options, ReplayError, Skipped, Stamp};
use rustc_hash::FxHashMap;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::VecDeque;
use tickgate_protocol::Decimal;
use tickgate_protocol::record::{Body, Book, Level, Quote, Side, Tick, Trade};

const NS_PER_MS: i64 = 1_000_000;
/// Diffs of a symbol that wait for its snapshot; the oldest are dropped, and counted, beyond that.
const WAITING_MAX: usize = 4_096;
/// Symbols of one file.
const SYMBOLS_MAX: usize = 10_000;

/// Reads one file.
#[derive(Debug)]
pub(crate) struct Binance {
    lines: Lines,
    decoder: Decoder,
}

impl Binance {
    pub(crate) fn new(lines: Lines, options: &Options) -> Self {
        Self { lines, decoder: Decoder::new(true, options.symbol.clone()) }
    }
}

impl Decode for Binance {
    fn read(&mut self, ticks: &mut Vec<Tick<'static>>) -> Result<Option<Stamp>, ReplayError> {
        if !self.lines.advance()? {
            self.decoder.finish();
            return Ok(None);
        }
        let parsed = std::str::from_utf8(self.lines.line()).ok().and_then(|line| line.split_once(' '));
        let Some((Ok(time_ns), json)) = parsed.map(|(time, json)| (time.parse::<i64>(), json)) else {
            return Err(self.lines.expected("<capture time in ns> <JSON>"));
        };
        self.decoder.decode(json, ticks).map_err(|expected| self.lines.expected(expected))?;
        Ok(Some(Stamp { time_ns }))
    }

    fn skipped(&self) -> &Skipped {
        &self.decoder.skipped
    }
}

/// Turns the exchange's JSON into ticks, whatever it came in.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// Whether the capture holds REST snapshots that diffs have to wait for.
    snapshots: bool,
    /// The symbol of snapshots, where it cannot be told from the streams around them.
    symbol: Option<String>,
    books: FxHashMap<String, BookState>,
    pub(crate) skipped: Skipped,
}

#[derive(Debug, Default)]
struct BookState {
    /// Update id of the snapshot.
    snapshot: Option<u64>,
    /// Update id of the newest diff.
    newest: Option<u64>,
    waiting: VecDeque<(u64, Tick<'static>)>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    data: Option<Event<'a>>,
    #[serde(rename = "lastUpdateId")]
    last_update_id: Option<u64>,
    #[serde(rename = "E")]
    event_ms: Option<i64>,
    #[serde(rename = "T")]
    transaction_ms: Option<i64>,
    bids: Option<Vec<Level>>,
    asks: Option<Vec<Level>>,
}

#[derive(Deserialize)]
struct Event<'a> {
    e: &'a str,
    #[serde(rename = "E")]
    event_ms: i64,
    #[serde(rename = "T")]
    transaction_ms: Option<i64>,
    s: &'a str,
    #[serde(rename = "u")]
    last_id: Option<u64>,
    #[serde(rename = "pu")]
    previous_id: Option<u64>,
    #[serde(rename = "t")]
    trade_id: Option<u64>,
    #[serde(rename = "p")]
    price: Option<Decimal>,
    #[serde(rename = "q")]
    size: Option<Decimal>,
    #[serde(rename = "m")]
    buyer_is_maker: Option<bool>,
    #[serde(rename = "X")]
    kind: Option<&'a str>,
    // These hold a price, a size, a list of levels or an id, depending on `e`.
    #[serde(borrow, rename = "b")]
    b: Option<&'a RawValue>,
    #[serde(borrow, rename = "a")]
    a: Option<&'a RawValue>,
    #[serde(borrow, rename = "B")]
    bid_size: Option<&'a RawValue>,
    #[serde(borrow, rename = "A")]
    ask_size: Option<&'a RawValue>,
}

impl Decoder {
    pub(crate) fn new(snapshots: bool, symbol: Option<String>) -> Self {
        Self { snapshots, symbol, books: FxHashMap::default(), skipped: Skipped::default() }
    }

    /// Appends the ticks of one message; the error says what was expected.
    pub(crate) fn decode(&mut self, json: &str, ticks: &mut Vec<Tick<'static>>) -> Result<(), String> {
        let line: Line<'_> =
            serde_json::from_str(json).map_err(|error| format!("a message of a Binance stream: {error}"))?;
        match line {
            Line { data: Some(event), .. } => self.event(&event, ticks),
            Line { last_update_id: Some(id), bids: Some(bids), asks: Some(asks), .. } => {
                let event_ns = line.transaction_ms.or(line.event_ms).map(|ms| ms.saturating_mul(NS_PER_MS));
                self.snapshot(id, Book { bids, asks, snapshot: true }, event_ns, ticks)
            }
            _ => Err("`data` of a stream, or a snapshot with lastUpdateId, bids and asks".to_owned()),
        }
    }

    /// What still waits at the end of the file never gets a snapshot.
    pub(crate) fn finish(&mut self) {
        for book in self.books.values_mut() {
            for _ in book.waiting.drain(..) {
                self.skipped.add("depth diff without a snapshot");
            }
        }
    }

    fn event(&mut self, event: &Event<'_>, ticks: &mut Vec<Tick<'static>>) -> Result<(), String> {
        let missing = |what: &str| format!("{} with {what}", event.e);
        let body = match event.e {
            "bookTicker" => {
                let field = |raw: Option<&RawValue>, name| value(raw).ok_or_else(|| missing(name));
                Body::Quote(Quote {
                    bid_price: field(event.b, "a price in b")?,
                    bid_size: field(event.bid_size, "a size in B")?,
                    ask_price: field(event.a, "a price in a")?,
                    ask_size: field(event.ask_size, "a size in A")?,
                    venue: None,
                })
            }
            "trade" | "aggTrade" => Body::Trade(Trade {
                price: event.price.ok_or_else(|| missing("a price in p"))?,
                size: event.size.ok_or_else(|| missing("a size in q"))?,
                side: event.buyer_is_maker.map(|maker| if maker { Side::Sell } else { Side::Buy }),
                trade_id: event
                    .trade_id
                    .or_else(|| value::<u64>(event.a))
                    .map(|id| Cow::Owned(id.to_string())),
                venue: None,
                conditions: event
                    .kind
                    .filter(|kind| *kind != "MARKET")
                    .map(|kind| Cow::Owned(kind.to_owned())),
            }),
            "depthUpdate" => Body::Book(Book {
                bids: value(event.b).ok_or_else(|| missing("levels in b"))?,
                asks: value(event.a).ok_or_else(|| missing("levels in a"))?,
                snapshot: false,
            }),
            "kline" => return self.skipped.skip("kline"),
            _ => return self.skipped.skip("other stream"),
        };
        if !tickgate_protocol::is_symbol(event.s) {
            return Err("a symbol in s".to_owned());
        }
        let event_ns = event.transaction_ms.unwrap_or(event.event_ms).saturating_mul(NS_PER_MS);
        let tick =
            Tick { symbol: Cow::Owned(event.s.to_owned()), event_ns: Some(event_ns), send_ns: None, body };
        if matches!(tick.body, Body::Book(_)) {
            let id = event.last_id.ok_or_else(|| missing("an update id in u"))?;
            self.diff(id, event.previous_id, tick, ticks)?;
        } else {
            if self.snapshots {
                // Only to know which symbol a snapshot is of.
                self.book(event.s)?;
            }
            ticks.push(tick);
        }
        Ok(())
    }

    fn book(&mut self, symbol: &str) -> Result<&mut BookState, String> {
        if !self.books.contains_key(symbol) {
            if self.books.len() >= SYMBOLS_MAX {
                return Err(format!("at most {SYMBOLS_MAX} symbols in one file"));
            }
            self.books.insert(symbol.to_owned(), BookState::default());
        }
        Ok(self.books.get_mut(symbol).expect("it was just inserted"))
    }

    fn diff(
        &mut self,
        id: u64,
        previous: Option<u64>,
        tick: Tick<'static>,
        ticks: &mut Vec<Tick<'static>>,
    ) -> Result<(), String> {
        let snapshots = self.snapshots;
        let book = self.book(&tick.symbol)?;
        let gap = matches!((book.newest, previous), (Some(newest), Some(previous)) if newest != previous);
        book.newest = Some(id);
        let mut skipped = None;
        match book.snapshot {
            Some(snapshot) if id < snapshot => skipped = Some("depth diff older than the snapshot"),
            None if snapshots => {
                if book.waiting.len() == WAITING_MAX {
                    book.waiting.pop_front();
                    skipped = Some("depth diff without a snapshot");
                }
                book.waiting.push_back((id, tick));
            }
            _ => ticks.push(tick),
        }
        if gap {
            self.skipped.add("gap before a depth diff (the recording lost messages)");
        }
        if let Some(reason) = skipped {
            self.skipped.add(reason);
        }
        Ok(())
    }

    fn snapshot(
        &mut self,
        id: u64,
        book: Book,
        event_ns: Option<i64>,
        ticks: &mut Vec<Tick<'static>>,
    ) -> Result<(), String> {
        let mut seen = self.books.keys();
        let symbol = match (&self.symbol, seen.next(), seen.next()) {
            (Some(symbol), ..) => symbol.clone(),
            (None, Some(only), None) => only.clone(),
            _ => {
                return Err(
                    "one symbol before a snapshot (which does not name its own), or --symbol".to_owned()
                );
            }
        };
        let tick = |body| Tick { symbol: Cow::Owned(symbol.clone()), event_ns, send_ns: None, body };
        ticks.push(tick(Body::Book(book)));
        let state = self.book(&symbol)?;
        state.snapshot = Some(id);
        let mut stale = 0;
        for (last_id, diff) in std::mem::take(&mut state.waiting) {
            if last_id < id { stale += 1 } else { ticks.push(diff) }
        }
        for _ in 0..stale {
            self.skipped.add("depth diff older than the snapshot");
        }
        Ok(())
    }
}

fn value<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}
