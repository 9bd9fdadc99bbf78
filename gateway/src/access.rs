//! Who may connect, and what they may see.
//!
//! Whoever connects shows a token ([`token`]) or an API key ([`api_keys`]) and is then an [`Identity`] with [`rights`]; a
//! list of those [`revoked`] ends both. All of this is data in and an answer out: no socket, no clock, no waiting. What is
//! in effect is shared by all shards and replaced as a whole: by a reload (files), by the thread that fetches [`keys`] from
//! their URL and reads the list in a file again, and by the one that reads the topic of the other list.

pub mod api_keys;
pub mod audit;
mod jwks;
pub mod keys;
mod ledger;
mod reading;
pub mod revoked;
pub mod rights;
pub mod seats;
mod strict;
pub mod token;
pub(crate) mod topic;
pub mod watch;

use crate::clock;
use crate::config::AuthConfig;
use crate::stats::{AuthFailure, AuthWay};
use api_keys::ApiKeys;
use keys::{Algorithm, Keys};
use revoked::{List, Revoked, Source};
use rights::Rights;
use seats::Seats;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use token::Demands;
use tokio::sync::Notify;

/// Who somebody is, as far as it was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its name: the token's `sub`, or the name of the API key.
    pub subject: Arc<str>,
    /// Until when that counts, in seconds since the Unix epoch.
    pub expires_s: Option<i64>,
    /// How it was shown.
    pub way: Way,
    /// What it may see.
    pub rights: Arc<Rights>,
}

/// How somebody showed who it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Way {
    /// With a token, of this id.
    Token {
        /// Its `jti`.
        id: Option<Arc<str>>,
    },
    /// With the API key of this hash.
    ApiKey {
        /// Its SHA-256.
        hash: Box<[u8; 32]>,
    },
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Token { id } => f.debug_struct("Token").field("id", id).finish(),
            Self::ApiKey { .. } => f.write_str("ApiKey"),
        }
    }
}

impl Way {
    /// As a label.
    pub fn kind(&self) -> AuthWay {
        match self {
            Self::Token { .. } => AuthWay::Token,
            Self::ApiKey { .. } => AuthWay::ApiKey,
        }
    }
}

/// What comes of files, and is taken over by a reload.
#[derive(Debug, PartialEq)]
pub struct Files {
    demands: Demands,
    allowed: Vec<Algorithm>,
    keys: Keys,
    api_keys: ApiKeys,
}

impl Files {
    /// As the configuration says.
    ///
    /// # Errors
    /// Everything that is wrong, each with its key of the configuration.
    pub fn read(config: &AuthConfig) -> Result<Self, Vec<(&'static str, String)>> {
        let mut errors = Vec::new();
        let keys = Keys::from_files(config).unwrap_or_else(|wrong| {
            errors.extend(wrong);
            Keys::default()
        });
        let api_keys = match config.api_keys_file.as_str() {
            "" => ApiKeys::default(),
            path => ApiKeys::from_file(path).unwrap_or_else(|what| {
                errors.push(("auth.api_keys_file", what));
                ApiKeys::default()
            }),
        };
        if !errors.is_empty() {
            return Err(errors);
        }
        let demands = Demands {
            issuers: config.issuers.clone(),
            audiences: config.audiences.clone(),
            claim: config.claim.clone(),
            leeway_s: i64::try_from(config.leeway_s).unwrap_or(i64::MAX),
        };
        Ok(Self { demands, allowed: config.allowed(), keys, api_keys })
    }
}

/// How often keys are fetched at the most because somebody names one that is not known, in milliseconds.
const UNKNOWN_KEY_PAUSE_MS: u64 = 30_000;
/// How long somebody waits whose key is being fetched.
const KEYS_WAIT: Duration = Duration::from_secs(2);

/// Between those who want keys and the one who fetches them.
#[derive(Debug, Default)]
pub(crate) struct Fetching {
    /// Notified when somebody names a key that is not known.
    pub(crate) wanted: Notify,
    /// Notified when they were fetched, or could not be.
    pub(crate) ended: Notify,
    pub(crate) is_under_way: AtomicBool,
    not_before_ms: AtomicU64,
}

/// What is in effect of all this.
#[derive(Debug)]
pub struct Access {
    files: RwLock<Arc<Files>>,
    /// The keys that were fetched; none before, and when they are too old.
    fetched: RwLock<Arc<Keys>>,
    revoked: Revoked,
    seats: Seats,
    /// What keys are fetched by; `None` when they are not.
    fetching: Option<Fetching>,
    /// Changes with whatever may end the welcome of somebody who is in.
    generation: AtomicU64,
}

