//! The composition root: binds everything, starts the threads, and stops them in order.

use crate::access::audit::Audit;
use crate::access::watch::{self, Watch};
use crate::access::{Access, Files};
use crate::admin::{Admin, AdminHandle, AdminState, Token};
use crate::admission::Admission;
use crate::config::Config;
use crate::cursor_keys::CursorKeys;
use crate::descriptors;
use crate::feed::directory::Directory;
use crate::feed::request::Mailbox;
use crate::feed::seen::Seen;
use crate::feed::topics::Topics;
use crate::feed::{self, Feed};
use crate::listener;
use crate::log_filter::LogFilter;
use crate::logs::LogWriter;
use crate::reload::{InEffect, Part, Reloader};
use crate::replay::ReadAgain;
use crate::replay::pool::{Pool, Waiting};
use crate::shard::{Shared, run};
use crate::stats::{Board, Indispensable};
use crate::tls::Tls;
use anyhow::Context;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
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
    tls: Option<Tls>,
    log: Option<LogFilter>,
}

/// A serving gateway.
#[allow(missing_debug_implementations)]
pub struct Running {
    board: Arc<Board>,
    listen: SocketAddr,
    shards: Vec<(oneshot::Sender<()>, JoinHandle<std::io::Result<usize>>)>,
    feeds: Vec<Feed>,
    replays: Pool,
    admin: AdminHandle,
    loaded: Config,
    in_effect: InEffect,
    cursor_keys: CursorKeys,
    tls: Option<Tls>,
    access: Option<(Arc<Access>, Watch)>,
    audit: Option<Arc<Audit>>,
    log: Option<LogFilter>,
}

