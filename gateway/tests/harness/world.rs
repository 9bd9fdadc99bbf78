//! One embedded Kafka, one topic, one gateway: enough for most tests.

use super::{Gateway, Kafka, Records, until};
use tickgate_gateway::config::Config;

pub struct World {
    pub kafka: Kafka,
    pub topic: String,
    /// Writes into the topic.
    pub records: Records,
    pub gateway: Gateway,
}

impl World {
    /// A gateway that is ready, its configuration changed before.
    pub async fn new(partitions: i32, change: impl FnOnce(&mut Config)) -> Self {
        let kafka = Kafka::embedded();
        let topic = kafka.topic(partitions).await;
        let records = kafka.producer(&topic);
        let mut config = kafka.config(&topic);
        change(&mut config);
        let gateway = Gateway::start(config).await;
        Self { kafka, topic, records, gateway }
    }

    /// Waits until the gateway has read so many records.
    pub async fn has_read(&self, records: u64) {
        until("every record was read", || self.gateway.running().board().feed().records >= records).await;
    }

    /// Waits until nothing is held and every offered event is accounted for.
    pub async fn books_close(&self) {
        until("the books close", || {
            let (offered, sent, conflated, dropped, held) = self.gateway.books();
            held == 0 && offered == sent + conflated + dropped
        })
        .await;
    }
}
