//! Accepting connections: hyper reads the request, fastwebsockets answers the handshake, and then the bare socket goes
//! to a task of its own.
//!
//! A connection costs the kernel more than it costs us, so each system call that is spared shows: options are set on
//! the listening socket, from which Linux copies them to every accepted one, and the answer to a handshake waits for the
//! session's greeting, which goes with it in one write.

mod handshake;

use crate::clock;
use crate::config::OutboxConfig;
use crate::log_limit::{LogLimit, Verdict};
use crate::shard::{Shard, panics};
use crate::stats::RefuseReason;
use fastwebsockets::upgrade;
use handshake::Handshake;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tickgate_protocol::control::{STREAM_PATH, SUBPROTOCOL_JSON};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What to wait after `accept` failed, as it does when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Failures of `accept` that are logged within ten seconds; a listener without descriptors has twenty a second.
const ACCEPT_LOGS_PER_10_S: u32 = 2;
/// After how many seconds a client that was refused for lack of room may come again.
const RETRY_AFTER_S: &str = "5";
/// The same while the gateway drains: whoever comes again is meant to find another one.
const RETRY_ELSEWHERE_AFTER_S: &str = "1";

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

/// Gives back the place of a connection that never became a session.
struct Place(Option<Arc<AtomicUsize>>);

impl Place {
    /// A session holds the place from now on.
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(sessions) = &self.0 {
            sessions.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Accepts connections for a shard.
pub async fn accept(listener: TcpListener, shard: Rc<RefCell<Shard>>) {
    let (sessions, sessions_max, handshakes) = {
        let shard = shard.borrow();
        let config = &shard.shared().config;
        let handshakes = (config.limits.handshakes_max / config.shard_count()).max(1);
        (shard.shared().sessions.clone(), config.limits.sessions_max, Arc::new(Semaphore::new(handshakes)))
    };
    let mut logs = LogLimit::new(ACCEPT_LOGS_PER_10_S);
    loop {
        // What is half shaken holds a request's head: whoever comes then waits in the kernel's queue.
        let Ok(handshake) = handshakes.clone().acquire_owned().await else { return };
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Verdict::Write { left_out } = logs.admit(clock::mono_ms()) {
                    tracing::warn!(%error, left_out, "no connection can be accepted: trying again");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let before = sessions.fetch_add(1, Ordering::Relaxed);
        let place = Place(Some(sessions.clone()));
        let is_full = before >= sessions_max;
        tokio::task::spawn_local(serve(socket, peer, shard.clone(), place, is_full, handshake));
    }
}

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
    socket.set_tcp_user_timeout(Some(Duration::from_millis(outbox.stall_timeout_ms)))
}

/// Answers one request, and makes a session of the connection if it was a handshake.
async fn serve(
    socket: TcpStream,
    peer: SocketAddr,
    shard: Rc<RefCell<Shard>>,
    place: Place,
    is_full: bool,
    _handshake: OwnedSemaphorePermit,
) {
    let config = shard.borrow().shared().config.clone();
    let upgrade = RefCell::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(request, &shard, &upgrade, is_full);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = http1::Builder::new();
    builder
        .header_read_timeout(None)
        .max_buf_size(config.limits.head_bytes_max.max(8192))
        .max_headers(64)
        .keep_alive(false);
    let head_timeout = Duration::from_millis(config.limits.head_timeout_ms);
    // Around all of it, so that no timer is set up for a request that has come with its connection; and in one place, as
    // a future is moved by copying hyper's whole state.
    let connection = tokio::time::timeout(
        head_timeout,
        builder.serve_connection(TokioIo::new(Handshake::new(socket)), service).with_upgrades(),
    );
    let refusal = match connection.await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("no whole request in time".to_owned()),
    };
    if let Some(error) = refusal {
        tracing::debug!(%peer, error, "connection refused");
        shard.borrow_mut().refused(RefuseReason::Head);
        return;
    }
    let Some(upgrade) = upgrade.take() else { return };
    // hyper is done, so this is ready. Frames from strangers are read by our own decoder: only the bare socket is wanted.
    let Ok(upgraded) = upgrade.await else { return };
    let Ok(parts) = upgraded.downcast::<TokioIo<Handshake>>() else { return };
    let Handshake { socket, answer } = parts.io.into_inner();
    // From here on the session's end gives the place back.
    place.keep();
    // A fresh task: this one has room for all that hyper needed, for as long as it lives.
    tokio::task::spawn_local(panics::session(shard, socket, &answer, &parts.read_buf));
}

fn answer(
    mut request: Request<Incoming>,
    shard: &Rc<RefCell<Shard>>,
    upgrade: &RefCell<Option<OnUpgrade>>,
    is_full: bool,
) -> Response<Full<Bytes>> {
    let refusal = {
        let shard = shard.borrow();
        if shard.is_draining() {
            Some((RefuseReason::Draining, Refusal::unavailable("draining", RETRY_ELSEWHERE_AFTER_S)))
        } else if is_full {
            Some((RefuseReason::SessionsMax, Refusal::unavailable("too many sessions", RETRY_AFTER_S)))
        } else {
            check(&request, &shard.shared().config.session.allowed_origins).err()
        }
    };
    if let Some((reason, refusal)) = refusal {
        shard.borrow_mut().refused(reason);
        return refusal.response();
    }
    let offers = offers_json(request.headers());
    // Taken here, as what fastwebsockets makes of it has buffers for frames.
    let upgraded = hyper::upgrade::on(&mut request);
    let Ok((response, _)) = upgrade::upgrade(&mut request) else {
        shard.borrow_mut().refused(RefuseReason::BadRequest);
        return Refusal::new(StatusCode::BAD_REQUEST, "not a WebSocket handshake").response();
    };
    *upgrade.borrow_mut() = Some(upgraded);
    let mut response = response.map(|_| Full::default());
    if offers {
        response
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL_JSON));
    }
    response
}

