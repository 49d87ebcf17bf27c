"""The registry decision and what follows it: packages, endpoint, devices."""

from __future__ import annotations

import json
import mimetypes
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.stack import Stack

PENDING = "PendingManualApproval"
APPROVED = "Approved"
REJECTED = "Rejected"


@dataclass(frozen=True)
class Package:
    """A model package of the stack's group. `digest` is that of its release, `signature` what its approver added."""

    arn: str
    approval: str
    version: str
    run: str
    digest: str = ""
    signature: str = ""


def packages(stack: Stack) -> list[Package]:
    """The group's packages, newest first."""
    client = stack.client("sagemaker")
    pages = client.get_paginator("list_model_packages").paginate(
        ModelPackageGroupName=stack["ModelPackageGroup"].rpartition("/")[2]
    )
    rows = [row for page in pages for row in page["ModelPackageSummaryList"]]
    rows.sort(key=lambda row: int(row.get("ModelPackageVersion") or 0), reverse=True)
    return [package(stack, str(row["ModelPackageArn"])) for row in rows]


def package(stack: Stack, arn: str) -> Package:
    """One package by its ARN."""
    found = stack.client("sagemaker").describe_model_package(ModelPackageName=arn)
    known: Mapping[str, str] = found.get("CustomerMetadataProperties") or {}
    names = {"version": "?", "run": "?", "digest": "", "signature": ""}
    about = {name: known.get(name, default) for name, default in names.items()}
    return Package(arn, str(found.get("ModelApprovalStatus")), **about)


def of_run(stack: Stack, run: str) -> Package | None:
    """The package that a run registered, or found registered: the same model is one version, whoever made it."""
    from botocore.exceptions import ClientError

    known = packages(stack)
    mine = [row for row in known if row.run == run]
    if mine:
        return mine[0]
    try:
        found = stack.client("s3").get_object(Bucket=stack["DataBucket"], Key=f"runs/{run}/export/export.json")
    except ClientError:
        return None
    version = json.loads(found["Body"].read()).get("version")
    return next((row for row in known if row.version == version), None)


def row_run(stack: Stack, package: Package) -> str:
    """The run whose row has the package: its maker or, where that failed after it had registered, who took its row."""
    pages = (
        stack.client("dynamodb")
        .get_paginator("scan")
        .paginate(
            TableName=stack["RunsTable"],
            FilterExpression="model_package = :package",
            ExpressionAttributeValues={":package": {"S": package.arn}},
        )
    )
    runs = [str(row["run"]["S"]) for page in pages for row in page["Items"]]
    return package.run if package.run in runs or not runs else runs[0]


def choose(stack: Stack, version: str | None, *, approval: str | None = None) -> Package:
    """The package of `version` (or its ARN), the newest when None; with `approval`, among those alone."""
    found = [row for row in packages(stack) if approval is None or row.approval == approval]
    if version is not None:
        found = [row for row in found if version in (row.version, row.arn)]
    if found:
        return found[0]
    what = f"version {version}" if version else "model package"
    state = f" that is {approval}" if approval else ""
    raise LabError(f"the registry has no {what}{state}", "make one: lab run; see what there is: lab status")


def decide(stack: Stack, package: Package, approval: str, signature: str = "") -> None:
    """Sets a package's approval, with a signature for devices; EventBridge hears of it and starts the release flow."""
    signed = {"CustomerMetadataProperties": {"signature": signature}} if signature else {}
    stack.client("sagemaker").update_model_package(ModelPackageArn=package.arn, ModelApprovalStatus=approval, **signed)


def invoke(stack: Stack, body: bytes, content_type: str) -> dict[str, Any]:
    """One request to the endpoint; its JSON answer."""
    from botocore.exceptions import ClientError

    name = stack["EndpointName"]
    try:
        answer = stack.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=name, Body=body, ContentType=content_type, Accept="application/json"
        )
    except ClientError as error:
        message = f"the endpoint {name} answered: {error.response['Error']['Message']}"
        raise LabError(message, "it takes pictures as .png or .jpg, tensors as .npy or .json; lab status") from None
    whole: dict[str, Any] = json.loads(answer["Body"].read())
    return whole


def content_type_of(path: Path) -> str:
    """The content type to send a file with, from its name."""
    if path.suffix == ".npy":
        return "application/x-npy"
    guessed = mimetypes.guess_type(path.name)[0]
    if guessed is None:
        raise LabError(f"cannot tell what {path.name} is", "the endpoint takes .png, .jpg, .csv, .npy and .json")
    return guessed


def endpoint(stack: Stack) -> dict[str, Any] | None:
    """Name and status of the endpoint, None when there is none."""
    from botocore.exceptions import ClientError

    try:
        found = stack.client("sagemaker").describe_endpoint(EndpointName=stack["EndpointName"])
    except ClientError:
        return None
    return {"name": str(found["EndpointName"]), "status": str(found["EndpointStatus"])}


def edge(stack: Stack) -> dict[str, Any]:
    """The fleet group's newest deployment, and every core device with its groups and the model version it has."""
    client = stack.client("greengrassv2")
    target = stack.thing_group_arn("FleetGroup")
    deployments = client.list_deployments(targetArn=target, historyFilter="LATEST_ONLY").get("deployments", [])
    devices = _cores(client, stack.thing_group_arn("CoreGroup"))
    groups = {name: set(_cores(client, stack.thing_group_arn(f"{name.title()}Group"))) for name in ("canary", "fleet")}
    return {
        "deployment": str(deployments[0]["deploymentId"]) if deployments else None,
        "devices": [
            {
                "thing": thing,
                "groups": [name for name, members in groups.items() if thing in members],
                "status": devices[thing],
                "model_version": _model_version(client, stack, thing),
            }
            for thing in sorted(devices, key=lambda name: (len(name), name))
        ],
    }


def await_fleet(stack: Stack, seconds: float = 120.0) -> None:
    """Waits until the fleet's newest deployment is told to all and in progress nowhere.

    The release flow itself does not wait for every device: one may be off for weeks. Those of the desk are quick.
    """
    client, deadline = stack.client("greengrassv2"), time.monotonic() + seconds
    target = stack.thing_group_arn("FleetGroup")
    for row in client.list_deployments(targetArn=target, historyFilter="LATEST_ONLY").get("deployments", []):
        job = client.get_deployment(deploymentId=row["deploymentId"])["iotJobId"]
        while time.monotonic() < deadline:
            details = stack.client("iot").describe_job(jobId=job)["job"]["jobProcessDetails"]
            busy = details.get("numberOfInProgressThings") or details.get("processingTargets")
            if not busy and not details.get("numberOfQueuedThings"):
                return
            if not busy:  # told and not started: a moment later it has, or it is off
                deadline = min(deadline, time.monotonic() + 3.0)
            time.sleep(0.2)


def _cores(client: Any, group: str) -> dict[str, str]:
    """The status of each core device of a thing group, by thing."""
    pages = client.get_paginator("list_core_devices").paginate(thingGroupArn=group)
    return {str(row["coreDeviceThingName"]): str(row["status"]) for page in pages for row in page["coreDevices"]}


def _model_version(client: Any, stack: Stack, thing: str) -> str | None:
    installed = client.list_installed_components(coreDeviceThingName=thing).get("installedComponents", [])
    model = stack["ModelComponent"].rpartition(":")[2]
    versions = [str(part["componentVersion"]) for part in installed if part["componentName"] == model]
    return versions[0] if versions else None
