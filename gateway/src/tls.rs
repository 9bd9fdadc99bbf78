//! TLS towards clients, by rustls.
//!
//! [`material`] is what it is done with: certificate, key, who may vouch for clients. It is found right before anything
//! starts, and can be exchanged while sessions go on, by a reload or because a file has changed ([`watch`]): what is
//! broken then is refused, and what was stays.
//!
//! [`records`] turns bytes into records and back and knows no socket; [`socket`] is a client's socket with TLS on it,
//! which its shard writes to and reads from as to any other; [`accept`] shakes hands before that.

pub mod accept;
pub mod material;
pub mod records;
pub mod socket;
pub mod validity;
pub mod watch;

use crate::clock;
use crate::config::{Config, ConfigError, TlsConfig};
use crate::reload::{Commit, Part};
use crate::stats::{Board, TlsReload};
use material::{Files, Material};
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::ProducesTickets;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// How long before its end a certificate is worth a warning.
const NEAR_END_S: i64 = 7 * 86_400;

/// What every connection is accepted with from now on. Clones share it.
#[derive(Debug, Clone)]
pub struct Tls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    now: Mutex<Now>,
    tickets: Arc<dyn ProducesTickets>,
}

#[derive(Debug)]
struct Now {
    material: Arc<Material>,
    /// Where it came from.
    config: TlsConfig,
}

impl Tls {
    /// What `config` names; `None` when it wants no TLS.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn load(config: &TlsConfig) -> Result<Option<Self>, ConfigError> {
        let Some(files) = Files::read(config)? else { return Ok(None) };
        let tickets = Ticketer::new().map_err(|error| ConfigError {
            origin: crate::config::Origin::Default,
            key: "tls".to_owned(),
            what: format!("cannot be had: {error}"),
        })?;
        let material = Arc::new(files.material(tickets.clone())?);
        let now = Mutex::new(Now { material, config: config.clone() });
        Ok(Some(Self(Arc::new(Shared { now, tickets }))))
    }

    /// What connections are accepted with now.
    pub fn now(&self) -> Arc<Material> {
        self.lock().material.clone()
    }

    /// Where that came from.
    pub fn config(&self) -> TlsConfig {
        self.lock().config.clone()
    }

    /// What takes another certificate over.
    pub fn part(&self, board: Arc<Board>) -> Part {
        let keys = &["tls.certificate_file", "tls.key_file", "tls.client_ca_file", "tls.client_certificates"];
        let tls = self.clone();
        Part::new(keys, move |config: &Config| {
            let files = Files::read(&config.tls)?.ok_or_else(|| ConfigError {
                origin: crate::config::Origin::Default,
                key: keys[0].to_owned(),
                what: "cannot be taken out while the gateway runs: restart it to serve without TLS"
                    .to_owned(),
            })?;
            let new = tls.prepare(&files, &config.tls)?;
            let (tls, board) = (tls.clone(), board.clone());
            Ok(new
                .map(|(material, config)| Box::new(move || tls.replace(material, config, &board)) as Commit))
        })
    }

    /// What these files make, unless they are in use.
    fn prepare(
        &self,
        files: &Files,
        config: &TlsConfig,
    ) -> Result<Option<(Material, TlsConfig)>, ConfigError> {
        let is_same = files.fingerprint() == self.now().fingerprint && *config == self.config();
        if is_same {
            return Ok(None);
        }
        Ok(Some((files.material(self.0.tickets.clone())?, config.clone())))
    }

    fn replace(&self, material: Material, config: TlsConfig, board: &Board) {
        material.tell();
        *self.lock() = Now { material: Arc::new(material), config };
        self.show(board);
        board.tls_reloads[TlsReload::Ok as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Shows on the board until when the certificate is valid.
    pub fn show(&self, board: &Board) {
        board.certificate_until_s.store(self.now().validity.until_s, Ordering::Relaxed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Now> {
        // Nothing is done under it that could leave it half changed.
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Material {
    /// Says in the log how long it is valid, louder when clients will not, or soon not, take it.
    pub fn tell(&self) {
        let now_s = clock::wall_ns() / 1_000_000_000;
        let (from_s, until_s) = (self.validity.from_s, self.validity.until_s);
        let days_left = until_s.saturating_sub(now_s).div_euclid(86_400);
        if now_s < from_s {
            tracing::warn!(from_s, "tls.certificate_file is not valid yet: clients will refuse it");
        } else if now_s > until_s {
            tracing::warn!(days_left, "tls.certificate_file has expired: clients will refuse it; renew it");
        } else if until_s - now_s < NEAR_END_S {
            tracing::warn!(days_left, "tls.certificate_file expires soon: renew it");
        } else {
            tracing::info!(days_left, "TLS: a certificate is in use");
        }
    }
}
