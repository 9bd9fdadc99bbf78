"""Names beside patterns that mean them, and one of them given up: without a socket."""

from __future__ import annotations

import json
from typing import Any

import pytest

from test_core import Talk, trade
from tickgate.events import Gap
from tickgate.notices import AnyEvent
from tickgate.subscriptions import Subscriptions


def book(number: int, before: int | None = None, symbol: str = "A", **more: Any) -> dict[str, Any]:
    event = {"type": "book", "symbol": symbol, "bids": [["9", "1"]], "asks": [], "event_ns": "1", "ingest_ns": "1", **more}
    return {**event, "seq": f"1:0:{number}"} | ({} if before is None else {"prev": f"1:0:{before}"})


def comes(talk: Talk, *events: dict[str, Any]) -> list[AnyEvent]:
    out: list[AnyEvent] = []
    talk.core.text(json.dumps(events).encode(), talk.now_ns, out)
    return out


def gaps(out: list[AnyEvent]) -> list[tuple[str, str | None, str | None]]:
    return [(event.cause, event.after, event.upto) for event in out if isinstance(event, Gap)]


def unsubscribed(talk: Talk, channel: Any, symbol: str) -> list[AnyEvent]:
    talk.core.unsubscribe(channel, [symbol])
    return talk.says(talk.ack(talk.asked()[-1]["id"], (channel, symbol)))


@pytest.mark.parametrize("ended", ["*", "A*"])
def test_giving_up_a_pattern_leaves_alone_what_is_held_by_name(ended: str) -> None:
    # The chains of all that the pattern means were forgotten: a break directly behind it was handed out, and nothing said so.
    talk = Talk()
    talk.hello()
    talk.subscribed("trades", "A")
    talk.subscribed("trades", ended)
    comes(talk, *trade("1:0:5"))
    unsubscribed(talk, "trades", ended)
    assert gaps(comes(talk, *trade("1:0:9", "1:0:8"))) == [("unannounced", "1:0:5", "1:0:8")]


def test_a_past_of_a_pattern_leaves_alone_what_is_held_by_name() -> None:
    talk = Talk()
    talk.hello()
    talk.subscribed("trades", "A")
    comes(talk, *trade("1:0:5"))
    talk.subscribed("trades", "*", **{"from": {"time_ns": "5"}})
    assert gaps(comes(talk, *trade("1:0:9", "1:0:8"))) == [("unannounced", "1:0:5", "1:0:8")]


def test_a_pattern_with_the_same_options_goes_on_with_a_name_that_was_given_up() -> None:
    # The gateway sends no state then, as the stream just goes on; its chain had been forgotten, and so was a break behind it.
    talk = Talk()
    talk.hello()
    talk.subscribed("book", "A", conflate_ms=15)
    talk.subscribed("book", "*", conflate_ms=20)
    comes(talk, book(5, snapshot=True))
    unsubscribed(talk, "book", "A")
    assert gaps(comes(talk, book(9, 8))) == [("unannounced", "1:0:5", "1:0:8")]


def test_a_pattern_with_other_options_begins_anew_with_a_name_that_was_given_up() -> None:
    talk = Talk()
    talk.hello()
    talk.subscribed("book", "A", depth=5)
    talk.subscribed("book", "*", depth=1)
    comes(talk, book(5, snapshot=True))
    unsubscribed(talk, "book", "A")
    assert len(comes(talk, book(5, snapshot=True), book(9, 5))) == 2


def test_a_name_that_was_given_up_before_its_past_had_come_begins_anew() -> None:
    # A gap without places says so: what comes behind it follows nothing that is known.
    talk = Talk()
    talk.hello()
    talk.subscribed("trades", "*")
    talk.subscribed("trades", "A", **{"from": {"time_ns": "5"}})
    comes(talk, *trade("1:0:5"))
    unsubscribed(talk, "trades", "A")
    gap = {"type": "gap", "symbol": "A", "channel": "trades", "cause": "slow_consumer"}
    assert gaps(comes(talk, gap, *trade("1:0:9", "1:0:8"))) == [("slow_consumer", None, None)]


def test_giving_up_what_is_not_held_ends_nothing() -> None:
    talk = Talk()
    talk.hello()
    talk.subscribed("trades", "*")
    comes(talk, *trade("1:0:5"))
    unsubscribed(talk, "trades", "A")
    assert gaps(comes(talk, *trade("1:0:9", "1:0:8"))) == [("unannounced", "1:0:5", "1:0:8")]


def test_what_another_subscription_brings() -> None:
    held = Subscriptions()
    for name in ("A*", "AB*", "ABC"):
        held.hold("book", name, {})
    assert [held.is_its("book", "AB*", symbol) for symbol in ("ABC", "ABD")] == [False, True]
    assert [held.is_its("book", "A*", symbol) for symbol in ("ABC", "ABD", "AC")] == [False, False, True]
    # Whether it is held or not.
    assert [held.is_its("book", name, "ABC") for name in ("*", "ABC")] == [False, True]
    assert held.is_its("book", "*", "Z")
    assert held.is_its("quotes", "*", "ABC")
