"""The flow as data, from a raw manifest to a registered model that waits for a person.

Input: `{"bucket", "key", "nonce"}`; the nonce is empty for new data and the event's id for a drift alarm. Throughout,
`$.manifest` holds digest, dataset, modality, task, run (the execution's name), job (a name short enough for jobs) and
claim. Each run is claimed once: the claim is the manifest's digest, the hash of settings and code, and the nonce, so an
event that comes twice ends in `AlreadyDone`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infra import states
from infra.states import State

# EventBridge names an execution `<event id>_<uuid>`, longer than a job's name may be: jobs take the last part.
_PARTS = "States.StringSplit($$.Execution.Name, '_')"
JOB_NAME = f"States.ArrayGetItem({_PARTS}, States.MathAdd(States.ArrayLength({_PARTS}), -1))"


# Where the evaluation leaves the best baseline, as a training job leaves its model: bucket, run.
BASELINE = "s3://{}/runs/{}/evaluate/baseline/model.tar.gz"


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the flow is made of: names, function ARNs and job requests."""

    code: str
    table: str
    glue_job: str
    functions: dict[str, str]
    job_repository: str
    job_tag: str
    job_project: str
    serve_repository: str
    serve_tag: str
    serve_project: str
    pixels: int
    corrupt_share: float
    seed: int
    minutes: int
    train: State
    evaluate: State
    export: State
    tune: State | None = None
    tuned: State | None = None


def definition(parts: Parts) -> dict[str, Any]:
    """The state machine in Amazon States Language."""
    every = {**_claim(parts), **_jobs(parts), **_gates(parts), **_ends(parts)}
    return {
        "Comment": "Raw data to a gated, measured, registered model. Approval starts the other machine.",
        "StartAt": "ReadManifest",
        "QueryLanguage": "JSONPath",
        "TimeoutSeconds": 24 * 3600,
        "States": every,
    }


def _claim(parts: Parts) -> dict[str, State]:
    return {
        "ReadManifest": states.task(
            "aws-sdk:s3:headObject",
            {"Bucket.$": "$.bucket", "Key.$": "$.key"},
            service="s3",
            then="Claim",
            caught_by="ManifestUnreadable",
            select={
                "digest.$": "$.Metadata.digest",
                "dataset.$": "$.Metadata.dataset",
                "modality.$": "$.Metadata.modality",
                "task.$": "$.Metadata.task",
                "run.$": "$$.Execution.Name",
                "job.$": JOB_NAME,
                "claim.$": f"States.Format('{{}}#{parts.code}#{{}}', $.Metadata.digest, $$.Execution.Input.nonce)",
            },
            result="$.manifest",
        ),
        "Claim": states.task(
            "dynamodb:putItem",
            {
                "TableName": parts.table,
                "Item": {
                    "claim": {"S.$": "$.manifest.claim"},
                    "run": {"S.$": "$.manifest.run"},
                    "dataset": {"S.$": "$.manifest.dataset"},
                    "status": {"S": "RUNNING"},
                    "started": {"S.$": "$$.State.EnteredTime"},
                    "updated": {"S.$": "$$.State.EnteredTime"},
                },
                "ConditionExpression": "attribute_not_exists(claim) OR #status IN (:failed, :refused)",
                "ExpressionAttributeNames": {"#status": "status"},
                "ExpressionAttributeValues": {":failed": {"S": "FAILED"}, ":refused": {"S": "REFUSED"}},
            },
            service="dynamodb",
            then="FindJobImage",
            caught_by="RecordFailure",
            catch=[
                {
                    "ErrorEquals": ["DynamoDB.ConditionalCheckFailedException"],
                    "ResultPath": "$.claimed",
                    "Next": "AlreadyDone",
                }
            ],
        ),
        "AlreadyDone": {"Type": "Succeed", "Comment": "The same data, settings and code have their run already"},
    }


def _jobs(parts: Parts) -> dict[str, State]:
    return {
        "FindJobImage": states.find_image(
            "job", parts.job_repository, parts.job_tag, found="Etl", absent="BuildJobImage", caught_by="RecordFailure"
        ),
        "BuildJobImage": states.build_image(parts.job_project, then="Etl", caught_by="RecordFailure"),
        "Etl": states.task(
            "glue:startJobRun.sync",
            {
                "JobName": parts.glue_job,
                "Arguments": {
                    "--bucket.$": "$.bucket",
                    "--key.$": "$.key",
                    "--run.$": "$.manifest.run",
                    "--seed": str(parts.seed),
                    "--pixels": str(parts.pixels),
                    "--corrupt-share": str(parts.corrupt_share),
                },
            },
            service="glue",
            then="Tune" if parts.tune else "Train",
            caught_by="RecordFailure",
            minutes=parts.minutes + 10,
        ),
        **_training(parts),
        "Evaluate": _processing(parts.evaluate, parts.minutes, then="Gate"),
        "Export": _processing(parts.export, parts.minutes, then="ReleaseGate"),
    }


