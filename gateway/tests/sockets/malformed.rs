//! Requests that are no opening handshake, each with a good one behind it: none is served, each is told why, and what
//! stands behind it is not read.

use crate::harness::{Gateway, Kafka, SOON};
use crate::raw::{Raw, handshake};
use std::time::Instant;

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn without(name: &str) -> String {
    handshake("").split_inclusive("\r\n").filter(|line| !line.starts_with(name)).collect()
}

/// What it is, the bytes, and the status it is answered with.
fn malformed() -> Vec<(&'static str, Vec<u8>, u16)> {
    let good = handshake("");
    let more = |headers: &str| handshake(headers);
    let mut cases: Vec<(&str, Vec<u8>, u16)> = [
        ("POST", good.replace("GET", "POST"), 405),
        ("HEAD", good.replace("GET", "HEAD"), 405),
        ("a method of its own", good.replace("GET", "WS"), 405),
        ("CONNECT", good.replace("GET /v1/stream", "CONNECT x:80"), 404),
        ("all of the server", good.replace("/v1/stream", "*"), 404),
        ("another path", good.replace("/v1/stream", "/v1/stream/"), 404),
        ("an escaped path", good.replace("/v1/stream", "/v1/%73tream"), 404),
        ("dots", good.replace("/v1/stream", "/v1/../v1/stream"), 404),
        ("a path of 3 KiB", good.replace("/v1/stream", &format!("/v1/stream?{}", "q".repeat(3 << 10))), 414),
        ("a path of 20 KiB", good.replace("/v1/stream", &"/x".repeat(10 << 10)), 431),
        ("HTTP/1.0", good.replace("HTTP/1.1", "HTTP/1.0"), 400),
        ("HTTP/0.9", "GET /v1/stream\r\n\r\n".to_owned(), 400),
        ("HTTP/2.0", good.replace("HTTP/1.1", "HTTP/2.0"), 400),
        ("no Host", without("Host"), 400),
        ("two Hosts", more("Host: y\r\n"), 400),
        ("no Upgrade", without("Upgrade"), 426),
        ("h2c", good.replace("websocket", "h2c"), 426),
        ("Upgrade that only begins so", good.replace("websocket", "websocketx"), 426),
        ("no Connection", without("Connection"), 400),
        ("Connection: close", good.replace("Connection: Upgrade", "Connection: close"), 400),
        ("no version", without("Sec-WebSocket-Version"), 426),
        ("version 8", good.replace("Version: 13", "Version: 8"), 426),
        ("versions 13 and 8", more("Sec-WebSocket-Version: 8\r\n"), 426),
        ("versions 13 and 13", more("Sec-WebSocket-Version: 13\r\n"), 426),
        ("version 13, 13", good.replace("Version: 13", "Version: 13, 13"), 426),
        ("version 013", good.replace("Version: 13", "Version: 013"), 426),
        ("no key", without("Sec-WebSocket-Key"), 400),
        ("two keys", more(KEY), 400),
        ("a key of 15 bytes", good.replace("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j"), 400),
        (
            "a key of 24 bytes",
            good.replace("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQQQdGhlIHNh"),
            400,
        ),
        ("a key that is no base64", good.replace("dGhl", "d!hl"), 400),
        ("a body", more("Content-Length: 5\r\n"), 400),
        ("an empty body", more("Content-Length: 0\r\n"), 400),
        ("chunks", more("Transfer-Encoding: chunked\r\n"), 400),
        ("chunks and a length", more("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), 400),
        ("two lengths", more("Content-Length: 5\r\nContent-Length: 6\r\n"), 400),
        ("a length of -1", more("Content-Length: -1\r\n"), 400),
        ("another subprotocol", more("Sec-WebSocket-Protocol: mqtt\r\n"), 400),
        ("a page from elsewhere", more("Origin: https://evil.org\r\n"), 403),
        ("a header without a name", more(": x\r\n"), 400),
        ("a header name with a space", more("X Y: z\r\n"), 400),
        ("a space before the colon", more("X : z\r\n"), 400),
        ("a folded header", more("X: y\r\n z\r\n"), 400),
        ("a NUL", more("X: y\0z\r\n"), 400),
        ("a bare CR", more("X: y\rz\r\n"), 400),
        ("80 headers", more(&(0..80).map(|n| format!("X-{n}: x\r\n")).collect::<String>()), 431),
        ("10,000 headers", more(&"a:b\r\n".repeat(10_000)), 431),
        ("a header of 9 KiB", more(&format!("Cookie: {}\r\n", "c".repeat(9 << 10))), 431),
        ("a header of 500 KiB", more(&format!("Cookie: {}\r\n", "c".repeat(500 << 10))), 431),
        ("TLS", "\x16\x03\x01\x02\0\x01\0\x01\u{7c}\x03\x03\r\n\r\n".to_owned(), 400),
        ("noise", "\u{1}\u{2}\u{3}\r\n\r\n".to_owned(), 400),
    ]
    .map(|(what, text, status)| (what, text.into_bytes(), status))
    .into();
    // Bytes beyond ASCII, in every header that is read.
    for (name, status) in [
        ("Host", 400),
        ("Upgrade", 426),
        ("Connection", 400),
        ("Sec-WebSocket-Version", 426),
        ("Sec-WebSocket-Key", 400),
        ("Sec-WebSocket-Protocol", 400),
        ("Content-Length", 400),
        ("Transfer-Encoding", 400),
        ("Origin", 403),
    ] {
        // A Host may be anything, but there may be only one.
        let rest = if name == "Host" { good.clone() } else { without(name) };
        let mut bytes = rest.trim_end().as_bytes().to_vec();
        bytes.extend_from_slice(format!("\r\n{name}: ").as_bytes());
        bytes.extend(0x80..=0xffu8);
        bytes.extend_from_slice(b"\r\n\r\n");
        cases.push((name, bytes, status));
    }
    cases
}

#[tokio::test]
async fn nothing_but_a_handshake_is_served_and_each_is_told_why() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let gateway = Gateway::start(kafka.config(&topic)).await;
    let cases = malformed();
    assert!(cases.len() >= 24);
    for (what, bytes, expected) in cases {
        let mut raw = Raw::connect(gateway.url()).await;
        let start = Instant::now();
        raw.try_send(&[bytes.as_slice(), handshake("").as_bytes()].concat()).await;
        let answer = raw.rest().await;
        let took = start.elapsed();
        assert!(took < SOON / 4, "{what}: {took:?}");
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            !answer.contains(" 101 ") && answer.matches("content-type: ").count() <= 1,
            "{what}: {answer}"
        );
        if answer.is_empty() && bytes.len() > 8 << 10 {
            // What was not read resets the connection, and may overtake the answer.
            continue;
        }
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{what}: {answer:?}"));
        assert_eq!(head.split(' ').nth(1), Some(expected.to_string().as_str()), "{what}: {answer}");
        if what != "HEAD" {
            assert_eq!(body.matches('\n').count(), 1, "{what}: {body:?}");
            let reason: serde_json::Value = serde_json::from_str(body).expect(what);
            assert!(reason["error"].as_str().is_some_and(|text| text.len() > 5), "{what}: {body}");
        }
        if expected == 431 {
            assert!(body.contains("limits.head_bytes_max") && body.contains("64 headers"), "{what}: {body}");
        }
    }
    gateway.client().await;
}

