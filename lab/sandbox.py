"""Warm processes of Lambda functions: one invocation at a time each, taken again while they are fresh.

Covers: cold and warm starts, globals that live from one invocation to the next, one process for each invocation that
runs at the same time, an end after a time-out, a crash, a failed start, new code or settings, and disuse.
Does not cover: freezing between invocations (a thread that the handler left goes on), provisioned concurrency,
reserved concurrency, SnapStart.
"""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from lab import child, runtimes

if TYPE_CHECKING:
    from lab.engine import Engine

INIT_SECONDS = 10.0
# AWS keeps an idle one for some minutes; on a desk memory is dearer than a second of start.
IDLE_SECONDS = 60.0
# The session of its role ends after an hour.
LIFE_SECONDS = 45 * 60.0
# After its own limit a process ends itself; one that cannot is ended.
GRACE_SECONDS = 2.0


@dataclass(frozen=True)
class Reply:
    """What one invocation gave. `payload` is None when the process ended without an answer, with status `rc`.

    started, ended      seconds since the epoch; a cold start's first second is its process's
    init_seconds        what a cold start took before the handler was called; None for a warm one
    said                what the process printed meanwhile
    """

    payload: str | None
    failed: bool
    timed_out: bool
    rc: int
    started: float
    ended: float
    init_seconds: float | None
    said: str


@dataclass
class Sandbox:
    """One process of a function and our end of the pipe to it."""

    running: child.Running
    pipe: Connection
    init_seconds: float | None = None
    spent: bool = False
    used: float = field(default_factory=time.monotonic)
    born: float = field(default_factory=time.monotonic)

    def invoke(self, request_id: str, event: str, limit: float) -> Reply:
        """Has the process handle `event` (JSON text) within `limit` seconds."""
        cold = self.init_seconds is None
        started = self.running.started if cold else time.time()
        already = _size(self.running.log)
        answer, timed_out = self._answer(request_id, event, limit, cold)
        ended, rc = time.time(), 0
        if answer is None:
            result = self.running.stop(0.0) if timed_out else self.running.wait()
            assert result is not None
            rc, timed_out = result.rc, timed_out or result.rc == child.TIMED_OUT
        with self.running.log.open("rb") as log:
            log.seek(0 if cold else already)
            said = log.read().decode("utf-8", "replace")
        self.used, self.spent = time.monotonic(), answer is None or bool(answer["last"])
        payload, failed = (None, True) if answer is None else (str(answer["payload"]), bool(answer["error"]))
        return Reply(payload, failed, timed_out, rc, started, ended, self.init_seconds if cold else None, said)

    def _answer(
        self, request_id: str, event: str, limit: float, cold: bool
    ) -> tuple[Mapping[str, object] | None, bool]:
        """The process's answer, or None, and whether our patience was what ended the wait."""
        try:
            if cold:
                if not self.pipe.poll(INIT_SECONDS + limit):
                    return None, True
                self.pipe.recv_bytes()
                self.init_seconds = time.time() - self.running.started
            self.pipe.send_bytes(json.dumps({"id": request_id, "event": event}).encode())
            if not self.pipe.poll(limit + GRACE_SECONDS):
                return None, True
            answer: Mapping[str, object] = json.loads(self.pipe.recv_bytes())
            return answer, False
        except (EOFError, OSError):
            return None, False

    def fresh(self) -> bool:
        """Whether it may be taken again."""
        now = time.monotonic()
        # It goes by itself after IDLE_SECONDS; the half keeps that moment clear of ours.
        young = now - self.born < LIFE_SECONDS and now - self.used < IDLE_SECONDS / 2
        return young and not self.spent and self.running.poll() is None

    def end(self) -> None:
        """Lets the process go; its log goes with it."""
        self.pipe.close()
        self.running.log.unlink(missing_ok=True)


class Sandboxes:
    """The idle processes of every function of an engine, the last used on top."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[str, list[tuple[object, Sandbox]]] = {}

    def take(self, name: str, key: object, start: Callable[[], Sandbox]) -> Sandbox:
        """An idle process of function `name` as `key` describes it, or a new one; all stale ones are ended."""
        good: list[tuple[object, Sandbox]] = []
        stale: list[tuple[object, Sandbox]] = []
        with self._lock:
            for kept in self._idle.pop(name, []):
                (good if kept[0] == key and kept[1].fresh() else stale).append(kept)
            taken = good.pop()[1] if good else None
            self._idle[name] = good
        for _, one in stale:
            one.end()
        return taken or start()

    def give_back(self, name: str, key: object, sandbox: Sandbox) -> None:
        """Keeps a process for the next invocation, unless it has ended."""
        if not sandbox.fresh():
            sandbox.end()
            return
        with self._lock:
            self._idle.setdefault(name, []).append((key, sandbox))


def start(engine: Engine, what: child.Child, folder: Path) -> Sandbox:
    """A new process of a function; `what` is all of it but its command, its log and the pipe."""
    ours, theirs = multiprocessing.Pipe()
    bootstrap = runtimes.guard_folder() / "lambda_bootstrap.py"
    argv: Sequence[str] = ["python", str(bootstrap), str(theirs.fileno()), str(IDLE_SECONDS)]
    log = folder / f"{uuid.uuid4().hex}.log"
    try:
        running = child.start(replace(what, argv=argv, log=log, keeps=[theirs.fileno()]), engine)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return Sandbox(running, ours)


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0
