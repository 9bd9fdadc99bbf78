//! Clients that come back get what they missed, exactly once and in order, or are told what is gone.

use crate::harness::world::World;
use crate::harness::{Gateway, Kafka, Records, SOON, closed, next_control, quote, take_events, trade, until};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rdkafka::producer::BaseRecord;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;
use tickgate_gateway::config::FeedConfig;
use tickgate_load::{Client, ClientOptions, Incoming};
use tickgate_protocol::Position;
use tickgate_protocol::checker::{ChainChecker, Verdict};
use tickgate_protocol::control::Control;
use tickgate_protocol::event::Tail;

/// Change it for other interleavings; a failure names it.
const SEED: u64 = 20_261_122;

/// What a client is told until all of its replays are done: events and control messages, as they came.
#[derive(Debug, Default)]
struct Heard {
    events: Vec<Value>,
    errors: Vec<(String, bool)>,
    /// What the last of them says.
    message: String,
    done: Vec<(String, Option<Position>)>,
}

/// Subscribes with `request` and reads until `dones` replays are done.
async fn resume(client: &mut Client, request: Value, dones: usize) -> Heard {
    // Heartbeats would keep a client waiting for ever whose replay has stopped.
    tokio::time::timeout(SOON, until_done(client, request, dones)).await.expect("its replays are done")
}

async fn until_done(client: &mut Client, mut request: Value, dones: usize) -> Heard {
    request["op"] = json!("subscribe");
    client.send(&request).await.expect("sent");
    let mut heard = Heard::default();
    while heard.done.len() < dones {
        match client.next_within(SOON).await {
            Some(Incoming::Events(frame)) => {
                let events: Vec<Value> = serde_json::from_str(frame.as_str()).expect("JSON");
                heard.events.extend(events);
            }
            Some(Incoming::Control { control: Some(Control::ReplayDone { symbol, seq, .. }), .. }) => {
                heard.done.push((symbol, seq));
            }
            Some(Incoming::Control {
                control: Some(Control::Error { code, fatal, message, .. }), ..
            }) => {
                heard.message = message;
                heard.errors.push((code.name().to_owned(), fatal));
            }
            Some(Incoming::Closed { code, .. }) => panic!("closed: {code:?} after {heard:?}"),
            Some(_) => {}
            None => panic!("no replay_done after {heard:?}"),
        }
    }
    heard
}

fn prices(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["price"].as_str()).collect()
}

fn at(event: &Value, field: &str) -> Option<Position> {
    event[field].as_str().map(|text| text.parse().expect("a position"))
}

/// The cursor of the first heartbeat that covers `records` records.
async fn cursor(client: &mut Client, records: u64) -> String {
    loop {
        match client.next_within(SOON).await {
            Some(Incoming::Control { control: Some(Control::Heartbeat { cursor, .. }), .. }) => {
                let positions = tickgate_protocol::cursor::decode_unverified(&cursor).expect("a cursor");
                if positions.iter().map(|next| next.offset).sum::<u64>() >= records {
                    return cursor;
                }
            }
            Some(_) => {}
            None => panic!("no heartbeat covers {records} records"),
        }
    }
}

#[tokio::test]
async fn a_position_is_where_a_symbol_goes_on() {
    let world = World::new(1, |_| ()).await;
    let mut client = world.gateway.client().await;
    client.subscribe(&[json!({"channel": "trades", "symbols": ["A"]})]).await.expect("an ack");
    world.records.send_all(&[trade("A", "1"), trade("A", "2")]);
    let before = take_events(&mut client, 2).await;
    drop(client);
    world.records.send_all(&[trade("A", "3"), trade("B", "4"), quote("A", "5", "6"), trade("A", "7")]);
    world.has_read(6).await;
    let mut client = world.gateway.client().await;
    let from = json!({"seq": before[1]["seq"]});
    let heard = resume(
        &mut client,
        json!({"subscriptions": [{"channel": "trades", "symbols": ["A"], "from": from}]}),
        1,
    )
    .await;
    assert_eq!(prices(&heard.events), ["3", "7"]);
    assert!(heard.events.iter().all(|event| event["replay"] == true && event["snapshot"].is_null()));
    assert_eq!(heard.events[0]["prev"], before[1]["seq"]);
    assert_eq!(heard.events[1]["prev"], heard.events[0]["seq"]);
    assert_eq!((&heard.errors, &heard.done), (&vec![], &vec![("A".to_owned(), at(&heard.events[1], "seq"))]));
    world.records.send(&trade("A", "8"));
    let live = take_events(&mut client, 1).await;
    assert_eq!((&live[0]["price"], &live[0]["replay"]), (&json!("8"), &Value::Null));
    assert_eq!(live[0]["prev"], heard.events[1]["seq"]);
}

