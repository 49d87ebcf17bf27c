"""The endpoint's loop: one thread that reads every connection, hands whole requests on, and sends the answers.

What a request means is the application's business (`models.endpoint`); here are connections, time limits, memory, the
wake-up calls of other threads, and the drain.
"""

from __future__ import annotations

import collections
import contextlib
import email.utils
import json
import logging
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

from models.connection import Connection, Patience, Phase
from models.http1 import Head
from models.payload import BadRequest

SWEEP_SECONDS = 0.5
SCRATCH_BYTES = 64 * 1024
ACCEPTED_AT_ONCE = 64
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
AGAIN = "Retry-After: 1\r\n"
SAID_A_SWEEP = 5
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a server takes on.

    batch        samples that run together at most
    wait_ms      how long a free model waits for a fuller batch; 0: it takes what is there
    budget_ms    what a batch may take of the model's time, by measurement
    queue        requests that wait or are decoded; one more gets 429
    connections  open ones; one more gets 503
    memory       bytes of bodies that are being received or wait; more gets 429
    drain_s      how long answers under way may take after the server was told to stop
    """

    batch: int = 32
    wait_ms: float = 0.0
    budget_ms: float = 50.0
    queue: int = 256
    connections: int = 1024
    memory: int = 256 * 1024 * 1024
    drain_s: float = 25.0
    patience: Patience = field(default_factory=Patience)

    def __post_init__(self) -> None:
        if min(self.batch, self.queue, self.connections) < 1 or min(self.wait_ms, self.budget_ms, self.drain_s) < 0:
            raise ValueError(f"{self}: counts are at least 1, times at least 0")


class Application(Protocol):
    """What answers. The loop calls it in its own thread."""

    @property
    def stamp(self) -> str:
        """Header lines that every answer carries, unless it has its own."""

    def screen(self, head: Head, late: bool) -> None:
        """Raises BadRequest for what the head alone shows cannot be answered; `late` came after the stop."""

    def handle(self, connection: Connection, head: Head, body: bytearray) -> None:
        """Answers now or later, through `respond` or `refuse`. Raises BadRequest."""

    def due(self) -> float | None:
        """When `work` should be called (`time.perf_counter`); None: not before something happens."""

    def work(self) -> None:
        """Does what is due."""

    def sweep(self, now: float) -> None:
        """Now and then."""

    def busy(self) -> bool:
        """Whether answers are under way."""

    def refused(self, code: str) -> None:
        """A request got a 4xx."""

    def failed(self) -> None:
        """A request got a 5xx by a fault of ours."""


class Loop:
    """A bound listener; port 0 takes a free one. `run` serves `application` until `stop`."""

    application: Application

    def __init__(self, host: str, port: int, limits: Limits) -> None:
        self.limits = limits
        self.connections: set[Connection] = set()
        self._listener = socket.create_server((host, port), backlog=1024)
        self._listener.setblocking(False)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._selector = selectors.DefaultSelector()
        self._awake, self._wake = socket.socketpair()
        self._awake.setblocking(False)
        self._wake.setblocking(False)
        self._results: collections.deque[Callable[[], None]] = collections.deque()
        self._ready: collections.deque[Connection] = collections.deque()
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._stopping = self._accepting = False
        self._drained_by: float | None = None
        self._held = self._said = 0
        self._now = self._swept = time.perf_counter()
        self._tail = b""

    # For other threads

    def stop(self) -> None:
        """From any thread or signal: no new requests; answers under way are finished, then `run` returns."""
        self._stopping = True
        self._rouse()

    def call(self, result: Callable[[], None]) -> None:
        """From any thread: the loop calls `result` soon."""
        self._results.append(result)
        self._rouse()

    def _rouse(self) -> None:
        with contextlib.suppress(OSError):  # full of wake-up calls, or at its end
            self._wake.send(b"\0")

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._awake.recv(4096)

    # The loop

    def run(self) -> None:
        """Serves until `stop`."""
        self._selector.register(self._awake, READ, self._woken)
        self._sweep()
        try:
            while not self._drained():
                for key, mask in self._selector.select(self._wait()):
                    if isinstance(key.data, Connection):
                        self.serve(self._event, key.data, mask)
                    else:
                        key.data()
                self._step()
        finally:
            self._listener.close()
            for connection in list(self.connections):
                self.hang_up(connection)
            self._selector.close()
            self._awake.close()
            self._wake.close()

    def _step(self) -> None:
        """What follows the events of one look: results of threads, what is due, requests already read, the clock."""
        self._now = time.perf_counter()
        while self._results:
            self._results.popleft()()
        due = self.application.due()
        if due is not None and due <= self._now:
            self.application.work()
        for _ in range(len(self._ready)):
            connection = self._ready.popleft()
            if connection in self.connections:
                self.serve(self._advance, connection)
        if self._now >= self._swept + SWEEP_SECONDS:
            self._sweep()
        if self._stopping and self._drained_by is None:
            self._drain()

    def _wait(self) -> float:
        """Seconds until something is to be done without an event."""
        if self._ready or self._results or (self._stopping and self._drained_by is None):
            return 0.0
        until, due = self._swept + SWEEP_SECONDS, self.application.due()
        return max(0.0, (until if due is None else min(until, due)) - time.perf_counter())

    def serve(self, do: Callable[..., None], connection: Connection, *args: Any) -> None:
        """Does something for one connection; a fault ends that one alone."""
        try:
            do(connection, *args)
        except OSError:  # the client is gone
            self.hang_up(connection)
        except Exception:
            log.exception("a connection failed")
            self.application.failed()
            self.hang_up(connection)

    def _sweep(self) -> None:
        """Twice a second: whoever keeps us waiting too long is let go."""
        self._swept, self._said = self._now, 0
        self._tail = f"Date: {email.utils.formatdate(usegmt=True)}\r\n\r\n".encode("ascii")
        for connection in [each for each in self.connections if self._now > each.deadline]:
            if connection.phase in (Phase.HEAD, Phase.BODY):
                refusal = BadRequest(HTTPStatus.REQUEST_TIMEOUT, "timeout", "the rest of the request did not arrive")
                self.serve(self.refuse, connection, refusal, True)
            else:
                self.hang_up(connection)
        if not self._accepting:
            self._selector.register(self._listener, READ, self._accept)
            self._accepting = True
        self.application.sweep(self._now)

    def _drain(self) -> None:
        """The beginning of the end: who has asked gets an answer, who asks from now on a 503."""
        for connection in [each for each in self.connections if each.phase is Phase.IDLE]:
            self.serve(self._event, connection, READ)  # what it sent just before counts as asked
            if connection.phase is Phase.IDLE:
                self.hang_up(connection)
        for connection in self.connections:
            connection.close = True
        self._drained_by = self._now + self.limits.drain_s

    def _drained(self) -> bool:
        if self._drained_by is None:
            return False
        waiting = any(connection.phase not in (Phase.IDLE, Phase.LINGER) for connection in self.connections)
        return not (waiting or self._ready or self.application.busy()) or self._now > self._drained_by

    # Connections

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # no file descriptor is left; the next sweep tries again
                log.error("no connection can be taken: %s", error)
                self._selector.unregister(self._listener)
                self._accepting = False
                return
            sock.setblocking(False)
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(sock, self._drained_by is not None)
            connection.enter(Phase.IDLE, self._now, self.limits.patience)
            self.connections.add(connection)
            self._watch(connection, READ)
            if len(self.connections) > self.limits.connections:
                busy = BadRequest(HTTPStatus.SERVICE_UNAVAILABLE, "busy", "too many connections are open")
                self.serve(self.refuse, connection, busy, True)

    def _watch(self, connection: Connection, mask: int) -> None:
        if mask == connection.mask:
            return
        if not connection.mask:
            self._selector.register(connection.sock, mask, connection)
        elif mask:
            self._selector.modify(connection.sock, mask, connection)
        else:
            self._selector.unregister(connection.sock)
        connection.mask = mask

    def hang_up(self, connection: Connection) -> None:
        """Closes a connection, once."""
        if connection in self.connections:
            self.connections.discard(connection)
            self._watch(connection, 0)
            self._hold(connection, 0)
            connection.sock.close()

    def _hold(self, connection: Connection, size: int) -> None:
        """Counts a body of `size` bytes. Raises BadRequest when all bodies together are too much."""
        more = size - connection.held
        if more > 0 and self._held + more > self.limits.memory:
            raise BadRequest(HTTPStatus.TOO_MANY_REQUESTS, "busy", "too many bodies are being received")
        self._held += more
        connection.held = size

    def _event(self, connection: Connection, mask: int) -> None:
        if mask & WRITE:
            assert connection.out is not None
            if connection.send(connection.out):
                self._answered(connection)
            return
        if connection.phase in (Phase.BUSY, Phase.WRITE):
            self._watch(connection, connection.mask & ~READ)  # its next request can wait in the kernel
            return
        try:
            count = connection.receive(self._scratch)
        except BlockingIOError:
            return
        if count == 0:
            self._at_end(connection)
        elif connection.phase is not Phase.LINGER:
            self._advance(connection)

    def _at_end(self, connection: Connection) -> None:
        """The client sends no more: of a request in its middle it may still read why that was not enough."""
        connection.ended = True
        if connection.phase in (Phase.HEAD, Phase.BODY):
            self.refuse(connection, connection.reader.missing(), True)
        elif connection.phase is Phase.IDLE and connection.reader.started:
            self._watch(connection, 0)  # what it asked before its end is read already, and its turn comes
        else:
            self.hang_up(connection)

    def _advance(self, connection: Connection) -> None:
        """The next request of what was read."""
        reader = connection.reader
        try:
            request = reader.request()
            if request is not None:
                self._handle(connection, request.head, request.body)
            elif connection.ended:
                raise reader.missing()
            elif reader.head is not None:
                self._receive_body(connection, reader.head)
            elif reader.started and connection.phase is not Phase.HEAD:
                connection.enter(Phase.HEAD, self._now, self.limits.patience)
        except BadRequest as error:
            self.refuse(connection, error, True)

    def _receive_body(self, connection: Connection, head: Head) -> None:
        """A head is there and its body is not: whether it may come. Raises BadRequest."""
        self._hold(connection, connection.reader.size)
        if connection.phase is Phase.BODY:
            return
        connection.enter(Phase.BODY, self._now, self.limits.patience)
        if head.expects:
            connection.head = head
            self.application.screen(head, connection.late)
            if connection.reader.waits_for_body:
                connection.sock.send(CONTINUE)  # 25 bytes on a line on which nothing waits

    def _handle(self, connection: Connection, head: Head, body: bytearray) -> None:
        connection.enter(Phase.BUSY, self._now, self.limits.patience)
        connection.head = head
        connection.close = connection.close or head.close or connection.late
        try:
            self.application.screen(head, connection.late)
            self.application.handle(connection, head, body)
        except BadRequest as error:
            # Without a length nobody knows where the next request begins.
            self.refuse(connection, error, error.status == HTTPStatus.LENGTH_REQUIRED)

    # Answers

    def refuse(self, connection: Connection, error: BadRequest, unread: bool = False) -> None:
        """Answers with a 4xx (or 503). `unread`: what the client still sends is taken off the line, for nobody."""
        self.application.refused(error.code)
        self._said += 1
        if self._said <= SAID_A_SWEEP:
            log.info("refused: %d %s: %s", error.status, error.code, error)
        connection.close = connection.close or unread
        connection.linger = unread
        again = error.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
        body = json.dumps({"error": {"code": error.code, "message": str(error)}}).encode()
        self.respond(connection, error.status, body, more=error.headers + AGAIN * again)

    def respond(
        self,
        connection: Connection,
        status: HTTPStatus,
        body: bytes,
        *,
        form: str = "application/json",
        stamp: str | None = None,
        more: str = "",
    ) -> None:
        """Sends an answer. `stamp` is the header that says which model gave it, the one in service by default."""
        stamp = self.application.stamp if stamp is None else stamp
        close = "Connection: close\r\n" if connection.close else ""
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {form}\r\n"
            f"Content-Length: {len(body)}\r\n{stamp}{more}{close}"
        ).encode("ascii") + self._tail
        bare = connection.head is not None and connection.head.method == "HEAD"
        if connection.send(head if bare else head + body):
            self._answered(connection)
        else:
            connection.enter(Phase.WRITE, self._now, self.limits.patience)
            self._watch(connection, WRITE)

    def _answered(self, connection: Connection) -> None:
        """The answer is on its way: the connection's next request, or its end."""
        connection.head = None
        self._hold(connection, 0)
        if not connection.close and not (connection.ended and not connection.reader.started):
            connection.enter(Phase.IDLE, self._now, self.limits.patience)
            self._watch(connection, 0 if connection.ended else READ)
            if connection.reader.started:
                self._ready.append(connection)
        elif connection.ended or not (connection.linger or connection.reader.started):
            self.hang_up(connection)
        else:
            # Closing a line with unread bytes on it can destroy the answer: the client's end is waited for.
            connection.sock.shutdown(socket.SHUT_WR)
            connection.enter(Phase.LINGER, self._now, self.limits.patience)
            self._watch(connection, READ)
