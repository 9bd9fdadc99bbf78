//! What a consumer relies on: offsets, times, watermarks, contents.

use crate::support::*;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, Timestamp};
use rdkafka::producer::BaseRecord;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use std::time::Instant;

on_each_kafka!(
    watermarks_are_exact,
    a_seek_lands_in_mid_batch,
    offsets_are_found_by_time,
    offsets_outside_the_log_are_refused,
    compressed_batches_come_back,
    keys_headers_and_timestamps_are_kept,
    a_waiting_fetch_wakes_at_once,
    an_idempotent_producer_works,
    partitions_are_independent,
);

fn watermarks_are_exact(kafka: &Kafka) {
    let topic = kafka.topic(4);
    let producer = TestProducer::new(&kafka.bootstrap, &[]);
    let consumer = consumer(&kafka.bootstrap, &[]);
    for (round, count) in [500, 1, 37].into_iter().enumerate() {
        for partition in 0..4 {
            producer.batch(&topic, partition, 0, count + i64::from(partition));
        }
        let expected: i64 = [500, 1, 37][..=round].iter().sum();
        for partition in 0..4 {
            let watermarks = consumer.fetch_watermarks(&topic, partition, PATIENCE).unwrap();
            assert_eq!(watermarks, (0, expected + (round as i64 + 1) * i64::from(partition)));
        }
    }
}

fn a_seek_lands_in_mid_batch(kafka: &Kafka) {
    let topic = kafka.topic(1);
    let producer = TestProducer::new(&kafka.bootstrap, &[]);
    producer.batch(&topic, 0, 0, 100);
    producer.batch(&topic, 0, 100, 100);
    let consumer = consumer(&kafka.bootstrap, &[]);
    for start in [0, 57, 99, 100, 101, 199] {
        assign(&consumer, &topic, 0, start);
        let records = read(&consumer, (200 - start) as usize);
        assert_eq!(offsets(&records), (start..200).collect::<Vec<_>>());
        assert_eq!(records[0].payload(), Some(format!("value {start}").as_bytes()));
    }
}

fn offsets_are_found_by_time(kafka: &Kafka) {
    let topic = kafka.topic(1);
    let producer = TestProducer::new(&kafka.bootstrap, &[]);
    producer.batch(&topic, 0, 0, 50);
    producer.batch(&topic, 0, 50, 50);
    let consumer = consumer(&kafka.bootstrap, &[]);
    let find = |timestamp_ms| {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, 0, Offset::Offset(timestamp_ms)).unwrap();
        let found = consumer.offsets_for_times(list, PATIENCE).unwrap();
        found.elements()[0].offset()
    };
    assert_eq!(find(0), Offset::Offset(0));
    assert_eq!(find(*T0_MS), Offset::Offset(0));
    assert_eq!(find(*T0_MS + 17_000), Offset::Offset(17));
    assert_eq!(find(*T0_MS + 17_001), Offset::Offset(18));
    assert_eq!(find(*T0_MS + 50_000), Offset::Offset(50));
    assert_eq!(find(*T0_MS + 99_000), Offset::Offset(99));
    assert_eq!(find(*T0_MS + 99_001), Offset::End);
}

fn offsets_outside_the_log_are_refused(kafka: &Kafka) {
    let topic = kafka.topic(1);
    TestProducer::new(&kafka.bootstrap, &[]).batch(&topic, 0, 0, 100);
    let admin = admin(&kafka.bootstrap);
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&topic, 0, Offset::Offset(30)).unwrap();
    let cut = block_on(admin.delete_records(&before, &admin_options())).unwrap();
    assert_eq!(cut.elements()[0].offset(), Offset::Offset(30));

    let consumer = consumer(&kafka.bootstrap, &[]);
    assert_eq!(consumer.fetch_watermarks(&topic, 0, PATIENCE).unwrap(), (30, 100));
    for outside in [29, 0, 101, 5_000] {
        assign(&consumer, &topic, 0, outside);
        let told = next(&consumer).unwrap_err();
        let expected = KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset);
        assert_eq!(told, expected, "offset {outside}");
    }
    assign(&consumer, &topic, 0, 30);
    assert_eq!(offsets(&read(&consumer, 70)), (30..100).collect::<Vec<_>>());
}

fn compressed_batches_come_back(kafka: &Kafka) {
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = kafka.topic(1);
        let producer = TestProducer::new(&kafka.bootstrap, &[("compression.type", codec)]);
        producer.batch(&topic, 0, 0, 300);
        producer.batch(&topic, 0, 300, 300);
        let consumer = consumer(&kafka.bootstrap, &[]);
        assign(&consumer, &topic, 0, 450);
        for (message, index) in read(&consumer, 150).iter().zip(450..) {
            assert_eq!(message.offset(), index, "{codec}");
            assert_eq!(message.payload(), Some(format!("value {index}").as_bytes()), "{codec}");
            assert_eq!(message.timestamp(), Timestamp::CreateTime(*T0_MS + index * 1000), "{codec}");
        }
    }
}

