//! The slowest sessions of all shards.

use crate::stats::{SessionInfo, SessionsRequest};
use std::cmp::Reverse;
use std::fmt::Write as _;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

/// What the shards said.
#[derive(Debug, serde::Serialize)]
pub(super) struct SessionList {
    /// Oldest queue first.
    sessions: Vec<SessionInfo>,
    /// Shards that did not answer in time: their sessions are not in the list.
    shards_without_answer: Vec<usize>,
}

/// Asks every shard at once and takes what comes within `patience`. Cancel safe: an answer that nobody waits for is
/// dropped by the shard.
pub(super) async fn ask(
    shards: &[mpsc::Sender<SessionsRequest>],
    top: usize,
    patience: Duration,
) -> SessionList {
    let deadline = Instant::now() + patience;
    let asked: Vec<_> = shards
        .iter()
        .map(|shard| {
            let (reply, answer) = oneshot::channel();
            // A full channel holds questions enough already.
            shard.try_send(SessionsRequest { top, reply }).is_ok().then_some(answer)
        })
        .collect();
    let mut list = SessionList { sessions: Vec::new(), shards_without_answer: Vec::new() };
    for (shard, answer) in asked.into_iter().enumerate() {
        let answer = match answer {
            Some(answer) => timeout_at(deadline, answer).await.ok().and_then(Result::ok),
            None => None,
        };
        match answer {
            Some(sessions) => list.sessions.extend(sessions),
            None => list.shards_without_answer.push(shard),
        }
    }
    list.sessions.sort_by(|a, b| {
        let rank = |info: &SessionInfo| Reverse((info.queue_age_ms, info.queued_bytes));
        rank(a).cmp(&rank(b)).then_with(|| a.session.cmp(&b.session))
    });
    list.sessions.truncate(top);
    list
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
