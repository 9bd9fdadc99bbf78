"""The client's rule: whether an event is in order, known already, or proof that something is missing.

One `Chain` for each channel and symbol. It is the rule of protocol/README.md ("The client's rule") and nothing else: no I/O, no clock.
"""

from __future__ import annotations

from enum import Enum

from .position import Position, is_at_or_before


class Verdict(Enum):
    """What the rule says about an event."""

    FIRST = "first"
    """First of its chain."""
    IN_ORDER = "in_order"
    """Follows the last event seen, or the end of a gap that was told."""
    SNAPSHOT = "snapshot"
    """The state was replaced."""
    DUPLICATE = "duplicate"
    """Seen already: discard it."""
    UNVERIFIED = "unverified"
    """The gateway did not know what came before, so that nothing can be checked."""
    UNANNOUNCED = "unannounced"
    """Events are missing, and nothing said so."""


class GapVerdict(Enum):
    """What the rule says about a gap."""

    TOLD = "told"
    """It begins where the chain stands, or does not say where."""
    MISFIT = "misfit"
    """It begins elsewhere. What it tells is missing all the same."""
    KNOWN = "known"
    """It is of what this client has, which came back with an older cursor: nothing is missing."""


class Chain:
    """Where a client stands on one channel of one symbol."""

    __slots__ = ("after_gap", "before", "is_discarding", "is_open", "is_resumed", "last")

    def __init__(self) -> None:
        self.last: Position | None = None
        # Where it stood in the partition that its symbol was in before.
        self.before: Position | None = None
        self.after_gap = False
        # Whether its client came back, and nothing live has come since.
        self.is_resumed = False
        # Whether the last event was discarded: so are its siblings.
        self.is_discarding = False
        # Whether something was told as gone of which nobody knows where it ends, and nothing has come since.
        self.is_open = False

    def event(
        self,
        seq: Position,
        prev: Position | None,
        *,
        is_snapshot: bool = False,
        is_replay: bool = False,
        is_sibling: bool = False,
    ) -> Verdict:
        """Judges the event at `seq` and moves on. `is_sibling`: it stands in the same frame directly behind another one of its
        chain, both or none of them snapshots; when it shares that one's `seq`, it is of the same record.
        """
        last = self.last
        if last is None:
            self.last = seq
            return Verdict.SNAPSHOT if is_snapshot else Verdict.FIRST
        if is_sibling and seq == last and not self.is_discarding:
            return Verdict.IN_ORDER
        self.is_discarding = self.has(seq) and not (self.after_gap and is_snapshot)
        if self.is_discarding:
            return Verdict.DUPLICATE
        if is_snapshot:
            verdict = Verdict.SNAPSHOT
        elif (
            # It stands for some that the client has, or for what only the gateway before knew of.
            (self.is_resumed and prev is not None and self.has(prev)) or prev == last or (prev is not None and prev == self.before)
        ):
            verdict = Verdict.IN_ORDER
        elif prev is None or self.is_open:
            verdict = Verdict.UNVERIFIED
        else:
            verdict = Verdict.UNANNOUNCED
        self._move_to(seq)
        self.after_gap = False
        self.is_open = False
        self.is_resumed = self.is_resumed and is_replay
        return verdict

    def gap(self, after: Position | None, upto: Position | None) -> GapVerdict:
        """Takes note of a gap that was told."""
        if self.is_resumed and after != self.last and upto is not None and self.has(upto):
            return GapVerdict.KNOWN
        is_of_both = self.is_resumed and after is not None and self.has(after)
        fits = after is None or self.last is None or after == self.last or is_of_both
        # What ends before where the chain stands says nothing of where it goes on, and takes nothing back of what was seen.
        if upto is not None and (upto in (self.last, self.before) or not self.has(upto)):
            self._move_to(upto)
            self.is_open = False
        # A snapshot that repeats the last position lost is news to this client, not a duplicate.
        self.after_gap = True
        return GapVerdict.TOLD if fits else GapVerdict.MISFIT

    def resumed(self) -> None:
        """The client comes back. What it goes on from may be older than what it has, so what comes first may reach further back."""
        self.is_resumed = True

    def aged_out(self) -> None:
        """The request that resumed it was told `replay_aged_out`: the next event may follow whatever is gone."""
        self.is_open = True

    def has(self, seq: Position) -> bool:
        """Whether an event at `seq` was seen or told as lost, as far as that is known."""
        return is_at_or_before(seq, self.last) or is_at_or_before(seq, self.before)

    def _move_to(self, seq: Position) -> None:
        if self.last is not None and self.last[0] != seq[0]:
            self.before = self.last
        self.last = seq
