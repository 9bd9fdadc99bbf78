//! Every metric there is. A scrape shows these names and no others; tests hold both, and `docs/metrics.md`, to it.
//!
//! Names are `tickgate_<noun>_<what>[_<unit>][_total]` in base units (seconds, bytes); `process_*` are the names that
//! every Prometheus client library gives a process. Label values come from closed enums, from the configuration, or
//! are numbers that Kafka or the number of shards bounds: never symbols, clients or addresses.

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// A value of now.
    Gauge,
    /// Cumulative buckets with `_bucket`, `_sum` and `_count`.
    Histogram,
}

impl Kind {
    /// Its name in a `TYPE` line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What a value of one means: `seconds`, `bytes`, or what is counted.
    pub unit: &'static str,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// One sentence for a person.
    pub help: &'static str,
}

const fn counter(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Counter, unit, labels, help }
}

const fn gauge(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Gauge, unit, labels, help }
}

/// Labels whose values are no list of this program's, and where they come from. All others' are closed enums.
pub const OPEN_LABELS: [(&str, &str); 6] = [
    ("feed", "the `name` of one of `[[feeds]]`"),
    ("partition", "the number of a partition in Kafka"),
    ("shard", "the number of a thread: 0 and up, `shards` of them"),
    ("delay_s", "one of `delays.delayed_s`"),
    ("version", "the version of the program"),
    ("profile", "`release` or `debug`"),
];

/// The metric of a name.
pub fn find(name: &str) -> Option<&'static Metric> {
    CATALOG.iter().find(|metric| metric.name == name)
}

