"""What a client is subscribed to, and the requests with which it asks for it, at first and when it comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from .events import CHANNELS, Channel, to_ns
from .position import Position, parse, to_text

OnSlow: TypeAlias = Literal["conflate", "skip", "disconnect"]

# Symbols in one request of a reconnect, of 64 bytes each at the most: well below what a message may have. Those that go on each from a
# position of their own take more.
_SYMBOLS_PER_REQUEST = 2_000
_POSITIONS_PER_REQUEST = 1_000

# Conflated streams that a gateway has.
_INTERVALS_MS = (0, 10, 20, 50, 100, 250, 500, 1000)

Pair: TypeAlias = tuple[Channel, str]
Options: TypeAlias = dict[str, Any]
T = TypeVar("T")


def options(
    channel: Channel,
    *,
    on_slow: OnSlow | None = None,
    conflate_ms: int | None = None,
    depth: int | None = None,
    snapshot: int | None = None,
    from_: str | int | datetime | None = None,
    until: int | datetime | None = None,
    speed: float | None = None,
) -> Options:
    """The options of a subscription as they are written.

    Raises:
        ValueError: an option that nobody can mean.
    """
    if channel not in CHANNELS:
        raise ValueError(f"no such channel: {channel!r}; they are {', '.join(CHANNELS)}")
    if on_slow is not None and on_slow not in get_args(OnSlow):
        raise ValueError(f"on_slow is conflate, skip or disconnect, not {on_slow!r}")
    if on_slow == "conflate" and channel == "trades":
        raise ValueError("trades cannot be conflated: each of them counts")
    wanted: Options = {}
    for name, value in (
        ("on_slow", on_slow),
        ("conflate_ms", conflate_ms),
        ("depth", depth),
        ("snapshot", snapshot),
    ):
        if value is not None:
            wanted[name] = value
    if from_ is None:
        if until is not None or speed is not None:
            raise ValueError("until and speed need from_: where to begin")
        return wanted
    if isinstance(from_, str):
        parse(from_)
        wanted["from"] = {"seq": from_}
    else:
        wanted["from"] = {"time_ns": str(to_ns(from_))}
    if until is not None:
        wanted["from"]["until_ns"] = str(to_ns(until))
    if speed is not None:
        wanted["from"]["speed"] = speed
    return wanted


def is_past(options: Options) -> bool:
    """Whether it is over when the past was played."""
    past = options.get("from", {})
    return "until_ns" in past or "speed" in past


def is_whole_book(channel: Channel, options: Options) -> bool:
    """Whether it is a book whose changes come where it goes on from somewhere, and not its newest state."""
    return channel == "book" and not options.get("depth") and not options.get("conflate_ms")


class Held:
    """What is known of a symbol or pattern that is held.

    `begin` is the `from`, `cursor` the cursor that it was asked for with, `owes_done` whether its user still waits for the end of that,
    `is_replayed` whether what was missed of it is still to come.
    """

    __slots__ = ("begin", "cursor", "cursors", "is_replayed", "options", "owes_done")

    def __init__(self, options: Options, begin: dict[str, Any] | None, cursor: str | None, cursors: int) -> None:
        self.options = options
        self.begin = begin
        self.cursor = cursor
        self.owes_done = self.is_replayed = begin is not None or cursor is not None
        # Cursors that had been kept when it was acknowledged: later ones cover it.
        self.cursors = cursors


class Resumed:
    """A request that a reconnect begins with. `awaited`: the symbols and patterns of which a replay is; `fresh`: those that begin
    anew, so that nobody knows what of them is missing.
    """

    __slots__ = ("awaited", "body", "fresh", "pairs")

    def __init__(self, body: dict[str, Any], pairs: list[Pair], awaited: list[Pair], fresh: list[Pair]) -> None:
        self.fresh = fresh
        self.body = body
        self.pairs = pairs
        self.awaited = awaited


class Subscriptions:
    """What was asked for and acknowledged, by channel and symbol or pattern."""

    def __init__(self) -> None:
        self._held: dict[Pair, Held] = {}
        # Cursors that were kept so far.
        self._cursors = 0

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, channel: Channel, symbol: str, options: Options, cursor: str | None = None) -> None:
        """It was acknowledged. What is the past alone is over soon, and not asked for again."""
        if is_past(options):
            self._held.pop((channel, symbol), None)
            return
        kept = {name: value for name, value in options.items() if name != "from"}
        self._held[channel, symbol] = Held(kept, options.get("from"), cursor, self._cursors)

    def drop(self, channel: Channel, symbol: str) -> None:
        """It is over."""
        self._held.pop((channel, symbol), None)

    def get(self, channel: Channel, symbol: str) -> Held | None:
        """What is known of a symbol or pattern, if it is held."""
        return self._held.get((channel, symbol))

    def covered(self) -> None:
        """A cursor was kept: it has a place for all that is held now."""
        self._cursors += 1

    def is_covered(self, channel: Channel, symbol: str) -> bool:
        """Whether a cursor was kept since the subscription that brings a symbol was acknowledged."""
        name = self.name_of(channel, symbol)
        return name is not None and self._held[channel, name].cursors < self._cursors

    def uncovered(self) -> None:
        """The cursor that was kept is none: nothing has a place by it."""
        for held in self._held.values():
            held.cursors = self._cursors

    def forget_cursor(self, cursor: str, pairs: Iterable[Pair]) -> list[Pair]:
        """A cursor is none. Gives those that were asked for with it."""
        found = [pair for pair in pairs if pair in self._held and self._held[pair].cursor == cursor]
        for pair in found:
            self._held[pair].cursor = None
        return found

    def options_of(self, channel: Channel, symbol: str) -> Options | None:
        """The options of the subscription that brings a symbol: exact beats the longest pattern."""
        name = self.name_of(channel, symbol)
        return None if name is None else self._held[channel, name].options

    def name_of(self, channel: Channel, symbol: str) -> str | None:
        """The symbol or pattern of the subscription that brings a symbol."""
        if (channel, symbol) in self._held:
            return symbol
        # By what patterns there can be, as there may be thousands of both.
        patterns = (symbol[:end] + "*" for end in range(len(symbol), -1, -1))
        return next((name for name in patterns if (channel, name) in self._held), None)

    def is_its(self, channel: Channel, name: str, symbol: str) -> bool:
        """Whether no subscription that is more specific than the one to `name`, held or not, brings a symbol that it means."""
        best = self.name_of(channel, symbol)
        return best is None or not name.endswith("*") or (best.endswith("*") and len(best) <= len(name))

    def goes_on(self, channel: Channel, symbol: str, ended: Held) -> bool:
        """Whether another subscription goes on with the stream of a symbol that an ended one brought: then no state comes anew."""
        name = self.name_of(channel, symbol)
        if name is None:
            return False
        held = self._held[channel, name]
        return not (held.is_replayed or ended.is_replayed) and _stream(held.options) == _stream(ended.options)

    def resume(
        self,
        cursor: str | None,
        last: Callable[[Channel, str], Position | None],
        lacks_state: Callable[[str], bool],
        pairs: Iterable[Pair] | None = None,
    ) -> Iterator[Resumed]:
        """The requests that ask for all of it again, or for some of it.

        What was acknowledged before `cursor` came goes on behind that. A cursor says nothing of the rest, which goes on behind the
        `last` position of the symbol, or begins where it was asked to; what has neither goes on from the cursor all the same, which
        gives more than was missed, or without one begins as if it were new. So does a whole book that `lacks_state`: what is behind a
        position are its changes, which are of no use to it. Of a pattern nobody knows which books do. Who asked for its past gets that,
        also once more.
        """
        by_cursor: dict[str, list[Pair]] = {}
        alone: list[tuple[Pair, dict[str, Any] | None]] = []
        for pair in self._held if pairs is None else pairs:
            held = self._held.get(pair)
            if held is None:
                continue
            channel, symbol = pair
            begin = held.begin
            if cursor is not None and held.cursors < self._cursors:
                by_cursor.setdefault(cursor, []).append(pair)
                continue
            is_pattern = symbol.endswith("*")
            if is_whole_book(channel, held.options) and not held.owes_done and (is_pattern or lacks_state(symbol)):
                alone.append((pair, None))
                continue
            position = None if is_pattern else last(channel, symbol)
            if position is not None:
                begin = {"seq": to_text(position)}
            other = held.cursor or cursor
            if begin is None and other is not None:
                by_cursor.setdefault(other, []).append(pair)
            else:
                alone.append((pair, begin))
        for common, all_of_it in by_cursor.items():
            for part in _parts(all_of_it, _SYMBOLS_PER_REQUEST):
                body = {"op": "subscribe", "cursor": common, "subscriptions": self._grouped(part)}
                yield Resumed(body, part, part, [])
        for some in _parts(alone, _POSITIONS_PER_REQUEST):
            asked = [
                {"channel": channel, "symbols": [symbol], **self._without_snapshot((channel, symbol)), "from": begin}
                for (channel, symbol), begin in some
                if begin is not None
            ]
            awaited = [pair for pair, begin in some if begin is not None]
            fresh = [pair for pair, begin in some if begin is None]
            body = {"op": "subscribe", "subscriptions": asked + self._grouped(fresh, with_snapshot=True)}
            yield Resumed(body, [pair for pair, _ in some], awaited, fresh)

    def _grouped(self, pairs: Iterable[Pair], *, with_snapshot: bool = False) -> list[dict[str, Any]]:
        groups: dict[tuple[Any, ...], list[str]] = {}
        for channel, symbol in pairs:
            pair: Pair = (channel, symbol)
            kept = self._held[pair].options if with_snapshot else self._without_snapshot(pair)
            groups.setdefault((channel, *sorted(kept.items())), []).append(symbol)
        return [{"channel": key[0], "symbols": symbols, **dict(key[1:])} for key, symbols in groups.items()]

    def _without_snapshot(self, pair: Pair) -> Options:
        # The last trades are for who has none.
        return {name: value for name, value in self._held[pair].options.items() if name != "snapshot"}


def _stream(options: Options) -> tuple[int, int]:
    """What subscriptions have in common that get the same events: the depth, and the interval as the gateway rounds it up."""
    conflate_ms = options.get("conflate_ms") or 0
    return options.get("depth") or 0, next((ms for ms in _INTERVALS_MS if ms >= conflate_ms), conflate_ms)


def _parts(items: list[T], size: int) -> Iterator[list[T]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
