"""Holds everything that comes to the client's rule: what is handed out, what is discarded, what is told as missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from .chain import Chain, GapVerdict, Verdict
from .errors import NotReadable
from .events import CHANNELS, AnyData, Channel, Gap, OnWire
from .notices import AnyEvent, Error, Resync
from .position import NotPosition, Position, is_offset, parse, to_text

# Symbols whose chains are kept, over all channels: a gateway has 20,000 symbols unless it is set up for more.
_CHAINS_MAX = 1_000_000


class Track(Chain):
    """The chain of a channel and symbol, and what is known of it besides."""

    __slots__ = ("frame", "has_state", "is_broken", "is_plain", "is_resubscribed", "last_text", "run", "run_length", "was_snapshot")

    def __init__(self) -> None:
        super().__init__()
        # `last` as text, and its part before the offset, by which most events are found to be in order.
        self.last_text: str | None = None
        self.run = ""
        self.run_length = 0
        # Whether an event that follows `last` in the same partition is in order whatever else there is.
        self.is_plain = False
        self.frame = -1
        self.was_snapshot = False
        # A subscribe was answered while it stood: its snapshot may repeat what was seen.
        self.is_resubscribed = False
        # Of a book: whether its state came and nothing is missing since; and whether it is to be had anew, as something is.
        self.has_state = False
        self.is_broken = False

    def settle(self) -> None:
        """Takes note of where the chain stands: to be called after whatever changed it."""
        last = self.last
        if last is not None:
            self.last_text = to_text(last)
            self.run = last[0]
            self.run_length = len(last[0])
        special = self.after_gap or self.is_resumed or self.is_discarding or self.is_open or self.is_broken
        self.is_plain = last is not None and not special

    def lose_state(self) -> None:
        """Something of it is missing. One that never had a state was asked for without."""
        self.is_broken = self.is_broken or self.has_state
        self.has_state = False

    def saved(self) -> tuple[Any, ...]:
        """All of it, for `restore`."""
        flags = (self.after_gap, self.is_resumed, self.is_discarding, self.is_open)
        more = (self.frame, self.was_snapshot, self.is_resubscribed, self.has_state, self.is_broken)
        return (self.last, self.before, *flags, *more)

    def restore(self, saved: tuple[Any, ...]) -> None:
        """Makes it what it was."""
        self.last, self.before, self.after_gap, self.is_resumed, self.is_discarding = saved[:5]
        self.is_open, self.frame, self.was_snapshot, self.is_resubscribed, self.has_state, self.is_broken = saved[5:]
        self.settle()


IsIts: TypeAlias = Callable[[str], bool]
_Undo: TypeAlias = "tuple[Track, Position | None, tuple[Any, ...] | None]"


class Counts:
    """What was found so far."""

    __slots__ = (
        "conflated",
        "duplicates",
        "events",
        "gaps",
        "misfits",
        "resyncs",
        "unannounced",
        "unverified",
    )

    def __init__(self) -> None:
        self.restore((0,) * len(self.__slots__))

    def all(self) -> tuple[int, ...]:
        """All of them, for `restore`."""
        return (
            self.conflated,
            self.duplicates,
            self.events,
            self.gaps,
            self.misfits,
            self.resyncs,
            self.unannounced,
            self.unverified,
        )

    def restore(self, counts: tuple[int, ...]) -> None:
        """Makes them what they were."""
        (
            self.conflated,
            self.duplicates,
            self.events,
            self.gaps,
            self.misfits,
            self.resyncs,
            self.unannounced,
            self.unverified,
        ) = counts


class Judge:
    """Where a client stands on every channel and symbol that it was given."""

    def __init__(self, chains_max: int = _CHAINS_MAX) -> None:
        self.counts = Counts()
        # Books whose chain broke without a word since they were last asked for: a new snapshot has to be asked for.
        self.broken_books: set[str] = set()
        self._tracks: dict[Channel, dict[str, Track]] = {channel: {} for channel in CHANNELS}
        self._frame = 0
        self._chains_max = chains_max
        self._is_over_max = False

    def frame(self, events: list[OnWire[Any]], received_ns: int) -> list[AnyEvent]:
        """Judges the events of one frame, and gives what is to be handed out, in order.

        Raises:
            NotReadable: it holds something that is no position; then nothing of it is taken.
        """
        self._frame = frame = self._frame + 1
        out: list[AnyEvent] = []
        # What the chains were before, should there be something further on in the frame that cannot be read.
        undo: list[_Undo] = []
        counts = self.counts
        was, was_broken = counts.all(), set(self.broken_books)
        all_tracks = self._tracks
        try:
            for event in events:
                if isinstance(event, Gap):
                    self._gap(event, received_ns, out, undo)
                    continue
                track = all_tracks[event.channel].get(event.symbol)
                if track is None:
                    track = self._add(event.channel, event.symbol, out)
                last = track.last
                if track.is_plain and event.prev == track.last_text and last is not None and not event.snapshot:
                    # Nearly always: the rule in short, without reading what was read before.
                    seq = event.seq
                    digits = seq[track.run_length :]
                    if seq.startswith(track.run) and is_offset(digits) and (offset := int(digits)) > last[1]:
                        undo.append((track, last, None))
                        track.last = (track.run, offset)
                        track.last_text = seq
                        track.frame = frame
                        track.was_snapshot = False
                        event.received_ns = received_ns
                        counts.events += 1
                        if event.merged > 1:
                            counts.conflated += event.merged - 1
                        out.append(event)
                        continue
                self._event(event, track, received_ns, out, undo)
        except NotPosition as error:
            for track, last, saved in reversed(undo):
                if saved is None:
                    track.last = last
                    track.settle()
                else:
                    track.restore(saved)
            counts.restore(was)
            self.broken_books = was_broken
            raise NotReadable(str(error)) from None
        return out

    def came_back(self, is_covered: IsIts) -> None:
        """The session has ended, and the next one goes on where it stood. `is_covered`: of which books the state that a subscribe brings
        came before the cursor that is kept.
        """
        for channel, tracks in self._tracks.items():
            for symbol, track in tracks.items():
                track.resumed()
                track.is_resubscribed = track.is_resubscribed and channel == "book" and not is_covered(symbol)
                if track.is_broken:
                    # The state that was to come was lost with the session, and one that comes now is news.
                    self.broken_books.add(symbol)
                    track.after_gap = True
                track.settle()

    def last(self, channel: Channel, symbol: str) -> Position | None:
        """The last position of a symbol that was seen or told as lost."""
        track = self._tracks[channel].get(symbol)
        return None if track is None else track.last

    def lacks_state(self, symbol: str) -> bool:
        """Whether the state of a book is still to come, or is broken: its changes alone are of no use."""
        track = self._tracks["book"].get(symbol)
        return track is None or track.is_resubscribed or not track.has_state

    def resubscribed(self, channel: Channel, symbol: str, is_its: IsIts | None = None) -> None:
        """A subscribe to a symbol or pattern was answered, in the midst of a session. `is_its`, here and below: which symbols it brings,
        where another subscription may bring some; all that it means without.
        """
        for _, track in self._matching(channel, symbol, is_its):
            track.is_resubscribed = True

    def expects_snapshot(self, channel: Channel, symbol: str, is_its: IsIts | None = None) -> None:
        """What a symbol or pattern means was asked for again: a snapshot is news, whatever its position."""
        for _, track in self._matching(channel, symbol, is_its):
            track.after_gap = True
            track.settle()

    def begins_anew(self, channel: Channel, symbol: str, is_its: IsIts | None = None) -> None:
        """What a symbol or pattern means was begun anew with a new session: nobody knows what of it is missing."""
        self.expects_snapshot(channel, symbol, is_its)
        if channel == "book":
            for name, track in self._matching(channel, symbol, is_its):
                track.lose_state()
                track.settle()
                self.broken_books.discard(name)

    def unsubscribed(self, channel: Channel, symbol: str, is_its: IsIts | None = None) -> list[str]:
        """An unsubscribe was answered: what comes of it later begins anew. Gives the symbols of which something had come."""
        gone = [name for name, _ in self._matching(channel, symbol, is_its)]
        for name in gone:
            del self._tracks[channel][name]
        if channel == "book":
            self.broken_books.difference_update(gone)
        return gone

    def aged_out(self, channel: Channel, symbol: str, is_its: IsIts | None = None) -> None:
        """What a symbol or pattern was resumed with is gone."""
        for _, track in self._matching(channel, symbol, is_its):
            if track.is_resumed:
                track.aged_out()
                track.settle()

    def _matching(self, channel: Channel, symbol: str, is_its: IsIts | None) -> list[tuple[str, Track]]:
        tracks = self._tracks[channel]
        if symbol.endswith("*"):
            found = [(name, track) for name, track in tracks.items() if matches(symbol, name)]
        else:
            track = tracks.get(symbol)
            found = [] if track is None else [(symbol, track)]
        return found if is_its is None else [(name, track) for name, track in found if is_its(name)]

    def _add(self, channel: Channel, symbol: str, out: list[AnyEvent]) -> Track:
        tracks = self._tracks[channel]
        if sum(map(len, self._tracks.values())) >= self._chains_max:
            if not self._is_over_max:
                self._is_over_max = True
                out.append(Error("too_many_symbols", "no more symbols can be checked", symbol=symbol, channel=channel))
            return Track()
        track = tracks[symbol] = Track()
        return track

    def _event(self, event: AnyData, track: Track, received_ns: int, out: list[AnyEvent], undo: list[_Undo]) -> None:
        seq, prev = parse(event.seq), _maybe(event.prev)
        undo.append((track, None, track.saved()))
        is_snapshot = event.snapshot
        is_sibling = track.frame == self._frame and track.was_snapshot == is_snapshot
        if is_snapshot and track.is_resubscribed:
            track.last = track.before = None
            track.is_resubscribed = False
        last = track.last
        verdict = track.event(seq, prev, is_snapshot=is_snapshot, is_replay=event.replay, is_sibling=is_sibling)
        track.frame = self._frame
        track.was_snapshot = is_snapshot
        if event.channel == "book" and verdict is not Verdict.DUPLICATE:
            self._book(event, track, verdict)
        track.settle()
        counts = self.counts
        channel, symbol = event.channel, event.symbol
        if verdict is Verdict.DUPLICATE:
            counts.duplicates += 1
            return
        if verdict is Verdict.UNVERIFIED:
            counts.unverified += 1
        elif verdict is Verdict.UNANNOUNCED:
            counts.unannounced += 1
            counts.gaps += 1
            after = None if last is None else to_text(last)
            out.append(Gap(channel, symbol, "unannounced", after, event.prev, None, received_ns))
        elif verdict is Verdict.SNAPSHOT and last is not None and channel != "trades":
            counts.resyncs += 1
            out.append(Resync(channel, symbol))
        event.received_ns = received_ns
        counts.events += 1
        counts.conflated += max(event.merged, 1) - 1
        out.append(event)

    def _book(self, event: AnyData, track: Track, verdict: Verdict) -> None:
        """Whether its state is there after this event."""
        if event.snapshot:
            track.has_state, track.is_broken = True, False
            self.broken_books.discard(event.symbol)
        elif verdict is Verdict.UNANNOUNCED:
            track.has_state, track.is_broken = False, True
            self.broken_books.add(event.symbol)
        elif track.is_broken and not event.replay:
            # No gateway gives changes without a state of its own accord: the state got lost with a session.
            self.broken_books.add(event.symbol)

    def _gap(self, gap: Gap, received_ns: int, out: list[AnyEvent], undo: list[_Undo]) -> None:
        after, upto = _maybe(gap.after), _maybe(gap.upto)
        track = self._tracks[gap.channel].get(gap.symbol)
        if track is None:
            track = self._add(gap.channel, gap.symbol, out)
        undo.append((track, None, track.saved()))
        verdict = track.gap(after, upto)
        if gap.channel == "book" and verdict is not GapVerdict.KNOWN:
            track.lose_state()
        track.settle()
        if verdict is GapVerdict.KNOWN:
            return
        self.counts.misfits += verdict is GapVerdict.MISFIT
        self.counts.gaps += 1
        gap.received_ns = received_ns
        out.append(gap)


def matches(pattern: str, symbol: str) -> bool:
    """Whether a symbol or pattern of a subscription means `symbol`."""
    return symbol.startswith(pattern[:-1]) if pattern.endswith("*") else pattern == symbol


def _maybe(text: str | None) -> Position | None:
    return None if text is None else parse(text)
