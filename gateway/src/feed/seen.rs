//! Since when each record is there, as far as anybody can tell: what decides when those may see it who see everything late.
//!
//! Kafka's timestamps are what producers say, unless a topic is set to `LogAppendTime`. So what comes while the gateway
//! watches counts as there since the live feed had it, whatever it says of itself. Only of what was there before does its
//! timestamp count, and of that nothing that lies behind the moment at which the gateway first saw the partition.
//!
//! Only the monotonic clock is asked: whoever sets the other one gives nothing away.

use crate::clock;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tickgate_protocol::Position;

/// Looks that are kept of a partition, for the longest delay.
const LOOKS: u64 = 1_000;
/// The shortest and the longest time between two looks that are kept, in milliseconds: so much later than need be a record may
/// come.
const STEP_MS: (u64, u64) = (100, 5_000);

/// How far the live feed had read each partition, and when.
#[derive(Debug)]
pub struct Seen {
    longest_ms: u64,
    step_ms: u64,
    partitions_max: usize,
    /// The wall clock minus the monotonic one, when the gateway started.
    wall_ahead_ns: i64,
    /// Those that are read late, by whichever tier met them first: all tiers read the same. `None` while the live feed has not
    /// met one.
    partitions: Mutex<FxHashMap<(u32, u32), Option<Partition>>>,
}

#[derive(Debug)]
struct Partition {
    /// When it was first seen, monotonic milliseconds.
    began_ms: u64,
    /// What stands before this offset was there by then.
    old_end: u64,
    /// When the feed was looked at, monotonic milliseconds, and what it was to read next; both ascend.
    looks: VecDeque<(u64, u64)>,
}

/// What of a partition is due at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    old_end: u64,
    /// What stands before this offset was seen a delay ago, if it is not of the old.
    seen_end: u64,
    /// A delay ago, monotonic nanoseconds.
    ago_ns: i64,
    began_ns: i64,
    wall_ahead_ns: i64,
}

impl Seen {
    /// Nothing yet, to be kept for delays of up to `longest_ms` milliseconds and for so many partitions.
    pub fn new(longest_ms: u64, partitions_max: usize) -> Self {
        Self {
            longest_ms,
            step_ms: step_ms(longest_ms),
            partitions_max,
            wall_ahead_ns: clock::wall_ns() - ns(clock::mono_ms()),
            partitions: Mutex::default(),
        }
    }

    /// The most that it holds of one partition, in bytes, for delays of up to `longest_ms` milliseconds.
    pub fn partition_bytes(longest_ms: u64) -> u64 {
        let looks = longest_ms / step_ms(longest_ms) + 2;
        // A queue keeps up to as many places free as taken, a table as well.
        2 * looks * size_of::<(u64, u64)>() as u64 + 2 * size_of::<((u32, u32), Option<Partition>)>() as u64
    }

    /// Takes a place for a partition, if it has none; says whether it has one then. There are only so many, and what has none
    /// is never due to anybody.
    pub fn take_place(&self, epoch: u32, partition: u32) -> bool {
        let mut partitions = self.lock();
        let has_room = partitions.len() < self.partitions_max;
        match partitions.entry((epoch, partition)) {
            Entry::Occupied(_) => true,
            Entry::Vacant(place) if has_room => {
                place.insert(None);
                true
            }
            Entry::Vacant(_) => false,
        }
    }

    /// A partition is seen for the first time. What stands before `old_end` was there before anybody watched.
    pub fn begin(&self, old_end: Position, now_ms: u64) {
        if !self.take_place(old_end.epoch, old_end.partition) {
            return;
        }
        if let Some(place) = self.lock().get_mut(&(old_end.epoch, old_end.partition)) {
            place.get_or_insert_with(|| Partition::new(now_ms, old_end.offset));
        }
    }

