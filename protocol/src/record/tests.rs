use super::*;
use proptest::prelude::*;

fn decode(value: &str) -> Result<Vec<Result<Tick<'static>, RecordError>>, RecordError> {
    let mut decoder = RecordDecoder::new(1 << 20);
    Ok(decoder.ticks(value.as_bytes())?.into_iter().map(|tick| tick.map(Tick::into_owned)).collect())
}

fn reason(value: &str) -> &'static str {
    match decode(value) {
        Err(error) => error.label(),
        Ok(all) => all.into_iter().find_map(Result::err).map_or("ok", |e| e.label()),
    }
}

const TRADE: &str = r#"{"type":"trade","symbol":"AAPL","price":"487.50","size":"100","event_ns":1381150800000000000,"side":"buy","trade_id":"77","venue":"Q"}"#;

#[test]
fn numbers_and_strings_mean_the_same() {
    let as_numbers = r#"{"type":"trade","symbol":"AAPL","price":487.50,"size":100,"event_ns":"1381150800000000000","side":"buy","trade_id":77,"venue":"Q","more":{"x":[1]}}"#;
    assert_eq!(decode(TRADE), decode(as_numbers));
    let Ok(all) = decode(TRADE) else { panic!("readable") };
    let Ok(Tick { body: Body::Trade(trade), .. }) = &all[0] else { panic!("a trade") };
    assert_eq!(trade.price.to_string(), "487.50");
}

#[test]
fn every_fault_has_its_reason() {
    let deep = format!(r#"{{"type":"trade","x":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let long = format!(r#"{{"type":"trade","symbol":"{}","price":1,"size":1}}"#, "A".repeat(65));
    for (value, expected) in [
        ("", "empty"),
        ("  \n", "empty"),
        ("nonsense", "not_json"),
        ("{\"type\":\"trade\"", "not_json"),
        ("42", "not_json"),
        ("[1]", "not_json"),
        ("{}", "missing_field"),
        (r#"{"type":"trade","symbol":"A","price":"1"}"#, "missing_field"),
        (r#"{"type":"trade","symbol":"A","price":null,"size":1}"#, "missing_field"),
        (r#"{"type":"candle","symbol":"A"}"#, "unknown_type"),
        (r#"{"type":7,"symbol":"A"}"#, "unknown_type"),
        (r#"{"type":"trade","symbol":"A","price":"one","size":1}"#, "bad_number"),
        (r#"{"type":"trade","symbol":"A","price":{},"size":1}"#, "bad_number"),
        (r#"{"type":"book","symbol":"A","bids":[["1"]],"asks":[]}"#, "bad_number"),
        (r#"{"type":"book","symbol":"A","bids":[["1","-2"]],"asks":[]}"#, "bad_number"),
        (r#"{"type":"trade","symbol":"A","price":1,"size":1,"event_ns":-5}"#, "bad_time"),
        (r#"{"type":"trade","symbol":"A","price":1,"size":1,"event_ns":"soon"}"#, "bad_time"),
        (r#"{"type":"trade","symbol":"A","price":1,"size":1,"side":"long"}"#, "bad_value"),
        (r#"{"type":"status","symbol":"A","state":"asleep"}"#, "bad_value"),
        (r#"{"type":"trade","symbol":"","price":1,"size":1}"#, "bad_symbol"),
        (r#"{"type":"trade","symbol":"A*","price":1,"size":1}"#, "bad_symbol"),
        (&long, "bad_symbol"),
        (&deep, "too_deep"),
        (r#"{"type":"quote","symbol":"A","bid_price":2,"bid_size":1,"ask_price":1,"ask_size":1}"#, "ok"),
    ] {
        assert_eq!(reason(value), expected, "{}", &value[..value.len().min(80)]);
        assert!(expected == "ok" || RecordError::LABELS.contains(&expected));
    }
    let mut decoder = RecordDecoder::new(10);
    assert_eq!(decoder.ticks(TRADE.as_bytes()).unwrap_err().label(), "oversize");
}

#[test]
fn one_bad_element_costs_its_neighbours_nothing() {
    let array = format!(r#"[{TRADE},{{"type":"trade","symbol":"B"}},{TRADE}]"#);
    let all = decode(&array).unwrap();
    assert_eq!(all.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn brackets_inside_strings_do_not_nest() {
    let value =
        format!(r#"{{"type":"status","symbol":"A","state":"halted","note":"\"{}"}}"#, "[".repeat(100));
    assert_eq!(reason(&value), "ok");
}

fn any_text() -> impl Strategy<Value = Option<Cow<'static, str>>> {
    proptest::option::of("[ -~é\"\\\\]{1,12}".prop_map(Cow::Owned))
}

fn any_decimal() -> impl Strategy<Value = Decimal> {
    (any::<i64>(), 0u8..=18).prop_map(|(m, s)| Decimal::new(m, s).unwrap())
}

fn any_level() -> impl Strategy<Value = Level> {
    (any_decimal(), (0..i64::MAX, 0u8..=18).prop_map(|(m, s)| Decimal::new(m, s).unwrap()))
}

fn any_body() -> impl Strategy<Value = Body<'static>> {
    let trade = (
        any_decimal(),
        any_decimal(),
        proptest::option::of(any::<bool>()),
        any_text(),
        any_text(),
        any_text(),
    )
        .prop_map(|(price, size, side, trade_id, venue, conditions)| {
            let side = side.map(|buy| if buy { Side::Buy } else { Side::Sell });
            Body::Trade(Trade { price, size, side, trade_id, venue, conditions })
        });
    let quote = (any_decimal(), any_decimal(), any_decimal(), any_decimal(), any_text()).prop_map(
        |(bid_price, bid_size, ask_price, ask_size, venue)| {
            Body::Quote(Quote { bid_price, bid_size, ask_price, ask_size, venue })
        },
    );
    let side = || proptest::collection::vec(any_level(), 0..8);
    let book = (side(), side(), any::<bool>())
        .prop_map(|(bids, asks, snapshot)| Body::Book(Book { bids, asks, snapshot }));
    prop_oneof![trade, quote, book]
}

proptest! {
    #[test]
    fn reads_back_what_producers_write(
        symbol in "[A-Za-z0-9./ é\"\\\\-]{1,20}",
        event_ns in proptest::option::of(0..i64::MAX),
        send_ns in proptest::option::of(0..i64::MAX),
        body in any_body(),
    ) {
        let tick = Tick { symbol: Cow::Owned(symbol), event_ns, send_ns, body };
        let text = String::from_utf8(tick.to_json()).unwrap();
        let all = decode(&text).unwrap();
        prop_assert_eq!(&all, &vec![Ok(tick.clone())]);
        // Equality of decimals is by value; the text must survive too.
        prop_assert_eq!(all[0].as_ref().unwrap().to_json(), text.into_bytes());
    }

    #[test]
    fn never_panics(value in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = RecordDecoder::new(1 << 20).ticks(&value);
    }

    #[test]
    fn never_panics_on_almost_json(value in r#"[\[\]{}",:a-z0-9.\\-]{0,120}"#) {
        let _ = RecordDecoder::new(1 << 20).ticks(value.as_bytes());
    }
}
