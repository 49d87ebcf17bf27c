"""The lab's one key, and which service may use it for what."""

from __future__ import annotations

from aws_cdk import Aws, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from infra.config import Settings
from infra.naming import Names


class Encryption(Construct):
    """A customer-managed key that rotates each year; roles reach it by their own policies, services by its policy."""

    def __init__(self, scope: Construct, id: str, *, settings: Settings, names: Names) -> None:
        super().__init__(scope, id)
        self._names = names
        self.key = kms.Key(
            self,
            "Key",
            alias=names.of("key"),
            description="Encrypts the lab's buckets, tables, logs and topics",
            enable_key_rotation=True,
            removal_policy=RemovalPolicy.RETAIN if settings.keeps_data else RemovalPolicy.DESTROY,
        )
        self._log_groups()
        self._topic()

    def _log_groups(self) -> None:
        groups = [f"/aws/*/{self._names.prefix}-*", f"/{self._names.prefix}/*", "/aws-glue/*"]
        self.key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="LogGroupsOfTheLab",
                principals=[iam.ServicePrincipal(f"logs.{self._names.region}.amazonaws.com")],
                actions=["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"],
                resources=["*"],
                conditions={
                    "ArnLike": {
                        "kms:EncryptionContext:aws:logs:arn": [
                            self._names.arn("logs", f"log-group:{group}") for group in groups
                        ]
                    }
                },
            )
        )

    def _topic(self) -> None:
        self.key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AlarmsAndBudgetToTheTopic",
                principals=[iam.ServicePrincipal(f"{name}.amazonaws.com") for name in ("cloudwatch", "budgets")],
                actions=["kms:Decrypt", "kms:GenerateDataKey*"],
                resources=["*"],
                conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}},
            )
        )
