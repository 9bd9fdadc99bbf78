"""The way of a tick from its record to the sockets: where does the time go, and what is lost on it?"""

from parts import (
    RED, YELLOW, board, buckets, each, heat, lines, number, of, quantile, quantiles, rate, share, stage, total,
)

# The legs of the way, and the ways they add up to.
# queue_wait is the part of offered_to_written in which a socket refused bytes, of the events that met with it: it adds nothing.
LEGS = ["append_to_ingest", "ingest_to_decoded", "decoded_to_offered", "offered_to_written", "queue_wait"]
WAYS = ["ingest_to_written", "event_to_written", "send_to_written"]

SENT = total("tickgate_events_sent_total")
WRITES = total("tickgate_socket_writes_total")


def mean(name):
    """Mean time of a stage, of all gateways; of no events: 0."""
    took, count = (total(f"tickgate_latency_seconds_{what}", more=stage(name)) for what in ("sum", "count"))
    return share(took, count)


def stats():
    yield number(
        "Deliveries",
        "Events handed to sockets a second, over all gateways; and the bytes of it. What to expect is ticks times fan-out.",
        "eps",
        [(SENT, "events")],
        decimals=0,
    )
    yield number(
        "Fan-out",
        "Events offered for each one encoded: how many sessions share the work of one. Below 1 nobody listens to what is encoded, as when "
        "clients have just left; cost a client rises as it falls.",
        "none",
        [(share(total("tickgate_events_offered_total"), total("tickgate_feed_events_encoded_total")), "sessions an event")],
        decimals=1,
    )
    yield number(
        "Events a write",
        "Events in each write to a socket. It grows by itself under load, which is what keeps a busy gateway from falling behind. "
        "1 under load: see whether clients ask for a flush window (`session.flush_ms`).",
        "none",
        [(share(SENT, WRITES), "events a write")],
        decimals=1,
    )
    yield number(
        "p99 in the gateway",
        "p99 from the read of a record to the write of its event, of the worst gateway. The aim is 10 ms; the panels below say which leg it is.",
        "s",
        [(quantile("ingest_to_written", "0.99"), "p99")],
        [(0.005, YELLOW), (0.01, RED)],
        empty="idle",
    )
    yield number(
        "Memory of slow sessions",
        "What slow sessions hold together, of `outbox.total_bytes_max`, on the worst gateway. At 100 % the largest are ended until a quarter is "
        "free; from 80 % on see `/sessions?top=20` for who they are.",
        "percentunit",
        [(f"max ({of('tickgate_outbox_held_bytes')} / {of('tickgate_limit_outbox_all_bytes')})", "held")],
        [(0.5, YELLOW), (0.8, RED)],
        decimals=1,
    )
    yield number(
        "Writes that stall",
        "Share of writes that a socket refused or took in part: its client, or the way to it, is slower than the data. A few per cent "
        "under bursts are ordinary.",
        "percentunit",
        [(share(total("tickgate_socket_stalls_total"), WRITES), "stalled")],
        [(0.05, YELLOW), (0.25, RED)],
        decimals=1,
    )


def first():
    yield lines(
        "Mean time of each leg",
        "Mean time an event spends on each leg of its way, one above the other. *append_to_ingest* is Kafka; *decoded_to_offered* the way "
        "into the shards (processors); *offered_to_written* the sockets (slow clients, flush windows).",
        "s",
        [(mean(name), name) for name in LEGS if name != "queue_wait"],
        stacked=True,
    )
    yield lines(
        "p99 by stage",
        "p99 of each leg and each whole way, of the worst gateway over its last seconds. *queue_wait* is the part of *offered_to_written* in which "
        "a socket refused bytes: clients, or the way to them. *send_to_written* begins when the producer meant to send, "
        "*event_to_written* at the venue's clock: with them high and all legs low, the time was lost before Kafka.",
        "s",
        [(quantile(name, "0.99"), name) for name in LEGS + WAYS],
        log=True,
        table=True,
        empty="idle: nothing delivered yet",
    )
    yield heat(
        "From the venue's clock to the socket",
        "How old events are when they are written, by the venue's clock, all gateways together. A band that lies high and flat is a clock that is "
        "wrong; one that rises is a backlog.",
        "s",
        buckets("event_to_written"),
    )


