//! What is not the client's fault: a gateway that is late itself, and bursts.

use crate::harness::{trade, until};
use crate::world::{Slow, World};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tickgate_gateway::stats::CloseReason;

/// How often trades are written until the gateway is late with some: a fast machine may keep up with them.
const ROUNDS: u64 = 50;

/// A gateway that cannot keep up says so itself: exact counts, `overload`, and nobody is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_late_blames_nobody() {
    let world = World::new(|config| {
        config.shards = 1;
        config.session.inbox_batches = 1;
        // No client can reach its bounds.
        config.outbox.bytes_max = 256 << 20;
        config.outbox.entries_max = 4 << 20;
        config.outbox.send_buffer_bytes = 0;
        config.outbox.write_bytes_max = 64 << 10;
        config.outbox.frame_bytes_max = 64 << 10;
        config.outbox.notsent_lowat_bytes = 64 << 10;
    })
    .await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let asked = json!({"channel": "trades", "symbols": ["*"]});
        clients.push(Slow::subscribed(&world.gateway, None, asked).await);
    }
    let per_round: u64 = 20_000;
    for round in 0.. {
        assert!(round < ROUNDS, "the gateway is never late");
        let mut reading = Vec::new();
        for mut client in clients.drain(..) {
            reading.push(tokio::spawn(async move {
                let mut all = 0;
                while all < per_round {
                    assert_eq!(client.read().await, None, "closed: {:?}", client.control);
                    all += client.events.drain(..).map(|e| e["count"].as_u64().unwrap_or(1)).sum::<u64>();
                }
                assert_eq!(all, per_round, "sent and announced make all");
                client
            }));
        }
        let records = world.kafka.producer(&world.topic);
        tokio::task::spawn_blocking(move || {
            for n in 0..per_round {
                let record = trade("A", &n.to_string());
                records.queue("A", None, record.to_string().as_bytes());
            }
            records.flush();
        })
        .await
        .expect("they were written");
        for client in reading {
            clients.push(client.await.expect("it reads to the end"));
        }
        if clients.iter().all(|client| client.tally.gaps > 0) {
            break;
        }
    }
    let late = clients[0].tally.gap_events;
    for client in &clients {
        client.holds_to_the_protocol();
        let gaps = BTreeMap::from([("overload".to_owned(), client.tally.gaps)]);
        assert_eq!(client.tally.gaps_by_cause, gaps, "nothing else: {:#?}", client.tally);
        assert_eq!(client.tally.gap_events, late, "all are told the same");
    }
    until("the gateway counts what it told", || {
        world.gateway.running().board().feed().overload_events == late
    })
    .await;
    assert_eq!(world.closed(CloseReason::SlowConsumer), 0);
    world.books_close().await;
}

/// The bounds are for what a client does not take: a pass of the gateway may bring a client that reads everything more
/// than its queue may hold. That once ended its session as a slow consumer's.
#[tokio::test]
async fn a_burst_at_once_is_not_the_clients_fault() {
    let world = World::new(|config| {
        config.outbox.entries_max = 50;
        config.outbox.send_buffer_bytes = 0;
        config.outbox.write_bytes_max = 64 << 10;
        config.outbox.frame_bytes_max = 64 << 10;
        config.outbox.notsent_lowat_bytes = 64 << 10;
    })
    .await;
    for on_slow in ["disconnect", "skip"] {
        let asked = json!({"channel": "trades", "symbols": ["*"], "on_slow": on_slow});
        let mut client = Slow::subscribed(&world.gateway, None, asked).await;
        // One record is one batch, and one pass.
        let burst: Vec<Value> = (0..300).map(|n| trade(&format!("S{n}"), "1")).collect();
        world.records.raw("S", None, Value::from(burst).to_string().as_bytes());
        client.read_until(|event| event["symbol"] == "S299").await;
        client.holds_to_the_protocol();
        assert_eq!((client.events.len(), client.tally.gaps), (300, 0), "{on_slow}");
        assert_eq!(client.told("slow").len(), 0, "{on_slow}");
    }
}
