"""AWS IoT Greengrass v2's API, served beside moto's Greengrass v1, with which it shares the signing name.

Covers: component versions (create from an inline recipe, describe, get, list, delete), deployments (create, get, list,
    cancel, delete) to things and thing groups, with the rollout, abort and timeout settings of their job; core devices
    (list, get, delete), their effective deployments and installed components; tags, clientToken, pages, error codes.
Does not cover: components from Lambda functions, subdeployments, runWith, client devices, connectivity information,
    artefact download URLs, YAML recipes: refused with ValidationException and a message that says so.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from moto.core.responses import ActionResult, BaseResponse
from moto.core.utils import camelcase_to_underscores
from moto.greengrass import urls as v1

from lab import door, jobs
from lab.componentstore import Component, ServiceError
from lab.desk import Desk
from lab.engine import Engine
from lab.fleet import ControlPlane, Core, Deployment
from lab.jobs import Execution

_PLANES: dict[str, ControlPlane] = {}
_DESKS: list[Desk] = []


def plane() -> ControlPlane:
    """The control plane that `install` set up in this process."""
    return _PLANES["plane"]


def install(engine: Engine) -> None:
    """Routes /greengrass/v2 and /tags of the `greengrass` signing name here, and readies the desk's cores."""
    _PLANES["plane"] = ControlPlane(engine)
    jobs.install(_PLANES["plane"])
    v1.url_paths["{0}/greengrass/v2/(?P<rest>.+)$"] = GreengrassV2Response.dispatch
    v1.url_paths["{0}/tags/(?P<rest>.+)$"] = GreengrassV2Response.dispatch
    desk = Desk(_PLANES["plane"])
    _DESKS.append(desk)
    door.serve("device", desk.answer)


def desks() -> list[Desk]:
    """What carries deployments out in this process."""
    return _DESKS


def stop() -> None:
    """Ends the desk's cores and their components; the engine's own end does it too, by ending every child."""
    while _DESKS:
        _DESKS.pop().stop()


class GreengrassV2Response(BaseResponse):  # type: ignore[misc]
    """One method per API operation; moto finds it by the operation's name in botocore's model."""

    def __init__(self) -> None:
        super().__init__(service_name="greengrassv2")

    def call_action(self) -> Any:
        action = self._get_action()
        if camelcase_to_underscores(action) not in type(self).__dict__:
            error = ServiceError("ValidationException", f"greengrassv2:{action} is not covered on the desk")
            return error.code, {"x-amzn-errortype": error.error_type}, error.get_body()
        return super().call_action()

    def _body(self) -> dict[str, Any]:
        return dict(json.loads(self.body)) if self.body else {}

    def _after(self, marker: str) -> str:
        """The part of the path that follows /`marker`/, decoded: an ARN, an id, a thing's name."""
        return unquote(self.raw_path.partition("?")[0].split(f"/{marker}/", 1)[1].split("/")[0])

    def _option(self, name: str) -> str | None:
        given: list[str] = self.querystring.get(name) or []
        return given[0] if given else None

    def _page(self, key: str, items: Sequence[dict[str, Any]]) -> ActionResult:
        """One page of a list; the token is the index of the next item."""
        start, count = int(self._option("nextToken") or 0), int(self._option("maxResults") or 50)
        answer: dict[str, Any] = {key: list(items[start : start + count])}
        if start + count < len(items):
            answer["nextToken"] = str(start + count)
        return ActionResult(answer)

    # Components

    def create_component_version(self) -> ActionResult:
        request = self._body()
        if request.get("lambdaFunction") or not request.get("inlineRecipe"):
            raise ServiceError("ValidationException", "the desk creates components from inlineRecipe only")
        document = base64.b64decode(request["inlineRecipe"])
        made = plane().create_component(document, request.get("tags") or {}, request.get("clientToken"))
        return ActionResult({**_identity(made), "creationTimestamp": made.created, "status": _status(made)})

    def describe_component(self) -> ActionResult:
        found = plane().by_arn(self._after("components"))
        about = {"description": found.recipe.description, "publisher": found.recipe.publisher, "tags": found.tags}
        platforms = [{"attributes": dict(one)} for one in found.recipe.platforms]
        status = {"creationTimestamp": found.created, "status": _status(found), "platforms": platforms}
        return ActionResult({**_identity(found), **about, **status})

    def get_component(self) -> ActionResult:
        found = plane().by_arn(self._after("components"))
        return ActionResult({"recipeOutputFormat": "JSON", "recipe": found.document, "tags": found.tags})

    def delete_component(self) -> ActionResult:
        plane().delete_component(self._after("components"))
        return ActionResult({})

    def list_components(self) -> ActionResult:
        if self._option("scope") == "PUBLIC":
            raise ServiceError("ValidationException", "the desk has no list of AWS's public components")
        newest = [plane().versions(name)[0] for name in sorted(plane().components)]
        return self._page("components", [_listed(component) for component in newest])

    def list_component_versions(self) -> ActionResult:
        name = self._after("components").rpartition(":")[2]
        return self._page("componentVersions", [_identity(one) for one in plane().versions(name)])

    # Deployments

    def create_deployment(self) -> ActionResult:
        made = plane().create_deployment(self._body())
        return ActionResult({"deploymentId": made.id, "iotJobId": made.job, "iotJobArn": _job_arn(made)})

    def get_deployment(self) -> ActionResult:
        found = plane().deployment(self._after("deployments"))
        more = {"components": found.components, "tags": found.tags, **found.options}
        return ActionResult({**_summary(found), "iotJobId": found.job, "iotJobArn": _job_arn(found), **more})

    def list_deployments(self) -> ActionResult:
        target, history = self._option("targetArn"), self._option("historyFilter") or "LATEST_ONLY"
        every = sorted(plane().deployments.values(), key=lambda one: one.created, reverse=True)
        chosen = [one for one in every if target in (None, one.target) and (history == "ALL" or one.latest)]
        return self._page("deployments", [_summary(one) for one in chosen])

    def cancel_deployment(self) -> ActionResult:
        plane().cancel(self._after("deployments"))
        return ActionResult({"message": "Deployment canceled"})

    def delete_deployment(self) -> ActionResult:
        plane().delete_deployment(self._after("deployments"))
        return ActionResult({})

    # Core devices

    def list_core_devices(self) -> ActionResult:
        group, status = self._option("thingGroupArn"), self._option("status")
        cores = [plane().cores[name] for name in sorted(plane().cores)]
        if group:
            members = plane().members(group.rpartition("/")[2])
            cores = [core for core in cores if core.thing in members]
        return self._page("coreDevices", [_core(core) for core in cores if status in (None, core.status)])

    def get_core_device(self) -> ActionResult:
        found = plane().core(self._after("coreDevices"))
        return ActionResult({**_core(found), "coreVersion": found.version, "tags": found.tags})

    def delete_core_device(self) -> ActionResult:
        thing = plane().core(self._after("coreDevices")).thing
        plane().cores.pop(thing)
        plane().dismiss(thing)
        return ActionResult({})

    def list_effective_deployments(self) -> ActionResult:
        core = plane().core(self._after("coreDevices"))
        newest = sorted(core.executions.values(), key=lambda one: one.deployment.created, reverse=True)
        return self._page("effectiveDeployments", [_execution(one) for one in newest])

    def list_installed_components(self) -> ActionResult:
        core = plane().core(self._after("coreDevices"))
        every = self._option("topologyFilter") == "ALL"
        shown = [one for _, one in sorted(core.installed.items()) if every or one["isRoot"]]
        return self._page("installedComponents", shown)

    # Tags

    def list_tags_for_resource(self) -> ActionResult:
        return ActionResult({"tags": plane().tags(self._after("tags"))})

    def tag_resource(self) -> ActionResult:
        plane().tags(self._after("tags")).update(self._body().get("tags") or {})
        return ActionResult({})

    def untag_resource(self) -> ActionResult:
        tags = plane().tags(self._after("tags"))
        for key in self.querystring.get("tagKeys") or []:
            tags.pop(key, None)
        return ActionResult({})


