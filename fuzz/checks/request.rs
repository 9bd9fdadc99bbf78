//! Heads of requests: one that is let in says all that a handshake has to, as anybody would read it; one that says so in
//! plain words is let in; and however the bytes arrive, what is answered is the same.

use std::cell::LazyCell;
use std::net::{IpAddr, SocketAddr};
use tickgate_gateway::config::{Compression, Config};
use tickgate_gateway::listener::fuzzing::{Door, Heard};

const LISTED: &str = "https://pages.example";
const STATUSES: [&str; 9] = ["101", "400", "401", "403", "404", "405", "414", "426", "431"];

thread_local! {
    static DOORS: LazyCell<[Door; 4]> = LazyCell::new(|| std::array::from_fn(door));
}

fn door(mode: usize) -> Door {
    let mut config = Config::default();
    config.proxies.protocol = "x-forwarded-for".to_owned();
    config.proxies.trusted = vec!["10.0.0.0/8".to_owned()];
    if mode & 1 != 0 {
        config.session.allowed_origins = vec![LISTED.to_owned()];
    }
    if mode & 2 != 0 {
        config.session.compression = Compression::Deflate;
    }
    Door::new(config)
}

/// A head, read line by line.
struct Head<'a> {
    method: &'a str,
    target: &'a str,
    version: &'a str,
    headers: Vec<(String, &'a str)>,
    /// Where it ends.
    bytes: usize,
    /// Whether there is but one way to read it.
    is_plain: bool,
}

/// Bytes may stand for no characters: each is one here.
fn head(text: &str) -> Option<Head<'_>> {
    let begin = text.len() - text.trim_start_matches(['\r', '\n']).len();
    let mut is_plain = begin == 0;
    let (mut at, mut lines) = (begin, Vec::new());
    loop {
        let (line, _) = text[at..].split_once('\n')?;
        at += line.len() + 1;
        is_plain &= line.ends_with('\r');
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let words: Vec<&str> = lines.first()?.split(' ').collect();
    let [method, target, version] = words[..] else { return None };
    let is_of_target = |c: char| c.is_ascii_alphanumeric() || "/?&=._-~".contains(c);
    is_plain &= target.starts_with('/') && target.chars().all(is_of_target);
    let mut headers = Vec::new();
    for line in &lines[1..] {
        let (name, value) = line.split_once(':')?;
        is_plain &= !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        is_plain &= value.chars().all(|c| matches!(c, ' '..='~'));
        headers.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t'])));
    }
    is_plain &= at < 8_000 && headers.len() <= 64;
    Some(Head { method, target, version, headers, bytes: at, is_plain })
}

/// What is expected of a handshake that is let in: who comes, and its token.
struct Expected<'a> {
    client: SocketAddr,
    token: Option<&'a str>,
}

impl<'a> Head<'a> {
    fn all(&self, name: &str) -> Vec<&'a str> {
        self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| *value).collect()
    }

    fn words(&self, name: &str) -> Vec<&'a str> {
        self.all(name)
            .into_iter()
            .flat_map(|value| value.split(','))
            .map(|word| word.trim_matches([' ', '\t']))
            .collect()
    }

    fn expected(&self, peer: SocketAddr, is_listed: bool) -> Option<Expected<'a>> {
        let target = self.target.split('#').next()?;
        let target = match target.split_once("://") {
            Some((_, rest)) if !target.starts_with('/') => &rest[rest.find(['/', '?'])?..],
            _ => target,
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let is_token = |parameter: &str| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let name = name.to_ascii_lowercase();
            let named =
                "token access_token id_token auth auth_token authorization bearer jwt key api_key apikey";
            named.split(' ').any(|known| known == name) || value.starts_with("eyJ")
        };
        let key = self.all("sec-websocket-key");
        let is_key = |key: &str| {
            let digits = key.strip_suffix("==").unwrap_or("");
            digits.len() == 22 && digits.chars().all(|c| c.is_ascii_alphanumeric() || c == '+' || c == '/')
        };
        let protocols = self.words("sec-websocket-protocol");
        let has_no = |name: &str| self.all(name).is_empty();
        let is_right = self.method == "GET"
            && self.version == "HTTP/1.1"
            && path == "/v1/stream"
            && path.len() + query.len() < 2_048
            && !query.split('&').any(is_token)
            && self.all("host").len() == 1
            && self.words("upgrade").iter().any(|word| word.eq_ignore_ascii_case("websocket"))
            && self.words("connection").iter().any(|word| word.eq_ignore_ascii_case("upgrade"))
            && self.all("sec-websocket-version") == ["13"]
            && key.len() == 1
            && is_key(key[0])
            && has_no("content-length")
            && has_no("transfer-encoding")
            && (has_no("sec-websocket-protocol") || protocols.contains(&"tickgate.v1.json"))
            && self.may_come(is_listed);
        if !is_right {
            return None;
        }
        // What is no text of ASCII names none.
        let offers = self.all("sec-websocket-protocol").into_iter().filter(|value| value.is_ascii());
        let offers = offers.flat_map(|value| value.split(',')).map(|word| word.trim_matches([' ', '\t']));
        let mut tokens: Vec<&str> = offers.filter_map(|word| word.strip_prefix("tickgate.bearer.")).collect();
        for value in self.all("authorization") {
            let (scheme, token) = value.trim().split_once(' ')?;
            tokens.push(Some(token.trim()).filter(|_| scheme.eq_ignore_ascii_case("bearer"))?);
        }
        (tokens.len() < 2).then(|| Expected { client: self.client(peer), token: tokens.pop() })
    }

    /// Whether its page may connect.
    fn may_come(&self, is_listed: bool) -> bool {
        let origins = self.all("origin");
        match origins[..] {
            [] => true,
            [origin] if is_listed => origin == LISTED,
            [origin] => {
                let Some((scheme @ ("http" | "https"), authority)) = origin.split_once("://") else {
                    return false;
                };
                let url = format!("{scheme}://{authority}");
                let name = authority.rsplit_once(':').filter(|(name, port)| {
                    port.parse::<u16>().is_ok() && (name.ends_with(']') || !name.contains(':'))
                });
                let names = [authority, name.map_or(authority, |(name, _)| name)];
                let is_this_machine = |name: &str| {
                    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
                    let is_loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
                    name == "localhost" || bare.parse().is_ok_and(is_loopback)
                };
                origin == url
                    && !authority.is_empty()
                    && !authority.contains(['/', '@', '?', '#', '\\', ' '])
                    && (self.all("host") == [authority] || names.iter().any(|name| is_this_machine(name)))
            }
            _ => false,
        }
    }

    /// The last one that is named by those who are believed.
    fn client(&self, peer: SocketAddr) -> SocketAddr {
        let is_trusted = |ip: IpAddr| matches!(ip.to_canonical(), IpAddr::V4(ip) if ip.octets()[0] == 10);
        let address = |hop: &&str| -> Option<SocketAddr> {
            let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop);
            hop.parse().ok().or_else(|| Some(SocketAddr::new(bare.parse().ok()?, 0)))
        };
        let mut believed = vec![peer];
        for hop in self.words("x-forwarded-for").iter().rev() {
            let last = believed[believed.len() - 1];
            match address(hop) {
                Some(hop) if is_trusted(last.ip()) => believed.push(hop),
                _ => break,
            }
        }
        believed[believed.len() - 1]
    }
}

