//! What happens to replays when Kafka does not do as it should.

use crate::harness::world::World;
use crate::harness::{SOON, take_events, trade};
use rdkafka::producer::BaseRecord;
use serde_json::{Value, json};
use std::time::Instant;
use tickgate_broker::{ApiKey, ErrorCode};
use tickgate_gateway::clock;
use tickgate_load::{Client, Incoming};
use tickgate_protocol::command::Id;
use tickgate_protocol::control::Control;
use tickgate_protocol::{Code, Position};

/// An error that a client is told of: the code, the request, and what happened.
type Told = (Code, Option<Id>, String);

/// What a client is sent until its replay has ended, and the errors that it is told of.
async fn until_done(client: &mut Client, mut heard: impl FnMut(&Value)) -> Vec<Told> {
    let mut errors = Vec::new();
    let reading = async {
        loop {
            match client.next_within(SOON).await {
                Some(Incoming::Events(frame)) => {
                    let events: Vec<Value> = serde_json::from_str(frame.as_str()).expect("events");
                    events.iter().for_each(&mut heard);
                }
                Some(Incoming::Control { control: Some(Control::ReplayDone { .. }), .. }) => return,
                Some(Incoming::Control {
                    control: Some(Control::Error { code, id, message, fatal, .. }),
                    ..
                }) => {
                    assert!(!fatal, "{message}");
                    errors.push((code, id, message));
                }
                Some(Incoming::Closed { code, .. }) => panic!("closed: {code:?}"),
                Some(_) => {}
                None => panic!("no replay_done"),
            }
        }
    };
    tokio::time::timeout(2 * SOON, reading).await.expect("its replay is done");
    errors
}

/// Asks for the past of all trades from a time on up to another, nanoseconds since the Unix epoch.
async fn play(client: &mut Client, id: i64, since_ns: i64, until_ns: i64, speed: Option<u32>) {
    let mut from = json!({"time_ns": since_ns.to_string(), "until_ns": until_ns.to_string()});
    if let Some(speed) = speed {
        from["speed"] = json!(speed);
    }
    let subscription = json!([{"channel": "trades", "symbols": ["*"], "from": from}]);
    client.send(&json!({"op": "subscribe", "id": id, "subscriptions": subscription})).await.expect("sent");
}

/// That a past was broken off as Kafka did not answer, told once and as what it is, and counted as that; gives the time that is named.
async fn is_broken_off(world: &World, errors: &[Told], id: i64) -> i64 {
    let [(code, of, message)] = errors else { panic!("{errors:?}") };
    assert_eq!((*code, of), (Code::SourceDown, &Some(Id::Number(id))), "{message}");
    assert!(message.contains("Kafka does not answer") && message.contains("ask again"), "{message}");
    world.gateway.metric_is("tickgate_replays_ended_total{kind=\"past\",result=\"no_answer\"}", 1.0).await;
    let of = async |line: &str| world.gateway.metric(line).await.expect("it is there");
    assert_eq!(of("tickgate_replays_ended_total{kind=\"past\",result=\"lost\"}").await, 0.0);
    assert_eq!(of("tickgate_resumes_refused_total{reason=\"aged_out\"}").await, 0.0);
    let named = message.split_once("time_ns ").and_then(|(_, rest)| rest.split(' ').next());
    named.and_then(|ns| ns.parse().ok()).unwrap_or_else(|| panic!("no time: {message}"))
}

/// A partition that does not say where it begins kept its client waiting for as long as it did not, without a word. Then that was
/// told as `replay_aged_out`, as if Kafka no longer had what it had before and after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_play_that_cannot_begin_ends_after_ten_seconds() {
    let world = World::new(1, |config| config.kafka.refresh_ms = 60_000).await;
    world.records.send(&trade("A", "1"));
    world.has_read(1).await;
    let broker = world.kafka.broker().expect("it is embedded");
    broker.faults().fail_next(ApiKey::ListOffsets, ErrorCode::NotLeaderOrFollower, usize::MAX);
    let mut client = world.gateway.client().await;
    let now_ns = clock::wall_ns();
    let began = Instant::now();
    play(&mut client, 7, 0, now_ns, None).await;
    let errors = until_done(&mut client, |event| panic!("{event}")).await;
    assert!(began.elapsed().as_secs() >= 9, "only after {:?}", began.elapsed());
    assert_eq!(is_broken_off(&world, &errors, 7).await, 0, "that which was asked for, as nothing was sent");

    // It is not gone.
    broker.faults().fail_next(ApiKey::ListOffsets, ErrorCode::NotLeaderOrFollower, 0);
    play(&mut client, 8, 0, now_ns, None).await;
    let mut events = 0;
    assert_eq!(until_done(&mut client, |_| events += 1).await, []);
    assert_eq!(events, 1);
}

