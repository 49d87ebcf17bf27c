"""The IPC socket that a Greengrass nucleus gives its components, for the real awsiotsdk.

As strict as nucleus lite, measured against the real one: a frame over 10,000 bytes drops the connection, an operation
that lite does not have gets ServiceError, publishing to AWS IoT Core offline fails at once with an empty message.

Covers: GetConfiguration, UpdateConfiguration, SubscribeToConfigurationUpdate, UpdateState, PublishToTopic,
    SubscribeToTopic, PublishToIoTCore, SubscribeToIoTCore; accessControl with `*` and `${*}`; tokens; fault switches.
Does not cover: CreateLocalDeployment, RestartComponent, ValidateAuthorizationToken, and what lite itself lacks
    (shadows, secrets, deferred updates, component metrics): each is answered ServiceError.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import copy
import json
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab import eventstream
from lab.eventstream import ACCEPTED, TERMINATE, Frame, Kind
from lab.topics import matches

SOCKET_PATH_LIMIT = 107  # bytes; sockaddr_un has 108 with the closing zero
STATES = ("RUNNING", "ERRORED")
_JSON = {":content-type": "application/json"}


class IpcError(Exception):
    """An error that goes back to the client as `aws.greengrass#<code>`."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass
class Registration:
    """One component that may connect: its configuration, and whom to tell when its state changes."""

    name: str
    configuration: dict[str, Any]
    on_state: Callable[[str], None]
    token: str = field(default_factory=lambda: secrets.token_hex(8).upper())


@dataclass
class Faults:
    """What goes wrong on purpose: `offline` cuts the cloud, `refuse` rejects connections, `slow_s` delays answers."""

    offline: bool = False
    refuse: bool = False
    slow_s: float = 0.0


class Server:
    """Serves one device's components on a Unix socket, a thread per connection.

    `cloud` receives what components publish to AWS IoT Core: topic and payload.
    """

    def __init__(self, path: Path, thing: str, cloud: Callable[[str, bytes], None]) -> None:
        if len(str(path).encode()) > SOCKET_PATH_LIMIT:
            raise ValueError(f"{path} is longer than the {SOCKET_PATH_LIMIT} bytes a Unix socket's path may have")
        self.path = path
        self.thing = thing
        self.cloud = cloud
        self.faults = Faults()
        self._registered: dict[str, Registration] = {}
        self._connections: set[_Connection] = set()
        self._lock = threading.RLock()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self._socket.bind(str(self.path))
        self.path.chmod(0o600)
        self._socket.listen()
        threading.Thread(target=self._accept, name=f"ipc-{self.thing}", daemon=True).start()

    def stop(self) -> None:
        # A thread blocked in accept() keeps the file open: shut down wakes it, close alone does not.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.drop_connections()
        self.path.unlink(missing_ok=True)

    def register(self, registration: Registration) -> None:
        with self._lock:
            self._registered[registration.token] = registration

    def unregister(self, token: str) -> None:
        with self._lock:
            self._registered.pop(token, None)

    def drop_connections(self) -> None:
        """Closes every connection, as a restart of the nucleus' IPC daemon does."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.close()

    def drop_subscriptions(self) -> None:
        """Forgets the subscriptions to AWS IoT Core and says nothing, as a restart of lite's iotcored does."""
        with self._lock:
            for connection in self._connections:
                connection.core.clear()

    def configure(self, registration: Registration, path: list[str], value: Any) -> None:
        """Merges `value` into a component's configuration and tells its subscribers."""
        with self._lock:
            _merge(registration.configuration, path, value)
            listeners = [one for one in self._connections if one.registration is registration]
        for connection in listeners:
            connection.configuration_changed(path)

    def deliver(self, topic: str, payload: bytes) -> None:
        """A message from AWS IoT Core reaches every component that subscribed to its topic."""
        for connection in self._snapshot():
            connection.from_core(topic, payload)

    def local(self, topic: str, message: Mapping[str, Any]) -> None:
        """A local publish/subscribe message reaches every component that subscribed to its topic."""
        for connection in self._snapshot():
            connection.from_component(topic, message)

    def _snapshot(self) -> list[_Connection]:
        with self._lock:
            return list(self._connections)

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._socket.accept()
            except OSError:
                return
            connection = _Connection(self, accepted)
            with self._lock:
                self._connections.add(connection)
            threading.Thread(target=connection.serve, daemon=True).start()

    def lookup(self, token: str) -> Registration | None:
        with self._lock:
            return None if self.faults.refuse else self._registered.get(token)

    def forget(self, connection: _Connection) -> None:
        with self._lock:
            self._connections.discard(connection)


