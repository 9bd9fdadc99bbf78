"""Sessions that end, and how a client goes on."""

from __future__ import annotations

import json
import re

from .. import websocket
from ..golden import normal
from ..world import World, book, event_ns, quote, trade


def goaway(world: World) -> None:
    """A gateway says that it stops. Its client stays to the end, comes back to another one, and misses nothing."""
    stage = world.stage()
    first, second = stage.gateway(), stage.gateway()
    proxy = world.proxy(first)
    world.connect(proxy.url)
    world.subscribe("trades", ["A", "B*"])
    world.subscribe("quotes", ["A"])
    stage.send(trade("A", 1), trade("B", 2), quote("A", 3))
    world.client.until("quote")
    proxy.heartbeat_behind(event_ns(3))
    proxy.turn_to(second.address)
    first.program.terminate()
    world.client.until("goaway")
    world.client.until("state", state="reconnecting")
    world.client.until("state", state="live")
    stage.send(trade("A", 4), quote("A", 5), trade("B", 6))
    world.client.until("trade", symbol="B")
    world.client.send("stats")
    world.client.until("stats")


def resume(world: World) -> None:
    """The gateway is killed. What came meanwhile comes from another one, each event once; what is known is discarded."""
    stage = world.stage()
    first, second = stage.gateway(), stage.gateway()
    proxy = world.proxy(first)
    world.connect(proxy.url)
    world.subscribe("trades", ["A", "B*"])
    world.subscribe("quotes", ["A"])
    world.subscribe("book", ["A"])
    stage.send(trade("A", 1), trade("BC", 2), quote("A", 3))
    stage.send(book("A", 4, [["9", "1"]], [["11", "1"]], snapshot=True))
    world.client.until("book")
    # Up to here a cursor covers all of it.
    proxy.heartbeat_behind(event_ns(4))
    world.client.send("book", symbol="A")
    world.client.until("levels")
    # Nothing more comes through, and the client does not know why.
    proxy.hush()
    stage.send(trade("A", 5), trade("BC", 6), quote("A", 7), book("A", 8, [["9", "0"], ["8", "2"]], []))
    stage.send(trade("A", 9), trade("BD", 10))
    stage.has_read(second)
    proxy.turn_to(second.address)
    first.program.kill()
    proxy.cut()
    world.client.until("state", state="live")
    world.client.send("book", symbol="A")
    world.client.until("levels")
    stage.send(trade("A", 11))
    world.client.until("trade", event_ns=_at(11))
    stage.send(book("A", 12, [], [["10.5", "4"]]))
    world.client.until("book")
    world.client.send("book", symbol="A")
    world.client.until("levels")
    world.client.send("stats")
    world.client.until("stats")


def resume_refused(world: World) -> None:
    """A session is lost, and what stands before the gateway knows of none for a while: 404, as for a path that is wrong. It was right
    before, and so the client comes again.
    """
    stage = world.stage()
    gateway = stage.gateway()
    proxy = world.proxy(gateway)
    world.connect(proxy.url)
    world.subscribe("trades", ["A"])
    stage.send(trade("A", 1))
    world.client.until("trade")
    proxy.heartbeat_behind(event_ns(1))
    proxy.hush()
    stage.send(trade("A", 2))
    stage.has_read(gateway)
    proxy.refuse(404, 404)
    proxy.cut()
    world.client.until("state", state="resyncing")
    world.client.until("state", state="live")
    stage.send(trade("A", 3))
    world.client.until("trade", event_ns=_at(3))
    world.client.send("stats")
    world.client.until("stats")
    assert proxy.refused == 2, "it came again while it was refused"
    # What such a refusal is called is each client's own affair, as the protocol has no name for it.
    refusals = [event for event in world.client.events if event.get("event") == "error"]
    assert not any(event["fatal"] for event in refusals), f"it goes on: {refusals}"
    world.summary = [json.loads(line) for line in normal([event for event in world.client.events if event not in refusals])]


def resume_duplicates(world: World) -> None:
    """The last cursor is older than what the client has: what it has comes again, and is discarded."""
    stage = world.stage()
    first, second = stage.gateway(), stage.gateway()
    proxy = world.proxy(first)
    world.connect(proxy.url)
    world.subscribe("trades", ["*"])
    world.subscribe("quotes", ["A"])
    stage.send(trade("A", 1), quote("A", 1))
    world.client.until("quote")
    proxy.heartbeat_behind(event_ns(1))
    proxy.filter = lambda frame: b"" if b'"op":"heartbeat"' in frame.payload else frame.raw
    stage.send([trade("A", 2), trade("A", 3)], quote("A", 4), trade("B", 5))
    world.client.until("trade", symbol="B")
    proxy.hush()
    stage.send(trade("A", 6), quote("A", 7))
    stage.has_read(second)
    proxy.turn_to(second.address)
    proxy.cut()
    world.client.until("state", state="reconnecting")
    world.client.until("state", state="live")
    stage.send(trade("A", 8))
    world.client.until("trade", event_ns=_at(8))
    world.client.send("stats")
    stats = world.client.until("stats")[0]
    assert stats["duplicates"] >= 4, f"two trades of one record, one more and a quote come again: {stats}"


