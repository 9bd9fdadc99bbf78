//! How a [`Live`] is made.

use crate::backoff::Backoff;
use crate::driver::{Driver, TokenError, TokenSource, WAITING_MAX, usable};
use crate::live::{Live, LiveError};
use crate::queue::{Queue, QueueBounds};
use crate::session::Session;
use crate::stats::Tally;
use crate::target::Target;
use crate::transport::TransportOptions;
use crate::trust::Trust;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::HashMap;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use tickgate_protocol::OnSlow;
use tokio::sync::{mpsc, watch};

/// Events that are read ahead by default: a moment of a busy feed, some 6 MB.
const QUEUE_EVENTS_MAX: usize = 16_384;
/// Bytes of messages that are read ahead by default: events of large books are few and long.
const QUEUE_BYTES_MAX: usize = 16 << 20;

/// What a [`Live`] is to be like.
#[must_use = "nothing is done before `connect` or `start`"]
pub struct Builder {
    urls: Vec<String>,
    options: TransportOptions,
    token: Option<TokenSource>,
    is_token_fixed: bool,
    /// Why the token that was given cannot be one.
    bad_token: Option<String>,
    on_slow: Option<OnSlow>,
    comes_back: bool,
    keeps_books: bool,
    heartbeat_ms: Option<u64>,
    waits: bool,
    bounds: QueueBounds,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("urls", &self.urls).finish_non_exhaustive()
    }
}

impl Builder {
    pub(crate) fn new(url: String) -> Self {
        Self {
            urls: vec![url],
            options: TransportOptions::default(),
            token: None,
            is_token_fixed: false,
            bad_token: None,
            on_slow: None,
            comes_back: true,
            keeps_books: true,
            heartbeat_ms: None,
            waits: false,
            bounds: QueueBounds { events_max: QUEUE_EVENTS_MAX, bytes_max: QUEUE_BYTES_MAX },
        }
    }

    /// Another gateway that reads the same topics: they are tried in turn, beginning with the first. An address where there is no stream
    /// ends nothing as long as another one may be right.
    pub fn or(mut self, url: impl Into<String>) -> Self {
        self.urls.push(url.into());
        self
    }

    /// Shows this token, or API key, in each handshake. It stands in no URL and in no message of this crate.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        let token = token.into();
        self.bad_token = usable(Ok(token.clone())).err();
        self.token = Some(Arc::new(move || {
            let token = token.clone();
            Box::pin(async move { Ok(token) })
        }));
        self.is_token_fixed = true;
        self
    }

    /// Asks `source` for a token before each handshake, and whenever the one before is about to expire.
    pub fn token_with<F, Fut, E>(mut self, source: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<TokenError>,
    {
        self.token = Some(Arc::new(move || {
            let token = source();
            Box::pin(async move { token.await.map_err(Into::into) })
        }));
        (self.is_token_fixed, self.bad_token) = (false, None);
        self
    }

    /// Whom to believe behind `wss://`; without it, the roots of the system.
    pub fn trust(mut self, trust: Trust) -> Self {
        self.options.trust = Some(trust);
        self
    }

    /// What happens to subscriptions that do not say so themselves when this client reads too slowly. Trades cannot be
    /// conflated: for them the protocol's default stands then.
    pub fn on_slow(mut self, on_slow: OnSlow) -> Self {
        self.on_slow = Some(on_slow);
        self
    }

    /// Whether it comes back after a loss, as it does by default. Otherwise the first loss is the end. Until there is a session each
    /// address is tried once all the same, and with [`Builder::wait`] again.
    pub fn reconnect(mut self, reconnect: bool) -> Self {
        self.comes_back = reconnect;
        self
    }

    /// Whether books are kept for [`Live::book`], as they are by default.
    pub fn keep_books(mut self, keep_books: bool) -> Self {
        self.keeps_books = keep_books;
        self
    }

    /// How often the gateway says that it is there, in milliseconds, 100 to 60000. Each time it says where a client that came back
    /// would go on, so the more often, the less comes twice.
    pub fn heartbeat_ms(mut self, ms: u64) -> Self {
        self.heartbeat_ms = Some(ms);
        self
    }

    /// Events, and bytes of the messages that they came in, that are read ahead.
    pub fn queue(mut self, events_max: usize, bytes_max: usize) -> Self {
        self.bounds = QueueBounds { events_max: events_max.max(1), bytes_max: bytes_max.max(1) };
        self
    }

    /// How connections are made in other respects. A token in it is not looked at.
    pub fn transport(mut self, options: TransportOptions) -> Self {
        self.options = options;
        self
    }

    /// Whether [`Builder::connect`] tries again, as after a loss, when nobody is there at first; otherwise it fails then. It still fails
    /// at once with what no further attempt mends, as a token that is not taken.
    pub fn wait(mut self, wait: bool) -> Self {
        self.waits = wait;
        self
    }

    /// Begins, and waits for the first session. With a gateway that is not there, or only starting, it fails at once, each address
    /// tried once: [`Builder::wait`] makes it try again, and with [`Builder::start`] every attempt is an event.
    ///
    /// # Errors
    /// [`LiveError`] when what was asked for makes no sense, or there is no session.
    pub async fn connect(self) -> Result<Live, LiveError> {
        let (addresses, waits) = (self.urls.len(), self.waits);
        let mut live = self.start()?;
        live.connected(addresses, waits).await?;
        Ok(live)
    }

    /// Begins: whatever comes of it is an event. In a tokio runtime, as all of this crate.
    ///
    /// # Errors
    /// [`LiveError`] when a URL is none, there is nobody to believe, or the token is none.
    pub fn start(self) -> Result<Live, LiveError> {
        if let Some(reason) = self.bad_token {
            return Err(LiveError::Token(reason));
        }
        let targets = self.urls.iter().map(|url| Target::parse(url)).collect::<Result<Vec<_>, _>>()?;
        let mut options = self.options;
        if options.trust.is_none() && targets.iter().any(Target::is_tls) {
            options.trust = Some(Trust::read(None)?);
        }
        let queue = Arc::new(Queue::new(self.bounds));
        let (ask, requests) = mpsc::channel(WAITING_MAX);
        let (closing, is_closing) = watch::channel(false);
        let driver = Driver {
            hopeless: vec![false; targets.len()],
            targets,
            options,
            is_token_fixed: self.is_token_fixed,
            comes_back: self.comes_back,
            waits: self.waits,
            // A number that nobody else has: clients must not come back all at once.
            backoff: Backoff::new(ChaCha8Rng::seed_from_u64(RandomState::new().hash_one(0))),
            live_since: None,
            session: Session::new(self.token.is_some(), self.heartbeat_ms),
            token: self.token,
            queue: Arc::clone(&queue),
            requests,
            closing: is_closing,
        };
        tokio::spawn(driver.run());
        let books = self.keeps_books.then(HashMap::new);
        let begun = Vec::new().into_iter();
        Ok(Live {
            queue,
            requests: ask,
            closing,
            begun,
            begun_cursor: None,
            begun_skew_ns: None,
            cursor: None,
            tally: Tally::default(),
            books,
            on_slow: self.on_slow,
        })
    }
}
