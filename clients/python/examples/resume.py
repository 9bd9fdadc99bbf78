"""Counts trades through whatever happens: kill the gateway, or cut the line, and see that none is missing or double.
Exit code 1 where one is missing.

python resume.py --url ws://127.0.0.1:8080/v1/stream --seconds 60
"""

from __future__ import annotations

from contextlib import suppress

from arguments import events, missing, parser, run
from tickgate import Error, Gap, GoAway, Live, State, Trade


def main() -> int:
    """The command line."""
    args = parser(__doc__).parse_args()
    trades = replayed = lost = 0
    state = ""
    with Live(args.url) as live:
        live.subscribe("trades", args.symbols)
        with suppress(KeyboardInterrupt):
            for event in events(live, args, "trades"):
                if isinstance(event, Trade):
                    trades += 1
                    replayed += event.replay
                elif isinstance(event, (GoAway, Gap, Error)) or (isinstance(event, State) and event.state != state):
                    # Of attempts to connect, the first.
                    print(f"{trades:>8} trades, then {event}", flush=True)
                if isinstance(event, State):
                    state = event.state
                if isinstance(event, Gap):
                    lost += event.count or 0
        stats = live.stats()
    print(f"{trades:>8} trades, {replayed} of them missed at first and given again")
    gaps = missing(stats.gaps, lost)
    print(f"{stats.reconnects} reconnects, {stats.duplicates} duplicates discarded; {gaps}; {stats.unannounced} of them untold")
    return 0 if trades and not stats.gaps else 1


if __name__ == "__main__":
    run(main)
