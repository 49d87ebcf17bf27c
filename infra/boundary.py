"""How far any role of the stack could ever go, whatever its own policy says.

A permission boundary grants nothing: a call needs the role's policy and this. So a statement that someone adds to a
role, by mistake or after deployment, stays within one region, within what bears the stack's prefix where a name is ours
to choose, and away from identities, policies of keys and buckets, audit trails, notebooks, and the organisation.
"""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.naming import Names
from infra.permissions import Allow, acknowledge

BY_NAME = "everything of the stack bears its prefix; what follows it is the resource's own"
BY_REGION = "these services choose ids themselves or take no resource; the region is fixed by condition"


class Boundary(Construct):
    """The managed policy, set as the boundary of every role below `scope`, those of a later CDK construct included."""

    def __init__(self, scope: Construct, id: str, *, names: Names, more: Sequence[Allow] = ()) -> None:
        """`more` is what a role of this stack may reach outside of it."""
        super().__init__(scope, id)
        self._names = names
        limits = [*self._ours(), self._regional(), *self._identities(), *more]
        self.policy = iam.ManagedPolicy(
            self,
            "Policy",
            managed_policy_name=names.of("boundary"),
            description="The most that any role of this stack may ever do",
            statements=[limit.statement() for limit in limits],
        )
        acknowledge(self.policy, limits)
        iam.PermissionsBoundary.of(scope).apply(self.policy)

    def _ours(self) -> list[Allow]:
        """What lies under names of ours, its data alone: no bucket, table, topic or function is made or changed."""
        arn, prefix = self._names.arn, self._names.prefix
        buckets = [f"arn:{Aws.PARTITION}:s3:::{name}" for name in (f"{prefix}-*", self._staged())]
        return [
            Allow(
                actions=[
                    *("s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetBucketLocation", "s3:GetObject"),
                    *("s3:GetObjectVersion", "s3:ListBucket", "s3:PutObject"),
                ],
                on=buckets,
                why=BY_NAME,
            ),
            Allow(
                actions=[
                    *("dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query", "dynamodb:Scan", "dynamodb:UpdateItem"),
                    *("lambda:InvokeFunction", "sns:Publish", "sqs:SendMessage", "states:StartExecution"),
                ],
                on=[
                    arn("dynamodb", f"table/{prefix}-*"),
                    arn("lambda", f"function:{prefix}-*"),
                    arn("sns", f"{prefix}-*"),
                    arn("sqs", f"{prefix}-*"),
                    arn("states", f"stateMachine:{prefix}-*"),
                ],
                why=BY_NAME,
            ),
        ]

    def _regional(self) -> Allow:
        return Allow(
            actions=[
                *("application-autoscaling:PutScalingPolicy", "application-autoscaling:RegisterScalableTarget"),
                *("cloudwatch:PutMetricData", "codebuild:*Build*"),
                *("ec2:*NetworkInterface*", "ec2:CreateTags", "ec2:Describe*"),
                *("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:CompleteLayerUpload", "ecr:Describe*"),
                *("ecr:Get*", "ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart"),
                *("events:DescribeRule", "events:PutRule", "events:PutTargets", "glue:*JobRun*", "glue:GetConnection"),
                *("greengrass:Create*", "greengrass:Describe*", "greengrass:Get*", "greengrass:List*"),
                *("iot:*Job*", "iot:Attach*", "iot:CreateThing", "iot:Describe*", "iot:Get*", "iot:List*"),
                *("iot:RegisterThing", "iot:UpdateCertificate", "iot:UpdateThing"),
                *("kms:CreateGrant", "kms:Decrypt", "kms:GenerateDataKey"),
                *("logs:AssociateKmsKey", "logs:Create*", "logs:Describe*", "logs:Get*", "logs:List*", "logs:Put*"),
                *("logs:DeleteLogDelivery", "logs:UpdateLogDelivery"),
                *("sagemaker:*Endpoint*", "sagemaker:*Job*", "sagemaker:*Model*", "sagemaker:AddTags"),
                *("sagemaker:CallMlflowAppApi", "xray:Get*", "xray:Put*"),
            ],
            on=["*"],
            why=BY_REGION,
            when={"StringEquals": {"aws:RequestedRegion": self._names.region}},
        )

    def _identities(self) -> list[Allow]:
        """Hand roles of ours to SageMaker, and let scaling have its own; no role, user or policy is made or changed."""
        account = f"arn:{Aws.PARTITION}:iam::{Aws.ACCOUNT_ID}:role"
        scaling = "aws-service-role/sagemaker.application-autoscaling.amazonaws.com"
        return [
            Allow(
                actions=["iam:PassRole"],
                on=[f"{account}/{self._names.prefix}-*"],
                why=BY_NAME,
                when={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
            ),
            Allow(
                actions=["iam:CreateServiceLinkedRole"],
                on=[f"{account}/{scaling}/*"],
                why="AWS names the one role of that path",
            ),
        ]

    def _staged(self) -> str:
        """CDK's bootstrap bucket of this account and region, whatever its qualifier, and what lies in it."""
        return f"cdk-*-assets-{Aws.ACCOUNT_ID}-{self._names.region}*"
