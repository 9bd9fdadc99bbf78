//! Kafka records: what producers write and the gateway reads.
//!
//! A record's value is one JSON object or an array of them, its key is the symbol. Numbers may be JSON numbers or
//! decimal strings; only strings keep their text exactly, a JSON number is a double on its way through any parser.
//!
//! One element that cannot be used never costs its neighbours in the array anything: each element is its own result.

mod encode;
pub(crate) use encode::write_levels;
mod raw;

use crate::Decimal;
use raw::RawTick;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Deepest nesting of arrays and objects that is parsed: a book record needs four levels.
pub const NESTING_MAX: usize = 32;
/// Longest venue, trade id, conditions or reason in bytes.
pub const TEXT_BYTES_MAX: usize = 64;

/// One market data update.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick<'a> {
    /// The instrument, as [`crate::is_symbol`] allows.
    pub symbol: Cow<'a, str>,
    /// Venue clock, nanoseconds since the Unix epoch; the record's Kafka timestamp stands in when it is missing.
    pub event_ns: Option<i64>,
    /// When the producer meant to send it, nanoseconds since the Unix epoch.
    pub send_ns: Option<i64>,
    /// What happened.
    pub body: Body<'a>,
}

/// What a tick says, by its `type`.
#[derive(Debug, Clone, PartialEq)]
pub enum Body<'a> {
    /// `"type":"trade"`
    Trade(Trade<'a>),
    /// `"type":"quote"`
    Quote(Quote<'a>),
    /// `"type":"book"`
    Book(Book),
    /// `"type":"status"`
    Status(Status<'a>),
}

impl Tick<'_> {
    /// The tick with texts of its own.
    pub fn into_owned(self) -> Tick<'static> {
        Tick {
            symbol: own(self.symbol),
            event_ns: self.event_ns,
            send_ns: self.send_ns,
            body: self.body.into_owned(),
        }
    }
}

fn own(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

impl Body<'_> {
    /// The body with texts of its own.
    pub fn into_owned(self) -> Body<'static> {
        match self {
            Self::Trade(trade) => Body::Trade(Trade {
                price: trade.price,
                size: trade.size,
                side: trade.side,
                trade_id: trade.trade_id.map(own),
                venue: trade.venue.map(own),
                conditions: trade.conditions.map(own),
            }),
            Self::Quote(quote) => Body::Quote(Quote { venue: quote.venue.map(own), ..quote }),
            Self::Book(book) => Body::Book(book),
            Self::Status(status) => {
                Body::Status(Status { state: status.state, reason: status.reason.map(own) })
            }
        }
    }

    /// The channel this body is sent on.
    pub fn channel(&self) -> crate::Channel {
        match self {
            Self::Trade(_) => crate::Channel::Trades,
            Self::Quote(_) => crate::Channel::Quotes,
            Self::Book(_) => crate::Channel::Book,
            Self::Status(_) => crate::Channel::Status,
        }
    }
}

/// The side of the aggressor of a trade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Side {
    Buy,
    Sell,
}

/// An execution.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Trade<'a> {
    pub price: Decimal,
    pub size: Decimal,
    pub side: Option<Side>,
    pub trade_id: Option<Cow<'a, str>>,
    pub venue: Option<Cow<'a, str>>,
    pub conditions: Option<Cow<'a, str>>,
}

/// A best bid and offer. Locked and crossed quotes are normal in real feeds and valid here.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Quote<'a> {
    pub bid_price: Decimal,
    pub bid_size: Decimal,
    pub ask_price: Decimal,
    pub ask_size: Decimal,
    pub venue: Option<Cow<'a, str>>,
}

/// A price level of a book: price, absolute size; size zero removes the level.
pub type Level = (Decimal, Decimal);

/// Changed levels of an order book, or with `snapshot` all of them.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs)]
pub struct Book {
    pub bids: Vec<Level>,
    pub asks: Vec<Level>,
    pub snapshot: bool,
}

/// What an instrument may do at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum TradingState {
    Halted,
    Trading,
    Auction,
    Closed,
}

impl TradingState {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Halted => "halted",
            Self::Trading => "trading",
            Self::Auction => "auction",
            Self::Closed => "closed",
        }
    }
}

/// Trading status of an instrument.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Status<'a> {
    pub state: TradingState,
    pub reason: Option<Cow<'a, str>>,
}

