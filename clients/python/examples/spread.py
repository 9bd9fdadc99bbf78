"""Spreads: for each symbol how wide it was, on average over time and at its widest, and how often it was crossed or locked.

python spread.py --url ws://127.0.0.1:8080/v1/stream --seconds 10
"""

from __future__ import annotations

from contextlib import suppress

from arguments import events, parser, run, symbols
from tickgate import Gap, Live, Quote


class Spread:
    """Of one symbol, weighted by how long each spread stood."""

    def __init__(self) -> None:
        self.quotes = self.crossed = 0
        self.widest = 0.0
        self._sum = self._ns = 0.0
        self._last: Quote[float] | None = None

    def add(self, quote: Quote[float]) -> None:
        """The next quote."""
        last = self._last
        if last is not None and quote.event_ns > last.event_ns:
            stood_ns = quote.event_ns - last.event_ns
            self._sum += (last.ask_price - last.bid_price) * stood_ns
            self._ns += stood_ns
        self.quotes += 1
        self.crossed += quote.ask_price <= quote.bid_price
        self.widest = max(self.widest, quote.ask_price - quote.bid_price)
        self._last = quote

    def lose(self) -> None:
        """Something is missing: nobody knows how long the last one stood."""
        self._last = None

    @property
    def mean(self) -> float | None:
        """Over time; of one quote, of which nobody knows how long it stood, there is none."""
        return self._sum / self._ns if self._ns else None


def main() -> int:
    """The command line."""
    args = parser(__doc__).parse_args()
    spreads: dict[str, Spread] = {}
    with Live(args.url) as live, suppress(KeyboardInterrupt):
        live.subscribe("quotes", symbols(args))
        for event in events(live, args, "quotes"):
            if isinstance(event, Quote):
                spreads.setdefault(event.symbol, Spread()).add(event)
            elif isinstance(event, Gap) and event.symbol in spreads:
                spreads[event.symbol].lose()
    print(f"{'symbol':<12} {'quotes':>8} {'mean':>12} {'widest':>12} {'crossed':>8}")
    for symbol, spread in sorted(spreads.items()):
        mean = "-" if spread.mean is None else f"{spread.mean:.6f}"
        print(f"{symbol:<12} {spread.quotes:>8} {mean:>12} {spread.widest:>12.6f} {spread.crossed:>8}")
    return 0 if spreads else 1


if __name__ == "__main__":
    run(main)
