//! Where reading starts, and what readiness waits for.

use crate::harness::session::{Session, fields};
use crate::harness::{Gateway, Kafka, quote, trade, until};
use crate::kafkas;
use serde_json::json;
use tickgate_broker::{ApiKey, ErrorCode};
use tickgate_gateway::config::FeedConfig;

kafkas!(
    begins_at_the_end,
    waits_for_a_missing_topic_and_misses_nothing_of_it,
    reads_several_topics,
    is_ready_without_an_optional_topic,
    reads_many_partitions,
);

async fn begins_at_the_end(kafka: Kafka) {
    let topic = kafka.topic(2).await;
    let records = kafka.producer(&topic);
    for partition in 0..2 {
        let before: Vec<_> = (0..50).map(|i| trade("OLD", &i.to_string())).collect();
        records.send_to(partition, &before);
    }
    let gateway = Gateway::start(kafka.config(&topic)).await;
    // Written before anybody listens: the position is the end at start, not at the first subscription.
    records.send_to(0, &[trade("NEW", "0")]);
    gateway.metric_is("tickgate_feed_records_total", 1.0).await;
    let mut session = Session::everything(&gateway).await;
    records.send_to(0, &[trade("NEW", "1")]);
    records.send_to(1, &[trade("NEW1", "2")]);
    let events = session.events(2).await;
    assert!(fields(&events, "symbol").iter().all(|symbol| symbol.starts_with("NEW")), "{events:?}");
    let first = events.iter().find(|event| event["symbol"] == "NEW").expect("one of each");
    assert!(first["seq"].as_str().is_some_and(|seq| seq.ends_with(":0:51")), "{first}");
    assert!(first["prev"].as_str().is_some_and(|prev| prev.ends_with(":0:50")), "{first}");
    gateway.metric_is("tickgate_feed_records_total", 3.0).await;
    session.verify();
    gateway.finish().await;
}

async fn waits_for_a_missing_topic_and_misses_nothing_of_it(kafka: Kafka) {
    let topic = kafka.topic_name();
    let gateway = Gateway::start_unready(kafka.config(&topic));
    gateway.unready_because(&format!("topic {topic} does not exist")).await;
    assert_eq!(gateway.get("/healthz").await.0, 200);
    let mut session = Session::everything(&gateway).await;
    kafka.create_topic(&topic, 3).await;
    // Most likely before the gateway has noticed.
    let sent: Vec<_> = (0..30).map(|i| trade(&format!("S{}", i % 10), &i.to_string())).collect();
    kafka.producer(&topic).send_all(&sent);
    let mut prices: Vec<u32> = Vec::new();
    for event in session.events(30).await {
        prices.push(event["price"].as_str().and_then(|price| price.parse().ok()).expect("a price"));
    }
    prices.sort_unstable();
    assert_eq!(prices, (0..30).collect::<Vec<_>>());
    gateway.ready().await;
    assert_eq!(gateway.get("/readyz").await.0, 200);
    session.verify();
    gateway.finish().await;
}

async fn reads_several_topics(kafka: Kafka) {
    let (trades, quotes) = (kafka.topic(1).await, kafka.topic(2).await);
    let mut config = kafka.config(&trades);
    config.feeds[0].name = "prints".to_owned();
    config.feeds.push(FeedConfig { name: "tops".to_owned(), ..FeedConfig::for_topic(&quotes) });
    config.session.heartbeat_ms = 100;
    let gateway = Gateway::start(config).await;
    let mut session = Session::everything(&gateway).await;
    kafka.producer(&trades).send(&trade("AAPL", "1"));
    kafka.producer(&quotes).send(&quote("AAPL", "1", "2"));
    let events = session.events(2).await;
    let mut types = fields(&events, "type");
    types.sort_unstable();
    assert_eq!(types, ["quote", "trade"]);
    let epoch =
        |event: &serde_json::Value| event["seq"].as_str().map(|seq| seq.split(':').next().map(str::to_owned));
    assert_ne!(epoch(&events[0]), epoch(&events[1]), "a topic has an epoch of its own");
    let feeds = session.heartbeat("both", |feeds| feeds.iter().all(|feed| feed.event_ns == Some(1))).await;
    assert_eq!(feeds.iter().map(|feed| feed.name.as_str()).collect::<Vec<_>>(), ["prints", "tops"]);
    // A record that says nothing of a time leaves the feed's clock where its own records have put it.
    kafka.producer(&quotes).raw("x", None, b"no record");
    kafka
        .producer(&trades)
        .send(&json!({"type": "trade", "symbol": "AAPL", "price": "1", "size": "1", "event_ns": 7}));
    session.heartbeat("each its own clock", |f| (f[0].event_ns, f[1].event_ns) == (Some(7), Some(1))).await;
    session.verify();
    gateway.finish().await;
}

