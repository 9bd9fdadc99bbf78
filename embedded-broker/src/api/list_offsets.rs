//! List offsets: watermarks, and offsets by time.

use super::code_of;
use crate::core::Core;
use crate::log::{LEADER_EPOCH, Log};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse, ResponseKind};

/// Times with a meaning of their own.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const LATEST_TIME: i64 = -3;
/// First version that tells the leader's epoch.
const EPOCH_SINCE: i16 = 4;

pub(super) fn list_offsets(
    core: &Core,
    version: i16,
    request: ListOffsetsRequest,
    fail: Option<ResponseError>,
) -> ResponseKind {
    let topics = core.topics();
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let partition = |index, timestamp_ms| {
            let outcome = match fail {
                Some(code) => Err(code),
                None => topics
                    .log(&topic.name, index)
                    .map_err(|error| error.code())
                    .and_then(|log| find(log, timestamp_ms)),
            };
            let response = ListOffsetsPartitionResponse::default().with_partition_index(index);
            match outcome {
                Ok((offset, timestamp_ms)) => {
                    let response = response.with_offset(offset).with_timestamp(timestamp_ms);
                    if version >= EPOCH_SINCE { response.with_leader_epoch(LEADER_EPOCH) } else { response }
                }
                Err(code) => response.with_error_code(code_of(Some(code))).with_offset(-1).with_timestamp(-1),
            }
        };
        let partitions =
            topic.partitions.iter().map(|asked| partition(asked.partition_index, asked.timestamp));
        let partitions = partitions.collect();
        responses.push(ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions));
    }
    ListOffsetsResponse::default().with_topics(responses).into()
}

/// The offset for a time, as (offset, timestamp); -1 for "none".
fn find(log: &Log, timestamp_ms: i64) -> Result<(i64, i64), ResponseError> {
    match timestamp_ms {
        LATEST => Ok((log.high(), -1)),
        EARLIEST => Ok((log.low(), -1)),
        LATEST_TIME => Ok(log.find_latest_time().unwrap_or((-1, -1))),
        0.. => Ok(log.find_time(timestamp_ms).unwrap_or((-1, -1))),
        _ => Err(ResponseError::InvalidRequest),
    }
}