def _identity(component: Component) -> dict[str, Any]:
    return {"arn": component.arn, "componentName": component.name, "componentVersion": component.version}


def _status(component: Component) -> dict[str, Any]:
    return {"componentState": component.state, "message": component.message, "errors": component.errors}


def _listed(component: Component) -> dict[str, Any]:
    arn = component.arn.rpartition(":versions:")[0]
    latest = {"arn": component.arn, "componentVersion": component.version, "creationTimestamp": component.created}
    about = {"description": component.recipe.description, "publisher": component.recipe.publisher}
    return {"arn": arn, "componentName": component.name, "latestVersion": {**latest, **about}}


def _job_arn(deployment: Deployment) -> str:
    return f"{':'.join(deployment.target.split(':')[:5])}:job/{deployment.job}"


def _summary(deployment: Deployment) -> dict[str, Any]:
    return {
        "targetArn": deployment.target,
        "revisionId": str(deployment.revision),
        "deploymentId": deployment.id,
        "deploymentName": deployment.name,
        "creationTimestamp": deployment.created,
        "deploymentStatus": deployment.status,
        "isLatestForTarget": deployment.latest,
    }


def _core(core: Core) -> dict[str, Any]:
    platform = {"platform": "linux", "architecture": core.architecture, "runtime": "desk"}
    status = {"status": core.status, "lastStatusUpdateTimestamp": core.reported}
    return {"coreDeviceThingName": core.thing, **status, **platform}


def _execution(execution: Execution) -> dict[str, Any]:
    deployment = execution.deployment
    # SUCCEEDED is the word for a thing group's deployment, COMPLETED that for a thing's.
    status = "COMPLETED" if execution.status == "SUCCEEDED" and not deployment.to_group else execution.status
    shown: dict[str, Any] = {
        "deploymentId": deployment.id,
        "deploymentName": deployment.name,
        "iotJobId": deployment.job,
        "iotJobArn": _job_arn(deployment),
        "targetArn": deployment.target,
        "coreDeviceExecutionStatus": status,
        "reason": execution.reason,
        "creationTimestamp": deployment.created,
        "modifiedTimestamp": execution.modified,
    }
    if execution.stack:
        shown["statusDetails"] = {"errorStack": execution.stack, "errorTypes": ["COMPONENT_ERROR"]}
    return shown
