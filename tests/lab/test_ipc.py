"""The IPC server against the real awsiotsdk client."""

import copy
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from awscrt.exceptions import AwsCrtError
from awsiot.eventstreamrpc import ConnectionClosedError, StreamClosedError
from awsiot.greengrasscoreipc import connect, model
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2

from lab.eventstream import Frame, FrameError, Kind, decode
from lab.ipc import Registration, Server
from lab.ipcoperations import admits

# What the SDK and the library below it raise once the connection is gone, or was never made.
GONE = (ConnectionClosedError, StreamClosedError, AwsCrtError, RuntimeError)
CONFIGURATION: dict[str, Any] = {
    "interval_s": 60,
    "nested": {"deep": {"value": 1.5}},
    "accessControl": {
        "aws.greengrass.ipc.mqttproxy": {
            "p1": {
                "operations": ["aws.greengrass#PublishToIoTCore", "aws.greengrass#SubscribeToIoTCore"],
                "resources": ["lab/{iot:thingName}/*"],
            }
        },
        "aws.greengrass.ipc.pubsub": {"p2": {"operations": ["*"], "resources": ["local/*"]}},
    },
}


class Desk:
    """A server with one registered component, and what reached the cloud and the device."""

    def __init__(self, folder: Path) -> None:
        self.cloud: list[tuple[str, bytes]] = []
        self.states: list[str] = []
        self.server = Server(folder / "ipc.socket", "desk-1", lambda topic, data: self.cloud.append((topic, data)))
        configuration = copy.deepcopy(CONFIGURATION)
        self.component = Registration("lab.Inference", configuration, self.states.append)
        self.server.register(self.component)
        self.server.start()
        self.clients: list[GreengrassCoreIPCClientV2] = []

    def client(self, token: str | None = None) -> GreengrassCoreIPCClientV2:
        made = GreengrassCoreIPCClientV2(
            connect(ipc_socket=str(self.server.path), authtoken=token or self.component.token, timeout=5.0)
        )
        self.clients.append(made)
        return made


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    for client in made.clients:
        client.close().exception(timeout=5)
    made.server.stop()


