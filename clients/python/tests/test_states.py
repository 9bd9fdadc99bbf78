"""Books whose state is lost with the session that was to bring it: without a socket."""

from __future__ import annotations

from typing import Any

import pytest

from test_core import Talk, states
from test_overlaps import book, comes, gaps, unsubscribed
from tickgate.books import Books
from tickgate.events import BookUpdate, Gap
from tickgate.notices import AnyEvent, ReplayDone, Resync


def back(talk: Talk) -> tuple[list[AnyEvent], list[dict[str, Any]]]:
    """Loses the session, and has another one: what is told, and what is asked for with its answers."""
    talk.lost()
    out = talk.hello()
    asked = talk.asked()
    for request in asked:
        pairs = [(each["channel"], symbol) for each in request["subscriptions"] for symbol in each["symbols"]]
        out += talk.says(talk.ack(request["id"], *pairs))
    return out, asked


def done(talk: Talk, *symbols: str) -> list[AnyEvent]:
    return talk.says(*({"op": "replay_done", "channel": "book", "symbol": symbol} for symbol in symbols))


def missing(out: list[AnyEvent]) -> list[str]:
    return [event.symbol for event in out if isinstance(event, Gap) and event.after is event.upto is None]


def whence(asked: list[dict[str, Any]]) -> dict[str, Any]:
    """Where each symbol or pattern goes on."""
    subscriptions = [(request, each) for request in asked for each in request["subscriptions"]]
    return {symbol: request.get("cursor") or each.get("from") for request, each in subscriptions for symbol in each["symbols"]}


def changed(out: list[AnyEvent]) -> list[str]:
    return [event.seq for event in out if isinstance(event, BookUpdate)]


def test_a_whole_book_that_lacks_its_state_begins_anew_and_what_is_answered_with_a_state_goes_on() -> None:
    # It went on with its changes alone: never complete, or, at another depth before, complete by its word and without some levels.
    talk = Talk()
    talk.hello()
    talk.subscribed("quotes", "Q")
    talk.beat("c")
    for name in ("SEEN", "DEEPER", "BROKEN"):
        talk.subscribed("book", name, **({"depth": 1} if name == "DEEPER" else {}))
        comes(talk, book(1, symbol=name, snapshot=True))
    comes(talk, book(5, 4, symbol="BROKEN"))
    talk.asked()
    talk.subscribed("book", "DEEPER")
    for name, options in (("NEW", {}), ("P*", {"on_slow": "skip"}), ("TOP*", {"depth": 5}), ("SLOW*", {"conflate_ms": 100})):
        talk.subscribed("book", name, **options)
    talk.core.subscribe("book", ["MINE*"], {}, cursor="kept with the book")
    talk.says(talk.ack(talk.asked()[-1]["id"], ("book", "MINE*")))
    out, asked = back(talk)
    assert whence(asked) == {
        "Q": "c",
        "TOP*": "c",
        "SLOW*": "c",
        "MINE*": "kept with the book",
        "SEEN": {"seq": "1:0:1"},
        **dict.fromkeys(("DEEPER", "BROKEN", "NEW", "P*")),
    }
    assert sorted(missing(out)) == ["BROKEN", "DEEPER", "NEW", "P*"]
    assert talk.core.judge.broken_books == set(), "it was asked for"


def test_what_a_cursor_covers_has_its_state() -> None:
    talk = Talk()
    talk.hello()
    for name in ("A", "P*"):
        talk.subscribed("book", name)
    talk.beat("c")
    out, asked = back(talk)
    assert (whence(asked), missing(out)) == ({"A": "c", "P*": "c"}, [])


@pytest.mark.parametrize("depth", [0, 5])
def test_a_book_of_another_depth_takes_the_state_that_it_lacks(depth: int) -> None:
    # Nothing had changed meanwhile, so that it was discarded as known.
    talk = Talk()
    talk.hello()
    talk.subscribed("book", "A", depth=1)
    comes(talk, book(1, snapshot=True))
    talk.beat("c")
    talk.subscribed("book", "A", depth=depth)
    _, asked = back(talk)
    assert whence(asked) == {"A": {"seq": "1:0:1"} if depth else None}
    # The user asked for it: it is no news to him.
    (state,) = comes(talk, book(1, snapshot=True, bids=[["9", "1"], ["8", "1"]]))
    assert isinstance(state, BookUpdate)
    assert gaps(comes(talk, book(4, 3))) == [("unannounced", "1:0:1", "1:0:3")]


@pytest.mark.parametrize("name", ["A", "A*"])
def test_a_state_that_begins_anew_is_a_resync(name: str) -> None:
    talk = Talk()
    talk.hello()
    talk.subscribed("book", name)
    comes(talk, book(1, snapshot=True))
    if name == "A":
        gap = {"type": "gap", "symbol": "A", "channel": "book", "cause": "overload", "after": "1:0:1", "upto": "1:0:4"}
        comes(talk, gap)
    out, _ = back(talk)
    assert missing(out) == [name]
    assert [type(event) for event in comes(talk, book(1, snapshot=True))] == [Resync, BookUpdate]


