"""What a scenario works with: a stage, a proxy, and a client that connects to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .adapter import Adapter
from .proxy import Proxy
from .stage import Gateway, Stage

# Seldom enough for a debug build, often enough that nobody waits for one.
HEARTBEAT_MS = 200


class World:
    """Everything around one client, for one scenario."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._command = command
        self._log = log.open("wb")
        self._open: list[Any] = []
        # What is compared, where it is not all that the client printed.
        self.summary: list[dict[str, Any]] | None = None
        self.client = Adapter(command, self._log)
        self._open.append(self.client.kill)

    def stage(self, **settings: Any) -> Stage:
        """A broker, with no gateway yet."""
        stage = Stage(**{"session__heartbeat_ms": HEARTBEAT_MS, **settings})
        self._open.append(stage.close)
        return stage

    def proxy(self, gateway: Gateway | str) -> Proxy:
        """A proxy in front of a gateway."""
        proxy = Proxy(gateway if isinstance(gateway, str) else gateway.address)
        self._open.append(proxy.close)
        return proxy

    def connect(self, url: str, **more: Any) -> None:
        """Has the client connect, and waits until it is live."""
        self.client.send("connect", url=url, **more)
        self.client.until("state", state="live")

    def subscribe(self, channel: str, symbols: list[str], **options: Any) -> None:
        """Has the client subscribe, and waits for the answer."""
        self.client.send("subscribe", channel=channel, symbols=symbols, **options)
        self.client.until("ack")

    def close(self) -> None:
        """Ends everything."""
        for close in reversed(self._open):
            close()
        self._log.close()


def event_ns(number: int) -> int:
    """When the event of a number was, in nanoseconds."""
    return 1_381_158_000_000_000_000 + number


def trade(symbol: str, number: int, **more: Any) -> dict[str, Any]:
    """A trade of a symbol, all of it made of its number."""
    return {
        "type": "trade",
        "symbol": symbol,
        "price": f"{100 + number}.50",
        "size": str(number),
        "event_ns": event_ns(number),
        **more,
    }


def quote(symbol: str, number: int) -> dict[str, Any]:
    """A quote, likewise."""
    return {
        "type": "quote",
        "symbol": symbol,
        "bid_price": f"{100 + number}.25",
        "bid_size": "10",
        "ask_price": f"{100 + number}.75",
        "ask_size": "20.5",
        "event_ns": event_ns(number),
    }


def book(symbol: str, number: int, bids: list[list[str]], asks: list[list[str]], *, snapshot: bool = False) -> dict[str, Any]:
    """A change of a book, or with `snapshot` all of it."""
    return {
        "type": "book",
        "symbol": symbol,
        "bids": bids,
        "asks": asks,
        "snapshot": snapshot,
        "event_ns": event_ns(number),
    }


def status(symbol: str, number: int, state: str) -> dict[str, Any]:
    """Whether a symbol trades."""
    return {"type": "status", "symbol": symbol, "state": state, "event_ns": event_ns(number)}
