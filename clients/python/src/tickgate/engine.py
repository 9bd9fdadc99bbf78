"""The life of a client: connects, keeps a session, and comes back when it is lost. It runs in a loop and thread of its own, so that it
works beside any program: a script, a notebook whose loop runs already, or another asyncio application.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, cast

from .backoff import Backoff
from .core import Core
from .errors import ConnectionLost, TickgateError
from .inbox import Inbox
from .link import HandshakeRefused, Link
from .notices import AnyEvent, Error

_log = logging.getLogger("tickgate")

Token = str | Callable[[], str] | None

_CONNECT_TIMEOUT_S = 10.0
_TOKEN_TIMEOUT_S = 30.0
# How long a new connection may say nothing before it counts as lost.
_GREETING_TIMEOUT_S = 10.0
# How often the gateway is asked for its time behind the question with which a session begins: soon and often, as the shortest way counts.
_PINGS_AT_S = (0.0, 0.2, 0.5, 1.0)
_PING_EVERY_S = 15.0
_TICK_S = 0.1
_CLOSE_TIMEOUT_S = 2.0
_GOODBYE_TIMEOUT_S = 0.5
# Names of HTTP refusals, and those for which coming again would be in vain.
_STATUS_CODES = {400: "bad_request", 401: "unauthenticated", 403: "forbidden", 404: "bad_url", 429: "connection_limit"}
_STATUS_FOR_GOOD = {301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 414, 426, 431}
# Those that stay so where there was a session: they are about who one is. Another may be of a proxy that has no gateway for a while.
_STATUS_ALWAYS_FOR_GOOD = {401, 403}
# Close codes with which coming again would be in vain.
_CLOSES_FOR_GOOD = {4400: "bad_request", 4401: "unauthenticated", 4403: "forbidden"}
_TOKEN_EXPIRED = 4498
# What OpenSSL says of an answer that is none of TLS.
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")


class Engine:
    """A client's connection, in a thread of its own."""

    def __init__(
        self,
        url: str,
        core: Core,
        inbox: Inbox,
        *,
        token: Token,
        reconnect: bool,
        tls: ssl.SSLContext | None,
        backoff: Backoff | None = None,
    ) -> None:
        self.error: TickgateError | None = None
        self.reconnects = 0
        self.paused = 0
        self._url = url
        self._core = core
        self._inbox = inbox
        self._token = token
        self._reconnect = reconnect
        self._tls = tls
        self._backoff = backoff or Backoff()
        # Of this session.
        self._live_since_s: float | None = None
        self._link: Link | None = None
        self._out: list[AnyEvent] = []
        self._out_bytes = 0
        # The cursor that was handed over last.
        self._cursor: str | None = None
        self._is_paused = False
        self._received_at_s = 0.0
        self._refused_tokens = 0
        self._fetching: asyncio.Task[None] | None = None
        self._loop = asyncio.new_event_loop()
        self._main: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        # Requests leave at the gateway's pace: a bucket of as many as it takes in a second.
        self._allowance = 1.0
        self._allowance_at_s = 0.0
        self._unsent: list[bytes] = []
        # Whoever forgets a client ends it from wherever its garbage is collected: it may have this lock already.
        self._lock = threading.RLock()
        self._is_stopping = False
        self._is_cancelled = False
        inbox.on_room(self._has_room)
        self._thread = threading.Thread(target=self._run, name="tickgate", daemon=True)

    # From other threads.

    def start(self) -> None:
        """Begins to connect."""
        self._thread.start()

    def call(self, function: Callable[..., None], *args: Any) -> None:
        """Calls a function in the engine's thread, and then sends what the core wants to send."""

        def do() -> None:
            function(*args)
            self._flush()

        with self._lock:
            if not self._is_stopping:
                self._loop.call_soon_threadsafe(do)

    def stop(self, *, waits: bool = True) -> None:
        """Ends the connection and the thread; returns when that is done, soon in any case, or if it does not wait at once."""
        with self._lock:
            was_stopping, self._is_stopping = self._is_stopping, True
            if not was_stopping and self._thread.ident is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._cancel)
        if waits and self._thread.ident is not None and threading.current_thread() is not self._thread:
            self._thread.join(_CLOSE_TIMEOUT_S)

    def _has_room(self) -> None:
        with self._lock:
            if not self._is_stopping:
                self._loop.call_soon_threadsafe(self._read_on)

    # In the engine's thread.

    def _cancel(self) -> None:
        self._is_cancelled = True
        if self._main is not None:
            self._main.cancel()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._main = self._loop.create_task(self._live())
            self._loop.run_until_complete(self._main)
        except asyncio.CancelledError:
            pass
        except Exception as error:
            # A fault of this client: whoever takes the events must hear of it.
            _log.exception("the client has failed")
            self.error = TickgateError("internal", f"a fault of this client: {error!r}")
        finally:
            with self._lock:
                self._is_stopping = True
            self._core.lost()
            self._core.move("closed", self._out, reason="" if self.error is None else str(self.error))
            self._hand_over()
            self._inbox.close()
            self._loop.run_until_complete(self._end())
            self._loop.close()

    async def _end(self) -> None:
        """Closes the connection, if there is one, and lets everything end that still runs."""
        if self._link is not None:
            await self._link.end(_GOODBYE_TIMEOUT_S)
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _live(self) -> None:
        self._room.set()
        self._core.move("connecting", self._out)
        self._hand_over()
        while True:
            retry_after_s = None
            try:
                reason = await self._session()
            except TickgateError as error:
                self.error = error
                self._out.append(Error(error.code, error.message, True))
                return
            except HandshakeRefused as refused:
                retry_after_s = refused.retry_after_s
                reason = str(refused)
            except (OSError, EOFError) as error:
                reason = _why_none(self._url, error)
            self._check_cancelled()
            self._core.lost()
            self._link = None
            self._unsent.clear()
            if self._live_since_s is not None:
                self._backoff.lived(time.monotonic() - self._live_since_s)
                self._live_since_s = None
            if not self._reconnect:
                self.error = ConnectionLost("connection_lost", reason)
                return
            if self._core.state in ("live", "resyncing", "stale"):
                self.reconnects += 1
            # Whoever does not take what came gets no more of it: attempts are told as well.
            await self._room.wait()
            wait_s = self._backoff.next_s(retry_after_s)
            self._core.move("reconnecting", self._out, attempt=self._backoff.attempts, reason=reason)
            self._hand_over()
            await asyncio.sleep(wait_s)

    def _check_cancelled(self) -> None:
        # What ends in the very turn in which the task is cancelled may swallow that: `wait_for` of Python 3.11 does.
        if self._is_cancelled:
            raise asyncio.CancelledError

    async def _session(self) -> str:
        """One session, from its connection to its end; says why it ended.

        Raises:
            TickgateError: it ended for good.
            OSError: there was none.
        """
        headers = await self._headers()
        # The greeting may be read before `open` returns.
        self._is_paused = False
        self._allowance, self._allowance_at_s = 0.0, 0.0
        self._received_at_s = opened_at_s = time.monotonic()
        self._link = link = Link(self)
        try:
            await link.open(self._url, headers, self._tls, _CONNECT_TIMEOUT_S)
        except HandshakeRefused as refused:
            self._handshake_refused(refused)
            raise
        self._check_cancelled()
        watch = asyncio.ensure_future(self._watch(link, opened_at_s))
        try:
            await link.ended()
        finally:
            watch.cancel()
            if self._fetching is not None:
                self._fetching.cancel()
            self._hand_over()
        return self._why(link)

    def _why(self, link: Link) -> str:
        code = link.close_code
        fatal = self._core.fatal
        said = fatal.message if fatal is not None else link.close_reason
        if code in _CLOSES_FOR_GOOD:
            raise ConnectionLost(_CLOSES_FOR_GOOD[code], said or f"closed with {code}")
        if code == _TOKEN_EXPIRED and not callable(self._token):
            raise ConnectionLost("token_expired", said or f"closed with {code}")
        about = f": {said}" if said else ""
        return f"closed with {code}{about}" if code is not None else "the connection broke" + about

    def _handshake_refused(self, refused: HandshakeRefused) -> None:
        had_session = self._core.had_session
        # A path that was right before is none to be mended.
        code = "refused" if refused.status == 404 and had_session else _STATUS_CODES.get(refused.status, "refused")
        if refused.status == 401 and callable(self._token) and self._refused_tokens == 0:
            # The next one may be better.
            self._refused_tokens = 1
        elif refused.status in (_STATUS_ALWAYS_FOR_GOOD if had_session else _STATUS_FOR_GOOD):
            raise ConnectionLost(code, str(refused)) from None
        self._out.append(Error(code, str(refused)))

    async def _headers(self) -> dict[str, str]:
        if self._token is None:
            return {}
        try:
            token = await self._fetch_token()
        except Exception as error:
            self._out.append(Error("token_failed", _describe(error)))
            raise ConnectionError("no token") from None
        return {"Authorization": f"Bearer {token}"}

    async def _fetch_token(self) -> str:
        token = self._token
        if callable(token):
            fetched = await asyncio.wait_for(_in_thread(token), _TOKEN_TIMEOUT_S)
        else:
            fetched = token or ""
        if not isinstance(fetched, str):
            raise TypeError("token= is a text, or a plain function that returns one")
        return fetched

    async def _watch(self, link: Link, opened_at_s: float) -> None:
        """Does what is due while a session lasts."""
        pings = list(_PINGS_AT_S)
        next_ping_s: float | None = None
        while True:
            await asyncio.sleep(_TICK_S)
            core, now_s = self._core, time.monotonic()
            if core.session is None and now_s - opened_at_s > _CONNECT_TIMEOUT_S + _GREETING_TIMEOUT_S:
                link.close()
                return
            is_asked_for_token = core.session is None or core.wants_token_at_ns is not None
            if not is_asked_for_token and (next_ping_s is None or now_s >= next_ping_s):
                core.ping(time.time_ns())
                next_ping_s = now_s + (pings.pop(0) if pings else _PING_EVERY_S)
            wants_at_ns = core.wants_token_at_ns
            if wants_at_ns is not None and wants_at_ns <= time.time_ns():
                self._refresh_token()
            core.tick(time.time_ns())
            if not self._is_paused and self._is_silent(now_s, 2, 1.0):
                if core.state == "live":
                    core.move("stale", self._out, reason="nothing comes")
                if self._is_silent(now_s, 4, 2.0):
                    link.close()
            self._flush()
            self._hand_over()

    def _is_silent(self, now_s: float, heartbeats: int, more_s: float) -> bool:
        if self._core.session is None:
            return False
        # A gateway that sends none answers pings.
        heartbeat_s = self._core.heartbeat_ms / 1000 or _PING_EVERY_S
        return now_s - self._received_at_s > heartbeats * heartbeat_s + more_s

    def _refresh_token(self) -> None:
        core = self._core
        if self._token is None or (core.state == "live" and not callable(self._token)):
            core.wants_token_at_ns = None
            if core.state != "live" and self._link is not None:
                self.error = ConnectionLost("unauthenticated", "the gateway asks for a token")
                self._cancel()
            return
        if self._fetching is None or self._fetching.done():
            core.wants_token_at_ns = None
            self._fetching = asyncio.ensure_future(self._send_token())

    async def _send_token(self) -> None:
        try:
            token = await self._fetch_token()
        except Exception as error:
            self._out.append(Error("token_failed", _describe(error)))
            self._core.wants_token_at_ns = time.time_ns() + 5_000_000_000
        else:
            self._core.authenticate(token)
        self._flush()
        self._hand_over()

    # What the link calls.

    def on_text(self, text: bytes | memoryview) -> None:
        """A text message."""
        self._received_at_s = time.monotonic()
        if self._core.state == "stale":
            self._core.move("live", self._out)
        self._core.text(text, time.time_ns(), self._out)
        self._out_bytes += len(text)

    def on_binary(self, size: int) -> None:
        """A binary message."""
        self._received_at_s = time.monotonic()
        self._core.binary(size, self._out)

    def on_read(self) -> None:
        """All that was there to be read has been passed on."""
        wants_at_ns = self._core.wants_token_at_ns
        if wants_at_ns is not None and wants_at_ns <= time.time_ns():
            self._refresh_token()
        if self._core.state == "live" and self._live_since_s is None:
            self._live_since_s = time.monotonic()
            self._refused_tokens = 0
        self._flush()
        self._hand_over()

    def _flush(self) -> None:
        """Sends what the core wants to send, no faster than the gateway takes requests."""
        self._unsent.extend(self._core.take_outbox())
        if not self._unsent or self._link is None:
            return
        # A little slower than it may be, as clocks are never quite equal.
        per_s = max(self._core.limits.requests_per_s * 0.9, 1.0)
        now_s = time.monotonic()
        self._allowance = min(self._allowance + (now_s - self._allowance_at_s) * per_s, per_s)
        self._allowance_at_s = now_s
        sent = 0
        for text in self._unsent[: int(self._allowance)]:
            self._link.send(text)
            sent += 1
        self._allowance -= sent
        del self._unsent[:sent]

    def _hand_over(self) -> None:
        # Whatever it has a place for was added before it.
        cursor = self._core.cursor if self._core.cursor != self._cursor else None
        self._cursor = cursor or self._cursor
        if not self._out:
            if cursor is not None:
                self._inbox.pass_cursor(cursor)
            return
        events, self._out = self._out, []
        size, self._out_bytes = self._out_bytes, 0
        if not self._inbox.put(events, size, cursor) and not self._is_paused:
            self._is_paused = True
            self.paused += 1
            self._room.clear()
            if self._link is not None:
                self._link.pause()

    def _read_on(self) -> None:
        self._room.set()
        if self._is_paused:
            self._is_paused = False
            self._received_at_s = time.monotonic()
            if self._link is not None:
                self._link.resume()


async def _in_thread(function: Callable[[], str]) -> str:
    """What a function returns that may take its time. Its thread holds up nobody's exit, as one of a pool would."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[str] = loop.create_future()

    def settle(result: str | None, error: Exception | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(cast(str, result))

    def work() -> None:
        result, error = None, None
        try:
            result = function()
        except Exception as raised:
            error = raised
        # Nobody may be there any more to be told.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, name="tickgate-token", daemon=True).start()
    return await done


def _why_none(url: str, error: BaseException) -> str:
    """Why there is no connection."""
    reason = str(error) or type(error).__name__
    if url.startswith("wss:") and any(mark in reason for mark in _NO_TLS):
        return f"what answers there speaks no TLS ({reason}): try ws://"
    return reason


def _describe(error: BaseException) -> str:
    # Not what it says: that may be the token.
    return f"the function given as token= failed with {type(error).__name__}"
