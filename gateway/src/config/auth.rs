//! Who may connect: the section `[auth]`.

use crate::access::Files;
use crate::access::keys::{Algorithm, parse_entry};

/// Who may connect.
#[derive(Debug, Clone, PartialEq)]
pub struct AuthConfig {
    /// `off`, or `required`.
    pub mode: String,
    /// Who may have issued a token.
    pub issuers: Vec<String>,
    /// Whom a token must be for.
    pub audiences: Vec<String>,
    /// The algorithms that keys may be for; empty for all.
    pub algorithms: Vec<String>,
    /// Files with keys: `ALGORITHM[#kid]:path`.
    pub key_files: Vec<String>,
    /// File with a set of keys; empty for none.
    pub jwks_file: String,
    /// URL of a set of keys; empty for none.
    pub jwks_url: String,
    /// How often that is fetched, in seconds.
    pub jwks_refresh_s: u64,
    /// File with the certificates that vouch for its server; empty for those of the system.
    pub jwks_ca_file: String,
    /// Whether the URL may be plain `http` to another machine.
    pub jwks_insecure: bool,
    /// The claim that holds the rights.
    pub claim: String,
    /// By how much clocks may differ, in seconds.
    pub leeway_s: u64,
    /// File with API keys; empty for none.
    pub api_keys_file: String,
    /// File with tokens and subjects that are revoked; empty for none.
    pub revoked_file: String,
    /// How often that is read again, in milliseconds.
    pub revoked_refresh_ms: u64,
    /// Topic with tokens and subjects that are revoked; empty for none.
    pub revocation_topic: String,
    /// Whether clients are let in before that was read.
    pub revocation_fail_open: bool,
    /// Time from the connection to the end of authentication, in milliseconds.
    pub timeout_ms: u64,
    /// Connections that have not authenticated yet, over all shards; the oldest goes first.
    pub pending_max: usize,
    /// How long before the end of a token its session is told, in seconds.
    pub warn_s: u64,
    /// File of the audit log; empty for the log.
    pub audit_file: String,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            mode: "off".to_owned(),
            issuers: Vec::new(),
            audiences: Vec::new(),
            algorithms: Vec::new(),
            key_files: Vec::new(),
            jwks_file: String::new(),
            jwks_url: String::new(),
            jwks_refresh_s: 300,
            jwks_ca_file: String::new(),
            jwks_insecure: false,
            claim: "tickgate".to_owned(),
            leeway_s: 5,
            api_keys_file: String::new(),
            revoked_file: String::new(),
            revoked_refresh_ms: 2_000,
            revocation_topic: String::new(),
            revocation_fail_open: false,
            timeout_ms: 10_000,
            pending_max: 2_000,
            warn_s: 60,
            audit_file: String::new(),
        }
    }
}

impl AuthConfig {
    /// Whether whoever connects must show who it is.
    pub fn is_required(&self) -> bool {
        self.mode == "required"
    }

    /// The algorithms that keys may be for.
    pub fn allowed(&self) -> Vec<Algorithm> {
        if self.algorithms.is_empty() {
            return Algorithm::ALL.to_vec();
        }
        self.algorithms.iter().filter_map(|name| Algorithm::parse(name)).collect()
    }

    /// Whether tokens can be checked: there is something to check them with.
    fn takes_tokens(&self) -> bool {
        !(self.key_files.is_empty() && self.jwks_file.is_empty() && self.jwks_url.is_empty())
    }

