//! Reading events, for clients.

use super::{GapCause, Tail};
use crate::record::{Level, Side, TradingState};
use crate::{Channel, Decimal, Position};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;

/// Any event of a data frame as a client reads it; fields that its `type` does not have are `None`.
///
/// A data frame parses as `Vec<EventView>`.
#[derive(Debug, Clone, Deserialize)]
#[allow(missing_docs)]
pub struct EventView<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Cow<'a, str>,
    #[serde(borrow)]
    pub symbol: Cow<'a, str>,
    #[serde(default)]
    pub seq: Option<Position>,
    #[serde(default)]
    pub prev: Option<Position>,
    #[serde(default, deserialize_with = "nanoseconds")]
    pub event_ns: Option<i64>,
    #[serde(default, deserialize_with = "nanoseconds")]
    pub ingest_ns: Option<i64>,
    #[serde(default, deserialize_with = "nanoseconds")]
    pub send_ns: Option<i64>,
    #[serde(default)]
    pub price: Option<Decimal>,
    #[serde(default)]
    pub size: Option<Decimal>,
    #[serde(default)]
    pub side: Option<Side>,
    #[serde(default, borrow)]
    pub trade_id: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    pub venue: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    pub conditions: Option<Cow<'a, str>>,
    #[serde(default)]
    pub bid_price: Option<Decimal>,
    #[serde(default)]
    pub bid_size: Option<Decimal>,
    #[serde(default)]
    pub ask_price: Option<Decimal>,
    #[serde(default)]
    pub ask_size: Option<Decimal>,
    #[serde(default)]
    pub bids: Option<Vec<Level>>,
    #[serde(default)]
    pub asks: Option<Vec<Level>>,
    #[serde(default)]
    pub state: Option<TradingState>,
    #[serde(default, borrow)]
    pub reason: Option<Cow<'a, str>>,
    #[serde(default)]
    pub channel: Option<Channel>,
    #[serde(default)]
    pub after: Option<Position>,
    #[serde(default)]
    pub upto: Option<Position>,
    #[serde(default)]
    pub count: Option<u64>,
    #[serde(default)]
    pub cause: Option<GapCause>,
    #[serde(default)]
    pub merged: Option<u32>,
    #[serde(default)]
    pub snapshot: bool,
    #[serde(default)]
    pub replay: bool,
}

impl EventView<'_> {
    /// The channel that the event, or the gap, belongs to.
    pub fn channel(&self) -> Option<Channel> {
        if self.is_gap() { self.channel } else { Channel::of_event_type(&self.kind) }
    }

    /// Whether this is a `gap`, not a data event.
    pub fn is_gap(&self) -> bool {
        self.kind == "gap"
    }

    /// The fields that may differ from client to client.
    pub fn tail(&self) -> Tail {
        Tail {
            prev: self.prev,
            merged: self.merged.unwrap_or(1),
            snapshot: self.snapshot,
            replay: self.replay,
        }
    }
}

fn nanoseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let text = Option::<Cow<'de, str>>::deserialize(deserializer)?;
    text.map(|t| t.parse().map_err(serde::de::Error::custom)).transpose()
}
