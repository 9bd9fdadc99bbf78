//! Ticks through a real client into a broker and back: the embedded one, and the one at `TICKGATE_TEST_KAFKA` when that is set.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tickgate_broker::{ApiKey, Broker, BrokerConfig, ErrorCode};
use tickgate_protocol::record::{RecordDecoder, Tick};
use tickgate_sim::TimedTick;
use tickgate_sim::model::{Model, ModelConfig, Preset};
use tickgate_sim::pacing::Speed;
use tickgate_sim::producer::{EventClock, ProduceError, ProducerConfig, Progress, produce};
use tickgate_sim::replay::ReplayError;
use tickgate_sim::report::Report;

/// Bound of everything that is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

fn embedded() -> Broker {
    Broker::start(BrokerConfig::default()).unwrap()
}

/// Runs a check against every broker there is, each with a topic of its own.
fn everywhere(check: impl Fn(ProducerConfig)) {
    let broker = embedded();
    check(ProducerConfig::new(broker.bootstrap(), topic()));
    match std::env::var("TICKGATE_TEST_KAFKA") {
        Ok(brokers) => check(ProducerConfig::new(brokers, topic())),
        Err(_) => eprintln!("LEFT OUT: a real Kafka, because TICKGATE_TEST_KAFKA does not name one"),
    }
}

fn topic() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now_ns = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    format!("sim-{now_ns}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn model(preset: Preset, symbols: usize, rate_per_s: f64) -> Model {
    Model::new(preset, ModelConfig { symbols, rate_per_s, seed: 1 }).unwrap()
}

fn send(source: impl Iterator<Item = TimedTick>, config: &ProducerConfig) -> Result<Report, ProduceError> {
    produce(source.map(Ok), config, &Arc::new(Progress::default()), &AtomicBool::new(false))
}

/// Everything in the topic: partition, key and value, in partition order.
fn consume(config: &ProducerConfig, count: u64) -> Vec<(i32, String, Vec<u8>)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &config.brokers)
        .set("group.id", "sim-test")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let metadata = consumer.fetch_metadata(Some(&config.topic), PATIENCE).unwrap();
    let mut assignment = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        assignment.add_partition_offset(&config.topic, partition.id(), Offset::Beginning).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let mut records = Vec::new();
    let start = Instant::now();
    while (records.len() as u64) < count {
        assert!(start.elapsed() < PATIENCE, "{} of {count} records came", records.len());
        if let Some(record) = consumer.poll(Duration::from_millis(100)) {
            let record = record.unwrap();
            let key = String::from_utf8(record.key().unwrap().to_vec()).unwrap();
            records.push((record.partition(), key, record.payload().unwrap().to_vec()));
        }
    }
    records
}

fn without_send_time(value: &[u8]) -> Tick<'static> {
    let mut decoder = RecordDecoder::new(1 << 20);
    let mut tick = decoder.ticks(value).unwrap().remove(0).unwrap().into_owned();
    assert!(tick.send_ns.take().is_some(), "every record says when it was meant to be sent");
    tick
}

#[test]
fn what_is_produced_is_what_the_model_gave_by_symbol_and_in_order() {
    everywhere(|mut config| {
        config.speed = Speed::Max;
        config.partitions = 3;
        let count = 3_000;
        let report = send(model(Preset::CryptoPerp, 12, 500.0).take(count), &config).unwrap();
        assert_eq!((report.records, report.delivered, report.delivery_errors), (3_000, 3_000, 0));
        assert_eq!(report.exit_code(), 0);

        let mut expected: HashMap<String, Vec<Tick<'static>>> = HashMap::new();
        for timed in model(Preset::CryptoPerp, 12, 500.0).take(count) {
            expected.entry(timed.tick.symbol.to_string()).or_default().push(timed.tick);
        }
        let mut got: HashMap<String, Vec<Tick<'static>>> = HashMap::new();
        let mut homes: HashMap<String, i32> = HashMap::new();
        let mut bytes = 0;
        for (partition, key, value) in consume(&config, report.delivered) {
            bytes += value.len() as u64;
            assert_eq!(*homes.entry(key.clone()).or_insert(partition), partition, "{key}");
            got.entry(key).or_default().push(without_send_time(&value));
        }
        assert_eq!(bytes, report.bytes);
        assert!(homes.values().all(|partition| (0..3).contains(partition)));
        assert!(got == expected, "the records differ from the model");
    });
}

