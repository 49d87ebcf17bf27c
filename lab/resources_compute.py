"""Resource types that run: Lambda, Step Functions, EventBridge, CodeBuild, SageMaker."""

from __future__ import annotations

import json
from typing import Any

from lab.resource import Kind, Made, Properties, Site, document, listed, pairs

FUNCTION = (
    "Architectures", "Description", "Environment", "EphemeralStorage", "Handler", "MemorySize", "PackageType", "Role",
    "Runtime", "Timeout", "TracingConfig", "VpcConfig",
)  # fmt: skip


def _make_function(site: Site, wanted: Properties) -> str:
    name = str(wanted.get("FunctionName") or site.named())
    given = {**{key: wanted.get(key) for key in FUNCTION}, "FunctionName": name, "Code": _code(wanted["Code"])}
    more = {"KMSKeyArn": wanted.get("KmsKeyArn"), "Tags": pairs(wanted.get("Tags")) or None}
    site.call("lambda", "create_function", {**given, **more})
    if "ReservedConcurrentExecutions" in wanted:
        _reserve(site, name, wanted)
    return name


def _reserve(site: Site, name: str, wanted: Properties) -> None:
    count = int(wanted["ReservedConcurrentExecutions"])
    site.call("lambda", "put_function_concurrency", {"FunctionName": name, "ReservedConcurrentExecutions": count})


def _code(wanted: Properties) -> dict[str, Any]:
    unknown = sorted(set(wanted) - {"S3Bucket", "S3Key", "S3ObjectVersion"})
    if unknown:
        raise ValueError(f"Code.{', '.join(unknown)} is not covered on the desk: it takes S3Bucket and S3Key")
    return dict(wanted)


def _read_function(made: Made) -> Properties:
    found = made.site.call("lambda", "get_function", {"FunctionName": made.id})
    kept = dict(found["Configuration"])
    return {
        **kept,
        "Code": made.properties["Code"] if kept["CodeSize"] else None,
        "KmsKeyArn": kept.get("KMSKeyArn"),
        "ReservedConcurrentExecutions": found.get("Concurrency", {}).get("ReservedConcurrentExecutions"),
        "Tags": listed(found.get("Tags", {})),
    }


def _change_function(made: Made, wanted: Properties) -> None:
    name = {"FunctionName": made.id}
    fixed = {"Architectures", "PackageType"}
    made.site.call("lambda", "update_function_code", {**name, **_code(wanted["Code"])})
    given = {key: wanted.get(key) for key in FUNCTION if key not in fixed}
    made.site.call("lambda", "update_function_configuration", {**name, **given})
    if "ReservedConcurrentExecutions" in wanted:
        _reserve(made.site, made.id, wanted)


def _definition(wanted: Properties) -> str:
    text = str(wanted.get("DefinitionString") or json.dumps(wanted["Definition"]))
    for key, value in (wanted.get("DefinitionSubstitutions") or {}).items():
        text = text.replace(f"${{{key}}}", str(value))
    return text


def _make_machine(site: Site, wanted: Properties) -> str:
    name = str(wanted.get("StateMachineName") or site.named(80))
    given = {**_machine(wanted), "name": name, "type": wanted.get("StateMachineType"), "tags": wanted.get("Tags")}
    return str(site.call("stepfunctions", "create_state_machine", given)["stateMachineArn"])


def _machine(wanted: Properties) -> dict[str, Any]:
    return {
        "definition": _definition(wanted),
        "roleArn": wanted["RoleArn"],
        "loggingConfiguration": wanted.get("LoggingConfiguration"),
        "tracingConfiguration": wanted.get("TracingConfiguration"),
    }


def _read_machine(made: Made) -> Properties:
    arn = {"stateMachineArn": made.id}
    found = made.site.call("stepfunctions", "describe_state_machine", arn)
    tags = made.site.call("stepfunctions", "list_tags_for_resource", {"resourceArn": made.id})["tags"]
    return {
        **found,
        "StateMachineName": found["name"],
        "StateMachineType": found["type"],
        "DefinitionString": made.properties.get("DefinitionString") if _is_kept(made, found) else found["definition"],
        "Definition": made.properties.get("Definition") if _is_kept(made, found) else found["definition"],
        "DefinitionSubstitutions": made.properties.get("DefinitionSubstitutions"),
        "Tags": tags,
    }


def _is_kept(made: Made, found: Properties) -> bool:
    return bool(json.loads(found["definition"]) == json.loads(_definition(made.properties)))


