//! What good records may look like, and what of them reaches a client.

use crate::harness::session::{Session, fields};
use crate::harness::{Gateway, Kafka, quote, trade};
use crate::kafkas;
use rdkafka::producer::BaseRecord;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

kafkas!(
    compressed_in_every_way,
    several_ticks_in_one_record_stay_together,
    without_a_time_of_their_own,
    with_a_clock_ahead_of_ours,
    numbers_and_texts,
);

async fn compressed_in_every_way(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    let gateway = Gateway::start(kafka.config(&topic)).await;
    let mut session = Session::everything(&gateway).await;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let records = kafka.producer_with(&topic, &[("compression.type", codec), ("linger.ms", "20")]);
        let ticks: Vec<_> = (0..500).map(|i| trade(codec, &i.to_string())).collect();
        records.send_to(0, &ticks);
        let events = session.events(500).await;
        assert_eq!(fields(&events, "price"), (0..500).map(|i| i.to_string()).collect::<Vec<_>>(), "{codec}");
        assert!(events.iter().all(|event| event["symbol"] == codec));
    }
    session.verify();
    gateway.finish().await;
}

async fn several_ticks_in_one_record_stay_together(kafka: Kafka) {
    const TICKS: usize = 3_000;
    let topic = kafka.topic(1).await;
    let records = kafka.producer(&topic);
    let gateway = Gateway::start(kafka.config(&topic)).await;
    let mut session = Session::everything(&gateway).await;
    records.send(&trade("AAPL", "0"));
    let first = session.event().await;

    let mut mixed = [
        trade("AAPL", "1"),
        quote("AAPL", "1", "2"),
        trade("MSFT", "7"),
        trade("AAPL", "2"),
        trade("AAPL", "3"),
    ];
    for (at, tick) in mixed.iter_mut().enumerate() {
        (tick["event_ns"], tick["send_ns"]) = (json!(100 + at), json!(200 + at));
    }
    records.send(&json!(mixed));
    let events = session.events(5).await;
    assert!(
        events.iter().all(|event| event["seq"] == events[0]["seq"]),
        "one record, one position: {events:?}"
    );
    let aapl: Vec<_> = events
        .iter()
        .filter(|event| event["symbol"] == "AAPL" && event["type"] == "trade")
        .cloned()
        .collect();
    assert_eq!(fields(&aapl, "price"), ["1", "2", "3"]);
    assert!(aapl.iter().all(|event| event["prev"] == first["seq"]), "they share `prev` too: {aapl:?}");
    // Once, all had the clocks of the last one.
    assert_eq!(fields(&aapl, "event_ns"), ["100", "103", "104"]);
    assert_eq!(fields(&aapl, "send_ns"), ["200", "203", "204"]);
    let asked = json!({"channel": "trades", "symbols": ["AAPL"], "snapshot": 3});
    let kept = Session::open(&gateway, &[asked]).await.events(3).await;
    assert_eq!(fields(&kept, "event_ns"), ["100", "103", "104"], "as they were kept");

    // Larger than a frame is meant to be: it is one all the same.
    let many: Vec<_> = (0..TICKS).map(|i| trade("AAPL", &i.to_string())).collect();
    records.send(&Value::Array(many));
    let frame = session.frame().await;
    assert_eq!(frame.len(), TICKS);
    assert_eq!(fields(&frame, "price"), (0..TICKS).map(|i| i.to_string()).collect::<Vec<_>>());
    assert!(frame.iter().all(|event| event["seq"] == frame[0]["seq"] && event["prev"] == aapl[0]["seq"]));
    records.send(&trade("AAPL", "9"));
    assert_eq!(session.event().await["prev"], frame[0]["seq"]);
    // No ticks at all is no fault.
    records.raw("AAPL", None, b"[]");
    records.send(&trade("AAPL", "10"));
    assert_eq!(session.event().await["price"], "10");
    gateway.metric_is("tickgate_feed_bad_records_total{reason=\"empty\"}", 0.0).await;
    session.verify();
    gateway.finish().await;
}