def resume_positions(world: World) -> None:
    """A session ends before it ever had a cursor: symbols go on from their last position, others begin anew, and are told."""
    # There are no heartbeats, and so there is no cursor.
    stage = world.stage(session__heartbeat_ms=0)
    first, second = stage.gateway(), stage.gateway()
    proxy = world.proxy(first)
    world.connect(proxy.url)
    world.subscribe("trades", ["A", "B", "C*"])
    stage.send(trade("A", 1), trade("A", 2), trade("CC", 2))
    world.client.until("trade", 3)
    proxy.hush()
    stage.send(trade("A", 3), trade("B", 4), trade("A", 5), trade("CC", 5))
    stage.has_read(second)
    proxy.turn_to(second.address)
    proxy.cut()
    world.client.until("state", state="reconnecting")
    world.client.until("state", state="live")
    stage.send(trade("B", 6), trade("CC", 6), trade("A", 7))
    world.client.until("trade", event_ns=_at(7))


def resume_past(world: World) -> None:
    """A past is asked for, and the session is lost before any of it came. The cursor that the client has is newer than what it asked
    for, and says nothing of that.
    """
    stage = world.stage()
    first, second = stage.gateway(), stage.gateway()
    proxy = world.proxy(first)
    stage.send(trade("A", 1), trade("B", 2))
    stage.has_read(first)
    world.connect(proxy.url)
    world.subscribe("quotes", ["A"])
    stage.send(quote("A", 3), trade("A", 3))
    world.client.until("quote")
    # Its cursor is behind all that there is.
    proxy.heartbeat_behind(event_ns(3))

    def answers_alone(frame: websocket.Frame) -> bytes:
        is_answer = b'"op":"ack"' in frame.payload or b'"op":"pong"' in frame.payload
        return frame.raw if is_answer or frame.opcode != websocket.TEXT else b""

    proxy.filter = answers_alone
    world.subscribe("trades", ["*"], **{"from": {"time_ns": "0"}})
    proxy.hush()
    proxy.filter = None
    stage.has_read(second)
    proxy.turn_to(second.address)
    proxy.cut()
    world.client.until("state", state="reconnecting")
    # Only now it is true.
    world.client.until("replay_done")
    world.client.until("state", state="live")
    stage.send(trade("A", 4))
    world.client.until("trade", event_ns=_at(4))
    # And once.
    proxy.heartbeat_behind(event_ns(4))
    proxy.cut()
    world.client.until("state", state="reconnecting")
    world.client.until("state", state="live")
    stage.send(trade("A", 5))
    world.client.until("trade", event_ns=_at(5))
    world.client.send("stats")
    world.client.until("stats")


def refused_cursor(world: World) -> None:
    """The cursor that a client has is refused, as one of another cluster: symbols go on from their last position, others begin anew."""
    stage = world.stage()
    first, second = stage.gateway(), stage.gateway()
    proxy = world.proxy(first)

    def forge(frame: websocket.Frame) -> bytes:
        if frame.opcode == websocket.TEXT and b'"op":"heartbeat"' in frame.payload:
            return websocket.encode(frame.opcode, re.sub(rb'"cursor":"[^"]*"', b'"cursor":"of another cluster"', frame.payload))
        return frame.raw

    proxy.filter = forge
    world.connect(proxy.url)
    world.subscribe("trades", ["A", "C*"])
    stage.send(trade("A", 1), trade("CC", 1))
    world.client.until("trade", symbol="CC")
    proxy.heartbeat_behind(event_ns(1))
    proxy.hush()
    stage.send(trade("A", 2), trade("CC", 2))
    stage.has_read(second)
    proxy.turn_to(second.address)
    proxy.cut()
    world.client.until("state", state="reconnecting")
    world.client.until("state", state="live")
    stage.send(trade("CC", 3), trade("A", 3))
    world.client.until("trade", event_ns=_at(3), symbol="A")


def _at(number: int) -> str:
    return str(event_ns(number))
