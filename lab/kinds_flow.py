"""Resource types that act: roles, functions, state machines, rules, builds, model packages, logs, alarms, budgets."""

from __future__ import annotations

import json
from typing import Any

from lab.resources import Kind, Made, Properties, Site, camel, gone, only, read_back, tag_map, tags


def _role(site: Site, p: Properties) -> Made:
    iam = site.client("iam")
    name = p.get("RoleName") or site.generated_name(64)
    found = iam.create_role(
        RoleName=name,
        Path=p.get("Path", "/"),
        AssumeRolePolicyDocument=json.dumps(p["AssumeRolePolicyDocument"]),
        Description=p.get("Description", ""),
        **only(p, "MaxSessionDuration"),
        Tags=tags(p),
    )["Role"]
    return _set_role(site, Made(name, {"Arn": found["Arn"], "RoleId": found["RoleId"]}), p)


def _set_role(site: Site, made: Made, p: Properties) -> Made:
    iam, role = site.client("iam"), {"RoleName": made.ref}
    iam.update_assume_role_policy(**role, PolicyDocument=json.dumps(p["AssumeRolePolicyDocument"]))
    wanted = {policy["PolicyName"]: policy["PolicyDocument"] for policy in p.get("Policies", [])}
    for name in set(iam.list_role_policies(**role)["PolicyNames"]) - set(wanted):
        iam.delete_role_policy(**role, PolicyName=name)
    for name, document in wanted.items():
        iam.put_role_policy(**role, PolicyName=name, PolicyDocument=json.dumps(document))
    read_back(site, "Policies", sorted(wanted), sorted(iam.list_role_policies(**role)["PolicyNames"]))
    return made


def _end_role(site: Site, made: Made, p: Properties) -> None:
    iam = site.client("iam")
    for policy in p.get("Policies", []):
        gone(lambda name=policy["PolicyName"]: iam.delete_role_policy(RoleName=made.ref, PolicyName=name))
    gone(lambda: iam.delete_role(RoleName=made.ref))


def _function(site: Site, p: Properties) -> Made:
    client = site.client("lambda")
    name = p.get("FunctionName") or site.generated_name(64)
    found = client.create_function(
        FunctionName=name,
        Role=p["Role"],
        Handler=p["Handler"],
        Code=only(p["Code"], "S3Bucket", "S3Key"),
        **only(p, "Runtime", "Architectures", "Description", "Environment", "MemorySize", "Timeout"),
        **({"KMSKeyArn": p["KmsKeyArn"]} if "KmsKeyArn" in p else {}),
        Tags=tag_map(p),
    )
    read_back(site, "Function", only(p, "Handler", "Role", "Timeout", "MemorySize", "Environment"), found)
    return Made(name, {"Arn": found["FunctionArn"]})


def _change_function(site: Site, made: Made, p: Properties) -> Made:
    client = site.client("lambda")
    client.update_function_code(FunctionName=made.ref, **only(p["Code"], "S3Bucket", "S3Key"))
    client.update_function_configuration(
        FunctionName=made.ref,
        **only(p, "Role", "Handler", "Runtime", "Description", "Environment", "MemorySize", "Timeout"),
    )
    return made


def _permission(site: Site, p: Properties) -> Made:
    site.client("lambda").add_permission(
        FunctionName=p["FunctionName"],
        StatementId=site.generated_name(100),
        **only(p, "Action", "Principal", "SourceAccount", "SourceArn"),
    )
    return Made(site.generated_name(100))


def _end_permission(site: Site, made: Made, p: Properties) -> None:
    gone(lambda: site.client("lambda").remove_permission(FunctionName=p["FunctionName"], StatementId=made.ref))


def _machine(site: Site, p: Properties) -> Made:
    client = site.client("stepfunctions")
    arn = client.create_state_machine(
        name=p["StateMachineName"],
        type=p.get("StateMachineType", "STANDARD"),
        tags=tags(p, "key", "value"),
        **_definition(p),
    )["stateMachineArn"]
    read_back(site, "RoleArn", p["RoleArn"], client.describe_state_machine(stateMachineArn=arn)["roleArn"])
    return Made(arn, {"Arn": arn, "Name": p["StateMachineName"]})


def _change_machine(site: Site, made: Made, p: Properties) -> Made:
    site.client("stepfunctions").update_state_machine(stateMachineArn=made.ref, **_definition(p))
    return made


def _definition(p: Properties) -> dict[str, Any]:
    shared = {"definition": p["DefinitionString"], "roleArn": p["RoleArn"]}
    logging = {"loggingConfiguration": camel(p["LoggingConfiguration"])} if "LoggingConfiguration" in p else {}
    tracing = {"tracingConfiguration": camel(p["TracingConfiguration"])} if "TracingConfiguration" in p else {}
    return {**shared, **logging, **tracing}


