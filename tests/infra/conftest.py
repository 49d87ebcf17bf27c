"""The assembly that every test here reads: synthesized once, in a child, as anyone would."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Assembly:
    """A synthesized assembly on disk."""

    path: Path

    @cached_property
    def lab(self) -> dict[str, Any]:
        """Content of lab.json."""
        return json.loads((self.path / "lab.json").read_text("utf-8"))

    @cached_property
    def template(self) -> dict[str, Any]:
        return json.loads((self.path / self.lab["template"]).read_text("utf-8"))

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """Properties of every resource of a type, by logical id."""
        found = self.template["Resources"].items()
        return {key: row.get("Properties", {}) for key, row in found if row["Type"] == kind}

    def named(self, kind: str, property: str, value: str) -> dict[str, Any]:
        """The one resource of a type whose property has this value."""
        (found,) = [row for row in self.of_type(kind).values() if row.get(property) == value]
        return found

    def machine(self, name: str) -> dict[str, Any]:
        """The definition of a state machine, references in it replaced by their names."""
        row = self.named("AWS::StepFunctions::StateMachine", "StateMachineName", name)
        return json.loads(self.text(row["DefinitionString"]))

    def text(self, value: Any) -> str:
        """A template's value as text: what only the deployment knows stands in angle brackets."""
        if isinstance(value, str):
            return value
        ((function, argument),) = value.items()
        if function == "Fn::Join":
            return str(argument[0]).join(self.text(part) for part in argument[1])
        return f"<{argument}>" if isinstance(argument, str) else f"<{'.'.join(argument)}>"

    def file_of_image(self, name: str, path: str) -> str:
        """A text file in the build context of an image, which is the asset that the image's tag is the hash of."""
        for asset in self.asset(".zip"):
            if hashlib.sha256(asset.read_bytes()).hexdigest().startswith(self.lab["images"][name]["tag"]):
                return zipfile.ZipFile(asset).read(path).decode("utf-8")
        raise AssertionError(name)

    def lint(self) -> str:
        """What cfn-lint finds; empty when nothing."""
        lint, template = Path(sys.executable).with_name("cfn-lint"), self.path / self.lab["template"]
        argv = [str(lint), "--ignore-checks", "W3005", "--template", str(template)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=240).stdout

    def asset(self, suffix: str) -> list[Path]:
        """Staged files whose name ends so."""
        return sorted(self.path.glob(f"asset.*{suffix}"))


def run_app(out: Path, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LAB_", "AWS_", "CDK_", "JSII_"))}
    return subprocess.run(
        [sys.executable, "-m", "infra.app"],
        cwd=ROOT,
        env={**clean, "CDK_OUTDIR": str(out), "LAB_CONFIG": str(ROOT / "tests" / "lab.toml"), **env},
        capture_output=True,
        text=True,
        timeout=120,
    )


def run_synthesis(out: Path, **env: str) -> Assembly:
    done = run_app(out, **env)
    assert done.returncode == 0, done.stderr
    return Assembly(out)


@pytest.fixture(scope="session")
def app() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`python -m infra.app` into a folder, with the settings of tests/lab.toml and nothing of the caller's."""
    return run_app


@pytest.fixture(scope="session")
def synthesize() -> Callable[..., Assembly]:
    """The same, where it must succeed."""
    return run_synthesis


@pytest.fixture(scope="session")
def assembly(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    """What the tests' own settings synthesize to."""
    return run_synthesis(tmp_path_factory.mktemp("assembly") / "cdk.out")


@pytest.fixture(scope="session")
def private(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    """The same in private subnets."""
    asked = {"security": {"network": "vpc"}, "serving": {"serverless": False}}
    return run_synthesis(tmp_path_factory.mktemp("private") / "cdk.out", LAB_OVERRIDES=json.dumps(asked))
