"""What a client says and understands, without a socket: greetings, cursors, refusals, what is left when a session ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tickgate.core import Core
from tickgate.notices import Ack, AnyEvent, AuthAck, Error, Feed, ReplayDone, State

LIMITS = {"subscriptions": 5000, "requests_per_s": 20, "message_bytes": 262144}


class Talk:
    """A core, and the gateway's part."""

    def __init__(self) -> None:
        self.core = Core()
        self.now_ns = 1_000_000_000

    def says(self, *messages: dict[str, Any]) -> list[AnyEvent]:
        out: list[AnyEvent] = []
        for message in messages:
            self.core.text(json.dumps(message).encode(), self.now_ns, out)
        return out

    def says_events(self, events: list[dict[str, Any]]) -> list[AnyEvent]:
        out: list[AnyEvent] = []
        self.core.text(json.dumps(events).encode(), self.now_ns, out)
        return out

    def hello(self, auth: str = "none") -> list[AnyEvent]:
        greeting = {"op": "hello", "protocol": 1, "session": "s", "now_ns": "5", "heartbeat_ms": 1000}
        return self.says({**greeting, "auth": auth, "limits": LIMITS})

    def lost(self) -> None:
        self.core.lost()
        self.core.move("reconnecting", [], attempt=1)

    def sent(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.core.take_outbox()]

    def asked(self) -> list[dict[str, Any]]:
        """What was sent, but for what a session begins with: the question what time it is."""
        return [request for request in self.sent() if request["op"] != "ping"]

    def subscribed(self, channel: Any, symbol: str, **options: Any) -> list[AnyEvent]:
        self.core.subscribe(channel, [symbol], options)
        return self.says(self.ack(self.asked()[-1]["id"], (channel, symbol)))

    def beat(self, cursor: str, *feeds: tuple[str, str]) -> list[AnyEvent]:
        states = [{"name": name, "state": state, "lag_records": 0} for name, state in feeds]
        return self.says({"op": "heartbeat", "now_ns": "5", "cursor": cursor, "queued_bytes": 0, "delay_ms": 0, "feeds": states})

    @staticmethod
    def ack(number: int, *pairs: tuple[str, str], code: str | None = None) -> dict[str, Any]:
        refusal = {} if code is None else {"code": code, "message": "no"}
        results = [{"channel": c, "symbol": s, "ok": code is None, **refusal} for c, s in pairs]
        return {"op": "ack", "id": number, "ok": code is None, "results": results}


def states(out: list[AnyEvent]) -> list[str]:
    return [event.state for event in out if isinstance(event, State)]


def trade(seq: str, prev: str | None = None) -> list[dict[str, Any]]:
    event = {"type": "trade", "symbol": "A", "price": "1", "size": "1", "seq": seq, "event_ns": "1", "ingest_ns": "1"}
    return [event if prev is None else {**event, "prev": prev}]


def test_what_was_asked_for_before_there_is_a_session_is_asked_when_there_is() -> None:
    talk = Talk()
    talk.core.subscribe("trades", ["A"], {"snapshot": 3})
    assert talk.asked() == []
    assert states(talk.hello()) == [], "it is not live before that is answered"
    (request,) = talk.asked()
    assert request["subscriptions"] == [{"channel": "trades", "symbols": ["A"], "snapshot": 3}]
    out = talk.says(talk.ack(request["id"], ("trades", "A")))
    assert [type(event) for event in out] == [Ack, State]


def test_a_cursor_that_overtakes_the_answers_of_a_reconnect_is_not_kept() -> None:
    talk = Talk()
    talk.hello()
    talk.subscribed("trades", "A")
    talk.beat("first")
    talk.lost()
    talk.hello()
    (request,) = talk.asked()
    assert request["cursor"] == "first"
    talk.beat("too early")
    assert talk.core.cursor == "first"
    assert states(talk.says(talk.ack(request["id"], ("trades", "A")))) == []
    talk.beat("second")
    assert talk.core.cursor == "second"
    assert states(talk.says({"op": "replay_done", "id": request["id"], "channel": "trades", "symbol": "A", "seq": None})) == ["live"]


