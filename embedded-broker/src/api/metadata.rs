//! Metadata: the one broker, the topics and their ids.

use super::{NODE_ID, code_of};
use crate::core::Core;
use crate::log::LEADER_EPOCH;
use crate::topics::{Topic, Topics};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{MetadataRequest, MetadataResponse, ResponseKind, TopicName};
use kafka_protocol::protocol::StrBytes;
use std::net::SocketAddr;

/// First version whose answer may leave out a name.
const NULL_NAME_SINCE: i16 = 12;
const CLUSTER_ID: &str = "tickgate-embedded";

pub(super) fn metadata(
    core: &Core,
    local: SocketAddr,
    version: i16,
    request: MetadataRequest,
    fail: Option<ResponseError>,
) -> ResponseKind {
    let may_create = core.config.auto_create_topics && (version < 4 || request.allow_auto_topic_creation);
    let mut created = false;
    let mut topics = core.topics();
    let found: Vec<_> = match request.topics {
        None => topics.iter().map(|(name, topic)| describe(name, topic)).collect(),
        Some(asked) => asked
            .into_iter()
            .map(|asked| {
                let Some(name) = asked.name else { return by_id(&topics, version, asked.topic_id) };
                if may_create && fail.is_none() && topics.get(&name).is_err() {
                    let create = topics.create(&name, core.config.default_partitions, None);
                    match create {
                        Ok(_) => created = true,
                        Err(error) => return missing(Some(name), error.code()),
                    }
                }
                match topics.get(&name) {
                    Ok(topic) => describe(&name, topic),
                    Err(error) => missing(Some(name), error.code()),
                }
            })
            .collect(),
    };
    drop(topics);
    if created {
        core.changed();
    }
    let found = match fail {
        None => found,
        Some(code) => found.into_iter().map(|topic| missing(topic.name, code)).collect(),
    };
    let broker = MetadataResponseBroker::default()
        .with_node_id(NODE_ID.into())
        .with_host(StrBytes::from_string(local.ip().to_string()))
        .with_port(local.port().into());
    MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(StrBytes::from_static_str(CLUSTER_ID)))
        .with_controller_id(NODE_ID.into())
        .with_topics(found)
        .into()
}

fn by_id(topics: &Topics, version: i16, id: uuid::Uuid) -> MetadataResponseTopic {
    let found = topics.name_of(id).and_then(|name| topics.get(name).ok().map(|topic| describe(name, topic)));
    let no_name = (version < NULL_NAME_SINCE).then(TopicName::default);
    found.unwrap_or_else(|| missing(no_name, ResponseError::UnknownTopicId).with_topic_id(id))
}

fn missing(name: Option<TopicName>, code: ResponseError) -> MetadataResponseTopic {
    MetadataResponseTopic::default().with_name(name).with_error_code(code_of(Some(code)))
}

fn describe(name: &str, topic: &Topic) -> MetadataResponseTopic {
    let partition = |index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(NODE_ID.into())
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![NODE_ID.into()])
            .with_isr_nodes(vec![NODE_ID.into()])
    };
    MetadataResponseTopic::default()
        .with_name(Some(StrBytes::from_string(name.to_owned()).into()))
        .with_topic_id(topic.id)
        .with_partitions((0..topic.partitions.len() as i32).map(partition).collect())
}
