//! Positions: the same record has the same `seq` and `prev` on every gateway and after every restart.

use crate::harness::session::Session;
use crate::harness::{Gateway, Kafka, quote, trade};
use crate::kafkas;
use serde_json::{Value, json};
use std::collections::BTreeMap;

kafkas!(are_the_same_on_two_gateways, are_the_same_after_a_restart);

/// What a position is of: symbol, type and content; and what must be equal about it.
fn by_symbol(events: &[Value]) -> BTreeMap<String, Vec<[String; 4]>> {
    let mut all: BTreeMap<String, Vec<[String; 4]>> = BTreeMap::new();
    for event in events {
        let key = format!("{} {}", event["type"], event["symbol"]);
        let fields = ["seq", "prev", "price", "bid_price"].map(|field| event[field].to_string());
        all.entry(key).or_default().push(fields);
    }
    all
}

fn ticks(from: usize, count: usize) -> Vec<Value> {
    let tick = |i: usize| match i % 3 {
        0 => quote(&format!("S{}", i % 7), &format!("{i}"), &format!("{}", i + 1)),
        _ => trade(&format!("S{}", i % 7), &format!("{i}")),
    };
    (from..from + count).map(tick).collect()
}

async fn are_the_same_on_two_gateways(kafka: Kafka) {
    let topic = kafka.topic(3).await;
    let records = kafka.producer(&topic);
    let first = Gateway::start(kafka.config(&topic)).await;
    let mut on_first = Session::everything(&first).await;
    records.send_all(&ticks(0, 300));
    let mut seen_on_first = on_first.events(300).await;
    // The second knows the past by reading it back, as an instance that was started later would.
    let mut config = kafka.config(&topic);
    config.kafka.warm_up_records = 1_000;
    let second = Gateway::start(config).await;
    let both =
        [json!({"channel": "trades", "symbols": ["*"]}), json!({"channel": "quotes", "symbols": ["*"]})];
    let mut on_second = Session::open(&second, &both).await;
    let snapshots = on_second.events(7).await;
    assert!(snapshots.iter().all(|event| event["snapshot"] == true), "{snapshots:?}");
    records.send_all(&ticks(300, 300));
    let later = on_first.events(300).await;
    assert_eq!(by_symbol(&later), by_symbol(&on_second.events(300).await));
    seen_on_first.extend(later);
    for snapshot in &snapshots {
        let same = |event: &&Value| event["seq"] == snapshot["seq"] && event["type"] == "quote";
        let event = seen_on_first.iter().find(same).expect("a snapshot stands where its record stands");
        assert_eq!((&event["symbol"], &event["bid_price"]), (&snapshot["symbol"], &snapshot["bid_price"]));
    }
    on_first.verify();
    on_second.verify();
    first.finish().await;
    second.finish().await;
}

async fn are_the_same_after_a_restart(kafka: Kafka) {
    let topic = kafka.topic(2).await;
    let records = kafka.producer(&topic);
    let config = kafka.config(&topic);
    let gateway = Gateway::start(config.clone()).await;
    let mut session = Session::everything(&gateway).await;
    records.send_all(&ticks(0, 100));
    let before = session.events(100).await;
    gateway.finish().await;

    let warm = |records: u64| {
        let mut config = config.clone();
        config.kafka.warm_up_records = records;
        config
    };
    let gateway = Gateway::start(warm(1_000)).await;
    let trades = [json!({"channel": "trades", "symbols": ["*"], "snapshot": 10})];
    let mut session = Session::open(&gateway, &trades).await;
    let known: BTreeMap<_, _> =
        before.iter().map(|event| (event["seq"].to_string(), &event["price"])).collect();
    let again = session.events(66).await;
    for event in &again {
        assert_eq!(known.get(&event["seq"].to_string()), Some(&&event["price"]), "{event}");
    }
    gateway.finish().await;
}
