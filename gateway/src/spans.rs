//! Spans: the one of a session, in which each of its log lines stands, and those of what takes a client time.
//!
//! A session has no span of its own that lives as long as it does: a hundred thousand of them would take more memory than their
//! queues, and a filter that is changed while the gateway runs would find those that are open without. It is made anew for
//! each line, always with the same name and fields, and only if the line is wanted.
//!
//! A connect, a subscribe and a replay each have one from their beginning to their end, if somebody wants them: a filter of log
//! lines that lets debug through, or a collector of traces.

use crate::stats::SpanEnd;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use tracing::Span;
use tracing::field::{Empty, display};

/// What the spans of connects, subscribes and replays are told apart by.
pub const TARGET: &str = module_path!();

/// Spans that wait for a collector, at most: some seconds of a crowd that comes back.
pub const SPANS_WAITING_MAX: usize = 4_096;
/// What one takes, with its texts, there and while it is sent.
pub const SPAN_BYTES: u64 = 4_096;

static ENDS: [AtomicU64; SpanEnd::COUNT] = [const { AtomicU64::new(0) }; SpanEnd::COUNT];

/// Counts spans for a collector.
pub fn count(end: SpanEnd, spans: u64) {
    ENDS[end as usize].fetch_add(spans, Ordering::Relaxed);
}

/// Spans since the start that ended so.
pub fn counted(end: SpanEnd) -> u64 {
    ENDS[end as usize].load(Ordering::Relaxed)
}

/// A line of a session's: level, session, number of its shard, and what [`tracing::event`] takes.
macro_rules! session_line {
    ($level:ident, $session:expr, $shard:expr, $($line:tt)+) => {
        tracing::span!(parent: None, tracing::Level::$level, "session", id = $session.name($shard), shard = $shard)
            .in_scope(|| tracing::event!(tracing::Level::$level, $($line)+))
    };
}
pub(crate) use session_line;

/// From the accept of a connection to its session, or to why it has none.
pub(crate) fn connect(peer: impl fmt::Display) -> Span {
    tracing::debug_span!(target: TARGET, parent: None, "connect", %peer, session = Empty, refused = Empty)
}

/// From the request to its answer.
pub(crate) fn subscribe(session: impl FnOnce() -> String, shard: usize, names: usize) -> Span {
    let span = tracing::debug_span!(target: TARGET, parent: None, "subscribe", session = Empty, shard, names, refused = Empty);
    of(&span, session);
    span
}

/// From its first question to the point where its subscriptions are live, or to its end.
pub(crate) fn replay(
    session: impl FnOnce() -> String,
    shard: usize,
    kind: &str,
    subscriptions: usize,
) -> Span {
    let span = tracing::debug_span!(
        target: TARGET, parent: None, "replay", session = Empty, shard, kind, subscriptions, end = Empty
    );
    of(&span, session);
    span
}

/// Says whose it is.
pub(crate) fn of(span: &Span, session: impl FnOnce() -> String) {
    if !span.is_disabled() {
        span.record("session", display(session()));
    }
}