class _Connection:
    """One component's connection. After CONNECT each stream is one operation; a subscription's stream stays open."""

    def __init__(self, server: Server, accepted: socket.socket) -> None:
        self.server = server
        self.registration: Registration | None = None
        self.local: dict[int, str] = {}
        self.core: dict[int, str] = {}
        self.configuration: dict[int, list[str]] = {}
        self._socket = accepted
        self._write = threading.Lock()

    def serve(self) -> None:
        try:
            while (frame := eventstream.read(self._socket)) is not None:
                if not self._handle(frame):
                    break
        except (eventstream.FrameError, OSError):
            pass  # lite closes without a word; the client sees its streams end
        finally:
            self.close()
            self.server.forget(self)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # the peer may have been first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _send(self, frame: Frame) -> None:
        with self._write:
            try:
                self._socket.sendall(frame.encode())
            except OSError:
                return  # the reading side notices the same end and cleans up

    def _handle(self, frame: Frame) -> bool:
        """Answers one frame; False ends the connection."""
        if self.registration is None:
            return self._connect(frame)
        if frame.kind == Kind.PING:
            self._send(Frame(Kind.PING_RESPONSE, payload=frame.payload))
        elif frame.flags & TERMINATE:
            for streams in (self.local, self.core, self.configuration):
                streams.pop(frame.stream, None)
        elif frame.kind == Kind.MESSAGE:
            self._operate(frame)
        return True

    def _connect(self, frame: Frame) -> bool:
        if frame.kind != Kind.CONNECT or frame.headers.get(":version") != "0.1.0":
            return False
        try:
            token = json.loads(frame.payload)["authToken"]
        except (ValueError, KeyError, TypeError):
            return False
        time.sleep(self.server.faults.slow_s)
        self.registration = self.server.lookup(str(token))
        if self.registration is None:
            return False
        self._send(Frame(Kind.CONNECT_ACK, ACCEPTED))
        return True

    def _operate(self, frame: Frame) -> None:
        operation = str(frame.headers.get("operation", "")).removeprefix("aws.greengrass#")
        time.sleep(self.server.faults.slow_s)
        try:
            request = json.loads(frame.payload or b"{}")
            handler = _OPERATIONS.get(operation)
            if handler is None or not isinstance(request, dict):
                raise IpcError("ServiceError", f"{operation} is no operation of this nucleus" if not handler else "")
            answer = handler(self, request, frame.stream)
        except ValueError:
            self._fail(frame.stream, IpcError("InvalidArgumentsError", "the payload is not JSON"))
        except IpcError as error:
            self._fail(frame.stream, error)
        else:
            self._answer(frame.stream, f"{operation}Response", answer)

    def _answer(self, stream: int, model: str, payload: Mapping[str, Any]) -> None:
        headers = {**_JSON, "service-model-type": f"aws.greengrass#{model}"}
        self._send(Frame(Kind.MESSAGE, 0, stream, headers, json.dumps(payload).encode()))

    def _fail(self, stream: int, error: IpcError) -> None:
        body = {"_message": error.message, "_errorCode": error.code, "message": error.message}
        headers = {**_JSON, "service-model-type": f"aws.greengrass#{error.code}"}
        self._send(Frame(Kind.ERROR, TERMINATE, stream, headers, json.dumps(body).encode()))

    # Operations: request and stream in, response out.

    def _me(self) -> Registration:
        assert self.registration is not None
        return self.registration

    def get_configuration(self, request: Mapping[str, Any], stream: int) -> dict[str, Any]:
        name = request.get("componentName") or self._me().name
        if name != self._me().name:
            raise IpcError("ResourceNotFoundError", f"no configuration of {name}")
        path = [str(key) for key in request.get("keyPath") or []]
        value: Any = self._me().configuration
        for key in path:
            if not isinstance(value, dict) or key not in value:
                raise IpcError("ResourceNotFoundError", "Key not found")
            value = value[key]
        return {"componentName": name, "value": value if isinstance(value, dict) else {path[-1]: value}}

    def update_configuration(self, request: Mapping[str, Any], stream: int) -> dict[str, Any]:
        path = [str(key) for key in request.get("keyPath") or []]
        value = request.get("valueToMerge")
        if (path and path[0] == "accessControl") or (isinstance(value, dict) and "accessControl" in value and not path):
            raise IpcError("InvalidArgumentsError", "Config update is not allowed for accessControl")
        self.server.configure(self._me(), path, value)
        return {}

    def subscribe_to_configuration_update(self, request: Mapping[str, Any], stream: int) -> dict[str, Any]:
        self.configuration[stream] = [str(key) for key in request.get("keyPath") or []]
        return {}

    def update_state(self, request: Mapping[str, Any], stream: int) -> dict[str, Any]:
        state = request.get("state")
        if state not in STATES:
            raise IpcError("InvalidArgumentsError", f"state {state!r} is none of {', '.join(STATES)}")
        self._me().on_state(str(state))
        return {}

    def publish_to_topic(self, request: Mapping[str, Any], stream: int) -> dict[str, Any]:
        topic = str(request.get("topic", ""))
        self._authorize("aws.greengrass.ipc.pubsub", "PublishToTopic", topic)
        self.server.local(topic, request.get("publishMessage") or {})
        return {}

    def subscribe_to_topic(self, request: Mapping[str, Any], stream: int) -> dict[str, Any]:
        topic = str(request.get("topic", ""))
        self._authorize("aws.greengrass.ipc.pubsub", "SubscribeToTopic", topic)
        self.local[stream] = topic
        return {"topicName": topic}

    def publish_to_iot_core(self, request: Mapping[str, Any], stream: int) -> dict[str, Any]:
        topic = str(request.get("topicName", ""))
        if str(request.get("qos", "0")) not in ("0", "1"):
            raise IpcError("InvalidArgumentsError", "qos is 0 or 1")
        self._authorize("aws.greengrass.ipc.mqttproxy", "PublishToIoTCore", topic)
        try:
            payload = base64.b64decode(request.get("payload") or "", validate=True)
        except (binascii.Error, TypeError) as error:
            raise IpcError("InvalidArgumentsError", "the payload is not base64") from error
        if self.server.faults.offline:
            raise IpcError("ServiceError")
        self.server.cloud(topic, payload)
        return {}

    def subscribe_to_iot_core(self, request: Mapping[str, Any], stream: int) -> dict[str, Any]:
        topic = str(request.get("topicName", ""))
        self._authorize("aws.greengrass.ipc.mqttproxy", "SubscribeToIoTCore", topic)
        self.core[stream] = topic
        return {}

    def _authorize(self, service: str, operation: str, resource: str) -> None:
        policies = (self._me().configuration.get("accessControl") or {}).get(service) or {}
        for policy in policies.values():
            operations = [str(one).removeprefix("aws.greengrass#") for one in policy.get("operations", [])]
            if not {"*", operation} & set(operations):
                continue
            for pattern in policy.get("resources", []):
                if admits(str(pattern).replace("{iot:thingName}", self.server.thing), resource):
                    return
        raise IpcError("UnauthorizedError", f"{self._me().name} is not authorized to perform {operation} on {resource}")

    # Events, on the streams that subscribed.

    def configuration_changed(self, path: list[str]) -> None:
        for stream, wanted in list(self.configuration.items()):
            if path[: len(wanted)] == wanted or wanted[: len(path)] == path:
                event = {"componentName": self._me().name, "keyPath": path}
                self._answer(stream, "ConfigurationUpdateEvents", {"configurationUpdateEvent": event})

    def from_core(self, topic: str, payload: bytes) -> None:
        for stream, wanted in list(self.core.items()):
            if matches(wanted, topic):
                message = {"topicName": topic, "payload": base64.b64encode(payload).decode()}
                self._answer(stream, "IoTCoreMessage", {"message": message})

    def from_component(self, topic: str, message: Mapping[str, Any]) -> None:
        for stream, wanted in list(self.local.items()):
            if matches(wanted, topic):
                event = {kind: {**body, "context": {"topic": topic}} for kind, body in message.items() if body}
                self._answer(stream, "SubscriptionResponseMessage", event)


