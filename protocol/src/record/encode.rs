//! Encoding ticks as record values, for producers.

use super::{Body, Level, Side, Tick};
use crate::Decimal;
use crate::event::json::{write_decimal, write_number, write_string};

impl Tick<'_> {
    /// The tick as the JSON object of a Kafka record.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(192);
        self.write_json(&mut out);
        out
    }

    /// Appends the tick as the JSON object of a Kafka record.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(self.body.channel().event_type().as_bytes());
        out.extend_from_slice(b"\",\"symbol\":");
        write_string(out, &self.symbol);
        match &self.body {
            Body::Trade(trade) => {
                decimal(out, ",\"price\":", trade.price);
                decimal(out, ",\"size\":", trade.size);
                match trade.side {
                    Some(Side::Buy) => out.extend_from_slice(b",\"side\":\"buy\""),
                    Some(Side::Sell) => out.extend_from_slice(b",\"side\":\"sell\""),
                    None => {}
                }
                text(out, ",\"trade_id\":", trade.trade_id.as_deref());
                text(out, ",\"venue\":", trade.venue.as_deref());
                text(out, ",\"conditions\":", trade.conditions.as_deref());
            }
            Body::Quote(quote) => {
                decimal(out, ",\"bid_price\":", quote.bid_price);
                decimal(out, ",\"bid_size\":", quote.bid_size);
                decimal(out, ",\"ask_price\":", quote.ask_price);
                decimal(out, ",\"ask_size\":", quote.ask_size);
                text(out, ",\"venue\":", quote.venue.as_deref());
            }
            Body::Book(book) => {
                out.extend_from_slice(b",\"bids\":");
                write_levels(out, book.bids.iter().copied());
                out.extend_from_slice(b",\"asks\":");
                write_levels(out, book.asks.iter().copied());
                if book.snapshot {
                    out.extend_from_slice(b",\"snapshot\":true");
                }
            }
            Body::Status(status) => {
                text(out, ",\"state\":", Some(status.state.name()));
                text(out, ",\"reason\":", status.reason.as_deref());
            }
        }
        for (name, value) in [(",\"event_ns\":", self.event_ns), (",\"send_ns\":", self.send_ns)] {
            if let Some(ns) = value {
                out.extend_from_slice(name.as_bytes());
                write_number(out, ns);
            }
        }
        out.push(b'}');
    }
}

fn decimal(out: &mut Vec<u8>, name: &str, value: Decimal) {
    out.extend_from_slice(name.as_bytes());
    write_decimal(out, value);
}

fn text(out: &mut Vec<u8>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        out.extend_from_slice(name.as_bytes());
        write_string(out, value);
    }
}

/// Appends `[["price","size"],…]`.
pub(crate) fn write_levels(out: &mut Vec<u8>, levels: impl Iterator<Item = Level>) {
    out.push(b'[');
    for (i, (price, size)) in levels.enumerate() {
        out.extend_from_slice(if i == 0 { b"[" } else { b",[" });
        write_decimal(out, price);
        out.push(b',');
        write_decimal(out, size);
        out.push(b']');
    }
    out.push(b']');
}
