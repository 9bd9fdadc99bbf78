//! The past alone: a part of it, in the order of time, at its own rhythm or as fast as it is read, and nothing live.

use crate::harness::world::World;
use crate::harness::{SOON, next_control, quote, take_events, trade};
use rdkafka::producer::BaseRecord;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tickgate_gateway::clock;
use tickgate_load::{Client, Incoming};
use tickgate_protocol::control::Control;

/// What a client is sent until its subscriptions have ended.
#[derive(Debug, Default)]
struct Seen {
    events: Vec<Value>,
    errors: Vec<String>,
    messages: Vec<String>,
    done: Vec<String>,
}

impl Seen {
    fn prices(&self) -> Vec<&str> {
        self.events.iter().filter_map(|event| event["price"].as_str()).collect()
    }
}

async fn play(client: &mut Client, subscriptions: Value, dones: usize) -> Seen {
    client.send(&json!({"op": "subscribe", "subscriptions": subscriptions})).await.expect("sent");
    let mut seen = Seen::default();
    let until_done = async {
        while seen.done.len() < dones {
            match client.next_within(SOON).await {
                Some(Incoming::Events(frame)) => {
                    seen.events.extend(serde_json::from_str::<Vec<Value>>(frame.as_str()).expect("JSON"));
                }
                Some(Incoming::Control { control: Some(control), .. }) => match control {
                    Control::ReplayDone { symbol, .. } => seen.done.push(symbol),
                    Control::Error { code, message, .. } => {
                        seen.errors.push(code.name().to_owned());
                        seen.messages.push(message);
                    }
                    _ => {}
                },
                Some(Incoming::Closed { code, .. }) => panic!("closed: {code:?}"),
                Some(_) => {}
                None => panic!("no replay_done"),
            }
        }
    };
    // Heartbeats would keep a client waiting for ever whose replay has stopped.
    tokio::time::timeout(SOON, until_done).await.expect("its replay is done");
    seen
}

/// Whether every event names the one before it that was sent of its symbol.
fn is_chain(events: &[Value]) -> bool {
    let links = |pair: &[Value]| pair[0]["seq"] == pair[1]["seq"] || pair[1]["prev"] == pair[0]["seq"];
    events.windows(2).all(links)
}

/// Writes records with the times, milliseconds since the Unix epoch, at which they were appended.
fn write(world: &World, partition: i32, at_ms: i64, record: &Value) {
    let value = record.to_string();
    let record =
        BaseRecord::<str, str>::to(&world.topic).partition(partition).payload(&value).timestamp(at_ms);
    world.records.client().send(record).expect("there is room");
}

fn ns(ms: i64) -> String {
    (ms * 1_000_000).to_string()
}

