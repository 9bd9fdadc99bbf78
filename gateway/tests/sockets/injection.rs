//! What strangers write, where it could do harm: in the log, in the metrics, in answers; and secrets, which are in none.

use crate::harness::process::Process;
use crate::harness::{Kafka, SOON};
use crate::raw::{Raw, handshake, text};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What ends lines, colours terminals, and breaks parsers.
const EVIL: &str = "a\r\nb\u{1b}[31m\u{7}\u{2028}\u{85}\\\"c";

/// A request whose every free text is meant to break the log.
fn evil(n: usize) -> Vec<u8> {
    match n % 6 {
        0 => handshake("User-Agent: \x1b[31mred\u{2028}\u{85}\r\n")
            .replace("/v1/stream", "/\u{1b}[31m")
            .into_bytes(),
        1 => handshake(&format!("User-Agent: {}\r\n", "u".repeat(10 << 10))).into_bytes(),
        2 => handshake("Origin: https://\u{2028}evil\t.org\r\n").into_bytes(),
        3 => handshake("Sec-WebSocket-Protocol: \u{1b}]0;title\u{7}\r\n").into_bytes(),
        4 => b"GET /v1/stream HTTP/1.1\r\nX: y\0\x1b\r\n\r\n".to_vec(),
        _ => handshake("").replace("/v1/stream", "/v1/%0d%0a{\"level\":\"ERROR\"}").into_bytes(),
    }
}

async fn knock(process: &Process, count: usize) {
    for n in 0..count {
        let mut raw = Raw::connect(&process.url).await;
        raw.try_send(&evil(n)).await;
        let answer = raw.rest().await;
        assert!(!answer.starts_with(b"HTTP/1.1 101"), "{n}");
    }
}

#[tokio::test]
async fn a_flood_of_bad_handshakes_is_a_few_lines_that_can_be_read() {
    const KNOCKS: usize = 3_000;
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let mut process =
        Process::start_logging(&kafka, &topic, &[], "info,tickgate_gateway=debug,librdkafka=off,rdkafka=off");
    let start = Instant::now();
    knock(&process, KNOCKS).await;
    let seconds = start.elapsed().as_secs() as usize + 1;
    let mut raw = Raw::session(&process.url).await;
    raw.say(&json!({"op": "subscribe", "id": EVIL, "subscriptions": [{"channel": EVIL, "symbols": [EVIL]}]}))
        .await;
    assert_eq!(raw.json().await["ok"], false);
    raw.say(&json!({"op": "subscribe", "id": 2, "cursor": EVIL, "subscriptions": [{"channel": "trades", "symbols": ["A"]}]}))
        .await;
    assert_eq!(raw.json().await["op"], "error");
    drop(raw);
    let deadline = Instant::now() + SOON;
    while process.metric("tickgate_connections_refused_total", "") < KNOCKS as f64 {
        assert!(Instant::now() < deadline, "{}", process.metric("tickgate_connections_refused_total", ""));
        // tidy: allow(sleep) it only paces the polling, which has a bound
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    process.signal("TERM");
    let log = process.whole_log();
    let mut refusals = 0;
    for line in log.lines() {
        let parsed: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        assert!(!line.contains(|c: char| c.is_control() || c == '\u{2028}'), "{line:?}");
        refusals += usize::from(parsed["fields"]["message"] == "connection refused");
    }
    println!("{KNOCKS} refused within {seconds} s: {refusals} lines of {}", log.lines().count());
    assert!(refusals >= 3 && refusals <= 100 * seconds, "{refusals} in {seconds} s");
}

#[tokio::test]
async fn no_series_is_made_of_what_strangers_write() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let process = Process::start(&kafka, &topic, &["limits.requests_per_s=1000"]);
    let series = || {
        let text = process.get("/metrics");
        let (_, body) = text.split_once("\r\n\r\n").expect("a body");
        body.lines().filter(|line| !line.starts_with('#')).count()
    };
    let mut raw = Raw::session(&process.url).await;
    let subscribe = |id: usize, symbols: Vec<String>| {
        text(&json!({"op": "subscribe", "id": id, "subscriptions": [{"channel": "trades", "symbols": symbols}]}).to_string())
    };
    raw.send(&subscribe(0, vec!["KNOWN".to_owned()])).await;
    assert_eq!(raw.json().await["op"], "ack");
    knock(&process, 6).await;
    let before = series();
    knock(&process, 300).await;
    let mut answered = 0;
    for id in 1..=40 {
        raw.send(&subscribe(id, (0..100).map(|n| format!("X{id}-{n}")).collect())).await;
        while answered < id {
            answered += usize::from(raw.json().await["op"] == "ack");
        }
    }
    assert_eq!(series(), before);
}

