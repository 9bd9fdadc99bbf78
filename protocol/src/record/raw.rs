//! The JSON of a record before it is checked: every field optional, so that each fault gets its own reason.

use super::{Body, Book, Level, Quote, RecordError, Side, Status, TEXT_BYTES_MAX, Tick, Trade, TradingState};
use crate::Decimal;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

#[derive(Deserialize)]
pub(super) struct RawTick<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Scalar<'a>>,
    #[serde(borrow)]
    symbol: Option<Scalar<'a>>,
    #[serde(borrow)]
    event_ns: Option<Scalar<'a>>,
    #[serde(borrow)]
    send_ns: Option<Scalar<'a>>,
    #[serde(borrow)]
    price: Option<Scalar<'a>>,
    #[serde(borrow)]
    size: Option<Scalar<'a>>,
    #[serde(borrow)]
    side: Option<Scalar<'a>>,
    #[serde(borrow)]
    trade_id: Option<Scalar<'a>>,
    #[serde(borrow)]
    venue: Option<Scalar<'a>>,
    #[serde(borrow)]
    conditions: Option<Scalar<'a>>,
    #[serde(borrow)]
    bid_price: Option<Scalar<'a>>,
    #[serde(borrow)]
    bid_size: Option<Scalar<'a>>,
    #[serde(borrow)]
    ask_price: Option<Scalar<'a>>,
    #[serde(borrow)]
    ask_size: Option<Scalar<'a>>,
    bids: Option<RawLevels>,
    asks: Option<RawLevels>,
    #[serde(borrow)]
    snapshot: Option<Scalar<'a>>,
    #[serde(borrow)]
    state: Option<Scalar<'a>>,
    #[serde(borrow)]
    reason: Option<Scalar<'a>>,
}

impl<'a> RawTick<'a> {
    pub(super) fn check(self) -> Result<Tick<'a>, RecordError> {
        let kind = self.kind.ok_or(RecordError::MissingField("type"))?;
        let symbol = match self.symbol.ok_or(RecordError::MissingField("symbol"))? {
            Scalar::Text(text) if crate::is_symbol(&text) => text,
            _ => return Err(RecordError::BadSymbol),
        };
        let Scalar::Text(kind) = kind else { return Err(RecordError::UnknownType) };
        let body = match kind.as_ref() {
            "trade" => Body::Trade(Trade {
                price: number("price", self.price)?,
                size: number("size", self.size)?,
                side: match text("side", self.side)?.as_deref() {
                    None => None,
                    Some("buy") => Some(Side::Buy),
                    Some("sell") => Some(Side::Sell),
                    Some(_) => return Err(RecordError::BadValue("side")),
                },
                trade_id: text("trade_id", self.trade_id)?,
                venue: text("venue", self.venue)?,
                conditions: text("conditions", self.conditions)?,
            }),
            "quote" => Body::Quote(Quote {
                bid_price: number("bid_price", self.bid_price)?,
                bid_size: number("bid_size", self.bid_size)?,
                ask_price: number("ask_price", self.ask_price)?,
                ask_size: number("ask_size", self.ask_size)?,
                venue: text("venue", self.venue)?,
            }),
            "book" => Body::Book(Book {
                bids: levels("bids", self.bids)?,
                asks: levels("asks", self.asks)?,
                snapshot: match self.snapshot {
                    None | Some(Scalar::Null | Scalar::Bool(false)) => false,
                    Some(Scalar::Bool(true)) => true,
                    Some(_) => return Err(RecordError::BadValue("snapshot")),
                },
            }),
            "status" => Body::Status(Status {
                state: match text("state", self.state)?.ok_or(RecordError::MissingField("state"))?.as_ref() {
                    "halted" => TradingState::Halted,
                    "trading" => TradingState::Trading,
                    "auction" => TradingState::Auction,
                    "closed" => TradingState::Closed,
                    _ => return Err(RecordError::BadValue("state")),
                },
                reason: text("reason", self.reason)?,
            }),
            _ => return Err(RecordError::UnknownType),
        };
        Ok(Tick {
            symbol,
            event_ns: time("event_ns", self.event_ns)?,
            send_ns: time("send_ns", self.send_ns)?,
            body,
        })
    }
}

