//! What a heartbeat may promise while a replay is under way.

use crate::harness::world::World;
use crate::harness::{Gateway, Kafka, SOON, take_events, trade, until};
use rdkafka::producer::BaseRecord;
use serde_json::{Value, json};
use tickgate_gateway::clock;
use tickgate_gateway::config::FeedConfig;
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

/// Where a replay from a time begins, Kafka says. Until it had, the cursors of heartbeats passed all of it: cut off then, a client
/// that resumed from one never got any of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_does_not_pass_a_replay_that_has_not_begun() {
    let world = World::new(2, |config| config.session.heartbeat_ms = 100).await;
    let broker = world.kafka.broker().expect("it is embedded");
    world.records.send_all(&[trade("A", "1"), trade("A", "2")]);
    world.has_read(2).await;
    let mut client = world.gateway.client().await;
    while heartbeat(&mut client).await.1.iter().map(|next| next.offset).sum::<u64>() < 2 {}
    broker.faults().stall();
    let from = json!([{"channel": "trades", "symbols": ["A"], "from": {"time_ns": "0"}}]);
    client.send(&json!({"op": "subscribe", "id": 1, "subscriptions": from})).await.expect("it is sent");
    next(&mut client, "ack", |control| matches!(control, Control::Ack { .. }).then_some(())).await;
    let (cursor, _) = heartbeat(&mut client).await;
    drop(client);
    broker.faults().resume();
    let mut client = world.gateway.client().await;
    let subscriptions = json!([{"channel": "trades", "symbols": ["A"]}]);
    let request = json!({"op": "subscribe", "id": 1, "cursor": cursor, "subscriptions": subscriptions});
    client.send(&request).await.expect("it is sent");
    let events = take_events(&mut client, 2).await;
    assert_eq!((&events[0]["price"], &events[1]["price"]), (&json!("1"), &json!("2")));
}

/// A gateway that had not found all of its topics gave out cursors that named only those that it had. Whoever resumed from one was
/// not given what came in the others since, and when its gateway had found them meanwhile it was told of a loss that was none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_knows_of_topics_that_are_not_found_yet() {
    let kafka = Kafka::embedded();
    let (topic, late) = (kafka.topic(1).await, kafka.topic_name());
    let mut config = kafka.config(&topic);
    config.session.heartbeat_ms = 100;
    config.feeds.push(FeedConfig { optional: true, ..FeedConfig::for_topic(&late) });
    let gateway = Gateway::start(config).await;
    let mut client = gateway.client().await;
    let (mut cursor, mut positions) = heartbeat(&mut client).await;
    while positions.is_empty() {
        (cursor, positions) = heartbeat(&mut client).await;
    }
    drop(client);
    kafka.create_topic(&late, 1).await;
    kafka.producer(&late).send(&trade("L", "1"));
    until("it was read", || gateway.running().board().feed().records >= 1).await;
    let mut client = gateway.client().await;
    let subscriptions = json!([{"channel": "trades", "symbols": ["*"]}]);
    let request = json!({"op": "subscribe", "id": 1, "cursor": cursor, "subscriptions": subscriptions});
    client.send(&request).await.expect("it is sent");
    let events = take_events(&mut client, 1).await;
    assert_eq!((&events[0]["symbol"], &events[0]["replay"]), (&json!("L"), &json!(true)), "{events:?}");
}

/// A world in which AB was traded an hour ago and half an hour ago, and when the first was, in milliseconds.
async fn world_of_two_slow_trades() -> (World, i64) {
    let world = World::new(1, |config| config.session.heartbeat_ms = 100).await;
    let began_ms = clock::wall_ns() / 1_000_000 - 3_600_000;
    // By its own rhythm the second comes in half an hour.
    for at_ms in [began_ms, began_ms + 1_800_000] {
        let value = trade("AB", "1").to_string();
        let record = BaseRecord::<str, str>::to(&world.topic).payload(&value).timestamp(at_ms);
        world.records.client().send(record).expect("there is room");
    }
    world.records.flush();
    world.has_read(2).await;
    (world, began_ms)
}

/// Of a symbol that is played a pattern brings nothing live. The cursors of heartbeats passed that all the same: cut off before
/// the end, a client that resumed from one never got it, and was never told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_does_not_pass_what_a_pattern_leaves_out_for_a_play() {
    let (world, began_ms) = world_of_two_slow_trades().await;
    let mut client = world.gateway.client().await;
    client.subscribe(&[json!({"channel": "trades", "symbols": ["A*"]})]).await.expect("an ack");
    let sum = |positions: &[Position]| positions.iter().map(|next| next.offset).sum::<u64>();
    while sum(&heartbeat(&mut client).await.1) < 2 {}
    let from = json!({"time_ns": (began_ms * 1_000_000).to_string(), "speed": 1});
    let play = json!({"channel": "trades", "symbols": ["AB"], "from": from});
    client.subscribe(&[play]).await.expect("an ack");
    assert_eq!(take_events(&mut client, 1).await[0]["replay"], true);
    world.records.send_all(&[trade("AB", "7"), trade("AC", "8")]);
    assert_eq!(take_events(&mut client, 1).await[0]["price"], "8", "the pattern goes on with others");
    for _ in 0..5 {
        assert_eq!(sum(&heartbeat(&mut client).await.1), 2, "it passes what is left out");
    }
    let (cursor, _) = heartbeat(&mut client).await;
    drop(client);
    let mut client = world.gateway.client().await;
    let everything = json!([{"channel": "trades", "symbols": ["A*"]}]);
    let request = json!({"op": "subscribe", "id": 1, "cursor": cursor, "subscriptions": everything});
    client.send(&request).await.expect("it is sent");
    let events = take_events(&mut client, 2).await;
    assert_eq!((&events[0]["price"], &events[1]["price"]), (&json!("7"), &json!("8")));
}

/// A play of something that nothing else would bring holds no cursor back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_goes_on_beside_a_play_of_something_else() {
    let (world, began_ms) = world_of_two_slow_trades().await;
    let mut client = world.gateway.client().await;
    let from = json!({"time_ns": (began_ms * 1_000_000).to_string(), "speed": 1});
    let subscriptions = [
        json!({"channel": "trades", "symbols": ["B*", "ABC*"]}),
        json!({"channel": "quotes", "symbols": ["*"]}),
        json!({"channel": "trades", "symbols": ["AB"], "from": from}),
    ];
    client.subscribe(&subscriptions).await.expect("an ack");
    world.records.send(&trade("B", "2"));
    while heartbeat(&mut client).await.1.iter().map(|next| next.offset).sum::<u64>() < 3 {}
}