def _rule(site: Site, p: Properties) -> Made:
    events = site.client("events")
    name = p.get("Name") or site.generated_name(64)
    arn = events.put_rule(
        Name=name, EventPattern=json.dumps(p["EventPattern"]), State=p.get("State", "ENABLED"),
        Description=p.get("Description", ""), Tags=tags(p),
    )["RuleArn"]  # fmt: skip
    events.put_targets(Rule=name, Targets=p.get("Targets", []))
    found = events.list_targets_by_rule(Rule=name)["Targets"]
    read_back(site, "Targets", p.get("Targets", []), found)
    return Made(name, {"Arn": arn})


def _end_rule(site: Site, made: Made, p: Properties) -> None:
    events = site.client("events")
    ids = [target["Id"] for target in p.get("Targets", [])]
    if ids:
        gone(lambda: events.remove_targets(Rule=made.ref, Ids=ids))
    gone(lambda: events.delete_rule(Name=made.ref))


def _project(site: Site, p: Properties) -> Made:
    given = camel({key: value for key, value in p.items() if key not in ("Tags", "TimeoutInMinutes")})
    given.pop("encryptionKey", None)
    site.client("codebuild").create_project(
        **given, timeoutInMinutes=p.get("TimeoutInMinutes", 60), tags=tags(p, "key", "value")
    )
    return Made(p["Name"], {"Arn": site.arn("codebuild", f"project/{p['Name']}")})


def _package_group(site: Site, p: Properties) -> Made:
    arn = site.client("sagemaker").create_model_package_group(
        ModelPackageGroupName=p["ModelPackageGroupName"],
        ModelPackageGroupDescription=p.get("ModelPackageGroupDescription", ""),
        Tags=tags(p),
    )["ModelPackageGroupArn"]
    return Made(arn, {"ModelPackageGroupArn": arn})


def _end_package_group(site: Site, made: Made, p: Properties) -> None:
    name = p["ModelPackageGroupName"]
    gone(lambda: site.client("sagemaker").delete_model_package_group(ModelPackageGroupName=name))


def _log_group(site: Site, p: Properties) -> Made:
    name = p["LogGroupName"]
    key = {"kmsKeyId": p["KmsKeyId"]} if "KmsKeyId" in p else {}
    site.client("logs").create_log_group(logGroupName=name, tags=tag_map(p), **key)
    return _set_log_group(site, Made(name, {"Arn": site.arn("logs", f"log-group:{name}:*")}), p)


def _set_log_group(site: Site, made: Made, p: Properties) -> Made:
    if "RetentionInDays" in p:
        logs = site.client("logs")
        logs.put_retention_policy(logGroupName=made.ref, retentionInDays=p["RetentionInDays"])
        [found] = [row for row in logs.describe_log_groups(logGroupNamePrefix=made.ref)["logGroups"]
                   if row["logGroupName"] == made.ref]  # fmt: skip
        read_back(site, "RetentionInDays", p["RetentionInDays"], found.get("retentionInDays"))
    return made


def _topic(site: Site, p: Properties) -> Made:
    attributes = {key: str(value) for key, value in only(p, "DisplayName", "KmsMasterKeyId").items()}
    arn = site.client("sns").create_topic(Name=p["TopicName"], Attributes=attributes, Tags=tags(p))["TopicArn"]
    return Made(arn, {"TopicArn": arn, "TopicName": p["TopicName"]})


def _topic_policy(site: Site, p: Properties) -> Made:
    for topic in p["Topics"]:
        site.client("sns").set_topic_attributes(
            TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps(p["PolicyDocument"])
        )
    return Made(site.generated_name())


_ALARM = (
    "AlarmName", "AlarmActions", "AlarmDescription", "ComparisonOperator", "Dimensions", "EvaluationPeriods",
    "MetricName", "Namespace", "Period", "Statistic", "Threshold", "TreatMissingData", "DatapointsToAlarm",
    "ExtendedStatistic", "OKActions", "Unit",
)  # fmt: skip


def _alarm(site: Site, p: Properties) -> Made:
    cloudwatch = site.client("cloudwatch")
    cloudwatch.put_metric_alarm(**only(p, *_ALARM), Tags=tags(p))
    [found] = cloudwatch.describe_alarms(AlarmNames=[p["AlarmName"]])["MetricAlarms"]
    read_back(site, "Alarm", only(p, "MetricName", "Namespace", "ComparisonOperator", "AlarmActions"), found)
    return Made(p["AlarmName"], {"Arn": found["AlarmArn"]})


def _dashboard(site: Site, p: Properties) -> Made:
    json.loads(p["DashboardBody"])
    site.client("cloudwatch").put_dashboard(DashboardName=p["DashboardName"], DashboardBody=p["DashboardBody"])
    return Made(p["DashboardName"])


