//! Reading back at start, so that snapshots exist at once.

use crate::harness::session::Session;
use crate::harness::{Gateway, Kafka, quote, trade};
use crate::kafkas;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

kafkas!(by_records, by_seconds, stops_at_the_oldest_record);

fn states() -> Vec<Value> {
    vec![
        quote("AAPL", "1.0", "1.1"),
        quote("AAPL", "1.1", "1.2"),
        json!({"type": "status", "symbol": "AAPL", "state": "trading", "event_ns": 5}),
        json!({"type": "book", "symbol": "AAPL", "bids": [["10", "1"], ["9", "2"]], "asks": [["11", "3"]], "snapshot": true, "event_ns": 6}),
        json!({"type": "book", "symbol": "AAPL", "bids": [["9", "0"]], "asks": [["12", "4"]], "event_ns": 7}),
        trade("AAPL", "1.15"),
        trade("AAPL", "1.16"),
        trade("AAPL", "1.17"),
    ]
}

/// A new client has the whole state in front of it, and what follows continues it.
async fn finds_every_state(kafka: &Kafka, topic: &str, gateway: Gateway) {
    let mut session = Session::open(
        &gateway,
        &[
            json!({"channel": "quotes", "symbols": ["AAPL"]}),
            json!({"channel": "status", "symbols": ["AAPL"]}),
            json!({"channel": "book", "symbols": ["AAPL"], "depth": 0}),
            json!({"channel": "trades", "symbols": ["AAPL"], "snapshot": 2}),
        ],
    )
    .await;
    let events = session.events(5).await;
    assert!(events.iter().all(|event| event["snapshot"] == true), "{events:?}");
    let of = |kind: &str| events.iter().filter(|event| event["type"] == kind).collect::<Vec<_>>();
    assert_eq!(of("quote")[0]["bid_price"], "1.1");
    assert_eq!(of("status")[0]["state"], "trading");
    let book = of("book")[0];
    assert_eq!((&book["bids"], &book["asks"]), (&json!([["10", "1"]]), &json!([["11", "3"], ["12", "4"]])));
    assert_eq!(
        of("trade").iter().map(|t| t["price"].as_str()).collect::<Vec<_>>(),
        [Some("1.16"), Some("1.17")]
    );
    kafka.producer(topic).send(&quote("AAPL", "1.2", "1.3"));
    assert_eq!(session.event().await["prev"], of("quote")[0]["seq"], "updates follow from the snapshot");
    session.verify();
    gateway.finish().await;
}

async fn by_records(kafka: Kafka) {
    let topic = kafka.topic(2).await;
    let records = kafka.producer(&topic);
    records.send(&trade("AAPL", "0.1"));
    records.send_all(&states());
    let mut config = kafka.config(&topic);
    config.kafka.warm_up_records = states().len() as u64;
    let gateway = Gateway::start(config).await;
    gateway.metric_is("tickgate_feed_records_total", states().len() as f64).await;
    finds_every_state(&kafka, &topic, gateway).await;
}

async fn by_seconds(kafka: Kafka) {
    let topic = kafka.topic_with(1, &[("retention.ms", "-1")]).await;
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", kafka.address()).create().expect("a client");
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let send = |value: &Value, timestamp_ms| {
        let value = value.to_string();
        let record = BaseRecord::to(&topic).key("AAPL").payload(&value).timestamp(timestamp_ms);
        producer.send(record).expect("there is room");
    };
    send(&trade("OLD", "1"), now_ms - 900_000);
    states().iter().for_each(|state| send(state, now_ms - 5_000));
    producer.flush(Duration::from_secs(20)).expect("the broker takes it");
    let mut config = kafka.config(&topic);
    config.kafka.warm_up_s = 300;
    let gateway = Gateway::start(config).await;
    gateway.metric_is("tickgate_feed_records_total", states().len() as f64).await;
    finds_every_state(&kafka, &topic, gateway).await;
}

async fn stops_at_the_oldest_record(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    kafka.producer(&topic).send_all(&states());
    kafka.delete_records(&topic, 1, 2).await;
    let mut config = kafka.config(&topic);
    config.kafka.warm_up_records = 1_000_000;
    config.kafka.warm_up_s = 3_600;
    let gateway = Gateway::start(config).await;
    gateway.metric_is("tickgate_feed_records_total", states().len() as f64 - 2.0).await;
    gateway.metric_is("tickgate_feed_lost_offsets_total", 0.0).await;
    gateway.finish().await;
}

/// What ends a transaction stands in the log behind its last record and is never delivered, so a reader that counts
/// records never comes to the end: such a gateway was never ready.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_at_the_end_is_no_lag() {
    let Some(kafka) = Kafka::apache() else { return };
    let topic = kafka.topic(1).await;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka.address())
        .set("transactional.id", &topic)
        .create()
        .expect("a client");
    let timeout = Duration::from_secs(20);
    producer.init_transactions(timeout).expect("a transactional producer");
    let commit = |value: Value| {
        producer.begin_transaction().expect("it begins");
        producer.send(BaseRecord::to(&topic).key("AAPL").payload(&value.to_string())).expect("there is room");
        producer.commit_transaction(timeout).expect("it is written");
    };
    commit(trade("AAPL", "1"));
    let mut config = kafka.config(&topic);
    config.kafka.warm_up_records = 10;
    let gateway = Gateway::start(config).await;
    let mut session = Session::everything(&gateway).await;
    commit(trade("AAPL", "2"));
    assert_eq!(session.event().await["price"], "2");
    let labels = format!("{{feed=\"{topic}\",partition=\"0\"}}");
    gateway.metric_is(&format!("tickgate_partition_next_offset{labels}"), 4.0).await;
    gateway.metric_is(&format!("tickgate_partition_lag_records{labels}"), 0.0).await;
    session.verify();
    gateway.finish().await;
}
