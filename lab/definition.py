"""What a state machine's definition may ask for here: its language, states and tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lab.template import as_text

# Optimised integrations, as the definition spells them after `arn:aws:states:::`.
OPTIMISED = {
    "codebuild:startBuild": "a build in the background",
    "codebuild:startBuild.sync": "awaited",
    "dynamodb:deleteItem": "", "dynamodb:getItem": "", "dynamodb:putItem": "", "dynamodb:updateItem": "",
    "events:putEvents": "",
    "glue:startJobRun": "a run in the background",
    "glue:startJobRun.sync": "awaited",
    "lambda:invoke": "the real handler in a child process",
    "sagemaker:createEndpoint": "", "sagemaker:createEndpointConfig": "", "sagemaker:createModel": "",
    "sagemaker:createHyperParameterTuningJob": "a search in the background",
    "sagemaker:createHyperParameterTuningJob.sync": "awaited",
    "sagemaker:createProcessingJob": "a job in the background",
    "sagemaker:createProcessingJob.sync": "awaited",
    "sagemaker:createTrainingJob": "a job in the background",
    "sagemaker:createTrainingJob.sync": "awaited",
    "sagemaker:createTransformJob": "a job in the background",
    "sagemaker:createTransformJob.sync": "awaited",
    "sagemaker:updateEndpoint": "",
    "sns:publish": "", "sqs:sendMessage": "",
}  # fmt: skip
# aws-sdk integrations whose API does its work on the desk, or is kept there and read back (docs/fidelity.md).
SDK = {
    "applicationautoscaling": ("putScalingPolicy", "registerScalableTarget"),
    "cloudwatch": ("putMetricData",),
    "codebuild": ("batchGetBuilds",),
    "dynamodb": ("deleteItem", "getItem", "putItem", "query", "scan", "updateItem"),
    "ecr": ("describeImages",),
    "eventbridge": ("putEvents",),
    "glue": ("getJobRun",),
    "greengrassv2": (
        "cancelDeployment", "createDeployment", "getComponent", "getCoreDevice", "getDeployment", "listDeployments",
        "listEffectiveDeployments",
    ),
    "iot": ("describeJob", "listThingsInThingGroup"),
    "lambda": ("invoke",),
    "s3": ("copyObject", "deleteObject", "getObject", "headObject", "listObjectsV2", "putObject"),
    "sagemaker": (
        "createEndpoint", "createEndpointConfig", "createModel", "createProcessingJob", "createTrainingJob",
        "deleteEndpoint", "deleteEndpointConfig", "deleteModel", "describeEndpoint", "describeModelPackage",
        "describeProcessingJob", "describeTrainingJob", "listModelPackages", "updateEndpoint", "updateModelPackage",
    ),
    "sns": ("publish",),
    "sqs": ("sendMessage",),
    "ssm": ("getParameter", "putParameter"),
}  # fmt: skip
STATES = {"Choice", "Fail", "Map", "Parallel", "Pass", "Succeed", "Task", "Wait"}


def refusals(definition: Mapping[str, Any]) -> list[str]:
    """One line for each thing in an Amazon States Language document that the desk does not cover."""
    return list(_states(definition, ""))


def _states(machine: Mapping[str, Any], path: str) -> Iterator[str]:
    if machine.get("QueryLanguage", "JSONPath") != "JSONPath":
        yield f"{path or 'the machine'} is written in {machine['QueryLanguage']}; the desk runs JSONPath"
    for name, state in (machine.get("States") or {}).items():
        yield from _state(f"{path}{name}", state)


def _state(where: str, state: Mapping[str, Any]) -> Iterator[str]:
    kind = state.get("Type")
    if kind not in STATES:
        yield f"state {where}: the type {kind} is not covered"
    if state.get("QueryLanguage", "JSONPath") != "JSONPath":
        yield f"state {where} is written in {state['QueryLanguage']}; the desk runs JSONPath"
    if kind == "Task" and not covered(str(state.get("Resource"))):
        yield f"state {where}: the task {state.get('Resource')} is not covered"
    for branch in state.get("Branches") or []:
        yield from _states(branch, f"{where}.")
    inner = state.get("ItemProcessor") or state.get("Iterator")
    if inner:
        if (inner.get("ProcessorConfig") or {}).get("Mode", "INLINE") != "INLINE":
            yield f"state {where}: a distributed map is not covered"
        yield from _states(inner, f"{where}.")


def covered(resource: str) -> bool:
    """Whether a Task's Resource is one that the desk runs: an integration of the lists above, or a function's ARN."""
    _, _, what = resource.partition(":states:::")
    if not what:
        return resource.split(":")[2:3] == ["lambda"]
    if not what.startswith("aws-sdk:"):
        return what in OPTIMISED
    service, _, api = what.removeprefix("aws-sdk:").partition(":")
    return api in SDK.get(service, ())


def refusals_of_machines(template: Mapping[str, Any]) -> list[str]:
    """The refusals of every state machine in a CloudFormation template, each with its logical id."""
    found = []
    for logical, resource in (template.get("Resources") or {}).items():
        if resource.get("Type") != "AWS::StepFunctions::StateMachine":
            continue
        try:
            definition = of_resource(resource.get("Properties") or {})
        except (ValueError, TypeError, KeyError) as error:
            found.append(f"resource {logical}: its definition cannot be read ({error}); keep it inline")
            continue
        found += [f"resource {logical} (AWS::StepFunctions::StateMachine): {what}" for what in refusals(definition)]
    return found


def of_resource(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The definition in a state machine's properties, unresolved references standing as text. Raises ValueError."""
    if "Definition" in properties:
        whole: dict[str, Any] = properties["Definition"]
        return whole
    parsed: dict[str, Any] = json.loads(as_text(properties["DefinitionString"], _reference))
    return parsed


def _reference(value: Mapping[str, Any]) -> str:
    if value.get("Ref") == "AWS::Partition":
        return "aws"
    # Functions are called by their ARN: the reference to one must still look like one.
    return "arn:aws:lambda:region:account:function:reference" if "Fn::GetAtt" in value else "reference"
