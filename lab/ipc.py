"""The IPC socket that a Greengrass nucleus gives its components, for the real awsiotsdk.

As strict as nucleus lite, measured against 2.6.0 and read in its source (modules/ggipcd): a frame over 10,000 bytes
drops the connection, an operation that lite does not have gets ServiceError, publishing to AWS IoT Core offline fails
at once with an empty message, tokens die with a restart.

Covers: GetConfiguration, UpdateConfiguration, SubscribeToConfigurationUpdate, UpdateState, PublishToTopic,
    SubscribeToTopic, PublishToIoTCore, SubscribeToIoTCore (`lab.ipcoperations`); accessControl; tokens; fault switches.
Does not cover: CreateLocalDeployment, RestartComponent, and what lite itself lacks (shadows, secrets, deferred updates,
    component metrics): each is answered ServiceError. A ping is answered, as the protocol and the classic nucleus have
    it; lite's source closes the connection.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab import eventstream, ipcoperations
from lab.eventstream import ACCEPTED, LIMIT, TERMINATE, Frame, Kind
from lab.ipcoperations import IpcError

SOCKET_PATH_LIMIT = 107  # bytes; sockaddr_un has 108 with the closing zero
VERSION = "0.1.0"
_JSON = {":content-type": "application/json"}


def stop_all() -> None:
    """Stops every server of this process; no socket stays in the file system."""
    for server in list(_started):
        server.stop()


def new_token() -> str:
    return secrets.token_hex(8).upper()


@dataclass
class Registration:
    """One component that may connect: its configuration, and whom to tell when its state changes.

    `written` says when each value was written over IPC, in seconds since 1970, by its path.
    """

    name: str
    configuration: dict[str, Any]
    on_state: Callable[[str], None]
    token: str = field(default_factory=new_token)
    written: dict[tuple[str, ...], float] = field(default_factory=dict)


@dataclass
class Faults:
    """What goes wrong on purpose.

    `offline` cuts the cloud, `closed` ends every connection at once, `refuse` rejects tokens, `slow_s` delays answers.
    `strings` hands numbers and booleans over as text, as lite does with a recipe in YAML.
    """

    offline: bool = False
    closed: bool = False
    refuse: bool = False
    slow_s: float = 0.0
    strings: bool = False


class Server:
    """Serves one device's components on a Unix socket, a thread per connection.

    `cloud` receives what components publish to AWS IoT Core, topic and payload; what it sends comes by `deliver`.
    """

    def __init__(self, path: Path, thing: str, cloud: Callable[[str, bytes], None]) -> None:
        if len(str(path).encode()) > SOCKET_PATH_LIMIT:
            raise ValueError(f"{path} is longer than the {SOCKET_PATH_LIMIT} bytes a Unix socket's path may have")
        self.path = path
        self.thing = thing
        self.cloud = cloud
        self.faults = Faults()
        self._registered: dict[str, Registration] = {}
        self._connections: set[Connection] = set()
        self._lock = threading.RLock()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def start(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.unlink(missing_ok=True)
        self._socket.bind(str(self.path))
        self.path.chmod(0o600)
        self._socket.listen()
        threading.Thread(target=self._accept, name=f"ipc-{self.thing}", daemon=True).start()
        _started.add(self)

    def stop(self) -> None:
        """Closes every connection and removes the socket, with its folder when nothing else lies there."""
        _started.discard(self)
        # A thread blocked in accept() keeps the file open: shut down wakes it, close alone does not.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.drop_connections()
        self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()

    def register(self, registration: Registration) -> None:
        with self._lock:
            self._registered[registration.token] = registration

    def unregister(self, token: str) -> None:
        with self._lock:
            self._registered.pop(token, None)

    def lookup(self, token: str) -> Registration | None:
        with self._lock:
            return None if self.faults.refuse else self._registered.get(token)

    def named(self, name: str) -> Registration | None:
        """The component of that name, whose configuration others may read."""
        with self._lock:
            return next((one for one in self._registered.values() if one.name == name), None)

    def drop_connections(self) -> None:
        """Closes every connection."""
        for connection in self._snapshot():
            connection.close()

    def restart(self) -> None:
        """What a restart of the nucleus' IPC daemon does: no connection stays, no token is known any more."""
        with self._lock:
            self._registered.clear()
        self.drop_connections()

    def drop_subscriptions(self) -> None:
        """Forgets the subscriptions to AWS IoT Core and says nothing, as a restart of lite's iotcored does."""
        with self._lock:
            for connection in self._connections:
                connection.core.clear()

    def configure(self, registration: Registration, path: list[str], value: Any, when: float | None = None) -> None:
        """Merges `value` into a component's configuration and tells its subscribers of each value that changed.

        A value that was written after `when` (seconds since 1970, now by default) stays. Raises IpcError.
        """
        with self._lock:
            changed = ipcoperations.merge(registration, path, value, time.time() if when is None else when)
        for leaf in changed:
            for connection in self._snapshot():
                connection.configuration_changed(registration.name, leaf)

    def deliver(self, topic: str, payload: bytes) -> None:
        """A message from AWS IoT Core reaches every component that subscribed to its topic; offline it is lost."""
        if self.faults.offline:
            return
        for connection in self._snapshot():
            connection.from_core(topic, payload)

    def local(self, topic: str, message: Mapping[str, Any]) -> None:
        """A local publish/subscribe message reaches every component that subscribed to its topic."""
        for connection in self._snapshot():
            connection.from_component(topic, message)

    def _snapshot(self) -> list[Connection]:
        with self._lock:
            return list(self._connections)

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._socket.accept()
            except OSError:
                return
            if self.faults.closed:
                accepted.close()
                continue
            connection = Connection(self, accepted)
            with self._lock:
                self._connections.add(connection)
            threading.Thread(target=connection.serve, daemon=True).start()

    def forget(self, connection: Connection) -> None:
        with self._lock:
            self._connections.discard(connection)


