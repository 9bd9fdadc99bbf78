//! Waits for a gateway that is only starting: scripts start everything at once.

use crate::client::{Client, ClientError, ClientOptions};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Pause between two attempts.
const RETRY_EVERY: Duration = Duration::from_millis(100);
/// Shortest time that an attempt is given for its handshake.
const HANDSHAKE_MIN: Duration = Duration::from_secs(1);

/// Returns when a session can be opened at `url` in the way of `options`; tries for `patience`, at least once. `waiting` is told why the first
/// attempt failed, when more follow.
///
/// # Errors
/// What the last attempt failed of: at once when another could not do better, such as a URL that is none, or an HTTP
/// answer that refuses for good.
pub async fn for_gateway(
    url: &str,
    options: &ClientOptions,
    patience: Duration,
    waiting: impl FnOnce(&ClientError),
) -> Result<(), ClientError> {
    let start = Instant::now();
    let mut waiting = Some(waiting);
    loop {
        let mut options = options.clone();
        let left = patience.saturating_sub(start.elapsed());
        options.handshake_timeout = options.handshake_timeout.min(left.max(HANDSHAKE_MIN));
        let error = match Client::connect(url, &options).await {
            Ok(client) => {
                client.close(1000, "the gateway is there").await;
                return Ok(());
            }
            Err(error) => error,
        };
        let left = patience.saturating_sub(start.elapsed());
        if left.is_zero() || !may_pass(&error) {
            return Err(error);
        }
        if let Some(waiting) = waiting.take() {
            waiting(&error);
        }
        sleep(RETRY_EVERY.min(left)).await;
    }
}

/// Whether a gateway that starts may look like this.
fn may_pass(error: &ClientError) -> bool {
    match error {
        ClientError::Resolve(_) => true,
        ClientError::Connect(error) => error.may_pass(),
        _ => false,
    }
}
