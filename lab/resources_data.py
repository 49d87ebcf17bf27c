"""Resource types that hold data: DynamoDB, the Glue catalogue and job, ECR, SSM, SQS."""

from __future__ import annotations

from typing import Any

from lab.resource import Kind, Made, Properties, Site, document, listed, pairs
from lab.resources_s3 import KINDS as S3_KINDS

TABLE = (
    "AttributeDefinitions", "BillingMode", "GlobalSecondaryIndexes", "KeySchema", "LocalSecondaryIndexes",
    "ProvisionedThroughput", "StreamSpecification", "TableName", "Tags",
)  # fmt: skip
QUEUE = (
    "ContentBasedDeduplication", "DelaySeconds", "FifoQueue", "KmsMasterKeyId", "MaximumMessageSize",
    "MessageRetentionPeriod", "ReceiveMessageWaitTimeSeconds", "RedrivePolicy", "SqsManagedSseEnabled",
    "VisibilityTimeout",
)  # fmt: skip
REPOSITORY = ("EncryptionConfiguration", "ImageScanningConfiguration", "ImageTagMutability", "Tags")


def _make_table(site: Site, wanted: Properties) -> str:
    name = str(wanted.get("TableName") or site.named(255))
    given = {key: wanted.get(key) for key in TABLE}
    encrypted = _encryption(wanted.get("SSESpecification"))
    site.call("dynamodb", "create_table", {**given, "TableName": name, "SSESpecification": encrypted})
    if "PointInTimeRecoverySpecification" in wanted:
        recovery = {"PointInTimeRecoverySpecification": wanted["PointInTimeRecoverySpecification"]}
        site.call("dynamodb", "update_continuous_backups", {"TableName": name, **recovery})
    if "TimeToLiveSpecification" in wanted:
        time = wanted["TimeToLiveSpecification"]
        site.call("dynamodb", "update_time_to_live", {"TableName": name, "TimeToLiveSpecification": time})
    return name


def _encryption(wanted: Properties | None) -> dict[str, Any] | None:
    """CloudFormation spells SSEEnabled what the API calls Enabled."""
    if wanted is None:
        return None
    return {**{key: value for key, value in wanted.items() if key != "SSEEnabled"}, "Enabled": wanted["SSEEnabled"]}


def _read_table(made: Made) -> Properties:
    name = {"TableName": made.id}
    table = made.site.call("dynamodb", "describe_table", name)["Table"]
    encrypted = table.get("SSEDescription", {})
    found = {
        **table,
        "BillingMode": table.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED"),
        "SSESpecification": {
            "SSEEnabled": encrypted.get("Status") == "ENABLED",
            "SSEType": encrypted.get("SSEType"),
            "KMSMasterKeyId": encrypted.get("KMSMasterKeyArn"),
        },
        "Tags": made.site.call("dynamodb", "list_tags_of_resource", {"ResourceArn": table["TableArn"]})["Tags"],
    }
    if "PointInTimeRecoverySpecification" in made.properties:
        backups = made.site.call("dynamodb", "describe_continuous_backups", name)["ContinuousBackupsDescription"]
        status = backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"]
        found["PointInTimeRecoverySpecification"] = {"PointInTimeRecoveryEnabled": status == "ENABLED"}
    if "TimeToLiveSpecification" in made.properties:
        time = made.site.call("dynamodb", "describe_time_to_live", name)["TimeToLiveDescription"]
        found["TimeToLiveSpecification"] = {**time, "Enabled": time.get("TimeToLiveStatus") == "ENABLED"}
    return found


def _make_database(site: Site, wanted: Properties) -> str:
    given = dict(wanted["DatabaseInput"])
    given.setdefault("Name", site.named(255).lower())
    site.call("glue", "create_database", {"CatalogId": wanted.get("CatalogId"), "DatabaseInput": given})
    return str(given["Name"])


