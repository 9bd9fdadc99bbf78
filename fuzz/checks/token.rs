//! Tokens and keys. Of texts only those are believed that were really signed, which are in a list; of what is signed here,
//! only what says all that is demanded; and of sets of keys, what can be used is taken.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::sync::LazyLock;
use tickgate_gateway::access::keys::{Algorithm, KEYS_MAX, Keys, Set, Trust};
use tickgate_gateway::access::token::{Demands, read};
use tickgate_gateway::access::{Identity, Way};
use tickgate_protocol::Channel;

/// Keys of issuers that have forgotten theirs: nothing more can be signed with them, but for the secret.
static SET: &str = include_str!("../keys.json");
/// What they had signed, a line each.
static SIGNED: &str = include_str!("../tokens.txt");
const SECRET: &[u8] = b"a secret that is in every fuzz target";
const NOW_S: i64 = 1_767_225_600;

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let set = Set::parse(SET.as_bytes(), Algorithm::ALL, Trust::File).expect("a set of keys");
    assert_eq!(set.left_out, 0);
    Keys::new(set.keys)
});
static DEMANDS: LazyLock<Demands> = LazyLock::new(|| Demands {
    issuers: vec!["https://issuer.example".to_owned()],
    audiences: vec!["tickgate".to_owned(), "other-name".to_owned()],
    claim: "tickgate".to_owned(),
    leeway_s: 5,
});

fn believed(token: &str) -> Option<Identity> {
    read(token, &[&KEYS, &Keys::default()], &DEMANDS, NOW_S).ok()
}

fn any_text(text: &str) {
    let is_signed = SIGNED.lines().any(|line| line == text);
    assert_eq!(believed(text).is_some(), is_signed, "{text}");
}

/// One that was signed, with some characters changed: each three bytes say where and to what.
fn changed(which: u8, changes: &[u8]) {
    let signed: Vec<&str> = SIGNED.lines().collect();
    let mut text = signed[usize::from(which) % signed.len()].as_bytes().to_vec();
    for change in changes.chunks_exact(3) {
        let at = usize::from(change[0]) << 8 | usize::from(change[1]);
        let count = text.len();
        match change[2] {
            to @ b' '..=b'~' => text[at % count] = to,
            0x80.. => text.truncate((at % count).max(1)),
            _ => text.insert(at % count, b'A'),
        }
    }
    any_text(std::str::from_utf8(&text).expect("characters of a byte"));
}

/// A head and a body, signed as they stand here.
fn signed(json: &str) {
    let (head, body) = json.split_once('\n').unwrap_or((r#"{"alg":"HS256","kid":"h"}"#, json));
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(body));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message.as_bytes());
    let Some(identity) = believed(&format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))) else {
        return;
    };
    let (head, body) = (object(head), object(body));
    assert_eq!((&head["alg"], head.get("crit"), head.get("b64")), (&"HS256".into(), None, None));
    assert!(head.get("kid").is_none_or(|kid| kid == "h"));
    assert!(head.get("typ").is_none_or(|kind| kind.as_str().is_some_and(|kind| kind.len() <= 18)));
    assert_eq!(body["iss"], "https://issuer.example");
    let is_us = |name: &Value| name == "tickgate" || name == "other-name";
    assert!(is_us(&body["aud"]) || body["aud"].as_array().is_some_and(|names| names.iter().any(is_us)));
    let expires_s = i64::try_from(body["exp"].as_u64().expect("whole seconds")).unwrap_or(i64::MAX);
    assert!(NOW_S < expires_s.saturating_add(5));
    let counts_until_s = identity.expires_s.expect("a time");
    assert!((expires_s..=expires_s.saturating_add(5)).contains(&counts_until_s) && NOW_S < counts_until_s);
    assert!(body.get("nbf").is_none_or(|since_s| since_s.as_u64().is_some_and(|s| s <= NOW_S as u64 + 5)));
    let subject = body["sub"].as_str().expect("a name");
    assert!((1..=256).contains(&subject.len()) && !subject.contains(char::is_control));
    assert_eq!(&*identity.subject, subject);
    let id = body.get("jti").map(|id| id.as_str().expect("a name").into());
    assert_eq!(identity.way, Way::Token { id });
    check_rights(&identity, body["tickgate"].as_object().expect("rights"));
}

