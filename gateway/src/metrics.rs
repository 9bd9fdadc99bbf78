//! Metrics: copies of plain totals, rendered when somebody scrapes.
//!
//! Hot threads know nothing of metrics. They copy their totals to the [`Board`] a few times a second; a scrape turns
//! these copies into series through a recorder that lives for that scrape alone, so that nothing is stale and several
//! gateways can live in one process. Names are in [`catalog`] and nowhere else.
//!
//! Latencies are written here in two forms: as histogram buckets with fixed edges, which add up over gateways, and as
//! exact quantiles of the last seconds, which do not.

pub mod catalog;
mod delayed;
mod kafka;
mod partitions;
mod process;
mod text;
mod threads;
mod tls;
pub mod watched;

use crate::clock;
use crate::config::calendar::Calendar;
use crate::config::{Config, ceiling};
use crate::latency::{self, LatencyWindow, Stage};
use crate::stats::{
    AuditOf, AuthFailure, AuthWay, Board, CloseReason, DiscardReason, DropReason, KeysFetch, PartEnd,
    PartRefusal, ReaderTotals, RefuseReason, Reload, ReplayEnd, ReplayKind, ReplayRefusal, ReplayTotals,
    ResumeRefusal, RevocationRecord, ShardTotals, SpanEnd, Spread,
};
use catalog::Kind;
use metrics::{Key, Label, Level, Recorder as _};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use process::Process;
pub use process::allocator_is;
use std::sync::atomic::{AtomicU64, Ordering};
use tickgate_protocol::Channel;
use tickgate_protocol::control::FeedState;
use tickgate_protocol::event::GapCause;
use tickgate_protocol::frame::Violation;
use tickgate_protocol::record::RecordError;

/// The content type of what [`Metrics::render`] gives.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper edges of the latency buckets in nanoseconds: fixed, for buckets of different edges do not add up. They hold
/// the thresholds that service levels are written in: 1, 5, 10, 50, 100 ms and 1 s.
pub const EDGES_NS: [u64; 18] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    7_500_000_000,
    10_000_000_000,
];

/// The quantiles that are exported, with their label; 1 is the maximum.
pub const QUANTILES: [(f64, &str); 6] =
    [(0.5, "0.5"), (0.9, "0.9"), (0.99, "0.99"), (0.999, "0.999"), (0.9999, "0.9999"), (1.0, "1")];

/// The same of what is spread over sessions.
const QUEUE_QUANTILES: [(f64, &str); 3] = [(0.5, "0.5"), (0.99, "0.99"), (1.0, "1")];

/// What sessions are sent: texts, or compressed ones.
const ENCODINGS: [&str; 2] = ["json", "json_deflate"];

const PROFILE: &str = if cfg!(debug_assertions) { "debug" } else { "release" };

const FEED_STATES: [FeedState; 3] = [FeedState::Live, FeedState::Stale, FeedState::Down];

/// What a scrape needs beside the board.
#[derive(Debug)]
pub struct Metrics {
    limits: Vec<(&'static str, f64)>,
    window: LatencyWindow,
    /// When something is expected of each feed.
    calendars: Vec<(String, Calendar)>,
    kafka: kafka::Kafka,
    lags: partitions::Lags,
    threads: threads::Threads,
}

impl Metrics {
    /// Metrics of a gateway that starts at `now_ns` of the monotonic clock.
    pub fn new(config: &Config, now_ns: u64) -> Self {
        let calendars = config.feeds.iter().map(|feed| {
            // What is wrong was found when the configuration was checked.
            let calendar = Calendar::new(&feed.hours, &feed.closed_on).unwrap_or_default();
            (feed.name.clone(), calendar)
        });
        Self {
            limits: limits(config),
            window: LatencyWindow::new(now_ns),
            calendars: calendars.collect(),
            kafka: kafka::Kafka::default(),
            lags: partitions::Lags::default(),
            threads: threads::Threads::default(),
        }
    }

    /// Keeps what the quantiles are measured from. Call it at least every [`LatencyWindow::STEP_NS`].
    pub fn observe(&mut self, board: &Board, now_ns: u64) {
        self.window.observe(now_ns, &latency::total(board));
    }

