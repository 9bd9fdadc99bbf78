"""What the tests share: a broker and gateways, the real programs (TICKGATE_BIN_DIR, by default target/debug)."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "clients" / "conformance"))

from conformance.proxy import Proxy  # noqa: E402
from conformance.stage import TOPIC, Gateway, Stage, eventually  # noqa: E402

# The same examples each time: a failure is of the change, not of the day.
settings.register_profile("same", derandomize=True, deadline=None, max_examples=200)
settings.load_profile("same")

# A shell ignores Ctrl-C in what it runs in the background, and the programs that tests interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

HEARTBEAT_MS = 200
TEST_S = 120


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    """No test waits for ever."""

    def late(*_: object) -> None:
        raise TimeoutError(f"a test takes longer than {TEST_S} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(TEST_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A broker with a topic of one partition, and no gateway yet."""
    with Stage(session__heartbeat_ms=HEARTBEAT_MS) as stage:
        yield stage


@pytest.fixture
def gateway(stage: Stage) -> Gateway:
    """A gateway that reads it."""
    return stage.gateway()


@pytest.fixture(scope="session")
def swaps() -> Iterator[Gateway]:
    """A gateway of a market that goes on: perpetual swaps, which have books."""
    with Stage(session__heartbeat_ms=HEARTBEAT_MS) as stage:
        gateway = stage.gateway()
        market(stage, "crypto-perp")
        # So that there is a past.
        eventually(lambda: gateway.records() > 400, "the market has begun")
        yield gateway


def market(stage: Stage, model: str) -> None:
    """Begins a simulated market: `us-equities` has trades and quotes, `crypto-perp` books as well."""
    stage.start("tickgate-sim", "run", "--model", model, "--symbols", "5", "--rate", "400", "--brokers", stage.broker, "--topic", TOPIC)


@pytest.fixture
def proxy(gateway: Gateway) -> Iterator[Proxy]:
    """A proxy in front of it."""
    proxy = Proxy(gateway.address)
    yield proxy
    proxy.close()


def take(events: Iterator[Any], until: Callable[[Any], bool], at_most: int = 100_000) -> list[Any]:
    """Takes events until one for which `until` holds, which is the last."""
    taken = []
    for event in events:
        taken.append(event)
        if until(event):
            return taken
        assert len(taken) < at_most, "it did not come"
    raise AssertionError(f"the stream ended after {taken[-5:]}")


def is_a(kind: type[Any], **fields: Any) -> Callable[[Any], bool]:
    """Whether an event is of a kind and has these fields."""
    return lambda event: isinstance(event, kind) and all(getattr(event, name) == value for name, value in fields.items())
