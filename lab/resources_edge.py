"""Resource types of the fleet: IoT thing groups, policies, aliases, rules, Greengrass v2."""

from __future__ import annotations

import base64
from typing import Any

from lab.resource import Kind, Made, Properties, Site, document, pairs

NO_TAGS = {"Tags": "the desk's IoT keeps no tags"}


def _make_group(site: Site, wanted: Properties) -> str:
    name = str(wanted.get("ThingGroupName") or site.named(128))
    site.call("iot", "create_thing_group", {**wanted, "ThingGroupName": name})
    return name


def _read_group(made: Made) -> Properties:
    found = made.site.call("iot", "describe_thing_group", {"thingGroupName": made.id})
    return {**found, "ParentGroupName": found.get("thingGroupMetadata", {}).get("parentGroupName")}


def _change_group(made: Made, wanted: Properties) -> None:
    given = {"thingGroupName": made.id, "thingGroupProperties": wanted.get("ThingGroupProperties", {})}
    made.site.call("iot", "update_thing_group", given)


def _make_policy(site: Site, wanted: Properties) -> str:
    name = str(wanted.get("PolicyName") or site.named(128))
    given = {"policyName": name, "policyDocument": document(wanted["PolicyDocument"])}
    site.call("iot", "create_policy", given)
    return name


def _make_alias(site: Site, wanted: Properties) -> str:
    name = str(wanted.get("RoleAlias") or site.named(128))
    seconds = wanted.get("CredentialDurationSeconds")
    given = {"RoleAlias": name, "CredentialDurationSeconds": int(seconds) if seconds is not None else None}
    site.call("iot", "create_role_alias", {"RoleArn": wanted["RoleArn"], **given})
    return name


def _make_rule(site: Site, wanted: Properties) -> str:
    name = str(wanted.get("RuleName") or site.named(128).replace("-", "_"))
    payload = dict(wanted["TopicRulePayload"])
    payload["RuleDisabled"] = str(payload.get("RuleDisabled", False)).lower() == "true"
    site.call("iot", "create_topic_rule", {"ruleName": name, "topicRulePayload": payload})
    return name


def _read_rule(made: Made) -> Properties:
    found = made.site.call("iot", "get_topic_rule", {"ruleName": made.id})["rule"]
    return {"RuleName": found["ruleName"], "TopicRulePayload": found}


def _make_template(site: Site, wanted: Properties) -> str:
    name = str(wanted.get("TemplateName") or site.named(36))
    enabled = str(wanted.get("Enabled", False)).lower() == "true"
    given = {**wanted, "TemplateName": name, "Enabled": enabled, "Tags": None, "TemplateType": None}
    site.call("iot", "create_provisioning_template", {**given, "type": wanted.get("TemplateType")})
    return name


def _make_version(site: Site, wanted: Properties) -> str:
    given = {"inlineRecipe": document(wanted["InlineRecipe"]).encode(), "tags": wanted.get("Tags")}
    made = site.call("greengrassv2", "create_component_version", given)
    about = site.call("greengrassv2", "describe_component", {"arn": made["arn"]})
    if about["status"]["componentState"] != "DEPLOYABLE":
        raise ValueError(
            f"{made['componentName']} is {about['status']['componentState']}: {about['status']['message']}"
        )
    return str(made["arn"])


def _read_version(made: Made) -> Properties:
    found = made.site.call("greengrassv2", "get_component", {"arn": made.id, "recipeOutputFormat": "JSON"})
    recipe: Any = found["recipe"]
    text = recipe.decode() if isinstance(recipe, bytes) else base64.b64decode(recipe).decode()
    return {"InlineRecipe": text, "Tags": found.get("tags", {})}


def _make_deployment(site: Site, wanted: Properties) -> str:
    given = {**wanted, "Tags": pairs(wanted.get("Tags")) or None}
    return str(site.call("greengrassv2", "create_deployment", given)["deploymentId"])


def _read_deployment(made: Made) -> Properties:
    found = made.site.call("greengrassv2", "get_deployment", {"deploymentId": made.id})
    return {**found, "Tags": found.get("tags", {})}


def _drop_deployment(made: Made) -> None:
    which = {"deploymentId": made.id}
    if made.site.call("greengrassv2", "get_deployment", which)["deploymentStatus"] == "ACTIVE":
        made.site.call("greengrassv2", "cancel_deployment", which)
    made.site.call("greengrassv2", "delete_deployment", which)


