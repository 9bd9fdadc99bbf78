"""The gateways as processes: processors, memory, files, and what must never happen."""

from parts import GREEN, RED, YELLOW, board, lines, number, of, rate, share, total


def stats():
    yield number(
        "Ready",
        "Gateways that take clients, of those that run; and those that drain. Not ready: it catches up with Kafka, or a feed that it needs is not there; "
        "`/readyz` says which.",
        "none",
        [
            (f"sum ({of('tickgate_gateway_ready')})", "ready"),
            (f"count ({of('tickgate_gateway_ready')})", "running"),
            (f"sum ({of('tickgate_gateway_draining')})", "draining"),
        ],
    )
    yield number(
        "Builds",
        "Which version each gateway runs. More than one: a deployment is under way, or was left half done.",
        "none",
        [(f"max by (version) ({of('tickgate_build_info')})", "{{version}}")],
        named=True,
    )
    started = of("process_start_time_seconds")
    yield number(
        "Up for",
        "How long the gateway that was started last is up. Short and nobody deployed: it crashed; exit code 70 is a fault of ours, 137 is the kernel "
        "for want of memory.",
        "dtdurations",
        [(f"min (timestamp({started}) - {started})", "youngest")],
        ([(60, YELLOW), (600, GREEN)], RED),
    )
    yield number(
        "Memory, of the ceiling",
        "Resident memory of the sum of all configured bounds, which is printed at start, on the worst gateway. Over 100 % is a fault of ours.",
        "percentunit",
        [(f"max ({of('process_resident_memory_bytes')} / {of('tickgate_limit_memory_bytes')})", "resident")],
        [(0.8, YELLOW), (1, RED)],
        decimals=1,
    )
    yield number(
        "Books that do not close",
        "Offered minus sent, conflated, dropped and held, summed over all gateways. Other than 0 the gateway lost count of an event: a fault of ours. "
        "Keep `/metrics` and the log, and tell us.",
        "none",
        [(f"sum (abs ({of('tickgate_books_imbalance_events')}))", "events")],
        [(1, RED)],
    )
    yield number(
        "Panics",
        "Panics since the start. One in a session's turn ends that session, one in what everybody needs ends the gateway. Each is a fault of ours: its log "
        "line says where.",
        "none",
        [(f"sum ({of('tickgate_panics_total')})", "panics")],
        [(1, RED)],
    )


def first():
    yield lines(
        "Processor by kind of thread",
        "Processor time a second by kind of thread: 1 is a whole processor. *feed* near 1: reading and encoding is at its end, which more machines do not mend; "
        "fewer symbols or streams do. *shard* near the number of shards: more processors, or more gateways.",
        "none",
        [(total("tickgate_thread_cpu_seconds_total", "thread"), "{{thread}}")],
        stacked=True,
    )
    yield lines(
        "Processor by gateway",
        "Processor time a second of each gateway, all threads together. Uneven: the load balancer, or one with the large clients.",
        "none",
        [(f"sum by (instance) ({rate('process_cpu_seconds_total')})", "{{instance}}")],
    )
    yield lines(
        "Memory",
        "Resident memory of the largest gateway, what its allocator holds and held at most, and the ceiling: the sum of all configured bounds. Resident over "
        "committed is code and librdkafka; a slope under even load is worth a look at *Memory of what*.",
        "bytes",
        [
            (f"max ({of('process_resident_memory_bytes')})", "resident"),
            (f"max ({of('tickgate_allocator_committed_bytes')})", "allocator"),
            (f"max ({of('tickgate_allocator_committed_peak_bytes')})", "allocator, peak"),
            (f"max ({of('tickgate_limit_memory_bytes')})", "ceiling"),
        ],
    )
    yield lines(
        "Memory of what",
        "What grows with clients: queues of slow sessions, bytes queued, and requests half read. The first two fall when slow clients catch up or are ended.",
        "bytes",
        [
            (f"sum ({of('tickgate_outbox_held_bytes')})", "slow sessions"),
            (f"sum ({of('tickgate_outbox_queued_bytes')})", "queued, shared counted for each"),
            (f"sum ({of('tickgate_requests_reading_bytes')})", "requests"),
            (total("tickgate_replays_record_bytes_total"), "read again by replays, a second"),
        ],
    )


