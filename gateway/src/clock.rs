//! The only place that reads clocks.

use nix::time::{ClockId, clock_gettime};
use std::cell::Cell;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// How far [`wall_ns`] is moved, in nanoseconds.
static SHIFT_NS: AtomicI64 = AtomicI64::new(0);
/// What the wall clock of a simulation says when its monotonic clock says 0: 1 January 2026.
const SIMULATED_WALL_NS: i64 = 1_767_225_600_000_000_000;

thread_local! {
    /// What the monotonic clock of a simulation says.
    static SIMULATED_NS: Cell<Option<NonZeroU64>> = const { Cell::new(None) };
}

/// Lets the clocks of this thread stand at so many monotonic nanoseconds, until it is called again: for a simulation, in
/// which time passes as its seed says. Nothing of the gateway calls it.
pub fn simulate(mono_ns: NonZeroU64) {
    SIMULATED_NS.set(Some(mono_ns));
}

/// Wall clock, nanoseconds since the Unix epoch. It can jump: for timestamps, never for durations.
pub fn wall_ns() -> i64 {
    if let Some(ns) = SIMULATED_NS.get() {
        return SIMULATED_WALL_NS.saturating_add_unsigned(ns.get());
    }
    let ns = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns),
    };
    ns.saturating_add(SHIFT_NS.load(Ordering::Relaxed))
}

/// Moves the wall clock of this process by so much from what the system says, as somebody does who sets it: to try what
/// a jump does. Nothing of the gateway calls it.
pub fn shift_wall(ns: i64) {
    SHIFT_NS.store(ns, Ordering::Relaxed);
}

/// Monotonic clock, nanoseconds since the machine started. For durations and deadlines.
#[inline]
pub fn mono_ns() -> u64 {
    if let Some(ns) = SIMULATED_NS.get() {
        return ns.get();
    }
    // Half the instructions of `Instant`, which only gives differences. Every write reads it once.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux always has this clock");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// Monotonic clock in milliseconds.
pub fn mono_ms() -> u64 {
    mono_ns() / 1_000_000
}
