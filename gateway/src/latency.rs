//! How long each leg of the way took: one HDR histogram per stage and hot thread, published to the [`Board`].
//!
//! A hot thread owns a [`Recorder`]: recording is one index computation into cells of its own, with no lock, no
//! atomic and no allocation. A few times a second it adds what it has to the cumulative histograms on the board and
//! starts again from zero. Whoever wants "the last ten seconds" subtracts two copies of the cumulative ones, as
//! [`LatencyWindow`] does.
//!
//! Two significant digits: a cell is at most 0.8 % wide, which is finer than any difference that a decision hangs
//! on, and the histograms of a thread take 180 KB and are published in some 20 µs. Three digits would take 1.3 MB a
//! thread and push the outboxes out of the cache at every publication. Measurements that need more digits come from
//! the load generator, which keeps three.

mod cells;
mod hgrm;

use crate::stats::Board;
use cells::Cells;
use hdrhistogram::Histogram;
use std::collections::VecDeque;

/// Whether latencies are measured at all: always, but for the benchmark that tells what it costs.
pub(crate) const IS_MEASURED: bool = !cfg!(feature = "uninstrumented");
/// Values below this share cells, in nanoseconds: twice a clock read.
const LOWEST_NS: u64 = 128;
/// Values above this are recorded as this, in nanoseconds: 68.7 s, the top of the range that holds one minute.
pub const HIGHEST_NS: u64 = (1 << 36) - 1;
/// Significant decimal digits of a recorded value.
const DIGITS: u8 = 2;

/// A measured leg of the way of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Stage {
    /// Kafka's append (or the producer's) timestamp, which has milliseconds, to the record in the gateway's hands.
    AppendToIngest,
    /// Record in hand to decoded tick.
    IngestToDecoded,
    /// Decoded tick to the outbox: encoding, the way to the shard, its queue.
    DecodedToOffered,
    /// Outbox to the last byte handed to the kernel.
    OfferedToWritten,
    /// The same, of those events alone that had to wait as their socket refused bytes.
    QueueWait,
    /// All of the gateway's own time.
    IngestToWritten,
    /// Venue clock to the last byte handed to the kernel: needs synchronised clocks.
    EventToWritten,
    /// `send_ns`, the time at which the producer meant to send, to the last byte handed to the kernel.
    SendToWritten,
}

impl Stage {
    /// Every stage, in the order of the way.
    pub const ALL: [Self; 8] = [
        Self::AppendToIngest,
        Self::IngestToDecoded,
        Self::DecodedToOffered,
        Self::OfferedToWritten,
        Self::QueueWait,
        Self::IngestToWritten,
        Self::EventToWritten,
        Self::SendToWritten,
    ];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The name as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::AppendToIngest => "append_to_ingest",
            Self::IngestToDecoded => "ingest_to_decoded",
            Self::DecodedToOffered => "decoded_to_offered",
            Self::OfferedToWritten => "offered_to_written",
            Self::QueueWait => "queue_wait",
            Self::IngestToWritten => "ingest_to_written",
            Self::EventToWritten => "event_to_written",
            Self::SendToWritten => "send_to_written",
        }
    }
}

/// One stage: its histogram and what a histogram cannot hold.
#[derive(Debug, Clone)]
struct StageRecord {
    histogram: Histogram<u64>,
    /// Exact sum of the recorded values. 64 bits would last six minutes of ten-second latencies at full rate.
    sum_ns: u128,
    negative: Negative,
    over_range: u64,
}

/// Values below zero: the two clocks of a stage disagree by at least this much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Negative {
    /// How many there were. They are in no histogram, count or sum.
    pub count: u64,
    /// Their sizes added up, in nanoseconds.
    pub sum_ns: u128,
    /// The size of the largest, in nanoseconds.
    pub largest_ns: u64,
}

impl Negative {
    fn add(&mut self, more: Self) {
        self.count += more.count;
        self.sum_ns += more.sum_ns;
        self.largest_ns = self.largest_ns.max(more.largest_ns);
    }
}

/// The latencies of every stage.
#[derive(Debug, Clone)]
pub struct StageHistograms {
    stages: [StageRecord; Stage::COUNT],
}

impl Default for StageHistograms {
    fn default() -> Self {
        Self::new()
    }
}

