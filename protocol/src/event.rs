//! Data events: what a subscribed client gets in the array of a data frame.
//!
//! An event is encoded once for everybody as a *head* without its closing brace. Fields that can differ from client
//! to client (`prev`, `merged`, `snapshot`, `replay`) stand last, in the [`Tail`], so that the shared bytes are a
//! prefix and only a short tail is ever written per client.

pub mod json;
mod view;

pub use view::EventView;

use crate::record::{Body, Side};
use crate::{Channel, Position};
use json::{write_decimal, write_number, write_string};
use serde::{Deserialize, Serialize};

/// The fields beside the body that every event of a record has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Where the record stands in Kafka: the event's `seq`.
    pub position: Position,
    /// Venue clock, nanoseconds since the Unix epoch.
    pub event_ns: i64,
    /// Gateway clock when the record arrived, nanoseconds since the Unix epoch.
    pub ingest_ns: i64,
    /// When the producer meant to send it, nanoseconds since the Unix epoch.
    pub send_ns: Option<i64>,
}

/// The last fields of an event, which may differ from client to client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tail {
    /// `seq` of the event before it on the same channel and symbol, as this client saw it.
    pub prev: Option<Position>,
    /// How many updates the event stands for; written when more than one.
    pub merged: u32,
    /// State sent because of a subscribe or a resynchronisation.
    pub snapshot: bool,
    /// Sent because of `from`.
    pub replay: bool,
}

impl Tail {
    /// Most bytes that a tail takes.
    pub const BYTES_MAX: usize = 128;

    /// Appends the tail and the event's closing brace.
    pub fn write(&self, out: &mut Vec<u8>) {
        if let Some(prev) = self.prev {
            out.extend_from_slice(b",\"prev\":\"");
            prev.write(out);
            out.push(b'"');
        }
        if self.merged > 1 {
            out.extend_from_slice(b",\"merged\":");
            out.extend_from_slice(itoa::Buffer::new().format(self.merged).as_bytes());
        }
        if self.snapshot {
            out.extend_from_slice(b",\"snapshot\":true");
        }
        if self.replay {
            out.extend_from_slice(b",\"replay\":true");
        }
        out.push(b'}');
    }
}

/// Appends the head of an event: everything but the [`Tail`]. `symbol_json` is the symbol as a JSON string, quotes
/// included, made once per symbol by [`json::string`].
pub fn write_head(out: &mut Vec<u8>, symbol_json: &[u8], body: &Body<'_>, meta: &Meta) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(body.channel().event_type().as_bytes());
    out.extend_from_slice(b"\",\"symbol\":");
    out.extend_from_slice(symbol_json);
    match body {
        Body::Trade(trade) => {
            out.extend_from_slice(b",\"price\":");
            write_decimal(out, trade.price);
            out.extend_from_slice(b",\"size\":");
            write_decimal(out, trade.size);
            match trade.side {
                Some(Side::Buy) => out.extend_from_slice(b",\"side\":\"buy\""),
                Some(Side::Sell) => out.extend_from_slice(b",\"side\":\"sell\""),
                None => {}
            }
            optional(out, ",\"trade_id\":", trade.trade_id.as_deref());
            optional(out, ",\"venue\":", trade.venue.as_deref());
            optional(out, ",\"conditions\":", trade.conditions.as_deref());
        }
        Body::Quote(quote) => {
            out.extend_from_slice(b",\"bid_price\":");
            write_decimal(out, quote.bid_price);
            out.extend_from_slice(b",\"bid_size\":");
            write_decimal(out, quote.bid_size);
            out.extend_from_slice(b",\"ask_price\":");
            write_decimal(out, quote.ask_price);
            out.extend_from_slice(b",\"ask_size\":");
            write_decimal(out, quote.ask_size);
            optional(out, ",\"venue\":", quote.venue.as_deref());
        }
        Body::Book(book) => {
            out.extend_from_slice(b",\"bids\":");
            json::write_levels(out, book.bids.iter().copied());
            out.extend_from_slice(b",\"asks\":");
            json::write_levels(out, book.asks.iter().copied());
        }
        Body::Status(status) => {
            out.extend_from_slice(b",\"state\":\"");
            out.extend_from_slice(status.state.name().as_bytes());
            out.push(b'"');
            optional(out, ",\"reason\":", status.reason.as_deref());
        }
    }
    out.extend_from_slice(b",\"seq\":\"");
    meta.position.write(out);
    out.extend_from_slice(b"\",\"event_ns\":");
    write_number(out, meta.event_ns);
    out.extend_from_slice(b",\"ingest_ns\":");
    write_number(out, meta.ingest_ns);
    if let Some(ns) = meta.send_ns {
        out.extend_from_slice(b",\"send_ns\":");
        write_number(out, ns);
    }
}

fn optional(out: &mut Vec<u8>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        out.extend_from_slice(name.as_bytes());
        write_string(out, value);
    }
}

/// Why events are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapCause {
    /// This client read too slowly.
    SlowConsumer,
    /// The gateway itself was too slow.
    Overload,
    /// The loss happened before the gateway.
    Upstream,
    /// Kafka no longer has what was asked for.
    Retention,
    /// The symbol moved to another partition, so order cannot be promised across the move.
    Repartitioned,
}

impl GapCause {
    /// Every cause.
    pub const ALL: [Self; 5] =
        [Self::SlowConsumer, Self::Overload, Self::Upstream, Self::Retention, Self::Repartitioned];

    /// The name on the wire and as a metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SlowConsumer => "slow_consumer",
            Self::Overload => "overload",
            Self::Upstream => "upstream",
            Self::Retention => "retention",
            Self::Repartitioned => "repartitioned",
        }
    }
}

/// Events of one channel and symbol that this client will not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The last event sent before the gap, where known.
    pub after: Option<Position>,
    /// The last event lost, inclusive: the next event's `prev`. Unknown when nothing of the symbol was seen yet.
    pub upto: Option<Position>,
    /// How many events were lost, where known.
    pub count: Option<u64>,
    /// Why.
    pub cause: GapCause,
}

impl Gap {
    /// Appends the gap as an event.
    pub fn write(&self, out: &mut Vec<u8>, channel: Channel, symbol_json: &[u8]) {
        out.extend_from_slice(b"{\"type\":\"gap\",\"channel\":\"");
        out.extend_from_slice(channel.name().as_bytes());
        out.extend_from_slice(b"\",\"symbol\":");
        out.extend_from_slice(symbol_json);
        for (name, position) in [(",\"after\":\"", self.after), (",\"upto\":\"", self.upto)] {
            if let Some(position) = position {
                out.extend_from_slice(name.as_bytes());
                position.write(out);
                out.push(b'"');
            }
        }
        if let Some(count) = self.count {
            out.extend_from_slice(b",\"count\":");
            out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
        }
        out.extend_from_slice(b",\"cause\":\"");
        out.extend_from_slice(self.cause.name().as_bytes());
        out.extend_from_slice(b"\"}");
    }
}

#[cfg(test)]
mod tests;
