"""A core device of the desk, which carries out deployments as nucleus lite does.

Covers: deployments to its thing groups and to the thing itself; artefacts from S3 with their digests checked; ZIP
    unarchiving; recipe variables; install, startup, run; IPC; dependencies; three restarts, then BROKEN; a failed
    deployment leaves what runs as it is (no rollback); two groups that pin a component at two versions are a conflict,
    and the deployment fails.
Does not cover: certificates and MQTT (what it publishes goes straight to `lab.iot`); shutdown, recover and bootstrap
    phases. A desk's only core is in the canary and the fleet group, so there the newest deployment wins. The nucleus
    component of a deployment is known by name, shown as installed, and emulated.
"""

from __future__ import annotations

import hashlib
import json
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from moto.iot.models import iot_backends

from lab import camera, child, iot
from lab.artifacts import ArtifactError, fetch, is_absent
from lab.faults import Faults
from lab.fleet import ControlPlane, Core, Deployment
from lab.ipc import SOCKET_PATH_LIMIT, Server
from lab.jobs import Execution
from lab.lifecycle import Component, ComponentFailed, Host
from lab.recipe import RecipeError, parse
from lab.wanted import EMULATED, DeploymentFailed, pinned, resolve

KEPT_BYTES = 4_000_000  # of messages to AWS IoT Core in one file, of which the last two stay
KEPT = 2  # versions of a component on disk: the current one and the one before


