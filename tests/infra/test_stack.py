"""The template: encrypted, private, least privilege, and clean by the checks that customers run."""

import json
from collections.abc import Iterator
from fnmatch import fnmatch
from typing import Any

import pytest

from infra.accepted import ACCEPTED
from pipelines.functions.feedback import ALERTS

pytestmark = pytest.mark.slow

OUTPUTS = {
    "DataBucket", "ArtifactBucket", "LogBucket", "KeyArn", "FlowArn", "ReleaseFlowArn", "RunsTable",
    "ModelPackageGroup", "EndpointName", "GlueJob", "GlueDatabase", "CanaryGroup", "FleetGroup", "CoreGroup",
    "RuntimeComponent", "ModelComponent", "Dashboard", "ProvisioningTemplate",
}  # fmt: skip
# Actions that AWS lets no one narrow to a resource, or whose resource is made by the service itself.
BARE_STAR = {
    "cloudwatch:PutMetricData", "ecr:GetAuthorizationToken", "greengrass:CreateDeployment",
    "greengrass:ListDeployments", "iot:ListPrincipalPolicies", "iot:RegisterThing",
    "logs:CreateLogDelivery", "logs:DeleteLogDelivery", "logs:DescribeLogGroups", "logs:DescribeResourcePolicies",
    "logs:GetLogDelivery", "logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:UpdateLogDelivery",
    "xray:GetSamplingRules", "xray:GetSamplingTargets", "xray:PutTelemetryRecords", "xray:PutTraceSegments",
}  # fmt: skip


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(assembly: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, role in assembly.of_type("AWS::IAM::Role").items():
        for policy in role.get("Policies", []):
            for statement in policy["PolicyDocument"]["Statement"]:
                yield name, statement


def covers(pattern: str, key: str) -> bool:
    """Whether a statement's resource reaches objects of this key, in whatever bucket it names."""
    _, slash, objects = pattern.rpartition(":")[2].partition("/")
    return pattern == "*" or bool(slash and fnmatch(key, f"/{objects}"))


def test_there_is_no_custom_resource_and_no_role_but_ours(assembly: Any) -> None:
    kinds = {row["Type"] for row in assembly.template["Resources"].values()}
    assert not [kind for kind in kinds if kind.startswith("Custom::") or kind == "AWS::CloudFormation::CustomResource"]
    assert "AWS::IAM::Policy" not in kinds
    assert not [role for role in assembly.of_type("AWS::IAM::Role").values() if role.get("ManagedPolicyArns")]


def test_who_registers_alone_writes_where_approved_models_are(assembly: Any) -> None:
    writers = {
        name
        for name, statement in statements(assembly)
        if "s3:PutObject" in listed(statement["Action"])
        and any(covers(assembly.text(where), "/releases/1.0.1/x") for where in listed(statement["Resource"]))
    }
    assert [name.rstrip("0123456789ABCDEF") for name in writers] == ["DecisionsRegisterRole"]


def test_the_outputs_have_their_names(assembly: Any) -> None:
    assert set(assembly.template["Outputs"]) == OUTPUTS


def test_every_bucket_is_encrypted_private_versioned_and_tidied(assembly: Any) -> None:
    buckets = assembly.of_type("AWS::S3::Bucket")
    assert len(buckets) == 3
    for name, bucket in buckets.items():
        assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}, name
        assert bucket["VersioningConfiguration"]["Status"] == "Enabled", name
        assert bucket["LifecycleConfiguration"]["Rules"], name
        (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        algorithm = rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"]
        assert algorithm == ("AES256" if "-logs-" in assembly.text(bucket["BucketName"]) else "aws:kms"), name


def test_every_bucket_refuses_what_does_not_come_over_tls(assembly: Any) -> None:
    policies = assembly.of_type("AWS::S3::BucketPolicy").values()
    guarded = set()
    for policy in policies:
        for statement in policy["PolicyDocument"]["Statement"]:
            if statement["Effect"] == "Deny" and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}:
                assert statement["Action"] == "s3:*" and statement["Principal"] == {"AWS": "*"}
                guarded.add(policy["Bucket"]["Ref"])
    assert guarded == set(assembly.of_type("AWS::S3::Bucket"))


def test_the_data_bucket_announces_objects_by_its_own_property(assembly: Any) -> None:
    announced = [
        assembly.text(bucket["BucketName"])
        for bucket in assembly.of_type("AWS::S3::Bucket").values()
        if bucket.get("NotificationConfiguration") == {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}
    ]
    assert announced == ["ml-lab-dev-data-<AWS::AccountId>-us-east-1"]


