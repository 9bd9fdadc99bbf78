//! What can go wrong, for callers in the same process and, as a Kafka code, for clients.

use kafka_protocol::error::ResponseError;
use std::io;
use std::net::SocketAddr;

/// Why the broker could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The address cannot be listened on, for instance because the port is in use.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The address is reachable from other machines and that was not allowed.
    #[error("{0} is not a loopback address, and this broker has no authentication")]
    NotLoopback(SocketAddr),
    /// Settings that make no sense.
    #[error("wrong settings: {0}")]
    Config(String),
    /// The broker's thread or runtime could not be started.
    #[error("cannot start the broker's thread")]
    Thread(#[source] io::Error),
    /// The broker's thread has ended.
    #[error("the broker has ended")]
    Ended,
    /// A topic of this name exists.
    #[error("topic {0:?} exists already")]
    TopicExists(String),
    /// No topic of this name exists.
    #[error("no topic {0:?}")]
    UnknownTopic(String),
    /// The topic has no such partition.
    #[error("topic {topic:?} has no partition {partition}")]
    UnknownPartition {
        /// Name of the topic.
        topic: String,
        /// The partition asked for.
        partition: i32,
    },
    /// The name is not one Kafka would take.
    #[error("{0:?} is no topic name: 1 to 249 of letters, digits, '.', '_' and '-'")]
    InvalidTopicName(String),
    /// The number of partitions is below 1 or not more than there are.
    #[error("{asked} partitions: {why}")]
    InvalidPartitions {
        /// Number asked for.
        asked: i32,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A limit of the configuration is reached.
    #[error("the limit of {max} {what} is reached")]
    Limit {
        /// What is limited.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// The offset lies after the end of the log.
    #[error("offset {offset} is past the end of the log, {high}")]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: i64,
        /// The high watermark.
        high: i64,
    },
}

impl BrokerError {
    /// The code a Kafka client gets for it.
    pub fn code(&self) -> ResponseError {
        match self {
            BrokerError::TopicExists(_) => ResponseError::TopicAlreadyExists,
            BrokerError::UnknownTopic(_) | BrokerError::UnknownPartition { .. } => {
                ResponseError::UnknownTopicOrPartition
            }
            BrokerError::InvalidTopicName(_) => ResponseError::InvalidTopicException,
            BrokerError::InvalidPartitions { .. } => ResponseError::InvalidPartitions,
            BrokerError::Limit { .. } => ResponseError::PolicyViolation,
            BrokerError::OffsetOutOfRange { .. } => ResponseError::OffsetOutOfRange,
            _ => ResponseError::UnknownServerError,
        }
    }
}
