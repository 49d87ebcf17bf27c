"""What a run costs in AWS: its states as they ran, or at their time limits, priced by a dated table.

Covers: training, tuning and processing instances, Glue workers, CodeBuild minutes, Lambda, state transitions. Does not
cover: storage, requests to S3 and DynamoDB, logs, data transfer (cents at this size), free tiers, discounts. The
seconds are those measured here; AWS adds minutes of start-up to a job but bills instances for little of it. What
stands while nothing runs is lab/standing.py's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lab import definition, prices, standing
from lab.history import State
from lab.prices import Prices

MINIMUM_GLUE_SECONDS = 60.0
# DPUs of a worker, by its type.
GLUE_WORKERS = {"G.1X": 1, "G.2X": 2, "G.4X": 4, "G.8X": 8, "G.025X": 0.25, "Standard": 1}
TRAINING, PROCESSING = "sagemaker:createTrainingJob.sync", "sagemaker:createProcessingJob.sync"
TUNING = "sagemaker:createHyperParameterTuningJob.sync"
GLUE, BUILD, FUNCTION = "glue:startJobRun.sync", "codebuild:startBuild.sync", "lambda:invoke"
BUILD_MINUTES = 15  # at most that CodeBuild took for an image of this size; a limit for what is not measured
Template = Mapping[str, Any]
Row = dict[str, Any]


def estimate(states: Sequence[State], template: Template, table: Prices | None = None) -> dict[str, Any]:
    """USD of one run with rows that say how, and USD a month while nothing runs.

    `template` is the CloudFormation template as a dict. An instance type that the table lacks gives a row whose
    `usd` is None and a note; the sum then leaves it out and `unpriced` names it.
    """
    table = table or prices.load()
    rows = run_rows(states, template, table)
    still = standing.rows(template, table)
    return {
        "estimate_usd": total(row["usd"] for row in rows),
        "idle_month_usd": round(total(row.month_usd for row in still), 2),
        "rows": rows,
        "unpriced": [row["what"] for row in rows if row["usd"] is None],
        "prices": table.summary(),
    }


def total(usd: Iterable[float | None]) -> float:
    """The sum of what is known."""
    return round(sum(value for value in usd if value is not None), 4)


def run_rows(states: Sequence[State], template: Template, table: Prices) -> list[Row]:
    """What each state of a run costs, and all their transitions."""
    found = [row for state in states if (row := _row(state, template, table))]
    transitions = sum(state.visits for state in states)
    usd = transitions * table.usd("state_transition")
    return [*found, _priced("state transitions", "StepFunctions", usd, f"{transitions} transitions")]


def recorded(record: Mapping[str, Any], template: Template) -> list[State]:
    """A record's states as rows to price: the seconds are the record's, the instances what `template` now asks for."""
    asked = dict(_tasks(template))
    return [
        State(
            name=str(row["name"]),
            flow=str(row.get("flow", "")),
            resource=str(row["resource"]),
            start=0.0,
            end=0.0,
            seconds=float(row["seconds"]),
            visits=int(row.get("visits", 1)),
            parameters=dict(asked.get(str(row["name"]), {}).get("Parameters") or {}),
        )
        for row in record["states"]
    ]


def supposed(template: Template, most: float = math.inf) -> list[State]:
    """Every job of the template's state machines at its own time limit, or for `most` seconds when that is less."""
    found = []
    for name, task in _tasks(template):
        given = task.get("Parameters") or {}
        resource = str(task.get("Resource")).partition(":::")[2]
        seconds = min(most, _limit(resource, given, template))
        if seconds:
            found.append(State(name, "", resource, 0.0, seconds, seconds, parameters=dict(given)))
    return found


