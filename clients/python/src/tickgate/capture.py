"""What was captured of a stream, as data frames, Arrow tables and Parquet files.

Each needs its package: polars, pandas, or pyarrow for Arrow and Parquet (which polars can write as well).

Columns are those of the events. Times are `event_time`, `ingest_time`, `received_time` and `send_time`, nanoseconds in UTC. A book has a
row for each level that changed. Prices and sizes are float64; decimals of 18 digits behind the point; or, of a fixed scale, int64.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import TickgateError
from .events import BookUpdate, Gap, Quote, Status, Trade
from .notices import AnyEvent

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

Columns = dict[str, list[Any]]

# Columns that are times, by the field they are of.
_TIMES = {
    "event_time": "event_ns",
    "ingest_time": "ingest_ns",
    "received_time": "received_ns",
    "send_time": "send_ns",
}
_TAIL = ("seq", *_TIMES, "prev", "merged", "snapshot", "replay")
_FIELDS: dict[str, tuple[str, ...]] = {
    "trades": ("symbol", "price", "size", "side", "trade_id", "venue", "conditions", *_TAIL),
    "quotes": ("symbol", "bid_price", "bid_size", "ask_price", "ask_size", "venue", *_TAIL),
    "book": ("symbol", "side", "price", "size", *_TAIL),
    "status": ("symbol", "state", "reason", *_TAIL),
    "gaps": ("channel", "symbol", "cause", "after", "upto", "count", "received_time"),
}
_PRICES = {"price", "size", "bid_price", "bid_size", "ask_price", "ask_size"}
_INTEGERS = {"merged", "count"}
_FLAGS = {"snapshot", "replay"}
_DECIMAL_DIGITS, _DECIMAL_SCALE = 38, 18


class Capture:
    """Events that were captured. `is_full`: there was no room for more, so that it ends early. `prices`: as of `Live`; without it the
    first price says what they are, and they are `float` if there is none.
    """

    def __init__(self, prices: Any = None) -> None:
        self.is_full = False
        self._prices = prices
        self._events: dict[str, list[Any]] = {name: [] for name in _FIELDS}

    def __len__(self) -> int:
        return sum(map(len, self._events.values()))

    def add(self, event: AnyEvent) -> None:
        """Takes an event; notices are passed over, gaps are not."""
        if isinstance(event, Gap):
            self._events["gaps"].append(event)
        elif isinstance(event, (Trade, Quote, BookUpdate, Status)):
            self._events[event.channel].append(event)

    def events(self, channel: str | None = None) -> list[Any]:
        """The events of a channel, or of `"gaps"`, in order."""
        return list(self._events[self._name(channel)])

    @property
    def channels(self) -> list[str]:
        """The channels of which something came; `gaps` is one of them."""
        return [name for name, events in self._events.items() if events]

    def to_arrow(self, channel: str | None = None) -> pyarrow.Table:
        """An Arrow table of a channel, which may be left out when only one was captured."""
        try:
            import pyarrow
        except ImportError as error:
            raise _missing("pyarrow", error) from None
        name = self._name(channel)
        columns = self._columns(name)
        types = {column: self._arrow_type(pyarrow, column) for column in columns}
        arrays = [pyarrow.array(columns[column], type=types[column]) for column in columns]
        return pyarrow.Table.from_arrays(arrays, names=list(columns))

    def to_polars(self, channel: str | None = None) -> polars.DataFrame:
        """A Polars data frame of a channel, which may be left out when only one was captured."""
        try:
            import polars
        except ImportError as error:
            raise _missing("polars", error) from None
        name = self._name(channel)
        columns = self._columns(name)
        schema = {column: self._polars_type(polars, column) for column in columns}
        times = [column for column in columns if column in _TIMES]
        frame = polars.DataFrame(columns, schema={**schema, **dict.fromkeys(times, polars.Int64)})
        return frame.with_columns(polars.from_epoch(c, "ns").dt.replace_time_zone("UTC") for c in times)

    def to_pandas(self, channel: str | None = None) -> pandas.DataFrame:
        """A pandas data frame of a channel, which may be left out when only one was captured."""
        try:
            import pandas
        except ImportError as error:
            raise _missing("pandas", error) from None
        columns = self._columns(self._name(channel))
        series: dict[str, Any] = {}
        for column, values in columns.items():
            if column in _TIMES:
                series[column] = pandas.to_datetime(pandas.array(values, dtype="Int64"), unit="ns", utc=True)
            elif column in _INTEGERS:
                series[column] = pandas.array(values, dtype="Int64")
            elif column in _FLAGS:
                series[column] = pandas.array(values, dtype="bool")
            elif column in _PRICES:
                series[column] = pandas.array(values, dtype=self._pandas_price())
            else:
                series[column] = pandas.array(values, dtype="string")
        return pandas.DataFrame(series)

    def to_parquet(self, path: str | Path, channel: str | None = None) -> Path:
        """Writes a channel, which may be left out when only one was captured, to a Parquet file; gives its path. Needs pyarrow or
        polars.
        """
        path = Path(path)
        try:
            from pyarrow import parquet
        except ImportError as error:
            try:
                frame = self.to_polars(channel)
            except TickgateError as also:
                if also.code != "missing_extra":
                    raise
                raise _missing("pyarrow", error, "polars") from None
            frame.write_parquet(path)
            return path
        parquet.write_table(self.to_arrow(channel), path)
        return path

    def _name(self, channel: str | None) -> str:
        if channel is not None:
            if channel not in _FIELDS:
                raise ValueError(f"no such channel: {channel!r}; they are {', '.join(_FIELDS)}")
            return channel
        came = [name for name in self.channels if name != "gaps"]
        if len(came) != 1:
            what = "nothing came" if not came else f"{', '.join(came)} came"
            raise ValueError(f"{what}: say which channel you want, as in to_polars('trades')")
        return came[0]

    def _columns(self, name: str) -> Columns:
        events = self._events[name]
        if name == "book":
            return _book_columns(events)
        return {column: [getattr(event, _TIMES.get(column, column)) for event in events] for column in _FIELDS[name]}

    def _arrow_type(self, pyarrow: Any, column: str) -> Any:
        if column in _TIMES:
            return pyarrow.timestamp("ns", tz="UTC")
        if column in _PRICES:
            kind = self._price_type()
            if kind is float:
                return pyarrow.float64()
            return pyarrow.int64() if kind is int else pyarrow.decimal128(_DECIMAL_DIGITS, _DECIMAL_SCALE)
        if column in _INTEGERS:
            return pyarrow.int64()
        return pyarrow.bool_() if column in _FLAGS else pyarrow.string()

    def _polars_type(self, polars: Any, column: str) -> Any:
        if column in _PRICES:
            kind = self._price_type()
            if kind is float:
                return polars.Float64
            return polars.Int64 if kind is int else polars.Decimal(_DECIMAL_DIGITS, _DECIMAL_SCALE)
        if column in _INTEGERS:
            return polars.Int64
        return polars.Boolean if column in _FLAGS else polars.String

    def _pandas_price(self) -> str:
        return {float: "float64", int: "int64"}.get(self._price_type(), "object")

    def _price_type(self) -> type[Any]:
        """`float`, `int` or `Decimal`."""
        if self._prices is not None:
            return int if isinstance(self._prices, tuple) else self._prices
        return next((type(price) for price in map(_a_price, self._priced()) if price is not None), float)

    def _priced(self) -> Iterator[Any]:
        return (event for name in ("trades", "quotes", "book") for event in self._events[name])


def _book_columns(events: list[BookUpdate[Any]]) -> Columns:
    columns: Columns = {column: [] for column in _FIELDS["book"]}
    for event in events:
        sides = (("bid", event.bids), ("ask", event.asks))
        for side, (price, size) in ((side, level) for side, levels in sides for level in levels):
            for column, values in columns.items():
                if column == "side":
                    values.append(side)
                elif column == "price":
                    values.append(price)
                elif column == "size":
                    values.append(size)
                else:
                    values.append(getattr(event, _TIMES.get(column, column)))
    return columns


def _a_price(event: Any) -> Any:
    if isinstance(event, Trade):
        return event.price
    if isinstance(event, Quote):
        return event.bid_price
    return next((price for price, _ in (*event.bids, *event.asks)), None)


def _missing(package: str, error: ImportError, other: str | None = None) -> TickgateError:
    """`other`: a package that does as well, and cannot be had either."""
    is_missing = isinstance(error, ModuleNotFoundError)
    why = f"{error.name or package} is not installed" if is_missing else f"{package} cannot be imported: {error}"
    if other is not None:
        return TickgateError("missing_extra", f"{why}: pip install {package}, or {other}, which does as well")
    return TickgateError("missing_extra", f"{why}: pip install {package}")
