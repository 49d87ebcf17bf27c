"""The IPC server on the wire: frames, CONNECT, pings, streams, and errors where the client of the SDK hides them."""

import base64
import json
import socket
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import ipcoperations
from lab.eventstream import Frame, Kind, read
from lab.ipc import Registration, Server

ACCESS = {
    "aws.greengrass.ipc.mqttproxy": {"p1": {"operations": ["*"], "resources": ["lab/{iot:thingName}/*", "cmd/+/go"]}},
    "aws.greengrass.ipc.pubsub": {"p2": {"operations": ["aws.greengrass#PublishToTopic"], "resources": ["local/*"]}},
}
CONFIGURATION = {"interval_s": 60, "on": True, "nested": {"deep": 1.5}, "accessControl": ACCESS}


class Wire:
    """A socket to the server, without any SDK: frames in, frames out."""

    def __init__(self, server: Server) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(10)
        self.socket.connect(str(server.path))
        self.stream = 0

    def send(self, frame: Frame) -> None:
        self.socket.sendall(frame.encode())

    def read(self) -> Frame | None:
        """The next frame; None when the server has closed."""
        try:
            return read(self.socket)
        except ConnectionResetError:
            return None

    def connect(self, token: str, version: str = "0.1.0", **shape: Any) -> Frame | None:
        payload = json.dumps({"authToken": token}).encode()
        self.send(Frame(Kind.CONNECT, headers={":version": version}, payload=payload, **shape))
        return self.read()

    def ask(self, operation: str, request: Any = None) -> Frame:
        """Sends one request on a stream of its own; the first answer."""
        self.stream += 1
        headers = {
            "operation": f"aws.greengrass#{operation}",
            ":content-type": "application/json",
            "service-model-type": f"aws.greengrass#{operation}Request",
        }
        self.send(Frame(Kind.MESSAGE, 0, self.stream, headers, json.dumps(request or {}).encode()))
        answer = self.read()
        assert answer is not None, "the server closed the connection"
        return answer


class Core:
    """A server with one registered component, and what reached the cloud."""

    def __init__(self, folder: Path) -> None:
        self.cloud: list[tuple[str, bytes]] = []
        self.states: list[str] = []
        self.server = Server(folder / "ipc", "desk-1", self.publish)
        self.component = Registration("lab.App", json.loads(json.dumps(CONFIGURATION)), self.states.append)
        self.server.register(self.component)
        self.server.start()
        self.wires: list[Wire] = []

    def publish(self, topic: str, payload: bytes) -> None:
        self.cloud.append((topic, payload))
        self.server.deliver(topic, payload)

    def open(self) -> Wire:
        self.wires.append(Wire(self.server))
        return self.wires[-1]

    def wire(self) -> Wire:
        """A connection that is accepted."""
        made = self.open()
        assert made.connect(self.component.token) is not None
        return made


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    made = Core(tmp_path)
    yield made
    for wire in made.wires:
        wire.socket.close()
    made.server.stop()


def body(frame: Frame | None) -> dict[str, Any]:
    assert frame is not None
    found: dict[str, Any] = json.loads(frame.payload)
    return found


def error(frame: Frame) -> tuple[str, str]:
    """The error's code and message, after its shape was looked at."""
    assert (frame.kind, frame.flags) == (Kind.ERROR, 2), "an application error ends its stream"
    said = body(frame)
    assert frame.headers["service-model-type"] == f"aws.greengrass#{said['_errorCode']}"
    assert said["_message"] == said["message"]
    return said["_errorCode"], said["_message"]


# Frames


def test_a_frame_lies_on_the_wire_as_the_event_stream_protocol_says() -> None:
    data = Frame(Kind.MESSAGE, 1, 7, {"operation": "x"}, b"{}").encode()
    total, headers_length, prelude_crc = struct.unpack_from(">III", data)
    assert (total, prelude_crc) == (len(data), zlib.crc32(data[:8]))
    assert struct.unpack_from(">I", data, total - 4)[0] == zlib.crc32(data[:-4])
    headers = data[12 : 12 + headers_length]
    assert headers.startswith(b"\x0d:message-type\x04\x00\x00\x00\x00")
    assert b"\x0e:message-flags\x04\x00\x00\x00\x01" in headers and b"\x0a:stream-id\x04\x00\x00\x00\x07" in headers
    assert headers.endswith(b"\x09operation\x07\x00\x01x")
    assert data[12 + headers_length : -4] == b"{}"