def _limit(resource: str, given: Mapping[str, Any], template: Template) -> float:
    stops = "StoppingCondition"
    if resource == TUNING:
        jobs = given["HyperParameterTuningJobConfig"]["ResourceLimits"]
        rounds = math.ceil(int(jobs["MaxNumberOfTrainingJobs"]) / int(jobs["MaxParallelTrainingJobs"]))
        return rounds * float(given["TrainingJobDefinition"][stops]["MaxRuntimeInSeconds"])
    if resource in (TRAINING, PROCESSING):
        return float((given.get(stops) or {}).get("MaxRuntimeInSeconds", 24 * 3600))
    if resource == GLUE:
        return 60.0 * float(next(_of_type(template, "AWS::Glue::Job"), {}).get("Timeout", 48 * 60))
    return 60.0 * BUILD_MINUTES if resource == BUILD else 0.0


def _tasks(template: Template) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and definition of every task of the template's state machines."""
    for machine in _of_type(template, "AWS::StepFunctions::StateMachine"):
        for name, state in definition.of_resource(machine)["States"].items():
            if state.get("Type") == "Task":
                yield str(name), state


def _row(state: State, template: Template, table: Prices) -> Row | None:
    given, resource = state.parameters, state.resource.removeprefix("aws-sdk:")
    if resource == TRAINING:
        return _instances(state, given.get("ResourceConfig") or {}, table)
    if resource == TUNING:
        trial = (given.get("TrainingJobDefinition") or {}).get("ResourceConfig") or {}
        limits = (given.get("HyperParameterTuningJobConfig") or {}).get("ResourceLimits") or {}
        return _instances(state, trial, table, at_once=int(limits.get("MaxParallelTrainingJobs") or 1))
    if resource == PROCESSING:
        return _instances(state, (given.get("ProcessingResources") or {}).get("ClusterConfig") or {}, table)
    if resource == GLUE:
        return _glue(state, template, table)
    if resource == BUILD:
        return _build(state, template, table)
    if resource == FUNCTION:
        usd = state.visits * table.usd("lambda_request") + state.seconds * 0.25 * table.usd("lambda_gb_second")
        return _priced(state.name, "Lambda", usd, f"{state.seconds:.1f} s of Lambda at 256 MB")
    return None


def _instances(state: State, cluster: Mapping[str, Any], table: Prices, at_once: int = 1) -> Row:
    kind, count = str(cluster.get("InstanceType")), int(cluster.get("InstanceCount") or 1) * at_once
    hourly = table.of("instance_hour", kind)
    if hourly is None:
        return _priced(state.name, "SageMaker", None, f"the price table has no {kind}")
    usd = state.seconds / 3600 * hourly * count
    return _priced(state.name, "SageMaker", usd, f"{state.seconds:.1f} s on {count} × {kind}")


def _glue(state: State, template: Template, table: Prices) -> Row:
    job = next(_of_type(template, "AWS::Glue::Job"), {})
    workers, kind = int(job.get("NumberOfWorkers") or 2), str(job.get("WorkerType") or "G.1X")
    dpu = workers * GLUE_WORKERS.get(kind, 1)
    seconds = max(MINIMUM_GLUE_SECONDS, state.seconds)
    usd = seconds / 3600 * dpu * table.usd("glue_dpu_hour")
    return _priced(state.name, "Glue", usd, f"{seconds:.0f} s on {workers} × {kind}")


def _build(state: State, template: Template, table: Prices) -> Row:
    project = next(_of_type(template, "AWS::CodeBuild::Project"), {})
    kind = str((project.get("Environment") or {}).get("ComputeType") or "BUILD_GENERAL1_SMALL")
    minutes = math.ceil(max(1.0, state.seconds) / 60)
    minute = table.of("codebuild_minute", kind)
    usd = None if minute is None else minutes * minute
    how = f"{minutes} min of {kind}; an image takes several in AWS, once per content"
    return _priced(state.name, "CodeBuild", usd, how)


def _priced(what: str, service: str, usd: float | None, how: str) -> Row:
    return {"what": what, "service": service, "usd": None if usd is None else round(usd, 6), "how": how}


def _of_type(template: Template, kind: str) -> Iterator[Mapping[str, Any]]:
    resources: Mapping[str, Any] = template.get("Resources") or {}
    return iter([row.get("Properties") or {} for row in resources.values() if row.get("Type") == kind])
