"""The functions that the state machines call, each with what it needs and no more."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from constructs import Construct

from infra import bundles
from infra.bundles import Bundle
from infra.config import Settings
from infra.fleet import Fleet
from infra.functions import Function
from infra.images import Image
from infra.lake import Lake
from infra.naming import Names
from infra.network import Network
from infra.permissions import Allow, seldom
from infra.serving import Serving
from infra.staging import Staging, object_arn
from infra.training import Training

FAILED = "called when a run fails, is refused, or ends by itself"
AGAIN = "read when the groups have a deployment from an earlier release"


class Decisions(Construct):
    """The five functions, by name in `all`."""

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
        serving: Serving,
        serve_image: Image,
        fleet: Fleet,
        staging: Staging,
    ) -> None:
        super().__init__(scope, id)
        self._names, self._lake, self._network, self._staging = names, lake, network, staging
        self._group = training.group_name
        made = (
            self._gate(settings),
            self._register(serve_image),
            self._failure(),
            self._release(settings, serving, fleet),
            self._verdict(settings, fleet),
        )
        self.all = {function.node.id.lower(): function for function in made}

    def arns(self) -> dict[str, str]:
        """ARN of each function."""
        return {name: function.function.function_arn for name, function in self.all.items()}

    def call(self, *functions: str) -> Allow:
        """Call some of them."""
        arns = self.arns()
        return Allow(actions=["lambda:InvokeFunction"], on=[arns[name] for name in functions])

    def _function(
        self,
        bundle: Bundle,
        *,
        environment: Mapping[str, str],
        allows: Sequence[Allow],
        description: str,
        unused: str = "",
        timeout_s: int = 60,
    ) -> Function:
        return Function(
            self,
            bundle.name.title(),
            name=bundle.name,
            names=self._names,
            code=self._staging.archive(bundle),
            key=self._lake.key,
            network=self._network,
            environment=environment,
            allows=allows,
            unused=unused,
            description=description,
            timeout_s=timeout_s,
        )

    def _gate(self, settings: Settings) -> Function:
        return self._function(
            bundles.GATE,
            environment={
                "GATE": json.dumps(settings.resolved()["gate"], sort_keys=True),
                "TARGETS": json.dumps(settings.resolved()["targets"], sort_keys=True),
            },
            allows=[self._lake.read("runs/"), self._lake.write("runs/"), self._lake.use_key()],
            description="Holds a run's figures against the success criteria",
        )

    def _register(self, image: Image) -> Function:
        group_arn = self._names.arn("sagemaker", f"model-package-group/{self._group}")
        return self._function(
            bundles.REGISTER,
            environment={"PACKAGE_GROUP": self._group, "SERVE_IMAGE": image.uri},
            allows=[
                self._lake.read("runs/", "exports/", "releases/"),
                self._lake.write("releases/"),
                Allow(actions=["sagemaker:CreateModelPackage"], on=[group_arn]),
                self._lake.use_key(),
                self._packages("CreateModelPackage", "ListModelPackages"),
                *seldom([self._packages("DescribeModelPackage")], "a release that was registered before is looked up"),
                *image.pull(),
            ],
            description="Publishes and registers a gated release once per version, pending approval",
            timeout_s=240,  # files are copied; its state waits five minutes
        )

    def _failure(self) -> Function:
        return self._function(
            bundles.FAILURE,
            environment={"TABLE": self._lake.runs.table_name},
            allows=[self._rows(), self._packages("DescribeModelPackage")],
            description="Writes why a run failed or was refused into its row",
            unused=FAILED,
        )

    def _release(self, settings: Settings, serving: Serving, fleet: Fleet) -> Function:
        component = f"components:{fleet.model_component}"
        return self._function(
            bundles.RELEASE,
            environment={
                "ENDPOINT_NAME": serving.endpoint_name,
                "MODEL_COMPONENT": fleet.model_component,
                "RUNTIME_COMPONENT": fleet.runtime_component,
                "STAGER_ARTIFACT": fleet.bundle_uri,
                "TABLE": self._lake.runs.table_name,
                "PUBLIC_KEY": settings.edge.public_key,
                "GROUPS": json.dumps({name: fleet.group_arn(name) for name in ("canary", "fleet")}),
            },
            allows=[
                self._lake.read("releases/"),
                self._lake.read_key(),
                Allow(actions=["s3:GetObject"], on=[object_arn(fleet.bundle)]),
                self._packages("DescribeModelPackage"),
                Allow(
                    actions=["sagemaker:DescribeEndpoint"],
                    on=[self._names.arn("sagemaker", f"endpoint/{serving.endpoint_name}")],
                ),
                Allow(actions=["greengrass:CreateComponentVersion"], on=[self._names.arn("greengrass", component)]),
                Allow(
                    actions=["greengrass:DescribeComponent"],
                    on=[self._names.arn("greengrass", f"{component}:versions:*")],
                    why="a component's version is the release's, not known at deployment",
                ),
                *self._deployments(fleet),
                self._rows(),
            ],
            description="Prepares, publishes and records a release",
        )

    def _deployments(self, fleet: Fleet) -> list[Allow]:
        """Read what was deployed to the two groups. Greengrass looks at the job behind with the caller's rights."""
        arn = self._names.arn
        return [
            Allow(actions=["greengrass:ListDeployments"], on=["*"], why="ListDeployments takes no resource"),
            Allow(
                actions=["greengrass:GetDeployment"],
                on=[arn("greengrass", "deployments:*")],
                why="Greengrass makes a deployment's id",
                unused=AGAIN,
            ),
            Allow(
                actions=["iot:DescribeJob"],
                on=[arn("iot", "job/*")],
                why="Greengrass makes an IoT job of a deployment and names it",
            ),
            Allow(actions=["iot:DescribeThingGroup"], on=[fleet.group_arn(name) for name in ("canary", "fleet")]),
        ]

    def _verdict(self, settings: Settings, fleet: Fleet) -> Function:
        edge = settings.edge
        limits = {
            "watch_minutes": settings.watch_minutes,
            "silent_minutes": edge.silent_minutes,
            "watch_answers": edge.watch_answers,
            "error_percent": edge.error_percent,
            "drift_psi": edge.drift_psi,
        }
        return self._function(
            bundles.VERDICT,
            environment={
                "BUCKET": self._lake.data.bucket_name,
                "CANARY_GROUP": self._names.of("canary"),
                "LIMITS": json.dumps(limits, sort_keys=True),
            },
            allows=[
                self._lake.read("telemetry/"),
                self._lake.read_key(),
                self._lake.list_keys("telemetry/"),
                Allow(actions=["iot:ListThingsInThingGroup"], on=[fleet.group_arn("canary")]),
            ],
            description="Judges what the canaries report of a new model",
        )

    def _packages(self, *actions: str) -> Allow:
        return Allow(
            actions=[f"sagemaker:{action}" for action in actions],
            on=[self._names.arn("sagemaker", f"model-package/{self._group}/*")],
            why="SageMaker numbers the packages of the group",
        )

    def _rows(self) -> Allow:
        """Find a run's row and mark it."""
        return Allow(actions=["dynamodb:Scan", "dynamodb:UpdateItem"], on=[self._lake.runs.table_arn])
