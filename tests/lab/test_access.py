"""Roles on the embedded AWS may do what their policies allow, and every refusal names what is missing."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from lab import access
from lab.engine import Engine
from lab.grants import recorded
from lab.needs import Need

As = Callable[..., Any]
KEY_POLICY = {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}


@pytest.fixture
def name() -> str:
    return f"t-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def acting(engine: Engine, name: str) -> As:
    """Makes a role that may do what the statements say; gives a client of a service that acts as it."""

    def make(service: str, *statements: dict[str, Any], **more: Any) -> Any:
        trust = {"Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}}}
        iam, role = engine.client("iam"), f"{name}-{uuid.uuid4().hex[:4]}"
        arn = iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(trust), **more)["Role"]["Arn"]
        document = {"Version": "2012-10-17", "Statement": list(statements)}
        iam.put_role_policy(RoleName=role, PolicyName="work", PolicyDocument=json.dumps(document))
        taken = engine.client("sts").assume_role(RoleArn=arn, RoleSessionName="job")["Credentials"]
        keys = taken["AccessKeyId"], taken["SecretAccessKey"], taken["SessionToken"]
        return boto3.session.Session(*keys, engine.region).client(service, endpoint_url=engine.endpoint)

    return make


@pytest.fixture
def bucket(engine: Engine, name: str) -> str:
    engine.client("s3").create_bucket(Bucket=name)
    for key in ("raw/a", "runs/b"):
        engine.client("s3").put_object(Bucket=name, Key=key, Body=b"x")
    return name


def allow(*actions: str, on: str = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": on, **more}


def denial(ask: Callable[[], Any]) -> str:
    with pytest.raises(ClientError) as refused:
        ask()
    assert refused.value.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException")
    return str(refused.value.response["Error"]["Message"])


def test_a_role_reads_what_it_may_and_a_refusal_names_role_action_resource_and_policy(acting: As, bucket: str) -> None:
    s3 = acting("s3", allow("s3:GetObject", on=f"arn:aws:s3:::{bucket}/raw/*"))
    assert s3.get_object(Bucket=bucket, Key="raw/a")["Body"].read() == b"x"
    said = denial(lambda: s3.get_object(Bucket=bucket, Key="runs/b"))
    assert f"s3:GetObject on resource: arn:aws:s3:::{bucket}/runs/b" in said
    assert "assumed-role/t-" in said and "(work)" in said


def test_listing_is_bound_to_the_prefix_that_the_policy_names(acting: As, bucket: str) -> None:
    prefix = {"StringLike": {"s3:prefix": "raw/*"}}
    s3 = acting("s3", allow("s3:ListBucket", on=f"arn:aws:s3:::{bucket}", Condition=prefix))
    assert s3.list_objects_v2(Bucket=bucket, Prefix="raw/")["KeyCount"] == 1
    assert "s3:ListBucket" in denial(lambda: s3.list_objects_v2(Bucket=bucket))
    assert "s3:ListBucket" in denial(lambda: s3.list_objects_v2(Bucket=bucket, Prefix="runs/"))


def test_an_encrypted_bucket_wants_the_key_too(engine: Engine, acting: As, bucket: str) -> None:
    key = engine.client("kms").create_key()["KeyMetadata"]["Arn"]
    by_default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
    rules = {"Rules": [{"ApplyServerSideEncryptionByDefault": by_default}]}
    engine.client("s3").put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=rules)
    objects = allow("s3:GetObject", "s3:PutObject", on=f"arn:aws:s3:::{bucket}/*")
    assert "kms:Decrypt" in denial(lambda: acting("s3", objects).get_object(Bucket=bucket, Key="raw/a"))
    reads = acting("s3", objects, allow("kms:Decrypt", on=key))
    assert reads.get_object(Bucket=bucket, Key="raw/a")["Body"].read() == b"x"
    assert "kms:GenerateDataKey" in denial(lambda: reads.put_object(Bucket=bucket, Key="raw/c", Body=b"y"))
    others = {**KEY_POLICY, "Principal": {"AWS": "arn:aws:iam::123456789012:role/other"}}
    engine.client("kms").put_key_policy(KeyId=key, PolicyName="default", Policy=json.dumps({"Statement": [others]}))
    assert "resource's own policy" in denial(lambda: reads.get_object(Bucket=bucket, Key="raw/a"))


def test_a_boundary_holds_back_what_the_policy_allows(engine: Engine, acting: As, bucket: str, name: str) -> None:
    fence = json.dumps({"Version": "2012-10-17", "Statement": [allow("s3:ListBucket")]})
    arn = engine.client("iam").create_policy(PolicyName=name, PolicyDocument=fence)["Policy"]["Arn"]
    s3 = acting("s3", allow("s3:*"), PermissionsBoundary=arn)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 2
    assert "permissions boundary" in denial(lambda: s3.get_object(Bucket=bucket, Key="raw/a"))


def test_a_buckets_own_policy_can_forbid(engine: Engine, acting: As, bucket: str) -> None:
    own = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/runs/*"}
    engine.client("s3").put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Statement": [own]}))
    s3 = acting("s3", allow("s3:GetObject"))
    assert s3.get_object(Bucket=bucket, Key="raw/a")["Body"].read() == b"x"
    assert "explicit deny" in denial(lambda: s3.get_object(Bucket=bucket, Key="runs/b"))


@pytest.mark.parametrize(
    ("service", "ask", "action"),
    [
        ("dynamodb", lambda client: client.get_item(TableName="t", Key={"k": {"S": "v"}}), "dynamodb:GetItem"),
        ("cloudwatch", lambda client: client.put_metric_data(Namespace="n", MetricData=[]), "cloudwatch:PutMetricData"),
        ("iot", lambda client: client.describe_thing_group(thingGroupName="g"), "iot:DescribeThingGroup"),
        ("lambda", lambda client: client.invoke(FunctionName="f"), "lambda:InvokeFunction"),
        ("sns", lambda client: client.publish(TopicArn="arn:aws:sns:a:1:t", Message="m"), "sns:Publish"),
        ("codebuild", lambda client: client.batch_get_builds(ids=["p:1"]), "codebuild:BatchGetBuilds"),
        ("greengrassv2", lambda client: client.list_deployments(), "greengrass:ListDeployments"),
    ],
)
def test_every_protocol_hears_the_refusal(acting: As, service: str, ask: Callable[[Any], Any], action: str) -> None:
    client = acting(service, allow("s3:GetObject"))
    assert action in denial(lambda: ask(client))


def test_a_role_is_passed_only_with_leave_and_to_the_service_that_is_named(acting: As) -> None:
    job = "arn:aws:iam::123456789012:role/job"
    given = {
        "ModelName": "m", "ExecutionRoleArn": job, "PrimaryContainer": {"Image": "i", "ModelDataUrl": "s3://b/k"},
    }  # fmt: skip
    makes = allow("sagemaker:CreateModel")
    said = denial(lambda: acting("sagemaker", makes).create_model(**given))
    assert f"iam:PassRole on resource: {job}" in said
    glue = {"StringEquals": {"iam:PassedToService": "glue.amazonaws.com"}}
    passes = allow("iam:PassRole", on=job, Condition=glue)
    assert "iam:PassRole" in denial(lambda: acting("sagemaker", makes, passes).create_model(**given))


def test_what_the_engine_does_not_know_the_permissions_of_is_refused_by_name(acting: As) -> None:
    said = denial(lambda: acting("kms", allow("*")).list_aliases())
    assert "kms:ListAliases" in said and "does not know which permissions" in said


def test_the_administrators_keys_may_do_everything(engine: Engine, bucket: str) -> None:
    mine = boto3.session.Session("test", "test", None, engine.region).client("s3", endpoint_url=engine.endpoint)
    assert mine.list_objects_v2(Bucket=bucket)["KeyCount"] == 2


def test_each_call_is_recorded_once_with_its_decision(engine: Engine, acting: As, bucket: str) -> None:
    s3 = acting("s3", allow("s3:GetObject", on=f"arn:aws:s3:::{bucket}/raw/*"))
    for _ in range(3):
        s3.get_object(Bucket=bucket, Key="raw/a")
    denial(lambda: s3.get_object(Bucket=bucket, Key="runs/b"))
    mine = [call for call in recorded(engine.root / "access.jsonl") if bucket in call.get("resource", "")]
    assert [(call["action"], call["resource"].rpartition(":")[2], call["decision"]) for call in mine] == [
        ("s3:GetObject", f"{bucket}/raw/a", "allowed"),
        ("s3:GetObject", f"{bucket}/runs/b", "implicitDeny"),
    ]


def test_a_devices_call_is_recorded_with_its_name_which_its_policy_asks_for(desk: Engine) -> None:
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "credentials.iot.amazonaws.com"}}
    mine = allow("s3:PutObject", on="arn:aws:s3:::data/raw/${credentials-iot:ThingName}/*")
    iam = desk.client("iam")
    document = {"Version": "2012-10-17", "Statement": [trust]}
    arn = iam.create_role(RoleName="device", AssumeRolePolicyDocument=json.dumps(document))["Role"]["Arn"]
    policy = {"Version": "2012-10-17", "Statement": [mine]}
    iam.put_role_policy(RoleName="device", PolicyName="work", PolicyDocument=json.dumps(policy))
    wanted = Need("s3:PutObject", "arn:aws:s3:::data/raw/desk-1/x")
    access.require(desk, arn, [wanted], session="desk-1")
    with pytest.raises(access.AccessDenied, match="s3:PutObject"):
        access.require(desk, arn, [wanted], session="desk-2")
    names = [call["context"]["credentials-iot:thingname"] for call in recorded(desk.root / "access.jsonl")]
    assert names == [["desk-1"], ["desk-2"]]
