//! Requests from clients.
//!
//! A message is read in two steps: its JSON into optional fields, then into a [`Command`], so that an answer can name
//! the request's `id` even when the rest of it makes no sense. Faults of one subscription among many stay with it.

use crate::{Channel, ConflateMs, Decimal, Depth, OnSlow, Position};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Longest text that a request may carry as its `id`, in bytes.
pub const ID_BYTES_MAX: usize = 64;

/// Objects and arrays within each other that a request may have: one that says where to resume has four. Deeper ones are of no
/// use, but for finding out what reads them.
pub const DEPTH_MAX: usize = 8;

/// Longest name of a channel that is answered with a verdict of its own, in bytes: every symbol's verdict repeats it.
pub const CHANNEL_BYTES_MAX: usize = 32;
const CHANNELS: &str = "`channel` must be trades, quotes, book or status";

/// A request's `id`, echoed in its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Id {
    /// An integer.
    Number(i64),
    /// A text of at most [`ID_BYTES_MAX`] bytes.
    Text(String),
}

/// A request as a client sent it.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The client's name for the request.
    pub id: Option<Id>,
    /// What it asks for.
    pub command: Command,
}

/// What a client shows to say who it is. It is not for logs, and cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Authenticate this session.
    Auth {
        /// The client's credentials.
        token: Token,
    },
    /// Start or change subscriptions.
    Subscribe {
        /// What to subscribe to, each with its own verdict.
        subscriptions: Vec<Subscription>,
        /// Resume everything asked for from here.
        cursor: Option<String>,
    },
    /// End subscriptions.
    Unsubscribe {
        /// What to end; options are ignored.
        subscriptions: Vec<Subscription>,
    },
    /// Change the session.
    Set {
        /// Interval of heartbeats in milliseconds, 0 turns them off.
        heartbeat_ms: Option<u64>,
        /// Most bytes per second that the client wants, 0 removes the bound.
        max_bytes_per_s: Option<u64>,
        /// Flush window in milliseconds, 0 removes it.
        flush_ms: Option<u64>,
    },
    /// List the subscriptions held.
    List,
    /// Ask for a `pong`.
    Ping,
}

/// One entry of a subscribe request.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscription {
    /// The channel's name as asked, for the answer.
    pub channel_name: Cow<'static, str>,
    /// Symbols and patterns as asked.
    pub symbols: Vec<Arc<str>>,
    /// The options, or what is wrong with them.
    pub options: Result<(Channel, SubscribeOptions), Fault>,
}

/// What is wrong with one subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The code of the answer.
    pub code: crate::Code,
    /// What to do about it.
    pub message: String,
}

/// Options of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// What happens when this client reads too slowly.
    pub on_slow: OnSlow,
    /// Interval of conflation.
    pub conflate: ConflateMs,
    /// Levels a side, of a book.
    pub depth: Depth,
    /// How many of the last trades to send first.
    pub snapshot: u32,
    /// Where to resume.
    pub from: Option<From>,
}

impl SubscribeOptions {
    /// What a subscription of `channel` gets that names no option.
    pub const fn default_for(channel: Channel) -> Self {
        Self {
            on_slow: channel.default_on_slow(),
            conflate: ConflateMs::NONE,
            depth: Depth::ALL,
            snapshot: 0,
            from: None,
        }
    }
}

/// Where a subscription resumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// Strictly after this position.
    Seq(Position),
    /// At the first record whose Kafka timestamp is at or after this time, in nanoseconds since the Unix epoch.
    TimeNs(i64),
    /// The past alone, without what is live.
    Past(Past),
}

/// A part of the past, and how fast it is to be played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    /// From the first record whose Kafka timestamp is at or after this time, in nanoseconds since the Unix epoch.
    pub since_ns: i64,
    /// Up to the first whose timestamp is after this time; up to now when missing.
    pub until_ns: Option<i64>,
    /// Thousandths of the speed at which it happened; as fast as the client reads when missing.
    pub speed_thousandths: Option<u32>,
}

impl Past {
    /// The fastest that may be asked for by a number: a day in a minute and a half.
    pub const SPEED_MAX: u32 = 1_000;
}

/// A message that is no request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRequest {
    /// The `id`, if that much could be read.
    pub id: Option<Id>,
    /// What is wrong and what was expected.
    pub message: String,
}

