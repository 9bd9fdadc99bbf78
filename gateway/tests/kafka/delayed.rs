//! Data that comes late: all of it, in order, and nothing of it early, whatever its timestamps say.

use crate::harness::session::{Session, position};
use crate::harness::{Gateway, Kafka, Records, SOON, trade, until};
use crate::kafkas;
use rdkafka::producer::{BaseRecord, Producer};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tickgate_gateway::clock;
use tickgate_gateway::config::{Config, FeedConfig};
use tickgate_load::{Client, Incoming};
use tickgate_protocol::control::Control;

kafkas!(
    everything_comes_late,
    what_was_there_before_comes_when_it_is_due,
    a_snapshot_is_of_then,
    a_replay_goes_no_further,
    what_is_live_elsewhere_is_not_given_early,
    who_is_ahead_is_told_no_position,
    what_is_late_elsewhere_is_gone_on_from,
);

const DELAY_S: u64 = 2;
const DELAY_NS: i64 = DELAY_S as i64 * 1_000_000_000;
/// What clients are sent is a number of its own, so that each is known by it.
const FIRST: u64 = 1_000;

/// A gateway all of whose sessions are late.
fn late(kafka: &Kafka, topic: &str) -> Config {
    let mut config = kafka.config(topic);
    config.delays.delayed_s = vec![1, DELAY_S, 3_600];
    config.delays.default_s = DELAY_S;
    config.session.heartbeat_ms = 100;
    config
}

/// A topic that takes what is dated far ahead: newer brokers refuse it unless they are told otherwise.
async fn topic_of_any_time(kafka: &Kafka, partitions: i32) -> String {
    match kafka.broker() {
        Some(_) => kafka.topic(partitions).await,
        None => {
            let any = ("message.timestamp.after.max.ms", "9223372036854775807");
            kafka.topic_with(partitions, &[any]).await
        }
    }
}

/// Writes trades whose prices are their numbers, and remembers when.
struct Writer {
    records: Records,
    /// What their symbols begin with; the partition follows.
    symbols: &'static str,
    sent: BTreeMap<u64, i64>,
}

impl Writer {
    fn new(kafka: &Kafka, topic: &str, symbols: &'static str) -> Self {
        Self { records: kafka.producer(topic), symbols, sent: BTreeMap::new() }
    }

    /// Returns when the broker has all of them.
    fn flush(&self) {
        self.records.client().flush(SOON).expect("the broker takes it");
    }

    /// Writes one into a partition, with what it says of its time, in milliseconds since the Unix epoch.
    fn write(&mut self, partition: i32, timestamp_ms: Option<i64>) {
        let number = FIRST + self.sent.len() as u64;
        let value = trade(&format!("{}{partition}", self.symbols), &number.to_string()).to_string();
        let mut record =
            BaseRecord::<str, str>::to(self.records.topic()).payload(&value).partition(partition);
        if let Some(timestamp_ms) = timestamp_ms {
            record = record.timestamp(timestamp_ms);
        }
        // It cannot be there before this.
        self.sent.insert(number, clock::wall_ns());
        self.records.client().send(record).expect("there is room");
    }

    /// Holds events to what was written: none early, and all from `first` on, each once.
    fn hold(&self, events: &[Value], first: u64) {
        for event in events {
            let sent_ns = self.sent[&number(event)];
            let early_ns = sent_ns + DELAY_NS - ns(event, "ingest_ns");
            assert!(early_ns <= 0, "{} ms early: {event}", early_ns / 1_000_000);
        }
        let mut numbers: Vec<u64> = events.iter().map(number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, self.sent.range(first..).map(|(number, _)| *number).collect::<Vec<_>>());
        let mut last: BTreeMap<u32, u64> = BTreeMap::new();
        for event in events {
            let (_, partition, offset) = position(event, "seq").expect("a position");
            assert!(last.insert(partition, offset).is_none_or(|last| last < offset), "{event}");
        }
    }
}

fn number(event: &Value) -> u64 {
    event["price"].as_str().and_then(|price| price.parse().ok()).expect("a number")
}

fn ns(event: &Value, field: &str) -> i64 {
    event[field].as_str().and_then(|ns| ns.parse().ok()).expect("a time")
}

fn now_ms() -> i64 {
    clock::wall_ns() / 1_000_000
}

fn trades(pattern: &str) -> Value {
    json!({"channel": "trades", "symbols": [pattern]})
}

