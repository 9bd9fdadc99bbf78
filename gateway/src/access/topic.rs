//! The topic of those revoked: read from its beginning by a consumer of its own, all partitions, no group and no commits.
//!
//! What was read counts when all of it was, up to where Kafka said that it ended; from then on every record does as it
//! comes. When the topic was made anew, when retention took what came next, when the clock was set back, and when there is
//! room again for entries that there was none for, it is read from its beginning once more, and until that is done the list
//! before counts on ([`super::reading`]). So it does while no broker answers.

use super::Access;
use super::reading::{ROOM_PAUSE_MS, Reading};
use super::revoked::{ENTRIES_MAX, Source};
use crate::clock;
use crate::config::Config;
use crate::feed::client_config;
use crate::feed::native::{RecordQueue, topic_id};
use crate::log_limit::{LogLimit, Verdict};
use crate::shard::lifecycle::PUBLISH_QUIET_MS as SHARD_WAIT_MS;
use crate::stats::{Board, RevocationRecord as Said};
use anyhow::{Context, bail, ensure};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, DefaultConsumerContext};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Records taken at once.
const RECORDS_PER_TAKE: usize = 500;
/// Bytes that librdkafka holds of records, by the settings below: a full queue and what is added to it, and a fetch.
pub const QUEUE_BYTES: u64 = 3 << 20;
/// Partitions that the topic may have: one is enough, and each is a table of its own here.
const PARTITIONS_MAX: usize = 1_000;
/// Bytes of tables that are nearly empty, before and after.
pub const TABLES_BYTES: u64 = PARTITIONS_MAX as u64 * 1_024;
/// Longest wait for a record.
const WAIT_MS: i32 = 100;
/// Longest wait of a broker for a record to answer with.
const FETCH_WAIT_MS: u64 = 100;
/// Longest wait for the three answers of a look together, as records wait behind them.
const LOOK_MS: u64 = 1_500;
/// How often it is looked at least, whatever `kafka.refresh_ms` says: a partition that was added may revoke somebody.
const REFRESH_MS_MAX: u64 = 2_000;
/// How soon a broker that did not answer is asked again.
const RETRY_MS: u64 = 250;
/// How often another list is put in effect at the most: every shard looks at all its sessions then.
const PUBLISH_MS: u64 = 500;
/// Within this whoever is revoked is to be gone. A record can come as a look begins, and its list be put off into the next.
const GONE_MS: u64 = 5_000;
const _: () = assert!(FETCH_WAIT_MS + 2 * LOOK_MS + PUBLISH_MS + SHARD_WAIT_MS <= GONE_MS);
/// How often it is looked whose time is over.
const EXPIRE_MS: u64 = 5_000;
/// How far the wall clock may go back beside the monotonic one: what is more is no slewing.
const SET_BACK_NS: i64 = 1_000_000_000;
/// Lines of one kind within ten seconds.
const LOGS_PER_10_S: u32 = 1;

/// Reads the topic.
pub(super) struct Topic {
    topic: String,
    refresh_ms: u64,
    consumer: Arc<BaseConsumer>,
    queue: RecordQueue<DefaultConsumerContext>,
    access: Arc<Access>,
    board: Arc<Board>,
    /// The broker's id of the topic that is read.
    id: Option<u128>,
    reading: Reading,
    look_ms: u64,
    publish_ms: u64,
    expire_ms: u64,
    /// When it was begun the last time to read it from its beginning.
    began_ms: u64,
    wall: Wall,
    is_assign_due: bool,
    is_away: bool,
    away_logs: LogLimit,
    record_logs: LogLimit,
    room_logs: LogLimit,
}

