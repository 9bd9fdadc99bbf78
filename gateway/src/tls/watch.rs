//! Certificates that are renewed under their old names: what issues them replaces the files and tells nobody.
//!
//! The files are read whole every few seconds: they are small, and their times and numbers say nothing where a folder
//! is exchanged by a symbolic link, as Kubernetes does it. Certificate and key are seldom replaced at once, so what has
//! changed is taken over when the next look finds the same; and what is refused is not tried again until it changes.

use super::Tls;
use super::material::Files;
use crate::config::ConfigError;
use crate::stats::{Board, TlsReload};
use std::sync::atomic::Ordering;

/// Looks at the files of a [`Tls`].
#[derive(Debug)]
pub struct Watch {
    tls: Tls,
    /// What the last look found, if it was not in use: the fingerprint of the files, or what is wrong with them.
    found: Option<Result<u64, ConfigError>>,
    /// What was refused, and need not be said again.
    refused: Option<Result<u64, ConfigError>>,
}

impl Watch {
    /// Over these.
    pub fn new(tls: Tls) -> Self {
        Self { tls, found: None, refused: None }
    }

    /// Looks, and takes over or refuses what has changed and stands.
    pub fn look(&mut self, board: &Board) {
        let config = self.tls.config();
        let files = Files::read(&config).and_then(|files| {
            // It was on when it was loaded.
            files.ok_or_else(|| ConfigError {
                origin: crate::config::Origin::Default,
                key: "tls".to_owned(),
                what: "is off".to_owned(),
            })
        });
        let found = files.as_ref().map(Files::fingerprint).map_err(Clone::clone);
        if found == Ok(self.tls.now().fingerprint) {
            (self.found, self.refused) = (None, None);
            return;
        }
        let found = Some(found);
        if self.refused == found {
            return;
        }
        if self.found != found {
            self.found = found;
            return;
        }
        match files.and_then(|files| self.tls.prepare(&files, &config)) {
            Ok(Some((material, config))) => {
                tracing::info!("certificate files have changed: taken over");
                self.tls.replace(material, config, board);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(
                    "certificate files have changed and are refused, the ones before stay: {error}"
                );
                board.tls_reloads[TlsReload::Refused as usize].fetch_add(1, Ordering::Relaxed);
                self.refused = found;
            }
        }
        self.found = None;
    }
}
