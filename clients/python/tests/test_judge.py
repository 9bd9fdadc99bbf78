"""A client's chains together: what is handed out, told and discarded, and that nothing of a bad frame is taken."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from tickgate.chain import Chain, Verdict
from tickgate.errors import NotReadable
from tickgate.events import BookUpdate, Gap, Quote, Trade
from tickgate.judge import Judge
from tickgate.notices import Error, Resync
from tickgate.position import parse

SEEDS = 500


def trade(seq: str, prev: str | None = None, symbol: str = "A", **more: Any) -> Trade[float]:
    return Trade(symbol, 1.0, 2.0, seq, 3, 4, prev=prev, **more)


def quote(seq: str, prev: str | None = None, **more: Any) -> Quote[float]:
    return Quote("A", 1.0, 2.0, 3.0, 4.0, seq, 5, 6, prev=prev, **more)


def book(seq: str, prev: str | None = None, **more: Any) -> BookUpdate[float]:
    return BookUpdate("A", [], [], seq, 5, 6, prev=prev, **more)


def state_of(judge: Judge) -> list[Any]:
    tracks = [track for by_symbol in judge._tracks.values() for track in by_symbol.values()]
    states = [(track.last_text, track.is_plain, track.has_state, track.is_broken, track.is_resubscribed) for track in tracks]
    return [track.saved()[:6] for track in tracks] + states + [judge.counts.all()]


def test_a_break_is_told_before_the_event_that_shows_it() -> None:
    judge = Judge()
    judge.frame([trade("1:0:1")], 7)
    out = judge.frame([trade("1:0:5", "1:0:3"), trade("1:0:6", "1:0:5")], 8)
    assert out[0] == Gap("trades", "A", "unannounced", "1:0:1", "1:0:3", None, 8)
    assert [event.seq for event in out[1:]] == ["1:0:5", "1:0:6"]  # type: ignore[union-attr]
    assert (judge.counts.unannounced, judge.counts.gaps, judge.counts.events) == (1, 1, 3)


def test_a_snapshot_that_replaces_something_is_a_resync() -> None:
    judge = Judge()
    assert judge.frame([quote("1:0:1", snapshot=True)], 7)[0].received_ns == 7  # type: ignore[union-attr]
    judge.frame([Gap("quotes", "A", "slow_consumer", "1:0:1", "1:0:4")], 7)
    out = judge.frame([quote("1:0:4", snapshot=True)], 7)
    assert out[0] == Resync("quotes", "A")
    assert len(out) == 2
    # Trades of a snapshot are some, not a state.
    assert len(judge.frame([trade("1:0:1", snapshot=True), trade("1:0:2", "1:0:1", snapshot=True)], 7)) == 2


def test_what_is_asked_for_again_begins_with_its_state() -> None:
    judge = Judge()
    judge.frame([quote("1:0:9")], 7)
    judge.resubscribed("quotes", "*")
    assert len(judge.frame([quote("1:0:9", snapshot=True)], 7)) == 1, "it is no duplicate, and no resync"
    judge.unsubscribed("quotes", "A*")
    assert len(judge.frame([quote("1:0:3", "1:0:2")], 7)) == 1, "its chain began anew"


def test_a_book_that_breaks_is_to_be_asked_for_again() -> None:
    judge = Judge()
    judge.frame([book("1:0:1", snapshot=True)], 7)
    judge.frame([book("1:0:5", "1:0:3")], 7)
    assert judge.broken_books == {"A"}
    judge.expects_snapshot("book", "A")
    assert Resync("book", "A") in judge.frame([book("1:0:5", snapshot=True)], 7)
    assert judge.broken_books == set()


def test_merged_events_are_counted() -> None:
    judge = Judge()
    judge.frame([quote("1:0:1", merged=3), quote("1:0:4", "1:0:1", merged=2)], 7)
    assert judge.counts.conflated == 3


def test_symbols_have_a_bound() -> None:
    judge = Judge(chains_max=2)
    out = judge.frame([trade("1:0:1", symbol=name) for name in "ABCD"], 7)
    assert [event.code for event in out if isinstance(event, Error)] == ["too_many_symbols"]
    assert judge.counts.events == 4


@pytest.mark.parametrize("bad", [trade("nowhere"), trade("1:0:9", "nowhere"), Gap("trades", "A", "overload", "x", None)])
def test_nothing_of_a_frame_is_taken_that_has_something_bad(bad: Any) -> None:
    judge = Judge()
    judge.frame([trade("1:0:1"), quote("1:0:1"), book("1:0:1", snapshot=True)], 7)
    before = state_of(judge)
    well: list[Any] = [
        trade("1:0:2", "1:0:1"),
        trade("1:0:3", "1:0:2"),
        quote("1:0:9", "1:0:7"),
        book("1:0:9", "1:0:7"),
        Gap("trades", "A", "overload", "1:0:3", "1:0:6"),
        trade("1:0:7", "1:0:6"),
    ]
    with pytest.raises(NotReadable):
        judge.frame([*well, bad], 8)
    assert state_of(judge) == before
    assert judge.broken_books == set()
    assert len(judge.frame([trade("1:0:2", "1:0:1")], 9)) == 1


def test_the_short_way_is_the_rule() -> None:
    """Most events are judged without the rule being asked: it would have said the same."""
    for seed in range(SEEDS):
        random = Random(seed)
        judge, chain = Judge(), Chain()
        last = 0
        for _ in range(40):
            run = random.choice(["1:0:", "1:0:", "1:0:", "1:2:"])
            seq = f"{run}{max(last + random.randint(-2, 3), 0)}"
            prev = random.choice([None, f"1:0:{last}", f"1:0:{last}", f"1:2:{last}", f"1:0:{max(last - 1, 0)}"])
            is_snapshot, is_replay = random.random() < 0.1, random.random() < 0.2
            if chain.last is not None and random.random() < 0.05:
                judge.came_back(lambda symbol: True)
                chain.resumed()
            if random.random() < 0.1:
                judge.frame([Gap("trades", "A", "overload", f"1:0:{last}", f"1:0:{last + 1}")], 7)
                chain.gap(("1:0:", last), ("1:0:", last + 1))
            was = judge.counts.all()
            out = judge.frame([trade(seq, prev, snapshot=is_snapshot, replay=is_replay)], 7)
            verdict = chain.event(parse(seq), None if prev is None else parse(prev), is_snapshot=is_snapshot, is_replay=is_replay)
            assert bool(out) == (verdict is not Verdict.DUPLICATE), f"seed {seed}: {seq} behind {prev} is {verdict}"
            is_told = any(isinstance(event, Gap) for event in out)
            assert is_told == (verdict is Verdict.UNANNOUNCED), f"seed {seed}: {seq} behind {prev} is {verdict}"
            track = judge._tracks["trades"]["A"]
            assert (track.last, track.before) == (chain.last, chain.before), f"seed {seed}"
            assert judge.counts.all() != was
            last = int(seq.rsplit(":", 1)[1])
