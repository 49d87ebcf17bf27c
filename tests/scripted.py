"""A cloud that plays its part from a script, for commands that follow a run: its events, its services, its files."""

import io
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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

    def scan(self, **given: Any) -> dict[str, Any]:
        assert given["ExpressionAttributeValues"] == {":package": {"S": GROUP}}
        return {"Items": [{key: {"S": value} for key, value in self.cloud.row.items()}]}

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


def record(cloud: Cloud) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((cloud.root.parent / ".lab" / "runs" / RUN / "record.json").read_text())
    return found
