"""Carries what the spool holds to the cloud, one message at a time, in a thread that nothing waits for."""

from __future__ import annotations

import json
import logging
import random
import threading
import uuid
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from edge.nucleus import Refused
from edge.spool import ALERT, RESULT, TELEMETRY, Spool

SCHEMA = 2
# Base64 makes four bytes of three, and a frame to the nucleus may have 10,000.
FRAME = 5_500
WAITING = 1_024
PAUSE_S = (0.2, 30.0)
_log = logging.getLogger(__name__)


class Sender(Protocol):
    """The nucleus, as far as sending goes."""

    def publish(self, topic: str, payload: bytes) -> bool: ...


class Forwarder:
    """`<prefix>/<thing>/alert`, `telemetry` and `results` go through the spool to the nucleus.

    An alert is on disk when `alert` returns. A result is only queued: a thread writes results down together, so that
    an inference never waits for a disk.
    """

    def __init__(self, spool: Spool, sender: Sender | None, prefix: str, thing: str) -> None:
        self.spool = spool
        self.sender = sender
        self.thing = thing
        self._topics = f"{prefix}/{thing}"
        self._results: deque[bytes] = deque()
        self._lost = 0
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=one, daemon=True) for one in (self._write, self._send)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, patience: float = 2.0) -> None:
        """Writes the results that wait; what is not sent yet stays in the spool."""
        self._stop.set()
        self._wake.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(patience)
        self._flush()
        self.spool.close()

    def alert(self, kind: str, **about: Any) -> None:
        """Something that a person may have to act on; goes before all else."""
        message = {**stamped(self.thing), "kind": kind, **about}
        self.spool.put(ALERT, f"{self._topics}/alert", json.dumps(message).encode())
        self._wake.set()

    def telemetry(self, message: bytes) -> None:
        self.spool.put(TELEMETRY, f"{self._topics}/telemetry", message)
        self._wake.set()

    def result(self, answer: Mapping[str, Any]) -> None:
        """One answer of the model; the oldest that waits is given up where they come faster than the disk takes."""
        self._results.append(json.dumps(answer).encode())
        if len(self._results) > WAITING:
            with self._lock:
                self._results.popleft()
                self._lost += 1

    def dropped(self) -> dict[str, int]:
        """What was given up since the start, by class."""
        counts = dict(self.spool.dropped)
        if self._lost:
            counts["result"] = counts.get("result", 0) + self._lost
        return counts

    def _write(self) -> None:
        while not self._stop.wait(0.2):
            self._flush()

    def _flush(self) -> None:
        frames, lines, size = [], list[bytes](), 0
        while self._results:
            line = self._results.popleft()
            if size + len(line) + 1 > FRAME - 200 and lines:
                frames.append(self._frame(lines))
                lines, size = [], 0
            lines.append(line)
            size += len(line) + 1
        if lines:
            frames.append(self._frame(lines))
        if frames:
            self.spool.put_all(RESULT, f"{self._topics}/results", frames)
            self._wake.set()

    def _frame(self, lines: list[bytes]) -> bytes:
        head = json.dumps(stamped(self.thing)).encode()[:-1]
        return head + b', "results": [' + b",".join(lines) + b"]}"

    def _send(self) -> None:
        pause = PAUSE_S[0]
        while not self._stop.is_set():
            message = self.spool.first() if self.sender else None
            if message is None:
                self._wake.wait(1.0)
                self._wake.clear()
                continue
            assert self.sender is not None
            try:
                sent = self.sender.publish(message.topic, message.payload)
            except Refused as error:  # for ever: it must not hold up what comes after it
                _log.error("a message to %s is given up: %s", message.topic, error)
                self.spool.dropped["refused"] += 1
                sent = True
            if sent:
                self.spool.done(message)
                pause = PAUSE_S[0]
            else:
                # Full jitter: a fleet that lost its broker must not come back all at once (Brooker, AWS, 2015).
                self._stop.wait(random.uniform(0, pause))
                pause = min(PAUSE_S[1], pause * 2)


def stamped(thing: str) -> dict[str, Any]:
    """What every message starts with; the id lets a receiver know one that comes twice."""
    return {
        "schema": SCHEMA,
        "id": str(uuid.uuid4()),
        "thing": thing,
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
