//! Control messages from the gateway: `{…}` text frames.

use crate::command::Id;
use crate::event::json::{write_number, write_string};
use crate::{Code, Position};
use serde::{Deserialize, Serialize};

/// Version of this protocol.
pub const PROTOCOL: u32 = 1;
/// The subprotocol that selects JSON events.
pub const SUBPROTOCOL_JSON: &str = "tickgate.v1.json";
/// Path of the stream.
pub const STREAM_PATH: &str = "/v1/stream";

/// `auth` in a greeting of a gateway that asks nobody who it is.
pub const AUTH_NONE: &str = "none";
/// The same of one that waits for `auth`, and for nothing else before.
pub const AUTH_REQUIRED: &str = "required";
/// The same of one that was shown a good token with the handshake.
pub const AUTH_ACCEPTED: &str = "accepted";
/// What a token begins with among the subprotocols that a client offers. It is never answered.
pub const SUBPROTOCOL_BEARER: &str = "tickgate.bearer.";

/// What the gateway says beside data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Control {
    /// First message of a session.
    Hello {
        protocol: u32,
        session: String,
        #[serde(with = "text")]
        now_ns: i64,
        heartbeat_ms: u64,
        auth: String,
        limits: Limits,
    },
    /// Answer to `auth`, `set`, `subscribe` and `unsubscribe`.
    Ack {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        ok: bool,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        results: Vec<AckResult>,
        /// What the session may do from now on; in the answer to an `auth` that was taken.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limits: Option<Limits>,
    },
    /// A request, or with `fatal` the session, failed.
    Error {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        code: Code,
        number: u16,
        message: String,
        fatal: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cursor: Option<String>,
    },
    /// Sign of life, in order with the data.
    Heartbeat {
        #[serde(with = "text")]
        now_ns: i64,
        cursor: String,
        queued_bytes: u64,
        delay_ms: u64,
        feeds: Vec<FeedStatus>,
    },
    /// The client reads too slowly: at the bound, `action` follows.
    Slow { delay_ms: u64, queued_bytes: u64, limit_bytes: u64, action: crate::OnSlow },
    /// The replay of a subscription has caught up.
    ReplayDone {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        channel: crate::Channel,
        symbol: String,
        seq: Option<Position>,
    },
    /// The session will be closed: come back, to any gateway.
    Goaway { reason: String, close_in_ms: u64, cursor: String },
    /// Answer to `ping`.
    Pong {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        #[serde(with = "text")]
        now_ns: i64,
    },
    /// Answer to `list`.
    List {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        subscriptions: Vec<ListEntry>,
    },
}

impl Control {
    /// A request was done.
    pub fn ack(id: Option<Id>, ok: bool, results: Vec<AckResult>) -> Self {
        Self::Ack { id, ok, results, limits: None }
    }

    /// The message as JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("control messages hold nothing that JSON cannot")
    }

    /// An error message for `code`.
    pub fn error(id: Option<Id>, code: Code, message: impl Into<String>, fatal: bool) -> Self {
        Self::Error {
            id,
            code,
            number: code.number(),
            message: message.into(),
            fatal,
            retry_after_ms: None,
            cursor: None,
        }
    }
}

/// What a session may do, told in `hello`, and in the `ack` of `auth` where what was shown says more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Limits {
    pub subscriptions: u64,
    pub requests_per_s: u64,
    pub message_bytes: u64,
    /// How far back a subscription can resume; absent while this gateway does not replay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_s: Option<u64>,
    /// Pings and pongs that are taken within ten seconds; absent when any number is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pings_per_10_s: Option<u64>,
    /// After how long without a byte from the client the session ends; absent when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silence_ms: Option<u64>,
    /// Updates that it gets a second; absent when there is no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updates_per_s: Option<u64>,
    /// Connections at once of all with the same subject; absent when there is no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
}

/// What became of one (channel, symbol or pattern) of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct AckResult {
    pub channel: String,
    pub symbol: String,
    pub ok: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instrument: Option<u32>,
    /// `false` for a symbol of which no record was read yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<bool>,
    /// `building` for a book of which no snapshot record was read yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// How many seconds late all of it comes, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delayed_s: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl AckResult {
    /// A success without further news.
    pub fn ok(channel: &str, symbol: &str) -> Self {
        Self {
            channel: channel.to_owned(),
            symbol: symbol.to_owned(),
            ok: true,
            instrument: None,
            seen: None,
            state: None,
            delayed_s: None,
            code: None,
            message: None,
        }
    }

    /// A refusal.
    pub fn refused(channel: &str, symbol: &str, code: Code, message: impl Into<String>) -> Self {
        Self { ok: false, code: Some(code), message: Some(message.into()), ..Self::ok(channel, symbol) }
    }
}

