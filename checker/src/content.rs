//! What a tick says, as one number: so that what a client was sent can be held against what stands in Kafka.
//!
//! Records are read with serde_json and nothing of the gateway's own decoder, which is part of what is judged. Numbers
//! are compared by their text, as the protocol promises it for decimal strings. The levels of a book are not compared:
//! what a client is sent of them depends on its depth, and the books of clients are rebuilt elsewhere.

use serde_json::Value;
use std::hash::{DefaultHasher, Hash, Hasher};
use tickgate_protocol::event::EventView;
use tickgate_protocol::record::{NESTING_MAX, Side};
use tickgate_protocol::{Channel, is_symbol};

/// Most digits of a number that the gateway reads.
const DIGITS_MAX: usize = 18;

/// A tick of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The channel it belongs to.
    pub channel: Channel,
    /// Its symbol.
    pub symbol: String,
    /// What it says; `None` for what is not compared.
    pub content: Option<u64>,
}

/// The ticks of a record: `None` in place of an element that is none, and the same for a record of which nothing can
/// be read. `append_ns` is its Kafka timestamp in nanoseconds, which stands in for a missing `event_ns`.
pub fn of_record(value: &[u8], append_ns: i64) -> Vec<Option<Said>> {
    match serde_json::from_slice::<Value>(value) {
        Ok(value) if depth(&value) > NESTING_MAX => vec![None],
        Ok(Value::Array(ticks)) => ticks.iter().map(|tick| said(tick, append_ns)).collect(),
        Ok(tick) => vec![said(&tick, append_ns)],
        Err(_) => vec![None],
    }
}

fn depth(value: &Value) -> usize {
    let of = |inner: Option<usize>| 1 + inner.unwrap_or(0);
    match value {
        Value::Array(items) => of(items.iter().map(depth).max()),
        Value::Object(fields) => of(fields.values().map(depth).max()),
        _ => 0,
    }
}

fn said(tick: &Value, append_ns: i64) -> Option<Said> {
    let channel = Channel::of_event_type(tick["type"].as_str()?)?;
    let symbol = tick["symbol"].as_str().filter(|symbol| is_symbol(symbol))?.to_owned();
    let event_ns = match &tick["event_ns"] {
        Value::Null => append_ns,
        given => nanoseconds(given)?,
    };
    let send_ns = match &tick["send_ns"] {
        Value::Null => None,
        given => Some(nanoseconds(given)?),
    };
    let text = |name: &str| tick[name].as_str().map(str::to_owned);
    let one_of = |name: &str, known: &[&str]| {
        tick[name].as_str().is_none_or(|text| known.contains(&text)).then(|| text(name))
    };
    let says = match channel {
        Channel::Trades => vec![
            Some(decimal(&tick["price"])?),
            Some(decimal(&tick["size"])?),
            one_of("side", &["buy", "sell"])?,
            text("trade_id"),
            text("venue"),
            text("conditions"),
        ],
        Channel::Quotes => vec![
            Some(decimal(&tick["bid_price"])?),
            Some(decimal(&tick["bid_size"])?),
            Some(decimal(&tick["ask_price"])?),
            Some(decimal(&tick["ask_size"])?),
            text("venue"),
        ],
        Channel::Status => {
            let state = one_of("state", &["halted", "trading", "auction", "closed"])??;
            vec![Some(state), text("reason")]
        }
        Channel::Book => {
            let is_side = |name: &str| tick[name].is_array();
            return (is_side("bids") && is_side("asks")).then_some(Said { channel, symbol, content: None });
        }
    };
    Some(Said { channel, symbol, content: Some(digest(channel, &says, Some(event_ns), send_ns)) })
}

/// A number as its text: of a string its own, of a JSON number that of a double, as for every parser.
fn decimal(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => whole.to_string(),
            None => number.as_f64()?.to_string(),
        },
        _ => return None,
    };
    let unsigned = text.strip_prefix('-').unwrap_or(&text);
    let (whole, part) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let is_number = (whole.bytes().chain(part.bytes())).all(|b| b.is_ascii_digit());
    (is_number && !whole.is_empty() && whole.len() + part.len() <= DIGITS_MAX + 1).then_some(text)
}

fn nanoseconds(value: &Value) -> Option<i64> {
    let ns = match value {
        Value::String(text) => text.parse().ok()?,
        other => other.as_i64()?,
    };
    (ns >= 0).then_some(ns)
}

