//! Which path answers what.

use super::feeds::FeedList;
use super::{Service, log, sessions, symbols};
use crate::latency::{self, Stage};
use crate::metrics;
use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use std::sync::atomic::Ordering;

pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";

const INDEX: &str = "\
Tickgate admin
/metrics             Prometheus metrics
/healthz             200 while the process lives
/readyz              200 when clients should come, 503 with reasons when not
/config              the configuration in effect as TOML (JSON with Accept: application/json), secrets masked
/sessions?top=20     the sessions with the oldest queues as JSON (a table with Accept: text/plain)
/symbols?top=20      the symbols with the most ticks, and what most sessions subscribed to, in the same two ways
/feeds               every feed and partition as JSON (a table with Accept: text/plain)
/log                 what is logged; PUT another filter to change it, ?for=10m for a while
/latency             the latency since the start as HdrHistogram text; ?stage=ingest_to_written, or another stage
";

/// Sessions or symbols listed unless `top` says otherwise, and at most.
const TOP_DEFAULT: usize = 20;
const TOP_MAX: usize = 1_000;

pub(super) type Answer = Response<Full<Bytes>>;

/// Answers one request. Never fails and never waits longer than shards are given to answer.
pub(super) async fn answer<B>(service: &Service, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let path = request.uri().path();
    // What a load balancer asks has nothing in it that is not for everybody.
    if !matches!(path, "/healthz" | "/readyz") && !service.state.token.admits(request.headers()) {
        service.state.board.admin_refused.fetch_add(1, Ordering::Relaxed);
        let mut answer =
            error(StatusCode::UNAUTHORIZED, "send `Authorization: Bearer TOKEN`, with admin_token");
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return answer;
    }
    if !matches!(
        path,
        "/" | "/metrics"
            | "/healthz"
            | "/readyz"
            | "/config"
            | "/sessions"
            | "/symbols"
            | "/feeds"
            | "/latency"
            | "/log"
    ) {
        return error(StatusCode::NOT_FOUND, "no such path: / lists those that exist");
    }
    let (methods, told) = if path == "/log" {
        (&[Method::GET, Method::HEAD, Method::PUT][..], "only GET, HEAD and PUT")
    } else {
        (&[Method::GET, Method::HEAD][..], "only GET and HEAD")
    };
    if !methods.contains(request.method()) {
        let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, told);
        let allowed = if path == "/log" { "GET, HEAD, PUT" } else { "GET, HEAD" };
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        return answer;
    }
    match path {
        "/" => text(StatusCode::OK, TEXT, INDEX.to_owned()),
        "/metrics" => text(StatusCode::OK, metrics::CONTENT_TYPE, service.scrape()),
        "/healthz" => text(StatusCode::OK, JSON, line(&json!({"status": "ok"}))),
        "/readyz" => ready(service),
        "/config" => config(service, accepts(&request, JSON)),
        "/feeds" => feeds(service, accepts(&request, "text/plain")),
        "/latency" => latencies(service, request.uri().query().unwrap_or("")),
        "/log" => log::answer(service, request).await,
        _ => list(service, &request).await,
    }
}

fn ready(service: &Service) -> Answer {
    let board = &service.state.board;
    let mut reasons = Vec::new();
    if board.draining.load(Ordering::Relaxed) {
        reasons.push("the gateway drains".to_owned());
    }
    for tier in board.tiers() {
        let feed = board.feed_of(tier.number);
        if !feed.ready {
            let reason = feed.not_ready_because.as_str();
            let reason = if reason.is_empty() { "the feed has not started" } else { reason };
            let which = tier.delayed_s().map_or_else(String::new, |delay_s| format!("{delay_s} s late: "));
            reasons.push(which + reason);
        }
    }
    if board.access.is_topic_awaited.load(Ordering::Acquire) {
        reasons.push("who is revoked is not known: auth.revocation_topic was not read to its end".to_owned());
    }
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    text(status, JSON, line(&json!({"ready": reasons.is_empty(), "reasons": reasons})))
}

fn config(service: &Service, as_json: bool) -> Answer {
    let masked = service.state.config.now().masked();
    if !as_json {
        return text(StatusCode::OK, "application/toml; charset=utf-8", masked.to_toml());
    }
    match serde_json::to_string_pretty(&masked.to_table()) {
        Ok(json) => text(StatusCode::OK, JSON, json + "\n"),
        Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "the configuration does not fit into JSON"),
    }
}

