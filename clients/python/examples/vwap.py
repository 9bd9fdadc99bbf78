"""The volume-weighted average price of each symbol, exact, with the digits of the feed.

python vwap.py --url ws://127.0.0.1:8080/v1/stream --seconds 10
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from decimal import Decimal

from arguments import events, parser, rows, run, tell_rest
from tickgate import Gap, Live, Trade


def main() -> int:
    """The command line."""
    args = parser(__doc__, is_table=True).parse_args()
    money: dict[str, Decimal] = defaultdict(Decimal)
    volume: dict[str, Decimal] = defaultdict(Decimal)
    counts: dict[str, int] = defaultdict(int)
    gaps: dict[str, list[int | None]] = defaultdict(list)
    with Live(args.url, prices=Decimal) as live, suppress(KeyboardInterrupt):
        live.subscribe("trades", args.symbols)
        for event in events(live, args, "trades"):
            if isinstance(event, Trade):
                money[event.symbol] += event.price * event.size
                volume[event.symbol] += event.size
                counts[event.symbol] += 1
            elif isinstance(event, Gap):
                gaps[event.symbol].append(event.count)
    if not volume:
        return 1
    print(f"{'symbol':<12} {'volume':>16} {'vwap':>16}")
    for symbol in rows(counts, args):
        vwap = f"{money[symbol] / volume[symbol]:.6f}" if volume[symbol] else "-"
        print(f"{symbol:<12} {volume[symbol]:>16} {vwap:>16}{missing(gaps[symbol])}")
    tell_rest(counts, args)
    return 0


def missing(counts: list[int | None]) -> str:
    """What a symbol's gaps say, each of which may know how many trades it is."""
    known = [count for count in counts if count is not None]
    if not counts:
        return ""
    said = f"  {len(counts)} gap{'s' if len(counts) > 1 else ''}"
    return f"{said}, {sum(known)} trades where known" if known else said


if __name__ == "__main__":
    run(main)