/// An answer repeated whatever a request had where it did not belong, up to the 256 KiB of a message.
#[tokio::test]
async fn errors_repeat_little_of_a_request() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let process = Process::start(&kafka, &topic, &[]);
    let mut raw = Raw::session(&process.url).await;
    let long = "x".repeat(200_000);
    for request in [
        format!("{{\"op\":{}", "[".repeat(100_000)),
        "[".repeat(100_000),
        format!("{{\"op\":\"ping\",\"id\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000)),
        json!({"op": long}).to_string(),
        json!({"op": "list", "subscriptions": long}).to_string(),
        json!({"op": "auth", "token": {"a": long}}).to_string(),
        json!({"op": "subscribe", "subscriptions": [{"channel": "trades", "symbols": long}]}).to_string(),
        json!({"op": "subscribe", "cursor": long, "subscriptions": [{"channel": "trades", "symbols": ["A"]}]}).to_string(),
        json!({"op": "subscribe", "subscriptions": [{"channel": "trades", "symbols": ["A"], "from": {"seq": long}}]})
            .to_string(),
        json!({"op": "set", "flush_ms": long}).to_string(),
    ] {
        let start = Instant::now();
        raw.send(&text(&request)).await;
        let (_, answer) = raw.frame().await.expect("an answer");
        let begin = &request[..request.len().min(60)];
        println!("{begin}: {:?}", start.elapsed());
        assert!(answer.len() < 400, "{begin}: {} bytes", answer.len());
        assert!(!answer.windows(65).any(|bytes| bytes.iter().all(|byte| *byte == b'x')), "{begin}");
    }
}

#[tokio::test]
async fn secrets_are_in_no_output() {
    const PASSWORD: &str = "correct-horse-battery";
    const TOKEN: &str = "staple-of-twenty-bytes";
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let settings = [format!("kafka.properties.sasl.password={PASSWORD}")];
    let mut process =
        Process::start_as(&kafka, &topic, &settings.each_ref().map(String::as_str), |command| {
            command.env("TICKGATE_LOG", "debug").env("TICKGATE_ADMIN_TOKEN", TOKEN);
            command.env("TICKGATE_REPLAY_CURSOR_KEY", PASSWORD);
        });
    for path in ["/", "/metrics", "/config", "/sessions", "/nothing", "/healthz/"] {
        for headers in ["", "Authorization: Bearer wrong-token-of-twenty\r\n"] {
            let answer = process.get_with(path, headers);
            assert!(answer.starts_with("HTTP/1.1 401 "), "{path}: {answer}");
            assert!(answer.to_lowercase().contains("www-authenticate: bearer"), "{answer}");
        }
    }
    let authorized = format!("Authorization: Bearer {TOKEN}\r\n");
    let mut outputs = vec![process.get("/healthz"), process.get("/readyz")];
    assert!(outputs.iter().all(|answer| answer.starts_with("HTTP/1.1 200 ")), "{outputs:?}");
    for path in ["/", "/metrics", "/config", "/sessions"] {
        let answer = process.get_with(path, &authorized);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        outputs.push(answer);
    }
    outputs.push(process.get_with("/config", &format!("{authorized}Accept: application/json\r\n")));
    assert!(
        outputs[4].contains("sasl.password") && outputs[4].contains("admin_token"),
        "it is shown: {}",
        outputs[4]
    );
    assert!(outputs[3].contains("tickgate_admin_refused_total 12\n"), "{}", outputs[3]);
    process.signal("TERM");
    outputs.push(process.whole_log());
    for output in outputs {
        assert!(!output.contains(PASSWORD) && !output.contains(TOKEN), "{output}");
    }
}
