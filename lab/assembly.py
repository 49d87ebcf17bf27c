"""A synthesized assembly (cdk.out): checked whole, then its assets published and its stack deployed.

Nothing of an assembly runs before every resource type, property and state machine in it is known to be covered.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from lab.engine import Engine
from lab.errors import LabError

DEPLOY_SECONDS = 120.0


class AssemblyError(LabError):
    """An assembly that cannot be read or is not covered."""


@dataclass(frozen=True)
class Assembly:
    """A cdk.out folder: its settings, template and file assets."""

    path: Path
    settings: dict[str, Any]
    template: dict[str, Any]
    assets: dict[str, Any]

    @property
    def stack(self) -> str:
        return str(self.settings["stack"])

    def refusals(self) -> list[str]:
        """One line for everything in the template that the desk does not cover."""
        from lab.cloudformation import KINDS

        lines = []
        for logical_id, resource in self.template["Resources"].items():
            kind = KINDS.get(resource["Type"])
            if kind is None:
                lines.append(f"{logical_id}: the desk does not cover the resource type {resource['Type']}")
                continue
            lines += kind.refusals(logical_id, resource.get("Properties") or {})
        return lines

    def check(self) -> None:
        """Raises AssemblyError that names all that is not covered."""
        refused = self.refusals()
        if refused:
            raise AssemblyError(
                f"{self.path} holds what the embedded AWS does not cover:\n  " + "\n  ".join(refused),
                "docs/fidelity.md lists what is covered; nothing was started",
            )


def load(path: Path) -> Assembly:
    """Reads a cdk.out folder. Raises AssemblyError when something is missing or broken."""
    try:
        settings = json.loads((path / "lab.json").read_text("utf-8"))
        template = json.loads((path / settings["template"]).read_text("utf-8"))
        assets = json.loads((path / f"{settings['stack']}.assets.json").read_text("utf-8"))
    except FileNotFoundError as error:
        name = Path(error.filename).name
        raise AssemblyError(f"{path} is not a synthesized lab: {name} is missing", "write one: lab synth") from None
    except (ValueError, KeyError) as error:
        raise AssemblyError(f"{path} cannot be read: {error}", "write it anew: lab synth") from None
    return Assembly(path, settings, template, assets)


def deploy(engine: Engine, assembly: Assembly) -> dict[str, str]:
    """Publishes the assets, creates or updates the stack, returns its outputs. Raises AssemblyError."""
    assembly.check()
    _publish(engine, assembly)
    _keep(engine, assembly)
    cloudformation = engine.client("cloudformation")
    body = json.dumps(assembly.template)
    try:
        if _exists(cloudformation, assembly.stack):
            cloudformation.update_stack(StackName=assembly.stack, TemplateBody=body, Capabilities=["CAPABILITY_NAMED_IAM"])
        else:
            cloudformation.create_stack(StackName=assembly.stack, TemplateBody=body, Capabilities=["CAPABILITY_NAMED_IAM"])
    except ClientError as error:
        raise AssemblyError(f"the stack {assembly.stack} was not deployed: {error.response['Error']['Message']}") from None
    return _outputs(cloudformation, assembly.stack)


def _outputs(cloudformation: Any, stack: str) -> dict[str, str]:
    deadline = time.monotonic() + DEPLOY_SECONDS
    while time.monotonic() < deadline:
        found = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
        if found["StackStatus"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            return {row["OutputKey"]: row["OutputValue"] for row in found.get("Outputs", [])}
        if "FAILED" in found["StackStatus"] or "ROLLBACK" in found["StackStatus"]:
            raise AssemblyError(f"the stack {stack} is {found['StackStatus']}", "see server.log in the engine's folder")
        time.sleep(0.05)
    raise AssemblyError(f"the stack {stack} was not complete after {DEPLOY_SECONDS:.0f} s")


def _exists(cloudformation: Any, stack: str) -> bool:
    try:
        cloudformation.describe_stacks(StackName=stack)
    except ClientError:
        return False
    return True


def _publish(engine: Engine, assembly: Assembly) -> None:
    """Puts every file asset where the template refers to it; the bucket is CDK's bootstrap bucket."""
    s3 = engine.client("s3")
    for source, bucket, key in _files(engine, assembly):
        try:
            s3.head_bucket(Bucket=bucket)
        except ClientError:
            s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key=key, Body=source.read_bytes())


def _files(engine: Engine, assembly: Assembly) -> Iterator[tuple[Path, str, str]]:
    for asset in assembly.assets.get("files", {}).values():
        source = assembly.path / asset["source"]["path"]
        for destination in asset["destinations"].values():
            bucket = destination["bucketName"].replace("${AWS::AccountId}", engine.account)
            bucket = bucket.replace("${AWS::Region}", engine.region)
            if asset["source"].get("packaging") == "zip":
                raise AssemblyError(f"{source.name} is a folder asset; the lab stages archives")
            yield source, bucket, destination["objectKey"]


def _keep(engine: Engine, assembly: Assembly) -> None:
    """A copy beside the engine, whole or not at all: the parts of the engine read lab.json from it."""
    target = engine.root / "assembly"
    if assembly.path.resolve() == target.resolve():
        return
    scratch = engine.root / f".assembly-{uuid.uuid4().hex}"
    shutil.copytree(assembly.path, scratch)
    if target.exists():
        shutil.rmtree(target)
    scratch.replace(target)
