//! A clock that is set while somebody is revoked by a topic. In a program of its own, as the clock is the whole program's.

mod harness;
mod issuer;
mod raw;

use harness::{Gateway, Kafka, SOON, until};
use issuer::{Issuer, now_s};
use raw::{Raw, handshake};
use rdkafka::producer::{BaseRecord, Producer};
use serde_json::json;
use std::sync::atomic::Ordering;
use tickgate_gateway::clock;

/// A clock that went ahead for a moment ended entries, and as it was right again their tokens held once more: who was revoked
/// came in until the gateway was started anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_ahead_for_a_while_pardons_nobody() {
    let kafka = Kafka::embedded();
    let issuer = Issuer::new("k1");
    let feed = kafka.topic(1).await;
    let records = kafka.producer(&kafka.topic(1).await);
    let until_s = json!({"exp": now_s() + 3_600}).to_string();
    records
        .client()
        .send(BaseRecord::to(records.topic()).key("sub:eve").payload(&until_s))
        .expect("there is room");
    records.client().flush(SOON).expect("the broker takes it");
    let mut config = kafka.config(&feed);
    issuer.asked_by(&mut config);
    config.auth.revocation_topic = records.topic().to_owned();
    let gateway = Gateway::start(config).await;
    let entries = &gateway.running().board().access.topic_entries;
    let token = issuer.token_for("eve", &json!({"symbols": ["*"]}), 3_600);
    let status = async || {
        let mut raw = Raw::connect(gateway.url()).await;
        raw.send(handshake(&format!("Authorization: Bearer {token}\r\n")).as_bytes()).await;
        raw.head().await.split(' ').nth(1).map(str::to_owned)
    };
    assert_eq!(status().await.as_deref(), Some("401"));
    clock::shift_wall(7_200_000_000_000);
    until("its time is over", || entries.load(Ordering::Relaxed) == 0).await;
    assert_eq!(status().await.as_deref(), Some("401"), "so is its token's");
    clock::shift_wall(0);
    until("it is known again", || entries.load(Ordering::Relaxed) == 1).await;
    assert_eq!(status().await.as_deref(), Some("401"));
    gateway.stop().await;
}
