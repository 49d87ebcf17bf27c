"""The two container images, built in the account by CodeBuild so that no one needs Docker.

An image's tag is the hash of its build context. The flow asks ECR for the tag and starts the build when it is absent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aws_cdk import Aws, RemovalPolicy
from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk.region_info import RegionInfo
from constructs import Construct

from infra import archives, bundles
from infra.environments import ConfigError
from infra.naming import Names
from infra.permissions import Allow, role, service
from infra.staging import Staging, object_arn

# AWS patches this image until 2027-07-20; it brings Python 3.12, PyTorch and the SageMaker Training Toolkit.
TRAINING_IMAGE = "pytorch:2.13-cpu-amzn2023-sagemaker"
PYTHON_IMAGE = "public.ecr.aws/docker/library/python:3.12-slim-bookworm"

JOB_DOCKERFILE = """\
FROM {base}
COPY requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir -r /tmp/requirements.txt && rm /tmp/requirements.txt
ENV ORT_DISABLE_TELEMETRY=1 PYTHONUNBUFFERED=1
"""

# SageMaker appends the word `serve` to the entry point's arguments.
SERVE_DOCKERFILE = """\
FROM {base}
COPY requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir -r /tmp/requirements.txt && rm /tmp/requirements.txt && useradd --system lab
COPY models /opt/program/models
COPY pipelines /opt/program/pipelines
WORKDIR /opt/program
ENV ORT_DISABLE_TELEMETRY=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true
USER lab
EXPOSE 8080
ENTRYPOINT ["python", "-m", "pipelines.jobs.serve"]
"""


@dataclass(frozen=True)
class Wheels:
    """Where a build also puts the wheels of a Glue job that has no way to a package index."""

    bucket: s3.IBucket
    key: str

    @property
    def uri(self) -> str:
        """`s3://<bucket>/<key>`."""
        return f"s3://{self.bucket.bucket_name}/{self.key}"

    def put(self, key: kms.IKey) -> list[Allow]:
        """What the build needs for it."""
        return [
            Allow(actions=["s3:PutObject"], on=[f"{self.bucket.bucket_arn}/{self.key}"]),
            Allow(
                actions=["s3:AbortMultipartUpload"],
                on=[f"{self.bucket.bucket_arn}/{self.key}"],
                unused="an upload in parts that fails is dropped; no build breaks one",
            ),
            Allow(actions=["kms:GenerateDataKey"], on=[key.key_arn]),
            Allow(
                actions=["kms:Decrypt"],
                on=[key.key_arn],
                unused="S3 decrypts the parts of an upload in several parts, as the wheels are in AWS",
            ),
        ]


class Image(Construct):
    """A repository, the project that fills it, and the tag that the present sources ask for.

    on_training_image   it is built on AWS's own training image, which lies in a registry of AWS's
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        name: str,
        names: Names,
        key: kms.IKey,
        context: bytes,
        staging: Staging,
        wheels: Wheels | None = None,
        on_training_image: bool = False,
    ) -> None:
        super().__init__(scope, id)
        self.repository_name = names.of(name)
        self.project_name = names.of(f"{name}-image")
        self.tag = hashlib.sha256(context).hexdigest()[:16]
        self._names = names
        source = staging.asset(self, "Context", staging.write(f"{name}-image.zip", context))
        repository = ecr.CfnRepository(
            self,
            "Repository",
            repository_name=self.repository_name,
            image_tag_mutability="IMMUTABLE",
            image_scanning_configuration=ecr.CfnRepository.ImageScanningConfigurationProperty(scan_on_push=True),
            encryption_configuration=ecr.CfnRepository.EncryptionConfigurationProperty(
                encryption_type="KMS", kms_key=key.key_arn
            ),
            empty_on_delete=True,
            lifecycle_policy=ecr.CfnRepository.LifecyclePolicyProperty(lifecycle_policy_text=_keep_last(10)),
        )
        self.repository_arn = repository.attr_arn
        group = logs.LogGroup(
            self,
            "Logs",
            log_group_name=f"/aws/codebuild/{self.project_name}",
            encryption_key=key,
            retention=logs.RetentionDays.ONE_MONTH,
            removal_policy=RemovalPolicy.DESTROY,
        )
        builder = role(
            self,
            "Role",
            trusts=service("codebuild.amazonaws.com", account=Aws.ACCOUNT_ID),
            description=f"Builds and pushes the {name} image",
            allows=[
                Allow(actions=["s3:GetObject"], on=[object_arn(source)]),
                Allow(
                    actions=["s3:GetObjectVersion"],
                    on=[object_arn(source)],
                    unused="CodeBuild reads a version of its source where a build names one",
                ),
                Allow(
                    actions=["logs:CreateLogStream", "logs:PutLogEvents"],
                    on=[group.log_group_arn],
                    why="a log stream's name is the build's; the group is this project's own",
                ),
                Allow(actions=["ecr:GetAuthorizationToken"], on=["*"], why="GetAuthorizationToken has no resource"),
                Allow(actions=PUSH, on=[self.repository_arn]),
                *([Allow(actions=PULL, on=[self._base_images()])] if on_training_image else []),
                *(wheels.put(key) if wheels else []),
            ],
        )
        self.project = codebuild.CfnProject(
            self,
            "Project",
            name=self.project_name,
            description=f"Builds the {name} image from its staged context",
            service_role=builder.role_arn,
            encryption_key=key.key_arn,
            timeout_in_minutes=45,
            artifacts=codebuild.CfnProject.ArtifactsProperty(type="NO_ARTIFACTS"),
            source=codebuild.CfnProject.SourceProperty(
                type="S3", location=f"{source.s3_bucket_name}/{source.s3_object_key}"
            ),
            environment=codebuild.CfnProject.EnvironmentProperty(
                type="LINUX_CONTAINER",
                compute_type="BUILD_GENERAL1_MEDIUM",
                image="aws/codebuild/amazonlinux-x86_64-standard:5.0",
                privileged_mode=True,
                environment_variables=[
                    codebuild.CfnProject.EnvironmentVariableProperty(name=name, value=value)
                    for name, value in (
                        ("IMAGE", self.uri),
                        ("REGISTRIES", self._registries()),
                        *([("WHEELS", wheels.uri)] if wheels else []),
                    )
                ],
            ),
            logs_config=codebuild.CfnProject.LogsConfigProperty(
                cloud_watch_logs=codebuild.CfnProject.CloudWatchLogsConfigProperty(
                    status="ENABLED", group_name=group.log_group_name
                )
            ),
        )

    @property
    def uri(self) -> str:
        """`<registry>/<repository>:<tag>`."""
        registry = f"{Aws.ACCOUNT_ID}.dkr.ecr.{self._names.region}.{Aws.URL_SUFFIX}"
        return f"{registry}/{self.repository_name}:{self.tag}"

    def find(self) -> Allow:
        """Ask whether the tag is there."""
        return Allow(actions=["ecr:DescribeImages"], on=[self.repository_arn])

    def build(self) -> list[Allow]:
        """Start a build of the tag and follow it."""
        project = [self._names.arn("codebuild", f"project/{self.project_name}")]
        ended = "Step Functions ends the build of an execution that is stopped or runs out of time"
        return [
            Allow(actions=["codebuild:BatchGetBuilds", "codebuild:StartBuild"], on=project),
            Allow(actions=["codebuild:StopBuild"], on=project, unused=ended),
        ]

    def pull(self) -> list[Allow]:
        """Pull the image, as the role of a job or an endpoint."""
        return [
            Allow(actions=["ecr:GetAuthorizationToken"], on=["*"], why="GetAuthorizationToken has no resource"),
            Allow(actions=PULL, on=[self.repository_arn]),
        ]

    def _base_images(self) -> str:
        account = _training_account(self._names.region)
        return f"arn:{Aws.PARTITION}:ecr:{self._names.region}:{account}:repository/pytorch"

    def _registries(self) -> str:
        own = f"{Aws.ACCOUNT_ID}.dkr.ecr.{self._names.region}.{Aws.URL_SUFFIX}"
        return f"{own} {training_registry(self._names.region)}"


