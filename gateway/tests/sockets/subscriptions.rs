//! What a session holds and what it therefore gets: symbols, patterns, options, and changes of them.

use crate::harness::{Gateway, Kafka, Records, next_events, quote, take_events, trade, until};
use serde_json::{Value, json};
use tickgate_gateway::config::Config;
use tickgate_gateway::stats::DiscardReason;
use tickgate_load::{Client, Incoming};

struct World {
    _kafka: Kafka,
    records: Records,
    gateway: Gateway,
}

impl World {
    async fn new(change: impl FnOnce(&mut Config)) -> Self {
        let kafka = Kafka::embedded();
        let topic = kafka.topic(1).await;
        let records = kafka.producer(&topic);
        let mut config = kafka.config(&topic);
        change(&mut config);
        let gateway = Gateway::start(config).await;
        Self { _kafka: kafka, records, gateway }
    }

    /// Writes records and waits until the gateway has read them.
    async fn read(&self, records: &[Value]) {
        let before = self.gateway.running().board().feed().records;
        self.records.send_all(records);
        let after = before + records.len() as u64;
        until("they were read", || self.gateway.running().board().feed().records >= after).await;
    }
}

async fn subscribe(client: &mut Client, subscription: Value) -> tickgate_protocol::control::AckResult {
    client.subscribe(&[subscription]).await.expect("an ack").remove(0)
}

/// A request's answer comes behind everything that was sent before it: whatever came until then.
async fn barrier(client: &mut Client) -> Vec<Value> {
    client.request(json!({"op": "ping"})).await.expect("a pong");
    let mut events = Vec::new();
    // What came before the answer is held back by the client, in order.
    while let Some(incoming) = client.next_within(std::time::Duration::ZERO).await {
        match incoming {
            Incoming::Events(frame) => {
                events.extend(serde_json::from_str::<Vec<Value>>(frame.as_str()).expect("events"));
            }
            Incoming::Control { .. } => {}
            Incoming::Closed { code, reason } => panic!("closed with {code:?}: {reason}"),
        }
    }
    events
}

/// Symbols and their bids.
fn bids(events: &[Value]) -> Vec<String> {
    events.iter().map(|e| format!("{} {}", e["symbol"], e["bid_price"]).replace('"', "")).collect()
}

#[tokio::test]
async fn repeating_a_subscription_succeeds_and_sends_nothing_again() {
    let world = World::new(|_| ()).await;
    world.read(&[quote("A", "1", "2")]).await;
    let mut client = world.gateway.client().await;
    let asked = json!({"channel": "quotes", "symbols": ["A"]});
    assert!(subscribe(&mut client, asked.clone()).await.ok);
    let first = take_events(&mut client, 1).await;
    assert_eq!(first[0]["snapshot"], true);
    for _ in 0..3 {
        assert!(subscribe(&mut client, asked.clone()).await.ok);
    }
    // Twice in one request is once as well.
    let verdicts = client
        .subscribe(&[
            json!({"channel": "quotes", "symbols": ["A", "A"]}),
            json!({"channel": "quotes", "symbols": ["A"]}),
        ])
        .await
        .expect("an ack");
    assert!(verdicts.len() == 3 && verdicts.iter().all(|v| v.ok));
    assert_eq!(barrier(&mut client).await, Vec::<Value>::new());
    world.records.send(&quote("A", "1.5", "2"));
    let next = take_events(&mut client, 1).await;
    assert_eq!(next[0]["prev"], first[0]["seq"], "and it comes once");
}