#[test]
fn send_times_follow_the_schedule_exactly_whatever_the_clock_did() {
    everywhere(|mut config| {
        config.speed = Speed::Times(2.0);
        config.event_clock = EventClock::Live;
        config.duration = Some(Duration::from_millis(400));
        config.partitions = 1;
        let report = send(model(Preset::Constant, 1, 1_000.0), &config).unwrap();
        // At twice the speed a tick is due every half millisecond; a machine that stalls may cut the end off.
        assert!(report.records > 0 && report.records <= 800, "{report}");
        let mut decoder = RecordDecoder::new(1 << 20);
        let times: Vec<i64> = consume(&config, report.delivered)
            .iter()
            .map(|(_, _, value)| {
                let ticks = decoder.ticks(value).unwrap();
                let tick = ticks[0].as_ref().unwrap();
                assert_eq!(tick.event_ns, tick.send_ns);
                tick.send_ns.unwrap()
            })
            .collect();
        assert!(
            times.windows(2).all(|pair| pair[1] - pair[0] == 500_000),
            "{:?}",
            &times[..times.len().min(9)]
        );
        assert!(report.late_p99_ns <= report.late_max_ns);
    });
}

/// An idempotent producer sends nothing before it has its id. The clock must not run meanwhile: the first records
/// would be half a second late, and only whoever receives them would know.
#[test]
fn the_producer_has_its_id_before_anything_is_due() {
    let broker = embedded();
    let config = ProducerConfig::new(broker.bootstrap(), topic());
    broker.faults().fail_next(ApiKey::InitProducerId, ErrorCode::CoordinatorLoadInProgress, 1);
    let left_to_fail = || broker.faults().failures_left(ApiKey::InitProducerId);
    let mut asked_at_first = None;
    let source = model(Preset::Constant, 1, 1_000.0).take(20).inspect(|_| {
        asked_at_first.get_or_insert_with(|| (left_to_fail(), broker.requests(ApiKey::InitProducerId)));
    });
    let report = send(source, &config).unwrap();
    assert_eq!((report.delivered, report.delivery_errors), (20, 0), "{report}");
    assert_eq!(
        asked_at_first,
        Some((0, 2)),
        "refused once, given at the second time, and only then a tick is due"
    );
    assert!(report.confirmed_late_max_ns >= report.confirmed_late_p99_ns && report.confirmed_late_p99_ns > 0);
}

#[test]
fn a_producer_that_gets_no_id_is_an_error() {
    let broker = embedded();
    let mut config = ProducerConfig::new(broker.bootstrap(), topic());
    config.connect_timeout = Duration::from_millis(300);
    broker.faults().fail_next(ApiKey::InitProducerId, ErrorCode::CoordinatorLoadInProgress, usize::MAX);
    let error = send(model(Preset::Fx, 1, 10.0).take(1), &config).unwrap_err();
    assert!(matches!(&error, ProduceError::NoProducerId { .. }), "{error}");
    // Without idempotence there is no id to wait for.
    config.acks = "1".to_owned();
    config.connect_timeout = PATIENCE;
    assert_eq!(send(model(Preset::Fx, 1, 10.0).take(1), &config).unwrap().delivered, 1);
}

#[test]
fn the_stop_flag_ends_a_run_with_everything_delivered() {
    everywhere(|config| {
        let (progress, stop) = (Arc::new(Progress::default()), Arc::new(AtomicBool::new(false)));
        let seen = Arc::clone(&progress);
        let flag = Arc::clone(&stop);
        // The source itself raises the flag: no other thread, no luck.
        let source = model(Preset::UsEquities, 10, 100_000.0).inspect(move |_| {
            if seen.sent.load(Ordering::Relaxed) == 500 {
                flag.store(true, Ordering::Relaxed);
            }
        });
        let report = produce(source.map(Ok), &config, &progress, &stop).unwrap();
        assert!(report.stopped);
        assert_eq!((report.records, report.delivered, report.delivery_errors), (500, 500, 0));
    });
}

#[test]
fn a_missing_topic_is_created_only_when_it_may_be() {
    everywhere(|mut config| {
        config.partitions = 0;
        let error = send(model(Preset::Fx, 1, 10.0).take(1), &config).unwrap_err();
        assert!(matches!(&error, ProduceError::Topic { .. }), "{error}");
        config.partitions = 5;
        config.speed = Speed::Max;
        send(model(Preset::Fx, 1, 10.0).take(1), &config).unwrap();
        let consumer: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", &config.brokers).create().unwrap();
        let metadata = consumer.fetch_metadata(Some(&config.topic), PATIENCE).unwrap();
        assert_eq!(metadata.topics()[0].partitions().len(), 5);
        // It exists now: the number of partitions asked for no longer matters.
        config.partitions = 0;
        send(model(Preset::Fx, 1, 10.0).take(1), &config).unwrap();
    });
}

