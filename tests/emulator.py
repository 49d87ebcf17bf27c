"""ministack, an emulator of AWS that shares no code with ours, and the lab's template as far as it knows the types.

It runs from an environment of its own (`make second-opinion` makes it), on loopback. What it cannot do is taken out
here, each with its reason, and nothing else is changed.
"""

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError

ROOT = Path(__file__).parents[1]
BIN = ROOT / ".venv-ministack" / "bin"
ACCOUNT, REGION = "123456789012", "us-east-1"
TYPES = (
    "import json; from ministack.services.cloudformation.provisioners import _RESOURCE_HANDLERS as known; "
    "print(json.dumps(sorted(known)))"
)
# Services of which it has none, or whose jobs it cannot run: their states answer with what the job would have.
MOCKED = ("glue:", "sagemaker:")
# What the states after them read of mocked ones. Register's function calls SageMaker.
ANSWERS: dict[str, Any] = {
    "Train": {"job": "job-train", "artifact": "s3://somewhere/model.tar.gz"},
    "Register": {"model_package": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package/models/1", "version": "1.0.42"},
}
# What a mocked job leaves in the bucket, taken from below mocks/: without it, the job fails.
LEFT = {"Evaluate": "evaluate/report.json", "Export": "export/export.json"}


@dataclass(frozen=True)
class Emulator:
    """One that runs: where it answers, and which resource types it knows."""

    endpoint: str
    types: frozenset[str]

    def client(self, service: str) -> Any:
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        return boto3.client(service, endpoint_url=self.endpoint, region_name=REGION, **keys)


@contextmanager
def running(scratch: Path) -> Iterator[Emulator]:
    """Starts it on a free port of loopback, in a folder of its own; ends it and what it started."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    known = subprocess.run([BIN / "python", "-c", TYPES], capture_output=True, text=True, check=True)
    env = {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "BIND_HOST": "127.0.0.1",  # without it, it binds every interface
        "GATEWAY_PORT": str(port),
        "MINISTACK_ACCOUNT_ID": ACCOUNT,
        "MINISTACK_REGION": REGION,
        "LAMBDA_EXECUTOR": "local",
    }
    with (scratch / "ministack.log").open("wb") as log:
        server = subprocess.Popen([BIN / "ministack"], cwd=scratch, env=env, stdout=log, stderr=log)
    try:
        made = Emulator(f"http://127.0.0.1:{port}", frozenset(json.loads(known.stdout)))
        _wait_for(made, server, scratch / "ministack.log")
        yield made
    finally:
        server.terminate()
        server.wait(timeout=30)


def _wait_for(made: Emulator, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            assert made.client("sts").get_caller_identity()["Account"] == ACCOUNT
            return
        except BotoCoreError:
            time.sleep(0.1)
    raise AssertionError(f"ministack did not answer:\n{log.read_text(errors='replace')[-2000:]}")


def adapted(template: dict[str, Any], known: frozenset[str]) -> tuple[dict[str, Any], set[str]]:
    """The template without the types that the emulator lacks, what they gave replaced by a word; and those types."""
    resources = template["Resources"]
    absent = {name for name, row in resources.items() if row["Type"] not in known}

    def without(value: Any) -> Any:
        if isinstance(value, list):
            return [without(item) for item in value]
        if not isinstance(value, dict):
            return value
        ((key, argument), *more) = value.items() if value else (("", None),)
        named = argument if key == "Ref" else argument[0] if key == "Fn::GetAtt" else None
        if not more and isinstance(named, str) and named in absent:
            return f"absent-{named}"
        return {key: without(item) for key, item in value.items()}

    kept = {name: without(row) for name, row in resources.items() if name not in absent}
    for row in kept.values():
        after = row.get("DependsOn", [])
        row["DependsOn"] = [name for name in ([after] if isinstance(after, str) else after) if name not in absent]
        if row["Type"] == "AWS::StepFunctions::StateMachine":
            row["Properties"]["DefinitionString"] = _mocked(row["Properties"]["DefinitionString"])
    types = {resources[name]["Type"] for name in absent}
    return {"Resources": kept, "Outputs": without(template["Outputs"])}, types


def _mocked(definition: Any) -> Any:
    """A definition whose jobs answer at once. Its references stay references, wherever they stand in the text."""
    pieces = definition["Fn::Join"][1]
    text = "".join(piece if isinstance(piece, str) else f"@@{number}@@" for number, piece in enumerate(pieces))
    machine = json.loads(text)
    for name, state in list(machine["States"].items()):
        service = state.get("Resource", "").removeprefix("arn:aws:states:::").removeprefix("aws-sdk:")
        if name in LEFT:
            machine["States"][name] = _copying(state, LEFT[name])
        elif service.startswith(MOCKED) or name in ANSWERS:
            answer = {"Result": ANSWERS.get(name, {}), "ResultPath": state.get("ResultPath"), "Next": state["Next"]}
            machine["States"][name] = {"Type": "Pass", **answer}
        elif "$$." in json.dumps(state.get("ResultSelector", {})):
            machine["States"][f"{name}Context"] = _apart(state, f"{name}Context")
    parts = re.split(r"@@(\d+)@@", json.dumps(machine))
    return {"Fn::Join": ["", [pieces[int(part)] if odd % 2 else part for odd, part in enumerate(parts)]]}


def _copying(state: dict[str, Any], left: str) -> dict[str, Any]:
    """A state that puts a job's result to its place instead of running the job."""
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:s3:copyObject",
        "Parameters": {
            "Bucket.$": "$.bucket",
            "CopySource.$": f"States.Format('{{}}/mocks/{left}', $.bucket)",
            "Key.$": f"States.Format('runs/{{}}/{left}', $.manifest.run)",
        },
        **{key: state[key] for key in ("Catch", "ResultPath", "Next")},
    }


def _apart(state: dict[str, Any], then: str) -> dict[str, Any]:
    """What a ResultSelector takes from the context object, as a state after it.

    AWS gives a ResultSelector the context object; this interpreter gives it to Parameters alone.
    """
    place, selected = state["ResultPath"], state["ResultSelector"]
    plain = {key: value for key, value in selected.items() if "$$." not in value}
    context = {key: value.replace("$.Metadata.", f"{place}.") for key, value in selected.items() if key not in plain}
    kept = {key: f"{place}.{key.removesuffix('.$')}" for key in plain}
    after = {"Type": "Pass", "Parameters": {**kept, **context}, "ResultPath": place, "Next": state["Next"]}
    state.update(ResultSelector=plain, Next=then)
    return after
