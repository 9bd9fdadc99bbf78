//! Records that cannot be read: counted by reason, copied aside if wanted, and without effect on any other.

use crate::harness::session::{Session, fields};
use crate::harness::{Gateway, Kafka, Records, trade};
use crate::kafkas;
use rdkafka::producer::BaseRecord;
use serde_json::json;
use std::collections::BTreeMap;
use tickgate_protocol::record::RecordError;

kafkas!(
    are_counted_by_reason_and_cost_no_other,
    are_copied_to_the_dead_letter_topic,
    a_missing_dead_letter_topic_stops_nothing,
    one_bad_element_costs_its_neighbours_nothing,
);

const RECORD_BYTES_MAX: usize = 64 << 10;

/// One of each kind of bad record, with the reason it is to be counted under. `None` is a tombstone.
fn bad() -> Vec<(&'static str, Option<Vec<u8>>)> {
    let text = |reason, text: &str| (reason, Some(text.as_bytes().to_vec()));
    let in_trade = |reason, extra: &str| {
        text(reason, &format!(r#"{{"type":"trade","symbol":"BAD","price":"1","size":"1",{extra}}}"#))
    };
    vec![
        text("not_json", "certainly not JSON"),
        text("not_json", r#"{"type":"trade","symbol":"BAD","price":"1","#),
        text("not_json", "\"a string\""),
        text("not_json", "17"),
        (
            "not_json",
            Some(b"{\"type\":\"trade\",\"symbol\":\"\xff\xfe\",\"price\":\"1\",\"size\":\"1\"}".to_vec()),
        ),
        ("not_json", Some(vec![0; 100])),
        text("missing_field", r#"{"type":"trade","symbol":"BAD","price":"1"}"#),
        text("missing_field", r#"{"symbol":"BAD","price":"1","size":"1"}"#),
        text("missing_field", r#"{"type":"quote","symbol":"BAD","bid_price":"1","bid_size":"1"}"#),
        text("missing_field", "{}"),
        text("unknown_type", r#"{"type":"weather","symbol":"BAD"}"#),
        text("bad_number", r#"{"type":"trade","symbol":"BAD","price":"a lot","size":"1"}"#),
        text("bad_number", r#"{"type":"trade","symbol":"BAD","price":true,"size":"1"}"#),
        text("bad_number", r#"{"type":"trade","symbol":"BAD","price":"1234567890123456789012","size":"1"}"#),
        in_trade("bad_time", r#""event_ns":"yesterday""#),
        in_trade("bad_time", r#""event_ns":-5"#),
        in_trade("bad_value", r#""side":"sideways""#),
        text("bad_symbol", r#"{"type":"trade","symbol":"B*D","price":"1","size":"1"}"#),
        text("bad_symbol", r#"{"type":"trade","symbol":"","price":"1","size":"1"}"#),
        text("too_deep", &format!("{}{}", "[".repeat(5_000), "]".repeat(5_000))),
        text("too_deep", &format!(r#"{{"x":{}1{}}}"#, r#"{"x":"#.repeat(100), "}".repeat(100))),
        text("oversize", &trade("BAD", &"9".repeat(RECORD_BYTES_MAX)).to_string()),
        // Close to the most that Kafka takes by default.
        ("oversize", Some(vec![b'['; 900_000])),
        text("empty", ""),
        text("empty", " \n"),
        ("empty", None),
    ]
}

fn send_bad(records: &Records, value: Option<&[u8]>) {
    match value {
        Some(value) => records.queue("BAD", Some(0), value),
        None => {
            let tombstone = BaseRecord::<_, [u8]>::to(records.topic()).key("BAD").partition(0);
            assert!(records.client().send(tombstone).is_ok(), "there is room");
        }
    }
}

async fn counted(gateway: &Gateway, times: u64) {
    let mut wanted: BTreeMap<&str, u64> = RecordError::LABELS.into_iter().map(|label| (label, 0)).collect();
    for (reason, _) in bad() {
        *wanted.get_mut(reason).expect("a reason that exists") += times;
    }
    assert!(wanted.values().all(|count| *count > 0), "every reason is tried: {wanted:?}");
    for (reason, count) in wanted {
        let line = format!("tickgate_feed_bad_records_total{{reason=\"{reason}\"}}");
        gateway.metric_is(&line, count as f64).await;
    }
}

/// One in a hundred records of the feed is bad.
async fn are_counted_by_reason_and_cost_no_other(kafka: Kafka) {
    const ROUNDS: u64 = 2;
    let topic = kafka.topic(1).await;
    let records = kafka.producer(&topic);
    let mut config = kafka.config(&topic);
    config.kafka.record_bytes_max = RECORD_BYTES_MAX;
    let gateway = Gateway::start(config).await;
    let mut session = Session::everything(&gateway).await;
    let bad = bad();
    let count = ROUNDS as usize * bad.len() * 99;
    for i in 0..count {
        let tick = trade(&format!("S{}", i % 5), &i.to_string()).to_string();
        records.queue("", Some(0), tick.as_bytes());
        if i % 99 == 98 {
            send_bad(&records, bad[i / 99 % bad.len()].1.as_deref());
        }
    }
    records.flush();
    let wanted: Vec<String> = (0..count).map(|i| i.to_string()).collect();
    assert_eq!(fields(&session.events(count).await, "price"), wanted);
    counted(&gateway, ROUNDS).await;
    gateway.metric_is("tickgate_feed_records_total", (count + ROUNDS as usize * bad.len()) as f64).await;
    gateway.metric_is("tickgate_feed_dead_letters_total", 0.0).await;
    gateway.metric_is("tickgate_feed_symbols_known", 5.0).await;
    let tally = session.verify();
    assert_eq!((tally.gaps, tally.unverified), (0, 0));
    gateway.finish().await;
}

async fn are_copied_to_the_dead_letter_topic(kafka: Kafka) {
    let (topic, letters) = (kafka.topic(1).await, kafka.topic(1).await);
    let records = kafka.producer(&topic);
    let mut config = kafka.config(&topic);
    config.kafka.record_bytes_max = RECORD_BYTES_MAX;
    config.kafka.dead_letter_topic.clone_from(&letters);
    let gateway = Gateway::start(config).await;
    let bad = bad();
    for (_, value) in &bad {
        send_bad(&records, value.as_deref());
        records.queue("GOOD", Some(0), trade("GOOD", "1").to_string().as_bytes());
    }
    records.flush();
    gateway.metric_is("tickgate_feed_dead_letters_total", bad.len() as f64).await;
    let mut copies: Vec<_> = kafka.read(&letters, bad.len());
    // Order among copies is not promised: a producer may have had to send one again.
    copies.sort_by_key(|copy| copy.headers["tickgate.offset"].parse::<usize>().expect("an offset"));
    for (at, ((reason, value), copy)) in bad.iter().zip(&copies).enumerate() {
        assert_eq!(copy.value, value.clone().unwrap_or_default(), "{reason}: byte by byte");
        assert_eq!(copy.key, "BAD");
        let wanted = [
            ("tickgate.reason", (*reason).to_owned()),
            ("tickgate.topic", topic.clone()),
            ("tickgate.partition", "0".to_owned()),
            ("tickgate.offset", (2 * at).to_string()),
        ];
        let wanted: BTreeMap<_, _> =
            wanted.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        assert_eq!(copy.headers, wanted);
    }
    counted(&gateway, 1).await;
    gateway.metric_is("tickgate_feed_dead_letters_lost_total", 0.0).await;
    gateway.finish().await;
}

/// More copies than its queue holds, none of which can be written.
async fn a_missing_dead_letter_topic_stops_nothing(kafka: Kafka) {
    const COUNT: usize = 3_000;
    let topic = kafka.topic(1).await;
    let records = kafka.producer(&topic);
    let mut config = kafka.config(&topic);
    config.kafka.dead_letter_topic = kafka.topic_name();
    let gateway = Gateway::start(config).await;
    let mut session = Session::everything(&gateway).await;
    for i in 0..COUNT {
        records.queue("", Some(0), b"not JSON");
        records.queue("", Some(0), trade("GOOD", &i.to_string()).to_string().as_bytes());
    }
    records.flush();
    let wanted: Vec<String> = (0..COUNT).map(|i| i.to_string()).collect();
    assert_eq!(fields(&session.events(COUNT).await, "price"), wanted);
    gateway.metric_is("tickgate_feed_bad_records_total{reason=\"not_json\"}", COUNT as f64).await;
    gateway.metric_is("tickgate_feed_dead_letters_total", 0.0).await;
    let lost = gateway.metric("tickgate_feed_dead_letters_lost_total").await.expect("it is shown");
    assert!(lost >= COUNT as f64 - 1_000.0, "what there is no room for is counted: {lost}");
    session.verify();
    gateway.finish().await;
}

async fn one_bad_element_costs_its_neighbours_nothing(kafka: Kafka) {
    let (topic, letters) = (kafka.topic(1).await, kafka.topic(1).await);
    let mut config = kafka.config(&topic);
    config.kafka.dead_letter_topic.clone_from(&letters);
    let gateway = Gateway::start(config).await;
    let mut session = Session::everything(&gateway).await;
    let record = json!([
        trade("AAPL", "1"),
        {"type": "trade", "symbol": "AAPL", "price": "much", "size": "1"},
        trade("MSFT", "2"),
        {"type": "tide", "symbol": "AAPL"},
    ]);
    kafka.producer(&topic).send(&record);
    let events = session.events(2).await;
    assert_eq!(fields(&events, "price"), ["1", "2"]);
    assert_eq!(events[0]["seq"], events[1]["seq"]);
    gateway.metric_is("tickgate_feed_bad_records_total{reason=\"bad_number\"}", 1.0).await;
    gateway.metric_is("tickgate_feed_bad_records_total{reason=\"unknown_type\"}", 1.0).await;
    // One record, one copy, with the first of its reasons.
    gateway.metric_is("tickgate_feed_dead_letters_total", 1.0).await;
    let copy = &kafka.read(&letters, 1)[0];
    assert_eq!(copy.value, record.to_string().into_bytes());
    assert_eq!(copy.headers["tickgate.reason"], "bad_number");
    session.verify();
    gateway.finish().await;
}
