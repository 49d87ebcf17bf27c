"""A rollout executed: a good model reaches the fleet, a bad one stops at the canary, one that disappoints goes back.

The devices take signed models only. The tests share one embedded AWS and build on one another, in this order.
"""

import hashlib
import io
import json
import shlex
import time
import zipfile
from collections.abc import Iterator
from typing import Any

import boto3
import numpy as np
import pytest
from copies import Project, copy_project, end, small
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lab import signing

pytestmark = [pytest.mark.flow, pytest.mark.timeout(900)]
PREFIX = "ml-lab-dev"


class Stack:
    """The deployed stack through its services' own clients."""

    def __init__(self, project: Project, key: Ed25519PrivateKey) -> None:
        self.key = key
        lines = project.lab("env").stdout.splitlines()
        words = shlex.split(" ".join(line.removeprefix("export ") for line in lines if line.startswith("export ")))
        given = dict(word.split("=", 1) for word in words)
        session = boto3.Session(given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"], region_name="us-east-1")
        self._client = lambda name: session.client(name, endpoint_url=given["AWS_ENDPOINT_URL"])
        [stack] = self("cloudformation").describe_stacks()["Stacks"]
        self.outputs = {row["OutputKey"]: row["OutputValue"] for row in stack["Outputs"]}

    def __call__(self, service: str) -> Any:
        return self._client(service)

    def package(self) -> dict[str, Any]:
        """The package that the flow registered."""
        group = self.outputs["ModelPackageGroup"].rpartition("/")[2]
        rows = self("sagemaker").list_model_packages(ModelPackageGroupName=group)["ModelPackageSummaryList"]
        first = min(rows, key=lambda row: row["ModelPackageVersion"])
        found: dict[str, Any] = self("sagemaker").describe_model_package(ModelPackageName=first["ModelPackageArn"])
        return found

    def approve_copy(
        self, version: str, *, golden_off_by: float = 0.0, signed: bool = True, key: Ed25519PrivateKey | None = None
    ) -> str:
        """Releases the flow's model once more, under another version; its golden answers may be falsified.

        Unless another `key` signs it, it is the one that devices trust.
        """
        entry = {}
        known = self.package()
        about = known["CustomerMetadataProperties"]
        s3, bucket, former = self("s3"), self.outputs["DataBucket"], f"releases/{about['version']}/"
        for row in s3.list_objects_v2(Bucket=bucket, Prefix=former)["Contents"]:
            body = s3.get_object(Bucket=bucket, Key=row["Key"])["Body"].read()
            if row["Key"].endswith("edge-x86/model.zip"):
                body = renamed(body, version, golden_off_by)
                entry = {"signature": signing.signature(key or self.key, body)} if signed else {}
            s3.put_object(Bucket=bucket, Key=row["Key"].replace(former, f"releases/{version}/"), Body=body)
        made = self("sagemaker").create_model_package(
            ModelPackageGroupName=self.outputs["ModelPackageGroup"].rpartition("/")[2],
            ModelApprovalStatus="PendingManualApproval",
            InferenceSpecification=known["InferenceSpecification"],
            CustomerMetadataProperties={
                **{name: value for name, value in about.items() if name != "signature"},
                "version": version,
                "manifest": about["manifest"].replace(about["version"], version),
                **entry,
            },
        )["ModelPackageArn"]
        self("sagemaker").update_model_package(ModelPackageArn=made, ModelApprovalStatus="Approved")
        return str(made)

    def execution_of(self, package: str, *, entered: str = "") -> dict[str, Any]:
        """The release of a package once it has ended, or once it has `entered` a state."""
        machine = self("stepfunctions")
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            for row in machine.list_executions(stateMachineArn=self.outputs["ReleaseFlowArn"])["executions"]:
                found: dict[str, Any] = machine.describe_execution(executionArn=row["executionArn"])
                over = found["status"] != "RUNNING" and not entered
                if package in found["input"] and (over or entered in self.states(found)):
                    return found
            time.sleep(0.5)
        raise AssertionError(f"the release of {package} did not come as far as {entered or 'its end'}")

    def states(self, execution: dict[str, Any]) -> list[str]:
        """The states that an execution came through."""
        pages = (
            self("stepfunctions")
            .get_paginator("get_execution_history")
            .paginate(executionArn=execution["executionArn"])
        )
        rows = (event.get("stateEnteredEventDetails") for page in pages for event in page["events"])
        return [row["name"] for row in rows if row]

    def deployed(self, group: str) -> list[str]:
        """Every version that a group's deployments had, oldest first."""
        client = self("greengrassv2")
        target = f"arn:aws:iot:us-east-1:123456789012:thinggroup/{PREFIX}-{group}"
        rows = client.list_deployments(targetArn=target, historyFilter="ALL")["deployments"]
        rows.sort(key=lambda row: row["creationTimestamp"])
        found = (client.get_deployment(deploymentId=row["deploymentId"])["components"] for row in rows)
        return [components.get(f"{PREFIX}.Model", {}).get("componentVersion", "none") for components in found]

    def row(self) -> dict[str, str]:
        """The run's row in the table."""
        [row] = self("dynamodb").scan(TableName=self.outputs["RunsTable"])["Items"]
        return {name: next(iter(value.values())) for name, value in row.items()}


def renamed(package: bytes, version: str, golden_off_by: float) -> bytes:
    """A device's package under another version, with golden answers that are off by so much."""
    with zipfile.ZipFile(io.BytesIO(package)) as opened:
        files = {name: opened.read(name) for name in opened.namelist()}
    about = json.loads(files["model.json"])
    about["version"] = version
    if golden_off_by:
        golden, written = dict(np.load(io.BytesIO(files["golden.npz"]))), io.BytesIO()
        np.savez(written, **{**golden, "outputs": golden["outputs"] + golden_off_by})
        files["golden.npz"] = written.getvalue()
        about["sha256"]["golden.npz"] = hashlib.sha256(files["golden.npz"]).hexdigest()
    files["model.json"] = json.dumps(about).encode()
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as made:
        for name, data in files.items():
            made.writestr(name, data)
    return whole.getvalue()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    project = copy_project(tmp_path_factory.mktemp("rollout") / "lab")
    private = project.root / "signs.pem"
    public = signing.make(private)
    project.edit("lab.toml", lambda text: small(text).replace("devices = 5", f'devices = 3\npublic_key = "{public}"'))
    try:
        up = project.lab("up", "--dataset", "breast-cancer")
        assert up.returncode == 0, up.stderr
        run = project.lab("run", "--approve", "--sign", str(private), "--dataset", "breast-cancer", timeout=500)
        assert run.returncode == 0, run.stderr
        yield Stack(project, signing.read(private))
    finally:
        project.lab("down")
        end(project)


def test_a_good_model_passes_its_canary_and_reaches_the_fleet(stack: Stack) -> None:
    package = stack.package()
    version = package["CustomerMetadataProperties"]["version"]
    done = stack.execution_of(package["ModelPackageArn"])
    assert done["status"] == "SUCCEEDED"
    states = stack.states(done)
    assert states.index("DeployCanary") < states.index("JudgeCanaries") < states.index("DeployFleet")
    assert (stack.deployed("canary"), stack.deployed("fleet")) == ([version], [version])
    assert stack.row()["status"] == "RELEASED"


def test_a_model_that_fails_its_golden_answers_stops_at_the_canary_and_says_why(stack: Stack) -> None:
    before = stack.deployed("fleet")
    done = stack.execution_of(stack.approve_copy("1.0.901", golden_off_by=0.2))
    assert (done["status"], done["error"]) == ("FAILED", "CanaryRefused")
    assert "1 of 1 canaries did not take version 1.0.901" in done["cause"]
    assert "ml-lab-dev-desk-1 rejected version 1.0.901: golden: an answer is off by" in done["cause"]
    assert stack.deployed("fleet") == before
    assert stack.deployed("canary") == [*before, "1.0.901", *before], "the version before is deployed again"
    assert "golden" in stack.row()["cause"] and stack.row()["status"] == "FAILED"


def test_a_canary_that_takes_a_model_back_in_its_window_keeps_it_from_the_fleet(stack: Stack) -> None:
    before = stack.deployed("fleet")
    package = stack.approve_copy("1.0.902")
    stack.execution_of(package, entered="BeginWatch")
    alert = {
        "schema": 2,
        "id": "00000000-0000-4000-8000-000000000001",
        "thing": f"{PREFIX}-desk-1",
        "time": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        "kind": "revert",
        "version": "1.0.902",
        "reason": "errors",
        "detail": "3 of 4 answers",
    }
    stack("iot-data").publish(topic=f"{PREFIX}/{PREFIX}-desk-1/alert", payload=json.dumps(alert).encode())
    done = stack.execution_of(package)
    assert done["error"] == "CanaryRefused"
    assert "ml-lab-dev-desk-1 reverted version 1.0.902: errors: 3 of 4 answers" in done["cause"]
    assert stack.deployed("fleet") == before
    assert stack.deployed("canary")[-2:] == ["1.0.902", *before]


def test_a_model_that_nobody_signed_changes_nothing_anywhere(stack: Stack) -> None:
    before = stack.deployed("canary")
    done = stack.execution_of(stack.approve_copy("1.0.903", signed=False))
    assert done["error"] == "ReleaseRefused" and "was approved unsigned" in done["cause"]
    assert "CreateModel" not in stack.states(done) and stack.deployed("canary") == before


def test_a_model_that_another_key_signed_stops_at_the_canary(stack: Stack) -> None:
    before = stack.deployed("fleet")
    done = stack.execution_of(stack.approve_copy("1.0.904", key=Ed25519PrivateKey.generate()))
    assert done["error"] == "CanaryRefused"
    assert "ml-lab-dev-desk-1 rejected version 1.0.904: signature: model.sig is not of this" in done["cause"]
    assert stack.deployed("fleet") == before