def test_a_repeated_subscription_that_a_cursor_covers_waits_for_no_state() -> None:
    talk = Talk()
    talk.hello()
    for _ in range(2):
        talk.subscribed("book", "A", depth=5)
        comes(talk, book(1, snapshot=True))
    talk.subscribed("book", "A", depth=5)
    talk.beat("c")
    back(talk)
    assert comes(talk, book(1, snapshot=True)) == []
    assert Resync("book", "A") in comes(talk, book(2, snapshot=True))


def test_a_gap_of_a_pattern_is_one_of_the_books_that_it_brings() -> None:
    books: Books[float] = Books()
    books.asked(["*", "A*", "AB"], 0)
    kept = {symbol: books.of(symbol, 0, None) for symbol in ("AA", "AB", "B")}
    for symbol in kept:
        books.take(BookUpdate(symbol, [(9.0, 1.0)], [], "1:0:1", 1, 1, snapshot=True))
    books.take(Gap("book", "A*", "unannounced"))
    assert {symbol: book.is_complete for symbol, book in kept.items()} == {"AA": False, "AB": True, "B": True}
    books.take(Gap("book", "B", "overload"))
    assert not kept["B"].is_complete


def broken() -> Talk:
    """A client with a book that broke, and was asked for again."""
    talk = Talk()
    talk.hello()
    talk.subscribed("book", "A")
    comes(talk, book(1, snapshot=True))
    talk.beat("c")
    talk.now_ns = 5_000_000_000
    comes(talk, book(5, 4))
    return talk


def asked_again(talk: Talk) -> bool:
    talk.now_ns += 1_000_000_000
    talk.core.tick(talk.now_ns)
    # By its name, or by that under a pattern.
    return [request["op"] for request in talk.asked()] in (["unsubscribe", "subscribe"], ["subscribe"])


@pytest.mark.parametrize("is_answered", [False, True])
def test_a_broken_book_that_was_asked_for_again_is_so_in_the_next_session(is_answered: bool) -> None:
    # It was not if the answer had come before the session was lost, and stayed without levels for ever.
    talk = broken()
    ops = [(request["op"], request["id"]) for request in talk.asked()]
    assert [op for op, _ in ops] == ["unsubscribe", "subscribe"]
    if is_answered:
        talk.says(*(talk.ack(number, ("book", "A")) for _, number in ops))
    _, asked = back(talk)
    assert whence(asked) == {"A": "c"}
    comes(talk, book(2, 1, replay=True), book(5, 4, replay=True))
    assert not asked_again(talk), "it would end what is still replayed"
    assert states(done(talk, "A")) == ["live"]
    assert asked_again(talk)


def test_a_broken_book_whose_state_a_replay_brings_is_not_asked_for_again() -> None:
    # At the position at which it broke.
    talk = broken()
    talk.asked()
    back(talk)
    assert changed(comes(talk, book(5, snapshot=True, replay=True))) == ["1:0:5"]
    done(talk, "A")
    assert not asked_again(talk)


def test_a_change_of_a_book_that_lost_its_state_is_a_break_unless_it_is_of_the_past() -> None:
    talk = Talk()
    talk.hello()
    talk.subscribed("book", "*")
    comes(talk, book(1, snapshot=True), book(1, symbol="NEVER"))
    for symbol in ("A", "NEVER"):
        gap = {"type": "gap", "symbol": symbol, "channel": "book", "cause": "overload", "after": "1:0:1", "upto": "1:0:4"}
        comes(talk, gap, book(5, 4, symbol=symbol, replay=True))
    comes(talk, book(6, 5, symbol="NEVER"))
    assert not asked_again(talk)
    comes(talk, book(6, 5))
    assert asked_again(talk)


def test_a_book_that_lost_its_state_to_a_gap_is_asked_for_in_the_next_session() -> None:
    talk = Talk()
    talk.hello()
    talk.subscribed("book", "A")
    gap = {"type": "gap", "symbol": "A", "channel": "book", "cause": "overload", "after": "1:0:1", "upto": "1:0:4"}
    comes(talk, book(1, snapshot=True), gap)
    talk.beat("c")
    assert not asked_again(talk), "its state is on the way"
    back(talk)
    done(talk, "A")
    assert asked_again(talk)


def test_what_ends_before_its_replay_is_done_is_not_waited_for() -> None:
    talk = Talk()
    talk.hello()
    for name in ("A", "B"):
        talk.subscribed("book", name)
    talk.beat("c")
    back(talk)
    assert states(done(talk, "A")) == []
    assert states(unsubscribed(talk, "book", "B")) == ["live"]


def test_a_refused_cursor_of_a_book_is_one_gap() -> None:
    # What it was to bring is missing, and it begins anew: told once.
    talk = Talk()
    talk.hello()
    talk.subscribed("quotes", "Q")
    talk.core.subscribe("book", ["P*"], {}, cursor="mine")
    talk.says(talk.ack(talk.asked()[-1]["id"], ("book", "P*")))
    talk.beat("c")
    talk.core.subscribe("book", ["R*"], {}, cursor="mine")
    talk.says(talk.ack(talk.asked()[-1]["id"], ("book", "R*")))
    talk.lost()
    talk.hello()
    (number,) = [request["id"] for request in talk.asked() if request.get("cursor") == "mine"]
    no = {"op": "error", "id": number, "code": "bad_request", "number": 4400, "message": "no cursor", "fatal": False}
    out = talk.says(no)
    assert missing(out) == ["R*"]
    assert ReplayDone("book", "R*") in out
    assert whence(talk.asked()) == {"R*": None}
