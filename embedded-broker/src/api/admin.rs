//! Topics created, grown and deleted, records deleted.

use super::{NODE_ID, code_of};
use crate::core::Core;
use crate::error::BrokerError;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteRecordsRequest, DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse, ResponseKind,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

/// First versions whose answers have room for more.
const TOPIC_DETAILS_SINCE: i16 = 5;
const DELETE_BY_ID_SINCE: i16 = 6;
const DELETE_MESSAGE_SINCE: i16 = 5;
/// The topic setting that means something here.
const RETENTION_BYTES: &str = "retention.bytes";
/// Settings of real topics that change nothing a client of this broker could notice, except that data lives longer.
const IGNORED: [&str; 12] = [
    "delete.retention.ms",
    "file.delete.delay.ms",
    "flush.messages",
    "flush.ms",
    "index.interval.bytes",
    "max.message.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.index.bytes",
    "segment.jitter.ms",
    "segment.ms",
    "unclean.leader.election.enable",
];
/// Settings that are taken only with the value that describes what happens anyway.
const FIXED: [(&str, &str); 4] = [
    ("cleanup.policy", "delete"),
    ("compression.type", "producer"),
    ("message.timestamp.type", "CreateTime"),
    ("min.insync.replicas", "1"),
];

/// Why an admin request fails: the code, and a sentence for its user.
type Refused = (ResponseError, String);

fn refused(error: BrokerError) -> Refused {
    (error.code(), error.to_string())
}

/// The failure a test asked for, if any.
fn ordered(fail: Option<ResponseError>) -> Result<(), Refused> {
    fail.map_or(Ok(()), |code| Err((code, "failed on command".to_owned())))
}

fn split<T>(outcome: Result<T, Refused>) -> (Option<T>, i16, Option<StrBytes>) {
    match outcome {
        Ok(value) => (Some(value), 0, None),
        Err((code, why)) => (None, code_of(Some(code)), Some(StrBytes::from_string(why))),
    }
}

pub(super) fn create_topics(
    core: &Core,
    version: i16,
    request: CreateTopicsRequest,
    fail: Option<ResponseError>,
) -> ResponseKind {
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let outcome = ordered(fail).and_then(|()| create(core, &topic, request.validate_only));
        let (created, code, why) = split(outcome);
        let mut result = CreatableTopicResult::default()
            .with_name(topic.name)
            .with_error_code(code)
            .with_error_message(why);
        if let (Some(created), TOPIC_DETAILS_SINCE..) = (created, version) {
            result = result
                .with_topic_id(created.id)
                .with_num_partitions(created.partitions)
                .with_replication_factor(1)
                .with_configs(Some(created.configs));
        }
        results.push(result);
    }
    core.changed();
    CreateTopicsResponse::default().with_topics(results).into()
}

struct Created {
    id: Uuid,
    partitions: i32,
    configs: Vec<CreatableTopicConfigs>,
}

fn create(core: &Core, topic: &CreatableTopic, validate_only: bool) -> Result<Created, Refused> {
    let partitions = match (topic.assignments.len(), topic.num_partitions) {
        (0, -1) => core.config.default_partitions,
        (0, partitions) => partitions,
        (assigned, _) => assigned as i32,
    };
    if !matches!(topic.replication_factor, -1 | 1) {
        let why = "there is one broker: the replication factor has to be 1".to_owned();
        return Err((ResponseError::InvalidReplicationFactor, why));
    }
    let in_order = topic.assignments.iter().zip(0..);
    if !in_order.into_iter().all(|(one, index)| one.partition_index == index && one.broker_ids == [NODE_ID]) {
        let why = format!("partitions count up from 0, each on broker {NODE_ID} alone");
        return Err((ResponseError::InvalidReplicaAssignment, why));
    }
    let mut bytes_max = None;
    let mut configs = Vec::new();
    for config in &topic.configs {
        let value = config.value.as_deref().unwrap_or_default();
        if *config.name == *RETENTION_BYTES {
            bytes_max = retention_bytes(value)?;
        } else if let Some((_, only)) = FIXED.iter().find(|(name, _)| *config.name == **name) {
            if value != *only {
                let why = format!("{} can only be {only} here", &*config.name);
                return Err((ResponseError::InvalidConfig, why));
            }
        } else if !IGNORED.contains(&&*config.name) {
            let why = format!("no topic setting {:?} here", &*config.name);
            return Err((ResponseError::InvalidConfig, why));
        }
        let told = CreatableTopicConfigs::default().with_name(config.name.clone());
        configs.push(told.with_value(config.value.clone()).with_config_source(1));
    }
    let mut topics = core.topics();
    if validate_only {
        topics.check_new(&topic.name, partitions).map_err(refused)?;
        return Ok(Created { id: Uuid::nil(), partitions, configs });
    }
    let id = topics.create(&topic.name, partitions, bytes_max).map_err(refused)?.id;
    Ok(Created { id, partitions, configs })
}

