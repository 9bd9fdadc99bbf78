"""The past: one subscription that is played to its end, and begun again when its connection is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .errors import TickgateError
from .events import Channel
from .notices import Ack, Error, ReplayDone, State

# How much of the past is played again after a loss, at a given speed: clocks of venues are not Kafka's.
_AGAIN_NS = 60_000_000_000


def played(
    live: Iterable[Any],
    subscribe: Callable[[Channel, list[str], dict[str, Any]], Any],
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
            for result in event.refused:
                if result.code != "rate_limited":
                    event.check()
            is_asked = True
        elif isinstance(event, Error) and event.fatal:
            raise TickgateError(event.code, event.message, symbol=event.symbol, channel=event.channel)
        elif isinstance(event, State):
            if event.state == "reconnecting":
                is_asked = False
            elif event.state == "live" and not is_asked:
                is_asked = True
                subscribe(channel, sorted(left), _again(wanted, last_ns))
        else:
            last_ns = max(last_ns, getattr(event, "event_ns", 0))
        yield event


def _again(wanted: dict[str, Any], last_ns: int) -> dict[str, Any]:
    begin = dict(wanted["from"])
    if "speed" in begin:
        begin["time_ns"] = str(max(int(begin["time_ns"]), last_ns - _AGAIN_NS))
    return {**wanted, "from": begin}
