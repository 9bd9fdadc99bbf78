//! Produce: checks each batch, appends it, wakes the fetches.

use super::code_of;
use crate::batch::Batch;
use crate::core::Core;
use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, ResponseKind};
use kafka_protocol::protocol::StrBytes;

/// First version whose answer has room for a sentence.
const MESSAGE_SINCE: i16 = 8;

/// `None` when the client wants no answer.
pub(super) fn produce(
    core: &Core,
    version: i16,
    request: ProduceRequest,
    fail: Option<ResponseError>,
) -> Option<ResponseKind> {
    let acks = request.acks;
    let fail = fail.or(match acks {
        _ if request.transactional_id.is_some() => Some(ResponseError::InvalidRequest),
        -1..=1 => None,
        _ => Some(ResponseError::InvalidRequiredAcks),
    });
    let mut stored = false;
    let mut responses = Vec::with_capacity(request.topic_data.len());
    for topic in request.topic_data {
        let mut partitions = Vec::with_capacity(topic.partition_data.len());
        for data in topic.partition_data {
            let outcome = match fail {
                Some(code) => Err((code, None)),
                None => store(core, &topic.name, data.index, data.records),
            };
            stored |= outcome.is_ok();
            let response = PartitionProduceResponse::default().with_index(data.index);
            partitions.push(match outcome {
                Ok((base_offset, low)) => response.with_base_offset(base_offset).with_log_start_offset(low),
                Err((code, why)) => {
                    tracing::debug!(topic = %*topic.name, partition = data.index, %code, why, "batch refused");
                    let message = why.filter(|_| version >= MESSAGE_SINCE).map(StrBytes::from_static_str);
                    response
                        .with_base_offset(-1)
                        .with_error_code(code_of(Some(code)))
                        .with_error_message(message)
                }
            });
        }
        responses
            .push(TopicProduceResponse::default().with_name(topic.name).with_partition_responses(partitions));
    }
    if stored {
        core.changed();
    }
    (acks != 0).then(|| ProduceResponse::default().with_responses(responses).into())
}

type Refused = (ResponseError, Option<&'static str>);

/// Returns the offset of the first record and the low watermark.
fn store(core: &Core, topic: &str, partition: i32, records: Option<Bytes>) -> Result<(i64, i64), Refused> {
    let records = records.unwrap_or_default();
    if records.len() > core.config.batch_bytes_max {
        return Err((ResponseError::MessageTooLarge, Some("the batch is over the broker's limit")));
    }
    let (batch, sequence) = Batch::check(&records).map_err(|refusal| (refusal.code, Some(refusal.why)))?;
    core.topics().append(topic, partition, &batch, sequence).map_err(|code| (code, None))
}
