//! The tasks of a shard: fan-out, time, and one per session. All on one thread, none holds the shard over a wait. What comes
//! late has shards of its own beside it on the same thread, one for each delay.

use super::socket::Socket;
use super::{Shard, Shared, census};
use crate::admission::Admission;
use crate::clock;
use crate::event::Batch;
use crate::feed::request::{Mailbox, SessionKey};
use crate::listener::{self, Door};
use crate::replay::Chunk;
use crate::session::Life;
use crate::stats::{Question, SessionsRequest, TargetsRequest};
use std::cell::RefCell;
use std::io::{Error, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Batches taken in one pass: all that a full inbox holds.
const BATCHES_PER_PASS: usize = 1_024;

/// What a shard is started with.
#[allow(missing_debug_implementations)]
pub struct Parts {
    /// Its number.
    pub id: usize,
    /// What it shares.
    pub shared: Shared,
    /// What it asks of the feed.
    pub mailbox: Arc<Mailbox>,
    /// What the feed hands to it.
    pub inbox: mpsc::Receiver<Batch>,
    /// Its listening socket.
    pub listener: std::net::TcpListener,
    /// Who may connect to it.
    pub admission: Arc<Admission>,
    /// What was read from Kafka again.
    pub chunks: mpsc::Receiver<Chunk>,
    /// What the admin thread asks.
    pub admin: mpsc::Receiver<Question>,
    /// Fires, or is dropped, when the gateway stops.
    pub stop: oneshot::Receiver<()>,
    /// Held by every shard that still has sessions.
    pub serving: Arc<()>,
    /// The same thread's part in what comes late, by tier.
    pub delayed: Vec<Delayed>,
}

/// One thread's part in a tier that is not live: a shard of its own, beside the live one.
#[allow(missing_debug_implementations)]
pub struct Delayed {
    /// Number of that shard.
    pub id: usize,
    /// What it shares.
    pub shared: Shared,
    /// What it asks of its feed.
    pub mailbox: Arc<Mailbox>,
    /// What that hands to it.
    pub inbox: mpsc::Receiver<Batch>,
    /// What was read from Kafka again.
    pub chunks: mpsc::Receiver<Chunk>,
}

/// Runs a shard on the calling thread until it is told to stop and is drained. Returns how many sessions were cut.
///
/// # Errors
/// When the runtime or the listener cannot be set up, and when what serves every session has panicked.
pub fn run(parts: Parts) -> std::io::Result<usize> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, serve(parts))
}

