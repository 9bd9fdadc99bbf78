"""Programs around the client: Ctrl-C, a loop that runs already, exits without a goodbye, data frames, the examples."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import selectors
import signal
import socket
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
from conformance.world import quote, trade

from conftest import is_a, take
from tickgate import Ack, ConnectionLost, Live, State, Trade

HERE = Path(__file__).resolve().parents[1]
EXAMPLES = sorted(path for path in (HERE / "examples").glob("*.py") if path.stem != "arguments")
# What each of them prints of a market with books.
PRINTED = {
    "capture": r"^[1-9]\d* trades, 0 gaps\nwritten to trades\.parquet$",
    "imbalance": r"^symbol +mean +last +updates\n\w+ +-?[01]\.\d{3} +-?[01]\.\d{3} +[1-9]",
    "latency": r"(?s)^events [1-9].*gateway to here, p99 +[0-9.]+ ms.*intended sending to here, p99 +[0-9.]+ ms$",
    "resume": r"(?s)State\(state='live'\)\n +[1-9]\d* trades, 0 of them missed.*^0 reconnects, 0 duplicates discarded, 0 gaps, 0 untold$",
    "spread": r"^symbol +quotes +mean +widest +crossed\n\w+ +[1-9]\d* +[0-9.]+ +[0-9.]+ +\d+$",
    "vwap": r"^symbol +volume +vwap\n\w+ +[0-9.]+ +[0-9.]+$",
}


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


def test_every_example_is_looked_at() -> None:
    assert [path.stem for path in EXAMPLES] == sorted(PRINTED)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path: Path, swaps: Gateway, tmp_path: Path) -> None:
    # In 2 s, or however long it takes here until something comes.
    for seconds in (2, 8, 32):
        program = python(str(path), "--url", swaps.url, "--seconds", str(seconds), cwd=tmp_path)
        said, errors = program.communicate(timeout=100)
        if program.returncode == 0 and re.search(PRINTED[path.stem], said.rstrip(), re.MULTILINE):
            break
    assert program.returncode == 0, errors
    assert re.search(PRINTED[path.stem], said.rstrip(), re.MULTILINE), said
    assert re.search(r"[a-z ]+ of \* for \d+ s; Ctrl-C ends it early\n", errors)
    if path.stem == "capture":
        from pyarrow import parquet

        assert parquet.read_table(tmp_path / "trades.parquet").num_rows > 0


def test_examples_end_with_ctrl_c_and_print_what_they_have(swaps: Gateway, tmp_path: Path) -> None:
    programs = [(path.stem, python(str(path), "--url", swaps.url, "--seconds", "600", cwd=tmp_path)) for path in EXAMPLES]
    for name, program in programs:
        assert program.stderr is not None
        while "Ctrl-C ends it early" not in (line := program.stderr.readline()):
            assert line, f"{name} ended"
        program.send_signal(signal.SIGINT)
    for name, program in programs:
        said, errors = program.communicate(timeout=100)
        assert (program.returncode, errors) == (0, ""), name
        assert len(said.splitlines()) >= 2, name


def test_examples_say_what_may_be_wrong_when_nothing_comes(gateway: Gateway) -> None:
    # They printed the head of an empty table, or nothing.
    wrong = ("--url", gateway.url, "--seconds", "600", "--symbols", "TPYO,NO*")
    for name, program in [(path.stem, python(str(path), *wrong)) for path in EXAMPLES]:
        assert program.stderr is not None
        lines: list[str] = []
        while not lines or "of TPYO,NO* yet. Are the symbols right" not in lines[-1]:
            lines.append(program.stderr.readline())
            assert lines[-1], f"{name} ended: {lines}"
        assert any("TPYO: no record has named this symbol yet: is it right?" in line for line in lines), name
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=100)
        assert (program.returncode, errors) == (1, ""), name


def test_examples_say_in_a_line_or_two_what_is_wrong(gateway: Gateway) -> None:
    # They ended with a traceback of 45 lines, or the head of an empty table.
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"ws://127.0.0.1:{taken.getsockname()[1]}/v1/stream"
    wrong = {
        ("--url", nobody, "--seconds", "1"): f"no connection to {nobody} yet, reconnecting: .* Is a gateway there?",
        ("--url", "localhost:8080"): "the URL of a gateway is ws://HOST:PORT/v1/stream",
        ("--url", "ws://localhost:99999/v1/stream"): "Port out of range 0-65535",
        ("--url", f"{gateway.url}s", "--seconds", "600"): "HTTP 404: the stream is at /v1/stream",
        ("--url", gateway.url, "--symbols", " ,"): "--symbols names none",
        ("--url", gateway.url, "--symbols", "A*B", "--seconds", "600"): "`*` only at the end",
    }
    for args, says in wrong.items():
        # What fails before anything is sent fails the same in each.
        paths = EXAMPLES if gateway.url in args[1] else EXAMPLES[:1]
        programs = [(path.stem, python(str(path), *args)) for path in paths]
        for name, program in programs:
            said, errors = program.communicate(timeout=100)
            lines = errors.splitlines()
            is_told = len(lines) in (1, 2) and re.search(says, lines[-1]) is not None
            assert (program.returncode, is_told) == (1, True), f"{name} {args}: {errors}"
            assert name == "resume" or said == "", name


def test_an_example_says_that_a_file_cannot_be_written(swaps: Gateway, tmp_path: Path) -> None:
    path = tmp_path / "none" / "trades.parquet"
    program = python(str(HERE / "examples" / "capture.py"), "--url", swaps.url, "--seconds", "2", "--out", str(path))
    _, errors = program.communicate(timeout=100)
    assert program.returncode == 1
    assert "Traceback" not in errors
    assert str(path) in errors


def test_examples_show_every_symbol(stage: Stage, gateway: Gateway) -> None:
    symbols = [f"S{number:02}" for number in range(60)]
    for name in ("spread", "vwap"):
        for seconds in (1, 8, 32):
            program = python(str(HERE / "examples" / f"{name}.py"), "--url", gateway.url, "--seconds", str(seconds))
            while program.poll() is None:
                stage.send(*(record(symbol, 1) for symbol in symbols for record in (quote, trade)))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    program.wait(0.05)
            said, errors = program.communicate(timeout=100)
            if program.returncode == 0:
                break
        assert (program.returncode, [line.split()[0] for line in said.splitlines()[1:]]) == (0, symbols), errors


def test_closing_is_quick(gateway: Gateway) -> None:
    live = Live(gateway.url)
    live.wait_live()
    began = time.monotonic()
    live.close()
    # A hang would be the time-out of a thread that does not end.
    assert time.monotonic() - began < 10
    assert not live._engine._thread.is_alive()
