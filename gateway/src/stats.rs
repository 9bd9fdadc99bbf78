//! The scoreboard: plain numbers that the hot threads own and copy here a few times a second.
//!
//! Hot paths add to integers of their own; nothing there touches an atomic or a lock per event. The admin thread
//! reads the copies. One writer per entry.

mod access;
mod board;
mod kafka;
mod questions;
mod spread;

pub use access::AccessCounts;
pub use board::{Board, Indispensable};
pub use kafka::{KafkaClient, KafkaStatistic, KafkaStatistics};
pub use questions::{Question, SessionInfo, SessionsRequest, TargetInfo, TargetsRequest, Which};
pub use spread::Spread;

use crate::feed::peaks;
use crate::outbox::DeflateTotals;
use tickgate_protocol::control::FeedStatus;
use tickgate_protocol::cursor::CursorError;
use tickgate_protocol::event::GapCause;
use tickgate_protocol::frame::Violation;
use tickgate_protocol::record::RecordError;

macro_rules! labelled {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $label:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }
        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();
            /// The name as a metric label.
            pub const fn label(self) -> &'static str { match self { $(Self::$variant => $label,)* } }
        }
    };
}
use labelled;

labelled! {
    /// What became of a span that was to go to a collector.
    SpanEnd {
        /// It was taken.
        Exported = "exported",
        /// As many waited as may.
        Dropped = "dropped",
        /// The collector did not take it.
        Failed = "failed",
    }
}

labelled! {
    /// What became of a configuration that was read again.
    Reload {
        /// It is in effect, but for keys that need a restart.
        Ok = "ok",
        /// Something was wrong with it.
        Refused = "refused",
        /// There is no file, and nothing else had changed.
        NoFile = "no_file",
    }
}

labelled! {
    /// What became of certificate files that have changed, or that a reload named.
    TlsReload {
        /// They are in use.
        Ok = "ok",
        /// Something was wrong with them: those before stay.
        Refused = "refused",
    }
}

labelled! {
    /// Why a TLS handshake failed.
    TlsFailure {
        /// It took longer than `tls.handshake_timeout_ms`.
        Timeout = "timeout",
        /// The connection ended before.
        Ended = "ended",
        /// What came was no TLS.
        NotTls = "not_tls",
        /// No version, cipher or protocol is common to both.
        Incompatible = "incompatible",
        /// The client showed no certificate, or none that is accepted.
        Certificate = "certificate",
        /// The client refused, our certificate as a rule.
        Refused = "refused",
        /// The client broke the rules of TLS.
        Protocol = "protocol",
    }
}

labelled! {
    /// Why an offered event was not sent and not conflated.
    DropReason {
        /// `on_slow: skip` at the bound.
        Skipped = "skipped",
        /// The session ended with the event still queued.
        Closed = "closed",
    }
}

labelled! {
    /// Why a tick that could be read was thrown away by the feed.
    DiscardReason {
        /// A change of a book of which no snapshot record was read yet: it builds on nothing.
        Building = "building",
        /// Its partition was read again from further back than needed.
        Repeated = "repeated",
    }
}

labelled! {
    /// Why a session ended.
    CloseReason {
        /// The client said goodbye or hung up.
        Client = "client",
        /// The client broke the WebSocket protocol.
        Protocol = "protocol",
        /// The client sent a message over the limit, or in too many fragments.
        TooBig = "too_big",
        /// The client sent requests faster than allowed, for too long.
        RateLimited = "rate_limited",
        /// `on_slow: disconnect` at the bound.
        SlowConsumer = "slow_consumer",
        /// The socket took nothing for `outbox.stall_timeout_ms`.
        Stalled = "stalled",
        /// `limits.reading_bytes_total_max` is reached.
        ReadingFull = "reading_full",
        /// The client sent more pings and pongs than `limits.pings_per_10_s`.
        Pings = "pings",
        /// The client began a message and did not end it within `limits.message_timeout_ms`.
        Unfinished = "unfinished",
        /// The client was silent for `session.silence_timeout_ms`, pings or not.
        Silent = "silent",
        /// The gateway drains.
        Drain = "drain",
        /// The time of its token, or of its API key, was over.
        TokenExpired = "token_expired",
        /// Its token, its subject or its API key is no longer welcome.
        Revoked = "revoked",
        /// The socket failed.
        Io = "io",
        /// Its turn panicked.
        Panic = "panic",
    }
}

