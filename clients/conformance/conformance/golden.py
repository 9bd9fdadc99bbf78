"""What of a client's events is compared, and with what."""

from __future__ import annotations

import difflib
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

from .stage import Failed

Event = dict[str, Any]

FOLDER = Path(__file__).resolve().parents[1] / "golden"
_POSITIONS = ("seq", "prev", "after", "upto")
_NUMBERS = ("price", "size", "bid_price", "bid_size", "ask_price", "ask_size")
_CHANNELS = {"trade": "trades", "quote": "quotes", "book": "book", "status": "status"}
_HIDDEN = ("ingest_ns", "hint")
_SHOWN_LINES = 60


def normal(events: list[Event]) -> list[str]:
    """Events as lines that are the same for every run and every client, of what they have to agree in."""
    epochs: dict[str, str] = {}
    lines: list[str] = []
    before: Event = {}
    is_stale = False
    for event in _in_order(events):
        kind = event.get("event")
        if kind == "feed" or (kind == "goaway" and before.get("event") == "goaway"):
            continue
        if kind == "state" and event.get("state") == "stale":
            is_stale = True
            continue
        if kind == "state" and event.get("state") == "live" and is_stale:
            is_stale = False
            continue
        before = event
        lines.append(json.dumps(_normal(event, epochs), sort_keys=True, ensure_ascii=False))
    return lines


def _in_order(events: list[Event]) -> list[Event]:
    """Sorts events of the market that stand together by channel and symbol: there is an order within these alone."""
    sorted_events: list[Event] = []
    together: list[Event] = []
    for event in events:
        kind = event.get("event")
        if kind in _CHANNELS or kind in ("gap", "resync"):
            together.append(event)
        elif kind != "feed":
            sorted_events += [*sorted(together, key=_stream), event]
            together = []
    return sorted_events + sorted(together, key=_stream)


def _stream(event: Event) -> tuple[str, str]:
    return (event.get("channel") or _CHANNELS[event["event"]], event.get("symbol", ""))


def _normal(event: Event, epochs: dict[str, str]) -> Event:
    shown: Event = {}
    for name, value in event.items():
        if name in _POSITIONS and isinstance(value, str):
            shown[name] = _position(value, epochs)
        elif name in _HIDDEN:
            shown[name] = "*" if value else value
        elif name == "duplicates":
            # A cursor may be older than the last event by as much as it likes.
            shown[name] = "*"
        elif name in _NUMBERS:
            shown[name] = number(value)
        elif name in ("bids", "asks"):
            shown[name] = [[number(price), number(size)] for price, size in value]
        elif name == "results":
            shown[name] = [_result(result) for result in value]
        else:
            shown[name] = value
    return shown


def _result(result: Event) -> Event:
    # Words for people, and a number that is the gateway's own.
    return {name: "*" if name in ("message", "instrument") else value for name, value in result.items()}


def _position(text: str, epochs: dict[str, str]) -> str:
    found = re.fullmatch(r"([0-9a-f]{1,8}):(\d+:\d+)", text)
    if found is None:
        return f"not a position: {text}"
    epoch = epochs.setdefault(found.group(1), f"E{len(epochs) + 1}")
    return f"{epoch}:{found.group(2)}"


def number(text: Any) -> str:
    """A number in its shortest form."""
    value = Decimal(str(text))
    return format(value.normalize(), "f") if value else "0"


def compare(name: str, lines: list[str], *, is_new: bool = False) -> None:
    """Compares lines with a golden file, or makes them one.

    Raises:
        Failed: they differ.
    """
    path = FOLDER / f"{name}.jsonl"
    if is_new:
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return
    if not path.exists():
        raise Failed(f"{path} is not there: --write makes it")
    expected = path.read_text(encoding="utf-8").splitlines()
    if lines != expected:
        diff = list(difflib.unified_diff(expected, lines, path.name, "this client", lineterm="", n=2))
        raise Failed("\n".join(["not as expected:", *diff[:_SHOWN_LINES]]))
