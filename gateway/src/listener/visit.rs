//! One connection, from its accept to its session.

use super::door::{Door, Place};
use super::handshake::Handshake;
use super::refusal::Refusal;
use super::request;
use crate::session::guest::{Guest, Opening};
use crate::shard::panics;
use crate::stats::RefuseReason;
use fastwebsockets::upgrade;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tickgate_protocol::control::SUBPROTOCOL_JSON;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

/// After how many seconds a client that was refused for lack of room may come again.
const RETRY_AFTER_S: &str = "5";
/// The same while the gateway drains: whoever comes again is meant to find another one.
const RETRY_ELSEWHERE_AFTER_S: &str = "1";

/// Answers one request, and makes a session of the connection if it was a handshake.
pub(super) async fn visit(
    door: Rc<Door>,
    socket: TcpStream,
    peer: SocketAddr,
    place: Place,
    _handshake: OwnedSemaphorePermit,
) {
    let limits = &door.config.limits;
    let upgrade = RefCell::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(request, &door, &upgrade, place.is_beyond);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).max_buf_size(limits.head_bytes_max.max(8192)).max_headers(64);
    let head_timeout = Duration::from_millis(limits.head_timeout_ms);
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
        door.shard.borrow_mut().refused(RefuseReason::Head);
        return;
    }
    let Some((upgrade, is_deflated)) = upgrade.take() else { return };
    // hyper is done, so this is ready. Frames from strangers are read by our own decoder: only the bare socket is wanted.
    let Ok(upgraded) = upgrade.await else { return };
    let Ok(parts) = upgraded.downcast::<TokioIo<Handshake>>() else { return };
    let Handshake { socket, answer } = parts.io.into_inner();
    let opening = Opening { answer, early: parts.read_buf, guest: Guest { is_deflated, ..Guest::new(peer) } };
    // From here on the session's end gives the place back.
    place.keep();
    // A fresh task: this one has room for all that hyper needed, for as long as it lives.
    tokio::task::spawn_local(panics::session(door.shard.clone(), socket, opening));
}

fn answer(
    mut request: Request<Incoming>,
    door: &Door,
    upgrade: &RefCell<Option<(OnUpgrade, bool)>>,
    is_beyond: bool,
) -> Response<Full<Bytes>> {
    let refusal = {
        let shard = door.shard.borrow();
        if shard.is_draining() {
            Some((RefuseReason::Draining, Refusal::unavailable("draining", RETRY_ELSEWHERE_AFTER_S)))
        } else if is_beyond {
            Some((RefuseReason::SessionsMax, Refusal::unavailable("too many sessions", RETRY_AFTER_S)))
        } else {
            request::check(&request, &door.config.session.allowed_origins).err()
        }
    };
    if let Some((reason, refusal)) = refusal {
        door.shard.borrow_mut().refused(reason);
        return refusal.response();
    }
    let offers = request::offers_json(request.headers());
    // Taken here, as what fastwebsockets makes of it has buffers for frames.
    let upgraded = hyper::upgrade::on(&mut request);
    let Ok((response, _)) = upgrade::upgrade(&mut request) else {
        door.shard.borrow_mut().refused(RefuseReason::BadRequest);
        return Refusal::new(StatusCode::BAD_REQUEST, "not a WebSocket handshake").response();
    };
    let deflate = request::deflate(request.headers(), door.config.session.compression);
    *upgrade.borrow_mut() = Some((upgraded, deflate.is_some()));
    let mut response = response.map(|_| Full::default());
    if let Some(answer) = deflate {
        response.headers_mut().insert(header::SEC_WEBSOCKET_EXTENSIONS, answer);
    }
    if offers {
        response
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL_JSON));
    }
    response
}
