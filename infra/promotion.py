"""One approved model across environments: the source's stack lets the others read, the target's takes a copy.

An environment that lies in the same account needs no policy of the source. Another account is named, and in it only the
function that copies; it may read releases and their checkpoints, and describe model packages, and nothing else.
"""

from __future__ import annotations

from typing import Any

from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra import bundles
from infra.config import Settings
from infra.functions import Function
from infra.images import Image
from infra.lake import Lake
from infra.naming import Names
from infra.network import Network
from infra.permissions import Allow
from infra.staging import Staging
from infra.tables import Place
from infra.training import Training

SHARED = ("releases/*", "runs/*/train/*/output/model.tar.gz")
ROLE = "promote-role"
LOOK = ("sagemaker:DescribeModelPackage", "sagemaker:ListModelPackages")


def share(*, settings: Settings, names: Names, lake: Lake, training: Training) -> None:
    """Lets the environments that take models from this one read them, where they lie in other accounts."""
    takers = [
        place
        for place in settings.places.values()
        if place.promote_from == settings.lab.environment and place.account not in (None, settings.lab.account)
    ]
    if not takers:
        return
    roles = [_role_arn(settings, place) for place in takers]
    only: dict[str, Any] = {"ArnEquals": {"aws:PrincipalArn": roles}}
    accounts: list[iam.IPrincipal] = [iam.AccountPrincipal(place.account) for place in takers]
    lake.data.add_to_resource_policy(
        iam.PolicyStatement(
            sid="OtherEnvironmentsTakeReleases",
            principals=accounts,
            actions=["s3:GetObject"],
            resources=[f"{lake.data.bucket_arn}/{pattern}" for pattern in SHARED],
            conditions=only,
        )
    )
    through = {"StringEquals": {"kms:ViaService": f"s3.{settings.lab.region}.amazonaws.com"}}
    lake.key.add_to_resource_policy(
        iam.PolicyStatement(
            sid="OtherEnvironmentsDecryptReleases",
            principals=accounts,
            actions=["kms:Decrypt"],
            resources=["*"],
            conditions={**only, **through},
        )
    )
    group = names.arn("sagemaker", f"model-package-group/{training.group_name}")
    packages = names.arn("sagemaker", f"model-package/{training.group_name}/*")
    statement = {
        "Sid": "OtherEnvironmentsLook",
        "Effect": "Allow",
        "Principal": {"AWS": [f"arn:{Aws.PARTITION}:iam::{place.account}:root" for place in takers]},
        "Action": list(LOOK),
        "Resource": [group, packages],
        "Condition": only,
    }
    training.packages.model_package_group_policy = {"Version": "2012-10-17", "Statement": [statement]}


def _role_arn(settings: Settings, place: Place) -> str:
    return f"arn:{Aws.PARTITION}:iam::{place.account}:role/{settings.lab.name}-{place.name}-{ROLE}"


def reads(settings: Settings) -> list[Allow]:
    """What the taking function may read of the other environment: packages, releases, checkpoints."""
    if not settings.lab.promote_from:
        return []
    source = settings.places[settings.lab.promote_from]
    models = f"arn:{Aws.PARTITION}:sagemaker:{source.region}:{source.account or Aws.ACCOUNT_ID}"
    group = f"{settings.lab.name}-{source.name}-models"
    return [
        Allow(
            actions=list(LOOK),
            on=[f"{models}:model-package-group/{group}", f"{models}:model-package/{group}/*"],
            why="SageMaker numbers the packages of a group",
        ),
        Allow(
            actions=["s3:GetObject"],
            on=_shared(settings, source),
            why="releases and runs are named when they are made, in the other environment",
        ),
        Allow(
            actions=["kms:Decrypt"],
            on=[f"arn:{Aws.PARTITION}:kms:{source.region}:{source.account or Aws.ACCOUNT_ID}:key/*"],
            when={"StringEquals": {"kms:ViaService": f"s3.{source.region}.amazonaws.com"}},
            why="the other environment's key has no id that is known here; its policy names this role",
        ),
    ]


def _shared(settings: Settings, source: Place) -> list[str]:
    """Objects of the source's data bucket."""
    bucket = f"{settings.lab.name}-{source.name}-data-{source.account or Aws.ACCOUNT_ID}-{source.region}"
    return [f"arn:{Aws.PARTITION}:s3:::{bucket}/{pattern}" for pattern in SHARED]


class Promotion(Construct):
    """The function that takes an approved model over from the environment that `[lab] promote_from` names."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: Settings,
        names: Names,
        lake: Lake,
        network: Network,
        training: Training,
        image: Image,
        staging: Staging,
    ) -> None:
        super().__init__(scope, id)
        source = settings.places[str(settings.lab.promote_from)]
        if source.account not in (None, settings.lab.account):
            network.also_read(_shared(settings, source))
        own_group = names.arn("sagemaker", f"model-package-group/{training.group_name}")
        own_packages = names.arn("sagemaker", f"model-package/{training.group_name}/*")
        looked_at, *_ = reads(settings)
        self.function = Function(
            self,
            "Promote",
            name=bundles.PROMOTE.name,
            names=names,
            code=staging.archive(bundles.PROMOTE),
            key=lake.key,
            network=network,
            environment={
                "SOURCE_GROUP": looked_at.on[0],
                "SOURCE_REGION": source.region,
                "PACKAGE_GROUP": training.group_name,
                "SERVE_IMAGE": image.uri,
                "BUCKET": lake.data.bucket_name,
                "TABLE": lake.runs.table_name,
            },
            allows=[
                *reads(settings),
                Allow(actions=["sagemaker:CreateModelPackage"], on=[own_group]),
                Allow(
                    actions=["sagemaker:AddTags", "sagemaker:CreateModelPackage", *LOOK],
                    on=[own_packages],
                    why="SageMaker numbers the packages of a group",
                ),
                *image.pull(),
                lake.read("releases/"),  # SageMaker looks at the archive in the name of who registers it
                lake.write("releases/", "runs/"),
                lake.use_key(),
                Allow(actions=["dynamodb:PutItem"], on=[lake.runs.table_arn]),
            ],
            description=f"Takes an approved model over from {source.name}",
            memory_mb=1024,
            timeout_s=900,
        )
        named = self.function.role.node.default_child
        assert isinstance(named, iam.CfnRole)
        named.role_name = names.of(ROLE)
