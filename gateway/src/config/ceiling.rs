//! The memory ceiling: what every configured bound adds up to when all of them are reached at once.
//!
//! Each term is enforced where the thing lives: a sum is kept there and what would take it over its bound is refused,
//! folded or ended. Sizes of structures are those of the real ones; what an allocation or a table costs beside them is
//! rounded up. Events are shared by reference count but counted for each queue that holds them, so that the true sum is
//! lower.
//!
//! Kernel memory (socket buffers, some 5 KB a side and connection when idle) is not the process's and is not here.

use super::{Compression, Config, DelaysConfig, SHARDS_MAX};
use crate::access::rights::{NAME_BYTES_MAX, Rights};
use crate::access::{api_keys, revoked, token, topic};
use crate::admission::{ADDRESS_BYTES, REMEMBERED_MAX};
use crate::event::{Event, Key, Symbol};
use crate::feed::activity::ACTIVITY_BYTES;
use crate::feed::dispatch::FOLDED_BYTES;
use crate::feed::late;
use crate::feed::seen::Seen;
use crate::feed::symbols::{Kept, StreamState, SymbolState};
use crate::latency::{LatencyWindow, StageHistograms};
use crate::listener::PENDING_BYTES;
use crate::logs;
use crate::outbox::{Entry, Outbox, Spares};
use crate::server::REPLAYED_PARTS;
use crate::session::Session;
use crate::session::guest::{Guest, Pass};
use crate::session::subs::SUB_BYTES;
use crate::shard::memory::QUEUED_ENTRIES_MAX;
use crate::shard::replay::PART_BYTES;
use crate::shard::table::{self, LIST_BYTES, ROW_BYTES, Subscriber};
use crate::shard::timers::Due;
use crate::spans::{SPAN_BYTES, SPANS_WAITING_MAX};
use crate::stats::{KafkaClient, KafkaStatistics};
use crate::tls::records::{HELD_BYTES_MAX, OVERHEAD_BYTES};
use crate::tls::socket::READ_BUFFER_BYTES;
use std::sync::Arc;
use tickgate_protocol::deflate::{DEFLATER_BYTES, INFLATER_BYTES};
use tickgate_protocol::record::Level;
use tickgate_protocol::{Depth, SYMBOL_BYTES_MAX};

/// Code, allocator, threads, and librdkafka's and the runtime's own structures.
const BASE_BYTES: u64 = 64 << 20;
/// What an allocation costs beside what it holds.
const ALLOCATION_BYTES: usize = 16;
/// The task of a session, the runtime's handle of its socket, its names.
const TASK_BYTES: usize = 1_536;
/// One timer in its ordered set, at the least filled.
const TIMER_BYTES: usize = 64;
/// A hash table keeps up to as many places free as taken, and a byte of control each.
const TABLE_SLACK: usize = 2;
/// A price level in its map when nodes are least filled: 11 places of 32 bytes, 5 of them taken, and the inner nodes.
const LEVEL_BYTES: u64 = 96;
/// A JSON event of ordinary size.
const TEXT_BYTES: usize = 320;
/// How many times larger than its record the JSON of its events can be.
const EXPANSION: u64 = 4;
/// What decoding a record needs beside it, per byte: the parser's tape, and ticks.
const DECODING: u64 = 16;
/// A TLS connection that is quiet.
const TLS_SESSION_BYTES: u64 = 8 << 10;
/// What the records of one write have beside its bytes, the first of them at least.
const RECORD_OVERHEAD_BYTES: u64 = 4 * OVERHEAD_BYTES as u64;
/// What hyper holds beside the head of a request.
const HANDSHAKE_BYTES: u64 = 8 << 10;
/// Bytes that leave the feed in one batch, over which an inbox may go.
const BATCH_BYTES: u64 = 4 << 20;
/// librdkafka's consumer queue, unless `queued.max.messages.kbytes` is set.
const KAFKA_QUEUE_KBYTES: u64 = 32_768;
/// One fetch response in flight, over which the queue may go, unless `fetch.max.bytes` is set.
const KAFKA_FETCH_BYTES: u64 = 16 << 20;
/// The producer's queue of dead letters.
const DEAD_LETTER_BYTES: u64 = 8 << 20;
/// Texts of librdkafka's statistics of one client: being written, which doubles, waiting, and being read.
const STATISTICS_TEXTS: u64 = 4;
/// What a replay consumer holds beside its largest record: librdkafka's queue and a fetch response, what was taken from
/// it ahead of its turn, what is wanted by name, and the events that go to a shard next.
const REPLAY_CONSUMER_BYTES: u64 = 32 << 20;
/// What the memory for replays has beside its records: chunks that are not full, and its tables of partitions.
const RING_BYTES: u64 = 1 << 20;
/// A place among the replays that wait for a consumer; what they hold counts with the requests.
const REPLAY_PLACE_BYTES: u64 = 2 * size_of::<usize>() as u64;

