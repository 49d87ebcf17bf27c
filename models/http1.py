"""Requests from a connection's bytes: HTTP/1.1 read strictly and within bounds, bodies by length or in chunks.

No socket here: bytes go in, requests come out. What could be understood in two ways is refused (RFC 9112, sections 6.3
and 11.2): a body with two lengths, folded or unnamed headers, bare line feeds.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from http import HTTPStatus

from models.payload import LIMIT_BYTES, BadRequest

HEAD_BYTES = 16 * 1024
HEADERS = 100
SIZE_LINE = 256  # a chunk's size and whatever extension follows it
TRAILER_BYTES = 4096
TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
TARGET = re.compile(rb"[\x21-\x7e\x80-\xff]+")
VERSION = re.compile(rb"HTTP/(\d)\.(\d)")
SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")
END = b"\r\n\r\n"
# Where a second value would say something else than the first.
ONCE = frozenset({b"host", b"content-length", b"content-type", b"transfer-encoding", b"expect"})


@dataclass(slots=True)
class Head:
    """What a request's head says, as far as an endpoint cares; never changed once it is parsed."""

    method: str
    path: str
    content_type: str = ""
    accept: str = ""
    length: int | None = None
    chunked: bool = False
    close: bool = False
    expects: bool = False


@dataclass(slots=True)
class Request:
    """A whole request; `body` is its own memory."""

    head: Head
    body: bytearray