class Device:
    """One core device: a queue of deployments, a thread that carries them out, the components it runs."""

    def __init__(self, plane: ControlPlane, thing: str) -> None:
        self.plane = plane
        self.engine = plane.engine
        self.thing = thing
        self.prefix = thing.rpartition("-desk-")[0]
        self.alone = False  # the only core of its desk: canary and fleet in one
        self.root = plane.engine.root / "devices" / thing
        self.root.mkdir(parents=True, exist_ok=True)
        self.core = plane.cores.setdefault(thing, Core(thing))
        self.components: dict[str, Component] = {}
        self.targets: dict[str, Deployment] = {}  # what each target last asked of this device
        self.nucleus: dict[str, str] = {}
        self.server = Server(_socket_path(self.engine.root, thing), thing, self._publish)
        self.server.start()
        self.faults = Faults(self)
        self._online = threading.Event()
        self._online.set()
        self._ending = False
        self._busy = threading.RLock()  # one change of the components at a time
        iot.subscribe(self.server.deliver)
        self._queue: queue.Queue[Execution | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name=f"device-{thing}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finishes the deployment in hand, takes no more, ends the components."""
        self.faults.end()
        self._ending = True
        self._queue.put(None)
        self._thread.join()
        for component in self.components.values():
            component.stop()
        iot.unsubscribe(self.server.deliver)
        self.server.stop()

    def accept(self, execution: Execution) -> None:
        """Queues a deployment, as an IoT job execution is queued."""
        self._queue.put(execution)

    def connected(self, yes: bool) -> None:
        """The cloud is in reach from now on, or is not: what waits for it goes on, and the device reports."""
        if yes:
            self._online.set()
            self._report_installed()
        else:
            self._online.clear()

    def groups(self) -> list[int]:
        """The process groups of the components that run."""
        return [one.pid for one in list(self.components.values()) if one.pid is not None and one.alive]

    def restart_components(self) -> None:
        """Ends the components that run, and starts them again."""
        with self._busy:
            for component in self.components.values():
                if component.alive:
                    component.restart()

    def install(self, document: bytes, files: Mapping[str, bytes]) -> None:
        """A local deployment of one component, as `ggl-cli deploy` makes it; `files` are artefacts by their name.

        Until the next deployment it takes the place of the version that a group pins, which a real core would refuse.
        Raises ComponentFailed, ArtifactError, RecipeError; the component is then BROKEN, as after any deployment.
        """
        with self._busy:
            recipe = parse(document)
            component = Component(recipe, dict(recipe.configuration), self._host(), True)
            for name, data in files.items():
                path = component.host.artifacts(recipe) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            for artifact in recipe.artifacts:
                fetch(self.engine, self._role(), artifact, component.host, recipe)
            if recipe.name in self.components:
                self.components.pop(recipe.name).stop()
            self.components[recipe.name] = component
            try:
                component.bring_up()
            finally:
                self._report_installed()

    def _publish(self, topic: str, data: bytes) -> None:
        """A component's message on its way to AWS IoT Core; a file keeps the last ones."""
        path = self.root / "published.jsonl"
        if path.is_file() and path.stat().st_size > KEPT_BYTES:
            path.replace(path.with_suffix(".old.jsonl"))
        line = {"time": time.time(), "topic": topic, "payload": data.decode("utf-8", "replace")}
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        iot.publish(self.engine, topic, data)

    def _reach_cloud(self) -> None:
        """Waits while the device is offline."""
        while not self._online.wait(0.1) and not self._ending:
            pass

    def _work(self) -> None:
        while (execution := self._queue.get()) is not None:
            self._reach_cloud()
            if not self._ending and self.plane.report(execution, "IN_PROGRESS"):
                self._carry_out(execution)

    def _carry_out(self, execution: Execution) -> None:
        started, status, reason = time.time(), "SUCCEEDED", "SUCCESSFUL"
        self.targets[execution.deployment.target] = execution.deployment
        try:
            with self._busy:
                self._apply(self._wanted())
        except (DeploymentFailed, ComponentFailed, ArtifactError, RecipeError) as error:
            status, reason = "FAILED", f"FAILED_ROLLBACK_NOT_REQUESTED: {error}"
        except Exception as error:  # the device must report whatever happens: nobody else would say it
            status, reason = "FAILED", f"FAILED_ROLLBACK_NOT_REQUESTED: {type(error).__name__}: {error}"
        self._report_installed()
        entry = child.Child("device", "greengrassv2", execution.deployment.id, (), self.root, {}, "edge", ())
        log = self.root / "deployments.jsonl"
        line = {"time": started, "deployment": execution.deployment.id, "target": execution.deployment.target}
        with log.open("a", encoding="utf-8") as stream:
            after = {"status": status, "reason": reason, "components": self._versions()}
            stream.write(json.dumps({**line, **after}) + "\n")
        child.note(self.engine, entry, started, time.time(), 0 if status == "SUCCEEDED" else 1, log)
        self._reach_cloud()
        self.plane.report(execution, status, reason)
        if status == "SUCCEEDED":
            self._show()

    def _show(self) -> None:
        """Pictures for each component whose configuration names a `source`, a folder below its work folder."""
        for name, component in self.components.items():
            source = component.registration.configuration.get("source")
            folder = (self.root / "work" / name / str(source)).resolve()
            if source and folder.is_relative_to(self.root.resolve()):
                camera.show(self.engine, self.prefix, folder)

    # What the device should run

    def _wanted(self) -> dict[str, Component]:
        """Components by name in the order of their dependencies, from the last deployment of each of its targets."""
        members = self.plane.members
        mine = [one for one in self.targets.values() if not one.to_group or self.thing in members(one.target_name)]
        roots = pinned(sorted(mine, key=lambda one: one.created), self.thing, newest_wins=self.alone)
        self.nucleus = {name: str(roots[name]["componentVersion"]) for name in EMULATED if name in roots}
        host = self._host()
        return {
            name: Component(one.recipe, one.configuration, host, one.root)
            for name, one in resolve(self.plane, roots).items()
        }

    def _host(self) -> Host:
        version = next(iter(self.nucleus.values()), "")
        return Host(self.engine, self.thing, self.root, self.server, self._role(), version, self._changed, self.faults)

    def _changed(self) -> None:
        self.faults.started()
        self._report_installed()

    def _role(self) -> str | None:
        """The role behind the role alias: what a real core gets credentials for. None when the stack has no alias."""
        aliases = iot_backends[self.engine.account][self.engine.region].role_aliases
        mine = sorted(name for name in aliases if name.startswith(self.prefix)) or sorted(aliases)
        return str(aliases[mine[0]].role_arn) if mine else None

    # Getting there

    def _apply(self, wanted: dict[str, Component]) -> None:
        for component in wanted.values():
            self._keep_recipe(component)
            for artifact in component.recipe.artifacts:
                self._reach_cloud()
                absent = is_absent(artifact, component.host, component.recipe)
                spoil = absent and self.faults.used_up("corrupt")
                fetch(self.engine, self._role(), artifact, component.host, component.recipe, spoil=spoil)
        for name in [name for name in self.components if name not in wanted]:
            self.components.pop(name).stop()
        for name, component in wanted.items():
            running = self.components.get(name)
            if running is not None and running.recipe.version == component.recipe.version and running.healthy:
                running.is_root = component.is_root
                if running.registration.configuration != component.registration.configuration:
                    self._reconfigure(running, component)
                continue
            if running is not None:
                running.stop()
            self.components[name] = component
            component.bring_up()
            self._collect(component)

    def _keep_recipe(self, component: Component) -> None:
        """Recipes lie beside the artefacts, as on a real core."""
        recipe = component.recipe
        path = self.root / "recipes" / f"{recipe.name}-{recipe.version}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(self.plane.component(recipe.name, recipe.version).document)

    def _reconfigure(self, running: Component, wanted: Component) -> None:
        """A change of configuration alone reaches the component as an event; it is not restarted."""
        mine, new = running.registration.configuration, wanted.registration.configuration
        for key in [key for key in mine if key not in new]:
            del mine[key]
        for key in [key for key, value in new.items() if mine.get(key) != value]:
            mine.pop(key, None)
            self.server.configure(running.registration, [key], new[key])

    def _collect(self, component: Component) -> None:
        """Deletes all but the newest versions of a component that came up."""
        for kind in ("artifacts", "artifacts-unarchived"):
            folder = self.root / kind / component.recipe.name
            every = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime) if folder.is_dir() else []
            others = [path for path in every if path.name != component.recipe.version]
            for path in others[: max(0, len(others) - (KEPT - 1))]:
                shutil.rmtree(path, ignore_errors=True)

    # Saying so

    def _versions(self) -> dict[str, str]:
        return {name: component.recipe.version for name, component in self.components.items()}

    def _report_installed(self) -> None:
        """Tells the cloud what is installed and how the device is, when it can be reached."""
        if not self._online.is_set():
            return
        moment = datetime.now(UTC)
        installed = {
            name: _installed(name, version, "RUNNING", "emulated by the desk", True, moment)
            for name, version in self.nucleus.items()
        }
        for name, one in list(self.components.items()):
            since = datetime.fromtimestamp(one.since, UTC)
            installed[name] = _installed(name, one.recipe.version, one.state, one.detail, one.is_root, since)
        broken = any(one.state in ("BROKEN", "ERRORED") for one in self.components.values())
        with self.plane.lock:
            self.core.installed = installed
            self.core.status = "UNHEALTHY" if broken else "HEALTHY"
            self.core.reported = moment
            self.core.version = next(iter(self.nucleus.values()), "")


def _installed(name: str, version: str, state: str, detail: str, root: bool, since: datetime) -> dict[str, Any]:
    return {
        "componentName": name,
        "componentVersion": version,
        "lifecycleState": state,
        "lifecycleStateDetails": detail[:1000],
        "isRoot": root,
        "lastStatusChangeTimestamp": since,
        "lastReportedTimestamp": datetime.now(UTC),
    }


def _socket_path(root: Path, thing: str) -> Path:
    """Where a device's IPC socket lies: below the engine's root, or in /tmp where that path would be too long."""
    name = hashlib.sha256(thing.encode()).hexdigest()[:8]
    folder = root / "ipc" / name
    if len(str(folder).encode()) + 12 > SOCKET_PATH_LIMIT:
        # The same root gives the same folder, so that engines that come and go do not pile them up.
        folder = Path(tempfile.gettempdir()) / f"lab-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
    return folder / "socket"
