"""The desk's fleet: how many core devices there are, which groups each belongs to, and what deployments reach them.

`[edge] devices` and `canaries` of lab.toml say how many cores a stack has here: `<prefix>-desk-1` to `-N`. All are in
the group `<prefix>-core`, the first ones in `-canary`, the others in `-fleet`. A single core is in all three.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moto.iot.models import iot_backends

from lab.artifacts import ArtifactError
from lab.device import Device
from lab.errors import LabError
from lab.fleet import ControlPlane, Deployment
from lab.jobs import Execution
from lab.lifecycle import ComponentFailed
from lab.recipe import RecipeError

ROLES = ("core", "canary", "fleet")
MARK = "-desk-"


class Desk:
    """The desk's core devices, by thing; carries out what `plane` deploys."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.devices: dict[str, Device] = {}
        plane.muster = self.muster
        plane.deliver = self.deliver
        plane.dismiss = self.dismiss

    def deliver(self, execution: Execution) -> None:
        """A deployment reaches its device."""
        if execution.thing in self.devices:
            self.devices[execution.thing].accept(execution)

    def dismiss(self, thing: str) -> None:
        """A core device that is deleted is switched off: nothing else could end it, and a new stack has a new one."""
        if thing in self.devices:
            self.devices.pop(thing).stop()

    def muster(self, deployment: Deployment) -> None:
        """Before a deployment to a stack's group: the stack's cores are there, each in the groups that exist so far."""
        prefix, _, role = deployment.target_name.rpartition("-")
        if not deployment.to_group or role not in ROLES or not prefix:
            return
        backend = iot_backends[self.plane.engine.account][self.plane.engine.region]
        groups = {one.thing_group_name for one in backend.thing_groups.values()} & {f"{prefix}-{one}" for one in ROLES}
        wanted = roles(*self._counts())
        for thing in [one for one in self.devices if one.startswith(prefix + MARK)]:
            if int(thing.rpartition("-")[2]) not in wanted:
                self._retire(thing, groups)
        for number, mine in wanted.items():
            self._enlist(f"{prefix}{MARK}{number}", groups, {f"{prefix}-{one}" for one in mine}, len(wanted) == 1)

    def answer(self, request: Mapping[str, Any]) -> Any:
        """What the command line asks of the devices (`lab.devices`, `lab.push`). Raises LabError."""
        if request["do"] == "switch":
            chosen = [self._device(thing) for thing in request["things"]]
            for one in chosen:
                try:
                    one.faults.switch(str(request["fault"]), bool(request["on"]))
                except ComponentFailed as error:
                    raise LabError(f"{one.thing} does not come up again: {error}", "lab device tail") from error
            return {one.thing: one.faults.on() for one in chosen}
        if request["do"] == "install":
            return {"error": self._install(self._device(request["thing"]), request)}
        return {thing: one.faults.on() for thing, one in self.devices.items()}

    def _device(self, thing: str) -> Device:
        if thing not in self.devices:
            raise LabError(f"no device is called {thing!r}", f"there are: {', '.join(self.devices)}")
        return self.devices[thing]

    def _install(self, device: Device, request: Mapping[str, Any]) -> str | None:
        """A local deployment; why it failed, None when it did not."""
        files = {name: Path(path).read_bytes() for name, path in request["files"].items()}
        digested, _ = self.plane.digested(str(request["recipe"]).encode())
        try:
            device.install(digested, files)
        except (ComponentFailed, ArtifactError, RecipeError) as error:
            return str(error)
        return None

    def stop(self) -> None:
        """Ends every component and closes every IPC socket."""
        while self.devices:
            self.devices.popitem()[1].stop()

    def _counts(self) -> tuple[int, int]:
        edge = self.plane.engine.settings().get("settings", {}).get("edge", {})
        return int(edge.get("devices", 1)), int(edge.get("canaries", 1))

    def _enlist(self, thing: str, groups: set[str], mine: set[str], alone: bool) -> None:
        client = self.plane.engine.client("iot")
        if thing not in self.devices:
            client.create_thing(thingName=thing)
            self.devices[thing] = Device(self.plane, thing)
        self.devices[thing].alone = alone
        for group in sorted(groups):
            member = thing in self.plane.members(group)
            if group in mine and not member:
                client.add_thing_to_thing_group(thingGroupName=group, thingName=thing)
            elif group not in mine and member:
                client.remove_thing_from_thing_group(thingGroupName=group, thingName=thing)

    def _retire(self, thing: str, groups: set[str]) -> None:
        client = self.plane.engine.client("iot")
        for group in groups:
            client.remove_thing_from_thing_group(thingGroupName=group, thingName=thing)
        self.devices.pop(thing).stop()
        self.plane.cores.pop(thing, None)
        client.delete_thing(thingName=thing)


def roles(devices: int, canaries: int) -> dict[int, tuple[str, ...]]:
    """The groups of each core by its number, from 1; a single core is canary and fleet in one."""
    if devices == 1:
        return {1: ROLES}
    return {number: ("core", "canary" if number <= canaries else "fleet") for number in range(1, devices + 1)}
