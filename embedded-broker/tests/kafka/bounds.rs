//! The broker's limits: bytes, topics, partitions, connections.

use crate::support::*;
use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use std::io::Read;
use std::net::TcpStream;
use tickgate_broker::{Broker, BrokerConfig, BrokerError};

#[test]
fn old_records_go_by_bytes_and_readers_are_told() {
    let config = BrokerConfig { partition_bytes_max: 20_000, ..BrokerConfig::default() };
    let broker = Broker::start(config).unwrap();
    broker.create_topic("bounded", 1).unwrap();
    broker.create_topic_with_retention("tighter", 1, 4_000).unwrap();
    let producer = TestProducer::new(&broker.bootstrap(), &[("batch.num.messages", "1")]);
    let consumer = consumer(&broker.bootstrap(), &[]);
    let value = "x".repeat(1_000);
    for topic in ["bounded", "tighter"] {
        for round in 0..100i64 {
            producer.send(topic, 0, *T0_MS + round, &value);
        }
        assert!(producer.flush().iter().all(Result::is_ok));
        let (low, high) = consumer.fetch_watermarks(topic, 0, PATIENCE).unwrap();
        assert_eq!(high, 100);
        // Each batch is the value and some 70 bytes around it.
        assert_eq!(low, if topic == "bounded" { 100 - 18 } else { 100 - 3 });
        assert_eq!(broker.low_watermark(topic, 0).unwrap(), low);
        assign(&consumer, topic, 0, low - 1);
        let told = next(&consumer).unwrap_err();
        assert_eq!(told, KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset));
        assign(&consumer, topic, 0, low);
        assert_eq!(offsets(&read(&consumer, (high - low) as usize)), (low..high).collect::<Vec<_>>());
    }
}

#[test]
fn retention_can_be_set_by_a_client() {
    let kafka = Kafka::embedded();
    let topic = NewTopic::new("t", 1, TopicReplication::Fixed(1)).set("retention.bytes", "4000");
    let admin = admin(&kafka.bootstrap);
    block_on(admin.create_topics([&topic], &admin_options())).unwrap()[0].as_ref().unwrap();
    let producer = TestProducer::new(&kafka.bootstrap, &[("batch.num.messages", "1")]);
    for _ in 0..10 {
        producer.send("t", 0, *T0_MS, &"x".repeat(1_000));
    }
    assert!(producer.flush().iter().all(Result::is_ok));
    assert_eq!(kafka.broker.unwrap().low_watermark("t", 0).unwrap(), 7);
}

/// Compressed batches are not unpacked, so an offset by time is that of the batch which holds it.
#[test]
fn time_look_up_in_compressed_batches_is_never_too_late() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1);
    let producer = TestProducer::new(&kafka.bootstrap, &[("compression.type", "lz4")]);
    producer.batch(&topic, 0, 0, 50);
    producer.batch(&topic, 0, 50, 50);
    let consumer = consumer(&kafka.bootstrap, &[]);
    let find = |second: i64| {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, 0, Offset::Offset(*T0_MS + second * 1000)).unwrap();
        consumer.offsets_for_times(list, PATIENCE).unwrap().elements()[0].offset()
    };
    assert_eq!(find(0), Offset::Offset(0));
    let Offset::Offset(found) = find(70) else { panic!("there are later records") };
    assert!((50..=70).contains(&found), "{found}");
    assert_eq!(find(100), Offset::End);
}

#[test]
fn a_record_over_the_limit_is_refused() {
    let config = BrokerConfig { batch_bytes_max: 10_000, ..BrokerConfig::default() };
    let broker = Broker::start(config).unwrap();
    broker.create_topic("t", 1).unwrap();
    let producer = TestProducer::new(&broker.bootstrap(), &[]);
    producer.send("t", 0, *T0_MS, &vec![0u8; 10_000]);
    let refused = KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge);
    assert_eq!(producer.flush(), [Err(refused)]);
    producer.send("t", 0, *T0_MS, &vec![0u8; 9_000]);
    assert_eq!(producer.flush(), [Ok((0, 0))]);
}

#[test]
fn topics_and_partitions_are_bounded_for_clients_too() {
    let config = BrokerConfig { topics_max: 2, partitions_max: 6, ..BrokerConfig::default() };
    let broker = Broker::start(config).unwrap();
    let admin = admin(&broker.bootstrap());
    let create = |name, partitions| {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let results = block_on(admin.create_topics([&topic], &admin_options())).unwrap();
        results[0].as_ref().map(|_| ()).map_err(|(_, code)| *code)
    };
    assert_eq!(create("a", 7), Err(RDKafkaErrorCode::PolicyViolation));
    create("a", 2).unwrap();
    create("default", -1).unwrap();
    assert_eq!(create("c", 1), Err(RDKafkaErrorCode::PolicyViolation));
    assert!(matches!(broker.create_topic("c", 1), Err(BrokerError::Limit { what: "topics", max: 2 })));
    assert_eq!(
        (broker.topics(), broker.partitions("default").unwrap()),
        (vec!["a".into(), "default".into()], 4)
    );
    assert!(matches!(broker.add_partitions("a", 3), Err(BrokerError::Limit { what: "partitions", max: 6 })));
}

#[test]
fn one_connection_too_many_is_closed() {
    let config = BrokerConfig { connections_max: 3, ..BrokerConfig::default() };
    let broker = Broker::start(config).unwrap();
    let connect = || TcpStream::connect(broker.address()).unwrap();
    let mut held: Vec<_> = (0..3).map(|_| connect()).collect();
    eventually("three are served", || broker.connections() == 3);
    assert_eq!(connect().read(&mut [0]).unwrap_or(0), 0);
    held.pop();
    eventually("one has gone", || broker.connections() == 2);
    held.push(connect());
    eventually("another has its place", || broker.connections() == 3);
}

#[test]
fn topics_are_created_on_demand_where_allowed() {
    let config = BrokerConfig { auto_create_topics: true, ..BrokerConfig::default() };
    let broker = Broker::start(config).unwrap();
    let producer = TestProducer::new(&broker.bootstrap(), &[]);
    assert_eq!(producer.batch("made-by-a-producer", 3, 0, 2), [0, 1]);
    let with = |allow| consumer(&broker.bootstrap(), &[("allow.auto.create.topics", allow)]);
    assert_eq!(partitions_of(&with("false"), "asked-for"), None);
    assert_eq!(partitions_of(&with("true"), "asked-for"), Some(4));
    assert_eq!(broker.topics(), ["asked-for", "made-by-a-producer"]);
}
