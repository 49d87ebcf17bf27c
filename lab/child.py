"""Runs a child of the engine with its own bundle, role, time limit and log.

Covers: imports (guard/sitecustomize.py), environment, role credentials, time limit, log file, ledger, and the end of
the whole process group with the child, with the engine, and after a kill -9 of the engine (reaper.py).
Does not cover: limits on memory, CPU, disk or network, and no file of the machine is hidden from a child.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lab import identity, runtimes
from lab.errors import EngineError

if TYPE_CHECKING:
    from lab.engine import Engine

# What a child takes over from our own environment; all else it gets by name.
INHERITED = (
    "PATH",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "TZ",
    "MALLOC_ARENA_MAX",
)
TIMED_OUT = 124


@dataclass(frozen=True)
class Child:
    """What to run. `bundle_paths` hold the child's own modules, first found first.

    kind        job, function, endpoint, device or build (the ledger's word)
    runtime     a key of lab.json's `runtimes`; `grants` adds the closures of further distributions
    role_arn    the role whose session it acts with; None gives it no credentials
    session     the session's name where that is not the child's: a device's policy asks for the thing
    timeout_s   seconds until the group gets SIGTERM, and `grace_s` later SIGKILL; None for no limit
    log         its output, appended; `<root>/jobs/<service>/<name>/log.txt` when None
    keeps       descriptors of ours that it keeps open under their numbers
    ledger      whether its end is noted in the ledger
    isolated    it gets no session and no endpoint, and its sockets reach this machine alone
    """

    kind: str
    service: str
    name: str
    argv: Sequence[str]
    cwd: Path
    env: Mapping[str, str]
    runtime: str
    bundle_paths: Sequence[Path]
    role_arn: str | None = None
    session: str | None = None
    timeout_s: float | None = None
    grace_s: float = 5.0
    grants: Sequence[str] = ()
    log: Path | None = None
    keeps: Sequence[int] = ()
    ledger: bool = True
    isolated: bool = False


@dataclass(frozen=True)
class Result:
    """How a child ended. `rc` is negative for a signal; `timed_out` says that the limit ended it."""

    rc: int
    log: Path
    seconds: float
    timed_out: bool = False


@dataclass
class Running:
    """A started child. `wait` gives its result, `stop` ends it with its whole group."""

    child: Child
    engine: Engine
    popen: subprocess.Popen[bytes]
    log: Path
    started: float
    _ended: threading.Event = field(default_factory=threading.Event)
    _result: Result | None = None
    _timed_out: bool = False

    @property
    def pid(self) -> int:
        return self.popen.pid

    def poll(self) -> Result | None:
        """The result when it has ended, else None."""
        return self._result if self._ended.is_set() else None

    def wait(self, timeout: float | None = None) -> Result | None:
        """Waits for the end; None when `timeout` seconds were not enough."""
        self._ended.wait(timeout)
        return self.poll()

    def stop(self, grace_s: float | None = None) -> Result:
        """SIGTERM to the group, SIGKILL after `grace_s`; returns when it is gone."""
        self._signal(signal.SIGTERM)
        if not self._ended.wait(self.child.grace_s if grace_s is None else grace_s):
            self._signal(signal.SIGKILL)
        self._ended.wait()
        assert self._result is not None
        return self._result

    def expire(self) -> None:
        """Ends it as its time limit does."""
        self._timed_out = True
        self.stop()

    def _signal(self, number: int) -> None:
        if not self._ended.is_set():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.popen.pid, number)

    def _attend(self) -> None:
        """Waits for the child in a thread of its own, then sweeps what it left in its group."""
        timer = None
        if self.child.timeout_s is not None:
            timer = threading.Timer(self.child.timeout_s, self.expire)
            timer.daemon = True
            timer.start()
        _wait_and_sweep(self.popen)
        if timer is not None:
            timer.cancel()
        ended = time.time()
        self._result = Result(self.popen.returncode, self.log, ended - self.started, self._timed_out)
        _children.forget(self)
        if self.child.ledger:
            note(self.engine, self.child, self.started, ended, self.popen.returncode, self.log)
        self._ended.set()


def _wait_and_sweep(popen: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "waitid"):
        # The leader stays a zombie until its group is swept, so that its group id cannot be given to another.
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, popen.pid, os.WEXITED | os.WNOWAIT)
    else:
        popen.wait()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(popen.pid, signal.SIGKILL)
    popen.wait()


class _Children:
    """Every running child of this process, and the reaper that outlives it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.handles: dict[int, Running] = {}
        self.reaper: subprocess.Popen[bytes] | None = None
        self.closed = False

    def spawn(self, argv: list[str], child: Child, engine: Engine, env: dict[str, str], log: Path) -> Running:
        with self.lock, log.open("ab") as out:
            if self.closed:
                raise EngineError(f"the engine is ending; {child.service} {child.name} was not started")
            started = time.time()
            popen = subprocess.Popen(
                argv,
                cwd=child.cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=tuple(child.keeps),
            )
            self._tell(f"+{popen.pid}")
            running = self.handles[popen.pid] = Running(child, engine, popen, log, started)
        threading.Thread(target=running._attend, name=f"child-{child.name}", daemon=True).start()
        return running

    def forget(self, running: Running) -> None:
        with self.lock:
            self.handles.pop(running.pid, None)
            self._tell(f"-{running.pid}")

    def _tell(self, word: str) -> None:
        if self.reaper is None or self.reaper.poll() is not None:
            self.reaper = self._start_reaper()
        assert self.reaper.stdin is not None
        self.reaper.stdin.write(f"{word}\n".encode())
        self.reaper.stdin.flush()

    def _start_reaper(self) -> subprocess.Popen[bytes]:
        reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("reaper.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert reaper.stdin is not None
        for pid in self.handles:
            reaper.stdin.write(f"+{pid}\n".encode())
        return reaper

    def close(self, grace_s: float) -> None:
        with self.lock:
            self.closed = True
            alive = list(self.handles.values())
        for running in alive:
            running._signal(signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        for running in alive:
            running.wait(max(0.0, deadline - time.monotonic()))
        for running in alive:
            running.stop(0.0)
        with self.lock:
            reaper, self.reaper = self.reaper, None
            self.closed = False
        if reaper is not None and reaper.stdin is not None:
            reaper.stdin.close()
            reaper.wait()


_children = _Children()


def start(child: Child, engine: Engine) -> Running:
    """Starts a child and returns at once. Raises EngineError when its runtime is not what is installed."""
    folder = job_folder(engine, child.service, child.name)
    log = child.log or folder / "log.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    argv = list(child.argv)
    if argv[0] in ("python", "python3"):
        argv[0] = sys.executable
    return _children.spawn(argv, child, engine, environment(child, engine, folder), log)


def run(child: Child, engine: Engine) -> Result:
    """Runs a child to its end."""
    result = start(child, engine).wait()
    assert result is not None
    return result


def stop_all(grace_s: float = 3.0) -> None:
    """Ends every child and every process in its group, politely first; then the engine leaves nothing behind."""
    _children.close(grace_s)


def job_folder(engine: Engine, service: str, name: str) -> Path:
    """The folder of a job: `<root>/jobs/<service>/<name>`. EngineError for a name that leads elsewhere."""
    jobs = engine.root / "jobs" / service
    folder = jobs / name
    if ".." in folder.parts or not folder.is_relative_to(jobs) or folder == jobs:
        raise EngineError(f"{name!r} cannot name a {service} job: it is no file name")
    return folder


def environment(child: Child, engine: Engine, folder: Path) -> dict[str, str]:
    """All of a child's environment; `child.env` comes last and may replace any of it but the guard."""
    runtime = runtimes.resolve(engine, child.runtime, child.grants)
    scratch = folder / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    own_bin = str(Path(sys.executable).parent)
    given = dict(child.env)
    bundle = [str(path) for path in child.bundle_paths]
    path_of_child = [str(runtimes.guard_folder()), *bundle, *filter(None, [given.pop("PYTHONPATH", "")])]
    env = {name: os.environ[name] for name in INHERITED if name in os.environ}
    env |= {
        "PATH": os.pathsep.join([own_bin, env.get("PATH", os.defpath)]),
        "HOME": str(folder),
        "TMPDIR": str(scratch),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        # Threads that spin while they wait starve a desk where several jobs share the cores: a training step took
        # five times as long.
        "OMP_WAIT_POLICY": env.get("OMP_WAIT_POLICY", "PASSIVE"),
        "PYTHONUNBUFFERED": "1",
        "PYTHONNOUSERSITE": "1",
        "AWS_REGION": engine.region,
        "AWS_DEFAULT_REGION": engine.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    if child.isolated:
        env["LAB_ISOLATED"] = engine.endpoint
    else:
        env["AWS_ENDPOINT_URL"] = engine.endpoint
    if child.role_arn is not None and not child.isolated:
        env |= identity.assume(engine, child.role_arn, child.session or child.name).environment()
    env |= given
    env |= {
        "PYTHONPATH": os.pathsep.join(path_of_child),
        "LAB_RUNTIME": child.runtime,
        "LAB_RUNTIME_PACKAGES": json.dumps(runtime.packages),
        "LAB_BUNDLE": os.pathsep.join([*bundle, str(folder)]),
    }
    return env


_ledger_lock = threading.Lock()


def note(engine: Engine, child: Child, start: float, end: float, rc: int, log: Path) -> None:
    """Adds one line to `<root>/ledger.jsonl`; times are seconds since the epoch."""
    try:
        where = str(log.relative_to(engine.root))
    except ValueError:
        where = str(log)
    row = {"kind": child.kind, "service": child.service, "name": child.name}
    line = json.dumps({**row, "start": start, "end": end, "rc": rc, "log": where}) + "\n"
    with _ledger_lock, (engine.root / "ledger.jsonl").open("a", encoding="utf-8") as ledger:
        ledger.write(line)