#[tokio::test]
async fn a_symbol_named_twice_in_one_request_has_the_last_options() {
    let world = World::new(|_| ()).await;
    world.read(&[quote("A", "1", "2")]).await;
    let mut client = world.gateway.client().await;
    for (first, last) in [(100, 0), (0, 250), (1000, 0)] {
        let verdicts = client
            .subscribe(&[
                json!({"channel": "quotes", "symbols": ["A"], "conflate_ms": first}),
                json!({"channel": "quotes", "symbols": ["A"], "conflate_ms": last}),
            ])
            .await
            .expect("an ack");
        assert!(verdicts.iter().all(|v| v.ok));
        assert_eq!(take_events(&mut client, 1).await[0]["snapshot"], true);
        let list = client.request(json!({"op": "list"})).await.expect("a list");
        let list = serde_json::to_value(&list).expect("JSON");
        assert_eq!(list["subscriptions"].as_array().map(Vec::len), Some(1), "{list}");
        assert_eq!(list["subscriptions"][0]["conflate_ms"].as_u64().unwrap_or(0), last);
        world.records.send(&quote("A", "1.5", "2"));
        assert_eq!(take_events(&mut client, 1).await[0].get("snapshot"), None, "updates come");
    }
}

#[tokio::test]
async fn changing_the_options_sends_the_snapshot_again() {
    let world = World::new(|_| ()).await;
    let levels = |n: u32| (1..=n).map(|i| json!([i.to_string(), "1"])).collect::<Vec<_>>();
    world
        .read(&[
            json!({"type": "book", "symbol": "A", "bids": levels(30), "asks": [], "snapshot": true, "event_ns": 1}),
        ])
        .await;
    let mut client = world.gateway.client().await;
    for (options, count) in [
        (json!({"depth": 20}), 20),
        (json!({"depth": 5}), 5),
        (json!({"depth": 5, "conflate_ms": 100}), 5),
        (json!({"depth": 5, "conflate_ms": 100, "on_slow": "disconnect"}), 5),
        (json!({}), 30),
    ] {
        let mut asked = json!({"channel": "book", "symbols": ["A"]});
        asked.as_object_mut().expect("an object").extend(options.as_object().expect("an object").clone());
        assert!(subscribe(&mut client, asked).await.ok);
        let events = take_events(&mut client, 1).await;
        assert_eq!(events[0]["snapshot"], true, "{options}");
        assert_eq!(events[0]["bids"].as_array().map(Vec::len), Some(count), "{options}");
        assert_eq!(barrier(&mut client).await.len(), 0, "{options}");
    }
}

#[tokio::test]
async fn a_symbol_that_nobody_has_seen_is_waited_for() {
    let world = World::new(|_| ()).await;
    let mut client = world.gateway.client().await;
    let verdict = subscribe(&mut client, json!({"channel": "trades", "symbols": ["NEW"]})).await;
    assert_eq!((verdict.ok, verdict.seen, verdict.instrument), (true, Some(false), None));
    let verdict = subscribe(&mut client, json!({"channel": "book", "symbols": ["NEW"]})).await;
    assert_eq!((verdict.seen, verdict.state.as_deref()), (Some(false), Some("building")));
    world.records.send(&trade("OTHER", "1"));
    world.records.send(&trade("NEW", "2"));
    let events = take_events(&mut client, 1).await;
    assert_eq!((&events[0]["symbol"], &events[0]["price"]), (&json!("NEW"), &json!("2")));
    let verdict = subscribe(&mut client, json!({"channel": "quotes", "symbols": ["NEW"]})).await;
    assert_eq!((verdict.ok, verdict.seen, verdict.instrument.is_some()), (true, None, true));
}

