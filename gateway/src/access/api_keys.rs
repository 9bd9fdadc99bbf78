//! API keys: long-lived secrets for programs, each with its rights, from a file that holds their hashes alone.

use super::rights::{Grant, Rights, is_name};
use super::{Identity, Way};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use serde::Deserialize;
use std::sync::Arc;

/// Keys of a file: each is compared with what a client sent.
pub const KEYS_MAX: usize = 4_096;
/// Bytes of the file: a KiB for each of so many. While it is read it is some times as large.
pub const FILE_BYTES_MAX: usize = 4 << 20;
/// Bytes of a key that a client may send. The shortest is what 16 bytes of chance are in base64.
pub const KEY_BYTES: std::ops::RangeInclusive<usize> = 22..=256;

const HASH_BYTES: usize = 32;

#[derive(Debug, PartialEq, Eq)]
struct ApiKey {
    hash: [u8; HASH_BYTES],
    name: Arc<str>,
    expires_s: Option<i64>,
    rights: Arc<Rights>,
}

/// The keys of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ApiKeys {
    list: Vec<ApiKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    keys: Vec<toml::Table>,
}

impl ApiKeys {
    /// Reads the text of such a file.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let raw: RawFile = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        if raw.keys.len() > KEYS_MAX {
            return Err(format!("has {} keys: at most {KEYS_MAX}", raw.keys.len()));
        }
        let mut list: Vec<ApiKey> = Vec::with_capacity(raw.keys.len());
        for (index, table) in raw.keys.into_iter().enumerate() {
            let key = ApiKey::read(table).map_err(|what| format!("[[keys]] number {}: {what}", index + 1))?;
            if let Some(twin) = list.iter().position(|other| other.hash == key.hash) {
                return Err(format!("[[keys]] number {}: the same key as number {}", index + 1, twin + 1));
            }
            list.push(key);
        }
        Ok(Self { list })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_file(path: &str) -> Result<Self, String> {
        let bytes = super::keys::read(path, FILE_BYTES_MAX)?;
        let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
        Self::parse(&text)
    }

    /// Whose key this is, at `now_s`.
    pub fn find(&self, key: &str, now_s: i64) -> Option<Identity> {
        if !KEY_BYTES.contains(&key.len()) {
            return None;
        }
        let hash = digest(&SHA256, key.as_bytes());
        // Each is looked at, however early one fits: how long it takes says nothing of which.
        let fits = |known: &ApiKey| verify_slices_are_equal(&known.hash, hash.as_ref()).is_ok();
        let known =
            self.list.iter().fold(None, |found, known| if fits(known) { Some(known) } else { found })?;
        known.expires_s.is_none_or(|expires_s| now_s < expires_s).then(|| known.identity())
    }

    /// Whether one who came with the key of this hash would still be the same.
    pub fn holds(&self, hash: &[u8], identity: &Identity) -> bool {
        let found = self.list.iter().find(|known| known.hash == *hash);
        found.is_some_and(|known| {
            let ApiKey { name, expires_s, rights, .. } = known;
            (name, expires_s, rights) == (&identity.subject, &identity.expires_s, &identity.rights)
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl ApiKey {
    fn read(mut table: toml::Table) -> Result<Self, String> {
        let mut text = |name: &str| match table.remove(name) {
            Some(toml::Value::String(text)) => Ok(text),
            Some(_) => Err(format!("`{name}` must be a text")),
            None => Err(format!("lacks its `{name}`")),
        };
        let (name, sha256) = (text("name")?, text("sha256")?);
        if !is_name(&name) {
            return Err("`name` must be 1 to 256 bytes without control characters".to_owned());
        }
        let hash = hex(&sha256).ok_or("`sha256` must be the 64 hexadecimal digits of the key's SHA-256")?;
        let expires_s = match table.remove("expires_s") {
            None => None,
            Some(toml::Value::Integer(seconds)) if seconds > 0 => Some(seconds),
            Some(_) => return Err("`expires_s` must be seconds since 1970".to_owned()),
        };
        let grant: Grant = table.try_into().map_err(|error: toml::de::Error| error.message().to_owned())?;
        Ok(Self { hash, name: name.into(), expires_s, rights: Arc::new(grant.rights()?) })
    }

    fn identity(&self) -> Identity {
        Identity {
            subject: self.name.clone(),
            expires_s: self.expires_s,
            way: Way::ApiKey { hash: Box::new(self.hash) },
            rights: self.rights.clone(),
        }
    }
}

fn hex(text: &str) -> Option<[u8; HASH_BYTES]> {
    let digits = text.as_bytes();
    let mut bytes = [0; HASH_BYTES];
    if digits.len() != 2 * HASH_BYTES || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tickgate_protocol::Channel;

    const KEY: &str = "q3J1d8LkXo2Zt7PvYc0RmA";

    fn hash(key: &str) -> String {
        digest(&SHA256, key.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn file(more: &str) -> String {
        format!("[[keys]]\nname = 'desk-7'\nsha256 = '{}'\nsymbols = ['AAPL', 'BTC*']\n{more}\n", hash(KEY))
    }

    #[test]
    fn a_key_has_its_name_and_rights() {
        let keys =
            ApiKeys::parse(&file("channels = ['trades']\nmax_connections = 2\nexpires_s = 1000")).unwrap();
        let identity = keys.find(KEY, 999).expect("it is there");
        assert_eq!((&*identity.subject, identity.expires_s), ("desk-7", Some(1_000)));
        assert!(
            identity.rights.may(Channel::Trades, "BTCUSD") && !identity.rights.may(Channel::Trades, "ETH")
        );
        assert!(keys.find(KEY, 1_000).is_none(), "its time is over");
        for other in ["", "q3J1d8LkXo2Zt7PvYc0Rm", "q3J1d8LkXo2Zt7PvYc0RmB", &hash(KEY), &"x".repeat(257)] {
            assert!(keys.find(other, 0).is_none(), "{other}");
        }
        assert!(!format!("{keys:?}").contains(KEY));
    }

    #[test]
    fn who_came_with_it_is_the_same_only_while_nothing_changed() {
        let keys = |more: &str| ApiKeys::parse(&file(more)).unwrap();
        let identity = keys("").find(KEY, 0).unwrap();
        let Way::ApiKey { hash } = &identity.way else { panic!("it came with one") };
        assert!(keys("").holds(&**hash, &identity));
        assert!(!keys("wildcard = true").holds(&**hash, &identity));
        assert!(!keys("expires_s = 7").holds(&**hash, &identity));
        assert!(!ApiKeys::default().holds(&**hash, &identity));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let other = hash("another key of these tests");
        for (text, what) in [
            ("keys = 1".to_owned(), "expected"),
            ("[[key]]\n".to_owned(), "unknown field"),
            (file("until = 'noon'"), "number 1: unknown field"),
            (file("") + &file(""), "number 2: the same key as number 1"),
            (file("expires_s = 'noon'"), "`expires_s` must be seconds"),
            (file("delay_s = -1"), "number 1"),
            (format!("[[keys]]\nname = 'a'\nsha256 = '{other}'\n"), "missing field `symbols`"),
            (format!("[[keys]]\nsha256 = '{other}'\nsymbols = []\n"), "lacks its `name`"),
            (
                "[[keys]]\nname = 'a'\nsymbols = []\nsha256 = 'plain key'\n".to_owned(),
                "64 hexadecimal digits",
            ),
            (format!("[[keys]]\nname = \"a\\n\"\nsymbols = []\nsha256 = '{other}'\n"), "`name` must be"),
        ] {
            let error = ApiKeys::parse(&text).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
            assert!(!error.contains("plain key"), "{error}");
        }
    }
}
