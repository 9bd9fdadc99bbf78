"""A symbol that is held by its name and by a pattern, and one of them given up."""

from __future__ import annotations

from ..proxy import losing
from ..stage import eventually
from ..world import World, book, trade


def overlap(world: World) -> None:
    """Whichever is given up, the other one goes on: no state comes anew, a break is told, and the book stays in step."""
    stage = world.stage()
    gateway = stage.gateway()
    proxy = world.proxy(gateway)
    left_out: list[str] = []
    lost: list[object] = []

    def ends(channel: str, symbol: str) -> None:
        world.client.send("unsubscribe", channel=channel, symbols=[symbol])
        world.client.until("ack")

    def levels() -> None:
        world.client.send("book", symbol="A")
        world.client.until("levels")

    proxy.filter = losing(left_out, lost)
    world.connect(proxy.url)
    for channel in ("trades", "book"):
        world.subscribe(channel, ["A"])
        world.subscribe(channel, ["*"])
    stage.send(trade("A", 1), trade("B", 1), book("A", 1, [["9", "1"]], [["11", "1"]], snapshot=True))
    world.client.until("book")

    # The pattern: what is held by name has nothing to do with that.
    ends("trades", "*")
    ends("book", "*")
    left_out[:] = ['"102.50"']
    stage.send(trade("A", 2))
    eventually(lambda: bool(lost), "it is lost")
    stage.send(trade("A", 3))
    world.client.until("trade")
    stage.send(book("A", 3, [["8", "2"]], []))
    world.client.until("book")
    levels()

    # The name: the pattern goes on with the same stream.
    world.subscribe("trades", ["*"])
    world.subscribe("book", ["*"])
    ends("trades", "A")
    ends("book", "A")
    left_out[:] = ['"104.50"']
    lost.clear()
    stage.send(trade("A", 4))
    eventually(lambda: bool(lost), "it is lost")
    stage.send(trade("A", 5))
    world.client.until("trade")
    stage.send(book("A", 5, [], [["10", "3"]]))
    world.client.until("book")
    levels()

    # Now nothing brings it.
    ends("book", "*")
    levels()
    world.client.send("stats")
    world.client.until("stats")
