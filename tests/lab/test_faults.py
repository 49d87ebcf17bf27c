"""Each fault is put on and taken back while a component runs, which only sees what a real device would let it see."""

import errno
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fleets import Fleet, archive, things

from lab import greengrassv2, iot
from lab.device import Device
from lab.engine import Engine
from lab.errors import LabError
from lab.faults import ALL, SKEW_S

Until = Callable[[Callable[[], Any]], Any]
[THING] = things(1)
# Reports twenty times a second what it sees; ends when the nucleus has been gone for a second.
PROGRAM = """
import json, pathlib, sys, time
from datetime import datetime
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2
work = pathlib.Path(sys.argv[1])
heard, topic = [], "lab-dev/" + sys.argv[2]
def connect():
    client = GreengrassCoreIPCClientV2()
    client.subscribe_to_iot_core(topic_name=topic + "/echo", qos="1", on_stream_event=heard.append)
    return client
client = connect()
client.update_state(state="RUNNING")
good = time.monotonic()
while time.monotonic() - good < 1:
    seen = {"time": time.time(), "year": datetime.now().timestamp(), "heard": len(heard), "written": 0}
    try:
        with open(work / "file", "w") as file:
            file.write("x" * 100)
    except OSError as error:
        seen["written"] = error.errno
    try:
        seen["interval"] = client.get_configuration(key_path=["interval_s"]).value["interval_s"]
        good = time.monotonic()
        client.publish_to_iot_core(topic_name=topic + "/echo", qos="1", payload=json.dumps(seen).encode())
    except Exception as error:
        print(type(error).__name__, flush=True)
        if type(error).__name__ != "ServiceError":
            try:
                client = connect()
            except Exception as error:
                print("no connection", flush=True)
    time.sleep(0.05)
sys.exit(3)
"""


