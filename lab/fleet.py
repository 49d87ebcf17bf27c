"""What AWS IoT Greengrass keeps in the cloud: deployments and core devices, beside the component versions.

The state behind `lab.greengrassv2`, which speaks HTTP, and `lab.device`, which carries deployments out. A deployment is
an AWS IoT job too, as in AWS (`lab.jobs`): `iot describe-job` counts the devices it succeeded and failed on.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from moto.iot.models import iot_backends

from lab import jobs
from lab import recipe as recipes
from lab.componentstore import ComponentStore, ServiceError
from lab.engine import Engine
from lab.jobs import Execution, Job, now
from lab.wanted import EMULATED


@dataclass
class Deployment:
    """One revision of what a thing or a thing group should run. `components` is as the caller gave it."""

    id: str
    target: str
    name: str
    components: dict[str, dict[str, Any]]
    revision: int
    job: str
    created: datetime
    options: dict[str, Any]
    tags: dict[str, str]
    token: str | None = None
    status: str = "ACTIVE"
    latest: bool = True

    @property
    def to_group(self) -> bool:
        return ":thinggroup/" in self.target

    @property
    def target_name(self) -> str:
        return self.target.partition("/")[2]


@dataclass
class Core:
    """A core device as it last reported. `installed` is keyed by component name."""

    thing: str
    status: str = "HEALTHY"
    version: str = ""
    architecture: str = recipes.HERE
    reported: datetime = field(default_factory=now)
    installed: dict[str, dict[str, Any]] = field(default_factory=dict)
    executions: dict[str, Execution] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class ControlPlane(ComponentStore):
    """All Greengrass state of the engine's one account and region. Calls may come from any thread."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.deployments: dict[str, Deployment] = {}
        self.cores: dict[str, Core] = {}
        self.jobs: dict[str, Job] = {}
        self.pace = jobs.pace()
        self.muster: Callable[[Deployment], None] = lambda deployment: None
        self.deliver: Callable[[Execution], None] = lambda execution: None
        self.dismiss: Callable[[str], None] = lambda thing: None

    # Deployments

    def create_deployment(self, request: Mapping[str, Any]) -> Deployment:
        """A new revision for the target; the one before becomes INACTIVE. Devices learn of it as its job rolls out."""
        target, components = str(request.get("targetArn", "")), dict(request.get("components") or {})
        with self.lock:
            token = request.get("clientToken")
            for known in self.deployments.values():
                if token and known.token == token:
                    return known
            self._validate(target, components, request)
            before = [one for one in self.deployments.values() if one.target == target]
            job = f"greengrass-{uuid.uuid4()}"
            deployment = Deployment(
                id=str(uuid.uuid4()),
                target=target,
                name=request.get("deploymentName") or "",
                components=components,
                revision=len(before) + 1,
                job=job,
                created=now(),
                options={
                    key: request[key]
                    for key in ("deploymentPolicies", "iotJobConfiguration", "parentTargetArn")
                    if request.get(key)
                },
                tags=dict(request.get("tags") or {}),
                token=token,
            )
            try:
                opened = Job(self.engine, deployment, self._hand_over, self.pace, self.lock)
            except jobs.JobError as error:
                raise ServiceError("ValidationException", f"iotJobConfiguration: {error}") from error
            for old in before:
                if old.latest:
                    old.latest = False
                    old.status = "INACTIVE" if old.status == "ACTIVE" else old.status
                    self.jobs[old.id].cancel()
            self.deployments[deployment.id] = deployment
        self._record_job(deployment)
        self.muster(deployment)
        with self.lock:
            self.jobs[deployment.id] = opened
            name = deployment.target_name
            opened.add(sorted(self.members(name), key=_natural) if deployment.to_group else [name])
        return deployment

    def _validate(self, target: str, components: Mapping[str, Mapping[str, Any]], request: Mapping[str, Any]) -> None:
        if not re.fullmatch(r"arn:aws[\w-]*:iot:[^:]*:[^:]*:(thing|thinggroup)/.+", target):
            raise ServiceError("ValidationException", f"targetArn {target!r} is neither a thing nor a thing group")
        if request.get("parentTargetArn"):
            raise ServiceError("ValidationException", "parentTargetArn (subdeployments) is not covered on the desk")
        backend = iot_backends[self.engine.account][self.engine.region]
        if ":thinggroup/" in target:
            backend.describe_thing_group(target.partition("/")[2])
        for name, wanted in components.items():
            version = wanted.get("componentVersion")
            if not version:
                raise ServiceError("ValidationException", f"{name} has no componentVersion")
            if wanted.get("runWith"):
                raise ServiceError("ValidationException", f"{name}: runWith is not covered on the desk")
            merge = (wanted.get("configurationUpdate") or {}).get("merge")
            if merge and not isinstance(_json(merge, name), dict):
                raise ServiceError("ValidationException", f"{name}: configurationUpdate.merge is not a JSON object")
            if name in EMULATED:
                continue
            if name.startswith("aws.greengrass."):
                raise ServiceError(
                    "ValidationException",
                    f"{name}: the desk core does not cover this public component; it knows {', '.join(EMULATED)}",
                )
            if (component := self.component(name, version)).state != "DEPLOYABLE":
                raise ServiceError("ValidationException", f"{name} {version} is {component.state}: {component.message}")

    def deployment(self, identity: str) -> Deployment:
        with self.lock:
            found = self.deployments.get(identity)
        if found is None:
            raise ServiceError("ResourceNotFoundException", f"Deployment {identity} does not exist")
        return found

    def cancel(self, identity: str) -> Deployment:
        deployment = self.deployment(identity)
        if deployment.status != "ACTIVE":
            raise ServiceError("ConflictException", f"Deployment {identity} is {deployment.status}")
        deployment.status = "CANCELED"
        self.jobs[identity].cancel()
        return deployment

    def delete_deployment(self, identity: str) -> None:
        if self.deployment(identity).status == "ACTIVE":
            raise ServiceError("ConflictException", f"Deployment {identity} is active; cancel it first")
        with self.lock:
            del self.deployments[identity]
            del self.jobs[identity]

    def job_canceled(self, job: str, comment: str | None) -> None:
        """Somebody canceled a job; when it is a deployment's, that deployment is canceled."""
        for deployment in list(self.deployments.values()):
            if deployment.job == job and deployment.status == "ACTIVE":
                deployment.status = "CANCELED"
                self.jobs[deployment.id].cancel(comment)

    def joined(self, thing: str, group: str) -> None:
        """A thing that joins a group receives what the group's deployment says: its job is a continuous one."""
        with self.lock:
            for deployment in self.deployments.values():
                mine = deployment.to_group and deployment.target_name == group and deployment.status == "ACTIVE"
                if mine and deployment.id in self.jobs:
                    self.jobs[deployment.id].add([thing])

    # Devices report

    def core(self, thing: str) -> Core:
        with self.lock:
            found = self.cores.get(thing)
        if found is None:
            raise ServiceError("ResourceNotFoundException", f"Core device {thing} does not exist")
        return found

    def members(self, group: str) -> set[str]:
        """The names of the things in a thing group; empty when there is no such group."""
        backend = iot_backends[self.engine.account][self.engine.region]
        groups = [one for one in backend.thing_groups.values() if one.thing_group_name == group]
        return {arn.rpartition("/")[2] for one in groups for arn in one.things}

    def tags(self, arn: str) -> dict[str, str]:
        """The tags of a component version, a deployment or a core device, to read or change."""
        kind, _, rest = arn.split(":", 5)[5].partition(":") if arn.count(":") >= 6 else ("", "", "")
        if kind == "components":
            return self.by_arn(arn).tags
        if kind == "deployments":
            return self.deployment(rest).tags
        if kind == "coreDevices":
            return self.core(rest).tags
        raise ServiceError("ResourceNotFoundException", f"{arn} is no resource of Greengrass")

    def report(self, execution: Execution, status: str, reason: str = "") -> bool:
        """A device says how far it is: IN_PROGRESS, SUCCEEDED or FAILED. False when it is not asked any more."""
        deployment = execution.deployment
        with self.lock:
            job = self.jobs.get(deployment.id)
            if job is None or not job.report(execution, status, reason):
                return False
            # A group's deployment stays ACTIVE whatever its devices did, for others may join; its job counts them.
            if not deployment.to_group and deployment.status == "ACTIVE" and execution.ended:
                deployment.status = "COMPLETED" if status == "SUCCEEDED" else "FAILED"
            return True

    def _hand_over(self, execution: Execution) -> None:
        """An execution reaches its device; a thing that is no core device of ours never answers."""
        core = self.cores.get(execution.thing)
        if core is not None:
            core.executions[execution.deployment.id] = execution
            self.deliver(execution)

    def _record_job(self, deployment: Deployment) -> None:
        """The job as AWS IoT's own API shows it."""
        document = {"deploymentId": deployment.id, "components": deployment.components}
        config: dict[str, Any] = deployment.options.get("iotJobConfiguration") or {}
        self.engine.client("iot").create_job(
            jobId=deployment.job,
            targets=[deployment.target],
            document=json.dumps(document),
            targetSelection="CONTINUOUS",
            description="Greengrass deployment",
            **{key: config[key] for key in config if config[key]},
        )
        # moto makes an execution for the target itself, which may be a group.
        backend = iot_backends[self.engine.account][self.engine.region]
        backend.job_executions.pop((deployment.job, deployment.target_name), None)


def _natural(name: str) -> list[tuple[bool, int | str]]:
    """Sorts desk-2 before desk-10."""
    return [(part.isdigit(), int(part) if part.isdigit() else part) for part in re.split(r"(\d+)", name)]


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ServiceError("ValidationException", f"{name}: configurationUpdate.merge is not JSON: {error}") from error
