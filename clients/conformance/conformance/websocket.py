"""As much of RFC 6455 as a proxy and a server of a test need: heads, frames, and where one ends."""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import NamedTuple

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
SUBPROTOCOL = b"tickgate.v1.json"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Frame(NamedTuple):
    """A frame. `raw` is all of it as it came."""

    opcode: int
    payload: bytes
    raw: bytes


def encode(opcode: int, payload: bytes) -> bytes:
    """A final frame as servers send them, unmasked."""
    if len(payload) < 126:
        head = struct.pack(">BB", 0x80 | opcode, len(payload))
    elif len(payload) < 65536:
        head = struct.pack(">BBH", 0x80 | opcode, 126, len(payload))
    else:
        head = struct.pack(">BBQ", 0x80 | opcode, 127, len(payload))
    return head + payload


def encode_close(code: int, reason: str = "") -> bytes:
    """A close frame."""
    return encode(CLOSE, struct.pack(">H", code) + reason.encode())


class Frames:
    """Parts a stream of bytes into frames, masked or not."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Takes bytes, and gives the frames that are whole."""
        self._buffer += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
            del self._buffer[: len(frame.raw)]
        return frames

    def _next(self) -> Frame | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        length, at = buffer[1] & 0x7F, 2
        for marker, form in ((126, ">H"), (127, ">Q")):
            if length == marker:
                size = struct.calcsize(form)
                if len(buffer) < at + size:
                    return None
                (length,) = struct.unpack_from(form, buffer, at)
                at += size
                break
        mask = b""
        if buffer[1] & 0x80:
            mask = bytes(buffer[at : at + 4])
            at += 4
        if len(buffer) < at + length:
            return None
        payload = bytes(buffer[at : at + length])
        if mask:
            payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        return Frame(buffer[0] & 0x0F, payload, bytes(buffer[: at + length]))


def header(head: bytes, name: bytes) -> bytes:
    """What stands in a header of a request or answer, empty if it is not there."""
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return b""


def accept(head: bytes) -> bytes:
    """The answer to a request for an upgrade. As a gateway does, it takes the protocol's name where that is offered."""
    digest = base64.b64encode(hashlib.sha1(header(head, b"sec-websocket-key") + _GUID, usedforsecurity=False).digest())
    lines = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Accept: " + digest]
    offered = [name.strip() for name in header(head, b"sec-websocket-protocol").split(b",")]
    if SUBPROTOCOL in offered:
        lines.append(b"Sec-WebSocket-Protocol: " + SUBPROTOCOL)
    return b"\r\n".join(lines) + b"\r\n\r\n"