#[tokio::test]
async fn a_cursor_is_where_all_subscriptions_go_on() {
    let world = World::new(3, |config| config.session.heartbeat_ms = 100).await;
    let wanted = json!([
        {"channel": "trades", "symbols": ["*"]},
        {"channel": "quotes", "symbols": ["A", "B"]},
        {"channel": "quotes", "symbols": ["C"], "conflate_ms": 100},
        {"channel": "book", "symbols": ["A"]}]);
    let mut client = world.gateway.client().await;
    client.subscribe(wanted.as_array().expect("an array")).await.expect("an ack");
    let book = |price: &str, snapshot: bool| json!({"type": "book", "symbol": "A", "bids": [[price, "1"]], "asks": [], "snapshot": snapshot, "event_ns": 1});
    world.records.send_all(&[trade("A", "1"), quote("A", "1", "2"), book("1", true), trade("B", "2")]);
    take_events(&mut client, 4).await;
    let cursor = cursor(&mut client, 4).await;
    drop(client);
    let missed = [
        trade("A", "3"),
        quote("A", "3", "4"),
        book("2", false),
        quote("C", "5", "6"),
        trade("C", "5"),
        quote("A", "4", "5"),
        book("3", false),
        trade("A", "6"),
        quote("D", "1", "2"),
    ];
    world.records.send_all(&missed);
    world.has_read(4 + missed.len() as u64).await;
    let mut client = world.gateway.client().await;
    let heard = resume(&mut client, json!({"cursor": cursor, "subscriptions": wanted}), 5).await;
    let of = |kind: &str, symbol: &str| {
        let is_it = |event: &&Value| event["type"] == kind && event["symbol"] == symbol;
        heard.events.iter().filter(is_it).cloned().collect::<Vec<Value>>()
    };
    assert_eq!(heard.errors, []);
    assert_eq!(prices(&of("trade", "A")), ["3", "6"]);
    assert_eq!(prices(&of("trade", "C")), ["5"]);
    assert_eq!(of("trade", "B"), Vec::<Value>::new(), "it had that");
    assert_eq!(of("quote", "A").iter().map(|event| &event["bid_price"]).collect::<Vec<_>>(), ["3", "4"]);
    assert_eq!(of("quote", "C")[0]["snapshot"], true, "of a conflated one the newest state says all");
    assert_eq!(of("quote", "D"), Vec::<Value>::new(), "nobody asked for it");
    let changes = of("book", "A");
    assert_eq!(changes.iter().map(|event| &event["bids"][0][0]).collect::<Vec<_>>(), ["2", "3"]);
    assert!(
        changes.iter().all(|event| event["snapshot"].is_null() && event["replay"] == true),
        "{changes:?}"
    );
    assert_eq!(changes[1]["prev"], changes[0]["seq"]);
    world.records.send(&book("4", false));
    let live = take_events(&mut client, 1).await;
    assert_eq!(live[0]["prev"], changes[1]["seq"]);
}

/// Of a conflated subscription, of one of a limited depth, and where nothing could be replayed, nobody said that there was nothing more
/// to wait for: a client did not know when all that it had missed was there.
#[tokio::test]
async fn who_asks_where_to_go_on_is_told_that_it_is_done() {
    let world = World::new(1, |_| ()).await;
    let book = json!({"type": "book", "symbol": "A", "bids": [["1", "1"]], "asks": [], "snapshot": true, "event_ns": 1});
    world.records.send_all(&[quote("A", "1", "2"), book]);
    let mut client = world.gateway.client().await;
    let held = json!([
        {"channel": "quotes", "symbols": ["A", "B"], "conflate_ms": 100},
        {"channel": "quotes", "symbols": ["A*"], "conflate_ms": 100},
        {"channel": "book", "symbols": ["A"], "depth": 5}]);
    client.subscribe(held.as_array().expect("an array")).await.expect("an ack");
    let cursor = cursor(&mut client, 2).await;
    drop(client);
    let changed = json!({"type": "book", "symbol": "A", "bids": [["1", "9"]], "asks": [], "event_ns": 2});
    world.records.send_all(&[quote("A", "3", "4"), changed]);
    world.has_read(4).await;
    let mut client = world.gateway.client().await;
    let heard = resume(&mut client, json!({"cursor": cursor, "subscriptions": held}), 4).await;
    let [quote, book] = &heard.events[..] else { panic!("the state of each: {heard:?}") };
    assert_eq!((&quote["bid_price"], &quote["snapshot"]), (&json!("3"), &json!(true)));
    assert_eq!((&book["bids"], &book["snapshot"]), (&json!([["1", "9"]]), &json!(true)));
    let (a, b, all) = ("A".to_owned(), "B".to_owned(), "A*".to_owned());
    let done = [(a.clone(), at(quote, "seq")), (b, None), (all, None), (a.clone(), at(book, "seq"))];
    assert_eq!((&heard.errors, &heard.done[..]), (&vec![], &done[..]));
    // By position, too, and where that is of a topic that is gone.
    for (seq, conflate_ms, errors) in [(quote["seq"].clone(), 50, 0), (json!("1:0:0"), 0, 1)] {
        let from =
            json!({"channel": "quotes", "symbols": ["A"], "conflate_ms": conflate_ms, "from": {"seq": seq}});
        let heard = resume(&mut client, json!({"subscriptions": [from]}), 1).await;
        assert_eq!((heard.done, heard.errors.len()), (vec![(a.clone(), at(quote, "seq"))], errors));
    }
    // Nobody is told so who did not ask.
    client.subscribe(&[json!({"channel": "quotes", "symbols": ["A"]})]).await.expect("an ack");
    client.request(json!({"op": "ping"})).await.expect("an answer");
    while let Some(message) = client.next_within(Duration::ZERO).await {
        let is_done = matches!(&message, Incoming::Control { control: Some(Control::ReplayDone { .. }), .. });
        assert!(!is_done, "{message:?}");
    }
}

