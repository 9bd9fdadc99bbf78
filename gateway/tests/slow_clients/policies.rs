//! What `skip`, `disconnect` and `conflate` do at the bound.

use crate::harness::{quote, trade, until};
use crate::world::{NARROW, Slow, World, merged};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tickgate_gateway::stats::CloseReason;
use tickgate_load::book::BookKeeper;
use tickgate_protocol::event::EventView;
use tickgate_protocol::{Depth, Position, cursor};

#[tokio::test]
async fn skip_drops_the_oldest_and_says_exactly_how_many() {
    let world = World::new(|_| ()).await;
    let asked = json!({"channel": "trades", "symbols": ["*"], "on_slow": "skip"});
    let mut slow = Slow::subscribed(&world.gateway, NARROW, asked.clone()).await;
    let healthy = Slow::subscribed(&world.gateway, None, asked).await;
    let total = 4000;
    world.trades_for(healthy, total).await;

    let last = total.to_string();
    slow.read_until(|event| event["price"] == last).await;
    slow.holds_to_the_protocol();
    let notices = slow.told("slow");
    assert!(!notices.is_empty(), "it was told before");
    assert_eq!((&notices[0]["action"], &notices[0]["limit_bytes"]), (&json!("skip"), &json!(256 << 10)));
    assert!(notices[0]["queued_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{:?}", notices[0]);
    let gaps: Vec<&Value> = slow.events.iter().filter(|event| event["type"] == "gap").collect();
    let lost: u64 = gaps.iter().map(|gap| gap["count"].as_u64().expect("a count")).sum();
    assert!(lost > total / 4, "it was slow: {lost}");
    assert!(gaps.iter().all(|gap| gap["cause"] == "slow_consumer" && gap["channel"] == "trades"));
    assert_eq!((slow.events.len() - gaps.len()) as u64 + lost, total, "sent and lost make all");
    // The oldest went: what was newest at the time is here, and the stream goes on.
    world.queue(&trade("A", "7.77"));
    slow.read_until(|event| event["price"] == "7.77").await;
    slow.holds_to_the_protocol();
    world.books_close().await;
}

#[tokio::test]
async fn disconnect_gives_a_cursor_and_closes() {
    let world = World::new(|_| ()).await;
    let asked = json!({"channel": "trades", "symbols": ["*"]});
    let mut slow = Slow::subscribed(&world.gateway, NARROW, asked.clone()).await;
    let healthy = Slow::subscribed(&world.gateway, None, asked).await;
    world.trades_for(healthy, 4000).await;
    world.nobody_subscribes().await;
    // However late it reads again, it learns why: longer than a peer has to answer an ordinary close.
    // tidy: allow(sleep) the time that passes is what is tested
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let code = loop {
        if let Some(code) = slow.read().await {
            break code;
        }
    };
    assert_eq!(code, 4490);
    slow.raw.ended().await;
    slow.holds_to_the_protocol();
    // The end overtakes what is queued, so the warning may or may not have gone out before it.
    assert!(slow.told("slow").iter().all(|notice| notice["action"] == "disconnect"), "{:?}", slow.control);
    let error = slow.told("error").remove(0);
    assert_eq!((&error["code"], &error["number"]), (&json!("slow_consumer"), &json!(4490)));
    assert_eq!(error["fatal"], true);
    let cursor = cursor::decode_unverified(error["cursor"].as_str().expect("a cursor")).expect("a cursor");
    let last: Position =
        slow.events.last().expect("events")["seq"].as_str().and_then(|s| s.parse().ok()).expect("seq");
    let behind = Position { offset: last.offset + 1, ..last };
    assert!(cursor.iter().all(|next| next.is_at_or_before(behind)), "{cursor:?} passes {last}");
    until("it is counted", || world.closed(CloseReason::SlowConsumer) == 1).await;
    world.books_close().await;
}

#[tokio::test]
async fn conflate_keeps_the_newest_state_of_every_symbol() {
    let world = World::new(|_| ()).await;
    let asked = json!({"channel": "quotes", "symbols": ["*"]});
    let mut slow = Slow::subscribed(&world.gateway, NARROW, asked).await;
    let (symbols, rounds) = (20, 400);
    for round in 1..=rounds {
        for symbol in 0..symbols {
            world.queue(&quote(&format!("S{symbol}"), &round.to_string(), "9999"));
        }
    }
    let total = symbols * rounds;
    world.offered(total).await;
    let mut newest = BTreeMap::new();
    while newest.values().filter(|bid| **bid == rounds).count() < symbols as usize {
        let seen = slow.events.len();
        assert_eq!(slow.read().await, None);
        for event in &slow.events[seen..] {
            let bid: u64 = event["bid_price"].as_str().and_then(|bid| bid.parse().ok()).expect("a bid");
            let before = newest.insert(event["symbol"].to_string(), bid);
            assert!(before.is_none_or(|before| before <= bid), "never back to an old state");
        }
    }
    slow.holds_to_the_protocol();
    assert_eq!(slow.tally.gaps, 0, "a newer state takes nothing away");
    assert_eq!(slow.events.iter().map(merged).sum::<u64>(), total, "each is sent or merged");
    assert!((slow.events.len() as u64) < total / 2, "it was slow");
    assert_eq!(slow.told("slow")[0]["action"], "conflate");
    world.books_close().await;
}

/// A book's changes build on each other: what a slow client did not get makes the rest worthless, until a snapshot.
#[tokio::test]
async fn a_book_falls_back_to_a_snapshot() {
    for (on_slow, depth) in [("conflate", 0), ("conflate", 10), ("skip", 0), ("skip", 10)] {
        let world = World::new(|_| ()).await;
        let book = |bids: Value, snapshot: bool| json!({"type": "book", "symbol": "A", "bids": bids, "asks": [["100000", "1"]], "snapshot": snapshot, "event_ns": 1});
        let level = |n: u64| json!([n.to_string(), "1"]);
        world.queue(&book((1..=50).map(level).collect(), true));
        world.records.flush();
        until("it was read", || world.gateway.running().board().feed().records == 1).await;
        let asked = json!({"channel": "book", "symbols": ["A"], "depth": depth, "on_slow": on_slow});
        let mut slow = Slow::subscribed(&world.gateway, NARROW, asked).await;
        // Each change takes the lowest level out and adds a highest one.
        let total = 4000;
        for n in 1..=total {
            world.queue(&book(json!([[n.to_string(), "0"], [(n + 50).to_string(), "1"]]), false));
        }
        world.offered(total + 1).await;
        slow.read_until(|event| event["bids"].to_string().contains(&format!("\"{}\"", total + 50))).await;
        slow.holds_to_the_protocol();
        let what = format!("{on_slow} at depth {depth}");
        assert!((slow.events.len() as u64) < total, "{what}: it was slow");
        assert_eq!(slow.tally.gaps > 0, on_slow == "skip", "{what}: {:#?}", slow.tally);
        world.queue(&book(json!([["1", "5"], ["4050", "7"]]), false));
        slow.read_until(|event| event["bids"].to_string().contains("[\"4050\",\"7\"]")).await;
        slow.holds_to_the_protocol();

        let mut keeper = BookKeeper::new(Depth::new(depth).expect("a depth"));
        for event in &slow.events {
            let text = event.to_string();
            keeper.apply(&serde_json::from_str::<EventView<'_>>(&text).expect("an event"));
        }
        let bids: Vec<String> = keeper.bids().map(|(price, _)| price.to_string()).collect();
        let levels = if depth == 0 { 50 } else { 10 };
        let mut expected: Vec<String> = (total + 1..=total + 50).rev().map(|n| n.to_string()).collect();
        if depth == 0 {
            expected.push("1".to_owned());
        }
        expected.truncate(levels + usize::from(depth == 0));
        assert_eq!(bids, expected, "{what}");
        world.books_close().await;
    }
}
