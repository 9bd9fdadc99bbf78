//! Topics that are deleted, and made again under the same name: other records at the same offsets.

use crate::harness::session::{Session, fields, position};
use crate::harness::{Gateway, Kafka, quote, trade};
use crate::kafkas;
use serde_json::{Value, json};
use tickgate_protocol::control::FeedState;

kafkas!(
    shorter_than_before,
    longer_than_before,
    with_fewer_partitions,
    deleted_and_left_so,
    at_once,
    at_once_and_longer
);

fn numbered(symbol: &str, from: u32, count: u32) -> Vec<Value> {
    (from..from + count).map(|i| trade(symbol, &i.to_string())).collect()
}

/// A gateway that has read `before` records, and a session that saw them; then the topic is made again with `partitions`.
async fn recreate(
    kafka: &Kafka,
    topic: &str,
    before: u32,
    partitions: i32,
    notices: bool,
) -> (Gateway, Session, Value) {
    let mut config = kafka.config(topic);
    config.session.heartbeat_ms = 100;
    let gateway = Gateway::start(config).await;
    let mut session = Session::everything(&gateway).await;
    kafka.producer(topic).send_to(0, &numbered("AAPL", 0, before));
    let last = session.events(before as usize).await.pop().expect("the last one");
    kafka.delete_topic(topic).await;
    if notices {
        gateway.unready_because("does not exist").await;
    }
    kafka.create_topic(topic, partitions).await;
    (gateway, session, last)
}

/// A gap first, then all of the new topic from its beginning, in another epoch.
async fn continues(session: &mut Session, last: &Value, count: u32) -> Vec<Value> {
    let gap = session.event().await;
    assert_eq!(
        (&gap["type"], &gap["cause"], &gap["after"]),
        (&json!("gap"), &json!("retention"), &last["seq"])
    );
    let events = session.events(count as usize).await;
    let wanted: Vec<String> = (1000..1000 + count).map(|i| i.to_string()).collect();
    assert_eq!(fields(&events, "price"), wanted, "the new topic's records, all of them, from the first on");
    let (epoch_before, ..) = position(last, "seq").expect("a position");
    for (at, event) in events.iter().enumerate() {
        let (epoch, _, offset) = position(event, "seq").expect("a position");
        assert_ne!(epoch, epoch_before);
        assert_eq!(offset, at as u64);
    }
    assert_eq!(events[0]["prev"], gap["upto"]);
    events
}

async fn ends_well(gateway: Gateway, mut session: Session) {
    gateway.ready().await;
    session.feed_is(FeedState::Live).await;
    gateway.metric_is("tickgate_feed_topics_recreated_total", 1.0).await;
    gateway.metric_is("tickgate_feed_partitions_added_total", 0.0).await;
    let tally = session.verify();
    assert_eq!(tally.gaps_by_cause.get("retention"), Some(&1));
    gateway.finish().await;
}

async fn shorter_than_before(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    let (gateway, mut session, last) = recreate(&kafka, &topic, 20, 1, true).await;
    kafka.producer(&topic).send_to(0, &numbered("AAPL", 1000, 5));
    let events = continues(&mut session, &last, 5).await;
    kafka.producer(&topic).send_to(0, &numbered("AAPL", 7, 1));
    assert_eq!(session.event().await["prev"], events[4]["seq"]);
    ends_well(gateway, session).await;
}

async fn longer_than_before(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    let (gateway, mut session, last) = recreate(&kafka, &topic, 5, 1, true).await;
    // The old position is a good offset in the new topic: going on there would be wrong data without a word.
    kafka.producer(&topic).send_to(0, &numbered("AAPL", 1000, 30));
    continues(&mut session, &last, 30).await;
    ends_well(gateway, session).await;
}

async fn with_fewer_partitions(kafka: Kafka) {
    let topic = kafka.topic(4).await;
    let (gateway, mut session, last) = recreate(&kafka, &topic, 3, 2, true).await;
    kafka.producer(&topic).send_to(0, &numbered("AAPL", 1000, 3));
    continues(&mut session, &last, 3).await;
    let of =
        |partition| format!("tickgate_partition_next_offset{{feed=\"{topic}\",partition=\"{partition}\"}}");
    // Published together.
    gateway.metric_is("tickgate_feed_topics_recreated_total", 1.0).await;
    assert_eq!(gateway.metric(&of(1)).await, Some(0.0));
    assert_eq!(gateway.metric(&of(2)).await, None, "what is gone is not shown");
    ends_well(gateway, session).await;
}

/// Deleted, made again and written to before the gateway has looked again.
async fn at_once(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    let (gateway, mut session, last) = recreate(&kafka, &topic, 20, 1, false).await;
    kafka.producer(&topic).send_to(0, &numbered("AAPL", 1000, 5));
    continues(&mut session, &last, 5).await;
    ends_well(gateway, session).await;
}

/// The same, and filled beyond the old position: no broker says that the next offset belongs to another topic, so up to
/// the next look its records may pass for those of the old one. Then all is told and read from the beginning.
async fn at_once_and_longer(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    let (gateway, mut session, mut last) = recreate(&kafka, &topic, 5, 1, false).await;
    kafka.producer(&topic).send_to(0, &numbered("AAPL", 1000, 30));
    let epoch = position(&last, "seq").map(|(epoch, ..)| epoch);
    let gap = loop {
        let event = session.event().await;
        if event["type"] == "gap" {
            break event;
        }
        assert_eq!(position(&event, "seq").map(|(epoch, ..)| epoch), epoch);
        last = event;
    };
    assert_eq!((&gap["cause"], &gap["after"]), (&json!("retention"), &last["seq"]));
    let events = session.events(30).await;
    assert_eq!(fields(&events, "price"), (1000..1030).map(|i| i.to_string()).collect::<Vec<_>>());
    assert!(events.iter().all(|event| position(event, "seq").map(|(epoch, ..)| epoch) != epoch));
    ends_well(gateway, session).await;
}

async fn deleted_and_left_so(kafka: Kafka) {
    let (topic, other) = (kafka.topic(2).await, kafka.topic(1).await);
    let mut config = kafka.config(&topic);
    config.feeds.push(tickgate_gateway::config::FeedConfig::for_topic(&other));
    config.session.heartbeat_ms = 100;
    let gateway = Gateway::start(config).await;
    let mut session = Session::everything(&gateway).await;
    kafka.producer(&topic).send(&quote("AAPL", "1", "2"));
    session.event().await;
    kafka.delete_topic(&topic).await;
    gateway.unready_because(&format!("topic {topic} does not exist")).await;
    let states = |f: &[tickgate_protocol::control::FeedStatus]| {
        (f[0].state, f[1].state) == (FeedState::Stale, FeedState::Live)
    };
    session.heartbeat("stale for what is gone, live for the other", states).await;
    kafka.producer(&other).send(&trade("MSFT", "1"));
    assert_eq!(session.event().await["symbol"], "MSFT");
    session.verify();
    gateway.finish().await;
}