def _read_database(made: Made) -> Properties:
    found = made.site.call("glue", "get_database", {"Name": made.id})["Database"]
    return {"CatalogId": found.get("CatalogId"), "DatabaseInput": found}


def _make_glue_job(site: Site, wanted: Properties) -> str:
    name = str(wanted.get("Name") or site.named(255))
    site.call("glue", "create_job", {**wanted, "Name": name})
    return name


def _read_glue_job(made: Made) -> Properties:
    job = made.site.call("glue", "get_job", {"JobName": made.id})["Job"]
    arn = made.site.arn("glue", f"job/{made.id}")
    return {**job, "Tags": made.site.call("glue", "get_tags", {"ResourceArn": arn})["Tags"]}


def _make_connection(site: Site, wanted: Properties) -> str:
    given = wanted["ConnectionInput"]
    if given["ConnectionType"] != "NETWORK":
        raise ValueError(f"ConnectionType {given['ConnectionType']} is not covered on the desk; NETWORK is")
    # moto asks for properties, of which this type has none.
    site.call("glue", "create_connection", {**wanted, "ConnectionInput": {"ConnectionProperties": {}, **given}})
    return str(given["Name"])


def _read_connection(made: Made) -> Properties:
    found = made.site.call("glue", "get_connection", {"Name": made.id})["Connection"]
    arn = made.site.arn("glue", f"connection/{made.id}")
    tags = made.site.call("glue", "get_tags", {"ResourceArn": arn})["Tags"]
    return {"CatalogId": made.site.engine.account, "ConnectionInput": found, "Tags": tags}


def _make_security(site: Site, wanted: Properties) -> str:
    given = wanted["EncryptionConfiguration"]
    # CloudFormation says S3Encryptions where the API says S3Encryption.
    spelled = {("S3Encryption" if key == "S3Encryptions" else key): value for key, value in given.items()}
    site.call("glue", "create_security_configuration", {"Name": wanted["Name"], "EncryptionConfiguration": spelled})
    return str(wanted["Name"])


def _read_security(made: Made) -> Properties:
    found = made.site.call("glue", "get_security_configuration", {"Name": made.id})["SecurityConfiguration"]
    given = dict(found["EncryptionConfiguration"])
    return {**found, "EncryptionConfiguration": {**given, "S3Encryptions": given.get("S3Encryption")}}


def _make_repository(site: Site, wanted: Properties) -> str:
    name = str(wanted.get("RepositoryName") or site.named(255).lower())
    site.call("ecr", "create_repository", {**{key: wanted.get(key) for key in REPOSITORY}, "RepositoryName": name})
    _change_repository(Made(site, name, {}), wanted)
    return name


def _change_repository(made: Made, wanted: Properties) -> None:
    name = {"RepositoryName": made.id}
    if "LifecyclePolicy" in wanted:
        made.site.call("ecr", "put_lifecycle_policy", {**name, **wanted["LifecyclePolicy"]})
    if "RepositoryPolicyText" in wanted:
        text = document(wanted["RepositoryPolicyText"])
        made.site.call("ecr", "set_repository_policy", {**name, "PolicyText": text})


def _read_repository(made: Made) -> Properties:
    name = {"RepositoryName": made.id}
    [found] = made.site.call("ecr", "describe_repositories", {"RepositoryNames": [made.id]})["repositories"]
    more: dict[str, Any] = {}
    if "LifecyclePolicy" in made.properties:
        more["LifecyclePolicy"] = made.site.call("ecr", "get_lifecycle_policy", name)
    if "RepositoryPolicyText" in made.properties:
        more["RepositoryPolicyText"] = made.site.call("ecr", "get_repository_policy", name)["policyText"]
    tags = made.site.call("ecr", "list_tags_for_resource", {"ResourceArn": found["repositoryArn"]})["tags"]
    return {**found, **more, "Tags": tags}


