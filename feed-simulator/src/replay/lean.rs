//! LEAN's tick files: one CSV in a zip, named after its date, in a folder named after its symbol.
//!
//! - equity trades: `time_ms, price × 10,000, size, exchange, sale conditions (hex), suspicious`;
//! - equity quotes: a row for the bid (ask = 0), then a row for the ask (bid = 0) at the same time, are **one** update of the best
//!   bid and offer. `venue` is the exchange that holds both, or `bid/ask` when two do. Half a pair is skipped and counted;
//! - FX quotes: `time_ms, bid, ask`. There are no sizes in these files: `bid_size` and `ask_size` are "0".
//!
//! Equity times are milliseconds after midnight in New York, FX times after midnight of the venue's clock: FXCM's is UTC-05:00,
//! OANDA's is UTC.

use super::lines::Lines;
use super::new_york::{Date, utc_offset_s};
use super::{Decode, Options, ReplayError, Skipped, Stamp};
use std::borrow::Cow;
use std::path::Path;
use tickgate_protocol::Decimal;
use tickgate_protocol::record::{Body, Quote, Tick, Trade};

const PRICE_SCALE: u8 = 4;
const NS_PER_MS: i64 = 1_000_000;
const NS_PER_S: i64 = 1_000_000_000;
const DAY_MS: u64 = 86_400_000;
const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// Which of the three files it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Trade,
    Quote,
    Fx,
}

impl Kind {
    /// Guesses from the file's name and its first line.
    pub(crate) fn guess(path: &Path, first: &[u8]) -> Option<Self> {
        let columns = first.split(|byte| *byte == b',').count();
        let name = path.file_name()?.to_string_lossy().to_lowercase();
        match columns {
            3 => Some(Self::Fx),
            6 if !name.contains("quote") => Some(Self::Trade),
            8 if !name.contains("trade") => Some(Self::Quote),
            _ => None,
        }
    }

    const fn row(self) -> &'static str {
        match self {
            Self::Trade => "time_ms,price,size,exchange,conditions,suspicious",
            Self::Quote => "time_ms,bid_price,bid_size,ask_price,ask_size,exchange,condition,suspicious",
            Self::Fx => "time_ms,bid,ask",
        }
    }
}

/// Reads one file.
#[derive(Debug)]
pub(crate) struct Lean {
    lines: Lines,
    kind: Kind,
    symbol: String,
    venue: Option<String>,
    date: Date,
    /// Distance from UTC in seconds; New York's depends on the time, too.
    utc_offset_s: Option<i64>,
    bid: Option<Half>,
    skipped: Skipped,
}

#[derive(Debug, Clone, Copy)]
struct Half {
    time_ms: u64,
    price: i64,
    size: i64,
    exchange: u8,
}

impl Lean {
    pub(crate) fn new(lines: Lines, kind: Kind, options: &Options) -> Result<Self, ReplayError> {
        let path = lines.path();
        let named =
            |expected: &str| ReplayError::Name { path: path.to_owned(), expected: expected.to_owned() };
        let folder = |up: usize| {
            path.ancestors().nth(up).and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned())
        };
        let date = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| Date::parse(name.get(..8)?))
            .ok_or_else(|| named("a name that starts with the date, such as 20131007_trade.zip"))?;
        let symbol = options
            .symbol
            .clone()
            .or_else(|| folder(1).map(|name| name.to_uppercase()))
            .filter(|symbol| tickgate_protocol::is_symbol(symbol))
            .ok_or_else(|| named("a folder named after the symbol, or --symbol"))?;
        let venue = folder(2).map(|name| name.to_lowercase());
        let utc_offset_s = match (kind, options.utc_offset_s, venue.as_deref()) {
            (Kind::Trade | Kind::Quote, ..) => None,
            (Kind::Fx, Some(offset_s), _) => Some(offset_s),
            (Kind::Fx, None, Some("fxcm")) => Some(-5 * 3_600),
            (Kind::Fx, None, Some("oanda")) => Some(0),
            _ => return Err(named("a folder fxcm or oanda above the symbol's, or --utc-offset")),
        };
        let known = matches!(venue.as_deref(), Some("fxcm" | "oanda"));
        Ok(Self {
            kind,
            symbol,
            venue: venue.filter(|_| kind == Kind::Fx && known).map(|name| name.to_uppercase()),
            date,
            utc_offset_s,
            bid: None,
            skipped: Skipped::default(),
            lines,
        })
    }

    fn time_ns(&self, time_ms: u64) -> i64 {
        let offset_s = self.utc_offset_s.unwrap_or_else(|| utc_offset_s(self.date, time_ms));
        (self.date.days() * 86_400 - offset_s) * NS_PER_S + time_ms as i64 * NS_PER_MS
    }

    fn tick(&self, time_ns: i64, body: Body<'static>) -> Tick<'static> {
        Tick { symbol: Cow::Owned(self.symbol.clone()), event_ns: Some(time_ns), send_ns: None, body }
    }

    fn row(&self) -> Option<Row<'_>> {
        let mut fields = self.lines.line().split(|byte| *byte == b',');
        let time_ms = number(fields.next()?)?;
        let row = match self.kind {
            Kind::Trade => Row::Trade {
                time_ms,
                price: integer(fields.next()?)?,
                size: integer(fields.next()?)?,
                exchange: letter(fields.next()?)?,
                conditions: text(fields.next()?)?,
                suspicious: flag(fields.next()?)?,
            },
            Kind::Quote => {
                let bid = (integer(fields.next()?)?, integer(fields.next()?)?);
                let ask = (integer(fields.next()?)?, integer(fields.next()?)?);
                let exchange = letter(fields.next()?)?;
                // Condition and suspicion of a quote have no place in a record.
                let (_condition, _suspicious) = (text(fields.next()?)?, flag(fields.next()?)?);
                Row::Quote { time_ms, bid, ask, exchange }
            }
            Kind::Fx => Row::Fx { time_ms, bid: decimal(fields.next()?)?, ask: decimal(fields.next()?)? },
        };
        (fields.next().is_none() && time_ms <= DAY_MS).then_some(row)
    }
}