fn feeds(service: &Service, as_table: bool) -> Answer {
    let list = FeedList::of(&service.state.board);
    if as_table { text(StatusCode::OK, TEXT, list.table()) } else { json(&list) }
}

fn latencies(service: &Service, query: &str) -> Answer {
    let name = match query {
        "" => Stage::IngestToWritten.label(),
        query => query.strip_prefix("stage=").unwrap_or(""),
    };
    let Some(stage) = Stage::ALL.into_iter().find(|stage| stage.label() == name) else {
        let stages = Stage::ALL.map(Stage::label).join(", ");
        return error(StatusCode::BAD_REQUEST, &format!("the only parameter is stage, one of {stages}"));
    };
    let body = latency::total(&service.state.board).hgrm(stage);
    let mut answer = text(StatusCode::OK, TEXT, body);
    if let Ok(file) = HeaderValue::from_str(&format!("attachment; filename=\"{name}.hgrm\"")) {
        answer.headers_mut().insert(CONTENT_DISPOSITION, file);
    }
    answer
}

async fn list<B>(service: &Service, request: &Request<B>) -> Answer {
    let top = match top(request.uri().query().unwrap_or("")) {
        Ok(top) => top,
        Err(message) => return error(StatusCode::BAD_REQUEST, message),
    };
    let as_table = accepts(request, "text/plain");
    let super::AdminState { shards, directory, .. } = &service.state;
    if request.uri().path() == "/symbols" {
        let list = symbols::list(&service.rates, directory, shards, top, service.answer_timeout).await;
        return if as_table { text(StatusCode::OK, TEXT, list.table()) } else { json(&list) };
    }
    let list = sessions::list(shards, top, service.answer_timeout).await;
    if as_table { text(StatusCode::OK, TEXT, list.table()) } else { json(&list) }
}

pub(super) fn json(list: &impl serde::Serialize) -> Answer {
    match serde_json::to_string(list) {
        Ok(json) => text(StatusCode::OK, JSON, json + "\n"),
        Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "the list does not fit into JSON"),
    }
}

fn top(query: &str) -> Result<usize, &'static str> {
    let mut top = TOP_DEFAULT;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some(number) = pair.strip_prefix("top=") else { return Err("the only parameter is top") };
        top = match number.parse() {
            Ok(number) if (1..=TOP_MAX).contains(&number) => number,
            _ => return Err("top must be 1 to 1000"),
        };
    }
    Ok(top)
}

/// Whether the client named this type; `*/*` is not a wish.
pub(super) fn accepts<B>(request: &Request<B>, content_type: &str) -> bool {
    let values = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|part| part.split(';').next().is_some_and(|t| t.trim() == content_type))
}

pub(super) fn error(status: StatusCode, message: &str) -> Answer {
    let name = status.canonical_reason().unwrap_or("error").to_lowercase().replace(' ', "_");
    text(status, JSON, line(&json!({"error": name, "message": message})))
}

fn line(value: &serde_json::Value) -> String {
    format!("{value}\n")
}

pub(super) fn text(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_is_read_or_refused() {
        for (query, expected) in [
            ("", Ok(TOP_DEFAULT)),
            ("top=5", Ok(5)),
            ("top=1000", Ok(1_000)),
            ("top=0", Err("top must be 1 to 1000")),
            ("top=1001", Err("top must be 1 to 1000")),
            ("top=-1", Err("top must be 1 to 1000")),
            ("top=", Err("top must be 1 to 1000")),
            ("limit=5", Err("the only parameter is top")),
        ] {
            assert_eq!(top(query), expected, "{query}");
        }
    }

    #[test]
    fn a_wish_is_a_type_that_was_named() {
        for (header, expected) in [
            ("text/plain", true),
            ("application/json, text/plain;q=0.5", true),
            ("*/*", false),
            ("text/html,*/*;q=0.8", false),
        ] {
            let request = Request::builder().header(ACCEPT, header).body(()).expect("a request");
            assert_eq!(accepts(&request, "text/plain"), expected, "{header}");
        }
    }
}
