// tidy: allow(length) one table, of no use in halves
//! Every key there is: its path, what it takes, why its default is what it is, and the field behind it.
//!
//! This table is the one source of the annotated `tickgate.example.toml`, of `--print-config`, of `/config`, and of
//! what the loader accepts.

use super::value::{Kind, Unit, Value};
use super::{Compression, Config, FeedConfig};

/// One key of `T`.
#[derive(Debug)]
pub(super) struct Key<T: 'static> {
    /// Its path, sections separated by dots.
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    /// What it does and why the default is what it is.
    pub(super) doc: &'static str,
    pub(super) get: fn(&T) -> Value,
    pub(super) set: fn(&mut T, Value),
}

impl Key<Config> {
    /// The section it stands in; empty for the top.
    pub(super) fn section(&self) -> &'static str {
        self.path.split_once('.').map_or("", |(section, _)| section)
    }

    /// The environment variable that sets it.
    pub(super) fn variable(&self) -> String {
        format!("TICKGATE_{}", self.path.to_uppercase().replace('.', "_"))
    }
}

impl<T> Key<T> {
    /// Its name without the section.
    pub(super) fn name(&self) -> &'static str {
        self.path.split_once('.').map_or(self.path, |(_, name)| name)
    }
}

/// The sections in the order of the file, with what they are about.
pub(super) const SECTIONS: [(&str, &str); 10] = [
    ("tls", "TLS towards clients. Without it, put a proxy that has it in front."),
    ("kafka", "The Kafka side: what is read, and the state that is kept from it."),
    (
        "replay",
        "What clients missed: given from memory, or from Kafka again beside the live feed. And the cursors that say \
         where they stopped.",
    ),
    (
        "auth",
        "Who may connect, and what they may see: shown by a token (JWT) or an API key. docs/authentication.md shows how to \
         set it up.",
    ),
    (
        "delays",
        "Data for those who may not see it fresh: the same symbols on the same protocol, so many seconds late.",
    ),
    ("limits", "What a client may do. `hello` announces these limits."),
    ("outbox", "The queue of each session, and how it is written."),
    ("session", "Sessions in general."),
    ("proxies", "Proxies in front of the gateway, and how they say for whom they connect."),
    ("drain", "How the gateway stops."),
];

macro_rules! number {
    ($path:literal, $unit:expr, $min:expr, $max:expr, $zero:expr, $doc:expr, $($field:ident).+) => {
        Key {
            path: $path,
            kind: Kind::Number { unit: $unit, min: $min, max: $max, zero: $zero },
            doc: $doc,
            get: |config| Value::Number(config.$($field).+ as u64),
            set: |config, value| {
                let Value::Number(number) = value else { unreachable!("the kind of a key is what its setter takes") };
                config.$($field).+ = number.try_into().expect("the bounds of a key fit its field");
            },
        }
    };
}