impl StageHistograms {
    /// Empty histograms, with all the memory they will ever need.
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, DIGITS)
            .expect("the bounds are constants that the histogram accepts");
        let record = StageRecord { histogram, sum_ns: 0, negative: Negative::default(), over_range: 0 };
        Self { stages: std::array::from_fn(|_| record.clone()) }
    }

    /// Adds everything that `other` holds.
    pub fn merge(&mut self, other: &Self) {
        for (into, from) in self.stages.iter_mut().zip(&other.stages) {
            into.histogram.add(&from.histogram).expect("all have the same bounds");
            into.sum_ns += from.sum_ns;
            into.negative.add(from.negative);
            into.over_range += from.over_range;
        }
    }

    /// What was recorded after `earlier`, a former copy of the same histograms. The largest negative value is that
    /// of all time.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut rest = self.clone();
        for (rest, earlier) in rest.stages.iter_mut().zip(&earlier.stages) {
            rest.histogram.subtract(&earlier.histogram).expect("counts only grow");
            rest.sum_ns -= earlier.sum_ns;
            rest.negative.count -= earlier.negative.count;
            rest.negative.sum_ns -= earlier.negative.sum_ns;
            rest.over_range -= earlier.over_range;
        }
        rest
    }

    /// How many values a stage holds, negative ones apart.
    pub fn count(&self, stage: Stage) -> u64 {
        self.of(stage).histogram.len()
    }

    /// The sum of the values of a stage in nanoseconds, negative ones apart.
    pub fn sum_ns(&self, stage: Stage) -> u128 {
        self.of(stage).sum_ns
    }

    /// The values of a stage that were below zero.
    pub fn negative(&self, stage: Stage) -> Negative {
        self.of(stage).negative
    }

    /// How many values of a stage were over [`HIGHEST_NS`].
    pub fn over_range(&self, stage: Stage) -> u64 {
        self.of(stage).over_range
    }

    /// The value in nanoseconds that a fraction `quantile` of the values of a stage do not exceed, rounded up to the
    /// end of its cell; `None` without values. 1.0 is the largest value.
    pub fn quantile_ns(&self, stage: Stage, quantile: f64) -> Option<u64> {
        let histogram = &self.of(stage).histogram;
        (!histogram.is_empty()).then(|| histogram.value_at_quantile(quantile).min(HIGHEST_NS))
    }

    /// How many values of a stage are certainly at or below each of the ascending `edges_ns`: a cell that an edge
    /// cuts counts above it, so that a bucket never flatters.
    pub fn cumulative<const N: usize>(&self, stage: Stage, edges_ns: &[u64; N]) -> [u64; N] {
        let mut counts = [0; N];
        let histogram = &self.of(stage).histogram;
        for cell in histogram.iter_recorded() {
            let top = histogram.highest_equivalent(cell.value_iterated_to());
            let first = edges_ns.partition_point(|edge| *edge < top);
            if let Some(count) = counts.get_mut(first) {
                *count += cell.count_at_value();
            }
        }
        for edge in 1..N {
            counts[edge] += counts[edge - 1];
        }
        counts
    }

    /// The memory that one of these takes, in bytes.
    pub fn memory_bytes() -> usize {
        let record = &Self::new().stages[0];
        Stage::COUNT * (record.histogram.distinct_values() * size_of::<u64>() + size_of::<StageRecord>())
    }

    fn of(&self, stage: Stage) -> &StageRecord {
        &self.stages[stage as usize]
    }
}

/// The latencies that one hot thread records. It owns this; nobody else reads it.
#[derive(Debug)]
pub struct Recorder {
    stages: [Cells; Stage::COUNT],
    recorded: [bool; Stage::COUNT],
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// An empty recorder, with all the memory it will ever need.
    pub fn new() -> Self {
        Self { stages: std::array::from_fn(|_| Cells::new()), recorded: [false; Stage::COUNT] }
    }

    /// The memory that one of these takes, in bytes.
    pub fn memory_bytes() -> usize {
        size_of::<Self>() + Stage::COUNT * Cells::BYTES
    }

    /// Records `n` events that took `ns` each.
    ///
    /// A negative time is counted apart, as [`Negative`]; one over [`HIGHEST_NS`] goes into the top cell, is counted
    /// in [`StageHistograms::over_range`] and enters the sum at its full size.
    #[inline]
    pub fn record_n(&mut self, stage: Stage, ns: i64, n: u64) {
        if !IS_MEASURED {
            return;
        }
        self.recorded[stage as usize] = true;
        self.stages[stage as usize].record_n(ns, n);
    }

    /// Records one event that took `ns`.
    #[inline]
    pub fn record(&mut self, stage: Stage, ns: i64) {
        self.record_n(stage, ns, 1);
    }

    /// Adds what was recorded since the last call to the entry of `thread` on the board: a shard's number, or the
    /// number after the last shard for the feed. Does nothing when nothing was recorded.
    pub fn publish(&mut self, board: &Board, thread: usize) {
        if self.recorded.contains(&true) {
            self.empty_into(&mut board.latency(thread));
        }
    }

