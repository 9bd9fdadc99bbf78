"""What the README shows runs as it stands there, but for the address: each block is a program of its own."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from conformance.proxy import Proxy
from conformance.stage import Gateway, Stage

import tickgate
from conftest import market
from test_losses import answers_a_past_with
from test_programs import HERE, python

BLOCKS = re.findall(r"^```python\n(.*?)^```", (HERE / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
URL = "ws://127.0.0.1:8080/v1/stream"
# What each block prints, by what stands in it.
PRINTS = {
    "live.batches(": r"(?s)^\w+ [0-9.]+ [0-9.]+ 20.*\d+ at once\n.*Quote\(",
    "asyncio.run(": r"^Quote\(symbol='\w+',",
    "live.book(": r"^Level\(price=[0-9.]+, size=[0-9.]+\) Level\(.*\)\]$",
    "live.capture(": r"(?s)shape: \([1-9].*trades\.parquet",
    "live.replay(": r"^[1-9]\d* trades, the first \[Trade\(.*\nnot all of it: \[\]$",
}


def program(block: str, url: str) -> str:
    """A block with the address of a gateway of the test."""
    whole = block.replace(URL, url)
    assert whole != block, "it has the address that the demo has"
    return whole


@pytest.mark.parametrize("model", ["us-equities", "crypto-perp"])
def test_the_first_script_prints_ticks_of_any_market_and_ends_with_ctrl_c(stage: Stage, gateway: Gateway, model: str) -> None:
    assert len(BLOCKS[0].strip().splitlines()) <= 10
    market(stage, model)
    running = python("-c", program(BLOCKS[0], gateway.url))
    assert running.stdout is not None
    assert any(line.startswith("Trade(symbol=") for line in running.stdout)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=100)
    # Ctrl-C ended it with a traceback.
    assert (running.returncode, errors) == (0, "")


def test_the_whole_interface_is_in_it() -> None:
    text = (HERE / "README.md").read_text(encoding="utf-8")
    names = {*tickgate.__all__, *tickgate.Stats.__struct_fields__, *(name for name in dir(tickgate.Live) if not name.startswith("_"))}
    assert sorted(name for name in names if not re.search(rf"\b{name}\b", text)) == []


def test_every_block_is_looked_at() -> None:
    assert [sum(mark in block for mark in PRINTS) for block in BLOCKS] == [0, *[1] * len(PRINTS)]


@pytest.mark.parametrize("mark", PRINTS)
def test_a_block_runs_as_it_stands(mark: str, swaps: Gateway, tmp_path: Path) -> None:
    (block,) = (block for block in BLOCKS if mark in block)
    # As it stands, and with more time where a second is too little for anything to come.
    for seconds in (1, 8, 32):
        running = python("-c", program(block, swaps.url).replace("(seconds=1)", f"(seconds={seconds})"), cwd=tmp_path)
        said, errors = running.communicate(timeout=100)
        if running.returncode == 0 and re.search(PRINTS[mark], said, re.MULTILINE):
            break
    assert (running.returncode, errors) == (0, ""), errors
    assert re.search(PRINTS[mark], said, re.MULTILINE), said
    assert os.listdir(tmp_path) == (["trades.parquet"] if "capture(" in block else [])


def test_a_past_that_cannot_be_read_is_not_none_that_was(swaps: Gateway) -> None:
    # It printed "0 trades", and that nothing was missing.
    (block,) = (block for block in BLOCKS if "live.replay(" in block)
    proxy = Proxy(swaps.address)
    proxy.filter = answers_a_past_with("source_down")
    said, errors = python("-c", program(block, proxy.url)).communicate(timeout=100)
    proxy.close()
    assert said == ""
    assert "TickgateError: source_down: no word from Kafka" in errors