@pytest.mark.parametrize("place", [0, 5, 9, 20, -5, -1])
def test_a_frame_with_a_flipped_bit_ends_the_connection(core: Core, place: int) -> None:
    wire = core.wire()
    data = bytearray(Frame(Kind.MESSAGE, 0, 1, {"operation": "aws.greengrass#GetConfiguration"}, b"{}").encode())
    data[place] ^= 1
    wire.socket.sendall(data)
    wire.socket.shutdown(socket.SHUT_WR)
    assert wire.read() is None


def test_a_frame_over_ten_thousand_bytes_ends_the_connection_and_one_below_does_not(core: Core) -> None:
    wire = core.wire()
    request = {"topicName": "lab/desk-1/x", "qos": "1", "payload": base64.b64encode(b"x" * 7_200).decode()}
    assert wire.ask("PublishToIoTCore", request).kind == Kind.MESSAGE
    wire.send(Frame(Kind.MESSAGE, 0, 9, {"operation": "aws.greengrass#PublishToIoTCore"}, b" " * 10_000))
    assert wire.read() is None


# CONNECT


def test_connect_is_acknowledged_on_stream_zero_with_the_accepted_flag(core: Core) -> None:
    answer = core.open().connect(core.component.token)
    assert answer is not None
    assert (answer.kind, answer.flags, answer.stream) == (Kind.CONNECT_ACK, 1, 0)


@pytest.mark.parametrize(
    "shape",
    [{"token": "WRONG"}, {"version": "0.2.0"}, {"stream": 1}, {"flags": 1}],
    ids=["a wrong token", "another version", "a stream other than zero", "flags"],
)
def test_a_connect_that_does_not_fit_is_closed_without_a_word(core: Core, shape: dict[str, Any]) -> None:
    assert core.open().connect(**{"token": core.component.token, **shape}) is None


def test_whoever_speaks_before_connect_is_closed(core: Core) -> None:
    wire = core.open()
    wire.send(Frame(Kind.MESSAGE, 0, 1, {"operation": "aws.greengrass#GetConfiguration"}, b"{}"))
    assert wire.read() is None


def test_a_restarted_nucleus_knows_no_token_until_the_component_has_a_new_one(core: Core) -> None:
    wire = core.wire()
    core.server.restart()
    assert wire.read() is None
    assert core.open().connect(core.component.token) is None
    core.component.token = "NEW"
    core.server.register(core.component)
    assert core.open().connect("NEW") is not None


def test_a_closed_nucleus_takes_no_connection_until_it_is_open_again(core: Core) -> None:
    core.server.faults.closed = True
    try:
        answer = core.open().connect(core.component.token)
    except (BrokenPipeError, ConnectionResetError):  # closed before the client had written
        answer = None
    assert answer is None
    core.server.faults.closed = False
    assert core.open().connect(core.component.token) is not None


# Streams


def test_a_ping_is_answered_with_its_own_payload(core: Core) -> None:
    wire = core.wire()
    wire.send(Frame(Kind.PING, payload=b"are you there"))
    answer = wire.read()
    assert answer is not None and (answer.kind, answer.payload) == (Kind.PING_RESPONSE, b"are you there")


def test_answers_come_on_the_stream_that_asked_with_their_model(core: Core) -> None:
    wire = core.wire()
    wire.ask("GetConfiguration")
    answer = wire.ask("GetConfiguration", {"keyPath": ["nested"]})
    assert (answer.kind, answer.flags, answer.stream) == (Kind.MESSAGE, 0, 2)
    assert answer.headers["service-model-type"] == "aws.greengrass#GetConfigurationResponse"
    assert answer.headers[":content-type"] == "application/json"
    assert body(answer) == {"componentName": "lab.App", "value": {"deep": 1.5}}