def bad(code: str, message: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> BadRequest:
    """A refusal, to be raised."""
    return BadRequest(status, code, message)


@functools.lru_cache(maxsize=128)
def parse(data: bytes) -> Head:
    """A head without its last empty line. Raises BadRequest.

    Clients that stay send the same head again and again: at most 2 MB of them are remembered.
    """
    first, *lines = data.split(b"\r\n")
    head, minor = _request_line(first)
    if len(lines) > HEADERS:
        raise bad("head", f"more than {HEADERS} headers", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    found: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not TOKEN.fullmatch(name):
            raise bad("head", "a header is a name, a colon and a value on one line")
        name, value = name.lower(), value.strip(b" \t")
        if b"\n" in value or b"\r" in value or b"\0" in value:
            raise bad("head", "a header's value holds a control character")
        if name in found:
            if name in ONCE:
                raise bad("head", f"{name.decode()} stands there twice")
            value = found[name] + b", " + value
        found[name] = value
    if minor and b"host" not in found:
        raise bad("head", "HTTP/1.1 needs a Host")
    _read(found, head, minor)
    return head


def _request_line(line: bytes) -> tuple[Head, int]:
    parts = line.split(b" ")
    if len(parts) != 3 or not TOKEN.fullmatch(parts[0]) or not TARGET.fullmatch(parts[1]):
        raise bad("request", "the first line is a method, a path and HTTP/1.1")
    version = VERSION.fullmatch(parts[2])
    if not version or version[1] != b"1":
        raise bad("request", "HTTP/1.1 and HTTP/1.0 are spoken here")
    target = parts[1].decode("latin-1")
    if target.lower().startswith("http://"):  # the absolute form, as to a proxy
        target = "/" + target[7:].partition("/")[2]
    return Head(parts[0].decode(), target.partition("?")[0]), int(version[2])


def _read(found: dict[bytes, bytes], head: Head, minor: int) -> None:
    """The headers that matter, into `head`."""
    head.content_type = found.get(b"content-type", b"").decode("latin-1")
    head.accept = found.get(b"accept", b"").decode("latin-1")
    options = found.get(b"connection", b"").lower()
    head.close = b"close" in options or (minor == 0 and b"keep-alive" not in options)
    coding, length = found.get(b"transfer-encoding"), found.get(b"content-length")
    if coding is not None:
        if coding.lower() != b"chunked" or minor == 0 or length is not None:
            raise bad("length", "a body has a Content-Length, or comes in chunks of HTTP/1.1; nothing else, not both")
        head.chunked = True
    elif length is not None:
        if not (length.isdigit() and len(length) < 20):
            raise bad("length", "Content-Length is no number")
        head.length = int(length)
    expected = found.get(b"expect")
    if expected is not None:
        if expected.lower() != b"100-continue":
            raise bad("expect", "only 100-continue can be met", HTTPStatus.EXPECTATION_FAILED)
        head.expects = minor > 0


class Reader:
    """One connection's requests in order. After a BadRequest what follows cannot be told apart: close it."""

    def __init__(self) -> None:
        self.head: Head | None = None
        self._pending = bytearray()
        self._body: bytearray | None = None
        self._got = 0
        self._chunks: Chunks | None = None
        self._seen = 0

    @property
    def started(self) -> bool:
        """Whether a request has begun and is not whole."""
        return self.head is not None or bool(self._pending)

    @property
    def waits_for_body(self) -> bool:
        """Whether the head is there and of the body nothing: who sent `Expect` may be waiting."""
        return self.head is not None and self._got == 0 and not self._pending

    @property
    def size(self) -> int:
        """Bytes of memory that the body takes, as far as can be said before it is whole."""
        return len(self._chunks.body) if self._chunks else (self.head.length or 0) if self.head else 0

    def room(self) -> memoryview | None:
        """Where the next bytes of a long body belong, so that they are read in place; None: give them to `feed`."""
        return None if self._body is None else memoryview(self._body)[self._got :]

    def took(self, count: int) -> None:
        """So many bytes were read into `room`."""
        self._got += count

    def feed(self, data: memoryview) -> None:
        """The next bytes."""
        self._pending += data

    def request(self) -> Request | None:
        """The next request when it is whole. Raises BadRequest."""
        if self.head is None and not self._read_head():
            return None
        head, length = self.head, 0
        assert head is not None
        if self._chunks is not None:
            if not self._chunks.feed(self._pending):
                return None
            return self._whole(head, self._chunks.body)
        if self._body is not None:
            return self._whole(head, self._body) if self._got == len(self._body) else None
        length = head.length or 0
        if len(self._pending) >= length:
            body = self._pending[:length]
            del self._pending[:length]
            return self._whole(head, body)
        self._body, self._got = bytearray(length), len(self._pending)
        self._body[: self._got] = self._pending
        self._pending.clear()
        return None

    def missing(self) -> BadRequest:
        """What to say when the connection ends in the middle of a request."""
        if self._body is not None:
            return bad("length", f"{self._got} of {len(self._body)} bytes arrived")
        return bad("request", "the request ends in its middle")

    def _whole(self, head: Head, body: bytearray) -> Request:
        self.head = self._body = self._chunks = None
        self._got = self._seen = 0
        return Request(head, body)

    def _read_head(self) -> bool:
        while self._pending.startswith(b"\r\n"):  # some clients send an empty line after a body (RFC 9112, 2.2)
            del self._pending[:2]
            self._seen = 0
        end = self._pending.find(END, max(0, self._seen - 3))
        if end < 0 or end > HEAD_BYTES:
            self._seen = len(self._pending)
            if end > 0 or self._seen > HEAD_BYTES:
                status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
                raise bad("head", f"the head is longer than {HEAD_BYTES} bytes", status)
            return False
        self.head = parse(bytes(self._pending[:end]))
        del self._pending[: end + 4]
        if (self.head.length or 0) > LIMIT_BYTES:
            raise too_large(f"{self.head.length} bytes")
        if self.head.chunked:
            self._chunks = Chunks()
        return True


class Chunks:
    """A body in chunks (RFC 9112, section 7.1), collected up to the limit."""

    def __init__(self) -> None:
        self.body = bytearray()
        self._left = 0
        self._trailer: int | None = None

    def feed(self, data: bytearray) -> bool:
        """Takes what it can from the front of `data`; whether the body is whole. Raises BadRequest."""
        at = 0
        try:
            while self._trailer is None:
                if self._left:
                    part = data[at : at + self._left]
                    at += len(part)
                    self._take(part)
                    if self._left:
                        return False
                step = self._size(data, at)
                if not step:
                    return False
                at += step
            while (end := data.find(b"\r\n", at)) >= 0:
                self._trailer += end - at
                if self._trailer > TRAILER_BYTES:
                    raise bad("chunk", "the trailer is too long")
                last, at = end == at, end + 2
                if last:
                    return True
            if self._trailer + len(data) - at > TRAILER_BYTES:
                raise bad("chunk", "the trailer is too long")
            return False
        finally:
            del data[:at]

    def _take(self, part: bytearray) -> None:
        """`part` of a chunk and, at its end, the line's end that belongs to it."""
        text = part[: max(0, self._left - 2)]
        tail = part[len(text) :]
        before = max(0, 2 - self._left)
        if bytes(tail) != b"\r\n"[before : before + len(tail)]:
            raise bad("chunk", "a chunk is longer than it says")
        self._left -= len(part)
        self.body += text

    def _size(self, data: bytearray, at: int) -> int:
        """Reads the next chunk's size; how many bytes that took, 0 when the line is not whole."""
        end = data.find(b"\r\n", at, at + SIZE_LINE)
        if end < 0:
            if len(data) - at >= SIZE_LINE:
                raise bad("chunk", "a chunk's first line is too long")
            return 0
        found = SIZE.fullmatch(data[at:end])
        if not found:
            raise bad("chunk", "a chunk begins with its size in hexadecimal")
        size = int(found[1], 16)
        if size == 0:
            self._trailer = 0
        else:
            self._left = size + 2
        if len(self.body) + size > LIMIT_BYTES:
            raise too_large(f"more than {LIMIT_BYTES} bytes")
        return end + 2 - at


def too_large(what: str) -> BadRequest:
    """A body over the limit."""
    return bad("length", f"{what}; 1 to {LIMIT_BYTES} are taken", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