/// Asks for something, and reads until the answer to it.
async fn ask(client: &mut Client, request: &Value) -> Control {
    client.send(request).await.expect("it is sent");
    loop {
        match client.next_within(SOON).await {
            Some(Incoming::Control {
                control: Some(control @ (Control::Ack { .. } | Control::Error { .. })),
                ..
            }) => {
                return control;
            }
            Some(Incoming::Control { .. }) => {}
            other => panic!("no answer: {other:?}"),
        }
    }
}

/// Reads events until the one of a number, or a control message that is wanted; nothing may be lost on the way.
async fn read(client: &mut Client, is_last: impl Fn(u64) -> bool) -> Vec<Value> {
    let mut events: Vec<Value> = Vec::new();
    while !events.last().is_some_and(|event| is_last(number(event))) {
        match client.next_within(SOON).await {
            Some(Incoming::Events(frame)) => {
                let frame: Vec<Value> = serde_json::from_str(frame.as_str()).expect("events");
                assert!(frame.iter().all(|event| event["price"].is_string()), "{frame:?}");
                events.extend(frame);
            }
            Some(Incoming::Control { control: Some(Control::Error { message, .. }), .. }) => {
                panic!("{message}")
            }
            Some(Incoming::Control { .. }) => {}
            other => panic!("no data: {other:?}"),
        }
    }
    events
}

/// Records of two topics and of several partitions, one of which is idle, and with every kind of timestamp.
async fn everything_comes_late(kafka: Kafka) {
    let (topic, other) = (topic_of_any_time(&kafka, 4).await, kafka.topic(1).await);
    let mut config = late(&kafka, &topic);
    config.feeds.push(FeedConfig::for_topic(&other));
    let gateway = Gateway::start(config).await;
    let mut session = Session::open(&gateway, &[trades("*")]).await;
    let mut writer = Writer::new(&kafka, &topic, "S");
    let mut of_other = Writer::new(&kafka, &other, "T");
    for round in 0..40 {
        let now_ms = now_ms();
        // The last partition has nothing.
        writer.write(0, None);
        writer.write(1, Some(now_ms - 86_400_000));
        writer.write(2, Some(now_ms + 365 * 86_400_000));
        writer.write(2, Some(1 + round));
        if round % 10 == 0 {
            of_other.write(0, None);
            writer.flush();
            of_other.flush();
        }
    }
    writer.flush();
    let events = session.events(writer.sent.len() + of_other.sent.len()).await;
    let (of_topic, of_that): (Vec<Value>, Vec<Value>) = events
        .into_iter()
        .partition(|event| event["symbol"].as_str().is_some_and(|symbol| symbol.starts_with('S')));
    writer.hold(&of_topic, FIRST);
    of_other.hold(&of_that, FIRST);
    session.verify();
    gateway.finish().await;
}

/// What stood there when the gateway started: of that its timestamps count, as far as they can be true.
async fn what_was_there_before_comes_when_it_is_due(kafka: Kafka) {
    let topic = topic_of_any_time(&kafka, 2).await;
    let mut writer = Writer::new(&kafka, &topic, "S");
    for _ in 0..20 {
        writer.write(0, None);
        // Nobody can have written it then.
        writer.write(1, Some(now_ms() + 86_400_000));
    }
    writer.flush();
    let gateway = Gateway::start_unready(late(&kafka, &topic));
    // What is due before it listens is given to it again.
    let since_ns = (now_ms() - 3_600_000) * 1_000_000;
    let from = json!({"time_ns": since_ns.to_string()});
    let everything = json!({"channel": "trades", "symbols": ["*"], "from": from});
    let mut session = Session::open(&gateway, &[everything]).await;
    (0..20).for_each(|_| writer.write(1, None));
    writer.flush();
    let events = session.events(writer.sent.len()).await;
    writer.hold(&events, FIRST);
    session.verify();
    gateway.finish().await;
}

async fn a_snapshot_is_of_then(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    let gateway = Gateway::start(late(&kafka, &topic)).await;
    let mut writer = Writer::new(&kafka, &topic, "S");
    (0..10).for_each(|_| writer.write(0, None));
    writer.flush();
    let board = gateway.running().board();
    until("they are due", || board.feed_of(2).records == 10).await;
    (0..10).for_each(|_| writer.write(0, None));
    writer.flush();
    until("the live feed has them", || board.feed().records == 20).await;
    let mut client = gateway.client().await;
    let request = json!({"op": "subscribe", "subscriptions": [
        {"channel": "trades", "symbols": ["S0"], "snapshot": 100}
    ]});
    let Control::Ack { results, .. } = ask(&mut client, &request).await else { panic!("no ack") };
    assert_eq!(results[0].delayed_s, Some(DELAY_S));
    let events = read(&mut client, |number| number == FIRST + 19).await;
    writer.hold(&events, FIRST);
    gateway.finish().await;
}