fn keys_headers_and_timestamps_are_kept(kafka: &Kafka) {
    let topic = kafka.topic(1);
    let producer = TestProducer::new(&kafka.bootstrap, &[]);
    let headers = OwnedHeaders::new()
        .insert(Header { key: "reason", value: Some("not json") })
        .insert(Header { key: "empty", value: Some("") })
        .insert(Header { key: "null", value: None::<&str> })
        .insert(Header { key: "reason", value: Some("twice") });
    let record =
        BaseRecord::to(&topic).partition(0).timestamp(*T0_MS).key("AAPL").payload(&[0u8, 255, 10][..]);
    producer.send_record(record.headers(headers));
    producer
        .send_record(BaseRecord::<str, [u8]>::to(&topic).partition(0).timestamp(*T0_MS - 5).key("tombstone"));
    assert!(producer.flush().iter().all(Result::is_ok));

    let consumer = consumer(&kafka.bootstrap, &[]);
    assign(&consumer, &topic, 0, 0);
    let records = read(&consumer, 2);
    assert_eq!(records[0].key(), Some(&b"AAPL"[..]));
    assert_eq!(records[0].payload(), Some(&[0u8, 255, 10][..]));
    assert_eq!(records[0].timestamp(), Timestamp::CreateTime(*T0_MS));
    let headers: Vec<_> = records[0].headers().unwrap().iter().map(|h| (h.key, h.value)).collect();
    let expected: [(&str, Option<&[u8]>); 4] =
        [("reason", Some(b"not json")), ("empty", Some(b"")), ("null", None), ("reason", Some(b"twice"))];
    assert_eq!(headers, expected);
    assert_eq!((records[1].key(), records[1].payload()), (Some(&b"tombstone"[..]), None));
    assert_eq!(records[1].timestamp(), Timestamp::CreateTime(*T0_MS - 5));
}

fn a_waiting_fetch_wakes_at_once(kafka: &Kafka) {
    let topic = kafka.topic(1);
    let producer = TestProducer::new(&kafka.bootstrap, &[]);
    producer.batch(&topic, 0, 0, 1);
    // Longer than this test may take: only a wake-up can bring the record in time.
    let consumer = consumer(&kafka.bootstrap, &[("fetch.wait.max.ms", "50000")]);
    assign(&consumer, &topic, 0, 0);
    assert_eq!(offsets(&read(&consumer, 1)), [0]);
    for index in 1..10 {
        if let Some(broker) = &kafka.broker {
            eventually("the fetch waits", || broker.fetches_waiting() == 1);
        }
        let start = Instant::now();
        producer.batch(&topic, 0, index, 1);
        assert_eq!(offsets(&read(&consumer, 1)), [index]);
        assert!(start.elapsed() < PATIENCE / 3, "took {:?}", start.elapsed());
    }
}

fn an_idempotent_producer_works(kafka: &Kafka) {
    let topic = kafka.topic(2);
    let producer = TestProducer::new(&kafka.bootstrap, &[("enable.idempotence", "true")]);
    for round in 0..5 {
        for partition in 0..2 {
            let expected: Vec<_> = (round * 20..round * 20 + 20).collect();
            assert_eq!(producer.batch(&topic, partition, round * 20, 20), expected);
        }
    }
}

fn partitions_are_independent(kafka: &Kafka) {
    let topic = kafka.topic(3);
    let producer = TestProducer::new(&kafka.bootstrap, &[]);
    for index in 0..300i64 {
        producer.send(&topic, (index % 3) as i32, *T0_MS, &index.to_string());
    }
    assert_eq!(producer.flush().len(), 300);
    let consumer = consumer(&kafka.bootstrap, &[]);
    let mut list = TopicPartitionList::new();
    for (partition, start) in [(0, 0), (1, 50), (2, 99)] {
        list.add_partition_offset(&topic, partition, Offset::Offset(start)).unwrap();
    }
    consumer.assign(&list).unwrap();
    let mut next = [0, 50, 99];
    for message in read(&consumer, 100 + 50 + 1) {
        let partition = message.partition() as usize;
        assert_eq!(message.offset(), next[partition]);
        let expected = next[partition] * 3 + partition as i64;
        assert_eq!(message.payload(), Some(expected.to_string().as_bytes()));
        next[partition] += 1;
    }
    assert_eq!(next, [100, 100, 100]);
}
