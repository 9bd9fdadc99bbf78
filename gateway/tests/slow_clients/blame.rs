//! What is not the client's fault: a gateway that is late itself, and bursts.

use crate::harness::trade;
use crate::world::{Slow, World};
use serde_json::{Value, json};
use tickgate_gateway::stats::CloseReason;

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
    let mut reading = Vec::new();
    let total: u64 = 60_000;
    for _ in 0..4 {
        let asked = json!({"channel": "trades", "symbols": ["*"]});
        let mut client = Slow::subscribed(&world.gateway, None, asked).await;
        reading.push(tokio::spawn(async move {
            let mut all = 0;
            while all < total {
                assert_eq!(client.read().await, None, "closed: {:?}", client.control);
                all += client.events.drain(..).map(|e| e["count"].as_u64().unwrap_or(1)).sum::<u64>();
            }
            (client, all)
        }));
    }
    let records = world.kafka.producer(&world.topic);
    tokio::task::spawn_blocking(move || {
        for n in 0..total {
            let record = trade("A", &n.to_string());
            records.queue("A", None, record.to_string().as_bytes());
        }
        records.flush();
    })
    .await
    .expect("they were written");
    for client in reading {
        let (client, all) = client.await.expect("it reads to the end");
        assert_eq!(all, total, "sent and announced make all");
        client.holds_to_the_protocol();
        assert!(client.tally.gaps_by_cause.keys().all(|cause| cause == "overload"), "{:#?}", client.tally);
    }
    assert_eq!(world.closed(CloseReason::SlowConsumer), 0);
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
