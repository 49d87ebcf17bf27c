"""The nucleus as this component sees it: state, configuration, messages. The one file that touches awsiotsdk.

Losing the nucleus never stops inference: each call here says within seconds whether it worked, and `lost_for` says how
long the connection has been gone, so that the caller can end and be started again with a new token.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2
from awsiot.greengrasscoreipc.model import QOS, ReportedLifecycleState

SECONDS = 5.0
LIMIT = 6_000  # bytes of one message; the nucleus closes the connection on a frame over 10,000
REFUSALS = ("UnauthorizedError", "InvalidArgumentsError")
GONE = (
    "ConnectionClosedError",
    "StreamClosedError",
    "EventStreamError",
    "AwsCrtError",
    "RuntimeError",
    "TimeoutError",
)
_log = logging.getLogger(__name__)

OnMessage = Callable[[str, bytes], None]


class Refused(Exception):
    """The nucleus will never take this message: it is not allowed, or not well formed. Trying again is no use."""


class Nucleus:
    """A connection that is made again when it is lost, its subscriptions with it. Any thread may call any method."""

    def __init__(self, connect: Callable[[], Any] = GreengrassCoreIPCClientV2) -> None:
        self._connect = connect
        self._client: Any = None
        self._lock = threading.RLock()
        self._lost_since: float | None = time.monotonic()
        self._next_try = 0.0
        self._on_change: Callable[[], None] | None = None
        self._wanted: dict[str, OnMessage] = {}
        self._streams: dict[str, Any] = {}

    def lost_for(self) -> float:
        """Seconds since the connection was lost; 0 while there is one."""
        since = self._lost_since
        return 0.0 if since is None else time.monotonic() - since

    def running(self) -> bool:
        """Reports RUNNING: a deployment that waits for this component goes on."""
        return self._call(lambda client: client.update_state_async(state=ReportedLifecycleState.RUNNING)) is not None

    def configuration(self) -> Mapping[str, Any] | None:
        """The component's whole configuration; None when it cannot be had now."""
        answer = self._call(lambda client: client.get_configuration_async())
        return None if answer is None else dict(answer.value or {})

    def watch_configuration(self, on_change: Callable[[], None]) -> bool:
        """Calls `on_change` after each change, also after a reconnection."""
        self._on_change = on_change
        return self._call(self._watch) is not None

    def publish(self, topic: str, payload: bytes) -> bool:
        """Publishes to AWS IoT Core at least once; False when offline or disconnected. Raises Refused."""
        if len(payload) > LIMIT:
            raise Refused(f"a message of {len(payload)} bytes; {LIMIT} fit through the nucleus")
        sent = self._call(
            lambda client: client.publish_to_iot_core_async(topic_name=topic, qos=QOS.AT_LEAST_ONCE, payload=payload),
            refusals=True,
        )
        return sent is not None

    def subscribe(self, topic: str, on_message: OnMessage) -> bool:
        """Calls `on_message(topic, payload)`, in a thread of the SDK, for what arrives from AWS IoT Core on `topic`.

        The subscription is made again with each new connection. False when that is still to come.
        """
        with self._lock:
            self._wanted[topic] = on_message
        return self._call(lambda client: self._listen(client, topic, on_message)) is not None

    def subscribe_again(self) -> None:
        """Ends every subscription and makes it anew: lite forgets them in silence when its MQTT daemon restarts."""
        with self._lock:
            streams, self._streams = self._streams, {}
            wanted = dict(self._wanted)
        for stream in streams.values():
            try:
                stream.close()
            except Exception as error:  # it may be dead already
                _log.debug("closing a subscription: %s", error)
        for topic, on_message in wanted.items():
            self.subscribe(topic, on_message)

    def reconnect(self) -> None:
        """Gives the connection up; the next call makes another."""
        self._drop()

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
            self._streams = {}
        if client is not None:
            client.close(executor_wait=False)

    def _watch(self, client: Any) -> Any:
        def changed(_: Any) -> None:
            if self._on_change is not None:
                self._on_change()

        future, _ = client.subscribe_to_configuration_update_async(key_path=[], on_stream_event=changed)
        return future

    def _listen(self, client: Any, topic: str, on_message: OnMessage) -> Any:
        def arrived(event: Any) -> None:
            message = event.message
            if message is not None:
                on_message(str(message.topic_name), bytes(message.payload or b""))

        future, stream = client.subscribe_to_iot_core_async(
            topic_name=topic, qos=QOS.AT_LEAST_ONCE, on_stream_event=arrived
        )
        with self._lock:
            self._streams[topic] = stream
        return future

    def _call(self, operation: Callable[[Any], Any], refusals: bool = False) -> Any:
        """The answer that `operation` promises; None after any error, the connection dropped if that is what failed."""
        client = self._connected()
        if client is None:
            return None
        try:
            return operation(client).result(SECONDS)
        except Exception as error:  # the SDK raises its own, the runtime's and awscrt's errors; none may end inference
            name = type(error).__name__
            _log.warning("the nucleus refused or is gone: %s: %s", name, error)
            if name in GONE:
                self._drop()
            if refusals and name in REFUSALS:
                raise Refused(f"{name}: {error}") from error
            return None

    def _connected(self) -> Any:
        with self._lock:
            if self._client is not None or time.monotonic() < self._next_try:
                return self._client
            try:
                client = self._connect()
                if self._on_change is not None:
                    self._watch(client).result(SECONDS)
                for topic, on_message in self._wanted.items():
                    self._listen(client, topic, on_message).result(SECONDS)
            except Exception as error:  # as above
                self._next_try = time.monotonic() + SECONDS * random.uniform(0.5, 1.0)
                _log.warning("no connection to the nucleus: %s: %s", type(error).__name__, error)
                return None
            self._client, self._lost_since = client, None
            return client

    def _drop(self) -> None:
        self.close()
        if self._lost_since is None:
            self._lost_since = time.monotonic()