/// Binds the addresses of a gateway, and sees to it that its sessions fit under the limit of open files.
///
/// # Errors
/// When an address is taken or may not be bound.
pub fn bind(mut config: Config) -> anyhow::Result<Bound> {
    let loaded = config.clone();
    let tls = Tls::load(&config.tls).map_err(|error| anyhow::anyhow!("{error}"))?;
    descriptors::make_room(&mut config.limits);
    let shards = config.shard_count();
    let listeners = listener::bind(config.listen, shards, Some(&config.outbox)).map_err(|error| {
        let wait = match error.kind() {
            ErrorKind::AddrInUse => "wait for the end of what does, as a gateway that drains, or ",
            _ => "",
        };
        let what = format!("cannot listen on {}: {wait}choose another with --listen", config.listen);
        anyhow::Error::new(error).context(what)
    })?;
    let listen = listeners[0].local_addr()?;
    let admin = Admin::bind(config.admin).context("choose another address with --admin")?;
    Ok(Bound { loaded, config: Arc::new(config), listeners, admin, listen, tls, log: None })
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

    /// With a filter of log lines that can be changed while it runs.
    #[must_use]
    pub fn with_log(self, filter: LogFilter) -> Self {
        Self { log: Some(filter), ..self }
    }

    /// How they begin to talk to it: `ws` or `wss`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "wss" } else { "ws" }
    }

    /// Starts every thread.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration or a thread cannot be started.
    pub fn start(self) -> anyhow::Result<Running> {
        let Self { loaded, config, listeners, admin, listen, tls, log } = self;
        let (threads, tiers) = (listeners.len(), config.delays.tiers());
        let board = Arc::new(Board::with_tiers(threads, tiers.clone()));
        if let Some(tls) = &tls {
            tls.now().tell();
            tls.show(&board);
        }
        let (answers, chunks): (Vec<_>, Vec<_>) =
            (0..board.shard_count()).map(|_| mpsc::channel(REPLAYED_PARTS)).unzip();
        let waiting = Waiting::new(&config, board.clone(), answers);
        let read_again = (config.replay.consumers_max > 0).then(|| {
            let waiting = waiting.clone();
            Arc::new(move |ask| waiting.ask(ask)) as ReadAgain
        });
        let cursor_keys = CursorKeys::new(config.replay.keys().map_err(|error| anyhow::anyhow!("{error}"))?);
        let (access, audit) = who_may_connect(&config, &board)?.unzip();
        if let Some(access) = &access {
            watch::first_look(&config.auth, access, &board)?;
        }
        let directory = Arc::new(Directory::new(config.kafka.symbols_max));
        let topics: Vec<Arc<Topics>> = tiers.iter().map(|tier| Arc::new(Topics::of(*tier))).collect();
        let (sessions, subscriptions) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let is_any_delayed = tiers.len() > 1;
        let seen = is_any_delayed
            .then(|| Arc::new(Seen::new(config.delays.longest_ms(), config.delays.partitions_max)));
        // What each thread has of each tier, the live one first.
        let mut of_threads: Vec<Vec<run::Delayed>> = (0..threads).map(|_| Vec::new()).collect();
        let mut unstarted = Vec::new();
        let mut chunks = chunks.into_iter();
        for (tier, topics) in tiers.iter().zip(&topics) {
            let prepared = feed::prepare(&config, *tier, board.clone()).context("kafka")?;
            let shared = Shared {
                config: config.clone(),
                board: board.clone(),
                sessions: sessions.clone(),
                subscriptions: subscriptions.clone(),
                directory: directory.clone(),
                read_again: read_again.clone(),
                wake_feed: prepared.waker(),
                cursor_keys: cursor_keys.clone(),
                tier: *tier,
                tls: tls.clone(),
                access: access.clone(),
                audit: audit.clone(),
            };
            let mut parts = feed::Parts {
                config: config.clone(),
                board: board.clone(),
                seen: seen.clone(),
                mailboxes: Vec::new(),
                inboxes: Vec::new(),
                directory: directory.clone(),
                topics: topics.clone(),
            };
            for (thread, (of_thread, chunks)) in of_threads.iter_mut().zip(&mut chunks).enumerate() {
                let mailbox = Arc::new(Mailbox::default());
                let (inbox_in, inbox) = mpsc::channel(config.session.inbox_batches);
                parts.mailboxes.push(mailbox.clone());
                parts.inboxes.push(inbox_in);
                let (id, shared) = (board.shard_of(thread, *tier), shared.clone());
                of_thread.push(run::Delayed { id, shared, mailbox, inbox, chunks });
            }
            unstarted.push((prepared, parts));
        }
        let admission = Admission::new(&config);
        let serving = Arc::new(());
        let (mut shards, mut questions) = (Vec::new(), Vec::new());
        for (listener, mut of_thread) in listeners.into_iter().zip(of_threads) {
            let (question, admin) = mpsc::channel(ADMIN_QUESTIONS);
            let (stop, stopped) = oneshot::channel();
            questions.push(question);
            let delayed = of_thread.split_off(1);
            let Some(run::Delayed { id, shared, mailbox, inbox, chunks }) = of_thread.pop() else { continue };
            let parts = run::Parts {
                id,
                shared,
                mailbox,
                inbox,
                listener,
                admission: admission.clone(),
                chunks,
                admin,
                stop: stopped,
                serving: serving.clone(),
                delayed,
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
        let feeds = unstarted.into_iter().map(|(prepared, parts)| prepared.start(parts));
        let feeds = feeds.collect::<anyhow::Result<Vec<_>>>()?;
        let replays = Pool::start(&config, waiting, &directory, &topics, &board).context("kafka")?;
        let access = access
            .map(|access| Watch::start(&config, access.clone(), board.clone()).map(|watch| (access, watch)));
        let access = access.transpose()?;
        let in_effect = InEffect::new(config);
        let token = Token::new(
            in_effect
                .now()
                .admin_access
                .secret()
                .map_err(|what| anyhow::anyhow!("admin_token_file {what}"))?,
        );
        let state = AdminState {
            config: in_effect.clone(),
            board: board.clone(),
            token,
            directory: directory.clone(),
            shards: questions,
            tls: tls.clone(),
            log: log.clone(),
        };
        let admin = admin.spawn(state)?;
        Ok(Running {
            board,
            listen,
            shards,
            feeds,
            replays,
            admin,
            loaded,
            in_effect,
            cursor_keys,
            access,
            audit,
            tls,
            log,
        })
    }
}

/// Who may connect, and where that is written down.
type Asked = (Arc<Access>, Arc<Audit>);

/// What is asked of whoever connects; nothing where nobody is asked.
fn who_may_connect(config: &Config, board: &Arc<Board>) -> anyhow::Result<Option<Asked>> {
    let auth = &config.auth;
    if !auth.is_required() {
        return Ok(None);
    }
    let files = Files::read(auth).map_err(|wrong| {
        let wrong: Vec<String> = wrong.into_iter().map(|(key, what)| format!("{key} {what}")).collect();
        anyhow::anyhow!("{}", wrong.join("; "))
    })?;
    let file =
        (!auth.audit_file.is_empty()).then(|| LogWriter::file(Path::new(&auth.audit_file))).transpose();
    let file = file.with_context(|| format!("auth.audit_file: {}", auth.audit_file))?;
    let access = Access::new(files, !auth.jwks_url.is_empty());
    Ok(Some((Arc::new(access), Arc::new(Audit::new(file, board.clone())))))
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
        let reloader = Reloader::new(self.loaded.clone(), self.in_effect.clone(), self.board.clone())
            .with(Part::cursor_keys(self.cursor_keys.clone()));
        let reloader = match &self.log {
            Some(log) => reloader.with(log.part()),
            None => reloader,
        };
        let reloader = match &self.tls {
            Some(tls) => reloader.with(tls.part(self.board.clone())),
            None => reloader,
        };
        match &self.access {
            Some((access, _)) => reloader.with(Part::access(access.clone())),
            None => reloader,
        }
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
        self.feeds.into_iter().for_each(Feed::stop);
        self.admin.stop();
        if let Some((_, watch)) = self.access {
            watch.stop();
        }
        if let Some(audit) = &self.audit {
            audit.drain();
        }
        Ok(cut)
    }
}