/// What an event says; `None` for what is not compared.
pub fn of_event(event: &EventView<'_>) -> Option<u64> {
    let channel = event.channel()?;
    let text = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().map(str::to_owned);
    let number = |number: Option<tickgate_protocol::Decimal>| number.map(|n| n.to_string());
    let says = match channel {
        Channel::Trades => vec![
            number(event.price),
            number(event.size),
            event.side.map(|side| if side == Side::Buy { "buy" } else { "sell" }.to_owned()),
            text(&event.trade_id),
            text(&event.venue),
            text(&event.conditions),
        ],
        Channel::Quotes => vec![
            number(event.bid_price),
            number(event.bid_size),
            number(event.ask_price),
            number(event.ask_size),
            text(&event.venue),
        ],
        Channel::Status => vec![event.state.map(|state| state.name().to_owned()), text(&event.reason)],
        Channel::Book => return None,
    };
    Some(digest(channel, &says, event.event_ns, event.send_ns))
}

fn digest(channel: Channel, says: &[Option<String>], event_ns: Option<i64>, send_ns: Option<i64>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (channel as u8, says, event_ns, send_ns).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(record: &str, event: &str) -> bool {
        let said = of_record(record.as_bytes(), 9).remove(0).expect("a tick");
        let view: EventView<'_> = serde_json::from_str(event).expect("an event");
        said.content.is_some() && said.content == of_event(&view)
    }

    #[test]
    fn a_record_and_its_event_say_the_same() {
        let trade =
            r#"{"type":"trade","symbol":"A","price":"1.50","size":2,"event_ns":7,"side":"buy","venue":"Q"}"#;
        let event = r#"{"type":"trade","symbol":"A","price":"1.50","size":"2","side":"buy","venue":"Q","seq":"1:0:0","event_ns":"7","ingest_ns":"8"}"#;
        assert!(same(trade, event));
        for (from, to) in
            [("1.50", "1.5"), ("\"2\"", "\"3\""), ("buy", "sell"), ("\"Q\"", "\"N\""), ("\"7\"", "\"8\"")]
        {
            assert!(!same(trade, &event.replacen(from, to, 1)), "{from} is not {to}");
        }
        let quote = r#"{"type":"quote","symbol":"A","bid_price":"1","bid_size":"2","ask_price":"3","ask_size":"4","send_ns":"5"}"#;
        let event = r#"{"type":"quote","symbol":"A","bid_price":"1","bid_size":"2","ask_price":"3","ask_size":"4","seq":"1:0:0","event_ns":"9","ingest_ns":"1","send_ns":"5"}"#;
        assert!(same(quote, event), "the Kafka timestamp stands in");
        let status = r#"{"type":"status","symbol":"A","state":"halted","reason":"LULD","event_ns":"1"}"#;
        assert!(same(status, &status.replace("\"A\"", "\"A\",\"seq\":\"1:0:0\"")));
    }

    #[test]
    fn what_is_no_tick_is_none() {
        let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
        for bad in [
            "",
            "17",
            "{}",
            "{\"type\":\"trade\"",
            r#"{"type":"weather","symbol":"A"}"#,
            r#"{"type":"trade","symbol":"A","price":"1"}"#,
            r#"{"type":"trade","symbol":"A*","price":"1","size":"1"}"#,
            r#"{"type":"trade","symbol":"A","price":"a lot","size":"1"}"#,
            r#"{"type":"trade","symbol":"A","price":"1234567890123456789012","size":"1"}"#,
            r#"{"type":"trade","symbol":"A","price":"1","size":"1","event_ns":-5}"#,
            r#"{"type":"trade","symbol":"A","price":"1","size":"1","side":"sideways"}"#,
            r#"{"type":"status","symbol":"A","state":"odd"}"#,
            &deep,
        ] {
            assert_eq!(of_record(bad.as_bytes(), 0), [None], "{bad}");
        }
        assert_eq!(of_record(b"{\"type\":\"trade\",\"symbol\":\"\xff\"}", 0), [None]);
        let book = r#"[{"type":"book","symbol":"A","bids":[],"asks":[]},17]"#;
        let said = Said { channel: Channel::Book, symbol: "A".to_owned(), content: None };
        assert_eq!(of_record(book.as_bytes(), 0), [Some(said), None]);
    }
}
