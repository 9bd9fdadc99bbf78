"""Positions: where in Kafka an event came from, `<epoch in hex>:<partition>:<offset>`."""

from __future__ import annotations

import re
from typing import TypeAlias

Position: TypeAlias = tuple[str, int]
"""Epoch and partition, as the text before the last colon with that colon, and the offset, which is in order within them."""

_RUN = re.compile(r"[0-9a-fA-F]{1,8}:[0-9]{1,10}:")
_OFFSET_DIGITS_MAX = 20


class NotPosition(ValueError):
    """A text is not a position."""


def parse(text: str) -> Position:
    """Reads a position.

    Raises:
        NotPosition: it is none.
    """
    split = text.rfind(":") + 1
    run, offset = text[:split], text[split:]
    if _RUN.fullmatch(run) is None or not is_offset(offset):
        raise NotPosition(f"not a position: {text[:64]!r}")
    return run, int(offset)


def is_offset(text: str) -> bool:
    """Whether a text is an offset: decimal digits, of which `int` takes more kinds than these."""
    return text.isdecimal() and text.isascii() and len(text) <= _OFFSET_DIGITS_MAX


def to_text(position: Position) -> str:
    """A position as it is written."""
    return f"{position[0]}{position[1]}"


def is_at_or_before(position: Position, other: Position | None) -> bool:
    """Whether `position` is at or below `other`, in the same partition of the same topic."""
    return other is not None and position[0] == other[0] and position[1] <= other[1]
