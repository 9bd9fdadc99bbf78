"""The small parts: prices, messages, books, the queue, waits, latencies."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import ROOT
from tickgate import Book, Fixed, to_datetime, to_ns
from tickgate.backoff import Backoff
from tickgate.errors import NotReadable
from tickgate.events import BookUpdate, Gap, Quote, Trade
from tickgate.inbox import Inbox
from tickgate.notices import AckResult, Resync, State
from tickgate.stats import Clock, Latencies
from tickgate.subscriptions import Subscriptions, options
from tickgate.wire import Decoder, Heartbeat

GOLDEN = (ROOT / "protocol" / "tests" / "golden" / "events.jsonl").read_text(encoding="utf-8").splitlines()


def as_on_the_wire(event: Any) -> dict[str, Any]:
    """An event of decimals as the object that it was read from."""
    shown: dict[str, Any] = {"type": type(event).__struct_config__.tag}
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if name == "received_ns" or value is None or value is False or (name == "merged" and value == 1):
            continue
        if name in ("bids", "asks"):
            shown[name] = [[str(price), str(size)] for price, size in value]
        else:
            shown[name] = str(value) if name.endswith("_ns") or isinstance(value, Decimal) else value
    return shown


@pytest.mark.parametrize("line", GOLDEN)
def test_the_protocols_examples_are_read_as_they_are(line: str) -> None:
    (event,) = Decoder(Decimal).data(f"[{line}]".encode())
    assert as_on_the_wire(event) == json.loads(line)


def test_prices_are_what_was_asked_for() -> None:
    frame = f"[{GOLDEN[0]},{GOLDEN[1]},{GOLDEN[2]}]".encode()
    prices = []
    for kind in (float, Decimal, Fixed(4)):
        trade, quote, book = Decoder(kind).data(frame)
        assert isinstance(trade, Trade)
        assert isinstance(quote, Quote)
        assert isinstance(book, BookUpdate)
        prices.append((trade.price, quote.ask_size, book.bids[0][0]))
    assert prices[0] == (487.5, 100.0, 61659.7)
    assert [str(price) for price in prices[1]] == ["487.50", "100", "61659.7"]
    assert prices[2] == (4_875_000, 1_000_000, 616_597_000)


@given(st.integers(-(10**30), 10**30), st.integers(0, 18))
def test_fixed_prices_are_exact(units: int, scale: int) -> None:
    text = format(Decimal(units).scaleb(-scale, context=None) if abs(units) < 10**27 else Decimal(units), "f")
    value = units if abs(units) < 10**27 else units * 10**scale
    assert Fixed(scale).of(text) == value


@pytest.mark.parametrize("text", ["", ".", "-", "1e5", "nan", "1.5.1", "0x1", "1_0", " 1", "٣", "1.234"])
def test_what_is_no_fixed_price(text: str) -> None:
    with pytest.raises(NotReadable):
        Fixed(2).of(text)


@pytest.mark.parametrize("price", ["nan", "inf", "-inf", "cheap", ""])
@pytest.mark.parametrize("kind", [float, Decimal, Fixed(2)])
def test_no_price_is_not_a_number(price: str, kind: Any) -> None:
    line = GOLDEN[0].replace('"487.50"', json.dumps(price))
    with pytest.raises(NotReadable):
        Decoder(kind).data(f"[{line}]".encode())


@given(st.binary(max_size=200))
def test_bytes_are_messages_or_not(data: bytes) -> None:
    decoder = Decoder()
    for read in (decoder.data, decoder.control):
        try:
            read(data)
        except NotReadable:
            continue


@given(st.sampled_from(GOLDEN), st.integers(0, 400), st.characters())
def test_damaged_events_are_read_or_not(line: str, at: int, character: str) -> None:
    damaged = f"[{line[: at % len(line)]}{character}{line[at % len(line) + 1 :]}]"
    try:
        events = Decoder().data(damaged.encode("utf-8", "surrogatepass"))
    except NotReadable:
        return
    assert len(events) <= 1


def test_unknown_fields_are_ignored() -> None:
    line = GOLDEN[0][:-1] + ',"new":{"deep":[1,2]}}'
    assert len(Decoder().data(f"[{line}]".encode())) == 1
    beat = Decoder().control(b'{"op":"heartbeat","now_ns":"5","cursor":"c","queued_bytes":0,"delay_ms":0,"feeds":[],"new":1}')
    assert isinstance(beat, Heartbeat)
    assert beat.now_ns == 5


def test_times() -> None:
    noon = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
    assert to_datetime(to_ns(noon)) == noon
    assert to_ns(7) == 7
    assert to_datetime(1_381_150_800_123_456_789).isoformat() == "2013-10-07T13:00:00.123456+00:00"
    with pytest.raises(ValueError, match="time zone"):
        to_ns(datetime(2026, 11, 23, 12))


LEVELS = st.lists(st.tuples(st.integers(1, 12).map(float), st.integers(0, 3).map(float)), max_size=6)


@given(st.lists(st.tuples(LEVELS, LEVELS, st.booleans()), max_size=30), st.sampled_from([0, 1, 3]))
def test_a_book_is_what_its_updates_make_it(updates: list[Any], depth: int) -> None:
    book: Book[float] = Book("A", depth)
    bids: dict[float, float] = {}
    asks: dict[float, float] = {}
    is_complete = False
    for number, (bid_levels, ask_levels, is_snapshot) in enumerate(updates):
        book.apply(BookUpdate("A", bid_levels, ask_levels, f"1:0:{number}", number, 0, snapshot=is_snapshot))
        if is_snapshot:
            is_complete = True
            bids, asks = {}, {}
        if is_complete:
            bids.update(bid_levels)
            asks.update(ask_levels)
        bids = {price: size for price, size in bids.items() if size}
        asks = {price: size for price, size in asks.items() if size}
        if depth:
            bids = dict(sorted(bids.items(), reverse=True)[:depth])
            asks = dict(sorted(asks.items())[:depth])
        assert book.bids() == sorted(bids.items(), reverse=True)
        assert book.asks() == sorted(asks.items())
        assert book.best_bid == (max(bids.items()) if bids else None)
        assert book.best_ask == (min(asks.items()) if asks else None)
        assert book.is_complete == is_complete
    book.lose()
    assert (book.bids(), book.asks(2), book.is_complete) == ([], [], False)


def quote(number: int, symbol: str = "A") -> Quote[float]:
    return Quote(symbol, 1.0, 2.0, 3.0, 4.0, f"1:0:{number}", number, 0, prev=f"1:0:{number - 1}")


def trade(number: int) -> Trade[float]:
    return Trade("A", 1.0, 2.0, f"1:0:{number}", number, 0)


def drained(inbox: Inbox) -> list[Any]:
    events: list[Any] = []
    while (batch := inbox.take(0)) is not None:
        events += batch
    return events


def test_a_full_queue_says_so_until_half_of_it_was_taken() -> None:
    inbox = Inbox(10, 1_000, conflates=False)
    rooms: list[bool] = []
    inbox.on_room(lambda: rooms.append(True))
    assert all(inbox.put([trade(number)], 10) for number in range(9))
    assert not inbox.put([trade(9)], 10)
    for _ in range(5):
        inbox.take(0)
    assert rooms == []
    inbox.take(0)
    assert rooms == [True]
    assert not inbox.put([trade(10)], 990), "bytes are a bound as well"
    assert [event.event_ns for event in drained(inbox)] == [6, 7, 8, 9, 10]


def test_a_queue_that_conflates_keeps_trades_and_the_newest_state() -> None:
    inbox = Inbox(10, 100_000, conflates=True)
    events: list[Any] = [quote(1), trade(2), quote(3), Gap("quotes", "A", "overload"), quote(4), quote(5, "B"), quote(6), trade(7)]
    assert inbox.put(events, 800)
    assert inbox.put([quote(8), quote(9, "B")], 200)
    left = drained(inbox)
    kinds = [(type(event).__name__, getattr(event, "event_ns", None), getattr(event, "merged", None)) for event in left]
    assert kinds == [
        ("Trade", 2, 1),
        ("Quote", 3, 2),
        ("Gap", None, None),
        ("Trade", 7, 1),
        ("Quote", 8, 3),
        ("Quote", 9, 2),
    ]
    assert (left[1].prev, left[4].prev, inbox.conflated) == ("1:0:0", "1:0:3", 4)


def test_a_queue_of_trades_is_full_though_it_conflates() -> None:
    inbox = Inbox(10, 100_000, conflates=True)
    assert not inbox.put([trade(number) for number in range(10)], 100)
    assert len(drained(inbox)) == 10


@given(st.lists(st.tuples(LEVELS, LEVELS, st.sampled_from([False, False, False, True])), min_size=4, max_size=30))
def test_conflated_changes_of_a_book_make_the_same_book(updates: list[Any]) -> None:
    def events() -> list[BookUpdate[float]]:
        return [
            BookUpdate("A", bids, asks, f"1:0:{number}", number, 0, snapshot=is_snapshot or number == 0)
            for number, (bids, asks, is_snapshot) in enumerate(updates)
        ]

    whole: Book[float] = Book("A")
    for event in events():
        whole.apply(event)
    inbox = Inbox(4, 100_000, conflates=True)
    for event in events():
        inbox.put([event], 10)
    conflated: Book[float] = Book("A")
    left = drained(inbox)
    for event in left:
        conflated.apply(event)
    assert (conflated.bids(), conflated.asks()) == (whole.bids(), whole.asks())
    assert sum(event.merged for event in left) == len(updates)
    assert len(left) <= 4


def test_attempts_that_nobody_sees_take_no_room() -> None:
    inbox = Inbox(10, 1_000, conflates=False)
    inbox.put([trade(1), Resync("book", "A")], 10)
    for attempt in range(1, 1_000):
        inbox.put([State("reconnecting", attempt)], 0)
    assert drained(inbox)[2:] == [State("reconnecting", 999)]


def test_a_cursor_passes_nothing_that_was_not_taken() -> None:
    # Whoever went on from one that did would never see what had waited.
    def trades(*numbers: int) -> list[Any]:
        return [Trade("A", 1.0, 1.0, f"1:0:{number}", 1, 1) for number in numbers]

    for conflates in (False, True):
        inbox = Inbox(3, 1_000, conflates=conflates)
        inbox.pass_cursor("a")
        assert inbox.cursor == "a"
        inbox.put(trades(1, 2), 1, "b")
        inbox.put(trades(3, 4), 1)
        inbox.pass_cursor("c")
        cursors = []
        while inbox.take(0.0):
            cursors.append(inbox.cursor)
        assert cursors == (["c"] if conflates else ["b", "c"])
    inbox = Inbox(10, 1_000, conflates=False)
    inbox.put([State("reconnecting", 1)], 0, "d")
    inbox.put([State("reconnecting", 2)], 0, "e")
    inbox.put([State("reconnecting", 3)], 0)
    assert (inbox.cursor, inbox.take(0.0), inbox.cursor) == (None, [State("reconnecting", 3)], "e")


def test_waits_grow_to_a_bound() -> None:
    bounds = [(0, 0.1), (0.1, 0.2), (0.2, 0.4), (0.4, 0.8), (0.8, 1.6), (1.6, 3.2)] + [(2.5, 5.0)] * 30
    for seed in range(200):
        backoff = Backoff(Random(seed))
        for least, most in bounds:
            assert least <= backoff.next_s() <= most, f"seed {seed}"
        backoff.reset()
        assert backoff.next_s() <= 0.1
        for told, least, most in ((1, 1, 1.5), (5, 5, 7.5), (100_000, 30, 45), (-3, 0, 0)):
            assert least <= backoff.next_s(told) <= most


def test_only_a_session_that_lasts_shows_that_all_is_well() -> None:
    """One that was ended as soon as it was live made the next wait a first one."""
    backoff = Backoff(Random(1))
    for attempts in range(1, 10):
        backoff.lived(1.999)
        backoff.next_s()
        assert backoff.attempts == attempts
    backoff.lived(2.0)
    assert backoff.attempts == 0


@given(st.lists(st.integers(1_000, 10**11), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_quantiles_are_near(latencies: list[int], part: float) -> None:
    kept = Latencies()
    for ns in latencies:
        kept.record(ns)
    exact = sorted(latencies)[max(-(-len(latencies) * int(part * 100) // 100) - 1, 0)] / 1e6
    found = kept.quantile_ms(part)
    assert found is not None
    assert exact * 0.999 <= found <= exact * 1.07 or exact > 60_000


def test_the_clock_of_the_shortest_way_counts() -> None:
    clock = Clock()
    assert (clock.skew_ns, clock.round_trip_ns) == (None, None)
    clock.pong(sent_ns=1_000, received_ns=9_000, now_ns=5_900)
    clock.pong(sent_ns=10_000, received_ns=12_000, now_ns=11_500)
    assert (clock.skew_ns, clock.round_trip_ns) == (500, 2_000)


def test_options_that_nobody_can_mean() -> None:
    for wrong in ({"on_slow": "conflate"}, {"speed": 2.0}, {"until": 5}, {"from_": "here"}, {"on_slow": "never"}):
        with pytest.raises(ValueError):
            options("trades", **wrong)
    with pytest.raises(ValueError):
        options("news")  # type: ignore[arg-type]
    assert options("trades", from_=5, until=6, speed=2) == {"from": {"time_ns": "5", "until_ns": "6", "speed": 2}}


def test_a_symbol_that_nothing_has_named_has_a_hint() -> None:
    """Of a misspelt one nothing came, and nothing said why."""
    known, misspelt = (AckResult("trades", symbol, True, seen=seen) for symbol, seen in (("A", None), ("Aa", False)))
    assert (known.hint, "is it right" in (misspelt.hint or "")) == (None, True)


def nothing_lacks(symbol: str) -> bool:
    return False


def test_what_is_held_is_asked_for_in_few_requests() -> None:
    held = Subscriptions()
    for symbol in ("A", "B", "C*"):
        held.hold("trades", symbol, {"snapshot": 3})
    held.hold("quotes", "A", {"conflate_ms": 100})
    held.hold("trades", "P", options("trades", from_=5, until=6))
    (whole,) = held.resume("c", lambda channel, symbol: None, nothing_lacks)
    assert whole.body == {
        "op": "subscribe",
        "cursor": "c",
        "subscriptions": [
            {"channel": "trades", "symbols": ["A", "B", "C*"]},
            {"channel": "quotes", "symbols": ["A"], "conflate_ms": 100},
        ],
    }
    assert (whole.awaited, whole.fresh) == ([("trades", "A"), ("trades", "B"), ("trades", "C*"), ("quotes", "A")], [])
    (by_seq,) = held.resume(None, lambda channel, symbol: ("1:0:", 7) if symbol == "A" else None, nothing_lacks)
    assert by_seq.body["subscriptions"] == [
        {"channel": "trades", "symbols": ["A"], "from": {"seq": "1:0:7"}},
        {"channel": "quotes", "symbols": ["A"], "conflate_ms": 100, "from": {"seq": "1:0:7"}},
        {"channel": "trades", "symbols": ["B", "C*"], "snapshot": 3},
    ]
    assert by_seq.fresh == [("trades", "B"), ("trades", "C*")]
    for number in range(5_000):
        held.hold("status", f"S{number}", {})
    assert len(list(held.resume("c", lambda channel, symbol: None, nothing_lacks))) == 3


def test_the_most_specific_subscription_counts() -> None:
    held = Subscriptions()
    for symbol, depth in (("*", 1), ("BTC*", 5), ("BTCUSDT", 10)):
        held.hold("book", symbol, {"depth": depth})
    assert [held.options_of("book", name) for name in ("BTCUSDT", "BTCEUR", "ETH")] == [{"depth": 10}, {"depth": 5}, {"depth": 1}]
    assert [held.name_of("book", name) for name in ("BTCUSDT", "BTCEUR", "ETH")] == ["BTCUSDT", "BTC*", "*"]
    assert held.options_of("quotes", "ETH") is None
