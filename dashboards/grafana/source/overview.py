"""The first look: is it well, and if not, where?"""

from parts import (
    FEED, GREEN, GREY, RED, YELLOW, board, buckets, each, expected_age, feed_variable, heat, lines, named_range, not_live, number, of,
    quantile, quantiles, share, states, total, within_range,
)

SLOW = 'reason=~"slow_consumer|stalled"'
LIVE = of("tickgate_feed_state", f'state="live", {FEED}')
CLOSED = f"({of('tickgate_feed_expected', FEED)} == 0) - 1"


def budget():
    return 'min (tickgate:slo:budget_left_ratio30d{job=~"$job"})'


def settled():
    """Events whose fate was settled; not those offered, which may have been so before: more than 100 % of them can be conflated."""
    return " + ".join(total(f"tickgate_events_{what}_total") for what in ("sent", "conflated", "dropped"))


def stats():
    yield number(
        "Feeds",
        "Feeds that are live on every gateway, and those that are stale or down on one at least though their market is open. Look at **Feeds and Kafka**: is it "
        "the producer (its records stopped), a broker (errors), or one gateway alone?",
        "none",
        [
            (f"sum (min by (feed) ({LIVE}))", "live"),
            (not_live(), "not live"),
        ],
    )
    yield number(
        "Worst staleness",
        "Age of the newest Kafka record of the feed that is worst off, of those whose market is open. Over 2 s clients see old prices: "
        "ask the producer's side first, then look at Kafka's lag here.",
        "s",
        [(f"max ({expected_age(FEED)}) or vector(0)", "age")],
        [(2, YELLOW), (10, RED)],
    )
    yield number(
        "Ticks in",
        "Ticks read from Kafka a second. Every gateway reads all of them: this is one gateway's, not the sum. A fall during market "
        "hours means that producers send less, or that a feed is not live.",
        "eps",
        [(each("tickgate_feed_ticks_total"), "ticks")],
        decimals=0,
    )
    yield number(
        "Deliveries",
        "Events handed to sockets a second, over all gateways. Falls while ticks come in: clients left, or something holds them up "
        "(**Delivery**).",
        "eps",
        [(total("tickgate_events_sent_total"), "events")],
        decimals=0,
    )
    yield number(
        "Clients",
        "Open sessions over all gateways. A sudden fall: look below at why sessions ended.",
        "none",
        [(f"sum ({of('tickgate_sessions_open')})", "sessions")],
    )
    for which, name, limits in (("0.99", "p99", [(0.005, YELLOW), (0.01, RED)]), ("0.999", "p99.9", [(0.01, YELLOW), (0.05, RED)])):
        yield number(
            f"{name} delivery",
            f"{name} of the time from reading a record to writing its event to a socket, of the worst gateway over its last seconds. "
            "The aim is 10 ms. High: see which leg is slow in **Delivery**, and whether processors are busy in **Runtime**.",
            "s",
            [(quantile("ingest_to_written", which), name)],
            limits,
            empty="idle",
        )
    yield number(
        "Conflated",
        "Of the events that were sent, replaced or dropped, the share that a newer state replaced because a client read too slowly. A few "
        "clients conflate always; a rising share means that many cannot keep up, or that the way to them is full.",
        "percentunit",
        [(share(total("tickgate_events_conflated_total"), settled()), "conflated")],
        [(0.05, YELLOW), (0.2, RED)],
        decimals=1,
    )
    yield number(
        "Slow ended",
        "Sessions ended because their client read too slowly or not at all, in the time shown. One client that comes again and again "
        "is its owner's affair (`/sessions?top=20`); many at once are the network, or this gateway.",
        "none",
        [(within_range("tickgate_sessions_closed_total", SLOW), "ended")],
        [(1, YELLOW), (100, RED)],
        decimals=0,
        instant=True,
    )
    yield number(
        "Kafka lag",
        "How far the worst feed is behind the end of its topic, in seconds. It should be 0: look at the brokers, at the network, and "
        "whether the feed's thread has a processor for itself.",
        "s",
        [(f"max ({of('tickgate_feed_lag_seconds', FEED)})", "lag")],
        [(0.5, YELLOW), (2, RED)],
    )
    yield number(
        "Gaps",
        "Gaps that clients were told of in the time shown: events are gone for them. By cause in **Delivery**; gaps that are not of slow "
        "consumers concern everybody.",
        "none",
        [(within_range("tickgate_gaps_announced_total"), "gaps")],
        [(1, YELLOW), (100, RED)],
        decimals=0,
        instant=True,
    )
    yield number(
        "Error budget",
        "What is left of the 30 days' error budget of the objective that is worst off; below zero it is overspent. Where Prometheus "
        "has fewer days, it is of those. See which, and how fast it burns, in **SLO**.",
        "percentunit",
        [(budget(), "left")],
        ([(0, YELLOW), (0.25, GREEN)], RED),
        decimals=0,
        empty="no rules",
    )


