"""The component's view of the nucleus, against the desk's IPC server and the real SDK."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from awsiot.greengrasscoreipc import connect
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2

from edge import nucleus
from lab.ipc import Registration, Server


class Device:
    def __init__(self, folder: Path) -> None:
        self.cloud: list[bytes] = []
        self.states: list[str] = []
        self.server = Server(folder / "ipc", "desk-1", lambda _, data: self.cloud.append(data))
        policy = {"p": {"operations": ["*"], "resources": ["lab/*"]}}
        configuration: dict[str, Any] = {"a": 1, "accessControl": {"aws.greengrass.ipc.mqttproxy": policy}}
        self.component = Registration("lab.Inference", configuration, self.states.append)
        self.server.register(self.component)
        self.server.start()

    def connect(self) -> GreengrassCoreIPCClientV2:
        return GreengrassCoreIPCClientV2(
            connect(ipc_socket=str(self.server.path), authtoken=self.component.token, timeout=5.0)
        )


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    made = Device(tmp_path)
    yield made
    made.server.stop()


@pytest.fixture
def client(device: Device, monkeypatch: pytest.MonkeyPatch) -> Iterator[nucleus.Nucleus]:
    monkeypatch.setattr(nucleus, "SECONDS", 0.05)
    made = nucleus.Nucleus(device.connect)
    yield made
    made.close()


def eventually(condition: Callable[[], Any], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(condition())


def test_state_configuration_and_telemetry_reach_the_nucleus(device: Device, client: nucleus.Nucleus) -> None:
    assert client.running() and device.states == ["RUNNING"]
    configuration = client.configuration()
    assert configuration is not None and configuration["a"] == 1
    assert client.publish("lab/x", b"hello") and device.cloud == [b"hello"]
    assert client.lost_for() == 0.0


def test_offline_is_no_and_unauthorized_is_never_and_neither_ends_the_connection(
    device: Device, client: nucleus.Nucleus
) -> None:
    device.server.faults.offline = True
    assert not client.publish("lab/x", b"1")
    device.server.faults.offline = False
    with pytest.raises(nucleus.Refused, match="Unauthorized"):
        client.publish("other/x", b"1")
    assert client.lost_for() == 0.0
    assert client.publish("lab/x", b"2") and device.cloud == [b"2"]


def test_a_lost_connection_is_made_again_and_the_subscription_with_it(device: Device, client: nucleus.Nucleus) -> None:
    changes: list[int] = []
    assert client.watch_configuration(lambda: changes.append(1))
    device.server.faults.refuse = True
    device.server.drop_connections()
    assert eventually(lambda: not client.running() and client.lost_for() > 0.2)
    device.server.faults.refuse = False
    assert eventually(client.running)
    assert client.lost_for() == 0.0
    device.server.configure(device.component, ["a"], 2)
    assert eventually(lambda: changes)


def test_a_message_that_would_end_the_connection_is_not_sent(client: nucleus.Nucleus) -> None:
    with pytest.raises(nucleus.Refused, match="6000 fit"):
        client.publish("lab/x", b"x" * 6_001)


def test_without_a_nucleus_every_call_says_no(tmp_path: Path) -> None:
    def refuse() -> Any:
        raise ConnectionRefusedError("no socket")

    alone = nucleus.Nucleus(refuse)
    assert (alone.running(), alone.configuration(), alone.publish("x", b"")) == (False, None, False)
    assert alone.lost_for() >= 0.0