/// A text that stays where it is, unless it is escaped there.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Bytes of an error that are passed on as they are.
const BRIEF_BYTES_MAX: usize = 84;
/// Bytes of a longer one: what it quotes comes after its first words.
const QUOTED_BYTES_MAX: usize = 64;

/// A text of its own from the beginning: one allocation for whoever shares it later.
struct Shared(Arc<str>);

impl<'de> Deserialize<'de> for Shared {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Shared;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Shared, E> {
                Ok(Shared(text.into()))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[derive(Deserialize)]
struct RawRequest<'a> {
    #[serde(borrow)]
    op: Option<Text<'a>>,
    id: Option<serde_json::Value>,
    token: Option<String>,
    #[serde(borrow)]
    subscriptions: Option<Vec<RawSubscription<'a>>>,
    cursor: Option<String>,
    heartbeat_ms: Option<serde_json::Value>,
    max_bytes_per_s: Option<serde_json::Value>,
    flush_ms: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct RawSubscription<'a> {
    #[serde(borrow)]
    channel: Option<Text<'a>>,
    symbols: Option<Vec<Shared>>,
    #[serde(borrow)]
    on_slow: Option<Text<'a>>,
    conflate_ms: Option<serde_json::Value>,
    depth: Option<serde_json::Value>,
    snapshot: Option<serde_json::Value>,
    from: Option<RawFrom>,
    /// Not its place; to leave it out without a word would lose what it asks for.
    cursor: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct RawFrom {
    seq: Option<String>,
    time_ns: Option<serde_json::Value>,
    speed: Option<Decimal>,
    until_ns: Option<serde_json::Value>,
}

impl Command {
    /// How many symbols and patterns it names.
    pub fn names(&self) -> usize {
        match self {
            Self::Subscribe { subscriptions, .. } | Self::Unsubscribe { subscriptions } => {
                subscriptions.iter().map(|subscription| subscription.symbols.len()).sum()
            }
            _ => 0,
        }
    }
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// [`BadRequest`] with a message for the client when the text is not a request.
    pub fn parse(text: &str) -> Result<Self, BadRequest> {
        // An array would be read as the fields in their order.
        if !text.trim_start().starts_with('{') {
            return Err(BadRequest { id: None, message: "a request is a JSON object, {…}".to_owned() });
        }
        if is_too_deep(text) {
            let message = format!("a request has at most {DEPTH_MAX} objects and arrays within each other");
            return Err(BadRequest { id: Self::id_of(text), message });
        }
        let raw: RawRequest<'_> = serde_json::from_str(text).map_err(|error| BadRequest {
            id: Self::id_of(text),
            message: format!("not a request: {}", brief(&error)),
        })?;
        let id = match raw.id.as_ref().map(read_id) {
            None => None,
            Some(Some(id)) => Some(id),
            Some(None) => {
                let message = format!("`id` must be an integer or a text of at most {ID_BYTES_MAX} bytes");
                return Err(BadRequest { id: None, message });
            }
        };
        match raw.command() {
            Ok(command) => Ok(Self { id, command }),
            Err(message) => Err(BadRequest { id, message }),
        }
    }

    /// The `id` of a message of which nothing else is wanted, or whose other fields make no sense.
    pub fn id_of(text: &str) -> Option<Id> {
        #[derive(Deserialize)]
        struct OnlyId {
            id: Option<serde_json::Value>,
        }
        serde_json::from_str::<OnlyId>(text).ok()?.id.as_ref().and_then(read_id)
    }
}

/// Whether something stands deeper in a JSON text than it may in a request.
fn is_too_deep(text: &str) -> bool {
    let is_open = |byte: &u8| matches!(byte, b'{' | b'[');
    // Of most requests that is all there is to look at.
    if text.as_bytes().iter().filter(|byte| is_open(byte)).count() <= DEPTH_MAX {
        return false;
    }
    let (mut depth, mut bytes) = (0_usize, text.bytes());
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            // Up to the end of a text.
            b'"' => {
                while let Some(byte) = bytes.next().filter(|byte| *byte != b'"') {
                    if byte == b'\\' {
                        bytes.next();
                    }
                }
            }
            _ => {}
        }
        if depth > DEPTH_MAX {
            return true;
        }
    }
    false
}

