//! Who is at the other end of a session, as it was known when the session opened.

use crate::access::Identity;
use crate::access::rights::Rights;
use crate::access::seats::Seat;
use crate::admission::Admitted;
use hyper::body::Bytes;
use std::net::SocketAddr;
use tickgate_protocol::Channel;

/// A client that was let in. Its session keeps it, and what it holds is given back when that ends.
#[derive(Debug)]
pub struct Guest {
    /// Its address, as proxies of ours know it; the port is 0 where they do not say it.
    pub peer: SocketAddr,
    /// Its place among the connections of its address.
    pub admitted: Admitted,
    /// Whether permessage-deflate was agreed on.
    pub is_deflated: bool,
    /// By which shard and under which number it was greeted, if that was before its session.
    pub name: Option<(usize, u32)>,
    /// Who it is and what it may see; `None` where nobody is asked, and everybody sees everything.
    pub pass: Option<Box<Pass>>,
}

/// Who somebody is, for as long as that counts.
#[derive(Debug)]
pub struct Pass {
    /// Who.
    pub identity: Identity,
    /// Its place among the connections of its subject.
    pub seat: Seat,
    /// When it is looked at next, monotonic milliseconds, if its time ends.
    pub due_ms: Option<u64>,
    /// Whether the client was told that its time ends.
    pub is_warned: bool,
}

impl Pass {
    /// The pass of somebody who has just shown who it is.
    pub fn new(identity: Identity, seat: Seat) -> Box<Self> {
        Box::new(Self { identity, seat, due_ms: None, is_warned: false })
    }
}

impl Guest {
    /// A client of which nothing but its address is known.
    pub fn new(peer: SocketAddr) -> Self {
        Self { peer, admitted: Admitted::default(), is_deflated: false, name: None, pass: None }
    }

    /// What it may see; `None` is everything.
    pub fn rights(&self) -> Option<&Rights> {
        self.pass.as_ref().map(|pass| &*pass.identity.rights)
    }

    /// Whether it may see `symbol` on `channel`.
    pub fn may(&self, channel: Channel, symbol: &str) -> bool {
        self.rights().is_none_or(|rights| rights.may(channel, symbol))
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
    /// Whether it was greeted already: `answer` is then that to what it showed.
    pub is_greeted: bool,
    /// The span of its connect, which ends with its session's beginning.
    pub connect: tracing::Span,
}
