"""State machines on the embedded AWS: real tasks, AWS's error names, and plain values in outputs."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lab.engine import Engine

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def create(engine: Engine, trusting: Callable[[str], str]) -> Callable[[dict[str, Any]], str]:
    """Makes a machine of states by name, the first one being the start; gives its ARN."""

    def make(states: dict[str, Any], **more: Any) -> str:
        definition = {"StartAt": next(iter(states)), "States": states, **more}
        given = {"name": f"t-{uuid.uuid4().hex[:8]}", "roleArn": trusting("states")}
        made = engine.client("stepfunctions").create_state_machine(**given, definition=json.dumps(definition))
        return str(made["stateMachineArn"])

    return make


@pytest.fixture
def run(engine: Engine, create: Callable[..., str], until: Callable[..., Any]) -> Run:
    """Runs a machine of these states to its end; gives the description of the execution."""
    client = engine.client("stepfunctions")

    def ended(arn: str) -> Any:
        found = client.describe_execution(executionArn=arn)
        return found if found["status"] != "RUNNING" else None

    def execute(states: dict[str, Any], given: dict[str, Any] | None = None) -> dict[str, Any]:
        started = client.start_execution(stateMachineArn=create(states), input=json.dumps(given or {}))
        found: dict[str, Any] = until(lambda: ended(started["executionArn"]))
        return found

    return execute


def task(resource: str, parameters: dict[str, Any], **more: Any) -> dict[str, Any]:
    end = {} if "Next" in more else {"End": True}
    return {"Type": "Task", "Resource": f"arn:aws:states:::{resource}", "Parameters": parameters, **end, **more}


@pytest.fixture
def bucket(engine: Engine) -> str:
    name = f"t-{uuid.uuid4().hex[:8]}"
    engine.client("s3").create_bucket(Bucket=name)
    return name


def test_a_head_object_gives_the_metadata_and_times_as_numbers(engine: Engine, bucket: str, run: Run) -> None:
    engine.client("s3").put_object(Bucket=bucket, Key="k", Body=b"abc", Metadata={"digest": "d1"})
    found = run({"Head": task("aws-sdk:s3:headObject", {"Bucket.$": "$.bucket", "Key": "k"})}, {"bucket": bucket})
    output = json.loads(found["output"])
    assert output["Metadata"] == {"digest": "d1"} and output["ContentLength"] == 3
    assert isinstance(output["LastModified"], int) and "ResponseMetadata" not in output


def test_an_endpoints_scaling_is_kept_and_read_back(engine: Engine, run: Run) -> None:
    target = {
        "ServiceNamespace": "sagemaker", "ResourceId": "endpoint/e/variant/live",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }  # fmt: skip
    tracking = {
        "TargetValue": 600,
        "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
    }
    policy = {"PolicyName": "p", "PolicyType": "TargetTrackingScaling"}
    policy |= {"TargetTrackingScalingPolicyConfiguration": tracking}
    register = task(
        "aws-sdk:applicationautoscaling:registerScalableTarget",
        {**target, "MinCapacity": 1, "MaxCapacity": 4},
        Next="Put",
    )
    put = task("aws-sdk:applicationautoscaling:putScalingPolicy", {**target, **policy})
    found = run({"Register": register, "Put": put}, {})
    assert found["status"] == "SUCCEEDED", found
    client = engine.client("application-autoscaling")
    (kept,) = client.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    assert kept["TargetTrackingScalingPolicyConfiguration"] == tracking


def test_an_absent_image_is_caught_by_the_name_that_aws_gives_it(engine: Engine, run: Run) -> None:
    repository = f"t-{uuid.uuid4().hex[:8]}"
    engine.client("ecr").create_repository(repositoryName=repository)
    parameters = {"RepositoryName": repository, "ImageIds": [{"ImageTag": "t1"}]}
    catch = [{"ErrorEquals": ["Ecr.ImageNotFoundException"], "Next": "Absent", "ResultPath": "$.error"}]
    find = task("aws-sdk:ecr:describeImages", parameters, Catch=catch)
    found = run({"Find": find, "Absent": {"Type": "Pass", "End": True}})
    assert found["status"] == "SUCCEEDED"
    assert json.loads(found["output"])["error"]["Error"] == "Ecr.ImageNotFoundException"
    engine.client("ecr").put_image(
        repositoryName=repository,
        imageTag="t1",
        imageManifest=json.dumps({"schemaVersion": 2, "mediaType": "m", "config": {}, "layers": []}),
    )
    found = run({"Find": find, "Absent": {"Type": "Fail"}})
    assert json.loads(found["output"])["ImageDetails"][0]["ImageTags"] == ["t1"]


@pytest.mark.parametrize(
    ("resource", "parameters", "error"),
    [
        ("aws-sdk:s3:headObject", {"Bucket": "nobody-has-this", "Key": "k"}, "S3."),
        ("glue:startJobRun.sync", {"JobName": "nobody"}, "Glue.EntityNotFoundException"),
        ("codebuild:startBuild.sync", {"ProjectName": "nobody"}, "CodeBuild.ResourceNotFoundException"),
        ("aws-sdk:sagemaker:describeEndpoint", {"EndpointName": "nobody"}, "SageMaker.SageMakerException"),
        ("sagemaker:createEndpoint", {"EndpointName": "e", "EndpointConfigName": "no"}, "SageMaker.AmazonSageMaker"),
        ("aws-sdk:greengrassv2:getDeployment", {"DeploymentId": "no"}, "GreengrassV2.ResourceNotFoundException"),
    ],
)
def test_a_failed_call_has_the_error_name_of_its_integration(
    run: Run, resource: str, parameters: dict[str, Any], error: str
) -> None:
    found = run({"Call": task(resource, parameters)})
    assert found["status"] == "FAILED"
    assert found["error"].startswith(error), found["error"]
    assert found["cause"]


def test_an_item_that_is_there_fails_a_conditional_put_by_name(engine: Engine, run: Run) -> None:
    table = f"t-{uuid.uuid4().hex[:8]}"
    engine.client("dynamodb").create_table(
        TableName=table,
        AttributeDefinitions=[{"AttributeName": "claim", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "claim", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    parameters = {
        "TableName": table,
        "Item": {"claim": {"S": "c"}, "status": {"S": "RUNNING"}},
        "ConditionExpression": "attribute_not_exists(claim)",
    }
    catch = [{"ErrorEquals": ["DynamoDB.ConditionalCheckFailedException"], "Next": "Done"}]
    states = {"Claim": task("dynamodb:putItem", parameters, Catch=catch), "Done": {"Type": "Pass", "End": True}}
    assert "Error" not in run(states)["output"]
    assert json.loads(run(states)["output"])["Error"] == "DynamoDB.ConditionalCheckFailedException"


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ({"A": {"Type": "Pass", "QueryLanguage": "JSONata", "End": True}}, "JSONata"),
        ({"A": task("ecs:runTask.sync", {})}, "ecs:runTask.sync is not covered"),
        ({"A": {"Type": "Task", "Resource": "arn:aws:states:us-east-1:1:activity:a", "End": True}}, "is not covered"),
    ],
)
def test_a_machine_that_the_desk_cannot_run_is_refused_when_it_is_made(
    create: Callable[..., str], states: dict[str, Any], words: str
) -> None:
    with pytest.raises(ClientError, match=words):
        create(states)


def test_an_execution_without_a_name_gets_one(engine: Engine, create: Callable[..., str]) -> None:
    arn = create({"A": {"Type": "Succeed"}})
    started = engine.client("stepfunctions").start_execution(stateMachineArn=arn)
    assert len(started["executionArn"].rpartition(":")[2]) == 36


def test_the_history_tells_every_state(engine: Engine, run: Run) -> None:
    found = run({"A": {"Type": "Pass", "Result": {"x": 1}, "Next": "B"}, "B": {"Type": "Succeed"}})
    client = engine.client("stepfunctions")
    events = client.get_execution_history(executionArn=found["executionArn"])["events"]
    names = [row["stateEnteredEventDetails"]["name"] for row in events if "stateEnteredEventDetails" in row]
    assert names == ["A", "B"] and json.loads(found["output"]) == {"x": 1}
