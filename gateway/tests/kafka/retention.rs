//! Records that retention has taken before they were read.

use crate::harness::session::{Session, fields};
use crate::harness::{Gateway, Kafka, trade};
use crate::kafkas;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tickgate_protocol::Position;

kafkas!(overtakes_the_reader, overtakes_the_reader_on_every_partition);

/// How often records are written and taken away again until the reader is late for them.
const ATTEMPTS: u32 = 5;

fn numbered(symbol: &str, from: u32, count: u32) -> Vec<Value> {
    (from..from + count).map(|i| trade(symbol, &i.to_string())).collect()
}

/// A gateway whose fetches are answered three seconds after they were sent: in between it is behind. A record that comes
/// tells that the next fetch has just been sent. On a busy machine three seconds may still be too short to write and to
/// delete: then all is read, and the next attempt counts.
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
    let mut last = events.iter().rfind(|event| event["symbol"] == "GONE").expect("three of them").clone();
    for attempt in 0.. {
        assert!(attempt < ATTEMPTS, "the reader is never late");
        let next = 3 + 10 * attempt;
        let end = (next + 9).to_string();
        // Ten records, of which seven are taken away.
        records.send_to(0, &numbered("GONE", next, 10));
        records.send_to(1, &numbered("KEPT", 1 + attempt, 1));
        kafka.delete_records(&topic, 1, i64::from(next + 7)).await;
        let (mut gone, mut kept) = (Vec::new(), Vec::new());
        while kept.is_empty() || gone.last().is_none_or(|event: &Value| event["price"] != end) {
            let event = session.event().await;
            if event["symbol"] == "KEPT" { kept.push(event) } else { gone.push(event) }
        }
        assert_eq!((kept.len(), &kept[0]["type"]), (1, &json!("trade")), "the other partition goes on");
        if gone.len() == 10 {
            last = gone.remove(9);
            continue;
        }
        let gap = &gone[0];
        assert_eq!((&gap["type"], &gap["cause"]), (&json!("gap"), &json!("retention")));
        assert_eq!((&gap["after"], at(gap, "upto").offset), (&last["seq"], u64::from(next + 6)));
        assert_eq!(fields(&gone[1..], "price"), [7, 8, 9].map(|i| (next + i).to_string()));
        assert_eq!(gone[1]["prev"], gap["upto"]);
        break;
    }
    gateway.metric_is("tickgate_feed_lost_offsets_total", 7.0).await;
    gateway.metric_is("tickgate_feed_topics_recreated_total", 0.0).await;
    assert_eq!(session.verify().gaps_by_cause.get("retention"), Some(&1));
    gateway.ready().await;
    gateway.finish().await;
}

/// Out of range on several partitions at once: each has to be looked up, and one that is forgotten stands still for ever.
async fn overtakes_the_reader_on_every_partition(kafka: Kafka) {
    const PARTITIONS: u32 = 8;
    let topic = kafka.topic(PARTITIONS as i32).await;
    let records = kafka.producer(&topic);
    let gateway = late_gateway(&kafka, &topic).await;
    let mut session = Session::everything(&gateway).await;
    let send = |from, count| {
        for partition in 0..PARTITIONS {
            let symbol = format!("S{partition}");
            for record in numbered(&symbol, from, count) {
                records.queue(&symbol, Some(partition as i32), record.to_string().as_bytes());
            }
        }
        records.flush();
    };
    send(0, 1);
    session.events(PARTITIONS as usize).await;
    // Partition after partition loses its records, and the first loss is answered at once: what other partitions still
    // have is read before it goes. None stands still, whichever way it went.
    let mut gaps = 0;
    for attempt in 0.. {
        assert!(attempt < ATTEMPTS, "the reader is never late");
        let next = 1 + 4 * attempt;
        let end = (next + 3).to_string();
        send(next, 4);
        kafka.delete_records(&topic, PARTITIONS as i32, i64::from(next + 3)).await;
        let mut ended = BTreeSet::new();
        while ended.len() < PARTITIONS as usize {
            let event = session.event().await;
            gaps += u32::from(event["type"] == "gap");
            if event["price"] == end {
                ended.insert(event["symbol"].to_string());
            }
        }
        if gaps > 0 {
            break;
        }
    }
    gateway.metric_is("tickgate_feed_lost_offsets_total", f64::from(3 * gaps)).await;
    assert_eq!(session.verify().gaps, u64::from(gaps));
    gateway.finish().await;
}
