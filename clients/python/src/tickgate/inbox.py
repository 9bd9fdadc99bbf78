"""The bounded queue between the socket and whoever takes the events."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from .events import BookUpdate, Gap, Quote, Status
from .notices import AnyEvent, Resync, State


class Inbox:
    """Batches of events, in order. At its bound, of events or of bytes as they came, it conflates states if it may, and says that no more
    should be read until half of it was taken.
    """

    def __init__(self, events_max: int, bytes_max: int, *, conflates: bool) -> None:
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._conflates = conflates
        self._lock = threading.Condition()
        # Batches, what they had on the wire, and the newest cursor that came with them or behind.
        self._batches: deque[tuple[list[AnyEvent], int, str | None]] = deque()
        self._cursor: str | None = None
        self._events = 0
        self._bytes = 0
        self._is_full = False
        self._is_closed = False
        self._conflated = 0
        self._on_room: Callable[[], None] | None = None
        self._on_ready: Callable[[], None] | None = None

    @property
    def events(self) -> int:
        """Events that wait to be taken."""
        return self._events

    @property
    def bytes(self) -> int:
        """What they had on the wire."""
        return self._bytes

    @property
    def conflated(self) -> int:
        """Updates that newer ones stand for since this queue was full."""
        return self._conflated

    @property
    def is_closed(self) -> bool:
        """Whether nothing more will come; what is there can still be taken."""
        return self._is_closed

    @property
    def cursor(self) -> str | None:
        """The newest cursor that has nothing behind it but what was taken."""
        return self._cursor

    def on_room(self, call: Callable[[], None]) -> None:
        """`call` is called, in the thread that takes, when the queue was full and is so no more."""
        self._on_room = call

    def put(self, events: list[AnyEvent], size: int, cursor: str | None = None) -> bool:
        """Adds a batch that had `size` bytes, with the cursor that came with it; `False` when it is full now, and reading should stop."""
        with self._lock:
            if self._is_closed:
                return True
            if len(events) == 1 and isinstance(events[0], State) and self._replaces_state(events[0]):
                self._pass(cursor)
                return not self._is_full
            self._batches.append((events, size, cursor))
            self._events += len(events)
            self._bytes += size
            if self._is_over(1.0) and self._conflates:
                self._conflate()
            # One that conflates has to be well below the bound then, so that it does not conflate at every batch.
            self._is_full = self._is_over(0.5 if self._is_full else 1.0)
            is_full = self._is_full
            self._lock.notify()
            ready, self._on_ready = self._on_ready, None
        if ready is not None:
            ready()
        return not is_full

    def pass_cursor(self, cursor: str) -> None:
        """A cursor came, and no event with it."""
        with self._lock:
            self._pass(cursor)

    def take(self, timeout_s: float | None) -> list[AnyEvent] | None:
        """The next batch; `None` when none came in time, or none will come any more."""
        with self._lock:
            if not self._batches and not self._is_closed:
                self._lock.wait(timeout_s)
            return self._pop()

    def take_or_call(self, ready: Callable[[], None]) -> list[AnyEvent] | None:
        """The next batch, or `None`: then `ready` is called, in another thread, when it is worth another look."""
        with self._lock:
            if not self._batches and not self._is_closed:
                self._on_ready = ready
                return None
            return self._pop()

    def close(self) -> None:
        """Nothing more will come."""
        with self._lock:
            self._is_closed = True
            self._lock.notify_all()
            ready, self._on_ready = self._on_ready, None
        if ready is not None:
            ready()

    def _pop(self) -> list[AnyEvent] | None:
        if not self._batches:
            return None
        events, size, cursor = self._batches.popleft()
        self._cursor = cursor or self._cursor
        self._events -= len(events)
        self._bytes -= size
        if self._is_full and not self._is_over(0.5):
            self._is_full = False
            if self._on_room is not None:
                self._on_room()
        return events

    def _pass(self, cursor: str | None) -> None:
        if cursor is None:
            return
        if self._batches:
            events, size, _ = self._batches[-1]
            self._batches[-1] = (events, size, cursor)
        else:
            self._cursor = cursor

    def _is_over(self, part: float) -> bool:
        return self._events >= self._events_max * part or self._bytes >= self._bytes_max * part

    def _replaces_state(self, state: State) -> bool:
        """Of attempts that nobody has seen yet the last one says it all: otherwise they would be without bound."""
        if state.state != "reconnecting" or not self._batches:
            return False
        events = self._batches[-1][0]
        last = events[-1] if events else None
        if not isinstance(last, State) or last.state != "reconnecting":
            return False
        events[-1] = state
        return True

    def _conflate(self) -> None:
        events: list[AnyEvent | None] = [event for batch, _, _ in self._batches for event in batch]
        newest: dict[tuple[str, str], int] = {}
        for at, event in enumerate(events):
            if isinstance(event, (Quote, Status, BookUpdate)):
                key = (event.channel, event.symbol)
                before = newest.get(key)
                if before is not None:
                    _merge(events[before], event)
                    events[before] = None
                newest[key] = at
            elif isinstance(event, (Gap, Resync)):
                # What comes behind it does not stand for what came before.
                newest.pop((event.channel, event.symbol), None)
        left = [event for event in events if event is not None]
        self._conflated += len(events) - len(left)
        self._bytes = self._bytes * len(left) // max(len(events), 1)
        cursors = [cursor for _, _, cursor in self._batches if cursor is not None]
        self._batches = deque([(left, self._bytes, cursors[-1] if cursors else None)])
        self._events = len(left)


def _merge(old: Any, new: Any) -> None:
    """Makes `new` stand for `old` as well."""
    new.merged += old.merged
    new.prev = old.prev
    if isinstance(new, BookUpdate) and not new.snapshot:
        new.bids = list({**dict(old.bids), **dict(new.bids)}.items())
        new.asks = list({**dict(old.asks), **dict(new.asks)}.items())
        new.snapshot = old.snapshot
