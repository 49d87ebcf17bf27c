"""Resource types of access: IAM roles and policies, KMS keys, Lambda permissions."""

from __future__ import annotations

import json
from typing import Any

from lab.resource import Kind, Made, Properties, Site, document, listed, pairs

ROLE = ("Description", "MaxSessionDuration", "Path", "PermissionsBoundary", "Tags")


def _make_role(site: Site, wanted: Properties) -> str:
    name = str(wanted.get("RoleName") or site.named())
    plain = {key: wanted.get(key) for key in ROLE}
    trust = document(wanted["AssumeRolePolicyDocument"])
    site.call("iam", "create_role", {**plain, "RoleName": name, "AssumeRolePolicyDocument": trust})
    _put_policies(site, name, wanted)
    return name


def _put_policies(site: Site, name: str, wanted: Properties) -> None:
    for policy in wanted.get("Policies", []):
        given = {"PolicyName": policy["PolicyName"], "PolicyDocument": document(policy["PolicyDocument"])}
        site.call("iam", "put_role_policy", {"RoleName": name, **given})
    for arn in wanted.get("ManagedPolicyArns", []):
        site.call("iam", "attach_role_policy", {"RoleName": name, "PolicyArn": arn})


def _read_role(made: Made) -> Properties:
    role = made.site.call("iam", "get_role", {"RoleName": made.id})["Role"]
    policies = [_inline(made, made.id, policy["PolicyName"]) for policy in made.properties.get("Policies", [])]
    attached: list[str] = []
    if made.properties.get("ManagedPolicyArns"):
        found = made.site.call("iam", "list_attached_role_policies", {"RoleName": made.id})
        attached = [policy["PolicyArn"] for policy in found["AttachedPolicies"]]
    boundary = role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn")
    return {**role, "Policies": policies, "ManagedPolicyArns": attached, "PermissionsBoundary": boundary}


def _role_arn(made: Made) -> str:
    path = made.properties.get("Path", "/")
    return f"arn:aws:iam::{made.site.engine.account}:role{path}{made.id}"


def _inline(made: Made, role: str, name: str) -> dict[str, Any]:
    found = made.site.call("iam", "get_role_policy", {"RoleName": role, "PolicyName": name})
    return {"PolicyName": found["PolicyName"], "PolicyDocument": found["PolicyDocument"]}


def _change_role(made: Made, wanted: Properties) -> None:
    trust = document(wanted["AssumeRolePolicyDocument"])
    made.site.call("iam", "update_assume_role_policy", {"RoleName": made.id, "PolicyDocument": trust})
    _drop_policies(made)
    _put_policies(made.site, made.id, wanted)


def _drop_policies(made: Made) -> None:
    for policy in made.properties.get("Policies", []):
        made.site.call("iam", "delete_role_policy", {"RoleName": made.id, "PolicyName": policy["PolicyName"]})
    for arn in made.properties.get("ManagedPolicyArns", []):
        made.site.call("iam", "detach_role_policy", {"RoleName": made.id, "PolicyArn": arn})


def _drop_role(made: Made) -> None:
    _drop_policies(made)
    made.site.call("iam", "delete_role", {"RoleName": made.id})


def _make_policy(site: Site, wanted: Properties) -> str:
    name = str(wanted["PolicyName"])
    for role in wanted["Roles"]:
        given = {"RoleName": role, "PolicyName": name, "PolicyDocument": document(wanted["PolicyDocument"])}
        site.call("iam", "put_role_policy", given)
    return name


def _read_policy(made: Made) -> Properties:
    found = [_inline(made, role, made.id) for role in made.properties["Roles"]]
    return {**found[0], "Roles": made.properties["Roles"]}


def _drop_policy(made: Made) -> None:
    for role in made.properties["Roles"]:
        made.site.call("iam", "delete_role_policy", {"RoleName": role, "PolicyName": made.id})


def _make_managed(site: Site, wanted: Properties) -> str:
    name = str(wanted.get("ManagedPolicyName") or site.named(128))
    given = {"PolicyName": name, "PolicyDocument": document(wanted["PolicyDocument"])}
    made = site.call("iam", "create_policy", {**given, **{key: wanted.get(key) for key in ("Description", "Path")}})
    return str(made["Policy"]["Arn"])


def _read_managed(made: Made) -> Properties:
    policy = made.site.call("iam", "get_policy", {"PolicyArn": made.id})["Policy"]
    which = {"PolicyArn": made.id, "VersionId": policy["DefaultVersionId"]}
    version = made.site.call("iam", "get_policy_version", which)["PolicyVersion"]
    return {**policy, "ManagedPolicyName": policy["PolicyName"], "PolicyDocument": version["Document"]}


def _change_managed(made: Made, wanted: Properties) -> None:
    """A new default version; IAM keeps five, of which the desk keeps the one in force."""
    old = made.site.call("iam", "get_policy", {"PolicyArn": made.id})["Policy"]["DefaultVersionId"]
    given = {"PolicyArn": made.id, "PolicyDocument": document(wanted["PolicyDocument"]), "SetAsDefault": True}
    made.site.call("iam", "create_policy_version", given)
    made.site.call("iam", "delete_policy_version", {"PolicyArn": made.id, "VersionId": old})


def _make_key(site: Site, wanted: Properties) -> str:
    tags = [{"TagKey": key, "TagValue": value} for key, value in pairs(wanted.get("Tags")).items()]
    given = {key: wanted.get(key) for key in ("Description", "KeySpec", "KeyUsage", "MultiRegion")}
    policy = document(wanted["KeyPolicy"]) if "KeyPolicy" in wanted else None
    made = site.call("kms", "create_key", {**given, "Policy": policy, "Tags": tags})
    identity = str(made["KeyMetadata"]["KeyId"])
    if wanted.get("EnableKeyRotation"):
        days = wanted.get("RotationPeriodInDays")
        site.call("kms", "enable_key_rotation", {"KeyId": identity, "RotationPeriodInDays": days})
    return identity


