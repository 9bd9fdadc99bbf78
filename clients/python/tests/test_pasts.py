"""A past that was asked for, and sessions that are lost before all of it has come: without a socket."""

from __future__ import annotations

import json
from typing import Any

from test_core import Talk, states, trade
from tickgate.events import Gap
from tickgate.notices import AnyEvent, Error, ReplayDone

FROM = {"from": {"time_ns": "5"}}


def done(channel: str, symbol: str) -> dict[str, Any]:
    return {"op": "replay_done", "channel": channel, "symbol": symbol, "seq": "1:0:9"}


def refused(number: int, code: str = "bad_request") -> dict[str, Any]:
    return {"op": "error", "id": number, "code": code, "number": 4400, "message": "no", "fatal": False}


def resumed(talk: Talk) -> list[tuple[str | None, list[dict[str, Any]]]]:
    """The cursors and subscriptions with which a client comes back."""
    talk.lost()
    talk.hello()
    return [(request.get("cursor"), request["subscriptions"]) for request in talk.asked()]


def test_a_past_that_no_cursor_covers_goes_on_from_where_it_was_asked_to_begin() -> None:
    # It went on from a cursor of before it was asked for: all from its beginning up to there was gone without a gap, and then
    # `ReplayDone` said that it had come.
    talk = Talk()
    talk.hello()
    talk.subscribed("quotes", "A")
    talk.beat("n")
    talk.subscribed("trades", "*", **FROM)
    assert resumed(talk) == [
        ("n", [{"channel": "quotes", "symbols": ["A"]}]),
        (None, [{"channel": "trades", "symbols": ["*"], **FROM}]),
    ]
    talk.lost()
    talk.hello()
    by_cursor, by_time = talk.asked()
    assert states(talk.says(talk.ack(by_cursor["id"], ("quotes", "A")), talk.ack(by_time["id"], ("trades", "*")))) == []
    assert talk.says(done("quotes", "A")) == []
    out = talk.says(done("trades", "*"))
    assert (out[0], states(out)) == (ReplayDone("trades", "*", "1:0:9"), ["live"])
    # It is said once. A cursor that came with it covers it.
    talk.beat("m")
    assert resumed(talk) == [("m", [{"channel": "quotes", "symbols": ["A"]}, {"channel": "trades", "symbols": ["*"]}])]
    assert talk.says(done("trades", "*")) == []


def test_a_past_that_a_cursor_covers_in_part_says_when_the_rest_has_come() -> None:
    talk = Talk()
    talk.hello()
    talk.subscribed("trades", "*", **FROM)
    talk.beat("in its midst")
    assert resumed(talk) == [("in its midst", [{"channel": "trades", "symbols": ["*"]}])]
    assert talk.says(done("trades", "*")) == [ReplayDone("trades", "*", "1:0:9")]


def test_a_past_that_is_lost_before_there_is_any_cursor_begins_again() -> None:
    # A pattern had no position and no cursor: it began as if it were new, and its past never came, nor its end.
    talk = Talk()
    talk.hello()
    talk.subscribed("trades", "*", snapshot=3, **FROM)
    assert resumed(talk) == [(None, [{"channel": "trades", "symbols": ["*"], **FROM}])]
    assert talk.core.judge.counts.gaps == 0


def test_a_symbol_of_a_past_goes_on_behind_what_came_of_it() -> None:
    talk = Talk()
    talk.hello()
    talk.subscribed("trades", "A", **FROM)
    talk.subscribed("trades", "B", **FROM)
    out: list[AnyEvent] = []
    talk.core.text(json.dumps([{**trade("1:0:7")[0], "replay": True}]).encode(), 9, out)
    (request,) = resumed(talk)
    assert request == (
        None,
        [
            {"channel": "trades", "symbols": ["A"], "from": {"seq": "1:0:7"}},
            {"channel": "trades", "symbols": ["B"], **FROM},
        ],
    )


def test_what_was_subscribed_to_after_the_cursor_goes_on_behind_its_last_position() -> None:
    # With a cursor of before it would be given what it had never asked for.
    talk = Talk()
    talk.hello()
    talk.subscribed("quotes", "A")
    talk.beat("n")
    talk.subscribed("trades", "A")
    talk.core.text(json.dumps(trade("1:0:7")).encode(), 9, [])
    by_cursor, by_seq = resumed(talk)
    assert (by_cursor[0], by_seq) == ("n", (None, [{"channel": "trades", "symbols": ["A"], "from": {"seq": "1:0:7"}}]))