_OPERATIONS: dict[str, Callable[[_Connection, Mapping[str, Any], int], dict[str, Any]]] = {
    "GetConfiguration": _Connection.get_configuration,
    "UpdateConfiguration": _Connection.update_configuration,
    "SubscribeToConfigurationUpdate": _Connection.subscribe_to_configuration_update,
    "UpdateState": _Connection.update_state,
    "PublishToTopic": _Connection.publish_to_topic,
    "SubscribeToTopic": _Connection.subscribe_to_topic,
    "PublishToIoTCore": _Connection.publish_to_iot_core,
    "SubscribeToIoTCore": _Connection.subscribe_to_iot_core,
}


def admits(pattern: str, resource: str) -> bool:
    """Whether an accessControl resource admits a topic: `*` is any run of characters, `${*}` a literal star."""
    parts = re.split(r"(\$\{[*?$]\}|\*)", pattern)
    expression = "".join(".*" if part == "*" else re.escape(re.sub(r"^\$\{(.)\}$", r"\1", part)) for part in parts)
    return re.fullmatch(expression, resource, re.DOTALL) is not None


def _merge(target: dict[str, Any], path: list[str], value: Any) -> None:
    """Merges maps into maps key by key; everything else replaces what was there."""
    for key in path[:-1]:
        target = target.setdefault(key, {})
    if path:
        value = {path[-1]: value}
    for key, item in value.items():
        if isinstance(item, dict) and isinstance(target.get(key), dict):
            _merge(target[key], [], item)
        else:
            target[key] = copy.deepcopy(item)