def _make_rule(site: Site, wanted: Properties) -> str:
    name = str(wanted.get("Name") or site.named())
    keys = ("Description", "EventBusName", "RoleArn", "ScheduleExpression", "State", "Tags")
    given = {key: wanted.get(key) for key in keys}
    pattern = document(wanted["EventPattern"]) if "EventPattern" in wanted else None
    site.call("events", "put_rule", {**given, "Name": name, "EventPattern": pattern})
    where = {"Rule": name, "EventBusName": wanted.get("EventBusName")}
    answer = site.call("events", "put_targets", {**where, "Targets": wanted.get("Targets", [])})
    if answer["FailedEntryCount"]:
        raise ValueError(f"put_targets: {answer['FailedEntries']}")
    return name


def _read_rule(made: Made) -> Properties:
    bus = made.properties.get("EventBusName")
    found = made.site.call("events", "describe_rule", {"Name": made.id, "EventBusName": bus})
    targets = made.site.call("events", "list_targets_by_rule", {"Rule": made.id, "EventBusName": bus})["Targets"]
    tags = made.site.call("events", "list_tags_for_resource", {"ResourceARN": found["Arn"]})["Tags"]
    return {**found, "EventBusName": bus, "Targets": targets, "Tags": tags}


def _drop_rule(made: Made) -> None:
    bus = {"EventBusName": made.properties.get("EventBusName")}
    ids = [target["Id"] for target in made.properties.get("Targets", [])]
    if ids:
        made.site.call("events", "remove_targets", {"Rule": made.id, "Ids": ids, **bus})
    made.site.call("events", "delete_rule", {"Name": made.id, **bus})


def _make_group(site: Site, wanted: Properties) -> str:
    name = str(wanted.get("LogGroupName") or site.named(512))
    tags = pairs(wanted.get("Tags")) or None
    site.call("logs", "create_log_group", {"logGroupName": name, "kmsKeyId": wanted.get("KmsKeyId"), "tags": tags})
    _retain(Made(site, name, {}), wanted)
    return name


def _retain(made: Made, wanted: Properties) -> None:
    name = {"logGroupName": made.id}
    if "RetentionInDays" in wanted:
        days = int(wanted["RetentionInDays"])
        made.site.call("logs", "put_retention_policy", {**name, "retentionInDays": days})


def _read_group(made: Made) -> Properties:
    found = made.site.call("logs", "describe_log_groups", {"logGroupNamePrefix": made.id})["logGroups"]
    [group] = [one for one in found if one["logGroupName"] == made.id]
    arn = {"resourceArn": made.site.arn("logs", f"log-group:{made.id}")}
    tags = made.site.call("logs", "list_tags_for_resource", arn)["tags"]
    return {**group, "LogGroupClass": group.get("logGroupClass", "STANDARD"), "Tags": listed(tags)}


def _make_project(site: Site, wanted: Properties) -> str:
    name = str(wanted.get("Name") or site.named(150))
    environment = dict(wanted["Environment"])
    site.call("codebuild", "create_project", {**wanted, "Name": name, "Environment": environment})
    return name


def _read_project(made: Made) -> Properties:
    [found] = made.site.call("codebuild", "batch_get_projects", {"names": [made.id]})["projects"]
    return dict(found)


def _make_packages(site: Site, wanted: Properties) -> str:
    plain = {key: value for key, value in wanted.items() if key != "ModelPackageGroupPolicy"}
    site.call("sagemaker", "create_model_package_group", plain)
    name = str(wanted["ModelPackageGroupName"])
    if "ModelPackageGroupPolicy" in wanted:
        policy = document(wanted["ModelPackageGroupPolicy"])
        given = {"ModelPackageGroupName": name, "ResourcePolicy": policy}
        site.call("sagemaker", "put_model_package_group_policy", given)
    return name


def _packages_arn(made: Made) -> str:
    return made.site.arn("sagemaker", f"model-package-group/{made.id}")


def _read_packages(made: Made) -> Properties:
    found = made.site.call("sagemaker", "describe_model_package_group", {"ModelPackageGroupName": made.id})
    tags = made.site.call("sagemaker", "list_tags", {"ResourceArn": found["ModelPackageGroupArn"]})["Tags"]
    return {**found, "Tags": tags, "ModelPackageGroupPolicy": _packages_policy(made)}


def _packages_policy(made: Made) -> str | None:
    if "ModelPackageGroupPolicy" not in made.properties:
        return None
    given = {"ModelPackageGroupName": made.id}
    return str(made.site.call("sagemaker", "get_model_package_group_policy", given)["ResourcePolicy"])


