"""S3's resource types, with every property that stock moto accepts and ignores."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from lab.resource import Kind, Made, Properties, Site, document

# Property -> how to put it and how to read it back.
Put = Callable[[Site, str, Any], Any]
Read = Callable[[Made], Any]


def _put(operation: str, parameter: str, value: Callable[[Any], Any] = lambda wanted: wanted) -> Put:
    def put(site: Site, bucket: str, wanted: Any) -> Any:
        return site.call("s3", operation, {"Bucket": bucket, parameter: value(wanted)})

    return put


def _get(operation: str, pick: Callable[[dict[str, Any]], Any]) -> Read:
    return lambda made: pick(made.site.call("s3", operation, {"Bucket": made.id}))


def _encryption(wanted: Any) -> dict[str, Any]:
    rules = []
    for rule in wanted["ServerSideEncryptionConfiguration"]:
        inner = dict(rule)
        inner["ApplyServerSideEncryptionByDefault"] = inner.pop("ServerSideEncryptionByDefault")
        rules.append(inner)
    return {"Rules": rules}


def _read_encryption(found: dict[str, Any]) -> dict[str, Any]:
    rules = []
    for rule in found["ServerSideEncryptionConfiguration"]["Rules"]:
        inner = dict(rule)
        inner["ServerSideEncryptionByDefault"] = inner.pop("ApplyServerSideEncryptionByDefault")
        rules.append(inner)
    return {"ServerSideEncryptionConfiguration": rules}


def _lifecycle(wanted: Any) -> dict[str, Any]:
    return {"Rules": [_lifecycle_rule(rule) for rule in wanted["Rules"]]}


def _lifecycle_rule(rule: Any) -> dict[str, Any]:
    """CloudFormation flattens what the API nests: expiration, prefix, tags, transitions."""
    known = {
        "AbortIncompleteMultipartUpload", "ExpirationInDays", "Id", "NoncurrentVersionExpiration", "Prefix", "Status",
        "ExpiredObjectDeleteMarker",
    }  # fmt: skip
    unknown = sorted(set(rule) - known)
    if unknown:
        raise ValueError(f"LifecycleConfiguration.Rules: {', '.join(unknown)} is not covered on the desk")
    given: dict[str, Any] = {"Status": rule["Status"], "Filter": {"Prefix": rule.get("Prefix", "")}}
    if "Id" in rule:
        given["ID"] = rule["Id"]
    if "ExpirationInDays" in rule:
        given["Expiration"] = {"Days": int(rule["ExpirationInDays"])}
    if "ExpiredObjectDeleteMarker" in rule:
        given["Expiration"] = {"ExpiredObjectDeleteMarker": rule["ExpiredObjectDeleteMarker"]}
    for key in ("AbortIncompleteMultipartUpload", "NoncurrentVersionExpiration"):
        if key in rule:
            given[key] = rule[key]
    return given


def _read_lifecycle(found: dict[str, Any]) -> dict[str, Any]:
    rules = []
    for rule in found["Rules"]:
        expiration = rule.get("Expiration", {})
        flat = {**rule, "Prefix": rule.get("Filter", {}).get("Prefix", "")}
        flat["ExpirationInDays"] = expiration.get("Days")
        flat["ExpiredObjectDeleteMarker"] = expiration.get("ExpiredObjectDeleteMarker")
        rules.append(flat)
    return {"Rules": rules}


def _logging(wanted: Any) -> dict[str, Any]:
    target = {"TargetBucket": wanted["DestinationBucketName"], "TargetPrefix": wanted.get("LogFilePrefix", "")}
    return {"LoggingEnabled": target}


def _read_logging(found: dict[str, Any]) -> dict[str, Any]:
    there = found.get("LoggingEnabled", {})
    return {"DestinationBucketName": there.get("TargetBucket"), "LogFilePrefix": there.get("TargetPrefix")}


def _notification(wanted: Any) -> dict[str, Any]:
    unknown = sorted(set(wanted) - {"EventBridgeConfiguration"})
    if unknown:
        raise ValueError(f"NotificationConfiguration.{', '.join(unknown)} is not covered on the desk; use EventBridge")
    on = wanted.get("EventBridgeConfiguration", {}).get("EventBridgeEnabled", True)
    return {"EventBridgeConfiguration": {}} if str(on).lower() == "true" else {}


def _read_notification(found: dict[str, Any]) -> dict[str, Any]:
    return {"EventBridgeConfiguration": {"EventBridgeEnabled": "EventBridgeConfiguration" in found}}


def _same(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda found: found[key]


PARTS: dict[str, tuple[Put, Read]] = {
    "OwnershipControls": (
        _put("put_bucket_ownership_controls", "OwnershipControls"),
        _get("get_bucket_ownership_controls", _same("OwnershipControls")),
    ),
    "PublicAccessBlockConfiguration": (
        _put("put_public_access_block", "PublicAccessBlockConfiguration"),
        _get("get_public_access_block", _same("PublicAccessBlockConfiguration")),
    ),
    "VersioningConfiguration": (
        _put("put_bucket_versioning", "VersioningConfiguration"),
        _get("get_bucket_versioning", lambda found: found),
    ),
    "BucketEncryption": (
        _put("put_bucket_encryption", "ServerSideEncryptionConfiguration", _encryption),
        _get("get_bucket_encryption", _read_encryption),
    ),
    "LifecycleConfiguration": (
        _put("put_bucket_lifecycle_configuration", "LifecycleConfiguration", _lifecycle),
        _get("get_bucket_lifecycle_configuration", _read_lifecycle),
    ),
    "LoggingConfiguration": (
        _put("put_bucket_logging", "BucketLoggingStatus", _logging),
        _get("get_bucket_logging", _read_logging),
    ),
    "NotificationConfiguration": (
        _put("put_bucket_notification_configuration", "NotificationConfiguration", _notification),
        _get("get_bucket_notification_configuration", _read_notification),
    ),
    "CorsConfiguration": (
        _put("put_bucket_cors", "CORSConfiguration", lambda wanted: {"CORSRules": wanted["CorsRules"]}),
        _get("get_bucket_cors", lambda found: {"CorsRules": found["CORSRules"]}),
    ),
    "Tags": (
        _put("put_bucket_tagging", "Tagging", lambda tags: {"TagSet": tags}),
        _get("get_bucket_tagging", _same("TagSet")),
    ),
}


def _make_bucket(site: Site, wanted: Properties) -> str:
    name = str(wanted.get("BucketName") or site.named(63).lower())
    place = {"LocationConstraint": site.engine.region} if site.engine.region != "us-east-1" else None
    existing = {bucket["Name"] for bucket in site.call("s3", "list_buckets", {})["Buckets"]}
    if name in existing:
        raise ValueError(f"the bucket {name} exists already and is not part of this stack")
    site.call("s3", "create_bucket", {"Bucket": name, "CreateBucketConfiguration": place})
    _settle(Made(site, name, {}), wanted)
    return name


def _settle(made: Made, wanted: Properties) -> None:
    gone = sorted(set(made.properties) - set(wanted))
    if gone:
        raise ValueError(f"a bucket with data cannot lose its {', '.join(gone)} on the desk")
    for name, (put, _) in PARTS.items():
        if name in wanted:
            put(made.site, made.id, wanted[name])


def _read_bucket(made: Made) -> Properties:
    return {"BucketName": made.id, **{name: read(made) for name, (_, read) in PARTS.items() if name in made.properties}}


def _make_policy(site: Site, wanted: Properties) -> str:
    bucket = str(wanted["Bucket"])
    site.call("s3", "put_bucket_policy", {"Bucket": bucket, "Policy": document(wanted["PolicyDocument"])})
    return bucket


def _read_policy(made: Made) -> Properties:
    found = made.site.call("s3", "get_bucket_policy", {"Bucket": made.id})["Policy"]
    return {"Bucket": made.id, "PolicyDocument": json.loads(found)}


KINDS = (
    Kind(
        "AWS::S3::Bucket",
        frozenset({"BucketName", *PARTS}),
        _make_bucket, _read_bucket,
        lambda made: made.site.call("s3", "delete_bucket", {"Bucket": made.id}),
        _settle,
        {
            "Arn": lambda made: f"arn:aws:s3:::{made.id}",
            "DomainName": lambda made: f"{made.id}.s3.amazonaws.com",
            "RegionalDomainName": lambda made: f"{made.id}.s3.{made.site.engine.region}.amazonaws.com",
        },
        keeps=True,
        how="executed",
        note="Objects, versions, metadata, access logs and EventBridge notifications work. Every other property is "
        "applied through its own API and read back, without effect: nothing expires, nothing is encrypted.",
        fixed=frozenset({"BucketName"}),
    ),
    Kind(
        "AWS::S3::BucketPolicy",
        frozenset({"Bucket", "PolicyDocument"}),
        _make_policy, _read_policy,
        lambda made: made.site.call("s3", "delete_bucket_policy", {"Bucket": made.id}),
        note="Decides over the calls of roles; conditions on TLS count as fulfilled.",
    ),
)  # fmt: skip
