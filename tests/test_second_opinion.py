"""The template on an emulator that is not ours: it deploys, and a manifest in the bucket starts the flow there.

`make second-opinion` makes the emulator's environment and runs this; without it, this is skipped.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from emulator import ACCOUNT, BIN, REGION, ROOT, Emulator, adapted, running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BIN / "ministack").exists(), reason="make second-opinion installs ministack and runs this"),
]

# The event path, and what its states need.
MUST = {
    "AWS::S3::Bucket",
    "AWS::S3::BucketPolicy",
    "AWS::Events::Rule",
    "AWS::StepFunctions::StateMachine",
    "AWS::Lambda::Function",
    "AWS::DynamoDB::Table",
    "AWS::IAM::Role",
    "AWS::KMS::Key",
    "AWS::Glue::Job",
    "AWS::CodeBuild::Project",
    "AWS::ECR::Repository",
    "AWS::CloudWatch::Alarm",
    "AWS::SNS::Topic",
    "AWS::IoT::Policy",
}
REPORT = {
    "schema": 1,
    "run": "any",
    "task": "classification",
    "metrics": {
        "test": {"accuracy": 0.97, "accuracy_low": 0.96, "accuracy_high": 0.98},
        "baseline": {"majority": {"accuracy": 0.1}},
        "champion": None,
    },
}
ROW = {"format": "onnx-fp32", "chosen": True, "skipped": None, "p95_ms": 2.0, "agreement": 1.0, "metric_drop": 0.0}
TARGETS = ("cloud-cpu", "edge-x86")
EXPORT = {"schema": 1, "version": "1.0.42", "artifacts": [{**ROW, "target": target} for target in TARGETS]}


class Stack:
    """The lab's stack on the emulator."""

    def __init__(self, emulator: Emulator, assembly: Path) -> None:
        self.emulator = emulator
        lab = json.loads((assembly / "lab.json").read_text("utf-8"))
        whole = json.loads((assembly / lab["template"]).read_text("utf-8"))
        template, self.absent = adapted(whole, emulator.types)
        self.deployed = {row["Type"] for row in template["Resources"].values()}
        self._stage(assembly, template)
        self._images(lab["images"])
        cloudformation = emulator.client("cloudformation")
        url = f"{emulator.endpoint}/{self._bucket}/template.json"
        cloudformation.create_stack(StackName=lab["stack"], TemplateURL=url, Capabilities=["CAPABILITY_NAMED_IAM"])
        self.status = until(lambda: self._settled(cloudformation, lab["stack"]))
        (row,) = cloudformation.describe_stacks(StackName=lab["stack"])["Stacks"]
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in row.get("Outputs", [])}

    def _stage(self, assembly: Path, template: dict[str, Any]) -> None:
        self._bucket = f"cdk-hnb659fds-assets-{ACCOUNT}-{REGION}"
        s3 = self.emulator.client("s3")
        s3.create_bucket(Bucket=self._bucket)
        (manifest,) = assembly.glob("*.assets.json")
        for asset in json.loads(manifest.read_text("utf-8"))["files"].values():
            for place in asset["destinations"].values():
                content = (assembly / asset["source"]["path"]).read_bytes()
                s3.put_object(Bucket=self._bucket, Key=place["objectKey"], Body=content)
        s3.put_object(Bucket=self._bucket, Key="template.json", Body=json.dumps(template))
        version = {"Name": "/cdk-bootstrap/hnb659fds/version", "Value": "30", "Type": "String"}
        self.emulator.client("ssm").put_parameter(**version)

    def _images(self, images: dict[str, Any]) -> None:
        """Remembers which tags the flow looks for, as if the account had built them."""
        self._tags = [(image["repository"], image["tag"]) for image in images.values()]

    def _settled(self, cloudformation: Any, name: str) -> str:
        (row,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
        status = str(row["StackStatus"])
        return "" if status.endswith("IN_PROGRESS") else f"{status} {row.get('StackStatusReason', '')}".strip()

    def build_images(self) -> None:
        """Gives the repositories the tags that the flow looks for, as if CodeBuild had pushed them."""
        for repository, tag in self._tags:
            manifest = {"schemaVersion": 2, "config": {"digest": f"sha256:{tag}"}, "layers": []}
            given = {"repositoryName": repository, "imageTag": tag, "imageManifest": json.dumps(manifest)}
            self.emulator.client("ecr").put_image(**given)

    def put(self, key: str, document: Any, **metadata: str) -> None:
        body = json.dumps(document).encode()
        self.emulator.client("s3").put_object(Bucket=self.outputs["DataBucket"], Key=key, Body=body, Metadata=metadata)

    def announce(self) -> None:
        """A raw data set's manifest, written last."""
        what = {"digest": "d1", "dataset": "digits", "modality": "image", "task": "classification"}
        self.put("raw/digits/_manifest.json", {}, **what)

    def ended(self, count: int) -> dict[str, Any]:
        """The newest of so many executions of the flow, when it has ended."""
        client = self.emulator.client("stepfunctions")

        def newest() -> dict[str, Any] | None:
            rows = client.list_executions(stateMachineArn=self.outputs["FlowArn"])["executions"]
            rows.sort(key=lambda row: row["startDate"])
            return rows[-1] if len(rows) == count and rows[-1]["status"] != "RUNNING" else None

        return dict(until(newest))

    def states(self, execution: dict[str, Any]) -> list[str]:
        client = self.emulator.client("stepfunctions")
        events = client.get_execution_history(executionArn=execution["executionArn"], maxResults=1000)["events"]
        return [event["stateEnteredEventDetails"]["name"] for event in events if "stateEnteredEventDetails" in event]

    def row(self) -> dict[str, str]:
        """The run's row in the table."""
        (item,) = self.emulator.client("dynamodb").scan(TableName=self.outputs["RunsTable"])["Items"]
        return {name: value.get("S", "") for name, value in item.items()}


def until(ask: Callable[[], Any], seconds: float = 120.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = ask()
        if answer:
            return answer
        time.sleep(0.1)
    raise AssertionError(f"not true within {seconds} s")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("second")
    settings = {"CDK_OUTDIR": str(folder / "cdk.out"), "LAB_CONFIG": str(ROOT / "tests" / "lab.toml")}
    subprocess.run([sys.executable, "-m", "infra.app"], cwd=ROOT, env={**os.environ, **settings}, check=True)
    (folder / "scratch").mkdir()
    with running(folder / "scratch") as emulator:
        yield Stack(emulator, folder / "cdk.out")


def test_the_template_deploys_but_for_the_types_that_the_emulator_lacks(stack: Stack) -> None:
    assert stack.status == "CREATE_COMPLETE"
    assert stack.deployed >= MUST
    print("\nnot known there:", ", ".join(sorted(stack.absent)))  # noqa: T201 - what the second opinion is not about


def test_a_manifest_starts_the_flow_and_what_fails_is_written_into_its_row_by_our_function(stack: Stack) -> None:
    """The mocked evaluation finds nothing to leave, so its state fails, and the flow's Catch has that recorded."""
    stack.build_images()
    stack.announce()
    execution = stack.ended(1)
    names = stack.states(execution)
    assert execution["status"] == "FAILED", names
    assert [name for name in names if not name.endswith("Context")] == [
        *("ReadManifest", "Claim", "FindJobImage", "Etl", "Train", "Evaluate", "RecordFailure", "Failed")
    ]
    row = stack.row()
    assert (row["run"], row["dataset"], row["status"]) == (execution["name"], "digits", "FAILED")
    assert row["claim"].startswith("d1#") and "NoSuchKey" in json.dumps(row)


def test_the_same_manifest_again_takes_the_failed_row_and_our_gates_let_it_through(stack: Stack) -> None:
    stack.put("mocks/evaluate/report.json", REPORT)
    stack.put("mocks/export/export.json", EXPORT)
    stack.announce()
    execution = stack.ended(2)
    names = stack.states(execution)
    assert (execution["status"], names[-2:]) == ("SUCCEEDED", ["RecordPending", "PendingApproval"]), names
    assert {"Etl", "Train", "Evaluate", "Gate", "Export", "ReleaseGate", "Register"} <= set(names)
    row = stack.row()
    assert row["run"] == execution["name"] and row["status"] not in ("RUNNING", "FAILED")


def test_a_third_time_there_is_nothing_left_to_do(stack: Stack) -> None:
    stack.announce()
    execution = stack.ended(3)
    assert (execution["status"], stack.states(execution)[-1]) == ("SUCCEEDED", "AlreadyDone")