labelled! {
    /// Why a connection was refused before it became a session.
    RefuseReason {
        /// Not a WebSocket upgrade that the gateway serves.
        BadRequest = "bad_request",
        /// The origin is not allowed.
        Origin = "origin",
        /// `limits.sessions_max` is reached.
        SessionsMax = "sessions_max",
        /// The gateway drains.
        Draining = "draining",
        /// `limits.connections_per_address_max` is reached.
        AddressMax = "address_max",
        /// `limits.connections_per_address_per_s` is reached.
        AddressRate = "address_rate",
        /// `limits.connections_per_s` is reached.
        Rate = "rate",
        /// Another connection took the place of its unfinished handshake, as `limits.handshakes_max` was reached.
        Displaced = "displaced",
        /// A trusted proxy did not say for whom it connects.
        ProxyHeader = "proxy_header",
        /// The TLS handshake failed.
        Tls = "tls",
        /// The head did not come in time, or the connection broke.
        Head = "head",
        /// It showed something that is not to be believed, or did something else than showing who it is.
        Unauthenticated = "unauthenticated",
        /// It did not show in time who it is.
        AuthTimeout = "auth_timeout",
        /// It had not shown who it is when `auth.pending_max` was reached, and was the oldest.
        AuthPending = "auth_pending",
        /// It left before it had shown who it is.
        AuthLeft = "auth_left",
        /// Its subject has as many connections as it may.
        SubjectConnections = "subject_connections",
        /// It is entitled to data of a delay that is not served here.
        NoDelay = "no_delay",
        /// Who is revoked is not known yet: `auth.revocation_topic` was not read to its end.
        RevocationsUnread = "revocations_unread",
    }
}

labelled! {
    /// How somebody showed who it is.
    AuthWay {
        /// With a token.
        Token = "token",
        /// With an API key.
        ApiKey = "api_key",
    }
}

labelled! {
    /// Of whom a line of the audit log is.
    AuditOf {
        /// Of somebody who has not shown who it is.
        Strangers = "strangers",
        /// Of somebody who has.
        Known = "known",
    }
}

labelled! {
    /// How a fetch of keys ended.
    KeysFetch {
        /// With keys.
        Ok = "ok",
        /// Without: those before count on.
        Failed = "failed",
    }
}

labelled! {
    /// What a record of `auth.revocation_topic` said.
    RevocationRecord {
        /// Somebody is revoked.
        Revoked = "revoked",
        /// Somebody is so no longer.
        Restored = "restored",
        /// Somebody was, until a time that is over.
        Expired = "expired",
        /// Its key names nobody; or its value is not understood, and then whom the key names is revoked without an end.
        Malformed = "malformed",
        /// There was no room for whom it revokes.
        NoRoom = "no_room",
    }
}

labelled! {
    /// Why somebody was not believed. Whoever it is hears only that.
    AuthFailure {
        /// Nothing was shown.
        Missing = "missing",
        /// It is longer than any token.
        TooLong = "too_long",
        /// It is no token.
        Malformed = "malformed",
        /// It names an algorithm that is not known here.
        Algorithm = "algorithm",
        /// It demands that something is understood that is not.
        Critical = "critical",
        /// It names a key that is not known, or there is none of its algorithm.
        UnknownKey = "unknown_key",
        /// Its signature is not that of its key.
        Signature = "signature",
        /// A claim is missing, or is not of its type.
        Claims = "claims",
        /// Somebody else issued it.
        Issuer = "issuer",
        /// It is for somebody else.
        Audience = "audience",
        /// Its time is over.
        Expired = "expired",
        /// Its time has not come.
        NotYet = "not_yet",
        /// What it grants is missing, or not understood.
        Rights = "rights",
        /// It, or its subject, is on the list of those revoked.
        Revoked = "revoked",
        /// No API key is like that, or its time is over.
        ApiKey = "api_key",
        /// It is another's than the session's.
        OtherSubject = "other_subject",
        /// Its data is of another delay than the session's.
        OtherDelay = "other_delay",
    }
}