def test_an_operation_on_stream_zero_ends_the_connection(core: Core) -> None:
    wire = core.wire()
    wire.send(Frame(Kind.MESSAGE, 0, 0, {"operation": "aws.greengrass#GetConfiguration"}, b"{}"))
    assert wire.read() is None


@pytest.mark.parametrize(
    "frame",
    [
        Frame(Kind.MESSAGE, 0, 1, {"operation": "aws.greengrass#GetConfiguration"}, b"{no json"),
        Frame(Kind.MESSAGE, 0, 1, {"operation": "aws.greengrass#GetConfiguration"}, b"[]"),
        Frame(Kind.MESSAGE, 0, 1, {"operation": "aws.greengrass#GetThingShadow"}, b"{}"),
        Frame(Kind.MESSAGE, 0, 1, {"operation": "aws.greengrass#CreateLocalDeployment"}, b"{}"),
        Frame(Kind.MESSAGE, 0, 1, {}, b"{}"),
        Frame(Kind.MESSAGE, 1, 1, {"operation": "aws.greengrass#GetConfiguration"}, b"{}"),
        Frame(Kind.ERROR, 0, 1, {"operation": "aws.greengrass#GetConfiguration"}, b"{}"),
    ],
    ids=["bad JSON", "no object", "lite lacks it", "the desk lacks it", "no operation", "flags", "another type"],
)
def test_what_cannot_be_an_operation_is_a_service_error_without_words_and_the_connection_stays(
    core: Core, frame: Frame
) -> None:
    wire = core.wire()
    wire.send(frame)
    answer = wire.read()
    assert answer is not None and error(answer) == ("ServiceError", "")
    assert wire.ask("GetConfiguration").kind == Kind.MESSAGE


def test_a_terminated_stream_hears_nothing_more_and_gets_no_answer(core: Core) -> None:
    wire = core.wire()
    wire.ask("SubscribeToIoTCore", {"topicName": "lab/desk-1/#", "qos": "0"})
    wire.send(Frame(Kind.MESSAGE, 2, 1))
    wire.ask("GetConfiguration")
    core.server.deliver("lab/desk-1/x", b"1")
    assert wire.ask("GetConfiguration").stream == 3, "no event came between"