/// A session with nothing to read or write: its struct in the slab, its task, its timers, and the small queue that it
/// has for some moments after a write.
const SESSION_BYTES: usize = size_of::<Session>()
    + size_of::<Guest>()
    + ALLOCATION_BYTES
    + TASK_BYTES
    + Due::COUNT * TIMER_BYTES
    + Outbox::SMALL_BYTES;
/// What a session knows of who is at its other end, with the most rights that a token can hold: a name of n bytes is n + 3 of
/// its JSON and n + 4 here, and base64 makes three bytes of four, so that names are never more than the token was. Beside that
/// its subject and id, its place among those of its subject, and its timer.
const PASS_BYTES: usize = size_of::<Pass>()
    + size_of::<Rights>()
    + token::TOKEN_BYTES_MAX
    + 2 * NAME_BYTES_MAX
    + TABLE_SLACK * 32
    + TIMER_BYTES
    + 6 * ALLOCATION_BYTES;
/// A list of those revoked: each entry's place in its table and its allocation, and the names, which were in the file. There
/// are two of them while one replaces the other, and the file is read into memory twice over.
const REVOKED_BYTES: u64 = 2
    * (revoked::ENTRIES_MAX * (TABLE_SLACK * (size_of::<Box<str>>() + 1) + 2 * ALLOCATION_BYTES)
        + 2 * revoked::FILE_BYTES_MAX) as u64;
/// An entry of those that a topic revokes, its name and its places. While the topic is read anew there are as many that were
/// read before and as many that are new, both of them in the list that is in effect; and when the next list replaces that, it
/// may still hold names of twice as many that nothing else does any longer.
const REVOCATION_BYTES: usize = 4 * (NAME_BYTES_MAX + 16 + ALLOCATION_BYTES)
    + TABLE_SLACK * (2 * (size_of::<(Arc<str>, Option<i64>)>() + 1) + 4 * (size_of::<Arc<str>>() + 1));
/// What the shortest of a file's symbols, with their quotes and comma of four bytes, are while it is read, for each byte: a
/// value and its text, and a list that grows to twice its length; and what is kept of that.
const API_KEYS_READING: u64 = 32;
/// A subscription in its session and in a list of the shard's table that it has for itself.
const SUBSCRIPTION_BYTES: usize = SUB_BYTES + TABLE_SLACK * size_of::<Subscriber>() + LIST_BYTES;
/// A symbol or prefix that is named, at the feed.
const TARGET_BYTES: usize = 2 * 48 + SYMBOL_BYTES_MAX + ALLOCATION_BYTES;
/// A known symbol without trades: its state, its names, its share of the tables, how many ticks it had.
const SYMBOL_BYTES: usize = size_of::<SymbolState>()
    + size_of::<Symbol>()
    + ACTIVITY_BYTES
    + 4 * (SYMBOL_BYTES_MAX + ALLOCATION_BYTES)
    + TABLE_SLACK * 32
    + 3 * SYMBOL_BYTES_MAX;
