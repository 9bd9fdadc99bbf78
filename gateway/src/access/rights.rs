//! What somebody may see: channels, symbols and bounds, as a token's claim or the file of API keys says.
//!
//! Read strictly: a field that is not known here is refused, as it may be a restriction that this version would not keep,
//! and what is not granted is not allowed. `symbols` has to be there for that reason; everything else has a default.

use serde::Deserialize;
use tickgate_protocol::Channel;
use tickgate_protocol::command::is_symbol_or_pattern;

/// Symbols and patterns that one grant may name.
pub const SYMBOLS_MAX: usize = 10_000;
/// The longest delay: a week.
const DELAY_S_MAX: u32 = 604_800;

/// What somebody may see.
#[derive(Clone, PartialEq, Eq)]
pub struct Rights {
    /// One bit for each channel, by its number.
    channels: u8,
    /// Symbols by name.
    exact: Names,
    /// What the names of others begin with, none of them the beginning of another.
    prefixes: Names,
    /// How late the data must be, in seconds; 0 is live, `None` as late as for whoever is not asked.
    pub delay_s: Option<u32>,
    /// Subscriptions of one session; the gateway's own bound holds as well.
    pub max_subscriptions: Option<usize>,
    /// Updates a second for one session.
    pub max_updates_per_s: Option<u32>,
    /// Connections at once, of everybody with the same subject.
    pub max_connections: Option<u32>,
    /// Whether patterns may be wider than what is granted; they bring what is granted of them.
    pub wildcard: bool,
}

/// Names in order, in one text: thousands of sessions may have hundreds each.
#[derive(Clone, PartialEq, Eq, Default)]
struct Names {
    text: Box<str>,
    /// Where each of them ends.
    ends: Box<[u32]>,
}

impl Names {
    fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let (mut text, mut ends) = (String::new(), Vec::new());
        for name in names {
            text.push_str(name);
            // Files and tokens are far shorter.
            ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
        }
        Self { text: text.into(), ends: ends.into() }
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, at: usize) -> Option<&str> {
        let end = *self.ends.get(at)? as usize;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        self.text.get(start..end)
    }

    /// How many stand before the first one that is not `before`.
    fn partition_point(&self, before: impl Fn(&str) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle).is_some_and(&before) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Whether any of them begins so.
    fn has_any_under(&self, prefix: &str) -> bool {
        let first = self.partition_point(|name| name < prefix);
        self.get(first).is_some_and(|name| name.starts_with(prefix))
    }

    fn held_bytes(&self) -> usize {
        self.text.len() + size_of_val(&*self.ends)
    }
}

impl std::fmt::Debug for Rights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // As a log line wants it: up to ten thousand names say no more than their number.
        f.debug_struct("Rights")
            .field("channels", &self.channels().map(Channel::name).collect::<Vec<_>>())
            .field("symbols", &self.exact.len())
            .field("prefixes", &self.prefixes.len())
            .field("delay_s", &self.delay_s)
            .finish_non_exhaustive()
    }
}

/// Rights as they are written.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    symbols: Vec<String>,
    channels: Option<Vec<String>>,
    delay_s: Option<u32>,
    max_subscriptions: Option<u32>,
    max_updates_per_s: Option<u32>,
    max_connections: Option<u32>,
    #[serde(default)]
    wildcard: bool,
}

