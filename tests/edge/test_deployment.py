"""Both components with their own recipes through the desk's Greengrass: a good model, a bad one, the next good one."""

import json
import re
import time
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from moto.core.base_backend import BackendDict
from moto.core.model_instances import reset_model_data
from moto.server import ThreadedMotoServer

from infra import bundles
from lab import child, greengrassv2
from lab.engine import Engine
from lab.recipe import parse

REPO = Path(__file__).parents[2]
THING = "lab-dev-desk-1"
Make = Callable[..., Path]


def zipped(files: dict[str, bytes]) -> bytes:
    data = BytesIO()
    with zipfile.ZipFile(data, "w") as opened:
        for name, content in sorted(files.items()):
            opened.writestr(name, content)
    return data.getvalue()


def pins() -> list[str]:
    lines = (REPO / "requirements.lock").read_text().splitlines()
    lock = dict(line.split("==", 1) for line in lines if "==" in line)
    extras = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    return [f"{name}=={lock[name]}" for name in extras["edge"]]


def recipe(name: str, **values: str) -> str:
    text = (REPO / "edge" / "recipes" / name).read_text("utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    assert not re.findall(r"@\w+@", text), "a placeholder was not filled in"
    return text


def runtime_recipe() -> str:
    return recipe(
        "inference.json",
        COMPONENT="lab-dev.Inference",
        MODEL_COMPONENT="lab-dev.Model",
        VERSION="1.0.5",
        PREFIX="lab-dev",
        ARTIFACT="s3://assets/abc123.zip",
        STEM="abc123",
    )


def model_recipe(version: str) -> str:
    return recipe(
        "model.json",
        COMPONENT="lab-dev.Model",
        RUNTIME_COMPONENT="lab-dev.Inference",
        VERSION=version,
        PREFIX="lab-dev",
        ARTIFACT=f"s3://assets/releases/{version}/edge-x86/model.zip",
        STEM="model",
        STAGER="s3://assets/abc123.zip",
        STAGER_STEM="abc123",
        SIGNATURE="",
    )


class Cloud:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.client = engine.client("greengrassv2")
        self.root = engine.root / "devices" / THING
        self.telemetry: list[dict[str, Any]] = []
        engine.client("s3").create_bucket(Bucket="assets")
        for name in ("core", "canary", "fleet"):
            engine.client("iot").create_thing_group(thingGroupName=f"lab-dev-{name}")
        code = bundles.running(bundles.EDGE, ["onnx-fp32"]).files(REPO)
        code["requirements.txt"] = "\n".join(pins()).encode()
        self.put("abc123.zip", zipped(code))

    def put(self, key: str, data: bytes) -> None:
        self.engine.client("s3").put_object(Bucket="assets", Key=key, Body=data)

    def release(self, version: str, package: Path) -> None:
        files = {path.name: path.read_bytes() for path in package.iterdir()}
        self.put(f"releases/{version}/edge-x86/model.zip", zipped(files))
        self.client.create_component_version(inlineRecipe=model_recipe(version).encode())

    def deploy(self, group: str, name: str, version: str, **merge: Any) -> tuple[str, str]:
        """Status and reason once the deployment has ended."""
        wanted: dict[str, Any] = {name: {"componentVersion": version}}
        if merge:
            wanted[name]["configurationUpdate"] = {"merge": json.dumps(merge)}
        target = f"arn:aws:iot:us-east-1:{self.engine.account}:thinggroup/lab-dev-{group}"
        made = self.client.create_deployment(targetArn=target, components=wanted)["deploymentId"]
        deadline = time.monotonic() + 90
        while (found := self.effective(made))["coreDeviceExecutionStatus"] in ("QUEUED", "IN_PROGRESS"):
            assert time.monotonic() < deadline, self.log("lab-dev.Inference") + self.log("lab-dev.Model")
            time.sleep(0.1)
        return str(found["coreDeviceExecutionStatus"]), str(found["reason"])

    def effective(self, deployment: str) -> dict[str, Any]:
        every = self.client.list_effective_deployments(coreDeviceThingName=THING)["effectiveDeployments"]
        found: dict[str, Any] = next(one for one in every if one["deploymentId"] == deployment)
        return found

    def log(self, name: str) -> str:
        path = self.root / "logs" / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def versions(self) -> list[str | None]:
        return [message["model_version"] for message in self.telemetry]


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    BackendDict.reset()
    reset_model_data()
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    root = tmp_path / "engine"
    (root / "assembly").mkdir(parents=True)
    (root / "assembly" / "lab.json").write_text(json.dumps({"schema": 1, "runtimes": {"edge": pins()}}))
    engine = Engine(root, f"http://{host}:{port}", "us-east-1", "123456789012", root / "assembly")
    greengrassv2.install(engine)
    made = Cloud(engine)
    monkeypatch.setattr("lab.iot.publish", lambda _engine, _topic, data: made.telemetry.append(json.loads(data)))
    yield made
    greengrassv2.stop()
    child.stop_all()
    server.stop()


@pytest.mark.slow
def test_a_model_reaches_the_runtime_and_a_bad_one_fails_its_deployment_and_nothing_else(
    cloud: Cloud, package: Make, reseal: Make
) -> None:
    cloud.client.create_component_version(inlineRecipe=runtime_recipe().encode())
    assert cloud.deploy("core", "lab-dev.Inference", "1.0.5") == ("SUCCEEDED", "SUCCESSFUL"), cloud.log(
        "lab-dev.Inference"
    )
    cloud.release("1.0.1", package("1.0.1", seed=1))
    assert cloud.deploy("canary", "lab-dev.Model", "1.0.1") == ("SUCCEEDED", "SUCCESSFUL"), cloud.log("lab-dev.Model")
    assert cloud.deploy("fleet", "lab-dev.Model", "1.0.1")[0] == "SUCCEEDED"
    device = greengrassv2.desks()[0].devices[THING]
    pid = device.components["lab-dev.Inference"].pid

    bad = package("1.0.2", seed=2)
    (bad / "model.onnx").write_bytes(b"no graph")
    cloud.release("1.0.2", reseal(bad, version="1.0.2"))
    status, reason = cloud.deploy("canary", "lab-dev.Model", "1.0.2")
    assert (status, "version 1.0.2 is refused: load" in reason) == ("FAILED", True), reason
    assert device.components["lab-dev.Inference"].pid == pid
    assert json.loads((cloud.root / "work" / "lab-dev.Inference" / "serving.json").read_text())["version"] == "1.0.1"
    assert cloud.client.get_core_device(coreDeviceThingName=THING)["status"] == "UNHEALTHY"

    cloud.release("1.0.3", package("1.0.3", seed=3))
    assert cloud.deploy("canary", "lab-dev.Model", "1.0.3")[0] == "SUCCEEDED", cloud.log("lab-dev.Model")
    assert device.components["lab-dev.Inference"].pid == pid
    deadline = time.monotonic() + 10
    while "1.0.3" not in cloud.versions() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert cloud.versions()[-1] == "1.0.3"
    rejected = [message for message in cloud.telemetry if message.get("kind") == "reject"]
    assert [(one["version"], one["reason"], one["model_version"]) for one in rejected] == [("1.0.2", "load", "1.0.1")]
    assert cloud.client.get_core_device(coreDeviceThingName=THING)["status"] == "HEALTHY"


@pytest.mark.parametrize("text", [runtime_recipe(), model_recipe("1.0.1")], ids=["inference", "model"])
def test_the_recipes_keep_the_rules_of_nucleus_lite(text: str) -> None:
    found = parse(text)
    raw = json.loads(text)
    for manifest in raw["Manifests"]:
        assert manifest["Platform"]["runtime"] == "*"
        assert all("Permission" in artifact for artifact in manifest["Artifacts"])
    assert "startup" in found.phases and found.phases["startup"].timeout >= 60
    for phase in found.phases.values():
        variables = r"\{(artifacts:decompressedPath|work:path|kernel:rootPath)\}"
        assert "{" not in re.sub(variables, "", phase.script)
        assert "\n" not in phase.script and "&& exec " in phase.script
    assert len(json.dumps(raw.get("ComponentConfiguration", {}))) < 1_024
