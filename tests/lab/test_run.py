"""`lab run` against a cloud that plays its part from a script: every end of a run, its record, its exit code."""

import hashlib
import io
import json
import time
import zipfile
from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lab import cli, launch, signing, stack, synth
from lab.home import Home
from lab.stack import Stack

RUN, VERSION = "event_run-1", "1.0.7"
GROUP = "arn:aws:sagemaker:us-east-1:1:model-package/ml-lab-dev-models/1"
FLOW, RELEASE = (f"arn:aws:states:us-east-1:1:stateMachine:ml-lab-dev-{name}" for name in ("flow", "release"))
OUTPUTS = {
    "DataBucket": "data",
    "FlowArn": FLOW,
    "ReleaseFlowArn": RELEASE,
    "RunsTable": "runs",
    "ModelPackageGroup": "ml-lab-dev-models",
    "EndpointName": "ml-lab-dev-endpoint",
    "CoreGroup": "ml-lab-dev-core",
    "CanaryGroup": "ml-lab-dev-canary",
    "FleetGroup": "ml-lab-dev-fleet",
    "ModelComponent": "ml-lab-dev.Model",
}
DATASETS = """
import json, pathlib, sys
name, out = sys.argv[1], pathlib.Path(sys.argv[3])
if name == "nonsense":
    sys.exit("models.datasets: there is no data set nonsense; there are: digits, surface-defects")
(out / "0").mkdir(parents=True)
(out / "0" / "00001.png").write_bytes(b"png")
manifest = {"dataset": name, "modality": "image", "task": "classification", "digest": "d1", "classes": ["0"],
            "files": [{"path": "0/00001.png", "label": "0"}]}
(out / "_manifest.json").write_text(json.dumps(manifest))
"""
Event = tuple[str, dict[str, Any]]


def task(name: str, resource: str, *end: Event, **parameters: Any) -> list[Event]:
    """The events of one Task state; without `end` it succeeds."""
    kind, _, call = resource.rpartition(":")
    scheduled = {"resourceType": kind, "resource": call, "parameters": json.dumps(parameters)}
    return [
        ("TaskStateEntered", {"stateEnteredEventDetails": {"name": name}}),
        ("TaskScheduled", {"taskScheduledEventDetails": scheduled}),
        *(end or [("TaskSucceeded", {})]),
        ("TaskStateExited", {}),
    ]


def plain(kind: str, name: str) -> list[Event]:
    return [(f"{kind}StateEntered", {"stateEnteredEventDetails": {"name": name}}), (f"{kind}StateExited", {})]


def fails(error: str, cause: str) -> Event:
    return ("TaskFailed", {"taskFailedEventDetails": {"error": error, "cause": cause}})


CLAIM = task("Claim", "dynamodb:putItem", Item={"claim": {"S": "d1#code#"}})
TRAIN = task("Train", "sagemaker:createTrainingJob.sync", TrainingJobName="run-1-train")
GOOD = [
    *CLAIM,
    *TRAIN,
    *task("Register", "lambda:invoke", FunctionName="ml-lab-dev-register"),
    ("ExecutionSucceeded", {}),
]
BAD = [
    *CLAIM,
    *task(
        "Train",
        "sagemaker:createTrainingJob.sync",
        fails("States.TaskFailed", "AlgorithmError: the oven is off"),
        TrainingJobName="run-1-train",
    ),
    *task("RecordFailure", "lambda:invoke"),
    ("FailStateEntered", {"stateEnteredEventDetails": {"name": "Failed"}}),
    ("ExecutionFailed", {"executionFailedEventDetails": {"error": "Failed", "cause": ""}}),
]
REFUSED = [
    *CLAIM,
    *plain("Choice", "GatePassed"),
    ("FailStateEntered", {"stateEnteredEventDetails": {"name": "Refused"}}),
    ("ExecutionFailed", {"executionFailedEventDetails": {"error": "GateRefused", "cause": ""}}),
]
DONE = [
    *task(
        "Claim",
        "dynamodb:putItem",
        fails("DynamoDb.ConditionalCheckFailedException", ""),
        Item={"claim": {"S": "d1#code#"}},
    ),
    *plain("Succeed", "AlreadyDone"),
    ("ExecutionSucceeded", {}),
]
RELEASED = [*task("CreateEndpoint", "aws-sdk:sagemaker:createEndpoint"), ("ExecutionSucceeded", {})]


