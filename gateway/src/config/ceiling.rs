//! The memory ceiling: what every configured bound adds up to when all of them are reached at once.
//!
//! Events are shared by reference count, so `sessions_max` queues of `outbox.bytes_max` do not cost their product:
//! what lives is every distinct event that some queue still refers to. That is at most what the feed thread can
//! encode while the oldest may wait, and at most the product; the smaller one counts. What each session holds alone,
//! such as the entries that refer to events and what is half read or half written, is counted for each.
//!
//! Kernel memory (socket buffers, some 5 KB a side and connection when idle) is not the process's and is not here.

use super::Config;
use crate::latency::{LatencyWindow, StageHistograms};

/// Code, allocator, threads, and librdkafka's and the runtime's own structures.
const BASE_BYTES: u64 = 64 << 20;
/// A session without what its bounds count: its struct, its slot, the runtime's handle of its socket.
const SESSION_BYTES: u64 = 2_048;
/// A subscription in the tables of session and shard, with its symbol.
const SUBSCRIPTION_BYTES: u64 = 160;
/// One entry of an outbox with its share of the tables that find it, by slack of a doubling vector.
const ENTRY_BYTES: u64 = 96;
/// A known symbol without trades: its name, interning, last quote and status, positions, subscription list.
const SYMBOL_BYTES: u64 = 2_048;
/// A trade kept for snapshots, encoded.
const TRADE_BYTES: u64 = 384;
/// A price level of a book in its map, with the texts of price and size.
const LEVEL_BYTES: u64 = 96;
/// Bytes of shared events that the one feed thread can encode in a second at the very most.
const ENCODE_BYTES_PER_S: u64 = 256 << 20;
/// Records of one batch from librdkafka.
const BATCH_RECORDS: u64 = 1_000;
/// An encoded event in a batch with its reference counts; the few that are larger take the room of many smaller.
const EVENT_BYTES: u64 = 512;
/// librdkafka's consumer queue, unless `queued.max.messages.kbytes` is set.
const KAFKA_QUEUE_KBYTES: u64 = 32_768;
/// One fetch response in flight, over which the queue may go, unless `fetch.max.bytes` is set.
const KAFKA_FETCH_BYTES: u64 = 50 << 20;
/// The producer's queue of dead letters, unless `queue.buffering.max.kbytes` is set.
const DEAD_LETTER_KBYTES: u64 = 16_384;

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
    let Config { kafka, limits, outbox, session, .. } = config;
    let shards = config.shard_count() as u64;
    let sessions = limits.sessions_max as u64;
    let symbols = (kafka.symbols_max + limits.unseen_symbols_max) as u64;
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
    term("sessions", &[sessions, SESSION_BYTES], format!("limits.sessions_max × {SESSION_BYTES}"));
    term(
        "subscriptions",
        &[sessions, limits.subscriptions_max as u64, SUBSCRIPTION_BYTES],
        format!("limits.sessions_max × limits.subscriptions_max × {SUBSCRIPTION_BYTES}"),
    );
    let half_read = limits.message_bytes_max.max(limits.head_bytes_max) as u64;
    term(
        "half-read messages",
        &[sessions, half_read],
        "limits.sessions_max × max(limits.message_bytes_max, limits.head_bytes_max)".to_owned(),
    );
    term(
        "outbox entries",
        &[sessions, outbox.entries_max as u64, ENTRY_BYTES],
        format!("limits.sessions_max × outbox.entries_max × {ENTRY_BYTES}"),
    );
    // A write is filled until it is full, and its last event may be as large as a record.
    let half_written = (outbox.write_bytes_max + kafka.record_bytes_max) as u64;
    term(
        "half-written bytes",
        &[sessions, half_written],
        "limits.sessions_max × (outbox.write_bytes_max + kafka.record_bytes_max)".to_owned(),
    );
    let product = sessions.saturating_mul(outbox.bytes_max as u64);
    // One second more: a queue is looked at in passes, and conflation at the bound takes its turn.
    let by_age = ENCODE_BYTES_PER_S.saturating_mul(outbox.age_max_ms + 1_000) / 1_000;
    term(
        "queued events",
        &[product.min(by_age)],
        format!(
            "min(limits.sessions_max × outbox.bytes_max, (outbox.age_max_ms + 1 s) × {} MiB/s)",
            ENCODE_BYTES_PER_S >> 20
        ),
    );
    term(
        "inbox events",
        &[session.inbox_batches as u64, BATCH_RECORDS, EVENT_BYTES],
        format!("session.inbox_batches × {BATCH_RECORDS} × {EVENT_BYTES}, shared by the shards"),
    );
    term(
        "inbox references",
        &[shards, session.inbox_batches as u64, BATCH_RECORDS, 16],
        format!("shards × session.inbox_batches × {BATCH_RECORDS} × 16"),
    );
    term(
        "symbols",
        &[symbols, SYMBOL_BYTES + kafka.trades_kept as u64 * TRADE_BYTES],
        format!(
            "(kafka.symbols_max + limits.unseen_symbols_max) × ({SYMBOL_BYTES} + kafka.trades_kept × {TRADE_BYTES})"
        ),
    );
    term(
        "books",
        &[kafka.symbols_max as u64, 2, kafka.book_levels_max as u64, LEVEL_BYTES],
        format!("kafka.symbols_max × 2 × kafka.book_levels_max × {LEVEL_BYTES}"),
    );
    let queue_kbytes = property(config, "queued.max.messages.kbytes", KAFKA_QUEUE_KBYTES);
    let fetch_bytes = property(config, "fetch.max.bytes", KAFKA_FETCH_BYTES);
    term(
        "Kafka consumer",
        &[queue_kbytes.saturating_mul(1_024).saturating_add(fetch_bytes)],
        "queued.max.messages.kbytes × 1024 + fetch.max.bytes, of librdkafka".to_owned(),
    );
    if !kafka.dead_letter_topic.is_empty() {
        let kbytes = property(config, "queue.buffering.max.kbytes", DEAD_LETTER_KBYTES);
        term("dead letters", &[kbytes, 1_024], "queue.buffering.max.kbytes × 1024, of librdkafka".to_owned());
    }
    terms
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
    /// How many shards there will be: `shards`, or one per processor.
    pub fn shard_count(&self) -> usize {
        if self.shards > 0 {
            self.shards
        } else {
            std::thread::available_parallelism().map_or(1, usize::from)
        }
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
        let changes: [(&str, Change); 11] = [
            ("shards", |c| c.shards = 2),
            ("sessions_max", |c| c.limits.sessions_max *= 2),
            ("subscriptions_max", |c| c.limits.subscriptions_max *= 2),
            ("message_bytes_max", |c| c.limits.message_bytes_max *= 2),
            ("entries_max", |c| c.outbox.entries_max *= 2),
            ("age_max_ms", |c| c.outbox.age_max_ms *= 2),
            ("inbox_batches", |c| c.session.inbox_batches *= 2),
            ("symbols_max", |c| c.kafka.symbols_max *= 2),
            ("book_levels_max", |c| c.kafka.book_levels_max *= 2),
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
        let mut huge = base;
        huge.limits.sessions_max = usize::MAX >> 1;
        assert_eq!(sum(&memory_ceiling(&huge)), u64::MAX);
        assert!(
            table(&memory_ceiling(&huge))
                .lines()
                .last()
                .is_some_and(|line| line.starts_with("memory ceiling"))
        );
    }

    #[test]
    fn shared_events_cost_the_smaller_of_age_and_product() {
        let term = |config: &Config| {
            let terms = memory_ceiling(config);
            terms
                .into_iter()
                .find(|term| term.name == "queued events")
                .expect("the term is always there")
                .bytes
        };
        let mut config = Config::default();
        assert_eq!(term(&config), 6 * ENCODE_BYTES_PER_S);
        config.limits.sessions_max = 10;
        assert_eq!(term(&config), 10 << 20);
    }
}