impl Topic {
    /// What reads the topic of a configuration, if it has one.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub(super) fn new(
        config: &Config,
        access: Arc<Access>,
        board: Arc<Board>,
    ) -> anyhow::Result<Option<Self>> {
        let topic = config.auth.revocation_topic.clone();
        if topic.is_empty() {
            return Ok(None);
        }
        let consumer: Arc<BaseConsumer> = Arc::new(consumer_config(config).create().context("kafka")?);
        let queue = RecordQueue::of_consumer(consumer.clone(), RECORDS_PER_TAKE);
        Ok(Some(Self {
            topic,
            refresh_ms: config.kafka.refresh_ms.min(REFRESH_MS_MAX),
            consumer,
            queue: queue.context("kafka: no memory for a queue")?,
            access,
            board,
            id: None,
            reading: Reading::new(ENTRIES_MAX),
            look_ms: 0,
            publish_ms: 0,
            expire_ms: 0,
            began_ms: 0,
            wall: Wall::default(),
            is_assign_due: false,
            is_away: false,
            away_logs: LogLimit::new(LOGS_PER_10_S),
            record_logs: LogLimit::new(LOGS_PER_10_S),
            room_logs: LogLimit::new(LOGS_PER_10_S),
        }))
    }

    /// Reads until it is stopped.
    pub(super) fn run(mut self, is_stopped: &AtomicBool) {
        while !is_stopped.load(Ordering::Relaxed) {
            if clock::mono_ms() >= self.look_ms {
                // Unless it finds a reason to look again soon.
                self.look_ms = clock::mono_ms() + self.refresh_ms;
                let looked = self.look();
                if looked.is_err() {
                    self.look_ms = clock::mono_ms() + RETRY_MS;
                }
                self.tell(looked);
            }
            self.take();
            self.publish();
        }
    }

    /// Asks for the topic, its partitions, and where they end.
    fn look(&mut self) -> anyhow::Result<()> {
        let until_ms = clock::mono_ms() + LOOK_MS;
        let left_ms = || until_ms.saturating_sub(clock::mono_ms()).max(1);
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), Duration::from_millis(left_ms()))?;
        let found = metadata.topics().iter().find(|found| found.name() == self.topic);
        let found = found.context("it does not exist")?;
        if let Some(error) = found.error() {
            bail!("{}", rdkafka::types::RDKafkaErrorCode::from(error));
        }
        let partitions: BTreeSet<i32> = found.partitions().iter().map(|partition| partition.id()).collect();
        let count = partitions.len();
        ensure!(count > 0, "it has no partitions yet");
        ensure!(count <= PARTITIONS_MAX, "it has {count} partitions, and may have {PARTITIONS_MAX}");
        let node = Some(metadata.orig_broker_id()).filter(|node| *node >= 0);
        // No answer is no news. After one, what was found may be the partitions of the topic before.
        if let Some(id) = topic_id(&self.consumer, &self.topic, node, left_ms() as i32)
            && self.id.replace(id).is_some_and(|known| known != id)
        {
            self.begin_anew("it was deleted and made again");
            return Ok(());
        }
        if self.reading.has_lost_one(&partitions) {
            self.begin_anew("it has fewer partitions than before");
            return Ok(());
        }
        self.is_assign_due |= self.reading.add(&partitions);
        if self.is_assign_due {
            self.assign()?;
            self.is_assign_due = false;
        }
        // The leaders are asked themselves: that one of them is silent is not to be told by the others.
        let positions = self.reading.positions();
        let mut ends = TopicPartitionList::with_capacity(positions.len());
        for (partition, _) in positions {
            ends.add_partition_offset(&self.topic, partition, Offset::End)?;
        }
        let ends = self.consumer.offsets_for_times(ends, Duration::from_millis(left_ms()))?;
        let mut is_read = self.reading.is_settled();
        for end in ends.elements() {
            end.error()?;
            let Offset::Offset(offset) = end.offset() else {
                bail!("partition {} has no end", end.partition())
            };
            is_read &= self.reading.has_reached(end.partition(), offset.unsigned_abs());
        }
        if is_read {
            self.is_read_now();
        }
        Ok(())
    }

    fn assign(&self) -> anyhow::Result<()> {
        let positions = self.reading.positions();
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for (partition, next) in positions {
            let next = next.map(|next| Offset::Offset(i64::try_from(next).unwrap_or(i64::MAX)));
            list.add_partition_offset(&self.topic, partition, next.unwrap_or(Offset::Beginning))?;
        }
        Ok(self.consumer.assign(&list)?)
    }

    /// Says in the log when it begins or ends that the topic cannot be read.
    fn tell(&mut self, looked: anyhow::Result<()>) {
        let topic = &self.topic;
        match looked {
            Ok(()) => {
                if std::mem::take(&mut self.is_away) {
                    tracing::info!(topic, "auth.revocation_topic answers");
                }
            }
            Err(error) => {
                self.is_away = true;
                if let Verdict::Write { left_out } = self.away_logs.admit(clock::mono_ms()) {
                    let error = format!("{error:#}");
                    if self.board.access.is_topic_awaited.load(Ordering::Relaxed) {
                        tracing::error!(
                            topic,
                            error,
                            left_out,
                            "auth.revocation_topic cannot be read: nobody is let in before it was"
                        );
                    } else {
                        tracing::warn!(
                            topic,
                            error,
                            left_out,
                            "auth.revocation_topic cannot be read: what was read last counts"
                        );
                    }
                }
            }
        }
    }

    /// Takes what has come, or waits a little.
    fn take(&mut self) {
        let now_s = self.slow_now_s();
        let mut is_gone = false;
        let records = self.queue.take(WAIT_MS);
        for record in records.iter() {
            let (partition, offset) = (record.partition, u64::try_from(record.offset).unwrap_or(0));
            match record.error {
                None => {
                    let value = (!record.is_tombstone).then_some(record.value);
                    let Some(said) = self.reading.take(partition, offset, record.key, value, now_s) else {
                        continue;
                    };
                    self.board.access.topic_records[said as usize].fetch_add(1, Ordering::Relaxed);
                    let logs = match said {
                        Said::Malformed => &mut self.record_logs,
                        Said::NoRoom => &mut self.room_logs,
                        Said::Revoked | Said::Restored | Said::Expired => continue,
                    };
                    let Verdict::Write { left_out } = logs.admit(clock::mono_ms()) else { continue };
                    let topic = &self.topic;
                    if said == Said::NoRoom {
                        tracing::error!(
                            topic,
                            partition,
                            offset,
                            left_out,
                            most = ENTRIES_MAX,
                            "no room for another entry: whom it names is let in"
                        );
                    } else {
                        tracing::warn!(
                            topic,
                            partition,
                            offset,
                            left_out,
                            "a record of auth.revocation_topic is not understood"
                        );
                    }
                }
                Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF) => {
                    self.reading.end(partition, offset);
                }
                Some(
                    RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE
                    | RDKafkaRespErr::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET,
                ) => is_gone = true,
                // librdkafka goes on by itself, and a look says when nobody answers.
                Some(error) => tracing::debug!(?error, "the consumer of auth.revocation_topic"),
            }
        }
        drop(records);
        if is_gone {
            self.begin_anew("what came next in it is gone");
        }
        if let Some(over) = self.reading.settle() {
            self.publish_ms = 0;
            if over > 0 {
                tracing::error!(
                    topic = self.topic,
                    over,
                    most = ENTRIES_MAX,
                    pause_s = self.reading.room_pause_ms() / 1_000,
                    "no room for all of auth.revocation_topic: whom the others name is let in; when a tenth is free it is \
                     read again, after a pause"
                );
            }
        }
    }

    /// Puts in effect what has changed, and lets whose time is over go.
    fn publish(&mut self) {
        let now_ms = clock::mono_ms();
        if now_ms >= self.expire_ms {
            self.expire_ms = now_ms + EXPIRE_MS;
            let now_s = self.slow_now_s();
            self.reading.expire(now_s);
        }
        if self.reading.is_changed() && now_ms >= self.publish_ms {
            self.publish_ms = now_ms + PUBLISH_MS;
            self.publish_list();
        }
        if self.wall.was_set_back && now_ms >= self.began_ms + ROOM_PAUSE_MS {
            self.wall.was_set_back = false;
            self.begin_anew("the clock was set back: what was over may not be");
        }
        if self.reading.has_room_again() && now_ms >= self.began_ms + self.reading.room_pause_ms() {
            self.begin_anew("there is room again for what there was none for");
        }
    }

    fn publish_list(&mut self) {
        let list = self.reading.list();
        let entries = list.len() as u64;
        let counts = &self.board.access;
        if self.access.replace_revoked(Source::Topic, list) {
            tracing::info!(entries, "took over who is revoked from auth.revocation_topic");
        }
        counts.topic_entries.store(entries, Ordering::Relaxed);
        if !self.reading.is_settled() {
            return;
        }
        if counts.topic_read_s.load(Ordering::Relaxed) == 0 {
            self.is_read_now();
            tracing::info!(topic = self.topic, entries, "auth.revocation_topic is read to its end");
        }
        // Only now: whoever is let in from here on is held against the list.
        self.board.access.is_topic_awaited.store(false, Ordering::Release);
    }

    /// Reads it from its beginning again, with the next look.
    fn begin_anew(&mut self, why: &str) {
        tracing::info!(topic = self.topic, why, "auth.revocation_topic is read from its beginning");
        if let Err(error) = self.consumer.unassign() {
            tracing::warn!(%error, "the consumer of auth.revocation_topic");
        }
        self.reading.begin_anew();
        let now_ms = clock::mono_ms();
        (self.look_ms, self.began_ms) = (now_ms + RETRY_MS, now_ms);
    }

    fn is_read_now(&self) {
        let now_s = clock::wall_ns().div_euclid(1_000_000_000);
        self.board.access.topic_read_s.store(now_s.unsigned_abs(), Ordering::Relaxed);
    }

    /// The time of a clock that is as late as clocks may be.
    fn slow_now_s(&mut self) -> i64 {
        let wall_ns = clock::wall_ns();
        self.wall.note(wall_ns, clock::mono_ns());
        wall_ns.div_euclid(1_000_000_000).saturating_sub(self.access.leeway_s())
    }
}