#[tokio::test]
async fn a_book_is_building_until_a_snapshot_record_was_read() {
    let world = World::new(|_| ()).await;
    let change = json!({"type": "book", "symbol": "A", "bids": [["1", "1"]], "asks": [], "event_ns": 1});
    world.read(std::slice::from_ref(&change)).await;
    let mut client = world.gateway.client().await;
    for depth in [0, 5] {
        let asked = json!({"channel": "book", "symbols": ["A"], "depth": depth});
        assert_eq!(subscribe(&mut client, asked).await.state.as_deref(), Some("building"));
        world.read(std::slice::from_ref(&change)).await;
        assert_eq!(barrier(&mut client).await.len(), 0, "nothing to build on, nothing to show");
    }
    let discarded = || world.gateway.running().board().feed().discarded[DiscardReason::Building as usize];
    until("what was thrown away is counted", || discarded() == 3).await;
    world
        .records
        .send(&json!({"type": "book", "symbol": "A", "bids": [["9", "1"]], "asks": [], "snapshot": true}));
    let events = take_events(&mut client, 1).await;
    assert_eq!((&events[0]["snapshot"], &events[0]["bids"]), (&json!(true), &json!([["9", "1"]])));
    world.records.send(&change);
    let events = take_events(&mut client, 1).await;
    assert_eq!((&events[0]["bids"], events[0].get("snapshot")), (&json!([["1", "1"]]), None));
    let verdict = subscribe(&mut client, json!({"channel": "book", "symbols": ["A"]})).await;
    assert_eq!(verdict.state, None);
}

#[tokio::test]
async fn only_a_configured_list_makes_symbols_unknown() {
    let world = World::new(|config| {
        config.feeds[0].symbols = vec!["A".to_owned(), "B".to_owned()];
    })
    .await;
    let mut client = world.gateway.client().await;
    let verdicts = client
        .subscribe(&[json!({"channel": "trades", "symbols": ["A", "C", "B", "*"]})])
        .await
        .expect("an ack");
    let codes: Vec<_> = verdicts.iter().map(|v| v.code.map(|code| code.name())).collect();
    assert_eq!(codes, [None, Some("unknown_symbol"), None, None]);
    assert!(verdicts[1].message.is_some());
    let list = client.request(json!({"op": "list"})).await.expect("a list");
    let list = serde_json::to_value(&list).expect("JSON");
    assert_eq!(list["subscriptions"].as_array().map(Vec::len), Some(3));
    // One place was not used up by the refusal.
    world.records.send(&trade("A", "1"));
    assert_eq!(take_events(&mut client, 1).await[0]["symbol"], "A");
}

#[tokio::test]
async fn patterns_match_what_is_there_and_what_comes_later() {
    let world = World::new(|_| ()).await;
    world.read(&[quote("BTCUSDT", "1", "2"), quote("ETHUSDT", "3", "4"), quote("BT", "5", "6")]).await;
    let mut client = world.gateway.client().await;
    subscribe(&mut client, json!({"channel": "quotes", "symbols": ["BTC*"]})).await;
    let events = take_events(&mut client, 1).await;
    assert_eq!((&events[0]["symbol"], &events[0]["snapshot"]), (&json!("BTCUSDT"), &json!(true)));
    world.read(&[quote("BTCEUR", "7", "8"), quote("ETHEUR", "7", "8"), quote("BTC", "9", "10")]).await;
    assert_eq!(bids(&take_events(&mut client, 2).await), ["BTCEUR 7", "BTC 9"]);

    let mut everything = world.gateway.client().await;
    subscribe(&mut everything, json!({"channel": "quotes", "symbols": ["*"]})).await;
    let mut names: Vec<_> =
        take_events(&mut everything, 6).await.iter().map(|e| e["symbol"].to_string()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 6, "the snapshot of every symbol, once");
    world.records.send(&quote("\u{20ac}", "1", "2"));
    assert_eq!(take_events(&mut everything, 1).await[0]["symbol"], "\u{20ac}");
    assert_eq!(barrier(&mut client).await.len(), 0);
}

