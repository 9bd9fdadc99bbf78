//! The head by which a proxy says for whom it connects: version 2 of the PROXY protocol, as HAProxy writes it.
//!
//! Read strictly and without waiting for anything: bytes go in, an address comes out. Version 1, which is text, is not read.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// What every head begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes before the addresses.
pub(super) const FIXED_BYTES: usize = 16;
/// Bytes of the longest head that is taken: what the specification asks of every receiver, and room for what proxies add.
pub(super) const BYTES_MAX: usize = 536;

/// Why it is no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    Signature,
    Version,
    Family,
    Length,
}

impl Malformed {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Signature => {
                "the connection of a trusted proxy begins with no PROXY protocol head of version 2"
            }
            Self::Version => "a PROXY protocol head of another version, or with an unknown command",
            Self::Family => "a PROXY protocol head of something that is no TCP connection",
            Self::Length => "a PROXY protocol head that is too short for its addresses, or too long",
        }
    }
}

/// What a head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes that follow the fixed ones.
    pub(super) more_bytes: usize,
    has_address: bool,
    is_v6: bool,
}

/// Reads the fixed bytes.
pub(super) fn fixed(bytes: &[u8; FIXED_BYTES]) -> Result<Head, Malformed> {
    if bytes[..SIGNATURE.len()] != SIGNATURE {
        return Err(Malformed::Signature);
    }
    let more_bytes = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    let (has_address, is_v6) = match (bytes[12], bytes[13]) {
        // The proxy itself, asking whether anybody is there; and a client of which it knows nothing.
        (0x20, _) | (0x21, 0x00) => (false, false),
        (0x21, 0x11) => (true, false),
        (0x21, 0x21) => (true, true),
        (0x21, _) => return Err(Malformed::Family),
        _ => return Err(Malformed::Version),
    };
    let least = match (has_address, is_v6) {
        (false, _) => 0,
        (true, false) => 12,
        (true, true) => 36,
    };
    if !(least..=BYTES_MAX - FIXED_BYTES).contains(&more_bytes) {
        return Err(Malformed::Length);
    }
    Ok(Head { more_bytes, has_address, is_v6 })
}

impl Head {
    /// The client's address, from the bytes that follow the fixed ones: what is behind the addresses is passed over.
    pub(super) fn source(&self, more: &[u8]) -> Option<SocketAddr> {
        if !self.has_address {
            return None;
        }
        let port = |at: usize| more.get(at..at + 2).map(|port| u16::from_be_bytes([port[0], port[1]]));
        if self.is_v6 {
            let source = Ipv6Addr::from(*more.first_chunk::<16>()?);
            Some(SocketAddr::from((source, port(32)?)))
        } else {
            let source = Ipv4Addr::from(*more.first_chunk::<4>()?);
            Some(SocketAddr::from((source, port(8)?)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(command: u8, family: u8, more_bytes: u16) -> [u8; FIXED_BYTES] {
        let mut bytes = [0; FIXED_BYTES];
        bytes[..12].copy_from_slice(&SIGNATURE);
        bytes[12..14].copy_from_slice(&[command, family]);
        bytes[14..].copy_from_slice(&more_bytes.to_be_bytes());
        bytes
    }

    #[test]
    fn the_address_of_the_client_is_read() {
        let v4 = fixed(&head(0x21, 0x11, 12)).unwrap();
        let more = [192, 0, 2, 1, 10, 0, 0, 1, 0x1f, 0x90, 0, 80];
        assert_eq!(v4.source(&more), Some("192.0.2.1:8080".parse().unwrap()));
        let mut more = [0; 36];
        more[..2].copy_from_slice(&[0x20, 0x01]);
        more[15] = 7;
        more[32..34].copy_from_slice(&443u16.to_be_bytes());
        let v6 = fixed(&head(0x21, 0x21, 50)).unwrap();
        assert_eq!(v6.source(&more), Some("[2001::7]:443".parse().unwrap()));
        assert_eq!(v6.source(&more[..33]), None);
        for (command, family) in [(0x20, 0x00), (0x20, 0x11), (0x20, 0xff), (0x21, 0x00)] {
            assert_eq!(fixed(&head(command, family, 12)).unwrap().source(&[1; 12]), None);
        }
    }

    #[test]
    fn what_is_no_head_is_refused() {
        for (bytes, expected) in [
            (*b"GET /v1/stream H", Malformed::Signature),
            (*b"PROXY TCP4 1.2.3", Malformed::Signature),
            (head(0x11, 0x11, 12), Malformed::Version),
            (head(0x22, 0x11, 12), Malformed::Version),
            (head(0x21, 0x12, 12), Malformed::Family),
            (head(0x21, 0x31, 216), Malformed::Family),
            (head(0x21, 0x11, 11), Malformed::Length),
            (head(0x21, 0x21, 35), Malformed::Length),
            (head(0x20, 0x00, 521), Malformed::Length),
            (head(0x21, 0x11, u16::MAX), Malformed::Length),
        ] {
            assert_eq!(fixed(&bytes), Err(expected), "{bytes:?}");
        }
        assert_eq!(fixed(&head(0x21, 0x11, 520)).unwrap().more_bytes, BYTES_MAX - FIXED_BYTES);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much(bytes in any::<[u8; 16]>(), more in prop::collection::vec(any::<u8>(), 0..600), fix in any::<bool>()) {
            let mut bytes = bytes;
            if fix {
                bytes[..12].copy_from_slice(&SIGNATURE);
                bytes[12] = 0x20 | (bytes[12] & 1);
            }
            if let Ok(head) = fixed(&bytes) {
                prop_assert!(head.more_bytes + FIXED_BYTES <= BYTES_MAX);
                let _ = head.source(&more);
            }
        }
    }
}
