"""What a client is subscribed to, and the requests with which it asks for it, at first and when it comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, Literal, TypeAlias, get_args

from .events import CHANNELS, Channel, to_ns
from .judge import matches
from .position import Position, parse, to_text

OnSlow: TypeAlias = Literal["conflate", "skip", "disconnect"]

# Symbols in one request of a reconnect: 64 bytes each are well below what a message may have.
_SYMBOLS_PER_REQUEST = 2_000

Pair: TypeAlias = tuple[Channel, str]
Options: TypeAlias = dict[str, Any]


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
        self._held: dict[Pair, Options] = {}

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, channel: Channel, symbol: str, options: Options) -> None:
        """It was acknowledged. What was asked for of the past is over soon, and not asked for again."""
        if is_past(options):
            self._held.pop((channel, symbol), None)
            return
        kept = {name: value for name, value in options.items() if name != "from"}
        self._held[channel, symbol] = kept

    def drop(self, channel: Channel, symbol: str) -> None:
        """It is over."""
        self._held.pop((channel, symbol), None)

    def options_of(self, channel: Channel, symbol: str) -> Options | None:
        """The options of the subscription that brings a symbol: exact beats the longest pattern."""
        exact = self._held.get((channel, symbol))
        if exact is not None:
            return exact
        patterns = [name for c, name in self._held if c == channel and name.endswith("*") and matches(name, symbol)]
        return self._held[channel, max(patterns, key=len)] if patterns else None

    def name_of(self, channel: Channel, symbol: str) -> str | None:
        """The symbol or pattern of the subscription that brings a symbol."""
        if (channel, symbol) in self._held:
            return symbol
        patterns = [name for c, name in self._held if c == channel and name.endswith("*") and matches(name, symbol)]
        return max(patterns, key=len) if patterns else None

    def resume(self, cursor: str | None, last: Callable[[Channel, str], Position | None]) -> Iterator[Resumed]:
        """The requests that ask for all of it again: behind `cursor`, or without one behind the `last` position of each symbol,
        and where there is none as if it were new.
        """
        pairs = list(self._held)
        for first in range(0, len(pairs), _SYMBOLS_PER_REQUEST):
            part = pairs[first : first + _SYMBOLS_PER_REQUEST]
            if cursor is not None:
                body = {"op": "subscribe", "cursor": cursor, "subscriptions": self._grouped(part)}
                yield Resumed(body, part, part, [])
                continue
            asked: list[dict[str, Any]] = []
            fresh: list[Pair] = []
            awaited: list[Pair] = []
            for channel, symbol in part:
                position = None if symbol.endswith("*") else last(channel, symbol)
                if position is None:
                    fresh.append((channel, symbol))
                    continue
                awaited.append((channel, symbol))
                kept = self._without_snapshot((channel, symbol))
                asked.append({"channel": channel, "symbols": [symbol], **kept, "from": {"seq": to_text(position)}})
            body = {"op": "subscribe", "subscriptions": asked + self._grouped(fresh, with_snapshot=True)}
            yield Resumed(body, part, awaited, fresh)

    def _grouped(self, pairs: Iterable[Pair], *, with_snapshot: bool = False) -> list[dict[str, Any]]:
        groups: dict[tuple[Any, ...], list[str]] = {}
        for channel, symbol in pairs:
            pair: Pair = (channel, symbol)
            kept = self._held[pair] if with_snapshot else self._without_snapshot(pair)
            groups.setdefault((channel, *sorted(kept.items())), []).append(symbol)
        return [{"channel": key[0], "symbols": symbols, **dict(key[1:])} for key, symbols in groups.items()]

    def _without_snapshot(self, pair: Pair) -> Options:
        # The last trades are for who has none.
        return {name: value for name, value in self._held[pair].items() if name != "snapshot"}