/// Exact beats the longest pattern beats `*`; whatever else matches, each event comes once, with the options of the
/// most specific subscription. Conflated and plain streams of one symbol are told apart by `merged` and pace.
#[tokio::test]
async fn the_most_specific_subscription_wins() {
    let world = World::new(|_| ()).await;
    let book = |symbol: &str, size: u32| {
        let bids: Vec<Value> = (1..=60).map(|i| json!([i.to_string(), (size + i).to_string()])).collect();
        json!({"type": "book", "symbol": symbol, "bids": bids, "asks": [], "snapshot": true, "event_ns": 1})
    };
    world.read(&[book("AAPL", 0), book("AAL", 0), book("BA", 0)]).await;
    let mut client = world.gateway.client().await;
    let verdicts = client
        .subscribe(&[
            json!({"channel": "book", "symbols": ["*"], "depth": 1}),
            json!({"channel": "book", "symbols": ["A*"], "depth": 5}),
            json!({"channel": "book", "symbols": ["AA*"], "depth": 10}),
            json!({"channel": "book", "symbols": ["AAPL"], "depth": 20}),
        ])
        .await
        .expect("an ack");
    assert!(verdicts.iter().all(|v| v.ok));
    let levels = |events: &[Value]| {
        let mut levels: Vec<(String, usize)> = events
            .iter()
            .map(|e| (e["symbol"].to_string(), e["bids"].as_array().map_or(0, Vec::len)))
            .collect();
        levels.sort();
        levels
    };
    let expect = |list: &[(&str, usize)]| {
        let mut list: Vec<(String, usize)> = list.iter().map(|(s, n)| (json!(s).to_string(), *n)).collect();
        list.sort();
        list
    };
    let all = [("AAPL", 20), ("AAL", 10), ("BA", 1)];
    assert_eq!(levels(&take_events(&mut client, 3).await), expect(&all), "snapshots");
    let more = [book("AAPL", 1), book("AAL", 1), book("BA", 1), book("AX", 1)];
    world.read(&more).await;
    let all = [("AAPL", 20), ("AAL", 10), ("BA", 1), ("AX", 5)];
    assert_eq!(levels(&take_events(&mut client, 4).await), expect(&all), "updates");

    // What ends uncovers what it covered, with its state: the exact one, then the longest pattern, then the next.
    for (ended, uncovered) in [
        ("AAPL", &[("AAPL", 10)][..]),
        ("AA*", &[("AAPL", 5), ("AAL", 5)]),
        ("A*", &[("AAPL", 1), ("AAL", 1), ("AX", 1)]),
    ] {
        let verdicts =
            client.unsubscribe(&[json!({"channel": "book", "symbols": [ended]})]).await.expect("an ack");
        assert!(verdicts[0].ok);
        let events = take_events(&mut client, uncovered.len()).await;
        assert_eq!(levels(&events), expect(uncovered), "after {ended}");
        assert!(events.iter().all(|e| e["snapshot"] == true), "{events:?}");
        let seqs: Vec<Value> = events.iter().map(|e| e["seq"].clone()).collect();
        let symbols: Vec<String> =
            events.iter().map(|e| e["symbol"].as_str().expect("a symbol").to_owned()).collect();
        world.read(&symbols.iter().map(|s| book(s, 7)).collect::<Vec<_>>()).await;
        for update in take_events(&mut client, symbols.len()).await {
            let at = symbols.iter().position(|s| update["symbol"] == **s).expect("one of them");
            assert_eq!(update["prev"], seqs[at], "after {ended} the chain goes on: {update}");
        }
    }
    client.unsubscribe(&[json!({"channel": "book", "symbols": ["*"]})]).await.expect("an ack");
    world.read(&more).await;
    assert_eq!(barrier(&mut client).await.len(), 0, "nothing is held any more");
}

