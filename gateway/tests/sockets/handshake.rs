//! From the first byte of a connection to the `hello` of its session, and everything that is refused on the way.

use crate::harness::process::Process;
use crate::harness::{Gateway, Kafka, SOON, until};
use crate::raw::{CLOSE, Raw, frame, handshake, text};
use serde_json::json;
use std::time::{Duration, Instant};
use tickgate_gateway::config::Config;
use tickgate_gateway::stats::RefuseReason;
use tickgate_load::{Client, ClientOptions, Incoming};

async fn gateway(change: impl FnOnce(&mut Config)) -> (Kafka, Gateway) {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let mut config = kafka.config(&topic);
    change(&mut config);
    let gateway = Gateway::start(config).await;
    (kafka, gateway)
}

#[tokio::test]
async fn hello_comes_first_and_says_what_a_session_may_do() {
    let (_kafka, gateway) = gateway(|config| {
        config.limits.subscriptions_max = 77;
        config.session.heartbeat_ms = 1_234;
    })
    .await;
    let mut raw = Raw::connect(gateway.url()).await;
    raw.send(handshake("").as_bytes()).await;
    let head = raw.head().await.to_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    // The example of RFC 6455, 1.3.
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    // It was `upgrade, close`, which picows and Go's coder/websocket took for no upgrade.
    assert!(head.contains("\r\nconnection: upgrade\r\n"), "{head}");
    assert!(!head.contains("sec-websocket-protocol"), "none was offered: {head}");
    let (opcode, payload) = raw.frame().await.expect("a frame");
    assert_eq!(opcode, crate::raw::TEXT);
    let text = String::from_utf8(payload).expect("text");
    let hello: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert!(text.starts_with(r#"{"op":"hello","protocol":1,"session":"s-"#), "{text}");
    assert!(hello["now_ns"].as_str().is_some_and(|ns| ns.parse::<i64>().is_ok()), "{text}");
    assert_eq!(hello["heartbeat_ms"], 1_234);
    assert_eq!(hello["auth"], "none");
    let limits = json!({
        "subscriptions": 77, "requests_per_s": 20, "message_bytes": 262_144, "replay_s": 0,
        "pings_per_10_s": 20, "silence_ms": 60_000,
    });
    assert_eq!(hello["limits"], limits);
}

/// The first session of every gateway was `s-0-1`: in the gathered logs of a cluster nobody could tell them apart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_two_gateways_have_other_names() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let mut begin = Vec::new();
    // By chance two may be the same, once in a million times.
    for _ in 0..3 {
        let gateway = Process::start(&kafka, &topic, &["shards=1"]);
        let mut client = Client::connect(&gateway.url, &ClientOptions::default()).await.expect("a session");
        let Incoming::Control { frame, .. } = client.next().await else { panic!("no hello") };
        let hello: serde_json::Value = serde_json::from_str(frame.as_str()).expect("JSON");
        let name = hello["session"].as_str().expect("a name");
        let (of_gateway, _) = name.rsplit_once("-0-").expect("a shard");
        assert_eq!(gateway.logged("\"sessions\":\"", "-…"), of_gateway, "{name}");
        begin.push(of_gateway.to_owned());
    }
    assert!(begin.iter().any(|other| *other != begin[0]), "{begin:?}");
}

#[tokio::test]
async fn two_sessions_have_two_names() {
    let (_kafka, gateway) = gateway(|_| ()).await;
    let mut names = Vec::new();
    for _ in 0..8 {
        let mut client = Client::connect(gateway.url(), &ClientOptions::default()).await.expect("a session");
        let Incoming::Control { frame, .. } = client.next().await else { panic!("no hello") };
        let hello: serde_json::Value = serde_json::from_str(frame.as_str()).expect("JSON");
        names.push(hello["session"].to_string());
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 8);
}

#[tokio::test]
async fn the_subprotocol_is_the_one_that_is_served() {
    let (_kafka, gateway) = gateway(|_| ()).await;
    for (offer, expected) in [
        ("Sec-WebSocket-Protocol: tickgate.v1.json\r\n", Some("tickgate.v1.json")),
        ("Sec-WebSocket-Protocol: tickgate.v1.sbe, tickgate.v1.json\r\n", Some("tickgate.v1.json")),
        (
            "Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Protocol: tickgate.v1.json\r\n",
            Some("tickgate.v1.json"),
        ),
        ("", None),
    ] {
        let mut raw = Raw::connect(gateway.url()).await;
        raw.send(handshake(offer).as_bytes()).await;
        let head = raw.head().await.to_lowercase();
        assert!(head.starts_with("http/1.1 101 "), "{offer}: {head}");
        let line = head.lines().find_map(|line| line.strip_prefix("sec-websocket-protocol: "));
        assert_eq!(line, expected, "{offer}");
        assert_eq!(raw.json().await["op"], "hello");
    }
    for offer in ["tickgate.v1.sbe", "mqtt", "", ",,", "tickgate.v1.jsonx", "TICKGATE.V1.JSON"] {
        let mut raw = Raw::connect(gateway.url()).await;
        raw.send(handshake(&format!("Sec-WebSocket-Protocol: {offer}\r\n")).as_bytes()).await;
        let (status, _, body) = raw.refusal().await;
        assert_eq!(status, 400, "{offer:?}: {body}");
    }
}

/// Every refusal has a status of its own and one line of JSON that says why, and closes the connection.
#[tokio::test]
async fn what_is_no_handshake_is_refused_with_a_reason() {
    let (_kafka, gateway) = gateway(|_| ()).await;
    let good = handshake("");
    let without = |name: &str| -> String {
        good.split_inclusive("\r\n").filter(|line| !line.starts_with(name)).collect()
    };
    let cases = [
        ("path", good.replace("/v1/stream", "/v1/streams"), 404),
        ("root", good.replace("/v1/stream", "/"), 404),
        ("method", good.replace("GET", "POST"), 405),
        ("head method", good.replace("GET", "OPTIONS"), 405),
        ("no upgrade", without("Upgrade"), 426),
        ("h2c", good.replace("websocket", "h2c"), 426),
        ("version", good.replace("Version: 13", "Version: 8"), 426),
        ("no version", without("Sec-WebSocket-Version"), 426),
        ("no connection", without("Connection"), 400),
        ("connection", good.replace("Connection: Upgrade", "Connection: keep-alive"), 400),
        ("no key", without("Sec-WebSocket-Key"), 400),
        ("short key", good.replace("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ=="), 400),
        ("no base64", good.replace("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j!!=="), 400),
        ("two keys", handshake("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), 400),
        ("a body", handshake("Content-Length: 5\r\n") + "hello", 400),
        ("chunks", handshake("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n", 400),
        ("HTTP/1.0", good.replace("HTTP/1.1", "HTTP/1.0"), 400),
    ];
    let count = cases.len() as u64;
    for (what, request, expected) in cases {
        let mut raw = Raw::connect(gateway.url()).await;
        raw.send(request.as_bytes()).await;
        let (status, head, body) = raw.refusal().await;
        assert_eq!(status, expected, "{what}: {head}{body}");
        assert_eq!(body.matches('\n').count(), 1, "{what}: one line: {body:?}");
        let reason: serde_json::Value = serde_json::from_str(&body).expect(what);
        assert!(reason["error"].as_str().is_some_and(|text| text.len() > 5), "{what}: {body}");
        if expected == 426 {
            assert!(
                head.contains("sec-websocket-version: 13") && head.contains("upgrade: websocket"),
                "{head}"
            );
        }
        if expected == 405 {
            assert!(head.contains("allow: get"), "{head}");
        }
    }
    until("they are counted", || gateway.refused(RefuseReason::BadRequest) == count).await;
    gateway.client().await;
}

#[tokio::test]
async fn a_query_and_odd_but_legal_headers_are_fine() {
    let (_kafka, gateway) = gateway(|_| ()).await;
    for request in [
        handshake("").replace("/v1/stream", "/v1/stream?who=me"),
        handshake("").replace("Connection: Upgrade", "connection: keep-alive, UPGRADE"),
        handshake("").replace("Upgrade: websocket", "UPGRADE: foo, WebSocket"),
        handshake("X-Name: caf\u{e9} \u{4f60}\r\nCookie: \u{1f600}\r\n"),
        handshake("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"),
        handshake(&"X-Many: x\r\n".repeat(50)),
        handshake(&format!("Cookie: {}\r\n", "c".repeat(7 << 10))),
    ] {
        let mut raw = Raw::connect(gateway.url()).await;
        raw.send(request.as_bytes()).await;
        let head = raw.head().await.to_lowercase();
        assert!(head.starts_with("http/1.1 101 "), "{request}: {head}");
        assert!(!head.contains("extensions"), "none is served: {head}");
        assert_eq!(raw.json().await["op"], "hello");
    }
}

/// Nothing that comes instead of a head may do more than end its own connection.
#[tokio::test]
async fn heads_that_are_too_big_or_no_http_are_refused() {
    let (_kafka, gateway) = gateway(|_| ()).await;
    let bad = handshake("");
    for (what, request) in [
        ("80 headers", handshake(&(0..80).map(|n| format!("X-{n}: x\r\n")).collect::<String>()).into_bytes()),
        ("20 KiB", handshake(&format!("Cookie: {}\r\n", "c".repeat(20 << 10))).into_bytes()),
        ("20 KiB path", bad.replace("/v1/stream", &"/v1".repeat(7 << 10)).into_bytes()),
        ("noise", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec()),
        ("a header name with a space", handshake("X Y: z\r\n").into_bytes()),
        ("a folded header", handshake("X: y\r\n z\r\n").into_bytes()),
        ("a null", handshake("X: y\0z\r\n").into_bytes()),
        ("HTTP/3.0", bad.replace("HTTP/1.1", "HTTP/3.0").into_bytes()),
        ("two lengths", handshake("Content-Length: 1\r\nContent-Length: 2\r\n").into_bytes()),
    ] {
        let mut raw = Raw::connect(gateway.url()).await;
        raw.send(&request).await;
        let answer = raw.rest().await;
        let is_4xx = answer.starts_with(b"HTTP/1.1 4") || answer.starts_with(b"HTTP/1.0 4");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || is_4xx, "{what}: {answer:?}");
        // Those that hyper gives by itself came without a reason.
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let is_told = body.starts_with("{\"error\":\"") && body.ends_with("\"}\n");
        assert!(answer.is_empty() || is_told, "{what}: {answer:?}");
    }
    gateway.client().await;
}

#[tokio::test]
async fn a_head_that_does_not_come_is_given_up() {
    let (_kafka, gateway) = gateway(|config| config.limits.head_timeout_ms = 300).await;
    for begun in ["", "GET /v1/stream HTTP/1.1\r\nHost: x\r\n"] {
        let start = Instant::now();
        let mut raw = Raw::connect(gateway.url()).await;
        raw.send(begun.as_bytes()).await;
        raw.rest().await;
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(290) && took < SOON, "{begun:?}: {took:?}");
    }
    // One byte now and then does not keep it alive either.
    let mut raw = Raw::connect(gateway.url()).await;
    let request = handshake("");
    let mut bytes = request.bytes();
    while raw.is_quiet(Duration::from_millis(20)).await {
        let Some(byte) = bytes.next() else {
            panic!("a head of {} bytes over 20 ms each was taken", request.len())
        };
        raw.send(&[byte]).await;
    }
    until("they are counted", || gateway.refused(RefuseReason::Head) == 3).await;
}

/// A client need not wait for the answer to its handshake before it asks for something.
#[tokio::test]
async fn what_is_pipelined_behind_the_handshake_is_read() {
    let (_kafka, gateway) = gateway(|_| ()).await;
    let mut bytes = handshake("").into_bytes();
    for id in 0..3 {
        bytes.extend(text(&json!({"op": "ping", "id": id}).to_string()));
    }
    // The head and half of a frame at once, then the rest.
    let split = bytes.len() - 20;
    let mut raw = Raw::connect(gateway.url()).await;
    raw.send(&bytes[..split]).await;
    assert!(raw.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(raw.json().await["op"], "hello");
    assert_eq!(raw.json().await["id"], 0);
    raw.send(&bytes[split..]).await;
    assert_eq!(raw.json().await["id"], 1);
    assert_eq!(raw.json().await["id"], 2);

    let mut leaves_at_once = Raw::connect(gateway.url()).await;
    let bytes = [handshake("").into_bytes(), frame(true, CLOSE, &1000u16.to_be_bytes())].concat();
    leaves_at_once.send(&bytes).await;
    assert!(leaves_at_once.head().await.starts_with("HTTP/1.1 101 "));
    until("only the first is left", || gateway.sessions() == 1).await;
}

#[tokio::test]
async fn only_listed_origins_may_connect() {
    let (_kafka, gateway) =
        gateway(|config| config.session.allowed_origins = vec!["https://example.com".to_owned()]).await;
    for (origin, expected) in [
        ("Origin: https://example.com\r\n", 101),
        ("", 101),
        ("Origin: https://example.com.evil.org\r\n", 403),
        ("Origin: http://example.com\r\n", 403),
        ("Origin: null\r\n", 403),
        ("Origin: \u{e9}\r\n", 403),
        ("Origin: https://evil.org\r\nOrigin: https://example.com\r\n", 403),
    ] {
        let mut raw = Raw::connect(gateway.url()).await;
        raw.send(handshake(origin).as_bytes()).await;
        let head = raw.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {expected} ")), "{origin}: {head}");
    }
    until("they are counted", || gateway.refused(RefuseReason::Origin) == 5).await;
}

#[tokio::test]
async fn a_full_gateway_says_so_and_gives_places_back() {
    let (_kafka, gateway) = gateway(|config| {
        config.limits.sessions_max = 3;
        config.limits.head_timeout_ms = 300;
    })
    .await;
    // Handshakes that fail give their place back, however they fail.
    for request in ["GET /other HTTP/1.1\r\nHost: x\r\n\r\n", "noise\r\n\r\n", ""] {
        for _ in 0..5 {
            let mut raw = Raw::connect(gateway.url()).await;
            raw.send(request.as_bytes()).await;
            if request.is_empty() {
                raw.finish().await;
            }
            raw.rest().await;
        }
    }
    for round in 0..3 {
        let mut held = Vec::new();
        let deadline = Instant::now() + SOON;
        while held.len() < 3 {
            // The last round's places come back when its sockets are found closed.
            match Client::connect(gateway.url(), &ClientOptions::default()).await {
                Ok(client) => held.push(client),
                Err(_) if round > 0 && Instant::now() < deadline => {
                    // tidy: allow(sleep) it only paces the polling, which has a bound
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
        let mut raw = Raw::connect(gateway.url()).await;
        raw.send(handshake("").as_bytes()).await;
        let (status, head, body) = raw.refusal().await;
        assert_eq!(status, 503, "{head}");
        assert!(head.contains("retry-after: "), "{head}");
        assert_eq!(body, "{\"error\":\"too many sessions\"}\n");
        // Half of them say goodbye, the others just vanish.
        let last = held.pop().expect("three");
        last.close(1000, "").await;
    }
}
