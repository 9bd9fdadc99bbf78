//! Clients that come back and are read what they missed from Kafka: over partitions and segments, out of compressed batches,
//! of which the first are gone. A judge that knows the log says whether each had exactly what it should.

use crate::harness::{Gateway, Kafka, Records, SOON};
use crate::kafkas;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;
use tickgate_checker::judge::{Missing, judge};
use tickgate_checker::log::Log;
use tickgate_checker::transcript::{ClientTranscript, SessionTranscript, Start};
use tickgate_gateway::clock;
use tickgate_load::{Client, ClientOptions, Incoming};
use tickgate_protocol::Position;
use tickgate_protocol::control::Control;
use tickgate_protocol::cursor::{self, CursorKey};

kafkas!(from_kafka);

const PARTITIONS: u64 = 4;
const SYMBOLS: u64 = 16;
/// What clients read before they go away, what they miss, and what is written while they are back.
const SEEN: u64 = 4_000;
const MISSED: u64 = 12_000;
const LIVE: u64 = 2_000;
const ALL: u64 = SEEN + MISSED + LIVE;
/// Records of one batch, of one compression.
const BATCH: u64 = 500;
/// Milliseconds between records, by their timestamps, and of one segment.
const STEP_MS: u64 = 20;
const SEGMENT_MS: &str = "60000";
/// What of the first two partitions is gone: the records before this offset.
const LOW: u64 = 2_500;
const LOST_PARTITIONS: u64 = 2;
/// Longest that a client takes for all it is to get.
const PATIENCE: Duration = Duration::from_secs(60);

fn symbol(n: u64) -> String {
    format!("S{:02}", n % SYMBOLS)
}

/// One in two of a symbol is a trade, one a quote; the last ones of each say so.
fn record(n: u64) -> Value {
    let (symbol, price) = (symbol(n), (n + 1).to_string());
    match n / SYMBOLS % 2 {
        0 => json!({"type": "trade", "symbol": symbol, "price": price, "size": "1", "event_ns": n + 1}),
        _ => json!({"type": "quote", "symbol": symbol, "bid_price": price, "bid_size": "1",
            "ask_price": (n + 2).to_string(), "ask_size": "1", "event_ns": n + 1}),
    }
}

/// Writes records, each with its time, into the partitions that stand to their numbers.
fn write(producers: &[Records; 2], began_ms: i64, numbers: Range<u64>) {
    let mut at = numbers.start;
    while at < numbers.end {
        // One of the producers after the other, so that every partition has batches of both.
        let records = &producers[(at / BATCH % 2) as usize];
        let end = (at + BATCH).min(numbers.end);
        for n in at..end {
            let (key, value) = (symbol(n), record(n).to_string());
            let mut record = BaseRecord::to(records.topic())
                .key(&key)
                .payload(&value)
                .partition((n % PARTITIONS) as i32)
                .timestamp(began_ms + (n * STEP_MS) as i64);
            while let Err((error, unsent)) = records.client().send(record) {
                assert!(matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)));
                records.client().poll(Duration::from_millis(10));
                record = unsent;
            }
        }
        records.client().flush(SOON).expect("the broker takes it");
        at = end;
    }
}

/// What a client is to hear last: a trade and a quote of each symbol.
fn last_prices() -> BTreeSet<String> {
    (ALL - 2 * SYMBOLS..ALL).map(|n| (n + 1).to_string()).collect()
}

