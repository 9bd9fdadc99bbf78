//! Everything an operator can set, with its unit, its default and the reason for the default.
//!
//! Loading, in order of rising precedence from TOML, environment and flags, is in [`load`]; the environment is read
//! there and nowhere else. Hot paths read plain fields of these structs. What the configured bounds add up to is in
//! [`ceiling`].

mod admin;
mod auth;
pub mod calendar;
pub mod ceiling;
mod check;
pub mod delays;
mod error;
mod keys;
pub mod load;
mod render;
mod replay;
mod suggest;
mod tls;
mod value;

pub use admin::AdminAccess;
pub use auth::AuthConfig;
pub(crate) use check::log as check_log;
pub use delays::DelaysConfig;
pub use error::{ConfigError, ConfigErrors, Origin};
pub use render::example;
pub use replay::{ReplayConfig, SecretError};
pub use tls::{CLIENT_CERTIFICATES, TlsConfig};

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

/// Most shards: one bit each in the feed's sets of them.
pub const SHARDS_MAX: usize = 64;

/// The whole configuration of a gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Address that WebSocket clients connect to.
    pub listen: SocketAddr,
    /// Address of metrics, health and introspection: loopback, unless `admin_access` has a token.
    pub admin: SocketAddr,
    /// Who may ask there.
    pub admin_access: AdminAccess,
    /// What is logged, as `tracing_subscriber` reads it.
    pub log: String,
    /// Where traces go, as OTLP over HTTP; empty for nowhere.
    pub otlp_endpoint: String,
    /// How many of a hundred connects, subscribes and replays go there.
    pub otlp_sample_percent: u32,
    /// Threads that own sessions; 0 is one per processor.
    pub shards: usize,
    /// Whether browsers get the live page at the address of clients.
    pub page: bool,
    /// The way to clients.
    pub tls: TlsConfig,
    /// The Kafka side.
    pub kafka: KafkaConfig,
    /// The feeds, one per topic.
    pub feeds: Vec<FeedConfig>,
    /// What clients missed.
    pub replay: ReplayConfig,
    /// Who may connect.
    pub auth: AuthConfig,
    /// Data that comes late.
    pub delays: DelaysConfig,
    /// What a client may do.
    pub limits: LimitsConfig,
    /// The queue of each session.
    pub outbox: OutboxConfig,
    /// Sessions in general.
    pub session: SessionConfig,
    /// Proxies in front of the gateway.
    pub proxies: ProxiesConfig,
    /// How the gateway stops.
    pub drain: DrainConfig,
}

/// The Kafka side.
#[derive(Debug, Clone, PartialEq)]
pub struct KafkaConfig {
    /// Bootstrap brokers, `host:port` separated by commas.
    pub brokers: String,
    /// librdkafka properties that override the gateway's own; values of secrets are masked wherever shown.
    pub properties: BTreeMap<String, String>,
    /// Records of more bytes than this are counted as `oversize` and skipped. 1 MiB is Kafka's own default maximum.
    pub record_bytes_max: usize,
    /// Distinct symbols that are tracked; further ones are counted and dropped. Bounds the state tables.
    pub symbols_max: usize,
    /// Price levels a side that are kept per book; the worst are dropped beyond it. The deepest real book seen has
    /// 9,352 levels in all.
    pub book_levels_max: usize,
    /// Price levels that are kept over all books; at it no book grows.
    pub book_levels_total_max: usize,
    /// Bytes of encoded snapshots that are kept until the next update of what they show.
    pub snapshots_bytes_max: usize,
    /// Last trades kept per symbol for `snapshot:N`.
    pub trades_kept: usize,
    /// How far to read back at start, in records per partition, so that snapshots exist at once.
    pub warm_up_records: u64,
    /// How far to read back at start, in seconds of Kafka time; the further of both counts.
    pub warm_up_s: u64,
    /// How often partitions, topic ids and watermarks are looked up, in milliseconds.
    pub refresh_ms: u64,
    /// How often librdkafka says how it is, in milliseconds; 0 for never.
    pub statistics_ms: u64,
    /// Topic that unreadable records are copied to, with the reason in a header; empty for none.
    pub dead_letter_topic: String,
}

/// One topic.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedConfig {
    /// Its name in heartbeats and metrics.
    pub name: String,
    /// Its Kafka topic.
    pub topic: String,
    /// Silence after which it counts as `stale`, in milliseconds.
    pub silence_ms: u64,
    /// Whether the gateway is ready without it.
    pub optional: bool,
    /// The symbols that may be asked for; empty for any.
    pub symbols: Vec<String>,
    /// When something is expected of it, as [`calendar::Calendar`] reads it; empty for always.
    pub hours: Vec<String>,
    /// Days on which nothing is.
    pub closed_on: Vec<String>,
}

