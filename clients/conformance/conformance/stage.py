"""A broker and gateways, the real programs, on free ports; they end with their stage."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.request import urlopen

from .kafka import Producer

SOON_S = 30.0
_LOOK_EVERY_S = 0.02
_LOG_TAIL = 2_000
TOPIC = "ticks"

T = TypeVar("T")


class Failed(AssertionError):
    """Something did not come, or came that should not have."""


def bin_dir() -> Path:
    """The folder with the programs: `TICKGATE_BIN_DIR`, or where a debug build puts them."""
    named = os.environ.get("TICKGATE_BIN_DIR")
    return Path(named) if named else Path(__file__).resolve().parents[3] / "target" / "debug"


def eventually(look: Callable[[], T | None], what: str, within_s: float = SOON_S) -> T:
    """What `look` gives, once it gives something that is true.

    Raises:
        Failed: it did not in time.
    """
    end_s = time.monotonic() + within_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end_s:
            raise Failed(f"not within {within_s:g} s: {what}")
        time.sleep(_LOOK_EVERY_S)


class Program:
    """A program that runs beside us, its output in a file."""

    def __init__(self, name: str, command: list[str], log: Path) -> None:
        self.name = name
        self.log = log
        # A gateway takes every such variable for a setting of its own.
        if shutil.which("setpriv"):
            # It ends with us, even when we are killed.
            command = ["setpriv", "--pdeathsig", "KILL", *command]
        env = {key: value for key, value in os.environ.items() if not key.startswith("TICKGATE_")}
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True, env=env
            )

    def said(self, pattern: str) -> str:
        """The first group of `pattern` in what it wrote, once it has."""

        def look() -> str | None:
            found = re.search(pattern, self.log.read_text(errors="replace"), re.MULTILINE)
            if found is None and self.process.poll() is not None:
                raise Failed(f"{self.name} ended with {self.process.returncode}: {self.tail()}")
            return found and found.group(1)

        return eventually(look, f"{self.name} says /{pattern}/")

    def tail(self) -> str:
        """The end of what it wrote."""
        return self.log.read_text(errors="replace")[-_LOG_TAIL:]

    def kill(self) -> None:
        """Ends it at once."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        """Asks it to end."""
        self.process.send_signal(signal.SIGTERM)


class Gateway:
    """A gateway. `address` is where its clients connect to."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.address = program.said(r"clients: wss?://([^/\s]+)/v1/stream")
        self.admin = program.said(r"admin: (http://[^/\s]+)")

    @property
    def url(self) -> str:
        """What a client connects to."""
        return f"ws://{self.address}/v1/stream"

    def is_ready(self) -> bool:
        """Whether it says so."""
        try:
            with urlopen(f"{self.admin}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def records(self) -> int:
        """Records that it has read."""
        with urlopen(f"{self.admin}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        return sum(int(float(value)) for value in re.findall(r"^tickgate_feed_records_total(?:\{[^}]*\})? (\S+)", text, re.MULTILINE))


class Stage:
    """A broker with one topic, and gateways that read it."""

    def __init__(self, partitions: int = 1, **settings: Any) -> None:
        self._dir = tempfile.TemporaryDirectory(prefix="tickgate-clients-")
        self.dir = Path(self._dir.name)
        self._settings = settings
        self.gateways: list[Gateway] = []
        self._programs: list[Program] = []
        broker = self.start("tickgate-broker", "--listen", "127.0.0.1:0", "--topic", f"{TOPIC}:{partitions}")
        self.broker_program = broker
        self.broker = broker.said(r"^(127\.0\.0\.1:\d+)\s*$")
        self.records = Producer(self.broker, TOPIC)
        self.sent = 0

    def start(self, name: str, *args: str) -> Program:
        """Starts one of the programs."""
        path = bin_dir() / name
        if not path.exists():
            raise Failed(f"{path} is not there: build it, or set TICKGATE_BIN_DIR")
        program = Program(name, [str(path), *args], self.dir / f"{len(self._programs)}-{name}.log")
        self._programs.append(program)
        return program

    def gateway(self, **settings: Any) -> Gateway:
        """Starts a gateway, and waits until it is ready. Settings as the configuration has them, dots as double underscores."""
        wanted = {"drain__accept_ms": 0, "drain__spread_ms": 200, "kafka__warm_up_records": 1_000_000, **self._settings, **settings}
        args = ["run", "--brokers", self.broker, "--topic", TOPIC, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        for name, value in wanted.items():
            args += ["--set", f"{name.replace('__', '.')}={value}"]
        gateway = Gateway(self.start("tickgate", *args))
        eventually(gateway.is_ready, "the gateway is ready")
        self.gateways.append(gateway)
        return gateway

    def send(self, *records: Any, partition: int = 0) -> None:
        """Writes records, each of which the gateways will read."""
        self.records.send(*records, partition=partition)
        self.sent += len(records)

    def has_read(self, gateway: Gateway) -> None:
        """Waits until a gateway has read all that was sent since it was started first."""
        eventually(lambda: gateway.records() >= self.sent, "the gateway has read everything")

    def close(self) -> None:
        """Ends everything."""
        self.records.close()
        for program in reversed(self._programs):
            program.kill()
        self._dir.cleanup()

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