class Cloud:
    """What a run talks to. The manifest and an approval each start an execution, which plays `flow`."""

    def __init__(self, root: Path) -> None:
        self.root, self.region, self.account = root, "us-east-1", "1"
        self.run, self.flow = RUN, GOOD
        self.objects: dict[str, bytes] = {"raw/digits/0/00001.png": b"png"}
        self.executions: dict[str, tuple[str, list[Event], str]] = {}
        self.approval: str | None = None
        self.row = {"run": RUN, "status": "PENDING_APPROVAL", "version": VERSION}
        self.device = {"coreDeviceThingName": "ml-lab-dev-desk-1", "status": "HEALTHY"}
        self.answers = VERSION
        self.metadata: dict[str, str] = {}
        self.after_flow: Callable[[], None] = self.register

    def client(self, service: str) -> Any:
        return Client(self, service)

    def put(self, key: str, document: Any) -> None:
        self.objects[key] = json.dumps(document).encode()

    def execute(self, flow: str, name: str, events: list[Event], given: dict[str, str]) -> None:
        self.executions[f"{flow.replace(':stateMachine:', ':execution:')}:{name}"] = (flow, events, json.dumps(given))

    def register(self) -> None:
        """What a good flow leaves behind."""
        self.approval = "PendingManualApproval"
        metrics = {"test": {"accuracy": 0.98}, "baseline": {"majority": {"accuracy": 0.1}}}
        self.put(f"runs/{RUN}/evaluate/report.json", {"metrics": metrics, "history": [], "classes": ["0"]})
        self.put(f"runs/{RUN}/gate/decision.json", {"passed": True, "reasons": ["accuracy 0.98 >= 0.95"]})
        for key in (f"runs/{RUN}/export/export.json", f"releases/{VERSION}/manifest.json"):
            self.put(key, {"version": VERSION, "run": RUN, "artifacts": []})

    def refuse(self) -> None:
        self.put(f"runs/{RUN}/gate/decision.json", {"passed": False, "reasons": ["accuracy 0.80 < 0.95"]})


