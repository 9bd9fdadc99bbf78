//! Before the first record: is a broker there, the topic, and the producer's id?

use super::{Outbox, ProduceError, ProducerConfig, Readiness};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::Producer;
use rdkafka::types::RDKafkaErrorCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Longest wait for one answer before the stop flag is looked at again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Returns when the first record would be sent at once: the topic exists, all its partitions have a leader, and an
/// idempotent producer has its id, for which librdkafka asks only half a second after a broker has answered.
pub(super) fn prepare(
    outbox: &Outbox,
    client: &ClientConfig,
    config: &ProducerConfig,
    last_error: &Mutex<Option<String>>,
    stop: &AtomicBool,
) -> Result<(), ProduceError> {
    let start = Instant::now();
    find_topic(outbox, client, config, last_error, stop, start)?;
    // What is known of the topic would be asked for again by its first record. It exists, so naming it creates nothing.
    let left = config.connect_timeout.saturating_sub(start.elapsed()).max(RETRY_PAUSE);
    if let Err(error) = outbox.client().fetch_metadata(Some(&config.topic), left) {
        tracing::debug!(%error, "metadata of the topic");
    }
    if client.get("enable.idempotence") == Some("true") && client.get("statistics.interval.ms") != Some("0") {
        wait_for_id(outbox.context().readiness(), config, stop, start)?;
    }
    Ok(())
}

/// The client tells whether it has its id in its statistics, and nowhere else.
fn wait_for_id(
    readiness: &Readiness,
    config: &ProducerConfig,
    stop: &AtomicBool,
    start: Instant,
) -> Result<(), ProduceError> {
    loop {
        let left = config.connect_timeout.saturating_sub(start.elapsed());
        if readiness.wait(left.min(RETRY_PAUSE)) || stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        if left.is_zero() {
            return Err(ProduceError::NoProducerId {
                brokers: config.brokers.clone(),
                waited: config.connect_timeout,
            });
        }
    }
}

fn find_topic(
    outbox: &Outbox,
    client: &ClientConfig,
    config: &ProducerConfig,
    last_error: &Mutex<Option<String>>,
    stop: &AtomicBool,
    start: Instant,
) -> Result<(), ProduceError> {
    let failed = |reason: String| ProduceError::Topic { topic: config.topic.clone(), reason };
    let mut created = false;
    let mut answered = false;
    loop {
        let left = config.connect_timeout.saturating_sub(start.elapsed());
        let stopped = stop.load(Ordering::Relaxed);
        if left.is_zero() || stopped {
            return Err(if answered {
                failed(format!("it has no leader for every partition after {:?}", start.elapsed()))
            } else {
                let said = last_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
                ProduceError::Unreachable {
                    brokers: config.brokers.clone(),
                    waited: if stopped { start.elapsed() } else { config.connect_timeout },
                    reason: said.unwrap_or_else(|| "no answer".to_owned()),
                }
            });
        }
        // All topics are asked for: naming one would let some brokers create it with their own defaults.
        let Ok(metadata) = outbox.client().fetch_metadata(None, left.min(ANSWER_TIMEOUT)) else {
            std::thread::sleep(RETRY_PAUSE.min(left));
            continue;
        };
        answered = true;
        let partitions = metadata.topics().iter().find(|topic| topic.name() == config.topic);
        match partitions.map(|topic| topic.partitions()) {
            Some(partitions) if !partitions.is_empty() && partitions.iter().all(|p| p.leader() >= 0) => {
                return Ok(());
            }
            None if config.partitions == 0 => {
                return Err(failed("it does not exist, and was not to be created".to_owned()));
            }
            None if !created => {
                create(client, config, left).map_err(failed)?;
                created = true;
            }
            _ => std::thread::sleep(RETRY_PAUSE.min(left)),
        }
    }
}

fn create(client: &ClientConfig, config: &ProducerConfig, timeout: Duration) -> Result<(), String> {
    let mut client = client.clone();
    // This one sends no records: an id would be asked for in vain.
    client.set("enable.idempotence", "false").set("statistics.interval.ms", "0");
    let admin: AdminClient<DefaultClientContext> = client.create().map_err(|error| error.to_string())?;
    let count = |n: u32| i32::try_from(n).map_err(|_| format!("{n} is too many"));
    let replication = TopicReplication::Fixed(count(config.replication)?);
    let topic = NewTopic::new(&config.topic, count(config.partitions)?, replication);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let options = AdminOptions::new().request_timeout(Some(timeout)).operation_timeout(Some(timeout));
    let results =
        runtime.block_on(admin.create_topics([&topic], &options)).map_err(|error| error.to_string())?;
    for result in results {
        match result {
            // Somebody else was faster: fine.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(format!("it could not be created: {code}")),
        }
    }
    Ok(())
}