def _budget(site: Site, p: Properties) -> Made:
    budget = {**p["Budget"]}
    budget["BudgetLimit"] = {key: str(value) for key, value in budget["BudgetLimit"].items()}
    site.client("budgets").create_budget(
        AccountId=site.engine.account, Budget=budget, NotificationsWithSubscribers=p["NotificationsWithSubscribers"]
    )
    return Made(budget["BudgetName"])


def _end_budget(site: Site, made: Made, p: Properties) -> None:
    gone(lambda: site.client("budgets").delete_budget(AccountId=site.engine.account, BudgetName=made.ref))


KINDS = (
    Kind(
        type="AWS::IAM::Role",
        properties=frozenset({
            "RoleName", "Path", "AssumeRolePolicyDocument", "Description", "MaxSessionDuration", "Policies",
        }),
        create=_role, update=_set_role, delete=_end_role, attributes=frozenset({"Arn", "RoleId"}),
    ),
    Kind(
        type="AWS::Lambda::Function",
        properties=frozenset({
            "Architectures", "Code", "Description", "Environment", "FunctionName", "Handler", "KmsKeyArn", "MemorySize",
            "Role", "Runtime", "Timeout",
        }),
        create=_function, update=_change_function, attributes=frozenset({"Arn"}),
        delete=lambda site, made, p: gone(lambda: site.client("lambda").delete_function(FunctionName=made.ref)),
    ),
    Kind(
        type="AWS::Lambda::Permission",
        properties=frozenset({"Action", "FunctionName", "Principal", "SourceAccount", "SourceArn"}),
        create=_permission, delete=_end_permission,
    ),
    Kind(
        type="AWS::StepFunctions::StateMachine",
        properties=frozenset({
            "DefinitionString", "LoggingConfiguration", "RoleArn", "StateMachineName", "StateMachineType",
            "TracingConfiguration",
        }),
        create=_machine, update=_change_machine, attributes=frozenset({"Arn", "Name"}),
        delete=lambda site, made, p: gone(
            lambda: site.client("stepfunctions").delete_state_machine(stateMachineArn=made.ref)
        ),
    ),
    Kind(
        type="AWS::Events::Rule",
        properties=frozenset({"Description", "EventPattern", "Name", "State", "Targets"}),
        create=_rule, delete=_end_rule, attributes=frozenset({"Arn"}),
    ),
    Kind(
        type="AWS::CodeBuild::Project",
        properties=frozenset({
            "Artifacts", "Description", "EncryptionKey", "Environment", "LogsConfig", "Name", "ServiceRole", "Source",
            "TimeoutInMinutes",
        }),
        create=_project, attributes=frozenset({"Arn"}),
        delete=lambda site, made, p: gone(lambda: site.client("codebuild").delete_project(name=made.ref)),
    ),
    Kind(
        type="AWS::SageMaker::ModelPackageGroup",
        properties=frozenset({"ModelPackageGroupDescription", "ModelPackageGroupName"}),
        create=_package_group, delete=_end_package_group, replace=False,
        attributes=frozenset({"ModelPackageGroupArn"}),
    ),
    Kind(
        type="AWS::Logs::LogGroup",
        properties=frozenset({"KmsKeyId", "LogGroupName", "RetentionInDays"}),
        create=_log_group, update=_set_log_group, attributes=frozenset({"Arn"}),
        delete=lambda site, made, p: gone(lambda: site.client("logs").delete_log_group(logGroupName=made.ref)),
    ),
    Kind(
        type="AWS::SNS::Topic",
        properties=frozenset({"DisplayName", "KmsMasterKeyId", "TopicName"}),
        create=_topic, attributes=frozenset({"TopicArn", "TopicName"}),
        delete=lambda site, made, p: gone(lambda: site.client("sns").delete_topic(TopicArn=made.ref)),
    ),
    Kind(
        type="AWS::SNS::TopicPolicy",
        properties=frozenset({"PolicyDocument", "Topics"}),
        create=_topic_policy, delete=lambda site, made, p: None,
    ),
    Kind(
        type="AWS::CloudWatch::Alarm",
        properties=frozenset(_ALARM),
        create=_alarm, update=lambda site, made, p: _alarm(site, p), attributes=frozenset({"Arn"}),
        delete=lambda site, made, p: gone(lambda: site.client("cloudwatch").delete_alarms(AlarmNames=[made.ref])),
    ),
    Kind(
        type="AWS::CloudWatch::Dashboard",
        properties=frozenset({"DashboardBody", "DashboardName"}),
        create=_dashboard, update=lambda site, made, p: _dashboard(site, p),
        delete=lambda site, made, p: gone(
            lambda: site.client("cloudwatch").delete_dashboards(DashboardNames=[made.ref])
        ),
    ),
    Kind(
        type="AWS::Budgets::Budget",
        properties=frozenset({"Budget", "NotificationsWithSubscribers", "ResourceTags"}),
        create=_budget, delete=_end_budget,
    ),
)  # fmt: skip
