"""A load generator that costs next to nothing: raw sockets in one loop, each sends its request as soon as it may.

    python -m lab.load PORT REQUEST --connections 32 --seconds 5

REQUEST is a file with the whole request as it goes over the line; a JSON document with the figures comes out. It runs
in a process of its own, so that neither server nor measurement share its interpreter, and says how busy it was itself:
a share of its core near 1 would mean that it, and not the server, was the limit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import selectors
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WARM_UP = 0.15  # share of the time whose answers are not counted
STUCK_SECONDS = 20.0


class Line:
    """One connection: sends the request, reads the answer by its length, and does it again."""

    def __init__(self, port: int, request: bytes) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=STUCK_SECONDS)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = request
        self._buffer = b""
        self._wanted: int | None = None
        self.sent = 0.0

    def send(self) -> None:
        """The next request; a request is smaller than what the line takes at once."""
        self._buffer, self._wanted = b"", None
        self.sent = time.perf_counter()
        self.sock.sendall(self._request)

    def receive(self) -> float | None:
        """Milliseconds when the answer is whole. Raises LoadError for any other answer than a 200."""
        part = self.sock.recv(65536)
        if not part:
            raise LoadError("the server hung up")
        self._buffer += part
        if self._wanted is None:
            head, end, _ = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return None
            if head[9:12] != b"200":
                raise LoadError(self._buffer[:300].decode("latin-1"))
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            self._wanted = len(head) + 4 + int(length)
        return None if len(self._buffer) < self._wanted else (time.perf_counter() - self.sent) * 1000.0


class LoadError(Exception):
    """The server did not answer as it must."""


def load(port: int, request: bytes, connections: int, seconds: float) -> dict[str, Any]:
    """Requests a second, and percentiles of their milliseconds, of so many connections for so long."""
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        lines = [Line(port, request) for _ in range(connections)]
        for line in lines:
            stack.callback(line.sock.close)
        for line in lines:
            selector.register(line.sock, selectors.EVENT_READ, line)
            line.send()
        return _figures(*_measured(selector, seconds))


def _measured(selector: selectors.BaseSelector, seconds: float) -> tuple[list[float], float, float]:
    """Milliseconds of each answer after the warm-up, and the seconds of clock and of our own processor since then."""
    times: list[float] = []
    counted = time.perf_counter() + WARM_UP * seconds
    end = counted + (1.0 - WARM_UP) * seconds
    busy = None
    while (now := time.perf_counter()) < end:
        if busy is None and now >= counted:
            busy, times = time.process_time(), []
        events = selector.select(STUCK_SECONDS)
        if not events:
            raise LoadError(f"no answer for {STUCK_SECONDS:g} s")
        for key, _ in events:
            taken = key.data.receive()
            if taken is not None:
                times.append(taken)
                key.data.send()
    return times, time.perf_counter() - counted, time.process_time() - (busy or 0.0)


def _figures(times: list[float], wall: float, cpu: float) -> dict[str, Any]:
    ordered = sorted(times)

    def at(percent: int) -> float:
        return round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 4)

    figures = {"requests": len(times), "per_s": round(len(times) / wall, 1), "generator_busy": round(cpu / wall, 3)}
    return figures | {f"p{percent}_ms": at(percent) for percent in (50, 95, 99)}


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the figures; exit 1 when the server did not answer as it must."""
    parser = argparse.ArgumentParser(prog="python -m lab.load")
    parser.add_argument("port", type=int)
    parser.add_argument("request", type=Path)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    given = parser.parse_args(argv)
    try:
        figures = load(given.port, given.request.read_bytes(), given.connections, given.seconds)
    except (LoadError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
