"""How much more is bid than offered in the best five levels of each book: 1 is all bids, -1 all asks.

python imbalance.py --url ws://127.0.0.1:8080/v1/stream --symbols 'BTC*' --seconds 10
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress

from arguments import events, parser, rows, run, tell_rest
from tickgate import BookUpdate, Live

LEVELS = 5


def main() -> int:
    """The command line."""
    args = parser(__doc__, is_table=True).parse_args()
    last: dict[str, float] = {}
    sums: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    with Live(args.url) as live, suppress(KeyboardInterrupt):
        live.subscribe("book", args.symbols, depth=LEVELS, conflate_ms=100)
        for event in events(live, args, "books"):
            if not isinstance(event, BookUpdate):
                continue
            # Kept in step while events are taken. Behind a gap it is empty until the next snapshot.
            book = live.book(event.symbol, subscribe=False)
            bid = sum(level.size for level in book.bids(LEVELS))
            ask = sum(level.size for level in book.asks(LEVELS))
            if bid + ask > 0:
                last[book.symbol] = (bid - ask) / (bid + ask)
                sums[book.symbol] += last[book.symbol]
                counts[book.symbol] += 1
    if not last:
        return 1
    print(f"{'symbol':<12} {'mean':>8} {'last':>8} {'updates':>8}")
    for symbol in rows(counts, args):
        print(f"{symbol:<12} {sums[symbol] / counts[symbol]:>8.3f} {last[symbol]:>8.3f} {counts[symbol]:>8}")
    tell_rest(counts, args)
    return 0


if __name__ == "__main__":
    run(main)
