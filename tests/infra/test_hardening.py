"""What a security officer asks of the template: keys, trails, transport, secrets, and nothing that is open to all."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.slow

# Every variable that a function, a job, an image build or the endpoint is told. A new one is added here by a person who
# has looked that it is no secret: what must be secret is fetched by the role, never told.
TOLD = {
    "BUCKET", "CANARY_GROUP", "CORE_GROUP", "DATASET", "ENDPOINT_NAME", "GATE", "GROUPS", "IMAGE", "LIMITS",
    "METRICS_NAMESPACE", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_URI", "MODEL_COMPONENT", "MOST", "NAMESPACE",
    "ORT_DISABLE_TELEMETRY", "PACKAGE_GROUP", "PUBLIC_KEY", "PYTHONPATH", "REGISTRIES", "RUNTIME_COMPONENT",
    "SAGEMAKER_BASE_DIR",
    "SERVE_IMAGE", "STAGER_ARTIFACT", "TABLE", "TARGETS", "WHEELS",
}  # fmt: skip
SECRET = re.compile(r"AKIA[0-9A-Z]{16}|-----BEGIN|password|passwd|secret|://[^/\s\"]*:[^/\s\"]*@", re.IGNORECASE)
# What would let someone in from outside, or stand as a machine of ours with a metadata service to protect.
PUBLIC = (
    "AWS::ApiGateway", "AWS::ApiGatewayV2", "AWS::AppSync", "AWS::CloudFront", "AWS::ElasticLoadBalancing",
    "AWS::Lambda::Url", "AWS::Cognito", "AWS::Transfer",
)  # fmt: skip
MACHINES = (
    "AWS::EC2::Instance",
    "AWS::EC2::LaunchTemplate",
    "AWS::AutoScaling",
    "AWS::SageMaker::Notebook",
    "AWS::ECS",
)
SERVICES = {"codebuild", "dynamodb", "ec2", "ecr", "glue", "lambda", "s3", "sagemaker", "sns"}


def key_policy(assembly: Any) -> dict[str, dict[str, Any]]:
    """Statements of the key's policy by their ids."""
    (key,) = assembly.of_type("AWS::KMS::Key").values()
    return {row["Sid"]: row for row in key["KeyPolicy"]["Statement"]}


