"""The rollout as data: canaries first, watched, then the fleet at a growing rate, and back when they refuse the model.

`$.last` is what each thing group had before, `$.canary` and `$.fleet` are the deployments made, `$.job` is how far the
one under way is. What fails is recorded first; then every group that has a deployment of this release gets one of what
it had before, for nucleus lite rolls nothing back by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from infra import states
from infra.states import State

FIRST, FIRST_BACK = "LastGood", "WhatToRollBack"
VERSION = "$.release.version"
JOB = "$.job"


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """Whom a model reaches, how fast, and what stops it; the functions that know and judge."""

    functions: dict[str, str]
    group_arns: dict[str, str]
    group_names: dict[str, str]
    model_component: str
    abort_failed_percent: float
    timeout_minutes: int
    per_minute: int
    factor: float


def forward(parts: Rollout, *, then: str, caught_by: str) -> dict[str, State]:
    """From the first question to the fleet; every failure leads to `caught_by`, with `$.error`."""
    return {
        **_last_good(parts, caught_by),
        **_group(
            parts,
            "Canary",
            ready=ALL_CANARIES,
            failed=(ANY_CANARY_FAILED, "BeginWatch"),
            then="BeginWatch",
            caught_by=caught_by,
        ),
        **_watch(parts, caught_by),
        **_group(
            parts, "Fleet", ready=FLEET_DONE, failed=(FLEET_REFUSED, "FleetFailed"), then=then, caught_by=caught_by
        ),
        "Superseded": states.error(
            "Superseded", "the deployment was cancelled, or replaced by another one", then=caught_by
        ),
    }


def _last_good(parts: Rollout, caught_by: str) -> dict[str, State]:
    """What to go back to is asked before anything is deployed."""
    return {
        "LastGood": states.invoke(
            parts.functions["release"],
            {"action": "last_good", "model_package.$": "$.model_package"},
            then="DeployCanary",
            caught_by=caught_by,
            select={f"{name}.$": f"$.Payload.{name}" for name in ("canary", "fleet", "since")},
            result="$.last",
        )
    }


def _group(
    parts: Rollout, title: str, *, ready: State, failed: tuple[State, str], then: str, caught_by: str
) -> dict[str, State]:
    """A deployment to one thing group, awaited. It replaces the group's former deployment.

    A thing group's deployment stays ACTIVE in AWS whatever its devices did, for devices may join later; how far they
    are is known to the IoT job behind it. A group without a device keeps the deployment and holds nothing up. A job
    that was cancelled though no device failed it was cancelled by a person, or replaced by another deployment.
    """
    group = title.lower()
    cancelled = states.equals(f"{JOB}.status", "CANCELED")
    return {
        f"Deploy{title}": _deployment(
            parts,
            group,
            {parts.model_component: {"ComponentVersion.$": VERSION}},
            name=f"States.Format('{parts.model_component} {{}} {group}', {VERSION})",
            then=f"Count{title}",
            result=f"$.{group}",
            caught_by=caught_by,
        ),
        f"Count{title}": states.task(
            "aws-sdk:iot:listThingsInThingGroup",
            {"ThingGroupName": parts.group_names[group], "MaxResults": 1},
            service="iot",
            then=f"{title}HasDevices",
            caught_by=caught_by,
            select={"things.$": "States.ArrayLength($.Things)", "seconds": 1},
            result="$.look",
        ),
        f"{title}HasDevices": states.choice(
            ({"Variable": "$.look.things", "NumericEquals": 0}, "DeployFleet" if group == "canary" else then),
            otherwise=f"Describe{title}",
        ),
        f"Describe{title}": _describe_job(f"$.{group}.job", then=f"{title}Ready", caught_by=caught_by),
        f"{title}Ready": states.choice(
            ({"And": [cancelled, *NONE_FAILED]}, "Superseded"),
            ({"Or": [cancelled, failed[0]]}, failed[1]),
            (ready, then),
            ({"Variable": "$.look.seconds", "NumericGreaterThan": LOOKS}, f"{title}Failed"),
            otherwise=f"WaitFor{title}",
        ),
        **states.growing_wait(title, f"Describe{title}"),
        f"{title}Failed": states.error(
            f"{title}Failed", f"too many devices of the {group} group did not take the model", then=caught_by
        ),
    }


def _deployment(
    parts: Rollout, group: str, components: State, *, name: str, then: str, result: str, caught_by: str
) -> State:
    """CreateDeployment, which this execution makes once per name however often it is tried."""
    return states.task(
        "aws-sdk:greengrassv2:createDeployment",
        {
            "TargetArn": parts.group_arns[group],
            "DeploymentName.$": name,
            "Components": components,
            "IotJobConfiguration": _job_limits(parts, group),
            "ClientToken.$": "States.Hash(States.Format('{} {}', $$.Execution.Name, $$.State.Name), 'SHA-256')",
        },
        service="greengrassv2",
        then=then,
        caught_by=caught_by,
        select={"deployment.$": "$.DeploymentId", "job.$": "$.IotJobId"},
        result=result,
    )


def _describe_job(job: str, *, then: str, caught_by: str) -> State:
    return states.task(
        "aws-sdk:iot:describeJob",
        {"JobId.$": job},
        service="iot",
        then=then,
        caught_by=caught_by,
        select={"status.$": "$.Job.Status", "things.$": "$.Job.JobProcessDetails"},
        result=JOB,
    )


def _watch(parts: Rollout, caught_by: str) -> dict[str, State]:
    """The canaries' telemetry is looked at until the window is over, or they speak against the model.

    A canary that failed its deployment is looked at too: its alert says why.
    """
    return {
        "BeginWatch": {
            "Type": "Pass",
            "Parameters": {"began.$": "$$.State.EnteredTime"},
            "ResultPath": "$.watch",
            "Next": "JudgeCanaries",
        },
        "JudgeCanaries": states.invoke(
            parts.functions["verdict"],
            {"version.$": VERSION, "since.$": "$.last.since", "began.$": "$.watch.began", "job.$": JOB},
            then="Verdict",
            caught_by=caught_by,
            select={f"{name}.$": f"$.Payload.{name}" for name in ("answer", "cause")},
            result="$.verdict",
        ),
        "Verdict": states.choice(
            (states.equals("$.verdict.answer", "pass"), "DeployFleet"),
            (states.equals("$.verdict.answer", "fail"), "CanaryRefused"),
            otherwise="WaitForVerdict",
        ),
        **states.growing_wait("Verdict", "JudgeCanaries"),
        "CanaryRefused": states.error("CanaryRefused", "$.verdict.cause", then=caught_by),
    }


def back(parts: Rollout, *, then: str) -> dict[str, State]:
    """What each group had before, deployed again where this release deployed; canaries first, the last one awaited."""
    return {
        FIRST_BACK: states.choice(
            (states.equals("$.error.Error", "Superseded"), then),
            (_present("$.canary.deployment"), "CanaryHadModel"),
            otherwise=then,
        ),
        **_back(parts, "Canary", then="FleetUnderWay", caught_by=then),
        "FleetUnderWay": states.choice((_present("$.fleet.deployment"), "FleetHadModel"), otherwise="LookBack"),
        **_back(parts, "Fleet", then="LookBack", caught_by=then),
        "LookBack": {"Type": "Pass", "Result": {"seconds": 1}, "ResultPath": "$.look", "Next": "DescribeRollBack"},
        "DescribeRollBack": _describe_job("$.back.job", then="RolledBack", caught_by=then),
        "RolledBack": states.choice(
            ({"And": [*NONE_WAITS, ANY_ENDED]}, then),
            (states.equals(f"{JOB}.status", "CANCELED"), then),
            ({"Variable": "$.look.seconds", "NumericGreaterThan": LOOKS_BACK}, then),
            otherwise="WaitForRollBack",
        ),
        **states.growing_wait("RollBack", "DescribeRollBack"),
    }


def _back(parts: Rollout, title: str, *, then: str, caught_by: str) -> dict[str, State]:
    """The version before; or no model at all, which leaves the runtime component, of another group, alone."""
    group = title.lower()
    had = f"$.last.{group}"
    name = f"'{parts.model_component} {{}} {group}, back from {{}}'"
    shape: dict[str, str] = {"then": then, "result": "$.back", "caught_by": caught_by}
    former = {parts.model_component: {"ComponentVersion.$": had}}
    return {
        f"{title}HadModel": states.choice((states.equals(had, ""), f"Clear{title}"), otherwise=f"RollBack{title}"),
        f"RollBack{title}": _deployment(parts, group, former, name=f"States.Format({name}, {had}, {VERSION})", **shape),
        f"Clear{title}": _deployment(parts, group, {}, name=f"States.Format({name}, 'none', {VERSION})", **shape),
    }


def _present(variable: str) -> State:
    return {"Variable": variable, "IsPresent": True}


def _things(count: str, comparison: str, value: int = 0) -> State:
    return {"Variable": f"{JOB}.things.NumberOf{count}Things", comparison: value}


def _any(*counts: str) -> State:
    """Whether a device is in one of these states; a job leaves out what it has none of."""
    return {
        "Or": [
            {"And": [_present(f"{JOB}.things.NumberOf{count}Things"), _things(count, "NumericGreaterThan")]}
            for count in counts
        ]
    }


# A wait grows by a second each time: 240 looks are eight hours, 60 half an hour, 40 a quarter.
LOOKS, LOOKS_FOR_THE_ABSENT, LOOKS_BACK = 240, 60, 40
NONE_WAITS = [_things("Queued", "NumericEquals"), _things("InProgress", "NumericEquals")]
ANY_FAILED = _any("Failed", "Rejected", "TimedOut")
NONE_FAILED = [{"Not": ANY_FAILED}]
ANY_ENDED = _any("Succeeded", "Failed", "Rejected", "TimedOut", "Canceled", "Removed")
ALL_CANARIES = {"And": [*NONE_WAITS, _things("Succeeded", "NumericGreaterThan")]}
ANY_CANARY_FAILED = _any("Failed", "Rejected", "TimedOut", "Canceled")
# While a job rolls out it names the targets that it has not reached; a device that is off takes the deployment when it
# returns, and is not waited for. A share of failures is what the abort criteria judge.
ROLLED_OUT = {"Not": _present(f"{JOB}.things.ProcessingTargets[0]")}
FLEET_DONE = {
    "And": [
        ROLLED_OUT,
        _things("InProgress", "NumericEquals"),
        _things("Succeeded", "NumericGreaterThan"),
        {
            "Or": [
                _things("Queued", "NumericEquals"),
                {"Variable": "$.look.seconds", "NumericGreaterThan": LOOKS_FOR_THE_ABSENT},
            ]
        },
    ]
}
FLEET_REFUSED = {"And": [*NONE_WAITS, _things("Succeeded", "NumericEquals"), _things("Failed", "NumericGreaterThan")]}


def _job_limits(parts: Rollout, group: str) -> State:
    """Stops a deployment when too many devices fail it; a device that stays away does not hold it up for ever.

    The fleet is reached at a rate that grows by a factor each time as many devices as it started with took the model.
    """
    criteria = {
        "FailureType": "FAILED",
        "Action": "CANCEL",
        "ThresholdPercentage": parts.abort_failed_percent,
        "MinNumberOfExecutedThings": 1,
    }
    rate = {
        "BaseRatePerMinute": parts.per_minute,
        "IncrementFactor": parts.factor,
        "RateIncreaseCriteria": {"NumberOfSucceededThings": parts.per_minute},
    }
    return {
        "AbortConfig": {"CriteriaList": [criteria]},
        "TimeoutConfig": {"InProgressTimeoutInMinutes": parts.timeout_minutes},
        **({"JobExecutionsRolloutConfig": {"ExponentialRate": rate}} if group == "fleet" else {}),
    }
