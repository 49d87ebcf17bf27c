"""The stack, which wires the constructs and says what others need to know of them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from aws_cdk import CfnOutput, Stack
from constructs import Construct

from infra import bundles, delivery, images, pins, promotion
from infra.audit import Audit
from infra.boundary import Boundary
from infra.codepipeline import Pipeline
from infra.config import Settings
from infra.decisions import Decisions
from infra.delivery import GitHub
from infra.encryption import Encryption
from infra.fleet import Fleet
from infra.images import Image
from infra.lake import Lake
from infra.naming import Names
from infra.network import Network
from infra.promotion import Promotion
from infra.provisioning import Provisioning
from infra.serving import Serving
from infra.staging import Staging
from infra.training import Training
from infra.watch import Watch
from infra.workflow import Workflow


class LabStack(Stack):
    """All of the lab in one stack."""

    def __init__(self, scope: Construct, id: str, *, settings: Settings, staging: Staging, **options: Any) -> None:
        super().__init__(scope, id, **options)
        self._settings, self._staging = settings, staging
        region = settings.lab.region
        self._names = names = Names(settings.prefix, region)
        Boundary(
            self,
            "Boundary",
            names=names,
            more=[*promotion.reads(settings), *delivery.reach(settings)],
        )
        key = Encryption(self, "Encryption", settings=settings, names=names).key
        network = Network(self, "Network", settings=settings, names=names, key=key)
        lake = Lake(self, "Lake", settings=settings, names=names, key=key, network=network, staging=staging)
        Audit(self, "Audit", names=names, lake=lake)
        self._images = {
            name: Image(
                self,
                f"{name.title()}Image",
                name=name,
                names=names,
                key=lake.key,
                context=context,
                staging=staging,
                wheels=wheels,
                on_training_image=name == "job",
            )
            for name, context, wheels in (
                ("job", images.job_context(staging, region, settings.exported, wheels=lake.wheel_pins), lake.wheels),
                ("serve", images.serve_context(staging, settings.served), None),
            )
        }
        job, serve = self._images["job"], self._images["serve"]
        training = Training(
            self, "Training", settings=settings, names=names, lake=lake, network=network, image=job, staging=staging
        )
        serving = Serving(self, "Serving", settings=settings, names=names, lake=lake, network=network, image=serve)
        fleet = Fleet(self, "Fleet", settings=settings, names=names, lake=lake, staging=staging)
        provisioning = Provisioning(self, "Provisioning", names=names, lake=lake, network=network, staging=staging)
        decisions = Decisions(
            self,
            "Decisions",
            settings=settings,
            names=names,
            lake=lake,
            network=network,
            training=training,
            serving=serving,
            serve_image=serve,
            fleet=fleet,
            staging=staging,
        )
        workflow = Workflow(
            self,
            "Workflow",
            settings=settings,
            names=names,
            lake=lake,
            training=training,
            serving=serving,
            fleet=fleet,
            job_image=job,
            serve_image=serve,
            decisions=decisions,
            code=self._code(),
        )
        watch = Watch(
            self,
            "Watch",
            settings=settings,
            names=names,
            lake=lake,
            network=network,
            staging=staging,
            machines=[workflow.flow, workflow.release],
            functions=[*decisions.all.values(), provisioning.hook],
            endpoint=serving.endpoint_name,
        )
        promotion.share(settings=settings, names=names, lake=lake, training=training)
        if settings.lab.promote_from:
            taking = Promotion(
                self,
                "Promotion",
                settings=settings,
                names=names,
                lake=lake,
                network=network,
                training=training,
                image=serve,
                staging=staging,
            )
            self._output("PromoteFunction", taking.function.name)
        if settings.delivery.github:
            GitHub(self, "GitHub", settings=settings, names=names)
        if settings.delivery.connection:
            Pipeline(self, "Delivery", settings=settings, names=names, lake=lake)
        self._output("DataBucket", lake.data.bucket_name)
        self._output("ArtifactBucket", lake.artifacts.bucket_name)
        self._output("LogBucket", lake.logs.bucket_name)
        self._output("KeyArn", lake.key.key_arn)
        self._output("FlowArn", workflow.flow.arn)
        self._output("ReleaseFlowArn", workflow.release.arn)
        self._output("RunsTable", lake.runs.table_name)
        self._output("ModelPackageGroup", training.group_name)
        self._output("EndpointName", serving.endpoint_name)
        self._output("GlueJob", names.of("etl"))
        self._output("GlueDatabase", lake.database.ref)
        self._output("CanaryGroup", names.of("canary"))
        self._output("FleetGroup", names.of("fleet"))
        self._output("CoreGroup", names.of("core"))
        self._output("ProvisioningTemplate", provisioning.template_name)
        self._output("RuntimeComponent", fleet.runtime_component)
        self._output("ModelComponent", fleet.model_component)
        self._output("Dashboard", watch.alarms.dashboard_name)

    def facts(self) -> dict[str, Any]:
        """What the desk needs to know of the assembly: the content of `lab.json`."""
        root = self._staging.root
        return {
            "schema": 1,
            "stack": self.stack_name,
            "template": self.template_file,
            "region": self._settings.lab.region,
            "prefix": self._settings.prefix,
            "settings": self._settings.resolved(),
            "runtimes": {name: pins.pins(root, name, self._extras(name)) for name in pins.RUNTIMES},
            # What the export job measures beyond what may ship, where it is installed.
            "optional": {"job": pins.pins(root, "exporters")},
            "images": {
                name: {"repository": image.repository_name, "tag": image.tag, "project": image.project_name}
                for name, image in self._images.items()
            },
        }

    def _extras(self, runtime: str) -> tuple[str, ...]:
        """What the formats of `[targets]` add to a runtime."""
        if runtime == "job":
            return bundles.exporting(self._settings.exported)
        formats = {"serve": self._settings.served, "edge": self._settings.at_the_edge}.get(runtime, frozenset())
        return bundles.running(bundles.SERVE, formats).extras

    def _code(self) -> str:
        """Hash of settings and code: the same data under another gate or another net is another run."""
        whole = hashlib.sha256(json.dumps(self._settings.resolved(), sort_keys=True).encode())
        for bundle in bundles.ALL:
            whole.update(bundle.archive(self._staging.root))
        whole.update("".join(image.tag for image in self._images.values()).encode())
        return whole.hexdigest()[:16]

    def _output(self, name: str, value: str) -> None:
        CfnOutput(self, name, value=value)