    /// Everything as Prometheus text, families sorted by name.
    pub fn render(&mut self, board: &Board, now_ns: u64) -> String {
        let latencies = latency::total(board);
        self.window.observe(now_ns, &latencies);
        let (recent, length_ns) = self.window.since_start(now_ns, &latencies);

        let scrape = Scrape::new();
        shards(&scrape, board);
        feed(&scrape, board);
        self.lags.show(&scrape, &board.feed().clone(), clock::wall_ns());
        delayed::delayed(&scrape, board);
        self.kafka.show(&scrape, board);
        let of_readers = readers(&scrape, board);
        let wall_ns = clock::wall_ns();
        for (feed, calendar) in &self.calendars {
            let open = flag(calendar.is_open(wall_ns));
            scrape.gauge("tickgate_feed_expected", &[("feed", feed)], open);
        }
        for (name, value) in &self.limits {
            scrape.gauge(name, &[], *value);
        }
        scrape.gauge(
            "tickgate_build_info",
            &[("version", env!("CARGO_PKG_VERSION")), ("profile", PROFILE)],
            1.0,
        );
        scrape.gauge("tickgate_latency_window_seconds", &[], length_ns as f64 / 1e9);
        let mut skews = Vec::new();
        for stage in Stage::ALL {
            let labels = [("stage", stage.label())];
            let negative = latencies.negative(stage);
            scrape.counter("tickgate_latency_negative_total", &labels, negative.count);
            scrape.gauge("tickgate_latency_negative_max_seconds", &labels, negative.largest_ns as f64 / 1e9);
            scrape.counter("tickgate_latency_over_range_total", &labels, latencies.over_range(stage));
            skews.push((stage.label(), negative.sum_ns as f64 / 1e9));
        }
        let process = Process::read();
        let values = [
            ("process_resident_memory_bytes", process.resident_bytes.map(|bytes| bytes as f64)),
            ("process_open_fds", process.open_fds.map(|files| files as f64)),
            ("process_max_fds", process.max_fds.map(|files| files as f64)),
            ("process_threads", process.threads.map(|threads| threads as f64)),
            ("process_start_time_seconds", process.start_s),
            ("tickgate_allocator_committed_bytes", process.committed_bytes.map(|[now, _]| now as f64)),
            ("tickgate_allocator_committed_peak_bytes", process.committed_bytes.map(|[_, peak]| peak as f64)),
        ];
        for (name, value) in values {
            if let Some(value) = value {
                scrape.gauge(name, &[], value);
            }
        }

        let threads = self.threads.cpu_s();
        let mut families = scrape.families();
        if !threads.is_empty() {
            families.push(text::by_label("tickgate_thread_cpu_seconds_total", "thread", &threads));
        }
        families.push(text::by_label("tickgate_latency_negative_seconds_total", "stage", &skews));
        families.push(text::histogram(&latencies));
        families.push(text::quantiles(&recent));
        families.extend(of_readers);
        families.extend(process.cpu_s.map(|cpu_s| text::seconds("process_cpu_seconds_total", cpu_s)));
        // The first line of a family names it.
        families.sort();
        families.concat()
    }
}

fn limits(config: &Config) -> Vec<(&'static str, f64)> {
    let Config { kafka, limits, outbox, session, replay, .. } = config;
    vec![
        ("tickgate_limit_memory_bytes", ceiling::sum(&ceiling::memory_ceiling(config)) as f64),
        ("tickgate_limit_sessions", limits.sessions_max as f64),
        ("tickgate_limit_subscriptions", limits.subscriptions_max as f64),
        ("tickgate_limit_subscriptions_all", limits.subscriptions_total_max as f64),
        ("tickgate_limit_streams", limits.streams_max as f64),
        ("tickgate_limit_reading_bytes", limits.reading_bytes_total_max as f64),
        ("tickgate_limit_book_levels", kafka.book_levels_total_max as f64),
        ("tickgate_limit_symbols", kafka.symbols_max as f64),
        ("tickgate_limit_unseen_symbols", limits.unseen_symbols_max as f64),
        ("tickgate_limit_patterns", limits.patterns_max as f64),
        ("tickgate_limit_auth_pending", config.auth.pending_max as f64),
        ("tickgate_limit_outbox_bytes", outbox.bytes_max as f64),
        ("tickgate_limit_outbox_all_bytes", outbox.total_bytes_max as f64),
        ("tickgate_limit_outbox_entries", outbox.entries_max as f64),
        ("tickgate_limit_outbox_age_seconds", outbox.age_max_ms as f64 / 1e3),
        ("tickgate_limit_outbox_stall_seconds", outbox.stall_timeout_ms as f64 / 1e3),
        ("tickgate_limit_inbox_batches", session.inbox_batches as f64),
        ("tickgate_limit_inbox_bytes", session.inbox_bytes_max as f64),
        ("tickgate_limit_replays", replay.per_session_max as f64),
        ("tickgate_limit_replays_parts_waiting", replay.queue_max as f64),
        ("tickgate_limit_replays_parts_reading", replay.consumers_max as f64),
    ]
}

fn shards(scrape: &Scrape, board: &Board) {
    let mut imbalance = 0u64;
    let mut queue_age_max_ms = 0;
    let mut sessions_all = 0;
    let (mut all_queue_bytes, mut all_queue_ages_us) = (Spread::default(), Spread::default());
    for shard in 0..board.shard_count() {
        let ShardTotals {
            offered,
            sent,
            conflated,
            dropped,
            held,
            queued_bytes,
            slow_bytes,
            reading_bytes,
            queue_age_max_ms: age_ms,
            sessions,
            sessions_deflated,
            queue_bytes,
            queue_age_us,
            sessions_opened,
            sessions_closed,
            pressure_closes,
            refused,
            tls_handshakes,
            tls_failures,
            auth_accepted,
            auth_refused,
            auth_pending,
            forbidden,
            withheld,
            subscriptions,
            writes,
            written_bytes,
            write_stalls,
            deflate,
            violations,
            requests,
            request_errors,
            gaps,
            gap_events,
            slow_notices,
            replays,
            batches,
        } = board.shard(shard).clone();
        // Those of one thread together.
        let number = board.place_of(shard).1.to_string();
        let of_shard = [("shard", number.as_str())];

        scrape.counter("tickgate_events_offered_total", &[], offered);
        scrape.counter("tickgate_events_sent_total", &[], sent);
        scrape.counter("tickgate_events_conflated_total", &[], conflated);
        for reason in DropReason::ALL {
            let labels = [("reason", reason.label())];
            scrape.counter("tickgate_events_dropped_total", &labels, dropped[*reason as usize]);
        }
        scrape.add("tickgate_events_held", &[], held as f64);
        let gone = sent + conflated + dropped.iter().sum::<u64>() + held;
        // Two that are wrong in opposite ways are both wrong.
        imbalance = imbalance.saturating_add(offered.abs_diff(gone));

        scrape.add("tickgate_sessions_open", &of_shard, sessions as f64);
        for (encoding, open) in ENCODINGS.iter().zip([sessions - sessions_deflated, sessions_deflated]) {
            scrape.add("tickgate_sessions_encoding_open", &[("encoding", encoding)], open as f64);
        }
        sessions_all += sessions;
        all_queue_bytes.merge(&queue_bytes);
        all_queue_ages_us.merge(&queue_age_us);
        scrape.counter("tickgate_sessions_opened_total", &[], sessions_opened);
        for reason in CloseReason::ALL {
            let labels = [("reason", reason.label())];
            scrape.counter("tickgate_sessions_closed_total", &labels, sessions_closed[*reason as usize]);
        }
        for reason in RefuseReason::ALL {
            let labels = [("reason", reason.label())];
            scrape.counter("tickgate_connections_refused_total", &labels, refused[*reason as usize]);
        }
        for (violation, count) in Violation::ALL.iter().zip(violations) {
            scrape.counter("tickgate_violations_total", &[("cause", violation.label())], count);
        }
        tls::of_shard(scrape, tls_handshakes, tls_failures);
        for (way, count) in AuthWay::ALL.iter().zip(auth_accepted) {
            scrape.counter("tickgate_auth_accepted_total", &[("way", way.label())], count);
        }
        for (failure, count) in AuthFailure::ALL.iter().zip(auth_refused) {
            scrape.counter("tickgate_auth_refused_total", &[("reason", failure.label())], count);
        }
        scrape.add("tickgate_auth_pending", &[], auth_pending as f64);
        scrape.counter("tickgate_subscriptions_forbidden_total", &[], forbidden);
        scrape.counter("tickgate_events_withheld_total", &[], withheld);
        scrape.add("tickgate_subscriptions_held", &[], subscriptions as f64);
        scrape.counter("tickgate_requests_read_total", &[], requests);
        scrape.counter("tickgate_requests_failed_total", &[], request_errors);
        scrape.counter("tickgate_slow_notices_total", &[], slow_notices);
        for (cause, count) in GapCause::ALL.into_iter().zip(gaps) {
            scrape.counter("tickgate_gaps_announced_total", &[("cause", cause.name())], count);
        }
        scrape.counter("tickgate_gaps_events_total", &[], gap_events);
        of_replays(scrape, &replays);

        scrape.add("tickgate_outbox_queued_bytes", &[], queued_bytes as f64);
        scrape.add("tickgate_outbox_held_bytes", &[], slow_bytes as f64);
        scrape.add("tickgate_requests_reading_bytes", &[], reading_bytes as f64);
        scrape.counter("tickgate_sessions_pressure_closed_total", &[], pressure_closes);
        queue_age_max_ms = queue_age_max_ms.max(age_ms);
        scrape.counter("tickgate_socket_writes_total", &[], writes);
        for (encoding, bytes) in ENCODINGS.iter().zip(written_bytes) {
            scrape.counter("tickgate_socket_written_bytes_total", &[("encoding", encoding)], bytes);
        }
        scrape.counter("tickgate_socket_stalls_total", &[], write_stalls);
        for (result, frames) in [("smaller", deflate.frames), ("given_up", deflate.frames_given_up)] {
            scrape.counter("tickgate_deflate_frames_total", &[("result", result)], frames);
        }
        scrape.counter("tickgate_deflate_plain_bytes_total", &[], deflate.plain_bytes);
        scrape.counter("tickgate_deflate_deflated_bytes_total", &[], deflate.deflated_bytes);
        scrape.counter("tickgate_shard_batches_total", &of_shard, batches);
    }
    scrape.gauge("tickgate_books_imbalance_events", &[], imbalance as f64);
    scrape.gauge("tickgate_outbox_age_max_seconds", &[], queue_age_max_ms as f64 / 1e3);
    for (quantile, shown) in QUEUE_QUANTILES {
        let labels = [("q", shown)];
        let bytes = all_queue_bytes.quantile(quantile, sessions_all);
        scrape.gauge("tickgate_outbox_queued_quantile_bytes", &labels, bytes as f64);
        let age_us = all_queue_ages_us.quantile(quantile, sessions_all);
        scrape.gauge("tickgate_outbox_age_quantile_seconds", &labels, age_us as f64 / 1e6);
    }
}

fn of_replays(scrape: &Scrape, replays: &ReplayTotals) {
    for kind in ReplayKind::ALL {
        let of_kind = ("kind", kind.label());
        let at = *kind as usize;
        scrape.add("tickgate_replays_running", &[of_kind], replays.running[at] as f64);
        scrape.counter("tickgate_replays_begun_total", &[of_kind], replays.begun[at]);
        for end in ReplayEnd::ALL {
            let labels = [of_kind, ("result", end.label())];
            scrape.counter("tickgate_replays_ended_total", &labels, replays.ended[at][*end as usize]);
        }
    }
    for (reason, count) in ReplayRefusal::ALL.iter().zip(replays.refused) {
        scrape.counter("tickgate_replays_refused_total", &[("reason", reason.label())], count);
    }
    for (reason, count) in ResumeRefusal::ALL.iter().zip(replays.resumes_refused) {
        scrape.counter("tickgate_resumes_refused_total", &[("reason", reason.label())], count);
    }
    for (reason, count) in PartRefusal::ALL.iter().zip(replays.parts_refused) {
        scrape.counter("tickgate_replays_parts_refused_total", &[("reason", reason.label())], count);
    }
}

/// Those who read Kafka again; what of it is counted in seconds comes as text.
fn readers(scrape: &Scrape, board: &Board) -> [String; 2] {
    let ReaderTotals {
        waiting,
        reading,
        parts,
        records,
        record_bytes,
        records_passed,
        events,
        reading_ns,
        pausing_ns,
    } = board.readers().clone();
    scrape.gauge("tickgate_replays_parts_waiting", &[], waiting as f64);
    scrape.gauge("tickgate_replays_parts_reading", &[], reading as f64);
    for (end, count) in PartEnd::ALL.iter().zip(parts) {
        scrape.counter("tickgate_replays_parts_read_total", &[("result", end.label())], count);
    }
    scrape.counter("tickgate_replays_records_read_total", &[], records);
    scrape.counter("tickgate_replays_record_bytes_total", &[], record_bytes);
    scrape.counter("tickgate_replays_records_passed_total", &[], records_passed);
    scrape.counter("tickgate_replays_events_read_total", &[], events);
    [
        text::seconds("tickgate_replays_reading_seconds_total", reading_ns as f64 / 1e9),
        text::seconds("tickgate_replays_pausing_seconds_total", pausing_ns as f64 / 1e9),
    ]
}

/// What the thread that looks after access has found.
fn access(scrape: &Scrape, board: &Board) {
    let number = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let counts = &board.access;
    for (end, count) in KeysFetch::ALL.iter().zip(&counts.keys_fetches) {
        scrape.counter("tickgate_auth_keys_fetches_total", &[("result", end.label())], number(count));
    }
    scrape.gauge("tickgate_auth_keys_fetched", &[], number(&counts.keys_fetched) as f64);
    scrape.gauge("tickgate_auth_keys_timestamp_seconds", &[], number(&counts.keys_fetched_s) as f64);
    let (in_file, in_topic) = (number(&counts.revoked_entries), number(&counts.topic_entries));
    scrape.gauge("tickgate_auth_revoked_entries", &[], (in_file + in_topic) as f64);
    scrape.gauge("tickgate_auth_revoked_lines_unread", &[], number(&counts.revoked_unread) as f64);
    for (of, count) in AuditOf::ALL.iter().zip(&counts.audit_left_out) {
        scrape.counter("tickgate_audit_lines_left_out_total", &[("of", of.label())], number(count));
    }
    for (said, count) in RevocationRecord::ALL.iter().zip(&counts.topic_records) {
        scrape.counter("tickgate_auth_revocation_records_total", &[("result", said.label())], number(count));
    }
    scrape.gauge("tickgate_auth_revocation_timestamp_seconds", &[], number(&counts.topic_read_s) as f64);
}

fn feed(scrape: &Scrape, board: &Board) {
    access(scrape, board);
    let feed = board.feed().clone();
    let draining = board.draining.load(Ordering::Relaxed);
    scrape.gauge("tickgate_gateway_ready", &[], flag(board.is_ready() && !draining));
    scrape.gauge("tickgate_gateway_draining", &[], flag(draining));
    scrape.counter("tickgate_panics_total", &[], crate::panics::count());
    for reload in Reload::ALL {
        let count = board.reloads[*reload as usize].load(Ordering::Relaxed);
        scrape.counter("tickgate_config_reloads_total", &[("result", reload.label())], count);
    }
    tls::certificate(scrape, board);
    let waiting = board.keys_waiting.load(Ordering::Relaxed);
    scrape.gauge("tickgate_config_keys_waiting", &[], waiting as f64);
    let refused = board.admin_refused.load(Ordering::Relaxed);
    scrape.counter("tickgate_admin_refused_total", &[], refused);
    for end in SpanEnd::ALL {
        scrape.counter("tickgate_trace_spans_total", &[("result", end.label())], crate::spans::counted(*end));
    }
    scrape.counter("tickgate_log_lines_lost_total", &[], crate::logs::lines_lost());
    for (name, value) in [
        ("tickgate_feed_records_total", feed.records),
        ("tickgate_feed_record_bytes_total", feed.record_bytes),
        ("tickgate_feed_dead_letters_total", feed.dead_lettered),
        ("tickgate_feed_dead_letters_lost_total", feed.dead_letters_lost),
        ("tickgate_feed_symbols_refused_total", feed.symbols_refused),
        ("tickgate_feed_updates_conflated_total", feed.conflated),
        ("tickgate_feed_stray_records_total", feed.stray_records),
        ("tickgate_feed_events_encoded_total", feed.encoded),
        ("tickgate_feed_encoded_bytes_total", feed.encoded_bytes),
        ("tickgate_feed_resumed_events_total", feed.resumed_events),
        ("tickgate_feed_inbox_full_total", feed.inbox_full),
        ("tickgate_feed_overload_events_total", feed.overload_events),
        ("tickgate_feed_lost_offsets_total", feed.lost_offsets),
        ("tickgate_feed_topics_recreated_total", feed.topics_recreated),
        ("tickgate_feed_partitions_added_total", feed.partitions_added),
        ("tickgate_feed_broker_errors_total", feed.broker_errors),
        ("tickgate_feed_reconnects_total", feed.reconnects),
        ("tickgate_feed_clock_ahead_total", feed.clock_ahead),
        ("tickgate_feed_book_levels_trimmed_total", feed.book_levels_trimmed),
    ] {
        scrape.counter(name, &[], value);
    }
    for (channel, count) in Channel::ALL.into_iter().zip(feed.ticks) {
        scrape.counter("tickgate_feed_ticks_total", &[("channel", channel.name())], count);
    }
    for (reason, count) in DiscardReason::ALL.iter().zip(feed.discarded) {
        scrape.counter("tickgate_feed_ticks_discarded_total", &[("reason", reason.label())], count);
    }
    for (reason, count) in RecordError::LABELS.into_iter().zip(feed.bad_records) {
        scrape.counter("tickgate_feed_bad_records_total", &[("reason", reason)], count);
    }
    scrape.gauge("tickgate_feed_symbols_known", &[], feed.symbols as f64);
    scrape.gauge("tickgate_feed_books_kept", &[], feed.books as f64);
    scrape.gauge("tickgate_feed_book_levels_kept", &[], feed.book_levels as f64);
    for status in &feed.feeds {
        let of_feed = ("feed", status.name.as_str());
        for state in FEED_STATES {
            scrape.gauge(
                "tickgate_feed_state",
                &[of_feed, ("state", state.name())],
                flag(status.state == state),
            );
        }
        scrape.gauge("tickgate_feed_lag_records", &[of_feed], status.lag_records as f64);
        if let Some(event_ns) = status.event_ns {
            scrape.gauge("tickgate_feed_event_timestamp_seconds", &[of_feed], event_ns as f64 / 1e9);
        }
    }
    for (status, peaks) in feed.feeds.iter().zip(&feed.peaks) {
        for (rate, window) in peaks.iter().zip(["10ms", "100ms"]) {
            let labels = [("feed", status.name.as_str()), ("window", window)];
            scrape.gauge("tickgate_feed_peak_ticks_per_second", &labels, *rate as f64);
        }
    }
}

fn flag(flag: bool) -> f64 {
    f64::from(u8::from(flag))
}

/// The recorder of one scrape.
struct Scrape {
    recorder: PrometheusRecorder,
}

impl Scrape {
    fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        for metric in catalog::CATALOG {
            match metric.kind {
                Kind::Counter => recorder.describe_counter(metric.name.into(), None, metric.help.into()),
                Kind::Gauge => recorder.describe_gauge(metric.name.into(), None, metric.help.into()),
                Kind::Histogram => {}
            }
        }
        Self { recorder }
    }