fn number(field: &'static str, value: Option<Scalar<'_>>) -> Result<Decimal, RecordError> {
    match value {
        None | Some(Scalar::Null) => Err(RecordError::MissingField(field)),
        Some(value) => value.decimal().ok_or(RecordError::BadNumber(field)),
    }
}

fn text<'a>(field: &'static str, value: Option<Scalar<'a>>) -> Result<Option<Cow<'a, str>>, RecordError> {
    match value {
        None | Some(Scalar::Null) => Ok(None),
        Some(Scalar::Text(text)) if text.len() <= TEXT_BYTES_MAX => Ok(Some(text)),
        Some(Scalar::Int(number)) => Ok(Some(Cow::Owned(number.to_string()))),
        Some(_) => Err(RecordError::BadValue(field)),
    }
}

fn time(field: &'static str, value: Option<Scalar<'_>>) -> Result<Option<i64>, RecordError> {
    let ns = match value {
        None | Some(Scalar::Null) => return Ok(None),
        Some(Scalar::Int(ns)) => Some(ns),
        Some(Scalar::Text(text)) => text.parse().ok(),
        Some(_) => None,
    };
    ns.filter(|ns| *ns >= 0).map(Some).ok_or(RecordError::BadTime(field))
}

fn levels(field: &'static str, value: Option<RawLevels>) -> Result<Vec<Level>, RecordError> {
    match value {
        None => Err(RecordError::MissingField(field)),
        Some(RawLevels(None)) => Err(RecordError::BadNumber(field)),
        Some(RawLevels(Some(levels))) => Ok(levels),
    }
}

/// Any JSON value; only what a field may be is kept.
enum Scalar<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'a, str>),
    Other,
}

impl Scalar<'_> {
    fn decimal(&self) -> Option<Decimal> {
        match self {
            Self::Text(text) => Decimal::parse(text).ok(),
            Self::Int(value) => Decimal::new(*value, 0),
            Self::Float(value) => Decimal::from_f64(*value).ok(),
            _ => None,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsScalar;
        impl<'de> Visitor<'de> for AsScalar {
            type Value = Scalar<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
                Ok(Scalar::Int(value))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
                Ok(i64::try_from(value).map_or(Scalar::Other, Scalar::Int))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
                Ok(Scalar::Float(value))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
                Ok(Scalar::Bool(value))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Scalar::Null)
            }
            fn visit_none<E>(self) -> Result<Self::Value, E> {
                Ok(Scalar::Null)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
        }
        deserializer.deserialize_any(AsScalar)
    }
}

/// `[[price, size], …]`; `None` when an element is anything else.
struct RawLevels(Option<Vec<Level>>);

impl<'de> Deserialize<'de> for RawLevels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsLevels;
        impl<'de> Visitor<'de> for AsLevels {
            type Value = RawLevels;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of [price, size]")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawLevels, A::Error> {
                let mut levels = Some(Vec::with_capacity(seq.size_hint().unwrap_or(0).min(16_384)));
                while let Some(RawLevel(level)) = seq.next_element()? {
                    levels = match (levels, level) {
                        (Some(mut all), Some(level)) => {
                            all.push(level);
                            Some(all)
                        }
                        _ => None,
                    };
                }
                Ok(RawLevels(levels))
            }
        }
        deserializer.deserialize_seq(AsLevels)
    }
}

struct RawLevel(Option<Level>);

impl<'de> Deserialize<'de> for RawLevel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsLevel;
        impl<'de> Visitor<'de> for AsLevel {
            type Value = RawLevel;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[price, size]")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawLevel, A::Error> {
                let price = seq.next_element::<Scalar<'de>>()?.and_then(|s| s.decimal());
                let size = seq.next_element::<Scalar<'de>>()?.and_then(|s| s.decimal());
                let mut exact = true;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    exact = false;
                }
                // A negative size is no size; a negative price is one (spreads, and oil once).
                let size = size.filter(|s| *s >= Decimal::ZERO);
                Ok(RawLevel(price.zip(size).filter(|_| exact)))
            }
        }
        deserializer.deserialize_seq(AsLevel)
    }
}
