"""Frames that no gateway sends, and those that every client has to understand."""

from __future__ import annotations

import json
from pathlib import Path

from .. import websocket
from ..server import Server
from ..stage import Failed
from ..world import World, trade

_GOLDEN = Path(__file__).resolve().parents[4] / "protocol" / "tests" / "golden" / "events.jsonl"

_BAD: list[tuple[int, bytes]] = [
    (websocket.TEXT, b"certainly not JSON"),
    (websocket.TEXT, b'[{"type":"trade","symbol":"A","price":"1"'),
    (websocket.TEXT, b'"neither an object nor an array"'),
    (websocket.TEXT, b'{"op":"weather","is":"fine"}'),
    (websocket.TEXT, b'[{"type":"weather","symbol":"A"}]'),
    (websocket.TEXT, b'[{"type":"trade","symbol":"A","price":"cheap","size":"1","seq":"1:0:9","event_ns":"1","ingest_ns":"1"}]'),
    (websocket.TEXT, b'[{"type":"trade","symbol":"A","price":"1","size":"1","seq":"nowhere","event_ns":"1","ingest_ns":"1"}]'),
    (websocket.TEXT, b'{"op":"heartbeat","now_ns":"soon"}'),
    (websocket.BINARY, b"\x00\x01\x02"),
]


def bad_frames(world: World) -> None:
    """Each is told, none ends the session, and nothing of them is taken, not even the part that is well."""
    stage = world.stage()
    gateway = stage.gateway()
    proxy = world.proxy(gateway)
    world.connect(proxy.url)
    world.subscribe("trades", ["A"])
    stage.send(trade("A", 1))
    seq = world.client.until("trade")[0]["seq"]
    for opcode, payload in _BAD:
        proxy.inject(opcode, payload)
        world.client.until("error")
    # One that begins well, and would stand before what really comes next.
    run, offset = seq.rsplit(":", 1)
    well = {"type": "trade", "symbol": "A", "price": "1", "size": "1", "seq": f"{run}:{int(offset) + 1}"}
    well |= {"event_ns": "1", "ingest_ns": "1", "prev": seq}
    proxy.inject(websocket.TEXT, json.dumps([well, {**well, "seq": "nowhere"}]).encode())
    world.client.until("error")
    # Fields that nobody knows yet are no fault.
    proxy.inject(websocket.TEXT, b'{"op":"slow","delay_ms":1,"queued_bytes":1,"limit_bytes":2,"action":"skip","new":{"a":[1]}}')
    world.client.until("slow")
    stage.send(trade("A", 2))
    world.client.until("trade")
    world.client.send("stats")
    world.client.until("stats")
    assert proxy.connections == 1, "it is the same session"


def events(world: World) -> None:
    """The events that the protocol keeps as its examples, as every client has to read them."""
    lines = _GOLDEN.read_text(encoding="utf-8").splitlines()
    server = Server()
    try:
        world.client.send("connect", url=server.url)
        server.greet()
        world.client.until("state", state="live")
        server.send("[" + ",".join(lines) + "]")
        printed = world.client.wait(lambda event: "seq" in event, "the events", len(lines))
    finally:
        server.close()
    expected = [json.loads(line) for line in lines]
    for event, wanted in zip(printed, expected, strict=False):
        wanted["event"] = wanted.pop("type")
        if _comparable(event) != _comparable(wanted):
            raise Failed(f"read as {event}, but it is {wanted}")
    world.summary = [{"events": len(printed)}]


def _comparable(event: dict[str, object]) -> str:
    from ..golden import normal

    return normal([{**event, "ingest_ns": event["ingest_ns"] and "*", "ingest": event["ingest_ns"]}])[0]
