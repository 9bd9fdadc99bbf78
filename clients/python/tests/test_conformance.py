"""What the conformance driver is made of, where a fault of its own would pass for one of a client."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conformance import websocket
from conformance.adapter import Adapter
from conformance.scenarios import ALL, SLOWEST
from conformance.stage import Failed

GOLDEN = Path(__file__).resolve().parents[2] / "conformance" / "golden"


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        ("Sec-WebSocket-Protocol: tickgate.v1.json\r\n", b"tickgate.v1.json"),
        ("sec-websocket-protocol: other,tickgate.v1.json, tickgate.bearer.x\r\n", b"tickgate.v1.json"),
        ("Sec-WebSocket-Protocol: other\r\n", b""),
        ("", b""),
    ],
)
def test_the_server_takes_the_subprotocol_that_is_offered(offered: str, taken: bytes) -> None:
    # It took none, so that clients which offer one, as browsers have to leave then, could not be led through a scenario with it.
    head = f"GET /v1/stream HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offered}\r\n"
    answer = websocket.accept(head.encode())
    assert websocket.header(answer, b"sec-websocket-accept") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert websocket.header(answer, b"sec-websocket-protocol") == taken
    assert answer.endswith(b"\r\n\r\n")


def test_a_wait_ends_though_other_events_keep_coming() -> None:
    # Each event began the time anew: a client that comes back again and again held a scenario up for ever.
    chatter = 'import time\nwhile True: print(\'{"event":"state"}\', flush=True); time.sleep(0.01)'
    adapter = Adapter([sys.executable, "-c", chatter], None)
    try:
        with pytest.raises(Failed, match="what never comes"):
            adapter.wait(lambda event: event["event"] == "trade", "what never comes", within_s=0.5)
    finally:
        adapter.kill()


def test_every_scenario_has_its_golden_file() -> None:
    assert {path.stem for path in GOLDEN.glob("*.jsonl")} == set(ALL)
    assert SLOWEST in ALL