def _change_packages(made: Made, wanted: Properties) -> None:
    given = {"ModelPackageGroupName": made.id}
    if "ModelPackageGroupPolicy" in wanted:
        policy = document(wanted["ModelPackageGroupPolicy"])
        made.site.call("sagemaker", "put_model_package_group_policy", {**given, "ResourcePolicy": policy})
    elif "ModelPackageGroupPolicy" in made.properties:
        made.site.call("sagemaker", "delete_model_package_group_policy", given)


KINDS = (
    Kind(
        "AWS::Lambda::Function",
        frozenset({*FUNCTION, "Code", "FunctionName", "KmsKeyArn", "ReservedConcurrentExecutions", "Tags"}),
        _make_function, _read_function,
        lambda made: made.site.call("lambda", "delete_function", {"FunctionName": made.id}),
        _change_function,
        {"Arn": lambda made: made.site.arn("lambda", f"function:{made.id}")},
        how="executed",
        note="Each invocation is the real handler in a cold or warm child process with only its bundle, boto3 and its "
        "role's session. All functions run on the lab's own Python, whatever Runtime and Architectures say, and on "
        "this machine's network, whatever VpcConfig says.",
        fixed=frozenset({"Architectures", "FunctionName", "KmsKeyArn", "PackageType"}),
    ),
    Kind(
        "AWS::StepFunctions::StateMachine",
        frozenset({
            "Definition", "DefinitionString", "DefinitionSubstitutions", "LoggingConfiguration", "RoleArn",
            "StateMachineName", "StateMachineType", "Tags", "TracingConfiguration",
        }),
        _make_machine, _read_machine,
        lambda made: made.site.call("stepfunctions", "delete_state_machine", {"stateMachineArn": made.id}),
        lambda made, wanted: made.site.call(
            "stepfunctions", "update_state_machine", {"stateMachineArn": made.id, **_machine(wanted)}
        ),
        {"Arn": lambda made: made.id, "Name": lambda made: made.id.rpartition(":")[2]},
        how="executed",
        note="moto's interpreter runs the definition, JSONPath only. Tracing is kept without effect; execution "
        "history is there, its copy in CloudWatch Logs is not.",
        fixed=frozenset({"StateMachineName", "StateMachineType"}),
    ),
    Kind(
        "AWS::Events::Rule",
        frozenset({
            "Description", "EventBusName", "EventPattern", "Name", "RoleArn", "ScheduleExpression", "State", "Tags",
            "Targets",
        }),
        _make_rule, _read_rule, _drop_rule,
        attributes={"Arn": lambda made: made.site.arn("events", f"rule/{made.id}")},
        how="executed",
        note="Event patterns, rates and cron, Input, InputPath and InputTransformer; targets Step Functions, Lambda, "
        "SQS, SNS and log groups; delivery is tried again.",
    ),
    Kind(
        "AWS::Logs::LogGroup",
        frozenset({"KmsKeyId", "LogGroupClass", "LogGroupName", "RetentionInDays", "Tags"}),
        _make_group, _read_group,
        lambda made: made.site.call("logs", "delete_log_group", {"logGroupName": made.id}),
        _retain,
        {"Arn": lambda made: made.site.arn("logs", f"log-group:{made.id}:*")},
        keeps=True,
        how="executed",
        note="Jobs and functions write their logs here. Retention and key are kept and read back, without effect.",
        fixed=frozenset({"KmsKeyId", "LogGroupClass", "LogGroupName"}),
    ),
    Kind(
        "AWS::CodeBuild::Project",
        frozenset({
            "Artifacts", "Description", "EncryptionKey", "Environment", "LogsConfig", "Name", "ServiceRole", "Source",
            "Tags", "TimeoutInMinutes",
        }),
        _make_project, _read_project,
        lambda made: made.site.call("codebuild", "delete_project", {"name": made.id}),
        attributes={"Arn": lambda made: made.site.arn("codebuild", f"project/{made.id}")},
        note="A build does not run Docker: it unpacks the source, holds its pins against what is installed, and "
        "registers the tag in ECR.",
    ),
    Kind(
        "AWS::SageMaker::ModelPackageGroup",
        frozenset({"ModelPackageGroupDescription", "ModelPackageGroupName", "ModelPackageGroupPolicy", "Tags"}),
        _make_packages, _read_packages,
        lambda made: made.site.call(
            "sagemaker", "delete_model_package_group", {"ModelPackageGroupName": made.id}
        ),
        _change_packages,
        attributes={"ModelPackageGroupArn": _packages_arn},
        keeps=True,
        how="executed",
        note="Versions, approval and the approval event. The group's policy, for other accounts, is kept and read "
        "back: the desk has one account.",
        fixed=frozenset({"ModelPackageGroupName"}),
    ),
)  # fmt: skip
