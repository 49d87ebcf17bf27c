"""The states of both machines, whose tasks retry on throttling and catch every error.

A state machine here is plain data in Amazon States Language (JSONPath), so that a test reads what AWS reads.
"""

from __future__ import annotations

from typing import Any

State = dict[str, Any]

# What each integration throws when asked too fast or failing on its own side; never what a job's own failure throws.
THROTTLING = {
    "lambda": [
        "Lambda.ClientExecutionTimeoutException",
        "Lambda.ServiceException",
        "Lambda.AWSLambdaException",
        "Lambda.SdkClientException",
        "Lambda.TooManyRequestsException",
    ],
    "dynamodb": [
        "DynamoDB.ProvisionedThroughputExceededException",
        "DynamoDB.RequestLimitExceededException",
        "DynamoDB.ThrottlingException",
        "DynamoDB.InternalServerErrorException",
    ],
    "glue": ["Glue.ConcurrentRunsExceededException", "Glue.InternalServiceException", "Glue.ThrottlingException"],
    "sagemaker": ["SageMaker.ResourceLimitExceededException", "SageMaker.AmazonSageMakerException"],
    "codebuild": ["CodeBuild.AccountLimitExceededException", "CodeBuild.ThrottlingException"],
    "s3": ["S3.S3Exception", "S3.SdkClientException"],
    "ecr": ["Ecr.ServerException", "Ecr.ThrottlingException", "Ecr.LimitExceededException"],
    "sagemaker-sdk": ["SageMaker.ThrottlingException", "SageMaker.ResourceLimitExceededException"],
    "iot": ["Iot.ThrottlingException", "Iot.InternalFailureException", "Iot.ServiceUnavailableException"],
    "applicationautoscaling": [
        "ApplicationAutoScaling.ConcurrentUpdateException",
        "ApplicationAutoScaling.InternalServiceException",
    ],
    "greengrassv2": ["GreengrassV2.ThrottlingException", "GreengrassV2.InternalServerException"],
}


def task(
    resource: str,
    parameters: State,
    *,
    service: str,
    then: str,
    caught_by: str,
    minutes: int = 5,
    select: State | None = None,
    result: str | None = None,
    catch: list[State] | None = None,
    retry: list[State] | None = None,
) -> State:
    """One Task. `select` shapes the result, `result` is where it goes (None drops it); `catch` precedes States.ALL."""
    state: State = {
        "Type": "Task",
        "Resource": f"arn:aws:states:::{resource}",
        "Parameters": parameters,
        "TimeoutSeconds": minutes * 60,
        "Retry": [
            *(retry or []),
            {
                "ErrorEquals": THROTTLING[service],
                "IntervalSeconds": 2,
                "BackoffRate": 2.0,
                "MaxAttempts": 4,
                "MaxDelaySeconds": 60,
                "JitterStrategy": "FULL",
            },
        ],
        "Catch": [*(catch or []), {"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": caught_by}],
        "ResultPath": result,
        "Next": then,
    }
    if select is not None:
        state["ResultSelector"] = select
    return state


def invoke(
    function_arn: str,
    payload: State,
    *,
    then: str,
    caught_by: str,
    select: State | None = None,
    result: str | None = None,
    retry: list[State] | None = None,
) -> State:
    """A Lambda function, called and awaited; `select` reads from `$.Payload`, `retry` holds errors of its own."""
    return task(
        "lambda:invoke",
        {"FunctionName": function_arn, "Payload": payload},
        service="lambda",
        then=then,
        caught_by=caught_by,
        select=select,
        result=result,
        retry=retry,
    )


def choice(*branches: tuple[State, str], otherwise: str) -> State:
    """The first branch whose test holds, else `otherwise`."""
    return {"Type": "Choice", "Choices": [{**test, "Next": then} for test, then in branches], "Default": otherwise}


def equals(variable: str, value: str | bool) -> State:
    """A Choice test."""
    return {"Variable": variable, "BooleanEquals" if isinstance(value, bool) else "StringEquals": value}


def growing_wait(title: str, then: str) -> dict[str, State]:
    """A pause of `$.look.seconds` before `then`, a second longer each time.

    What is ready soon is seen soon, and a day of waiting takes some 400 looks: an execution that looked every few
    seconds would meet Step Functions' limit of 25,000 events within hours.
    """
    longer = f"SlowDown{title}"
    return {
        f"WaitFor{title}": {"Type": "Wait", "SecondsPath": "$.look.seconds", "Next": longer},
        longer: {
            "Type": "Pass",
            "Parameters": {"seconds.$": "States.MathAdd($.look.seconds, 1)"},
            "ResultPath": "$.look",
            "Next": then,
        },
    }


def error(error: str, cause: str, *, then: str) -> State:
    """What a Catch would have left, for a failure that a Choice found. A cause that starts with `$` is a path."""
    named = {"Cause.$" if cause.startswith("$") else "Cause": cause}
    return {"Type": "Pass", "Parameters": {"Error": error, **named}, "ResultPath": "$.error", "Next": then}


def fail(error: str, cause: str) -> State:
    """The end of an execution that did not reach its aim. A value that starts with `$` or `States.` is a path."""
    return {
        "Type": "Fail",
        "ErrorPath" if error.startswith("$") else "Error": error,
        "CausePath" if cause.startswith(("$", "States.")) else "Cause": cause,
    }


def find_image(name: str, repository: str, tag: str, *, found: str, absent: str, caught_by: str) -> State:
    """Is the tag in the repository? ECR answers an absent one with an error of its own."""
    return task(
        "aws-sdk:ecr:describeImages",
        {"RepositoryName": repository, "ImageIds": [{"ImageTag": tag}]},
        service="ecr",
        then=found,
        caught_by=caught_by,
        catch=[{"ErrorEquals": ["Ecr.ImageNotFoundException"], "ResultPath": None, "Next": absent}],
    ) | {"Comment": f"Is the {name} image of these sources there?"}


def build_image(project: str, *, then: str, caught_by: str) -> State:
    """Builds and pushes the tag, and waits for it."""
    return task(
        "codebuild:startBuild.sync",
        {"ProjectName": project},
        service="codebuild",
        then=then,
        caught_by=caught_by,
        minutes=60,
    )
