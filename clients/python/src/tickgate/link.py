"""One WebSocket connection: the only place that knows the library under it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import struct
from collections.abc import Callable
from typing import Any, Protocol

from picows import WSError, WSFrame, WSHandshakeError, WSListener, WSMsgType, WSTransport, ws_connect

# A data frame has at most 256 KiB unless one record needs more, which has 1 MiB; a gateway may be set up for more.
_MESSAGE_BYTES_MAX = 64 * 1024 * 1024
_BODY_SHOWN = 200
_CLOSE_REASON_BYTES_MAX = 123


class HandshakeRefused(Exception):
    """The server said no before there was a WebSocket. `retry_after_s`: when it said to come again."""

    def __init__(self, status: int, body: str, retry_after_s: float | None) -> None:
        self.status = status
        self.retry_after_s = retry_after_s
        super().__init__(f"HTTP {status}: {body}" if body else f"HTTP {status}")


class Reader(Protocol):
    """Who takes what comes over a link, in the thread of its loop."""

    def on_text(self, text: bytes | memoryview) -> None:
        """A text message; it is to be read before this returns."""

    def on_binary(self, size: int) -> None:
        """A binary message."""

    def on_read(self) -> None:
        """All that was there to be read has been passed on."""


class Link(WSListener):
    """A connection. `close_code` and `close_reason` are what the other side closed it with."""

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self.close_code: int | None = None
        self.close_reason = ""
        self._reader = reader
        self._transport: WSTransport | None = None
        self._parts: bytearray | None = None
        self._parts_are_text = False
        self._fault: BaseException | None = None

    async def open(self, url: str, headers: dict[str, str], tls: ssl.SSLContext | None, timeout_s: float) -> None:
        """Connects.

        Raises:
            HandshakeRefused: the server said no.
            OSError: there is no way there; also when it took too long.
        """
        try:
            # No redirects: they would take the token to somebody else.
            connecting = ws_connect(
                lambda: self,
                url,
                ssl_context=tls,
                websocket_handshake_timeout=timeout_s,
                extra_headers=headers,
                max_frame_size=_MESSAGE_BYTES_MAX,
                max_redirects=0,
            )
            self._transport, _ = await asyncio.wait_for(connecting, timeout_s)
        except WSHandshakeError as error:
            raise _refused(error) from None
        except WSError as error:
            raise ConnectionError(str(error)) from None
        except (asyncio.TimeoutError, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and _is_cancelled(task):
                raise
            raise TimeoutError(f"no answer within {timeout_s:g} s") from None

    async def ended(self) -> None:
        """Waits for the end of the connection.

        Raises:
            Exception: whatever the reader raised, which ends the connection.
        """
        if self._transport is not None:
            try:
                await self._transport.wait_disconnected()
            except WSError as error:
                raise ConnectionError(str(error)) from None
        if self._fault is not None:
            raise self._fault

    def send(self, text: bytes) -> None:
        """Sends a text message."""
        if self._transport is not None and not self._transport.is_disconnected:
            self._transport.send(WSMsgType.TEXT, text)

    def pause(self) -> None:
        """Reads no more, so that the other side sees a slow client."""
        self._underlying(lambda transport: transport.pause_reading())

    def resume(self) -> None:
        """Reads on."""
        self._underlying(lambda transport: transport.resume_reading())

    def close(self) -> None:
        """Says goodbye and drops the connection."""
        transport = self._transport
        if transport is not None and not transport.is_disconnected:
            transport.send_close()
            transport.disconnect(graceful=False)

    async def end(self, timeout_s: float) -> None:
        """Says goodbye and waits until the connection is gone, cut off if it takes longer."""
        self.close()
        if self._transport is not None:
            with contextlib.suppress(asyncio.TimeoutError, WSError, OSError):
                await asyncio.wait_for(self._transport.wait_disconnected(), timeout_s)

    def _underlying(self, call: Callable[[Any], None]) -> None:
        transport = self._transport
        if transport is not None and not transport.is_disconnected:
            call(transport.underlying_transport)

    # What picows calls.

    def on_ws_connected(self, transport: WSTransport) -> None:
        """There is a connection."""
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """A frame came."""
        try:
            kind = frame.msg_type
            if kind is WSMsgType.TEXT and frame.fin:
                self._reader.on_text(frame.get_payload_as_memoryview())
            elif kind is WSMsgType.BINARY and frame.fin:
                self._reader.on_binary(frame.payload_size)
            elif kind is WSMsgType.CLOSE:
                self._closed(frame.get_payload_as_bytes())
                transport.send_close()
                transport.disconnect()
            elif kind in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
                self._part(kind, frame)
            if frame.last_in_buffer:
                self._reader.on_read()
        except Exception as error:
            self._fault = error
            transport.disconnect(graceful=False)

    def _part(self, kind: WSMsgType, frame: WSFrame) -> None:
        if kind is not WSMsgType.CONTINUATION:
            self._parts = bytearray()
            self._parts_are_text = kind is WSMsgType.TEXT
        if self._parts is None:
            raise ConnectionError("a part of a message that was never begun")
        if len(self._parts) + frame.payload_size > _MESSAGE_BYTES_MAX:
            raise ConnectionError("a message beyond all bounds")
        self._parts += frame.get_payload_as_bytes()
        if frame.fin:
            whole, self._parts = self._parts, None
            if self._parts_are_text:
                self._reader.on_text(bytes(whole))
            else:
                self._reader.on_binary(len(whole))

    def _closed(self, payload: bytes) -> None:
        if len(payload) >= 2:
            (self.close_code,) = struct.unpack_from(">H", payload)
            self.close_reason = payload[2 : 2 + _CLOSE_REASON_BYTES_MAX].decode(errors="replace")


def _refused(error: WSHandshakeError) -> Exception:
    response = error.response
    if response is None:
        return ConnectionError(f"no WebSocket there: {error}"[:_BODY_SHOWN])
    retry_after = response.headers.get("Retry-After")
    try:
        retry_after_s = None if retry_after is None else float(retry_after)
    except ValueError:
        retry_after_s = None
    return HandshakeRefused(int(response.status), _reason(error.raw_body or b""), retry_after_s)


def _reason(body: bytes) -> str:
    """What a refusal says, in one line: a gateway's is JSON, a proxy's may be anything."""
    text = body.decode(errors="replace")
    with contextlib.suppress(ValueError, TypeError, LookupError, RecursionError):
        text = json.loads(text)["error"]
    return " ".join(str(text).split())[:_BODY_SHOWN]


def _is_cancelled(task: asyncio.Task[Any]) -> bool:
    # Python 3.10 does not count them; picows cancels what it waits for when a handshake takes too long.
    cancelling = getattr(task, "cancelling", None)
    return True if cancelling is None else bool(cancelling())