    /// The live feed has read so far. It begins only what is assigned to it: what was forgotten since, because another tier
    /// took an old answer for a topic made anew, begins here, with nothing old and all of it as young as this look.
    pub fn look(&self, next: &[Position], now_ms: u64) {
        let mut partitions = self.lock();
        for next in next {
            let Some(place) = partitions.get_mut(&(next.epoch, next.partition)) else { continue };
            let looks = &mut place.get_or_insert_with(|| Partition::new(now_ms, 0)).looks;
            match looks.back_mut() {
                Some((_, end)) if next.offset <= *end => {}
                Some((at_ms, end)) if *at_ms / self.step_ms == now_ms / self.step_ms => {
                    // Later than some of it came, never earlier.
                    (*at_ms, *end) = (now_ms, next.offset);
                }
                _ => looks.push_back((now_ms, next.offset)),
            }
            while looks.get(1).is_some_and(|(at_ms, _)| at_ms + self.longest_ms < now_ms) {
                looks.pop_front();
            }
        }
    }

    /// A topic is gone.
    pub fn forget(&self, epoch: u32) {
        self.lock().retain(|(of, _), _| *of != epoch);
    }

    /// What of a partition is due to those who see it `delay_ms` milliseconds late; `None` while the live feed does not know
    /// it: then nothing is.
    pub fn horizon(&self, epoch: u32, partition: u32, delay_ms: u64, now_ms: u64) -> Option<Horizon> {
        let partitions = self.lock();
        let Partition { began_ms, old_end, looks } = partitions.get(&(epoch, partition))?.as_ref()?;
        // Milliseconds are rounded down: what was seen in the same one may be up to one younger.
        let ago_ns = ns(now_ms) - ns(delay_ms + 1);
        let behind = looks.partition_point(|(at_ms, _)| ns(*at_ms) <= ago_ns);
        let seen_end = behind.checked_sub(1).map_or(0, |last| looks[last].1);
        let (old_end, began_ns) = (*old_end, ns(*began_ms));
        Some(Horizon { old_end, seen_end, ago_ns, began_ns, wall_ahead_ns: self.wall_ahead_ns })
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<(u32, u32), Option<Partition>>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Partition {
    fn new(began_ms: u64, old_end: u64) -> Self {
        Self { began_ms, old_end, looks: VecDeque::new() }
    }
}

impl Horizon {
    /// Whether the record at an offset is due, which says of itself that it was appended at a time, in milliseconds since the
    /// Unix epoch; negative when it says nothing.
    pub fn is_due(&self, offset: u64, timestamp_ms: i64) -> bool {
        if offset >= self.old_end {
            return offset < self.seen_end;
        }
        let came_ns = match timestamp_ms {
            ..=0 => self.began_ns,
            // Rounded down, too.
            ms => ms
                .saturating_add(1)
                .saturating_mul(1_000_000)
                .saturating_sub(self.wall_ahead_ns)
                .min(self.began_ns),
        };
        came_ns <= self.ago_ns
    }
}

fn step_ms(longest_ms: u64) -> u64 {
    (longest_ms / LOOKS).clamp(STEP_MS.0, STEP_MS.1)
}

fn ns(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::num::NonZeroU64;

    /// What the monotonic clock says when a test begins.
    const START_MS: u64 = 10_000_000;

    fn at(offset: u64) -> Position {
        Position { epoch: 7, partition: 2, offset }
    }

    /// One that was made when the clock said [`START_MS`], and the wall clock minus the monotonic one, in milliseconds.
    fn seen(longest_ms: u64) -> (Seen, i64) {
        clock::simulate(NonZeroU64::new(START_MS * 1_000_000).expect("not zero"));
        let seen = Seen::new(longest_ms, 10);
        let wall_ahead_ms = seen.wall_ahead_ns / 1_000_000;
        (seen, wall_ahead_ms)
    }

    fn is_due(seen: &Seen, offset: u64, timestamp_ms: i64, delay_ms: u64, now_ms: u64) -> bool {
        let horizon = seen.horizon(7, 2, delay_ms, now_ms).expect("it is known");
        horizon.is_due(offset, timestamp_ms)
    }

    #[test]
    fn a_timestamp_gives_nothing_away_that_came_while_the_gateway_watched() {
        let (seen, wall_ahead_ms) = seen(60_000);
        seen.begin(at(100), START_MS);
        seen.look(&[at(100)], START_MS + 250);
        seen.look(&[at(101)], START_MS + 1_000);
        for timestamp_ms in [-1, 0, 1, wall_ahead_ms, wall_ahead_ms + START_MS as i64 + 86_400_000, i64::MAX]
        {
            for (now_ms, expected) in [(1_001, false), (60_999, false), (61_000, false), (61_001, true)] {
                let found = is_due(&seen, 100, timestamp_ms, 60_000, START_MS + now_ms);
                assert_eq!(found, expected, "{timestamp_ms} after {now_ms} ms");
            }
            assert!(
                !is_due(&seen, 101, timestamp_ms, 0, START_MS + 900_000),
                "the live feed has not seen it"
            );
        }
    }

    #[test]
    fn of_what_was_there_before_the_timestamp_counts() {
        let (seen, wall_ahead_ms) = seen(60_000);
        seen.begin(at(100), START_MS);
        let start_ms = wall_ahead_ms + START_MS as i64;
        for (timestamp_ms, after_ms) in [
            (start_ms - 90_000, None),
            (start_ms - 59_000, Some(1_002)),
            (start_ms - 1, Some(60_001)),
            // Nobody can have appended it later than it was seen.
            (start_ms + 1, Some(60_001)),
            (i64::MAX, Some(60_001)),
            // It says nothing.
            (-1, Some(60_001)),
            (0, Some(60_001)),
        ] {
            let due_at = |after_ms| is_due(&seen, 99, timestamp_ms, 60_000, START_MS + after_ms);
            match after_ms {
                None => assert!(due_at(0), "{timestamp_ms}"),
                Some(after_ms) => {
                    assert_eq!((due_at(after_ms - 1), due_at(after_ms)), (false, true), "{timestamp_ms}");
                }
            }
        }
    }

    #[test]
    fn a_partition_that_the_live_feed_does_not_know_has_nothing_due() {
        let (seen, _) = seen(1_000);
        assert_eq!(seen.horizon(7, 2, 1_000, START_MS), None);
        seen.begin(at(0), START_MS);
        assert!(seen.horizon(7, 2, 1_000, START_MS).is_some());
        // Seen again, as after a while out of sight: what came meanwhile is not old.
        seen.begin(at(50), START_MS + 10);
        assert!(!is_due(&seen, 10, 1, 1_000, START_MS + 5_000));
        seen.forget(7);
        assert_eq!(seen.horizon(7, 2, 1_000, START_MS), None);
        (0..20).for_each(|partition| seen.begin(Position { epoch: 1, partition, offset: 0 }, START_MS));
        let known = (0..20).filter(|partition| seen.horizon(1, *partition, 1, START_MS).is_some()).count();
        assert_eq!(known, 10, "it is bounded");
    }

    /// The live feed and those that read late each kept the first partitions that they met. With more of them than there may
    /// be these were not the same, and of one that only the latter had nothing ever came, while it counted as read.
    #[test]
    fn all_tiers_have_the_same_partitions_whoever_meets_one_first() {
        let (seen, _) = seen(1_000);
        let at = |partition| Position { epoch: 1, partition, offset: 0 };
        let late: Vec<u32> = (5..20).filter(|partition| seen.take_place(1, *partition)).collect();
        assert_eq!(late, (5..15).collect::<Vec<_>>());
        assert_eq!(seen.horizon(1, 5, 1_000, START_MS + 9_000), None, "the live feed has not met it");
        (0..20).for_each(|partition| seen.begin(at(partition), START_MS));
        let live = (0..20).filter(|partition| seen.horizon(1, *partition, 1_000, START_MS).is_some());
        assert_eq!(live.collect::<Vec<_>>(), late);
        assert!(late.iter().all(|partition| seen.take_place(1, *partition)), "it has its place already");
        // A topic that was made anew finds room when the old one is forgotten.
        assert!(!seen.take_place(2, 0));
        seen.forget(1);
        assert!(seen.take_place(2, 0));
    }

    /// Metadata of a broker that lagged made one that reads late take a topic for the one before it, and then for a new one:
    /// it forgot what the live feed knew of it. The live feed had no reason to begin it again, and nothing more of that topic
    /// was ever due to anybody, without a word.
    #[test]
    fn what_another_tier_forgot_goes_on_with_the_next_look() {
        let (seen, wall_ahead_ms) = seen(1_000);
        seen.begin(at(100), START_MS);
        seen.look(&[at(120)], START_MS + 250);
        seen.forget(7);
        assert!(seen.take_place(7, 2));
        assert_eq!(seen.horizon(7, 2, 1_000, START_MS + 9_000), None, "the live feed has not looked");
        let looked_ms = START_MS + 10_000;
        seen.look(&[at(130)], looked_ms);
        // Old or not, whatever its timestamp says: since when it is there is not known any more.
        for (offset, timestamp_ms) in [(99, 1), (110, 1), (129, wall_ahead_ms)] {
            let due_at = |now_ms| is_due(&seen, offset, timestamp_ms, 1_000, now_ms);
            assert_eq!((due_at(looked_ms + 1_000), due_at(looked_ms + 1_001)), (false, true), "{offset}");
        }
        assert!(!is_due(&seen, 130, 1, 1_000, looked_ms + 9_000), "the live feed has not read it");
        // Of what has no place, nothing is kept.
        seen.forget(7);
        seen.look(&[at(140)], looked_ms + 250);
        assert!(seen.lock().is_empty());
    }

    proptest! {
        /// However records come and looks fall, none is due before it is a delay old, each is soon after, and what is kept is
        /// bounded.
        #[test]
        fn nothing_is_due_early_and_everything_soon(
            steps in proptest::collection::vec((1..3_000_u64, 0..4_u64, -100_000..100_000_i64), 1..300),
            delay_ms in 1..30_000_u64,
            more_ms in 0..60_000_u64,
            old_end in 0..20_u64,
        ) {
            let longest_ms = delay_ms + more_ms;
            let (seen, wall_ahead_ms) = seen(longest_ms);
            seen.begin(at(old_end), START_MS);
            // When each record came, of those behind the old ones.
            let mut came = Vec::new();
            let mut now_ms = START_MS;
            let mut given = 0;
            for (passed_ms, records, off_ms) in steps {
                came.extend((0..records).map(|_| (now_ms, wall_ahead_ms + now_ms as i64 + off_ms)));
                now_ms += passed_ms;
                seen.look(&[at(old_end + came.len() as u64)], now_ms);
                let horizon = seen.horizon(7, 2, delay_ms, now_ms).expect("it is known");
                for (offset, (came_ms, timestamp_ms)) in (old_end..).zip(&came) {
                    let is_due = horizon.is_due(offset, *timestamp_ms);
                    prop_assert!(!is_due || came_ms + delay_ms < now_ms, "{offset} is early");
                    // A look comes at the latest three seconds after it, and one of a step stands for all of it.
                    let late_ms = 3_000 + step_ms(longest_ms) + 1;
                    prop_assert!(is_due || came_ms + delay_ms + late_ms >= now_ms, "{offset} is late");
                    // In order: whoever waits for one waits for those behind it.
                    prop_assert!(!is_due || offset <= given, "{offset} before {given}");
                    given = given.max(offset + u64::from(is_due));
                }
                given = old_end.max(given);
                let kept = seen.lock().values().flatten().map(|partition| partition.looks.len()).max().unwrap_or(0);
                prop_assert!(kept as u64 <= longest_ms / step_ms(longest_ms) + 2, "{kept} looks");
            }
        }
    }
}
