//! Accepting connections. A connection is a visit: hyper reads its request, fastwebsockets answers the handshake, and then
//! the bare socket goes to a task of its own.
//!
//! A connection costs the kernel more than it costs us, so each system call that is spared shows: options are set on
//! the listening socket, from which Linux copies them to every accepted one, and the answer to a handshake waits for the
//! session's greeting, which goes with it in one write.

mod credential;
mod door;
#[doc(hidden)]
pub mod fuzzing;
mod handshake;
mod lobby;
mod origin;
mod proxies;
mod proxy_header;
mod refusal;
mod request;
mod visit;

use crate::admission::Admission;
use crate::clock;
use crate::config::OutboxConfig;
use crate::log_limit::{LogLimit, Verdict};
use crate::shard::Shard;
pub(crate) use door::Door;
pub(crate) use lobby::PENDING_BYTES;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// What to wait after `accept` failed, as it does when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Failures of `accept` that are logged within ten seconds; a listener without descriptors has twenty a second.
const ACCEPT_LOGS_PER_10_S: u32 = 2;

/// Binds one listener per shard to the same address; port 0 is chosen once for all. Its sockets have the options that
/// `outbox` asks for.
///
/// # Errors
/// When the address cannot be bound, or an option cannot be set.
pub fn bind(
    address: SocketAddr,
    count: usize,
    outbox: Option<&OutboxConfig>,
) -> std::io::Result<Vec<std::net::TcpListener>> {
    if address.port() != 0 {
        // Sockets that share a port let a second gateway share it too, and take half of the first one's clients. One
        // that does not share finds out whether somebody is there.
        socket(address, false)?;
    }
    let mut listeners: Vec<std::net::TcpListener> = Vec::with_capacity(count);
    for _ in 0..count {
        let address = match listeners.first() {
            Some(first) => first.local_addr()?,
            None => address,
        };
        let socket = socket(address, count > 1)?;
        if let Some(outbox) = outbox {
            set_options(&socket, outbox)?;
        }
        socket.listen(4096)?;
        listeners.push(socket.into());
    }
    Ok(listeners)
}

/// A bound socket that does not listen yet.
fn socket(address: SocketAddr, shares_port: bool) -> std::io::Result<socket2::Socket> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shares_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// The door to a thread's shards, the live one first.
pub(crate) fn door(shards: Rc<[Rc<RefCell<Shard>>]>, admission: Arc<Admission>) -> Rc<Door> {
    Rc::new(Door::new(shards, admission))
}

/// Accepts connections for a thread's shards.
pub(crate) async fn accept(listener: TcpListener, door: Rc<Door>) {
    let mut logs = LogLimit::new(ACCEPT_LOGS_PER_10_S);
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                // Whoever is turned away without a word takes nobody's place.
                let Some(entry) = visit::knock(&door, peer) else { continue };
                door.room().await;
                visit::begin(&door, socket, peer, entry);
            }
            Err(error) => {
                if let Verdict::Write { left_out } = logs.admit(clock::mono_ms()) {
                    tracing::warn!(%error, left_out, "no connection can be accepted: trying again");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// How much longer the kernel waits for a socket that takes nothing than a shard does, which knows what to call it.
///
/// With one time for both it was luck who came first, and a session that the kernel had ended counted as `io`, for which there
/// is no alert.
const KERNEL_LATER: Duration = Duration::from_secs(10);

/// Options of every accepted socket: Linux copies them from the one that listens when a connection comes, which may be
/// long before it is accepted.
fn set_options(socket: &socket2::Socket, outbox: &OutboxConfig) -> std::io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(outbox.notsent_lowat_bytes)?;
    if outbox.send_buffer_bytes > 0 {
        socket.set_send_buffer_size(outbox.send_buffer_bytes)?;
    }
    // A peer that vanished is found within a minute even when nothing is sent to it.
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10));
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(Duration::from_millis(outbox.stall_timeout_ms) + KERNEL_LATER))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpStream;

    /// What `accept` relies on: it sets nothing on the sockets that it hands out.
    #[tokio::test]
    async fn accepted_sockets_have_the_options_of_the_listener() {
        let config = OutboxConfig {
            notsent_lowat_bytes: 12_345,
            send_buffer_bytes: 65_536,
            stall_timeout_ms: 7_000,
            ..crate::config::Config::default().outbox
        };
        let listeners = bind("127.0.0.1:0".parse().unwrap(), 1, Some(&config)).unwrap();
        let listener = listeners.into_iter().next().unwrap();
        // Already connected when somebody begins to accept, as after a restart.
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let socket = socket2::SockRef::from(&socket);
        assert!(socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), 12_345);
        // The kernel doubles it for its own bookkeeping.
        assert_eq!(socket.send_buffer_size().unwrap(), 2 * 65_536);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(30));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(10));
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(17)));
    }
}
