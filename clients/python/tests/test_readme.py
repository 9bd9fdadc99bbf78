"""What the README shows runs as it stands there."""

from __future__ import annotations

import asyncio
import re
import signal
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from conformance.stage import TOPIC, Gateway, Stage

import tickgate
from test_programs import HERE, python

BLOCKS = re.findall(r"^```python\n(.*?)^```", (HERE / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
URL = "ws://127.0.0.1:8080/v1/stream"


def market(stage: Stage) -> None:
    """Trades, quotes and books of BTCUSDT and others."""
    stage.start(
        "tickgate-sim", "run", "--model", "crypto-perp", "--symbols", "5", "--rate", "500", "--brokers", stage.broker, "--topic", TOPIC
    )


def test_the_first_script_is_short_and_prints_ticks(stage: Stage, gateway: Gateway) -> None:
    script = BLOCKS[0]
    assert len(script.strip().splitlines()) <= 10
    market(stage)
    program = python("-c", script.replace(URL, gateway.url))
    assert program.stdout is not None
    try:
        assert any(line.startswith("Trade(symbol=") for line in program.stdout)
    finally:
        program.send_signal(signal.SIGINT)
        program.communicate(timeout=20)


def test_everything_else_that_it_shows_runs(stage: Stage, gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    market(stage)
    assert len(BLOCKS) >= 6
    for block in BLOCKS[1:]:
        with tickgate.Live(gateway.url) as live:
            live.subscribe("trades", "*").wait()
            live.subscribe("quotes", "*").wait()
            names: dict[str, Any] = {**vars(tickgate), "live": live, "url": gateway.url}
            names |= {"datetime": datetime, "timedelta": timedelta, "timezone": timezone}
            exec(block, names)
            if "main" in names:
                assert isinstance(asyncio.run(names["main"]()), tickgate.Quote)