/// Why there is no upgrade, as all such answers say it.
fn reason_json(message: &str) -> String {
    format!("{{\"error\":\"{message}\"}}\n")
}

/// An answer that is no upgrade.
struct Refusal {
    status: StatusCode,
    message: &'static str,
    retry_after_s: Option<&'static str>,
}

impl Refusal {
    fn new(status: StatusCode, message: &'static str) -> Self {
        Self { status, message, retry_after_s: None }
    }

    fn unavailable(message: &'static str, retry_after_s: &'static str) -> Self {
        Self { retry_after_s: Some(retry_after_s), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message) }
    }

    fn response(self) -> Response<Full<Bytes>> {
        let body = reason_json(self.message);
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::UPGRADE_REQUIRED {
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
        }
        response
    }
}

/// Everything that RFC 6455 4.2.1 asks of a client's opening handshake.
fn check(request: &Request<Incoming>, allowed_origins: &[String]) -> Result<(), (RefuseReason, Refusal)> {
    let refuse = |status, message| Err((RefuseReason::BadRequest, Refusal::new(status, message)));
    let headers = request.headers();
    if request.uri().path() != STREAM_PATH {
        return refuse(StatusCode::NOT_FOUND, "the stream is at /v1/stream");
    }
    if request.method() != Method::GET {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "GET only");
    }
    if request.version() != Version::HTTP_11 {
        return refuse(StatusCode::BAD_REQUEST, "HTTP/1.1 only");
    }
    if !has_token(headers, &header::UPGRADE, "websocket") {
        return refuse(StatusCode::UPGRADE_REQUIRED, "a WebSocket endpoint: send `Upgrade: websocket`");
    }
    if !has_token(headers, &header::CONNECTION, "upgrade") {
        return refuse(StatusCode::BAD_REQUEST, "`Connection` must name `Upgrade`");
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|v| v.as_bytes() != b"13") {
        return refuse(StatusCode::UPGRADE_REQUIRED, "WebSocket version 13 only");
    }
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    if !matches!((keys.next(), keys.next()), (Some(key), None) if is_key(key.as_bytes())) {
        return refuse(StatusCode::BAD_REQUEST, "`Sec-WebSocket-Key` must be 16 bytes in base64");
    }
    if headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING) {
        return refuse(StatusCode::BAD_REQUEST, "a handshake has no body");
    }
    let asks_protocol = headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL);
    if asks_protocol && !offers_json(headers) {
        return refuse(StatusCode::BAD_REQUEST, "the only subprotocol is tickgate.v1.json");
    }
    if let Some(origin) = headers.get(header::ORIGIN)
        && !allowed_origins.is_empty()
        && !allowed_origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes())
    {
        let refusal = Refusal::new(StatusCode::FORBIDDEN, "this origin may not connect");
        return Err((RefuseReason::Origin, refusal));
    }
    Ok(())
}

fn tokens<'a>(headers: &'a HeaderMap, name: &'a header::HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .map(|token| token.trim_ascii())
}

fn has_token(headers: &HeaderMap, name: &header::HeaderName, wanted: &str) -> bool {
    tokens(headers, name).any(|token| token.eq_ignore_ascii_case(wanted.as_bytes()))
}

fn offers_json(headers: &HeaderMap) -> bool {
    tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL).any(|token| token == SUBPROTOCOL_JSON.as_bytes())
}

/// 16 bytes in base64: 22 characters and two paddings.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |b: &u8| b.is_ascii_alphanumeric() || *b == b'+' || *b == b'/';
    key.len() == 24 && key.ends_with(b"==") && key[..22].iter().all(is_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(7)));
    }
}