/// The state that falls back to a conflated pattern must fit what the pattern's other sessions still wait for.
#[tokio::test]
async fn falling_back_to_a_conflated_pattern_keeps_the_chain() {
    let world = World::new(|_| ()).await;
    let mut other = world.gateway.client().await;
    let pattern = json!({"channel": "quotes", "symbols": ["*"], "conflate_ms": 1000});
    subscribe(&mut other, pattern.clone()).await;
    let mut client = world.gateway.client().await;
    subscribe(&mut client, pattern).await;
    subscribe(&mut client, json!({"channel": "quotes", "symbols": ["A"]})).await;
    // The first goes to everybody at once, the second waits for the pattern's interval.
    let queue = |bid: &str| world.records.queue("A", None, quote("A", bid, "9").to_string().as_bytes());
    queue("1");
    queue("2");
    assert_eq!(bids(&take_events(&mut client, 2).await), ["A 1", "A 2"]);
    client.unsubscribe(&[json!({"channel": "quotes", "symbols": ["A"]})]).await.expect("an ack");
    let state = take_events(&mut client, 1).await;
    assert_eq!((&state[0]["bid_price"], &state[0]["snapshot"]), (&json!("2"), &json!(true)));
    queue("3");
    let update = next_events(&mut client).await;
    assert_eq!(update[0]["bid_price"], "3");
    assert_eq!(update[0]["prev"], state[0]["seq"]);
    let update = take_events(&mut other, 2).await;
    assert_eq!(bids(&update), ["A 1", "A 3"]);
    assert_eq!((&update[1]["prev"], &update[1]["merged"]), (&update[0]["seq"], &json!(2)));
}

#[tokio::test]
async fn after_an_unsubscribe_nothing_more_comes() {
    let world = World::new(|_| ()).await;
    let mut client = world.gateway.client().await;
    for round in 0..20 {
        subscribe(&mut client, json!({"channel": "trades", "symbols": ["A", "B*"]})).await;
        world.records.send_all(&[trade("A", "1"), trade("B1", "1")]);
        take_events(&mut client, 2).await;
        let verdicts = client
            .unsubscribe(&[json!({"channel": "trades", "symbols": ["A", "B*"]})])
            .await
            .expect("an ack");
        assert!(verdicts.iter().all(|v| v.ok), "round {round}");
        world.read(&[trade("A", "2"), trade("B1", "2")]).await;
        assert_eq!(barrier(&mut client).await.len(), 0, "round {round}");
    }
}

/// With no memory and nobody to read Kafka again, what a client missed is announced as lost, and the stream goes on.
#[tokio::test]
async fn what_cannot_be_replayed_is_announced() {
    let world = World::new(|config| {
        config.replay.memory_bytes_max = 0;
        config.replay.consumers_max = 0;
    })
    .await;
    let mut client = world.gateway.client().await;
    subscribe(&mut client, json!({"channel": "quotes", "symbols": ["A"]})).await;
    world.read(&[quote("A", "1", "9"), quote("A", "2", "9")]).await;
    let seen = take_events(&mut client, 2).await;
    let (old, newest) = (seen[0]["seq"].clone(), seen[1]["seq"].clone());

    for (resume, after) in [(json!({"seq": old}), Some(&old)), (json!({"time_ns": "1"}), None)] {
        let mut late = world.gateway.client().await;
        let asked = json!({"channel": "quotes", "symbols": ["A"], "from": resume});
        assert!(subscribe(&mut late, asked).await.ok);
        let error = crate::harness::next_control(&mut late).await;
        let error = serde_json::to_value(&error).expect("JSON");
        assert_eq!((&error["code"], &error["fatal"]), (&json!("replay_aged_out"), &json!(false)));
        let events = take_events(&mut late, 2).await;
        assert_eq!((&events[0]["type"], &events[0]["cause"]), (&json!("gap"), &json!("retention")));
        assert_eq!((events[0].get("after"), &events[0]["upto"]), (after, &newest));
        assert_eq!((&events[1]["snapshot"], &events[1]["seq"]), (&json!(true), &newest));
    }

    // Whoever has seen the newest missed nothing.
    let mut up_to_date = world.gateway.client().await;
    let asked = json!({"channel": "quotes", "symbols": ["A"], "from": {"seq": newest}});
    subscribe(&mut up_to_date, asked).await;
    let events = barrier(&mut up_to_date).await;
    assert!(events.iter().all(|e| e["type"] == "quote"), "{events:?}");
    world.records.send(&quote("A", "3", "9"));
    assert_eq!(take_events(&mut up_to_date, 1).await[0]["prev"], newest);
}
