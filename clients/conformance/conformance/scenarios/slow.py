"""What is missing, and is told: by the gateway, for whoever is too slow for it."""

from __future__ import annotations

import json

from .. import websocket
from ..proxy import losing
from ..stage import eventually
from ..world import World, book, quote, trade

# Each trade takes some 250 bytes: so many are more than all buffers on the way hold.
_TRADES = 12_000
_PER_RECORD_SEND = 500


def _small(world: World) -> dict[str, object]:
    return {
        "outbox__bytes_max": "64KiB",
        "outbox__frame_bytes_max": "16KiB",
        "outbox__write_bytes_max": "16KiB",
        "outbox__send_buffer_bytes": "16KiB",
        # Nobody is to be given up while nothing comes.
        "session__heartbeat_ms": 30_000,
    }


def slow(world: World) -> None:
    """A client that takes nothing for a while: it is told, misses the oldest trades, and learns how many."""
    stage = world.stage(**_small(world))
    gateway = stage.gateway()
    proxy = world.proxy(gateway)
    world.connect(proxy.url)
    world.subscribe("trades", ["A"], on_slow="skip")
    stage.send(trade("A", 0))
    world.client.until("trade")
    proxy.stall()
    for first in range(1, _TRADES, _PER_RECORD_SEND):
        stage.send(*(trade("A", number) for number in range(first, min(first + _PER_RECORD_SEND, _TRADES))))
    stage.has_read(gateway)
    proxy.flow()
    last = 1_381_158_000_000_000_000 + _TRADES - 1
    world.client.until("trade", event_ns=str(last))
    world.client.send("stats")
    stats = world.client.until("stats")[0]
    events = world.client.events
    gaps = [event for event in events if event["event"] == "gap"]
    trades = sum(event["event"] == "trade" for event in events)
    world.summary = [
        {"trades and lost": trades + sum(gap["count"] for gap in gaps)},
        {"causes": sorted({gap["cause"] for gap in gaps}), "is told": bool(gaps)},
        {"is told before": any(event["event"] == "slow" for event in events)},
        {name: stats[name] for name in ("unannounced", "duplicates", "bad_frames", "reconnects")},
        {"counts agree": stats["events"] == trades and stats["gaps"] == len(gaps)},
    ]


def gap(world: World) -> None:
    """Gaps of every kind of channel: what the gateway tells, what the client has already, and what nobody told.

    They are put in by the proxy, so that they are the same each time; the positions are those of a real gateway.
    """
    stage = world.stage()
    gateway = stage.gateway()
    proxy = world.proxy(gateway)
    left_out: list[str] = []
    lost: list[object] = []

    proxy.filter = losing(left_out, lost)
    world.connect(proxy.url)
    world.subscribe("trades", ["A"])
    world.subscribe("quotes", ["A"])
    world.subscribe("book", ["A"])
    stage.send(trade("A", 1), quote("A", 1), book("A", 1, [["9", "1"]], [["11", "1"]], snapshot=True))
    world.client.until("book")

    # A gap that the gateway tells: the next event follows its end.
    left_out[:] = ['"102.50"', '"102.25"']
    stage.send(trade("A", 2), quote("A", 2))
    eventually(lambda: len(lost) == 2, "both are lost")
    seqs = {event["event"]: event["seq"] for event in world.client.events if "seq" in event}
    run = seqs["trade"].rsplit(":", 1)[0]
    for channel, kind, upto in (("trades", "trade", 3), ("quotes", "quote", 4)):
        told: dict[str, object] = {"type": "gap", "symbol": "A", "channel": channel, "cause": "slow_consumer"}
        told |= {"after": seqs[kind], "upto": f"{run}:{upto}", "count": 1}
        proxy.inject(websocket.TEXT, json.dumps([told]).encode())
    world.client.until("gap", 2)
    left_out.clear()
    stage.send(trade("A", 3), quote("A", 3))
    world.client.until("quote")

    # A break that nobody told.
    left_out[:] = ['"104.50"']
    stage.send(trade("A", 4))
    stage.send(quote("A", 4))
    world.client.until("quote")
    left_out.clear()
    stage.send(trade("A", 5), trade("A", 6))
    world.client.until("trade", 2)

    # The same of a book: it is of no use until it was asked for again.
    left_out[:] = ['"8.5"']
    stage.send(book("A", 7, [["8.5", "1"]], []))
    stage.send(quote("A", 7))
    world.client.until("quote")
    left_out.clear()
    stage.send(book("A", 8, [["8", "2"]], []))
    world.client.until("book", snapshot=True)
    world.client.send("book", symbol="A")
    world.client.until("levels")
    stage.send(book("A", 9, [], [["12", "3"]]))
    world.client.until("book")
    world.client.send("book", symbol="A")
    world.client.until("levels")

    # A gap without an end, and what comes behind it.
    told = {"type": "gap", "symbol": "A", "channel": "book", "cause": "overload"}
    proxy.inject(websocket.TEXT, json.dumps([told]).encode())
    world.client.until("gap")
    world.client.send("book", symbol="A")
    world.client.until("levels")
    world.client.send("stats")
    world.client.until("stats")