def test_what_is_live_of_a_symbol_says_that_its_replay_is_done() -> None:
    talk = Talk()
    talk.hello()
    talk.subscribed("trades", "A")
    talk.beat("c")
    talk.lost()
    talk.hello()
    (request,) = talk.asked()
    assert states(talk.says(talk.ack(request["id"], ("trades", "A")))) == []
    out: list[AnyEvent] = []
    talk.core.text(json.dumps([{**trade("1:0:7")[0], "replay": True}]).encode(), 9, out)
    assert states(out) == []
    talk.core.text(json.dumps(trade("1:0:9", "1:0:7")).encode(), 9, out)
    assert states(out) == ["live"]


def test_a_request_without_an_answer_is_sent_again() -> None:
    talk = Talk()
    talk.hello()
    talk.core.subscribe("quotes", ["B"], {"conflate_ms": 100})
    (lost,) = talk.asked()
    talk.lost()
    talk.hello()
    (again,) = talk.asked()
    assert again == lost
    assert [type(event) for event in talk.says(talk.ack(again["id"], ("quotes", "B")))] == [Ack, State]


def test_a_cursor_that_is_refused_is_given_up_for_positions() -> None:
    talk = Talk()
    talk.hello()
    talk.subscribed("trades", "A")
    talk.subscribed("trades", "B*")
    out: list[AnyEvent] = []
    talk.core.text(json.dumps(trade("1:0:7")).encode(), 9, out)
    talk.beat("of another cluster")
    talk.lost()
    talk.hello()
    (request,) = talk.asked()
    refused = {"op": "error", "id": request["id"], "code": "bad_request", "number": 4400, "message": "no cursor", "fatal": False}
    out = talk.says(refused)
    assert [event.code for event in out if isinstance(event, Error)] == ["bad_request"]
    (again,) = talk.asked()
    assert "cursor" not in again
    assert again["subscriptions"] == [
        {"channel": "trades", "symbols": ["A"], "from": {"seq": "1:0:7"}},
        {"channel": "trades", "symbols": ["B*"]},
    ]
    assert talk.core.state == "resyncing"


def test_who_is_refused_for_now_asks_again_later() -> None:
    talk = Talk()
    talk.hello()
    talk.subscribed("trades", "A")
    talk.beat("c")
    talk.lost()
    talk.hello()
    (request,) = talk.asked()
    busy = {"op": "error", "id": request["id"], "code": "rate_limited", "number": 4429, "message": "later", "fatal": False}
    talk.says({**busy, "retry_after_ms": 800})
    talk.core.tick(talk.now_ns + 799_000_000)
    assert talk.asked() == []
    talk.core.tick(talk.now_ns + 800_000_000)
    (again,) = talk.asked()
    assert {**again, "id": 0} == {**request, "id": 0}


def test_a_subscription_that_ends_with_a_reconnect_is_told() -> None:
    talk = Talk()
    talk.hello()
    talk.subscribed("trades", "A")
    talk.beat("c")
    talk.lost()
    talk.hello()
    (request,) = talk.asked()
    out = talk.says(talk.ack(request["id"], ("trades", "A"), code="forbidden"))
    (error,) = [event for event in out if isinstance(event, Error)]
    assert (error.code, error.symbol, error.channel, bool(error.hint)) == ("forbidden", "A", "trades", True)
    assert (states(out), len(talk.core.subscriptions)) == (["live"], 0)


def test_what_is_gone_lets_the_next_event_follow_anything() -> None:
    talk = Talk()
    talk.hello()
    talk.subscribed("trades", "A")
    out: list[AnyEvent] = []
    talk.core.text(json.dumps(trade("1:0:7")).encode(), 9, out)
    talk.beat("c")
    talk.lost()
    talk.hello()
    (request,) = talk.asked()
    gone = {"op": "error", "id": request["id"], "code": "replay_aged_out", "number": 4410, "message": "gone", "fatal": False}
    talk.says(talk.ack(request["id"], ("trades", "A")), gone)
    talk.core.text(json.dumps(trade("1:0:90", "1:0:80")).encode(), 9, out)
    assert (talk.core.judge.counts.unverified, talk.core.judge.counts.unannounced) == (1, 0)