impl Grant {
    /// The rights that are meant.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn rights(self) -> Result<Rights, String> {
        let Self { symbols, channels, .. } = self;
        if symbols.len() > SYMBOLS_MAX {
            return Err(format!("`symbols` names {}: at most {SYMBOLS_MAX}", symbols.len()));
        }
        if let Some(odd) = symbols.iter().find(|symbol| !is_symbol_or_pattern(symbol)) {
            let odd: String = odd.chars().take(64).collect();
            return Err(format!("`symbols`: `{}` is no symbol and no pattern", odd.escape_debug()));
        }
        let channels = match channels {
            None => Channel::ALL.iter().fold(0, |all, channel| all | bit(*channel)),
            Some(names) => names.iter().try_fold(0, |all, name| {
                let channel = Channel::parse(name).ok_or("`channels` names one that there is not")?;
                Ok::<u8, String>(all | bit(channel))
            })?,
        };
        if self.delay_s.is_some_and(|delay_s| delay_s > DELAY_S_MAX) {
            return Err(format!("`delay_s` must be at most {DELAY_S_MAX}"));
        }
        for (name, bound) in [
            ("max_subscriptions", self.max_subscriptions),
            ("max_updates_per_s", self.max_updates_per_s),
            ("max_connections", self.max_connections),
        ] {
            if bound == Some(0) {
                return Err(format!("`{name}` must be at least 1; leave it out for no bound of its own"));
            }
        }
        let (patterns, mut exact): (Vec<_>, Vec<_>) =
            symbols.into_iter().partition(|symbol| symbol.ends_with('*'));
        let mut prefixes: Vec<&str> = patterns.iter().map(|pattern| pattern.trim_end_matches('*')).collect();
        prefixes.sort_unstable();
        // In order, whatever begins with another one stands behind it.
        prefixes.dedup_by(|next, kept| next.starts_with(*kept));
        exact.sort_unstable();
        exact.dedup();
        Ok(Rights {
            channels,
            exact: Names::new(exact.iter().map(String::as_str)),
            prefixes: Names::new(prefixes.into_iter()),
            delay_s: self.delay_s,
            max_subscriptions: self.max_subscriptions.map(|most| most as usize),
            max_updates_per_s: self.max_updates_per_s,
            max_connections: self.max_connections,
            wildcard: self.wildcard,
        })
    }
}

fn bit(channel: Channel) -> u8 {
    1 << channel as u8
}

impl Rights {
    /// Reads rights from the JSON of a claim.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_json(json: &str) -> Result<Self, String> {
        // An array would be read as the fields in their order.
        if !json.trim_start().starts_with('{') {
            return Err("must be an object".to_owned());
        }
        let grant: Grant = serde_json::from_str(json).map_err(|error| error.to_string())?;
        grant.rights()
    }

    /// The channels, whatever the symbols.
    pub fn channels(&self) -> impl Iterator<Item = Channel> {
        Channel::ALL.into_iter().filter(|channel| self.channels & bit(*channel) != 0)
    }

    /// Whether `symbol` may be seen on `channel`.
    pub fn may(&self, channel: Channel, symbol: &str) -> bool {
        self.channels & bit(channel) != 0 && (self.is_under_prefix(symbol) || self.is_named(symbol))
    }

    /// Whether all may be seen on `channel` that begins with `prefix`, whatever there will be.
    pub fn covers(&self, channel: Channel, prefix: &str) -> bool {
        self.channels & bit(channel) != 0 && self.is_under_prefix(prefix)
    }

    /// Whether a pattern is allowed that the rights do not cover: it brings what they have of it.
    pub fn may_narrow(&self, channel: Channel, prefix: &str) -> bool {
        self.wildcard && self.channels & bit(channel) != 0 && self.has_any_under(prefix)
    }

    fn is_named(&self, symbol: &str) -> bool {
        let at = self.exact.partition_point(|name| name < symbol);
        self.exact.get(at) == Some(symbol)
    }

    fn is_under_prefix(&self, text: &str) -> bool {
        // None is the beginning of another, so only the last one that is not behind `text` can be its beginning.
        let behind = self.prefixes.partition_point(|prefix| prefix <= text);
        let last = behind.checked_sub(1).and_then(|last| self.prefixes.get(last));
        last.is_some_and(|prefix| text.starts_with(prefix))
    }

    fn has_any_under(&self, prefix: &str) -> bool {
        self.exact.has_any_under(prefix) || self.prefixes.has_any_under(prefix)
    }

    /// Bytes of their names.
    pub fn held_bytes(&self) -> usize {
        self.exact.held_bytes() + self.prefixes.held_bytes()
    }
}

/// A name that may stand in logs and be compared: of a person or program, or of a token.
pub(super) fn is_name(text: &str) -> bool {
    // As symbols are, but longer.
    (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control)
}