def second():
    queued = [(f"max ({of('tickgate_outbox_queued_quantile_bytes', which)})", name) for which, name in tops()]
    yield lines(
        "Queue of a session, bytes",
        "How much is queued for a session: median, p99 and the largest, on the worst gateway, beside the limit of one session. p99 near the limit: "
        "many cannot keep up. Only the largest: one client.",
        "bytes",
        queued + [(f"max ({of('tickgate_limit_outbox_bytes')})", "limit")],
        log=True,
    )
    aged = [(f"max ({of('tickgate_outbox_age_quantile_seconds', which)})", name) for which, name in tops()]
    yield lines(
        "Queue of a session, age",
        "How long the oldest event of a session waits for a socket that refuses it: median, p99, and the oldest of all, beside the age at which "
        "`on_slow` acts and that after which a stalled session ends.",
        "s",
        aged
        + [
            (f"max ({of('tickgate_outbox_age_max_seconds')})", "oldest"),
            (f"max ({of('tickgate_limit_outbox_age_seconds')})", "on_slow acts"),
            (f"max ({of('tickgate_limit_outbox_stall_seconds')})", "stalled: ended"),
        ],
    )
    yield lines(
        "Writes, and those that stall",
        "Writes to sockets a second, and those that a socket refused or took in part. Stalls that follow bursts are small kernel buffers; stalls all the "
        "time are slow clients.",
        "wps",
        [
            (WRITES, "writes"),
            (total("tickgate_socket_stalls_total"), "stalled"),
            (total("tickgate_slow_notices_total"), "clients told that they are slow"),
        ],
        log=True,
    )
    yield lines(
        "Bytes by encoding",
        "Bytes written to sockets a second, by encoding; and those encoded, once each however many get them. Near what the network card or "
        "the provider allows: `session.compression`, or more machines.",
        "Bps",
        [
            (total("tickgate_socket_written_bytes_total", "encoding"), "{{encoding}}"),
            (total("tickgate_feed_encoded_bytes_total"), "encoded"),
        ],
    )


def third():
    yield lines(
        "Batch sizes",
        "Events in a write, events that came of a record, and records in a batch for a shard. Small ones under load: a flush window, or "
        "producers that do not batch. Large ones are how a gateway catches up.",
        "none",
        [
            (share(SENT, WRITES), "events a write"),
            (share(total("tickgate_feed_events_encoded_total"), total("tickgate_feed_records_total")), "events a record"),
            (share(each("tickgate_feed_events_encoded_total"), f"max ({rate('tickgate_shard_batches_total')})"), "events a batch of a shard"),
        ],
    )
    yield lines(
        "What was not sent as it was",
        "Events a second, by what became of them instead. *merged*: an interval of conflation that clients asked for; *conflated*, *skipped*: slow "
        "clients; *closed*: queued as the session ended; *withheld*: not entitled; *overload* and *inbox full*: this gateway is too slow. *held* waits now.",
        "eps",
        [
            (total("tickgate_feed_updates_conflated_total"), "merged"),
            (total("tickgate_events_conflated_total"), "conflated"),
            (total("tickgate_events_dropped_total", "reason"), "{{reason}}"),
            (total("tickgate_gaps_events_total"), "in gaps"),
            (total("tickgate_events_withheld_total"), "withheld"),
            (total("tickgate_feed_overload_events_total"), "overload"),
            (total("tickgate_feed_inbox_full_total"), "inbox full"),
            (f"sum ({of('tickgate_events_held')})", "held now (events)"),
        ],
        table=True,
    )
    frames = total("tickgate_deflate_frames_total", "result")
    yield lines(
        "Compression",
        "Size of compressed payloads, of what they were, and frames a second that became smaller or were given up. Many given up: frames are too "
        "small to gain (`session.compress_bytes_min`). Nothing at all: `session.compression` is off, or no client asks for it.",
        "none",
        [
            (share(total("tickgate_deflate_deflated_bytes_total"), total("tickgate_deflate_plain_bytes_total")), "size after, of before"),
            (frames, "frames {{result}}"),
        ],
    )
    yield lines(
        "Clock skew",
        "By how much two clocks disagree: the largest time below zero that a stage took since the start. How often that is: *less than no time* in "
        "**Runtime**; such times are in no histogram. Over 50 ms: see to NTP on the machines of producers, brokers and gateways.",
        "s",
        [(f"max by (stage) ({of('tickgate_latency_negative_max_seconds')})", "{{stage}}")],
        [(0.05, RED)],
        table=True,
    )


def tops():
    return [('q="0.5"', "median"), ('q="0.99"', "p99"), ('q="1"', "largest")]


def dashboard():
    rows = [
        (4, [(4, panel) for panel in stats()]),
        (6, [(8, panel) for panel in first()]),
        (6, [(6, panel) for panel in second()]),
        (6, [(6, panel) for panel in third()]),
    ]
    return board("delivery", "The way of a tick to the sockets: where does the time go, and what is lost on it?", rows)