/// Everyone who comes back in the midst of a busy market gets each event once, whatever it was just then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_missed_or_doubled_at_the_seam() {
    come_and_go(64 << 20).await;
}

/// The same when memory holds so little that most has to be read from Kafka again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_missed_or_doubled_between_kafka_and_memory() {
    come_and_go(64 << 10).await;
}

async fn come_and_go(memory_bytes_max: usize) {
    let world = World::new(3, |config| {
        config.session.heartbeat_ms = 100;
        config.shards = 2;
        config.replay.memory_bytes_max = memory_bytes_max;
    })
    .await;
    let mut rng = StdRng::seed_from_u64(SEED);
    let (stop, stopped) = mpsc::sync_channel(1);
    let records = world.kafka.producer(&world.topic);
    let busy = tokio::task::spawn_blocking(move || publish(&records, &stopped));
    let symbols = ["S0", "S1", "S2", "S3", "S4"];
    let mut chains: BTreeMap<String, ChainChecker> = BTreeMap::new();
    let mut cursor_now: Option<String> = None;
    let (mut rounds, mut replayed) = (0, 0);
    while rounds < 40 {
        let mut client = world.gateway.client().await;
        let request = match (&cursor_now, rng.random_range(0..3)) {
            (None, _) => {
                json!({"op": "subscribe", "subscriptions": [{"channel": "trades", "symbols": symbols}]})
            }
            (Some(cursor), 0) => {
                json!({"op": "subscribe", "cursor": cursor, "subscriptions": [{"channel": "trades", "symbols": symbols}]})
            }
            (Some(cursor), 1) => {
                json!({"op": "subscribe", "cursor": cursor, "subscriptions": [{"channel": "trades", "symbols": ["S*"]}]})
            }
            (Some(_), _) => {
                let each = chains.iter().map(|(symbol, chain)| {
                    let last = chain.last().expect("it began").to_string();
                    json!({"channel": "trades", "symbols": [symbol], "from": {"seq": last}})
                });
                json!({"op": "subscribe", "subscriptions": each.collect::<Vec<_>>()})
            }
        };
        client.send(&request).await.expect("sent");
        let mut beats = rng.random_range(1..4);
        while beats > 0 {
            match client.next_within(SOON).await {
                Some(Incoming::Events(frame)) => {
                    let events: Vec<Value> = serde_json::from_str(frame.as_str()).expect("JSON");
                    for event in events {
                        assert_ne!(event["type"], "gap", "seed {SEED}, round {rounds}: {event}");
                        replayed += usize::from(event["replay"] == true);
                        let chain =
                            chains.entry(event["symbol"].as_str().expect("text").to_owned()).or_default();
                        let tail = Tail { prev: at(&event, "prev"), ..Tail::default() };
                        let verdict = chain.event(at(&event, "seq").expect("a position"), &tail, false);
                        // A cursor may be a little behind what was given: those come twice, and are told by their position.
                        let is_fine =
                            matches!(verdict, Verdict::First | Verdict::InOrder | Verdict::Duplicate);
                        assert!(is_fine, "seed {SEED}, round {rounds}, {request}: {verdict:?} {event}");
                    }
                }
                Some(Incoming::Control { control: Some(Control::Heartbeat { cursor, .. }), .. }) => {
                    beats -= 1;
                    cursor_now = Some(cursor);
                }
                Some(Incoming::Control { control: Some(Control::Error { message, .. }), .. }) => {
                    panic!("seed {SEED}, round {rounds}: {message}");
                }
                Some(Incoming::Closed { code, .. }) => panic!("closed: {code:?}"),
                Some(_) => {}
                None => panic!("nothing comes"),
            }
        }
        rounds += 1;
    }
    stop.send(()).expect("it publishes");
    busy.await.expect("it publishes");
    assert!(chains.len() == symbols.len() && replayed > 100, "{} symbols, {replayed} replayed", chains.len());
}

/// Twenty trades every two milliseconds, until it is told to stop.
fn publish(records: &Records, stop: &mpsc::Receiver<()>) {
    let mut n = 0;
    while stop.recv_timeout(Duration::from_millis(2)) == Err(RecvTimeoutError::Timeout) {
        let burst: Vec<Value> = (n..n + 20).map(|n| trade(&format!("S{}", n % 5), &n.to_string())).collect();
        records.send_all(&burst);
        n += 20;
    }
}

