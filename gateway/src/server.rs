//! The composition root: binds everything, starts the threads, and stops them in order.

use crate::admin::{Admin, AdminHandle, AdminState};
use crate::admission::Admission;
use crate::config::Config;
use crate::cursor_keys::CursorKeys;
use crate::descriptors;
use crate::feed::directory::Directory;
use crate::feed::request::Mailbox;
use crate::feed::topics::Topics;
use crate::feed::{self, Feed};
use crate::listener;
use crate::reload::{InEffect, Part, Reloader};
use crate::replay::ReadAgain;
use crate::replay::pool::{Pool, Waiting};
use crate::shard::{Shared, run};
use crate::stats::{Board, Indispensable};
use anyhow::Context;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

/// Parts of replays that wait for a shard: each holds as many bytes as a client is given at once.
pub(crate) const REPLAYED_PARTS: usize = 1;
/// Questions of the admin thread that a shard keeps waiting.
const ADMIN_QUESTIONS: usize = 4;

/// A gateway whose addresses are bound and which does not serve yet.
#[allow(missing_debug_implementations)]
pub struct Bound {
    loaded: Config,
    config: Arc<Config>,
    listeners: Vec<std::net::TcpListener>,
    admin: Admin,
    listen: SocketAddr,
}

/// A serving gateway.
#[allow(missing_debug_implementations)]
pub struct Running {
    board: Arc<Board>,
    listen: SocketAddr,
    shards: Vec<(oneshot::Sender<()>, JoinHandle<std::io::Result<usize>>)>,
    feed: Feed,
    replays: Pool,
    admin: AdminHandle,
    loaded: Config,
    in_effect: InEffect,
    cursor_keys: CursorKeys,
}

/// Binds the addresses of a gateway, and sees to it that its sessions fit under the limit of open files.
///
/// # Errors
/// When an address is taken or may not be bound.
pub fn bind(mut config: Config) -> anyhow::Result<Bound> {
    // The listener does not ask yet: better no gateway than one that lets everybody in.
    anyhow::ensure!(!config.auth.is_required(), "auth.mode = \"required\" is not served by this version");
    let loaded = config.clone();
    descriptors::make_room(&mut config.limits);
    let shards = config.shard_count();
    let listeners = listener::bind(config.listen, shards, Some(&config.outbox))
        .with_context(|| format!("cannot listen on {}: choose another with --listen", config.listen))?;
    let listen = listeners[0].local_addr()?;
    let admin = Admin::bind(config.admin).context("choose another address with --admin")?;
    Ok(Bound { loaded, config: Arc::new(config), listeners, admin, listen })
}

impl Bound {
    /// Where clients connect.
    pub fn listen_addr(&self) -> SocketAddr {
        self.listen
    }

    /// Where metrics and health are.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin.local_addr()
    }

    /// Starts every thread.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration or a thread cannot be started.
    pub fn start(self) -> anyhow::Result<Running> {
        let Self { loaded, config, listeners, admin, listen } = self;
        let board = Arc::new(Board::new(listeners.len()));
        let prepared = feed::prepare(&config).context("kafka")?;
        let (answers, chunks): (Vec<_>, Vec<_>) =
            listeners.iter().map(|_| mpsc::channel(REPLAYED_PARTS)).unzip();
        let waiting = Waiting::new(&config, board.clone(), answers);
        let read_again = (config.replay.consumers_max > 0).then(|| {
            let waiting = waiting.clone();
            Arc::new(move |ask| waiting.ask(ask)) as ReadAgain
        });
        let cursor_keys = CursorKeys::new(config.replay.keys().map_err(|error| anyhow::anyhow!("{error}"))?);
        let (directory, topics) =
            (Arc::new(Directory::new(config.kafka.symbols_max)), Arc::<Topics>::default());
        let shared = Shared {
            config: config.clone(),
            board: board.clone(),
            sessions: Arc::new(AtomicUsize::new(0)),
            subscriptions: Arc::new(AtomicUsize::new(0)),
            directory: directory.clone(),
            read_again,
            wake_feed: prepared.waker(),
            cursor_keys: cursor_keys.clone(),
        };
        let admission = Admission::new(&config);
        let serving = Arc::new(());
        let mut shards = Vec::new();
        let (mut mailboxes, mut inboxes, mut questions) = (Vec::new(), Vec::new(), Vec::new());
        for (id, (listener, chunks)) in listeners.into_iter().zip(chunks).enumerate() {
            let mailbox = Arc::new(Mailbox::default());
            let (inbox_in, inbox) = mpsc::channel(config.session.inbox_batches);
            let (question, admin) = mpsc::channel(ADMIN_QUESTIONS);
            let (stop, stopped) = oneshot::channel();
            mailboxes.push(mailbox.clone());
            inboxes.push(inbox_in);
            questions.push(question);
            let parts = run::Parts {
                id,
                shared: shared.clone(),
                mailbox,
                inbox,
                listener,
                admission: admission.clone(),
                chunks,
                admin,
                stop: stopped,
                serving: serving.clone(),
            };
            let indispensable = Indispensable(board.clone());
            let work = move || {
                let ended = run::run(parts);
                if let Err(error) = &ended {
                    tracing::error!(shard = id, %error, "a shard has ended");
                    indispensable.0.broken.notify_one();
                }
                ended
            };
            let thread = std::thread::Builder::new().name(format!("shard-{id}")).spawn(work)?;
            shards.push((stop, thread));
        }
        drop(serving);
        let feed = prepared.start(feed::Parts {
            config: config.clone(),
            board: board.clone(),
            mailboxes,
            inboxes,
            directory: directory.clone(),
            topics: topics.clone(),
        })?;
        let replays = Pool::start(&config, waiting, &directory, &topics, &board).context("kafka")?;
        let in_effect = InEffect::new(config);
        let state = AdminState { config: in_effect.clone(), board: board.clone(), shards: questions };
        let admin = admin.spawn(state)?;
        Ok(Running { board, listen, shards, feed, replays, admin, loaded, in_effect, cursor_keys })
    }
}

impl Running {
    /// Where clients connect.
    pub fn listen_addr(&self) -> SocketAddr {
        self.listen
    }

    /// Where metrics and health are.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin.local_addr()
    }

    /// The scoreboard.
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// What takes another configuration over, as far as the gateway itself can.
    pub fn reloader(&self) -> Reloader {
        Reloader::new(self.loaded.clone(), self.in_effect.clone(), self.board.clone())
            .with(Part::cursor_keys(self.cursor_keys.clone()))
    }

    /// Returns when something has panicked that the gateway cannot be without. It should end then: whoever it serves goes
    /// on elsewhere.
    pub async fn broken(&self) {
        self.board.broken.notified().await;
    }

    /// Turns readiness off and serves on, so that load balancers can notice before anybody is sent away.
    pub fn retire(&self) {
        self.board.draining.store(true, Ordering::Relaxed);
    }

    /// Drains and stops: readiness off, newcomers refused, sessions told and closed over the configured time, then the
    /// feed, then the admin listener. Returns how many sessions had to be cut.
    ///
    /// # Errors
    /// When a shard had failed.
    pub fn stop(self) -> anyhow::Result<usize> {
        self.retire();
        let threads: Vec<_> = self
            .shards
            .into_iter()
            .map(|(stop, thread)| {
                let _ = stop.send(());
                thread
            })
            .collect();
        let mut cut = 0;
        for thread in threads {
            cut += thread.join().map_err(|_| anyhow::anyhow!("a shard panicked"))??;
        }
        self.replays.stop();
        self.feed.stop();
        self.admin.stop();
        Ok(cut)
    }
}
