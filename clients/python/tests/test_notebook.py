"""Cells of a notebook, in a real kernel: its loop runs already, and an interrupt ends a cell and nothing else."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conformance.stage import Gateway, Stage
from conformance.world import trade

from test_programs import HERE

# Left out where the kernel is not installed, but in continuous integration: it is among what requirements-dev.txt lists.
_find = importlib.import_module if os.environ.get("CI") else pytest.importorskip
_find("ipykernel")
manager: Any = _find("jupyter_client.manager")

CELL_S = 60


class Notebook:
    """A kernel, to which cells are given."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR"):
            monkeypatch.setenv(name, str(folder))
        monkeypatch.setenv("PYTHONPATH", str(HERE / "src"))
        # Sockets of files: a kernel takes ports that were free a moment before.
        self._kernel = manager.KernelManager(transport="ipc", kernel_name="python3")
        self._kernel.start_kernel()
        self._client = self._kernel.client()
        self._client.start_channels()
        self._client.wait_for_ready(CELL_S)

    def run(self, cell: str, on_text: Callable[[str], object] = str) -> tuple[str, str]:
        """What a cell shows, and the name of the error that it ended with. `on_text` is told what it prints, as it does."""
        shown: list[str] = []

        def output(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                shown.append(content["text"])
                on_text(content["text"])
            elif message["msg_type"] == "execute_result":
                shown.append(content["data"]["text/plain"])

        reply = self._client.execute_interactive(cell, output_hook=output, timeout=CELL_S)["content"]
        return "".join(shown).strip(), reply.get("ename", "")

    def interrupted(self, cell: str, mark: str) -> tuple[str, str]:
        """The same of a cell that is interrupted as soon as it shows `mark`."""
        said: list[str] = []

        def look(text: str) -> None:
            was_there = mark in "".join(said)
            said.append(text)
            if mark in "".join(said) and not was_there:
                self._kernel.interrupt_kernel()

        return self.run(cell, look)

    def close(self) -> None:
        self._client.stop_channels()
        self._kernel.shutdown_kernel(now=True)
        self._kernel.cleanup_resources()


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    # Not of pytest: the path of a socket has some hundred bytes.
    with tempfile.TemporaryDirectory(prefix="nb-") as folder:
        notebook = Notebook(Path(folder), monkeypatch)
        yield notebook
        notebook.close()


def test_cells_take_events_in_every_way_and_may_be_interrupted(stage: Stage, gateway: Gateway, notebook: Notebook) -> None:
    begin = f"from tickgate import Live, State, Trade\nlive = Live({gateway.url!r})\nlive.subscribe('trades', 'A').wait().ok"
    assert notebook.run(begin) == ("True", "")
    show = "print(event, flush=True)"
    # Nothing comes behind the state: it waits when it is interrupted.
    for cell in (f"for event in live:\n    {show}", "live.on(State, print)\nlive.run()"):
        shown, error = notebook.interrupted(f"live = Live({gateway.url!r})\n{cell}", "state='live'")
        assert error == "KeyboardInterrupt", shown
    shown, error = notebook.interrupted(f"print('looping', flush=True)\nasync for event in live:\n    {show}", "looping")
    assert error in ("CancelledError", "KeyboardInterrupt"), shown
    # The stream goes on, in the cells that follow.
    assert notebook.run("live.subscribe('trades', 'A').wait().ok") == ("True", "")
    trades = "if isinstance(event, Trade):\n        break"
    stage.send(trade("A", 1))
    assert notebook.run(f"for event in live:\n    {trades}\nevent.size") == ("1.0", "")
    stage.send(trade("A", 2))
    assert notebook.run(f"async for event in live:\n    {trades}\nevent.size") == ("2.0", "")
    stage.send(trade("A", 3))
    assert notebook.run("captured = live.capture(seconds=60, max_events=1)\n[event.size for event in captured.events()]") == ("[3.0]", "")
    past = "[event.size for event in live.replay('trades', 'A', from_time=0) if isinstance(event, Trade)]"
    assert notebook.run(past) == ("[1.0, 2.0, 3.0]", "")
    inside = f"async with Live({gateway.url!r}) as other:\n    async for event in other:\n        break\nother"
    assert notebook.run(f"{inside}.stats().state") == ("'closed'", "")
    assert notebook.run("live.close()\n[type(event).__name__ for event in live]")[0].endswith("'State']")
