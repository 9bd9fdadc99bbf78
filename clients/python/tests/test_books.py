"""Books whose subscriptions end: without a socket, but for the last ones."""

from __future__ import annotations

from typing import Any

from conformance.stage import Gateway, Stage
from conformance.world import book as record

from conftest import is_a, take
from test_core import Talk
from test_overlaps import book, comes, unsubscribed
from tickgate import Ack, BookUpdate, Live
from tickgate.books import Books
from tickgate.notices import AnyEvent, Error


class Kept:
    """A client with a book of A, and the gateway's part."""

    def __init__(self, *names: str, **options: Any) -> None:
        self.talk = Talk()
        self.talk.hello()
        self.books: Books[float] = Books()
        for name in names:
            self.books.asked([name], options.get("depth", 0))
            self.hand_out(self.talk.subscribed("book", name, **options))
        self.book = self.books.of("A", self.books.depth_of("A"), None)
        self.hand_out(comes(self.talk, book(5, snapshot=True)))
        assert self.book.is_complete

    def hand_out(self, events: list[AnyEvent]) -> list[AnyEvent]:
        for event in events:
            self.books.take(event)
        return events

    def gives_up(self, name: str) -> list[AnyEvent]:
        self.books.given_up([name])
        return self.hand_out(unsubscribed(self.talk, "book", name))

    @property
    def is_over(self) -> bool:
        """Whether nothing is left of the book, so that the next one is asked for."""
        assert self.book.is_complete == bool(self.book.bids()), "what is not complete has no levels"
        return not self.book.is_complete and self.books.of("A", 0, None) is not self.book and self.books.depth_of("A") is None


def test_a_book_that_was_given_up_is_not_complete_any_more() -> None:
    # It stood at its last levels and said that it was complete, for ever; whoever asked for it again was given that one.
    for name in ("A", "*"):
        kept = Kept(name)
        (ack,) = kept.gives_up(name)
        assert isinstance(ack, Ack)
        assert ack.ended_books == ("A",)
        assert kept.is_over


def test_a_book_that_a_token_ends_is_not_complete_any_more() -> None:
    kept = Kept("A", "*")
    kept.talk.core.authenticate("less")
    (request,) = kept.talk.asked()
    kept.hand_out(kept.talk.says({**kept.talk.ack(request["id"], ("book", "A"), ("book", "*"), code="forbidden"), "ok": True}))
    assert kept.is_over


def test_a_book_that_cannot_be_resumed_is_not_complete_any_more() -> None:
    kept = Kept("A")
    kept.talk.beat("c")
    kept.talk.lost()
    kept.talk.hello()
    (request,) = kept.talk.asked()
    out = kept.hand_out(kept.talk.says(kept.talk.ack(request["id"], ("book", "A"), code="forbidden")))
    assert [event.has_ended for event in out if isinstance(event, Error)] == [True]
    assert kept.is_over


def test_a_refused_request_that_resumes_ends_its_books() -> None:
    kept = Kept("A")
    kept.talk.lost()
    kept.talk.hello()
    (request,) = kept.talk.asked()
    no = {"op": "error", "id": request["id"], "code": "forbidden", "number": 4403, "message": "no", "fatal": False}
    kept.hand_out(kept.talk.says(no))
    assert kept.is_over


def test_an_error_of_what_is_held_all_the_same_ends_no_book() -> None:
    kept = Kept("A")
    kept.talk.core.subscribe("book", ["A"], {"depth": 5})
    (request,) = kept.talk.asked()
    busy = {"op": "error", "id": request["id"], "code": "rate_limited", "number": 4429, "message": "later", "fatal": False}
    (error,) = kept.hand_out(kept.talk.says(busy))
    assert isinstance(error, Error)
    assert (error.symbol, error.channel, error.has_ended) == ("A", "book", False)
    assert kept.book.is_complete


def test_a_book_that_a_pattern_goes_on_with_stays_complete() -> None:
    # The gateway sends no snapshot, as the stream just goes on: one that was thrown away would never be complete again.
    kept = Kept("*", "A")
    (ack,) = kept.gives_up("A")
    assert isinstance(ack, Ack)
    assert (ack.ended_books, kept.book.is_complete) == ((), True)
    kept.hand_out(comes(kept.talk, book(6, 5, bids=[["10", "1"]])))
    assert [level.price for level in kept.book.bids()] == [10.0, 9.0]


def test_a_book_that_a_pattern_brings_to_another_depth_waits_for_its_snapshot() -> None:
    kept = Kept("A", depth=1)
    kept.books.asked(["*"], 2)
    kept.hand_out(kept.talk.subscribed("book", "*", depth=2))
    kept.gives_up("A")
    assert not kept.book.is_complete
    kept.hand_out(comes(kept.talk, book(5, snapshot=True, bids=[["9", "1"], ["8", "1"], ["7", "1"]])))
    assert ([level.price for level in kept.book.bids()], kept.book.depth) == ([9.0, 8.0], 2)


def test_a_book_that_is_asked_for_again_at_once_is_complete_with_the_next_snapshot() -> None:
    kept = Kept("A")
    kept.books.given_up(["A"])
    kept.books.asked(["A"], 0)
    kept.hand_out(unsubscribed(kept.talk, "book", "A"))
    assert (kept.book.is_complete, kept.books.of("A", 0, None) is kept.book) == (False, True)
    kept.hand_out(kept.talk.subscribed("book", "A"))
    kept.hand_out(comes(kept.talk, book(5, snapshot=True)))
    assert kept.book.is_complete


def test_a_book_that_was_given_up_is_asked_for_again(stage: Stage, gateway: Gateway) -> None:
    with Live(gateway.url) as live:
        first = live.book("A")
        stage.send(record("A", 1, [["9", "1"]], [["11", "3"]], snapshot=True))
        take(iter(live), is_a(BookUpdate))
        live.unsubscribe("book", "A")
        take(iter(live), is_a(Ack, op="unsubscribe"))
        assert not first.is_complete
        again = live.book("A")
        take(iter(live), is_a(BookUpdate))
        assert (again.is_complete, again.best_bid) == (True, (9.0, 1.0))
        assert not first.is_complete


def test_a_book_goes_on_by_a_pattern(stage: Stage, gateway: Gateway) -> None:
    with Live(gateway.url) as live:
        live.subscribe("book", "*")
        live.subscribe("book", "A")
        kept = live.book("A")
        stage.send(record("A", 1, [["9", "1"]], [["11", "3"]], snapshot=True))
        take(iter(live), is_a(BookUpdate))
        live.unsubscribe("book", "A").wait()
        stage.send(record("A", 2, [["10", "1"]], []))
        take(iter(live), is_a(BookUpdate, bids=[(10.0, 1.0)]))
        assert (kept.is_complete, kept.best_bid) == (True, (10.0, 1.0))