/// Any page can have a browser connect to any address: without a list, only those of the same host and of the browser's own
/// machine may, where all could.
#[tokio::test]
async fn pages_from_elsewhere_may_not_connect() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let mut config = kafka.config(&topic);
    for (allowed, origins) in [
        (
            &["https://example.com"][..],
            &[
                ("https://example.com", 101),
                ("https://example.com.evil.org", 403),
                ("https://evilexample.com", 403),
                ("https://www.example.com", 403),
                ("https://example.com:8443", 403),
                ("http://example.com", 403),
                ("HTTPS://EXAMPLE.COM", 403),
                ("https://example.com.", 403),
                ("https://example.com/", 403),
                ("https://example.com@evil.org", 403),
                ("https://example.com https://evil.org", 403),
                ("https://evil.org\r\nOrigin: https://example.com", 403),
                ("https://example.com\r\nOrigin: https://example.com", 403),
                ("null", 403),
                ("", 403),
                ("\u{e9}", 403),
                ("http://localhost", 403),
            ][..],
        ),
        (&[], &[("http://x", 101), ("https://evil.org", 403), ("http://localhost:3000", 101), ("null", 403)]),
        (&["*"], &[("https://evil.org", 101), ("null", 101)]),
    ] {
        config.session.allowed_origins = allowed.iter().map(|&origin| origin.to_owned()).collect();
        let gateway = Gateway::start(config.clone()).await;
        for (origin, expected) in origins {
            let mut raw = Raw::connect(gateway.url()).await;
            raw.send(handshake(&format!("Origin: {origin}\r\n")).as_bytes()).await;
            let head = raw.head().await;
            assert!(head.starts_with(&format!("HTTP/1.1 {expected} ")), "{allowed:?} {origin:?}: {head}");
            if *expected == 403 {
                let body = String::from_utf8(raw.rest().await).expect("text");
                assert!(body.contains("session.allowed_origins"), "it says what to set: {body}");
            }
        }
    }
}