_started: set[Server] = set()


class Connection:
    """One component's connection. After CONNECT each stream is one operation; a subscription's stream stays open."""

    def __init__(self, server: Server, accepted: socket.socket) -> None:
        self.server = server
        self.local: dict[int, str] = {}
        self.core: dict[int, str] = {}
        self.configuration: dict[int, tuple[str, list[str]]] = {}
        self._registration: Registration | None = None
        self._socket = accepted
        self._write = threading.RLock()

    @property
    def component(self) -> Registration:
        """Who speaks on this connection."""
        assert self._registration is not None, "operations come after CONNECT"
        return self._registration

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
        if self._registration is None:
            return self._connect(frame)
        if frame.kind == Kind.PING:
            self._send(Frame(Kind.PING_RESPONSE, payload=frame.payload))
            return True
        if frame.stream == 0:
            return False
        if frame.flags & TERMINATE:
            for streams in (self.local, self.core, self.configuration):
                streams.pop(frame.stream, None)
        else:
            self._operate(frame)
        return True

    def _connect(self, frame: Frame) -> bool:
        if frame.kind != Kind.CONNECT or frame.stream or frame.flags or frame.headers.get(":version") != VERSION:
            return False
        try:
            token = json.loads(frame.payload)["authToken"]
        except (ValueError, KeyError, TypeError):
            return False
        time.sleep(self.server.faults.slow_s)
        self._registration = self.server.lookup(str(token))
        if self._registration is None:
            return False
        self._send(Frame(Kind.CONNECT_ACK, ACCEPTED))
        return True

    def _operate(self, frame: Frame) -> None:
        operation = str(frame.headers.get("operation", "")).removeprefix("aws.greengrass#")
        time.sleep(self.server.faults.slow_s)
        try:
            handler = ipcoperations.OPERATIONS.get(operation)
            request = _object(frame.payload)
            if handler is None or request is None or frame.kind != Kind.MESSAGE or frame.flags:
                raise IpcError("ServiceError")  # lite says no more
            # A subscription's answer goes out before its first event: events wait for the lock.
            with self._write if operation.startswith("SubscribeTo") else contextlib.nullcontext():
                answer = handler(self, request, frame.stream)
                if not self._answer(frame.stream, f"{operation}Response", answer):
                    raise IpcError("ServiceError")
        except IpcError as error:
            self._fail(frame.stream, error)

    def _answer(self, stream: int, model: str, payload: Mapping[str, Any]) -> bool:
        """Sends an answer or event; False, and nothing is sent, when it does not fit into a frame."""
        headers = {**_JSON, "service-model-type": f"aws.greengrass#{model}"}
        frame = Frame(Kind.MESSAGE, 0, stream, headers, json.dumps(payload).encode())
        if len(frame.encode()) > LIMIT:
            return False
        self._send(frame)
        return True

    def _fail(self, stream: int, error: IpcError) -> None:
        body = {"_message": error.message, "_errorCode": error.code, "message": error.message}
        headers = {**_JSON, "service-model-type": f"aws.greengrass#{error.code}"}
        self._send(Frame(Kind.ERROR, TERMINATE, stream, headers, json.dumps(body).encode()))

    # Events, on the streams that subscribed.

    def configuration_changed(self, component: str, leaf: tuple[str, ...]) -> None:
        for stream, (name, wanted) in list(self.configuration.items()):
            if name == component and list(leaf[: len(wanted)]) == wanted:
                event = {"componentName": component, "keyPath": list(leaf)}
                self._answer(stream, "ConfigurationUpdateEvents", {"configurationUpdateEvent": event})

    def from_core(self, topic: str, payload: bytes) -> None:
        for stream, message in ipcoperations.core_messages(self.core, topic, payload):
            self._answer(stream, "IoTCoreMessage", message)

    def from_component(self, topic: str, message: Mapping[str, Any]) -> None:
        for stream, event in ipcoperations.local_messages(self.local, topic, message):
            self._answer(stream, "SubscriptionResponseMessage", event)


def _object(payload: bytes) -> dict[str, Any] | None:
    """The JSON object that a request is; None when it is none."""
    try:
        found = json.loads(payload or b"{}")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
