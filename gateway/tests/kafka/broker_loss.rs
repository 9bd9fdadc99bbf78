//! Brokers that go and come back. On the embedded broker alone, as the Apache Kafka of a test run is shared: killing
//! nodes of a cluster is a test of its own.

use crate::harness::session::{Session, fields};
use crate::harness::{Gateway, Kafka, trade};
use crate::kafkas;
use serde_json::Value;
use std::time::Duration;
use tickgate_broker::{ApiKey, Broker, ErrorCode};
use tickgate_gateway::config::Config;
use tickgate_protocol::control::FeedState;

kafkas!(silence_is_told);

fn numbered(from: usize, count: usize) -> Vec<Value> {
    (from..from + count).map(|i| trade(&format!("S{}", i % 5), &i.to_string())).collect()
}

fn config(kafka: &Kafka, topic: &str) -> Config {
    let mut config = kafka.config(topic);
    config.session.heartbeat_ms = 100;
    config
}

fn broker(kafka: &Kafka) -> &Broker {
    kafka.broker().expect("it is embedded")
}

/// Every record there is arrives once, in order.
async fn arrive(session: &mut Session, from: usize, count: usize) {
    let wanted: Vec<String> = (from..from + count).map(|i| i.to_string()).collect();
    assert_eq!(fields(&session.events(count).await, "price"), wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_and_started_again() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let records = kafka.producer(&topic);
    let gateway = Gateway::start(config(&kafka, &topic)).await;
    let mut session = Session::everything(&gateway).await;
    records.send_all(&numbered(0, 10));
    arrive(&mut session, 0, 10).await;
    for round in 1..3 {
        broker(&kafka).faults().stop().expect("it stops");
        session.feed_is(FeedState::Down).await;
        gateway.unready_because("no broker answers").await;
        assert_eq!(gateway.get("/healthz").await.0, 200);
        // Clients come and go meanwhile, and are served what is known.
        Session::everything(&gateway).await;
        broker(&kafka).faults().restart().expect("the port is kept");
        records.send_all(&numbered(10 * round, 10));
        arrive(&mut session, 10 * round, 10).await;
        session.feed_is(FeedState::Live).await;
        gateway.ready().await;
    }
    let tally = session.verify();
    assert_eq!((tally.gaps, tally.unverified), (0, 0), "the log was kept, so nothing is missing");
    gateway.metric_is("tickgate_feed_lost_offsets_total", 0.0).await;
    gateway.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gone_when_the_gateway_starts() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(2).await;
    broker(&kafka).faults().stop().expect("it stops");
    let gateway = Gateway::start_unready(config(&kafka, &topic));
    let mut session = Session::everything(&gateway).await;
    gateway.unready_because("no broker answers").await;
    session.feed_is(FeedState::Down).await;
    broker(&kafka).faults().restart().expect("the port is kept");
    gateway.ready().await;
    kafka.producer(&topic).send_to(0, &numbered(0, 3));
    arrive(&mut session, 0, 3).await;
    session.verify();
    gateway.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_without_a_word() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let records = kafka.producer(&topic);
    let gateway = Gateway::start(config(&kafka, &topic)).await;
    let mut session = Session::everything(&gateway).await;
    records.send_all(&numbered(0, 5));
    arrive(&mut session, 0, 5).await;
    broker(&kafka).faults().stall();
    // Connections stay open and nothing is refused: only answers are missing.
    session.feed_is(FeedState::Down).await;
    for record in numbered(5, 20) {
        records.queue("", Some(0), record.to_string().as_bytes());
    }
    broker(&kafka).faults().resume();
    records.flush();
    arrive(&mut session, 5, 20).await;
    session.feed_is(FeedState::Live).await;
    assert_eq!(session.verify().gaps, 0);
    gateway.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_cut_again_and_again() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(2).await;
    // What a producer sends again after a cut must not stand in the log twice.
    let records = kafka.producer_with(
        &topic,
        &[("enable.idempotence", "true"), ("reconnect.backoff.ms", "20"), ("reconnect.backoff.max.ms", "50")],
    );
    let gateway = Gateway::start(config(&kafka, &topic)).await;
    let mut session = Session::everything(&gateway).await;
    for round in 0..10 {
        records.send_to(0, &numbered(20 * round, 20));
        broker(&kafka).faults().drop_connections().expect("it runs");
        let t = std::time::Instant::now();
        arrive(&mut session, 20 * round, 20).await;
        eprintln!("arrived {:?}", t.elapsed());
    }
    let tally = session.verify();
    assert_eq!((tally.gaps, tally.unverified), (0, 0));
    gateway.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_errors() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let records = kafka.producer(&topic);
    let gateway = Gateway::start(config(&kafka, &topic)).await;
    let mut session = Session::everything(&gateway).await;
    let mut count = 0;
    let faults = broker(&kafka).faults();
    for (api, code) in [
        (ApiKey::Fetch, ErrorCode::NotLeaderOrFollower),
        (ApiKey::Fetch, ErrorCode::KafkaStorageError),
        (ApiKey::Fetch, ErrorCode::UnknownTopicOrPartition),
        (ApiKey::Fetch, ErrorCode::UnknownServerError),
        (ApiKey::Metadata, ErrorCode::LeaderNotAvailable),
        (ApiKey::Metadata, ErrorCode::UnknownTopicOrPartition),
        (ApiKey::ListOffsets, ErrorCode::NotLeaderOrFollower),
    ] {
        faults.fail_next(api, code, 3);
        records.send_all(&numbered(count, 10));
        arrive(&mut session, count, 10).await;
        count += 10;
        crate::harness::until("the errors were met", || faults.failures_left(api) == 0).await;
    }
    gateway.ready().await;
    let tally = session.verify();
    assert_eq!((tally.gaps, tally.unverified), (0, 0));
    gateway.metric_is("tickgate_feed_topics_recreated_total", 0.0).await;
    gateway.finish().await;
}

async fn silence_is_told(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    let records = kafka.producer(&topic);
    let mut config = config(&kafka, &topic);
    config.feeds[0].silence_ms = 500;
    let gateway = Gateway::start(config).await;
    let mut session = Session::everything(&gateway).await;
    let stale = format!("tickgate_feed_state{{feed=\"{topic}\",state=\"stale\"}}");
    for round in 0..2 {
        session.feed_is(FeedState::Stale).await;
        gateway.metric_is(&stale, 1.0).await;
        assert_eq!(gateway.get("/readyz").await.0, 200, "silence is no reason to send clients away");
        records.send_all(&numbered(round, 1));
        session.feed_is(FeedState::Live).await;
        arrive(&mut session, round, 1).await;
        tokio::time::timeout(Duration::from_secs(20), gateway.metric_is(&stale, 0.0))
            .await
            .expect("live again");
    }
    session.verify();
    gateway.finish().await;
}
