//! What really stood in Kafka: every record of every partition, by the streams that its ticks belong to.
//!
//! Records are added in the order of their offsets, from a topic or by hand. What is taken away from Kafka later stays
//! in here: whoever was not given it has to have been told.

use crate::content;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use tickgate_protocol::{Channel, Position};

/// One partition of one topic that existed: what offsets can be compared within.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Run {
    /// Of the topic.
    pub epoch: u32,
    /// Kafka partition.
    pub partition: u32,
}

impl From<Position> for Run {
    fn from(position: Position) -> Self {
        Self { epoch: position.epoch, partition: position.partition }
    }
}

impl Run {
    /// The position of an offset in it.
    pub const fn at(self, offset: u64) -> Position {
        Position { epoch: self.epoch, partition: self.partition, offset }
    }
}

/// What one record holds of one (channel, symbol).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where the record stands in its run.
    pub offset: u64,
    /// What each tick of it says, in order; see [`content`].
    pub contents: Box<[Option<u64>]>,
}

impl Entry {
    /// How many ticks it holds.
    pub fn count(&self) -> u64 {
        self.contents.len() as u64
    }
}

/// The records of one (channel, symbol), by run and in the order of their offsets.
#[derive(Debug, Clone, Default)]
pub struct StreamLog {
    runs: Vec<(Run, Vec<Entry>)>,
}

impl StreamLog {
    /// Every run that has records of it.
    pub fn runs(&self) -> impl Iterator<Item = (Run, &[Entry])> {
        self.runs.iter().map(|(run, entries)| (*run, entries.as_slice()))
    }

    /// Its records in `run`.
    pub fn run(&self, run: Run) -> &[Entry] {
        self.runs.iter().find(|(other, _)| *other == run).map_or(&[], |(_, entries)| entries)
    }
}

/// Two records of a partition came in the wrong order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{added} was added to the log behind {last}")]
pub struct NotInOrder {
    /// The record that was refused.
    pub added: Position,
    /// The last one of its partition before it.
    pub last: Position,
}

/// The truth.
#[derive(Debug, Clone, Default)]
pub struct Log {
    streams: [FxHashMap<Box<str>, StreamLog>; Channel::ALL.len()],
    /// The last offset of each run.
    ends: BTreeMap<Run, u64>,
    records: u64,
    ticks: u64,
    unreadable: u64,
}

impl Log {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a record with its Kafka timestamp in nanoseconds. What is no tick in it is counted and otherwise left out.
    ///
    /// # Errors
    /// [`NotInOrder`] when a record at or behind it was added before.
    pub fn push(&mut self, at: Position, append_ns: i64, value: &[u8]) -> Result<(), NotInOrder> {
        let run = Run::from(at);
        if let Some(last) = self.ends.get(&run).copied().filter(|last| *last >= at.offset) {
            return Err(NotInOrder { added: at, last: run.at(last) });
        }
        self.ends.insert(run, at.offset);
        self.records += 1;
        let mut groups: Vec<(Channel, String, Vec<Option<u64>>)> = Vec::new();
        for said in content::of_record(value, append_ns) {
            let Some(said) = said else {
                self.unreadable += 1;
                continue;
            };
            self.ticks += 1;
            match groups.iter_mut().find(|(c, symbol, _)| (*c, &**symbol) == (said.channel, &*said.symbol)) {
                Some((.., contents)) => contents.push(said.content),
                None => groups.push((said.channel, said.symbol, vec![said.content])),
            }
        }
        for (channel, symbol, contents) in groups {
            let stream = self.streams[channel as usize].entry(symbol.into()).or_default();
            let entry = Entry { offset: at.offset, contents: contents.into() };
            match stream.runs.iter_mut().find(|(other, _)| *other == run) {
                Some((_, entries)) => entries.push(entry),
                None => stream.runs.push((run, vec![entry])),
            }
        }
        Ok(())
    }

    /// The records of a (channel, symbol).
    pub fn stream(&self, channel: Channel, symbol: &str) -> Option<&StreamLog> {
        self.streams[channel as usize].get(symbol)
    }

    /// The symbols that have records of `channel`, in no order.
    pub fn symbols(&self, channel: Channel) -> impl Iterator<Item = &str> {
        self.streams[channel as usize].keys().map(AsRef::as_ref)
    }

    /// The position of the last record of every run.
    pub fn ends(&self) -> Vec<Position> {
        self.ends.iter().map(|(run, offset)| run.at(*offset)).collect()
    }

    /// Records.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Ticks in them.
    pub fn ticks(&self) -> u64 {
        self.ticks
    }

    /// Records, or elements of records, that are no tick.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }
}

/// The epoch of a topic by its id, as the protocol has it: FNV-1a over the bytes of the id.
pub fn epoch_of(topic_id: u128) -> u32 {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    topic_id.to_be_bytes().into_iter().fold(0x811c_9dc5, step).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_kept_by_stream_and_run() {
        let at = |partition, offset| Position { epoch: 1, partition, offset };
        let tick = |kind: &str, symbol: &str| match kind {
            "trade" => format!(r#"{{"type":"trade","symbol":"{symbol}","price":"1","size":"1"}}"#),
            _ => format!(r#"{{"type":"status","symbol":"{symbol}","state":"halted"}}"#),
        };
        let mut log = Log::new();
        let several = format!("[{},{},{},17]", tick("trade", "A"), tick("status", "A"), tick("trade", "A"));
        log.push(at(0, 3), 0, several.as_bytes()).unwrap();
        log.push(at(1, 0), 0, tick("trade", "B").as_bytes()).unwrap();
        log.push(at(0, 7), 0, tick("trade", "A").as_bytes()).unwrap();
        log.push(at(0, 8), 0, b"nothing").unwrap();
        let trades = log.stream(Channel::Trades, "A").unwrap();
        let seen: Vec<_> = trades.run(at(0, 0).into()).iter().map(|e| (e.offset, e.count())).collect();
        assert_eq!(seen, [(3, 2), (7, 1)]);
        assert_eq!(trades.runs().count(), 1);
        assert!(trades.run(at(1, 0).into()).is_empty() && log.stream(Channel::Quotes, "A").is_none());
        assert_eq!((log.records(), log.ticks(), log.unreadable()), (4, 5, 2));
        assert_eq!(log.ends(), [at(0, 8), at(1, 0)]);
        let refused = log.push(at(0, 8), 0, b"").unwrap_err();
        assert_eq!(refused.to_string(), "1:0:8 was added to the log behind 1:0:8");
    }
}