macro_rules! other {
    ($path:literal, $kind:expr, $variant:ident, $doc:expr, $($field:ident).+) => {
        Key {
            path: $path,
            kind: $kind,
            doc: $doc,
            get: |config| Value::$variant(config.$($field).+.clone()),
            set: |config, value| {
                let Value::$variant(value) = value else { unreachable!("the kind of a key is what its setter takes") };
                config.$($field).+ = value;
            },
        }
    };
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const COUNT_SESSIONS: Unit = Unit::Count("sessions");
const COUNT_CONNECTIONS: Unit = Unit::Count("connections");

/// Every key outside `[[feeds]]`, in the order of the file.
pub(super) static KEYS: &[Key<Config>] = &[
    other!(
        "listen",
        Kind::Address,
        Address,
        "Address that WebSocket clients connect to. Loopback until somebody decides otherwise; 0.0.0.0 or [::] serves \
         every interface; port 0 takes a free one.",
        listen
    ),
    other!(
        "admin",
        Kind::Address,
        Address,
        "Address of metrics, health and introspection. It shows clients and limits, so anything but loopback needs \
         `admin_token` or its file.",
        admin
    ),
    other!(
        "admin_token",
        Kind::Secret(super::check::cursor_key),
        Text,
        "What a request there must bring, as `Authorization: Bearer TOKEN`, of 16 bytes or more; only `/healthz` and `/readyz`, \
         which say nothing else, are for everybody. Prometheus takes it from a file (`credentials_file`). Empty for none.",
        admin_access.token
    ),
    other!(
        "admin_token_file",
        Kind::Text(super::check::path_or_empty),
        Text,
        "File with that token, in place of `admin_token`; white space around it does not count. Empty for none.",
        admin_access.token_file
    ),
    other!(
        "log",
        Kind::Text(super::check::log),
        Text,
        "What is logged: error, warn, info, debug, trace, or levels by module. A reload takes it over, unless the \
         environment says it, and `/log` of the admin listener changes it until then. What librdkafka says of broken \
         connections is said in our own words, once.",
        log
    ),
    other!(
        "otlp_endpoint",
        Kind::Text(super::check::otlp_endpoint),
        Text,
        "Where spans of connects, subscribes and replays go, as http://127.0.0.1:4318/v1/traces: OTLP over HTTP, in \
         its binary encoding, to a collector beside the gateway. Empty for nowhere. What it does not take in time is \
         dropped and counted (tickgate_trace_spans_total): nobody waits for it.",
        otlp_endpoint
    ),
    number!(
        "otlp_sample_percent",
        Unit::Count("percent"),
        1,
        100,
        None,
        "How many of a hundred of those go there, by chance.",
        otlp_sample_percent
    ),
    number!(
        "shards",
        Unit::Count("threads"),
        1,
        super::SHARDS_MAX as u64,
        Some("is one per processor, and no more than 64"),
        "Threads that own sessions and their sockets. More than processors only adds switches.",
        shards
    ),
    other!(
        "page",
        Kind::Flag,
        Flag,
        "Whether browsers that open the address of clients get the live page. It is made of files in the program and shows what \
         any client could see; with `auth` it asks for a token.",
        page
    ),
    other!(
        "tls.certificate_file",
        Kind::Text(super::check::path_or_empty),
        Text,
        "File with the certificate and those that lead to its root, as PEM. With it and its key `listen` speaks TLS 1.2 \
         and 1.3, and nothing else: clients connect to wss://. Empty for no TLS. The file is read again when it changes \
         and on a reload, and nobody is disconnected; what is broken is refused, and the one before stays.",
        tls.certificate_file
    ),
    other!(
        "tls.key_file",
        Kind::Text(super::check::path_or_empty),
        Text,
        "File with the private key of that certificate, as PEM without a passphrase.",
        tls.key_file
    ),
    other!(
        "tls.client_ca_file",
        Kind::Text(super::check::path_or_empty),
        Text,
        "File with certificates, as PEM: clients then have to show one that leads to one of these. Empty asks for none. \
         Lists of revoked certificates are not read: let certificates be short-lived.",
        tls.client_ca_file
    ),
    other!(
        "tls.client_certificates",
        Kind::Text(super::tls::client_certificates),
        Text,
        "Whether a client without a certificate is refused: \"required\", or \"optional\". It says nothing without \
         `client_ca_file`.",
        tls.client_certificates
    ),
    number!(
        "tls.handshake_timeout_ms",
        Unit::Milliseconds,
        100,
        600_000,
        None,
        "Time for a TLS handshake. It frees what a connection holds that opens and says nothing.",
        tls.handshake_timeout_ms
    ),
    number!(
        "tls.watch_ms",
        Unit::Milliseconds,
        50,
        600_000,
        Some("looks only on a reload"),
        "How often the files are looked at. A change counts once two looks in a row have found the same: a certificate \
         and its key are seldom replaced at once.",
        tls.watch_ms
    ),
    other!(
        "kafka.brokers",
        Kind::Text(super::check::brokers),
        Text,
        "Bootstrap brokers, host:port separated by commas. Two or three of a cluster are enough: they name the rest.",
        kafka.brokers
    ),
    number!(
        "kafka.record_bytes_max",
        Unit::Bytes,
        KIB,
        64 * MIB,
        None,
        "Records of more bytes are counted as `oversize` and skipped. 1 MiB is Kafka's own default maximum.",
        kafka.record_bytes_max
    ),
    number!(
        "kafka.symbols_max",
        Unit::Count("symbols"),
        1,
        10_000_000,
        None,
        "Distinct symbols that are tracked; ticks of further ones are counted and dropped. Bounds the state tables: \
         every listed US stock fits the default twice.",
        kafka.symbols_max
    ),
    number!(
        "kafka.book_levels_max",
        Unit::Count("levels"),
        1,
        1_000_000,
        None,
        "Price levels a side that are kept per book; the worst are dropped beyond it. The deepest real book seen has \
         9,352 levels in all.",
        kafka.book_levels_max
    ),
    number!(
        "kafka.book_levels_total_max",
        Unit::Count("levels"),
        1,
        1_000_000_000,
        None,
        "Price levels that are kept over all books; at it no book grows: the worst levels of the one that would are \
         dropped. A million is every one of 20,000 books with 25 a side, or a hundred of the deepest seen.",
        kafka.book_levels_total_max
    ),
    number!(
        "kafka.snapshots_bytes_max",
        Unit::Bytes,
        KIB,
        16 * GIB,
        Some("keeps none"),
        "Encoded snapshots that are kept until what they show changes, so that many who subscribe at once cost one \
         encoding. At it a snapshot is encoded for each.",
        kafka.snapshots_bytes_max
    ),
    number!(
        "kafka.trades_kept",
        Unit::Count("trades"),
        1,
        1_000,
        Some("keeps none"),
        "Last trades kept per symbol for a subscription with `snapshot:N`. Ten fill a ticker; each costs memory for \
         every symbol.",
        kafka.trades_kept
    ),
    number!(
        "kafka.warm_up_records",
        Unit::Count("records"),
        1,
        1_000_000_000,
        Some("reads nothing back"),
        "How far to read back at start, in records per partition, so that snapshots exist at once. More than there \
         are reads all, as a compacted topic wants. Off by default: the first ticks come without waiting.",
        kafka.warm_up_records
    ),
    number!(
        "kafka.warm_up_s",
        Unit::Seconds,
        1,
        604_800,
        Some("reads nothing back"),
        "How far to read back at start, in seconds of Kafka time; where both are set, the further counts.",
        kafka.warm_up_s
    ),
    number!(
        "kafka.refresh_ms",
        Unit::Milliseconds,
        100,
        600_000,
        None,
        "How often partitions, topic ids and watermarks are looked up. It bounds how long an added partition or a \
         re-created topic goes unnoticed; one look-up is one small request.",
        kafka.refresh_ms
    ),
    number!(
        "kafka.statistics_ms",
        Unit::Milliseconds,
        1_000,
        60_000,
        Some("never does"),
        "How often librdkafka says how it and its brokers are, for `tickgate_kafka_*` among the metrics; to be set when brokers are \
         looked at. Off by default: it writes some 0.8 KB a partition and 2 KB a broker each time.",
        kafka.statistics_ms
    ),
    other!(
        "kafka.dead_letter_topic",
        Kind::Text(super::check::topic_or_empty),
        Text,
        "Topic that unreadable records are copied to, with the reason in a header; empty for none. Off by default, as \
         it makes the gateway a producer.",
        kafka.dead_letter_topic
    ),
    other!(
        "kafka.properties",
        Kind::Properties,
        Properties,
        "librdkafka properties that override the gateway's own, but for what bounds the memory of replays' consumers. \
         Values whose name speaks of a password, secret, token, key or credential are masked wherever the configuration \
         is shown.",
        kafka.properties
    ),
    number!(
        "replay.memory_bytes_max",
        Unit::Bytes,
        64 * KIB,
        256 * GIB,
        Some("keeps none"),
        "The last records of all partitions, kept so that who comes back after a short while gets what was missed \
         without Kafka being read again. 64 MiB is some 250,000 ticks of ordinary size.",
        replay.memory_bytes_max
    ),
    number!(
        "replay.memory_s",
        Unit::Seconds,
        1,
        86_400,
        None,
        "How long a record is kept there. A reconnect takes seconds and a restart minutes: who stayed away for longer \
         can wait for Kafka.",
        replay.memory_s
    ),
    number!(
        "replay.window_s",
        Unit::Seconds,
        1,
        315_360_000,
        Some("is as far back as Kafka's retention reaches"),
        "How far back `from.time_ns` may reach; `hello` announces it. Cursors and positions go back as far as Kafka \
         has it.",
        replay.window_s
    ),
    number!(
        "replay.consumers_max",
        Unit::Count("consumers"),
        1,
        64,
        Some("reads nothing again: what is no longer in memory counts as gone"),
        "Kafka consumers, each with a thread, that read again what is no longer in memory. With two, one long replay \
         does not hold up all others, and the live feed does not notice either of them.",
        replay.consumers_max
    ),
    number!(
        "replay.queue_max",
        Unit::Count("replays"),
        1,
        1_000_000,
        None,
        "Replays that wait for a consumer; a further one is told to come again later. As many as \
         `limits.sessions_max`, since after a failure everybody comes back at once.",
        replay.queue_max
    ),
    number!(
        "replay.records_per_s",
        Unit::Count("records"),
        1_000,
        100_000_000,
        None,
        "Records that each consumer reads in a second, wanted or not: what replays may take of the processors, of the \
         network and of the brokers. The default reads an hour of 1,000 ticks a second in 36 seconds.",
        replay.records_per_s
    ),
    number!(
        "replay.per_session_max",
        Unit::Count("replays"),
        1,
        1_000,
        None,
        "Replays of one session at once. All that a request resumes is one replay, so few are many.",
        replay.per_session_max
    ),
    other!(
        "replay.cursor_key",
        Kind::Secret(super::check::cursor_key),
        Text,
        "Secret that cursors are signed with, of 16 bytes or more: every gateway of a cluster needs the same. Without \
         one, cursors are checked for damage but not for forgery. Who forges one gets no data that a subscription \
         would not give, but makes Kafka be read from wherever it says. A reload takes it over. Going from no secret to \
         one refuses the cursors given out before: nothing can vouch for them, and their clients begin anew.",
        replay.cursor_key
    ),
    other!(
        "replay.cursor_key_file",
        Kind::Text(super::check::path_or_empty),
        Text,
        "File with that secret, in place of `cursor_key`; white space around it does not count. Empty for none.",
        replay.cursor_key_file
    ),
    other!(
        "replay.cursor_key_also",
        Kind::Secret(super::check::cursor_key),
        Text,
        "Another secret by which cursors are accepted, though none is signed with it; empty for none. It needs \
         `cursor_key` or its file beside it. To change the \
         secret of a cluster: add the new one here on every gateway, then swap the two on every gateway, and take the \
         old one out when no client holds a cursor of it any more. After each step a reload is enough.",
        replay.cursor_key_also
    ),
    other!(
        "replay.cursor_key_also_file",
        Kind::Text(super::check::path_or_empty),
        Text,
        "File with that other secret, in place of `cursor_key_also`. Empty for none.",
        replay.cursor_key_also_file
    ),
    other!(
        "auth.mode",
        Kind::Text(super::auth::mode),
        Text,
        "`required`: whoever connects must show who it is, and sees what it is entitled to. `off`: everybody sees \
         everything, which is for networks that nobody else reaches.",
        auth.mode
    ),
    other!(
        "auth.issuers",
        Kind::List(super::auth::name),
        List,
        "Whose tokens are taken: their `iss`, written just so. All keys are trusted for each of them.",
        auth.issuers
    ),
    other!(
        "auth.audiences",
        Kind::List(super::auth::name),
        List,
        "Whom a token must be for: its `aud` must name one of these. A token that was meant for another service of \
         the same issuer is not taken.",
        auth.audiences
    ),
    other!(
        "auth.algorithms",
        Kind::List(super::auth::algorithm),
        List,
        "The algorithms that keys may be for, as [\"ES256\", \"EdDSA\"]. Each key is for one of them alone, whatever a token \
         says, so the default is empty: HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and \
         EdDSA. `none` is not among them.",
        auth.algorithms
    ),
    other!(
        "auth.key_files",
        Kind::List(super::auth::key_file),
        List,
        "Keys of issuers, as \"ES256:/etc/tickgate/issuer.pem\", or \"ES256#name:…\" for tokens of that `kid`: a PEM of a \
         public key, or for HS256, HS384 and HS512 a secret of 32 bytes or more, white space around it not counted. A \
         reload takes them over; what vouches for tokens in use stays in until those are over.",
        auth.key_files
    ),
    other!(
        "auth.jwks_file",
        Kind::Text(super::check::path_or_empty),
        Text,
        "File with a set of keys (JWKS), of 256 KiB and 64 keys at most. A reload takes it over. Empty for none.",
        auth.jwks_file
    ),
    other!(
        "auth.jwks_url",
        Kind::Text(super::auth::url_or_empty),
        Text,
        "URL of such a set, fetched at start and every `auth.jwks_refresh_s`. While it cannot be reached the last one \
         counts, for a day at most, and nobody who is connected notices. Empty for none.",
        auth.jwks_url
    ),
    number!(
        "auth.jwks_refresh_s",
        Unit::Seconds,
        1,
        86_400,
        None,
        "How often it is fetched. A token of a key that is not known makes it be fetched at once, but at most every 30 \
         seconds. Issuers publish a key long before they use it: five minutes are soon enough.",
        auth.jwks_refresh_s
    ),
    other!(
        "auth.jwks_ca_file",
        Kind::Text(super::check::path_or_empty),
        Text,
        "File with the certificates (PEM) that vouch for its server. Empty for those that the system trusts.",
        auth.jwks_ca_file
    ),
    other!(
        "auth.jwks_insecure",
        Kind::Flag,
        Flag,
        "Whether the URL may be plain http to another machine. Whoever stands in between could then give keys of their \
         own, so no.",
        auth.jwks_insecure
    ),
    other!(
        "auth.claim",
        Kind::Text(super::auth::name),
        Text,
        "The claim of a token that holds the rights. Issuers that demand names of one's own write it as a URL.",
        auth.claim
    ),
    number!(
        "auth.leeway_s",
        Unit::Seconds,
        1,
        300,
        Some("allows none"),
        "By how much the clocks of the issuer and the gateway may differ. Five seconds are much for clocks that are kept \
         in step.",
        auth.leeway_s
    ),
    other!(
        "auth.api_keys_file",
        Kind::Text(super::check::path_or_empty),
        Text,
        "File with API keys and their rights, of which it holds only the SHA-256. A reload takes it over, and ends the \
         sessions of keys that are gone or have other rights now. Empty for none.",
        auth.api_keys_file
    ),
    other!(
        "auth.revoked_file",
        Kind::Text(super::check::path_or_empty),
        Text,
        "File with tokens (`jti:…`) and subjects (`sub:…`) that are no longer welcome, a line each, 100,000 at most. It \
         may come later; when it goes, the last list counts. Empty for none.",
        auth.revoked_file
    ),
    number!(
        "auth.revoked_refresh_ms",
        Unit::Milliseconds,
        50,
        60_000,
        None,
        "How often it is looked at. With a second for the shards to act on it, who is revoked is gone within three \
         seconds.",
        auth.revoked_refresh_ms
    ),
    other!(
        "auth.revocation_topic",
        Kind::Text(super::check::topic_or_empty),
        Text,
        "Topic with the same, beside the file or instead of it: compacted, of `kafka.brokers`, and best of one partition. \
         A key is `jti:…` or `sub:…`; a value revokes it, `{}` or `{\"exp\":…}` with the second of its token's end; no value \
         takes that back. 100,000 at most. Empty for none.",
        auth.revocation_topic
    ),
    other!(
        "auth.revocation_fail_open",
        Kind::Flag,
        Flag,
        "Whether clients are let in before that topic was read to its end once. Who is revoked would be let in as well for \
         that time, so no: until then the gateway is not ready, and answers 503. Later a broker that is away keeps \
         nobody out: what was read last counts.",
        auth.revocation_fail_open
    ),
    number!(
        "auth.timeout_ms",
        Unit::Milliseconds,
        100,
        600_000,
        None,
        "Time for a client to show who it is, from its connection on. Who has to fetch a token first does so before it \
         connects.",
        auth.timeout_ms
    ),
    number!(
        "auth.pending_max",
        Unit::Count("connections"),
        1,
        1_000_000,
        None,
        "Connections that have not shown who they are; at it the oldest is closed for the next. Honest ones take \
         milliseconds, so whoever is the oldest most likely never will.",
        auth.pending_max
    ),
    number!(
        "auth.warn_s",
        Unit::Seconds,
        1,
        86_400,
        Some("warns nobody"),
        "How long before the end of its token a session is told, so that it can send another.",
        auth.warn_s
    ),
    other!(
        "auth.audit_file",
        Kind::Text(super::check::path_or_empty),
        Text,
        "File to which the audit log is written, a line of JSON each, made anew when it was moved away. Empty for the \
         log, where its lines have the target `audit`.",
        auth.audit_file
    ),
    other!(
        "delays.delayed_s",
        Kind::Numbers {
            unit: Unit::Seconds,
            min: 1,
            max: super::delays::DELAY_S_MAX,
            most: super::delays::DELAYS_MAX
        },
        Numbers,
        "The delays that sessions may have. Each is a reading of Kafka of its own, so many seconds late, shared by all \
         sessions of that delay, with symbols, snapshots and memory for replays of its own: the memory ceiling grows \
         by nearly all of the live feed's share with each. Kafka must keep records for longer than that.",
        delays.delayed_s
    ),
    number!(
        "delays.default_s",
        Unit::Seconds,
        1,
        super::delays::DELAY_S_MAX,
        Some("is none: they are live"),
        "Delay of sessions of which nothing else is known. A session gets the shortest of `delays.delayed_s` that is as \
         long.",
        delays.default_s
    ),
    number!(
        "delays.partitions_max",
        Unit::Count("partitions"),
        1,
        100_000,
        None,
        "Partitions of all topics that each delay reads; one more is not read late, and the gateway not ready. Each \
         may hold some hundred KiB that are not due, so this bounds memory.",
        delays.partitions_max
    ),
    number!(
        "limits.sessions_max",
        COUNT_SESSIONS,
        1,
        1_000_000,
        None,
        "Sessions in all; further connections are refused with 503. The memory ceiling grows with it. The limit of open \
         files is raised to fit it; where the system forbids that, there are fewer.",
        limits.sessions_max
    ),
    number!(
        "limits.subscriptions_max",
        Unit::Count("subscriptions"),
        1,
        1_000_000,
        None,
        "Subscriptions (symbols and patterns) per session. A screen shows hundreds, a strategy follows thousands, and \
         everything is one pattern.",
        limits.subscriptions_max
    ),
    number!(
        "limits.subscriptions_total_max",
        Unit::Count("subscriptions"),
        1,
        100_000_000,
        None,
        "Subscriptions over all sessions; further ones are refused with `subscription_limit`. Fifty for each of 10,000 \
         sessions: screens hold more, but whoever wants everything holds one pattern.",
        limits.subscriptions_total_max
    ),
    number!(
        "limits.streams_max",
        Unit::Count("streams"),
        1,
        100_000_000,
        None,
        "Streams that somebody listens to: a symbol's channel in one depth and one interval of conflation. A \
         subscription that needs more is refused with `subscription_limit`. One pattern needs a stream of every \
         symbol: three kinds of patterns over 20,000 symbols fit the default.",
        limits.streams_max
    ),
    number!(
        "limits.requests_per_s",
        Unit::Count("requests"),
        1,
        1_000_000,
        None,
        "Requests per second and session, with a burst of as many. One request carries many symbols: twenty serve any \
         person, and a loop gone wild is stopped.",
        limits.requests_per_s
    ),
    number!(
        "limits.message_bytes_max",
        Unit::Bytes,
        KIB,
        16 * MIB,
        None,
        "Bytes of one message from a client; over it the connection closes with 1009. 256 KiB holds a subscribe of \
         5,000 symbols of ordinary length.",
        limits.message_bytes_max
    ),
    number!(
        "limits.message_timeout_ms",
        Unit::Milliseconds,
        100,
        600_000,
        None,
        "Time for a message that a client has begun; over it the connection closes with 1008. Ten seconds bring the \
         largest over 30 kB/s, and free what somebody holds who never comes to the end.",
        limits.message_timeout_ms
    ),
    number!(
        "limits.pings_per_10_s",
        Unit::Count("frames"),
        4,
        1_000_000,
        Some("allows any number"),
        "WebSocket pings and pongs of a client within ten seconds; over it the connection closes with 1008. Libraries \
         ping every 20 s, the most anxious every second; two a second are never too many.",
        limits.pings_per_10_s
    ),
    number!(
        "limits.reading_bytes_total_max",
        Unit::Bytes,
        64 * KIB,
        16 * GIB,
        None,
        "Requests that are half read or wait for their answer, over all sessions, and what replays under way know of where \
         they stand; a session that would go over it closes with 1013. Requests come whole and are answered at once: \
         only a flood gets there. A replay takes 1 KiB, and 100 bytes for each partition and each symbol that it \
         met; one of the past alone up to 256 KiB, or 4 KiB for each partition, and it begins only while half of the \
         bound is free.",
        limits.reading_bytes_total_max
    ),
    number!(
        "limits.connections_per_address_max",
        COUNT_CONNECTIONS,
        1,
        1_000_000,
        Some("allows any number"),
        "Connections at once from one address, or one /64 of IPv6, sessions included; further ones get 429. An office \
         behind one address has hundreds of screens; a tenth of `sessions_max` is not one client's. Behind a proxy everybody \
         has the proxy's address, unless `[proxies]` says how to tell them apart.",
        limits.connections_per_address_max
    ),
    number!(
        "limits.connections_per_address_per_s",
        COUNT_CONNECTIONS,
        1,
        1_000_000,
        Some("allows any number"),
        "New connections a second from one address, with a burst of as many; further ones get 429 and the time to wait, \
         and a flood no answer at all. An office comes back within seconds after a restart.",
        limits.connections_per_address_per_s
    ),
    number!(
        "limits.connections_per_s",
        COUNT_CONNECTIONS,
        1,
        1_000_000,
        Some("allows any number"),
        "New connections a second from everywhere, with a burst of as many; further ones likewise. Ten thousand clients of a \
         gateway that failed are back in five seconds, and those who are here do not notice.",
        limits.connections_per_s
    ),
    other!(
        "limits.addresses_exempt",
        Kind::List(super::check::network),
        List,
        "Networks to which the three limits before do not apply: this machine, and say the office. An IPv6 address needs \
         its own entry.",
        limits.addresses_exempt
    ),
    number!(
        "limits.handshakes_max",
        COUNT_CONNECTIONS,
        1,
        1_000_000,
        None,
        "Connections at once that have not finished their handshake; one more takes the place of the oldest, once that has \
         had a tenth of a second, so that slow ones lock nobody out. A handshake takes a round trip or two, and less than a millisecond here.",
        limits.handshakes_max
    ),
    number!(
        "limits.head_bytes_max",
        Unit::Bytes,
        8 * KIB,
        MIB,
        None,
        "Bytes of the HTTP request head; over it the answer is 431. Enough for a token of 4 KiB and as much again; a site \
         whose cookies are larger needs more.",
        limits.head_bytes_max
    ),
    number!(
        "limits.head_timeout_ms",
        Unit::Milliseconds,
        100,
        600_000,
        None,
        "Time for the HTTP request head. It frees what a connection holds that opens and says nothing.",
        limits.head_timeout_ms
    ),
    number!(
        "limits.unseen_symbols_max",
        Unit::Count("symbols"),
        1,
        10_000_000,
        Some("allows none"),
        "Symbols subscribed to, by all sessions, that no record has named yet. A client may wait for a symbol, but \
         not fill the tables with invented ones.",
        limits.unseen_symbols_max
    ),
    number!(
        "limits.patterns_max",
        Unit::Count("patterns"),
        1,
        1_000_000,
        None,
        "Different patterns, each with its options, subscribed to by all sessions; a further one is refused with \
         `subscription_limit`. People use the same few: this many are programs that each made their own.",
        limits.patterns_max
    ),
    number!(
        "outbox.bytes_max",
        Unit::Bytes,
        16 * KIB,
        GIB,
        None,
        "Bytes queued before `on_slow` acts; events shared with other sessions count at full size. 1 MiB is some \
         6,000 ticks: a hiccup of a good client passes, a slow one is found within seconds.",
        outbox.bytes_max
    ),
    number!(
        "outbox.total_bytes_max",
        Unit::Bytes,
        64 * KIB,
        256 * GIB,
        None,
        "What slow sessions hold together, events shared between them counted for each: over it the largest end with \
         `slow_consumer` until a quarter is free. 256 queues at their own bound fit the default; a client that keeps \
         up holds nothing.",
        outbox.total_bytes_max
    ),
    number!(
        "outbox.age_max_ms",
        Unit::Milliseconds,
        100,
        600_000,
        None,
        "Age of the oldest queued event before `on_slow` acts, counted while the socket refuses bytes. A price of \
         five seconds ago misleads more than a gap that says so.",
        outbox.age_max_ms
    ),
    number!(
        "outbox.entries_max",
        Unit::Count("events"),
        16,
        16_777_216,
        None,
        "Events queued before `on_slow` acts: an entry costs memory however small its event is. Above what 1 MiB of \
         ordinary ticks needs.",
        outbox.entries_max
    ),
    number!(
        "outbox.write_bytes_max",
        Unit::Bytes,
        KIB,
        16 * MIB,
        None,
        "Most bytes handed to the kernel in one write: what it has taken can no longer be conflated. 64 KiB is \
         some 400 ticks: far more than one pass gives a client that keeps up.",
        outbox.write_bytes_max
    ),
    number!(
        "outbox.frame_bytes_max",
        Unit::Bytes,
        KIB,
        16 * MIB,
        None,
        "A data frame holds at most this many bytes unless one record needs more. Client libraries refuse frames over \
         1 MiB.",
        outbox.frame_bytes_max
    ),
    number!(
        "outbox.notsent_lowat_bytes",
        Unit::Bytes,
        KIB,
        16 * MIB,
        None,
        "Unsent bytes that the kernel holds before the socket counts as full (TCP_NOTSENT_LOWAT): stale data waits \
         where it can still be conflated.",
        outbox.notsent_lowat_bytes
    ),
    number!(
        "outbox.send_buffer_bytes",
        Unit::Bytes,
        4 * KIB,
        64 * MIB,
        Some("leaves it to the kernel"),
        "The kernel's send buffer (SO_SNDBUF). The kernel's own choice follows the path; set it to bound kernel \
         memory or to test slow clients.",
        outbox.send_buffer_bytes
    ),
    number!(
        "outbox.stall_timeout_ms",
        Unit::Milliseconds,
        1_000,
        3_600_000,
        None,
        "A session whose socket takes nothing for this long ends. A sleeping laptop is gone after a minute; its \
         memory should be too. What a vanished peer has not acknowledged the kernel waits for ten seconds longer.",
        outbox.stall_timeout_ms
    ),
    number!(
        "session.heartbeat_ms",
        Unit::Milliseconds,
        100,
        3_600_000,
        Some("sends none"),
        "Interval of heartbeats unless the client sets another. Five seconds tell a dead line well before the \
         time-outs of proxies.",
        session.heartbeat_ms
    ),
    number!(
        "session.flush_ms",
        Unit::Milliseconds,
        1,
        1_000,
        Some("writes at once"),
        "Flush window unless the client sets another: a session is written to at once, and then not again for this \
         long, rounded up to 1, 2, 5, 10, 20, 50, 100, 250, 500 or 1000. Fewer writes are nearly all that saves \
         processor time; the price is a delay of at most the window.",
        session.flush_ms
    ),
    number!(
        "session.ping_ms",
        Unit::Milliseconds,
        100,
        3_600_000,
        Some("sends none"),
        "Silence of a client after which it is sent a WebSocket ping, and again after as long; every library answers by \
         itself. It is looked at every second or so. What a client that only listens would lose the session for \
         otherwise, and what keeps its way open through proxies and NAT.",
        session.ping_ms
    ),
    number!(
        "session.silence_timeout_ms",
        Unit::Milliseconds,
        100,
        3_600_000,
        Some("waits for ever"),
        "Silence of a client after which its session ends, with 1008 if it still reads: three pings went unanswered, and \
         whoever was there has gone without a word. `hello` announces it. Without `session.ping_ms` it ends everybody \
         who only listens.",
        session.silence_timeout_ms
    ),
    number!(
        "session.inbox_batches",
        Unit::Count("batches"),
        1,
        65_536,
        None,
        "Batches from the feed that a shard may be behind before the feed conflates for it. Enough for a pause of \
         a busy machine, too few to hide that a shard cannot keep up.",
        session.inbox_batches
    ),
    number!(
        "session.inbox_bytes_max",
        Unit::Bytes,
        MIB,
        16 * GIB,
        None,
        "Bytes of events that a shard may be behind before the feed conflates for it, and most bytes of snapshots that \
         answer one request. A hundred thousand ticks of ordinary size.",
        session.inbox_bytes_max
    ),
    Key {
        path: "session.compression",
        kind: Kind::Text(super::check::compression),
        doc: "\"deflate\" compresses data frames for clients that offer permessage-deflate, as browsers do; \"off\" declines. A frame \
              that many get is compressed once for all of them. It costs processor time: it pays where bandwidth is dear \
              and frames hold many ticks. Answers and heartbeats are never compressed.",
        get: |config| Value::Text(config.session.compression.name().to_owned()),
        set: |config, value| {
            let Value::Text(name) = value else { unreachable!("the kind of a key is what its setter takes") };
            config.session.compression =
                Compression::from_name(&name).expect("the check of a key fits its field");
        },
    },
    number!(
        "session.compress_bytes_min",
        Unit::Bytes,
        tickgate_protocol::deflate::BYTES_MIN as u64,
        MIB,
        None,
        "Data frames of fewer bytes are not compressed: one tick alone saves a quarter, five save two thirds.",
        session.compress_bytes_min
    ),
    other!(
        "session.allowed_origins",
        Kind::List(super::check::origin),
        List,
        "Origins of pages that browsers may connect from, as \"https://example.com\"; others get 403, since any page can \
         have a browser connect to anywhere. Empty allows those from the host that is connected to and from the browser's own \
         machine; \"*\" allows every page there is. Programs send no origin and are not asked.",
        session.allowed_origins
    ),
    other!(
        "proxies.protocol",
        Kind::Text(super::check::proxy_protocol),
        Text,
        "How they say for whom they connect: \"none\", \"x-forwarded-for\" (in the head of each request, as HTTP proxies do; the \
         last address that is no trusted one counts), or \"v2\" (the PROXY protocol, version 2, which is then asked of every \
         connection from a trusted network). Limits, logs and `/sessions` then go by the client's address.",
        proxies.protocol
    ),
    other!(
        "proxies.trusted",
        Kind::List(super::check::network),
        List,
        "Networks of the proxies, as \"10.0.0.0/8\". What anybody else says of where it comes from is not looked at: it could \
         be invented.",
        proxies.trusted
    ),
    number!(
        "drain.accept_ms",
        Unit::Milliseconds,
        1,
        600_000,
        Some("refuses at once"),
        "Time after SIGTERM in which clients are served and accepted as before, while `/readyz` already says no: as long \
         as load balancers need to notice, so that whoever is told to leave does not come back here. Ctrl-C skips it.",
        drain.accept_ms
    ),
    number!(
        "drain.spread_ms",
        Unit::Milliseconds,
        1,
        600_000,
        Some("closes all at once"),
        "Time over which sessions are then closed, spread evenly and by chance, so that their reconnects do not arrive as \
         one storm. Who connects meanwhile is refused with 503.",
        drain.spread_ms
    ),
    number!(
        "drain.grace_ms",
        Unit::Milliseconds,
        1,
        600_000,
        Some("cuts at once"),
        "Time after `spread_ms` after which what is left is cut. All three together should stay under the kill time-out of \
         whatever runs the gateway; Docker's is 10 s.",
        drain.grace_ms
    ),
];

/// The keys of one entry of `[[feeds]]`.
pub(super) static FEED_KEYS: &[Key<FeedConfig>] = &[
    other!(
        "topic",
        Kind::Text(super::check::topic),
        Text,
        "The Kafka topic; every partition of it is read. The only key a feed must have.",
        topic
    ),
    other!(
        "name",
        Kind::Text(super::check::feed_name),
        Text,
        "Its name in heartbeats and metrics; the topic's name unless set.",
        name
    ),
    number!(
        "silence_ms",
        Unit::Milliseconds,
        100,
        86_400_000,
        None,
        "Silence after which it counts as `stale`. Ten seconds without any tick is unusual in an open market; a feed \
         that sleeps at night wants more.",
        silence_ms
    ),
    other!(
        "optional",
        Kind::Flag,
        Flag,
        "Whether the gateway is ready without it. A gateway without its feed should get no clients, so no.",
        optional
    ),
    other!(
        "symbols",
        Kind::List(super::check::symbol),
        List,
        "The symbols that may be asked for by name; others are `unknown_symbol`. It counts once every feed has such a \
         list, and a pattern still brings whatever the topic holds. Empty for any.",
        symbols
    ),
    other!(
        "hours",
        Kind::List(super::check::hours),
        List,
        "When something is expected of it, such as `Mon-Fri 09:30-16:00 America/New_York`, for the alerts alone \
         (`tickgate_feed_expected`): outside of it silence is no fault. Empty for always.",
        hours
    ),
    other!(
        "closed_on",
        Kind::List(super::check::day),
        List,
        "Days on which nothing is expected, such as `2026-12-25`.",
        closed_on
    ),
];

/// The key of a path.
pub(super) fn find(path: &str) -> Option<&'static Key<Config>> {
    KEYS.iter().find(|key| key.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Clone>(keys: &'static [Key<T>], default: &T) {
        for key in keys {
            let value = (key.get)(default);
            let mut copy = default.clone();
            (key.set)(&mut copy, value.clone());
            assert_eq!((key.get)(&copy), value, "{}", key.path);
            let Kind::Number { min, max, .. } = key.kind else { continue };
            for bound in [min, max] {
                (key.set)(&mut copy, Value::Number(bound));
                assert_eq!((key.get)(&copy), Value::Number(bound), "{}", key.path);
            }
            let Value::Number(number) = value else { panic!("{} is no number", key.path) };
            assert!(key.kind.bounded(number).is_ok(), "the default of {} is out of its bounds", key.path);
        }
    }

    #[test]
    fn every_key_reaches_its_field_and_defaults_are_in_bounds() {
        check(KEYS, &Config::default());
        check(FEED_KEYS, &FeedConfig::for_topic("ticks"));
    }

    #[test]
    fn paths_and_variables_are_unique_and_have_a_section() {
        let mut variables: Vec<_> = KEYS.iter().map(Key::variable).collect();
        variables.sort();
        variables.dedup();
        assert_eq!(variables.len(), KEYS.len());
        for key in KEYS {
            assert!(
                key.section().is_empty() || SECTIONS.iter().any(|(name, _)| *name == key.section()),
                "{}",
                key.path
            );
        }
    }
}
