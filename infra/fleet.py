"""Thing groups, what a device may do, the runtime component and its pinned nucleus."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from aws_cdk import Aws
from aws_cdk import aws_greengrassv2 as greengrass
from aws_cdk import aws_iot as iot
from aws_cdk import aws_s3_assets as s3_assets
from constructs import Construct

from infra import archives, bundles
from infra.config import Settings
from infra.lake import Lake
from infra.naming import Names
from infra.permissions import Allow, role, service
from infra.staging import Staging, object_arn, uri

# Unpinned, a device may take another nucleus with any deployment.
NUCLEUS = ("aws.greengrass.NucleusLite", "2.5.0")
THING = "${iot:Connection.Thing.ThingName}"


class Fleet(Construct):
    """Thing groups, thing policy, device role and alias, runtime component, its deployment to the core group."""

    def __init__(
        self, scope: Construct, id: str, *, settings: Settings, names: Names, lake: Lake, staging: Staging
    ) -> None:
        super().__init__(scope, id)
        self._names, self._settings, self._bucket = names, settings, lake.data.bucket_name
        edge = bundles.running(bundles.EDGE, settings.at_the_edge)
        self.runtime_component = names.component("Inference")
        self.model_component = names.component("Model")
        self.groups = {name: self._group(name) for name in ("core", "canary", "fleet")}
        self.bundle = staging.asset(self, "Bundle", staging.archive(edge))
        self._wheels = self._wheelhouse(staging)
        self._device(lake)
        recipe = (staging.root / "edge/recipes/inference.json").read_text("utf-8")
        self.runtime_version = self._version(recipe, edge.files(staging.root))
        self._runtime(recipe)

    @property
    def bundle_uri(self) -> str:
        """Where devices fetch the runtime's code, the stager included."""
        return uri(self.bundle)

    def group_arn(self, name: str) -> str:
        """ARN of one of the three groups."""
        return self.groups[name].attr_arn

    def _wheelhouse(self, staging: Staging) -> list[s3_assets.Asset]:
        """What `lab wheelhouse` gathered, by machine: a device then installs without any network."""
        archives = sorted((staging.root / "wheelhouse").glob("wheels-*.zip"))
        return [staging.asset(self, path.stem, staging.write(path.name, path.read_bytes())) for path in archives]

    def _group(self, name: str) -> iot.CfnThingGroup:
        descriptions = {
            "core": "Every device of the lab: runtime and nucleus",
            "canary": "Devices that receive a model first",
            "fleet": "Devices that receive a model after the canaries accepted it",
        }
        return iot.CfnThingGroup(
            self,
            f"{name.title()}Group",
            thing_group_name=self._names.of(name),
            thing_group_properties={"thingGroupDescription": descriptions[name]},
        )

    def _device(self, lake: Lake) -> None:
        """What a device holds: a certificate under the thing policy, and through the alias the device role."""
        self.role = role(
            self,
            "DeviceRole",
            trusts=service("credentials.iot.amazonaws.com", account=Aws.ACCOUNT_ID),
            description="A device fetches component artefacts, puts samples below its own name, and nothing else",
            allows=[
                Allow(actions=["s3:GetObject"], on=[object_arn(one) for one in (self.bundle, *self._wheels)]),
                lake.read("releases/"),
                Allow(
                    actions=["s3:GetBucketLocation"],
                    on=[lake.data.bucket_arn, self.bundle.bucket.bucket_arn],
                ),
                lake.read_key(),
                *(_samples(lake) if self._settings.edge.capture_per_day else []),
            ],
        )
        alias = iot.CfnRoleAlias(
            self,
            "RoleAlias",
            role_alias=self._names.of("device"),
            role_arn=self.role.role_arn,
            credential_duration_seconds=3600,
        )
        iot.CfnPolicy(
            self,
            "ThingPolicy",
            policy_name=self._names.of("device"),
            policy_document=self._thing_policy(alias.attr_role_alias_arn),
        )

    def _thing_policy(self, alias_arn: str) -> dict[str, Any]:
        """A device speaks as itself, on its own topics. Its certificate must be attached to the thing of that name."""
        arn = self._names.arn
        own = f"{self._names.prefix}/{THING}"
        reserved = [
            f"$aws/things/{THING}/jobs/*",
            f"$aws/things/{THING}/greengrass/*",
            f"$aws/things/{THING}/greengrassv2/*",
        ]
        statements: list[dict[str, Any]] = [
            {"Action": "iot:Connect", "Resource": [arn("iot", f"client/{THING}"), arn("iot", f"client/{THING}#*")]},
            {"Action": "iot:Publish", "Resource": [arn("iot", f"topic/{topic}") for topic in (f"{own}/*", *reserved)]},
            {"Action": "iot:Receive", "Resource": [arn("iot", f"topic/{topic}") for topic in (f"{own}/*", *reserved)]},
            {
                "Action": "iot:Subscribe",
                "Resource": [arn("iot", f"topicfilter/{topic}") for topic in (f"{own}/*", *reserved)],
            },
            {"Action": "iot:AssumeRoleWithCertificate", "Resource": [alias_arn]},
            {
                "Action": ["greengrass:GetComponentVersionArtifact"],
                "Resource": [arn("greengrass", f"components:{self._names.prefix}.*")],
            },
            {
                "Action": ["greengrass:GetDeploymentConfiguration", "greengrass:ListThingGroupsForCoreDevice"],
                "Resource": [arn("greengrass", f"coreDevices:{THING}")],
            },
            {"Action": ["greengrass:ResolveComponentCandidates"], "Resource": ["*"]},
        ]
        return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement} for statement in statements]}

    def _version(self, recipe: str, files: Mapping[str, bytes]) -> str:
        """A component version cannot change, so its number follows from recipe, names and code."""
        content = {**files, "recipe": recipe.encode(), "prefix": self._names.prefix.encode()}
        content |= {f"wheels-{number}": one.asset_hash.encode() for number, one in enumerate(self._wheels)}
        number = int(hashlib.sha256(archives.digest(content).encode()).hexdigest()[:7], 16)
        return f"1.0.{number}"

    def _configured(self) -> dict[str, Any]:
        """What `[edge]` says to the runtime, in the words of edge/settings.py; a change needs no restart."""
        edge = self._settings.edge
        return {
            "source": edge.source,
            "interval_s": edge.telemetry_s,
            "spool_mb": edge.spool_mb,
            "free_mb": edge.free_mb,
            "drift_psi": edge.drift_psi,
            "capture_per_day": edge.capture_per_day,
            "capture_inputs": edge.capture_inputs,
            # Samples leave the device only where the owner asked for some.
            "bucket": self._bucket if edge.capture_per_day else "",
            "public_key": edge.public_key,
        }

    def _runtime(self, recipe: str) -> None:
        filled = {
            "@COMPONENT@": self.runtime_component,
            "@MODEL_COMPONENT@": self.model_component,
            "@VERSION@": self.runtime_version,
            "@PREFIX@": self._names.prefix,
            "@ARTIFACT@": uri(self.bundle),
            "@STEM@": stem(self.bundle),
        }
        for placeholder, value in filled.items():
            recipe = recipe.replace(placeholder, value)
        document = json.loads(recipe)
        rights = {"Read": "ALL", "Execute": "NONE"}
        document["Manifests"][0]["Artifacts"] += [
            {"Uri": uri(one), "Unarchive": "ZIP", "Permission": rights} for one in self._wheels
        ]
        component = greengrass.CfnComponentVersion(self, "Runtime", inline_recipe=json.dumps(document))
        deployment = greengrass.CfnDeployment(
            self,
            "RuntimeDeployment",
            target_arn=self.group_arn("core"),
            deployment_name=f"{self.runtime_component} {self.runtime_version}",
            components={
                NUCLEUS[0]: greengrass.CfnDeployment.ComponentDeploymentSpecificationProperty(
                    component_version=NUCLEUS[1]
                ),
                self.runtime_component: greengrass.CfnDeployment.ComponentDeploymentSpecificationProperty(
                    component_version=self.runtime_version,
                    configuration_update=greengrass.CfnDeployment.ComponentConfigurationUpdateProperty(
                        merge=json.dumps(self._configured(), sort_keys=True)
                    ),
                ),
            },
        )
        deployment.add_resource_dependency(component)


def _samples(lake: Lake) -> list[Allow]:
    """Samples for labelling, below the device's own name, and never what would start the flow."""
    bucket_arn = lake.data.bucket_arn
    return [
        lake.use_key(),
        Allow(
            actions=["s3:PutObject"],
            on=[f"{bucket_arn}/raw/*-device/${{credentials-iot:ThingName}}/*"],
            why="the data set is the model's, the day and the sample's name the device's; its own name is fixed by IoT",
            unused="a device sends samples when it is unsure or the data drift",
        ),
        Allow(
            actions=["s3:PutObject"],
            on=[f"{bucket_arn}/raw/*/_manifest.json"],
            why="a wildcard that forbids: a manifest anywhere below raw/ starts the flow",
            unused="no device of ours writes a manifest",
            never=True,
        ),
    ]


def stem(asset: s3_assets.Asset) -> str:
    """An archive's file name without its extension, which names the folder that a device unpacks it to."""
    return asset.s3_object_key.removesuffix(".zip")
