//! Who is at the other end of a session, as it was known when the session opened.

use crate::admission::Admitted;
use hyper::body::Bytes;
use std::net::SocketAddr;

/// A client that was let in. Its session keeps it, and what it holds is given back when that ends.
#[derive(Debug)]
pub struct Guest {
    /// Its address, as proxies of ours know it; the port is 0 where they do not say it.
    pub peer: SocketAddr,
    /// Its place among the connections of its address.
    pub admitted: Admitted,
    /// Whether permessage-deflate was agreed on.
    pub is_deflated: bool,
}

impl Guest {
    /// A client of which nothing but its address is known.
    pub fn new(peer: SocketAddr) -> Self {
        Self { peer, admitted: Admitted::default(), is_deflated: false }
    }
}

/// What a session begins with.
#[derive(Debug)]
pub struct Opening {
    /// What the handshake is still owed: it leaves in one write with the greeting.
    pub answer: Vec<u8>,
    /// What came behind the request.
    pub early: Bytes,
    /// Whose it is.
    pub guest: Guest,
}
