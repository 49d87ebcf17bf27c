"""Stacks on the embedded AWS: every property applied and read back through the service's API, or refused by name."""

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lab.engine import Engine

Deploy = Callable[..., dict[str, str]]


@pytest.fixture
def name() -> str:
    return f"t-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def deploy(engine: Engine, name: str) -> Iterator[Deploy]:
    """Creates or updates the test's stack from resources by logical id; gives the outputs."""
    client = engine.client("cloudformation")

    def run(outputs: dict[str, Any] | None = None, **resources: Any) -> dict[str, str]:
        shown = {key: {"Value": value} for key, value in (outputs or {}).items()}
        body = json.dumps({"Resources": resources, **({"Outputs": shown} if shown else {})})
        there = [stack for stack in client.describe_stacks()["Stacks"] if stack["StackName"] == name]
        (client.update_stack if there else client.create_stack)(StackName=name, TemplateBody=body)
        found = client.describe_stacks(StackName=name)["Stacks"][0]
        return {row["OutputKey"]: row["OutputValue"] for row in found.get("Outputs", [])}

    yield run
    client.delete_stack(StackName=name)


def bucket(name: str, **properties: Any) -> dict[str, Any]:
    return {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": name, **properties}}


def said(refused: pytest.ExceptionInfo[ClientError]) -> str:
    return str(refused.value.response["Error"]["Message"])


def test_every_property_of_a_bucket_is_there_when_read_through_s3(engine: Engine, deploy: Deploy, name: str) -> None:
    block = dict.fromkeys(("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"), True)
    encryption = {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    rule = {"Id": "old", "Status": "Enabled", "Prefix": "a/", "ExpirationInDays": 3}
    deploy(
        Logs=bucket(f"{name}-logs"),
        Data=bucket(
            name,
            VersioningConfiguration={"Status": "Enabled"},
            PublicAccessBlockConfiguration=block,
            BucketEncryption={"ServerSideEncryptionConfiguration": [encryption]},
            LifecycleConfiguration={"Rules": [rule]},
            LoggingConfiguration={"DestinationBucketName": {"Ref": "Logs"}, "LogFilePrefix": "data/"},
            NotificationConfiguration={"EventBridgeConfiguration": {"EventBridgeEnabled": True}},
            OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
            Tags=[{"Key": "lab", "Value": "x"}],
        ),
    )
    s3, which = engine.client("s3"), {"Bucket": name}
    assert s3.get_bucket_versioning(**which)["Status"] == "Enabled"
    assert s3.get_public_access_block(**which)["PublicAccessBlockConfiguration"] == block
    assert s3.get_bucket_lifecycle_configuration(**which)["Rules"][0]["Expiration"] == {"Days": 3}
    assert s3.get_bucket_logging(**which)["LoggingEnabled"]["TargetBucket"] == f"{name}-logs"
    assert "EventBridgeConfiguration" in s3.get_bucket_notification_configuration(**which)
    assert s3.get_bucket_tagging(**which)["TagSet"] == [{"Key": "lab", "Value": "x"}]
    s3.put_bucket_logging(**which, BucketLoggingStatus={})
    logged = s3.list_object_versions(Bucket=f"{name}-logs").get("Versions", [])
    for row in logged:
        s3.delete_object(Bucket=f"{name}-logs", Key=row["Key"])


def test_references_attributes_and_substitutions_reach_properties_and_outputs(deploy: Deploy, name: str) -> None:
    topic = {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": {"Fn::Sub": "${Data}-topic"}}}
    outputs = {"Arn": {"Fn::GetAtt": ["Data", "Arn"]}, "Topic": {"Ref": "Topic"}}
    found = deploy(outputs, Topic=topic, Data=bucket({"Fn::Join": ["-", [name, {"Ref": "AWS::Region"}]]}))
    assert found["Arn"] == f"arn:aws:s3:::{name}-us-east-1"
    assert found["Topic"] == f"arn:aws:sns:us-east-1:123456789012:{name}-us-east-1-topic"


@pytest.mark.parametrize(
    ("resource", "words"),
    [
        ({"Type": "AWS::AppRunner::Service"}, "resource Bad: the type AWS::AppRunner::Service is not covered"),
        (bucket("b", WebsiteConfiguration={}), "the property WebsiteConfiguration is not covered"),
    ],
)
def test_what_is_not_covered_is_refused_before_anything_is_made(
    engine: Engine, deploy: Deploy, name: str, resource: dict[str, Any], words: str
) -> None:
    with pytest.raises(ClientError) as refused:
        deploy(Good=bucket(name), Bad=resource)
    assert words in said(refused)
    assert name not in {row["Name"] for row in engine.client("s3").list_buckets()["Buckets"]}
    assert name not in {row["StackName"] for row in engine.client("cloudformation").describe_stacks()["Stacks"]}


def test_a_stack_that_does_not_come_up_leaves_nothing_and_says_which_resource(
    engine: Engine, deploy: Deploy, name: str
) -> None:
    rule = {
        "Type": "AWS::IoT::TopicRule",
        "Properties": {"RuleName": "r", "TopicRulePayload": {"Sql": "DROP", "Actions": []}},
    }
    with pytest.raises(ClientError) as refused:
        deploy(Good=bucket(name), Rule={**rule, "DependsOn": "Good"})
    assert said(refused).startswith("Rule (AWS::IoT::TopicRule):")
    assert name not in {row["Name"] for row in engine.client("s3").list_buckets()["Buckets"]}


def test_a_nested_property_that_no_api_knows_is_refused(deploy: Deploy, name: str) -> None:
    with pytest.raises(ClientError) as refused:
        deploy(Data=bucket(name, VersioningConfiguration={"Status": "Enabled", "Colour": "red"}))
    assert "Colour" in said(refused) and "Data (AWS::S3::Bucket)" in said(refused)


def test_an_update_changes_a_bucket_in_place_and_keeps_its_objects(engine: Engine, deploy: Deploy, name: str) -> None:
    s3 = engine.client("s3")
    deploy(Data=bucket(name))
    s3.put_object(Bucket=name, Key="k", Body=b"v")
    deploy(Data=bucket(name, VersioningConfiguration={"Status": "Enabled"}))
    assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
    assert s3.get_object(Bucket=name, Key="k")["Body"].read() == b"v"
    with pytest.raises(ClientError) as refused:
        deploy(Data=bucket(name))
    assert "VersioningConfiguration" in said(refused)
    s3.delete_object(Bucket=name, Key="k")
    for row in [
        *s3.list_object_versions(Bucket=name).get("DeleteMarkers", []),
        *s3.list_object_versions(Bucket=name)["Versions"],
    ]:
        s3.delete_object(Bucket=name, Key=row["Key"], VersionId=row["VersionId"])


def test_an_update_reaches_what_refers_to_a_resource_that_was_replaced(
    engine: Engine, deploy: Deploy, name: str
) -> None:
    def parts(suffix: str) -> dict[str, Any]:
        queue = {
            "Type": "AWS::SSM::Parameter",
            "Properties": {"Name": f"/{name}/{suffix}", "Type": "String", "Value": suffix},
        }
        follows = {"Name": f"/{name}/follows", "Type": "String", "Value": {"Fn::GetAtt": ["Leads", "Value"]}}
        return {"Leads": queue, "Follows": {"Type": "AWS::SSM::Parameter", "Properties": follows}}

    ssm = engine.client("ssm")
    deploy(**parts("one"))
    deploy(**parts("two"))
    assert ssm.get_parameter(Name=f"/{name}/follows")["Parameter"]["Value"] == "two"
    deploy(
        Follows={"Type": "AWS::SSM::Parameter", "Properties": {"Name": f"/{name}/only", "Type": "String", "Value": "x"}}
    )
    left = {row["Name"] for row in ssm.describe_parameters()["Parameters"] if row["Name"].startswith(f"/{name}/")}
    assert f"/{name}/only" in left and f"/{name}/one" not in left


def test_a_deleted_stack_takes_its_resources_with_it_but_not_what_is_retained(engine: Engine, name: str) -> None:
    client, s3 = engine.client("cloudformation"), engine.client("s3")
    resources = {"Gone": bucket(f"{name}-gone"), "Kept": {**bucket(f"{name}-kept"), "DeletionPolicy": "Retain"}}
    client.create_stack(StackName=name, TemplateBody=json.dumps({"Resources": resources}))
    client.delete_stack(StackName=name)
    left = {row["Name"] for row in s3.list_buckets()["Buckets"]}
    assert f"{name}-kept" in left and f"{name}-gone" not in left


def test_a_stack_that_cannot_be_deleted_whole_says_what_stayed_and_is_deleted_at_the_second_try(
    engine: Engine, deploy: Deploy, name: str
) -> None:
    key = {"Type": "AWS::KMS::Key", "Properties": {"KeyPolicy": {"Version": "2012-10-17", "Statement": []}}}
    encryption = {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": {"Ref": "Key"}}}
    full = bucket(name, BucketEncryption={"ServerSideEncryptionConfiguration": [encryption]})
    deploy(Key=key, Full=full, Empty=bucket(f"{name}-empty"))
    s3, client = engine.client("s3"), engine.client("cloudformation")
    s3.put_object(Bucket=name, Key="a", Body=b"a")
    client.delete_stack(StackName=name)
    assert client.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"] == "DELETE_FAILED"
    events = client.describe_stack_events(StackName=name)["StackEvents"]
    why = {row["LogicalResourceId"]: row["ResourceStatusReason"] for row in events if "FAILED" in row["ResourceStatus"]}
    assert "not empty" in why["Full"] and "Key" not in why, "what a resource that stays needs is not tried"
    assert f"{name}-empty" not in {row["Name"] for row in s3.list_buckets()["Buckets"]}
    s3.delete_object(Bucket=name, Key="a")
    client.delete_stack(StackName=name)
    assert name not in {row["Name"] for row in s3.list_buckets()["Buckets"]}
    assert name not in {row["StackName"] for row in client.describe_stacks()["Stacks"]}


def test_a_change_set_deploys_as_the_cdk_command_line_does(engine: Engine, name: str) -> None:
    client = engine.client("cloudformation")
    body = json.dumps({"Resources": {"Data": bucket(name)}, "Outputs": {"Bucket": {"Value": {"Ref": "Data"}}}})
    given = {"StackName": name, "ChangeSetName": "first", "ChangeSetType": "CREATE", "TemplateBody": body}
    client.create_change_set(**given)
    client.execute_change_set(StackName=name, ChangeSetName="first")
    [stack] = client.describe_stacks(StackName=name)["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    assert stack["Outputs"] == [{"OutputKey": "Bucket", "OutputValue": name}]
    rows = client.describe_stack_resources(StackName=name)["StackResources"]
    assert [(row["LogicalResourceId"], row["PhysicalResourceId"], row["ResourceType"]) for row in rows] == [
        ("Data", name, "AWS::S3::Bucket")
    ]
    client.delete_stack(StackName=name)


def test_a_role_has_its_trust_and_its_policies(engine: Engine, deploy: Deploy, name: str) -> None:
    def role(action: str) -> dict[str, Any]:
        trust = {
            "Statement": [
                {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "glue.amazonaws.com"}}
            ]
        }
        document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": "*"}]}
        policies = [{"PolicyName": "work", "PolicyDocument": document}]
        given = {"RoleName": name, "AssumeRolePolicyDocument": {"Version": "2012-10-17", **trust}, "Policies": policies}
        return {"Type": "AWS::IAM::Role", "Properties": given}

    deploy(Role=role("s3:GetObject"))
    deploy(Role=role("s3:PutObject"))
    found = engine.client("iam").get_role_policy(RoleName=name, PolicyName="work")["PolicyDocument"]
    assert found["Statement"][0]["Action"] == "s3:PutObject"


def test_what_delivers_a_stack_and_shares_its_models_is_kept_and_read_back(
    engine: Engine, deploy: Deploy, name: str
) -> None:
    """GitHub's identity provider, a pipeline, a model group's policy: made, changed, read through their services."""
    who = {
        "Statement": [
            {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "codepipeline.amazonaws.com"}}
        ]
    }
    role = {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": {"Version": "2012-10-17", **who}}}
    issuer = {
        "Url": "https://token.example.com",
        "ClientIdList": ["sts.amazonaws.com"],
        "Tags": [{"Key": "a", "Value": "b"}],
    }
    look = {
        "Sid": "Look",
        "Effect": "Allow",
        "Principal": {"AWS": "222222222222"},
        "Action": "sagemaker:ListModelPackages",
    }

    def group(**more: Any) -> dict[str, Any]:
        return {"Type": "AWS::SageMaker::ModelPackageGroup", "Properties": {"ModelPackageGroupName": name, **more}}

    def pipeline(branch: str) -> dict[str, Any]:
        def action(category: str, provider: str, **more: Any) -> dict[str, Any]:
            kind = {"Category": category, "Owner": "AWS", "Provider": provider, "Version": "1"}
            return {"Name": provider, "ActionTypeId": kind, **more}

        source = {"FullRepositoryId": "a/b", "BranchName": branch, "ConnectionArn": "arn:aws:codeconnections:x"}
        taken = action("Source", "CodeStarSourceConnection", Configuration=source, OutputArtifacts=[{"Name": "source"}])
        given = {
            "Name": name,
            "RoleArn": {"Fn::GetAtt": ["Role", "Arn"]},
            "PipelineType": "V2",
            "ExecutionMode": "QUEUED",
            "ArtifactStore": {"Type": "S3", "Location": "a-bucket", "EncryptionKey": {"Id": "a-key", "Type": "KMS"}},
            "Stages": [
                {"Name": "Source", "Actions": [taken]},
                {"Name": "Approve", "Actions": [action("Approval", "Manual")]},
            ],
            "Tags": [{"Key": "lab", "Value": "x"}],
        }
        return {"Type": "AWS::CodePipeline::Pipeline", "Properties": given}

    provider = {"Type": "AWS::IAM::OIDCProvider", "Properties": issuer}
    shared = group(ModelPackageGroupPolicy={"Version": "2012-10-17", "Statement": [look]})
    out = {"Provider": {"Fn::GetAtt": ["Provider", "Arn"]}, "Pipeline": {"Ref": "Pipeline"}}
    found = deploy(out, Role=role, Provider=provider, Group=shared, Pipeline=pipeline("main"))
    assert found["Provider"].endswith(":oidc-provider/token.example.com") and found["Pipeline"] == name
    assert engine.client("codepipeline").get_pipeline(name=name)["pipeline"]["pipelineType"] == "V2"
    sagemaker = engine.client("sagemaker")
    policy = sagemaker.get_model_package_group_policy(ModelPackageGroupName=name)["ResourcePolicy"]
    assert json.loads(policy)["Statement"] == [look]
    deploy(out, Role=role, Provider=provider, Group=group(), Pipeline=pipeline("release"))
    stages = engine.client("codepipeline").get_pipeline(name=name)["pipeline"]["stages"]
    assert stages[0]["actions"][0]["configuration"]["BranchName"] == "release"
    with pytest.raises(ClientError, match="Cannot find resource policy"):
        sagemaker.get_model_package_group_policy(ModelPackageGroupName=name)
