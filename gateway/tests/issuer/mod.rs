//! An issuer of tokens, and a gateway that asks for them.
#![allow(dead_code, unreachable_pub)]

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use tickgate_gateway::config::Config;

pub const NAME: &str = "https://issuer.example";
pub const AUDIENCE: &str = "tickgate";

/// Seconds since 1970.
pub fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is set");
    i64::try_from(since.as_secs()).expect("a time")
}

/// Signs tokens, with a key of which gateways have the public half.
pub struct Issuer {
    folder: TempDir,
    sign: EncodingKey,
    kid: String,
    jwk: Value,
}

impl Issuer {
    /// One whose key has this name.
    pub fn new(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        let point = pair.public_key().as_ref()[1..].to_vec();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[..32]), URL_SAFE_NO_PAD.encode(&point[32..]));
        let jwk = json!({ "kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "x": x, "y": y });
        let sign = EncodingKey::from_ec_der(pair.to_pkcs8v1().expect("a key").as_ref());
        let folder = tempfile::tempdir().expect("a folder");
        let issuer = Self { folder, sign, kid: kid.to_owned(), jwk };
        std::fs::write(issuer.file("keys.json"), issuer.set()).expect("it is written");
        issuer
    }

    /// Its set of keys.
    pub fn set(&self) -> String {
        json!({ "keys": [self.jwk] }).to_string()
    }

    /// Its key, as it stands in a set.
    pub fn jwk(&self) -> &Value {
        &self.jwk
    }

    /// A file of its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a gateway ask for its tokens.
    pub fn asked_by(&self, config: &mut Config) {
        config.auth.mode = "required".to_owned();
        config.auth.issuers = vec![NAME.to_owned()];
        config.auth.audiences = vec![AUDIENCE.to_owned()];
        config.auth.jwks_file = self.file("keys.json").display().to_string();
        config.auth.revoked_file = self.file("revoked").display().to_string();
        config.auth.revoked_refresh_ms = 100;
    }

    /// Signs claims.
    pub fn signs(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::ES256) };
        encode(&header, claims, &self.sign).expect("claims are JSON")
    }

    /// A token for a subject with these rights, for so many seconds.
    pub fn token_for(&self, subject: &str, rights: &Value, seconds: i64) -> String {
        self.signs(&json!({
            "iss": NAME, "aud": AUDIENCE, "sub": subject, "jti": format!("{subject}-1"),
            "exp": now_s() + seconds, "tickgate": rights,
        }))
    }

    /// A token of ann's, who may see everything for an hour.
    pub fn token(&self) -> String {
        self.token_for("ann", &json!({ "symbols": ["*"] }), 3_600)
    }
}
