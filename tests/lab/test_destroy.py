"""A lab's end on the embedded AWS: all of it goes, what is left is found and named, and a second call takes up."""

import io
import json
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import assembly, destroy, inventory, stacks
from lab.cloud import Cloud, CloudError
from lab.destroy import Destruction
from lab.engine import Engine
from lab.inventory import Scope

MANIFEST = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "layers": []}
TABLE = {
    "AttributeDefinitions": [{"AttributeName": "a", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "a", "KeyType": "HASH"}],
    "BillingMode": "PAY_PER_REQUEST",
}


@pytest.fixture
def cloud(engine: Engine) -> Cloud:
    return Cloud(engine.region, engine.account, "arn:aws:iam::123456789012:root", engine)


@pytest.fixture
def prefix() -> str:
    return f"t-{uuid.uuid4().hex[:8]}"


def bucket(name: str, **more: Any) -> dict[str, Any]:
    properties = {"BucketName": name, "VersioningConfiguration": {"Status": "Enabled"}}
    return {"Type": "AWS::S3::Bucket", "Properties": properties, **more}


@pytest.fixture
def template(prefix: str) -> dict[str, Any]:
    """A small stack with what makes a deletion hard: a versioned bucket, and a group of packages."""
    group = {"ModelPackageGroupName": f"{prefix}-models"}
    return {
        "Resources": {
            "Data": bucket(f"{prefix}-data"),
            "Models": {"Type": "AWS::SageMaker::ModelPackageGroup", "Properties": group},
        }
    }


