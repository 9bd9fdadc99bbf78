"""Books that break under a pattern: each is asked for by its name, and by nothing else. Without a socket, but for the last one."""

from __future__ import annotations

from typing import Any

from conformance.proxy import Proxy, losing
from conformance.stage import Gateway, Stage, eventually
from conformance.world import book as record

from conftest import is_a, take
from test_core import Talk
from test_overlaps import book, comes, gaps
from tickgate import AuthAck, BookUpdate, Gap, Live, Resync
from tickgate.mending import BY_NAME_MAX


def asked(talk: Talk) -> list[tuple[str, list[str]]]:
    return [(request["op"], request["subscriptions"][0]["symbols"]) for request in talk.asked()]


def broken(*symbols: str) -> Talk:
    """A client with a pattern, and books that broke under it."""
    talk = Talk()
    talk.hello()
    talk.subscribed("book", "*", depth=5)
    for symbol in (*symbols, "WHOLE"):
        comes(talk, book(1, symbol=symbol, snapshot=True))
    talk.now_ns = 5_000_000_000
    comes(talk, *(book(5, 4, symbol=symbol) for symbol in symbols))
    return talk


def granted(talk: Talk, *symbols: str) -> dict[str, Any]:
    """Answers what was asked by name; gives the request."""
    (request,) = talk.asked()
    talk.says(talk.ack(request["id"], *(("book", symbol) for symbol in symbols)))
    return dict(request)


def test_a_book_that_breaks_under_a_pattern_is_asked_for_alone() -> None:
    # All that the pattern brings was asked for anew.
    talk = broken("A")
    request = granted(talk, "A")
    assert request["subscriptions"] == [{"channel": "book", "symbols": ["A"], "depth": 5}]
    (resync, state) = comes(talk, book(5, snapshot=True))
    assert (resync, type(state)) == (Resync("book", "A"), BookUpdate)
    assert asked(talk) == [("unsubscribe", ["A"])]
    # The pattern goes on with it.
    assert gaps(comes(talk, book(6, 5))) == []
    assert gaps(comes(talk, book(9, 8))) == [("unannounced", "1:0:6", "1:0:8")]


def test_a_state_that_came_before_the_answer_is_not_the_one_that_was_asked_for() -> None:
    talk = broken("A")
    comes(talk, book(6, snapshot=True))
    granted(talk, "A")
    assert asked(talk) == []
    comes(talk, book(6, snapshot=True))
    assert asked(talk) == [("unsubscribe", ["A"])]


def test_many_books_of_a_pattern_are_asked_for_by_the_pattern() -> None:
    assert asked(broken(*(f"S{number}" for number in range(BY_NAME_MAX + 1)))) == [("unsubscribe", ["*"]), ("subscribe", ["*"])]


def test_where_the_name_is_refused_the_pattern_is_asked_for() -> None:
    for is_whole in (False, True):
        talk = broken("A")
        (request,) = talk.asked()
        error = {"op": "error", "id": request["id"], "code": "subscription_limit", "number": 4429, "message": "no", "fatal": False}
        out = talk.says(error if is_whole else talk.ack(request["id"], ("book", "A"), code="subscription_limit"))
        # Of a name that nobody subscribed to it is no news either.
        assert out == []
        assert asked(talk) == [("unsubscribe", ["*"]), ("subscribe", ["*"])]


def test_what_is_asked_for_by_name_is_in_nobodys_way() -> None:
    # The user's own subscription would end with ours, or ours outlive the user's.
    talk = broken("A")
    granted(talk, "A")
    talk.core.subscribe("book", ["A"], {})
    assert asked(talk) == [("unsubscribe", ["A"]), ("subscribe", ["A"])]
    comes(talk, book(5, snapshot=True))
    assert asked(talk) == []
    talk = broken("A")
    granted(talk, "A")
    talk.core.unsubscribe("book", ["*"])
    (by_name, by_pattern) = talk.asked()
    assert [each["subscriptions"][0]["symbols"] for each in (by_name, by_pattern)] == [["A"], ["*"]]
    # As long as nobody knows whether it ends, it is not asked for.
    talk.now_ns += 2_000_000_000
    talk.core.tick(talk.now_ns)
    assert asked(talk) == []
    talk.says(talk.ack(by_pattern["id"], ("book", "*")))
    talk.now_ns += 2_000_000_000
    talk.core.tick(talk.now_ns)
    assert asked(talk) == []


def ends(talk: Talk, *symbols: str) -> AuthAck:
    """Another token is taken that does not grant these."""
    talk.core.authenticate("t")
    (request,) = talk.asked()
    (ack,) = talk.says({**talk.ack(request["id"], *(("book", symbol) for symbol in symbols), code="forbidden"), "ok": True})
    assert isinstance(ack, AuthAck)
    return ack


