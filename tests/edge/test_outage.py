"""E5 held by the whole process: ten minutes of traffic without a broker, two kills, and no alert is lost."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge import stager
from edge.files import read_json
from lab.ipc import Registration, Server

REPO = Path(__file__).parents[2]
THING, COMPONENT = "desk-1", "lab.Inference"
SPOOL_MB = 1
# Time is scaled: as fast as the machine answers, some 30,000 samples in half a minute, instead of 50 a second for ten
# minutes. SAMPLES is what ten minutes have at the rate that a device is set to.
RATE_HZ, REFUSALS, SAMPLES = 2_000, 20, 6_000
pytestmark = pytest.mark.slow
Make = Callable[..., Path]


class Core:
    """A device with a broker that can go away, and the component's process on it."""

    def __init__(self, folder: Path) -> None:
        self.work = folder / "work" / COMPONENT
        self.store = folder / "work" / "lab.Model" / "store"
        self.work.mkdir(parents=True)
        self.arrived: list[tuple[str, dict[str, Any]]] = []
        self.most = 0
        self.server = Server(folder / "ipc", THING, self._arrive)
        self.server.start()

    def _arrive(self, topic: str, payload: bytes) -> None:
        self.arrived.append((topic.rpartition("/")[2], json.loads(payload)))

    def start(self) -> None:
        """Starts the process as a nucleus does, with a token of its own."""
        policy = {"p": {"operations": ["*"], "resources": ["*"]}}
        configuration: dict[str, Any] = {
            "accessControl": {"aws.greengrass.ipc.mqttproxy": policy},
            "model_component": "lab.Model",
            "source": "replay:seen",
            "rate_hz": RATE_HZ,
            "publish": True,
            "interval_s": 0.5,
            "poll_s": 0.05,
            "spool_mb": SPOOL_MB,
        }
        component = Registration(COMPONENT, configuration, lambda _: None)
        self.server.register(component)
        with (self.work / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-B", "-m", "edge.inference", "--work", str(self.work)],
                cwd=REPO,
                env={
                    "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT": str(self.server.path),
                    "SVCUID": component.token,
                    "AWS_IOT_THING_NAME": THING,
                },
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def until(self, condition: Callable[[], Any], seconds: float = 60.0) -> None:
        """Waits, and looks at the disk meanwhile."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, (self.work / "log").read_text()[-3000:]
            self.most = max(self.most, sum(path.stat().st_size for path in self.work.glob("spool.db*")))
            time.sleep(0.02)

    def goes_on(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end)

    def refused(self, version: str) -> bool:
        return (read_json(self.work / "verdicts" / version) or {}).get("accepted") is False

    def said(self, kind: str) -> list[dict[str, Any]]:
        return [message for topic, message in list(self.arrived) if topic == kind]


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    made = Core(tmp_path)
    yield made
    made.kill()
    made.server.stop()


def test_e5_ten_minutes_of_traffic_without_a_broker_lose_no_alert_and_keep_to_the_disks_budget(
    core: Core, package: Make, reseal: Make
) -> None:
    seen = core.work / "seen"
    seen.mkdir()
    for number in range(20):
        Image.fromarray(np.full((8, 8), 5 * number, np.uint8)).save(seen / f"{number:02}.png")
    stager.stage(package("1.0.1"), "1.0.1", core.store)
    core.start()
    core.until(lambda: core.said("results"))
    core.server.faults.offline = True
    time.sleep(0.2)
    before = len(core.arrived)
    refused = [f"2.0.{number}" for number in range(REFUSALS)]
    for number, version in enumerate(refused):
        # A model of the wrong answers: refused by its golden vectors, and a person must hear of it.
        broken = package(version, seed=1)
        (broken / "model.onnx").write_bytes((package("other", seed=9) / "model.onnx").read_bytes())
        stager.stage(reseal(broken, version=version), version, core.store)
        core.until(partial(core.refused, version))
        core.goes_on(1.5)
        if number in (REFUSALS // 3, 2 * REFUSALS // 3):
            core.kill()
            core.start()
    assert len(core.arrived) == before, "nothing arrives while the broker is away"
    core.server.faults.offline = False
    core.until(lambda: {alert["version"] for alert in core.said("alert")} >= set(refused))
    back = datetime.now(UTC).isoformat(timespec="milliseconds")
    core.until(lambda: any(report["time"] > back for report in core.said("telemetry")))
    told = core.said("telemetry")
    assert sum(report["count"] for report in told) > SAMPLES
    assert any(report["drops"].get("result") for report in told), "there was more than the disk may hold"
    assert core.most <= SPOOL_MB * 2**20, "the budget holds at every moment"
    assert {report["model_version"] for report in told} <= {"1.0.1", None}, "no refused model ever answered"
    assert core.process.poll() is None
