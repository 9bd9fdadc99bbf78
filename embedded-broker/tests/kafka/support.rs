//! A Kafka to test against, and clients for it.

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message, OwnedMessage, ToBytes};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tickgate_broker::{Broker, BrokerConfig};

/// The bound of every wait. Nothing here takes a tenth of it unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Test records count from here: an hour ago, in milliseconds since 1970. Much older ones a real Kafka would delete.
pub static T0_MS: LazyLock<i64> = LazyLock::new(|| {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    now.as_millis() as i64 - 3_600_000
});

/// Defines each test twice, for both kinds of Kafka.
macro_rules! on_each_kafka {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[test] fn $name() { super::$name(&crate::support::Kafka::embedded()) })*
        }
        mod apache {
            $(#[test] fn $name() {
                match crate::support::Kafka::apache() {
                    Some(kafka) => super::$name(&kafka),
                    None => eprintln!("left out: TICKGATE_TEST_KAFKA names no Apache Kafka"),
                }
            })*
        }
    };
}
pub(crate) use on_each_kafka;

/// A running Kafka.
pub struct Kafka {
    pub bootstrap: String,
    /// `None` for a real one.
    pub broker: Option<Broker>,
}

impl Kafka {
    pub fn embedded() -> Kafka {
        let broker = Broker::start(BrokerConfig::default()).unwrap();
        Kafka { bootstrap: broker.bootstrap(), broker: Some(broker) }
    }

    pub fn apache() -> Option<Kafka> {
        let bootstrap = std::env::var("TICKGATE_TEST_KAFKA").ok().filter(|text| !text.is_empty())?;
        Some(Kafka { bootstrap, broker: None })
    }

    /// Creates a topic of its own for a test; a real Kafka is shared by all tests.
    pub fn topic(&self, partitions: i32) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("broker-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        self.create(&name, partitions);
        name
    }

    pub fn create(&self, name: &str, partitions: i32) {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let admin = admin(&self.bootstrap);
        block_on(admin.create_topics([&topic], &admin_options())).unwrap()[0].as_ref().unwrap();
        let consumer = consumer(&self.bootstrap, &[]);
        eventually("the topic is known", || partitions_of(&consumer, name) == Some(partitions as usize));
    }
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Polls until it is so, at most for [`PATIENCE`].
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        // tidy: allow(sleep) because it only paces the polling; what ends the wait is the effect itself
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn config(bootstrap: &str, settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config.set("reconnect.backoff.ms", "10").set("reconnect.backoff.max.ms", "100");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config
}

pub fn admin(bootstrap: &str) -> AdminClient<DefaultClientContext> {
    config(bootstrap, &[]).create().unwrap()
}

pub fn admin_options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE))
}

/// A consumer as the gateway has it: assigned by hand, errors shown, no waiting out of the client's own making.
pub fn consumer(bootstrap: &str, settings: &[(&str, &str)]) -> BaseConsumer {
    let mut config = config(bootstrap, &[]);
    config
        .set("group.id", "tickgate-broker-tests")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("fetch.queue.backoff.ms", "1")
        .set("fetch.wait.max.ms", "10")
        .set("check.crcs", "true");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config.create().unwrap()
}

pub fn assign(consumer: &BaseConsumer, topic: &str, partition: i32, offset: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
    consumer.assign(&list).unwrap();
}

pub fn partitions_of(consumer: &BaseConsumer, topic: &str) -> Option<usize> {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).ok()?;
    let topic = metadata.topics().first()?;
    topic.error().is_none().then(|| topic.partitions().len())
}

/// What poll gives next, leaving out what librdkafka only tells in passing: it reconnects by itself.
#[track_caller]
pub fn next(consumer: &BaseConsumer) -> Result<OwnedMessage, KafkaError> {
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < PATIENCE, "no record within {PATIENCE:?}");
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown,
            ))) => {}
            Some(Ok(message)) => return Ok(message.detach()),
            Some(Err(error)) => return Err(error),
        }
    }
}

#[track_caller]
pub fn read(consumer: &BaseConsumer, count: usize) -> Vec<OwnedMessage> {
    (0..count).map(|_| next(consumer).unwrap()).collect()
}

pub fn offsets(messages: &[OwnedMessage]) -> Vec<i64> {
    messages.iter().map(Message::offset).collect()
}

/// What became of each record: its partition and offset, or the error.
pub type Delivery = Result<(i32, i64), KafkaError>;

#[derive(Clone, Default)]
pub struct Deliveries(Arc<Mutex<Vec<Delivery>>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let delivery = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.clone()),
        };
        self.0.lock().unwrap().push(delivery);
    }
}

/// A producer that keeps what became of its records. What is sent without a pause mostly becomes one batch.
pub struct TestProducer {
    producer: BaseProducer<Deliveries>,
    deliveries: Deliveries,
}

impl TestProducer {
    pub fn new(bootstrap: &str, settings: &[(&str, &str)]) -> TestProducer {
        let deliveries = Deliveries::default();
        let mut config = config(bootstrap, &[("linger.ms", "5"), ("message.timeout.ms", "120000")]);
        for (key, value) in settings {
            config.set(*key, *value);
        }
        let producer = config.create_with_context(deliveries.clone()).unwrap();
        TestProducer { producer, deliveries }
    }

    pub fn send(&self, topic: &str, partition: i32, timestamp_ms: i64, value: &(impl ToBytes + ?Sized)) {
        let record = BaseRecord::<(), _>::to(topic).partition(partition).timestamp(timestamp_ms);
        self.send_record(record.payload(value));
    }

    pub fn send_record<K: ToBytes + ?Sized, V: ToBytes + ?Sized>(&self, record: BaseRecord<'_, K, V>) {
        self.producer.send(record).map_err(|(error, _)| error).unwrap();
    }

    /// Sends what waits and returns what became of it.
    pub fn flush(&self) -> Vec<Delivery> {
        self.producer.flush(PATIENCE).unwrap();
        std::mem::take(&mut *self.deliveries.0.lock().unwrap())
    }

    /// Sends one batch of `count` records, a second apart from `T0_MS` + `first` s on, and says at which offsets.
    #[track_caller]
    pub fn batch(&self, topic: &str, partition: i32, first: i64, count: i64) -> Vec<i64> {
        for index in first..first + count {
            self.send(topic, partition, *T0_MS + index * 1000, &format!("value {index}"));
        }
        self.flush().into_iter().map(|delivery| delivery.unwrap().1).collect()
    }
}
