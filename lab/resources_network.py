"""Resource types of a private network: VPC, subnets, routes, endpoints, security groups, flow logs.

All are records of moto's EC2: a process of the desk stands on this machine's network, whatever subnet is asked for.
"""

from __future__ import annotations

import json
from typing import Any

from lab.resource import Kind, Made, Properties, Site, document, listed

STANDS = "A record, read back through EC2: what runs here stands on this machine's network all the same."
VPC = {"EnableDnsHostnames": "enableDnsHostnames", "EnableDnsSupport": "enableDnsSupport"}
RULE = ("CidrIp", "CidrIpv6", "Description", "FromPort", "IpProtocol", "ToPort")
ENDPOINT = ("PrivateDnsEnabled", "RouteTableIds", "SecurityGroupIds", "ServiceName", "SubnetIds", "VpcId")
FLOW = ("DeliverLogsPermissionArn", "LogDestination", "LogDestinationType", "LogGroupName", "TrafficType")


def _tagged(kind: str, wanted: Properties) -> list[dict[str, Any]] | None:
    """Tags as EC2 takes them, for a resource of a kind."""
    tags = wanted.get("Tags")
    return [{"ResourceType": kind, "Tags": tags}] if tags else None


def _make_vpc(site: Site, wanted: Properties) -> str:
    given = {"CidrBlock": wanted["CidrBlock"], "TagSpecifications": _tagged("vpc", wanted)}
    vpc = str(site.call("ec2", "create_vpc", given)["Vpc"]["VpcId"])
    for name in VPC:
        if name in wanted:
            site.call("ec2", "modify_vpc_attribute", {"VpcId": vpc, name: {"Value": _true(wanted[name])}})
    return vpc


def _true(value: Any) -> bool:
    return str(value).lower() == "true"


def _read_vpc(made: Made) -> Properties:
    [found] = made.site.call("ec2", "describe_vpcs", {"VpcIds": [made.id]})["Vpcs"]
    switches = {}
    for name, attribute in VPC.items():
        answer = made.site.call("ec2", "describe_vpc_attribute", {"VpcId": made.id, "Attribute": attribute})
        switches[name] = answer[name]["Value"]
    return {**found, **switches}


def _make_subnet(site: Site, wanted: Properties) -> str:
    given = {key: wanted.get(key) for key in ("AvailabilityZone", "CidrBlock", "VpcId")}
    made = site.call("ec2", "create_subnet", {**given, "TagSpecifications": _tagged("subnet", wanted)})
    subnet = str(made["Subnet"]["SubnetId"])
    if "MapPublicIpOnLaunch" in wanted:
        public = {"Value": _true(wanted["MapPublicIpOnLaunch"])}
        site.call("ec2", "modify_subnet_attribute", {"SubnetId": subnet, "MapPublicIpOnLaunch": public})
    return subnet


def _read_subnet(made: Made) -> Properties:
    [found] = made.site.call("ec2", "describe_subnets", {"SubnetIds": [made.id]})["Subnets"]
    return dict(found)


def _make_table(site: Site, wanted: Properties) -> str:
    given = {"VpcId": wanted["VpcId"], "TagSpecifications": _tagged("route-table", wanted)}
    return str(site.call("ec2", "create_route_table", given)["RouteTable"]["RouteTableId"])


def _read_table(made: Made) -> Properties:
    [found] = made.site.call("ec2", "describe_route_tables", {"RouteTableIds": [made.id]})["RouteTables"]
    return dict(found)


def _read_association(made: Made) -> Properties:
    asked = {"RouteTableIds": [made.properties["RouteTableId"]]}
    [table] = made.site.call("ec2", "describe_route_tables", asked)["RouteTables"]
    [found] = [one for one in table["Associations"] if one["RouteTableAssociationId"] == made.id]
    return dict(found)


def _make_group(site: Site, wanted: Properties) -> str:
    name = str(wanted.get("GroupName") or site.named(255))
    given = {"GroupName": name, "Description": wanted["GroupDescription"], "VpcId": wanted["VpcId"]}
    tags = _tagged("security-group", wanted)
    group = str(site.call("ec2", "create_security_group", {**given, "TagSpecifications": tags})["GroupId"])
    for direction in ("Ingress", "Egress"):
        rules = wanted.get(f"SecurityGroup{direction}")
        if direction == "Egress" and rules:
            _authorize(site, "revoke", "Egress", group, [{"IpProtocol": "-1", "CidrIp": "0.0.0.0/0"}])
        if rules:
            _authorize(site, "authorize", direction, group, rules)
    return group


