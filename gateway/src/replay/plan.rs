//! Where a replay begins and ends in each partition: what is known of it, and what Kafka is asked for.

use super::course::{Course, Leg, Part};
use super::reader::{Reader, SILENCE, WAIT, no_answer, since};
use super::{Ask, Lost, Missed};
use crate::clock;
use crate::feed::native::Record;
use crate::feed::topics::{End, Topic};
use crate::feed::{epoch_of, look_up, native, no_leader, offsets};
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaResult;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::Duration;
use tickgate_protocol::Position;

/// Longest wait for one answer of a broker, in milliseconds.
const ANSWER_MS: i32 = 3_000;

impl Reader {
    /// Where everything begins and ends, of those partitions that say so: the others hold up nobody, and are asked again.
    pub(super) fn plan(&mut self, ask: &mut Ask, is_stopped: &dyn Fn() -> bool) -> KafkaResult<Course> {
        // Of the past alone, nobody else gives what is left out here.
        let is_alone = ask.until_ns.is_some();
        if is_alone && !self.topics.is_complete() {
            return Err(no_leader());
        }
        let topics = self.topics.all();
        let (mut legs, mut lost) = (Vec::new(), Vec::new());
        let mut is_silent = false;
        for topic in topics.into_iter().filter(|topic| ask.is_of(topic.epoch)) {
            let of_topic = ask.next.iter().filter(|next| next.epoch == topic.epoch);
            let named: BTreeMap<u32, u64> = of_topic.map(|next| (next.partition, next.offset)).collect();
            let is_wanted = |partition: &u32| ask.since_ns.is_some() || named.contains_key(partition);
            let wanted: Vec<u32> = topic.partitions.iter().copied().filter(is_wanted).collect();
            if wanted.is_empty() {
                continue;
            }
            if is_stopped() {
                return Err(no_answer());
            }
            // One that is missing is not there to be read: what of it memory does not have either will be told as lost.
            let Some(groups) = self.by_leader(&topic.name, &wanted)? else {
                is_silent |= is_alone;
                continue;
            };
            // Deleted and made again, and the feed does not know yet.
            if !self.is_still(&topic.name, topic.epoch)? {
                is_silent |= is_alone;
                continue;
            }
            let mut partitions = BTreeMap::new();
            for group in groups.values() {
                if is_stopped() {
                    return Err(no_answer());
                }
                match self.look_at(&topic, group, &named, ask, &mut lost) {
                    Ok(parts) => partitions.extend(parts),
                    Err(error) => tracing::debug!(%error, topic = topic.name, "a replay goes on without it"),
                }
            }
            is_silent |= partitions.len() < wanted.len();
            if !partitions.is_empty() {
                legs.push(Leg { epoch: topic.epoch, topic: topic.name, partitions });
            }
        }
        if is_silent && (is_alone || legs.is_empty()) {
            return Err(no_leader());
        }
        ask.lost.append(&mut lost);
        let owner = (ask.shard, ask.key, ask.replay);
        let mut course = Course { owner, next: Vec::new(), legs, heard_ms: clock::mono_ms(), assigned: None };
        course.next = course.positions();
        Ok(course)
    }

    /// Whether a topic is the one of that epoch.
    pub(super) fn is_still(&self, topic: &str, epoch: u32) -> KafkaResult<bool> {
        let id = native::topic_id(&self.consumer, topic, None, ANSWER_MS).ok_or_else(no_answer)?;
        // A broker without ids cannot say.
        Ok(id == 0 || epoch_of(id) == epoch)
    }

