//! The gauges that say how far behind the gateway is.

use crate::harness::session::Session;
use crate::harness::{Gateway, Kafka, trade};
use crate::kafkas;

kafkas!(is_what_is_left_to_read);

async fn is_what_is_left_to_read(kafka: Kafka) {
    let topic = kafka.topic(2).await;
    let records = kafka.producer(&topic);
    let mut config = kafka.config(&topic);
    config.session.heartbeat_ms = 100;
    // Records are answered five seconds late, watermarks at once.
    for (name, value) in [("fetch.min.bytes", "10000000"), ("fetch.wait.max.ms", "5000")] {
        config.kafka.properties.insert(name.to_owned(), value.to_owned());
    }
    let gateway = Gateway::start(config).await;
    let mut session = Session::everything(&gateway).await;
    let of = |name: &str, partition: u32| {
        format!("tickgate_partition_{name}{{feed=\"{topic}\",partition=\"{partition}\"}}")
    };
    let feed = format!("tickgate_feed_lag_records{{feed=\"{topic}\"}}");
    records.send_to(0, &[trade("AAPL", "1")]);
    // From here on there are five seconds.
    session.event().await;
    records.send_to(0, &vec![trade("AAPL", "2"); 30]);
    records.send_to(1, &vec![trade("MSFT", "2"); 12]);
    gateway.metric_is(&feed, 42.0).await;
    gateway.metric_is(&of("lag_records", 0), 30.0).await;
    gateway.metric_is(&of("lag_records", 1), 12.0).await;
    gateway.metric_is(&of("next_offset", 0), 1.0).await;
    session.heartbeat("how far it is behind", |feeds| feeds[0].lag_records == 42).await;
    session.events(42).await;
    gateway.metric_is(&feed, 0.0).await;
    gateway.metric_is(&of("lag_records", 0), 0.0).await;
    gateway.metric_is(&of("next_offset", 0), 31.0).await;
    gateway.metric_is(&of("next_offset", 1), 12.0).await;
    gateway.metric_is(&of("caught_up", 1), 1.0).await;
    session.heartbeat("that it has caught up", |feeds| feeds[0].lag_records == 0).await;
    session.verify();
    gateway.finish().await;
}
