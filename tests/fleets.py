"""A stack's thing groups on an engine, and words for what tests do to its fleet."""

import io
import json
import tomllib
import zipfile
from pathlib import Path
from typing import Any

from lab.engine import Engine

REPO = Path(__file__).parents[1]
GROUPS = ("core", "canary", "fleet")


def things(*numbers: int) -> list[str]:
    return [f"lab-dev-desk-{number}" for number in numbers]


def pins() -> list[str]:
    """What the runtime `edge` brings, as synthesis writes it into lab.json."""
    lines = (REPO / "requirements.lock").read_text().splitlines()
    lock = dict(line.split("==", 1) for line in lines if "==" in line)
    extras = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    return [f"{name}=={lock[name]}" for name in extras["edge"]]


def archive(**files: str) -> bytes:
    """A ZIP with these files."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as opened:
        for name, text in files.items():
            opened.writestr(name, text)
    return data.getvalue()


class Fleet:
    """The groups of the stack `lab-dev`, and its core devices once a deployment asked for them."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.greengrass, self.iot = engine.client("greengrassv2"), engine.client("iot")
        for name in GROUPS:
            self.iot.create_thing_group(thingGroupName=f"lab-dev-{name}")

    def settle(self, devices: int, canaries: int = 1) -> None:
        document = {
            "schema": 1,
            "runtimes": {"edge": pins()},
            "settings": {"edge": {"devices": devices, "canaries": canaries}},
        }
        (self.engine.root / "assembly" / "lab.json").write_text(json.dumps(document))

    def component(self, name: str, version: str = "1.0.0", **lifecycle: Any) -> None:
        manifest = {"Platform": {"os": "linux", "runtime": "*"}, "Lifecycle": lifecycle or {"run": "exit 0"}}
        recipe = {"RecipeFormatVersion": "2020-01-25", "ComponentName": name, "ComponentVersion": version}
        document = json.dumps({**recipe, "Manifests": [manifest]}).encode()
        self.greengrass.create_component_version(inlineRecipe=document)

    def deploy(self, group: str, components: dict[str, str], **job: Any) -> str:
        """The deployment's id; `job` is its IotJobConfiguration."""
        target = f"arn:aws:iot:us-east-1:{self.engine.account}:thinggroup/lab-dev-{group}"
        wanted = {name: {"componentVersion": version} for name, version in components.items()}
        more = {"iotJobConfiguration": job} if job else {}
        return str(self.greengrass.create_deployment(targetArn=target, components=wanted, **more)["deploymentId"])

    def members(self, group: str) -> list[str]:
        return [str(name) for name in self.iot.list_things_in_thing_group(thingGroupName=f"lab-dev-{group}")["things"]]

    def executions(self, thing: str) -> dict[str, str]:
        """The device's own list: status by deployment."""
        every = self.greengrass.list_effective_deployments(coreDeviceThingName=thing)["effectiveDeployments"]
        return {one["deploymentId"]: one["coreDeviceExecutionStatus"] for one in every}

    def reason(self, thing: str, deployment: str) -> str:
        every = self.greengrass.list_effective_deployments(coreDeviceThingName=thing)["effectiveDeployments"]
        return next(str(one["reason"]) for one in every if one["deploymentId"] == deployment)

    def installed(self, thing: str) -> dict[str, str]:
        every = self.greengrass.list_installed_components(coreDeviceThingName=thing)["installedComponents"]
        return {one["componentName"]: one["componentVersion"] for one in every}

    def ended(self, deployment: str, *which: str) -> bool:
        return all(self.executions(one).get(deployment) not in (None, "QUEUED", "IN_PROGRESS") for one in which)

    def job(self, deployment: str) -> dict[str, Any]:
        """What DescribeJob says of a deployment's job."""
        name = self.greengrass.get_deployment(deploymentId=deployment)["iotJobId"]
        found: dict[str, Any] = self.iot.describe_job(jobId=name)["job"]
        return found

    def told(self, deployment: str) -> dict[str, str]:
        """The job's own list: status by thing."""
        name = self.greengrass.get_deployment(deploymentId=deployment)["iotJobId"]
        every = self.iot.list_job_executions_for_job(jobId=name)["executionSummaries"]
        return {one["thingArn"].rpartition("/")[2]: one["jobExecutionSummary"]["status"] for one in every}
