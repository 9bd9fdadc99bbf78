//! Whom a client believes to be the gateway, at the other end of a `wss://` URL.

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Where Debian and those like it keep the roots that everybody believes.
pub const SYSTEM_FILE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What a gateway's certificate has to lead to. There is no way to believe anybody.
#[derive(Debug, Clone)]
pub struct Trust(Arc<ClientConfig>);

/// Why a file of roots cannot be used.
#[derive(thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum TrustError {
    #[error("{}: no roots for wss:// can be read", .path.display())]
    Read { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("{}: holds no certificate that can be used", .path.display())]
    Empty { path: PathBuf },
    #[error("TLS cannot be had")]
    Tls(#[from] rustls::Error),
}

impl Trust {
    /// In the certificates of a PEM file; [`SYSTEM_FILE`] when none is named.
    ///
    /// # Errors
    /// [`TrustError`] when there are none.
    pub fn read(file: Option<&Path>) -> Result<Self, TrustError> {
        let path = file.unwrap_or(Path::new(SYSTEM_FILE));
        let failed = |source| TrustError::Read { path: path.to_owned(), source };
        let roots = CertificateDer::pem_file_iter(path).map_err(failed)?;
        let mut store = RootCertStore::empty();
        // Of a system's many, one that nobody can use is no reason to believe none.
        store.add_parsable_certificates(roots.filter_map(Result::ok));
        if store.is_empty() {
            return Err(TrustError::Empty { path: path.to_owned() });
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(store)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// As `config` says.
    pub fn of(config: Arc<ClientConfig>) -> Self {
        Self(config)
    }

    /// Shakes hands with `host`.
    ///
    /// # Errors
    /// When that is no host, or hands are not shaken.
    pub async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(Arc::clone(&self.0)).connect(name, stream).await
    }
}
