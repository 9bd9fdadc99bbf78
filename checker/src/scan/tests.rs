use super::*;
use proptest::prelude::*;
use std::borrow::Cow;
use tickgate_protocol::event::{Meta, json, write_head};
use tickgate_protocol::record::{Body, Book, Quote, Side, Status, Trade, TradingState};
use tickgate_protocol::{Decimal, SYMBOL_BYTES_MAX};

/// Everything that was scanned, as text, so that borrowed and parsed events compare.
fn scanned(frame: &[u8]) -> Result<(Vec<String>, Counts), Unreadable> {
    let mut seen = Vec::new();
    let counts = scan(frame, |event| seen.push(format!("{event:?}")))?;
    Ok((seen, counts))
}

fn parsed(frame: &[u8]) -> Option<Vec<String>> {
    let views: Vec<EventView<'_>> = serde_json::from_slice(frame).ok()?;
    Some(views.iter().map(|view| format!("{:?}", Scanned::from(view))).collect())
}

#[test]
fn reads_the_golden_events_without_parsing() {
    let golden = include_str!("../../../protocol/tests/golden/events.jsonl");
    let lines: Vec<&str> = golden.lines().filter(|line| !line.contains('\\')).collect();
    let frame = format!("[{}]", lines.join(","));
    let (seen, counts) = scanned(frame.as_bytes()).unwrap();
    assert_eq!(Some(seen), parsed(frame.as_bytes()));
    assert_eq!(counts, Counts { events: lines.len() as u64, parsed: 0 });
}

#[test]
fn unfamiliar_layouts_are_parsed() {
    for (frame, parses) in [
        (r#"[]"#, 0),
        (r#" [ ] "#, 0),
        (r#"[{"type":"trade","symbol":"A\"B","seq":"1:2:3"}]"#, 1),
        (r#"[ {"type": "trade", "symbol": "A"} , {"type":"quote","symbol":"B","prev":"a:0:7"}]"#, 1),
        (r#"[{"symbol":"A","more":{"x":["]}",{}]},"type":"trade","prev":null}]"#, 1),
        (r#"[{"symbol":"A","more":{"x":["]}\"",{}]},"n":-1.5e3,"type":"bar","merged":4}]"#, 0),
    ] {
        let (seen, counts) = scanned(frame.as_bytes()).unwrap();
        assert_eq!(Some(seen), parsed(frame.as_bytes()), "{frame}");
        assert_eq!(counts.parsed, parses, "{frame}");
    }
}

#[test]
fn what_is_no_frame_says_where() {
    for (frame, at) in [
        ("", 0),
        ("{}", 1),
        ("[", 1),
        ("[1]", 1),
        (r#"[{"type":"trade"}]"#, 1),
        (r#"[{"type":"trade","symbol":"A"}"#, 30),
        (r#"[{"type":"trade","symbol":"A"}]]"#, 31),
        (r#"[{"type":"trade","symbol":"A","seq":"1:2"}]"#, 1),
        (r#"[{"type":"trade","symbol":"A","symbol":"B"}]"#, 1),
    ] {
        let error = scanned(frame.as_bytes()).unwrap_err();
        assert_eq!(error.at, at, "{frame}: {error}");
    }
}

fn any_decimal() -> impl Strategy<Value = Decimal> {
    (any::<i64>(), 0u8..=18).prop_map(|(m, s)| Decimal::new(m, s).unwrap())
}

fn any_body() -> impl Strategy<Value = Body<'static>> {
    let text = || proptest::option::of("[ -~é]{1,12}".prop_map(Cow::Owned));
    let trade = (any_decimal(), any_decimal(), any::<bool>(), text(), text(), text()).prop_map(
        |(price, size, sold, trade_id, venue, conditions)| {
            let side = sold.then_some(Side::Sell);
            Body::Trade(Trade { price, size, side, trade_id, venue, conditions })
        },
    );
    let quote = (any_decimal(), any_decimal(), any_decimal(), any_decimal(), text()).prop_map(
        |(bid_price, bid_size, ask_price, ask_size, venue)| {
            Body::Quote(Quote { bid_price, bid_size, ask_price, ask_size, venue })
        },
    );
    let side = || proptest::collection::vec((any_decimal(), any_decimal()), 0..6);
    let book = (side(), side()).prop_map(|(bids, asks)| Body::Book(Book { bids, asks, snapshot: false }));
    let status = text().prop_map(|reason| Body::Status(Status { state: TradingState::Halted, reason }));
    prop_oneof![trade, quote, book, status]
}

fn any_position() -> impl Strategy<Value = Position> {
    (any::<u32>(), any::<u32>(), any::<u64>()).prop_map(|(epoch, partition, offset)| Position {
        epoch,
        partition,
        offset,
    })
}

prop_compose! {
    fn any_event()(
        symbol in "[A-Za-z0-9./ é\"\\\\-]{1,20}",
        body in any_body(),
        position in any_position(),
        send_ns in proptest::option::of(0..i64::MAX),
        prev in proptest::option::of(any_position()),
        merged in 0u32..5,
        snapshot: bool,
        replay: bool,
    ) -> String {
        assert!(symbol.len() <= SYMBOL_BYTES_MAX);
        let meta = Meta { position, event_ns: 1, ingest_ns: 2, send_ns };
        let mut out = Vec::new();
        write_head(&mut out, &json::string(&symbol), &body, &meta);
        Tail { prev, merged, snapshot, replay }.write(&mut out);
        String::from_utf8(out).unwrap()
    }
}

prop_compose! {
    fn any_gap()(
        after in proptest::option::of(any_position()),
        upto in proptest::option::of(any_position()),
        count in proptest::option::of(any::<u64>()),
        cause in 0usize..5,
        channel in 0usize..4,
    ) -> String {
        let mut out = Vec::new();
        Gap { after, upto, count, cause: GapCause::ALL[cause] }.write(&mut out, Channel::ALL[channel], b"\"A\"");
        String::from_utf8(out).unwrap()
    }
}

proptest! {
    #[test]
    fn agrees_with_the_parser(events in proptest::collection::vec(prop_oneof![any_event(), any_gap()], 0..8)) {
        let frame = format!("[{}]", events.join(","));
        let (seen, counts) = scanned(frame.as_bytes()).unwrap();
        prop_assert_eq!(Some(seen), parsed(frame.as_bytes()));
        prop_assert_eq!(counts.events, events.len() as u64);
        let escaped = events.iter().filter(|e| e.contains("\\")).count() as u64;
        prop_assert!(counts.parsed <= escaped, "only events with escapes need the parser: {}", frame);
    }

    /// What is damaged on the way never panics, and whatever the parser still reads the scanner reads alike.
    #[test]
    fn never_panics(event in any_event(), at: prop::sample::Index, byte: u8) {
        let mut frame = format!("[{event}]").into_bytes();
        let at = at.index(frame.len());
        frame[at] = byte;
        let scanned = scanned(&frame);
        if let Some(parsed) = parsed(&frame) {
            prop_assert_eq!(scanned.unwrap().0, parsed);
        }
    }
}
