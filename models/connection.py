"""One client's connection: what it is waiting for and until when, what it asked, what is still to be sent to it."""

from __future__ import annotations

import enum
import socket
from dataclasses import dataclass

from models.http1 import Head, Reader


class Phase(enum.IntEnum):
    """What a connection waits for."""

    IDLE = 0  # a request
    HEAD = 1  # the rest of a head
    BODY = 2  # the rest of a body
    BUSY = 3  # an answer of ours
    WRITE = 4  # the client, to take the answer
    LINGER = 5  # the client, to stop sending what nobody reads


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Seconds until a connection that stays in a phase is given up."""

    idle: float = 75.0
    head: float = 10.0
    body: float = 60.0
    busy: float = 300.0
    write: float = 30.0
    linger: float = 5.0

    def of(self, phase: Phase) -> float:
        return (self.idle, self.head, self.body, self.busy, self.write, self.linger)[phase]


class Connection:
    """Its socket never blocks."""

    __slots__ = (
        "close", "deadline", "ended", "head", "held", "late", "linger", "mask", "out", "phase", "reader", "sock",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, late: bool) -> None:
        self.sock = sock
        self.reader = Reader()
        self.phase = Phase.IDLE
        self.deadline = 0.0
        self.mask = 0  # what the selector watches
        self.held = 0  # bytes of memory that its body is counted with
        self.head: Head | None = None  # of the request that is being answered
        self.out: memoryview | None = None  # what the client has not taken yet
        self.late = late  # opened after the server was told to stop
        self.close = False  # after this answer
        self.linger = False  # after this answer, the client still sends what nobody reads
        self.ended = False  # the client sends no more

    def enter(self, phase: Phase, now: float, patience: Patience) -> None:
        """The next phase, and its deadline."""
        self.phase = phase
        self.deadline = now + patience.of(phase)

    def receive(self, scratch: memoryview) -> int:
        """Reads what is there into the body it belongs to, or through `scratch`; 0 at the end. Raises OSError."""
        room = self.reader.room() if self.phase is Phase.BODY else None
        if room is not None:
            count = self.sock.recv_into(room)
            self.reader.took(count)
            return count
        count = self.sock.recv_into(scratch)
        if self.phase is not Phase.LINGER:
            self.reader.feed(scratch[:count])
        return count

    def send(self, data: bytes | memoryview) -> bool:
        """Sends what the line takes and keeps the rest; whether all went. Raises OSError."""
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        self.out = None if sent == len(data) else memoryview(data)[sent:]
        return self.out is None
