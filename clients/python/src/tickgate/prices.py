"""How prices and sizes are told: as `float`, as `Decimal`, or as integers of a fixed scale."""

from __future__ import annotations

import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, NamedTuple, TypeAlias, Union

import msgspec

from .errors import NotReadable
from .events import BookUpdate, Quote, Trade

_SCALE_MAX = 18


class Fixed(NamedTuple):
    """Prices and sizes as `int`, in units of `10**-scale`: with `Fixed(4)` a price of 1.5 is 15000.

    A value with more digits than that cannot be told so: the message is a `bad_frame`.
    """

    scale: int

    def of(self, text: str) -> int:
        """The number that `text` (decimal digits, with a point or without) stands for.

        Raises:
            NotReadable: it is no such text, or needs more digits than the scale has.
        """
        whole, point, part = text.partition(".")
        part = part.rstrip("0")
        digits = whole[1:] if whole[:1] in ("-", "+") else whole
        if not ((digits + part).isdecimal() and text.isascii()) or (point and not digits):
            raise NotReadable(f"not a number: {text[:64]!r}")
        if len(part) > self.scale:
            raise NotReadable(f"{text[:64]} has more than {self.scale} digits behind the point: use a larger Fixed")
        return int(whole + part.ljust(self.scale, "0"))


PriceType: TypeAlias = Union[type[float], type[Decimal], Fixed]

# The largest finite number: neither NaN nor an infinity is between it and its negative.
_MAX = sys.float_info.max
Finite = Annotated[float, msgspec.Meta(ge=-_MAX, le=_MAX)]

Convert: TypeAlias = Callable[[Any], Any]


def wire_type(prices: PriceType) -> tuple[Any, Convert | None]:
    """The type to decode a price as, and what to do with each afterwards, if anything.

    Raises:
        ValueError: no such kind of price.
    """
    if prices is float:
        return Finite, None
    if prices is Decimal:
        return Decimal, _finite
    if isinstance(prices, Fixed):
        if not 0 <= prices.scale <= _SCALE_MAX:
            raise ValueError(f"a scale is from 0 to {_SCALE_MAX}, not {prices.scale}")
        return str, prices.of
    raise ValueError("prices are float, Decimal, or Fixed(scale)")


def convert(event: Trade[Any] | Quote[Any] | BookUpdate[Any], each: Convert) -> None:
    """Replaces the prices and sizes of an event by what `each` makes of them."""
    if isinstance(event, Trade):
        event.price, event.size = each(event.price), each(event.size)
    elif isinstance(event, Quote):
        event.bid_price, event.bid_size = each(event.bid_price), each(event.bid_size)
        event.ask_price, event.ask_size = each(event.ask_price), each(event.ask_size)
    else:
        event.bids = [(each(price), each(size)) for price, size in event.bids]
        event.asks = [(each(price), each(size)) for price, size in event.asks]


def _finite(value: Decimal) -> Decimal:
    if not value.is_finite():
        raise NotReadable(f"not a number: {value}")
    return value