/// What is read from Kafka again ends where those stand who are as late; and so does the past.
async fn a_replay_goes_no_further(kafka: Kafka) {
    let topic = kafka.topic(2).await;
    let gateway = Gateway::start(late(&kafka, &topic)).await;
    let mut writer = Writer::new(&kafka, &topic, "S");
    let old_ms = now_ms() - 86_400_000;
    for _ in 0..20 {
        writer.write(0, None);
        writer.write(1, Some(old_ms));
    }
    writer.flush();
    until("some are due", || gateway.running().board().feed_of(2).records > 0).await;
    for _ in 0..20 {
        writer.write(0, None);
        // By its time it would be of the past.
        writer.write(1, Some(old_ms));
    }
    writer.flush();
    let mut client = gateway.client().await;
    let since = json!({"time_ns": ((old_ms - 1_000) * 1_000_000).to_string()});
    let request = json!({"op": "subscribe", "subscriptions": [
        {"channel": "trades", "symbols": ["*"], "from": since}
    ]});
    assert!(matches!(ask(&mut client, &request).await, Control::Ack { ok: true, .. }));
    let mut player = gateway.client().await;
    let until_ns = clock::wall_ns() + 86_400_000_000_000;
    let past = json!({"time_ns": since["time_ns"], "until_ns": until_ns.to_string()});
    let request = json!({"op": "subscribe", "subscriptions": [
        {"channel": "trades", "symbols": ["*"], "from": past}
    ]});
    assert!(matches!(ask(&mut player, &request).await, Control::Ack { ok: true, .. }));
    let mut played = Vec::new();
    loop {
        match player.next_within(SOON).await {
            Some(Incoming::Events(frame)) => {
                played.extend(serde_json::from_str::<Vec<Value>>(frame.as_str()).expect("events"));
            }
            Some(Incoming::Control { control: Some(Control::ReplayDone { .. }), .. }) => break,
            Some(Incoming::Control { .. }) => {}
            other => panic!("no end: {other:?}"),
        }
    }
    assert!(!played.is_empty(), "something was due");
    for event in &played {
        assert!(writer.sent[&number(event)] + DELAY_NS <= ns(event, "ingest_ns"), "early: {event}");
    }
    let mut events = Vec::new();
    while events.len() < writer.sent.len() {
        events.extend(read(&mut client, |_| true).await);
    }
    writer.hold(&events, FIRST);
    gateway.finish().await;
}

/// A cursor and a position of the present, given to those who are late.
async fn what_is_live_elsewhere_is_not_given_early(kafka: Kafka) {
    let topic = kafka.topic(2).await;
    let live = Gateway::start(kafka.config(&topic)).await;
    let gateway = Gateway::start(late(&kafka, &topic)).await;
    let mut writer = Writer::new(&kafka, &topic, "S");
    let mut session = Session::open(&live, &[trades("*")]).await;
    for _ in 0..10 {
        writer.write(0, None);
        writer.write(1, None);
    }
    writer.flush();
    let events = session.events(20).await;
    let seq =
        |symbol: &str| events.iter().rfind(|event| event["symbol"] == symbol).expect("one")["seq"].clone();
    let cursor = session.cursor().await;
    let mut clients = Vec::new();
    for (subscriptions, cursor) in [
        (json!([trades("*")]), Some(cursor)),
        (
            json!([
                {"channel": "trades", "symbols": ["S0"], "from": {"seq": seq("S0")}},
                {"channel": "trades", "symbols": ["S1"], "from": {"seq": seq("S1")}},
            ]),
            None,
        ),
        (
            json!([{"channel": "trades", "symbols": ["*"], "from": {"time_ns": clock::wall_ns().to_string()}}]),
            None,
        ),
    ] {
        let mut client = gateway.client().await;
        let mut request = json!({"op": "subscribe", "subscriptions": subscriptions});
        if let Some(cursor) = cursor {
            request["cursor"] = cursor.into();
        }
        assert!(matches!(ask(&mut client, &request).await, Control::Ack { ok: true, .. }));
        clients.push(client);
    }
    for _ in 0..10 {
        writer.write(0, None);
        writer.write(1, None);
    }
    writer.flush();
    for mut client in clients {
        let mut events = Vec::new();
        let last = FIRST + writer.sent.len() as u64 - 1;
        let mut left: BTreeSet<u64> = (last - 1..=last).collect();
        while !left.is_empty() {
            for event in read(&mut client, |_| true).await {
                left.remove(&number(&event));
                events.push(event);
            }
        }
        // It may have come when some of it was due.
        let first = events.iter().map(number).min().expect("some");
        assert!(first <= FIRST + 20, "what came since is whole");
        writer.hold(&events, first);
    }
    live.finish().await;
    gateway.finish().await;
}

