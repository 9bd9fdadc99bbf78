//! Every fault, as a client meets it.

use crate::support::*;
use crate::wire::Wire;
use kafka_protocol::messages::MetadataRequest;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};
use tickgate_broker::{ApiKey, Broker, BrokerError, ErrorCode};

fn broker() -> (Broker, TestProducer) {
    let broker = Kafka::embedded().broker.unwrap();
    broker.create_topic("ticks", 1).unwrap();
    let producer = TestProducer::new(&broker.bootstrap(), &[("enable.idempotence", "true")]);
    producer.batch("ticks", 0, 0, 10);
    (broker, producer)
}

#[test]
fn a_stopped_broker_comes_back_on_its_port_with_its_data() {
    let (broker, producer) = broker();
    let consumer = consumer(&broker.bootstrap(), &[]);
    assign(&consumer, "ticks", 0, 0);
    read(&consumer, 10);
    for round in 1..4 {
        broker.faults().stop().unwrap();
        broker.faults().stop().unwrap();
        assert_eq!(broker.connections(), 0);
        let refused = TcpStream::connect(broker.address()).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        broker.faults().restart().unwrap();
        broker.faults().restart().unwrap();
        let first = round * 10;
        assert_eq!(producer.batch("ticks", 0, first, 10), (first..first + 10).collect::<Vec<_>>());
        assert_eq!(offsets(&read(&consumer, 10)), (first..first + 10).collect::<Vec<_>>());
    }
}

#[test]
fn dropped_connections_lose_and_repeat_nothing() {
    let (broker, producer) = broker();
    let consumer = consumer(&broker.bootstrap(), &[]);
    assign(&consumer, "ticks", 0, 0);
    read(&consumer, 10);
    for round in 1..20 {
        producer.send("ticks", 0, *T0_MS, &round.to_string());
        assert!(broker.faults().drop_connections().unwrap() <= 10);
        assert!(producer.flush().iter().all(Result::is_ok));
    }
    assert_eq!(broker.high_watermark("ticks", 0).unwrap(), 29);
    assert_eq!(offsets(&read(&consumer, 19)), (10..29).collect::<Vec<_>>());
}

#[test]
fn a_stall_holds_answers_until_it_is_resumed() {
    let (broker, _) = broker();
    let mut wire = Wire::connect(&broker.bootstrap());
    wire.call(12, &MetadataRequest::default()).unwrap();
    broker.faults().stall();
    let answered = std::thread::scope(|scope| {
        let call = scope.spawn(|| {
            wire.call(12, &MetadataRequest::default()).unwrap();
            Instant::now()
        });
        // A consumer beside it sees nothing either, though it may connect.
        let consumer = consumer(&broker.bootstrap(), &[]);
        assert!(consumer.fetch_metadata(None, Duration::from_millis(200)).is_err());
        assert!(!call.is_finished());
        let resumed = Instant::now();
        broker.faults().resume();
        assert!(call.join().unwrap() >= resumed);
        consumer.fetch_metadata(None, PATIENCE).map(|metadata| metadata.topics().len())
    });
    assert_eq!(answered, Ok(1));
}

#[test]
fn a_stall_ends_by_itself() {
    let (broker, _) = broker();
    let mut wire = Wire::connect(&broker.bootstrap());
    let start = Instant::now();
    broker.faults().stall_for(Duration::from_millis(150));
    wire.call(12, &MetadataRequest::default()).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(150));
}

