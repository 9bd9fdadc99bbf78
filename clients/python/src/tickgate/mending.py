"""Books that broke under a pattern: each is subscribed to by its name beside that, which brings its state, and no longer than until that
has come. The pattern, which has the same options, just goes on with it then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .events import BookUpdate
from .judge import IsIts, matches
from .notices import AckResult
from .subscriptions import Options

# Of more books of one pattern the pattern is asked for again as a whole, which is one request.
BY_NAME_MAX = 64

Send = Callable[[str, dict[str, Any], list[str]], None]


class Mending:
    """What was asked for by name. `send` is given what a request is for, its body and the symbols that its answer is about."""

    def __init__(self, send: Send) -> None:
        self._send = send
        # Whether it was granted: the state that comes then is the one that was asked for.
        self._asked: dict[str, bool] = {}

    def clear(self) -> None:
        """The session has ended, and with it what was asked for."""
        self._asked.clear()

    def ask(self, symbols: Iterable[str], options: Options) -> None:
        """Asks for the states of symbols, unless that waits for its answer."""
        wanted = [symbol for symbol in sorted(symbols) if self._asked.get(symbol, True)]
        self._give_up([symbol for symbol in wanted if symbol in self._asked])
        if wanted:
            self._asked.update(dict.fromkeys(wanted, False))
            self._send("mend", {"op": "subscribe", "subscriptions": [{"channel": "book", "symbols": wanted, **options}]}, wanted)

    def answered(self, results: Iterable[AckResult]) -> tuple[list[str], list[str]]:
        """The symbols whose states come now, and those that are refused. What gave way meanwhile is neither."""
        granted: list[str] = []
        refused: list[str] = []
        for result in results:
            if result.symbol in self._asked:
                (granted if result.ok else refused).append(result.symbol)
        self._asked.update(dict.fromkeys(granted, True))
        self.refused(refused)
        return granted, refused

    def refused(self, symbols: Iterable[str]) -> list[str]:
        """They are not granted, or not any more. Gives those that had been asked for."""
        gone = [symbol for symbol in symbols if symbol in self._asked]
        for symbol in gone:
            del self._asked[symbol]
        return gone

    def came(self, events: Iterable[Any]) -> None:
        """Gives up what has its state again."""
        if self._asked:
            books = (event.symbol for event in events if isinstance(event, BookUpdate) and event.snapshot)
            self._give_up({symbol for symbol in books if self._asked.get(symbol)})

    def gives_way(self, names: Iterable[str], is_its: IsIts | None = None) -> list[str]:
        """The user is about to ask for something of these symbols and patterns, or they have ended, and nothing of ours is to be in the
        way, or to outlive them: gives the symbols whose states may not have come. `is_its`: which symbols they bring; all that they mean
        without.
        """
        names = list(names)
        meant = [symbol for symbol in self._asked if any(matches(name, symbol) for name in names)]
        symbols = meant if is_its is None else [symbol for symbol in meant if is_its(symbol)]
        self._give_up(symbols)
        return symbols

    def _give_up(self, symbols: Iterable[str]) -> None:
        gone = sorted(symbols)
        self.refused(gone)
        if gone:
            self._send("again", {"op": "unsubscribe", "subscriptions": [{"channel": "book", "symbols": gone}]}, [])
