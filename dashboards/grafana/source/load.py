"""What the load generator and the simulator say while they run: is the load what it was meant to be, and what do clients see?"""

from parts import RED, YELLOW, board, heat, lines, number, of, rate, total, within_range

ABOUT = '__name__=~"tickgate_load_clients_wanted|tickgate_sim_ticks_wanted_per_second"'


def stats():
    yield number(
        "Clients",
        "Clients that are connected, and those that should be. Fewer: refused, ended, or still coming; see **Sessions and limits** of the gateway.",
        "none",
        [(f"sum ({of('tickgate_load_clients_connected')})", "connected"), (f"sum ({of('tickgate_load_clients_wanted')})", "wanted")],
    )
    yield number(
        "Events received",
        "Events received a second, by all clients. Compare it with what the gateways say they deliver.",
        "eps",
        [(total("tickgate_load_events_received_total"), "events")],
        decimals=0,
    )
    yield number(
        "Lost, unannounced",
        "Events that are missing in a chain without a gap that says so, since the start. Any is a fault of the gateway: keep the report of the run.",
        "none",
        [(f"sum ({of('tickgate_load_events_lost_total')})", "events")],
        [(1, RED)],
    )
    yield number(
        "Gaps",
        "Gaps that clients were told of, in the time shown. Slow and stalled clients have them; healthy ones should not.",
        "none",
        [(within_range("tickgate_load_gaps_total"), "gaps")],
        [(1, YELLOW)],
        decimals=0,
        instant=True,
    )
    yield number(
        "p99 of clients",
        "p99 from when the producer meant to send an event to when a client had read it, of the worst generator. It has the producer, Kafka, the gateway and the network in it.",
        "s",
        [(p99(), "p99")],
        [(0.05, YELLOW), (0.5, RED)],
        empty="idle",
    )
    yield number(
        "Generator behind",
        "How late the generator itself is. Over a few milliseconds its latencies are its own: fewer clients, more processes, or another machine.",
        "s",
        [(f"max ({of('tickgate_load_behind_seconds')})", "behind")],
        [(0.005, YELLOW), (0.05, RED)],
    )


def p99():
    only = 'q="0.99"'
    return f"max ({of('tickgate_load_latency_quantile_seconds', only)})"


def first():
    yield heat(
        "Latency of clients",
        "How old events were when clients had read them, from when the producer meant to send them. Stalled and slow clients make the bands of seconds.",
        "s",
        f"sum by (le) ({rate('tickgate_load_latency_seconds_bucket')})",
    )
    yield lines(
        "Latency of clients, quantiles",
        "The same as quantiles of the worst generator.",
        "s",
        [(f"max by (q) ({of('tickgate_load_latency_quantile_seconds')})", "{{q}}")],
        log=True,
        empty="idle",
    )
    yield lines(
        "Received",
        "Events that clients received a second. Falls while the simulator sends on: look at the gateway.",
        "eps",
        [(total("tickgate_load_events_received_total", "instance"), "{{instance}}")],
    )


def second():
    yield lines(
        "Clients wanted and connected",
        "A gap that stays is refusals; one that comes and goes are clients that return.",
        "none",
        [
            (f"sum ({of('tickgate_load_clients_wanted')})", "wanted"),
            (f"sum ({of('tickgate_load_clients_connected')})", "connected"),
            (total("tickgate_load_reconnects_total"), "reconnects a second"),
        ],
    )
    yield lines(
        "Gaps and losses",
        "Gaps announced to clients a second, and events lost without a word, which must be 0.",
        "eps",
        [(total("tickgate_load_gaps_total"), "gaps"), (total("tickgate_load_events_lost_total"), "lost, unannounced")],
    )
    yield lines(
        "Bytes received",
        "Bytes that clients received a second, as frames come from the socket.",
        "Bps",
        [(total("tickgate_load_bytes_received_total"), "bytes")],
    )


def third():
    yield lines(
        "Ticks sent, and wanted",
        "Ticks that the simulator sent a second beside what it was asked for: markets are bursty, so seconds differ. Below for long: the broker does not take more.",
        "eps",
        [
            (f"sum ({of('tickgate_sim_ticks_wanted_per_second')})", "wanted"),
            (total("tickgate_sim_ticks_sent_total"), "sent"),
            (total("tickgate_sim_ticks_failed_total"), "failed"),
            (f"{total('tickgate_sim_bad_records_sent_total')} or vector(0)", "unreadable on purpose"),
        ],
    )
    yield lines(
        "Lateness of the simulator",
        "How late it sends after the time it meant to. Late by more than a few milliseconds: its machine is busy, and clients' latencies have it in them.",
        "s",
        [(f"max by (q) ({of('tickgate_sim_send_late_seconds')})", "{{q}}")],
    )
    yield lines(
        "Lateness of the generator",
        "How late the generator itself is, of each one. See *Generator behind*.",
        "s",
        [(f"max by (instance) ({of('tickgate_load_behind_seconds')})", "{{instance}}")],
    )


def dashboard():
    rows = [
        (4, [(4, panel) for panel in stats()]),
        (6, [(8, panel) for panel in first()]),
        (6, [(8, panel) for panel in second()]),
        (6, [(8, panel) for panel in third()]),
    ]
    about = "What tickgate-load and tickgate-sim say while they run with --metrics: is the load what it was meant to be, and what do clients see?"
    return board("load", about, rows, about=ABOUT)
