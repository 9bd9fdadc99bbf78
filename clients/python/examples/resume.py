"""Counts trades through whatever happens: kill the gateway, or cut the line, and see that none is missing or double.

python resume.py --url ws://127.0.0.1:8080/v1/stream --seconds 60
"""

from __future__ import annotations

import argparse

from tickgate import Error, Gap, GoAway, Live, State, Trade


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="ws://127.0.0.1:8080/v1/stream")
    parser.add_argument("--symbols", default="*")
    parser.add_argument("--seconds", type=float, default=10)
    args = parser.parse_args()
    trades = replayed = 0
    with Live(args.url) as live:
        live.subscribe("trades", args.symbols.split(","))
        for event in live.events(args.seconds):
            if isinstance(event, Trade):
                trades += 1
                replayed += event.replay
            elif isinstance(event, (State, GoAway, Gap, Error)):
                print(f"{trades:>8} trades, then {event}", flush=True)
        stats = live.stats()
    print(f"{trades:>8} trades, {replayed} of them missed at first and given again")
    print(f"{stats.reconnects} reconnects, {stats.duplicates} duplicates discarded, {stats.gaps} gaps, {stats.unannounced} untold")


if __name__ == "__main__":
    main()
