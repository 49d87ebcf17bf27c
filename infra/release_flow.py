"""The release flow as data, from an approved package to endpoint, canaries and fleet, and back when they refuse it.

Input: `{"model_package"}`. `$.release` holds what the release function prepared: names, artefact locations, version;
`$.look` how long to wait before the next look at what is under way. What fails is recorded first, then rolled back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infra import rollout, states
from infra.states import State

# What the release function's `prepare` answers and the states below read.
PREPARED = ("version", "model_name", "config_name", "endpoint_exists", "model_data_url")
CAUGHT = "RecordReleaseFailure"
FIRST_LOOK: State = {"select": {"seconds": 1}, "result": "$.look"}


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a release is made of: names, function ARNs, the endpoint's shape, the rollout."""

    functions: dict[str, str]
    serve_repository: str
    serve_tag: str
    serve_image: str
    serve_project: str
    serve_role: str
    endpoint: str
    variant: State
    environment: dict[str, str]
    isolation: State
    tags: list[dict[str, str]]
    volume_key: str | None
    capture: State | None
    scaling: tuple[int, int] | None
    rollout: rollout.Rollout


def definition(parts: Parts) -> dict[str, Any]:
    """The state machine in Amazon States Language."""
    every = {
        **_serving(parts),
        **_component(parts),
        **_endpoint(parts),
        **rollout.forward(parts.rollout, then="RecordRelease", caught_by=CAUGHT),
        **_ends(parts),
        **rollout.back(parts.rollout, then="ReleaseFailed"),
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
                **parts.isolation,
                "Tags": parts.tags,
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
                "Tags": parts.tags,
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
        "CreateEndpoint": _sagemaker(
            "createEndpoint", {**names, "Tags": parts.tags}, then="PublishComponent", **FIRST_LOOK
        ),
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
            (states.equals("$.endpoint.status", "InService"), "ScaleEndpoint" if parts.scaling else rollout.FIRST),
            (states.equals("$.endpoint.status", "Failed"), "EndpointFailed"),
            (states.equals("$.endpoint.status", "UpdateRollbackFailed"), "EndpointFailed"),
            otherwise="WaitForEndpoint",
        ),
        **states.growing_wait("Endpoint", "DescribeEndpoint"),
        **(_scaling(parts.endpoint, *parts.scaling) if parts.scaling else {}),
        "EndpointFailed": states.error(
            "EndpointFailed", f"the endpoint {parts.endpoint} did not come into service", then=CAUGHT
        ),
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
            then=rollout.FIRST,
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
            then=rollout.FIRST_BACK,
            caught_by=rollout.FIRST_BACK,
        ),
        "ReleaseFailed": {"Type": "Fail", "ErrorPath": "$.error.Error", "CausePath": "$.error.Cause"},
    }


def _sagemaker(action: str, parameters: State, *, then: str, **shape: Any) -> State:
    resource = f"aws-sdk:sagemaker:{action}"
    return states.task(resource, parameters, service="sagemaker-sdk", then=then, caught_by=CAUGHT, **shape)
