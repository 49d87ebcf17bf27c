"""Tells the release flow what it cannot say in its own language, and publishes the model.

Every event has `action` and `model_package` (an ARN). `prepare` answers the names of model, endpoint config and
endpoint; `component` publishes the model component and waits until it can be deployed; `last_good` answers which
version each thing group has, to go back to; `record` closes the run's row. Nothing that is not approved passes
`prepare`, whoever sends the event.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import boto3
from botocore.exceptions import ClientError

from pipelines.functions import component, runs
from pipelines.functions.registry import Registration

# What an endpoint can be in while UpdateEndpoint is refused, and passes on its own.
IN_BETWEEN = {"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"}
BROKEN = {"Failed", "OutOfService", "UpdateRollbackFailed"}


class ReleaseRefused(Exception):
    """The package or the endpoint does not allow this release; the message says what to do."""


class EndpointBusy(Exception):
    """The endpoint is on its way from one state to another: try again in a moment."""


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What one function instance works with."""

    endpoint: str
    model_component: str
    runtime_component: str
    stager_artifact: str
    table: str
    public_key: str
    groups: Mapping[str, str]
    sagemaker: Any
    greengrass: Any
    dynamodb: Any

    @property
    def prefix(self) -> str:
        """The stack's prefix, which the component's name starts with."""
        return self.model_component.rpartition(".")[0]


@cache
def runtime() -> Runtime:
    """The environment, read once per function instance."""
    return Runtime(
        endpoint=os.environ["ENDPOINT_NAME"],
        model_component=os.environ["MODEL_COMPONENT"],
        runtime_component=os.environ["RUNTIME_COMPONENT"],
        stager_artifact=os.environ["STAGER_ARTIFACT"],
        table=os.environ["TABLE"],
        public_key=os.environ["PUBLIC_KEY"],
        groups=json.loads(os.environ["GROUPS"]),
        sagemaker=boto3.client("sagemaker"),
        greengrass=boto3.client("greengrassv2"),
        dynamodb=boto3.client("dynamodb"),
    )


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry."""
    action = event["action"]
    if action not in ACTIONS:
        raise ReleaseRefused(f"action '{action}' is unknown; allowed: {', '.join(ACTIONS)}")
    return ACTIONS[action](event, runtime())


def prepare(event: dict[str, Any], here: Runtime) -> dict[str, Any]:
    """Names and locations of one release. Raises ReleaseRefused, EndpointBusy, RegistryError, RowMissing."""
    package = _package(event, here)
    if package["ModelApprovalStatus"] != "Approved":
        raise ReleaseRefused(
            f"{package['ModelPackageArn']} is {package['ModelApprovalStatus']}; only an Approved package is released"
        )
    registration = Registration.of(package)
    _signed(registration, package["ModelPackageArn"], here)
    container = package["InferenceSpecification"]["Containers"][0]
    name = _name(here.prefix, registration.version, str(event.get("execution", "")))
    return {
        "model_package": package["ModelPackageArn"],
        "version": registration.version,
        "component_version": registration.version,
        "run": registration.run,
        "claim": runs.claim_of(here.dynamodb, here.table, registration.run, package["ModelPackageArn"]),
        "model_name": name,
        "config_name": name,
        "endpoint_name": here.endpoint,
        "endpoint_exists": _endpoint_exists(here),
        "image": container["Image"],
        "model_data_url": container["ModelDataUrl"],
    }


def _signed(registration: Registration, arn: str, here: Runtime) -> None:
    """Only devices can tell whose a signature is; that there is none, or no such thing, is known before the release."""
    mend = "approve it again, signed (docs/edge.md, Signed models)"
    if here.public_key and not registration.signature:
        raise ReleaseRefused(f"{arn} was approved unsigned, and the devices take signed models only: {mend}")
    if registration.signature and not component.SIGNATURE.fullmatch(registration.signature):
        raise ReleaseRefused(f"the signature of {arn} is not 64 bytes in base64: {mend}")


def publish(event: dict[str, Any], here: Runtime) -> dict[str, Any]:
    """The model component's version, deployable when this returns. Raises ComponentFailed, RegistryError."""
    package = _package(event, here)
    registration = Registration.of(package)
    recipe = component.recipe(
        name=here.model_component,
        version=registration.version,
        prefix=here.prefix,
        artifact=registration.below_release("edge-x86/model.zip"),
        runtime=here.runtime_component,
        stager=here.stager_artifact,
        signature=registration.signature,
    )
    arn = component.publish(here.greengrass, recipe, like=package["ModelPackageArn"])
    return {"component": here.model_component, "component_version": registration.version, "arn": arn}


def last_good(event: dict[str, Any], here: Runtime) -> dict[str, Any]:
    """The version that each group has before this release, "" for none, and the time. Raises RegistryError.

    Deployments of the release's own version are passed over: asked again when it has begun, it answers the same.
    """
    version = Registration.of(_package(event, here)).version
    found = {group: _deployed(arn, version, here) for group, arn in here.groups.items()}
    return {**found, "since": datetime.now(UTC).isoformat()}


def _deployed(arn: str, version: str, here: Runtime) -> str:
    """The version in the group's newest deployment of another version; "" when that has no model, or there is none."""
    pages = here.greengrass.get_paginator("list_deployments").paginate(targetArn=arn, historyFilter="ALL")
    rows = [row for page in pages for row in page["deployments"]]
    for row in sorted(rows, key=lambda row: row["creationTimestamp"], reverse=True):
        components = here.greengrass.get_deployment(deploymentId=row["deploymentId"]).get("components") or {}
        found = str(components.get(here.model_component, {}).get("componentVersion", ""))
        if found != version:
            return found
    return ""


def record(event: dict[str, Any], here: Runtime) -> dict[str, Any]:
    """Marks the run's row as released. Raises RowMissing, RegistryError."""
    registration = Registration.of(_package(event, here))
    claim = runs.claim_of(here.dynamodb, here.table, registration.run, event["model_package"])
    runs.mark(here.dynamodb, here.table, claim, status="RELEASED", version=registration.version)
    return {"run": registration.run, "version": registration.version, "status": "RELEASED"}


ACTIONS = {"prepare": prepare, "component": publish, "last_good": last_good, "record": record}


def _package(event: dict[str, Any], here: Runtime) -> dict[str, Any]:
    package: dict[str, Any] = here.sagemaker.describe_model_package(ModelPackageName=event["model_package"])
    return package


def _name(prefix: str, version: str, execution: str) -> str:
    """Of model and endpoint config, which can never be changed: one per release, at most 63 characters."""
    suffix = f"-{hashlib.sha256(execution.encode()).hexdigest()[:8]}" if execution else ""
    return f"{prefix}-{version.replace('.', '-')}{suffix}"


def _endpoint_exists(here: Runtime) -> bool:
    try:
        status = here.sagemaker.describe_endpoint(EndpointName=here.endpoint)["EndpointStatus"]
    except ClientError as error:
        if "Could not find" in error.response["Error"].get("Message", ""):
            return False
        raise
    if status in IN_BETWEEN:
        raise EndpointBusy(f"endpoint {here.endpoint} is {status}; the release waits until that is over")
    if status in BROKEN:
        raise ReleaseRefused(f"endpoint {here.endpoint} is {status} and cannot be updated; delete it and release again")
    return True
