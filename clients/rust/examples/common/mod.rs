//! What the examples share: arguments, a stream that ends, and what is said when something fails or nothing comes.
#![allow(dead_code, reason = "no example uses all of it")]

use clap::Parser;
use std::error::Error;
use std::fmt::{Debug, Formatter};
use std::pin::Pin;
use std::time::Duration;
use tickgate_client::{Event, Live, LiveError, State, Subscription};
use tokio::time::{Instant, sleep_until};

/// Most symbols that are told apart.
pub const SYMBOLS_MAX: usize = 10_000;
/// How long nothing may come before that is told.
const QUIET: Duration = Duration::from_secs(5);

#[derive(Parser)]
pub struct Args {
    /// The gateway
    #[arg(long, default_value = "ws://127.0.0.1:8080")]
    pub url: String,
    /// How long to listen, in seconds; Ctrl-C ends it early
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Symbols and patterns, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "*")]
    pub symbols: Vec<String>,
}

/// The arguments of an example that does `what`, for its `--help`.
pub fn args<A: Parser>(what: &'static str) -> A {
    let matches = A::command().about(what).get_matches();
    A::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// What a program ends with: told in a line, as Rust shows the `Debug` of what `main` returns.
pub struct Failure(Box<dyn Error>);

impl<E: Into<Box<dyn Error>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl Debug for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.0, f)
    }
}

impl Args {
    /// A client.
    pub async fn connect(&self) -> Result<Live, LiveError> {
        Live::builder(&self.url).connect().await
    }

    /// A client with this subscription, which is listened to for so long. `what` comes of it.
    pub async fn listen(&self, what: &'static str, to: Subscription) -> Result<Listening, Failure> {
        let mut live = self.connect().await?;
        live.subscribe(to)?;
        self.follow(live, what, self.seconds)
    }

    /// A client that is listened to for `seconds`.
    pub fn follow(&self, live: Live, what: &'static str, seconds: f64) -> Result<Listening, Failure> {
        let now = Instant::now();
        let until = now + Duration::try_from_secs_f64(seconds)?;
        let stop = Box::pin(async {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending().await
            }
        });
        let symbols = self.symbols.join(",");
        let has_come = false;
        Ok(Listening { live, until, stop, is_stopped: false, what, symbols, has_come, quiet_at: now + QUIET })
    }
}

/// A client that is listened to for some time.
pub struct Listening {
    pub live: Live,
    pub until: Instant,
    /// Ready with Ctrl-C.
    stop: Pin<Box<dyn Future<Output = ()>>>,
    pub is_stopped: bool,
    what: &'static str,
    symbols: String,
    pub has_come: bool,
    quiet_at: Instant,
}

impl Listening {
    /// The next event, until it is time or Ctrl-C. What is no market data is told on standard error.
    pub async fn next(&mut self) -> Option<Event> {
        while !self.is_stopped && Instant::now() < self.until {
            let (is_quiet, until) = (!self.has_come && self.quiet_at < self.until, self.until);
            let event = tokio::select! {
                biased;
                () = &mut self.stop => {
                    self.is_stopped = true;
                    return None;
                }
                event = self.live.next() => event?,
                () = sleep_until(self.quiet_at), if is_quiet => {
                    self.tell_nothing_came();
                    self.quiet_at = until;
                    continue;
                }
                () = sleep_until(until) => break,
            };
            if !self.is_told(&event) {
                return Some(event);
            }
        }
        if !self.has_come && self.quiet_at > self.until {
            self.tell_nothing_came();
        }
        None
    }

    fn is_told(&mut self, event: &Event) -> bool {
        match event {
            Event::Gap(gap) => {
                eprintln!("missing: {:?} events of {} ({})", gap.count, gap.symbol, gap.cause.name());
            }
            Event::Error(fault) => eprintln!("{fault}"),
            Event::Ack(ack) => {
                for (result, hint) in ack.hints() {
                    eprintln!("{} {}: {hint}", result.channel, result.symbol);
                }
            }
            Event::State(State::Reconnecting { attempt, reason }) => eprintln!("{reason}; attempt {attempt}"),
            Event::State(State::Closed { reason }) => eprintln!("closed: {reason}"),
            event => {
                if !self.has_come && event.meta().is_some() {
                    self.has_come = true;
                    let seconds = self.until.saturating_duration_since(Instant::now()).as_secs_f64();
                    eprintln!("{} of {} for {seconds:.0} s; Ctrl-C ends it early", self.what, self.symbols);
                }
                return false;
            }
        }
        true
    }

    fn tell_nothing_came(&self) {
        eprintln!(
            "no {what} of {} yet. Are the symbols right, and has this market {what}? /symbols on the gateway's admin port lists what \
             ticks: curl 'http://127.0.0.1:9090/symbols?top=20'",
            self.symbols,
            what = self.what,
        );
    }
}
