"""A private network on the embedded AWS: made by EC2's API, read back through it, and gone with its stack."""

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lab.engine import Engine

TAGS = [{"Key": "lab", "Value": "x"}]
OPEN = {"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "*"}]}


def resources() -> dict[str, Any]:
    vpc = {"Ref": "Vpc"}
    group = {"Fn::GetAtt": ["Group", "GroupId"]}
    https = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443}
    wanted: dict[str, tuple[str, dict[str, Any]]] = {
        "Vpc": ("VPC", {"CidrBlock": "10.9.0.0/16", "EnableDnsHostnames": True, "Tags": TAGS}),
        "Subnet": (
            "Subnet",
            {
                "VpcId": vpc,
                "CidrBlock": "10.9.0.0/20",
                "AvailabilityZone": {"Fn::Select": [1, {"Fn::GetAZs": "us-east-1"}]},
                "MapPublicIpOnLaunch": False,
                "Tags": TAGS,
            },
        ),
        "Table": ("RouteTable", {"VpcId": vpc, "Tags": TAGS}),
        "Association": (
            "SubnetRouteTableAssociation",
            {"RouteTableId": {"Ref": "Table"}, "SubnetId": {"Ref": "Subnet"}},
        ),
        "Group": (
            "SecurityGroup",
            {
                "VpcId": vpc,
                "GroupDescription": "work",
                "SecurityGroupEgress": [{**https, "CidrIp": "0.0.0.0/0", "Description": "out"}],
                "Tags": TAGS,
            },
        ),
        "In": (
            "SecurityGroupIngress",
            {"GroupId": group, "SourceSecurityGroupId": group, "IpProtocol": "50", "Description": "peers"},
        ),
        "Out": ("SecurityGroupEgress", {"GroupId": group, "DestinationSecurityGroupId": group, **https}),
        "S3": (
            "VPCEndpoint",
            {
                "VpcId": vpc,
                "VpcEndpointType": "Gateway",
                "ServiceName": "com.amazonaws.us-east-1.s3",
                "RouteTableIds": [{"Ref": "Table"}],
                "PolicyDocument": OPEN,
                "Tags": TAGS,
            },
        ),
        "Logs": (
            "VPCEndpoint",
            {
                "VpcId": vpc,
                "VpcEndpointType": "Interface",
                "ServiceName": "com.amazonaws.us-east-1.logs",
                "SubnetIds": [{"Ref": "Subnet"}],
                "SecurityGroupIds": [group],
                "PrivateDnsEnabled": True,
            },
        ),
    }
    return {name: {"Type": f"AWS::EC2::{kind}", "Properties": given} for name, (kind, given) in wanted.items()}


@pytest.fixture
def deploy(engine: Engine) -> Iterator[Callable[[dict[str, Any]], dict[str, str]]]:
    """Creates a stack of these resources; gives each one's physical id."""
    client, name = engine.client("cloudformation"), f"t-{uuid.uuid4().hex[:8]}"

    def run(wanted: dict[str, Any]) -> dict[str, str]:
        client.create_stack(StackName=name, TemplateBody=json.dumps({"Resources": wanted}))
        rows = client.describe_stack_resources(StackName=name)["StackResources"]
        return {row["LogicalResourceId"]: row["PhysicalResourceId"] for row in rows}

    yield run
    client.delete_stack(StackName=name)


def test_a_network_is_what_ec2_says_it_is_and_goes_with_its_stack(engine: Engine) -> None:
    client, ec2 = engine.client("cloudformation"), engine.client("ec2")
    client.create_stack(StackName="t-network", TemplateBody=json.dumps({"Resources": resources()}))
    rows = client.describe_stack_resources(StackName="t-network")["StackResources"]
    made = {row["LogicalResourceId"]: row["PhysicalResourceId"] for row in rows}
    (subnet,) = ec2.describe_subnets(SubnetIds=[made["Subnet"]])["Subnets"]
    assert (subnet["VpcId"], subnet["AvailabilityZone"], subnet["Tags"]) == (made["Vpc"], "us-east-1b", TAGS)
    (group,) = ec2.describe_security_groups(GroupIds=[made["Group"]])["SecurityGroups"]
    # The rule that EC2 gives each new group, everything out, is gone.
    assert "-1" not in {row["IpProtocol"] for row in group["IpPermissionsEgress"]}
    assert [row["IpProtocol"] for row in group["IpPermissions"]] == ["50"]
    (door,) = ec2.describe_vpc_endpoints(VpcEndpointIds=[made["S3"]])["VpcEndpoints"]
    assert json.loads(door["PolicyDocument"]) == OPEN and door["RouteTableIds"] == [made["Table"]]
    client.delete_stack(StackName="t-network")
    assert made["Vpc"] not in {row["VpcId"] for row in ec2.describe_vpcs()["Vpcs"]}
    left = [row["VpcEndpointId"] for row in ec2.describe_vpc_endpoints()["VpcEndpoints"] if row["State"] != "deleted"]
    assert not {made["S3"], made["Logs"]} & set(left)


def test_a_flow_log_needs_the_group_that_it_writes_to(engine: Engine, deploy: Callable[..., Any]) -> None:
    flow = {
        "Type": "AWS::EC2::FlowLog",
        "Properties": {
            "ResourceId": {"Ref": "Vpc"},
            "ResourceType": "VPC",
            "TrafficType": "ALL",
            "LogDestinationType": "cloud-watch-logs",
            "LogGroupName": {"Ref": "Group"},
            "DeliverLogsPermissionArn": "arn:aws:iam::123456789012:role/flow",
        },
    }
    group = {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": f"/flow/{uuid.uuid4().hex}"}}
    made = deploy({"Vpc": resources()["Vpc"], "Group": group, "Flow": flow})
    (found,) = engine.client("ec2").describe_flow_logs(FlowLogIds=[made["Flow"]])["FlowLogs"]
    assert (found["ResourceId"], found["LogGroupName"]) == (made["Vpc"], made["Group"])


def test_a_route_to_the_internet_is_refused_by_name(deploy: Callable[..., Any]) -> None:
    with pytest.raises(ClientError, match="the type AWS::EC2::InternetGateway is not covered"):
        deploy({"Gate": {"Type": "AWS::EC2::InternetGateway"}})


def test_a_connection_of_another_type_than_network_is_refused(deploy: Callable[..., Any]) -> None:
    given = {"Name": "c", "ConnectionType": "JDBC", "ConnectionProperties": {}}
    row = {"Type": "AWS::Glue::Connection", "Properties": {"CatalogId": "123456789012", "ConnectionInput": given}}
    with pytest.raises(ClientError, match="ConnectionType JDBC is not covered"):
        deploy({"Connection": row})