def environments(assembly: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """What each function, build, job and model is told."""
    for name, function in assembly.of_type("AWS::Lambda::Function").items():
        yield name, function.get("Environment", {}).get("Variables", {})
    for name, project in assembly.of_type("AWS::CodeBuild::Project").items():
        rows = project["Environment"]["EnvironmentVariables"]
        yield name, {row["Name"]: row["Value"] for row in rows}
    for machine in ("ml-lab-dev-flow", "ml-lab-dev-release"):
        for name, state in assembly.machine(machine)["States"].items():
            given = state.get("Parameters", {})
            yield name, given.get("Environment", given.get("PrimaryContainer", {}).get("Environment", {}))


def test_the_key_is_used_through_named_services_and_for_what_is_ours(assembly: Any) -> None:
    policy = key_policy(assembly)
    use = [row for row in policy.values() if "kms:Decrypt" in row["Action"] or "kms:GenerateDataKey*" in row["Action"]]
    assert len(use) == 4
    for row in use:
        assert row["Condition"], row["Sid"]
    through = policy["UsedThroughServices"]["Condition"]["StringEquals"]["kms:ViaService"]
    assert {assembly.text(name).partition(".")[0] for name in through} == SERVICES
    context = policy["LogGroupsOfTheLab"]["Condition"]["ArnLike"]["kms:EncryptionContext:aws:logs:arn"]
    assert all("ml-lab-dev" in assembly.text(arn) or "/aws-glue/" in assembly.text(arn) for arn in context)
    trail = policy["TrailOfTheLab"]["Condition"]
    assert "trail/ml-lab-dev-" in assembly.text(trail["StringLike"]["kms:EncryptionContext:aws:cloudtrail:arn"])
    assert policy["GrantedToServices"]["Condition"]["Bool"] == {"kms:GrantIsForAWSResource": "true"}


def test_who_administers_the_key_may_not_use_it_by_that_alone(assembly: Any) -> None:
    administration = set(key_policy(assembly)["AdministeredByTheAccount"]["Action"])
    assert "kms:ScheduleKeyDeletion" in administration
    assert not [action for action in administration if re.search(r"crypt|DataKey|CreateGrant|\*", action)]


def test_every_object_call_on_the_data_bucket_is_written_down_where_it_cannot_be_changed_unseen(assembly: Any) -> None:
    (trail,) = assembly.of_type("AWS::CloudTrail::Trail").values()
    assert trail["IsLogging"] is True and trail["EnableLogFileValidation"] is True and trail["KMSKeyId"]
    (selector,) = trail["AdvancedEventSelectors"]
    fields = {row["Field"]: row for row in selector["FieldSelectors"]}
    (data,) = (name for name in assembly.of_type("AWS::S3::Bucket") if name.startswith("LakeData"))
    assert [assembly.text(arn) for arn in fields["resources.ARN"]["StartsWith"]] == [f"<{data}.Arn>/"]
    # Neither reads nor writes are left out, which a field `readOnly` would do.
    assert set(fields) == {"eventCategory", "resources.type", "resources.ARN"}
    (logs,) = (row for name, row in assembly.of_type("AWS::S3::BucketPolicy").items() if name.startswith("LakeLogs"))
    delivers = [row for row in logs["PolicyDocument"]["Statement"] if row.get("Sid") in ("TrailLooks", "TrailWrites")]
    assert len(delivers) == 2
    for row in delivers:
        assert assembly.text(row["Condition"]["StringEquals"]["aws:SourceArn"]).endswith(":trail/ml-lab-dev-trail")


def test_buckets_with_data_log_who_asks(assembly: Any) -> None:
    for name, bucket in assembly.of_type("AWS::S3::Bucket").items():
        if not name.startswith("LakeLogs"):
            assert bucket["LoggingConfiguration"]["DestinationBucketName"]["Ref"].startswith("LakeLogs"), name


def test_every_topic_and_queue_refuses_what_does_not_come_over_tls(assembly: Any) -> None:
    asked = {*assembly.of_type("AWS::SNS::Topic"), *assembly.of_type("AWS::SQS::Queue")}
    assert len(asked) == 2
    guarded = set()
    for kind, lists in (("AWS::SNS::TopicPolicy", "Topics"), ("AWS::SQS::QueuePolicy", "Queues")):
        for policy in assembly.of_type(kind).values():
            for row in policy["PolicyDocument"]["Statement"]:
                if row["Effect"] == "Deny" and row["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}:
                    assert row["Principal"] in ("*", {"AWS": "*"})
                    guarded |= {one["Ref"] for one in policy[lists]}
    assert guarded == asked


@pytest.mark.parametrize("which", ["assembly", "private"])
def test_no_variable_is_a_secret(which: str, request: pytest.FixtureRequest) -> None:
    made = request.getfixturevalue(which)
    told = dict(environments(made))
    assert len([name for name, given in told.items() if given]) > 12
    for name, given in told.items():
        assert set(given) <= TOLD, name
        assert not SECRET.search(json.dumps(given)), name


@pytest.mark.parametrize("which", ["assembly", "private"])
def test_nothing_listens_in_public_and_no_machine_has_a_metadata_service(
    which: str, request: pytest.FixtureRequest
) -> None:
    kinds = {row["Type"] for row in request.getfixturevalue(which).template["Resources"].values()}
    assert not [kind for kind in kinds if kind.startswith((*PUBLIC, *MACHINES))]


def test_no_policy_of_a_resource_admits_everyone(assembly: Any) -> None:
    for kind in ("AWS::S3::BucketPolicy", "AWS::SNS::TopicPolicy"):
        for name, policy in assembly.of_type(kind).items():
            for row in policy["PolicyDocument"]["Statement"]:
                assert row["Effect"] == "Deny" or row["Principal"] not in ("*", {"AWS": "*"}), name
    for permission in assembly.of_type("AWS::Lambda::Permission").values():
        assert permission["Principal"] != "*" and permission["SourceArn"]


def test_a_service_takes_a_role_for_this_account_alone(assembly: Any) -> None:
    """No confused deputy. Lambda and Glue send no source with the call, so a condition there would lock them out."""
    named = set()
    for name, role in assembly.of_type("AWS::IAM::Role").items():
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        who = statement["Principal"]["Service"]
        named.add(who)
        if who not in ("lambda.amazonaws.com", "glue.amazonaws.com"):
            wanted = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
            assert statement["Condition"] == wanted, name
    assert {"sagemaker.amazonaws.com", "states.amazonaws.com", "iot.amazonaws.com"} < named


def test_everything_that_runs_ends_at_a_time(assembly: Any) -> None:
    (job,) = assembly.of_type("AWS::Glue::Job").values()
    assert job["Timeout"] and job["ExecutionProperty"]["MaxConcurrentRuns"] <= 3
    assert all(row["TimeoutInMinutes"] for row in assembly.of_type("AWS::CodeBuild::Project").values())
    assert all(row["Timeout"] <= 900 for row in assembly.of_type("AWS::Lambda::Function").values())
    flow = assembly.machine("ml-lab-dev-flow")
    for name in ("Train", "Evaluate", "Export"):
        assert flow["States"][name]["Parameters"]["StoppingCondition"]["MaxRuntimeInSeconds"] <= 24 * 3600
    for machine in (flow, assembly.machine("ml-lab-dev-release")):
        assert machine["TimeoutSeconds"] <= 24 * 3600