/// An [`AckResult`] that owns nothing, for [`write_ack`].
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct Verdict<'a> {
    pub channel: &'a str,
    pub symbol: &'a str,
    pub instrument: Option<u32>,
    pub seen: Option<bool>,
    pub state: Option<&'a str>,
    pub delayed_s: Option<u64>,
    /// Why it was refused, if it was.
    pub fault: Option<(Code, &'a str)>,
}

/// One subscription held, as `list` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ListEntry {
    pub channel: crate::Channel,
    pub symbol: String,
    pub on_slow: crate::OnSlow,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub conflate_ms: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<u8>,
}

fn is_zero(value: &u16) -> bool {
    *value == 0
}

/// Whether a feed brings records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedState {
    /// Records come.
    Live,
    /// No record for longer than the feed's configured silence, no topic, or what was there at the start is not read yet.
    Stale,
    /// The broker cannot be reached.
    Down,
}

impl FeedState {
    /// The name on the wire and as a metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Stale => "stale",
            Self::Down => "down",
        }
    }
}

/// A feed in a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct FeedStatus {
    pub name: String,
    pub state: FeedState,
    /// Venue clock of the newest event.
    #[serde(with = "text_option", default, skip_serializing_if = "Option::is_none")]
    pub event_ns: Option<i64>,
    pub lag_records: u64,
}

mod text {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::borrow::Cow;