def test_table_topic_and_every_log_group_use_the_lab_s_key(assembly: Any) -> None:
    (key,) = assembly.of_type("AWS::KMS::Key")
    arn = {"Fn::GetAtt": [key, "Arn"]}
    assert assembly.of_type("AWS::KMS::Key")[key]["EnableKeyRotation"] is True
    (table,) = assembly.of_type("AWS::DynamoDB::Table").values()
    assert table["SSESpecification"]["KMSMasterKeyId"] == arn
    assert all(group["KmsKeyId"] == arn for group in assembly.of_type("AWS::Logs::LogGroup").values())
    assert all(group["RetentionInDays"] for group in assembly.of_type("AWS::Logs::LogGroup").values())
    assert all(topic["KmsMasterKeyId"] == arn for topic in assembly.of_type("AWS::SNS::Topic").values())


def test_no_role_may_do_every_action_of_a_service(assembly: Any) -> None:
    for role, statement in statements(assembly):
        assert not [action for action in listed(statement["Action"]) if "*" in action], role


def test_a_bare_star_stands_only_where_nothing_narrower_exists(assembly: Any) -> None:
    for role, statement in statements(assembly):
        if "*" in listed(statement["Resource"]):
            assert set(listed(statement["Action"])) <= BARE_STAR, role
            if "cloudwatch:PutMetricData" in listed(statement["Action"]):
                assert "cloudwatch:namespace" in json.dumps(statement["Condition"]), role


def test_every_wildcard_carries_its_reason(assembly: Any) -> None:
    """cdk-nag fails synthesis for a finding without one; here, that each reason is a sentence and not a shrug."""
    metadata = json.loads((assembly.path / "ml-lab-dev.metadata.json").read_text("utf-8"))
    acknowledged = {
        (path, finding): reason
        for path, rows in metadata.items()
        for row in rows
        if row["type"] == "aws:cdk:acknowledged-rules"
        for finding, reason in row["data"].items()
    }
    assert len(acknowledged) > 20
    for (path, finding), reason in acknowledged.items():
        known = {f"NIST.800.53.R5::NIST.800.53.R5-{row.nist}" for row in ACCEPTED}
        assert "AwsSolutions-IAM5[" in finding or finding in known, f"{path} acknowledges more than one: {finding}"
        assert len(reason.split()) >= 4, f"{path}: {reason}"