/// The rest of a partition that stopped answering in the midst of a past counted as lost: a broker that stood still for half a minute
/// was told as retention, and whoever believed that never asked again. Then the time of the last event was to be asked for, but that of
/// its venue and that of its reading are all that an event has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_play_whose_kafka_stands_still_ends_there_and_goes_on_later() {
    // Of the first several parts, at twice their speed for half a minute, and the others within one part.
    const PARTITIONS: [(&str, i64, i64); 3] = [("A", 3_000, 20), ("B", 60, 1_003), ("C", 40, 1_499)];
    let world = World::new(3, |config| config.kafka.refresh_ms = 60_000).await;
    let first_ms = clock::wall_ns() / 1_000_000 - 120_000;
    let mut written: Vec<(i64, String)> = Vec::new();
    for (partition, (symbol, records, apart_ms)) in PARTITIONS.into_iter().enumerate() {
        for n in 0..records {
            // No two have the same time.
            let at_ms = first_ms + 1 + n * apart_ms + partition as i64 * 5;
            let value = trade(symbol, &at_ms.to_string()).to_string();
            let record = BaseRecord::<str, str>::to(&world.topic).payload(&value);
            let record = record.partition(partition as i32).timestamp(at_ms);
            world.records.client().send(record).expect("there is room");
            written.push((at_ms * 1_000_000, symbol.to_owned()));
        }
    }
    world.records.flush();
    written.sort_unstable();
    world.has_read(written.len() as u64).await;
    let broker = world.kafka.broker().expect("it is embedded");
    let mut client = world.gateway.client().await;
    let until_ns = clock::wall_ns();
    play(&mut client, 7, first_ms * 1_000_000, until_ns, Some(2)).await;
    let heard = |events: &mut Vec<(i64, String)>, event: &Value| {
        let text = |name: &str| event[name].as_str().unwrap_or_else(|| panic!("{event}")).to_owned();
        events.push((text("price").parse::<i64>().expect("a time") * 1_000_000, text("symbol")));
    };
    let mut before = Vec::new();
    let errors = until_done(&mut client, |event| {
        // What comes at first was read before: some of the first partition, and all of the others.
        broker.faults().stall();
        heard(&mut before, event);
    })
    .await;
    let named_ns = is_broken_off(&world, &errors, 7).await;
    // What came is all of it up to there, and nothing of what had been read ahead.
    assert!((1..written.len()).contains(&before.len()), "{} events", before.len());
    assert_eq!(before, written[..before.len()]);
    assert_eq!(before.last().map(|(at_ns, _)| *at_ns), Some(named_ns));

    // Whoever asks again, as the message says, misses nothing.
    broker.faults().resume();
    play(&mut client, 8, named_ns, until_ns, None).await;
    let mut behind = Vec::new();
    assert_eq!(until_done(&mut client, |event| heard(&mut behind, event)).await, []);
    assert_eq!(behind, written[before.len() - 1..]);
}

/// A partition that Kafka does not give, as it is not there or its broker is away, was told to who came back as gone from Kafka, and
/// counted as a client that was away for too long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_not_given_is_not_told_as_gone() {
    let world = World::new(1, |_| ()).await;
    let mut client = world.gateway.client().await;
    client.subscribe(&[json!({"channel": "trades", "symbols": ["A"]})]).await.expect("an ack");
    world.records.send(&trade("A", "1"));
    let read = take_events(&mut client, 1).await;
    let read: Position = read[0]["seq"].as_str().and_then(|seq| seq.parse().ok()).expect("a position");
    let absent = Position { partition: 99, ..read };
    let from = json!([{"channel": "trades", "symbols": ["A"], "from": {"seq": absent.to_string()}}]);
    let mut client = world.gateway.client().await;
    client.send(&json!({"op": "subscribe", "id": 7, "subscriptions": from})).await.expect("sent");
    let errors = until_done(&mut client, |_| ()).await;
    let [(code, Some(Id::Number(7)), message)] = &errors[..] else { panic!("{errors:?}") };
    // The chain of its client goes on behind what is left out.
    assert_eq!(*code, Code::ReplayAgedOut);
    assert!(
        message.starts_with("some of it could not be had") && message.contains("gone or not"),
        "{message}"
    );
    world.gateway.metric_is("tickgate_resumes_refused_total{reason=\"no_answer\"}", 1.0).await;
    world.gateway.metric_is("tickgate_resumes_refused_total{reason=\"aged_out\"}", 0.0).await;
}