/// Every metric.
#[rustfmt::skip]
pub const CATALOG: &[Metric] = &[
    // The books: offered = sent + conflated + dropped + held.
    counter("tickgate_events_offered_total", "events", &[], "Events offered to the queues of sessions."),
    counter("tickgate_events_sent_total", "events", &[], "Events wholly handed to a socket."),
    counter("tickgate_events_conflated_total", "events", &[], "Events replaced by a newer state of their symbol."),
    counter("tickgate_events_dropped_total", "events", &["reason"], "Events neither sent nor conflated."),
    gauge("tickgate_events_held", "events", &[], "Events queued or half written."),
    gauge("tickgate_books_imbalance_events", "events", &[], "Offered minus sent, conflated, dropped and held: 0 unless the gateway lost count."),

    // Sessions.
    gauge("tickgate_sessions_open", "sessions", &["shard"], "Open sessions."),
    gauge("tickgate_sessions_encoding_open", "sessions", &["encoding"], "Open sessions by what they are sent."),
    counter("tickgate_sessions_opened_total", "sessions", &[], "Sessions ever opened."),
    counter("tickgate_sessions_closed_total", "sessions", &["reason"], "Sessions closed."),
    counter("tickgate_sessions_pressure_closed_total", "sessions", &[], "Slow sessions ended because all of them together held outbox.total_bytes_max."),
    gauge("tickgate_requests_reading_bytes", "bytes", &[], "Bytes of requests that are half read or wait for their answer."),
    counter("tickgate_connections_refused_total", "connections", &["reason"], "Connections refused before they became a session."),
    counter("tickgate_violations_total", "violations", &["cause"], "Sessions closed because their client broke the WebSocket protocol or its limits, by how."),
    counter("tickgate_tls_handshakes_total", "handshakes", &["kind"], "TLS handshakes: whole ones, and those that resumed a session."),
    counter("tickgate_tls_handshakes_failed_total", "handshakes", &["reason"], "TLS handshakes that failed."),
    gauge("tickgate_tls_certificate_expires_timestamp_seconds", "seconds", &[], "The last second of the certificate in use, since the Unix epoch; absent without TLS."),
    counter("tickgate_tls_certificate_reloads_total", "reloads", &["result"], "Certificate files that were taken over, or refused, while the gateway runs."),
    counter("tickgate_auth_accepted_total", "credentials", &["way"], "Tokens and API keys that were believed."),
    counter("tickgate_auth_refused_total", "credentials", &["reason"], "Tokens and API keys that were not believed; sessions that were ended as no longer welcome count as revoked."),
    gauge("tickgate_auth_pending", "connections", &[], "Connections that have not shown yet who they are."),
    counter("tickgate_auth_keys_fetches_total", "fetches", &["result"], "Fetches of keys from auth.jwks_url."),
    gauge("tickgate_auth_keys_fetched", "keys", &[], "Keys in effect that were fetched: 0 before the first fetch, and when the last good one is too old."),
    gauge("tickgate_auth_keys_timestamp_seconds", "seconds", &[], "When keys were fetched last, since the Unix epoch; 0 before the first fetch."),
    gauge("tickgate_auth_revoked_entries", "entries", &[], "Tokens and subjects on the lists of those revoked, of the file and of the topic."),
    counter("tickgate_audit_lines_left_out_total", "lines", &["of"], "Lines that the audit log left out as there were too many of their kind within ten seconds: of strangers, and of clients that had shown who they are."),
    gauge("tickgate_auth_revoked_lines_unread", "lines", &[], "Lines of auth.revoked_file that are not understood, or that there was no room for."),
    counter("tickgate_auth_revocation_records_total", "records", &["result"], "Records of auth.revocation_topic, by what they said; malformed and no_room are what to alarm on."),
    gauge("tickgate_auth_revocation_timestamp_seconds", "seconds", &[], "When auth.revocation_topic was last known to be read to its end, since the Unix epoch; 0 before, and without one."),
    counter("tickgate_subscriptions_forbidden_total", "subscriptions", &[], "Subscriptions refused, or ended by a new token, as their session may not see them."),
    counter("tickgate_events_withheld_total", "events", &[], "Events of a pattern that were left out as their session may not see the symbol."),
    gauge("tickgate_subscriptions_held", "subscriptions", &[], "Subscriptions of all sessions, symbols and patterns."),
    counter("tickgate_requests_read_total", "requests", &[], "Requests read from clients."),
    counter("tickgate_requests_failed_total", "requests", &[], "Requests answered with an error."),
    counter("tickgate_slow_notices_total", "notices", &[], "Notices to clients that they read too slowly."),
    counter("tickgate_gaps_announced_total", "gaps", &["cause"], "Gaps announced to clients."),
    counter("tickgate_gaps_events_total", "events", &[], "Events that gaps of slow consumers counted."),

    // Replays: of what clients missed, and of the past alone; and those who read Kafka again for them, part by part.
    gauge("tickgate_replays_running", "replays", &["kind"], "Replays under way."),
    counter("tickgate_replays_begun_total", "replays", &["kind"], "Replays begun."),
    counter("tickgate_replays_ended_total", "replays", &["kind", "result"], "Replays ended: whole, with a loss that the client was told of, broken off as Kafka did not answer or the gateway failed to read it, or given up by the client."),
    counter("tickgate_replays_refused_total", "subscriptions", &["reason"], "Subscriptions that are not replayed, their client told why."),
    counter("tickgate_resumes_refused_total", "requests", &["reason"], "Requests to go on from a cursor, a seq or a time that were refused, or granted with a loss that the client was told of: with aged_out it is gone, with no_answer it could not be had, gone or not."),
    counter("tickgate_replays_parts_refused_total", "parts", &["reason"], "Parts that were put off, to be asked for again a little later."),
    gauge("tickgate_replays_parts_waiting", "parts", &[], "Parts that wait for a reader."),
    gauge("tickgate_replays_parts_reading", "parts", &[], "Parts that are being read: how many readers are busy."),
    counter("tickgate_replays_parts_read_total", "parts", &["result"], "Parts that a reader took on, by what became of them."),
    counter("tickgate_replays_records_read_total", "records", &[], "Kafka records read again for clients that missed them."),
    counter("tickgate_replays_record_bytes_total", "bytes", &[], "Bytes of the values of Kafka records read again."),
    counter("tickgate_replays_records_passed_total", "records", &[], "Kafka records read again that held something for the client."),
    counter("tickgate_replays_events_read_total", "events", &[], "Events made of Kafka records read again."),
    counter("tickgate_replays_reading_seconds_total", "seconds", &[], "Time that readers spent on parts, waits for Kafka and pauses included."),
    counter("tickgate_replays_pausing_seconds_total", "seconds", &[], "Time that readers paused because of replay.records_per_s."),

    // Outboxes and sockets.
    gauge("tickgate_outbox_queued_bytes", "bytes", &[], "Bytes queued over all sessions, shared events at full size."),
    gauge("tickgate_outbox_held_bytes", "bytes", &[], "Bytes that slow sessions hold: queues at full size, their entries, and what was begun to be written."),
    gauge("tickgate_outbox_queued_quantile_bytes", "bytes", &["q"], "How queued bytes are spread over open sessions, within a fifth; 1 is the maximum."),
    gauge("tickgate_outbox_age_quantile_seconds", "seconds", &["q"], "How the age of the oldest event that a socket refuses is spread over open sessions, within a fifth; 1 is the maximum."),
    gauge("tickgate_outbox_age_max_seconds", "seconds", &[], "Age of the oldest event that a socket refuses."),
    counter("tickgate_socket_writes_total", "writes", &[], "Writes to sockets of clients."),
    counter("tickgate_socket_written_bytes_total", "bytes", &["encoding"], "Bytes written to sockets of clients."),
    counter("tickgate_socket_stalls_total", "writes", &[], "Writes that a socket refused or took in part."),
    counter("tickgate_deflate_frames_total", "frames", &["result"], "Frames compressed, once each however many sessions got them: smaller, or given up and sent as they were."),
    counter("tickgate_deflate_plain_bytes_total", "bytes", &[], "Bytes of the payloads of compressed frames, before."),
    counter("tickgate_deflate_deflated_bytes_total", "bytes", &[], "Bytes of the payloads of compressed frames, after."),
    counter("tickgate_shard_batches_total", "batches", &["shard"], "Batches taken from the feed."),

    // The feed.
    counter("tickgate_feed_records_total", "records", &[], "Kafka records read."),
    counter("tickgate_feed_record_bytes_total", "bytes", &[], "Bytes of the values of Kafka records read."),
    counter("tickgate_feed_ticks_total", "ticks", &["channel"], "Ticks read from Kafka records."),
    counter("tickgate_feed_bad_records_total", "records", &["reason"], "Unreadable records, or elements of records, skipped."),
    counter("tickgate_feed_dead_letters_total", "records", &[], "Unreadable records copied to the dead-letter topic."),
    counter("tickgate_feed_dead_letters_lost_total", "records", &[], "Copies of unreadable records that the dead-letter topic did not get."),
    counter("tickgate_feed_symbols_refused_total", "ticks", &[], "Ticks of new symbols over the limit of symbols."),
    counter("tickgate_feed_updates_conflated_total", "updates", &[], "Updates that an interval of conflation merged into a later one, once per stream."),
    counter("tickgate_feed_ticks_discarded_total", "ticks", &["reason"], "Ticks that were read and thrown away."),
    counter("tickgate_feed_stray_records_total", "records", &[], "Records of partitions that are no longer read, thrown away."),
    counter("tickgate_feed_events_encoded_total", "events", &[], "Events encoded, once each however many sessions get them."),
    counter("tickgate_feed_encoded_bytes_total", "bytes", &[], "Bytes of the JSON of events encoded."),
    counter("tickgate_feed_resumed_events_total", "events", &[], "Events given from memory to clients that missed them."),
    counter("tickgate_feed_inbox_full_total", "batches", &[], "Batches for which the inbox of a shard had no room."),
    counter("tickgate_feed_overload_events_total", "events", &[], "Events conflated or announced as a gap because a shard was behind."),
    counter("tickgate_feed_lost_offsets_total", "offsets", &[], "Offsets that were gone before they were read."),
    counter("tickgate_feed_topics_recreated_total", "topics", &[], "Topics found re-created."),
    counter("tickgate_feed_partitions_added_total", "partitions", &[], "Partitions found added."),
    counter("tickgate_feed_broker_errors_total", "errors", &[], "Errors of brokers and of the way to them."),
    counter("tickgate_feed_reconnects_total", "reconnects", &[], "Times that a broker answered again after none did."),
    counter("tickgate_feed_clock_ahead_total", "ticks", &[], "Ticks whose venue clock was ahead of the gateway's."),
    counter("tickgate_feed_book_levels_trimmed_total", "levels", &[], "Book levels beyond kafka.book_levels_max or kafka.book_levels_total_max that were taken out again."),
    gauge("tickgate_feed_symbols_known", "symbols", &[], "Symbols known."),
    gauge("tickgate_feed_books_kept", "books", &[], "Order books kept."),
    gauge("tickgate_feed_book_levels_kept", "levels", &[], "Price levels of all books."),
    gauge("tickgate_feed_state", "flag", &["feed", "state"], "1 for the state that a feed is in, 0 for the others."),
    gauge("tickgate_feed_expected", "flag", &["feed"], "1 while something is expected of a feed, by its hours; always 1 without."),
    gauge("tickgate_feed_peak_ticks_per_second", "ticks per second", &["feed", "window"], "Highest rate of ticks in any 10 or 100 ms of the last seconds, tickgate_latency_window_seconds at least."),
    gauge("tickgate_feed_lag_seconds", "seconds", &["feed"], "The largest tickgate_partition_lag_seconds of a feed."),
    gauge("tickgate_feed_lag_records", "records", &["feed"], "Records that a feed is behind the end of its topic."),
    gauge("tickgate_feed_event_timestamp_seconds", "seconds", &["feed"], "Venue clock of the newest event of a feed, since the Unix epoch; absent before the first."),
    gauge("tickgate_partition_lag_records", "records", &["feed", "partition"], "Records between the next to read and the high watermark as last heard."),
    gauge("tickgate_partition_lag_seconds", "seconds", &["feed", "partition"], "How old the last record read is, by Kafka's timestamp, while there are more to read; 0 when there are none."),
    gauge("tickgate_partition_high_watermark_offset", "offset", &["feed", "partition"], "The high watermark as last heard: the offset after the last record there is."),
    gauge("tickgate_partition_record_timestamp_seconds", "seconds", &["feed", "partition"], "Kafka's timestamp of the last record read, since the Unix epoch; absent before the first."),
    gauge("tickgate_partition_next_offset", "offset", &["feed", "partition"], "Offset of the next record to read."),
    gauge("tickgate_partition_caught_up", "flag", &["feed", "partition"], "1 once a partition was caught up with its watermark."),

    // What comes late, by delay; absent without `delays.delayed_s`.
    gauge("tickgate_delayed_sessions_open", "sessions", &["delay_s"], "Open sessions that get everything so many seconds late; tickgate_sessions_open has them too."),
    gauge("tickgate_delayed_ready", "flag", &["delay_s"], "1 when every needed feed is caught up with what is due."),
    counter("tickgate_delayed_records_total", "records", &["delay_s"], "Kafka records read late."),
    counter("tickgate_delayed_symbols_refused_total", "ticks", &["delay_s"], "Ticks of new symbols over the limit of symbols."),
    counter("tickgate_delayed_inbox_full_total", "batches", &["delay_s"], "Batches for which the inbox of a shard had no room."),
    counter("tickgate_delayed_overload_events_total", "events", &["delay_s"], "Events conflated or announced as a gap because a shard was behind."),
    counter("tickgate_delayed_lost_offsets_total", "offsets", &["delay_s"], "Offsets that were gone before they were due: retention is too short."),
    counter("tickgate_delayed_partitions_refused_total", "partitions", &["delay_s"], "Partitions over delays.partitions_max, which are not read late."),
    counter("tickgate_delayed_broker_errors_total", "errors", &["delay_s"], "Errors of brokers and of the way to them."),
    gauge("tickgate_delayed_feed_state", "flag", &["delay_s", "feed", "state"], "1 for the state that a feed is in, 0 for the others."),
    gauge("tickgate_delayed_feed_lag_records", "records", &["delay_s", "feed"], "Records that a feed is behind the end of its topic, of partitions that have something due."),
    gauge("tickgate_delayed_feed_event_timestamp_seconds", "seconds", &["delay_s", "feed"], "Venue clock of the newest event of a feed, since the Unix epoch; absent before the first."),

    // librdkafka's own statistics, by consumer; absent without `kafka.statistics_ms`.
    counter("tickgate_kafka_statistics_total", "texts", &["consumer", "result"], "Texts of statistics that librdkafka wrote, by what became of them."),
    gauge("tickgate_kafka_brokers_known", "brokers", &["consumer", "state"], "Brokers known, by the state of the connection to each; unused ones were not needed yet."),
    gauge("tickgate_kafka_broker_rtt_seconds", "seconds", &["consumer", "q"], "Round trip of requests since the statistics before, of the broker that takes longest; 1 is the maximum. Fetches of the feed wait at the broker for records, up to fetch.wait.max.ms."),
    gauge("tickgate_kafka_throttle_max_seconds", "seconds", &["consumer"], "Longest time for which a broker held back an answer because of a quota, since the statistics before."),
    counter("tickgate_kafka_requests_sent_total", "requests", &["consumer"], "Requests sent to brokers."),
    counter("tickgate_kafka_requests_retried_total", "requests", &["consumer"], "Requests sent again."),
    counter("tickgate_kafka_requests_timed_out_total", "requests", &["consumer"], "Requests that were not answered in time."),
    counter("tickgate_kafka_requests_failed_total", "requests", &["consumer"], "Requests that could not be sent, and answers that could not be received."),
    counter("tickgate_kafka_disconnects_total", "disconnects", &["consumer"], "Connections to brokers that ended, whoever ended them."),
    counter("tickgate_kafka_received_bytes_total", "bytes", &["consumer"], "Bytes received from brokers, compressed as they come."),
    gauge("tickgate_kafka_queue_records", "records", &[], "Records that were fetched for the live feed and that it has not taken yet."),
    gauge("tickgate_kafka_queue_bytes", "bytes", &[], "Bytes of those."),

    // Latency.
    Metric {
        name: "tickgate_latency_seconds",
        kind: Kind::Histogram,
        unit: "seconds",
        labels: &["stage"],
        help: "Time per event and stage of the way, without snapshots and what is replayed; buckets add up over gateways.",
    },
    gauge("tickgate_latency_quantile_seconds", "seconds", &["stage", "q"], "Quantiles over the last seconds, within 0.8 %; 1 is the maximum. Not to be averaged over gateways."),
    gauge("tickgate_latency_window_seconds", "seconds", &[], "How many seconds the quantiles look back."),
    counter("tickgate_latency_negative_total", "events", &["stage"], "Events that took less than no time: the clocks of the stage disagree. In no histogram."),
    counter("tickgate_latency_negative_seconds_total", "seconds", &["stage"], "The sizes of negative times, added up: divided by their number, how far the clocks of the stage disagree."),
    gauge("tickgate_latency_negative_max_seconds", "seconds", &["stage"], "The largest size of a negative time since the start."),
    counter("tickgate_latency_over_range_total", "events", &["stage"], "Events that took longer than the histograms reach (68.7 s)."),

    // The gateway itself.
    gauge("tickgate_gateway_ready", "flag", &[], "1 when the gateway takes clients: every needed feed is caught up and it does not drain."),
    gauge("tickgate_gateway_draining", "flag", &[], "1 once the gateway began to stop."),
    counter("tickgate_trace_spans_total", "spans", &["result"], "Spans for a collector of traces (otlp_endpoint): taken by it, dropped as too many waited, or not taken."),
    counter("tickgate_log_lines_lost_total", "lines", &[], "Log lines left out because standard error took no more."),
    counter("tickgate_panics_total", "panics", &[], "Panics in any thread. One in the turn of a session ends that session, one in what everybody needs the gateway."),
    counter("tickgate_config_reloads_total", "reloads", &["result"], "Reloads that were asked for: taken over, refused, or without a file to read again."),
    gauge("tickgate_config_keys_waiting", "keys", &[], "Keys that were changed, as of the last reload, and need a restart to be in effect."),
    counter("tickgate_admin_refused_total", "requests", &[], "Requests to the admin listener without its token."),
    gauge("tickgate_build_info", "flag", &["version", "profile"], "Always 1; the version and how it was built are the labels."),

    // Limits, to be drawn beside what they limit.
    gauge("tickgate_limit_memory_bytes", "bytes", &[], "The memory ceiling: the sum of all configured bounds."),
    gauge("tickgate_limit_sessions", "sessions", &[], "limits.sessions_max."),
    gauge("tickgate_limit_subscriptions", "subscriptions", &[], "limits.subscriptions_max, per session."),
    gauge("tickgate_limit_subscriptions_all", "subscriptions", &[], "limits.subscriptions_total_max, over all sessions."),
    gauge("tickgate_limit_streams", "streams", &[], "limits.streams_max."),
    gauge("tickgate_limit_reading_bytes", "bytes", &[], "limits.reading_bytes_total_max, over all sessions."),
    gauge("tickgate_limit_book_levels", "levels", &[], "kafka.book_levels_total_max, over all books."),
    gauge("tickgate_limit_symbols", "symbols", &[], "kafka.symbols_max."),
    gauge("tickgate_limit_unseen_symbols", "symbols", &[], "limits.unseen_symbols_max."),
    gauge("tickgate_limit_patterns", "patterns", &[], "limits.patterns_max."),
    gauge("tickgate_limit_auth_pending", "connections", &[], "auth.pending_max."),
    gauge("tickgate_limit_outbox_bytes", "bytes", &[], "outbox.bytes_max, per session."),
    gauge("tickgate_limit_outbox_all_bytes", "bytes", &[], "outbox.total_bytes_max, over all sessions."),
    gauge("tickgate_limit_outbox_entries", "events", &[], "outbox.entries_max, per session."),
    gauge("tickgate_limit_outbox_age_seconds", "seconds", &[], "outbox.age_max_ms."),
    gauge("tickgate_limit_outbox_stall_seconds", "seconds", &[], "outbox.stall_timeout_ms."),
    gauge("tickgate_limit_inbox_batches", "batches", &[], "session.inbox_batches, per shard."),
    gauge("tickgate_limit_inbox_bytes", "bytes", &[], "session.inbox_bytes_max, per shard."),
    gauge("tickgate_limit_replays", "replays", &[], "replay.per_session_max, per session."),
    gauge("tickgate_limit_replays_parts_waiting", "parts", &[], "replay.queue_max."),
    gauge("tickgate_limit_replays_parts_reading", "parts", &[], "replay.consumers_max."),

    // The process, absent where there is no /proc, and its allocator.
    gauge("tickgate_allocator_committed_bytes", "bytes", &[], "Memory that the allocator has of the system to use; not all of it need be resident."),
    gauge("tickgate_allocator_committed_peak_bytes", "bytes", &[], "The most that it ever had."),
    counter("tickgate_thread_cpu_seconds_total", "seconds", &["thread"], "Processor time of threads that live, by kind; kafka is librdkafka's own."),
    counter("process_cpu_seconds_total", "seconds", &[], "Processor time used, of user and system."),
    gauge("process_resident_memory_bytes", "bytes", &[], "Resident memory."),
    gauge("process_open_fds", "files", &[], "Open file descriptors."),
    gauge("process_max_fds", "files", &[], "The limit of open file descriptors."),
    gauge("process_threads", "threads", &[], "Threads."),
    gauge("process_start_time_seconds", "seconds", &[], "When the process started, since the Unix epoch."),
];
