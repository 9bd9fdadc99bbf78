//! Metrics, health and introspection over HTTP, on a thread of its own: it answers even when every shard is busy.
//!
//! It reads the [`Board`] and what the feed counts of each symbol, and asks shards for nothing but lists of their slowest
//! sessions and of what these subscribed to, which a shard may leave unanswered. Every connection serves one request and has a deadline, so that a few stuck ones cannot keep a health
//! check waiting for long.

mod feeds;
mod log;
mod routes;
mod sessions;
mod shards;
mod symbols;
mod token;

pub use token::Token;

use crate::clock;
use crate::feed::directory::Directory;
use crate::latency::LatencyWindow;
use crate::log_filter::LogFilter;
use crate::log_limit::{LogLimit, Verdict};
use crate::metrics::Metrics;
use crate::reload::InEffect;
use crate::stats::{Board, Question};
use crate::tls::Tls;
use crate::tls::watch::Watch;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use symbols::Rates;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Bytes of a request head at most: nothing here needs more than a line and a few headers.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Headers of a request at most.
const HEADERS_MAX: usize = 64;
/// Failed accepts that are logged within ten seconds.
const ACCEPT_LOGS_PER_10_S: u32 = 2;
/// Pause after a failed accept, which is mostly a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the admin thread reads and asks.
#[derive(Debug, Clone)]
pub struct AdminState {
    /// The configuration in effect; shown with its secrets masked.
    pub config: InEffect,
    /// The scoreboard.
    pub board: Arc<Board>,
    /// What requests must bring.
    pub token: Token,
    /// The symbols, and how many ticks came of each.
    pub directory: Arc<Directory>,
    /// Where each shard takes questions; a full channel counts as no answer.
    pub shards: Vec<mpsc::Sender<Question>>,
    /// What clients are spoken to in; its files are looked at from here.
    pub tls: Option<Tls>,
    /// What is logged, where that can be changed.
    pub log: Option<LogFilter>,
}

/// Bounds of the admin listener.
#[derive(Debug, Clone, Copy)]
pub struct AdminLimits {
    /// Connections at once; further ones wait to be accepted. A monitor, a load balancer and some people fit in 64.
    pub connections_max: usize,
    /// Time for the request head.
    pub head_timeout: Duration,
    /// Time for a whole connection.
    pub connection_timeout: Duration,
    /// Time that shards have for an answer.
    pub answer_timeout: Duration,
    /// The shortest time that the rates of symbols are told of.
    pub rates_window: Duration,
}

impl Default for AdminLimits {
    fn default() -> Self {
        Self {
            connections_max: 64,
            head_timeout: Duration::from_secs(5),
            connection_timeout: Duration::from_secs(15),
            answer_timeout: Duration::from_secs(1),
            rates_window: Duration::from_secs(1),
        }
    }
}

/// A bound admin listener that does not serve yet.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
    limits: AdminLimits,
}

impl Admin {
    /// Binds `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// When it cannot be bound; the error names the address.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let bound = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address, limits: AdminLimits::default() })
        });
        bound.map_err(|error| {
            io::Error::new(error.kind(), format!("cannot serve admin on {address}: {error}"))
        })
    }

    /// With other bounds.
    #[must_use]
    pub fn limits(mut self, limits: AdminLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The address that was bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves on a thread of its own until [`AdminHandle::stop`] is called or the handle is dropped.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be had.
    pub fn spawn(self, state: AdminState) -> io::Result<AdminHandle> {
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _guard = runtime.enter();
            tokio::net::TcpListener::from_std(self.listener)?
        };
        let service = Arc::new(Service {
            metrics: Mutex::new(Metrics::new(&state.config.now(), clock::mono_ns())),
            state,
            answer_timeout: self.limits.answer_timeout,
            rates: Rates::new(self.limits.rates_window),
        });
        let limits = self.limits;
        let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, service.clone(), limits) => {}
                    () = observe(service.clone()) => {}
                    () = watch_certificate(service) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(AdminHandle { address: self.address, stop: Some(stop), thread: Some(thread) })
    }
}

/// A serving admin thread.
#[derive(Debug)]
pub struct AdminHandle {
    address: SocketAddr,
    /// Dropping it stops the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl AdminHandle {
    /// The address that it serves on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Stops serving and waits for the thread, which takes no longer than the request in hand.
    pub fn stop(mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the admin thread panicked");
        }
    }
}

/// What requests are answered from.
#[derive(Debug)]
struct Service {
    state: AdminState,
    metrics: Mutex<Metrics>,
    answer_timeout: Duration,
    rates: Rates,
}

impl Service {
    fn scrape(&self) -> String {
        self.metrics().render(&self.state.board, clock::mono_ns())
    }

    fn metrics(&self) -> std::sync::MutexGuard<'_, Metrics> {
        // A panic while rendering leaves nothing half done that the next scrape does not do anew.
        self.metrics.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Keeps the start of the quantiles' window moving between scrapes, and puts back what is logged when its time is over.
async fn observe(service: Arc<Service>) {
    let mut ticks = tokio::time::interval(Duration::from_nanos(LatencyWindow::STEP_NS));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        service.metrics().observe(&service.state.board, clock::mono_ns());
        if let Some(log) = &service.state.log {
            log.look();
        }
    }
}

/// Looks at the files of the certificate now and then, for whoever renews them tells nobody.
async fn watch_certificate(service: Arc<Service>) {
    let AdminState { config, board, tls, .. } = &service.state;
    let (watch_ms, Some(tls)) = (config.now().tls.watch_ms, tls) else { return std::future::pending().await };
    if watch_ms == 0 {
        return std::future::pending().await;
    }
    let mut watch = Watch::new(tls.clone());
    let mut ticks = tokio::time::interval(Duration::from_millis(watch_ms));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        watch.look(board);
    }
}

async fn accept(listener: tokio::net::TcpListener, service: Arc<Service>, limits: AdminLimits) {
    let permits = Arc::new(Semaphore::new(limits.connections_max));
    let mut logs = LogLimit::new(ACCEPT_LOGS_PER_10_S);
    loop {
        let permit = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Verdict::Write { left_out } = logs.admit(clock::mono_ms()) {
                    tracing::warn!(%error, left_out, "admin cannot accept: trying again");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let service = service.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let service = service.clone();
                async move { Ok::<_, std::convert::Infallible>(routes::answer(&service, request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.head_timeout)
                .max_buf_size(HEAD_BYTES_MAX)
                .max_headers(HEADERS_MAX)
                .keep_alive(false)
                .serve_connection(TokioIo::new(socket), answer);
            match tokio::time::timeout(limits.connection_timeout, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%peer, %error, "admin connection failed"),
                Err(_) => tracing::debug!(%peer, "admin connection took too long"),
            }
            drop(permit);
        });
    }
}
