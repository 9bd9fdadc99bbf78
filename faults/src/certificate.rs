//! A certificate of a gateway's own, for rows whose lines are encrypted.

use anyhow::{Context, Result};
use std::path::PathBuf;
use tempfile::TempDir;
use tickgate_load::trust::Trust;

/// Certificate and key in files that go with it, and who believes them.
#[derive(Debug)]
pub struct Certificate {
    folder: TempDir,
    /// Believes it, and nobody else.
    pub trust: Trust,
}

impl Certificate {
    /// Makes one for loopback.
    pub fn new() -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
        let folder = tempfile::tempdir().context("a folder for a certificate")?;
        std::fs::write(folder.path().join(CERTIFICATE), made.cert.pem())?;
        std::fs::write(folder.path().join(KEY), made.signing_key.serialize_pem())?;
        let trust = Trust::read(Some(&folder.path().join(CERTIFICATE)))?;
        Ok(Self { folder, trust })
    }

    /// What tells a gateway of it.
    pub fn settings(&self) -> [String; 2] {
        let path = |name| -> PathBuf { self.folder.path().join(name) };
        [
            format!("tls.certificate_file={}", path(CERTIFICATE).display()),
            format!("tls.key_file={}", path(KEY).display()),
        ]
    }
}

const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";
