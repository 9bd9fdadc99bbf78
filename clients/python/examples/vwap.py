"""The volume-weighted average price of each symbol, exact, with the digits of the feed.

python vwap.py --url ws://127.0.0.1:8080/v1/stream --seconds 10
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from decimal import Decimal

from arguments import events, parser, run, symbols
from tickgate import Gap, Live, Trade


def main() -> int:
    """The command line."""
    args = parser(__doc__).parse_args()
    money: dict[str, Decimal] = defaultdict(Decimal)
    volume: dict[str, Decimal] = defaultdict(Decimal)
    missing: dict[str, int] = defaultdict(int)
    with Live(args.url, prices=Decimal) as live, suppress(KeyboardInterrupt):
        live.subscribe("trades", symbols(args))
        for event in events(live, args, "trades"):
            if isinstance(event, Trade):
                money[event.symbol] += event.price * event.size
                volume[event.symbol] += event.size
            elif isinstance(event, Gap):
                missing[event.symbol] += event.count or 1
    print(f"{'symbol':<12} {'volume':>16} {'vwap':>16}")
    for symbol in sorted(volume):
        note = f"  without {missing[symbol]} trades that are missing" if missing[symbol] else ""
        print(f"{symbol:<12} {volume[symbol]:>16} {money[symbol] / volume[symbol]:>16.6f}{note}")
    return 0 if volume else 1


if __name__ == "__main__":
    run(main)