async fn serve(parts: Parts) -> std::io::Result<usize> {
    let Parts { id, shared, mailbox, inbox, listener, admission, chunks, admin, stop, serving, delayed } =
        parts;
    let drain = shared.config.drain.clone();
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut tasks = JoinSet::new();
    let live = start(&mut tasks, Delayed { id, shared, mailbox, inbox, chunks });
    let broken = live.borrow().broken.clone();
    let mut shards = vec![live];
    for parts in delayed {
        let shard = start(&mut tasks, parts);
        shard.borrow_mut().broken = broken.clone();
        shards.push(shard);
    }
    let shards: Rc<[Rc<RefCell<Shard>>]> = shards.into();
    tasks.spawn_local(introspection(shards.clone(), admin));
    let door = listener::door(shards.clone(), admission);
    let accept = tasks.spawn_local(listener::accept(listener, door.clone()));
    tokio::select! {
        _ = stop => {}
        () = panicked(&mut tasks) => return Err(Error::other("what serves every session panicked")),
        () = broken.notified() => return Err(Error::other("a panic left what cannot be put in order")),
    }
    shards.iter().for_each(|shard| shard.borrow_mut().drain());
    door.drain();
    let deadline = tokio::time::Instant::now() + Duration::from_millis(drain.spread_ms + drain.grace_ms);
    let any_serving = Arc::downgrade(&serving);
    let mut serving = Some(serving);
    while any_serving.strong_count() > 0 && tokio::time::Instant::now() < deadline {
        if shards.iter().all(|shard| shard.borrow().is_empty()) {
            // Without sessions of its own it still refuses newcomers while the others drain: what waits at its listener
            // would be cut off without an answer.
            serving = None;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(serving);
    let deadline = deadline.min(tokio::time::Instant::now() + Duration::from_millis(drain.grace_ms));
    see_off(&door, &shards, deadline).await;
    accept.abort();
    let cut = shards.iter().map(|shard| shard.borrow_mut().cut()).sum();
    tasks.abort_all();
    for shard in shards.iter() {
        shard.borrow_mut().publish();
    }
    Ok(cut)
}

/// Waits for those who have no session yet as all sessions are over: they are answered, too, unless they dawdle. One whose
/// handshake was answered before may still become a session, which is then sent away like any other.
async fn see_off(door: &Door, shards: &[Rc<RefCell<Shard>>], deadline: tokio::time::Instant) {
    let is_over = || door.is_quiet() && shards.iter().all(|shard| shard.borrow().is_empty());
    while !is_over() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Makes a shard, and starts what serves all of its sessions.
fn start(tasks: &mut JoinSet<()>, parts: Delayed) -> Rc<RefCell<Shard>> {
    let Delayed { id, shared, mailbox, inbox, chunks } = parts;
    let asked = Arc::new(Asked::default());
    let (note, wake_feed) = (asked.clone(), shared.wake_feed.clone());
    let shared = Shared { wake_feed: Arc::new(move || note.note()), ..shared };
    let shard = Shard::new(id, shared, mailbox);
    #[cfg(debug_assertions)]
    let shard = shard.echo_on_request();
    let shard = Rc::new(RefCell::new(shard));
    tasks.spawn_local(fan_out(shard.clone(), inbox));
    tasks.spawn_local(time(shard.clone()));
    tasks.spawn_local(replays(shard.clone(), chunks));
    tasks.spawn_local(async move { asked.pass_on(wake_feed).await });
    shard
}

/// Returns when one of them has panicked; those that have ended had nothing more to do.
async fn panicked(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if ended.is_err_and(|error| error.is_panic()) {
            return;
        }
    }
    std::future::pending().await
}

/// Takes what the feed hands over and fans it out.
async fn fan_out(shard: Rc<RefCell<Shard>>, mut inbox: mpsc::Receiver<Batch>) {
    let mut batches = Vec::with_capacity(BATCHES_PER_PASS);
    while inbox.recv_many(&mut batches, BATCHES_PER_PASS).await > 0 {
        shard.borrow_mut().pass(&mut batches);
        // Sessions get their turn between passes, whatever the feed brings.
        tokio::task::yield_now().await;
    }
}

/// Whether the feed was asked for something. Waking another thread costs nearly as much as a write, so the feed is woken
/// behind the sessions that are ready, once for whatever all of them have asked.
#[derive(Debug, Default)]
struct Asked {
    is_noted: AtomicBool,
    changed: Notify,
}

impl Asked {
    fn note(&self) {
        if !self.is_noted.swap(true, Ordering::Relaxed) {
            self.changed.notify_one();
        }
    }

    async fn pass_on(&self, wake_feed: Arc<dyn Fn() + Send + Sync>) {
        loop {
            self.changed.notified().await;
            self.is_noted.store(false, Ordering::Relaxed);
            wake_feed();
        }
    }
}

/// Takes what was read from Kafka again.
async fn replays(shard: Rc<RefCell<Shard>>, mut chunks: mpsc::Receiver<Chunk>) {
    while let Some(chunk) = chunks.recv().await {
        shard.borrow_mut().replayed(chunk);
        tokio::task::yield_now().await;
    }
}

async fn time(shard: Rc<RefCell<Shard>>) {
    let changed = shard.borrow().timers_changed.clone();
    let mut publish_ms = 0;
    loop {
        let next_ms = shard.borrow_mut().on_time(&mut publish_ms);
        let wait = Duration::from_millis(next_ms.saturating_sub(clock::mono_ms()).max(1));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = changed.notified() => {}
        }
    }
}

async fn introspection(shards: Rc<[Rc<RefCell<Shard>>]>, mut questions: mpsc::Receiver<Question>) {
    // Who asks sorts them, and takes as many as it wants.
    while let Some(question) = questions.recv().await {
        match question {
            Question::Sessions(SessionsRequest { top, reply }) => {
                let top = shards.iter().flat_map(|shard| shard.borrow().top_sessions(top));
                let _ = reply.send(top.collect());
            }
            Question::Targets(TargetsRequest { which, reply }) => {
                let mut targets = Vec::new();
                for shard in shards.iter() {
                    targets.extend(census::take(shard, &which).await);
                }
                let _ = reply.send(targets);
            }
        }
    }
}

impl<S: Socket> Shard<S> {
    /// Takes what came behind the request for a session, and answers it.
    pub(super) fn first_bytes(&mut self, key: SessionKey, early: &[u8]) {
        if !early.is_empty() {
            self.on_bytes(key, &mut early.to_vec());
        }
        self.flush_touched();
    }

    /// Reads and writes as far as the socket goes, and leaves a waker for more. Safe to abandon at any point.
    pub(super) fn poll_session(&mut self, key: SessionKey, socket: &S, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(session) = self.session(key) else { return Poll::Ready(()) };
            if matches!(session.life, Life::Over(_)) {
                return Poll::Ready(());
            }
            session.task = Some(cx.waker().clone());
            let mut is_waiting = true;
            if !session.is_throttled && session.outbox.has_work() {
                match socket.poll_writable(cx) {
                    Poll::Ready(Ok(())) => {
                        self.flush_session(key.slot, true);
                        is_waiting = false;
                    }
                    Poll::Ready(Err(error)) => {
                        self.on_read_error(key, &error);
                        return Poll::Ready(());
                    }
                    Poll::Pending => {}
                }
            }
            let Some(session) = self.session(key) else { return Poll::Ready(()) };
            if session.may_read() {
                match socket.poll_readable(cx) {
                    Poll::Ready(Ok(())) => {
                        is_waiting = false;
                        self.read(key, socket);
                    }
                    Poll::Ready(Err(error)) => {
                        self.on_read_error(key, &error);
                        return Poll::Ready(());
                    }
                    Poll::Pending => {}
                }
            }
            self.flush_touched();
            if is_waiting {
                return Poll::Pending;
            }
        }
    }

    fn read(&mut self, key: SessionKey, socket: &S) {
        let mut buffer = std::mem::take(&mut self.read_buffer);
        match socket.read(&mut buffer) {
            Ok(0) => self.on_end_of_stream(key),
            Ok(n) => self.on_bytes(key, &mut buffer[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => self.on_read_error(key, &error),
        }
        self.read_buffer = buffer;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::session::guest::{Guest, Opening};
    use crate::shard::socket::ClientSocket;
    use crate::shard::trial::shared;
    use crate::stats::CloseReason;
    use hyper::body::Bytes;
    use std::pin::pin;
    use std::task::Waker;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    /// A visit that ended in a session left a quiet door, and that was the end of the drain: the session was cut within 10 ms.
    #[tokio::test]
    async fn a_drain_waits_for_who_becomes_a_session_at_its_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let _client =
            TcpStream::connect(listener.local_addr().expect("an address")).await.expect("it listens");
        let (socket, _) = listener.accept().await.expect("it connects");
        let config = Config { shards: 1, ..Config::default() };
        let admission = Admission::new(&config);
        let shard = Rc::new(RefCell::new(Shard::new(0, shared(config), Arc::default())));
        let shards: Rc<[_]> = [shard.clone()].into();
        let door = listener::door(shards.clone(), admission);
        shard.borrow_mut().drain();
        let key = shard.borrow().next_key();
        let guest = Guest::new(([127, 0, 0, 1], 1).into());
        let opening = Opening {
            answer: Vec::new(),
            early: Bytes::new(),
            guest,
            is_greeted: false,
            connect: tracing::Span::none(),
        };
        shard.borrow_mut().open(Rc::new(ClientSocket::Plain(socket)), opening);
        let mut seen_off =
            pin!(see_off(&door, &shards, tokio::time::Instant::now() + Duration::from_secs(600)));
        let first = seen_off.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(first.is_pending(), "its goodbye is not answered yet");
        shard.borrow_mut().end_session(key, CloseReason::Drain);
        timeout(Duration::from_secs(20), seen_off).await.expect("nobody is left");
    }
}
