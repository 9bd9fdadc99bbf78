//! The head of an opening handshake.

use super::refusal::Refusal;
use crate::config::Compression;
use crate::stats::RefuseReason;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode, Version};
use tickgate_protocol::control::{STREAM_PATH, SUBPROTOCOL_JSON};
use tickgate_protocol::deflate::negotiate;

/// Everything that RFC 6455 4.2.1 asks of a client's opening handshake.
pub(super) fn check(
    request: &Request<Incoming>,
    allowed_origins: &[String],
) -> Result<(), (RefuseReason, Refusal)> {
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

pub(super) fn offers_json(headers: &HeaderMap) -> bool {
    tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL).any(|token| token == SUBPROTOCOL_JSON.as_bytes())
}

/// What is answered to an offer of compression, if there is one that is accepted.
pub(super) fn deflate(headers: &HeaderMap, compression: Compression, window_bits: u8) -> Option<HeaderValue> {
    if compression == Compression::Off {
        return None;
    }
    let offers = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS);
    let params = negotiate(offers.iter().map(HeaderValue::as_bytes), window_bits)?;
    HeaderValue::try_from(params.answer()).ok()
}

/// 16 bytes in base64: 22 characters and two paddings.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |b: &u8| b.is_ascii_alphanumeric() || *b == b'+' || *b == b'/';
    key.len() == 24 && key.ends_with(b"==") && key[..22].iter().all(is_digit)
}
