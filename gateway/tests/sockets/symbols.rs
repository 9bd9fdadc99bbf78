//! `/symbols` of a whole gateway: what the feed counted, and what the sessions of all shards subscribed to.

use crate::harness::trade;
use crate::harness::world::World;
use serde_json::json;
use std::io::{Read, Write};

fn symbols(admin: &str) -> serde_json::Value {
    let mut socket = std::net::TcpStream::connect(admin).expect("it listens");
    write!(socket, "GET /symbols?top=3 HTTP/1.1\r\nHost: x\r\n\r\n").expect("it takes a request");
    let mut text = String::new();
    socket.read_to_string(&mut text).expect("an answer, then the end");
    serde_json::from_str(text.split_once("\r\n\r\n").expect("a body").1).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ticks_and_sessions_are_counted() {
    let world = World::new(2, |_| {}).await;
    let records: Vec<_> =
        ["AAPL", "MSFT", "AAPL", "AAPL", "MSFT", "TSLA"].map(|symbol| trade(symbol, "1")).into();
    world.records.send_all(&records);
    world.has_read(records.len() as u64).await;
    // As many as make it likely that each shard has some: each counts its own.
    let mut clients = Vec::new();
    for n in 0..12 {
        let mut client = world.gateway.client().await;
        let mut wanted = vec![json!({"channel": "trades", "symbols": ["AAPL", "NEW"]})];
        if n < 4 {
            wanted.push(json!({"channel": "quotes", "symbols": ["AAPL", "T*"]}));
        }
        client.subscribe(&wanted).await.expect("it is told");
        clients.push(client);
    }
    let admin = world.gateway.admin().to_owned();
    let list = tokio::task::spawn_blocking(move || symbols(&admin)).await.expect("no panic");
    let hottest: Vec<_> = list["hottest"].as_array().expect("a list").iter().collect();
    let ticks: Vec<_> = hottest.iter().map(|hot| (hot["symbol"].as_str(), hot["ticks"].as_u64())).collect();
    assert_eq!(ticks, [(Some("AAPL"), Some(3)), (Some("MSFT"), Some(2)), (Some("TSLA"), Some(1))]);
    assert_eq!(
        list["most_subscribed"],
        json!([
            {"target": "AAPL", "sessions": 12, "subscriptions": 16},
            {"target": "NEW", "sessions": 12, "subscriptions": 12},
            {"target": "T*", "sessions": 4, "subscriptions": 4},
        ])
    );
    assert_eq!(list["shards_without_answer"], json!([]));
    drop(clients);
    world.gateway.stop().await;
}
