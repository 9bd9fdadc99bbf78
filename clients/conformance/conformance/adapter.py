"""A client under test: its adapter program, commands to it and events from it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from .stage import SOON_S, Failed

Event = dict[str, Any]
# How long something may take to come in all, whatever else comes meanwhile.
_COMES_S = 2 * SOON_S
_EVENTS_MAX = 1_000_000


class Adapter:
    """A running adapter. `events` is everything that it printed."""

    def __init__(self, command: list[str], log: Any) -> None:
        self.events: list[Event] = []
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        self._changed = threading.Condition()
        self._is_over = False
        self._marked = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, cmd: str, **fields: Any) -> None:
        """Gives a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"cmd": cmd, **fields}) + "\n")
        self._process.stdin.flush()

    def wait(self, is_it: Callable[[Event], bool], what: str, count: int = 1, within_s: float = _COMES_S) -> list[Event]:
        """Waits until `count` events for which `is_it` holds have come since the last `wait`, which then counts up to the last
        of them.

        Raises:
            Failed: they did not come in time.
        """
        found: list[Event] = []
        at = self._marked
        end_s = time.monotonic() + within_s
        with self._changed:
            while True:
                while at < len(self.events) and len(found) < count:
                    if is_it(self.events[at]):
                        found.append(self.events[at])
                    at += 1
                if len(found) == count:
                    self._marked = at
                    return found
                if self._is_over or not self._changed.wait(max(end_s - time.monotonic(), 0.0)):
                    last = "\n".join(json.dumps(event) for event in self.events[-10:])
                    raise Failed(f"{len(found)} of {count} came: {what}. The last events:\n{last}")

    def events_of(self, *kinds: str) -> Callable[[Event], bool]:
        """Whether an event is of one of these kinds."""
        return lambda event: event.get("event") in kinds

    def until(self, kind: str, count: int = 1, **fields: Any) -> list[Event]:
        """Waits for events of a kind that have these fields."""

        def is_it(event: Event) -> bool:
            return event.get("event") == kind and all(event.get(name) == value for name, value in fields.items())

        return self.wait(is_it, f"{kind} {fields or ''}", count)

    def close(self) -> None:
        """Has the client close, and looks at how its program ends.

        Raises:
            Failed: not with 0, or not in time.
        """
        self.send("close")
        try:
            status = self._process.wait(SOON_S)
        except subprocess.TimeoutExpired as error:
            raise Failed("the adapter does not end") from error
        with self._changed:
            self._changed.wait_for(lambda: self._is_over, SOON_S)
        if status:
            raise Failed(f"the adapter ended with {status}")

    def kill(self) -> None:
        """Ends it whatever it does."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join(SOON_S)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                event = {"event": "failed", "message": f"not JSON: {line!r}"}
            with self._changed:
                if len(self.events) < _EVENTS_MAX:
                    self.events.append(event)
                self._changed.notify_all()
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
