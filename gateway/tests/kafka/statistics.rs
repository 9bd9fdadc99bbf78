//! What librdkafka says of itself and its brokers.

use crate::harness::session::Session;
use crate::harness::{Gateway, Kafka, trade};
use crate::kafkas;

kafkas!(are_shown_when_they_are_asked_for);

async fn are_shown_when_they_are_asked_for(kafka: Kafka) {
    let topic = kafka.topic(2).await;
    let records = kafka.producer(&topic);
    let quiet = Gateway::start(kafka.config(&topic)).await;
    let mut config = kafka.config(&topic);
    config.kafka.statistics_ms = 1_000;
    let gateway = Gateway::start(config).await;
    let mut session = Session::everything(&gateway).await;
    records.send(&trade("AAPL", "1"));
    session.event().await;
    for consumer in ["feed", "tracker"] {
        let of = |name: &str| format!("tickgate_kafka_{name}{{consumer=\"{consumer}\"");
        gateway.metric_is(&format!("{},state=\"up\"}}", of("brokers_known")), 1.0).await;
        for line in [
            format!("{},q=\"1\"}}", of("broker_rtt_seconds")),
            format!("{}}}", of("requests_sent_total")),
            format!("{}}}", of("received_bytes_total")),
        ] {
            assert!(gateway.metric(&line).await.is_some_and(|value| value > 0.0), "{line}");
        }
        let malformed = gateway.metric(&format!("{},result=\"malformed\"}}", of("statistics_total"))).await;
        assert_eq!(malformed, Some(0.0), "{consumer}");
    }
    assert_eq!(gateway.metric("tickgate_kafka_queue_records").await, Some(0.0));
    assert!(!quiet.get("/metrics").await.1.contains("tickgate_kafka_"), "nobody asked for them");
    session.verify();
    gateway.finish().await;
    quiet.finish().await;
}
