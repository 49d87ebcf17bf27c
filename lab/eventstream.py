"""Frames of the AWS event stream protocol, as Greengrass IPC speaks it over a Unix socket.

Layout, big endian: `u32 total | u32 headers length | u32 crc32 of these 8 | headers | payload | u32 crc32 of all`.
A header is `u8 name length | name | u8 type | value`; see awslabs/aws-c-event-stream.
"""

from __future__ import annotations

import socket
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

Value = bool | int | bytes | str

LIMIT = 10_000  # bytes in one frame; a larger one closes the connection, as on nucleus lite
_PRELUDE = struct.Struct(">II")
_CRC = struct.Struct(">I")
_FIXED = {2: ">b", 3: ">h", 4: ">i", 5: ">q", 8: ">q"}


class FrameError(Exception):
    """The bytes are no frame: a checksum, a length or a header type is wrong, or the frame is over the limit."""


class Kind(IntEnum):
    MESSAGE = 0
    ERROR = 1
    PING = 2
    PING_RESPONSE = 3
    CONNECT = 4
    CONNECT_ACK = 5
    PROTOCOL_ERROR = 6
    INTERNAL_ERROR = 7


ACCEPTED = 1
TERMINATE = 2


@dataclass(frozen=True)
class Frame:
    """One message. `headers` holds all but the three that every frame has: kind, flags and stream."""

    kind: int
    flags: int = 0
    stream: int = 0
    headers: Mapping[str, Value] = field(default_factory=dict)
    payload: bytes = b""

    def encode(self) -> bytes:
        fixed: dict[str, Value] = {
            ":message-type": self.kind,
            ":message-flags": self.flags,
            ":stream-id": self.stream,
        }
        headers = b"".join(_header(name, value) for name, value in {**fixed, **self.headers}.items())
        prelude = _PRELUDE.pack(16 + len(headers) + len(self.payload), len(headers))
        body = prelude + _CRC.pack(zlib.crc32(prelude)) + headers + self.payload
        return body + _CRC.pack(zlib.crc32(body))


def _header(name: str, value: Value) -> bytes:
    encoded = name.encode()
    start = bytes([len(encoded)]) + encoded
    if isinstance(value, bool):
        return start + bytes([0 if value else 1])
    if isinstance(value, int):
        return start + b"\x04" + struct.pack(">i", value)
    data = value.encode() if isinstance(value, str) else value
    return start + (b"\x07" if isinstance(value, str) else b"\x06") + struct.pack(">H", len(data)) + data


def _parse_headers(data: bytes) -> dict[str, Value]:
    found: dict[str, Value] = {}
    at = 0
    while at < len(data):
        end = at + 1 + data[at]
        name, kind, at = data[at + 1 : end].decode(), data[end], end + 1
        if kind in (0, 1):
            found[name] = kind == 0
        elif kind in _FIXED:
            (found[name],) = struct.unpack_from(_FIXED[kind], data, at)
            at += struct.calcsize(_FIXED[kind])
        elif kind in (6, 7):
            (length,) = struct.unpack_from(">H", data, at)
            value = data[at + 2 : at + 2 + length]
            found[name] = value.decode() if kind == 7 else value
            at += 2 + length
        else:
            raise FrameError(f"header {name!r} has type {kind}")
    return found


def decode(data: bytes) -> Frame:
    """The frame that `data` is, whole. Raises FrameError."""
    if len(data) < 16:
        raise FrameError(f"{len(data)} bytes are too few for a frame")
    total, headers_length = _PRELUDE.unpack_from(data)
    if total != len(data) or headers_length > total - 16:
        raise FrameError(f"the prelude says {total} bytes, {headers_length} of them headers; there are {len(data)}")
    if _CRC.unpack_from(data, 8)[0] != zlib.crc32(data[:8]) or _CRC.unpack_from(data, total - 4)[0] != zlib.crc32(
        data[:-4]
    ):
        raise FrameError("a checksum does not match")
    try:
        headers = _parse_headers(data[12 : 12 + headers_length])
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise FrameError(f"the headers cannot be read: {error}") from error
    fixed = [headers.pop(name, 0) for name in (":message-type", ":message-flags", ":stream-id")]
    kind, flags, stream = (int(value) if isinstance(value, int) else 0 for value in fixed)
    return Frame(kind, flags, stream, headers, data[12 + headers_length : -4])


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts: list[bytes] = []
    while count:
        part = connection.recv(count)
        if not part:
            return b""
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def read(connection: socket.socket) -> Frame | None:
    """The next frame on a socket; None when the peer has closed. Raises FrameError, also for a frame over LIMIT."""
    prelude = _exactly(connection, _PRELUDE.size)
    if not prelude:
        return None
    total, _ = _PRELUDE.unpack(prelude)
    if not 16 <= total <= LIMIT:
        raise FrameError(f"a frame of {total} bytes; the limit is {LIMIT}")
    rest = _exactly(connection, total - _PRELUDE.size)
    return decode(prelude + rest) if rest else None
