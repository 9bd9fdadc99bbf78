//! Signs of life: their interval, their place among the data, what their cursor promises.

use crate::harness::world::World;
use crate::harness::{Kafka, quote, take_events, trade, until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tickgate_load::tally::Tally;
use tickgate_load::verify::{Asked, SessionVerifier};
use tickgate_load::{Client, Incoming};
use tickgate_protocol::control::{Control, FeedState, FeedStatus};
use tickgate_protocol::{Position, cursor};

struct Beat {
    now_ns: i64,
    cursor: Vec<Position>,
    queued_bytes: u64,
    delay_ms: u64,
    feeds: Vec<FeedStatus>,
}

/// The next heartbeat, data passed over.
async fn beat(client: &mut Client) -> Beat {
    loop {
        match client.next_within(crate::harness::SOON).await {
            Some(Incoming::Control {
                control: Some(Control::Heartbeat { now_ns, cursor, queued_bytes, delay_ms, feeds }),
                ..
            }) => {
                assert!(now_ns > 1_600_000_000_000_000_000);
                let cursor = cursor::decode_unverified(&cursor).expect("a cursor");
                return Beat { now_ns, cursor, queued_bytes, delay_ms, feeds };
            }
            Some(Incoming::Closed { code, .. }) => panic!("closed: {code:?}"),
            Some(_) => {}
            None => panic!("no heartbeat"),
        }
    }
}

/// How far apart the next ones are by the clock of who sends them: whoever reads them late knows, too.
async fn apart_ms(client: &mut Client) -> i64 {
    let mut sent_ns = Vec::new();
    for _ in 0..6 {
        sent_ns.push(beat(client).await.now_ns);
    }
    let mut apart_ns: Vec<i64> = sent_ns.windows(2).map(|two| two[1] - two[0]).collect();
    apart_ns.sort_unstable();
    apart_ns[apart_ns.len() / 2] / 1_000_000
}

fn position(event: &Value) -> Position {
    event["seq"].as_str().and_then(|seq| seq.parse().ok()).expect("a position")
}

#[tokio::test]
async fn heartbeats_keep_their_interval_and_can_be_set_and_stopped() {
    let world = World::new(1, |config| config.session.heartbeat_ms = 200).await;
    let mut client = world.gateway.client().await;
    assert_eq!(beat(&mut client).await.feeds.len(), 1);
    let apart = apart_ms(&mut client).await;
    assert!(apart >= 190, "{apart} ms");
    client.request(json!({"op": "set", "heartbeat_ms": 100})).await.expect("an ack");
    let deadline = Instant::now() + crate::harness::SOON;
    loop {
        let apart = apart_ms(&mut client).await;
        assert!(apart >= 90, "{apart} ms");
        if apart < 190 {
            break;
        }
        // A busy machine makes them late.
        assert!(Instant::now() < deadline, "{apart} ms");
    }
    client.request(json!({"op": "set", "heartbeat_ms": 0})).await.expect("an ack");
    // Those of the former interval are behind us with its answer.
    while client.next_within(Duration::ZERO).await.is_some() {}
    assert!(client.next_within(Duration::from_millis(500)).await.is_none(), "they are off");
    client.request(json!({"op": "set", "heartbeat_ms": 100})).await.expect("an ack");
    beat(&mut client).await;
}

/// A quiet market is told from a dead connection: nothing is needed but the client's own patience.
#[tokio::test]
async fn they_come_without_subscriptions_and_name_each_feed() {
    let world = World::new(2, |config| {
        config.session.heartbeat_ms = 100;
        config.feeds[0].name = "equities".to_owned();
        config.feeds[0].silence_ms = 600;
    })
    .await;
    let mut client = world.gateway.client().await;
    let feed = beat(&mut client).await.feeds.remove(0);
    assert_eq!((feed.name.as_str(), feed.event_ns, feed.lag_records), ("equities", None, 0));
    world.records.send(&json!({"type": "trade", "symbol": "A", "price": 1, "size": 1, "event_ns": 123}));
    let is = |feed: &FeedStatus, state| feed.state == state;
    loop {
        let feed = beat(&mut client).await.feeds.remove(0);
        if feed.event_ns == Some(123) && is(&feed, FeedState::Live) {
            break;
        }
    }
    while !is(&beat(&mut client).await.feeds[0], FeedState::Stale) {}
    let Kafka::Embedded(broker) = &world.kafka else { panic!("embedded") };
    broker.faults().stop().expect("it stops");
    while !is(&beat(&mut client).await.feeds[0], FeedState::Down) {}
    broker.faults().restart().expect("it starts");
    world.records.send(&trade("A", "2"));
    while !is(&beat(&mut client).await.feeds[0], FeedState::Live) {}
}

/// A client that was cut off in its first seconds had no cursor yet: its patterns began anew, and what came meanwhile was lost.
#[tokio::test]
async fn the_first_cursor_comes_soon_behind_a_subscribe() {
    let world = World::new(1, |config| {
        config.session.heartbeat_ms = 60_000;
        config.feeds[0].silence_ms = 600_000;
    })
    .await;
    for round in 0..2 {
        let mut client = world.gateway.client().await;
        world.records.send(&trade("A", "1"));
        world.has_read(round + 1).await;
        if round == 1 {
            // A new interval begins behind the early one.
            client.request(json!({"op": "set", "heartbeat_ms": 50_000})).await.expect("an ack");
        }
        client.subscribe(&[json!({"channel": "trades", "symbols": ["*"]})]).await.expect("an ack");
        if round == 1 {
            client.request(json!({"op": "set", "heartbeat_ms": 40_000})).await.expect("an ack");
        }
        let Beat { cursor, feeds, .. } = beat(&mut client).await;
        assert_eq!(cursor.iter().map(|next| next.offset).sum::<u64>(), round + 1);
        assert_eq!(feeds[0].state, FeedState::Live);
        // Each request has one, for what it brings, and who wants none gets none.
        client.subscribe(&[json!({"channel": "quotes", "symbols": ["*"]})]).await.expect("an ack");
        beat(&mut client).await;
        client.request(json!({"op": "set", "heartbeat_ms": 0})).await.expect("an ack");
        client.subscribe(&[json!({"channel": "status", "symbols": ["*"]})]).await.expect("an ack");
        assert!(client.next_within(Duration::from_millis(300)).await.is_none());
    }
}

/// A cursor does not pass what is queued: as long as a client had to wait for its first state, which is of long ago, an early one would
/// send it far back.
#[tokio::test]
async fn an_early_cursor_waits_until_the_first_state_is_there() {
    let world = World::new(1, |config| config.session.heartbeat_ms = 60_000).await;
    const SYMBOLS: u64 = 2_000;
    let venue = "V".repeat(60);
    let states = (0..SYMBOLS).map(|n| {
        json!({"type": "quote", "symbol": format!("S{n}"), "bid_price": 1, "bid_size": 1, "ask_price": 2, "ask_size": 1,
            "venue": venue, "event_ns": 1})
    });
    world.records.send_all(&states.collect::<Vec<_>>());
    world.has_read(SYMBOLS).await;
    let mut client = world.gateway.client().await;
    client.request(json!({"op": "set", "max_bytes_per_s": 300_000})).await.expect("an ack");
    client.subscribe(&[json!({"channel": "quotes", "symbols": ["*"]})]).await.expect("an ack");
    let cursor = beat(&mut client).await.cursor;
    assert_eq!(cursor.iter().map(|next| next.offset).sum::<u64>(), SYMBOLS);
}

/// Whoever has a heartbeat was given everything up to its cursor, and a cursor gets to the end when the market pauses.
#[tokio::test]
async fn the_cursor_names_what_was_given_and_no_more() {
    let world = World::new(2, |config| config.session.heartbeat_ms = 100).await;
    let mut client = world.gateway.client().await;
    let cursor = beat(&mut client).await.cursor;
    assert!(cursor.iter().all(|next| next.offset == 0), "nothing was read yet: {cursor:?}");
    client.subscribe(&[json!({"channel": "trades", "symbols": ["*"]})]).await.expect("an ack");
    let mut given: Vec<Position> = Vec::new();
    for round in 0..3 {
        // The keys choose the partitions; eight of them choose both.
        world.records.send_all(&(0..8).map(|n| trade(&format!("S{n}"), "1")).collect::<Vec<_>>());
        given.extend(take_events(&mut client, 8).await.iter().map(position));
        let mut behind: Vec<Position> = Vec::new();
        for position in &given {
            let next = Position { offset: position.offset + 1, ..*position };
            match behind.iter_mut().find(|p| p.partition == position.partition) {
                Some(last) => last.offset = last.offset.max(next.offset),
                None => behind.push(next),
            }
        }
        behind.sort();
        assert_eq!(behind.len(), 2);
        loop {
            let cursor = beat(&mut client).await.cursor;
            assert!(
                cursor.iter().all(|p| behind.iter().any(|b| p.is_at_or_before(*b))),
                "round {round}: {cursor:?}"
            );
            if cursor == behind {
                break;
            }
        }
    }
}

/// Held back by conflation is not given: the cursor waits for it.
#[tokio::test]
async fn the_cursor_does_not_pass_what_conflation_holds_back() {
    let world = World::new(1, |config| config.session.heartbeat_ms = 100).await;
    let mut client = world.gateway.client().await;
    let mut verifier = SessionVerifier::default();
    let mut tally = Tally::default();
    let asked = json!({"op": "subscribe", "id": 1,
        "subscriptions": [{"channel": "quotes", "symbols": ["*"], "conflate_ms": 1000}]});
    verifier.sent(1, Asked::Subscribe);
    client.send(&asked).await.expect("sent");
    let mut last = String::new();
    let mut sent = 0;
    while tally.heartbeats < 40 || last != sent.to_string() {
        let Some(Incoming::Control { frame, .. } | Incoming::Events(frame)) =
            client.next_within(crate::harness::SOON).await
        else {
            panic!("it ended")
        };
        let heartbeats = tally.heartbeats;
        verifier.message(frame.as_bytes(), frame.received_ns, &mut tally, |_, _| ());
        if frame.as_bytes()[0] == b'[' {
            let events = frame.events().expect("events");
            last = events.iter().filter_map(|e| e.bid_price).next_back().map_or(last, |bid| bid.to_string());
        }
        if tally.heartbeats > heartbeats && tally.heartbeats <= 40 {
            sent += 1;
            world.records.send(&quote("A", &sent.to_string(), "9999"));
        }
    }
    assert_eq!(tally.violations(), 0, "{tally:#?}");
    assert!(tally.merged > 0, "it was conflated: {tally:#?}");
}

/// A heartbeat says how far behind its own client is.
#[tokio::test]
async fn a_client_that_takes_little_is_told_its_delay() {
    let world = World::new(1, |config| config.session.heartbeat_ms = 100).await;
    let mut client = world.gateway.client().await;
    let asked = json!({"channel": "trades", "symbols": ["*"], "on_slow": "skip"});
    client.subscribe(&[asked]).await.expect("an ack");
    let first = beat(&mut client).await;
    assert_eq!((first.queued_bytes, first.delay_ms), (0, 0));
    client.request(json!({"op": "set", "max_bytes_per_s": 4000})).await.expect("an ack");
    world.records.send_all(&(0..100).map(|n| trade("A", &n.to_string())).collect::<Vec<_>>());
    loop {
        // One heartbeat waits in the queue at a time, and says how it stood when it was queued.
        let beat = beat(&mut client).await;
        if beat.queued_bytes > 1000 && beat.delay_ms > 0 {
            break;
        }
        assert_ne!(world.gateway.books().1, 100, "all of them were sent, and no delay was told");
    }
    client.request(json!({"op": "set", "max_bytes_per_s": 0})).await.expect("an ack");
    loop {
        let beat = beat(&mut client).await;
        if (beat.queued_bytes, beat.delay_ms) == (0, 0) {
            break;
        }
    }
    until("all of them were sent", || world.gateway.books().1 == 100).await;
}