def test_what_a_refused_cursor_was_sent_with_is_asked_for_once() -> None:
    # Each part of it that was refused had all of them asked for again: of three parts nine requests came.
    talk = Talk()
    talk.hello()
    for first in range(0, 5_000, 1_000):
        names = [f"S{number}" for number in range(first, first + 1_000)]
        talk.core.subscribe("trades", names, {})
        talk.says(talk.ack(talk.asked()[-1]["id"], *(("trades", name) for name in names)))
    talk.beat("of another cluster")
    talk.lost()
    talk.hello()
    parts = talk.asked()
    assert len(parts) == 3
    out = talk.says(*(refused(part["id"]) for part in parts))
    again = [subscription for request in talk.asked() for subscription in request["subscriptions"]]
    names = [name for subscription in again for name in subscription["symbols"]]
    assert (len(names), len(set(names))) == (5_000, 5_000)
    assert sum(isinstance(event, Gap) for event in out) == 5_000, "nobody knows what is missing, and each is told once"
    assert sum(isinstance(event, Error) for event in out) == 3


def test_a_cursor_is_not_kept_before_what_came_too_fast_was_asked_for_again() -> None:
    # What is asked for again later was not in the session yet: a cursor of that time passed what was missed of it.
    talk = Talk()
    talk.hello()
    talk.subscribed("trades", "A")
    talk.beat("n")
    talk.lost()
    talk.hello()
    (request,) = talk.asked()
    assert states(talk.says(refused(request["id"], "rate_limited"))) == [], "it is not live before it has all"
    talk.beat("too early")
    talk.core.tick(talk.now_ns + 1_000_000_000)
    (again,) = talk.asked()
    talk.beat("still too early")
    assert talk.core.cursor == "n"
    talk.says(talk.ack(again["id"], ("trades", "A")))
    talk.beat("m")
    assert talk.core.cursor == "m"


def test_a_cursor_of_its_own_counts_until_a_newer_one_covers_it() -> None:
    # With the client's own, newer one all from the saved one up to there would be gone, and nothing would say so.
    talk = Talk()
    talk.hello()
    talk.subscribed("quotes", "A")
    talk.beat("n")
    talk.core.subscribe("trades", ["A", "B*"], {}, cursor="saved")
    (request,) = talk.asked()
    assert request["cursor"] == "saved"
    talk.says(talk.ack(request["id"], ("trades", "A"), ("trades", "B*")))
    quotes = ("n", [{"channel": "quotes", "symbols": ["A"]}])
    assert resumed(talk) == [quotes, ("saved", [{"channel": "trades", "symbols": ["A", "B*"]}])]
    talk.core.text(json.dumps([{**trade("1:0:7")[0], "replay": True}]).encode(), 9, [])
    assert resumed(talk) == [
        quotes,
        ("saved", [{"channel": "trades", "symbols": ["B*"]}]),
        (None, [{"channel": "trades", "symbols": ["A"], "from": {"seq": "1:0:7"}}]),
    ]
    talk.lost()
    talk.hello()
    for number, request in enumerate(talk.asked()):
        pairs = [(entry["channel"], symbol) for entry in request["subscriptions"] for symbol in entry["symbols"]]
        assert talk.core.cursor == "n", f"{number} answers are not all"
        talk.says(talk.ack(request["id"], *pairs))
        talk.beat(f"m{number}")
    assert talk.says(done("trades", "B*")) == [ReplayDone("trades", "B*", "1:0:9")]
    assert [cursor for cursor, _ in resumed(talk)] == ["m2"]


def test_a_cursor_of_its_own_that_is_refused_to_a_client_that_came_back_is_told_as_a_gap() -> None:
    talk = Talk()
    talk.hello()
    talk.subscribed("quotes", "A")
    talk.beat("n")
    talk.core.subscribe("trades", ["B*"], {}, cursor="saved")
    talk.says(talk.ack(talk.asked()[-1]["id"], ("trades", "B*")))
    talk.lost()
    talk.hello()
    _, with_its_own = talk.asked()
    out = talk.says(refused(with_its_own["id"]))
    assert out[1:] == [Gap("trades", "B*", "unannounced"), ReplayDone("trades", "B*")]
    (again,) = talk.asked()
    assert (again["cursor"], talk.core.cursor) == ("n", "n"), "the client's own is none the worse for it"