fn check_rights(identity: &Identity, granted: &Map<String, Value>) {
    let symbols = granted["symbols"].as_array().expect("symbols");
    let names: Vec<&str> = symbols.iter().map(|name| name.as_str().expect("a text")).collect();
    let is_granted = |symbol: &str| {
        names
            .iter()
            .any(|name| name.strip_suffix('*').map_or(*name == symbol, |begin| symbol.starts_with(begin)))
    };
    let near = names.iter().flat_map(|name| [name.trim_end_matches('*').to_owned(), format!("{name}X")]);
    for symbol in near.chain(["AAPL".to_owned()]).take(64) {
        for channel in Channel::ALL {
            let listed = granted.get("channels").filter(|channels| !channels.is_null());
            let is_open = listed.is_none_or(|channels| {
                channels.as_array().expect("channels").iter().any(|name| name == channel.name())
            });
            assert_eq!(identity.rights.may(channel, &symbol), is_open && is_granted(&symbol), "{symbol}");
        }
    }
    let number = |name: &str| granted.get(name).and_then(Value::as_u64);
    assert_eq!(identity.rights.delay_s.map(u64::from), number("delay_s"));
    assert_eq!(identity.rights.max_updates_per_s.map(u64::from), number("max_updates_per_s"));
    assert_eq!(identity.rights.max_connections.map(u64::from), number("max_connections"));
    assert_eq!(identity.rights.wildcard, granted.get("wildcard") == Some(&Value::Bool(true)));
}

/// An object of which no field stands twice.
fn object(json: &str) -> Map<String, Value> {
    let fields = fields(json);
    let (count, object) = (fields.len(), Map::from_iter(fields));
    assert_eq!(object.len(), count, "{json}");
    object
}

/// The fields of an object, as often as they stand there; the value of one that is never looked at may be odd.
fn fields(json: &str) -> Vec<(String, Value)> {
    struct Each;
    impl<'de> Visitor<'de> for Each {
        type Value = Vec<(String, Value)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields = Vec::new();
            while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                fields.push((name, serde_json::from_str(value.get()).unwrap_or(Value::Null)));
            }
            Ok(fields)
        }
    }
    serde_json::Deserializer::from_str(json).deserialize_map(Each).expect("an object")
}

fn set(which: u8, json: &[u8]) {
    let trust = if which & 1 == 0 { Trust::File } else { Trust::Url };
    // All of them, or every other one.
    let allowed: Vec<Algorithm> =
        Algorithm::ALL.iter().copied().step_by(1 + usize::from(which >> 1 & 1)).collect();
    let Ok(set) = Set::parse(json, &allowed, trust) else { return };
    assert!((1..=KEYS_MAX).contains(&set.keys.len()));
    if let Ok(json) = std::str::from_utf8(json)
        && let Some((_, Value::Array(keys))) = fields(json).iter().find(|(name, _)| name == "keys")
    {
        assert_eq!(set.keys.len() + set.left_out, keys.len());
    }
    for key in &set.keys {
        assert!(allowed.contains(&key.algorithm()));
        assert!(trust == Trust::File || !key.algorithm().is_shared(), "what anybody can fetch is no secret");
        assert!(!key.signed(b"a message", b"no signature"));
    }
    let again = Set::parse(json, &allowed, trust).expect("as before");
    assert_eq!(again.keys, set.keys);
}

/// Feeds it one input.
pub fn check(input: &[u8]) {
    let [kind, rest @ ..] = input else { return };
    match (kind & 3, std::str::from_utf8(rest)) {
        (0, Ok(text)) => any_text(text),
        (1, Ok(json)) => signed(json),
        (2, _) => changed(kind >> 2, rest),
        (3, _) => set(kind >> 2, rest),
        _ => {}
    }
}
