//! What all visits to one shard's listener share.

use super::lobby::Lobby;
use super::origin::Origins;
use super::proxies::Proxies;
use crate::access::Access;
use crate::admission::Admission;
use crate::clock;
use crate::config::Config;
use crate::log_limit::{LogLimit, Verdict};
use crate::shard::{Shard, Shared};
use crate::stats::RefuseReason;
use crate::tls::accept::Acceptor;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// What every unfinished handshake has, however many come, in milliseconds: the request of an honest client comes with its
/// connection, and behind a round trip or two with TLS.
const MOMENT_MS: u64 = 100;
const TLS_MOMENT_MS: u64 = 1_000;
/// Refusals that are logged within ten seconds, for each reason.
const REFUSAL_LOGS_PER_10_S: u32 = 5;

/// The door to one thread's shards.
pub(crate) struct Door {
    /// The live one.
    pub(super) shard: Rc<RefCell<Shard>>,
    /// That of each tier, the live one included.
    shards: Rc<[Rc<RefCell<Shard>>]>,
    pub(super) config: Arc<Config>,
    pub(super) admission: Arc<Admission>,
    pub(super) proxies: Proxies,
    pub(super) origins: Origins,
    /// Lines of the log, by why somebody was refused: a flood is a few lines.
    pub(super) logs: RefusalLogs,
    /// Those who are between their accept and their session.
    visits: RefCell<Visits>,
    /// Notified when there is one less.
    left: Notify,
    visits_max: usize,
    /// Shakes hands in TLS, where that is spoken.
    pub(super) tls: Option<Acceptor>,
    /// Who may connect; `None` where nobody is asked.
    pub(super) access: Option<Arc<Access>>,
    /// Who has not shown yet who it is.
    pub(super) lobby: Lobby,
    /// Sessions of all shards.
    sessions: Arc<AtomicUsize>,
}

/// Unfinished handshakes, oldest first, each with the time of its accept in monotonic milliseconds.
#[derive(Debug, Default)]
struct Visits {
    begun: u64,
    unfinished: BTreeMap<u64, (u64, AbortHandle)>,
}

impl Door {
    pub(super) fn new(shards: Rc<[Rc<RefCell<Shard>>]>, admission: Arc<Admission>) -> Self {
        let shard = shards[0].clone();
        let Shared { config, sessions, access, tls, .. } = shard.borrow().shared().clone();
        let lobby = Lobby::new(config.auth.pending_max / config.shard_count());
        let visits_max = (config.limits.handshakes_max / config.shard_count()).max(1);
        let proxies = Proxies::new(&config.proxies);
        let timeout = Duration::from_millis(config.tls.handshake_timeout_ms);
        let tls = tls.map(|tls| Acceptor::new(tls, timeout));
        let origins = Origins::new(&config.session.allowed_origins);
        Self {
            shard,
            shards,
            config,
            admission,
            proxies,
            origins,
            logs: RefusalLogs::default(),
            visits: RefCell::default(),
            left: Notify::new(),
            visits_max,
            tls,
            access,
            lobby,
            sessions,
        }
    }

    /// Waits for room for another visit. When there are too many, the oldest ends: who is slow on purpose keeps nobody
    /// out who is not. But each has a moment: of a crowd that comes at once, none is sent away for the next one.
    pub(super) async fn room(&self) {
        let moment_ms = if self.tls.is_some() { TLS_MOMENT_MS } else { MOMENT_MS };
        loop {
            let left = self.left.notified();
            let wait_ms = {
                let mut visits = self.visits.borrow_mut();
                if visits.unfinished.len() < self.visits_max {
                    return;
                }
                let Some(oldest) = visits.unfinished.first_entry() else { return };
                let age_ms = clock::mono_ms().saturating_sub(oldest.get().0);
                if age_ms >= moment_ms {
                    oldest.remove().1.abort();
                }
                moment_ms.checked_sub(age_ms).filter(|ms| *ms > 0)
            };
            let Some(wait_ms) = wait_ms else {
                return self.shard.borrow_mut().refused(RefuseReason::Displaced);
            };
            let _ = timeout(Duration::from_millis(wait_ms), left).await;
        }
    }

    /// The gateway drains: whoever has not shown yet who it is is sent away. Those who come, and those whose request is under
    /// way, are answered that it does.
    pub(crate) fn drain(&self) {
        self.lobby.close();
    }

    /// Whether nobody is between its accept and its session, or is being sent away there.
    pub(crate) fn is_quiet(&self) -> bool {
        self.visits.borrow().unfinished.is_empty() && self.lobby.is_left()
    }

    /// Begins a visit, which `task` makes of its place in the order.
    pub(super) fn begin(self: &Rc<Self>, task: impl FnOnce(Visit) -> AbortHandle) {
        let number = {
            let mut visits = self.visits.borrow_mut();
            visits.begun += 1;
            visits.begun
        };
        // It has its first turn after this one.
        let handle = task(Visit { door: self.clone(), number });
        self.visits.borrow_mut().unfinished.insert(number, (clock::mono_ms(), handle));
    }

    /// The shard of those who may see only what is so old, in seconds. `None` when no delay is as long: then they may see
    /// nothing.
    pub(super) fn shard_of(&self, delay_s: u64) -> Option<Rc<RefCell<Shard>>> {
        let tier = self.config.delays.tier(delay_s)?;
        self.shards.get(tier.number).cloned()
    }

    /// Takes a place among all sessions, if only to be told that there is none.
    pub(super) fn place(&self) -> Place {
        let before = self.sessions.fetch_add(1, Ordering::Relaxed);
        Place { sessions: Some(self.sessions.clone()), is_beyond: before >= self.config.limits.sessions_max }
    }
}

/// What of refusals is logged.
pub(super) struct RefusalLogs(RefCell<[LogLimit; RefuseReason::COUNT]>);

impl Default for RefusalLogs {
    fn default() -> Self {
        Self(RefCell::new(std::array::from_fn(|_| LogLimit::new(REFUSAL_LOGS_PER_10_S))))
    }
}

impl Door {
    /// Counts a refusal, and logs it unless there are too many for the same reason. `error` has no word of the client's.
    pub(super) fn refuse(&self, peer: SocketAddr, reason: RefuseReason, error: &str) {
        self.shard.borrow_mut().refused(reason);
        if let Verdict::Write { left_out } = self.logs.0.borrow_mut()[reason as usize].admit(clock::mono_ms())
        {
            tracing::debug!(%peer, reason = reason.label(), error, left_out, "connection refused");
        }
    }
}

/// One of the unfinished handshakes, until it is dropped.
pub(super) struct Visit {
    pub(super) door: Rc<Door>,
    number: u64,
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.door.visits.borrow_mut().unfinished.remove(&self.number);
        self.door.left.notify_one();
    }
}

/// A place among all sessions. Gives it back if the connection never becomes one.
pub(super) struct Place {
    sessions: Option<Arc<AtomicUsize>>,
    /// Whether `limits.sessions_max` is reached without it.
    pub(super) is_beyond: bool,
}

impl Place {
    /// A session holds the place from now on.
    pub(super) fn keep(mut self) {
        self.sessions = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(sessions) = &self.sessions {
            sessions.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