def _authorize(site: Site, verb: str, direction: str, group: str, rules: Any) -> dict[str, Any]:
    given = {"GroupId": group, "IpPermissions": [_permission(rule) for rule in rules]}
    return site.call("ec2", f"{verb}_security_group_{direction.lower()}", given)


def _permission(rule: Properties) -> dict[str, Any]:
    """One rule as CloudFormation writes it, as EC2 takes it."""
    said = {"Description": rule["Description"]} if "Description" in rule else {}
    permission: dict[str, Any] = {"IpProtocol": str(rule["IpProtocol"])}
    permission |= {key: int(rule.get(key, -1)) for key in ("FromPort", "ToPort")}
    if "CidrIp" in rule:
        permission["IpRanges"] = [{"CidrIp": rule["CidrIp"], **said}]
    if "CidrIpv6" in rule:
        permission["Ipv6Ranges"] = [{"CidrIpv6": rule["CidrIpv6"], **said}]
    other = rule.get("SourceSecurityGroupId") or rule.get("DestinationSecurityGroupId")
    if other:
        permission["UserIdGroupPairs"] = [{"GroupId": other, **said}]
    return permission


def _rules(group: Properties, direction: str) -> list[dict[str, Any]]:
    """A group's rules as EC2 describes them, one by one in CloudFormation's words; `Other` is the group they name."""
    found = []
    for permission in group["IpPermissionsEgress" if direction == "Egress" else "IpPermissions"]:
        plain = {key: permission[key] for key in ("FromPort", "IpProtocol", "ToPort") if permission.get(key) != -1}
        for kind, name, said_as in (
            ("IpRanges", "CidrIp", "CidrIp"),
            ("Ipv6Ranges", "CidrIpv6", "CidrIpv6"),
            ("UserIdGroupPairs", "GroupId", "Other"),
        ):
            for one in permission.get(kind, []):
                found.append({**plain, said_as: one[name], "Description": one.get("Description")})
    return found


def _described(site: Site, group: str) -> dict[str, Any]:
    [found] = site.call("ec2", "describe_security_groups", {"GroupIds": [group]})["SecurityGroups"]
    return dict(found)


def _read_group(made: Made) -> Properties:
    found = _described(made.site, made.id)
    own = {
        f"SecurityGroup{direction}": [rule for rule in _rules(found, direction) if "Other" not in rule]
        for direction in ("Ingress", "Egress")
    }
    return {**found, "GroupDescription": found["Description"], **own}


def _rule_kind(direction: str, other: str) -> Kind:
    """AWS::EC2::SecurityGroupIngress or …Egress: one rule of a group that stands."""

    def make(site: Site, wanted: Properties) -> str:
        _authorize(site, "authorize", direction, wanted["GroupId"], [wanted])
        return site.named(255)

    def read(made: Made) -> Properties:
        wanted = made.properties
        for rule in _rules(_described(made.site, wanted["GroupId"]), direction):
            said = {**rule, "GroupId": wanted["GroupId"], other: rule.get("Other")}
            if all(str(said.get(key)) == str(value) for key, value in wanted.items()):
                return said
        return {}

    def drop(made: Made) -> None:
        _authorize(made.site, "revoke", direction, made.properties["GroupId"], [made.properties])

    return Kind(
        f"AWS::EC2::SecurityGroup{direction}", frozenset({*RULE, "GroupId", other}), make, read, drop, note=STANDS
    )


def _make_endpoint(site: Site, wanted: Properties) -> str:
    given = {**{key: wanted.get(key) for key in ENDPOINT}, "VpcEndpointType": wanted.get("VpcEndpointType")}
    policy = document(wanted["PolicyDocument"]) if "PolicyDocument" in wanted else None
    tags = _tagged("vpc-endpoint", wanted)
    made = site.call("ec2", "create_vpc_endpoint", {**given, "PolicyDocument": policy, "TagSpecifications": tags})
    return str(made["VpcEndpoint"]["VpcEndpointId"])


