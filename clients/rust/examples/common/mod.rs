//! What the examples share: arguments, and a stream that ends.
#![allow(dead_code, reason = "no example uses all of it")]

use clap::Parser;
use std::error::Error;
use std::time::Duration;
use tickgate_client::{Event, Live, State, Subscription};
use tokio::time::{Instant, timeout_at};

/// Most symbols that are told apart.
pub const SYMBOLS_MAX: usize = 10_000;

#[derive(Parser)]
pub struct Args {
    /// The gateway
    #[arg(long, default_value = "ws://127.0.0.1:8080")]
    pub url: String,
    /// How long to listen, in seconds
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Symbols and patterns, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "*")]
    pub symbols: Vec<String>,
}

impl Args {
    /// A client with this subscription, and when to stop.
    pub async fn listen(&self, to: Subscription) -> Result<Listening, Box<dyn Error>> {
        let mut live = Live::builder(&self.url).connect().await?;
        live.subscribe(to)?;
        let seconds = Duration::try_from_secs_f64(self.seconds)?;
        Ok(Listening { live, until: Instant::now() + seconds })
    }
}

/// A client that is listened to for some time.
pub struct Listening {
    pub live: Live,
    pub until: Instant,
}

impl Listening {
    /// The next event, until it is time. What is no market data is told on standard error.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let event = timeout_at(self.until, self.live.next()).await.ok()??;
            match &event {
                Event::Gap(gap) => {
                    eprintln!("missing: {:?} events of {} ({})", gap.count, gap.symbol, gap.cause.name());
                }
                Event::Error(fault) => eprintln!("{fault}"),
                Event::Ack(ack) => {
                    for result in &ack.results {
                        let what = match result {
                            result if !result.ok => result.message.as_deref().unwrap_or("refused"),
                            // It may be misspelt, or only not traded yet.
                            result if result.seen == Some(false) => "no record has named it yet",
                            _ => continue,
                        };
                        eprintln!("{} {}: {what}", result.channel, result.symbol);
                    }
                }
                Event::State(State::Reconnecting { attempt, reason }) => {
                    eprintln!("{reason}; attempt {attempt}")
                }
                _ => return Some(event),
            }
        }
    }
}
