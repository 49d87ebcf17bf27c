"""The registry: versions, approval, and the event that approval sends."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.sagemaker.responses import SageMakerResponse

from lab import modelregistry
from lab.engine import Engine

CONTAINER = {"Containers": [{"Image": "i", "ModelDataUrl": "s3://data/m.tar.gz"}]}
SPECIFICATION = {
    **CONTAINER,
    "SupportedContentTypes": ["image/png"],
    "SupportedResponseMIMETypes": ["application/json"],
}


@pytest.fixture
def aws(desk: Engine, itself: Callable[..., None]) -> Engine:
    """The registry with one group, its events kept by a queue behind a rule."""
    itself(SageMakerResponse)
    modelregistry.install(desk)
    desk.client("sagemaker").create_model_package_group(ModelPackageGroupName="lab-models")
    queue = desk.client("sqs").create_queue(QueueName="heard")["QueueUrl"]
    pattern = {
        "source": ["aws.sagemaker"],
        "detail-type": ["SageMaker Model Package State Change"],
        "detail": {"ModelPackageGroupName": ["lab-models"], "ModelApprovalStatus": ["Approved"]},
    }
    events = desk.client("events")
    events.put_rule(Name="approved", EventPattern=json.dumps(pattern))
    arn = desk.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_targets(Rule="approved", Targets=[{"Id": "q", "Arn": arn}])
    return desk


def heard(aws: Engine) -> list[dict[str, Any]]:
    url = aws.client("sqs").get_queue_url(QueueName="heard")["QueueUrl"]
    found = aws.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10)
    return [json.loads(message["Body"]) for message in found.get("Messages", [])]


def register(aws: Engine, **more: Any) -> str:
    arn: str = aws.client("sagemaker").create_model_package(
        ModelPackageGroupName="lab-models",
        InferenceSpecification=SPECIFICATION,
        CustomerMetadataProperties={"version": "1.0.7"},
        **more,
    )["ModelPackageArn"]
    return arn


def test_a_package_waits_for_approval_and_approval_sends_the_event(aws: Engine) -> None:
    arn = register(aws)
    assert arn == "arn:aws:sagemaker:us-east-1:123456789012:model-package/lab-models/1"
    client = aws.client("sagemaker")
    assert client.describe_model_package(ModelPackageName=arn)["ModelApprovalStatus"] == "PendingManualApproval"
    assert heard(aws) == []
    client.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved", ApprovalDescription="good")
    events = heard(aws)
    assert len(events) == 1
    assert events[0]["resources"] == [arn]
    detail = events[0]["detail"]
    assert (detail["ModelPackageArn"], detail["ModelPackageVersion"]) == (arn, 1)
    assert (detail["ModelApprovalStatus"], detail["ApprovalDescription"]) == ("Approved", "good")
    described = client.describe_model_package(ModelPackageName=arn)
    assert described["CustomerMetadataProperties"] == {"version": "1.0.7"}


def test_a_token_gives_one_version_and_a_number_is_never_given_twice(aws: Engine) -> None:
    client = aws.client("sagemaker")
    first = register(aws, ClientToken="t" * 32)
    assert register(aws, ClientToken="t" * 32) == first
    second = register(aws)
    assert second.endswith("/2")
    client.delete_model_package(ModelPackageName=second)
    assert register(aws).endswith("/3")
    listed = client.list_model_packages(ModelPackageGroupName="lab-models")["ModelPackageSummaryList"]
    assert [item["ModelPackageVersion"] for item in listed] == [1, 3]
    with pytest.raises(ClientError, match="has model packages; delete them first"):
        client.delete_model_package_group(ModelPackageGroupName="lab-models")


def test_a_group_or_package_that_is_not_there_is_named(aws: Engine) -> None:
    client = aws.client("sagemaker")
    with pytest.raises(ClientError, match="Model Package Group other does not exist"):
        client.create_model_package(ModelPackageGroupName="other", InferenceSpecification=SPECIFICATION)
    with pytest.raises(ClientError, match="model-package/lab-models/9 does not exist"):
        name = "arn:aws:sagemaker:us-east-1:123456789012:model-package/lab-models/9"
        client.update_model_package(ModelPackageArn=name, ModelApprovalStatus="Approved")