def _read_endpoint(made: Made) -> Properties:
    [found] = made.site.call("ec2", "describe_vpc_endpoints", {"VpcEndpointIds": [made.id]})["VpcEndpoints"]
    groups = [group["GroupId"] for group in found.get("Groups", [])]
    return {**found, "SecurityGroupIds": groups, "PolicyDocument": json.loads(found["PolicyDocument"])}


def _make_flow_log(site: Site, wanted: Properties) -> str:
    given = {**{key: wanted.get(key) for key in FLOW}, "ResourceType": wanted["ResourceType"]}
    tags = _tagged("vpc-flow-log", wanted)
    made = site.call(
        "ec2", "create_flow_logs", {**given, "ResourceIds": [wanted["ResourceId"]], "TagSpecifications": tags}
    )
    if made.get("Unsuccessful"):
        raise ValueError(f"create_flow_logs: {made['Unsuccessful']}")
    return str(made["FlowLogIds"][0])


def _read_flow_log(made: Made) -> Properties:
    [found] = made.site.call("ec2", "describe_flow_logs", {"FlowLogIds": [made.id]})["FlowLogs"]
    # EC2's answer does not say of which kind the resource is: its id does.
    kind = {"vpc": "VPC", "subnet": "Subnet", "eni": "NetworkInterface"}[found["ResourceId"].partition("-")[0]]
    return {**found, "ResourceType": kind, "Tags": found.get("Tags", listed({}))}


KINDS = (
    Kind(
        "AWS::EC2::VPC",
        frozenset({"CidrBlock", *VPC, "Tags"}),
        _make_vpc, _read_vpc,
        lambda made: made.site.call("ec2", "delete_vpc", {"VpcId": made.id}),
        attributes={"VpcId": lambda made: made.id, "CidrBlock": lambda made: str(made.properties["CidrBlock"])},
        note=STANDS,
    ),
    Kind(
        "AWS::EC2::Subnet",
        frozenset({"AvailabilityZone", "CidrBlock", "MapPublicIpOnLaunch", "Tags", "VpcId"}),
        _make_subnet, _read_subnet,
        lambda made: made.site.call("ec2", "delete_subnet", {"SubnetId": made.id}),
        attributes={"SubnetId": lambda made: made.id},
        note=STANDS,
    ),
    Kind(
        "AWS::EC2::RouteTable",
        frozenset({"Tags", "VpcId"}),
        _make_table, _read_table,
        lambda made: made.site.call("ec2", "delete_route_table", {"RouteTableId": made.id}),
        attributes={"RouteTableId": lambda made: made.id},
        note=STANDS,
    ),
    Kind(
        "AWS::EC2::SubnetRouteTableAssociation",
        frozenset({"RouteTableId", "SubnetId"}),
        lambda site, wanted: str(site.call("ec2", "associate_route_table", wanted)["AssociationId"]),
        _read_association,
        lambda made: made.site.call("ec2", "disassociate_route_table", {"AssociationId": made.id}),
        note=STANDS,
    ),
    Kind(
        "AWS::EC2::SecurityGroup",
        frozenset({
            "GroupDescription", "GroupName", "SecurityGroupEgress", "SecurityGroupIngress", "Tags", "VpcId",
        }),
        _make_group, _read_group,
        lambda made: made.site.call("ec2", "delete_security_group", {"GroupId": made.id}),
        attributes={"GroupId": lambda made: made.id, "VpcId": lambda made: str(made.properties["VpcId"])},
        note=STANDS,
    ),
    _rule_kind("Ingress", "SourceSecurityGroupId"),
    _rule_kind("Egress", "DestinationSecurityGroupId"),
    Kind(
        "AWS::EC2::VPCEndpoint",
        frozenset({*ENDPOINT, "PolicyDocument", "Tags", "VpcEndpointType"}),
        _make_endpoint, _read_endpoint,
        lambda made: made.site.call("ec2", "delete_vpc_endpoints", {"VpcEndpointIds": [made.id]}),
        attributes={"Id": lambda made: made.id},
        note=f"{STANDS} Its policy is not enforced.",
    ),
    Kind(
        "AWS::EC2::FlowLog",
        frozenset({*FLOW, "ResourceId", "ResourceType", "Tags"}),
        _make_flow_log, _read_flow_log,
        lambda made: made.site.call("ec2", "delete_flow_logs", {"FlowLogIds": [made.id]}),
        attributes={"Id": lambda made: made.id},
        note="A record: no packet is looked at, nothing is written to the log group.",
    ),
)  # fmt: skip