@pytest.fixture
def made(cloud: Cloud, prefix: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Makes the stack of a template; whatever a test leaves of it goes in the end."""

    def make(template: dict[str, Any]) -> None:
        cloud.client("cloudformation").create_stack(StackName=prefix, TemplateBody=json.dumps(template))

    yield make
    Destruction(cloud, prefix, prefix, {}, lambda text: None, data=True).run()


def destruction(cloud: Cloud, prefix: str, template: dict[str, Any], *, data: bool = False) -> Destruction:
    return Destruction(cloud, prefix, prefix, template, lambda text: None, data=data)


def test_versions_delete_markers_and_packages_go_before_the_stack(
    cloud: Cloud, prefix: str, template: dict[str, Any], made: Any
) -> None:
    made(template)
    s3 = cloud.client("s3")
    for text in (b"one", b"two"):
        s3.put_object(Bucket=f"{prefix}-data", Key="a", Body=text)
    s3.delete_object(Bucket=f"{prefix}-data", Key="a")
    cloud.client("sagemaker").create_model_package(
        ModelPackageGroupName=f"{prefix}-models", ModelApprovalStatus="PendingManualApproval"
    )
    work = destruction(cloud, prefix, template)
    planned = work.plan()
    assert f"objects in bucket {prefix}-data" in planned and f"model package {prefix}-models/1" in planned
    outcome = work.run()
    assert destroy.problem(outcome, local=True) is None and outcome.left == []
    assert f"stack {prefix}" in outcome.removed and f"model package {prefix}-models/1" in outcome.removed
    assert stacks.status(cloud, prefix) == stacks.GONE


def planted(cloud: Cloud, prefix: str) -> list[str]:
    """Ten kinds of things that bear the lab's name and no stack holds; what each is called in an inventory."""
    role = cloud.client("iam").create_role(RoleName=f"{prefix}-role", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("f.py", "def handler(event, context): pass")
    code = {"ZipFile": packed.getvalue()}
    cloud.client("lambda").create_function(
        FunctionName=f"{prefix}-f", Runtime="python3.13", Role=role, Handler="f.handler", Code=code
    )
    cloud.client("dynamodb").create_table(TableName=f"{prefix}-table", **TABLE)
    cloud.client("sqs").create_queue(QueueName=f"{prefix}-queue")
    cloud.client("sns").create_topic(Name=f"{prefix}-topic")
    cloud.client("s3").create_bucket(Bucket=f"{prefix}-bucket")
    cloud.client("ssm").put_parameter(Name=f"/{prefix}/parameter", Value="x", Type="String")
    cloud.client("ecr").create_repository(repositoryName=f"{prefix}-repository")
    cloud.client("iot").create_thing_group(thingGroupName=f"{prefix}-group")
    cloud.client("secretsmanager").create_secret(Name=f"{prefix}-secret", SecretString="x")
    return [
        *(f"IAM role {prefix}-role", f"Lambda function {prefix}-f", f"DynamoDB table {prefix}-table"),
        *(f"SQS queue {prefix}-queue", f"SNS topic {prefix}-topic", f"S3 bucket {prefix}-bucket"),
        *(f"SSM parameter /{prefix}/parameter", f"ECR repository {prefix}-repository"),
        *(f"IoT thing group {prefix}-group", f"secret {prefix}-secret"),
    ]


def unplant(cloud: Cloud, prefix: str) -> None:
    cloud.client("iam").delete_role(RoleName=f"{prefix}-role")
    cloud.client("lambda").delete_function(FunctionName=f"{prefix}-f")
    cloud.client("dynamodb").delete_table(TableName=f"{prefix}-table")
    cloud.client("sqs").delete_queue(
        QueueUrl=cloud.client("sqs").get_queue_url(QueueName=f"{prefix}-queue")["QueueUrl"]
    )
    cloud.client("sns").delete_topic(TopicArn=f"arn:aws:sns:{cloud.region}:{cloud.account}:{prefix}-topic")
    cloud.client("s3").delete_bucket(Bucket=f"{prefix}-bucket")
    cloud.client("ssm").delete_parameter(Name=f"/{prefix}/parameter")
    cloud.client("ecr").delete_repository(repositoryName=f"{prefix}-repository")
    cloud.client("iot").delete_thing_group(thingGroupName=f"{prefix}-group")
    cloud.client("secretsmanager").delete_secret(SecretId=f"{prefix}-secret", ForceDeleteWithoutRecovery=True)


def test_ten_kinds_of_things_that_no_one_made_with_the_lab_are_each_named_and_none_is_touched(
    cloud: Cloud, prefix: str
) -> None:
    wanted = planted(cloud, prefix)
    outcome = destruction(cloud, prefix, {}).run()
    for name in wanted:
        assert any(line.endswith(name) for line in outcome.left), f"{name} is not among {outcome.left}"
    problem = destroy.problem(outcome, local=True)
    assert problem is not None and all(name in problem.message for name in wanted)
    unplant(cloud, prefix)
    assert destruction(cloud, prefix, {}).run().left == []


def test_ten_kinds_of_things_that_the_flow_makes_are_each_removed_and_named(cloud: Cloud, prefix: str) -> None:
    iot, sagemaker, logs = cloud.client("iot"), cloud.client("sagemaker"), cloud.client("logs")
    role = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole"}]}
    role["Statement"][0]["Principal"] = {"Service": "sagemaker.amazonaws.com"}  # type: ignore[index]
    arn = cloud.client("iam").create_role(RoleName="x" + prefix, AssumeRolePolicyDocument=json.dumps(role))["Role"][
        "Arn"
    ]
    recipe = {
        "RecipeFormatVersion": "2020-01-25",
        "ComponentName": f"{prefix}.Model",
        "ComponentVersion": "1.0.0",
        "Manifests": [{"Platform": {"os": "linux", "runtime": "*"}, "Lifecycle": {}}],
    }
    cloud.client("greengrassv2").create_component_version(inlineRecipe=json.dumps(recipe).encode())
    sagemaker.create_model_package_group(ModelPackageGroupName=f"{prefix}-models")
    sagemaker.create_model_package(ModelPackageGroupName=f"{prefix}-models", ModelApprovalStatus="Approved")
    ecr = cloud.client("ecr")
    ecr.create_repository(repositoryName=f"{prefix}-serve")
    ecr.put_image(repositoryName=f"{prefix}-serve", imageManifest=json.dumps(MANIFEST), imageTag="t1")
    iot.create_thing(thingName=f"{prefix}-device")
    certificate = iot.create_keys_and_certificate(setAsActive=True)
    iot.attach_thing_principal(thingName=f"{prefix}-device", principal=certificate["certificateArn"])
    logs.create_log_group(logGroupName=f"/aws/lambda/{prefix}-old")
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket=f"{prefix}-data")
    s3.put_object(Bucket=f"{prefix}-data", Key="a", Body=b"a")
    scaled = {"ServiceNamespace": "sagemaker", "ResourceId": f"endpoint/{prefix}-endpoint/variant/live"}
    dimension = "sagemaker:variant:DesiredInstanceCount"
    cloud.client("application-autoscaling").register_scalable_target(
        **scaled, ScalableDimension=dimension, MinCapacity=1, MaxCapacity=2, RoleARN=arn
    )
    outcome = destruction(cloud, prefix, {}).run()
    for name in (
        f"Greengrass component {prefix}.Model 1.0.0",
        f"model package {prefix}-models/1",
        f"model package group {prefix}-models",
        f"container image {prefix}-serve:t1",
        f"IoT thing {prefix}-device",
        f"IoT certificate {certificate['certificateId']}",
        f"log group /aws/lambda/{prefix}-old",
        f"objects in bucket {prefix}-data",
        f"scaling target endpoint/{prefix}-endpoint/variant/live",
    ):
        assert name in outcome.removed
    assert outcome.left == [f"S3 bucket {prefix}-data", f"ECR repository {prefix}-serve"], "a stack would remove these"
    s3.delete_bucket(Bucket=f"{prefix}-data")
    ecr.delete_repository(repositoryName=f"{prefix}-serve")
    cloud.client("iam").delete_role(RoleName="x" + prefix)
    assert destruction(cloud, prefix, {}).run().left == []


def test_a_thing_of_another_name_is_found_by_the_labs_tag(cloud: Cloud, prefix: str) -> None:
    tags = [{"Key": "lab", "Value": prefix}]
    name = f"elsewhere-{prefix}"
    cloud.client("dynamodb").create_table(TableName=name, Tags=tags, **TABLE)
    outcome = destruction(cloud, prefix, {}).run()
    assert [line for line in outcome.left if line.endswith(f"table/{name}")], outcome.left
    cloud.client("dynamodb").delete_table(TableName=name)


def test_what_another_stack_calls_by_a_longer_name_is_not_the_labs(cloud: Cloud, prefix: str, made: Any) -> None:
    other = f"{prefix}-two"
    body = json.dumps({"Resources": {"Data": bucket(f"{other}-data")}})
    cloud.client("cloudformation").create_stack(StackName=other, TemplateBody=body)
    cloud.client("s3").put_object(Bucket=f"{other}-data", Key="a", Body=b"a")
    made({"Resources": {"Data": bucket(f"{prefix}-data")}})
    outcome = destruction(cloud, prefix, {}).run()
    assert not [line for line in outcome.removed if other in line]
    assert cloud.client("s3").get_object(Bucket=f"{other}-data", Key="a")["Body"].read() == b"a"
    Destruction(cloud, other, other, {}, lambda text: None).run()


def test_what_the_template_keeps_is_named_and_goes_only_when_its_data_are_asked_for(
    cloud: Cloud, prefix: str, made: Any
) -> None:
    kept = {"Resources": {"Data": bucket(f"{prefix}-data", DeletionPolicy="Retain"), "Logs": bucket(f"{prefix}-logs")}}
    made(kept)
    for name in ("data", "logs"):
        cloud.client("s3").put_object(Bucket=f"{prefix}-{name}", Key="a", Body=b"a")
    first = destruction(cloud, prefix, kept).run()
    assert destroy.problem(first, local=True) is None
    assert first.kept == [f"S3 bucket {prefix}-data"]
    assert cloud.client("s3").get_object(Bucket=f"{prefix}-data", Key="a")["Body"].read() == b"a"
    again = destruction(cloud, prefix, kept).run()
    assert again.kept == first.kept and again.left == [], "it is kept as well when the stack is gone"
    last = destruction(cloud, prefix, kept, data=True).run()
    assert last.kept == [] and last.left == [] and f"S3 bucket {prefix}-data" in last.removed


def test_a_destruction_that_was_broken_off_is_taken_up(
    cloud: Cloud, prefix: str, template: dict[str, Any], made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(template)
    cloud.client("s3").put_object(Bucket=f"{prefix}-data", Key="a", Body=b"a")

    def broken(self: Destruction, kinds: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Destruction, "_delete_stack", broken)
        destruction(cloud, prefix, template).run()
    outcome = destruction(cloud, prefix, template).run()
    assert outcome.left == [] and f"stack {prefix}" in outcome.removed


def test_a_stack_that_cannot_go_is_an_error_with_the_reason_of_each_resource(
    cloud: Cloud, prefix: str, template: dict[str, Any], made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(template)
    cloud.client("s3").put_object(Bucket=f"{prefix}-data", Key="a", Body=b"a")
    monkeypatch.setattr(Destruction, "_remove_flow", lambda self, kinds: None)
    with pytest.raises(CloudError, match="DELETE_FAILED") as refused:
        destruction(cloud, prefix, template).run()
    assert "Data:" in refused.value.message and "not empty" in refused.value.message
    monkeypatch.undo()


def test_a_service_of_an_account_that_did_not_answer_leaves_the_proof_open() -> None:
    outcome = destroy.Outcome("s", "account 1, us-east-1", not_asked={"secret": "AccessDenied: no"})
    problem = destroy.problem(outcome, local=False)
    assert problem is not None and "secret: AccessDenied" in problem.message
    assert destroy.problem(outcome, local=True) is None


@pytest.mark.parametrize(
    ("name", "owned"),
    [
        ("ml-lab-dev", True),
        ("ml-lab-dev-data-1", True),
        ("ml_lab_dev_telemetry", True),
        ("ml-lab-dev.Model", True),
        ("/aws/lambda/ml-lab-dev-gate", True),
        ("alias/ml-lab-dev-key", True),
        ("endpoint/ml-lab-dev-endpoint/variant/live", True),
        ("ml-lab-dev-two-data", False),
        ("ml-lab-development", False),
        ("xml-lab-dev", False),
        ("ml-lab", False),
    ],
)
def test_a_name_is_the_labs_when_a_part_of_it_begins_with_the_prefix(name: str, owned: bool) -> None:
    assert Scope("ml-lab-dev", ("ml-lab-dev-two",)).owns(name) is owned


def test_the_labs_own_stack_goes_whole_and_comes_again(engine: Engine, cloud: Cloud, synthesized: Path) -> None:
    loaded = assembly.load(synthesized)
    prefix = str(loaded.settings["prefix"])
    for _ in range(2):
        assembly.deploy(engine, loaded)
        outcome = Destruction(cloud, loaded.stack, prefix, loaded.template, lambda text: None).run()
        assert outcome.left == [] and outcome.kept == []
        assert f"Greengrass core device {prefix}-desk-1" in outcome.removed
        found = inventory.survey(cloud, Scope(prefix), destroy.EVERY).found
        assert [str(one) for one in found if one.kind != inventory.TAGGED.name] == []
