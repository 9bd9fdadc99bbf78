//! What a heartbeat may promise while a replay is under way.

mod harness;

use harness::world::World;
use harness::{SOON, trade};
use serde_json::{Value, json};
use tickgate_load::{Client, ClientOptions, Incoming};
use tickgate_protocol::Position;
use tickgate_protocol::control::Control;
use tickgate_protocol::cursor::{self, CursorKey};

/// The next control message that `wanted` gives something for.
async fn next<T>(client: &mut Client, what: &str, wanted: impl Fn(&Control) -> Option<T>) -> T {
    loop {
        match client.next_within(SOON).await {
            Some(Incoming::Control { control: Some(control), .. }) => {
                if let Some(found) = wanted(&control) {
                    return found;
                }
            }
            Some(Incoming::Closed { code, .. }) => panic!("closed with {code:?} before {what}"),
            Some(_) => {}
            None => panic!("no {what}"),
        }
    }
}

async fn heartbeat(client: &mut Client) -> (String, Vec<Position>) {
    let wanted = |control: &Control| match control {
        Control::Heartbeat { cursor, .. } => Some(cursor.clone()),
        _ => None,
    };
    let text = next(client, "heartbeat", wanted).await;
    let positions = cursor::decode_unverified(&text).expect("a cursor");
    (text, positions)
}

/// Partitions that a cursor does not name are read from their beginning. Until the first part of such a replay had come, the
/// cursors of heartbeats passed them: a client that was cut off then, and resumed from one, never got what stood in them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_does_not_pass_what_a_replay_has_still_to_read() {
    let world = World::new(2, |config| {
        config.session.heartbeat_ms = 100;
        config.replay.memory_bytes_max = 0;
    })
    .await;
    let broker = world.kafka.broker().expect("it is embedded");
    let mut client = world.gateway.client().await;
    world.records.send_to(0, &[trade("A", "1")]);
    let mut positions = loop {
        let (_, positions) = heartbeat(&mut client).await;
        if positions.iter().any(|next| next.offset > 0) {
            break positions;
        }
    };
    // As if the second partition had been added since.
    positions.retain(|next| next.partition == 0);
    let old = cursor::encode(&positions, &CursorKey::new(b""));
    drop(client);
    world.records.send_to(1, &[trade("B", "2"), trade("B", "3")]);
    world.has_read(3).await;
    // Its replay needs Kafka, which does not answer now.
    broker.faults().stall();
    let mut client = world.gateway.client().await;
    let everything = json!([{"channel": "trades", "symbols": ["*"]}]);
    let request = json!({"op": "subscribe", "id": 1, "cursor": old, "subscriptions": everything});
    client.send(&request).await.expect("it is sent");
    next(&mut client, "ack", |control| matches!(control, Control::Ack { .. }).then_some(())).await;
    for _ in 0..3 {
        let (_, positions) = heartbeat(&mut client).await;
        assert!(positions.iter().all(|next| next.partition == 0 || next.offset == 0), "{positions:?}");
    }
    broker.faults().resume();
    next(&mut client, "replay_done", |control| matches!(control, Control::ReplayDone { .. }).then_some(()))
        .await;
    let is_whole = |positions: &[Position]| positions.iter().map(|next| next.offset).sum::<u64>() == 3;
    while !is_whole(&heartbeat(&mut client).await.1) {}
}

/// A loss is told with the first event behind it. Until that came, the cursors of heartbeats had passed what was lost: resumed
/// from one, a client was never told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_does_not_pass_a_loss_that_was_not_told_yet() {
    const FILLERS: u64 = 3_000;
    let world = World::new(1, |config| {
        config.session.heartbeat_ms = 100;
        config.replay.memory_bytes_max = 0;
    })
    .await;
    let mut client = world.gateway.client().await;
    world.records.send(&trade("A", "1"));
    let old = loop {
        let (text, positions) = heartbeat(&mut client).await;
        if positions.iter().any(|next| next.offset > 0) {
            break text;
        }
    };
    drop(client);
    world.records.send_all(&[trade("A", "2"), trade("B", "3")]);
    world.kafka.delete_records(&world.topic, 1, 3).await;
    // A says nothing for a long while.
    let fillers: Vec<Value> = (0..FILLERS).map(|price| trade("B", &price.to_string())).collect();
    world.records.send_all(&fillers);
    world.records.send(&trade("A", "4"));
    world.has_read(4 + FILLERS).await;
    // So slow that heartbeats come between.
    let options = ClientOptions {
        read_bytes_per_s: Some(300_000),
        recv_buffer_bytes: Some(8192),
        ..ClientOptions::default()
    };
    let mut client = Client::connect(world.gateway.url(), &options).await.expect("a session");
    let both = json!([{"channel": "trades", "symbols": ["A", "B"]}]);
    let request = json!({"op": "subscribe", "id": 1, "cursor": old, "subscriptions": both});
    client.send(&request).await.expect("it is sent");
    let (mut heartbeats, mut fillers) = (0, 0);
    loop {
        match client.next_within(SOON).await {
            Some(Incoming::Control { control: Some(Control::Heartbeat { cursor, .. }), .. })
                if fillers > 0 =>
            {
                let positions = cursor::decode_unverified(&cursor).expect("a cursor");
                assert!(positions.iter().all(|next| next.offset <= 1), "{positions:?} passes what A lost");
                heartbeats += 1;
            }
            Some(Incoming::Events(frame)) => {
                let events: Vec<Value> = serde_json::from_str(frame.as_str()).expect("events");
                fillers += events.iter().filter(|event| event["symbol"] == "B").count();
                if events.iter().any(|event| event["symbol"] == "A" && event["type"] == "gap") {
                    break;
                }
            }
            Some(Incoming::Closed { code, .. }) => panic!("closed with {code:?}"),
            Some(_) => {}
            None => panic!("nothing within {SOON:?}"),
        }
    }
    assert!(heartbeats > 0, "a heartbeat came between, after {fillers} events");
}