def _training(parts: Parts) -> dict[str, State]:
    """One training, or the best of a search; `$.train` is the same after either."""
    name, resource, request = "Train", "createTrainingJob", parts.train
    select = {"job.$": "$.TrainingJobName", "artifact.$": "$.ModelArtifacts.S3ModelArtifacts"}
    if parts.tune and parts.tuned:
        name, resource, request, select = "Tune", "createHyperParameterTuningJob", parts.tune, parts.tuned
    state = states.task(
        f"sagemaker:{resource}.sync",
        request,
        service="sagemaker",
        then="Evaluate",
        caught_by="RecordFailure",
        minutes=24 * 60 if parts.tune else 2 * parts.minutes + 20,
        select=select,
        result="$.train",
    )
    return {name: state}


def _processing(request: State, minutes: int, *, then: str) -> State:
    return states.task(
        "sagemaker:createProcessingJob.sync",
        request,
        service="sagemaker",
        then=then,
        caught_by="RecordFailure",
        minutes=minutes + 20,
    )


def _gates(parts: Parts) -> dict[str, State]:
    return {
        "Gate": _gate(parts, "quality", "report_key", "runs/{}/evaluate/report.json", then="GatePassed"),
        "GatePassed": states.choice((states.equals("$.gate.passed", True), "WhatShips"), otherwise="Refuse"),
        "WhatShips": states.choice((states.equals("$.gate.ship", "model"), "Export"), otherwise="ShipBaseline"),
        "ShipBaseline": {
            "Type": "Pass",
            "Comment": "The best baseline is better, and [gate] ship_baseline lets it stand for the model",
            "Parameters": {
                "job.$": "$.train.job",
                "artifact.$": f"States.Format('{BASELINE}', $.bucket, $.manifest.run)",
            },
            "ResultPath": "$.train",
            "Next": "Export",
        },
        "ReleaseGate": _gate(parts, "release", "export_key", "runs/{}/export/export.json", then="ReleaseGatePassed"),
        "ReleaseGatePassed": states.choice(
            (states.equals("$.gate.passed", True), "FindServeImage"), otherwise="Refuse"
        ),
        # The registry looks the image up when a package names it, so it is there before the package is.
        "FindServeImage": states.find_image(
            "serve",
            parts.serve_repository,
            parts.serve_tag,
            found="Register",
            absent="BuildServeImage",
            caught_by="RecordFailure",
        ),
        "BuildServeImage": states.build_image(parts.serve_project, then="Register", caught_by="RecordFailure"),
        "Register": states.invoke(
            parts.functions["register"],
            {
                "run.$": "$.manifest.run",
                "bucket.$": "$.bucket",
                "checkpoint.$": "$.train.artifact",
                "execution.$": "$$.Execution.Id",
            },
            then="RecordPending",
            caught_by="RecordFailure",
            select={"model_package.$": "$.Payload.model_package", "version.$": "$.Payload.version"},
            result="$.registered",
        ),
        "RecordPending": states.task(
            "dynamodb:updateItem",
            {
                "TableName": parts.table,
                "Key": {"claim": {"S.$": "$.manifest.claim"}},
                "UpdateExpression": "SET #status = :status, model_package = :package, version = :version, updated = :t",
                "ExpressionAttributeNames": {"#status": "status"},
                "ExpressionAttributeValues": {
                    ":status": {"S": "PENDING_APPROVAL"},
                    ":package": {"S.$": "$.registered.model_package"},
                    ":version": {"S.$": "$.registered.version"},
                    ":t": {"S.$": "$$.State.EnteredTime"},
                },
            },
            service="dynamodb",
            then="PendingApproval",
            caught_by="RecordFailure",
        ),
        "PendingApproval": {"Type": "Succeed", "Comment": "A person decides in the model registry"},
    }


def _gate(parts: Parts, stage: str, key_name: str, pattern: str, *, then: str) -> State:
    return states.invoke(
        parts.functions["gate"],
        {
            "stage": stage,
            "run.$": "$.manifest.run",
            "bucket.$": "$.bucket",
            f"{key_name}.$": f"States.Format('{pattern}', $.manifest.run)",
        },
        then=then,
        caught_by="RecordFailure",
        select={name: f"$.Payload.{name[:-2]}" for name in ("passed.$", "reasons.$", "ship.$")},
        result="$.gate",
    )


def _ends(parts: Parts) -> dict[str, State]:
    return {
        "Refuse": states.invoke(
            parts.functions["failure"],
            {
                "run.$": "$.manifest.run",
                "claim.$": "$.manifest.claim",
                "error": {"Error": "GateRefused", "Cause.$": "States.JsonToString($.gate.reasons)"},
            },
            then="Refused",
            caught_by="Failed",
            select={"error.$": "$.Payload.error", "cause.$": "$.Payload.cause"},
            result="$.refusal",
        ),
        "Refused": {"Type": "Fail", "Error": "GateRefused", "CausePath": "States.JsonToString($.gate.reasons)"},
        "ManifestUnreadable": {
            "Type": "Pass",
            "Comment": "Nothing was claimed, so there is no row to mark",
            "Result": {"claim": ""},
            "ResultPath": "$.manifest",
            "Next": "RecordFailure",
        },
        "RecordFailure": states.invoke(
            parts.functions["failure"],
            {"run.$": "$$.Execution.Name", "claim.$": "$.manifest.claim", "error.$": "$.error"},
            then="Failed",
            caught_by="Failed",
        ),
        "Failed": {"Type": "Fail", "ErrorPath": "$.error.Error", "CausePath": "$.error.Cause"},
    }