def test_a_token_is_wanted_and_tried_again_when_it_is_refused() -> None:
    talk = Talk()
    talk.core.subscribe("trades", ["A"], {})
    talk.hello("required")
    assert talk.core.wants_token_at_ns == talk.now_ns
    talk.core.authenticate("secret")
    (request,) = talk.asked()
    assert (request["op"], request["token"]) == ("auth", "secret")
    out = talk.says({"op": "ack", "id": request["id"], "ok": True, "results": [], "limits": {**LIMITS, "updates_per_s": 9}})
    assert AuthAck(True) in out
    assert talk.core.limits.updates_per_s == 9
    assert [request["op"] for request in talk.asked()] == ["subscribe"]

    talk.says({"op": "error", "code": "token_expiring", "number": 4498, "message": "soon", "fatal": False})
    talk.core.authenticate("of a key that nobody knows yet")
    (request,) = talk.asked()
    refused = {"op": "error", "id": request["id"], "code": "unauthenticated", "number": 4401, "message": "no", "fatal": False}
    talk.says(refused)
    assert talk.core.wants_token_at_ns == talk.now_ns + 5_000_000_000


def test_subscriptions_that_a_token_ends_are_told_and_not_asked_for_again() -> None:
    talk = Talk()
    talk.hello()
    talk.subscribed("trades", "A")
    talk.core.authenticate("less")
    (request,) = talk.asked()
    (ended,) = talk.says({**talk.ack(request["id"], ("trades", "A"), code="forbidden"), "ok": True})
    assert isinstance(ended, AuthAck)
    assert [result.symbol for result in ended.ended] == ["A"]
    talk.lost()
    talk.hello()
    assert talk.asked() == []


def test_a_past_that_was_asked_for_says_when_it_is_over_and_is_not_held() -> None:
    talk = Talk()
    talk.hello()
    talk.subscribed("trades", "A", **{"from": {"time_ns": "5", "until_ns": "6"}})
    out = talk.says({"op": "replay_done", "channel": "trades", "symbol": "A", "seq": "1:0:9"})
    assert out == [ReplayDone("trades", "A", "1:0:9")]
    assert len(talk.core.subscriptions) == 0


def test_feeds_are_told_when_they_change() -> None:
    talk = Talk()
    talk.hello()
    assert talk.beat("a", ("ticks", "live")) == [Feed("ticks", "live")]
    assert talk.beat("b", ("ticks", "live")) == []
    assert talk.beat("c", ("ticks", "stale")) == [Feed("ticks", "stale")]


def test_how_the_feeds_are_is_unknown_until_a_session_has_said_it() -> None:
    # Whoever asked before the first heartbeat was told of no feed, which looks as if there were none.
    talk = Talk()
    assert talk.core.feed_state == "unknown"
    talk.hello()
    assert talk.core.feed_state == "unknown"
    for feeds, state in (
        ([("a", "live"), ("b", "live")], "live"),
        ([("a", "live"), ("b", "stale")], "stale"),
        ([("a", "down"), ("b", "stale")], "down"),
        ([], "unknown"),
        ([("a", "live")], "live"),
    ):
        talk.beat("c", *feeds)
        assert talk.core.feed_state == state
    talk.core.lost()
    assert talk.core.feed_state == "unknown"


def test_a_book_that_breaks_again_and_again_is_asked_for_once_a_second() -> None:
    talk = Talk()
    talk.hello()
    talk.subscribed("book", "*", depth=5)

    def breaks(number: int) -> None:
        event = {"type": "book", "symbol": "A", "bids": [], "asks": [], "event_ns": "1", "ingest_ns": "1"}
        event |= {"seq": f"1:0:{number}", "prev": f"1:0:{number - 1}"}
        out: list[AnyEvent] = []
        talk.core.text(json.dumps([event]).encode(), talk.now_ns, out)

    talk.now_ns = 5_000_000_000
    for number in (10, 20, 30):
        breaks(number)
    (request,) = talk.asked()
    assert request["subscriptions"] == [{"channel": "book", "symbols": ["A"], "depth": 5}]
    breaks(40)
    talk.core.tick(talk.now_ns + 1_000_000_000)
    assert talk.asked() == [], "it has no answer yet"
    talk.says(talk.ack(request["id"], ("book", "A")))
    breaks(50)
    talk.core.tick(talk.now_ns + 1_500_000_000)
    assert talk.asked() == [], "a second after the last look"
    talk.core.tick(talk.now_ns + 2_000_000_000)
    assert [request["op"] for request in talk.asked()] == ["unsubscribe", "subscribe"]


