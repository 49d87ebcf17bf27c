"""A Lambda function with its bundle, its own role and its encrypted, expiring log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.naming import Names
from infra.network import Network
from infra.permissions import Allow, role, seldom


class Function(Construct):
    """One function, named after its bundle: `gate` is `<prefix>-gate` with `pipelines.functions.gate.handler`.

    `unused` says when it is called, where a usual run does not call it.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        name: str,
        names: Names,
        code: Path,
        key: kms.IKey,
        network: Network,
        environment: Mapping[str, str],
        allows: Sequence[Allow],
        description: str,
        unused: str = "",
        memory_mb: int = 256,
        timeout_s: int = 60,
    ) -> None:
        super().__init__(scope, id)
        self.name = names.of(name)
        group_name = f"/aws/lambda/{names.of(name)}"
        group = logs.LogGroup(
            self,
            "Logs",
            log_group_name=group_name,
            encryption_key=key,
            retention=logs.RetentionDays.THREE_MONTHS,
            removal_policy=RemovalPolicy.DESTROY,
        )
        write_logs = Allow(
            actions=["logs:CreateLogStream", "logs:PutLogEvents"],
            on=[names.log_group_arn(group_name)],
            why="a log stream's name is chosen by Lambda; the group is this function's own",
        )
        # Lambda decrypts the environment in the name of the function's role.
        read_environment = Allow(actions=["kms:Decrypt"], on=[key.key_arn])
        every = [write_logs, read_environment, *network.attach(), *allows]
        self.role = role(
            self,
            "Role",
            trusts=iam.ServicePrincipal("lambda.amazonaws.com"),
            allows=seldom(every, unused) if unused else every,
            description=description,
        )
        self.function = lambda_.Function(
            self,
            "Function",
            function_name=names.of(name),
            description=description,
            runtime=lambda_.Runtime.PYTHON_3_14,
            architecture=lambda_.Architecture.ARM_64,
            handler=f"pipelines.functions.{name}.handler",
            code=lambda_.Code.from_asset(str(code)),
            role=self.role,
            environment=dict(environment),
            environment_encryption=key,
            memory_size=memory_mb,
            timeout=Duration.seconds(timeout_s),
        )
        self.function.node.add_dependency(group)
        resource = self.function.node.default_child
        assert isinstance(resource, lambda_.CfnFunction)
        resource.vpc_config = network.for_function()