def _read_key(made: Made) -> Properties:
    key = {"KeyId": made.id}
    found: dict[str, Any] = dict(made.site.call("kms", "describe_key", key)["KeyMetadata"])
    found["KeyPolicy"] = made.site.call("kms", "get_key_policy", {**key, "PolicyName": "default"})["Policy"]
    rotation = made.site.call("kms", "get_key_rotation_status", key)
    tags = made.site.call("kms", "list_resource_tags", key)["Tags"]
    return {
        **found,
        "EnableKeyRotation": rotation["KeyRotationEnabled"],
        "RotationPeriodInDays": rotation.get("RotationPeriodInDays"),
        "Tags": listed({tag["TagKey"]: tag["TagValue"] for tag in tags}),
    }


def _change_key(made: Made, wanted: Properties) -> None:
    given = {"KeyId": made.id, "PolicyName": "default", "Policy": document(wanted["KeyPolicy"])}
    made.site.call("kms", "put_key_policy", given)


def _make_alias(site: Site, wanted: Properties) -> str:
    site.call("kms", "create_alias", wanted)
    return str(wanted["AliasName"])


def _read_alias(made: Made) -> Properties:
    found = made.site.call("kms", "list_aliases", {})["Aliases"]
    [alias] = [one for one in found if one["AliasName"] == made.id]
    target = made.site.call("kms", "describe_key", {"KeyId": alias["TargetKeyId"]})["KeyMetadata"]
    wanted = str(made.properties["TargetKeyId"])
    return {**alias, "TargetKeyId": target["Arn"] if wanted.startswith("arn:") else target["KeyId"]}


def _make_permission(site: Site, wanted: Properties) -> str:
    statement = site.named(100)
    site.call("lambda", "add_permission", {**wanted, "StatementId": statement})
    return statement


def _read_permission(made: Made) -> Properties:
    policy = made.site.call("lambda", "get_policy", {"FunctionName": made.properties["FunctionName"]})["Policy"]
    [statement] = [one for one in _statements(policy) if one["Sid"] == made.id]
    condition = statement.get("Condition", {})
    who = statement["Principal"]
    return {
        "Action": statement["Action"],
        "FunctionName": made.properties["FunctionName"],
        "Principal": who.get("Service") or who.get("AWS") if isinstance(who, dict) else who,
        "SourceArn": condition.get("ArnLike", {}).get("AWS:SourceArn"),
        "SourceAccount": condition.get("StringEquals", {}).get("AWS:SourceAccount"),
    }


def _statements(policy: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(policy)["Statement"]
    return found


def _drop_permission(made: Made) -> None:
    given = {"FunctionName": made.properties["FunctionName"], "StatementId": made.id}
    made.site.call("lambda", "remove_permission", given)


KINDS = (
    Kind(
        "AWS::IAM::Role",
        frozenset({
            "AssumeRolePolicyDocument", "Description", "ManagedPolicyArns", "MaxSessionDuration", "Path",
            "PermissionsBoundary", "Policies", "RoleName", "Tags",
        }),
        _make_role, _read_role, _drop_role, _change_role,
        {"Arn": _role_arn},
        note="Every child runs with its role's session, and only if the role trusts its service. What its "
        "policies and its boundary do not allow is denied.",
        fixed=frozenset({"Path", "RoleName"}),
    ),
    Kind(
        "AWS::IAM::ManagedPolicy",
        frozenset({"Description", "ManagedPolicyName", "Path", "PolicyDocument"}),
        _make_managed, _read_managed,
        lambda made: made.site.call("iam", "delete_policy", {"PolicyArn": made.id}),
        _change_managed,
        {"PolicyArn": lambda made: made.id},
        note="Kept and read back, the boundary of a role included.",
        fixed=frozenset({"Description", "ManagedPolicyName", "Path"}),
    ),
    Kind(
        "AWS::IAM::Policy",
        frozenset({"PolicyName", "PolicyDocument", "Roles"}),
        _make_policy, _read_policy, _drop_policy,
        note="Decides over the calls of its roles.",
    ),
    Kind(
        "AWS::KMS::Key",
        frozenset({
            "Description", "EnableKeyRotation", "KeyPolicy", "KeySpec", "KeyUsage", "MultiRegion",
            "PendingWindowInDays", "RotationPeriodInDays", "Tags",
        }),
        _make_key, _read_key,
        lambda made: made.site.call("kms", "schedule_key_deletion", {"KeyId": made.id}),
        _change_key,
        {
            "Arn": lambda made: made.site.arn("kms", f"key/{made.id}"),
            "KeyId": lambda made: made.id,
        },
        keeps=True,
        inert={"PendingWindowInDays": "a deleted key waits in memory until the engine ends"},
        note="The key encrypts and decrypts what is sent to KMS; objects, tables and logs lie on the desk in the "
        "clear. Its policy decides over the roles that read and write encrypted buckets.",
        fixed=frozenset({"KeySpec", "KeyUsage", "MultiRegion"}),
    ),
    Kind(
        "AWS::KMS::Alias",
        frozenset({"AliasName", "TargetKeyId"}),
        _make_alias, _read_alias,
        lambda made: made.site.call("kms", "delete_alias", {"AliasName": made.id}),
    ),
    Kind(
        "AWS::Lambda::Permission",
        frozenset({"Action", "FunctionName", "Principal", "SourceAccount", "SourceArn"}),
        _make_permission, _read_permission, _drop_permission,
        note="Without it EventBridge and IoT cannot invoke the function.",
    ),
)  # fmt: skip
