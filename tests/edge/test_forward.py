"""What goes to the cloud: framed, in order of importance, again after a loss, and never in inference's way."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge import forward
from edge.forward import FRAME, Forwarder
from edge.nucleus import Refused
from edge.spool import Spool


class Cloud:
    """Takes messages while it is up."""

    def __init__(self) -> None:
        self.up = True
        self.refuses = ""
        self.got: list[tuple[str, dict[str, Any]]] = []

    def publish(self, topic: str, payload: bytes) -> bool:
        if self.refuses and topic.endswith(self.refuses):
            raise Refused("UnauthorizedError")
        if self.up:
            assert len(payload) <= 6_000
            self.got.append((topic, json.loads(payload)))
        return self.up

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for topic, message in self.got if topic == f"lab/desk-1/{kind}"]


def eventually(condition: Callable[[], Any], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(condition())


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


@pytest.fixture
def forwarder(tmp_path: Path, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Forwarder]:
    monkeypatch.setattr(forward, "PAUSE_S", (0.01, 0.05))
    made = Forwarder(Spool(tmp_path / "spool.db", 2_000_000, 1e9), cloud, "lab", "desk-1")
    made.start()
    yield made
    made.stop()


def test_an_alert_says_who_when_and_what(forwarder: Forwarder, cloud: Cloud) -> None:
    forwarder.alert("reject", version="1.0.2", reason="golden")
    assert eventually(lambda: cloud.of("alert"))
    (alert,) = cloud.of("alert")
    assert (alert["schema"], alert["thing"], alert["kind"], alert["reason"]) == (2, "desk-1", "reject", "golden")
    assert len(alert["id"]) == 36 and alert["time"].endswith("+00:00")


def test_results_travel_together_in_frames_that_a_nucleus_takes(forwarder: Forwarder, cloud: Cloud) -> None:
    for number in range(500):
        forwarder.result({"source": "x" * 60, "number": number})
    assert eventually(lambda: sum(len(one["results"]) for one in cloud.of("results")) == 500)
    numbers = [row["number"] for one in cloud.of("results") for row in one["results"]]
    assert numbers == list(range(500)) and len(cloud.of("results")) < 20
    assert all(len(json.dumps(one)) <= FRAME + 300 for one in cloud.of("results"))


def test_while_the_cloud_is_away_all_is_kept_and_alerts_are_the_first_to_arrive(
    forwarder: Forwarder, cloud: Cloud
) -> None:
    cloud.up = False
    forwarder.telemetry(b'{"n": 1}')
    forwarder.result({"n": 2})
    time.sleep(0.5)
    forwarder.alert("revert")
    cloud.up = True
    assert eventually(lambda: len(cloud.got) == 3)
    assert [topic.rsplit("/", 1)[1] for topic, _ in cloud.got] == ["alert", "telemetry", "results"]


def test_a_message_that_is_refused_for_ever_holds_up_no_other(forwarder: Forwarder, cloud: Cloud) -> None:
    cloud.refuses = "alert"
    forwarder.alert("swap")
    forwarder.telemetry(b'{"n": 1}')
    assert eventually(lambda: cloud.of("telemetry"))
    assert forwarder.dropped()["refused"] == 1


def test_handing_a_result_over_waits_for_no_disk(forwarder: Forwarder) -> None:
    """The spool's lock is held, as it is while a slow disk writes."""
    handed = threading.Event()

    def hand() -> None:
        for number in range(5_000):
            forwarder.result({"n": number})
        handed.set()

    with forwarder.spool._lock:
        threading.Thread(target=hand, daemon=True).start()
        assert handed.wait(20)
    assert forwarder.dropped()["result"] > 0, "what came faster than the disk takes it is counted"


def test_what_waits_at_the_end_is_written_down(tmp_path: Path, cloud: Cloud) -> None:
    cloud.up = False
    made = Forwarder(Spool(tmp_path / "other.db", 2_000_000, 1e9), cloud, "lab", "desk-1")
    made.start()
    made.result({"n": 1})
    made.stop()
    first = Spool(tmp_path / "other.db", 2_000_000, 1e9).first()
    assert first is not None and json.loads(first.payload)["results"] == [{"n": 1}]
