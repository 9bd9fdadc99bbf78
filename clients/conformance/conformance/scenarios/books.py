"""Books whose state is lost on its way to the client, with the session that was to bring it."""

from __future__ import annotations

import json
from typing import Any

from .. import websocket
from ..golden import normal
from ..stage import Stage, eventually
from ..websocket import Frame
from ..world import World, book, event_ns, quote

_LEVELS = [["9", "1"], ["8", "1"], ["7", "1"]]
_ASKS = [["10", "1"]]
# Held whole with its state; at another depth before, which does not change meanwhile, or does; new by its name; new by a pattern.
_SYMBOLS = ("SEEN", "SAME", "DEEPER", "NEW", "P1")
_CHANGED = ("SEEN", "DEEPER", "NEW", "P1")


def book_anew(world: World) -> None:
    """Whole books are acknowledged, and the session ends before their state comes. The cursor that the client has is older than they
    are: what a gateway gives behind it are changes, of books of which the client has nothing, or not all levels.
    """
    _anew(world, world.stage(), has_cursor=True)


def book_anew_positions(world: World) -> None:
    """Likewise, before there is any cursor: what a gateway gives behind the last position of a book are changes as well."""
    _anew(world, world.stage(session__heartbeat_ms=0), has_cursor=False)


def _anew(world: World, stage: Stage, *, has_cursor: bool) -> None:
    first, second = stage.gateway(), stage.gateway()
    proxy = world.proxy(first)
    stage.send(*(book(symbol, 1, _LEVELS, _ASKS, snapshot=True) for symbol in _SYMBOLS))
    stage.has_read(first)
    world.connect(proxy.url)
    world.subscribe("quotes", ["Q"])
    stage.send(quote("Q", 2))
    world.client.until("quote")
    world.subscribe("book", ["SEEN"])
    world.client.until("book", symbol="SEEN")
    for symbol in ("SAME", "DEEPER"):
        world.subscribe("book", [symbol], depth=1)
        world.client.until("book", symbol=symbol)
    if has_cursor:
        proxy.heartbeat_behind(event_ns(2))

    def answers_alone(frame: Frame) -> bytes:
        is_answer = b'"op":"ack"' in frame.payload or b'"op":"pong"' in frame.payload
        return frame.raw if is_answer or frame.opcode != websocket.TEXT else b""

    proxy.filter = answers_alone
    for name in ("SAME", "DEEPER", "NEW", "P*"):
        world.subscribe("book", [name])
    proxy.hush()
    proxy.filter = None
    stage.send(*(book(symbol, 3, [["6", "1"]], []) for symbol in _CHANGED))
    stage.has_read(second)
    proxy.turn_to(second.address)
    proxy.cut()
    world.client.until("state", state="reconnecting")
    # In whichever order: what is sent from then on is no part of a replay.
    world.client.wait(lambda event: event.get("snapshot") or event.get("state") == "live", "the state of four books, and being live", 5)
    stage.send(*(book(symbol, 4, [["5", "1"]], []) for symbol in _SYMBOLS))
    world.client.wait(lambda event: event.get("event_ns") == str(event_ns(4)), "a change of each book", len(_SYMBOLS))
    for symbol in ("SEEN", "SAME", "DEEPER", "NEW"):
        world.client.send("book", symbol=symbol)
    world.client.until("levels", 4)
    # Whether it is live before or behind these states depends on what else it asks for, and when.
    world.summary = _of(world, "gap", "resync", "book", "levels")


def book_mended(world: World) -> None:
    """A book breaks, the client asks for it again, and the session ends before its state comes: it is asked for in the next one."""
    stage = world.stage()
    gateway = stage.gateway()
    proxy = world.proxy(gateway)
    world.connect(proxy.url)
    world.subscribe("book", ["A"])
    stage.send(book("A", 1, _LEVELS, _ASKS, snapshot=True))
    world.client.until("book")
    proxy.heartbeat_behind(event_ns(1))
    lost: list[Frame] = []
    states: list[Frame] = []

    def lose(frame: Frame) -> bytes:
        is_data = frame.opcode == websocket.TEXT and frame.payload[:1] == b"["
        if is_data and any(event.get("snapshot") for event in json.loads(frame.payload)):
            states.append(frame)
        elif is_data and b'"6"' in frame.payload:
            lost.append(frame)
        elif not states and b'"op":"heartbeat"' not in frame.payload:
            return frame.raw
        # Nothing more, so that the client cannot have its state from elsewhere, nor a newer cursor.
        return b""

    proxy.filter = lose
    stage.send(book("A", 2, [["6", "1"]], []))
    eventually(lambda: bool(lost), "a change is lost")
    stage.send(book("A", 3, [["5", "1"]], []))
    world.client.until("gap")
    eventually(lambda: bool(states), "the client has asked for the book again")
    proxy.hush()
    proxy.filter = None
    proxy.cut()
    world.client.until("book", snapshot=True)
    stage.send(book("A", 4, [["4", "1"]], []))
    world.client.until("book", event_ns=str(event_ns(4)))
    world.client.send("book", symbol="A")
    world.client.until("levels")
    # What comes of it before its state, and how often, is for each client to say.
    world.summary = _of(world, "gap", "levels")


def _of(world: World, *kinds: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in normal([event for event in world.client.events if event.get("event") in kinds])]
