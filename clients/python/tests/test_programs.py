"""Programs around the client: Ctrl-C, a loop that runs already, exits without a goodbye, data frames, the examples."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas
import polars
import pyarrow
import pytest
from conformance.proxy import Proxy
from conformance.stage import TOPIC, Gateway, Stage
from conformance.world import book, quote, status, trade
from pyarrow import parquet

from conftest import is_a, take
from tickgate import Ack, Capture, ConnectionLost, Fixed, Gap, Live, State, Status, Trade

HERE = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((HERE / "examples").glob("*.py"))


def python(*args: str) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(HERE / "src"), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen([sys.executable, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


WAITS = """
import sys
from tickgate import Live
with Live(sys.argv[1]) as live:
    live.wait_live()
    print("ready")
    {take}
"""


@pytest.mark.parametrize(
    "taking",
    [
        "[None for event in live]",
        "live.run()",
        "list(live.batches())",
        "live.capture(seconds=600)",
        "live.subscribe('trades', 'A').wait(); list(live)",
    ],
)
def test_ctrl_c_ends_it_at_once(gateway: Gateway, taking: str) -> None:
    program = python("-c", WAITS.format(take=taking), gateway.url)
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    program.send_signal(signal.SIGINT)
    _, said = program.communicate(timeout=20)
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert program.returncode in (1, -signal.SIGINT, 130)


def test_a_program_may_just_end(gateway: Gateway) -> None:
    script = "import sys; from tickgate import Live; live = Live(sys.argv[1]); live.subscribe('trades', '*').wait(); print('end')"
    program = python("-c", script, gateway.url)
    said, errors = program.communicate(timeout=20)
    assert (said, errors, program.returncode) == ("end\n", "", 0)


def test_in_a_loop_that_runs_already(stage: Stage, gateway: Gateway) -> None:
    async def cells() -> tuple[float, float, int]:
        """As the cells of a notebook: plain calls and iteration work while a loop runs, and so does `async for`."""
        with Live(gateway.url) as live:
            live.subscribe("trades", "A").wait()
            stage.send(trade("A", 1))
            first = take(iter(live), is_a(Trade))[-1].price
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        other = asyncio.create_task(others())
        async with Live(gateway.url) as live:
            live.subscribe("trades", "A")
            async for event in live:
                if isinstance(event, Ack):
                    stage.send(trade("A", 2))
                if isinstance(event, Trade):
                    other.cancel()
                    return first, event.price, turns
        raise AssertionError("it ended")

    first, second, turns = asyncio.run(cells())
    assert (first, second) == (101.5, 102.5)
    assert turns > 0, "others had their turn meanwhile"


def test_async_iteration_ends_and_fails_as_the_other_does(gateway: Gateway) -> None:
    async def ended() -> list[Any]:
        live = Live(gateway.url)
        live.wait_live()
        live.close()
        return [event async for event in live]

    assert asyncio.run(ended())[-1] == State("closed")

    async def failed() -> None:
        proxy = Proxy(gateway.address)
        try:
            async with Live(proxy.url, reconnect=False) as live:
                async for event in live:
                    if isinstance(event, State) and event.state == "live":
                        proxy.cut()
        finally:
            proxy.close()

    with pytest.raises(ConnectionLost):
        asyncio.run(failed())


def test_async_iteration_can_be_cancelled(gateway: Gateway) -> None:
    async def cancelled() -> None:
        async with Live(gateway.url) as live:

            async def read() -> None:
                async for _ in live:
                    pass

            await asyncio.wait_for(read(), 0.2)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(cancelled())


@pytest.fixture
def captured(stage: Stage, gateway: Gateway, request: pytest.FixtureRequest) -> Iterator[Capture]:
    with Live[Any](gateway.url, prices=getattr(request, "param", float)) as live:
        for channel in ("trades", "quotes", "book", "status"):
            live.subscribe(channel, "*").wait()
        stage.send(trade("A", 1, side="buy"), trade("B", 2, trade_id="7"), quote("A", 3))
        stage.send(book("A", 4, [["9", "1"], ["8", "2"]], [["11", "3"]], snapshot=True), status("A", 5, "halted"))
        captured = Capture(getattr(request, "param", float))
        for event in take(iter(live), is_a(Status)):
            captured.add(event)
        captured.add(Gap("trades", "A", "overload", "1:0:1", "1:0:2", 1))
        yield captured


def test_a_capture_as_arrow(captured: Capture, tmp_path: Path) -> None:
    table = captured.to_arrow("trades")
    assert table.column("price").to_pylist() == [101.5, 102.5]
    assert table.column("side").to_pylist() == ["buy", None]
    assert table.schema.field("event_time").type == pyarrow.timestamp("ns", tz="UTC")
    assert table.column("event_time").cast(pyarrow.int64()).to_pylist() == [1_381_158_000_000_000_001, 1_381_158_000_000_000_002]
    assert captured.to_arrow("book").column("price").to_pylist() == [9.0, 8.0, 11.0]
    assert captured.to_arrow("gaps").column("cause").to_pylist() == ["overload"]
    assert set(captured.channels) == {"trades", "quotes", "book", "status", "gaps"}
    with pytest.raises(ValueError, match="which channel"):
        captured.to_arrow()
    path = captured.to_parquet(tmp_path / "trades.parquet", "trades")
    assert parquet.read_table(path).equals(table)


def test_a_capture_as_polars(captured: Capture) -> None:
    frame = captured.to_polars("trades")
    assert frame["price"].to_list() == [101.5, 102.5]
    assert frame.schema["event_time"] == polars.Datetime("ns", "UTC")
    assert frame["event_time"].dt.epoch("ns").to_list() == [1_381_158_000_000_000_001, 1_381_158_000_000_000_002]
    assert captured.to_polars("book")["side"].to_list() == ["bid", "bid", "ask"]
    assert captured.to_polars("status")["state"].to_list() == ["halted"]


def test_a_capture_as_pandas(captured: Capture) -> None:
    frame = captured.to_pandas("quotes")
    assert frame["bid_price"].tolist() == [103.25]
    assert str(frame["event_time"].dtype) == "datetime64[ns, UTC]"
    assert frame["event_time"][0].value == 1_381_158_000_000_000_003
    assert frame["send_time"].isna().all()
    assert isinstance(frame, pandas.DataFrame)
    assert captured.to_pandas("gaps")["count"].tolist() == [1]


@pytest.mark.parametrize("captured", [Decimal, Fixed(2)], indirect=True)
def test_prices_of_a_capture_are_exact(captured: Capture) -> None:
    wanted: list[Any] = [Decimal("101.5"), Decimal("102.5")]
    if captured._prices is not Decimal:
        wanted = [10_150, 10_250]
    assert captured.to_arrow("trades").column("price").to_pylist() == wanted
    assert captured.to_polars("trades")["price"].to_list() == wanted
    assert captured.to_pandas("trades")["price"].tolist() == wanted


def test_an_empty_capture_has_its_columns() -> None:
    captured = Capture()
    assert captured.to_arrow("trades").num_rows == 0
    assert captured.to_polars("book").schema["price"] == polars.Float64
    assert str(captured.to_pandas("trades")["event_time"].dtype) == "datetime64[ns, UTC]"


def test_a_capture_has_an_end_and_a_bound(stage: Stage, gateway: Gateway) -> None:
    with Live(gateway.url) as live:
        live.subscribe("trades", "*").wait()
        stage.send(*(trade("A", number) for number in range(20)))
        captured = live.capture(seconds=60, max_events=5)
        assert (len(captured), captured.is_full) == (5, True)
        assert len(live.capture(seconds=0.3).events("trades")) == 15


def test_the_examples_run(stage: Stage, gateway: Gateway, tmp_path: Path) -> None:
    market = ["run", "--model", "crypto-perp", "--symbols", "5", "--rate", "400", "--brokers", stage.broker, "--topic", TOPIC]
    stage.start("tickgate-sim", *market)
    assert len(EXAMPLES) >= 6
    running = []
    for path in EXAMPLES:
        more = ["--out", str(tmp_path / "out.parquet")] if path.stem == "capture" else []
        running.append((path.stem, python(str(path), "--url", gateway.url, "--seconds", "3", *more)))
    for name, program in running:
        said, errors = program.communicate(timeout=60)
        assert (program.returncode, errors) == (0, ""), f"{name}: {errors or said}"
        assert len(said.splitlines()) >= 2, f"{name} says {said!r}"
    assert parquet.read_table(tmp_path / "out.parquet").num_rows > 0


def test_closing_is_quick(gateway: Gateway) -> None:
    live = Live(gateway.url)
    live.wait_live()
    began = time.monotonic()
    live.close()
    # A hang would be the time-out of a thread that does not end.
    assert time.monotonic() - began < 10
    assert not live._engine._thread.is_alive()
