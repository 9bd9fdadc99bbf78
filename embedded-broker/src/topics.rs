//! The topics of the broker: plain data behind one lock, with the bounds on their number and on their bytes.

use crate::batch::{Batch, Sequence};
use crate::config::BrokerConfig;
use crate::error::BrokerError;
use crate::log::Log;
use kafka_protocol::error::ResponseError;
use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use uuid::Uuid;

const NAME_BYTES_MAX: usize = 249;

/// One topic.
#[derive(Debug)]
pub(crate) struct Topic {
    /// New for each creation, so that a re-created topic can be told from its predecessor.
    pub(crate) id: Uuid,
    pub(crate) partitions: Vec<Log>,
    bytes_max: usize,
}

impl Topic {
    pub(crate) fn partition(&self, index: i32) -> Option<&Log> {
        self.partitions.get(usize::try_from(index).ok()?)
    }
}

/// All topics.
#[derive(Debug)]
pub(crate) struct Topics {
    topics: BTreeMap<String, Topic>,
    /// Sum over all logs.
    bytes: usize,
    partition_bytes_max: usize,
    log_bytes_max: usize,
    topics_max: usize,
    partitions_max: usize,
}

impl Topics {
    pub(crate) fn new(config: &BrokerConfig) -> Topics {
        Topics {
            topics: BTreeMap::new(),
            bytes: 0,
            partition_bytes_max: config.partition_bytes_max,
            log_bytes_max: config.log_bytes_max,
            topics_max: config.topics_max,
            partitions_max: config.partitions_max,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Topic)> {
        self.topics.iter().map(|(name, topic)| (name.as_str(), topic))
    }

    pub(crate) fn get(&self, name: &str) -> Result<&Topic, BrokerError> {
        self.topics.get(name).ok_or_else(|| BrokerError::UnknownTopic(name.to_owned()))
    }

    pub(crate) fn name_of(&self, id: Uuid) -> Option<&str> {
        self.iter().find(|(_, topic)| topic.id == id).map(|(name, _)| name)
    }

    pub(crate) fn log(&self, name: &str, partition: i32) -> Result<&Log, BrokerError> {
        let unknown = || BrokerError::UnknownPartition { topic: name.to_owned(), partition };
        self.get(name)?.partition(partition).ok_or_else(unknown)
    }

    fn log_mut(&mut self, name: &str, partition: i32) -> Result<&mut Log, BrokerError> {
        let topic = self.topics.get_mut(name).ok_or_else(|| BrokerError::UnknownTopic(name.to_owned()))?;
        let log = usize::try_from(partition).ok().and_then(|index| topic.partitions.get_mut(index));
        log.ok_or_else(|| BrokerError::UnknownPartition { topic: name.to_owned(), partition })
    }

    /// Says whether [`Topics::create`] would do it.
    pub(crate) fn check_new(&self, name: &str, partitions: i32) -> Result<(), BrokerError> {
        if !valid_name(name) {
            return Err(BrokerError::InvalidTopicName(name.to_owned()));
        }
        if self.topics.contains_key(name) {
            return Err(BrokerError::TopicExists(name.to_owned()));
        }
        if partitions < 1 {
            return Err(BrokerError::InvalidPartitions { asked: partitions, why: "at least 1 is needed" });
        }
        if self.topics.len() >= self.topics_max {
            return Err(BrokerError::Limit { what: "topics", max: self.topics_max });
        }
        self.check_room(partitions as usize)
    }

    fn check_room(&self, more: usize) -> Result<(), BrokerError> {
        let now: usize = self.topics.values().map(|topic| topic.partitions.len()).sum();
        if now + more > self.partitions_max {
            return Err(BrokerError::Limit { what: "partitions", max: self.partitions_max });
        }
        Ok(())
    }

    /// Creates a topic whose partitions keep at most `bytes_max` bytes each, or the broker's bound if that is lower.
    pub(crate) fn create(
        &mut self,
        name: &str,
        partitions: i32,
        bytes_max: Option<usize>,
    ) -> Result<&Topic, BrokerError> {
        self.check_new(name, partitions)?;
        let bytes_max = bytes_max.unwrap_or(usize::MAX).min(self.partition_bytes_max);
        let partitions = (0..partitions).map(|_| Log::new(bytes_max)).collect();
        let topic = Topic { id: fresh_id(), partitions, bytes_max };
        Ok(self.topics.entry(name.to_owned()).insert_entry(topic).into_mut())
    }

    pub(crate) fn delete(&mut self, name: &str) -> Result<Uuid, BrokerError> {
        let topic = self.topics.remove(name).ok_or_else(|| BrokerError::UnknownTopic(name.to_owned()))?;
        self.bytes -= topic.partitions.iter().map(Log::bytes).sum::<usize>();
        Ok(topic.id)
    }

    /// Says whether [`Topics::add_partitions`] would do it, and how many would be new.
    pub(crate) fn check_growth(&self, name: &str, total: i32) -> Result<usize, BrokerError> {
        let now = self.get(name)?.partitions.len();
        let more = usize::try_from(total).unwrap_or(0).saturating_sub(now);
        if more == 0 {
            let why = "a topic can only grow";
            return Err(BrokerError::InvalidPartitions { asked: total, why });
        }
        self.check_room(more)?;
        Ok(more)
    }

    /// Grows a topic to `total` partitions.
    pub(crate) fn add_partitions(&mut self, name: &str, total: i32) -> Result<(), BrokerError> {
        let more = self.check_growth(name, total)?;
        if let Some(topic) = self.topics.get_mut(name) {
            let bytes_max = topic.bytes_max;
            topic.partitions.extend((0..more).map(|_| Log::new(bytes_max)));
        }
        Ok(())
    }

    /// Appends a checked batch and keeps the bytes of all logs together under their bound. Returns the offset of its
    /// first record and the partition's low watermark.
    pub(crate) fn append(
        &mut self,
        name: &str,
        partition: i32,
        batch: &Batch,
        sequence: Option<Sequence>,
    ) -> Result<(i64, i64), ResponseError> {
        let log = self.log_mut(name, partition).map_err(|error| error.code())?;
        let before = log.bytes();
        let base_offset = log.append(batch, sequence)?;
        let (after, low) = (log.bytes(), log.low());
        self.bytes = self.bytes - before + after;
        while self.bytes > self.log_bytes_max && self.evict_from_largest() {}
        Ok((base_offset, low))
    }

    fn evict_from_largest(&mut self) -> bool {
        let logs = self.topics.values_mut().flat_map(|topic| &mut topic.partitions);
        let Some(largest) = logs.max_by_key(|log| log.bytes()) else { return false };
        let before = largest.bytes();
        let evicted = largest.evict_oldest();
        self.bytes -= before - largest.bytes();
        evicted
    }

    /// Makes everything before `offset` (`None`: the high watermark) unreadable; returns the new low watermark.
    pub(crate) fn truncate_before(
        &mut self,
        name: &str,
        partition: i32,
        offset: Option<i64>,
    ) -> Result<i64, BrokerError> {
        let log = self.log_mut(name, partition)?;
        let (before, high) = (log.bytes(), log.high());
        let offset = offset.unwrap_or(high);
        let low = log.truncate_before(offset).map_err(|_| BrokerError::OffsetOutOfRange { offset, high })?;
        let after = log.bytes();
        self.bytes -= before - after;
        Ok(low)
    }
}

fn valid_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// A random id. The standard library seeds its hash maps from the system's randomness, which is all that is needed
/// here: ids have to differ, not to be secret.
fn fresh_id() -> Uuid {
    let random = || RandomState::new().hash_one(0u8).to_be_bytes();
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&random());
    bytes[8..].copy_from_slice(&random());
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::build;

