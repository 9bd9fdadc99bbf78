//! What the admin thread asks shards, and their answers.

use crate::feed::request::Target;
use std::sync::Arc;
use tokio::sync::oneshot::Sender;

/// A session, for `/sessions`.
#[derive(Debug, Clone, serde::Serialize)]
pub struct SessionInfo {
    /// Its name in `hello`.
    pub session: String,
    /// Address of the peer.
    pub peer: String,
    /// The shard that owns it.
    pub shard: usize,
    /// Age in milliseconds of the oldest event that its socket refuses.
    pub queue_age_ms: u64,
    /// Bytes queued.
    pub queued_bytes: u64,
    /// Events queued.
    pub held: u64,
    /// Subscriptions held.
    pub subscriptions: u64,
    /// Events offered, sent, conflated, dropped since it opened.
    pub offered: u64,
    #[allow(missing_docs)]
    pub sent: u64,
    #[allow(missing_docs)]
    pub conflated: u64,
    #[allow(missing_docs)]
    pub dropped: u64,
    /// Seconds since it opened.
    pub open_s: u64,
}

/// What the admin thread asks a shard.
#[derive(Debug)]
pub enum Question {
    /// For its slowest sessions.
    Sessions(SessionsRequest),
    /// For what its sessions subscribed to.
    Targets(TargetsRequest),
}

/// Which sessions are slowest?
#[derive(Debug)]
pub struct SessionsRequest {
    /// How many sessions, slowest by queue age first.
    pub top: usize,
    /// Where the answer goes.
    pub reply: Sender<Vec<SessionInfo>>,
}

/// How many subscribed to what?
#[derive(Debug)]
pub struct TargetsRequest {
    /// Of which.
    pub which: Which,
    /// Where the answer goes.
    pub reply: Sender<Vec<TargetInfo>>,
}

/// Of which symbols and patterns.
#[derive(Debug, Clone)]
pub enum Which {
    /// Those with the most sessions, so many.
    Top(usize),
    /// These.
    These(Arc<[Target]>),
}

/// How many subscribed to a symbol or a pattern, as they wrote it. In order of that.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TargetInfo {
    /// Sessions.
    pub sessions: u64,
    /// Their subscriptions: one for each channel.
    pub subscriptions: u64,
    /// Which.
    pub target: Target,
}
