"""The lab's one key: administered by the account, used through named services alone, and by whom each service asks."""

from __future__ import annotations

from typing import Any

from aws_cdk import Aws, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from infra.config import Settings
from infra.naming import Names

# Who asks the key for a role of ours, EC2 for SageMaker's volumes. A role reads what S3 decrypts for it; a ciphertext
# that it carried off it cannot decrypt.
THROUGH = ("codebuild", "dynamodb", "ec2", "ecr", "glue", "lambda", "s3", "sagemaker", "sns")
# All but using it.
ADMINISTRATION = [
    *("kms:CancelKeyDeletion", "kms:CreateAlias", "kms:DeleteAlias", "kms:DescribeKey", "kms:DisableKey"),
    *("kms:EnableKey", "kms:EnableKeyRotation", "kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListAliases"),
    *("kms:ListGrants", "kms:ListKeyPolicies", "kms:ListResourceTags", "kms:PutKeyPolicy", "kms:RevokeGrant"),
    *("kms:ScheduleKeyDeletion", "kms:TagResource", "kms:UntagResource", "kms:UpdateAlias"),
    *("kms:UpdateKeyDescription", "kms:ListKeyRotations"),
]
USE = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]


class Encryption(Construct):
    """A customer-managed key that rotates each year. In its policy the resource `*` is the key itself."""

    def __init__(self, scope: Construct, id: str, *, settings: Settings, names: Names) -> None:
        super().__init__(scope, id)
        self._names = names
        self.key = kms.Key(
            self,
            "Key",
            alias=names.of("key"),
            description="Encrypts the lab's buckets, tables, logs and topics",
            enable_key_rotation=True,
            policy=iam.PolicyDocument(statements=[*self._account(), *self._services()]),
            removal_policy=RemovalPolicy.RETAIN if settings.keeps_data else RemovalPolicy.DESTROY,
        )

    def _account(self) -> list[iam.PolicyStatement]:
        """The account's root stands for its policies: what follows is the most that those can give."""
        account = iam.AccountRootPrincipal()
        services = [f"{service}.{self._names.region}.{Aws.URL_SUFFIX}" for service in THROUGH]
        return [
            _statement("AdministeredByTheAccount", account, ADMINISTRATION, {}),
            _statement("UsedThroughServices", account, USE, {"StringEquals": {"kms:ViaService": services}}),
            _statement(
                "GrantedToServices",
                account,
                ["kms:CreateGrant"],
                {"Bool": {"kms:GrantIsForAWSResource": "true"}, "StringEquals": {"kms:ViaService": services}},
            ),
        ]

    def _services(self) -> list[iam.PolicyStatement]:
        """Those that ask for themselves: each for what is ours, by its encryption context or source."""
        arn = self._names.arn
        prefix = self._names.prefix
        groups = [arn("logs", f"log-group:{group}") for group in (f"/aws/*/{prefix}-*", f"/{prefix}/*", "/aws-glue/*")]
        trails = arn("cloudtrail", f"trail/{prefix}-*")
        tell = [iam.ServicePrincipal(f"{name}.amazonaws.com") for name in ("cloudwatch", "budgets")]
        return [
            _statement(
                "LogGroupsOfTheLab",
                iam.ServicePrincipal(f"logs.{self._names.region}.amazonaws.com"),
                USE,
                {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": groups}},
            ),
            _statement(
                "AlarmsAndBudgetToTheTopic",
                iam.CompositePrincipal(*tell),
                ["kms:Decrypt", "kms:GenerateDataKey*"],
                {"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}},
            ),
            _statement(
                "TrailOfTheLab",
                iam.ServicePrincipal("cloudtrail.amazonaws.com"),
                ["kms:GenerateDataKey*"],
                {
                    "ArnLike": {"aws:SourceArn": trails},
                    "StringLike": {"kms:EncryptionContext:aws:cloudtrail:arn": trails},
                },
            ),
        ]


def _statement(sid: str, who: iam.IPrincipal, actions: list[str], when: dict[str, Any]) -> iam.PolicyStatement:
    return iam.PolicyStatement(sid=sid, principals=[who], actions=actions, resources=["*"], conditions=when)