    pub(super) fn serialize<S: Serializer>(ns: &i64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(ns)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

mod text_option {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::borrow::Cow;

    pub(super) fn serialize<S: Serializer>(ns: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
        match ns {
            Some(ns) => serializer.collect_str(ns),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
        let text = Option::<Cow<'de, str>>::deserialize(deserializer)?;
        text.map(|t| t.parse().map_err(serde::de::Error::custom)).transpose()
    }
}

/// Appends the answer to a subscribe without building a [`Control`]: it is as long as the request, and when many clients
/// return at once it is most of what they cost. It is `ok` when every verdict is.
pub fn write_ack<'a>(
    out: &mut Vec<u8>,
    id: Option<&Id>,
    verdicts: impl Iterator<Item = Verdict<'a>> + Clone,
) {
    let mut number = itoa::Buffer::new();
    out.extend_from_slice(b"{\"op\":\"ack\",");
    match id {
        Some(Id::Number(id)) => {
            out.extend_from_slice(b"\"id\":");
            out.extend_from_slice(number.format(*id).as_bytes());
            out.push(b',');
        }
        Some(Id::Text(id)) => {
            out.extend_from_slice(b"\"id\":");
            write_string(out, id);
            out.push(b',');
        }
        None => {}
    }
    out.extend_from_slice(b"\"ok\":");
    write_bool(out, verdicts.clone().all(|verdict| verdict.fault.is_none()));
    let mut is_empty = true;
    for verdict in verdicts {
        out.extend_from_slice(if is_empty { b",\"results\":[" } else { b"," });
        out.extend_from_slice(b"{\"channel\":");
        write_string(out, verdict.channel);
        out.extend_from_slice(b",\"symbol\":");
        write_string(out, verdict.symbol);
        out.extend_from_slice(b",\"ok\":");
        write_bool(out, verdict.fault.is_none());
        if let Some(instrument) = verdict.instrument {
            out.extend_from_slice(b",\"instrument\":");
            out.extend_from_slice(number.format(instrument).as_bytes());
        }
        if let Some(seen) = verdict.seen {
            out.extend_from_slice(b",\"seen\":");
            write_bool(out, seen);
        }
        if let Some(state) = verdict.state {
            out.extend_from_slice(b",\"state\":");
            write_string(out, state);
        }
        if let Some(delayed_s) = verdict.delayed_s {
            out.extend_from_slice(b",\"delayed_s\":");
            out.extend_from_slice(number.format(delayed_s).as_bytes());
        }
        if let Some((code, message)) = verdict.fault {
            out.extend_from_slice(b",\"code\":");
            write_string(out, code.name());
            out.extend_from_slice(b",\"message\":");
            write_string(out, message);
        }
        out.push(b'}');
        is_empty = false;
    }
    out.extend_from_slice(if is_empty { b"}" } else { b"]}" });
}

fn write_bool(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// Appends a greeting without building a [`Control`]: a storm of reconnects is as many of them as there are clients.
/// `auth` is one of [`AUTH_NONE`], [`AUTH_REQUIRED`] and [`AUTH_ACCEPTED`].
pub fn write_hello(
    out: &mut Vec<u8>,
    session: &str,
    now_ns: i64,
    heartbeat_ms: u64,
    auth: &str,
    limits: &Limits,
) {
    let mut number = itoa::Buffer::new();
    out.extend_from_slice(b"{\"op\":\"hello\",\"protocol\":");
    out.extend_from_slice(number.format(PROTOCOL).as_bytes());
    out.extend_from_slice(b",\"session\":");
    write_string(out, session);
    out.extend_from_slice(b",\"now_ns\":");
    write_number(out, now_ns);
    out.extend_from_slice(b",\"heartbeat_ms\":");
    out.extend_from_slice(number.format(heartbeat_ms).as_bytes());
    out.extend_from_slice(b",\"auth\":");
    write_string(out, auth);
    out.extend_from_slice(b",\"limits\":{\"subscriptions\":");
    out.extend_from_slice(number.format(limits.subscriptions).as_bytes());
    out.extend_from_slice(b",\"requests_per_s\":");
    out.extend_from_slice(number.format(limits.requests_per_s).as_bytes());
    out.extend_from_slice(b",\"message_bytes\":");
    out.extend_from_slice(number.format(limits.message_bytes).as_bytes());
    let Limits { replay_s, pings_per_10_s, silence_ms, updates_per_s, connections, .. } = *limits;
    let optional = [
        ("replay_s", replay_s),
        ("pings_per_10_s", pings_per_10_s),
        ("silence_ms", silence_ms),
        ("updates_per_s", updates_per_s),
        ("connections", connections),
    ];
    for (name, value) in optional {
        let Some(value) = value else { continue };
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        out.extend_from_slice(number.format(value).as_bytes());
    }
    out.extend_from_slice(b"}}");
}

/// Appends a heartbeat without building a [`Control`]: thousands of sessions share `feeds_json` and `cursor`.
pub fn write_heartbeat(
    out: &mut Vec<u8>,
    now_ns: i64,
    cursor: &str,
    queued_bytes: u64,
    delay_ms: u64,
    feeds_json: &str,
) {
    let mut number = itoa::Buffer::new();
    out.extend_from_slice(b"{\"op\":\"heartbeat\",\"now_ns\":\"");
    out.extend_from_slice(number.format(now_ns).as_bytes());
    out.extend_from_slice(b"\",\"cursor\":");
    write_string(out, cursor);
    out.extend_from_slice(b",\"queued_bytes\":");
    out.extend_from_slice(number.format(queued_bytes).as_bytes());
    out.extend_from_slice(b",\"delay_ms\":");
    out.extend_from_slice(number.format(delay_ms).as_bytes());
    out.extend_from_slice(b",\"feeds\":");
    out.extend_from_slice(feeds_json.as_bytes());
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads_back(control: &Control, golden: &str) {
        assert_eq!(control.to_json(), golden);
        assert_eq!(&serde_json::from_str::<Control>(golden).unwrap(), control);
    }

    #[test]
    fn golden_messages() {
        reads_back(
            &Control::Hello {
                protocol: PROTOCOL,
                session: "s-7f3a".to_owned(),
                now_ns: 5,
                heartbeat_ms: 5000,
                auth: "none".to_owned(),
                limits: Limits {
                    subscriptions: 5000,
                    requests_per_s: 20,
                    message_bytes: 262_144,
                    ..Limits::default()
                },
            },
            r#"{"op":"hello","protocol":1,"session":"s-7f3a","now_ns":"5","heartbeat_ms":5000,"auth":"none","limits":{"subscriptions":5000,"requests_per_s":20,"message_bytes":262144}}"#,
        );
        reads_back(
            &Control::ack(
                Some(Id::Number(2)),
                false,
                vec![
                    AckResult { instrument: Some(42), ..AckResult::ok("trades", "AAPL") },
                    AckResult::refused("trades", "APPL", Code::UnknownSymbol, "not listed"),
                ],
            ),
            r#"{"op":"ack","id":2,"ok":false,"results":[{"channel":"trades","symbol":"AAPL","ok":true,"instrument":42},{"channel":"trades","symbol":"APPL","ok":false,"code":"unknown_symbol","message":"not listed"}]}"#,
        );
        reads_back(
            &Control::Ack {
                id: Some(Id::Number(6)),
                ok: true,
                results: Vec::new(),
                limits: Some(Limits {
                    subscriptions: 3,
                    requests_per_s: 20,
                    message_bytes: 262_144,
                    updates_per_s: Some(100),
                    connections: Some(2),
                    ..Limits::default()
                }),
            },
            r#"{"op":"ack","id":6,"ok":true,"limits":{"subscriptions":3,"requests_per_s":20,"message_bytes":262144,"updates_per_s":100,"connections":2}}"#,
        );
        reads_back(
            &Control::error(Some(Id::Text("a".into())), Code::RateLimited, "slow down", false),
            r#"{"op":"error","id":"a","code":"rate_limited","number":4429,"message":"slow down","fatal":false}"#,
        );
    }

    #[test]
    fn the_fast_answer_is_the_same_message() {
        let results = [
            AckResult { instrument: Some(42), ..AckResult::ok("trades", "A\"\\\u{1}é") },
            AckResult {
                seen: Some(false),
                state: Some("building".to_owned()),
                delayed_s: Some(900),
                ..AckResult::ok("book", "B*")
            },
            AckResult::refused("b\n", "", Code::UnknownChannel, "no \"such\" channel"),
        ];
        for id in [None, Some(Id::Number(-1)), Some(Id::Text("a\"b".to_owned()))] {
            for results in [&results[..], &results[..2], &[]] {
                let verdicts = results.iter().map(|result| Verdict {
                    channel: &result.channel,
                    symbol: &result.symbol,
                    instrument: result.instrument,
                    seen: result.seen,
                    state: result.state.as_deref(),
                    delayed_s: result.delayed_s,
                    fault: result.code.zip(result.message.as_deref()),
                });
                let mut out = Vec::new();
                write_ack(&mut out, id.as_ref(), verdicts);
                let ok = results.iter().all(|result| result.ok);
                let slow = Control::ack(id.clone(), ok, results.to_vec());
                let read: Control = serde_json::from_slice(&out).unwrap();
                assert_eq!(read, slow);
                // A line's end is escaped in one of two ways.
                let json = slow.to_json().replace("\\n", "\\u000a");
                assert_eq!(String::from_utf8(out).unwrap(), json);
            }
        }
    }

    #[test]
    fn the_fast_greeting_is_the_same_message() {
        for replay_s in [None, Some(60)] {
            let (subscriptions, requests_per_s, message_bytes) = (5, 20, 1 << 18);
            let (pings_per_10_s, silence_ms) = (replay_s.map(|s| s + 1), replay_s.map(|s| s + 2));
            let (updates_per_s, connections) = (replay_s.map(|s| s + 3), replay_s.map(|s| s + 4));
            let limits = Limits {
                subscriptions,
                requests_per_s,
                message_bytes,
                replay_s,
                pings_per_10_s,
                silence_ms,
                updates_per_s,
                connections,
            };
            let mut out = Vec::new();
            write_hello(&mut out, "s-0-1f", -9, 5_000, AUTH_NONE, &limits);
            let slow = Control::Hello {
                protocol: PROTOCOL,
                session: "s-0-1f".to_owned(),
                now_ns: -9,
                heartbeat_ms: 5_000,
                auth: "none".to_owned(),
                limits,
            };
            assert_eq!(String::from_utf8(out).unwrap(), slow.to_json());
        }
    }

    #[test]
    fn the_fast_heartbeat_is_the_same_message() {
        let feeds = vec![FeedStatus {
            name: "equities".into(),
            state: FeedState::Live,
            event_ns: Some(7),
            lag_records: 12,
        }];
        let mut out = Vec::new();
        write_heartbeat(&mut out, 9, "AbC", 3, 4, &serde_json::to_string(&feeds).unwrap());
        let slow =
            Control::Heartbeat { now_ns: 9, cursor: "AbC".into(), queued_bytes: 3, delay_ms: 4, feeds };
        assert_eq!(String::from_utf8(out).unwrap(), slow.to_json());
    }
}
