//! A question to every shard, and what comes back in time.

use crate::stats::Question;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

/// Asks every shard at once and takes what comes within `patience`: the answers, and the shards that gave none. Cancel safe:
/// an answer that nobody waits for is dropped by the shard.
pub(super) async fn ask<T>(
    shards: &[mpsc::Sender<Question>],
    question: impl Fn(oneshot::Sender<T>) -> Question,
    patience: Duration,
) -> (Vec<T>, Vec<usize>) {
    let deadline = Instant::now() + patience;
    let asked: Vec<_> = shards
        .iter()
        .map(|shard| {
            let (reply, answer) = oneshot::channel();
            // A full channel holds questions enough already.
            shard.try_send(question(reply)).is_ok().then_some(answer)
        })
        .collect();
    let (mut answers, mut silent) = (Vec::new(), Vec::new());
    for (shard, answer) in asked.into_iter().enumerate() {
        let answer = match answer {
            Some(answer) => timeout_at(deadline, answer).await.ok().and_then(Result::ok),
            None => None,
        };
        match answer {
            Some(answer) => answers.push(answer),
            None => silent.push(shard),
        }
    }
    (answers, silent)
}
