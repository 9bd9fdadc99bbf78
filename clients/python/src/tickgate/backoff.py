"""How long a client waits before it tries again: so that thousands that lost the same gateway do not all come at once."""

from __future__ import annotations

from random import Random

# Bound of the first wait; it doubles with every attempt that failed.
_FIRST_S = 0.1
# Bound of all waits.
_LAST_S = 5.0
# The most that is believed of a `Retry-After`.
_RETRY_AFTER_MAX_S = 30.0

# How long a session has to be live so that its end is a first failure, and not one more: a gateway that takes everybody in and ends it at
# once would be asked ten times a second.
_PROVEN_AFTER_S = 2.0


class Backoff:
    """Waits of one client."""

    def __init__(self, random: Random | None = None) -> None:
        self.attempts = 0
        self._random = random or Random()

    def next_s(self, retry_after_s: float | None = None) -> float:
        """Seconds to wait before the next attempt, by chance: the first time up to the bound, later at least half of it.
        Who was told when to come again comes then, or up to half as much later.
        """
        bound = min(_FIRST_S * 2.0 ** min(self.attempts, 16), _LAST_S)
        least = 0.0 if self.attempts == 0 else bound / 2
        self.attempts += 1
        if retry_after_s is not None:
            told = min(max(retry_after_s, 0.0), _RETRY_AFTER_MAX_S)
            return told * self._random.uniform(1.0, 1.5)
        return self._random.uniform(least, bound)

    def lived(self, live_s: float) -> None:
        """A session has ended that was live for so long: whether all was well shows in that."""
        if live_s >= _PROVEN_AFTER_S:
            self.reset()

    def reset(self) -> None:
        """It is well again: the next wait is a first one."""
        self.attempts = 0