/// A gateway that has just started knows nothing of what was before: Kafka does.
#[tokio::test]
async fn any_gateway_goes_on() {
    let world = World::new(3, |config| config.session.heartbeat_ms = 100).await;
    let wanted = json!([{"channel": "trades", "symbols": ["*"]}, {"channel": "quotes", "symbols": ["S1"]}]);
    let mut client = world.gateway.client().await;
    client.subscribe(wanted.as_array().expect("an array")).await.expect("an ack");
    let record = |n: usize| match n % 3 {
        0 => quote(&format!("S{}", n % 7), &n.to_string(), "9999"),
        _ => trade(&format!("S{}", n % 7), &n.to_string()),
    };
    let is_wanted = |n: &usize| !n.is_multiple_of(3) || n % 7 == 1;
    let first: Vec<Value> = (0..50).map(record).collect();
    world.records.send_all(&first);
    let mut had: BTreeMap<String, Position> = BTreeMap::new();
    for event in take_events(&mut client, (0..50).filter(is_wanted).count()).await {
        had.insert(format!("{} {}", event["type"], event["symbol"]), at(&event, "seq").expect("a position"));
    }
    let cursor = cursor(&mut client, 50).await;
    let missed: Vec<Value> = (50..3_000).map(record).collect();
    world.records.send_all(&missed);
    let other = Gateway::start(world.kafka.config(&world.topic)).await;
    let mut client = other.client().await;
    let request = json!({"cursor": cursor, "subscriptions": wanted});
    let heard = resume(&mut client, request, 2).await;
    assert_eq!(heard.errors, []);
    assert_eq!(heard.events.len(), (50..3_000).filter(is_wanted).count());
    let mut chains: BTreeMap<String, ChainChecker> = BTreeMap::new();
    for event in &heard.events {
        assert_eq!(event["replay"], true);
        let name = format!("{} {}", event["type"], event["symbol"]);
        let (seq, prev) = (at(event, "seq").expect("a position"), at(event, "prev"));
        assert!(had.get(&name).is_none_or(|had| !seq.is_at_or_before(*had)), "{name} {seq} comes twice");
        let tail = Tail { prev, ..Tail::default() };
        let verdict = chains.entry(name).or_default().event(seq, &tail, false);
        assert!(matches!(verdict, Verdict::First | Verdict::InOrder), "{verdict:?} {event}");
    }
    // By position and by time as well.
    let (name, last) = had.iter().find(|(name, _)| name.starts_with("\"trade\" \"S1\"")).expect("it traded");
    let from = json!([{"channel": "trades", "symbols": ["S1"], "from": {"seq": last.to_string()}}]);
    let by_position = resume(&mut other.client().await, json!({"subscriptions": from}), 1).await;
    assert_eq!(
        by_position.events.len(),
        (50..3_000_usize).filter(|n| !n.is_multiple_of(3) && n % 7 == 1).count(),
        "{name}"
    );
    assert_eq!(at(&by_position.events[0], "prev"), Some(*last));
    let from = json!([{"channel": "trades", "symbols": ["S1"], "from": {"time_ns": "0"}}]);
    let by_time = resume(&mut other.client().await, json!({"subscriptions": from}), 1).await;
    assert_eq!(by_time.events.len(), (0..3_000_usize).filter(|n| !n.is_multiple_of(3) && n % 7 == 1).count());
    world.records.send(&trade("S1", "7777"));
    let live = take_events(&mut client, 1).await;
    assert_eq!(live[0]["replay"], Value::Null);
    other.stop().await;
}

/// Times of records need not ascend: producers have clocks of their own. A replay from a time left out every record behind its
/// first whose own time was smaller, and nobody said so.
#[tokio::test]
async fn a_time_is_where_to_begin_and_no_filter() {
    for consumers_max in [0, 2] {
        let world = World::new(1, |config| config.replay.consumers_max = consumers_max).await;
        let now_ms = tickgate_gateway::clock::wall_ns() / 1_000_000;
        for (price, ago_ms) in [("1", 9_000), ("2", 4_000), ("3", 7_000), ("4", 2_000), ("5", 9_000)] {
            let value = trade("A", price).to_string();
            let record = BaseRecord::to(&world.topic).key("A").payload(&value).timestamp(now_ms - ago_ms);
            world.records.client().send(record).expect("there is room");
            world.records.flush();
        }
        world.has_read(5).await;
        let time_ns = ((now_ms - 5_000) * 1_000_000).to_string();
        let from = json!([{"channel": "trades", "symbols": ["A"], "from": {"time_ns": time_ns}}]);
        let heard = resume(&mut world.gateway.client().await, json!({"subscriptions": from}), 1).await;
        assert_eq!(prices(&heard.events), ["2", "3", "4", "5"], "with {consumers_max} consumers");
        assert_eq!(heard.errors, []);
    }
}

/// A topic that was deleted held up every replay, those of other topics too, until somebody made it again.
#[tokio::test]
async fn a_topic_that_is_missing_holds_up_no_other() {
    let kafka = Kafka::embedded();
    let (topic, gone) = (kafka.topic(1).await, kafka.topic(1).await);
    let mut config = kafka.config(&topic);
    // The feed does not notice.
    config.kafka.refresh_ms = 60_000;
    config.feeds.push(FeedConfig::for_topic(&gone));
    let gateway = Gateway::start(config).await;
    kafka.producer(&topic).send_all(&[trade("A", "1"), trade("A", "2")]);
    until("they were read", || gateway.running().board().feed().records >= 2).await;
    kafka.delete_topic(&gone).await;
    let mut client = gateway.client().await;
    let from = json!([{"channel": "trades", "symbols": ["A*"], "from": {"time_ns": "0"}}]);
    client.send(&json!({"op": "subscribe", "subscriptions": from})).await.expect("sent");
    assert_eq!(prices(&take_events(&mut client, 2).await), ["1", "2"]);
    gateway.stop().await;
}

