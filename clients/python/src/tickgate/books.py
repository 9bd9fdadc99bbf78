"""The books that a client keeps in step, and what was asked for that brings them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic

from .book import Book
from .events import BookUpdate, Gap, P
from .judge import matches
from .notices import Ack, AnyEvent, AuthAck, Error


class Books(Generic[P]):
    """Books by symbol, in the thread that takes the events; symbols and patterns are asked for in any."""

    def __init__(self) -> None:
        self._books: dict[str, Book[P]] = {}
        # Depths of what was asked for, by symbol or pattern.
        self._depths: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._books or self._depths)

    def asked(self, names: Iterable[str], depth: int) -> None:
        """They are subscribed to."""
        self._depths.update(dict.fromkeys(names, depth))

    def given_up(self, names: Iterable[str]) -> None:
        """They are subscribed to no more."""
        for name in names:
            self._depths.pop(name, None)

    def depth_of(self, symbol: str) -> int | None:
        """The depth of what was asked for that brings a symbol; `None` if nothing does."""
        name = self._name_of(symbol)
        return None if name is None else self._depths[name]

    def _name_of(self, symbol: str) -> str | None:
        """The symbol or pattern that was asked for and brings a symbol: exact beats the longest pattern."""
        names = (symbol, *(symbol[:end] + "*" for end in range(len(symbol), -1, -1)))
        return next((name for name in names if name in self._depths), None)

    def of(self, symbol: str, depth: int | None, last: AnyEvent | None) -> Book[P]:
        """The book of a symbol, from the `last` event that was handed out on."""
        book = self._books.get(symbol)
        if book is None:
            book = self._books[symbol] = Book(symbol, depth or 0)
            if isinstance(last, BookUpdate) and last.symbol == symbol:
                self._apply(book, last)
        return book

    def take(self, event: AnyEvent) -> None:
        """An event is handed out."""
        if isinstance(event, BookUpdate):
            book = self._books.get(event.symbol)
            if book is not None:
                self._apply(book, event)
        elif isinstance(event, Gap):
            if event.channel == "book":
                self._lose(event.symbol)
        elif isinstance(event, (Ack, AuthAck, Error)):
            self._end(event)

    def _lose(self, name: str) -> None:
        """Something of a symbol is missing, or of all that a pattern brings and nothing more specific does."""
        if not name.endswith("*"):
            if name in self._books:
                self._books[name].lose()
            return
        for symbol, book in list(self._books.items()):
            if matches(name, symbol) and self._name_of(symbol) == name:
                book.lose()

    def _apply(self, book: Book[P], update: BookUpdate[Any]) -> None:
        if update.snapshot:
            # Levels that are pushed out are known to whoever brings it: it has to be cut as deep as that does.
            depth = self.depth_of(book.symbol)
            book.depth = book.depth if depth is None else depth
        book.apply(update)

    def _end(self, event: Ack | AuthAck | Error) -> None:
        """What brought them may have ended, and then nothing keeps them in step."""
        if isinstance(event, Ack):
            # Whoever unsubscribed has given them up already, and may have asked for them again.
            names = [result.symbol for result in event.results if result.channel == "book"] if event.op == "unsubscribe" else []
        elif isinstance(event, AuthAck):
            names = [result.symbol for result in event.ended if result.channel == "book"]
            self.given_up(names)
        else:
            names = [event.symbol] if event.symbol is not None and event.channel == "book" and event.has_ended else []
            self.given_up(names)
        for symbol in event.ended_books:
            if symbol in self._books:
                self._books[symbol].lose()
        if not names:
            return
        exact = {name for name in names if not name.endswith("*")}
        patterns = [name for name in names if name.endswith("*")]
        for symbol in list(self._books):
            is_meant = symbol in exact or any(matches(pattern, symbol) for pattern in patterns)
            if is_meant and self.depth_of(symbol) is None:
                self._books.pop(symbol).lose()
