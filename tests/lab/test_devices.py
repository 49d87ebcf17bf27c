"""`lab device`: the fleet as the command line shows and changes it, on an engine of this process."""

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fleets import Fleet, archive, things

from lab import cli, devices, door, greengrassv2, launch, stack
from lab.engine import Engine
from lab.home import Home
from lab.stack import Stack

REPO = Path(__file__).parents[2]
Until = Callable[[Callable[[], Any]], Any]
OUTPUTS = {
    "CoreGroup": "lab-dev-core",
    "CanaryGroup": "lab-dev-canary",
    "FleetGroup": "lab-dev-fleet",
    "ModelComponent": "lab-dev.Model",
    "RuntimeComponent": "lab-dev.Inference",
    "DataBucket": "lab-data",
}
# What stands for the stager here: it accepts a package whose label is "good", and says why it refuses another.
STAGER = """
import argparse, json, pathlib, sys
parser = argparse.ArgumentParser()
for name in ("package", "version", "work", "verdicts", "patience"):
    parser.add_argument(f"--{name}")
args, _ = parser.parse_known_args()
label = json.loads((pathlib.Path(args.package) / "model.json").read_text())["label"]
if label != "good":
    sys.exit(f"version {args.version} is refused: golden: output 0 is off by 3")
import os, socket
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
    notified.connect(os.environ["NOTIFY_SOCKET"])
    notified.sendall(b"READY=1")
"""
APP = """
import pathlib, sys, time
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2
client = GreengrassCoreIPCClientV2()
client.update_state(state="RUNNING")
print("ready", flush=True)
topic = "lab-dev/" + sys.argv[1] + "/telemetry"
client.publish_to_iot_core(topic_name=topic, qos="1", payload=b'{"model_version": "1.0.1", "count": 3}')
while True:
    time.sleep(1)
"""


@pytest.fixture
def fleet(desk: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: Until) -> Iterator[Fleet]:
    """Three cores with a runtime that publishes once; `lab` finds them as those of `lab up`."""
    greengrassv2.install(desk)
    made = Fleet(desk)
    made.settle(3)
    for bucket in ("lab-data", "lab-code"):
        desk.client("s3").create_bucket(Bucket=bucket)
    bundle = archive(**{"app.py": APP, "edge/__init__.py": "", "edge/stager.py": STAGER})
    desk.client("s3").put_object(Bucket="lab-code", Key="bundle.zip", Body=bundle)
    access = {"aws.greengrass.ipc.mqttproxy": {"p": {"operations": ["*"], "resources": ["lab-dev/*"]}}}
    runtime = {
        "RecipeFormatVersion": "2020-01-25",
        "ComponentName": "lab-dev.Inference",
        "ComponentVersion": "1.0.0",
        "ComponentConfiguration": {"DefaultConfiguration": {"accessControl": access}},
        "Manifests": [
            {
                "Platform": {"os": "linux", "runtime": "*"},
                "Lifecycle": {
                    "startup": {
                        "Script": "cd {artifacts:decompressedPath}/bundle && exec python3 -m app {iot:thingName}",
                        "Timeout": 30,
                    }
                },
                "Artifacts": [{"Uri": "s3://lab-code/bundle.zip", "Unarchive": "ZIP"}],
            }
        ],
    }
    made.greengrass.create_component_version(inlineRecipe=json.dumps(runtime).encode())
    first = made.deploy("core", {"lab-dev.Inference": "1.0.0"})
    until(lambda: made.ended(first, *things(1, 2, 3)))
    until(lambda: all(devices.telemetry(desk.root, thing) for thing in things(1, 2, 3)))
    settings = {"edge": {"abort_failed_percent": 10.0, "timeout_minutes": 60}}
    variables = {"Environment": {"Variables": {"STAGER_ARTIFACT": "s3://lab-code/bundle.zip"}}}
    functions = SimpleNamespace(get_function_configuration=lambda **_: variables)
    client = Engine.client
    monkeypatch.setattr(Engine, "client", lambda self, name: functions if name == "lambda" else client(self, name))
    server = SimpleNamespace(engine=lambda: desk, root=desk.root)
    monkeypatch.setattr(launch, "running", lambda root: server)
    monkeypatch.setattr(stack, "deployed", lambda engine: Stack(engine, "lab-dev", OUTPUTS, settings))
    monkeypatch.setattr("lab.home.find", lambda config=None: Home(REPO, tmp_path / ".lab", REPO / "lab.toml"))
    yield made
    greengrassv2.stop()


def package(folder: Path, label: str) -> Path:
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"weights")
    digests = {"model.onnx": hashlib.sha256(b"weights").hexdigest()}
    (folder / "model.json").write_text(json.dumps({"schema": 1, "label": label, "sha256": digests}))
    return folder


Said = Callable[..., Any]


@pytest.fixture
def said(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> Said:
    """Runs `lab device …`; gives exit code, output and, with --json, the document."""

    def run(*words: str) -> Any:
        capsys.readouterr()
        code = cli.main(["device", *words])
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err, document=json.loads(out) if "--json" in words else None)

    return run


def test_list_shows_each_device_with_groups_health_version_telemetry_and_faults(said: Said) -> None:
    assert said("fault", "slow", "2").code == 0
    rows = said("list", "--json").document
    assert [row["thing"] for row in rows] == things(1, 2, 3)
    assert [row["groups"] for row in rows] == [["canary"], ["fleet"], ["fleet"]]
    assert [row["faults"] for row in rows] == [[], ["slow"], []]
    assert all(row["status"] == "HEALTHY" and row["model_version"] is None for row in rows)
    assert all((row["telemetry"]["model_version"], row["telemetry"]["count"]) == ("1.0.1", 3) for row in rows)
    shown = said("list").out
    assert "lab-dev-desk-3" in shown and "slow" in shown and "canary" in shown


