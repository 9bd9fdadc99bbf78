"""What comes from Kafka: is it there, is it fresh, is it whole?"""

from parts import (
    FEED, GREEN, RED, YELLOW, board, each, expected_age, feed_age, feed_variable, lines, named_values, not_live, number, of, quantiles,
    rate, states, within_range,
)


def state(name):
    return of("tickgate_feed_state", f'state="{name}", {FEED}')


def live_late():
    return of("tickgate_delayed_feed_state", 'state="live"')


def round_trip():
    return of("tickgate_kafka_broker_rtt_seconds", 'q="0.99"')


def trouble_late():
    names = ("symbols_refused", "inbox_full", "overload_events", "partitions_refused", "broker_errors")
    return " + ".join(rate(f"tickgate_delayed_{name}_total") for name in names)


def stats():
    yield number(
        "Feeds not live",
        "Feeds that are stale or down on a gateway at least, though their market is open. *stale*: its topic is silent for longer than `silence_ms`; *down*: no broker answers. "
        "Stale on all gateways is the producer, on one of them its way to Kafka.",
        "none",
        [(not_live(), "not live")],
        [(1, RED)],
    )
    yield number(
        "Partitions catching up",
        "Partitions that a gateway has not read to their end since it started. While there are any, it is not ready. Stays above 0: read "
        "faster (processors, network), or warm up less (`kafka.warm_up_s`).",
        "none",
        [(f"sum (1 - {of('tickgate_partition_caught_up', FEED)})", "partitions")],
        [(1, YELLOW)],
    )
    yield number(
        "Worst staleness",
        "Age of the newest record of the feed that is worst off, of those whose market is open. Over 2 s: ask the producer's side.",
        "s",
        [(f"max ({expected_age(FEED)}) or vector(0)", "age")],
        [(2, YELLOW), (10, RED)],
    )
    yield number(
        "Records read",
        "Records read from Kafka a second, by the gateway that reads most; all read the same. And the bytes of their values.",
        "recps",
        [(each("tickgate_feed_records_total"), "records")],
    )
    yield number(
        "Bytes read",
        "Bytes of the values of records read a second, by the gateway that reads most. Near what the network or the broker gives, the "
        "lag grows: compress on the producer's side, or spread the topic.",
        "Bps",
        [(each("tickgate_feed_record_bytes_total"), "bytes")],
    )
    yield number(
        "Unreadable",
        "Records, or parts of them, that could not be read and were skipped, in the time shown. They are lost for clients. By reason below; "
        "`kafka.dead_letter_topic` keeps copies for their producer.",
        "none",
        [(within_range("tickgate_feed_bad_records_total"), "records")],
        [(1, YELLOW), (1000, RED)],
        decimals=0,
        instant=True,
    )


def first():
    down = f"max by (feed) ({state('stale')} + on (job, instance, feed) 2 * {state('down')})"
    yield states(
        "State of each feed",
        "What each feed is on the gateway that is worst off. *stale*: silent for longer than its `silence_ms`; *down*: no broker answers. Stale and "
        "live in turns: the feed is slow by nature, so give it a longer `silence_ms`.",
        "none",
        [(down, "{{feed}}")],
        named_values({0: ("live", GREEN), 1: ("stale", YELLOW), 2: ("down", RED)}),
        [(1, YELLOW), (2, RED)],
    )
    venue = of("tickgate_feed_event_timestamp_seconds", FEED)
    yield lines(
        "Age of the newest record",
        "Seconds since Kafka got the newest record of a feed, and by the venue's own clock since its newest event. Both rise: nothing comes. Only the "
        "venue's: its data is late before it is in Kafka, or its clock is wrong.",
        "s",
        [
            (f"max by (feed) ({feed_age(FEED)})", "{{feed}}"),
            (f"max by (feed) (timestamp({venue}) - {venue})", "{{feed}}, venue clock"),
        ],
        [(2, RED)],
        log=True,
        empty="nothing read yet",
    )
    yield lines(
        "Lag, seconds",
        "How old the last record read of a partition is while there is more behind it; 0 when it is caught up. One partition: its leader. "
        "All of them: this gateway's thread or its network. Over 2 s for 2 minutes somebody is told.",
        "s",
        [
            (f"max by (feed) ({of('tickgate_feed_lag_seconds', FEED)})", "{{feed}}"),
            (f"max by (feed, partition) ({of('tickgate_partition_lag_seconds', FEED)})", "{{feed}}/{{partition}}"),
        ],
        [(2, RED)],
        table=True,
    )
    yield lines(
        "Lag, records",
        "Records between the last one read and the end of a partition, as the broker last told. A saw-tooth is its fetches; a slope is a "
        "gateway that reads more slowly than producers write.",
        "none",
        [
            (f"max by (feed) ({of('tickgate_feed_lag_records', FEED)})", "{{feed}}"),
            (f"max by (feed, partition) ({of('tickgate_partition_lag_records', FEED)})", "{{feed}}/{{partition}}"),
        ],
        table=True,
    )