impl Access {
    /// With these files, and nothing fetched yet; `is_fetched` when somebody will do that.
    pub fn new(files: Files, is_fetched: bool) -> Self {
        Self {
            files: RwLock::new(Arc::new(files)),
            fetched: RwLock::default(),
            revoked: Revoked::default(),
            seats: Seats::default(),
            fetching: is_fetched.then(Fetching::default),
            generation: AtomicU64::new(0),
        }
    }

    /// Who somebody is that shows `credential`, at `now_s`, seconds since the Unix epoch.
    ///
    /// # Errors
    /// Why that is not to be believed: for counters and the log. Whoever sent it only hears that it is so.
    pub fn check(&self, credential: &str, now_s: i64) -> Result<Identity, AuthFailure> {
        let files = self.files();
        let identity = if credential.contains('.') {
            let fetched = now(&self.fetched);
            token::read(credential, &[&files.keys, &fetched], &files.demands, now_s)?
        } else {
            files.api_keys.find(credential, now_s).ok_or(AuthFailure::ApiKey)?
        };
        if self.revoked.names(&identity) { Err(AuthFailure::Revoked) } else { Ok(identity) }
    }

    /// Whether somebody who is in is welcome still, whatever has been replaced since.
    pub fn is_welcome(&self, identity: &Identity) -> bool {
        let is_held = match &identity.way {
            Way::Token { .. } => true,
            Way::ApiKey { hash } => self.files().api_keys.holds(&**hash, identity),
        };
        is_held && !self.revoked.names(identity)
    }

    /// A number that is another when somebody who was welcome may be so no more.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The files in effect.
    pub fn files(&self) -> Arc<Files> {
        now(&self.files)
    }

    /// Puts other files in effect.
    pub fn replace_files(&self, files: Files) {
        replace(&self.files, files);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Puts keys in effect that were fetched.
    pub fn replace_fetched(&self, keys: Keys) {
        replace(&self.fetched, keys);
    }

    /// Puts another list of those revoked, of this source, in effect; says whether it is another.
    pub fn replace_revoked(&self, source: Source, list: List) -> bool {
        let is_other = self.revoked.replace(source, list);
        if is_other {
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
        is_other
    }

    /// Asks for keys to be fetched, as somebody names one that is not known; says whether they are being fetched. That is
    /// not done more often than every half a minute, whatever strangers name.
    pub fn want_keys(&self) -> bool {
        let Some(fetching) = &self.fetching else { return false };
        let now_ms = clock::mono_ms();
        let not_before_ms = fetching.not_before_ms.load(Ordering::Relaxed);
        if now_ms < not_before_ms {
            return fetching.is_under_way.load(Ordering::Acquire);
        }
        let next_ms = now_ms + UNKNOWN_KEY_PAUSE_MS;
        let (order, relaxed) = (Ordering::AcqRel, Ordering::Relaxed);
        if fetching.not_before_ms.compare_exchange(not_before_ms, next_ms, order, relaxed).is_ok() {
            fetching.is_under_way.store(true, Ordering::Release);
            fetching.wanted.notify_one();
        }
        true
    }

    /// The same, and waits for them, but not for long; says whether anything was waited for.
    pub async fn await_keys(&self) -> bool {
        let Some(fetching) = &self.fetching else { return false };
        let mut ended = std::pin::pin!(fetching.ended.notified());
        // Before it is asked for: it may be over in no time.
        ended.as_mut().enable();
        if !self.want_keys() {
            return false;
        }
        // Those that have not come by then may be there for the next.
        tokio::time::timeout(KEYS_WAIT, ended).await.is_ok()
    }

    /// What keys are fetched by; `None` when they are not.
    pub(crate) fn fetching(&self) -> Option<&Fetching> {
        self.fetching.as_ref()
    }

    /// Who has how many connections.
    pub fn seats(&self) -> &Seats {
        &self.seats
    }

    /// Those revoked.
    pub fn revoked(&self) -> &Revoked {
        &self.revoked
    }

    /// By how much clocks may differ, in seconds.
    pub(crate) fn leeway_s(&self) -> i64 {
        self.files().demands.leeway_s
    }

    /// What algorithms keys may be for.
    pub fn allowed(&self) -> Vec<Algorithm> {
        self.files().allowed.clone()
    }
}

// Nothing in between can panic, and a pointer is whole at any time.

fn now<T>(shared: &RwLock<Arc<T>>) -> Arc<T> {
    shared.read().unwrap_or_else(PoisonError::into_inner).clone()
}

fn replace<T>(shared: &RwLock<Arc<T>>, new: T) {
    *shared.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
}