def second():
    yield lines(
        "Open files and threads",
        "File descriptors of the gateway with the most, and their limit; and threads. At the limit newcomers are refused: raise it where the gateway is "
        "started (`LimitNOFILE`, `ulimit -n`).",
        "none",
        [
            (f"max ({of('process_open_fds')})", "files"),
            (f"max ({of('process_max_fds')})", "files, limit"),
            (f"max ({of('process_threads')})", "threads"),
        ],
        log=True,
    )
    yield lines(
        "What a delivery costs",
        "Processor time for each event delivered, all threads together. It falls under load, as writes hold more. A step up after a release or a change of "
        "configuration (TLS, compression, rights) is its price.",
        "s",
        [(share(total("process_cpu_seconds_total"), total("tickgate_events_sent_total")), "processor time an event")],
    )
    yield lines(
        "Batches by shard",
        "Batches that each shard took from the feed a second, and how often an inbox had no room. Shards take the same when all have listeners. "
        "Inboxes that are full: a shard without a processor.",
        "eps",
        [
            (total("tickgate_shard_batches_total", "instance, shard"), "{{shard}} of {{instance}}"),
            (total("tickgate_feed_inbox_full_total"), "inbox full"),
        ],
        table=True,
    )
    yield lines(
        "Must stay 0",
        "What should never be, each a second. *log lines lost*: whoever reads standard error is too slow. *audit lines left out*: a flood of attempts. *dead letters lost*, *panics*: see the log. "
        "*less than no time*: clocks disagree (**Delivery**); *over range*: an event took over a minute. "
        "*admin refused*: somebody asks for metrics without the token.",
        "eps",
        [
            (total("tickgate_log_lines_lost_total"), "log lines lost"),
            (total("tickgate_audit_lines_left_out_total", "of"), "audit lines left out: {{of}}"),
            (total("tickgate_panics_total"), "panics"),
            (total("tickgate_feed_dead_letters_lost_total"), "dead letters lost"),
            (total("tickgate_latency_negative_total"), "less than no time"),
            (total("tickgate_latency_over_range_total"), "over range"),
            (total("tickgate_admin_refused_total"), "admin refused"),
        ],
        table=True,
    )


def third():
    yield lines(
        "Configuration",
        "Reloads that were asked for, by result, in the time shown, and keys that were changed and wait for a restart. *refused*: the log lists what is wrong; "
        "the old configuration stays in effect.",
        "none",
        [
            (f"sum by (result) (increase({of('tickgate_config_reloads_total')}[$__range]))", "{{result}}"),
            (f"max ({of('tickgate_config_keys_waiting')})", "keys waiting"),
        ],
    )
    yield lines(
        "Scrapes",
        "How long Prometheus waits for a gateway's metrics. Over 50 ms: its machine is busy, as the admin thread reads copies and waits for nobody.",
        "s",
        [(f"max by (instance) ({of('scrape_duration_seconds')})", "{{instance}}")],
        [(0.05, RED)],
    )
    yield lines(
        "Size of a scrape",
        "Samples in each scrape. It grows with feeds, partitions and shards, never with clients or symbols.",
        "none",
        [(f"max by (instance) ({of('scrape_samples_scraped')})", "{{instance}}")],
    )
    yield lines(
        "Window of the quantiles",
        "How many seconds the exact quantiles look back. It should be longer than the interval of scrapes: what is worst between two of them would be missed otherwise.",
        "s",
        [(f"min ({of('tickgate_latency_window_seconds')})", "shortest")],
    )


def dashboard():
    rows = [
        (4, [(4, panel) for panel in stats()]),
        (6, [(6, panel) for panel in first()]),
        (6, [(6, panel) for panel in second()]),
        (6, [(6, panel) for panel in third()]),
    ]
    return board("runtime", "The gateways as processes: processors, memory, files, and what must never happen.", rows)