/// A replay remembers the last event of each symbol that it met. For a pattern over many symbols that was memory which no bound
/// held and the printed ceiling did not have.
#[tokio::test]
async fn what_replays_remember_has_a_bound() {
    const SYMBOLS: u64 = 4_000;
    let world = World::new(1, |config| {
        config.shards = 1;
        config.limits.reading_bytes_total_max = 64 << 10;
        config.limits.message_bytes_max = 64 << 10;
    })
    .await;
    let records: Vec<Value> = (0..SYMBOLS).map(|n| trade(&format!("S{n}"), "1")).collect();
    world.records.send_all(&records);
    world.has_read(SYMBOLS).await;
    let mut client = world.gateway.client().await;
    let from = json!([{"channel": "trades", "symbols": ["*"], "from": {"time_ns": "0"}}]);
    client.send(&json!({"op": "subscribe", "subscriptions": from})).await.expect("sent");
    assert_eq!(closed(&mut client).await, Some(1013));
    // What the session held is free again.
    let from = json!([{"channel": "trades", "symbols": ["S7"], "from": {"time_ns": "0"}}]);
    let heard = resume(&mut world.gateway.client().await, json!({"subscriptions": from}), 1).await;
    assert_eq!(prices(&heard.events), ["1"]);
}

/// Parts of replays were larger than the smallest queue that may be configured: whoever did not take one at once was ended as a slow
/// client.
#[tokio::test]
async fn a_part_fits_into_the_smallest_queue() {
    let world = World::new(1, |config| {
        config.outbox.bytes_max = 16 << 10;
        config.outbox.write_bytes_max = 4 << 10;
        config.outbox.frame_bytes_max = 16 << 10;
        config.outbox.send_buffer_bytes = 16 << 10;
    })
    .await;
    let records: Vec<Value> = (0..1_500).map(|n| trade("A", &n.to_string())).collect();
    world.records.send_all(&records);
    world.has_read(1_500).await;
    let options = ClientOptions {
        read_bytes_per_s: Some(50_000),
        recv_buffer_bytes: Some(8192),
        ..ClientOptions::default()
    };
    let mut client = Client::connect(world.gateway.url(), &options).await.expect("a session");
    let from = json!([{"channel": "trades", "symbols": ["A"], "from": {"time_ns": "0"}}]);
    let heard = resume(&mut client, json!({"subscriptions": from}), 1).await;
    assert_eq!((heard.events.len(), heard.errors), (1_500, vec![]));
}

/// A gateway that has just started has read nothing of a symbol that is quiet. The first event of one once came without
/// `prev`, and who had come back could not know whether anything was missing before it.
#[tokio::test]
async fn a_quiet_symbol_goes_on_where_it_stood() {
    let wanted = json!({"channel": "trades", "symbols": ["A", "B", "C"]});
    for (quiet, way) in [("C", "seq"), ("B", "seq"), ("A", "all seqs"), ("C", "all seqs"), ("C", "cursor")] {
        let world = World::new(1, |config| config.session.heartbeat_ms = 100).await;
        let mut client = world.gateway.client().await;
        client.subscribe(std::slice::from_ref(&wanted)).await.expect("an ack");
        world.records.send_all(&[trade("A", "1"), trade("B", "2")]);
        let mut had = take_events(&mut client, 2).await;
        let cursor = cursor(&mut client, 2).await;
        // The last record of all.
        world.records.send(&trade("C", "3"));
        had.extend(take_events(&mut client, 1).await);
        let last = |symbol: &str| had.iter().find(|event| event["symbol"] == symbol).expect("it traded");
        let from = |symbol: &str| {
            let seq = &last(symbol)["seq"];
            json!({"channel": "trades", "symbols": [symbol], "from": {"seq": seq}})
        };
        let (request, dones) = match way {
            "seq" => (json!({"subscriptions": [from(quiet)]}), 1),
            "all seqs" => (json!({"subscriptions": [from("A"), from("B"), from("C")]}), 3),
            _ => (json!({"cursor": cursor, "subscriptions": [wanted.clone()]}), 3),
        };
        let other = Gateway::start(world.kafka.config(&world.topic)).await;
        let mut client = other.client().await;
        let heard = resume(&mut client, request, dones).await;
        assert_eq!((heard.errors.len(), heard.events.len()), (0, usize::from(way == "cursor")), "{heard:?}");
        let mut bystander = other.client().await;
        bystander.subscribe(std::slice::from_ref(&wanted)).await.expect("an ack");
        world.records.send(&trade(quiet, "9"));
        for client in [&mut client, &mut bystander] {
            let live = take_events(client, 1).await;
            assert_eq!(live[0]["prev"], last(quiet)["seq"], "{quiet} by {way}");
            assert_eq!(live[0]["replay"], Value::Null);
        }
        other.stop().await;
    }
}

/// A position that a client makes up is not handed on to others as the last of its symbol.
#[tokio::test]
async fn only_what_stands_in_kafka_counts_as_the_last() {
    for (what, offset) in [("of another symbol", 1), ("of another channel", 2), ("not there yet", 99)] {
        let world = World::new(1, |_| ()).await;
        let mut client = world.gateway.client().await;
        let wanted = json!({"channel": "trades", "symbols": ["A", "B"]});
        client.subscribe(&[wanted]).await.expect("an ack");
        world.records.send_all(&[trade("A", "1"), trade("B", "2"), quote("A", "3", "4")]);
        let had = take_events(&mut client, 2).await;
        world.has_read(3).await;
        let other = Gateway::start(world.kafka.config(&world.topic)).await;
        let mut client = other.client().await;
        let seq = Position { offset, ..at(&had[0], "seq").expect("a position") }.to_string();
        let from = json!([{"channel": "trades", "symbols": ["A"], "from": {"seq": seq}}]);
        let heard = resume(&mut client, json!({"subscriptions": from}), 1).await;
        assert_eq!(heard.done, [("A".to_owned(), None)], "{what}");
        world.records.send(&trade("A", "5"));
        let live = take_events(&mut client, 1).await;
        assert_eq!(live[0]["prev"], Value::Null, "{what}");
        other.stop().await;
    }
}

