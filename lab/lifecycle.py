"""One component on a core device: install, startup until it says RUNNING, three restarts an hour, then BROKEN.

Semantics are those of nucleus lite: `startup` succeeds only when the process reports RUNNING, over IPC or with READY=1
on $NOTIFY_SOCKET; one that ends before has failed, whatever its exit status. `run` succeeds once it has started.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import child
from lab.engine import Engine
from lab.errors import EngineError
from lab.faults import Faults
from lab.ipc import Registration, Server, new_token
from lab.recipe import Phase, Recipe, interpolate

FAILURES = 3
PER_SECONDS = 3600.0
POLL = 0.05


class ComponentFailed(Exception):
    """The component did not come up; the message names the phase, the cause and its last log lines."""


@dataclass(frozen=True)
class Host:
    """What a component needs of its device. `changed` is called when its state changes and when a process starts."""

    engine: Engine
    thing: str
    root: Path
    server: Server
    role_arn: str | None
    nucleus: str
    changed: Callable[[], None]
    faults: Faults

    def work(self, name: str) -> Path:
        return self.root / "work" / name

    def artifacts(self, recipe: Recipe) -> Path:
        return self.root / "artifacts" / recipe.name / recipe.version

    def unarchived(self, recipe: Recipe) -> Path:
        return self.root / "artifacts-unarchived" / recipe.name / recipe.version

    def log(self, name: str) -> Path:
        return self.root / "logs" / f"{name}.log"


class Component:
    """A version with its configuration, and the process that serves it."""

    def __init__(self, recipe: Recipe, configuration: dict[str, Any], host: Host, root: bool) -> None:
        self.recipe = recipe
        self.host = host
        self.is_root = root
        self.state = "NEW"
        self.detail = ""
        self.since = time.time()
        self.registration = Registration(recipe.name, configuration, self._on_state)
        self._process: child.Running | None = None
        self._ready = threading.Event()
        self._stopping = False
        self._installed = False
        self._failures: list[float] = []

    @property
    def healthy(self) -> bool:
        return self.state in ("RUNNING", "FINISHED")

    @property
    def pid(self) -> int | None:
        """The process id of what `startup` or `run` started."""
        return self._process.pid if self._process else None

    def bring_up(self) -> None:
        """Starts the component with a new token, up to three times. Raises ComponentFailed when it is BROKEN."""
        self.host.work(self.recipe.name).mkdir(parents=True, exist_ok=True)
        while True:
            self.host.server.unregister(self.registration.token)
            self.registration.token = new_token()
            self.host.server.register(self.registration)
            try:
                self._attempt()
                return
            except ComponentFailed as error:
                if self._broken(str(error)):
                    raise

    @property
    def alive(self) -> bool:
        """Whether what `startup` or `run` started runs still."""
        return self._process is not None and self._process.poll() is None

    def restart(self) -> None:
        """Ends the process and starts it anew, which is no failure. Raises ComponentFailed."""
        process, self._process = self._process, None  # whoever watches it knows by this that it has not failed
        if process is not None:
            process.stop()
        self.bring_up()

    def stop(self) -> None:
        """Ends the process (SIGTERM, then SIGKILL) and forgets its token."""
        self._stopping = True
        if self._process is not None and self._process.poll() is None:
            self._process.stop()
        self.host.server.unregister(self.registration.token)

    def _broken(self, reason: str) -> bool:
        """Counts a failure; True when it was the third within the hour."""
        now = time.time()
        self._failures = [*(one for one in self._failures if now - one < PER_SECONDS), now]
        if len(self._failures) < FAILURES and not self._stopping:
            self._become("ERRORED", reason)
            return False
        self._become("BROKEN", reason)
        return True

    def _become(self, state: str, detail: str = "") -> None:
        self.state, self.detail, self.since = state, detail, time.time()
        self.host.changed()

    def _on_state(self, state: str) -> None:
        # UpdateState(ERRORED) does nothing on lite: a process that gives up also has to exit.
        if state == "RUNNING":
            self._ready.set()

    def _attempt(self) -> None:
        phases = self.recipe.phases
        if "install" in phases and not self._installed:
            started = self._start("install", phases["install"], {})
            self._finish_install(started, phases["install"].timeout)
            self._installed = True
            self._become("INSTALLED")
        name = "startup" if "startup" in phases else "run"
        if name not in phases:
            raise ComponentFailed("the recipe has neither startup nor run; lite waits 300 s for one and fails")
        self._become("STARTING")
        self._ready.clear()
        with _Notify(self.host.server.path.parent, self.recipe.name, self._ready) as notify:
            process = self._start(name, phases[name], {"NOTIFY_SOCKET": str(notify)})
            self._process = process
            self.host.changed()
            if name == "startup":
                self._await_ready(process, phases[name].timeout)
        self._become("RUNNING")
        threading.Thread(target=self._watch, args=(process,), daemon=True).start()

    def _finish_install(self, process: child.Running, timeout: float) -> None:
        result = process.wait(timeout)
        if result is None:
            process.stop()
            raise ComponentFailed(self._say(f"install did not end within {timeout:g} s"))
        if result.rc != 0:
            raise ComponentFailed(self._say(f"install exited with {result.rc}"))

    def _await_ready(self, process: child.Running, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not self._ready.wait(POLL):
            ended = process.poll()
            # The word may have come between the wait and the poll.
            if ended is not None and not self._ready.wait(POLL):
                raise ComponentFailed(self._say(f"startup exited with {ended.rc} before it reported RUNNING"))
            if time.monotonic() > deadline:
                process.stop()
                raise ComponentFailed(self._say(f"startup did not report RUNNING within {timeout:g} s"))

    def _say(self, what: str) -> str:
        log = self.host.log(self.recipe.name)
        lines = log.read_text("utf-8", "replace").splitlines() if log.is_file() else []
        tail = "\n".join(line for line in lines[-8:] if line.strip())
        return f"{self.recipe.name} {self.recipe.version}: {what}" + (f"; its log ends:\n{tail}" if tail else "")

    def _watch(self, process: child.Running) -> None:
        """Waits for the end of a running process: exit 0 is FINISHED, anything else a restart until BROKEN."""
        ended = process.wait()
        if ended is None or self._stopping or process is not self._process:
            return
        if ended.rc == 0:
            self._become("FINISHED")
        elif not self._broken(self._say(f"the process exited with {ended.rc}")):
            try:
                self.bring_up()
            except (ComponentFailed, EngineError):
                return  # the state says BROKEN and why, there is no deployment to fail; or the engine is ending

    def _start(self, name: str, phase: Phase, more: Mapping[str, str]) -> child.Running:
        host, recipe = self.host, self.recipe
        variables = {
            "artifacts:path": str(host.artifacts(recipe)),
            "artifacts:decompressedPath": str(host.unarchived(recipe)),
            "kernel:rootPath": str(host.root),
            "iot:thingName": host.thing,
            "work:path": str(host.work(recipe.name)),
        }
        configuration = self.registration.configuration
        script = interpolate(phase.script, variables, configuration)
        environment = {key: interpolate(value, variables, configuration) for key, value in phase.environment.items()}
        bundles = [host.unarchived(recipe) / item.stem for item in recipe.artifacts if item.unarchive]
        device = {
            "SVCUID": self.registration.token,
            "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT": str(host.server.path),
            "AWS_IOT_THING_NAME": host.thing,
            "GGC_VERSION": host.nucleus,
        }
        return child.start(
            child.Child(
                kind="device",
                service="greengrassv2",
                name=f"{host.thing}-{recipe.name}",
                argv=("/bin/sh", "-c", script),
                cwd=host.work(recipe.name),
                env={**device, **environment, **more, **host.faults.environment()},
                runtime="edge",
                bundle_paths=tuple(bundles),
                role_arn=host.role_arn,
                session=host.thing,
                log=host.log(recipe.name),
                ledger=False,
            ),
            host.engine,
        )


class _Notify:
    """A socket that takes systemd's READY=1, for a startup that has no SDK; gives its path."""

    def __init__(self, folder: Path, name: str, ready: threading.Event) -> None:
        self._path = folder / f"n{abs(hash(name)) % 10**8}"
        self._ready = ready
        self._open = True
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def __enter__(self) -> Path:
        self._path.unlink(missing_ok=True)
        self._socket.bind(str(self._path))
        self._socket.settimeout(POLL)
        self._thread.start()
        return self._path

    def _listen(self) -> None:
        while self._open:
            try:
                message = self._socket.recv(4096)
            except TimeoutError:
                continue
            if b"READY=1" in message.split(b"\n"):
                self._ready.set()

    def __exit__(self, *_: object) -> None:
        self._open = False
        self._thread.join()
        self._socket.close()
        self._path.unlink(missing_ok=True)
