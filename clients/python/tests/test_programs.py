"""Programs around the client: Ctrl-C, a loop that runs already, exits without a goodbye, captures."""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from conformance.proxy import Proxy
from conformance.server import Server
from conformance.stage import Gateway, Stage, eventually
from conformance.world import trade

from conftest import is_a, take
from tickgate import Ack, ConnectionLost, Live, State, Trade

HERE = Path(__file__).resolve().parents[1]


def python(*args: str, cwd: Path | None = None) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(HERE / "src"), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen([sys.executable, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=cwd)


WAITS = """
import sys
from tickgate import Live
with Live(sys.argv[1]) as live:
    live.wait_live()
    print("ready")
    {take}
"""


@pytest.mark.parametrize(
    "taking",
    [
        "[None for event in live]",
        "live.run()",
        "list(live.batches())",
        "live.capture(seconds=600)",
        "live.subscribe('trades', 'A').wait(); list(live)",
    ],
)
def test_ctrl_c_ends_it_at_once(gateway: Gateway, taking: str) -> None:
    program = python("-c", WAITS.format(take=taking), gateway.url)
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    program.send_signal(signal.SIGINT)
    _, said = program.communicate(timeout=100)
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert program.returncode in (1, -signal.SIGINT, 130)


def test_a_program_may_just_end(gateway: Gateway) -> None:
    script = "import sys; from tickgate import Live; live = Live(sys.argv[1]); live.subscribe('trades', '*').wait(); print('end')"
    program = python("-c", script, gateway.url)
    said, errors = program.communicate(timeout=100)
    assert (said, errors, program.returncode) == ("end\n", "", 0)


def test_in_a_loop_that_runs_already(stage: Stage, gateway: Gateway) -> None:
    async def cells() -> tuple[float, float, int]:
        """As the cells of a notebook: plain calls and iteration work while a loop runs, and so does `async for`."""
        with Live(gateway.url) as live:
            live.subscribe("trades", "A").wait()
            stage.send(trade("A", 1))
            first = take(iter(live), is_a(Trade))[-1].price
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        other = asyncio.create_task(others())
        async with Live(gateway.url) as live:
            live.subscribe("trades", "A")
            async for event in live:
                if isinstance(event, Ack):
                    stage.send(trade("A", 2))
                if isinstance(event, Trade):
                    other.cancel()
                    return first, event.price, turns
        raise AssertionError("it ended")

    first, second, turns = asyncio.run(cells())
    assert (first, second) == (101.5, 102.5)
    assert turns > 0, "others had their turn meanwhile"


def test_async_iteration_ends_and_fails_as_the_other_does(gateway: Gateway) -> None:
    async def ended() -> list[Any]:
        live = Live(gateway.url)
        live.wait_live()
        live.close()
        return [event async for event in live]

    assert asyncio.run(ended())[-1] == State("closed")

    async def failed() -> None:
        proxy = Proxy(gateway.address)
        try:
            async with Live(proxy.url, reconnect=False) as live:
                async for event in live:
                    if isinstance(event, State) and event.state == "live":
                        proxy.cut()
        finally:
            proxy.close()

    with pytest.raises(ConnectionLost):
        asyncio.run(failed())


def test_async_iteration_can_be_cancelled(gateway: Gateway) -> None:
    async def cancelled() -> None:
        async with Live(gateway.url) as live:

            async def read() -> None:
                async for _ in live:
                    pass

            await asyncio.wait_for(read(), 0.2)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(cancelled())


class Selector(selectors.DefaultSelector):
    """Knows whether its loop waits, and will not see what it is not woken for."""

    waits = False

    def select(self, timeout: float | None = None) -> Any:
        self.waits = timeout != 0
        try:
            return super().select(timeout)
        finally:
            self.waits = False


def test_async_iteration_can_be_cancelled_by_who_does_not_wake_its_loop() -> None:
    # As the interrupt of a notebook's kernel does: the cell went on to wait until the next event, of which there is none here.
    server = Server()
    selector = Selector()
    loop = asyncio.SelectorEventLoop(selector)

    async def read() -> None:
        async for _ in live:
            pass

    def interrupt() -> None:
        eventually(lambda: live.stats().state == "live" and live.stats().queued_events == 0 and selector.waits, "it waits")
        reading.cancel()

    with Live(server.url) as live:
        server.greet(heartbeat_ms=60_000)
        reading = loop.create_task(read())
        threading.Thread(target=interrupt).start()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(reading)
    loop.close()
    server.close()


def test_a_capture_has_an_end_and_a_bound(stage: Stage, gateway: Gateway) -> None:
    with Live(gateway.url) as live:
        live.subscribe("trades", "*").wait()
        stage.send(*(trade("A", number) for number in range(20)))
        eventually(lambda: live.stats().events == 20, "all have come")
        captured = live.capture(seconds=60, max_events=5)
        assert (len(captured), captured.is_full) == (5, True)
        assert len(live.capture(seconds=0.3).events("trades")) == 15


@pytest.mark.parametrize("path", ["", "/"])
def test_an_address_alone_will_do(gateway: Gateway, path: str) -> None:
    with Live(f"ws://{gateway.address}{path}") as live:
        live.wait_live()
        assert repr(live) == f"Live({gateway.url!r}, state='live')"


def test_closing_is_quick(gateway: Gateway) -> None:
    live = Live(gateway.url)
    live.wait_live()
    began = time.monotonic()
    live.close()
    # A hang would be the time-out of a thread that does not end.
    assert time.monotonic() - began < 10
    assert not live._engine._thread.is_alive()