#[test]
fn requests_fail_as_often_as_told() {
    let (broker, producer) = broker();
    let faults = broker.faults();
    // Retried by the client: nothing is lost, nothing stored twice.
    faults.fail_next(ApiKey::Produce, ErrorCode::NotLeaderOrFollower, 3);
    assert_eq!(producer.batch("ticks", 0, 10, 5), [10, 11, 12, 13, 14]);
    assert_eq!(faults.failures_left(ApiKey::Produce), 0);

    // Not retried: the application is told.
    faults.fail_next(ApiKey::Produce, ErrorCode::TopicAuthorizationFailed, 1);
    let plain = TestProducer::new(&broker.bootstrap(), &[]);
    plain.send("ticks", 0, *T0_MS, "x");
    let refused = KafkaError::MessageProduction(RDKafkaErrorCode::TopicAuthorizationFailed);
    assert_eq!(plain.flush(), [Err(refused)]);

    // The client asks for each watermark by itself.
    faults.fail_next(ApiKey::ListOffsets, ErrorCode::TopicAuthorizationFailed, 2);
    let consumer = consumer(&broker.bootstrap(), &[]);
    assert!(consumer.fetch_watermarks("ticks", 0, PATIENCE).is_err());
    faults.fail_next(ApiKey::ListOffsets, ErrorCode::TopicAuthorizationFailed, 1);
    faults.fail_next(ApiKey::ListOffsets, ErrorCode::TopicAuthorizationFailed, 0);
    assert_eq!(consumer.fetch_watermarks("ticks", 0, PATIENCE).unwrap(), (0, 15));

    faults.fail_next(ApiKey::Fetch, ErrorCode::OffsetOutOfRange, 1);
    assign(&consumer, "ticks", 0, 3);
    let told = next(&consumer).unwrap_err();
    assert_eq!(told, KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset));
    assign(&consumer, "ticks", 0, 3);
    assert_eq!(offsets(&read(&consumer, 12)), (3..15).collect::<Vec<_>>());

    faults.fail_next(ApiKey::Metadata, ErrorCode::UnknownTopicOrPartition, 1);
    assert_eq!(partitions_of(&consumer, "ticks"), None);
    assert_eq!(partitions_of(&consumer, "ticks"), Some(1));
    assert!(broker.requests(ApiKey::Metadata) >= 2 && broker.requests(ApiKey::Fetch) >= 2);
}

#[test]
fn truncation_is_met_by_a_reader_behind_it() {
    let (broker, _) = broker();
    assert_eq!(broker.truncate_before("ticks", 0, 4).unwrap(), 4);
    assert_eq!(
        (broker.low_watermark("ticks", 0).unwrap(), broker.high_watermark("ticks", 0).unwrap()),
        (4, 10)
    );
    assert!(matches!(
        broker.truncate_before("ticks", 0, 11),
        Err(BrokerError::OffsetOutOfRange { high: 10, .. })
    ));
    let consumer = consumer(&broker.bootstrap(), &[]);
    assign(&consumer, "ticks", 0, 0);
    assert!(next(&consumer).is_err());
    assign(&consumer, "ticks", 0, 4);
    assert_eq!(offsets(&read(&consumer, 6)), (4..10).collect::<Vec<_>>());
}

#[test]
fn shutdown_frees_the_port_and_ends_the_clients() {
    let (broker, _) = broker();
    let address = broker.address();
    let ended = block_on(async {
        let waits = broker.ended();
        tokio::time::timeout(Duration::from_millis(1), waits).await.is_ok()
    });
    assert!(!ended);
    broker.shutdown();
    assert!(TcpStream::connect(address).is_err());
    std::net::TcpListener::bind(address).unwrap();
}

#[test]
fn it_can_be_used_inside_a_runtime() {
    block_on(async {
        let broker = Kafka::embedded().broker.unwrap();
        broker.create_topic("t", 1).unwrap();
        broker.faults().stop().unwrap();
        broker.faults().restart().unwrap();
        assert_eq!(broker.faults().drop_connections().unwrap(), 0);
    });
}

/// Who is behind a relay stays behind it, as it is told no other address; everybody else is told the truth.
#[test]
fn who_comes_through_a_relay_is_told_its_address() {
    let (broker, _) = broker();
    let told = || {
        let answer = Wire::connect(&broker.bootstrap()).call(12, &MetadataRequest::default()).unwrap();
        (answer.brokers[0].host.to_string(), answer.brokers[0].port)
    };
    let own = ("127.0.0.1".to_owned(), i32::from(broker.address().port()));
    broker.faults().relayed(Ipv4Addr::LOCALHOST.into(), ([127, 0, 0, 7], 77).into());
    assert_eq!(told(), ("127.0.0.7".to_owned(), 77));
    broker.faults().relayed(Ipv4Addr::new(127, 0, 0, 9).into(), ([127, 0, 0, 7], 77).into());
    assert_eq!(told(), own);
}