async fn without_a_time_of_their_own(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    let records = kafka.producer(&topic);
    let gateway = Gateway::start(kafka.config(&topic)).await;
    let mut session = Session::everything(&gateway).await;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let timestamp_ms = now_ms - 1_234;
    let value = json!({"type": "trade", "symbol": "AAPL", "price": "1", "size": "1"}).to_string();
    let record = BaseRecord::to(&topic).key("AAPL").payload(&value).timestamp(timestamp_ms);
    assert!(records.client().send(record).is_ok(), "there is room");
    records.flush();
    let event = session.event().await;
    assert_eq!(event["event_ns"], json!((timestamp_ms * 1_000_000).to_string()));
    assert_eq!(event["send_ns"], Value::Null);
    let ingest_ns: i64 = event["ingest_ns"].as_str().and_then(|text| text.parse().ok()).expect("a time");
    assert!(ingest_ns >= now_ms * 1_000_000, "our own clock says when it came");
    gateway.finish().await;
}

async fn with_a_clock_ahead_of_ours(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    let gateway = Gateway::start(kafka.config(&topic)).await;
    let mut session = Session::everything(&gateway).await;
    let now_ns = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as i64;
    let ahead_ns = now_ns + 3_600_000_000_000;
    let tick = |event_ns: i64| json!({"type": "trade", "symbol": "AAPL", "price": "1", "size": "1", "event_ns": event_ns});
    kafka.producer(&topic).send_all(&[tick(now_ns), tick(ahead_ns), tick(now_ns)]);
    let events = session.events(3).await;
    let times = [now_ns, ahead_ns, now_ns].map(|ns| ns.to_string());
    assert_eq!(fields(&events, "event_ns"), times, "as they are, in the order of the partition");
    gateway.metric_is("tickgate_feed_clock_ahead_total", 1.0).await;
    session.verify();
    gateway.finish().await;
}

async fn numbers_and_texts(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    let gateway = Gateway::start(kafka.config(&topic)).await;
    let mut session = Session::everything(&gateway).await;
    let time = 1_723_161_599_123_456_789_i64;
    let trade = |price: Value, size: Value, time: Value| json!({"type": "trade", "symbol": "X", "price": price, "size": size, "event_ns": time, "send_ns": time, "side": "buy"});
    kafka.producer(&topic).send_all(&[
        trade(json!("487.50"), json!("100"), json!(time)),
        trade(json!(487.5), json!(100), json!(time.to_string())),
        trade(json!("-37.63"), json!("0.00000001"), json!(time)),
        json!({"type": "quote", "symbol": "X", "bid_price": 2, "bid_size": "0", "ask_price": "1.50", "ask_size": 3, "event_ns": 1}),
        json!({"type": "book", "symbol": "X", "bids": [[1.5, "2"]], "asks": [["1.60", 3]], "snapshot": true, "event_ns": 1}),
    ]);
    let events = session.events(5).await;
    assert_eq!(fields(&events[..3], "price"), ["487.50", "487.5", "-37.63"], "texts are kept to the letter");
    assert_eq!(fields(&events[..3], "size"), ["100", "100", "0.00000001"]);
    for event in &events[..3] {
        assert_eq!(event["event_ns"], json!(time.to_string()));
        assert_eq!(event["send_ns"], json!(time.to_string()), "when it was meant to be sent is passed on");
        assert_eq!(event["side"], "buy");
    }
    let quote = ["bid_price", "bid_size", "ask_price", "ask_size"].map(|field| events[3][field].as_str());
    assert_eq!(quote, [Some("2"), Some("0"), Some("1.50"), Some("3")], "crossed, and passed on as it is");
    assert_eq!((&events[4]["bids"], &events[4]["asks"]), (&json!([["1.5", "2"]]), &json!([["1.60", "3"]])));
    session.verify();
    gateway.finish().await;
}
