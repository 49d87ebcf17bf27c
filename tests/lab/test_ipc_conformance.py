"""The IPC server on the wire: frames, CONNECT, pings and streams, where the client of the SDK hides them."""

import base64
import socket
import struct
import threading
import zlib
from typing import Any

import pytest
from wire import Core, body, error

from lab import ipcoperations
from lab.eventstream import Frame, Kind

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