/// What a client may do.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitsConfig {
    /// Sessions in all; further connections are refused with 503.
    pub sessions_max: usize,
    /// Subscriptions (symbols and patterns) per session.
    pub subscriptions_max: usize,
    /// Subscriptions over all sessions.
    pub subscriptions_total_max: usize,
    /// Streams that somebody listens to: a symbol's channel in one depth and one interval of conflation.
    pub streams_max: usize,
    /// Requests per second and session, with a burst of as many.
    pub requests_per_s: u32,
    /// Bytes of one message from a client.
    pub message_bytes_max: usize,
    /// Time for a message that was begun, in milliseconds.
    pub message_timeout_ms: u64,
    /// Pings and pongs within ten seconds and session; 0 is any number.
    pub pings_per_10_s: u32,
    /// Bytes of requests that are half read or wait for their answer, over all sessions.
    pub reading_bytes_total_max: usize,
    /// Connections at once from one address, sessions included; 0 is any number.
    pub connections_per_address_max: u32,
    /// New connections per second from one address, with a burst of as many; 0 is any number.
    pub connections_per_address_per_s: u32,
    /// New connections per second in all, with a burst of as many; 0 is any number.
    pub connections_per_s: u32,
    /// Networks to which these three do not apply.
    pub addresses_exempt: Vec<String>,
    /// Connections at once that have not finished their handshake.
    pub handshakes_max: usize,
    /// Bytes of the HTTP request head.
    pub head_bytes_max: usize,
    /// Time for the HTTP request head, in milliseconds.
    pub head_timeout_ms: u64,
    /// Symbols subscribed to, by all sessions, that no record has named yet.
    pub unseen_symbols_max: usize,
    /// Different patterns, each with its options, that are subscribed to by all sessions.
    pub patterns_max: usize,
}

/// The queue of each session.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxConfig {
    /// Bytes queued before `on_slow` acts; shared events count at full size.
    pub bytes_max: usize,
    /// Bytes that slow sessions hold over all sessions, shared events at full size, before the largest ones end.
    pub total_bytes_max: usize,
    /// Age of the oldest queued event before `on_slow` acts, in milliseconds of a socket that refuses bytes.
    pub age_max_ms: u64,
    /// Events queued before `on_slow` acts: an entry costs memory however small its event is.
    pub entries_max: usize,
    /// Most bytes handed to the kernel in one write: what it has taken can no longer be conflated.
    pub write_bytes_max: usize,
    /// A data frame holds at most this many bytes unless one record needs more.
    pub frame_bytes_max: usize,
    /// Unsent bytes that the kernel holds before the socket counts as full (`TCP_NOTSENT_LOWAT`).
    pub notsent_lowat_bytes: u32,
    /// The kernel's send buffer (`SO_SNDBUF`); 0 leaves it to the kernel.
    pub send_buffer_bytes: usize,
    /// A session whose socket takes nothing for this long ends, in milliseconds.
    pub stall_timeout_ms: u64,
}

/// Sessions in general.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionConfig {
    /// Interval of heartbeats unless the client sets another, in milliseconds; 0 is none.
    pub heartbeat_ms: u64,
    /// Flush window unless the client sets another, in milliseconds, rounded up as [`tickgate_protocol::FlushMs`] says;
    /// 0 is none.
    pub flush_ms: u64,
    /// Silence of a client after which it is pinged, in milliseconds; 0 is never.
    pub ping_ms: u64,
    /// Silence of a client after which its session ends, in milliseconds; 0 is never.
    pub silence_timeout_ms: u64,
    /// Batches from the feed that a shard may be behind before the feed conflates for it.
    pub inbox_batches: usize,
    /// Bytes of events that a shard may be behind before the feed conflates for it.
    pub inbox_bytes_max: usize,
    /// What clients that can read it get their data frames compressed with.
    pub compression: Compression,
    /// Bytes from which on a data frame is compressed.
    pub compress_bytes_min: usize,
    /// Origins that browsers may connect from; empty allows every origin.
    pub allowed_origins: Vec<String>,
}

/// What data frames are compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Nothing.
    Off,
    /// permessage-deflate (RFC 7692).
    Deflate,
}

impl Compression {
    /// Every value.
    pub const ALL: [Self; 2] = [Self::Off, Self::Deflate];

    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Deflate => "deflate",
        }
    }

    /// The one of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|compression| compression.name() == name)
    }
}

