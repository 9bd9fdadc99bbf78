//! The bounds beside that of bytes: age, a socket that takes nothing, a rate of the client's own.

use crate::harness::{quote, trade, until};
use crate::world::{NARROW, Slow, World};
use serde_json::json;
use std::time::{Duration, Instant};
use tickgate_gateway::stats::CloseReason;

#[tokio::test]
async fn age_counts_while_the_socket_refuses_bytes() {
    let world = World::new(|config| {
        config.outbox.age_max_ms = 400;
        config.outbox.bytes_max = 8 << 20;
    })
    .await;
    let mut slow =
        Slow::subscribed(&world.gateway, NARROW, json!({"channel": "trades", "symbols": ["*"]})).await;
    let start = Instant::now();
    for n in 0..1000 {
        world.queue(&trade("A", &n.to_string()));
    }
    world.offered(1000).await;
    until("its age is seen", || {
        let board = world.gateway.running().board();
        (0..board.shard_count()).any(|shard| board.shard(shard).slow_notices > 0)
    })
    .await;
    assert!(start.elapsed() >= Duration::from_millis(200), "half of it: {:?}", start.elapsed());
    world.nobody_subscribes().await;
    let code = loop {
        if let Some(code) = slow.read().await {
            break code;
        }
    };
    assert_eq!(code, 4490, "far below the bound of bytes");
}

#[tokio::test]
async fn a_socket_that_takes_nothing_is_given_up() {
    let world = World::new(|config| {
        config.outbox.age_max_ms = 500;
        config.outbox.stall_timeout_ms = 1000;
    })
    .await;
    let asked = json!({"channel": "quotes", "symbols": ["*"]});
    let _stalled = Slow::subscribed(&world.gateway, NARROW, asked).await;
    for n in 0..2000 {
        world.queue(&quote(&format!("S{n}"), "1", "2"));
    }
    let start = Instant::now();
    world.offered(2000).await;
    until("it is closed", || world.closed(CloseReason::Stalled) + world.closed(CloseReason::Io) == 1).await;
    assert!(start.elapsed() > Duration::from_millis(700), "{:?}", start.elapsed());
    world.books_close().await;
}

/// Its own bound makes a client late, not slow: it gets the newest state, within its rate.
#[tokio::test]
async fn a_client_may_bound_its_bytes() {
    let world = World::new(|config| {
        // Waiting for its rate is no stalling.
        config.outbox.age_max_ms = 500;
        config.outbox.stall_timeout_ms = 1000;
    })
    .await;
    let asked = json!({"channel": "quotes", "symbols": ["*"]});
    let mut client = Slow::subscribed(&world.gateway, None, asked).await;
    let per_s = 10_000;
    client.raw.say(&json!({"op": "set", "max_bytes_per_s": per_s})).await;
    client.read().await;
    let start = Instant::now();
    let before = client.tally.bytes;
    let mut round: u64 = 0;
    while start.elapsed() < Duration::from_secs(4) {
        round += 1;
        for symbol in 0..10 {
            world.queue(&quote(&format!("S{symbol}"), &round.to_string(), "9999"));
        }
        while let Ok(closed) = tokio::time::timeout(Duration::from_millis(1), client.read()).await {
            assert_eq!(closed, None);
        }
    }
    let (bytes, seconds) = (client.tally.bytes - before, start.elapsed().as_secs_f64());
    // One second's worth may be saved up before.
    assert!((bytes as f64) < (seconds + 1.0) * f64::from(per_s) * 1.2, "{bytes} bytes in {seconds} s");
    assert!((bytes as f64) > seconds * f64::from(per_s) * 0.6, "{bytes} bytes in {seconds} s");
    world.records.flush();
    let last = round.to_string();
    for symbol in 0..10 {
        let symbol = format!("S{symbol}");
        client.read_until(|event| event["symbol"] == symbol && event["bid_price"] == last).await;
    }
    client.holds_to_the_protocol();
    assert!(client.tally.merged > 0 && client.tally.gaps == 0);
    world.books_close().await;
}
