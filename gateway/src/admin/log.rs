//! What is logged, shown and changed by whoever may ask here.
//!
//! It is the only request that changes anything, and on loopback it may need no token. So pages that a browser on this machine
//! has open must not be able to make it: it has a method that no form and no image has, and one with an `Origin` is refused,
//! which a browser sends with that method wherever the page comes from.

use super::Service;
use super::routes::{Answer, TEXT, accepts, error, json, text};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Bytes};
use hyper::header::{HeaderMap, ORIGIN};
use hyper::{Method, Request, StatusCode};

/// Bytes of a filter at most: many more modules than there are.
const FILTER_BYTES_MAX: usize = 512;
/// Longest time that another filter may be asked for: a day.
const FOR_MS_MAX: u64 = 86_400_000;

pub(super) async fn answer<B>(service: &Service, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let Some(filter) = &service.state.log else {
        return error(StatusCode::NOT_FOUND, "what is logged is not the gateway's to say here");
    };
    let as_text = accepts(&request, "text/plain");
    let shown = || {
        let now = filter.now();
        if as_text { text(StatusCode::OK, TEXT, now.log + "\n") } else { json(&now) }
    };
    if request.method() != Method::PUT {
        return shown();
    }
    if is_of_a_page(request.headers()) {
        return error(StatusCode::FORBIDDEN, "pages in a browser may not change what is logged");
    }
    let for_ms = match for_ms(request.uri().query().unwrap_or("")) {
        Ok(for_ms) => for_ms,
        Err(message) => return error(StatusCode::BAD_REQUEST, message),
    };
    let body = match Limited::new(request.into_body(), FILTER_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return error(StatusCode::PAYLOAD_TOO_LARGE, "a filter has 512 bytes at most"),
    };
    let Ok(new) = std::str::from_utf8(&body) else {
        return error(StatusCode::BAD_REQUEST, "a filter is UTF-8");
    };
    let new = new.trim();
    match filter.set(new, for_ms) {
        Ok(()) => shown(),
        Err(what) => error(StatusCode::BAD_REQUEST, &format!("the filter {what}")),
    }
}

/// Whether a browser says that a page asks.
fn is_of_a_page(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-site")
}

fn for_ms(query: &str) -> Result<Option<u64>, &'static str> {
    let mut for_ms = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some(time) = pair.strip_prefix("for=") else { return Err("the only parameter is for") };
        let time = humantime::parse_duration(time).ok().and_then(|time| u64::try_from(time.as_millis()).ok());
        for_ms = match time {
            Some(ms @ 1_000..=FOR_MS_MAX) => Some(ms),
            _ => return Err("for must be a time as 10m, 1s to 24h"),
        };
    }
    Ok(for_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_or_refused() {
        assert_eq!(for_ms(""), Ok(None));
        assert_eq!(for_ms("for=10m"), Ok(Some(600_000)));
        for wrong in ["for=", "for=10", "for=0s", "for=25h", "for=99999999999999999999y", "until=10m"] {
            assert!(for_ms(wrong).is_err(), "{wrong}");
        }
    }
}