def second():
    grown = f"max by (feed) (sum by (instance, feed) (rate({of('tickgate_partition_high_watermark_offset', FEED)}[$__rate_interval])))"
    read = f"max by (feed) (sum by (instance, feed) (rate({of('tickgate_partition_next_offset', FEED)}[$__rate_interval])))"
    yield lines(
        "Written and read",
        "Offsets by which each topic grew a second, and by which reading went on. Apart for long: the lag grows. Both 0: nobody produces.",
        "recps",
        [(grown, "{{feed}} written"), (read, "{{feed}} read")],
    )
    yield lines(
        "Ticks by channel, and peaks",
        "Ticks read a second, by channel, and the highest rate within any 10 ms and 100 ms by feed. A channel that is missing: its producer "
        "writes another `type`, or other records (see *Unreadable*).",
        "eps",
        [
            (each("tickgate_feed_ticks_total", "channel"), "{{channel}}"),
            (f"max by (feed, window) ({of('tickgate_feed_peak_ticks_per_second', FEED)})", "{{feed}}, peak of {{window}}"),
        ],
        log=True,
    )
    yield lines(
        "Unreadable, by reason",
        "Records, or parts of them, that were skipped a second, by reason. The log names a few with their offset; the producer has to mend "
        "them. *oversize*: `kafka.record_bytes_max`. *dead letters lost*: the dead-letter topic takes none.",
        "recps",
        [
            (each("tickgate_feed_bad_records_total", "reason"), "{{reason}}"),
            (each("tickgate_feed_dead_letters_total"), "dead letters"),
            (each("tickgate_feed_dead_letters_lost_total"), "dead letters lost"),
        ],
        table=True,
    )
    yield lines(
        "Incidents",
        "What should not happen, each a second. *offsets lost*: retention took records before they were read: a longer retention, or a faster "
        "gateway. *broker errors*, *reconnects*: the brokers or the way to them. *stray*, *discarded*: read twice (`repeated`) or not usable; harmless "
        "after a rebuild of a topic. *symbols refused*: `kafka.symbols_max`. *levels trimmed*: `kafka.book_levels_max`. *clock ahead*: a venue's or a producer's is wrong.",
        "eps",
        [
            (each("tickgate_feed_lost_offsets_total"), "offsets lost"),
            (each("tickgate_feed_broker_errors_total"), "broker errors"),
            (each("tickgate_feed_reconnects_total"), "reconnects"),
            (each("tickgate_feed_ticks_discarded_total", "reason"), "discarded: {{reason}}"),
            (each("tickgate_feed_stray_records_total"), "stray"),
            (each("tickgate_feed_symbols_refused_total"), "symbols refused"),
            (each("tickgate_feed_clock_ahead_total"), "venue's clock ahead"),
            (each("tickgate_feed_book_levels_trimmed_total"), "levels trimmed"),
            (each("tickgate_feed_topics_recreated_total"), "topics re-created"),
            (each("tickgate_feed_partitions_added_total"), "partitions added"),
        ],
        table=True,
    )


def third():
    yield lines(
        "Kafka to gateway",
        "Time from when Kafka says it got a record to when it was read here, of the worst gateway. It is to be believed as far as the clocks agree "
        "(**Delivery**, clock skew). High with no lag: producers gather for long (`linger.ms`), or fetches wait (`fetch.wait.max.ms`).",
        "s",
        quantiles("append_to_ingest", but=("p99.99",)),
        log=True,
        empty="idle: nothing read yet",
    )
    yield lines(
        "State kept, of what there may be",
        "Symbols and book levels that are kept, as parts of their limits. At 100 % new symbols are refused, and books lose their worst levels: "
        "raise `kafka.symbols_max` or `kafka.book_levels_total_max` (the memory ceiling grows with them).",
        "percentunit",
        [
            (f"max ({of('tickgate_feed_symbols_known')} / {of('tickgate_limit_symbols')})", "symbols"),
            (f"max ({of('tickgate_feed_book_levels_kept')} / {of('tickgate_limit_book_levels')})", "book levels"),
            (f"max ({of('tickgate_feed_books_kept')} / {of('tickgate_limit_symbols')})", "books, of symbols"),
        ],
        [(0.8, RED)],
        top=1,
    )
    late = "by (delay_s)"
    yield lines(
        "Delayed data",
        "What is read a second for clients that get it late, by delay; the same of lost offsets, full inboxes and other trouble, which should be 0; "
        "and how far those feeds are behind in records. Lost offsets: Kafka's retention is shorter than the delay.",
        "none",
        [
            (f"max {late} ({rate('tickgate_delayed_records_total')})", "{{delay_s}} s: records"),
            (f"max {late} ({of('tickgate_delayed_feed_lag_records')})", "{{delay_s}} s: lag"),
            (f"sum {late} (1 - {of('tickgate_delayed_ready')})", "{{delay_s}} s: not ready"),
            (f"sum {late} (1 - {live_late()})", "{{delay_s}} s: feeds not live"),
            (f"max {late} ({rate('tickgate_delayed_lost_offsets_total')})", "{{delay_s}} s: offsets lost"),
            (f"max {late} ({trouble_late()})", "{{delay_s}} s: other trouble"),
        ],
        table=True,
        empty="no delays.delayed_s",
    )
    yield lines(
        "Brokers, as librdkafka sees them",
        "Round trip of requests to brokers (p99) by librdkafka's own statistics, which `kafka.statistics_ms` turns on. What the tracker asks is answered at "
        "once: high, it is busy brokers, or the way to them; look at them before the lag grows. Fetches of the feed wait for records, up to `fetch.wait.max.ms`.",
        "s",
        [(f"max by (instance, consumer) ({round_trip()})", "{{instance}} {{consumer}}")],
        empty="kafka.statistics_ms is 0",
    )


def dashboard():
    rows = [
        (4, [(4, panel) for panel in stats()]),
        (6, [(6, panel) for panel in first()]),
        (6, [(6, panel) for panel in second()]),
        (6, [(6, panel) for panel in third()]),
    ]
    return board("feeds", "What comes from Kafka: is it there, is it fresh, is it whole?", rows, [feed_variable()])