    fn topics(change: impl FnOnce(&mut BrokerConfig)) -> Topics {
        let mut config = BrokerConfig::default();
        change(&mut config);
        Topics::new(&config)
    }

    fn code<T: std::fmt::Debug>(result: Result<T, BrokerError>) -> ResponseError {
        result.expect_err("refused").code()
    }

    #[test]
    fn names_and_numbers_are_checked() {
        let mut topics = topics(|config| (config.topics_max, config.partitions_max) = (2, 5));
        for name in ["", ".", "..", "a b", "ä", &"x".repeat(250)] {
            assert_eq!(code(topics.create(name, 1, None)), ResponseError::InvalidTopicException, "{name}");
        }
        assert_eq!(code(topics.create("a", 0, None)), ResponseError::InvalidPartitions);
        assert_eq!(code(topics.create("a", 6, None)), ResponseError::PolicyViolation);
        topics.create("a", 2, None).unwrap();
        assert_eq!(code(topics.create("a", 2, None)), ResponseError::TopicAlreadyExists);
        topics.create("b.c_d-9", 2, None).unwrap();
        assert_eq!(code(topics.create("c", 1, None)), ResponseError::PolicyViolation);
        assert_eq!(code(topics.add_partitions("a", 2)), ResponseError::InvalidPartitions);
        assert_eq!(code(topics.add_partitions("a", 4)), ResponseError::PolicyViolation);
        topics.add_partitions("a", 3).unwrap();
        assert_eq!(code(topics.delete("c")), ResponseError::UnknownTopicOrPartition);
        topics.delete("a").unwrap();
        topics.create("a", 3, None).unwrap();
    }

    #[test]
    fn a_topic_made_again_has_another_id() {
        let mut topics = topics(|_| ());
        let first = topics.create("a", 1, None).unwrap().id;
        topics.delete("a").unwrap();
        let second = topics.create("a", 1, None).unwrap().id;
        assert_ne!(first, second);
        assert_eq!((topics.name_of(first), topics.name_of(second)), (None, Some("a")));
    }

    #[test]
    fn the_total_bound_takes_from_the_largest() {
        let (batch, _) = Batch::check(&build::batch(&[1], 1000)).unwrap();
        let mut topics = topics(|config| config.log_bytes_max = 10 * batch.len());
        topics.create("quiet", 1, None).unwrap();
        topics.create("busy", 1, None).unwrap();
        topics.append("quiet", 0, &batch, None).unwrap();
        for _ in 0..30 {
            topics.append("busy", 0, &batch, None).unwrap();
            assert!(topics.bytes <= 10 * batch.len());
        }
        assert_eq!(topics.log("quiet", 0).unwrap().low(), 0);
        assert_eq!(topics.log("busy", 0).unwrap().low(), 21);
        topics.truncate_before("busy", 0, None).unwrap();
        topics.delete("quiet").unwrap();
        assert_eq!(topics.bytes, 0);
    }

    #[test]
    fn retention_of_a_topic_is_its_own() {
        let (batch, _) = Batch::check(&build::batch(&[1], 100)).unwrap();
        let mut topics = topics(|_| ());
        topics.create("short", 1, Some(2 * batch.len())).unwrap();
        for _ in 0..5 {
            topics.append("short", 0, &batch, None).unwrap();
        }
        topics.add_partitions("short", 2).unwrap();
        assert_eq!(topics.log("short", 0).unwrap().low(), 3);
    }
}
