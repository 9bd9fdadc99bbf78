//! The only place that reads clocks.

use nix::time::{ClockId, clock_gettime};
use std::time::{SystemTime, UNIX_EPOCH};

/// Wall clock, nanoseconds since the Unix epoch. It can jump: for timestamps, never for durations.
pub fn wall_ns() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns),
    }
}

/// Monotonic clock, nanoseconds since the machine started. For durations and deadlines.
#[inline]
pub fn mono_ns() -> u64 {
    // Half the instructions of `Instant`, which only gives differences. Every write reads it once.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux always has this clock");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// Monotonic clock in milliseconds.
pub fn mono_ms() -> u64 {
    mono_ns() / 1_000_000
}
