//! Certificate, key and who may vouch for clients: read from files, and found to fit before anything uses them.

use super::validity::Validity;
use crate::config::{CLIENT_CERTIFICATES, ConfigError, Origin, TlsConfig};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ProducesTickets, ServerConfig, WebPkiClientVerifier};
use rustls::{InconsistentKeys, RootCertStore};
use std::fmt;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::sync::Arc;

/// A file of more bytes holds something else. Every root that a browser knows fits.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The one protocol that is spoken within.
const ALPN: &[u8] = b"http/1.1";

const CERTIFICATE: &str = "tls.certificate_file";
const KEY: &str = "tls.key_file";
const CLIENT_CA: &str = "tls.client_ca_file";

/// What stands in the files of a configuration.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
    is_client_required: bool,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").finish_non_exhaustive()
    }
}

/// What connections are accepted with.
#[derive(Debug)]
pub struct Material {
    /// Everything that rustls wants to know.
    pub server: Arc<ServerConfig>,
    /// How long the certificate, or what is valid for less time on the way to its root, is valid.
    pub validity: Validity,
    /// Tells what stands in the files from anything else.
    pub fingerprint: u64,
}

/// What is wrong with the value of a key.
fn wrong(key: &str, what: impl Into<String>) -> ConfigError {
    ConfigError { origin: Origin::Default, key: key.to_owned(), what: what.into() }
}

impl Files {
    /// Reads the files that `config` names; `None` when it wants no TLS.
    ///
    /// # Errors
    /// What is missing or cannot be read.
    pub fn read(config: &TlsConfig) -> Result<Option<Self>, ConfigError> {
        let TlsConfig { certificate_file, key_file, client_ca_file, client_certificates, .. } = config;
        match (certificate_file.is_empty(), key_file.is_empty()) {
            (false, false) => {}
            (true, true) if client_ca_file.is_empty() => return Ok(None),
            (true, true) => {
                let what = format!("is of no use without a certificate of ours: set {CERTIFICATE} and {KEY}");
                return Err(wrong(CLIENT_CA, what));
            }
            (true, false) => return Err(wrong(KEY, format!("needs its certificate: set {CERTIFICATE}"))),
            (false, true) => return Err(wrong(CERTIFICATE, format!("needs its private key: set {KEY}"))),
        }
        let client_ca = match client_ca_file.as_str() {
            "" => None,
            file => Some(read(CLIENT_CA, file)?),
        };
        Ok(Some(Self {
            certificate: read(CERTIFICATE, certificate_file)?,
            key: read(KEY, key_file)?,
            is_client_required: client_ca.is_some() && client_certificates == CLIENT_CERTIFICATES[0],
            client_ca,
        }))
    }

    /// Tells these from others.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// Makes of them what connections are accepted with. `tickets` are how sessions are resumed.
    ///
    /// # Errors
    /// What is wrong with them, with what to do.
    pub fn material(&self, tickets: Arc<dyn ProducesTickets>) -> Result<Material, ConfigError> {
        let chain = certificates(CERTIFICATE, &self.certificate)?;
        let key = private_key(&self.key)?;
        let validity = chain.iter().map(|certificate| Validity::of(certificate));
        let validity = validity
            .reduce(|one, other| {
                let (one, other) = (one?, other?);
                let from_s = one.from_s.max(other.from_s);
                Some(Validity { from_s, until_s: one.until_s.min(other.until_s) })
            })
            .flatten()
            .ok_or_else(|| wrong(CERTIFICATE, "holds a certificate whose times cannot be read"))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(CERTIFICATE, format!("cannot be used: {error}")))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(roots) => builder.with_client_cert_verifier(self.verifier(roots, provider)?),
        };
        let mut server = builder.with_single_cert(chain, key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => wrong(
                KEY,
                format!(
                    "is not the key of the first certificate in {CERTIFICATE}, which must be the server's own"
                ),
            ),
            error => wrong(CERTIFICATE, format!("cannot be used with {KEY}: {error}")),
        })?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        // Tickets hold all that is to be known of a session: nothing is kept for clients that are away.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        if self.client_ca.is_some() {
            // A ticket would outlive the certificate that it was given for.
            server.send_tls13_tickets = 0;
        } else {
            server.ticketer = tickets;
            // A client has one session: a second ticket would be bytes for nothing.
            server.send_tls13_tickets = 1;
        }
        Ok(Material { server: Arc::new(server), validity, fingerprint: self.fingerprint() })
    }

    fn verifier(
        &self,
        roots: &[u8],
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, ConfigError> {
        let mut store = RootCertStore::empty();
        for root in certificates(CLIENT_CA, roots)? {
            store.add(root).map_err(|error| {
                wrong(CLIENT_CA, format!("holds a certificate that cannot be used: {error}"))
            })?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider);
        let builder = if self.is_client_required { builder } else { builder.allow_unauthenticated() };
        builder.build().map_err(|error| wrong(CLIENT_CA, format!("cannot be used: {error}")))
    }
}

/// All that stands in the file of a key.
fn read(key: &str, file: &str) -> Result<Vec<u8>, ConfigError> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| wrong(key, format!("`{}` cannot be read: {error}", file.escape_debug())))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(wrong(
            key,
            format!("is of more than {FILE_BYTES_MAX} bytes: that is no PEM file of one"),
        ));
    }
    Ok(bytes)
}

fn certificates(key: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(key, format!("is no PEM file: {error}")))?;
    if certificates.is_empty() {
        let what = "holds no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----";
        return Err(wrong(key, what));
    }
    Ok(certificates)
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, ConfigError> {
    let is_locked = || pem.windows(9).any(|word| word == b"ENCRYPTED");
    // What stands in it is repeated nowhere.
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| match is_locked() {
        true => {
            wrong(KEY, "is locked with a passphrase: write it without (`openssl pkey -in FILE -out FILE`)")
        }
        false => wrong(KEY, "holds no private key in PEM, which begins with -----BEGIN PRIVATE KEY-----"),
    })
}