/// Bytes of a subject, or of a token's name.
pub const NAME_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rights(json: &str) -> Rights {
        Rights::from_json(json).expect("they are right")
    }

    #[test]
    fn what_is_granted_is_allowed_and_nothing_else() {
        let rights = rights(
            r#"{"channels":["trades","quotes"],"symbols":["AAPL","BTC*","B"],"delay_s":900,
                "max_subscriptions":3,"max_updates_per_s":100,"max_connections":2,"wildcard":true}"#,
        );
        let may = |symbol| rights.may(Channel::Trades, symbol);
        assert!(may("AAPL") && may("BTC") && may("BTCUSD") && may("B"));
        assert!(!may("AAP") && !may("AAPLE") && !may("BT") && !may("ETH") && !may(""));
        assert!(!rights.may(Channel::Book, "AAPL") && !rights.covers(Channel::Book, "BTC"));
        assert!(rights.covers(Channel::Quotes, "BTC") && rights.covers(Channel::Quotes, "BTCU"));
        assert!(!rights.covers(Channel::Quotes, "BT") && !rights.covers(Channel::Quotes, "AAPL"));
        assert!(!rights.covers(Channel::Quotes, ""));
        assert!(rights.may_narrow(Channel::Quotes, "") && rights.may_narrow(Channel::Quotes, "AAP"));
        assert!(!rights.may_narrow(Channel::Quotes, "Z") && !rights.may_narrow(Channel::Book, ""));
        assert_eq!((rights.delay_s, rights.max_subscriptions, rights.wildcard), (Some(900), Some(3), true));
        assert_eq!((rights.max_updates_per_s, rights.max_connections), (Some(100), Some(2)));
    }

    #[test]
    fn what_is_left_out_is_every_channel_live_and_no_wildcard() {
        let rights = rights(r#"{"symbols":["*"]}"#);
        for channel in Channel::ALL {
            assert!(rights.may(channel, "anything") && rights.covers(channel, ""));
        }
        assert_eq!((rights.delay_s, rights.max_subscriptions, rights.wildcard), (None, None, false));
        assert!(!self::rights(r#"{"symbols":["A"]}"#).may_narrow(Channel::Trades, ""));
        let none = self::rights(r#"{"symbols":[],"wildcard":true}"#);
        assert!(!none.may(Channel::Trades, "A") && !none.may_narrow(Channel::Trades, ""));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for bad in [
            "{}",
            "[]",
            r#"[["*"],null,0,null,null,null,true]"#,
            "null",
            r#"{"symbols":"*"}"#,
            r#"{"symbols":[1]}"#,
            r#"{"symbols":["A*B"]}"#,
            r#"{"symbols":["**"]}"#,
            r#"{"symbols":[""]}"#,
            r#"{"symbols":["A\u0000"]}"#,
            r#"{"symbols":["*"],"until":"noon"}"#,
            r#"{"symbols":["*"],"symbols":["A"]}"#,
            r#"{"symbols":["*"],"channels":["bars"]}"#,
            r#"{"symbols":["*"],"delay_s":-1}"#,
            r#"{"symbols":["*"],"delay_s":1e9}"#,
            r#"{"symbols":["*"],"delay_s":604801}"#,
            r#"{"symbols":["*"],"max_connections":0}"#,
            r#"{"symbols":["*"],"max_subscriptions":"many"}"#,
            r#"{"symbols":["*"],"wildcard":1}"#,
        ] {
            assert!(Rights::from_json(bad).is_err(), "{bad}");
        }
    }

    fn any_pattern() -> impl Strategy<Value = String> {
        "[ABC]{0,4}\\*?".prop_filter("a symbol or a pattern", |text| is_symbol_or_pattern(text))
    }

    proptest! {
        /// Against looking at each of them.
        #[test]
        fn symbols_are_found_as_by_looking_at_each(
            granted in proptest::collection::vec(any_pattern(), 0..12), asked in "[ABC]{1,5}", prefix in "[ABC]{0,4}",
        ) {
            let json = serde_json::json!({ "symbols": granted, "wildcard": true }).to_string();
            let rights = rights(&json);
            let matches = |pattern: &String, text: &str| match pattern.strip_suffix('*') {
                Some(prefix) => text.starts_with(prefix),
                None => pattern == text,
            };
            prop_assert_eq!(rights.may(Channel::Book, &asked), granted.iter().any(|pattern| matches(pattern, &asked)));
            let covers = |pattern: &String| pattern.strip_suffix('*').is_some_and(|granted| prefix.starts_with(granted));
            prop_assert_eq!(rights.covers(Channel::Book, &prefix), granted.iter().any(covers));
            // Of what is covered it need not be asked.
            let is_narrower = |pattern: &String| pattern.trim_end_matches('*').starts_with(&prefix);
            let brings_any = granted.iter().any(|pattern| covers(pattern) || is_narrower(pattern));
            let may = rights.covers(Channel::Book, &prefix) || rights.may_narrow(Channel::Book, &prefix);
            prop_assert_eq!(may, brings_any);
        }
    }
}
