//! Where a gateway is: the parts of its URL.

use hyper::Uri;
use std::io;
use std::net::SocketAddr;
use tickgate_protocol::control::STREAM_PATH;
use tokio::net::lookup_host;

/// Where to connect: a `ws://host:port/path` or `wss://…` URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    is_tls: bool,
    host: String,
    port: u16,
    path: String,
}

/// A text that is no URL of a stream.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{url}`: {reason}; expected ws://HOST:PORT{STREAM_PATH}, or wss://")]
pub struct BadUrl {
    url: String,
    reason: &'static str,
}

impl Target {
    /// Takes `url` apart. The scheme may be left out, a missing path is [`STREAM_PATH`].
    ///
    /// # Errors
    /// [`BadUrl`] when the scheme is neither `ws` nor `wss`, or there is no host.
    pub fn parse(url: &str) -> Result<Self, BadUrl> {
        let bad = |reason| BadUrl { url: url.to_owned(), reason };
        let full = if url.contains("://") { url.to_owned() } else { format!("ws://{url}") };
        let uri: Uri = full.parse().map_err(|_| bad("not a URL"))?;
        let is_tls = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            _ => return Err(bad("the scheme must be ws or wss")),
        };
        let host = uri.host().filter(|h| !h.is_empty()).ok_or_else(|| bad("the host is missing"))?;
        let path = match uri.path_and_query().map(|p| p.as_str()) {
            None | Some("" | "/") => STREAM_PATH,
            Some(path) => path,
        };
        Ok(Self {
            is_tls,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            path: path.to_owned(),
        })
    }

    /// The address to connect to.
    ///
    /// # Errors
    /// When the host has no address.
    pub async fn resolve(&self) -> io::Result<SocketAddr> {
        let mut addresses = lookup_host((self.host.as_str(), self.port)).await?;
        addresses.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the host has no address"))
    }

    /// Whether TLS is spoken there.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The name or address of the host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Path and query.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Host and port, as in a `Host` header.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let target = |url| Target::parse(url).map(|t| (t.authority(), t.path)).map_err(|e| e.reason);
        let ok = |authority: &str, path: &str| Ok((authority.to_owned(), path.to_owned()));
        assert_eq!(target("ws://localhost:9000/v1/stream"), ok("localhost:9000", "/v1/stream"));
        assert_eq!(target("127.0.0.1:9000"), ok("127.0.0.1:9000", "/v1/stream"));
        assert_eq!(target("ws://[::1]:9000/"), ok("[::1]:9000", "/v1/stream"));
        assert_eq!(target("ws://gateway/other?x=1"), ok("gateway:80", "/other?x=1"));
        assert_eq!(target("wss://gateway"), ok("gateway:443", "/v1/stream"));
        assert!(Target::parse("wss://gateway").is_ok_and(|target| target.is_tls()));
        assert_eq!(target("http://gateway"), Err("the scheme must be ws or wss"));
        assert!(target("").is_err());
    }
}
