//! Answers that are no upgrade: a status, and why, in one line of JSON.

use crate::stats::RefuseReason;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

/// Why there is no upgrade, as all such answers say it.
pub(super) fn reason_json(message: &str) -> String {
    format!("{{\"error\":\"{message}\"}}\n")
}

/// An answer that is no upgrade.
pub(super) struct Refusal {
    status: StatusCode,
    pub(super) message: &'static str,
    retry_after_s: Option<&'static str>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: &'static str) -> Self {
        Self { status, message, retry_after_s: None }
    }

    pub(super) fn unavailable(message: &'static str, retry_after_s: &'static str) -> Self {
        Self { retry_after_s: Some(retry_after_s), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message) }
    }

    /// Too many connections, for this reason.
    pub(super) fn too_many(why: RefuseReason) -> Self {
        let (message, retry_after_s) = match why {
            RefuseReason::AddressMax => ("too many connections from your address", "10"),
            RefuseReason::SubjectConnections => {
                ("as many connections as it may have: close another one first", "10")
            }
            RefuseReason::AddressRate => ("too many new connections from your address", "1"),
            _ => ("too many new connections", "1"),
        };
        let retry_after_s = Some(retry_after_s);
        Self { retry_after_s, ..Self::new(StatusCode::TOO_MANY_REQUESTS, message) }
    }

    pub(super) fn response(self) -> Response<Full<Bytes>> {
        let body = reason_json(self.message);
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        // Said here, as hyper's way of serving one request says it in the answer to a handshake as well: and there clients
        // that are strict, or whose HTTP library takes the header for itself, miss the `Upgrade` beside it.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::UPGRADE_REQUIRED {
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
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