class Client:
    """One service of the cloud; each method is the API call of its name, as far as a run uses it."""

    def __init__(self, cloud: Cloud, service: str) -> None:
        self.cloud, self.service = cloud, service

    def get_paginator(self, name: str) -> Any:
        call = getattr(self, name)

        class Pages:
            def paginate(self, **arguments: Any) -> list[dict[str, Any]]:
                return [call(**arguments)]

        return Pages()

    def put_object(self, **given: Any) -> None:
        key, body = given["Key"], given["Body"]
        self.cloud.objects[key] = body
        if key.endswith("_manifest.json"):
            name = "event_run-2" if self.cloud.flow is DONE else self.cloud.run
            self.cloud.execute(FLOW, name, self.cloud.flow, {"bucket": "data", "key": key, "nonce": ""})
            self.cloud.after_flow()

    def head_object(self, **_: Any) -> dict[str, Any]:
        from botocore.exceptions import ClientError

        raise ClientError({"Error": {"Code": "404"}, "ResponseMetadata": {"HTTPStatusCode": 404}}, "HeadObject")

    def get_object(self, **given: Any) -> dict[str, Any]:
        if given["Key"] not in self.cloud.objects:
            self.head_object()
        return {"Body": io.BytesIO(self.cloud.objects[given["Key"]])}

    def list_objects_v2(self, **given: Any) -> dict[str, Any]:
        return {"Contents": [{"Key": key} for key in self.cloud.objects if key.startswith(given["Prefix"])]}

    def list_executions(self, **given: Any) -> dict[str, Any]:
        flow = given["stateMachineArn"]
        return {"executions": [{"executionArn": arn} for arn, row in self.cloud.executions.items() if row[0] == flow]}

    def describe_execution(self, **given: Any) -> dict[str, Any]:
        arn = given["executionArn"]
        _, events, text = self.cloud.executions[arn]
        status = events[-1][0].removeprefix("Execution").upper()
        return {"executionArn": arn, "status": status, "input": text, "startDate": datetime.now(UTC)}

    def get_execution_history(self, **given: Any) -> dict[str, Any]:
        _, events, _ = self.cloud.executions[given["executionArn"]]
        zero = time.time()
        rows = [
            {"timestamp": datetime.fromtimestamp(zero + number / 10, UTC), "type": kind, **details}
            for number, (kind, details) in enumerate(events)
        ]
        return {"events": rows}

    def describe_state_machine(self, **_: Any) -> dict[str, Any]:
        return {"definition": json.dumps({"StartAt": "Claim", "States": {"Claim": {"Type": "Task", "End": True}}})}

    def list_model_packages(self, **_: Any) -> dict[str, Any]:
        known = [{"ModelPackageArn": GROUP, "ModelPackageVersion": 1}] if self.cloud.approval else []
        return {"ModelPackageSummaryList": known}

    def describe_model_package(self, **_: Any) -> dict[str, Any]:
        known = {"run": RUN, "version": VERSION, **self.cloud.metadata}
        return {"ModelApprovalStatus": self.cloud.approval, "CustomerMetadataProperties": known}

    def update_model_package(self, **given: Any) -> None:
        self.cloud.approval = given["ModelApprovalStatus"]
        self.cloud.metadata |= given.get("CustomerMetadataProperties", {})
        if self.cloud.approval == "Approved":
            name = f"release-{len(self.cloud.executions)}"
            self.cloud.execute(RELEASE, name, RELEASED, {"model_package": GROUP})

    def describe_endpoint(self, **_: Any) -> dict[str, str]:
        return {"EndpointName": "ml-lab-dev-endpoint", "EndpointStatus": "InService"}

    def invoke_endpoint(self, **_: Any) -> dict[str, Any]:
        answer = {"model_version": self.cloud.answers, "predictions": [{"label": "0", "confidence": 0.9}]}
        return {"Body": io.BytesIO(json.dumps(answer).encode())}

    def list_deployments(self, **_: Any) -> dict[str, Any]:
        return {"deployments": [{"deploymentId": "d-1"}]}

    def get_deployment(self, **_: Any) -> dict[str, Any]:
        return {"iotJobId": "j-1"}

    def describe_job(self, **_: Any) -> dict[str, Any]:
        return {"job": {"jobProcessDetails": {"numberOfSucceededThings": 1}}}

    def list_core_devices(self, **_: Any) -> dict[str, Any]:
        return {"coreDevices": [self.cloud.device]}

    def list_installed_components(self, **_: Any) -> dict[str, Any]:
        return {"installedComponents": [{"componentName": "ml-lab-dev.Model", "componentVersion": VERSION}]}

    def get_item(self, **given: Any) -> dict[str, Any]:
        assert given["Key"] == {"claim": {"S": "d1#code#"}}
        return {"Item": {key: {"S": value} for key, value in self.cloud.row.items()}}


