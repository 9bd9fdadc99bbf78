"""The scenarios: each is a function that leads a client through something, and is given to `run` by its name."""

from __future__ import annotations

from collections.abc import Callable

from ..world import World
from . import answers, books, frames, losses, overlap, slow

Scenario = Callable[[World], None]

ALL: dict[str, Scenario] = {
    "subscribe": answers.subscribe,
    "partial_ack": answers.partial_ack,
    "snapshot_then_updates": answers.snapshot_then_updates,
    "gap": slow.gap,
    "slow": slow.slow,
    "goaway": losses.goaway,
    "resume": losses.resume,
    "resume_refused": losses.resume_refused,
    "resume_duplicates": losses.resume_duplicates,
    "resume_positions": losses.resume_positions,
    "resume_past": losses.resume_past,
    "refused_cursor": losses.refused_cursor,
    "book_anew": books.book_anew,
    "book_anew_positions": books.book_anew_positions,
    "book_mended": books.book_mended,
    "overlap": overlap.overlap,
    "token_refresh": answers.token_refresh,
    "bad_frames": frames.bad_frames,
    "events": frames.events,
}

# It waits for a token to be over.
SLOWEST = "token_refresh"
