//! Records that retention has taken before they were read.

use crate::harness::session::{Session, fields};
use crate::harness::{Gateway, Kafka, trade};
use crate::kafkas;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tickgate_protocol::Position;

kafkas!(overtakes_the_reader, overtakes_the_reader_on_every_partition);

fn numbered(symbol: &str, from: u32, count: u32) -> Vec<Value> {
    (from..from + count).map(|i| trade(symbol, &i.to_string())).collect()
}

/// A gateway whose fetches are answered three seconds after they were sent: in between it is behind. A record that comes
/// tells that the next fetch has just been sent.
async fn late_gateway(kafka: &Kafka, topic: &str) -> Gateway {
    let mut config = kafka.config(topic);
    for (name, value) in [("fetch.min.bytes", "10000000"), ("fetch.wait.max.ms", "3000")] {
        config.kafka.properties.insert(name.to_owned(), value.to_owned());
    }
    Gateway::start(config).await
}

fn at(event: &Value, field: &str) -> Position {
    event[field].as_str().and_then(|text| text.parse().ok()).expect("a position")
}

async fn overtakes_the_reader(kafka: Kafka) {
    let topic = kafka.topic(2).await;
    let records = kafka.producer(&topic);
    let gateway = late_gateway(&kafka, &topic).await;
    let mut session = Session::everything(&gateway).await;
    records.send_to(0, &numbered("GONE", 0, 3));
    records.send_to(1, &numbered("KEPT", 0, 1));
    let events = session.events(4).await;
    let first = events.clone();
    let last = events.iter().rfind(|event| event["symbol"] == "GONE").expect("three of them");
    // Offsets 3 to 12, of which 3 to 9 are taken away.
    records.send_to(0, &numbered("GONE", 3, 10));
    records.send_to(1, &numbered("KEPT", 1, 1));
    kafka.delete_records(&topic, 1, 10).await;

    let mut events = session.events(1 + 3 + 1).await;
    let kept =
        events.iter().position(|event| event["symbol"] == "KEPT").expect("the other partition goes on");
    assert_eq!(at(&events.remove(kept), "prev").offset, 0);
    let gap = &events[0];
    assert_eq!(gap["type"], "gap", "{first:#?} {events:#?}");
    assert_eq!(
        (&gap["type"], &gap["cause"], &gap["symbol"]),
        (&json!("gap"), &json!("upstream"), &json!("GONE"))
    );
    assert_eq!((&gap["after"], at(gap, "upto").offset), (&last["seq"], 9));
    assert_eq!(fields(&events[1..], "price"), ["10", "11", "12"]);
    assert_eq!(events[1]["prev"], gap["upto"]);
    gateway.metric_is("tickgate_feed_lost_offsets_total", 7.0).await;
    gateway.metric_is("tickgate_feed_topics_recreated_total", 0.0).await;
    assert_eq!(session.verify().gaps_by_cause.get("upstream"), Some(&1));
    gateway.ready().await;
    gateway.finish().await;
}

/// Out of range on several partitions at once: each has to be looked up, and one that is forgotten stands still for ever.
async fn overtakes_the_reader_on_every_partition(kafka: Kafka) {
    const PARTITIONS: i32 = 8;
    let topic = kafka.topic(PARTITIONS).await;
    let records = kafka.producer(&topic);
    let gateway = late_gateway(&kafka, &topic).await;
    let mut session = Session::everything(&gateway).await;
    let symbols: Vec<String> = (0..PARTITIONS).map(|partition| format!("S{partition}")).collect();
    let send = |from, count| {
        for (partition, symbol) in symbols.iter().enumerate() {
            for record in numbered(symbol, from, count) {
                records.queue(symbol, Some(partition as i32), record.to_string().as_bytes());
            }
        }
        records.flush();
    };
    send(0, 1);
    session.events(symbols.len()).await;
    send(1, 4);
    kafka.delete_records(&topic, PARTITIONS, 4).await;
    // Partition after partition loses its records, and the first loss is answered at once: what other partitions still
    // had is read before it goes. None stands still, whichever way it went.
    let mut gaps = 0;
    let mut ended = BTreeSet::new();
    while ended.len() < symbols.len() {
        let event = session.event().await;
        gaps += u32::from(event["type"] == "gap");
        if event["price"] == "4" {
            ended.insert(event["symbol"].to_string());
        }
    }
    assert!(gaps > 0, "the first at least");
    gateway.metric_is("tickgate_feed_lost_offsets_total", f64::from(3 * gaps)).await;
    assert_eq!(session.verify().gaps, u64::from(gaps));
    gateway.finish().await;
}