    fn empty_into(&mut self, into: &mut StageHistograms) {
        let stages = self.stages.iter_mut().zip(&mut into.stages);
        for ((cells, into), recorded) in stages.zip(&mut self.recorded) {
            // Most threads record half of the stages.
            if std::mem::take(recorded) {
                cells.empty_into(into);
            }
        }
    }
}

/// The latencies of about the last ten seconds, from copies of the cumulative ones taken every two seconds.
#[derive(Debug)]
pub struct LatencyWindow {
    /// When each copy was taken, in monotonic nanoseconds, and the copy; oldest first.
    copies: VecDeque<(u64, StageHistograms)>,
}

impl LatencyWindow {
    /// How far the window reaches back, in nanoseconds; it is up to one [`LatencyWindow::STEP_NS`] longer.
    pub const LENGTH_NS: u64 = 10_000_000_000;
    /// How often a copy is kept, in nanoseconds.
    pub const STEP_NS: u64 = 2_000_000_000;

    /// A window that starts now, at `now_ns` of the monotonic clock, when nothing was recorded yet.
    pub fn new(now_ns: u64) -> Self {
        Self { copies: VecDeque::from([(now_ns, StageHistograms::new())]) }
    }

    /// Takes a copy if the last one is old enough. Call it at least every [`LatencyWindow::STEP_NS`].
    pub fn observe(&mut self, now_ns: u64, cumulative: &StageHistograms) {
        if self.copies.back().is_some_and(|(taken_ns, _)| now_ns.saturating_sub(*taken_ns) < Self::STEP_NS) {
            return;
        }
        // The second copy becomes the start of the window as soon as it is old enough.
        while self
            .copies
            .get(1)
            .is_some_and(|(taken_ns, _)| now_ns.saturating_sub(*taken_ns) >= Self::LENGTH_NS)
        {
            self.copies.pop_front();
        }
        self.copies.push_back((now_ns, cumulative.clone()));
    }

    /// What was recorded within the window, and how long the window is in nanoseconds.
    pub fn since_start(&self, now_ns: u64, cumulative: &StageHistograms) -> (StageHistograms, u64) {
        let start = self
            .copies
            .iter()
            .rev()
            .find(|(taken_ns, _)| now_ns.saturating_sub(*taken_ns) >= Self::LENGTH_NS);
        let (taken_ns, earlier) = start.or(self.copies.front()).expect("a window always has its start");
        (cumulative.since(earlier), now_ns.saturating_sub(*taken_ns))
    }
}

