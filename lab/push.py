"""Brings a model to devices: as the release flow does to the canary group, or to one device by a local deployment.

MODEL is the version of a release that was approved, or a package: the folder or the zip that holds `model.json`, or a
run's folder with the zip. A package is nobody's release, so its version follows from its content: the device's own gate
decides on it.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import door, registry, signing
from lab.errors import LabError
from lab.home import Home
from lab.stack import Stack

PATIENCE_S = 300.0
OFF_S = 5.0  # a device that has not started by then is off
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_REFUSED = re.compile(r"is refused: (?P<code>[\w-]+): (?P<detail>.*)")


@dataclass(frozen=True)
class Verdict:
    """What one device made of a model. `accepted` is None while it is off and has not seen it."""

    thing: str
    accepted: bool | None
    reason: str | None = None
    detail: str | None = None


@dataclass(frozen=True)
class Pushed:
    """A model that was sent: its version, the group's deployment (None for a single device), the verdicts."""

    version: str
    deployment: str | None
    verdicts: list[Verdict]

    @property
    def problem(self) -> LabError | None:
        """The first refusal as an error, None when nobody refused."""
        for one in self.verdicts:
            if one.accepted is False:
                hint = f"lab device tail {one.thing} shows more"
                return LabError(f"{one.thing} refused version {self.version}: {one.reason}: {one.detail}", hint)
        return None


def push(home: Home, stack: Stack, model: str, thing: str | None, sign: Path | None = None) -> Pushed:
    """Sends `model` to the canary group, or to `thing` alone, and waits for the verdicts. Raises LabError.

    A package is signed with the key in the file `sign`; a version has the signature that it was approved with.
    """
    package = _package(model)
    if package is None:
        if sign is not None:
            raise LabError(f"version {model} has the signature that it was approved with", "leave --sign away")
        known = _released(stack, model)
        version, signature = known.version, known.signature
        if (stack.settings.get("edge") or {}).get("public_key") and not signature:
            # Its component would be published without one, for good: a component's version cannot change.
            raise LabError(
                f"version {version} was approved unsigned; devices take signed models only",
                f"lab approve {version} --sign FILE",
            )
    else:
        key = signing.asked(stack.settings, sign) if sign else None  # without one the device refuses, and says why
        signature = signing.signature(key, package) if key else ""
        version = _version(package, signature)
    if thing is not None:
        return Pushed(version, None, [_locally(home, stack, version, package, thing, signature)])
    client = stack.client("greengrassv2")
    uri = _uri(stack, version)
    if package is not None:
        stack.client("s3").put_object(Bucket=stack["DataBucket"], Key=_key(version), Body=package)
    if version not in _published(client, stack):
        client.create_component_version(inlineRecipe=recipe(home, stack, version, uri, signature).encode())
    made = client.create_deployment(
        targetArn=stack.thing_group_arn("CanaryGroup"),
        deploymentName=f"{_component(stack)} {version} canary",
        components={_component(stack): {"componentVersion": version}},
        iotJobConfiguration=_limits(stack),
    )
    return Pushed(version, str(made["deploymentId"]), _verdicts(stack, str(made["deploymentId"])))


def recipe(home: Home, stack: Stack, version: str, uri: str, signature: str) -> str:
    """The model component's recipe, filled in as the release function does. Raises LabError."""
    path = home.repo / "edge" / "recipes" / "model.json"
    runtime = stack["RuntimeComponent"]
    prefix = runtime.rpartition(".")[0]
    given = stack.client("lambda").get_function_configuration(FunctionName=f"{prefix}-release")
    stager = str(given["Environment"]["Variables"]["STAGER_ARTIFACT"])
    text = path.read_text(encoding="utf-8")
    for placeholder, value in {
        "@COMPONENT@": _component(stack),
        "@VERSION@": version,
        "@PREFIX@": prefix,
        "@ARTIFACT@": uri,
        "@STEM@": Path(uri).stem,
        "@RUNTIME_COMPONENT@": runtime,
        "@STAGER@": stager,
        "@STAGER_STEM@": Path(stager).stem,
        "@SIGNATURE@": signature,
    }.items():
        text = text.replace(placeholder, value)
    left = re.search(r"@[A-Z_]+@", text)
    if left is not None:
        raise LabError(
            f"{path.name} asks for {left[0]}, which lab device push does not know", "lab/push.py fills it in"
        )
    return text


def _package(model: str) -> bytes | None:
    """The package as a ZIP whose bytes follow from its content; None when `model` is a version."""
    path = Path(model)
    if (path / "model.zip").is_file():  # what a run leaves below release/
        path = path / "model.zip"
    if path.is_dir():
        files = {one.name: one.read_bytes() for one in sorted(path.iterdir()) if one.is_file()}
    elif path.is_file():
        try:
            with zipfile.ZipFile(path) as archive:
                files = {name: archive.read(name) for name in sorted(archive.namelist()) if not name.endswith("/")}
        except zipfile.BadZipFile:
            raise LabError(f"{model} is no ZIP archive", "give a package's folder, its zip, or a version") from None
    elif _VERSION.fullmatch(model):
        return None
    else:
        raise LabError(f"there is no {model}", "give a package's folder, its zip, or a version: lab status")
    if "model.json" not in files:
        raise LabError(f"{model} is no model package: it has no model.json", "a run leaves one below release/")
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
    return data.getvalue()


