"""The release flow as data, from an approved package to endpoint, canaries and fleet.

Input: `{"model_package"}`. `$.release` holds what the release function prepared: names, artefact locations, version;
`$.look` how long to wait before the next look at what is under way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infra import states
from infra.states import State

# What the release function's `prepare` answers and the states below read.
PREPARED = ("version", "model_name", "config_name", "endpoint_exists", "model_data_url")
VERSION = "$.release.version"
JOB = "$.job"
CAUGHT = "RecordReleaseFailure"
FIRST_LOOK: State = {"select": {"seconds": 1}, "result": "$.look"}


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a release is made of: names, function ARNs, the two groups, the endpoint's shape."""

    functions: dict[str, str]
    serve_repository: str
    serve_tag: str
    serve_image: str
    serve_project: str
    serve_role: str
    endpoint: str
    variant: State
    environment: dict[str, str]
    volume_key: str | None
    capture: State | None
    scaling: tuple[int, int] | None
    group_arns: dict[str, str]
    group_names: dict[str, str]
    model_component: str
    abort_failed_percent: float
    timeout_minutes: int


def definition(parts: Parts) -> dict[str, Any]:
    """The state machine in Amazon States Language."""
    every = {
        **_serving(parts),
        **_component(parts),
        **_endpoint(parts),
        **_group(parts, "Canary", "canary", ready=ALL_CANARIES, failed=ANY_CANARY_FAILED, then="DeployFleet"),
        **_group(parts, "Fleet", "fleet", ready=FLEET_UNDER_WAY, failed=FLEET_REFUSED, then="RecordRelease"),
        **_ends(parts),
    }
    return {
        "Comment": "An approved model package to the endpoint, then the canary group, then the fleet",
        "StartAt": "Prepare",
        "QueryLanguage": "JSONPath",
        "TimeoutSeconds": 24 * 3600,
        "States": every,
    }


def _serving(parts: Parts) -> dict[str, State]:
    return {
        "Prepare": states.invoke(
            parts.functions["release"],
            {"action": "prepare", "model_package.$": "$.model_package", "execution.$": "$$.Execution.Name"},
            then="FindServeImage",
            caught_by=CAUGHT,
            select={f"{name}.$": f"$.Payload.{name}" for name in PREPARED},
            result="$.release",
            retry=[{"ErrorEquals": ["EndpointBusy"], "IntervalSeconds": 15, "BackoffRate": 1.0, "MaxAttempts": 60}],
        ),
        "FindServeImage": states.find_image(
            "serve",
            parts.serve_repository,
            parts.serve_tag,
            found="CreateModel",
            absent="BuildServeImage",
            caught_by=CAUGHT,
        ),
        "BuildServeImage": states.build_image(parts.serve_project, then="CreateModel", caught_by=CAUGHT),
        "CreateModel": _sagemaker(
            "createModel",
            {
                "ModelName.$": "$.release.model_name",
                "ExecutionRoleArn": parts.serve_role,
                "PrimaryContainer": {
                    "Image": parts.serve_image,
                    "ModelDataUrl.$": "$.release.model_data_url",
                    "Environment": parts.environment,
                },
            },
            then="CreateEndpointConfig",
        ),
        "CreateEndpointConfig": _sagemaker(
            "createEndpointConfig",
            {
                "EndpointConfigName.$": "$.release.config_name",
                "ProductionVariants": [{"VariantName": "live", "ModelName.$": "$.release.model_name", **parts.variant}],
                **({"KmsKeyId": parts.volume_key} if parts.volume_key else {}),
                **({"DataCaptureConfig": parts.capture} if parts.capture else {}),
            },
            then="EndpointExists",
        ),
    }


