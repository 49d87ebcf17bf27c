"""What a run would cost in AWS: the states as they ran, priced by a dated table.

Covers: training and processing instances, Glue workers, CodeBuild minutes, Lambda, state transitions; per month the
keys, alarms and the endpoint. Does not cover: storage, requests to S3 and DynamoDB, logs, data transfer, IoT messages
(cents at this size), free tiers, discounts. The seconds are those measured here; AWS adds minutes of start-up to a
job but bills instances for little of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.history import State
from lab.home import read_json

HOURS_A_MONTH = 730
MINIMUM_GLUE_SECONDS = 60.0


def prices() -> dict[str, Any]:
    """The dated price table."""
    table: dict[str, Any] = read_json(Path(__file__).with_name("prices.json"))
    return table


def estimate(states: Sequence[State], template: Mapping[str, Any]) -> dict[str, Any]:
    """USD of one run with rows that say how, and USD a month while nothing runs.

    `template` is the CloudFormation template as a dict. An instance type that the table lacks gives a row whose
    `usd` is None and a note; the sum then leaves it out and says so.
    """
    table = prices()
    transitions = sum(state.visits for state in states)
    rows = [row for state in states if (row := _row(state, template, table))]
    rows.append(_priced("state transitions", transitions * table["state_transition"], f"{transitions} transitions"))
    known = [row["usd"] for row in rows if row["usd"] is not None]
    return {
        "estimate_usd": round(sum(known), 4),
        "idle_month_usd": round(_idle_month(template, states, table), 2),
        "rows": rows,
        "unpriced": [row["what"] for row in rows if row["usd"] is None],
        "prices": {key: table[key] for key in ("date", "region", "note")},
    }


def _row(state: State, template: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any] | None:
    resource = state.resource.removeprefix("aws-sdk:")
    if resource == "sagemaker:createTrainingJob.sync":
        return _instances(state, state.parameters.get("ResourceConfig") or {}, table)
    if resource == "sagemaker:createProcessingJob.sync":
        cluster = (state.parameters.get("ProcessingResources") or {}).get("ClusterConfig") or {}
        return _instances(state, cluster, table)
    if resource == "glue:startJobRun.sync":
        return _glue(state, template, table)
    if resource == "codebuild:startBuild.sync":
        return _build(state, template, table)
    if resource == "lambda:invoke":
        usd = table["lambda_request"] + state.seconds * 0.25 * table["lambda_gb_second"]
        return _priced(state.name, usd, f"{state.seconds:.1f} s of Lambda at 256 MB")
    return None


def _instances(state: State, cluster: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    kind, count = str(cluster.get("InstanceType")), int(cluster.get("InstanceCount") or 1)
    hourly = table["instance_hour"].get(kind)
    if hourly is None:
        return _priced(state.name, None, f"the price table has no {kind}")
    return _priced(state.name, state.seconds / 3600 * hourly * count, f"{state.seconds:.1f} s on {count} × {kind}")


def _glue(state: State, template: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    job = next(_of_type(template, "AWS::Glue::Job"), {})
    workers, kind = int(job.get("NumberOfWorkers") or 2), str(job.get("WorkerType") or "G.1X")
    dpu = workers * table["glue_worker_dpu"].get(kind, 1)
    seconds = max(MINIMUM_GLUE_SECONDS, state.seconds)
    return _priced(state.name, seconds / 3600 * dpu * table["glue_dpu_hour"], f"{seconds:.0f} s on {workers} × {kind}")


def _build(state: State, template: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    project = next(_of_type(template, "AWS::CodeBuild::Project"), {})
    kind = str((project.get("Environment") or {}).get("ComputeType") or "BUILD_GENERAL1_SMALL")
    minutes = math.ceil(max(1.0, state.seconds) / 60)
    minute = table["codebuild_minute"].get(kind)
    usd = None if minute is None else minutes * minute
    return _priced(state.name, usd, f"{minutes} min of {kind} here; an image takes several in AWS, once per content")


def _priced(what: str, usd: float | None, how: str) -> dict[str, Any]:
    return {"what": what, "usd": None if usd is None else round(usd, 6), "how": how}


def _idle_month(template: Mapping[str, Any], states: Iterable[State], table: Mapping[str, Any]) -> float:
    """USD a month for what is there while nothing runs: keys, alarms, and the endpoint when one was created."""
    keys = len(list(_of_type(template, "AWS::KMS::Key"))) * table["kms_key_month"]
    alarms = len(list(_of_type(template, "AWS::CloudWatch::Alarm"))) * table["alarm_month"]
    return float(keys + alarms + sum(_hosting(state, table) for state in states))


def _hosting(state: State, table: Mapping[str, Any]) -> float:
    if not state.resource.endswith("sagemaker:createEndpointConfig"):
        return 0.0
    variants: Sequence[Mapping[str, Any]] = state.parameters.get("ProductionVariants") or []
    hourly = [
        table["instance_hour"].get(row.get("InstanceType"), 0.0) * int(row.get("InitialInstanceCount") or 1)
        for row in variants
    ]
    return float(sum(hourly)) * HOURS_A_MONTH


def _of_type(template: Mapping[str, Any], kind: str) -> Iterator[Mapping[str, Any]]:
    resources: Mapping[str, Any] = template.get("Resources") or {}
    return iter([row.get("Properties") or {} for row in resources.values() if row.get("Type") == kind])
