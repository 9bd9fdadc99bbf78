//! What a handshake shows of who somebody is.
//!
//! A token stands in `Authorization: Bearer`, or, since browsers cannot set that, among the subprotocols as
//! `tickgate.bearer.<token>`, which is never answered. In a URL it would end in the logs and histories of everything that
//! it passes: one that stands there is refused, whoever is asked for what, so that nobody gets used to it.

use super::refusal::Refusal;
use crate::stats::RefuseReason;
use hyper::header::{self, HeaderMap};
use hyper::{StatusCode, Uri};
use tickgate_protocol::control::SUBPROTOCOL_BEARER;

/// Parameters of a URL that are meant as one.
const PARAMETERS: [&str; 11] = [
    "token",
    "access_token",
    "id_token",
    "auth",
    "auth_token",
    "authorization",
    "bearer",
    "jwt",
    "key",
    "api_key",
    "apikey",
];

type Refused = (RefuseReason, Refusal);

/// Refuses a token in the URL.
pub(super) fn check_url(uri: &Uri) -> Result<(), Refused> {
    let is_token = |parameter: &str| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        // What every token begins with: `{"` in base64.
        PARAMETERS.iter().any(|known| name.eq_ignore_ascii_case(known)) || value.starts_with("eyJ")
    };
    match uri.query() {
        Some(query) if query.split('&').any(is_token) => Err(bad(
            "a token in the URL ends in logs: send it as `Authorization: Bearer`, as the subprotocol \
             tickgate.bearer.<token>, or in an `auth` message",
        )),
        _ => Ok(()),
    }
}

/// What is shown with a handshake, if anything is.
pub(super) fn shown(headers: &HeaderMap) -> Result<Option<&str>, Refused> {
    let mut shown = None;
    let mut take = |credential| match shown.replace(credential) {
        None => Ok(()),
        Some(_) => Err(bad("two tokens: which one counts is not for the gateway to guess")),
    };
    for value in headers.get_all(header::AUTHORIZATION) {
        let words = value.to_str().ok().and_then(|value| value.trim().split_once(' '));
        match words.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) {
            Some((_, credential)) => take(credential.trim())?,
            None => return Err(refused()),
        }
    }
    for value in headers.get_all(header::SEC_WEBSOCKET_PROTOCOL) {
        let offers = value.to_str().unwrap_or_default().split(',').map(str::trim);
        for credential in offers.filter_map(|offer| offer.strip_prefix(SUBPROTOCOL_BEARER)) {
            take(credential)?;
        }
    }
    Ok(shown)
}

fn bad(message: &'static str) -> Refused {
    (RefuseReason::BadRequest, Refusal::new(StatusCode::BAD_REQUEST, message))
}

/// The answer to whatever is not to be believed: which it is, the log and the counters know.
pub(super) fn refused() -> Refused {
    let refusal = Refusal::new(StatusCode::UNAUTHORIZED, "not a token or key that is taken here");
    (RefuseReason::Unauthenticated, refusal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};

    const JSON: &str = "tickgate.v1.json";

    fn headers(list: &[(HeaderName, &str)]) -> HeaderMap {
        let pairs = list.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
        let mut headers = HeaderMap::new();
        pairs.for_each(|(name, value)| _ = headers.append(name, value));
        headers
    }

    #[test]
    fn one_token_is_found_wherever_it_stands() {
        let (auth, protocol) = (header::AUTHORIZATION, header::SEC_WEBSOCKET_PROTOCOL);
        for (list, found) in [
            (vec![], Ok(None)),
            (vec![(auth.clone(), "Bearer a.b.c")], Ok(Some("a.b.c"))),
            (vec![(auth.clone(), "bearer  a.b.c ")], Ok(Some("a.b.c"))),
            (vec![(protocol.clone(), JSON)], Ok(None)),
            (vec![(protocol.clone(), "tickgate.v1.json, tickgate.bearer.a.b.c")], Ok(Some("a.b.c"))),
            (vec![(protocol.clone(), "tickgate.bearer.a"), (protocol.clone(), JSON)], Ok(Some("a"))),
            (vec![(auth.clone(), "Basic YTpi")], Err(RefuseReason::Unauthenticated)),
            (vec![(auth.clone(), "Bearer")], Err(RefuseReason::Unauthenticated)),
            (vec![(auth.clone(), "")], Err(RefuseReason::Unauthenticated)),
            (vec![(auth.clone(), "Bearer a"), (auth.clone(), "Bearer a")], Err(RefuseReason::BadRequest)),
            (
                vec![(auth, "Bearer a"), (protocol.clone(), "tickgate.bearer.a")],
                Err(RefuseReason::BadRequest),
            ),
            (
                vec![(protocol, "tickgate.bearer.a,tickgate.bearer.b, tickgate.v1.json")],
                Err(RefuseReason::BadRequest),
            ),
        ] {
            let headers = headers(&list);
            assert_eq!(shown(&headers).map_err(|(reason, _)| reason), found, "{list:?}");
        }
    }

    #[test]
    fn a_token_in_the_url_is_seen() {
        let is_refused = |query: &str| check_url(&format!("/v1/stream?{query}").parse().unwrap()).is_err();
        for bad in
            ["token=a", "x=1&access_token=", "TOKEN", "jwt=x", "Api_Key=x", "q=eyJhbGciOiJIUzI1NiJ9.e30."]
        {
            assert!(is_refused(bad), "{bad}");
        }
        for good in ["", "x=1", "symbols=AAPL", "tokens=7", "q=xeyJ"] {
            assert!(!is_refused(good), "{good}");
        }
        assert!(check_url(&"/v1/stream".parse().unwrap()).is_ok());
    }
}
