"""The desk core carries out deployments with real child processes."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fleets import archive, pins

from lab import greengrassv2
from lab.access import Guard
from lab.engine import Engine

BUCKET = "artifacts"
THING = "lab-dev-desk-1"
# A component in the style of ours: talks to the nucleus with the real SDK, obeys a file in its work folder.
PROGRAM = """
import os, pathlib, sys, time
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2
work = pathlib.Path(sys.argv[1])
with (work / "starts").open("a") as file:
    file.write(str(os.getpid()) + "\\n")
client = GreengrassCoreIPCClientV2()
value = client.get_configuration().value
print("configured", value.get("word"), "on", os.environ["AWS_IOT_THING_NAME"], flush=True)
if value.get("word") == "fail":
    sys.exit("the self-test failed")
if value.get("word") != "silent":
    client.update_state(state="RUNNING")
topic = "lab-dev/" + os.environ["AWS_IOT_THING_NAME"] + "/telemetry"
client.publish_to_iot_core(topic_name=topic, qos="1", payload=b"{}")
while not (work / "die").exists():
    time.sleep(0.05)
(work / "die").unlink()
sys.exit(9)
"""


class Cloud:
    """The engine with Greengrass, three thing groups, and words for what the tests do."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.client = engine.client("greengrassv2")
        self.root = engine.root / "devices" / THING
        self.published: list[tuple[str, bytes]] = []
        for name in ("core", "canary", "fleet"):
            engine.client("iot").create_thing_group(thingGroupName=f"lab-dev-{name}")
        engine.client("s3").create_bucket(Bucket=BUCKET)
        self.put("code.zip", archive(**{"app.py": PROGRAM}))

    def put(self, key: str, data: bytes) -> None:
        self.engine.client("s3").put_object(Bucket=BUCKET, Key=key, Body=data)

    def component(self, version: str, name: str = "lab-dev.App", **more: Any) -> None:
        script = "cd {artifacts:decompressedPath}/code && exec python3 -m app {work:path}"
        lifecycle = more.pop("Lifecycle", {"startup": {"Script": script, "Timeout": 10}})
        access = {
            "aws.greengrass.ipc.mqttproxy": {"p": {"operations": ["*"], "resources": ["lab-dev/*/telemetry"]}},
        }
        manifest = {
            "Platform": {"os": "linux", "runtime": "*"},
            "Lifecycle": lifecycle,
            "Artifacts": [{"Uri": f"s3://{BUCKET}/code.zip", "Unarchive": "ZIP"}],
        }
        recipe = {
            "RecipeFormatVersion": "2020-01-25",
            "ComponentName": name,
            "ComponentVersion": version,
            "ComponentConfiguration": {"DefaultConfiguration": {"word": "hello", "accessControl": access}},
            "Manifests": [manifest],
            **more,
        }
        self.client.create_component_version(inlineRecipe=json.dumps(recipe).encode())

    def deploy(self, group: str, components: dict[str, Any]) -> str:
        kind = group if "/" in group else f"thinggroup/lab-dev-{group}"
        target = f"arn:aws:iot:us-east-1:{self.engine.account}:{kind}"
        wanted = {name: one if isinstance(one, dict) else {"componentVersion": one} for name, one in components.items()}
        made = self.client.create_deployment(targetArn=target, components=wanted)["deploymentId"]
        deadline = time.monotonic() + 60
        while self.status(made) in ("QUEUED", "IN_PROGRESS"):
            assert time.monotonic() < deadline, "the deployment never ended"
            time.sleep(0.05)
        return str(made)

    def effective(self, deployment: str) -> dict[str, Any]:
        every = self.client.list_effective_deployments(coreDeviceThingName=THING)["effectiveDeployments"]
        found: dict[str, Any] = next(one for one in every if one["deploymentId"] == deployment)
        return found

    def status(self, deployment: str) -> str:
        return str(self.effective(deployment)["coreDeviceExecutionStatus"])

    def reason(self, deployment: str) -> str:
        return str(self.effective(deployment)["reason"])

    def installed(self) -> dict[str, tuple[str, str]]:
        answer = self.client.list_installed_components(coreDeviceThingName=THING, topologyFilter="ALL")
        components = answer["installedComponents"]
        return {one["componentName"]: (one["componentVersion"], one["lifecycleState"]) for one in components}

    def starts(self, name: str = "lab-dev.App") -> list[int]:
        return [int(line) for line in (self.root / "work" / name / "starts").read_text().split()]

    def health(self) -> str:
        return str(self.client.get_core_device(coreDeviceThingName=THING)["status"])


