//! The slowest sessions of all shards.

use super::shards::ask;
use crate::stats::{Question, SessionInfo, SessionsRequest};
use std::cmp::Reverse;
use std::fmt::Write as _;
use std::time::Duration;
use tokio::sync::mpsc;

/// What the shards said.
#[derive(Debug, serde::Serialize)]
pub(super) struct SessionList {
    /// Oldest queue first.
    sessions: Vec<SessionInfo>,
    /// Shards that did not answer in time: their sessions are not in the list.
    shards_without_answer: Vec<usize>,
}

/// Asks every shard. Cancel safe.
pub(super) async fn list(shards: &[mpsc::Sender<Question>], top: usize, patience: Duration) -> SessionList {
    let question = |reply| Question::Sessions(SessionsRequest { top, reply });
    let (sessions, shards_without_answer) = ask(shards, question, patience).await;
    let mut sessions: Vec<SessionInfo> = sessions.into_iter().flatten().collect();
    sessions.sort_by(|a, b| {
        let rank = |info: &SessionInfo| Reverse((info.queue_age_ms, info.queued_bytes));
        rank(a).cmp(&rank(b)).then_with(|| a.session.cmp(&b.session))
    });
    sessions.truncate(top);
    SessionList { sessions, shards_without_answer }
}

impl SessionList {
    /// As a table for a person.
    pub(super) fn table(&self) -> String {
        let mut text = format!(
            "{:<20} {:<22} {:>5} {:>9} {:>12} {:>8} {:>6} {:>10} {:>10} {:>10} {:>8} {:>8}\n",
            "SESSION",
            "PEER",
            "SHARD",
            "AGE_MS",
            "QUEUED_BYTES",
            "HELD",
            "SUBS",
            "OFFERED",
            "SENT",
            "CONFLATED",
            "DROPPED",
            "OPEN_S"
        );
        for info in &self.sessions {
            let _ = writeln!(
                text,
                "{:<20} {:<22} {:>5} {:>9} {:>12} {:>8} {:>6} {:>10} {:>10} {:>10} {:>8} {:>8}",
                info.session,
                info.peer,
                info.shard,
                info.queue_age_ms,
                info.queued_bytes,
                info.held,
                info.subscriptions,
                info.offered,
                info.sent,
                info.conflated,
                info.dropped,
                info.open_s
            );
        }
        if !self.shards_without_answer.is_empty() {
            let _ = writeln!(text, "shards without an answer: {:?}", self.shards_without_answer);
        }
        text
    }
}