async fn is_ready_without_an_optional_topic(kafka: Kafka) {
    let (topic, missing) = (kafka.topic(1).await, kafka.topic_name());
    let mut config = kafka.config(&topic);
    config.feeds.insert(0, FeedConfig { optional: true, ..FeedConfig::for_topic(&missing) });
    let gateway = Gateway::start(config).await;
    let mut session = Session::everything(&gateway).await;
    kafka.producer(&topic).send(&trade("AAPL", "1"));
    assert_eq!(session.event().await["price"], "1");
    // It may come later.
    kafka.create_topic(&missing, 1).await;
    kafka.producer(&missing).send(&trade("MSFT", "2"));
    assert_eq!(session.event().await["symbol"], "MSFT");
    session.verify();
    gateway.finish().await;
}

async fn reads_many_partitions(kafka: Kafka) {
    let topic = kafka.topic(64).await;
    let gateway = Gateway::start(kafka.config(&topic)).await;
    let mut session = Session::everything(&gateway).await;
    let records = kafka.producer(&topic);
    for partition in 0..64 {
        records.queue("", Some(partition), trade(&format!("P{partition}"), "1").to_string().as_bytes());
    }
    records.flush();
    let mut partitions: Vec<_> = session
        .events(64)
        .await
        .iter()
        .map(|event| event["seq"].as_str().and_then(|s| s.split(':').nth(1)?.parse().ok()))
        .collect();
    partitions.sort_unstable();
    assert_eq!(partitions, (0..64).map(Some).collect::<Vec<Option<u32>>>());
    gateway.finish().await;
}

/// A partition that gives no answer once kept every partition behind it from being read, and those that came late were
/// then taken for new ones and read from the beginning of their retention.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_without_an_answer_holds_up_no_other() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(4).await;
    let records = kafka.producer(&topic);
    for partition in 0..4 {
        records.send_to(partition, &[trade("OLD", "1"), trade("OLD", "2")]);
    }
    let broker = kafka.broker().expect("it is embedded");
    // The look-up of all partitions together, then both of partition 0 alone.
    broker.faults().fail_next(ApiKey::ListOffsets, ErrorCode::TopicAuthorizationFailed, 3);
    let mut config = kafka.config(&topic);
    config.kafka.refresh_ms = 2_000;
    let gateway = Gateway::start_unready(config);
    gateway.unready_because("partition 0 is not assigned yet").await;
    until("the others are assigned", || gateway.running().board().feed().partitions.len() == 3).await;
    let mut session = Session::everything(&gateway).await;
    records.send_to(0, &[trade("LATE", "1")]);
    records.send_to(3, &[trade("EARLY", "1")]);
    assert_eq!(session.event().await["symbol"], "EARLY");
    assert!(!gateway.running().board().feed().ready, "partition 0 is still to come");
    assert_eq!(
        session.event().await["symbol"],
        "LATE",
        "what came since the start is not lost, and no older record"
    );
    gateway.ready().await;
    gateway.metric_is("tickgate_feed_records_total", 2.0).await;
    session.verify();
    gateway.finish().await;
}
