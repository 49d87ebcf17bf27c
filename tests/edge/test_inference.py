"""The runtime component as a process: alone, and under the desk's nucleus."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge import stager
from lab.ipc import Registration, Server

REPO = Path(__file__).parents[2]
Make = Callable[..., Path]


def eventually(condition: Callable[[], Any], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(condition())


class Device:
    """A nucleus with one component registered, its work folders, and the runtime process."""

    def __init__(self, folder: Path) -> None:
        self.cloud: list[dict[str, Any]] = []
        self.alerts: list[dict[str, Any]] = []
        self.states: list[str] = []
        self.work = folder / "work" / "lab.Inference"
        self.store = folder / "work" / "lab.Model" / "store"
        (self.work / "inbox").mkdir(parents=True)
        self.server = Server(folder / "ipc", "desk-1", self._arrived)
        policy = {"p": {"operations": ["*"], "resources": ["lab/*"]}}
        configuration: dict[str, Any] = {
            "prefix": "lab",
            "model_component": "lab.Model",
            "interval_s": "0.5",
            "poll_s": 0.05,
            "accessControl": {"aws.greengrass.ipc.mqttproxy": policy},
        }
        self.component = Registration("lab.Inference", configuration, self.states.append)
        self.server.register(self.component)
        self.server.start()
        self.process: subprocess.Popen[bytes] | None = None

    def _arrived(self, topic: str, data: bytes) -> None:
        (self.alerts if topic.endswith("/alert") else self.cloud).append(json.loads(data))

    def start(self, alone: bool = False) -> subprocess.Popen[bytes]:
        nucleus = {
            "SVCUID": self.component.token,
            "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT": str(self.server.path),
            "AWS_IOT_THING_NAME": "desk-1",
        }
        log = (self.work / "log").open("ab")
        argv = [sys.executable, "-m", "edge.inference", "--work", str(self.work)]
        # No HOME, no credentials, no region: what a component finds on a bare device.
        environment = {"PATH": os.defpath, **({} if alone else nucleus)}
        self.process = subprocess.Popen(argv, cwd=REPO, env=environment, stdout=log, stderr=log)
        log.close()
        return self.process

    def log(self) -> str:
        return (self.work / "log").read_text()

    def results(self) -> list[dict[str, Any]]:
        path = self.work / "results.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.server.stop()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    made = Device(tmp_path)
    yield made
    made.stop()


@pytest.mark.slow
def test_it_waits_runs_takes_a_model_on_refuses_a_bad_one_and_reports(
    device: Device, package: Make, reseal: Make, picture: Callable[[int], bytes]
) -> None:
    process = device.start()
    assert eventually(lambda: device.states == ["RUNNING"]), device.log()
    assert "WAITING for the first model" in device.log()
    stager.stage(package("1.0.1"), "1.0.1", device.store)
    assert eventually(lambda: any(one["model_version"] == "1.0.1" for one in device.cloud)), device.log()
    assert [{"kind": "swap", "version": "1.0.1"}] in [one["events"] for one in device.cloud]
    (device.work / "inbox" / "grey.png").write_bytes(picture(10))
    (device.work / "inbox" / "torn.png").write_bytes(b"\x89PNG no picture")
    assert eventually(lambda: len(device.results()) == 2), device.log()
    answered = {one["source"]: one for one in device.results()}
    assert answered["grey.png"]["model_version"] == "1.0.1" and answered["grey.png"]["label"]
    assert "error" in answered["torn.png"]
    bad = package("1.0.2", seed=2)
    (bad / "model.onnx").write_bytes(b"no graph")
    stager.stage(reseal(bad, version="1.0.2"), "1.0.2", device.store)
    refused = {"kind": "reject", "version": "1.0.2", "reason": "load"}
    assert eventually(lambda: any(refused in one["events"] for one in device.cloud)), device.log()
    assert process.poll() is None and device.cloud[-1]["model_version"] == "1.0.1"
    assert sum(one["count"] for one in device.cloud) == 1 and sum(one["corrupt"] for one in device.cloud) == 1
    assert [(one["kind"], one["version"], one["reason"]) for one in device.alerts] == [
        ("swap", "1.0.1", ""),
        ("reject", "1.0.2", "load"),
    ]
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0


@pytest.mark.slow
def test_inference_goes_on_while_the_nucleus_is_gone_and_telemetry_arrives_later(
    device: Device, package: Make, picture: Callable[[int], bytes]
) -> None:
    stager.stage(package(), "1.0.1", device.store)
    device.start()
    assert eventually(lambda: device.cloud), device.log()
    device.server.faults.refuse = True
    device.server.drop_connections()
    reported = len(device.cloud)
    (device.work / "inbox" / "one.png").write_bytes(picture(200))
    assert eventually(device.results), device.log()
    device.server.faults.refuse = False
    assert eventually(lambda: sum(one["count"] for one in device.cloud[reported:]) == 1), device.log()


@pytest.mark.slow
def test_without_a_nucleus_and_after_a_kill_the_last_good_model_serves(
    device: Device, package: Make, picture: Callable[[int], bytes]
) -> None:
    stager.stage(package(), "1.0.1", device.store)
    device.start()
    assert eventually(lambda: (device.work / "serving.json").exists()), device.log()
    assert device.process is not None
    device.process.kill()
    device.process.wait()
    device.start(alone=True)
    (device.work / "inbox" / "one.png").write_bytes(picture(200))
    assert eventually(device.results), device.log()
    assert device.results()[0]["model_version"] == "1.0.1"


@pytest.mark.slow
def test_without_a_nucleus_for_too_long_it_ends_to_get_a_new_token_twice_an_hour_and_then_stays(
    device: Device, package: Make
) -> None:
    stager.stage(package(), "1.0.1", device.store)
    device.component.configuration["patience_s"] = 1
    for _ in range(2):
        device.server.faults.refuse = False
        process = device.start()
        reported = len(device.cloud)
        assert eventually(lambda: len(device.cloud) > reported), device.log()  # noqa: B023
        device.server.faults.refuse = True
        device.server.drop_connections()
        assert process.wait(60) == 3, device.log()
    device.server.faults.refuse = False
    process = device.start()
    reported = len(device.cloud)
    assert eventually(lambda: len(device.cloud) > reported), device.log()
    device.server.faults.refuse = True
    device.server.drop_connections()
    assert eventually(lambda: "the nucleus refused or is gone" in device.log().rpartition("serving")[2])
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(5)