/// Proxies in front of the gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxiesConfig {
    /// How they say for whom they connect: `none`, `x-forwarded-for` or `v2`.
    pub protocol: String,
    /// Networks of those that are believed.
    pub trusted: Vec<String>,
}

/// How the gateway stops.
#[derive(Debug, Clone, PartialEq)]
pub struct DrainConfig {
    /// Time in which readiness is off and everything else as before, in milliseconds.
    pub accept_ms: u64,
    /// Time over which sessions are closed, spread evenly, in milliseconds.
    pub spread_ms: u64,
    /// Time after which what is left is cut, in milliseconds after `spread_ms`.
    pub grace_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)),
            admin_access: AdminAccess::default(),
            log: "info,librdkafka=off,rdkafka=off".to_owned(),
            otlp_endpoint: String::new(),
            otlp_sample_percent: 100,
            shards: 0,
            page: true,
            tls: TlsConfig::default(),
            kafka: KafkaConfig::default(),
            feeds: vec![FeedConfig::for_topic("ticks")],
            replay: ReplayConfig::default(),
            auth: AuthConfig::default(),
            delays: DelaysConfig::default(),
            limits: LimitsConfig::default(),
            outbox: OutboxConfig::default(),
            session: SessionConfig::default(),
            proxies: ProxiesConfig::default(),
            drain: DrainConfig::default(),
        }
    }
}

impl Config {
    /// Takes the values of these keys over from `other`.
    pub fn take(&mut self, other: &Self, keys: &[&str]) {
        for key in keys::KEYS.iter().filter(|key| keys.contains(&key.path)) {
            (key.set)(self, (key.get)(other));
        }
    }

    /// The paths of the keys that have another value in `other`.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let differs = |key: &&keys::Key<Self>| (key.get)(self) != (key.get)(other);
        let paths = keys::KEYS.iter().filter(differs).map(|key| key.path);
        paths.chain((self.feeds != other.feeds).then_some("feeds")).collect()
    }
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".to_owned(),
            properties: BTreeMap::new(),
            record_bytes_max: 1 << 20,
            symbols_max: 20_000,
            book_levels_max: 20_000,
            book_levels_total_max: 1_000_000,
            snapshots_bytes_max: 32 << 20,
            trades_kept: 10,
            warm_up_records: 0,
            warm_up_s: 0,
            refresh_ms: 2_000,
            statistics_ms: 0,
            dead_letter_topic: String::new(),
        }
    }
}

impl FeedConfig {
    /// The feed of `topic`, named like it, with every default.
    pub fn for_topic(topic: &str) -> Self {
        Self {
            name: topic.to_owned(),
            topic: topic.to_owned(),
            silence_ms: 10_000,
            optional: false,
            symbols: Vec::new(),
            hours: Vec::new(),
            closed_on: Vec::new(),
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            sessions_max: 10_000,
            subscriptions_max: 5_000,
            subscriptions_total_max: 500_000,
            streams_max: 60_000,
            requests_per_s: 20,
            message_bytes_max: 256 << 10,
            message_timeout_ms: 10_000,
            pings_per_10_s: 20,
            reading_bytes_total_max: 64 << 20,
            connections_per_address_max: 1_000,
            connections_per_address_per_s: 100,
            connections_per_s: 2_000,
            addresses_exempt: vec!["127.0.0.0/8".to_owned(), "::1".to_owned()],
            handshakes_max: 1_024,
            head_bytes_max: 8 << 10,
            head_timeout_ms: 5_000,
            unseen_symbols_max: 10_000,
            patterns_max: 10_000,
        }
    }
}

impl Default for OutboxConfig {
    fn default() -> Self {
        Self {
            bytes_max: 1 << 20,
            total_bytes_max: 256 << 20,
            age_max_ms: 5_000,
            entries_max: 8_192,
            write_bytes_max: 64 << 10,
            frame_bytes_max: 256 << 10,
            notsent_lowat_bytes: 16 << 10,
            send_buffer_bytes: 0,
            stall_timeout_ms: 60_000,
        }
    }
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            heartbeat_ms: 5_000,
            flush_ms: 0,
            ping_ms: 20_000,
            silence_timeout_ms: 60_000,
            inbox_batches: 1_024,
            inbox_bytes_max: 32 << 20,
            compression: Compression::Off,
            compress_bytes_min: 256,
            allowed_origins: Vec::new(),
        }
    }
}

impl Default for ProxiesConfig {
    fn default() -> Self {
        Self { protocol: "none".to_owned(), trusted: Vec::new() }
    }
}

impl Default for DrainConfig {
    fn default() -> Self {
        Self { accept_ms: 3_000, spread_ms: 2_000, grace_ms: 3_000 }
    }
}