class Server:
    """A running engine that is the cloud above."""

    endpoint, pid, region = "http://127.0.0.1:1", 1, "us-east-1"

    def __init__(self, cloud: Cloud) -> None:
        self.cloud, self.root = cloud, cloud.root

    def ready(self) -> "Server":
        return self

    def engine(self) -> Cloud:
        return self.cloud


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """The cloud, as the engine that `lab up` started; the command line works in `tmp_path`."""
    repo = tmp_path / "repo"
    (repo / "models").mkdir(parents=True)
    (repo / "models" / "__init__.py").touch()
    (repo / "models" / "datasets.py").write_text(DATASETS)
    (tmp_path / "engine" / "jobs" / "sagemaker" / "run-1-train").mkdir(parents=True)
    log = (
        "\n".join(f"epoch={n} train_loss=0.{9 - n} val_accuracy=0.9;" for n in (1, 2))
        + "\nValueError: the oven is off\n"
    )
    (tmp_path / "engine" / "jobs" / "sagemaker" / "run-1-train" / "log.txt").write_text(log)
    made = Cloud(tmp_path / "engine")
    home = Home(repo, tmp_path / ".lab", repo / "lab.toml")
    monkeypatch.setattr("lab.home.find", lambda config=None: home)
    monkeypatch.setattr(launch, "running", lambda root: Server(made))
    settings = {"data": {"dataset": "digits"}}
    (tmp_path / "lab.json").write_text(json.dumps({"settings": settings, "template": "template.json"}))
    (tmp_path / "template.json").write_text(json.dumps({"Resources": {}}))
    monkeypatch.setattr(synth, "synth", lambda *_: synth.Assembly(tmp_path, "x", True, 0.0))
    monkeypatch.setattr(stack, "deploy", lambda *_: False)
    monkeypatch.setattr("lab.grants.taken", lambda engine: {"roles": {}, "resources": {}, "calls": []})
    monkeypatch.setattr("lab.bulk.put", lambda engine, bucket, prefix, folder, paths: None)
    monkeypatch.setattr(stack, "deployed", lambda engine: Stack(engine, "ml-lab-dev", OUTPUTS, settings))
    return made


def record(cloud: Cloud) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((cloud.root.parent / ".lab" / "runs" / RUN / "record.json").read_text())
    return found


