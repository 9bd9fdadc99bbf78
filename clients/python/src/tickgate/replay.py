"""The past: one subscription that is played to its end, and begun again when its connection is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .errors import Refused
from .events import Channel
from .notices import Ack, Error, ReplayDone, State

# How much of the past is played again after a loss, at a given speed: clocks of venues are not Kafka's.
_AGAIN_NS = 60_000_000_000
# With these a request is refused as a whole.
_REFUSALS = frozenset({"bad_request", "forbidden", "rate_limited", "subscription_limit", "unknown_channel", "unknown_symbol"})


def played(
    live: Iterable[Any],
    subscribe: Callable[..., Any],
    channel: Channel,
    symbols: list[str],
    wanted: dict[str, Any],
) -> Iterator[Any]:
    """Events of the past, until every symbol and pattern was played.

    After a loss it is asked for again, from the beginning or, where it has a speed, from a minute before the last event; what came
    before is known by its position and discarded.
    """
    left = set(symbols)
    subscribe(channel, symbols, wanted)
    is_asked = True
    last_ns = 0
    for event in live:
        if isinstance(event, ReplayDone):
            left.discard(event.symbol)
            if not left:
                return
            continue
        if isinstance(event, Ack):
            event.check()
        elif isinstance(event, Error) and not event.fatal and event.code in _REFUSALS:
            # Of a fatal one the client comes back, or raises it itself.
            raise Refused(event.code, event.message, symbol=event.symbol, channel=event.channel)
        elif isinstance(event, State):
            if event.state == "reconnecting":
                is_asked = False
            elif event.state == "live" and not is_asked:
                is_asked = True
                subscribe(channel, sorted(left), _again(wanted, last_ns), keeps_place=True)
        else:
            last_ns = max(last_ns, getattr(event, "event_ns", 0))
        yield event


def _again(wanted: dict[str, Any], last_ns: int) -> dict[str, Any]:
    begin = dict(wanted["from"])
    if "speed" in begin:
        begin["time_ns"] = str(max(int(begin["time_ns"]), last_ns - _AGAIN_NS))
    return {**wanted, "from": begin}