def _endpoint(parts: Parts) -> dict[str, State]:
    names = {"EndpointName": parts.endpoint, "EndpointConfigName.$": "$.release.config_name"}
    # Without it, an update sets a scaled endpoint back to the one instance of its configuration.
    kept = {"RetainAllVariantProperties": True} if parts.scaling else {}
    return {
        "EndpointExists": states.choice(
            (states.equals("$.release.endpoint_exists", True), "UpdateEndpoint"), otherwise="CreateEndpoint"
        ),
        "UpdateEndpoint": _sagemaker("updateEndpoint", {**names, **kept}, then="PublishComponent", **FIRST_LOOK),
        "CreateEndpoint": _sagemaker("createEndpoint", names, then="PublishComponent", **FIRST_LOOK),
        "DescribeEndpoint": states.task(
            "aws-sdk:sagemaker:describeEndpoint",
            {"EndpointName": parts.endpoint},
            service="sagemaker-sdk",
            then="EndpointReady",
            caught_by=CAUGHT,
            select={"status.$": "$.EndpointStatus", "config.$": "$.EndpointConfigName"},
            result="$.endpoint",
        ),
        "EndpointReady": states.choice(
            (states.equals("$.endpoint.status", "InService"), "ScaleEndpoint" if parts.scaling else "DeployCanary"),
            (states.equals("$.endpoint.status", "Failed"), "EndpointFailed"),
            (states.equals("$.endpoint.status", "UpdateRollbackFailed"), "EndpointFailed"),
            otherwise="WaitForEndpoint",
        ),
        **states.growing_wait("Endpoint", "DescribeEndpoint"),
        **(_scaling(parts.endpoint, *parts.scaling) if parts.scaling else {}),
        "EndpointFailed": _error("EndpointFailed", f"the endpoint {parts.endpoint} did not come into service"),
    }


def _scaling(endpoint: str, most: int, requests: int) -> dict[str, State]:
    """More instances under load. Both calls may be repeated: they set what there should be."""
    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{endpoint}/variant/live",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    policy = {
        "TargetValue": requests,
        "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
    }
    return {
        "ScaleEndpoint": states.task(
            "aws-sdk:applicationautoscaling:registerScalableTarget",
            {**target, "MinCapacity": 1, "MaxCapacity": most},
            service="applicationautoscaling",
            then="PutScalingPolicy",
            caught_by=CAUGHT,
        ),
        "PutScalingPolicy": states.task(
            "aws-sdk:applicationautoscaling:putScalingPolicy",
            {
                **target,
                "PolicyName": f"{endpoint}-requests",
                "PolicyType": "TargetTrackingScaling",
                "TargetTrackingScalingPolicyConfiguration": policy,
            },
            service="applicationautoscaling",
            then="DeployCanary",
            caught_by=CAUGHT,
        ),
    }


def _component(parts: Parts) -> dict[str, State]:
    """A version of the model component, which no device has yet; made while the endpoint comes up."""
    return {
        "PublishComponent": states.invoke(
            parts.functions["release"],
            {"action": "component", "model_package.$": "$.model_package"},
            then="DescribeEndpoint",
            caught_by=CAUGHT,
        )
    }


def _group(parts: Parts, title: str, group: str, *, ready: State, failed: State, then: str) -> dict[str, State]:
    """A deployment to one thing group, awaited. It replaces the group's former deployment.

    A thing group's deployment stays ACTIVE in AWS whatever its devices did, for devices may join later; how far they
    are is known to the IoT job behind it. A group without a device keeps the deployment and holds nothing up.
    """
    failed_state = f"{title}Failed"
    return {
        f"Deploy{title}": states.task(
            "aws-sdk:greengrassv2:createDeployment",
            {
                "TargetArn": parts.group_arns[group],
                "DeploymentName.$": f"States.Format('{parts.model_component} {{}} {group}', {VERSION})",
                "Components": {parts.model_component: {"ComponentVersion.$": VERSION}},
                "IotJobConfiguration": _job_limits(parts),
            },
            service="greengrassv2",
            then=f"Count{title}",
            caught_by=CAUGHT,
            select={"deployment.$": "$.DeploymentId", "job.$": "$.IotJobId"},
            result=f"$.{group}",
        ),
        f"Count{title}": states.task(
            "aws-sdk:iot:listThingsInThingGroup",
            {"ThingGroupName": parts.group_names[group], "MaxResults": 1},
            service="iot",
            then=f"{title}HasDevices",
            caught_by=CAUGHT,
            select={"things.$": "States.ArrayLength($.Things)", "seconds": 1},
            result="$.look",
        ),
        f"{title}HasDevices": states.choice(
            ({"Variable": "$.look.things", "NumericEquals": 0}, then), otherwise=f"Describe{title}"
        ),
        f"Describe{title}": states.task(
            "aws-sdk:iot:describeJob",
            {"JobId.$": f"$.{group}.job"},
            service="iot",
            then=f"{title}Ready",
            caught_by=CAUGHT,
            select={"status.$": "$.Job.Status", "things.$": "$.Job.JobProcessDetails"},
            result=JOB,
        ),
        f"{title}Ready": states.choice(
            (states.equals(f"{JOB}.status", "CANCELED"), failed_state),
            (failed, failed_state),
            (ready, then),
            otherwise=f"WaitFor{title}",
        ),
        **states.growing_wait(title, f"Describe{title}"),
        failed_state: _error(f"{title}Failed", f"a device of the {group} group did not accept the model"),
    }


