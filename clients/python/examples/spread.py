"""Spreads: for each symbol how wide it was, on average over time and at its widest, in basis points of the mid, and how often it was
crossed or locked.

python spread.py --url ws://127.0.0.1:8080/v1/stream --seconds 10
"""

from __future__ import annotations

from contextlib import suppress

from arguments import events, is_of, parser, rows, run, tell_rest
from tickgate import Gap, Live, Quote


class Spread:
    """Of one symbol, weighted by how long each spread stood."""

    def __init__(self) -> None:
        self.quotes = self.crossed = 0
        self.widest_bps: float | None = None
        self._sum = self._ns = 0.0
        # The last spread, and since when it stands.
        self._last: tuple[float, int] | None = None

    def add(self, quote: Quote[float]) -> None:
        """The next quote."""
        if self._last is not None and quote.event_ns > self._last[1]:
            stood_ns = quote.event_ns - self._last[1]
            self._sum += self._last[0] * stood_ns
            self._ns += stood_ns
        self.quotes += 1
        self.crossed += quote.ask_price <= quote.bid_price
        mid = (quote.bid_price + quote.ask_price) / 2
        # Around a mid of nothing, or below, it is no part of anything.
        bps = (quote.ask_price - quote.bid_price) / mid * 10_000 if mid > 0 else None
        if bps is not None and (self.widest_bps is None or bps > self.widest_bps):
            self.widest_bps = bps
        self._last = None if bps is None else (bps, quote.event_ns)

    def lose(self) -> None:
        """Something is missing: nobody knows how long the last one stood."""
        self._last = None

    @property
    def mean_bps(self) -> float | None:
        """Over time; of one quote, of which nobody knows how long it stood, there is none."""
        return self._sum / self._ns if self._ns else None


def main() -> int:
    """The command line."""
    args = parser(__doc__, is_table=True).parse_args()
    spreads: dict[str, Spread] = {}
    with Live(args.url) as live, suppress(KeyboardInterrupt):
        live.subscribe("quotes", args.symbols)
        for event in events(live, args, "quotes"):
            if isinstance(event, Quote):
                spreads.setdefault(event.symbol, Spread()).add(event)
            elif isinstance(event, Gap):
                for spread in (spreads[symbol] for symbol in spreads if is_of(event.symbol, symbol)):
                    spread.lose()
    if not spreads:
        return 1
    counts = {symbol: spread.quotes for symbol, spread in spreads.items()}
    print(f"{'symbol':<12} {'quotes':>8} {'mean bps':>12} {'widest bps':>12} {'crossed':>8}")
    for symbol in rows(counts, args):
        spread = spreads[symbol]
        mean, widest = ("-" if bps is None else f"{bps:.3f}" for bps in (spread.mean_bps, spread.widest_bps))
        print(f"{symbol:<12} {spread.quotes:>8} {mean:>12} {widest:>12} {spread.crossed:>8}")
    tell_rest(counts, args)
    return 0


if __name__ == "__main__":
    run(main)
