//! One connection, from its accept to its session.

use super::credential;
use super::door::{Door, Place, Visit};
use super::handshake::Handshake;
use super::lobby::{self, NO_DELAY};
use super::proxies::{Proxies, Says};
use super::refusal::Refusal;
use super::request;
use crate::access::audit::{Cause, Line};
use crate::admission::Turned;
use crate::config::{Compression, LimitsConfig};
use crate::page;
use crate::session::guest::{Guest, Opening, Pass};
use crate::shard::panics;
use crate::shard::socket::ClientSocket;
use crate::spans;
use crate::stats::RefuseReason;
use fastwebsockets::upgrade::upgrade as upgrade_answer;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tickgate_protocol::control::{STREAM_PATH, SUBPROTOCOL_JSON};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio::time::timeout_at;
use tracing::Span;

/// What is logged of who takes too long.
const LATE: &str = "no whole request in time";
/// How long a browser may take for a file of the page, which is at most some hundred thousand bytes: its connection is one of the
/// unfinished meanwhile, of which the oldest makes room.
const PAGE_TIME: Duration = Duration::from_secs(60);
/// After how many seconds a client that was refused for lack of room may come again.
const RETRY_AFTER_S: &str = "5";
/// The same while the gateway drains or is not ready: whoever comes again is meant to find another one.
const RETRY_ELSEWHERE_AFTER_S: &str = "1";

/// Whether a connection that was accepted may come in, as far as its address tells that; `None` when that has been too busy
/// for even a refusal.
pub(super) fn knock(door: &Door, peer: SocketAddr) -> Option<Entry> {
    match door.proxies.of(peer) {
        Says::Nothing => Some(door.enter(peer)).filter(|entry| !matches!(entry, Entry::Off)),
        Says::ForwardedFor | Says::ProxyHeader => Some(Entry::Unknown),
    }
}

/// Begins with a connection.
pub(super) fn begin(door: &Rc<Door>, socket: TcpStream, peer: SocketAddr, entry: Entry) {
    door.begin(|visit| tokio::task::spawn_local(self::visit(visit, socket, peer, entry)).abort_handle());
}

/// Who comes, and whether that is too many.
pub(super) enum Entry {
    /// Its proxy has not said yet for whom it comes.
    Unknown,
    In(Guest),
    /// It is told why not.
    Away(RefuseReason),
    /// It is not even told.
    Off,
}

impl Door {
    /// Lets a connection for `peer` in, or not, and counts it then.
    fn enter(&self, peer: SocketAddr) -> Entry {
        match self.admission.enter(peer.ip()) {
            Ok(admitted) => Entry::In(Guest { admitted, ..Guest::new(peer) }),
            Err(Turned { why, is_told: true }) => Entry::Away(why),
            Err(Turned { why, is_told: false }) => {
                self.refuse(peer, why, "and not answered");
                Entry::Off
            }
        }
    }
}

/// How heads are read.
pub(super) fn http(limits: &LimitsConfig) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).max_buf_size(limits.head_bytes_max.max(8192)).max_headers(64);
    builder
}

/// A handshake that was answered with yes.
struct Accepted {
    upgrade: OnUpgrade,
    place: Place,
    is_deflated: bool,
    /// Who it is, if that was shown.
    pass: Option<Box<Pass>>,
}

