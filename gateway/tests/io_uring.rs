//! The gateway with `io_uring = true`: other system calls, the same promises.

mod harness;

use harness::{Gateway, Kafka, next_events, trade};
use serde_json::{Value, json};

const CLIENTS: usize = 70;
const TICKS: usize = 400;

/// More clients than one call takes, some with a queue like their neighbour's and some with one of their own, and one
/// that does not read until its socket is full.
#[tokio::test]
async fn everybody_gets_everything_in_order() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let records = kafka.producer(&topic);
    let mut config = kafka.config(&topic);
    config.io_uring = true;
    config.shards = 1;
    config.outbox.send_buffer_bytes = 16 << 10;
    let gateway = match tickgate_gateway::shard::uring::Uring::new() {
        Ok(_) => Gateway::start(config).await,
        Err(error) => {
            // As in many containers: then it says so at once, and does not start.
            let refused = tickgate_gateway::server::bind(config).err().expect("it cannot start").to_string();
            assert!(refused.contains("io_uring"), "{refused} for {error}");
            return;
        }
    };
    let mut clients = Vec::new();
    for i in 0..CLIENTS {
        let mut client = gateway.client().await;
        let symbols = if i % 3 == 0 { json!(["A"]) } else { json!(["A", "B"]) };
        client.subscribe(&[json!({"channel": "trades", "symbols": symbols})]).await.expect("an ack");
        clients.push((client, if i % 3 == 0 { vec!["A"] } else { vec!["A", "B"] }));
    }
    let sent: Vec<(&str, String)> =
        (0..TICKS).map(|i| (if i % 4 == 3 { "B" } else { "A" }, i.to_string())).collect();
    let values: Vec<Value> = sent.iter().map(|(symbol, price)| trade(symbol, price)).collect();
    records.send_all(&values);
    // Nobody reads before all of it is written or refused: small buffers make sure that some of it is.
    harness::until("all is read", || gateway.running().board().feed().records >= TICKS as u64).await;
    for (client, symbols) in &mut clients {
        let expected: Vec<&str> = sent
            .iter()
            .filter(|(symbol, _)| symbols.contains(symbol))
            .map(|(_, price)| price.as_str())
            .collect();
        let mut got: Vec<Value> = Vec::new();
        while got.len() < expected.len() {
            got.extend(next_events(client).await);
        }
        let got: Vec<&str> = got.iter().map(|event| event["price"].as_str().expect("a price")).collect();
        assert_eq!(got, expected);
    }
    harness::until("the books close", || {
        let (offered, sent, conflated, dropped, held) = gateway.books();
        held == 0 && conflated == 0 && dropped == 0 && offered == sent
    })
    .await;
}