/// A trade kept for snapshots, with its texts.
const TRADE_BYTES: usize = size_of::<Kept>() + 3 * (32 + ALLOCATION_BYTES);
/// A stream that somebody listens to, with its place among those due.
const STREAM_BYTES: usize = size_of::<StreamState>() + 2 * size_of::<(u64, Key)>();
/// A symbol that is waited for, in its table.
const UNSEEN_BYTES: usize = TABLE_SLACK * (SYMBOL_BYTES_MAX + ALLOCATION_BYTES + 64);

/// One term of the ceiling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// What it bounds.
    pub name: &'static str,
    /// Its size in bytes.
    pub bytes: u64,
    /// How it comes from the configuration.
    pub formula: String,
}

/// Every term of the memory ceiling.
pub fn memory_ceiling(config: &Config) -> Vec<Term> {
    let Config { kafka, replay, limits, outbox, session, .. } = config;
    let shards = config.shard_count() as u64;
    let sessions = limits.sessions_max as u64;
    let mut terms = Vec::new();
    let mut term = |name, factors: &[u64], formula: String| {
        let bytes = factors.iter().fold(1u64, |product, factor| product.saturating_mul(*factor));
        terms.push(Term { name, bytes, formula });
    };

    term("process", &[BASE_BYTES], "code, threads, runtime, librdkafka itself".to_owned());
    let histograms = 2 * (shards + 1) + LatencyWindow::LENGTH_NS / LatencyWindow::STEP_NS + 5;
    term(
        "latency histograms",
        &[histograms, StageHistograms::memory_bytes() as u64],
        format!("{histograms} sets: two a hot thread, the window, what a scrape adds up"),
    );

    let log = 2 * logs::WAITING_BYTES_MAX as u64;
    if !config.otlp_endpoint.is_empty() {
        term(
            "traces",
            &[SPANS_WAITING_MAX as u64, SPAN_BYTES],
            format!(
                "{SPANS_WAITING_MAX} × {SPAN_BYTES}: spans that wait for the collector, or are being sent"
            ),
        );
    }
    term("log", &[log], "lines that wait to be written, and those being written".to_owned());

    term("sessions", &[sessions, SESSION_BYTES as u64], format!("limits.sessions_max × {SESSION_BYTES}"));
    term(
        "handshakes",
        &[limits.handshakes_max as u64, limits.head_bytes_max.max(8 << 10) as u64 + HANDSHAKE_BYTES],
        format!("limits.handshakes_max × (limits.head_bytes_max + {HANDSHAKE_BYTES})"),
    );
    let addresses = (limits.sessions_max + limits.handshakes_max + REMEMBERED_MAX) as u64;
    term(
        "addresses",
        &[addresses, ADDRESS_BYTES as u64],
        format!("(limits.sessions_max + limits.handshakes_max + {REMEMBERED_MAX}) × {ADDRESS_BYTES}"),
    );
    if config.auth.is_required() {
        term(
            "unauthenticated",
            &[config.auth.pending_max as u64, PENDING_BYTES as u64],
            format!("auth.pending_max × {PENDING_BYTES}: messages that are not whole"),
        );
        term(
            "rights",
            &[sessions, PASS_BYTES as u64],
            format!("limits.sessions_max × {PASS_BYTES}: who it is, and what the longest token can grant"),
        );
        if !config.auth.revoked_file.is_empty() {
            let formula = format!("{} entries and their file, before and after", revoked::ENTRIES_MAX);
            term("revoked", &[REVOKED_BYTES], formula);
        }
        if !config.auth.revocation_topic.is_empty() {
            let formula =
                format!("{} entries × {REVOCATION_BYTES}, and librdkafka's queue", revoked::ENTRIES_MAX);
            let entries = (revoked::ENTRIES_MAX * REVOCATION_BYTES) as u64;
            let bytes = entries + topic::TABLES_BYTES + topic::QUEUE_BYTES;
            term("revocations", &[bytes], formula);
        }
        if !config.auth.api_keys_file.is_empty() {
            term(
                "API keys",
                &[api_keys::FILE_BYTES_MAX as u64, API_KEYS_READING],
                format!(
                    "{} MiB of a file × {API_KEYS_READING}, as it is read",
                    api_keys::FILE_BYTES_MAX >> 20
                ),
            );
        }
        if !config.auth.audit_file.is_empty() {
            term("audit log", &[log], "lines that wait to be written, and those being written".to_owned());
        }
    }
    if config.tls.is_on() {
        // rustls keeps the chain that a client has shown.
        let chain = if config.tls.client_ca_file.is_empty() { 0 } else { HELD_BYTES_MAX as u64 };
        term(
            "TLS",
            &[sessions, TLS_SESSION_BYTES + chain],
            format!(
                "limits.sessions_max × {}: keys, where records stand, and a client's certificates",
                TLS_SESSION_BYTES + chain
            ),
        );
        let shaking = HELD_BYTES_MAX as u64 + TLS_SESSION_BYTES;
        term(
            "TLS handshakes",
            &[limits.handshakes_max as u64, shaking],
            format!("limits.handshakes_max × {shaking}"),
        );
        term(
            "TLS records",
            &[(outbox.total_bytes_max as u64).saturating_add(sessions.saturating_mul(RECORD_OVERHEAD_BYTES))],
            format!("outbox.total_bytes_max + limits.sessions_max × {RECORD_OVERHEAD_BYTES}: half sent"),
        );
    }
    term(
        "subscriptions",
        &[limits.subscriptions_total_max as u64, SUBSCRIPTION_BYTES as u64],
        format!("limits.subscriptions_total_max × {SUBSCRIPTION_BYTES}"),
    );
    let named = (kafka.symbols_max + limits.unseen_symbols_max + limits.patterns_max) as u64;
    term(
        "targets",
        &[named, shards.saturating_mul(table::TARGET_BYTES as u64).saturating_add(TARGET_BYTES as u64)],
        format!(
            "(kafka.symbols_max + limits.unseen_symbols_max + limits.patterns_max) × (shards × {} + {TARGET_BYTES})",
            table::TARGET_BYTES
        ),
    );
    term(
        "requests",
        &[limits.reading_bytes_total_max as u64],
        "limits.reading_bytes_total_max: half read, or waiting for their answer, and replays".to_owned(),
    );

    term(
        "slow sessions",
        &[outbox.total_bytes_max as u64],
        "outbox.total_bytes_max: queued events and entries, and half-written bytes".to_owned(),
    );
    if config.tls.is_on() {
        let largest = EXPANSION.saturating_mul(kafka.record_bytes_max as u64);
        let buffers = (outbox.write_bytes_max as u64 + READ_BUFFER_BYTES as u64).saturating_add(largest);
        term(
            "TLS buffers",
            &[shards, buffers],
            format!(
                "shards × (outbox.write_bytes_max + {EXPANSION} × kafka.record_bytes_max + {READ_BUFFER_BYTES})"
            ),
        );
    }
    let entry = 2 * size_of::<Entry>();
    term(
        "entries of a pass",
        &[shards, QUEUED_ENTRIES_MAX as u64 + sessions, entry as u64],
        format!("shards × ({QUEUED_ENTRIES_MAX} + limits.sessions_max) × {entry}"),
    );
    term(
        "spare queues",
        &[shards, Spares::BYTES_MAX as u64],
        format!("shards × {} MiB", Spares::BYTES_MAX.div_ceil(1 << 20)),
    );
    let largest = EXPANSION.saturating_mul(kafka.record_bytes_max as u64);
    term(
        "write buffers",
        &[shards, (outbox.write_bytes_max as u64).saturating_add(largest)],
        format!("shards × (outbox.write_bytes_max + {EXPANSION} × kafka.record_bytes_max)"),
    );
    if session.compression == Compression::Deflate {
        let states = (DEFLATER_BYTES + INFLATER_BYTES) as u64;
        let frames = (outbox.write_bytes_max as u64).saturating_mul(3).saturating_add(largest);
        term(
            "compression",
            &[shards, states.saturating_add(frames).saturating_add(limits.message_bytes_max as u64)],
            format!(
                "shards × ({} KiB + 3 × outbox.write_bytes_max + {EXPANSION} × kafka.record_bytes_max + \
                 limits.message_bytes_max)",
                states >> 10
            ),
        );
    }
    term(
        "inboxes",
        &[shards, (session.inbox_bytes_max as u64).saturating_add(BATCH_BYTES).saturating_add(largest)],
        format!(
            "shards × (session.inbox_bytes_max + {} MiB + {EXPANSION} × kafka.record_bytes_max)",
            BATCH_BYTES >> 20
        ),
    );
    let folded = FOLDED_BYTES * TABLE_SLACK;
    let event = size_of::<Event>() + ALLOCATION_BYTES + TEXT_BYTES;
    term(
        "backlogs",
        &[limits.streams_max as u64, shards.saturating_mul(folded as u64).saturating_add(event as u64)],
        format!("limits.streams_max × (shards × {folded} + {event})"),
    );

    let symbol = SYMBOL_BYTES + kafka.trades_kept * TRADE_BYTES;
    term(
        "symbols",
        &[kafka.symbols_max as u64, shards.saturating_mul(ROW_BYTES as u64).saturating_add(symbol as u64)],
        format!(
            "kafka.symbols_max × (shards × {ROW_BYTES} + {SYMBOL_BYTES} + kafka.trades_kept × {TRADE_BYTES})"
        ),
    );
    term(
        "unseen symbols",
        &[limits.unseen_symbols_max as u64, UNSEEN_BYTES as u64],
        format!("limits.unseen_symbols_max × {UNSEEN_BYTES}"),
    );
    term(
        "streams",
        &[limits.streams_max as u64, STREAM_BYTES as u64],
        format!("limits.streams_max × {STREAM_BYTES}"),
    );
    term(
        "books",
        &[kafka.book_levels_total_max as u64, LEVEL_BYTES],
        format!("kafka.book_levels_total_max × {LEVEL_BYTES}"),
    );
    term(
        "views of books",
        &[views_bytes(config)],
        "tops of all books in every depth, levels spread evenly".to_owned(),
    );
    term("snapshots", &[kafka.snapshots_bytes_max as u64], "kafka.snapshots_bytes_max".to_owned());

    term(
        "replay memory",
        &[(replay.memory_bytes_max as u64).saturating_add(RING_BYTES)],
        format!("replay.memory_bytes_max + {} MiB: chunks, partitions", RING_BYTES >> 20),
    );
    term(
        "replay consumers",
        &[
            replay.consumers_max as u64,
            REPLAY_CONSUMER_BYTES
                .saturating_add((EXPANSION + DECODING).saturating_mul(kafka.record_bytes_max as u64)),
        ],
        format!(
            "replay.consumers_max × ({} MiB + {} × kafka.record_bytes_max)",
            REPLAY_CONSUMER_BYTES >> 20,
            EXPANSION + DECODING
        ),
    );
    term(
        "replayed parts",
        &[shards, REPLAYED_PARTS as u64, (PART_BYTES as u64).saturating_add(largest)],
        format!(
            "shards × {REPLAYED_PARTS} × ({} KiB + {EXPANSION} × kafka.record_bytes_max)",
            PART_BYTES >> 10
        ),
    );
    term(
        "waiting replays",
        &[replay.queue_max as u64, REPLAY_PLACE_BYTES],
        format!("replay.queue_max × {REPLAY_PLACE_BYTES}: their places in the queue"),
    );

    term(
        "decoding",
        &[kafka.record_bytes_max as u64, DECODING],
        format!("kafka.record_bytes_max × {DECODING}"),
    );
    let queue_kbytes = property(config, "queued.max.messages.kbytes", KAFKA_QUEUE_KBYTES);
    let fetch_bytes = property(config, "fetch.max.bytes", KAFKA_FETCH_BYTES);
    term(
        "Kafka consumer",
        &[queue_kbytes.saturating_mul(2 * 1_024).saturating_add(fetch_bytes)],
        "2 × queued.max.messages.kbytes × 1024 + fetch.max.bytes, of librdkafka".to_owned(),
    );
    if !kafka.dead_letter_topic.is_empty() {
        term("dead letters", &[DEAD_LETTER_BYTES], "what waits for the broker, by librdkafka".to_owned());
    }
    if kafka.statistics_ms > 0 {
        let clients = KafkaClient::COUNT as u64;
        term(
            "Kafka statistics",
            &[clients, STATISTICS_TEXTS, KafkaStatistics::BYTES_MAX as u64],
            format!("{clients} clients × {STATISTICS_TEXTS} × {} MiB", KafkaStatistics::BYTES_MAX >> 20),
        );
    }
    delays(config, &mut terms);
    terms
}