labelled! {
    /// What a replay is of.
    ReplayKind {
        /// What a client missed; what is live follows.
        Missed = "missed",
        /// The past alone.
        Past = "past",
    }
}

labelled! {
    /// How a replay ended.
    ReplayEnd {
        /// With all that was asked for.
        Whole = "whole",
        /// With all that is still there, and the client told that there was more.
        Lost = "lost",
        /// Broken off, as Kafka did not answer, and the client told so.
        NoAnswer = "no_answer",
        /// Broken off, as who read it fell, and the client told so.
        Failed = "failed",
        /// Its subscriptions or its session ended before.
        GivenUp = "given_up",
    }
}

labelled! {
    /// Why a subscription is not replayed.
    ReplayRefusal {
        /// Its session has `replay.per_session_max` replays.
        SessionFull = "session_full",
        /// Half of `limits.reading_bytes_total_max` is taken.
        Memory = "memory",
        /// It asks for more than `replay.window_s`.
        Window = "window",
        /// `replay.consumers_max` is 0.
        Off = "off",
    }
}

labelled! {
    /// Why a client could not go on from where it asked to.
    ResumeRefusal {
        /// It is no cursor.
        Malformed = "malformed",
        /// It is longer than any cursor.
        TooLong = "too_long",
        /// Another version of the gateway made it.
        Version = "version",
        /// It was signed with another key, or changed.
        Signature = "signature",
        /// Its topic was made anew, or is not read here.
        Topic = "topic",
        /// Something that is asked for is gone; the rest is given.
        AgedOut = "aged_out",
        /// Something that is asked for could not be had, gone or not; the rest is given.
        NoAnswer = "no_answer",
    }
}

impl From<CursorError> for ResumeRefusal {
    fn from(error: CursorError) -> Self {
        match error {
            CursorError::Malformed => Self::Malformed,
            CursorError::TooLong => Self::TooLong,
            CursorError::OtherVersion(_) => Self::Version,
            CursorError::BadSignature => Self::Signature,
        }
    }
}

labelled! {
    /// Why a part of a replay was put off.
    PartRefusal {
        /// `replay.queue_max` others wait.
        QueueFull = "queue_full",
        /// Kafka does not answer.
        NoAnswer = "no_answer",
    }
}

labelled! {
    /// What became of a part of a replay that a reader took on.
    PartEnd {
        /// There is more.
        More = "more",
        /// It was the last one.
        End = "end",
        /// Kafka did not answer.
        NoAnswer = "no_answer",
        /// The reader fell: what memory does not have is lost.
        Failed = "failed",
    }
}

/// Replays of one shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplayTotals {
    /// Gauge: replays under way, by [`ReplayKind`].
    pub running: [u64; ReplayKind::COUNT],
    /// Replays begun, by [`ReplayKind`].
    pub begun: [u64; ReplayKind::COUNT],
    /// Replays ended, by [`ReplayKind`] and [`ReplayEnd`].
    pub ended: [[u64; ReplayEnd::COUNT]; ReplayKind::COUNT],
    /// Subscriptions that are not replayed, by [`ReplayRefusal`].
    pub refused: [u64; ReplayRefusal::COUNT],
    /// Requests to go on from somewhere that were refused, or granted with a loss, by [`ResumeRefusal`].
    pub resumes_refused: [u64; ResumeRefusal::COUNT],
    /// Parts put off, by [`PartRefusal`].
    pub parts_refused: [u64; PartRefusal::COUNT],
}

