"""What is told beside data: states, answers, resyncs, errors. They come in order with the data, as events of the same stream."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, Union

import msgspec

from .errors import SEVERAL_HINT, Refused, hint, unseen_hint
from .events import Channel, OnWire, P

StateName: TypeAlias = Literal["connecting", "live", "stale", "reconnecting", "resyncing", "closed"]


class State(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """The connection has changed its state.

    `connecting`, then `live`; when a session ends `reconnecting` with its `attempt` (from 1), `resyncing` while what was missed
    comes, `live`. `stale`: nothing came for longer than two heartbeats and a second. `closed` is the last one. `reason` says why.
    """

    state: StateName
    attempt: int = 0
    reason: str = ""


class AckResult(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """What became of one symbol or pattern of a request. A refusal has a `code` and a `message`.

    `seen` is false if no record has named the symbol yet, `state` is `building` for a book of which no snapshot was read yet;
    `delayed_s`: everything of it comes at least so many seconds late.
    """

    channel: str
    symbol: str
    ok: bool
    instrument: int | None = None
    seen: bool | None = None
    state: str | None = None
    delayed_s: int | None = None
    code: str | None = None
    message: str | None = None

    @property
    def hint(self) -> str | None:
        """What to do about a refusal, or about a symbol of which nothing was ever seen; it stands in its `repr` too."""
        if self.code is not None:
            return hint(self.code, self.symbol)
        if self.seen is False:
            return unseen_hint(self.symbol)
        # Of patterns nobody says whether they bring anything.
        return SEVERAL_HINT if "," in self.symbol and self.symbol.endswith("*") else None

    def __repr__(self) -> str:
        return _with_hint(super().__repr__(), self.hint)


class Ack(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """The answer to a subscribe or unsubscribe; `ok` when every result is. `ended_books`: symbols whose books nothing keeps in step any
    more, until a snapshot comes of another subscription.
    """

    op: str
    ok: bool
    results: tuple[AckResult, ...] = ()
    ended_books: tuple[str, ...] = ()

    @property
    def refused(self) -> tuple[AckResult, ...]:
        """Those results that are refusals."""
        return tuple(result for result in self.results if not result.ok)

    def check(self) -> Ack:
        """Gives itself.

        Raises:
            Refused: something was refused; it speaks of the first.
        """
        for result in self.refused:
            message = result.message or "refused"
            raise Refused(result.code or "refused", message, symbol=result.symbol, channel=result.channel)
        return self


class AuthAck(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """A token was taken in place. `ended`: subscriptions that it does not grant any more; `ended_books`: see `Ack`."""

    ok: bool
    ended: tuple[AckResult, ...] = ()
    ended_books: tuple[str, ...] = ()


class Resync(msgspec.Struct, frozen=True):
    """The next event of this symbol replaces what was known of it: a snapshot behind a gap, a break or a reconnect."""

    channel: Channel
    symbol: str


class ReplayDone(msgspec.Struct, frozen=True):
    """All of the past that was asked for with `from_` has come. `seq`: the symbol's newest event, where known."""

    channel: Channel
    symbol: str
    seq: str | None = None


class Slow(msgspec.Struct, frozen=True):
    """The gateway has much waiting for this client: at its bound `action` follows."""

    delay_ms: int
    queued_bytes: int
    limit_bytes: int
    action: str


class GoAway(msgspec.Struct, frozen=True):
    """The gateway is about to stop. The client comes back, to whichever gateway there is, when it has."""

    reason: str
    close_in_ms: int


class Feed(msgspec.Struct, frozen=True):
    """A feed behind the gateway has changed its state: `live`, `stale` or `down`."""

    name: str
    state: str


class Error(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """Something failed. `fatal`: the session ends with it. `has_ended`: with it the subscription to `symbol` on `channel` is over, which
    could not be resumed; `ended_books`: see `Ack`.
    """

    code: str
    message: str
    fatal: bool = False
    symbol: str | None = None
    channel: str | None = None
    has_ended: bool = False
    ended_books: tuple[str, ...] = ()

    @property
    def hint(self) -> str:
        """What to do about it; it stands in its `repr` too."""
        return hint(self.code, self.symbol)

    def __repr__(self) -> str:
        return _with_hint(super().__repr__(), self.hint)


def _with_hint(shown: str, hint: str | None) -> str:
    return shown if hint is None else f"{shown[:-1]}, hint={hint!r})"


Notice: TypeAlias = Union[State, Ack, AuthAck, Resync, ReplayDone, Slow, GoAway, Feed, Error]

Event: TypeAlias = Union[OnWire[P], State, Ack, AuthAck, Resync, ReplayDone, Slow, GoAway, Feed, Error]
"""Whatever a client is told: data, gaps and notices."""

AnyEvent: TypeAlias = Union[OnWire[Any], Notice]