    /// What is missing or contradictory, each with its key.
    pub(super) fn wrong(&self, usable: impl Fn(&str) -> bool) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        let keys = ["auth.mode", "auth.key_files", "auth.jwks_file", "auth.jwks_url", "auth.api_keys_file"];
        if !keys.iter().all(|key| usable(key)) {
            return wrong;
        }
        let given = [
            ("auth.key_files", self.key_files.is_empty()),
            ("auth.jwks_file", self.jwks_file.is_empty()),
            ("auth.jwks_url", self.jwks_url.is_empty()),
            ("auth.api_keys_file", self.api_keys_file.is_empty()),
        ];
        if self.revocation_fail_open && self.revocation_topic.is_empty() {
            wrong.push(("auth.revocation_fail_open", "is set without auth.revocation_topic".to_owned()));
        }
        if !self.is_required() {
            // Who sets keys means them to be asked for, and who says who is revoked means it.
            let topic = ("auth.revocation_topic", self.revocation_topic.is_empty());
            if let Some((key, _)) = given.iter().chain([&topic]).find(|(_, is_empty)| !is_empty) {
                let what = "is set, but nobody is asked: set auth.mode = \"required\", or take this out";
                wrong.push((*key, what.to_owned()));
            }
            return wrong;
        }
        if given.iter().all(|(_, is_empty)| *is_empty) {
            let what = "is \"required\", but there is nothing to check anybody with: set auth.key_files, auth.jwks_file, \
                        auth.jwks_url or auth.api_keys_file";
            wrong.push(("auth.mode", what.to_owned()));
        }
        if self.takes_tokens() {
            for (key, list, whose) in [
                ("auth.issuers", &self.issuers, "whose tokens are taken (`iss`)"),
                ("auth.audiences", &self.audiences, "whom tokens must be for (`aud`)"),
            ] {
                if list.is_empty() && usable(key) {
                    wrong.push((key, format!("must say {whose}, as there are keys for tokens")));
                }
            }
        }
        if !self.jwks_url.is_empty()
            && !self.jwks_insecure
            && let Some(host) = self.jwks_url.strip_prefix("http://")
            && !is_loopback(host)
        {
            let what = "must be https: whoever stands in between could give keys of their own; \
                        auth.jwks_insecure = true allows it all the same";
            wrong.push(("auth.jwks_url", what.to_owned()));
        }
        if self.jwks_url.is_empty() && !self.jwks_ca_file.is_empty() {
            wrong.push(("auth.jwks_ca_file", "is set without auth.jwks_url".to_owned()));
        }
        if usable("auth.algorithms") {
            wrong.extend(Files::read(self).err().into_iter().flatten());
        }
        wrong
    }
}

/// Whether what stands behind `http://` is this machine.
fn is_loopback(rest: &str) -> bool {
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

pub(super) fn mode(text: &str) -> Result<(), String> {
    match text {
        "off" | "required" => Ok(()),
        _ => Err(format!("must be \"off\" or \"required\", not `{}`", text.escape_debug())),
    }
}

pub(super) fn algorithm(text: &str) -> Result<(), String> {
    if Algorithm::parse(text).is_some() {
        return Ok(());
    }
    let names: Vec<_> = Algorithm::ALL.iter().map(|algorithm| algorithm.name()).collect();
    Err(format!("must be of {}, not `{}`", names.join(", "), text.escape_debug()))
}

pub(super) fn key_file(text: &str) -> Result<(), String> {
    parse_entry(text).map(drop)
}

pub(super) fn name(text: &str) -> Result<(), String> {
    if (1..=256).contains(&text.len()) && !text.contains(char::is_control) {
        return Ok(());
    }
    Err(format!("must be 1 to 256 bytes without control characters, not `{}`", text.escape_debug()))
}

pub(super) fn url_or_empty(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let authority = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.contains('#');
    // Names and passwords in a URL end in logs.
    if authority.is_empty() || authority.contains('@') || !is_plain || text.parse::<hyper::Uri>().is_err() {
        return Err("must be https://host[:port]/path, without a name and a password".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known() {
        for here in ["localhost/x", "127.0.0.1:80/", "127.8.8.8", "[::1]:9/keys", "localhost:1?x"] {
            assert!(is_loopback(here), "{here}");
        }
        for there in
            ["", "example.com", "127.0.0.1.example.com", "localhost.example.com/", "[::2]", "10.0.0.1"]
        {
            assert!(!is_loopback(there), "{there}");
        }
    }

    #[test]
    fn urls_are_checked() {
        for good in ["", "https://issuer.example/keys", "http://127.0.0.1:1/x?y=z", "https://[::1]:8443/"] {
            assert_eq!(url_or_empty(good), Ok(()), "{good}");
        }
        for bad in [
            "issuer.example",
            "ftp://x/",
            "https://",
            "https:///x",
            "https://a:b@x/",
            "https://x/#y",
            "https://x/ y",
            "https://x/é",
        ] {
            assert!(url_or_empty(bad).is_err(), "{bad}");
        }
    }
}