/// An answer is a head of plain lines and, unless it switches protocols, one line of JSON of the length that it says.
fn check_answer(heard: &Heard) {
    let text = std::str::from_utf8(&heard.answer).expect("an answer is text");
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
    assert!(head.chars().all(|c| matches!(c, ' '..='~' | '\r' | '\n')) && head.len() < 600, "{text}");
    // Who asks by 1.0 is refused by it, too.
    let rest = head.strip_prefix("HTTP/1.1 ").or_else(|| head.strip_prefix("HTTP/1.0 "));
    let status = rest.and_then(|rest| rest.split(' ').next()).expect("a status");
    assert!(STATUSES.contains(&status), "{text}");
    assert_eq!(status == "101", heard.handshake.is_some(), "{text}");
    if status == "101" {
        assert!(body.is_empty(), "{text}");
    } else {
        assert!(body.starts_with("{\"error\":\"") && body.ends_with("\"}\n"), "{text}");
        assert_eq!(body.matches(['"', '\\']).count(), 4, "{text}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        assert_eq!(length, Some(body.len().to_string().as_str()), "{text}");
    }
}

/// Feeds it one input.
pub fn check(input: &[u8]) {
    let [mode, step, bytes @ ..] = input else { return };
    let peer: SocketAddr = if mode & 4 == 0 { ([192, 0, 2, 7], 7).into() } else { ([10, 0, 0, 1], 7).into() };
    let hear = |step| DOORS.with(|doors| doors[usize::from(mode & 3)].hear(peer, bytes, step));
    let heard = hear(bytes.len());
    let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    let read = head(&text);
    let expected = read.as_ref().and_then(|head| head.expected(peer, mode & 1 != 0));
    match &heard.handshake {
        Some(handshake) => {
            let (head, expected) = (read.expect("a whole head"), expected.expect("a handshake"));
            assert_eq!((handshake.client, handshake.token.as_deref()), (expected.client, expected.token));
            assert!(mode & 2 != 0 || !handshake.is_deflated);
            let behind: String = text.chars().skip(text[..head.bytes].chars().count()).collect();
            let heard_behind: String = handshake.behind.iter().map(|byte| char::from(*byte)).collect();
            assert_eq!(heard_behind, behind);
        }
        None => assert!(!(expected.is_some() && read.is_some_and(|head| head.is_plain)), "{text}"),
    }
    assert!(heard.requests <= 1, "{text}");
    if !heard.answer.is_empty() {
        check_answer(&heard);
    }
    let split = hear(usize::from(*step).max(1));
    // hyper reads on in what came in pieces until it has an end, and tells nothing to who begins with HTTP/2 at once.
    let begun = text.trim_start_matches(['\r', '\n']);
    if (begun.contains("\r\n\r\n") || begun.contains("\n\n")) && !begun.starts_with("PRI ") {
        assert_eq!(split, heard);
    } else {
        assert!(split.handshake.is_none() || split == heard, "{text}");
    }
}
