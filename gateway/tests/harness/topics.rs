//! Topics and what happens to them, on either Kafka.

use super::{Kafka, Records, SOON};
use rdkafka::admin::{AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::producer::BaseProducer;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tickgate_broker::Broker;

impl Kafka {
    /// The embedded broker with its faults; `None` for a real Kafka.
    pub fn broker(&self) -> Option<&Broker> {
        match self {
            Self::Embedded(broker) => Some(broker),
            Self::Apache(_) => None,
        }
    }

    /// A name for a topic that no other test has.
    pub fn topic_name(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        format!("n{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes a topic with settings of its own.
    pub async fn topic_with(&self, partitions: i32, settings: &[(&str, &str)]) -> String {
        let name = self.topic_name();
        let topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
        let topic = settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
        let options = AdminOptions::new().operation_timeout(Some(SOON));
        let made = self.admin().create_topics([&topic], &options).await.expect("an answer");
        assert!(made[0].is_ok(), "{made:?}");
        name
    }

    /// Deletes a topic; returns when the broker says so.
    pub async fn delete_topic(&self, name: &str) {
        let options = AdminOptions::new().operation_timeout(Some(SOON));
        let deleted = self.admin().delete_topics(&[name], &options).await.expect("an answer");
        assert!(deleted[0].is_ok(), "{deleted:?}");
    }

    /// Gives a topic more partitions, `total` in all.
    pub async fn add_partitions(&self, name: &str, total: usize) {
        let options = AdminOptions::new().operation_timeout(Some(SOON));
        let grown = self.admin().create_partitions([&NewPartitions::new(name, total)], &options).await;
        assert!(grown.as_ref().is_ok_and(|grown| grown[0].is_ok()), "{grown:?}");
    }

    /// Deletes the records of the first `partitions` partitions that stand before `offset`, as retention does.
    pub async fn delete_records(&self, topic: &str, partitions: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("an offset");
        }
        let options = AdminOptions::new().operation_timeout(Some(SOON));
        let deleted = self.admin().delete_records(&list, &options).await.expect("an answer");
        assert!(deleted.elements().iter().all(|element| element.error().is_ok()), "{deleted:?}");
    }

    /// A producer with librdkafka settings of its own.
    pub fn producer_with(&self, topic: &str, settings: &[(&str, &str)]) -> Records {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address()).set("linger.ms", "0");
        settings.iter().for_each(|(key, value)| {
            config.set(*key, *value);
        });
        let producer: BaseProducer = config.create().expect("a client");
        Records { producer, topic: topic.to_owned() }
    }

    /// Reads the first `count` records of partition 0.
    pub fn read(&self, topic: &str, count: usize) -> Vec<Copy> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.address())
            .set("group.id", "test")
            .set("fetch.message.max.bytes", "4000000")
            .create()
            .expect("a client");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Beginning).expect("an offset");
        consumer.assign(&list).expect("it takes the partition");
        let deadline = Instant::now() + SOON;
        let mut copies = Vec::new();
        while copies.len() < count {
            assert!(Instant::now() < deadline, "{} of {count} records", copies.len());
            let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
            let message = message.expect("a record");
            let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
            let headers = message.headers().map(|headers| {
                headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect()
            });
            copies.push(Copy {
                key: text(message.key()),
                value: message.payload().unwrap_or_default().to_vec(),
                headers: headers.unwrap_or_default(),
            });
        }
        copies
    }
}

/// A record as it stands in a topic.
#[derive(Debug, PartialEq, Eq)]
pub struct Copy {
    pub key: String,
    pub value: Vec<u8>,
    pub headers: BTreeMap<String, String>,
}

impl Records {
    /// The topic it writes into.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The client, for records with a timestamp or without a value.
    pub fn client(&self) -> &BaseProducer {
        &self.producer
    }

    /// Writes records into one partition, in order; returns when the broker has all of them.
    pub fn send_to<'a>(&self, partition: i32, records: impl IntoIterator<Item = &'a Value>) {
        for record in records {
            let symbol = record["symbol"].as_str().unwrap_or("?");
            self.queue(symbol, Some(partition), record.to_string().as_bytes());
        }
        self.flush();
    }
}
