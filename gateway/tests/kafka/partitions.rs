//! Partitions that are added, and symbols that move because of it.

use crate::harness::session::{Session, position};
use crate::harness::{Gateway, Kafka, quote, trade};
use crate::kafkas;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tickgate_protocol::control::FeedState;

kafkas!(added_under_load_are_read_from_their_beginning, a_symbol_that_moves_is_announced);

/// Longest time for a record of a new partition to arrive.
const NOTICED: Duration = Duration::from_secs(5);

async fn added_under_load_are_read_from_their_beginning(kafka: Kafka) {
    let topic = kafka.topic(2).await;
    let mut config = kafka.config(&topic);
    config.session.heartbeat_ms = 100;
    let gateway = Gateway::start(config).await;
    let mut session = Session::everything(&gateway).await;
    let stop = Arc::new(AtomicBool::new(false));
    let load = {
        let (records, stop) = (kafka.producer(&topic), stop.clone());
        std::thread::spawn(move || {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                let tick = |partition| trade(&format!("LOAD{partition}"), &count.to_string());
                (0..2).for_each(|partition| records.send_to(partition, &[tick(partition)]));
                count += 1;
                // tidy: allow(sleep) the pace of the market; nothing waits for it
                std::thread::sleep(Duration::from_millis(1));
            }
            2 * count
        })
    };
    let mut events = session.events(20).await;
    kafka.add_partitions(&topic, 4).await;
    let added = Instant::now();
    // A producer that knows the new ones, most likely before the gateway does.
    let records = kafka.producer(&topic);
    for partition in 2..4 {
        let first: Vec<_> = (0..20).map(|i| trade(&format!("NEW{partition}"), &i.to_string())).collect();
        records.send_to(partition, &first);
    }
    let is_new = |event: &&Value| event["symbol"].as_str().is_some_and(|symbol| symbol.starts_with("NEW"));
    let mut newest = Instant::now();
    let mut pause_max = Duration::ZERO;
    while events.iter().filter(is_new).count() < 40 {
        let event = session.event().await;
        if !is_new(&&event) {
            pause_max = pause_max.max(newest.elapsed());
            newest = Instant::now();
        }
        events.push(event);
    }
    assert!(added.elapsed() < NOTICED, "it took {:?}", added.elapsed());
    assert!(pause_max < Duration::from_secs(2), "the old partitions paused for {pause_max:?}");
    stop.store(true, Ordering::Relaxed);
    let loaded = load.join().expect("no panic");
    while events.len() < loaded + 40 {
        events.push(session.event().await);
    }
    let mut by_symbol: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for event in &events {
        let price = event["price"].as_str().and_then(|price| price.parse().ok()).expect("a number");
        by_symbol.entry(event["symbol"].to_string()).or_default().push(price);
    }
    for (symbol, prices) in &by_symbol {
        assert_eq!(*prices, (0..prices.len()).collect::<Vec<_>>(), "{symbol}: all of them, in order, once");
    }
    assert_eq!(by_symbol.len(), 4);
    gateway.metric_is("tickgate_feed_partitions_added_total", 2.0).await;
    session.feed_is(FeedState::Live).await;
    gateway.ready().await;
    let tally = session.verify();
    assert_eq!((tally.gaps, tally.unverified), (0, 0));
    gateway.finish().await;
}

async fn a_symbol_that_moves_is_announced(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    let gateway = Gateway::start(kafka.config(&topic)).await;
    let mut session = Session::everything(&gateway).await;
    let book = json!({"type": "book", "symbol": "AAPL", "bids": [["10", "1"]], "asks": [["11", "1"]], "snapshot": true, "event_ns": 1});
    let states = |n: u32| vec![trade("AAPL", &n.to_string()), quote("AAPL", &n.to_string(), "99")];
    let mut before = states(1);
    before.push(book);
    kafka.producer(&topic).send_to(0, &before);
    let events = session.events(3).await;

    kafka.add_partitions(&topic, 2).await;
    let records = kafka.producer(&topic);
    let mut after = states(2);
    after.push(json!({"type": "book", "symbol": "AAPL", "bids": [["10", "2"]], "asks": [], "event_ns": 1}));
    records.send_to(1, &after);
    records.send_to(1, &states(3));

    // Per channel: the gap, the state as it was (trades have none), and the chain goes on in the new partition.
    let mut moved = session.events(3 + 2 + 5).await;
    for (channel, kind) in [("trades", "trade"), ("quotes", "quote"), ("book", "book")] {
        let last = events.iter().find(|event| event["type"] == kind).expect("one of each");
        let at = moved.iter().position(|event| event["channel"] == channel).expect("a gap");
        let gap = moved.remove(at);
        assert_eq!(
            (&gap["type"], &gap["cause"], &gap["symbol"]),
            (&json!("gap"), &json!("repartitioned"), &json!("AAPL"))
        );
        assert_eq!(
            (&gap["after"], &gap["upto"]),
            (&last["seq"], &last["seq"]),
            "nothing is known to be lost"
        );
        let mut rest = moved.iter().skip(at).filter(|event| event["type"] == kind);
        if kind != "trade" {
            let snapshot = rest.next().expect("the state again");
            assert_eq!((&snapshot["snapshot"], &snapshot["seq"]), (&json!(true), &last["seq"]));
        }
        let next = rest.next().expect("the chain goes on");
        assert_eq!(next["prev"], gap["upto"]);
        assert_eq!(position(next, "seq").map(|(_, partition, _)| partition), Some(1));
        if let Some(following) = rest.next() {
            assert_eq!(following["prev"], next["seq"]);
        }
    }
    assert_eq!(session.verify().gaps_by_cause.get("repartitioned"), Some(&3));
    gateway.finish().await;
}
