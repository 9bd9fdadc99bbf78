"""What a client asks for, and what comes of it."""

from __future__ import annotations

import time

from ..stage import SOON_S, eventually
from ..tokens import Issuer
from ..world import World, book, quote, status, trade


def subscribe(world: World) -> None:
    """Symbols, patterns, every channel, one after the other; and no more of what was given up."""
    stage = world.stage()
    gateway = stage.gateway()
    world.connect(gateway.url)
    world.subscribe("trades", ["A", "B*"])
    stage.send(trade("A", 1, side="buy", trade_id="7", venue="Q"), trade("BC", 2, side="sell"), trade("C", 3))
    world.client.until("trade", 2)
    # Two of one record: one position, one predecessor.
    stage.send([trade("A", 4), trade("A", 5)])
    world.client.until("trade", 2)
    world.subscribe("quotes", ["A"])
    stage.send(quote("A", 6), quote("A", 7))
    world.client.until("quote", 2)
    world.subscribe("status", ["*"])
    stage.send(status("A", 8, "halted"), status("Z", 9, "auction"))
    world.client.until("status", 2)
    world.client.send("unsubscribe", channel="trades", symbols=["A"])
    world.client.until("ack")
    stage.send(trade("A", 10), trade("BC", 11))
    world.client.until("trade", symbol="BC")
    world.client.send("stats")
    world.client.until("stats")


def partial_ack(world: World) -> None:
    """Of what was asked for at once some is refused, and the rest holds."""
    stage = world.stage()
    issuer = Issuer(stage.dir)
    gateway = stage.gateway(**issuer.settings())
    token = issuer.token(3600, symbols=["A", "BTC*"], channels=["trades", "quotes"], wildcard=False)
    world.connect(gateway.url, tokens=[token])
    world.subscribe("trades", ["A", "SECRET", "BTC*", "*"])
    world.subscribe("book", ["A"])
    stage.send(trade("SECRET", 1), trade("A", 2), trade("BTCUSD", 3))
    world.client.until("trade", 2)


def snapshot_then_updates(world: World) -> None:
    """State first, then what changes it, and the book that comes of it."""
    stage = world.stage()
    gateway = stage.gateway()
    stage.send(quote("A", 1), quote("A", 2), status("A", 3, "trading"), trade("A", 4), trade("A", 5))
    bids, asks = [["99.5", "1"], ["99.0", "2"], ["98", "3"]], [["100.5", "4"], ["101", "5"]]
    stage.send(book("A", 6, bids, asks, snapshot=True), book("A", 7, [["99.50", "0"], ["97", "1.5"]], []))
    stage.has_read(gateway)
    world.connect(gateway.url)
    world.subscribe("quotes", ["A"])
    world.client.until("quote")
    stage.send(quote("A", 8))
    world.client.until("quote")
    world.subscribe("status", ["A"])
    world.client.until("status")
    world.subscribe("trades", ["A"], snapshot=1)
    world.client.until("trade")
    stage.send(trade("A", 9))
    world.client.until("trade")
    world.subscribe("book", ["A"])
    world.client.until("book")
    world.client.send("book", symbol="A")
    world.client.until("levels")
    stage.send(book("A", 10, [["98", "0"]], [["100.5", "0"], ["100.75", "7"]]))
    world.client.until("book")
    world.client.send("book", symbol="A")
    world.client.until("levels")
    # A book of which nothing was read yet has to wait for its snapshot.
    world.subscribe("book", ["B"])
    world.client.send("book", symbol="B")
    world.client.until("levels")
    stage.send(book("B", 11, [["5", "1"]], []), book("B", 12, [["6", "1"]], [["7", "1"]], snapshot=True))
    world.client.until("book")
    world.client.send("book", symbol="B")
    world.client.until("levels")
    world.client.send("stats")
    world.client.until("stats")


def token_refresh(world: World) -> None:
    """A token is nearly over: the client gets another, and goes on in the same session when the first one is over."""
    stage = world.stage()
    issuer = Issuer(stage.dir)
    gateway = stage.gateway(**issuer.settings(auth__warn_s=6, auth__leeway_s=0))
    proxy = world.proxy(gateway)
    first = issuer.token(8)
    over_ns = (int(time.time()) + 9) * 1_000_000_000
    world.connect(proxy.url, tokens=[first, issuer.token(3600)])
    world.client.until("auth")
    world.subscribe("trades", ["A"])
    stage.send(trade("A", 1))
    world.client.until("trade")

    def is_over() -> bool:
        return any(int(message["now_ns"]) > over_ns for message in list(proxy.control) if message.get("op") == "heartbeat")

    eventually(is_over, "the first token is over", SOON_S)
    stage.send(trade("A", 2))
    world.client.until("trade")
    assert proxy.connections == 1, "it is the same session"
    assert all(first.encode() not in head.split(b"\r\n", 1)[0] for head in proxy.heads), "no token in a URL"
