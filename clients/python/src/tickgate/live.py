"""`Live`: a stream of a gateway, as an iterator."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, Generic, Literal, TypeVar, cast, overload
from urllib.parse import parse_qsl, urlsplit

from .book import Book
from .books import Books
from .capture import Capture
from .core import Core
from .engine import Engine, Token
from .errors import Refused, TickgateError
from .events import Channel, P
from .inbox import Inbox
from .notices import Ack, AnyEvent, Event
from .prices import Fixed, PriceType
from .replay import Replay
from .request import REQUESTS_MAX
from .stats import Stats
from .subscriptions import OnSlow, Options, options

QUEUE_EVENTS = 100_000
QUEUE_BYTES = 64 * 1024 * 1024
_PATH = "/v1/stream"
# What names a secret in a URL, where it would be in every log on the way.
_SECRETS = ("token", "key", "secret", "password", "auth")
# Waits are cut into these, so that Ctrl-C is seen on every system.
_WAIT_S = 0.5

E = TypeVar("E")


class _Answer:
    """The answer to a request, once it is there; nothing, if the client was closed before."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.value: Ack | Refused | None = None

    def came(self, value: Ack | Refused | None) -> None:
        self.value = value
        self.done.set()


class Pending:
    """The answer to a subscribe or unsubscribe, once it is there."""

    def __init__(self, live: Live[Any], answer: _Answer) -> None:
        # Whoever waits for an answer has not forgotten the stream.
        self._live = live
        self._answer = answer

    def wait(self, timeout_s: float = 10.0) -> Ack:
        """Waits for the answer. That some symbols were refused is no error: `Ack.check()` makes one of it.

        Raises:
            Refused: the request was refused as a whole.
            TimeoutError: no answer came in time; it may still come.
        """
        if not self._answer.done.wait(timeout_s):
            raise TimeoutError(f"no answer within {timeout_s:g} s")
        if isinstance(self._answer.value, Ack):
            return self._answer.value
        raise _alone(self._answer.value or TickgateError("closed", "the client was closed before the answer came"))