/// Answers one request, and makes a session of the connection if it was a handshake.
async fn visit(visit: Visit, mut socket: TcpStream, peer: SocketAddr, mut entry: Entry) {
    let door = &*visit.door;
    let connect = spans::connect(peer);
    let refuse = |reason: RefuseReason, error: &str| {
        connect.record("refused", reason.label());
        door.refuse(peer, reason, error);
    };
    let limits = &door.config.limits;
    let arrived = Instant::now();
    let deadline = arrived + Duration::from_millis(limits.head_timeout_ms);
    let says = if matches!(entry, Entry::Unknown) { door.proxies.of(peer) } else { Says::Nothing };
    if says == Says::ProxyHeader {
        let entered = match timeout_at(deadline, Proxies::take_header(&mut socket, peer)).await {
            Ok(Ok(client)) => door.enter(client),
            Ok(Err(error)) => return refuse(RefuseReason::ProxyHeader, &error.to_string()),
            Err(_) => return refuse(RefuseReason::Head, LATE),
        };
        if matches!(entered, Entry::Off) {
            return;
        }
        entry = entered;
    }
    let Some(socket) = secured(door, socket, peer).await else {
        connect.record("refused", RefuseReason::Tls.label());
        return;
    };
    let deadline = Cell::new(Instant::now() + Duration::from_millis(limits.head_timeout_ms));
    let entry = RefCell::new(entry);
    let accepted = RefCell::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        if says == Says::ForwardedFor && matches!(&*entry.borrow(), Entry::Unknown) {
            let client = door.proxies.forwarded_for(request.headers(), peer);
            *entry.borrow_mut() = door.enter(client);
        }
        let answer = match &*entry.borrow() {
            Entry::In(guest) => Ok(answer(request, door, guest.peer, &accepted, &deadline, &connect)),
            Entry::Away(why) => {
                refuse(*why, "too many");
                Err(Some(Refusal::too_many(*why).response()))
            }
            // Nobody is told anything: hyper ends the connection.
            Entry::Off | Entry::Unknown => Err(None),
        };
        async move {
            match answer {
                Ok(answer) => Ok(answer.await),
                Err(refusal) => refusal.ok_or("refused without a word"),
            }
        }
    });
    let builder = http(limits);
    // Around all of it, so that no timer is set up for a request that has come with its connection; and in one place, as
    // a future is moved by copying hyper's whole state.
    let ended = {
        let mut connection =
            pin!(builder.serve_connection(TokioIo::new(Handshake::new(socket)), service).with_upgrades());
        loop {
            let until = deadline.get();
            match timeout_at(until, &mut connection).await {
                // It was moved by what is answered.
                Err(_) if until < deadline.get() => {}
                ended => break ended,
            }
        }
    };
    let refusal = match ended {
        Ok(Ok(())) => None,
        // It was counted.
        Ok(Err(_)) if matches!(&*entry.borrow(), Entry::Off) => return,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(LATE.to_owned()),
    };
    if let Some(error) = refusal {
        return refuse(RefuseReason::Head, &error);
    }
    let Some(Accepted { upgrade, place, is_deflated, pass }) = accepted.take() else { return };
    // hyper is done, so this is ready. Frames from strangers are read by our own decoder: only the bare socket is wanted.
    let Ok(upgraded) = upgrade.await else { return };
    let Ok(parts) = upgraded.downcast::<TokioIo<Handshake>>() else { return };
    let Handshake { socket, answer } = parts.io.into_inner();
    let Entry::In(guest) = entry.into_inner() else { return };
    let must_show = door.access.is_some() && pass.is_none();
    let guest = Guest { is_deflated, pass, ..guest };
    let opening = Opening { answer, early: parts.read_buf, guest, is_greeted: false, connect };
    // Fresh tasks: this one has room for all that hyper needed, for as long as it lives, and is among the unfinished.
    if must_show {
        let deadline = arrived + Duration::from_millis(door.config.auth.timeout_ms);
        tokio::task::spawn_local(lobby::wait(visit.door.clone(), socket, opening, place, deadline));
        return;
    }
    let Some(shard) = door.shard_for(&opening.guest) else { return };
    // From here on the session's end gives the place back.
    place.keep();
    tokio::task::spawn_local(panics::session(shard, socket, opening));
}

/// The socket with TLS on it, where that is spoken; none when hands could not be shaken.
async fn secured(door: &Door, socket: TcpStream, peer: SocketAddr) -> Option<ClientSocket> {
    let Some(tls) = &door.tls else { return Some(ClientSocket::Plain(socket)) };
    let accepted = tls.accept(socket).await;
    let mut shard = door.shard.borrow_mut();
    match accepted {
        Ok(socket) => {
            shard.shook_hands(Ok(socket.is_resumed()));
            Some(ClientSocket::Tls(Box::new(socket)))
        }
        Err(failed) => {
            tracing::debug!(%peer, error = %failed, "connection refused");
            shard.shook_hands(Err(failed.reason));
            shard.refused(RefuseReason::Tls);
            None
        }
    }
}