/// The cumulative latencies of all threads of a board.
pub fn total(board: &Board) -> StageHistograms {
    let mut total = StageHistograms::new();
    for thread in 0..=board.thread_count() {
        // A copy first: the lock is held for a memory copy, never for a merge, as a hot thread may be waiting for it.
        let copy = board.latency(thread).clone();
        total.merge(&copy);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn histograms(values: &[(Stage, i64, u64)]) -> StageHistograms {
        let (mut recorder, mut histograms) = (Recorder::new(), StageHistograms::new());
        values.iter().for_each(|(stage, ns, n)| recorder.record_n(*stage, *ns, *n));
        recorder.empty_into(&mut histograms);
        assert!(recorder.stages.iter().all(|cells| cells.is_empty()), "it starts again from zero");
        histograms
    }

    #[test]
    fn a_cell_is_at_most_one_percent_wide() {
        for ns in [100_000, 1_000_000, 123_456_789, 9_876_543_210] {
            let histograms = histograms(&[(Stage::IngestToWritten, ns, 1)]);
            let read = histograms.quantile_ns(Stage::IngestToWritten, 1.0).expect("a value") as f64;
            let error = (read - ns as f64) / ns as f64;
            assert!((0.0..0.01).contains(&error), "{ns} read as {read}");
        }
    }

    #[test]
    fn a_negative_time_is_counted_apart_and_never_clamped() {
        let stage = Stage::EventToWritten;
        let histograms = histograms(&[(stage, -5, 2), (stage, -9, 1), (stage, i64::MIN, 1)]);
        assert_eq!(
            histograms.negative(Stage::EventToWritten),
            Negative { count: 4, sum_ns: (1 << 63) + 19, largest_ns: 1 << 63 }
        );
        assert_eq!(histograms.count(Stage::EventToWritten), 0);
        assert_eq!(histograms.sum_ns(Stage::EventToWritten), 0);
        assert_eq!(histograms.quantile_ns(Stage::EventToWritten, 0.5), None);
    }

    #[test]
    fn a_time_over_the_range_saturates_and_is_counted() {
        let histograms = histograms(&[(Stage::EventToWritten, i64::MAX, 3)]);
        assert_eq!(histograms.over_range(Stage::EventToWritten), 3);
        assert_eq!(histograms.count(Stage::EventToWritten), 3);
        assert_eq!(histograms.quantile_ns(Stage::EventToWritten, 0.5), Some(HIGHEST_NS));
        assert_eq!(histograms.sum_ns(Stage::EventToWritten), 3 * i64::MAX as u128);
        assert_eq!(histograms.cumulative(Stage::EventToWritten, &[10_000_000_000]), [0]);
    }

    #[test]
    fn what_is_published_is_cumulative_and_the_recorder_starts_again() {
        let board = Board::new(2);
        let mut recorder = Recorder::new();
        recorder.record_n(Stage::OfferedToWritten, 1_000, 10);
        recorder.record(Stage::OfferedToWritten, -1);
        recorder.publish(&board, 1);
        recorder.record(Stage::OfferedToWritten, 2_000_000);
        recorder.publish(&board, 1);
        recorder.publish(&board, 1);
        let mut feed = Recorder::new();
        feed.record(Stage::AppendToIngest, 5);
        feed.publish(&board, 2);

        let total = total(&board);
        assert_eq!(total.count(Stage::OfferedToWritten), 11);
        assert_eq!(total.sum_ns(Stage::OfferedToWritten), 2_010_000);
        assert_eq!(total.negative(Stage::OfferedToWritten), Negative { count: 1, sum_ns: 1, largest_ns: 1 });
        assert_eq!(total.count(Stage::AppendToIngest), 1);
        assert_eq!(board.latency(0).count(Stage::OfferedToWritten), 0);
    }

    #[test]
    fn the_window_forgets_what_is_older_than_itself() {
        const S: u64 = 1_000_000_000;
        let mut cumulative = histograms(&[(Stage::IngestToWritten, 50_000_000, 1)]);
        let mut window = LatencyWindow::new(0);
        let (early, length_ns) = window.since_start(S, &cumulative);
        assert_eq!(
            (early.count(Stage::IngestToWritten), length_ns),
            (1, S),
            "before ten seconds: since the start"
        );

        for second in 1..=13 {
            window.observe(second * S, &cumulative);
            cumulative.merge(&histograms(&[(Stage::IngestToWritten, 1_000, 1)]));
        }
        let (late, length_ns) = window.since_start(13 * S, &cumulative);
        assert!((10 * S..=12 * S).contains(&length_ns), "{length_ns}");
        // The copy of second 2 was taken before that second's value.
        assert_eq!(late.count(Stage::IngestToWritten), length_ns / S + 1);
        assert!(late.quantile_ns(Stage::IngestToWritten, 1.0) < Some(2_000), "the first value is gone");
        assert!(window.copies.len() <= 7, "{}", window.copies.len());
    }

    #[test]
    fn the_memory_of_a_thread_is_what_the_module_says() {
        for bytes in [StageHistograms::memory_bytes(), Recorder::memory_bytes()] {
            assert!((150_000..200_000).contains(&bytes), "{bytes}");
        }
    }

    proptest! {
        #[test]
        fn buckets_add_up_and_differences_are_exact(
            first in prop::collection::vec((0..7usize, -1_000_000..120_000_000_000i64, 1..50u64), 0..60),
            second in prop::collection::vec((0..7usize, -1_000_000..120_000_000_000i64, 1..50u64), 0..60),
        ) {
            let edges = [50_000, 1_000_000, 1_000_000_000];
            let of = |values: &[(usize, i64, u64)]| {
                let values: Vec<_> = values.iter().map(|(stage, ns, n)| (Stage::ALL[*stage], *ns, *n)).collect();
                histograms(&values)
            };
            let (a, b, all) = (of(&first), of(&second), of(&[first, second].concat()));
            let mut merged = a.clone();
            merged.merge(&b);
            let rest = merged.since(&a);
            for stage in Stage::ALL {
                prop_assert_eq!(merged.count(stage), all.count(stage));
                prop_assert_eq!(merged.sum_ns(stage), all.sum_ns(stage));
                prop_assert_eq!(rest.count(stage), b.count(stage));
                prop_assert_eq!(rest.negative(stage).count, b.negative(stage).count);
                prop_assert_eq!(rest.quantile_ns(stage, 0.99), b.quantile_ns(stage, 0.99));
                let (of_a, of_b, of_all) =
                    (a.cumulative(stage, &edges), b.cumulative(stage, &edges), all.cumulative(stage, &edges));
                for edge in 0..edges.len() {
                    prop_assert_eq!(of_a[edge] + of_b[edge], of_all[edge]);
                }
                prop_assert!(of_all.is_sorted());
                prop_assert!(of_all[2] <= all.count(stage));
            }
        }
    }
}