def dashboard():
    middle = [
        (
            8,
            heat(
                "Delivery latency",
                "How long events took from the read of their record to the write to a socket, all gateways together: the darker, the more "
                "of them. A second band above the first means that some sessions, one gateway or some moments are slower than the rest.",
                "s",
                buckets("ingest_to_written"),
            ),
        ),
        (
            8,
            lines(
                "Delivery latency, quantiles",
                "The same as exact quantiles of the worst gateway over its last seconds; the dashed line is the objective, 10 ms. p50 high: "
                "everything is slow. Only p99.9 and max high: bursts, or a few sessions.",
                "s",
                quantiles("ingest_to_written", but=("p99.99",)),
                [(0.01, RED)],
                log=True,
                empty="idle: nothing delivered yet",
            ),
        ),
        (
            8,
            lines(
                "Rates, and their peaks",
                "Ticks read and events delivered a second, and the highest rate of ticks within any 10 ms and 100 ms: markets come in bursts "
                "that an average over seconds hides. Latency that rises with the peaks alone is the bursts' own length.",
                "eps",
                [
                    (each("tickgate_feed_ticks_total"), "ticks"),
                    (total("tickgate_events_sent_total"), "deliveries"),
                    (f"max by (window) ({of('tickgate_feed_peak_ticks_per_second', FEED)})", "ticks, peak of {{window}}"),
                ],
                log=True,
            ),
        ),
    ]
    lower = [
        (
            8,
            lines(
                "Dropped and conflated",
                "Events that did not reach a client as they were, by what happened to them. *conflated*: a newer state replaced them; "
                "*skipped*: the client chose to lose them and was told; *closed*: its session ended. *overload*: this gateway was too slow "
                "for its own feed, which is never a client's fault: it needs more processors or fewer sessions.",
                "eps",
                [
                    (total("tickgate_events_conflated_total"), "conflated"),
                    (total("tickgate_events_dropped_total", "reason"), "{{reason}}"),
                    (total("tickgate_feed_overload_events_total"), "overload"),
                ],
            ),
        ),
        (
            8,
            lines(
                "Sessions ended, by reason",
                "Sessions that ended a second, by reason. *client* is a goodbye; *slow_consumer* and *stalled* read too slowly; *drain* is a "
                "deployment; *silent* and *io* are lines that broke; *panic* is a fault of ours: take its log line to the issue tracker.",
                "eps",
                [(total("tickgate_sessions_closed_total", "reason"), "{{reason}}")],
                table=True,
            ),
        ),
        (
            8,
            lines(
                "Gaps, by cause",
                "Gaps announced a second, by cause: those of *slow_consumer* concern one client, all others everybody who listens to the "
                "symbol. *retention* and *upstream*: what Kafka lost before it was read. *overload*: this gateway was behind.",
                "eps",
                [(total("tickgate_gaps_announced_total", "cause"), "{{cause}}")],
                table=True,
            ),
        ),
    ]
    fresh = [
        named_range(-1, -1, "closed", GREY, 0),
        named_range(0, 2, "fresh", GREEN, 1),
        named_range(2, 10, "late", YELLOW, 2),
        named_range(10, 1e12, "stale", RED, 3),
    ]
    timeline = states(
        "Freshness of each feed",
        "Age of the newest record of each feed, on the gateway that is worst off: fresh below 2 s, late, stale from 10 s; closed while its "
        "calendar says so. All feeds at once: a broker, or this network. One feed: its producer.",
        "s",
        [(f"max by (feed) (({expected_age(FEED)}) or {CLOSED})", "{{feed}}")],
        fresh,
        ([(0, GREEN), (2, YELLOW), (10, RED)], GREY),
    )
    rows = [(4, [(2, stat) for stat in stats()]), (7, middle), (6, lower), (5, [(24, timeline)])]
    return board("overview", "Is it well? And if not: where to look.", rows, [feed_variable()])
