//! What happens to replays when Kafka does not do as it should.

mod harness;

use harness::world::World;
use harness::{SOON, trade};
use serde_json::{Value, json};
use std::time::Instant;
use tickgate_broker::{ApiKey, ErrorCode};
use tickgate_gateway::clock;
use tickgate_load::{Client, Incoming};
use tickgate_protocol::control::Control;

/// What a client is sent until its replay has ended, and the errors that it is told of.
async fn until_done(client: &mut Client, mut heard: impl FnMut(&Value)) -> Vec<&'static str> {
    let mut errors = Vec::new();
    let reading = async {
        loop {
            match client.next_within(SOON).await {
                Some(Incoming::Events(frame)) => {
                    let events: Vec<Value> = serde_json::from_str(frame.as_str()).expect("events");
                    events.iter().for_each(&mut heard);
                }
                Some(Incoming::Control { control: Some(Control::ReplayDone { .. }), .. }) => return,
                Some(Incoming::Control { control: Some(Control::Error { code, .. }), .. }) => {
                    errors.push(code.name());
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

/// A partition that does not say where it begins kept its client waiting for as long as it did not, without a word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_play_that_cannot_begin_ends_after_ten_seconds() {
    let world = World::new(1, |config| config.kafka.refresh_ms = 60_000).await;
    world.records.send(&trade("A", "1"));
    world.has_read(1).await;
    let broker = world.kafka.broker().expect("it is embedded");
    broker.faults().fail_next(ApiKey::ListOffsets, ErrorCode::NotLeaderOrFollower, usize::MAX);
    let mut client = world.gateway.client().await;
    let now_ns = clock::wall_ns();
    let from = json!({"time_ns": "0", "until_ns": now_ns.to_string()});
    let subscription = json!([{"channel": "trades", "symbols": ["A"], "from": from}]);
    let began = Instant::now();
    client.send(&json!({"op": "subscribe", "subscriptions": subscription})).await.expect("sent");
    let errors = until_done(&mut client, |event| panic!("{event}")).await;
    assert_eq!(errors, ["replay_aged_out"]);
    assert!(began.elapsed().as_secs() >= 9, "only after {:?}", began.elapsed());
}