    /// These partitions of a topic by their leaders, of those that have one. `None` when there is no such topic; fails when no
    /// broker answers.
    fn by_leader(&self, topic: &str, partitions: &[u32]) -> KafkaResult<Option<BTreeMap<i32, Vec<u32>>>> {
        let metadata = self.consumer.fetch_metadata(Some(topic), Duration::from_millis(ANSWER_MS as u64))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none());
        let Some(found) = found else { return Ok(None) };
        let mut groups: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
        for partition in found.partitions().iter().filter(|partition| partition.leader() >= 0) {
            let number = u32::try_from(partition.id()).ok().filter(|number| partitions.contains(number));
            groups.entry(partition.leader()).or_default().extend(number);
        }
        groups.retain(|_, partitions| !partitions.is_empty());
        Ok(Some(groups))
    }

    /// Where partitions of one leader begin and end; those that do not answer are not among them.
    fn look_at(
        &mut self,
        topic: &Topic,
        partitions: &[u32],
        named: &BTreeMap<u32, u64>,
        ask: &Ask,
        lost: &mut Vec<Lost>,
    ) -> KafkaResult<BTreeMap<u32, Part>> {
        let unnamed: Vec<u32> = partitions.iter().copied().filter(|p| !named.contains_key(p)).collect();
        let lows = offsets(&self.consumer, &topic.name, partitions, Offset::Beginning)?;
        let firsts = match ask.since_ns {
            Some(ns) if !unnamed.is_empty() => {
                // Kafka's timestamps are whole milliseconds: the first that is not before.
                let ms = ns.div_euclid(1_000_000) + i64::from(ns.rem_euclid(1_000_000) > 0);
                self.at_time(&topic.name, &unnamed, ms.max(0), &lows)?
            }
            _ => BTreeMap::new(),
        };
        let highs = offsets(&self.consumer, &topic.name, partitions, Offset::End)?;
        let ends = match ask.until_ns {
            // The first that is after: of those that have none so late, the end is the end.
            Some(ns) => {
                let ms = ns.div_euclid(1_000_000).saturating_add(1);
                self.at_time(&topic.name, partitions, ms.max(0), &lows)?
            }
            None => BTreeMap::new(),
        };
        let mut parts = BTreeMap::new();
        for partition in partitions.iter().copied() {
            let at = |offset| Position { epoch: topic.epoch, partition, offset };
            let (Some(low), Some(high)) = (lows.get(&partition), highs.get(&partition)) else { continue };
            let (low, mut high) = (*low, *high);
            let end = self.topics.end(topic.epoch, partition);
            match end {
                End::Open => {}
                End::At(end) => high = high.min(end),
                End::Unknown => continue,
            }
            if ask.until_ns.is_some() {
                let Some(end) = ends.get(&partition) else { continue };
                high = end.map_or(high, |end| end.min(high));
            }
            let next = match (named.get(&partition), firsts.get(&partition)) {
                (Some(next), _) if *next < low => {
                    lost.push(Lost { from: at(*next), upto: at(low - 1) });
                    low
                }
                (Some(next), _) => *next,
                // No answer is not "none".
                (None, None) => continue,
                (None, Some(late)) => {
                    // After the last record there is none for a time.
                    let late = late.unwrap_or(high);
                    let next = late.min(ask.origin_of(at(0)).unwrap_or(late));
                    // Those before the first may have been appended after that time.
                    let from = if late <= low { 0 } else { next };
                    if from < low {
                        lost.push(Lost { from: at(from), upto: at(low - 1) });
                    }
                    next.max(low)
                }
            };
            // The last event that a symbol had, if it is still there: the feed may not know it.
            let is_last = |want: &Missed| {
                want.after.is_some_and(|after| {
                    Position { offset: after.offset.saturating_add(1), ..after } == at(next)
                })
            };
            let is_wanted = low < next && next <= high && ask.wants.iter().any(is_last);
            let next = if is_wanted { next - 1 } else { next };
            let is_bound = ask.until_ns.is_some() || end != End::Open;
            parts.insert(partition, Part { next, high, is_bound, is_done: next >= high });
        }
        Ok(parts)
    }

    /// The first record of each partition that was appended at `ms` or later, milliseconds since the Unix epoch: `None` where
    /// there is none. Those that do not answer are not among them.
    ///
    /// Records that were deleted on request stay in a broker's files for some minutes. To a time in a file of which all are
    /// gone it answers that there is no record so late, though there are later files.
    fn at_time(
        &mut self,
        topic: &str,
        partitions: &[u32],
        ms: i64,
        lows: &BTreeMap<u32, u64>,
    ) -> KafkaResult<BTreeMap<u32, Option<u64>>> {
        let mut found = look_up(&self.consumer, topic, partitions, Offset::Offset(ms))?;
        let is_low = |partition: &u32| lows.get(partition).is_some_and(|low| *low > 0);
        let none: Vec<u32> =
            found.iter().filter(|(p, at)| at.is_none() && is_low(p)).map(|(p, _)| *p).collect();
        if none.is_empty() {
            return Ok(found);
        }
        let oldest = look_up(&self.consumer, topic, &none, Offset::Offset(0))?;
        for partition in none.into_iter().filter(|partition| oldest.get(partition) == Some(&None)) {
            let low = lows[&partition];
            if self.appended_ms(topic, partition, low)?.is_some_and(|low_ms| low_ms >= ms) {
                found.insert(partition, Some(low));
            }
        }
        Ok(found)
    }

    /// When the first record at or behind an offset was appended, milliseconds since the Unix epoch; `None` when there is
    /// none.
    fn appended_ms(&mut self, topic: &str, partition: u32, offset: u64) -> KafkaResult<Option<i64>> {
        let mut list = TopicPartitionList::with_capacity(1);
        let from = Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
        list.add_partition_offset(topic, partition as i32, from)?;
        self.consumer.assign(&list)?;
        let began_ms = clock::mono_ms();
        let found = loop {
            let taken = self.queue.take(WAIT.as_millis() as i32);
            let is_it = |record: &Record<'_>| record.topic == topic && record.partition == partition as i32;
            match taken.iter().next().filter(is_it) {
                Some(Record { error: None, offset: at, timestamp_ms, .. }) if at >= offset as i64 => {
                    break Ok(Some(timestamp_ms));
                }
                Some(Record { error: Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF), .. }) => {
                    break Ok(None);
                }
                _ if since(began_ms) >= SILENCE => break Err(no_answer()),
                _ => {}
            }
        };
        self.consumer.unassign()?;
        found
    }
}