    /// Adds to a counter: shards without a label of their own add up.
    fn counter(&self, name: &'static str, labels: &[(&'static str, &str)], count: u64) {
        self.recorder.register_counter(&key(name, Kind::Counter, labels), &METADATA).increment(count);
    }

    fn gauge(&self, name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        self.recorder.register_gauge(&key(name, Kind::Gauge, labels), &METADATA).set(value);
    }

    /// Adds to a gauge: shards without a label of their own add up.
    fn add(&self, name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        self.recorder.register_gauge(&key(name, Kind::Gauge, labels), &METADATA).increment(value);
    }

    /// The text of each family: help, type and series, the latter sorted.
    fn families(&self) -> Vec<String> {
        let text = self.recorder.handle().render();
        let family = |text: &str| {
            let mut lines: Vec<&str> = text.lines().collect();
            let series = lines.iter().take_while(|line| line.starts_with('#')).count();
            lines[series..].sort_unstable();
            lines.iter().flat_map(|line| [*line, "\n"]).collect()
        };
        text.split("\n\n").filter(|text| !text.trim().is_empty()).map(family).collect()
    }
}

static METADATA: metrics::Metadata<'static> = metrics::Metadata::new(module_path!(), Level::INFO, None);

fn key(name: &'static str, kind: Kind, labels: &[(&'static str, &str)]) -> Key {
    debug_assert!(
        catalog::find(name).is_some_and(|metric| metric.kind == kind
            && metric.labels.iter().copied().eq(labels.iter().map(|(name, _)| *name))),
        "{name} with these labels is not in the catalog"
    );
    Key::from_parts(
        name,
        labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect::<Vec<_>>(),
    )
}

#[cfg(test)]
mod tests;
