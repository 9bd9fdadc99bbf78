"""How the stream does: what came, how late, and how far this machine's clock is from the gateway's."""

from __future__ import annotations

import math
from collections import deque
from typing import Literal, TypeAlias

import msgspec

FeedState: TypeAlias = Literal["unknown", "live", "stale", "down"]

# Bounds of latencies: each bucket is a twelfth of a doubling wide, some 6 %, from a microsecond to a minute and more.
_PER_DOUBLING = 12
_FIRST_NS = 1_000
_BUCKETS = _PER_DOUBLING * 26
# Clock measurements kept, of which the one with the shortest way counts.
_CLOCKS = 8


class Stats(msgspec.Struct, frozen=True):
    """What a client knows of its stream, since it was made.

    `latency_p50_ms`, `latency_p99_ms`: from when the gateway read a record to its arrival here, over live frames (the first event
    of each), with clocks made equal by `skew_ms`: the gateway's clock minus this machine's, known to half of `round_trip_ms`. All
    are `None` before they are known; what comes in a session before its gateway has said what time it is counts for no latency.
    `conflated`: updates that newer ones stand for. `queued_events`: taken from the socket, and not handed out yet. `paused`: times at
    which reading stopped as the queue was full. `feed_state`: of the gateway's feeds the worst one's, `live`, `stale` or `down`;
    `unknown` until a session's first heartbeat says it. `feeds`: of each feed, by its name, what was heard last.
    """

    state: str
    session: str | None
    messages: int
    bytes: int
    events: int
    gaps: int
    conflated: int
    duplicates: int
    unverified: int
    unannounced: int
    resyncs: int
    bad_frames: int
    reconnects: int
    paused: int
    queued_events: int
    queued_bytes: int
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    skew_ms: float | None
    round_trip_ms: float | None
    feed_state: FeedState
    feeds: dict[str, str]


class Latencies:
    """Latencies in buckets, so that they take the same memory for ever."""

    def __init__(self) -> None:
        self.count = 0
        self._counts = [0] * _BUCKETS

    def record(self, ns: int) -> None:
        """Counts one. What is below zero, as clocks are never quite equal, counts as the least."""
        bucket = 0 if ns <= _FIRST_NS else min(int(math.log2(ns / _FIRST_NS) * _PER_DOUBLING), _BUCKETS - 1)
        self._counts[bucket] += 1
        self.count += 1

    def quantile_ms(self, part: float) -> float | None:
        """The latency that `part` of all stay below, in milliseconds; `None` before the first."""
        if self.count == 0:
            return None
        left = math.ceil(self.count * part)
        for bucket, count in enumerate(self._counts):
            left -= count
            if left <= 0:
                return float(_FIRST_NS * 2.0 ** ((bucket + 1) / _PER_DOUBLING) / 1e6)
        return None


class Clock:
    """How far the gateway's clock is from this machine's, by asking it the time."""

    def __init__(self) -> None:
        self._measured: deque[tuple[int, int]] = deque(maxlen=_CLOCKS)

    def reset(self) -> None:
        """It may be another gateway now."""
        self._measured.clear()

    def pong(self, sent_ns: int, received_ns: int, now_ns: int) -> None:
        """Asked at `sent_ns`, it said that it is `now_ns`, which came at `received_ns`."""
        round_trip_ns = max(received_ns - sent_ns, 0)
        self._measured.append((round_trip_ns, now_ns - (sent_ns + received_ns) // 2))

    @property
    def skew_ns(self) -> int | None:
        """The gateway's clock minus this machine's."""
        return min(self._measured)[1] if self._measured else None

    @property
    def round_trip_ns(self) -> int | None:
        """The shortest way there and back."""
        return min(self._measured)[0] if self._measured else None
