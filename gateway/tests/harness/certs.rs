//! Certificates of an authority that only this process knows, and clients that believe it.

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use tempfile::TempDir;
use tickgate_gateway::config::TlsConfig;
use tickgate_load::ClientOptions;
use tickgate_load::trust::Trust;

/// The authority that vouches for gateways, and the one that vouches for clients.
pub static GATEWAYS: LazyLock<Authority> = LazyLock::new(Authority::new);
pub static CLIENTS: LazyLock<Authority> = LazyLock::new(Authority::new);

pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate of this machine, valid for centuries.
    pub fn pair(&self) -> Pair {
        self.pair_until(4000)
    }

    /// One that is valid until the end of a year.
    pub fn pair_until(&self, year: i32) -> Pair {
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(names).expect("names");
        params.not_after = rcgen::date_time_ymd(year, 12, 31);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Pair { certificate, key: key.serialize_pem() }
    }
}

/// Files of a gateway, in a folder of their own.
pub struct Files {
    pub dir: TempDir,
}

impl Files {
    /// With a certificate that [`GATEWAYS`] vouches for.
    pub fn new() -> Self {
        let files = Self { dir: tempfile::tempdir().expect("a folder") };
        files.put(&GATEWAYS.pair());
        files
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Replaces certificate and key, one after the other, each at once.
    pub fn put(&self, pair: &Pair) {
        self.write("tls.crt", &pair.certificate);
        self.write("tls.key", &pair.key);
    }

    /// Replaces a file at once, as whatever renews certificates does.
    pub fn write(&self, name: &str, text: &str) {
        let next = self.path("next");
        std::fs::write(&next, text).expect("it is written");
        std::fs::rename(next, self.path(name)).expect("it is replaced");
    }

    /// What a gateway is to be told of them.
    pub fn config(&self) -> TlsConfig {
        TlsConfig {
            certificate_file: text(&self.path("tls.crt")),
            key_file: text(&self.path("tls.key")),
            watch_ms: 0,
            ..TlsConfig::default()
        }
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("text").to_owned()
}

/// What a client believes and shows.
pub fn client(
    versions: &[&'static SupportedProtocolVersion],
    authority: &Authority,
    shows: Option<&Pair>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.pem.as_bytes()).expect("a certificate");
    roots.add(root).expect("a root");
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots);
    Arc::new(match shows {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).expect("one")];
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("they fit")
        }
    })
}

/// A client of any version that believes [`GATEWAYS`] and shows nothing.
pub fn believing() -> Arc<ClientConfig> {
    client(rustls::ALL_VERSIONS, &GATEWAYS, None)
}

/// The same for a [`tickgate_load::Client`].
pub fn options(config: Arc<ClientConfig>) -> ClientOptions {
    ClientOptions { trust: Some(Trust::of(config)), ..ClientOptions::default() }
}