def test_nothing_that_comes_is_a_crash() -> None:
    talk = Talk()
    talk.hello()
    for message in ({"op": "ack", "id": 99, "ok": True}, {"op": "pong", "id": 5, "now_ns": "5"}, {"op": "list"}):
        assert talk.says(message) == []
    bad = [{"op": "hello"}, {"op": "weather"}, {"op": "ack"}]
    out = talk.says(*bad)
    assert [event.code for event in out if isinstance(event, Error)] == ["bad_frame"] * 3
    assert [event.code for event in talk.hello() if isinstance(event, Error)] == ["bad_frame"], "it was greeted"
    out = []
    talk.core.text(b"", 1, out)
    talk.core.binary(5, out)
    assert talk.core.bad_frames == 6
    strange = {"op": "replay_done", "channel": "news", "symbol": "A"}
    assert talk.says(strange) == []


def pong(number: int, now_ns: int) -> dict[str, Any]:
    return {"op": "pong", "id": number, "now_ns": str(now_ns)}


@pytest.mark.parametrize("auth", ["none", "required"])
def test_a_session_begins_with_the_question_what_time_it_is(auth: str) -> None:
    talk = Talk()
    talk.core.subscribe("trades", ["A"], {})
    # The second one resumes what was held.
    for _ in range(2):
        talk.hello(auth)
        if auth == "required":
            assert talk.sent() == [], "it takes nothing but a token"
            talk.core.authenticate("t")
            (shown,) = talk.sent()
            talk.says(talk.ack(shown["id"]))
        asked = talk.sent()
        assert [request["op"] for request in asked] == ["ping", "subscribe"]
        talk.says(talk.ack(asked[1]["id"], ("trades", "A")))
        talk.lost()


def test_before_the_clocks_were_compared_nothing_counts_as_late() -> None:
    # The gateway's clock is an hour behind: what came before the first pong was an hour late.
    hour_ns = 3_600_000_000_000
    talk = Talk()
    talk.now_ns = 2 * hour_ns
    for turn in range(2):
        talk.hello()
        ping = talk.sent()[0]["id"]
        if turn == 0:
            talk.subscribed("trades", "A")
        offset = 2 * turn
        gateway_ns = talk.now_ns - hour_ns
        talk.says_events([{**trade(f"1:0:{offset + 1}", f"1:0:{offset}")[0], "ingest_ns": str(gateway_ns)}])
        assert talk.core.latencies.count == turn, "of another gateway the clock is not known yet"
        talk.says(pong(ping, gateway_ns))
        talk.says_events([{**trade(f"1:0:{offset + 2}", f"1:0:{offset + 1}")[0], "ingest_ns": str(gateway_ns)}])
        assert talk.core.latencies.count == turn + 1
        talk.lost()
    latest_ms = talk.core.latencies.quantile_ms(1.0)
    assert latest_ms is not None
    assert latest_ms < 1


def test_a_ping_that_comes_too_fast_is_nobodys_business() -> None:
    talk = Talk()
    talk.hello()
    ping = talk.sent()[0]["id"]
    refusal = {"op": "error", "code": "rate_limited", "number": 4429, "message": "too fast", "fatal": False, "retry_after_ms": 800}
    assert talk.says({**refusal, "id": ping}) == []
    talk.core.subscribe("trades", ["A"], {})
    told = talk.says({**refusal, "id": talk.sent()[0]["id"]})
    assert [event.code for event in told if isinstance(event, Error)] == ["rate_limited"], "a request of the user's is told"