/// Those who read Kafka again, together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReaderTotals {
    /// Gauge: parts of replays that wait for a reader.
    pub waiting: u64,
    /// Gauge: parts that are being read.
    pub reading: u64,
    /// Parts taken on, by [`PartEnd`].
    pub parts: [u64; PartEnd::COUNT],
    /// Records read.
    pub records: u64,
    /// Bytes of their values.
    pub record_bytes: u64,
    /// Records that held something for whoever asked.
    pub records_passed: u64,
    /// Events made of those.
    pub events: u64,
    /// Nanoseconds that readers spent on parts, pauses included.
    pub reading_ns: u64,
    /// Nanoseconds that they paused because of `replay.records_per_s`.
    pub pausing_ns: u64,
}

/// Totals of one shard. Counters only grow; gauges say so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardTotals {
    /// Events offered to outboxes.
    pub offered: u64,
    /// Events wholly written to a socket.
    pub sent: u64,
    /// Events replaced by a newer state of their symbol.
    pub conflated: u64,
    /// Events dropped, by [`DropReason`].
    pub dropped: [u64; DropReason::COUNT],
    /// Gauge: events queued or half written.
    pub held: u64,
    /// Gauge: bytes queued over all sessions, shared events at full size.
    pub queued_bytes: u64,
    /// Gauge: bytes that outboxes hold after their flush: queues, entries, and what was begun to be written.
    pub slow_bytes: u64,
    /// Gauge: bytes of requests that are half read or wait for their answer.
    pub reading_bytes: u64,
    /// Gauge: age in milliseconds of the oldest event that a socket refuses.
    pub queue_age_max_ms: u64,
    /// Gauge: open sessions.
    pub sessions: u64,
    /// Gauge: those of them that agreed on compression.
    pub sessions_deflated: u64,
    /// Gauge: bytes queued, over the sessions whose socket refuses some.
    pub queue_bytes: Spread,
    /// Gauge: age in microseconds of the oldest event queued, over the same.
    pub queue_age_us: Spread,
    /// Sessions ever opened.
    pub sessions_opened: u64,
    /// Sessions closed, by [`CloseReason`].
    pub sessions_closed: [u64; CloseReason::COUNT],
    /// Slow sessions ended because all of them together held `outbox.total_bytes_max`.
    pub pressure_closes: u64,
    /// Connections refused, by [`RefuseReason`].
    pub refused: [u64; RefuseReason::COUNT],
    /// TLS handshakes, whole ones and those that resumed a session.
    pub tls_handshakes: [u64; 2],
    /// TLS handshakes that failed, by [`TlsFailure`].
    pub tls_failures: [u64; TlsFailure::COUNT],
    /// Of those who were asked, whoever was believed, by [`AuthWay`].
    pub auth_accepted: [u64; AuthWay::COUNT],
    /// Whoever was not, by [`AuthFailure`].
    pub auth_refused: [u64; AuthFailure::COUNT],
    /// Gauge: connections that have not shown yet who they are.
    pub auth_pending: u64,
    /// Subscriptions refused, or ended by a new token, as their session may not see them.
    pub forbidden: u64,
    /// Events of a pattern that its session may not see, and that were left out.
    pub withheld: u64,
    /// Gauge: subscriptions held.
    pub subscriptions: u64,
    /// Writes to sockets.
    pub writes: u64,
    /// Bytes written to sockets: of those without compression, and with it.
    pub written_bytes: [u64; 2],
    /// Writes that a socket refused or took in part.
    pub write_stalls: u64,
    /// What compression was good for.
    pub deflate: DeflateTotals,
    /// How clients broke the WebSocket protocol, by index into [`Violation::ALL`].
    pub violations: [u64; Violation::ALL.len()],
    /// Requests read.
    pub requests: u64,
    /// Requests answered with an error.
    pub request_errors: u64,
    /// Gaps announced, by [`GapCause`].
    pub gaps: [u64; GapCause::ALL.len()],
    /// Events that gaps of a slow consumer counted.
    pub gap_events: u64,
    /// `slow` notices sent.
    pub slow_notices: u64,
    /// Its replays.
    pub replays: ReplayTotals,
    /// Batches taken from the feed.
    pub batches: u64,
}

