"""Starts and ends the embedded AWS: the child process `python -m lab.server`.

The server writes `engine.json` into its root when it answers; that file, with a live process behind it, is the only
sign of a running engine. A file whose process is gone is stale and removed.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import processes
from lab.errors import EngineError
from lab.home import Home, read_json

if TYPE_CHECKING:
    from lab.engine import Engine

READY_SECONDS = 60.0
# The servers that this process started; a child must stay known to be waited for.
_STARTED: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Server:
    """A running embedded AWS, as its engine.json tells."""

    root: Path
    pid: int
    port: int
    endpoint: str
    region: str
    account: str

    def ready(self) -> Server:
        """This server, which answers already."""
        return self

    def engine(self) -> Engine:
        """The engine behind this server, to make clients with."""
        from lab.engine import Engine

        return Engine(self.root, self.endpoint, self.region, self.account, self.root / "assembly")


def running(root: Path) -> Server | None:
    """The server that runs in `root`, or None; a stale engine.json goes."""
    path = root / "engine.json"
    if not path.is_file():
        return None
    said: dict[str, Any] = read_json(path)
    if not processes.is_ours(int(said["pid"]), str(root)):
        path.unlink(missing_ok=True)
        return None
    return Server(
        root, int(said["pid"]), int(said["port"]), str(said["endpoint"]), str(said["region"]), str(said["account"])
    )


class Starting:
    """A server on its way up in `root`; `ready` waits for it, `end` ends it whatever it has come to."""

    def __init__(self, home: Home, root: Path, *, region: str, port: int, with_us: bool) -> None:
        if port:
            _refuse_used_port(port)
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        (root / "engine.json").unlink(missing_ok=True)
        argv = [sys.executable, "-m", "lab.server", "--root", str(root), "--port", str(port), "--region", region]
        if with_us:
            argv.append("--watch-parent")
        with (root / "server.log").open("ab") as log:
            self._child = subprocess.Popen(
                argv,
                cwd=home.repo,
                env=environment(home),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _STARTED[self._child.pid] = self._child

    def ready(self) -> Server:
        """Waits until it answers. Raises EngineError with the server's own last words when it ends instead."""
        log = self.root / "server.log"
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self._child.poll() is not None:
                said = "\n  ".join(last_lines(log, 12))
                raise EngineError(f"the embedded AWS ended with {self._child.returncode}:\n  {said}", "try: lab doctor")
            if (self.root / "engine.json").is_file() and (server := running(self.root)) is not None:
                return server
            time.sleep(0.02)
        raise EngineError(f"the embedded AWS did not answer in {READY_SECONDS:.0f} s", f"read {log}")

    def end(self) -> None:
        """Ends it and every process it started, politely first."""
        _end(self._child.pid, self.root)


def start(home: Home, root: Path, *, region: str, port: int = 0, with_us: bool) -> Server:
    """Starts a server in `root` and waits until it answers.

    `port` 0 takes a free one. `with_us` ties its life to this process.
    """
    starting = Starting(home, root, region=region, port=port, with_us=with_us)
    try:
        return starting.ready()
    except BaseException:
        starting.end()
        raise


def environment(home: Home) -> dict[str, str]:
    """The environment of our children: ours, with the repository first to import from."""
    return {**os.environ, "PYTHONPATH": str(home.repo), "PYTHONUNBUFFERED": "1"}


def stop(server: Server) -> None:
    """Ends a server and every process it started, politely first."""
    _end(server.pid, server.root)


def _end(pid: int, root: Path) -> None:
    processes.end_tree(pid)
    started = _STARTED.pop(pid, None)
    if started is not None:
        started.wait()
    (root / "engine.json").unlink(missing_ok=True)


@contextmanager
def ephemeral(home: Home, *, region: str) -> Iterator[Starting]:
    """A server for the time of one `with`, on its way up at first: it ends with the block, whatever ends the block."""
    _sweep(home.engines)
    root = home.engines / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    starting = Starting(home, root, region=region, port=0, with_us=True)
    try:
        yield starting
    finally:
        starting.end()
        if not os.environ.get("LAB_KEEP_ENGINE"):
            shutil.rmtree(root, ignore_errors=True)


def _sweep(engines: Path) -> None:
    """Removes what a killed run left: roots whose server is gone."""
    for root in engines.glob("*-*"):
        owner = root.name.rpartition("-")[2]
        if owner.isdigit() and not processes.is_ours(int(owner), "lab") and running(root) is None:
            shutil.rmtree(root, ignore_errors=True)


def _refuse_used_port(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            raise EngineError(f"port {port} needs more rights than you have", "choose one: --port 4600") from None
        except OSError:
            hint = "choose another: --port 4600, or --port 0 for any free one"
            raise EngineError(f"port {port} is in use by another program", hint) from None


def last_lines(path: Path, count: int) -> list[str]:
    """The last `count` lines of a text file, read from its end; empty when there is no file."""
    try:
        with path.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - 400 * count - 4096))
            text = stream.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]
