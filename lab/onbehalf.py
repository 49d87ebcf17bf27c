"""What a service does with a role that was passed to it, before and beside the code that it runs.

Source: the role pages of SageMaker, CodeBuild, Step Functions and CloudWatch Logs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab import needs
from lab.needs import Need

if TYPE_CHECKING:
    from lab.engine import Engine

DELIVERY = (
    "CreateLogDelivery", "GetLogDelivery", "UpdateLogDelivery", "DeleteLogDelivery", "ListLogDeliveries",
    "PutResourcePolicy", "DescribeResourcePolicies", "DescribeLogGroups",
)  # fmt: skip
TRACING = ("PutTraceSegments", "PutTelemetryRecords", "GetSamplingRules", "GetSamplingTargets")
PUSH = (
    "BatchCheckLayerAvailability", "BatchGetImage", "CompleteLayerUpload", "InitiateLayerUpload", "PutImage",
    "UploadLayerPart",
)  # fmt: skip


def writes_log(engine: Engine, group: str, stream: str, *more: str) -> list[Need]:
    """Writing a log stream; `more` are further actions on it (CreateLogGroup, DescribeLogStreams)."""
    arn = f"arn:aws:logs:{engine.region}:{engine.account}:log-group:{group}:log-stream:"
    wanted = [Need(f"logs:{action}", arn + stream) for action in ("CreateLogStream", "PutLogEvents")]
    return wanted + [Need(f"logs:{action}", arn) for action in more]


def pushes(engine: Engine, repository: str) -> list[Need]:
    """Pushing an image to a repository of this account."""
    arn = f"arn:aws:ecr:{engine.region}:{engine.account}:repository/{repository}"
    return [Need("ecr:GetAuthorizationToken", "*"), *(Need(f"ecr:{action}", arn) for action in PUSH)]


def runs(engine: Engine, image: str, namespace: str, volume_key: str | None = None) -> list[Need]:
    """What SageMaker does with the role of a job or an endpoint before its own code runs.

    `volume_key` is the ARN of the KMS key of its disks. Source: "How to use SageMaker AI execution roles".
    """
    wanted = [*needs.pulls(engine, image), needs.metrics(namespace)]
    if volume_key:
        about = {
            "kms:viaservice": [f"sagemaker.{engine.region}.amazonaws.com"],
            "kms:grantisforawsresource": ["true"],
        }
        wanted.append(Need("kms:CreateGrant", volume_key, about, both=True))
    return wanted
