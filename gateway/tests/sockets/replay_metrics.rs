//! What `/metrics` says of replays, as they are begun, wait, are refused, read and end.

use crate::harness::world::World;
use crate::harness::{SOON, take_events, trade};
use rdkafka::producer::BaseRecord;
use serde_json::{Value, json};
use tickgate_gateway::clock;
use tickgate_load::{Client, Incoming};
use tickgate_protocol::Position;
use tickgate_protocol::control::Control;
use tickgate_protocol::cursor::{self, CURSOR_BYTES_MAX, CursorKey};

const RECORDS: u64 = 200;

async fn subscribe(client: &mut Client, symbol: &str, from: Value) {
    let subscription = json!({"channel": "trades", "symbols": [symbol], "from": from});
    client.send(&json!({"op": "subscribe", "subscriptions": [subscription]})).await.expect("sent");
}

async fn until_done(client: &mut Client) {
    let is_done = async {
        loop {
            match client.next_within(SOON).await {
                Some(Incoming::Control { control: Some(Control::ReplayDone { .. }), .. }) => return,
                Some(Incoming::Closed { code, .. }) => panic!("closed: {code:?}"),
                Some(_) => {}
                None => panic!("no replay_done"),
            }
        }
    };
    tokio::time::timeout(SOON, is_done).await.expect("its replay is done");
}

