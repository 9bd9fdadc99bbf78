"""An order book that is kept in step with its stream."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Any, Generic, NamedTuple

from .events import BookUpdate, P


class Level(NamedTuple):
    """A price and the size that stands there."""

    price: Any
    size: Any


class Side(Generic[P]):
    """One side of a book: prices in order, and the size at each."""

    def __init__(self) -> None:
        self._prices: list[Any] = []
        self._sizes: dict[Any, P] = {}

    def __len__(self) -> int:
        return len(self._prices)

    def clear(self) -> None:
        """No levels."""
        self._prices.clear()
        self._sizes.clear()

    def set(self, price: P, size: P) -> None:
        """The size at a price is so much now; 0 removes it."""
        if not size:
            if self._sizes.pop(price, None) is not None:
                del self._prices[bisect_left(self._prices, price)]
            return
        if price not in self._sizes:
            insort(self._prices, price)
        self._sizes[price] = size

    def cut_low(self, levels: int) -> None:
        """Keeps the highest so many."""
        while len(self._prices) > levels:
            del self._sizes[self._prices.pop(0)]

    def cut_high(self, levels: int) -> None:
        """Keeps the lowest so many."""
        while len(self._prices) > levels:
            del self._sizes[self._prices.pop()]

    def low(self, levels: int) -> list[Level]:
        """The lowest so many, in rising order."""
        return [Level(price, self._sizes[price]) for price in self._prices[:levels]]

    def high(self, levels: int) -> list[Level]:
        """The highest so many, in falling order."""
        highest = self._prices[-levels:] if levels else []
        return [Level(price, self._sizes[price]) for price in reversed(highest)]


class Book(Generic[P]):
    """The book of a symbol, as of the last event that was handed out.

    It changes while events are taken, in the thread that takes them, and never on its own. `is_complete` is false before the first
    snapshot, and from a gap on until the next one: then it has no levels, since nobody knows which are still there.
    """

    def __init__(self, symbol: str, depth: int = 0) -> None:
        self.symbol = symbol
        self.depth = depth
        self.is_complete = False
        self.seq: str | None = None
        self.event_ns: int | None = None
        self.updates = 0
        self._bids: Side[P] = Side()
        self._asks: Side[P] = Side()

    def apply(self, update: BookUpdate[P]) -> None:
        """Takes the next event of the book. Before a snapshot there is nothing that it could change."""
        if update.snapshot:
            self._bids.clear()
            self._asks.clear()
            self.is_complete = True
        elif not self.is_complete:
            return
        for price, size in update.bids:
            self._bids.set(price, size)
        for price, size in update.asks:
            self._asks.set(price, size)
        if self.depth:
            # What is pushed out is not spoken of any more, and comes again when it is back.
            self._bids.cut_low(self.depth)
            self._asks.cut_high(self.depth)
        self.seq = update.seq
        self.event_ns = update.event_ns
        self.updates += 1

    def lose(self) -> None:
        """Something is missing: until the next snapshot nothing can be said."""
        self._bids.clear()
        self._asks.clear()
        self.is_complete = False

    def bids(self, levels: int | None = None) -> list[Level]:
        """Bids, best first: all, or the best so many."""
        return self._bids.high(len(self._bids) if levels is None else levels)

    def asks(self, levels: int | None = None) -> list[Level]:
        """Asks, best first: all, or the best so many."""
        return self._asks.low(len(self._asks) if levels is None else levels)

    @property
    def best_bid(self) -> Level | None:
        """The highest bid."""
        best = self._bids.high(1)
        return best[0] if best else None

    @property
    def best_ask(self) -> Level | None:
        """The lowest ask."""
        best = self._asks.low(1)
        return best[0] if best else None

    def __repr__(self) -> str:
        state = "" if self.is_complete else ", not complete"
        return f"Book({self.symbol!r}, bid={self.best_bid}, ask={self.best_ask}{state})"
