//! The head of an opening handshake.

use super::origin::{self, Origins};
use super::refusal::Refusal;
use crate::config::Compression;
use crate::stats::RefuseReason;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode, Version};
use tickgate_protocol::control::{STREAM_PATH, SUBPROTOCOL_JSON};
use tickgate_protocol::deflate::negotiate;

/// Bytes of a path with its query: the stream's has eleven.
const PATH_BYTES_MAX: usize = 2_048;

/// Everything that RFC 6455 4.2.1 asks of a client's opening handshake.
pub(super) fn check(request: &Request<Incoming>, origins: &Origins) -> Result<(), (RefuseReason, Refusal)> {
    let refuse = |status, message| Err((RefuseReason::BadRequest, Refusal::new(status, message)));
    let headers = request.headers();
    if request.uri().path_and_query().is_some_and(|path| path.as_str().len() > PATH_BYTES_MAX) {
        return refuse(StatusCode::URI_TOO_LONG, "the path and its query have more than 2048 bytes");
    }
    if request.uri().path() != STREAM_PATH {
        return refuse(StatusCode::NOT_FOUND, "the stream is at /v1/stream");
    }
    if request.method() != Method::GET {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "GET only");
    }
    if request.version() != Version::HTTP_11 {
        return refuse(StatusCode::BAD_REQUEST, "HTTP/1.1 only");
    }
    if only(headers, &header::HOST).is_none() {
        return refuse(StatusCode::BAD_REQUEST, "there must be one `Host`");
    }
    if !has_token(headers, &header::UPGRADE, "websocket") {
        return refuse(StatusCode::UPGRADE_REQUIRED, "a WebSocket endpoint: send `Upgrade: websocket`");
    }
    if !has_token(headers, &header::CONNECTION, "upgrade") {
        return refuse(StatusCode::BAD_REQUEST, "`Connection` must name `Upgrade`");
    }
    if only(headers, &header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version.as_bytes() != b"13") {
        return refuse(StatusCode::UPGRADE_REQUIRED, "WebSocket version 13 only");
    }
    if !only(headers, &header::SEC_WEBSOCKET_KEY).is_some_and(|key| is_key(key.as_bytes())) {
        return refuse(StatusCode::BAD_REQUEST, "`Sec-WebSocket-Key` must be 16 bytes in base64");
    }
    if headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING) {
        return refuse(StatusCode::BAD_REQUEST, "a handshake has no body");
    }
    let asks_protocol = headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL);
    if asks_protocol && !offers_json(headers) {
        return refuse(StatusCode::BAD_REQUEST, "the only subprotocol is tickgate.v1.json");
    }
    if !origins.admit(headers) {
        return Err((RefuseReason::Origin, Refusal::new(StatusCode::FORBIDDEN, origin::REFUSED)));
    }
    Ok(())
}

/// The value of a header that must be there once.
fn only<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a header::HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
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
