"""Resource types that hold things: keys, buckets, tables, repositories, the Glue catalogue and job."""

from __future__ import annotations

import json
from typing import Any

from moto.s3.models import s3_backends

from lab.resources import Kind, Made, Properties, ResourceError, Site, gone, only, read_back, tag_map, tags


def _key(site: Site, p: Properties) -> Made:
    kms = site.client("kms")
    found = kms.create_key(
        Description=p.get("Description", ""),
        Policy=json.dumps(p["KeyPolicy"]),
        Tags=tags(p, "TagKey", "TagValue"),
    )["KeyMetadata"]
    if p.get("EnableKeyRotation"):
        kms.enable_key_rotation(KeyId=found["KeyId"])
        rotation = kms.get_key_rotation_status(KeyId=found["KeyId"])["KeyRotationEnabled"]
        read_back(site, "EnableKeyRotation", True, rotation)
    return Made(found["KeyId"], {"Arn": found["Arn"], "KeyId": found["KeyId"]})


def _change_key(site: Site, made: Made, p: Properties) -> Made:
    site.client("kms").put_key_policy(KeyId=made.ref, PolicyName="default", Policy=json.dumps(p["KeyPolicy"]))
    return made


def _end_key(site: Site, made: Made, p: Properties) -> None:
    gone(lambda: site.client("kms").schedule_key_deletion(KeyId=made.ref, PendingWindowInDays=7))


def _alias(site: Site, p: Properties) -> Made:
    site.client("kms").create_alias(AliasName=p["AliasName"], TargetKeyId=p["TargetKeyId"])
    return Made(p["AliasName"])


def _bucket(site: Site, p: Properties) -> Made:
    name = p.get("BucketName") or site.generated_name(63).lower()
    where = {} if site.engine.region == "us-east-1" else {"LocationConstraint": site.engine.region}
    site.client("s3").create_bucket(Bucket=name, **({"CreateBucketConfiguration": where} if where else {}))
    made = Made(
        name,
        {
            "Arn": f"arn:aws:s3:::{name}",
            "DomainName": f"{name}.s3.amazonaws.com",
            "RegionalDomainName": f"{name}.s3.{site.engine.region}.amazonaws.com",
        },
    )
    return _set_bucket(site, made, p)


def _set_bucket(site: Site, made: Made, p: Properties) -> Made:
    """Every setting through S3's own API, then read back: stock moto accepts and ignores most of them."""
    s3, bucket = site.client("s3"), {"Bucket": made.ref}
    rules = [
        {("ApplyServerSideEncryptionByDefault" if key == "ServerSideEncryptionByDefault" else key): value
         for key, value in rule.items()}
        for rule in p.get("BucketEncryption", {}).get("ServerSideEncryptionConfiguration", [])
    ]  # fmt: skip
    if rules:
        s3.put_bucket_encryption(**bucket, ServerSideEncryptionConfiguration={"Rules": _encryption(rules)})
        found = s3.get_bucket_encryption(**bucket)["ServerSideEncryptionConfiguration"]["Rules"]
        read_back(site, "BucketEncryption", _encryption(rules), found)
    if "VersioningConfiguration" in p:
        s3.put_bucket_versioning(**bucket, VersioningConfiguration=p["VersioningConfiguration"])
        read_back(site, "VersioningConfiguration", p["VersioningConfiguration"], s3.get_bucket_versioning(**bucket))
    if "PublicAccessBlockConfiguration" in p:
        s3.put_public_access_block(**bucket, PublicAccessBlockConfiguration=p["PublicAccessBlockConfiguration"])
        found = s3.get_public_access_block(**bucket)["PublicAccessBlockConfiguration"]
        read_back(site, "PublicAccessBlockConfiguration", p["PublicAccessBlockConfiguration"], found)
    if "OwnershipControls" in p:
        s3.put_bucket_ownership_controls(**bucket, OwnershipControls=p["OwnershipControls"])
        found = s3.get_bucket_ownership_controls(**bucket)["OwnershipControls"]
        read_back(site, "OwnershipControls", p["OwnershipControls"], found)
    if "LifecycleConfiguration" in p:
        wanted = [_lifecycle(rule) for rule in p["LifecycleConfiguration"]["Rules"]]
        s3.put_bucket_lifecycle_configuration(**bucket, LifecycleConfiguration={"Rules": wanted})
        read_back(site, "LifecycleConfiguration", wanted, s3.get_bucket_lifecycle_configuration(**bucket)["Rules"])
    if "NotificationConfiguration" in p:
        _notify(site, made.ref, p["NotificationConfiguration"])
    if "Tags" in p:
        s3.put_bucket_tagging(**bucket, Tagging={"TagSet": tags(p)})
    return made


