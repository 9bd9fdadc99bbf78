use super::*;
use crate::Code;
use proptest::prelude::*;

fn subscribe(text: &str) -> Vec<Subscription> {
    match Request::parse(text).unwrap().command {
        Command::Subscribe { subscriptions, .. } => subscriptions,
        other => panic!("not a subscribe: {other:?}"),
    }
}

#[test]
fn the_reference_examples() {
    let all = subscribe(
        r#"{"op":"subscribe","id":2,"subscriptions":[
            {"channel":"trades","symbols":["AAPL","MSFT"],"on_slow":"skip"},
            {"channel":"quotes","symbols":["BTC*"],"conflate_ms":100},
            {"channel":"book","symbols":["BTCUSDT"],"depth":20},
            {"channel":"trades","symbols":["TSLA"],"from":{"seq":"1f3a:3:88123"}},
            {"channel":"trades","symbols":["IBM"],"from":{"time_ns":"1381150800000000000"}}]}"#,
    );
    let options: Vec<_> = all.iter().map(|s| s.options.clone().unwrap()).collect();
    assert_eq!(options[0].1.on_slow, OnSlow::Skip);
    assert_eq!((options[1].0, options[1].1.conflate.get()), (Channel::Quotes, 100));
    assert_eq!(options[2].1.depth.get(), 20);
    assert_eq!(options[3].1.from, Some(From::Seq("1f3a:3:88123".parse().unwrap())));
    assert_eq!(options[4].1.from, Some(From::TimeNs(1_381_150_800_000_000_000)));
    assert_eq!(options[0].0.default_on_slow(), OnSlow::Disconnect);

    let text = r#"{"op":"set","id":"x","heartbeat_ms":1000,"max_bytes_per_s":200000,"flush_ms":10}"#;
    let set = Request::parse(text).unwrap();
    assert_eq!(set.id, Some(Id::Text("x".to_owned())));
    let expected =
        Command::Set { heartbeat_ms: Some(1000), max_bytes_per_s: Some(200_000), flush_ms: Some(10) };
    assert_eq!(set.command, expected);
    assert_eq!(Request::parse(r#"{"op":"ping","more":[]}"#).unwrap().command, Command::Ping);
}

#[test]
fn a_part_of_the_past_and_its_speed() {
    let from = |from: &str| {
        let text = format!(
            r#"{{"op":"subscribe","subscriptions":[{{"channel":"trades","symbols":["A"],"from":{from}}}]}}"#
        );
        let options = subscribe(&text).remove(0).options;
        options.map(|(_, options)| options.from).map_err(|fault| fault.message)
    };
    let past =
        |until_ns, speed_thousandths| Ok(Some(From::Past(Past { since_ns: 5, until_ns, speed_thousandths })));
    assert_eq!(from(r#"{"time_ns":"5","until_ns":"5"}"#), past(Some(5), None));
    assert_eq!(from(r#"{"time_ns":5,"until_ns":9,"speed":1}"#), past(Some(9), Some(1_000)));
    assert_eq!(from(r#"{"time_ns":"5","speed":"0.001"}"#), past(None, Some(1)));
    assert_eq!(from(r#"{"time_ns":"5","speed":1000}"#), past(None, Some(1_000_000)));
    for (text, says) in [
        (r#"{"time_ns":"5","until_ns":"4"}"#, "before"),
        (r#"{"time_ns":"5","until_ns":"-1"}"#, "until_ns"),
        (r#"{"time_ns":"5","until_ns":true}"#, "until_ns"),
        (r#"{"time_ns":"5","speed":0.0001}"#, "speed"),
        (r#"{"time_ns":"5","speed":-1}"#, "speed"),
        (r#"{"time_ns":"5","speed":1001}"#, "speed"),
        (r#"{"seq":"1:0:5","speed":1}"#, "time_ns"),
        (r#"{"speed":1}"#, "time_ns"),
    ] {
        assert!(from(text).is_err_and(|message| message.contains(says)), "{text}");
    }
}

/// A time in milliseconds is half an hour after 1970: who gave it got all that Kafka had.
#[test]
fn times_in_another_unit_are_refused_by_its_name() {
    let from = |field: &str, time: &str| {
        let text = format!(
            r#"{{"op":"subscribe","subscriptions":[{{"channel":"trades","symbols":["A"],
                "from":{{"time_ns":0,"{field}":{time}}}}}]}}"#
        )
        .replace(r#""time_ns":0,"time_ns""#, r#""time_ns""#);
        subscribe(&text).remove(0).options.map(drop).map_err(|fault| (fault.code, fault.message))
    };
    for field in ["time_ns", "until_ns"] {
        for (time, unit) in [
            ("1732312345", "seconds"),
            ("1732312345678", "milliseconds"),
            ("1732312345678901", "microseconds"),
            ("100000000", "seconds"),
            ("99999999999", "seconds"),
            ("100000000000", "milliseconds"),
            ("99999999999999", "milliseconds"),
            ("100000000000000", "microseconds"),
            ("99999999999999999", "microseconds"),
        ] {
            let says = format!("`from.{field}`: {time} looks like {unit}: it is in nanoseconds since 1970");
            assert_eq!(from(field, &format!("\"{time}\"")), Err((Code::BadRequest, says.clone())));
            assert_eq!(from(field, time), Err((Code::BadRequest, says)));
        }
        for time in ["0", "99999999", "100000000000000000", "1732312345678901234"] {
            assert_eq!(from(field, time), Ok(()), "{time}");
        }
    }
}

#[test]
fn faults_stay_with_their_subscription() {
    let all = subscribe(
        r#"{"op":"subscribe","subscriptions":[
            {"channel":"bars","symbols":["A"]},
            {"channel":"trades","symbols":["A"],"conflate_ms":10},
            {"channel":"trades","symbols":["A"],"on_slow":"conflate"},
            {"channel":"book","symbols":["A"],"depth":7},
            {"channel":"quotes","symbols":["A"],"depth":5},
            {"channel":"quotes","symbols":["A"],"conflate_ms":2000},
            {"channel":"quotes","symbols":["A"],"from":{}},
            {"channel":"quotes","symbols":["A"],"snapshot":1},
            {"channel":"quotes","symbols":["A"],"cursor":"AgcAAAABAA"},
            {"channel":"quotes","symbols":["A"]}]}"#,
    );
    let codes: Vec<_> = all.iter().map(|s| s.options.as_ref().err().map(|f| f.code)).collect();
    assert_eq!(codes[0], Some(Code::UnknownChannel));
    assert!(codes[1..9].iter().all(|c| *c == Some(Code::BadRequest)), "{codes:?}");
    assert_eq!(codes[9], None);
}

#[test]
fn a_bad_request_still_names_its_id() {
    for (text, id) in [
        ("", None),
        ("[]", None),
        (r#"["ping"]"#, None),
        (
            r#"{"id":3,"op":"subscribe","subscriptions":[{"channel":"trades","symbols":[]}]}"#,
            Some(Id::Number(3)),
        ),
        (r#"{"id":3}"#, Some(Id::Number(3))),
        (r#"{"id":3,"op":"fly"}"#, Some(Id::Number(3))),
        (r#"{"id":3,"op":"subscribe"}"#, Some(Id::Number(3))),
        (r#"{"id":3,"op":"subscribe","subscriptions":7}"#, Some(Id::Number(3))),
        (r#"{"id":3,"op":"subscribe","subscriptions":[{"symbols":[]}]}"#, Some(Id::Number(3))),
        (r#"{"id":3,"op":"set","heartbeat_ms":-1}"#, Some(Id::Number(3))),
        (r#"{"id":{},"op":"ping"}"#, None),
    ] {
        let bad = Request::parse(text).unwrap_err();
        assert_eq!(bad.id, id, "{text}");
        assert!(!bad.message.is_empty());
    }
    let long = format!(r#"{{"op":"ping","id":"{}"}}"#, "x".repeat(65));
    assert!(Request::parse(&long).is_err());
}

/// A request that meant nothing went down as deep as the reader of JSON does, which is 128.
#[test]
fn nothing_is_read_that_is_deeper_than_a_request_can_be() {
    let nested = |depth: usize| {
        format!(r#"{{"op":"ping","id":1,"x":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1))
    };
    for text in [
        nested(DEPTH_MAX),
        // Many beside each other, and what is none as it stands in a text.
        r#"{"op":"ping","id":1,"x":["[{\"[[[[[[[[[[\\",[],[],[],[],[],[],[],[],{},{}]}"#.to_owned(),
    ] {
        assert!(Request::parse(&text).is_ok(), "{text}");
    }
    for text in [nested(DEPTH_MAX + 1), nested(100_000), format!("{{\"id\":1,\"x\":{}", "[".repeat(100_000))]
    {
        let bad = Request::parse(&text).unwrap_err();
        assert!(bad.message.contains("at most 8"), "{}", bad.message);
    }
    assert_eq!(Request::parse(&nested(9)).unwrap_err().id, Some(Id::Number(1)));
}

#[test]
fn patterns_end_in_their_only_star() {
    assert!(["*", "BTC*", "AAPL", "BRK.B"].into_iter().all(is_symbol_or_pattern));
    assert!(["", "**", "B*C", "*B", "A\n"].into_iter().all(|t| !is_symbol_or_pattern(t)));
}

proptest! {
    #[test]
    fn never_panics(text in r#"[\[\]{}",:a-z0-9_.\\ -]{0,160}"#) {
        let _ = Request::parse(&text);
    }
}