def _things(count: str, comparison: str, value: int = 0) -> State:
    return {"Variable": f"{JOB}.things.NumberOf{count}Things", comparison: value}


NONE_WAITS = {"And": [_things("Queued", "NumericEquals"), _things("InProgress", "NumericEquals")]}
ALL_CANARIES = {"And": [*NONE_WAITS["And"], _things("Succeeded", "NumericGreaterThan")]}
TIMED_OUT = _things("TimedOut", "NumericGreaterThan")
ANY_CANARY_FAILED = {
    "Or": [
        *(_things(count, "NumericGreaterThan") for count in ("Failed", "Rejected", "Canceled")),
        {"And": [{"Variable": TIMED_OUT["Variable"], "IsPresent": True}, TIMED_OUT]},
    ]
}
# A device that is off takes the deployment when it returns; a share of failures is what the abort criteria judge.
FLEET_UNDER_WAY = {"And": [_things("InProgress", "NumericEquals"), _things("Succeeded", "NumericGreaterThan")]}
FLEET_REFUSED = {
    "And": [*NONE_WAITS["And"], _things("Succeeded", "NumericEquals"), _things("Failed", "NumericGreaterThan")]
}


def _job_limits(parts: Parts) -> State:
    """Stops a deployment when too many devices fail it; a device that stays away does not hold it up for ever."""
    criteria = {
        "FailureType": "FAILED",
        "Action": "CANCEL",
        "ThresholdPercentage": parts.abort_failed_percent,
        "MinNumberOfExecutedThings": 1,
    }
    return {
        "AbortConfig": {"CriteriaList": [criteria]},
        "TimeoutConfig": {"InProgressTimeoutInMinutes": parts.timeout_minutes},
    }


def _ends(parts: Parts) -> dict[str, State]:
    return {
        "RecordRelease": states.invoke(
            parts.functions["release"],
            {"action": "record", "model_package.$": "$.model_package"},
            then="Released",
            caught_by=CAUGHT,
        ),
        "Released": {"Type": "Succeed"},
        CAUGHT: states.invoke(
            parts.functions["failure"],
            {"run.$": "$$.Execution.Name", "model_package.$": "$.model_package", "error.$": "$.error"},
            then="ReleaseFailed",
            caught_by="ReleaseFailed",
        ),
        "ReleaseFailed": {"Type": "Fail", "ErrorPath": "$.error.Error", "CausePath": "$.error.Cause"},
    }


def _error(error: str, cause: str) -> State:
    """What a Catch would have left, for a failure that a Choice found."""
    return {"Type": "Pass", "Result": {"Error": error, "Cause": cause}, "ResultPath": "$.error", "Next": CAUGHT}


def _sagemaker(action: str, parameters: State, *, then: str, **shape: Any) -> State:
    resource = f"aws-sdk:sagemaker:{action}"
    return states.task(resource, parameters, service="sagemaker-sdk", then=then, caught_by=CAUGHT, **shape)
