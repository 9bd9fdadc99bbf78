//! An issuer of tokens of a row's own, for gateways that ask who comes.

use anyhow::{Context, Result};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

const NAME: &str = "https://issuer.example";
const AUDIENCE: &str = "tickgate";
const SECRET: &str = "a secret of these rows and of no others";
/// What the ordinary ones live for: longer than any row.
const LONG_S: u64 = 6 * 3_600;

/// Signs tokens. Its secret and its list of who is revoked are files that go with it.
#[derive(Debug)]
pub struct Issuer {
    folder: TempDir,
}

impl Issuer {
    /// One that has revoked nobody.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir().context("a folder for an issuer")?;
        std::fs::write(folder.path().join("secret"), SECRET)?;
        Ok(Self { folder })
    }

    /// What tells a gateway of it.
    pub fn settings(&self) -> [String; 5] {
        [
            "auth.mode=required".to_owned(),
            format!("auth.issuers={NAME}"),
            format!("auth.audiences={AUDIENCE}"),
            format!("auth.key_files=HS256:{}", self.folder.path().join("secret").display()),
            format!("auth.revoked_file={}", self.revoked_file().display()),
        ]
    }

    fn revoked_file(&self) -> PathBuf {
        self.folder.path().join("revoked")
    }

    /// A token for somebody who may see everything, to the end of this second since 1970.
    pub fn token(&self, subject: &str, until_s: u64) -> Arc<str> {
        let claims = json!({
            "iss": NAME, "aud": AUDIENCE, "sub": subject, "jti": token_id(subject), "exp": until_s,
            "tickgate": {"symbols": ["*"]},
        });
        let signed = encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes()));
        signed.expect("claims are JSON").into()
    }

    /// An ordinary client's.
    pub fn long(&self, number: usize) -> Arc<str> {
        self.token(&format!("client-{number}"), now_s() + LONG_S)
    }

    /// Revokes these, as `jti:…` or `sub:…`, and nobody else.
    pub fn revoke(&self, entries: &[String]) -> Result<()> {
        // In one piece: a list is not to be read when it is half written.
        let whole = self.folder.path().join("revoked.new");
        std::fs::write(&whole, entries.join("\n") + "\n")?;
        std::fs::rename(whole, self.revoked_file()).context("a list of who is revoked")
    }
}

/// The name of a subject's tokens.
pub fn token_id(subject: &str) -> String {
    format!("{subject}-1")
}

/// Seconds since 1970.
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