/// Why a record, or one element of it, cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum RecordError {
    #[error("record of {bytes} bytes, at most {max} are read")]
    Oversize { bytes: usize, max: usize },
    #[error("empty record")]
    Empty,
    #[error("nested deeper than {NESTING_MAX} levels")]
    TooDeep,
    #[error("not JSON of the expected shape: {0}")]
    NotJson(String),
    #[error("field `{0}` is missing")]
    MissingField(&'static str),
    #[error("`type` is not trade, quote, book or status")]
    UnknownType,
    #[error("field `{0}` is not a decimal number of at most 18 digits")]
    BadNumber(&'static str),
    #[error("field `{0}` is not a time in nanoseconds since 1970")]
    BadTime(&'static str),
    #[error("field `{0}` has no such value")]
    BadValue(&'static str),
    #[error("`symbol` is not a symbol: 1 to 64 bytes, no `*`, no control characters")]
    BadSymbol,
}

impl RecordError {
    /// Every label that [`RecordError::label`] gives.
    pub const LABELS: [&'static str; 10] = [
        "oversize",
        "empty",
        "too_deep",
        "not_json",
        "missing_field",
        "unknown_type",
        "bad_number",
        "bad_time",
        "bad_value",
        "bad_symbol",
    ];

    /// A closed set of names, for metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Oversize { .. } => "oversize",
            Self::Empty => "empty",
            Self::TooDeep => "too_deep",
            Self::NotJson(_) => "not_json",
            Self::MissingField(_) => "missing_field",
            Self::UnknownType => "unknown_type",
            Self::BadNumber(_) => "bad_number",
            Self::BadTime(_) => "bad_time",
            Self::BadValue(_) => "bad_value",
            Self::BadSymbol => "bad_symbol",
        }
    }
}

/// Decodes record values. Holds the scratch memory that makes this cheap, so keep one per thread.
pub struct RecordDecoder {
    scratch: Vec<u8>,
    buffers: simd_json::Buffers,
    record_bytes_max: usize,
}

impl std::fmt::Debug for RecordDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordDecoder").field("record_bytes_max", &self.record_bytes_max).finish()
    }
}

impl RecordDecoder {
    /// A decoder that refuses records of more than `record_bytes_max` bytes.
    pub fn new(record_bytes_max: usize) -> Self {
        Self { scratch: Vec::new(), buffers: simd_json::Buffers::default(), record_bytes_max }
    }

    /// Decodes one record value into its elements, in order.
    ///
    /// # Errors
    /// A [`RecordError`] returned means that nothing of the record could be read; one among the elements concerns that
    /// element alone.
    pub fn ticks(&mut self, value: &[u8]) -> Result<Ticks<'_>, RecordError> {
        if value.len() > self.record_bytes_max {
            return Err(RecordError::Oversize { bytes: value.len(), max: self.record_bytes_max });
        }
        let Some(first) = value.iter().find(|b| !b.is_ascii_whitespace()) else {
            return Err(RecordError::Empty);
        };
        if is_too_deep(value) {
            return Err(RecordError::TooDeep);
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(value);
        let not_json = |error: simd_json::Error| RecordError::NotJson(error.to_string());
        let mut ticks = Ticks::new();
        if *first == b'[' {
            let raws: Vec<RawTick<'_>> =
                simd_json::serde::from_slice_with_buffers(&mut self.scratch, &mut self.buffers)
                    .map_err(not_json)?;
            ticks.extend(raws.into_iter().map(RawTick::check));
        } else {
            let raw: RawTick<'_> =
                simd_json::serde::from_slice_with_buffers(&mut self.scratch, &mut self.buffers)
                    .map_err(not_json)?;
            ticks.push(raw.check());
        }
        Ok(ticks)
    }

    /// Hands every element of one record value to `sink`, in order.
    ///
    /// # Errors
    /// As [`RecordDecoder::ticks`].
    pub fn decode(
        &mut self,
        value: &[u8],
        mut sink: impl FnMut(Result<Tick<'_>, RecordError>),
    ) -> Result<(), RecordError> {
        self.ticks(value)?.into_iter().for_each(&mut sink);
        Ok(())
    }
}

/// The elements of one record: nearly always one.
pub type Ticks<'a> = smallvec::SmallVec<[Result<Tick<'a>, RecordError>; 1]>;

/// Whether brackets nest deeper than [`NESTING_MAX`]: the parser skips unknown fields by recursion, so the depth of
/// what a stranger wrote must be bounded before it runs. Short records cannot nest deep enough to matter.
fn is_too_deep(value: &[u8]) -> bool {
    if value.len() <= NESTING_MAX {
        return false;
    }
    let mut depth = 0usize;
    let mut in_string = false;
    let mut escaped = false;
    for &byte in value {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > NESTING_MAX {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests;