def _drop_repository(made: Made) -> None:
    force = bool(made.properties.get("EmptyOnDelete"))
    made.site.call("ecr", "delete_repository", {"RepositoryName": made.id, "Force": force})


def _make_parameter(site: Site, wanted: Properties) -> str:
    name = str(wanted.get("Name") or site.named(255))
    tags = listed(pairs(wanted.get("Tags")))
    site.call("ssm", "put_parameter", {**wanted, "Name": name, "Tags": tags or None})
    return name


def _read_parameter(made: Made) -> Properties:
    found = made.site.call("ssm", "get_parameter", {"Name": made.id})["Parameter"]
    only = [{"Key": "Name", "Values": [made.id]}]
    [about] = made.site.call("ssm", "describe_parameters", {"ParameterFilters": only})["Parameters"]
    tags = made.site.call("ssm", "list_tags_for_resource", {"ResourceType": "Parameter", "ResourceId": made.id})
    kept = {tag["Key"]: tag["Value"] for tag in tags["TagList"]}
    wanted = made.properties.get("Tags")
    return {**about, **found, "Tags": kept if isinstance(wanted, dict) else listed(kept)}


def _change_parameter(made: Made, wanted: Properties) -> None:
    given = {key: value for key, value in wanted.items() if key != "Tags"}
    made.site.call("ssm", "put_parameter", {**given, "Name": made.id, "Overwrite": True})


def _make_queue(site: Site, wanted: Properties) -> str:
    name = str(wanted.get("QueueName") or site.named(80))
    queue = site.call("sqs", "create_queue", {"QueueName": name, "Attributes": _queue_attributes(wanted)})
    if wanted.get("Tags"):
        site.call("sqs", "tag_queue", {"QueueUrl": queue["QueueUrl"], "Tags": pairs(wanted["Tags"])})
    return str(queue["QueueUrl"])


def _queue_attributes(wanted: Properties) -> dict[str, str]:
    given = {key: wanted[key] for key in QUEUE if key in wanted}
    return {key: document(value) if not isinstance(value, bool) else str(value).lower() for key, value in given.items()}


def _read_queue(made: Made) -> Properties:
    queue = {"QueueUrl": made.id}
    found = made.site.call("sqs", "get_queue_attributes", {**queue, "AttributeNames": ["All"]})["Attributes"]
    tags = made.site.call("sqs", "list_queue_tags", queue).get("Tags", {})
    return {**found, "QueueName": made.id.rpartition("/")[2], "Tags": listed(tags)}


def _queue_policy(made: Made, policy: str) -> None:
    for url in made.properties["Queues"]:
        made.site.call("sqs", "set_queue_attributes", {"QueueUrl": url, "Attributes": {"Policy": policy}})


def _make_queue_policy(site: Site, wanted: Properties) -> str:
    made = Made(site, site.named(), wanted)
    _queue_policy(made, document(wanted["PolicyDocument"]))
    return made.id


def _read_queue_policy(made: Made) -> Properties:
    url = made.properties["Queues"][0]
    found = made.site.call("sqs", "get_queue_attributes", {"QueueUrl": url, "AttributeNames": ["Policy"]})
    return {"Queues": made.properties["Queues"], "PolicyDocument": found["Attributes"].get("Policy")}


