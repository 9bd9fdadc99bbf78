"""What stands between a client and its gateway: it can stall, cut, turn to another gateway, and put frames in."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

from . import websocket
from .stage import SOON_S, eventually
from .websocket import Frame, Frames

_READ_BYTES = 16_384
# What a ping of ours carries.
_READ = b"read"
_HEAD_BYTES_MAX = 65_536
# What a proxy says that knows of no gateway for a while.
_REFUSAL = b"no gateway is here"
# What comes in place of a heartbeat that is lost: a sign of life, which nobody asked for, and nothing else.
_ALIVE = websocket.encode(websocket.TEXT, b'{"op":"pong","now_ns":"1"}')
# Few enough that a client that is stalled soon looks slow.
_BUFFER_BYTES = 16_384


class _Pair:
    """A client's connection and the one to its gateway."""

    def __init__(self, client: socket.socket, gateway: socket.socket) -> None:
        self.client = client
        self.gateway = gateway
        self.lock = threading.Lock()
        self.is_hushed = False

    def cut(self) -> None:
        for side in (self.client, self.gateway):
            try:
                # A reset, as when a machine goes.
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                side.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def losing(left_out: list[str], lost: list[object]) -> Callable[[Frame], bytes]:
    """A filter by which events that have one of these prices are lost on the way: they go to `lost`."""

    def leave_out(frame: Frame) -> bytes:
        if frame.opcode == websocket.TEXT and frame.payload[:1] == b"[":
            events = json.loads(frame.payload)
            kept = [event for event in events if not any(price in json.dumps(event) for price in left_out)]
            lost.extend(event for event in events if event not in kept)
            return websocket.encode(websocket.TEXT, json.dumps(kept).encode()) if kept else b""
        return frame.raw

    return leave_out