def test_a_role_is_handed_to_sagemaker_only(assembly: Any) -> None:
    passed = [row for _, row in statements(assembly) if "iam:PassRole" in listed(row["Action"])]
    assert len(passed) == 2
    for statement in passed:
        assert statement["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
        assert all("Fn::GetAtt" in resource for resource in listed(statement["Resource"]))


def test_a_device_speaks_on_its_own_topics_only(assembly: Any) -> None:
    policy = assembly.named("AWS::IoT::Policy", "PolicyName", "ml-lab-dev-device")
    thing = "${iot:Connection.Thing.ThingName}"
    for statement in policy["PolicyDocument"]["Statement"]:
        for resource in map(assembly.text, listed(statement["Resource"])):
            if ":topic/" in resource or ":topicfilter/" in resource or ":client/" in resource:
                assert thing in resource, resource
    assert not [row for row in policy["PolicyDocument"]["Statement"] if row["Action"] in ("iot:*", "greengrass:*")]


def test_a_claim_certificate_asks_for_a_certificate_and_for_nothing_else(assembly: Any) -> None:
    policy = assembly.named("AWS::IoT::Policy", "PolicyName", "ml-lab-dev-claim")
    for statement in policy["PolicyDocument"]["Statement"]:
        for resource in map(assembly.text, listed(statement["Resource"])):
            allowed = ("$aws/certificates/create/", "$aws/certificates/create-from-csr/", "client/*")
            assert any(one in resource for one in (*allowed, "/ml-lab-dev-join/provision/")), resource


def test_a_device_joins_only_past_the_hook_and_under_the_device_policy(assembly: Any) -> None:
    (template,) = assembly.of_type("AWS::IoT::ProvisioningTemplate").values()
    assert "Provision" in json.dumps(template["PreProvisioningHook"]["TargetArn"])
    body = json.loads(template["TemplateBody"])["Resources"]
    assert body["policy"]["Properties"]["PolicyName"] == "ml-lab-dev-device"
    # The groups are the owner's business: a claim cannot choose them.
    assert "ThingGroups" not in body["thing"]["Properties"]
    assert body["thing"]["OverrideSettings"]["ThingGroups"] == "DO_NOTHING"


def puts_of_a_device(assembly: Any) -> list[dict[str, Any]]:
    return [
        statement
        for role, statement in statements(assembly)
        if role.startswith("FleetDeviceRole") and "s3:PutObject" in listed(statement["Action"])
    ]


def test_a_device_puts_samples_below_its_own_name_and_never_a_manifest(synthesize: Any, tmp_path: Any) -> None:
    assembly = synthesize(tmp_path / "cdk.out", LAB_OVERRIDES='{"edge": {"capture_per_day": 40}}')
    puts = puts_of_a_device(assembly)
    where = {statement["Effect"]: [assembly.text(one) for one in listed(statement["Resource"])] for statement in puts}
    assert [one.partition("/")[2] for one in where["Allow"]] == ["raw/*-device/${credentials-iot:ThingName}/*"]
    assert [one.partition("/")[2] for one in where["Deny"]] == ["raw/*/_manifest.json"]


def test_samples_leave_a_device_only_where_the_owner_asks_for_them(
    assembly: Any, synthesize: Any, tmp_path: Any
) -> None:
    def configured(one: Any) -> dict[str, Any]:
        (deployment,) = one.of_type("AWS::GreengrassV2::Deployment").values()
        (merge,) = [
            component["ConfigurationUpdate"]["Merge"]
            for component in deployment["Components"].values()
            if "ConfigurationUpdate" in component
        ]
        return json.loads(one.text(merge))

    said = configured(assembly)
    assert (said["bucket"], said["capture_per_day"], said["drift_psi"], said["source"]) == ("", 0, 0.25, "inbox")
    assert not puts_of_a_device(assembly)
    asked = synthesize(tmp_path / "cdk.out", LAB_OVERRIDES='{"edge": {"capture_per_day": 40}}')
    found = configured(asked)
    assert (found["capture_per_day"], bool(found["bucket"])) == (40, True)


def test_no_endpoint_stands_before_a_person_approved_a_model(assembly: Any) -> None:
    kinds = {row["Type"] for row in assembly.template["Resources"].values()}
    assert not kinds & {"AWS::SageMaker::Endpoint", "AWS::SageMaker::EndpointConfig", "AWS::SageMaker::Model"}


def test_the_flow_is_started_by_the_manifest_the_release_by_an_approval_the_queue_by_drift(assembly: Any) -> None:
    rules = {row["Name"]: row for row in assembly.of_type("AWS::Events::Rule").values()}
    assert set(rules) == {"ml-lab-dev-newdata", "ml-lab-dev-approved", "ml-lab-dev-drift"}
    assert rules["ml-lab-dev-newdata"]["EventPattern"]["detail"]["object"]["key"] == [
        {"wildcard": "raw/*/_manifest.json"}
    ]
    (target,) = rules["ml-lab-dev-newdata"]["Targets"]
    assert target["InputTransformer"]["InputTemplate"] == '{"bucket": <bucket>, "key": <key>, "nonce": ""}'
    drift = rules["ml-lab-dev-drift"]
    assert drift["EventPattern"]["detail"]["alarmName"] == ["ml-lab-dev-drift"]
    # What devices saw has no labels: a person gives them, and the manifest that this ends with starts the flow.
    assert ["Labelling" in json.dumps(target["Arn"]) for target in drift["Targets"]] == [True]
    assert assembly.named("AWS::CloudWatch::Alarm", "AlarmName", "ml-lab-dev-drift")["MetricName"] == "DriftAlerts"


def test_a_spent_budget_calls_the_function_that_deletes_the_endpoint_and_people_hear_before(assembly: Any) -> None:
    (budget,) = assembly.of_type("AWS::Budgets::Budget").values()
    told = {
        (row["Notification"]["NotificationType"], row["Notification"]["Threshold"]): assembly.text(
            row["Subscribers"][0]["Address"]
        )
        for row in budget["NotificationsWithSubscribers"]
    }
    spent = told[("ACTUAL", 100)]
    assert "Spending" in spent and told[("ACTUAL", 80)] == told[("FORECASTED", 100)] != spent
    (halts,) = [row for row in assembly.of_type("AWS::SNS::Subscription").values() if row["Protocol"] == "lambda"]
    assert assembly.text(halts["TopicArn"]) == spent and "SpendingHalt" in assembly.text(halts["Endpoint"])
    callers = assembly.of_type("AWS::Lambda::Permission").values()
    (caller,) = [row for row in callers if row["Principal"] == "sns.amazonaws.com"]
    assert assembly.text(caller["SourceArn"]) == spent


def test_an_endpoint_of_instances_is_deleted_at_the_end_of_the_day_where_that_is_asked_for(
    assembly: Any, tmp_path: Any, synthesize: Any
) -> None:
    assert "ml-lab-dev-endofday" not in {row["Name"] for row in assembly.of_type("AWS::Events::Rule").values()}
    asked = synthesize(tmp_path / "cdk.out", LAB_OVERRIDES='{"serving": {"serverless": false, "delete_at": "20:05"}}')
    rule = asked.named("AWS::Events::Rule", "Name", "ml-lab-dev-endofday")
    assert rule["ScheduleExpression"] == "cron(5 20 * * ? *)"
    assert "SpendingHalt" in asked.text(rule["Targets"][0]["Arn"])


def test_the_function_that_stops_the_endpoint_can_do_nothing_else_to_sagemaker(assembly: Any) -> None:
    (role,) = [row for key, row in assembly.of_type("AWS::IAM::Role").items() if key.startswith("WatchSpendingHalt")]
    allowed = [
        (statement["Action"], assembly.text(statement["Resource"]))
        for policy in role["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]
        if "sagemaker" in json.dumps(statement)
    ]
    ((actions, on),) = allowed
    assert sorted(actions) == ["sagemaker:DeleteEndpoint", "sagemaker:DescribeEndpoint"]
    assert on.endswith(":endpoint/ml-lab-dev-endpoint")


def test_what_a_device_reports_reaches_the_feedback_function_by_the_broker_s_word(assembly: Any) -> None:
    rules = {row["RuleName"]: row["TopicRulePayload"] for row in assembly.of_type("AWS::IoT::TopicRule").values()}
    assert {name: rule["Sql"] for name, rule in rules.items()} == {
        f"ml_lab_dev_{topic}": f"SELECT *, topic(2) AS topic_thing FROM 'ml-lab-dev/+/{topic}'"
        for topic in ("telemetry", "alert")
    }
    called = {json.dumps(rule["Actions"]) for rule in rules.values()}
    assert len(called) == 1 and "Feedback" in called.pop()
    callers = [
        row
        for row in assembly.of_type("AWS::Lambda::Permission").values()
        if row["Principal"] == "iot.amazonaws.com" and "Feedback" in json.dumps(row["FunctionName"])
    ]
    assert len(callers) == len(rules) and all(row["SourceArn"] and row["SourceAccount"] for row in callers)


@pytest.mark.parametrize(
    ("alarm", "metric"), [("reverts", "Reverts"), ("degraded", "Degraded"), ("drift", "DriftAlerts")]
)
def test_what_a_person_must_act_on_is_told_at_the_first_alert(assembly: Any, alarm: str, metric: str) -> None:
    row = assembly.named("AWS::CloudWatch::Alarm", "AlarmName", f"ml-lab-dev-{alarm}")
    assert (row["MetricName"], row["Threshold"], row["Statistic"]) == (metric, 1, "Sum")
    assert row["AlarmActions"] and row["Namespace"] == "ml-lab-dev/Edge"
    assert metric in ALERTS.values()


def test_silence_is_told_and_a_stack_without_devices_tells_nothing(assembly: Any) -> None:
    row = assembly.named("AWS::CloudWatch::Alarm", "AlarmName", "ml-lab-dev-silent")
    assert (row["Statistic"], row["ComparisonOperator"]) == ("SampleCount", "LessThanThreshold")
    # Missing data change the state to INSUFFICIENT_DATA, in which an alarm that never had data is from the start.
    assert row["TreatMissingData"] == "missing" and row["InsufficientDataActions"]
    assert row["EvaluationPeriods"] * row["Period"] == 900


def test_the_runtime_s_recipe_is_json_without_a_placeholder_left(assembly: Any) -> None:
    (component,) = assembly.of_type("AWS::GreengrassV2::ComponentVersion").values()
    recipe = json.loads(assembly.text(component["InlineRecipe"]))
    assert "@" not in json.dumps(recipe)
    assert recipe["ComponentName"] == "ml-lab-dev.Inference"
    (artifact,) = recipe["Manifests"][0]["Artifacts"]
    assert (assembly.path / f"asset.{artifact['Uri'].rpartition('/')[2]}").is_file()
    (deployment,) = assembly.of_type("AWS::GreengrassV2::Deployment").values()
    assert deployment["Components"]["aws.greengrass.NucleusLite"] == {"ComponentVersion": "2.5.0"}
    assert deployment["Components"]["ml-lab-dev.Inference"]["ComponentVersion"] == recipe["ComponentVersion"]


def test_images_are_scanned_immutable_and_built_by_codebuild(assembly: Any) -> None:
    for repository in assembly.of_type("AWS::ECR::Repository").values():
        assert repository["ImageTagMutability"] == "IMMUTABLE"
        assert repository["ImageScanningConfiguration"] == {"ScanOnPush": True}
    assert {row["Name"] for row in assembly.of_type("AWS::CodeBuild::Project").values()} == {
        "ml-lab-dev-job-image",
        "ml-lab-dev-serve-image",
    }
