"""Records for Kafka, written by hand: which partition, which offset and which time is then for the scenario to say."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

_PRODUCE, _VERSION = 0, 3
_TIMEOUT_S = 10.0
# A time of which nothing depends but what is asked for by time: 2013-10-07 15:00:00 UTC.
FIRST_MS = 1_381_158_000_000


class Producer:
    """Writes records to a topic of one broker, a partition each at a time."""

    def __init__(self, broker: str, topic: str) -> None:
        host, port = broker.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), timeout=_TIMEOUT_S)
        self._topic = topic
        self._correlation = 0

    def send(self, *records: Any, partition: int = 0, time_ms: int = FIRST_MS) -> int:
        """Writes values, each a JSON object or array, or bytes as they are; gives the offset of the first.

        Raises:
            OSError: the broker does not take them.
        """
        values = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
        batch = _batch(values, time_ms)
        body = struct.pack(">hhi", -1, 1, int(_TIMEOUT_S * 1000))
        body += struct.pack(">i", 1) + _string(self._topic)
        body += struct.pack(">iii", 1, partition, len(batch)) + batch
        answer = self._ask(body)
        # Topics, the name, partitions, the partition; then the error and the offset.
        at = 4 + 2 + len(self._topic.encode()) + 4 + 4
        error, offset = struct.unpack_from(">hq", answer, at)
        if error:
            raise OSError(f"the broker does not take a record for {self._topic}/{partition}: error {error}")
        return int(offset)

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()

    def _ask(self, body: bytes) -> bytes:
        self._correlation += 1
        head = struct.pack(">hhi", _PRODUCE, _VERSION, self._correlation) + _string("conformance")
        self._socket.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
        (length,) = struct.unpack(">i", self._read(4))
        return self._read(length)[4:]

    def _read(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            more = self._socket.recv(length - len(data))
            if not more:
                raise OSError("the broker has gone")
            data += more
        return data


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">h", len(data)) + data


def _batch(values: list[bytes], time_ms: int) -> bytes:
    """A batch of records, version 2: neither compressed nor transactional, without keys."""
    records = b""
    for index, value in enumerate(values):
        record = b"\0" + _varint(0) + _varint(index) + _varint(-1) + _varint(len(value)) + value + _varint(0)
        records += _varint(len(record)) + record
    checked = struct.pack(">hiqq", 0, len(values) - 1, time_ms, time_ms)
    checked += struct.pack(">qhii", -1, -1, -1, len(values)) + records
    inner = struct.pack(">ibI", -1, 2, crc32c(checked)) + checked
    return struct.pack(">qi", 0, len(inner)) + inner


def _varint(number: int) -> bytes:
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest >= 0x80:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def _table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC = _table()


def crc32c(data: bytes) -> int:
    """Castagnoli's checksum."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
