"""A subscription that died in silence is found by a message to ourselves, against the desk's IPC server."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from awsiot.greengrasscoreipc import connect
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2

from edge.loopback import Loopback
from edge.nucleus import Nucleus
from lab.ipc import Registration, Server


class Broker:
    """The desk's IPC server, whose cloud gives every message back to who subscribed."""

    def __init__(self, folder: Path) -> None:
        self.server = Server(folder / "ipc", "desk-1", self._back)
        policy = {"p": {"operations": ["*"], "resources": ["lab/*"]}}
        configuration: dict[str, Any] = {"accessControl": {"aws.greengrass.ipc.mqttproxy": policy}}
        self.component = Registration("lab.Inference", configuration, lambda _: None)
        self.server.register(self.component)
        self.server.start()

    def _back(self, topic: str, payload: bytes) -> None:
        self.server.deliver(topic, payload)

    def connect(self) -> GreengrassCoreIPCClientV2:
        return GreengrassCoreIPCClientV2(
            connect(ipc_socket=str(self.server.path), authtoken=self.component.token, timeout=5.0)
        )


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path)
    yield made
    made.server.stop()


@pytest.fixture
def nucleus(broker: Broker) -> Iterator[Nucleus]:
    made = Nucleus(broker.connect)
    yield made
    made.close()


def tended(loopback: Loopback, until: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not until() and time.monotonic() < deadline:
        loopback.tend()
        time.sleep(0.01)
    return until()


def test_subscriptions_lost_in_silence_are_made_anew(broker: Broker, nucleus: Nucleus) -> None:
    got: list[bytes] = []
    assert nucleus.subscribe("lab/desk-1/sense", lambda _, payload: got.append(payload))
    loopback = Loopback(nucleus, "lab/desk-1/ping", every_s=0.05, patience_s=0.5)
    for _ in range(30):
        assert not loopback.tend()
        time.sleep(0.02)
    assert loopback.missed == 0
    broker.server.drop_subscriptions()
    broker.server.deliver("lab/desk-1/sense", b"lost")
    assert nucleus.publish("lab/desk-1/telemetry", b"publishing still works")
    assert tended(loopback, lambda: loopback.missed > 0), "a loss is found"
    assert tended(loopback, lambda: loopback.missed != 1) and loopback.missed == 0, "and mended at the first try"
    broker.server.deliver("lab/desk-1/sense", b"found")
    deadline = time.monotonic() + 5
    while b"found" not in got and time.monotonic() < deadline:
        time.sleep(0.01)
    assert got == [b"found"]


def test_offline_says_nothing_about_subscriptions(broker: Broker, nucleus: Nucleus) -> None:
    broker.server.faults.offline = True
    loopback = Loopback(nucleus, "lab/desk-1/ping", every_s=0.02, patience_s=0.05)
    for _ in range(20):
        assert not loopback.tend()
        time.sleep(0.02)
    assert loopback.missed == 0