#[tokio::test]
async fn a_part_of_the_past_comes_in_the_order_of_time_and_ends() {
    let world = World::new(3, |_| ()).await;
    let first_ms = clock::wall_ns() / 1_000_000 - 60_000;
    for n in 0..300_i64 {
        write(
            &world,
            (n % 3) as i32,
            first_ms + n * 10,
            &trade(["A", "B", "C"][n as usize % 3], &n.to_string()),
        );
    }
    world.records.flush();
    world.has_read(300).await;
    let mut client = world.gateway.client().await;
    let from = json!({"time_ns": ns(first_ms + 505), "until_ns": ns(first_ms + 2_500)});
    let seen = play(&mut client, json!([{"channel": "trades", "symbols": ["*"], "from": from}]), 1).await;
    let wanted: Vec<String> = (51..=250).map(|n| n.to_string()).collect();
    assert_eq!(seen.prices(), wanted.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(seen.events.iter().all(|event| event["replay"] == true));
    assert_eq!((seen.errors.len(), seen.done), (0, vec!["*".to_owned()]));
    for symbol in ["A", "B", "C"] {
        let chain: Vec<&Value> = seen.events.iter().filter(|event| event["symbol"] == symbol).collect();
        assert!(chain.windows(2).all(|pair| pair[1]["prev"] == pair[0]["seq"]), "{symbol}");
    }
    // It is over: nothing live follows, and nothing is held any more.
    world.records.send(&trade("A", "1000"));
    world.has_read(301).await;
    client.send(&json!({"op": "list"})).await.expect("sent");
    match next_control(&mut client).await {
        Control::List { subscriptions, .. } => assert_eq!(subscriptions, []),
        other => panic!("{other:?}"),
    }
    // And the live stream can be had as ever.
    client.subscribe(&[json!({"channel": "trades", "symbols": ["*"]})]).await.expect("an ack");
    world.records.send(&trade("A", "1001"));
    assert_eq!(take_events(&mut client, 1).await[0]["price"], "1001");
    world.books_close().await;
}

#[tokio::test]
async fn the_past_has_its_own_rhythm() {
    let world = World::new(2, |_| ()).await;
    let first_ms = clock::wall_ns() / 1_000_000 - 60_000;
    for (n, after_ms) in [0, 100, 350, 600, 1_000].into_iter().enumerate() {
        write(&world, (n % 2) as i32, first_ms + after_ms, &trade("A", &after_ms.to_string()));
    }
    world.records.flush();
    world.has_read(5).await;
    let mut client = world.gateway.client().await;
    let from = json!({"time_ns": ns(first_ms), "speed": 2});
    let began = Instant::now();
    let seen = play(&mut client, json!([{"channel": "trades", "symbols": ["A"], "from": from}]), 1).await;
    assert_eq!(seen.prices(), ["0", "100", "350", "600", "1000"]);
    assert!(began.elapsed() >= Duration::from_millis(500), "a second at twice its speed");
    assert!(is_chain(&seen.events), "they alternate between partitions: {:?}", seen.events);
    // Without a speed the same is there at once, or the next would take a day.
    write(&world, 0, first_ms + 50_000, &trade("A", "50000"));
    world.records.flush();
    world.has_read(6).await;
    let from = json!({"time_ns": ns(first_ms), "until_ns": ns(first_ms + 3_600_000)});
    let seen = play(&mut client, json!([{"channel": "trades", "symbols": ["A"], "from": from}]), 1).await;
    assert_eq!(seen.prices(), ["0", "100", "350", "600", "1000", "50000"]);
}

/// Partitions are read one after the other, and what is read was linked as it was read: a symbol that had moved between
/// partitions came with predecessors that its client had not been sent yet.
#[tokio::test]
async fn events_follow_from_what_was_sent_before_them() {
    let world = World::new(2, |_| ()).await;
    let first_ms = clock::wall_ns() / 1_000_000 - 60_000;
    for n in 0..1_000_i64 {
        let price = (2 * n).to_string();
        let pair = json!([trade("A", &price), trade("A", &(2 * n + 1).to_string())]);
        write(&world, i32::from(n % 7 < 3), first_ms + n, &pair);
    }
    world.records.flush();
    world.has_read(1_000).await;
    let mut client = world.gateway.client().await;
    let from = json!({"time_ns": ns(first_ms), "until_ns": ns(first_ms + 5_000)});
    let seen = play(&mut client, json!([{"channel": "trades", "symbols": ["A"], "from": from}]), 1).await;
    let wanted: Vec<String> = (0..2_000).map(|n| n.to_string()).collect();
    assert_eq!(seen.prices(), wanted.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(is_chain(&seen.events));
    assert_eq!(seen.events[1]["prev"], seen.events[0]["prev"], "they share a record");
}

#[tokio::test]
async fn parts_and_channels_have_their_own_ends() {
    let world = World::new(2, |_| ()).await;
    let first_ms = clock::wall_ns() / 1_000_000 - 60_000;
    for n in 0..40_i64 {
        let record = if n % 2 == 0 { trade("A", &n.to_string()) } else { quote("A", &n.to_string(), "100") };
        write(&world, (n % 2) as i32, first_ms + n, &record);
    }
    world.records.flush();
    world.has_read(40).await;
    let mut client = world.gateway.client().await;
    let seen = play(
        &mut client,
        json!([
            {"channel": "trades", "symbols": ["A", "NONE"], "from": {"time_ns": ns(first_ms), "until_ns": ns(first_ms + 10)}},
            {"channel": "quotes", "symbols": ["A"], "from": {"time_ns": ns(first_ms + 30), "speed": 0.5}}]),
        3,
    )
    .await;
    assert_eq!(seen.prices(), ["0", "2", "4", "6", "8", "10"]);
    let bids: Vec<&str> = seen.events.iter().filter_map(|event| event["bid_price"].as_str()).collect();
    assert_eq!(bids, ["31", "33", "35", "37", "39"]);
    let mut done = seen.done;
    done.sort();
    assert_eq!(done, ["A", "A", "NONE"]);
}

#[tokio::test]
async fn who_reads_slowly_or_has_a_small_queue_gets_all_of_it() {
    let world = World::new(3, |config| {
        config.outbox.bytes_max = 16 << 10;
        config.outbox.write_bytes_max = 16 << 10;
        config.outbox.frame_bytes_max = 16 << 10;
    })
    .await;
    let first_ms = clock::wall_ns() / 1_000_000 - 60_000;
    for n in 0..6_000_i64 {
        write(&world, (n % 3) as i32, first_ms + n, &trade("A", &n.to_string()));
    }
    world.records.flush();
    world.has_read(6_000).await;
    let mut client = world.gateway.client().await;
    let from = json!({"time_ns": ns(first_ms), "speed": 1_000});
    let seen = play(&mut client, json!([{"channel": "trades", "symbols": ["A"], "from": from}]), 1).await;
    let wanted: Vec<String> = (0..6_000).map(|n| n.to_string()).collect();
    assert_eq!(seen.prices(), wanted.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(seen.errors.len(), 0);
    world.books_close().await;
}

#[tokio::test]
async fn who_has_had_enough_unsubscribes() {
    let world = World::new(1, |_| ()).await;
    let first_ms = clock::wall_ns() / 1_000_000 - 60_000;
    for n in 0..3 {
        write(&world, 0, first_ms + n * 20_000, &trade("A", &n.to_string()));
    }
    world.records.flush();
    world.has_read(3).await;
    let mut client = world.gateway.client().await;
    let wanted =
        json!([{"channel": "trades", "symbols": ["A"], "from": {"time_ns": ns(first_ms), "speed": 1}}]);
    client.send(&json!({"op": "subscribe", "subscriptions": wanted})).await.expect("sent");
    assert_eq!(take_events(&mut client, 1).await[0]["price"], "0");
    client.send(&json!({"op": "unsubscribe", "subscriptions": wanted})).await.expect("sent");
    match next_control(&mut client).await {
        Control::Ack { ok, .. } => assert!(ok),
        other => panic!("{other:?}"),
    }
    client.subscribe(&[json!({"channel": "trades", "symbols": ["A"]})]).await.expect("an ack");
    world.records.send(&trade("A", "3"));
    assert_eq!(take_events(&mut client, 1).await[0]["price"], "3");
    world.books_close().await;
}

#[tokio::test]
async fn what_kafka_no_longer_has_of_the_past_is_told() {
    let world = World::new(1, |_| ()).await;
    let first_ms = clock::wall_ns() / 1_000_000 - 60_000;
    for n in 0..10 {
        write(&world, 0, first_ms + n, &trade("A", &n.to_string()));
    }
    world.records.flush();
    world.has_read(10).await;
    world.kafka.delete_records(&world.topic, 1, 4).await;
    let mut client = world.gateway.client().await;
    let from = json!({"time_ns": ns(first_ms), "until_ns": ns(first_ms + 6)});
    let seen = play(&mut client, json!([{"channel": "trades", "symbols": ["A"], "from": from}]), 1).await;
    assert_eq!(seen.errors, ["replay_aged_out"]);
    assert_eq!(seen.messages, ["Kafka no longer has all of it: a gap says what is missing"]);
    assert_eq!((&seen.events[0]["type"], &seen.events[0]["cause"]), (&json!("gap"), &json!("retention")));
    assert_eq!(seen.prices(), ["4", "5", "6"]);
    assert_eq!(seen.events[1]["prev"], seen.events[0]["upto"]);
    // Nothing is left behind which that could be told: a gap was promised that did not come.
    let from = json!({"time_ns": ns(first_ms), "until_ns": ns(first_ms + 2)});
    let seen = play(&mut client, json!([{"channel": "trades", "symbols": ["A"], "from": from}]), 1).await;
    assert_eq!((seen.events.len(), seen.errors), (0, vec!["replay_aged_out".to_owned()]));
    assert!(
        seen.messages[0].ends_with("and nothing that came behind what is missing"),
        "{:?}",
        seen.messages
    );
}

#[tokio::test]
async fn what_cannot_be_played_is_refused() {
    let refusal = async |world: &World, subscription: Value| {
        let mut client = world.gateway.client().await;
        client.send(&json!({"op": "subscribe", "subscriptions": [subscription]})).await.expect("sent");
        match next_control(&mut client).await {
            Control::Ack { ok: false, results, .. } => {
                let verdict = results.into_iter().next().expect("a verdict");
                (verdict.code.expect("a refusal").name(), verdict.message.expect("a reason"))
            }
            other => panic!("{other:?}"),
        }
    };
    let world = World::new(1, |config| config.replay.window_s = 3_600).await;
    let now_ms = clock::wall_ns() / 1_000_000;
    let (hour_ago, day_ago) = (ns(now_ms - 3_000_000), ns(now_ms - 86_400_000));
    for (subscription, code, says) in [
        (
            json!({"channel": "book", "symbols": ["A"], "from": {"time_ns": hour_ago, "speed": 1}}),
            "bad_request",
            "book",
        ),
        (
            json!({"channel": "quotes", "symbols": ["A"], "conflate_ms": 100, "from": {"time_ns": hour_ago, "speed": 1}}),
            "bad_request",
            "conflate_ms",
        ),
        (
            json!({"channel": "trades", "symbols": ["A"], "from": {"seq": "1:0:1", "speed": 1}}),
            "bad_request",
            "time_ns",
        ),
        (
            json!({"channel": "trades", "symbols": ["A"], "from": {"time_ns": hour_ago, "speed": 0}}),
            "bad_request",
            "0.001",
        ),
        (
            json!({"channel": "trades", "symbols": ["A"], "from": {"time_ns": hour_ago, "speed": 2_000}}),
            "bad_request",
            "1000",
        ),
        (
            json!({"channel": "trades", "symbols": ["A"], "from": {"time_ns": hour_ago, "until_ns": day_ago}}),
            "bad_request",
            "before",
        ),
        (
            json!({"channel": "trades", "symbols": ["A"], "from": {"time_ns": day_ago, "speed": 1}}),
            "replay_aged_out",
            "replay_s",
        ),
    ] {
        let (found, message) = refusal(&world, subscription.clone()).await;
        assert!(found == code && message.contains(says), "{subscription}: {found} {message}");
    }
    let world = World::new(1, |config| config.replay.consumers_max = 0).await;
    let subscription =
        json!({"channel": "trades", "symbols": ["A"], "from": {"time_ns": hour_ago, "speed": 1}});
    let (code, message) = refusal(&world, subscription).await;
    assert!(code == "bad_request" && message.contains("replay.consumers_max = 0"), "{code} {message}");
}