def test_what_is_asked_for_by_name_ends_with_its_pattern() -> None:
    # It was kept for good, as no state came that would have ended it, and the changes of a book that had ended went on.
    talk = broken("A")
    granted(talk, "A")
    ack = ends(talk, "*")
    assert ([result.symbol for result in ack.ended], ack.ended_books) == (["*"], ("A", "WHOLE"))
    assert asked(talk) == [("unsubscribe", ["A"])]
    # Nor is it asked for again.
    talk.now_ns += 2_000_000_000
    talk.core.tick(talk.now_ns)
    assert asked(talk) == []


def test_the_end_of_a_pattern_leaves_alone_what_another_one_brings() -> None:
    talk = Talk()
    talk.hello()
    for name in ("*", "A*"):
        talk.subscribed("book", name)
    comes(talk, book(1, snapshot=True))
    talk.now_ns = 5_000_000_000
    comes(talk, book(5, 4))
    granted(talk, "A")
    assert ends(talk, "*").ended_books == ()
    assert asked(talk) == []
    comes(talk, book(5, snapshot=True))
    assert asked(talk) == [("unsubscribe", ["A"])]


def test_a_token_that_does_not_grant_what_is_asked_for_by_name_ends_nothing_of_the_users() -> None:
    # It named a symbol that nobody had subscribed to, which was given up once more when its state came.
    talk = broken("A")
    granted(talk, "A")
    ack = ends(talk, "A")
    assert (ack.ended, ack.ended_books, asked(talk)) == ((), (), [])
    comes(talk, book(6, snapshot=True))
    assert asked(talk) == []
    # With its pattern it ends as all of that does; and without a state it is tried again.
    talk = broken("A")
    granted(talk, "A")
    ack = ends(talk, "*", "A")
    assert ([result.symbol for result in ack.ended], ack.ended_books, asked(talk)) == (["*"], ("A", "WHOLE"), [])
    talk = broken("A")
    granted(talk, "A")
    ends(talk, "A")
    talk.now_ns += 2_000_000_000
    talk.core.tick(talk.now_ns)
    assert asked(talk) == [("subscribe", ["A"])]


def test_a_past_of_a_book_that_a_token_does_not_grant_is_the_users() -> None:
    talk = Talk()
    talk.hello()
    talk.subscribed("book", "A", **{"from": {"time_ns": "5", "until_ns": "9"}})
    assert [result.symbol for result in ends(talk, "A").ended] == ["A"]


def test_a_book_whose_state_does_not_come_is_asked_for_again() -> None:
    talk = broken("A")
    granted(talk, "A")
    comes(talk, book(9, 8))
    talk.now_ns += 2_000_000_000
    talk.core.tick(talk.now_ns)
    assert asked(talk) == [("unsubscribe", ["A"]), ("subscribe", ["A"])]


def test_books_of_a_real_gateway_are_mended_one_by_one(stage: Stage, gateway: Gateway) -> None:
    proxy = Proxy(gateway.address)
    lost: list[object] = []
    with Live(proxy.url) as live:
        live.subscribe("book", "*").wait()
        books = {symbol: live.book(symbol) for symbol in ("A", "B")}
        stage.send(*(record(symbol, 1, [["9", "1"]], [["11", "1"]], snapshot=True) for symbol in books))
        take(iter(live), is_a(BookUpdate, symbol="B"))
        left_out = ['"8.5"']
        proxy.filter = losing(left_out, lost)
        stage.send(record("A", 2, [["8.5", "1"]], []))
        eventually(lambda: bool(lost), "a change is lost")
        left_out.clear()
        stage.send(record("A", 3, [["8", "1"]], []))
        events = take(iter(live), is_a(BookUpdate, symbol="A", snapshot=True))
        assert any(isinstance(event, Gap) for event in events)
        assert [level.price for level in books["A"].bids()] == [9.0, 8.5, 8.0]
        eventually(lambda: proxy.requests[-1]["op"] == "unsubscribe", "it is given up")
        stage.send(*(record(symbol, 4, [["7", "1"]], []) for symbol in books))
        events = take(iter(live), is_a(BookUpdate, symbol="B"))
        assert not any(isinstance(event, (Gap, Resync)) or getattr(event, "snapshot", False) for event in events)
        assert [level.price for level in books["A"].bids()] == [9.0, 8.5, 8.0, 7.0]
        assert [level.price for level in books["B"].bids()] == [9.0, 7.0]
        asked = [(request["op"], request["subscriptions"][0]["symbols"]) for request in proxy.requests if "subscriptions" in request]
        assert asked == [("subscribe", ["*"]), ("subscribe", ["A"]), ("unsubscribe", ["A"])]
    proxy.close()
