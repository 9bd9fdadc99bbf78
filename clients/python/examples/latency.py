"""How late the stream is: from the gateway's reading of a record to here, with clocks made equal, and from when it was meant to be sent.

python latency.py --url ws://127.0.0.1:8080/v1/stream --seconds 10
"""

from __future__ import annotations

import statistics
from contextlib import suppress

from arguments import events, missing, parser, run
from tickgate import Gap, Live, Quote, Trade

SAMPLES_MAX = 200_000


def main() -> int:
    """The command line."""
    args = parser(__doc__).parse_args()
    sent: list[float] = []
    lost = 0
    with Live(args.url) as live:
        for channel in ("trades", "quotes"):
            live.subscribe(channel, args.symbols)
        with suppress(KeyboardInterrupt):
            for event in events(live, args, "trades and quotes", requests=2):
                is_fresh = isinstance(event, (Trade, Quote)) and not event.snapshot and not event.replay
                if is_fresh and isinstance(event, (Trade, Quote)) and event.send_ns is not None and len(sent) < SAMPLES_MAX:
                    sent.append((event.received_ns - event.send_ns) / 1e6)
                elif isinstance(event, Gap):
                    lost += event.count or 0
        stats = live.stats()
    if not stats.events:
        return 1
    print(f"{stats.events} events, {missing(stats.gaps, lost)}; {stats.conflated} conflated, {stats.reconnects} reconnects")
    for name, value in (
        ("gateway to here, p50", stats.latency_p50_ms),
        ("gateway to here, p99", stats.latency_p99_ms),
        ("gateway's clock ahead by", stats.skew_ms),
        ("there and back", stats.round_trip_ms),
        ("intended sending to here, p50", statistics.median(sent) if sent else None),
        ("intended sending to here, p99", statistics.quantiles(sent, n=100)[98] if len(sent) > 1 else None),
    ):
        print(f"{name:<30} {'unknown' if value is None else f'{value:.3f} ms'}")
    return 0


if __name__ == "__main__":
    run(main)
