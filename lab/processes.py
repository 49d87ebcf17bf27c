"""Children of the command line: run one to its end, and end one with all that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Finished:
    """A child that ended: exit status and what it wrote."""

    rc: int
    out: str
    err: str

    def last_lines(self, count: int = 12) -> list[str]:
        """The last non-empty lines of its error stream, or of its output when that is empty."""
        lines = [line for line in (self.err.strip() or self.out.strip()).splitlines() if line.strip()]
        return lines[-count:]


class Running:
    """A child in a process group of its own; leaving its `with` ends it when it still runs."""

    def __init__(self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> None:
        self._out = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the child's `with` ends
        self._err = tempfile.TemporaryFile()  # noqa: SIM115
        self._child = subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._child.pid

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child.poll() is None:
            end_tree(self._child.pid, grace=2.0)
            self._child.wait()
        self._out.close()
        self._err.close()

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._child.poll() is None

    def wait(self) -> Finished:
        """Waits for its end."""
        rc = self._child.wait()
        texts = []
        for stream in (self._out, self._err):
            stream.seek(0)
            texts.append(stream.read().decode("utf-8", errors="replace"))
        return Finished(rc, *texts)


def run(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> Finished:
    """Runs a child to its end; an interrupt here ends its whole group."""
    with Running(argv, cwd=cwd, env=env) as child:
        return child.wait()


def end_tree(pid: int, *, grace: float = 10.0) -> None:
    """Asks process `pid` to end (SIGTERM); after `grace` seconds kills it and everything it started."""
    try:
        root = psutil.Process(pid)
        family = root.children(recursive=True)
    except psutil.NoSuchProcess:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        root.terminate()
    deadline = time.monotonic() + grace
    gone = False
    while not gone and time.monotonic() < deadline:
        time.sleep(0.02)
        with contextlib.suppress(psutil.NoSuchProcess):
            family = _merged(family, root.children(recursive=True))
        gone = _ended(root)
    _kill([*family, root])


def _merged(old: list[psutil.Process], new: list[psutil.Process]) -> list[psutil.Process]:
    known = {process.pid for process in old}
    return old + [process for process in new if process.pid not in known]


def _ended(process: psutil.Process) -> bool:
    """Whether the process is gone; a child of ours that ended is reaped on the way."""
    with contextlib.suppress(ChildProcessError, OSError):
        os.waitpid(process.pid, os.WNOHANG)
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.kill()
    wait_until(lambda: all(_ended(process) for process in processes), seconds=3.0, step=0.02)


def is_ours(pid: int, mark: str) -> bool:
    """Whether `pid` is alive and its command line contains `mark` (process ids are used again)."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and any(mark in word for word in process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


class Interrupted(KeyboardInterrupt):
    """SIGTERM or SIGHUP, raised like Ctrl-C so that every `finally` runs."""


def stop_like_ctrl_c() -> None:
    """Makes SIGTERM and SIGHUP unwind the stack like Ctrl-C does.

    SIGINT too, which a shell script has its background commands ignore; nohup's wish to ignore SIGHUP is kept.
    """

    def unwind(number: int, _frame: object) -> None:
        raise Interrupted(signal.Signals(number).name)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, unwind)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, unwind)


def wait_until(done: Callable[[], bool], *, seconds: float, step: float = 0.05) -> bool:
    """Polls `done` until it is true or the time is over; says which."""
    deadline = time.monotonic() + seconds
    while True:
        if done():
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(step)