/// One partition as the feed sees it.
#[derive(Debug, Clone, Default)]
pub struct PartitionTotals {
    /// Name of the feed.
    pub feed: String,
    /// Kafka partition.
    pub partition: u32,
    /// Gauge: offset of the next record to read.
    pub next_offset: u64,
    /// Gauge: the broker's high watermark, as last heard.
    pub high_watermark: u64,
    /// Gauge: whether it was caught up with the watermark once since it was assigned.
    pub caught_up: bool,
    /// Gauge: Kafka's timestamp of the last record read, in milliseconds since the Unix epoch; 0 before the first.
    pub record_ms: i64,
}

/// Totals of the feed.
#[derive(Debug, Clone, Default)]
pub struct FeedTotals {
    /// Records read.
    pub records: u64,
    /// Bytes of their values.
    pub record_bytes: u64,
    /// Ticks read, by channel number.
    pub ticks: [u64; 4],
    /// Unreadable records or elements, by index into [`RecordError::LABELS`].
    pub bad_records: [u64; RecordError::LABELS.len()],
    /// Ticks of new symbols over `kafka.symbols_max`.
    pub symbols_refused: u64,
    /// Updates that an interval of conflation merged into a later one, once per stream.
    pub conflated: u64,
    /// Ticks thrown away, by [`DiscardReason`].
    pub discarded: [u64; DiscardReason::COUNT],
    /// Records of partitions that are no longer read.
    pub stray_records: u64,
    /// Unreadable records copied to the dead-letter topic.
    pub dead_lettered: u64,
    /// Copies for the dead-letter topic that there was no room for or that it did not take.
    pub dead_letters_lost: u64,
    /// Events given from memory to clients that missed them.
    pub resumed_events: u64,
    /// Events encoded.
    pub encoded: u64,
    /// Bytes of their texts.
    pub encoded_bytes: u64,
    /// Batches that a shard's inbox had no room for.
    pub inbox_full: u64,
    /// Events conflated or announced as a gap because a shard was behind.
    pub overload_events: u64,
    /// Offsets that were gone before they were read.
    pub lost_offsets: u64,
    /// Topics that were re-created.
    pub topics_recreated: u64,
    /// Partitions that are not read, as there are too many.
    pub partitions_refused: u64,
    /// Partitions that were added.
    pub partitions_added: u64,
    /// Times that a broker answered again after none did.
    pub reconnects: u64,
    /// Gauge: the highest rates of the last seconds, by feed and window, in ticks per second.
    pub peaks: Vec<[u64; peaks::WINDOWS_MS.len()]>,
    /// Broker errors that librdkafka reported.
    pub broker_errors: u64,
    /// Ticks whose venue clock was ahead of ours.
    pub clock_ahead: u64,
    /// Book levels beyond `kafka.book_levels_max` or `kafka.book_levels_total_max` that were taken out again.
    pub book_levels_trimmed: u64,
    /// Gauge: levels of all books.
    pub book_levels: u64,
    /// Gauge: known symbols.
    pub symbols: u64,
    /// Gauge: books kept.
    pub books: u64,
    /// The partitions.
    pub partitions: Vec<PartitionTotals>,
    /// The feeds, with their state.
    pub feeds: Vec<FeedStatus>,
    /// Gauge: whether every partition of every feed that is not optional is assigned and caught up.
    pub ready: bool,
    /// Why it is not.
    pub not_ready_because: String,
}
