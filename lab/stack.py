"""The deployed stack as its outputs name it, and the deployment of an assembly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import EngineError, LabError
from lab.home import read_json, write_atomically
from lab.synth import Assembly

if TYPE_CHECKING:
    from lab.engine import Engine


@dataclass(frozen=True)
class Stack:
    """A stack in an engine: physical names by logical output name, settings as synthesized."""

    engine: Engine
    name: str
    outputs: Mapping[str, str]
    settings: Mapping[str, Any]

    def __getitem__(self, output: str) -> str:
        try:
            return self.outputs[output]
        except KeyError:
            raise LabError(f"the stack {self.name} has no output {output}", "infra/app.py declares outputs") from None

    def client(self, service: str) -> Any:
        return self.engine.client(service)

    def thing_group_arn(self, output: str) -> str:
        """The ARN of a thing group output, which may be a name or an ARN."""
        value = self[output]
        if value.startswith("arn:"):
            return value
        return f"arn:aws:iot:{self.engine.region}:{self.engine.account}:thinggroup/{value}"


def region_of(assembly: Path) -> str:
    """The region that an assembly was synthesized for."""
    return str(read_json(assembly / "lab.json").get("region") or "us-east-1")


def deploy(engine: Engine, assembly: Assembly) -> bool:
    """Deploys `assembly` unless this very one is deployed; says whether it did. Refuses what is not covered."""
    from lab import assembly as deployer

    mark = engine.root / "deployed"
    if mark.is_file() and mark.read_text(encoding="utf-8") == assembly.digest:
        return False
    mark.unlink(missing_ok=True)
    whole = deployer.load(assembly.path)
    deployer.deploy(engine, whole)
    write_atomically(mark, assembly.digest)
    return True


def deployed(engine: Engine) -> Stack:
    """The stack that the engine runs. Raises EngineError when none is deployed."""
    path = engine.root / "assembly" / "lab.json"
    if not path.is_file():
        raise EngineError("no stack is deployed to the embedded AWS", "deploy one: lab down, then lab up")
    lab = read_json(path)
    name = str(lab["stack"])
    found = engine.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    outputs = {str(row["OutputKey"]): str(row["OutputValue"]) for row in found.get("Outputs", [])}
    return Stack(engine, name, outputs, lab.get("settings", {}))