/// What each delay has as the live tier has it; the rest is shared.
const OF_EACH_TIER: [&str; 19] = [
    "targets",
    "requests",
    "slow sessions",
    "entries of a pass",
    "spare queues",
    "write buffers",
    "compression",
    "inboxes",
    "backlogs",
    "symbols",
    "unseen symbols",
    "streams",
    "books",
    "views of books",
    "snapshots",
    "replay memory",
    "replayed parts",
    "decoding",
    "latency histograms",
];

/// What is read late: for each delay all that a tier has, and what is not due.
fn delays(config: &Config, terms: &mut Vec<Term>) {
    let DelaysConfig { delayed_s, partitions_max, .. } = &config.delays;
    let (count, partitions) = (delayed_s.len() as u64, *partitions_max as u64);
    if count == 0 {
        return;
    }
    let each = terms.iter().filter(|term| OF_EACH_TIER.contains(&term.name));
    let each = each.fold(0u64, |sum, term| sum.saturating_add(term.bytes));
    let tiers = count.saturating_mul(each);
    let formula =
        format!("delays × {each}: what the live feed and its sessions have, but for what is shared");
    terms.push(Term { name: "delays", bytes: tiers, formula });
    let held = late::PARTITION_BYTES.saturating_add(config.kafka.record_bytes_max as u64);
    let bytes = count.saturating_mul(partitions).saturating_mul(held);
    let formula = format!(
        "delays × delays.partitions_max × ({} KiB + kafka.record_bytes_max): of each partition",
        late::PARTITION_BYTES >> 10
    );
    terms.push(Term { name: "not due", bytes, formula });
    let of_partition = Seen::partition_bytes(config.delays.longest_ms());
    let bytes = partitions.saturating_mul(of_partition);
    let formula = format!("delays.partitions_max × {of_partition}, for the longest delay");
    terms.push(Term { name: "when records came", bytes, formula });
}