KINDS = (
    *S3_KINDS,
    Kind(
        "AWS::DynamoDB::Table",
        frozenset({*TABLE, "PointInTimeRecoverySpecification", "SSESpecification", "TimeToLiveSpecification"}),
        _make_table, _read_table,
        lambda made: made.site.call("dynamodb", "delete_table", {"TableName": made.id}),
        attributes={"Arn": lambda made: made.site.arn("dynamodb", f"table/{made.id}")},
        keeps=True,
        how="executed",
        note="Items, conditions and expressions are evaluated. Encryption and point-in-time recovery are kept and "
        "read back, without effect.",
    ),
    Kind(
        "AWS::Glue::Database",
        frozenset({"CatalogId", "DatabaseInput"}),
        _make_database, _read_database,
        lambda made: made.site.call("glue", "delete_database", {"Name": made.id}),
        keeps=True,
        note="The catalogue entry is kept; no query engine reads it.",
    ),
    Kind(
        "AWS::Glue::Job",
        frozenset({
            "Command", "Connections", "DefaultArguments", "Description", "ExecutionProperty", "GlueVersion",
            "MaxRetries", "Name", "NumberOfWorkers", "Role", "SecurityConfiguration", "Tags", "Timeout", "WorkerType",
        }),
        _make_glue_job, _read_glue_job,
        lambda made: made.site.call("glue", "delete_job", {"JobName": made.id}),
        how="executed",
        note="A run is Apache Spark in a child process: the script and library archive from S3, the job's role and "
        "time limit. Workers, connections, encryption and GlueVersion are kept; all runs are local Spark 3.5.6.",
    ),
    Kind(
        "AWS::Glue::Connection",
        frozenset({"CatalogId", "ConnectionInput", "Tags"}),
        _make_connection, _read_connection,
        lambda made: made.site.call("glue", "delete_connection", {"ConnectionName": made.id}),
        note="Of type NETWORK: kept and read back. A run stands on this machine's network all the same.",
    ),
    Kind(
        "AWS::Glue::SecurityConfiguration",
        frozenset({"EncryptionConfiguration", "Name"}),
        _make_security, _read_security,
        lambda made: made.site.call("glue", "delete_security_configuration", {"Name": made.id}),
        note="Kept and read back; nothing on the desk is encrypted at rest.",
    ),
    Kind(
        "AWS::ECR::Repository",
        frozenset({
            *REPOSITORY, "EmptyOnDelete", "LifecyclePolicy", "RepositoryName", "RepositoryPolicyText",
        }),
        _make_repository, _read_repository, _drop_repository, _change_repository,
        {
            "Arn": lambda made: made.site.arn("ecr", f"repository/{made.id}"),
            "RepositoryUri": lambda made: (
                f"{made.site.engine.account}.dkr.ecr.{made.site.engine.region}.amazonaws.com/{made.id}"
            ),
        },
        keeps=True,
        inert={"EmptyOnDelete": "read when the repository is deleted; the API does not show it"},
        note="Images are records with their tags; layers, scans and expiry do not exist. What an image holds lies "
        "unpacked in the engine's folder (see CodeBuild).",
        fixed=frozenset({
            "EncryptionConfiguration", "ImageScanningConfiguration", "ImageTagMutability", "RepositoryName",
        }),
    ),
    Kind(
        "AWS::SSM::Parameter",
        frozenset({"AllowedPattern", "DataType", "Description", "Name", "Tags", "Tier", "Type", "Value"}),
        _make_parameter, _read_parameter,
        lambda made: made.site.call("ssm", "delete_parameter", {"Name": made.id}),
        _change_parameter,
        {"Type": lambda made: str(made.properties["Type"]), "Value": lambda made: str(made.properties["Value"])},
        how="executed",
        fixed=frozenset({"Name", "Type"}),
    ),
    Kind(
        "AWS::SQS::Queue",
        frozenset({*QUEUE, "QueueName", "Tags"}),
        _make_queue, _read_queue,
        lambda made: made.site.call("sqs", "delete_queue", {"QueueUrl": made.id}),
        attributes={
            "Arn": lambda made: made.site.arn("sqs", made.id.rpartition("/")[2]),
            "QueueName": lambda made: made.id.rpartition("/")[2],
            "QueueUrl": lambda made: made.id,
        },
        keeps=True,
        how="executed",
    ),
    Kind(
        "AWS::SQS::QueuePolicy",
        frozenset({"PolicyDocument", "Queues"}),
        _make_queue_policy, _read_queue_policy,
        lambda made: _queue_policy(made, ""),
        note="Kept and read back, not enforced.",
    ),
)  # fmt: skip
