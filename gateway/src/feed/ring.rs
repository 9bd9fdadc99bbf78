//! The last records of every partition, for clients that come back after a short while.
//!
//! Records are kept as they were read and in the order they came, and decoded again for those who missed them: most are
//! never asked for. Each knows the record before it of the same symbol and channel, so that what was missed of one
//! symbol is found from its newest record backwards, however much else came in between.

use super::engine::Arrival;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::collections::VecDeque;
use tickgate_protocol::{Channel, Position};

/// One in so many records of a partition is noted with its number, to find the first that a client missed.
const MARK_EVERY: u64 = 64;
/// Records that are allocated at once: a table of all would double, and hold half as much again while it does.
const CHUNK: usize = 64;
/// What a record costs beside itself and its value: an allocation, and its shares of the chunks and the marks, both of which
/// may double.
const BESIDE_BYTES: usize = 2 * size_of::<usize>() + 3 * (size_of::<VecDeque<Record>>() + 16) / CHUNK;

/// A symbol and channel of which a record holds something.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// Number of the symbol.
    pub symbol: u32,
    /// Which of its events.
    pub channel: Channel,
    /// Whether its clients were sent just what it says: not of a book that was building or trimmed.
    pub is_plain: bool,
    /// Position of the record before it.
    pub prev: Option<Position>,
    /// Number of the record before it, if that was kept.
    pub before: Option<u64>,
}

/// One record as it was read.
#[derive(Debug)]
pub struct Record {
    /// Where it stands and when it came.
    pub arrival: Arrival,
    /// Its value.
    pub value: Box<[u8]>,
    /// What it holds.
    pub links: SmallVec<[Link; 1]>,
}

impl Record {
    /// What it holds of a symbol on a channel.
    pub fn link(&self, symbol: u32, channel: Channel) -> Option<Link> {
        self.links.iter().find(|link| link.symbol == symbol && link.channel == channel).copied()
    }

    fn bytes(&self) -> usize {
        let links = if self.links.spilled() { self.links.capacity() * size_of::<Link>() } else { 0 };
        size_of::<Self>() + self.value.len() + BESIDE_BYTES + links
    }
}

#[derive(Debug, Default)]
struct Part {
    /// From this offset on, everything that was read is kept.
    first: u64,
    /// Behind the last record that was read.
    end: u64,
    /// The newest time of what was read before it, nanoseconds since the Unix epoch.
    gone_ns: Option<i64>,
    /// Offsets and the numbers of their records, ascending.
    marks: VecDeque<(u64, u64)>,
    /// Records since the last mark.
    unmarked: u64,
}

impl Part {
    /// A record is not kept any more.
    fn give_up(&mut self, arrival: &Arrival) {
        self.first = self.first.max(arrival.position.offset + 1);
        self.gone_ns = self.gone_ns.max(Some(arrival.append_ns));
    }
}

/// Records in chunks of [`CHUNK`], so that no more is moved or allocated at once. The first chunk has lost some to the front,
/// the last one is being filled.
#[derive(Debug, Default)]
struct Chunks {
    chunks: VecDeque<VecDeque<Record>>,
    len: usize,
    /// Records that the last chunk was ever given.
    filled: usize,
    /// An empty one, for the next.
    spare: Option<VecDeque<Record>>,
}

impl Chunks {
    fn push_back(&mut self, record: Record) {
        if self.chunks.is_empty() || self.filled == CHUNK {
            let chunk = self.spare.take().unwrap_or_else(|| VecDeque::with_capacity(CHUNK));
            self.chunks.push_back(chunk);
            self.filled = 0;
        }
        if let Some(last) = self.chunks.back_mut() {
            last.push_back(record);
            self.filled += 1;
            self.len += 1;
        }
    }

    fn front(&self) -> Option<&Record> {
        self.chunks.front()?.front()
    }

    fn pop_front(&mut self) -> Option<Record> {
        let first = self.chunks.front_mut()?;
        let record = first.pop_front()?;
        self.len -= 1;
        if first.is_empty() {
            self.spare = self.chunks.pop_front();
        }
        Some(record)
    }

