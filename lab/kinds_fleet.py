"""Resource types of the fleet: thing groups, device policy and role, topic rule, Greengrass components."""

from __future__ import annotations

import json

from lab.resources import Kind, Made, Properties, Site, camel, gone, only, read_back, tag_map, tags


def _thing_group(site: Site, p: Properties) -> Made:
    about = p.get("ThingGroupProperties", {})
    found = site.client("iot").create_thing_group(
        thingGroupName=p["ThingGroupName"],
        thingGroupProperties={"thingGroupDescription": about.get("ThingGroupDescription", "")},
        tags=tags(p),
    )
    attributes = {"Arn": found["thingGroupArn"], "Id": found["thingGroupId"]}
    return Made(p["ThingGroupName"], attributes)


def _policy(site: Site, p: Properties) -> Made:
    iot = site.client("iot")
    found = iot.create_policy(policyName=p["PolicyName"], policyDocument=json.dumps(p["PolicyDocument"]))
    kept = json.loads(iot.get_policy(policyName=p["PolicyName"])["policyDocument"])
    read_back(site, "PolicyDocument", p["PolicyDocument"], kept)
    return Made(p["PolicyName"], {"Arn": found["policyArn"], "Id": p["PolicyName"]})


def _role_alias(site: Site, p: Properties) -> Made:
    found = site.client("iot").create_role_alias(
        roleAlias=p["RoleAlias"],
        roleArn=p["RoleArn"],
        credentialDurationSeconds=p.get("CredentialDurationSeconds", 3600),
    )
    return Made(p["RoleAlias"], {"RoleAliasArn": found["roleAliasArn"]})


def _topic_rule(site: Site, p: Properties) -> Made:
    iot = site.client("iot")
    iot.create_topic_rule(ruleName=p["RuleName"], topicRulePayload=camel(p["TopicRulePayload"]))
    found = iot.get_topic_rule(ruleName=p["RuleName"])["rule"]
    read_back(site, "Sql", p["TopicRulePayload"]["Sql"], found["sql"])
    return Made(p["RuleName"], {"Arn": site.arn("iot", f"rule/{p['RuleName']}")})


def _component(site: Site, p: Properties) -> Made:
    made = site.client("greengrassv2").create_component_version(
        inlineRecipe=p["InlineRecipe"].encode(), tags=tag_map(p)
    )
    attributes = {
        "Arn": made["arn"], "ComponentName": made["componentName"], "ComponentVersion": made["componentVersion"],
    }  # fmt: skip
    return Made(made["arn"], attributes)


def _deployment(site: Site, p: Properties) -> Made:
    components = {name: camel(component) for name, component in p.get("Components", {}).items()}
    extra = camel(only(p, "DeploymentPolicies", "IotJobConfiguration"))
    made = site.client("greengrassv2").create_deployment(
        targetArn=p["TargetArn"],
        deploymentName=p.get("DeploymentName", site.logical_id),
        components=components,
        tags=tag_map(p),
        **extra,
    )
    return Made(made["deploymentId"], {"DeploymentId": made["deploymentId"]})


def _end_deployment(site: Site, made: Made, p: Properties) -> None:
    greengrass = site.client("greengrassv2")
    gone(lambda: greengrass.cancel_deployment(deploymentId=made.ref))


def _redeploy(site: Site, made: Made, p: Properties) -> Made:
    """A new revision for the same target replaces the one before; the device goes from one to the other."""
    return _deployment(site, p)


KINDS = (
    Kind(
        type="AWS::IoT::ThingGroup",
        properties=frozenset({"ThingGroupName", "ThingGroupProperties"}),
        create=_thing_group, attributes=frozenset({"Arn", "Id"}),
        delete=lambda site, made, p: gone(lambda: site.client("iot").delete_thing_group(thingGroupName=made.ref)),
    ),
    Kind(
        type="AWS::IoT::Policy",
        properties=frozenset({"PolicyDocument", "PolicyName"}),
        create=_policy, attributes=frozenset({"Arn", "Id"}),
        delete=lambda site, made, p: gone(lambda: site.client("iot").delete_policy(policyName=made.ref)),
    ),
    Kind(
        type="AWS::IoT::RoleAlias",
        properties=frozenset({"CredentialDurationSeconds", "RoleAlias", "RoleArn"}),
        create=_role_alias, attributes=frozenset({"RoleAliasArn"}),
        delete=lambda site, made, p: gone(lambda: site.client("iot").delete_role_alias(roleAlias=made.ref)),
    ),
    Kind(
        type="AWS::IoT::TopicRule",
        properties=frozenset({"RuleName", "TopicRulePayload"}),
        create=_topic_rule, attributes=frozenset({"Arn"}),
        delete=lambda site, made, p: gone(lambda: site.client("iot").delete_topic_rule(ruleName=made.ref)),
    ),
    Kind(
        type="AWS::GreengrassV2::ComponentVersion",
        properties=frozenset({"InlineRecipe"}),
        create=_component, attributes=frozenset({"Arn", "ComponentName", "ComponentVersion"}),
        delete=lambda site, made, p: gone(lambda: site.client("greengrassv2").delete_component(arn=made.ref)),
    ),
    Kind(
        type="AWS::GreengrassV2::Deployment",
        properties=frozenset({
            "Components", "DeploymentName", "DeploymentPolicies", "IotJobConfiguration", "TargetArn",
        }),
        create=_deployment, update=_redeploy, delete=_end_deployment, attributes=frozenset({"DeploymentId"}),
    ),
)  # fmt: skip