class Core:
    """A core device with the component that reports, and what reached the broker."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.messages: list[dict[str, Any]] = []
        iot.subscribe(self.hear)

    def hear(self, topic: str, payload: bytes) -> None:
        self.messages.append(json.loads(payload))

    @property
    def device(self) -> Device:
        [desk] = greengrassv2.desks()
        return desk.devices[THING]

    def switch(self, name: str, on: bool = True) -> None:
        self.device.faults.switch(name, on)

    def log(self) -> str:
        return (self.device.root / "logs" / "lab-dev.App.log").read_text()

    def next(self) -> dict[str, Any]:
        """A message that is sent from now on."""
        count = len(self.messages)
        deadline = time.monotonic() + 30
        while len(self.messages) <= count + 1:
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)
        return self.messages[-1]

    def seen(self, name: str, value: Any) -> bool:
        return bool(self.next()[name] == value)

    def silent(self) -> bool:
        """Whether no message came for a moment."""
        count = len(self.messages)
        time.sleep(0.4)
        return len(self.messages) == count

    def pid(self) -> int:
        return self.device.components["lab-dev.App"].pid or 0


@pytest.fixture
def core(desk: Engine, until: Until) -> Iterator[Core]:
    greengrassv2.install(desk)
    fleet = Fleet(desk)
    fleet.settle(1)
    desk.client("s3").create_bucket(Bucket="artifacts")
    desk.client("s3").put_object(Bucket="artifacts", Key="code.zip", Body=archive(**{"app.py": PROGRAM}))
    access = {"aws.greengrass.ipc.mqttproxy": {"p": {"operations": ["*"], "resources": ["lab-dev/*"]}}}
    script = "cd {artifacts:decompressedPath}/code && exec python3 -m app {work:path} {iot:thingName}"
    for version in ("1.0.0", "1.0.1"):
        recipe = {
            "RecipeFormatVersion": "2020-01-25",
            "ComponentName": "lab-dev.App",
            "ComponentVersion": version,
            "ComponentConfiguration": {"DefaultConfiguration": {"interval_s": 60, "accessControl": access}},
            "Manifests": [
                {
                    "Platform": {"os": "linux", "runtime": "*"},
                    "Lifecycle": {"startup": {"Script": script, "Timeout": 30}},
                    "Artifacts": [{"Uri": "s3://artifacts/code.zip", "Unarchive": "ZIP"}],
                }
            ],
        }
        fleet.greengrass.create_component_version(inlineRecipe=json.dumps(recipe).encode())
    made = Core(fleet)
    first = fleet.deploy("core", {"lab-dev.App": "1.0.0"})
    until(lambda: fleet.ended(first, THING))
    assert fleet.executions(THING)[first] == "SUCCEEDED", fleet.reason(THING, first)
    yield made
    iot.unsubscribe(made.hear)
    greengrassv2.stop()


def test_offline_a_deployment_waits_and_is_taken_when_the_cloud_is_back(core: Core, until: Until) -> None:
    core.next()
    core.switch("offline")
    until(core.silent)
    assert "ServiceError" in core.log()
    made = core.fleet.deploy("core", {"lab-dev.App": "1.0.1"})
    assert core.fleet.told(made) == {THING: "QUEUED"} and core.device.faults.on() == ["offline"]
    core.switch("offline", on=False)
    until(lambda: core.fleet.ended(made, THING))
    assert core.fleet.installed(THING) == {"lab-dev.App": "1.0.1"}


def test_dropped_connections_stay_away_until_they_are_let_in_again(core: Core, until: Until) -> None:
    core.next()
    core.switch("dropped")
    until(lambda: "no connection" in core.log())
    assert core.silent()
    core.switch("dropped", on=False)
    core.next()


def test_a_refused_token_is_good_again_afterwards(core: Core, until: Until) -> None:
    core.next()
    core.switch("refused")
    until(lambda: "no connection" in core.log())
    core.switch("refused", on=False)
    core.next()


def test_subscriptions_are_lost_in_silence_while_publishing_goes_on(core: Core, until: Until) -> None:
    until(lambda: core.next()["heard"] > 2)
    pid = core.pid()
    core.switch("subscriptions")
    core.next()
    heard = core.next()["heard"]
    assert [core.next()["heard"], core.pid()] == [heard, pid]


def test_a_slow_device_stands_still_most_of_the_time_and_runs_again(core: Core, until: Until) -> None:
    def state() -> str:
        with open(f"/proc/{core.pid()}/stat") as stat:  # noqa: PTH123
            return stat.read().rpartition(") ")[2][0]

    core.next()
    core.switch("slow")
    until(lambda: state() == "T")
    until(lambda: state() != "T")
    core.next()
    core.switch("slow", on=False)
    pacer = core.device.faults._pacer
    assert pacer is not None
    pacer.join()
    assert state() != "T" and core.next()


def test_a_full_disk_refuses_what_is_written_and_takes_it_again(core: Core, until: Until) -> None:
    core.next()
    core.switch("disk-full")
    until(lambda: core.seen("written", errno.EFBIG))
    core.switch("disk-full", on=False)
    until(lambda: core.seen("written", 0))


def test_a_component_that_starts_on_a_full_disk_finds_it_full(core: Core, until: Until) -> None:
    core.next()
    core.switch("disk-full")
    core.switch("nucleus")
    pid = core.pid()
    until(lambda: core.pid() != pid and core.seen("written", errno.EFBIG))


def test_a_skewed_clock_is_a_day_ahead_and_right_again(core: Core, until: Until) -> None:
    core.next()
    for on, ahead in ((True, SKEW_S), (False, 0.0)):
        core.switch("clock", on=on)
        seen = core.next()
        until(lambda ahead=ahead: abs(core.next()["time"] - time.time() - ahead) < 60)
        assert abs(core.next()["year"] - time.time() - ahead) < 60 and seen


def test_a_corrupt_artifact_fails_one_deployment_and_the_next_one_goes_through(core: Core, until: Until) -> None:
    core.switch("corrupt")
    made = core.fleet.deploy("core", {"lab-dev.App": "1.0.1"})
    until(lambda: core.fleet.ended(made, THING))
    assert "is not what it was when its component version was created" in core.fleet.reason(THING, made)
    assert core.device.faults.on() == [] and core.fleet.installed(THING) == {"lab-dev.App": "1.0.0"}
    again = core.fleet.deploy("core", {"lab-dev.App": "1.0.1"})
    until(lambda: core.fleet.ended(again, THING))
    assert core.fleet.installed(THING) == {"lab-dev.App": "1.0.1"}


def test_a_restarted_nucleus_knows_no_token_and_the_component_comes_back_with_a_new_one(
    core: Core, until: Until
) -> None:
    core.next()
    pid, token = core.pid(), core.device.components["lab-dev.App"].registration.token
    core.switch("nucleus")
    until(lambda: core.pid() != pid and core.next())
    assert core.device.components["lab-dev.App"].registration.token != token


def test_numbers_arrive_as_text_as_from_a_yaml_recipe(core: Core, until: Until) -> None:
    core.switch("yaml")
    until(lambda: core.seen("interval", "60"))
    core.switch("yaml", on=False)
    until(lambda: core.seen("interval", 60))


def test_what_is_no_fault_and_what_cannot_be_taken_back_is_said(core: Core) -> None:
    with pytest.raises(LabError, match="no fault 'flood'") as caught:
        core.switch("flood")
    assert all(name in str(caught.value.hint) for name in ALL)
    with pytest.raises(LabError, match="happens once"):
        core.switch("nucleus", on=False)