PULL = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
# Source: "IAM permissions for pushing an image to an Amazon ECR private repository".
PUSH = [
    *("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:CompleteLayerUpload"),
    *("ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart"),
]


def training_registry(region: str) -> str:
    """The registry of AWS's own training images, which differs by region."""
    return f"{_training_account(region)}.dkr.ecr.{region}.{RegionInfo.get(region).domain_suffix}"


def job_context(staging: Staging, region: str, formats: Iterable[str] = (), *, wheels: str = "") -> bytes:
    """Build context of the image of all training and processing jobs: their code arrives at run time.

    `wheels` are pins (the text of a requirements.txt) that the build also downloads, for Glue.
    """
    dockerfile = JOB_DOCKERFILE.format(base=f"{training_registry(region)}/{TRAINING_IMAGE}")
    wanted = bundles.requirements(staging.root, "job", bundles.exporting(formats))
    return _context(dockerfile, wanted, {WHEELS: wheels.encode()} if wheels else None)


def serve_context(staging: Staging, formats: Iterable[str] = ()) -> bytes:
    """Build context of the endpoint's image, which carries its code and the engines of `formats`."""
    bundle = bundles.running(bundles.SERVE, formats)
    wanted = bundles.requirements(staging.root, "serve", bundle.extras)
    return _context(SERVE_DOCKERFILE.format(base=PYTHON_IMAGE), wanted, bundle.files(staging.root))