/// Retention takes what a client would have resumed from: the range is told, and the rest comes.
#[tokio::test]
async fn what_kafka_no_longer_has_is_told_exactly() {
    let world = World::new(1, |_| ()).await;
    let mut client = world.gateway.client().await;
    client.subscribe(&[json!({"channel": "trades", "symbols": ["A"]})]).await.expect("an ack");
    world.records.send(&trade("A", "1"));
    let first = take_events(&mut client, 1).await;
    let missed: Vec<Value> = (0..100).map(|n| trade("A", &n.to_string())).collect();
    world.records.send_all(&missed);
    world.kafka.delete_records(&world.topic, 1, 61).await;
    let other = Gateway::start(world.kafka.config(&world.topic)).await;
    let from = json!([{"channel": "trades", "symbols": ["A"], "from": {"seq": first[0]["seq"]}}]);
    let heard = resume(&mut other.client().await, json!({"subscriptions": from}), 1).await;
    assert_eq!(heard.errors, [("replay_aged_out".to_owned(), false)]);
    let (gap, rest) = heard.events.split_first().expect("events");
    assert_eq!((&gap["cause"], &gap["after"]), (&json!("retention"), &first[0]["seq"]));
    assert_eq!(at(gap, "upto").map(|upto| upto.offset), Some(60));
    assert_eq!(rest[0]["prev"], gap["upto"]);
    assert_eq!(prices(rest), (60..100).map(|n| n.to_string()).collect::<Vec<_>>());
    other.stop().await;
}

/// With nobody to read Kafka again, what memory no longer has is told as a gap, and the rest comes.
#[tokio::test]
async fn what_is_gone_is_told_exactly() {
    let world = World::new(1, |config| {
        config.replay.memory_bytes_max = 64 << 10;
        config.replay.consumers_max = 0;
    })
    .await;
    let mut client = world.gateway.client().await;
    client.subscribe(&[json!({"channel": "trades", "symbols": ["A"]})]).await.expect("an ack");
    world.records.send(&trade("A", "1"));
    let first = take_events(&mut client, 1).await;
    let many: Vec<Value> = (0..2_000).map(|n| trade("A", &n.to_string())).collect();
    world.records.send_all(&many);
    world.has_read(2_001).await;
    let mut client = world.gateway.client().await;
    let from = json!({"seq": first[0]["seq"]});
    let heard = resume(
        &mut client,
        json!({"subscriptions": [{"channel": "trades", "symbols": ["A"], "from": from}]}),
        1,
    )
    .await;
    assert_eq!(heard.errors, [("replay_aged_out".to_owned(), false)]);
    assert!(heard.message.contains("replay.consumers_max = 0"), "{}", heard.message);
    let (gap, rest) = heard.events.split_first().expect("events");
    assert_eq!((&gap["type"], &gap["cause"]), (&json!("gap"), &json!("retention")));
    assert_eq!(gap["after"], first[0]["seq"]);
    assert_eq!(rest[0]["prev"], gap["upto"], "what comes follows from the end of the gap");
    assert_eq!(rest.last().map(|event| &event["price"]), Some(&json!("1999")));
    assert!(rest.len() > 20 && rest.len() < 1_999, "{}", rest.len());
    for pair in rest.windows(2) {
        assert_eq!(pair[1]["prev"], pair[0]["seq"]);
    }
}

#[tokio::test]
async fn what_cannot_be_resumed_is_said() {
    let world = World::new(1, |config| config.replay.per_session_max = 2).await;
    world.records.send(&trade("A", "1"));
    world.has_read(1).await;
    let mut client = world.gateway.client().await;
    let pattern = json!({"channel": "trades", "symbols": ["A*"], "from": {"seq": "1:0:0"}});
    let results = client.subscribe(&[pattern]).await.expect("an ack");
    assert!(!results[0].ok, "{results:?}");
    // Another topic's position: of a topic that was deleted, or of another cluster.
    let from = json!({"channel": "trades", "symbols": ["A"], "from": {"seq": "1:0:0"}, "snapshot": 1});
    assert!(client.subscribe(&[from]).await.expect("an ack")[0].ok);
    let events = take_events(&mut client, 2).await;
    assert_eq!((&events[0]["type"], &events[0]["cause"]), (&json!("gap"), &json!("retention")));
    assert_eq!((&events[1]["price"], &events[1]["snapshot"]), (&json!("1"), &json!(true)));
    let times: Vec<Value> = (1..4)
        .map(|s| json!({"channel": "trades", "symbols": [format!("S{s}")], "from": {"time_ns": s.to_string()}}))
        .collect();
    client.send(&json!({"op": "subscribe", "id": 7, "subscriptions": times})).await.expect("sent");
    loop {
        match client.next_within(SOON).await {
            Some(Incoming::Control { control: Some(Control::Error { code, id, .. }), .. }) => {
                if id.is_some() {
                    assert_eq!(code.name(), "rate_limited");
                    break;
                }
            }
            Some(Incoming::Closed { code, .. }) => panic!("closed: {code:?}"),
            Some(_) => {}
            None => panic!("no answer"),
        }
    }
}

