//! Panics of any thread: each is one line of the log that says where, and counted.

use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, Ordering};

/// Of what a panic says, which may repeat what a client sent, so many characters are logged.
const WHAT_CHARS_MAX: usize = 300;

static COUNT: AtomicU64 = AtomicU64::new(0);

/// Panics since [`log_and_count`].
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// From now on, panics go to the log instead of standard error, and are counted.
pub fn log_and_count() {
    std::panic::set_hook(Box::new(|panic| {
        COUNT.fetch_add(1, Ordering::Relaxed);
        let thread = std::thread::current();
        let at = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        let backtrace = std::backtrace::Backtrace::capture();
        let has_backtrace = backtrace.status() == std::backtrace::BacktraceStatus::Captured;
        let backtrace = has_backtrace.then(|| backtrace.to_string());
        let (thread, what) = (thread.name().unwrap_or("unnamed"), what(panic));
        tracing::error!(thread, what, backtrace, "panicked at {at}");
    }));
}

fn what(panic: &PanicHookInfo<'_>) -> String {
    let said = panic.payload_as_str().unwrap_or("something that is no text");
    said.chars().take(WHAT_CHARS_MAX).flat_map(char::escape_debug).collect()
}