def _context(dockerfile: str, requirements: bytes, files: dict[str, bytes] | None = None) -> bytes:
    return archives.zipped(
        {
            "Dockerfile": dockerfile.encode(),
            "buildspec.yml": json.dumps(_buildspec(wheels=WHEELS in (files or {})), indent=1).encode(),
            "requirements.txt": requirements,
            **(files or {}),
        }
    )


def _buildspec(*, wheels: bool) -> dict[str, Any]:
    """YAML admits JSON. Two executions may ask for one tag at once: the second push meets an immutable tag, which is
    fine. The image comes last, as its tag is what the flow looks for."""
    login = (
        'for registry in $REGISTRIES; do aws ecr get-login-password --region "$AWS_REGION"'
        ' | docker login --username AWS --password-stdin "$registry"; done'
    )
    image = [
        'docker build --tag "$IMAGE" .',
        'docker push "$IMAGE" || docker manifest inspect "$IMAGE" > /dev/null',
    ]
    return {
        "version": 0.2,
        "phases": {
            "pre_build": {"commands": [login]},
            "build": {"commands": [*(GATHER if wheels else []), *image]},
        },
    }


# Glue 5.1 runs Python 3.11; the folder's name and the list in it are what Glue looks for in a zip of wheels.
WHEELS = "glue-requirements.txt"
GATHER = [
    f"python3 -m pip download --quiet --only-binary=:all: --python-version 3.11 --platform manylinux2014_x86_64"
    f" --platform manylinux_2_28_x86_64 --dest wheels --requirement {WHEELS}",
    f"cp {WHEELS} wheels/requirements.txt",
    'zip --quiet --recurse-paths wheels.zip wheels && aws s3 cp wheels.zip "$WHEELS"',
]


def _training_account(region: str) -> str:
    account = RegionInfo.get(region).dlc_repository_account
    if account is None:
        raise ConfigError(f"lab.toml: [lab] region = '{region}' is not allowed; AWS publishes no training images there")
    return account


def _keep_last(count: int) -> str:
    rule = {
        "rulePriority": 1,
        "description": f"Keep the last {count} images",
        "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": count},
        "action": {"type": "expire"},
    }
    return json.dumps({"rules": [rule]})
