//! Heads of the PROXY protocol: however their bytes arrive, an address or none, and not a byte too many is taken.

use std::net::{IpAddr, SocketAddr};
use tickgate_gateway::listener::fuzzing::proxy_head;

/// A head of version 2 as the specification has it, of the kinds that are taken: whom it names, and how long it is.
fn naive(bytes: &[u8], peer: SocketAddr) -> Option<(SocketAddr, usize)> {
    let (fixed, more) = bytes.split_at_checked(16)?;
    let (more_bytes, is_local) = (usize::from(fixed[14]) << 8 | usize::from(fixed[15]), fixed[12] == 0x20);
    let more = more.get(..more_bytes)?;
    if !fixed.starts_with(b"\r\n\r\n\0\r\nQUIT\n") || fixed[12] >> 1 != 0x10 || 16 + more_bytes > 536 {
        return None;
    }
    let (address, at): (IpAddr, usize) = match fixed[13] {
        _ if is_local => return Some((peer, 16 + more_bytes)),
        0x00 => return Some((peer, 16 + more_bytes)),
        0x11 if more_bytes >= 12 => (<[u8; 4]>::try_from(&more[..4]).ok()?.into(), 8),
        0x21 if more_bytes >= 36 => (<[u8; 16]>::try_from(&more[..16]).ok()?.into(), 32),
        _ => return None,
    };
    let port = u16::from(more[at]) << 8 | u16::from(more[at + 1]);
    Some((SocketAddr::new(address, port), 16 + more_bytes))
}

/// Feeds it one input.
pub fn check(input: &[u8]) {
    let [step, bytes @ ..] = input else { return };
    let peer = SocketAddr::from(([10, 0, 0, 1], 7));
    let (client, taken) = proxy_head(peer, bytes, bytes.len());
    match naive(bytes, peer) {
        Some(expected) => assert_eq!((client, taken), (Some(expected.0), expected.1)),
        None => assert!(client.is_none() && taken <= 536, "{client:?} after {taken}"),
    }
    assert_eq!(proxy_head(peer, bytes, usize::from(*step).max(1)), (client, taken));
}
