//! Panics of any thread: each is one line of the log that says where, and counted.

use crate::clock;
use crate::log_limit::{LogLimit, Verdict};
use std::panic::PanicHookInfo;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Of what a panic says, which may repeat what a client sent, so many characters are logged.
const WHAT_CHARS_MAX: usize = 300;

/// Panics that are logged within ten seconds: what a client can bring about once, it can bring about often.
const LOGS_PER_10_S: u32 = 10;

static COUNT: AtomicU64 = AtomicU64::new(0);
static LOGS: Mutex<Option<LogLimit>> = Mutex::new(None);

/// Panics since [`log_and_count`].
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// From now on, panics go to the log instead of standard error, and are counted.
pub fn log_and_count() {
    std::panic::set_hook(Box::new(|panic| {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // Another may have come while this one had the lock: it is counted all the same.
        let Ok(mut logs) = LOGS.try_lock() else { return };
        let Verdict::Write { left_out } =
            logs.get_or_insert_with(|| LogLimit::new(LOGS_PER_10_S)).admit(clock::mono_ms())
        else {
            return;
        };
        drop(logs);
        let thread = std::thread::current();
        let at = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        let backtrace = std::backtrace::Backtrace::capture();
        let has_backtrace = backtrace.status() == std::backtrace::BacktraceStatus::Captured;
        let backtrace = has_backtrace.then(|| backtrace.to_string());
        let (thread, what) = (thread.name().unwrap_or("unnamed"), what(panic));
        tracing::error!(thread, what, backtrace, left_out, "panicked at {at}");
    }));
}

fn what(panic: &PanicHookInfo<'_>) -> String {
    let said = panic.payload_as_str().unwrap_or("something that is no text");
    said.chars().take(WHAT_CHARS_MAX).flat_map(char::escape_debug).collect()
}
