"""The past: one subscription that is played to its end, and begun again when its connection is lost."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Generic

from .errors import Refused, TickgateError
from .events import BookUpdate, Channel, Gap, P, Quote, Status, Trade
from .notices import Ack, Error, Event, ReplayDone, State

if TYPE_CHECKING:
    from .live import Live

_log = logging.getLogger("tickgate")
# How much of the past is played again after a loss, at a given speed: clocks of venues are not Kafka's.
_AGAIN_NS = 60_000_000_000
# With these a request is refused as a whole.
_REFUSALS = frozenset({"bad_request", "forbidden", "rate_limited", "subscription_limit", "unknown_channel", "unknown_symbol"})
# With these one that was granted ends before its time: `replay_done` follows, as if all had come.
_FAILURES = frozenset({"internal", "source_down"})


class Replay(Generic[P], Iterator[Event[P]]):
    """Events of the past, to be iterated once, with `for` or `async for`. It connects when that begins, and ends behind the last event.

    Raises, where it is iterated:
        Refused: it was refused.
        TickgateError: the gateway could not read it (`source_down`), nothing of it is left (`replay_aged_out`), or the connection ended
            for good.
        RuntimeError: with `async for`, it was iterated before, or closed; with `for`, it was iterated with `async for` before.
    """

    def __init__(self, connect: Callable[[], Live[P]], channel: Channel, symbols: list[str], wanted: dict[str, Any]) -> None:
        self._connect = connect
        self._past = _Past(channel, symbols, wanted)
        self._events = self._play()
        self._is_begun = False

    def __iter__(self) -> Replay[P]:
        return self

    def __next__(self) -> Event[P]:
        return next(self._events)

    async def __aiter__(self) -> AsyncIterator[Event[P]]:
        self._begin()
        async with self._connect() as live:
            self._past.begin(live)
            async for event in live:
                if self._past.takes(event, live):
                    yield event
                if self._past.is_over:
                    return

    def close(self) -> None:
        """Ends it, and its connection."""
        self._is_begun = True
        self._events.close()

    def _begin(self) -> None:
        if self._is_begun:
            raise RuntimeError("a replay is iterated once: ask for another one")
        self._is_begun = True

    def _play(self) -> Generator[Event[P], None, None]:
        self._begin()
        with self._connect() as live:
            self._past.begin(live)
            for event in live:
                if self._past.takes(event, live):
                    yield event
                if self._past.is_over:
                    return


class _Past:
    """Where a replay stands, until every symbol and pattern was played.

    After a loss it is asked for again, from the beginning or, where it has a speed, from a minute before the last event; what came
    before is known by its position and discarded.
    """

    def __init__(self, channel: Channel, symbols: list[str], wanted: dict[str, Any]) -> None:
        self.is_over = False
        self._channel = channel
        self._symbols = symbols
        self._wanted = wanted
        self._left = set(symbols)
        self._is_asked = True
        # What was told of why there is no connection.
        self._told = ""
        self._last_ns = 0
        # That some of it is gone, while nothing else has come of it.
        self._aged_out: Error | None = None
        self._has_come = False

    def begin(self, live: Live[Any]) -> None:
        """Asks for it."""
        live._subscribe(self._channel, self._symbols, self._wanted)

    def takes(self, event: Event[Any], live: Live[Any]) -> bool:
        """Whether an event is one of those that are handed out.

        Raises:
            TickgateError: with it the replay has failed.
        """
        if isinstance(event, ReplayDone):
            self._left.discard(event.symbol)
            self.is_over = not self._left
            if self.is_over and self._aged_out is not None and not self._has_come:
                raise TickgateError(self._aged_out.code, f"nothing of it came: {self._aged_out.message}")
            return False
        if isinstance(event, Ack):
            event.check()
        elif isinstance(event, Error):
            self._error(event)
        elif isinstance(event, State):
            if event.state == "reconnecting":
                self._is_asked = False
                if event.reason != self._told:
                    # Who looks at ticks alone waits, and does not know for what.
                    _log.warning("no connection for a replay: %s; trying again", event.reason)
                self._told = event.reason
            elif event.state == "live":
                self._told = ""
                if not self._is_asked:
                    self._is_asked = True
                    live._subscribe(self._channel, sorted(self._left), self._again(), keeps_place=True)
        elif isinstance(event, Gap):
            self._has_come = True
        elif isinstance(event, (Trade, Quote, BookUpdate, Status)):
            self._has_come = True
            self._last_ns = max(self._last_ns, event.event_ns)
        return True

    def _error(self, error: Error) -> None:
        if error.fatal:
            # The client comes back, or raises it itself.
            return
        if error.code in _REFUSALS:
            raise Refused(error.code, error.message, symbol=error.symbol, channel=error.channel)
        if error.code in _FAILURES:
            raise TickgateError(error.code, error.message, symbol=error.symbol, channel=error.channel)
        if error.code == "replay_aged_out":
            self._aged_out = error

    def _again(self) -> dict[str, Any]:
        begin = dict(self._wanted["from"])
        if "speed" in begin:
            begin["time_ns"] = str(max(int(begin["time_ns"]), self._last_ns - _AGAIN_NS))
        return {**self._wanted, "from": begin}