/// Who a handshake says it is; nobody, where nobody is asked or nothing is shown yet.
async fn identify(
    request: &Request<Incoming>,
    door: &Door,
    peer: SocketAddr,
) -> Result<Option<Box<Pass>>, (RefuseReason, Refusal)> {
    credential::check_url(request.uri())?;
    if door.access.is_none() {
        return Ok(None);
    }
    let Some(shown) = credential::shown(request.headers())? else { return Ok(None) };
    let refuse = |reason, subject: Option<&str>| {
        let cause = Cause::Refuse;
        door.audit(&Line { cause, address: peer, session: None, subject, reason, names: None });
    };
    let identity = door.believe(shown).await.map_err(|failure| {
        refuse(failure.label(), None);
        credential::refused()
    })?;
    let subject = identity.subject.clone();
    let pass = door.seat(identity).map_err(|reason| {
        refuse(reason.label(), Some(&subject));
        let refusal = match reason {
            RefuseReason::NoDelay => Refusal::new(StatusCode::FORBIDDEN, NO_DELAY),
            _ => Refusal::too_many(reason),
        };
        (reason, refusal)
    })?;
    Ok(Some(pass))
}

async fn answer(
    mut request: Request<Incoming>,
    door: &Door,
    peer: SocketAddr,
    accepted: &RefCell<Option<Accepted>>,
    deadline: &Cell<Instant>,
    connect: &Span,
) -> Response<Full<Bytes>> {
    if door.config.page
        && request.uri().path() != STREAM_PATH
        && let Some(response) = page::answer(&request)
    {
        deadline.set(Instant::now() + PAGE_TIME);
        return response;
    }
    // Only now: a handshake that does not come to its end takes no place from anybody.
    let place = door.place();
    let refusal = {
        let shard = door.shard.borrow();
        if shard.is_draining() {
            Some((RefuseReason::Draining, Refusal::unavailable("draining", RETRY_ELSEWHERE_AFTER_S)))
        } else if place.is_beyond {
            Some((RefuseReason::SessionsMax, Refusal::unavailable("too many sessions", RETRY_AFTER_S)))
        } else if shard.shared().board.access.is_topic_awaited.load(Ordering::Acquire) {
            let refusal = Refusal::unavailable("who is revoked is not known yet", RETRY_ELSEWHERE_AFTER_S);
            Some((RefuseReason::RevocationsUnread, refusal))
        } else {
            request::check(&request, &door.origins).err()
        }
    };
    let identified = match refusal {
        Some(refusal) => Err(refusal),
        None => identify(&request, door, peer).await,
    };
    let pass = match identified {
        Ok(pass) => pass,
        Err((reason, refusal)) => {
            connect.record("refused", reason.label());
            door.refuse(peer, reason, refusal.message);
            return refusal.response();
        }
    };
    let compression = door.config.session.compression;
    let window_bits = door.shard.borrow().window_bits();
    match switch(&mut request, compression, window_bits) {
        Ok(Switch { response, upgrade, is_deflated }) => {
            *accepted.borrow_mut() = Some(Accepted { upgrade, place, is_deflated, pass });
            response
        }
        Err(refusal) => {
            connect.record("refused", RefuseReason::BadRequest.label());
            door.refuse(peer, RefuseReason::BadRequest, refusal.message);
            refusal.response()
        }
    }
}

/// The answer that switches protocols.
pub(super) struct Switch {
    pub(super) response: Response<Full<Bytes>>,
    pub(super) upgrade: OnUpgrade,
    pub(super) is_deflated: bool,
}

/// Answers a handshake that was found right.
pub(super) fn switch(
    request: &mut Request<Incoming>,
    compression: Compression,
    window_bits: u8,
) -> Result<Switch, Refusal> {
    let offers = request::offers_json(request.headers());
    // Taken here, as what fastwebsockets makes of it has buffers for frames.
    let upgrade = hyper::upgrade::on(&mut *request);
    let Ok((response, _)) = upgrade_answer(&mut *request) else {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "not a WebSocket handshake"));
    };
    let deflate = request::deflate(request.headers(), compression, window_bits);
    let is_deflated = deflate.is_some();
    let mut response = response.map(|_| Full::default());
    if let Some(answer) = deflate {
        response.headers_mut().insert(header::SEC_WEBSOCKET_EXTENSIONS, answer);
    }
    if offers {
        response
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL_JSON));
    }
    Ok(Switch { response, upgrade, is_deflated })
}
