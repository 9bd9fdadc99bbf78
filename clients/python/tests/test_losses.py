"""Sessions that are lost: killed and drained gateways, cut connections, silence, old cursors."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from conformance import websocket
from conformance.kafka import FIRST_MS
from conformance.proxy import Proxy
from conformance.server import Server
from conformance.stage import Gateway, Stage, eventually
from conformance.tokens import Issuer
from conformance.world import book, event_ns, quote, trade

from conftest import is_a, take
from tickgate import (
    AuthAck,
    BookUpdate,
    ConnectionLost,
    Error,
    Gap,
    GoAway,
    Live,
    Quote,
    Replay,
    Resync,
    State,
    TickgateError,
    Trade,
)
from tickgate.engine import Engine
from tickgate.link import Link


def states(events: list[Any]) -> list[str]:
    return [event.state for event in events if isinstance(event, State)]


def test_a_gateway_is_killed_and_another_one_goes_on(stage: Stage) -> None:
    first, second = stage.gateway(), stage.gateway()
    proxy = Proxy(first.address)
    with Live(proxy.url) as live:
        live.subscribe("trades", ["A", "B*"]).wait()
        live.subscribe("quotes", "*", conflate_ms=10).wait()
        live.subscribe("book", "A").wait()
        kept = live.book("A")
        stage.send(trade("A", 0), quote("A", 0), book("A", 1, [["9", "1"]], [["11", "1"]], snapshot=True))
        take(iter(live), is_a(BookUpdate))
        proxy.heartbeat_behind(event_ns(1))
        proxy.turn_to(second.address)
        for number in range(1, 40):
            stage.send(trade("A", number), quote("A", number), book("A", 2, [[str(number), "1"]], []))
            if number == 20:
                first.program.kill()
        events = take(iter(live), is_a(Trade, size=39.0))
        assert [event.size for event in events if isinstance(event, Trade)] == [float(number) for number in range(1, 40)]
        assert "reconnecting" in states(events)
        if "live" not in states(events):
            events += take(iter(live), is_a(State, state="live"))
        assert states(events)[-2:] == ["resyncing", "live"]
        stage.send(book("A", 3, [["100", "1"]], []))
        take(iter(live), lambda event: isinstance(event, BookUpdate) and event.bids == [(100.0, 1.0)])
        assert [level.price for level in kept.bids()] == [100.0, *map(float, range(39, 0, -1))]
        stats = live.stats()
        assert (stats.gaps, stats.unannounced, stats.reconnects) == (0, 0, 1)
    proxy.close()


def test_a_gateway_is_drained_and_another_one_goes_on(stage: Stage) -> None:
    first, second = stage.gateway(), stage.gateway()
    proxy = Proxy(first.address)
    with Live(proxy.url) as live:
        live.subscribe("trades", "*").wait()
        proxy.turn_to(second.address)
        first.program.terminate()
        numbers = range(1, 200)
        for number in numbers:
            stage.send(trade("A", number))
        events = take(iter(live), is_a(State, state="resyncing"))
        assert any(isinstance(event, GoAway) and event.reason == "drain" for event in events)
        if not any(isinstance(event, Trade) and event.size == 199.0 for event in events):
            events += take(iter(live), is_a(Trade, size=199.0))
        assert [event.size for event in events if isinstance(event, Trade)] == [float(number) for number in numbers]
    proxy.close()


def test_a_path_that_was_right_before_is_not_given_up(proxy: Proxy, stage: Stage, gateway: Gateway) -> None:
    # A proxy that has no gateway for a while says 404 or sends elsewhere: a rolling restart ended every client.
    refusals = [404, 404, 302, 400, 405, 426]
    with Live(proxy.url) as live:
        live.subscribe("trades", "A").wait()
        stage.send(trade("A", 1))
        take(iter(live), is_a(Trade))
        proxy.heartbeat_behind(event_ns(1))
        proxy.hush()
        stage.send(trade("A", 2))
        stage.has_read(gateway)
        proxy.refuse(*refusals)
        proxy.cut()
        events = take(iter(live), is_a(State, state="live"))
        assert [event.size for event in events if isinstance(event, Trade)] == [2.0]
        errors = [event for event in events if isinstance(event, Error)]
        codes = ["bad_request" if status == 400 else "refused" for status in refusals]
        assert [(error.code, error.fatal) for error in errors] == [(code, False) for code in codes]
        assert errors[0].message == "HTTP 404: no gateway is here"
        attempts = [event for event in events if isinstance(event, State) and event.state == "reconnecting"]
        assert [event.attempt for event in attempts] == list(range(1, len(refusals) + 2))
        assert [event.reason for event in attempts[1:]] == [error.message for error in errors]
        assert (live.stats().gaps, live.stats().reconnects) == (0, 1)


@pytest.mark.parametrize(("status", "code"), [(401, "unauthenticated"), (403, "forbidden")])
def test_who_is_refused_after_a_session_is_so_for_good(proxy: Proxy, status: int, code: str) -> None:
    with Live(proxy.url) as live:
        live.wait_live()
        proxy.refuse(status)
        proxy.cut()
        with pytest.raises(ConnectionLost) as lost:
            take(iter(live), lambda event: False)
    assert lost.value.code == code


def test_retention_took_what_was_missed(stage: Stage) -> None:
    """A gateway that keeps nothing and reads nothing again: what was missed is gone, and told."""
    settings = {"replay__memory_bytes_max": 0, "replay__consumers_max": 0}
    first, second = stage.gateway(**settings), stage.gateway(**settings)
    proxy = Proxy(first.address)
    with Live(proxy.url) as live:
        live.subscribe("trades", "A").wait()
        live.subscribe("quotes", "A").wait()
        stage.send(trade("A", 1), quote("A", 1))
        take(iter(live), is_a(Quote))
        proxy.heartbeat_behind(event_ns(1))
        proxy.hush()
        stage.send(trade("A", 2), quote("A", 2))
        stage.has_read(second)
        proxy.turn_to(second.address)
        proxy.cut()
        events = take(iter(live), is_a(State, state="live"))
        stage.send(trade("A", 3), quote("A", 3))
        events += take(iter(live), is_a(Quote, bid_price=103.25))
        assert [event.code for event in events if isinstance(event, Error)] == ["replay_aged_out"]
        gaps = [event for event in events if isinstance(event, Gap)]
        assert {(gap.channel, gap.cause) for gap in gaps} == {("trades", "retention"), ("quotes", "retention")}
        assert Resync("quotes", "A") in events
        assert [event.size for event in events if isinstance(event, Trade)] == [3.0]
        assert live.stats().unannounced == 0
    proxy.close()


def test_silence_is_stale_and_then_lost() -> None:
    server = Server()
    with Live(server.url) as live:
        server.greet(heartbeat_ms=100)
        events = take(iter(live), is_a(State, state="reconnecting"))
        assert states(events) == ["connecting", "live", "stale", "reconnecting"]
    server.close()


def test_what_comes_ends_a_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    # A silence of two heartbeats, and never one of four, with which the connection is given up.
    is_silent = threading.Event()
    monkeypatch.setattr(Engine, "_is_silent", lambda _self, _now_s, heartbeats, _more_s: heartbeats == 2 and is_silent.is_set())
    server = Server()
    with Live(server.url) as live:
        server.greet(heartbeat_ms=60_000)
        take(iter(live), is_a(State, state="live"))
        is_silent.set()
        take(iter(live), is_a(State, state="stale"))
        is_silent.clear()
        server.send('{"op":"heartbeat","now_ns":"5","cursor":"c","queued_bytes":0,"delay_ms":0,"feeds":[]}')
        assert states(take(iter(live), is_a(State))) == ["live"]
    server.close()


def test_a_token_is_refreshed_in_place(stage: Stage) -> None:
    issuer = Issuer(stage.dir)
    gateway = stage.gateway(**issuer.settings(auth__warn_s=59, auth__leeway_s=0))
    proxy = Proxy(gateway.address)
    tokens = [issuer.token(60), issuer.token(600)]
    shown = list(tokens)
    with Live(proxy.url, token=lambda: tokens.pop(0)) as live:
        live.subscribe("trades", "A").wait()
        events = take(iter(live), is_a(AuthAck))
        assert [event.code for event in events if isinstance(event, Error)] == ["token_expiring"]
        assert events[-1] == AuthAck(True)
        stage.send(trade("A", 1))
        take(iter(live), is_a(Trade))
        assert (proxy.connections, tokens) == (1, [])
    assert f"Authorization: Bearer {shown[0]}".encode() in proxy.heads[0]
    proxy.close()


def test_a_token_that_nobody_can_refresh_ends_it(stage: Stage) -> None:
    issuer = Issuer(stage.dir)
    gateway = stage.gateway(**issuer.settings(auth__warn_s=2, auth__leeway_s=0))
    with Live(gateway.url, token=issuer.token(5)) as live, pytest.raises(ConnectionLost) as lost:
        take(iter(live), lambda event: False)
    assert lost.value.code == "token_expired"


def test_a_gateway_that_wants_the_token_as_a_message(stage: Stage) -> None:
    issuer = Issuer(stage.dir)
    gateway = stage.gateway(**issuer.settings())
    proxy = Proxy(gateway.address)

    def wants_it(frame: websocket.Frame) -> bytes:
        return websocket.encode(frame.opcode, frame.payload.replace(b'"auth":"accepted"', b'"auth":"required"'))

    proxy.filter = wants_it
    with Live(proxy.url, token=issuer.token(600)) as live:
        live.subscribe("trades", "A").wait()
        assert [request["op"] for request in proxy.requests[:3]] == ["auth", "ping", "subscribe"]
    proxy.close()


def test_an_old_cursor_brings_nothing_twice(proxy: Proxy, stage: Stage) -> None:
    with Live(proxy.url) as live:
        live.subscribe("trades", "*").wait()
        stage.send(trade("A", 0))
        take(iter(live), is_a(Trade))
        proxy.heartbeat_behind(event_ns(0))
        proxy.filter = lambda frame: b"" if b'"op":"heartbeat"' in frame.payload else frame.raw
        came: list[float] = []
        for turn in range(3):
            first = 1 + turn * 10
            stage.send(*(trade("AB"[number % 2], number) for number in range(first, first + 10)))
            events = take(iter(live), is_a(Trade, size=float(first + 9)))
            came += [event.size for event in events if isinstance(event, Trade)]
            proxy.cut()
            take(iter(live), is_a(State, state="live"))
        assert came == [float(number) for number in range(1, 31)]
        stats = live.stats()
        assert stats.duplicates >= 10 + 20 + 30
        assert (stats.gaps, stats.reconnects) == (0, 3)


@pytest.mark.parametrize("speed", [None, 1000.0])
def test_a_past_that_is_broken_off_goes_on_and_brings_nothing_twice(stage: Stage, gateway: Gateway, speed: float | None) -> None:
    for first in range(0, 4_000, 500):
        stage.records.send(*(trade("AB"[number % 2], number) for number in range(first, first + 500)), time_ms=FIRST_MS + first)
    stage.sent += 4_000
    # What it has not read yet is not past.
    stage.has_read(gateway)
    proxy = Proxy(gateway.address)
    passed = 0

    def cut_once(frame: websocket.Frame) -> bytes:
        nonlocal passed
        was, passed = passed, passed + frame.payload.count(b'"type":"trade"')
        if was < 1_500 <= passed:
            proxy.cut()
        return frame.raw

    proxy.filter = cut_once
    with Live(proxy.url) as live:
        # So that the connection of the past is the last one, which is cut.
        live.wait_live()
        begin, end = FIRST_MS * 1_000_000, (FIRST_MS + 10_000) * 1_000_000
        played = list(live.replay("trades", ["A", "B"], from_time=begin, until=end, speed=speed))
    assert "reconnecting" in states(played)
    assert [event.size for event in played if isinstance(event, Trade)] == [float(number) for number in range(4_000)]
    assert not any(isinstance(event, Gap) for event in played)
    proxy.close()


def answers_a_past_with(code: str) -> Callable[[websocket.Frame], bytes]:
    """A filter by which nothing of a past comes, but an error and that it is over."""

    def fails(frame: websocket.Frame) -> bytes:
        if frame.opcode != websocket.TEXT or frame.payload[:1] == b"[":
            return b""
        message = json.loads(frame.payload)
        if message["op"] != "replay_done":
            return frame.raw
        number = 4503 if code == "source_down" else 4410
        error = {"op": "error", "id": message.get("id"), "code": code, "number": number, "message": "no word from Kafka", "fatal": False}
        return websocket.encode(websocket.TEXT, json.dumps(error).encode()) + frame.raw

    return fails


@pytest.mark.parametrize("code", ["source_down", "replay_aged_out"])
def test_a_past_of_which_nothing_can_be_read_raises(proxy: Proxy, stage: Stage, gateway: Gateway, code: str) -> None:
    # It ended as one of which there is nothing, unless somebody looked at errors among its events.
    stage.send(trade("A", 1), trade("B", 2))
    stage.has_read(gateway)
    proxy.filter = answers_a_past_with(code)
    came: list[Any] = []

    async def play(past: Replay[float]) -> None:
        async for event in past:
            came.append(event)  # noqa: PERF401 (what comes before it fails is wanted)

    with Live(proxy.url) as live:
        with pytest.raises(TickgateError, match="no word from Kafka") as failed:
            came.extend(live.replay("trades", ["A", "B"], from_time=0))
        assert failed.value.code == code
        with pytest.raises(TickgateError, match="no word from Kafka"):
            asyncio.run(play(live.replay("trades", "*", from_time=0)))
        assert not any(isinstance(event, Trade) for event in came)
        # What is there comes in either way.
        proxy.filter = None
        came.clear()
        asyncio.run(play(live.replay("trades", "*", from_time=0)))
        assert [event.size for event in came if isinstance(event, Trade)] == [1.0, 2.0]
        past = live.replay("trades", "*", from_time=0)
        take(past, is_a(State, state="live"))
        past.close()
        assert list(past) == []
        # With `async for` it asked once more, and gave what had come.
        once = live.replay("trades", "*", from_time=0)
        asyncio.run(play(once))
        came.clear()
        for begun in (once, past):
            with pytest.raises(RuntimeError, match="iterated once"):
                asyncio.run(play(begun))
        with pytest.raises(RuntimeError, match="iterated once"):
            next(once)
        assert came == []


@pytest.mark.parametrize("fails", [True, False])
def test_a_client_that_is_closed_just_when_it_connects_ends(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    # Now and then one that was closed went on to reconnect, and who took its events waited for ever: what waits for the connection
    # gives what came of it, and not that it was cancelled, when both happen in the same turn.
    is_there = threading.Event()

    async def open_swallows(*_: object) -> None:
        is_there.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if fails:
                raise OSError("nobody is there") from None

    monkeypatch.setattr(Link, "open", open_swallows)
    with Live("ws://127.0.0.1:1/v1/stream") as live:
        assert is_there.wait(20)
        live.close()
        assert states(list(live.events(seconds=20))) == ["connecting", "closed"]


def test_who_takes_nothing_while_the_gateway_is_away_keeps_little(gateway: Gateway) -> None:
    proxy = Proxy(gateway.address)
    with Live(proxy.url) as live:
        live.wait_live()
        proxy.turn_to("127.0.0.1:1")
        proxy.cut()
        eventually(lambda: live._core.state == "reconnecting" and live._engine._backoff.attempts >= 4, "four attempts")
        assert live.stats().queued_events <= 4
    proxy.close()
