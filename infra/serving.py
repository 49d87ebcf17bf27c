"""What an endpoint runs as, its role and its shape.

No endpoint stands in the template: there is nothing to serve before a person approves a model, and then the release
flow creates it. The default shape is serverless, which costs nothing when idle.
"""

from __future__ import annotations

from typing import Any

from aws_cdk import Aws
from constructs import Construct

from infra.config import Settings
from infra.images import Image
from infra.lake import Lake
from infra.naming import Names
from infra.network import Network
from infra.permissions import Allow, role, service


class Serving(Construct):
    """The endpoint's role, name and production variant."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: Settings,
        names: Names,
        lake: Lake,
        network: Network,
        image: Image,
    ) -> None:
        super().__init__(scope, id)
        self._settings, self._network = settings.serving, network
        self._bucket = lake.data.bucket_name
        self.endpoint_name = names.of("endpoint")
        self.namespace = names.namespace("Endpoint")
        self.volume_key = None if self._settings.serverless else lake.key.key_arn
        self.role = role(
            self,
            "Role",
            trusts=service("sagemaker.amazonaws.com", account=Aws.ACCOUNT_ID),
            description="Serves released models",
            allows=[
                lake.read("releases/"),
                lake.list_keys("releases/"),
                lake.read_key(),
                *self._kept(lake),
                *image.pull(),
                *network.attach(),
                Allow(
                    actions=[
                        "logs:CreateLogGroup",
                        "logs:CreateLogStream",
                        "logs:DescribeLogStreams",
                        "logs:PutLogEvents",
                    ],
                    on=[names.log_group_arn(f"/aws/sagemaker/Endpoints/{self.endpoint_name}*")],
                    why="SageMaker names the streams after the instance",
                ),
                Allow(
                    actions=["cloudwatch:PutMetricData"],
                    on=["*"],
                    when={"StringLike": {"cloudwatch:namespace": "/aws/sagemaker/*"}},
                    why="PutMetricData has no resource; the namespace is fixed by condition",
                ),
            ],
        )

    def _kept(self, lake: Lake) -> list[Allow]:
        """What capture and batch transform read and write."""
        capture = [lake.write("capture/"), lake.use_key()] if self._settings.capture_percent else []
        batch = [lake.read("batch/input/"), lake.list_keys("batch/input/"), lake.write("batch/output/")]
        return capture + (batch if self._settings.batch else [])

    def capture(self) -> dict[str, Any] | None:
        """CreateEndpointConfig's DataCaptureConfig; None when nothing is captured."""
        if not self._settings.capture_percent:
            return None
        return {
            "EnableCapture": True,
            "InitialSamplingPercentage": self._settings.capture_percent,
            "DestinationS3Uri": f"s3://{self._bucket}/capture",
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            "CaptureContentTypeHeader": {
                "CsvContentTypes": ["text/csv"],
                "JsonContentTypes": ["application/json"],
            },
        }

    def scaling(self) -> tuple[int, int] | None:
        """Most instances, and requests a minute that each is meant for; None when one instance is all."""
        most = self._settings.max_instances
        return None if most == 1 else (most, self._settings.requests_per_instance)

    def environment(self) -> dict[str, str]:
        """What the container is told: where its figures go, which its log carries in the embedded metric format."""
        return {
            "ORT_DISABLE_TELEMETRY": "1",
            "METRICS_NAMESPACE": self.namespace,
            "ENDPOINT_NAME": self.endpoint_name,
        }

    def isolation(self) -> dict[str, Any]:
        """CreateModel's part on the network. The container calls nothing; serverless takes neither setting."""
        if self._settings.serverless:
            return {}
        return {"EnableNetworkIsolation": True, **self._network.for_sagemaker()}

    def variant(self) -> dict[str, Any]:
        """The part of a ProductionVariant that does not depend on the model."""
        if self._settings.serverless:
            return {
                "ServerlessConfig": {
                    "MemorySizeInMB": self._settings.memory_mb,
                    "MaxConcurrency": self._settings.max_concurrency,
                }
            }
        return {"InstanceType": self._settings.instance, "InitialInstanceCount": 1, "InitialVariantWeight": 1.0}