def _encryption(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"BucketKeyEnabled": False, **rule} for rule in rules]


def _lifecycle(rule: Properties) -> dict[str, Any]:
    """CloudFormation's spelling of a lifecycle rule in S3's own."""
    made: dict[str, Any] = {"ID": rule["Id"], "Status": rule["Status"], "Filter": {"Prefix": rule.get("Prefix", "")}}
    if "ExpirationInDays" in rule:
        made["Expiration"] = {"Days": rule["ExpirationInDays"]}
    return made | only(rule, "NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload")


def _notify(site: Site, bucket: str, wanted: Properties) -> None:
    if set(wanted) - {"EventBridgeConfiguration"}:
        raise ResourceError(f"{site.logical_id}: the desk notifies EventBridge alone, not {sorted(wanted)}")
    given = {"EventBridgeConfiguration": {}} if wanted["EventBridgeConfiguration"]["EventBridgeEnabled"] else {}
    site.client("s3").put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=given)
    # moto leaves EventBridge out of the API's answer, so what it keeps is read.
    kept = s3_backends[site.engine.account]["aws"].get_bucket(bucket).notification_configuration
    read_back(site, "NotificationConfiguration", bool(given), kept is not None and kept.event_bridge is not None)


def _end_bucket(site: Site, made: Made, p: Properties) -> None:
    """As CloudFormation: a bucket that holds something is not deleted."""
    gone(lambda: site.client("s3").delete_bucket(Bucket=made.ref))


def _bucket_policy(site: Site, p: Properties) -> Made:
    s3 = site.client("s3")
    s3.put_bucket_policy(Bucket=p["Bucket"], Policy=json.dumps(p["PolicyDocument"]))
    found = json.loads(s3.get_bucket_policy(Bucket=p["Bucket"])["Policy"])
    read_back(site, "PolicyDocument", p["PolicyDocument"], found)
    return Made(p["Bucket"])


def _table(site: Site, p: Properties) -> Made:
    dynamodb = site.client("dynamodb")
    encryption = p.get("SSESpecification", {})
    name = p.get("TableName") or site.generated_name(255)
    made = dynamodb.create_table(
        TableName=name,
        **only(p, "AttributeDefinitions", "KeySchema", "BillingMode"),
        **({"SSESpecification": {
            "Enabled": encryption["SSEEnabled"],
            "SSEType": encryption.get("SSEType", "KMS"),
            "KMSMasterKeyId": encryption["KMSMasterKeyId"],
        }} if encryption else {}),
        Tags=tags(p),
    )["TableDescription"]  # fmt: skip
    return _set_table(site, Made(name, {"Arn": made["TableArn"]}), p)


def _set_table(site: Site, made: Made, p: Properties) -> Made:
    backup = p.get("PointInTimeRecoverySpecification")
    if backup:
        dynamodb = site.client("dynamodb")
        dynamodb.update_continuous_backups(TableName=made.ref, PointInTimeRecoverySpecification=backup)
        found = dynamodb.describe_continuous_backups(TableName=made.ref)["ContinuousBackupsDescription"]
        status = found["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"]
        read_back(site, "PointInTimeRecoveryEnabled", backup["PointInTimeRecoveryEnabled"], status == "ENABLED")
    return made


def _repository(site: Site, p: Properties) -> Made:
    ecr = site.client("ecr")
    scan, encryption = p.get("ImageScanningConfiguration", {}), p.get("EncryptionConfiguration", {})
    made = ecr.create_repository(
        repositoryName=p["RepositoryName"],
        imageTagMutability=p.get("ImageTagMutability", "MUTABLE"),
        imageScanningConfiguration={"scanOnPush": scan.get("ScanOnPush", False)},
        encryptionConfiguration={
            "encryptionType": encryption.get("EncryptionType", "AES256"),
            **({"kmsKey": encryption["KmsKey"]} if "KmsKey" in encryption else {}),
        },
        tags=tags(p),
    )["repository"]
    read_back(site, "ImageTagMutability", p.get("ImageTagMutability", "MUTABLE"), made["imageTagMutability"])
    if "LifecyclePolicy" in p:
        text = p["LifecyclePolicy"]["LifecyclePolicyText"]
        ecr.put_lifecycle_policy(repositoryName=p["RepositoryName"], lifecyclePolicyText=text)
    attributes = {"Arn": made["repositoryArn"], "RepositoryUri": made["repositoryUri"]}
    return Made(p["RepositoryName"], attributes)


