//! The keys that tokens are checked with. Each is for one algorithm alone, whatever a token says of itself: a public key
//! that were taken for a secret would let everybody sign.

use crate::config::AuthConfig;
use aws_lc_rs::digest::{Digest, SHA256, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::rsa::{PublicEncryptingKey, PublicKeyComponents};
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RsaParameters,
    VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Keys at most, of one set and of all files: each that fits a token is tried.
pub const KEYS_MAX: usize = 64;
/// Keys that are tried for one token: a signature takes some 50 µs to check.
const TRIES_MAX: usize = 8;
/// Bytes of a set of keys.
pub const SET_BYTES_MAX: usize = 256 << 10;
/// Bytes of a shared secret at least: fewer can be guessed by trying, away from the gateway.
pub const SECRET_BYTES_MIN: usize = 32;
/// 2048 to 8192 bits.
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1_024;
/// Bytes of a key's file at most.
const FILE_BYTES_MAX: usize = 16 << 10;
/// Bytes of a key's name at most.
const KID_BYTES_MAX: usize = 256;

macro_rules! algorithms {
    ($($variant:ident = $name:literal,)*) => {
        /// How a token is signed. `none` is not among them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Algorithm { $($variant,)* }

        impl Algorithm {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its name in tokens, and in the configuration.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The one of this name, written just so.
            pub fn parse(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

algorithms! {
    Hs256 = "HS256",
    Hs384 = "HS384",
    Hs512 = "HS512",
    Rs256 = "RS256",
    Rs384 = "RS384",
    Rs512 = "RS512",
    Ps256 = "PS256",
    Ps384 = "PS384",
    Ps512 = "PS512",
    Es256 = "ES256",
    Es384 = "ES384",
    EdDsa = "EdDSA",
}

/// What checks a signature.
enum Checked {
    /// A secret that the issuer has, too.
    By(hmac::Algorithm),
    Rsa(&'static RsaParameters),
    Other(&'static dyn VerificationAlgorithm),
}

impl Algorithm {
    fn checked(self) -> Checked {
        match self {
            Self::Hs256 => Checked::By(hmac::HMAC_SHA256),
            Self::Hs384 => Checked::By(hmac::HMAC_SHA384),
            Self::Hs512 => Checked::By(hmac::HMAC_SHA512),
            Self::Rs256 => Checked::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Checked::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Checked::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Checked::Rsa(&signature::RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Checked::Rsa(&signature::RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Checked::Rsa(&signature::RSA_PSS_2048_8192_SHA512),
            Self::Es256 => Checked::Other(&ECDSA_P256_SHA256_FIXED),
            Self::Es384 => Checked::Other(&ECDSA_P384_SHA384_FIXED),
            Self::EdDsa => Checked::Other(&ED25519),
        }
    }

    /// Whether whoever can check it can also sign.
    pub fn is_shared(self) -> bool {
        matches!(self.checked(), Checked::By(_))
    }
}

enum Material {
    // Boxed: it is 1.2 KB, and a public key a twentieth of that.
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

/// One key.
pub struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    material: Material,
    /// Of what it was made of: a reload wants to know whether it is another.
    hash: Digest,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        (&self.kid, self.algorithm) == (&other.kid, other.algorithm)
            && self.hash.as_ref() == other.hash.as_ref()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({}, {:?})", self.algorithm.name(), self.kid)
    }
}

impl Key {
    /// A secret.
    ///
    /// # Errors
    /// When it is too short.
    pub fn secret(kid: Option<&str>, algorithm: Algorithm, secret: &[u8]) -> Result<Self, String> {
        let Checked::By(hmac) = algorithm.checked() else {
            return Err(format!("{} is not for secrets", algorithm.name()));
        };
        if secret.len() < SECRET_BYTES_MIN {
            return Err(format!(
                "holds a secret of {} bytes: at least {SECRET_BYTES_MIN}, by chance",
                secret.len()
            ));
        }
        let material = Material::Secret(Box::new(hmac::Key::new(hmac, secret)));
        Ok(Self { kid: kid.map(str::to_owned), algorithm, material, hash: digest(&SHA256, secret) })
    }

    /// A public key as it is in PEM files: `SubjectPublicKeyInfo` in DER.
    ///
    /// # Errors
    /// When it is none for that algorithm.
    pub fn public(kid: Option<&str>, algorithm: Algorithm, der: &[u8]) -> Result<Self, String> {
        let parsed = match algorithm.checked() {
            Checked::By(_) => {
                return Err(format!("holds a public key, and {} is for secrets", algorithm.name()));
            }
            Checked::Rsa(parameters) => {
                // Its size would only be looked at with the first signature.
                let is_strong = PublicEncryptingKey::from_der(der).is_ok();
                let parsed = ParsedPublicKey::new(parameters, der);
                if is_strong {
                    parsed
                } else {
                    return Err("holds no public key of RSA of 2048 to 8192 bits".to_owned());
                }
            }
            Checked::Other(checked) => ParsedPublicKey::new(checked, der),
        };
        let parsed = parsed.map_err(|_| format!("holds no public key for {}", algorithm.name()))?;
        let material = Material::Public(parsed);
        Ok(Self { kid: kid.map(str::to_owned), algorithm, material, hash: digest(&SHA256, der) })
    }

    /// Reads a file that the configuration names: `ALGORITHM[#kid]:path`.
    ///
    /// # Errors
    /// What is wrong with the entry or its file.
    pub fn from_entry(entry: &str, allowed: &[Algorithm]) -> Result<Self, String> {
        let (algorithm, kid, path) = parse_entry(entry)?;
        if !allowed.contains(&algorithm) {
            return Err(format!("`{}` is not among auth.algorithms", algorithm.name()));
        }
        let shown = path.escape_debug();
        let bytes = read(path, FILE_BYTES_MAX).map_err(|error| format!("`{shown}` {error}"))?;
        let text = bytes.trim_ascii();
        let key = if text.starts_with(b"-----BEGIN") {
            pem(text).and_then(|der| Self::public(kid, algorithm, &der))
        } else if algorithm.is_shared() {
            Self::secret(kid, algorithm, text)
        } else {
            Err("holds no PEM of a public key: `openssl pkey -pubout` writes one".to_owned())
        };
        key.map_err(|what| format!("`{shown}` {what}"))
    }

    /// Whether `signature` is its holder's under `message`.
    pub fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Material::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }

    /// What it is for.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

/// The parts of an entry of `auth.key_files`.
///
/// # Errors
/// When it is none.
pub fn parse_entry(entry: &str) -> Result<(Algorithm, Option<&str>, &str), String> {
    let wrong = || {
        format!(
            "must be ALGORITHM:path or ALGORITHM#kid:path, as \"ES256:/etc/tickgate/issuer.pem\", not `{}`",
            entry.escape_debug()
        )
    };
    let (head, path) = entry.split_once(':').filter(|(_, path)| !path.is_empty()).ok_or_else(wrong)?;
    let (name, kid) = match head.split_once('#') {
        Some((name, kid)) if !kid.is_empty() => (name, Some(kid)),
        Some(_) => return Err(wrong()),
        None => (head, None),
    };
    let algorithm = Algorithm::parse(name).ok_or_else(|| {
        let names: Vec<_> = Algorithm::ALL.iter().map(|algorithm| algorithm.name()).collect();
        format!("names no algorithm that there is ({}): {}", names.join(", "), wrong())
    })?;
    Ok((algorithm, kid, path))
}

/// A file's bytes, of which there may be so many.
pub(super) fn read(path: impl AsRef<Path>, most: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    // A file that is not meant, such as a device without an end, is not read whole to find out.
    File::open(path)
        .and_then(|file| file.take(most as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() > most {
        return Err(format!("is longer than {most} bytes"));
    }
    Ok(bytes)
}

/// What a PEM text says, which must be of a public key.
fn pem(text: &[u8]) -> Result<Vec<u8>, String> {
    let wrong = || "holds PEM that cannot be read".to_owned();
    let text = std::str::from_utf8(text).map_err(|_| wrong())?;
    let mut lines = text.lines().map(str::trim);
    let first = lines.next().unwrap_or_default();
    if first != "-----BEGIN PUBLIC KEY-----" {
        let label = first.trim_matches('-').trim_start_matches("BEGIN ");
        let label: String = label.chars().take(40).collect();
        return Err(format!(
            "must hold a PEM of a PUBLIC KEY, not of `{}`: `openssl pkey -pubout` writes one",
            label.escape_debug()
        ));
    }
    let mut body = String::new();
    for line in lines {
        if line == "-----END PUBLIC KEY-----" {
            return STANDARD.decode(body).map_err(|_| wrong());
        }
        body.push_str(line);
    }
    Err(wrong())
}

/// The keys in effect.
#[derive(Debug, Default, PartialEq)]
pub struct Keys {
    list: Vec<Key>,
}

impl Keys {
    /// These.
    pub fn new(list: Vec<Key>) -> Self {
        Self { list }
    }

    /// Those of the files that the configuration names.
    ///
    /// # Errors
    /// What is wrong with any of them, each with its key of the configuration.
    pub fn from_files(config: &AuthConfig) -> Result<Self, Vec<(&'static str, String)>> {
        let allowed = config.allowed();
        let (mut list, mut errors) = (Vec::new(), Vec::new());
        for entry in &config.key_files {
            match Key::from_entry(entry, &allowed) {
                Ok(key) => list.push(key),
                Err(what) => errors.push(("auth.key_files", what)),
            }
        }
        if !config.jwks_file.is_empty() {
            let set = read(&config.jwks_file, SET_BYTES_MAX)
                .and_then(|bytes| Set::parse(&bytes, &allowed, Trust::File));
            match set {
                Ok(set) => list.extend(set.keys),
                Err(what) => errors.push(("auth.jwks_file", what)),
            }
        }
        if list.len() > KEYS_MAX {
            errors.push((
                "auth.key_files",
                format!("name {} keys with auth.jwks_file: at most {KEYS_MAX}", list.len()),
            ));
        }
        if errors.is_empty() { Ok(Self { list }) } else { Err(errors) }
    }

    /// Those that a token may be signed with that says this of itself: those of its `kid`, and those without a name. A token
    /// without a `kid` may be signed with one that has a name only while there is no choice.
    pub fn fitting<'a>(
        &'a self,
        algorithm: Algorithm,
        kid: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Key> {
        let of_it = move |key: &&Key| key.algorithm == algorithm;
        let is_only_one = kid.is_none() && self.list.iter().filter(of_it).count() == 1;
        let fits = move |key: &&Key| key.kid.is_none() || is_only_one || key.kid.as_deref() == kid;
        self.list.iter().filter(of_it).filter(fits).take(TRIES_MAX)
    }

    /// Whether one of them has this name.
    pub fn has_named(&self, kid: &str) -> bool {
        self.list.iter().any(|key| key.kid.as_deref() == Some(kid))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }
}

/// Where a set of keys comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// A file of this machine: it may hold secrets.
    File,
    /// A URL: what everybody can fetch is no secret.
    Url,
}

/// A set of keys (RFC 7517), of which what cannot be used is left out.
#[derive(Debug)]
pub struct Set {
    /// What can be used.
    pub keys: Vec<Key>,
    /// How many were left out: other algorithms, other uses, or broken.
    pub left_out: usize,
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct RawKey {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

impl Set {
    /// Reads a set.
    ///
    /// # Errors
    /// When it is none, or has none that can be used: an empty set would refuse everybody, which nobody means.
    pub fn parse(bytes: &[u8], allowed: &[Algorithm], trust: Trust) -> Result<Self, String> {
        if bytes.len() > SET_BYTES_MAX {
            return Err(format!("is longer than {SET_BYTES_MAX} bytes"));
        }
        let raw: RawSet =
            serde_json::from_slice(bytes).map_err(|_| "is no set of keys: {\"keys\":[…]}".to_owned())?;
        let count = raw.keys.len();
        if count > KEYS_MAX {
            return Err(format!("has {count} keys: at most {KEYS_MAX}"));
        }
        let read = |value| serde_json::from_value::<RawKey>(value).ok()?.key(allowed, trust);
        let keys: Vec<Key> = raw.keys.into_iter().filter_map(read).collect();
        if keys.is_empty() {
            return Err(format!("has no key that can be used, of {count}"));
        }
        Ok(Self { left_out: count - keys.len(), keys })
    }
}

impl RawKey {
    /// The key, if it can be used to check signatures. One without `alg` is for the usual algorithm of its kind.
    fn key(&self, allowed: &[Algorithm], trust: Trust) -> Option<Key> {
        let is_to_check = self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        let kid = self.kid.as_deref();
        if !is_to_check || kid.is_some_and(|kid| kid.is_empty() || kid.len() > KID_BYTES_MAX) {
            return None;
        }
        let curve = self.crv.as_deref();
        let usual = match (self.kty.as_str(), curve) {
            ("RSA", None) => Algorithm::Rs256,
            ("EC", Some("P-256")) => Algorithm::Es256,
            ("EC", Some("P-384")) => Algorithm::Es384,
            ("OKP", Some("Ed25519")) => Algorithm::EdDsa,
            ("oct", None) if trust == Trust::File => Algorithm::Hs256,
            _ => return None,
        };
        let algorithm = match self.alg.as_deref() {
            // What RFC 9864 calls it.
            Some("Ed25519") => Algorithm::EdDsa,
            Some(name) => Algorithm::parse(name)?,
            None => usual,
        };
        if !allowed.contains(&algorithm) {
            return None;
        }
        let decode = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
        match (self.kty.as_str(), algorithm.checked()) {
            ("RSA", Checked::Rsa(parameters)) => {
                let (n, e) = (decode(&self.n)?, decode(&self.e)?);
                if !RSA_MODULUS_BYTES.contains(&n.len()) {
                    return None;
                }
                let hash = digest(&SHA256, &[&n[..], &e[..]].concat());
                let parsed = PublicKeyComponents { n, e }.to_parsed_public_key(parameters).ok()?;
                let material = Material::Public(parsed);
                Some(Key { kid: kid.map(str::to_owned), algorithm, material, hash })
            }
            ("EC", Checked::Other(_)) if algorithm == usual => {
                let (x, y) = (decode(&self.x)?, decode(&self.y)?);
                let width = if algorithm == Algorithm::Es256 { 32 } else { 48 };
                let is_whole = x.len() == width && y.len() == width;
                is_whole.then(|| Key::public(kid, algorithm, &[&[4], &x[..], &y[..]].concat()).ok())?
            }
            ("OKP", Checked::Other(_)) if algorithm == usual => {
                let x = decode(&self.x)?;
                (x.len() == 32).then(|| Key::public(kid, algorithm, &x).ok())?
            }
            ("oct", Checked::By(_)) => Key::secret(kid, algorithm, &decode(&self.k)?).ok(),
            _ => None,
        }
    }
}