/// What is wrong with the JSON, without repeating more of it than helps: serde quotes a text of whatever length.
fn brief(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.len() <= BRIEF_BYTES_MAX {
        return text;
    }
    let cut = text.floor_char_boundary(QUOTED_BYTES_MAX);
    format!("{}… at line {} column {}", &text[..cut], error.line(), error.column())
}

fn read_id(value: &serde_json::Value) -> Option<Id> {
    match value {
        serde_json::Value::Number(number) => number.as_i64().map(Id::Number),
        serde_json::Value::String(text) if text.len() <= ID_BYTES_MAX => Some(Id::Text(text.clone())),
        _ => None,
    }
}

impl RawRequest<'_> {
    fn command(self) -> Result<Command, String> {
        let op = &*self.op.ok_or("`op` is missing")?.0;
        let subscriptions = |raw: Option<Vec<RawSubscription<'_>>>| -> Result<Vec<Subscription>, String> {
            let raw =
                raw.filter(|s| !s.is_empty()).ok_or("`subscriptions` must be an array that is not empty")?;
            raw.into_iter().map(RawSubscription::check).collect()
        };
        Ok(match op {
            "auth" => Command::Auth { token: Token(self.token.ok_or("`token` is missing")?) },
            "subscribe" => {
                Command::Subscribe { subscriptions: subscriptions(self.subscriptions)?, cursor: self.cursor }
            }
            "unsubscribe" => Command::Unsubscribe { subscriptions: subscriptions(self.subscriptions)? },
            "set" => Command::Set {
                heartbeat_ms: whole("heartbeat_ms", self.heartbeat_ms)?,
                max_bytes_per_s: whole("max_bytes_per_s", self.max_bytes_per_s)?,
                flush_ms: whole("flush_ms", self.flush_ms)?,
            },
            "list" => Command::List,
            "ping" => Command::Ping,
            _ => return Err("`op` must be auth, subscribe, unsubscribe, set, list or ping".to_owned()),
        })
    }
}

fn whole(field: &str, value: Option<serde_json::Value>) -> Result<Option<u64>, String> {
    value
        .map(|v| v.as_u64().ok_or_else(|| format!("`{field}` must be a whole number, zero or more")))
        .transpose()
}

impl RawSubscription<'_> {
    fn check(mut self) -> Result<Subscription, String> {
        let name = self.channel.take().ok_or("a subscription lacks its `channel`")?.0;
        if name.len() > CHANNEL_BYTES_MAX {
            return Err(CHANNELS.to_owned());
        }
        let symbols = self.symbols.take().filter(|symbols| !symbols.is_empty());
        let symbols = symbols.ok_or("a subscription must name `symbols`")?;
        let symbols = symbols.into_iter().map(|symbol| symbol.0).collect();
        let channel = Channel::parse(&name);
        let channel_name = match channel {
            Some(channel) => Cow::Borrowed(channel.name()),
            None => Cow::Owned(name.into_owned()),
        };
        Ok(Subscription { channel_name, symbols, options: self.options(channel) })
    }

    fn options(self, channel: Option<Channel>) -> Result<(Channel, SubscribeOptions), Fault> {
        let fault = |message: String| Fault { code: crate::Code::BadRequest, message };
        let channel = channel
            .ok_or_else(|| Fault { code: crate::Code::UnknownChannel, message: CHANNELS.to_owned() })?;
        let mut options = SubscribeOptions::default_for(channel);
        if self.cursor.is_some() {
            return Err(fault("`cursor` stands beside `subscriptions`, not in one of them".to_owned()));
        }
        if let Some(name) = &self.on_slow {
            options.on_slow = OnSlow::parse(&name.0)
                .ok_or_else(|| fault("`on_slow` must be conflate, skip or disconnect".to_owned()))?;
            if options.on_slow == OnSlow::Conflate && !channel.is_state() {
                return Err(fault(
                    "trades cannot be conflated: `on_slow` must be skip or disconnect".to_owned(),
                ));
            }
        }
        if let Some(ms) = whole("conflate_ms", self.conflate_ms).map_err(fault)? {
            options.conflate = ConflateMs::round_up(ms)
                .ok_or_else(|| fault("`conflate_ms` must be from 0 to 1000".to_owned()))?;
            if options.conflate != ConflateMs::NONE && !matches!(channel, Channel::Quotes | Channel::Book) {
                return Err(fault("`conflate_ms` is for quotes and book".to_owned()));
            }
        }
        if let Some(levels) = whole("depth", self.depth).map_err(fault)? {
            options.depth =
                Depth::new(levels).filter(|d| channel == Channel::Book || *d == Depth::ALL).ok_or_else(
                    || fault("`depth` is for book, and one of 1, 5, 10, 20, 50, 100 or 0 (all)".to_owned()),
                )?;
        }
        if let Some(count) = whole("snapshot", self.snapshot).map_err(fault)? {
            options.snapshot = u32::try_from(count)
                .ok()
                .filter(|count| *count == 0 || channel == Channel::Trades)
                .ok_or_else(|| {
                    fault("`snapshot` is for trades: how many of the last ones to send".to_owned())
                })?;
        }
        if let Some(from) = self.from {
            let from = from.check().map_err(fault)?;
            if let From::Past(_) = from {
                if channel == Channel::Book {
                    return Err(fault(
                        "a book's past is not played: `speed` and `until_ns` are for the others".to_owned(),
                    ));
                }
                if options.conflate != ConflateMs::NONE {
                    return Err(fault(
                        "the past is not conflated: leave out `conflate_ms` with `speed` and `until_ns`"
                            .to_owned(),
                    ));
                }
            }
            options.from = Some(from);
        }
        Ok((channel, options))
    }
}