/// Whoever resumes from what is not due yet has missed nothing. A position behind that `replay_done` would be lower than what was asked for,
/// by which a client knows that the log is another one than it was, and begins anew.
async fn who_is_ahead_is_told_no_position(kafka: Kafka) {
    const HOUR_S: u64 = 3_600;
    let topic = kafka.topic(1).await;
    let mut writer = Writer::new(&kafka, &topic, "S");
    // Of what is there before a gateway starts its timestamps count: the first is due, the second is not for an hour.
    writer.write(0, Some(now_ms() - 2 * HOUR_S as i64 * 1_000));
    writer.write(0, None);
    writer.flush();
    let mut config = kafka.config(&topic);
    config.kafka.warm_up_records = 2;
    let live = Gateway::start(config).await;
    let mut config = late(&kafka, &topic);
    config.kafka.warm_up_records = 2;
    config.delays.default_s = HOUR_S;
    let gateway = Gateway::start(config).await;
    // The third of the delays that it knows.
    until("the first is due", || gateway.running().board().feed_of(3).records == 1).await;
    let both = json!({"channel": "trades", "symbols": ["S0"], "snapshot": 2});
    let mut session = Session::open(&live, &[both]).await;
    let events = session.events(2).await;
    let cursor = session.cursor().await;
    let [due, ahead] = [0, 1].map(|number| events[number]["seq"].clone());
    let from = |seq: &Value| json!({"channel": "trades", "symbols": ["S0"], "from": {"seq": seq}});
    let whole = json!({"channel": "trades", "symbols": ["S0"]});
    for (what, request, told) in [
        ("what is due", json!({"op": "subscribe", "subscriptions": [from(&due)]}), Some(&due)),
        ("what is not", json!({"op": "subscribe", "subscriptions": [from(&ahead)]}), None),
        // It names no position of a symbol, that another one could be lower than.
        ("a cursor", json!({"op": "subscribe", "subscriptions": [whole], "cursor": cursor}), Some(&due)),
    ] {
        let mut client = gateway.client().await;
        let Control::Ack { ok: true, results, .. } = ask(&mut client, &request).await else {
            panic!("{what}")
        };
        assert_eq!(results[0].delayed_s, Some(HOUR_S), "{what}");
        let seq = loop {
            match client.next_within(SOON).await {
                Some(Incoming::Control { control: Some(Control::ReplayDone { seq, .. }), .. }) => break seq,
                Some(Incoming::Control { control: Some(Control::Heartbeat { .. }), .. }) => {}
                other => panic!("{what}: {other:?}"),
            }
        };
        assert_eq!(seq.map(|seq| seq.to_string()).as_deref(), told.and_then(Value::as_str), "{what}");
    }
    live.finish().await;
    gateway.finish().await;
}

/// A cursor of those who are late, given to another gateway that is as late, and to a live one.
async fn what_is_late_elsewhere_is_gone_on_from(kafka: Kafka) {
    let topic = kafka.topic(2).await;
    let first = Gateway::start(late(&kafka, &topic)).await;
    let mut writer = Writer::new(&kafka, &topic, "S");
    let mut session = Session::open(&first, &[trades("*")]).await;
    (0..10).for_each(|n| writer.write(n % 2, None));
    writer.flush();
    let events = session.events(10).await;
    writer.hold(&events, FIRST);
    let cursor = session.cursor().await;
    (0..10).for_each(|n| writer.write(n % 2, None));
    writer.flush();
    first.stop().await;
    for (config, is_late) in [(late(&kafka, &topic), true), (kafka.config(&topic), false)] {
        let gateway = Gateway::start(config).await;
        let mut client = gateway.client().await;
        let request = json!({"op": "subscribe", "cursor": cursor, "subscriptions": [trades("*")]});
        assert!(matches!(ask(&mut client, &request).await, Control::Ack { ok: true, .. }));
        let mut events = Vec::new();
        let mut left: BTreeSet<u64> = (FIRST + 10..FIRST + 20).collect();
        while !left.is_empty() {
            events.extend(read(&mut client, |_| true).await);
            events.iter().for_each(|event| {
                left.remove(&number(event));
            });
        }
        // A cursor may be a moment behind what was given.
        if is_late {
            events.retain(|event| {
                assert!(writer.sent[&number(event)] + DELAY_NS <= ns(event, "ingest_ns"), "early: {event}");
                number(event) >= FIRST + 10
            });
            writer.hold(&events, FIRST + 10);
        }
        gateway.finish().await;
    }
}