/// A subscription that is being brought up to date can be ended and changed like any other.
#[tokio::test]
async fn a_replay_can_be_given_up() {
    let world = World::new(1, |_| ()).await;
    world.records.send(&trade("A", "0"));
    let many: Vec<Value> = (1..20_000).map(|n| trade("A", &n.to_string())).collect();
    world.records.send_all(&many);
    world.has_read(20_000).await;
    let mut client = world.gateway.client().await;
    let mut first = world.gateway.client().await;
    let snapshot = json!({"channel": "trades", "symbols": ["A"], "snapshot": 1});
    first.subscribe(&[snapshot]).await.expect("an ack");
    let newest = at(&take_events(&mut first, 1).await[0], "seq").expect("a position");
    let from = Position { offset: 0, ..newest };
    let request = json!({"op": "subscribe", "subscriptions":
        [{"channel": "trades", "symbols": ["A"], "from": {"seq": from.to_string()}}]});
    client.send(&request).await.expect("sent");
    let name = [json!({"channel": "trades", "symbols": ["A"]})];
    client.send(&json!({"op": "unsubscribe", "subscriptions": name})).await.expect("sent");
    client.send(&json!({"op": "list", "id": "after"})).await.expect("sent");
    loop {
        match client.next_within(SOON).await {
            Some(Incoming::Control { control: Some(Control::List { subscriptions, .. }), .. }) => {
                assert_eq!(subscriptions.len(), 0);
                break;
            }
            Some(Incoming::Closed { code, .. }) => panic!("closed: {code:?}"),
            Some(_) => {}
            None => panic!("no answer"),
        }
    }
    // And the other way round: all of it, then live.
    let heard = resume(&mut client, request, 1).await;
    let replayed: Vec<&Value> = heard.events.iter().filter(|event| event["replay"] == true).collect();
    let last: Vec<&Value> = replayed[replayed.len() - 19_999..].to_vec();
    assert_eq!(last[0]["prev"], from.to_string());
    assert_eq!((&last[0]["price"], &last[19_998]["price"]), (&json!("1"), &json!("19999")));
    for pair in last.windows(2) {
        assert_eq!(pair[1]["prev"], pair[0]["seq"]);
    }
    world.books_close().await;
}

/// A gateway that needs seconds to read from the first trade of A to `next`, and the `seq` of that trade.
async fn seconds_behind(next: &[Value]) -> (World, Value) {
    let world = World::new(1, |config| {
        config.replay.memory_bytes_max = 0;
        config.replay.records_per_s = 1_000;
    })
    .await;
    let mut client = world.gateway.client().await;
    client.subscribe(&[json!({"channel": "trades", "symbols": ["A"]})]).await.expect("an ack");
    world.records.send(&trade("A", "1"));
    let first = take_events(&mut client, 1).await;
    drop(client);
    let between: Vec<Value> = (0..10_000).map(|n| trade("B", &n.to_string())).collect();
    world.records.send_all(&between);
    world.records.send_all(next);
    world.has_read(10_001 + next.len() as u64).await;
    (world, first[0]["seq"].clone())
}

/// Behind a replay of one symbol a pattern was live. When the replay was given up, the pattern's trades of that symbol went on where
/// the feed was, and nobody said that some were missing.
#[tokio::test]
async fn a_pattern_behind_a_replay_that_is_given_up_says_what_is_missing() {
    let (world, first) = seconds_behind(&[trade("A", "2")]).await;
    let mut client = world.gateway.client().await;
    let everything = json!({"channel": "trades", "symbols": ["A*"]});
    client.subscribe(&[everything]).await.expect("an ack");
    let from = json!({"channel": "trades", "symbols": ["A"], "from": {"seq": first}});
    client.subscribe(&[from]).await.expect("an ack");
    let name = [json!({"channel": "trades", "symbols": ["A"]})];
    client.send(&json!({"op": "unsubscribe", "id": 9, "subscriptions": name})).await.expect("sent");
    assert!(matches!(next_control(&mut client).await, Control::Ack { ok: true, .. }));
    world.records.send(&trade("A", "3"));
    let events = take_events(&mut client, 2).await;
    assert_eq!((&events[0]["type"], &events[0]["symbol"]), (&json!("gap"), &json!("A")), "{events:?}");
    assert_eq!(events[1]["price"], "3");
}