impl RawFrom {
    fn check(self) -> Result<From, String> {
        let time = |value: serde_json::Value| match value {
            serde_json::Value::String(text) => text.parse().ok(),
            value => value.as_i64(),
        };
        let ns = |field: &str, value| {
            let ns = time(value).filter(|ns: &i64| *ns >= 0);
            let ns = ns.ok_or_else(|| format!("`from.{field}` must be nanoseconds since 1970"))?;
            match other_unit(ns) {
                Some(unit) => {
                    Err(format!("`from.{field}`: {ns} looks like {unit}: it is in nanoseconds since 1970"))
                }
                None => Ok(ns),
            }
        };
        let speed_thousandths = self.speed.map(speed).transpose()?;
        let until_ns = self.until_ns.map(|value| ns("until_ns", value)).transpose()?;
        let is_past = speed_thousandths.is_some() || until_ns.is_some();
        match (self.seq, self.time_ns) {
            (Some(_), None) if is_past => Err("`speed` and `until_ns` go with `from.time_ns`".to_owned()),
            (Some(seq), None) => seq.parse().map(From::Seq).map_err(|error| format!("`from.seq`: {error}")),
            (None, Some(value)) => {
                let since_ns = ns("time_ns", value)?;
                if until_ns.is_some_and(|until_ns| until_ns < since_ns) {
                    return Err("`from.until_ns` must not be before `from.time_ns`".to_owned());
                }
                let past = Past { since_ns, until_ns, speed_thousandths };
                Ok(if is_past { From::Past(past) } else { From::TimeNs(since_ns) })
            }
            _ => Err("`from` must have either `seq` or `time_ns`; a cursor stands beside `subscriptions`"
                .to_owned()),
        }
    }
}

/// The unit that a time was given in that is not in nanoseconds. From 10^8 to 10^11 seconds are the years 1973 to 5138, and
/// those times a thousand and a million the same in smaller units; below is the first tenth of a second of 1970, which is for
/// whoever wants all there is.
fn other_unit(ns: i64) -> Option<&'static str> {
    match ns {
        100_000_000..100_000_000_000 => Some("seconds"),
        100_000_000_000..100_000_000_000_000 => Some("milliseconds"),
        100_000_000_000_000..100_000_000_000_000_000 => Some("microseconds"),
        _ => None,
    }
}

fn speed(speed: Decimal) -> Result<u32, String> {
    let thousandths = (speed.to_f64() * 1_000.0).round();
    if (1.0..=f64::from(Past::SPEED_MAX * 1_000)).contains(&thousandths) {
        return Ok(thousandths as u32);
    }
    Err(format!(
        "`from.speed` must be from 0.001 to {}; without it the past comes as fast as it is read",
        Past::SPEED_MAX
    ))
}

/// Whether `text` can be asked for: a symbol, or a pattern that ends in its only `*`.
pub fn is_symbol_or_pattern(text: &str) -> bool {
    match text.strip_suffix('*') {
        Some("") => true,
        Some(prefix) => crate::is_symbol(prefix),
        None => crate::is_symbol(text),
    }
}

#[cfg(test)]
mod tests;
