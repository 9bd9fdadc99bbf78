"""Requests, from when they are made to when they are answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .errors import Refused
from .notices import Ack
from .subscriptions import Options, Pair

# Requests that wait for their answer: a gateway takes 20 a second.
REQUESTS_MAX = 10_000

Answered = Callable[[Ack | Refused], None]


class Request:
    """A request that waits for its answer. `kind`: subscribe and unsubscribe are the user's; resume, resync, mend, again, auth."""

    __slots__ = ("answered", "awaited", "body", "keeps_place", "kind", "options", "pairs")

    def __init__(self, kind: str, body: dict[str, Any], pairs: list[Pair]) -> None:
        self.kind = kind
        self.body = body
        self.pairs = pairs
        self.options: Options = {}
        # Of a resume: what a replay is awaited of.
        self.awaited: list[Pair] = []
        self.answered: Answered | None = None
        self.keeps_place = False