class Live(Generic[P]):
    """A stream of market data, kept up through lost connections, restarted gateways and slow readers.

        with Live("ws://127.0.0.1:8080/v1/stream") as live:
            live.subscribe("trades", ["AAPL", "MS*"])
            for event in live:
                print(event)

    It connects at once, in a thread of its own, and gives everything that happens as one stream of events, in order: `for`, `async for`,
    `batches`, `run` with functions given to `on`, `capture`. Data is `Trade`, `Quote`, `BookUpdate` and `Status`; `Gap` says that
    something is missing, `State`, `Resync`, `Error` and the others of `tickgate.notices` what happens to the stream itself.

    Args:
        url: `ws://` or `wss://`; the path is `/v1/stream`, which may be left out.
        token: what to show as `Authorization: Bearer`, or a plain function that fetches one: it is called, in a thread, for each
            connection, and when the gateway says that the token is nearly over; after 30 s it has failed. None is shown without it.
        on_slow: what the gateway does when this client is too slow for it, unless a subscription says otherwise: `conflate` (the
            newest state only; of trades, which cannot be conflated, the gateway's default), `skip` (and a gap), `disconnect` (and come
            back). Without it the gateway's default: `disconnect` for trades, `conflate` for the others. See protocol/README.md.
        when_full: what this client does when its own queue is full: `stop` reading, so that the gateway sees a slow client, or
            `conflate` quotes, status and books first, and stop if that does not help. Trades are never conflated.
        reconnect: whether it comes back, and goes on where it stopped, when the connection is lost. Without it that is `ConnectionLost`.
        prices: what prices and sizes are: `float`, `Decimal` with the digits of the feed, or `Fixed(scale)` for integers in units of
            `10**-scale`, scale from 0 to 18.
        queue_events, queue_bytes: bounds of the queue, in events, and in bytes as they came. What one read of the socket brings may
            come on top.
        tls: an `ssl.SSLContext` for `wss://`, for roots or a certificate of your own; without it the system's roots count. Of no
            meaning for `ws://`.

    Raises:
        ValueError: a URL that is none, or has a secret in it; an option that nobody can mean.
        TypeError: `tls` is no context.
    """

    @overload
    def __init__(
        self: Live[float],
        url: str,
        *,
        token: Token = ...,
        on_slow: OnSlow | None = ...,
        when_full: Literal["stop", "conflate"] = ...,
        reconnect: bool = ...,
        queue_events: int = ...,
        queue_bytes: int = ...,
        tls: ssl.SSLContext | None = ...,
    ) -> None: ...

    @overload
    def __init__(
        self: Live[int],
        url: str,
        *,
        prices: Fixed,
        token: Token = ...,
        on_slow: OnSlow | None = ...,
        when_full: Literal["stop", "conflate"] = ...,
        reconnect: bool = ...,
        queue_events: int = ...,
        queue_bytes: int = ...,
        tls: ssl.SSLContext | None = ...,
    ) -> None: ...

    @overload
    def __init__(
        self,
        url: str,
        *,
        prices: type[P],
        token: Token = ...,
        on_slow: OnSlow | None = ...,
        when_full: Literal["stop", "conflate"] = ...,
        reconnect: bool = ...,
        queue_events: int = ...,
        queue_bytes: int = ...,
        tls: ssl.SSLContext | None = ...,
    ) -> None: ...

    def __init__(
        self,
        url: str,
        *,
        token: Token = None,
        on_slow: OnSlow | None = None,
        when_full: Literal["stop", "conflate"] = "stop",
        reconnect: bool = True,
        prices: Any = float,
        queue_events: int = QUEUE_EVENTS,
        queue_bytes: int = QUEUE_BYTES,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        url = _address(url)
        if when_full not in ("stop", "conflate"):
            raise ValueError(f"when_full is stop or conflate, not {when_full!r}")
        options("quotes", on_slow=on_slow)
        if queue_events < 1 or queue_bytes < 1:
            raise ValueError(f"the queue has room for an event and a byte at least, not for {queue_events} and {queue_bytes}")
        if not isinstance(tls, (ssl.SSLContext, type(None))):
            raise TypeError(f"tls is an ssl.SSLContext, not {tls!r}")
        self._on_slow = on_slow
        self._url = url
        self._arguments: dict[str, Any] = {"token": token, "prices": prices, "tls": tls}
        self._core = Core(cast(PriceType, prices))
        self._inbox = Inbox(queue_events, queue_bytes, conflates=when_full == "conflate")
        self._engine = Engine(url, self._core, self._inbox, token=token, reconnect=reconnect, tls=tls)
        self._answers: list[_Answer] = []
        self._books: Books[P] = Books()
        self._calls: list[tuple[Any, Callable[[Any], object]]] = []
        # The batch that is being handed out, and how far.
        self._batch: list[AnyEvent] = []
        self._at = 0
        self._cursor: str | None = None
        self._is_closing = False
        self._engine.start()
        # A cell of a notebook that runs again forgets the stream of its last run, which would go on to its end.
        weakref.finalize(self, self._engine.stop, waits=False).atexit = False

    # Subscriptions.

    def subscribe(
        self,
        channel: Channel,
        symbols: str | Iterable[str],
        *,
        on_slow: OnSlow | None = None,
        conflate_ms: int | None = None,
        depth: int | None = None,
        snapshot: int | None = None,
        from_: str | int | datetime | None = None,
        cursor: str | None = None,
    ) -> Pending:
        """Subscribes to symbols and patterns (`"BTC*"`, `"*"`) of a channel. Returns at once; `wait()` of what it returns waits
        for the answer, which also comes as an `Ack` event. It may be called at any time, also before there is a connection.

        Args:
            channel: `trades`, `quotes`, `book` or `status`.
            symbols: one as a text, or several as a list or other iterable. Upper and lower case differ. A text with commas is one name.
            on_slow: see `Live`, whose own counts without it.
            conflate_ms: quotes and book: at most one update in so many milliseconds, always the newest; 0 to 1000, rounded up to 10,
                20, 50, 100, 250, 500 or 1000. 0, as without it, is every update.
            depth: book: levels a side: 1, 5, 10, 20, 50, 100, or 0, as without it, for all.
            snapshot: trades: so many of the last ones first, with `snapshot=True`, as far as the gateway keeps them (10 of a symbol
                unless set otherwise). None without it, and none where `from_` says where to begin.
            from_: begin in the past: behind a `seq` (of one symbol, no pattern), or at a time (nanoseconds since the Unix epoch, or a
                `datetime` with a time zone) by Kafka's timestamps; 0 is the beginning. What comes has `replay=True`, and where it is
                read again the time of that as `ingest_ns`; then `ReplayDone`, and what is live. Of books with a depth, and of what is
                conflated, the newest state is all. What Kafka had and has no more is an `Error` `replay_aged_out` and a `Gap`.
                Nothing is said where the log began later: nothing is missing. A time to come begins at once, with what is live.
            cursor: all that came since `Live.cursor` was that, here or in another process; then too `ReplayDone` says that it has come.
                Instead of `from_`.

        What the gateway refuses, as a depth that is none of these, is a refusal in the answer.

        Raises:
            ValueError: an option that nobody can mean.
            TypeError: a symbol that is no text, a time that is neither an integer nor a `datetime`.
            TickgateError: 10,000 requests wait for their answers.
        """
        if cursor is not None and from_ is not None:
            raise ValueError("from_ and cursor both say where to begin: give one of them")
        if on_slow is None and not (self._on_slow == "conflate" and channel == "trades"):
            on_slow = self._on_slow
        wanted = options(channel, on_slow=on_slow, conflate_ms=conflate_ms, depth=depth, snapshot=snapshot, from_=from_)
        return self._subscribe(channel, symbols, wanted, cursor=cursor)

    def _subscribe(
        self, channel: Channel, symbols: str | Iterable[str], wanted: Options, *, cursor: str | None = None, keeps_place: bool = False
    ) -> Pending:
        names = _names(symbols)
        answer = self._ask()
        if channel == "book":
            self._books.asked(names, int(wanted.get("depth", 0)))
        ask = partial(self._core.subscribe, channel, names, wanted, answer.came, cursor=cursor, keeps_place=keeps_place)
        self._engine.call(ask)
        return Pending(self, answer)

    def unsubscribe(self, channel: Channel, symbols: str | Iterable[str]) -> Pending:
        """Unsubscribes, as they were subscribed: a pattern by the same pattern."""
        options(channel)
        names = _names(symbols)
        answer = self._ask()
        if channel == "book":
            self._books.given_up(names)
        self._engine.call(self._core.unsubscribe, channel, names, answer.came)
        return Pending(self, answer)

    def _ask(self) -> _Answer:
        self._answers = [answer for answer in self._answers if not answer.done.is_set()]
        if len(self._answers) >= REQUESTS_MAX:
            raise TickgateError("rate_limited", f"{REQUESTS_MAX} requests wait for their answers")
        answer = _Answer()
        self._answers.append(answer)
        if self._inbox.is_closed:
            answer.came(None)
        return answer

    # Events.

    def __iter__(self) -> Iterator[Event[P]]:
        """Everything that happens, until the client is closed.

        Raises:
            TickgateError: it ended for good, and not by `close`.
        """
        while True:
            event = self._next(None)
            if event is None:
                return
            yield event

    async def __aiter__(self) -> AsyncIterator[Event[P]]:
        """The same in any event loop."""
        while True:
            if self._at >= len(self._batch) and not await self._fill_async(None):
                return
            yield self._hand_out()

    def events(self, seconds: float | None = None) -> Iterator[Event[P]]:
        """Everything that happens, for so many seconds at most; without a number until the client is closed, as `for` does."""
        end_s = None if seconds is None else time.monotonic() + seconds
        while True:
            event = self._next(end_s)
            if event is None:
                return
            yield event

    def batches(self, max_wait_ms: float = 100.0, max_events: int = 10_000) -> Iterator[list[Event[P]]]:
        """Everything that happens, in lists, of which none is empty: from the first event on what comes within `max_wait_ms`
        milliseconds, `max_events` at most. With 0 ms what is there already.
        """
        while True:
            batch: list[Event[P]] = []
            end_s: float | None = None
            while len(batch) < max_events:
                event = self._next(end_s)
                if event is None:
                    break
                batch.append(event)
                if end_s is None:
                    end_s = time.monotonic() + max_wait_ms / 1000
            if not batch:
                return
            yield batch

    def on(self, kind: type[E] | tuple[type[Any], ...], function: Callable[[E], object]) -> None:
        """Calls `function` with every event of a kind (or several) as it is handed out, in the thread that takes the events.
        What it raises, it raises there.
        """
        self._calls.append((kind, function))

    def run(self, seconds: float | None = None) -> None:
        """Takes events, for the functions given to `on`, for so many seconds or until the client is closed."""
        for _ in self.events(seconds):
            pass

    def capture(self, seconds: float, max_events: int = 1_000_000) -> Capture:
        """Gathers what comes in so many seconds, `max_events` at most, for data frames, Arrow tables and Parquet files."""
        captured = Capture(self._arguments["prices"])
        for event in self.events(seconds):
            captured.add(event)
            if len(captured) >= max_events:
                captured.is_full = True
                break
        return captured

    def book(self, symbol: str, *, depth: int | None = None, subscribe: bool = True) -> Book[P]:
        """The book of a symbol, kept in step as events are handed out; subscribed to if nothing that was asked for brings it.

        Taken at its first event or before, it is complete as soon as the first snapshot is handed out. `depth`: see `subscribe`; what
        brings it already keeps its own. With `subscribe=False` the caller sees to that, before or after. When what brings it has ended,
        by `unsubscribe`, a token that grants it no more or a refusal to a client that came back, it is not complete, and stays so: take
        it anew.
        """
        known = self._books.depth_of(symbol)
        book = self._books.of(symbol, depth if known is None else known, self._batch[self._at - 1] if self._at else None)
        if subscribe and known is None:
            self.subscribe("book", symbol, depth=depth)
        return book

    def replay(
        self,
        channel: Channel,
        symbols: str | Iterable[str],
        *,
        from_time: int | datetime,
        until: int | datetime | None = None,
        speed: float | None = None,
    ) -> Replay[P]:
        """The past, over a connection of its own: every event from one time to another, in the order of time, then it ends. To be
        iterated once, with `for` or `async for`.

        Times are Kafka's timestamps, in whole milliseconds: `event_ns`, by the venue's clock, may be a little before or behind. Events
        have `replay=True`, and the time of the replay as `ingest_ns` and `received_ns`. Beside them come the `State`, `Ack`, `Error` and
        `Gap` of that connection: an `Error` `replay_aged_out`, and a `Gap` before the first event behind it, say that Kafka has
        deleted some of what was asked for. Nothing is said where its log began later than `from_time`, since nothing is missing then:
        the `event_ns` of the first event says where that is.

        Args:
            channel: `trades`, `quotes` or `status`.
            symbols: one or several, or patterns.
            from_time: nanoseconds since the Unix epoch, or a `datetime` with a time zone; 0 is the beginning. What is at it comes.
            until: the same, and what is at it comes too; now if it is left out or not past yet.
            speed: how many times as fast as it happened, counted from the first event: 1 is as it happened. From 0.001 to 1000;
                without it as fast as it is taken.

        Raises:
            Refused: iterating it, where it was refused: a book, a time beyond what the gateway allows, an `until` before `from_time`.
            TickgateError: iterating it: `source_down`, the gateway cannot read it from Kafka, so that what came is not all;
                `replay_aged_out`, all of it is gone; or the connection ended for good.
            TypeError: a time that is neither an integer nor a `datetime`.
        """
        wanted = options(channel, from_=from_time, until=time.time_ns() if until is None else until, speed=speed)
        return Replay(lambda: Live[P](self._url, **self._arguments), channel, _names(symbols), wanted)

    @property
    def cursor(self) -> str | None:
        """A place in the stream, for `subscribe` of this or another process, to any gateway of the same feeds and key; `None` before
        there is one. It passes no event that was not handed out yet, and says nothing of what was subscribed to after it came. To be
        read in the thread that takes the events.
        """
        if self._at >= len(self._batch):
            self._cursor = self._inbox.cursor
        return self._cursor

    def wait_live(self, timeout_s: float = 10.0) -> None:
        """Waits until the gateway was reached and all that was asked for is answered. Events stay in the queue.

        Raises:
            TickgateError: it ended for good.
            TimeoutError: it is not yet.
        """
        end_s = time.monotonic() + timeout_s
        while self._core.state != "live":
            if self._inbox.is_closed:
                raise _alone(self._engine.error or TickgateError("closed", "the client was closed"))
            if time.monotonic() > end_s:
                raise TimeoutError(f"not live within {timeout_s:g} s: {self._core.state}")
            time.sleep(0.005)

    def stats(self) -> Stats:
        """What is known of the stream so far."""
        core, counts = self._core, self._core.judge.counts
        skew_ns, round_trip_ns = core.clock.skew_ns, core.clock.round_trip_ns
        return Stats(
            # Also where its thread is late to say so.
            state="closed" if self._is_closing else core.state,
            session=core.session,
            messages=core.messages,
            bytes=core.bytes,
            events=counts.events,
            gaps=counts.gaps,
            conflated=counts.conflated + self._inbox.conflated,
            duplicates=counts.duplicates,
            unverified=counts.unverified,
            unannounced=counts.unannounced,
            resyncs=counts.resyncs,
            bad_frames=core.bad_frames,
            reconnects=self._engine.reconnects,
            paused=self._engine.paused,
            queued_events=self._inbox.events,
            queued_bytes=self._inbox.bytes,
            latency_p50_ms=core.latencies.quantile_ms(0.5),
            latency_p99_ms=core.latencies.quantile_ms(0.99),
            skew_ms=None if skew_ns is None else skew_ns / 1e6,
            round_trip_ms=None if round_trip_ns is None else round_trip_ns / 1e6,
            feed_state=core.feed_state,
            feeds=dict(core.feeds),
        )

    # Its end.

    def close(self) -> None:
        """Ends the connection; events that came before can still be taken. It may be called twice, and from any thread."""
        self._is_closing = True
        self._engine.stop()
        for answer in self._answers:
            if not answer.done.is_set():
                answer.came(None)

    def __enter__(self) -> Live[P]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Live[P]:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await asyncio.to_thread(self.close)

    def __repr__(self) -> str:
        return f"Live({self._url!r}, state={self._core.state!r})"

    # How events are taken.

    def _next(self, end_s: float | None) -> Event[P] | None:
        """The next event; `None` at `end_s`, or when there will be none."""
        if self._at >= len(self._batch) and not self._fill(end_s):
            return None
        return self._hand_out()

    def _hand_out(self) -> Event[P]:
        event = self._batch[self._at]
        self._at += 1
        if self._books:
            self._books.take(event)
        for kind, function in self._calls:
            if isinstance(event, kind):
                function(event)
        return event

    def _fill(self, end_s: float | None) -> bool:
        while True:
            wait_s = _WAIT_S if end_s is None else min(_WAIT_S, end_s - time.monotonic())
            self._cursor = self._inbox.cursor
            batch = self._inbox.take(max(wait_s, 0.0))
            if batch is not None:
                self._batch, self._at = batch, 0
                return True
            if self._is_over() or (end_s is not None and time.monotonic() >= end_s):
                return False

    async def _fill_async(self, end_s: float | None) -> bool:
        loop = asyncio.get_running_loop()
        while True:
            self._cursor = self._inbox.cursor
            ready = asyncio.Event()
            batch = self._inbox.take_or_call(lambda: _wake(loop, ready))  # noqa: B023 (called before the next turn)
            if batch is not None:
                self._batch, self._at = batch, 0
                # Others of this loop have their turn, however much waits here.
                await asyncio.sleep(0)
                return True
            if self._is_over():
                return False
            # The interrupt of a notebook's kernel cancels this and does not wake its loop.
            again = loop.call_later(_WAIT_S, ready.set)
            try:
                await ready.wait()
            finally:
                again.cancel()

    def _is_over(self) -> bool:
        if not self._inbox.is_closed or self._inbox.events:
            return False
        error = self._engine.error
        if error is not None and not self._is_closing:
            raise _alone(error)
        return True


def _alone(error: TickgateError) -> TickgateError:
    """What the engine found, without the calls of its thread: it says all that there is to know."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _wake(loop: asyncio.AbstractEventLoop, ready: asyncio.Event) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(ready.set)


def _names(symbols: str | Iterable[str]) -> list[str]:
    names = [symbols] if isinstance(symbols, str) else list(symbols)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"symbols are a text or several, as in ['AAPL', 'MS*'], not {name!r}")
    return names


def _address(url: str) -> str:
    """The URL of a stream: of a gateway's address alone, too."""
    parts = urlsplit(url)
    # A port that is none is a ValueError of its own.
    _ = parts.port
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError("the URL of a gateway is ws://HOST:PORT/v1/stream, or wss://…")
    names = [name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    if parts.username or parts.password or any(part in name for name in names for part in _SECRETS):
        raise ValueError("no secrets in a URL, where every log on the way has them: pass token=")
    return parts._replace(path=_PATH).geturl() if parts.path in ("", "/") else url
