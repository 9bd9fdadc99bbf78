"""A server of a test, that says what it is told to."""

from __future__ import annotations

import contextlib
import json
import socket
import threading

from . import websocket
from .stage import SOON_S, Failed

_LIMITS = {"subscriptions": 5000, "requests_per_s": 20, "message_bytes": 262144, "replay_s": 0}


class Server:
    """A WebSocket server on a free port, for one client at a time."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._client: socket.socket | None = None
        self._is_there = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """What a client connects to."""
        return f"ws://127.0.0.1:{self._listener.getsockname()[1]}/v1/stream"

    def greet(self, heartbeat_ms: int = 30_000, auth: str = "none") -> None:
        """Waits for a client, and greets it."""
        if not self._is_there.wait(SOON_S):
            raise Failed("no client came")
        hello = {"op": "hello", "protocol": 1, "session": "s-1", "now_ns": "1", "heartbeat_ms": heartbeat_ms}
        self.send(json.dumps({**hello, "auth": auth, "limits": _LIMITS}))

    def send(self, text: str | bytes, opcode: int = websocket.TEXT) -> None:
        """Sends a message."""
        assert self._client is not None
        self._client.sendall(websocket.encode(opcode, text.encode() if isinstance(text, str) else text))

    def close_with(self, code: int, reason: str = "") -> None:
        """Says goodbye."""
        assert self._client is not None
        self._client.sendall(websocket.encode_close(code, reason))

    def close(self) -> None:
        """Ends it."""
        self._listener.close()
        if self._client is not None:
            self._client.close()

    def _accept(self) -> None:
        try:
            while True:
                client, _ = self._listener.accept()
                with client:
                    self._serve(client)
        except OSError:
            return

    def _serve(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            more = client.recv(4096)
            if not more:
                return
            head += more
        client.sendall(websocket.accept(head))
        self._client = client
        self._is_there.set()
        # What it says is not looked at, but for its end, which may be a reset.
        with contextlib.suppress(ConnectionError):
            while client.recv(4096):
                pass
        self._is_there.clear()
