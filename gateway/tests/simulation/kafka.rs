//! A log like Kafka's: partitions of records, of which the first ones go away; and those who read it again.

use crate::rng::Rng;
use serde_json::Value;
use tickgate_checker::log::Log;
use tickgate_gateway::access::rights::Rights;
use tickgate_gateway::clock;
use tickgate_gateway::feed::directory::Directory;
use tickgate_gateway::replay::record::of_record;
use tickgate_gateway::replay::wants::Wants;
use tickgate_gateway::replay::{Ask, Chunk, Lost, Missed, Reach};
use tickgate_protocol::record::RecordDecoder;
use tickgate_protocol::{Channel, Position};

pub const EPOCH: u32 = 7;

pub struct Record {
    pub offset: u64,
    pub append_ns: i64,
    pub text: String,
}

#[derive(Default)]
pub struct Partition {
    pub records: Vec<Record>,
    /// The offset of the next record, and of the first that is still there.
    pub next: u64,
    pub low: u64,
}

impl Partition {
    /// The offset behind the last record.
    pub fn records_end(&self) -> u64 {
        self.records.last().map_or(0, |record| record.offset + 1)
    }

    /// The records from an offset on.
    pub fn from(&self, offset: u64) -> &[Record] {
        &self.records[self.records.partition_point(|record| record.offset < offset)..]
    }
}

pub struct Kafka {
    pub partitions: Vec<Partition>,
    /// Everything that ever stood in it.
    pub truth: Log,
    /// All that was ever appended, in that order.
    appended: Vec<(Position, i64, String)>,
    decoder: RecordDecoder,
}

impl Kafka {
    pub fn new(partitions: usize) -> Self {
        Self {
            partitions: (0..partitions).map(|_| Partition::default()).collect(),
            truth: Log::new(),
            appended: Vec::new(),
            decoder: RecordDecoder::new(1 << 20),
        }
    }

    pub fn append(&mut self, partition: usize, append_ns: i64, text: String, hole: u64) -> Position {
        let log = &mut self.partitions[partition];
        let at = Position { epoch: EPOCH, partition: partition as u32, offset: log.next };
        // Offsets have holes.
        log.next += 1 + hole;
        self.truth.push(at, append_ns, text.as_bytes()).expect("offsets ascend");
        self.appended.push((at, append_ns, text.clone()));
        log.records.push(Record { offset: at.offset, append_ns, text });
        at
    }

    /// What somebody with these rights is to see of it.
    pub fn truth_for(&self, rights: &Rights) -> Log {
        let mut truth = Log::new();
        let may = |tick: &Value| {
            let kind = tick["type"].as_str().and_then(Channel::of_event_type).expect("a tick");
            rights.may(kind, tick["symbol"].as_str().expect("a symbol"))
        };
        // In the order in which they came: where a symbol moved to is behind where it was.
        for (at, append_ns, text) in &self.appended {
            let value: Value = serde_json::from_str(text).expect("a record");
            let ticks = match value {
                Value::Array(ticks) => ticks,
                tick => vec![tick],
            };
            let ticks: Vec<Value> = ticks.into_iter().filter(may).collect();
            let text = Value::from(ticks).to_string();
            truth.push(*at, *append_ns, text.as_bytes()).expect("offsets ascend");
        }
        truth
    }

    /// The next part of a replay, as a reader of the gateway gives it that knows the first `known` partitions.
    pub fn read_again(
        &mut self,
        rng: &mut Rng,
        mut ask: Box<Ask>,
        directory: &Directory,
        known: usize,
    ) -> Chunk {
        ask.is_read_again = true;
        let mut next = ask.next.clone();
        if let Some(ns) = ask.since_ns {
            for number in 0..known {
                if !next.iter().any(|next| next.partition == number as u32) {
                    next.push(self.since(number, ns, &mut ask));
                }
            }
        }
        let mut events = Vec::new();
        let mut bytes = 0;
        let mut reach = Reach::End;
        let turn = rng.below(next.len());
        next.rotate_left(turn);
        let wants = ask.wants.clone();
        let by_name = Wants::new(&wants);
        'all: for next in &mut next {
            let Some(log) = self.partitions.get(next.partition as usize).filter(|_| next.epoch == EPOCH)
            else {
                continue;
            };
            if next.offset < log.low {
                ask.lost.push(Lost { from: *next, upto: Position { offset: log.low - 1, ..*next } });
                next.offset = log.low;
            }
            let is_last = |want: &Missed| {
                let behind = |after: Position| Position { offset: after.offset.saturating_add(1), ..after };
                want.after.is_some_and(|after| behind(after) == *next)
            };
            if log.low < next.offset && next.offset <= log.next && ask.wants.iter().any(is_last) {
                next.offset -= 1;
            }
            for record in log.from(next.offset) {
                if bytes >= ask.bytes_max || rng.chance(5) {
                    reach = Reach::More;
                    break 'all;
                }
                next.offset = record.offset + 1;
                let at = Position { offset: record.offset, ..*next };
                let when = (at, record.append_ns, clock::wall_ns());
                let text = record.text.as_bytes();
                let made = of_record(&mut self.decoder, directory, &mut ask, &by_name, when, text);
                bytes += made.iter().map(|missed| missed.event.bytes()).sum::<usize>();
                events.extend(made);
            }
            // To the end, where no record need be.
            next.offset = next.offset.max(log.next);
        }
        ask.next = next;
        Chunk { ask, events, reach }
    }

    /// Where a time stands in a partition.
    fn since(&self, number: usize, ns: i64, ask: &mut Ask) -> Position {
        let log = &self.partitions[number];
        let at = |offset| Position { epoch: EPOCH, partition: number as u32, offset };
        // Kafka's timestamps are whole milliseconds.
        let is_late = |record: &&Record| record.append_ns.div_euclid(1_000_000) * 1_000_000 >= ns;
        let late = log.from(log.low).iter().find(is_late).map_or(log.next, |record| record.offset);
        let next = ask.origin_of(at(0)).map_or(late, |origin| origin.min(late));
        let first = log.from(log.low).first().map_or(log.next, |record| record.offset);
        let from = if late <= first { 0 } else { next };
        if from < log.low {
            ask.lost.push(Lost { from: at(from), upto: at(log.low - 1) });
        }
        at(next.max(log.low))
    }
}
