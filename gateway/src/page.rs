//! The live page: files that are in the program, for browsers that ask the address of the stream for something else.
//!
//! Each is answered from memory that is the program's own, one to a connection. Nothing that a browser sends chooses a file but a path
//! that is one of these, letter by letter.

use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

/// What the page may do: its own scripts, styles and workers, a socket to where it came from, and nothing from outside. The browser
/// gives the name `'self'` to `ws:` and `wss:` of the same host too.
const POLICY: &str = include_str!("../../dashboards/web/csp.txt").trim_ascii_end();

/// What stands in the answer to each file.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::VARY, "accept-encoding"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    // One answer to a connection, as of all that is no stream.
    (header::CONNECTION, "close"),
];

/// The names of these change with what is in them.
const HASHED: &str = "/assets/";

/// A file of the page.
#[derive(Debug)]
struct Asset {
    path: &'static str,
    /// What its content is told by, in quotes.
    tag: &'static str,
    plain: &'static [u8],
    gzip: Option<&'static [u8]>,
    brotli: Option<&'static [u8]>,
}

// From `dashboards/web/dist`, by build.rs.
include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// Whether the page is in this program.
pub fn is_there() -> bool {
    !ASSETS.is_empty()
}

/// The answer to a request for a file of the page; none when it is for none.
pub(crate) fn answer<B: Body>(request: &Request<B>) -> Option<Response<Full<Bytes>>> {
    answer_from(ASSETS, request)
}

fn answer_from<B: Body>(assets: &[Asset], request: &Request<B>) -> Option<Response<Full<Bytes>>> {
    // A client of the stream that asks for `/` is to be told where the stream is.
    if !matches!(*request.method(), Method::GET | Method::HEAD)
        || request.headers().contains_key(header::UPGRADE)
    {
        return None;
    }
    let asset = assets.iter().find(|asset| asset.path == request.uri().path())?;
    let (encoding, bytes) = asset.encoded(request.headers());
    let mut response = Response::new(Full::new(Bytes::from_static(bytes)));
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let lasts =
        if asset.path.starts_with(HASHED) { "public, max-age=31536000, immutable" } else { "no-cache" };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(lasts));
    headers.insert(header::ETAG, HeaderValue::from_static(asset.tag));
    if is_known(request.headers(), asset.tag) {
        *response.body_mut() = Full::default();
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Some(response);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type()));
    if let Some(encoding) = encoding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    Some(response)
}

impl Asset {
    /// The smallest form that the browser reads, with its name; plain has none.
    fn encoded(&self, headers: &HeaderMap) -> (Option<&'static str>, &'static [u8]) {
        let forms = [("br", self.brotli), ("gzip", self.gzip)];
        let read = forms
            .into_iter()
            .find_map(|(name, bytes)| Some((name, bytes?)).filter(|_| accepts(headers, name)));
        read.map_or((None, self.plain), |(name, bytes)| (Some(name), bytes))
    }

    fn content_type(&self) -> &'static str {
        match self.path.rsplit_once('.').map_or("html", |(_, ending)| ending) {
            "html" => "text/html; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "svg" => "image/svg+xml",
            "png" => "image/png",
            "woff2" => "font/woff2",
            "json" | "webmanifest" => "application/json",
            "txt" => "text/plain; charset=utf-8",
            _ => "application/octet-stream",
        }
    }
}

/// Whether `Accept-Encoding` names a coding, and not to say that it is not wanted (RFC 9110, 12.5.3).
fn accepts(headers: &HeaderMap, name: &str) -> bool {
    let codings = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    codings.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_it = parts.next().is_some_and(|first| first.eq_ignore_ascii_case(name));
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        is_it && weight.is_none_or(|weight| weight.parse::<f32>().is_ok_and(|weight| weight > 0.0))
    })
}

/// Whether the browser has this content already.
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|known| known.trim().trim_start_matches("W/") == tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    const PAGE: &[Asset] = &[
        Asset { path: "/", tag: "\"1\"", plain: b"<html>", gzip: Some(b"gz"), brotli: Some(b"br") },
        Asset { path: "/assets/a-1f.js", tag: "\"2\"", plain: b"let a", gzip: None, brotli: None },
    ];

    fn ask(method: Method, path: &str, headers: &[(HeaderName, &str)]) -> Option<Response<Full<Bytes>>> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        answer_from(PAGE, &request.body(Full::<Bytes>::default()).unwrap())
    }

    fn body(response: Response<Full<Bytes>>) -> Bytes {
        futures_body(response.into_body())
    }

    fn futures_body(body: Full<Bytes>) -> Bytes {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(body.collect()).unwrap().to_bytes()
    }

    #[test]
    fn a_path_is_one_of_those_there_are_or_none() {
        assert!(ask(Method::GET, "/", &[]).is_some());
        assert!(ask(Method::HEAD, "/assets/a-1f.js?v=1", &[]).is_some());
        for path in ["/index.html", "/assets", "/assets/../page.rs", "/assets/%61-1f.js", "//", "/v1/stream"]
        {
            assert!(ask(Method::GET, path, &[]).is_none(), "{path}");
        }
        assert!(ask(Method::POST, "/", &[]).is_none());
    }

    #[test]
    fn a_browser_gets_the_smallest_form_that_it_reads() {
        let accept = header::ACCEPT_ENCODING;
        let cases = [
            ("gzip, deflate, br, zstd", Some("br"), "br"),
            ("gzip;q=0.5, br;q=0", Some("gzip"), "gz"),
            ("identity", None, "<html>"),
            ("GZIP", Some("gzip"), "gz"),
            ("brotli", None, "<html>"),
        ];
        for (accepted, encoding, bytes) in cases {
            let response = ask(Method::GET, "/", &[(accept.clone(), accepted)]).unwrap();
            let said = response.headers().get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap());
            assert_eq!(said, encoding, "{accepted}");
            assert_eq!(body(response), bytes, "{accepted}");
        }
    }

    #[test]
    fn what_is_named_by_its_content_is_kept_and_the_rest_asked_for_again() {
        let lasting = ask(Method::GET, "/assets/a-1f.js", &[]).unwrap();
        assert_eq!(lasting.headers()[header::CACHE_CONTROL], "public, max-age=31536000, immutable");
        assert_eq!(lasting.headers()[header::CONTENT_TYPE], "text/javascript; charset=utf-8");
        let page = ask(Method::GET, "/", &[]).unwrap();
        assert_eq!(page.headers()[header::CACHE_CONTROL], "no-cache");
        let known = ask(Method::GET, "/", &[(header::IF_NONE_MATCH, "\"9\", W/\"1\"")]).unwrap();
        assert_eq!((known.status(), body(known).len()), (StatusCode::NOT_MODIFIED, 0));
        let other = ask(Method::GET, "/", &[(header::IF_NONE_MATCH, "\"2\"")]).unwrap();
        assert_eq!(other.status(), StatusCode::OK);
    }

    #[test]
    fn a_page_may_load_nothing_from_outside() {
        let policy = ask(Method::GET, "/", &[]).unwrap().headers()[header::CONTENT_SECURITY_POLICY].clone();
        let policy = policy.to_str().unwrap();
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        for word in ["http", "*", "unsafe"] {
            assert!(!policy.contains(word), "{word}: {policy}");
        }
    }
}