def _end_repository(site: Site, made: Made, p: Properties) -> None:
    force = bool(p.get("EmptyOnDelete"))
    gone(lambda: site.client("ecr").delete_repository(repositoryName=made.ref, force=force))


def _database(site: Site, p: Properties) -> Made:
    site.client("glue").create_database(DatabaseInput=p["DatabaseInput"])
    return Made(p["DatabaseInput"]["Name"])


def _glue_job(site: Site, p: Properties) -> Made:
    glue = site.client("glue")
    given = {**only(p, *_JOB), "Tags": tag_map(p)}
    glue.create_job(**given)
    found = glue.get_job(JobName=p["Name"])["Job"]
    read_back(site, "Job", only(p, "Role", "Command", "DefaultArguments", "GlueVersion", "Timeout"), found)
    return Made(p["Name"])


_JOB = (
    "Name", "Description", "Role", "Command", "DefaultArguments", "ExecutionProperty", "GlueVersion", "MaxRetries",
    "NumberOfWorkers", "SecurityConfiguration", "Timeout", "WorkerType",
)  # fmt: skip

KINDS = (
    Kind(
        type="AWS::KMS::Key",
        properties=frozenset({"Description", "EnableKeyRotation", "KeyPolicy"}),
        create=_key, update=_change_key, delete=_end_key, attributes=frozenset({"Arn", "KeyId"}),
    ),
    Kind(
        type="AWS::KMS::Alias",
        properties=frozenset({"AliasName", "TargetKeyId"}),
        create=_alias,
        delete=lambda site, made, p: gone(lambda: site.client("kms").delete_alias(AliasName=made.ref)),
    ),
    Kind(
        type="AWS::S3::Bucket",
        properties=frozenset({
            "BucketName", "BucketEncryption", "LifecycleConfiguration", "LoggingConfiguration",
            "NotificationConfiguration", "OwnershipControls", "PublicAccessBlockConfiguration", "VersioningConfiguration",
        }),
        create=_bucket, update=_set_bucket, delete=_end_bucket,
        attributes=frozenset({"Arn", "DomainName", "RegionalDomainName"}),
    ),
    Kind(
        type="AWS::S3::BucketPolicy",
        properties=frozenset({"Bucket", "PolicyDocument"}),
        create=_bucket_policy,
        delete=lambda site, made, p: gone(lambda: site.client("s3").delete_bucket_policy(Bucket=made.ref)),
    ),
    Kind(
        type="AWS::DynamoDB::Table",
        properties=frozenset({
            "AttributeDefinitions", "BillingMode", "KeySchema", "PointInTimeRecoverySpecification", "SSESpecification",
            "TableName",
        }),
        create=_table, update=_set_table, replace=False, attributes=frozenset({"Arn"}),
        delete=lambda site, made, p: gone(lambda: site.client("dynamodb").delete_table(TableName=made.ref)),
    ),
    Kind(
        type="AWS::ECR::Repository",
        properties=frozenset({
            "EmptyOnDelete", "EncryptionConfiguration", "ImageScanningConfiguration", "ImageTagMutability",
            "LifecyclePolicy", "RepositoryName",
        }),
        create=_repository, delete=_end_repository, attributes=frozenset({"Arn", "RepositoryUri"}),
    ),
    Kind(
        type="AWS::Glue::Database",
        properties=frozenset({"CatalogId", "DatabaseInput"}),
        create=_database,
        delete=lambda site, made, p: gone(lambda: site.client("glue").delete_database(Name=made.ref)),
    ),
    Kind(
        type="AWS::Glue::Job",
        properties=frozenset(_JOB),
        create=_glue_job,
        delete=lambda site, made, p: gone(lambda: site.client("glue").delete_job(JobName=made.ref)),
    ),
    # Kept by its name alone, so that the job's reference resolves: nothing on the desk is encrypted at rest.
    Kind(
        type="AWS::Glue::SecurityConfiguration",
        properties=frozenset({"EncryptionConfiguration", "Name"}),
        create=lambda site, p: Made(p["Name"]),
        delete=lambda site, made, p: None,
    ),
)  # fmt: skip