enum Row<'a> {
    Trade { time_ms: u64, price: i64, size: i64, exchange: u8, conditions: &'a str, suspicious: bool },
    Quote { time_ms: u64, bid: (i64, i64), ask: (i64, i64), exchange: u8 },
    Fx { time_ms: u64, bid: Decimal, ask: Decimal },
}

impl Decode for Lean {
    fn read(&mut self, ticks: &mut Vec<Tick<'static>>) -> Result<Option<Stamp>, ReplayError> {
        if !self.lines.advance()? {
            if self.bid.take().is_some() {
                self.skipped.add("half a quote pair");
            }
            return Ok(None);
        }
        let Some(row) = self.row() else {
            return Err(self.lines.expected(self.kind.row()));
        };
        let time_ms = match row {
            Row::Trade { time_ms, price, size, exchange, conditions, suspicious } => {
                let conditions = match (conditions, suspicious) {
                    ("0" | "", false) => None,
                    (hex, false) => Some(Cow::Owned(hex.to_owned())),
                    (hex, true) => Some(Cow::Owned(format!("{hex},suspicious"))),
                };
                let body = Body::Trade(Trade {
                    price: dollars(price),
                    size: units(size),
                    side: None,
                    trade_id: None,
                    venue: venue(exchange, exchange),
                    conditions,
                });
                ticks.push(self.tick(self.time_ns(time_ms), body));
                time_ms
            }
            Row::Quote { time_ms, bid, ask: (0, _), exchange } => {
                let half = Half { time_ms, price: bid.0, size: bid.1, exchange };
                if self.bid.replace(half).is_some() {
                    self.skipped.add("half a quote pair");
                }
                time_ms
            }
            Row::Quote { time_ms, bid: (0, _), ask, exchange } => {
                match self.bid.take() {
                    Some(bid) if bid.time_ms == time_ms => {
                        let body = Body::Quote(Quote {
                            bid_price: dollars(bid.price),
                            bid_size: units(bid.size),
                            ask_price: dollars(ask.0),
                            ask_size: units(ask.1),
                            venue: venue(bid.exchange, exchange),
                        });
                        ticks.push(self.tick(self.time_ns(time_ms), body));
                    }
                    held => {
                        held.iter().for_each(|_| self.skipped.add("half a quote pair"));
                        self.skipped.add("half a quote pair");
                    }
                }
                time_ms
            }
            Row::Quote { .. } => {
                return Err(self.lines.expected("a quote row with either bid or ask at 0"));
            }
            Row::Fx { time_ms, bid, ask } => {
                let body = Body::Quote(Quote {
                    bid_price: bid,
                    bid_size: Decimal::ZERO,
                    ask_price: ask,
                    ask_size: Decimal::ZERO,
                    venue: self.venue.clone().map(Cow::Owned),
                });
                ticks.push(self.tick(self.time_ns(time_ms), body));
                time_ms
            }
        };
        Ok(Some(Stamp { time_ns: self.time_ns(time_ms) }))
    }

    fn skipped(&self) -> &Skipped {
        &self.skipped
    }
}

fn text(field: &[u8]) -> Option<&str> {
    std::str::from_utf8(field).ok().filter(|text| text.len() <= 32)
}

fn number(field: &[u8]) -> Option<u64> {
    text(field)?.parse().ok()
}

fn integer(field: &[u8]) -> Option<i64> {
    text(field)?.parse().ok().filter(|n| *n >= 0)
}

fn decimal(field: &[u8]) -> Option<Decimal> {
    Decimal::parse(text(field)?).ok()
}

fn flag(field: &[u8]) -> Option<bool> {
    match field {
        b"0" => Some(false),
        b"1" => Some(true),
        _ => None,
    }
}

/// An exchange: a capital letter, or nothing.
fn letter(field: &[u8]) -> Option<u8> {
    match field {
        [] => Some(0),
        [letter @ b'A'..=b'Z'] => Some(*letter),
        _ => None,
    }
}

fn dollars(price: i64) -> Decimal {
    Decimal::new(price, PRICE_SCALE).expect("scale 4")
}

fn units(size: i64) -> Decimal {
    Decimal::new(size, 0).expect("scale 0")
}

fn venue(bid: u8, ask: u8) -> Option<Cow<'static, str>> {
    let name = |letter: u8| {
        let at = usize::from(letter.checked_sub(b'A')?);
        LETTERS.get(at..=at)
    };
    match (name(bid), name(ask)) {
        (Some(bid), Some(ask)) if bid != ask => Some(Cow::Owned(format!("{bid}/{ask}"))),
        (Some(name), _) | (None, Some(name)) => Some(Cow::Borrowed(name)),
        (None, None) => None,
    }
}
