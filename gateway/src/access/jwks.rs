//! Keys from a URL: fetched at start, from time to time, and when somebody names one that is not known.
//!
//! Whatever the server does, those who are connected do not notice, and neither does who comes with a key that is known:
//! the last good set counts on for a day. A failed fetch is tried again after a while that grows, by chance a little more
//! or less, so that the gateways of a cluster do not ask all at once.

use super::keys::{Keys, SET_BYTES_MAX, Set, Trust};
use super::{Access, Fetching};
use crate::clock;
use crate::config::AuthConfig;
use crate::stats::{Board, KeysFetch};
use anyhow::{Context, bail, ensure};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Time for a fetch, all of it.
const FETCH_MAX: Duration = Duration::from_secs(10);
/// Wait after the first failed fetch; it doubles with each further one, up to [`PAUSE_MS_MAX`].
const PAUSE_MS: u64 = 1_000;
const PAUSE_MS_MAX: u64 = 60_000;
/// How long the last good set counts without another: a day.
const KEPT_S: u64 = 86_400;

/// Fetches keys.
pub(super) struct Fetcher {
    uri: Uri,
    tls: Option<TlsConnector>,
    refresh_ms: u64,
    access: Arc<Access>,
    board: Arc<Board>,
    failures: u32,
}

impl Fetcher {
    /// One for the URL of a configuration, if it has one.
    ///
    /// # Errors
    /// When the certificates that are to vouch for its server cannot be read.
    pub(super) fn new(
        config: &AuthConfig,
        access: Arc<Access>,
        board: Arc<Board>,
    ) -> anyhow::Result<Option<Self>> {
        if config.jwks_url.is_empty() {
            return Ok(None);
        }
        let uri: Uri = config.jwks_url.parse().context("auth.jwks_url")?;
        let is_tls = uri.scheme_str() == Some("https");
        let tls = is_tls.then(|| connector(&config.jwks_ca_file)).transpose()?;
        let refresh_ms = config.jwks_refresh_s * 1_000;
        Ok(Some(Self { uri, tls, refresh_ms, access, board, failures: 0 }))
    }

    /// Fetches, for ever.
    pub(super) async fn run(mut self) {
        let access = self.access.clone();
        let Some(fetching) = access.fetching() else { return };
        loop {
            fetching.is_under_way.store(true, Ordering::Release);
            let pause_ms = self.fetch_once().await;
            over(fetching);
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(pause_ms)) => {}
                () = fetching.wanted.notified() => {}
            }
        }
    }

    /// Fetches once, and says how long to wait for the next time.
    async fn fetch_once(&mut self) -> u64 {
        let fetched = tokio::time::timeout(FETCH_MAX, self.fetch()).await;
        let set =
            fetched.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {} s", FETCH_MAX.as_secs())));
        let counts = &self.board.access;
        match set {
            Ok(set) => {
                counts.keys_fetches[KeysFetch::Ok as usize].fetch_add(1, Ordering::Relaxed);
                let (keys, left_out) = (set.keys.len() as u64, set.left_out);
                let before = counts.keys_fetched.swap(keys, Ordering::Relaxed);
                counts.keys_fetched_s.store(now_s(), Ordering::Relaxed);
                self.access.replace_fetched(Keys::new(set.keys));
                if std::mem::take(&mut self.failures) > 0 || before != keys {
                    tracing::info!(keys, left_out, "keys fetched");
                }
                spread(self.refresh_ms)
            }
            Err(error) => {
                counts.keys_fetches[KeysFetch::Failed as usize].fetch_add(1, Ordering::Relaxed);
                let since_s = now_s().saturating_sub(counts.keys_fetched_s.load(Ordering::Relaxed));
                if since_s > KEPT_S && counts.keys_fetched.swap(0, Ordering::Relaxed) > 0 {
                    self.access.replace_fetched(Keys::default());
                    tracing::error!("the keys that were fetched last are a day old, and count no more");
                }
                self.failures = self.failures.saturating_add(1);
                if self.failures == 1 {
                    // Once: the counter goes on.
                    let url = self.uri.to_string();
                    tracing::warn!(
                        url,
                        error = format!("{error:#}"),
                        "keys cannot be fetched: the last ones count"
                    );
                }
                spread(
                    (PAUSE_MS << self.failures.min(16).saturating_sub(1))
                        .min(PAUSE_MS_MAX)
                        .min(self.refresh_ms),
                )
            }
        }
    }

    async fn fetch(&self) -> anyhow::Result<Set> {
        let host = self.uri.host().context("the URL has no host")?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let port = self.uri.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let socket = TcpStream::connect((bare, port)).await.context("no connection")?;
        let body = match &self.tls {
            None => self.get(socket).await?,
            Some(tls) => {
                let name = ServerName::try_from(bare.to_owned()).context("no name of a server")?;
                self.get(tls.connect(name, socket).await.context("no TLS")?).await?
            }
        };
        Set::parse(&body, &self.access.allowed(), Trust::Url)
            .map_err(|what| anyhow::anyhow!("the answer {what}"))
    }

    async fn get(
        &self,
        socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> anyhow::Result<Bytes> {
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(64 << 10)
            .handshake(TokioIo::new(socket))
            .await
            .context("no HTTP")?;
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::get(path)
            .header(header::HOST, self.uri.authority().map_or("", |authority| authority.as_str()))
            .header(header::ACCEPT, "application/json")
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())?;
        let answer = async {
            let response = sender.send_request(request).await.context("no answer")?;
            // To follow one elsewhere would be to trust whoever is there.
            ensure!(!response.status().is_redirection(), "the answer sends elsewhere, which is not followed");
            ensure!(response.status().is_success(), "the answer is {}", response.status());
            match Limited::new(response.into_body(), SET_BYTES_MAX).collect().await {
                Ok(body) => Ok(body.to_bytes()),
                Err(error) => {
                    bail!("the answer cannot be read, or is longer than {SET_BYTES_MAX} bytes: {error}")
                }
            }
        };
        tokio::pin!(answer);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            // The answer may be complete with its end.
            _ = &mut connection => answer.await,
        }
    }
}

fn over(fetching: &Fetching) {
    fetching.is_under_way.store(false, Ordering::Release);
    fetching.ended.notify_waiters();
}

fn now_s() -> u64 {
    u64::try_from(clock::wall_ns() / 1_000_000_000).unwrap_or(0)
}

/// A tenth more or less, by chance: the standard library's hasher has a seed of its own each time.
fn spread(pause_ms: u64) -> u64 {
    let chance = RandomState::new().hash_one(pause_ms) % 201;
    pause_ms - pause_ms / 10 + pause_ms * chance / 2_000
}

fn connector(ca_file: &str) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    if ca_file.is_empty() {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        ensure!(!roots.is_empty(), "auth.jwks_url: the system trusts no certificates: set auth.jwks_ca_file");
    } else {
        let certificates =
            CertificateDer::pem_file_iter(ca_file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let certificates = certificates.with_context(|| format!("auth.jwks_ca_file: {ca_file}"))?;
        roots.add_parsable_certificates(certificates);
        ensure!(!roots.is_empty(), "auth.jwks_ca_file: {ca_file} holds no certificate");
    }
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_spread_by_a_tenth() {
        for pause_ms in [0, 10, 1_000, 60_000, 86_400_000] {
            for _ in 0..100 {
                let spread = spread(pause_ms);
                assert!(spread >= pause_ms - pause_ms / 10 && spread <= pause_ms + pause_ms / 10, "{spread}");
            }
        }
    }
}