async fn refusal(client: &mut Client) -> &'static str {
    loop {
        match client.next_within(SOON).await {
            Some(Incoming::Control { control: Some(Control::Error { code, .. }), .. }) => return code.name(),
            Some(Incoming::Control { control: Some(Control::Ack { results, .. }), .. }) => {
                // One that is not may still be told that it gets nothing of what was.
                if let Some(code) = results[0].code {
                    return code.name();
                }
            }
            Some(Incoming::Closed { code, .. }) => panic!("closed: {code:?}"),
            Some(_) => {}
            None => panic!("no answer"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replays_are_counted_from_their_beginning_to_their_end() {
    let world = World::new(1, |config| {
        config.shards = 1;
        config.replay.memory_bytes_max = 0;
        config.replay.consumers_max = 1;
        config.replay.queue_max = 1;
        config.replay.per_session_max = 1;
        config.replay.window_s = 3_600;
        config.replay.records_per_s = 1_000;
    })
    .await;
    let gateway = &world.gateway;
    let broker = world.kafka.broker().expect("it is embedded");
    let records: Vec<Value> =
        (0..RECORDS).map(|n| trade(["A", "B"][n as usize % 2], &n.to_string())).collect();
    let bytes: usize = records.iter().map(|record| record.to_string().len()).sum();
    world.records.send_all(&records);
    world.has_read(RECORDS).await;
    let hour_ago = || json!({"time_ns": (clock::wall_ns() - 3_000_000_000_000).to_string()});
    let past = |speed: Option<u32>| {
        let mut from = hour_ago();
        from["until_ns"] = json!(clock::wall_ns().to_string());
        if let Some(speed) = speed {
            from["speed"] = json!(speed);
        }
        from
    };

    // One is being read, one waits, and for a third there is no room.
    broker.faults().stall();
    let (mut first, mut second, mut third) =
        (gateway.client().await, gateway.client().await, gateway.client().await);
    subscribe(&mut first, "A", hour_ago()).await;
    gateway.metric_is("tickgate_replays_parts_reading", 1.0).await;
    subscribe(&mut second, "A", past(None)).await;
    gateway.metric_is("tickgate_replays_parts_waiting", 1.0).await;
    gateway.metric_is("tickgate_replays_running{kind=\"missed\"}", 1.0).await;
    gateway.metric_is("tickgate_replays_running{kind=\"past\"}", 1.0).await;
    subscribe(&mut third, "B", hour_ago()).await;
    gateway.metric_is("tickgate_replays_running{kind=\"missed\"}", 2.0).await;
    let of = async |line: &str| gateway.metric(line).await.expect("it is there");
    let deadline = std::time::Instant::now() + SOON;
    while of("tickgate_replays_parts_refused_total{reason=\"queue_full\"}").await == 0.0
        || of("tickgate_replays_parts_refused_total{reason=\"no_answer\"}").await == 0.0
    {
        assert!(std::time::Instant::now() < deadline, "parts are refused for want of room and of an answer");
    }
    broker.faults().resume();
    for client in [&mut first, &mut second, &mut third] {
        until_done(client).await;
    }
    gateway.metric_is("tickgate_replays_running{kind=\"missed\"}", 0.0).await;
    gateway.metric_is("tickgate_replays_running{kind=\"past\"}", 0.0).await;
    gateway.metric_is("tickgate_replays_begun_total{kind=\"missed\"}", 2.0).await;
    gateway.metric_is("tickgate_replays_begun_total{kind=\"past\"}", 1.0).await;
    gateway.metric_is("tickgate_replays_ended_total{kind=\"missed\",result=\"whole\"}", 2.0).await;
    gateway.metric_is("tickgate_replays_ended_total{kind=\"past\",result=\"whole\"}", 1.0).await;
    for (line, value) in [
        ("tickgate_replays_parts_waiting", 0),
        ("tickgate_replays_parts_reading", 0),
        ("tickgate_replays_records_read_total", 3 * RECORDS),
        ("tickgate_replays_record_bytes_total", 3 * bytes as u64),
        ("tickgate_replays_records_passed_total", 3 * RECORDS / 2),
        ("tickgate_replays_events_read_total", 3 * RECORDS / 2),
        ("tickgate_limit_replays", 1),
        ("tickgate_limit_replays_parts_waiting", 1),
        ("tickgate_limit_replays_parts_reading", 1),
    ] {
        assert_eq!(of(line).await, value as f64, "{line}");
    }
    let no_answer = of("tickgate_replays_parts_refused_total{reason=\"no_answer\"}").await;
    assert_eq!(of("tickgate_replays_parts_read_total{result=\"no_answer\"}").await, no_answer);
    assert!(of("tickgate_replays_parts_read_total{result=\"end\"}").await >= 3.0);
    assert_eq!(of("tickgate_replays_parts_read_total{result=\"failed\"}").await, 0.0);
    let (reading_s, pausing_s) = (
        of("tickgate_replays_reading_seconds_total").await,
        of("tickgate_replays_pausing_seconds_total").await,
    );
    assert!(0.0 < pausing_s && pausing_s < reading_s, "{pausing_s} s of {reading_s} s");

    // What is refused.
    subscribe(&mut first, "A", json!({"time_ns": "0", "speed": 1})).await;
    assert_eq!(refusal(&mut first).await, "replay_aged_out");
    gateway.metric_is("tickgate_replays_refused_total{reason=\"window\"}", 1.0).await;
    subscribe(&mut first, "D", json!({"time_ns": "0"})).await;
    assert_eq!(refusal(&mut first).await, "replay_aged_out");
    gateway.metric_is("tickgate_replays_refused_total{reason=\"window\"}", 2.0).await;
    let two = [
        json!({"channel": "trades", "symbols": ["A"], "from": past(Some(1))}),
        json!({"channel": "trades", "symbols": ["B"], "from": past(Some(2))}),
    ];
    first.send(&json!({"op": "subscribe", "subscriptions": two})).await.expect("sent");
    assert_eq!(refusal(&mut first).await, "rate_limited");
    gateway.metric_is("tickgate_replays_refused_total{reason=\"session_full\"}", 2.0).await;

    // What is given up, and what is not whole. By its own rhythm the first comes at once and the last in half an hour.
    let at_ms = clock::wall_ns() / 1_000_000;
    for (symbol, at_ms) in [("C", at_ms - 1_800_000), ("C", at_ms)] {
        let value = trade(symbol, "1").to_string();
        let record = BaseRecord::<str, str>::to(&world.topic).payload(&value).timestamp(at_ms);
        world.records.client().send(record).expect("there is room");
    }
    world.records.flush();
    world.has_read(RECORDS + 2).await;
    subscribe(&mut second, "C", past(Some(1))).await;
    assert_eq!(take_events(&mut second, 1).await[0]["symbol"], "C");
    let name = json!([{"channel": "trades", "symbols": ["C"]}]);
    second.send(&json!({"op": "unsubscribe", "subscriptions": name})).await.expect("sent");
    gateway.metric_is("tickgate_replays_ended_total{kind=\"past\",result=\"given_up\"}", 1.0).await;
    world.kafka.delete_records(&world.topic, 1, 50).await;
    subscribe(&mut third, "A", past(None)).await;
    until_done(&mut third).await;
    gateway.metric_is("tickgate_replays_ended_total{kind=\"past\",result=\"lost\"}", 1.0).await;
}

/// Events of a replay were measured from when their record was first read: whoever came back after a minute made a minute of the p99
/// of a gateway that delivers within a millisecond, and spent its error budget.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_replayed_is_not_among_the_latencies() {
    const LIVE: usize = 10;
    let world = World::new(1, |_| {}).await;
    let gateway = &world.gateway;
    let mut live = gateway.client().await;
    let name = json!([{"channel": "trades", "symbols": ["A"]}]);
    live.send(&json!({"op": "subscribe", "subscriptions": name})).await.expect("sent");
    gateway.metric_is("tickgate_subscriptions_held", 1.0).await;
    world.records.send_all(&(0..LIVE).map(|n| trade("A", &n.to_string())).collect::<Vec<_>>());
    let first = take_events(&mut live, LIVE).await[0]["seq"].clone();

    // From the feed's memory, and from Kafka.
    let hour_ago = (clock::wall_ns() - 3_000_000_000_000).to_string();
    for from in [json!({"seq": first}), json!({"time_ns": hour_ago})] {
        let mut client = gateway.client().await;
        subscribe(&mut client, "A", from).await;
        until_done(&mut client).await;
    }
    gateway.metric_is("tickgate_events_sent_total", (LIVE + LIVE - 1 + LIVE) as f64).await;
    for stage in ["offered_to_written", "ingest_to_written", "event_to_written"] {
        let line = format!("tickgate_latency_seconds_count{{stage=\"{stage}\"}}");
        gateway.metric_is(&line, LIVE as f64).await;
    }
}

/// Cursors that were refused were in no metric: after a key was changed on one gateway alone, all of its newcomers began anew, and
/// nothing showed it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resumes_that_are_refused_are_counted_by_what_was_wrong() {
    let world = World::new(1, |config| config.replay.memory_bytes_max = 0).await;
    world.records.send_all(&(0..10).map(|n| trade("A", &n.to_string())).collect::<Vec<_>>());
    world.has_read(10).await;
    world.kafka.delete_records(&world.topic, 1, 5).await;
    let other = cursor::encode(&[Position { epoch: 1, partition: 0, offset: 3 }], &CursorKey::new(b"other"));
    let ours = cursor::encode(&[Position { epoch: 1, partition: 0, offset: 3 }], &CursorKey::new(b""));
    let long = "A".repeat(CURSOR_BYTES_MAX + 1);
    let subscriptions = json!([{"channel": "trades", "symbols": ["A"]}]);
    let mut expected = Vec::new();
    for (cursor, reason, code) in [
        ("nonsense!", "malformed", "bad_request"),
        (&long, "too_long", "bad_request"),
        ("AAAA", "version", "bad_request"),
        (&other, "signature", "bad_request"),
        (&ours, "topic", "replay_aged_out"),
    ] {
        let mut client = world.gateway.client().await;
        let request = json!({"op": "subscribe", "cursor": cursor, "subscriptions": subscriptions});
        client.send(&request).await.expect("sent");
        assert_eq!(refusal(&mut client).await, code, "{reason}");
        expected.push(reason);
    }
    let mut client = world.gateway.client().await;
    subscribe(&mut client, "A", json!({"time_ns": "0"})).await;
    assert_eq!(refusal(&mut client).await, "replay_aged_out");
    for reason in expected.into_iter().chain(["aged_out"]) {
        let line = format!("tickgate_resumes_refused_total{{reason=\"{reason}\"}}");
        world.gateway.metric_is(&line, 1.0).await;
    }
}

#[tokio::test]
async fn a_gateway_that_reads_nothing_again_counts_what_it_refuses() {
    let world = World::new(1, |config| config.replay.consumers_max = 0).await;
    let mut client = world.gateway.client().await;
    subscribe(&mut client, "A", json!({"time_ns": "0", "speed": 1})).await;
    assert_eq!(refusal(&mut client).await, "bad_request");
    world.gateway.metric_is("tickgate_replays_refused_total{reason=\"off\"}", 1.0).await;
}