def test_a_good_package_is_accepted_by_the_canaries_alone(said: Said, fleet: Fleet, tmp_path: Path) -> None:
    done = said("push", str(package(tmp_path / "good", "good")), "--json")
    assert done.code == 0, done.err
    version = done.document["version"]
    assert done.document["verdicts"] == [{"thing": things(1)[0], "accepted": True, "reason": None, "detail": None}]
    assert fleet.installed(things(1)[0])["lab-dev.Model"] == version
    assert all("lab-dev.Model" not in fleet.installed(thing) for thing in things(2, 3))
    again = said("push", str(tmp_path / "good"), "--json")
    assert (again.code, again.document["version"]) == (0, version), "the same content is the same version"


def test_a_refused_package_is_exit_1_with_the_reason_code(said: Said, tmp_path: Path) -> None:
    done = said("push", str(package(tmp_path / "bad", "bad")))
    assert done.code == 1
    assert "refused" in done.out and "golden" in done.out
    assert "golden: output 0 is off by 3" in done.err


def test_a_package_for_one_thing_goes_to_it_alone_and_makes_no_deployment(
    said: Said, fleet: Fleet, tmp_path: Path
) -> None:
    folder = package(tmp_path / "good", "good")
    with zipfile.ZipFile(tmp_path / "good.zip", "w") as zipped:
        for path in folder.iterdir():
            zipped.write(path, path.name)
    (tmp_path / "release").mkdir()
    (tmp_path / "good.zip").rename(tmp_path / "release" / "model.zip")
    before = fleet.greengrass.list_deployments(historyFilter="ALL")["deployments"]
    done = said("push", str(tmp_path / "release"), "--thing", "3", "--json")
    assert done.code == 0, done.err
    assert fleet.installed(things(3)[0])["lab-dev.Model"] == done.document["version"]
    assert "lab-dev.Model" not in fleet.installed(things(1)[0])
    assert fleet.greengrass.list_deployments(historyFilter="ALL")["deployments"] == before
    refused = said("push", str(package(tmp_path / "bad", "bad")), "--thing", "3")
    assert refused.code == 1 and "golden" in refused.err


def test_a_device_that_is_off_has_not_seen_the_model_and_takes_it_when_it_is_back(
    said: Said, fleet: Fleet, tmp_path: Path, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.push.OFF_S", 0.5)
    assert "offline" in said("offline", "1").out
    done = said("push", str(package(tmp_path / "good", "good")), "--json")
    assert done.code == 0
    assert (done.document["verdicts"][0]["accepted"], done.document["verdicts"][0]["detail"]) == (None, "it is off")
    assert "no fault is on" in said("online", "1").out
    until(lambda: fleet.installed(things(1)[0]).get("lab-dev.Model") == done.document["version"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("push", "nowhere"), "there is no nowhere"),
        (("push", str(REPO / "lab")), "is no model package: it has no model.json"),
        (("push", str(REPO / "lab.toml")), "is no ZIP archive"),
        (("fault", "flood"), "there is no fault 'flood'"),
        (("fault", "nucleus", "--off"), "happens once"),
        (("offline", "9"), "no device is called '9'"),
    ],
)
def test_what_cannot_be_done_is_one_message_with_its_remedy(said: Said, words: tuple[str, ...], message: str) -> None:
    done = said(*words)
    assert done.code == 1 and message in done.err and "try:" in done.err
    assert "Traceback" not in done.err


def test_a_fault_without_a_thing_is_on_all_devices(said: Said) -> None:
    assert said("fault", "refused", "--json").document == {thing: ["refused"] for thing in things(1, 2, 3)}
    assert said("fault", "refused", "--off", "--json").document == {thing: [] for thing in things(1, 2, 3)}


def test_tail_prints_logs_and_what_is_published(said: Said) -> None:
    shown = said("tail", "2", "--no-follow", "--lines", "5").out.splitlines()
    assert any("lab-dev.Inference" in line and line.endswith("ready") for line in shown)
    assert any("lab-dev/lab-dev-desk-2/telemetry" in line and '"count": 3' in line for line in shown)
    assert all(line.startswith("  2 ") for line in shown)
    assert {row["thing"] for row in said("tail", "--json").document} == set(things(1, 2, 3))


def test_tail_goes_on_with_what_comes_and_never_shows_a_line_twice(tmp_path: Path) -> None:
    folder = tmp_path / "devices" / "x-desk-1" / "logs"
    folder.mkdir(parents=True)
    log = folder / "App.log"
    log.write_text("one\ntwo\nthree\n")
    tail = devices.Tail(tmp_path, ["x-desk-1"], 2)
    assert [text for _, _, text in tail.lines()] == ["two", "three"]
    with log.open("a") as stream:
        stream.write("four\nfi")
    assert [text for _, _, text in tail.lines()] == ["four"]
    with log.open("a") as stream:
        stream.write("ve\n")
    assert [text for _, _, text in tail.lines()] == ["five"]
    log.write_text("new\n")
    assert [text for _, _, text in tail.lines()] == ["new"]


def test_without_an_embedded_aws_it_says_how_to_start_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launch, "running", lambda root: None)
    for words in (["list"], ["push", "x"], ["offline"], ["fault", "slow"], ["tail"]):
        assert cli.main(["device", *words]) == 1
        assert "no embedded AWS is running" in (err := capsys.readouterr().err) and "lab up" in err


def test_a_door_hands_the_servers_error_on(fleet: Fleet) -> None:
    with pytest.raises(Exception, match="no device is called 'x'"):
        door.ask(fleet.engine, "device", {"do": "switch", "fault": "slow", "on": True, "things": ["x"]})