/// Who changed the options of what he resumed, before that was done, waited for its `replay_done` for ever: a page whose rows were scrolled
/// as it came back was never live again. Of trades that did not come any more nobody said a word.
#[tokio::test]
async fn a_replay_that_a_change_of_options_ends_is_done() {
    let (world, first) = seconds_behind(&[trade("A", "2"), quote("Q", "1", "2")]).await;
    let mut client = world.gateway.client().await;
    let places = json!([{"channel": "trades", "symbols": ["A"], "from": {"seq": first}},
        {"channel": "quotes", "symbols": ["Q"], "from": {"seq": first}}]);
    client.send(&json!({"op": "subscribe", "id": 1, "subscriptions": places})).await.expect("sent");
    let others = json!([{"channel": "trades", "symbols": ["A"], "on_slow": "skip"},
        {"channel": "quotes", "symbols": ["Q"], "conflate_ms": 1_000}]);
    // The same once more changes nothing.
    let same =
        json!({"op": "subscribe", "id": 3, "subscriptions": [{"channel": "trades", "symbols": ["A"]}]});
    client.send(&same).await.expect("sent");
    client.send(&json!({"op": "ping", "id": 4})).await.expect("sent");
    loop {
        match next_control(&mut client).await {
            Control::ReplayDone { symbol, .. } => panic!("the replay of {symbol} has ended"),
            Control::Pong { .. } => break,
            _ => {}
        }
    }
    let heard = resume(&mut client, json!({"id": 2, "subscriptions": others}), 2).await;
    let mut done: Vec<&str> = heard.done.iter().map(|(symbol, _)| &**symbol).collect();
    done.sort_unstable();
    assert_eq!(done, ["A", "Q"]);
    let states: Vec<&Value> = heard.events.iter().filter(|event| event["type"] == "quote").collect();
    assert!(
        matches!(states[..], [state] if state["snapshot"] == true && state["symbol"] == "Q"),
        "{heard:?}"
    );
    world.records.send(&trade("A", "3"));
    let mut events = heard.events.clone();
    while !events.iter().any(|event| event["price"] == "3") {
        events.extend(take_events(&mut client, 1).await);
    }
    let of_a: Vec<&Value> = events.iter().filter(|event| event["symbol"] == "A").collect();
    assert!(matches!(of_a[..], [gap, next] if gap["type"] == "gap" && next["price"] == "3"), "{of_a:?}");
    world.books_close().await;
}

/// A gateway that is a little behind another told whoever came from there of a loss that was none.
#[tokio::test]
async fn who_is_ahead_of_the_gateway_has_missed_nothing() {
    let world = World::new(1, |_| ()).await;
    let mut client = world.gateway.client().await;
    client.subscribe(&[json!({"channel": "trades", "symbols": ["A"]})]).await.expect("an ack");
    world.records.send(&trade("A", "1"));
    let read = at(&take_events(&mut client, 1).await[0], "seq").expect("a position");
    let ahead = Position { offset: read.offset + 1, ..read };
    let from = json!([{"channel": "trades", "symbols": ["A"], "from": {"seq": ahead.to_string()}}]);
    let mut client = world.gateway.client().await;
    client.subscribe(from.as_array().expect("an array")).await.expect("an ack");
    // The first of them it has, and once got again.
    world.records.send_all(&[trade("A", "2"), trade("A", "3")]);
    let next = take_events(&mut client, 1).await;
    assert_eq!((&next[0]["type"], &next[0]["price"]), (&json!("trade"), &json!("3")));
    assert_eq!(at(&next[0], "prev"), Some(ahead));
}

/// Positions that no record will ever have were asked for again and again, between shard and feed.
#[tokio::test]
async fn positions_that_cannot_be_come_to_an_end() {
    for consumers_max in [0, 1] {
        let world = World::new(1, |config| config.replay.consumers_max = consumers_max).await;
        let mut client = world.gateway.client().await;
        client.subscribe(&[json!({"channel": "trades", "symbols": ["A"]})]).await.expect("an ack");
        world.records.send(&trade("A", "1"));
        let read = at(&take_events(&mut client, 1).await[0], "seq").expect("a position");
        // The largest offset that Kafka can have is known to be ahead at once.
        let largest = Position { offset: i64::MAX as u64, ..read };
        let mut impossible = vec![largest];
        // To learn that a partition is not there takes ten seconds when there is somebody to ask.
        impossible.extend((consumers_max == 0).then_some(Position { partition: 99, ..read }));
        for impossible in impossible {
            let from =
                json!([{"channel": "trades", "symbols": ["A"], "from": {"seq": impossible.to_string()}}]);
            let mut client = world.gateway.client().await;
            resume(&mut client, json!({"subscriptions": from}), 1).await;
            world.records.send(&trade("A", "2"));
            assert_eq!(take_events(&mut client, 1).await[0]["price"], "2");
        }
    }
}

/// An offset beyond all that Kafka can have was taken for one that the gateway had still to read: its client waited for ten
/// seconds, and heard of no mistake.
#[tokio::test]
async fn an_offset_that_cannot_be_is_refused() {
    let world = World::new(1, |_| ()).await;
    let mut client = world.gateway.client().await;
    client.subscribe(&[json!({"channel": "trades", "symbols": ["A"]})]).await.expect("an ack");
    world.records.send(&trade("A", "1"));
    let read = at(&take_events(&mut client, 1).await[0], "seq").expect("a position");
    for offset in [u64::MAX, i64::MAX as u64 + 1] {
        let impossible = Position { offset, ..read };
        let from = json!({"channel": "trades", "symbols": ["A"], "from": {"seq": impossible.to_string()}});
        let verdict = client.subscribe(&[from]).await.expect("an ack").remove(0);
        assert_eq!(verdict.code.map(|code| code.name()), Some("bad_request"));
        assert!(verdict.message.is_some_and(|message| message.contains("from.seq")));
    }
    // What the session holds goes on.
    world.records.send(&trade("A", "2"));
    assert_eq!(take_events(&mut client, 1).await[0]["price"], "2");
}
