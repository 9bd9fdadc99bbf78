//! Finds out which symbols there are, and which of them are popular, by listening to all of them for a moment.

use crate::client::{Client, ClientError, ClientOptions, Incoming};
use crate::scan::scan;
use serde_json::json;
use std::collections::HashMap;
use std::time::Duration;
use tickgate_protocol::Channel;
use tokio::time::{Instant, timeout_at};

/// Most symbols that are told apart.
const SYMBOLS_MAX: usize = 100_000;
/// How much longer than is listened a first event is waited for, as a factor.
const PATIENCE: u32 = 10;

/// Why the symbols could not be found out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum DiscoverError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("no event of any symbol within {0:?}: is the feed running? Or name the symbols")]
    Silence(Duration),
}

/// Listens to every symbol on `channels` for `duration` from the first event on and gives the symbols, the most
/// frequent first, those that only had a snapshot last.
///
/// # Errors
/// [`DiscoverError`] when the gateway cannot be reached or says nothing.
pub async fn symbols(
    url: &str,
    options: &ClientOptions,
    channels: impl Iterator<Item = Channel>,
    duration: Duration,
) -> Result<Vec<String>, DiscoverError> {
    let mut client = Client::connect(url, options).await?;
    let all: Vec<_> = channels.map(|c| json!({"channel": c.name(), "symbols": ["*"]})).collect();
    client.subscribe(&all).await?;
    // A feed that only starts is waited for, and is listened to no shorter than one that runs.
    let mut until = Instant::now() + duration * PATIENCE;
    let mut counts: HashMap<String, u64> = HashMap::new();
    loop {
        match timeout_at(until, client.next()).await {
            Err(_) => break,
            Ok(Incoming::Closed { code, reason }) => return Err(ClientError::Closed { code, reason }.into()),
            Ok(Incoming::Control { .. }) => {}
            Ok(Incoming::Events(frame)) => {
                let was_silent = counts.is_empty();
                // What cannot be read is the business of the verifier, not ours.
                let _ = scan(frame.as_bytes(), |event| {
                    let has_room = counts.len() < SYMBOLS_MAX;
                    let count = u64::from(!event.snapshot && !event.is_gap);
                    match counts.get_mut(event.symbol) {
                        Some(old) => *old += count,
                        None if has_room => {
                            counts.insert(event.symbol.to_owned(), count);
                        }
                        None => {}
                    }
                });
                if was_silent && !counts.is_empty() {
                    until = Instant::now() + duration;
                }
            }
        }
    }
    client.close(1000, "symbols found").await;
    if counts.is_empty() {
        return Err(DiscoverError::Silence(duration * PATIENCE));
    }
    Ok(by_popularity(counts))
}

fn by_popularity(counts: HashMap<String, u64>) -> Vec<String> {
    let mut symbols: Vec<(String, u64)> = counts.into_iter().collect();
    // By name among equals, so that the order does not depend on chance.
    symbols.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    symbols.into_iter().map(|(symbol, _)| symbol).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_first_then_by_name() {
        let counts = [("C", 0), ("B", 5), ("A", 0), ("D", 9)].map(|(s, n)| (s.to_owned(), n));
        assert_eq!(by_popularity(HashMap::from(counts)), ["D", "B", "A", "C"]);
    }
}