/// Reads until `is_done`, which is told of every event and cursor, and keeps all of it.
async fn hear(
    client: &mut Client,
    session: &mut SessionTranscript,
    mut is_done: impl FnMut(&[Value], Option<&str>) -> bool,
) {
    let reading = async {
        loop {
            let (events, text) = match client.next_within(SOON).await {
                Some(Incoming::Events(frame)) => {
                    session.text(frame.received_ns, frame.as_str());
                    (serde_json::from_str(frame.as_str()).expect("events"), None)
                }
                Some(Incoming::Control { control, frame }) => {
                    // One that is owed all from a time on passes nothing behind that, which the judge does not know.
                    if !matches!(&control, Some(Control::Heartbeat { cursor, .. }) if names_a_time(cursor)) {
                        session.text(frame.received_ns, frame.as_str());
                    }
                    (Vec::new(), session.cursor().map(str::to_owned))
                }
                other => panic!("nothing comes: {other:?}"),
            };
            if is_done(&events, text.as_deref()) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("all of it comes");
}

fn names_a_time(cursor: &str) -> bool {
    cursor::decode(cursor, &CursorKey::new(b"")).expect("a cursor of the gateway").all_ns.is_some()
}

fn price(event: &Value) -> Option<&str> {
    event["price"].as_str().or(event["bid_price"].as_str())
}

/// How a client says what it wants.
#[derive(Debug, Clone, Copy)]
enum From {
    Cursor,
    Seq,
    /// From the time of a record.
    Time(u64),
}

/// Comes back to a gateway, and reads until it has heard the last of everything.
async fn come_back(
    url: String,
    began_ms: i64,
    mut life: ClientTranscript,
    from: From,
    epoch: u32,
) -> ClientTranscript {
    let before = life.sessions.last();
    let everything =
        json!([{"channel": "trades", "symbols": ["*"]}, {"channel": "quotes", "symbols": ["*"]}]);
    let mut request = json!({"op": "subscribe", "id": 1, "subscriptions": everything});
    let mut session = match from {
        From::Cursor => {
            let text = before.and_then(SessionTranscript::cursor).expect("a cursor");
            request["cursor"] = json!(text);
            let next = cursor::decode_unverified(text).expect("a cursor of the gateway");
            let given = next
                .iter()
                .filter_map(|next| next.offset.checked_sub(1).map(|offset| Position { offset, ..*next }));
            SessionTranscript::new(Start::cursor(&given.collect::<Vec<_>>()))
        }
        From::Seq => {
            let mut session = SessionTranscript::new(Start::Seq);
            let last = before.expect("a session").last();
            assert_eq!(last.len() as u64, 2 * SYMBOLS);
            let each = last.iter().map(|(channel, symbol, seq)| {
                session.resume(*channel, symbol, *seq);
                json!({"channel": channel, "symbols": [symbol], "from": {"seq": seq}})
            });
            request["subscriptions"] = each.collect();
            session
        }
        From::Time(n) => {
            let time_ns = (began_ms + (n * STEP_MS) as i64) * 1_000_000;
            for subscription in request["subscriptions"].as_array_mut().expect("two") {
                subscription["from"] = json!({"time_ns": time_ns.to_string()});
            }
            // The last of each partition before that record.
            let behind = (n - PARTITIONS..n).map(|n| Position {
                epoch,
                partition: (n % PARTITIONS) as u32,
                offset: n / PARTITIONS,
            });
            SessionTranscript::new(Start::fresh(Some(&behind.collect::<Vec<_>>())))
        }
    };
    let mut client = Client::connect(&url, &ClientOptions::default()).await.expect("a session");
    client.send(&request).await.expect("it is sent");
    let mut left = last_prices();
    hear(&mut client, &mut session, |events, _| {
        events.iter().filter_map(price).for_each(|price| {
            left.remove(price);
        });
        left.is_empty()
    })
    .await;
    life.end(session, true);
    life
}

/// Numbers of records that are gone and that a client who had those before `n` is told of.
fn lost_behind(n: u64) -> u64 {
    (n..LOW * PARTITIONS).filter(|n| n % PARTITIONS < LOST_PARTITIONS && n / PARTITIONS < LOW).count() as u64
}

async fn from_kafka(kafka: Kafka) {
    let topic = kafka.topic_with(PARTITIONS as i32, &[("segment.ms", SEGMENT_MS)]).await;
    let producers = ["lz4", "zstd"]
        .map(|codec| kafka.producer_with(&topic, &[("compression.codec", codec), ("linger.ms", "5")]));
    let began_ms = clock::wall_ns() / 1_000_000 - 3_600_000;
    // One gateway has read all of it and remembers little, the other begins when it is over and remembers nothing.
    let mut config = kafka.config(&topic);
    config.session.heartbeat_ms = 100;
    config.replay.memory_bytes_max = 64 << 10;
    let first = Gateway::start(config).await;

    let mut client = first.client().await;
    let mut session = SessionTranscript::new(Start::fresh(Some(&[])));
    let both = ["trades", "quotes"].map(|channel| json!({"channel": channel, "symbols": ["*"]}));
    let request = json!({"op": "subscribe", "id": 1, "subscriptions": both});
    client.send(&request).await.expect("it is sent");
    hear(&mut client, &mut session, |_, _| true).await;
    let producers = tokio::task::spawn_blocking(move || {
        write(&producers, began_ms, 0..SEEN);
        producers
    })
    .await
    .expect("it writes");
    hear(&mut client, &mut session, |_, text| {
        let next = text.map(|text| cursor::decode_unverified(text).expect("a cursor")).unwrap_or_default();
        next.iter().map(|next| next.offset).sum::<u64>() == SEEN
    })
    .await;
    drop(client);
    let epoch = session.events().next().expect("it heard").seq.epoch;
    assert_eq!(session.events().count() as u64, SEEN, "it has all before it goes away");
    let mut life = ClientTranscript::default();
    life.end(session, false);

    let producers = tokio::task::spawn_blocking(move || {
        write(&producers, began_ms, SEEN..SEEN + MISSED);
        producers
    })
    .await
    .expect("it writes");
    // The truth, before some of it is taken away.
    let mut log = read(Log::new(), &kafka, &topic, epoch).await;
    assert_eq!(log.records(), SEEN + MISSED);
    kafka.delete_records(&topic, LOST_PARTITIONS as i32, LOW as i64).await;
    let mut config = kafka.config(&topic);
    config.replay.memory_bytes_max = 0;
    let second = Gateway::start(config).await;

    // In the midst of what is gone, and behind it.
    let froms = [From::Cursor, From::Seq, From::Time(SEEN + 1_000), From::Time(LOW * PARTITIONS + 1_000)];
    let mut clients = Vec::new();
    for gateway in [&first, &second] {
        for from in froms {
            let life = if matches!(from, From::Time(_)) { ClientTranscript::default() } else { life.clone() };
            let back = come_back(gateway.url().to_owned(), began_ms, life, from, epoch);
            clients.push((from, tokio::spawn(back)));
        }
    }
    tokio::task::spawn_blocking(move || write(&producers, began_ms, SEEN + MISSED..ALL))
        .await
        .expect("it writes");
    let mut lives = Vec::new();
    for (from, client) in clients {
        lives.push((from, client.await.expect("it comes back")));
    }
    log = read(log, &kafka, &topic, epoch).await;
    assert_eq!(log.records(), ALL);
    for (from, life) in lives {
        let judgement = judge(&log, &life);
        let counts = judgement.counts;
        assert_eq!(counts.faults(), 0, "{from:?}: {counts:?} {:#?}", judgement.samples);
        let first = match from {
            From::Cursor | From::Seq => SEEN,
            From::Time(n) => n,
        };
        let begins = if matches!(from, From::Time(_)) { first } else { 0 };
        assert_eq!(counts.offered, ALL - begins, "{from:?}: {counts:?}");
        assert_eq!(counts.announced, lost_behind(first), "{from:?}: {counts:?}");
        assert_eq!(counts.delivered + counts.conflated + counts.announced, counts.offered, "{from:?}");
        let is_gone = |missing: &Missing| {
            let is_low = missing.offsets.iter().all(|offset| *offset < LOW);
            missing.is_announced && u64::from(missing.run.partition) < LOST_PARTITIONS && is_low
        };
        assert!(judgement.missing.iter().all(is_gone), "{from:?}: {:#?}", judgement.missing);
        // Nothing of what was replayed may be left out because a newer state is there.
        let replayed = life.sessions.iter().flat_map(SessionTranscript::events).filter(|e| e.tail.replay);
        let of_kafka = MISSED - lost_behind(first) - (first - SEEN);
        assert!(replayed.count() as u64 >= of_kafka, "{from:?}: replayed, not conflated");
    }
    for gateway in [first, second] {
        let read = gateway.metric("tickgate_replays_records_read_total").await.expect("it is there");
        assert!(read >= MISSED as f64, "{read} records from Kafka");
        gateway.metric_is("tickgate_replays_parts_read_total{result=\"failed\"}", 0.0).await;
        gateway.metric_is("tickgate_replays_running{kind=\"missed\"}", 0.0).await;
        gateway.finish().await;
    }
}

async fn read(mut log: Log, kafka: &Kafka, topic: &str, epoch: u32) -> Log {
    let (brokers, topic) = (kafka.address(), topic.to_owned());
    let reading = tokio::task::spawn_blocking(move || {
        tickgate_checker::kafka::read(&mut log, &brokers, &topic, epoch, SOON).map(|()| log)
    });
    reading.await.expect("it reads").expect("all of it")
}
