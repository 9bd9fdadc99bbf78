//! For the fuzz targets, and nobody else: what a connection reads before it is a session, from memory instead of a socket.

use super::origin::Origins;
use super::proxies::{Proxies, Says};
use super::refusal::Refusal;
use super::visit::{self, Switch};
use super::{credential, handshake, request};
use crate::config::Config;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use tickgate_protocol::deflate::WINDOW_BITS;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Turns that something takes for each piece that it reads, and for its end, at the most.
const TURNS_MAX: usize = 64;

/// What was made of the bytes of a connection.
#[derive(Debug, PartialEq)]
pub struct Heard {
    /// What was read of a handshake; nothing of one that was refused.
    pub handshake: Option<Handshake>,
    /// What was answered.
    pub answer: Vec<u8>,
    /// How many requests were read.
    pub requests: usize,
}

/// A handshake that was found right.
#[derive(Debug, PartialEq)]
pub struct Handshake {
    /// Who comes.
    pub client: SocketAddr,
    /// The token that was shown.
    pub token: Option<String>,
    /// Whether compression was agreed on.
    pub is_deflated: bool,
    /// What stands behind it, for its session.
    pub behind: Vec<u8>,
}

/// What the gateway of a configuration reads heads by.
#[derive(Debug)]
pub struct Door {
    config: Config,
    origins: Origins,
    proxies: Proxies,
}

struct Accepted {
    upgrade: OnUpgrade,
    client: SocketAddr,
    token: Option<String>,
    is_deflated: bool,
}

impl Door {
    /// That of this configuration.
    pub fn new(config: Config) -> Self {
        let origins = Origins::new(&config.session.allowed_origins);
        let proxies = Proxies::new(&config.proxies);
        Self { config, origins, proxies }
    }

    /// Reads what `peer` sends, in pieces of so many bytes, as a visit does that asks for a token.
    ///
    /// # Panics
    /// When that comes to no end.
    pub fn hear(&self, peer: SocketAddr, bytes: &[u8], piece_bytes: usize) -> Heard {
        let (accepted, requests) = (RefCell::new(None), Cell::new(0));
        let service = service_fn(|mut request: Request<Incoming>| {
            requests.set(requests.get() + 1);
            let answer = self.answer(&mut request, peer).map(|(switch, client, token)| {
                let Switch { response, upgrade, is_deflated } = switch;
                *accepted.borrow_mut() = Some(Accepted { upgrade, client, token, is_deflated });
                response
            });
            std::future::ready(Ok::<_, Infallible>(answer.unwrap_or_else(Refusal::response)))
        });
        let socket = Memory::new(bytes, piece_bytes);
        let (answer, turns_max) = (socket.answer.clone(), socket.turns_max());
        let mut http = visit::http(&self.config.limits);
        http.auto_date_header(false);
        let served = ended(turns_max, http.serve_connection(TokioIo::new(socket), service).with_upgrades());
        let handshake = accepted.take().filter(|_| served.is_ok()).map(|accepted| {
            let Accepted { upgrade, client, token, is_deflated } = accepted;
            let upgraded = ended(turns_max, upgrade).expect("its connection has ended in order");
            let Ok(parts) = upgraded.downcast::<TokioIo<Memory>>() else {
                unreachable!("it is what was handed over")
            };
            let behind = [&parts.read_buf[..], parts.io.into_inner().left()].concat();
            Handshake { client, token, is_deflated, behind }
        });
        let mut answer = std::mem::take(&mut *answer.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(with_reason) = handshake::with_reason(&answer) {
            answer = with_reason;
        }
        Heard { handshake, answer, requests: requests.get() }
    }

    fn answer(
        &self,
        request: &mut Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<(Switch, SocketAddr, Option<String>), Refusal> {
        let client = match self.proxies.of(peer) {
            Says::ForwardedFor => self.proxies.forwarded_for(request.headers(), peer),
            Says::Nothing | Says::ProxyHeader => peer,
        };
        let no_reason = |(_, refusal)| refusal;
        request::check(request, &self.origins).map_err(no_reason)?;
        credential::check_url(request.uri()).map_err(no_reason)?;
        let token = credential::shown(request.headers()).map_err(no_reason)?.map(str::to_owned);
        let switch = visit::switch(request, self.config.session.compression, WINDOW_BITS)?;
        Ok((switch, client, token))
    }
}

/// Reads the head of a proxy that connects from `peer`, in pieces of so many bytes: for whom it connects, if that can be
/// read, and how many bytes were taken.
///
/// # Panics
/// When that comes to no end.
pub fn proxy_head(peer: SocketAddr, bytes: &[u8], piece_bytes: usize) -> (Option<SocketAddr>, usize) {
    let mut socket = Memory::new(bytes, piece_bytes);
    let client = ended(socket.turns_max(), Proxies::take_header(&mut socket, peer)).ok();
    (client, bytes.len() - socket.left().len())
}

/// What a future gives that waits for nothing but its turn.
fn ended<T>(turns_max: usize, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    for _ in 0..turns_max {
        if let Poll::Ready(end) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return end;
        }
    }
    panic!("it has come to no end in {turns_max} turns");
}

/// How often nothing more comes before a connection ends: who ends it at once does not wait for an answer.
const WAITS: usize = 8;

/// A socket on which all has come that will.
struct Memory {
    bytes: Vec<u8>,
    read: usize,
    piece_bytes: usize,
    waits: usize,
    answer: Arc<Mutex<Vec<u8>>>,
}

impl Memory {
    fn new(bytes: &[u8], piece_bytes: usize) -> Self {
        let piece_bytes = piece_bytes.max(1);
        Self { bytes: bytes.to_vec(), read: 0, piece_bytes, waits: 0, answer: Arc::default() }
    }

    fn turns_max(&self) -> usize {
        TURNS_MAX * (2 + self.bytes.len() / self.piece_bytes)
    }

    /// What was not read.
    fn left(&self) -> &[u8] {
        &self.bytes[self.read..]
    }
}

impl AsyncRead for Memory {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left().is_empty() && self.waits < WAITS {
            self.waits += 1;
            return Poll::Pending;
        }
        let count = self.left().len().min(self.piece_bytes).min(buffer.remaining());
        buffer.put_slice(&self.left()[..count]);
        self.read += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Memory {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