class Proxy:
    """A proxy on a free port. Its methods may be called at any time, from the scenario's thread."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.connections = 0
        # Handshakes that were refused.
        self.refused = 0
        # The first line and headers of every request that came.
        self.heads: list[bytes] = []
        # Control messages of the gateway, of the present connection, and all requests of clients.
        self.control: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []
        # How often the client has answered a ping of ours: by then it has read what came before.
        self.pongs = 0
        # Looks at each frame of the gateway, and gives what is passed on in its place.
        self.filter: Callable[[Frame], bytes] | None = None
        self._refusals: list[int] = []
        self._flowing = threading.Event()
        self._flowing.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pair: _Pair | None = None
        self._is_open = True
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """What a client connects to."""
        return f"ws://127.0.0.1:{self._listener.getsockname()[1]}/v1/stream"

    def turn_to(self, address: str) -> None:
        """Further connections go to another gateway."""
        self.target = address

    def refuse(self, *statuses: int) -> None:
        """Answers the next handshakes itself, each with a status of HTTP."""
        self._refusals += statuses

    def cut(self) -> None:
        """Breaks the connection off."""
        if self._pair is not None:
            self._pair.cut()

    def hush(self) -> None:
        """What the gateway says in the present connection is lost from now on, but that it lives: on a busy machine a client would come
        back of its own accord before it is to.
        """
        pair = self._pair
        assert pair is not None, "there is a connection"
        with pair.lock:
            pair.is_hushed = True

    def stall(self) -> None:
        """Takes nothing more from the gateway."""
        self._flowing.clear()

    def flow(self) -> None:
        """Goes on."""
        self._flowing.set()

    def inject(self, opcode: int, payload: bytes) -> None:
        """Sends the client a frame that its gateway did not send."""
        pair = self._pair
        assert pair is not None, "there is a connection"
        with pair.lock:
            pair.client.sendall(websocket.encode(opcode, payload))

    def heartbeat_behind(self, event_ns: int) -> None:
        """Waits until the client has read a heartbeat whose cursor covers an event, of which the feed's state tells."""
        eventually(lambda: any(self._tells(message, event_ns) for message in list(self.control)), "a heartbeat behind it")
        seen = self.count("heartbeat")
        eventually(lambda: self.count("heartbeat") > seen, "one more heartbeat")
        answered = self.pongs
        self.inject(websocket.PING, _READ)
        eventually(lambda: self.pongs > answered, "an answer to a ping")

    @staticmethod
    def _tells(message: dict[str, Any], event_ns: int) -> bool:
        return any(int(feed.get("event_ns", 0)) >= event_ns for feed in message.get("feeds", []))

    def count(self, op: str) -> int:
        """How many control messages of a kind have come in the present connection."""
        return sum(message.get("op") == op for message in list(self.control))

    def close(self) -> None:
        """Ends it."""
        self._is_open = False
        self._flowing.set()
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while self._is_open:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _refuse(self, client: socket.socket, status: int) -> None:
        with contextlib.suppress(OSError), client:
            client.settimeout(SOON_S)
            head = b""
            while b"\r\n\r\n" not in head and (data := client.recv(_READ_BYTES)):
                head += data
            lines = f"HTTP/1.1 {status} No\r\nContent-Length: {len(_REFUSAL)}\r\nConnection: close\r\n\r\n"
            client.sendall(lines.encode() + _REFUSAL)
            self.refused += 1

    def _serve(self, client: socket.socket) -> None:
        if self._refusals:
            self._refuse(client, self._refusals.pop(0))
            return
        host, port = self.target.rsplit(":", 1)
        gateway = socket.socket()
        gateway.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        try:
            gateway.settimeout(SOON_S)
            gateway.connect((host, int(port)))
            gateway.settimeout(None)
        except OSError:
            client.close()
            gateway.close()
            return
        for side in (client, gateway):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = _Pair(client, gateway)
        self.control = []
        self._pair = pair
        self.connections += 1
        up = threading.Thread(target=self._up, args=(pair,), daemon=True)
        up.start()
        self._down(pair)
        up.join()
        client.close()
        gateway.close()

    def _up(self, pair: _Pair) -> None:
        """From the client to the gateway."""
        frames: Frames | None = None
        head = b""
        try:
            while data := pair.client.recv(_READ_BYTES):
                if frames is None:
                    head += data
                    end = head.find(b"\r\n\r\n") + 4
                    if end >= 4:
                        self.heads.append(head[:end])
                        frames = Frames()
                        self._asked(frames.feed(head[end:]))
                else:
                    self._asked(frames.feed(data))
                pair.gateway.sendall(data)
        except OSError:
            pass
        _shut(pair.gateway)

    def _asked(self, frames: list[Frame]) -> None:
        for frame in frames:
            if frame.opcode == websocket.TEXT:
                self.requests.append(json.loads(frame.payload))
            elif frame.opcode == websocket.PONG and frame.payload == _READ:
                self.pongs += 1

    def _down(self, pair: _Pair) -> None:
        """From the gateway to the client."""
        frames: Frames | None = None
        head = b""
        try:
            while data := pair.gateway.recv(_READ_BYTES):
                if frames is None:
                    head += data
                    end = head.find(b"\r\n\r\n") + 4
                    if end < 4 and len(head) < _HEAD_BYTES_MAX:
                        continue
                    frames = Frames()
                    pair.client.sendall(head[:end])
                    data = head[end:]
                for frame in frames.feed(data):
                    self._pass(pair, frame)
                self._flowing.wait()
        except OSError:
            pass
        _shut(pair.client)

    def _pass(self, pair: _Pair, frame: Frame) -> None:
        raw = frame.raw if self.filter is None else self.filter(frame)
        with pair.lock:
            if pair.is_hushed:
                raw = b""
            if not raw and frame.opcode == websocket.TEXT and b'"op":"heartbeat"' in frame.payload:
                raw = _ALIVE
            if raw:
                pair.client.sendall(raw)
        if frame.opcode == websocket.TEXT and frame.payload[:1] == b"{":
            self.control.append(json.loads(frame.payload))


def _shut(side: socket.socket) -> None:
    try:
        side.shutdown(socket.SHUT_WR)
    except OSError:
        pass
