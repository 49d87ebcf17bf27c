"""A synthesized assembly (cdk.out): checked whole, its assets published, its stack deployed.

Nothing of an assembly runs before every resource type, property, function and task in it is known to be covered.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lab.errors import NotCovered
from lab.home import write_atomically

if TYPE_CHECKING:
    from lab.engine import Engine

# What the CDK's own bootstrap stack would bring, as far as an assembly asks for it.
BOOTSTRAP_PARAMETER = "/cdk-bootstrap/hnb659fds/version"
BOOTSTRAP_VERSION = "30"
SCHEMA = 1


class Place(Protocol):
    """Where assets go: an engine, or an account."""

    @property
    def region(self) -> str: ...

    @property
    def account(self) -> str: ...


class AssemblyError(NotCovered):
    """An assembly that cannot be read, is not covered, or did not deploy."""


@dataclass(frozen=True)
class Assembly:
    """A cdk.out folder: its lab.json, template and asset manifest."""

    path: Path
    settings: Mapping[str, Any]
    template: Mapping[str, Any]
    assets: Mapping[str, Any]

    @property
    def stack(self) -> str:
        return str(self.settings["stack"])

    @property
    def digest(self) -> str:
        """Hex digest of what would be deployed: template, settings, and which assets go where."""
        whole = json.dumps([self.template, self.settings, self.assets], sort_keys=True).encode()
        return hashlib.sha256(whole).hexdigest()

    def refusals(self) -> list[str]:
        """One line for everything that the desk does not cover or cannot find."""
        from lab.definition import refusals_of_machines
        from lab.resources import KINDS
        from lab.template import refusals

        found = refusals(self.template, KINDS) + refusals_of_machines(self.template)
        found += [f"container image asset {name}: build images with CodeBuild" for name in self.assets["dockerImages"]]
        for asset in self.assets["files"].values():
            source = self.path / asset["source"].get("path", "?")
            if asset["source"].get("packaging", "file") != "file":
                found.append(f"asset {source.name}: a folder; stage an archive")
            elif not source.is_file():
                found.append(f"asset {source.name} is missing")
        return found

    def check(self) -> None:
        """Raises AssemblyError that names all that is not covered, each by its logical id and type."""
        found = self.refusals()
        if found:
            template = self.path / str(self.settings["template"])
            raise AssemblyError(
                f"{template} holds what the embedded AWS does not cover:\n  " + "\n  ".join(found),
                "docs/fidelity.md lists what is covered; nothing was started",
            )


def load(path: Path) -> Assembly:
    """Reads a cdk.out folder. Raises AssemblyError when something is missing or broken."""
    try:
        settings = _json(path / "lab.json")
        if settings.get("schema") != SCHEMA:
            raise AssemblyError(f"{path}/lab.json has schema {settings.get('schema')!r}", "write it anew: lab synth")
        template = _json(path / settings["template"])
        assets = _json(path / f"{settings['stack']}.assets.json")
    except FileNotFoundError as error:
        name = Path(error.filename).name
        raise AssemblyError(f"{path} is not a synthesized lab: {name} is missing", "write one: lab synth") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AssemblyError(f"{path} cannot be read: {error}", "write it anew: lab synth") from None
    parts = {"files": assets.get("files") or {}, "dockerImages": assets.get("dockerImages") or {}}
    return Assembly(path, settings, template, parts)


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def deploy(engine: Engine, assembly: Assembly, progress: Callable[[str], None] | None = None) -> dict[str, str]:
    """Publishes the assets, creates or updates the stack, returns its outputs.

    The assembly that is deployed already is left as it is. Raises AssemblyError, before anything is touched when the
    assembly is not covered.
    """
    say = progress or (lambda words: None)
    assembly.check()
    mark = engine.root / "assembly.sha256"
    if mark.is_file() and mark.read_text("utf-8") == assembly.digest and _described(engine, assembly.stack):
        return _outputs(engine, assembly.stack)
    mark.unlink(missing_ok=True)
    say("assets")
    _publish(engine, assembly)
    keep(engine, assembly)
    say("stack")
    _deploy(engine, assembly)
    write_atomically(mark, assembly.digest)
    return _outputs(engine, assembly.stack)


def _deploy(engine: Engine, assembly: Assembly) -> None:
    from botocore.exceptions import ClientError

    client = engine.client("cloudformation")
    bucket, key = template_asset(engine, assembly)
    # By URL: a template in the request itself may have 51,200 bytes at most.
    given = {
        "TemplateURL": f"https://s3.{engine.region}.amazonaws.com/{bucket}/{key}",
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
    }
    there = _described(engine, assembly.stack)
    try:
        (client.update_stack if there else client.create_stack)(StackName=assembly.stack, **given)
    except ClientError as error:
        message = error.response["Error"]["Message"]
        hint = "see server.log in the engine's folder" if not there else "lab down, then lab up, gives a fresh stack"
        raise AssemblyError(f"the stack {assembly.stack} was not deployed: {message}", hint) from None


def template_asset(place: Place, assembly: Assembly) -> tuple[str, str]:
    """Where the template lies in the assets bucket."""
    for source, bucket, key in files(place, assembly):
        if source.name == assembly.settings["template"]:
            return bucket, key
    raise AssemblyError(f"{assembly.path} does not stage its own template", "write it anew: lab synth")


def _described(engine: Engine, stack: str) -> dict[str, Any] | None:
    from botocore.exceptions import ClientError

    try:
        found: dict[str, Any] = engine.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError:
        return None
    return found


def _outputs(engine: Engine, stack: str) -> dict[str, str]:
    found = _described(engine, stack)
    if found is None or found["StackStatus"] not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        status = found["StackStatus"] if found else "gone"
        raise AssemblyError(f"the stack {stack} is {status}", "see server.log in the engine's folder")
    return {str(row["OutputKey"]): str(row["OutputValue"]) for row in found.get("Outputs", [])}


def _publish(engine: Engine, assembly: Assembly) -> None:
    """Puts every file asset where the template refers to it."""
    bootstrap(engine, assembly)
    for source, bucket, key in files(engine, assembly):
        engine.client("s3").put_object(Bucket=bucket, Key=key, Body=source.read_bytes())


def bootstrap(engine: Engine, assembly: Assembly) -> None:
    """Makes what the CDK's bootstrap stack would bring, where it is not there yet."""
    from botocore.exceptions import ClientError

    for bucket in {bucket for _, bucket, _ in files(engine, assembly)}:
        try:
            engine.client("s3").head_bucket(Bucket=bucket)
        except ClientError:
            where = {} if engine.region == "us-east-1" else {"LocationConstraint": engine.region}
            more = {"CreateBucketConfiguration": where} if where else {}
            engine.client("s3").create_bucket(Bucket=bucket, **more)
            given = {"Name": BOOTSTRAP_PARAMETER, "Value": BOOTSTRAP_VERSION, "Type": "String", "Overwrite": True}
            engine.client("ssm").put_parameter(**given)


def files(place: Place, assembly: Assembly) -> Iterator[tuple[Path, str, str]]:
    """Each file asset with its bucket and key."""
    names = {"${AWS::AccountId}": place.account, "${AWS::Region}": place.region, "${AWS::Partition}": "aws"}
    for asset in assembly.assets["files"].values():
        for destination in asset["destinations"].values():
            bucket, key = str(destination["bucketName"]), str(destination["objectKey"])
            for placeholder, value in names.items():
                bucket, key = bucket.replace(placeholder, value), key.replace(placeholder, value)
            yield assembly.path / asset["source"]["path"], bucket, key


def keep(engine: Engine, assembly: Assembly) -> None:
    """A copy beside the engine, whole or not at all: the parts of the engine read lab.json from it."""
    target = engine.root / "assembly"
    if assembly.path.resolve() == target.resolve():
        return
    scratch = engine.root / f".assembly-{uuid.uuid4().hex}"
    shutil.copytree(assembly.path, scratch)
    if target.exists():
        shutil.rmtree(target)
    scratch.replace(target)