def eventually(condition: Any, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(condition())


def test_update_state_reaches_the_device(desk: Desk) -> None:
    desk.client().update_state(state=model.ReportedLifecycleState.RUNNING)
    assert desk.states == ["RUNNING"]


def test_configuration_is_read_whole_by_map_and_by_value(desk: Desk) -> None:
    client = desk.client()
    assert client.get_configuration().value == CONFIGURATION
    assert client.get_configuration(key_path=["nested"]).value == {"deep": {"value": 1.5}}
    assert client.get_configuration(key_path=["nested", "deep", "value"]).value == {"value": 1.5}


def test_a_missing_key_and_another_component_are_not_found(desk: Desk) -> None:
    client = desk.client()
    with pytest.raises(model.ResourceNotFoundError):
        client.get_configuration(key_path=["nowhere"])
    with pytest.raises(model.ResourceNotFoundError):
        client.get_configuration(component_name="lab.Other")


def test_a_subscriber_hears_of_a_change_of_configuration(desk: Desk) -> None:
    client, heard = desk.client(), []
    client.subscribe_to_configuration_update(key_path=[], on_stream_event=heard.append)
    now = datetime.now(UTC)
    client.update_configuration(key_path=["nested"], value_to_merge={"deep": {"more": "x"}}, timestamp=now)
    assert eventually(lambda: heard)
    assert heard[0].configuration_update_event.key_path == ["nested", "deep", "more"]
    assert client.get_configuration(key_path=["nested"]).value == {"deep": {"value": 1.5, "more": "x"}}


def test_access_control_cannot_be_changed_by_a_component(desk: Desk) -> None:
    with pytest.raises(model.InvalidArgumentsError):
        desk.client().update_configuration(key_path=["accessControl"], value_to_merge={}, timestamp=datetime.now(UTC))


def test_publishing_needs_an_authorized_topic(desk: Desk) -> None:
    client = desk.client()
    client.publish_to_iot_core(topic_name="lab/desk-1/telemetry", qos="1", payload=b"\x00binary")
    with pytest.raises(model.UnauthorizedError):
        client.publish_to_iot_core(topic_name="lab/another/telemetry", qos="1", payload=b"{}")
    assert desk.cloud == [("lab/desk-1/telemetry", b"\x00binary")]


def test_an_operation_that_lite_lacks_is_a_service_error(desk: Desk) -> None:
    client = desk.client()
    for call in (client.list_components, lambda: client.get_secret_value(secret_id="x")):
        with pytest.raises(model.ServiceError):
            call()


def test_offline_publishing_fails_at_once_with_an_empty_message(desk: Desk) -> None:
    desk.server.faults.offline = True
    with pytest.raises(model.ServiceError) as caught:
        desk.client().publish_to_iot_core(topic_name="lab/desk-1/x", qos="0", payload=b"{}")
    assert caught.value.message == ""


def test_messages_pass_between_components_and_from_the_cloud(desk: Desk) -> None:
    client, local, core = desk.client(), [], []
    client.subscribe_to_topic(topic="local/+", on_stream_event=local.append)
    client.subscribe_to_iot_core(topic_name="lab/desk-1/command", qos="1", on_stream_event=core.append)
    message = model.PublishMessage(json_message=model.JsonMessage(message={"a": 1}))
    client.publish_to_topic(topic="local/x", publish_message=message)
    desk.server.deliver("lab/desk-1/command", b"go")
    assert eventually(lambda: local and core)
    assert (local[0].json_message.message, local[0].json_message.context.topic) == ({"a": 1}, "local/x")
    assert core[0].message.payload == b"go"


def test_lost_subscriptions_are_silent_while_publishing_works(desk: Desk) -> None:
    client, core = desk.client(), []
    client.subscribe_to_iot_core(topic_name="lab/desk-1/command", qos="1", on_stream_event=core.append)
    desk.server.drop_subscriptions()
    desk.server.deliver("lab/desk-1/command", b"go")
    client.publish_to_iot_core(topic_name="lab/desk-1/x", qos="0", payload=b"1")
    assert not core


def test_a_frame_over_ten_thousand_bytes_ends_the_connection(desk: Desk) -> None:
    client = desk.client()
    client.publish_to_iot_core(topic_name="lab/desk-1/x", qos="0", payload=b"x" * 7_000)
    with pytest.raises(GONE):
        client.publish_to_iot_core(topic_name="lab/desk-1/x", qos="0", payload=b"x" * 7_500)
    with pytest.raises(GONE):
        client.update_state(state="RUNNING")
    assert desk.states == []


def test_a_wrong_token_and_a_refusing_nucleus_get_no_connection(desk: Desk) -> None:
    with pytest.raises(GONE):
        desk.client(token="WRONG")
    desk.server.faults.refuse = True
    with pytest.raises(GONE):
        desk.client()


def test_a_dropped_connection_fails_what_follows(desk: Desk) -> None:
    client = desk.client()
    client.update_state(state="RUNNING")
    desk.server.drop_connections()
    with pytest.raises(GONE):
        client.update_state(state="RUNNING")
    desk.client().update_state(state="RUNNING")
    assert desk.states == ["RUNNING", "RUNNING"]


def test_a_socket_path_that_the_system_cannot_bind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="107 bytes"):
        Server(tmp_path / ("x" * 120), "desk-1", lambda topic, data: None)


def test_resources_admit_stars_and_escaped_stars() -> None:
    assert admits("a/*/c", "a/b/b/c")
    assert not admits("a/*/c", "a/b/d")
    assert admits("a/${*}", "a/*")
    assert not admits("a/${*}", "a/b")


def test_a_frame_is_read_back_as_it_was_and_a_flipped_bit_is_noticed() -> None:
    frame = Frame(Kind.MESSAGE, 1, 7, {"operation": "x", "number": 5, "yes": True, "raw": b"\x00"}, b"payload")
    data = frame.encode()
    assert decode(data) == frame
    with pytest.raises(FrameError):
        decode(data[:20] + bytes([data[20] ^ 1]) + data[21:])