/// What the views of all books hold when clients follow every depth of each. A side of `n` levels has `min(depth, n)`
/// in each view; that is most in all when the levels are spread evenly over as many books as there can be.
fn views_bytes(config: &Config) -> u64 {
    let (symbols, levels) = (config.kafka.symbols_max as u64, config.kafka.book_levels_total_max as u64);
    let a_side = levels.div_ceil(2 * symbols.max(1));
    let seen: u64 = Depth::ALLOWED.iter().map(|depth| u64::from(*depth).min(a_side)).sum();
    let most_books = symbols.min(levels);
    most_books.saturating_mul(2 * seen).saturating_mul(size_of::<Level>() as u64)
}

/// The sum of all terms, in bytes.
pub fn sum(terms: &[Term]) -> u64 {
    terms.iter().fold(0, |sum, term| sum.saturating_add(term.bytes))
}

/// The terms, largest first, and their sum, as lines to print at start.
pub fn table(terms: &[Term]) -> String {
    let mut sorted: Vec<_> = terms.iter().collect();
    sorted.sort_by_key(|term| std::cmp::Reverse(term.bytes));
    let line = |name: &str, bytes: u64, formula: &str| {
        format!("{name:<20} {:>12}  {formula}", mib(bytes)).trim_end().to_owned()
    };
    let mut lines: Vec<String> =
        sorted.iter().map(|term| line(term.name, term.bytes, &term.formula)).collect();
    lines.push(line("memory ceiling", sum(terms), ""));
    lines.join("\n")
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1u32 << 20))
}

