"""Captures as data frames, tables and files. Their packages are imported where they are needed: they take a second of each process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from conformance.stage import Gateway, Stage
from conformance.world import book, quote, status, trade

from conftest import is_a, take
from tickgate import BookUpdate, Capture, Fixed, Gap, Live, Status, TickgateError


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
    import pyarrow
    from pyarrow import parquet

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
    import polars

    frame = captured.to_polars("trades")
    assert frame["price"].to_list() == [101.5, 102.5]
    assert frame.schema["event_time"] == polars.Datetime("ns", "UTC")
    assert frame["event_time"].dt.epoch("ns").to_list() == [1_381_158_000_000_000_001, 1_381_158_000_000_000_002]
    assert captured.to_polars("book")["side"].to_list() == ["bid", "bid", "ask"]
    assert captured.to_polars("status")["state"].to_list() == ["halted"]


def test_a_capture_as_pandas(captured: Capture) -> None:
    import pandas

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


@pytest.mark.parametrize(("text", "price"), [("Float64", 1.5), ("Decimal", Decimal("1.5")), ("Int64", 15)])
def test_a_capture_that_is_not_told_what_prices_are_looks_at_them(text: str, price: Any) -> None:
    # `Capture()`, which the README says to begin with, took them for floats, and decimals lost their digits.
    import pyarrow

    captured = Capture()
    captured.add(BookUpdate("A", [], [], "1:0:1", 1, 1))
    captured.add(BookUpdate("A", [(price, price)], [], "1:0:2", 1, 1))
    arrow = {"Float64": pyarrow.float64(), "Int64": pyarrow.int64(), "Decimal": pyarrow.decimal128(38, 18)}
    assert captured.to_arrow("book").schema.field("price").type == arrow[text]
    assert captured.to_arrow("book").column("price").to_pylist() == [price]
    assert str(captured.to_polars("book").schema["price"]).startswith(text)
    assert captured.to_pandas("book")["price"].tolist() == [price]


def test_an_empty_capture_has_its_columns() -> None:
    import polars

    captured = Capture()
    assert captured.to_arrow("trades").num_rows == 0
    assert captured.to_polars("book").schema["price"] == polars.Float64
    assert str(captured.to_pandas("trades")["event_time"].dtype) == "datetime64[ns, UTC]"


@pytest.mark.parametrize("package", ["polars", "pandas", "pyarrow"])
def test_a_data_frame_that_cannot_be_made_says_what_to_install(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # It named an extra of a package that could not be had under that name.
    monkeypatch.setitem(sys.modules, package, None)
    make = {"polars": Capture().to_polars, "pandas": Capture().to_pandas, "pyarrow": Capture().to_arrow}[package]
    with pytest.raises(TickgateError, match=f"{package} is not installed: pip install {package}") as raised:
        make("trades")
    assert raised.value.code == "missing_extra"
