//! A bound on how often the same thing is logged: the first few of it within ten seconds, then how many more there were.

/// The span over which log lines are counted, in milliseconds.
const SPAN_MS: u64 = 10_000;

/// Counts what is logged of one kind.
#[derive(Debug)]
pub struct LogLimit {
    lines_max: u32,
    since_ms: u64,
    lines: u32,
}

/// What to do about a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Write it; so many were left out in the span before.
    Write {
        /// Lines left out.
        left_out: u32,
    },
    /// Leave it out.
    LeaveOut,
}

impl LogLimit {
    /// At most `lines_max` lines within ten seconds.
    pub fn new(lines_max: u32) -> Self {
        Self { lines_max, since_ms: 0, lines: 0 }
    }

    /// Whether a line may be written at `now_ms`, monotonic milliseconds.
    pub fn admit(&mut self, now_ms: u64) -> Verdict {
        let mut left_out = 0;
        if now_ms >= self.since_ms + SPAN_MS {
            left_out = self.lines.saturating_sub(self.lines_max);
            (self.since_ms, self.lines) = (now_ms, 0);
        }
        self.lines = self.lines.saturating_add(1);
        if self.lines <= self.lines_max { Verdict::Write { left_out } } else { Verdict::LeaveOut }
    }

    /// How many were left out that no line has told yet; told now.
    pub fn take_left_out(&mut self) -> u32 {
        let left_out = self.lines.saturating_sub(self.lines_max);
        self.lines -= left_out;
        left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_few_lines_and_a_number() {
        let mut limit = LogLimit::new(2);
        let write = |left_out| Verdict::Write { left_out };
        let verdicts: Vec<_> = [50_000, 50_001, 50_002, 59_999, 60_000].map(|ms| limit.admit(ms)).into();
        assert_eq!(verdicts, [write(0), write(0), Verdict::LeaveOut, Verdict::LeaveOut, write(2)]);
        assert_eq!(limit.take_left_out(), 0);
        (0..5).for_each(|_| _ = limit.admit(60_001));
        assert_eq!((limit.take_left_out(), limit.take_left_out()), (4, 0));
        assert_eq!(limit.admit(70_000), write(0));
    }
}
