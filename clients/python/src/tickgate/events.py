"""Data events: trades, quotes, books, status, and gaps.

Times are integer nanoseconds since the Unix epoch: `event_ns` by the venue's clock, `ingest_ns` by the gateway's when it read the record,
which is when it was read again where it was, as in a replay, `send_ns` when the producer meant to send, if its record said so,
`received_ns` when this client took it from its socket. `event_time` and its kin are
the same as `datetime` in UTC, which has microseconds only.

Prices and sizes are of one type `P` for a client: `float`, `decimal.Decimal`, or `int` in units of a `Fixed` scale.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any, ClassVar, Generic, Literal, TypeAlias, TypeVar, Union

import msgspec

P = TypeVar("P")

Channel: TypeAlias = Literal["trades", "quotes", "book", "status"]
CHANNELS: tuple[Channel, ...] = ("trades", "quotes", "book", "status")

GapCause: TypeAlias = Literal["slow_consumer", "overload", "upstream", "retention", "repartitioned", "unannounced"]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def to_datetime(ns: int) -> datetime:
    """Nanoseconds since the Unix epoch as a time in UTC, cut to microseconds."""
    return _EPOCH + timedelta(microseconds=ns // 1000)


def to_ns(time: int | datetime) -> int:
    """A time as nanoseconds since the Unix epoch; an integer is taken to be that already.

    Raises:
        ValueError: the `datetime` has no time zone, so that nobody can know what it means.
        TypeError: it is neither, as the `float` of `time.time()`.
    """
    if isinstance(time, int):
        return time
    if not isinstance(time, datetime):
        raise TypeError(f"a time is a datetime with a time zone, or whole nanoseconds since 1970, as time.time_ns() gives, not {time!r}")
    if time.tzinfo is None:
        raise ValueError("a datetime without a time zone: say which, as in datetime.now(timezone.utc)")
    return (time - _EPOCH) // timedelta(microseconds=1) * 1000


class _Timed:
    """What every event with times has."""

    __slots__ = ()

    event_ns: int
    ingest_ns: int
    received_ns: int

    @property
    def event_time(self) -> datetime:
        """When it happened, by the venue's clock."""
        return to_datetime(self.event_ns)

    @property
    def ingest_time(self) -> datetime:
        """When the gateway read it, by its clock."""
        return to_datetime(self.ingest_ns)

    @property
    def received_time(self) -> datetime:
        """When this client received it, by this machine's clock."""
        return to_datetime(self.received_ns)


class Trade(_Timed, msgspec.Struct, Generic[P], tag="trade", tag_field="type", gc=False, repr_omit_defaults=True):
    """A trade. `side` is the aggressor's."""

    channel: ClassVar[Channel] = "trades"

    symbol: str
    price: P
    size: P
    seq: str
    event_ns: int
    ingest_ns: int
    side: Literal["buy", "sell"] | None = None
    trade_id: str | None = None
    venue: str | None = None
    conditions: str | None = None
    send_ns: int | None = None
    prev: str | None = None
    merged: int = 1
    snapshot: bool = False
    replay: bool = False
    received_ns: int = 0


class Quote(_Timed, msgspec.Struct, Generic[P], tag="quote", tag_field="type", gc=False, repr_omit_defaults=True):
    """The best bid and offer. Crossed and locked ones are normal in real feeds."""

    channel: ClassVar[Channel] = "quotes"

    symbol: str
    bid_price: P
    bid_size: P
    ask_price: P
    ask_size: P
    seq: str
    event_ns: int
    ingest_ns: int
    venue: str | None = None
    send_ns: int | None = None
    prev: str | None = None
    merged: int = 1
    snapshot: bool = False
    replay: bool = False
    received_ns: int = 0


class BookUpdate(_Timed, msgspec.Struct, Generic[P], tag="book", tag_field="type", gc=False, repr_omit_defaults=True):
    """Levels of a book as `(price, size)`: absolute sizes, 0 removes the level. With `snapshot` they replace the book."""

    channel: ClassVar[Channel] = "book"

    symbol: str
    bids: list[tuple[P, P]]
    asks: list[tuple[P, P]]
    seq: str
    event_ns: int
    ingest_ns: int
    send_ns: int | None = None
    prev: str | None = None
    merged: int = 1
    snapshot: bool = False
    replay: bool = False
    received_ns: int = 0


class Status(_Timed, msgspec.Struct, tag="status", tag_field="type", gc=False, repr_omit_defaults=True):
    """Whether a symbol trades."""

    channel: ClassVar[Channel] = "status"

    symbol: str
    state: Literal["halted", "trading", "auction", "closed"]
    seq: str
    event_ns: int
    ingest_ns: int
    reason: str | None = None
    send_ns: int | None = None
    prev: str | None = None
    merged: int = 1
    snapshot: bool = False
    replay: bool = False
    received_ns: int = 0


class Gap(msgspec.Struct, tag="gap", tag_field="type", gc=False, repr_omit_defaults=True):
    """Events of a symbol on a channel are missing: those behind position `after` up to and with `upto`, `count` of them.

    `cause` is the gateway's word for it (protocol/README.md), or `unannounced`: the chain of positions broke and nothing had said so,
    or a session was lost before there was anything to go on from; then `symbol` may be a pattern.
    """

    channel: Channel
    symbol: str
    cause: GapCause
    after: str | None = None
    upto: str | None = None
    count: int | None = None
    received_ns: int = 0


Data: TypeAlias = Union[Trade[P], Quote[P], BookUpdate[P], Status]
"""What has a place in the market's time."""

OnWire: TypeAlias = Union[Trade[P], Quote[P], BookUpdate[P], Status, Gap]
"""What stands in a data frame."""

AnyData: TypeAlias = Union[Trade[Any], Quote[Any], BookUpdate[Any], Status]
