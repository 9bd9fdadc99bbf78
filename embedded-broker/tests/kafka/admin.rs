//! Topics created, grown, deleted and made again by ordinary clients.

use crate::support::*;
use crate::wire::Wire;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use rdkafka::admin::{NewPartitions, NewTopic, TopicReplication};
use rdkafka::types::RDKafkaErrorCode;
use uuid::Uuid;

on_each_kafka!(
    topics_come_grow_and_go,
    wrong_requests_have_their_codes,
    a_topic_made_again_is_another,
    unknown_topics_are_not_created
);

fn create(kafka: &Kafka, topic: &NewTopic<'_>) -> Result<(), RDKafkaErrorCode> {
    let admin = admin(&kafka.bootstrap);
    let results = block_on(admin.create_topics([topic], &admin_options())).unwrap();
    results[0].as_ref().map(|_| ()).map_err(|(_, code)| *code)
}

fn delete(kafka: &Kafka, topic: &str) -> Result<(), RDKafkaErrorCode> {
    let admin = admin(&kafka.bootstrap);
    let results = block_on(admin.delete_topics(&[topic], &admin_options())).unwrap();
    results[0].as_ref().map(|_| ()).map_err(|(_, code)| *code)
}

fn grow(kafka: &Kafka, topic: &str, total: usize) -> Result<(), RDKafkaErrorCode> {
    let admin = admin(&kafka.bootstrap);
    let growth = NewPartitions::new(topic, total);
    let results = block_on(admin.create_partitions([&growth], &admin_options())).unwrap();
    results[0].as_ref().map(|_| ()).map_err(|(_, code)| *code)
}

/// The topic's id as metadata tells it; nil when there is no such topic.
fn id_of(kafka: &Kafka, topic: &str) -> Uuid {
    let name = TopicName(StrBytes::from_string(topic.to_owned()));
    let asked = MetadataRequestTopic::default().with_name(Some(name));
    let request =
        MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(false);
    Wire::connect(&kafka.bootstrap).call(12, &request).unwrap().topics[0].topic_id
}

fn topics_come_grow_and_go(kafka: &Kafka) {
    let topic = kafka.topic(2);
    let consumer = consumer(&kafka.bootstrap, &[]);
    assert_eq!(partitions_of(&consumer, &topic), Some(2));
    let producer = TestProducer::new(&kafka.bootstrap, &[]);
    producer.batch(&topic, 1, 0, 10);

    grow(kafka, &topic, 5).unwrap();
    eventually("the new partitions are known", || partitions_of(&consumer, &topic) == Some(5));
    let producer = TestProducer::new(&kafka.bootstrap, &[]);
    assert_eq!(producer.batch(&topic, 4, 0, 3), [0, 1, 2]);
    assert_eq!(producer.batch(&topic, 1, 10, 1), [10]);

    delete(kafka, &topic).unwrap();
    eventually("the topic is gone", || partitions_of(&consumer, &topic).is_none());
}

fn wrong_requests_have_their_codes(kafka: &Kafka) {
    let topic = kafka.topic(2);
    let new = |name, replication| NewTopic::new(name, 1, TopicReplication::Fixed(replication));
    assert_eq!(create(kafka, &new(&topic, 1)), Err(RDKafkaErrorCode::TopicAlreadyExists));
    assert_eq!(create(kafka, &new("not a name", 1)), Err(RDKafkaErrorCode::InvalidTopic));
    let fresh = format!("{topic}-x");
    assert_eq!(create(kafka, &new(&fresh, 99)), Err(RDKafkaErrorCode::InvalidReplicationFactor));
    let unknown = new(&fresh, 1).set("no.such.setting", "1");
    assert_eq!(create(kafka, &unknown), Err(RDKafkaErrorCode::InvalidConfig));
    let bad = new(&fresh, 1).set("retention.bytes", "much");
    assert_eq!(create(kafka, &bad), Err(RDKafkaErrorCode::InvalidConfig));
    create(kafka, &new(&fresh, 1).set("retention.bytes", "1000000").set("retention.ms", "60000")).unwrap();

    assert_eq!(grow(kafka, &topic, 2), Err(RDKafkaErrorCode::InvalidPartitions));
    assert_eq!(grow(kafka, "no-such-topic", 2), Err(RDKafkaErrorCode::UnknownTopicOrPartition));
    assert_eq!(delete(kafka, "no-such-topic"), Err(RDKafkaErrorCode::UnknownTopicOrPartition));
}

fn a_topic_made_again_is_another(kafka: &Kafka) {
    let topic = kafka.topic(1);
    TestProducer::new(&kafka.bootstrap, &[]).batch(&topic, 0, 0, 10);
    let first = id_of(kafka, &topic);
    assert!(!first.is_nil());
    delete(kafka, &topic).unwrap();
    eventually("the topic is gone", || id_of(kafka, &topic).is_nil());
    kafka.create(&topic, 1);
    let second = id_of(kafka, &topic);
    assert!(!second.is_nil() && second != first);
    // It starts over, empty.
    assert_eq!(TestProducer::new(&kafka.bootstrap, &[]).batch(&topic, 0, 0, 1), [0]);
}

fn unknown_topics_are_not_created(kafka: &Kafka) {
    let consumer = consumer(&kafka.bootstrap, &[("allow.auto.create.topics", "true")]);
    assert_eq!(partitions_of(&consumer, "nobody-made-this"), None);
    assert_eq!(partitions_of(&consumer, "nobody-made-this"), None);
}
