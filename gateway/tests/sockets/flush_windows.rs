//! Flush windows: fewer writes for a bounded delay, chosen by the client.

use crate::harness::world::World;
use crate::harness::{next_events, take_events, trade};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tickgate_load::{Client, Incoming};
use tickgate_protocol::control::Control;

async fn subscribed(world: &World, flush_ms: u64) -> Client {
    let mut client = world.gateway.client().await;
    client.request(json!({"op": "set", "heartbeat_ms": 0, "flush_ms": flush_ms})).await.expect("an ack");
    client.subscribe(&[json!({"channel": "trades", "symbols": ["*"]})]).await.expect("an ack");
    client
}

fn prices(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| event["price"].as_str().expect("a price").to_owned()).collect()
}

/// The longest there is: what is to come at once comes long before its end, even on a busy machine, in one of some tries.
const WINDOW: Duration = Duration::from_secs(1);
const TRIES: u64 = 5;

#[tokio::test]
async fn what_comes_first_goes_out_at_once_and_the_rest_together() {
    let world = World::new(1, |_| ()).await;
    let mut was_prompt = false;
    for _ in 0..TRIES {
        if was_prompt {
            break;
        }
        let mut gathering = subscribed(&world, WINDOW.as_millis() as u64).await;
        let mut prompt = subscribed(&world, 0).await;
        let started = Instant::now();
        let (mut got, mut frames) = (Vec::new(), 0);
        // Each is with the client that has no window before the next is sent.
        for price in 0..30 {
            world.records.send(&trade("AAPL", &price.to_string()));
            assert_eq!(prices(&take_events(&mut prompt, 1).await), [price.to_string()]);
            if price == 0 {
                got = prices(&next_events(&mut gathering).await);
                assert_eq!(got, ["0"]);
                was_prompt |= started.elapsed() < WINDOW / 2;
            }
        }
        while got.len() < 30 {
            got.extend(prices(&next_events(&mut gathering).await));
            frames += 1;
        }
        assert_eq!(got, (0..30).map(|price| price.to_string()).collect::<Vec<_>>());
        // One a window, however long all of it took on this machine.
        let windows = started.elapsed().as_millis() / WINDOW.as_millis();
        assert!(frames <= windows + 1, "{frames} frames in {:?}", started.elapsed());
    }
    assert!(was_prompt, "the first one waits");
    world.books_close().await;
}

#[tokio::test]
async fn an_answer_takes_what_was_gathered_before_it_along() {
    let world = World::new(1, |config| config.session.flush_ms = WINDOW.as_millis() as u64).await;
    let mut was_prompt = false;
    for id in 0..TRIES {
        if was_prompt {
            break;
        }
        let mut gathering = world.gateway.client().await;
        let mut prompt = subscribed(&world, 0).await;
        let trades = json!({"channel": "trades", "symbols": ["AAPL"]});
        gathering.subscribe(&[trades]).await.expect("an ack");
        for price in ["1", "2", "3"] {
            world.records.send(&trade("AAPL", price));
            take_events(&mut prompt, 1).await;
        }
        let asked = Instant::now();
        gathering.send(&json!({"op": "ping", "id": id})).await.expect("a socket");
        let mut got = Vec::new();
        loop {
            match gathering.next_within(crate::harness::SOON).await {
                Some(Incoming::Events(frame)) => {
                    got.extend(prices(&serde_json::from_str::<Vec<Value>>(frame.as_str()).expect("events")));
                }
                Some(Incoming::Control { control: Some(Control::Pong { .. }), .. }) => break,
                Some(Incoming::Control { .. }) => {}
                other => panic!("no answer: {other:?}"),
            }
        }
        assert_eq!(got, ["1", "2", "3"], "the gateway's window is the default, and holds no answer back");
        was_prompt |= asked.elapsed() < WINDOW / 2;
    }
    assert!(was_prompt, "the answer waits for the end of a window");
}