/// A whole number among the librdkafka properties.
fn property(config: &Config, name: &str, default: u64) -> u64 {
    config.kafka.properties.get(name).and_then(|value| value.trim().parse().ok()).unwrap_or(default)
}

impl Config {
    /// How many shards there will be: `shards`, or one per processor; at most [`SHARDS_MAX`].
    pub fn shard_count(&self) -> usize {
        let wanted = match self.shards {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            shards => shards,
        };
        wanted.min(SHARDS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_moves_the_ceiling_and_nothing_overflows() {
        let base = Config { shards: 1, ..Config::default() };
        let before = sum(&memory_ceiling(&base));
        type Change = fn(&mut Config);
        let changes: [(&str, Change); 26] = [
            ("compression", |c| c.session.compression = Compression::Deflate),
            ("TLS", |c| c.tls.certificate_file = "x".to_owned()),
            ("memory_bytes_max", |c| c.replay.memory_bytes_max *= 2),
            ("consumers_max", |c| c.replay.consumers_max *= 2),
            ("queue_max", |c| c.replay.queue_max *= 2),
            ("shards", |c| c.shards = 2),
            ("sessions_max", |c| c.limits.sessions_max *= 2),
            ("handshakes_max", |c| c.limits.handshakes_max *= 2),
            ("head_bytes_max", |c| c.limits.head_bytes_max *= 2),
            ("subscriptions_total_max", |c| c.limits.subscriptions_total_max *= 2),
            ("streams_max", |c| c.limits.streams_max *= 2),
            ("unseen_symbols_max", |c| c.limits.unseen_symbols_max *= 2),
            ("patterns_max", |c| c.limits.patterns_max *= 2),
            ("reading_bytes_total_max", |c| c.limits.reading_bytes_total_max *= 2),
            ("total_bytes_max", |c| c.outbox.total_bytes_max *= 2),
            ("write_bytes_max", |c| c.outbox.write_bytes_max *= 2),
            ("inbox_bytes_max", |c| c.session.inbox_bytes_max *= 2),
            ("symbols_max", |c| c.kafka.symbols_max *= 2),
            ("trades_kept", |c| c.kafka.trades_kept *= 2),
            ("book_levels_total_max", |c| c.kafka.book_levels_total_max *= 2),
            ("snapshots_bytes_max", |c| c.kafka.snapshots_bytes_max *= 2),
            ("record_bytes_max", |c| c.kafka.record_bytes_max *= 2),
            ("fetch.max.bytes", |c| {
                c.kafka.properties.insert("fetch.max.bytes".to_owned(), "100000000".to_owned());
            }),
            ("statistics_ms", |c| c.kafka.statistics_ms = 1_000),
            ("dead_letter_topic", |c| c.kafka.dead_letter_topic = "dead".to_owned()),
            ("queued.max.messages.kbytes", |c| {
                c.kafka.properties.insert("queued.max.messages.kbytes".to_owned(), "65536".to_owned());
            }),
        ];
        for (name, change) in changes {
            let mut config = base.clone();
            change(&mut config);
            assert!(sum(&memory_ceiling(&config)) > before, "{name}");
        }
        let mut asked = base.clone();
        for change in [
            |c: &mut Config| c.auth.mode = "required".to_owned(),
            |c: &mut Config| c.auth.pending_max *= 2,
            |c: &mut Config| c.auth.revoked_file = "x".to_owned(),
            |c: &mut Config| c.auth.revocation_topic = "x".to_owned(),
            |c: &mut Config| c.auth.api_keys_file = "x".to_owned(),
            |c: &mut Config| c.auth.audit_file = "x".to_owned(),
            |c: &mut Config| c.tls.certificate_file = "x".to_owned(),
            |c: &mut Config| c.tls.client_ca_file = "x".to_owned(),
        ] {
            let before = sum(&memory_ceiling(&asked));
            change(&mut asked);
            assert!(sum(&memory_ceiling(&asked)) > before, "{:?} {:?}", asked.auth, asked.tls);
        }
        let mut delayed = base.clone();
        for change in [
            |c: &mut Config| c.delays.delayed_s = vec![60],
            |c: &mut Config| c.delays.delayed_s = vec![900],
            |c: &mut Config| c.delays.delayed_s.push(60),
            |c: &mut Config| c.delays.partitions_max *= 2,
            |c: &mut Config| c.kafka.symbols_max *= 2,
        ] {
            let before = sum(&memory_ceiling(&delayed));
            change(&mut delayed);
            assert!(sum(&memory_ceiling(&delayed)) > before, "{:?}", delayed.delays);
        }
        let mut all = base.clone();
        all.session.compression = Compression::Deflate;
        let names: Vec<_> = memory_ceiling(&all).into_iter().map(|term| term.name).collect();
        assert!(OF_EACH_TIER.iter().all(|name| names.contains(name)));
        let mut huge = base;
        huge.limits.sessions_max = usize::MAX >> 1;
        huge.tls.certificate_file = "x".to_owned();
        assert_eq!(sum(&memory_ceiling(&huge)), u64::MAX);
        assert!(
            table(&memory_ceiling(&huge))
                .lines()
                .last()
                .is_some_and(|line| line.starts_with("memory ceiling"))
        );
    }

    /// What a session was granted was in no term: with a name for each symbol in a place of its own, hundreds of them were ten
    /// times the token.
    #[test]
    fn the_longest_token_grants_no_more_than_is_counted() {
        // Three bytes of four are claims, were there nothing else in it.
        let room = token::TOKEN_BYTES_MAX / 4 * 3;
        let names = |short: usize| {
            let mut grant = "{\"symbols\":[".to_owned();
            for name in (0x21..0x2000_u32).filter_map(char::from_u32).filter(|c| !c.is_control()) {
                let name = if short > 1 { format!("{name:x>short$}") } else { name.to_string() };
                let quoted = format!("{name:?},");
                if grant.len() + quoted.len() > room {
                    break;
                }
                if is_plain(&name) {
                    grant.push_str(&quoted);
                }
            }
            format!("{}]}}", grant.trim_end_matches(','))
        };
        for short in [1, 2, 8, 30] {
            let grant = names(short);
            assert!(grant.len() > room - 128 && grant.len() < room + 2);
            let rights = Rights::from_json(&grant).expect("it is right");
            assert!(rights.held_bytes() > room / 4);
            assert!(rights.held_bytes() <= token::TOKEN_BYTES_MAX, "{short}: {}", rights.held_bytes());
        }
    }

    /// Whether a name stands in JSON as it is.
    fn is_plain(name: &str) -> bool {
        !name.contains(['"', '\\', '*']) && name.escape_debug().count() == name.chars().count()
    }

    #[test]
    fn the_default_is_modest() {
        let terms = memory_ceiling(&Config { shards: 2, ..Config::default() });
        assert!(sum(&terms) < 1_500 << 20, "{}", table(&terms));
    }

    #[test]
    fn views_are_largest_with_levels_spread_evenly() {
        let mut config = Config::default();
        config.kafka.symbols_max = 2;
        config.kafka.book_levels_total_max = 40;
        // Ten a side of both books: 1 + 5 + 10 + 10 + 10 + 10 levels in the six depths.
        assert_eq!(views_bytes(&config), 2 * 2 * 46 * size_of::<Level>() as u64);
        config.kafka.book_levels_total_max = 4_000_000;
        assert_eq!(views_bytes(&config), 2 * 2 * 186 * size_of::<Level>() as u64);
    }
}