def test_without_approve_it_ends_pending_and_says_how_to_go_on(
    cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run"]) == 0
    said = capsys.readouterr().out
    assert "epoch=2 train_loss=0.7 val_accuracy=0.9;" in said and f"lab approve {VERSION}" in said
    found = record(cloud)
    assert (found["status"], found["approval"]) == ("SUCCEEDED", "PendingManualApproval")
    assert found["endpoint"] is None and found["edge"] is None
    assert [state["name"] for state in found["states"]] == ["Claim", "Train", "Register"]
    folder = cloud.root.parent / ".lab" / "runs" / RUN
    assert all((folder / state["log"]).stat().st_size for state in found["states"])
    assert (folder / "report.html").is_file() and (folder / "release" / "manifest.json").is_file()


def test_with_approve_it_releases_and_asks_the_endpoint(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--approve", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    found = record(cloud)
    assert printed == found
    assert found["approval"] == "Approved" and found["endpoint"]["status"] == "InService"
    assert found["endpoint"]["sample"]["answer"]["label"] == "0"
    device = {"thing": "ml-lab-dev-desk-1", "groups": ["canary", "fleet"], "status": "HEALTHY"}
    assert found["edge"]["devices"] == [{**device, "model_version": VERSION}]
    assert found["states"][-1]["name"] == "CreateEndpoint" and found["states"][-1]["flow"] == "release"
    phases = found["engine"]["phases"]
    assert sum(phases.values()) == pytest.approx(found["engine"]["overhead_seconds"], abs=0.05)


def test_a_stack_above_the_budget_runs_here_and_is_said_to_cost_too_much(
    cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = {"settings": {"data": {"dataset": "digits"}, "budget": {"month_usd": 30.0}}, "template": "template.json"}
    gateway = {"Resources": {"Way": {"Type": "AWS::EC2::NatGateway"}}}
    (cloud.root.parent / "lab.json").write_text(json.dumps(lab))
    (cloud.root.parent / "template.json").write_text(json.dumps(gateway))
    assert cli.main(["run"]) == 0
    said = capsys.readouterr().out
    assert "lab deploy would refuse it" in said and "NAT gateway Way $32.85 ($0.045 an hour)" in said


def test_a_failed_job_is_exit_1_with_its_last_words(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.flow, cloud.after_flow = BAD, lambda: None
    assert cli.main(["run", "--approve"]) == 1
    said = capsys.readouterr().err
    assert "the state Train failed" in said and "| ValueError: the oven is off" in said and "log.txt" in said
    found = record(cloud)
    assert found["status"] == "FAILED" and found["gate"] is None and found["model_package"] is None
    statuses = {state["name"]: state["status"] for state in found["states"]}
    assert statuses == {"Claim": "SUCCEEDED", "Train": "FAILED", "RecordFailure": "SUCCEEDED", "Failed": "FAILED"}


def test_a_refused_model_is_exit_3_with_the_reasons(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.flow, cloud.after_flow = REFUSED, cloud.refuse
    assert cli.main(["run", "--approve", "--json"]) == 3
    said = capsys.readouterr()
    assert json.loads(said.out)["status"] == "REFUSED"
    assert "- accuracy 0.80 < 0.95" in said.err


def test_the_same_data_again_points_to_the_run_that_made_it(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run"]) == 0
    cloud.flow, cloud.after_flow = DONE, lambda: None
    assert cli.main(["run"]) == 0
    said = capsys.readouterr().out
    assert f"already done by run {RUN}" in said and f"made version {VERSION}" in said
    assert not (cloud.root.parent / ".lab" / "runs" / "event_run-2").exists()


def test_approving_the_same_data_again_releases_the_run_that_made_it(cloud: Cloud) -> None:
    assert cli.main(["run"]) == 0
    cloud.flow, cloud.after_flow = DONE, lambda: None
    assert cli.main(["run", "--approve"]) == 0
    assert record(cloud)["approval"] == "Approved" and record(cloud)["edge"]["deployment"] == "d-1"


def test_other_code_that_trains_the_same_weights_makes_no_second_version(
    cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", "--approve"]) == 0
    cloud.run, cloud.after_flow = "event_run-3", lambda: None
    cloud.objects |= {
        key.replace(RUN, cloud.run): body for key, body in cloud.objects.items() if key.startswith(f"runs/{RUN}/")
    }
    chosen = {"format": "onnx-int8", "target": "cloud-cpu", "chosen": True, "bytes": 1000, "p95_ms": 1.0}
    cloud.put(f"runs/{cloud.run}/export/export.json", {"version": VERSION, "run": cloud.run, "artifacts": [chosen]})
    assert cli.main(["run", "--approve"]) == 0
    said = capsys.readouterr().out
    assert f"version {VERSION} is approved and released already, by run {RUN}" in said
    assert f"{VERSION}, Approved; its files are those of run {RUN[:8]}" in said and "onnx-int8" not in said
    folder = cloud.root.parent / ".lab" / "runs" / cloud.run
    again = json.loads((folder / "record.json").read_text())
    assert again["model_package"] == GROUP and again["endpoint"]["status"] == "InService"
    assert (again["run"], again["released_by"], again["artifacts"]) == (cloud.run, RUN, []), (
        "what ships, not what would"
    )
    assert json.loads((folder / "export" / "export.json").read_text())["run"] == RUN
    assert len([arn for arn, row in cloud.executions.items() if row[0] == RELEASE]) == 1


def test_an_approval_later_brings_the_record_up_to_date(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run"]) == 0
    before = record(cloud)
    assert cli.main(["approve", VERSION]) == 0
    after = record(cloud)
    assert after["approval"] == "Approved" and after["endpoint"]["status"] == "InService"
    assert (after["seconds"], after["engine"]) == (before["seconds"], before["engine"])
    assert cli.main(["approve"]) == 1
    assert "no model package that is PendingManualApproval" in capsys.readouterr().err


def test_a_model_for_devices_that_ask_for_a_signature_is_not_approved_without_one(
    cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    about = cloud.root.parent / "lab.json"
    whole = json.loads(about.read_text())
    about.write_text(json.dumps({**whole, "settings": {**whole["settings"], "edge": {"public_key": "A" * 43 + "="}}}))
    assert cli.main(["run", "--approve"]) == 1
    assert "devices take signed models only" in capsys.readouterr().err
    assert not cloud.executions, "it is said before the flow runs, not after"


def test_a_model_that_was_approved_unsigned_is_approved_again_with_its_signature(
    cloud: Cloud, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["run", "--approve"]) == 0
    public = signing.make(tmp_path / "key.pem")
    settings = {"data": {"dataset": "digits"}, "edge": {"public_key": public}}
    monkeypatch.setattr(stack, "deployed", lambda engine: Stack(engine, "ml-lab-dev", OUTPUTS, settings))
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("model.json", "{}")
    files = {signing.ARTIFACT: hashlib.sha256(package.getvalue()).hexdigest()}
    manifest = {"version": VERSION, "model_sha256": "0" * 64, "files": files}
    cloud.metadata["digest"] = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    cloud.put(f"releases/{VERSION}/manifest.json", manifest)
    cloud.objects[f"releases/{VERSION}/{signing.ARTIFACT}"] = package.getvalue()
    assert cli.main(["approve", VERSION, "--sign", str(tmp_path / "key.pem")]) == 0
    assert len(b64decode(cloud.metadata["signature"])) == 64
    assert len([arn for arn, row in cloud.executions.items() if row[0] == RELEASE]) == 2
    assert cli.main(["approve", VERSION, "--sign", str(tmp_path / "key.pem")]) == 1, "once is enough"


def test_signing_is_the_approvers(cloud: Cloud, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "key.pem").touch()
    assert cli.main(["run", "--sign", str(tmp_path / "key.pem")]) == 2
    assert "--sign goes with --approve" in capsys.readouterr().err


def test_a_rejected_model_is_never_released(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run"]) == 0
    assert cli.main(["reject"]) == 0
    assert f"version {VERSION} is Rejected" in capsys.readouterr().out
    assert cli.main(["approve"]) == 1
    assert not [arn for arn, row in cloud.executions.items() if row[0] == RELEASE]


@pytest.mark.parametrize("what", ["device", "endpoint"])
def test_a_release_that_is_not_what_it_says_is_a_failure(
    cloud: Cloud, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if what == "device":
        cloud.device["status"] = "UNHEALTHY"
    else:
        cloud.answers = "1.0.6"
    assert cli.main(["run", "--approve"]) == 1
    assert record(cloud)["status"] == "FAILED"
    assert ("UNHEALTHY" if what == "device" else "1.0.6") in capsys.readouterr().err


def test_an_event_that_starts_nothing_is_said(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lab.flow.EVENT_SECONDS", 0.3)
    monkeypatch.setattr(cloud, "execute", lambda *_: None)
    assert cli.main(["run"]) == 1
    assert "no execution of ml-lab-dev-flow started" in capsys.readouterr().err


def test_an_unknown_data_set_is_one_line(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--dataset", "nonsense"]) == 1
    assert "there is no data set nonsense" in capsys.readouterr().err
    assert "raw/nonsense/_manifest.json" not in cloud.objects


def test_logs_and_report_find_a_past_run(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run"]) == 0
    capsys.readouterr()
    assert cli.main(["logs", "train", "--lines", "1"]) == 0
    assert capsys.readouterr().out == "ValueError: the oven is off\n"
    assert cli.main(["logs", "nobody"]) == 1
    assert cli.main(["report", RUN[:6]]) == 0
    assert capsys.readouterr().out.strip().endswith("report.html")


def test_invoke_asks_the_endpoint_about_a_file(
    cloud: Cloud, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "digit.png").write_bytes(b"png")
    (tmp_path / "digit").write_bytes(b"png")
    assert cli.main(["invoke", str(tmp_path / "digit.png")]) == 0
    assert f"model version {VERSION}" in capsys.readouterr().out
    assert cli.main(["invoke", str(tmp_path / "digit")]) == 1
    assert cli.main(["invoke", str(tmp_path / "digit"), "--content-type", "image/png"]) == 0
