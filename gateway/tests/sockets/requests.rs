//! Frames and requests of one session, and the answers to them.

use crate::harness::{Gateway, Kafka, Records, trade, until};
use crate::raw::{BINARY, CLOSE, PING, PONG, Raw, TEXT, frame, header, text};
use serde_json::{Value, json};

struct World {
    _kafka: Kafka,
    records: Records,
    gateway: Gateway,
}

async fn world() -> World {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let records = kafka.producer(&topic);
    let gateway = Gateway::start(kafka.config(&topic)).await;
    World { _kafka: kafka, records, gateway }
}

#[tokio::test]
async fn a_request_in_fragments_is_one_request() {
    let world = world().await;
    let mut raw = Raw::session(world.gateway.url()).await;
    // Control frames may stand between fragments, and a fragment may be empty.
    let parts = [
        frame(false, TEXT, br#"{"op":"pi"#),
        frame(true, PING, b"between"),
        frame(false, 0, b""),
        frame(false, 0, br#"ng","id":"caf"#),
        frame(false, 0, b"\xc3"),
        frame(true, 0, b"\xa9\"}"),
    ];
    // Byte by byte: where the network cuts is nobody's business.
    for byte in parts.concat() {
        raw.send(&[byte]).await;
    }
    assert_eq!(raw.frame().await, Some((PONG, b"between".to_vec())));
    let pong = raw.json().await;
    assert_eq!((&pong["op"], &pong["id"]), (&json!("pong"), &json!("caf\u{e9}")));
    assert!(pong["now_ns"].as_str().is_some_and(|ns| ns.parse::<i64>().is_ok()));
}

#[tokio::test]
async fn a_ping_is_answered_with_its_payload() {
    let world = world().await;
    let mut raw = Raw::session(world.gateway.url()).await;
    for payload in [&b""[..], b"a", &[0xff; 125]] {
        raw.send(&frame(true, PING, payload)).await;
        assert_eq!(raw.frame().await, Some((PONG, payload.to_vec())));
    }
    // A pong that nobody asked for is no error.
    raw.send(&frame(true, PONG, b"unasked")).await;
    raw.say(&json!({"op": "ping"})).await;
    assert_eq!(raw.json().await["op"], "pong");
}

/// Each breach of RFC 6455 ends the session with the code it names, and nothing behind it is handled.
#[tokio::test]
async fn breaches_of_the_websocket_protocol_close_with_their_code() {
    let world = world().await;
    let too_many = 256 * 1024 + 1;
    for (what, bytes, code) in [
        ("not masked", vec![0x81, 2, b'{', b'}'], 1002),
        ("reserved bit", [&[0xc1][..], &frame(true, TEXT, b"{}")[1..]].concat(), 1002),
        ("unknown opcode", frame(true, 3, b""), 1002),
        ("continuation of nothing", frame(true, 0, b"{}"), 1002),
        ("message in a message", [frame(false, TEXT, b"{"), frame(true, TEXT, b"}")].concat(), 1002),
        ("fragmented ping", frame(false, PING, b""), 1002),
        ("long ping", frame(true, PING, &[0; 126]), 1002),
        ("close code 1005", frame(true, CLOSE, &1005u16.to_be_bytes()), 1002),
        ("close of one byte", frame(true, CLOSE, &[3]), 1002),
        ("not UTF-8", frame(true, TEXT, b"{\"op\":\"\xff\"}"), 1007),
        ("half a character", frame(true, TEXT, b"\xe4\xbd"), 1007),
        ("too big", header(true, TEXT, too_many), 1009),
        ("far too big", header(true, TEXT, 1 << 40), 1009),
        ("too big in parts", [frame(false, TEXT, &[b' '; 200_000]), header(true, 0, 100_000)].concat(), 1009),
    ] {
        let mut raw = Raw::session(world.gateway.url()).await;
        raw.send(&bytes).await;
        let (got, reason) = raw.closed().await;
        assert_eq!((got, reason.is_empty()), (code, false), "{what}: {reason}");
        raw.ended().await;
    }
    // Exactly at the limit it is read.
    let mut raw = Raw::session(world.gateway.url()).await;
    let mut request = json!({"op": "ping", "id": 1}).to_string();
    request.push_str(&" ".repeat(too_many - 1 - request.len()));
    raw.send(&text(&request)).await;
    assert_eq!(raw.json().await["id"], 1);
}

#[tokio::test]
async fn a_close_is_answered_with_its_code() {
    let world = world().await;
    for (payload, expected) in [(&b"\x03\xe8bye"[..], 1000), (b"\x0f\xa0", 4000), (b"", 1000)] {
        let mut raw = Raw::session(world.gateway.url()).await;
        raw.send(&[frame(true, CLOSE, payload), text(r#"{"op":"ping"}"#)].concat()).await;
        assert_eq!(raw.closed().await.0, expected);
        raw.ended().await;
    }
}

#[tokio::test]
async fn what_is_no_request_is_told_and_harms_nothing() {
    let world = world().await;
    let mut raw = Raw::session(world.gateway.url()).await;
    let long_id = "x".repeat(65);
    for (request, id) in [
        ("".to_owned(), Value::Null),
        ("{".to_owned(), Value::Null),
        ("[]".to_owned(), Value::Null),
        ("null".to_owned(), Value::Null),
        ("\"ping\"".to_owned(), Value::Null),
        (r#"{"id":1}"#.to_owned(), json!(1)),
        (r#"{"op":"dance","id":"a"}"#.to_owned(), json!("a")),
        (r#"{"op":7,"id":2}"#.to_owned(), json!(2)),
        (r#"{"op":"ping","id":1.5}"#.to_owned(), Value::Null),
        (r#"{"op":"ping","id":{}}"#.to_owned(), Value::Null),
        (format!(r#"{{"op":"ping","id":"{long_id}"}}"#), Value::Null),
        (r#"{"op":"subscribe","id":3}"#.to_owned(), json!(3)),
        (r#"{"op":"subscribe","id":3,"subscriptions":[]}"#.to_owned(), json!(3)),
        (r#"{"op":"subscribe","id":3,"subscriptions":[{"channel":"trades"}]}"#.to_owned(), json!(3)),
        (
            r#"{"op":"subscribe","id":3,"cursor":"!","subscriptions":[{"channel":"trades","symbols":["A"]}]}"#
                .to_owned(),
            json!(3),
        ),
        (format!(r#"{{"op":"ping","id":{}1{}}}"#, "[".repeat(500), "]".repeat(500)), Value::Null),
    ] {
        raw.send(&text(&request)).await;
        let error = raw.json().await;
        assert_eq!((&error["op"], &error["code"]), (&json!("error"), &json!("bad_request")), "{request}");
        assert_eq!((&error["number"], &error["fatal"]), (&json!(4400), &json!(false)), "{request}");
        assert_eq!(error["id"], id, "{request}: {error}");
        assert!(error["message"].as_str().is_some_and(|m| !m.is_empty()), "{request}");
    }
    // What is not read may be as deep as it likes.
    let deep = format!(r#"{{"op":"ping","id":4,"x":{}1{}}}"#, "[".repeat(500), "]".repeat(500));
    raw.send(&text(&deep)).await;
    assert_eq!(raw.json().await["id"], 4);
    raw.send(&frame(true, BINARY, b"\x00\x01")).await;
    let error = raw.json().await;
    assert_eq!((&error["code"], &error["fatal"]), (&json!("bad_request"), &json!(false)));
    raw.say(&json!({"op": "ping", "id": "still here"})).await;
    assert_eq!(raw.json().await["id"], "still here");
}

#[tokio::test]
async fn an_id_comes_back_as_it_was() {
    let world = world().await;
    let mut raw = Raw::session(world.gateway.url()).await;
    for id in [json!(0), json!(-5), json!(i64::MAX), json!(""), json!("x".repeat(64)), json!("\u{1f600}\"\\")]
    {
        // Unknown fields are nobody's error.
        raw.say(&json!({"op": "ping", "id": id, "colour": {"deep": [1, 2]}})).await;
        assert_eq!(raw.json().await["id"], id);
    }
    raw.say(&json!({"op": "ping"})).await;
    assert_eq!(raw.json().await.get("id"), None, "none was given");
}

#[tokio::test]
async fn auth_is_ok_while_none_is_configured() {
    let world = world().await;
    let mut raw = Raw::session(world.gateway.url()).await;
    raw.say(&json!({"op": "auth", "id": 1, "token": "any"})).await;
    assert_eq!(raw.json().await, json!({"op": "ack", "id": 1, "ok": true}));
    raw.say(&json!({"op": "auth", "id": 2})).await;
    assert_eq!(raw.json().await["code"], "bad_request");
}

/// A subscribe waits for the feed; what stands behind it waits for the subscribe.
#[tokio::test]
async fn requests_are_answered_in_their_order() {
    let world = world().await;
    world.records.send(&trade("AAPL", "1.5"));
    until("it was read", || world.gateway.running().board().feed().records == 1).await;
    let mut raw = Raw::session(world.gateway.url()).await;
    let subscribe = |id: u32, symbols: &[&str]| json!({"op": "subscribe", "id": id, "subscriptions": [{"channel": "trades", "symbols": symbols, "snapshot": 1}]});
    let requests = [
        subscribe(1, &["AAPL"]),
        json!({"op": "ping", "id": 2}),
        json!({"op": "list", "id": 3}),
        subscribe(4, &["MSFT"]),
        json!({"op": "dance", "id": 5}),
        json!({"op": "unsubscribe", "id": 6, "subscriptions": [{"channel": "trades", "symbols": ["AAPL"]}]}),
        json!({"op": "list", "id": 7}),
    ];
    let bytes: Vec<u8> = requests.iter().flat_map(|request| text(&request.to_string())).collect();
    raw.send(&bytes).await;
    let ack = raw.json().await;
    assert_eq!((&ack["op"], &ack["id"]), (&json!("ack"), &json!(1)));
    assert_eq!(ack["results"][0]["instrument"], 0);
    assert_eq!(
        raw.json().await[0]["snapshot"],
        true,
        "the snapshot stands between its ack and the next answer"
    );
    assert_eq!(raw.json().await["id"], 2);
    let list = raw.json().await;
    assert_eq!((&list["id"], &list["subscriptions"][0]["symbol"]), (&json!(3), &json!("AAPL")));
    assert_eq!(raw.json().await["id"], 4);
    let error = raw.json().await;
    assert_eq!((&error["op"], &error["id"]), (&json!("error"), &json!(5)));
    let ack = raw.json().await;
    assert_eq!((&ack["id"], &ack["ok"]), (&json!(6), &json!(true)));
    let list = raw.json().await;
    assert_eq!(list["id"], 7);
    assert_eq!(
        list["subscriptions"],
        json!([{"channel": "trades", "symbol": "MSFT", "on_slow": "disconnect"}])
    );
}

#[tokio::test]
async fn each_pair_has_its_own_verdict() {
    let world = world().await;
    let mut client = world.gateway.client().await;
    let long = "x".repeat(65);
    let cases = [
        (json!({"channel": "trades", "symbols": ["A"]}), None),
        (json!({"channel": "bars", "symbols": ["A"]}), Some("unknown_channel")),
        (json!({"channel": "trades", "symbols": [""]}), Some("bad_request")),
        (json!({"channel": "trades", "symbols": [long]}), Some("bad_request")),
        (json!({"channel": "trades", "symbols": ["A*B"]}), Some("bad_request")),
        (json!({"channel": "trades", "symbols": ["A**"]}), Some("bad_request")),
        (json!({"channel": "trades", "symbols": ["A\n"]}), Some("bad_request")),
        (json!({"channel": "trades", "symbols": ["B"], "conflate_ms": 100}), Some("bad_request")),
        (json!({"channel": "trades", "symbols": ["B"], "on_slow": "conflate"}), Some("bad_request")),
        (json!({"channel": "trades", "symbols": ["B"], "on_slow": "sometimes"}), Some("bad_request")),
        (json!({"channel": "trades", "symbols": ["B"], "depth": 5}), Some("bad_request")),
        (json!({"channel": "status", "symbols": ["B"], "conflate_ms": 100}), Some("bad_request")),
        (json!({"channel": "quotes", "symbols": ["B"], "conflate_ms": 1001}), Some("bad_request")),
        (json!({"channel": "quotes", "symbols": ["B"], "conflate_ms": -1}), Some("bad_request")),
        (json!({"channel": "quotes", "symbols": ["B"], "conflate_ms": "100"}), Some("bad_request")),
        (json!({"channel": "book", "symbols": ["B"], "depth": 3}), Some("bad_request")),
        (json!({"channel": "book", "symbols": ["B"], "depth": 256}), Some("bad_request")),
        (json!({"channel": "trades", "symbols": ["B"], "from": {}}), Some("bad_request")),
        (json!({"channel": "trades", "symbols": ["B"], "from": {"seq": "x"}}), Some("bad_request")),
        (json!({"channel": "status", "symbols": ["\u{4f60}\u{597d}"]}), None),
    ];
    let asked: Vec<Value> = cases.iter().map(|(subscription, _)| subscription.clone()).collect();
    let verdicts = client.subscribe(&asked).await.expect("an ack");
    assert_eq!(verdicts.len(), cases.len());
    for (verdict, (subscription, expected)) in verdicts.iter().zip(&cases) {
        assert_eq!(verdict.code.map(|code| code.name()), *expected, "{subscription}: {verdict:?}");
        assert_eq!(verdict.ok, expected.is_none(), "{subscription}");
        assert_eq!(verdict.message.is_some(), expected.is_some(), "{subscription}");
        assert_eq!(subscription["symbols"][0], verdict.symbol, "{subscription}");
        assert_eq!(subscription["channel"], verdict.channel, "{subscription}");
    }
    let verdicts = client
        .unsubscribe(&[
            json!({"channel": "trades", "symbols": ["A", "A"]}),
            json!({"channel": "bars", "symbols": ["A"]}),
        ])
        .await
        .expect("an ack");
    let codes: Vec<_> = verdicts.iter().map(|v| v.code.map(|code| code.name())).collect();
    assert_eq!(codes, [None, Some("bad_request"), Some("unknown_channel")]);
}

#[tokio::test]
async fn list_shows_what_is_held_with_its_options() {
    let world = world().await;
    let mut raw = Raw::session(world.gateway.url()).await;
    raw.say(&json!({"op": "subscribe", "subscriptions": [
        {"channel": "trades", "symbols": ["A"], "on_slow": "skip"},
        {"channel": "quotes", "symbols": ["B*"], "conflate_ms": 60},
        {"channel": "book", "symbols": ["C"], "depth": 20},
        {"channel": "book", "symbols": ["D"]},
        {"channel": "status", "symbols": ["*"], "on_slow": "disconnect"},
    ]}))
    .await;
    assert_eq!(raw.json().await["ok"], true);
    raw.say(&json!({"op": "list"})).await;
    assert_eq!(
        raw.json().await,
        json!({"op": "list", "subscriptions": [
            {"channel": "trades", "symbol": "A", "on_slow": "skip"},
            {"channel": "quotes", "symbol": "B*", "on_slow": "conflate", "conflate_ms": 100},
            {"channel": "book", "symbol": "C", "on_slow": "conflate", "depth": 20},
            {"channel": "book", "symbol": "D", "on_slow": "conflate", "depth": 0},
            {"channel": "status", "symbol": "*", "on_slow": "disconnect"},
        ]})
    );
}

#[tokio::test]
async fn set_keeps_to_its_bounds() {
    let world = world().await;
    let mut raw = Raw::session(world.gateway.url()).await;
    for (fields, ok) in [
        (json!({}), true),
        (json!({"heartbeat_ms": 0}), true),
        (json!({"heartbeat_ms": 100, "max_bytes_per_s": 1024}), true),
        (json!({"heartbeat_ms": 60_000, "max_bytes_per_s": 0}), true),
        (json!({"flush_ms": 0}), true),
        (json!({"flush_ms": 1000}), true),
        (json!({"flush_ms": 1001}), false),
        (json!({"flush_ms": 0.5}), false),
        (json!({"heartbeat_ms": 99}), false),
        (json!({"heartbeat_ms": 60_001}), false),
        (json!({"max_bytes_per_s": 1023}), false),
        (json!({"heartbeat_ms": -1}), false),
        (json!({"heartbeat_ms": 1.5}), false),
        (json!({"heartbeat_ms": "1000"}), false),
        (json!({"max_bytes_per_s": u64::MAX}), true),
    ] {
        let mut request = fields.clone();
        request["op"] = json!("set");
        request["id"] = json!("s");
        raw.say(&request).await;
        let answer = raw.json().await;
        let expected = if ok { "ack" } else { "error" };
        assert_eq!((&answer["op"], &answer["id"]), (&json!(expected), &json!("s")), "{fields}: {answer}");
    }
}

/// A position was taken for every symbol of a subscription: of those that it was not of, a move to another partition was told
/// that never was.
#[tokio::test]
async fn a_position_is_of_one_symbol() {
    let world = world().await;
    let mut client = world.gateway.client().await;
    let from = json!({"seq": "1:0:1"});
    let several = json!({"channel": "trades", "symbols": ["A", "B"], "from": from});
    let verdicts = client.subscribe(&[several]).await.expect("an ack");
    assert_eq!(verdicts.len(), 2);
    for verdict in verdicts {
        assert_eq!(verdict.code.map(|code| code.name()), Some("bad_request"), "{verdict:?}");
        let message = verdict.message.as_deref().unwrap_or_default();
        assert!(message.contains("each in a subscription of its own"), "{message}");
    }
    let each = ["A", "B"].map(|symbol| json!({"channel": "trades", "symbols": [symbol], "from": from}));
    let verdicts = client.subscribe(&each).await.expect("an ack");
    assert!(verdicts.iter().all(|verdict| verdict.ok), "{verdicts:?}");
}
