"""Client of the Tickgate market data gateway.

    from tickgate import Live

    with Live("ws://127.0.0.1:8080/v1/stream") as live:
        live.subscribe("trades", ["AAPL", "MS*"])
        for event in live:
            print(event)

`Live` is the stream; `tickgate.events` has what the market says, `tickgate.notices` what happens to the stream.
"""

from .book import Book, Level
from .capture import Capture
from .errors import ConnectionLost, Refused, TickgateError
from .events import BookUpdate, Channel, Gap, Quote, Status, Trade, to_datetime, to_ns
from .live import Live, Pending
from .notices import (
    Ack,
    AckResult,
    AuthAck,
    Error,
    Event,
    Feed,
    GoAway,
    ReplayDone,
    Resync,
    Slow,
    State,
)
from .prices import Fixed
from .replay import Replay
from .stats import Stats

__version__ = "0.1.0"

__all__ = [
    "Ack",
    "AckResult",
    "AuthAck",
    "Book",
    "BookUpdate",
    "Capture",
    "Channel",
    "ConnectionLost",
    "Error",
    "Event",
    "Feed",
    "Fixed",
    "Gap",
    "GoAway",
    "Level",
    "Live",
    "Pending",
    "Quote",
    "Refused",
    "Replay",
    "ReplayDone",
    "Resync",
    "Slow",
    "State",
    "Stats",
    "Status",
    "TickgateError",
    "Trade",
    "to_datetime",
    "to_ns",
]
