//! Fetch: reads from where the client is, and waits for more when there is too little.

use super::code_of;
use crate::core::Core;
use crate::log::Slice;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::FetchTopic;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse, ResponseKind};
use std::time::Duration;
use tokio::time::Instant;

/// The longest a fetch waits, whatever it asks for.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What one look at the logs gave.
#[derive(Default)]
struct Look {
    /// In the order of the request's partitions.
    found: Vec<Found>,
    bytes: usize,
    failed: bool,
}

enum Found {
    Records { slice: Slice, low: i64, high: i64 },
    Failed(ResponseError),
}

/// Answers at once when there is enough, when a partition cannot be read, and otherwise as soon as that changes or the
/// time the client gave is over.
///
/// Cancel safe: it only reads.
pub(super) async fn fetch(core: &Core, request: FetchRequest, fail: Option<ResponseError>) -> ResponseKind {
    // Sessions would spare a client naming every partition each time; it is told that there are none.
    if request.session_id != 0 {
        let code = ResponseError::FetchSessionIdNotFound;
        return FetchResponse::default().with_error_code(code_of(Some(code))).into();
    }
    let wait = Duration::from_millis(request.max_wait_ms.max(0) as u64).min(WAIT_MAX);
    let deadline = Instant::now() + wait;
    let bytes_min = usize::try_from(request.min_bytes).unwrap_or(0);
    let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0).min(core.config.fetch_bytes_max);
    // Watched from before the first look, so that no change falls between look and wait.
    let mut changes = core.watch_changes();
    let mut waiting = None;
    let look = loop {
        changes.borrow_and_update();
        let look = look(core, &request.topics, bytes_max, fail);
        if look.failed || look.bytes >= bytes_min || Instant::now() >= deadline {
            break look;
        }
        drop(look);
        waiting.get_or_insert_with(|| core.enter_waiting_fetch());
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return FetchResponse::default().into() },
            () = tokio::time::sleep_until(deadline) => {}
        }
    };
    drop(waiting);
    respond(request.topics, look)
}

fn look(core: &Core, topics: &[FetchTopic], bytes_max: usize, fail: Option<ResponseError>) -> Look {
    let mut look = Look::default();
    let all = core.topics();
    for topic in topics {
        for asked in &topic.partitions {
            let log = match fail {
                Some(code) => Err(code),
                None => all.log(&topic.topic, asked.partition).map_err(|error| error.code()),
            };
            let read = log.and_then(|log| {
                let partition_max = usize::try_from(asked.partition_max_bytes).unwrap_or(0);
                let left = bytes_max.saturating_sub(look.bytes).min(partition_max);
                // The first batch of an answer comes whatever its size, or a client could never get past it.
                let slice = log.read(asked.fetch_offset, left, look.bytes == 0)?;
                Ok((slice, log.low(), log.high()))
            });
            look.found.push(match read {
                Ok((slice, low, high)) => {
                    look.bytes += slice.bytes;
                    Found::Records { slice, low, high }
                }
                Err(code) => {
                    look.failed = true;
                    Found::Failed(code)
                }
            });
        }
    }
    look
}

fn respond(topics: Vec<FetchTopic>, look: Look) -> ResponseKind {
    let mut found = look.found.into_iter();
    let mut responses = Vec::with_capacity(topics.len());
    for topic in topics {
        let partitions = topic.partitions.iter().zip(&mut found).map(|(asked, found)| {
            let data = PartitionData::default().with_partition_index(asked.partition);
            match found {
                Found::Records { slice, low, high } => data
                    .with_high_watermark(high)
                    .with_last_stable_offset(high)
                    .with_log_start_offset(low)
                    .with_records(Some(slice.join())),
                Found::Failed(code) => data
                    .with_error_code(code_of(Some(code)))
                    .with_high_watermark(-1)
                    .with_last_stable_offset(-1)
                    .with_log_start_offset(-1)
                    .with_records(Some(Default::default())),
            }
        });
        let partitions = partitions.collect();
        responses.push(FetchableTopicResponse::default().with_topic(topic.topic).with_partitions(partitions));
    }
    FetchResponse::default().with_responses(responses).into()
}
