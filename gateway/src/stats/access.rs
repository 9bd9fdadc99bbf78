//! What is found out beside shards and feeds of who may connect.

use super::{AuditOf, KeysFetch, RevocationRecord};
use std::sync::atomic::{AtomicBool, AtomicU64};

/// What the thread that looks after access has found.
#[derive(Debug, Default)]
pub struct AccessCounts {
    /// Fetches of keys, by [`KeysFetch`].
    pub keys_fetches: [AtomicU64; KeysFetch::COUNT],
    /// Gauge: keys in effect that were fetched.
    pub keys_fetched: AtomicU64,
    /// When keys were fetched last, in seconds since the Unix epoch.
    pub keys_fetched_s: AtomicU64,
    /// Gauge: entries of the list of those revoked that stands in a file.
    pub revoked_entries: AtomicU64,
    /// Gauge: lines of that list that do not count.
    pub revoked_unread: AtomicU64,
    /// Lines that the audit log left out, by [`AuditOf`].
    pub audit_left_out: [AtomicU64; AuditOf::COUNT],
    /// Gauge: entries of the list that comes from a topic.
    pub topic_entries: AtomicU64,
    /// Records of that topic, by [`RevocationRecord`].
    pub topic_records: [AtomicU64; RevocationRecord::COUNT],
    /// When it was last known to be read to its end, in seconds since the Unix epoch.
    pub topic_read_s: AtomicU64,
    /// Whether nobody is let in, as it was not read to its end yet.
    pub is_topic_awaited: AtomicBool,
}