@pytest.fixture
def cloud(desk: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    (desk.root / "assembly" / "lab.json").write_text(json.dumps({"schema": 1, "runtimes": {"edge": pins()}}))
    greengrassv2.install(desk)
    made = Cloud(desk)
    monkeypatch.setattr("lab.iot.publish", lambda _engine, topic, data: made.published.append((topic, data)))
    yield made
    greengrassv2.stop()


def eventually(condition: Callable[[], Any], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(condition())


def test_a_deployment_brings_a_component_up_and_says_so_everywhere(cloud: Cloud) -> None:
    cloud.component("1.0.0")
    made = cloud.deploy("core", {"lab-dev.App": "1.0.0", "aws.greengrass.NucleusLite": "2.5.0"})
    assert cloud.status(made) == "SUCCEEDED", cloud.reason(made)
    assert cloud.installed() == {
        "lab-dev.App": ("1.0.0", "RUNNING"),
        "aws.greengrass.NucleusLite": ("2.5.0", "RUNNING"),
    }
    device = cloud.client.get_core_device(coreDeviceThingName=THING)
    assert (device["status"], device["coreVersion"], device["platform"]) == ("HEALTHY", "2.5.0", "linux")
    groups = cloud.engine.client("iot").list_thing_groups_for_thing(thingName=THING)["thingGroups"]
    assert {one["groupName"] for one in groups} == {"lab-dev-core", "lab-dev-canary", "lab-dev-fleet"}
    job = cloud.client.get_deployment(deploymentId=made)["iotJobId"]
    counts = cloud.engine.client("iot").describe_job(jobId=job)["job"]["jobProcessDetails"]
    assert (counts["numberOfSucceededThings"], counts["numberOfFailedThings"]) == (1, 0)
    assert eventually(lambda: cloud.published == [(f"lab-dev/{THING}/telemetry", b"{}")])
    assert f"configured hello on {THING}" in (cloud.root / "logs" / "lab-dev.App.log").read_text()
    ledger = [json.loads(line) for line in (cloud.engine.root / "ledger.jsonl").read_text().splitlines()]
    assert [(one["kind"], one["name"], one["rc"]) for one in ledger] == [("device", made, 0)]


def test_a_component_that_does_not_change_keeps_its_process(cloud: Cloud) -> None:
    cloud.component("1.0.0")
    cloud.component("1.0.0", "lab-dev.Other")
    cloud.deploy("core", {"lab-dev.App": "1.0.0"})
    made = cloud.deploy("canary", {"lab-dev.Other": "1.0.0"})
    assert cloud.status(made) == "SUCCEEDED", cloud.reason(made)
    assert len(cloud.starts()) == 1
    assert set(cloud.installed()) == {"lab-dev.App", "lab-dev.Other"}


def test_a_component_that_fails_its_self_test_three_times_fails_the_deployment(cloud: Cloud) -> None:
    cloud.component("1.0.0")
    update = {"merge": json.dumps({"word": "fail"})}
    made = cloud.deploy("core", {"lab-dev.App": {"componentVersion": "1.0.0", "configurationUpdate": update}})
    assert cloud.status(made) == "FAILED"
    assert "before it reported RUNNING" in cloud.reason(made)
    assert "the self-test failed" in cloud.reason(made)
    assert (len(cloud.starts()), cloud.health()) == (3, "UNHEALTHY")
    assert cloud.installed()["lab-dev.App"] == ("1.0.0", "BROKEN")


def test_a_startup_that_never_says_running_runs_into_its_timeout(cloud: Cloud) -> None:
    script = "cd {artifacts:decompressedPath}/code && exec python3 -m app {work:path}"
    cloud.component("1.0.0", Lifecycle={"startup": {"Script": script, "Timeout": 1}})
    update = {"merge": json.dumps({"word": "silent"})}
    made = cloud.deploy("core", {"lab-dev.App": {"componentVersion": "1.0.0", "configurationUpdate": update}})
    assert "did not report RUNNING within 1 s" in cloud.reason(made)


def test_a_process_that_dies_is_started_again_and_is_broken_after_the_third_time(cloud: Cloud) -> None:
    cloud.component("1.0.0")
    cloud.deploy("core", {"lab-dev.App": "1.0.0"})
    die = cloud.root / "work" / "lab-dev.App" / "die"
    for count in (2, 3):
        die.touch()
        assert eventually(lambda count=count: len(cloud.starts()) == count and cloud.health() == "HEALTHY")
        assert eventually(lambda: cloud.installed()["lab-dev.App"][1] == "RUNNING")
    die.touch()
    assert eventually(lambda: cloud.installed()["lab-dev.App"][1] == "BROKEN")
    assert cloud.health() == "UNHEALTHY"


def test_an_artifact_that_changed_after_its_version_was_made_is_refused(cloud: Cloud) -> None:
    cloud.component("1.0.0")
    cloud.put("code.zip", archive(**{"app.py": "print('another program')"}))
    made = cloud.deploy("core", {"lab-dev.App": "1.0.0"})
    assert cloud.status(made) == "FAILED"
    assert "is not what it was when its component version was created" in cloud.reason(made)
    assert not (cloud.root / "work" / "lab-dev.App").exists()


def test_a_brace_that_is_no_recipe_variable_fails_instead_of_half_running(cloud: Cloud) -> None:
    cloud.component("1.0.0", Lifecycle={"run": {"Script": "echo ${HOME}"}})
    assert "brace that is no recipe variable" in cloud.reason(cloud.deploy("core", {"lab-dev.App": "1.0.0"}))


def test_a_component_without_a_phase_that_runs_fails(cloud: Cloud) -> None:
    cloud.component("1.0.0", Lifecycle={"install": {"Script": "exit 0"}})
    assert "neither startup nor run" in cloud.reason(cloud.deploy("core", {"lab-dev.App": "1.0.0"}))


def test_an_install_that_fails_says_what_it_said(cloud: Cloud) -> None:
    cloud.component("1.0.0", Lifecycle={"install": "echo no wheel for this device >&2; exit 7", "run": "exit 0"})
    reason = cloud.reason(cloud.deploy("core", {"lab-dev.App": "1.0.0"}))
    assert "install exited with 7" in reason and "no wheel for this device" in reason


def test_a_dependency_comes_with_its_dependent(cloud: Cloud) -> None:
    cloud.component("1.0.0", "lab-dev.Below", Lifecycle={"run": "exit 0"})
    cloud.component("1.2.0", "lab-dev.Below", Lifecycle={"run": "exit 0"})
    cloud.component("2.0.0", "lab-dev.Below", Lifecycle={"run": "exit 0"})
    wants = {"lab-dev.Below": {"VersionRequirement": ">=1.0.0 <2.0.0", "DependencyType": "SOFT"}}
    cloud.component("1.0.0", ComponentDependencies=wants)
    made = cloud.deploy("core", {"lab-dev.App": "1.0.0"})
    assert cloud.status(made) == "SUCCEEDED", cloud.reason(made)
    assert eventually(lambda: cloud.installed()["lab-dev.Below"] == ("1.2.0", "FINISHED"))
    below = cloud.deploy("fleet", {"lab-dev.Below": "2.0.0"})
    assert "wants lab-dev.Below >=1.0.0 <2.0.0, not 2.0.0" in cloud.reason(below)


def test_a_component_leaves_when_no_deployment_wants_it(cloud: Cloud) -> None:
    cloud.component("1.0.0")
    cloud.deploy("core", {"lab-dev.App": "1.0.0"})
    made = cloud.deploy("core", {})
    assert (cloud.status(made), cloud.installed()) == ("SUCCEEDED", {})


def test_a_change_of_configuration_alone_does_not_restart(cloud: Cloud) -> None:
    cloud.component("1.0.0")
    cloud.deploy("core", {"lab-dev.App": "1.0.0"})
    update = {"merge": json.dumps({"word": "other"})}
    made = cloud.deploy("core", {"lab-dev.App": {"componentVersion": "1.0.0", "configurationUpdate": update}})
    assert (cloud.status(made), len(cloud.starts())) == ("SUCCEEDED", 1)


@pytest.mark.parametrize(
    ("merge", "said"),
    [
        ({"word": "x" * 1_025}, "word has 1025 bytes; nucleus lite takes texts of 1024"),
        ({f"key{number}": number for number in range(80)}, "keys; nucleus lite takes 80"),
        ({f"key{number}": "x" * 1_000 for number in range(7)}, "which nucleus lite never answers"),
    ],
)
def test_a_configuration_that_lite_does_not_take_fails_the_deployment(
    cloud: Cloud, merge: dict[str, Any], said: str
) -> None:
    cloud.component("1.0.0", Lifecycle={"run": "exit 0"})
    update = {"componentVersion": "1.0.0", "configurationUpdate": {"merge": json.dumps(merge)}}
    assert said in cloud.reason(cloud.deploy("core", {"lab-dev.App": update}))


def test_a_restarted_component_has_another_token(cloud: Cloud) -> None:
    cloud.component("1.0.0")
    cloud.deploy("core", {"lab-dev.App": "1.0.0"})
    [desk] = greengrassv2.desks()
    component = desk.devices[THING].components["lab-dev.App"]
    before = component.registration.token
    (cloud.root / "work" / "lab-dev.App" / "die").touch()
    assert eventually(lambda: len(cloud.starts()) == 2 and cloud.installed()["lab-dev.App"][1] == "RUNNING")
    assert component.registration.token != before


def test_a_groups_deployment_stays_active_and_a_things_deployment_ends(cloud: Cloud) -> None:
    cloud.component("1.0.0", Lifecycle={"run": "exit 0"})
    group = cloud.deploy("core", {"lab-dev.App": "1.0.0"})
    assert (cloud.status(group), cloud.client.get_deployment(deploymentId=group)["deploymentStatus"]) == (
        "SUCCEEDED",
        "ACTIVE",
    )
    thing = cloud.deploy(f"thing/{THING}", {"lab-dev.App": "1.0.0"})
    assert cloud.effective(thing)["coreDeviceExecutionStatus"] == "COMPLETED"
    assert cloud.client.get_deployment(deploymentId=thing)["deploymentStatus"] == "COMPLETED"


def test_the_newest_deployment_wins_where_two_groups_pin_one_component(cloud: Cloud) -> None:
    for version in ("1.0.0", "1.0.1"):
        cloud.component(version, Lifecycle={"run": "exit 0"})
    cloud.deploy("canary", {"lab-dev.App": "1.0.0"})
    cloud.deploy("fleet", {"lab-dev.App": "1.0.0"})
    assert cloud.status(cloud.deploy("canary", {"lab-dev.App": "1.0.1"})) == "SUCCEEDED"
    assert cloud.installed()["lab-dev.App"][0] == "1.0.1"
    assert (cloud.root / "recipes" / "lab-dev.App-1.0.1.json").is_file()


def test_after_a_deployment_the_camera_shows_pictures_of_every_class(cloud: Cloud) -> None:
    bucket = "lab-dev-data-123456789012-us-east-1"
    cloud.engine.client("s3").create_bucket(Bucket=bucket)
    for label in range(3):
        for number in range(10):
            key = f"raw/digits/{label}/{number}.png"
            cloud.engine.client("s3").put_object(Bucket=bucket, Key=key, Body=b"png")
    cloud.engine.client("s3").put_object(Bucket=bucket, Key="raw/digits/_manifest.json", Body=b"{}")
    script = {"run": "exit 0"}
    configuration = {"DefaultConfiguration": {"source": "inbox"}}
    cloud.component("1.0.0", Lifecycle=script, ComponentConfiguration=configuration)
    cloud.deploy("core", {"lab-dev.App": "1.0.0"})
    inbox = cloud.root / "work" / "lab-dev.App" / "inbox"
    assert eventually(lambda: inbox.is_dir() and len(list(inbox.glob("[!.]*.png"))) == 12)
    assert {path.name[0] for path in inbox.glob("[!.]*.png")} == {"0", "1", "2"}


def test_a_component_acts_as_its_own_device_and_as_no_other(cloud: Cloud, role: Callable[..., str]) -> None:
    arn = role("device", "credentials.iot")
    cloud.engine.client("iot").create_role_alias(roleAlias="lab-dev-device", roleArn=arn)
    key = cloud.engine.root / "key.txt"
    starts = "cd {artifacts:decompressedPath}/code && exec python3 -m app {work:path}"
    script = f"printenv AWS_ACCESS_KEY_ID > {key}; {starts}"
    cloud.component("1.0.0", Lifecycle={"startup": {"Script": script, "Timeout": 10}})
    deployment = cloud.deploy("fleet", {"lab-dev.App": "1.0.0"})
    assert cloud.status(deployment) == "SUCCEEDED", cloud.reason(deployment)
    caller = Guard(cloud.engine).caller(key.read_text().strip())
    assert caller is not None and (caller.role.name, caller.session) == ("device", THING)
