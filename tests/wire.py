"""The wire to the IPC server without any SDK: a socket, a core with one component, and what an answer says."""

import json
import socket
from pathlib import Path
from typing import Any

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