def test_a_subscription_is_answered_before_its_first_event(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message comes between the moment that the stream is entered and that of the answer."""
    subscribe = ipcoperations.subscribe_to_iot_core
    between = threading.Thread(target=core.server.deliver, args=("lab/desk-1/x", b"1"))

    def subscribed(*given: Any) -> dict[str, Any]:
        answer = subscribe(*given)
        between.start()
        between.join(0.3)
        return answer

    monkeypatch.setitem(ipcoperations.OPERATIONS, "SubscribeToIoTCore", subscribed)
    wire = core.wire()
    first = wire.ask("SubscribeToIoTCore", {"topicName": "lab/desk-1/x", "qos": "0"})
    second = wire.read()
    assert second is not None
    names = [frame.headers["service-model-type"] for frame in (first, second)]
    assert names == ["aws.greengrass#SubscribeToIoTCoreResponse", "aws.greengrass#IoTCoreMessage"]


# Operations: what the client of the SDK does not let through, or does not show


@pytest.mark.parametrize(
    ("operation", "request_", "code", "message"),
    [
        ("GetConfiguration", {"keyPath": "nested"}, "ServiceError", "Received invalid parameters."),
        ("GetConfiguration", {"keyPath": ["no"]}, "ResourceNotFoundError", "Key not found."),
        ("SubscribeToConfigurationUpdate", {"keyPath": ["no"]}, "ResourceNotFoundError", "Key not found."),
        ("UpdateConfiguration", {"valueToMerge": {"a": 1}}, "InvalidArgumentsError", "Received invalid parameters."),
        (
            "UpdateConfiguration",
            {"valueToMerge": {"a": 1}, "timestamp": 1_700_000_000},
            "InvalidArgumentsError",
            "Received invalid parameters.",
        ),
        (
            "UpdateConfiguration",
            {"valueToMerge": {"accessControl": {}}, "timestamp": 1.5},
            "InvalidArgumentsError",
            "Config update is not allowed for following field [accessControl]",
        ),
        (
            "UpdateConfiguration",
            {"keyPath": ["nested"], "valueToMerge": 5, "timestamp": 1.5},
            "ServiceError",
            "Failed to update the configuration.",
        ),
        ("UpdateState", {"state": "HAPPY"}, "ServiceError", "Failed to update the lifecycle state."),
        ("UpdateState", {}, "ServiceError", "Received invalid parameters."),
        ("PublishToTopic", {"topic": "local/a"}, "ServiceError", "Received invalid parameters."),
        (
            "PublishToTopic",
            {"topic": "local/a", "publishMessage": {"jsonMessage": {"message": {}}, "binaryMessage": {"message": ""}}},
            "ServiceError",
            "Received invalid parameters.",
        ),
        (
            "PublishToTopic",
            {"topic": "far/a", "publishMessage": {"jsonMessage": {"message": {}}}},
            "UnauthorizedError",
            "IPC Operation not authorized.",
        ),
        ("SubscribeToTopic", {"topic": "local/a"}, "UnauthorizedError", "IPC Operation not authorized."),
        ("PublishToIoTCore", {"topicName": "lab/desk-1/x", "qos": 3}, "ServiceError", "'qos' not a valid value."),
        (
            "PublishToIoTCore",
            {"topicName": "lab/desk-1/x", "payload": "%"},
            "ServiceError",
            "'payload' is not valid base64.",
        ),
        ("PublishToIoTCore", {"topicName": "lab/desk-2/x"}, "UnauthorizedError", "IPC Operation not authorized."),
        ("SubscribeToIoTCore", {"topicName": "lab/+/x"}, "UnauthorizedError", "IPC Operation not authorized."),
        (
            "ValidateAuthorizationToken",
            {"token": "x"},
            "UnauthorizedError",
            "Component does not have access to token verification IPC command.",
        ),
    ],
)
def test_each_wrong_request_has_its_own_error(
    core: Core, operation: str, request_: dict[str, Any], code: str, message: str
) -> None:
    assert error(core.wire().ask(operation, request_)) == (code, message)


def test_every_state_is_taken_and_told_to_the_device(core: Core) -> None:
    wire = core.wire()
    for state in ("RUNNING", "ERRORED", "STOPPING"):
        assert wire.ask("UpdateState", {"state": state}).kind == Kind.MESSAGE
    assert core.states == ["RUNNING", "ERRORED", "STOPPING"]


def test_an_update_older_than_what_stands_is_taken_and_changes_nothing(core: Core) -> None:
    wire = core.wire()
    wire.ask("UpdateConfiguration", {"keyPath": ["nested"], "valueToMerge": {"deep": 2}, "timestamp": 200.0})
    older = {"keyPath": ["nested"], "valueToMerge": {"deep": 3, "wide": 4}, "timestamp": 100.0}
    assert wire.ask("UpdateConfiguration", older).kind == Kind.MESSAGE
    assert body(wire.ask("GetConfiguration", {"keyPath": ["nested"]}))["value"] == {"deep": 2, "wide": 4}


def test_an_update_event_names_each_value_that_changed(core: Core) -> None:
    wire, other = core.wire(), core.wire()
    wire.ask("SubscribeToConfigurationUpdate", {"keyPath": ["nested"]})
    same = {"valueToMerge": {"nested": {"deep": 1.5, "new": {"a": 1}}, "interval_s": 61}, "timestamp": 300.0}
    other.ask("UpdateConfiguration", same)
    event = body(wire.read())["configurationUpdateEvent"]
    assert event == {"componentName": "lab.App", "keyPath": ["nested", "new", "a"]}
    assert wire.ask("GetConfiguration").stream == 2, "neither the value that stayed nor that beside the path is told"


def test_a_component_reads_what_another_is_configured_with(core: Core) -> None:
    core.server.register(Registration("lab.Other", {"word": "hello"}, core.states.append))
    answer = body(core.wire().ask("GetConfiguration", {"componentName": "lab.Other", "keyPath": ["word"]}))
    assert answer == {"componentName": "lab.Other", "value": {"word": "hello"}}


def test_of_a_yaml_recipe_numbers_and_booleans_are_texts(core: Core) -> None:
    core.server.faults.strings = True
    value = body(core.wire().ask("GetConfiguration"))["value"]
    assert (value["interval_s"], value["on"], value["nested"]) == ("60", "true", {"deep": "1.5"})


def test_an_answer_that_fits_no_frame_is_a_service_error(core: Core) -> None:
    core.component.configuration["large"] = "x" * 9_900
    assert error(core.wire().ask("GetConfiguration")) == ("ServiceError", "")


def test_a_message_to_iot_core_comes_back_to_whoever_subscribed_to_its_topic(core: Core) -> None:
    wire = core.wire()
    wire.ask("SubscribeToIoTCore", {"topicName": "lab/desk-1/ping", "qos": 1})
    published = wire.ask("PublishToIoTCore", {"topicName": "lab/desk-1/ping", "payload": "b2s="})
    frames = [published, wire.read()]
    [event] = [frame for frame in frames if frame is not None and frame.stream == 1]
    assert event.headers["service-model-type"] == "aws.greengrass#IoTCoreMessage"
    assert body(event) == {"message": {"topicName": "lab/desk-1/ping", "payload": "b2s="}}


def test_lost_subscriptions_make_no_sound_and_publishing_goes_on(core: Core) -> None:
    wire = core.wire()
    wire.ask("SubscribeToIoTCore", {"topicName": "lab/desk-1/ping", "qos": 1})
    core.server.drop_subscriptions()
    assert wire.ask("PublishToIoTCore", {"topicName": "lab/desk-1/ping", "payload": "b2s="}).stream == 2
    assert wire.ask("GetConfiguration").stream == 3 and core.cloud == [("lab/desk-1/ping", b"ok")]


def test_offline_a_core_hears_nothing_and_publishing_fails_at_once_without_words(core: Core) -> None:
    wire = core.wire()
    wire.ask("SubscribeToIoTCore", {"topicName": "lab/desk-1/x", "qos": 1})
    core.server.faults.offline = True
    core.server.deliver("lab/desk-1/x", b"1")
    assert error(wire.ask("PublishToIoTCore", {"topicName": "lab/desk-1/x"})) == ("ServiceError", "")
    core.server.faults.offline = False
    core.server.deliver("lab/desk-1/x", b"2")
    assert body(wire.read())["message"]["payload"] == "Mg=="


def test_a_local_message_carries_its_topic(core: Core) -> None:
    core.component.configuration["accessControl"]["aws.greengrass.ipc.pubsub"]["p2"]["operations"] = ["*"]
    wire = core.wire()
    wire.ask("SubscribeToTopic", {"topic": "local/+"})
    message = {"topic": "local/a", "publishMessage": {"binaryMessage": {"message": "b2s="}}}
    frames = [wire.ask("PublishToTopic", message), wire.read()]
    [event] = [frame for frame in frames if frame is not None and frame.stream == 1]
    assert event.headers["service-model-type"] == "aws.greengrass#SubscriptionResponseMessage"
    assert body(event) == {"binaryMessage": {"message": "b2s=", "context": {"topic": "local/a"}}}


def test_a_resource_of_mqtt_may_be_a_topic_filter(core: Core) -> None:
    assert core.wire().ask("SubscribeToIoTCore", {"topicName": "cmd/any/go"}).kind == Kind.MESSAGE


def test_two_clients_that_publish_at_once_both_get_their_answers(core: Core) -> None:
    answers: list[Frame] = []

    def work() -> None:
        wire = core.wire()
        answers.extend(wire.ask("PublishToIoTCore", {"topicName": "lab/desk-1/x"}) for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 100 and len(core.cloud) == 100
