"""The client against a real gateway: subscriptions, ways to take events, books, captures, replays, and a slow reader."""

from __future__ import annotations

import gc
import json
import socket
import threading
import time
import traceback
from datetime import timezone
from decimal import Decimal
from typing import Any

import pytest
from conformance.kafka import FIRST_MS, Producer
from conformance.proxy import Proxy
from conformance.server import Server
from conformance.stage import SOON_S, TOPIC, Gateway, Stage, eventually
from conformance.tokens import Issuer
from conformance.world import book, quote, trade

from conftest import is_a, take
from tickgate import (
    Ack,
    BookUpdate,
    ConnectionLost,
    Error,
    Fixed,
    Gap,
    Live,
    Quote,
    Refused,
    ReplayDone,
    Slow,
    State,
    TickgateError,
    Trade,
)
from tickgate.link import HandshakeRefused, _reason


def test_subscribe_and_take_what_comes(stage: Stage, gateway: Gateway) -> None:
    with Live(gateway.url) as live:
        ack = live.subscribe("trades", ["A", "B*"]).wait()
        assert [(result.symbol, result.ok) for result in ack.check().results] == [("A", True), ("B*", True)]
        # What comes before has no latency.
        eventually(lambda: live.stats().round_trip_ms is not None, "the clocks are compared")
        stage.send(trade("A", 1), trade("C", 2), trade("BC", 3, side="sell"))
        events = take(iter(live), is_a(Trade, symbol="BC"))
        # Whether it is live before its first question is answered is a race.
        assert [event.state for event in events if isinstance(event, State)] == ["connecting", "live"]
        assert [event for event in events if isinstance(event, Ack)] == [ack]
        assert [event.symbol for event in events if not isinstance(event, (State, Ack))] == ["A", "BC"]
        last = events[-1]
        assert (last.price, last.size, last.side, last.event_ns) == (103.5, 3.0, "sell", FIRST_MS * 1_000_000 + 3)
        assert last.event_time.tzinfo is timezone.utc
        assert last.received_ns >= last.ingest_ns - 60_000_000_000
        live.unsubscribe("trades", "A").wait()
        stage.send(trade("A", 4), trade("BC", 5))
        assert [event.symbol for event in take(iter(live), is_a(Trade)) if isinstance(event, Trade)] == ["BC"]
        eventually(lambda: live.stats().state == "live", "it is live")
        stats = live.stats()
        assert (stats.events, stats.gaps, stats.bad_frames) == (3, 0, 0)
        assert stats.latency_p50_ms is not None
    assert live.stats().state == "closed"
    assert [event for event in live if isinstance(event, State)][-1] == State("closed")
    live.close()


def test_what_is_refused_has_a_code_a_symbol_and_a_hint(stage: Stage) -> None:
    issuer = Issuer(stage.dir)
    gateway = stage.gateway(**issuer.settings())
    with Live(gateway.url, token=issuer.token(600, symbols=["A"], wildcard=False)) as live:
        ack = live.subscribe("trades", ["A", "SECRET"]).wait()
        assert [(result.symbol, result.ok, result.code) for result in ack.results] == [("A", True, None), ("SECRET", False, "forbidden")]
        with pytest.raises(Refused) as refused:
            ack.check()
        assert (refused.value.code, refused.value.symbol, refused.value.channel) == ("forbidden", "SECRET", "trades")
        assert refused.value.hint
        assert ack.refused[0].hint == refused.value.hint
        with pytest.raises(Refused):
            live.subscribe("trades", []).wait()


def test_several_symbols_in_one_text_are_told(gateway: Gateway) -> None:
    # They were one symbol, of which nothing ever came.
    several = ["AAPL,MSFT", "AAPL MSFT", "AAPL;MSFT", "AAPL,MS*", "A*,B"]
    with Live(gateway.url) as live:
        ack = live.subscribe("trades", [*several, "AAPL", "MS*", "A*B"]).wait()
        hints = [result.hint or "" for result in ack.results]
        assert ["as a list, as in ['AAPL', 'MS*']" in hint for hint in hints] == [True] * len(several) + [False] * 3
        assert all("hint=" in repr(result) for result in ack.results if result.hint)
        with pytest.raises(Refused, match="several are given as a list"):
            ack.check()
        for wrong in ([b"AAPL"], [["AAPL"]], b"AAPL", [None]):
            with pytest.raises(TypeError, match="symbols are a text or several"):
                live.subscribe("trades", wrong)  # type: ignore[arg-type]


