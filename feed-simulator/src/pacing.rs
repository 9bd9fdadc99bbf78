//! When things are due: an absolute schedule, so that being late once does not make everything after it late too.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How fast the time of a stream passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// So many times as fast as it was recorded or modelled.
    Times(f64),
    /// Everything is due at once.
    Max,
}

impl std::str::FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.trim_end_matches('x').parse::<f64>() {
            Ok(times) if times > 0.0 && times <= 1e6 => Ok(Self::Times(times)),
            _ => Err("a factor such as 1, 10 or 0.5, at most 1000000, or `max`".to_owned()),
        }
    }
}

impl std::fmt::Display for Speed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Times(times) => write!(f, "{times}x"),
            Self::Max => f.write_str("max"),
        }
    }
}

/// Maps offsets in a stream to times of this machine. Wall and monotonic clock are read together once, at the start.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    speed: Speed,
    start: Instant,
    start_wall_ns: i64,
}

impl Schedule {
    /// A schedule whose offset zero is due now.
    pub fn starting_now(speed: Speed) -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { speed, start: Instant::now(), start_wall_ns: wall.as_nanos() as i64 }
    }

    /// When offset zero is due.
    pub fn start(&self) -> Instant {
        self.start
    }

    /// When an offset is due, in nanoseconds after the start; `None` when everything is due at once.
    pub fn due_ns(&self, offset_ns: u64) -> Option<u64> {
        match self.speed {
            Speed::Times(1.0) => Some(offset_ns),
            Speed::Times(times) => Some((offset_ns as f64 / times) as u64),
            Speed::Max => None,
        }
    }

    /// Nanoseconds since the start.
    pub fn elapsed_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// The wall clock at `elapsed_ns` after the start, in nanoseconds since the Unix epoch.
    pub fn wall_ns(&self, elapsed_ns: u64) -> i64 {
        self.start_wall_ns.saturating_add_unsigned(elapsed_ns)
    }

    /// Sleeps towards `due_ns`, at most for `at_most`; whether it is due now.
    pub fn wait(&self, due_ns: u64, at_most: Duration) -> bool {
        let now_ns = self.elapsed_ns();
        if now_ns >= due_ns {
            return true;
        }
        std::thread::sleep(Duration::from_nanos(due_ns - now_ns).min(at_most));
        self.elapsed_ns() >= due_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_factors_or_max() {
        assert_eq!("10".parse(), Ok(Speed::Times(10.0)));
        assert_eq!("0.5x".parse(), Ok(Speed::Times(0.5)));
        assert_eq!("max".parse(), Ok(Speed::Max));
        for bad in ["0", "-1", "", "fast", "inf", "NaN", "1e7"] {
            assert!(bad.parse::<Speed>().is_err(), "{bad}");
        }
    }

    #[test]
    fn offsets_shrink_with_the_speed() {
        let at = |speed| Schedule::starting_now(speed).due_ns(3_000_000_000);
        assert_eq!(at(Speed::Times(1.0)), Some(3_000_000_000));
        assert_eq!(at(Speed::Times(10.0)), Some(300_000_000));
        assert_eq!(at(Speed::Max), None);
    }

    #[test]
    fn what_was_due_is_not_waited_for() {
        let schedule = Schedule::starting_now(Speed::Times(1.0));
        assert!(schedule.wait(0, Duration::ZERO));
        assert!(!schedule.wait(3_600_000_000_000, Duration::ZERO));
    }
}