#[test]
fn a_broker_that_is_not_there_is_an_error_after_a_bounded_time() {
    let broker = embedded();
    let mut config = ProducerConfig::new(broker.bootstrap(), topic());
    broker.shutdown();
    config.connect_timeout = Duration::from_millis(300);
    let start = Instant::now();
    let error = send(model(Preset::Fx, 1, 10.0), &config).unwrap_err();
    assert!(matches!(&error, ProduceError::Unreachable { .. }), "{error}");
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn properties_that_do_not_exist_are_refused() {
    let config = ProducerConfig {
        properties: vec![("no.such.property".into(), "1".into())],
        ..ProducerConfig::new("127.0.0.1:1", "ticks")
    };
    let error = send(model(Preset::Fx, 1, 10.0), &config).unwrap_err();
    assert!(matches!(&error, ProduceError::Config(_)), "{error}");
}

#[test]
fn records_that_cannot_be_delivered_are_counted() {
    let broker = embedded();
    let mut config = ProducerConfig::new(broker.bootstrap(), topic());
    config.speed = Speed::Max;
    config.properties = vec![("message.timeout.ms".into(), "300".into())];
    let mut given = 0;
    let source = model(Preset::UsEquities, 10, 1_000.0).take(200).inspect(|_| {
        given += 1;
        if given == 100 {
            broker.faults().stop().unwrap();
        }
    });
    let report = send(source, &config).unwrap();
    assert_eq!(report.records, 200);
    assert_eq!(report.delivered + report.delivery_errors, 200, "{report}");
    assert!(report.delivery_errors >= 100, "{report}");
    assert_eq!(report.exit_code(), 1);
    assert!(report.last_error.is_some());
}

#[test]
fn a_full_queue_waits_and_loses_nothing() {
    let broker = embedded();
    let mut config = ProducerConfig::new(broker.bootstrap(), topic());
    config.speed = Speed::Max;
    config.properties = vec![("queue.buffering.max.messages".into(), "50".into())];
    let progress = Arc::new(Progress::default());
    let done = AtomicBool::new(false);
    let mut given = 0;
    let report = std::thread::scope(|scope| {
        scope.spawn(|| {
            while progress.queue_full.load(Ordering::Relaxed) < 3 && !done.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            broker.faults().resume();
        });
        let source = model(Preset::UsEquities, 10, 1_000.0).take(1_000).inspect(|_| {
            given += 1;
            if given == 100 {
                broker.faults().stall();
            }
        });
        let report = produce(source.map(Ok), &config, &progress, &AtomicBool::new(false));
        done.store(true, Ordering::Relaxed);
        report.unwrap()
    });
    assert!(report.queue_full >= 3, "{report}");
    assert_eq!((report.records, report.delivered, report.delivery_errors), (1_000, 1_000, 0));
}

#[test]
fn a_source_that_fails_ends_the_run_after_delivering_what_it_gave() {
    let broker = embedded();
    let mut config = ProducerConfig::new(broker.bootstrap(), topic());
    config.partitions = 1;
    config.speed = Speed::Max;
    let failure = ReplayError::Format {
        path: "x.csv".into(),
        line: 7,
        expected: "a row".into(),
        found: "nothing".into(),
    };
    let source = model(Preset::Fx, 1, 10.0).take(20).map(Ok).chain([Err(failure)]);
    let error =
        produce(source, &config, &Arc::new(Progress::default()), &AtomicBool::new(false)).unwrap_err();
    assert!(matches!(&error, ProduceError::Source(_)), "{error}");
    assert_eq!(broker.high_watermark(&config.topic, 0).unwrap(), 20);
}

/// Connections that break in the middle make librdkafka send again; with `acks=all` that neither doubles nor reorders records.
#[test]
fn broken_connections_cost_neither_order_nor_records() {
    let broker = embedded();
    let mut config = ProducerConfig::new(broker.bootstrap(), topic());
    config.speed = Speed::Max;
    config.partitions = 1;
    config.properties = vec![("retry.backoff.ms".into(), "10".into()), ("linger.ms".into(), "0".into())];
    let count = 4_000;
    let mut given = 0;
    let source = model(Preset::CryptoPerp, 5, 1_000.0).take(count).inspect(|_| {
        given += 1;
        if given % 1_000 == 500 {
            broker.faults().drop_connections().unwrap();
        }
    });
    let report = send(source, &config).unwrap();
    assert_eq!((report.delivered, report.delivery_errors), (4_000, 0), "{report}");
    assert_eq!(broker.high_watermark(&config.topic, 0).unwrap(), 4_000);
    let got = consume(&config, 4_000).into_iter().map(|(_, _, value)| without_send_time(&value));
    assert!(got.eq(model(Preset::CryptoPerp, 5, 1_000.0).take(count).map(|timed| timed.tick)));
}