/// Bytes to keep per partition; -1 is Kafka's "no limit", which leaves the broker's own.
fn retention_bytes(value: &str) -> Result<Option<usize>, Refused> {
    match value.parse::<i64>() {
        Ok(-1) => Ok(None),
        Ok(bytes @ 0..) => Ok(Some(usize::try_from(bytes).unwrap_or(usize::MAX))),
        _ => Err((ResponseError::InvalidConfig, format!("{RETENTION_BYTES} is -1 or a number of bytes"))),
    }
}

pub(super) fn delete_topics(
    core: &Core,
    version: i16,
    request: DeleteTopicsRequest,
    fail: Option<ResponseError>,
) -> ResponseKind {
    let by_name = |name| DeleteTopicState::default().with_name(Some(name));
    let wanted: Vec<_> = match version {
        DELETE_BY_ID_SINCE.. => request.topics,
        _ => request.topic_names.into_iter().map(by_name).collect(),
    };
    let mut responses = Vec::with_capacity(wanted.len());
    for state in wanted {
        let (id, code, why) = split(ordered(fail).and_then(|()| delete(core, &state)));
        let mut result = DeletableTopicResult::default().with_name(state.name).with_error_code(code);
        if version >= DELETE_BY_ID_SINCE {
            result = result.with_topic_id(id.unwrap_or(state.topic_id));
        }
        if version >= DELETE_MESSAGE_SINCE {
            result = result.with_error_message(why);
        }
        responses.push(result);
    }
    core.changed();
    DeleteTopicsResponse::default().with_responses(responses).into()
}

fn delete(core: &Core, state: &DeleteTopicState) -> Result<Uuid, Refused> {
    let mut topics = core.topics();
    let name = match &state.name {
        Some(name) => name.to_string(),
        None => topics
            .name_of(state.topic_id)
            .ok_or((ResponseError::UnknownTopicId, format!("no topic with id {}", state.topic_id)))?
            .to_owned(),
    };
    topics.delete(&name).map_err(refused)
}

pub(super) fn create_partitions(
    core: &Core,
    request: CreatePartitionsRequest,
    fail: Option<ResponseError>,
) -> ResponseKind {
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let outcome = ordered(fail).and_then(|()| {
            let mut topics = core.topics();
            if request.validate_only {
                topics.check_growth(&topic.name, topic.count).map(drop).map_err(refused)
            } else {
                topics.add_partitions(&topic.name, topic.count).map_err(refused)
            }
        });
        let (_, code, why) = split(outcome);
        let result = CreatePartitionsTopicResult::default().with_name(topic.name);
        results.push(result.with_error_code(code).with_error_message(why));
    }
    core.changed();
    CreatePartitionsResponse::default().with_results(results).into()
}

pub(super) fn delete_records(
    core: &Core,
    request: DeleteRecordsRequest,
    fail: Option<ResponseError>,
) -> ResponseKind {
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let before = (asked.offset != -1).then_some(asked.offset);
            let outcome = ordered(fail).and_then(|()| {
                let mut topics = core.topics();
                topics.truncate_before(&topic.name, asked.partition_index, before).map_err(refused)
            });
            let (low, code, _) = split(outcome);
            let result = DeleteRecordsPartitionResult::default().with_partition_index(asked.partition_index);
            partitions.push(result.with_low_watermark(low.unwrap_or(-1)).with_error_code(code));
        }
        results.push(DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions));
    }
    core.changed();
    DeleteRecordsResponse::default().with_topics(results).into()
}