    fn get(&self, at: usize) -> Option<&Record> {
        let first = self.chunks.front()?;
        match at.checked_sub(first.len()) {
            None => first.get(at),
            Some(behind) => self.chunks.get(1 + behind / CHUNK)?.get(behind % CHUNK),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Record> {
        self.chunks.iter().flatten()
    }
}

/// The last records of every partition, bounded in bytes and in age.
#[derive(Debug)]
pub struct Ring {
    bytes_max: usize,
    age_max_ms: u64,
    bytes: usize,
    /// Number of the oldest record that is kept: numbers count up from the first record ever read.
    oldest: u64,
    records: Chunks,
    parts: FxHashMap<(u32, u32), Part>,
}

impl Ring {
    /// A ring that keeps nothing yet, and never more than `bytes_max` bytes or anything older than `age_max_ms`.
    pub fn new(bytes_max: usize, age_max_ms: u64) -> Self {
        Self {
            bytes_max,
            age_max_ms,
            bytes: 0,
            oldest: 0,
            records: Chunks::default(),
            parts: FxHashMap::default(),
        }
    }

    /// Bytes that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Reading of a partition begins at `next`, or goes on there without what was before.
    pub fn begin(&mut self, next: Position) {
        let part = self.parts.entry((next.epoch, next.partition)).or_default();
        part.first = part.first.max(next.offset);
        part.end = part.end.max(next.offset);
    }

    /// The number that the next record gets.
    pub fn next_number(&self) -> u64 {
        self.oldest + self.records.len as u64
    }

    /// Keeps a record.
    pub fn push(&mut self, arrival: Arrival, value: &[u8], links: SmallVec<[Link; 1]>) {
        let Position { epoch, partition, offset } = arrival.position;
        if self.bytes_max == 0 {
            let part = self.parts.entry((epoch, partition)).or_default();
            part.end = offset + 1;
            // Who has seen a number can tell that something came since.
            self.oldest += 1;
            return part.give_up(&arrival);
        }
        let number = self.next_number();
        let part =
            self.parts.entry((epoch, partition)).or_insert_with(|| Part { first: offset, ..Part::default() });
        part.end = offset + 1;
        if part.unmarked == 0 {
            part.marks.push_back((offset, number));
        }
        part.unmarked = (part.unmarked + 1) % MARK_EVERY;
        let record = Record { arrival, value: value.into(), links };
        self.bytes += record.bytes();
        self.records.push_back(record);
        self.trim(arrival.now_ms);
    }

    /// Gives up what is too old, or too much.
    pub fn trim(&mut self, now_ms: u64) {
        while let Some(oldest) = self.records.front()
            && (self.bytes > self.bytes_max || oldest.arrival.now_ms + self.age_max_ms < now_ms)
        {
            self.bytes -= oldest.bytes();
            let arrival = oldest.arrival;
            let Position { epoch, partition, .. } = arrival.position;
            self.records.pop_front();
            self.oldest += 1;
            if let Some(part) = self.parts.get_mut(&(epoch, partition)) {
                part.give_up(&arrival);
                while part.marks.front().is_some_and(|(_, number)| *number < self.oldest) {
                    part.marks.pop_front();
                }
            }
        }
    }

    /// Forgets a topic that is gone.
    pub fn forget(&mut self, epoch: u32) {
        self.parts.retain(|(of, _), _| *of != epoch);
    }

    /// Whether everything that a partition held from `next` on is here.
    pub fn reaches(&self, next: Position) -> bool {
        self.parts.get(&(next.epoch, next.partition)).is_some_and(|part| part.first <= next.offset)
    }

    /// Whether a partition is read that has not been read as far as `at`.
    pub fn is_before(&self, at: Position) -> bool {
        self.parts.get(&(at.epoch, at.partition)).is_some_and(|part| part.end <= at.offset)
    }

    /// From where on a partition is kept.
    pub fn first(&self, position: Position) -> u64 {
        self.parts.get(&(position.epoch, position.partition)).map_or(0, |part| part.first)
    }

    /// Where these partitions hold the first record of `since_ns` or later, nanoseconds since the Unix epoch, and whether
    /// none of those that are gone may be as late. Goes through all records.
    pub fn since(&self, partitions: &[Position], since_ns: i64) -> Vec<(Position, bool)> {
        /// What is found of a partition: the time of its oldest record, the first that is late enough, the end.
        struct Found {
            first: u64,
            oldest_ns: Option<i64>,
            late: Option<u64>,
            end: Option<u64>,
        }
        let nothing =
            |at: &Position| Found { first: self.first(*at), oldest_ns: None, late: None, end: None };
        let mut found: FxHashMap<(u32, u32), Found> =
            partitions.iter().map(|at| ((at.epoch, at.partition), nothing(at))).collect();
        for Record { arrival, .. } in self.records.iter() {
            let Position { epoch, partition, offset } = arrival.position;
            let Some(found) = found.get_mut(&(epoch, partition)).filter(|found| offset >= found.first) else {
                continue;
            };
            found.oldest_ns.get_or_insert(arrival.append_ns);
            found.end = Some(offset + 1);
            if arrival.append_ns >= since_ns {
                found.late.get_or_insert(offset);
            }
        }
        let of_partition = |at: &Position| {
            let found = found.get(&(at.epoch, at.partition))?;
            let part = self.parts.get(&(at.epoch, at.partition))?;
            // Nothing is known of what was never read: most often, times ascend.
            let before_ns = part.gone_ns.or(found.oldest_ns);
            let is_whole = part.first == 0 || before_ns.is_some_and(|before_ns| before_ns < since_ns);
            let offset = if is_whole { found.late.or(found.end) } else { None };
            Some((Position { offset: offset.unwrap_or(part.first), ..*at }, is_whole))
        };
        partitions.iter().filter_map(of_partition).collect()
    }

    /// From where on every partition is kept.
    pub fn firsts(&self) -> impl Iterator<Item = Position> {
        let parts = self.parts.iter();
        parts.map(|((epoch, partition), part)| Position {
            epoch: *epoch,
            partition: *partition,
            offset: part.first,
        })
    }

    /// Whether a topic is read.
    pub fn knows(&self, epoch: u32) -> bool {
        self.parts.keys().any(|(of, _)| *of == epoch)
    }

    /// The partitions of a topic that are read.
    pub fn partitions(&self, epoch: u32) -> impl Iterator<Item = u32> {
        self.parts.keys().filter(move |(of, _)| *of == epoch).map(|(_, partition)| *partition)
    }

    /// A number at or before that of the first record of a partition that is at or behind `next`.
    pub fn number_of(&self, next: Position) -> u64 {
        let Some(part) = self.parts.get(&(next.epoch, next.partition)) else { return self.next_number() };
        let behind = part.marks.partition_point(|(offset, _)| *offset <= next.offset);
        match behind.checked_sub(1) {
            Some(at) => part.marks[at].1,
            None => self.oldest,
        }
    }

    /// A record by its number, if it is still kept.
    pub fn get(&self, number: u64) -> Option<&Record> {
        self.records.get(usize::try_from(number.checked_sub(self.oldest)?).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn arrival(partition: u32, offset: u64, now_ms: u64) -> Arrival {
        let position = Position { epoch: 1, partition, offset };
        Arrival { position, append_ns: 0, ingest_ns: 0, now_ms }
    }

    /// The records were one table, which doubled: while it did, it held half as much again as was counted of it.
    #[test]
    fn nothing_doubles() {
        let mut ring = Ring::new(1 << 30, 1_000);
        for offset in 0..10_000 {
            ring.push(arrival(0, offset, 0), b"", SmallVec::new());
            let chunks = ring.records.chunks.iter().chain(&ring.records.spare);
            let room: usize = chunks.map(|chunk| chunk.capacity()).sum();
            assert!(room <= ring.records.len + 2 * CHUNK, "room for {room} of {}", ring.records.len);
        }
        let records = 10_000 * size_of::<Record>();
        assert!(ring.bytes() >= records && ring.bytes() < records + records / 4, "{}", ring.bytes());
        ring.trim(2_000);
        assert_eq!((ring.bytes(), ring.records.chunks.len()), (0, 0));
    }

    proptest! {
        /// Against a plain list: whatever it says that it reaches is there, and nothing outlives its bounds.
        #[test]
        fn keeps_what_it_says(steps in proptest::collection::vec((0..3_u32, 1..3_u64, 0..50_u64, 0..400_usize), 1..600)) {
            let mut ring = Ring::new(20_000, 900);
            let mut all = Vec::new();
            let mut next = [5_u64; 3];
            let mut now_ms = 0;
            (0..3).for_each(|partition| ring.begin(Position { epoch: 1, partition, offset: 5 }));
            for (partition, skip, passed_ms, bytes) in steps {
                now_ms += passed_ms;
                // Offsets may have holes.
                let offset = next[partition as usize] + skip - 1;
                next[partition as usize] = offset + 1;
                let arrival = arrival(partition, offset, now_ms);
                all.push(arrival);
                ring.push(arrival, &vec![b'x'; bytes], SmallVec::new());
                prop_assert!(ring.bytes() <= 20_000);
                prop_assert_eq!(ring.next_number(), all.len() as u64);
            }
            for (partition, end) in next.iter().enumerate() {
                for offset in 0..*end {
                    let from = Position { epoch: 1, partition: partition as u32, offset };
                    let is_it = |a: &Arrival| a.position.partition == from.partition && a.position.offset >= offset;
                    let wanted: Vec<u64> = (0..).zip(&all).filter(|(_, a)| is_it(a)).map(|(n, _)| n).collect();
                    let is_here = |n: &u64| ring.get(*n).is_some_and(|r| r.arrival.position == all[*n as usize].position);
                    if ring.reaches(from) {
                        prop_assert!(wanted.iter().all(is_here));
                        prop_assert!(wanted.first().is_none_or(|first| ring.number_of(from) <= *first));
                        prop_assert!(wanted.iter().all(|n| all[*n as usize].now_ms + 900 >= now_ms));
                    } else if offset >= 5 {
                        prop_assert!(!wanted.iter().all(is_here), "it reaches {from}");
                    }
                }
            }
        }
    }
}
