"""Where jobs and functions run: in AWS's own service network, or in private subnets that lead to AWS services alone.

`[security] network = "vpc"` makes the second: no internet gateway, no NAT, so no route leaves it but the endpoints of
the services below. Image builds stay outside: they fetch pinned packages, see no data, and push to their repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aws_cdk import Aws, Fn, RemovalPolicy
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.config import Settings
from infra.naming import Names
from infra.permissions import Allow, role, seldom, service

CIDR = "10.83.0.0/16"
SUBNETS = ("10.83.0.0/20", "10.83.16.0/20")
GATEWAYS = ("s3", "dynamodb")
# What functions and jobs call, by the service prefix of its actions; Glue needs the last three for itself.
INTERFACES = {
    "sagemaker.api": "sagemaker",
    "monitoring": "cloudwatch",
    "iot.api": "iot",
    "greengrass": "greengrass",
    "logs": "logs",
    "kms": "kms",
    "glue": "glue",
}
# The one service for whose endpoint AWS documents no policy of its own; the roles' policies hold there as everywhere.
WITHOUT_POLICY = "iot.api"
HTTPS = 443


class Network(Construct):
    """Subnets, their security group and the endpoints; of `network = "none"` nothing at all."""

    def __init__(self, scope: Construct, id: str, *, settings: Settings, names: Names, key: kms.IKey) -> None:
        super().__init__(scope, id)
        self._names, self._settings = names, settings
        self.subnets: list[str] = []
        self.group = ""
        self.zone = ""  # of the first subnet
        if settings.security.network == "vpc":
            self._private(key)

    @property
    def is_private(self) -> bool:
        """Whether jobs and functions stand in subnets of ours."""
        return bool(self.subnets)

    def for_sagemaker(self) -> dict[str, Any]:
        """`VpcConfig` as jobs and models take it; empty in the service network."""
        if not self.is_private:
            return {}
        return {"VpcConfig": {"Subnets": self.subnets, "SecurityGroupIds": [self.group]}}

    def for_function(self) -> lambda_.CfnFunction.VpcConfigProperty | None:
        """The same as a function takes it."""
        if not self.is_private:
            return None
        return lambda_.CfnFunction.VpcConfigProperty(subnet_ids=self.subnets, security_group_ids=[self.group])

    def attach(self) -> list[Allow]:
        """What a service needs of a role to bring its interfaces into the subnets; nothing in the service network."""
        if not self.is_private:
            return []
        arn = self._names.arn
        interfaces = arn("ec2", "network-interface/*")
        places = [arn("ec2", f"subnet/{subnet}") for subnet in self.subnets]
        why = "an interface's id is made with it"
        allows = [
            Allow(
                actions=["ec2:CreateNetworkInterface"],
                on=[interfaces, *places, arn("ec2", f"security-group/{self.group}")],
                why=why,
            ),
            Allow(
                actions=[
                    *("ec2:CreateNetworkInterfacePermission", "ec2:CreateTags"),
                    *("ec2:DeleteNetworkInterface", "ec2:DeleteNetworkInterfacePermission"),
                ],
                on=[interfaces],
                why=why,
            ),
            Allow(
                actions=[
                    *("ec2:DescribeDhcpOptions", "ec2:DescribeNetworkInterfaces", "ec2:DescribeRouteTables"),
                    *("ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcEndpoints"),
                    "ec2:DescribeVpcs",
                ],
                on=["*"],
                why="EC2's describe actions take no resource",
            ),
        ]
        return seldom(allows, "the service makes, looks up and drops its interfaces in the subnets; the desk has none")

    def also_read(self, objects: Sequence[str]) -> None:
        """Opens S3's door to these objects of another account, to be read; it has no other foreign bucket behind it."""
        if self.is_private:
            more = _own_account(["s3:GetObject"], {})["Statement"][0]
            own = self._s3.policy_document
            self._s3.policy_document = {**own, "Statement": [*own["Statement"], {**more, "Resource": list(objects)}]}

    def _private(self, key: kms.IKey) -> None:
        self._vpc = ec2.CfnVPC(self, "Vpc", cidr_block=CIDR, enable_dns_hostnames=True, enable_dns_support=True)
        self._record(key)
        table = ec2.CfnRouteTable(self, "Routes", vpc_id=self._vpc.ref)
        for number, block in enumerate(SUBNETS):
            subnet = ec2.CfnSubnet(
                self,
                f"Private{number}",
                vpc_id=self._vpc.ref,
                cidr_block=block,
                availability_zone=Fn.select(number, Fn.get_azs(self._names.region)),
                map_public_ip_on_launch=False,
            )
            ec2.CfnSubnetRouteTableAssociation(
                self, f"Private{number}Routes", subnet_id=subnet.ref, route_table_id=table.ref
            )
            self.subnets.append(subnet.ref)
        self.zone = Fn.select(0, Fn.get_azs(self._names.region))
        self._groups()
        self._s3, _ = (self._gateway(service, table.ref) for service in GATEWAYS)
        for name, prefix in INTERFACES.items():
            self._interface(name, f"com.amazonaws.{self._names.region}.{name}", [f"{prefix}:*"])
        if self._settings.train.mlflow:
            # Its actions go by two prefixes, one for tracking servers and one for apps.
            calls = ["sagemaker-mlflow:*", "sagemaker:CallMlflowAppApi"]
            self._interface("mlflow", f"aws.sagemaker.{self._names.region}.experiments", calls)

    def _groups(self) -> None:
        """Work asks doors (the endpoints) over HTTPS and its own peers; doors answer work; no one else is heard."""
        work = ec2.CfnSecurityGroup(
            self,
            "Work",
            vpc_id=self._vpc.ref,
            group_name=self._names.of("work"),
            group_description="Jobs, functions and endpoints of the lab",
            # S3 and DynamoDB answer through the gateways from public addresses; the routes admit no others.
            security_group_egress=[_https(cidr_ip="0.0.0.0/0", description="AWS services through the VPC endpoints")],
        )
        doors = ec2.CfnSecurityGroup(
            self,
            "Doors",
            vpc_id=self._vpc.ref,
            group_name=self._names.of("doors"),
            group_description="VPC endpoints of the lab",
            # Without a rule, EC2 would allow everything out.
            security_group_egress=[_https(cidr_ip="127.0.0.1/32", description="Endpoints open no connection")],
        )
        self.group, self._doors = work.attr_group_id, doors.attr_group_id
        ec2.CfnSecurityGroupIngress(
            self,
            "WorkToDoors",
            group_id=self._doors,
            source_security_group_id=self.group,
            ip_protocol="tcp",
            from_port=HTTPS,
            to_port=HTTPS,
            description="From jobs and functions",
        )
        # Spark's workers and a training's hosts speak on ports of their own; ESP and IKE carry what SageMaker encrypts.
        peers: dict[str, dict[str, Any]] = {
            "Tcp": {"ip_protocol": "tcp", "from_port": 0, "to_port": 65535},
            "Ike": {"ip_protocol": "udp", "from_port": 500, "to_port": 500},
            "Esp": {"ip_protocol": "50"},
        }
        for id, ports in peers.items():
            ec2.CfnSecurityGroupIngress(
                self,
                f"Peers{id}In",
                group_id=self.group,
                source_security_group_id=self.group,
                description="Hosts of one job among themselves",
                **ports,
            )
            ec2.CfnSecurityGroupEgress(
                self,
                f"Peers{id}Out",
                group_id=self.group,
                destination_security_group_id=self.group,
                description="Hosts of one job among themselves",
                **ports,
            )

    def _gateway(self, service: str, table: str) -> ec2.CfnVPCEndpoint:
        return ec2.CfnVPCEndpoint(
            self,
            _id(service),
            vpc_id=self._vpc.ref,
            vpc_endpoint_type="Gateway",
            service_name=f"com.amazonaws.{self._names.region}.{service}",
            route_table_ids=[table],
            policy_document=_own_account([f"{service}:*"], {"aws:ResourceAccount": Aws.ACCOUNT_ID}),
        )

    def _interface(self, service: str, name: str, actions: Sequence[str]) -> None:
        ec2.CfnVPCEndpoint(
            self,
            _id(service),
            vpc_id=self._vpc.ref,
            vpc_endpoint_type="Interface",
            service_name=name,
            subnet_ids=self.subnets,
            security_group_ids=[self._doors],
            private_dns_enabled=True,
            policy_document=None if service == WITHOUT_POLICY else _own_account(actions, {}),
        )

    def _record(self, key: kms.IKey) -> None:
        """Who spoke to whom, accepted or not."""
        group = logs.LogGroup(
            self,
            "FlowLogs",
            log_group_name=f"/{self._names.prefix}/flow-logs",
            encryption_key=key,
            retention=logs.RetentionDays.THREE_MONTHS,
            removal_policy=RemovalPolicy.DESTROY,
        )
        writer = role(
            self,
            "FlowLogsRole",
            trusts=service("vpc-flow-logs.amazonaws.com", account=Aws.ACCOUNT_ID),
            description="Writes the network's flow logs",
            allows=seldom(
                [
                    Allow(
                        actions=["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
                        on=[group.log_group_arn],
                        why="a log stream is named after its interface; the group is the network's own",
                    ),
                    Allow(actions=["logs:DescribeLogGroups"], on=["*"], why="DescribeLogGroups takes no resource"),
                ],
                "VPC writes flow logs with it; the desk looks at no packet",
            ),
        )
        ec2.CfnFlowLog(
            self,
            "FlowLog",
            resource_id=self._vpc.ref,
            resource_type="VPC",
            traffic_type="ALL",
            log_destination_type="cloud-watch-logs",
            log_group_name=group.log_group_name,
            deliver_logs_permission_arn=writer.role_arn,
        )


def _id(service: str) -> str:
    return "".join(part.title() for part in service.split(".")) + "Endpoint"


def _https(*, cidr_ip: str, description: str) -> ec2.CfnSecurityGroup.EgressProperty:
    return ec2.CfnSecurityGroup.EgressProperty(
        ip_protocol="tcp", from_port=HTTPS, to_port=HTTPS, cidr_ip=cidr_ip, description=description
    )


def _own_account(actions: Sequence[str], more: dict[str, str]) -> dict[str, Any]:
    """A door for this account's roles alone, and of buckets and tables to this account's alone: what their policies
    allow is theirs, but no foreign credentials and no foreign bucket can carry data out."""
    condition = {"StringEquals": {"aws:PrincipalAccount": Aws.ACCOUNT_ID, **more}}
    statement = {"Effect": "Allow", "Principal": "*", "Action": list(actions), "Resource": "*", "Condition": condition}
    return {"Version": "2012-10-17", "Statement": [statement]}
