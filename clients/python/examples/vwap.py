"""The volume-weighted average price of each symbol, exact, with the digits of the feed.

python vwap.py --url ws://127.0.0.1:8080/v1/stream --seconds 10
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal

from arguments import events, is_of, missing, parser, rows, run, tell_rest
from tickgate import Gap, Live, Trade


def main() -> int:
    """The command line."""
    args = parser(__doc__, is_table=True).parse_args()
    money: dict[str, Decimal] = defaultdict(Decimal)
    volume: dict[str, Decimal] = defaultdict(Decimal)
    counts: dict[str, int] = defaultdict(int)
    # By the symbol or pattern that a gap is of: how many there were, and how many events those lost that know it.
    gaps: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    with Live(args.url, prices=Decimal) as live, suppress(KeyboardInterrupt):
        live.subscribe("trades", args.symbols)
        for event in events(live, args, "trades"):
            if isinstance(event, Trade):
                money[event.symbol] += event.price * event.size
                volume[event.symbol] += event.size
                counts[event.symbol] += 1
            elif isinstance(event, Gap):
                gaps[event.symbol][0] += 1
                gaps[event.symbol][1] += event.count or 0
    if not volume:
        return 1
    print(f"{'symbol':<12} {'volume':>16} {'vwap':>16}")
    for symbol in rows(counts, args):
        vwap = f"{money[symbol] / volume[symbol]:.6f}" if volume[symbol] else "-"
        print(f"{symbol:<12} {volume[symbol]:>16} {vwap:>16}{missing_of(symbol, gaps)}")
    tell_rest(counts, args)
    return 0


def missing_of(symbol: str, gaps: Mapping[str, list[int]]) -> str:
    """What is missing of a symbol, by its name and by patterns."""
    meant = [counts for name, counts in gaps.items() if is_of(name, symbol)]
    return f"  {missing(*map(sum, zip(*meant, strict=True)))}" if meant else ""


if __name__ == "__main__":
    run(main)