KINDS = (
    Kind(
        "AWS::IoT::ThingGroup",
        frozenset({"ParentGroupName", "Tags", "ThingGroupName", "ThingGroupProperties"}),
        _make_group, _read_group,
        lambda made: made.site.call("iot", "delete_thing_group", {"thingGroupName": made.id}),
        _change_group,
        {
            "Arn": lambda made: made.site.arn("iot", f"thinggroup/{made.id}"),
            "Id": lambda made: str(
                made.site.call("iot", "describe_thing_group", {"thingGroupName": made.id})["thingGroupId"]
            ),
        },
        keeps=True,
        inert=NO_TAGS,
        how="executed",
        note="Members, and deployments to the group; dynamic groups and queries do not exist.",
        fixed=frozenset({"ParentGroupName", "ThingGroupName"}),
    ),
    Kind(
        "AWS::IoT::Policy",
        frozenset({"PolicyDocument", "PolicyName", "Tags"}),
        _make_policy,
        lambda made: made.site.call("iot", "get_policy", {"policyName": made.id}),
        lambda made: made.site.call("iot", "delete_policy", {"policyName": made.id}),
        attributes={"Arn": lambda made: made.site.arn("iot", f"policy/{made.id}")},
        inert=NO_TAGS,
        note="Kept and read back; the desk device has no certificate, so nothing is held against it.",
    ),
    Kind(
        "AWS::IoT::RoleAlias",
        frozenset({"CredentialDurationSeconds", "RoleAlias", "RoleArn", "Tags"}),
        _make_alias,
        lambda made: made.site.call("iot", "describe_role_alias", {"roleAlias": made.id})["roleAliasDescription"],
        lambda made: made.site.call("iot", "delete_role_alias", {"roleAlias": made.id}),
        attributes={"RoleAliasArn": lambda made: made.site.arn("iot", f"rolealias/{made.id}")},
        inert=NO_TAGS,
        note="Kept and read back.",
    ),
    Kind(
        "AWS::IoT::TopicRule",
        frozenset({"RuleName", "Tags", "TopicRulePayload"}),
        _make_rule, _read_rule,
        lambda made: made.site.call("iot", "delete_topic_rule", {"ruleName": made.id}),
        attributes={"Arn": lambda made: made.site.arn("iot", f"rule/{made.id}")},
        inert=NO_TAGS,
        how="executed",
        note="`SELECT *` with topic() and timestamp() terms and Lambda actions; anything else is refused when the "
        "rule is made. The error action is kept and not run.",
    ),
    Kind(
        "AWS::IoT::ProvisioningTemplate",
        frozenset({
            "Description", "Enabled", "PreProvisioningHook", "ProvisioningRoleArn", "Tags", "TemplateBody",
            "TemplateName", "TemplateType",
        }),
        _make_template,
        lambda made: made.site.call("iot", "describe_provisioning_template", {"templateName": made.id}),
        lambda made: made.site.call("iot", "delete_provisioning_template", {"templateName": made.id}),
        attributes={"TemplateArn": lambda made: made.site.arn("iot", f"provisioningtemplate/{made.id}")},
        inert=NO_TAGS,
        note="Checked, kept and read back; no MQTT broker listens here, so no device joins by it.",
    ),
    Kind(
        "AWS::GreengrassV2::ComponentVersion",
        frozenset({"InlineRecipe", "Tags"}),
        _make_version, _read_version,
        lambda made: made.site.call("greengrassv2", "delete_component", {"arn": made.id}),
        attributes={
            "Arn": lambda made: made.id,
            "ComponentName": lambda made: made.id.split(":")[6],
            "ComponentVersion": lambda made: made.id.split(":")[8],
        },
        how="executed",
        note="Artefacts are fetched and digested; a version that cannot be deployed fails the stack.",
    ),
    Kind(
        "AWS::GreengrassV2::Deployment",
        frozenset({"Components", "DeploymentName", "DeploymentPolicies", "IotJobConfiguration", "Tags", "TargetArn"}),
        _make_deployment, _read_deployment, _drop_deployment,
        attributes={"DeploymentId": lambda made: made.id},
        how="executed",
        note="The desk's cores run the recipe's lifecycle. The nucleus itself is the lab's own; its pinned version is "
        "a label. Rollout, abort and timeout settings of the job are acted on; a minute of a rollout lasts a second.",
    ),
)  # fmt: skip
