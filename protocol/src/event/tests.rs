use super::*;
use crate::Decimal;
use crate::record::{Book, Quote, Status, Trade, TradingState};
use std::borrow::Cow;

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text).unwrap()
}

fn position(text: &str) -> Position {
    text.parse().unwrap()
}

fn encode(symbol: &str, body: &Body<'_>, tail: Tail) -> String {
    let meta = Meta {
        position: position("1f3a:3:88123"),
        event_ns: 1_381_150_800_000_000_000,
        ingest_ns: 1_381_150_800_000_250_000,
        send_ns: None,
    };
    let mut out = Vec::new();
    write_head(&mut out, &json::string(symbol), body, &meta);
    tail.write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn golden_events() {
    let trade = Body::Trade(Trade {
        price: decimal("487.50"),
        size: decimal("100"),
        side: Some(Side::Buy),
        trade_id: Some(Cow::Borrowed("77")),
        venue: Some(Cow::Borrowed("Q")),
        conditions: None,
    });
    let quote = Body::Quote(Quote {
        bid_price: decimal("487.50"),
        bid_size: decimal("300"),
        ask_price: decimal("487.55"),
        ask_size: decimal("100"),
        venue: None,
    });
    let book = Body::Book(Book {
        bids: vec![(decimal("61659.7"), decimal("1.2"))],
        asks: vec![(decimal("61659.8"), decimal("0"))],
        snapshot: false,
    });
    let status =
        Body::Status(Status { state: TradingState::Halted, reason: Some(Cow::Borrowed("LULD \"T1\"")) });
    let prev = Some(position("1f3a:3:88100"));
    let lines = [
        encode("AAPL", &trade, Tail { prev, ..Tail::default() }),
        encode("AAPL", &quote, Tail { prev, merged: 3, ..Tail::default() }),
        encode("BTCUSDT", &book, Tail { snapshot: true, ..Tail::default() }),
        encode("A\"B\\", &status, Tail { prev, replay: true, ..Tail::default() }),
    ];
    let golden = include_str!("../../tests/golden/events.jsonl");
    assert_eq!(lines.join("\n"), golden.trim_end());
}

#[test]
fn golden_gap_reads_back() {
    let gap = Gap {
        after: Some(position("1f3a:3:10")),
        upto: Some(position("1f3a:3:20")),
        count: Some(4),
        cause: GapCause::SlowConsumer,
    };
    let mut out = Vec::new();
    gap.write(&mut out, Channel::Trades, b"\"AAPL\"");
    let text = String::from_utf8(out).unwrap();
    assert_eq!(
        text,
        r#"{"type":"gap","channel":"trades","symbol":"AAPL","after":"1f3a:3:10","upto":"1f3a:3:20","count":4,"cause":"slow_consumer"}"#
    );
    let view: EventView<'_> = serde_json::from_str(&text).unwrap();
    assert!(view.is_gap());
    assert_eq!(
        (view.channel(), view.after, view.upto, view.count, view.cause),
        (Some(Channel::Trades), gap.after, gap.upto, gap.count, Some(gap.cause))
    );
}

#[test]
fn golden_events_read_back() {
    let golden = include_str!("../../tests/golden/events.jsonl");
    let frame = format!("[{}]", golden.trim_end().replace('\n', ","));
    let views: Vec<EventView<'_>> = serde_json::from_str(&frame).unwrap();
    assert_eq!(views[0].price.unwrap().to_string(), "487.50");
    assert_eq!(views[0].seq, Some(position("1f3a:3:88123")));
    assert_eq!(views[1].tail(), Tail { prev: Some(position("1f3a:3:88100")), merged: 3, ..Tail::default() });
    assert!(views[2].snapshot && views[2].bids.as_ref().unwrap()[0].0 == decimal("61659.7"));
    assert_eq!(views[3].symbol, "A\"B\\");
    assert_eq!(views[3].ingest_ns, Some(1_381_150_800_000_250_000));
}
