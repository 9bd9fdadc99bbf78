//! Who connects, when a proxy connects for somebody: told by proxies of the configured networks, and believed of no others.

use super::proxy_header::{self, FIXED_BYTES};
use crate::config::ProxiesConfig;
use crate::network::Network;
use hyper::header::{HeaderMap, HeaderName};
use std::io;
use std::net::{IpAddr, SocketAddr};
use tokio::io::{AsyncRead, AsyncReadExt};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// How a peer says for whom it connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    /// For itself.
    Nothing,
    /// In the head of its request.
    ForwardedFor,
    /// In front of everything.
    ProxyHeader,
}

/// The proxies in front of the gateway.
#[derive(Debug)]
pub(super) struct Proxies {
    says: Says,
    trusted: Vec<Network>,
}

impl Proxies {
    pub(super) fn new(config: &ProxiesConfig) -> Self {
        let says = match config.protocol.as_str() {
            "x-forwarded-for" => Says::ForwardedFor,
            "v2" => Says::ProxyHeader,
            _ => Says::Nothing,
        };
        // Each was found right when the configuration was checked.
        Self { says, trusted: config.trusted.iter().filter_map(|text| Network::parse(text).ok()).collect() }
    }

    /// How `peer` says for whom it connects.
    pub(super) fn of(&self, peer: SocketAddr) -> Says {
        if self.says != Says::Nothing && self.is_trusted(peer.ip()) { self.says } else { Says::Nothing }
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// For whom a trusted `peer` connects, as `X-Forwarded-For` says: each proxy adds who came to it, so the last address
    /// that is none of ours is the client, and whatever stands before it may be invented.
    pub(super) fn forwarded_for(&self, headers: &HeaderMap, peer: SocketAddr) -> SocketAddr {
        let values = headers.get_all(FORWARDED_FOR).iter().rev();
        let hops = values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
        let mut client = peer;
        for hop in hops {
            let Some(address) = address(hop) else { break };
            client = address;
            if !self.is_trusted(address.ip()) {
                break;
            }
        }
        client
    }

    /// Takes the head off the connection of a trusted `peer`, and not a byte more. To be abandoned only with the
    /// connection.
    pub(super) async fn take_header(
        socket: &mut (impl AsyncRead + Unpin),
        peer: SocketAddr,
    ) -> io::Result<SocketAddr> {
        let mut bytes = [0; proxy_header::BYTES_MAX];
        let (begin, more) = bytes.split_at_mut(FIXED_BYTES);
        socket.read_exact(begin).await?;
        let mut head = [0; FIXED_BYTES];
        head.copy_from_slice(begin);
        let head = proxy_header::fixed(&head)
            .map_err(|malformed| io::Error::new(io::ErrorKind::InvalidData, malformed.text()))?;
        let more = &mut more[..head.more_bytes];
        socket.read_exact(more).await?;
        Ok(head.source(more).unwrap_or(peer))
    }
}

/// An address as a proxy writes it, with or without its port.
fn address(hop: &[u8]) -> Option<SocketAddr> {
    let hop = std::str::from_utf8(hop).ok()?.trim();
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop);
    hop.parse().ok().or_else(|| bare.parse().ok().map(|address: IpAddr| SocketAddr::new(address, 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies() -> Proxies {
        let trusted = vec!["10.0.0.0/8".to_owned(), "fd00::/8".to_owned()];
        Proxies::new(&ProxiesConfig { protocol: "x-forwarded-for".to_owned(), trusted })
    }

    fn client(values: &[&[u8]]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(FORWARDED_FOR, hyper::header::HeaderValue::from_bytes(value).unwrap());
        }
        proxies().forwarded_for(&headers, "10.0.0.1:5".parse().unwrap()).ip().to_string()
    }

    #[test]
    fn the_last_address_that_is_none_of_ours_is_the_client() {
        assert_eq!(client(&[]), "10.0.0.1");
        assert_eq!(client(&[b"192.0.2.1"]), "192.0.2.1");
        assert_eq!(client(&[b"1.1.1.1, 192.0.2.1"]), "192.0.2.1", "the first one anybody can write");
        assert_eq!(client(&[b"1.1.1.1,192.0.2.1 ,10.2.3.4"]), "192.0.2.1");
        assert_eq!(client(&[b"1.1.1.1", b"192.0.2.1", b"10.2.3.4, fd00::1"]), "192.0.2.1");
        assert_eq!(client(&[b"10.9.9.9"]), "10.9.9.9", "one of ours, for itself");
        for written in ["192.0.2.1:80", "[2001:db8::1]:80", "[2001:db8::1]", "2001:db8::1"] {
            assert!(
                ["192.0.2.1", "2001:db8::1"].contains(&client(&[written.as_bytes()]).as_str()),
                "{written}"
            );
        }
        for odd in ["", "unknown", "192.0.2.1.1", "_hidden", "192.0.2.1 192.0.2.2", "\u{e9}"] {
            assert_eq!(
                client(&[b"192.0.2.9", odd.as_bytes()]),
                "10.0.0.1",
                "{odd}: nothing before it counts"
            );
        }
    }

    #[test]
    fn only_proxies_of_ours_are_believed() {
        let says = |peer: &str| proxies().of(peer.parse().unwrap());
        assert_eq!(says("10.1.1.1:1"), Says::ForwardedFor);
        assert_eq!(says("[::ffff:10.1.1.1]:1"), Says::ForwardedFor);
        assert_eq!(says("11.1.1.1:1"), Says::Nothing);
    }
}
