//! Shaking hands.
//!
//! Waiting for a client costs next to nothing, and is bounded by its time and by `limits.handshakes_max`. What costs is the
//! arithmetic of a key exchange, on the thread that serves everybody else: so one connection of a thread is at it at a
//! time, and between two of them all else that is ready has its turn. A limit on those that wait would let the first few
//! who say nothing shut everybody out.

use super::Tls;
use super::records::{Broken, Records};
use super::socket::TlsSocket;
use crate::stats::TlsFailure;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// How a TLS connection begins: with a record of its handshake.
const HANDSHAKE: u8 = 22;

/// Accepts the TLS connections of one thread.
#[derive(Debug)]
pub struct Acceptor {
    tls: Tls,
    timeout: Duration,
    /// Held by whoever is at it.
    turn: Semaphore,
}

/// Why hands were not shaken.
#[derive(Debug)]
pub struct Failed {
    /// For the metrics.
    pub reason: TlsFailure,
    error: Option<io::Error>,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.reason {
            TlsFailure::Timeout => "no TLS handshake in time",
            TlsFailure::NotTls => "not TLS, which is all that is spoken here: connect to wss://",
            TlsFailure::Ended => "the connection ended within the TLS handshake",
            _ => "the TLS handshake failed",
        };
        f.write_str(what)?;
        self.error.as_ref().map_or(Ok(()), |error| write!(f, ": {error}"))
    }
}

impl From<TlsFailure> for Failed {
    fn from(reason: TlsFailure) -> Self {
        Self { reason, error: None }
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        let broken = error.get_ref().and_then(|error| error.downcast_ref::<Broken>());
        let reason = match broken {
            None => TlsFailure::Ended,
            Some(Broken::Tls(error)) => reason(error),
            Some(_) => TlsFailure::Protocol,
        };
        Self { reason, error: Some(error) }
    }
}

fn reason(error: &rustls::Error) -> TlsFailure {
    use rustls::Error;
    match error {
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => TlsFailure::Incompatible,
        Error::NoCertificatesPresented | Error::InvalidCertificate(_) => TlsFailure::Certificate,
        Error::AlertReceived(_) => TlsFailure::Refused,
        _ => TlsFailure::Protocol,
    }
}

impl Acceptor {
    /// For one thread.
    pub fn new(tls: Tls, timeout: Duration) -> Self {
        Self { tls, timeout, turn: Semaphore::new(1) }
    }

    /// Shakes hands over `socket`.
    ///
    /// # Errors
    /// Why that failed.
    pub async fn accept(&self, socket: TcpStream) -> Result<TlsSocket, Failed> {
        let shaking = tokio::time::timeout(self.timeout, self.shake(socket));
        shaking.await.unwrap_or_else(|_| Err(TlsFailure::Timeout.into()))
    }

    async fn shake(&self, socket: TcpStream) -> Result<TlsSocket, Failed> {
        let mut first = [0];
        if socket.peek(&mut first).await? == 0 {
            return Err(TlsFailure::Ended.into());
        }
        if first[0] != HANDSHAKE {
            return Err(TlsFailure::NotTls.into());
        }
        let records = Records::new(self.tls.now().server.clone()).map_err(io::Error::other)?;
        let socket = TlsSocket::new(socket, records);
        while socket.is_shaking() {
            poll_fn(|cx| socket.below().poll_read_ready(cx)).await?;
            let turn = self.turn.acquire().await;
            // Of plain bytes there are none before hands are shaken, and those behind belong to what comes next.
            match socket.read_kept() {
                Ok(0) => return Err(TlsFailure::Ended.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
            // Whoever waits for its turn has it after everything else that is ready.
            tokio::task::yield_now().await;
            drop(turn);
            // Tickets, too, leave at once: a client that holds its request back until it is told that its last word has come
            // would otherwise wait until the kernel tells it, 40 ms later.
            while !socket.send_waiting()? {
                poll_fn(|cx| socket.below().poll_write_ready(cx)).await?;
            }
        }
        Ok(socket)
    }
}
