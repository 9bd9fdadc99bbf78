//! Copies of records that could not be read, for whoever has to find out why.

use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, ThreadedProducer};

/// Sends unreadable records to a topic, with the reason and where they stood as headers.
pub struct DeadLetters {
    producer: ThreadedProducer<DefaultProducerContext>,
    topic: String,
}

impl DeadLetters {
    /// Dead letters to `topic`.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn new(mut config: ClientConfig, topic: &str) -> rdkafka::error::KafkaResult<Self> {
        // Bounded: when the broker does not take them, they are dropped and counted, never piled up.
        config.set("queue.buffering.max.messages", "1000").set("queue.buffering.max.kbytes", "8192");
        Ok(Self { producer: config.create()?, topic: topic.to_owned() })
    }

    /// Sends one; `false` if there is no room for it.
    pub fn send(&self, reason: &str, topic: &str, partition: i32, offset: i64, value: &[u8]) -> bool {
        let (partition, offset) = (partition.to_string(), offset.to_string());
        let fields = [("reason", reason), ("topic", topic), ("partition", &partition), ("offset", &offset)];
        let headers = fields.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key: &format!("tickgate.{key}"), value: Some(*value) })
        });
        let record = BaseRecord::<(), [u8]>::to(&self.topic).payload(value).headers(headers);
        self.producer.send(record).is_ok()
    }
}
