//! Who is revoked by a topic: closed and refused, let in again, and what a gateway does that cannot read it.

use crate::harness::{Gateway, Kafka, Records, SOON, until};
use crate::issuer::{Issuer, now_s};
use crate::kafkas;
use crate::raw::{Raw, handshake};
use rdkafka::producer::{BaseRecord, Producer};
use serde_json::json;
use std::sync::atomic::Ordering;
use tickgate_gateway::config::Config;
use tickgate_gateway::stats::RevocationRecord as Said;

kafkas!(
    who_is_revoked_is_closed_until_that_is_taken_back,
    what_stands_there_at_the_start_counts,
    whom_one_partition_revokes_is_revoked,
    what_cannot_be_read_stops_nothing,
    nobody_is_let_in_before_it_was_read,
    everybody_is_let_in_where_that_is_wanted,
    one_that_is_made_again_counts_anew,
    one_that_is_made_again_with_fewer_partitions_is_read,
);

/// The topic of those revoked, and who writes into it.
struct List {
    issuer: Issuer,
    feed: String,
    records: Records,
}

impl List {
    async fn new(kafka: &Kafka, partitions: i32) -> Self {
        let compacted = [("cleanup.policy", "compact")];
        let topic = match kafka.broker() {
            Some(_) => kafka.topic(partitions).await,
            None => kafka.topic_with(partitions, &compacted).await,
        };
        Self::of(kafka, &topic).await
    }

    async fn of(kafka: &Kafka, topic: &str) -> Self {
        Self { issuer: Issuer::new("k1"), feed: kafka.topic(1).await, records: kafka.producer(topic) }
    }

    fn config(&self, kafka: &Kafka) -> Config {
        let mut config = kafka.config(&self.feed);
        self.issuer.asked_by(&mut config);
        config.auth.revocation_topic = self.records.topic().to_owned();
        config
    }

    /// Writes records; returns when the broker has all of them. Without a value it is a tombstone.
    fn write(&self, records: &[(&str, Option<&str>)]) {
        for (key, value) in records {
            let record = BaseRecord::<str, str>::to(self.records.topic()).key(key);
            let record = value.iter().fold(record, |record, value| record.payload(value));
            self.records.client().send(record).expect("there is room");
        }
        self.records.client().flush(SOON).expect("the broker takes it");
    }

    /// The same into one partition, as a tool does that chooses partitions in another way.
    fn write_to(&self, partition: i32, key: &str, value: Option<&str>) {
        let record = BaseRecord::<str, str>::to(self.records.topic()).key(key).partition(partition);
        let record = value.iter().fold(record, |record, value| record.payload(value));
        self.records.client().send(record).expect("there is room");
        self.records.client().flush(SOON).expect("the broker takes it");
    }

    fn token(&self, subject: &str) -> String {
        self.issuer.token_for(subject, &json!({"symbols": ["*"]}), 3_600)
    }

    /// Connects as somebody; gives the status of the answer.
    async fn knock(&self, gateway: &Gateway, subject: &str) -> (Raw, u16) {
        let mut raw = Raw::connect(gateway.url()).await;
        let credential = format!("Authorization: Bearer {}\r\n", self.token(subject));
        raw.send(handshake(&credential).as_bytes()).await;
        let head = raw.head().await;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (raw, status.expect("a status"))
    }

    async fn session(&self, gateway: &Gateway, subject: &str) -> Raw {
        let (mut raw, status) = self.knock(gateway, subject).await;
        assert_eq!(status, 101, "{subject}");
        assert_eq!(raw.json().await["op"], "hello");
        raw
    }

    async fn answers(&self, gateway: &Gateway, expected: &[(&str, u16)]) {
        for (subject, status) in expected {
            assert_eq!(self.knock(gateway, subject).await.1, *status, "{subject}");
        }
    }
}

async fn holds(gateway: &Gateway, entries: u64) {
    let counts = &gateway.running().board().access;
    until("the list is as long", || counts.topic_entries.load(Ordering::Relaxed) == entries).await;
}

fn said(gateway: &Gateway, what: Said) -> u64 {
    gateway.running().board().access.topic_records[what as usize].load(Ordering::Relaxed)
}

/// Whoever it is hears why, and is closed.
async fn is_closed(raw: &mut Raw) {
    let error = loop {
        let message = raw.json().await;
        if message["op"] == "error" {
            break message;
        }
    };
    assert_eq!(error["code"], "unauthenticated", "{error}");
    assert_eq!(raw.closed().await.0, 4401);
}

async fn is_there(raw: &mut Raw) {
    raw.say(&json!({"op": "ping", "id": 1})).await;
    while raw.json().await["op"] != "pong" {}
}