def _version(package: bytes, signature: str) -> str:
    return f"1.0.{int(hashlib.sha256(package + signature.encode()).hexdigest()[:7], 16)}"


def _released(stack: Stack, version: str) -> registry.Package:
    """A version that a person approved: nothing else reaches a device by its version."""
    package = registry.choose(stack, version)
    if package.approval != registry.APPROVED:
        raise LabError(f"version {version} is {package.approval}; devices take what is approved", "lab approve")
    return package


def _component(stack: Stack) -> str:
    return stack["ModelComponent"].rpartition(":")[2]


def _uri(stack: Stack, version: str) -> str:
    return f"s3://{stack['DataBucket']}/{_key(version)}"


def _key(version: str) -> str:
    return f"releases/{version}/{signing.ARTIFACT}"


def _published(client: Any, stack: Stack) -> set[str]:
    arn = f"arn:aws:greengrass:{stack.engine.region}:{stack.engine.account}:components:{_component(stack)}"
    pages = client.get_paginator("list_component_versions").paginate(arn=arn)
    return {str(row["componentVersion"]) for page in pages for row in page["componentVersions"]}


def _limits(stack: Stack) -> dict[str, Any]:
    """As the release flow sends them: `[edge]` of lab.toml."""
    edge = stack.settings.get("edge", {})
    criterion = {"failureType": "FAILED", "action": "CANCEL", "minNumberOfExecutedThings": 1}
    return {
        "abortConfig": {"criteriaList": [{**criterion, "thresholdPercentage": edge.get("abort_failed_percent", 10.0)}]},
        "timeoutConfig": {"inProgressTimeoutInMinutes": edge.get("timeout_minutes", 60)},
    }


def _verdicts(stack: Stack, deployment: str) -> list[Verdict]:
    """Waits until every device of a deployment has said what it made of it; those that are off are not waited for."""
    client, iot = stack.client("greengrassv2"), stack.client("iot")
    job = client.get_deployment(deploymentId=deployment)["iotJobId"]
    started = time.monotonic()
    while True:
        found = iot.list_job_executions_for_job(jobId=job)["executionSummaries"]
        status = {one["thingArn"].rpartition("/")[2]: one["jobExecutionSummary"]["status"] for one in found}
        waited = time.monotonic() - started
        if "IN_PROGRESS" not in status.values() and ("QUEUED" not in status.values() or waited > OFF_S):
            return [_verdict(client, deployment, thing, status[thing]) for thing in sorted(status)]
        if waited > PATIENCE_S:
            raise LabError(f"no verdict on deployment {deployment} in {PATIENCE_S:.0f} s", "lab device tail")
        time.sleep(0.2)


def _verdict(client: Any, deployment: str, thing: str, status: str) -> Verdict:
    if status == "SUCCEEDED":
        return Verdict(thing, True)
    if status in ("QUEUED", "CANCELED"):
        return Verdict(thing, None, status.lower(), "it is off" if status == "QUEUED" else "the job was stopped")
    every = client.list_effective_deployments(coreDeviceThingName=thing)["effectiveDeployments"]
    said = next((str(one.get("reason", "")) for one in every if one["deploymentId"] == deployment), "")
    return refusal(thing, said or status)


def refusal(thing: str, said: str) -> Verdict:
    """A refusal, its reason code read from the stager's line in what the device said."""
    found = _REFUSED.search(said)
    if found is not None:
        return Verdict(thing, False, found["code"], found["detail"].strip())
    return Verdict(thing, False, "failed", said.strip().splitlines()[0][:300] if said.strip() else None)


def _locally(home: Home, stack: Stack, version: str, package: bytes | None, thing: str, signature: str) -> Verdict:
    if package is None:
        package = stack.client("s3").get_object(Bucket=stack["DataBucket"], Key=_key(version))["Body"].read()
    uri = _uri(stack, version)
    waiting = stack.engine.root / "incoming" / f"{version}.zip"
    waiting.parent.mkdir(exist_ok=True)
    waiting.write_bytes(package)
    try:
        request = {"do": "install", "thing": thing, "recipe": recipe(home, stack, version, uri, signature)}
        request["files"] = {Path(uri).name: str(waiting)}  # type: ignore[assignment]
        answer = door.ask(stack.engine, "device", request, seconds=PATIENCE_S)
    finally:
        waiting.unlink()
    return Verdict(thing, True) if answer["error"] is None else refusal(thing, str(answer["error"]))


def document(pushed: Pushed) -> dict[str, Any]:
    """What was pushed, as JSON carries it."""
    found: dict[str, Any] = json.loads(json.dumps(pushed, default=vars))
    return found
