//! The main job in one test: a record in Kafka is an event at a client.

use crate::harness::{Gateway, Kafka, next_events, quote, trade};
use serde_json::json;

kafkas!(a_record_becomes_an_event);

async fn a_record_becomes_an_event(kafka: Kafka) {
    let topic = kafka.topic(2).await;
    let records = kafka.producer(&topic);
    let gateway = Gateway::start(kafka.config(&topic)).await;
    let mut client = gateway.client().await;
    let verdicts = client
        .subscribe(&[
            json!({"channel": "trades", "symbols": ["AAPL"]}),
            json!({"channel": "quotes", "symbols": ["A*"]}),
        ])
        .await
        .expect("an ack");
    assert!(verdicts.iter().all(|v| v.ok) && verdicts[0].seen == Some(false));

    records.send(&trade("AAPL", "487.50"));
    let events = next_events(&mut client).await;
    assert_eq!((&events[0]["type"], &events[0]["price"]), (&json!("trade"), &json!("487.50")));
    let first = events[0]["seq"].clone();

    records.send(&trade("AAPL", "487.55"));
    let events = next_events(&mut client).await;
    assert_eq!(events[0]["prev"], first, "the chain closes");

    records.send(&quote("AMZN", "1.0", "1.1"));
    assert_eq!(next_events(&mut client).await[0]["symbol"], "AMZN");
    assert_eq!(gateway.stop().await, 0);
}