async fn who_is_revoked_is_closed_until_that_is_taken_back(kafka: Kafka) {
    let list = List::new(&kafka, 1).await;
    let gateway = Gateway::start(list.config(&kafka)).await;
    let mut ann = list.session(&gateway, "ann").await;
    for (key, value) in [("sub:eve", "{}"), ("jti:eve-1", r#"{"jti":"eve-1","sub":"eve"}"#)] {
        let mut eve = list.session(&gateway, "eve").await;
        list.write(&[(key, Some(value))]);
        is_closed(&mut eve).await;
        holds(&gateway, 1).await;
        list.answers(&gateway, &[("eve", 401), ("ann", 101)]).await;
        list.write(&[(key, None)]);
        holds(&gateway, 0).await;
        list.answers(&gateway, &[("eve", 101)]).await;
    }
    // The file counts beside it, and what it says the topic does not take back.
    std::fs::write(list.issuer.file("revoked"), "sub:bob\n").expect("it is written");
    let in_file = &gateway.running().board().access.revoked_entries;
    until("the file is read", || in_file.load(Ordering::Relaxed) == 1).await;
    list.write(&[("sub:bob", Some("{}")), ("sub:eve", Some("{}"))]);
    holds(&gateway, 2).await;
    gateway.metric_is("tickgate_auth_revoked_entries", 3.0).await;
    list.write(&[("sub:bob", None), ("sub:eve", None)]);
    holds(&gateway, 0).await;
    list.answers(&gateway, &[("bob", 401), ("eve", 101)]).await;
    is_there(&mut ann).await;
    gateway.metric_is(r#"tickgate_auth_revocation_records_total{result="restored"}"#, 4.0).await;
    gateway.stop().await;
}

async fn what_stands_there_at_the_start_counts(kafka: Kafka) {
    let list = List::new(&kafka, 3).await;
    let (over, later) =
        (json!({"exp": now_s() - 60}).to_string(), json!({"exp": now_s() + 3_600}).to_string());
    list.write(&[
        ("sub:bob", Some("{}")),
        ("sub:cyd", Some(&later)),
        ("sub:dan", Some("{}")),
        ("sub:eve", Some("{}")),
        ("sub:bob", None),
        ("sub:dan", Some(&over)),
    ]);
    let gateway = Gateway::start(list.config(&kafka)).await;
    list.answers(&gateway, &[("bob", 101), ("cyd", 401), ("dan", 101), ("eve", 401)]).await;
    holds(&gateway, 2).await;
    let read_s = &gateway.running().board().access.topic_read_s;
    let began_s = read_s.load(Ordering::Relaxed);
    assert!(began_s > 0);
    until("it is known to be read again", || read_s.load(Ordering::Relaxed) > began_s).await;
    gateway.stop().await;
}

/// The last record of all partitions counted, in the order in which they came. Of who was taken back in one and revoked in
/// another it depended on the order of fetches, after each restart anew, who came in.
async fn whom_one_partition_revokes_is_revoked(kafka: Kafka) {
    let list = List::new(&kafka, 2).await;
    for (key, taken_back) in [("sub:bob", 0), ("sub:eve", 1)] {
        list.write_to(1 - taken_back, key, Some("{}"));
        list.write_to(taken_back, key, None);
    }
    let gateway = Gateway::start(list.config(&kafka)).await;
    list.answers(&gateway, &[("ann", 101), ("bob", 401), ("eve", 401)]).await;
    list.write_to(0, "sub:eve", None);
    holds(&gateway, 1).await;
    list.write_to(0, "sub:bob", Some("{}"));
    until("it is read", || said(&gateway, Said::Revoked) == 3).await;
    list.write_to(0, "sub:bob", None);
    until("it is read", || said(&gateway, Said::Restored) == 4).await;
    list.answers(&gateway, &[("bob", 401), ("eve", 101)]).await;
    list.write_to(1, "sub:bob", None);
    holds(&gateway, 0).await;
    list.answers(&gateway, &[("bob", 101)]).await;
    gateway.stop().await;
}

/// Each is counted, those behind it count, and a mistake in a value pardons nobody.
async fn what_cannot_be_read_stops_nothing(kafka: Kafka) {
    // A compacted topic of Apache Kafka takes nothing without a key.
    let list = List::of(&kafka, &kafka.topic(1).await).await;
    let large = "x".repeat(200_000);
    list.write(&[("sub:bob", Some("{}")), ("bob", Some("{}")), ("", None), ("sub:", Some(&large))]);
    let gateway = Gateway::start(list.config(&kafka)).await;
    list.write(&[
        ("sub:bob", Some("")),
        ("sub:cyd", Some(&large)),
        ("jti:\u{7f}", None),
        ("sub:eve", Some("{}")),
    ]);
    let unkeyed = BaseRecord::<str, str>::to(list.records.topic()).payload("{}");
    list.records.client().send(unkeyed).expect("there is room");
    list.records.client().flush(SOON).expect("the broker takes it");
    until("all were read", || said(&gateway, Said::Malformed) == 7).await;
    holds(&gateway, 3).await;
    list.answers(&gateway, &[("ann", 101), ("bob", 401), ("cyd", 401), ("eve", 401)]).await;
    assert_eq!(said(&gateway, Said::Revoked), 2);
    gateway.stop().await;
}

async fn nobody_is_let_in_before_it_was_read(kafka: Kafka) {
    let topic = kafka.topic_name();
    let list = List::of(&kafka, &topic).await;
    let gateway = Gateway::start_unready(list.config(&kafka));
    gateway.unready_because("who is revoked is not known").await;
    list.answers(&gateway, &[("ann", 503)]).await;
    kafka.create_topic(&topic, 1).await;
    gateway.ready().await;
    list.answers(&gateway, &[("ann", 101)]).await;
    gateway.metric_is(r#"tickgate_connections_refused_total{reason="revocations_unread"}"#, 1.0).await;
    gateway.stop().await;
}

async fn everybody_is_let_in_where_that_is_wanted(kafka: Kafka) {
    let topic = kafka.topic_name();
    let list = List::of(&kafka, &topic).await;
    let mut config = list.config(&kafka);
    config.auth.revocation_fail_open = true;
    let gateway = Gateway::start(config).await;
    let mut eve = list.session(&gateway, "eve").await;
    gateway.metric_is("tickgate_auth_revocation_timestamp_seconds", 0.0).await;
    kafka.create_topic(&topic, 1).await;
    list.write(&[("sub:eve", Some("{}"))]);
    is_closed(&mut eve).await;
    gateway.stop().await;
}

async fn one_that_is_made_again_counts_anew(kafka: Kafka) {
    let list = List::new(&kafka, 1).await;
    let topic = list.records.topic().to_owned();
    list.write(&[("sub:bob", Some("{}")), ("sub:eve", Some("{}"))]);
    let gateway = Gateway::start(list.config(&kafka)).await;
    let mut dan = list.session(&gateway, "dan").await;
    kafka.delete_topic(&topic).await;
    // One that has gone is no pardon.
    list.answers(&gateway, &[("bob", 401), ("eve", 401)]).await;
    kafka.create_topic(&topic, 1).await;
    let records = kafka.producer(&topic);
    let list = List { records, ..list };
    list.write(&[("sub:cyd", Some("{}")), ("sub:dan", Some("{}")), ("sub:eve", Some("{}"))]);
    is_closed(&mut dan).await;
    holds(&gateway, 3).await;
    list.answers(&gateway, &[("bob", 101), ("cyd", 401), ("eve", 401)]).await;
    gateway.stop().await;
}

/// The partitions that it had before stayed, and what was read never was all of it.
async fn one_that_is_made_again_with_fewer_partitions_is_read(kafka: Kafka) {
    let list = List::new(&kafka, 3).await;
    let topic = list.records.topic().to_owned();
    list.write(&[("sub:bob", Some("{}")), ("sub:eve", Some("{}"))]);
    let gateway = Gateway::start(list.config(&kafka)).await;
    list.answers(&gateway, &[("bob", 401), ("eve", 401)]).await;
    kafka.delete_topic(&topic).await;
    kafka.create_topic(&topic, 1).await;
    let list = List { records: kafka.producer(&topic), ..list };
    list.write(&[("sub:eve", Some("{}"))]);
    holds(&gateway, 1).await;
    list.answers(&gateway, &[("bob", 101), ("eve", 401)]).await;
    gateway.stop().await;
}

/// On the embedded broker alone, as the Apache Kafka of a test run is shared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_no_broker_answers_the_last_list_counts() {
    let kafka = Kafka::embedded();
    let list = List::new(&kafka, 2).await;
    list.write(&[("sub:eve", Some("{}"))]);
    let gateway = Gateway::start(list.config(&kafka)).await;
    let mut ann = list.session(&gateway, "ann").await;
    let faults = kafka.broker().expect("it is embedded").faults();
    let read_s = &gateway.running().board().access.topic_read_s;
    for is_stalled in [false, true] {
        if is_stalled {
            faults.stall()
        } else {
            faults.stop().expect("it stops")
        }
        gateway.unready_because("no broker answers").await;
        list.answers(&gateway, &[("bob", 101), ("eve", 401)]).await;
        is_there(&mut ann).await;
        let before_s = read_s.load(Ordering::Relaxed);
        if is_stalled {
            faults.resume()
        } else {
            faults.restart().expect("the port is kept")
        }
        until("it is read again", || read_s.load(Ordering::Relaxed) > before_s).await;
    }
    list.write(&[("sub:ann", Some("{}"))]);
    is_closed(&mut ann).await;
    list.answers(&gateway, &[("ann", 401), ("bob", 101), ("eve", 401)]).await;
    gateway.stop().await;
}