def test_a_token_that_is_not_taken_ends_it_and_is_nowhere_to_be_read(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    issuer = Issuer(stage.dir)
    gateway = stage.gateway(**issuer.settings())
    token = issuer.token(-60)
    events: list[Any] = []
    with Live(gateway.url, token=token) as live, pytest.raises(ConnectionLost) as lost:
        events.extend(live)
    assert lost.value.code == "unauthenticated"
    assert isinstance(events[-1], State)
    assert events[-1].state == "closed"
    said = f"{events}{lost.value}{lost.value.__cause__}{live}{caplog.text}{live.stats()}"
    assert token not in said
    assert token.rsplit(".", 1)[1] not in said


def test_a_function_for_the_token_may_do_better_the_second_time(stage: Stage) -> None:
    issuer = Issuer(stage.dir)
    gateway = stage.gateway(**issuer.settings())
    tokens = [issuer.token(-60), issuer.token(600)]
    with Live(gateway.url, token=lambda: tokens.pop(0)) as live:
        events = take(iter(live), is_a(State, state="live"))
    assert [event.code for event in events if isinstance(event, Error)] == ["unauthenticated"]


def test_a_function_for_the_token_that_fails_is_told_and_tried_again(gateway: Gateway) -> None:
    answers: list[Any] = [ValueError("the secret is 1234"), "a token that nobody asks for"]

    def token() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    with Live(gateway.url, token=token) as live:
        events = take(iter(live), is_a(State, state="live"))
    assert [event.code for event in events if isinstance(event, Error)] == ["token_failed"]
    assert "1234" not in str(events)


@pytest.mark.parametrize("url", ["http://h/v1/stream", "ws://", "ws://ann:pw@h/", "ws://h/?token=x", "wss://h/?api_key=x"])
def test_urls_that_are_none_or_have_secrets(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        Live(url)


def test_what_nobody_can_mean_is_said_by_the_call() -> None:
    # It was said by a later call, or of a float that it had no time zone, or never.
    wrong: list[dict[str, Any]] = [{"on_slow": "never"}, {"queue_events": 0}, {"queue_bytes": -1}, {"prices": int}, {"when_full": "drop"}]
    for options in wrong:
        with pytest.raises(ValueError):
            Live("ws://127.0.0.1:1/v1/stream", **options)
    with pytest.raises(TypeError, match="SSLContext"):
        Live("ws://127.0.0.1:1/v1/stream", tls=True)  # type: ignore[call-overload]
    with Live("ws://127.0.0.1:1/v1/stream") as live:
        with pytest.raises(TypeError, match="nanoseconds"):
            live.subscribe("trades", "A", from_=time.time())  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="nanoseconds"):
            next(live.replay("trades", "A", from_time=time.time()))  # type: ignore[arg-type]


def test_prices_of_every_kind(stage: Stage, gateway: Gateway) -> None:
    stage.send(trade("A", 1))
    stage.has_read(gateway)
    prices: list[Any] = []
    for kind in (float, Decimal, Fixed(4)):
        with Live[Any](gateway.url, prices=kind) as live:
            live.subscribe("trades", "A", snapshot=1)
            prices.append(take(iter(live), is_a(Trade))[-1].price)
    assert prices == [101.5, Decimal("101.50"), 1_015_000]
    assert [type(price) for price in prices] == [float, Decimal, int]


def test_batches(stage: Stage, gateway: Gateway) -> None:
    with Live(gateway.url) as live:
        live.subscribe("trades", "*").wait()
        stage.send(*(trade("A", number) for number in range(50)))
        came: list[Any] = []
        for batch in live.batches(max_wait_ms=20, max_events=7):
            assert 1 <= len(batch) <= 7
            came += [event for event in batch if isinstance(event, Trade)]
            if len(came) == 50:
                break
        assert [event.size for event in came] == [float(number) for number in range(50)]


def test_functions_are_called_in_the_thread_that_takes(stage: Stage, gateway: Gateway) -> None:
    with Live(gateway.url) as live:
        live.subscribe("trades", "*").wait()
        live.subscribe("quotes", "*").wait()
        seen: list[Any] = []

        def see(event: Trade[float]) -> None:
            seen.append((event.size, threading.current_thread()))
            if event.size == 9.0:
                live.close()

        live.on(Trade, see)
        live.on((Quote, Ack), lambda event: seen.append(type(event)))
        stage.send(trade("A", 1), quote("A", 2))
        eventually(lambda: live.stats().events == 2, "both have come")
        stage.send(trade("A", 9))
        live.run()
        here = threading.current_thread()
        assert sorted(seen, key=str) == sorted([Ack, Ack, (1.0, here), Quote, (9.0, here)], key=str)
        assert (seen[:2], seen[-1]) == ([Ack, Ack], (9.0, here))
        live.on(State, lambda state: 1 // 0)


def test_what_a_function_raises_is_raised_where_events_are_taken(gateway: Gateway) -> None:
    with Live(gateway.url) as live:
        live.on(State, lambda state: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            live.run(seconds=20)


def test_another_client_goes_on_from_a_cursor(stage: Stage, gateway: Gateway) -> None:
    with Live(gateway.url) as live:
        live.subscribe("trades", "*").wait()
        stage.send(trade("A", 1))
        take(iter(live), is_a(Trade))

        def has_place() -> bool:
            live.run(seconds=0.05)
            return live.cursor is not None

        eventually(has_place, "there is a cursor")
        before = live._core.cursor
        stage.send(trade("A", 2), trade("B", 3))
        eventually(lambda: live.stats().events == 3 and live._core.cursor != before, "the next one passes what waits")
        saved = live.cursor
        assert saved is not None
    with Live(gateway.url) as other:
        # A newer cursor of its own says nothing of that.
        other.subscribe("quotes", "*").wait()
        eventually(lambda: other._core.cursor is not None, "it has one")
        other.subscribe("trades", "*", cursor=saved)
        came = [event.size for event in take(iter(other), is_a(ReplayDone)) if isinstance(event, Trade)]
        assert came[-2:] == [2.0, 3.0]
        with pytest.raises(ValueError, match="both"):
            other.subscribe("trades", "*", cursor=saved, from_=0)
        with pytest.raises(Refused):
            other.subscribe("trades", "*", cursor="none of ours").wait()


def test_a_book_is_kept_in_step_and_asked_for_if_need_be(stage: Stage, gateway: Gateway) -> None:
    with Live(gateway.url) as live:
        kept = live.book("A", depth=5)
        assert live.book("A") is kept
        take(iter(live), is_a(Ack))
        stage.send(book("A", 1, [["9", "1"], ["8", "2"]], [["11", "3"]], snapshot=True))
        take(iter(live), is_a(BookUpdate))
        assert (kept.best_bid, kept.best_ask, kept.is_complete) == ((9.0, 1.0), (11.0, 3.0), True)
        stage.send(book("A", 2, [["9", "0"]], [["10", "4"]]))
        take(iter(live), is_a(BookUpdate))
        assert (kept.bids(), kept.asks()) == ([(8.0, 2.0)], [(10.0, 4.0), (11.0, 3.0)])
        # Several levels come of it, or they would not be in step: the gateway says the same to who comes later.
        with Live(gateway.url) as other:
            fresh = other.book("A", depth=5)
            take(iter(other), is_a(BookUpdate))
            assert (fresh.bids(), fresh.asks(), fresh.seq) == (kept.bids(), kept.asks(), kept.seq)


def test_a_book_under_a_pattern_takes_its_depth(stage: Stage, gateway: Gateway) -> None:
    with Live(gateway.url) as live:
        live.subscribe("book", "*", depth=1).wait()
        kept = live.book("A")
        assert kept.depth == 1
        stage.send(book("A", 1, [["9", "1"], ["8", "2"]], [["11", "3"]], snapshot=True))
        take(iter(live), is_a(BookUpdate))
        stage.send(book("A", 2, [["9.5", "1"]], []))
        take(iter(live), is_a(BookUpdate))
        assert kept.bids() == [(9.5, 1.0)]


def test_a_book_may_be_taken_at_its_first_event(stage: Stage, gateway: Gateway) -> None:
    # It had missed the snapshot that it was taken for, and stayed empty.
    with Live(gateway.url) as live:
        live.subscribe("book", "*").wait()
        stage.send(book("A", 1, [["9", "1"]], [["11", "3"]], snapshot=True), book("A", 2, [["9.5", "1"]], []))
        best = []
        for event in live:
            if isinstance(event, BookUpdate):
                best.append(live.book(event.symbol).best_bid)
                if len(best) == 2:
                    break
        assert best == [(9.0, 1.0), (9.5, 1.0)]
        assert live.book("A").updates == 2


def test_a_book_behind_a_gap_has_no_levels() -> None:
    server = Server()
    with Live(server.url) as live:
        kept = live.book("A", subscribe=False)
        server.greet()
        event = {"type": "book", "symbol": "A", "bids": [["9", "1"]], "asks": [], "event_ns": "1", "ingest_ns": "1"}
        server.send(json.dumps([{**event, "seq": "1:0:1", "snapshot": True}]))
        take(iter(live), is_a(BookUpdate))
        assert kept.is_complete
        server.send(json.dumps([{"type": "gap", "symbol": "A", "channel": "book", "cause": "overload"}]))
        take(iter(live), is_a(Gap))
        assert (kept.is_complete, kept.bids()) == (False, [])
        server.send(json.dumps([{**event, "seq": "1:0:5"}, {**event, "seq": "1:0:6", "prev": "1:0:5", "snapshot": True}]))
        take(iter(live), is_a(BookUpdate, snapshot=True))
        assert (kept.is_complete, kept.bids()) == (True, [(9.0, 1.0)])
    server.close()


def test_the_past_is_played_to_its_end(stage: Stage, gateway: Gateway) -> None:
    for number in range(6):
        stage.records.send(trade("AB"[number % 2], number), time_ms=FIRST_MS + number * 1_000)
    stage.sent += 6
    stage.has_read(gateway)
    with Live(gateway.url) as live:
        first_ns, last_ns = (FIRST_MS + 1_000) * 1_000_000, (FIRST_MS + 4_000) * 1_000_000
        played = list(live.replay("trades", ["A", "B"], from_time=first_ns, until=last_ns))
        assert [event.size for event in played if isinstance(event, Trade)] == [1.0, 2.0, 3.0, 4.0]
        assert all(event.replay for event in played if isinstance(event, Trade))
        fast = list(live.replay("trades", "*", from_time=first_ns, until=last_ns, speed=1000))
        assert [event.size for event in fast if isinstance(event, Trade)] == [1.0, 2.0, 3.0, 4.0]
        with pytest.raises(TickgateError) as refused:
            list(live.replay("book", "A", from_time=first_ns, until=last_ns))
        assert refused.value.code == "bad_request"


def test_a_past_that_kafka_has_in_part_says_what_it_has_no_more(stage: Stage) -> None:
    small = stage.start("tickgate-broker", "--listen", "127.0.0.1:0", "--topic", f"{TOPIC}:1", "--partition-bytes", "64KiB")
    stage.broker = small.said(r"^(127\.0\.0\.1:\d+)\s*$")
    stage.records.close()
    stage.records = Producer(stage.broker, TOPIC)
    for number in range(1_000):
        stage.records.send(trade("A", number), time_ms=FIRST_MS + number)
    gateway = stage.gateway()
    with Live(gateway.url) as live:
        past = list(live.replay("trades", "A", from_time=FIRST_MS * 1_000_000))
        first = next(event for event in past if isinstance(event, Trade))
        assert 0.0 < first.size < 999.0
        assert [event.code for event in past if isinstance(event, Error)] == ["replay_aged_out"]
        (gap,) = (event for event in past if isinstance(event, Gap))
        assert (gap.cause, gap.upto) == ("retention", first.prev)
        # What it has from the beginning on is whole, and its time is that of now.
        later = list(live.replay("trades", "A", from_time=FIRST_MS * 1_000_000 + 990_000_000))
        assert [event.size for event in later if isinstance(event, Trade)] == [float(number) for number in range(990, 1_000)]
        assert not [event for event in later if isinstance(event, (Error, Gap))]
        again = {event.seq: event.ingest_ns for event in past if isinstance(event, Trade)}
        assert all(event.ingest_ns > again[event.seq] for event in later if isinstance(event, Trade))


def test_a_past_for_which_nobody_answers_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    # Who takes its ticks alone waited without a word.
    # Its port is taken, and nobody listens.
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        past = Live(f"ws://127.0.0.1:{nobody.getsockname()[1]}").replay("trades", "A", from_time=0)
        attempts = (event.attempt for event in past if isinstance(event, State) and event.state == "reconnecting")
        assert next(attempt for attempt in attempts if attempt == 3)
        past.close()
    (said,) = (record.getMessage() for record in caplog.records if record.name == "tickgate")
    assert said.startswith("no connection for a replay: ")
    assert said.endswith("; trying again")


def test_a_past_that_is_refused_is_raised(stage: Stage) -> None:
    gateway = stage.gateway(replay__consumers_max=0)
    with Live(gateway.url) as live:
        for symbols in (["A"], []):
            with pytest.raises(Refused) as refused:
                list(live.replay("trades", symbols, from_time=FIRST_MS * 1_000_000))
            assert refused.value.code == "bad_request"


def test_a_subscription_may_begin_in_the_past(stage: Stage, gateway: Gateway) -> None:
    stage.send(trade("A", 1), trade("A", 2), trade("A", 3))
    stage.has_read(gateway)
    with Live(gateway.url) as live:
        live.subscribe("trades", "A", from_=0)
        events = take(iter(live), is_a(ReplayDone))
        trades = [event for event in events if isinstance(event, Trade)]
        assert [event.size for event in trades] == [1.0, 2.0, 3.0]
        assert events[-1] == ReplayDone("trades", "A", trades[-1].seq)
        # Asked for once more, from a position on: it comes again, as it was asked for.
        live.subscribe("trades", "A", from_=trades[0].seq)
        again = take(iter(live), is_a(ReplayDone))
        assert [event.size for event in again if isinstance(event, Trade)] == [2.0, 3.0]
        stage.send(trade("A", 4))
        assert take(iter(live), is_a(Trade))[-1].replay is False
        assert live.stats().gaps == 0


SMALL = {
    "outbox__bytes_max": "64KiB",
    "outbox__frame_bytes_max": "16KiB",
    "outbox__write_bytes_max": "16KiB",
    "outbox__send_buffer_bytes": "16KiB",
}


def test_a_program_that_takes_nothing_looks_slow_to_the_gateway_and_memory_stays_bounded(stage: Stage) -> None:
    gateway = stage.gateway(**SMALL)
    # The proxy is there for its small buffers: those of the kernel alone would hold megabytes.
    proxy = Proxy(gateway.address)
    with Live(proxy.url, on_slow="skip", queue_events=500) as live:
        live.subscribe("trades", "A").wait()
        numbers = range(30_000)
        for first in range(0, len(numbers), 500):
            stage.send(*(trade("A", number) for number in numbers[first : first + 500]))
        stage.has_read(gateway)
        eventually(lambda: live.stats().paused >= 1, "it reads no more")
        stats = live.stats()
        # What one read from the socket brings comes on top: 256 KiB at the most, some 200 bytes each.
        assert stats.queued_events <= 500 + 256 * 1024 // 100
        events = take(iter(live), is_a(Trade, size=29_999.0))
        gaps = [event for event in events if isinstance(event, Gap)]
        trades = [event for event in events if isinstance(event, Trade)]
        assert gaps
        assert {gap.cause for gap in gaps} == {"slow_consumer"}
        assert len(trades) + sum(gap.count or 0 for gap in gaps) == 30_000
        assert any(isinstance(event, Slow) for event in events)
        assert (live.stats().unannounced, live.stats().reconnects) == (0, 0)
    proxy.close()


def test_a_queue_that_conflates_gives_the_newest_state(stage: Stage, gateway: Gateway) -> None:
    with Live(gateway.url, when_full="conflate", queue_events=100) as live:
        live.subscribe("quotes", "*").wait()
        for first in range(0, 3_000, 500):
            stage.send(*(quote("AB"[number % 2], number) for number in range(first, first + 500)))
        counts = live._core.judge.counts
        # A gateway whose client gets no time to read puts some together itself.
        eventually(lambda: counts.events + counts.conflated == 3_000, "all have come")
        assert live.stats().queued_events < 100 + 500
        assert live.stats().paused == 0
        quotes = [event for event in live.events(seconds=0.5) if isinstance(event, Quote)]
        newest = {event.symbol: event for event in quotes}
        assert (newest["A"].bid_price, newest["B"].bid_price) == (3098.25, 3099.25)
        assert sum(event.merged for event in quotes) == 3_000
        assert live.stats().conflated == 3_000 - len(quotes)


def test_many_subscribe_calls_are_no_faster_than_the_gateway_takes_them(stage: Stage) -> None:
    gateway = stage.gateway(limits__requests_per_s=40)
    with Live(gateway.url) as live:
        # Behind the first second's no more than the gateway takes at once, however late and however close together it reads them.
        pending = [live.subscribe("trades", f"S{number}") for number in range(70)]
        assert all(one.wait(30).ok for one in pending)
        assert not any(isinstance(event, Error) for event in live.events(seconds=0))


def test_a_stream_that_nobody_holds_any_more_is_closed(gateway: Gateway) -> None:
    # A cell of a notebook that ran again left one behind each time, which read, and came back when it was lost.
    with Live(gateway.url) as other:
        live = Live(gateway.url)
        live.subscribe("trades", "A").wait()
        live.subscribe("trades", "B")
        nobody = Live("ws://127.0.0.1:1/v1/stream")
        nobody.subscribe("trades", "A")
        threads = [stream._engine._thread for stream in (live, nobody)]
        del live, nobody
        gc.collect()
        for thread in threads:
            thread.join(SOON_S)
            assert not thread.is_alive()
        assert other.subscribe("trades", "A").wait().ok
    assert Live(gateway.url).subscribe("trades", "A").wait().ok, "who waits for an answer holds it"
    assert is_a(State)(next(Live(gateway.url).events())), "and so does who takes events"


def test_a_client_that_must_not_come_back_says_why_it_ended(proxy: Proxy) -> None:
    with Live(proxy.url, reconnect=False) as live:
        take(iter(live), is_a(State, state="live"))
        proxy.cut()
        with pytest.raises(ConnectionLost) as lost:
            take(iter(live), lambda event: False)
    assert lost.value.code == "connection_lost"


def test_where_no_gateway_is() -> None:
    with Live("ws://127.0.0.1:1/v1/stream", reconnect=False) as live:
        with pytest.raises(ConnectionLost):
            take(iter(live), lambda event: False)
        with pytest.raises(TickgateError):
            live.wait_live()
        with pytest.raises(TickgateError):
            live.subscribe("trades", "A").wait(1)


def test_a_wrong_path_ends_it_at_once_with_what_the_gateway_says(gateway: Gateway) -> None:
    with Live(f"{gateway.url}x") as live:
        events: list[Any] = []
        with pytest.raises(ConnectionLost) as lost:
            events.extend(live)
        assert (lost.value.code, lost.value.message) == ("bad_url", "HTTP 404: the stream is at /v1/stream")
        assert "/v1/stream, or wss://…: are host, port and path right?" in lost.value.hint
        assert [type(event) for event in events] == [State, Error, State]
        assert [event.state for event in events if isinstance(event, State)] == ["connecting", "closed"], "it did not try again"
        for again in (lambda: list(live), live.wait_live):
            # Three tracebacks of threads and libraries stood before the one line that says it, more each time.
            with pytest.raises(ConnectionLost) as lost:
                again()
            shown = "".join(traceback.format_exception(lost.value))
            assert shown.count("Traceback (most recent call last)") == 1
            assert "engine.py" not in shown


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error":"not now"}', "HTTP 418: not now"),
        (b"<html>\n <p>no</p>\n</html>", "HTTP 418: <html> <p>no</p> </html>"),
        (b"[" * 100_000, "HTTP 418: " + "[" * 200),
        (b'{"error":{"a":1}}', "HTTP 418: {'a': 1}"),
        (b"\xff", "HTTP 418: \ufffd"),
        (b"", "HTTP 418"),
    ],
)
def test_a_refusal_is_told_in_one_line_whatever_it_says(body: bytes, said: str) -> None:
    assert str(HandshakeRefused(418, _reason(body), None)) == said


def test_a_server_that_is_none_of_ours() -> None:
    server = Server()
    with Live(server.url) as live:
        server.greet(auth="none")
        take(iter(live), is_a(State, state="live"))
        server.send("[" * 100_000)
        take(iter(live), is_a(Error, code="bad_frame"))
        server.send("{" + '"a":{' * 5_000)
        take(iter(live), is_a(Error, code="bad_frame"))
        server.close_with(4403, "go away")
        with pytest.raises(ConnectionLost) as lost:
            take(iter(live), lambda event: False)
    assert (lost.value.code, lost.value.message) == ("forbidden", "go away")
    server.close()
