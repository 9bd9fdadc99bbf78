"""From the text of messages to events and control messages. No I/O, no state."""

from __future__ import annotations

from typing import Any, Union

import msgspec

from .errors import NotReadable
from .events import BookUpdate, Gap, OnWire, Quote, Status, Trade
from .notices import AckResult
from .prices import PriceType, convert, wire_type


class Limits(msgspec.Struct, frozen=True):
    """What a session may do, as the gateway's greeting has it."""

    subscriptions: int = 5000
    requests_per_s: int = 20
    message_bytes: int = 262_144
    replay_s: int | None = None
    pings_per_10_s: int | None = None
    silence_ms: int | None = None
    updates_per_s: int | None = None
    connections: int | None = None


Id = Union[int, str, None]


class Hello(msgspec.Struct, tag="hello", tag_field="op"):
    """The greeting."""

    session: str
    now_ns: int
    heartbeat_ms: int
    auth: str
    limits: Limits
    protocol: int = 1


class WireAck(msgspec.Struct, tag="ack", tag_field="op"):
    """An answer to `subscribe`, `unsubscribe`, `set` or `auth`."""

    ok: bool
    id: Id = None
    results: list[AckResult] = []
    limits: Limits | None = None


class WireError(msgspec.Struct, tag="error", tag_field="op"):
    """A request or the session failed."""

    code: str
    message: str
    fatal: bool
    id: Id = None
    retry_after_ms: int | None = None
    cursor: str | None = None


class WireFeed(msgspec.Struct):
    """A feed, in a heartbeat."""

    name: str
    state: str


class Heartbeat(msgspec.Struct, tag="heartbeat", tag_field="op"):
    """A sign of life, in order with the data."""

    now_ns: int
    cursor: str
    queued_bytes: int
    delay_ms: int
    feeds: list[WireFeed] = []


class WireSlow(msgspec.Struct, tag="slow", tag_field="op"):
    """The client reads too slowly."""

    delay_ms: int
    queued_bytes: int
    limit_bytes: int
    action: str


class WireGoAway(msgspec.Struct, tag="goaway", tag_field="op"):
    """The session will be closed."""

    reason: str
    close_in_ms: int
    cursor: str


class Pong(msgspec.Struct, tag="pong", tag_field="op"):
    """The answer to a ping."""

    now_ns: int
    id: Id = None


class WireReplayDone(msgspec.Struct, tag="replay_done", tag_field="op"):
    """A replay has caught up."""

    channel: str
    symbol: str
    id: Id = None
    seq: str | None = None


class WireList(msgspec.Struct, tag="list", tag_field="op"):
    """The answer to `list`."""

    id: Id = None


Control = Union[Hello, WireAck, WireError, Heartbeat, WireSlow, WireGoAway, Pong, WireReplayDone, WireList]

# Integers stand as text in some places: lax decoding takes both.
_control = msgspec.json.Decoder(Control, strict=False)
_encoder = msgspec.json.Encoder()
# What is no JSON, no UTF-8, not what it should be, or nested beyond all measure.
_FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def encode(request: dict[str, Any]) -> bytes:
    """A request as the text of its message."""
    return _encoder.encode(request)


class Decoder:
    """Reads messages, with prices of one kind."""

    def __init__(self, prices: PriceType = float) -> None:
        price, self._convert = wire_type(prices)
        wire = Union[Trade[price], Quote[price], BookUpdate[price], Status, Gap]  # type: ignore[valid-type]
        self._data = msgspec.json.Decoder(list[wire], strict=False)

    def data(self, text: bytes | memoryview) -> list[OnWire[Any]]:
        """The events of a data frame.

        Raises:
            NotReadable: something in it cannot be read; then nothing of it is taken.
        """
        try:
            events: list[OnWire[Any]] = self._data.decode(text)
        except _FAULTS as error:
            raise NotReadable(str(error)) from None
        each = self._convert
        if each is not None:
            for event in events:
                if isinstance(event, (Trade, Quote, BookUpdate)):
                    convert(event, each)
        return events

    def control(self, text: bytes | memoryview) -> Control:
        """A control message.

        Raises:
            NotReadable: it is none that this version knows.
        """
        try:
            message: Control = _control.decode(text)
        except _FAULTS as error:
            raise NotReadable(str(error)) from None
        return message