/// Notices that the wall clock was set back: tokens hold again then whose entries were left out as over.
#[derive(Debug)]
struct Wall {
    /// How far it was ahead of the monotonic clock at the most.
    ahead_ns: i64,
    was_set_back: bool,
}

impl Default for Wall {
    fn default() -> Self {
        Self { ahead_ns: i64::MIN, was_set_back: false }
    }
}

impl Wall {
    fn note(&mut self, wall_ns: i64, mono_ns: u64) {
        let ahead_ns = wall_ns.saturating_sub_unsigned(mono_ns);
        if ahead_ns < self.ahead_ns.saturating_sub(SET_BACK_NS) {
            (self.ahead_ns, self.was_set_back) = (ahead_ns, true);
        }
        self.ahead_ns = self.ahead_ns.max(ahead_ns);
    }
}

/// librdkafka's settings. What bounds its memory and its waits stands, whatever `kafka.properties` say: those are meant for
/// the one consumer of the live feed.
fn consumer_config(config: &Config) -> ClientConfig {
    let mut client = client_config(config);
    if !config.kafka.properties.contains_key("client.id") {
        client.set("client.id", "tickgate-access");
    }
    for (name, value) in [
        ("enable.partition.eof", "true"),
        ("queued.min.messages", "1000"),
        ("queued.max.messages.kbytes", "1024"),
        ("fetch.max.bytes", "1048576"),
        ("max.partition.fetch.bytes", "262144"),
        ("fetch.min.bytes", "1"),
    ] {
        client.set(name, value);
    }
    client.set("fetch.wait.max.ms", FETCH_WAIT_MS.to_string());
    // With it a follower may be asked, whose end is not the leader's: it would be taken for read what is not.
    client.remove("client.rack");
    // Another name for the last of them.
    client.remove("fetch.message.max.bytes");
    // It would write to standard error, past the log and its bounds. A look says when nobody answers.
    client.set_log_level(RDKafkaLogLevel::Emerg);
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    #[test]
    fn a_clock_that_is_set_back_is_noticed_and_one_that_is_slewed_is_not() {
        let mut wall = Wall::default();
        for (wall_s, mono_s, was_set_back) in [
            (5_000, 10, false),
            (5_001, 11, false),
            // An hour ahead, and somewhat back of that.
            (8_602, 12, false),
            (8_602, 13, false),
            (5_004, 14, true),
            (5_005, 15, false),
            (5_003, 15, true),
            // Asleep for a while.
            (9_000, 16, false),
        ] {
            wall.note(wall_s * S, (mono_s * S).unsigned_abs());
            assert_eq!(std::mem::take(&mut wall.was_set_back), was_set_back, "{wall_s} {mono_s}");
        }
    }

    /// With a rack the end of a follower was taken for the end of the topic, and a door opened before who was revoked last was
    /// known.
    #[test]
    fn the_leaders_are_read_and_without_a_wait_for_more() {
        let mut config = Config::default();
        for (name, value) in
            [("client.rack", "a"), ("fetch.min.bytes", "1000"), ("fetch.wait.max.ms", "9000")]
        {
            config.kafka.properties.insert(name.to_owned(), value.to_owned());
        }
        let client = consumer_config(&config);
        assert_eq!(client.get("client.rack"), None);
        assert_eq!(client.get("fetch.min.bytes"), Some("1"));
        assert_eq!(client.get("fetch.wait.max.ms"), Some("100"));
    }
}
