//! From which pages browsers may connect.
//!
//! Any page can have a browser connect to any address, with whatever the browser's user may reach: so the page must be one
//! that is meant. Programs name no origin, and could name any.

use hyper::header::{self, HeaderMap, HeaderValue};
use std::net::IpAddr;

/// What is told to a page that is not meant.
pub(super) const REFUSED: &str =
    "pages of this origin may not connect: session.allowed_origins has those that may";

/// Pages that may connect.
#[derive(Debug)]
pub(super) struct Origins {
    is_any: bool,
    /// As browsers write them. Without any, those of this gateway's own host, and of the browser's own machine.
    listed: Vec<String>,
}

impl Origins {
    pub(super) fn new(allowed: &[String]) -> Self {
        let is_any = allowed.iter().any(|origin| origin == "*");
        Self { is_any, listed: allowed.iter().map(|origin| as_browsers_write(origin).to_owned()).collect() }
    }

    /// Whether the page behind a request may connect, if it is one.
    pub(super) fn admit(&self, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let (origin, more) = (origins.next(), origins.next());
        let Some(origin) = origin else { return true };
        if self.is_any {
            return true;
        }
        let Ok(origin) = origin.to_str() else { return false };
        if more.is_some() {
            return false;
        }
        if self.listed.is_empty() {
            return is_here(origin, headers.get(header::HOST));
        }
        self.listed.iter().any(|listed| listed == origin)
    }
}

/// An origin without the port that browsers leave out.
fn as_browsers_write(origin: &str) -> &str {
    let port = if origin.starts_with("https://") { ":443" } else { ":80" };
    origin.strip_suffix(port).unwrap_or(origin)
}

/// Whether a page comes from the host that it connects to, or from the machine that its browser runs on.
fn is_here(origin: &str, host: Option<&HeaderValue>) -> bool {
    let Some(authority) = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://")) else {
        return false;
    };
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if authority.is_empty() || !authority.bytes().all(is_legal) {
        return false;
    }
    host.is_some_and(|host| host.as_bytes() == authority.as_bytes()) || is_loopback(authority)
}

fn is_loopback(authority: &str) -> bool {
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() && (!name.contains(':') || name.ends_with(']')) => {
            name
        }
        _ => authority,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name == "localhost" || bare.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(allowed: &[&str], host: &str, origins: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_bytes(host.as_bytes()).unwrap());
        for origin in origins {
            headers.append(header::ORIGIN, HeaderValue::from_bytes(origin.as_bytes()).unwrap());
        }
        Origins::new(&allowed.iter().map(|&origin| origin.to_owned()).collect::<Vec<_>>()).admit(&headers)
    }

    #[test]
    fn without_a_list_pages_of_the_same_host_and_of_this_machine_may() {
        let may = |origin| admits(&[], "md.example.com", &[origin]);
        for origin in [
            "https://md.example.com",
            "http://localhost",
            "http://localhost:3000",
            "http://127.0.0.1:8000",
            "http://[::1]:5",
            "http://[::1]",
        ] {
            assert!(may(origin), "{origin}");
        }
        for origin in [
            "https://example.com",
            "https://md.example.com.evil.org",
            "https://evil-md.example.com",
            "https://md.example.com:8443",
            "https://md.example.com/",
            "https://md.example.com@evil.org",
            "https://MD.example.com",
            "md.example.com",
            "ftp://md.example.com",
            "https://",
            "null",
            "",
            "http://localhost.evil.org",
            "http://localhost:evil.org",
            "http://127.0.0.1.evil.org",
            "http://128.0.0.1",
            "file://",
        ] {
            assert!(!may(origin), "{origin}");
        }
        assert!(admits(&[], "md.example.com:8080", &["http://md.example.com:8080"]));
        assert!(!admits(&[], "md.example.com:8080", &["http://md.example.com"]));
        assert!(admits(&[], "", &[]), "no page");
        assert!(!admits(&[], "a", &["http://a", "http://a"]));
    }

    #[test]
    fn a_list_is_exact_and_any_must_be_written_out() {
        let list = ["https://example.com", "http://b.example:80", "null"];
        assert!(admits(&list, "x", &["https://example.com"]));
        assert!(admits(&list, "x", &["http://b.example"]), "as browsers write it");
        assert!(admits(&list, "x", &["null"]));
        assert!(!admits(&list, "x", &["http://x"]), "its own host is in no list");
        assert!(!admits(&list, "x", &["http://localhost"]));
        assert!(!admits(&list, "x", &["https://example.com", "https://example.com"]));
        assert!(admits(&["*"], "x", &["https://evil.org"]));
    }
}
